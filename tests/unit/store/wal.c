/* SPDX-License-Identifier: Apache-2.0 */
#include "store/trace/wal.h"

#include "base/log.h"
#include "base/os/sim.h"
#include "base/os/thread.h"
#include "store/trace/record.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>

#define DIR   "/wal"
#define FIRST DIR "/0000000000000000.log"

/* Record n is n repeated, n * 7 % 300 + 1 bytes. */
static struct str record(char *buf, uint32_t n)
{
    size_t len = n * 7 % 300 + 1;
    for (size_t i = 0; i < len; i++)
        buf[i] = (char)(n + i / 8 * 31);
    return str_of(buf, len);
}

struct seen {
    uint32_t n[4096], count;
    uint64_t last_seq;
};

static enum errc see(void *arg, uint64_t seq, struct str payload)
{
    struct seen *s = arg;
    char buf[512];
    CHECK(seq >= s->last_seq);
    s->last_seq = seq;
    for (uint32_t n = s->count ? s->n[s->count - 1] + 1 : 0; n < 4096; n++)
        if (str_eq(record(buf, n), payload)) {
            s->n[s->count++] = n;
            return E_OK;
        }
    test_fail(__FILE__, __LINE__, "a record nobody wrote, or out of order");
}

static struct wal *open_wal(struct os *os, uint64_t released, struct seen *seen,
                            struct wal_report *report)
{
    struct wal *w;
    struct err e;
    memset(seen, 0, sizeof *seen);
    CHECK_OK(wal_open(&w, os, DIR, WAL_SEGMENT_MIN, released, see, seen, report, &e));
    return w;
}

static void append(struct wal *w, uint32_t from, uint32_t to)
{
    char buf[512];
    size_t done;
    for (uint32_t n = from; n < to; n++) {
        struct str image = record(buf, n);
        CHECK_OK(wal_append(w, &image, 1, &done, NULL));
        CHECK_INT(done, 1);
    }
}

TEST(wal_reads_back_what_was_appended)
{
    struct os *os = os_sim_new(1);
    struct seen seen;
    struct wal_report report;
    struct wal *w = open_wal(os, 0, &seen, &report);
    CHECK_INT(seen.count, 0);
    append(w, 0, 900); /* more than one segment */
    wal_close(w);
    w = open_wal(os, 0, &seen, &report);
    CHECK_INT(seen.count, 900);
    CHECK_INT(report.records, 900);
    CHECK(report.segments > 1);
    CHECK_INT(report.damaged_records + report.torn_bytes, 0);
    append(w, 900, 950);
    wal_close(w);
    wal_close(open_wal(os, 0, &seen, &report));
    CHECK_INT(seen.count, 950);
    os_sim_free(os);
}

TEST(wal_recycles_segments_and_never_reads_their_old_bytes)
{
    struct os *os = os_sim_new(2);
    struct seen seen;
    struct wal_report report;
    struct wal *w = open_wal(os, 0, &seen, &report);
    uint64_t seq = 0, disk = 0;
    for (uint32_t turn = 0; turn < 20; turn++) {
        append(w, 100 * turn, 100 * turn + 100);
        seq = wal_rotate(w);
        wal_release(w, seq);
        disk = max_u64(disk, wal_disk_bytes(w));
    }
    CHECK_INT(disk, WAL_SEGMENT_MIN); /* one file served all turns */
    append(w, 2000, 2010);
    wal_close(w);
    wal_close(open_wal(os, seq, &seen, &report));
    CHECK_INT(seen.count, 10);
    CHECK_INT(seen.n[0], 2000);
    CHECK_INT(report.damaged_records + report.torn_bytes, 0);
    os_sim_free(os);
}

TEST(wal_takes_a_record_larger_than_a_segment)
{
    struct os *os = os_sim_new(3);
    struct seen seen;
    struct wal_report report;
    struct wal *w = open_wal(os, 0, &seen, &report);
    size_t done, n = 3 * WAL_SEGMENT_MIN;
    char *big = xcalloc(1, n);
    struct str image = str_of(big, n);
    append(w, 0, 3);
    CHECK_OK(wal_append(w, &image, 1, &done, NULL));
    uint64_t with_it = wal_disk_bytes(w);
    wal_release(w, wal_rotate(w));
    CHECK(wal_disk_bytes(w) + n <= with_it); /* not kept as a spare */
    wal_close(w);
    free(big);
    os_sim_free(os);
}

/* Each flipped bit costs the record it is in, and only that. */
TEST(wal_damage_costs_one_record)
{
    uint64_t at = WAL_HEAD_BYTES;
    char buf[512];
    for (uint32_t victim = 0; victim < 40; victim++) {
        uint64_t bytes = RECORD_HEAD + record(buf, victim).n; /* padding may rot unnoticed */
        struct os *os = os_sim_new(victim);
        struct seen seen;
        struct wal_report report;
        struct wal *w = open_wal(os, 0, &seen, &report);
        append(w, 0, 60);
        wal_close(w);
        CHECK(sim_flip_bit(os, FIRST, 8 * at + test_rand() % (8 * bytes)));
        wal_close(open_wal(os, 0, &seen, &report));
        CHECK_INT(seen.count, 59);
        for (uint32_t i = 0; i < 59; i++)
            CHECK_INT(seen.n[i], i + (i >= victim));
        CHECK_INT(report.damaged_records, 1);
        CHECK_INT(report.torn_bytes, 0);
        os_sim_free(os);
        at += record_bytes(record(buf, victim).n);
    }
}

/* Any bit anywhere, several of them: what is read was written, in order, once. */
TEST(wal_rot_anywhere)
{
    for (uint32_t i = 0; i < 300; i++) {
        struct os *os = os_sim_new(i);
        struct seen seen;
        struct wal_report report;
        struct wal *w = open_wal(os, 0, &seen, &report);
        append(w, 0, 50);
        wal_close(w);
        for (unsigned k = 0; k < 20; k++)
            CHECK(sim_flip_bit(os, FIRST, test_rand() % (8 * 12 * KIB)));
        wal_close(open_wal(os, 0, &seen, &report));
        os_sim_free(os);
    }
}

TEST(wal_unfinished_write_is_dropped_and_counted)
{
    for (uint64_t cut = 1; cut < 200; cut += 7) {
        struct os *os = os_sim_new(cut);
        struct os_file *f;
        char buf[512];
        struct seen seen;
        struct wal_report report;
        struct wal *w = open_wal(os, 0, &seen, &report);
        append(w, 0, 30); /* 29 has 204 bytes */
        wal_close(w);
        uint64_t end = WAL_HEAD_BYTES;
        for (uint32_t n = 0; n < 30; n++)
            end += record_bytes(record(buf, n).n);
        CHECK_OK(os_open(os, FIRST, OS_WRITE, &f, NULL));
        CHECK_OK(os_truncate(f, end - cut, NULL));
        CHECK_OK(os_truncate(f, WAL_SEGMENT_MIN, NULL));
        os_close(f);
        wal_close(open_wal(os, 0, &seen, &report));
        CHECK(seen.count == 29 || (seen.count == 30 && cut < 8)); /* padding only */
        CHECK(seen.count == 30 || report.torn_bytes > 0);
        CHECK_INT(report.damaged_records, 0);
        os_sim_free(os);
    }
}

TEST(wal_failed_sync_gives_the_segment_up)
{
    struct os *os = os_sim_new(4);
    struct seen seen;
    struct wal_report report;
    struct wal *w = open_wal(os, 0, &seen, &report);
    append(w, 0, 10);
    CHECK_OK(wal_sync(w, NULL));
    CHECK(!wal_dirty(w));
    append(w, 10, 20);
    sim_fail_after(os, 1, E_IO, false);
    CHECK(wal_sync(w, NULL) == E_IO);
    CHECK(wal_take_poison(w));
    CHECK(!wal_take_poison(w));
    append(w, 20, 30);
    CHECK_OK(wal_sync(w, NULL));
    wal_close(w);
    sim_crash(os);
    wal_close(open_wal(os, 0, &seen, &report));
    for (uint32_t n = 0; n < 10; n++) {
        CHECK_INT(seen.n[n], n);
        CHECK_INT(seen.n[seen.count - 10 + n], 20 + n);
    }
    os_sim_free(os);
}

/* A disk whose sync hangs, then fails. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    const struct os_ops *real;
    bool inside, go;
} hung = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

static enum errc hung_sync(struct os_file *f, struct err *e)
{
    (void)f;
    pthread_mutex_lock(&hung.lock);
    hung.inside = true;
    pthread_cond_broadcast(&hung.moved);
    while (!hung.go)
        pthread_cond_wait(&hung.moved, &hung.lock);
    pthread_mutex_unlock(&hung.lock);
    return fail(e, E_IO, "the disk is gone");
}

struct sync_call {
    struct thread thread;
    struct wal *w;
    enum errc result;
};

static void sync_main(void *arg)
{
    struct sync_call *c = arg;
    c->result = wal_sync(c->w, NULL);
}

/* The records of one are being synced by the other: its answer is worth no more than that sync. */
TEST(wal_sync_does_not_overtake_another)
{
    struct os *os = os_sim_new(5);
    struct os_ops ops = *os->ops;
    struct seen seen;
    struct wal_report report;
    struct wal *w = open_wal(os, 0, &seen, &report);
    struct sync_call first = {.w = w}, second = {.w = w};
    append(w, 0, 10);
    hung.inside = hung.go = false;
    hung.real = os->ops;
    ops.sync = hung_sync;
    os->ops = &ops;
    thread_start(&first.thread, "first", sync_main, &first);
    pthread_mutex_lock(&hung.lock);
    while (!hung.inside)
        pthread_cond_wait(&hung.moved, &hung.lock);
    thread_start(&second.thread, "second", sync_main, &second);
    hung.go = true;
    pthread_cond_broadcast(&hung.moved);
    pthread_mutex_unlock(&hung.lock);
    thread_join(&first.thread);
    thread_join(&second.thread);
    CHECK(first.result == E_IO);
    CHECK(second.result == E_IO);
    os->ops = hung.real;
    CHECK(wal_take_poison(w));
    append(w, 10, 20);
    CHECK_OK(wal_sync(w, NULL));
    wal_close(w);
    os_sim_free(os);
}
