/* SPDX-License-Identifier: Apache-2.0 */
/* Threads, locks and the one way threads talk: bounded mailboxes. A lock's comment names what it
 * protects. */
#ifndef LYMER_BASE_OS_THREAD_H
#define LYMER_BASE_OS_THREAD_H

#include "base/base.h"

#include <pthread.h>

struct thread {
    pthread_t id;
    bool started;
};

/* All signals are blocked in the new thread: the main thread alone handles them. Aborts when the
 * system has no thread left: threads are made at start-up only. */
void thread_start(struct thread *t, const char *name, void (*body)(void *arg), void *arg);
void thread_join(struct thread *t);
unsigned thread_cpus(void);

/* A message is embedded first in what it carries; a mailbox links messages, it never allocates. */
struct msg {
    struct msg *next;
};

/* Many senders, one receiver. */
struct mailbox {
    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t filled;
    struct msg *first, **last;
    size_t count, max;
    bool closed;
    void (*wake)(void *arg); /* called outside the lock when the box turns from empty to filled; may
                                be NULL */
    void *wake_arg;
};

void mailbox_init(struct mailbox *m, size_t max);
void mailbox_fini(struct mailbox *m);
/* False when full or closed: the sender keeps the message. */
MUST_CHECK bool mailbox_post(struct mailbox *m, struct msg *msg);
/* All messages in order of posting, NULL when there are none. Does not wait. */
struct msg *mailbox_take(struct mailbox *m);
/* Waits until a message comes, the box closes or wait_ns passes. */
struct msg *mailbox_wait(struct mailbox *m, uint64_t wait_ns);
/* Later posts fail; what is inside can still be taken. */
void mailbox_close(struct mailbox *m);
bool mailbox_is_closed(struct mailbox *m);

#endif
