/* SPDX-License-Identifier: Apache-2.0 */
/* What a list of traces shows of each. The root is the span without a parent that starts first. */
#include "base/bytes.h"
#include "base/idmap.h"
#include "engine/query/query.h"
#include "model/kvs.h"

#include <stdlib.h>

static int summary_cmp(const void *a, const void *b)
{
    const struct service_summary *x = a, *y = b;
    return str_cmp(x->name, y->name);
}

/* Sorts by name and makes one of equal names. */
static uint32_t merge_services(struct service_summary *v, uint32_t n)
{
    if (!n)
        return 0;
    qsort(v, n, sizeof *v, summary_cmp);
    uint32_t last = 0;
    for (uint32_t i = 1; i < n; i++) {
        if (str_eq(v[last].name, v[i].name)) {
            v[last].span_count += v[i].span_count;
            v[last].error_count += v[i].error_count;
        } else {
            v[++last] = v[i];
        }
    }
    return last + 1;
}

/* One row a run of spans with the same resource. */
static enum errc count_services(const struct trace *t, struct arena *a, struct trace_summary *out)
{
    uint32_t runs = 1, at = 0;
    for (uint32_t i = 1; i < t->span_count; i++)
        runs += t->spans[i]->resource != t->spans[i - 1]->resource;
    struct service_summary *v = ARENA_ARRAY(a, struct service_summary, runs);
    if (!v)
        return E_NO_MEMORY;
    for (uint32_t i = 0; i < t->span_count; i++) {
        const struct span *s = t->spans[i];
        if (i && s->resource != t->spans[i - 1]->resource)
            at++;
        v[at].name = s->resource->service;
        v[at].span_count++;
        v[at].error_count += s->status == STATUS_ERROR;
    }
    out->services = v;
    out->service_count = merge_services(v, runs);
    return E_OK;
}

enum errc summarize_trace(const struct trace *t, struct arena *a, struct trace_summary *out)
{
    *out = (struct trace_summary){.min_start_ns = UINT64_MAX};
    memcpy(out->trace_id, t->id, 16);
    struct idmap ids;
    if (!idmap_init(&ids, t->span_count, a))
        return E_NO_MEMORY;
    bool fresh;
    for (uint32_t i = 0; i < t->span_count; i++)
        idmap_put(&ids, load_u64be(t->spans[i]->span_id), i, &fresh);
    const struct span *root = NULL;
    for (uint32_t i = 0; i < t->span_count; i++) {
        const struct span *s = t->spans[i];
        out->min_start_ns = min_u64(out->min_start_ns, s->start_ns);
        out->max_end_ns = max_u64(out->max_end_ns, s->end_ns);
        out->error_count += s->status == STATUS_ERROR;
        out->root_count += !span_has_parent(s);
        if (!span_has_parent(s))
            root = !root || s->start_ns < root->start_ns ? s : root;
        else
            out->orphan_count += !idmap_get(&ids, load_u64be(s->parent_id));
    }
    out->span_count = t->span_count;
    if (!t->span_count) {
        out->min_start_ns = 0;
        return E_OK;
    }
    if (root) {
        out->root_service = root->resource->service;
        out->root_operation = root->name;
    }
    return count_services(t, a, out);
}
