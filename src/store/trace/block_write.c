/* SPDX-License-Identifier: Apache-2.0 */
/* The door of the builder, and the last step of a build: row groups are cut and written, then what
 * they share, then how to find them. The layout is told in docs/format/block.md.
 *
 *   1. A trace lies in one row group, unless it alone is larger than one: then its parts are the
 *      last of one group and the first of the next.
 *   2. Nothing in the file depends on anything but the batches: no clock, no seed, no addresses.
 *   3. Bytes leave in order, in pieces of WRITE_BYTES; the trailer is last, so a file cut short has
 *      none. */
#include "store/trace/block_build.h"

#include <stdlib.h>

#define WRITE_BYTES (1 * MIB)

/* Compression effort (ADR 004). */
#define BLOCK_LEVEL 1

struct block_builder *block_builder_new(void)
{
    struct block_builder *bb = xcalloc(1, sizeof *bb);
    bb->plan = arena_init(SIZE_MAX);
    bb->names = arena_init(SIZE_MAX);
    bb->ga = arena_init(SIZE_MAX);
    bb->out = bb->tail = bb->dir = bb->meta = bb->origin_blobs = buf_init(SIZE_MAX);
    bb->pack = (struct packer){.zstd = zstd_ctx_new(),
                               .level = BLOCK_LEVEL,
                               .out = &bb->out,
                               .plane = buf_init(SIZE_MAX),
                               .work = buf_init(SIZE_MAX)};
    return bb;
}

static void intern_fini(struct intern *in)
{
    free(in->tab.slot);
    free(in->v);
}

static void builder_fini(struct block_builder *bb)
{
    arena_fini(&bb->plan);
    arena_fini(&bb->names);
    arena_fini(&bb->ga);
    intern_fini(&bb->strings);
    intern_fini(&bb->services);
    struct idtab *tabs[] = {&bb->col_tab, &bb->list_tab, &bb->origin_tab, &bb->trace_tab,
                            &bb->edge_tab};
    for (size_t i = 0; i < ARRAY_LEN(tabs); i++)
        free(tabs[i]->slot);
    for (int i = 0; i < TABLE_COUNT; i++) {
        free(bb->shapes[i].tab.slot);
        free(bb->shapes[i].v);
    }
    void *arrays[] = {bb->cols,    bb->lists,    bb->list_pool, bb->origins,     bb->traces,
                      bb->rows,    bb->unsorted, bb->row_trace, bb->trace_order, bb->parents,
                      bb->edges,   bb->orphans,  bb->id_slots,  bb->groups,      bb->parts,
                      bb->touched, bb->hashes,   bb->index,     bb->words};
    for (size_t i = 0; i < ARRAY_LEN(arrays); i++)
        free(arrays[i]);
    struct buf *bufs[] = {&bb->out,          &bb->tail,       &bb->dir,      &bb->meta,
                          &bb->origin_blobs, &bb->pack.plane, &bb->pack.work};
    for (size_t i = 0; i < ARRAY_LEN(bufs); i++)
        buf_fini(bufs[i]);
    zstd_ctx_free(bb->pack.zstd);
}

void block_builder_free(struct block_builder *bb)
{
    if (!bb)
        return;
    builder_fini(bb);
    free(bb);
}

void block_builder_trim(struct block_builder *bb)
{
    struct block_builder *fresh = block_builder_new();
    builder_fini(bb);
    *bb = *fresh;
    bb->pack.out = &bb->out;
    free(fresh);
}

static void intern_reset(struct intern *in, struct arena *keep)
{
    idtab_reset(&in->tab);
    in->n = 0;
    in->keep = keep;
}

void builder_begin(struct block_builder *bb, bool copies)
{
    arena_reset(&bb->names);
    intern_reset(&bb->strings, copies ? &bb->names : NULL);
    intern_reset(&bb->services, copies ? &bb->names : NULL);
    idtab_reset(&bb->col_tab);
    idtab_reset(&bb->list_tab);
    idtab_reset(&bb->origin_tab);
    idtab_reset(&bb->edge_tab);
    for (int i = 0; i < TABLE_COUNT; i++) {
        idtab_reset(&bb->shapes[i].tab);
        bb->shapes[i].n = 0;
    }
    bb->col_count = bb->list_count = bb->pool_n = bb->origin_count = bb->word_n = 0;
    bb->edge_count = bb->orphan_count = 0;
    bb->group_count = bb->index_n = bb->part_total = bb->touched_n = 0;
    buf_reset(&bb->out);
    buf_reset(&bb->meta);
    buf_reset(&bb->origin_blobs);
    bb->written = bb->max_end_ns = 0;
}

/* --- file --- */

static enum errc flush(struct block_builder *bb, size_t least, struct err *e)
{
    if (bb->out.failed)
        return fail(e, E_NO_MEMORY, "no memory for a block");
    if (bb->out.n < least)
        return E_OK;
    enum errc code = os_pwrite(bb->file, buf_str(&bb->out), bb->written, e);
    bb->written += bb->out.n;
    buf_reset(&bb->out);
    return code;
}

/* --- row groups --- */

static void add_part(struct block_builder *bb, uint32_t trace, uint32_t rows)
{
    bb->parts = vec_room(bb->parts, &bb->part_cap, bb->part_count + (size_t)1, sizeof *bb->parts);
    bb->parts[bb->part_count++] = (struct part){trace, rows};
}

/* The group being collected. */
struct cut {
    uint32_t row, rows, part; /* first row, rows so far, first part */
    uint64_t bytes;
    bool continues;
};

void builder_index(struct block_builder *bb, const uint8_t trace_id[16], uint32_t part)
{
    bb->index = vec_room(bb->index, &bb->index_cap, bb->index_n + (size_t)1, sizeof *bb->index);
    bb->index[bb->index_n++] = block_index_entry(trace_id, bb->part_total + part);
}

enum errc builder_add_group(struct block_builder *bb, const struct group_info *g, struct err *e)
{
    bb->groups = vec_room(bb->groups, &bb->group_cap, bb->group_count + (size_t)1,
                          sizeof *bb->groups);
    bb->groups[bb->group_count++] = *g;
    ensure(g->parts <= UINT32_MAX - bb->part_total);
    bb->part_total += g->parts;
    return flush(bb, WRITE_BYTES, e);
}

static enum errc cut_group(struct block_builder *bb, struct cut *c, bool next_continues,
                           struct err *e)
{
    struct group_info g;
    if (!c->rows)
        return E_OK;
    uint32_t parts = bb->part_count - c->part;
    group_write(bb, c->row, c->rows, bb->parts + c->part, parts, &g);
    g.continues = c->continues;
    for (uint32_t i = g.continues; i < parts; i++)
        builder_index(bb, bb->traces[bb->parts[c->part + i].trace].id, i);
    *c = (struct cut){.row = c->row + c->rows, .part = bb->part_count, .continues = next_continues};
    return builder_add_group(bb, &g, e);
}

/* How many rows from `at` on, at most n, fill an empty group. */
static uint32_t rows_that_fit(const struct block_builder *bb, uint32_t at, uint32_t n,
                              uint64_t *bytes)
{
    uint32_t i = 0;
    for (*bytes = 0; i < n && i < GROUP_ROWS && *bytes < GROUP_BYTES; i++)
        *bytes += bb->maps[bb->rows[at + i].batch].span_bytes;
    return i;
}

static enum errc write_groups(struct block_builder *bb, struct err *e)
{
    struct cut c = {0};
    enum errc code = E_OK;
    for (uint32_t i = 0; i < bb->trace_count && !code; i++) {
        uint32_t trace = bb->trace_order[i], at = bb->traces[trace].at;
        uint32_t left = bb->traces[trace].count;
        uint64_t bytes;
        uint32_t fit = rows_that_fit(bb, at, left, &bytes);
        if (c.rows + left > GROUP_ROWS || fit < left || c.bytes + bytes > GROUP_BYTES)
            code = cut_group(bb, &c, false, e);
        for (; fit < left && !code; fit = rows_that_fit(bb, at, left, &bytes)) {
            add_part(bb, trace, fit);
            c.rows += fit;
            at += fit;
            left -= fit;
            code = cut_group(bb, &c, true, e);
        }
        add_part(bb, trace, left);
        c.rows += left;
        c.bytes += bytes;
    }
    return code ? code : cut_group(bb, &c, false, e);
}

/* --- meta --- */

static void meta_shape(struct buf *m, enum block_table table, const struct shape *s)
{
    if (table == TABLE_SPAN) {
        pack_varint(m, s->origin);
        buf_add_char(m, (char)(s->kind | s->status << 4));
    }
    if (table != TABLE_LINK)
        pack_varint(m, s->name);
    pack_varint(m, s->list);
}

static void put_meta(struct block_builder *bb)
{
    struct buf *m = &bb->meta;
    pack_varint(m, bb->strings.n);
    for (uint32_t i = 0; i < bb->strings.n; i++)
        pack_str(m, bb->strings.v[i]);
    pack_varint(m, bb->col_count);
    for (uint32_t i = 0; i < bb->col_count; i++) {
        buf_add_char(m, (char)(bb->cols[i].scope | bb->cols[i].type << 4));
        pack_varint(m, bb->cols[i].key);
    }
    pack_varint(m, bb->list_count);
    for (uint32_t i = 0; i < bb->list_count; i++) {
        pack_varint(m, bb->lists[i].n);
        for (uint32_t j = 0; j < bb->lists[i].n; j++)
            pack_varint(m, bb->list_pool[bb->lists[i].at + j]);
    }
    pack_varint(m, bb->origin_count);
    for (uint32_t i = 0; i < bb->origin_count; i++)
        pack_str(m, str_of(bb->origin_blobs.p + bb->origins[i].blob_at, bb->origins[i].blob_len));
    for (int t = 0; t < TABLE_COUNT; t++) {
        pack_varint(m, bb->shapes[t].n);
        for (uint32_t i = 0; i < bb->shapes[t].n; i++)
            meta_shape(m, t, &bb->shapes[t].v[i]);
    }
}

/* --- tail --- */

static int cmp_u32(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return (a > b) - (a < b);
}

/* Fingerprints in order, then for each the number of the chain's first part. */
static void put_index(struct block_builder *bb)
{
    if (bb->index_n)
        qsort(bb->index, bb->index_n, sizeof *bb->index, block_index_cmp);
    for (uint32_t i = 0; i < bb->index_n; i++)
        buf_add(&bb->out, (const char *)&bb->index[i] + 4, 4);
    for (uint32_t i = 0; i < bb->index_n; i++)
        buf_add(&bb->out, &bb->index[i], 4);
}

/* Every service, span name and attribute key as a 32-bit hash; returns how many, 0 when too many.
 */
static uint32_t put_words(struct block_builder *bb)
{
    size_t most = bb->services.n + (size_t)bb->shapes[TABLE_SPAN].n + bb->col_count + bb->word_n;
    uint32_t *v = arena_alloc(&bb->plan, most * sizeof *v + 4, 4), n = 0, kept = 0;
    ensure(v);
    for (uint32_t i = 0; i < bb->services.n; i++)
        v[n++] = block_word(bb->services.v[i], WORD_SERVICE);
    for (uint32_t i = 0; i < bb->shapes[TABLE_SPAN].n; i++)
        v[n++] = block_word(bb->strings.v[bb->shapes[TABLE_SPAN].v[i].name], WORD_NAME);
    for (uint32_t i = 0; i < bb->col_count; i++)
        v[n++] = block_word(bb->strings.v[bb->cols[i].key], WORD_KEY);
    for (uint32_t i = 0; i < bb->word_n; i++)
        v[n++] = bb->words[i];
    if (n)
        qsort(v, n, sizeof *v, cmp_u32);
    for (uint32_t i = 0; i < n; i++)
        if (!i || v[i] != v[i - 1])
            v[kept++] = v[i];
    if (kept > BLOCK_WORDS_MAX)
        return 0;
    buf_add(&bb->out, v, kept * sizeof *v);
    return kept;
}

static void put_root(struct block_builder *bb, const struct block_meta *m, uint32_t words,
                     uint64_t meta_len, uint32_t meta_crc)
{
    struct buf *out = &bb->out;
    pack_varint(out, m->span_count);
    pack_varint(out, m->trace_count);
    pack_varint(out, m->min_ns);
    pack_varint(out, m->max_ns);
    pack_varint(out, m->max_end_ns);
    pack_varint(out, words);
    pack_varint(out, bb->meta.n);
    pack_varint(out, meta_len);
    pack_varint(out, meta_crc);
    pack_varint(out, bb->group_count);
    for (uint32_t i = 0; i < bb->group_count; i++) {
        const struct group_info *g = &bb->groups[i];
        pack_varint(out, g->data_len);
        pack_varint(out, g->dir_len);
        pack_varint(out, g->filter_len);
        pack_varint(out, g->dir_crc);
        pack_varint(out, g->rows);
        pack_varint(out, (uint64_t)g->parts << 1 | g->continues);
        pack_varint(out, g->min_ns);
        pack_varint(out, g->max_ns);
        pack_varint(out, g->max_duration_ns);
    }
}

static void put_trailer(struct block_builder *bb, size_t root_len, size_t tail_at)
{
    uint64_t tail_off = bb->written + tail_at;
    struct block_trailer t = {.magic = BLOCK_MAGIC,
                              .version = BLOCK_VERSION,
                              .root_len = (uint32_t)root_len,
                              .tail_off = tail_off,
                              .file_bytes = bb->written + bb->out.n + sizeof t,
                              .tail_crc = crc32c(0, bb->out.p + tail_at, bb->out.n - tail_at)};
    t.crc = crc32c(0, &t, offsetof(struct block_trailer, crc));
    buf_add(&bb->out, &t, sizeof t);
}

static struct block_meta totals(const struct block_builder *bb)
{
    struct block_meta m = {
        .trace_count = bb->index_n, .min_ns = UINT64_MAX, .max_end_ns = bb->max_end_ns};
    for (uint32_t i = 0; i < bb->group_count; i++) {
        m.span_count += bb->groups[i].rows;
        m.min_ns = min_u64(m.min_ns, bb->groups[i].min_ns);
        m.max_ns = max_u64(m.max_ns, bb->groups[i].max_ns);
    }
    return m;
}

static void put_shared(struct block_builder *bb, struct block_meta *m)
{
    put_meta(bb);
    size_t meta_at = bb->out.n;
    pack_bytes(&bb->pack, bb->meta.p, bb->meta.n);
    uint64_t meta_len = bb->out.n - meta_at;
    uint32_t meta_crc = bb->out.failed ? 0 : crc32c(0, bb->out.p + meta_at, meta_len);
    size_t tail_at = bb->out.n;
    put_index(bb);
    uint32_t words = put_words(bb);
    size_t root_at = bb->out.n;
    put_root(bb, m, words, meta_len, meta_crc);
    if (!bb->out.failed)
        put_trailer(bb, bb->out.n - root_at, tail_at);
    m->file_bytes = bb->written + bb->out.n;
}

static void put_head(struct block_builder *bb)
{
    struct block_head h = {.magic = BLOCK_MAGIC, .version = BLOCK_VERSION};
    h.crc = crc32c(0, &h, offsetof(struct block_head, crc));
    buf_add(&bb->out, &h, sizeof h);
}

/* --- summary --- */

static int cmp_op(const void *x, const void *y)
{
    const struct block_op *a = x, *b = y;
    int c = str_cmp(a->service, b->service);
    c = c ? c : str_cmp(a->name, b->name);
    return c ? c : (int)a->kind - (int)b->kind;
}

static int cmp_orphan(const void *x, const void *y)
{
    const struct block_orphan *a = x, *b = y;
    int c = memcmp(a->trace_id, b->trace_id, 16);
    c = c ? c : memcmp(a->parent_id, b->parent_id, 8);
    c = c ? c : (a->service > b->service) - (a->service < b->service);
    return c ? c : (a->minute > b->minute) - (a->minute < b->minute);
}

static bool sum_ops(struct block_builder *bb, struct arena *a, struct block_summary *out)
{
    const struct shapes *t = &bb->shapes[TABLE_SPAN];
    struct block_op *ops = ARENA_ARRAY(a, struct block_op, t->n);
    if (!ops && t->n)
        return false;
    for (uint32_t i = 0; i < t->n; i++) {
        const struct shape *s = &t->v[i];
        ops[i] = (struct block_op){.service = bb->services.v[bb->origins[s->origin].service],
                                   .name = bb->strings.v[s->name],
                                   .kind = s->kind,
                                   .span_count = s->count,
                                   .error_count = s->status == STATUS_ERROR ? s->count : 0,
                                   .last_seen_ns = s->last_ns};
    }
    if (t->n)
        qsort(ops, t->n, sizeof *ops, cmp_op);
    size_t n = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        if (n && cmp_op(&ops[n - 1], &ops[i]) == 0) {
            ops[n - 1].span_count += ops[i].span_count;
            ops[n - 1].error_count += ops[i].error_count;
            ops[n - 1].last_seen_ns = max_u64(ops[n - 1].last_seen_ns, ops[i].last_seen_ns);
        } else {
            ops[n++] = ops[i];
        }
    }
    for (size_t i = 0; i < n; i++) {
        bool same = i && str_eq(ops[i].service, ops[i - 1].service);
        ops[i].service = same ? ops[i - 1].service : arena_str(a, ops[i].service);
        ops[i].name = arena_str(a, ops[i].name);
    }
    out->ops = ops;
    out->op_count = n;
    return true;
}

static bool summarise(struct block_builder *bb, struct arena *a, struct block_summary *out)
{
    out->service_count = bb->services.n;
    out->services = ARENA_ARRAY(a, struct str, bb->services.n);
    out->edge_count = bb->edge_count;
    out->edges = ARENA_ARRAY(a, struct block_edge, bb->edge_count);
    out->orphan_count = bb->orphan_count;
    out->orphans = ARENA_ARRAY(a, struct block_orphan, bb->orphan_count);
    if (!sum_ops(bb, a, out) || a->failed)
        return false;
    for (uint32_t i = 0; i < bb->services.n; i++)
        out->services[i] = arena_str(a, bb->services.v[i]);
    for (uint32_t i = 0; i < bb->edge_count; i++) {
        const struct edge *e = &bb->edges[i];
        out->edges[i] = (struct block_edge){e->minute, e->parent, e->child, e->calls};
    }
    if (bb->orphan_count) {
        memcpy(out->orphans, bb->orphans, bb->orphan_count * sizeof *out->orphans);
        qsort(out->orphans, out->orphan_count, sizeof *out->orphans, cmp_orphan);
    }
    return !a->failed;
}

/* --- the doors --- */

enum errc builder_open(struct block_builder *bb, struct os *os, const char *path, struct err *e)
{
    os_random(os, bb->seed, sizeof bb->seed);
    enum errc code = os_open(os, path, OS_WRITE | OS_FRESH, &bb->file, e);
    if (!code)
        put_head(bb);
    return code;
}

enum errc builder_run(struct block_builder *bb, const struct batch *const *batches,
                      const struct given *given, size_t n, struct err *e)
{
    plan_spans(bb, batches, given, n);
    return write_groups(bb, e);
}

enum errc builder_end(struct block_builder *bb, struct block_meta *out, struct err *e)
{
    *out = totals(bb);
    put_shared(bb, out);
    enum errc code = flush(bb, 1, e);
    return code ? code : os_sync(bb->file, e);
}

void builder_close(struct block_builder *bb)
{
    os_close(bb->file);
    bb->file = NULL;
    bb->batches = NULL;
}

enum errc block_build(struct block_builder *bb, struct os *os, const char *path,
                      const struct batch *const *batches, size_t batch_count, struct arena *a,
                      struct block_summary *out, struct err *e)
{
    *out = (struct block_summary){0};
    builder_begin(bb, false);
    enum errc code = builder_open(bb, os, path, e);
    if (code)
        return code;
    if (!(code = builder_run(bb, batches, NULL, batch_count, e)))
        code = builder_end(bb, &out->meta, e);
    if (!code && !summarise(bb, a, out))
        code = fail(e, E_NO_MEMORY, "no memory for a block's summary");
    builder_close(bb);
    return code;
}
