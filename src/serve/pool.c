/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/pool.h"

#include <stdlib.h>

struct work_pool {
    pthread_mutex_t lock; /* protects first … closing */
    pthread_cond_t filled;
    struct msg *first, **last;
    size_t count, max;
    bool closing;
    unsigned thread_count;
    struct thread threads[];
};

static void worker(void *arg)
{
    struct work_pool *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->first && !p->closing)
            pthread_cond_wait(&p->filled, &p->lock);
        if (!p->first)
            break;
        struct work *w = (struct work *)p->first;
        p->first = w->msg.next;
        if (!p->first)
            p->last = &p->first;
        p->count--;
        pthread_mutex_unlock(&p->lock);
        w->fn(w);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
}

struct work_pool *work_pool_new(unsigned threads, size_t queue_max)
{
    struct work_pool *p = xcalloc(1, sizeof *p + threads * sizeof p->threads[0]);
    ensure(pthread_mutex_init(&p->lock, NULL) == 0);
    ensure(pthread_cond_init(&p->filled, NULL) == 0);
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
    pthread_mutex_destroy(&p->lock);
    free(p);
}
