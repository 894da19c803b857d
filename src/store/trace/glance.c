/* SPDX-License-Identifier: Apache-2.0 */
/* A trace of any size, each of its spans looked at once. */
#include "store/trace/store_parts.h"

struct glance {
    span_glance_each *each;
    void *arg;
    uint64_t seen;
};

static void look(void *arg, const struct span_glance *s)
{
    struct glance *g = arg;
    g->seen++;
    g->each(g->arg, s);
}

static void batch_glances(struct glance *g, const struct mem_entry *entry, const uint8_t id[16])
{
    uint64_t want = trace_low(id);
    const struct batch *b = entry->batch;
    for (uint32_t i = 0; i < b->head->span_count; i++) {
        const struct span_rec *s = &b->spans[i];
        if (LIKELY(entry->trace_low[i] != want) || memcmp(s->trace_id, id, 16) != 0)
            continue;
        bool root = id_is_zero(s->parent_id, 8);
        look(g, &(struct span_glance){.start_ns = s->start_ns,
                                      .end_ns = s->end_ns,
                                      .span_id = load_u64be(s->span_id),
                                      .parent = root ? GLANCE_ROOT : GLANCE_PARENT_BY_ID,
                                      .parent_id = load_u64be(s->parent_id),
                                      .service = batch_str(b, b->groups[s->group].service),
                                      .name = batch_name(b, s),
                                      .status = (enum span_status)s->status});
    }
}

enum errc snap_trace_glance(struct snap *s, struct str tenant, const uint8_t id[16],
                            enum glance_part part, struct budget *budget, span_glance_each *each,
                            void *arg, struct err *e)
{
    const struct version *v = s->version;
    uint32_t number = catalog_find_tenant(s->store->catalog, tenant);
    struct glance g = {.each = each, .arg = arg};
    enum errc rc = E_OK;
    for (size_t m = v->mem_n; m > 0; m--)
        for (uint32_t i = 0, n = snap_mem_count(s, m - 1); i < n; i++)
            if (memtable_at(v->mem[m - 1], i)->tenant == number)
                batch_glances(&g, memtable_at(v->mem[m - 1], i), id);
    for (size_t i = 0; rc == E_OK && i < v->part_n; i++)
        if (v->parts[i]->tenant == number)
            rc = block_trace_glances(v->parts[i]->block, id, part, budget, look, &g, e);
    if (rc == E_NO_MEMORY)
        return fail(e, rc, "a row group of the trace needs more memory than a question may take");
    if (rc == E_OK && !g.seen)
        return fail(e, E_NOT_FOUND, "trace not found");
    return rc;
}
