/* SPDX-License-Identifier: Apache-2.0 */
/* tests/data/jaeger/http/NAME.txt: conversations with a server that holds what the file says, over
 * a real socket. The clock stands at 2026-01-01T00:00:00Z.
 *
 *   otlp TENANT        what follows, up to the next line with a sign in front, is stored
 *   > GET /api/…       a request; "+ name: value" lines are its headers, "= text" its body
 *   < 200 TYPE         the answer's status and content type
 *   < name: value      … a header of it; a value * stands for any
 *   {…}                … its body: JSON without white space, or text, or "ids: 1 2" for the trace
 *                      ids of a list in their order, or * for any, or the exact lines behind "| "
 *
 * $ETAG in a request is the etag of the answer before. */
#include "base/num.h"
#include "base/os/sim.h"
#include "codec/otlp.h"
#include "serve/api/jaeger.h"
#include "serve/pool.h"
#include "tests/harness.h"
#include "tests/unit/api/json_text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define HTTP_DIR "tests/data/jaeger/http"

/* --- the server --- */

struct world {
    struct os *os;
    struct store *store;
    struct loop *loop;
    struct work_pool *pool;
    struct http_server *server;
    struct http_route *routes;
    size_t route_count;
    struct jaeger_api api;
    struct http_door door;
    struct thread thread;
    bool opened, blocks; /* serving; from blocks instead of memory */
    const char *file;
    struct str etag;
    struct arena arena;
};

static void run_loop(void *arg)
{
    loop_run(arg);
}

static void world_open(struct world *w)
{
    struct err e = {0};
    struct store_config config;
    w->os = os_sim_new(1);
    store_config_defaults(&config, w->os, "data");
    config.threads = false;
    CHECK_OK(store_open(&w->store, &config, &e));
    w->api.store = w->store;
    w->api.os = w->os;
    w->arena = arena_init(64 * MIB);
}

/* The door opens with the first request: until then the file may say how. */
static void world_serve(struct world *w)
{
    if (w->opened)
        return;
    w->opened = true;
    struct err e = {0};
    if (w->blocks)
        CHECK_OK(store_flush(w->store, &e));
    w->route_count = jaeger_api_routes(&w->api, &w->routes);
    w->door = (struct http_door){.name = "query",
                                 .flag = "--query-port",
                                 .addr = "127.0.0.1",
                                 .routes = w->routes,
                                 .route_count = w->route_count,
                                 .arg = &w->api};
    struct http_limits limits = http_limits_default();
    w->loop = loop_new();
    w->pool = work_pool_new(2, 16);
    struct loop *loops[] = {w->loop};
    if (http_server_open(&w->server, loops, 1, &w->door, 1, w->pool, &limits, &e))
        test_fail(__FILE__, __LINE__, "%s", err_msg(&e));
    thread_start(&w->thread, "loop", run_loop, w->loop);
}

static void world_close(struct world *w)
{
    if (w->opened) {
        http_server_drain(w->server);
        work_pool_free(w->pool);
        loop_stop(w->loop);
        thread_join(&w->thread);
        http_server_close(w->server);
        loop_free(w->loop);
        jaeger_api_routes_free(w->routes, w->route_count);
    }
    store_close(w->store);
    os_sim_free(w->os);
    arena_fini(&w->arena);
}

struct arrival {
    struct store_ticket ticket; /* first */
    bool done;
};

static void stored(struct store_ticket *t, enum errc result, const char *why)
{
    if (result)
        test_fail(__FILE__, __LINE__, "store: %s", why);
    ((struct arrival *)t)->done = true;
}

static void world_store(struct world *w, struct str tenant, struct str otlp)
{
    struct batch_builder b;
    struct arrival arrival = {.ticket = {.done = stored}};
    struct err e = {0};
    batch_builder_init(&b);
    if (otlp_decode_traces_json(otlp, &b, &e))
        test_fail(__FILE__, __LINE__, "%s: %s in %.*s", w->file, err_msg(&e),
                  STR_ARG(str_take(otlp, 200)));
    CHECK_INT(batch_builder_rejected(&b), 0);
    CHECK_OK(batch_seal(&b, tenant, os_now_ns(w->os), &arrival.ticket.batch, &e));
    batch_builder_fini(&b);
    CHECK_OK(store_append(w->store, &arrival.ticket));
    while (!arrival.done)
        store_step(w->store);
    batch_unref(arrival.ticket.batch);
}

/* --- the client --- */

static int call(struct world *w, struct str request)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(http_server_port(w->server, 0)),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
    for (size_t at = 0; at < request.n;) {
        ssize_t n = write(fd, request.p + at, request.n - at);
        CHECK(n > 0);
        at += (size_t)n;
    }
    return fd;
}

static void fetch(struct world *w, struct str request, struct buf *answer)
{
    int fd = call(w, request);
    for (ssize_t n; buf_reserve(answer, 64 * KIB) &&
                    (n = read(fd, answer->p + answer->n, answer->cap - answer->n)) > 0;)
        answer->n += (size_t)n;
    CHECK(!answer->failed);
    close(fd);
}

struct reply {
    struct str status, head, body;
};

static struct str header_of(const struct reply *r, struct str name)
{
    struct str head = r->head, line;
    while (str_split(&head, '\n', &line)) {
        size_t colon = str_find(line, ':');
        if (str_eq_nocase(str_take(line, colon), name))
            return str_trim(str_take(str_skip(line, colon + 1), line.n - colon - 2));
    }
    return STR_NONE;
}

static struct str unchunked(struct str in, struct arena *a)
{
    struct buf out = buf_init(64 * MIB);
    for (;;) {
        size_t n = 0, i = 0;
        for (; i < in.n && in.p[i] != '\r'; i++) {
            int c = in.p[i] | 0x20;
            n = n * 16 + (size_t)(c >= 'a' ? c - 'a' + 10 : c & 15);
        }
        in = str_skip(in, i + 2);
        if (!n)
            break;
        CHECK(in.n > n + 2);
        buf_add(&out, in.p, n);
        in = str_skip(in, n + 2);
    }
    struct str text = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return text;
}

static struct reply parse_reply(struct str answer, struct arena *a)
{
    struct reply r = {0};
    size_t end = 0;
    while (end + 4 <= answer.n && memcmp(answer.p + end, "\r\n\r\n", 4) != 0)
        end++;
    CHECK(end + 4 <= answer.n && str_starts(answer, STR("HTTP/1.1 ")));
    r.status = str_take(str_skip(answer, 9), 3);
    r.head = str_take(answer, end + 2);
    r.body = str_skip(answer, end + 4);
    if (str_eq(header_of(&r, STR("transfer-encoding")), STR("chunked")))
        r.body = unchunked(r.body, a);
    return r;
}

/* --- the script --- */

struct exchange {
    struct world *w;
    struct str target; /* "GET /api/…" */
    struct buf request;
    struct reply reply;
    bool sent;
};

/* The traceIDs of the envelope's data, as numbers. */
static struct str trace_ids(struct str body, struct arena *a)
{
    struct buf out = buf_init(64 * KIB);
    struct json_reader r;
    json_reader_init(&r, body, a);
    buf_add_c(&out, "ids:");
    for (enum json_type t; (t = json_next(&r)) != JSON_END && t != JSON_ERROR;)
        if (t == JSON_KEY && r.depth == 3 && str_eq(r.text, STR("traceID"))) {
            CHECK(json_next(&r) == JSON_STRING);
            uint64_t id;
            CHECK(num_get_hex(r.text, &id, 8));
            buf_addf(&out, " %llu", (unsigned long long)__builtin_bswap64(id));
        }
    struct str text = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return text;
}

static void send_request(struct exchange *x, struct str body)
{
    struct buf answer = buf_init(64 * MIB);
    world_serve(x->w);
    buf_addf(&x->request, "host: test\r\nconnection: close\r\ncontent-length: %zu\r\n\r\n%.*s",
             body.n, STR_ARG(body));
    fetch(x->w, buf_str(&x->request), &answer);
    x->reply = parse_reply(arena_str(&x->w->arena, buf_str(&answer)), &x->w->arena);
    x->w->etag = header_of(&x->reply, STR("etag"));
    x->sent = true;
    buf_fini(&x->request);
    buf_fini(&answer);
}

static void expect(const struct exchange *x, const char *what, struct str got, struct str want)
{
    size_t same = 0;
    if (str_eq(want, STR("*")) ? got.n > 0 : str_eq(got, want))
        return;
    while (same < want.n && same < got.n && want.p[same] == got.p[same])
        same++;
    size_t from = same > 60 ? same - 60 : 0;
    test_fail(__FILE__, __LINE__, "%s: %.*s: %s: got …%.*s, want …%.*s", x->w->file,
              STR_ARG(x->target), what, STR_ARG(str_take(str_skip(got, from), 300)),
              STR_ARG(str_take(str_skip(want, from), 300)));
}

static void expect_line(struct exchange *x, struct str line)
{
    if (!x->sent)
        send_request(x, STR(""));
    size_t colon = str_find(line, ':');
    if (colon < line.n) {
        expect(x, "header", header_of(&x->reply, str_take(line, colon)),
               str_trim(str_skip(line, colon + 1)));
        return;
    }
    struct str status;
    str_split(&line, ' ', &status);
    expect(x, "status", x->reply.status, status);
    if (line.n)
        expect(x, "type", header_of(&x->reply, STR("content-type")), str_trim(line));
    /* Jaeger's own trace context is on every answer. */
    struct str tr = header_of(&x->reply, STR("traceresponse"));
    CHECK(tr.n == 55 && tr.p[2] == '-' && tr.p[35] == '-' && tr.p[52] == '-');
}

static struct str exact_lines(struct str text, struct arena *a)
{
    struct buf out = buf_init(MIB);
    struct str line;
    while (str_split(&text, '\n', &line)) {
        if (out.n)
            buf_add_char(&out, '\n');
        buf_add_str(&out, str_skip(line, 2));
    }
    struct str exact = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return exact;
}

static void expect_body(struct exchange *x, struct str want)
{
    struct str got = x->reply.body;
    want = str_trim(want);
    while (want.n && want.p[want.n - 1] == '\n')
        want.n--;
    if (!want.n)
        return;
    if (str_starts(want, STR("| ")))
        want = exact_lines(want, &x->w->arena);
    else if (str_starts(want, STR("ids:")))
        got = trace_ids(got, &x->w->arena);
    else if (got.n && got.p[0] == '{' && want.p[0] == '{') {
        got = json_text_compact(got, &x->w->arena);
        want = json_text_compact(want, &x->w->arena);
    } else if (got.n && got.p[got.n - 1] == '\n')
        got.n--;
    expect(x, "body", got, want);
}

static struct str substituted(struct world *w, struct str line)
{
    struct buf out = buf_init(64 * KIB);
    struct str var = STR("$ETAG");
    for (size_t i = 0; i < line.n; i++) {
        if (!str_starts(str_skip(line, i), var)) {
            buf_add_char(&out, line.p[i]);
            continue;
        }
        buf_add_str(&out, w->etag);
        i += var.n - 1;
    }
    struct str text = arena_str(&w->arena, buf_str(&out));
    buf_fini(&out);
    return text;
}

/* What stands below a line up to the next one with a sign. */
static struct str block_below(struct str *file)
{
    const char *from = file->p;
    size_t n = 0;
    struct str line;
    while (file->n) {
        struct str before = *file;
        str_split(file, '\n', &line);
        bool sign = line.n && strchr("#<>+=", line.p[0]);
        if (sign || str_starts(line, STR("otlp ")) || str_starts(line, STR("set "))) {
            *file = before;
            break;
        }
        n = (size_t)(line.p + line.n - from);
    }
    return str_of(from, n);
}

static void set_option(struct world *w, struct str line)
{
    CHECK(!w->opened);
    if (str_eq(line, STR("tenant required")))
        w->api.tenant_required = true;
    else if (str_starts(line, STR("tenants ")))
        w->api.tenants = arena_str(&w->arena, str_skip(line, 8)).p;
    else if (str_starts(line, STR("base ")))
        w->api.base_path = arena_str(&w->arena, str_skip(line, 5)).p;
    else
        test_fail(__FILE__, __LINE__, "%s: %.*s", w->file, STR_ARG(line));
}

static void run_script(struct world *w, struct str file)
{
    struct exchange x = {.w = w};
    struct str line;
    while (str_split(&file, '\n', &line)) {
        if (str_starts(line, STR("otlp "))) {
            struct str block = block_below(&file);
            world_store(w, str_skip(line, 5), block);
        } else if (str_starts(line, STR("set "))) {
            set_option(w, str_skip(line, 4));
        } else if (str_starts(line, STR("> "))) {
            x = (struct exchange){.w = w, .target = str_skip(line, 2), .request = buf_init(MIB)};
            buf_addf(&x.request, "%.*s HTTP/1.1\r\n", STR_ARG(x.target));
        } else if (str_starts(line, STR("+ "))) {
            struct str header = substituted(w, str_skip(line, 2));
            buf_addf(&x.request, "%.*s\r\n", STR_ARG(header));
        } else if (str_starts(line, STR("= "))) {
            send_request(&x, str_skip(line, 2));
        } else if (str_starts(line, STR("< "))) {
            expect_line(&x, str_skip(line, 2));
            expect_body(&x, block_below(&file));
        }
    }
}

static size_t files_run;

static void run_file(void *arg, const char *name)
{
    struct world w = {.file = name, .blocks = *(bool *)arg};
    struct buf file = buf_init(MIB);
    char path[512];
    struct err e = {0};
    snprintf(path, sizeof path, HTTP_DIR "/%s", name);
    CHECK_OK(os_read_file(os_posix(), path, &file, &e));
    world_open(&w);
    run_script(&w, buf_str(&file));
    world_close(&w);
    buf_fini(&file);
    files_run++;
}

static void run_files(bool blocks)
{
    struct err e = {0};
    CHECK_OK(os_list(os_posix(), HTTP_DIR, run_file, &blocks, &e));
    CHECK(files_run >= 7);
}

TEST(conversations_about_spans_in_memory)
{
    run_files(false);
}

TEST(conversations_about_spans_in_blocks)
{
    run_files(true);
}

TEST(a_disk_that_fails_is_the_servers_trouble)
{
    struct world w = {.file = "failing disk", .blocks = true};
    world_open(&w);
    world_store(&w, STR("default"),
                STR("{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":"
                    "\"00000000000000000000000000000001\",\"spanId\":\"0000000000000001\"}]}]}]}"));
    world_serve(&w);
    sim_fail_after(w.os, 1, E_IO, true);
    run_script(&w,
               STR("> GET /api/traces/1\n< 500 text/plain; charset=utf-8\n"
                   "{\"data\":null,\"total\":0,\"limit\":0,\"offset\":0,\"errors\":[{\"code\":500,"
                   "\"msg\":\"input/output error\"}]}\n"
                   "> GET /api/v3/traces/1\n< 500 text/plain; charset=utf-8\n"
                   "{\"error\":{\"httpCode\":500,\"message\":\"input/output error\"}}\n"
                   "> GET /api/traces?traceID=1\n< 200 application/json\n"
                   "{\"data\":[],\"total\":0,\"limit\":0,\"offset\":0,\"errors\":[{\"code\":500,"
                   "\"msg\":\"input/output error\",\"traceID\":\"0000000000000001\"}]}\n"));
    sim_fail_after(w.os, 0, E_OK, false);
    run_script(&w, STR("> GET /api/traces/1\n< 200 application/json\n*\n"));
    world_close(&w);
}

/* --- long answers --- */

#define LONG_SPANS 20000u

static void store_long_trace(struct world *w)
{
    struct buf otlp = buf_init(64 * MIB);
    buf_add_c(&otlp, "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[");
    for (unsigned i = 1; i <= LONG_SPANS; i++)
        buf_addf(&otlp,
                 "%s{\"traceId\":\"%032x\",\"spanId\":\"%016x\",\"name\":\"a-name-of-some-length\","
                 "\"startTimeUnixNano\":\"%u\",\"endTimeUnixNano\":\"%u\"}",
                 i > 1 ? "," : "", 1, i, i * 1000, i * 1000 + 500);
    buf_add_c(&otlp, "]}]}]}");
    CHECK(!otlp.failed);
    world_store(w, STR("default"), buf_str(&otlp));
    buf_fini(&otlp);
}

static size_t count_of(struct str text, const char *needle)
{
    size_t n = 0;
    for (const char *at = text.p;
         at && (at = memmem(at, text.n - (size_t)(at - text.p), needle, strlen(needle))); at++)
        n++;
    return n;
}

static void get_long(struct world *w, const char *path, const char *per_span)
{
    struct buf request = buf_init(KIB), answer = buf_init(64 * MIB);
    buf_addf(&request, "GET %s HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n", path);
    fetch(w, buf_str(&request), &answer);
    struct reply r = parse_reply(buf_str(&answer), &w->arena);
    CHECK_STR(r.status, STR("200"));
    CHECK_STR(header_of(&r, STR("transfer-encoding")), STR("chunked"));
    CHECK(r.body.n > MIB);
    CHECK_INT(count_of(json_text_compact(r.body, &w->arena), per_span), LONG_SPANS);
    buf_fini(&request);
    buf_fini(&answer);
}

TEST(long_answers_are_streamed_whole)
{
    struct world w = {.file = "long"};
    world_open(&w);
    store_long_trace(&w);
    world_serve(&w);
    get_long(&w, "/api/traces/1", "\"operationName\"");
    get_long(&w, "/api/traces?traceID=1", "\"operationName\"");
    get_long(&w, "/api/v3/traces/1", "\"spanId\"");
    world_close(&w);
}

/* The writer waits for a reader that takes nothing, and ends when it goes; others are served. */
TEST(a_client_that_leaves_in_the_middle_harms_nobody)
{
    struct world w = {.file = "leaving"};
    struct str request = STR("GET /api/traces/1 HTTP/1.1\r\nhost: t\r\n\r\n");
    world_open(&w);
    store_long_trace(&w);
    world_serve(&w);
    for (unsigned i = 0; i < 4; i++) {
        int fd = call(&w, request);
        char first;
        CHECK(read(fd, &first, 1) == 1);
        close(fd);
    }
    get_long(&w, "/api/traces/1", "\"operationName\"");
    world_close(&w);
}
