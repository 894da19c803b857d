/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets. What they accept is probed by the kernel when it is silent for KEEP_IDLE_S
 * (inherited from the listener): a peer that vanished without a word, with a call open that never
 * ends, would otherwise hold its connection for ever. When the process is out of descriptors or
 * memory accept cannot succeed and the socket stays ready: the listener then looks away for
 * ACCEPT_PAUSE_NS instead of spinning. */
#include "net/loop_priv.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG         1024
#define KEEP_IDLE_S     120 /* then KEEP_PROBES every KEEP_EVERY_S */
#define KEEP_EVERY_S    30
#define KEEP_PROBES     4
#define ACCEPTS_A_TURN  64
#define ACCEPT_PAUSE_NS (100 * NS_PER_MS)

struct listener {
    struct source source;
    struct loop *loop;
    int fd;
    struct timer pause;
    void (*accepted)(void *arg, struct loop *l, int fd, struct str peer);
    void *arg;
};

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static socklen_t address_parse(const char *text, uint16_t port, union address *a)
{
    memset(a, 0, sizeof *a);
    if (inet_pton(AF_INET, text, &a->v4.sin_addr) == 1) {
        a->v4.sin_family = AF_INET;
        a->v4.sin_port = htons(port);
        return sizeof a->v4;
    }
    if (inet_pton(AF_INET6, text, &a->v6.sin6_addr) == 1) {
        a->v6.sin6_family = AF_INET6;
        a->v6.sin6_port = htons(port);
        return sizeof a->v6;
    }
    return 0;
}

static struct str address_text(const union address *a, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";
    int n;
    if (a->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &a->v6.sin6_addr, host, sizeof host);
        n = snprintf(out, size, "[%s]:%u", host, ntohs(a->v6.sin6_port));
    } else {
        inet_ntop(AF_INET, &a->v4.sin_addr, host, sizeof host);
        n = snprintf(out, size, "%s:%u", host, ntohs(a->v4.sin_port));
    }
    return str_of(out, min_size((size_t)max_u64((uint64_t)n, 0), size - 1));
}

static enum errc bind_failed(struct err *e, const char *addr, uint16_t port)
{
    if (errno == EADDRINUSE)
        return fail(e, E_EXISTS, "port %u on %s is in use by another process (EADDRINUSE)", port,
                    addr);
    return fail_errno(e, errno == EACCES ? E_DENIED : E_IO, "port %u on %s", port, addr);
}

/* A bound socket, or -1 with the reason in e and its code in *code. */
static int bound_socket(const char *addr, uint16_t port, bool share, enum errc *code, struct err *e)
{
    union address a;
    socklen_t len = address_parse(addr, port, &a);
    if (!len) {
        *code = fail(e, E_USAGE, "\"%s\" is not a numeric IPv4 or IPv6 address", addr);
        return -1;
    }
    int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        *code = fail_errno(e, E_IO, "port %u on %s: socket", port, addr);
        return -1;
    }
    int one = 1, zero = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (share)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    if (a.any.sa_family == AF_INET6) /* "::" listens on IPv4 too */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    if (bind(fd, &a.any, len) != 0) {
        *code = bind_failed(e, addr, port);
        close(fd);
        return -1;
    }
    *code = E_OK;
    return fd;
}

enum errc net_probe(const char *addr, uint16_t port, struct err *e)
{
    enum errc code;
    int fd = bound_socket(addr, port, false, &code, e);
    if (fd >= 0)
        close(fd);
    return code;
}

static void listener_resume(struct timer *t)
{
    struct listener *li = (struct listener *)((char *)t - offsetof(struct listener, pause));
    loop_watch(li->loop, li->fd, &li->source, EPOLLIN, false);
}

static void listener_rest(struct listener *li)
{
    log_warn("net", "cannot accept connections: %s; trying again in %llu ms", strerror(errno),
             (unsigned long long)(ACCEPT_PAUSE_NS / NS_PER_MS));
    loop_watch(li->loop, li->fd, &li->source, 0, false);
    timer_arm(li->loop, &li->pause, ACCEPT_PAUSE_NS);
}

static void listener_ready(struct source *s, uint32_t events)
{
    struct listener *li = (struct listener *)s;
    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN && li->fd >= 0; i++) {
        union address a;
        socklen_t len = sizeof a;
        int fd = accept4(li->fd, &a.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            char text[INET6_ADDRSTRLEN + 10];
            int one = 1;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            li->accepted(li->arg, li->loop, fd, address_text(&a, text, sizeof text));
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            listener_rest(li);
            return;
        } else if (errno == EAGAIN) {
            return;
        } /* else one connection that died while it waited */
    }
}

static void keep_alive(int fd)
{
    int one = 1, idle = KEEP_IDLE_S, every = KEEP_EVERY_S, probes = KEEP_PROBES;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

enum errc listener_open(struct loop *l, const char *addr, uint16_t port,
                        void (*accepted)(void *arg, struct loop *l, int fd, struct str peer),
                        void *arg, struct listener **out, struct err *e)
{
    enum errc code;
    int fd = bound_socket(addr, port, true, &code, e);
    if (fd < 0)
        return code;
    if (listen(fd, BACKLOG) != 0) {
        code = bind_failed(e, addr, port);
        close(fd);
        return code;
    }
    keep_alive(fd);
    struct listener *li = xcalloc(1, sizeof *li);
    li->source.ready = listener_ready;
    li->loop = l;
    li->fd = fd;
    li->pause.fn = listener_resume;
    li->accepted = accepted;
    li->arg = arg;
    loop_watch(l, fd, &li->source, EPOLLIN, true);
    *out = li;
    return E_OK;
}

uint16_t listener_port(const struct listener *li)
{
    union address a;
    socklen_t len = sizeof a;
    if (getsockname(li->fd, &a.any, &len) != 0)
        return 0;
    return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

void listener_close(struct listener *li)
{
    if (!li)
        return;
    timer_cancel(li->loop, &li->pause);
    close(li->fd);
    li->fd = -1;
    source_retire(li->loop, &li->source);
}
