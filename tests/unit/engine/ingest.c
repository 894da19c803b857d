/* SPDX-License-Identifier: Apache-2.0 */
/* The real store in the simulated world, without threads: nothing is stored until store_step. */
#include "engine/ingest/ingest.h"

#include "base/os/sim.h"
#include "base/stats.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>

struct fixture {
    struct os *os;
    struct store *store;
    struct ingest *in;
    struct batch_builder b;
};

struct told {
    int calls;
    struct ingest_result result;
};

static void tell(void *arg, const struct ingest_result *r)
{
    struct told *t = arg;
    t->calls++;
    t->result = *r;
}

static void setup(struct fixture *f, uint32_t queue_max, uint64_t pending_max_bytes)
{
    struct store_config c;
    f->os = os_sim_new(1);
    store_config_defaults(&c, f->os, "data");
    c.threads = false;
    c.queue_max = queue_max;
    CHECK_OK(store_open(&f->store, &c, NULL));
    f->in = ingest_new(f->store, f->os, pending_max_bytes);
    batch_builder_init(&f->b);
}

static void teardown(struct fixture *f)
{
    batch_builder_fini(&f->b);
    store_close(f->store);
    ingest_free(f->in); /* asserts that nothing is pending */
    os_sim_free(f->os);
}

static void step(struct fixture *f)
{
    for (int i = 0; i < 100 && store_step(f->store); i++)
        ;
}

static void add_span(struct batch_builder *b, uint8_t trace, uint8_t span)
{
    struct span_rec *s = bb_span(b);
    CHECK(s);
    s->trace_id[0] = trace;
    s->span_id[0] = span;
    s->start_ns = s->end_ns = UINT64_C(1767225600000000000);
    bb_name(b, s, STR("GET /"));
    bb_span_end(b);
}

/* The builder holds `good` sound spans, then some without trace id and some without span id. */
static struct batch_builder *fill(struct fixture *f, int good, int no_trace, int no_span)
{
    batch_builder_reset(&f->b);
    CHECK(bb_group_begin(&f->b));
    bb_attr_str(&f->b, STR("service.name"), ATTR_STR, STR("cart"));
    CHECK(bb_group_scope(&f->b));
    bb_group_end(&f->b);
    for (int i = 0; i < good; i++)
        add_span(&f->b, 1, (uint8_t)(i + 1));
    for (int i = 0; i < no_trace; i++)
        add_span(&f->b, 0, 1);
    for (int i = 0; i < no_span; i++)
        add_span(&f->b, 1, 0);
    return &f->b;
}

static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

TEST(spans_are_acknowledged_after_they_are_stored)
{
    struct fixture f;
    struct told t = {0};
    setup(&f, 10, 1 * MIB);
    ingest_submit(f.in, STR(""), fill(&f, 3, 0, 0), tell, &t);
    CHECK_INT(t.calls, 0);
    step(&f);
    CHECK_INT(t.calls, 1);
    CHECK_INT(t.result.code, E_OK);
    CHECK_INT(t.result.accepted, 3);
    CHECK_INT(t.result.rejected, 0);
    CHECK_STR(str_from_c(t.result.message), STR(""));
    CHECK_INT(stat_get(STAT_SPANS_ACCEPTED), 3);
    CHECK_INT(stat_get(STAT_BATCHES_ACCEPTED), 1);
    teardown(&f);
}

TEST(the_tenant_and_the_default_tenant_reach_the_store)
{
    struct fixture f;
    struct told t = {0};
    setup(&f, 10, 1 * MIB);
    ingest_submit(f.in, STR("acme"), fill(&f, 1, 0, 0), tell, &t);
    ingest_submit(f.in, STR_NONE, fill(&f, 1, 0, 0), tell, &t);
    step(&f);
    CHECK_INT(t.calls, 2);
    struct snap *snap = store_snap(f.store);
    static const struct {
        struct str tenant;
        size_t services;
    } cases[] = {{{"acme", 4}, 1}, {{TENANT_DEFAULT, 7}, 1}, {{"other", 5}, 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena a = arena_init(1 * MIB);
        struct str *services;
        size_t n;
        CHECK_OK(snap_services(snap, cases[i].tenant, &a, &services, &n));
        CHECK_INT(n, cases[i].services);
        arena_fini(&a);
    }
    snap_unref(snap);
    teardown(&f);
}

TEST(rejected_spans_are_counted_and_named_by_reason)
{
    struct fixture f;
    struct told t = {0};
    setup(&f, 10, 1 * MIB);
    ingest_submit(f.in, STR(""), fill(&f, 2, 3, 1), tell, &t);
    CHECK_INT(stat_get(STAT_SPANS_REJECTED_TRACE_ID), 0); /* with the answer, not before */
    step(&f);
    CHECK_INT(t.result.code, E_OK);
    CHECK_INT(t.result.accepted, 2);
    CHECK_INT(t.result.rejected, 4);
    CHECK(has(t.result.message, "4 spans rejected: 3 ("));
    CHECK(has(t.result.message, span_reject_text(REJECT_TRACE_ID)));
    CHECK(has(t.result.message, span_reject_text(REJECT_SPAN_ID)));
    CHECK_INT(stat_get(STAT_SPANS_REJECTED_TRACE_ID), 3);
    CHECK_INT(stat_get(STAT_SPANS_REJECTED_SPAN_ID), 1);
    teardown(&f);
}

TEST(nothing_to_store_is_a_success_at_once)
{
    struct fixture f;
    struct told t = {0};
    setup(&f, 10, 1 * MIB);
    ingest_submit(f.in, STR(""), fill(&f, 0, 0, 0), tell, &t);
    CHECK_INT(t.calls, 1);
    CHECK_INT(t.result.code, E_OK);
    ingest_submit(f.in, STR(""), fill(&f, 0, 2, 0), tell, &t);
    CHECK_INT(t.calls, 2);
    CHECK_INT(t.result.code, E_OK);
    CHECK_INT(t.result.accepted, 0);
    CHECK_INT(t.result.rejected, 2);
    CHECK(has(t.result.message, "2 spans rejected"));
    teardown(&f);
}

TEST(bad_tenants_are_refused_for_good)
{
    struct fixture f;
    struct told t = {0};
    char longest[BATCH_TENANT_MAX + 1];
    memset(longest, 'a', sizeof longest);
    setup(&f, 10, 1 * MIB);
    const struct str bad[] = {STR("a b"), STR("a/b"), STR("\xc3\xa9"), STR("a\0b"),
                              str_of(longest, sizeof longest)};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ingest_submit(f.in, bad[i], fill(&f, 1, 0, 0), tell, &t);
        CHECK_INT(t.calls, (int)i + 1);
        CHECK_INT(t.result.code, E_INVALID);
        CHECK_INT(t.result.retry_ms, 0);
        CHECK(has(t.result.message, "tenant"));
    }
    CHECK_INT(stat_get(STAT_REQUESTS_BAD_TENANT), ARRAY_LEN(bad));
    ingest_submit(f.in, str_of(longest, BATCH_TENANT_MAX), fill(&f, 1, 0, 0), tell, &t);
    step(&f);
    CHECK_INT(t.result.code, E_OK);
    teardown(&f);
}

static void check_refused(const struct told *t, enum errc code)
{
    CHECK_INT(t->calls, 1);
    CHECK_INT(t->result.code, code);
    CHECK_INT(t->result.accepted, 0);
    CHECK(t->result.retry_ms > 0);
    CHECK(t->result.message[0] != '\0');
    CHECK_INT(err_grpc(t->result.code), 14);
}

TEST(a_full_queue_is_retryable)
{
    struct fixture f;
    struct told first = {0}, second = {0}, third = {0};
    setup(&f, 1, 1 * MIB);
    ingest_submit(f.in, STR(""), fill(&f, 1, 0, 0), tell, &first);
    ingest_submit(f.in, STR(""), fill(&f, 2, 1, 0), tell, &second);
    check_refused(&second, E_UNAVAILABLE);
    CHECK_INT(stat_get(STAT_BATCHES_REFUSED_BUSY), 1);
    CHECK_INT(stat_get(STAT_SPANS_REFUSED), 2);
    CHECK_INT(stat_get(STAT_SPANS_REJECTED_TRACE_ID), 0); /* it will come again */
    CHECK_INT(first.calls, 0);
    step(&f);
    CHECK_INT(first.result.code, E_OK);
    ingest_submit(f.in, STR(""), fill(&f, 1, 0, 0), tell, &third);
    step(&f);
    CHECK_INT(third.result.code, E_OK);
    teardown(&f);
}

TEST(the_budget_holds_back_and_opens_again)
{
    struct fixture f;
    struct told sealed = {0}, first = {0}, second = {0}, third = {0};
    setup(&f, 10, 1 * MIB);
    struct batch *probe;
    CHECK_OK(batch_seal(fill(&f, 5, 0, 0), STR(TENANT_DEFAULT), 0, &probe, NULL));
    uint64_t one = batch_bytes(probe);
    batch_unref(probe);
    ingest_free(f.in);
    f.in = ingest_new(f.store, f.os, one + one / 2);
    ingest_submit(f.in, STR(""), fill(&f, 5, 0, 0), tell, &first);
    CHECK_INT(first.calls, 0);
    ingest_submit(f.in, STR(""), fill(&f, 5, 0, 0), tell, &second);
    check_refused(&second, E_NO_MEMORY);
    CHECK_INT(stat_get(STAT_BATCHES_REFUSED_MEMORY), 1);
    step(&f);
    ingest_submit(f.in, STR(""), fill(&f, 5, 0, 0), tell, &third);
    step(&f);
    CHECK_INT(third.result.code, E_OK);

    ingest_free(f.in); /* exactly used up: refused before it is sealed */
    f.in = ingest_new(f.store, f.os, one);
    first = sealed = (struct told){0};
    ingest_submit(f.in, STR(""), fill(&f, 5, 0, 0), tell, &first);
    ingest_submit(f.in, STR(""), fill(&f, 1, 0, 0), tell, &sealed);
    check_refused(&sealed, E_NO_MEMORY);
    step(&f);
    CHECK_INT(first.result.code, E_OK);
    teardown(&f);
}

TEST(what_can_never_fit_is_not_retryable)
{
    struct fixture f;
    struct told t = {0};
    setup(&f, 10, 64);
    ingest_submit(f.in, STR(""), fill(&f, 5, 0, 0), tell, &t);
    CHECK_INT(t.calls, 1);
    CHECK_INT(t.result.code, E_TOO_BIG);
    CHECK_INT(t.result.retry_ms, 0);
    CHECK_INT(stat_get(STAT_REQUESTS_BAD_SIZE), 1);
    teardown(&f);
}

TEST(a_store_that_fails_later_is_retryable)
{
    struct fixture f;
    struct told t = {0}, again = {0};
    setup(&f, 10, 1 * MIB);
    ingest_submit(f.in, STR(""), fill(&f, 4, 1, 0), tell, &t);
    sim_fail_after(f.os, 1, E_IO, true);
    step(&f);
    check_refused(&t, E_UNAVAILABLE);
    CHECK_INT(stat_get(STAT_SPANS_REFUSED), 4);
    CHECK_INT(stat_get(STAT_SPANS_ACCEPTED), 0);
    CHECK_INT(stat_get(STAT_BATCHES_REFUSED_DISK), 1);
    sim_fail_after(f.os, 0, E_OK, false);
    ingest_submit(f.in, STR(""), fill(&f, 4, 1, 0), tell, &again);
    step(&f);
    CHECK_INT(again.calls, 1);
    teardown(&f);
}

TEST(a_full_disk_has_its_own_reason)
{
    struct fixture f;
    struct told t = {0};
    setup(&f, 10, 1 * MIB);
    ingest_submit(f.in, STR(""), fill(&f, 4, 0, 0), tell, &t);
    sim_fail_after(f.os, 1, E_FULL, true);
    step(&f);
    check_refused(&t, E_FULL);
    CHECK_INT(stat_get(STAT_BATCHES_REFUSED_DISK), 1);
    sim_fail_after(f.os, 0, E_OK, false);
    teardown(&f);
}

/* Whatever call fails, everything submitted is answered once and the budget is given back. */
TEST(every_single_failure_is_answered_once)
{
    for (uint64_t k = 1;; k++) {
        struct fixture f;
        struct told t[3] = {0};
        setup(&f, 2, 1 * MIB);
        uint64_t before = sim_calls(f.os);
        sim_fail_after(f.os, k, E_IO, false);
        for (int i = 0; i < 3; i++)
            ingest_submit(f.in, STR(""), fill(&f, 2, 0, 0), tell, &t[i]);
        step(&f);
        bool done = sim_calls(f.os) - before < k;
        sim_fail_after(f.os, 0, E_OK, false);
        for (int i = 0; i < 3; i++)
            CHECK_INT(t[i].calls, 1);
        teardown(&f);
        if (done)
            return;
        CHECK(k < 1000);
    }
}
