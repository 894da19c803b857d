/* SPDX-License-Identifier: Apache-2.0 */
/* What a block's bytes are spent on: by column, and by the service and operation of its spans.
 *
 * By column: the chunks of a row group are the column's; those that share the small chunk share its
 * bytes by their length in it. What remains of the file is the index.
 *
 * By operation: every value has an equal share of its column's bytes in its row group (a value of
 * an event or link counts for the span it is of), and what holds no values has equal shares for all
 * spans of the row group or, outside of them, of the block. */
#include "store/trace/block_read.h"

static const char *const fixed_names[] = {
#define BLOCK_COLUMN_NAME(id, name) name,
    BLOCK_COLUMNS(BLOCK_COLUMN_NAME)
#undef BLOCK_COLUMN_NAME
};

/* Calls each() for every column of the group with its bytes. Those of the small chunk add up to it:
 * what rounding leaves is its last column's. */
static void each_column(const struct rows *g, void (*each)(void *, uint32_t no, uint64_t bytes),
                        void *arg)
{
    uint64_t seen = 0, given = 0;
    for (uint32_t i = 0; i < g->col_count; i++) {
        const struct rows_col *c = &g->cols[i];
        uint64_t bytes = c->len;
        if (c->tail) {
            seen += c->len;
            bytes = (uint64_t)((double)g->tail_len * (double)seen / (double)g->tail_raw) - given;
            if (seen == g->tail_raw)
                bytes = g->tail_len - given;
            given += bytes;
        }
        each(arg, c->no, bytes);
    }
}

/* --- one row group --- */

struct costs {
    struct reader *r;
    const struct shared *s;
    struct arena a;
    uint64_t *column;         /* bytes of each */
    double *shape_bytes;      /* of each span shape */
    uint64_t *shape_spans;    /* likewise */
    uint64_t filters, groups; /* bytes: of the filters, of the row groups with everything in them */
    /* of the row group in hand, all per column or per row of a table */
    uint64_t *now;
    double row[TABLE_COUNT];
    double *shape[TABLE_COUNT]; /* one row of each of the group's shapes */
};

static void note_column(void *arg, uint32_t no, uint64_t bytes)
{
    struct costs *c = arg;
    c->column[no] += bytes;
    c->now[no] = bytes;
}

static enum block_table table_of(const struct costs *c, uint32_t no)
{
    if (no >= COL_ATTRS)
        return c->s->cols[no - COL_ATTRS].scope;
    return no >= COL_LINK_SHAPE ? TABLE_LINK : no >= COL_EVENT_SHAPE ? TABLE_EVENT : TABLE_SPAN;
}

/* What a row of each table costs whatever its shape: its share of the columns that every row has,
 * and for spans of what belongs to nobody. */
static void price_rows(struct costs *c, const struct rows *g)
{
    double nobody = (double)(g->g->data_len + g->g->dir_len + g->g->filter_len);
    memset(c->row, 0, sizeof c->row);
    for (uint32_t i = 0; i < g->col_count; i++) {
        uint32_t no = g->cols[i].no;
        enum block_table table = table_of(c, no);
        bool attr = no >= COL_ATTRS;
        if (!(attr ? g->value_count[no - COL_ATTRS] : g->table[table].rows))
            continue;
        if (!attr)
            c->row[table] += (double)c->now[no] / g->table[table].rows;
        nobody -= (double)c->now[no];
    }
    c->row[TABLE_SPAN] += nobody / g->g->rows;
}

static bool price_shapes(struct costs *c, const struct rows *g, enum block_table table)
{
    const struct rows_table *t = &g->table[table];
    double *price = c->shape[table] = reader_alloc(c->r, t->shape_count, sizeof *price);
    for (uint32_t k = 0; price && k < t->shape_count; k++) {
        const struct shared_list *list = &c->s->lists[c->s->shapes[table][t->shape[k]].list];
        price[k] = c->row[table];
        for (uint32_t j = 0; j < list->n; j++)
            price[k] += (double)c->now[COL_ATTRS + list->col[j]] / g->value_count[list->col[j]];
    }
    return price != NULL;
}

/* Events or links, each for the shape of its span. */
static bool charge_children(struct costs *c, struct rows *g, enum block_table table)
{
    const struct rows_table *st = &g->table[TABLE_SPAN], *t = &g->table[table];
    if (!t->rows)
        return true;
    if (!price_shapes(c, g, table) || !rows_shapes(g, TABLE_SPAN) || !rows_shapes(g, table) ||
        !rows_children(g, table))
        return false;
    for (uint32_t row = 0; row < st->rows; row++) {
        double *bytes = &c->shape_bytes[st->shape[st->local[row]]];
        for (uint32_t i = g->child_at[table][row]; i < g->child_at[table][row + 1]; i++)
            *bytes += c->shape[table][t->local[i]];
    }
    return true;
}

static bool charge_group(struct costs *c, uint32_t no, bool operations)
{
    struct rows g;
    if (!rows_open(c->r, c->s, no, &g))
        return false;
    c->now = reader_alloc(c->r, COL_ATTRS + (size_t)c->s->col_count, sizeof *c->now);
    if (!c->now)
        return false;
    each_column(&g, note_column, c);
    c->filters += g.g->filter_len;
    c->groups += g.g->data_len + g.g->dir_len + g.g->filter_len;
    if (!operations)
        return true;
    price_rows(c, &g);
    if (!price_shapes(c, &g, TABLE_SPAN))
        return false;
    const struct rows_table *t = &g.table[TABLE_SPAN];
    for (uint32_t k = 0; k < t->shape_count; k++) {
        uint32_t rows = t->first[k + 1] - t->first[k];
        c->shape_bytes[t->shape[k]] += rows * c->shape[TABLE_SPAN][k];
        c->shape_spans[t->shape[k]] += rows;
    }
    return charge_children(c, &g, TABLE_EVENT) && charge_children(c, &g, TABLE_LINK);
}

/* --- the block --- */

static bool begin(struct costs *c)
{
    size_t shapes = c->s->shape_count[TABLE_SPAN] + (size_t)1;
    c->column = ARENA_ARRAY(&c->a, uint64_t, COL_ATTRS + (size_t)c->s->col_count);
    c->shape_bytes = ARENA_ARRAY(&c->a, double, shapes);
    c->shape_spans = ARENA_ARRAY(&c->a, uint64_t, shapes);
    return c->a.failed ? reader_no_memory(c->r) : true;
}

static void tell_columns(const struct costs *c, const struct block *b, block_cost_row *each,
                         void *arg)
{
    static const enum cost_kind kind[] = {COST_SPAN_ATTR, COST_EVENT_ATTR, COST_LINK_ATTR};
    uint64_t index = b->meta.trace_count * 8;
    uint64_t left = b->meta.file_bytes - index - c->filters - b->shared_len;
    for (uint32_t i = 0; i < COL_FIXED; i++) {
        if (c->column[i])
            each(arg, COST_FIELD, str_from_c(fixed_names[i]), ATTR_EMPTY, c->column[i]);
        left -= c->column[i];
    }
    for (uint32_t i = 0; i < c->s->col_count; i++) {
        const struct shared_col *col = &c->s->cols[i];
        each(arg, kind[col->scope], c->s->strings[col->key], col->type, c->column[COL_ATTRS + i]);
        left -= c->column[COL_ATTRS + i];
    }
    each(arg, COST_INDEX, STR("trace index"), ATTR_EMPTY, index);
    each(arg, COST_INDEX, STR("value filters"), ATTR_EMPTY, c->filters);
    each(arg, COST_INDEX, STR("shapes and resources"), ATTR_EMPTY, b->shared_len);
    each(arg, COST_INDEX, STR("directories"), ATTR_EMPTY, left);
}

static void tell_operations(const struct costs *c, const struct block *b, block_cost_op *each,
                            void *arg)
{
    double outside = (double)(b->meta.file_bytes - c->groups) /
                     (double)max_u64(b->meta.span_count, 1);
    for (uint32_t i = 0; i < c->s->shape_count[TABLE_SPAN]; i++) {
        const struct shared_shape *shape = &c->s->shapes[TABLE_SPAN][i];
        uint64_t spans = c->shape_spans[i];
        if (spans)
            each(arg, c->s->services[shape->origin], c->s->strings[shape->name], spans,
                 c->shape_bytes[i] + outside * (double)spans);
    }
}

/* Each row group has a reader of its own, so that memory is that of one group. */
enum errc block_cost(struct block *b, block_cost_row *row, block_cost_op *op, void *arg,
                     struct err *e)
{
    struct costs c = {.a = arena_init(READER_BYTES_MAX)};
    enum errc rc = E_OK;
    for (uint32_t i = 0; rc == E_OK && i <= b->group_count; i++) {
        c.r = reader_take(b, e);
        c.s = shared_read(c.r);
        bool ok = c.s && (i || begin(&c));
        if (ok && i < b->group_count) {
            charge_group(&c, i, op != NULL);
        } else if (ok) {
            tell_columns(&c, b, row, arg);
            if (op)
                tell_operations(&c, b, op, arg);
        }
        rc = reader_give(c.r);
    }
    arena_fini(&c.a);
    return rc;
}
