/* SPDX-License-Identifier: Apache-2.0 */
/* The builder's insides, shared by its three steps:
 *
 *   block_plan.c    numbers what repeats (strings, origins, columns, key lists, shapes), gathers
 * the spans into traces and puts everything in order; block_group.c   turns the rows of one row
 * group into columns; block_write.c   the door: file, meta, index, tail, summary.
 *
 * All memory here is sized by the batches of one memtable, which has its own limit. */
#ifndef LYMER_STORE_TRACE_BLOCK_BUILD_H
#define LYMER_STORE_TRACE_BLOCK_BUILD_H

#include "store/trace/block_format.h"

#define NO_ID UINT32_MAX

/* Open addressing from a hash to a number; the owner compares. */
struct idslot {
    uint32_t hash, id; /* id + 1; 0: empty */
};
struct idtab {
    struct idslot *slot;
    uint32_t mask, n;
};

void idtab_reset(struct idtab *t);
void idtab_add(struct idtab *t, uint32_t hash, uint32_t id);

/* Room for n elements; grows by half at least. */
static inline void *vec_room(void *p, uint32_t *cap, size_t n, size_t size)
{
    if (LIKELY(n <= *cap))
        return p;
    size_t want = max_size(n, *cap + *cap / 2 + (size_t)64);
    ensure(want <= UINT32_MAX);
    *cap = (uint32_t)want;
    return xrealloc(p, want * size);
}

/* Numbered strings: views into the batches. */
struct intern {
    struct idtab tab;
    struct str *v;
    uint32_t n, cap;
};

uint32_t intern_str(struct intern *in, struct str s);

/* Distinct values of one string column in the current row group; memory from the group's arena. */
struct dict {
    struct str *v;
    uint32_t *hash;
    uint32_t *slot; /* number + 1 */
    uint32_t n, cap, mask;
};

struct col {
    uint32_t key; /* into strings */
    uint8_t scope, type;
    uint64_t seed; /* of its values in the filter */
    /* in the current row group */
    uint32_t n;
    uint64_t *vals; /* bits, or ids into dict */
    struct dict dict;
};

struct keylist {
    uint32_t at, n; /* column numbers in list_pool */
};

struct shape {
    uint32_t origin, name, list;
    uint8_t kind, status;
    uint32_t local; /* in the current row group */
    uint32_t at;    /* of its rows in the group's order */
    uint64_t count, last_ns;
};

struct shapes {
    struct idtab tab;
    struct shape *v;
    uint32_t n, cap;
};

/* One resource and scope. */
struct origin {
    size_t blob_at, blob_len;
    uint32_t service; /* into services */
};

struct trace_at {
    uint8_t id[16];
    uint64_t min_ns;
    uint32_t count, at; /* rows, in order */
};

/* One span on its way. */
struct row {
    uint64_t start_ns, span_id, parent_id;
    const struct span_rec *rec;
    uint32_t batch, shape;
};

/* What the numbers of one batch are in the block. */
struct batch_map {
    uint32_t *col;                   /* [scope][key][type] */
    uint32_t *name, *origin, *guess; /* guess: the last shape seen under a name */
    uint32_t *event_shape, *link_shape;
    uint64_t span_bytes; /* what a span weighs: its share of the batch */
};

struct group_info {
    uint64_t data_len, dir_len, filter_len;
    uint32_t dir_crc, rows, parts;
    bool continues; /* the first part continues the last trace of the group before */
    uint64_t min_ns, max_ns, max_duration_ns;
};

/* Rows of one trace in one row group. */
struct part {
    uint32_t trace, rows;
};

struct edge {
    uint32_t minute, parent, child;
    uint32_t calls;
};

struct block_builder {
    const struct batch *const *batches;
    size_t batch_count;
    uint64_t
        seed[2]; /* of the tables of ids, which a client chooses; the bytes do not depend on it */
    struct arena plan; /* maps of the batches */
    struct batch_map *maps;

    struct intern strings;
    struct idtab col_tab;
    struct col *cols;
    uint32_t col_count, col_cap;
    struct idtab list_tab;
    struct keylist *lists;
    uint32_t list_count, list_cap;
    uint32_t *list_pool;
    uint32_t pool_n, pool_cap;
    struct shapes shapes[TABLE_COUNT];
    struct idtab origin_tab;
    struct origin *origins;
    uint32_t origin_count, origin_cap;
    struct buf origin_blobs;
    struct intern services;

    struct idtab trace_tab;
    struct trace_at *traces;
    uint32_t trace_count, trace_cap;
    uint32_t *trace_order; /* by first start */
    uint32_t trace_order_cap;
    struct row *rows, *unsorted;
    uint32_t *row_trace;
    uint32_t row_count, rows_cap, unsorted_cap, row_trace_cap;
    uint32_t *parents; /* of each row: the parent column's code */
    uint32_t parents_cap;
    uint32_t *id_slots; /* span id → row in the trace */
    uint32_t id_slots_cap;

    struct idtab edge_tab;
    struct edge *edges;
    uint32_t edge_count, edge_cap;
    struct block_orphan *orphans;
    uint32_t orphan_count, orphan_cap;

    struct group_info *groups;
    uint32_t group_count, group_cap;
    struct part *parts; /* of all groups */
    uint32_t part_count, part_cap;

    struct arena ga;   /* the current row group */
    uint32_t *touched; /* columns with values in it */
    uint32_t touched_n, touched_cap;
    uint64_t *hashes; /* of its filter */
    uint32_t hash_n, hash_cap;
    uint64_t recent[256]; /* integers lately put into the filter */

    struct packer pack;
    struct buf out, tail, dir, meta;
    struct os_file *file;
    uint64_t written; /* bytes of the file before out */
    uint64_t max_end_ns;
};

/* block_plan.c: fills everything down to parents, edges and orphans. */
void plan_spans(struct block_builder *bb);

/* block_group.c: appends the row group of rows [at, at+n), made of parts, to bb->out. */
void group_write(struct block_builder *bb, uint32_t at, uint32_t n, const struct part *parts,
                 uint32_t part_count, struct group_info *out);

#endif
