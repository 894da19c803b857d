/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/os/sim.h"
#include "base/stats.h"
#include "tests/harness.h"
#include "tests/unit/store/world.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

static void quiet(void)
{
    log_setup((enum log_level)(LOG_ERROR + 1), LOG_TEXT);
}

static struct store_config config_small(struct os *os, const char *dir)
{
    struct store_config c;
    store_config_defaults(&c, os, dir);
    c.memtable_bytes = 32 * KIB;
    c.retention_ns = 0;
    return c;
}

TEST(store_appends_finds_and_survives_a_restart)
{
    struct store_config c = config_small(os_posix(), test_dir());
    struct world *w = world_new(test_rand(), os_now_ns(c.os) - 3600 * NS_PER_S);
    struct store *s;
    struct err e;
    for (int round = 0; round < 3; round++) {
        CHECK_OK(store_open(&s, &c, &e));
        const char *bad = world_compare(w, s, false);
        if (bad)
            test_fail(__FILE__, __LINE__, "round %d: %s", round, bad);
        for (int i = 0; i < 60; i++) {
            enum errc rc = world_append(w, s, 8);
            CHECK(rc == E_OK || rc == E_UNAVAILABLE);
        }
        CHECK_OK(store_flush(s, &e));
        store_close(s);
        world_expect_acked(w);
    }
    for (uint32_t i = 0; i < w->batch_n; i++)
        CHECK(w->batches[i].fate != FATE_OPEN);
    world_free(w);
}

TEST(store_in_memory)
{
    struct os *os = os_mem_new();
    struct store_config c = config_small(os, "/mem");
    c.log = false;
    c.threads = false;
    struct world *w = world_new(test_rand(), os_now_ns(os) - 3600 * NS_PER_S);
    struct store *s;
    struct err e;
    CHECK_OK(store_open(&s, &c, &e));
    for (int i = 0; i < 100; i++) {
        CHECK_OK(world_append(w, s, 8));
        (void)store_step(s);
    }
    const char *bad = world_compare(w, s, false);
    if (bad)
        test_fail(__FILE__, __LINE__, "%s", bad);
    CHECK_OK(store_flush(s, &e));
    bad = world_compare(w, s, false);
    if (bad)
        test_fail(__FILE__, __LINE__, "after flush: %s", bad);
    store_close(s);
    world_free(w);
    os_sim_free(os);
    quiet();
}

static struct store *open_sim(struct os *os, struct store_config *c)
{
    struct store *s;
    *c = config_small(os, "/data");
    c->threads = false;
    quiet();
    CHECK_OK(store_open(&s, c, NULL));
    return s;
}

static void compare(struct world *w, struct store *s, int line)
{
    const char *bad = world_compare(w, s, false);
    if (bad)
        test_fail(__FILE__, line, "%s", bad);
}

static uint64_t block_count(struct store *s)
{
    struct store_stats stats;
    store_stats(s, &stats);
    return stats.block_count;
}

static void fill(struct world *w, struct store *s, unsigned batches)
{
    while (batches--) {
        CHECK_OK(world_append(w, s, 8));
        (void)store_step(s);
    }
    CHECK_OK(store_flush(s, NULL));
}

struct reader {
    struct store *s;
    struct thread thread;
    _Atomic bool stop;
    _Atomic unsigned searches;
};

static void read_on(void *arg)
{
    struct reader *r = arg;
    while (!atomic_load(&r->stop)) {
        struct arena a = arena_init(64 * MIB);
        struct snap *snap = store_snap(r->s);
        struct trace_query q = {
            .tenant = STR("default"), .kind = -1, .start_max_ns = UINT64_MAX, .limit = 50};
        struct trace_hits hits;
        struct dependency *deps;
        struct str *services;
        size_t n;
        CHECK_OK(snap_search(snap, &q, &a, &hits, NULL));
        for (uint32_t i = 0; i < hits.n; i++) {
            struct trace *t;
            CHECK_OK(snap_trace(snap, q.tenant, hits.v[i].trace_id, &a, &t, NULL));
            CHECK(i == 0 || hits.v[i].newest_ns <= hits.v[i - 1].newest_ns);
        }
        CHECK_OK(snap_services(snap, q.tenant, &a, &services, &n));
        CHECK_OK(snap_dependencies(snap, q.tenant, 0, UINT64_MAX, &a, &deps, &n));
        snap_unref(snap);
        arena_fini(&a);
        atomic_fetch_add(&r->searches, 1);
    }
}

TEST(store_is_read_while_it_is_written)
{
    struct store_config c = config_small(os_posix(), test_dir());
    struct world *w = world_new(test_rand(), os_now_ns(c.os) - 3600 * NS_PER_S);
    struct reader r = {0};
    struct err e;
    CHECK_OK(store_open(&r.s, &c, &e));
    thread_start(&r.thread, "reader", read_on, &r);
    for (int i = 0; i < 400; i++) {
        (void)!world_append(w, r.s, 8);
        if (i % 50 == 49)
            CHECK_OK(store_flush(r.s, &e));
    }
    CHECK_OK(store_flush(r.s, &e));
    while (atomic_load(&r.searches) < 3)
        sched_yield();
    atomic_store(&r.stop, true);
    thread_join(&r.thread);
    store_close(r.s);
    CHECK_OK(store_open(&r.s, &c, &e));
    compare(w, r.s, __LINE__);
    store_close(r.s);
    world_free(w);
}

/* The 1 … n newest of everything, wherever it lies, against the same from one memtable. */
TEST(store_search_is_exact)
{
    struct os *os = os_sim_new(1), *one = os_mem_new();
    struct store_config c, c1;
    c = config_small(os, "/data");
    c.threads = false;
    c.compact_fanin = 0; /* many blocks */
    quiet();
    struct store *s, *s1;
    CHECK_OK(store_open(&s, &c, NULL));
    c1 = config_small(one, "/data");
    c1.threads = false;
    c1.memtable_bytes = 64 * MIB;
    CHECK_OK(store_open(&s1, &c1, NULL));
    struct world *w = world_new(7, os_now_ns(os)), *w1 = world_new(7, os_now_ns(os));
    for (int i = 0; i < 200; i++) {
        CHECK_OK(world_append(w, s, 8));
        CHECK_OK(world_append(w1, s1, 8));
        while (store_step(s) || store_step(s1))
            ;
        if (i % 11 == 0)
            CHECK_OK(store_flush(s, NULL));
    }
    CHECK(block_count(s) > 10);
    CHECK_INT(block_count(s1), 0);
    struct snap *snap = store_snap(s), *snap1 = store_snap(s1);
    for (uint32_t limit = 1; limit < 600; limit = limit * 3 / 2 + 1) {
        struct arena a = arena_init(64 * MIB);
        struct tag_filter tag = {.key = STR("number"), .op = TAG_EXISTS};
        struct trace_query q = {.tenant = STR("default"),
                                .service = limit % 2 ? STR("svc1") : STR_NONE,
                                .operation = limit % 3 ? STR_NONE : STR("op2"),
                                .kind = -1,
                                .start_max_ns = UINT64_MAX,
                                .tags = &tag,
                                .tag_count = 1,
                                .limit = limit};
        struct trace_hits x, y;
        CHECK_OK(snap_search(snap, &q, &a, &x, NULL));
        CHECK_OK(snap_search(snap1, &q, &a, &y, NULL));
        CHECK(x.complete && x.n > 0);
        CHECK_INT(x.n, y.n);
        for (uint32_t i = 0; i < x.n; i++)
            CHECK(memcmp(&x.v[i], &y.v[i], sizeof x.v[i]) == 0);
        arena_fini(&a);
    }
    snap_unref(snap);
    snap_unref(snap1);
    store_close(s);
    store_close(s1);
    world_free(w);
    world_free(w1);
    os_sim_free(os);
    os_sim_free(one);
}

/* A process is killed after calls failed, the next one acknowledges, then the power goes: a log
 * segment that the first one left may have a name that no folder sync has made safe. */
TEST(store_makes_safe_what_a_killed_process_left)
{
    for (uint64_t seed = 1; seed <= 4; seed++)
        for (uint64_t k = 1; k <= 120; k++) {
            struct os *os = os_sim_new(seed);
            struct world *w = world_new(seed, os_now_ns(os));
            struct store_config c = config_small(os, "/data");
            struct store *s;
            c.threads = false;
            c.sync = SYNC_EACH;
            quiet();
            CHECK_OK(store_open(&s, &c, NULL));
            sim_fail_after(os, k, E_IO, true);
            for (int i = 0; i < 60; i++) {
                (void)!world_append(w, s, 8);
                (void)store_step(s);
            }
            sim_fail_after(os, 1, E_IO, true); /* killed: nothing more is written */
            store_close(s);
            sim_fail_after(os, 0, E_OK, false);
            CHECK_OK(store_open(&s, &c, NULL));
            for (int i = 0; i < 3; i++) {
                CHECK_OK(world_append(w, s, 8));
                (void)store_step(s);
            }
            world_expect_acked(w);
            sim_fail_after(os, 1, E_IO, true);
            store_close(s);
            sim_crash(os);
            sim_fail_after(os, 0, E_OK, false);
            CHECK_OK(store_open(&s, &c, NULL));
            const char *bad = world_compare(w, s, true);
            if (bad)
                test_fail(__FILE__, __LINE__, "seed %llu, call %llu: %s", (unsigned long long)seed,
                          (unsigned long long)k, bad);
            store_close(s);
            world_free(w);
            os_sim_free(os);
        }
}

static bool count_trace(void *arg, const uint8_t id[16])
{
    (void)id;
    ++*(unsigned *)arg;
    return true;
}

static unsigned traces_in(struct snap *snap)
{
    unsigned n = 0;
    CHECK_OK(snap_each_trace(snap, STR("default"), 0, UINT64_MAX, count_trace, &n, NULL));
    return n;
}

TEST(store_retention_by_age_keeps_what_a_snapshot_reads)
{
    struct os *os = os_sim_new(1);
    struct store_config c;
    struct store *s = open_sim(os, &c);
    struct world *w = world_new(3, os_now_ns(os));
    struct arena a = arena_init(MIB);
    struct str *services;
    struct dependency *deps;
    size_t n;
    fill(w, s, 100);
    CHECK(block_count(s) > 0);
    struct snap *old = store_snap(s);
    unsigned traces = traces_in(old);
    c.retention_ns = 3600 * NS_PER_S;
    store_reconfigure(s, &c);
    (void)store_step(s);
    CHECK(block_count(s) > 0);
    sim_advance(os, 2 * 3600 * NS_PER_S);
    (void)store_step(s);
    CHECK_INT(block_count(s), 0);
    CHECK_INT(traces_in(old), traces);
    struct snap *now = store_snap(s);
    CHECK_INT(traces_in(now), 0);
    CHECK_OK(snap_services(now, STR("default"), &a, &services, &n));
    CHECK_INT(n, 0);
    CHECK_OK(snap_dependencies(now, STR("default"), 0, UINT64_MAX, &a, &deps, &n));
    CHECK(n > 0); /* what was counted stays counted */
    uint64_t used = sim_disk_used(os);
    snap_unref(old);
    CHECK(sim_disk_used(os) < used); /* without a name, but held */
    snap_unref(now);
    store_close(s);
    CHECK_OK(store_open(&s, &c, NULL));
    CHECK_INT(block_count(s), 0);
    store_close(s);
    arena_fini(&a);
    world_free(w);
    os_sim_free(os);
}

TEST(store_refuses_a_locked_or_newer_directory)
{
    struct os *os = os_sim_new(1);
    struct store_config c;
    struct store *s = open_sim(os, &c), *second;
    struct err e;
    CHECK(store_open(&second, &c, &e) == E_LOCKED);
    CHECK(strlen(err_msg(&e)) > 0);
    store_close(s);
    CHECK_OK(os_replace_file(os, "/data", "FORMAT", STR("lymer trace store format 2\n"), NULL));
    uint64_t used = sim_disk_used(os);
    CHECK(store_open(&s, &c, &e) == E_VERSION);
    CHECK_INT(sim_disk_used(os), used);
    CHECK_OK(os_replace_file(os, "/data", "FORMAT", STR("\n"), NULL));
    CHECK(store_open(&s, &c, &e) == E_CORRUPT);
    os_sim_free(os);
}

static void count_line(void *arg, const char *line)
{
    CHECK(strlen(line) > 0);
    ++*(unsigned *)arg;
}

/* A bit of every file in turn: verify says it, and a start loses that file at most. */
TEST(store_rot_is_found_and_set_aside)
{
    for (unsigned i = 0; i < 60; i++) {
        struct os *os = os_sim_new(i);
        struct store_config c;
        struct store *s = open_sim(os, &c);
        struct world *w = world_new(i, os_now_ns(os));
        struct err e;
        unsigned lines = 0;
        fill(w, s, 40);
        fill(w, s, 40);
        uint64_t blocks = block_count(s);
        store_close(s);
        CHECK_OK(store_verify(os, "/data", count_line, &lines, &e));
        CHECK(lines > blocks);
        bool manifest = i % 3 == 0;
        const char *path = manifest ? "/data/MANIFEST"
                                    : "/data/blocks/0000000000000001.default.blk";
        struct os_file *f;
        uint64_t size;
        if (os_open(os, path, OS_READ, &f, NULL) != E_OK) { /* the tenants' order is random */
            path = "/data/blocks/0000000000000001.other.blk";
            CHECK_OK(os_open(os, path, OS_READ, &f, NULL));
        }
        CHECK_OK(os_size(f, &size, NULL));
        os_close(f);
        /* The end of a manifest is spared: damage there looks like an unfinished write. */
        uint64_t bit = manifest ? test_rand() % 256 : test_rand() % (8 * size);
        CHECK(sim_flip_bit(os, path, bit));
        bool refused = store_verify(os, "/data", count_line, &lines, &e) != E_OK;
        CHECK(refused);
        enum errc rc = store_open(&s, &c, &e);
        CHECK(rc == E_OK);
        CHECK(block_count(s) + (manifest ? 0 : 1) >= blocks);
        CHECK_OK(world_append(w, s, 3));
        CHECK_OK(store_flush(s, &e));
        if (manifest)
            (void)!world_compare(w, s, true);
        store_close(s);
        world_free(w);
        os_sim_free(os);
    }
}

/* Blocks are never removed because the files beside them are gone, FORMAT among them. */
TEST(store_adopts_blocks_when_nothing_else_is_left)
{
    static const char *const gone[][2] = {
        {"/data/MANIFEST"}, {"/data/MANIFEST", "/data/FORMAT"}, {"/data/FORMAT"}};
    for (unsigned i = 0; i < ARRAY_LEN(gone); i++) {
        struct os *os = os_sim_new(i);
        struct store_config c;
        struct store *s = open_sim(os, &c);
        struct world *w = world_new(i, os_now_ns(os));
        struct err e;
        fill(w, s, 40);
        CHECK_OK(store_flush(s, &e));
        uint64_t blocks = block_count(s);
        store_close(s);
        for (unsigned k = 0; k < 2 && gone[i][k]; k++)
            CHECK_OK(os_unlink(os, gone[i][k], &e));
        CHECK_OK(store_open(&s, &c, &e));
        CHECK_INT(block_count(s), blocks);
        store_close(s);
        world_free(w);
        os_sim_free(os);
    }
}

static void ignore_done(struct store_ticket *t, enum errc result, const char *why)
{
    (void)t, (void)why;
    CHECK_OK(result);
}

/* A batch of one trace whose spans have parents that nobody sent, or one such parent. */
static void append_lost(struct store *s, struct world *w, uint32_t spans, bool one_parent)
{
    struct batch_builder bb;
    batch_builder_init(&bb);
    bb_group_begin(&bb);
    bb_attr_str(&bb, STR("service.name"), ATTR_STR, STR("svc"));
    bb_group_scope(&bb);
    bb_group_end(&bb);
    for (uint32_t i = 1; i <= spans; i++) {
        struct span_rec *rec = bb_span(&bb);
        memset(rec->trace_id, 7, sizeof rec->trace_id);
        store_u64le(rec->span_id, i);
        store_u64le(rec->parent_id, UINT64_C(1) << 40 | (one_parent ? 0 : i));
        rec->start_ns = rec->end_ns = w->base_ns;
        bb_name(&bb, rec, STR("op"));
        CHECK(bb_span_end(&bb));
    }
    struct sent_batch x = {.spans = spans};
    CHECK_OK(batch_seal(&bb, STR("default"), w->base_ns, &x.ticket.batch, NULL));
    x.ticket.done = ignore_done;
    CHECK_OK(store_append(s, &x.ticket));
    (void)store_step(s);
    CHECK_OK(store_flush(s, NULL));
    batch_unref(x.ticket.batch);
    batch_builder_fini(&bb);
}

/* Looking for parents in older blocks has an end, in a build and in a query; it is counted. */
TEST(store_searches_for_parents_within_a_budget)
{
    struct os *os = os_sim_new(9);
    struct store_config c;
    struct store *s = open_sim(os, &c);
    struct world *w = world_new(9, os_now_ns(os));
    struct err e;
    append_lost(s, w, 1, false);
    store_close(s); /* what it has in memory of newer spans is forgotten */
    CHECK_OK(store_open(&s, &c, &e));
    int64_t cut = stat_get(STAT_PARENT_SEARCHES_CUT);
    append_lost(s, w, 15000, false);
    CHECK_INT(stat_get(STAT_PARENT_SEARCHES_CUT), cut);
    append_lost(s, w, 20000, true);
    CHECK_INT(stat_get(STAT_PARENT_SEARCHES_CUT), cut);
    append_lost(s, w, 20000, false);
    CHECK_INT(stat_get(STAT_PARENT_SEARCHES_CUT) - cut, 20000 - 16384);
    store_close(s);
    world_free(w);
    os_sim_free(os);
}

/* A block that cannot be asked for a parent does not stop the building of others. */
TEST(store_builds_beside_a_damaged_block)
{
    struct os *os = os_sim_new(12);
    struct store_config c;
    struct store *s = open_sim(os, &c);
    struct world *w = world_new(12, os_now_ns(os));
    const char *path = "/data/blocks/0000000000000001.default.blk";
    int64_t failed = stat_get(STAT_BLOCKS_FAILED), cut = stat_get(STAT_PARENT_SEARCHES_CUT);
    append_lost(s, w, 1, false);
    store_close(s); /* what it has in memory of newer spans is forgotten */
    CHECK_OK(store_open(&s, &c, NULL));
    unsigned blocks = 1;
    for (uint64_t bit = 128; sim_flip_bit(os, path, bit); bit += 320, blocks++) {
        append_lost(s, w, 1, false);
        CHECK(sim_flip_bit(os, path, bit));
    }
    CHECK_INT(stat_get(STAT_BLOCKS_FAILED), failed);
    CHECK(stat_get(STAT_PARENT_SEARCHES_CUT) > cut); /* a call may not be counted, which is */
    CHECK_INT(block_count(s), blocks);
    store_close(s);
    world_free(w);
    os_sim_free(os);
}

/* A batch of one span: the ids and times of `like`. */
static void append_span(struct store *s, struct str name, const struct span_rec *like)
{
    struct batch_builder bb;
    struct store_ticket t = {.done = ignore_done};
    batch_builder_init(&bb);
    bb_group_begin(&bb);
    bb_attr_str(&bb, STR("service.name"), ATTR_STR, STR("svc"));
    bb_group_scope(&bb);
    bb_group_end(&bb);
    struct span_rec *rec = bb_span(&bb);
    memcpy(rec->trace_id, like->trace_id, sizeof rec->trace_id);
    memcpy(rec->span_id, like->span_id, sizeof rec->span_id);
    memcpy(rec->parent_id, like->parent_id, sizeof rec->parent_id);
    rec->start_ns = like->start_ns;
    rec->end_ns = like->end_ns;
    bb_name(&bb, rec, name);
    CHECK(bb_span_end(&bb));
    CHECK_OK(batch_seal(&bb, STR("default"), like->start_ns, &t.batch, NULL));
    CHECK_OK(store_append(s, &t));
    (void)store_step(s);
    batch_unref(t.batch);
    batch_builder_fini(&bb);
}

static void append_op(struct store *s, struct str name, uint64_t start_ns, uint64_t end_ns)
{
    append_span(s, name,
                &(struct span_rec){
                    .trace_id = {1}, .span_id = {1}, .start_ns = start_ns, .end_ns = end_ns});
}

static bool note_id(void *arg, const uint8_t id[16])
{
    ((unsigned *)arg)[0] += id[0] == 1;
    return true;
}

/* A trace that began before the window is of it when a span of it began inside; wherever it lies.
 */
TEST(store_lists_every_trace_with_a_span_in_the_window)
{
    struct os *os = os_sim_new(14);
    struct store_config c;
    struct store *s = open_sim(os, &c);
    uint64_t now_ns = os_now_ns(os);
    append_op(s, STR("a"), now_ns, now_ns);
    append_op(s, STR("b"), now_ns + 100, now_ns + 200);
    for (unsigned round = 0; round < 2; round++) {
        struct snap *snap = store_snap(s);
        unsigned found = 0;
        CHECK_OK(
            snap_each_trace(snap, STR("default"), now_ns + 1, now_ns + 100, note_id, &found, NULL));
        CHECK_INT(found, 1);
        snap_unref(snap);
        CHECK_OK(store_flush(s, NULL)); /* now from a block */
    }
    store_close(s);
    os_sim_free(os);
}

/* A span that says it ended before it began is as old as its start. */
TEST(store_keeps_spans_that_end_before_they_begin)
{
    struct os *os = os_sim_new(13);
    struct store_config c;
    struct store *s = open_sim(os, &c);
    c.retention_ns = 3600 * NS_PER_S;
    store_reconfigure(s, &c);
    append_op(s, STR("a"), os_now_ns(os), 0);
    CHECK_OK(store_flush(s, NULL));
    sim_advance(os, 60 * NS_PER_S);
    (void)store_step(s);
    CHECK_INT(block_count(s), 1);
    sim_advance(os, 3600 * NS_PER_S);
    (void)store_step(s);
    CHECK_INT(block_count(s), 0);
    store_close(s);
    os_sim_free(os);
}

/* After a restart too a service was last seen with its newest operation, not with its first. */
TEST(store_lists_a_service_as_long_as_its_operations)
{
    struct os *os = os_sim_new(11);
    struct store_config c;
    struct store *s = open_sim(os, &c);
    struct arena a = arena_init(MIB);
    struct str *services;
    size_t n;
    uint64_t now_ns = os_now_ns(os);
    append_op(s, STR("a"), now_ns - 7200 * NS_PER_S, now_ns);
    append_op(s, STR("b"), now_ns, now_ns);
    store_close(s);
    c.retention_ns = 3600 * NS_PER_S;
    CHECK_OK(store_open(&s, &c, NULL));
    struct snap *snap = store_snap(s);
    CHECK_OK(snap_services(snap, STR("default"), &a, &services, &n));
    CHECK_INT(n, 1);
    snap_unref(snap);
    store_close(s);
    arena_fini(&a);
    os_sim_free(os);
}

/* Names of a megabyte are stored with their spans; the catalogue, which stays in memory and in the
 * manifest, does not take them. */
TEST(store_lists_no_endless_names)
{
    struct os *os = os_sim_new(10);
    struct store_config c;
    struct store *s = open_sim(os, &c);
    struct batch_builder bb;
    struct buf name = buf_init(MIB);
    struct arena a = arena_init(MIB);
    struct sent_batch x = {.ticket.done = ignore_done};
    struct str *services;
    struct operation *ops;
    size_t n;
    buf_add_zero(&name, 10 * KIB);
    batch_builder_init(&bb);
    bb_group_begin(&bb);
    bb_attr_str(&bb, STR("service.name"), ATTR_STR, buf_str(&name));
    bb_group_scope(&bb);
    bb_group_end(&bb);
    struct span_rec *rec = bb_span(&bb);
    rec->trace_id[0] = rec->span_id[0] = 1;
    rec->start_ns = rec->end_ns = os_now_ns(os);
    bb_name(&bb, rec, buf_str(&name));
    CHECK(bb_span_end(&bb));
    CHECK_OK(batch_seal(&bb, STR("default"), os_now_ns(os), &x.ticket.batch, NULL));
    CHECK_OK(store_append(s, &x.ticket));
    (void)store_step(s);
    for (int built = 0; built < 2; built++) {
        struct snap *snap = store_snap(s);
        CHECK_OK(snap_services(snap, STR("default"), &a, &services, &n));
        CHECK(n == 1 && services[0].n < 100);
        CHECK_OK(snap_operations(snap, STR("default"), STR(""), -1, &a, &ops, &n));
        CHECK(n == 1 && ops[0].name.n < 100);
        snap_unref(snap);
        CHECK_OK(store_flush(s, NULL));
    }
    batch_unref(x.ticket.batch);
    batch_builder_fini(&bb);
    buf_fini(&name);
    arena_fini(&a);
    store_close(s);
    os_sim_free(os);
}

/* Span `id` of trace 1, which comes at now_ns. */
static void append_child(struct store *s, uint64_t now_ns, uint8_t id, uint8_t parent)
{
    append_span(s, STR("op"),
                &(struct span_rec){.trace_id = {1},
                                   .span_id = {id},
                                   .parent_id = {parent},
                                   .start_ns = now_ns,
                                   .end_ns = now_ns});
}

/* A span's parent may come an hour later, by the time of arrival: a store that was closed meanwhile
 * has not waited longer. */
TEST(store_remembers_orphans_while_it_is_closed)
{
    struct os *os = os_sim_new(11);
    struct store_config c;
    struct store *s = open_sim(os, &c);
    struct arena a = arena_init(MIB);
    struct dependency *deps;
    size_t n;
    append_child(s, os_now_ns(os), 2, 1);
    CHECK_OK(store_flush(s, NULL));
    append_child(s, os_now_ns(os), 1, 0); /* in the log only */
    sim_fail_after(os, 1, E_IO, true);
    store_close(s);
    sim_fail_after(os, 0, E_OK, false);
    sim_advance(os, 3 * 3600 * NS_PER_S);
    for (int built = 0; built < 2; built++) {
        CHECK_OK(store_open(&s, &c, NULL));
        struct snap *snap = store_snap(s);
        CHECK_OK(snap_dependencies(snap, STR("default"), 0, UINT64_MAX, &a, &deps, &n));
        CHECK(n == 1 && deps[0].calls == 1);
        snap_unref(snap);
        CHECK_OK(store_flush(s, NULL));
        store_close(s);
    }
    arena_fini(&a);
    os_sim_free(os);
}

/* A clock that was a day ahead for a while has nobody forgotten once it is right again. */
TEST(store_remembers_orphans_beside_those_of_the_future)
{
    struct os *os = os_sim_new(12);
    struct store_config c;
    struct store *s = open_sim(os, &c);
    struct arena a = arena_init(MIB);
    struct dependency *deps;
    size_t n;
    append_child(s, os_now_ns(os) + 86400 * NS_PER_S, 3, 9);
    CHECK_OK(store_flush(s, NULL));
    append_child(s, os_now_ns(os), 2, 1);
    CHECK_OK(store_flush(s, NULL));
    store_close(s);
    CHECK_OK(store_open(&s, &c, NULL));
    append_child(s, os_now_ns(os), 1, 0);
    struct snap *snap = store_snap(s);
    CHECK_OK(snap_dependencies(snap, STR("default"), 0, UINT64_MAX, &a, &deps, &n));
    CHECK(n == 1 && deps[0].calls == 1);
    snap_unref(snap);
    store_close(s);
    arena_fini(&a);
    os_sim_free(os);
}
