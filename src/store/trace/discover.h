/* SPDX-License-Identifier: Apache-2.0 */
/* One discovery of keys or values on its way through memtables and blocks. Private to store/trace:
 * discover.c begins and ends it and walks memtables, block_discover.c walks a block. */
#ifndef LYMER_STORE_TRACE_DISCOVER_H
#define LYMER_STORE_TRACE_DISCOVER_H

#include "store/trace/block.h"
#include "store/trace/textmap.h"
#include "store/trace/trace_store.h"

struct discover_count {
    uint64_t count, missed; /* it occurred count to count + missed times */
    uint32_t types;
};

struct discovery {
    const struct discover_query *q;
    bool values; /* of the attributes named `key`; false: keys */
    struct str key;
    struct textmap texts;
    struct discover_count *counts; /* of each text */
    uint64_t missed;               /* what is not among the texts occurred at most so often */
    uint64_t longer, spans;
    struct os *os;
    uint64_t deadline_ns; /* 0: none */
    bool begun, late;     /* a row group was looked at; the time is up */
    uint64_t after_ns;    /* late: spans that start after it have been looked at */
    bool failed;          /* no memory */
    struct arena walk;    /* of one batch or one block */
    struct arena value;   /* the text of one value */
};

void discovery_init(struct discovery *d, struct os *os, const struct discover_query *q);
void discovery_fini(struct discovery *d);

static inline bool discover_in(const struct discover_query *q, enum tag_place place)
{
    return q->place == TAG_ANY || q->place == place;
}

static inline bool discover_in_time(const struct discover_query *q, uint64_t start_ns)
{
    return start_ns >= q->start_min_ns && start_ns <= q->start_max_ns;
}

/* Is an attribute of this key and place one that is counted? */
bool discover_wants(const struct discovery *d, struct str key, enum tag_place place);
/* A key, and a value of the key, that occurred `count` times (0: nothing is told). */
void discover_key(struct discovery *d, struct str key, enum tag_place place, uint32_t types,
                  uint64_t count);
void discover_value(struct discovery *d, const struct value *v, uint64_t count);

/* Is the time up before a block or row group is looked at whose newest span starts at max_ns? They
 * are asked for newest first; the first row group is always looked at. */
bool discover_late(struct discovery *d, uint64_t max_ns);

/* block_discover.c */
MUST_CHECK enum errc block_discover(struct block *b, struct discovery *d, struct err *e);

#endif
