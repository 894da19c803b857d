/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes into a server connection over a socket pair, the loop turned by hand. The first byte says
 * how: bit 0 puts the HTTP/2 preface and SETTINGS in front, the others choose the cut into two
 * pieces. Whatever comes, the server answers or closes, and holds nothing when it is closed. */
#include "base/log.h"
#include "base/stats.h"
#include "serve/engine.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void echo(struct http_req *r)
{
    struct str v;
    size_t at = 0;
    while (http_param(r, STR("a"), &at, &v))
        ;
    http_reply(r, 200, "text/plain", r->body);
}

static const struct http_route routes[] = {
    {"GET", "/{a}", echo, HTTP_ON_LOOP},
    {"POST", "/{a}", echo, HTTP_ON_LOOP},
    {"*", "/x/{rest...}", echo, HTTP_ON_LOOP},
};

static const struct http_door door = {.name = "fuzz",
                                      .addr = "127.0.0.1",
                                      .routes = routes,
                                      .route_count = ARRAY_LEN(routes),
                                      .cors_origins = "*"};

static void feed(struct loop *l, int fd, struct str s)
{
    while (s.n) {
        ssize_t n = send(fd, s.p, s.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n <= 0)
            break;
        s = str_skip(s, (size_t)n);
        loop_poll(l);
    }
    char sink[4096];
    for (int i = 0; i < 4; i++) {
        loop_poll(l);
        while (recv(fd, sink, sizeof sink, MSG_DONTWAIT) > 0)
            ;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    struct loop *l = loop_new();
    struct http_server *s;
    struct http_limits limits = http_limits_default();
    limits.body_max_bytes = 64 * KIB;
    int fds[2];
    ensure(http_server_open(&s, &l, 1, &door, 1, NULL, &limits, NULL) == E_OK);
    ensure(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    server_accept(s, l, &door, fds[1], STR("fuzz"));
    if (data[0] & 1)
        feed(l, fds[0], STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"));
    struct str in = str_of(data + 1, size - 1);
    size_t cut = in.n * (data[0] >> 1) / 127;
    feed(l, fds[0], str_take(in, cut));
    feed(l, fds[0], str_skip(in, cut));
    close(fds[0]);
    loop_poll(l);
    http_server_close(s);
    loop_free(l);
    ensure(stat_get(STAT_INFLIGHT_BYTES) == 0 && stat_get(STAT_CONNS_OPEN) == 0);
    return 0;
}
