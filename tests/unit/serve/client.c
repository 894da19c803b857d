/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/serve/client.h"

#include "tests/harness.h"
#include "base/bytes.h"
#include "base/num.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- the server --- */

static void run_loop(void *arg)
{
    struct test_server *t = arg;
    loop_run(t->loop);
}

struct test_server test_server_init(void)
{
    struct test_server t = {.limits = http_limits_default(), .queue_max = 16};
    t.door = (struct http_door){.name = "test", .flag = "--test-port", .addr = "127.0.0.1"};
    return t;
}

void test_server_start(struct test_server *t)
{
    struct err e;
    t->loop = loop_new();
    t->pool = work_pool_new(2, t->queue_max);
    if (http_server_open(&t->server, &t->loop, 1, &t->door, 1, t->pool, &t->limits, &e) != E_OK)
        test_fail(__FILE__, __LINE__, "%s", e.msg);
    thread_start(&t->thread, "loop", run_loop, t);
}

void test_server_stop(struct test_server *t)
{
    loop_stop(t->loop);
    thread_join(&t->thread);
    work_pool_free(t->pool);
    http_server_close(t->server);
    loop_free(t->loop);
}

int test_dial(const struct test_server *t)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(http_server_port(t->server, 0)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    CHECK(fd >= 0);
    CHECK_INT(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct timeval patience = {.tv_sec = 20}; /* a hang fails the test instead of the run */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return fd;
}

/* --- text --- */

/* The server may have closed: what it said is what counts. */
void send_all(int fd, struct str data)
{
    while (data.n) {
        ssize_t n = send(fd, data.p, data.n, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        data = str_skip(data, (size_t)n);
    }
}

void send_text(int fd, const char *text)
{
    send_all(fd, str_from_c(text));
}

static ssize_t read_some(int fd, struct buf *b, size_t most)
{
    CHECK(buf_reserve(b, most));
    ssize_t n = recv(fd, b->p + b->n, most, 0);
    b->n += n > 0 ? (size_t)n : 0;
    return n;
}

static bool holds(struct str s, const char *text)
{
    return s.n && memmem(s.p, s.n, text, strlen(text));
}

void read_until(int fd, struct buf *b, const char *text)
{
    while (!holds(buf_str(b), text))
        if (read_some(fd, b, 1) <= 0)
            test_fail(__FILE__, __LINE__, "the stream ended before \"%s\": %.*s", text,
                      STR_ARG(buf_str(b)));
}

bool read_to_end(int fd, struct buf *b)
{
    ssize_t n;
    while ((n = read_some(fd, b, 64 * KIB)) > 0)
        ;
    return n == 0;
}

static size_t length_of(struct str head)
{
    const char *at = memmem(head.p, head.n, "content-length: ", 16);
    return at ? strtoul(at + 16, NULL, 10) : 0;
}

static void read_chunked(int fd, struct buf *body)
{
    for (;;) {
        struct buf line = buf_init(1 * KIB);
        read_until(fd, &line, "\r\n");
        size_t n = strtoul(line.p, NULL, 16), want = body->n + n;
        while (body->n < want)
            CHECK(read_some(fd, body, want - body->n) > 0);
        buf_reset(&line);
        read_until(fd, &line, "\r\n");
        buf_fini(&line);
        if (!n)
            return;
    }
}

int read_answer(int fd, struct buf *head, struct buf *body)
{
    buf_reset(head);
    buf_reset(body);
    read_until(fd, head, "\r\n\r\n");
    buf_add_char(head, '\0');
    head->n--;
    CHECK(str_starts(buf_str(head), STR("HTTP/1.1 ")));
    int status = atoi(head->p + 9);
    if (holds(buf_str(head), "transfer-encoding: chunked"))
        read_chunked(fd, body);
    else
        while (status != 304 && body->n < length_of(buf_str(head)))
            CHECK(read_some(fd, body, length_of(buf_str(head)) - body->n) > 0);
    return status;
}

int ask(const struct test_server *t, struct str request, struct buf *head, struct buf *body)
{
    int fd = test_dial(t);
    send_all(fd, request);
    int status = read_answer(fd, head, body);
    close(fd);
    return status;
}

/* --- frames --- */

void put_frame(struct buf *b, uint8_t type, uint8_t flags, uint32_t stream, struct str payload)
{
    uint8_t head[9] = {(uint8_t)(payload.n >> 16), (uint8_t)(payload.n >> 8), (uint8_t)payload.n,
                       type, flags};
    store_u32be(head + 5, stream);
    buf_add(b, head, sizeof head);
    buf_add_str(b, payload);
}

void send_frame(int fd, uint8_t type, uint8_t flags, uint32_t stream, struct str payload)
{
    struct buf b = buf_init(16 * MIB);
    put_frame(&b, type, flags, stream, payload);
    send_all(fd, buf_str(&b));
    buf_fini(&b);
}

int h2_dial(const struct test_server *t)
{
    int fd = test_dial(t);
    send_text(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    send_frame(fd, F_SETTINGS, 0, 0, STR(""));
    return fd;
}

void put_field(struct buf *b, const char *name, struct str value)
{
    CHECK(strlen(name) < 127 && value.n < 127 + 128);
    buf_add_char(b, 0);
    buf_add_char(b, (char)strlen(name));
    buf_add_c(b, name);
    if (value.n < 127) {
        buf_add_char(b, (char)value.n);
    } else { /* a 7-bit prefix full, then one more byte */
        buf_add_char(b, 127);
        buf_add_char(b, (char)(value.n - 127));
    }
    buf_add_str(b, value);
}

void send_head(int fd, uint32_t stream, const char *method, const char *path, bool end)
{
    struct buf b = buf_init(64 * KIB);
    put_field(&b, ":method", str_from_c(method));
    put_field(&b, ":scheme", STR("http"));
    put_field(&b, ":authority", STR("a"));
    put_field(&b, ":path", str_from_c(path));
    send_frame(fd, F_HEADERS, END_HEADERS | (end ? END_STREAM : 0), stream, buf_str(&b));
    buf_fini(&b);
}

static bool read_exactly(int fd, void *out, size_t n)
{
    for (char *p = out; n;) {
        ssize_t got = recv(fd, p, n, 0);
        if (got <= 0)
            return false;
        p += got;
        n -= (size_t)got;
    }
    return true;
}

bool read_frame(int fd, struct frame *f)
{
    uint8_t head[9];
    if (!read_exactly(fd, head, sizeof head))
        return false;
    f->length = load_u32be(head) >> 8;
    f->type = head[3];
    f->flags = head[4];
    f->stream = load_u32be(head + 5);
    CHECK(f->length <= sizeof f->payload);
    return read_exactly(fd, f->payload, f->length);
}

bool read_frame_of(int fd, uint8_t type, uint32_t stream, struct frame *f)
{
    while (read_frame(fd, f)) {
        if (f->type == type && (!stream || f->stream == stream))
            return true;
        if (f->type == F_SETTINGS && !(f->flags & ACK))
            send_frame(fd, F_SETTINGS, ACK, 0, STR(""));
        if (f->type == F_PING && !(f->flags & ACK))
            send_frame(fd, F_PING, ACK, 0, str_of(f->payload, f->length));
    }
    return false;
}
