/* SPDX-License-Identifier: Apache-2.0 */
/* The server: doors opened on every loop, connections accepted, told apart by their first bytes and
 * handed to an engine; their clocks; the budget of bodies; drain.
 *
 * Every connection has one timer, armed at the earliest moment it could be overdue. Progress does
 * not move it: when it fires the engine looks what is really due and the timer is armed again. So a
 * busy connection costs one timer operation a timeout, not one a request.
 *
 * Busy is a count of requests that live and of connections with output on its way: until the socket
 * took it, and on a connection that is being closed until the peer has closed too or
 * CONN_LINGER_NS are over. A process that ended before could lose the last answer: what comes in
 * on a closed socket resets the connection. */
#include "serve/engine.h"

#include "base/log.h"
#include "base/os/os.h"
#include "base/stats.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define OUT_MAX      (8 * MIB) /* STREAM_HIGH_BYTES and a piece, with room for many streams' heads */
#define SNIFF_IN_MAX (16 * KIB)
#define PREFACE      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

struct http_limits http_limits_default(void)
{
    return (struct http_limits){
        .body_max_bytes = 64 * MIB,
        .inflight_max_bytes = 256 * MIB,
        .conns_max = 10000,
        .header_timeout_ns = 10 * NS_PER_S,
        .body_timeout_ns = 30 * NS_PER_S,
        .idle_timeout_ns = 300 * NS_PER_S,
        .write_timeout_ns = 30 * NS_PER_S,
    };
}

/* --- budgets --- */

bool inflight_take(struct http_server *s, size_t bytes)
{
    size_t before = atomic_fetch_add(&s->inflight_bytes, bytes);
    if (before + bytes > s->limits.inflight_max_bytes) {
        atomic_fetch_sub(&s->inflight_bytes, bytes);
        return false;
    }
    stat_add(STAT_INFLIGHT_BYTES, (int64_t)bytes);
    return true;
}

void inflight_give(struct http_server *s, size_t bytes)
{
    size_t before = atomic_fetch_sub(&s->inflight_bytes, bytes);
    ensure(before >= bytes);
    stat_add(STAT_INFLIGHT_BYTES, -(int64_t)bytes);
}

const struct http_limits *server_limits(const struct http_server *s)
{
    return &s->limits;
}

struct work_pool *server_pool(const struct http_server *s)
{
    return s->pool;
}

bool server_draining(const struct http_server *s)
{
    return atomic_load_explicit(&s->draining, memory_order_relaxed);
}

void server_busy(struct http_server *s, bool more)
{
    if (more)
        atomic_fetch_add(&s->busy, 1);
    else
        atomic_fetch_sub(&s->busy, 1);
}

struct str server_date(struct server_loop *home)
{
    uint64_t now_s = os_now_ns(os_posix()) / NS_PER_S;
    if (now_s != home->date_s) {
        static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        time_t t = (time_t)now_s;
        struct tm tm;
        gmtime_r(&t, &tm);
        struct buf b = {.p = home->date, .cap = sizeof home->date, .max = sizeof home->date};
        buf_addf(&b, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday % 7], tm.tm_mday,
                 months[tm.tm_mon % 12], 1900 + tm.tm_year, tm.tm_hour, tm.tm_min, tm.tm_sec);
        home->date_s = now_s;
    }
    return str_from_c(home->date);
}

/* --- connections --- */

bool hconn_write(struct hconn *h, struct str data)
{
    if (!conn_write(h->conn, data))
        return false;
    if (!h->writing) {
        h->writing = true;
        server_busy(h->home->server, true);
        hconn_arm(h, loop_now_ns(h->home->loop) + h->home->server->limits.write_timeout_ns);
    }
    return true;
}

struct str hconn_peer(const struct hconn *h)
{
    return str_of(h->peer, h->peer_len);
}

void hconn_arm(struct hconn *h, uint64_t at_ns)
{
    if (at_ns == NEVER_NS || (h->timer.pos && h->timer.at_ns <= at_ns))
        return;
    uint64_t now = loop_now_ns(h->home->loop);
    timer_arm(h->home->loop, &h->timer, at_ns > now ? at_ns - now : 0);
}

static void hconn_timer(struct timer *t)
{
    struct hconn *h = (struct hconn *)((char *)t - offsetof(struct hconn, timer));
    uint64_t now = loop_now_ns(h->home->loop);
    const struct http_limits *lim = &h->home->server->limits;
    if (conn_pending(h->conn) && now - conn_last_sent_ns(h->conn) >= lim->write_timeout_ns) {
        stat_add(STAT_CONNS_CLOSED_SLOW, 1);
        conn_close(h->conn);
        return;
    }
    /* h->timer.pos: armed by the engine or gone with the connection when it answers NEVER_NS */
    uint64_t next = h->ops->expire(h, now);
    if (next != NEVER_NS)
        hconn_arm(h, next);
}

static size_t on_read(void *arg, struct str in)
{
    struct hconn *h = arg;
    return h->ops->read(h, in);
}

static void on_turn(void *arg)
{
    struct hconn *h = arg;
    h->ops->turn(h);
}

static void on_drained(void *arg)
{
    struct hconn *h = arg;
    if (h->writing && !conn_pending(h->conn)) {
        h->writing = false;
        server_busy(h->home->server, false);
    }
    h->ops->drained(h);
}

static void on_eof(void *arg)
{
    struct hconn *h = arg;
    h->ops->eof(h);
}

static void on_closed(void *arg)
{
    struct hconn *h = arg;
    struct http_server *s = h->home->server;
    timer_cancel(h->home->loop, &h->timer);
    h->ops->closed(h);
    if (h->writing)
        server_busy(s, false);
    if (h->prev)
        h->prev->next = h->next;
    else
        h->home->conns = h->next;
    if (h->next)
        h->next->prev = h->prev;
    atomic_fetch_sub(&s->conns, 1);
    stat_add(STAT_CONNS_OPEN, -1);
    free(h);
}

static const struct conn_ops on_conn = {
    .read = on_read, .turn = on_turn, .drained = on_drained, .eof = on_eof, .closed = on_closed};

/* --- before the first bytes tell the protocol --- */

static size_t sniff_read(struct hconn *h, struct str in)
{
    struct str preface = STR(PREFACE);
    if (str_starts(in, preface))
        h2_open(h);
    else if (in.n < preface.n && str_starts(preface, in))
        return 0; /* may still become either */
    else
        h1_open(h);
    return h->ops->read(h, in);
}

static void sniff_nothing(struct hconn *h)
{
    (void)h;
}

static void sniff_close(struct hconn *h)
{
    conn_close(h->conn);
}

static uint64_t sniff_expire(struct hconn *h, uint64_t now_ns)
{
    const struct http_limits *lim = &h->home->server->limits;
    bool begun = conn_kept(h->conn) > 0; /* a part of the HTTP/2 preface */
    uint64_t due = conn_last_active_ns(h->conn) +
                   (begun ? lim->header_timeout_ns : lim->idle_timeout_ns);
    if (now_ns < due)
        return due;
    stat_add(begun ? STAT_CONNS_CLOSED_SLOW : STAT_CONNS_CLOSED_IDLE, 1);
    conn_close(h->conn);
    return NEVER_NS;
}

static const struct hconn_ops sniff_ops = {.read = sniff_read,
                                           .turn = sniff_nothing,
                                           .drained = sniff_nothing,
                                           .eof = sniff_close,
                                           .drain = sniff_close,
                                           .expire = sniff_expire,
                                           .closed = sniff_nothing};

/* --- doors --- */

static struct server_loop *home_of(struct http_server *s, struct loop *l)
{
    size_t i = 0;
    while (i < s->loop_count && s->homes[i].loop != l)
        i++;
    ensure(i < s->loop_count);
    return &s->homes[i];
}

void server_accept(struct http_server *s, struct loop *l, const struct http_door *door, int fd,
                   struct str peer)
{
    struct server_loop *home = home_of(s, l);
    if (atomic_fetch_add(&s->conns, 1) >= s->limits.conns_max) {
        atomic_fetch_sub(&s->conns, 1);
        stat_add(STAT_CONNS_REFUSED_LIMIT, 1);
        close(fd);
        return;
    }
    stat_add(STAT_CONNS_ACCEPTED, 1);
    stat_add(STAT_CONNS_OPEN, 1);
    peer = str_take(peer, UINT8_MAX);
    struct hconn *h = xcalloc(1, sizeof *h + peer.n);
    h->ops = &sniff_ops;
    h->home = home;
    h->door = door;
    h->timer.fn = hconn_timer;
    h->peer_len = (uint8_t)peer.n;
    memcpy(h->peer, peer.p, peer.n);
    h->next = home->conns;
    if (h->next)
        h->next->prev = h;
    home->conns = h;
    h->conn = conn_new(home->loop, fd, &on_conn, h, SNIFF_IN_MAX, OUT_MAX);
    uint64_t first = min_u64(s->limits.idle_timeout_ns, s->limits.header_timeout_ns);
    hconn_arm(h, loop_now_ns(home->loop) + first);
}

static void accepted(void *arg, struct loop *l, int fd, struct str peer)
{
    const struct server_door *sd = arg;
    server_accept(sd->server, l, sd->door, fd, peer);
}

static void close_listeners(struct server_loop *home)
{
    for (size_t d = 0; d < home->server->door_count; d++) {
        listener_close(home->listeners[d]);
        home->listeners[d] = NULL;
    }
}

static void drain_home(struct loop_msg *m)
{
    struct server_loop *home = (struct server_loop *)((char *)m -
                                                      offsetof(struct server_loop, drain));
    close_listeners(home);
    for (struct hconn *h = home->conns, *next; h; h = next) {
        next = h->next;
        h->ops->drain(h);
    }
}

void http_server_drain(struct http_server *s)
{
    if (atomic_exchange(&s->draining, true))
        return;
    for (size_t i = 0; i < s->loop_count; i++)
        loop_post(s->homes[i].loop, &s->homes[i].drain);
}

size_t http_server_busy(struct http_server *s)
{
    return atomic_load(&s->busy);
}

uint16_t http_server_port(const struct http_server *s, size_t door)
{
    ensure(door < s->door_count);
    return s->opened[door].port;
}

static void server_free(struct http_server *s)
{
    for (size_t i = 0; i < s->loop_count; i++)
        free(s->homes[i].listeners);
    free(s->homes);
    free(s->opened);
    free(s);
}

void http_server_close(struct http_server *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->loop_count; i++) {
        struct server_loop *home = &s->homes[i];
        close_listeners(home);
        while (home->conns)
            conn_close(home->conns->conn);
        loop_settle(home->loop); /* answers given after the loop ended */
    }
    if (http_server_busy(s)) /* a handler still holds requests: they point at the server */
        log_warn("http", "closed with %zu requests unanswered", http_server_busy(s));
    else
        server_free(s);
}

/* A door on every loop. The first loop's listener finds the port when 0 was asked. */
static enum errc open_door(struct http_server *s, size_t d, struct err *e)
{
    const struct http_door *door = &s->doors[d];
    struct server_door *sd = &s->opened[d];
    *sd = (struct server_door){.server = s, .door = door, .port = door->port};
    enum errc code = net_probe(door->addr, door->port, e);
    for (size_t i = 0; i < s->loop_count && code == E_OK; i++) {
        struct listener **li = &s->homes[i].listeners[d];
        code = listener_open(s->homes[i].loop, door->addr, sd->port, accepted, sd, li, e);
        if (code == E_OK)
            sd->port = listener_port(*li);
    }
    if (code != E_OK && e) {
        struct err why = *e;
        return fail(e, code, "%s: %s; %s moves or closes it", door->name, err_msg(&why),
                    door->flag ? door->flag : "the configuration");
    }
    return code;
}

enum errc http_server_open(struct http_server **out, struct loop *const *loops, size_t loop_count,
                           const struct http_door *doors, size_t door_count, struct work_pool *pool,
                           const struct http_limits *limits, struct err *e)
{
    struct http_server *s = xcalloc(1, sizeof *s);
    s->limits = limits ? *limits : http_limits_default();
    s->pool = pool;
    s->doors = doors;
    s->door_count = door_count;
    s->loop_count = loop_count;
    s->homes = xcalloc(loop_count, sizeof *s->homes);
    s->opened = xcalloc(door_count, sizeof *s->opened);
    for (size_t i = 0; i < loop_count; i++) {
        s->homes[i] = (struct server_loop){.server = s, .loop = loops[i], .drain.fn = drain_home};
        s->homes[i].listeners = xcalloc(door_count, sizeof(struct listener *));
    }
    enum errc code = E_OK;
    for (size_t d = 0; d < door_count && code == E_OK; d++)
        code = open_door(s, d, e);
    if (code != E_OK) {
        for (size_t i = 0; i < loop_count; i++)
            close_listeners(&s->homes[i]);
        server_free(s);
        return code;
    }
    *out = s;
    return E_OK;
}
