/* SPDX-License-Identifier: Apache-2.0 */
/* The reader's insides:
 *
 *   block_open.c    the open block: tail, references, pooled reader contexts, what row groups
 * share; block_rows.c    one row group: directory, columns on demand, rows as spans; block_read.c
 * traces, lists, verification; block_search.c  searches; block_discover.c keys and values;
 *   block_cost.c    what the bytes are spent on.
 *
 * A call borrows a `struct reader`: an arena for everything it decodes, a zstd context and a sticky
 * error. What the caller keeps is copied into its own arena. What was decoded stays with the reader
 * for the next call on the same block, if it is small and whole: traces that are read one after the
 * other mostly lie in one row group. */
#ifndef LYMER_STORE_TRACE_BLOCK_READ_H
#define LYMER_STORE_TRACE_BLOCK_READ_H

#include "base/os/thread.h"
#include "store/trace/block_format.h"

#include <stdatomic.h>

/* What one call may decode at a time; a damaged count ends here. */
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#define READER_BYTES_MAX (32 * MIB)
#else
#define READER_BYTES_MAX GIB
#endif

struct group {
    uint64_t data_off, data_len, dir_len, filter_len;
    uint32_t dir_crc, rows;
    uint32_t first_part, parts; /* numbers of its trace parts in the block */
    bool continues;
    uint64_t min_ns, max_ns, max_duration_ns;
};

/* The spans of a trace that lies in several row groups, by id: who asks for one span of it asks for
 * thousands. 16 bytes a span. */
struct span_ids {
    uint8_t trace_id[16];
    uint32_t n, cap;
    struct span_at {
        uint64_t id;
        uint32_t origin;
    } * v;
};

struct block {
    _Atomic uint32_t refs;
    uint64_t serial; /* of this process, from 1: tells it from a block that had its address */
    struct os_file *file;
    char *path;
    uint32_t version;
    struct block_meta meta;
    uint64_t max_duration_ns;
    char *tail; /* fingerprints, parts, words, root */
    size_t tail_len;
    const uint32_t *fingerprints, *part; /* meta.trace_count each */
    uint32_t *remade;                    /* where they are when the tail is damaged, else NULL */
    uint64_t *marks; /* a bit for each fingerprint, by its first bits: most traces that are asked
                        for are not here, and one look says so */
    unsigned marks_shift;
    const uint32_t *words;
    uint32_t word_count;
    struct group *groups;
    uint32_t group_count;
    uint64_t shared_off, shared_len, shared_raw;
    uint32_t shared_crc;
    struct shared *shared; /* decoded and kept for the next call; under shared_lock */
    pthread_mutex_t lock;  /* protects services and ids */
    struct span_ids *ids;  /* of the large trace that was asked for last */
    struct str *services;  /* of each origin; made when first asked for */
    uint32_t service_count;
};

struct reader {
    struct reader *next; /* in the pool, the last used first */
    struct block *b;
    struct arena a;
    uint64_t serial;       /* of the block the arena's content is of; 0: none */
    struct shared *shared; /* once read: one reference */
    struct rows *rows[4];  /* the row groups opened last by rows_get */
    uint32_t rows_opened;
    uint64_t bytes_read; /* from the file, since it was taken */
    struct zstd_ctx *zstd;
    struct err *e;
    enum errc code; /* sticky */
};

/* Never NULL. */
struct reader *reader_take(struct block *b, struct err *e);
/* Gives it back, with what it has decoded of the block; answers its error. */
enum errc reader_give(struct reader *r);
/* Forgets what it has decoded, for a long call that goes through many row groups; `keep` bytes of
 * memory stay. */
void reader_forget(struct reader *r, size_t keep);
/* Between two row groups of a trace: forgets what it has decoded of row groups, once that is much.
 */
void reader_relieve(struct reader *r);
/* Notes the first error and answers false, so that `return reader_bad(…)` reads well. */
bool reader_bad(struct reader *r, const char *what);
bool reader_no_memory(struct reader *r);
/* n zeroed elements of the call's arena; NULL is noted. */
void *reader_alloc(struct reader *r, size_t n, size_t size);
/* Bytes of the file, checked; NULL is noted. */
const uint8_t *reader_bytes(struct reader *r, uint64_t off, uint64_t len, uint32_t crc,
                            const char *what);
/* The same without a checksum: the caller has those of the pieces. */
const uint8_t *reader_raw(struct reader *r, uint64_t off, uint64_t len);
struct unpacker reader_unpacker(struct reader *r, const uint8_t *p, size_t n);
/* True when u is good; notes what was bad. */
bool reader_check(struct reader *r, const struct unpacker *u, const char *what);

/* --- what the row groups share --- */

struct shared_col {
    uint32_t key; /* into strings */
    uint8_t scope, type;
};

struct shared_list {
    uint32_t *col;
    uint32_t n;
};

struct shared_shape {
    uint32_t origin, name, list;
    uint8_t kind, status;
};

/* The decoded meta section, for all readers of the block. */
struct shared {
    struct arena arena;           /* holds everything */
    struct shared *newer, *older; /* among those that are kept */
    struct block *b;              /* that keeps it; NULL: none does */
    uint32_t refs;                /* these four under shared_lock */
    struct str *strings;
    struct shared_col *cols;
    struct shared_list *lists;
    struct str *origins;  /* serialised */
    struct str *services; /* of each origin */
    struct shared_shape *shapes[TABLE_COUNT];
    uint32_t string_count, col_count, list_count, origin_count, shape_count[TABLE_COUNT];
};

/* Lives as long as the reader's content; NULL is noted. */
const struct shared *shared_read(struct reader *r);
/* Copies into `a` and decodes; false is noted. */
bool shared_origin(struct reader *r, const struct shared *s, uint32_t origin, struct arena *a,
                   struct span_origin *out);

/* --- a row group --- */

struct rows_col {
    uint32_t no, crc;
    uint64_t at, len;     /* in the file, or in the tail chunk */
    bool tail, bad;       /* bad: it was looked at in vain */
    const uint64_t *nums; /* decoded when first asked for */
    const uint8_t *bytes;
    struct strs *strs;
};

struct rows_table {
    uint32_t rows, shape_count;
    uint32_t *shape, *first; /* of each local shape: its number; its first row in shape order */
    uint64_t *longest;       /* of each local shape of spans: none lasted longer than this, in ns */
    uint32_t **value_at;     /* of each local shape and key: the first value in the key's column */
    /* on demand */
    const uint64_t *local; /* of each row: local shape */
    uint32_t *rank;        /* of each row: among the rows of its shape */
};

struct rows {
    struct reader *r;
    const struct shared *s;
    const struct group *g;
    struct rows_table table[TABLE_COUNT];
    struct rows_col *cols;
    uint32_t col_count;
    uint32_t *value_count; /* of each attribute column */
    uint64_t tail_at, tail_len, tail_raw;
    uint32_t tail_crc;
    const uint8_t *tail;
    uint32_t *child_at[TABLE_COUNT]; /* first event and link of each row, and the end */
    uint32_t *row_at;                /* first row of each trace part, and the end */
    const uint64_t *parent;          /* the column and, where a parent is not in the chain, ids */
    const uint8_t *orphan_ids;
    uint32_t *orphan_at; /* first orphan of each trace part, and the end */
    const uint8_t *trace_ids;
    const uint64_t *trace_rows, *trace_start;
};

/* Reads the directory and the list of traces. */
MUST_CHECK bool rows_open(struct reader *r, const struct shared *s, uint32_t group,
                          struct rows *out);
/* The two steps of it. */
MUST_CHECK bool rows_open_directory(struct reader *r, const struct shared *s, uint32_t group,
                                    struct rows *out);
MUST_CHECK bool rows_parts(struct rows *g);
/* The same for a call that reads traces: the groups that were opened last are kept. NULL is noted.
 */
struct rows *rows_get(struct reader *r, const struct shared *s, uint32_t group);
/* Column values; *out is NULL when the column is absent (zeros). */
MUST_CHECK bool rows_nums(struct rows *g, uint32_t no, uint32_t n, const uint64_t **out);
MUST_CHECK bool rows_bytes(struct rows *g, uint32_t no, size_t n, const uint8_t **out);
MUST_CHECK bool rows_strs(struct rows *g, uint32_t no, uint32_t n, const struct strs **out);
bool rows_has(const struct rows *g, uint32_t no);
/* Fills tail. */
MUST_CHECK bool rows_tail(struct rows *g);
/* Are all pages of the filter whole? */
MUST_CHECK bool filter_check(struct reader *r, const uint8_t *p, size_t n);
/* Fills local and rank of a table. */
MUST_CHECK bool rows_shapes(struct rows *g, enum block_table table);
/* Fills parent, orphan_ids and orphan_at. */
MUST_CHECK bool rows_parents(struct rows *g);
/* Fills child_at. */
MUST_CHECK bool rows_children(struct rows *g, enum block_table table);

/* The columns that every span looks into, and those of every link. */
struct span_cols {
    const uint8_t *span_id;
    const uint64_t *start, *duration, *flags, *dropped_attrs, *dropped_events, *dropped_links;
    const struct strs *trace_state, *message;
};

struct link_cols {
    const uint8_t *trace_id, *span_id;
    const uint64_t *dropped, *flags;
    const struct strs *state;
};

MUST_CHECK bool rows_span_cols(struct rows *g, struct span_cols *c);
MUST_CHECK bool rows_link_cols(struct rows *g, struct link_cols *c);

/* Decodes rows into spans of one caller's arena. */
struct span_maker {
    struct rows *g;
    struct arena *a;
    struct span_origin *origins; /* of the block; shared from group to group */
    struct str *strings;         /* copies, likewise */
    uint32_t *orphan_at;
    uint64_t *lost_values; /* not NULL: attributes in damaged columns are left out and counted */
};

MUST_CHECK bool span_maker_init(struct span_maker *m, struct reader *r, const struct shared *s,
                                struct arena *a);
/* Rows [at, at + n) of g, which are rows of trace part `part`, as spans; parents are left out. */
MUST_CHECK bool span_maker_rows(struct span_maker *m, struct rows *g, uint32_t part, uint32_t at,
                                uint32_t n, struct span **out);

/* Traces as they are read: the spans of all chains, and what they share. */
struct trace_read {
    struct reader *r;
    const struct shared *s;
    struct span_maker maker;
    struct span **spans; /* a chain's in the block's order: parents are ordinals into it */
    uint64_t *parent;    /* the codes */
    uint32_t n, cap;
};

MUST_CHECK bool trace_read_init(struct trace_read *t, struct reader *r, const struct shared *s,
                                struct arena *a);
/* Adds the rows of a part, with parents for those whose parent is not in the chain. */
MUST_CHECK bool trace_read_part(struct trace_read *t, uint32_t group, uint32_t part);
/* Adds the spans of the chain that begins with this part. */
MUST_CHECK bool chain_read(struct trace_read *t, uint32_t group, uint32_t part);
void span_ids_free(struct span_ids *ids);
/* To the next part of the chain; false when there is none. */
bool chain_next(const struct block *b, uint32_t *group, uint32_t *part);

/* The chains of one trace, one after the other. */
struct chain_walk {
    struct reader *r;
    const struct shared *s;
    const uint8_t *id;
    uint32_t at;          /* in the index */
    uint32_t group, part; /* the chain's first rows */
};

struct chain_walk chain_walk(struct reader *r, const struct shared *s, const uint8_t id[16]);
/* To the next chain. False at the end and at damage. */
MUST_CHECK bool chain_walk_next(struct chain_walk *w);

static inline uint64_t num_at(const uint64_t *v, size_t i)
{
    return v ? v[i] : 0;
}

/* A value of a BOOL, INT or DOUBLE column. */
static inline struct value block_num_value(unsigned type, uint64_t bits)
{
    struct value v = {.type = type};
    if (type == ATTR_BOOL)
        v.b = bits != 0;
    else if (type == ATTR_INT)
        v.i = (int64_t)(bits ^ INT_FLIP);
    else
        memcpy(&v.d, &bits, sizeof v.d);
    return v;
}

/* Takes the place of a damaged tail: fingerprints in order, then parts; no words, no times. */
void block_set_index(struct block *b, uint32_t *index);
/* The parts of the trace, as found by its fingerprint: each candidate until false. */
uint32_t block_find(const struct block *b, const uint8_t id[16]);
uint32_t block_group_of(const struct block *b, uint32_t part);
/* The numbers of the row groups by their newest start, the newest first; to be freed. */
uint32_t *block_newest_groups(const struct block *b);

#endif
