/* SPDX-License-Identifier: Apache-2.0 */
/* One trace a row group at a time, however many there are: where its rows are, what its spans are
 * counted by, and chosen rows as spans. A chain's parts are the last of its first row group, whole
 * groups, and the first of its last, so its rows follow each other in the block: a row has a number
 * in the block, and a parent is as many rows away as its code says. */
#include "store/trace/block_read.h"

#include <stdlib.h>

#define PAGE_READER_KEEP MIB /* memory kept from row group to row group */

static uint64_t group_row(const struct block *b, uint32_t group)
{
    uint64_t row = 0;
    for (uint32_t i = 0; i < group; i++)
        row += b->groups[i].rows;
    return row;
}

/* --- each part --- */

/* What is done with the rows of one part. */
typedef bool part_rows(void *arg, struct reader *r, const struct shared *s, uint32_t group,
                       uint32_t part);

/* Parts in row groups that have starts in [min, max]. */
static bool each_part(struct reader *r, const uint8_t id[16], uint64_t min_ns, uint64_t max_ns,
                      part_rows *each, void *arg)
{
    const struct block *b = r->b;
    const struct shared *s = shared_read(r);
    struct chain_walk w = s ? chain_walk(r, s, id) : (struct chain_walk){0};
    while (s && chain_walk_next(&w)) {
        uint32_t group = w.group, part = w.part;
        do {
            const struct group *g = &b->groups[group];
            if (g->min_ns <= max_ns && g->max_ns >= min_ns && !each(arg, r, s, group, part))
                return false;
            reader_forget(r, PAGE_READER_KEEP);
            if (!(s = shared_read(r)))
                return false;
        } while (chain_next(b, &group, &part));
        w.s = s;
    }
    return !r->code;
}

struct key_walk {
    block_key *each;
    void *arg;
};

static bool part_keys(void *arg, struct reader *r, const struct shared *s, uint32_t group,
                      uint32_t part)
{
    const struct key_walk *w = arg;
    struct rows *g = rows_get(r, s, group);
    const uint8_t *ids;
    const uint64_t *step;
    if (!g || !rows_bytes(g, COL_SPAN_ID, g->g->rows * (size_t)8, &ids) ||
        !rows_nums(g, COL_START, g->g->rows, &step))
        return false;
    if (!ids)
        return reader_bad(r, "span id");
    uint64_t start = num_at(g->trace_start, part), first = group_row(r->b, group);
    for (uint32_t i = g->row_at[part]; i < g->row_at[part + 1]; i++) {
        start += num_at(step, i);
        if (!w->each(w->arg, start, ids + (size_t)i * 8, first + i))
            return reader_no_memory(r);
    }
    return true;
}

enum errc block_trace_keys(struct block *b, const uint8_t id[16], uint64_t min_ns, uint64_t max_ns,
                           struct budget *budget, block_key *each, void *arg, struct err *e)
{
    struct key_walk w = {each, arg};
    if (!block_may_have(b, id))
        return E_OK;
    struct reader *r = reader_take(b, e);
    r->a.budget = budget;
    each_part(r, id, min_ns, max_ns, part_keys, &w);
    return reader_give(r);
}

struct glance_walk {
    enum glance_part part;
    span_glance_each *each;
    void *arg;
};

/* The columns of a row group that are looked at; those that are not are NULL. */
struct glance_cols {
    const uint8_t *ids;
    const uint64_t *step, *duration;
    const struct rows_table *spans;
    bool parents;
};

static bool glance_cols(struct rows *g, enum glance_part part, struct glance_cols *c)
{
    uint32_t n = g->g->rows;
    *c = (struct glance_cols){.parents = part != GLANCE_IDS};
    if (!rows_bytes(g, COL_SPAN_ID, n * (size_t)8, &c->ids) || (c->parents && !rows_parents(g)))
        return false;
    if (!c->ids)
        return reader_bad(g->r, "span id");
    if (part != GLANCE_ALL)
        return true;
    c->spans = &g->table[TABLE_SPAN];
    return rows_shapes(g, TABLE_SPAN) && rows_nums(g, COL_START, n, &c->step) &&
           rows_nums(g, COL_DURATION, n, &c->duration);
}

static void glance_all(const struct rows *g, const struct glance_cols *c, uint32_t row,
                       struct span_glance *x)
{
    const struct rows_table *t = c->spans;
    uint32_t k = (uint32_t)t->local[row];
    const struct shared_shape *shape = &g->s->shapes[TABLE_SPAN][t->shape[k]];
    x->start_ns += num_at(c->step, row);
    x->end_ns = x->start_ns + (uint64_t)unzigzag(num_at(c->duration, t->first[k] + t->rank[row]));
    x->service = g->s->services[shape->origin];
    x->name = g->s->strings[shape->name];
    x->status = shape->status;
}

/* *orphan: of the parents that are stored by id, the next one. */
static void glance_parent(const struct rows *g, uint32_t row, uint32_t *orphan,
                          struct span_glance *x)
{
    uint64_t code = num_at(g->parent, row);
    x->parent_id = 0;
    x->parent = code == PARENT_NONE ? GLANCE_ROOT : GLANCE_PARENT_STORED;
    if (code == PARENT_ORPHAN) {
        x->parent = GLANCE_PARENT_BY_ID;
        x->parent_id = load_u64be(g->orphan_ids + (size_t)8 * (*orphan)++);
    }
}

static bool part_glances(void *arg, struct reader *r, const struct shared *s, uint32_t group,
                         uint32_t part)
{
    const struct glance_walk *w = arg;
    struct rows *g = rows_get(r, s, group);
    struct glance_cols c;
    if (!g || !glance_cols(g, w->part, &c))
        return false;
    struct span_glance x = {.start_ns = num_at(g->trace_start, part)};
    uint32_t orphan = c.parents && g->orphan_ids ? g->orphan_at[part] : 0;
    for (uint32_t i = g->row_at[part]; i < g->row_at[part + 1]; i++) {
        x.span_id = load_u64be(c.ids + (size_t)i * 8);
        if (c.parents)
            glance_parent(g, i, &orphan, &x);
        if (c.spans)
            glance_all(g, &c, i, &x);
        w->each(w->arg, &x);
    }
    return true;
}

enum errc block_trace_glances(struct block *b, const uint8_t id[16], enum glance_part part,
                              struct budget *budget, span_glance_each *each, void *arg,
                              struct err *e)
{
    struct glance_walk w = {part, each, arg};
    if (!block_may_have(b, id))
        return E_OK;
    struct reader *r = reader_take(b, e);
    r->a.budget = budget;
    each_part(r, id, 0, UINT64_MAX, part_glances, &w);
    return reader_give(r);
}

/* --- chosen rows --- */

struct wanted_parent {
    uint64_t row;
    struct span *child;
};

struct page_read {
    struct reader *r;
    const uint8_t *id;
    struct arena *a;
    struct span_maker maker; /* its lists in `a`: they outlive the row groups */
    struct wanted_parent *parents;
    uint32_t parent_n;
};

static bool part_of(const struct rows *g, const uint8_t id[16], uint32_t row, uint32_t *part)
{
    uint32_t k = 0;
    while (k + 1 < g->g->parts && g->row_at[k + 1] <= row)
        k++;
    *part = k;
    return memcmp(g->trace_ids + (size_t)k * 16, id, 16) == 0;
}

static bool row_parent(struct page_read *p, struct rows *g, uint32_t part, uint32_t row,
                       uint64_t block_row, struct span *span)
{
    uint64_t code = num_at(g->parent, row), orphan = g->orphan_at[part];
    if (code == PARENT_NONE)
        return true;
    if (code >= PARENT_AT) {
        p->parents[p->parent_n++] = (struct wanted_parent){
            block_row - (uint64_t)unzigzag(code - PARENT_AT), span};
        return true;
    }
    for (uint32_t i = g->row_at[part]; i < row; i++)
        orphan += g->parent[i] == PARENT_ORPHAN;
    memcpy(span->parent_id, g->orphan_ids + 8 * orphan, 8);
    return true;
}

/* The group that has the row, opened; the one before is forgotten. */
static struct rows *open_at(struct page_read *p, uint64_t row, uint32_t *group, uint64_t *first)
{
    const struct block *b = p->r->b;
    uint32_t was = *group;
    while (*group < b->group_count && row - *first >= b->groups[*group].rows)
        *first += b->groups[(*group)++].rows;
    if (*group == b->group_count) {
        reader_bad(p->r, "the parent column");
        return NULL;
    }
    if (*group != was)
        reader_forget(p->r, PAGE_READER_KEEP);
    const struct shared *s = shared_read(p->r);
    return s ? rows_get(p->r, s, *group) : NULL;
}

static bool make_rows(struct page_read *p, const struct block_row *rows, uint32_t n)
{
    uint32_t group = 0, part;
    uint64_t first = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct rows *g = open_at(p, rows[i].row, &group, &first);
        uint32_t at = (uint32_t)(rows[i].row - first);
        if (!g || !rows_parents(g))
            return false;
        if (!part_of(g, p->id, at, &part))
            return reader_bad(p->r, "a row group's traces");
        if (!span_maker_rows(&p->maker, g, part, at, 1, rows[i].out))
            return false;
        struct span *s = *rows[i].out;
        s->end_ns += rows[i].start_ns - s->start_ns;
        for (uint32_t k = 0; k < s->event_count; k++)
            s->events[k].time_ns += rows[i].start_ns - s->start_ns;
        s->start_ns = rows[i].start_ns;
        if (!row_parent(p, g, part, at, rows[i].row, s))
            return false;
    }
    return true;
}

static int by_row(const void *a, const void *b)
{
    const struct wanted_parent *x = a, *y = b;
    return (x->row > y->row) - (x->row < y->row);
}

static bool find_parents(struct page_read *p)
{
    uint32_t group = 0, part;
    uint64_t first = 0;
    if (p->parent_n)
        qsort(p->parents, p->parent_n, sizeof *p->parents, by_row);
    for (uint32_t i = 0; i < p->parent_n; i++) {
        const uint8_t *ids;
        struct rows *g = open_at(p, p->parents[i].row, &group, &first);
        uint32_t at = (uint32_t)(p->parents[i].row - first);
        if (!g || !rows_bytes(g, COL_SPAN_ID, g->g->rows * (size_t)8, &ids))
            return false;
        if (!ids || !part_of(g, p->id, at, &part))
            return reader_bad(p->r, "the parent column");
        memcpy(p->parents[i].child->parent_id, ids + (size_t)at * 8, 8);
    }
    return true;
}

enum errc block_trace_rows(struct block *b, const uint8_t id[16], const struct block_row *rows,
                           uint32_t n, struct arena *a, struct err *e)
{
    struct page_read p = {.r = reader_take(b, e), .id = id, .a = a};
    p.r->a.budget = a->budget;
    const struct shared *s = shared_read(p.r);
    if (s) {
        p.maker = (struct span_maker){
            .a = a,
            .origins = ARENA_ARRAY(a, struct span_origin, s->origin_count),
            .strings = ARENA_ARRAY(a, struct str, s->string_count)};
        p.parents = ARENA_ARRAY(a, struct wanted_parent, n);
        if (a->failed)
            reader_no_memory(p.r);
        else if (make_rows(&p, rows, n))
            (void)find_parents(&p);
    }
    return reader_give(p.r);
}
