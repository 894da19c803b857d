/* SPDX-License-Identifier: Apache-2.0 */
/* docs/internals/search.md, row by row, on a batch record and on the same span in the read model.
 */
#include "store/trace/match.h"

#include "tests/harness.h"

#include <stdlib.h>

static struct batch *make_batch(void)
{
    static struct batch_builder bb;
    struct batch *b;
    batch_builder_init(&bb);
    bb_group_begin(&bb);
    bb_attr_str(&bb, STR("service.name"), ATTR_STR, STR("cart"));
    bb_attr_str(&bb, STR("host"), ATTR_STR, STR("a"));
    bb_group_scope(&bb);
    bb_attr_bits(&bb, STR("in.scope"), ATTR_BOOL, 1);
    bb_group_end(&bb);
    for (unsigned status = 0; status < STATUS_COUNT; status++) {
        struct span_rec *s = bb_span(&bb);
        s->trace_id[0] = s->span_id[0] = (uint8_t)(status + 1);
        s->start_ns = 1000;
        s->end_ns = 1000 + 100 * status;
        s->kind = KIND_SERVER;
        s->status = (uint8_t)status;
        bb_name(&bb, s, STR("GET /"));
        s->status_message = bb_string(&bb, status == STATUS_ERROR ? STR("boom") : STR_NONE);
        s->trace_state = bb_string(&bb, STR("k=v"));
        bb_attr_bits(&bb, STR("http.status_code"), ATTR_INT, 404);
        bb_attr_bits(&bb, STR("ratio"), ATTR_DOUBLE, UINT64_C(0x3fb999999999999a));
        bb_attr_bits(&bb, STR("nothing"), ATTR_EMPTY, 0);
        bb_attr_str(&bb, STR("raw"), ATTR_BYTES, STR("\x01\x02"));
        bb_attr_str(&bb, STR("resource.own"), ATTR_STR, STR("span"));
        struct event_rec *event = bb_event(&bb);
        event->name = bb_string(&bb, STR("exception"));
        bb_attr_str(&bb, STR("in.event"), ATTR_STR, STR("e"));
        struct link_rec *link = bb_link(&bb);
        link->trace_id[0] = 1;
        bb_attr_str(&bb, STR("in.link"), ATTR_STR, STR("l"));
        CHECK(bb_span_end(&bb));
    }
    CHECK_OK(batch_seal(&bb, STR("t"), 5000, &b, NULL));
    batch_builder_fini(&bb);
    return b;
}

/* Which of the three spans (unset, ok, error) match: bits 1, 2, 4. */
static unsigned matches(const struct batch *b, const struct trace_query *q)
{
    unsigned found = 0;
    struct arena a = arena_init(MIB);
    struct span_origin groups[1] = {{0}};
    for (unsigned i = 0; i < STATUS_COUNT; i++) {
        const struct span *s = span_from_batch(b, &b->spans[i], groups, &a);
        bool record = match_record(q, b, &b->spans[i]);
        CHECK(record == match_span(q, s));
        found |= (unsigned)record << i;
    }
    arena_fini(&a);
    return found;
}

static const struct {
    enum tag_place place;
    const char *key, *value; /* value NULL: exists */
    unsigned found;
} rows[] = {
    {TAG_ANY, "http.status_code", "404", 7},
    {TAG_ANY, "http.status_code", "0404", 0},
    {TAG_ANY, "http.status_code", NULL, 7},
    {TAG_ANY, "ratio", "0.1", 7},
    {TAG_ANY, "raw", "AQI=", 7},
    {TAG_ANY, "nothing", "", 7},
    {TAG_ANY, "no.such.key", NULL, 0},
    {TAG_ANY, "host", "a", 7},
    {TAG_SPAN, "host", "a", 0},
    {TAG_RESOURCE, "host", "a", 7},
    {TAG_ANY, "resource.host", "a", 7},
    {TAG_ANY, "resource.http.status_code", "404", 0},
    {TAG_ANY, "resource.own", "span", 7},
    {TAG_ANY, "in.scope", "true", 7},
    {TAG_SCOPE, "in.scope", "true", 7},
    {TAG_EVENT, "in.scope", "true", 0},
    {TAG_ANY, "in.event", "e", 7},
    {TAG_EVENT, "in.event", "e", 7},
    {TAG_ANY, "in.link", "l", 7},
    {TAG_LINK, "in.link", "x", 0},
    {TAG_ANY, "event", "exception", 7},
    {TAG_SPAN, "event", "exception", 0},
    {TAG_ANY, "event", NULL, 7},
    {TAG_ANY, "error", "true", 4},
    {TAG_ANY, "error", "false", 2},
    {TAG_ANY, "error", NULL, 4},
    {TAG_RESOURCE, "error", "true", 0},
    {TAG_ANY, "span.kind", "server", 7},
    {TAG_ANY, "span.kind", "Server", 7},
    {TAG_ANY, "span.kind", "client", 0},
    {TAG_ANY, "span.status", "UNSET", 1},
    {TAG_ANY, "span.status", "ok", 2},
    {TAG_ANY, "span.status", NULL, 6},
    {TAG_ANY, "otel.status_code", "ERROR", 4},
    {TAG_ANY, "otel.status_code", "UNSET", 0},
    {TAG_ANY, "otel.status_description", "boom", 4},
    {TAG_ANY, "otel.status_description", "", 0},
    {TAG_ANY, "w3c.tracestate", "k=v", 7},
    {TAG_ANY, "scope.name", NULL, 0},
};

TEST(match_tags)
{
    struct batch *b = make_batch();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct tag_filter tag = {.place = rows[i].place,
                                 .op = rows[i].value ? TAG_EQUALS : TAG_EXISTS,
                                 .key = str_from_c(rows[i].key),
                                 .value = str_from_c(rows[i].value)};
        struct trace_query q = {
            .kind = -1, .start_max_ns = UINT64_MAX, .tags = &tag, .tag_count = 1};
        unsigned found = matches(b, &q);
        if (found != rows[i].found)
            test_fail(__FILE__, __LINE__, "%s = %s: %u, not %u", rows[i].key,
                      rows[i].value ? rows[i].value : "(exists)", found, rows[i].found);
    }
    batch_unref(b);
}

TEST(match_fields)
{
    struct batch *b = make_batch();
    const struct trace_query all = {.kind = -1, .start_max_ns = UINT64_MAX};
    struct trace_query q = all;
    CHECK_INT(matches(b, &q), 7);
    q.service = STR("cart");
    q.operation = STR("GET /");
    q.kind = KIND_SERVER;
    CHECK_INT(matches(b, &q), 7);
    q.kind = KIND_CLIENT;
    CHECK_INT(matches(b, &q), 0);
    q = all;
    q.statuses = 1u << STATUS_ERROR;
    CHECK_INT(matches(b, &q), 4);
    q.statuses = 1u << STATUS_ERROR | 1u << STATUS_UNSET;
    CHECK_INT(matches(b, &q), 5);
    q = all;
    q.service = STR("car");
    CHECK_INT(matches(b, &q), 0);
    q = all;
    q.operation = STR("GET");
    CHECK_INT(matches(b, &q), 0);
    q = all;
    q.duration_min_ns = 100; /* both ends included */
    CHECK_INT(matches(b, &q), 6);
    q.duration_max_ns = 100;
    CHECK_INT(matches(b, &q), 2);
    q = all;
    q.start_min_ns = q.start_max_ns = 1000;
    CHECK_INT(matches(b, &q), 7);
    q.start_min_ns = q.start_max_ns = 1001;
    CHECK_INT(matches(b, &q), 0);
    batch_unref(b);
}
