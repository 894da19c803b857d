/* SPDX-License-Identifier: Apache-2.0 */
/* The disk cap and the retention time hold at any moment: after every single call to the disk, and
 * for every question, whatever the store is doing. */
#include "base/log.h"
#include "base/os/sim.h"
#include "base/stats.h"
#include "store/trace/store_parts.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>

#define VALUE_BYTES 8192u

struct run {
    struct os *os;
    struct store_config c;
    struct store *s;
    struct batch_builder builder;
    uint64_t seed, sent, acked;
    uint64_t start_ns; /* of what is sent; 0: now */
};

static uint32_t roll(struct run *r, uint32_t n)
{
    return (uint32_t)(hash_u64(r->seed++, 5) % n);
}

static void run_begin(struct run *r, uint64_t seed)
{
    log_setup((enum log_level)(LOG_ERROR + 1), LOG_TEXT);
    *r = (struct run){.os = os_sim_new(seed), .seed = seed};
    store_config_defaults(&r->c, r->os, "/data");
    r->c.threads = false;
    r->c.memtable_bytes = 64 * KIB;
    r->c.compact_fanin = 4;
    r->c.compact_bytes = 512 * KIB;
    r->c.max_disk_bytes = store_least_disk(&r->c) + MIB;
    batch_builder_init(&r->builder);
    CHECK_OK(store_open(&r->s, &r->c, NULL));
}

static void run_end(struct run *r)
{
    store_close(r->s);
    batch_builder_fini(&r->builder);
    os_sim_free(r->os);
}

struct sent {
    struct store_ticket ticket; /* first */
    struct run *run;
};

static void answered(struct store_ticket *t, enum errc result, const char *why)
{
    struct sent *x = (struct sent *)t;
    (void)why;
    x->run->acked += result == E_OK;
    free(x);
}

/* `spans` spans that cannot be compressed, of one trace each. */
static enum errc send(struct run *r, uint32_t spans)
{
    static char noise[VALUE_BYTES];
    struct batch *b;
    batch_builder_reset(&r->builder);
    bb_group_begin(&r->builder);
    bb_attr_str(&r->builder, STR("service.name"), ATTR_STR, STR("svc"));
    bb_group_scope(&r->builder);
    bb_group_end(&r->builder);
    for (uint32_t i = 0; i < spans; i++) {
        struct span_rec *s = bb_span(&r->builder);
        store_u64le(s->trace_id, ++r->sent);
        store_u64le(s->span_id, r->sent);
        s->start_ns = r->start_ns ? r->start_ns : os_now_ns(r->os);
        s->end_ns = s->start_ns + 1;
        bb_name(&r->builder, s, STR("op"));
        os_random(r->os, noise, sizeof noise);
        bb_attr_str(&r->builder, STR("noise"), ATTR_BYTES, str_of(noise, sizeof noise));
        CHECK(bb_span_end(&r->builder));
    }
    CHECK_OK(batch_seal(&r->builder, STR("default"), os_now_ns(r->os), &b, NULL));
    struct sent *x = xcalloc(1, sizeof *x);
    *x = (struct sent){.ticket = {.batch = b, .done = answered}, .run = r};
    enum errc rc = store_append(r->s, &x->ticket);
    if (rc != E_OK)
        free(x);
    batch_unref(b);
    return rc;
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

struct sum {
    struct os *os;
    const char *dir;
    uint64_t bytes;
};

static void add_size(void *arg, const char *name)
{
    struct sum *s = arg;
    struct os_file *f;
    uint64_t size;
    char *path = store_path(s->dir, name);
    if (os_open(s->os, path, OS_READ, &f, NULL) == E_OK) {
        CHECK_OK(os_size(f, &size, NULL));
        s->bytes += round_up(size, ROOM_PAGE);
        os_close(f);
    }
    free(path);
}

/* As du sees it. */
static uint64_t directory_bytes(struct run *r)
{
    static const char *const dirs[] = {"/data", "/data/blocks", "/data/wal"};
    struct sum sum = {.os = r->os};
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        sum.dir = dirs[i];
        CHECK_OK(os_list(r->os, dirs[i], add_size, &sum, NULL));
    }
    return sum.bytes;
}

static uint64_t newest_trace(struct run *r)
{
    struct arena a = arena_init(MIB);
    struct trace_query q = {.tenant = STR("default"), .start_max_ns = UINT64_MAX, .limit = 1};
    struct trace_hits hits;
    struct snap *snap = store_snap(r->s);
    q.kind = -1;
    CHECK_OK(snap_search(snap, &q, &a, &hits, NULL));
    uint64_t id = hits.n ? load_u64le(hits.v[0].trace_id) : 0;
    snap_unref(snap);
    arena_fini(&a);
    return id;
}

/* Appends, merges, restarts, time: at no call is there more on the disk than the cap allows, though
 * many times as much has been sent, and the newest is always there. */
static void cap_holds(uint64_t seed)
{
    struct run r;
    run_begin(&r, seed);
    int64_t merges = stat_get(STAT_COMPACTIONS), expired = stat_get(STAT_BLOCKS_EXPIRED);
    uint64_t refused = 0;
    (void)sim_disk_peak(r.os);
    for (int i = 0; i < 3000; i++) {
        refused += send(&r, 1 + roll(&r, 4)) != E_OK;
        for (uint32_t n = roll(&r, 6); n; n--)
            (void)store_step(r.s);
        sim_advance(r.os, roll(&r, 300) * NS_PER_MS);
        if (!roll(&r, 400)) {
            store_close(r.s);
            CHECK_OK(store_open(&r.s, &r.c, NULL));
        }
        uint64_t peak = sim_disk_peak(r.os);
        if (peak > r.c.max_disk_bytes)
            test_fail(__FILE__, __LINE__, "seed %llu, step %d: %llu bytes of %llu",
                      (unsigned long long)seed, i, (unsigned long long)peak,
                      (unsigned long long)r.c.max_disk_bytes);
        if (i % 50 == 0)
            CHECK(directory_bytes(&r) <= r.c.max_disk_bytes);
    }
    while (store_step(r.s))
        sim_advance(r.os, NS_PER_S);
    struct store_stats stats;
    store_stats(r.s, &stats);
    CHECK(stats.disk_bytes >= directory_bytes(&r));
    CHECK(stats.disk_bytes <= r.c.max_disk_bytes);
    CHECK(r.sent * VALUE_BYTES > 8 * r.c.max_disk_bytes);
    CHECK(r.acked > 2 * refused);
    CHECK(stat_get(STAT_BLOCKS_EXPIRED) > expired);
    CHECK(stat_get(STAT_COMPACTIONS) > merges);
    sim_advance(r.os, 1); /* the newest has its start alone */
    CHECK_OK(send(&r, 1));
    (void)store_step(r.s);
    CHECK_INT(newest_trace(&r), r.sent);
    run_end(&r);
}

TEST(bounds_the_cap_holds_after_every_call)
{
    for (uint64_t i = 0; i < 4; i++)
        cap_holds(test_rand());
}

TEST(bounds_a_cap_too_small_to_work_is_refused)
{
    struct run r;
    struct err e;
    struct store *s;
    run_begin(&r, 1);
    store_close(r.s);
    r.c.max_disk_bytes = store_least_disk(&r.c) - 1;
    CHECK(store_open(&s, &r.c, &e) == E_INVALID);
    CHECK(strstr(err_msg(&e), "too small"));
    r.c.max_disk_bytes = store_least_disk(&r.c);
    CHECK_OK(store_open(&r.s, &r.c, NULL));
    uint64_t kept = room_limit_bytes(r.s->room);
    r.c.max_disk_bytes = 1;
    store_reconfigure(r.s, &r.c);
    (void)store_step(r.s);
    CHECK_INT(room_limit_bytes(r.s->room), kept);
    run_end(&r);
}

/* A lower cap is made true at once, oldest out first; a snapshot reads on what has no name. */
TEST(bounds_a_dropped_block_is_read_by_who_holds_it)
{
    struct run r;
    run_begin(&r, 2);
    r.c.max_disk_bytes = 0;
    store_reconfigure(r.s, &r.c);
    for (int i = 0; i < 500; i++) {
        CHECK_OK(send(&r, 2));
        sim_advance(r.os, NS_PER_S);
        while (store_step(r.s))
            sim_advance(r.os, NS_PER_MS);
    }
    struct snap *old = store_snap(r.s);
    CHECK_INT(traces_in(old), 1000);
    r.c.max_disk_bytes = store_least_disk(&r.c) + MIB;
    CHECK(directory_bytes(&r) > r.c.max_disk_bytes);
    store_reconfigure(r.s, &r.c);
    (void)store_step(r.s);
    CHECK(directory_bytes(&r) <= r.c.max_disk_bytes);
    CHECK(sim_disk_used(r.os) > r.c.max_disk_bytes);
    CHECK_INT(traces_in(old), 1000);
    CHECK(newest_trace(&r) >= r.sent - 1); /* two start together */
    struct snap *now = store_snap(r.s);
    CHECK(traces_in(now) < 1000);
    snap_unref(now);
    snap_unref(old);
    CHECK(sim_disk_used(r.os) <= r.c.max_disk_bytes);
    run_end(&r);
}

/* Spans of one trace each, a minute apart, in memory and in blocks: none goes too early, and none
 * is there for longer than its block may span. */
TEST(bounds_spans_stay_for_the_retention_time)
{
    struct run r;
    run_begin(&r, 3);
    r.c.retention_ns = 3600 * NS_PER_S;
    store_reconfigure(r.s, &r.c);
    for (int i = 0; i < 40; i++) {
        CHECK_OK(send(&r, 1));
        (void)store_step(r.s);
        sim_advance(r.os, 60 * NS_PER_S);
    }
    struct arena a = arena_init(MIB);
    for (uint64_t minute = 40; minute < 200; minute++) {
        uint32_t least = minute < 60 ? 40 : minute < 100 ? 100 - (uint32_t)minute : 0;
        struct trace_hits hits;
        struct trace_query q = {
            .tenant = STR("default"), .kind = -1, .start_max_ns = UINT64_MAX, .limit = 100};
        while (store_step(r.s))
            ;
        struct snap *snap = store_snap(r.s);
        CHECK_OK(snap_search(snap, &q, &a, &hits, NULL));
        CHECK(hits.n >= least);
        CHECK(minute < 40 + 60 + 60 || hits.n == 0); /* merged within an hour at most */
        snap_unref(snap);
        arena_reset(&a);
        sim_advance(r.os, 60 * NS_PER_S);
    }
    arena_fini(&a);
    run_end(&r);
}

/* What says it is from long ago came today, and stays as long as what did. */
TEST(bounds_what_is_imported_stays)
{
    struct run r;
    run_begin(&r, 3);
    r.c.retention_ns = 3600 * NS_PER_S;
    store_reconfigure(r.s, &r.c);
    r.start_ns = 1;
    CHECK_OK(send(&r, 5));
    CHECK_OK(store_flush(r.s, NULL));
    for (int minute = 0; minute < 59; minute++) {
        while (store_step(r.s))
            ;
        struct snap *snap = store_snap(r.s);
        CHECK_INT(traces_in(snap), 5);
        snap_unref(snap);
        sim_advance(r.os, 60 * NS_PER_S);
    }
    run_end(&r);
}

static uint64_t blocks(struct run *r)
{
    struct store_stats stats;
    store_stats(r->s, &stats);
    return stats.block_count;
}

/* A span of trace `number` with so many keys that nobody else has. */
static void send_keys(struct run *r, uint32_t number, uint32_t keys)
{
    struct batch *b;
    char key[32];
    batch_builder_reset(&r->builder);
    bb_group_begin(&r->builder);
    bb_group_scope(&r->builder);
    bb_group_end(&r->builder);
    struct span_rec *s = bb_span(&r->builder);
    s->trace_id[0] = s->span_id[0] = 1;
    store_u32le(s->trace_id + 1, number);
    s->start_ns = s->end_ns = os_now_ns(r->os);
    bb_name(&r->builder, s, STR("op"));
    for (uint32_t i = 0; i < keys; i++) {
        snprintf(key, sizeof key, "%u.%u", number, i);
        bb_attr_bits(&r->builder, str_from_c(key), ATTR_INT, i);
    }
    CHECK(bb_span_end(&r->builder));
    CHECK_OK(batch_seal(&r->builder, STR("default"), os_now_ns(r->os), &b, NULL));
    struct sent *x = xcalloc(1, sizeof *x);
    *x = (struct sent){.ticket = {.batch = b, .done = answered}, .run = r};
    CHECK_OK(store_append(r->s, &x->ticket));
    batch_unref(b);
}

/* However many keys are sent, a block has a column for about 90,000, and those of one batch: with
 * 10,000 in each, the tenth makes it full. The same after a restart, from the log. */
TEST(bounds_keys_of_a_block)
{
    struct run r;
    run_begin(&r, 4);
    r.c.memtable_bytes = 64 * MIB;
    r.c.max_disk_bytes = 0;
    r.c.compact_fanin = 0;
    store_close(r.s);
    CHECK_OK(store_open(&r.s, &r.c, NULL));
    int64_t early = stat_get(STAT_MEMTABLES_MANY_KEYS);
    for (uint32_t i = 1; i <= 35; i++) {
        send_keys(&r, i, 10000);
        (void)store_step(r.s);
        CHECK_INT(stat_get(STAT_MEMTABLES_MANY_KEYS) - early, i / 10);
        if (i == 25) { /* the five that are in the log only count on */
            sim_fail_after(r.os, 1, E_IO, true);
            store_close(r.s);
            sim_fail_after(r.os, 0, E_OK, false);
            CHECK_OK(store_open(&r.s, &r.c, NULL));
        }
    }
    for (int i = 0; i < 4; i++)
        (void)store_step(r.s);
    CHECK_INT(blocks(&r), 3);
    struct snap *snap = store_snap(r.s);
    CHECK_INT(traces_in(snap), 35);
    snap_unref(snap);
    run_end(&r);
}
