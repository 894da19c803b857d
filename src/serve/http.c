/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and answers of routes. A struct request is made by an engine when a head begins, taken
 * over by stream_open here (or by grpc.c), and lives until its answer has been given, which may be
 * after its stream and connection are gone.
 *
 * Two threads meet in it: the loop, which owns `stream`, `sending` and the body while it arrives,
 * and whoever runs the handler, who owns the struct http_req and fills the answer. What crosses
 * over is guarded by `lock`; the handler's side posts `msg`, the loop's side pumps:
 *
 *   handler:  answer head → started;  bytes → out;  ended         (under lock, then one post)
 *   loop:     out ⇄ sending → stream_send until it says stop; `drained` continues
 *   back:     unsent (bytes the handler must wait for), gone (the client is)
 *
 * Invariants
 *  1. msg is in the loop's mailbox exactly while `posted`.
 *  2. The request is freed by the pump that finds it ended, msg not posted, and everything handed
 *     to the stream or the stream gone; nobody else frees it once a handler has seen it. `drained`
 *     pumps too, perhaps between the post of the handler's end and its arrival.
 *  3. out never holds more than STREAM_HIGH_BYTES plus one piece, unless the answer is whole
 *     (http_reply): then it holds the answer. */
#include "serve/engine.h"

#include "base/log.h"
#include "base/num.h"
#include "base/stats.h"
#include "base/zip.h"
#include "serve/pool.h"
#include "serve/route.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define REQUEST_ARENA_MAX  (16 * MIB)
#define BODY_FIRST_BYTES   (512 * KIB) /* reserved on the word of a Content-Length */
#define INFLATE_ON_LOOP    (256 * KIB) /* larger compressed bodies are inflated in the pool */
#define COMPRESS_LEAST     (1 * KIB)
#define COMPRESS_LEVEL     4
#define ANSWER_HEADERS_MAX 32u
#define PIECE_BYTES        (64 * KIB)
#define WRITE_PIECE_BYTES  (256 * KIB)
#define RETRY_AFTER        "1" /* as RETRY_MS */
#define RETRY_MS           1000u
#define REFUSAL_MAX        (4 * KIB) /* a sentence in the door's protocol */

struct request {
    struct http_req r; /* first: handlers see this */
    struct http_server *server;
    const struct http_door *door;
    struct loop *loop;
    struct stream *stream; /* the loop's; NULL when gone */
    struct http_header *fields;
    uint32_t field_room;
    size_t field_bytes;

    /* the body as it arrives */
    struct buf body;
    size_t charged_bytes;
    enum zip_kind zip;
    http_handler *handler;
    bool on_pool;
    struct work work;

    /* the answer; headers are written by the handler before it says started */
    struct http_header headers[ANSWER_HEADERS_MAX];
    uint32_t header_count;
    int status;
    bool head_only, accepts_gzip, handler_encoded;
    struct gzip_stream *gzip;
    struct loop_msg msg;
    struct buf sending; /* the loop's */
    size_t sent;

    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t room;
    struct buf out;
    size_t unsent; /* of sending and the stream's queue */
    bool posted, started, ended, ok, gone;
};

static struct request *request_of(struct http_req *r)
{
    return (struct request *)r;
}

/* --- life --- */

static void request_pump_msg(struct loop_msg *m);

struct http_req *request_new(struct hconn *h)
{
    struct request *q = xcalloc(1, sizeof *q);
    q->server = h->home->server;
    q->door = h->door;
    q->loop = h->home->loop;
    q->msg.fn = request_pump_msg;
    q->body = buf_init(q->server->limits.body_max_bytes);
    q->sending = buf_init(SIZE_MAX / 2);
    q->out = buf_init(SIZE_MAX / 2);
    q->r.arena = arena_init(REQUEST_ARENA_MAX);
    q->r.peer = arena_str(&q->r.arena, hconn_peer(h));
    q->r.arg = h->door->arg;
    ensure(pthread_mutex_init(&q->lock, NULL) == 0);
    ensure(pthread_cond_init(&q->room, NULL) == 0);
    server_busy(q->server, true);
    return &q->r;
}

static void drop_body(struct request *q)
{
    buf_fini(&q->body);
    q->r.body = STR_NONE;
    if (q->charged_bytes)
        inflight_give(q->server, q->charged_bytes);
    q->charged_bytes = 0;
}

void request_free(struct http_req *r)
{
    struct request *q = request_of(r);
    drop_body(q);
    buf_fini(&q->sending);
    buf_fini(&q->out);
    gzip_stream_free(q->gzip);
    free(q->fields);
    arena_fini(&q->r.arena);
    pthread_cond_destroy(&q->room);
    pthread_mutex_destroy(&q->lock);
    server_busy(q->server, false);
    free(q);
}

bool request_line(struct http_req *r, struct str method, struct str path, struct str query,
                  struct str authority)
{
    r->method = arena_str(&r->arena, method);
    r->path = arena_str(&r->arena, path);
    r->query = arena_str(&r->arena, query);
    r->authority = arena_str(&r->arena, authority);
    return !r->arena.failed;
}

bool request_field(struct http_req *r, struct str name, struct str value)
{
    struct request *q = request_of(r);
    q->field_bytes += name.n + value.n;
    if (r->header_count == HTTP_HEADERS_MAX || q->field_bytes > HTTP_HEADER_BYTES_MAX)
        return false;
    if (r->header_count == q->field_room) {
        q->field_room = q->field_room ? 2 * q->field_room : 16;
        q->fields = xrealloc(q->fields, q->field_room * sizeof *q->fields);
        r->headers = q->fields;
    }
    char *lower = arena_alloc(&r->arena, name.n, 1);
    if (!lower)
        return false;
    for (size_t i = 0; i < name.n; i++)
        lower[i] = (char)(name.p[i] >= 'A' && name.p[i] <= 'Z' ? name.p[i] | 0x20 : name.p[i]);
    struct http_header *f = &q->fields[r->header_count++];
    f->name = str_of(lower, name.n);
    f->value = arena_str(&r->arena, value);
    return !r->arena.failed;
}

struct str http_header(const struct http_req *r, struct str lower_name)
{
    for (uint32_t i = 0; i < r->header_count; i++)
        if (str_eq(r->headers[i].name, lower_name))
            return r->headers[i].value;
    return STR_NONE;
}

/* --- statuses --- */

static const struct {
    int status;
    const char *text;
    enum stat_id counter;
} statuses[] = {
    {200, "OK", STAT_COUNT},
    {202, "Accepted", STAT_COUNT},
    {204, "No Content", STAT_COUNT},
    {206, "Partial Content", STAT_COUNT},
    {301, "Moved Permanently", STAT_COUNT},
    {302, "Found", STAT_COUNT},
    {304, "Not Modified", STAT_COUNT},
    {307, "Temporary Redirect", STAT_COUNT},
    {308, "Permanent Redirect", STAT_COUNT},
    {400, "Bad Request", STAT_REQUESTS_BAD_HTTP},
    {401, "Unauthorized", STAT_COUNT},
    {403, "Forbidden", STAT_COUNT},
    {404, "Not Found", STAT_REQUESTS_BAD_PATH},
    {405, "Method Not Allowed", STAT_REQUESTS_BAD_METHOD},
    {406, "Not Acceptable", STAT_COUNT},
    {408, "Request Timeout", STAT_REQUESTS_BAD_TIMEOUT},
    {409, "Conflict", STAT_COUNT},
    {411, "Length Required", STAT_REQUESTS_BAD_HTTP},
    {413, "Content Too Large", STAT_REQUESTS_BAD_SIZE},
    {414, "URI Too Long", STAT_REQUESTS_BAD_HEAD},
    {415, "Unsupported Media Type", STAT_REQUESTS_BAD_TYPE},
    {417, "Expectation Failed", STAT_REQUESTS_BAD_HTTP},
    {422, "Unprocessable Content", STAT_COUNT},
    {426, "Upgrade Required", STAT_REQUESTS_BAD_HTTP},
    {429, "Too Many Requests", STAT_COUNT},
    {431, "Request Header Fields Too Large", STAT_REQUESTS_BAD_HEAD},
    {499, "Client Closed Request", STAT_COUNT},
    {500, "Internal Server Error", STAT_COUNT},
    {501, "Not Implemented", STAT_REQUESTS_BAD_HTTP},
    {502, "Bad Gateway", STAT_COUNT},
    {503, "Service Unavailable", STAT_REQUESTS_REFUSED_MEMORY},
    {504, "Gateway Timeout", STAT_COUNT},
    {505, "HTTP Version Not Supported", STAT_REQUESTS_BAD_HTTP},
};

const char *status_text(int status)
{
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
        if (statuses[i].status == status)
            return statuses[i].text;
    return "Other";
}

void refused_count(int status)
{
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
        if (statuses[i].status == status && statuses[i].counter != STAT_COUNT)
            stat_add(statuses[i].counter, 1);
}

/* --- answers: the handler's side --- */

static void set_header(struct request *q, struct str name, struct str value)
{
    if (q->header_count == ANSWER_HEADERS_MAX) {
        log_warn("http", "%s: an answer has more than %u header fields; one is left out",
                 q->door->name, ANSWER_HEADERS_MAX);
        return;
    }
    q->headers[q->header_count++] = (struct http_header){name, value};
}

void http_set_header(struct http_req *r, const char *name, struct str value)
{
    struct request *q = request_of(r);
    char *lower = arena_alloc(&r->arena, strlen(name), 1);
    struct str copy = arena_str(&r->arena, value);
    if (!lower || !copy.p)
        return;
    for (size_t i = 0; name[i]; i++)
        lower[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 0x20 : name[i]);
    struct str n = str_of(lower, strlen(name));
    q->handler_encoded |= str_eq_c(n, "content-encoding");
    for (size_t i = 0; i < copy.n; i++)
        if (copy.p[i] == '\r' || copy.p[i] == '\n' || !copy.p[i])
            return; /* a value that would end the line is never sent */
    set_header(q, n, copy);
}

static void post_locked(struct request *q)
{
    if (q->posted)
        return;
    q->posted = true;
    loop_post(q->loop, &q->msg);
}

static bool is_compressible(struct str ctype)
{
    struct str type = str_trim(str_take(ctype, str_find(ctype, ';')));
    return str_starts(type, STR("text/")) || str_eq_c(type, "application/json") ||
           str_eq_c(type, "application/javascript") || str_eq_c(type, "application/x-ndjson") ||
           str_eq_c(type, "image/svg+xml");
}

/* The fields every answer has. */
static void common_headers(struct request *q, int status, const char *ctype)
{
    q->status = status;
    if (ctype && *ctype)
        set_header(q, STR("content-type"), arena_str(&q->r.arena, str_from_c(ctype)));
    set_header(q, STR("x-content-type-options"), STR("nosniff"));
    struct str origin = cors_origin(&q->r, q->door);
    if (origin.p) {
        set_header(q, STR("access-control-allow-origin"), origin);
        set_header(q, STR("vary"), STR("origin"));
    }
    for (size_t i = 0; q->door->extra_headers && q->door->extra_headers[i]; i++) {
        struct str line = str_from_c(q->door->extra_headers[i]);
        size_t colon = str_find(line, ':');
        set_header(q, str_take(line, colon), str_trim(str_skip(line, colon + 1)));
    }
}

static void length_header(struct request *q, size_t n)
{
    char text[NUM_TEXT_MAX];
    size_t len = num_put_u64(text, n);
    set_header(q, STR("content-length"), arena_str(&q->r.arena, str_of(text, len)));
}

/* Puts the body into out, compressed when that is wanted and pays. */
static void fill_out(struct request *q, const char *ctype, struct str body)
{
    bool may = !q->handler_encoded && is_compressible(str_from_c(ctype ? ctype : ""));
    if (may)
        set_header(q, STR("vary"), STR("accept-encoding"));
    if (may && q->accepts_gzip && body.n > COMPRESS_LEAST) {
        struct buf packed = buf_init(body.n);
        if (zip_deflate(ZIP_GZIP, body, COMPRESS_LEVEL, &packed) == E_OK && packed.n < body.n) {
            set_header(q, STR("content-encoding"), STR("gzip"));
            q->out = packed;
            return;
        }
        buf_fini(&packed);
    }
    buf_add_str(&q->out, body);
}

void http_reply(struct http_req *r, int status, const char *ctype, struct str body)
{
    struct request *q = request_of(r);
    ensure(!q->started);
    common_headers(q, status, ctype);
    fill_out(q, ctype, body);
    if (q->out.failed)
        q->status = 500;
    if (status != 204 && status != 304)
        length_header(q, q->out.n);
    pthread_mutex_lock(&q->lock);
    q->started = q->ended = q->ok = true;
    post_locked(q);
    pthread_mutex_unlock(&q->lock);
}

void http_reply_text(struct http_req *r, int status, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text - 1, fmt, args);
    va_end(args);
    size_t len = n < 0 ? 0 : min_size((size_t)n, sizeof text - 2);
    text[len++] = '\n';
    http_reply(r, status, "text/plain; charset=utf-8", str_of(text, len));
}

void http_start(struct http_req *r, int status, const char *ctype)
{
    struct request *q = request_of(r);
    ensure(!q->started);
    common_headers(q, status, ctype);
    if (!q->handler_encoded && is_compressible(str_from_c(ctype))) {
        set_header(q, STR("vary"), STR("accept-encoding"));
        if (q->accepts_gzip) {
            set_header(q, STR("content-encoding"), STR("gzip"));
            q->gzip = gzip_stream_new(COMPRESS_LEVEL);
        }
    }
    pthread_mutex_lock(&q->lock);
    q->started = true;
    pthread_mutex_unlock(&q->lock);
}

/* Under lock. Waits until out has room. False: the client is gone. A client that takes nothing ends
 * as one that is gone: the engines give up on it after write_timeout_ns. */
static bool wait_room(struct request *q)
{
    while (!q->gone && q->out.n + q->unsent > STREAM_HIGH_BYTES) {
        work_yield();
        while (!q->gone && q->out.n + q->unsent > STREAM_HIGH_BYTES)
            pthread_cond_wait(&q->room, &q->lock);
        pthread_mutex_unlock(&q->lock); /* not held while others work: the loop needs it */
        work_resume();
        pthread_mutex_lock(&q->lock);
    }
    return !q->gone;
}

static bool write_piece(struct request *q, struct str piece, bool finish)
{
    pthread_mutex_lock(&q->lock);
    bool ok = wait_room(q);
    if (ok && q->gzip)
        ok = gzip_stream_write(q->gzip, piece, finish, &q->out) == E_OK;
    else if (ok)
        buf_add_str(&q->out, piece);
    ok = ok && !q->out.failed;
    if (ok && q->out.n)
        post_locked(q);
    pthread_mutex_unlock(&q->lock);
    return ok;
}

bool http_write(struct http_req *r, struct str data)
{
    struct request *q = request_of(r);
    ensure(q->started && !q->ended);
    if (q->head_only)
        data.n = 0;
    bool ok = true;
    while (data.n && ok) {
        ok = write_piece(q, str_take(data, WRITE_PIECE_BYTES), false);
        data = str_skip(data, WRITE_PIECE_BYTES);
    }
    return ok;
}

void http_end(struct http_req *r, bool ok)
{
    struct request *q = request_of(r);
    ensure(q->started && !q->ended);
    if (ok && q->gzip && !q->head_only)
        ok = write_piece(q, STR_NONE, true);
    pthread_mutex_lock(&q->lock);
    q->ended = true;
    q->ok = ok && !q->gone;
    post_locked(q);
    pthread_mutex_unlock(&q->lock);
}

/* --- answers: the loop's side --- */

static const struct stream_sink over_sink;

/* Under lock. The handler is done and its last message has arrived: nothing else points here. */
static bool is_final(const struct request *q)
{
    return q->ended && !q->posted;
}

/* The stream has all of the answer: it ends by itself, the request is done. */
static void request_done(struct request *q)
{
    if (q->stream) {
        q->stream->sink = &over_sink;
        q->stream->user = NULL;
        q->stream->req = NULL;
    }
    request_free(&q->r);
}

/* Takes the next bytes over from the handler. False: nothing there. *last: nothing will follow. */
static bool take_out(struct request *q, bool *last)
{
    pthread_mutex_lock(&q->lock);
    if (q->sent == q->sending.n) {
        struct buf empty = q->sending;
        buf_reset(&empty);
        q->sending = q->out;
        q->out = empty;
        q->sent = 0;
        *last = is_final(q) && q->ok;
    } else {
        *last = is_final(q) && q->ok && !q->out.n;
    }
    pthread_mutex_unlock(&q->lock);
    return q->sent < q->sending.n;
}

/* How much the handler must wait for; wakes it. */
static void tell_unsent(struct request *q)
{
    size_t unsent = q->sending.n - q->sent + stream_queued(q->stream);
    pthread_mutex_lock(&q->lock);
    q->unsent = unsent;
    if (q->out.n + unsent <= STREAM_HIGH_BYTES)
        pthread_cond_signal(&q->room);
    pthread_mutex_unlock(&q->lock);
}

/* True when the stream has the whole answer or broke it off. */
static bool send_out(struct request *q)
{
    struct stream *s = q->stream;
    bool last, more = !s->high;
    while (more && take_out(q, &last)) {
        struct str piece = str_take(str_skip(buf_str(&q->sending), q->sent), PIECE_BYTES);
        q->sent += piece.n;
        more = stream_send(s, piece, last && q->sent == q->sending.n);
        if (s->ended)
            return true;
    }
    pthread_mutex_lock(&q->lock);
    bool over = is_final(q) && (!q->ok || (q->sent == q->sending.n && !q->out.n)), ok = q->ok;
    pthread_mutex_unlock(&q->lock);
    if (over && ok)
        stream_send(s, STR_NONE, true);
    else if (over)
        stream_reset(s, 2 /* INTERNAL_ERROR */);
    return over;
}

static void request_pump(struct request *q)
{
    pthread_mutex_lock(&q->lock);
    bool started = q->started, final = is_final(q), bare = final && q->ok && !q->out.n;
    pthread_mutex_unlock(&q->lock);
    struct stream *s = q->stream;
    if (!s || s->ended) {
        if (final)
            request_done(q);
        return;
    }
    if (!started)
        return;
    if (!s->head_sent) {
        stream_head(s, q->status, q->headers, q->header_count, q->head_only || bare);
        if (s->ended) {
            if (final)
                request_done(q);
            return;
        }
    }
    if (send_out(q))
        request_done(q);
    else
        tell_unsent(q);
}

static void request_pump_msg(struct loop_msg *m)
{
    struct request *q = (struct request *)((char *)m - offsetof(struct request, msg));
    pthread_mutex_lock(&q->lock);
    q->posted = false;
    pthread_mutex_unlock(&q->lock);
    request_pump(q);
}

static void sink_drained(struct stream *s)
{
    request_pump(s->user);
}

/* The stream is gone. Before a handler saw the request it is freed here, after that by the pump
 * that the handler's end posts. */
static void request_lost(struct request *q)
{
    q->stream = NULL;
    pthread_mutex_lock(&q->lock);
    q->gone = true;
    pthread_cond_broadcast(&q->room);
    bool done = is_final(q);
    pthread_mutex_unlock(&q->lock);
    if (done)
        request_done(q);
}

static void running_closed(struct stream *s, bool answered)
{
    (void)answered;
    request_lost(s->user);
}

static void arriving_closed(struct stream *s, bool answered)
{
    (void)answered;
    struct request *q = s->user;
    q->stream = NULL;
    request_free(&q->r);
}

static void no_data(struct stream *s, struct str data)
{
    stream_consumed(s, data.n);
}

static void no_end(struct stream *s)
{
    (void)s;
}

static void no_closed(struct stream *s, bool answered)
{
    (void)answered;
    (void)s;
}

/* The request runs or its answer is on its way. */
static const struct stream_sink running_sink = {
    .data = no_data, .end = no_end, .drained = sink_drained, .closed = running_closed};

/* Nobody is behind the stream any more. */
static const struct stream_sink over_sink = {.data = no_data, .end = no_end, .closed = no_closed};

/* --- requests: the body, then the handler --- */

/* The refusal in the words of the request's door; answers its content type. body is empty before.
 */
static const char *word_refusal(const struct http_req *r, int status, const char *text,
                                struct buf *body)
{
    const struct request *q = (const struct request *)r;
    struct str sentence = str_from_c(text);
    uint64_t retry_ms = status == 503 ? RETRY_MS : 0;
    const char *ctype = NULL;
    if (q && q->door->wording)
        ctype = q->door->wording(r, status, sentence, retry_ms, body);
    if (ctype)
        return ctype;
    buf_add_str(body, sentence);
    buf_add_char(body, '\n');
    return "text/plain; charset=utf-8";
}

void stream_refuse(struct stream *s, int status, const char *text)
{
    struct http_req *r = s->req;
    struct buf body = buf_init(REFUSAL_MAX);
    struct http_header headers[5];
    char length[NUM_TEXT_MAX];
    size_t count = 0;
    const char *ctype = word_refusal(r, status, text, &body);
    headers[count++] = (struct http_header){STR("content-type"), str_from_c(ctype)};
    headers[count++] = (struct http_header){STR("x-content-type-options"), STR("nosniff")};
    headers[count++] = (struct http_header){STR("content-length"),
                                            str_of(length, num_put_u64(length, body.n))};
    struct str origin = r ? cors_origin(r, s->door) : STR_NONE;
    if (origin.p)
        headers[count++] = (struct http_header){STR("access-control-allow-origin"), origin};
    if (status == 503)
        headers[count++] = (struct http_header){STR("retry-after"), STR(RETRY_AFTER)};
    refused_count(status);
    bool head_only = r && str_eq_c(r->method, "HEAD");
    s->sink = &over_sink;
    s->user = NULL;
    s->req = NULL;
    stream_head(s, status, headers, count, head_only);
    if (!head_only)
        stream_send(s, buf_str(&body), true);
    buf_fini(&body);
    if (r)
        request_free(r);
}

/* The same where the request is past its arrival and is answered as by a handler. */
static void refuse_late(struct request *q, int status, const char *text)
{
    struct buf body = buf_init(REFUSAL_MAX);
    if (status == 503)
        http_set_header(&q->r, "retry-after", STR(RETRY_AFTER));
    const char *ctype = word_refusal(&q->r, status, text, &body);
    http_reply(&q->r, status, ctype, buf_str(&body));
    buf_fini(&body);
}

static void run_on_pool(struct work *w)
{
    struct request *q = (struct request *)((char *)w - offsetof(struct request, work));
    q->handler(&q->r);
}

static void busy_reply(struct request *q)
{
    stat_add(STAT_REQUESTS_REFUSED_BUSY, 1);
    refuse_late(q, 503, "too many requests are waiting; try again in a moment");
}

static void request_run(struct request *q)
{
    q->r.body = buf_str(&q->body);
    if (!q->on_pool) {
        q->handler(&q->r);
        return;
    }
    q->work.fn = run_on_pool;
    if (!q->server->pool || !work_post(q->server->pool, &q->work))
        busy_reply(q);
}

/* Replaces the body by what it inflates to. False: answered. */
static bool request_inflate(struct request *q)
{
    struct buf plain = buf_init(q->server->limits.body_max_bytes);
    enum errc code = zip_inflate(q->zip, buf_str(&q->body), &plain);
    drop_body(q);
    if (code == E_OK && !inflight_take(q->server, plain.cap)) {
        buf_fini(&plain);
        refused_count(503);
        refuse_late(q, 503, "too many bytes of requests are held; try again in a moment");
        return false;
    }
    if (code == E_OK) {
        q->charged_bytes = plain.cap;
        q->body = plain;
        return true;
    }
    buf_fini(&plain);
    stat_add(code == E_TOO_BIG ? STAT_REQUESTS_BAD_SIZE : STAT_REQUESTS_BAD_COMPRESSION, 1);
    char text[128];
    if (code == E_TOO_BIG)
        snprintf(text, sizeof text, "the body inflates to more than %zu bytes",
                 q->server->limits.body_max_bytes);
    else
        snprintf(text, sizeof text, "the body is not well-formed %s: %s", zip_name(q->zip),
                 err_text(code));
    refuse_late(q, code == E_TOO_BIG ? 413 : 400, text);
    return false;
}

/* In the pool: inflates, and goes on to the handler there or back on the loop. */
static void after_inflate(struct loop_msg *m)
{
    struct request *q = (struct request *)((char *)m - offsetof(struct request, msg));
    q->msg.fn = request_pump_msg;
    q->posted = false;
    request_run(q);
}

static void inflate_on_pool(struct work *w)
{
    struct request *q = (struct request *)((char *)w - offsetof(struct request, work));
    if (!request_inflate(q))
        return;
    q->r.body = buf_str(&q->body);
    if (q->on_pool) {
        q->handler(&q->r);
        return;
    }
    q->msg.fn = after_inflate;
    pthread_mutex_lock(&q->lock);
    post_locked(q);
    pthread_mutex_unlock(&q->lock);
}

static void arriving_end(struct stream *s)
{
    struct request *q = s->user;
    s->sink = &running_sink;
    if (q->zip == ZIP_NONE) {
        request_run(q);
    } else if (q->body.n > INFLATE_ON_LOOP || q->on_pool) {
        q->work.fn = inflate_on_pool;
        if (!q->server->pool || !work_post(q->server->pool, &q->work))
            busy_reply(q);
    } else if (request_inflate(q)) {
        request_run(q);
    }
}

/* Grows the body's memory within the budget. A Content-Length is believed for the first
 * BODY_FIRST_BYTES only: a client that announces much and sends nothing holds little. */
static bool body_room(struct request *q, struct stream *s, size_t more)
{
    struct buf *b = &q->body;
    if (b->cap - b->n >= more)
        return true;
    size_t least = b->cap ? 2 * b->cap : 0; /* as buf_reserve will */
    if (!b->cap && s->content_length != UINT64_MAX)
        least = (size_t)min_u64(s->content_length, BODY_FIRST_BYTES);
    size_t want = min_size(max_size(b->n + more, least), b->max);
    if (!inflight_take(q->server, want - q->charged_bytes))
        return false;
    q->charged_bytes = want;
    return buf_reserve(b, want - b->n);
}

static void arriving_data(struct stream *s, struct str data)
{
    struct request *q = s->user;
    stream_consumed(s, data.n);
    if (data.n > q->body.max - q->body.n) {
        stream_refuse(s, 413, "the body is larger than the limit");
    } else if (!body_room(q, s, data.n)) {
        stream_refuse(s, 503, "too many bytes of requests are held; try again in a moment");
    } else {
        buf_add_str(&q->body, data);
    }
}

static const struct stream_sink arriving_sink = {
    .data = arriving_data, .end = arriving_end, .closed = arriving_closed};

/* --- who takes the stream --- */

static bool is_grpc(struct str ctype)
{
    struct str want = STR("application/grpc");
    return str_eq_nocase(str_take(ctype, want.n), want) &&
           (ctype.n == want.n || ctype.p[want.n] == '+' || ctype.p[want.n] == ';' ||
            ctype.p[want.n] == ' ');
}

static void reply_early(struct request *q, struct stream *s)
{
    q->stream = s;
    s->user = q;
    s->sink = &running_sink;
}

static void refuse_method(struct request *q, struct stream *s, struct str allow)
{
    reply_early(q, s);
    stat_add(STAT_REQUESTS_BAD_METHOD, 1);
    http_set_header(&q->r, "allow", allow);
    http_reply_text(&q->r, 405, "method %.*s is not allowed here", STR_ARG(q->r.method));
}

static void not_found(struct http_req *r)
{
    stat_add(STAT_REQUESTS_BAD_PATH, 1);
    http_reply_text(r, 404, "nothing is here");
}

/* Finds the handler. False: answered. */
static bool find_handler(struct request *q, struct stream *s)
{
    struct str allow;
    const struct http_route *row;
    switch (route_find(q->door, &q->r, &row, &allow)) {
    case ROUTE_FOUND:
        q->handler = row->fn;
        q->on_pool = row->where == HTTP_ON_POOL;
        return true;
    case ROUTE_OTHER_METHOD:
        refuse_method(q, s, allow);
        return false;
    case ROUTE_BAD_PATH:
        stream_refuse(s, 400, "malformed percent-encoding in the path");
        return false;
    case ROUTE_NONE:
        break;
    }
    q->handler = q->door->fallback ? q->door->fallback : not_found;
    return true;
}

static void preflight_reply(struct request *q, struct stream *s)
{
    struct str asked = http_header(&q->r, STR("access-control-request-headers"));
    reply_early(q, s);
    http_set_header(&q->r, "access-control-allow-methods", route_methods(q->door, &q->r));
    if (asked.n)
        http_set_header(&q->r, "access-control-allow-headers", asked);
    http_set_header(&q->r, "access-control-max-age", STR("86400"));
    http_reply(&q->r, 204, NULL, STR_NONE);
}

static void open_http(struct stream *s)
{
    struct request *q = request_of(s->req);
    q->stream = s;
    s->user = q;
    s->sink = &arriving_sink;
    q->head_only = str_eq_c(q->r.method, "HEAD");
    q->accepts_gzip = accepts_gzip(http_header(&q->r, STR("accept-encoding")));
    if (cors_is_preflight(&q->r, q->door)) {
        preflight_reply(q, s);
        return;
    }
    struct str coding = http_header(&q->r, STR("content-encoding"));
    if (!find_handler(q, s))
        return;
    if (!zip_kind_from(str_trim(coding), &q->zip))
        stream_refuse(s, 415, "content-encoding is not gzip, deflate, zstd or identity");
    else if (s->content_length != UINT64_MAX && s->content_length > q->body.max)
        stream_refuse(s, 413, "the body is larger than the limit");
}

void stream_open(struct stream *s)
{
    bool grpc = is_grpc(http_header(s->req, STR("content-type")));
    stat_add(grpc && s->http2 ? STAT_REQUESTS_GRPC : STAT_REQUESTS_HTTP, 1);
    if (grpc && s->http2 && s->door->services)
        grpc_open(s);
    else if (grpc && s->door->services)
        stream_refuse(s, 505, "gRPC needs HTTP/2");
    else if (s->door->grpc_only)
        stream_refuse(s, 415, "this port speaks gRPC: content-type application/grpc over HTTP/2");
    else
        open_http(s);
}
