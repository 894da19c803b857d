/* SPDX-License-Identifier: Apache-2.0 */
/* Reading: a snapshot is a version and how much of its active memtable was published at that
 * moment. Searches are in search.c. */
#include "store/trace/store_parts.h"

#include <stdlib.h>

#define SEEN_ARENA_MAX (64 * MIB) /* what a block has inside a window, at a time */

struct snap *store_snap(struct store *s)
{
    struct snap *snap = xcalloc(1, sizeof *snap);
    atomic_init(&snap->refs, 1);
    snap->store = s;
    snap->version = store_version(s);
    snap->active_count = memtable_count(snap->version->mem[0]);
    return snap;
}

void snap_unref(struct snap *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    version_unref(s->version);
    free(s);
}

/* --- one trace --- */

static enum errc batch_trace(const struct batch *b, const uint64_t *low, const uint8_t id[16],
                             struct arena *a, struct trace *t)
{
    struct span_origin *groups = NULL;
    uint64_t want = trace_low(id);
    for (uint32_t i = 0, n = b->head->span_count; i < n; i++) {
        if (LIKELY(low[i] != want) || memcmp(b->spans[i].trace_id, id, 16) != 0)
            continue;
        if (!groups && !(groups = ARENA_ARRAY(a, struct span_origin, b->head->group_count)))
            return E_NO_MEMORY;
        struct span *span = span_from_batch(b, &b->spans[i], groups, a);
        if (!span || !trace_add(t, span, a))
            return E_NO_MEMORY;
    }
    return E_OK;
}

static enum errc no_memory(const struct arena *a, struct err *e)
{
    if (a->budget)
        return fail(
            e, E_NO_MEMORY,
            "the trace needs more memory than all questions together may take: %zu bytes, a "
            "part of --max-memory",
            min_size(a->budget->max, a->max_bytes));
    return fail(e, E_NO_MEMORY, "the trace is larger than %zu bytes of memory", a->max_bytes);
}

enum errc snap_trace(struct snap *s, struct str tenant, const uint8_t id[16], struct arena *a,
                     struct trace **out, struct err *e)
{
    const struct version *v = s->version;
    uint32_t number = catalog_find_tenant(s->store->catalog, tenant);
    struct trace *t = ARENA_NEW(a, struct trace);
    enum errc rc = t ? E_OK : E_NO_MEMORY;
    if (t)
        memcpy(t->id, id, 16);
    for (size_t m = v->mem_n; rc == E_OK && m > 0; m--) {
        for (uint32_t i = 0, n = snap_mem_count(s, m - 1); rc == E_OK && i < n; i++) {
            const struct mem_entry *entry = memtable_at(v->mem[m - 1], i);
            if (entry->tenant == number)
                rc = batch_trace(entry->batch, entry->trace_low, id, a, t);
        }
    }
    if (rc == E_NO_MEMORY)
        return no_memory(a, e);
    for (size_t i = 0; rc == E_OK && i < v->part_n; i++) {
        const struct part *p = v->parts[i];
        if (p->tenant == number && block_may_have(p->block, id))
            rc = block_trace(p->block, id, a, t, e);
    }
    if (rc == E_NO_MEMORY)
        return no_memory(a, e);
    if (rc != E_OK)
        return rc;
    if (!t->span_count)
        return fail(e, E_NOT_FOUND, "trace not found");
    trace_sort(t);
    *out = t;
    return E_OK;
}

/* --- blocks --- */

static int by_newest(const void *a, const void *b)
{
    const struct part *x = *(struct part *const *)a, *y = *(struct part *const *)b;
    if (x->max_ns != y->max_ns)
        return x->max_ns > y->max_ns ? -1 : 1;
    return x->id > y->id ? -1 : x->id < y->id;
}

struct part **version_parts(const struct version *v, uint32_t tenant, uint64_t min_ns,
                            uint64_t max_ns, size_t *n)
{
    struct part **parts = xmalloc((v->part_n + 1) * sizeof(struct part *));
    *n = 0;
    for (size_t i = 0; i < v->part_n; i++) {
        struct part *p = v->parts[i];
        if (p->tenant == tenant && p->min_ns <= max_ns && p->max_ns >= min_ns)
            parts[(*n)++] = p;
    }
    qsort(parts, *n, sizeof(struct part *), by_newest);
    return parts;
}

/* --- every trace --- */

struct seen_trace {
    uint64_t min_ns;
    uint8_t id[16];
};

struct seen_list {
    struct seen_trace *v;
    size_t n, cap;
    uint64_t min_ns, max_ns;
};

static bool seen_add(void *arg, const uint8_t id[16], uint64_t min_ns)
{
    struct seen_list *l = arg;
    if (min_ns < l->min_ns || min_ns > l->max_ns)
        return true;
    if (l->n == l->cap)
        l->v = xrealloc(l->v, (l->cap = l->cap ? 2 * l->cap : 1024) * sizeof *l->v);
    l->v[l->n].min_ns = min_ns;
    memcpy(l->v[l->n++].id, id, 16);
    return true;
}

static int by_trace(const void *a, const void *b)
{
    const struct seen_trace *x = a, *y = b;
    int order = memcmp(x->id, y->id, 16);
    return order ? order : (x->min_ns > y->min_ns) - (x->min_ns < y->min_ns);
}

static int by_start(const void *a, const void *b)
{
    const struct seen_trace *x = a, *y = b;
    if (x->min_ns != y->min_ns)
        return x->min_ns < y->min_ns ? -1 : 1;
    return memcmp(x->id, y->id, 16);
}

/* Once each, with its earliest start. */
static void seen_pack(struct seen_list *l)
{
    size_t kept = 0;
    if (l->n)
        qsort(l->v, l->n, sizeof *l->v, by_trace);
    for (size_t i = 0; i < l->n; i++)
        if (!kept || memcmp(l->v[kept - 1].id, l->v[i].id, 16) != 0)
            l->v[kept++] = l->v[i];
    l->n = kept;
}

static void memtable_traces(const struct memtable *m, uint32_t count, uint32_t tenant,
                            struct seen_list *l)
{
    size_t packed = l->n;
    for (uint32_t i = 0; i < count; i++) {
        const struct mem_entry *entry = memtable_at(m, i);
        const struct batch *b = entry->batch;
        for (uint32_t k = 0; entry->tenant == tenant && k < b->head->span_count; k++)
            (void)seen_add(l, b->spans[k].trace_id, b->spans[k].start_ns);
        if (l->n > 2 * packed + 65536) { /* one entry a span would be many */
            seen_pack(l);
            packed = l->n;
        }
    }
    seen_pack(l);
}

/* Traces with a span inside the window. */
static enum errc traces_inside(const struct part *p, struct seen_list *l, struct err *e)
{
    struct trace_query inside = {.kind = -1, .start_min_ns = l->min_ns, .start_max_ns = l->max_ns};
    struct arena plan = arena_init(SEEN_ARENA_MAX), found = arena_init(SEEN_ARENA_MAX);
    struct block_search *search;
    uint64_t bytes_read = 0;
    enum errc rc = block_search_open(p->block, &inside, &plan, &bytes_read, &search, e);
    for (uint32_t g = 0, n = block_group_count(p->block); rc == E_OK && search && g < n; g++) {
        struct block_bounds bounds = block_group_bounds(p->block, g);
        struct block_hit *hits;
        uint32_t hit_n = 0;
        if (bounds.min_ns > l->max_ns || bounds.max_ns < l->min_ns)
            continue;
        arena_reset(&found);
        rc = block_search_group(search, g, 0, &found, &hits, &hit_n, e);
        for (uint32_t i = 0; rc == E_OK && i < hit_n; i++)
            (void)seen_add(l, hits[i].hit.trace_id, hits[i].hit.newest_ns);
    }
    arena_fini(&plan);
    arena_fini(&found);
    return rc;
}

/* Traces that begin in the window here, and those that began before it and have a span inside. */
static enum errc part_traces(const struct part *p, struct seen_list *l, struct err *e)
{
    enum errc rc = block_each_trace(p->block, seen_add, l, e);
    return rc == E_OK && p->min_ns < l->min_ns ? traces_inside(p, l, e) : rc;
}

enum errc snap_each_trace(struct snap *s, struct str tenant, uint64_t min_ns, uint64_t max_ns,
                          bool (*each)(void *arg, const uint8_t id[16]), void *arg, struct err *e)
{
    const struct version *v = s->version;
    enum errc rc = E_OK;
    struct seen_list l = {.min_ns = min_ns, .max_ns = max_ns};
    uint32_t number = catalog_find_tenant(s->store->catalog, tenant);
    for (size_t i = 0; i < v->mem_n; i++)
        memtable_traces(v->mem[i], snap_mem_count(s, i), number, &l);
    for (size_t i = 0; rc == E_OK && i < v->part_n; i++) {
        const struct part *p = v->parts[i];
        if (p->tenant == number && p->min_ns <= max_ns && p->max_ns >= min_ns)
            rc = part_traces(p, &l, e);
    }
    seen_pack(&l);
    if (l.n)
        qsort(l.v, l.n, sizeof *l.v, by_start);
    for (size_t i = 0; rc == E_OK && i < l.n && each(arg, l.v[i].id); i++)
        ;
    free(l.v);
    return rc;
}

/* --- names --- */

static uint64_t names_since(const struct snap *s)
{
    struct store *store = s->store;
    pthread_mutex_lock(&store->lock);
    uint64_t keep_ns = store_names_ns(store);
    pthread_mutex_unlock(&store->lock);
    uint64_t now_ns = os_now_ns(store->os);
    return keep_ns && now_ns > keep_ns ? now_ns - keep_ns : 0;
}

enum errc snap_services(struct snap *s, struct str tenant, struct arena *a, struct str **out,
                        size_t *n)
{
    uint32_t number = catalog_find_tenant(s->store->catalog, tenant);
    *n = 0;
    *out = NULL;
    if (number == CATALOG_NONE)
        return E_OK;
    return catalog_services(s->store->catalog, number, names_since(s), a, out, n);
}

enum errc snap_operations(struct snap *s, struct str tenant, struct str service, int kind,
                          struct arena *a, struct operation **out, size_t *n)
{
    uint32_t number = catalog_find_tenant(s->store->catalog, tenant);
    *n = 0;
    *out = NULL;
    if (number == CATALOG_NONE)
        return E_OK;
    return catalog_operations(s->store->catalog, number, service, kind, names_since(s), a, out, n);
}

/* --- dependencies --- */

struct dep_query {
    struct snap *snap;
    struct span_index **index; /* one a memtable, in the version's order */
    uint32_t tenant, from, to; /* minutes */
    struct parent_search parents;
    uint64_t seed;
    struct dep_list calls;
};

static void dep_add(struct dep_query *dq, uint32_t parent, uint32_t child, uint64_t calls)
{
    struct dep_list *l = &dq->calls;
    dep_list_add(l, (struct dep_row){.width = 1, .parent = parent, .child = child, .calls = calls});
    if (l->n == l->cap)
        dep_list_pack(l); /* few pairs, many calls */
}

static bool find_in_memtables(const struct dep_query *dq, uint64_t print, uint32_t *service)
{
    for (size_t i = 0; i < dq->snap->version->mem_n; i++)
        if (span_index_find(dq->index[i], print, service))
            return true;
    return false;
}

static enum errc dep_span(struct dep_query *dq, const struct mem_entry *entry,
                          const struct span_rec *s)
{
    struct snap *snap = dq->snap;
    uint64_t minute = s->start_ns / MINUTE_NS;
    uint32_t parent;
    enum errc rc = E_OK;
    if (minute < dq->from || minute > dq->to || id_is_zero(s->parent_id, 8))
        return E_OK;
    struct parent_key key = {.print = span_print(dq->seed, s->trace_id, s->parent_id),
                             .trace_id = s->trace_id,
                             .parent_id = s->parent_id,
                             .child_ns = minute * MINUTE_NS};
    bool found = find_in_memtables(dq, key.print, &parent);
    if (!found)
        rc = store_find_parent(snap->store, &dq->parents, &key, &found, &parent, NULL);
    if (rc == E_OK && found)
        dep_add(dq, parent, entry->services[s->group], 1);
    return rc;
}

static enum errc dep_memtable(struct dep_query *dq, const struct memtable *m, uint32_t count)
{
    enum errc rc = E_OK;
    for (uint32_t i = 0; i < count; i++) {
        const struct mem_entry *entry = memtable_at(m, i);
        const struct batch *b = entry->batch;
        if (entry->tenant != dq->tenant)
            continue;
        for (uint32_t k = 0; rc == E_OK && k < b->head->span_count; k++)
            rc = dep_span(dq, entry, &b->spans[k]);
    }
    return rc;
}

/* What is settled, what the memtables hold, and what they settle for older blocks. */
static enum errc dep_collect(struct dep_query *dq)
{
    enum errc rc = E_OK;
    const struct version *v = dq->snap->version;
    struct catalog *c = dq->snap->store->catalog;
    for (size_t i = 0; i < v->deps->n; i++) {
        const struct dep_row *row = &v->deps->rows[i];
        bool inside = row->minute <= dq->to && row->minute + row->width > dq->from;
        if (inside && catalog_service_tenant(c, row->child) == dq->tenant)
            dep_add(dq, row->parent, row->child, row->calls);
    }
    for (size_t i = 0; rc == E_OK && i < v->mem_n; i++)
        rc = dep_memtable(dq, v->mem[i], snap_mem_count(dq->snap, i));
    for (size_t i = 0; i < v->orphans->n; i++) {
        const struct orphan *o = &v->orphans->v[i];
        uint32_t parent;
        if (o->minute >= dq->from && o->minute <= dq->to &&
            catalog_service_tenant(c, o->service) == dq->tenant &&
            find_in_memtables(dq, o->print, &parent))
            dep_add(dq, parent, o->service, 1);
    }
    dep_list_pack(&dq->calls);
    return rc;
}

static int by_names(const void *a, const void *b)
{
    const struct dependency *x = a, *y = b;
    int order = str_cmp(x->parent, y->parent);
    return order ? order : str_cmp(x->child, y->child);
}

enum errc snap_dependencies(struct snap *s, struct str tenant, uint64_t from_ns, uint64_t to_ns,
                            struct arena *a, struct dependency **out, size_t *n)
{
    const struct version *v = s->version;
    struct catalog *c = s->store->catalog;
    struct dep_query dq = {.snap = s,
                           .tenant = catalog_find_tenant(c, tenant),
                           .from = (uint32_t)(from_ns / MINUTE_NS),
                           .to = (uint32_t)(to_ns / MINUTE_NS),
                           .seed = span_print_seed(tenant)};
    *n = 0;
    *out = NULL;
    if (dq.tenant == CATALOG_NONE)
        return E_OK;
    dq.parents = (struct parent_search){.version = v, .tenant = dq.tenant, .asks = PARENT_ASKS_MAX};
    dq.index = xcalloc(v->mem_n, sizeof(struct span_index *));
    for (size_t i = 0; i < v->mem_n; i++)
        dq.index[i] = span_index_new(s->store->os, v->mem[i], snap_mem_count(s, i));
    enum errc rc = dep_collect(&dq);
    for (size_t i = 0; i < v->mem_n; i++)
        span_index_unref(dq.index[i]);
    free(dq.index);
    *out = ARENA_ARRAY(a, struct dependency, dq.calls.n + 1);
    for (size_t i = 0; *out && i < dq.calls.n; i++)
        (*out)[(*n)++] = (struct dependency){
            .parent = arena_str(a, catalog_service_name(c, dq.calls.v[i].parent)),
            .child = arena_str(a, catalog_service_name(c, dq.calls.v[i].child)),
            .calls = dq.calls.v[i].calls};
    dep_list_fini(&dq.calls);
    if (rc != E_OK || a->failed)
        return rc != E_OK ? rc : E_NO_MEMORY;
    if (*n)
        qsort(*out, *n, sizeof **out, by_names);
    return E_OK;
}
