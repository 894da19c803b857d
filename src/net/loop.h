/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: epoll, timers, listeners, byte-stream connections and a mailbox. Knows no
 * protocol. Each loop is owned by the thread that runs it; only loop_post and loop_stop may be
 * called from elsewhere.
 *
 * A connection gives its owner bytes and takes bytes; it reads only while the owner wants to
 * (back-pressure) and buffers what the socket does not take at once, up to the cap given at
 * creation. */
#ifndef LYMER_NET_LOOP_H
#define LYMER_NET_LOOP_H

#include "base/buf.h"
#include "base/os/thread.h"

struct loop;
struct conn;
struct listener;

struct loop *loop_new(void);
void loop_free(struct loop *l);
/* Until loop_stop. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
/* On the caller's thread, only while the loop does not run: one turn that does not wait, and the
 * end of a turn only (messages posted so far, no new events). */
void loop_poll(struct loop *l);
void loop_settle(struct loop *l);
/* Monotonic time at the start of this turn. */
uint64_t loop_now_ns(const struct loop *l);

/* Runs fn(msg) on the loop's thread. Any thread; never fails (messages are bounded by what they
 * belong to). */
struct loop_msg {
    struct msg msg;
    void (*fn)(struct loop_msg *m);
};
void loop_post(struct loop *l, struct loop_msg *m);

/* Timers are embedded; re-arming moves them. */
struct timer {
    uint64_t at_ns;
    uint32_t pos; /* in the heap + 1; 0: not armed */
    void (*fn)(struct timer *t);
};
void timer_arm(struct loop *l, struct timer *t, uint64_t in_ns);
void timer_cancel(struct loop *l, struct timer *t);

/* Binds with SO_REUSEADDR and SO_REUSEPORT (each loop has its own listener on the same port). addr
 * is a numeric IPv4 or IPv6 address; port 0 takes a free one, see listener_port. A port taken by
 * another process is E_EXISTS (checked without SO_REUSEPORT by net_probe before the first listener
 * is made). */
MUST_CHECK enum errc net_probe(const char *addr, uint16_t port, struct err *e);
MUST_CHECK enum errc listener_open(struct loop *l, const char *addr, uint16_t port,
                                   void (*accepted)(void *arg, struct loop *l, int fd,
                                                    struct str peer),
                                   void *arg, struct listener **out, struct err *e);
uint16_t listener_port(const struct listener *li);
void listener_close(struct listener *li);

struct conn_ops {
    /* Bytes came: take what you can, return how many. What is left is offered again when more came
     * behind it or reading is resumed. */
    size_t (*read)(void *arg, struct str in);
    /* The end of a turn in which conn_turn was called: write what has gathered. May be NULL. */
    void (*turn)(void *arg);
    /* The socket took bytes and at most CONN_LOW_BYTES are left. May be NULL. */
    void (*drained)(void *arg);
    /* Peer closed its writing side (half-close). Output may still be written. */
    void (*eof)(void *arg);
    /* The connection is gone, whoever ended it: free your state. Last call. */
    void (*closed)(void *arg);
};

#define CONN_LOW_BYTES (64 * KIB)

/* Takes fd. At most in_max bytes are read at once, and so kept when the owner takes none. Output is
 * capped at out_max bytes; conn_write answers false past it and the owner should close. */
struct conn *conn_new(struct loop *l, int fd, const struct conn_ops *ops, void *arg, size_t in_max,
                      size_t out_max);
void conn_set_in_max(struct conn *c, size_t in_max);
/* Copies. Flushed at the end of the loop's turn, so many small writes become one. */
MUST_CHECK bool conn_write(struct conn *c, struct str data);
size_t conn_pending(const struct conn *c);   /* output the socket has not taken */
size_t conn_kept(const struct conn *c);      /* input the owner has not taken */
void conn_turn(struct conn *c);              /* asks for ops->turn at the end of this turn */
void conn_pause(struct conn *c, bool pause); /* stop or resume reading */
/* Flushes pending output, then closes, lingering CONN_LINGER_NS at most for the peer to read it
 * (a close with unread input would reset the connection and lose what was sent). */
#define CONN_LINGER_NS (5 * NS_PER_S)
void conn_close_soft(struct conn *c);
void conn_close(struct conn *c); /* now; `closed` runs before it returns */
/* Monotonic time of the last byte in either direction, and of the last one sent (or of the first
 * queued when nothing was pending before). */
uint64_t conn_last_active_ns(const struct conn *c);
uint64_t conn_last_sent_ns(const struct conn *c);

#endif
