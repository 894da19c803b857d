/* SPDX-License-Identifier: Apache-2.0 */
/* The one way in: every receiver fills a builder and submits it. Counts what is accepted, rejected
 * and refused, by reason; applies the memory budget; seals the batch and hands it to the store.
 * Knows no sockets. */
#ifndef LYMER_ENGINE_INGEST_INGEST_H
#define LYMER_ENGINE_INGEST_INGEST_H

#include "model/batch.h"
#include "store/trace/trace_store.h"

struct ingest;

struct ingest *ingest_new(struct store *store, struct os *os, uint64_t pending_max_bytes);
/* After store_close: nothing may be waiting. */
void ingest_free(struct ingest *in);

/* A larger batch never fits: a builder may stop there. */
uint64_t ingest_batch_max(const struct ingest *in);

/* What the sender is told. accepted + rejected = spans that were decoded. */
struct ingest_result {
    enum errc code; /* E_OK, or why nothing was taken; retryable ones have retry_ms > 0 */
    uint64_t accepted, rejected;
    uint64_t retry_ms;
    char message[ERR_MSG_MAX]; /* says what was rejected and why; empty when nothing was */
};

typedef void ingest_done(void *arg, const struct ingest_result *r);

/* Seals what the builder holds and submits it for the tenant (empty: the default one). done is
 * called exactly once: before ingest_submit returns when nothing has to be stored or it is refused,
 * else from the store's writer thread. The builder may be reset and reused as soon as ingest_submit
 * returns. */
void ingest_submit(struct ingest *in, struct str tenant, struct batch_builder *b, ingest_done *done,
                   void *arg);

#define TENANT_DEFAULT "default"
/* A tenant name is 1 to BATCH_TENANT_MAX of [A-Za-z0-9._-]; anything else is E_INVALID. Empty gives
 * the default. */
MUST_CHECK enum errc tenant_check(struct str name, struct str *out, struct err *e);

#endif
