/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/os/sim.h"
#include "tests/harness.h"
#include "tests/unit/store/world.h"

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
