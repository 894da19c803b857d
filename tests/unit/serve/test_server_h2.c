/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"
#include "tests/unit/serve/client.h"

#include "base/os/os.h"
#include "base/bytes.h"
#include "base/stats.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define ENHANCE_YOUR_CALM 11u
#define CANCEL            8u

static _Atomic size_t streamed;
static _Atomic int stream_broken;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int at_gate;

static void size(struct http_req *r)
{
    http_reply_text(r, 200, "%zu", r->body.n);
}

static void greet(struct http_req *r)
{
    http_reply_text(r, 200, "hello");
}

#define STREAM_BYTES (16 * MIB)

static void flow(struct http_req *r)
{
    static char text[10000];
    http_start(r, 200, "application/octet-stream");
    bool ok = true;
    for (size_t n = 0; n < STREAM_BYTES && ok; n += sizeof text) {
        ok = http_write(r, str_of(text, sizeof text));
        streamed += ok ? sizeof text : 0;
    }
    stream_broken = !ok;
    http_end(r, ok);
}

static void wait_at_gate(struct http_req *r)
{
    at_gate++;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    http_reply_text(r, 200, "through");
}

static const struct http_route routes[] = {
    {"POST", "/size", size, HTTP_ON_LOOP},
    {"GET", "/hello", greet, HTTP_ON_LOOP},
    {"GET", "/flow", flow, HTTP_ON_POOL},
    {"GET", "/gate", wait_at_gate, HTTP_ON_POOL},
};

static struct test_server *server_init(void)
{
    static struct test_server t;
    t = test_server_init();
    t.door.routes = routes;
    t.door.route_count = ARRAY_LEN(routes);
    return &t;
}

/* A connection the server has ended counts as busy until its peer closed as well (or the linger is
 * over): close first, then wait. */
static void wait_until_idle(struct test_server *t)
{
    while (http_server_busy(t->server))
        sched_yield();
}

static struct str payload(const struct frame *f)
{
    return str_of(f->payload, f->length);
}

/* The first byte of a header block is :status as a field of the static table (8: 200, 9: 204 …) or
 * a literal with its name from there. */
static unsigned status_of(const struct frame *f)
{
    static const unsigned fixed[] = {200, 204, 206, 304, 400, 404, 500};
    unsigned i = 0;
    while (i < f->length && (f->payload[i] & 0xe0) == 0x20)
        i++; /* dynamic table size update */
    unsigned first = f->payload[i];
    if (first >= 0x88 && first <= 0x8e)
        return fixed[first - 0x88];
    return 0;
}

static void expect_goaway(int fd, uint32_t code)
{
    static struct frame f;
    CHECK(read_frame_of(fd, F_GOAWAY, 0, &f));
    CHECK_INT(load_u32be(f.payload + 4), code);
    while (read_frame(fd, &f))
        CHECK(f.type != F_HEADERS);
}

/* --- requests --- */

TEST(h2_answers_interleaved_streams)
{
    struct test_server *t = server_init();
    static struct frame f;
    test_server_start(t);
    int fd = h2_dial(t);
    for (uint32_t id = 1; id < 40; id += 2)
        send_head(fd, id, "POST", "/size", false);
    for (uint32_t id = 1; id < 40; id += 2) {
        send_frame(fd, F_DATA, 0, id, STR("abc"));
        send_frame(fd, F_DATA, END_STREAM, id, STR("de"));
    }
    unsigned heads = 0, ends = 0;
    while (ends < 20) {
        CHECK(read_frame(fd, &f));
        heads += f.type == F_HEADERS && status_of(&f) == 200;
        if (f.type == F_DATA) {
            CHECK_STR(payload(&f), STR("5\n"));
            CHECK(f.flags & END_STREAM);
            ends++;
        }
    }
    CHECK_INT(heads, 20);
    close(fd);
    wait_until_idle(t);
    test_server_stop(t);
}

static uint32_t setting(const struct frame *f, unsigned id)
{
    for (uint32_t i = 0; i + 6 <= f->length; i += 6)
        if (load_u32be(f->payload + i) >> 16 == id)
            return load_u32be(f->payload + i + 2);
    return 0;
}

TEST(h2_windows_are_wide_and_opened_again_as_bodies_are_taken)
{
    struct test_server *t = server_init();
    static struct frame f;
    static char zeros[16384];
    test_server_start(t);
    int fd = h2_dial(t);
    CHECK(read_frame_of(fd, F_SETTINGS, 0, &f));
    CHECK_INT(setting(&f, 4), 1 * MIB);
    CHECK_INT(setting(&f, 3), 128);
    CHECK_INT(setting(&f, 6), 64 * KIB);
    CHECK(read_frame_of(fd, F_WINDOW, 0, &f));
    CHECK_INT(load_u32be(f.payload) + 65535, 8 * MIB);
    send_frame(fd, F_SETTINGS, ACK, 0, STR(""));
    send_head(fd, 1, "POST", "/size", false);
    size_t window = 1 * MIB, sent = 0;
    while (sent < 3 * MIB) {
        while (window < sizeof zeros) {
            CHECK(read_frame_of(fd, F_WINDOW, 1, &f));
            window += load_u32be(f.payload);
        }
        send_frame(fd, F_DATA, 0, 1, str_of(zeros, sizeof zeros));
        sent += sizeof zeros;
        window -= sizeof zeros;
    }
    send_frame(fd, F_DATA, END_STREAM, 1, STR(""));
    CHECK(read_frame_of(fd, F_DATA, 1, &f));
    CHECK_STR(payload(&f), STR("3145728\n"));
    close(fd);
    test_server_stop(t);
}

TEST(h2_body_past_the_limit_is_answered_and_stopped_but_the_connection_lives)
{
    struct test_server *t = server_init();
    static struct frame f;
    static char zeros[16000];
    t->limits.body_max_bytes = 40000;
    test_server_start(t);
    int fd = h2_dial(t);
    send_head(fd, 1, "POST", "/size", false);
    for (int i = 0; i < 4; i++)
        send_frame(fd, F_DATA, 0, 1, str_of(zeros, sizeof zeros));
    CHECK(read_frame_of(fd, F_HEADERS, 1, &f));
    CHECK(read_frame_of(fd, F_RST, 1, &f));
    CHECK_INT(load_u32be(f.payload), 0);
    send_head(fd, 3, "GET", "/hello", true);
    CHECK(read_frame_of(fd, F_DATA, 3, &f));
    CHECK_STR(payload(&f), STR("hello\n"));
    CHECK_INT(stat_get(STAT_REQUESTS_BAD_SIZE), 1);
    close(fd);
    test_server_stop(t);
}

TEST(h2_too_many_header_fields_are_refused_with_431)
{
    struct test_server *t = server_init();
    static struct frame f;
    test_server_start(t);
    int fd = h2_dial(t);
    struct buf b = buf_init(64 * KIB);
    put_field(&b, ":method", STR("GET"));
    put_field(&b, ":scheme", STR("http"));
    put_field(&b, ":path", STR("/hello"));
    put_field(&b, ":authority", STR("a"));
    for (unsigned i = 0; i < HTTP_HEADERS_MAX + 1; i++)
        put_field(&b, "x-a", STR("b"));
    send_frame(fd, F_HEADERS, END_HEADERS | END_STREAM, 1, buf_str(&b));
    CHECK(read_frame_of(fd, F_HEADERS, 1, &f));
    CHECK(memmem(f.payload, f.length, "431", 3));
    CHECK(read_frame_of(fd, F_DATA, 1, &f));
    CHECK(str_starts(payload(&f), STR("header section larger")));
    CHECK_INT(stat_get(STAT_REQUESTS_BAD_HEAD), 1);
    buf_fini(&b);
    close(fd);
    test_server_stop(t);
}

TEST(h2_a_streamed_answer_waits_for_the_window_and_ends_with_a_reset)
{
    struct test_server *t = server_init();
    static struct frame f;
    test_server_start(t);
    int fd = h2_dial(t);
    streamed = 0;
    stream_broken = 0;
    send_head(fd, 1, "GET", "/flow", true);
    size_t got = 0;
    while (got < 65535) { /* the whole of a window nobody opens again */
        CHECK(read_frame_of(fd, F_DATA, 1, &f));
        got += f.length;
    }
    send_head(fd, 3, "GET", "/hello", true); /* the window of the connection is used up too */
    CHECK(read_frame_of(fd, F_HEADERS, 3, &f));
    CHECK(streamed < 4 * MIB);
    uint8_t code[4];
    store_u32be(code, CANCEL);
    send_frame(fd, F_RST, 0, 1, str_of(code, 4));
    send_frame(fd, F_RST, 0, 3, str_of(code, 4));
    wait_until_idle(t);
    CHECK_INT(stream_broken, 1);
    CHECK(streamed < 4 * MIB);
    close(fd);
    test_server_stop(t);
}

/* --- clocks --- */

TEST(h2_a_stalled_body_and_an_answer_not_taken_are_reset)
{
    struct test_server *t = server_init();
    static struct frame f;
    t->limits.body_timeout_ns = t->limits.write_timeout_ns = 50 * NS_PER_MS;
    test_server_start(t);
    int fd = h2_dial(t);
    send_head(fd, 1, "POST", "/size", false);
    send_head(fd, 3, "GET", "/flow", true); /* more than the window */
    bool seen[4] = {false};
    while (!seen[1] || !seen[3]) {
        CHECK(read_frame_of(fd, F_RST, 0, &f));
        CHECK_INT(load_u32be(f.payload), CANCEL);
        seen[f.stream] = true;
    }
    wait_until_idle(t);
    CHECK_INT(stream_broken, 1);
    CHECK_INT(stat_get(STAT_REQUESTS_BAD_TIMEOUT), 2);
    close(fd);
    test_server_stop(t);
}

TEST(h2_a_header_block_that_never_ends_in_time_and_an_idle_connection_end)
{
    struct test_server *t = server_init();
    static struct frame f;
    t->limits.header_timeout_ns = 50 * NS_PER_MS;
    test_server_start(t);
    int fd = h2_dial(t);
    send_frame(fd, F_HEADERS, 0, 1, STR("\x82"));
    do /* no acknowledgement may stand inside a header block */
        CHECK(read_frame(fd, &f));
    while (f.type != F_GOAWAY);
    CHECK_INT(load_u32be(f.payload + 4), 0);
    CHECK_INT(stat_get(STAT_CONNS_CLOSED_SLOW), 1);
    close(fd);
    test_server_stop(t);
    t = server_init();
    t->limits.idle_timeout_ns = 50 * NS_PER_MS;
    test_server_start(t);
    fd = h2_dial(t);
    expect_goaway(fd, 0);
    CHECK_INT(stat_get(STAT_CONNS_CLOSED_IDLE), 1);
    close(fd);
    test_server_stop(t);
}

/* What was asked is answered, what was half asked is dropped, then the connection ends: it does not
 * wait for the idle timeout. */
TEST(h2_a_half_closed_peer_gets_its_answers)
{
    struct test_server *t = server_init();
    static struct frame f;
    test_server_start(t);
    int fd = h2_dial(t);
    at_gate = 0;
    pthread_mutex_lock(&gate);
    send_head(fd, 1, "GET", "/gate", true);
    send_head(fd, 3, "POST", "/size", false);
    while (!at_gate)
        sched_yield();
    CHECK_INT(shutdown(fd, SHUT_WR), 0);
    CHECK(read_frame_of(fd, F_RST, 3, &f));
    CHECK_INT(load_u32be(f.payload), CANCEL);
    pthread_mutex_unlock(&gate);
    CHECK(read_frame_of(fd, F_DATA, 1, &f));
    CHECK_STR(payload(&f), STR("through\n"));
    CHECK(!read_frame(fd, &f));
    /* The last byte reaches the peer a moment before the server counts the connection as closed. */
    uint64_t end = os_mono_ns(os_posix()) + 10 * NS_PER_S;
    while (stat_get(STAT_CONNS_OPEN) && os_mono_ns(os_posix()) < end)
        sched_yield();
    CHECK_INT(stat_get(STAT_CONNS_OPEN), 0);
    close(fd);
    test_server_stop(t);
}

/* --- floods --- */

static void flood(const char *what, void (*one)(struct buf *b, uint32_t i))
{
    struct test_server *t = server_init();
    struct buf b = buf_init(64 * MIB);
    test_server_start(t);
    int fd = h2_dial(t);
    int64_t before = stat_get(STAT_CONNS_CLOSED_FLOOD);
    for (uint32_t i = 0; i < 20000; i++)
        one(&b, i);
    send_all(fd, buf_str(&b));
    static struct frame f;
    bool calm = false;
    while (!calm && read_frame(fd, &f))
        calm = f.type == F_GOAWAY && load_u32be(f.payload + 4) == ENHANCE_YOUR_CALM;
    close(fd);
    wait_until_idle(t);
    if (stat_get(STAT_CONNS_CLOSED_FLOOD) != before + 1)
        test_fail(__FILE__, __LINE__, "%s: not counted as a flood", what);
    buf_fini(&b);
    test_server_stop(t);
}

static void one_ping(struct buf *b, uint32_t i)
{
    (void)i;
    put_frame(b, F_PING, 0, 0, STR("12345678"));
}

static void one_ping_ack(struct buf *b, uint32_t i)
{
    (void)i;
    put_frame(b, F_PING, ACK, 0, STR("12345678"));
}

static void one_settings(struct buf *b, uint32_t i)
{
    (void)i;
    put_frame(b, F_SETTINGS, 0, 0, STR("\0\4\0\1\0\0"));
}

static void one_priority(struct buf *b, uint32_t i)
{
    (void)i;
    put_frame(b, F_PRIORITY, 0, 1 + 2 * (i % 100), STR("\0\0\0\0\20"));
}

static void put_head(struct buf *b, uint8_t flags, uint32_t id, const char *path)
{
    struct buf h = buf_init(1 * KIB);
    put_field(&h, ":method", STR("GET"));
    put_field(&h, ":scheme", STR("http"));
    put_field(&h, ":authority", STR("a"));
    put_field(&h, ":path", str_from_c(path));
    put_frame(b, F_HEADERS, flags, id, buf_str(&h));
    buf_fini(&h);
}

static void one_rapid_reset(struct buf *b, uint32_t i)
{
    put_head(b, END_HEADERS | END_STREAM, 1 + 2 * i, "/hello");
    put_frame(b, F_RST, 0, 1 + 2 * i, STR("\0\0\0\10"));
}

/* Streams that make the server reset: a window past 2^31-1 is an error of the stream. */
static void one_provoked_reset(struct buf *b, uint32_t i)
{
    put_head(b, END_HEADERS, 1 + 2 * i, "/hello");
    put_frame(b, F_WINDOW, 0, 1 + 2 * i, STR("\x7f\xff\xff\xff"));
}

static void one_empty_data(struct buf *b, uint32_t i)
{
    if (!i)
        put_head(b, END_HEADERS, 1, "/hello");
    put_frame(b, F_DATA, 0, 1, STR(""));
}

static void one_window(struct buf *b, uint32_t i)
{
    (void)i;
    put_frame(b, F_WINDOW, 0, 0, STR("\0\0\0\1"));
}

TEST(h2_floods_end_in_enhance_your_calm)
{
    flood("ping", one_ping);
    flood("ping ack", one_ping_ack);
    flood("settings", one_settings);
    flood("priority", one_priority);
    flood("rapid reset", one_rapid_reset);
    flood("provoked reset", one_provoked_reset);
    flood("empty data", one_empty_data);
    flood("window update", one_window);
}

/* What an ordinary client does for long must not look like a flood: keepalive pings and a window
 * update or two an answer. */
TEST(h2_an_ordinary_client_is_no_flood)
{
    struct test_server *t = server_init();
    static struct frame f;
    test_server_start(t);
    int fd = h2_dial(t);
    for (uint32_t id = 1; id < 8000; id += 2) {
        send_head(fd, id, "POST", "/size", false);
        send_frame(fd, F_DATA, END_STREAM, id, STR("abc"));
        CHECK(read_frame_of(fd, F_DATA, id, &f));
        send_frame(fd, F_WINDOW, 0, 0, STR("\0\0\0\2"));
        send_frame(fd, F_PING, 0, 0, STR("12345678"));
    }
    CHECK_INT(stat_get(STAT_CONNS_CLOSED_FLOOD), 0);
    close(fd);
    test_server_stop(t);
}

TEST(h2_continuations_without_end_are_cut_off)
{
    struct test_server *t = server_init();
    test_server_start(t);
    int fd = h2_dial(t);
    struct buf b = buf_init(1 * MIB);
    put_frame(&b, F_HEADERS, 0, 1, STR(""));
    for (int i = 0; i < 1000; i++)
        put_frame(&b, F_CONT, 0, 1, STR(""));
    send_all(fd, buf_str(&b));
    buf_reset(&b);
    (void)read_to_end(fd, &b);
    CHECK_INT(stat_get(STAT_CONNS_CLOSED_FLOOD) + stat_get(STAT_CONNS_CLOSED_PROTOCOL), 1);
    close(fd);
    wait_until_idle(t);
    buf_fini(&b);
    test_server_stop(t);
}

/* A small field put into the dynamic table once and named a thousand times: little on the wire,
 * much when decoded. */
TEST(h2_a_header_bomb_is_refused)
{
    struct test_server *t = server_init();
    test_server_start(t);
    int fd = h2_dial(t);
    struct buf b = buf_init(1 * MIB);
    put_field(&b, ":method", STR("GET"));
    put_field(&b, ":scheme", STR("http"));
    put_field(&b, ":path", STR("/hello"));
    put_field(&b, ":authority", STR("a"));
    buf_add(&b, "\x40\x01x\x7e", 4); /* literal with indexing: x, 126 bytes */
    buf_add_zero(&b, 126);
    memset(b.p + b.n - 126, 'v', 126);
    for (int i = 0; i < 10000; i++)
        buf_add_char(&b, (char)0xbe); /* the newest entry of the table */
    send_frame(fd, F_HEADERS, END_HEADERS | END_STREAM, 1, buf_str(&b));
    expect_goaway(fd, ENHANCE_YOUR_CALM);
    CHECK_INT(stat_get(STAT_CONNS_CLOSED_FLOOD), 1);
    close(fd);
    wait_until_idle(t);
    buf_fini(&b);
    test_server_stop(t);
}

TEST(h2_garbage_after_the_preface_is_a_protocol_error)
{
    struct test_server *t = server_init();
    test_server_start(t);
    int fd = test_dial(t);
    send_text(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    struct buf b = buf_init(1 * MIB);
    (void)read_to_end(fd, &b);
    CHECK_INT(stat_get(STAT_CONNS_CLOSED_PROTOCOL), 1);
    buf_fini(&b);
    close(fd);
    test_server_stop(t);
}

/* --- drain --- */

TEST(h2_drain_says_goaway_twice_and_finishes_what_runs)
{
    struct test_server *t = server_init();
    static struct frame f;
    test_server_start(t);
    pthread_mutex_lock(&gate);
    int fd = h2_dial(t);
    send_head(fd, 1, "GET", "/gate", true);
    while (!at_gate)
        sched_yield();
    http_server_drain(t->server);
    CHECK(read_frame_of(fd, F_GOAWAY, 0, &f));
    CHECK_INT(load_u32be(f.payload), 0x7fffffff);
    send_head(fd, 3, "GET", "/hello", true); /* already on its way when the first one came */
    CHECK(read_frame_of(fd, F_HEADERS, 3, &f));
    CHECK(read_frame_of(fd, F_GOAWAY, 0, &f));
    CHECK_INT(load_u32be(f.payload), 3);
    CHECK_INT(load_u32be(f.payload + 4), 0);
    pthread_mutex_unlock(&gate);
    CHECK(read_frame_of(fd, F_DATA, 1, &f));
    CHECK_STR(payload(&f), STR("through\n"));
    CHECK(!read_frame(fd, &f));
    close(fd);
    wait_until_idle(t);
    test_server_stop(t);
}
