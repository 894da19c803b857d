/* SPDX-License-Identifier: Apache-2.0 */
/* The OTLP doors over real sockets: server, ingest and store as the binary wires them, spoken to by
 * a client made of nghttp2's own client side, or by plain HTTP/1.1. */
#include "base/num.h"
#include "base/os/sim.h"
#include "base/pb.h"
#include "base/stats.h"
#include "codec/otlp.h"
#include "serve/grpc_wire.h"
#include "serve/recv/recv.h"
#include "tests/harness.h"

#include <arpa/inet.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- the server --- */

static struct os *os;
static struct store *store;
static struct recv door_arg;
static struct loop *loop;
static struct thread loop_thread;
static struct http_server *server;

static void run_loop(void *arg)
{
    loop_run(arg);
}

static void setup(void)
{
    struct store_config c;
    os = os_mem_new();
    store_config_defaults(&c, os, "data");
    c.log = false;
    CHECK_OK(store_open(&store, &c, NULL));
    door_arg.ingest = ingest_new(store, os, 64 * MIB);
    door_arg.pool = work_pool_new(1, 16);
    loop = loop_new();
    static struct http_door doors[2];
    doors[0] = (struct http_door){.name = "grpc",
                                  .flag = "--x",
                                  .addr = "127.0.0.1",
                                  .services = otlp_grpc_services,
                                  .arg = &door_arg,
                                  .grpc_only = true};
    doors[1] = (struct http_door){.name = "http",
                                  .flag = "--y",
                                  .addr = "127.0.0.1",
                                  .routes = otlp_http_routes,
                                  .route_count = otlp_http_route_count,
                                  .fallback = otlp_http_fallback,
                                  .wording = otlp_http_wording,
                                  .arg = &door_arg};
    CHECK_OK(http_server_open(&server, &loop, 1, doors, 2, door_arg.pool, NULL, NULL));
    thread_start(&loop_thread, "loop", run_loop, loop);
}

static void teardown(void)
{
    /* As app/wire.c does it: who sends ends before who receives. */
    work_pool_free(door_arg.pool);
    loop_stop(loop);
    thread_join(&loop_thread);
    store_close(store);
    http_server_close(server);
    loop_free(loop);
    ingest_free(door_arg.ingest);
    os_sim_free(os);
}

static int dial(size_t door)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(http_server_port(server, door))};
    CHECK(inet_pton(AF_INET, "127.0.0.1", &to.sin_addr) == 1);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = 20};
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
    return fd;
}

static void send_all(int fd, const void *p, size_t n)
{
    for (const char *at = p; n;) {
        ssize_t k = send(fd, at, n, MSG_NOSIGNAL);
        CHECK(k > 0);
        at += k;
        n -= (size_t)k;
    }
}

/* --- a gRPC client --- */

struct rpc {
    int fd;
    nghttp2_session *session;
    int32_t id;
    struct buf body; /* what is sent */
    size_t sent;
    bool keep_open;     /* do not half-close */
    struct buf headers; /* "name=value\n", trailers too */
    struct buf data;
    bool closed;
    uint32_t reset_code;
};

static ssize_t rpc_read(nghttp2_session *s, int32_t id, uint8_t *out, size_t max, uint32_t *flags,
                        nghttp2_data_source *source, void *arg)
{
    struct rpc *r = arg;
    (void)s, (void)id, (void)source;
    size_t n = min_size(max, r->body.n - r->sent);
    if (n)
        memcpy(out, r->body.p + r->sent, n);
    r->sent += n;
    if (r->sent == r->body.n && !r->keep_open)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return n || !r->keep_open ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
}

static int rpc_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name, size_t n,
                      const uint8_t *value, size_t vn, uint8_t flags, void *arg)
{
    struct rpc *r = arg;
    (void)s, (void)f, (void)flags;
    buf_add(&r->headers, name, n);
    buf_add_char(&r->headers, '=');
    buf_add(&r->headers, value, vn);
    buf_add_char(&r->headers, '\n');
    return 0;
}

static int rpc_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                    void *arg)
{
    (void)s, (void)flags, (void)id;
    buf_add(&((struct rpc *)arg)->data, p, n);
    return 0;
}

static int rpc_frame(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
    (void)s;
    if (f->hd.type == NGHTTP2_RST_STREAM)
        ((struct rpc *)arg)->reset_code = f->rst_stream.error_code;
    return 0;
}

static int rpc_closed(nghttp2_session *s, int32_t id, uint32_t code, void *arg)
{
    (void)s, (void)id, (void)code;
    ((struct rpc *)arg)->closed = true;
    return 0;
}

static nghttp2_nv nv(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static void rpc_open(struct rpc *r, const char *path, const char *header, const char *value)
{
    nghttp2_session_callbacks *cb;
    r->fd = dial(0);
    r->reset_code = UINT32_MAX;
    r->headers = r->data = buf_init(1 * MIB);
    CHECK(nghttp2_session_callbacks_new(&cb) == 0);
    nghttp2_session_callbacks_set_on_header_callback(cb, rpc_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, rpc_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, rpc_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, rpc_closed);
    CHECK(nghttp2_session_client_new(&r->session, cb, r) == 0);
    nghttp2_session_callbacks_del(cb);
    CHECK(nghttp2_submit_settings(r->session, NGHTTP2_FLAG_NONE, NULL, 0) == 0);
    nghttp2_nv h[] = {nv(":method", "POST"),
                      nv(":scheme", "http"),
                      nv(":path", path),
                      nv(":authority", "here"),
                      nv("content-type", "application/grpc"),
                      nv("te", "trailers"),
                      nv(header ? header : "user-agent", header ? value : "test")};
    nghttp2_data_provider from = {.read_callback = rpc_read};
    r->id = nghttp2_submit_request(r->session, NULL, h, ARRAY_LEN(h), &from, NULL);
    CHECK(r->id > 0);
}

static void rpc_message(struct rpc *r, struct str msg)
{
    uint8_t prefix[GRPC_PREFIX_BYTES];
    grpc_put_prefix(prefix, false, (uint32_t)msg.n);
    r->body = buf_init(64 * MIB);
    buf_add(&r->body, prefix, sizeof prefix);
    buf_add_str(&r->body, msg);
}

/* Sends and receives until `until` of data came or the stream closed. */
static void rpc_pump(struct rpc *r, size_t until)
{
    while (!r->closed && r->data.n < until) {
        const uint8_t *out;
        for (ssize_t n; (n = nghttp2_session_mem_send(r->session, &out)) > 0;)
            send_all(r->fd, out, (size_t)n);
        uint8_t in[16384];
        ssize_t n = recv(r->fd, in, sizeof in, 0);
        CHECK(n > 0);
        CHECK_INT(nghttp2_session_mem_recv(r->session, in, (size_t)n), n);
    }
}

static void rpc_close(struct rpc *r)
{
    nghttp2_session_del(r->session);
    close(r->fd);
    buf_fini(&r->body);
    buf_fini(&r->headers);
    buf_fini(&r->data);
}

static bool rpc_said(const struct rpc *r, const char *line)
{
    return r->headers.n && memmem(r->headers.p, r->headers.n, line, strlen(line)) != NULL;
}

#define EXPORT "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

/* --- messages --- */

/* A request with one service and these spans; `pad` bytes of attribute each. */
static struct buf request_of(const char *service, unsigned good, unsigned bad, size_t pad)
{
    struct buf m = buf_init(64 * MIB), text = buf_init(64 * MIB);
    buf_add_zero(&text, pad);
    size_t rs = pb_open(&m, PB_TAG(1, PB_LEN), 3), res = pb_open(&m, PB_TAG(1, PB_LEN), 1);
    size_t kv = pb_open(&m, PB_TAG(1, PB_LEN), 1);
    pb_put_bytes(&m, PB_TAG(1, PB_LEN), STR("service.name"));
    size_t v = pb_open(&m, PB_TAG(2, PB_LEN), 1);
    pb_put_bytes(&m, PB_TAG(1, PB_LEN), str_from_c(service));
    pb_close(&m, v, 1);
    pb_close(&m, kv, 1);
    pb_close(&m, res, 1);
    size_t ss = pb_open(&m, PB_TAG(2, PB_LEN), 3);
    for (unsigned i = 0; i < good + bad; i++) {
        size_t span = pb_open(&m, PB_TAG(2, PB_LEN), 2);
        const char ids[17] = {i < good ? 'T' : 0, 0};
        const char span_id[8] = {'S', (char)(i + 1)};
        pb_put_bytes(&m, PB_TAG(1, PB_LEN), str_of(ids, 16));
        pb_put_bytes(&m, PB_TAG(2, PB_LEN), str_of(span_id, 8));
        pb_put_bytes(&m, PB_TAG(5, PB_LEN), STR("GET /"));
        pb_put_i64(&m, PB_TAG(7, PB_I64), 1);
        if (pad) {
            size_t a = pb_open(&m, PB_TAG(9, PB_LEN), 3);
            pb_put_bytes(&m, PB_TAG(1, PB_LEN), STR("pad"));
            size_t av = pb_open(&m, PB_TAG(2, PB_LEN), 3);
            pb_put_bytes(&m, PB_TAG(1, PB_LEN), buf_str(&text));
            pb_close(&m, av, 3);
            pb_close(&m, a, 3);
        }
        pb_close(&m, span, 2);
    }
    pb_close(&m, ss, 3);
    pb_close(&m, rs, 3);
    buf_fini(&text);
    CHECK_OK(buf_err(&m));
    return m;
}

static size_t stored_spans(struct str tenant)
{
    uint8_t id[16] = {'T'};
    struct arena a = arena_init(64 * MIB);
    struct snap *snap = store_snap(store);
    struct trace *t;
    size_t n = snap_trace(snap, tenant, id, &a, &t, NULL) == E_OK ? t->span_count : 0;
    snap_unref(snap);
    arena_fini(&a);
    return n;
}

static void export(struct rpc *r, struct buf request, const char *header, const char *value)
{
    *r = (struct rpc){0};
    rpc_open(r, EXPORT, header, value);
    rpc_message(r, buf_str(&request));
    rpc_pump(r, SIZE_MAX);
    buf_fini(&request);
}

/* --- gRPC --- */

TEST(an_export_is_answered_when_it_can_be_read_back)
{
    setup();
    struct rpc r;
    export(&r, request_of("cart", 3, 0, 0), NULL, NULL);
    CHECK(rpc_said(&r, ":status=200\n"));
    CHECK(rpc_said(&r, "content-type=application/grpc\n"));
    CHECK(rpc_said(&r, "grpc-status=0\n"));
    CHECK_STR(buf_str(&r.data), STR("\0\0\0\0\0"));
    CHECK_INT(stored_spans(STR(TENANT_DEFAULT)), 3);
    rpc_close(&r);
    export(&r, request_of("cart", 2, 0, 3 * MIB), "x-scope-orgid", "acme"); /* by the pool */
    CHECK(rpc_said(&r, "grpc-status=0\n"));
    CHECK_INT(stored_spans(STR("acme")), 2);
    rpc_close(&r);
    teardown();
}

TEST(an_export_with_bad_spans_is_a_partial_success)
{
    setup();
    struct rpc r;
    export(&r, request_of("cart", 1, 2, 0), NULL, NULL);
    CHECK(rpc_said(&r, "grpc-status=0\n"));
    uint64_t rejected;
    struct str message;
    CHECK_OK(
        otlp_decode_response(str_skip(buf_str(&r.data), GRPC_PREFIX_BYTES), &rejected, &message));
    CHECK_INT(rejected, 2);
    CHECK(str_starts(message, STR("2 spans rejected: 2 (")));
    CHECK_INT(stored_spans(STR(TENANT_DEFAULT)), 1);
    rpc_close(&r);
    teardown();
}

TEST(damage_and_bad_tenants_are_invalid_arguments)
{
    setup();
    struct rpc r;
    struct buf damaged = buf_init(1 * KIB);
    buf_add(&damaged, "\x0a\x05yes", 5);
    export(&r, damaged, NULL, NULL);
    CHECK(rpc_said(&r, "grpc-status=3\n"));
    CHECK(rpc_said(&r, "grpc-status-details-bin="));
    CHECK_INT(stat_get(STAT_REQUESTS_BAD_DECODE), 1);
    rpc_close(&r);
    export(&r, request_of("cart", 1, 0, 0), "x-tenant", "not/this");
    CHECK(rpc_said(&r, "grpc-status=3\n"));
    CHECK_INT(stat_get(STAT_REQUESTS_BAD_TENANT), 1);
    rpc_close(&r);
    teardown();
}

TEST(absent_signals_say_so_before_the_body_came)
{
    setup();
    struct rpc r = {.keep_open = true};
    rpc_open(&r, "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", NULL, NULL);
    rpc_message(&r, STR("half"));
    rpc_pump(&r, SIZE_MAX);
    CHECK(rpc_said(&r, "grpc-status=12\n"));
    CHECK(rpc_said(&r, "grpc-message=lymer keeps traces only so far; point the metrics exporter "
                       "elsewhere or switch it off\n"));
    CHECK_INT(r.reset_code, NGHTTP2_NO_ERROR);
    rpc_close(&r);
    teardown();
}

TEST(a_health_watch_hears_of_the_drain)
{
    setup();
    struct rpc r = {0};
    rpc_open(&r, "/grpc.health.v1.Health/Watch", NULL, NULL);
    rpc_message(&r, STR(""));
    rpc_pump(&r, 7);
    CHECK_STR(buf_str(&r.data), STR("\0\0\0\0\2\x08\x01"));
    http_server_drain(server);
    rpc_pump(&r, SIZE_MAX);
    CHECK_STR(str_skip(buf_str(&r.data), 7), STR("\0\0\0\0\2\x08\x02"));
    CHECK(rpc_said(&r, "grpc-status=14\n"));
    rpc_close(&r);
    teardown();
}

TEST(a_health_watch_waits_for_services_it_does_not_know)
{
    setup();
    struct rpc r = {0};
    rpc_open(&r, "/grpc.health.v1.Health/Watch", NULL, NULL);
    rpc_message(&r, STR("\x0a\x03x.Y"));
    rpc_pump(&r, 7);
    CHECK_STR(buf_str(&r.data), STR("\0\0\0\0\2\x08\x03"));
    rpc_close(&r); /* leaves without a word */
    teardown();
}

/* A client that dies leaves a closed socket behind its watch and nothing else. */
TEST(a_health_watch_ends_with_its_client)
{
    setup();
    struct rpc r = {0};
    rpc_open(&r, "/grpc.health.v1.Health/Watch", NULL, NULL);
    rpc_message(&r, STR(""));
    rpc_pump(&r, 7);
    CHECK_INT(stat_get(STAT_CONNS_OPEN), 1);
    CHECK_INT(shutdown(r.fd, SHUT_WR), 0); /* as a close, but to be seen from here */
    char bytes[256];
    ssize_t n;
    while ((n = recv(r.fd, bytes, sizeof bytes, 0)) > 0)
        ;
    CHECK_INT(n, 0);
    rpc_close(&r);
    teardown();
}

/* --- HTTP --- */

static struct buf http_answer;

/* One request on its own connection; the answer is in http_answer. */
static void http_call(const char *method, const char *path, const char *type, struct str body)
{
    struct buf out = buf_init(64 * MIB);
    buf_addf(&out, "%s %s HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: %zu\r\n",
             method, path, body.n);
    buf_addf(&out, "%s%s%s\r\n", type ? "Content-Type: " : "", type ? type : "",
             type ? "\r\n" : "");
    buf_add_str(&out, body);
    int fd = dial(1);
    send_all(fd, out.p, out.n);
    buf_fini(&out);
    buf_fini(&http_answer);
    http_answer = buf_init(1 * MIB);
    char in[4096];
    for (ssize_t n; (n = recv(fd, in, sizeof in, 0)) > 0;)
        buf_add(&http_answer, in, (size_t)n);
    close(fd);
}

static void check_answer(int status, const char *type, struct str body)
{
    char line[32];
    snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
    struct str a = buf_str(&http_answer);
    if (!str_starts(a, str_from_c(line)))
        test_fail(__FILE__, __LINE__, "want %d, got %.*s", status, STR_ARG(a));
    const char *cut = memmem(a.p, a.n, "\r\n\r\n", 4);
    CHECK(cut != NULL);
    char want[128];
    snprintf(want, sizeof want, "content-type: %s\r\n", type);
    struct str head = str_take(a, (size_t)(cut - a.p) + 2);
    bool found = false;
    for (size_t i = 0; i + strlen(want) <= head.n; i++)
        found = found || strncasecmp(head.p + i, want, strlen(want)) == 0;
    if (!found)
        test_fail(__FILE__, __LINE__, "want %s in %.*s", want, STR_ARG(head));
    CHECK_STR(str_skip(a, (size_t)(cut - a.p) + 4), body);
}

TEST(http_takes_protobuf_and_json)
{
    setup();
    struct buf m = request_of("cart", 2, 0, 0);
    http_call("POST", "/v1/traces", "application/x-protobuf", buf_str(&m));
    check_answer(200, "application/x-protobuf", STR(""));
    CHECK_INT(stored_spans(STR(TENANT_DEFAULT)), 2);
    buf_fini(&m);
    http_call("POST", "/v1/traces", "application/json; charset=utf-8", STR("{}"));
    check_answer(200, "application/json", STR("{\"partialSuccess\":{}}"));
    m = request_of("cart", 2, 0, 3 * MIB); /* by the pool */
    http_call("POST", "/v1/traces", "Application/X-Protobuf", buf_str(&m));
    check_answer(200, "application/x-protobuf", STR(""));
    CHECK_INT(stat_get(STAT_SPANS_ACCEPTED), 4);
    buf_fini(&m);
    buf_fini(&http_answer);
    teardown();
}

TEST(http_refuses_in_the_collectors_words)
{
    setup();
    http_call("GET", "/v1/traces", NULL, STR(""));
    check_answer(405, "text/plain", STR("405 method not allowed, supported: [POST]"));
    http_call("PUT", "/v1/traces", "application/json", STR("{}"));
    check_answer(405, "text/plain", STR("405 method not allowed, supported: [POST]"));
    struct str types = STR("415 unsupported media type, supported: [application/json, "
                           "application/x-protobuf]");
    http_call("POST", "/v1/traces", "text/xml", STR("{}"));
    check_answer(415, "text/plain", types);
    http_call("POST", "/v1/traces", NULL, STR("{}"));
    check_answer(415, "text/plain", types);
    buf_fini(&http_answer);
    teardown();
}

TEST(http_errors_speak_the_requests_encoding)
{
    setup();
    struct str no = STR(RECV_ABSENT("metrics"));
    struct buf want = buf_init(1 * KIB);
    http_call("POST", "/v1/metrics", "application/json", STR("{}"));
    otlp_encode_status_json(5, no, 0, STR_NONE, &want);
    check_answer(404, "application/json", buf_str(&want));
    buf_reset(&want);
    http_call("POST", "/v1/metrics", "application/x-protobuf", STR(""));
    otlp_encode_status(5, no, 0, STR_NONE, &want);
    check_answer(404, "application/x-protobuf", buf_str(&want));
    buf_fini(&want);
    http_call("POST", "/v1/traces", "application/json", STR("{"));
    CHECK(str_starts(buf_str(&http_answer), STR("HTTP/1.1 400 ")));
    CHECK(memmem(http_answer.p, http_answer.n, "google.rpc.BadRequest", 21) != NULL);
    CHECK(memmem(http_answer.p, http_answer.n, "{\"code\":3,", 10) != NULL);
    http_call("POST", "/v1/traces", "application/x-protobuf", STR("\x0a\x05yes"));
    CHECK(str_starts(buf_str(&http_answer), STR("HTTP/1.1 400 ")));
    CHECK(memmem(http_answer.p, http_answer.n, "\r\n\r\n\x08\x03\x12", 7) != NULL);
    buf_fini(&http_answer);
    teardown();
}
