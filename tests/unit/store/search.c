/* SPDX-License-Identifier: Apache-2.0 */
/* Searches of a whole store against a list of all spans: every order, page by page from every
 * place, with and without a budget. Traces lie in several blocks, row groups and memtables at once.
 */
#include "base/os/sim.h"
#include "base/stats.h"
#include "engine/query/query.h"
#include "store/trace/block.h"
#include "store/trace/match.h"
#include "store/trace/trace_store.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>

#define BATCHES_MAX 128
#define TRACES_MAX  4096

/* What the store is made of. */
struct shape {
    uint32_t batches, spans, traces; /* spans: of a batch */
    uint32_t blocks;                 /* the last batches stay in memory */
    bool merged;                     /* blocks are merged */
    bool huge;                       /* half of all spans are of one trace */
    bool doubled;                    /* some spans have the id of another, some come twice */
    uint64_t spread_ns;
};

struct world {
    struct os *os;
    struct store *store;
    struct snap *snap;
    struct batch *batch[BATCHES_MAX];
    struct store_ticket ticket[BATCHES_MAX];
    uint32_t n;
};

static uint32_t roll(uint32_t n)
{
    return (uint32_t)(test_rand() % n);
}

static struct str numbered(char *buf, const char *prefix, uint32_t n)
{
    return str_of(buf, (size_t)sprintf(buf, "%s%u", prefix, n));
}

/* Traces cluster in time, but a few spans come late. Few durations and times: there are ties. */
static void add_span(struct batch_builder *bb, const struct shape *w, uint32_t at)
{
    char buf[32];
    struct span_rec *s = bb_span(bb);
    uint32_t near = at * w->traces / w->batches + roll(w->traces / 4 + 1);
    uint32_t trace = 1 + (roll(8) ? near : roll(w->traces)) % w->traces;
    if (w->huge && roll(2))
        trace = 1;
    memcpy(s->trace_id, &trace, 4);
    s->trace_id[15] = (uint8_t)(trace * 37); /* the order of ids is not that of times */
    static uint64_t made[256];               /* parents are near and far, or never come */
    uint64_t *slot = &made[roll(ARRAY_LEN(made))];
    store_u64le(s->span_id, test_rand() | 1);
    if (w->doubled && *slot && !roll(4))
        memcpy(s->span_id, slot, 8);
    if (roll(5))
        store_u64le(s->parent_id, roll(9) ? *slot : test_rand());
    *slot = load_u64le(s->span_id);
    s->start_ns = UINT64_C(1790000000000000000) + at * w->spread_ns / w->batches +
                  test_rand() % (roll(3) ? w->spread_ns / w->batches : 7);
    s->end_ns = s->start_ns + (roll(4) ? roll(50) : roll(1000000));
    if (!roll(30))
        s->end_ns = s->start_ns - roll(100);
    s->kind = (uint8_t)roll(KIND_COUNT);
    s->status = (uint8_t)(roll(5) ? 0 : roll(STATUS_COUNT));
    bb_name(bb, s, numbered(buf, "op", roll(4)));
    bb_attr_str(bb, STR("key"), ATTR_STR, numbered(buf, "v", roll(30)));
    struct span_rec twice = *s;
    CHECK(bb_span_end(bb));
    if (w->doubled && !roll(10)) {
        s = bb_span(bb);
        memcpy(s->trace_id, twice.trace_id, 16);
        memcpy(s->span_id, twice.span_id, 8);
        memcpy(s->parent_id, twice.parent_id, 8);
        s->start_ns = twice.start_ns;
        s->end_ns = twice.end_ns;
        s->status = twice.status;
        bb_name(bb, s, STR("again"));
        CHECK(bb_span_end(bb));
    }
}

static struct batch *random_batch(struct batch_builder *bb, const struct shape *w, uint32_t at)
{
    char buf[32];
    struct batch *b;
    batch_builder_reset(bb);
    for (uint32_t left = w->spans; left;) {
        uint32_t some = 1 + roll(left);
        CHECK(bb_group_begin(bb));
        bb_attr_str(bb, STR("service.name"), ATTR_STR, numbered(buf, "svc", roll(3)));
        bb_group_scope(bb);
        bb_group_end(bb);
        for (uint32_t i = 0; i < some; i++)
            add_span(bb, w, at);
        left -= some;
    }
    CHECK_OK(batch_seal(bb, STR("default"), 1, &b, NULL));
    return b;
}

static void on_done(struct store_ticket *t, enum errc result, const char *why)
{
    (void)t, (void)why;
    CHECK_OK(result);
}

static void world_open(struct world *w, uint32_t fanin)
{
    struct store_config c;
    store_config_defaults(&c, w->os, "/data");
    c.threads = false;
    c.retention_ns = 0;
    c.compact_fanin = fanin;
    CHECK_OK(store_open(&w->store, &c, NULL));
}

static void world_make(struct world *w, const struct shape *shape)
{
    struct batch_builder bb;
    *w = (struct world){.os = os_sim_new(1)};
    world_open(w, shape->merged ? 4 : 0);
    batch_builder_init(&bb);
    for (; w->n < shape->batches; w->n++) {
        w->batch[w->n] = random_batch(&bb, shape, w->n);
        w->ticket[w->n] = (struct store_ticket){.batch = w->batch[w->n], .done = on_done};
        CHECK_OK(store_append(w->store, &w->ticket[w->n]));
        if (w->n % (shape->batches / (shape->blocks + 1)) == 0 && w->n + 3 < shape->batches)
            CHECK_OK(store_flush(w->store, NULL));
        while (store_step(w->store))
            ;
    }
    batch_builder_fini(&bb);
    w->snap = store_snap(w->store);
    struct store_stats stats;
    store_stats(w->store, &stats);
    CHECK(shape->merged ? stats.block_count < shape->blocks : stats.block_count >= shape->blocks);
}

static void world_fini(struct world *w)
{
    snap_unref(w->snap);
    store_close(w->store);
    for (uint32_t i = 0; i < w->n; i++)
        batch_unref(w->batch[i]);
    os_sim_free(w->os);
}

/* --- the whole answer, the plain way --- */

struct list {
    struct trace_hit v[TRACES_MAX];
    bool matched[TRACES_MAX];
    uint32_t n;
};

static uint64_t span_value(enum query_order o, const struct span_rec *s)
{
    if (o == ORDER_SLOWEST)
        return s->end_ns > s->start_ns ? s->end_ns - s->start_ns : 0;
    if (o == ORDER_NEWEST)
        return s->start_ns;
    return o == ORDER_MOST_SPANS || s->status == STATUS_ERROR;
}

static void list_add(struct list *l, enum query_order o, const struct span_rec *s, bool matched)
{
    struct trace_hit hit = {.value = span_value(o, s), .newest_ns = s->start_ns};
    memcpy(hit.trace_id, s->trace_id, 16);
    uint32_t i = 0;
    while (i < l->n && memcmp(l->v[i].trace_id, hit.trace_id, 16) != 0)
        i++;
    if (i < l->n) {
        trace_hit_merge(o, &l->v[i], &hit);
    } else {
        CHECK(l->n < TRACES_MAX);
        l->v[l->n] = hit;
        l->matched[l->n++] = false;
    }
    l->matched[i] |= matched;
}

static int by_rank(const void *a, const void *b)
{
    return trace_hit_before(a, b) ? -1 : 1;
}

static void list_all(const struct world *w, const struct trace_query *q, struct list *l)
{
    l->n = 0;
    for (uint32_t i = 0; i < w->n; i++)
        for (uint32_t k = 0; k < w->batch[i]->head->span_count; k++) {
            const struct span_rec *s = &w->batch[i]->spans[k];
            bool matched = match_record(q, w->batch[i], s);
            if (matched || order_counts(q->order))
                list_add(l, q->order, s, matched);
        }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < l->n; i++)
        if (l->matched[i] && (q->order != ORDER_MOST_ERRORS || l->v[i].value))
            l->v[kept++] = l->v[i];
    l->n = kept;
    if (kept)
        qsort(l->v, kept, sizeof *l->v, by_rank);
}

/* --- comparing --- */

static void random_query(const struct world *w, struct trace_query *q, struct tag_filter *tag,
                         char *buf)
{
    const struct batch *b = w->batch[roll(w->n)];
    const struct span_rec *s = &b->spans[roll(b->head->span_count)];
    *q = (struct trace_query){
        .tenant = STR("default"),
        .kind = -1,
        .start_max_ns = UINT64_MAX,
    };
    if (!roll(3))
        q->service = STR("svc1");
    if (!roll(4))
        q->operation = STR("op2");
    if (!roll(5))
        q->kind = (int)roll(KIND_COUNT);
    if (!roll(4))
        q->statuses = 1 + roll(7);
    if (!roll(4))
        q->start_min_ns = s->start_ns;
    if (!roll(4))
        q->start_max_ns = s->start_ns;
    if (!roll(4))
        q->duration_min_ns = roll(60);
    if (!roll(4))
        q->duration_max_ns = 1 + roll(2000);
    if (!roll(4)) {
        *tag = (struct tag_filter){.key = STR("key"), .value = numbered(buf, "v", roll(31))};
        if (!roll(4))
            tag->op = TAG_EXISTS;
        q->tags = tag;
        q->tag_count = 1;
    }
}

static void same_hits(const struct trace_hit *got, const struct trace_hit *want, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        CHECK(memcmp(&got[i], &want[i], sizeof got[i]) == 0);
}

/* From the place behind each of the answers, and from places between. */
static void check_places(const struct world *w, struct trace_query q, const struct list *all)
{
    for (uint32_t at = 0; at < all->n; at += 1 + roll(all->n / 10 + 1)) {
        struct arena a = arena_init(64 * MIB);
        struct trace_hit after = all->v[at];
        struct trace_hits hits;
        uint32_t first = at + 1;
        if (!roll(3)) { /* just before it */
            after.trace_id[15]--;
            first = at;
            after.newest_ns += after.trace_id[15] == 255;
        }
        while (first > 0 && !trace_hit_before(&all->v[first - 1], &after) &&
               memcmp(&all->v[first - 1], &after, sizeof after) != 0)
            first--;
        q.after = &after;
        q.limit = 1 + roll(30);
        uint32_t want = (uint32_t)min_u64(q.limit, all->n - first);
        CHECK_OK(snap_search(w->snap, &q, &a, &hits, NULL));
        CHECK_INT(hits.n, want);
        same_hits(hits.v, all->v + first, want);
        CHECK(hits.complete && hits.more == (first + want < all->n));
        arena_fini(&a);
    }
}

/* Page after page: together the whole. */
static void check_pages(const struct world *w, struct trace_query q, const struct list *all)
{
    struct trace_hit after;
    uint32_t at = 0;
    q.limit = 1 + roll(all->n + 2);
    for (bool more = true; more;) {
        struct arena a = arena_init(64 * MIB);
        struct trace_hits hits;
        CHECK_OK(snap_search(w->snap, &q, &a, &hits, NULL));
        CHECK(hits.complete && hits.n <= all->n - at);
        same_hits(hits.v, all->v + at, hits.n);
        at += hits.n;
        more = hits.more;
        after = hits.next;
        q.after = &after;
        CHECK(!more || hits.n == q.limit);
        arena_fini(&a);
    }
    CHECK_INT(at, all->n);
}

/* A search that ends early says so and is right as far as it goes; the rest is found behind it. */
static void check_budget(const struct world *w, struct trace_query q, const struct list *all)
{
    struct trace_hit after;
    uint32_t at = 0;
    bool more = true, complete = true;
    q.limit = 1 + roll(all->n + 2);
    q.max_bytes = 1 + roll(60000);
    while (more) {
        struct arena a = arena_init(64 * MIB);
        struct trace_hits hits;
        CHECK_OK(snap_search(w->snap, &q, &a, &hits, NULL));
        complete = hits.complete;
        if (order_counts(q.order) && !complete) {
            for (uint32_t i = 0; i < hits.n; i++) {
                uint32_t k = at;
                while (k < all->n && memcmp(&all->v[k], &hits.v[i], sizeof all->v[k]) != 0)
                    k++;
                CHECK(k < all->n);
            }
            CHECK(!hits.more);
            arena_fini(&a);
            return;
        }
        CHECK(hits.n <= all->n - at);
        same_hits(hits.v, all->v + at, hits.n);
        at += hits.n;
        if (!complete)
            CHECK(at == all->n || all->v[at].value <= hits.looked_above);
        more = hits.more;
        after = hits.next;
        q.after = &after;
        arena_fini(&a);
    }
    CHECK(at == all->n || !complete);
}

static void check_world(const struct shape *shape, uint32_t queries)
{
    static struct list all;
    struct world w;
    char buf[32];
    uint32_t found = 0;
    world_make(&w, shape);
    for (uint32_t i = 0; i < queries; i++) {
        struct tag_filter tag;
        struct trace_query q;
        random_query(&w, &q, &tag, buf);
        q.order = (enum query_order)(i % ORDER_COUNT);
        list_all(&w, &q, &all);
        check_pages(&w, q, &all);
        check_places(&w, q, &all);
        check_budget(&w, q, &all);
        found += all.n > 1;
    }
    CHECK(found > queries / 4);
    world_fini(&w);
}

TEST(search_orders_and_cursors_over_many_blocks)
{
    check_world(
        &(struct shape){.batches = 60, .spans = 20, .traces = 150, .blocks = 20, .spread_ns = 2000},
        100);
}

TEST(search_orders_and_cursors_over_merged_blocks)
{
    check_world(&(struct shape){.batches = 60,
                                .spans = 900,
                                .traces = 400,
                                .blocks = 8,
                                .merged = true,
                                .spread_ns = 20000},
                8);
}

TEST(search_orders_and_cursors_over_row_groups)
{
    check_world(&(struct shape){.batches = 40,
                                .spans = 1200,
                                .traces = 300,
                                .blocks = 1,
                                .huge = true,
                                .spread_ns = NS_PER_S},
                8);
}

TEST(search_orders_and_cursors_in_memory)
{
    check_world(
        &(struct shape){.batches = 30, .spans = 20, .traces = 60, .blocks = 0, .spread_ns = 1000},
        100);
}

/* --- damage --- */

static const char *const damaged_path = "/data/blocks/0000000000000002.default.blk";

/* Where the tail of the block begins, with the index. */
static uint64_t tail_offset(struct os *os)
{
    struct buf file = buf_init(16 * MIB);
    CHECK_OK(os_read_file(os, damaged_path, &file, NULL));
    CHECK(file.n > 40);
    uint64_t at = load_u64le(file.p + file.n - 40 + 16);
    CHECK(at < file.n);
    buf_fini(&file);
    return at;
}

static void world_reopen(struct world *w)
{
    snap_unref(w->snap);
    store_close(w->store);
    world_open(w, 0);
    w->snap = store_snap(w->store);
}

static const struct trace_hit *hit_of(const struct trace_hit *v, uint32_t n, const uint8_t id[16])
{
    for (uint32_t i = 0; i < n; i++)
        if (!memcmp(v[i].trace_id, id, 16))
            return &v[i];
    return NULL;
}

/* Nothing is found that is not there, and only what may lie in the block may be missing. Returns
 * whether something was left out. */
static bool check_damaged(const struct world *w, const struct trace_query *q,
                          const struct list *all, const struct block *b)
{
    struct arena a = arena_init(64 * MIB);
    struct trace_hits hits;
    CHECK_OK(snap_search(w->snap, q, &a, &hits, NULL));
    CHECK(hits.complete && hits.damaged <= 1);
    CHECK(trace_hits_whole(&hits) == !hits.damaged);
    if (!hits.damaged) {
        CHECK_INT(hits.n, all->n);
        same_hits(hits.v, all->v, all->n);
    }
    for (uint32_t i = 0; i < hits.n; i++) {
        const struct trace_hit *want = hit_of(all->v, all->n, hits.v[i].trace_id);
        CHECK(want && hits.v[i].value <= want->value);
    }
    for (uint32_t i = 0; i < all->n; i++) {
        const struct trace_hit *got = hit_of(hits.v, hits.n, all->v[i].trace_id);
        CHECK(block_may_have(b, all->v[i].trace_id) ||
              (got && !memcmp(got, &all->v[i], sizeof *got)));
    }
    bool damaged = hits.damaged;
    arena_fini(&a);
    return damaged;
}

/* Page by page no trace comes twice, and each page is behind the one before. */
static void check_damaged_pages(const struct world *w, struct trace_query q, const struct list *all)
{
    static bool seen[TRACES_MAX];
    struct trace_hit after;
    memset(seen, 0, sizeof seen);
    q.limit = 1 + roll(20);
    for (bool more = true; more;) {
        struct arena a = arena_init(64 * MIB);
        struct trace_hits hits;
        CHECK_OK(snap_search(w->snap, &q, &a, &hits, NULL));
        for (uint32_t i = 0; i < hits.n; i++) {
            const struct trace_hit *in_all = hit_of(all->v, all->n, hits.v[i].trace_id);
            CHECK(in_all && !seen[in_all - all->v]);
            CHECK(!q.after || trace_hit_before(q.after, &hits.v[i]));
            seen[in_all - all->v] = true;
        }
        more = hits.more;
        after = hits.next;
        q.after = &after;
        CHECK(!more || hits.n == q.limit);
        arena_fini(&a);
    }
}

/* The same questions to the store with one bit flipped here and there. */
static void damage_and_search(const struct shape *shape, uint32_t flips)
{
    static struct list all[ORDER_COUNT];
    struct trace_query q[ORDER_COUNT];
    struct tag_filter tag[ORDER_COUNT];
    char buf[ORDER_COUNT][32];
    struct world w;
    struct block *b;
    uint32_t damaged = 0;
    int64_t said = stat_get(STAT_BLOCKS_DAMAGED);
    world_make(&w, shape);
    for (uint32_t k = 0; k < ORDER_COUNT; k++) {
        random_query(&w, &q[k], &tag[k], buf[k]);
        if (shape->huge) /* half of the store, without what is in memory */
            q[k] = (struct trace_query){.tenant = STR("default"),
                                        .kind = -1,
                                        .start_max_ns = w.batch[w.n / 2]->head->min_ns};
        q[k].order = (enum query_order)k;
        q[k].limit = shape->traces + 1;
        list_all(&w, &q[k], &all[k]);
    }
    CHECK_OK(block_open(w.os, damaged_path, &b, NULL));
    uint64_t bits = tail_offset(w.os) * 8;
    for (uint32_t i = 0; i < flips || damaged <= flips / 10; i++) { /* not each is seen */
        CHECK(i < 100 * flips);
        uint64_t bit = 128 + test_rand() % (bits - 128);
        CHECK(sim_flip_bit(w.os, damaged_path, bit));
        world_reopen(&w);
        bool any = false;
        for (uint32_t k = 0; k < ORDER_COUNT; k++) {
            any |= check_damaged(&w, &q[k], &all[k], b);
            check_damaged_pages(&w, q[k], &all[k]);
        }
        CHECK(sim_flip_bit(w.os, damaged_path, bit));
        damaged += any;
    }
    CHECK(stat_get(STAT_BLOCKS_DAMAGED) - said >= damaged);
    block_unref(b);
    world_fini(&w);
}

TEST(search_goes_on_without_what_is_damaged)
{
    damage_and_search(
        &(struct shape){
            .batches = 48, .spans = 60, .traces = 150, .blocks = 6, .spread_ns = NS_PER_S},
        100);
}

TEST(search_lists_no_trace_twice_beside_damage)
{
    damage_and_search(&(struct shape){.batches = 48,
                                      .spans = 2000,
                                      .traces = 100,
                                      .blocks = 3,
                                      .huge = true,
                                      .spread_ns = NS_PER_S},
                      8);
}

/* The index is made anew from the row groups: nothing is missing, nothing is set aside. */
TEST(search_is_whole_beside_a_damaged_index)
{
    static struct list all[ORDER_COUNT];
    struct trace_query q = {.tenant = STR("default"), .kind = -1, .start_max_ns = UINT64_MAX};
    struct shape shape = {
        .batches = 24, .spans = 60, .traces = 150, .blocks = 6, .spread_ns = NS_PER_S};
    struct world w;
    struct block *b;
    int64_t aside = stat_get(STAT_BLOCKS_SET_ASIDE);
    world_make(&w, &shape);
    q.limit = shape.traces + 1;
    for (uint32_t k = 0; k < ORDER_COUNT; k++) {
        q.order = (enum query_order)k;
        list_all(&w, &q, &all[k]);
    }
    CHECK_OK(block_open(w.os, damaged_path, &b, NULL));
    uint64_t from = tail_offset(w.os) * 8, bits = block_meta(b)->trace_count * 64;
    for (uint32_t i = 0; i < 20; i++) {
        uint64_t bit = from + test_rand() % bits;
        CHECK(sim_flip_bit(w.os, damaged_path, bit));
        world_reopen(&w);
        for (uint32_t k = 0; k < ORDER_COUNT; k++) {
            q.order = (enum query_order)k;
            CHECK(!check_damaged(&w, &q, &all[k], b));
        }
        CHECK(sim_flip_bit(w.os, damaged_path, bit));
    }
    CHECK_INT(stat_get(STAT_BLOCKS_SET_ASIDE), aside);
    block_unref(b);
    world_fini(&w);
}

TEST(search_without_memory_names_the_flag)
{
    struct budget spent = {.max = 1};
    struct arena a = arena_init_within(&spent, MIB);
    struct trace_query q = {
        .tenant = STR("default"), .kind = -1, .start_max_ns = UINT64_MAX, .limit = 100};
    struct shape shape = {.batches = 4, .spans = 6, .traces = 5, .spread_ns = NS_PER_S};
    struct trace_hits hits;
    struct err e = {0};
    struct world w;
    world_make(&w, &shape);
    CHECK_INT(snap_search(w.snap, &q, &a, &hits, &e), E_NO_MEMORY);
    CHECK(strstr(err_msg(&e), "--max-memory"));
    CHECK(strstr(err_text(E_NO_MEMORY), "--max-memory")); /* for questions that say no more */
    arena_fini(&a);
    world_fini(&w);
}

TEST(search_cursor_as_text)
{
    char text[QUERY_CURSOR_TEXT];
    struct trace_hit at = {.value = 7, .newest_ns = UINT64_MAX, .trace_id = "sixteen bytes !"},
                     back;
    enum query_order o;
    CHECK_INT(query_cursor_put(text, ORDER_MOST_SPANS, &at), sizeof text);
    CHECK(query_cursor_get(str_of(text, sizeof text), &o, &back));
    CHECK(o == ORDER_MOST_SPANS && memcmp(&at, &back, sizeof at) == 0);
    CHECK(!query_cursor_get(str_of(text, sizeof text - 1), &o, &back));
    text[1] = '9'; /* no such order */
    CHECK(!query_cursor_get(str_of(text, sizeof text), &o, &back));
}

/* --- pages of one trace --- */

static void same_page(struct world *w, const uint8_t id[16], const struct trace *whole,
                      uint64_t offset, uint32_t limit)
{
    struct arena a = arena_init(GIB);
    struct trace *t;
    uint64_t total;
    CHECK_OK(snap_trace_page(w->snap, STR("default"), id, offset, limit, &a, &t, &total, NULL));
    uint64_t left = whole->span_count - (offset < whole->span_count ? offset : whole->span_count);
    CHECK(total == whole->span_count && t->span_count == (left < limit ? left : limit));
    for (uint32_t i = 0; i < t->span_count; i++) {
        const struct span *x = t->spans[i], *y = whole->spans[offset + i];
        CHECK(memcmp(x->span_id, y->span_id, 8) == 0 && memcmp(x->parent_id, y->parent_id, 8) == 0);
        CHECK(x->start_ns == y->start_ns && x->end_ns == y->end_ns && x->kind == y->kind);
        CHECK(str_eq(x->name, y->name) && str_eq(x->resource->service, y->resource->service));
        CHECK(x->attrs.n == 1 && str_eq(x->attrs.v[0].val.s, y->attrs.v[0].val.s));
    }
    arena_fini(&a);
}

static void check_trace_pages(const struct shape *shape)
{
    struct world w;
    struct arena a = arena_init(GIB);
    struct trace *whole;
    uint8_t id[16] = {1, [15] = 37};
    world_make(&w, shape);
    CHECK_OK(snap_trace(w.snap, STR("default"), id, &a, &whole, NULL));
    for (uint32_t at = 0; at < whole->span_count; at += whole->span_count / 3 + 1)
        same_page(&w, id, whole, at, whole->span_count / 3 + 1);
    for (int i = 0; i < 20; i++)
        same_page(&w, id, whole, roll(whole->span_count + 5), roll(500));
    arena_fini(&a);
    world_fini(&w);
}

TEST(trace_pages_are_the_whole_trace)
{
    check_trace_pages(&(struct shape){
        .batches = 40, .spans = 300, .traces = 5, .blocks = 6, .huge = true, .spread_ns = 1000000});
    check_trace_pages(&(struct shape){.batches = 80,
                                      .spans = 1500,
                                      .traces = 5,
                                      .blocks = 20,
                                      .huge = true,
                                      .merged = true,
                                      .spread_ns = 1000000});
}

/* --- the summary of a trace of any size --- */

static void same_service(const struct service_summary *x, const struct service_summary *y)
{
    CHECK_STR(x->name, y->name);
    CHECK_INT(x->span_count, y->span_count);
    CHECK_INT(x->error_count, y->error_count);
}

/* Listed are the most frequent; nobody is lost. */
static void same_services(const struct trace_summary *got, const struct trace_summary *all,
                          const struct summary_bounds *b)
{
    uint64_t spans = got->others.span_count, errors = got->others.error_count, least = UINT64_MAX;
    bool told_apart = all->service_count <= b->services_held;
    CHECK(got->service_count <= b->services_shown);
    for (uint32_t i = 0, k = 0; i < got->service_count; i++, k++) {
        while (!str_eq(all->services[k].name, got->services[i].name))
            k++; /* both are sorted */
        if (told_apart)
            same_service(&got->services[i], &all->services[k]);
        spans += got->services[i].span_count;
        errors += got->services[i].error_count;
        least = min_u64(least, got->services[i].span_count);
    }
    CHECK_INT(spans, all->span_count);
    CHECK_INT(errors, all->error_count);
    if (!told_apart) {
        CHECK(got->other_services == 0 && got->others.span_count);
        return;
    }
    CHECK_INT(got->service_count + got->other_services, all->service_count);
    uint32_t larger = 0;
    for (uint32_t i = 0; i < all->service_count; i++)
        larger += all->services[i].span_count > least;
    CHECK(larger < got->service_count);
}

static void same_summary(struct world *w, const uint8_t id[16], const struct trace_summary *all,
                         const struct summary_bounds *b)
{
    struct arena a = arena_init(64 * MIB);
    struct trace_summary got;
    CHECK_OK(summarize_stored(w->snap, STR("default"), id, b, &a, &got, NULL));
    CHECK(got.stored && memcmp(got.trace_id, id, 16) == 0);
    CHECK_INT(got.span_count, all->span_count);
    CHECK_INT(got.error_count, all->error_count);
    CHECK_INT(got.root_count, all->root_count);
    CHECK_INT(got.orphan_count, all->orphan_count);
    CHECK(got.min_start_ns == all->min_start_ns && got.max_end_ns == all->max_end_ns);
    CHECK_STR(got.root_service, all->root_service);
    CHECK_STR(got.root_operation, all->root_operation);
    same_services(&got, all, b);
    arena_fini(&a);
}

static void check_summaries(const struct shape *shape)
{
    /* One service more than is held; parents in one round, in some, and each in its own. */
    static const struct summary_bounds bounds[] = {{100, 100, 65536, 1},
                                                   {1, 100, 1000, 1000},
                                                   {2, 3, 100, 1000},
                                                   {2, 2, 65536, 1},
                                                   {3, 1, 7, 1000}};
    struct world w;
    world_make(&w, shape);
    for (uint32_t trace = 1; trace <= shape->traces && trace <= 5; trace++) {
        struct arena a = arena_init(GIB);
        struct trace_summary all;
        struct trace *whole;
        uint8_t id[16] = {(uint8_t)trace, [15] = (uint8_t)(trace * 37)};
        CHECK_OK(snap_trace(w.snap, STR("default"), id, &a, &whole, NULL));
        for (uint32_t i = 0; i < whole->span_count; i++)
            if (whole->spans[i]->end_ns < whole->spans[i]->start_ns)
                whole->spans[i]->end_ns = whole->spans[i]->start_ns + 1;
        CHECK_OK(summarize_trace(whole, &a, &all));
        CHECK(all.orphan_count && all.root_count > 1);
        for (size_t i = 0; i < ARRAY_LEN(bounds); i++)
            if (whole->span_count <= 100 * bounds[i].awaited) /* else many rounds */
                same_summary(&w, id, &all, &bounds[i]);
        arena_fini(&a);
    }
    world_fini(&w);
}

TEST(trace_summary_of_any_size_is_that_of_the_whole)
{
    static const struct shape shapes[] = {
        {.batches = 30, .spans = 40, .traces = 5, .spread_ns = 1000, .doubled = true},
        {.batches = 40, .spans = 100, .traces = 5, .blocks = 6, .huge = true, .spread_ns = 1000000},
        {.batches = 40,
         .spans = 300,
         .traces = 5,
         .blocks = 6,
         .huge = true,
         .doubled = true,
         .spread_ns = 1000},
        {.batches = 40,
         .spans = 1000,
         .traces = 5,
         .blocks = 8,
         .huge = true,
         .merged = true,
         .doubled = true,
         .spread_ns = 1000000}};
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        check_summaries(&shapes[i]);
}

TEST(trace_summary_of_no_trace_and_of_no_memory)
{
    struct world w;
    struct err e = {0};
    struct trace_summary s;
    struct arena a = arena_init(64 * MIB), small = arena_init(100 * KIB);
    uint8_t id[16] = {1, [15] = 37}, none[16] = {0xff};
    world_make(&w, &(struct shape){
                       .batches = 20, .spans = 50, .traces = 5, .blocks = 3, .spread_ns = 1000});
    CHECK_INT(summarize_stored(w.snap, STR("default"), none, &summary_bounds, &a, &s, &e),
              E_NOT_FOUND);
    CHECK_INT(summarize_stored(w.snap, STR("other"), id, &summary_bounds, &a, &s, &e), E_NOT_FOUND);
    CHECK_INT(summarize_stored(w.snap, STR("default"), id, &summary_bounds, &small, &s, &e),
              E_NO_MEMORY);
    arena_fini(&a);
    arena_fini(&small);
    world_fini(&w);
}

TEST(trace_summary_ends_its_search_for_parents)
{
    struct world w;
    struct trace_summary s;
    struct summary_bounds few = summary_bounds;
    struct arena a = arena_init(64 * MIB);
    uint8_t id[16] = {1, [15] = 37};
    world_make(&w, &(struct shape){
                       .batches = 40, .spans = 100, .traces = 5, .blocks = 6, .spread_ns = 1000});
    CHECK_OK(summarize_stored(w.snap, STR("default"), id, &few, &a, &s, NULL));
    CHECK(!s.orphans_unknown && s.orphan_count > 10);
    uint64_t spans = s.span_count;
    few.awaited = 2;
    few.rounds = 3;
    CHECK_OK(summarize_stored(w.snap, STR("default"), id, &few, &a, &s, NULL));
    CHECK(s.orphans_unknown && !s.orphan_count && s.span_count == spans);
    arena_fini(&a);
    world_fini(&w);
}

/* The same question, answered adjusted while there is memory, and as stored when there is not. */
TEST(trace_summary_falls_back_to_what_is_stored)
{
    static const struct adjust_config adjust = {0};
    struct world w;
    struct trace_summary s;
    uint8_t id[16] = {1, [15] = 37};
    struct budget small = {.max = 8 * MIB};
    struct arena a = arena_init(GIB), within = arena_init_within(&small, GIB);
    world_make(&w, &(struct shape){.batches = 40,
                                   .spans = 1000,
                                   .traces = 5,
                                   .blocks = 8,
                                   .huge = true,
                                   .merged = true,
                                   .spread_ns = 1000000});
    CHECK_OK(query_summary(w.snap, STR("default"), id, &adjust, &a, &s, NULL));
    CHECK(!s.stored);
    uint64_t spans = s.span_count;
    CHECK_OK(query_summary(w.snap, STR("default"), id, &adjust, &within, &s, NULL));
    CHECK(s.stored && s.span_count == spans);
    arena_fini(&a);
    arena_fini(&within);
    CHECK_INT(small.used, 0);
    world_fini(&w);
}
