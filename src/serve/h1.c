/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.x on a connection: one request at a time, in order.
 *
 *   HEAD   waiting for a request line, then for the empty line
 *   BODY   the request runs, its body is still coming
 *   ANSWER the request is complete, its answer is not; bytes behind it (pipelining) stay with the
 *          connection, which reads no more than it may keep
 *   FLUSH  the answer is complete, the socket has not taken all of it
 *   then HEAD again, or the connection closes: the peer asked for it, the body was not read to its
 *   end, the request was refused, the server drains.
 *
 * A taker may answer at any moment of BODY or ANSWER, also inside its sink's callbacks; the state
 * then turns to FLUSH at once, but the stream is closed only when the output has drained. */
#include "serve/engine.h"
#include "serve/http1.h"

#include "base/stats.h"

#include <stdio.h>
#include <stdlib.h>

#define HEAD_IN_MAX (16 * KIB)
#define BODY_SLACK  (16 * KIB) /* read past a body's end at most this much at once */
#define BODY_IN_MAX (256 * KIB)

enum h1_state { H1_HEAD, H1_BODY, H1_ANSWER, H1_FLUSH };

struct h1 {
    struct stream stream; /* meaningful in BODY, ANSWER, FLUSH while live */
    struct hconn *hconn;
    enum h1_state state;
    bool live;       /* the taker has not heard `closed` */
    bool keep_alive; /* for another request after this one */
    bool minor0;     /* the request was HTTP/1.0 */
    bool head_only;  /* HEAD: an answer has no body */
    bool body_chunked, out_chunked, out_none;
    bool eof, broken;
    struct http1_scan scan;
    struct http1_chunked chunked;
    struct buf head;   /* a head that came in pieces */
    uint64_t left;     /* of a body with a length */
    uint64_t since_ns; /* the head's first byte, or the body's last progress */
};

static struct h1 *h1_of(const struct hconn *h)
{
    return h->engine;
}

static void h1_put(struct h1 *c, struct str s)
{
    if (!c->broken && !hconn_write(c->hconn, s)) {
        c->broken = true; /* closing here would call the taker's sink back: at the turn's end */
        conn_turn(c->hconn->conn);
    }
}

static uint64_t h1_now(const struct h1 *c)
{
    return loop_now_ns(c->hconn->home->loop);
}

static const struct http_limits *h1_limits(const struct h1 *c)
{
    return &c->hconn->home->server->limits;
}

/* --- the answer --- */

static bool status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

static void put_head_lines(struct buf *b, const struct http_header *headers, size_t count,
                           bool *has_length)
{
    for (size_t i = 0; i < count; i++) {
        *has_length |= str_eq_c(headers[i].name, "content-length");
        buf_add_str(b, headers[i].name);
        buf_add(b, ": ", 2);
        buf_add_str(b, headers[i].value);
        buf_add(b, "\r\n", 2);
    }
}

/* How the end of the body will be told: by length, by chunks, or by closing (HTTP/1.0). */
static void put_framing(struct h1 *c, struct buf *b, int status, bool has_length, bool end)
{
    c->out_none = c->head_only || !status_has_body(status);
    if (has_length || c->out_none)
        return;
    if (end) {
        buf_add_c(b, "content-length: 0\r\n");
    } else if (c->minor0) {
        c->keep_alive = false;
    } else {
        c->out_chunked = true;
        buf_add_c(b, "transfer-encoding: chunked\r\n");
    }
}

static void answer_ended(struct h1 *c)
{
    if (c->state == H1_BODY)
        c->keep_alive = false; /* the rest of the body is not read */
    c->state = H1_FLUSH;
    conn_turn(c->hconn->conn);
}

static void h1_head(struct stream *s, int status, const struct http_header *headers, size_t count,
                    bool end)
{
    struct h1 *c = (struct h1 *)s;
    struct buf b = buf_init(256 * KIB);
    bool has_length = false;
    buf_addf(&b, "HTTP/1.1 %d %s\r\ndate: ", status, status_text(status));
    buf_add_str(&b, server_date(c->hconn->home));
    buf_add(&b, "\r\n", 2);
    put_head_lines(&b, headers, count, &has_length);
    put_framing(c, &b, status, has_length, end);
    if (c->state == H1_BODY && (end || has_length))
        c->keep_alive = false; /* answered before the body was read; a long answer may outlast it */
    if (server_draining(s->server))
        c->keep_alive = false;
    if (!c->keep_alive)
        buf_add_c(&b, "connection: close\r\n");
    else if (c->minor0)
        buf_add_c(&b, "connection: keep-alive\r\n");
    buf_add(&b, "\r\n", 2);
    if (b.failed)
        c->broken = true;
    h1_put(c, buf_str(&b));
    buf_fini(&b);
    if (end)
        answer_ended(c);
}

static void h1_send(struct stream *s, struct str data, bool end)
{
    struct h1 *c = (struct h1 *)s;
    if (data.n && !c->out_none) {
        if (c->out_chunked) {
            char line[32];
            int n = snprintf(line, sizeof line, "%zx\r\n", data.n);
            h1_put(c, str_of(line, (size_t)n));
        }
        h1_put(c, data);
        if (c->out_chunked)
            h1_put(c, STR("\r\n"));
    }
    if (!end)
        return;
    if (c->out_chunked && !c->out_none)
        h1_put(c, STR("0\r\n\r\n"));
    answer_ended(c);
}

static void h1_trailers(struct stream *s, const struct http_header *headers, size_t count)
{
    (void)headers;
    (void)count;
    h1_send(s, STR_NONE, true);
}

/* The client gets what was sent so far, and the end of the connection where more was to come. */
static void h1_reset(struct stream *s, uint32_t h2_code)
{
    struct h1 *c = (struct h1 *)s;
    (void)h2_code;
    c->keep_alive = false;
    answer_ended(c);
}

static size_t h1_queued(const struct stream *s)
{
    return conn_pending(((const struct h1 *)s)->hconn->conn);
}

/* The kernel's window is all there is: a sink that consumes late is not slowed by HTTP/1. */
static void h1_consumed(struct stream *s, size_t n)
{
    (void)s;
    (void)n;
}

static const struct stream_engine h1_engine = {.head = h1_head,
                                               .send = h1_send,
                                               .trailers = h1_trailers,
                                               .reset = h1_reset,
                                               .queued = h1_queued,
                                               .consumed = h1_consumed};

/* --- ends --- */

static void stream_over(struct h1 *c, bool answered)
{
    if (!c->live)
        return;
    c->live = false;
    c->stream.ended = true;
    c->stream.sink->closed(&c->stream, answered);
}

/* A request that cannot be taken further: what is wrong, then the end of the connection. */
static void h1_refuse(struct h1 *c, int status, const char *text)
{
    bool silent = c->live && c->stream.head_sent; /* an answer is already under way */
    refused_count(status);
    stream_over(c, false);
    if (!silent) {
        char out[512];
        int n = snprintf(out, sizeof out,
                         "HTTP/1.1 %d %s\r\ndate: %.*s\r\ncontent-type: text/plain; "
                         "charset=utf-8\r\ncontent-length: %zu\r\nx-content-type-options: "
                         "nosniff\r\nconnection: close\r\n\r\n%s\n",
                         status, status_text(status), STR_ARG(server_date(c->hconn->home)),
                         strlen(text) + 1, text);
        h1_put(c, str_of(out, (size_t)n));
    }
    c->state = H1_FLUSH;
    c->keep_alive = false;
    conn_close_soft(c->hconn->conn);
}

static void wait_head(struct h1 *c)
{
    c->state = H1_HEAD;
    c->scan = (struct http1_scan){0};
    conn_set_in_max(c->hconn->conn, HEAD_IN_MAX);
    hconn_arm(c->hconn, h1_now(c) + h1_limits(c)->idle_timeout_ns);
}

/* The answer is complete and the socket has it. */
static void request_over(struct h1 *c)
{
    stream_over(c, true);
    struct conn *conn = c->hconn->conn;
    if (!c->keep_alive || (c->eof && !conn_kept(conn))) {
        conn_close_soft(conn);
        return;
    }
    wait_head(c);
    conn_pause(conn, false); /* offers what came behind the request */
}

/* --- the request --- */

static bool fill_request(struct h1 *c, const struct http1_head *head)
{
    struct http_req *r = request_new(c->hconn);
    c->stream.req = r;
    bool ok = request_line(r, head->method, head->path, head->query, head->host);
    for (uint32_t i = 0; i < head->field_count && ok; i++)
        ok = request_field(r, head->fields[i].name, head->fields[i].value);
    return ok;
}

static void open_request(struct h1 *c, const struct http1_head *head)
{
    c->keep_alive = head->keep_alive;
    c->minor0 = head->minor == 0;
    c->head_only = str_eq_c(head->method, "HEAD");
    c->body_chunked = head->chunked;
    c->chunked = (struct http1_chunked){0};
    c->out_chunked = c->out_none = false;
    c->left = head->content_length;
    c->since_ns = h1_now(c);
    bool no_body = !head->chunked && !head->content_length;
    c->stream = (struct stream){.engine = &h1_engine,
                                .loop = c->hconn->home->loop,
                                .server = c->hconn->home->server,
                                .door = c->hconn->door,
                                .no_body = no_body,
                                .content_length = head->chunked ? UINT64_MAX : c->left};
    if (!fill_request(c, head)) {
        request_free(c->stream.req);
        h1_refuse(c, 431, http1_text(HTTP1_HEADERS_TOO_BIG));
        return;
    }
    c->state = no_body ? H1_ANSWER : H1_BODY;
    c->live = true;
    stream_open(&c->stream);
    if (no_body) {
        if (!c->stream.ended)
            c->stream.sink->end(&c->stream);
        return;
    }
    if (head->expect_continue && !c->stream.head_sent)
        h1_put(c, STR("HTTP/1.1 100 Continue\r\n\r\n"));
    hconn_arm(c->hconn, c->since_ns + h1_limits(c)->body_timeout_ns);
}

static size_t read_head(struct h1 *c, struct str in)
{
    size_t used;
    bool done;
    if (!c->scan.total) {
        c->since_ns = h1_now(c);
        hconn_arm(c->hconn, c->since_ns + h1_limits(c)->header_timeout_ns);
    }
    enum http1_verdict v = http1_scan_feed(&c->scan, in, &used, &done);
    struct str block = str_take(in, used);
    if (v == HTTP1_OK && (c->head.n || !done)) {
        c->head.max = 2 * HTTP1_HEAD_MAX;
        buf_add_str(&c->head, block);
        block = buf_str(&c->head);
        if (c->head.failed)
            v = HTTP1_HEADERS_TOO_BIG;
    }
    if (v == HTTP1_OK && done) {
        struct http1_head head;
        v = http1_parse_head(block, &head);
        if (v == HTTP1_OK)
            open_request(c, &head);
    }
    if (v != HTTP1_OK)
        h1_refuse(c, http1_status(v), http1_text(v));
    if (done || v != HTTP1_OK)
        buf_fini(&c->head);
    return used;
}

static void body_data(struct h1 *c, struct str data)
{
    if (data.n && !c->stream.ended)
        c->stream.sink->data(&c->stream, data);
}

static void body_done(struct h1 *c)
{
    if (c->state != H1_BODY)
        return; /* answered inside the last data */
    c->state = H1_ANSWER;
    conn_set_in_max(c->hconn->conn, HEAD_IN_MAX);
    c->stream.sink->end(&c->stream);
}

static size_t read_body_length(struct h1 *c, struct str in)
{
    struct str data = str_take(in, (size_t)min_u64(c->left, in.n));
    c->left -= data.n;
    body_data(c, data);
    if (!c->left)
        body_done(c);
    else
        conn_set_in_max(c->hconn->conn, (size_t)min_u64(c->left + BODY_SLACK, BODY_IN_MAX));
    return data.n;
}

static size_t read_body_chunked(struct h1 *c, struct str in)
{
    size_t before = in.n;
    bool done = false;
    while (in.n && !done && c->state == H1_BODY) {
        struct str data;
        enum http1_verdict v = http1_chunked_feed(&c->chunked, &in, &data, &done);
        if (v != HTTP1_OK) {
            h1_refuse(c, http1_status(v), http1_text(v));
            return before;
        }
        body_data(c, data);
    }
    size_t room = (size_t)min_u64(c->chunked.left + BODY_SLACK, BODY_IN_MAX);
    conn_set_in_max(c->hconn->conn, room);
    if (done)
        body_done(c);
    return before - in.n;
}

static size_t h1_read(struct hconn *h, struct str in)
{
    struct h1 *c = h1_of(h);
    size_t used = 0;
    while (used < in.n && !c->broken && (c->state == H1_HEAD || c->state == H1_BODY)) {
        struct str rest = str_skip(in, used);
        if (c->state == H1_HEAD) {
            used += read_head(c, rest);
        } else {
            c->since_ns = h1_now(c);
            used += c->body_chunked ? read_body_chunked(c, rest) : read_body_length(c, rest);
        }
    }
    if (c->eof && c->state == H1_HEAD && used == in.n)
        conn_close_soft(h->conn); /* half a head, and no more will come */
    return used;
}

/* --- the connection --- */

static void h1_turn(struct hconn *h)
{
    struct h1 *c = h1_of(h);
    if (c->broken)
        conn_close(h->conn);
    else if (c->state == H1_FLUSH && !conn_pending(h->conn))
        request_over(c);
}

static void h1_drained(struct hconn *h)
{
    struct h1 *c = h1_of(h);
    if (c->broken)
        return;
    if (c->live)
        stream_drained(&c->stream);
    if (c->state == H1_FLUSH && !conn_pending(h->conn) && !c->broken)
        request_over(c);
}

static void h1_eof(struct hconn *h)
{
    struct h1 *c = h1_of(h);
    c->eof = true;
    if (c->state == H1_BODY)
        conn_close(h->conn); /* the body can never be complete */
    else if (c->state == H1_HEAD && !conn_kept(h->conn))
        conn_close_soft(h->conn); /* else what is kept is offered first: h1_read closes */
}

static void h1_drain(struct hconn *h)
{
    struct h1 *c = h1_of(h);
    if (c->state == H1_HEAD && !c->scan.total) {
        conn_close_soft(h->conn);
        return;
    }
    c->keep_alive = false;
    if (c->live && c->stream.sink->drain)
        c->stream.sink->drain(&c->stream);
}

static uint64_t h1_expire(struct hconn *h, uint64_t now)
{
    struct h1 *c = h1_of(h);
    const struct http_limits *lim = h1_limits(c);
    bool head = c->state == H1_HEAD, begun = head && c->scan.total;
    if (!head && c->state != H1_BODY)
        return now + lim->write_timeout_ns; /* output may begin at any moment */
    uint64_t due = begun  ? c->since_ns + lim->header_timeout_ns
                   : head ? conn_last_active_ns(h->conn) + lim->idle_timeout_ns
                          : c->since_ns + lim->body_timeout_ns;
    if (now < due)
        return due;
    if (head && !begun) {
        stat_add(STAT_CONNS_CLOSED_IDLE, 1);
        conn_close(h->conn);
    } else {
        stat_add(STAT_CONNS_CLOSED_SLOW, 1);
        h1_refuse(c, 408, head ? "the request head took too long" : "the body stopped coming");
    }
    return NEVER_NS;
}

static void h1_closed(struct hconn *h)
{
    struct h1 *c = h1_of(h);
    stream_over(c, false);
    buf_fini(&c->head);
    free(c);
}

const struct hconn_ops h1_ops = {.read = h1_read,
                                 .turn = h1_turn,
                                 .drained = h1_drained,
                                 .eof = h1_eof,
                                 .drain = h1_drain,
                                 .expire = h1_expire,
                                 .closed = h1_closed};

void h1_open(struct hconn *h)
{
    struct h1 *c = xcalloc(1, sizeof *c);
    c->hconn = h;
    h->engine = c;
    h->ops = &h1_ops;
    wait_head(c);
}
