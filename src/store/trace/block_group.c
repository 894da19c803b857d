/* SPDX-License-Identifier: Apache-2.0 */
/* The second step of a build: the rows of one row group become columns.
 *
 * Attribute columns keep the values of one shape together: for each shape of the group, for each of
 * its keys, the values of its rows. So a value that belongs to a shape (method, route, host) is one
 * long run; the writing loop works on one column at a time; and a reader finds the values of a row
 * by its rank among the rows of its shape, without looking at other rows. The three tables of a
 * group (spans, events, links) are written by the same code.
 *
 * String values are numbered in the order in which they are stored (strip by strip, where a shape
 * has a key twice). The look-up is avoided where the value before it, in the same shape under the
 * same key, is the same.
 *
 * Rows that come from another block (struct given_row) bring no attribute records: their values go
 * from column to column, and of the strings of a column each distinct one is looked up once.
 *
 * Small columns share one chunk, the tail: thousands of rare keys cost a few bytes each. */
#include "store/trace/block_build.h"

#include <stdlib.h>

/* A column this small goes to the tail. */
#define TAIL_COLUMN_MAX 128u
/* Steps through the table of values before a value counts as new: a client that makes hashes
 * collide only loses the saving. */
#define DICT_PROBES_MAX 64u

/* Memory of a row group's columns that stays for the next group. */
#define GROUP_ARENA_KEEP (16 * MIB)

/* Rows of one table of the group. */
struct rows_in {
    enum block_table table;
    uint32_t n;
    const uint32_t *shape;
    const struct attr_rec **attrs; /* the row's first attribute */
    const char **heap;
    const struct given_row *given; /* instead of these two, or NULL */
    const uint64_t *lasted;        /* ns; NULL but for spans */
};

/* The same, grouped by shape. */
struct rows_by_shape {
    uint32_t shape_count;
    uint32_t *shapes; /* ascending */
    uint32_t *order;  /* rows: those of the first shape, then of the second … */
    uint64_t *local;  /* of each row: index into shapes */
};

static void *group_alloc(struct block_builder *bb, size_t n, size_t size)
{
    void *p = arena_alloc(&bb->ga, n * size + 1, 8);
    ensure(p);
    return p;
}

static int cmp_u32(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return (a > b) - (a < b);
}

/* --- a row group's frame --- */

void group_begin(struct block_builder *bb, struct chunks *cs)
{
    *cs = (struct chunks){.list = buf_init(SIZE_MAX)};
    buf_reset(&bb->tail);
    buf_reset(&bb->dir);
}

void group_table(struct block_builder *bb, struct chunks *cs, uint32_t rows, uint32_t shapes)
{
    cs->shape_before = 0;
    pack_varint(&bb->dir, rows);
    pack_varint(&bb->dir, shapes);
}

void group_shape(struct block_builder *bb, struct chunks *cs, enum block_table table,
                 uint32_t shape, uint32_t rows, uint64_t longest_ns)
{
    pack_varint(&bb->dir, zigzag((int64_t)shape - cs->shape_before));
    pack_varint(&bb->dir, rows);
    if (table == TABLE_SPAN)
        pack_varint(&bb->dir, longest_ns);
    cs->shape_before = shape;
}

void group_column(struct block_builder *bb, struct chunks *cs, uint32_t no, size_t from)
{
    size_t len = bb->out.n - from;
    bool tail = len <= TAIL_COLUMN_MAX;
    if (!len)
        return;
    pack_varint(&cs->list, no - cs->before);
    pack_varint(&cs->list, len * 2 + tail);
    cs->before = no;
    cs->count++;
    if (tail) {
        buf_add(&bb->tail, bb->out.p + from, len);
        bb->out.n = from;
        return;
    }
    uint32_t crc = crc32c(0, bb->out.p + from, len);
    buf_add(&cs->list, &crc, 4);
}

void group_end(struct block_builder *bb, struct chunks *cs, uint32_t part_count, size_t from,
               struct group_info *g)
{
    size_t tail_at = bb->out.n;
    pack_bytes(&bb->pack, bb->tail.p, bb->tail.n);
    size_t tail_len = bb->out.n - tail_at;
    uint32_t crc = bb->out.failed ? 0 : crc32c(0, bb->out.p + tail_at, tail_len);
    g->data_len = bb->out.n - from;
    pack_varint(&bb->dir, part_count);
    pack_varint(&bb->dir, cs->count);
    buf_add_str(&bb->dir, buf_str(&cs->list));
    pack_varint(&bb->dir, bb->tail.n);
    pack_varint(&bb->dir, tail_len);
    buf_add(&bb->dir, &crc, 4);
    g->dir_len = bb->dir.n;
    g->dir_crc = crc32c(0, bb->dir.p, bb->dir.n);
    buf_add_str(&bb->out, buf_str(&bb->dir));
    bb->out.failed |= cs->list.failed | bb->dir.failed | bb->tail.failed;
    buf_fini(&cs->list);
}

/* --- values --- */

/* Most values are shorter than 16 bytes, and most are equal. */
static inline bool same_bytes(const char *p, const char *q, size_t n)
{
    if (n > 16)
        return memcmp(p, q, n) == 0;
    if (n >= 8)
        return ((load_u64le(p) ^ load_u64le(q)) |
                (load_u64le(p + n - 8) ^ load_u64le(q + n - 8))) == 0;
    if (n >= 4)
        return ((load_u32le(p) ^ load_u32le(q)) |
                (load_u32le(p + n - 4) ^ load_u32le(q + n - 4))) == 0;
    for (size_t i = 0; i < n; i++)
        if (p[i] != q[i])
            return false;
    return true;
}

static void dict_grow(struct block_builder *bb, struct dict *d)
{
    uint32_t cap = d->cap ? d->cap * 4 : 32;
    struct str *v = group_alloc(bb, cap, sizeof *v);
    uint32_t *hash = group_alloc(bb, cap, sizeof *hash);
    if (d->n) {
        memcpy(v, d->v, d->n * sizeof *v);
        memcpy(hash, d->hash, d->n * sizeof *hash);
    }
    uint32_t *slot = group_alloc(bb, cap * (size_t)2, sizeof *slot), mask = cap * 2 - 1;
    memset(slot, 0, cap * (size_t)2 * sizeof *slot);
    for (uint32_t i = 0; i < d->n; i++) {
        uint32_t at = hash[i] & mask, probes = 0;
        while (slot[at] && probes++ < DICT_PROBES_MAX)
            at = (at + 1) & mask;
        if (!slot[at])
            slot[at] = i + 1;
    }
    *d = (struct dict){.v = v, .hash = hash, .slot = slot, .n = d->n, .cap = cap, .mask = mask};
}

static void filter_add(struct block_builder *bb, uint64_t hash)
{
    bb->hashes = vec_room(bb->hashes, &bb->hash_cap, bb->hash_n + (size_t)1, sizeof *bb->hashes);
    bb->hashes[bb->hash_n++] = hash;
}

static uint32_t dict_number(struct block_builder *bb, struct col *c, struct str s)
{
    struct dict *d = &c->dict;
    uint64_t hash64 = filter_hash_str(s, c->seed);
    uint32_t hash = (uint32_t)hash64;
    if (d->n >= d->cap)
        dict_grow(bb, d);
    uint32_t at = hash & d->mask, probes = 0;
    for (; d->slot[at] && probes < DICT_PROBES_MAX; at = (at + 1) & d->mask, probes++) {
        uint32_t id = d->slot[at] - 1;
        if (d->hash[id] == hash && d->v[id].n == s.n && same_bytes(d->v[id].p, s.p, s.n))
            return id;
    }
    if (!d->slot[at])
        d->slot[at] = d->n + 1;
    if (c->type == ATTR_STR)
        filter_add(bb, hash64);
    d->v[d->n] = s;
    d->hash[d->n] = hash;
    return d->n++;
}

enum { STRIP = 64, STRIP_KEYS = 32 };

/* Some rows of a shape, and their values of some keys. Attribute records lie all over the batches:
 * read row by row with no branch between them, the misses of many rows overlap. */
struct strip {
    uint32_t n;
    const char *heap[STRIP];
    union attr_value v[STRIP_KEYS][STRIP];
};

/* Keys [slot, slot + keys) of the shape. */
static void strip_read(struct strip *s, const struct rows_in *in, const uint32_t *rows, uint32_t n,
                       uint32_t slot, uint32_t keys)
{
    s->n = n;
    for (uint32_t i = 0; i < n; i++) {
        const struct attr_rec *a = in->attrs[rows[i]] + slot;
        s->heap[i] = in->heap[rows[i]];
        for (uint32_t j = 0; j < keys; j++)
            s->v[j][i] = a[j].v;
    }
}

static void put_strs(struct block_builder *bb, struct col *c, const struct strip *s,
                     const union attr_value *v, uint64_t *out)
{
    const char *p = NULL; /* the value before */
    uint32_t len = 0, id = 0;
    for (uint32_t i = 0; i < s->n; i++)
        __builtin_prefetch(s->heap[i] + v[i].s.off);
    for (uint32_t i = 0; i < s->n; i++) {
        const char *q = s->heap[i] + v[i].s.off;
        if (!p || v[i].s.len != len || (q != p && !same_bytes(p, q, len))) {
            len = v[i].s.len;
            id = dict_number(bb, c, str_of(q, len));
        }
        p = q;
        out[i] = id;
    }
}

static void filter_add_int(struct block_builder *bb, const struct col *c, uint64_t bits)
{
    uint64_t hash = filter_hash_int(bits, c->seed),
             *recent = &bb->recent[hash % ARRAY_LEN(bb->recent)];
    if (*recent != hash) {
        *recent = hash;
        filter_add(bb, hash);
    }
}

static void put_ints(struct block_builder *bb, struct col *c, const struct strip *s,
                     const union attr_value *v, uint64_t *out)
{
    for (uint32_t i = 0; i < s->n; i++) {
        out[i] = v[i].bits ^ INT_FLIP;
        if (!i || out[i] != out[i - 1])
            filter_add_int(bb, c, v[i].bits);
    }
}

static void put_values(struct block_builder *bb, struct col *c, const struct strip *s,
                       const union attr_value *v, uint64_t *out)
{
    if (attr_is_str(c->type))
        put_strs(bb, c, s, v, out);
    else if (c->type == ATTR_INT)
        put_ints(bb, c, s, v, out);
    else if (c->type != ATTR_EMPTY)
        memcpy(out, v, s->n * sizeof *out);
}

/* The values of n rows of one shape; first[j]: where those of its key j begin. */
static void put_records(struct block_builder *bb, const struct keylist *list, const uint32_t *first,
                        const struct rows_in *in, const uint32_t *rows, uint32_t n)
{
    const uint32_t *cols = bb->list_pool + list->at;
    struct strip s;
    for (uint32_t i = 0; i < n; i += STRIP)
        for (uint32_t slot = 0; slot < list->n; slot += STRIP_KEYS) {
            uint32_t keys = list->n - slot < STRIP_KEYS ? list->n - slot : STRIP_KEYS;
            strip_read(&s, in, rows + i, n - i < STRIP ? n - i : STRIP, slot, keys);
            for (uint32_t j = 0; j < keys; j++) {
                struct col *c = &bb->cols[cols[slot + j]];
                put_values(bb, c, &s, s.v[j], c->vals ? c->vals + first[slot + j] + i : NULL);
            }
        }
}

/* --- values of given rows --- */

static inline uint64_t given_value(const struct given_row *r, uint32_t slot)
{
    const struct given_key *k = &r->keys[slot];
    return k->col->v[k->at + r->rank];
}

static void put_given_strs(struct block_builder *bb, struct col *c, const struct given_row *given,
                           const uint32_t *rows, uint32_t n, uint32_t slot, uint64_t *out)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct given_row *row = &given[rows[i]];
        struct given_col *from = row->keys[slot].col;
        uint32_t id = (uint32_t)given_value(row, slot);
        if (UNLIKELY(from->group != bb->group_no)) {
            from->group = bb->group_no;
            memset(from->number, 0xff, from->strs->distinct * sizeof *from->number);
        }
        if (from->number[id] == NO_ID)
            from->number[id] = dict_number(bb, c, strs_value(from->strs, id));
        out[i] = from->number[id];
    }
}

static void put_given_nums(struct block_builder *bb, struct col *c, const struct given_row *given,
                           const uint32_t *rows, uint32_t n, uint32_t slot, uint64_t *out)
{
    for (uint32_t i = 0; i < n; i++) {
        out[i] = given_value(&given[rows[i]], slot);
        if (c->type == ATTR_INT && (!i || out[i] != out[i - 1]))
            filter_add_int(bb, c, out[i] ^ INT_FLIP);
    }
}

static void put_given(struct block_builder *bb, const struct keylist *list, const uint32_t *first,
                      const struct rows_in *in, const uint32_t *rows, uint32_t n)
{
    for (uint32_t j = 0; j < list->n; j++) {
        struct col *c = &bb->cols[bb->list_pool[list->at + j]];
        if (attr_is_str(c->type))
            put_given_strs(bb, c, in->given, rows, n, j, c->vals + first[j]);
        else if (c->type != ATTR_EMPTY)
            put_given_nums(bb, c, in->given, rows, n, j, c->vals + first[j]);
    }
}

/* --- tables --- */

static struct rows_by_shape group_by_shape(struct block_builder *bb, const struct rows_in *in)
{
    struct shape *shapes = bb->shapes[in->table].v;
    struct rows_by_shape by = {.shapes = group_alloc(bb, in->n, 4),
                               .order = group_alloc(bb, in->n, 4),
                               .local = group_alloc(bb, in->n, 8)};
    for (uint32_t i = 0; i < in->n; i++) {
        struct shape *s = &shapes[in->shape[i]];
        if (s->local == NO_ID) {
            s->local = 0;
            s->at = 0;
            by.shapes[by.shape_count++] = in->shape[i];
        }
        s->at++; /* first a count, then a position */
    }
    qsort(by.shapes, by.shape_count, sizeof *by.shapes, cmp_u32);
    uint32_t at = 0;
    for (uint32_t k = 0; k < by.shape_count; k++) {
        struct shape *s = &shapes[by.shapes[k]];
        uint32_t count = s->at;
        s->local = k;
        s->at = at;
        at += count;
    }
    for (uint32_t i = 0; i < in->n; i++) {
        struct shape *s = &shapes[in->shape[i]];
        by.local[i] = s->local;
        by.order[s->at++] = i;
    }
    for (uint32_t k = 0; k < by.shape_count; k++)
        shapes[by.shapes[k]].local = NO_ID;
    return by;
}

static uint32_t shape_end(const struct block_builder *bb, const struct rows_in *in,
                          const struct rows_by_shape *by, uint32_t k)
{
    return bb->shapes[in->table].v[by->shapes[k]].at;
}

static void count_values(struct block_builder *bb, const struct keylist *list, uint32_t rows)
{
    for (uint32_t j = 0; j < list->n; j++) {
        uint32_t no = bb->list_pool[list->at + j];
        struct col *c = &bb->cols[no];
        if (!c->n) {
            bb->touched = vec_room(bb->touched, &bb->touched_cap, bb->touched_n + (size_t)1,
                                   sizeof *bb->touched);
            bb->touched[bb->touched_n++] = no;
            c->dict = (struct dict){0};
        }
        c->n += rows;
    }
}

/* The values of n rows, which have one shape. */
static void put_shape(struct block_builder *bb, const struct rows_in *in,
                      const struct keylist *list, const uint32_t *rows, uint32_t n)
{
    const uint32_t *cols = bb->list_pool + list->at;
    uint32_t *first = group_alloc(bb, list->n, sizeof *first);
    for (uint32_t j = 0; j < list->n; j++) {
        first[j] = bb->cols[cols[j]].n;
        bb->cols[cols[j]].n += n;
    }
    if (in->given)
        put_given(bb, list, first, in, rows, n);
    else
        put_records(bb, list, first, in, rows, n);
}

static uint64_t longest(const struct rows_in *in, const uint32_t *rows, uint32_t n)
{
    uint64_t ns = 0;
    for (uint32_t i = 0; in->lasted && i < n; i++)
        ns = max_u64(ns, in->lasted[rows[i]]);
    return ns;
}

/* Fills the attribute columns of the table and its part of the directory. */
static struct rows_by_shape put_table(struct block_builder *bb, struct chunks *cs,
                                      const struct rows_in *in)
{
    struct rows_by_shape by = group_by_shape(bb, in);
    const struct shape *shapes = bb->shapes[in->table].v;
    uint32_t first = bb->touched_n;
    group_table(bb, cs, in->n, by.shape_count);
    for (uint32_t k = 0, at = 0; k < by.shape_count; k++) {
        uint32_t end = shape_end(bb, in, &by, k);
        group_shape(bb, cs, in->table, by.shapes[k], end - at,
                    longest(in, by.order + at, end - at));
        count_values(bb, &bb->lists[shapes[by.shapes[k]].list], end - at);
        at = end;
    }
    for (uint32_t i = first; i < bb->touched_n; i++) {
        struct col *c = &bb->cols[bb->touched[i]];
        c->vals = c->type == ATTR_EMPTY ? NULL : group_alloc(bb, c->n, 8);
        c->n = 0;
    }
    for (uint32_t k = 0, at = 0; k < by.shape_count; k++) {
        uint32_t end = shape_end(bb, in, &by, k);
        put_shape(bb, in, &bb->lists[shapes[by.shapes[k]].list], by.order + at, end - at);
        at = end;
    }
    return by;
}

/* --- columns --- */

/* A column of zeros is left out. */
static void chunk_nums(struct block_builder *bb, struct chunks *cs, uint32_t no, const uint64_t *v,
                       uint32_t n)
{
    uint64_t any = 0;
    for (uint32_t i = 0; i < n; i++)
        any |= v[i];
    if (!any)
        return;
    size_t from = bb->out.n;
    pack_nums(&bb->pack, v, n);
    group_column(bb, cs, no, from);
}

static void chunk_bytes(struct block_builder *bb, struct chunks *cs, uint32_t no, const void *p,
                        size_t n)
{
    size_t from = bb->out.n;
    if (n)
        pack_bytes(&bb->pack, p, n);
    group_column(bb, cs, no, from);
}

/* A fixed column of strings; left out when all are empty. */
static void chunk_strs(struct block_builder *bb, struct chunks *cs, uint32_t no,
                       const struct str *v, uint32_t n)
{
    struct col c = {.type = ATTR_BYTES};
    uint64_t *id = group_alloc(bb, n, sizeof *id);
    size_t any = 0, from = bb->out.n;
    for (uint32_t i = 0; i < n; i++)
        any |= v[i].n;
    if (!any)
        return;
    for (uint32_t i = 0; i < n; i++)
        id[i] = i && str_eq(v[i], v[i - 1]) ? id[i - 1] : dict_number(bb, &c, v[i]);
    pack_strs(&bb->pack, id, n, c.dict.v, c.dict.n);
    group_column(bb, cs, no, from);
}

static void chunk_attrs(struct block_builder *bb, struct chunks *cs)
{
    if (bb->touched_n)
        qsort(bb->touched, bb->touched_n, sizeof *bb->touched, cmp_u32);
    for (uint32_t i = 0; i < bb->touched_n; i++) {
        struct col *c = &bb->cols[bb->touched[i]];
        size_t from = bb->out.n;
        if (attr_is_str(c->type))
            pack_strs(&bb->pack, c->vals, c->n, c->dict.v, c->dict.n);
        else if (c->type != ATTR_EMPTY)
            pack_nums(&bb->pack, c->vals, c->n);
        group_column(bb, cs, COL_ATTRS + bb->touched[i], from);
        c->n = 0;
    }
    bb->touched_n = 0;
}

/* --- the filter --- */

static void write_filter(struct block_builder *bb)
{
    uint64_t bits = (uint64_t)bb->hash_n * FILTER_BITS;
    uint32_t pages = (uint32_t)((bits + FILTER_BLOCKS * 256 - 1) / (FILTER_BLOCKS * 256));
    uint32_t blocks = pages * FILTER_BLOCKS;
    size_t from = bb->out.n;
    buf_add_zero(&bb->out, (size_t)pages * FILTER_PAGE_BYTES);
    if (bb->out.failed)
        return;
    char *page0 = bb->out.p + from;
    for (uint32_t i = 0; i < bb->hash_n; i++) {
        uint32_t at = filter_at(bb->hashes[i], blocks);
        char *p = page0 + (size_t)(at / FILTER_BLOCKS) * FILTER_PAGE_BYTES +
                  at % FILTER_BLOCKS * 32;
        for (unsigned w = 0; w < 8; w++)
            store_u32le(p + 4 * w, load_u32le(p + 4 * w) | filter_bit(bb->hashes[i], w));
    }
    for (uint32_t i = 0; i < pages; i++) {
        char *p = page0 + (size_t)i * FILTER_PAGE_BYTES;
        store_u32le(p + FILTER_BLOCKS * 32, crc32c(0, p, FILTER_BLOCKS * 32));
    }
}

/* --- events and links --- */

struct child_rows {
    struct rows_in in;
    uint32_t *shape;
    const struct attr_rec **attrs;
    const char **heap;
    struct given_row *given;
};

static struct child_rows child_rows(struct block_builder *bb, enum block_table table, size_t n)
{
    ensure(n <= COLUMN_VALUES_MAX);
    struct child_rows c = {.shape = group_alloc(bb, n, 4)};
    if (bb->given) {
        c.given = group_alloc(bb, n, sizeof *c.given);
    } else {
        c.attrs = group_alloc(bb, n, sizeof *c.attrs);
        c.heap = group_alloc(bb, n, sizeof *c.heap);
    }
    c.in = (struct rows_in){.table = table,
                            .n = (uint32_t)n,
                            .shape = c.shape,
                            .attrs = c.attrs,
                            .heap = c.heap,
                            .given = c.given};
    return c;
}

static inline void take_given(struct child_rows *c, uint32_t k, const struct given_row *row)
{
    c->shape[k] = row->shape;
    c->given[k] = *row;
}

static inline void take_attrs(struct child_rows *c, uint32_t k, uint32_t shape,
                              const struct batch *b, uint32_t attr_at)
{
    c->shape[k] = shape;
    c->attrs[k] = b->attrs + attr_at;
    c->heap[k] = b->heap;
}

static struct rows_by_shape put_events(struct block_builder *bb, struct chunks *cs,
                                       const struct row *rows, uint32_t n, const uint64_t *count,
                                       size_t total, uint64_t **time, uint64_t **dropped)
{
    struct child_rows c = child_rows(bb, TABLE_EVENT, total);
    *time = group_alloc(bb, total, 8);
    *dropped = group_alloc(bb, total, 8);
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!count[i])
            continue;
        const struct span_rec *s = rows[i].rec;
        const struct batch *b = bb->batches[rows[i].batch];
        for (uint32_t j = s->event_at; j < s->event_at + s->event_count; j++, k++) {
            if (bb->given)
                take_given(&c, k, &bb->given[rows[i].batch].event[j]);
            else
                take_attrs(&c, k, bb->maps[rows[i].batch].event_shape[j], b, b->events[j].attr_at);
            (*time)[k] = zigzag((int64_t)(b->events[j].time_ns - s->start_ns));
            (*dropped)[k] = b->events[j].dropped;
        }
    }
    return put_table(bb, cs, &c.in);
}

struct link_fields {
    uint8_t *trace_id, *span_id;
    struct str *state;
    uint64_t *dropped, *flags;
};

static struct rows_by_shape put_links(struct block_builder *bb, struct chunks *cs,
                                      const struct row *rows, uint32_t n, const uint64_t *count,
                                      size_t total, struct link_fields *out)
{
    struct child_rows c = child_rows(bb, TABLE_LINK, total);
    *out = (struct link_fields){group_alloc(bb, total, 16), group_alloc(bb, total, 8),
                                group_alloc(bb, total, sizeof(struct str)),
                                group_alloc(bb, total, 8), group_alloc(bb, total, 8)};
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!count[i])
            continue;
        const struct span_rec *s = rows[i].rec;
        const struct batch *b = bb->batches[rows[i].batch];
        for (uint32_t j = s->link_at; j < s->link_at + s->link_count; j++, k++) {
            const struct link_rec *l = &b->links[j];
            if (bb->given)
                take_given(&c, k, &bb->given[rows[i].batch].link[j]);
            else
                take_attrs(&c, k, bb->maps[rows[i].batch].link_shape[j], b, l->attr_at);
            memcpy(out->trace_id + (size_t)k * 16, l->trace_id, 16);
            memcpy(out->span_id + (size_t)k * 8, l->span_id, 8);
            out->state[k] = batch_str(b, l->trace_state);
            out->dropped[k] = l->dropped;
            out->flags[k] = l->flags;
        }
    }
    return put_table(bb, cs, &c.in);
}

/* --- the group --- */

/* Every field of the group's spans, taken from the records in one walk. */
struct span_fields {
    struct child_rows attrs;
    uint64_t *start, *difference, *lasted, *flags, *dropped[3], *events, *links, *parent;
    uint8_t *span_id, *orphan;
    struct str *trace_state, *message;
    size_t event_total, link_total, orphans;
};

static void fields_init(struct block_builder *bb, struct span_fields *f, uint32_t n)
{
    uint64_t **nums[] = {&f->start,      &f->difference, &f->lasted, &f->flags, &f->dropped[0],
                         &f->dropped[1], &f->dropped[2], &f->events, &f->links, &f->parent};
    *f = (struct span_fields){.attrs = child_rows(bb, TABLE_SPAN, n),
                              .span_id = group_alloc(bb, n, 8),
                              .orphan = group_alloc(bb, n, 8),
                              .trace_state = group_alloc(bb, n, sizeof(struct str)),
                              .message = group_alloc(bb, n, sizeof(struct str))};
    for (size_t i = 0; i < ARRAY_LEN(nums); i++)
        *nums[i] = group_alloc(bb, n, sizeof **nums[i]);
    f->attrs.in.lasted = f->lasted;
}

static void take_fields(struct block_builder *bb, struct span_fields *f, const struct row *rows,
                        const uint32_t *parents, uint32_t n)
{
    enum { AHEAD = 12 };
    for (uint32_t i = 0; i < n; i++) {
        const struct span_rec *s = rows[i].rec;
        const struct batch *b = bb->batches[rows[i].batch];
        if (i + AHEAD < n) {
            const char *next = (const char *)rows[i + AHEAD].rec;
            __builtin_prefetch(next);
            __builtin_prefetch(next + 64);
            __builtin_prefetch(next + sizeof *s - 1);
        }
        if (bb->given)
            take_given(&f->attrs, i, &bb->given[rows[i].batch].span[s - b->spans]);
        else
            take_attrs(&f->attrs, i, rows[i].shape, b, s->attr_at);
        f->difference[i] = s->end_ns - s->start_ns;
        f->lasted[i] = s->end_ns > s->start_ns ? s->end_ns - s->start_ns : 0;
        f->flags[i] = s->flags;
        f->dropped[0][i] = s->dropped_attrs;
        f->dropped[1][i] = s->dropped_events;
        f->dropped[2][i] = s->dropped_links;
        f->event_total += f->events[i] = s->event_count;
        f->link_total += f->links[i] = s->link_count;
        f->trace_state[i] = batch_str(b, s->trace_state);
        f->message[i] = batch_str(b, s->status_message);
        f->parent[i] = parents[i];
        if (parents[i] == PARENT_ORPHAN)
            store_u64be(f->orphan + 8 * f->orphans++, rows[i].parent_id);
        store_u64be(f->span_id + (size_t)i * 8, rows[i].span_id);
    }
}

/* Starts after the row before; what the group's times reach. */
static void take_starts(struct span_fields *f, const struct row *rows, uint32_t n,
                        const struct part *parts, struct group_info *g)
{
    uint64_t *v = f->start;
    const struct row *r = rows;
    for (const struct part *p = parts; r < rows + n; p++) {
        *v++ = 0;
        for (uint32_t i = 1; i < p->rows; i++)
            *v++ = r[i].start_ns - r[i - 1].start_ns;
        g->min_ns = min_u64(g->min_ns, r[0].start_ns);
        g->max_ns = max_u64(g->max_ns, r[p->rows - 1].start_ns);
        r += p->rows;
    }
    for (uint32_t i = 0; i < n; i++)
        g->max_duration_ns = max_u64(g->max_duration_ns, f->lasted[i]);
}

static void chunk_traces(struct block_builder *bb, struct chunks *cs, const struct row *rows,
                         const struct part *parts, uint32_t n)
{
    uint8_t *ids = group_alloc(bb, n, 16);
    uint64_t *count = group_alloc(bb, n, 8), *start = group_alloc(bb, n, 8);
    uint32_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        memcpy(ids + (size_t)i * 16, bb->traces[parts[i].trace].id, 16);
        count[i] = parts[i].rows;
        start[i] = rows[at].start_ns;
        at += parts[i].rows;
    }
    chunk_bytes(bb, cs, COL_TRACE_ID, ids, (size_t)n * 16);
    chunk_nums(bb, cs, COL_TRACE_ROWS, count, n);
    chunk_nums(bb, cs, COL_TRACE_START, start, n);
}

static void chunk_spans(struct block_builder *bb, struct chunks *cs, const struct span_fields *f,
                        const struct rows_by_shape *by, uint32_t n)
{
    uint64_t *difference = group_alloc(bb, n, 8);
    for (uint32_t i = 0; i < n; i++)
        difference[i] = zigzag((int64_t)f->difference[by->order[i]]);
    chunk_nums(bb, cs, COL_SHAPE, by->local, n);
    chunk_bytes(bb, cs, COL_SPAN_ID, f->span_id, (size_t)n * 8);
    chunk_nums(bb, cs, COL_PARENT, f->parent, n);
    chunk_bytes(bb, cs, COL_ORPHAN, f->orphan, 8 * f->orphans);
    chunk_nums(bb, cs, COL_START, f->start, n);
    chunk_nums(bb, cs, COL_DURATION, difference, n);
    chunk_nums(bb, cs, COL_FLAGS, f->flags, n);
    for (uint32_t k = 0; k < ARRAY_LEN(f->dropped); k++)
        chunk_nums(bb, cs, COL_DROPPED_ATTRS + k, f->dropped[k], n);
    chunk_strs(bb, cs, COL_TRACE_STATE, f->trace_state, n);
    chunk_strs(bb, cs, COL_MESSAGE, f->message, n);
    chunk_nums(bb, cs, COL_EVENTS, f->events, n);
    chunk_nums(bb, cs, COL_LINKS, f->links, n);
}

static void chunk_children(struct block_builder *bb, struct chunks *cs, const struct row *rows,
                           uint32_t n, const struct span_fields *f)
{
    uint64_t *time, *dropped;
    size_t events = f->event_total, links = f->link_total;
    struct rows_by_shape by = put_events(bb, cs, rows, n, f->events, events, &time, &dropped);
    chunk_nums(bb, cs, COL_EVENT_SHAPE, by.local, (uint32_t)events);
    chunk_nums(bb, cs, COL_EVENT_TIME, time, (uint32_t)events);
    chunk_nums(bb, cs, COL_EVENT_DROPPED, dropped, (uint32_t)events);
    struct link_fields l;
    by = put_links(bb, cs, rows, n, f->links, links, &l);
    chunk_nums(bb, cs, COL_LINK_SHAPE, by.local, (uint32_t)links);
    chunk_bytes(bb, cs, COL_LINK_TRACE_ID, l.trace_id, links * 16);
    chunk_bytes(bb, cs, COL_LINK_SPAN_ID, l.span_id, links * 8);
    chunk_strs(bb, cs, COL_LINK_STATE, l.state, (uint32_t)links);
    chunk_nums(bb, cs, COL_LINK_DROPPED, l.dropped, (uint32_t)links);
    chunk_nums(bb, cs, COL_LINK_FLAGS, l.flags, (uint32_t)links);
}

void group_write(struct block_builder *bb, uint32_t at, uint32_t n, const struct part *parts,
                 uint32_t part_count, struct group_info *g)
{
    const struct row *rows = bb->rows + at;
    struct chunks cs;
    size_t from = bb->out.n;
    arena_reset_warm(&bb->ga, GROUP_ARENA_KEEP);
    group_begin(bb, &cs);
    bb->hash_n = 0;
    bb->group_no++;
    for (uint32_t i = 0; i < ARRAY_LEN(bb->recent); i++)
        bb->recent[i] = i + 1; /* no hash that belongs here */
    *g = (struct group_info){.rows = n, .parts = part_count, .min_ns = UINT64_MAX};
    struct span_fields f;
    fields_init(bb, &f, n);
    take_fields(bb, &f, rows, bb->parents + at, n);
    take_starts(&f, rows, n, parts, g);
    chunk_traces(bb, &cs, rows, parts, part_count);
    struct rows_by_shape by = put_table(bb, &cs, &f.attrs.in);
    chunk_spans(bb, &cs, &f, &by, n);
    chunk_children(bb, &cs, rows, n, &f);
    chunk_attrs(bb, &cs);
    group_end(bb, &cs, part_count, from, g);
    size_t filter_from = bb->out.n;
    write_filter(bb);
    g->filter_len = bb->out.n - filter_from;
}
