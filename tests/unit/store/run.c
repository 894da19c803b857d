/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store/run.h"

#include "base/log.h"
#include "base/stats.h"
#include "tests/harness.h"

#include <stdlib.h>

static enum sim_lie planted = SIM_HONEST;
static const char *planted_part = "";

void run_lie(enum sim_lie lie, const char *part)
{
    planted = lie;
    planted_part = part;
}

void run_failed(const struct run *r, const char *what)
{
    test_fail(__FILE__, __LINE__, "seed %llu, sync %d: %s", (unsigned long long)r->seed,
              r->config.sync, what);
}

void run_open(struct run *r)
{
    struct err e;
    if (store_open(&r->s, &r->config, &e) != E_OK)
        run_failed(r, err_msg(&e));
}

void run_begin(struct run *r, uint64_t seed, enum sync_policy sync, uint32_t rich,
               struct tally *tally)
{
    log_setup((enum log_level)(LOG_ERROR + 1), LOG_TEXT);
    stat_set(STAT_PARENT_SEARCHES_CUT, 0);
    *r = (struct run){.seed = seed, .tally = tally};
    r->os = os_sim_new(seed);
    r->w = world_new(seed, os_now_ns(r->os));
    r->w->rich = rich;
    sim_lie(r->os, planted, planted_part);
    store_config_defaults(&r->config, r->os, "/data");
    r->config.threads = false;
    r->config.sync = sync;
    r->config.memtable_bytes = 8 * KIB + world_roll(r->w, (world_roll(r->w, 2) ? 24 : 120) * KIB);
    r->config.memtable_age_ns = 20 * NS_PER_S;
    r->config.retention_ns = 0;
    r->config.compact_fanin = world_roll(r->w, 8) ? 2 + world_roll(r->w, 4) : 0;
    run_open(r);
}

void run_end(struct run *r)
{
    snap_unref(r->held);
    free(r->held_spans);
    store_close(r->s);
    world_free(r->w);
    os_sim_free(r->os);
}

void run_compare(struct run *r, bool after_crash)
{
    const char *bad = world_compare(r->w, r->s, after_crash);
    if (bad)
        run_failed(r, bad);
}

void run_ask(struct run *r)
{
    struct snap *snap = store_snap(r->s);
    const char *bad = world_ask(r->w, r->s, snap);
    if (bad)
        run_failed(r, bad);
    snap_unref(snap);
}

/* --- acts --- */

void run_act(struct run *r, const struct act *acts, size_t n)
{
    unsigned all = 0, i = 0;
    for (size_t k = 0; k < n; k++)
        all += acts[k].weight;
    for (unsigned at = world_roll(r->w, all); at >= acts[i].weight; i++)
        at -= acts[i].weight;
    acts[i].act(r);
    if (r->config.sync == SYNC_EACH)
        world_expect_acked(r->w);
}

void run_advance(struct run *r, uint64_t ns)
{
    sim_advance(r->os, ns);
    r->w->base_ns += ns;
    if (!r->config.retention_ns)
        return;
    uint64_t before_ns = os_now_ns(r->os) - r->config.retention_ns;
    r->w->expired_ns = max_u64(r->w->expired_ns, before_ns);
    r->w->listed_ns = max_u64(r->w->listed_ns, before_ns);
}

static void act_append(struct run *r)
{
    (void)!world_append(r->w, r->s, 8);
    if (world_roll(r->w, 2))
        (void)store_step(r->s);
}

static void act_step(struct run *r)
{
    (void)store_step(r->s);
}

/* What is in blocks survives under every policy. */
static void act_flush(struct run *r)
{
    if (store_flush(r->s, NULL) == E_OK)
        world_expect_acked(r->w);
}

static void act_wait(struct run *r)
{
    run_advance(r, world_roll(r->w, 15) * NS_PER_S);
}

static const struct act served[] = {{16, act_append}, {8, act_step}, {1, act_flush}, {4, act_wait}};

void run_serve(struct run *r, unsigned n)
{
    while (n--)
        run_act(r, served, ARRAY_LEN(served));
}

/* --- the ends of things --- */

void run_settle(struct run *r)
{
    run_advance(r, r->config.sync_every_ns);
    (void)store_step(r->s);
    if (r->config.sync != SYNC_OS)
        world_expect_acked(r->w);
}

void run_recovers(struct run *r)
{
    struct err e;
    for (unsigned i = 0; i < 8; i++) {
        run_advance(r, 2 * NS_PER_S);
        (void)store_step(r->s);
    }
    run_compare(r, false);
    if (world_append(r->w, r->s, 4) != E_OK)
        run_failed(r, "a batch is refused though the fault is gone");
    (void)store_step(r->s);
    if (r->w->batches[r->w->batch_n - 1].fate != FATE_ACKED)
        run_failed(r, "a batch is not acknowledged though the fault is gone");
    if (store_flush(r->s, &e) != E_OK)
        run_failed(r, err_msg(&e));
    run_compare(r, false);
    store_close(r->s);
    run_open(r);
    run_compare(r, false);
}

void run_crash(struct run *r, uint64_t calls_left)
{
    sim_fail_after(r->os, calls_left, E_IO, true);
    uint64_t last = sim_calls(r->os) + calls_left;
    for (unsigned i = 0; i < 30 && sim_calls(r->os) + 1 < last; i++)
        run_serve(r, 1);
    if (world_roll(r->w, 2)) /* it lives on for a while */
        run_serve(r, 4);
    sim_fail_after(r->os, 1, E_IO, true);
    store_close(r->s);
    sim_crash(r->os);
    while (!world_roll(r->w, 4)) { /* and again, while it starts */
        sim_fail_after(r->os, 1 + world_roll(r->w, 30), E_IO, true);
        if (store_open(&r->s, &r->config, NULL) == E_OK) {
            sim_fail_after(r->os, 1, E_IO, true);
            store_close(r->s);
        }
        sim_crash(r->os);
    }
    sim_fail_after(r->os, 0, E_OK, false);
    run_open(r);
    run_compare(r, true);
    world_forget_missing(r->w);
    r->tally->crashes++;
}
