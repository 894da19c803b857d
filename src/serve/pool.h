/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded pool of worker threads for what may take long: queries and large bodies. */
#ifndef LYMER_SERVE_POOL_H
#define LYMER_SERVE_POOL_H

#include "base/os/thread.h"

struct work {
    struct msg msg;
    void (*fn)(struct work *w);
};

/* Workers past the turns: so many may wait for slow clients while others go on working. */
#define POOL_WAITING_MAX 30u

struct work_pool;
/* At most `turns` pieces of work run at the same time. */
struct work_pool *work_pool_new(unsigned turns, size_t queue_max);
/* False when the queue is full or the pool stopped: say so to the client. */
MUST_CHECK bool work_post(struct work_pool *p, struct work *w);
/* Around a wait for somebody outside: gives the caller's turn to other work, and takes one again.
 * Called from work; elsewhere they do nothing. */
void work_yield(void);
void work_resume(void);
/* Runs what is queued, then ends the threads. Work may still be posted, and is refused. */
void work_pool_stop(struct work_pool *p);
/* Stops it; nobody may post any more. */
void work_pool_free(struct work_pool *p);

#endif
