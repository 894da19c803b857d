/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 on a connection, through nghttp2, which reads frames and writes frames and never touches
 * the socket.
 *
 * Input: bytes go to nghttp2_session_mem_recv as they come; its callbacks make streams, hand body
 * pieces (views into the loop's read buffer) to the sink and count what a flood is made of.
 * Output: takers queue bytes per stream; frames are made at the end of the loop's turn, at most
 * OUT_FILL_BYTES ahead of the socket, so that a slow peer holds streams back, not memory.
 *
 * Windows are opened by what sinks consume, never by arrival. A connection may have CONN_WINDOW
 * bytes on the way, a stream STREAM_WINDOW; bodies are bounded by the process's in-flight budget.
 *
 * Floods. What costs the peer little and us more is paid from a bucket of tokens per connection:
 * PING, SETTINGS, PRIORITY, RST_STREAM (from either side: a peer that provokes resets is as bad),
 * empty DATA and WINDOW_UPDATE beyond what answers justify. The bucket fills with time and with
 * useful work (bytes of bodies, bytes of answers, answers). Empty: GOAWAY ENHANCE_YOUR_CALM.
 * Bytes of a header block that does not end are counted here as well, and its fields by
 * request_field.
 *
 * nghttp2 calls back into this file, so nothing is freed and no connection closed inside
 * mem_recv/mem_send: `fatal` latches and the caller acts. A stream's sink is told `closed` from
 * on_stream_close or from the end of the connection, whichever comes first. */
#include "serve/engine.h"

#include "base/num.h"
#include "base/stats.h"

#include <nghttp2/nghttp2.h>
#include <stdlib.h>

#define STREAMS_MAX       128u
#define OUT_FILL_BYTES    (256 * KIB)
#define READ_BYTES        (256 * KIB)
#define HEADER_BLOCK_MAX  (128 * KIB) /* bytes on the wire of a header block not yet ended */
#define HEADER_FIELDS_MAX 2000u       /* decoded fields of one block, kept or not */
#define OUTBOUND_ACK_MAX  128u
#define SETTINGS_ENTRIES  32u
#define TOKENS_MAX        1000
#define TOKENS_A_SECOND   200
#define RESET_TOKENS      2
#define TOKEN_BYTES       (2 * KIB) /* of bodies and answers earn a token */
#define ANSWER_TOKENS     8
#define DRAIN_NOTICE_NS   (1 * NS_PER_S) /* between the two GOAWAYs at most */
#define H2_TICK_NS        (1 * NS_PER_S) /* how often streams are looked at, at most */
#define TRAILERS_MAX      8u
#define TRAILER_BYTES_MAX (32 * KIB)

/* Lengths of a trailer field; its bytes follow one another in trailer_text. */
struct trailer {
    size_t name, value;
};

struct h2_stream {
    struct stream stream;
    struct h2 *conn;
    struct h2_stream *prev, *next;
    int32_t id;
    bool opened;  /* the taker has it and has not heard `closed` */
    bool refused; /* too many fields: answered 431 when the block ends */
    bool in_done; /* END_STREAM received */
    bool deferred, end_queued;
    uint32_t fields;
    struct str method, path, authority; /* until the head is complete: in the request's arena */
    struct buf out, trailer_text;
    size_t out_sent;
    struct trailer trailers[TRAILERS_MAX];
    size_t trailer_count;
    size_t unconsumed;    /* received, not yet given back to the windows */
    uint64_t progress_ns; /* last body byte received or answer byte framed */
};

struct h2 {
    struct hconn *hconn;
    nghttp2_session *session;
    struct h2_stream *streams;
    uint32_t stream_count;
    int64_t tokens;
    uint64_t tokens_ns; /* when tokens were last filled */
    size_t block_bytes; /* of a header block that has not ended */
    uint64_t block_ns;  /* since when */
    bool in_block;
    bool fatal; /* close at the end of the turn */
    bool dead;  /* streams are over, the last frames are on their way out */
    bool drain, drain_final;
    bool eof; /* the peer will say nothing more */
    uint64_t drain_ns;
};

static struct h2 *h2_of(const struct hconn *h)
{
    return h->engine;
}

static uint64_t h2_now(const struct h2 *c)
{
    return loop_now_ns(c->hconn->home->loop);
}

static const struct http_limits *h2_limits(const struct h2 *c)
{
    return &c->hconn->home->server->limits;
}

/* Frames will be made at the end of the turn. */
static void h2_wake(struct h2 *c)
{
    conn_turn(c->hconn->conn);
}

/* --- floods --- */

static void calm_down(struct h2 *c)
{
    if (c->fatal)
        return;
    c->fatal = true;
    stat_add(STAT_CONNS_CLOSED_FLOOD, 1);
    nghttp2_session_terminate_session(c->session, NGHTTP2_ENHANCE_YOUR_CALM);
    h2_wake(c);
}

static void earn(struct h2 *c, int64_t tokens)
{
    c->tokens = c->tokens + tokens > TOKENS_MAX ? TOKENS_MAX : c->tokens + tokens;
}

static void pay(struct h2 *c, int64_t tokens)
{
    uint64_t now = h2_now(c), fill = (now - c->tokens_ns) / (NS_PER_S / TOKENS_A_SECOND);
    if (fill) {
        earn(c, (int64_t)min_u64(fill, TOKENS_MAX));
        c->tokens_ns = now;
    }
    c->tokens -= tokens;
    if (c->tokens < 0)
        calm_down(c);
}

/* --- streams --- */

static struct h2_stream *stream_new(struct h2 *c, int32_t id)
{
    struct h2_stream *hs = xcalloc(1, sizeof *hs);
    hs->conn = c;
    hs->id = id;
    hs->progress_ns = h2_now(c);
    hs->out = buf_init(SIZE_MAX / 2);
    hs->trailer_text = buf_init(TRAILER_BYTES_MAX);
    hs->next = c->streams;
    if (hs->next)
        hs->next->prev = hs;
    c->streams = hs;
    c->stream_count++;
    return hs;
}

static void stream_end(struct h2_stream *hs, bool answered)
{
    struct h2 *c = hs->conn;
    if (hs->opened) {
        hs->opened = false;
        hs->stream.ended = true;
        hs->stream.sink->closed(&hs->stream, answered);
    } else if (hs->stream.req) {
        request_free(hs->stream.req);
    }
    if (hs->prev)
        hs->prev->next = hs->next;
    else
        c->streams = hs->next;
    if (hs->next)
        hs->next->prev = hs->prev;
    c->stream_count--;
    buf_fini(&hs->out);
    buf_fini(&hs->trailer_text);
    free(hs);
}

static struct h2_stream *stream_find(struct h2 *c, int32_t id)
{
    return id ? nghttp2_session_get_stream_user_data(c->session, id) : NULL;
}

/* --- the answer: the taker's side --- */

static nghttp2_nv nv_of(struct str name, struct str value)
{
    union {
        const char *in;
        uint8_t *out;
    } n = {.in = name.p}, v = {.in = value.p ? value.p : ""};
    return (nghttp2_nv){.name = n.out, .value = v.out, .namelen = name.n, .valuelen = value.n};
}

static void submit_trailers(struct h2_stream *hs)
{
    nghttp2_nv nv[TRAILERS_MAX];
    struct str text = buf_str(&hs->trailer_text);
    for (size_t i = 0; i < hs->trailer_count; i++) {
        struct trailer t = hs->trailers[i];
        nv[i] = nv_of(str_take(text, t.name), str_take(str_skip(text, t.name), t.value));
        text = str_skip(text, t.name + t.value);
    }
    if (nghttp2_submit_trailer(hs->conn->session, hs->id, nv, hs->trailer_count) != 0)
        hs->conn->fatal = true;
}

/* Called by nghttp2 for the payload of a DATA frame. */
static ssize_t read_out(nghttp2_session *session, int32_t id, uint8_t *out, size_t max,
                        uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct h2_stream *hs = source->ptr;
    (void)session;
    (void)id;
    (void)arg;
    size_t n = min_size(max, hs->out.n - hs->out_sent);
    if (n) {
        memcpy(out, hs->out.p + hs->out_sent, n);
        hs->out_sent += n;
        hs->progress_ns = h2_now(hs->conn);
        earn(hs->conn, (int64_t)(n / TOKEN_BYTES));
    }
    if (hs->out_sent == hs->out.n) {
        buf_reset(&hs->out);
        hs->out_sent = 0;
        if (hs->end_queued) {
            *flags |= NGHTTP2_DATA_FLAG_EOF;
            if (hs->trailer_count) {
                *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
                submit_trailers(hs);
            }
        } else if (!n) {
            hs->deferred = true;
            return NGHTTP2_ERR_DEFERRED;
        }
    }
    return (ssize_t)n;
}

static bool hop_by_hop(struct str name)
{
    return str_eq_c(name, "connection") || str_eq_c(name, "transfer-encoding");
}

static void h2_head(struct stream *s, int status, const struct http_header *headers, size_t count,
                    bool end)
{
    struct h2_stream *hs = (struct h2_stream *)s;
    struct h2 *c = hs->conn;
    nghttp2_nv nv[64];
    char text[NUM_TEXT_MAX];
    size_t n = 0;
    nv[n++] = nv_of(STR(":status"), str_of(text, num_put_u64(text, (uint64_t)status)));
    nv[n++] = nv_of(STR("date"), server_date(c->hconn->home));
    ensure(count <= ARRAY_LEN(nv) - n);
    for (size_t i = 0; i < count; i++)
        if (!hop_by_hop(headers[i].name))
            nv[n++] = nv_of(headers[i].name, headers[i].value);
    nghttp2_data_provider from = {.source.ptr = hs, .read_callback = read_out};
    hs->progress_ns = h2_now(c);
    hs->end_queued = end;
    if (nghttp2_submit_response(c->session, hs->id, nv, n, end ? NULL : &from) != 0)
        c->fatal = true;
    earn(c, ANSWER_TOKENS);
    h2_wake(c);
}

static void resume(struct h2_stream *hs)
{
    if (hs->deferred) {
        hs->deferred = false;
        nghttp2_session_resume_data(hs->conn->session, hs->id);
    }
    h2_wake(hs->conn);
}

static void h2_send(struct stream *s, struct str data, bool end)
{
    struct h2_stream *hs = (struct h2_stream *)s;
    if (hs->out_sent && hs->out_sent == hs->out.n) {
        buf_reset(&hs->out);
        hs->out_sent = 0;
    } else if (hs->out_sent > STREAM_HIGH_BYTES) {
        buf_consume(&hs->out, hs->out_sent);
        hs->out_sent = 0;
    }
    if (hs->out.n == hs->out_sent)
        hs->progress_ns = h2_now(hs->conn); /* the peer's clock to take it starts here */
    buf_add_str(&hs->out, data);
    hs->end_queued = end;
    if (hs->out.failed)
        hs->conn->fatal = true;
    resume(hs);
}

/* Kept until the last DATA is written: nghttp2 sends queued HEADERS before DATA. */
static void h2_trailers(struct stream *s, const struct http_header *headers, size_t count)
{
    struct h2_stream *hs = (struct h2_stream *)s;
    ensure(count && count <= TRAILERS_MAX);
    for (size_t i = 0; i < count; i++) {
        hs->trailers[i] = (struct trailer){.name = headers[i].name.n, .value = headers[i].value.n};
        buf_add_str(&hs->trailer_text, headers[i].name);
        buf_add_str(&hs->trailer_text, headers[i].value);
    }
    hs->trailer_count = count;
    hs->end_queued = true;
    if (hs->trailer_text.failed)
        hs->conn->fatal = true;
    resume(hs);
}

static void h2_reset(struct stream *s, uint32_t h2_code)
{
    struct h2_stream *hs = (struct h2_stream *)s;
    if (nghttp2_submit_rst_stream(hs->conn->session, 0, hs->id, h2_code) != 0)
        hs->conn->fatal = true;
    h2_wake(hs->conn);
}

static void h2_cancel(struct h2_stream *hs)
{
    hs->stream.ended = true;
    hs->progress_ns = h2_now(hs->conn);
    h2_reset(&hs->stream, NGHTTP2_CANCEL);
}

static size_t h2_queued(const struct stream *s)
{
    const struct h2_stream *hs = (const struct h2_stream *)s;
    return hs->out.n - hs->out_sent;
}

static void h2_consumed(struct stream *s, size_t n)
{
    struct h2_stream *hs = (struct h2_stream *)s;
    struct h2 *c = hs->conn;
    ensure(n <= hs->unconsumed);
    hs->unconsumed -= n;
    if (n && nghttp2_session_consume(c->session, hs->id, n) != 0)
        c->fatal = true;
    h2_wake(c);
}

static const struct stream_engine h2_engine = {.head = h2_head,
                                               .send = h2_send,
                                               .trailers = h2_trailers,
                                               .reset = h2_reset,
                                               .queued = h2_queued,
                                               .consumed = h2_consumed};

/* --- the request: nghttp2's callbacks --- */

/* Every frame but CONTINUATION. */
static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
    struct h2 *c = arg;
    (void)session;
    if (hd->type > NGHTTP2_CONTINUATION)
        pay(c, 1);       /* extensions are skipped and never reported as received */
    c->in_block = false; /* also when the block before was refused and so never reported whole */
    return 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *c = arg;
    c->in_block = true;
    c->block_bytes = 0;
    c->block_ns = h2_now(c);
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0; /* trailers */
    struct h2_stream *hs = stream_new(c, frame->hd.stream_id);
    hs->stream = (struct stream){.engine = &h2_engine,
                                 .loop = c->hconn->home->loop,
                                 .server = c->hconn->home->server,
                                 .door = c->hconn->door,
                                 .http2 = true,
                                 .content_length = UINT64_MAX};
    hs->stream.req = request_new(c->hconn);
    return nghttp2_session_set_stream_user_data(session, hs->id, hs) == 0
               ? 0
               : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static struct str keep(struct h2_stream *hs, struct str value)
{
    struct str copy = arena_str(&hs->stream.req->arena, value);
    hs->refused |= !copy.p;
    return copy;
}

static void take_field(struct h2_stream *hs, struct str name, struct str value)
{
    if (str_eq_c(name, ":method"))
        hs->method = keep(hs, value);
    else if (str_eq_c(name, ":path"))
        hs->path = value.n > HTTP_TARGET_MAX ? (hs->refused = true, STR_NONE) : keep(hs, value);
    else if (str_eq_c(name, ":authority"))
        hs->authority = keep(hs, value);
    else if (name.p[0] != ':')
        hs->refused |= !request_field(hs->stream.req, name, value);
    if (str_eq_c(name, "content-length") && !num_get_u64(value, &hs->stream.content_length))
        hs->refused = true;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
    struct h2 *c = arg;
    (void)flags;
    struct h2_stream *hs = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!hs || !name_len)
        return 0;
    if (++hs->fields > HEADER_FIELDS_MAX) {
        calm_down(c);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST && !hs->refused)
        take_field(hs, str_of(name, name_len), str_of(value, value_len));
    return 0;
}

static void send_continue(struct h2_stream *hs)
{
    nghttp2_nv nv = nv_of(STR(":status"), STR("100"));
    if (nghttp2_submit_headers(hs->conn->session, NGHTTP2_FLAG_NONE, hs->id, NULL, &nv, 1, NULL) !=
        0)
        hs->conn->fatal = true;
}

/* The head is complete. */
static void head_done(struct h2_stream *hs, bool end)
{
    struct stream *s = &hs->stream;
    size_t q = str_find(hs->path, '?');
    s->no_body = end;
    hs->in_done = end;
    hs->opened = true;
    if (!hs->authority.n)
        hs->authority = http_header(s->req, STR("host"));
    if (!request_line(s->req, hs->method, str_take(hs->path, q), str_skip(hs->path, q + 1),
                      hs->authority))
        hs->refused = true;
    bool expects = str_eq_nocase(http_header(s->req, STR("expect")), STR("100-continue"));
    bool path_ok = hs->path.n && (hs->path.p[0] == '/' || str_eq_c(hs->path, "*"));
    if (hs->refused)
        stream_refuse(s, 431, "header section larger than 64 KiB or 100 fields");
    else if (!path_ok)
        stream_refuse(s, 400, "malformed request target");
    else
        stream_open(s);
    if (!end && !s->head_sent && expects)
        send_continue(hs);
    hconn_arm(hs->conn->hconn, h2_now(hs->conn) + H2_TICK_NS);
}

static void input_done(struct h2_stream *hs)
{
    hs->in_done = true;
    if (hs->opened && !hs->stream.ended)
        hs->stream.sink->end(&hs->stream);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *c = arg;
    bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    struct h2_stream *hs = frame->hd.stream_id
                               ? nghttp2_session_get_stream_user_data(session, frame->hd.stream_id)
                               : NULL;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        c->in_block = false;
        if (hs && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
            head_done(hs, end);
        if (hs && end)
            input_done(hs);
        break;
    case NGHTTP2_DATA:
        if (!frame->hd.length)
            pay(c, 1);
        if (hs && end)
            input_done(hs);
        break;
    case NGHTTP2_PING:
        if (c->drain && frame->hd.flags & NGHTTP2_FLAG_ACK) {
            c->drain_ns = 0; /* the peer has seen the first GOAWAY */
            h2_wake(c);
        }
        pay(c, 1);
        break;
    case NGHTTP2_SETTINGS:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
            pay(c, 1 + (int64_t)frame->settings.niv);
        break;
    case NGHTTP2_RST_STREAM:
        pay(c, RESET_TOKENS);
        break;
    default: /* PRIORITY, WINDOW_UPDATE, GOAWAY, extensions */
        pay(c, 1);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t n, void *arg)
{
    struct h2 *c = arg;
    (void)flags;
    struct h2_stream *hs = stream_find(c, id);
    earn(c, (int64_t)(n / TOKEN_BYTES));
    if (!hs || !hs->opened || hs->stream.ended)
        return nghttp2_session_consume(session, id, n) == 0 ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
    hs->unconsumed += n;
    hs->progress_ns = h2_now(c);
    hs->stream.sink->data(&hs->stream, str_of(data, n));
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *c = arg;
    if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != NGHTTP2_NO_ERROR)
        pay(c, RESET_TOKENS);
    if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR &&
        !c->fatal)
        stat_add(STAT_CONNS_CLOSED_PROTOCOL, 1); /* nghttp2 ends the connection by itself */
    if (frame->hd.type == NGHTTP2_GOAWAY && c->drain && !c->drain_final)
        nghttp2_submit_ping(session, NGHTTP2_FLAG_NONE, NULL); /* its answer: the notice was seen */
    bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM &&
               (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS);
    struct h2_stream *hs = end ? stream_find(c, frame->hd.stream_id) : NULL;
    if (hs && !hs->in_done) /* answered before the request was complete: stop sending */
        nghttp2_submit_rst_stream(session, 0, hs->id, NGHTTP2_NO_ERROR);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct h2 *c = arg;
    struct h2_stream *hs = stream_find(c, id);
    if (!hs)
        return 0;
    if (hs->unconsumed)
        nghttp2_session_consume_connection(session, hs->unconsumed);
    nghttp2_session_set_stream_user_data(session, id, NULL);
    stream_end(hs, code == NGHTTP2_NO_ERROR && hs->stream.ended);
    return 0;
}

/* --- moving bytes --- */

static void end_streams(struct h2 *c)
{
    while (c->streams) {
        nghttp2_session_set_stream_user_data(c->session, c->streams->id, NULL);
        stream_end(c->streams, false);
    }
}

static void stop_when_done(struct h2 *c)
{
    if (!nghttp2_session_want_read(c->session) && !nghttp2_session_want_write(c->session))
        c->fatal = true;
    if (!c->fatal && !((c->drain_final || c->eof) && !c->stream_count))
        return;
    c->dead = true;
    end_streams(c);
    conn_close_soft(c->hconn->conn);
}

/* The second GOAWAY: the last stream that will be answered. */
static void drain_step(struct h2 *c)
{
    if (!c->drain || c->drain_final || h2_now(c) < c->drain_ns)
        return;
    c->drain_final = true;
    nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(c->session), NGHTTP2_NO_ERROR,
                          NULL, 0);
}

static void h2_pump(struct h2 *c)
{
    struct conn *conn = c->hconn->conn;
    drain_step(c);
    while (conn_pending(conn) < OUT_FILL_BYTES) {
        const uint8_t *frames;
        ssize_t n = nghttp2_session_mem_send(c->session, &frames);
        if (n <= 0) {
            c->fatal |= n < 0;
            break;
        }
        if (!hconn_write(c->hconn, str_of(frames, (size_t)n))) {
            c->fatal = true;
            break;
        }
    }
    for (struct h2_stream *hs = c->streams, *next; hs; hs = next) {
        next = hs->next; /* drained may send, not end, this stream */
        if (hs->opened && hs->stream.high)
            stream_drained(&hs->stream);
    }
    stop_when_done(c);
}

static void h2_turn(struct hconn *h)
{
    if (!h2_of(h)->dead)
        h2_pump(h2_of(h));
}

static void bad_input(struct h2 *c, ssize_t code)
{
    stat_add(code == NGHTTP2_ERR_FLOODED ? STAT_CONNS_CLOSED_FLOOD : STAT_CONNS_CLOSED_PROTOCOL, 1);
    nghttp2_session_terminate_session(c->session, code == NGHTTP2_ERR_FLOODED
                                                      ? NGHTTP2_ENHANCE_YOUR_CALM
                                                      : NGHTTP2_PROTOCOL_ERROR);
    c->fatal = true;
    h2_wake(c);
}

static size_t h2_read(struct hconn *h, struct str in)
{
    struct h2 *c = h2_of(h);
    if (c->fatal || c->dead)
        return in.n;
    bool before = c->in_block;
    ssize_t n = nghttp2_session_mem_recv(c->session, (const uint8_t *)in.p, in.n);
    if (n < 0)
        bad_input(c, n);
    if (before && c->in_block) {
        c->block_bytes += in.n;
        if (c->block_bytes > HEADER_BLOCK_MAX)
            calm_down(c);
    }
    if (c->in_block)
        hconn_arm(h, c->block_ns + h2_limits(c)->header_timeout_ns);
    h2_wake(c); /* acknowledgements, window updates */
    return in.n;
}

static void h2_drained(struct hconn *h)
{
    h2_wake(h2_of(h));
}

/* Ends what would otherwise never end (a watch). */
static void drain_streams(struct h2 *c)
{
    for (struct h2_stream *hs = c->streams, *next; hs; hs = next) {
        next = hs->next;
        if (hs->opened && !hs->stream.ended && hs->stream.sink->drain)
            hs->stream.sink->drain(&hs->stream);
    }
}

/* A peer that closes its writing side can still read answers, but can send no window updates: what
 * does not fit its windows ends by the write timeout. Mostly it is a peer that died: a request half
 * sent is dropped, a watch ends, and with the last answer the connection does. */
static void h2_eof(struct hconn *h)
{
    struct h2 *c = h2_of(h);
    c->eof = true;
    for (struct h2_stream *hs = c->streams; hs; hs = hs->next)
        if (!hs->in_done && !hs->stream.ended)
            h2_cancel(hs);
    drain_streams(c);
    h2_wake(c);
}

static void h2_drain(struct hconn *h)
{
    struct h2 *c = h2_of(h);
    if (c->drain || c->dead)
        return;
    c->drain = true;
    c->drain_ns = h2_now(c) + DRAIN_NOTICE_NS;
    nghttp2_submit_shutdown_notice(c->session);
    hconn_arm(h, c->drain_ns);
    drain_streams(c);
    h2_wake(c);
}

/* --- clocks --- */

/* What a stream waits for from its peer, or NEVER_NS: a body that stopped coming, an answer that is
 * not taken. */
static uint64_t stream_due(const struct h2_stream *hs)
{
    const struct http_limits *lim = h2_limits(hs->conn);
    if (!hs->opened)
        return NEVER_NS;
    if (hs->out.n > hs->out_sent)
        return hs->progress_ns + lim->write_timeout_ns;
    if (!hs->in_done && !hs->stream.ended && !hs->stream.patient)
        return hs->progress_ns + lim->body_timeout_ns;
    return NEVER_NS;
}

static void expire_streams(struct h2 *c, uint64_t now)
{
    for (struct h2_stream *hs = c->streams; hs; hs = hs->next) {
        if (stream_due(hs) > now)
            continue;
        stat_add(STAT_REQUESTS_BAD_TIMEOUT, 1);
        h2_cancel(hs);
    }
}

static uint64_t h2_expire(struct hconn *h, uint64_t now)
{
    struct h2 *c = h2_of(h);
    if (c->dead)
        return NEVER_NS;
    const struct http_limits *lim = h2_limits(c);
    bool slow = c->in_block && now >= c->block_ns + lim->header_timeout_ns;
    uint64_t idle_due = conn_last_active_ns(h->conn) + lim->idle_timeout_ns;
    if (slow || (!c->stream_count && now >= idle_due)) {
        stat_add(slow ? STAT_CONNS_CLOSED_SLOW : STAT_CONNS_CLOSED_IDLE, 1);
        nghttp2_session_terminate_session(c->session, NGHTTP2_NO_ERROR);
        c->fatal = true;
        h2_wake(c);
        return NEVER_NS;
    }
    expire_streams(c, now);
    if (c->drain && !c->drain_final)
        h2_wake(c);
    if (c->stream_count || c->drain || c->in_block)
        return now + H2_TICK_NS;
    return idle_due;
}

static void h2_closed(struct hconn *h)
{
    struct h2 *c = h2_of(h);
    end_streams(c);
    nghttp2_session_del(c->session);
    free(c);
}

const struct hconn_ops h2_ops = {.read = h2_read,
                                 .turn = h2_turn,
                                 .drained = h2_drained,
                                 .eof = h2_eof,
                                 .drain = h2_drain,
                                 .expire = h2_expire,
                                 .closed = h2_closed};

/* --- birth --- */

static nghttp2_session *session_new(struct h2 *c)
{
    nghttp2_session_callbacks *cb;
    nghttp2_option *opt;
    nghttp2_session *session;
    ensure(nghttp2_session_callbacks_new(&cb) == 0 && nghttp2_option_new(&opt) == 0);
    nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_option_set_no_auto_window_update(opt, 1);
    nghttp2_option_set_max_outbound_ack(opt, OUTBOUND_ACK_MAX);
    nghttp2_option_set_max_settings(opt, SETTINGS_ENTRIES);
    nghttp2_option_set_no_closed_streams(opt, 1);
    ensure(nghttp2_session_server_new2(&session, cb, c, opt) == 0);
    nghttp2_option_del(opt);
    nghttp2_session_callbacks_del(cb);
    return session;
}

static void send_settings(struct h2 *c)
{
    const nghttp2_settings_entry iv[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP_HEADER_BYTES_MAX},
    };
    int rv = nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, iv, ARRAY_LEN(iv));
    if (rv == 0)
        rv = nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0,
                                                   CONN_WINDOW_BYTES);
    c->fatal |= rv != 0;
    h2_wake(c);
}

void h2_open(struct hconn *h)
{
    struct h2 *c = xcalloc(1, sizeof *c);
    c->hconn = h;
    c->tokens = TOKENS_MAX;
    c->tokens_ns = h2_now(c);
    c->session = session_new(c);
    h->engine = c;
    h->ops = &h2_ops;
    conn_set_in_max(h->conn, READ_BYTES);
    send_settings(c);
    hconn_arm(h, h2_now(c) + h2_limits(c)->idle_timeout_ns);
}
