/* SPDX-License-Identifier: Apache-2.0 */
/* A gRPC call between a stream (serve/stream.h) and its method.
 *
 *                 data           end            message()            grpc_finish
 *   grpc_open ──► reading ─────► delivered ───► the method works ──► trailers ──► closed
 *
 * 1. A method whose client sends one message gets it after the client half-closed, so that a second
 *    message, half a message or none at all is refused before anything was done.
 * 2. The call's memory has three holders: the stream (until `closed`), the method (`owed`: from its
 *    first callback until grpc_finish has reached the loop) and posts under way to the loop. The
 *    last one to let go frees it, always on the loop.
 * 3. `over` is set on the loop when the last thing went out (trailers) or nobody listens (closed).
 *    Nothing is sent after it, the method's later words are dropped.
 * 4. Sends and the finish of other threads travel as posts through the loop's mailbox, in order. On
 *    the loop itself they take effect at once, unless posts are under way: those go first.
 * 5. The wire bytes of a delivered message belong to deliver() alone, on the loop or in the pool:
 *    `owed` on a one-message method means hands off c->in and c->held_bytes.
 * 6. While STREAM_HIGH_BYTES of answers wait for a slow client of a streaming method, its further
 *    requests are neither handled nor consumed: the peer's flow-control window bounds both. */
#include "serve/grpc.h"

#include "base/num.h"
#include "base/stats.h"
#include "base/warm.h"
#include "base/zip.h"
#include "codec/otlp.h"
#include "serve/grpc_wire.h"
#include "serve/pool.h"
#include "serve/stream.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define GRPC_MESSAGE_MAX  1024u     /* of grpc-message, before encoding */
#define GRPC_DETAILS_MAX  (8 * KIB) /* clients allow 8 KiB of trailers; past it: no details */
#define GRPC_RETRY_MS     1000u     /* when our own memory or pool is full */
#define GRPC_DEADLINE_MAX (UINT64_C(366) * 24 * 3600 * NS_PER_S) /* farther off is none */

enum { /* grpc-status */
       GRPC_OK = 0,
       GRPC_DEADLINE_EXCEEDED = 4,
       GRPC_RESOURCE_EXHAUSTED = 8,
       GRPC_UNIMPLEMENTED = 12,
       GRPC_INTERNAL = 13,
       GRPC_UNAVAILABLE = 14
};

struct call {
    struct grpc_call pub;  /* first */
    struct stream *stream; /* NULL after `closed` */
    struct http_server *server;
    struct loop *loop;
    struct timer deadline;
    struct work work;
    struct grpc_reader in;
    size_t held_bytes;  /* of in.body, taken from the process's budget */
    struct buf waiting; /* request bytes not looked at while the output is high */
    enum zip_kind zip;
    bool whole;       /* one-message method: in.body is the message */
    bool half_closed; /* the client has said all */
    bool owed, over;
    unsigned pins; /* callbacks of the method on the stack */
    _Atomic uint32_t posts;
    _Atomic bool lost; /* a message could not be posted for want of memory */
};

enum post_what { POST_MESSAGE = 1, POST_FINISH = 2, POST_REPLY = 3 };

/* What another thread sends to the loop. */
struct post {
    struct loop_msg msg; /* first */
    struct call *call;
    enum post_what what;
    int status;
    size_t n, details_n;
    char bytes[]; /* message or text, then details */
};

/* The loop this thread runs: a thread that was ever called for a loop is that loop's owner. */
static _Thread_local const struct loop *this_loop;

/* --- lifetime --- */

static size_t message_max(const struct call *c)
{
    return server_limits(c->server)->body_max_bytes;
}

static void release_input(struct call *c)
{
    if (c->held_bytes)
        inflight_give(c->server, c->held_bytes);
    c->held_bytes = 0;
    warm_give(&c->in.body);
}

static void call_let_go(struct call *c)
{
    if (c->stream || c->owed || c->pins || atomic_load(&c->posts))
        return;
    release_input(c);
    buf_fini(&c->waiting);
    request_free(c->pub.req);
    free(c);
}

static void call_over(struct call *c)
{
    c->over = true;
    timer_cancel(c->loop, &c->deadline);
    if (c->waiting.n && c->stream)
        stream_consumed(c->stream, c->waiting.n);
    buf_fini(&c->waiting);
    if (!c->owed || c->pub.method->client_stream)
        release_input(c);
}

/* --- the answer --- */

static struct http_header content_type(void)
{
    return (struct http_header){STR("content-type"), STR("application/grpc")};
}

static void send_now(struct call *c, struct str msg)
{
    if (c->over)
        return;
    struct http_header type = content_type();
    if (!c->stream->head_sent)
        stream_head(c->stream, 200, &type, 1, false);
    uint8_t prefix[GRPC_PREFIX_BYTES];
    grpc_put_prefix(prefix, false, (uint32_t)msg.n);
    (void)stream_send(c->stream, str_of(prefix, sizeof prefix), false);
    if (msg.n)
        (void)stream_send(c->stream, msg, false);
}

/* Trailers, or one head with everything when nothing was sent. `extra` may be NULL. */
static void finish_now(struct call *c, int status, struct str message, struct str details,
                       const struct http_header *extra)
{
    if (c->over)
        return;
    struct http_header h[5];
    size_t n = 0;
    char code[NUM_TEXT_MAX];
    struct buf text = buf_init(3 * GRPC_MESSAGE_MAX), bin = buf_init(GRPC_DETAILS_MAX);
    if (!c->stream->head_sent)
        h[n++] = content_type();
    h[n++] = (struct http_header){STR("grpc-status"),
                                  str_of(code, num_put_u64(code, (uint64_t)status))};
    grpc_put_percent(&text, str_take(message, GRPC_MESSAGE_MAX));
    if (text.n)
        h[n++] = (struct http_header){STR("grpc-message"), buf_str(&text)};
    grpc_put_bin(&bin, details);
    if (bin.n && !bin.failed)
        h[n++] = (struct http_header){STR("grpc-status-details-bin"), buf_str(&bin)};
    if (extra)
        h[n++] = *extra;
    if (c->stream->head_sent)
        stream_trailers(c->stream, h, n);
    else
        stream_head(c->stream, 200, h, n, true);
    buf_fini(&text);
    buf_fini(&bin);
    call_over(c);
}

static void method_cancelled(struct call *c)
{
    if (!c->owed || !c->pub.method->cancelled)
        return;
    c->pins++;
    c->pub.method->cancelled(&c->pub);
    c->pins--;
}

static void call_fail(struct call *c, int status, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Ends the call from our side, on the loop. */
static void call_fail(struct call *c, int status, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    finish_now(c, status, str_from_c(text), STR_NONE, NULL);
    method_cancelled(c);
}

/* Likewise, with the detail that tells the client to come again and when. */
static void call_fail_busy(struct call *c, const char *why)
{
    struct buf details = buf_init(GRPC_DETAILS_MAX);
    otlp_encode_status(GRPC_UNAVAILABLE, str_from_c(why), GRPC_RETRY_MS, STR_NONE, &details);
    finish_now(c, GRPC_UNAVAILABLE, str_from_c(why), buf_str(&details), NULL);
    buf_fini(&details);
    method_cancelled(c);
}

/* --- the method's side --- */

static bool act_now(struct call *c)
{
    return this_loop == c->loop && !atomic_load(&c->posts);
}

static void end_owed(struct call *c, int status, struct str message, struct str details)
{
    ensure(c->owed);
    finish_now(c, status, message, details, NULL);
    c->owed = false;
    call_let_go(c);
}

/* On the loop. */
static void post_arrived(struct loop_msg *m)
{
    struct post *p = (struct post *)m;
    struct call *c = p->call;
    struct str text = str_of(p->bytes, p->n), details = str_of(p->bytes + p->n, p->details_n);
    atomic_fetch_sub(&c->posts, 1);
    if (p->what & POST_MESSAGE) {
        send_now(c, text);
        text = STR_NONE;
    }
    if (p->what & POST_FINISH && atomic_load(&c->lost))
        end_owed(c, GRPC_INTERNAL, STR("out of memory"), STR_NONE);
    else if (p->what & POST_FINISH)
        end_owed(c, p->status, text, details);
    free(p);
}

/* Copies text and details behind the head and sends it to the loop. */
static void post(struct call *c, enum post_what what, int status, struct str text,
                 struct str details)
{
    struct post *p = malloc(sizeof *p + text.n + details.n);
    if (!p) { /* the end must arrive; its words need not */
        atomic_store(&c->lost, true);
        what &= POST_FINISH;
        if (!what)
            return;
        text = details = STR_NONE;
        p = xmalloc(sizeof *p);
    }
    *p = (struct post){.msg.fn = post_arrived, .call = c, .what = what, .status = status};
    p->n = text.n;
    p->details_n = details.n;
    if (text.n)
        memcpy(p->bytes, text.p, text.n);
    if (details.n)
        memcpy(p->bytes + text.n, details.p, details.n);
    atomic_fetch_add(&c->posts, 1);
    loop_post(c->loop, &p->msg);
}

void grpc_send(struct grpc_call *pub, struct str msg)
{
    struct call *c = (struct call *)pub;
    if (act_now(c))
        send_now(c, msg);
    else
        post(c, POST_MESSAGE, 0, msg, STR_NONE);
}

void grpc_finish(struct grpc_call *pub, int status, struct str message, struct str details)
{
    struct call *c = (struct call *)pub;
    if (act_now(c))
        end_owed(c, status, message, details);
    else
        post(c, POST_FINISH, status, message, details);
}

void grpc_reply(struct grpc_call *pub, struct str msg)
{
    struct call *c = (struct call *)pub;
    if (act_now(c)) {
        send_now(c, msg);
        end_owed(c, GRPC_OK, STR_NONE, STR_NONE);
    } else {
        post(c, POST_REPLY, GRPC_OK, msg, STR_NONE);
    }
}

bool grpc_draining(const struct grpc_call *pub)
{
    return server_draining(((const struct call *)pub)->server);
}

/* --- delivery --- */

static void inflate_failed(struct call *c, enum errc code)
{
    struct buf why = buf_init(ERR_MSG_MAX);
    if (code == E_TOO_BIG) {
        stat_add(STAT_REQUESTS_BAD_SIZE, 1);
        buf_addf(&why, "the message inflates to more than the limit of %zu bytes", message_max(c));
    } else {
        stat_add(STAT_REQUESTS_BAD_COMPRESSION, 1);
        buf_addf(&why, "the message is not valid %s", zip_name(c->zip));
    }
    grpc_finish(&c->pub, code == E_TOO_BIG ? GRPC_RESOURCE_EXHAUSTED : GRPC_INTERNAL, buf_str(&why),
                STR_NONE);
    buf_fini(&why);
}

/* Inflates up to `cap` bytes and calls the method, which may end the call, and the call be freed by
 * the loop, before it returns: from there on only locals are touched. False: past a cap that is not
 * the limit yet; nothing happened. */
static bool deliver(struct call *c, size_t cap)
{
    struct http_server *server = c->server;
    struct buf inflated = {0};
    struct str msg = buf_str(&c->in.body);
    enum errc code = E_OK;
    if (grpc_reader_compressed(&c->in)) {
        inflated = warm_take(cap);
        code = zip_inflate(c->zip, msg, &inflated);
        msg = buf_str(&inflated);
    }
    if (code == E_TOO_BIG && cap < message_max(c)) {
        warm_give(&inflated);
        return false;
    }
    if (!msg.n)
        msg = STR("");
    struct buf wire = c->in.body;
    size_t held = c->held_bytes;
    c->in.body = buf_init(wire.max);
    c->held_bytes = 0;
    if (code)
        inflate_failed(c, code);
    else
        c->pub.method->message(&c->pub, msg);
    warm_give(&inflated);
    warm_give(&wire);
    inflight_give(server, held);
    return true;
}

static void deliver_pooled(struct work *w)
{
    struct call *c = (struct call *)((char *)w - offsetof(struct call, work));
    ensure(deliver(c, message_max(c)));
}

static void dispatch(struct call *c)
{
    const struct grpc_method *m = c->pub.method;
    struct work_pool *pool = m->pooled ? server_pool(c->server) : NULL;
    c->owed = true;
    if (!pool) {
        ensure(deliver(c, message_max(c)));
        return;
    }
    size_t small = min_size(GRPC_LOOP_BYTES_MAX, message_max(c));
    if (c->in.body.n <= small && deliver(c, small))
        return;
    c->work.fn = deliver_pooled;
    if (!work_post(pool, &c->work)) {
        stat_add(STAT_REQUESTS_REFUSED_BUSY, 1);
        c->owed = false;
        call_fail_busy(c, "too many large requests at once");
    }
}

/* --- the request --- */

static void refuse_read(struct call *c, enum grpc_read r)
{
    if (r == GRPC_READ_BAD_FLAG) {
        stat_add(STAT_REQUESTS_BAD_COMPRESSION, 1);
        call_fail(c, GRPC_INTERNAL, "compression flag %u is not 0 or 1", c->in.prefix[0]);
    } else if (r == GRPC_READ_TOO_BIG) {
        stat_add(STAT_REQUESTS_BAD_SIZE, 1);
        call_fail(c, GRPC_RESOURCE_EXHAUSTED,
                  "a message of %u bytes is larger than the limit of %zu", c->in.length,
                  message_max(c));
    } else {
        stat_add(STAT_REQUESTS_REFUSED_MEMORY, 1);
        call_fail_busy(c, "out of memory");
    }
}

/* The bytes of in.body that are not accounted for yet. */
static bool hold_input(struct call *c)
{
    size_t more = c->in.body.n - c->held_bytes;
    if (!more)
        return true;
    if (!inflight_take(c->server, more)) {
        stat_add(STAT_REQUESTS_REFUSED_MEMORY, 1);
        call_fail_busy(c, "too many request bytes are held at once");
        return false;
    }
    c->held_bytes += more;
    return true;
}

/* A message is whole: keep it until the client half-closed, or hand it over. */
static void take_message(struct call *c)
{
    if (grpc_reader_compressed(&c->in) && c->zip == ZIP_NONE) {
        stat_add(STAT_REQUESTS_BAD_COMPRESSION, 1);
        call_fail(c, GRPC_INTERNAL, "a compressed message without grpc-encoding");
        return;
    }
    if (!c->pub.method->client_stream) {
        c->whole = true;
        return;
    }
    dispatch(c);
    grpc_reader_next(&c->in);
}

/* Reads on until the input is used up, the call is over or the output is high. */
static void feed(struct call *c, struct str in)
{
    size_t had = in.n;
    c->pins++;
    while (in.n && !c->over && !(c->pub.method->client_stream && c->stream->high)) {
        if (c->whole) {
            stat_add(STAT_REQUESTS_BAD_HTTP, 1);
            call_fail(c, GRPC_INTERNAL, "more than one message in the request of a unary method");
            break;
        }
        if (!c->in.body.cap)
            c->in.body = warm_take(message_max(c));
        enum grpc_read r = grpc_reader_take(&c->in, &in);
        if (r > GRPC_READ_MESSAGE)
            refuse_read(c, r);
        else if (hold_input(c) && r == GRPC_READ_MESSAGE)
            take_message(c);
    }
    c->pins--;
    if (c->over)
        in = STR_NONE;
    buf_add_str(&c->waiting, in);
    ensure(!c->waiting.failed); /* the window holds the peer back */
    if (c->stream)
        stream_consumed(c->stream, had - in.n);
}

static void request_done(struct call *c)
{
    const struct grpc_method *m = c->pub.method;
    if (c->over || !c->half_closed || c->waiting.n)
        return;
    c->pins++;
    if (c->whole) {
        dispatch(c);
    } else if (!grpc_reader_idle(&c->in) || !m->client_stream) {
        stat_add(STAT_REQUESTS_BAD_HTTP, 1);
        call_fail(c, GRPC_INTERNAL, "%s",
                  grpc_reader_idle(&c->in) ? "the request holds no message"
                                           : "the request ends within a message");
    } else {
        c->owed = true;
        m->end(&c->pub);
    }
    c->pins--;
}

static void sink_data(struct stream *s, struct str chunk)
{
    struct call *c = s->user;
    if (c->over) {
        stream_consumed(s, chunk.n);
    } else if (c->waiting.n) {
        buf_add_str(&c->waiting, chunk);
        ensure(!c->waiting.failed);
    } else {
        feed(c, chunk);
    }
}

static void sink_end(struct stream *s)
{
    struct call *c = s->user;
    c->half_closed = true;
    request_done(c);
}

static void sink_drained(struct stream *s)
{
    struct call *c = s->user;
    if (!c->waiting.n)
        return;
    struct buf again = c->waiting;
    c->waiting = buf_init(again.max);
    feed(c, buf_str(&again));
    buf_fini(&again);
    request_done(c);
}

static void sink_drain(struct stream *s)
{
    struct call *c = s->user;
    const struct grpc_method *m = c->pub.method;
    if (c->over)
        return;
    if (m->client_stream && !c->owed) {
        call_fail(c, GRPC_UNAVAILABLE, "the server is shutting down");
    } else if (c->owed && m->drain) {
        c->pins++;
        m->drain(&c->pub);
        c->pins--;
    }
}

static void sink_closed(struct stream *s, bool answered)
{
    struct call *c = s->user;
    c->stream = NULL;
    if (!c->over) {
        if (!answered)
            stat_add(STAT_CALLS_CANCELLED, 1);
        call_over(c);
        method_cancelled(c);
    }
    call_let_go(c);
}

static const struct stream_sink call_sink = {
    .data = sink_data,
    .end = sink_end,
    .drained = sink_drained,
    .drain = sink_drain,
    .closed = sink_closed,
};

/* --- opening --- */

static void deadline_passed(struct timer *t)
{
    struct call *c = (struct call *)((char *)t - offsetof(struct call, deadline));
    stat_add(STAT_CALLS_DEADLINE, 1);
    call_fail(c, GRPC_DEADLINE_EXCEEDED, "the deadline passed");
}

/* Not a gRPC request at all: an HTTP answer. */
static void refuse_http(struct call *c, int status, enum stat_id stat)
{
    stat_add(stat, 1);
    stream_head(c->stream, status, NULL, 0, true);
    call_over(c);
}

/* "/package.Service/Method" */
static bool find_method(struct call *c)
{
    struct str path = str_skip(c->pub.req->path, 1);
    size_t cut = str_find(path, '/');
    struct str service = str_take(path, cut), method = str_skip(path, cut + 1);
    for (const struct grpc_service *const *s = c->pub.door->services; *s; s++) {
        if (!str_eq_c(service, (*s)->name))
            continue;
        for (size_t i = 0; i < (*s)->method_count; i++)
            if (str_eq_c(method, (*s)->methods[i].name))
                c->pub.method = &(*s)->methods[i];
        if ((*s)->absent && c->pub.method) {
            stat_add(STAT_REQUESTS_BAD_PATH, 1);
            call_fail(c, GRPC_UNIMPLEMENTED, "%s", (*s)->absent);
            return false;
        }
        if (!c->pub.method)
            break;
        c->stream->patient = c->pub.method->client_stream;
        return true;
    }
    stat_add(STAT_REQUESTS_BAD_PATH, 1);
    call_fail(c, GRPC_UNIMPLEMENTED, "no such method: \"%.*s\"", STR_ARG(str_take(path, 128)));
    return false;
}

static bool read_encoding(struct call *c)
{
    struct http_header accepted = {STR("grpc-accept-encoding"), STR("identity,deflate,gzip,zstd")};
    struct str name = http_header(c->pub.req, STR("grpc-encoding"));
    if (zip_kind_from(name, &c->zip))
        return true;
    stat_add(STAT_REQUESTS_BAD_COMPRESSION, 1);
    struct buf why = buf_init(ERR_MSG_MAX);
    buf_addf(&why, "grpc-encoding \"%.*s\" is not supported", STR_ARG(str_take(name, 32)));
    finish_now(c, GRPC_UNIMPLEMENTED, buf_str(&why), STR_NONE, &accepted);
    buf_fini(&why);
    return false;
}

static bool read_timeout(struct call *c)
{
    struct str text = http_header(c->pub.req, STR("grpc-timeout"));
    uint64_t ns;
    if (!text.n)
        return true;
    if (!grpc_timeout_get(text, &ns)) {
        stat_add(STAT_REQUESTS_BAD_HTTP, 1);
        call_fail(c, GRPC_INTERNAL, "grpc-timeout is malformed");
        return false;
    }
    if (ns > GRPC_DEADLINE_MAX)
        return true;
    c->pub.deadline_ns = loop_now_ns(c->loop) + ns;
    c->deadline.fn = deadline_passed;
    if (ns)
        timer_arm(c->loop, &c->deadline, ns);
    else
        deadline_passed(&c->deadline);
    return ns > 0;
}

static struct call *call_new(struct stream *s)
{
    struct call *c = xcalloc(1, sizeof *c);
    c->pub.door = s->door;
    c->pub.req = s->req;
    c->pub.arg = s->door->arg;
    c->stream = s;
    c->server = s->server;
    c->loop = s->loop;
    c->in.body = buf_init(message_max(c));
    c->waiting = buf_init(2 * STREAM_WINDOW_BYTES);
    s->user = c;
    s->sink = &call_sink;
    return c;
}

void grpc_open(struct stream *s)
{
    this_loop = s->loop;
    struct call *c = call_new(s);
    if (!grpc_content_type_ok(http_header(s->req, STR("content-type"))))
        refuse_http(c, 415, STAT_REQUESTS_BAD_TYPE);
    else if (!str_eq(s->req->method, STR("POST")))
        refuse_http(c, 405, STAT_REQUESTS_BAD_METHOD);
    else if (find_method(c) && read_encoding(c))
        (void)read_timeout(c);
}
