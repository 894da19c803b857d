/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"
#include "tests/unit/serve/client.h"

#include "base/stats.h"
#include "base/zip.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static _Atomic size_t streamed;
static _Atomic int stream_broken;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* holds /gate handlers */
static _Atomic size_t at_gate;

static void echo(struct http_req *r)
{
    http_reply(r, 200, "application/octet-stream", r->body);
}

static void size(struct http_req *r)
{
    http_reply_text(r, 200, "%zu", r->body.n);
}

static void greet(struct http_req *r)
{
    struct str who = STR("nobody");
    size_t at = 0;
    (void)http_param(r, STR("who"), &at, &who);
    http_reply_text(r, 200, "hello %.*s, %.*s", STR_ARG(r->params[0]), STR_ARG(who));
}

static void rest(struct http_req *r)
{
    http_reply(r, 200, "text/plain", r->params[0]);
}

static void page(struct http_req *r)
{
    static char text[5000];
    memset(text, 'p', sizeof text);
    http_set_header(r, "ETag", STR("\"1\""));
    http_set_header(r, "X-Evil", STR("a\r\nb: c"));
    http_reply(r, 200, "application/json", str_of(text, sizeof text));
}

#define STREAM_BYTES (24 * MIB)

static void flow(struct http_req *r)
{
    static char text[10007];
    http_start(r, 200, "application/octet-stream");
    bool ok = true;
    for (size_t n = 0; n < STREAM_BYTES && ok; n += sizeof text) {
        ok = http_write(r, str_of(text, sizeof text));
        streamed += ok ? sizeof text : 0;
    }
    stream_broken = !ok;
    http_end(r, ok);
}

static void broken(struct http_req *r)
{
    http_start(r, 200, "text/event-stream");
    bool ok = http_write(r, STR("some"));
    http_end(r, false && ok);
}

static void wait_at_gate(struct http_req *r)
{
    at_gate++;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    http_reply_text(r, 200, "through");
}

static const struct http_route routes[] = {
    {"POST", "/echo", echo, HTTP_ON_LOOP},         {"POST", "/echo-pool", echo, HTTP_ON_POOL},
    {"POST", "/size", size, HTTP_ON_LOOP},         {"GET", "/hello/{name}", greet, HTTP_ON_LOOP},
    {"PUT", "/hello/{name}", greet, HTTP_ON_LOOP}, {"GET", "/files/{path...}", rest, HTTP_ON_LOOP},
    {"GET", "/page", page, HTTP_ON_POOL},          {"GET", "/flow", flow, HTTP_ON_POOL},
    {"GET", "/broken", broken, HTTP_ON_POOL},      {"GET", "/gate", wait_at_gate, HTTP_ON_POOL},
};

struct fixture {
    struct test_server t;
    struct buf head, body;
};

static struct fixture fixture_init(void)
{
    struct fixture f = {
        .t = test_server_init(), .head = buf_init(128 * KIB), .body = buf_init(64 * MIB)};
    f.t.door.routes = routes;
    f.t.door.route_count = ARRAY_LEN(routes);
    return f;
}

static void fixture_fini(struct fixture *f)
{
    test_server_stop(&f->t);
    buf_fini(&f->head);
    buf_fini(&f->body);
}

static bool head_has(const struct fixture *f, const char *line)
{
    return strstr(f->head.p, line);
}

static void wait_until_idle(struct test_server *t)
{
    while (http_server_busy(t->server))
        sched_yield();
}

#define A "Host: a\r\n"

TEST(h1_answers_many_requests_on_one_connection_pipelined)
{
    struct fixture f = fixture_init();
    test_server_start(&f.t);
    int fd = test_dial(&f.t);
    struct buf many = buf_init(1 * MIB);
    for (int i = 0; i < 200; i++)
        buf_addf(&many,
                 "GET /hello/%d?who=a+b%%21 HTTP/1.1\r\n" A "\r\nPOST /echo HTTP/1.1\r\n" A
                 "Content-Length: 3\r\n\r\n%03d",
                 i, i);
    send_all(fd, buf_str(&many));
    for (int i = 0; i < 200; i++) {
        char want[64];
        CHECK_INT(read_answer(fd, &f.head, &f.body), 200);
        snprintf(want, sizeof want, "hello %d, a b!\n", i);
        CHECK_STR(buf_str(&f.body), str_from_c(want));
        CHECK_INT(read_answer(fd, &f.head, &f.body), 200);
        snprintf(want, sizeof want, "%03d", i);
        CHECK_STR(buf_str(&f.body), str_from_c(want));
    }
    close(fd);
    buf_fini(&many);
    fixture_fini(&f);
}

TEST(h1_takes_a_request_byte_by_byte_with_chunked_body_and_trailers)
{
    struct fixture f = fixture_init();
    test_server_start(&f.t);
    int fd = test_dial(&f.t);
    const char *text = "POST /echo HTTP/1.1\r\n" A "Transfer-Encoding: chunked\r\n\r\n"
                       "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nT: v\r\n\r\n"
                       "GET /hello/x HTTP/1.1\r\n" A "Connection: close\r\n\r\n";
    for (const char *p = text; *p; p++)
        send_all(fd, str_of(p, 1));
    CHECK_INT(read_answer(fd, &f.head, &f.body), 200);
    CHECK_STR(buf_str(&f.body), STR("abcdefg"));
    CHECK_INT(read_answer(fd, &f.head, &f.body), 200);
    CHECK(head_has(&f, "connection: close\r\n"));
    CHECK(read_to_end(fd, &f.body));
    close(fd);
    fixture_fini(&f);
}

TEST(h1_says_continue_before_the_body_and_not_when_refusing)
{
    struct fixture f = fixture_init();
    f.t.limits.body_max_bytes = 1000;
    test_server_start(&f.t);
    int fd = test_dial(&f.t);
    send_text(fd, "POST /echo HTTP/1.1\r\n" A "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    CHECK_INT(read_answer(fd, &f.head, &f.body), 100);
    send_text(fd, "hi");
    CHECK_INT(read_answer(fd, &f.head, &f.body), 200);
    send_text(fd,
              "POST /echo HTTP/1.1\r\n" A "Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n");
    CHECK_INT(read_answer(fd, &f.head, &f.body), 413);
    CHECK(read_to_end(fd, &f.body));
    close(fd);
    fixture_fini(&f);
}

TEST(h1_refusals_have_their_status_and_close)
{
    static const struct {
        int status;
        const char *request;
        enum stat_id counter;
    } cases[] = {
        {400, "GET / HTTP/1.1\r\n\r\n", STAT_REQUESTS_BAD_HTTP},
        {400, "GET / HTTP/1.1\nHost: a\n\n", STAT_REQUESTS_BAD_HTTP},
        {400, "GET /files/%zz HTTP/1.1\r\n" A "\r\n", STAT_REQUESTS_BAD_HTTP},
        {400, "POST /echo HTTP/1.1\r\n" A "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
         STAT_REQUESTS_BAD_HTTP},
        {404, "GET /nothing HTTP/1.1\r\n" A "\r\n", STAT_REQUESTS_BAD_PATH},
        {404, "GET /hello/ HTTP/1.1\r\n" A "\r\n", STAT_REQUESTS_BAD_PATH},
        {404, "GET /hello/a/b HTTP/1.1\r\n" A "\r\n", STAT_REQUESTS_BAD_PATH},
        {405, "DELETE /hello/a HTTP/1.1\r\n" A "\r\n", STAT_REQUESTS_BAD_METHOD},
        {413, "POST /echo HTTP/1.1\r\n" A "Content-Length: 2000000\r\n\r\n",
         STAT_REQUESTS_BAD_SIZE},
        {415, "POST /echo HTTP/1.1\r\n" A "Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
         STAT_REQUESTS_BAD_TYPE},
        {417, "GET / HTTP/1.1\r\n" A "Expect: tea\r\n\r\n", STAT_REQUESTS_BAD_HTTP},
        {501, "BREW / HTTP/1.1\r\n" A "\r\n", STAT_REQUESTS_BAD_HTTP},
        {501, "POST / HTTP/1.1\r\n" A "Transfer-Encoding: gzip, chunked\r\n\r\n",
         STAT_REQUESTS_BAD_HTTP},
        {505, "GET / HTTP/1.7\r\n" A "\r\n", STAT_REQUESTS_BAD_HTTP},
    };
    struct fixture f = fixture_init();
    f.t.limits.body_max_bytes = 1 * MIB;
    test_server_start(&f.t);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t before = stat_get(cases[i].counter);
        int status = ask(&f.t, str_from_c(cases[i].request), &f.head, &f.body);
        if (status != cases[i].status)
            test_fail(__FILE__, __LINE__, "%s: got %d, want %d", cases[i].request, status,
                      cases[i].status);
        CHECK_INT(stat_get(cases[i].counter) - before, 1);
        if (status == 405)
            CHECK(head_has(&f, "allow: GET, HEAD, PUT\r\n"));
    }
    fixture_fini(&f);
}

static struct str compressed(enum zip_kind kind, struct str plain, struct buf *out)
{
    CHECK_OK(zip_deflate(kind, plain, 3, out));
    return buf_str(out);
}

static int post_coded(struct fixture *f, const char *path, const char *coding, struct str body)
{
    struct buf b = buf_init(64 * MIB);
    buf_addf(&b, "POST %s HTTP/1.1\r\n" A "Content-Encoding: %s\r\nContent-Length: %zu\r\n\r\n",
             path, coding, body.n);
    buf_add_str(&b, body);
    int status = ask(&f->t, buf_str(&b), &f->head, &f->body);
    buf_fini(&b);
    return status;
}

TEST(h1_inflates_bodies_refuses_damage_and_bombs)
{
    struct fixture f = fixture_init();
    f.t.limits.body_max_bytes = 4 * MIB;
    test_server_start(&f.t);
    struct buf plain = buf_init(64 * MIB), out = buf_init(64 * MIB);
    for (size_t i = 0; i < 400000; i++) /* poorly compressible: also inflated in the pool */
        buf_add_char(&plain, (char)test_rand());
    static const enum zip_kind kinds[] = {ZIP_GZIP, ZIP_DEFLATE, ZIP_ZSTD};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        buf_reset(&out);
        struct str small = compressed(kinds[i], STR("hello hello hello"), &out);
        CHECK_INT(post_coded(&f, "/echo", zip_name(kinds[i]), small), 200);
        CHECK_STR(buf_str(&f.body), STR("hello hello hello"));
        int64_t bad = stat_get(STAT_REQUESTS_BAD_COMPRESSION);
        CHECK_INT(post_coded(&f, "/echo", zip_name(kinds[i]), str_take(small, small.n - 3)), 400);
        CHECK_INT(stat_get(STAT_REQUESTS_BAD_COMPRESSION), bad + 1);
        buf_reset(&out);
        struct str big = compressed(kinds[i], buf_str(&plain), &out);
        CHECK_INT(post_coded(&f, "/echo", zip_name(kinds[i]), big), 200);
        CHECK_STR(buf_str(&f.body), buf_str(&plain));
        CHECK_INT(post_coded(&f, "/echo-pool", zip_name(kinds[i]), big), 200);
        CHECK_STR(buf_str(&f.body), buf_str(&plain));
    }
    buf_reset(&plain);
    buf_add_zero(&plain, 5 * MIB);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        buf_reset(&out);
        CHECK_INT(post_coded(&f, "/echo", zip_name(kinds[i]),
                             compressed(kinds[i], buf_str(&plain), &out)),
                  413);
    }
    wait_until_idle(&f.t);
    CHECK_INT(stat_get(STAT_INFLIGHT_BYTES), 0);
    buf_fini(&plain);
    buf_fini(&out);
    fixture_fini(&f);
}

TEST(h1_past_the_inflight_budget_says_try_again)
{
    struct fixture f = fixture_init();
    f.t.limits.inflight_max_bytes = 100000;
    test_server_start(&f.t);
    int holder = test_dial(&f.t);
    send_text(holder, "POST /size HTTP/1.1\r\n" A "Content-Length: 90000\r\n\r\nx");
    while (!stat_get(STAT_INFLIGHT_BYTES))
        sched_yield();
    CHECK_INT(ask(&f.t, STR("POST /size HTTP/1.1\r\n" A "Content-Length: 20000\r\n\r\nx"), &f.head,
                  &f.body),
              503);
    CHECK(head_has(&f, "retry-after: 1\r\n"));
    close(holder);
    while (stat_get(STAT_INFLIGHT_BYTES))
        sched_yield();
    struct buf b = buf_init(1 * MIB);
    buf_add_c(&b, "POST /size HTTP/1.1\r\n" A "Content-Length: 20000\r\n\r\n");
    buf_add_zero(&b, 20000);
    CHECK_INT(ask(&f.t, buf_str(&b), &f.head, &f.body), 200);
    CHECK_STR(buf_str(&f.body), STR("20000\n"));
    buf_fini(&b);
    fixture_fini(&f);
}

TEST(h1_slow_heads_bodies_and_idle_connections_end)
{
    struct fixture f = fixture_init();
    f.t.limits.header_timeout_ns = f.t.limits.body_timeout_ns = 60 * NS_PER_MS;
    f.t.limits.idle_timeout_ns = 60 * NS_PER_MS;
    test_server_start(&f.t);
    int64_t slow = stat_get(STAT_CONNS_CLOSED_SLOW), idle = stat_get(STAT_CONNS_CLOSED_IDLE);
    CHECK_INT(ask(&f.t, STR("GET / HTTP/1.1\r\nHo"), &f.head, &f.body), 408);
    CHECK_INT(
        ask(&f.t, STR("POST /size HTTP/1.1\r\n" A "Content-Length: 9\r\n\r\nx"), &f.head, &f.body),
        408);
    CHECK_INT(stat_get(STAT_CONNS_CLOSED_SLOW), slow + 2);
    int silent = test_dial(&f.t), preface = test_dial(&f.t), used = test_dial(&f.t);
    send_text(preface, "PRI * HT");
    send_text(used, "GET /hello/x HTTP/1.1\r\n" A "\r\n");
    CHECK_INT(read_answer(used, &f.head, &f.body), 200);
    CHECK(read_to_end(silent, &f.body) && read_to_end(used, &f.body));
    (void)read_to_end(preface, &f.body);
    CHECK_INT(stat_get(STAT_CONNS_CLOSED_IDLE), idle + 2);
    CHECK_INT(stat_get(STAT_CONNS_CLOSED_SLOW), slow + 3);
    close(silent);
    close(preface);
    close(used);
    fixture_fini(&f);
}

TEST(h1_a_half_closed_peer_gets_its_answers)
{
    struct fixture f = fixture_init();
    test_server_start(&f.t);
    int fd = test_dial(&f.t);
    send_text(fd, "GET /page HTTP/1.1\r\n" A "\r\nGET /hello/x HTTP/1.1\r\n" A "\r\nGET /half");
    shutdown(fd, SHUT_WR);
    CHECK_INT(read_answer(fd, &f.head, &f.body), 200);
    CHECK_INT(read_answer(fd, &f.head, &f.body), 200);
    buf_reset(&f.body);
    CHECK(read_to_end(fd, &f.body));
    CHECK_INT(f.body.n, 0);
    close(fd);
    fixture_fini(&f);
}

TEST(h1_head_and_http10)
{
    struct fixture f = fixture_init();
    test_server_start(&f.t);
    int fd = test_dial(&f.t);
    send_text(fd, "HEAD /page HTTP/1.1\r\n" A "\r\nGET /hello/x HTTP/1.0\r\n\r\n");
    buf_reset(&f.head);
    read_until(fd, &f.head, "\r\n\r\n");
    buf_add_char(&f.head, 0);
    CHECK(head_has(&f, "content-length: 5000\r\n") && head_has(&f, "etag: \"1\"\r\n"));
    CHECK(!head_has(&f, "x-evil"));
    CHECK_INT(read_answer(fd, &f.head, &f.body), 200);
    CHECK_STR(buf_str(&f.body), STR("hello x, nobody\n"));
    CHECK(read_to_end(fd, &f.body));
    close(fd);
    fd = test_dial(&f.t);
    send_text(fd, "HEAD /flow HTTP/1.0\r\n\r\n");
    buf_reset(&f.head);
    CHECK(read_to_end(fd, &f.head));
    CHECK_STR(str_take(buf_str(&f.head), 15), STR("HTTP/1.1 200 OK"));
    CHECK_STR(str_skip(buf_str(&f.head), f.head.n - 4), STR("\r\n\r\n"));
    close(fd);
    fixture_fini(&f);
}

TEST(h1_answers_are_compressed_for_who_asks)
{
    struct fixture f = fixture_init();
    static const char *const extra[] = {"X-Served-By: lymer", NULL};
    f.t.door.extra_headers = extra;
    test_server_start(&f.t);
    CHECK_INT(ask(&f.t, STR("GET /page HTTP/1.1\r\n" A "Accept-Encoding: br, gzip;q=0.5\r\n\r\n"),
                  &f.head, &f.body),
              200);
    CHECK(head_has(&f, "content-encoding: gzip\r\n") && head_has(&f, "vary: accept-encoding\r\n"));
    CHECK(head_has(&f, "X-Served-By: lymer\r\n"));
    struct buf plain = buf_init(64 * KIB);
    CHECK_OK(zip_inflate(ZIP_GZIP, buf_str(&f.body), &plain));
    CHECK_INT(plain.n, 5000);
    CHECK_INT(ask(&f.t, STR("GET /page HTTP/1.1\r\n" A "Accept-Encoding: gzip;q=0, br\r\n\r\n"),
                  &f.head, &f.body),
              200);
    CHECK(!head_has(&f, "content-encoding"));
    CHECK_INT(f.body.n, 5000);
    buf_fini(&plain);
    fixture_fini(&f);
}

TEST(h1_origins_are_answered_as_the_door_allows)
{
    struct fixture f = fixture_init();
    f.t.door.cors_origins = "http://one, http://two";
    test_server_start(&f.t);
    CHECK_INT(ask(&f.t,
                  STR("OPTIONS /hello/x HTTP/1.1\r\n" A "Origin: http://two\r\n"
                      "Access-Control-Request-Method: PUT\r\n"
                      "Access-Control-Request-Headers: x-a, x-b\r\n\r\n"),
                  &f.head, &f.body),
              204);
    CHECK(head_has(&f, "access-control-allow-origin: http://two\r\n"));
    CHECK(head_has(&f, "access-control-allow-headers: x-a, x-b\r\n"));
    CHECK(head_has(&f, "access-control-allow-methods: GET, HEAD, PUT\r\n"));
    CHECK(head_has(&f, "vary: origin\r\n"));
    CHECK_INT(ask(&f.t, STR("GET /hello/x HTTP/1.1\r\n" A "Origin: http://evil\r\n\r\n"), &f.head,
                  &f.body),
              200);
    CHECK(!head_has(&f, "access-control-allow-origin"));
    fixture_fini(&f);
}

TEST(h1_paths_are_decoded_segment_by_segment)
{
    static const char *const cases[][2] = {
        {"/hello/a%2Fb", "hello a/b, nobody\n"},
        {"/hell%6f/x", "hello x, nobody\n"},
        {"/hello/%E4%B8%80", "hello \xe4\xb8\x80, nobody\n"},
        {"/files/", ""},
        {"/files/a/b%20c/d", "a/b c/d"},
        {"/hello/x?who=%zz&who=ok", "hello x, ok\n"},
        {"/hello/x?whom=1&who", "hello x, \n"},
    };
    struct fixture f = fixture_init();
    test_server_start(&f.t);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = buf_init(1 * KIB);
        buf_addf(&b, "GET %s HTTP/1.1\r\n" A "\r\n", cases[i][0]);
        CHECK_INT(ask(&f.t, buf_str(&b), &f.head, &f.body), 200);
        CHECK_STR(buf_str(&f.body), str_from_c(cases[i][1]));
        buf_fini(&b);
    }
    fixture_fini(&f);
}

TEST(h1_a_streamed_answer_stays_within_its_memory)
{
    struct fixture f = fixture_init();
    test_server_start(&f.t);
    int fd = test_dial(&f.t), small = 64 * 1024;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    streamed = 0;
    send_text(fd, "GET /flow HTTP/1.1\r\n" A "Connection: close\r\n\r\n");
    size_t got = 0, ahead_max = 0;
    static char in[65536];
    for (ssize_t n; (n = recv(fd, in, sizeof in, 0)) > 0;) {
        got += (size_t)n;
        ahead_max = streamed > got ? max_size(ahead_max, streamed - got) : ahead_max;
    }
    CHECK(got > STREAM_BYTES);
    CHECK(ahead_max < 10 * MIB); /* 2 MiB of ours, the rest in the kernel's buffers */
    wait_until_idle(&f.t);
    CHECK_INT(stream_broken, 0);
    close(fd);
    fixture_fini(&f);
}

TEST(h1_a_client_that_leaves_ends_the_stream_and_so_does_one_that_takes_nothing)
{
    struct fixture f = fixture_init();
    f.t.limits.write_timeout_ns = 100 * NS_PER_MS;
    test_server_start(&f.t);
    for (int leave = 0; leave < 2; leave++) {
        int fd = test_dial(&f.t);
        stream_broken = 0;
        send_text(fd, "GET /flow HTTP/1.1\r\n" A "\r\n");
        buf_reset(&f.head);
        read_until(fd, &f.head, "\r\n\r\n");
        if (leave)
            close(fd);
        wait_until_idle(&f.t);
        CHECK_INT(stream_broken, 1);
        if (!leave)
            close(fd);
    }
    CHECK_INT(stat_get(STAT_CONNS_CLOSED_SLOW), 1);
    fixture_fini(&f);
}

TEST(h1_a_stream_broken_off_is_seen_by_the_client)
{
    struct fixture f = fixture_init();
    test_server_start(&f.t);
    int fd = test_dial(&f.t);
    send_text(fd, "GET /broken HTTP/1.1\r\n" A "\r\n");
    (void)read_to_end(fd, &f.body);
    CHECK(!f.body.n || !memmem(f.body.p, f.body.n, "0\r\n\r\n", 5));
    close(fd);
    fixture_fini(&f);
}

TEST(h1_a_full_pool_says_try_again)
{
    struct fixture f = fixture_init();
    f.t.queue_max = 1;
    test_server_start(&f.t);
    pthread_mutex_lock(&gate);
    int fds[4], refused = 0;
    for (int i = 0; i < 4; i++) { /* two run, one waits, one is too many */
        fds[i] = test_dial(&f.t);
        send_text(fds[i], "GET /gate HTTP/1.1\r\n" A "\r\n");
        while (at_gate < min_size((size_t)i + 1, 2))
            sched_yield();
    }
    while (!stat_get(STAT_REQUESTS_REFUSED_BUSY))
        sched_yield();
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < 4; i++) {
        int status = read_answer(fds[i], &f.head, &f.body);
        refused += status == 503 && head_has(&f, "retry-after: 1\r\n");
        CHECK(status == 503 || status == 200);
        close(fds[i]);
    }
    CHECK_INT(refused, 1);
    fixture_fini(&f);
}

/* The server's last moments: the pool has ended, a loop still runs. */
TEST(h1_a_stopped_pool_says_try_again)
{
    struct fixture f = fixture_init();
    test_server_start(&f.t);
    work_pool_stop(f.t.pool);
    CHECK_INT(ask(&f.t, STR("GET /flow HTTP/1.1\r\n" A "\r\n"), &f.head, &f.body), 503);
    CHECK_INT(stat_get(STAT_REQUESTS_REFUSED_BUSY), 1);
    fixture_fini(&f);
}

TEST(h1_connections_past_the_limit_are_refused)
{
    struct fixture f = fixture_init();
    f.t.limits.conns_max = 2;
    test_server_start(&f.t);
    int a = test_dial(&f.t), b = test_dial(&f.t), c = test_dial(&f.t);
    (void)read_to_end(c, &f.body);
    CHECK_INT(stat_get(STAT_CONNS_REFUSED_LIMIT), 1);
    send_text(a, "GET /hello/x HTTP/1.1\r\n" A "\r\n");
    CHECK_INT(read_answer(a, &f.head, &f.body), 200);
    close(a);
    close(b);
    close(c);
    fixture_fini(&f);
}

TEST(h1_drain_finishes_what_runs_and_closes_the_rest)
{
    struct fixture f = fixture_init();
    test_server_start(&f.t);
    pthread_mutex_lock(&gate);
    int idle = test_dial(&f.t), busy = test_dial(&f.t);
    send_text(idle, "GET /hello/x HTTP/1.1\r\n" A "\r\n");
    CHECK_INT(read_answer(idle, &f.head, &f.body), 200);
    send_text(busy, "GET /gate HTTP/1.1\r\n" A "\r\n");
    while (!at_gate)
        sched_yield();
    http_server_drain(f.t.server);
    buf_reset(&f.body);
    CHECK(read_to_end(idle, &f.body));
    CHECK(http_server_busy(f.t.server) > 0);
    pthread_mutex_unlock(&gate);
    CHECK_INT(read_answer(busy, &f.head, &f.body), 200);
    CHECK(head_has(&f, "connection: close\r\n"));
    CHECK(read_to_end(busy, &f.body));
    wait_until_idle(&f.t);
    close(idle);
    close(busy);
    fixture_fini(&f);
}

/* --- an answer that ends while its last piece is on its way --- */

#define LATE_TURNS 64u /* more than such an answer takes */

static struct http_req *late;
static unsigned late_turns; /* until it ends */

static void late_begins(struct http_req *r)
{
    static char text[256 * KIB];
    http_start(r, 200, "application/octet-stream");
    for (int i = 0; i < 5; i++) /* one piece past what a stream queues */
        CHECK(http_write(r, str_of(text, sizeof text)));
    late = r;
}

static void late_ends(struct timer *t)
{
    (void)t;
    if (late && late_turns-- == 0) {
        http_end(late, true);
        late = NULL;
    }
}

static const struct http_route late_routes[] = {{"GET", "/late", late_begins, HTTP_ON_LOOP}};

/* Takes what is there; true when the answer is complete. */
static bool late_read(int fd, size_t *got)
{
    static char bytes[64 * KIB];
    ssize_t n;
    bool whole = false;
    while ((n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
        *got += (size_t)n;
        whole = n >= 5 && memcmp(bytes + n - 5, "0\r\n\r\n", 5) == 0;
    }
    return whole && *got > 5 * 256 * KIB;
}

/* Whatever the turn in which the handler ends: between the loop's messages and its output stands a
 * moment when the socket's drain finds the answer whole while the handler's message still waits. */
TEST(h1_an_answer_may_end_in_any_turn_of_the_loop)
{
    struct test_server t = test_server_init();
    struct timer timer = {.fn = late_ends};
    struct err e;
    t.loop = loop_new();
    t.door.routes = late_routes;
    t.door.route_count = ARRAY_LEN(late_routes);
    CHECK_INT(http_server_open(&t.server, &t.loop, 1, &t.door, 1, NULL, &t.limits, &e), E_OK);
    for (unsigned k = 0; k < LATE_TURNS; k++) {
        int fd = test_dial(&t);
        size_t got = 0;
        late_turns = k;
        send_text(fd, "GET /late HTTP/1.1\r\nhost: a\r\n\r\n");
        while (!late_read(fd, &got)) {
            timer_arm(t.loop, &timer, 0);
            loop_poll(t.loop);
        }
        close(fd);
        while (http_server_busy(t.server))
            loop_poll(t.loop);
    }
    timer_cancel(t.loop, &timer);
    http_server_close(t.server);
    loop_free(t.loop);
}
