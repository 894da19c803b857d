/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks against the two things they must agree with: every trace read back is what span_from_batch
 * makes of the input, and every search finds what match_span finds. */
#include "base/hash.h"
#include "base/os/sim.h"
#include "base/os/thread.h"
#include "store/trace/block.h"
#include "store/trace/block_format.h"
#include "store/trace/match.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>

#define BATCHES_MAX 64

/* What the random batches look like. */
struct world {
    uint32_t batches, spans, traces; /* spans: of a batch, at most */
    uint32_t attrs, keys, services;  /* attrs: of a span, at most */
    uint64_t time_spread;            /* 0: times are wild */
    bool events, wild_ids;
    bool plain; /* each key has values of one type; some are the names of fields */
};

struct made {
    struct batch *batch[BATCHES_MAX];
    size_t n;
    struct block *block;
    struct block_summary sum;
    struct arena a;
    char path[128];
    bool merged; /* traces may have several chains */
};

static uint32_t roll(uint32_t n)
{
    return (uint32_t)(test_rand() % n);
}

/* prefix, then v in decimal */
static struct str text(char *buf, const char *prefix, unsigned v)
{
    return str_of(buf, (size_t)sprintf(buf, "%s%u", prefix, v));
}

static struct str random_text(char *buf)
{
    static const char *const forms[] = {"v", "10.1.2.", "GET", "0000000", "/cart/item/"};
    switch (roll(8)) {
    case 0: {
        size_t n = roll(40);
        for (size_t i = 0; i < n; i++)
            buf[i] = (char)test_rand();
        return str_of(buf, n);
    }
    case 1:
        return str_of(buf, (size_t)sprintf(buf, "%08x-%04x-4444-8888-%012llx", roll(UINT32_MAX),
                                           roll(65536), (unsigned long long)test_rand() >> 16));
    default:
        return text(buf, forms[roll(ARRAY_LEN(forms))], roll(200));
    }
}

/* Values of one key resemble each other, except where they do not. */
static struct str value_of_key(char *buf, uint32_t key)
{
    switch (key % 6) {
    case 0:
        return random_text(buf);
    case 1:
        return str_of(buf, (size_t)sprintf(buf, "%016llx", (unsigned long long)test_rand()));
    case 2:
        return text(buf, "host-", roll(3));
    case 3:
        return str_of(buf, (size_t)sprintf(buf, "%u.%u.0.%u", roll(256), roll(256), roll(256)));
    case 4:
        return text(buf, "/orders/", roll(100000));
    default:
        return str_of(buf, (size_t)sprintf(buf, "%08x-%04x-4444-8888-%012llx", roll(UINT32_MAX),
                                           roll(65536), (unsigned long long)test_rand() >> 16));
    }
}

static uint64_t wild_u64(void)
{
    switch (roll(6)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return test_rand();
    default:
        return roll(1000);
    }
}

static void add_attrs(struct batch_builder *bb, const struct world *w, uint32_t most)
{
    static const char *const fields[] = {"event", "error", "resource.host.name", "span.kind"};
    char key[32], buf[128];
    uint32_t n = most ? roll(most + 1) : 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = roll(w->keys);
        struct str name = w->plain && k < ARRAY_LEN(fields) ? str_from_c(fields[k])
                                                            : text(key, "key.", k);
        enum attr_type type = k % 3 ? ATTR_STR : ATTR_INT;
        if (!w->plain && !roll(8))
            type = roll(ATTR_TYPE_COUNT);
        if (type == ATTR_ARRAY || type == ATTR_KVLIST)
            bb_attr_str(bb, name, type, STR_NONE);
        else if (type == ATTR_STR || type == ATTR_BYTES)
            bb_attr_str(bb, name, type, value_of_key(buf, k));
        else
            bb_attr_bits(bb, name, type, type == ATTR_BOOL ? roll(2) : wild_u64());
    }
}

static void random_id(const struct world *w, uint8_t *id, size_t n, uint32_t range)
{
    uint32_t v = 1 + roll(range);
    memset(id, 0, n);
    if (w->wild_ids)
        for (size_t i = 0; i < n; i++)
            id[i] = (uint8_t)test_rand();
    memcpy(id + n - 4, &v, 4);
}

static uint64_t random_time(const struct world *w)
{
    return w->time_spread ? UINT64_C(1790000000000000000) + test_rand() % w->time_spread
                          : wild_u64();
}

static void add_events(struct batch_builder *bb, const struct world *w)
{
    char buf[128];
    for (uint32_t n = roll(3); n; n--) {
        struct event_rec *e = bb_event(bb);
        e->time_ns = random_time(w);
        e->name = bb_string(bb, text(buf, "event-", roll(4)));
        e->dropped = roll(9) ? 0 : roll(100);
        add_attrs(bb, w, 3);
    }
    for (uint32_t n = roll(5) ? 0 : roll(3); n; n--) {
        struct link_rec *l = bb_link(bb);
        random_id(w, l->trace_id, 16, 50);
        random_id(w, l->span_id, 8, 50);
        l->trace_state = bb_string(bb, roll(2) ? STR("a=b") : STR_NONE);
        l->flags = roll(3);
        add_attrs(bb, w, 2);
    }
}

static void add_span(struct batch_builder *bb, const struct world *w)
{
    char buf[128];
    struct span_rec *s = bb_span(bb);
    uint32_t trace = 1 + roll(w->traces);
    memset(s->trace_id, 0x5a, 16);
    memcpy(s->trace_id, &trace, 4);
    random_id(w, s->span_id, 8, 400);
    if (roll(4))
        random_id(w, s->parent_id, 8, 500);
    bb_name(bb, s, text(buf, "op-", roll(7)));
    s->kind = (uint8_t)roll(KIND_COUNT);
    s->status = (uint8_t)(roll(4) ? 0 : roll(STATUS_COUNT));
    s->start_ns = random_time(w);
    s->end_ns = w->time_spread && roll(20) ? s->start_ns + roll(1000000) : random_time(w);
    s->flags = roll(20) ? 257 : roll(UINT32_MAX);
    s->dropped_attrs = roll(50) ? 0 : roll(9);
    s->dropped_events = roll(50) ? 0 : roll(9);
    s->dropped_links = roll(50) ? 0 : roll(9);
    if (!roll(10))
        s->trace_state = bb_string(bb, text(buf, "vendor=", roll(5)));
    if (s->status == STATUS_ERROR)
        s->status_message = bb_string(bb, text(buf, "went wrong ", roll(9)));
    add_attrs(bb, w, w->attrs);
    if (w->events)
        add_events(bb, w);
    CHECK(bb_span_end(bb));
}

static struct batch *random_batch(struct batch_builder *bb, const struct world *w)
{
    char buf[128];
    struct err e;
    struct batch *out;
    batch_builder_reset(bb);
    for (uint32_t groups = 1 + roll(3), n; groups; groups--) {
        struct group_rec *g = bb_group_begin(bb);
        g->res_dropped = roll(2);
        g->res_schema = bb_string(bb, roll(2) ? STR("https://schema/1") : STR_NONE);
        struct str service = text(buf, "svc-", roll(w->services));
        bool named = roll(9);
        if (named) {
            g->service = bb_string(bb, service);
            bb_attr_str(bb, STR("service.name"), ATTR_STR, service);
        }
        bb_attr_str(bb, STR("host.name"), ATTR_STR, text(buf, "host-", roll(4)));
        add_attrs(bb, w, 2);
        bb_group_scope(bb);
        g->scope_name = bb_string(bb, text(buf, "lib-", roll(2)));
        g->scope_version = bb_string(bb, roll(2) ? STR("1.0") : STR_NONE);
        add_attrs(bb, w, 1);
        bb_group_end(bb);
        for (n = 1 + roll(w->spans); n; n--)
            add_span(bb, w);
    }
    CHECK_OK(batch_seal(bb, STR("default"), 1, &out, &e));
    return out;
}

static void make(struct made *m, const struct world *w)
{
    struct batch_builder bb;
    batch_builder_init(&bb);
    for (m->n = 0; m->n < w->batches; m->n++)
        m->batch[m->n] = random_batch(&bb, w);
    batch_builder_fini(&bb);
}

static void build(struct made *m, struct block_builder *bb)
{
    struct err e = {0};
    snprintf(m->path, sizeof m->path, "%s/block", test_dir());
    m->a = arena_init(64 * MIB);
    enum errc code = block_build(bb, os_posix(), m->path, (const struct batch *const *)m->batch,
                                 m->n, &m->a, &m->sum, &e);
    if (code || (code = block_open(os_posix(), m->path, &m->block, &e)))
        test_fail(__FILE__, __LINE__, "%s", err_msg(&e));
}

static void unmake(struct made *m)
{
    block_unref(m->block);
    for (size_t i = 0; i < m->n; i++)
        batch_unref(m->batch[i]);
    arena_fini(&m->a);
}

/* --- what the input says --- */

static struct trace *all_spans(const struct made *m, struct arena *a)
{
    struct trace *t = ARENA_NEW(a, struct trace);
    for (size_t i = 0; i < m->n; i++) {
        const struct batch *b = m->batch[i];
        struct span_origin *o = ARENA_ARRAY(a, struct span_origin, b->head->group_count);
        for (uint32_t k = 0; k < b->head->span_count; k++) {
            struct span *s = span_from_batch(b, &b->spans[k], o, a);
            CHECK(s && trace_add(t, s, a));
        }
    }
    return t;
}

static struct trace *only(const struct trace *all, const uint8_t id[16], struct arena *a)
{
    struct trace *t = ARENA_NEW(a, struct trace);
    for (uint32_t i = 0; i < all->span_count; i++)
        if (!memcmp(all->spans[i]->trace_id, id, 16))
            CHECK(trace_add(t, all->spans[i], a));
    trace_sort(t);
    return t;
}

static void same_value(const struct value *a, const struct value *b)
{
    CHECK_INT(a->type, b->type);
    if (a->type == ATTR_BOOL)
        CHECK_INT(a->b, b->b);
    else if (a->type == ATTR_INT || a->type == ATTR_DOUBLE)
        CHECK(memcmp(&a->i, &b->i, 8) == 0);
    else if (a->type != ATTR_EMPTY)
        CHECK_STR(a->s, b->s);
}

static void same_kvs(const struct kvs *a, const struct kvs *b)
{
    CHECK_INT(a->n, b->n);
    for (uint32_t i = 0; i < a->n; i++) {
        CHECK_STR(a->v[i].key, b->v[i].key);
        same_value(&a->v[i].val, &b->v[i].val);
    }
}

static void same_origin(const struct span *a, const struct span *b)
{
    CHECK_STR(a->resource->service, b->resource->service);
    CHECK_STR(a->resource->schema_url, b->resource->schema_url);
    CHECK_INT(a->resource->dropped, b->resource->dropped);
    same_kvs(&a->resource->attrs, &b->resource->attrs);
    CHECK_STR(a->scope->name, b->scope->name);
    CHECK_STR(a->scope->version, b->scope->version);
    CHECK_STR(a->scope->schema_url, b->scope->schema_url);
    CHECK_INT(a->scope->dropped, b->scope->dropped);
    same_kvs(&a->scope->attrs, &b->scope->attrs);
}

static void same_span(const struct span *a, const struct span *b)
{
    CHECK(!memcmp(a->trace_id, b->trace_id, 16));
    CHECK(!memcmp(a->span_id, b->span_id, 8));
    CHECK(!memcmp(a->parent_id, b->parent_id, 8));
    CHECK(a->start_ns == b->start_ns && a->end_ns == b->end_ns);
    CHECK_STR(a->name, b->name);
    CHECK_STR(a->trace_state, b->trace_state);
    CHECK_STR(a->status_message, b->status_message);
    CHECK(a->kind == b->kind && a->status == b->status && a->flags == b->flags);
    CHECK(a->dropped_attrs == b->dropped_attrs && a->dropped_events == b->dropped_events &&
          a->dropped_links == b->dropped_links);
    same_origin(a, b);
    same_kvs(&a->attrs, &b->attrs);
    CHECK_INT(a->event_count, b->event_count);
    for (uint32_t i = 0; i < a->event_count; i++) {
        CHECK(a->events[i].time_ns == b->events[i].time_ns);
        CHECK_STR(a->events[i].name, b->events[i].name);
        CHECK_INT(a->events[i].dropped, b->events[i].dropped);
        same_kvs(&a->events[i].attrs, &b->events[i].attrs);
    }
    CHECK_INT(a->link_count, b->link_count);
    for (uint32_t i = 0; i < a->link_count; i++) {
        const struct link *x = &a->links[i], *y = &b->links[i];
        CHECK(!memcmp(x->trace_id, y->trace_id, 16) && !memcmp(x->span_id, y->span_id, 8));
        CHECK_STR(x->trace_state, y->trace_state);
        CHECK(x->dropped == y->dropped && x->flags == y->flags);
        same_kvs(&x->attrs, &y->attrs);
    }
}

static void same_trace(const struct trace *got, const struct trace *want)
{
    CHECK_INT(got->span_count, want->span_count);
    for (uint32_t i = 0; i < want->span_count; i++)
        same_span(got->spans[i], want->spans[i]);
}

/* --- traces --- */

struct listing {
    struct made *m;
    const struct trace *all;
    uint64_t traces, spans;
};

static bool check_trace(void *arg, const uint8_t id[16], uint64_t min_ns)
{
    struct listing *l = arg;
    struct arena a = arena_init(512 * MIB);
    struct trace got = {0}, *want = only(l->all, id, &a);
    struct err e = {0};
    CHECK(block_may_have(l->m->block, id));
    if (block_trace(l->m->block, id, &a, &got, &e))
        test_fail(__FILE__, __LINE__, "%s", err_msg(&e));
    CHECK(want->span_count && (l->m->merged || want->spans[0]->start_ns == min_ns));
    if (l->m->merged)
        trace_sort(&got);
    same_trace(&got, want);
    l->traces++;
    if (want->spans[0]->start_ns == min_ns) /* its first chain */
        l->spans += got.span_count;
    arena_fini(&a);
    return true;
}

static void check_all(struct made *m)
{
    struct arena a = arena_init(512 * MIB);
    struct listing l = {.m = m, .all = all_spans(m, &a)};
    struct err e = {0};
    if (block_each_trace(m->block, check_trace, &l, &e) || block_verify(m->block, &e))
        test_fail(__FILE__, __LINE__, "%s", err_msg(&e));
    CHECK_INT(l.spans, l.all->span_count);
    CHECK_INT(l.traces, block_meta(m->block)->trace_count);
    CHECK_INT(l.spans, block_meta(m->block)->span_count);
    CHECK(!memcmp(block_meta(m->block), &m->sum.meta, sizeof m->sum.meta));
    arena_fini(&a);
}

/* --- searches --- */

struct found {
    struct trace_hit hit[4096];
    uint32_t n;
};

static void found_add(struct found *f, enum query_order o, const struct trace_hit *hit)
{
    for (uint32_t i = 0; i < f->n; i++)
        if (!memcmp(f->hit[i].trace_id, hit->trace_id, 16)) {
            trace_hit_merge(o, &f->hit[i], hit);
            return;
        }
    CHECK(f->n < ARRAY_LEN(f->hit));
    f->hit[f->n++] = *hit;
}

/* What match_span says of every span, by the rules of docs/internals/search.md. */
static void search_spans(const struct trace *all, const struct trace_query *q, struct found *f)
{
    bool counts = order_counts(q->order);
    struct found matching = {.n = 0};
    f->n = 0;
    for (uint32_t i = 0; i < all->span_count; i++) {
        const struct span *s = all->spans[i];
        struct trace_hit hit = {.newest_ns = s->start_ns};
        memcpy(hit.trace_id, s->trace_id, 16);
        hit.value = q->order == ORDER_NEWEST       ? s->start_ns
                    : q->order == ORDER_SLOWEST    ? span_duration_ns(s)
                    : q->order == ORDER_MOST_SPANS ? 1
                                                   : s->status == STATUS_ERROR;
        bool yes = match_span(q, s);
        if (yes)
            found_add(&matching, q->order, &hit);
        if (yes || counts)
            found_add(f, q->order, &hit);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < f->n; i++)
        for (uint32_t k = 0; k < matching.n; k++)
            if (!memcmp(f->hit[i].trace_id, matching.hit[k].trace_id, 16))
                f->hit[kept++] = f->hit[i];
    f->n = kept;
}

/* All row groups; what is found is asked for by its id, too, which must agree. */
static enum errc search_block(struct block *b, const struct trace_query *q, uint64_t floor,
                              struct found *f, struct err *e)
{
    struct arena a = arena_init(64 * MIB);
    struct block_search *s;
    uint64_t bytes_read = 0;
    bool found;
    f->n = 0;
    enum errc code = block_search_open(b, q, &a, &bytes_read, &s, e);
    for (uint32_t i = 0; !code && s && i < block_group_count(b); i++) {
        struct block_hit *hits;
        uint32_t n;
        code = block_search_group(s, i, floor, &a, &hits, &n, e);
        for (uint32_t k = 0; !code && k < n; k++) {
            struct trace_hit all = hits[k].hit;
            if (order_counts(q->order))
                code = block_count_trace(b, q->order, all.trace_id, &bytes_read, &all, e);
            else
                code = block_search_trace(s, all.trace_id, &found, &all, e);
            if (code)
                break;
            CHECK(!hits[k].whole || !memcmp(&all, &hits[k].hit, sizeof all));
            bool known = false;
            for (uint32_t j = 0; j < f->n; j++)
                known |= !memcmp(f->hit[j].trace_id, all.trace_id, 16);
            if (!known)
                found_add(f, q->order, &all);
        }
    }
    arena_fini(&a);
    return code;
}

static int cmp_hit(const void *x, const void *y)
{
    return memcmp(x, y, sizeof(struct trace_hit));
}

static uint32_t check_search(struct made *m, const struct trace *all, const struct trace_query *q)
{
    static struct found got, want;
    struct err e = {0};
    search_spans(all, q, &want);
    if (search_block(m->block, q, 0, &got, &e))
        test_fail(__FILE__, __LINE__, "%s", err_msg(&e));
    CHECK_INT(got.n, want.n);
    qsort(got.hit, got.n, sizeof *got.hit, cmp_hit);
    qsort(want.hit, want.n, sizeof *want.hit, cmp_hit);
    CHECK(!memcmp(got.hit, want.hit, got.n * sizeof *got.hit));
    if (!got.n || order_counts(q->order))
        return got.n;
    /* What is worth the floor is found with it. */
    uint64_t floor = want.hit[roll(want.n)].value;
    if (search_block(m->block, q, floor, &got, &e))
        test_fail(__FILE__, __LINE__, "%s", err_msg(&e));
    for (uint32_t i = 0; i < want.n; i++) {
        bool there = want.hit[i].value < floor;
        for (uint32_t k = 0; k < got.n; k++)
            there |= !memcmp(&got.hit[k], &want.hit[i], sizeof want.hit[i]);
        CHECK(there);
    }
    return want.n;
}

static const struct kv *some_attr(const struct span *s, uint32_t which)
{
    const struct kvs *from[] = {&s->attrs, &s->resource->attrs, &s->scope->attrs,
                                s->event_count ? &s->events[0].attrs : &s->attrs,
                                s->link_count ? &s->links[0].attrs : &s->attrs};
    const struct kvs *kvs = from[which % ARRAY_LEN(from)];
    return kvs->n ? &kvs->v[roll(kvs->n)] : NULL;
}

/* A filter that some span has, or nearly. */
static void random_tag(const struct trace *all, struct tag_filter *f, struct arena *a)
{
    static const char *const fields[][2] = {{"error", "true"},
                                            {"span.kind", "server"},
                                            {"span.status", "ok"},
                                            {"otel.status_code", "ERROR"},
                                            {"event", "event-1"},
                                            {"otel.scope.name", "lib-1"},
                                            {"w3c.tracestate", "vendor=3"},
                                            {"scope.version", "1.0"},
                                            {"resource.host.name", "host-2"},
                                            {"otel.status_description", "went wrong 4"}};
    const struct span *s = all->spans[roll(all->span_count)];
    const struct kv *kv = some_attr(s, roll(5));
    *f = (struct tag_filter){.place = roll(3) ? TAG_ANY : roll(TAG_LINK + 1),
                             .op = roll(5) ? TAG_EQUALS : TAG_EXISTS};
    if (kv && roll(4)) {
        f->key = kv->key;
        f->value = roll(12) ? value_text(&kv->val, a) : STR("no such value");
    } else {
        uint32_t i = roll(ARRAY_LEN(fields));
        f->key = str_from_c(fields[i][0]);
        f->value = str_from_c(fields[i][1]);
    }
    if (!roll(20))
        f->key = STR("no.such.key");
}

static void random_query(const struct trace *all, struct trace_query *q, struct tag_filter *tags,
                         struct arena *a)
{
    const struct span *s = all->spans[roll(all->span_count)];
    *q = (struct trace_query){.kind = -1,
                              .start_max_ns = UINT64_MAX,
                              .tags = tags,
                              .limit = 20,
                              .order = roll(ORDER_COUNT)};
    if (!roll(4))
        q->statuses = 1 + roll(7);
    if (!roll(3))
        q->service = roll(9) ? s->resource->service : STR("nobody");
    if (!roll(3))
        q->operation = roll(9) ? s->name : STR("nothing");
    if (!roll(4))
        q->kind = (int)roll(KIND_COUNT);
    if (!roll(4))
        q->start_min_ns = s->start_ns;
    if (!roll(4))
        q->start_max_ns = s->start_ns + roll(1000);
    if (!roll(4))
        q->duration_min_ns = span_duration_ns(s);
    if (!roll(4))
        q->duration_max_ns = span_duration_ns(s) + roll(1000);
    for (q->tag_count = roll(4); q->tag_count > 2; q->tag_count--)
        ;
    for (uint32_t i = 0; i < q->tag_count; i++)
        random_tag(all, &tags[i], a);
}

static void check_searches(struct made *m, uint32_t count)
{
    struct arena a = arena_init(512 * MIB);
    struct trace *all = all_spans(m, &a);
    uint32_t hits = 0, asked = 0;
    /* Some must hit and some must not; twenty alone may be one-sided. */
    for (; asked < count || ((hits <= count / 20 || hits == asked) && asked < 50 * count);
         asked++) {
        struct trace_query q;
        struct tag_filter tags[4];
        random_query(all, &q, tags, &a);
        hits += check_search(m, all, &q) != 0;
    }
    CHECK(hits > count / 20 && hits < asked);
    arena_fini(&a);
}

static void check_world(const struct world *w, uint32_t searches)
{
    struct block_builder *bb = block_builder_new();
    struct made m = {0};
    make(&m, w);
    build(&m, bb);
    check_all(&m);
    if (searches)
        check_searches(&m, searches);
    unmake(&m);
    block_builder_free(bb);
}

TEST(ordinary_batches_read_back_and_are_found)
{
    for (int i = 0; i < 8; i++)
        check_world(&(struct world){.batches = 6,
                                    .spans = 60,
                                    .traces = 60,
                                    .attrs = 8,
                                    .keys = 14,
                                    .services = 4,
                                    .events = true,
                                    .wild_ids = i & 1,
                                    .plain = i & 2,
                                    .time_spread = 60 * NS_PER_S},
                    300);
}

TEST(wild_times_and_duplicate_ids_read_back_and_are_found)
{
    for (int i = 0; i < 8; i++)
        check_world(&(struct world){.batches = 4,
                                    .spans = 50,
                                    .traces = 10,
                                    .attrs = 4,
                                    .keys = 5,
                                    .services = 3,
                                    .events = true},
                    300);
}

TEST(thousands_of_keys_read_back)
{
    check_world(&(struct world){.batches = 4,
                                .spans = 30,
                                .traces = 9,
                                .attrs = 2000,
                                .keys = 5000,
                                .services = 3,
                                .time_spread = NS_PER_S},
                20);
}

TEST(one_span_a_trace_reads_back)
{
    check_world(&(struct world){.batches = 8,
                                .spans = 500,
                                .traces = UINT32_MAX - 1,
                                .attrs = 3,
                                .keys = 3,
                                .services = 2,
                                .time_spread = NS_PER_S},
                0);
}

TEST(one_huge_trace_over_several_row_groups_reads_back)
{
    check_world(&(struct world){.batches = 20,
                                .spans = 1000,
                                .traces = 1,
                                .attrs = 3,
                                .keys = 3,
                                .services = 2,
                                .wild_ids = true,
                                .events = true,
                                .time_spread = NS_PER_S},
                0);
}

TEST(several_row_groups_are_searched)
{
    check_world(&(struct world){.batches = 20,
                                .spans = 1000,
                                .traces = 600,
                                .attrs = 4,
                                .keys = 12,
                                .services = 5,
                                .wild_ids = true,
                                .events = true,
                                .time_spread = 60 * NS_PER_S},
                60);
}

TEST(a_block_of_one_span)
{
    check_world(&(struct world){.batches = 1,
                                .spans = 1,
                                .traces = 1,
                                .attrs = 0,
                                .keys = 1,
                                .services = 1,
                                .time_spread = 1},
                0);
}

/* One span with 10,000 attributes, among them values of a megabyte; others with none. */
TEST(a_span_with_too_much_of_everything_reads_back)
{
    struct batch_builder b;
    struct block_builder *bb = block_builder_new();
    struct made m = {.n = 1};
    struct buf big = buf_init(MIB);
    uint8_t id[16] = "too much of all";
    char key[32];
    batch_builder_init(&b);
    buf_add_zero(&big, MIB);
    CHECK(bb_group_begin(&b));
    bb_group_scope(&b);
    bb_group_end(&b);
    for (uint32_t n = 0; n < 3; n++) {
        struct span_rec *s = bb_span(&b);
        memcpy(s->trace_id, id, 16);
        s->span_id[7] = (uint8_t)(n + 1);
        s->end_ns = n ? 0 : UINT64_MAX;
        for (uint32_t i = 0; n == 1 && i < 10000; i++) {
            memset(big.p + roll(MIB - 8), (int)i, 8);
            bb_attr_str(&b, text(key, "k", i / 2), i % 3 ? ATTR_STR : ATTR_BYTES,
                        str_of(big.p, i % 1000 ? i % 50 : MIB));
        }
        CHECK(bb_span_end(&b));
    }
    CHECK_OK(batch_seal(&b, STR("default"), 1, &m.batch[0], NULL));
    build(&m, bb);
    check_all(&m);
    unmake(&m);
    batch_builder_fini(&b);
    buf_fini(&big);
    block_builder_free(bb);
}

struct together {
    struct made *m;
    const struct trace *all;
};

static void read_together(void *arg)
{
    struct together *t = arg;
    struct arena a = arena_init(64 * MIB);
    for (uint32_t i = 0; i < t->all->span_count; i += 7) {
        struct trace got = {0};
        const struct span *s = t->all->spans[i];
        struct found f = {0};
        struct trace_query q = {
            .kind = -1, .start_max_ns = UINT64_MAX, .service = s->resource->service};
        bool found;
        struct str service;
        CHECK_OK(block_trace(t->m->block, s->trace_id, &a, &got, NULL));
        same_trace(&got, only(t->all, s->trace_id, &a));
        CHECK_OK(search_block(t->m->block, &q, 0, &f, NULL));
        CHECK_OK(block_span_service(t->m->block, s->trace_id, s->span_id, &found, &service, NULL));
        CHECK(f.n && found);
        arena_reset(&a);
    }
    arena_fini(&a);
}

TEST(threads_read_one_block_together)
{
    struct block_builder *bb = block_builder_new();
    struct made m = {0};
    struct arena a = arena_init(64 * MIB);
    struct thread thread[4];
    make(&m, &(struct world){.batches = 4,
                             .spans = 50,
                             .traces = 30,
                             .attrs = 4,
                             .keys = 8,
                             .services = 3,
                             .events = true,
                             .time_spread = NS_PER_S});
    build(&m, bb);
    struct together t = {.m = &m, .all = all_spans(&m, &a)};
    for (size_t i = 0; i < ARRAY_LEN(thread); i++)
        thread_start(&thread[i], "reader", read_together, &t);
    for (size_t i = 0; i < ARRAY_LEN(thread); i++)
        thread_join(&thread[i]);
    unmake(&m);
    arena_fini(&a);
    block_builder_free(bb);
}

TEST(the_same_batches_give_the_same_bytes)
{
    struct world w = {.batches = 6,
                      .spans = 60,
                      .traces = 60,
                      .attrs = 8,
                      .keys = 14,
                      .services = 4,
                      .events = true,
                      .time_spread = NS_PER_S};
    struct block_builder *one = block_builder_new(), *two = block_builder_new();
    struct made m = {0}, other = {0};
    struct buf x = buf_init(16 * MIB), y = buf_init(16 * MIB);
    make(&other, &w);
    build(&other, one); /* the first builder has a past */
    make(&m, &w);
    build(&m, one);
    CHECK_OK(os_read_file(os_posix(), m.path, &x, NULL));
    block_unref(m.block);
    arena_fini(&m.a);
    build(&m, two);
    CHECK_OK(os_read_file(os_posix(), m.path, &y, NULL));
    CHECK(str_eq(buf_str(&x), buf_str(&y)));
    unmake(&m);
    unmake(&other);
    buf_fini(&x);
    buf_fini(&y);
    block_builder_free(one);
    block_builder_free(two);
}

/* --- damage --- */

/* A small world in memory, and what was said of it when it was whole. */
struct whole {
    struct os *os;
    struct made m;
    struct arena a;
    struct trace *all;
    uint64_t bytes;
};

static const struct world small_world = {.batches = 2,
                                         .spans = 3,
                                         .traces = 3,
                                         .attrs = 4,
                                         .keys = 6,
                                         .services = 2,
                                         .events = true,
                                         .time_spread = NS_PER_S};

static void whole_make(struct whole *w, struct world world)
{
    struct block_builder *bb = block_builder_new();
    *w = (struct whole){.os = os_mem_new(), .a = arena_init(64 * MIB)};
    w->m.a = arena_init(MIB);
    make(&w->m, &world);
    snprintf(w->m.path, sizeof w->m.path, "/block");
    CHECK_OK(block_build(bb, w->os, w->m.path, (const struct batch *const *)w->m.batch, w->m.n,
                         &w->m.a, &w->m.sum, NULL));
    w->bytes = w->m.sum.meta.file_bytes;
    w->all = all_spans(&w->m, &w->a);
    block_builder_free(bb);
}

static void whole_fini(struct whole *w)
{
    for (size_t i = 0; i < w->m.n; i++)
        batch_unref(w->m.batch[i]);
    arena_fini(&w->m.a);
    arena_fini(&w->a);
    os_sim_free(w->os);
}

static void only_corrupt(enum errc code, const struct err *e)
{
    if (code != E_CORRUPT || !strstr(e->msg, "/block"))
        test_fail(__FILE__, __LINE__, "%s: %s", err_name(code), err_msg(e));
}

/* Every trace and some searches: right, or E_CORRUPT. */
static void check_damaged(struct whole *w, struct block *b)
{
    struct arena a = arena_init(64 * MIB);
    struct err e;
    enum errc code;
    w->m.block = b;
    for (uint32_t i = 0; i < w->all->span_count; i++) {
        struct trace got = {0};
        const uint8_t *id = w->all->spans[i]->trace_id;
        if ((code = block_trace(b, id, &a, &got, &e)))
            only_corrupt(code, &e);
        else
            same_trace(&got, only(w->all, id, &a));
    }
    struct tag_filter tag = {.key = STR("key.1"), .value = STR("x")};
    const struct span *s = w->all->spans[0];
    if (s->attrs.n) {
        tag.key = s->attrs.v[0].key;
        tag.value = value_text(&s->attrs.v[0].val, &a);
    }
    static struct found got, want;
    struct trace_query q = {
        .kind = -1, .start_max_ns = UINT64_MAX, .tags = &tag, .tag_count = 1, .limit = 20};
    search_spans(w->all, &q, &want);
    if ((code = search_block(b, &q, 0, &got, &e)))
        only_corrupt(code, &e);
    else
        CHECK_INT(got.n, want.n);
    arena_fini(&a);
}

TEST(every_flipped_bit_is_noticed_or_harmless)
{
    struct whole w;
    whole_make(&w, small_world);
    for (uint64_t bit = 0; bit < w.bytes * 8; bit++) {
        struct block *b;
        struct err e = {0};
        CHECK(sim_flip_bit(w.os, w.m.path, bit));
        enum errc code = block_open(w.os, w.m.path, &b, &e);
        if (code) {
            only_corrupt(code, &e);
        } else {
            check_damaged(&w, b);
            only_corrupt(block_verify(b, &e), &e);
            block_unref(b);
        }
        CHECK(sim_flip_bit(w.os, w.m.path, bit));
    }
    whole_fini(&w);
}

/* Also in columns that are long enough to stand alone. */
TEST(verify_notices_every_flipped_bit)
{
    struct whole w;
    struct world more = small_world;
    more.batches = 20;
    more.spans = 20;
    more.traces = 100;
    whole_make(&w, more);
    for (uint64_t bit = 0; bit < w.bytes * 8; bit += 31) {
        struct block *b;
        struct err e = {0};
        CHECK(sim_flip_bit(w.os, w.m.path, bit));
        enum errc code = block_open(w.os, w.m.path, &b, &e);
        if (code == E_OK) {
            code = block_verify(b, &e);
            block_unref(b);
        }
        only_corrupt(code, &e);
        CHECK(sim_flip_bit(w.os, w.m.path, bit));
    }
    whole_fini(&w);
}

static void write_file(struct os *os, const char *path, struct str bytes)
{
    struct os_file *f;
    CHECK_OK(os_open(os, path, OS_WRITE | OS_FRESH, &f, NULL));
    CHECK_OK(os_pwrite(f, bytes, 0, NULL));
    os_close(f);
}

TEST(a_block_cut_short_does_not_open)
{
    struct whole w;
    struct buf bytes = buf_init(MIB);
    whole_make(&w, small_world);
    CHECK_OK(os_read_file(w.os, w.m.path, &bytes, NULL));
    for (size_t n = 0; n < bytes.n; n++) {
        struct block *b;
        struct err e = {0};
        write_file(w.os, "/short", str_of(bytes.p, n));
        CHECK_INT(block_open(w.os, "/short", &b, &e), E_CORRUPT);
    }
    buf_fini(&bytes);
    whole_fini(&w);
}

TEST(a_newer_block_is_refused_by_its_version)
{
    struct whole w;
    struct buf bytes = buf_init(MIB);
    struct block *b;
    struct block_trailer t;
    whole_make(&w, small_world);
    CHECK_OK(os_read_file(w.os, w.m.path, &bytes, NULL));
    char *at = bytes.p + bytes.n - sizeof t;
    memcpy(&t, at, sizeof t);
    t.version++;
    t.crc = crc32c(0, &t, offsetof(struct block_trailer, crc));
    memcpy(at, &t, sizeof t);
    write_file(w.os, "/newer", buf_str(&bytes));
    CHECK_INT(block_open(w.os, "/newer", &b, NULL), E_VERSION);
    CHECK_INT(block_open(w.os, "/none", &b, NULL), E_NOT_FOUND);
    buf_fini(&bytes);
    whole_fini(&w);
}

/* Every call to the world fails once: an error comes back and the next try works. */
TEST(failing_calls_are_answered)
{
    struct whole w;
    struct os *os = os_sim_new(7);
    struct block_builder *bb = block_builder_new();
    whole_make(&w, small_world);
    for (uint64_t k = 1, ok = 0; !ok; k++) {
        struct arena a = arena_init(64 * MIB);
        struct block_summary sum;
        struct block *b = NULL;
        struct trace got = {0};
        const uint8_t *id = w.all->spans[0]->trace_id;
        CHECK(k < 1000);
        sim_fail_after(os, k, E_IO, false);
        enum errc code = block_build(bb, os, "/b", (const struct batch *const *)w.m.batch, w.m.n,
                                     &a, &sum, NULL);
        code = code ? code : block_open(os, "/b", &b, NULL);
        code = code ? code : block_trace(b, id, &a, &got, NULL);
        code = code ? code : block_verify(b, NULL);
        CHECK(code == E_OK || code == E_IO);
        if (!code)
            same_trace(&got, only(w.all, id, &a));
        ok = code == E_OK;
        sim_fail_after(os, 0, E_OK, false);
        block_unref(b);
        arena_fini(&a);
    }
    block_builder_free(bb);
    os_sim_free(os);
    whole_fini(&w);
}

/* --- what the build learns --- */

TEST(the_summary_counts_what_is_there)
{
    struct world w = {.batches = 6,
                      .spans = 60,
                      .traces = 20,
                      .attrs = 2,
                      .keys = 4,
                      .services = 4,
                      .wild_ids = false,
                      .time_spread = 200 * NS_PER_S};
    struct block_builder *bb = block_builder_new();
    struct made m = {0};
    struct arena a = arena_init(64 * MIB);
    make(&m, &w);
    build(&m, bb);
    struct trace *all = all_spans(&m, &a);
    uint64_t spans = 0, errors = 0, calls = 0, want_errors = 0, children = 0;
    for (size_t i = 0; i < m.sum.op_count; i++) {
        const struct block_op *op = &m.sum.ops[i];
        uint64_t count = 0, last = 0;
        for (uint32_t k = 0; k < all->span_count; k++) {
            const struct span *s = all->spans[k];
            if (!str_eq(s->name, op->name) || !str_eq(s->resource->service, op->service) ||
                s->kind != op->kind)
                continue;
            count++;
            last = s->start_ns > last ? s->start_ns : last;
        }
        CHECK_INT(count, op->span_count);
        CHECK_INT(last, op->last_seen_ns);
        spans += op->span_count;
        errors += op->error_count;
    }
    for (uint32_t k = 0; k < all->span_count; k++) {
        want_errors += all->spans[k]->status == STATUS_ERROR;
        children += span_has_parent(all->spans[k]);
    }
    for (size_t i = 0; i < m.sum.edge_count; i++)
        calls += m.sum.edges[i].calls;
    CHECK_INT(spans, all->span_count);
    CHECK_INT(errors, want_errors);
    CHECK_INT(calls + m.sum.orphan_count, children);
    CHECK(m.sum.orphan_count && calls);
    for (size_t i = 0; i < m.sum.orphan_count; i++)
        for (uint32_t k = 0; k < all->span_count; k++)
            CHECK(memcmp(m.sum.orphans[i].trace_id, all->spans[k]->trace_id, 16) ||
                  memcmp(m.sum.orphans[i].parent_id, all->spans[k]->span_id, 8));
    for (uint32_t k = 0; k < all->span_count; k++) {
        bool found;
        struct str service;
        const struct span *s = all->spans[k];
        CHECK_OK(block_span_service(m.block, s->trace_id, s->span_id, &found, &service, NULL));
        CHECK(found);
    }
    bool found;
    struct str service;
    CHECK_OK(block_span_service(m.block, all->spans[0]->trace_id, (const uint8_t *)"nobody!",
                                &found, &service, NULL));
    CHECK(!found);
    unmake(&m);
    arena_fini(&a);
    block_builder_free(bb);
}

struct cost_sum {
    uint64_t columns, spans;
    double shares;
};

static void sum_cost(void *arg, enum cost_kind kind, struct str name, enum attr_type type,
                     uint64_t bytes)
{
    struct cost_sum *sum = arg;
    CHECK(kind <= COST_INDEX && name.p && type < ATTR_TYPE_COUNT);
    sum->columns += bytes;
}

static void sum_shares(void *arg, struct str service, struct str name, uint64_t spans, double bytes)
{
    struct cost_sum *sum = arg;
    CHECK(service.p && name.p && spans && bytes > 0);
    sum->spans += spans;
    sum->shares += bytes;
}

TEST(the_costs_add_up_to_the_file)
{
    struct world w = {.batches = 6,
                      .spans = 200,
                      .traces = 60,
                      .attrs = 8,
                      .keys = 14,
                      .services = 4,
                      .events = true,
                      .time_spread = NS_PER_S};
    struct block_builder *bb = block_builder_new();
    struct made m = {0};
    struct cost_sum sum = {0};
    make(&m, &w);
    build(&m, bb);
    block_builder_trim(bb);
    CHECK_OK(block_cost(m.block, sum_cost, sum_shares, &sum, NULL));
    CHECK_INT(sum.columns, m.sum.meta.file_bytes);
    CHECK_INT(sum.shares + 0.5, m.sum.meta.file_bytes);
    CHECK_INT(sum.spans, m.sum.meta.span_count);
    unmake(&m);
    block_builder_free(bb);
}

/* --- merging --- */

static enum errc merge_to(struct os *os, const char *path, struct block_builder *bb,
                          struct block *const *in, size_t n, const struct merge_change *change,
                          struct block_meta *meta, struct err *e)
{
    struct block_merge *merge;
    struct err step[2] = {{0}}; /* by turns: a step may not write to the one before it */
    bool done = false;
    enum errc code = block_merge_begin(&merge, bb, os, path, in, n, change, e);
    if (code)
        return code;
    for (unsigned i = 0; !code && !done; i = !i) {
        code = block_merge_step(merge, &done, meta, &step[i]);
        CHECK(step[!i].code == E_OK);
        if (code && e)
            *e = step[i];
    }
    block_merge_free(merge);
    return code;
}

/* As build(), but by way of `inputs` blocks that have a share of the batches each. */
static void build_merged(struct made *m, struct block_builder *bb, size_t inputs,
                         const struct merge_change *change)
{
    struct block *in[8];
    struct err e = {0};
    CHECK(inputs <= ARRAY_LEN(in));
    m->a = arena_init(64 * MIB);
    m->merged = true;
    for (size_t i = 0; i < inputs; i++) {
        const struct batch *share[BATCHES_MAX];
        char path[160];
        size_t n = 0;
        for (size_t k = i; k < m->n; k += inputs)
            share[n++] = m->batch[k];
        snprintf(path, sizeof path, "%s/input%zu", test_dir(), i);
        CHECK_OK(block_build(bb, os_posix(), path, share, n, &m->a, &m->sum, &e));
        CHECK_OK(block_open(os_posix(), path, &in[i], &e));
    }
    snprintf(m->path, sizeof m->path, "%s/merged", test_dir());
    if (merge_to(os_posix(), m->path, bb, in, inputs, change, &m->sum.meta, &e))
        test_fail(__FILE__, __LINE__, "%s", err_msg(&e));
    for (size_t i = 0; i < inputs; i++)
        block_unref(in[i]);
    CHECK_OK(block_open(os_posix(), m->path, &m->block, &e));
}

static void check_merge(const struct world *w, size_t inputs, uint32_t searches)
{
    struct block_builder *bb = block_builder_new();
    struct made m = {0};
    make(&m, w);
    build_merged(&m, bb, inputs, NULL);
    check_all(&m);
    if (searches)
        check_searches(&m, searches);
    unmake(&m);
    block_builder_free(bb);
}

TEST(merged_blocks_read_back_and_are_found)
{
    for (size_t i = 1; i <= 6; i++)
        check_merge(&(struct world){.batches = 12,
                                    .spans = 60,
                                    .traces = 60,
                                    .attrs = 8,
                                    .keys = 14,
                                    .services = 4,
                                    .events = true,
                                    .wild_ids = i & 1,
                                    .time_spread = 60 * NS_PER_S},
                    i, 200);
}

/* Row groups that are copied: no trace is in two of them. */
TEST(merging_takes_row_groups_over)
{
    check_merge(&(struct world){.batches = 60,
                                .spans = 400,
                                .traces = UINT32_MAX - 1,
                                .attrs = 3,
                                .keys = 40,
                                .services = 3,
                                .events = true,
                                .wild_ids = true,
                                .time_spread = NS_PER_S},
                3, 0);
}

/* Some of each: many traces of few spans in several row groups, part of them in two inputs. */
TEST(merging_joins_traces_across_row_groups)
{
    check_merge(&(struct world){.batches = 40,
                                .spans = 600,
                                .traces = 3000,
                                .attrs = 4,
                                .keys = 12,
                                .services = 5,
                                .events = true,
                                .time_spread = 60 * NS_PER_S},
                2, 10);
}

TEST(a_huge_trace_keeps_its_chains_in_a_merge)
{
    check_merge(&(struct world){.batches = 30,
                                .spans = 1000,
                                .traces = 2,
                                .attrs = 3,
                                .keys = 3,
                                .services = 2,
                                .events = true,
                                .wild_ids = true,
                                .time_spread = NS_PER_S},
                3, 10);
}

/* A merge of damaged inputs ends with E_CORRUPT, or the damage was in nothing it needs. */
TEST(a_merge_notices_every_flipped_bit)
{
    struct whole w;
    struct block_builder *bb = block_builder_new();
    whole_make(&w, small_world);
    for (uint64_t bit = 0; bit < w.bytes * 8; bit += 1 + roll(5)) {
        struct block *b = NULL, *merged = NULL;
        struct block_meta meta;
        struct err e = {0};
        CHECK(sim_flip_bit(w.os, w.m.path, bit));
        enum errc code = block_open(w.os, w.m.path, &b, &e);
        code = code ? code : merge_to(w.os, "/merged", bb, &b, 1, NULL, &meta, &e);
        if (code) {
            only_corrupt(code, &e);
        } else {
            CHECK_OK(block_open(w.os, "/merged", &merged, &e));
            CHECK_OK(block_verify(merged, &e));
            check_damaged(&w, merged);
            block_unref(merged);
        }
        block_unref(b);
        CHECK(sim_flip_bit(w.os, w.m.path, bit));
    }
    block_builder_free(bb);
    whole_fini(&w);
}

TEST(failing_calls_of_a_merge_are_answered)
{
    struct whole w;
    struct block_builder *bb = block_builder_new();
    struct block *b, *merged;
    struct block_meta meta;
    whole_make(&w, small_world);
    CHECK_OK(block_open(w.os, w.m.path, &b, NULL));
    enum errc code = E_IO;
    for (uint64_t k = 1; code; k++) {
        CHECK(k < 1000);
        sim_fail_after(w.os, k, E_IO, false);
        code = merge_to(w.os, "/merged", bb, &b, 1, NULL, &meta, NULL);
        sim_fail_after(w.os, 0, E_OK, false);
        CHECK(code == E_OK || code == E_IO);
        CHECK(code == E_OK || k < 1000);
    }
    CHECK_OK(block_open(w.os, "/merged", &merged, NULL));
    CHECK_OK(block_verify(merged, NULL));
    check_damaged(&w, merged);
    block_unref(merged);
    block_unref(b);
    block_builder_free(bb);
    whole_fini(&w);
}

TEST(the_same_merge_gives_the_same_bytes)
{
    struct world w = {.batches = 12,
                      .spans = 60,
                      .traces = 60,
                      .attrs = 8,
                      .keys = 14,
                      .services = 4,
                      .events = true,
                      .time_spread = NS_PER_S};
    struct block_builder *one = block_builder_new(), *two = block_builder_new();
    struct made m = {0}, other = {0};
    struct buf x = buf_init(16 * MIB), y = buf_init(16 * MIB);
    make(&other, &w);
    build_merged(&other, one, 2, NULL); /* the first builder has a past */
    make(&m, &w);
    build_merged(&m, one, 3, NULL);
    CHECK_OK(os_read_file(os_posix(), m.path, &x, NULL));
    block_unref(m.block);
    arena_fini(&m.a);
    build_merged(&m, two, 3, NULL);
    CHECK_OK(os_read_file(os_posix(), m.path, &y, NULL));
    CHECK(str_eq(buf_str(&x), buf_str(&y)));
    unmake(&m);
    unmake(&other);
    buf_fini(&x);
    buf_fini(&y);
    block_builder_free(one);
    block_builder_free(two);
}

/* Keeps every other trace and takes the value of key.2 away. */
static bool keep_even(void *arg, const struct trace *t)
{
    (void)arg;
    for (uint32_t i = 0; i < t->span_count; i++)
        CHECK(!memcmp(t->spans[i]->trace_id, t->id, 16));
    return t->id[0] % 2 == 0;
}

static void blank_key(void *arg, struct span *s, struct arena *a)
{
    (void)a;
    for (uint32_t i = 0; i < s->attrs.n; i++)
        if (str_eq_c(s->attrs.v[i].key, "key.2")) {
            s->attrs.v[i].val = (struct value){.type = ATTR_STR, .s = STR("gone")};
            ++*(uint32_t *)arg;
        }
}

TEST(a_merge_can_drop_traces_and_change_spans)
{
    struct world w = {.batches = 9,
                      .spans = 60,
                      .traces = 60,
                      .attrs = 8,
                      .keys = 6,
                      .services = 4,
                      .time_spread = NS_PER_S};
    struct block_builder *bb = block_builder_new();
    struct made m = {0};
    struct arena a = arena_init(512 * MIB);
    struct err e = {0};
    uint32_t changed = 0, want = 0, spans = 0;
    make(&m, &w);
    struct merge_change change = {.keep = keep_even, .edit = blank_key, .arg = &changed};
    build_merged(&m, bb, 3, &change);
    struct trace *all = all_spans(&m, &a);
    for (uint32_t i = 0; i < all->span_count; i++) {
        struct span *s = all->spans[i];
        if (s->trace_id[0] % 2)
            continue;
        blank_key(&want, s, &a);
        spans++;
    }
    CHECK(want && want == changed);
    CHECK_INT(block_meta(m.block)->span_count, spans);
    CHECK_OK(block_verify(m.block, &e));
    for (uint32_t id = 1; id <= 60; id++) {
        uint8_t trace_id[16];
        struct trace got = {0};
        memset(trace_id, 0x5a, 16);
        memcpy(trace_id, &id, 4);
        CHECK_OK(block_trace(m.block, trace_id, &a, &got, &e));
        if (id % 2)
            CHECK_INT(got.span_count, 0);
        else
            same_trace(&got, only(all, trace_id, &a));
    }
    arena_fini(&a);
    unmake(&m);
    block_builder_free(bb);
}

/* The same where row groups are taken over undecoded: their checksums are what stands in the way.
 */
TEST(a_merge_notices_damage_in_what_it_takes_over)
{
    struct world w = {.batches = 20,
                      .spans = 400,
                      .traces = UINT32_MAX - 1,
                      .attrs = 3,
                      .keys = 9,
                      .services = 2,
                      .time_spread = NS_PER_S};
    struct block_builder *bb = block_builder_new();
    struct os *os = os_sim_new(3);
    struct made m = {0};
    struct arena a = arena_init(64 * MIB);
    struct block_summary sum;
    unsigned corrupt = 0;
    make(&m, &w);
    CHECK_OK(
        block_build(bb, os, "/block", (const struct batch *const *)m.batch, m.n, &a, &sum, NULL));
    CHECK(sum.meta.span_count > 4096);
    for (unsigned i = 0; i < 200; i++) {
        struct block *b = NULL, *merged;
        struct block_meta meta;
        struct err e = {0};
        uint64_t bit = test_rand() % (sum.meta.file_bytes * 8);
        CHECK(sim_flip_bit(os, "/block", bit));
        enum errc code = block_open(os, "/block", &b, &e);
        code = code ? code : merge_to(os, "/merged", bb, &b, 1, NULL, &meta, &e);
        if (code) {
            only_corrupt(code, &e);
            corrupt++;
        } else {
            CHECK_OK(block_open(os, "/merged", &merged, &e));
            CHECK_OK(block_verify(merged, &e));
            CHECK_INT(block_meta(merged)->span_count, sum.meta.span_count);
            block_unref(merged);
        }
        block_unref(b);
        CHECK(sim_flip_bit(os, "/block", bit));
    }
    CHECK(corrupt > 150);
    for (size_t i = 0; i < m.n; i++)
        batch_unref(m.batch[i]);
    arena_fini(&a);
    os_sim_free(os);
    block_builder_free(bb);
}

/* --- merging: rows whose columns are read from several row groups --- */

static struct str random_print(char *buf, size_t n)
{
    for (size_t k = 0; k < n; k++)
        buf[k] = (char)('!' + roll(94));
    return str_of(buf, n);
}

/* n spans of traces first, first + step … whose only attribute is a text of `len` characters, of
 * which `random` are; they start in the order of the traces. */
static void add_long_texts(struct batch_builder *bb, uint32_t first, uint32_t step, uint32_t n,
                           struct str key, size_t len, size_t random)
{
    char *text = malloc(len + 1);
    CHECK(text);
    memset(text, '.', len);
    for (uint32_t i = first, end = first + n * step; i != end; i += step) {
        struct span_rec *s = bb_span(bb);
        uint64_t trace = i + UINT64_C(1), span = test_rand() | 1;
        memcpy(s->trace_id, &trace, 8);
        memcpy(s->span_id, &span, 8);
        bb_name(bb, s, STR("op"));
        s->start_ns = s->end_ns = NS_PER_S + i;
        (void)random_print(text, random);
        bb_attr_str(bb, key, ATTR_STR, str_of(text, len));
        CHECK(bb_span_end(bb));
    }
    free(text);
}

static void add_texts(struct batch_builder *bb, uint32_t first, uint32_t step, uint32_t n,
                      struct str key, size_t len)
{
    add_long_texts(bb, first, step, n, key, len, len);
}

static struct block *texts_block(struct block_builder *bb, struct os *os, const char *path,
                                 struct batch_builder *batch)
{
    struct arena a = arena_init(MIB);
    struct block_summary sum;
    struct block *b;
    struct batch *sealed;
    struct err e = {0};
    CHECK_OK(batch_seal(batch, STR("default"), 1, &sealed, &e));
    CHECK_OK(block_build(bb, os, path, (const struct batch *const *)&sealed, 1, &a, &sum, &e));
    CHECK_OK(block_open(os, path, &b, &e));
    batch_unref(sealed);
    arena_fini(&a);
    return b;
}

static void texts_begin(struct batch_builder *batch)
{
    batch_builder_reset(batch);
    (void)bb_group_begin(batch);
    bb_group_scope(batch);
    bb_group_end(batch);
}

/* Attributes that only later runs of a merge write: the step that opens their row group tells of
 * their damage. */
TEST(a_merge_tells_of_damage_in_the_step_that_finds_it)
{
    enum { TRACES = 6000, LATE = 5500 };
    struct os *os = os_sim_new(3);
    struct block_builder *bb = block_builder_new();
    struct batch_builder batch;
    struct block *in[2];
    unsigned found = 0;
    batch_builder_init(&batch);
    for (uint32_t i = 0; i < 2; i++) {
        texts_begin(&batch);
        add_texts(&batch, 0, 1, LATE, STR("early"), 1);
        add_texts(&batch, LATE, 1, TRACES - LATE, STR("late"), 1000);
        in[i] = texts_block(bb, os, i ? "/two" : "/one", &batch);
    }
    uint64_t bits = block_meta(in[0])->file_bytes * 8;
    for (uint64_t bit = bits / 16; bit < bits; bit += bits / 16) {
        struct block_meta meta;
        struct err e = {0};
        CHECK(sim_flip_bit(os, "/one", bit));
        enum errc code = merge_to(os, "/merged", bb, in, 2, NULL, &meta, &e);
        CHECK(sim_flip_bit(os, "/one", bit));
        CHECK(code == E_OK || code == E_CORRUPT);
        found += code && strstr(err_msg(&e), "an attribute column is damaged");
    }
    CHECK(found > 8);
    block_unref(in[0]);
    block_unref(in[1]);
    batch_builder_fini(&batch);
    block_builder_free(bb);
    os_sim_free(os);
}

/* One trace that lies in all of six row groups of 25 MB, and others that lie in them by turns: the
 * six are not all open at a time, each is read once, and nothing is lost. */
static void join_large(struct str key, size_t len)
{
    enum { INPUTS = 6, SPANS = 400 };
    struct block_builder *bb = block_builder_new();
    struct batch_builder batch;
    struct block *in[INPUTS], *merged;
    struct block_meta meta;
    struct arena a = arena_init(64 * MIB);
    struct trace got = {.id = {1}};
    struct err e = {0};
    uint64_t bytes = 0;
    char path[160];
    batch_builder_init(&batch);
    for (uint32_t i = 0; i < INPUTS; i++) {
        texts_begin(&batch);
        add_texts(&batch, 0, 1, 1, key, len); /* the trace of all inputs */
        add_texts(&batch, 1 + i, INPUTS, SPANS, STR("text"), 64 * KIB);
        snprintf(path, sizeof path, "%s/input%u", test_dir(), i);
        in[i] = texts_block(bb, os_posix(), path, &batch);
        bytes += block_meta(in[i])->file_bytes;
    }
    snprintf(path, sizeof path, "%s/merged", test_dir());
    struct os_io before = os_thread_io();
    CHECK_OK(merge_to(os_posix(), path, bb, in, INPUTS, NULL, &meta, &e));
    CHECK(os_thread_io().read_bytes - before.read_bytes < bytes + bytes / 10);
    CHECK_INT(meta.span_count, INPUTS * (SPANS + 1));
    uint64_t chains = meta.trace_count - INPUTS * SPANS;
    CHECK(chains > 1 && chains < INPUTS);
    CHECK_OK(block_open(os_posix(), path, &merged, &e));
    CHECK(block_group_count(merged) <= 2 * INPUTS);
    CHECK_OK(block_verify(merged, &e));
    CHECK_OK(block_trace(merged, got.id, &a, &got, &e));
    CHECK_INT(got.span_count, INPUTS);
    for (uint32_t i = 0; i < INPUTS; i++)
        block_unref(in[i]);
    block_unref(merged);
    arena_fini(&a);
    batch_builder_fini(&batch);
    block_builder_free(bb);
}

TEST(a_merge_joins_what_may_be_open_at_a_time)
{
    join_large(STR("text"), 64 * KIB);
    join_large(STR("other"), 1); /* which does not tell how large its row group is */
}

static bool keep(void *arg, const struct trace *t)
{
    return *(bool *)arg && t->span_count > 0;
}

/* A row group's worth of spans is more than a run may hold decoded: redaction and rules write them
 * in several. */
TEST(a_merge_that_changes_takes_large_spans_by_their_size)
{
    enum { INPUTS = 8, SPANS = 960 };
    struct os *os = os_sim_new(3);
    struct block_builder *bb = block_builder_new();
    struct batch_builder batch;
    struct block *in[INPUTS], *merged;
    struct block_meta meta;
    struct err e = {0};
    char path[32];
    batch_builder_init(&batch);
    for (uint32_t i = 0; i < INPUTS; i++) {
        texts_begin(&batch);
        add_long_texts(&batch, i * SPANS, 1, SPANS, STR("prompt"), 70000, 16);
        snprintf(path, sizeof path, "/input%u", i);
        in[i] = texts_block(bb, os, path, &batch);
    }
    CHECK_OK(merge_to(os, "/one", bb, in, INPUTS, NULL, &meta, &e));
    CHECK_OK(block_open(os, "/one", &merged, &e));
    CHECK(block_group_count(merged) > 10);
    for (unsigned i = 0; i < 2; i++) {
        bool all = i;
        struct merge_change change = {.keep = keep, .arg = &all};
        CHECK_OK(merge_to(os, "/changed", bb, &merged, 1, &change, &meta, &e));
        CHECK_INT(meta.span_count, all ? INPUTS * SPANS : 0);
    }
    for (uint32_t i = 0; i < INPUTS; i++)
        block_unref(in[i]);
    block_unref(merged);
    batch_builder_fini(&batch);
    block_builder_free(bb);
    os_sim_free(os);
}

/* Chains of one trace that stand behind one another are not one chain: an index that is made anew
 * has both. */
TEST(a_damaged_index_of_neighbouring_chains_is_made_anew)
{
    enum { SPANS = 5000 };
    struct os *os = os_sim_new(3);
    struct block_builder *bb = block_builder_new();
    struct batch_builder batch;
    struct block *in[2], *merged;
    struct block_meta meta;
    struct arena a = arena_init(64 * MIB);
    struct trace got = {.id = {1}};
    struct buf file = buf_init(16 * MIB);
    struct block_trailer end;
    struct err e = {0};
    batch_builder_init(&batch);
    for (uint32_t i = 0; i < 2; i++) {
        texts_begin(&batch);
        for (uint32_t k = 0; k < SPANS; k++)
            add_texts(&batch, 0, 1, 1, STR("text"), 1);
        in[i] = texts_block(bb, os, i ? "/two" : "/one", &batch);
    }
    CHECK_OK(merge_to(os, "/merged", bb, in, 2, NULL, &meta, &e));
    CHECK_INT(meta.trace_count, 2);
    CHECK_OK(os_read_file(os, "/merged", &file, &e));
    memcpy(&end, file.p + file.n - sizeof end, sizeof end);
    CHECK(sim_flip_bit(os, "/merged", end.tail_off * 8 + 5)); /* fingerprints stand first */
    CHECK_INT(block_open(os, "/merged", &merged, &e), E_CORRUPT);
    CHECK_OK(block_open_mended(os, "/merged", &merged, &e));
    CHECK_INT(block_group_count(merged), 2);
    CHECK_OK(block_trace(merged, got.id, &a, &got, &e));
    CHECK_INT(got.span_count, 2 * SPANS);
    block_unref(merged);
    buf_fini(&file);
    block_unref(in[0]);
    block_unref(in[1]);
    arena_fini(&a);
    batch_builder_fini(&batch);
    block_builder_free(bb);
    os_sim_free(os);
}

/* What a question decodes of a trace is forgotten between row groups, and the answer is of all of
 * them, in both chains. */
TEST(questions_of_one_trace_go_through_all_its_row_groups)
{
    enum { HALF = 200000, LAST = 2 * HALF - 1, ERRORS = 7 };
    struct os *os = os_sim_new(3);
    struct block_builder *bb = block_builder_new();
    struct batch_builder batch;
    struct block *in[2], *b;
    struct block_meta meta;
    struct arena a = arena_init(64 * MIB);
    struct trace_query q = {
        .tenant = STR("default"), .kind = -1, .start_max_ns = UINT64_MAX, .order = ORDER_SLOWEST};
    struct trace_hit hit;
    struct block_search *search;
    struct err e = {0};
    const uint8_t id[16] = {1};
    uint64_t bytes_read = 0;
    bool found;
    batch_builder_init(&batch);
    for (uint32_t i = 0; i <= LAST; i++) {
        if (i % HALF == 0)
            texts_begin(&batch);
        struct span_rec *s = bb_span(&batch);
        s->trace_id[0] = 1;
        store_u64be(s->span_id, hash_u64(i + UINT64_C(1), 1));
        bb_name(&batch, s, STR("op"));
        s->start_ns = NS_PER_S + i;
        s->end_ns = s->start_ns + 1 + (i == LAST - 1 ? 1000 : 0);
        s->status = i % (LAST / ERRORS) == 1 ? STATUS_ERROR : STATUS_UNSET;
        CHECK(bb_span_end(&batch));
        if (i % HALF == HALF - 1)
            in[i / HALF] = texts_block(bb, os, i == LAST ? "/two" : "/one", &batch);
    }
    CHECK_OK(merge_to(os, "/merged", bb, in, 2, NULL, &meta, &e));
    CHECK_INT(meta.trace_count, 2);
    CHECK_OK(block_open(os, "/merged", &b, &e));
    CHECK(block_group_count(b) > 48);

    CHECK_OK(block_count_trace(b, ORDER_MOST_ERRORS, id, &bytes_read, &hit, &e));
    CHECK_INT(hit.value, ERRORS + 1);
    CHECK_INT(hit.newest_ns, NS_PER_S + LAST);
    q.limit = 1;
    CHECK_OK(block_search_open(b, &q, &a, &bytes_read, &search, &e));
    CHECK(search);
    CHECK_OK(block_search_trace(search, id, &found, &hit, &e));
    CHECK(found);
    CHECK_INT(hit.value, 1001);
    for (uint32_t i = 0; i <= LAST; i += LAST / 5) {
        uint8_t span_id[8];
        struct str service;
        store_u64be(span_id, hash_u64(i + UINT64_C(1), 1));
        CHECK_OK(block_span_service(b, id, span_id, &found, &service, &e));
        CHECK(found);
    }
    CHECK_OK(block_span_service(b, id, (const uint8_t *)"nowhere!", &found, &(struct str){0}, &e));
    CHECK(!found);
    block_unref(in[0]);
    block_unref(in[1]);
    block_unref(b);
    arena_fini(&a);
    batch_builder_fini(&batch);
    block_builder_free(bb);
    os_sim_free(os);
}

/* --- what a search reads --- */

static void add_pair(struct batch_builder *batch, struct str op, struct str a, struct str b)
{
    struct span_rec *s = bb_span(batch);
    for (size_t k = 0; k < 16; k++)
        s->trace_id[k] = (uint8_t)test_rand();
    s->span_id[0] = 1;
    bb_name(batch, s, op);
    bb_attr_str(batch, STR("a"), ATTR_STR, a);
    bb_attr_str(batch, STR("b"), ATTR_STR, b);
    CHECK(bb_span_end(batch));
}

/* Row groups of random pairs; in each one span, of the operation "other", has found, found. */
static struct block *pairs_block(struct os *os, uint32_t groups, size_t text_len)
{
    struct block_builder *bb = block_builder_new();
    struct batch_builder batch;
    char a[32], b[32];
    batch_builder_init(&batch);
    texts_begin(&batch);
    for (uint32_t i = 0; i < groups * GROUP_ROWS; i++)
        if (i % GROUP_ROWS == GROUP_ROWS / 2)
            add_pair(&batch, STR("other"), STR("found"), STR("found"));
        else
            add_pair(&batch, STR("op"), random_print(a, text_len), random_print(b, text_len));
    struct block *out = texts_block(bb, os, "/block", &batch);
    CHECK_INT(block_group_count(out), groups);
    batch_builder_fini(&batch);
    block_builder_free(bb);
    return out;
}

/* Bytes read to search one row group, in vain. */
static uint64_t search_in_vain(struct block *b, uint32_t group, struct str operation,
                               struct tag_filter *tags, uint32_t n)
{
    struct trace_query q = {.kind = -1,
                            .operation = operation,
                            .start_max_ns = UINT64_MAX,
                            .tags = tags,
                            .tag_count = n,
                            .limit = 20};
    struct arena a = arena_init(MIB);
    struct block_search *search;
    struct block_hit *hits;
    struct err e = {0};
    uint64_t bytes = 0;
    uint32_t found;
    CHECK_OK(block_search_open(b, &q, &a, &bytes, &search, &e));
    CHECK(search);
    bytes = 0;
    CHECK_OK(block_search_group(search, group, 0, &a, &hits, &found, &e));
    CHECK_INT(found, 0);
    arena_fini(&a);
    return bytes;
}

/* What the filter does not rule out costs the directory and the key's column, and no more. */
TEST(a_value_that_is_not_there_costs_a_page_or_one_column)
{
    enum { TEXT = 12, GROUPS = 2, QUESTIONS = 3000 };
    struct os *os = os_mem_new();
    struct block *b = pairs_block(os, GROUPS, TEXT);
    char value[24];
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < QUESTIONS; i++) {
        struct tag_filter tag = {.key = STR("a"), .value = text(value, "not there: ", i)};
        uint64_t bytes = search_in_vain(b, i % GROUPS, STR_NONE, &tag, 1);
        CHECK(bytes >= FILTER_PAGE_BYTES);
        wrong += bytes > FILTER_PAGE_BYTES;
        CHECK(bytes < GROUP_ROWS * TEXT); /* the other column, and ids, take as much again */
    }
    CHECK(wrong > 0 && wrong < QUESTIONS / 20);
    block_unref(b);
    os_sim_free(os);
}

/* The second tag's column is read where the first has left rows. Here it has values, but of rows
 * that the operation has ruled out. */
TEST(a_second_tag_costs_nothing_where_no_rows_are_left)
{
    enum { TEXT = 12 };
    struct os *os = os_mem_new();
    struct block *b = pairs_block(os, 1, TEXT);
    struct tag_filter tags[] = {{.key = STR("a"), .value = STR("found")},
                                {.key = STR("b"), .value = STR("found")}};
    uint64_t one = search_in_vain(b, 0, STR("op"), tags, 1);
    CHECK(one > GROUP_ROWS * 8);
    CHECK_INT(search_in_vain(b, 0, STR("op"), tags, 2), one + FILTER_PAGE_BYTES);
    block_unref(b);
    os_sim_free(os);
}
