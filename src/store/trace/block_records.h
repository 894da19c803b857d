/* SPDX-License-Identifier: Apache-2.0 */
/* Between the reader and the builder of blocks, for merging: rows become batch records whose shapes
 * are known and whose attributes stay in the columns they were read from. Private to block_merge.c.
 */
#ifndef LYMER_STORE_TRACE_BLOCK_RECORDS_H
#define LYMER_STORE_TRACE_BLOCK_RECORDS_H

#include "store/trace/block_build.h"
#include "store/trace/block_read.h"

/* Records of one input in one run: a batch that has no names, keys, attributes and groups. */
struct records {
    struct span_rec *spans;
    struct event_rec *events;
    struct link_rec *links;
    struct given_row *span, *event, *link;
    uint32_t span_n, event_n, link_n;
    uint32_t span_cap, event_cap, link_cap, span_row_cap, event_row_cap, link_row_cap;
    uint64_t bytes;  /* of attributes: what their columns weigh, value by value */
    struct buf heap; /* texts of the fixed columns */
    uint64_t turn;   /* counts the runs: what is in the heap is of this one */
    struct batch_head head;
    struct batch batch;
    struct given given;
};

void records_init(struct records *rec);
void records_fini(struct records *rec);
void records_reset(struct records *rec);
/* A view, until the next change, with rec->given; the row groups it is of must still be open. */
const struct batch *records_batch(struct records *rec);

/* A fixed column of strings. */
struct record_text {
    const struct strs *strs; /* NULL: none */
    uint64_t turn;           /* of the records whose heap has its text at heap_at */
    uint32_t heap_at;
};

/* The rows of one shape. */
struct record_shape {
    struct given_key *keys;
    uint32_t shape; /* its number in the new block */
    uint32_t bytes; /* what the attributes of a row weigh */
};

/* An open row group; lives in its reader. */
struct record_rows {
    struct rows *g;
    struct record_shape *shape[TABLE_COUNT]; /* of each local shape */
    struct given_col *col;                   /* of each attribute column of the block */
    struct span_cols span;
    struct link_cols link;
    struct record_text trace_state, message, link_state;
    const uint64_t *event_time, *event_dropped;
};

/* Decodes everything, so that who opens another one knows what this one holds. The caller fills in
 * the shapes' numbers. NULL is noted in the reader. */
struct record_rows *record_rows_open(struct reader *r, const struct shared *s, uint32_t group);
/* Adds the rows of a trace part that is a whole chain. */
MUST_CHECK bool records_add(struct records *rec, struct record_rows *rr, uint32_t part);

#endif
