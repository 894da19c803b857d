/* SPDX-License-Identifier: Apache-2.0 */
/* A worker runs only while it holds one of a few turns, so that work shares the processors, not the
 * threads. Work that waits for a slow client gives its turn away for as long: a client that does
 * not read costs a sleeping thread, and only when POOL_WAITING_MAX of them sleep does other work
 * wait. */
#include "serve/pool.h"

#include <stdlib.h>

struct work_pool {
    pthread_mutex_t lock; /* protects first … closing */
    pthread_cond_t filled, turn;
    struct msg *first, **last;
    size_t count, max;
    unsigned turns, resuming; /* turns free; workers that want theirs back */
    bool closing;
    unsigned thread_count;
    struct thread threads[];
};

static _Thread_local struct work_pool *own_pool; /* whose worker this thread is */

/* Lock held. Who was working goes first. */
static void turn_give(struct work_pool *p)
{
    p->turns++;
    pthread_cond_signal(p->resuming ? &p->turn : &p->filled);
}

static void worker(void *arg)
{
    struct work_pool *p = own_pool = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->first ? p->turns == 0 : !p->closing)
            pthread_cond_wait(&p->filled, &p->lock);
        if (!p->first)
            break;
        struct work *w = (struct work *)p->first;
        p->first = w->msg.next;
        if (!p->first)
            p->last = &p->first;
        p->count--;
        p->turns--;
        pthread_mutex_unlock(&p->lock);
        w->fn(w);
        pthread_mutex_lock(&p->lock);
        turn_give(p);
    }
    pthread_cond_broadcast(&p->filled); /* the queue is empty for good */
    pthread_mutex_unlock(&p->lock);
}

void work_yield(void)
{
    struct work_pool *p = own_pool;
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    turn_give(p);
    pthread_mutex_unlock(&p->lock);
}

void work_resume(void)
{
    struct work_pool *p = own_pool;
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->resuming++;
    while (p->turns == 0)
        pthread_cond_wait(&p->turn, &p->lock);
    p->resuming--;
    p->turns--;
    if (p->turns && p->first)
        pthread_cond_signal(&p->filled); /* a signal may have come here that was for another */
    pthread_mutex_unlock(&p->lock);
}

struct work_pool *work_pool_new(unsigned turns, size_t queue_max)
{
    unsigned threads = turns + POOL_WAITING_MAX;
    struct work_pool *p = xcalloc(1, sizeof *p + threads * sizeof p->threads[0]);
    ensure(pthread_mutex_init(&p->lock, NULL) == 0);
    ensure(pthread_cond_init(&p->filled, NULL) == 0);
    ensure(pthread_cond_init(&p->turn, NULL) == 0);
    p->turns = turns;
    p->last = &p->first;
    p->max = queue_max;
    p->thread_count = threads;
    for (unsigned i = 0; i < threads; i++)
        thread_start(&p->threads[i], "worker", worker, p);
    return p;
}

bool work_post(struct work_pool *p, struct work *w)
{
    pthread_mutex_lock(&p->lock);
    bool taken = p->count < p->max && !p->closing;
    if (taken) {
        w->msg.next = NULL;
        *p->last = &w->msg;
        p->last = &w->msg.next;
        p->count++;
        pthread_cond_signal(&p->filled);
    }
    pthread_mutex_unlock(&p->lock);
    return taken;
}

void work_pool_stop(struct work_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_broadcast(&p->filled);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->thread_count; i++)
        thread_join(&p->threads[i]);
    p->thread_count = 0;
}

void work_pool_free(struct work_pool *p)
{
    if (!p)
        return;
    work_pool_stop(p);
    pthread_cond_destroy(&p->filled);
    pthread_cond_destroy(&p->turn);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
