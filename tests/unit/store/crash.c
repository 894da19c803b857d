/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that fail at every moment of one life, and other ends of it that are not left to chance.
 * Crashes and faults at random moments: sweep.c. A failure is seen again with LYMER_TEST_SEED. */
#include "tests/harness.h"
#include "tests/unit/store/run.h"

static struct tally tally;

/* --- failing calls --- */

/* Fails the kth call, once or from then on for a while. False when the run ends before it. */
static bool fault_run(uint64_t seed, uint64_t k, enum errc code, bool sticky)
{
    struct run r;
    run_begin(&r, seed, (enum sync_policy)(seed % 3), 0, &tally);
    uint64_t before = sim_calls(r.os);
    sim_fail_after(r.os, k, code, sticky);
    run_serve(&r, 60);
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
    run_begin(&r, test_rand(), SYNC_EACH, 0, &tally);
    run_serve(&r, 80);
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
    run_begin(&r, test_rand(), SYNC_EACH, 0, &tally);
    run_serve(&r, 40);
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
