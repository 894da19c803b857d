/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and values of one block. Rows are counted by shape: the directory of a row group tells how
 * many rows each shape has, so keys need no column as long as a group lies whole in the time asked
 * for and events need no service. A value is counted once for each distinct string of a column, or
 * once for each run of equal numbers.
 *
 * Each row group has a reader of its own, so that memory is that of one group; numbers of shapes,
 * columns and origins are the same in all of them. */
#include "store/trace/block_read.h"
#include "store/trace/discover.h"

#include <stdlib.h>

static const enum tag_place table_place[TABLE_COUNT] = {TAG_SPAN, TAG_EVENT, TAG_LINK};

struct finder {
    struct discovery *d;
    struct reader *r;
    const struct shared *s;
    bool *shape_ok;             /* of each span shape: it is of the service */
    bool *col_ok;               /* of each column: its attributes are wanted */
    bool table_ok[TABLE_COUNT]; /* some column of the table is wanted */
    uint64_t *col_count;        /* of each column, keys: attributes so far */
    uint64_t *origin_spans;
};

/* The rows of one table that are looked at. */
struct picked {
    uint32_t *rows; /* of each of the group's shapes: how many */
    bool *place;    /* of each row, in shape order; NULL: all rows of a shape or none */
};

static bool is_whole(const struct rows_table *t, const struct picked *p)
{
    uint32_t rows = 0;
    for (uint32_t k = 0; k < t->shape_count; k++)
        rows += p->rows[k];
    return rows == t->rows;
}

/* --- which rows --- */

/* Row group not whole in the time: each start is looked at. */
static bool pick_by_start(struct finder *f, struct rows *g, struct picked *p)
{
    const struct rows_table *t = &g->table[TABLE_SPAN];
    const uint64_t *delta;
    p->place = reader_alloc(f->r, t->rows, sizeof *p->place);
    if (!p->place || !rows_shapes(g, TABLE_SPAN) || !rows_nums(g, COL_START, t->rows, &delta))
        return false;
    for (uint32_t part = 0, i = 0; part < g->g->parts; part++) {
        uint64_t start = num_at(g->trace_start, part);
        for (uint64_t left = num_at(g->trace_rows, part); left; left--, i++) {
            uint32_t k = (uint32_t)t->local[i];
            start += num_at(delta, i);
            bool yes = discover_in_time(f->d->q, start) && f->shape_ok[t->shape[k]];
            p->place[t->first[k] + t->rank[i]] = yes;
            p->rows[k] += yes;
        }
    }
    return true;
}

static bool pick_spans(struct finder *f, struct rows *g, struct picked *p)
{
    const struct rows_table *t = &g->table[TABLE_SPAN];
    const struct discover_query *q = f->d->q;
    *p = (struct picked){.rows = reader_alloc(f->r, t->shape_count, sizeof *p->rows)};
    if (!p->rows)
        return false;
    if (g->g->min_ns < q->start_min_ns || g->g->max_ns > q->start_max_ns)
        return pick_by_start(f, g, p);
    for (uint32_t k = 0; k < t->shape_count; k++)
        p->rows[k] = f->shape_ok[t->shape[k]] ? t->first[k + 1] - t->first[k] : 0;
    return true;
}

static bool span_is_picked(const struct rows_table *t, const struct picked *spans, uint32_t row)
{
    uint32_t k = (uint32_t)t->local[row];
    return spans->place ? spans->place[t->first[k] + t->rank[row]] : spans->rows[k] > 0;
}

/* Events or links of the picked spans. */
static bool pick_children(struct finder *f, struct rows *g, enum block_table table,
                          const struct picked *spans, struct picked *p)
{
    const struct rows_table *st = &g->table[TABLE_SPAN], *t = &g->table[table];
    *p = (struct picked){.rows = reader_alloc(f->r, t->shape_count, sizeof *p->rows)};
    if (!p->rows)
        return false;
    if (is_whole(st, spans)) {
        for (uint32_t k = 0; k < t->shape_count; k++)
            p->rows[k] = t->first[k + 1] - t->first[k];
        return true;
    }
    p->place = reader_alloc(f->r, t->rows, sizeof *p->place);
    if (!p->place || !rows_shapes(g, TABLE_SPAN) || !rows_shapes(g, table) ||
        !rows_children(g, table))
        return false;
    for (uint32_t row = 0; row < st->rows; row++) {
        bool yes = span_is_picked(st, spans, row);
        for (uint32_t c = g->child_at[table][row]; c < g->child_at[table][row + 1]; c++) {
            uint32_t k = (uint32_t)t->local[c];
            p->place[t->first[k] + t->rank[c]] = yes;
            p->rows[k] += yes;
        }
    }
    return true;
}

/* --- keys --- */

static void count_keys(struct finder *f, const struct rows *g, enum block_table table,
                       const struct picked *p)
{
    const struct rows_table *t = &g->table[table];
    for (uint32_t k = 0; k < t->shape_count; k++) {
        const struct shared_list *list = &f->s->lists[f->s->shapes[table][t->shape[k]].list];
        for (uint32_t j = 0; p->rows[k] && j < list->n; j++)
            f->col_count[list->col[j]] += p->rows[k];
    }
}

/* --- values --- */

/* How many of the values of a column are of picked rows, and which. */
static bool take_values(struct finder *f, const struct rows *g, uint32_t col,
                        const struct picked *p, const bool **out, uint64_t *count)
{
    enum block_table table = f->s->cols[col].scope;
    const struct rows_table *t = &g->table[table];
    bool *take = reader_alloc(f->r, g->value_count[col], sizeof *take);
    *count = 0;
    if (!take)
        return false;
    for (uint32_t k = 0; k < t->shape_count; k++) {
        const struct shared_list *list = &f->s->lists[f->s->shapes[table][t->shape[k]].list];
        uint32_t first = t->first[k], n = t->first[k + 1] - first;
        for (uint32_t j = 0; p->rows[k] && j < list->n; j++) {
            if (list->col[j] != col)
                continue;
            *count += p->rows[k];
            for (uint32_t i = 0; i < n; i++)
                take[t->value_at[k][j] + i] = !p->place || p->place[first + i];
        }
    }
    *out = take;
    return true;
}

static bool count_strs(struct finder *f, struct rows *g, uint32_t col, const bool *take)
{
    const struct strs *strs;
    uint32_t n = g->value_count[col];
    if (!rows_strs(g, COL_ATTRS + col, n, &strs))
        return false;
    if (!strs)
        return reader_bad(f->r, "an attribute column");
    uint32_t *count = reader_alloc(f->r, strs->distinct, sizeof *count);
    if (!count)
        return false;
    for (uint32_t i = 0; i < n; i++)
        count[strs->id[i]] += take[i];
    for (uint32_t i = 0; i < strs->distinct; i++) {
        struct value v = {.type = f->s->cols[col].type, .s = strs_value(strs, i)};
        if (count[i])
            discover_value(f->d, &v, count[i]);
    }
    return true;
}

static bool count_nums(struct finder *f, struct rows *g, uint32_t col, const bool *take)
{
    const uint64_t *nums;
    uint32_t n = g->value_count[col];
    if (!rows_nums(g, COL_ATTRS + col, n, &nums))
        return false;
    if (!nums)
        return reader_bad(f->r, "an attribute column");
    for (uint32_t i = 0, end; i < n; i = end) {
        uint64_t count = take[i];
        for (end = i + 1; end < n && nums[end] == nums[i]; end++)
            count += take[end];
        struct value v = block_num_value(f->s->cols[col].type, nums[i]);
        if (count)
            discover_value(f->d, &v, count);
    }
    return true;
}

static bool count_values(struct finder *f, struct rows *g, enum block_table table,
                         const struct picked *p)
{
    for (uint32_t col = 0; col < f->s->col_count; col++) {
        const bool *take;
        uint64_t count;
        unsigned type = f->s->cols[col].type;
        struct value empty = {.type = ATTR_EMPTY};
        if (!f->col_ok[col] || f->s->cols[col].scope != table || !g->value_count[col])
            continue;
        if (!take_values(f, g, col, p, &take, &count))
            return false;
        if (type == ATTR_EMPTY)
            discover_value(f->d, &empty, count);
        else if (count && !(attr_is_str(type) ? count_strs : count_nums)(f, g, col, take))
            return false;
    }
    return true;
}

/* --- row groups --- */

static bool count_table(struct finder *f, struct rows *g, enum block_table table,
                        const struct picked *p)
{
    if (f->d->values)
        return count_values(f, g, table, p);
    count_keys(f, g, table, p);
    return true;
}

static bool look_at_group(struct finder *f, uint32_t no)
{
    struct rows g;
    struct picked spans, children;
    f->d->begun = true;
    if (!rows_open(f->r, f->s, no, &g) || !pick_spans(f, &g, &spans))
        return false;
    const struct rows_table *t = &g.table[TABLE_SPAN];
    uint64_t before = f->d->spans;
    for (uint32_t k = 0; k < t->shape_count; k++) {
        f->origin_spans[f->s->shapes[TABLE_SPAN][t->shape[k]].origin] += spans.rows[k];
        f->d->spans += spans.rows[k];
    }
    if (f->d->spans == before)
        return true;
    if (f->table_ok[TABLE_SPAN] && !count_table(f, &g, TABLE_SPAN, &spans))
        return false;
    for (int table = TABLE_EVENT; table <= TABLE_LINK; table++)
        if (f->table_ok[table] && g.table[table].rows &&
            (!pick_children(f, &g, table, &spans, &children) ||
             !count_table(f, &g, table, &children)))
            return false;
    return true;
}

/* --- the block --- */

/* What is said of all row groups, before the first is read. */
static bool plan(struct finder *f, uint32_t group)
{
    (void)group;
    struct arena *a = &f->d->walk;
    const struct shared *s = f->s;
    struct str service = f->d->q->service;
    arena_reset(a);
    f->shape_ok = ARENA_ARRAY(a, bool, s->shape_count[TABLE_SPAN] + (size_t)1);
    f->col_ok = ARENA_ARRAY(a, bool, s->col_count + (size_t)1);
    f->col_count = ARENA_ARRAY(a, uint64_t, s->col_count + (size_t)1);
    f->origin_spans = ARENA_ARRAY(a, uint64_t, s->origin_count + (size_t)1);
    f->d->failed |= a->failed;
    if (a->failed)
        return false;
    for (uint32_t i = 0; i < s->shape_count[TABLE_SPAN]; i++)
        f->shape_ok[i] = !service.n ||
                         str_eq(service, s->services[s->shapes[TABLE_SPAN][i].origin]);
    for (uint32_t i = 0; i < s->col_count; i++) {
        enum block_table table = s->cols[i].scope;
        f->col_ok[i] = discover_wants(f->d, s->strings[s->cols[i].key], table_place[table]);
        f->table_ok[table] |= f->col_ok[i];
    }
    return true;
}

static void tell_attrs(struct finder *f, const struct kvs *kvs, enum tag_place place,
                       uint64_t count)
{
    for (uint32_t i = 0; i < kvs->n; i++) {
        if (!f->d->values)
            discover_key(f->d, kvs->v[i].key, place, 1u << kvs->v[i].val.type, count);
        else if (discover_wants(f->d, kvs->v[i].key, place))
            discover_value(f->d, &kvs->v[i].val, count);
    }
}

/* Resources and scopes, and the keys that were added up. */
static bool tell_block(struct finder *f, uint32_t group)
{
    (void)group;
    const struct shared *s = f->s;
    bool origins = discover_in(f->d->q, TAG_RESOURCE) || discover_in(f->d->q, TAG_SCOPE);
    for (uint32_t i = 0; !f->d->values && i < s->col_count; i++)
        discover_key(f->d, s->strings[s->cols[i].key], table_place[s->cols[i].scope],
                     1u << s->cols[i].type, f->col_count[i]);
    for (uint32_t i = 0; origins && i < s->origin_count; i++) {
        struct span_origin o;
        if (!f->origin_spans[i])
            continue;
        if (!shared_origin(f->r, s, i, &f->r->a, &o))
            return false;
        tell_attrs(f, &o.resource->attrs, TAG_RESOURCE, f->origin_spans[i]);
        tell_attrs(f, &o.scope->attrs, TAG_SCOPE, f->origin_spans[i]);
    }
    return true;
}

/* Each step borrows a reader of its own. */
static enum errc step(struct finder *f, struct block *b, bool (*fn)(struct finder *, uint32_t),
                      uint32_t group, struct err *e)
{
    f->r = reader_take(b, e);
    f->s = shared_read(f->r);
    if (f->s)
        fn(f, group);
    return reader_give(f->r);
}

enum errc block_discover(struct block *b, struct discovery *d, struct err *e)
{
    struct finder f = {.d = d};
    const struct discover_query *q = d->q;
    enum errc rc = step(&f, b, plan, 0, e);
    if (rc || d->failed)
        return rc;
    uint32_t *order = block_newest_groups(b);
    for (uint32_t i = 0; rc == E_OK && i < b->group_count; i++) {
        const struct group *g = &b->groups[order[i]];
        if (g->min_ns > q->start_max_ns || g->max_ns < q->start_min_ns)
            continue;
        if (discover_late(d, g->max_ns))
            break;
        rc = step(&f, b, look_at_group, order[i], e);
    }
    free(order);
    return rc ? rc : step(&f, b, tell_block, 0, e);
}
