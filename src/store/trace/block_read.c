/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a block other than by search: one trace, all trace ids, the service of a span, a check of
 * everything. */
#include "store/trace/block_read.h"

#include <stdio.h>
#include <stdlib.h>

/* --- one trace --- */

static bool trace_room(struct trace_read *t, uint32_t more)
{
    if (more <= t->cap - t->n)
        return true;
    if (more > UINT32_MAX / 4 - t->n)
        return reader_no_memory(t->r);
    uint32_t cap = t->cap * 2 > t->n + more ? t->cap * 2 : t->n + more;
    struct span **spans = reader_alloc(t->r, cap, sizeof(struct span *));
    uint64_t *parent = reader_alloc(t->r, cap, sizeof *parent);
    if (!spans || !parent)
        return false;
    if (t->n) {
        memcpy(spans, t->spans, t->n * sizeof(struct span *));
        memcpy(parent, t->parent, t->n * sizeof *parent);
    }
    t->spans = spans;
    t->parent = parent;
    t->cap = cap;
    return true;
}

/* Notes the parent codes of a part's spans; orphans get their parent's id at once. */
static bool read_parents(struct trace_read *t, struct rows *g, uint32_t part, uint32_t n)
{
    if (!rows_parents(g))
        return false;
    const uint8_t *orphan = g->orphan_ids ? g->orphan_ids + 8 * (size_t)g->orphan_at[part] : NULL;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t c = t->parent[t->n + i] = num_at(g->parent, g->row_at[part] + i);
        if (c != PARENT_ORPHAN)
            continue;
        memcpy(t->spans[t->n + i]->parent_id, orphan, 8);
        orphan += 8;
    }
    return true;
}

bool trace_read_part(struct trace_read *t, uint32_t group, uint32_t part)
{
    struct rows *g = rows_get(t->r, t->s, group);
    if (!g)
        return false;
    uint32_t at = g->row_at[part], n = g->row_at[part + 1] - at;
    if (!trace_room(t, n) || !span_maker_rows(&t->maker, g, part, at, n, t->spans + t->n) ||
        !read_parents(t, g, part, n))
        return false;
    t->n += n;
    return true;
}

/* Parents of the spans from `first` on, which are one chain. */
static bool resolve_parents(struct trace_read *t, uint32_t first)
{
    for (uint32_t i = first; i < t->n; i++) {
        if (t->parent[i] < PARENT_AT)
            continue;
        int64_t at = (int64_t)i - unzigzag(t->parent[i] - PARENT_AT);
        if (at < first || at >= t->n)
            return reader_bad(t->r, "the parent column");
        memcpy(t->spans[i]->parent_id, t->spans[at]->span_id, 8);
    }
    return true;
}

bool chain_next(const struct block *b, uint32_t *group, uint32_t *part)
{
    bool last = *part + 1 == b->groups[*group].parts;
    *part = 0;
    return last && ++*group < b->group_count && b->groups[*group].continues;
}

bool chain_read(struct trace_read *t, uint32_t group, uint32_t part)
{
    uint32_t first = t->n;
    do {
        if (!trace_read_part(t, group, part))
            return false;
    } while (chain_next(t->r->b, &group, &part));
    return resolve_parents(t, first);
}

bool trace_read_init(struct trace_read *t, struct reader *r, const struct shared *s,
                     struct arena *a)
{
    *t = (struct trace_read){.r = r, .s = s};
    return span_maker_init(&t->maker, r, s, a);
}

/* Is this part the one of trace id? */
static bool part_is(struct reader *r, const struct shared *s, uint32_t group, uint32_t part,
                    const uint8_t id[16], bool *is)
{
    const struct rows *g = rows_get(r, s, group);
    *is = g && memcmp(g->trace_ids + (size_t)part * 16, id, 16) == 0;
    return g != NULL;
}

struct chain_walk chain_walk(struct reader *r, const struct shared *s, const uint8_t id[16])
{
    return (struct chain_walk){.r = r, .s = s, .id = id, .at = block_find(r->b, id)};
}

bool chain_walk_next(struct chain_walk *w)
{
    const struct block *b = w->r->b;
    uint32_t want = block_fingerprint(w->id), n = (uint32_t)b->meta.trace_count;
    while (w->at < n && b->fingerprints[w->at] == want) {
        uint32_t no = b->part[w->at++];
        bool is;
        w->group = block_group_of(b, no);
        w->part = no - b->groups[w->group].first_part;
        if (w->part >= b->groups[w->group].parts)
            return reader_bad(w->r, "the trace index");
        if (!part_is(w->r, w->s, w->group, w->part, w->id, &is))
            return false;
        if (is)
            return true;
    }
    return false;
}

static bool read_trace(struct trace_read *t, const uint8_t id[16], struct arena *a)
{
    struct chain_walk w = chain_walk(t->r, t->s, id);
    while (chain_walk_next(&w)) {
        if (!t->maker.a && !span_maker_init(&t->maker, t->r, t->s, a))
            return false;
        if (!chain_read(t, w.group, w.part))
            return false;
    }
    return !t->r->code;
}

enum errc block_trace(struct block *b, const uint8_t id[16], struct arena *a, struct trace *t,
                      struct err *e)
{
    if (!block_may_have(b, id))
        return E_OK;
    struct reader *r = reader_take(b, e);
    r->a.budget = a->budget; /* it decodes for the caller */
    struct trace_read tr = {.r = r, .s = shared_read(r)};
    if (tr.s && read_trace(&tr, id, a))
        for (uint32_t i = 0; i < tr.n && !r->code; i++)
            if (!trace_add(t, tr.spans[i], a))
                reader_no_memory(r);
    return reader_give(r);
}

/* --- all traces --- */

static bool each_trace(struct reader *r, bool (*each)(void *, const uint8_t *, uint64_t), void *arg)
{
    const struct shared *s = shared_read(r);
    for (uint32_t i = 0; s && i < r->b->group_count; i++) {
        struct rows g;
        if (!rows_open(r, s, i, &g))
            return false;
        for (uint32_t k = 0; k < g.g->parts; k++)
            if (!(k == 0 && g.g->continues) &&
                !each(arg, g.trace_ids + (size_t)k * 16, num_at(g.trace_start, k)))
                return true;
    }
    return true;
}

enum errc block_each_trace(struct block *b,
                           bool (*each)(void *arg, const uint8_t id[16], uint64_t min_ns),
                           void *arg, struct err *e)
{
    struct reader *r = reader_take(b, e);
    each_trace(r, each, arg);
    return reader_give(r);
}

/* The spans of every chain that begins in the row group. */
static bool scan_group(struct reader *r, uint32_t group, block_chain *each, void *arg,
                       struct arena *a)
{
    struct trace_read t;
    const struct shared *s = shared_read(r);
    const struct rows *g = s ? rows_get(r, s, group) : NULL;
    if (!g || !trace_read_init(&t, r, s, a))
        return false;
    for (uint32_t k = g->g->continues; k < g->g->parts; k++) {
        struct trace chain = {0};
        t.n = 0;
        if (!chain_read(&t, group, k)) /* only the last one goes on into other row groups */
            return false;
        memcpy(chain.id, g->trace_ids + (size_t)k * 16, 16);
        chain.spans = t.spans;
        chain.span_count = t.n;
        each(arg, &chain);
    }
    return true;
}

enum errc block_scan(struct block *b, block_chain *each, void *arg, struct err *e)
{
    enum errc code = E_OK;
    struct arena a = arena_init(READER_BYTES_MAX);
    for (uint32_t i = 0; i < b->group_count && !code; i++) {
        struct reader *r = reader_take(b, e);
        scan_group(r, i, each, arg, &a);
        code = reader_give(r);
        arena_reset(&a);
    }
    arena_fini(&a);
    return code;
}

static bool has_key(struct reader *r, struct str key, struct arena *a)
{
    struct span_origin o;
    const struct shared *s = shared_read(r);
    for (uint32_t i = 0; s && i < s->col_count; i++)
        if (str_eq(s->strings[s->cols[i].key], key))
            return true;
    for (uint32_t i = 0; s && i < s->origin_count; i++) {
        arena_reset(a);
        if (!shared_origin(r, s, i, a, &o))
            return false;
        if (kvs_get(&o.resource->attrs, key) || kvs_get(&o.scope->attrs, key))
            return true;
    }
    return false;
}

enum errc block_has_key(struct block *b, struct str key, bool *has, struct err *e)
{
    struct arena a = arena_init(READER_BYTES_MAX);
    struct reader *r = reader_take(b, e);
    *has = has_key(r, key, &a);
    arena_fini(&a);
    return reader_give(r);
}

/* --- service of a span --- */

/* A copy that lives as long as the block. */
static struct str resident_service(struct block *b, const struct shared *s, uint32_t origin)
{
    pthread_mutex_lock(&b->lock);
    if (!b->services) {
        b->services = xcalloc(s->origin_count, sizeof *b->services);
        b->service_count = s->origin_count;
    }
    struct str *out = &b->services[origin];
    if (!out->p) {
        struct str in = s->services[origin];
        char *p = memcpy(xmalloc(in.n + 1), in.p, in.n);
        *out = str_of(p, in.n);
    }
    struct str found = *out;
    pthread_mutex_unlock(&b->lock);
    return found;
}

/* The spans of a part: their ids, and the row group they are in. */
struct part_ids {
    struct rows *g;
    const uint8_t *id; /* 8 bytes a row */
    uint32_t at, end;  /* rows */
};

static bool part_ids(struct reader *r, const struct shared *s, uint32_t group, uint32_t part,
                     struct part_ids *out)
{
    struct rows *g = out->g = rows_get(r, s, group);
    if (!g || !rows_bytes(g, COL_SPAN_ID, g->g->rows * (size_t)8, &out->id))
        return false;
    out->at = g->row_at[part];
    out->end = g->row_at[part + 1];
    return out->id ? true : reader_bad(r, "span id");
}

static uint32_t row_origin(const struct rows *g, uint32_t row)
{
    const struct rows_table *t = &g->table[TABLE_SPAN];
    return g->s->shapes[TABLE_SPAN][t->shape[t->local[row]]].origin;
}

struct wanted_span {
    uint64_t id;
    uint32_t origin; /* UINT32_MAX: not found */
};

/* Most parts do not have it: their shapes are not decoded. */
static bool find_in_part(struct reader *r, const struct shared *s, uint32_t group, uint32_t part,
                         struct wanted_span *want)
{
    struct part_ids p;
    if (!part_ids(r, s, group, part, &p))
        return false;
    while (p.at < p.end && load_u64be(p.id + (size_t)p.at * 8) != want->id)
        p.at++;
    if (p.at == p.end)
        return true;
    if (!rows_shapes(p.g, TABLE_SPAN))
        return false;
    want->origin = row_origin(p.g, p.at);
    return true;
}

void span_ids_free(struct span_ids *ids)
{
    if (ids)
        free(ids->v);
    free(ids);
}

static bool keep_part(struct reader *r, const struct shared *s, uint32_t group, uint32_t part,
                      struct span_ids *ids)
{
    struct part_ids p;
    if (!part_ids(r, s, group, part, &p) || !rows_shapes(p.g, TABLE_SPAN))
        return false;
    for (; p.at < p.end; p.at++) {
        if (ids->n == ids->cap)
            ids->v = xrealloc(ids->v, (ids->cap = 2 * ids->cap + 8192) * sizeof *ids->v);
        ids->v[ids->n++] = (struct span_at){load_u64be(p.id + (size_t)p.at * 8),
                                            row_origin(p.g, p.at)};
    }
    return true;
}

static int by_span_id(const void *x, const void *y)
{
    uint64_t a = ((const struct span_at *)x)->id, b = ((const struct span_at *)y)->id;
    return (a > b) - (a < b);
}

/* All chains of the trace in one sweep. NULL is noted. */
static struct span_ids *read_span_ids(struct reader *r, const struct shared *s,
                                      const uint8_t trace_id[16])
{
    struct span_ids *ids = xcalloc(1, sizeof *ids);
    struct chain_walk w = chain_walk(r, s, trace_id);
    bool ok = true;
    memcpy(ids->trace_id, trace_id, 16);
    while (ok && chain_walk_next(&w)) {
        uint32_t group = w.group, part = w.part;
        do {
            reader_relieve(r);
            ok = keep_part(r, s, group, part, ids);
        } while (ok && chain_next(r->b, &group, &part));
    }
    if (!ok || r->code) {
        span_ids_free(ids);
        return NULL;
    }
    if (ids->n)
        qsort(ids->v, ids->n, sizeof *ids->v, by_span_id);
    return ids;
}

/* True when the block's table is of this trace and was asked. */
static bool ask_ids(struct block *b, const uint8_t trace_id[16], struct wanted_span *want)
{
    pthread_mutex_lock(&b->lock);
    const struct span_ids *ids = b->ids;
    bool known = ids && memcmp(ids->trace_id, trace_id, 16) == 0;
    if (known && ids->n) {
        struct span_at key = {.id = want->id};
        const struct span_at *at = bsearch(&key, ids->v, ids->n, sizeof key, by_span_id);
        want->origin = at ? at->origin : UINT32_MAX;
    }
    pthread_mutex_unlock(&b->lock);
    return known;
}

static void keep_ids(struct block *b, struct span_ids *ids)
{
    pthread_mutex_lock(&b->lock);
    struct span_ids *old = b->ids;
    b->ids = ids;
    pthread_mutex_unlock(&b->lock);
    span_ids_free(old);
}

void block_forget_spans(struct block *b)
{
    keep_ids(b, NULL);
}

static bool find_span(struct reader *r, const struct shared *s, const uint8_t trace_id[16],
                      struct wanted_span *want)
{
    struct chain_walk w = chain_walk(r, s, trace_id);
    while (want->origin == UINT32_MAX && chain_walk_next(&w)) {
        uint32_t group = w.group, part = w.part;
        reader_relieve(r);
        if (!find_in_part(r, s, group, part, want))
            return false;
        if (want->origin != UINT32_MAX || !chain_next(r->b, &group, &part))
            continue;
        struct span_ids *ids = read_span_ids(r, s, trace_id);
        if (ids)
            keep_ids(r->b, ids);
        return ids && ask_ids(r->b, trace_id, want);
    }
    return !r->code;
}

static bool span_service(struct reader *r, const uint8_t trace_id[16], const uint8_t span_id[8],
                         bool *found, struct str *service)
{
    const struct shared *s = shared_read(r);
    struct wanted_span want = {load_u64be(span_id), UINT32_MAX};
    if (!s || (!ask_ids(r->b, trace_id, &want) && !find_span(r, s, trace_id, &want)))
        return false;
    *found = want.origin != UINT32_MAX;
    if (*found)
        *service = resident_service(r->b, s, want.origin);
    return true;
}

enum errc block_span_service(struct block *b, const uint8_t trace_id[16], const uint8_t span_id[8],
                             bool *found, struct str *service, struct err *e)
{
    *found = false;
    *service = STR_NONE;
    if (!block_may_have(b, trace_id))
        return E_OK;
    struct reader *r = reader_take(b, e);
    span_service(r, trace_id, span_id, found, service);
    return reader_give(r);
}

/* --- everything --- */

static bool verify_head(struct reader *r)
{
    struct block_head h;
    size_t got;
    enum errc code = os_pread(r->b->file, &h, sizeof h, 0, &got, r->e);
    if (code) {
        r->code = code;
        return false;
    }
    return got == sizeof h && h.magic == BLOCK_MAGIC && h.version == r->b->version &&
                   block_crc_ok(&h, offsetof(struct block_head, crc), h.crc)
               ? true
               : reader_bad(r, "the head");
}

bool filter_check(struct reader *r, const uint8_t *p, size_t n)
{
    for (size_t at = 0; at < n; at += FILTER_PAGE_BYTES)
        if (!filter_page_ok(p + at))
            return reader_bad(r, "a filter");
    return true;
}

static bool verify_filter(struct reader *r, const struct group *g)
{
    const uint8_t *p = reader_raw(r, g->data_off + g->data_len + g->dir_len, g->filter_len);
    return p && filter_check(r, p, g->filter_len);
}

/* Every trace part is found by the index, or continues the one before. */
static bool verify_index(struct reader *r, const struct rows *g)
{
    const struct block *b = r->b;
    for (uint32_t k = g->g->continues; k < g->g->parts; k++) {
        const uint8_t *id = g->trace_ids + (size_t)k * 16;
        uint32_t at = block_find(b, id), want = block_fingerprint(id);
        while (at < b->meta.trace_count && b->fingerprints[at] == want &&
               b->part[at] != g->g->first_part + k)
            at++;
        if (at == b->meta.trace_count || b->fingerprints[at] != want)
            return reader_bad(r, "the trace index");
    }
    return true;
}

/* Makes every span: each column is decoded and each count used. */
static bool verify_rows(struct reader *r, const struct shared *s, struct rows *g, struct arena *a)
{
    struct span_maker m;
    struct span **spans = reader_alloc(r, g->g->rows, sizeof(struct span *));
    arena_reset(a);
    if (!rows_parents(g) || !spans || !span_maker_init(&m, r, s, a))
        return false;
    for (uint32_t k = 0, at = 0; k < g->g->parts; k++) {
        uint32_t n = (uint32_t)g->trace_rows[k];
        if (!span_maker_rows(&m, g, k, at, n, spans + at))
            return false;
        at += n;
    }
    return true;
}

/* The columns that nobody has looked at: their checksums. */
static bool verify_columns(struct reader *r, struct rows *g)
{
    for (uint32_t i = 0; i < g->col_count; i++) {
        const struct rows_col *c = &g->cols[i];
        bool looked_at = c->nums || c->bytes || c->strs || c->tail;
        if (!looked_at && !reader_bytes(r, c->at, c->len, c->crc, "a column"))
            return false;
    }
    return true;
}

static bool verify_group(struct reader *r, uint32_t i, struct arena *a, uint64_t *parts)
{
    struct rows g;
    const struct shared *s = shared_read(r);
    if (!s || !rows_open(r, s, i, &g) || !verify_index(r, &g) || !verify_rows(r, s, &g, a) ||
        !verify_columns(r, &g) || !verify_filter(r, g.g))
        return false;
    *parts += g.g->parts - g.g->continues;
    return true;
}

/* A reader for each row group: what it decodes stays in memory until it is given back. */
enum errc block_verify(struct block *b, struct err *e)
{
    if (b->remade)
        return fail(e, E_CORRUPT, "%s: the tail is damaged", b->path);
    struct arena a = arena_init(READER_BYTES_MAX);
    struct reader *r = reader_take(b, e);
    uint64_t parts = 0;
    if (verify_head(r))
        (void)shared_read(r);
    enum errc rc = reader_give(r);
    for (uint32_t i = 0; !rc && i < b->group_count; i++) {
        r = reader_take(b, e);
        (void)verify_group(r, i, &a, &parts);
        rc = reader_give(r);
    }
    arena_fini(&a);
    if (!rc && parts != b->meta.trace_count)
        rc = fail(e, E_CORRUPT, "%s: the count of traces is damaged", b->path);
    return rc;
}
