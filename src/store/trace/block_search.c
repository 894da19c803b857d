/* SPDX-License-Identifier: Apache-2.0 */
/* A search of one block. What match_span() says of a span is said here of columns; every step only
 * rules out what cannot match:
 *
 *   1. the block: by its time range, by the words it has (services, names, keys), by its shapes;
 *   2. a row group: by time, by longest duration, by the floor, by the value filter, of which one
 *      page is read for a value; then by the shapes in its directory, each of which knows its
 *      longest span, and by the columns of the first tag's key;
 *   3. rows: first by shape, which settles service, operation, kind, status, and tags of resource
 *      and scope; then by duration; then by the columns of the tags' keys, where a string is looked
 *      for once among the distinct values and then only numbers are compared; last by start.
 *
 * What a query is in the numbers of the block (struct block_search) is worked out once. Most row
 * groups of a search end at the filter, so it is asked before a reader is taken. */
#include "store/trace/block_read.h"

#include "base/num.h"
#include "store/trace/match.h"

#include <stdlib.h>

/* Which values of a column satisfy a tag: `yes` of each value, or of each distinct string. */
struct verdict {
    const uint64_t *id; /* index into yes; NULL: yes is of each value */
    bool *yes;          /* NULL: all of them, when any */
    bool any;
};

/* One tag against the whole block. */
struct tag_plan {
    const struct tag_filter *f;
    enum tag_field field;
    bool *origin_yes; /* of each origin: its resource or scope satisfies the tag */
    uint32_t *cols;   /* columns that may satisfy it */
    uint32_t col_count;
    bool may_vary;               /* rows may differ: cols or a field of the row */
    bool filtered;               /* where the filter has not the value, no row satisfies it */
    uint64_t str_hash, int_hash; /* in the value filters */
    bool is_int;                 /* the value is an integer as we would print it */
    /* of a row group, during a call */
    bool may_str, may_int;    /* its filter may have the value */
    struct verdict *verdicts; /* of each of cols */
};

struct block_search {
    struct block *b;
    const struct trace_query *q;
    struct arena *a; /* what is prepared lies here */
    uint64_t *bytes_read;
    bool *shape_ok; /* service, operation, kind, status, and tags that do not vary */
    struct tag_plan *tags;
    /* during a call */
    struct reader *r;
    const struct shared *s;
    uint64_t floor; /* starts or durations below are not wanted */
};

/* --- the block --- */

static bool has_word(const struct block *b, struct str s, uint64_t kind)
{
    uint32_t want = block_word(s, kind), low = 0, high = b->word_count;
    if (!b->word_count)
        return true;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (b->words[mid] < want)
            low = mid + 1;
        else
            high = mid;
    }
    return low < b->word_count && b->words[low] == want;
}

bool block_may_match(const struct block *b, const struct trace_query *q)
{
    if (!b->meta.span_count || b->meta.min_ns > q->start_max_ns || b->meta.max_ns < q->start_min_ns)
        return false;
    if ((q->service.n && !has_word(b, q->service, WORD_SERVICE)) ||
        (q->operation.n && !has_word(b, q->operation, WORD_NAME)))
        return false;
    for (uint32_t i = 0; i < q->tag_count; i++) {
        const struct tag_filter *f = &q->tags[i];
        struct str resource_key = tag_resource_key(f);
        if (tag_field(f) == FIELD_NONE && !has_word(b, f->key, WORD_KEY) &&
            !(resource_key.n && has_word(b, resource_key, WORD_KEY)))
            return false;
    }
    return true;
}

static bool looks_in(const struct tag_filter *f, enum tag_place place)
{
    return f->place == TAG_ANY || f->place == place;
}

static bool kvs_match(const struct tag_filter *f, struct str key, const struct kvs *kvs)
{
    for (uint32_t i = 0; i < kvs->n; i++)
        if (str_eq(kvs->v[i].key, key) && tag_match_value(f, &kvs->v[i].val))
            return true;
    return false;
}

static bool origin_matches(const struct tag_plan *t, const struct span_origin *o)
{
    const struct tag_filter *f = t->f;
    struct str resource_key = tag_resource_key(f);
    if (looks_in(f, TAG_RESOURCE) && kvs_match(f, f->key, &o->resource->attrs))
        return true;
    if (resource_key.n && kvs_match(f, resource_key, &o->resource->attrs))
        return true;
    if (looks_in(f, TAG_SCOPE) && kvs_match(f, f->key, &o->scope->attrs))
        return true;
    if (t->field == FIELD_SCOPE_NAME)
        return tag_match_text(f, o->scope->name);
    return t->field == FIELD_SCOPE_VERSION && tag_match_text(f, o->scope->version);
}

/* Does every span of the shape satisfy the tag? */
static bool shape_matches(const struct block_search *q, const struct tag_plan *t,
                          const struct shared_shape *shape)
{
    if (t->origin_yes[shape->origin])
        return true;
    if (t->field == FIELD_KIND && tag_match_kind(t->f, shape->kind))
        return true;
    if ((t->field == FIELD_ERROR || t->field == FIELD_STATUS || t->field == FIELD_STATUS_CODE) &&
        tag_match_status(t->f, t->field, shape->status))
        return true;
    if (t->f->op != TAG_EXISTS || !looks_in(t->f, TAG_SPAN))
        return false;
    const struct shared_list *list = &q->s->lists[shape->list];
    for (uint32_t j = 0; j < list->n; j++)
        if (str_eq(q->s->strings[q->s->cols[list->col[j]].key], t->f->key))
            return true;
    return false;
}

static void *plan_alloc(struct block_search *q, size_t n, size_t size)
{
    void *p = arena_calloc(q->a, n ? n : 1, size, 8);
    if (!p)
        reader_no_memory(q->r);
    return p;
}

/* Do rows of one shape differ in the field? */
static bool is_of_row(enum tag_field field)
{
    return field == FIELD_STATUS_MESSAGE || field == FIELD_TRACE_STATE || field == FIELD_EVENT_NAME;
}

static bool is_filtered(const struct shared *s, const struct tag_plan *t)
{
    if (t->f->op != TAG_EQUALS || !t->col_count || t->field != FIELD_NONE)
        return false;
    for (uint32_t i = 0; i < t->col_count; i++) {
        unsigned type = s->cols[t->cols[i]].type;
        if (type != ATTR_STR && type != ATTR_INT)
            return false;
    }
    for (uint32_t i = 0; i < s->origin_count; i++)
        if (t->origin_yes[i])
            return false;
    return true;
}

static bool plan_tag(struct block_search *q, struct tag_plan *t, const struct tag_filter *f,
                     const struct span_origin *origins)
{
    static const enum tag_place place[] = {TAG_SPAN, TAG_EVENT, TAG_LINK};
    const struct shared *s = q->s;
    char text[NUM_TEXT_MAX];
    int64_t i64;
    uint64_t seed = filter_key_seed(f->key);
    *t = (struct tag_plan){.f = f,
                           .field = tag_field(f),
                           .origin_yes = plan_alloc(q, s->origin_count, sizeof(bool)),
                           .cols = plan_alloc(q, s->col_count, sizeof *t->cols),
                           .str_hash = filter_hash_str(f->value, seed)};
    if (!t->origin_yes || !t->cols)
        return false;
    if (f->value.n && num_get_i64(f->value, &i64) &&
        str_eq(str_of(text, num_put_i64(text, i64)), f->value)) {
        t->is_int = true;
        t->int_hash = filter_hash_int((uint64_t)i64, seed);
    }
    for (uint32_t i = 0; i < s->origin_count; i++)
        t->origin_yes[i] = origin_matches(t, &origins[i]);
    for (uint32_t i = 0; i < s->col_count; i++)
        if (looks_in(f, place[s->cols[i].scope]) && str_eq(s->strings[s->cols[i].key], f->key))
            t->cols[t->col_count++] = i;
    t->may_vary = t->col_count || is_of_row(t->field);
    t->filtered = is_filtered(s, t);
    return true;
}

/* False also when nothing of the block can match. */
static bool plan(struct block_search *q)
{
    const struct shared *s = q->s;
    const struct trace_query *tq = q->q;
    struct span_origin *origins = reader_alloc(q->r, s->origin_count, sizeof *origins);
    q->shape_ok = plan_alloc(q, s->shape_count[TABLE_SPAN], sizeof *q->shape_ok);
    q->tags = plan_alloc(q, tq->tag_count, sizeof *q->tags);
    if (!origins || !q->shape_ok || !q->tags)
        return false;
    for (uint32_t i = 0; tq->tag_count && i < s->origin_count; i++)
        if (!shared_origin(q->r, s, i, &q->r->a, &origins[i]))
            return false;
    for (uint32_t i = 0; i < tq->tag_count; i++)
        if (!plan_tag(q, &q->tags[i], &tq->tags[i], origins))
            return false;
    bool any = false;
    for (uint32_t i = 0; i < s->shape_count[TABLE_SPAN]; i++) {
        const struct shared_shape *shape = &s->shapes[TABLE_SPAN][i];
        bool ok = (!tq->service.n || str_eq(tq->service, s->services[shape->origin])) &&
                  (!tq->operation.n || str_eq(tq->operation, s->strings[shape->name])) &&
                  (tq->kind < 0 || (unsigned)tq->kind == shape->kind) &&
                  (!tq->statuses || tq->statuses >> shape->status & 1);
        for (uint32_t k = 0; ok && k < tq->tag_count; k++)
            ok = q->tags[k].may_vary || shape_matches(q, &q->tags[k], shape);
        q->shape_ok[i] = ok;
        any |= ok;
    }
    return any;
}

/* --- a row group's filter --- */

static enum errc filter_may_have(struct block_search *q, const struct group *g, uint64_t hash,
                                 bool *may, struct err *e)
{
    uint8_t page[FILTER_PAGE_BYTES];
    uint32_t blocks = (uint32_t)(g->filter_len / FILTER_PAGE_BYTES * FILTER_BLOCKS);
    uint32_t at = filter_at(hash, blocks);
    uint64_t off = g->data_off + g->data_len + g->dir_len;
    size_t got;
    *may = false;
    if (!blocks)
        return E_OK;
    enum errc code = os_pread(q->b->file, page, sizeof page,
                              off + (uint64_t)(at / FILTER_BLOCKS) * FILTER_PAGE_BYTES, &got, e);
    if (code)
        return code;
    *q->bytes_read += got;
    if (got != sizeof page || !filter_page_ok(page))
        return fail(e, E_CORRUPT, "%s: a filter is damaged", q->b->path);
    const uint8_t *p = page + at % FILTER_BLOCKS * 32;
    *may = true;
    for (unsigned w = 0; w < 8; w++)
        *may = *may && (load_u32le(p + 4 * w) & filter_bit(hash, w));
    return E_OK;
}

static enum errc probe_tag(struct block_search *q, struct tag_plan *t, const struct group *g,
                           struct err *e)
{
    t->may_str = t->may_int = true;
    if (t->f->op != TAG_EQUALS || !t->col_count)
        return E_OK;
    t->may_int = false;
    enum errc code = filter_may_have(q, g, t->str_hash, &t->may_str, e);
    if (!code && t->is_int)
        code = filter_may_have(q, g, t->int_hash, &t->may_int, e);
    return code;
}

/* *some is false when nothing in the group can match. */
static enum errc probe_group(struct block_search *q, uint32_t no, bool *some, struct err *e)
{
    enum errc code = E_OK;
    *some = true;
    for (uint32_t i = 0; i < q->q->tag_count && *some && !code; i++) {
        struct tag_plan *t = &q->tags[i];
        code = probe_tag(q, t, &q->b->groups[no], e);
        *some = t->may_str || t->may_int || !t->filtered;
    }
    return code;
}

/* --- columns --- */

static bool judge_strs(struct block_search *q, const struct tag_filter *f, struct rows *g,
                       uint32_t col, struct verdict *v)
{
    const struct strs *strs;
    unsigned type = q->s->cols[col].type;
    if (!rows_strs(g, COL_ATTRS + col, g->value_count[col], &strs))
        return false;
    if (!strs)
        return reader_bad(q->r, "an attribute column");
    v->id = strs->id;
    v->yes = reader_alloc(q->r, strs->distinct, sizeof *v->yes);
    if (!v->yes)
        return false;
    for (uint32_t i = 0; i < strs->distinct; i++) {
        struct value val = {.type = type, .s = strs_value(strs, i)};
        v->yes[i] = type == ATTR_STR ? str_eq(val.s, f->value) : tag_match_value(f, &val);
        v->any |= v->yes[i];
    }
    return true;
}

static bool judge_nums(struct block_search *q, const struct tag_filter *f, struct rows *g,
                       uint32_t col, struct verdict *v)
{
    const uint64_t *nums;
    uint32_t n = g->value_count[col];
    unsigned type = q->s->cols[col].type;
    if (!rows_nums(g, COL_ATTRS + col, n, &nums))
        return false;
    v->yes = reader_alloc(q->r, n, sizeof *v->yes);
    if (!v->yes)
        return false;
    if (!nums)
        return reader_bad(q->r, "an attribute column");
    for (uint32_t i = 0; i < n; i++) {
        struct value val = block_num_value(type, nums[i]);
        v->yes[i] = i && nums[i] == nums[i - 1] ? v->yes[i - 1] : tag_match_value(f, &val);
        v->any |= v->yes[i];
    }
    return true;
}

static bool judge_col(struct block_search *q, const struct tag_plan *t, struct rows *g,
                      uint32_t col, struct verdict *v)
{
    unsigned type = q->s->cols[col].type;
    struct value empty = {.type = ATTR_EMPTY};
    *v = (struct verdict){0};
    if (!g->value_count[col] || (type == ATTR_STR && !t->may_str) ||
        (type == ATTR_INT && !t->may_int))
        return true;
    if (t->f->op == TAG_EXISTS || (type == ATTR_EMPTY && tag_match_value(t->f, &empty))) {
        v->any = true;
        return true;
    }
    if (type == ATTR_EMPTY)
        return true;
    return attr_is_str(type) ? judge_strs(q, t->f, g, col, v) : judge_nums(q, t->f, g, col, v);
}

/* Judges the values of the tag's columns. *some is false when no row can satisfy the tag. */
static bool judge_tag(struct block_search *q, struct tag_plan *t, struct rows *g, bool *some)
{
    const struct rows_table *st = &g->table[TABLE_SPAN];
    t->verdicts = reader_alloc(q->r, t->col_count, sizeof *t->verdicts);
    if (!t->verdicts)
        return false;
    *some = is_of_row(t->field);
    for (uint32_t i = 0; i < t->col_count; i++) {
        if (!judge_col(q, t, g, t->cols[i], &t->verdicts[i]))
            return false;
        *some |= t->verdicts[i].any;
    }
    for (uint32_t k = 0; k < st->shape_count && !*some; k++)
        *some = q->shape_ok[st->shape[k]] &&
                shape_matches(q, t, &q->s->shapes[TABLE_SPAN][st->shape[k]]);
    return true;
}

/* Rows of a table in shape order, as row numbers. */
static const uint32_t *shape_order(struct rows *g, enum block_table table)
{
    const struct rows_table *t = &g->table[table];
    uint32_t *order = reader_alloc(g->r, t->rows, sizeof *order);
    for (uint32_t i = 0; order && i < t->rows; i++)
        order[t->first[t->local[i]] + t->rank[i]] = i;
    return order;
}

/* Marks the rows of `table` whose value in `col` is judged yes. */
static bool mark_col(struct block_search *q, struct rows *g, uint32_t col, const struct verdict *v,
                     bool *rows)
{
    enum block_table table = q->s->cols[col].scope;
    if (!rows_shapes(g, table))
        return false;
    const struct rows_table *t = &g->table[table];
    const uint32_t *order = shape_order(g, table);
    if (!order)
        return false;
    for (uint32_t k = 0; k < t->shape_count; k++) {
        const struct shared_list *list = &q->s->lists[q->s->shapes[table][t->shape[k]].list];
        uint32_t first = t->first[k], n = t->first[k + 1] - first;
        for (uint32_t j = 0; j < list->n; j++) {
            if (list->col[j] != col)
                continue;
            uint32_t at = t->value_at[k][j];
            for (uint32_t i = 0; i < n; i++)
                if (!v->yes || v->yes[v->id ? v->id[at + i] : at + i])
                    rows[order[first + i]] = true;
        }
    }
    return true;
}

/* Marks the spans of marked events or links. */
static bool mark_parents(struct rows *g, enum block_table table, const bool *children, bool *spans)
{
    if (!g->table[table].rows)
        return true;
    if (!rows_children(g, table))
        return false;
    const uint32_t *first = g->child_at[table];
    for (uint32_t i = 0; i < g->g->rows; i++)
        for (uint32_t k = first[i]; k < first[i + 1]; k++)
            spans[i] |= children[k];
    return true;
}

static bool mark_text(struct block_search *q, const struct tag_plan *t, struct rows *g, bool *spans)
{
    const struct strs *s;
    uint32_t no = t->field == FIELD_TRACE_STATE ? COL_TRACE_STATE : COL_MESSAGE;
    if (!rows_strs(g, no, g->g->rows, &s))
        return false;
    bool *yes = s ? reader_alloc(q->r, s->distinct, sizeof *yes) : NULL;
    if (!yes)
        return !s;
    for (uint32_t i = 0; i < s->distinct; i++)
        yes[i] = tag_match_text(t->f, strs_value(s, i));
    for (uint32_t i = 0; i < g->g->rows; i++)
        spans[i] |= yes[s->id[i]];
    return true;
}

static bool mark_event_names(struct block_search *q, const struct tag_plan *t, struct rows *g,
                             bool *events)
{
    const struct rows_table *et = &g->table[TABLE_EVENT];
    if (!rows_shapes(g, TABLE_EVENT))
        return false;
    for (uint32_t i = 0; i < et->rows; i++) {
        uint32_t name = q->s->shapes[TABLE_EVENT][et->shape[et->local[i]]].name;
        events[i] |= tag_match_text(t->f, q->s->strings[name]);
    }
    return true;
}

/* A mark for each row of the table, made when first asked for. */
static bool *marks(struct rows *g, bool *mark[TABLE_COUNT], enum block_table table)
{
    if (!mark[table])
        mark[table] = reader_alloc(g->r, g->table[table].rows, sizeof(bool));
    return mark[table];
}

/* Clears ok[] of the rows that do not satisfy the tag, which was judged. */
static bool apply_tag(struct block_search *q, const struct tag_plan *t, struct rows *g, bool *ok)
{
    const struct rows_table *st = &g->table[TABLE_SPAN];
    bool *mark[TABLE_COUNT] = {0};
    bool *spans = marks(g, mark, TABLE_SPAN);
    bool *shape_yes = reader_alloc(q->r, st->shape_count, sizeof *shape_yes);
    if (!spans || !shape_yes)
        return false;
    for (uint32_t k = 0; k < st->shape_count; k++)
        shape_yes[k] = shape_matches(q, t, &q->s->shapes[TABLE_SPAN][st->shape[k]]);
    for (uint32_t i = 0; i < t->col_count; i++) {
        uint8_t table = q->s->cols[t->cols[i]].scope;
        if (t->verdicts[i].any &&
            (!marks(g, mark, table) || !mark_col(q, g, t->cols[i], &t->verdicts[i], mark[table])))
            return false;
    }
    if (t->field == FIELD_EVENT_NAME &&
        (!marks(g, mark, TABLE_EVENT) || !mark_event_names(q, t, g, mark[TABLE_EVENT])))
        return false;
    if ((t->field == FIELD_TRACE_STATE || t->field == FIELD_STATUS_MESSAGE) &&
        !mark_text(q, t, g, spans))
        return false;
    for (int i = TABLE_EVENT; i < TABLE_COUNT; i++)
        if (mark[i] && !mark_parents(g, i, mark[i], spans))
            return false;
    for (uint32_t i = 0; i < g->g->rows; i++)
        ok[i] = ok[i] && (spans[i] || shape_yes[st->local[i]]);
    return true;
}

static uint64_t least_duration(const struct block_search *q)
{
    uint64_t floor = q->q->order == ORDER_SLOWEST ? q->floor : 0;
    return max_u64(q->q->duration_min_ns, floor);
}

/* Rules out by the difference of end and start alone. Where that may have wrapped around, it takes
 * the start to know: report() looks again. */
static bool apply_duration(struct block_search *q, struct rows *g, bool *ok)
{
    const struct rows_table *st = &g->table[TABLE_SPAN];
    const uint64_t *duration;
    uint64_t min = least_duration(q), max = q->q->duration_max_ns;
    bool wraps = g->g->max_ns > INT64_MAX;
    if (!min && !max)
        return true;
    if (!rows_nums(g, COL_DURATION, g->g->rows, &duration))
        return false;
    for (uint32_t i = 0; i < g->g->rows; i++) {
        if (!ok[i])
            continue;
        int64_t d = unzigzag(num_at(duration, st->first[st->local[i]] + st->rank[i]));
        ok[i] = d < 0 || wraps || ((uint64_t)d >= min && (!max || (uint64_t)d <= max));
    }
    return true;
}

/* Does the directory leave a shape that matches and is slow enough? */
static bool any_shape(const struct block_search *q, const struct rows *g)
{
    const struct rows_table *st = &g->table[TABLE_SPAN];
    uint64_t least = least_duration(q);
    for (uint32_t k = 0; k < st->shape_count; k++)
        if (q->shape_ok[st->shape[k]] && st->longest[k] >= least)
            return true;
    return false;
}

/* The rows whose shape and duration are right, made when first asked for. */
static bool begin_rows(struct block_search *q, struct rows *g, bool **ok)
{
    const struct rows_table *st = &g->table[TABLE_SPAN];
    if (*ok)
        return true;
    *ok = reader_alloc(q->r, g->g->rows, sizeof **ok);
    if (!*ok || !rows_parts(g) || !rows_shapes(g, TABLE_SPAN))
        return false;
    for (uint32_t i = 0; i < g->g->rows; i++)
        (*ok)[i] = q->shape_ok[st->shape[st->local[i]]];
    return apply_duration(q, g, *ok);
}

/* Which rows of a group that was probed satisfy everything but time, and perhaps duration; *rows is
 * NULL when none does. A tag is judged when the tags before it have left rows, and rows are looked
 * at when the first tag has left values. */
static bool match_rows(struct block_search *q, uint32_t no, struct rows **rows, bool **ok)
{
    bool some;
    *rows = NULL;
    *ok = NULL;
    struct rows *g = reader_alloc(q->r, 1, sizeof *g);
    if (!g || !rows_open_directory(q->r, q->s, no, g))
        return false;
    if (!any_shape(q, g))
        return true;
    for (uint32_t i = 0; i < q->q->tag_count; i++) {
        struct tag_plan *t = &q->tags[i];
        if (!t->may_vary)
            continue;
        if (!judge_tag(q, t, g, &some))
            return false;
        if (!some)
            return true;
        if (!begin_rows(q, g, ok) || !apply_tag(q, t, g, *ok))
            return false;
        if (!memchr(*ok, 1, g->g->rows))
            return true;
    }
    if (!begin_rows(q, g, ok))
        return false;
    *rows = g;
    return true;
}

/* --- ranks --- */

/* The times of the rows of one group. */
struct times {
    uint64_t *start;
    const uint64_t *difference; /* in shape order */
};

static bool read_times(struct rows *g, struct times *t)
{
    const uint64_t *delta;
    uint32_t n = g->g->rows;
    t->start = arena_alloc(&g->r->a, n * sizeof *t->start, 8);
    if (!t->start)
        return reader_no_memory(g->r);
    if (!rows_nums(g, COL_START, n, &delta) || !rows_nums(g, COL_DURATION, n, &t->difference))
        return false;
    for (uint32_t part = 0; part < g->g->parts; part++) {
        uint64_t start = num_at(g->trace_start, part);
        for (uint32_t row = g->row_at[part]; row < g->row_at[part + 1]; row++)
            t->start[row] = start += num_at(delta, row);
    }
    return true;
}

static uint64_t duration_of(const struct rows *g, const struct times *t, uint32_t row)
{
    const struct rows_table *st = &g->table[TABLE_SPAN];
    uint32_t place = st->first[st->local[row]] + st->rank[row];
    uint64_t start = t->start[row], end = start + (uint64_t)unzigzag(num_at(t->difference, place));
    return end > start ? end - start : 0;
}

static bool in_time(const struct trace_query *q, uint64_t start, uint64_t duration)
{
    return start >= q->start_min_ns && start <= q->start_max_ns && duration >= q->duration_min_ns &&
           (!q->duration_max_ns || duration <= q->duration_max_ns);
}

/* The best of the matching rows of a part; false when there is none. Rows go by start. */
static bool rank_rows(const struct block_search *s, const struct rows *g, const struct times *t,
                      const bool *ok, uint32_t part, struct trace_hit *hit)
{
    const struct trace_query *q = s->q;
    bool found = false;
    for (uint32_t i = g->row_at[part + 1]; i-- > g->row_at[part];) {
        if (!ok[i])
            continue;
        uint64_t start = t->start[i], duration = duration_of(g, t, i);
        uint64_t value = q->order == ORDER_SLOWEST ? duration : start;
        if (value < s->floor || !in_time(q, start, duration))
            continue;
        if (!found || value > hit->value) {
            hit->value = value;
            hit->newest_ns = start;
        }
        found = true;
        if (q->order != ORDER_SLOWEST)
            break;
    }
    return found;
}

/* What the rows of a part count. Shapes must have been read to count errors. */
static void count_rows(enum query_order o, const struct rows *g, uint64_t newest_ns, uint32_t part,
                       struct trace_hit *hit)
{
    const struct rows_table *st = &g->table[TABLE_SPAN];
    uint32_t at = g->row_at[part], end = g->row_at[part + 1];
    hit->newest_ns = newest_ns;
    hit->value = end - at;
    if (o == ORDER_MOST_SPANS)
        return;
    hit->value = 0;
    for (uint32_t i = at; i < end; i++)
        hit->value += g->s->shapes[TABLE_SPAN][st->shape[st->local[i]]].status == STATUS_ERROR;
}

/* Has the block no rows of the trace but those of this part? */
static bool is_whole(const struct block *b, uint32_t group, uint32_t part, const uint8_t id[16])
{
    uint32_t at = block_find(b, id), want = block_fingerprint(id);
    bool more = at + 1 < b->meta.trace_count && b->fingerprints[at + 1] == want;
    bool continues = part == 0 && b->groups[group].continues;
    return !more && !continues && !chain_next(b, &group, &part);
}

static bool report(struct block_search *q, uint32_t group, struct rows *g, const bool *ok,
                   struct block_hit *hits, uint32_t *n)
{
    const struct trace_query *tq = q->q;
    struct times t;
    if (!read_times(g, &t))
        return false;
    for (uint32_t part = 0; part < g->g->parts; part++) {
        struct block_hit *h = &hits[*n];
        *h = (struct block_hit){0};
        memcpy(h->hit.trace_id, g->trace_ids + (size_t)part * 16, 16);
        if (!rank_rows(q, g, &t, ok, part, &h->hit))
            continue;
        if (order_counts(tq->order))
            count_rows(tq->order, g, t.start[g->row_at[part + 1] - 1], part, &h->hit);
        h->whole = is_whole(q->b, group, part, h->hit.trace_id);
        ++*n;
    }
    return true;
}

/* --- doors --- */

uint32_t block_group_count(const struct block *b)
{
    return b->group_count;
}

struct block_bounds block_bounds(const struct block *b)
{
    return (struct block_bounds){b->meta.min_ns, b->meta.max_ns, b->max_duration_ns};
}

struct block_bounds block_group_bounds(const struct block *b, uint32_t group)
{
    const struct group *g = &b->groups[group];
    return (struct block_bounds){g->min_ns, g->max_ns, g->max_duration_ns};
}

static bool begin(struct block_search *q, struct err *e)
{
    q->r = reader_take(q->b, e);
    q->s = shared_read(q->r);
    return q->s != NULL;
}

static enum errc end(struct block_search *q)
{
    *q->bytes_read += q->r->bytes_read;
    return reader_give(q->r);
}

enum errc block_search_open(struct block *b, const struct trace_query *query, struct arena *a,
                            uint64_t *bytes_read, struct block_search **out, struct err *e)
{
    ensure(query->tag_count <= QUERY_TAGS_MAX);
    *out = NULL;
    if (!block_may_match(b, query))
        return E_OK;
    struct block_search *q = ARENA_NEW(a, struct block_search);
    if (!q)
        return fail(e, E_NO_MEMORY, "%s: no memory to search it", b->path);
    *q = (struct block_search){.b = b, .q = query, .a = a, .bytes_read = bytes_read};
    bool some = begin(q, e) && plan(q);
    enum errc code = end(q);
    *out = some && !code ? q : NULL;
    return code;
}

enum errc block_search_group(struct block_search *q, uint32_t group, uint64_t floor,
                             struct arena *a, struct block_hit **hits, uint32_t *n, struct err *e)
{
    struct rows *g;
    bool *ok, some;
    *n = 0;
    q->floor = floor;
    enum errc code = probe_group(q, group, &some, e);
    if (code || !some)
        return code;
    if (begin(q, e) && match_rows(q, group, &g, &ok) && g) {
        *hits = arena_alloc(a, g->g->parts * sizeof **hits, 8);
        if (!*hits)
            reader_no_memory(q->r);
        else
            report(q, group, g, ok, *hits, n);
    }
    return end(q);
}

static bool rank_part(struct block_search *q, uint32_t group, uint32_t part, bool *found,
                      struct trace_hit *out)
{
    struct rows *g;
    struct times t;
    bool *ok, some;
    q->r->code = probe_group(q, group, &some, q->r->e);
    if (q->r->code || !some)
        return !q->r->code;
    if (!match_rows(q, group, &g, &ok))
        return false;
    if (!g)
        return true;
    if (!read_times(g, &t))
        return false;
    struct trace_hit hit = *out;
    if (!rank_rows(q, g, &t, ok, part, &hit))
        return true;
    if (*found)
        trace_hit_merge(q->q->order, out, &hit);
    else
        *out = hit;
    *found = true;
    return true;
}

/* One chain's share of block_search_trace. */
static bool rank_chain(struct block_search *q, uint32_t group, uint32_t part, bool *found,
                       struct trace_hit *out)
{
    do {
        reader_relieve(q->r);
        if (!rank_part(q, group, part, found, out))
            return false;
    } while (chain_next(q->b, &group, &part));
    return true;
}

enum errc block_search_trace(struct block_search *q, const uint8_t id[16], bool *found,
                             struct trace_hit *out, struct err *e)
{
    *found = false;
    memmove(out->trace_id, id, 16);
    q->floor = 0;
    if (begin(q, e)) {
        struct chain_walk w = chain_walk(q->r, q->s, id);
        while (chain_walk_next(&w) && rank_chain(q, w.group, w.part, found, out))
            ;
    }
    return end(q);
}

static bool count_part(struct rows *g, enum query_order o, uint32_t part, struct trace_hit *out)
{
    const uint64_t *delta;
    struct trace_hit hit = *out;
    if (!rows_nums(g, COL_START, g->g->rows, &delta) ||
        (o == ORDER_MOST_ERRORS && !rows_shapes(g, TABLE_SPAN)))
        return false;
    uint64_t newest_ns = num_at(g->trace_start, part);
    for (uint32_t i = g->row_at[part]; i < g->row_at[part + 1]; i++)
        newest_ns += num_at(delta, i);
    count_rows(o, g, newest_ns, part, &hit);
    trace_hit_merge(o, out, &hit);
    return true;
}

static bool count_chain(struct reader *r, const struct shared *s, enum query_order o,
                        uint32_t group, uint32_t part, struct trace_hit *out)
{
    do {
        reader_relieve(r);
        struct rows *g = rows_get(r, s, group);
        if (!g || !count_part(g, o, part, out))
            return false;
    } while (chain_next(r->b, &group, &part));
    return true;
}

enum errc block_count_trace(struct block *b, enum query_order o, const uint8_t id[16],
                            uint64_t *bytes_read, struct trace_hit *out, struct err *e)
{
    struct trace_hit none = {.value = 0};
    memcpy(none.trace_id, id, 16); /* which may be out's own */
    *out = none;
    struct reader *r = reader_take(b, e);
    const struct shared *s = shared_read(r);
    if (s) {
        struct chain_walk w = chain_walk(r, s, id);
        while (chain_walk_next(&w) && count_chain(r, s, o, w.group, w.part, out))
            ;
    }
    *bytes_read += r->bytes_read;
    return reader_give(r);
}
