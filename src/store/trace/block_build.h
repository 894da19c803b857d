/* SPDX-License-Identifier: Apache-2.0 */
/* The builder's insides, shared by its steps:
 *
 *   block_plan.c    numbers what repeats (strings, origins, columns, key lists, shapes), gathers
 *                   the spans into traces and puts everything in order
 *   block_group.c   turns the rows of one row group into columns
 *   block_write.c   the door: file, meta, index, tail, summary
 *   block_merge.c   the other door: row groups of several blocks become one block
 *
 * A block is made of runs (batches that are planned and written together) and of row groups taken
 * over from other blocks, in any sequence. The numbers and the index are the block's; traces, rows
 * and parents are the run's. A flush is one run of a whole memtable; a merge has many, of a row
 * group each, whose batches are gone when the block is finished, so it keeps copies of what it
 * numbers. */
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

/* Walks the entries with this hash: *at starts at the hash; NO_ID at the end. */
static inline uint32_t idtab_next(const struct idtab *t, uint32_t hash, uint32_t *at)
{
    if (UNLIKELY(!t->slot))
        return NO_ID;
    for (;; (*at)++) {
        const struct idslot *s = &t->slot[*at & t->mask];
        if (!s->id)
            return NO_ID;
        if (s->hash == hash) {
            (*at)++;
            return s->id - 1;
        }
    }
}

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

/* Numbered strings: views into the batches, or copies. */
struct intern {
    struct idtab tab;
    struct arena *keep; /* of the copies; NULL: views */
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
    uint32_t *col;                      /* [scope][key][type] */
    uint32_t *name, *origin, *guess;    /* guess: the last shape seen under a name */
    uint32_t *event_shape, *link_shape; /* NULL when the rows are given */
    uint64_t span_bytes;                /* what a span weighs: its share of the batch */
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

/* A decoded attribute column that rows of a run have values in. */
struct given_col {
    const uint64_t *v;       /* bits, or ids into strs; NULL: not decoded yet */
    const struct strs *strs; /* NULL: numbers */
    uint32_t *number;        /* of each id: in the dictionary of the current row group */
    uint64_t group;          /* the row group of which number is */
};

/* Where the rows of a shape have their values of one key: of the row with rank r, v[at + r]. */
struct given_key {
    struct given_col *col; /* NULL: EMPTY, which has no values */
    uint32_t at;
};

/* A span, event or link that was a row of another block: its shape is known, and its attributes
 * stay in the columns they are in. */
struct given_row {
    const struct given_key *keys; /* of its shape there */
    uint32_t rank, shape;         /* rank there, shape here */
};

/* Of each span, event and link of a batch, which then has no names, keys, attributes and groups. */
struct given {
    const struct given_row *span, *event, *link;
};

struct block_builder {
    const struct batch *const *batches;
    const struct given *given; /* of each batch, or NULL */
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
    uint32_t *words; /* of the keys of resources and scopes */
    uint32_t word_n, word_cap;
    struct arena names; /* copies of the interned strings, in a merge */

    /* the run */
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

    struct part *parts; /* of all row groups of the run */
    uint32_t part_count, part_cap;

    /* the block */
    struct group_info *groups;
    uint32_t group_count, group_cap;
    uint64_t *index; /* of each chain of parts: fingerprint << 32 | number of its first part */
    uint32_t index_n, index_cap, part_total;

    struct arena ga;   /* the current row group */
    uint64_t group_no; /* counts them, over all blocks, from 1 */
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

/* --- block_plan.c --- */

/* Plans a run: everything down to parents; edges and orphans add up. */
void plan_spans(struct block_builder *bb, const struct batch *const *batches,
                const struct given *given, size_t n);
/* The numbers of one thing each, for who has no batch. */
uint32_t plan_col(struct block_builder *bb, unsigned scope, unsigned type, struct str key);
uint32_t plan_list(struct block_builder *bb, const uint32_t *cols, uint32_t n);
uint32_t plan_origin(struct block_builder *bb, struct str blob);
uint32_t plan_shape(struct block_builder *bb, enum block_table table, const struct shape *want);

/* --- block_group.c --- */

/* Appends the row group of rows [at, at+n), made of parts, to bb->out. */
void group_write(struct block_builder *bb, uint32_t at, uint32_t n, const struct part *parts,
                 uint32_t part_count, struct group_info *out);

/* A row group piece by piece: begin; for each table its shapes; its columns in ascending number,
 * each appended to bb->out and then ended; end. The filter comes behind it. */
struct chunks {
    uint32_t count, before; /* columns so far; the number of the last one */
    uint32_t shape_before;  /* number of the table's shape before */
    struct buf list;        /* their directory entries */
};

void group_begin(struct block_builder *bb, struct chunks *cs);
void group_table(struct block_builder *bb, struct chunks *cs, uint32_t rows, uint32_t shapes);
/* longest_ns only in the table of spans. */
void group_shape(struct block_builder *bb, struct chunks *cs, enum block_table table,
                 uint32_t shape, uint32_t rows, uint64_t longest_ns);
/* The column number `no` was just appended from `from` on. */
void group_column(struct block_builder *bb, struct chunks *cs, uint32_t no, size_t from);
void group_end(struct block_builder *bb, struct chunks *cs, uint32_t part_count, size_t from,
               struct group_info *g);

/* --- block_write.c --- */

void builder_begin(struct block_builder *bb, bool copies);
MUST_CHECK enum errc builder_open(struct block_builder *bb, struct os *os, const char *path,
                                  struct err *e);
/* given: NULL, or the rows of each batch. */
MUST_CHECK enum errc builder_run(struct block_builder *bb, const struct batch *const *batches,
                                 const struct given *given, size_t n, struct err *e);
/* A row group that was appended to bb->out; parts are numbered on from part_total. */
MUST_CHECK enum errc builder_add_group(struct block_builder *bb, const struct group_info *g,
                                       struct err *e);
/* The next part of the row group that is about to be added begins the chain of this trace. */
void builder_index(struct block_builder *bb, const uint8_t trace_id[16], uint32_t part);
MUST_CHECK enum errc builder_end(struct block_builder *bb, struct block_meta *out, struct err *e);
void builder_close(struct block_builder *bb);

#endif
