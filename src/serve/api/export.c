/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/api/export.h"

#include "base/log.h"
#include "base/num.h"
#include "base/stats.h"
#include "codec/otlp.h"
#include "engine/query/query.h"
#include "serve/api/jaeger_answer.h"
#include "store/trace/match.h"

#define LINE_MAX_BYTES (1 * GIB)

struct exporter {
    struct snap *snap;
    const struct trace_query *query;
    bool (*line)(void *arg, struct str line);
    void *arg;
    struct arena arena;
    struct buf text;
    enum errc code;
    struct err *e;
};

static bool asks_more_than_time(const struct trace_query *q)
{
    return q->service.n || q->operation.n || q->tag_count || q->duration_min_ns ||
           q->duration_max_ns || q->kind >= 0 || q->statuses;
}

static bool matches(const struct trace_query *q, const struct trace *t)
{
    if (!asks_more_than_time(q))
        return true; /* the walk has looked at the time */
    for (uint32_t i = 0; i < t->span_count; i++)
        if (match_span(q, t->spans[i]))
            return true;
    return false;
}

static bool one_trace(void *arg, const uint8_t id[16])
{
    struct exporter *x = arg;
    struct trace *t;
    arena_reset(&x->arena);
    x->code = snap_trace(x->snap, x->query->tenant, id, &x->arena, &t, x->e);
    if (x->code == E_NOT_FOUND) { /* retention was faster */
        x->code = E_OK;
        return true;
    }
    if (x->code || !matches(x->query, t))
        return x->code == E_OK;
    buf_reset(&x->text);
    otlp_encode_traces_json(t->spans, t->span_count, &x->text);
    buf_add_char(&x->text, '\n');
    if (x->text.failed)
        x->code = fail(x->e, E_TOO_BIG, "a trace is larger than %zu bytes", LINE_MAX_BYTES);
    else if (!x->line(x->arg, buf_str(&x->text)))
        x->code = fail(x->e, E_CANCELLED, "the reader went away");
    return x->code == E_OK;
}

enum errc export_lines(struct snap *s, const struct trace_query *q,
                       bool (*line)(void *arg, struct str line), void *arg, struct err *e)
{
    struct exporter x = {.snap = s, .query = q, .line = line, .arg = arg, .e = e};
    x.arena = arena_init(QUERY_ARENA_MAX);
    x.text = buf_init(LINE_MAX_BYTES);
    enum errc code = snap_each_trace(s, q->tenant, q->start_min_ns, q->start_max_ns, one_trace, &x,
                                     e);
    arena_fini(&x.arena);
    buf_fini(&x.text);
    return x.code ? x.code : code;
}

/* --- the route --- */

static bool number(struct http_req *r, struct str name, uint64_t *v)
{
    struct str text;
    size_t at = 0;
    return !http_param(r, name, &at, &text) || !text.n || num_get_u64(text, v);
}

/* Status, kind and presence. */
static bool more_parameters(struct http_req *r, struct trace_query *q, struct tag_filter *tags)
{
    struct str text;
    size_t at = 0;
    if (http_param(r, STR("status"), &at, &text) && text.n &&
        !query_status_from(text, &q->statuses))
        return false;
    at = 0;
    if (http_param(r, STR("kind"), &at, &text) && text.n && !query_kind_from(text, &q->kind))
        return false;
    for (at = 0; http_param(r, STR("has"), &at, &text);) {
        if (q->tag_count == QUERY_TAGS_MAX)
            return false;
        tags[q->tag_count++] = (struct tag_filter){.op = TAG_EXISTS, .key = text};
    }
    return true;
}

static bool parameters(struct http_req *r, struct trace_query *q, struct tag_filter *tags)
{
    struct str text;
    size_t at = 0;
    q->kind = -1;
    q->start_max_ns = UINT64_MAX;
    q->tags = tags;
    (void)http_param(r, STR("service"), &at, &q->service);
    at = 0;
    (void)http_param(r, STR("operation"), &at, &q->operation);
    for (at = 0; http_param(r, STR("tag"), &at, &text);) {
        size_t colon = str_find(text, ':');
        if (colon == text.n || q->tag_count == QUERY_TAGS_MAX)
            return false;
        tags[q->tag_count++] = (struct tag_filter){TAG_ANY, TAG_EQUALS, str_take(text, colon),
                                                   str_skip(text, colon + 1)};
    }
    return more_parameters(r, q, tags) && number(r, STR("start"), &q->start_min_ns) &&
           number(r, STR("end"), &q->start_max_ns) &&
           number(r, STR("minDuration"), &q->duration_min_ns) &&
           number(r, STR("maxDuration"), &q->duration_max_ns);
}

struct lines {
    struct http_req *r;
    bool begun;
};

static void begin(struct lines *x)
{
    if (!x->begun)
        http_start(x->r, 200, "application/x-ndjson");
    x->begun = true;
}

static bool to_client(void *arg, struct str line)
{
    struct lines *x = arg;
    begin(x);
    return http_write(x->r, line);
}

static void export(struct http_req *r)
{
    const struct jaeger_api *api = r->arg;
    struct tag_filter tags[QUERY_TAGS_MAX];
    struct trace_query q = {0};
    struct err e = {0};
    const char *why;
    if (!api_tenant(r, &q.tenant, &why)) {
        http_reply_text(r, 401, "%s", why);
        return;
    }
    if (!parameters(r, &q, tags)) {
        stat_add(STAT_REQUESTS_BAD_PARAM, 1);
        http_reply_text(r, 400,
                        "malformed parameter: times and durations are nanoseconds, a tag is "
                        "key:value");
        return;
    }
    struct lines lines = {.r = r};
    struct snap *s = store_snap(api->store);
    enum errc code = export_lines(s, &q, to_client, &lines, &e);
    snap_unref(s);
    stat_add(code ? STAT_QUERIES_FAILED : STAT_QUERIES, 1);
    if (code && !lines.begun) {
        http_reply_text(r, 500, "%s%s", answer_sentence(code, &e), err_hint(code));
        return;
    }
    if (code && code != E_CANCELLED)
        log_error("export", "broken off: %s", err_msg(&e));
    begin(&lines);
    http_end(r, code == E_OK);
}

const struct http_route export_routes[] = {{"GET", "/api/export", export, HTTP_ON_POOL}};
const size_t export_route_count = ARRAY_LEN(export_routes);
