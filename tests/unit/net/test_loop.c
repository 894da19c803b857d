/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"

#include "net/loop.h"
#include "base/err.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- timers --- */

struct tick {
    struct timer timer;
    struct loop *loop;
    unsigned *count;
    unsigned expect;
};

static void tick_fired(struct timer *t)
{
    struct tick *k = (struct tick *)t;
    CHECK_INT((*k->count)++, k->expect);
    if (*k->count == 3)
        loop_stop(k->loop);
}

TEST(timers_fire_in_order_of_time)
{
    struct loop *l = loop_new();
    unsigned count = 0;
    struct tick t[4];
    static const unsigned ms[] = {9, 1, 5, 3};
    for (unsigned i = 0; i < 4; i++) {
        t[i] = (struct tick){.timer.fn = tick_fired, .loop = l, .count = &count};
        timer_arm(l, &t[i].timer, ms[i] * NS_PER_MS);
    }
    t[1].expect = 0;
    t[2].expect = 1;
    t[0].expect = 2;
    timer_cancel(l, &t[3].timer);
    loop_run(l);
    CHECK_INT(count, 3);
    loop_free(l);
}

static void nothing(struct timer *t)
{
    (void)t;
}

TEST(a_thousand_timers_keep_their_heap)
{
    struct loop *l = loop_new();
    static struct timer t[1000];
    for (unsigned round = 0; round < 20; round++)
        for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
            t[i].fn = nothing;
            if (test_rand() % 3)
                timer_arm(l, &t[i], test_rand() % NS_PER_S + NS_PER_S);
            else
                timer_cancel(l, &t[i]);
        }
    for (unsigned i = 0; i < ARRAY_LEN(t); i++)
        timer_cancel(l, &t[i]);
    loop_free(l);
}

/* --- messages --- */

struct note {
    struct loop_msg msg;
    struct loop *loop;
    unsigned left;
};

static void note_again(struct loop_msg *m)
{
    struct note *n = (struct note *)m;
    if (n->left-- == 0)
        loop_stop(n->loop);
    else
        loop_post(n->loop, m);
}

TEST(a_message_posted_from_its_own_loop_is_not_slept_over)
{
    struct loop *l = loop_new();
    struct note n = {.msg.fn = note_again, .loop = l, .left = 1000};
    loop_post(l, &n.msg);
    loop_run(l);
    loop_free(l);
}

static void *post_from_here(void *arg)
{
    struct note *n = arg;
    loop_post(n->loop, &n->msg);
    return NULL;
}

TEST(a_message_from_another_thread_wakes_the_loop)
{
    struct loop *l = loop_new();
    struct note n = {.msg.fn = note_again, .loop = l};
    pthread_t t;
    CHECK_INT(pthread_create(&t, NULL, post_from_here, &n), 0);
    loop_run(l);
    pthread_join(t, NULL);
    loop_free(l);
}

/* --- connections --- */

struct peer {
    struct loop *loop;
    struct conn *conn;
    size_t take, got, drained, closed, eof, offered;
    bool pause;
};

static size_t peer_read(void *arg, struct str in)
{
    struct peer *p = arg;
    p->offered = in.n;
    size_t n = min_size(in.n, p->take);
    p->got += n;
    if (p->pause)
        conn_pause(p->conn, true);
    return n;
}

static void peer_drained(void *arg)
{
    ((struct peer *)arg)->drained++;
}

static void peer_eof(void *arg)
{
    struct peer *p = arg;
    p->eof++;
    loop_stop(p->loop);
}

static void peer_closed(void *arg)
{
    struct peer *p = arg;
    p->closed++;
    p->conn = NULL;
    loop_stop(p->loop);
}

static const struct conn_ops peer_ops = {
    .read = peer_read, .drained = peer_drained, .eof = peer_eof, .closed = peer_closed};

static int peer_open(struct peer *p, size_t in_max, size_t out_max)
{
    int fds[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    CHECK_INT(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
    p->conn = conn_new(p->loop, fds[1], &peer_ops, p, in_max, out_max);
    return fds[0];
}

TEST(what_the_owner_leaves_is_offered_again_and_never_grows_past_in_max)
{
    struct peer p = {.loop = loop_new(), .take = 3};
    int fd = peer_open(&p, 100, 1000);
    char bytes[1000] = {0};
    CHECK_INT(send(fd, bytes, sizeof bytes, 0), sizeof bytes);
    shutdown(fd, SHUT_WR);
    loop_run(p.loop);
    CHECK_INT(p.eof, 1);
    CHECK(p.offered <= 100);
    CHECK_INT(p.got % 3, 0);
    conn_close(p.conn);
    CHECK_INT(p.closed, 1);
    close(fd);
    loop_free(p.loop);
}

TEST(output_past_its_cap_is_refused_and_what_was_taken_arrives_whole)
{
    struct peer p = {.loop = loop_new()};
    int fd = peer_open(&p, 100, 100000);
    char *big = calloc(1, 100001);
    CHECK(!conn_write(p.conn, str_of(big, 100001)));
    CHECK(conn_write(p.conn, str_of(big, 99999)));
    CHECK(!conn_write(p.conn, str_of(big, 2)));
    CHECK_INT(conn_pending(p.conn), 99999);
    conn_close_soft(p.conn);
    CHECK(!conn_write(p.conn, str_of(big, 1)));
    struct note n = {.msg.fn = note_again, .loop = p.loop};
    loop_post(p.loop, &n.msg);
    loop_run(p.loop);
    size_t got = 0;
    ssize_t r;
    while ((r = recv(fd, big, 100000, 0)) > 0)
        got += (size_t)r;
    CHECK_INT(r, 0); /* our side was shut down after the last byte */
    CHECK_INT(got, 99999);
    close(fd);
    loop_run(p.loop);
    CHECK_INT(p.closed, 1);
    free(big);
    loop_free(p.loop);
}

TEST(a_paused_connection_reads_nothing_until_resumed)
{
    struct peer p = {.loop = loop_new(), .take = 10, .pause = true};
    int fd = peer_open(&p, 100, 1000);
    CHECK_INT(send(fd, "0123456789abcdefghij", 20, 0), 20);
    struct note n = {.msg.fn = note_again, .loop = p.loop, .left = 50};
    loop_post(p.loop, &n.msg);
    loop_run(p.loop);
    CHECK_INT(p.got, 10);
    p.pause = false;
    conn_pause(p.conn, false);
    shutdown(fd, SHUT_WR);
    loop_run(p.loop);
    CHECK_INT(p.got, 20);
    conn_close(p.conn);
    close(fd);
    loop_free(p.loop);
}

TEST(freeing_a_loop_closes_what_is_open)
{
    struct peer p = {.loop = loop_new()};
    int fd = peer_open(&p, 100, 1000);
    loop_free(p.loop);
    CHECK_INT(p.closed, 1);
    close(fd);
}

/* --- listeners --- */

struct door {
    struct loop *loop;
    unsigned count;
    int fds[64];
    char peer[64];
};

static void door_accepted(void *arg, struct loop *l, int fd, struct str peer)
{
    struct door *d = arg;
    snprintf(d->peer, sizeof d->peer, "%.*s", STR_ARG(peer));
    d->fds[d->count++] = fd;
    loop_stop(l);
}

static int dial(const char *addr, uint16_t port)
{
    bool six = strchr(addr, ':');
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    inet_pton(six ? AF_INET6 : AF_INET, addr, six ? (void *)&v6.sin6_addr : &v4.sin_addr);
    int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, six ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4,
                          six ? sizeof v6 : sizeof v4) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void accept_one(const char *addr, const char *peer_prefix)
{
    struct door d = {.loop = loop_new()};
    struct listener *li;
    struct err e;
    if (listener_open(d.loop, addr, 0, door_accepted, &d, &li, &e) != E_OK) {
        CHECK(strchr(addr, ':')); /* a machine without IPv6 */
        loop_free(d.loop);
        return;
    }
    int fd = dial(addr, listener_port(li));
    CHECK(fd >= 0);
    loop_run(d.loop);
    CHECK_INT(d.count, 1);
    CHECK(strncmp(d.peer, peer_prefix, strlen(peer_prefix)) == 0);
    close(d.fds[0]);
    close(fd);
    listener_close(li);
    loop_free(d.loop);
}

TEST(listens_on_ipv4_and_ipv6)
{
    accept_one("127.0.0.1", "127.0.0.1:");
    accept_one("::1", "[::1]:");
}

/* A peer whose machine is gone sends nothing, not even an end. */
TEST(the_kernel_asks_silent_peers_whether_they_live)
{
    struct door d = {.loop = loop_new()};
    struct listener *li;
    CHECK_OK(listener_open(d.loop, "127.0.0.1", 0, door_accepted, &d, &li, NULL));
    int fd = dial("127.0.0.1", listener_port(li)), on = 0, idle = 0;
    loop_run(d.loop);
    socklen_t n = sizeof on;
    CHECK_INT(getsockopt(d.fds[0], SOL_SOCKET, SO_KEEPALIVE, &on, &n), 0);
    CHECK_INT(getsockopt(d.fds[0], IPPROTO_TCP, TCP_KEEPIDLE, &idle, &n), 0);
    CHECK(on && idle > 0 && idle <= 300);
    close(d.fds[0]);
    close(fd);
    listener_close(li);
    loop_free(d.loop);
}

TEST(a_port_in_use_is_named_in_one_line)
{
    struct door d = {.loop = loop_new()};
    struct listener *li;
    struct err e;
    CHECK_OK(listener_open(d.loop, "127.0.0.1", 0, door_accepted, &d, &li, &e));
    uint16_t port = listener_port(li);
    char want[80];
    snprintf(want, sizeof want, "port %u on 127.0.0.1 is in use by another process (EADDRINUSE)",
             port);
    CHECK_INT(net_probe("127.0.0.1", port, &e), E_EXISTS);
    CHECK_STR(str_from_c(e.msg), str_from_c(want));
    CHECK_INT(net_probe("localhost", 1, &e), E_USAGE);
    CHECK_OK(net_probe("127.0.0.1", 0, &e));
    listener_close(li);
    loop_free(d.loop);
}

TEST(two_loops_share_a_port)
{
    struct door a = {.loop = loop_new()}, b = {.loop = loop_new()};
    struct listener *la, *lb;
    CHECK_OK(listener_open(a.loop, "127.0.0.1", 0, door_accepted, &a, &la, NULL));
    CHECK_OK(listener_open(b.loop, "127.0.0.1", listener_port(la), door_accepted, &b, &lb, NULL));
    listener_close(la);
    listener_close(lb);
    loop_free(a.loop);
    loop_free(b.loop);
}

TEST(out_of_descriptors_the_listener_rests_and_then_accepts)
{
    struct door d = {.loop = loop_new()};
    struct listener *li;
    CHECK_OK(listener_open(d.loop, "127.0.0.1", 0, door_accepted, &d, &li, NULL));
    int fd = dial("127.0.0.1", listener_port(li)), spare = dup(fd);
    CHECK(fd >= 0 && spare >= 0);
    struct rlimit old, few = {.rlim_cur = 0, .rlim_max = 0};
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &old), 0);
    few.rlim_cur = (rlim_t)spare + 1;
    few.rlim_max = old.rlim_max;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
    struct note n = {.msg.fn = note_again, .loop = d.loop, .left = 20};
    loop_post(d.loop, &n.msg);
    loop_run(d.loop);
    CHECK_INT(d.count, 0);
    close(spare); /* one descriptor is free again */
    loop_run(d.loop);
    CHECK_INT(d.count, 1);
    listener_close(li);
    loop_free(d.loop);
}
