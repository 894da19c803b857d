/* SPDX-License-Identifier: Apache-2.0 */
#include "app/client.h"

#include "base/num.h"
#include "serve/http1.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

/* --- addresses --- */

enum errc client_url_parse(const char *text, uint16_t default_port, struct client_url *out,
                           struct err *e)
{
    struct str s = str_from_c(text);
    *out = (struct client_url){.port = default_port};
    if (str_starts(s, STR("https://")))
        return fail(e, E_USAGE, "\"%.100s\": https is not spoken here, only http", text);
    out->grpc = str_starts(s, STR("grpc://"));
    if (!out->grpc && !str_starts(s, STR("http://")))
        return fail(e, E_USAGE, "\"%.100s\" is not a URL such as http://127.0.0.1:16686", text);
    s = str_skip(s, 7);
    struct str host = str_take(s, str_find(s, '/')), path = str_skip(s, host.n);
    size_t colon = host.n;
    while (colon && host.p[colon - 1] != ':' && host.p[colon - 1] != ']')
        colon--;
    if (colon && host.p[colon - 1] == ':') {
        uint64_t port;
        if (!num_get_u64(str_skip(host, colon), &port) || !port || port > 65535)
            return fail(e, E_USAGE, "\"%.100s\": the port is not a number", text);
        out->port = (uint16_t)port;
        host = str_take(host, colon - 1);
    }
    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = str_of(host.p + 1, host.n - 2);
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    if (!host.n || host.n >= sizeof out->host || path.n >= sizeof out->path)
        return fail(e, E_USAGE, "\"%.100s\": the host is missing, or host or path is too long",
                    text);
    memcpy(out->host, host.p, host.n);
    memcpy(out->path, path.p, path.n);
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f)
            return fail(e, E_USAGE, "the URL holds a space or a control character");
    return E_OK;
}

static int try_connect(const struct addrinfo *a, uint64_t timeout_ns)
{
    struct timeval t = {.tv_sec = (time_t)(timeout_ns / NS_PER_S),
                        .tv_usec = (suseconds_t)(timeout_ns % NS_PER_S / 1000)};
    int one = 1, fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0)
        return -1;
    /* The send timeout also bounds connect(). */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved == EINPROGRESS ? ETIMEDOUT : saved;
    return -1;
}

enum errc client_connect(const struct client_url *u, uint64_t timeout_ns, int *fd, struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *all = NULL;
    char port[8];
    snprintf(port, sizeof port, "%u", u->port);
    int bad = getaddrinfo(u->host, port, &hints, &all);
    if (bad)
        return fail(e, E_UNAVAILABLE, "%s: %s", u->host, gai_strerror(bad));
    *fd = -1;
    for (const struct addrinfo *a = all; a && *fd < 0; a = a->ai_next)
        *fd = try_connect(a, timeout_ns);
    freeaddrinfo(all);
    return *fd >= 0 ? E_OK : fail_errno(e, E_UNAVAILABLE, "cannot reach %s:%u", u->host, u->port);
}

enum errc client_init(struct client *c, const char *url, uint64_t timeout_ns, struct err *e)
{
    *c = (struct client){.timeout_ns = timeout_ns, .fd = -1};
    c->in = buf_init(CLIENT_HEAD_MAX + CLIENT_READ_BYTES);
    return client_url_parse(url, 16686, &c->url, e);
}

static void hang_up(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    buf_reset(&c->in);
}

void client_fini(struct client *c)
{
    hang_up(c);
    buf_fini(&c->in);
}

void client_answer_fini(struct client_answer *a)
{
    buf_fini(&a->body);
}

/* --- one call --- */

static enum errc broken(const struct client *c, const char *doing, struct err *e)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return fail(e, E_TIMEOUT, "%s:%u takes too long to %s", c->url.host, c->url.port, doing);
    return fail_errno(e, E_UNAVAILABLE, "%s:%u", c->url.host, c->url.port);
}

static enum errc send_all(struct client *c, struct str head, struct str body, struct err *e)
{
    while (head.n + body.n) {
        union {
            const char *in;
            void *out;
        } h = {.in = head.p}, b = {.in = body.p};
        struct iovec iov[2] = {{h.out, head.n}, {b.out, body.n}};
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
        ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return broken(c, "read the request", e);
        size_t from_head = min_size((size_t)n, head.n);
        head = str_skip(head, from_head);
        body = str_skip(body, (size_t)n - from_head);
    }
    return E_OK;
}

/* More bytes behind c->in; *n = 0 at the end of the stream. */
static enum errc receive(struct client *c, size_t *n, struct err *e)
{
    if (!buf_reserve(&c->in, min_size(CLIENT_READ_BYTES, c->in.max - c->in.n)) ||
        c->in.n == c->in.cap)
        return fail(e, E_TOO_BIG, "the answer's head is larger than %zu bytes", CLIENT_HEAD_MAX);
    for (;;) {
        ssize_t got = recv(c->fd, c->in.p + c->in.n, c->in.cap - c->in.n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return broken(c, "answer", e);
        c->in.n += (size_t)got;
        *n = (size_t)got;
        return E_OK;
    }
}

enum framing { BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_TO_END };

struct reading {
    struct client_answer *answer;
    client_sink *sink;
    void *arg;
    enum framing framing;
    uint64_t left;
    struct http1_chunked chunked;
    bool done;
};

static void note_field(struct client *c, struct reading *r, struct str name, struct str value)
{
    uint64_t v;
    if (str_eq_nocase(name, STR("content-length")) && num_get_u64(value, &v) &&
        r->framing != BODY_CHUNKED) {
        r->framing = v ? BODY_LENGTH : BODY_NONE;
        r->left = v;
    } else if (str_eq_nocase(name, STR("transfer-encoding"))) {
        r->framing = BODY_CHUNKED;
    } else if (str_eq_nocase(name, STR("connection")) && str_eq_nocase(value, STR("close"))) {
        c->keep = false;
    } else if (str_eq_nocase(name, STR("content-type"))) {
        snprintf(r->answer->type, sizeof r->answer->type, "%.*s", STR_ARG(value));
    } else if (str_eq_nocase(name, STR("retry-after")) && num_get_u64(value, &v)) {
        r->answer->retry_after_ms = min_u64(v, 3600) * 1000;
    }
}

static enum errc parse_head(struct client *c, struct reading *r, struct str head, struct err *e)
{
    struct str line, rest = head;
    uint64_t status = 0;
    (void)str_split(&rest, '\n', &line);
    if (!str_starts(line, STR("HTTP/1.")) || !num_get_u64(str_take(str_skip(line, 9), 3), &status))
        return fail(e, E_INVALID, "%s:%u does not speak HTTP/1.1", c->url.host, c->url.port);
    r->answer->status = (int)status;
    c->keep = line.p[7] == '1';
    r->framing = BODY_TO_END;
    while (str_split(&rest, '\n', &line)) {
        size_t colon = str_find(line, ':');
        struct str value = str_skip(line, colon + 1);
        if (value.n && value.p[value.n - 1] == '\r')
            value.n--;
        note_field(c, r, str_take(line, colon), str_trim(value));
    }
    if (status == 204 || status == 304)
        r->framing = BODY_NONE;
    return E_OK;
}

/* The end of the head in c->in, 0 when it is not there yet. */
static size_t head_end(const struct client *c)
{
    const char *at = c->in.n ? memmem(c->in.p, c->in.n, "\r\n\r\n", 4) : NULL;
    return at ? (size_t)(at - c->in.p) + 4 : 0;
}

static enum errc take_piece(struct reading *r, struct str piece, struct err *e)
{
    if (!piece.n)
        return E_OK;
    if (r->sink && r->answer->status / 100 == 2)
        return r->sink(r->arg, piece) ? E_OK : fail(e, E_CANCELLED, "stopped");
    buf_add_str(&r->answer->body, piece);
    return buf_err(&r->answer->body)
               ? fail(e, E_TOO_BIG, "the answer is larger than %zu bytes", r->answer->body.max)
               : E_OK;
}

/* Hands on what of the body is in c->in. */
static enum errc take_body(struct client *c, struct reading *r, struct err *e)
{
    struct str in = buf_str(&c->in), piece;
    enum errc code = E_OK;
    while (!code && !r->done && (in.n || r->framing == BODY_NONE)) {
        if (r->framing == BODY_CHUNKED) {
            if (http1_chunked_feed(&r->chunked, &in, &piece, &r->done) != HTTP1_OK)
                return fail(e, E_INVALID, "the answer's chunks are damaged");
        } else {
            size_t n = r->framing == BODY_TO_END ? in.n : (size_t)min_u64(in.n, r->left);
            piece = str_take(in, n);
            in = str_skip(in, n);
            r->left -= r->framing == BODY_LENGTH ? n : 0;
            r->done = r->framing == BODY_NONE || (r->framing == BODY_LENGTH && !r->left);
        }
        code = take_piece(r, piece, e);
    }
    buf_consume(&c->in, c->in.n - in.n);
    return code;
}

static enum errc read_head(struct client *c, struct reading *r, struct err *e)
{
    size_t end, got = 1;
    do {
        while (!(end = head_end(c))) {
            enum errc code = receive(c, &got, e);
            if (code)
                return code;
            if (!got)
                return fail(e, E_UNAVAILABLE, "%s:%u closed the connection without an answer",
                            c->url.host, c->url.port);
        }
        enum errc code = parse_head(c, r, str_of(c->in.p, end), e);
        if (code)
            return code;
        buf_consume(&c->in, end);
    } while (r->answer->status / 100 == 1);
    return E_OK;
}

static enum errc read_answer(struct client *c, struct reading *r, struct err *e)
{
    enum errc code = read_head(c, r, e);
    size_t got;
    while (!code) {
        code = take_body(c, r, e);
        if (code || r->done)
            return code;
        code = receive(c, &got, e);
        if (!code && !got && r->framing == BODY_TO_END) {
            c->keep = false;
            return E_OK;
        }
        if (!code && !got)
            code = fail(e, E_UNAVAILABLE, "%s:%u broke the answer off: its log says why",
                        c->url.host, c->url.port);
    }
    return code;
}

static void write_head(const struct client *c, const char *method, const char *path,
                       const char *headers, struct str body, struct buf *out)
{
    bool v6 = strchr(c->url.host, ':') != NULL;
    const char *target = *c->url.path || *path ? "" : "/";
    buf_addf(
        out, "%s %s%s%s HTTP/1.1\r\nHost: %s%s%s:%u\r\nUser-Agent: lymer/" LYMER_VERSION "\r\n",
        method, target, c->url.path, path, v6 ? "[" : "", c->url.host, v6 ? "]" : "", c->url.port);
    if (body.n || strcmp(method, "POST") == 0)
        buf_addf(out, "Content-Length: %zu\r\n", body.n);
    buf_addf(out, "%s\r\n", headers);
}

enum errc client_call(struct client *c, const char *method, const char *path, const char *headers,
                      struct str body, size_t body_max, client_sink *sink, void *arg,
                      struct client_answer *out, struct err *e)
{
    *out = (struct client_answer){.body = buf_init(body_max)};
    struct buf head = buf_init(64 * KIB);
    write_head(c, method, path, headers, body, &head);
    enum errc code = buf_err(&head) ? fail(e, E_USAGE, "the request is too long") : E_OK;
    for (bool again = c->fd >= 0; !code;) {
        if (c->fd < 0)
            code = client_connect(&c->url, c->timeout_ns, &c->fd, e);
        if (!code)
            code = send_all(c, buf_str(&head), body, e);
        struct reading r = {.answer = out, .sink = sink, .arg = arg};
        if (!code)
            code = read_answer(c, &r, e);
        if (!code)
            break;
        hang_up(c);
        if (!again || out->status || code != E_UNAVAILABLE)
            break;
        again = false; /* the server had closed an idle connection */
        code = E_OK;
    }
    buf_fini(&head);
    if (code || !c->keep)
        hang_up(c);
    return code;
}

void client_add_encoded(struct buf *out, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char ch = (unsigned char)s.p[i];
        bool plain = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                     (ch >= '0' && ch <= '9') || strchr("-._~", ch);
        if (plain && ch)
            buf_add_char(out, (char)ch);
        else
            buf_addf(out, "%%%02X", ch);
    }
}
