/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/recv/recv.h"

#include <pthread.h>
#include <stdlib.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key; /* only for its destructor */
static _Thread_local struct batch_builder *mine;

static void free_builder(void *arg)
{
    batch_builder_fini(arg);
    free(arg);
    mine = NULL;
}

static void make_key(void)
{
    ensure(pthread_key_create(&key, free_builder) == 0);
}

struct batch_builder *recv_builder(const struct recv *recv)
{
    if (UNLIKELY(!mine)) {
        pthread_once(&once, make_key);
        mine = xcalloc(1, sizeof *mine);
        batch_builder_init(mine);
        mine->keys_max = BATCH_KEYS_MAX;
        ensure(pthread_setspecific(key, mine) == 0);
    }
    mine->image_max = min_u64(ingest_batch_max(recv->ingest), BATCH_IMAGE_MAX);
    return mine;
}

void recv_builder_done(void)
{
    batch_builder_reset(mine);
}

struct str recv_tenant(const struct http_req *r)
{
    struct str tenant = http_header(r, STR("x-tenant"));
    return tenant.n ? tenant : http_header(r, STR("x-scope-orgid"));
}
