/* SPDX-License-Identifier: Apache-2.0 */
/* What the store's tests share: batches whose every span can be recognised, a model that remembers
 * what was sent and what was answered, and the comparison of a store with it. */
#ifndef LYMER_TESTS_STORE_WORLD_H
#define LYMER_TESTS_STORE_WORLD_H

#include "store/trace/trace_store.h"

#define SENT_MAX 4096

enum fate { FATE_OPEN, FATE_ACKED, FATE_REFUSED };

struct sent_span {
    uint32_t batch, tenant, trace, parent; /* parent: number of the span, 0: none */
    uint32_t service, name, kind;
    uint64_t start_ns;
    bool found;
};

struct sent_batch {
    struct store_ticket ticket; /* first */
    struct world *world;
    uint32_t spans;
    enum fate fate;
    enum errc result;
    bool must_be_there; /* durable whatever happens */
    uint32_t found;
};

struct world {
    uint64_t seed;
    uint64_t base_ns; /* starts lie just after it */
    uint32_t span_n, batch_n, trace_n;
    struct sent_span spans[SENT_MAX]; /* span number n is spans[n]; 0 is none */
    struct sent_batch batches[SENT_MAX];
    struct batch_builder builder;
};

struct world *world_new(uint64_t seed, uint64_t base_ns);
void world_free(struct world *w);
uint32_t world_roll(struct world *w, uint32_t n);

/* Hands a batch of up to max_spans to the store; what happens to it is in w->batches. */
enum errc world_append(struct world *w, struct store *s, uint32_t max_spans);
/* Every batch acknowledged so far must survive from now on. */
void world_expect_acked(struct world *w);
/* Compares spans, names, dependencies. `after_crash`: acknowledged batches may be missing unless
 * they must be there. A sentence, or NULL when all is well. */
const char *world_compare(struct world *w, struct store *s, bool after_crash);
/* Batches that a crash took are forgotten: from now on they must stay away. */
void world_forget_missing(struct world *w);

#endif
