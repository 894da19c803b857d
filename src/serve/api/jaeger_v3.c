/* SPDX-License-Identifier: Apache-2.0 */
/* The API of Jaeger v2's page: OTLP JSON, RFC 3339 times, protobuf's JSON rules (64-bit numbers as
 * strings, zero fields and empty lists left out). */
#include "codec/otlp.h"
#include "model/kvs.h"
#include "serve/api/jaeger_answer.h"
#include "serve/api/jaeger_params.h"

/* --- names --- */

static void get_services(struct http_req *r)
{
    struct answer a;
    struct str *names;
    size_t n;
    if (!answer_begin(&a, r, ANSWER_V3))
        return;
    enum errc rc = snap_services(answer_snap(&a), a.tenant, &a.arena, &names, &n);
    if (rc) {
        answer_fail_code(&a, rc, NULL);
        return;
    }
    json_object(&a.w);
    if (n) {
        JSON_KEY_C(&a.w, "services");
        json_array(&a.w);
        for (size_t i = 0; i < n; i++)
            json_str(&a.w, names[i]);
        json_array_end(&a.w);
    }
    json_object_end(&a.w);
    answer_send(&a, false);
}

static struct str shown_kind(enum span_kind kind)
{
    return kind == KIND_UNSPECIFIED ? STR("internal") : jaeger_kind_text(kind);
}

/* "No kind" is shown as internal, so a name may come twice with it: once is enough. */
static void put_operations(struct json_writer *w, const struct operation *ops, size_t n)
{
    json_object(w);
    if (n) {
        JSON_KEY_C(w, "operations");
        json_array(w);
    }
    for (size_t i = 0; i < n; i++) {
        struct str kind = shown_kind(ops[i].kind);
        if (i && str_eq(ops[i].name, ops[i - 1].name) && str_eq(kind, shown_kind(ops[i - 1].kind)))
            continue;
        json_object(w);
        JSON_KEY_C(w, "name");
        json_str(w, ops[i].name);
        JSON_KEY_C(w, "spanKind");
        json_str(w, kind);
        json_object_end(w);
    }
    if (n)
        json_array_end(w);
    json_object_end(w);
}

static void get_operations(struct http_req *r)
{
    struct answer a;
    struct operation *ops = NULL;
    size_t n = 0;
    if (!answer_begin(&a, r, ANSWER_V3))
        return;
    struct str kind_text = jaeger_param(r, STR("spanKind"));
    if (!kind_text.n)
        kind_text = jaeger_param(r, STR("span_kind"));
    enum span_kind kind = KIND_UNSPECIFIED;
    enum errc rc = E_OK;
    if (jaeger_kind_from(kind_text, &kind))
        rc = snap_operations(answer_snap(&a), a.tenant, jaeger_param(r, STR("service")),
                             kind_text.n ? (int)kind : -1, &a.arena, &ops, &n);
    if (rc) {
        answer_fail_code(&a, rc, NULL);
        return;
    }
    put_operations(&a.w, ops, n);
    answer_send(&a, false);
}

/* --- traces --- */

#define SLICE_SPANS 512u /* encoded at a time */

static const struct str result_head = {"{\"result\":{\"resourceSpans\":[", 28};

/* The elements of the encoder's one list, joined to those before. */
static bool put_slice(struct answer *a, struct span *const *spans, size_t n, struct buf *slice)
{
    buf_reset(slice);
    otlp_encode_traces_json(spans, n, slice);
    struct str json = buf_str(slice);
    size_t open = str_find(json, '['), close = json.n;
    while (close > open && json.p[close - 1] != ']')
        close--;
    if (slice->failed || close < open + 2)
        return false;
    if (a->buf.n || a->started)
        buf_add_char(&a->buf, ',');
    else
        buf_add_str(&a->buf, result_head);
    buf_add_str(&a->buf, str_of(json.p + open + 1, close - open - 2));
    return !a->buf.failed && answer_flush(a);
}

static bool put_trace(struct answer *a, struct trace *t, struct arena *scratch, struct buf *slice)
{
    struct span **spans = trace_by_origin(t, scratch);
    if (!spans)
        return false;
    for (uint32_t i = 0; i < t->span_count; i += SLICE_SPANS)
        if (!put_slice(a, spans + i, min_size(t->span_count - i, SLICE_SPANS), slice))
            return false;
    return true;
}

/* Reads, adjusts and writes one trace; one that is gone in the meantime is no error, nor is
 * one of a search that cannot be read. */
static bool put_found(struct answer *a, const uint8_t id[16], bool raw, struct arena *scratch,
                      struct buf *slice, struct err *e)
{
    struct trace *t;
    arena_reset(scratch);
    enum errc rc = query_trace(answer_snap(a), a->tenant, id, raw, &a->api->adjust, scratch, &t, e);
    if (answer_left_out(a, rc)) {
        (void)answer_sentence(rc, e); /* which one: to the log */
        return true;
    }
    if (rc)
        return rc == E_NOT_FOUND;
    if (put_trace(a, t, scratch, slice))
        return true;
    return fail(e, E_NO_MEMORY, "the trace is larger than an answer may hold in memory") == E_OK;
}

/* one: the trace was asked for by its id. */
static void send_traces(struct answer *a, const struct trace_hits *hits, bool raw, bool one)
{
    struct arena scratch = arena_init_within(a->api->memory, QUERY_ARENA_MAX);
    struct buf slice = buf_init(ANSWER_BUF_MAX);
    struct err e = {0};
    bool ok = true;
    for (uint32_t i = 0; i < hits->n && ok; i++)
        ok = put_found(a, hits->v[i].trace_id, raw, &scratch, &slice, &e);
    arena_fini(&scratch); /* whoever asks next, told to try a page, finds the memory free */
    if (!ok && !a->started && one) {
        answer_fail_trace(a, e.code, &e);
    } else if (!ok && !a->started) {
        answer_fail_code(a, e.code, &e);
    } else if (!ok) {
        answer_break(a, str_from_c(answer_sentence(e.code, &e)));
    } else if (!a->buf.n && !a->started) {
        answer_fail(a, 404, STR("No traces found"));
    } else {
        buf_add_c(&a->buf, "]}}");
        answer_send(a, false);
    }
    buf_fini(&slice);
}

/* The search behind /traces and /trace-summaries. False when the answer is already complete. */
static bool search(struct answer *a, struct jaeger_search *s, struct trace_hits *hits)
{
    struct str why;
    if (jaeger_params_v3_search(a->r, s, &why))
        return answer_search(a, s, hits);
    answer_fail(a, 400, why);
    return false;
}

static void get_traces(struct http_req *r)
{
    struct answer a;
    struct jaeger_search s;
    struct trace_hits hits;
    if (answer_begin(&a, r, ANSWER_V3) && search(&a, &s, &hits))
        send_traces(&a, &hits, s.raw, false);
}

/* Behind the result what v1's envelope has: which spans these are. */
static void put_page_end(struct answer *a, const struct jaeger_get *q, uint64_t total)
{
    if (!a->buf.n && !a->started)
        buf_add_str(&a->buf, result_head);
    buf_addf(&a->buf, "]},\"total\":%llu,\"limit\":%u,\"offset\":%llu}", (unsigned long long)total,
             q->limit, (unsigned long long)q->offset);
}

/* A page of a trace as it is stored. */
static void send_page(struct answer *a, const struct jaeger_get *q)
{
    struct arena scratch = arena_init_within(a->api->memory, QUERY_ARENA_MAX);
    struct buf slice = buf_init(ANSWER_BUF_MAX);
    struct trace *t;
    struct err e = {0};
    uint64_t total;
    enum errc rc = snap_trace_page(answer_snap(a), a->tenant, q->id, q->offset, q->limit, &scratch,
                                   &t, &total, &e);
    if (rc == E_NOT_FOUND) {
        answer_fail(a, 404, STR("No traces found"));
    } else if (rc) {
        answer_fail_code(a, rc, &e);
    } else if (t->span_count && !put_trace(a, t, &scratch, &slice)) {
        answer_break(a, STR("the page is larger than an answer may hold in memory"));
    } else {
        put_page_end(a, q, total);
        answer_send(a, false);
    }
    buf_fini(&slice);
    arena_fini(&scratch);
}

static void get_trace(struct http_req *r)
{
    struct answer a;
    struct jaeger_get q;
    struct str why;
    if (!answer_begin(&a, r, ANSWER_V3))
        return;
    if (!jaeger_params_v3_get(r, r->params[0], &q, &why)) {
        answer_fail(&a, 400, why);
        return;
    }
    if (q.paged) {
        send_page(&a, &q);
        return;
    }
    struct trace_hit hit = {0};
    memcpy(hit.trace_id, q.id, 16);
    send_traces(&a, &(struct trace_hits){.v = &hit, .n = 1}, q.raw, true);
}

/* --- summaries --- */

static void put_text(struct json_writer *w, struct str key, struct str value)
{
    if (value.n) {
        json_key(w, key);
        json_str(w, value);
    }
}

static void put_time(struct json_writer *w, struct str key, uint64_t ns)
{
    if (ns) {
        json_key(w, key);
        json_u64_str(w, ns);
    }
}

static void put_services(struct json_writer *w, const struct trace_summary *s)
{
    if (!s->service_count)
        return;
    JSON_KEY_C(w, "services");
    json_array(w);
    for (uint32_t i = 0; i < s->service_count; i++) {
        json_object(w);
        put_text(w, STR("name"), s->services[i].name);
        answer_count(w, STR("spanCount"), s->services[i].span_count);
        answer_count(w, STR("errorSpanCount"), s->services[i].error_count);
        json_object_end(w);
    }
    json_array_end(w);
}

/* Our own, of a trace that is summarised as it is stored. */
static void put_stored(struct json_writer *w, const struct trace_summary *s)
{
    JSON_KEY_C(w, "asStored");
    json_bool(w, true);
    answer_count(w, STR("rootSpanCount"), s->root_count);
    if (s->orphans_unknown) {
        JSON_KEY_C(w, "orphansUnknown");
        json_bool(w, true);
    }
    if (!s->others.span_count)
        return;
    JSON_KEY_C(w, "otherServices");
    json_object(w);
    answer_count(w, STR("serviceCount"), s->other_services);
    answer_count(w, STR("spanCount"), s->others.span_count);
    answer_count(w, STR("errorSpanCount"), s->others.error_count);
    json_object_end(w);
}

static void put_summary(struct json_writer *w, const struct trace_summary *s)
{
    json_object(w);
    JSON_KEY_C(w, "traceId");
    json_hex(w, s->trace_id, 16);
    put_text(w, STR("rootServiceName"), s->root_service);
    put_text(w, STR("rootOperationName"), s->root_operation);
    put_time(w, STR("minStartTimeUnixNano"), s->min_start_ns);
    put_time(w, STR("maxEndTimeUnixNano"), s->max_end_ns);
    answer_count(w, STR("spanCount"), s->span_count);
    answer_count(w, STR("errorSpanCount"), s->error_count);
    answer_count(w, STR("orphanSpanCount"), s->orphan_count);
    put_services(w, s);
    if (s->stored)
        put_stored(w, s);
    json_object_end(w);
}

/* One that cannot be read is left out and counted. */
static bool put_summary_of(struct answer *a, const uint8_t id[16], bool *any, struct arena *scratch,
                           struct err *e)
{
    struct trace_summary s;
    enum errc rc = query_summary(answer_snap(a), a->tenant, id, &a->api->adjust, scratch, &s, e);
    if (rc == E_NOT_FOUND)
        return true;
    if (answer_left_out(a, rc)) {
        (void)answer_sentence(rc, e);
        return true;
    }
    if (rc)
        return false;
    if (!*any) {
        JSON_KEY_C(&a->w, "summaries");
        json_array(&a->w);
    }
    *any = true;
    put_summary(&a->w, &s);
    return answer_flush(a);
}

static void get_summaries(struct http_req *r)
{
    struct answer a;
    struct jaeger_search s;
    struct trace_hits hits;
    struct err e = {.code = E_CANCELLED};
    if (!answer_begin(&a, r, ANSWER_V3) || !search(&a, &s, &hits))
        return;
    struct arena scratch = arena_init_within(a.api->memory, QUERY_ARENA_MAX);
    bool ok = true, any = false;
    json_object(&a.w);
    for (uint32_t i = 0; i < hits.n && ok; i++)
        ok = put_summary_of(&a, hits.v[i].trace_id, &any, &scratch, &e);
    if (ok) {
        if (any)
            json_array_end(&a.w);
        answer_coverage(&a);
        json_object_end(&a.w);
        answer_send(&a, false);
    } else if (a.started) {
        answer_break(&a, str_from_c(answer_sentence(e.code, &e)));
    } else {
        answer_fail_code(&a, e.code, &e);
    }
    arena_fini(&scratch);
}

/* Our own: of one trace, whatever its size; always as stored, in the form of the list. */
static void get_summary(struct http_req *r)
{
    struct answer a;
    struct jaeger_get q;
    struct trace_summary s;
    struct str why;
    struct err e = {0};
    if (!answer_begin(&a, r, ANSWER_V3))
        return;
    if (!jaeger_params_v3_get(r, r->params[0], &q, &why)) {
        answer_fail(&a, 400, why);
        return;
    }
    struct arena scratch = arena_init_within(a.api->memory, QUERY_ARENA_MAX);
    enum errc rc = summarize_stored(answer_snap(&a), a.tenant, q.id, &summary_bounds, &scratch, &s,
                                    &e);
    if (rc == E_NOT_FOUND) {
        answer_fail(&a, 404, STR("No traces found"));
    } else if (rc) {
        answer_fail_code(&a, rc, &e);
    } else {
        json_object(&a.w);
        JSON_KEY_C(&a.w, "summaries");
        json_array(&a.w);
        put_summary(&a.w, &s);
        json_array_end(&a.w);
        json_object_end(&a.w);
        answer_send(&a, true);
    }
    arena_fini(&scratch);
}

const struct http_route jaeger_v3_routes[] = {
    {"GET", "/api/v3/services", get_services, HTTP_ON_POOL},
    {"GET", "/api/v3/operations", get_operations, HTTP_ON_POOL},
    {"GET", "/api/v3/traces", get_traces, HTTP_ON_POOL},
    {"GET", "/api/v3/traces/{id}", get_trace, HTTP_ON_POOL},
    {"GET", "/api/v3/trace-summaries", get_summaries, HTTP_ON_POOL},
    {"GET", "/api/v3/trace-summaries/{id}", get_summary, HTTP_ON_POOL},
};
const size_t jaeger_v3_route_count = ARRAY_LEN(jaeger_v3_routes);
