/* SPDX-License-Identifier: Apache-2.0 */
/* The store in the simulated world: power cuts, failing calls, full disks, each at every moment the
 * seed or the sweep can think of. After each the store is opened again and compared with the model.
 *
 * LYMER_TEST_CRASHES sets how many seeds a test tries; a failure prints the seed. */
#include "base/log.h"
#include "base/os/sim.h"
#include "base/stats.h"
#include "tests/harness.h"
#include "tests/unit/store/world.h"

#include <stdio.h>
#include <stdlib.h>

struct run {
    struct os *os;
    struct world *w;
    struct store *s;
    struct store_config config;
    uint64_t seed;
};

static unsigned crash_runs(unsigned usual)
{
    const char *n = getenv("LYMER_TEST_CRASHES");
    return n ? (unsigned)strtoul(n, NULL, 10) : usual;
}

static _Noreturn void run_failed(const struct run *r, const char *what)
{
    test_fail(__FILE__, __LINE__, "LYMER_STORE_SEED=%llu, sync %d: %s", (unsigned long long)r->seed,
              r->config.sync, what);
}

static void run_open(struct run *r)
{
    struct err e;
    if (store_open(&r->s, &r->config, &e) != E_OK)
        run_failed(r, err_msg(&e));
}

static void run_begin(struct run *r, uint64_t seed, enum sync_policy sync)
{
    log_setup((enum log_level)(LOG_ERROR + 1), LOG_TEXT);
    stat_set(STAT_PARENT_SEARCHES_CUT, 0);
    *r = (struct run){.seed = seed};
    r->os = os_sim_new(seed);
    r->w = world_new(seed, os_now_ns(r->os));
    store_config_defaults(&r->config, r->os, "/data");
    r->config.threads = false;
    r->config.sync = sync;
    r->config.memtable_bytes = 8 * KIB + world_roll(r->w, 24 * KIB);
    r->config.memtable_age_ns = 20 * NS_PER_S;
    r->config.retention_ns = 0;
    r->config.compact_fanin = 2 + world_roll(r->w, 4);
    run_open(r);
}

static void run_end(struct run *r)
{
    store_close(r->s);
    world_free(r->w);
    os_sim_free(r->os);
}

static void run_compare(struct run *r, bool after_crash)
{
    const char *bad = world_compare(r->w, r->s, after_crash);
    if (bad)
        run_failed(r, bad);
}

/* A random thing a running server does. */
static void run_act(struct run *r)
{
    struct world *w = r->w;
    switch (world_roll(w, 8)) {
    case 0:
        sim_advance(r->os, world_roll(w, 15) * NS_PER_S);
        break;
    case 1:
        if (!world_roll(w, 4))
            (void)!store_flush(r->s, NULL);
        break;
    case 2:
    case 3:
        (void)store_step(r->s);
        break;
    default:
        (void)!world_append(w, r->s, 8);
        if (world_roll(w, 2))
            (void)store_step(r->s);
    }
    if (r->config.sync == SYNC_EACH)
        world_expect_acked(w);
}

/* The process dies: from some call on nothing reaches the disk, then the power goes. */
static void run_crash(struct run *r, uint64_t calls_left)
{
    sim_fail_after(r->os, calls_left, E_IO, true);
    for (unsigned i = 0; i < 30 && calls_left > 1; i++)
        run_act(r);
    sim_fail_after(r->os, 1, E_IO, true);
    store_close(r->s);
    sim_crash(r->os);
    sim_fail_after(r->os, 0, E_OK, false);
    run_open(r);
    run_compare(r, true);
    world_forget_missing(r->w);
}

static void crash_run(uint64_t seed, enum sync_policy sync)
{
    struct run r;
    run_begin(&r, seed, sync);
    for (unsigned life = 1 + world_roll(r.w, 4); life; life--) {
        for (unsigned i = world_roll(r.w, 60); i; i--)
            run_act(&r);
        run_crash(&r, 1 + world_roll(r.w, 60));
    }
    run_end(&r);
}

TEST(store_crash_each)
{
    for (unsigned i = crash_runs(500); i; i--)
        crash_run(test_rand(), SYNC_EACH);
}

TEST(store_crash_interval)
{
    for (unsigned i = crash_runs(250); i; i--)
        crash_run(test_rand(), SYNC_INTERVAL);
}

TEST(store_crash_os)
{
    for (unsigned i = crash_runs(250); i; i--)
        crash_run(test_rand(), SYNC_OS);
}

TEST(store_crash_seed) /* LYMER_STORE_SEED: one run of a sweep again */
{
    const char *seed = getenv("LYMER_STORE_SEED");
    for (int sync = SYNC_INTERVAL; seed && sync <= SYNC_OS; sync++)
        crash_run(strtoull(seed, NULL, 10), (enum sync_policy)sync);
}

/* --- failing calls --- */

static void act_some(struct run *r, unsigned n)
{
    while (n--)
        run_act(r);
}

/* After the fault is gone everything that was acknowledged is there, new batches are taken, and a
 * restart changes nothing. */
static void run_recovers(struct run *r)
{
    for (unsigned i = 0; i < 8; i++) {
        sim_advance(r->os, 2 * NS_PER_S);
        (void)store_step(r->s);
    }
    run_compare(r, false);
    if (world_append(r->w, r->s, 4) != E_OK)
        run_failed(r, "a batch is refused though the fault is gone");
    (void)store_step(r->s);
    if (r->w->batches[r->w->batch_n - 1].fate != FATE_ACKED)
        run_failed(r, "a batch is not acknowledged though the fault is gone");
    struct err e;
    if (store_flush(r->s, &e) != E_OK)
        run_failed(r, err_msg(&e));
    run_compare(r, false);
    store_close(r->s);
    run_open(r);
    run_compare(r, false);
}

/* Fails the kth call, once or from then on for a while. False when the run ends before it. */
static bool fault_run(uint64_t seed, uint64_t k, enum errc code, bool sticky)
{
    struct run r;
    run_begin(&r, seed, (enum sync_policy)(seed % 3));
    uint64_t before = sim_calls(r.os);
    sim_fail_after(r.os, k, code, sticky);
    act_some(&r, 60);
    bool reached = sim_calls(r.os) - before >= k;
    sim_fail_after(r.os, 0, E_OK, false);
    run_recovers(&r);
    run_end(&r);
    return reached;
}

static void fault_sweep(enum errc code, bool sticky, unsigned seeds)
{
    for (unsigned i = 0; i < seeds; i++) {
        uint64_t seed = test_rand(), k = 1;
        while (fault_run(seed, k, code, sticky))
            k++;
        if (k < 10)
            test_fail(__FILE__, __LINE__, "only %llu calls in a run", (unsigned long long)k);
    }
}

TEST(store_io_error_at_every_call)
{
    fault_sweep(E_IO, false, 3);
}

TEST(store_io_errors_from_every_call_on)
{
    fault_sweep(E_IO, true, 2);
}

TEST(store_disk_full_from_every_call_on)
{
    fault_sweep(E_FULL, true, 2);
}

/* Opening fails with an error, touches nothing that matters, and the next opening succeeds. */
TEST(store_open_with_an_error_at_every_call)
{
    struct run r;
    struct err e;
    run_begin(&r, test_rand(), SYNC_EACH);
    act_some(&r, 80);
    (void)store_step(r.s);
    for (uint64_t k = 1; k < 10000; k++) {
        sim_fail_after(r.os, 1, E_IO, true);
        store_close(r.s);
        sim_fail_after(r.os, k, E_IO, false);
        enum errc rc = store_open(&r.s, &r.config, &e);
        sim_fail_after(r.os, 0, E_OK, false);
        if (rc != E_OK)
            run_open(&r);
        run_compare(&r, true);
        if (rc == E_OK && k > 200)
            break;
    }
    run_end(&r);
}

TEST(store_full_disk_is_read_only_until_there_is_space)
{
    struct run r;
    struct store_stats stats;
    run_begin(&r, test_rand(), SYNC_EACH);
    act_some(&r, 40);
    sim_disk_size(r.os, sim_disk_used(r.os));
    bool refused = false;
    for (unsigned i = 0; i < 400 && !refused; i++) {
        refused = world_append(r.w, r.s, 8) == E_FULL;
        (void)store_step(r.s);
        world_expect_acked(r.w);
    }
    CHECK(refused);
    store_stats(r.s, &stats);
    CHECK(stats.read_only);
    run_compare(&r, false);
    sim_disk_size(r.os, 1 * GIB);
    run_recovers(&r);
    store_stats(r.s, &stats);
    CHECK(!stats.read_only);
    run_end(&r);
}
