/* SPDX-License-Identifier: Apache-2.0 */
/* The API that Jaeger's page, Grafana and scripts have used since 2017: envelopes, microseconds,
 * Jaeger's own span shape. Traces are read, adjusted and written one at a time; the arena is
 * emptied in between. */
#include "base/stats.h"
#include "serve/api/jaeger_answer.h"
#include "serve/api/jaeger_params.h"

/* --- names --- */

static void get_services(struct http_req *r)
{
    struct answer a;
    struct str *names;
    size_t n;
    if (!answer_begin(&a, r, ANSWER_V1))
        return;
    enum errc rc = snap_services(answer_snap(&a), a.tenant, &a.arena, &names, &n);
    if (rc) {
        answer_fail_code(&a, rc, NULL);
        return;
    }
    answer_envelope(&a);
    json_array(&a.w);
    for (size_t i = 0; i < n; i++)
        json_str(&a.w, names[i]);
    json_array_end(&a.w);
    answer_envelope_end(&a, n, NULL);
    answer_send(&a, false);
}

/* Operations come sorted by name, then kind: equal names are neighbours. */
static void get_operation_names(struct http_req *r)
{
    struct answer a;
    struct operation *ops;
    size_t n, names = 0;
    if (!answer_begin(&a, r, ANSWER_V1))
        return;
    enum errc rc = E_OK;
    n = 0;
    if (r->params[0].n)
        rc = snap_operations(answer_snap(&a), a.tenant, r->params[0], -1, &a.arena, &ops, &n);
    if (rc) {
        answer_fail_code(&a, rc, NULL);
        return;
    }
    answer_envelope(&a);
    json_array(&a.w);
    for (size_t i = 0; i < n; i++) {
        if (i && str_eq(ops[i].name, ops[i - 1].name))
            continue;
        json_str(&a.w, ops[i].name);
        names++;
    }
    json_array_end(&a.w);
    answer_envelope_end(&a, names, NULL);
    answer_send(&a, false);
}

static void get_operations(struct http_req *r)
{
    struct answer a;
    struct operation *ops = NULL;
    size_t n = 0;
    if (!answer_begin(&a, r, ANSWER_V1))
        return;
    struct str service = jaeger_param(r, STR("service"));
    struct str kind_text = jaeger_param(r, STR("spanKind"));
    if (!service.n) {
        answer_fail(&a, 400, STR("parameter 'service' is required"));
        return;
    }
    enum span_kind kind = KIND_UNSPECIFIED;
    enum errc rc = E_OK;
    if (jaeger_kind_from(kind_text, &kind)) /* a kind there is not has no operations */
        rc = snap_operations(answer_snap(&a), a.tenant, service, kind_text.n ? (int)kind : -1,
                             &a.arena, &ops, &n);
    if (rc) {
        answer_fail_code(&a, rc, NULL);
        return;
    }
    answer_envelope(&a);
    json_array(&a.w);
    for (size_t i = 0; i < n; i++) {
        json_object(&a.w);
        JSON_KEY_C(&a.w, "name");
        json_str(&a.w, ops[i].name);
        JSON_KEY_C(&a.w, "spanKind");
        json_str(&a.w, jaeger_kind_text(ops[i].kind));
        json_object_end(&a.w);
    }
    json_array_end(&a.w);
    answer_envelope_end(&a, n, NULL);
    answer_send(&a, false);
}

static void get_dependencies(struct http_req *r)
{
    struct answer a;
    struct jaeger_dependencies q;
    struct dependency *deps;
    size_t n;
    struct str why;
    if (!answer_begin(&a, r, ANSWER_V1))
        return;
    if (!jaeger_params_dependencies(r, a.now_ns, &q, &why)) {
        answer_fail(&a, 400, why);
        return;
    }
    enum errc rc = snap_dependencies(answer_snap(&a), a.tenant, q.from_ns, q.to_ns, &a.arena, &deps,
                                     &n);
    if (rc) {
        answer_fail_code(&a, rc, NULL);
        return;
    }
    answer_envelope(&a);
    json_array(&a.w);
    for (size_t i = 0; i < n; i++) {
        if (q.service.n && !str_eq(deps[i].parent, q.service) && !str_eq(deps[i].child, q.service))
            continue;
        json_object(&a.w);
        JSON_KEY_C(&a.w, "parent");
        json_str(&a.w, deps[i].parent);
        JSON_KEY_C(&a.w, "child");
        json_str(&a.w, deps[i].child);
        JSON_KEY_C(&a.w, "callCount");
        json_u64(&a.w, deps[i].calls);
        json_object_end(&a.w);
    }
    json_array_end(&a.w);
    answer_envelope_end(&a, 0, NULL);
    answer_send(&a, false);
}

/* --- traces --- */

/* Why a list that was otherwise answered lacks a trace, or may lack some (no id). */
struct misses {
    struct arena *a;
    struct answer_error *first, **end;
};

static void miss(struct misses *m, int code, struct str message, const uint8_t *trace_id)
{
    struct answer_error *e = ARENA_NEW(m->a, struct answer_error);
    if (!e)
        return; /* no memory even for this: the trace is not there all the same */
    *e = (struct answer_error){
        .code = code, .message = arena_str(m->a, message), .trace_id = trace_id};
    *m->end = e;
    m->end = &e->next;
}

/* One more trace of the list. False when the answer cannot go on. */
static bool put_trace(struct answer *a, const uint8_t id[16], bool raw, bool asked_by_id,
                      struct arena *scratch, struct misses *m)
{
    struct trace *t;
    struct err e = {0};
    arena_reset(scratch);
    enum errc rc = query_trace(answer_snap(a), a->tenant, id, raw, &a->api->adjust, scratch, &t,
                               &e);
    if (rc == E_NOT_FOUND) {
        if (asked_by_id)
            miss(m, 0, STR("trace not found"), id);
        return true;
    }
    if (rc) {
        (void)answer_left_out(a, rc); /* or an id that was asked for: told in the same way */
        miss(m, err_http(rc), str_from_c(answer_sentence(rc, &e)), id);
        return true;
    }
    return jaeger_json_trace(&a->w, t, scratch, &a->sink) && answer_flush(a);
}

static bool put_traces(struct answer *a, const struct jaeger_search *s,
                       const struct trace_hits *hits, struct misses *m)
{
    struct arena scratch = arena_init_within(a->api->memory, QUERY_ARENA_MAX);
    bool ok = true;
    for (size_t i = 0; i < s->id_count && ok; i++)
        ok = put_trace(a, s->ids[i], s->raw, true, &scratch, m);
    for (uint32_t i = 0; i < hits->n && ok; i++)
        ok = put_trace(a, hits->v[i].trace_id, s->raw, false, &scratch, m);
    arena_fini(&scratch);
    return ok;
}

static void get_traces(struct http_req *r)
{
    struct answer a;
    struct jaeger_search s;
    struct str why;
    struct trace_hits hits = {.complete = true};
    struct misses m = {.a = &r->arena, .end = &m.first};
    if (!answer_begin(&a, r, ANSWER_V1))
        return;
    if (!jaeger_params_search(r, a.now_ns, &s, &why)) {
        answer_fail(&a, 400, why);
        return;
    }
    if (!s.id_count && !answer_search(&a, &s, &hits))
        return;
    if (hits.damaged)
        miss(&m, 500, query_coverage_text(&hits, s.q.order, &r->arena), NULL);
    answer_envelope(&a);
    json_array(&a.w);
    if (!put_traces(&a, &s, &hits, &m)) {
        answer_break(&a, STR("a trace is larger than an answer may hold in memory"));
        return;
    }
    json_array_end(&a.w);
    answer_envelope_end(&a, 0, m.first);
    answer_send(&a, false);
}

/* The trace, adjusted, or a page of it as it is: a parent outside the page is not missing. */
static enum errc read_one(struct answer *a, const struct jaeger_get *q, struct arena *scratch,
                          struct trace **t, uint64_t *total, struct err *e)
{
    if (!q->paged)
        return query_trace(answer_snap(a), a->tenant, q->id, q->raw, &a->api->adjust, scratch, t,
                           e);
    a->offset = q->offset;
    a->limit = q->limit;
    return snap_trace_page(answer_snap(a), a->tenant, q->id, q->offset, q->limit, scratch, t, total,
                           e);
}

static void get_trace(struct http_req *r)
{
    struct answer a;
    struct jaeger_get q;
    struct str why;
    struct err e = {0};
    struct trace *t;
    if (!answer_begin(&a, r, ANSWER_V1))
        return;
    if (!jaeger_params_get(r, r->params[0], &q, &why)) {
        answer_fail(&a, 400, why);
        return;
    }
    struct arena scratch = arena_init_within(a.api->memory, QUERY_ARENA_MAX);
    uint64_t total = 0;
    enum errc rc = read_one(&a, &q, &scratch, &t, &total, &e);
    if (rc)
        arena_fini(&scratch); /* whoever asks next, told to try a page, finds the memory free */
    if (rc == E_NOT_FOUND) {
        answer_fail(&a, 404, STR("trace not found"));
    } else if (rc && !q.paged) {
        answer_fail_trace(&a, rc, &e);
    } else if (rc) {
        answer_fail_code(&a, rc, &e);
    } else {
        answer_envelope(&a);
        json_array(&a.w);
        if (!t->span_count || jaeger_json_trace(&a.w, t, &scratch, &a.sink)) {
            json_array_end(&a.w);
            answer_envelope_end(&a, total, NULL);
            answer_send(&a, true);
        } else {
            answer_break(&a, STR("the trace is larger than an answer may hold in memory"));
        }
    }
    arena_fini(&scratch);
}

static bool is_protobuf(struct http_req *r)
{
    struct str type = http_header(r, STR("content-type"));
    type = str_trim(str_take(type, str_find(type, ';')));
    return str_eq_nocase(type, STR("application/x-protobuf")) ||
           str_eq_nocase(type, STR("application/protobuf"));
}

static bool put_transformed(struct answer *a, struct trace *traces, size_t n, uint32_t rejected,
                            struct arena *scratch)
{
    struct answer_error refused = {0};
    answer_envelope(a);
    json_array(&a->w);
    for (size_t i = 0; i < n; i++)
        if (!jaeger_json_trace(&a->w, &traces[i], scratch, &a->sink) || !answer_flush(a))
            return false;
    json_array_end(&a->w);
    refused.message = arena_printf(
        scratch, "%u spans were left out: their ids are zero or they pass a limit", rejected);
    answer_envelope_end(a, 0, rejected ? &refused : NULL);
    return true;
}

static void post_transform(struct http_req *r)
{
    struct answer a;
    struct err e = {0};
    struct batch *batch;
    struct trace *traces;
    size_t n;
    uint32_t rejected;
    if (!answer_begin(&a, r, ANSWER_V1))
        return;
    struct arena scratch = arena_init_within(a.api->memory, QUERY_ARENA_MAX);
    enum errc rc = jaeger_transform(r->body, is_protobuf(r), &scratch, &batch, &traces, &n,
                                    &rejected, &e);
    if (rc && err_http(rc) < 500) {
        answer_fail(&a, 400, arena_printf(&r->arena, "cannot unmarshal OTLP : %s", err_msg(&e)));
    } else if (rc) {
        answer_fail_code(&a, rc, &e);
    } else {
        if (put_transformed(&a, traces, n, rejected, &scratch))
            answer_send(&a, false);
        else
            answer_break(&a, STR("the traces are larger than an answer may hold in memory"));
        if (batch)
            batch_unref(batch);
    }
    arena_fini(&scratch);
}

/* --- what is not there --- */

static void post_archive(struct http_req *r)
{
    struct answer a;
    struct jaeger_get q;
    struct str why;
    if (!answer_begin(&a, r, ANSWER_V1))
        return;
    if (jaeger_params_get(r, r->params[0], &q, &why))
        answer_fail(&a, 500, STR("archive span storage was not configured"));
    else
        answer_fail(&a, 400, why);
}

static void refuse(struct http_req *r, struct str message)
{
    struct answer a;
    if (answer_begin(&a, r, ANSWER_V1))
        answer_fail(&a, 501, message);
}

static void get_metrics(struct http_req *r)
{
    refuse(r, STR("metrics querying is currently disabled"));
}

/* Jaeger answers these two with made-up samples. */
static void get_deep_dependencies(struct http_req *r)
{
    refuse(r, STR("deep dependencies are not computed"));
}

static void get_quality_metrics(struct http_req *r)
{
    refuse(r, STR("trace quality is not measured"));
}

const struct http_route jaeger_v1_routes[] = {
    {"GET", "/api/services", get_services, HTTP_ON_POOL},
    {"GET", "/api/services/{service}/operations", get_operation_names, HTTP_ON_POOL},
    {"GET", "/api/operations", get_operations, HTTP_ON_POOL},
    {"GET", "/api/traces", get_traces, HTTP_ON_POOL},
    {"GET", "/api/traces/{id}", get_trace, HTTP_ON_POOL},
    {"POST", "/api/archive/{id}", post_archive, HTTP_ON_LOOP},
    {"GET", "/api/dependencies", get_dependencies, HTTP_ON_POOL},
    {"POST", "/api/transform", post_transform, HTTP_ON_POOL},
    {"GET", "/api/metrics/{kind}", get_metrics, HTTP_ON_LOOP},
    {"GET", "/api/deep-dependencies", get_deep_dependencies, HTTP_ON_LOOP},
    {"GET", "/api/quality-metrics", get_quality_metrics, HTTP_ON_LOOP},
};
const size_t jaeger_v1_route_count = ARRAY_LEN(jaeger_v1_routes);
