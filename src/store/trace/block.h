/* SPDX-License-Identifier: Apache-2.0 */
/* An immutable columnar block (docs/format/block.md): built once from the batches of one tenant,
 * then only read. Private to store/trace. The store owns names, manifest and lifetimes; a block
 * knows its own bytes. */
#ifndef LYMER_STORE_TRACE_BLOCK_H
#define LYMER_STORE_TRACE_BLOCK_H

#include "base/os/os.h"
#include "base/zip.h"
#include "model/query.h"
#include "model/trace.h"
#include "store/trace/trace_store.h"

struct block;

struct block_meta {
    uint64_t span_count, trace_count, file_bytes;
    uint64_t min_ns, max_ns; /* of span starts */
    uint64_t max_end_ns;
};

/* One (service, name, kind) of a block. */
struct block_op {
    struct str service, name;
    enum span_kind kind;
    uint64_t span_count, error_count, last_seen_ns;
};

/* Calls between services in one minute, by the start of the child span. */
struct block_edge {
    uint32_t minute;        /* since 1970 */
    uint32_t parent, child; /* index into services */
    uint32_t calls;
};

/* A span whose parent is not in this block: its edge is resolved against other blocks. Sorted by
 * trace id. */
struct block_orphan {
    uint8_t trace_id[16], parent_id[8];
    uint32_t service, minute;
};

/* What the build learned and the store keeps (in the manifest). Lives in the arena given to
 * block_build. */
struct block_summary {
    struct block_meta meta;
    struct block_op *ops;
    size_t op_count;
    struct str *services;
    size_t service_count;
    struct block_edge *edges;
    size_t edge_count;
    struct block_orphan *orphans;
    size_t orphan_count;
};

/* Reused from block to block by the builder thread, so that its memory stays warm. */
struct block_builder;
struct block_builder *block_builder_new(void);
void block_builder_free(struct block_builder *bb);
/* Gives its memory back, for a time without builds. */
void block_builder_trim(struct block_builder *bb);

/* Writes and syncs the file `path` from the spans of `batches` (all of one tenant). Deterministic:
 * the same batches give the same bytes. On failure the file may be left in part; the caller removes
 * it. */
MUST_CHECK enum errc block_build(struct block_builder *bb, struct os *os, const char *path,
                                 const struct batch *const *batches, size_t batch_count,
                                 struct arena *a, struct block_summary *out, struct err *e);

/* Several blocks of one tenant become one, in steps of about a row group's work. Nothing is lost
 * and nothing is changed, but by `change` (NULL: none): keep() says of each trace, as far as it
 * lies in these blocks, whether it stays (NULL: all); edit() may change a span that stays, its new
 * strings in the arena. The blocks are referenced until block_merge_free; the builder serves no one
 * else until then. After an error, and after *done, only block_merge_free may be called; the file
 * is left as it is. */
struct merge_change {
    bool (*keep)(void *arg, const struct trace *t);
    void (*edit)(void *arg, struct span *s, struct arena *a);
    void *arg;
};

struct block_merge;
MUST_CHECK enum errc block_merge_begin(struct block_merge **out, struct block_builder *bb,
                                       struct os *os, const char *path, struct block *const *blocks,
                                       size_t n, const struct merge_change *change, struct err *e);
/* *done: the file is written and synced, and meta tells what is in it. */
MUST_CHECK enum errc block_merge_step(struct block_merge *m, bool *done, struct block_meta *meta,
                                      struct err *e);
void block_merge_free(struct block_merge *m);

/* Reads and checks the footer: E_CORRUPT, E_VERSION, E_IO, E_NOT_FOUND. One reference. Thread-safe
 * from then on. */
MUST_CHECK enum errc block_open(struct os *os, const char *path, struct block **out, struct err *e);
struct block *block_ref(struct block *b);
void block_unref(struct block *b); /* the last one closes the file */
const struct block_meta *block_meta(const struct block *b);
size_t block_resident_bytes(const struct block *b);
/* Of what its row groups share (names, keys, shapes, resources), unpacked. */
uint64_t block_shared_bytes(const struct block *b);

/* Adds the block's spans of the trace to t. E_OK also when there are none. */
MUST_CHECK enum errc block_trace(struct block *b, const uint8_t id[16], struct arena *a,
                                 struct trace *t, struct err *e);

/* --- a trace row by row: block_page.c --- */

/* A span of the trace: its key and the number of its row in the block. False: no memory. */
typedef bool block_key(void *arg, uint64_t start_ns, const uint8_t span_id[8], uint64_t row);
/* Those in row groups that have starts in [min, max]. Holds one row group at a time. */
MUST_CHECK enum errc block_trace_keys(struct block *b, const uint8_t id[16], uint64_t min_ns,
                                      uint64_t max_ns, struct budget *budget, block_key *each,
                                      void *arg, struct err *e);

/* All of them: snap_trace_glance. */
MUST_CHECK enum errc block_trace_glances(struct block *b, const uint8_t id[16],
                                         enum glance_part part, struct budget *budget,
                                         span_glance_each *each, void *arg, struct err *e);

struct block_row {
    uint64_t row, start_ns;
    struct span **out;
};
/* Makes the spans of these rows, which ascend. */
MUST_CHECK enum errc block_trace_rows(struct block *b, const uint8_t id[16],
                                      const struct block_row *rows, uint32_t n, struct arena *a,
                                      struct err *e);

/* --- searching ------------------------------------------------------------------------------ *
 * One query on one block, a row group at a time, in whatever order suits who searches many. */

struct block_search;

/* What every span of a block, or of one of its row groups, lies within. */
struct block_bounds {
    uint64_t min_ns, max_ns, max_duration_ns;
};

struct block_bounds block_bounds(const struct block *b);
uint32_t block_group_count(const struct block *b);
struct block_bounds block_group_bounds(const struct block *b, uint32_t group);

/* By what is resident: false when nothing of the block can match. */
bool block_may_match(const struct block *b, const struct trace_query *q);
/* Prepares: *out lives in the arena, or is NULL when nothing of the block can match. Borrows q.
 * What is read later is added to *bytes_read. One thread at a time. */
MUST_CHECK enum errc block_search_open(struct block *b, const struct trace_query *q,
                                       struct arena *a, uint64_t *bytes_read,
                                       struct block_search **out, struct err *e);

/* A trace with a matching span in a row group, and its rank as far as the group knows it. */
struct block_hit {
    struct trace_hit hit;
    bool whole; /* the block has no more rows of the trace */
};

/* What the group has, each trace once, in memory of the arena. Spans worth less than `floor` (a
 * start, a duration) do not count. */
MUST_CHECK enum errc block_search_group(struct block_search *s, uint32_t group, uint64_t floor,
                                        struct arena *a, struct block_hit **hits, uint32_t *n,
                                        struct err *e);
/* The rank of one trace by what the whole block has of it; *found is false when that is no matching
 * span. Not for orders by count. */
MUST_CHECK enum errc block_search_trace(struct block_search *s, const uint8_t id[16], bool *found,
                                        struct trace_hit *out, struct err *e);
/* The same for orders by count, which do not ask for a match here. */
MUST_CHECK enum errc block_count_trace(struct block *b, enum query_order o, const uint8_t id[16],
                                       uint64_t *bytes_read, struct trace_hit *out, struct err *e);

/* Every trace of the block in its order: id and first start. */
MUST_CHECK enum errc
block_each_trace(struct block *b, bool (*each)(void *arg, const uint8_t id[16], uint64_t min_ns),
                 void *arg, struct err *e);

/* Every chain of spans of one trace, in the block's order, as a trace that lives until each()
 * returns. A trace may have several chains. Whole row groups are decoded: the way to look at
 * everything. */
typedef void block_chain(void *arg, const struct trace *chain);
MUST_CHECK enum errc block_scan(struct block *b, block_chain *each, void *arg, struct err *e);
/* Does a span, event, link, resource or scope have an attribute of this key? What the row groups
 * share tells; no row is read. */
MUST_CHECK enum errc block_has_key(struct block *b, struct str key, bool *has, struct err *e);

/* Service of the span, as a view that lives as long as the block; false when the span is not here.
 */
MUST_CHECK enum errc block_span_service(struct block *b, const uint8_t trace_id[16],
                                        const uint8_t span_id[8], bool *found, struct str *service,
                                        struct err *e);
/* Lets go of what asking for the spans of a large trace has put together. */
void block_forget_spans(struct block *b);
/* True when the block may hold the trace; one probe of the resident index, no I/O. */
bool block_may_have(const struct block *b, const uint8_t trace_id[16]);

/* What the file's bytes are spent on: one call for each column, whose bytes add up to the file, and
 * (op may be NULL) for each span shape, whose shares do as well; several have one operation. */
typedef void block_cost_row(void *arg, enum cost_kind kind, struct str name, enum attr_type type,
                            uint64_t bytes);
typedef void block_cost_op(void *arg, struct str service, struct str name, uint64_t spans,
                           double bytes);
MUST_CHECK enum errc block_cost(struct block *b, block_cost_row *row, block_cost_op *op, void *arg,
                                struct err *e);

/* Opens a block whose index may be damaged: for block_salvage. */
MUST_CHECK enum errc block_open_damaged(struct os *os, const char *path, struct block **out,
                                        struct err *e);

/* Opens a block whose tail is damaged but can be made up for: it must hold together with the row
 * groups, which are gone through, and its index is made anew in memory. Searches rule nothing out
 * by its times. block_verify goes on calling it damaged, and nobody should merge it. */
MUST_CHECK enum errc block_open_mended(struct os *os, const char *path, struct block **out,
                                       struct err *e);

/* What could not be read. */
struct block_lost {
    uint64_t spans, min_ns, max_ns; /* they began between these */
    uint64_t values;                /* attributes of saved spans */
    uint64_t parents;               /* saved spans whose parent's id is lost: roots now */
};

/* Gets the spans of one trace, of which there may be more calls when something is lost between;
 * false stops. They live until it returns. */
typedef bool block_saved(void *arg, struct span *const *spans, uint32_t n);
/* Every span that can be read, whatever else is damaged: a bad attribute column costs its values,
 * another column the traces that need it, a bad directory its row group. */
MUST_CHECK enum errc block_salvage(struct block *b, block_saved *saved, void *arg,
                                   struct block_lost *lost, struct err *e);

/* Reads every byte and checks every checksum, count and index. */
MUST_CHECK enum errc block_verify(struct block *b, struct err *e);

#endif
