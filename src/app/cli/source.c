/* SPDX-License-Identifier: Apache-2.0 */
/* Over HTTP the answers are Jaeger's (v1 for names and calls, v3 for traces and summaries), so that
 * the commands also work against a Jaeger; only export has a route of its own. */
#include "app/cli/source.h"

#include "base/num.h"
#include "codec/json.h"
#include "codec/otlp.h"
#include "engine/ingest/ingest.h"
#include "serve/api/discover.h"
#include "serve/api/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ANSWER_MAX (512 * MIB)
#define TIMEOUT_NS (30 * NS_PER_S)
#define ARENA_MAX  (4 * GIB)
#define SAID_MAX   220 /* of a server's sentence */

/* --- opening --- */

int source_open_store(const struct cli *c, const char *dir, struct store **out)
{
    struct store_config k;
    struct err e = {0};
    if (access(dir, F_OK) != 0)
        return cli_fail(c, CLI_NOT_FOUND, "%s: there is no such directory", dir);
    store_config_visitor(&k, os_posix(), dir);
    k.must_exist = true;
    enum errc code = store_open(out, &k, &e);
    if (code == E_LOCKED)
        return cli_fail(c, CLI_UNREACHABLE,
                        "%s is held by a running server; leave --data out and ask it with --url",
                        dir);
    return code ? cli_fail_err(c, &e) : CLI_OK;
}

static int open_directory(struct source *s, const char *dir)
{
    int code = source_open_store(s->cli, dir, &s->store);
    if (!code)
        s->snap = store_snap(s->store);
    return code;
}

int source_open(struct source *s, const struct cli *c)
{
    struct err e = {0};
    *s = (struct source){.cli = c, .client.fd = -1, .arena = arena_init(ARENA_MAX)};
    const char *tenant = cli_value(c, "tenant"), *url = cli_value(c, "url");
    if (tenant_check(str_from_c(tenant), &s->tenant, &e))
        return cli_fail(c, CLI_USAGE, "--tenant: %s", err_msg(&e));
    if (cli_value(c, "data"))
        return open_directory(s, cli_value(c, "data"));
    if (tenant)
        snprintf(s->headers, sizeof s->headers, "x-tenant: %s\r\n", tenant);
    if (!url)
        url = getenv("LYMER_URL");
    s->guessed = !url || !*url;
    if (client_init(&s->client, s->guessed ? "http://127.0.0.1:16686" : url, TIMEOUT_NS, &e))
        return cli_fail(c, CLI_USAGE, "%s", err_msg(&e));
    return CLI_OK;
}

void source_close(struct source *s)
{
    if (s->snap)
        snap_unref(s->snap);
    if (s->store)
        store_close(s->store);
    client_fini(&s->client);
    arena_fini(&s->arena);
    if (s->held)
        batch_unref(s->held);
}

void source_print(struct buf *out)
{
    if (out->failed)
        return;
    cli_out(buf_str(out));
    buf_reset(out);
}

int source_finish(struct source *s, struct buf *out, int code)
{
    if (out->failed)
        code = cli_fail(s->cli, CLI_TRUE, "the output is larger than %zu bytes", out->max);
    else
        cli_out(buf_str(out));
    buf_fini(out);
    source_close(s);
    return code;
}

int source_finish_err(struct source *s, struct buf *out, const struct err *e)
{
    buf_fini(out);
    return source_end(s, cli_fail_err(s->cli, e));
}

int source_end(struct source *s, int code)
{
    source_close(s);
    return code;
}

/* --- HTTP --- */

/* Takes Jaeger's sentence out of an error body, or the body as it is. */
static void error_sentence(struct str body, char out[SAID_MAX])
{
    static const char *const keys[] = {"\"msg\":\"", "\"message\":\""};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        size_t n = strlen(keys[i]);
        const char *at = body.n ? memmem(body.p, body.n, keys[i], n) : NULL;
        if (at) {
            body = str_skip(body, (size_t)(at - body.p) + n);
            body = str_take(body, str_find(body, '"'));
            break;
        }
    }
    int n = snprintf(out, SAID_MAX, "%.*s", STR_ARG(str_take(body, SAID_MAX - 1)));
    while (n > 0 && (unsigned char)out[n - 1] <= ' ')
        out[--n] = 0;
}

/* Any answer is E_OK; fini it always. */
static enum errc call(struct source *s, const struct buf *path, size_t body_max, client_sink *sink,
                      void *arg, struct client_answer *a, struct err *e)
{
    *a = (struct client_answer){0};
    enum errc code = path->failed ? fail(e, E_USAGE, "the question is too long")
                                  : client_call(&s->client, "GET", path->p, s->headers, STR_NONE,
                                                body_max, sink, arg, a, e);
    s->status = code ? 0 : a->status;
    if (code == E_UNAVAILABLE && !a->status && s->guessed) {
        struct err why = *e;
        code = fail(e, code, "%s: is a server there? --url or LYMER_URL names another",
                    err_msg(&why));
    }
    return code;
}

/* Fails with what the server says. */
static enum errc refused(const struct client_answer *a, enum errc code, struct err *e)
{
    char said[SAID_MAX];
    error_sentence(buf_str(&a->body), said);
    return fail(e, code, code == E_NOT_FOUND ? "%s" : "%s (HTTP %d)", said, a->status);
}

/* The body in s->arena. 404 is E_NOT_FOUND, 503 and the like E_UNAVAILABLE. */
static enum errc ask(struct source *s, const struct buf *path, struct str *body, struct err *e)
{
    struct client_answer a;
    enum errc code = call(s, path, ANSWER_MAX, NULL, NULL, &a, e);
    if (!code && a.status / 100 != 2) {
        code = refused(&a,
                       a.status == 404   ? E_NOT_FOUND
                       : a.status == 400 ? E_INVALID
                                         : E_UNAVAILABLE,
                       e);
    } else if (!code) {
        *body = arena_str(&s->arena, buf_str(&a.body));
        if (!body->p && a.body.n)
            code = fail(e, E_NO_MEMORY, "the answer is too large");
    }
    client_answer_fini(&a);
    return code;
}

static struct buf path_of(const char *text)
{
    struct buf b = buf_init(64 * KIB);
    buf_add_c(&b, text);
    return b;
}

static void path_add(struct buf *b, const char *name, struct str value)
{
    buf_add_char(b, memchr(b->p, '?', b->n) ? '&' : '?');
    buf_addf(b, "%s=", name);
    client_add_encoded(b, value);
}

static enum errc ask_path(struct source *s, struct buf *path, struct str *body, struct err *e)
{
    buf_add_char(path, 0);
    enum errc code = ask(s, path, body, e);
    buf_fini(path);
    return code;
}

/* --- reading answers --- */

static enum errc not_understood(const struct json_reader *r, struct err *e)
{
    return fail(e, E_INVALID, "the answer is not what was expected (byte %zu)", json_offset(r));
}

/* Moves to the value of `key` in the top-level object. */
static bool find_key(struct json_reader *r, struct str key)
{
    if (json_next(r) != JSON_OBJECT)
        return false;
    while (json_next(r) == JSON_KEY) {
        if (str_eq(r->text, key))
            return true;
        json_next(r);
        json_skip(r);
    }
    return false;
}

/* A growing array in the arena. */
static void *grown(struct arena *a, void *v, size_t n, size_t size)
{
    if (n & (n - 1) || (n && n < 16))
        return v;
    void *more = arena_calloc(a, n ? n * 2 : 16, size, 16);
    if (more && n)
        memcpy(more, v, n * size);
    return more;
}

enum errc source_services(struct source *s, struct str **out, size_t *n, struct err *e)
{
    struct str body;
    struct json_reader r;
    if (s->store)
        return snap_services(s->snap, s->tenant, &s->arena, out, n);
    struct buf path = path_of("/api/services");
    enum errc code = ask_path(s, &path, &body, e);
    *out = NULL;
    *n = 0;
    if (code)
        return code;
    json_reader_init(&r, body, &s->arena);
    if (!find_key(&r, STR("data")))
        return not_understood(&r, e);
    if (json_next(&r) != JSON_ARRAY)
        return r.type == JSON_NULL ? E_OK : not_understood(&r, e);
    while (json_next(&r) == JSON_STRING) {
        *out = grown(&s->arena, *out, *n, sizeof **out);
        if (!*out)
            return fail(e, E_NO_MEMORY, "too many services");
        (*out)[(*n)++] = r.text;
    }
    return r.type == JSON_ARRAY_END ? E_OK : not_understood(&r, e);
}

static enum span_kind kind_from(struct str s)
{
    static const char *const names[] = {"", "internal", "server", "client", "producer", "consumer"};
    for (unsigned i = 1; i < ARRAY_LEN(names); i++)
        if (str_eq_c(s, names[i]))
            return (enum span_kind)i;
    return KIND_UNSPECIFIED;
}

/* The fields of one object; each() gets the key while r stands on the value. */
static bool each_field(struct json_reader *r,
                       void (*each)(void *arg, struct str key, struct json_reader *r), void *arg)
{
    while (json_next(r) == JSON_KEY) {
        struct str key = r->text;
        json_next(r);
        each(arg, key, r);
    }
    return r->type == JSON_OBJECT_END;
}

static void operation_field(void *arg, struct str key, struct json_reader *r)
{
    struct operation *o = arg;
    if (str_eq(key, STR("name")))
        o->name = r->text;
    else if (str_eq(key, STR("spanKind")))
        o->kind = kind_from(r->text);
    else
        json_skip(r);
}

/* The objects of an answer's "data", each `item_bytes` long and filled in by `field`. */
static enum errc ask_list(struct source *s, struct buf *path, const char *what, size_t item_bytes,
                          void (*field)(void *item, struct str key, struct json_reader *r),
                          void **out, size_t *n, struct err *e)
{
    struct str body;
    struct json_reader r;
    char *list = NULL;
    *out = NULL;
    *n = 0;
    enum errc code = ask_path(s, path, &body, e);
    if (code)
        return code;
    json_reader_init(&r, body, &s->arena);
    if (!find_key(&r, STR("data")))
        return not_understood(&r, e);
    if (json_next(&r) != JSON_ARRAY)
        return r.type == JSON_NULL ? E_OK : not_understood(&r, e);
    while (json_next(&r) == JSON_OBJECT) {
        *out = list = grown(&s->arena, list, *n, item_bytes);
        if (!list)
            return fail(e, E_NO_MEMORY, "too many %s", what);
        if (!each_field(&r, field, list + (*n)++ * item_bytes))
            return not_understood(&r, e);
    }
    return r.type == JSON_ARRAY_END ? E_OK : not_understood(&r, e);
}

enum errc source_operations(struct source *s, struct str service, struct operation **out, size_t *n,
                            struct err *e)
{
    if (s->store)
        return snap_operations(s->snap, s->tenant, service, -1, &s->arena, out, n);
    struct buf path = path_of("/api/operations");
    path_add(&path, "service", service);
    void *list;
    enum errc code = ask_list(s, &path, "operations", sizeof **out, operation_field, &list, n, e);
    *out = list;
    return code;
}

static void dependency_field(void *arg, struct str key, struct json_reader *r)
{
    struct dependency *d = arg;
    if (str_eq(key, STR("parent")))
        d->parent = r->text;
    else if (str_eq(key, STR("child")))
        d->child = r->text;
    else if (!str_eq(key, STR("callCount")) || !num_get_u64(r->text, &d->calls))
        json_skip(r);
}

enum errc source_dependencies(struct source *s, uint64_t from_ns, uint64_t to_ns,
                              struct dependency **out, size_t *n, struct err *e)
{
    char number[NUM_TEXT_MAX];
    if (s->store)
        return snap_dependencies(s->snap, s->tenant, from_ns, to_ns, &s->arena, out, n);
    struct buf path = path_of("/api/dependencies");
    path_add(&path, "endTs", str_of(number, num_put_u64(number, to_ns / NS_PER_MS)));
    path_add(&path, "lookback", str_of(number, num_put_u64(number, (to_ns - from_ns) / NS_PER_MS)));
    void *list;
    enum errc code = ask_list(s, &path, "dependencies", sizeof **out, dependency_field, &list, n,
                              e);
    *out = list;
    return code;
}

/* --- search --- */

static uint64_t u64_of(struct str s)
{
    uint64_t v = 0;
    return num_get_u64(s, &v) ? v : 0;
}

static void summary_services(struct trace_summary *t, struct json_reader *r, struct arena *a)
{
    if (r->type != JSON_ARRAY) {
        json_skip(r);
        return;
    }
    while (json_next(r) == JSON_OBJECT) {
        t->services = grown(a, t->services, t->service_count, sizeof *t->services);
        struct service_summary one = {0};
        while (json_next(r) == JSON_KEY) {
            struct str key = r->text;
            json_next(r);
            if (str_eq(key, STR("name")))
                one.name = r->text;
            else if (str_eq(key, STR("spanCount")))
                one.span_count = u64_of(r->text);
            else if (str_eq(key, STR("errorSpanCount")))
                one.error_count = u64_of(r->text);
            else
                json_skip(r);
        }
        if (!t->services)
            return;
        t->services[t->service_count++] = one;
    }
}

static void others_field(void *arg, struct str key, struct json_reader *r)
{
    struct trace_summary *t = arg;
    if (str_eq(key, STR("serviceCount")))
        t->other_services = (uint32_t)u64_of(r->text);
    else if (str_eq(key, STR("spanCount")))
        t->others.span_count = u64_of(r->text);
    else if (str_eq(key, STR("errorSpanCount")))
        t->others.error_count = u64_of(r->text);
    else
        json_skip(r);
}

static void summary_field(struct trace_summary *t, struct str key, struct json_reader *r,
                          struct arena *a)
{
    if (str_eq(key, STR("traceId")))
        (void)!num_get_hex(r->text, t->trace_id, 16);
    else if (str_eq(key, STR("rootServiceName")))
        t->root_service = r->text;
    else if (str_eq(key, STR("rootOperationName")))
        t->root_operation = r->text;
    else if (str_eq(key, STR("minStartTimeUnixNano")))
        t->min_start_ns = u64_of(r->text);
    else if (str_eq(key, STR("maxEndTimeUnixNano")))
        t->max_end_ns = u64_of(r->text);
    else if (str_eq(key, STR("spanCount")))
        t->span_count = u64_of(r->text);
    else if (str_eq(key, STR("errorSpanCount")))
        t->error_count = u64_of(r->text);
    else if (str_eq(key, STR("orphanSpanCount")))
        t->orphan_count = u64_of(r->text);
    else if (str_eq(key, STR("rootSpanCount")))
        t->root_count = u64_of(r->text);
    else if (str_eq(key, STR("orphansUnknown")))
        t->orphans_unknown = r->type == JSON_TRUE;
    else if (str_eq(key, STR("asStored")))
        t->stored = r->type == JSON_TRUE;
    else if (str_eq(key, STR("otherServices")) && r->type == JSON_OBJECT)
        (void)!each_field(r, others_field, t); /* damage is sticky: the caller's loop ends */
    else if (str_eq(key, STR("services")))
        summary_services(t, r, a);
    else
        json_skip(r);
}

static enum errc read_summaries(struct source *s, struct json_reader *r, struct source_page *out,
                                struct err *e)
{
    if (r->type != JSON_ARRAY)
        return not_understood(r, e);
    while (json_next(r) == JSON_OBJECT) {
        out->v = grown(&s->arena, out->v, out->n, sizeof *out->v);
        if (!out->v)
            return fail(e, E_NO_MEMORY, "too many traces");
        struct trace_summary *t = &out->v[out->n++];
        while (json_next(r) == JSON_KEY) {
            struct str key = r->text;
            json_next(r);
            summary_field(t, key, r, &s->arena);
        }
        if (r->type != JSON_OBJECT_END)
            return not_understood(r, e);
    }
    return r->type == JSON_ARRAY_END ? E_OK : not_understood(r, e);
}

static void coverage_field(void *arg, struct str key, struct json_reader *r)
{
    struct source_page *page = arg;
    if (str_eq(key, STR("sentence")))
        page->warning = r->text;
    else
        json_skip(r);
}

/* *knows: the server said how far it looked, so it knows our own parameters. */
static enum errc read_page(struct source *s, struct str body, struct source_page *out, bool *knows,
                           struct err *e)
{
    struct json_reader r;
    enum errc code = E_OK;
    *knows = false;
    json_reader_init(&r, body, &s->arena);
    if (json_next(&r) != JSON_OBJECT)
        return not_understood(&r, e);
    while (!code && json_next(&r) == JSON_KEY) {
        struct str key = r.text;
        json_next(&r);
        if (str_eq(key, STR("summaries"))) {
            code = read_summaries(s, &r, out, e);
        } else if (str_eq(key, STR("nextCursor"))) {
            out->cursor = r.text;
        } else if (str_eq(key, STR("coverage")) && r.type == JSON_OBJECT) {
            *knows = true;
            if (!each_field(&r, coverage_field, out))
                return not_understood(&r, e);
        } else {
            json_skip(&r);
        }
    }
    return code || r.type == JSON_OBJECT_END ? code : not_understood(&r, e);
}

static void path_add_time(struct buf *path, const char *name, uint64_t ns)
{
    char text[NUM_TEXT_MAX];
    path_add(path, name, str_of(text, num_put_rfc3339(text, ns)));
}

static void path_add_duration(struct buf *path, const char *name, uint64_t ns)
{
    char text[NUM_TEXT_MAX];
    if (ns)
        path_add(path, name, str_of(text, num_put_duration(text, (int64_t)ns)));
}

static void path_add_tags(struct buf *path, const struct trace_query *q)
{
    if (!q->tag_count)
        return;
    struct buf json = buf_init(64 * KIB);
    struct json_writer w = json_writer_init(&json, 0);
    json_object(&w);
    for (uint32_t i = 0; i < q->tag_count; i++) {
        if (q->tags[i].op != TAG_EQUALS)
            continue;
        json_key(&w, q->tags[i].key);
        json_str(&w, q->tags[i].value);
    }
    json_object_end(&w);
    path_add(path, "query.attributes", buf_str(&json));
    path->failed |= json.failed;
    buf_fini(&json);
}

/* What only our own servers know: status, kind and presence. True when there is any. */
static bool path_add_own(struct buf *path, const struct trace_query *q)
{
    bool any = q->statuses || q->kind >= 0;
    if (q->statuses)
        path_add(path, "status", str_from_c(query_status_name(q->statuses)));
    if (q->kind >= 0)
        path_add(path, "kind", str_from_c(query_kind_name(q->kind)));
    for (uint32_t i = 0; i < q->tag_count; i++)
        if (q->tags[i].op == TAG_EXISTS) {
            path_add(path, "has", q->tags[i].key);
            any = true;
        }
    return any;
}

static enum errc search_http(struct source *s, const struct trace_query *q, struct source_page *out,
                             struct err *e)
{
    struct str body;
    char number[NUM_TEXT_MAX], cursor[QUERY_CURSOR_TEXT];
    struct buf path = path_of("/api/v3/trace-summaries");
    if (q->service.n)
        path_add(&path, "query.serviceName", q->service);
    if (q->operation.n)
        path_add(&path, "query.operationName", q->operation);
    path_add_time(&path, "query.startTimeMin", q->start_min_ns);
    path_add_time(&path, "query.startTimeMax", q->start_max_ns);
    path_add_duration(&path, "query.durationMin", q->duration_min_ns);
    path_add_duration(&path, "query.durationMax", q->duration_max_ns);
    path_add(&path, "query.searchDepth", str_of(number, num_put_u64(number, q->limit)));
    path_add_tags(&path, q);
    bool own = path_add_own(&path, q) || q->order != ORDER_NEWEST || q->after, knows;
    path_add(&path, "order", str_from_c(query_order_name(q->order)));
    if (q->after)
        path_add(&path, "cursor", str_of(cursor, query_cursor_put(cursor, q->order, q->after)));
    enum errc code = ask_path(s, &path, &body, e);
    if (code)
        return code == E_NOT_FOUND ? E_OK : code;
    code = read_page(s, body, out, &knows, e);
    if (!code && own && !knows)
        code = fail(e, E_INVALID,
                    "the server does not know --order, --cursor, --status, --kind and --has");
    return code;
}

/* Out of the arena that is emptied for the next one. */
static bool keep_summary(struct trace_summary *t, struct arena *a)
{
    struct service_summary *kept = ARENA_ARRAY(a, struct service_summary, t->service_count);
    for (uint32_t i = 0; kept && i < t->service_count; i++) {
        kept[i] = t->services[i];
        kept[i].name = arena_str(a, kept[i].name);
    }
    t->services = kept;
    t->root_service = arena_str(a, t->root_service);
    t->root_operation = arena_str(a, t->root_operation);
    return !a->failed;
}

static enum errc search_store(struct source *s, const struct trace_query *q,
                              struct source_page *out, struct err *e)
{
    static const struct adjust_config adjust = {0};
    char cursor[QUERY_CURSOR_TEXT];
    struct trace_hits hits;
    enum errc code = snap_search(s->snap, q, &s->arena, &hits, e);
    if (code)
        return code;
    out->v = ARENA_ARRAY(&s->arena, struct trace_summary, hits.n);
    struct arena one = arena_init(QUERY_ARENA_MAX);
    for (uint32_t i = 0; i < hits.n && !code && out->v; i++) {
        code = query_summary(s->snap, s->tenant, hits.v[i].trace_id, &adjust, &one, &out->v[out->n],
                             e);
        if (err_is_damage(code)) { /* as the server has it */
            hits.unreadable++;
            code = E_OK;
        } else if (!code && !keep_summary(&out->v[out->n++], &s->arena)) {
            code = fail(e, E_NO_MEMORY, "too many traces");
        }
    }
    arena_fini(&one);
    if (hits.more)
        out->cursor = arena_str(&s->arena,
                                str_of(cursor, query_cursor_put(cursor, q->order, &hits.next)));
    if (!trace_hits_whole(&hits))
        out->warning = query_coverage_text(&hits, q->order, &s->arena);
    return code;
}

enum errc source_search(struct source *s, const struct trace_query *q, struct source_page *out,
                        struct err *e)
{
    *out = (struct source_page){0};
    return s->store ? search_store(s, q, out, e) : search_http(s, q, out, e);
}

/* --- discovery and cost --- */

/* The objects of the array that r stands on, each `item_bytes` long and filled in by `field`. */
static void *read_list(struct source *s, struct json_reader *r, size_t item_bytes,
                       void (*field)(void *item, struct str key, struct json_reader *r), size_t *n)
{
    char *list = NULL;
    *n = 0;
    while (r->type != JSON_ERROR && json_next(r) == JSON_OBJECT) {
        list = grown(&s->arena, list, *n, item_bytes);
        if (!list || !each_field(r, field, list + (*n)++ * item_bytes))
            break;
    }
    return list;
}

static uint32_t read_types(struct json_reader *r)
{
    uint32_t types = 0;
    while (r->type != JSON_ERROR && json_next(r) == JSON_STRING)
        for (unsigned i = 0; i < ATTR_TYPE_COUNT; i++)
            types |= str_eq_c(r->text, discover_types[i]) ? 1u << i : 0;
    return types;
}

static void discovered_text_field(void *arg, struct str key, struct json_reader *r)
{
    struct discovered_text *t = arg;
    if (str_eq(key, STR("key")) || str_eq(key, STR("value")))
        t->text = r->text;
    else if (str_eq(key, STR("place")))
        (void)!discover_place_from(r->text, &t->place);
    else if (str_eq(key, STR("types")))
        t->types = read_types(r);
    else if (str_eq(key, STR("count")))
        t->count = u64_of(r->text);
    else if (str_eq(key, STR("missed")))
        t->missed = u64_of(r->text);
    else
        json_skip(r);
}

static void discovered_field(struct source *s, struct discovered *d, struct str key,
                             struct json_reader *r)
{
    if (str_eq(key, STR("data")))
        d->v = read_list(s, r, sizeof *d->v, discovered_text_field, &d->n);
    else if (str_eq(key, STR("total")))
        d->total = u64_of(r->text);
    else if (str_eq(key, STR("spans")))
        d->spans = u64_of(r->text);
    else if (str_eq(key, STR("missed")))
        d->missed = u64_of(r->text);
    else if (str_eq(key, STR("longer")))
        d->longer = u64_of(r->text);
    else if (str_eq(key, STR("complete")))
        d->complete = r->type == JSON_TRUE;
    else if (str_eq(key, STR("coveredAfter")))
        d->after_ns = u64_of(r->text) * NS_PER_US;
    else
        json_skip(r);
}

static struct buf discover_path(const struct discover_query *q, const char *key)
{
    char number[NUM_TEXT_MAX];
    struct buf path = path_of("/api/attributes");
    if (key) {
        buf_add_char(&path, '/');
        client_add_encoded(&path, str_from_c(key));
        buf_add_c(&path, "/values");
    }
    if (q->service.n)
        path_add(&path, "service", q->service);
    if (q->prefix.n)
        path_add(&path, "prefix", q->prefix);
    path_add(&path, "place", str_from_c(discover_places[q->place]));
    path_add(&path, "start", str_of(number, num_put_u64(number, q->start_min_ns / NS_PER_US)));
    path_add(&path, "end", str_of(number, num_put_u64(number, q->start_max_ns / NS_PER_US)));
    path_add(&path, "limit", str_of(number, num_put_u64(number, q->limit)));
    return path;
}

enum errc source_discover(struct source *s, struct discover_query *q, const char *key,
                          struct discovered *out, struct err *e)
{
    struct str body;
    struct json_reader r;
    *out = (struct discovered){0};
    q->tenant = s->tenant;
    if (s->store)
        return key ? snap_values(s->snap, q, str_from_c(key), &s->arena, out, e)
                   : snap_keys(s->snap, q, &s->arena, out, e);
    struct buf path = discover_path(q, key);
    enum errc code = ask_path(s, &path, &body, e);
    if (code)
        return code;
    json_reader_init(&r, body, &s->arena);
    if (json_next(&r) != JSON_OBJECT)
        return not_understood(&r, e);
    while (json_next(&r) == JSON_KEY) {
        struct str field = r.text;
        json_next(&r);
        discovered_field(s, out, field, &r);
    }
    return r.type == JSON_OBJECT_END ? E_OK : not_understood(&r, e);
}

static void cost_operation_field(void *arg, struct str key, struct json_reader *r)
{
    struct cost_operation *o = arg;
    if (str_eq(key, STR("service")))
        o->service = r->text;
    else if (str_eq(key, STR("operation")))
        o->name = r->text;
    else if (str_eq(key, STR("spans")))
        o->spans = u64_of(r->text);
    else if (str_eq(key, STR("bytes")))
        o->bytes = u64_of(r->text);
    else
        json_skip(r);
}

static void cost_column_field(void *arg, struct str key, struct json_reader *r)
{
    struct cost_column *c = arg;
    if (str_eq(key, STR("name")))
        c->name = r->text;
    else if (str_eq(key, STR("kind")))
        (void)!cost_kind_from(r->text, &c->kind);
    else if (str_eq(key, STR("types")))
        c->types = read_types(r);
    else if (str_eq(key, STR("bytes")))
        c->bytes = u64_of(r->text);
    else
        json_skip(r);
}

static void cost_field(struct source *s, struct cost *c, struct str key, struct json_reader *r)
{
    if (str_eq(key, STR("services")))
        c->services = read_list(s, r, sizeof *c->services, cost_operation_field, &c->service_n);
    else if (str_eq(key, STR("operations")))
        c->operations = read_list(s, r, sizeof *c->operations, cost_operation_field,
                                  &c->operation_n);
    else if (str_eq(key, STR("columns")))
        c->columns = read_list(s, r, sizeof *c->columns, cost_column_field, &c->column_n);
    else if (str_eq(key, STR("bytes")))
        c->bytes = u64_of(r->text);
    else if (str_eq(key, STR("spans")))
        c->spans = u64_of(r->text);
    else if (str_eq(key, STR("blocks")))
        c->blocks = u64_of(r->text);
    else if (str_eq(key, STR("waitingSpans")))
        c->waiting_spans = u64_of(r->text);
    else if (str_eq(key, STR("complete")))
        c->complete = r->type == JSON_TRUE;
    else if (str_eq(key, STR("coveredAfter")))
        c->after_ns = u64_of(r->text) * NS_PER_US;
    else
        json_skip(r);
}

enum errc source_cost(struct source *s, struct cost *out, struct err *e)
{
    struct str body;
    struct json_reader r;
    *out = (struct cost){0};
    if (s->store)
        return snap_cost(s->snap, s->tenant, 0, &s->arena, out, e);
    struct buf path = path_of("/api/cost");
    enum errc code = ask_path(s, &path, &body, e);
    if (code)
        return code;
    json_reader_init(&r, body, &s->arena);
    if (!find_key(&r, STR("data")) || json_next(&r) != JSON_OBJECT)
        return not_understood(&r, e);
    while (json_next(&r) == JSON_KEY) {
        struct str field = r.text;
        json_next(&r);
        cost_field(s, out, field, &r);
    }
    return r.type == JSON_OBJECT_END ? E_OK : not_understood(&r, e);
}

/* --- one trace --- */

static bool same_id(const void *a, const void *b)
{
    return memcmp(a, b, 16) == 0;
}

/* The trace that most of the first spans belong to: with one trace in it, that one. */
static const uint8_t *main_trace(const struct batch *b)
{
    const uint8_t *best = NULL;
    uint32_t most = 0;
    for (uint32_t i = 0; i < b->head->span_count && i < 1000; i++) {
        uint32_t n = 0;
        if (best && same_id(b->spans[i].trace_id, best))
            continue;
        for (uint32_t j = 0; j < b->head->span_count; j++)
            n += same_id(b->spans[j].trace_id, b->spans[i].trace_id);
        if (n > most) {
            most = n;
            best = b->spans[i].trace_id;
        }
        if (most >= b->head->span_count - most)
            break;
    }
    return best;
}

enum errc source_decode(struct source *src, struct str bytes, bool json, struct trace **out,
                        struct err *e)
{
    struct arena *a = &src->arena;
    struct batch_builder builder;
    struct batch *b = NULL;
    batch_builder_init(&builder);
    enum errc code = json ? otlp_decode_traces_json(bytes, &builder, e)
                          : otlp_decode_traces(bytes, &builder, e);
    if (!code)
        code = batch_seal(&builder, STR("cli"), 0, &b, e);
    batch_builder_fini(&builder);
    if (code)
        return code;
    if (src->held)
        batch_unref(src->held);
    src->held = b;
    const uint8_t *id = main_trace(b);
    if (!id)
        return fail(e, E_NOT_FOUND, "there are no spans in it");
    struct span_origin *origins = ARENA_ARRAY(a, struct span_origin, b->head->group_count);
    struct trace *t = ARENA_NEW(a, struct trace);
    bool ok = origins && t;
    if (ok)
        memcpy(t->id, id, 16);
    for (uint32_t i = 0; i < b->head->span_count && ok; i++) {
        if (!same_id(b->spans[i].trace_id, id))
            continue;
        struct span *s = span_from_batch(b, &b->spans[i], origins, a);
        ok = s && trace_add(t, s, a);
    }
    if (!ok)
        return fail(e, E_NO_MEMORY, "the trace is too large");
    trace_sort(t);
    *out = t;
    return E_OK;
}

static struct buf trace_path(const char *route, const uint8_t id[16])
{
    char hex[33];
    hex[num_put_hex(hex, id, 16)] = 0;
    struct buf path = path_of(route);
    buf_add_c(&path, hex);
    return path;
}

/* E_NOT_FOUND with a sentence of our own. */
static enum errc ask_trace(struct source *s, struct buf *path, const uint8_t id[16],
                           struct str *body, struct err *e)
{
    char hex[33];
    hex[num_put_hex(hex, id, 16)] = 0;
    enum errc code = ask_path(s, path, body, e);
    return code == E_NOT_FOUND ? fail(e, code, "trace %s is not there", hex) : code;
}

/* Moves behind "result" and takes out the spans, TracesData as JSON. */
static bool find_result(struct json_reader *r, struct str body, struct str *spans)
{
    if (!find_key(r, STR("result")))
        return false;
    size_t from = json_offset(r);
    json_next(r);
    json_skip(r);
    struct str inner = str_take(str_skip(body, from), json_offset(r) - from);
    *spans = str_skip(inner, str_find(inner, '{'));
    return r->type != JSON_ERROR;
}

enum errc source_trace(struct source *s, const uint8_t id[16], bool raw, struct trace **out,
                       struct err *e)
{
    static const struct adjust_config adjust = {0};
    struct str body, spans;
    struct json_reader r;
    if (s->store)
        return query_trace(s->snap, s->tenant, id, raw, &adjust, &s->arena, out, e);
    struct buf path = trace_path("/api/v3/traces/", id);
    buf_add_c(&path, raw ? "?rawTraces=true" : "");
    enum errc code = ask_trace(s, &path, id, &body, e);
    if (code)
        return code;
    json_reader_init(&r, body, &s->arena);
    return find_result(&r, body, &spans) ? source_decode(s, spans, true, out, e)
                                         : not_understood(&r, e);
}

/* What stands behind a page's spans. */
static bool find_total(struct json_reader *r, uint64_t *total)
{
    bool found = false;
    while (json_next(r) == JSON_KEY) {
        bool is = str_eq(r->text, STR("total"));
        json_next(r);
        if (is)
            found = num_get_u64(r->text, total);
        else
            json_skip(r);
    }
    return found && r->type == JSON_OBJECT_END;
}

enum errc source_trace_page(struct source *s, const uint8_t id[16], uint64_t offset, uint32_t limit,
                            struct trace **out, uint64_t *total, struct err *e)
{
    struct str body, spans;
    struct json_reader r;
    if (s->store)
        return snap_trace_page(s->snap, s->tenant, id, offset, limit, &s->arena, out, total, e);
    struct buf path = trace_path("/api/v3/traces/", id);
    buf_addf(&path, "?offset=%llu&limit=%u", (unsigned long long)offset, limit);
    enum errc code = ask_trace(s, &path, id, &body, e);
    if (code)
        return code;
    json_reader_init(&r, body, &s->arena);
    if (!find_result(&r, body, &spans))
        return not_understood(&r, e);
    if (!find_total(&r, total))
        return r.type == JSON_OBJECT_END
                   ? fail(e, E_INVALID, "the server does not read traces in pages")
                   : not_understood(&r, e);
    if (offset < *total)
        return source_decode(s, spans, true, out, e);
    *out = ARENA_NEW(&s->arena, struct trace);
    if (!*out)
        return fail(e, E_NO_MEMORY, "no memory for the page");
    memcpy((*out)->id, id, 16);
    return E_OK;
}

enum errc source_summary(struct source *s, const uint8_t id[16], struct trace_summary *out,
                         struct err *e)
{
    struct str body;
    struct source_page page = {0};
    bool knows;
    if (s->store)
        return summarize_stored(s->snap, s->tenant, id, &summary_bounds, &s->arena, out, e);
    struct buf path = trace_path("/api/v3/trace-summaries/", id);
    enum errc code = ask_trace(s, &path, id, &body, e);
    if (!code)
        code = read_page(s, body, &page, &knows, e);
    if (!code && page.n != 1)
        code = fail(e, E_INVALID, "the server does not summarise a trace");
    if (!code)
        *out = page.v[0];
    return code;
}

/* --- export --- */

enum errc source_export(struct source *s, const struct trace_query *q, client_sink *line, void *arg,
                        struct err *e)
{
    char number[NUM_TEXT_MAX];
    struct client_answer a;
    if (s->store)
        return export_lines(s->snap, q, line, arg, e);
    struct buf path = path_of("/api/export");
    if (q->service.n)
        path_add(&path, "service", q->service);
    if (q->operation.n)
        path_add(&path, "operation", q->operation);
    path_add(&path, "start", str_of(number, num_put_u64(number, q->start_min_ns)));
    path_add(&path, "end", str_of(number, num_put_u64(number, q->start_max_ns)));
    path_add(&path, "minDuration", str_of(number, num_put_u64(number, q->duration_min_ns)));
    path_add(&path, "maxDuration", str_of(number, num_put_u64(number, q->duration_max_ns)));
    path_add_own(&path, q);
    for (uint32_t i = 0; i < q->tag_count; i++) {
        if (q->tags[i].op != TAG_EQUALS)
            continue;
        struct str tag = arena_printf(&s->arena, "%.*s:%.*s", STR_ARG(q->tags[i].key),
                                      STR_ARG(q->tags[i].value));
        path_add(&path, "tag", tag);
    }
    buf_add_char(&path, 0);
    enum errc code = call(s, &path, MIB, line, arg, &a, e);
    if (!code && a.status / 100 != 2)
        code = refused(&a, E_UNAVAILABLE, e);
    client_answer_fini(&a);
    buf_fini(&path);
    return code;
}

/* --- the options of a search --- */

static bool tags_from(struct source *s, struct trace_query *q)
{
    struct tag_filter *tags = ARENA_ARRAY(&s->arena, struct tag_filter, QUERY_TAGS_MAX);
    const char *text;
    q->tags = tags;
    for (unsigned at = 0; tags && (text = cli_each(s->cli, "tag", &at));) {
        struct str all = str_from_c(text);
        size_t equals = str_find(all, '=');
        if (equals == all.n || !equals) {
            cli_fail(s->cli, CLI_USAGE, "--tag: \"%.100s\" is not KEY=VALUE", text);
            return false;
        }
        if (q->tag_count == QUERY_TAGS_MAX) {
            cli_fail(s->cli, CLI_USAGE, "--tag: more than %u", QUERY_TAGS_MAX);
            return false;
        }
        tags[q->tag_count++] = (struct tag_filter){TAG_ANY, TAG_EQUALS, str_take(all, equals),
                                                   str_skip(all, equals + 1)};
    }
    for (unsigned at = 0; tags && (text = cli_each(s->cli, "has", &at));) {
        if (q->tag_count == QUERY_TAGS_MAX) {
            cli_fail(s->cli, CLI_USAGE, "--has: more than %u", QUERY_TAGS_MAX);
            return false;
        }
        tags[q->tag_count++] = (struct tag_filter){.op = TAG_EXISTS, .key = str_from_c(text)};
    }
    return tags != NULL;
}

/* The parser has seen to it that the values are among the choices. */
static void sort_from(const struct cli *c, struct trace_query *q)
{
    const char *status = cli_value(c, "status"), *kind = cli_value(c, "kind");
    ensure(!status || query_status_from(str_from_c(status), &q->statuses));
    ensure(!kind || query_kind_from(str_from_c(kind), &q->kind));
}

bool source_query(struct source *s, uint64_t since_default_ns, struct trace_query *q)
{
    const struct cli *c = s->cli;
    uint64_t now = os_now_ns(os_posix()), since = since_default_ns;
    *q = (struct trace_query){.tenant = s->tenant,
                              .service = str_from_c(cli_value(c, "service")),
                              .operation = str_from_c(cli_value(c, "operation")),
                              .kind = -1};
    sort_from(c, q);
    if (cli_value(c, "since") && !cli_duration(c, "since", &since))
        return false;
    q->start_min_ns = since && since < now ? now - since : 0;
    q->start_max_ns = now + 60 * NS_PER_S; /* clocks differ */
    return (!cli_value(c, "start") || cli_time(c, "start", now, &q->start_min_ns)) &&
           (!cli_value(c, "end") || cli_time(c, "end", now, &q->start_max_ns)) &&
           (!cli_value(c, "min") || cli_duration(c, "min", &q->duration_min_ns)) &&
           (!cli_value(c, "max") || cli_duration(c, "max", &q->duration_max_ns)) && tags_from(s, q);
}

/* --- printing --- */

void summary_counts(struct json_writer *w, uint64_t spans, uint64_t errors)
{
    JSON_KEY_C(w, "spans");
    json_u64(w, spans);
    JSON_KEY_C(w, "errors");
    json_u64(w, errors);
}

void summary_members(struct json_writer *w, const struct trace_summary *t)
{
    char time[NUM_TEXT_MAX];
    JSON_KEY_C(w, "traceID");
    json_hex(w, t->trace_id, 16);
    JSON_KEY_C(w, "start");
    json_str(w, str_of(time, num_put_rfc3339(time, t->min_start_ns)));
    JSON_KEY_C(w, "durationNanos");
    json_u64(w, t->max_end_ns - t->min_start_ns);
    JSON_KEY_C(w, "rootService");
    json_str(w, t->root_service);
    JSON_KEY_C(w, "rootOperation");
    json_str(w, t->root_operation);
    summary_counts(w, t->span_count, t->error_count);
    if (t->stored) { /* not adjusted: a span that came twice counts twice */
        JSON_KEY_C(w, "asStored");
        json_bool(w, true);
    }
    if (!t->others.span_count)
        return;
    JSON_KEY_C(w, "otherServices");
    json_object(w);
    if (t->other_services) {
        JSON_KEY_C(w, "services");
        json_u64(w, t->other_services);
    }
    summary_counts(w, t->others.span_count, t->others.error_count);
    json_object_end(w);
}
