/* SPDX-License-Identifier: Apache-2.0 */
/* What the adjusters of one trace share. Private to engine/query. */
#ifndef LYMER_ENGINE_QUERY_ADJUST_H
#define LYMER_ENGINE_QUERY_ADJUST_H

#include "base/bytes.h"
#include "base/idmap.h"
#include "engine/query/query.h"

/* Equal resources (or scopes) of a trace as one copy that the adjusters own. */
struct canon {
    struct idmap by_address, by_content; /* → index into list */
    void **list;
    uint32_t count;
};

struct adjust {
    struct trace *t;
    const struct adjust_config *config;
    struct arena *a;
    struct canon resources, scopes; /* filled by sort_collections */
    struct idmap ids;               /* span id → index of its first span */
    bool repeated_ids;              /* some id stands on two spans */
    bool moved;                     /* starts or ids changed: the order may be wrong */
};

static inline uint64_t span_key(const uint8_t id[8])
{
    return load_u64be(id);
}

/* False when the arena is exhausted. */
MUST_CHECK bool adjust_index(struct adjust *x);
MUST_CHECK bool adjust_clock_skew(struct adjust *x);

/* The owned resource of a span, its index in list in *at. NULL when the span has none. */
struct resource *adjust_resource(const struct adjust *x, const struct span *s, uint32_t *at);

#endif
