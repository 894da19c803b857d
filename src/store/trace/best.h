/* SPDX-License-Identifier: Apache-2.0 */
/* The best so many traces of a search: a heap with the worst on top, and a table that finds a trace
 * in it. Memory is by the limit alone. Private to store/trace. */
#ifndef LYMER_STORE_TRACE_BEST_H
#define LYMER_STORE_TRACE_BEST_H

#include "base/arena.h"
#include "model/query.h"

struct best {
    struct trace_hit *heap; /* the worst on top */
    uint32_t n, limit;
    uint32_t *slot; /* open addressing: heap position + 1 */
    uint32_t mask;
    uint32_t *back; /* heap position → slot */
};

/* limit >= 1. False past the arena's cap. */
MUST_CHECK bool best_init(struct best *k, uint32_t limit, struct arena *a);
/* Keeps it when it is among the best; of a trace that is there the better rank. */
void best_add(struct best *k, const struct trace_hit *hit);
bool best_holds(const struct best *k, const uint8_t trace_id[16]);
/* Would best_add do nothing? */
bool best_is_idle(const struct best *k, const struct trace_hit *hit);
/* The value below which nothing matters any more. */
static inline uint64_t best_floor(const struct best *k)
{
    return k->n < k->limit ? 0 : k->heap[0].value;
}

/* Best first. The end of its use as a heap. */
void best_sort(struct best *k);

#endif
