/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a block as the records that the builder takes, for merging: no span is made and no
 * attribute looked up. A row's shape in the new block is known from its shape in the old one, and
 * with it all that a batch says by names and keys; so the records hold values only. Strings are
 * not copied one by one: the text of a column goes into the heap once, and the records point into
 * it. */
#include "store/trace/block_records.h"

#include <stdlib.h>

void records_init(struct records *rec)
{
    *rec = (struct records){.heap = buf_init(UINT32_MAX), .turn = 1};
}

void records_fini(struct records *rec)
{
    void *arrays[] = {rec->spans,      rec->attrs,       rec->events,    rec->links,
                      rec->span_shape, rec->event_shape, rec->link_shape};
    for (size_t i = 0; i < ARRAY_LEN(arrays); i++)
        free(arrays[i]);
    buf_fini(&rec->heap);
}

void records_reset(struct records *rec)
{
    rec->span_n = rec->attr_n = rec->event_n = rec->link_n = 0;
    rec->bytes = 0;
    rec->turn++;
    buf_reset(&rec->heap);
}

/* --- an open row group --- */

bool record_rows_open(struct record_rows *rr, struct reader *r, const struct shared *s,
                      uint32_t group)
{
    *rr = (struct record_rows){.g = rows_get(r, s, group), .group = group};
    if (!rr->g || !rows_span_cols(rr->g, &rr->span) || !rows_parents(rr->g))
        return false;
    rr->col = reader_alloc(r, COL_ATTRS + (size_t)s->col_count, sizeof *rr->col);
    if (!rr->col)
        return false;
    for (int t = 0; t < TABLE_COUNT; t++)
        if (!(rr->shape[t] = reader_alloc(r, rr->g->table[t].shape_count, 4)))
            return false;
    const struct rows_table *events = &rr->g->table[TABLE_EVENT];
    if (events->rows && (!rows_children(rr->g, TABLE_EVENT) || !rows_shapes(rr->g, TABLE_EVENT) ||
                         !rows_nums(rr->g, COL_EVENT_TIME, events->rows, &rr->event_time) ||
                         !rows_nums(rr->g, COL_EVENT_DROPPED, events->rows, &rr->event_dropped)))
        return false;
    return !rr->g->table[TABLE_LINK].rows ||
           (rows_children(rr->g, TABLE_LINK) && rows_link_cols(rr->g, &rr->link));
}

/* The column with its text in this turn's heap; false is noted. */
static bool col_strs(struct records *rec, struct record_rows *rr, uint32_t no, uint32_t n)
{
    struct record_col *c = &rr->col[no];
    if (LIKELY(c->turn == rec->turn))
        return true;
    if (!c->strs && !rows_strs(rr->g, no, n, &c->strs))
        return false;
    if (!c->strs)
        return reader_bad(rr->g->r, "an attribute column");
    uint32_t len = c->strs->off[c->strs->distinct];
    c->heap_at = (uint32_t)rec->heap.n;
    buf_add(&rec->heap, c->strs->text, len);
    c->turn = rec->turn;
    return rec->heap.failed ? reader_no_memory(rr->g->r) : true;
}

static inline struct sref col_ref(const struct record_col *c, uint64_t at)
{
    uint64_t id = c->strs->id[at];
    uint32_t off = c->strs->off[id];
    return (struct sref){c->heap_at + off, c->strs->off[id + 1] - off};
}

static bool col_nums(struct record_rows *rr, uint32_t no, uint32_t n)
{
    struct record_col *c = &rr->col[no];
    if (LIKELY(c->nums))
        return true;
    if (!rows_nums(rr->g, no, n, &c->nums))
        return false;
    return c->nums ? true : reader_bad(rr->g->r, "an attribute column");
}

/* --- rows --- */

/* The values of a row, in the order of its shape's keys. */
static bool add_attrs(struct records *rec, struct record_rows *rr, enum block_table table,
                      uint32_t row, uint32_t *at, uint32_t *count)
{
    const struct rows *g = rr->g;
    const struct rows_table *t = &g->table[table];
    uint32_t k = (uint32_t)t->local[row], rank = t->rank[row];
    const struct shared_list *list = &g->s->lists[g->s->shapes[table][t->shape[k]].list];
    *at = rec->attr_n;
    *count = list->n;
    rec->attrs = vec_room(rec->attrs, &rec->attr_cap, rec->attr_n + (size_t)list->n,
                          sizeof *rec->attrs);
    for (uint32_t j = 0; j < list->n; j++) {
        uint32_t col = list->col[j], no = COL_ATTRS + col, value = t->value_at[k][j] + rank;
        struct attr_rec *a = &rec->attrs[rec->attr_n++];
        *a = (struct attr_rec){.type = g->s->cols[col].type};
        if (attr_is_str(a->type)) {
            if (!col_strs(rec, rr, no, g->value_count[col]))
                return false;
            a->v.s = col_ref(&rr->col[no], value);
            rec->bytes += a->v.s.len;
        } else if (a->type != ATTR_EMPTY) {
            if (!col_nums(rr, no, g->value_count[col]))
                return false;
            a->v.bits = rr->col[no].nums[value] ^ (a->type == ATTR_INT ? INT_FLIP : 0);
        }
    }
    return true;
}

static bool add_events(struct records *rec, struct record_rows *rr, uint32_t row,
                       struct span_rec *s)
{
    const struct rows_table *t = &rr->g->table[TABLE_EVENT];
    const uint32_t *first = rr->g->child_at[TABLE_EVENT];
    uint32_t n = t->rows ? first[row + 1] - first[row] : 0;
    s->event_at = rec->event_n;
    s->event_count = n;
    rec->events = vec_room(rec->events, &rec->event_cap, rec->event_n + (size_t)n,
                           sizeof *rec->events);
    rec->event_shape = vec_room(rec->event_shape, &rec->event_shape_cap, rec->event_n + (size_t)n,
                                sizeof *rec->event_shape);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = first[row] + i;
        struct event_rec *e = &rec->events[rec->event_n];
        *e = (struct event_rec){.time_ns = s->start_ns +
                                           (uint64_t)unzigzag(num_at(rr->event_time, at)),
                                .dropped = (uint32_t)num_at(rr->event_dropped, at)};
        rec->event_shape[rec->event_n++] = rr->shape[TABLE_EVENT][t->local[at]];
        if (!add_attrs(rec, rr, TABLE_EVENT, at, &e->attr_at, &e->attr_count))
            return false;
    }
    return true;
}

static bool add_links(struct records *rec, struct record_rows *rr, uint32_t row, struct span_rec *s)
{
    const struct rows_table *t = &rr->g->table[TABLE_LINK];
    const uint32_t *first = rr->g->child_at[TABLE_LINK];
    const struct link_cols *c = &rr->link;
    uint32_t n = t->rows ? first[row + 1] - first[row] : 0;
    s->link_at = rec->link_n;
    s->link_count = n;
    rec->links = vec_room(rec->links, &rec->link_cap, rec->link_n + (size_t)n, sizeof *rec->links);
    rec->link_shape = vec_room(rec->link_shape, &rec->link_shape_cap, rec->link_n + (size_t)n,
                               sizeof *rec->link_shape);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = first[row] + i;
        struct link_rec *l = &rec->links[rec->link_n];
        *l = (struct link_rec){.dropped = (uint32_t)num_at(c->dropped, at),
                               .flags = (uint32_t)num_at(c->flags, at)};
        memcpy(l->trace_id, c->trace_id + (size_t)at * 16, 16);
        memcpy(l->span_id, c->span_id + (size_t)at * 8, 8);
        rec->link_shape[rec->link_n++] = rr->shape[TABLE_LINK][t->local[at]];
        if (c->state) {
            if (!col_strs(rec, rr, COL_LINK_STATE, t->rows))
                return false;
            l->trace_state = col_ref(&rr->col[COL_LINK_STATE], at);
        }
        if (!add_attrs(rec, rr, TABLE_LINK, at, &l->attr_at, &l->attr_count))
            return false;
    }
    return true;
}

static bool add_texts(struct records *rec, struct record_rows *rr, uint32_t row, struct span_rec *s)
{
    uint32_t rows = rr->g->g->rows;
    if (rr->span.trace_state) {
        if (!col_strs(rec, rr, COL_TRACE_STATE, rows))
            return false;
        s->trace_state = col_ref(&rr->col[COL_TRACE_STATE], row);
    }
    if (rr->span.message) {
        if (!col_strs(rec, rr, COL_MESSAGE, rows))
            return false;
        s->status_message = col_ref(&rr->col[COL_MESSAGE], row);
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
    rec->spans = vec_room(rec->spans, &rec->span_cap, rec->span_n + (size_t)(end - first),
                          sizeof *rec->spans);
    rec->span_shape = vec_room(rec->span_shape, &rec->span_shape_cap,
                               rec->span_n + (size_t)(end - first), sizeof *rec->span_shape);
    for (uint32_t row = first; row < end; row++) {
        struct span_rec *s = &rec->spans[rec->span_n];
        uint32_t k = (uint32_t)t->local[row];
        start += num_at(c->start, row);
        *s = (struct span_rec){
            .start_ns = start,
            .end_ns = start + (uint64_t)unzigzag(num_at(c->duration, t->first[k] + t->rank[row])),
            .flags = (uint32_t)num_at(c->flags, row),
            .dropped_attrs = (uint32_t)num_at(c->dropped_attrs, row),
            .dropped_events = (uint32_t)num_at(c->dropped_events, row),
            .dropped_links = (uint32_t)num_at(c->dropped_links, row)};
        memcpy(s->trace_id, g->trace_ids + (size_t)part * 16, 16);
        memcpy(s->span_id, c->span_id + (size_t)row * 8, 8);
        rec->span_shape[rec->span_n++] = rr->shape[TABLE_SPAN][k];
        if (!put_parent(rr, first, end, row, &orphan, s) || !add_texts(rec, rr, row, s) ||
            !add_attrs(rec, rr, TABLE_SPAN, row, &s->attr_at, &s->attr_count) ||
            !add_events(rec, rr, row, s) || !add_links(rec, rr, row, s))
            return false;
    }
    return true;
}

const struct batch *records_batch(struct records *rec)
{
    rec->head = (struct batch_head){.span_count = rec->span_n,
                                    .attr_count = rec->attr_n,
                                    .event_count = rec->event_n,
                                    .link_count = rec->link_n};
    uint64_t bytes = rec->bytes + rec->span_n * sizeof *rec->spans +
                     rec->attr_n * sizeof *rec->attrs + rec->event_n * sizeof *rec->events +
                     rec->link_n * sizeof *rec->links;
    static const struct attr_rec no_attrs; /* spans without any point at where they would be */
    rec->batch = (struct batch){.head = &rec->head,
                                .image_len = (uint32_t)min_u64(bytes, UINT32_MAX),
                                .spans = rec->spans,
                                .attrs = rec->attrs ? rec->attrs : &no_attrs,
                                .events = rec->events,
                                .links = rec->links,
                                .heap = rec->heap.p ? rec->heap.p : ""};
    rec->shapes = (struct given_shapes){rec->span_shape, rec->event_shape, rec->link_shape};
    return &rec->batch;
}
