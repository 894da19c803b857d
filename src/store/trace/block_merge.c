/* SPDX-License-Identifier: Apache-2.0 */
/* Several blocks of one tenant become one, a row group at a step.
 *
 * The inputs are cut into units: a row group, or the row groups that one large trace chains
 * together. Most units are copied: their columns go over as they are, checked by their checksums
 * but not decoded; only the directory is written anew, with the numbers of the new block. That
 * costs a fraction of building. A unit is rebuilt, which means read as spans and run through the
 * builder, where that makes the block better:
 *
 *   - a trace of it has chains in other units: they become one, so that a reader finds the trace
 *     in one place and its parents are ordinals;
 *   - it has less than half the rows of a full row group;
 *   - the caller wants to change what is in it.
 *
 * Invariants
 *   1. Each chain of the inputs is written exactly once: with its unit, or in the run that takes
 *      the first chain of its trace. (A trace that would fill more than a row group is left as the
 *      chains it has, and one that lies in more row groups than may be open at a time is joined in
 *      as many chains as that takes.)
 *   2. A row group that rows are taken from is opened once, and closed when the last are written.
 *   3. Memory is bounded: 56 bytes a chain, the rows of a run (one row group), and the open row
 *      groups: SOURCES_BYTES_MAX, and one more. While they hold as much, only what lies in them is
 *      taken; the rest waits until they are closed, so it is out of the order of time.
 *   4. Without a change the block has as many spans as the inputs; block_merge_step checks it. */
#include "store/trace/block_records.h"

#include <stdlib.h>

#define SMALL_ROWS (GROUP_ROWS / 2)
/* Spans of one run, decoded: none is begun behind so much, and one trace may take more. */
#define SPANS_BYTES   (2 * GROUP_BYTES)
#define RUN_BYTES_MAX (512 * MIB)
/* What the open row groups may hold, and what each costs besides (a decompressor). */
#define SOURCES_BYTES_MAX (64 * MIB)
#define SOURCE_BYTES      (256 * KIB)
/* Memory of a reader that stays for the next row group. */
#define SOURCE_KEEP (4 * MIB)
/* Written bytes that are synced together: a large block must not reach the disk in one gulp while
 * acknowledgements wait for the same disk. */
#define SYNC_BYTES (8 * MIB)

struct chain {
    uint8_t id[16];
    uint64_t start_ns;
    uint32_t input, unit, group, part, rows;
    uint32_t next; /* of the same trace, to be joined with it */
    bool taken;
};

struct unit {
    uint64_t start_ns;
    uint32_t input, group, groups;
    uint32_t chain, chains; /* its first chain; how many */
    uint32_t rows;
    bool rebuild;
};

/* What the numbers of an input are in the output; NO_ID until they are asked for. */
struct numbers {
    uint32_t *string, *col, *list, *origin, *shape[TABLE_COUNT];
};

struct input {
    struct block *block;
    struct numbers to;
    struct trace_read read; /* spans of the run, while there is a change to make */
    /* else records */
    struct record_rows **open; /* of each row group; NULL: not open */
    uint32_t *left;            /* of each row group: chains that are still to be rebuilt */
    struct records records;
};

/* A row group that is open, each with a reader of its own: what was taken from it is not written
 * yet, or there is more to take. */
struct source {
    struct reader *r;
    struct input *in;
    uint32_t group;
};

struct block_merge {
    struct block_builder *bb;
    struct merge_change change;
    struct input *inputs;
    size_t input_n;
    struct chain *chains;
    uint32_t chain_n, chain_cap;
    struct unit *units;
    uint32_t unit_n, unit_cap;
    uint32_t at; /* the next unit to be copied, then the next chain of rebuilt */
    uint32_t *rebuilt, rebuilt_n;
    uint32_t left; /* of rebuilt */
    bool copied;
    uint64_t spans, synced;

    struct source *sources;
    uint32_t source_n, source_cap;

    struct arena arena; /* of the run */
    struct trace *trace;
    struct span **spans_of_run;
    uint32_t run_n, run_cap;
    struct idtab origins;
    struct batch_builder batch;
};

/* --- what there is --- */

static uint32_t *no_ids(size_t n)
{
    return memset(xmalloc((n + 1) * sizeof(uint32_t)), 0xff, (n + 1) * sizeof(uint32_t));
}

static void numbers_init(struct numbers *to, const struct shared *s)
{
    to->string = no_ids(s->string_count);
    to->col = no_ids(s->col_count);
    to->list = no_ids(s->list_count);
    to->origin = no_ids(s->origin_count);
    for (int t = 0; t < TABLE_COUNT; t++)
        to->shape[t] = no_ids(s->shape_count[t]);
}

static void numbers_fini(struct numbers *to)
{
    free(to->string);
    free(to->col);
    free(to->list);
    free(to->origin);
    for (int t = 0; t < TABLE_COUNT; t++)
        free(to->shape[t]);
}

/* The chains that begin in the row group; the unit grows by it, or begins with it. */
static void list_group(struct block_merge *m, uint32_t input, uint32_t no, const struct rows *g)
{
    if (!g->g->continues || !no) {
        m->units = vec_room(m->units, &m->unit_cap, m->unit_n + (size_t)1, sizeof *m->units);
        m->units[m->unit_n++] = (struct unit){.start_ns = num_at(g->trace_start, 0),
                                              .input = input,
                                              .group = no,
                                              .chain = m->chain_n};
    }
    struct unit *u = &m->units[m->unit_n - 1];
    u->groups++;
    u->rows += g->g->rows;
    m->chains = vec_room(m->chains, &m->chain_cap, m->chain_n + (size_t)g->g->parts,
                         sizeof *m->chains);
    if (g->g->continues && u->chains)
        m->chains[m->chain_n - 1].rows += (uint32_t)g->trace_rows[0];
    for (uint32_t k = g->g->continues && u->chains; k < g->g->parts; k++, u->chains++) {
        struct chain *c = &m->chains[m->chain_n++];
        *c = (struct chain){.start_ns = num_at(g->trace_start, k),
                            .input = input,
                            .unit = m->unit_n - 1,
                            .group = no,
                            .part = k,
                            .rows = (uint32_t)g->trace_rows[k],
                            .next = NO_ID};
        memcpy(c->id, g->trace_ids + (size_t)k * 16, 16);
    }
}

static enum errc list_input(struct block_merge *m, uint32_t no, struct err *e)
{
    struct input *in = &m->inputs[no];
    enum errc code = E_OK;
    for (uint32_t i = 0; i < in->block->group_count && !code; i++) {
        struct reader *r = reader_take(in->block, e);
        const struct shared *s = shared_read(r);
        struct rows g;
        if (s && !in->to.string)
            numbers_init(&in->to, s);
        if (s && rows_open(r, s, i, &g))
            list_group(m, no, i, &g);
        code = reader_give(r);
    }
    m->spans += in->block->meta.span_count;
    return code;
}

/* --- what is joined, what is rebuilt --- */

static int by_trace(const void *x, const void *y, void *arg)
{
    const struct chain *chains = arg;
    const struct chain *a = &chains[*(const uint32_t *)x], *b = &chains[*(const uint32_t *)y];
    int c = memcmp(a->id, b->id, 16);
    if (c)
        return c;
    return a->start_ns != b->start_ns ? (a->start_ns < b->start_ns ? -1 : 1) : (a < b ? -1 : a > b);
}

/* Chains v[0..n) are one trace: they become one, unless that is too much for a run. */
static void join(struct block_merge *m, const uint32_t *v, uint32_t n)
{
    uint64_t rows = 0;
    for (uint32_t i = 0; i < n; i++)
        rows += m->chains[v[i]].rows;
    if (n == 1 || rows > GROUP_ROWS)
        return;
    for (uint32_t i = 0; i < n; i++)
        if (m->units[m->chains[v[i]].unit].groups > 1)
            return; /* beside a large trace, which is not decoded for it */
    for (uint32_t i = 0; i < n; i++) {
        m->chains[v[i]].next = v[(i + 1) % n]; /* a ring: whoever comes first takes all */
        m->units[m->chains[v[i]].unit].rebuild = true;
    }
}

static void join_traces(struct block_merge *m)
{
    uint32_t *order = xmalloc((m->chain_n + (size_t)1) * sizeof *order), n;
    for (uint32_t i = 0; i < m->chain_n; i++)
        order[i] = i;
    if (m->chain_n)
        qsort_r(order, m->chain_n, sizeof *order, by_trace, m->chains);
    for (uint32_t i = 0; i < m->chain_n; i += n) {
        for (n = 1; i + n < m->chain_n; n++)
            if (memcmp(m->chains[order[i]].id, m->chains[order[i + n]].id, 16) != 0)
                break;
        join(m, order + i, n);
    }
    free(order);
}

static bool is_changing(const struct block_merge *m)
{
    return m->change.keep || m->change.edit;
}

static int by_start(const void *x, const void *y)
{
    const struct unit *a = x, *b = y;
    if (a->start_ns != b->start_ns)
        return a->start_ns < b->start_ns ? -1 : 1;
    return a->chain < b->chain ? -1 : a->chain > b->chain;
}

static int by_chain_start(const void *x, const void *y, void *arg)
{
    const struct chain *chains = arg;
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    if (chains[a].start_ns != chains[b].start_ns)
        return chains[a].start_ns < chains[b].start_ns ? -1 : 1;
    return a < b ? -1 : a > b;
}

/* Units are copied in the order of time, then traces are rebuilt in the order of time, whatever
 * unit they are of: so each input is read from its beginning to its end. */
static void plan_units(struct block_merge *m)
{
    join_traces(m);
    for (uint32_t i = 0; i < m->unit_n; i++) {
        struct unit *u = &m->units[i];
        u->rebuild |= is_changing(m) || (u->groups == 1 && u->rows < SMALL_ROWS);
    }
    m->rebuilt = xmalloc((m->chain_n + (size_t)1) * sizeof *m->rebuilt);
    for (uint32_t i = 0; i < m->chain_n; i++) {
        const struct chain *c = &m->chains[i];
        if (!m->units[c->unit].rebuild)
            continue;
        m->rebuilt[m->rebuilt_n++] = i;
        m->inputs[c->input].left[c->group]++;
    }
    m->left = m->rebuilt_n;
    if (m->rebuilt_n)
        qsort_r(m->rebuilt, m->rebuilt_n, sizeof *m->rebuilt, by_chain_start, m->chains);
    if (m->unit_n) /* chain.unit is not looked at any more */
        qsort(m->units, m->unit_n, sizeof *m->units, by_start);
}

/* --- copying --- */

static uint32_t to_string(struct block_merge *m, struct input *in, const struct shared *s,
                          uint32_t no)
{
    uint32_t *to = &in->to.string[no];
    if (*to == NO_ID)
        *to = intern_str(&m->bb->strings, s->strings[no]);
    return *to;
}

static uint32_t to_col(struct block_merge *m, struct input *in, const struct shared *s, uint32_t no)
{
    const struct shared_col *c = &s->cols[no];
    uint32_t *to = &in->to.col[no];
    if (*to == NO_ID)
        *to = plan_col(m->bb, c->scope, c->type, s->strings[c->key]);
    return *to;
}

static uint32_t to_list(struct block_merge *m, struct input *in, const struct shared *s,
                        uint32_t no)
{
    const struct shared_list *l = &s->lists[no];
    uint32_t *to = &in->to.list[no];
    if (*to != NO_ID)
        return *to;
    uint32_t *cols = xmalloc((l->n + (size_t)1) * sizeof *cols);
    for (uint32_t i = 0; i < l->n; i++)
        cols[i] = to_col(m, in, s, l->col[i]);
    *to = plan_list(m->bb, cols, l->n);
    free(cols);
    return *to;
}

static uint32_t to_shape(struct block_merge *m, struct input *in, const struct shared *s,
                         enum block_table table, uint32_t no)
{
    const struct shared_shape *from = &s->shapes[table][no];
    uint32_t *to = &in->to.shape[table][no];
    if (*to != NO_ID)
        return *to;
    struct shape want = {.list = to_list(m, in, s, from->list)};
    if (table != TABLE_LINK)
        want.name = to_string(m, in, s, from->name);
    if (table == TABLE_SPAN) {
        uint32_t *origin = &in->to.origin[from->origin];
        if (*origin == NO_ID)
            *origin = plan_origin(m->bb, s->origins[from->origin]);
        want.origin = *origin;
        want.kind = from->kind;
        want.status = from->status;
    }
    return *to = plan_shape(m->bb, table, &want);
}

/* A column on its way: its number in the output. */
struct moved {
    uint32_t no, from; /* from: index into rows.cols */
};

static int by_number(const void *x, const void *y)
{
    uint32_t a = ((const struct moved *)x)->no, b = ((const struct moved *)y)->no;
    return (a > b) - (a < b);
}

/* The columns in the order of the output; NULL is noted. */
static struct moved *move_columns(struct block_merge *m, struct input *in, const struct rows *g)
{
    struct moved *v = reader_alloc(g->r, g->col_count, sizeof *v);
    for (uint32_t i = 0; v && i < g->col_count; i++) {
        uint32_t no = g->cols[i].no;
        v[i] = (struct moved){no, i};
        if (no >= COL_ATTRS)
            v[i].no = COL_ATTRS + to_col(m, in, g->s, no - COL_ATTRS);
    }
    if (v)
        qsort(v, g->col_count, sizeof *v, by_number);
    for (uint32_t i = 1; v && i < g->col_count; i++)
        if (v[i].no == v[i - 1].no) {
            reader_bad(g->r, "a row group's directory");
            return NULL;
        }
    return v;
}

static bool copy_columns(struct block_merge *m, struct input *in, struct rows *g, struct chunks *cs)
{
    struct buf *out = &m->bb->out;
    const struct group *from = g->g;
    const struct moved *v = move_columns(m, in, g);
    const uint8_t *data = v ? reader_raw(g->r, from->data_off, from->data_len) : NULL;
    if (!data || !rows_tail(g))
        return false;
    for (uint32_t i = 0; i < g->col_count; i++) {
        const struct rows_col *c = &g->cols[v[i].from];
        const uint8_t *p = c->tail ? g->tail + c->at : data + (c->at - from->data_off);
        size_t at = out->n;
        if (!c->tail && !block_crc_ok(p, c->len, c->crc))
            return reader_bad(g->r, "a column");
        buf_add(out, p, c->len);
        group_column(m->bb, cs, v[i].no, at);
    }
    return true;
}

static bool copy_filter(struct block_merge *m, struct rows *g)
{
    const struct group *from = g->g;
    const uint8_t *p = reader_raw(g->r, from->data_off + from->data_len + from->dir_len,
                                  from->filter_len);
    if (!p || !filter_check(g->r, p, from->filter_len))
        return false;
    buf_add(&m->bb->out, p, from->filter_len);
    return true;
}

static bool copy_rows(struct block_merge *m, struct input *in, struct rows *g,
                      struct group_info *out)
{
    const struct group *from = g->g;
    struct chunks cs;
    size_t at = m->bb->out.n;
    *out = (struct group_info){.rows = from->rows,
                               .parts = from->parts,
                               .continues = from->continues,
                               .filter_len = from->filter_len,
                               .min_ns = from->min_ns,
                               .max_ns = from->max_ns,
                               .max_duration_ns = from->max_duration_ns};
    group_begin(m->bb, &cs);
    for (int t = 0; t < TABLE_COUNT; t++) {
        const struct rows_table *rt = &g->table[t];
        group_table(m->bb, &cs, rt->rows, rt->shape_count);
        for (uint32_t k = 0; k < rt->shape_count; k++)
            group_shape(m->bb, &cs, t, to_shape(m, in, g->s, t, rt->shape[k]),
                        rt->first[k + 1] - rt->first[k], rt->longest[k]);
    }
    bool ok = copy_columns(m, in, g, &cs);
    group_end(m->bb, &cs, from->parts, at, out);
    for (uint32_t k = from->continues; ok && k < from->parts; k++)
        builder_index(m->bb, g->trace_ids + (size_t)k * 16, k);
    return ok && copy_filter(m, g);
}

static enum errc copy_group(struct block_merge *m, const struct unit *u, uint32_t no, struct err *e)
{
    struct input *in = &m->inputs[u->input];
    struct reader *r = reader_take(in->block, e);
    const struct shared *s = shared_read(r);
    struct rows g;
    struct group_info info;
    if (s && rows_open(r, s, no, &g))
        (void)copy_rows(m, in, &g, &info);
    enum errc code = reader_give(r);
    return code ? code : builder_add_group(m->bb, &info, e);
}

/* --- rebuilding, as records --- */

static enum errc open_rows(struct block_merge *m, struct input *in, uint32_t group,
                           struct record_rows **out, struct err *e)
{
    struct record_rows *rr = *out = in->open[group];
    if (rr) {
        rr->g->r->e = e;
        return E_OK;
    }
    struct reader *r = reader_take(in->block, e);
    m->sources = vec_room(m->sources, &m->source_cap, m->source_n + (size_t)1, sizeof *m->sources);
    m->sources[m->source_n++] = (struct source){r, in, group};
    const struct shared *s = shared_read(r);
    rr = s ? record_rows_open(r, s, group) : NULL;
    for (int t = 0; rr && t < TABLE_COUNT; t++)
        for (uint32_t k = 0; k < rr->g->table[t].shape_count; k++)
            rr->shape[t][k].shape = to_shape(m, in, s, t, rr->g->table[t].shape[k]);
    *out = in->open[group] = rr;
    return r->code;
}

/* Do the open row groups hold as much as they may? */
static bool sources_full(const struct block_merge *m)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < m->source_n; i++)
        bytes += m->sources[i].r->a.used_bytes + SOURCE_BYTES;
    return bytes > SOURCES_BYTES_MAX;
}

/* May the chain be taken now? */
static bool is_in_reach(const struct block_merge *m, const struct chain *c)
{
    return m->inputs[c->input].open[c->group] || !sources_full(m);
}

/* The run is written: closes what nothing is left to take from. */
static void close_rows(struct block_merge *m)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->source_n; i++) {
        const struct source *s = &m->sources[i];
        if (s->in->left[s->group]) {
            m->sources[kept++] = *s;
            continue;
        }
        s->in->open[s->group] = NULL;
        reader_forget(s->r, SOURCE_KEEP);
        enum errc said = reader_give(s->r);
        (void)said; /* by whoever read */
    }
    m->source_n = kept;
}

static void take(struct block_merge *m, struct chain *c)
{
    c->taken = true;
    m->inputs[c->input].left[c->group]--;
    m->left--;
}

/* The records of a trace go into the run: of all its chains that are in reach. */
static enum errc take_records(struct block_merge *m, uint32_t first, struct err *e)
{
    uint32_t i = first;
    do {
        struct chain *c = &m->chains[i];
        struct input *in = &m->inputs[c->input];
        struct record_rows *rr;
        i = c->next;
        if (c->taken || !is_in_reach(m, c))
            continue;
        enum errc code = open_rows(m, in, c->group, &rr, e);
        if (code || !records_add(&in->records, rr, c->part))
            return code ? code : rr->g->r->code;
        take(m, c);
        m->run_n += c->rows;
    } while (i != NO_ID && i != first);
    return E_OK;
}

static enum errc write_records(struct block_merge *m, struct err *e)
{
    const struct batch **batches = xmalloc((m->input_n + 1) * sizeof *batches);
    struct given *given = xmalloc((m->input_n + 1) * sizeof *given);
    size_t n = 0;
    for (size_t i = 0; i < m->input_n; i++) {
        struct records *rec = &m->inputs[i].records;
        if (!rec->span_n)
            continue;
        batches[n] = records_batch(rec);
        given[n++] = rec->given;
    }
    enum errc code = n ? builder_run(m->bb, batches, given, n, e) : E_OK;
    for (size_t i = 0; i < m->input_n; i++)
        records_reset(&m->inputs[i].records);
    close_rows(m);
    free(batches);
    free(given);
    return code;
}

/* --- rebuilding, as spans that may change --- */

/* The spans of one origin stand together, origins in order of first appearance: `next` links the
 * spans of an origin. Addresses may not decide, or the same blocks would give other bytes. */
static uint32_t *link_origins(struct block_merge *m)
{
    uint32_t *next = ARENA_ARRAY(&m->arena, uint32_t, 2 * (size_t)m->run_n + 1);
    uint32_t *last = next ? next + m->run_n : NULL; /* of each origin, at its first span */
    idtab_reset(&m->origins);
    for (uint32_t i = 0; next && i < m->run_n; i++) {
        const struct span *s = m->spans_of_run[i], *o;
        uint32_t hash = (uint32_t)hash_u64((uintptr_t)s->resource, (uintptr_t)s->scope);
        uint32_t at = hash, first;
        while ((first = idtab_next(&m->origins, hash, &at)) != NO_ID) {
            o = m->spans_of_run[first];
            if (o->resource == s->resource && o->scope == s->scope)
                break;
        }
        next[i] = 0;
        if (first == NO_ID) {
            idtab_add(&m->origins, hash, i);
            last[i] = i;
        } else {
            next[last[first]] = i;
            last[first] = i;
            last[i] = NO_ID; /* not the first of its origin */
        }
    }
    return next;
}

/* The run's spans as one batch. */
static enum errc run_batch(struct block_merge *m, struct batch **out, struct err *e)
{
    const uint32_t *next = link_origins(m), *last = next + m->run_n;
    if (!next)
        return fail(e, E_NO_MEMORY, "no memory to merge a trace");
    batch_builder_reset(&m->batch);
    for (uint32_t i = 0; i < m->run_n; i++) {
        if (last[i] == NO_ID)
            continue;
        group_to_builder(m->spans_of_run[i]->resource, m->spans_of_run[i]->scope, &m->batch);
        uint32_t k = i;
        do {
            span_to_builder(m->spans_of_run[k], &m->batch);
            k = next[k];
        } while (k);
    }
    if (batch_builder_spans(&m->batch) != m->run_n)
        return fail(e, E_CORRUPT, "%s: a span cannot be taken over", m->inputs[0].block->path);
    return batch_seal(&m->batch, STR("merge"), 0, out, e);
}

/* Readers go back; what they made is in the run's arena until the run is written. */
static enum errc run_readers_give(struct block_merge *m)
{
    enum errc code = E_OK;
    for (size_t i = 0; i < m->input_n; i++) {
        struct trace_read *t = &m->inputs[i].read;
        enum errc one = t->r ? reader_give(t->r) : E_OK;
        code = code ? code : one;
        *t = (struct trace_read){0};
    }
    return code;
}

static enum errc write_spans(struct block_merge *m, struct err *e)
{
    struct batch *b;
    enum errc code = run_readers_give(m);
    if (!code && m->run_n && !(code = run_batch(m, &b, e))) {
        const struct batch *const one = b;
        code = builder_run(m->bb, &one, NULL, 1, e);
        batch_unref(b);
    }
    arena_reset(&m->arena);
    return code;
}

static enum errc run_write(struct block_merge *m, struct err *e)
{
    enum errc code = is_changing(m) ? write_spans(m, e) : write_records(m, e);
    m->bb->edge_count = m->bb->orphan_count = 0; /* were counted when the inputs were built */
    idtab_reset(&m->bb->edge_tab);
    m->run_n = 0;
    return code;
}

/* Adds the spans of a chain to m->trace. */
static enum errc take_chain(struct block_merge *m, struct chain *c, struct err *e)
{
    struct trace_read *t = &m->inputs[c->input].read;
    if (!t->r) {
        t->r = reader_take(m->inputs[c->input].block, e);
        t->s = shared_read(t->r);
    }
    if (t->s && !t->maker.a && !trace_read_init(t, t->r, t->s, &m->arena))
        return t->r->code;
    uint32_t first = t->n;
    take(m, c);
    if (t->s && chain_read(t, c->group, c->part))
        for (uint32_t i = first; i < t->n; i++)
            if (!trace_add(m->trace, t->spans[i], &m->arena))
                return fail(e, E_NO_MEMORY, "no memory to merge a trace");
    return t->r->code;
}

/* The whole trace of a chain, as it will be written. */
static enum errc take_trace(struct block_merge *m, uint32_t first, struct err *e)
{
    struct trace t = {0};
    enum errc code = E_OK;
    memcpy(t.id, m->chains[first].id, 16);
    m->trace = &t;
    uint32_t i = first;
    do {
        code = take_chain(m, &m->chains[i], e);
        i = m->chains[i].next;
    } while (!code && i != NO_ID && i != first);
    if (code || (m->change.keep && !m->change.keep(m->change.arg, &t)))
        return code;
    m->spans_of_run = vec_room(m->spans_of_run, &m->run_cap, m->run_n + (size_t)t.span_count,
                               sizeof(struct span *));
    for (uint32_t k = 0; k < t.span_count; k++) {
        if (m->change.edit)
            m->change.edit(m->change.arg, t.spans[k], &m->arena);
        m->spans_of_run[m->run_n++] = t.spans[k];
    }
    return m->arena.failed ? fail(e, E_NO_MEMORY, "no memory to merge a trace") : E_OK;
}

static uint32_t trace_rows(const struct block_merge *m, uint32_t first)
{
    uint64_t rows = 0;
    uint32_t i = first;
    do {
        rows += m->chains[i].taken ? 0 : m->chains[i].rows;
        i = m->chains[i].next;
    } while (i != NO_ID && i != first);
    return (uint32_t)min_u64(rows, UINT32_MAX);
}

/* Takes traces into the run until a row group is full, or no more are in reach. */
static enum errc rebuild(struct block_merge *m, struct err *e)
{
    enum errc code = E_OK;
    for (; m->at < m->rebuilt_n && !code; m->at++) {
        uint32_t c = m->rebuilt[m->at];
        if (m->chains[c].taken || !is_in_reach(m, &m->chains[c]))
            continue;
        if ((m->run_n && m->run_n + (uint64_t)trace_rows(m, c) > GROUP_ROWS) ||
            m->arena.used_bytes > SPANS_BYTES) /* also of what is not kept */
            return run_write(m, e);
        code = is_changing(m) ? take_trace(m, c, e) : take_records(m, c, e);
    }
    if (!code && m->left) { /* nothing is left in what is open */
        m->at = 0;
        code = run_write(m, e);
    }
    return code;
}

/* The next unit that stays as it is. */
static enum errc copy_unit(struct block_merge *m, struct err *e)
{
    enum errc code = E_OK;
    while (m->at < m->unit_n && m->units[m->at].rebuild)
        m->at++;
    if (m->at < m->unit_n) {
        const struct unit *u = &m->units[m->at++];
        for (uint32_t i = 0; i < u->groups && !code; i++)
            code = copy_group(m, u, u->group + i, e);
    } else {
        m->copied = true;
        m->at = 0;
    }
    return code;
}

/* --- the doors --- */

enum errc block_merge_begin(struct block_merge **out, struct block_builder *bb, struct os *os,
                            const char *path, struct block *const *blocks, size_t n,
                            const struct merge_change *change, struct err *e)
{
    struct block_merge *m = xcalloc(1, sizeof *m);
    enum errc code = E_OK;
    m->bb = bb;
    m->input_n = n;
    m->inputs = xcalloc(n + 1, sizeof *m->inputs);
    m->arena = arena_init(RUN_BYTES_MAX);
    if (change)
        m->change = *change;
    batch_builder_init(&m->batch);
    builder_begin(bb, true);
    for (size_t i = 0; i < n; i++) {
        struct input *in = &m->inputs[i];
        in->block = block_ref(blocks[i]);
        in->open = xcalloc(in->block->group_count + (size_t)1, sizeof *in->open);
        in->left = xcalloc(in->block->group_count + (size_t)1, sizeof *in->left);
        records_init(&in->records);
    }
    for (uint32_t i = 0; i < n && !code; i++)
        code = list_input(m, i, e);
    for (size_t i = 0; i < n && !is_changing(m); i++)
        bb->max_end_ns = max_u64(bb->max_end_ns, blocks[i]->meta.max_end_ns);
    if (!code)
        plan_units(m);
    if (!code)
        code = builder_open(bb, os, path, e);
    if (code) {
        block_merge_free(m);
        return code;
    }
    *out = m;
    return E_OK;
}

static enum errc finish(struct block_merge *m, struct block_meta *meta, struct err *e)
{
    enum errc code = run_write(m, e);
    if (!code)
        code = builder_end(m->bb, meta, e);
    if (!code && !is_changing(m) && meta->span_count != m->spans)
        code = fail(e, E_CORRUPT, "%s: a merge of %llu spans wrote %llu", m->inputs[0].block->path,
                    (unsigned long long)m->spans, (unsigned long long)meta->span_count);
    return code;
}

enum errc block_merge_step(struct block_merge *m, bool *done, struct block_meta *meta,
                           struct err *e)
{
    *done = m->copied && !m->left;
    if (*done)
        return finish(m, meta, e);
    enum errc code = m->copied ? rebuild(m, e) : copy_unit(m, e);
    if (!code && m->bb->written - m->synced >= SYNC_BYTES) {
        code = os_sync(m->bb->file, e);
        m->synced = m->bb->written;
    }
    return code;
}

void block_merge_free(struct block_merge *m)
{
    if (!m)
        return;
    builder_close(m->bb);
    enum errc ignored = run_readers_give(m);
    (void)ignored; /* whoever gives up has heard of it */
    for (uint32_t i = 0; i < m->source_n; i++)
        ignored = reader_give(m->sources[i].r);
    for (size_t i = 0; i < m->input_n; i++) {
        records_fini(&m->inputs[i].records);
        numbers_fini(&m->inputs[i].to);
        free(m->inputs[i].open);
        free(m->inputs[i].left);
        block_unref(m->inputs[i].block);
    }
    batch_builder_fini(&m->batch);
    arena_fini(&m->arena);
    free(m->inputs);
    free(m->sources);
    free(m->chains);
    free(m->units);
    free(m->rebuilt);
    free(m->spans_of_run);
    free(m->origins.slot);
    free(m);
}
