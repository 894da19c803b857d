/* SPDX-License-Identifier: Apache-2.0 */
/* Compaction inside the store: what is merged, when, and what happens when something else happens
 * meanwhile. That merged blocks hold what their inputs held is tested in block.c; that crashes at
 * any moment lose nothing, in crash.c. */
#include "base/log.h"
#include "base/os/sim.h"
#include "base/stats.h"
#include "tests/harness.h"
#include "tests/unit/store/world.h"

#include <stdio.h>
#include <stdlib.h>

struct run {
    struct os *os;
    struct store_config c;
    struct store *s;
    struct world *w;
};

static void run_begin(struct run *r, uint32_t fanin)
{
    log_setup((enum log_level)(LOG_ERROR + 1), LOG_TEXT);
    r->os = os_sim_new(1);
    store_config_defaults(&r->c, r->os, "/data");
    r->c.threads = false;
    r->c.compact_fanin = fanin;
    r->w = world_new(5, os_now_ns(r->os));
    CHECK_OK(store_open(&r->s, &r->c, NULL));
}

static void run_end(struct run *r)
{
    store_close(r->s);
    world_free(r->w);
    os_sim_free(r->os);
}

static void settle(struct run *r)
{
    for (unsigned i = 0; store_step(r->s); i++)
        CHECK(i < 100000);
}

/* One block a flush, if nothing is merged. */
static void flushes(struct run *r, unsigned n)
{
    while (n--) {
        for (int i = 0; i < 3; i++)
            CHECK_OK(world_append(r->w, r->s, 8));
        CHECK_OK(store_flush(r->s, NULL));
        settle(r);
    }
}

static uint64_t block_count(struct run *r)
{
    struct store_stats stats;
    store_stats(r->s, &stats);
    return stats.block_count;
}

static void compare(struct run *r, int line)
{
    const char *bad = world_compare(r->w, r->s, false);
    if (bad)
        test_fail(__FILE__, line, "%s", bad);
}

static void count_name(void *arg, const char *name)
{
    (void)name;
    ++*(uint64_t *)arg;
}

static uint64_t files(struct run *r)
{
    uint64_t n = 0;
    CHECK_OK(os_list(r->os, "/data/blocks", count_name, &n, NULL));
    return n;
}

TEST(compact_like_blocks_become_one)
{
    struct run r;
    run_begin(&r, 0);
    flushes(&r, 16);
    uint64_t apart = block_count(&r); /* one a flush and tenant */
    CHECK(apart >= 16);
    store_close(r.s);
    r.c.compact_fanin = 4;
    CHECK_OK(store_open(&r.s, &r.c, NULL));
    settle(&r);
    CHECK(block_count(&r) < apart / 2);
    CHECK_INT(files(&r), block_count(&r));
    compare(&r, __LINE__);
    uint64_t together = block_count(&r);
    store_close(r.s);
    CHECK_OK(store_open(&r.s, &r.c, NULL));
    CHECK_INT(block_count(&r), together);
    compare(&r, __LINE__);
    run_end(&r);
}

TEST(compact_counts_what_it_did)
{
    struct run r;
    run_begin(&r, 2);
    int64_t blocks = stat_get(STAT_BLOCKS), spans = stat_get(STAT_BLOCK_SPANS);
    int64_t bytes = stat_get(STAT_BLOCK_BYTES);
    flushes(&r, 8);
    struct store_stats stats;
    store_stats(r.s, &stats);
    CHECK(stat_get(STAT_COMPACTIONS) > 0);
    CHECK(stat_get(STAT_COMPACTED_BLOCKS) >= 2 * stat_get(STAT_COMPACTIONS));
    CHECK_INT(stat_get(STAT_BLOCKS) - blocks, stats.block_count);
    CHECK_INT(stat_get(STAT_BLOCK_SPANS) - spans, stats.block_spans);
    CHECK_INT(stat_get(STAT_BLOCK_BYTES) - bytes, stats.block_bytes);
    run_end(&r);
}

/* Blocks of different windows stay apart; those of one that has passed become one. */
TEST(compact_keeps_to_the_window)
{
    struct run r;
    uint64_t passed = 0;
    run_begin(&r, 100);
    for (int i = 0; i < 4; i++) {
        flushes(&r, 3);
        CHECK(block_count(&r) >= passed + 3); /* the window is open */
        r.w->base_ns += 24 * 3600 * NS_PER_S;
        sim_advance(r.os, 24 * 3600 * NS_PER_S);
        settle(&r);
        CHECK(block_count(&r) > passed); /* but not with those of the windows before */
        CHECK(block_count(&r) < passed + 3);
        passed = block_count(&r);
    }
    struct store_stats stats;
    store_stats(r.s, &stats);
    CHECK_INT(stats.block_spans, r.w->span_n - 1);
    run_end(&r);
}

static bool count_trace(void *arg, const uint8_t id[16])
{
    (void)id;
    ++*(uint64_t *)arg;
    return true;
}

static uint64_t traces_in(struct snap *snap)
{
    uint64_t n = 0;
    CHECK_OK(snap_each_trace(snap, STR("default"), 0, UINT64_MAX, count_trace, &n, NULL));
    return n;
}

TEST(compact_keeps_what_a_snapshot_reads)
{
    struct run r;
    run_begin(&r, 0);
    flushes(&r, 8);
    store_close(r.s);
    r.c.compact_fanin = 4;
    CHECK_OK(store_open(&r.s, &r.c, NULL));
    struct snap *old = store_snap(r.s);
    uint64_t used = sim_disk_used(r.os), traces = traces_in(old);
    settle(&r);
    CHECK_INT(files(&r), block_count(&r)); /* the snapshot holds files without a name */
    CHECK_INT(traces_in(old), traces);
    struct snap *now = store_snap(r.s);
    CHECK_INT(traces_in(now), traces);
    snap_unref(old);
    snap_unref(now);
    CHECK(sim_disk_used(r.os) < used);
    run_end(&r);
}

/* A merge under way when retention takes its inputs away leaves nothing behind. */
TEST(compact_gives_up_when_its_blocks_expire)
{
    struct run r;
    run_begin(&r, 0);
    flushes(&r, 8);
    store_close(r.s);
    r.c.compact_fanin = 4;
    CHECK_OK(store_open(&r.s, &r.c, NULL));
    uint64_t before = files(&r);
    while (files(&r) == before) /* the merge has begun its file */
        CHECK(store_step(r.s));
    r.c.retention_ns = NS_PER_S;
    store_reconfigure(r.s, &r.c);
    sim_advance(r.os, 200 * 3600 * NS_PER_S);
    settle(&r);
    CHECK_INT(block_count(&r), 0);
    CHECK_INT(files(&r), 0);
    run_end(&r);
}

struct names {
    char path[64][96];
    size_t n;
};

static void keep_name(void *arg, const char *name)
{
    struct names *l = arg;
    CHECK(l->n < ARRAY_LEN(l->path));
    snprintf(l->path[l->n++], sizeof l->path[0], "/data/blocks/%s", name);
}

/* A damaged block stays as it is, for whoever repairs it; the others go on without it. */
TEST(compact_leaves_a_damaged_block_alone)
{
    struct run r;
    struct names names = {0};
    run_begin(&r, 0);
    flushes(&r, 12);
    CHECK_OK(os_list(r.os, "/data/blocks", keep_name, &names, NULL));
    CHECK(sim_flip_bit(r.os, names.path[1], 8 * 40));
    store_close(r.s);
    r.c.compact_fanin = 3;
    CHECK_OK(store_open(&r.s, &r.c, NULL));
    int64_t failed = stat_get(STAT_COMPACTIONS_FAILED);
    uint64_t before = block_count(&r);
    for (int i = 0; i < 20; i++) {
        settle(&r);
        sim_advance(r.os, 61 * NS_PER_S);
    }
    CHECK_INT(stat_get(STAT_COMPACTIONS_FAILED), failed + 1);
    CHECK(block_count(&r) < before);
    CHECK_INT(files(&r), block_count(&r));
    struct buf there = buf_init(MIB);
    CHECK_OK(os_read_file(r.os, names.path[1], &there, NULL));
    buf_fini(&there);
    run_end(&r);
}

/* --- the I/O budget --- */

static uint64_t moved(void)
{
    return (uint64_t)(stat_get(STAT_COMPACTION_READ) + stat_get(STAT_COMPACTION_WRITTEN));
}

/* What merging took of the disk while the clock went on, millisecond by millisecond. */
struct pace {
    uint64_t bytes, ns, longest; /* longest: bytes of a step */
};

static void keep_pace(struct run *r, uint64_t rate, unsigned ms, struct pace *p)
{
    *p = (struct pace){0};
    while (ms--) {
        for (bool more = true; more;) {
            uint64_t before = moved();
            more = store_step(r->s);
            p->bytes += moved() - before;
            p->longest = max_u64(p->longest, moved() - before);
            if (rate && p->bytes > rate * p->ns / NS_PER_S + p->longest)
                test_fail(__FILE__, __LINE__, "%llu bytes after %llu ns, a step has %llu",
                          (unsigned long long)p->bytes, (unsigned long long)p->ns,
                          (unsigned long long)p->longest);
        }
        sim_advance(r->os, NS_PER_MS);
        p->ns += NS_PER_MS;
    }
}

/* Many small blocks, then a store that merges them. */
static void begin_apart(struct run *r, uint64_t rate)
{
    run_begin(r, 0);
    flushes(r, 60);
    store_close(r->s);
    r->c.compact_fanin = 4;
    r->c.compact_io_bytes = rate;
    CHECK_OK(store_open(&r->s, &r->c, NULL));
}

TEST(compact_keeps_to_the_io_budget)
{
    struct run r;
    struct pace free, held;
    begin_apart(&r, 0);
    keep_pace(&r, 0, 1, &free); /* no limit: all of it at once */
    uint64_t together = block_count(&r);
    run_end(&r);
    CHECK(free.bytes > 4 * free.longest);

    uint64_t rate = free.bytes / 4;
    begin_apart(&r, rate);
    uint64_t apart = block_count(&r);
    keep_pace(&r, rate, 1000, &held);
    CHECK(held.bytes <= rate + held.longest);
    CHECK(held.bytes >= rate / 2); /* it is used, but for what a millisecond rounds away */
    CHECK(block_count(&r) < apart && block_count(&r) > together);
    keep_pace(&r, rate, 5000, &held);
    CHECK_INT(block_count(&r), together);
    CHECK_INT(files(&r), together);
    compare(&r, __LINE__);
    run_end(&r);
}

/* Time in which nothing was merged earns nothing. */
TEST(compact_saves_no_io_budget)
{
    struct run r;
    struct pace p;
    begin_apart(&r, 64 * KIB);
    sim_advance(r.os, 3600 * NS_PER_S);
    keep_pace(&r, 64 * KIB, 500, &p);
    CHECK(p.bytes > 0 && p.bytes <= 32 * KIB + p.longest);
    run_end(&r);
}

/* A reload acts on the rest under way; the backlog does not lift the budget. */
TEST(compact_io_budget_is_reloaded)
{
    struct run r;
    struct pace p;
    begin_apart(&r, 1);
    uint64_t apart = block_count(&r);
    CHECK(apart > 64); /* COMPACT_BACKLOG */
    keep_pace(&r, 1, 2000, &p);
    CHECK_INT(block_count(&r), apart);
    flushes(&r, 8); /* seen while the merge rests */
    CHECK(block_count(&r) >= apart + 8);
    CHECK_INT(stat_get(STAT_COMPACTION_BACKLOG), block_count(&r));
    r.c.compact_io_bytes = 0;
    store_reconfigure(r.s, &r.c);
    settle(&r);
    CHECK(block_count(&r) < apart / 2);
    compare(&r, __LINE__);
    run_end(&r);
}

/* Rules rewrite blocks by the same steps. */
static uint64_t spans_left_by_rules(uint64_t rate, unsigned ms, struct pace *p)
{
    struct run r;
    struct store_stats stats;
    run_begin(&r, 0);
    flushes(&r, 60);
    store_close(r.s);
    r.c.rules = "keep service svc1 for 5d; drop after 1h";
    r.c.compact_io_bytes = rate;
    CHECK_OK(store_open(&r.s, &r.c, NULL));
    sim_advance(r.os, 48 * 3600 * NS_PER_S);
    keep_pace(&r, rate, ms, p);
    store_stats(r.s, &stats);
    CHECK_INT(files(&r), stats.block_count);
    run_end(&r);
    return stats.block_spans;
}

TEST(compact_rules_keep_to_the_io_budget)
{
    struct pace free, held;
    uint64_t left = spans_left_by_rules(0, 1, &free);
    CHECK(left > 0 && free.bytes > 4 * free.longest);
    CHECK(spans_left_by_rules(free.bytes / 4, 1000, &held) > left);
    CHECK(held.bytes >= free.bytes / 8);
    CHECK_INT(spans_left_by_rules(free.bytes / 4, 8000, &held), left);
}

/* Small blocks that stand alone, each in a window of its own, are nobody's backlog: merging does
 * not hurry, nor are they complained of. */
TEST(compact_backlog_is_what_can_be_merged)
{
    struct run r;
    run_begin(&r, 4);
    r.c.retention_ns = 0;
    store_reconfigure(r.s, &r.c);
    for (int day = 0; day < 70; day++) {
        flushes(&r, 1);
        sim_advance(r.os, 25 * 3600 * NS_PER_S);
        r.w->base_ns += 25 * 3600 * NS_PER_S;
    }
    CHECK(block_count(&r) >= 70); /* COMPACT_BACKLOG is 64 */
    CHECK_INT(stat_get(STAT_COMPACTION_BACKLOG), 0);
    r.c.compact_io_bytes = 1; /* nothing moves after the next step */
    store_reconfigure(r.s, &r.c);
    for (int i = 0; i < 6; i++) {
        CHECK_OK(world_append(r.w, r.s, 8));
        CHECK_OK(store_flush(r.s, NULL));
        (void)store_step(r.s);
    }
    CHECK(stat_get(STAT_COMPACTION_BACKLOG) >= 4);
    CHECK(stat_get(STAT_COMPACTION_BACKLOG) < 20);
    r.c.compact_percent = 0;
    r.c.compact_io_bytes = 0;
    store_reconfigure(r.s, &r.c);
    settle(&r);
    CHECK_INT(stat_get(STAT_COMPACTION_BACKLOG), 0);
    compare(&r, __LINE__);
    run_end(&r);
}

static void on_done(struct store_ticket *t, enum errc result, const char *why)
{
    (void)t, (void)why;
    CHECK_OK(result);
}

/* A block of `names` spans, each with a name of its own. */
static void append_names(struct run *r, uint32_t names)
{
    struct batch_builder bb;
    struct store_ticket t = {.done = on_done};
    char name[160];
    batch_builder_init(&bb);
    (void)bb_group_begin(&bb);
    bb_group_scope(&bb);
    bb_group_end(&bb);
    for (uint32_t i = 0; i < names; i++) {
        struct span_rec *s = bb_span(&bb);
        s->trace_id[0] = s->span_id[0] = 1;
        memcpy(s->span_id + 1, &i, 4);
        s->start_ns = s->end_ns = os_now_ns(r->os);
        int n = snprintf(name, sizeof name, "%0128u", i);
        bb_name(&bb, s, str_of(name, (size_t)n));
        CHECK(bb_span_end(&bb));
    }
    CHECK_OK(batch_seal(&bb, STR("default"), os_now_ns(r->os), &t.batch, NULL));
    CHECK_OK(store_append(r->s, &t));
    CHECK_OK(store_flush(r->s, NULL));
    settle(r);
    batch_unref(t.batch);
    batch_builder_fini(&bb);
}

/* Two blocks that are too much for one merge do not keep those behind them from being merged. */
TEST(compact_passes_over_what_is_too_much)
{
    struct run r;
    run_begin(&r, 4);
    store_close(r.s);
    r.c.compact_bytes = 64 * GIB; /* all of them are small */
    CHECK_OK(store_open(&r.s, &r.c, NULL));
    append_names(&r, 35000);
    append_names(&r, 35000);
    for (int i = 0; i < 7; i++)
        append_names(&r, 4);
    CHECK(block_count(&r) <= 4);
    run_end(&r);
}
