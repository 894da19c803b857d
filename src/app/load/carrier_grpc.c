/* SPDX-License-Identifier: Apache-2.0 */
/* OTLP over gRPC: an nghttp2 client session on one non-blocking socket.
 *
 * Request bodies are not copied into frames: nghttp2 asks for a frame's payload to be sent
 * (send_data), which goes to the socket with the frame's head in one call. What a full socket did
 * not take of a started frame waits in `tail`, and nothing else is sent before it. */
#include "app/load/carrier.h"

#include "base/bytes.h"
#include "base/num.h"
#include "codec/otlp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define ANSWER_MAX  (256 * KIB)
#define PREFIX      5u /* gRPC's flag and length before a message */
#define METHOD_PATH "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

struct grpc_carrier {
    struct carrier carrier;
    int fd;
    nghttp2_session *session;
    nghttp2_session_callbacks *callbacks;
    struct buf tail;
    unsigned open_streams;
    bool broken;
    char authority[300];
};

/* --- bytes out --- */

static ssize_t send_iov(struct grpc_carrier *g, struct iovec *iov, size_t count)
{
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = count};
    for (;;) {
        ssize_t n = sendmsg(g->fd, &m, MSG_NOSIGNAL);
        if (n >= 0 || errno == EAGAIN || errno == EWOULDBLOCK)
            return n < 0 ? 0 : n;
        if (errno != EINTR) {
            g->broken = true;
            return -1;
        }
    }
}

static bool tail_flush(struct grpc_carrier *g)
{
    while (g->tail.n) {
        struct iovec iov = {g->tail.p, g->tail.n};
        ssize_t n = send_iov(g, &iov, 1);
        if (n <= 0)
            return false;
        buf_consume(&g->tail, (size_t)n);
    }
    return true;
}

static ssize_t on_send(nghttp2_session *s, const uint8_t *data, size_t n, int flags, void *user)
{
    struct grpc_carrier *g = user;
    (void)s;
    (void)flags;
    if (!tail_flush(g))
        return g->broken ? NGHTTP2_ERR_CALLBACK_FAILURE : NGHTTP2_ERR_WOULDBLOCK;
    union {
        const uint8_t *in;
        void *out;
    } p = {.in = data};
    struct iovec iov = {p.out, n};
    ssize_t sent = send_iov(g, &iov, 1);
    return sent < 0 ? NGHTTP2_ERR_CALLBACK_FAILURE : sent ? sent : NGHTTP2_ERR_WOULDBLOCK;
}

/* Where byte `at` of the gRPC message is, and how many lie there in one piece. */
static struct str message_piece(const struct carrier_job *job, const uint8_t prefix[PREFIX],
                                size_t at, size_t n)
{
    if (at < PREFIX)
        return str_of(prefix + at, min_size(n, PREFIX - at));
    return str_of(job->body.p + at - PREFIX, n);
}

static int on_send_data(nghttp2_session *s, nghttp2_frame *frame, const uint8_t *head, size_t n,
                        nghttp2_data_source *source, void *user)
{
    struct grpc_carrier *g = user;
    struct carrier_job *job = source->ptr;
    (void)s;
    (void)frame;
    if (!tail_flush(g))
        return g->broken ? NGHTTP2_ERR_CALLBACK_FAILURE : NGHTTP2_ERR_WOULDBLOCK;
    uint8_t prefix[PREFIX] = {g->carrier.config.zip != ZIP_NONE};
    store_u32be(prefix + 1, (uint32_t)job->body.n);
    struct iovec iov[3];
    size_t count = 0, total = 0;
    struct str pieces[3] = {str_of(head, 9)};
    pieces[1] = message_piece(job, prefix, job->sent, n);
    pieces[2] = message_piece(job, prefix, job->sent + pieces[1].n, n - pieces[1].n);
    for (int i = 0; i < 3; i++) {
        union {
            const char *in;
            void *out;
        } p = {.in = pieces[i].p};
        if (pieces[i].n)
            iov[count++] = (struct iovec){p.out, pieces[i].n};
        total += pieces[i].n;
    }
    ssize_t sent = send_iov(g, iov, count);
    if (sent <= 0)
        return sent < 0 ? NGHTTP2_ERR_CALLBACK_FAILURE : NGHTTP2_ERR_WOULDBLOCK;
    job->sent += n;
    for (size_t i = 0, skip = (size_t)sent; i < 3 && (size_t)sent < total; i++) {
        size_t gone = min_size(skip, pieces[i].n);
        buf_add_str(&g->tail, str_skip(pieces[i], gone));
        skip -= gone;
    }
    return g->tail.failed ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static ssize_t on_read_source(nghttp2_session *s, int32_t stream, uint8_t *out, size_t max,
                              uint32_t *flags, nghttp2_data_source *source, void *user)
{
    const struct carrier_job *job = source->ptr;
    size_t left = job->body.n + PREFIX - job->sent;
    (void)s;
    (void)stream;
    (void)out;
    (void)user;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (left <= max)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)min_size(left, max);
}

/* --- answers --- */

static int on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name, size_t nn,
                     const uint8_t *value, size_t vn, uint8_t flags, void *user)
{
    struct carrier_job *job = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);
    struct str key = str_of(name, nn), text = str_of(value, vn);
    uint64_t v;
    (void)flags;
    (void)user;
    if (!job)
        return 0;
    if (str_eq(key, STR(":status")) && num_get_u64(text, &v))
        job->http_status = (int)min_u64(v, 999);
    else if (str_eq(key, STR("grpc-status")) && num_get_u64(text, &v))
        job->grpc_status = (int)min_u64(v, 99);
    else if (str_eq(key, STR("grpc-message")))
        snprintf(job->said, sizeof job->said, "%.*s", STR_ARG(text));
    else if (str_eq(key, STR("grpc-retry-pushback-ms")) && num_get_u64(text, &v))
        job->retry_ms = v;
    return 0;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t stream, const uint8_t *data, size_t n,
                   void *user)
{
    struct carrier_job *job = nghttp2_session_get_stream_user_data(s, stream);
    (void)flags;
    (void)user;
    if (job)
        buf_add(&job->answer, data, n);
    return 0;
}

static bool is_retryable(int grpc_status)
{
    /* CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, OUT_OF_RANGE, UNAVAILABLE,
     * DATA_LOSS, as the OTLP specification lists them */
    static const uint32_t set = 1u << 1 | 1u << 4 | 1u << 8 | 1u << 10 | 1u << 11 | 1u << 14 |
                                1u << 15;
    return grpc_status >= 0 && grpc_status < 17 && (set >> grpc_status & 1);
}

static int on_stream_close(nghttp2_session *s, int32_t stream, uint32_t error, void *user)
{
    struct grpc_carrier *g = user;
    struct carrier_job *job = nghttp2_session_get_stream_user_data(s, stream);
    if (!job)
        return 0;
    struct carrier_answer a = {
        .kind = CARRIER_REFUSED, .retry_ms = job->retry_ms, .why = job->said};
    g->open_streams--;
    if (error || job->grpc_status < 0) {
        a.kind = CARRIER_RETRY;
        snprintf(job->said, sizeof job->said, "stream ended early (HTTP %d, error %u)",
                 job->http_status, error);
    } else if (job->grpc_status == 0) {
        struct str message, in = str_skip(buf_str(&job->answer), PREFIX);
        a.kind = CARRIER_TAKEN;
        if (otlp_decode_response(in, &a.rejected, &message))
            a.rejected = 0;
    } else if (is_retryable(job->grpc_status)) {
        a.kind = CARRIER_RETRY;
    }
    g->carrier.config.answered(g->carrier.config.arg, job, &a);
    return 0;
}

/* --- the carrier --- */

static enum errc grpc_open(struct carrier *l, struct err *e)
{
    struct grpc_carrier *g = (struct grpc_carrier *)l;
    if (g->session)
        return E_OK;
    enum errc code = client_connect(&l->config.url, l->config.timeout_ns, &g->fd, e);
    if (code)
        return code;
    ensure(fcntl(g->fd, F_SETFL, O_NONBLOCK) == 0);
    ensure(nghttp2_session_client_new(&g->session, g->callbacks, g) == 0);
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                         {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 0}};
    ensure(nghttp2_submit_settings(g->session, NGHTTP2_FLAG_NONE, settings, 2) == 0);
    g->broken = false;
    return E_OK;
}

static void grpc_close(struct carrier *l)
{
    struct grpc_carrier *g = (struct grpc_carrier *)l;
    nghttp2_session_del(g->session);
    g->session = NULL;
    if (g->fd >= 0)
        close(g->fd);
    g->fd = -1;
    g->open_streams = 0;
    buf_reset(&g->tail);
}

static enum errc broke(struct grpc_carrier *g, const char *how, struct err *e)
{
    return fail(e, E_UNAVAILABLE, "%s:%u: %s", g->carrier.config.url.host,
                g->carrier.config.url.port, how);
}

#define NV(name, value)                                                                           \
    {                                                                                             \
        (uint8_t *)(uintptr_t)(name), (uint8_t *)(uintptr_t)(value), strlen(name), strlen(value), \
            NGHTTP2_NV_FLAG_NO_COPY_NAME                                                          \
    }

static enum errc grpc_send(struct carrier *l, struct carrier_job *job, struct err *e)
{
    struct grpc_carrier *g = (struct grpc_carrier *)l;
    nghttp2_nv nv[] = {NV(":method", "POST"),
                       NV(":scheme", "http"),
                       NV(":path", METHOD_PATH),
                       NV(":authority", g->authority),
                       NV("te", "trailers"),
                       NV("content-type", "application/grpc"),
                       NV("user-agent", "lymer/" LYMER_VERSION),
                       NV("grpc-encoding", zip_name(l->config.zip))};
    size_t count = ARRAY_LEN(nv) - (l->config.zip == ZIP_NONE);
    nghttp2_data_provider body = {.source.ptr = job, .read_callback = on_read_source};
    job->sent = 0;
    job->http_status = 0;
    job->grpc_status = -1;
    job->retry_ms = 0;
    job->said[0] = 0;
    buf_reset(&job->answer);
    job->stream = nghttp2_submit_request(g->session, NULL, nv, count, &body, job);
    if (job->stream < 0)
        return broke(g, nghttp2_strerror(job->stream), e);
    g->open_streams++;
    return nghttp2_session_send(g->session) ? broke(g, "connection lost", e) : E_OK;
}

static enum errc grpc_pump(struct carrier *l, int wait_ms, struct err *e)
{
    struct grpc_carrier *g = (struct grpc_carrier *)l;
    static _Thread_local uint8_t in[64 * 1024];
    bool want_out = g->tail.n || nghttp2_session_want_write(g->session);
    struct pollfd p = {.fd = g->fd, .events = (short)(POLLIN | (want_out ? POLLOUT : 0))};
    int ready = poll(&p, 1, wait_ms);
    if (ready < 0 && errno != EINTR)
        return broke(g, strerror(errno), e);
    if (ready > 0 && (p.revents & (POLLIN | POLLHUP | POLLERR))) {
        ssize_t n = recv(g->fd, in, sizeof in, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return broke(g, n ? strerror(errno) : "the server closed the connection", e);
        if (n > 0 && nghttp2_session_mem_recv(g->session, in, (size_t)n) != n)
            return broke(g, "the server does not speak HTTP/2", e);
    }
    if (nghttp2_session_send(g->session))
        return broke(g, "connection lost", e);
    if (!nghttp2_session_want_read(g->session) && !nghttp2_session_want_write(g->session))
        return broke(g, "the server is going away", e);
    return E_OK;
}

static void grpc_free(struct carrier *l)
{
    struct grpc_carrier *g = (struct grpc_carrier *)l;
    grpc_close(l);
    nghttp2_session_callbacks_del(g->callbacks);
    buf_fini(&g->tail);
    free(g);
}

static const struct carrier_ops grpc_ops = {CARRIER_JOBS, grpc_open,  grpc_send,
                                            grpc_pump,    grpc_close, grpc_free};

struct carrier *grpc_carrier_new(const struct carrier_config *c)
{
    struct grpc_carrier *g = xcalloc(1, sizeof *g);
    bool v6 = strchr(c->url.host, ':') != NULL;
    g->carrier = (struct carrier){&grpc_ops, *c};
    g->fd = -1;
    g->tail = buf_init(MIB + 16 * MIB); /* one frame, whatever size the server allows */
    snprintf(g->authority, sizeof g->authority, v6 ? "[%s]:%u" : "%s:%u", c->url.host, c->url.port);
    ensure(nghttp2_session_callbacks_new(&g->callbacks) == 0);
    nghttp2_session_callbacks_set_send_callback(g->callbacks, on_send);
    nghttp2_session_callbacks_set_send_data_callback(g->callbacks, on_send_data);
    nghttp2_session_callbacks_set_on_header_callback(g->callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(g->callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(g->callbacks, on_stream_close);
    return &g->carrier;
}
