/* SPDX-License-Identifier: Apache-2.0 */
/* Between the reader and the builder of blocks, for merging: rows become batch records whose shapes
 * are given. Private to block_merge.c. */
#ifndef LYMER_STORE_TRACE_BLOCK_RECORDS_H
#define LYMER_STORE_TRACE_BLOCK_RECORDS_H

#include "store/trace/block_build.h"
#include "store/trace/block_read.h"

/* Records of one input in one run: a batch that has no names, keys and groups. */
struct records {
    struct span_rec *spans;
    struct attr_rec *attrs;
    struct event_rec *events;
    struct link_rec *links;
    uint32_t *span_shape, *event_shape, *link_shape; /* numbers in the new block */
    uint32_t span_n, attr_n, event_n, link_n;
    uint32_t span_cap, attr_cap, event_cap, link_cap;
    uint32_t span_shape_cap, event_shape_cap, link_shape_cap;
    uint64_t bytes; /* of strings */
    struct buf heap;
    uint64_t turn; /* counts the runs: what is in the heap is of this one */
    struct batch_head head;
    struct batch batch;
    struct given_shapes shapes;
};

void records_init(struct records *rec);
void records_fini(struct records *rec);
void records_reset(struct records *rec);
/* A view, until the next change. Its shapes are in rec->shapes. */
const struct batch *records_batch(struct records *rec);

/* A column of an open row group. */
struct record_col {
    const uint64_t *nums;
    const struct strs *strs;
    uint64_t turn; /* of the records whose heap has its text at heap_at */
    uint32_t heap_at;
};

/* An open row group; lives in its reader. */
struct record_rows {
    struct rows *g;
    uint32_t group;
    uint32_t *shape[TABLE_COUNT]; /* of each local shape: its number in the new block */
    struct record_col *col;
    struct span_cols span;
    struct link_cols link;
    const uint64_t *event_time, *event_dropped;
};

/* The caller fills in shape. False is noted in the reader. */
MUST_CHECK bool record_rows_open(struct record_rows *rr, struct reader *r, const struct shared *s,
                                 uint32_t group);
/* Adds the rows of a trace part that is a whole chain. */
MUST_CHECK bool records_add(struct records *rec, struct record_rows *rr, uint32_t part);

#endif
