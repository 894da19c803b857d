/* SPDX-License-Identifier: Apache-2.0 */
/* What the store's tests share: a naive store. It makes batches whose every span can be recognised,
 * remembers what was sent and what was answered, and compares a store with that.
 *
 *   world.c     batches, and the comparison: every span whole, to the last bit of every value
 *   content.c   what is in a span: plain, or (w->rich in a hundred) everything a span can hold
 *   ask.c       questions, each answered by looking at every span
 *
 * A span carries its number as an attribute, so a span that is found says which one it claims to
 * be. Comparing marks the spans that are there; questions are about those. */
#ifndef LYMER_TESTS_STORE_WORLD_H
#define LYMER_TESTS_STORE_WORLD_H

#include "store/trace/trace_store.h"

#define SENT_MAX    4096
#define TENANTS     3 /* the third sends only to rich worlds */
#define SERVICES    5 /* beside those whose resource does not name one */
#define NAMED_MAX   16
#define NAME_LISTED 1024 /* longer names are listed under an overflow name */

enum fate { FATE_OPEN, FATE_ACKED, FATE_REFUSED };

struct sent_span {
    uint32_t batch, tenant, trace;
    uint32_t parent;         /* number of the span, which may never come; 0: none */
    uint32_t first, next;    /* spans sent with one id are chained: the first, the next or 0 */
    uint32_t origin;         /* as content_group takes it */
    uint32_t service;        /* in w->services */
    uint32_t name, kind;     /* as they are listed; in w->names */
    const struct span *span; /* as it was sent */
    bool found;
};

struct sent_batch {
    struct store_ticket ticket; /* first; its batch is the world's */
    uint32_t spans;
    enum fate fate;
    enum errc result;
    bool must_be_there; /* durable whatever happens */
    bool may_go;        /* a disk cap was in force */
    bool seen;          /* a snapshot had it */
    bool expired;       /* retention took it */
    uint64_t end_ns;    /* of its spans, but not after it was received */
    uint32_t found;
};

/* Names in order of first appearance. */
struct named {
    struct str v[NAMED_MAX];
    uint32_t n;
};

struct world {
    uint64_t seed;
    uint64_t base_ns;    /* starts lie just after it */
    uint32_t rich;       /* spans in a hundred */
    uint64_t expired_ns; /* what ended before may be gone */
    uint64_t listed_ns;  /* names last seen before are not listed */
    bool capped;         /* what is sent may be gone */
    uint32_t span_n, batch_n, trace_n;
    struct sent_span spans[SENT_MAX]; /* span number n is spans[n]; 0 is none */
    struct sent_batch batches[SENT_MAX];
    struct named services, names;
    struct batch_builder builder;
    struct buf text;    /* scratch */
    struct arena arena; /* spans as they were sent */
};

struct world *world_new(uint64_t seed, uint64_t base_ns);
void world_free(struct world *w);
uint32_t world_roll(struct world *w, uint32_t n);
uint64_t world_roll64(struct world *w);
struct str world_tenant(uint32_t tenant);

/* Hands a batch of up to max_spans to the store; what happens to it is in w->batches. */
enum errc world_append(struct world *w, struct store *s, uint32_t max_spans);
/* Every batch acknowledged so far must survive from now on. */
void world_expect_acked(struct world *w);
/* From now on, what was sent and will be sent may go: a disk cap. */
void world_cap(struct world *w, bool capped);
/* Compares spans, names, dependencies. `after_crash`: acknowledged batches may be missing unless
 * they must be there. A sentence, or NULL when all is well. */
const char *world_compare(struct world *w, struct store *s, bool after_crash);
/* What is no mistake where a bit was flipped: answers that say that the data is damaged, and spans
 * that are there twice. */
struct rot {
    unsigned answers, twice;
};

/* Marks what a snapshot holds, and says what is wrong with it. With `damage` NULL that is wrong
 * too. */
const char *world_read(struct world *w, struct snap *snap, struct rot *damage);
/* Batches that a crash took are forgotten: from now on they must stay away. */
void world_forget_missing(struct world *w);

/* --- content.c --- */

/* A group of a service, SERVICES and above: one that is not named. */
void content_group(struct world *w, uint32_t service);
/* Ids and times are set; puts all else. */
void content_span(struct world *w, struct span_rec *s, uint32_t number, bool rich);

/* --- ask.c --- */

/* Names and dependencies of every tenant. */
const char *world_check_names(struct world *w, struct snap *snap);
/* One question of each kind, its details by chance, about what was found by the last comparison. */
const char *world_ask(struct world *w, struct store *s, struct snap *snap);
/* Two spans in every part. */
bool world_same_span(const struct span *a, const struct span *b);

#endif
