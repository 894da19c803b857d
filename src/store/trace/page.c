/* SPDX-License-Identifier: Apache-2.0 */
/* A page of a trace of any size. Counting starts by bucket narrows down where the page begins and
 * ends, in as many passes over the keys as it takes; row groups outside are not read again. Then
 * the keys between are sorted, and only the page's spans are made. */
#include "store/trace/store_parts.h"

#include <stdlib.h>

#define PAGE_BUCKETS 16384u

struct page_key {
    uint64_t start_ns, span_id, row;
    uint32_t source; /* a batch of a memtable, or a block behind them all */
};

/* Starts in [min, max]: `n` spans, behind `below` earlier ones. */
struct range {
    uint64_t min_ns, max_ns, below, n;
};

struct page {
    struct snap *snap;
    uint32_t tenant, source;
    const uint8_t *id;
    struct arena *a;
    struct range in; /* what a pass looks at */
    uint64_t *counts, width;
    struct page_key *keys;
    uint64_t key_n;
};

static bool count_key(void *arg, uint64_t start_ns, const uint8_t span_id[8], uint64_t row)
{
    struct page *p = arg;
    (void)span_id, (void)row;
    if (start_ns >= p->in.min_ns && start_ns <= p->in.max_ns)
        p->counts[(start_ns - p->in.min_ns) / p->width]++;
    return true;
}

static bool keep_key(void *arg, uint64_t start_ns, const uint8_t span_id[8], uint64_t row)
{
    struct page *p = arg;
    if (start_ns < p->in.min_ns || start_ns > p->in.max_ns)
        return true;
    if (p->key_n == p->in.n)
        return false;
    p->keys[p->key_n++] = (struct page_key){start_ns, load_u64be(span_id), row, p->source};
    return true;
}

static bool batch_keys(struct page *p, const struct mem_entry *entry, block_key *each)
{
    uint64_t want = trace_low(p->id);
    const struct batch *b = entry->batch;
    for (uint32_t i = 0; i < b->head->span_count; i++)
        if (entry->trace_low[i] == want && memcmp(b->spans[i].trace_id, p->id, 16) == 0 &&
            !each(p, b->spans[i].start_ns, b->spans[i].span_id, i))
            return false;
    return true;
}

/* Every source in the order of snap_trace. */
static enum errc pass(struct page *p, block_key *each, struct err *e)
{
    const struct version *v = p->snap->version;
    enum errc rc = E_OK;
    p->source = 0;
    for (size_t m = v->mem_n; m > 0; m--)
        for (uint32_t i = 0, n = snap_mem_count(p->snap, m - 1); i < n; i++, p->source++) {
            const struct mem_entry *entry = memtable_at(v->mem[m - 1], i);
            if (entry->tenant == p->tenant && !batch_keys(p, entry, each))
                return E_NO_MEMORY;
        }
    for (size_t i = 0; rc == E_OK && i < v->part_n; i++, p->source++)
        if (v->parts[i]->tenant == p->tenant)
            rc = block_trace_keys(v->parts[i]->block, p->id, p->in.min_ns, p->in.max_ns,
                                  p->a->budget, each, p, e);
    return rc;
}

/* Counts the range by bucket; its n is what was counted. */
static enum errc count_range(struct page *p, struct range *r, struct err *e)
{
    memset(p->counts, 0, PAGE_BUCKETS * sizeof *p->counts);
    p->in = *r;
    p->width = (r->max_ns - r->min_ns) / PAGE_BUCKETS + 1;
    enum errc rc = pass(p, count_key, e);
    r->n = 0;
    for (uint32_t i = 0; i < PAGE_BUCKETS; i++)
        r->n += p->counts[i];
    return rc;
}

/* To the bucket that has the span of this rank. */
static void to_bucket(const struct page *p, struct range *r, uint64_t rank)
{
    uint32_t i = 0;
    while (r->below + p->counts[i] <= rank)
        r->below += p->counts[i++];
    r->n = p->counts[i];
    r->min_ns += i * p->width;
    if (r->max_ns - r->min_ns >= p->width)
        r->max_ns = r->min_ns + p->width - 1;
}

static enum errc narrow(struct page *p, struct range *r, uint64_t rank, struct err *e)
{
    enum errc rc = E_OK;
    while (rc == E_OK && r->n > PAGE_SLACK && r->min_ns < r->max_ns) {
        rc = count_range(p, r, e);
        if (rc == E_OK)
            to_bucket(p, r, rank);
    }
    return rc;
}

static int by_order(const void *a, const void *b)
{
    const struct page_key *x = a, *y = b;
    if (x->start_ns != y->start_ns)
        return x->start_ns < y->start_ns ? -1 : 1;
    if (x->span_id != y->span_id)
        return x->span_id < y->span_id ? -1 : 1;
    if (x->source != y->source)
        return x->source < y->source ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* Spans are made source by source; trace_sort puts them in order again. */
static int by_place(const void *a, const void *b)
{
    const struct page_key *x = a, *y = b;
    if (x->source != y->source)
        return x->source < y->source ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static enum errc batch_spans(struct page *p, const struct batch *b, const struct page_key *k,
                             uint32_t n, struct span **out)
{
    struct span_origin *groups = ARENA_ARRAY(p->a, struct span_origin, b->head->group_count);
    for (uint32_t i = 0; groups && i < n; i++)
        if (!(out[i] = span_from_batch(b, &b->spans[k[i].row], groups, p->a)))
            return E_NO_MEMORY;
    return groups ? E_OK : E_NO_MEMORY;
}

static enum errc part_spans(struct page *p, struct block *b, const struct page_key *k, uint32_t n,
                            struct span **out, struct err *e)
{
    struct block_row *rows = ARENA_ARRAY(p->a, struct block_row, n);
    for (uint32_t i = 0; rows && i < n; i++)
        rows[i] = (struct block_row){k[i].row, k[i].start_ns, &out[i]};
    return rows ? block_trace_rows(b, p->id, rows, n, p->a, e) : E_NO_MEMORY;
}

/* Keys [at, result) are of the source. */
static uint32_t end_of_source(const struct page_key *k, uint32_t at, uint32_t n, uint32_t source)
{
    while (at < n && k[at].source == source)
        at++;
    return at;
}

static enum errc make_spans(struct page *p, struct page_key *k, uint32_t n, struct span **out,
                            struct err *e)
{
    const struct version *v = p->snap->version;
    uint32_t source = 0, at = 0, to = 0;
    enum errc rc = E_OK;
    if (n)
        qsort(k, n, sizeof *k, by_place);
    for (size_t m = v->mem_n; m > 0; m--)
        for (uint32_t i = 0, c = snap_mem_count(p->snap, m - 1); rc == E_OK && i < c;
             i++, source++, at = to)
            if ((to = end_of_source(k, at, n, source)) > at)
                rc = batch_spans(p, memtable_at(v->mem[m - 1], i)->batch, k + at, to - at,
                                 out + at);
    for (size_t i = 0; rc == E_OK && i < v->part_n; i++, source++, at = to)
        if ((to = end_of_source(k, at, n, source)) > at)
            rc = part_spans(p, v->parts[i]->block, k + at, to - at, out + at, e);
    return rc;
}

static enum errc read_page(struct page *p, uint64_t offset, uint32_t limit, struct trace *t,
                           uint64_t *total, struct err *e)
{
    struct range all = {.max_ns = UINT64_MAX}, low, high;
    enum errc rc = count_range(p, &all, e);
    *total = all.n;
    if (rc != E_OK || !all.n)
        return rc != E_OK ? rc : fail(e, E_NOT_FOUND, "trace not found");
    uint64_t n = offset < all.n ? min_u64(limit, all.n - offset) : 0;
    if (!n)
        return E_OK;
    low = high = all;
    if ((rc = narrow(p, &low, offset, e)) || (rc = narrow(p, &high, offset + n - 1, e)))
        return rc;
    p->in = (struct range){low.min_ns, high.max_ns, low.below, high.below + high.n - low.below};
    p->keys = ARENA_ARRAY(p->a, struct page_key, p->in.n);
    t->spans = ARENA_ARRAY(p->a, struct span *, n);
    if (!p->keys || !t->spans)
        return E_NO_MEMORY;
    if ((rc = pass(p, keep_key, e)))
        return rc;
    qsort(p->keys, p->key_n, sizeof *p->keys, by_order);
    t->span_count = t->span_cap = (uint32_t)n;
    rc = make_spans(p, p->keys + (offset - low.below), (uint32_t)n, t->spans, e);
    if (rc == E_OK)
        trace_sort(t);
    return rc;
}

enum errc snap_trace_page(struct snap *s, struct str tenant, const uint8_t id[16], uint64_t offset,
                          uint32_t limit, struct arena *a, struct trace **out, uint64_t *total,
                          struct err *e)
{
    struct page p = {.snap = s,
                     .tenant = catalog_find_tenant(s->store->catalog, tenant),
                     .id = id,
                     .a = a,
                     .counts = ARENA_ARRAY(a, uint64_t, PAGE_BUCKETS)};
    struct trace *t = ARENA_NEW(a, struct trace);
    if (!p.counts || !t)
        return fail(e, E_NO_MEMORY, "no memory for a page of the trace");
    memcpy(t->id, id, 16);
    enum errc rc = read_page(&p, offset, limit, t, total, e);
    *out = t;
    return rc == E_NO_MEMORY ? fail(e, rc, "the page needs more memory than a question may take")
                             : rc;
}
