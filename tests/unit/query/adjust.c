/* SPDX-License-Identifier: Apache-2.0 */
/* Adjusters on traces no file could hold: a million deep, a million alike. What they do to ordinary
 * ones is in tests/data/jaeger/golden. */
#include "base/bytes.h"
#include "engine/query/query.h"
#include "model/kvs.h"
#include "tests/harness.h"

static struct arena arena;

static struct trace *make_trace(uint32_t n)
{
    arena = arena_init(GIB);
    struct trace *t = ARENA_NEW(&arena, struct trace);
    struct span *v = ARENA_ARRAY(&arena, struct span, n);
    CHECK(t && v);
    for (uint32_t i = 0; i < n; i++) {
        v[i] = (struct span){.start_ns = 1000 + i, .end_ns = 2000 + i, .kind = KIND_INTERNAL};
        v[i].trace_id[15] = 1;
        store_u64be(v[i].span_id, i + 1);
        CHECK(trace_add(t, &v[i], &arena));
    }
    return t;
}

static void set_parent(struct span *s, uint64_t id)
{
    store_u64be(s->parent_id, id);
}

static const struct warning *nth_warning(const struct span *s, unsigned n)
{
    const struct warning *w = s->warnings;
    while (w && n--)
        w = w->next;
    return w;
}

TEST(a_chain_of_300000_spans_is_walked_without_recursion)
{
    struct trace *t = make_trace(300000);
    struct resource hosts[2] = {0};
    struct kv names[2] = {{STR("host.name"), {.type = ATTR_STR, .s = STR("a")}},
                          {STR("host.name"), {.type = ATTR_STR, .s = STR("b")}}};
    for (uint32_t i = 0; i < t->span_count; i++) {
        hosts[i % 2].attrs = (struct kvs){&names[i % 2], 1};
        t->spans[i]->resource = &hosts[i % 2];
        /* Each starts outside its parent and is moved to its middle. */
        t->spans[i]->start_ns = 5000 + i % 2 * 1000000;
        t->spans[i]->end_ns = t->spans[i]->start_ns + 100;
        if (i)
            set_parent(t->spans[i], i);
    }
    adjust_trace(t, &(struct adjust_config){.max_clock_skew_ns = NS_PER_S}, &arena);
    CHECK(!arena.failed);
    CHECK_INT(t->span_count, 300000);
    for (uint32_t i = 0; i < t->span_count; i++)
        CHECK_INT(t->spans[i]->start_ns, 5000);
    arena_fini(&arena);
}

TEST(a_circle_of_parents_ends)
{
    struct trace *t = make_trace(3);
    set_parent(t->spans[0], 2);
    set_parent(t->spans[1], 1);
    set_parent(t->spans[2], 3); /* its own parent */
    adjust_trace(t, &(struct adjust_config){0}, &arena);
    for (uint32_t i = 0; i < 3; i++)
        CHECK(!t->spans[i]->warnings);
    arena_fini(&arena);
}

TEST(a_hundred_thousand_equal_spans_become_one)
{
    struct trace *t = make_trace(100000);
    for (uint32_t i = 0; i < t->span_count; i++) {
        store_u64be(t->spans[i]->span_id, 7);
        t->spans[i]->start_ns = 1;
        t->spans[i]->end_ns = 2;
    }
    adjust_trace(t, &(struct adjust_config){0}, &arena);
    CHECK_INT(t->span_count, 1);
    arena_fini(&arena);
}

TEST(a_hundred_thousand_spans_that_share_an_id_are_told_so)
{
    struct trace *t = make_trace(100000);
    for (uint32_t i = 0; i < t->span_count; i++)
        store_u64be(t->spans[i]->span_id, 7);
    adjust_trace(t, &(struct adjust_config){0}, &arena);
    CHECK_INT(t->span_count, 100000);
    CHECK(!t->spans[0]->warnings);
    CHECK_STR(t->spans[99999]->warnings->text,
              STR("duplicate span IDs; skipping clock skew adjustment"));
    arena_fini(&arena);
}

TEST(every_server_span_of_a_shared_id_gets_an_id_of_its_own)
{
    struct trace *t = make_trace(1000);
    for (uint32_t i = 0; i < t->span_count; i++) {
        store_u64be(t->spans[i]->span_id, i < 500 ? i + 1 : 500);
        t->spans[i]->kind = i == 499 ? KIND_CLIENT : i > 499 ? KIND_SERVER : KIND_INTERNAL;
    }
    adjust_trace(t, &(struct adjust_config){0}, &arena);
    bool seen[1001] = {0};
    CHECK_INT(t->span_count, 1000);
    for (uint32_t i = 0; i < t->span_count; i++) {
        uint64_t id = load_u64be(t->spans[i]->span_id);
        CHECK(id >= 1 && id <= 1000 && !seen[id]);
        seen[id] = true;
    }
    arena_fini(&arena);
}

TEST(times_at_the_edges_do_not_wrap)
{
    struct trace *t = make_trace(4);
    t->spans[0]->start_ns = 0;
    t->spans[0]->end_ns = UINT64_MAX;
    t->spans[1]->start_ns = UINT64_MAX;
    t->spans[1]->end_ns = 5; /* ends before it starts, where nothing can be later */
    t->spans[2]->start_ns = UINT64_MAX - 1;
    t->spans[2]->end_ns = UINT64_MAX;
    t->spans[3]->start_ns = 0;
    t->spans[3]->end_ns = 1;
    set_parent(t->spans[2], 4);
    set_parent(t->spans[3], 2);
    adjust_trace(t, &(struct adjust_config){.max_clock_skew_ns = UINT64_MAX}, &arena);
    for (uint32_t i = 0; i < t->span_count; i++)
        CHECK(t->spans[i]->end_ns >= t->spans[i]->start_ns);
    arena_fini(&arena);
}

TEST(ten_thousand_empty_links_cost_one_pass)
{
    struct trace *t = make_trace(1);
    t->spans[0]->link_count = 60000;
    t->spans[0]->links = ARENA_ARRAY(&arena, struct link, 60000);
    t->spans[0]->links[30000].trace_id[0] = 1;
    adjust_trace(t, &(struct adjust_config){0}, &arena);
    CHECK_INT(t->spans[0]->link_count, 1);
    CHECK(t->spans[0]->links[0].trace_id[0] == 1);
    CHECK_STR(nth_warning(t->spans[0], 59998)->text, STR("Invalid span link removed"));
    CHECK(!nth_warning(t->spans[0], 59999));
    arena_fini(&arena);
}

TEST(equal_resources_become_one_copy_and_the_callers_stays)
{
    struct trace *t = make_trace(3);
    struct kv v[2][2] = {
        {{STR("z"), {.type = ATTR_INT, .i = 1}}, {STR("a"), {.type = ATTR_EMPTY}}},
        {{STR("a"), {.type = ATTR_EMPTY}}, {STR("z"), {.type = ATTR_INT, .i = 1}}}};
    struct resource r[2] = {{.attrs = {v[0], 2}}, {.attrs = {v[1], 2}}};
    t->spans[0]->resource = &r[0];
    t->spans[1]->resource = &r[1];
    adjust_trace(t, &(struct adjust_config){0}, &arena);
    CHECK(t->spans[0]->resource == t->spans[1]->resource);
    CHECK(t->spans[0]->resource != &r[0] && !t->spans[2]->resource);
    CHECK_STR(v[0][0].key, STR("z"));
    CHECK_STR(t->spans[0]->resource->attrs.v[0].key, STR("a"));
    arena_fini(&arena);
}

TEST(an_exhausted_arena_is_latched_and_nothing_else_breaks)
{
    for (size_t cap = 0; cap < 40000; cap += 97) {
        struct trace *t = make_trace(40);
        struct resource r = {0};
        struct link links[40][1] = {0};
        for (uint32_t i = 0; i < 40; i++) {
            t->spans[i]->resource = &r;
            store_u64be(t->spans[i]->span_id, i / 2 + 1);
            t->spans[i]->kind = i % 2 ? KIND_CLIENT : KIND_SERVER;
            set_parent(t->spans[i], i * 2);
            t->spans[i]->link_count = 1;
            t->spans[i]->links = links[i];
        }
        struct arena small = arena_init(cap);
        adjust_trace(t, &(struct adjust_config){0}, &small);
        CHECK(small.failed || cap > 1000);
        arena_fini(&small);
        arena_fini(&arena);
    }
}

TEST(summaries_count_what_they_say)
{
    struct trace *t = make_trace(6);
    struct resource r[3] = {
        {.service = STR("web")}, {.service = STR("db")}, {.service = STR("web")}};
    static const unsigned resource[6] = {0, 1, 2, 1, 0, 1};
    for (uint32_t i = 0; i < 6; i++) {
        t->spans[i]->resource = &r[resource[i]];
        t->spans[i]->name = STR("op");
        if (i > 1)
            set_parent(t->spans[i], i == 5 ? 99 : 1);
    }
    t->spans[1]->start_ns = 10; /* an earlier span without parent: the root */
    t->spans[1]->name = STR("first");
    t->spans[3]->status = t->spans[4]->status = STATUS_ERROR;
    t->spans[4]->end_ns = 99999;
    struct trace_summary s;
    CHECK_OK(summarize_trace(t, &arena, &s));
    CHECK_STR(s.root_service, STR("db"));
    CHECK_STR(s.root_operation, STR("first"));
    CHECK_INT(s.min_start_ns, 10);
    CHECK_INT(s.max_end_ns, 99999);
    CHECK_INT(s.span_count, 6);
    CHECK_INT(s.error_count, 2);
    CHECK_INT(s.orphan_count, 1);
    CHECK_INT(s.service_count, 2);
    CHECK_STR(s.services[0].name, STR("db"));
    CHECK_INT(s.services[0].span_count, 3);
    CHECK_INT(s.services[0].error_count, 1);
    CHECK_STR(s.services[1].name, STR("web"));
    CHECK_INT(s.services[1].span_count, 3);
    CHECK_INT(s.services[1].error_count, 1);
    arena_fini(&arena);
}

TEST(an_empty_trace_has_an_empty_summary)
{
    struct trace t = {0};
    struct trace_summary s;
    arena = arena_init(MIB);
    adjust_trace(&t, &(struct adjust_config){0}, &arena);
    CHECK_OK(summarize_trace(&t, &arena, &s));
    CHECK_INT(s.min_start_ns, 0);
    CHECK_INT(s.span_count, 0);
    CHECK_INT(s.service_count, 0);
    arena_fini(&arena);
}
