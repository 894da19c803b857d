/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded pool of worker threads for what may take long: queries and large bodies. */
#ifndef LYMER_SERVE_POOL_H
#define LYMER_SERVE_POOL_H

#include "base/os/thread.h"

struct work {
    struct msg msg;
    void (*fn)(struct work *w);
};

struct work_pool;
struct work_pool *work_pool_new(unsigned threads, size_t queue_max);
/* False when the queue is full or the pool stopped: say so to the client. */
MUST_CHECK bool work_post(struct work_pool *p, struct work *w);
/* Runs what is queued, then ends the threads. Work may still be posted, and is refused. */
void work_pool_stop(struct work_pool *p);
/* Stops it; nobody may post any more. */
void work_pool_free(struct work_pool *p);

#endif
