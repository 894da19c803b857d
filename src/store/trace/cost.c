/* SPDX-License-Identifier: Apache-2.0 */
/* Adds up what blocks say of their costs, over the blocks of a tenant, newest first.
 *
 * Shares are real numbers until the end. Then they become whole bytes by rounding their running
 * sum, so that they add up to the files; a service is the sum of its operations. */
#include "store/trace/store_parts.h"
#include "store/trace/textmap.h"

#include <stdlib.h>

#define OTHER_COLUMNS "other columns"

struct row {
    uint64_t spans, bytes;
    double share;
    uint32_t types;
};

/* The tag of a name: a column's kind, an operation's service by its number. */
struct rows_of {
    struct textmap names;
    struct row *v;  /* COST_ROWS_MAX */
    uint32_t other; /* takes what is too many */
};

struct adding {
    struct rows_of columns, operations, services;
};

static void rows_init(struct rows_of *t, uint64_t seed, struct str other, uint32_t tag)
{
    t->names = textmap_init(seed, COST_ROWS_MAX, COST_BYTES_MAX);
    t->v = xcalloc(COST_ROWS_MAX, sizeof *t->v);
    t->other = textmap_add(&t->names, other, tag);
    ensure(t->other != TEXTMAP_NONE);
}

static void rows_fini(struct rows_of *t)
{
    textmap_fini(&t->names);
    free(t->v);
}

static uint32_t row_number(struct rows_of *t, struct str name, uint32_t tag)
{
    uint32_t no = textmap_add(&t->names, name, tag);
    return no == TEXTMAP_NONE ? t->other : no;
}

static void add_column(void *arg, enum cost_kind kind, struct str name, enum attr_type type,
                       uint64_t bytes)
{
    struct adding *sum = arg;
    struct row *row = &sum->columns.v[row_number(&sum->columns, name, kind)];
    bool attr = kind != COST_FIELD && kind != COST_INDEX;
    row->bytes += bytes;
    row->types |= attr ? 1u << type : 0;
}

static void add_operation(void *arg, struct str service, struct str name, uint64_t spans,
                          double bytes)
{
    struct adding *sum = arg;
    uint32_t no = row_number(&sum->services, service, 0);
    struct row *row = &sum->operations.v[row_number(&sum->operations, name, no)];
    row->spans += spans;
    row->share += bytes;
}

/* --- the answer --- */

/* Whole bytes out of the operations' shares, `total` in all; their sums are the services'. */
static void settle(struct adding *sum, uint64_t total)
{
    struct rows_of *ops = &sum->operations;
    double running = 0;
    uint64_t given = 0;
    for (uint32_t i = 0; i < ops->names.n; i++) {
        struct row *row = &ops->v[i], *service = &sum->services.v[ops->names.v[i].tag];
        running += row->share;
        uint64_t upto = min_u64((uint64_t)(running + 0.5), total);
        row->bytes = (i + 1 == ops->names.n ? total : upto) - given;
        given += row->bytes;
        service->bytes += row->bytes;
        service->spans += row->spans;
    }
}

static int by_bytes(const void *x, const void *y)
{
    const struct cost_operation *a = x, *b = y;
    if (a->bytes != b->bytes)
        return a->bytes > b->bytes ? -1 : 1;
    int order = str_cmp(a->service, b->service);
    return order ? order : str_cmp(a->name, b->name);
}

static int by_column_bytes(const void *x, const void *y)
{
    const struct cost_column *a = x, *b = y;
    if (a->bytes != b->bytes)
        return a->bytes > b->bytes ? -1 : 1;
    int order = str_cmp(a->name, b->name);
    return order ? order : (int)a->kind - (int)b->kind;
}

/* Rows that hold nothing, as the ones for what is too many mostly do, are left out. */
static bool is_empty(const struct row *row)
{
    return !row->spans && !row->bytes;
}

static void tell_columns(const struct rows_of *t, struct arena *a, struct cost *out)
{
    out->columns = ARENA_ARRAY(a, struct cost_column, t->names.n);
    for (uint32_t i = 0; out->columns && i < t->names.n; i++)
        if (!is_empty(&t->v[i]))
            out->columns[out->column_n++] = (struct cost_column){
                t->names.v[i].tag, arena_str(a, t->names.v[i].text), t->v[i].types, t->v[i].bytes};
    if (out->column_n)
        qsort(out->columns, out->column_n, sizeof *out->columns, by_column_bytes);
}

static void tell_operations(const struct adding *sum, struct arena *a, struct cost *out)
{
    const struct textmap *ops = &sum->operations.names, *services = &sum->services.names;
    struct str *name = ARENA_ARRAY(a, struct str, services->n);
    out->services = ARENA_ARRAY(a, struct cost_operation, services->n);
    out->operations = ARENA_ARRAY(a, struct cost_operation, ops->n);
    for (uint32_t i = 0; !a->failed && i < services->n; i++) {
        const struct row *row = &sum->services.v[i];
        name[i] = arena_str(a, services->v[i].text);
        if (!is_empty(row))
            out->services[out->service_n++] = (struct cost_operation){
                .service = name[i], .spans = row->spans, .bytes = row->bytes};
    }
    for (uint32_t i = 0; !a->failed && i < ops->n; i++) {
        const struct row *row = &sum->operations.v[i];
        if (!is_empty(row))
            out->operations[out->operation_n++] = (struct cost_operation){
                name[ops->v[i].tag], arena_str(a, ops->v[i].text), row->spans, row->bytes};
    }
    if (out->service_n)
        qsort(out->services, out->service_n, sizeof *out->services, by_bytes);
    if (out->operation_n)
        qsort(out->operations, out->operation_n, sizeof *out->operations, by_bytes);
}

/* --- the door --- */

static enum errc add_blocks(struct adding *sum, struct snap *s, uint32_t tenant, uint64_t budget_ns,
                            struct cost *out, struct err *e)
{
    struct os *os = s->store->os;
    uint64_t end_ns = budget_ns ? os_mono_ns(os) + budget_ns : 0;
    enum errc rc = E_OK;
    size_t n;
    struct part **parts = version_parts(s->version, tenant, 0, UINT64_MAX, &n);
    for (size_t i = 0; rc == E_OK && i < n && out->complete; i++) {
        out->complete = !i || !end_ns || os_mono_ns(os) < end_ns;
        if (!out->complete) {
            out->after_ns = parts[i]->max_ns;
            break;
        }
        rc = block_cost(parts[i]->block, add_column, add_operation, sum, e);
        out->bytes += block_meta(parts[i]->block)->file_bytes;
        out->spans += block_meta(parts[i]->block)->span_count;
        out->blocks++;
    }
    free(parts);
    return rc;
}

static uint64_t count_waiting(const struct snap *s, uint32_t tenant)
{
    uint64_t spans = 0;
    for (size_t i = 0; i < s->version->mem_n; i++)
        for (uint32_t k = 0, n = snap_mem_count(s, i); k < n; k++) {
            const struct mem_entry *entry = memtable_at(s->version->mem[i], k);
            spans += entry->tenant == tenant ? entry->batch->head->span_count : 0;
        }
    return spans;
}

enum errc snap_cost(struct snap *s, struct str tenant, uint64_t budget_ns, struct arena *a,
                    struct cost *out, struct err *e)
{
    struct adding sum;
    uint64_t seed;
    uint32_t number = catalog_find_tenant(s->store->catalog, tenant);
    *out = (struct cost){.complete = true};
    if (number == CATALOG_NONE)
        return E_OK;
    os_random(s->store->os, &seed, sizeof seed);
    rows_init(&sum.columns, seed, STR(OTHER_COLUMNS), COST_FIELD);
    rows_init(&sum.services, seed, STR(OTHER_SERVICES), 0);
    rows_init(&sum.operations, seed, STR(OTHER_OPERATIONS), sum.services.other);
    enum errc rc = add_blocks(&sum, s, number, budget_ns, out, e);
    settle(&sum, out->bytes);
    if (rc == E_OK) {
        tell_columns(&sum.columns, a, out);
        tell_operations(&sum, a, out);
        if (a->failed)
            rc = fail(e, E_NO_MEMORY, "no memory for the answer");
    }
    out->waiting_spans = count_waiting(s, number);
    rows_fini(&sum.columns);
    rows_fini(&sum.services);
    rows_fini(&sum.operations);
    return rc;
}
