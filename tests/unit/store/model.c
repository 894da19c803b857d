/* SPDX-License-Identifier: Apache-2.0 */
/* The store against a naive one (world.h): everything a server and its operator do, in any order,
 * and after it any question, each answer compared whole. What can happen is a row of `acts`, what
 * can be asked a row of `questions` in ask.c.
 *
 * The sweep (sweep.c) makes more such runs. */
#include "tests/harness.h"
#include "store/trace/store_parts.h"
#include "tests/unit/store/run.h"

#define RICH 60 /* spans in a hundred */

static void act_serve(struct run *r)
{
    run_serve(r, 1 + world_roll(r->w, 12));
}

static void act_look(struct run *r)
{
    run_compare(r, false);
    run_ask(r);
}

/* What retention and a cap may take grows with time, so the world is told first. */
static void act_wait_long(struct run *r)
{
    run_advance(r, world_roll(r->w, 90) * 60 * NS_PER_S);
    (void)store_step(r->s);
}

static void act_retention(struct run *r)
{
    static const uint64_t hours[] = {0, 0, 1, 2, 24};
    r->config.retention_ns = hours[world_roll(r->w, ARRAY_LEN(hours))] * 3600 * NS_PER_S;
    run_advance(r, 0);
    store_reconfigure(r->s, &r->config);
}

static void act_cap(struct run *r)
{
    struct store_stats stats;
    store_stats(r->s, &stats);
    uint64_t some = stats.block_bytes * world_roll(r->w, 4) / 2;
    uint64_t least = store_least_disk(&r->config);
    r->config.max_disk_bytes = world_roll(r->w, 2) ? least + some : 0;
    world_cap(r->w, r->config.max_disk_bytes > 0);
    store_reconfigure(r->s, &r->config);
}

/* The cap holds, after the block that passed it. */
static void act_look_at_cap(struct run *r)
{
    struct store_stats stats;
    if (!r->config.max_disk_bytes || store_flush(r->s, NULL) != E_OK)
        return;
    run_advance(r, 20 * NS_PER_S);
    (void)store_step(r->s);
    store_stats(r->s, &stats);
    if (stats.block_count && stats.block_bytes + stats.log_bytes > r->config.max_disk_bytes)
        run_failed(r, "the disk cap does not hold");
}

/* An old snapshot has what it had, whatever came or went since. */
static void release(struct run *r)
{
    if (!r->held)
        return;
    const char *bad = world_read(r->w, r->held, NULL);
    for (uint32_t i = 0; !bad && i < SENT_MAX; i++)
        if (r->w->spans[i].found != r->held_spans[i])
            bad = "a snapshot has changed";
    if (bad)
        run_failed(r, bad);
    snap_unref(r->held);
    r->held = NULL;
}

static void act_hold(struct run *r)
{
    release(r);
    run_compare(r, false);
    r->held = store_snap(r->s);
    r->held_spans = r->held_spans ? r->held_spans : xcalloc(SENT_MAX, sizeof *r->held_spans);
    for (uint32_t i = 0; i < SENT_MAX; i++)
        r->held_spans[i] = r->w->spans[i].found;
}

static void act_release(struct run *r)
{
    release(r);
}

static void act_reopen(struct run *r)
{
    release(r);
    store_close(r->s);
    run_open(r);
    run_compare(r, false);
    run_ask(r);
}

static void act_crash(struct run *r)
{
    release(r);
    run_crash(r, 1 + world_roll(r->w, 60));
    run_ask(r);
}

/* Some call fails, or all from one on, and then none any more. */
static void act_fault(struct run *r)
{
    uint64_t k = 1 + world_roll(r->w, 20), before = sim_calls(r->os);
    sim_fail_after(r->os, k, world_roll(r->w, 3) ? E_IO : E_FULL, world_roll(r->w, 2));
    run_serve(r, 6);
    r->tally->faults += sim_calls(r->os) - before >= k;
    sim_fail_after(r->os, 0, E_OK, false);
    run_compare(r, false);
}

static const struct act acts[] = {
    {16, act_serve}, {8, act_look},        {3, act_wait_long}, {1, act_retention},
    {1, act_cap},    {2, act_look_at_cap}, {2, act_hold},      {1, act_release},
    {2, act_reopen}, {2, act_crash},       {3, act_fault},
};

void model_run(uint64_t seed, struct tally *tally)
{
    struct run r;
    run_begin(&r, seed, SYNC_EACH, RICH, tally);
    for (unsigned n = 10 + world_roll(r.w, 40); n; n--)
        run_act(&r, acts, ARRAY_LEN(acts));
    release(&r);
    act_look(&r);
    run_end(&r);
}

TEST(store_model)
{
    struct tally tally = {0};
    for (unsigned i = 100; i; i--)
        model_run(test_rand(), &tally);
}
