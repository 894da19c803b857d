/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a block file: it opens or not; what opens is read in every way there is. The
 * fuzzer's build takes any checksum, so damage reaches the parts behind them. */
#include "base/os/sim.h"
#include "store/trace/block.h"
#include "store/trace/care.h"
#include "store/trace/discover.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void on_glance(void *arg, const struct span_glance *s)
{
    ensure(s->service.n <= GIB && s->name.n <= GIB);
    ++*(uint64_t *)arg;
}

#define ROWS_MAX 100u

struct row_list {
    struct block_row v[ROWS_MAX];
    struct span *spans[ROWS_MAX];
    uint32_t n;
};

static bool on_key(void *arg, uint64_t start_ns, const uint8_t span_id[8], uint64_t row)
{
    struct row_list *l = arg;
    (void)span_id;
    if (l->n < ROWS_MAX && (!l->n || row > l->v[l->n - 1].row)) {
        l->v[l->n] = (struct block_row){row, start_ns, &l->spans[l->n]};
        l->n++;
    }
    return true;
}

/* Row by row it has as many spans as whole; the first ones as a page. */
static void on_rows(struct block *b, const uint8_t id[16], const struct trace *whole)
{
    struct arena a = arena_init(4 * MIB);
    struct row_list l = {.n = 0};
    for (int part = GLANCE_ALL; part <= GLANCE_PARENTS; part++) {
        uint64_t n = 0;
        enum errc code = block_trace_glances(b, id, (enum glance_part)part, NULL, on_glance, &n,
                                             NULL);
        ensure(code || !whole || n == whole->span_count);
    }
    enum errc code = block_trace_keys(b, id, 0, UINT64_MAX, NULL, on_key, &l, NULL);
    if (!code)
        code = block_trace_rows(b, id, l.v, l.n, &a, NULL);
    for (uint32_t i = 0; !code && i < l.n; i++)
        ensure(l.spans[i]->resource && l.spans[i]->name.p);
    arena_fini(&a);
}

static bool on_trace(void *arg, const uint8_t id[16], uint64_t min_ns)
{
    struct block *b = arg;
    struct arena a = arena_init(4 * MIB);
    struct trace t = {0};
    struct str service;
    bool found;
    (void)min_ns;
    enum errc code = block_trace(b, id, &a, &t, NULL);
    on_rows(b, id, code ? NULL : &t);
    for (uint32_t i = 0; !code && i < t.span_count; i++)
        ensure(t.spans[i]->resource && t.spans[i]->name.p);
    if (!code && t.span_count)
        code = block_span_service(b, id, t.spans[0]->span_id, &found, &service, NULL);
    arena_fini(&a);
    return code == E_OK;
}

static enum errc search_all(struct block *b, const struct trace_query *q, struct arena *a)
{
    struct block_search *s;
    uint64_t bytes_read = 0;
    bool found;
    enum errc code = block_search_open(b, q, a, &bytes_read, &s, NULL);
    for (uint32_t i = 0; !code && s && i < block_group_count(b); i++) {
        struct block_hit *hits;
        uint32_t n;
        code = block_search_group(s, i, 1000 * (i & 1), a, &hits, &n, NULL);
        for (uint32_t k = 0; !code && k < n; k++) {
            struct trace_hit hit = hits[k].hit;
            code = order_counts(q->order)
                       ? block_count_trace(b, q->order, hit.trace_id, &bytes_read, &hit, NULL)
                       : block_search_trace(s, hit.trace_id, &found, &hit, NULL);
        }
    }
    return code;
}

static void search(struct block *b, struct tag_filter tag, uint64_t duration_ns)
{
    for (int order = 0; order < ORDER_COUNT; order++) {
        struct arena a = arena_init(32 * MIB);
        struct trace_query q = {.kind = -1,
                                .start_max_ns = UINT64_MAX,
                                .duration_min_ns = duration_ns,
                                .tags = &tag,
                                .tag_count = 1,
                                .limit = 20,
                                .order = (enum query_order)order};
        enum errc code = search_all(b, &q, &a);
        ensure(code == E_OK || code == E_CORRUPT || code == E_NO_MEMORY);
        arena_fini(&a);
    }
}

static void on_chain(void *arg, const struct trace *chain)
{
    for (uint32_t i = 0; i < chain->span_count; i++)
        *(uint64_t *)arg += chain->spans[i]->attrs.n + chain->spans[i]->resource->attrs.n;
}

static void on_cost(void *arg, enum cost_kind kind, struct str name, enum attr_type type,
                    uint64_t bytes)
{
    *(uint64_t *)arg += bytes + name.n + (uint64_t)kind + (uint64_t)type;
}

static void on_share(void *arg, struct str service, struct str name, uint64_t spans, double bytes)
{
    *(uint64_t *)arg += service.n + name.n + spans + (bytes > 0);
}

/* All keys and their values; then of a part of the time and one service, row by row. */
static void discover(struct os *os, struct block *b, bool values, uint64_t from_ns)
{
    struct discovery d;
    struct discover_query q = {.start_min_ns = from_ns, .start_max_ns = UINT64_MAX};
    if (from_ns)
        q.service = STR("svc-1");
    discovery_init(&d, os, &q);
    d.values = values;
    d.key = STR("key.1");
    enum errc code = block_discover(b, &d, NULL);
    ensure(code == E_OK || code == E_CORRUPT || code == E_NO_MEMORY);
    discovery_fini(&d);
}

static void read_all(struct os *os, struct block *b)
{
    uint64_t sum = 0, from_ns = block_meta(b)->min_ns + 1;
    enum errc code = block_each_trace(b, on_trace, b, NULL);
    search(b, (struct tag_filter){.key = STR("key.1"), .value = STR("1")}, 0);
    search(b, (struct tag_filter){.key = STR("key.2"), .op = TAG_EXISTS}, 1000);
    search(b, (struct tag_filter){.key = STR("event"), .value = STR("event-1")}, 0);
    discover(os, b, false, 0);
    discover(os, b, true, 0);
    discover(os, b, false, from_ns);
    discover(os, b, true, from_ns);
    bool has;
    code = code ? code : block_has_key(b, STR("key.1"), &has, NULL);
    code = code ? code : block_scan(b, on_chain, &sum, NULL);
    code = code ? code : block_cost(b, on_cost, on_share, &sum, NULL);
    code = code ? code : block_verify(b, NULL);
    ensure(code == E_OK || code == E_CORRUPT || code == E_NO_MEMORY);
}

static bool on_saved(void *arg, struct span *const *spans, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        ensure(spans[i]->resource && spans[i]->name.p);
    *(uint64_t *)arg += n;
    return true;
}

/* Whatever is wrong: what is saved and what is lost are all the spans there are. */
static void salvage(struct block *b)
{
    struct block_lost lost;
    uint64_t saved = 0;
    enum errc code = block_salvage(b, on_saved, &saved, &lost, NULL);
    ensure(code == E_OK || code == E_NO_MEMORY);
    ensure(code == E_NO_MEMORY || saved + lost.spans == block_meta(b)->span_count);
}

static void on_row(void *arg, const char *kind, const struct dump_field *fields, size_t n)
{
    *(uint64_t *)arg += strlen(kind);
    for (size_t i = 0; i < n; i++)
        *(uint64_t *)arg += fields[i].number + fields[i].text.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint64_t sum = 0, bad;
    struct os *os = os_mem_new();
    struct os_file *f;
    struct block *b;
    ensure(os_open(os, "/b", OS_WRITE | OS_FRESH, &f, NULL) == E_OK);
    ensure(os_pwrite(f, str_of(data, n), 0, NULL) == E_OK);
    os_close(f);
    if (block_open(os, "/b", &b, NULL) == E_OK) {
        read_all(os, b);
        block_unref(b);
    }
    if (block_open_mended(os, "/b", &b, NULL) == E_OK) {
        read_all(os, b);
        block_unref(b);
    }
    if (block_open_damaged(os, "/b", &b, NULL) == E_OK) {
        salvage(b);
        block_unref(b);
    }
    ensure(os_rename(os, "/b", "/b.blk", NULL) == E_OK);
    ensure(store_dump(os, "/b.blk", 0, on_row, &sum, &bad, NULL) == E_OK);
    os_sim_free(os);
    return 0;
}
