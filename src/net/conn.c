/* SPDX-License-Identifier: Apache-2.0 */
/* Byte-stream connections. Reading goes through the loop's shared buffer; a connection owns memory
 * only for input its owner did not take (in, at most in_max) and for output the socket did not take
 * (chunks, at most out_max). An idle connection is this struct and nothing else.
 *
 * States: open → (soft: no more reads to the owner, output flushes) → (lingering: our side is shut
 * down, input is thrown away until the peer closes or time is up) → dead (closed has run, the
 * struct lives to the end of the turn). */
#include "net/loop_priv.h"

#include "base/stats.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define WRITEV_MAX 32

struct conn {
    struct source source;
    struct loop *loop;
    const struct conn_ops *ops;
    void *arg;
    struct conn *next_dirty, *prev, *next;
    size_t in_max, out_max;
    struct buf in; /* what the owner did not take */
    struct chunk *out_first, *out_last;
    size_t out_bytes;
    uint64_t active_ns, sent_ns;
    struct timer linger;
    int fd;
    uint32_t interest; /* what epoll watches */
    bool paused, eof, soft, lingering, dead;
    bool want_turn, want_offer;
};

static void conn_dirty(struct conn *c)
{
    if (c->source.listed || c->dead)
        return;
    c->source.listed = true;
    c->next_dirty = c->loop->dirty;
    c->loop->dirty = c;
}

/* --- chunks --- */

static struct chunk *chunk_take(struct loop *l)
{
    struct chunk *k = l->spare;
    if (k) {
        l->spare = k->next;
        l->spare_count--;
    } else {
        k = xmalloc(sizeof *k);
    }
    k->next = NULL;
    k->from = k->to = 0;
    return k;
}

static void chunk_give(struct loop *l, struct chunk *k)
{
    if (l->spare_count >= CHUNKS_KEPT_MAX) {
        free(k);
        return;
    }
    k->next = l->spare;
    l->spare = k;
    l->spare_count++;
}

static void out_drop(struct conn *c, size_t n)
{
    c->out_bytes -= n;
    while (c->out_first) {
        struct chunk *k = c->out_first;
        size_t take = min_size(n, k->to - k->from);
        k->from += (uint32_t)take;
        n -= take;
        if (k->from < k->to)
            return;
        c->out_first = k->next;
        if (!c->out_first)
            c->out_last = NULL;
        chunk_give(c->loop, k);
    }
}

/* --- end --- */

void conn_close(struct conn *c)
{
    if (c->dead)
        return;
    c->dead = true;
    timer_cancel(c->loop, &c->linger);
    close(c->fd); /* leaves epoll too: the descriptor is never duplicated */
    out_drop(c, c->out_bytes);
    buf_fini(&c->in);
    if (c->prev)
        c->prev->next = c->next;
    else
        c->loop->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    source_retire(c->loop, &c->source);
    c->ops->closed(c->arg);
}

static void linger_over(struct timer *t)
{
    conn_close((struct conn *)((char *)t - offsetof(struct conn, linger)));
}

void conn_close_soft(struct conn *c)
{
    if (c->dead || c->soft)
        return;
    c->soft = true;
    timer_arm(c->loop, &c->linger, CONN_LINGER_NS);
    conn_dirty(c);
}

/* All output is in the socket: shut our side down and wait for the peer to do the same. */
static void soft_flushed(struct conn *c)
{
    if (c->lingering)
        return;
    if (c->eof || shutdown(c->fd, SHUT_WR) != 0) {
        conn_close(c);
        return;
    }
    c->lingering = true;
    timer_arm(c->loop, &c->linger, CONN_LINGER_NS);
}

/* --- input --- */

/* Offers kept input; what is taken leaves the buffer. */
static void offer_kept(struct conn *c)
{
    size_t took = c->ops->read(c->arg, buf_str(&c->in));
    if (c->dead)
        return;
    ensure(took <= c->in.n);
    if (took == c->in.n)
        buf_fini(&c->in);
    else
        buf_consume(&c->in, took);
}

static bool keep(struct conn *c, struct str data)
{
    buf_add_str(&c->in, data);
    if (c->in.failed) /* no memory: input lost is a connection lost */
        conn_close(c);
    return !c->dead;
}

static void offer(struct conn *c, struct str data)
{
    if (c->in.n) {
        if (keep(c, data))
            offer_kept(c);
        return;
    }
    size_t took = c->ops->read(c->arg, data);
    if (c->dead || took == data.n)
        return;
    ensure(took < data.n);
    buf_fini(&c->in);
    c->in = buf_init(LOOP_READ_BYTES);
    (void)keep(c, str_skip(data, took));
}

static void conn_eof(struct conn *c)
{
    if (c->eof)
        return;
    c->eof = true;
    conn_dirty(c); /* the end stays readable: stop watching for it */
    if (c->lingering)
        conn_close(c);
    else if (!c->soft)
        c->ops->eof(c->arg);
}

static size_t read_room(const struct conn *c)
{
    if (c->soft)
        return LOOP_READ_BYTES;
    size_t max = min_size(c->in_max, LOOP_READ_BYTES);
    return c->paused || c->in.n >= max ? 0 : max - c->in.n;
}

static void conn_readable(struct conn *c)
{
    size_t room = read_room(c);
    if (!room || c->eof) {
        conn_dirty(c);
        return;
    }
    ssize_t n = recv(c->fd, c->loop->read_buf, room, 0);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            conn_close(c);
        return;
    }
    if (n == 0) {
        conn_eof(c);
        return;
    }
    stat_add(STAT_BYTES_IN, n);
    c->active_ns = c->loop->now_ns;
    if (!c->soft)
        offer(c, str_of(c->loop->read_buf, (size_t)n));
}

void conn_pause(struct conn *c, bool pause)
{
    c->paused = pause;
    if (!pause && c->in.n)
        c->want_offer = true;
    conn_dirty(c);
}

void conn_set_in_max(struct conn *c, size_t in_max)
{
    if (in_max != c->in_max && c->in.n >= c->in_max)
        conn_dirty(c); /* a full buffer may have room now */
    c->in_max = in_max;
}

/* --- output --- */

bool conn_write(struct conn *c, struct str data)
{
    if (c->dead || c->soft || data.n > c->out_max || c->out_bytes > c->out_max - data.n)
        return false;
    if (!c->out_bytes)
        c->sent_ns = c->loop->now_ns;
    c->out_bytes += data.n;
    while (data.n) {
        struct chunk *k = c->out_last;
        if (!k || k->to == sizeof k->bytes) {
            k = chunk_take(c->loop);
            *(c->out_last ? &c->out_last->next : &c->out_first) = k;
            c->out_last = k;
        }
        size_t n = min_size(data.n, sizeof k->bytes - k->to);
        memcpy(k->bytes + k->to, data.p, n);
        k->to += (uint32_t)n;
        data = str_skip(data, n);
    }
    conn_dirty(c);
    return true;
}

/* False: the socket is full or broken. */
static bool flush_some(struct conn *c)
{
    struct iovec iov[WRITEV_MAX];
    int count = 0;
    size_t want = 0;
    for (struct chunk *k = c->out_first; k && count < WRITEV_MAX; k = k->next) {
        iov[count++] = (struct iovec){k->bytes + k->from, k->to - k->from};
        want += k->to - k->from;
    }
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)count};
    ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            conn_close(c);
        return false;
    }
    stat_add(STAT_BYTES_OUT, n);
    c->active_ns = c->sent_ns = c->loop->now_ns;
    out_drop(c, (size_t)n);
    return (size_t)n == want;
}

static void conn_flush(struct conn *c)
{
    size_t before = c->out_bytes;
    while (c->out_bytes && flush_some(c))
        ;
    if (c->dead)
        return;
    if (c->soft) {
        if (!c->out_bytes)
            soft_flushed(c);
        else if (c->out_bytes < before)
            timer_arm(c->loop, &c->linger, CONN_LINGER_NS);
        return;
    }
    if (c->out_bytes < before && c->out_bytes <= CONN_LOW_BYTES && c->ops->drained)
        c->ops->drained(c->arg);
}

size_t conn_pending(const struct conn *c)
{
    return c->out_bytes;
}

size_t conn_kept(const struct conn *c)
{
    return c->in.n;
}

void conn_turn(struct conn *c)
{
    c->want_turn = true;
    conn_dirty(c);
}

uint64_t conn_last_active_ns(const struct conn *c)
{
    return c->active_ns;
}

uint64_t conn_last_sent_ns(const struct conn *c)
{
    return c->sent_ns;
}

/* --- the loop's side --- */

static void conn_ready(struct source *s, uint32_t events)
{
    struct conn *c = (struct conn *)s;
    if (c->dead)
        return;
    if (events & EPOLLERR) {
        conn_close(c);
        return;
    }
    if (events & EPOLLOUT)
        conn_dirty(c);
    if (events & EPOLLIN)
        conn_readable(c);
    else if (events & EPOLLHUP)
        conn_close(c); /* both sides are down and nothing is left to read */
}

struct conn *conn_new(struct loop *l, int fd, const struct conn_ops *ops, void *arg, size_t in_max,
                      size_t out_max)
{
    struct conn *c = xcalloc(1, sizeof *c);
    c->source.ready = conn_ready;
    c->loop = l;
    c->ops = ops;
    c->arg = arg;
    c->fd = fd;
    c->in_max = in_max;
    c->out_max = out_max;
    c->linger.fn = linger_over;
    c->active_ns = c->sent_ns = l->now_ns;
    c->interest = EPOLLIN;
    c->next = l->conns;
    if (c->next)
        c->next->prev = c;
    l->conns = c;
    loop_watch(l, fd, &c->source, c->interest, true);
    return c;
}

static void update_interest(struct conn *c)
{
    uint32_t want = (!c->eof && read_room(c) ? EPOLLIN : 0u) | (c->out_bytes ? EPOLLOUT : 0u);
    if (want == c->interest)
        return;
    c->interest = want;
    loop_watch(c->loop, c->fd, &c->source, want, false);
}

static void conn_end_turn(struct conn *c)
{
    if (c->want_offer && !c->paused && !c->soft) {
        c->want_offer = false;
        if (c->in.n)
            offer_kept(c);
    }
    if (c->want_turn && !c->dead && !c->soft) {
        c->want_turn = false;
        c->ops->turn(c->arg);
    }
    if (!c->dead && (c->out_bytes || c->soft))
        conn_flush(c);
    if (!c->dead)
        update_interest(c);
}

void conns_end_turn(struct loop *l)
{
    struct conn *c = l->dirty;
    l->dirty = NULL; /* what gets dirty from here on is for the next turn, which comes at once */
    while (c) {
        struct conn *next = c->next_dirty;
        c->source.listed = false;
        if (!c->dead)
            conn_end_turn(c);
        c = next;
    }
}

void conns_close_all(struct loop *l)
{
    while (l->conns)
        conn_close(l->conns);
    conns_end_turn(l); /* takes the dead off the dirty list */
}
