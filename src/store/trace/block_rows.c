/* SPDX-License-Identifier: Apache-2.0 */
/* One row group, opened: its directory at once, its columns when someone looks.
 *
 * Where the values of a row lie: the attribute columns keep the values of one shape together, so
 * value_at[shape][key] + rank(row) is the place, whatever lies between. Every count is checked
 * against what it must agree with before it is used as an index:
 *
 *   1. the rows of the shapes of a table add up to its rows, and no shape has more rows than said;
 *   2. the values of a column are as many as the shapes that have its key say;
 *   3. children add up to the rows of their table, trace parts to the rows of the group. */
#include "store/trace/block_read.h"

static const char *const column_names[] = {
#define BLOCK_COLUMN_NAME(id, name) name,
    BLOCK_COLUMNS(BLOCK_COLUMN_NAME)
#undef BLOCK_COLUMN_NAME
};

static const char *column_name(uint32_t no)
{
    return no < COL_FIXED ? column_names[no] : "an attribute column";
}

/* --- directory --- */

/* The shapes of one table, how many rows each has, and where the values of those rows begin. */
static bool open_table(struct rows *g, struct unpacker *u, enum block_table table)
{
    struct reader *r = g->r;
    struct rows_table *t = &g->table[table];
    t->rows = (uint32_t)unpack_count(u, COLUMN_VALUES_MAX);
    t->shape_count = (uint32_t)unpack_count(u, (uint64_t)(u->end - u->at));
    t->shape = reader_alloc(r, t->shape_count, sizeof *t->shape);
    t->first = reader_alloc(r, t->shape_count + (size_t)1, sizeof *t->first);
    t->longest = reader_alloc(r, t->shape_count, sizeof *t->longest);
    t->value_at = reader_alloc(r, t->shape_count, sizeof *t->value_at);
    if (!t->shape || !t->first || !t->longest || !t->value_at)
        return false;
    bool v1 = r->b->version == 1; /* ascending steps, no longest */
    uint64_t number = 0, rows = 0;
    for (uint32_t k = 0; k < t->shape_count && !u->bad; k++) {
        uint64_t step = unpack_count(u, 2 * (uint64_t)UINT32_MAX);
        number += v1 ? step : (uint64_t)unzigzag(step);
        uint64_t count = unpack_count(u, t->rows - rows);
        t->longest[k] = v1 || table != TABLE_SPAN ? g->g->max_duration_ns : unpack_varint(u);
        if (u->bad || number >= g->s->shape_count[table] || !count)
            return reader_bad(r, "a row group's directory");
        t->shape[k] = (uint32_t)number;
        t->first[k] = (uint32_t)rows;
        rows += count;
        const struct shared_list *list = &g->s->lists[g->s->shapes[table][number].list];
        t->value_at[k] = arena_alloc(&r->a, list->n * sizeof **t->value_at + 1, 4);
        if (!t->value_at[k])
            return reader_no_memory(r);
        for (uint32_t j = 0; j < list->n; j++) {
            uint32_t *have = &g->value_count[list->col[j]];
            if (g->s->cols[list->col[j]].scope != table || count > COLUMN_VALUES_MAX - *have)
                return reader_bad(r, "a row group's directory");
            t->value_at[k][j] = *have;
            *have += (uint32_t)count;
        }
    }
    t->first[t->shape_count] = (uint32_t)rows;
    return !u->bad && rows == t->rows ? true : reader_bad(r, "a row group's directory");
}

static uint32_t unpack_crc(struct unpacker *u)
{
    struct str s = unpack_raw(u, 4);
    return s.n ? load_u32le(s.p) : 0;
}

static bool open_columns(struct rows *g, struct unpacker *u)
{
    uint64_t at = g->g->data_off, tail_at = 0, number = 0;
    g->col_count = (uint32_t)unpack_count(u, (uint64_t)(u->end - u->at));
    g->cols = reader_alloc(g->r, g->col_count, sizeof *g->cols);
    if (!g->cols)
        return false;
    for (uint32_t i = 0; i < g->col_count && !u->bad; i++) {
        struct rows_col *c = &g->cols[i];
        uint64_t step = unpack_count(u, UINT32_MAX), len = unpack_varint(u);
        number += step;
        if ((i && !step) || number >= COL_ATTRS + (uint64_t)g->s->col_count)
            u->bad = true;
        *c = (struct rows_col){.no = (uint32_t)number, .len = len >> 1, .tail = len & 1};
        c->at = c->tail ? tail_at : at;
        if (!c->tail)
            c->crc = unpack_crc(u);
        if (c->len > g->g->data_len)
            u->bad = true;
        *(c->tail ? &tail_at : &at) += c->len;
    }
    g->tail_raw = unpack_varint(u);
    g->tail_len = unpack_count(u, g->g->data_len);
    g->tail_crc = unpack_crc(u);
    g->tail_at = at;
    return !u->bad && g->tail_raw == tail_at && u->at == u->end &&
                   at + g->tail_len == g->g->data_off + g->g->data_len
               ? true
               : reader_bad(g->r, "a row group's directory");
}

bool rows_parts(struct rows *g)
{
    uint32_t n = g->g->parts;
    uint64_t rows = 0;
    if (g->trace_ids)
        return true;
    g->row_at = reader_alloc(g->r, n + (size_t)1, sizeof *g->row_at);
    if (!g->row_at)
        return false;
    if (!rows_bytes(g, COL_TRACE_ID, (size_t)n * 16, &g->trace_ids) ||
        !rows_nums(g, COL_TRACE_ROWS, n, &g->trace_rows) ||
        !rows_nums(g, COL_TRACE_START, n, &g->trace_start))
        return reader_bad(g->r, "a row group's traces");
    for (uint32_t i = 0; i < n; i++) {
        uint64_t count = num_at(g->trace_rows, i);
        if (!count || count > g->g->rows - rows)
            return reader_bad(g->r, "a row group's traces");
        rows += count;
        g->row_at[i + 1] = (uint32_t)rows;
    }
    return rows == g->g->rows && g->trace_ids ? true : reader_bad(g->r, "a row group's traces");
}

bool rows_open_directory(struct reader *r, const struct shared *s, uint32_t group, struct rows *out)
{
    const struct group *g = &r->b->groups[group];
    *out = (struct rows){.r = r, .s = s, .g = g};
    const uint8_t *dir = reader_bytes(r, g->data_off + g->data_len, g->dir_len, g->dir_crc,
                                      "a row group's directory");
    out->value_count = reader_alloc(r, s->col_count, sizeof *out->value_count);
    if (!dir || !out->value_count)
        return false;
    struct unpacker u = reader_unpacker(r, dir, g->dir_len);
    for (int t = 0; t < TABLE_COUNT; t++)
        if (!open_table(out, &u, t))
            return false;
    uint64_t parts = unpack_varint(&u);
    if (out->table[TABLE_SPAN].rows != g->rows || parts != g->parts)
        return reader_bad(r, "a row group's directory");
    return open_columns(out, &u);
}

bool rows_open(struct reader *r, const struct shared *s, uint32_t group, struct rows *out)
{
    return rows_open_directory(r, s, group, out) && rows_parts(out);
}

struct rows *rows_get(struct reader *r, const struct shared *s, uint32_t group)
{
    for (size_t i = 0; i < ARRAY_LEN(r->rows); i++)
        if (r->rows[i] && r->rows[i]->g == &r->b->groups[group])
            return r->rows[i];
    struct rows *rows = reader_alloc(r, 1, sizeof *rows);
    if (!rows || !rows_open(r, s, group, rows))
        return NULL;
    return r->rows[r->rows_opened++ % ARRAY_LEN(r->rows)] = rows;
}

/* --- columns --- */

static struct rows_col *find(const struct rows *g, uint32_t no)
{
    uint32_t low = 0, high = g->col_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (g->cols[mid].no < no)
            low = mid + 1;
        else
            high = mid;
    }
    return low < g->col_count && g->cols[low].no == no ? &g->cols[low] : NULL;
}

bool rows_has(const struct rows *g, uint32_t no)
{
    return find(g, no) != NULL;
}

bool rows_tail(struct rows *g)
{
    if (g->tail)
        return true;
    const uint8_t *in = reader_bytes(g->r, g->tail_at, g->tail_len, g->tail_crc,
                                     "a row group's small columns");
    if (!in)
        return false;
    struct unpacker u = reader_unpacker(g->r, in, g->tail_len);
    if (g->tail_raw > READER_BYTES_MAX)
        return reader_no_memory(g->r);
    g->tail = unpack_bytes(&u, g->tail_raw);
    u.bad |= u.at != u.end;
    return reader_check(g->r, &u, "a row group's small columns");
}

/* A cursor over the stored column. It is bad until loaded() finds it good. */
static bool load(struct rows *g, struct rows_col *c, struct unpacker *u)
{
    if (c->bad)
        return reader_bad(g->r, column_name(c->no));
    c->bad = true;
    if (c->tail) {
        if (!rows_tail(g))
            return false;
        *u = reader_unpacker(g->r, g->tail + c->at, c->len);
        return true;
    }
    const uint8_t *in = reader_bytes(g->r, c->at, c->len, c->crc, column_name(c->no));
    if (in)
        *u = reader_unpacker(g->r, in, c->len);
    return in != NULL;
}

static bool loaded(struct rows *g, struct rows_col *c, struct unpacker *u)
{
    u->bad |= u->at != u->end;
    c->bad = !reader_check(g->r, u, column_name(c->no));
    return !c->bad;
}

bool rows_nums(struct rows *g, uint32_t no, uint32_t n, const uint64_t **out)
{
    struct rows_col *c = find(g, no);
    struct unpacker u;
    *out = NULL;
    if (!c || !n)
        return true;
    if (!c->nums) {
        if (!load(g, c, &u))
            return false;
        c->nums = unpack_nums(&u, n);
        if (!loaded(g, c, &u))
            return false;
    }
    *out = c->nums;
    return true;
}

bool rows_bytes(struct rows *g, uint32_t no, size_t n, const uint8_t **out)
{
    struct rows_col *c = find(g, no);
    struct unpacker u;
    *out = NULL;
    if (!c || !n)
        return true;
    if (!c->bytes) {
        if (!load(g, c, &u))
            return false;
        c->bytes = unpack_bytes(&u, n);
        if (!loaded(g, c, &u))
            return false;
    }
    *out = c->bytes;
    return true;
}

bool rows_strs(struct rows *g, uint32_t no, uint32_t n, const struct strs **out)
{
    struct rows_col *c = find(g, no);
    struct unpacker u;
    *out = NULL;
    if (!c || !n)
        return true;
    if (!c->strs) {
        struct strs *s = reader_alloc(g->r, 1, sizeof *s);
        if (!s || !load(g, c, &u))
            return false;
        if (!unpack_strs(&u, n, s))
            u.bad = true;
        if (!loaded(g, c, &u))
            return false;
        c->strs = s;
    }
    *out = c->strs;
    return true;
}

/* --- shapes and children --- */

bool rows_shapes(struct rows *g, enum block_table table)
{
    static const uint32_t column[] = {COL_SHAPE, COL_EVENT_SHAPE, COL_LINK_SHAPE};
    struct rows_table *t = &g->table[table];
    if (t->rank || !t->rows)
        return true;
    uint32_t *seen = reader_alloc(g->r, t->shape_count, sizeof *seen);
    uint32_t *rank = arena_alloc(&g->r->a, t->rows * sizeof *rank, 4);
    if (!seen || !rank)
        return reader_no_memory(g->r);
    if (!rows_nums(g, column[table], t->rows, &t->local))
        return false;
    if (!t->local && !(t->local = reader_alloc(g->r, t->rows, sizeof *t->local)))
        return false;
    for (uint32_t i = 0; i < t->rows; i++) {
        uint64_t k = t->local[i];
        if (k >= t->shape_count || seen[k] >= t->first[k + 1] - t->first[k])
            return reader_bad(g->r, "a shape column");
        rank[i] = seen[k]++;
    }
    t->rank = rank;
    return true;
}

bool rows_parents(struct rows *g)
{
    uint32_t parts = g->g->parts, orphans = 0;
    if (g->orphan_at)
        return true;
    uint32_t *at = reader_alloc(g->r, parts + (size_t)1, sizeof *at);
    if (!at || !rows_nums(g, COL_PARENT, g->g->rows, &g->parent))
        return false;
    for (uint32_t k = 0; k < parts; k++) {
        for (uint32_t i = g->row_at[k]; g->parent && i < g->row_at[k + 1]; i++)
            orphans += g->parent[i] == PARENT_ORPHAN;
        at[k + 1] = orphans;
    }
    if (!rows_bytes(g, COL_ORPHAN, orphans * (size_t)8, &g->orphan_ids))
        return false;
    if (orphans && !g->orphan_ids)
        return reader_bad(g->r, "the parent column");
    g->orphan_at = at;
    return true;
}

bool rows_children(struct rows *g, enum block_table table)
{
    const uint64_t *count;
    uint32_t n = g->g->rows, at = 0, most = g->table[table].rows;
    if (g->child_at[table])
        return true;
    uint32_t *first = reader_alloc(g->r, n + (size_t)1, sizeof *first);
    if (!first || !rows_nums(g, table == TABLE_EVENT ? COL_EVENTS : COL_LINKS, n, &count))
        return false;
    for (uint32_t i = 0; i < n; i++) {
        first[i] = at;
        if (num_at(count, i) > most - at)
            return reader_bad(g->r, "a count of events or links");
        at += (uint32_t)num_at(count, i);
    }
    first[n] = at;
    if (at != most)
        return reader_bad(g->r, "a count of events or links");
    g->child_at[table] = first;
    return true;
}

/* --- spans --- */

bool span_maker_init(struct span_maker *m, struct reader *r, const struct shared *s,
                     struct arena *a)
{
    *m = (struct span_maker){.a = a,
                             .origins = reader_alloc(r, s->origin_count, sizeof *m->origins),
                             .strings = reader_alloc(r, s->string_count, sizeof *m->strings)};
    return m->origins && m->strings;
}

static bool copy(struct span_maker *m, struct str in, struct str *out)
{
    *out = arena_str(m->a, in);
    return out->p ? true : reader_no_memory(m->g->r);
}

/* A shared string, copied once. */
static bool shared_copy(struct span_maker *m, uint32_t no, struct str *out)
{
    if (!m->strings[no].p && !copy(m, m->g->s->strings[no], &m->strings[no]))
        return false;
    *out = m->strings[no];
    return true;
}

static bool make_value(struct span_maker *m, uint32_t col, uint32_t at, struct value *v)
{
    struct rows *g = m->g;
    uint32_t n = g->value_count[col];
    const struct strs *strs;
    const uint64_t *nums;
    v->type = g->s->cols[col].type;
    if (v->type == ATTR_EMPTY)
        return true;
    if (attr_is_str(v->type)) {
        if (!rows_strs(g, COL_ATTRS + col, n, &strs))
            return false;
        return strs ? copy(m, strs_value(strs, (uint32_t)strs->id[at]), &v->s)
                    : reader_bad(g->r, "an attribute column");
    }
    if (!rows_nums(g, COL_ATTRS + col, n, &nums))
        return false;
    if (!nums)
        return reader_bad(g->r, "an attribute column");
    *v = block_num_value(v->type, nums[at]);
    return true;
}

/* May the span go without the value that could not be read? */
static bool lose_value(struct span_maker *m)
{
    if (!m->lost_values || m->g->r->code == E_NO_MEMORY)
        return false;
    m->g->r->code = E_OK;
    ++*m->lost_values;
    return true;
}

/* Attributes of a row, in the order in which they were sent. */
static bool make_kvs(struct span_maker *m, enum block_table table, uint32_t row, struct kvs *out)
{
    const struct rows_table *t = &m->g->table[table];
    const struct shared *s = m->g->s;
    uint32_t k = (uint32_t)t->local[row];
    const struct shared_list *list = &s->lists[s->shapes[table][t->shape[k]].list];
    struct kv *kv = list->n ? ARENA_ARRAY(m->a, struct kv, list->n) : NULL;
    if (list->n && !kv)
        return reader_no_memory(m->g->r);
    uint32_t n = 0;
    for (uint32_t j = 0; j < list->n; j++) {
        uint32_t col = list->col[j];
        if (!shared_copy(m, s->cols[col].key, &kv[n].key))
            return false;
        if (make_value(m, col, t->value_at[k][j] + t->rank[row], &kv[n].val))
            n++;
        else if (!lose_value(m))
            return false;
    }
    *out = (struct kvs){kv, n};
    return true;
}

static bool make_events(struct span_maker *m, uint32_t row, struct span *sp)
{
    struct rows *g = m->g;
    const struct rows_table *t = &g->table[TABLE_EVENT];
    const uint64_t *time, *dropped;
    if (!t->rows)
        return true;
    if (!rows_children(g, TABLE_EVENT) || !rows_shapes(g, TABLE_EVENT) ||
        !rows_nums(g, COL_EVENT_TIME, t->rows, &time) ||
        !rows_nums(g, COL_EVENT_DROPPED, t->rows, &dropped))
        return false;
    uint32_t at = g->child_at[TABLE_EVENT][row];
    sp->event_count = g->child_at[TABLE_EVENT][row + 1] - at;
    if (!sp->event_count)
        return true;
    sp->events = ARENA_ARRAY(m->a, struct event, sp->event_count);
    if (!sp->events)
        return reader_no_memory(g->r);
    for (uint32_t i = 0; i < sp->event_count; i++, at++) {
        struct event *e = &sp->events[i];
        uint32_t shape = t->shape[t->local[at]];
        e->time_ns = sp->start_ns + (uint64_t)unzigzag(num_at(time, at));
        e->dropped = (uint32_t)num_at(dropped, at);
        if (!shared_copy(m, g->s->shapes[TABLE_EVENT][shape].name, &e->name) ||
            !make_kvs(m, TABLE_EVENT, at, &e->attrs))
            return false;
    }
    return true;
}

bool rows_link_cols(struct rows *g, struct link_cols *c)
{
    uint32_t n = g->table[TABLE_LINK].rows;
    if (!rows_shapes(g, TABLE_LINK) ||
        !rows_bytes(g, COL_LINK_TRACE_ID, n * (size_t)16, &c->trace_id) ||
        !rows_bytes(g, COL_LINK_SPAN_ID, n * (size_t)8, &c->span_id) ||
        !rows_nums(g, COL_LINK_DROPPED, n, &c->dropped) ||
        !rows_nums(g, COL_LINK_FLAGS, n, &c->flags) || !rows_strs(g, COL_LINK_STATE, n, &c->state))
        return false;
    return c->trace_id && c->span_id ? true : reader_bad(g->r, "a link");
}

static bool make_link(struct span_maker *m, const struct link_cols *c, uint32_t at, struct link *l)
{
    memcpy(l->trace_id, c->trace_id + (size_t)at * 16, 16);
    memcpy(l->span_id, c->span_id + (size_t)at * 8, 8);
    l->dropped = (uint32_t)num_at(c->dropped, at);
    l->flags = (uint32_t)num_at(c->flags, at);
    if (c->state && !copy(m, strs_value(c->state, (uint32_t)c->state->id[at]), &l->trace_state))
        return false;
    return make_kvs(m, TABLE_LINK, at, &l->attrs);
}

static bool make_links(struct span_maker *m, uint32_t row, struct span *sp)
{
    struct rows *g = m->g;
    struct link_cols c;
    if (!g->table[TABLE_LINK].rows)
        return true;
    if (!rows_children(g, TABLE_LINK) || !rows_link_cols(g, &c))
        return false;
    uint32_t at = g->child_at[TABLE_LINK][row];
    sp->link_count = g->child_at[TABLE_LINK][row + 1] - at;
    if (!sp->link_count)
        return true;
    sp->links = ARENA_ARRAY(m->a, struct link, sp->link_count);
    if (!sp->links)
        return reader_no_memory(g->r);
    for (uint32_t i = 0; i < sp->link_count; i++)
        if (!make_link(m, &c, at + i, &sp->links[i]))
            return false;
    return true;
}

bool rows_span_cols(struct rows *g, struct span_cols *c)
{
    uint32_t n = g->g->rows;
    if (!rows_shapes(g, TABLE_SPAN) || !rows_bytes(g, COL_SPAN_ID, n * (size_t)8, &c->span_id) ||
        !rows_nums(g, COL_START, n, &c->start) || !rows_nums(g, COL_DURATION, n, &c->duration) ||
        !rows_nums(g, COL_FLAGS, n, &c->flags) ||
        !rows_nums(g, COL_DROPPED_ATTRS, n, &c->dropped_attrs) ||
        !rows_nums(g, COL_DROPPED_EVENTS, n, &c->dropped_events) ||
        !rows_nums(g, COL_DROPPED_LINKS, n, &c->dropped_links) ||
        !rows_strs(g, COL_TRACE_STATE, n, &c->trace_state) ||
        !rows_strs(g, COL_MESSAGE, n, &c->message))
        return false;
    return c->span_id ? true : reader_bad(g->r, "span id");
}

static bool make_span(struct span_maker *m, const struct span_cols *c, uint32_t row,
                      struct span *sp)
{
    struct rows *g = m->g;
    const struct rows_table *t = &g->table[TABLE_SPAN];
    uint32_t k = (uint32_t)t->local[row];
    const struct shared_shape *shape = &g->s->shapes[TABLE_SPAN][t->shape[k]];
    memcpy(sp->span_id, c->span_id + (size_t)row * 8, 8);
    sp->end_ns = sp->start_ns + (uint64_t)unzigzag(num_at(c->duration, t->first[k] + t->rank[row]));
    sp->kind = shape->kind;
    sp->status = shape->status;
    sp->flags = (uint32_t)num_at(c->flags, row);
    sp->dropped_attrs = (uint32_t)num_at(c->dropped_attrs, row);
    sp->dropped_events = (uint32_t)num_at(c->dropped_events, row);
    sp->dropped_links = (uint32_t)num_at(c->dropped_links, row);
    struct span_origin *o = &m->origins[shape->origin];
    if (!o->resource && !shared_origin(g->r, g->s, shape->origin, m->a, o))
        return false;
    sp->resource = o->resource;
    sp->scope = o->scope;
    const struct strs *ts = c->trace_state, *msg = c->message;
    if (ts && !copy(m, strs_value(ts, (uint32_t)ts->id[row]), &sp->trace_state))
        return false;
    if (msg && !copy(m, strs_value(msg, (uint32_t)msg->id[row]), &sp->status_message))
        return false;
    return shared_copy(m, shape->name, &sp->name) && make_kvs(m, TABLE_SPAN, row, &sp->attrs) &&
           make_events(m, row, sp) && make_links(m, row, sp);
}

bool span_maker_rows(struct span_maker *m, struct rows *g, uint32_t part, uint32_t at, uint32_t n,
                     struct span **out)
{
    struct span_cols c;
    m->g = g;
    if (!rows_span_cols(g, &c))
        return false;
    uint64_t start = num_at(g->trace_start, part);
    for (uint32_t i = 0; i < n; i++) {
        struct span *sp = ARENA_NEW(m->a, struct span);
        if (!sp)
            return reader_no_memory(g->r);
        start += num_at(c.start, at + i);
        sp->start_ns = start;
        memcpy(sp->trace_id, g->trace_ids + (size_t)part * 16, 16);
        if (!make_span(m, &c, at + i, sp))
            return false;
        out[i] = sp;
    }
    return true;
}
