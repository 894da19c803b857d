/* SPDX-License-Identifier: Apache-2.0 */
#include "base/warm.h"

#include <pthread.h>
#include <stdlib.h>

struct spares {
    struct buf bufs[WARM_SPARES];
    unsigned count;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key; /* only for its destructor */
static _Thread_local struct spares *mine;

static void free_spares(void *arg)
{
    struct spares *s = arg;
    while (s->count)
        buf_fini(&s->bufs[--s->count]);
    free(s);
    mine = NULL;
}

static void make_key(void)
{
    ensure(pthread_key_create(&key, free_spares) == 0);
}

static struct spares *spares(void)
{
    if (LIKELY(mine != NULL))
        return mine;
    pthread_once(&once, make_key);
    mine = xcalloc(1, sizeof *mine);
    ensure(pthread_setspecific(key, mine) == 0);
    return mine;
}

struct buf warm_take(size_t max_bytes)
{
    struct spares *s = spares();
    if (!s->count || s->bufs[s->count - 1].cap > max_bytes)
        return buf_init(max_bytes);
    struct buf b = s->bufs[--s->count];
    b.max = max_bytes;
    return b;
}

void warm_give(struct buf *b)
{
    struct spares *s = spares();
    if (!b->cap || b->cap > WARM_BYTES_MAX || s->count == WARM_SPARES) {
        buf_fini(b);
    } else {
        buf_reset(b);
        s->bufs[s->count++] = *b;
    }
    *b = buf_init(b->max);
}
