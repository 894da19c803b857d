/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/api/jaeger_answer.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/num.h"
#include "base/os/os.h"
#include "base/stats.h"
#include "engine/ingest/ingest.h"
#include "serve/api/jaeger_params.h"

#include <stdio.h>
#include <stdlib.h>

/* --- beginning --- */

static void finish(struct answer *a)
{
    if (a->snap)
        snap_unref(a->snap);
    arena_fini(&a->arena);
    buf_fini(&a->buf);
}

/* W3C trace context of the answer: what Jaeger's own tracing would give the request. */
static void set_traceresponse(struct answer *a)
{
    uint8_t ids[24];
    char text[55];
    os_random(a->api->os, ids, sizeof ids);
    ids[0] |= 1; /* all-zero ids are invalid */
    ids[16] |= 1;
    memcpy(text, "00-", 3);
    num_put_hex(text + 3, ids, 16);
    text[35] = '-';
    num_put_hex(text + 36, ids + 16, 8);
    memcpy(text + 52, "-01", 3);
    http_set_header(a->r, "traceresponse", str_of(text, sizeof text));
}

static bool is_known_tenant(const char *tenants, struct str name)
{
    struct str rest = str_from_c(tenants), part;
    if (!rest.n)
        return true;
    while (str_split(&rest, ',', &part))
        if (str_eq(str_trim(part), name))
            return true;
    return false;
}

bool api_tenant(const struct http_req *r, struct str *tenant, const char **why)
{
    const struct jaeger_api *api = r->arg;
    const char *header = api->tenant_header ? api->tenant_header : "x-tenant";
    struct str name = http_header(r, str_from_c(header));
    if (!name.n)
        name = http_header(r, STR("x-scope-orgid"));
    *why = !name.n && api->tenant_required ? "missing tenant header" : "unknown tenant";
    bool ok = (name.n || !api->tenant_required) && tenant_check(name, tenant, NULL) == E_OK &&
              (!name.n || is_known_tenant(api->tenants, name));
    stat_add(STAT_REQUESTS_BAD_TENANT, !ok);
    return ok;
}

static bool flush_json(void *arg, struct buf *out)
{
    (void)out;
    return answer_flush(arg);
}

static unsigned indent_of(struct http_req *r)
{
    size_t at = 0;
    struct str v;
    bool pretty = http_param(r, STR("prettyPrint"), &at, &v) && v.n && !str_eq(v, STR("false"));
    return pretty ? 4 : 0;
}

bool answer_begin(struct answer *a, struct http_req *r, enum answer_form form)
{
    *a = (struct answer){.r = r, .api = r->arg, .form = form, .buf = buf_init(ANSWER_BUF_MAX)};
    a->arena = arena_init_within(a->api->memory, QUERY_ARENA_MAX);
    a->now_ns = os_now_ns(a->api->os);
    a->w = json_writer_init(&a->buf, form == ANSWER_V1 ? indent_of(r) : 0);
    a->sink = (struct jaeger_json_sink){flush_json, a};
    set_traceresponse(a);
    const char *why;
    if (api_tenant(r, &a->tenant, &why))
        return true;
    http_reply_text(r, 401, "%s", why);
    finish(a);
    return false;
}

struct snap *answer_snap(struct answer *a)
{
    if (!a->snap)
        a->snap = store_snap(a->api->store);
    return a->snap;
}

/* --- searching --- */

static void say_not_whole(struct answer *a)
{
    if (!a->said && !a->started)
        http_set_header(a->r, "x-search-complete", STR("false"));
    a->said = true;
}

bool answer_left_out(struct answer *a, enum errc rc)
{
    if (!a->hits || !err_is_damage(rc))
        return false;
    a->hits->unreadable++;
    say_not_whole(a);
    return true;
}

bool answer_search(struct answer *a, struct jaeger_search *s, struct trace_hits *hits)
{
    struct err e = {0};
    char cursor[QUERY_CURSOR_TEXT];
    s->q.tenant = a->tenant;
    s->q.max_time_ns = a->api->search_max_ns;
    s->q.max_bytes = a->api->search_max_bytes;
    enum errc rc = snap_search(answer_snap(a), &s->q, &a->arena, hits, &e);
    if (rc) {
        answer_fail_code(a, rc, &e);
        return false;
    }
    if (!trace_hits_whole(hits))
        say_not_whole(a);
    if (s->own && hits->more)
        http_set_header(a->r, "x-next-cursor",
                        str_of(cursor, query_cursor_put(cursor, s->q.order, &hits->next)));
    a->hits = hits;
    a->own = s->own;
    a->order = s->q.order;
    return true;
}

void answer_count(struct json_writer *w, struct str key, uint64_t n)
{
    if (n) {
        json_key(w, key);
        json_u64(w, n);
    }
}

void answer_coverage(struct answer *a)
{
    const struct trace_hits *hits = a->hits;
    struct json_writer *w = &a->w;
    char cursor[QUERY_CURSOR_TEXT];
    if (!hits || (!a->own && trace_hits_whole(hits)))
        return;
    if (hits->more) {
        JSON_KEY_C(w, "nextCursor");
        json_str(w, str_of(cursor, query_cursor_put(cursor, a->order, &hits->next)));
    }
    JSON_KEY_C(w, "coverage");
    json_object(w);
    JSON_KEY_C(w, "complete");
    json_bool(w, trace_hits_whole(hits));
    JSON_KEY_C(w, "blocks");
    json_u64(w, hits->blocks);
    JSON_KEY_C(w, "blocksRead");
    json_u64(w, hits->blocks_read);
    JSON_KEY_C(w, "bytesRead");
    json_u64(w, hits->bytes_read);
    if (!hits->complete) {
        JSON_KEY_C(w, "lookedAbove");
        json_u64_str(w, hits->looked_above);
    }
    answer_count(w, STR("damagedBlocks"), hits->damaged);
    answer_count(w, STR("unreadableTraces"), hits->unreadable);
    if (!trace_hits_whole(hits)) {
        JSON_KEY_C(w, "sentence");
        json_str(w, query_coverage_text(hits, a->order, &a->arena));
    }
    json_object_end(w);
}

/* --- ending --- */

bool answer_flush(struct answer *a)
{
    if (a->gone)
        return false;
    if (!a->started && a->buf.n < ANSWER_WHOLE_MAX)
        return true;
    if (!a->started)
        http_start(a->r, 200, "application/json");
    a->started = true;
    a->gone = !http_write(a->r, buf_str(&a->buf));
    buf_reset(&a->buf);
    return !a->gone;
}

/* True when the client's If-None-Match names the body. The tag is weak: the same content may be
 * sent compressed or not. */
static bool client_has(struct answer *a)
{
    struct str body = buf_str(&a->buf);
    uint64_t hash[2] = {hash_str(body, 1), hash_str(body, 2)};
    char tag[40] = "W/\"";
    num_put_hex(tag + 3, hash, sizeof hash);
    tag[35] = '"';
    struct str etag = str_of(tag, 36);
    http_set_header(a->r, "etag", etag);
    struct str rest = http_header(a->r, STR("if-none-match")), part;
    while (rest.n && str_split(&rest, ',', &part)) {
        part = str_trim(part);
        if (str_eq(part, etag) || str_eq(part, str_skip(etag, 2)) || str_eq(part, STR("*")))
            return true;
    }
    return false;
}

void answer_send(struct answer *a, bool etag)
{
    if (a->buf.failed) {
        answer_break(a, STR("the answer is larger than the limit"));
        return;
    }
    stat_add(STAT_QUERIES, 1);
    if (a->started) {
        bool ok = !a->gone && http_write(a->r, buf_str(&a->buf));
        http_end(a->r, ok);
    } else if (etag && client_has(a)) {
        http_reply(a->r, 304, "application/json", STR(""));
    } else {
        http_reply(a->r, 200, "application/json", buf_str(&a->buf));
    }
    finish(a);
}

static void put_error(struct json_writer *w, const struct answer_error *e)
{
    json_object(w);
    if (e->code) {
        JSON_KEY_C(w, "code");
        json_i64(w, e->code);
    }
    JSON_KEY_C(w, "msg");
    json_str(w, e->message);
    if (e->trace_id) {
        char text[32];
        JSON_KEY_C(w, "traceID");
        json_str(w, str_of(text, jaeger_trace_id_text(e->trace_id, text)));
    }
    json_object_end(w);
}

void answer_envelope(struct answer *a)
{
    json_object(&a->w);
    JSON_KEY_C(&a->w, "data");
}

void answer_envelope_end(struct answer *a, size_t total, const struct answer_error *errors)
{
    struct json_writer *w = &a->w;
    JSON_KEY_C(w, "total");
    json_u64(w, total);
    JSON_KEY_C(w, "limit");
    json_u64(w, a->limit);
    JSON_KEY_C(w, "offset");
    json_u64(w, a->offset);
    JSON_KEY_C(w, "errors");
    if (errors) {
        json_array(w);
        for (const struct answer_error *e = errors; e; e = e->next)
            put_error(w, e);
        json_array_end(w);
    } else {
        json_null(w);
    }
    answer_coverage(a);
    json_object_end(w);
}

static void put_v3_error(struct json_writer *w, int status, struct str message)
{
    json_object(w);
    JSON_KEY_C(w, "error");
    json_object(w);
    JSON_KEY_C(w, "httpCode");
    json_i64(w, status);
    JSON_KEY_C(w, "message");
    json_str(w, message);
    json_object_end(w);
    json_object_end(w);
}

void answer_fail(struct answer *a, int status, struct str message)
{
    ensure(!a->started);
    stat_add(status >= 500 ? STAT_QUERIES_FAILED : STAT_QUERIES, 1);
    if (status == 400)
        stat_add(STAT_REQUESTS_BAD_PARAM, 1);
    buf_reset(&a->buf);
    a->hits = NULL;
    a->w = json_writer_init(&a->buf, 0);
    if (a->form == ANSWER_V1) {
        answer_envelope(a);
        json_null(&a->w);
        answer_envelope_end(a, 0, &(struct answer_error){.code = status, .message = message});
    } else {
        put_v3_error(&a->w, status, message);
    }
    buf_add_char(&a->buf, '\n');
    /* As Go's http.Error does it: JSON, but called text. Clients compare. */
    http_reply(a->r, status, "text/plain; charset=utf-8", buf_str(&a->buf));
    finish(a);
}

const char *answer_sentence(enum errc code, const struct err *e)
{
    bool detail = e && e->msg[0];
    if (code == E_IO || code == E_CORRUPT || code == E_VERSION || code == E_INTERNAL) {
        /* It may name files: that is for the operator. */
        log_error("query", "%s", detail ? e->msg : err_text(code));
        return err_text(code);
    }
    return detail ? e->msg : err_text(code);
}

void answer_fail_code(struct answer *a, enum errc code, const struct err *e)
{
    char text[2 * ERR_MSG_MAX];
    int status = err_http(code);
    if (status < 500 && code != E_NOT_FOUND)
        status = 500; /* the server's own trouble: the request was checked before */
    snprintf(text, sizeof text, "%s%s", answer_sentence(code, e), err_hint(code));
    answer_fail(a, status, str_from_c(text));
}

void answer_fail_trace(struct answer *a, enum errc code, const struct err *e)
{
    struct err more = *e;
    if (code == E_NO_MEMORY)
        fail(&more, code, "%s; ?offset=0&limit=%u reads it in pages", err_msg(e),
             PAGE_SPANS_DEFAULT);
    answer_fail_code(a, code, &more);
}

void answer_break(struct answer *a, struct str message)
{
    if (!a->started) {
        answer_fail(a, 500, message);
        return;
    }
    stat_add(STAT_QUERIES_FAILED, 1);
    http_end(a->r, false);
    finish(a);
}

/* --- the route table --- */

static void reply_plain(struct http_req *r, int status, const char *allow, const char *text)
{
    struct answer a;
    if (!answer_begin(&a, r, ANSWER_V1))
        return;
    if (allow)
        http_set_header(r, "allow", str_from_c(allow));
    http_reply_text(r, status, "%s", text);
    finish(&a);
}

static void only_get(struct http_req *r)
{
    stat_add(STAT_REQUESTS_BAD_METHOD, 1);
    reply_plain(r, 405, "GET, HEAD", "Method Not Allowed");
}

static void only_post(struct http_req *r)
{
    stat_add(STAT_REQUESTS_BAD_METHOD, 1);
    reply_plain(r, 405, "POST", "Method Not Allowed");
}

static void no_such_path(struct http_req *r)
{
    stat_add(STAT_REQUESTS_BAD_PATH, 1);
    reply_plain(r, 404, NULL, "404 page not found");
}

static char *under(const char *base, const char *path)
{
    size_t base_n = base && strcmp(base, "/") != 0 ? strlen(base) : 0, n = strlen(path);
    char *joined = xmalloc(base_n + n + 1);
    if (base_n)
        memcpy(joined, base, base_n);
    memcpy(joined + base_n, path, n + 1);
    return joined;
}

size_t jaeger_api_routes(const struct jaeger_api *api, struct http_route **out)
{
    size_t rows = jaeger_v1_route_count + jaeger_v3_route_count, n = 0;
    struct http_route *routes = xcalloc(2 * rows + 1, sizeof *routes);
    for (size_t i = 0; i < rows; i++) {
        routes[n] = i < jaeger_v3_route_count ? jaeger_v3_routes[i]
                                              : jaeger_v1_routes[i - jaeger_v3_route_count];
        routes[n].path = under(api->base_path, routes[n].path);
        n++;
    }
    for (size_t i = 0; i < rows; i++)
        routes[n++] = (struct http_route){
            "*", xstrdup(routes[i].path),
            strcmp(routes[i].method, "GET") == 0 ? only_get : only_post, HTTP_ON_LOOP};
    routes[n++] = (struct http_route){"*", under(api->base_path, "/api/{rest...}"), no_such_path,
                                      HTTP_ON_LOOP};
    *out = routes;
    return n;
}

void jaeger_api_routes_free(struct http_route *routes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        union {
            const char *in;
            void *out;
        } path = {.in = routes[i].path};
        free(path.out);
    }
    free(routes);
}
