/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a block as what the builder takes, for merging: no span is made and no attribute looked
 * up. A row's shape in the new block is known from its shape in the old one; its attributes are not
 * touched here at all: the builder moves them from column to column, and is told where they are. So
 * the row groups stay open until what was taken from them is written. */
#include "store/trace/block_records.h"

#include <stdlib.h>

void records_init(struct records *rec)
{
    *rec = (struct records){.heap = buf_init(UINT32_MAX), .turn = 1};
}

void records_fini(struct records *rec)
{
    void *arrays[] = {rec->spans, rec->events, rec->links, rec->span, rec->event, rec->link};
    for (size_t i = 0; i < ARRAY_LEN(arrays); i++)
        free(arrays[i]);
    buf_fini(&rec->heap);
}

void records_reset(struct records *rec)
{
    rec->span_n = rec->event_n = rec->link_n = 0;
    rec->bytes = 0;
    rec->turn++;
    buf_reset(&rec->heap);
}

/* --- an open row group --- */

static bool open_columns(struct record_rows *rr)
{
    struct rows *g = rr->g;
    const struct rows_table *events = &g->table[TABLE_EVENT];
    if (!rows_span_cols(g, &rr->span) || !rows_parents(g))
        return false;
    if (events->rows && (!rows_children(g, TABLE_EVENT) || !rows_shapes(g, TABLE_EVENT) ||
                         !rows_nums(g, COL_EVENT_TIME, events->rows, &rr->event_time) ||
                         !rows_nums(g, COL_EVENT_DROPPED, events->rows, &rr->event_dropped)))
        return false;
    if (g->table[TABLE_LINK].rows &&
        (!rows_children(g, TABLE_LINK) || !rows_link_cols(g, &rr->link)))
        return false;
    rr->trace_state.strs = rr->span.trace_state;
    rr->message.strs = rr->span.message;
    rr->link_state.strs = rr->link.state;
    return true;
}

/* --- attributes --- */

static bool open_strs(struct rows *g, uint32_t col, struct given_col *c)
{
    if (!rows_strs(g, COL_ATTRS + col, g->value_count[col], &c->strs))
        return false;
    if (!c->strs)
        return reader_bad(g->r, "an attribute column");
    c->v = c->strs->id;
    c->number = arena_alloc(&g->r->a, c->strs->distinct * sizeof *c->number, sizeof *c->number);
    return c->number ? true : reader_no_memory(g->r);
}

static bool open_nums(struct rows *g, uint32_t col, struct given_col *c)
{
    if (!rows_nums(g, COL_ATTRS + col, g->value_count[col], &c->v))
        return false;
    return c->v ? true : reader_bad(g->r, "an attribute column");
}

/* What a value of the column weighs: its share of the texts. */
static uint64_t value_bytes(const struct rows *g, uint32_t col, const struct given_col *c)
{
    uint64_t text = c->strs ? c->strs->off[c->strs->distinct] : 0;
    return sizeof(struct attr_rec) + text / g->value_count[col];
}

/* Decodes what the rows of local shape k have values in. */
static bool open_shape(struct record_rows *rr, enum block_table table, uint32_t k)
{
    struct rows *g = rr->g;
    const struct rows_table *t = &g->table[table];
    const struct shared_list *list = &g->s->lists[g->s->shapes[table][t->shape[k]].list];
    struct record_shape *shape = &rr->shape[table][k];
    struct given_key *keys = reader_alloc(g->r, list->n + (size_t)1, sizeof *keys);
    uint64_t bytes = 0;
    if (!keys)
        return false;
    for (uint32_t j = 0; j < list->n; j++) {
        uint32_t no = list->col[j], type = g->s->cols[no].type;
        struct given_col *c = &rr->col[no];
        if (type == ATTR_EMPTY)
            continue;
        if (!c->v && !(attr_is_str(type) ? open_strs(g, no, c) : open_nums(g, no, c)))
            return false;
        keys[j] = (struct given_key){c, t->value_at[k][j]};
        bytes += value_bytes(g, no, c);
    }
    shape->keys = keys;
    shape->bytes = (uint32_t)min_u64(bytes, UINT32_MAX);
    return true;
}

static bool open_shapes(struct record_rows *rr, enum block_table table)
{
    uint32_t n = rr->g->table[table].shape_count;
    rr->shape[table] = reader_alloc(rr->g->r, n, sizeof *rr->shape[table]);
    for (uint32_t k = 0; rr->shape[table] && k < n; k++)
        if (!open_shape(rr, table, k))
            return false;
    return rr->shape[table] != NULL;
}

struct record_rows *record_rows_open(struct reader *r, const struct shared *s, uint32_t group)
{
    struct record_rows *rr = reader_alloc(r, 1, sizeof *rr);
    if (!rr || !(rr->g = rows_get(r, s, group)) || !open_columns(rr))
        return NULL;
    rr->col = reader_alloc(r, s->col_count, sizeof *rr->col);
    for (int t = 0; rr->col && t < TABLE_COUNT; t++)
        if (!open_shapes(rr, t))
            return NULL;
    return rr->col ? rr : NULL;
}

static void give_row(struct records *rec, struct record_rows *rr, enum block_table table,
                     uint32_t row, struct given_row *out)
{
    const struct rows_table *t = &rr->g->table[table];
    uint32_t k = (uint32_t)t->local[row];
    struct record_shape *shape = &rr->shape[table][k];
    rec->bytes += shape->bytes;
    *out = (struct given_row){shape->keys, t->rank[row], shape->shape};
}

/* --- rows --- */

/* The text of a fixed column goes into the heap once a run; false is noted. */
static bool add_text(struct records *rec, struct record_rows *rr, struct record_text *t,
                     uint32_t row, struct sref *out)
{
    if (!t->strs)
        return true;
    if (t->turn != rec->turn) {
        t->heap_at = (uint32_t)rec->heap.n;
        buf_add(&rec->heap, t->strs->text, t->strs->off[t->strs->distinct]);
        t->turn = rec->turn;
    }
    uint64_t id = t->strs->id[row];
    uint32_t off = t->strs->off[id];
    *out = (struct sref){t->heap_at + off, t->strs->off[id + 1] - off};
    return rec->heap.failed ? reader_no_memory(rr->g->r) : true;
}

static void add_events(struct records *rec, struct record_rows *rr, uint32_t row,
                       struct span_rec *s)
{
    const uint32_t *first = rr->g->child_at[TABLE_EVENT];
    uint32_t n = rr->g->table[TABLE_EVENT].rows ? first[row + 1] - first[row] : 0;
    size_t room = rec->event_n + (size_t)n;
    s->event_at = rec->event_n;
    s->event_count = n;
    rec->events = vec_room(rec->events, &rec->event_cap, room, sizeof *rec->events);
    rec->event = vec_room(rec->event, &rec->event_row_cap, room, sizeof *rec->event);
    for (uint32_t i = 0; i < n; i++, rec->event_n++) {
        uint32_t at = first[row] + i;
        rec->events[rec->event_n] = (struct event_rec){
            .time_ns = s->start_ns + (uint64_t)unzigzag(num_at(rr->event_time, at)),
            .dropped = (uint32_t)num_at(rr->event_dropped, at)};
        give_row(rec, rr, TABLE_EVENT, at, &rec->event[rec->event_n]);
    }
}

static bool add_links(struct records *rec, struct record_rows *rr, uint32_t row, struct span_rec *s)
{
    const uint32_t *first = rr->g->child_at[TABLE_LINK];
    const struct link_cols *c = &rr->link;
    uint32_t n = rr->g->table[TABLE_LINK].rows ? first[row + 1] - first[row] : 0;
    size_t room = rec->link_n + (size_t)n;
    s->link_at = rec->link_n;
    s->link_count = n;
    rec->links = vec_room(rec->links, &rec->link_cap, room, sizeof *rec->links);
    rec->link = vec_room(rec->link, &rec->link_row_cap, room, sizeof *rec->link);
    for (uint32_t i = 0; i < n; i++, rec->link_n++) {
        uint32_t at = first[row] + i;
        struct link_rec *l = &rec->links[rec->link_n];
        *l = (struct link_rec){.dropped = (uint32_t)num_at(c->dropped, at),
                               .flags = (uint32_t)num_at(c->flags, at)};
        memcpy(l->trace_id, c->trace_id + (size_t)at * 16, 16);
        memcpy(l->span_id, c->span_id + (size_t)at * 8, 8);
        if (!add_text(rec, rr, &rr->link_state, at, &l->trace_state))
            return false;
        give_row(rec, rr, TABLE_LINK, at, &rec->link[rec->link_n]);
    }
    return true;
}

/* The id of the parent of row `row` of a part that begins at `first`. */
static bool put_parent(const struct record_rows *rr, uint32_t first, uint32_t end, uint32_t row,
                       const uint8_t **orphan, struct span_rec *s)
{
    uint64_t code = num_at(rr->g->parent, row);
    if (code == PARENT_ORPHAN) {
        memcpy(s->parent_id, *orphan, 8);
        *orphan += 8;
    } else if (code >= PARENT_AT) {
        int64_t at = (int64_t)row - unzigzag(code - PARENT_AT);
        if (at < first || at >= end)
            return reader_bad(rr->g->r, "the parent column");
        memcpy(s->parent_id, rr->span.span_id + 8 * at, 8);
    }
    return true;
}

bool records_add(struct records *rec, struct record_rows *rr, uint32_t part)
{
    const struct rows *g = rr->g;
    const struct rows_table *t = &g->table[TABLE_SPAN];
    const struct span_cols *c = &rr->span;
    uint32_t first = g->row_at[part], end = g->row_at[part + 1];
    const uint8_t *orphan = g->orphan_ids ? g->orphan_ids + 8 * (size_t)g->orphan_at[part] : NULL;
    uint64_t start = num_at(g->trace_start, part);
    size_t room = rec->span_n + (size_t)(end - first);
    rec->spans = vec_room(rec->spans, &rec->span_cap, room, sizeof *rec->spans);
    rec->span = vec_room(rec->span, &rec->span_row_cap, room, sizeof *rec->span);
    for (uint32_t row = first; row < end; row++, rec->span_n++) {
        struct span_rec *s = &rec->spans[rec->span_n];
        uint32_t at = t->first[t->local[row]] + t->rank[row];
        start += num_at(c->start, row);
        *s = (struct span_rec){.start_ns = start,
                               .end_ns = start + (uint64_t)unzigzag(num_at(c->duration, at)),
                               .flags = (uint32_t)num_at(c->flags, row),
                               .dropped_attrs = (uint32_t)num_at(c->dropped_attrs, row),
                               .dropped_events = (uint32_t)num_at(c->dropped_events, row),
                               .dropped_links = (uint32_t)num_at(c->dropped_links, row)};
        memcpy(s->trace_id, g->trace_ids + (size_t)part * 16, 16);
        memcpy(s->span_id, c->span_id + (size_t)row * 8, 8);
        if (!put_parent(rr, first, end, row, &orphan, s) ||
            !add_text(rec, rr, &rr->trace_state, row, &s->trace_state) ||
            !add_text(rec, rr, &rr->message, row, &s->status_message) ||
            !add_links(rec, rr, row, s))
            return false;
        give_row(rec, rr, TABLE_SPAN, row, &rec->span[rec->span_n]);
        add_events(rec, rr, row, s);
    }
    return true;
}

const struct batch *records_batch(struct records *rec)
{
    rec->head = (struct batch_head){
        .span_count = rec->span_n, .event_count = rec->event_n, .link_count = rec->link_n};
    uint64_t bytes = rec->bytes + rec->heap.n + rec->span_n * sizeof *rec->spans +
                     rec->event_n * sizeof *rec->events + rec->link_n * sizeof *rec->links;
    rec->batch = (struct batch){.head = &rec->head,
                                .image_len = (uint32_t)min_u64(bytes, UINT32_MAX),
                                .spans = rec->spans,
                                .events = rec->events,
                                .links = rec->links,
                                .heap = rec->heap.p ? rec->heap.p : ""};
    rec->given = (struct given){rec->span, rec->event, rec->link};
    return &rec->batch;
}
