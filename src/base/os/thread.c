/* SPDX-License-Identifier: Apache-2.0 */
#include "base/os/thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct start {
    void (*body)(void *arg);
    void *arg;
    char name[16]; /* the kernel's limit, NUL included */
};

static void *thread_main(void *p)
{
    struct start s = *(struct start *)p;
    free(p);
    pthread_setname_np(pthread_self(), s.name);
    s.body(s.arg);
    return NULL;
}

void thread_start(struct thread *t, const char *name, void (*body)(void *arg), void *arg)
{
    struct start *s = xmalloc(sizeof *s);
    *s = (struct start){.body = body, .arg = arg};
    snprintf(s->name, sizeof s->name, "%s", name);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int no = pthread_create(&t->id, NULL, thread_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (no != 0) {
        fprintf(stderr, "lymer: cannot start thread %s: %s\n", name, strerror(no));
        abort();
    }
    t->started = true;
}

void thread_join(struct thread *t)
{
    if (!t->started)
        return;
    ensure(pthread_join(t->id, NULL) == 0);
    t->started = false;
}

unsigned thread_cpus(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 0 ? (unsigned)n : 1;
}

void mailbox_init(struct mailbox *m, size_t max)
{
    *m = (struct mailbox){.max = max};
    m->last = &m->first;
    ensure(pthread_mutex_init(&m->lock, NULL) == 0);
    pthread_condattr_t attr;
    ensure(pthread_condattr_init(&attr) == 0);
    ensure(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ensure(pthread_cond_init(&m->filled, &attr) == 0);
    pthread_condattr_destroy(&attr);
}

void mailbox_fini(struct mailbox *m)
{
    pthread_cond_destroy(&m->filled);
    pthread_mutex_destroy(&m->lock);
}

/* Nothing of the mailbox is read after the unlock: its owner may be through with the message, and
 * with the mailbox, by then. */
bool mailbox_post(struct mailbox *m, struct msg *msg)
{
    pthread_mutex_lock(&m->lock);
    bool taken = !m->closed && m->count < m->max, first = taken && m->count == 0;
    if (taken) {
        msg->next = NULL;
        *m->last = msg;
        m->last = &msg->next;
        m->count++;
    }
    if (first)
        pthread_cond_signal(&m->filled);
    void (*wake)(void *) = first ? m->wake : NULL;
    void *wake_arg = m->wake_arg;
    pthread_mutex_unlock(&m->lock);
    if (wake)
        wake(wake_arg);
    return taken;
}

static struct msg *take_locked(struct mailbox *m)
{
    struct msg *all = m->first;
    m->first = NULL;
    m->last = &m->first;
    m->count = 0;
    return all;
}

struct msg *mailbox_take(struct mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    struct msg *all = take_locked(m);
    pthread_mutex_unlock(&m->lock);
    return all;
}

#define WAIT_MOST_NS (UINT64_C(100) * 365 * 86400 * NS_PER_S)

static struct timespec deadline(uint64_t wait_ns)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t ns = (uint64_t)now.tv_nsec + min_u64(wait_ns, WAIT_MOST_NS);
    return (struct timespec){.tv_sec = now.tv_sec + (time_t)(ns / NS_PER_S),
                             .tv_nsec = (long)(ns % NS_PER_S)};
}

struct msg *mailbox_wait(struct mailbox *m, uint64_t wait_ns)
{
    pthread_mutex_lock(&m->lock);
    if (!m->first && !m->closed && wait_ns) {
        struct timespec until = deadline(wait_ns);
        int no = 0;
        while (!m->first && !m->closed && no != ETIMEDOUT)
            no = pthread_cond_timedwait(&m->filled, &m->lock, &until);
    }
    struct msg *all = take_locked(m);
    pthread_mutex_unlock(&m->lock);
    return all;
}

void mailbox_close(struct mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    m->closed = true;
    pthread_cond_broadcast(&m->filled);
    pthread_mutex_unlock(&m->lock);
}

bool mailbox_is_closed(struct mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    bool closed = m->closed;
    pthread_mutex_unlock(&m->lock);
    return closed;
}
