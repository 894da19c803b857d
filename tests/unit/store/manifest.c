/* SPDX-License-Identifier: Apache-2.0 */
#include "store/trace/manifest.h"

#include "base/hash.h"
#include "base/os/sim.h"
#include "store/trace/edit.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>

/* The state: the sum of all numbers committed. */
struct sum {
    uint64_t sum, edits;
};

static enum errc add(void *arg, struct str payload)
{
    struct sum *s = arg;
    struct edit_cursor c = edit_cursor_of(payload);
    struct edit_item item;
    while (edit_next(&c, &item))
        s->sum += item.number;
    s->edits++;
    return c.bad ? E_CORRUPT : E_OK;
}

static void write_sum(void *arg, struct buf *out)
{
    struct sum *s = arg;
    struct edit edit;
    edit_init(&edit);
    edit_number(&edit, EDIT_RELEASE, s->sum);
    buf_add_str(out, buf_str(&edit.buf));
    edit_fini(&edit);
}

static enum errc commit(struct manifest *m, struct sum *s, uint64_t number)
{
    struct edit edit;
    edit_init(&edit);
    edit_number(&edit, EDIT_RELEASE, number);
    enum errc rc = manifest_commit(m, &edit.buf, write_sum, s, NULL);
    if (rc == E_OK)
        s->sum += number;
    edit_fini(&edit);
    return rc;
}

static struct manifest *open_manifest(struct os *os, struct sum *s, struct manifest_report *report)
{
    struct manifest *m;
    *s = (struct sum){0};
    CHECK_OK(manifest_open(&m, os, "/m", add, s, report, NULL));
    return m;
}

TEST(manifest_keeps_every_edit)
{
    struct os *os = os_sim_new(1);
    struct sum s;
    struct manifest_report report;
    CHECK_OK(os_mkdir(os, "/m", NULL));
    struct manifest *m = open_manifest(os, &s, &report);
    CHECK(report.missing);
    for (uint64_t n = 1; n <= 100; n++)
        CHECK_OK(commit(m, &s, n));
    manifest_close(m);
    m = open_manifest(os, &s, &report);
    CHECK_INT(s.sum, 5050);
    CHECK_INT(report.damaged_edits + report.torn_bytes, 0);
    manifest_close(m);
    os_sim_free(os);
}

/* A part of an edit is worse than none: it may release log and leave out the block. */
TEST(manifest_refuses_an_edit_that_did_not_fit)
{
    struct os *os = os_sim_new(1);
    struct sum s;
    struct manifest_report report;
    CHECK_OK(os_mkdir(os, "/m", NULL));
    struct manifest *m = open_manifest(os, &s, &report);
    CHECK_OK(commit(m, &s, 1));
    struct edit edit;
    edit_init(&edit);
    edit.buf.max = 4;
    edit_number(&edit, EDIT_RELEASE, 2);
    edit_number(&edit, EDIT_DROP, UINT64_MAX);
    CHECK(manifest_commit(m, &edit.buf, write_sum, &s, NULL) == E_NO_MEMORY);
    edit_fini(&edit);
    CHECK_OK(commit(m, &s, 4));
    manifest_close(m);
    m = open_manifest(os, &s, &report);
    CHECK_INT(s.sum, 5);
    manifest_close(m);
    os_sim_free(os);
}

/* Every call may fail, every crash may come: what was committed is there, once, and of what was not
 * at most the last. */
TEST(manifest_is_atomic)
{
    for (uint64_t seed = 1; seed < 400; seed++) {
        struct os *os = os_sim_new(seed);
        struct sum s;
        struct manifest_report report;
        CHECK_OK(os_mkdir(os, "/m", NULL));
        struct manifest *m = open_manifest(os, &s, &report);
        CHECK_OK(commit(m, &s, 1));
        for (unsigned i = 0; i < 30; i++) {
            uint64_t number = UINT64_C(1) << (i % 50 + 1);
            bool sure = false, crash = hash_u64(seed, i) % 5 == 0;
            uint64_t before = s.sum;
            sim_fail_after(os, hash_u64(seed, 100 + i) % 12, E_IO, crash);
            for (unsigned tries = 0; !sure && tries < (crash ? 2u : 100u); tries++)
                sure = commit(m, &s, number) == E_OK;
            sim_fail_after(os, 0, E_OK, false);
            if (!crash)
                continue;
            manifest_close(m);
            sim_crash(os);
            m = open_manifest(os, &s, &report);
            CHECK(s.sum == before + number || (!sure && s.sum == before));
            CHECK_INT(report.damaged_edits, 0);
            CHECK(!report.missing && !report.unreadable);
        }
        manifest_close(m);
        os_sim_free(os);
    }
}

/* A rotten edit is reported and costs itself only. */
TEST(manifest_damage_is_reported)
{
    for (unsigned i = 0; i < 200; i++) {
        struct os *os = os_sim_new(i);
        struct sum s;
        struct manifest_report report;
        CHECK_OK(os_mkdir(os, "/m", NULL));
        struct manifest *m = open_manifest(os, &s, &report);
        for (unsigned k = 0; k < 20; k++)
            CHECK_OK(commit(m, &s, UINT64_C(1) << k));
        manifest_close(m);
        /* Head 32, then records of 24 + 8 bytes with 1 tag and at most 3 number bytes; the last is
         * spared, for damage there cannot be told from an unfinished write. */
        uint64_t victim = test_rand() % 20, byte = 32 + 32 * victim + test_rand() % 26;
        CHECK(sim_flip_bit(os, "/m/MANIFEST", 8 * byte + test_rand() % 8));
        m = open_manifest(os, &s, &report);
        CHECK_INT(report.damaged_edits, 1);
        CHECK_INT(report.edits, 20);
        CHECK_INT(report.torn_bytes, 0);
        CHECK_OK(commit(m, &s, UINT64_C(1) << 30)); /* rewrites it */
        manifest_close(m);
        m = open_manifest(os, &s, &report);
        CHECK_INT(report.damaged_edits, 0);
        CHECK(s.sum >> 30 & 1);
        manifest_close(m);
        os_sim_free(os);
    }
}

TEST(manifest_of_a_newer_version_is_refused)
{
    struct os *os = os_sim_new(1);
    struct sum s;
    struct manifest_report report;
    struct manifest *m;
    struct os_file *f;
    struct err e;
    char head[32];
    size_t got;
    CHECK_OK(os_mkdir(os, "/m", NULL));
    m = open_manifest(os, &s, &report);
    CHECK_OK(commit(m, &s, 1));
    manifest_close(m);
    CHECK_OK(os_open(os, "/m/MANIFEST", OS_WRITE, &f, NULL));
    CHECK_OK(os_pread(f, head, sizeof head, 0, &got, NULL));
    store_u32le(head + 8, 3);
    store_u32le(head + 28, crc32c(0, head, 28));
    CHECK_OK(os_pwrite(f, str_of(head, sizeof head), 0, NULL));
    os_close(f);
    CHECK(manifest_open(&m, os, "/m", add, &s, &report, &e) == E_VERSION);
    os_sim_free(os);
}

TEST(edit_items_come_back)
{
    struct edit e;
    struct edit_item item, in = {.tag = EDIT_OPERATION, .kind = 3, .name = STR("GET /")};
    edit_init(&e);
    edit_tenant(&e, STR("default"));
    CHECK_INT(edit_service(&e, 77, STR("frontend"), 5), 0);
    CHECK_INT(edit_service(&e, 3, STR("cart"), 6), 1);
    CHECK_INT(edit_service(&e, 77, STR("frontend"), 9), 0);
    in.service = 1;
    in.seen_ns = UINT64_MAX;
    edit_add(&e, &in);
    edit_tenant(&e, STR("other"));
    CHECK_INT(edit_service(&e, 3, STR("cart"), 6), 0); /* numbered anew */
    struct edit_cursor c = edit_cursor_of(buf_str(&e.buf));
    CHECK(edit_next(&c, &item) && item.tag == EDIT_TENANT);
    CHECK(edit_next(&c, &item) && item.tag == EDIT_SERVICE && item.seen_ns == 5);
    CHECK_STR(item.name, STR("frontend"));
    CHECK(edit_next(&c, &item) && item.tag == EDIT_SERVICE && item.seen_ns == 6);
    CHECK(edit_next(&c, &item) && item.tag == EDIT_OPERATION && item.seen_ns == UINT64_MAX);
    CHECK_INT(item.service, 1);
    CHECK_INT(item.kind, 3);
    CHECK_STR(item.name, STR("GET /"));
    CHECK(edit_next(&c, &item) && item.tag == EDIT_TENANT);
    CHECK(edit_next(&c, &item) && item.tag == EDIT_SERVICE);
    CHECK(!edit_next(&c, &item) && !c.bad);
    for (size_t n = 1; n < e.buf.n; n++) { /* cut anywhere: an end or damage, never beyond */
        c = edit_cursor_of(test_guarded(str_take(buf_str(&e.buf), n)));
        while (edit_next(&c, &item))
            ;
    }
    edit_fini(&e);
}
