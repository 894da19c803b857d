/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and values against a plain walk over every span, and costs against the files. */
#include "base/os/sim.h"
#include "base/log.h"
#include "store/trace/trace_store.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>

#define BATCHES_MAX 128
#define BASE_NS     UINT64_C(1790000000000000000)
#define TENANTS     2
#define TABLE_MAX   20000

/* What was sent, of each tenant, in the read model. */
struct sent {
    struct store *store;
    struct os *os;
    struct batch *batch[BATCHES_MAX];
    size_t n;
    struct trace spans[TENANTS];
    struct arena a;
    uint32_t keys, values; /* how many different ones of each sort */
};

static uint32_t roll(uint32_t n)
{
    return (uint32_t)(test_rand() % n);
}

static struct str numbered(char *buf, const char *prefix, uint32_t n)
{
    return str_of(buf, (size_t)sprintf(buf, "%s%u", prefix, n));
}

static struct str tenant_name(unsigned t)
{
    return t ? STR("other") : STR("default");
}

/* --- sending --- */

/* Any type under any key, and texts that several types share: "1", "true". */
static void add_attr(struct sent *t, struct batch_builder *bb)
{
    static const char list[] = {0x0a, 0x02, 0x18, 0x01}, map[] = {0x0a, 0x03, 0x0a, 0x01, 'k'};
    char key[32], buf[64];
    struct str name = numbered(key, "key.", roll(t->keys));
    enum attr_type type = roll(3) ? ATTR_STR : roll(ATTR_TYPE_COUNT);
    double d = roll(3) / 2.0;
    uint64_t bits = roll(4) ? roll(4) : test_rand();
    switch (type) {
    case ATTR_STR:
        bb_attr_str(bb, name, type, roll(9) ? numbered(buf, "", roll(t->values)) : STR("true"));
        break;
    case ATTR_BYTES:
        bb_attr_str(bb, name, type, numbered(buf, "bytes", roll(3)));
        break;
    case ATTR_ARRAY:
        bb_attr_str(bb, name, type, str_of(list, sizeof list));
        break;
    case ATTR_KVLIST:
        bb_attr_str(bb, name, type, str_of(map, sizeof map));
        break;
    case ATTR_DOUBLE:
        memcpy(&bits, &d, 8);
        bb_attr_bits(bb, name, type, bits);
        break;
    default:
        bb_attr_bits(bb, name, type, type == ATTR_BOOL ? roll(2) : type == ATTR_INT ? bits : 0);
    }
}

static void add_attrs(struct sent *t, struct batch_builder *bb, uint32_t most)
{
    for (uint32_t n = roll(most + 1); n; n--)
        add_attr(t, bb);
}

static void add_span(struct sent *t, struct batch_builder *bb)
{
    char buf[32];
    struct span_rec *s = bb_span(bb);
    uint32_t trace = 1 + roll(500);
    memcpy(s->trace_id, &trace, 4);
    uint64_t id = test_rand() | 1;
    memcpy(s->span_id, &id, 8);
    bb_name(bb, s, numbered(buf, "op", roll(5)));
    s->kind = (uint8_t)roll(KIND_COUNT);
    s->start_ns = roll(200) ? BASE_NS + roll(1000) * NS_PER_S : roll(2) ? 0 : UINT64_MAX;
    s->end_ns = s->start_ns + 1;
    add_attrs(t, bb, 6);
    for (uint32_t n = roll(3); n; n--) {
        struct event_rec *e = bb_event(bb);
        e->name = bb_string(bb, STR("event"));
        add_attrs(t, bb, 3);
    }
    for (uint32_t n = roll(2); n; n--) {
        struct link_rec *l = bb_link(bb);
        memcpy(l->trace_id, &trace, 4);
        add_attrs(t, bb, 2);
    }
    CHECK(bb_span_end(bb));
}

static void taken(struct store_ticket *t, enum errc result, const char *why)
{
    (void)t, (void)why;
    CHECK_OK(result);
}

static void keep(struct sent *t, unsigned tenant, struct batch *b)
{
    struct span_origin *o = ARENA_ARRAY(&t->a, struct span_origin, b->head->group_count);
    for (uint32_t i = 0; i < b->head->span_count; i++) {
        struct span *s = span_from_batch(b, &b->spans[i], o, &t->a);
        CHECK(s && trace_add(&t->spans[tenant], s, &t->a));
    }
    t->batch[t->n++] = b;
}

static void send_batch(struct sent *t, struct batch_builder *bb, uint32_t spans)
{
    char buf[32];
    struct batch *b;
    struct store_ticket ticket = {.done = taken};
    unsigned tenant = roll(5) == 0;
    batch_builder_reset(bb);
    for (uint32_t groups = 1 + roll(3), n; groups; groups--) {
        bb_group_begin(bb);
        bb_attr_str(bb, STR("service.name"), ATTR_STR, numbered(buf, "svc", roll(3)));
        add_attrs(t, bb, 3);
        bb_group_scope(bb);
        add_attrs(t, bb, 2);
        bb_group_end(bb);
        for (n = 1 + roll(spans); n; n--)
            add_span(t, bb);
    }
    CHECK_OK(batch_seal(bb, tenant_name(tenant), BASE_NS, &b, NULL));
    ticket.batch = b;
    CHECK_OK(store_append(t->store, &ticket));
    while (store_step(t->store))
        ;
    keep(t, tenant, b);
}

/* Several blocks and a memtable. */
static void open_and_send(struct sent *t, uint32_t batches, uint32_t spans, uint32_t flush_each)
{
    struct store_config c;
    struct batch_builder bb;
    log_setup((enum log_level)(LOG_ERROR + 1), LOG_TEXT);
    t->os = os_mem_new();
    t->a = arena_init(GIB);
    store_config_defaults(&c, t->os, "/data");
    c.threads = false;
    c.retention_ns = 0;
    c.compact_fanin = 0; /* several blocks */
    CHECK_OK(store_open(&t->store, &c, NULL));
    batch_builder_init(&bb);
    for (uint32_t i = 1; i <= batches; i++) {
        send_batch(t, &bb, spans);
        if (i % flush_each == 0)
            CHECK_OK(store_flush(t->store, NULL));
    }
    batch_builder_fini(&bb);
}

static void finish(struct sent *t)
{
    store_close(t->store);
    for (size_t i = 0; i < t->n; i++)
        batch_unref(t->batch[i]);
    arena_fini(&t->a);
    os_sim_free(t->os);
}

/* --- the plain walk --- */

struct table {
    struct discovered_text *v;
    size_t n;
    uint64_t spans;
    const struct discover_query *q;
    struct str key; /* p NULL: keys */
    struct arena *a;
};

static void table_add(struct table *t, enum tag_place place, const struct kvs *kvs)
{
    for (uint32_t i = 0; i < kvs->n; i++) {
        const struct kv *kv = &kvs->v[i];
        struct str text = t->key.p ? value_text(&kv->val, t->a) : kv->key;
        enum tag_place at = t->key.p ? TAG_ANY : place;
        size_t k = 0;
        if ((t->q->place != TAG_ANY && t->q->place != place) ||
            (t->key.p && !str_eq(kv->key, t->key)) || !str_starts(text, t->q->prefix))
            continue;
        while (k < t->n && !(t->v[k].place == at && str_eq(t->v[k].text, text)))
            k++;
        CHECK(k < TABLE_MAX);
        if (k == t->n)
            t->v[t->n++] = (struct discovered_text){.text = text, .place = at};
        t->v[k].count++;
        t->v[k].types |= 1u << kv->val.type;
    }
}

static int by_count(const void *x, const void *y)
{
    const struct discovered_text *a = x, *b = y;
    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    int order = str_cmp(a->text, b->text);
    return order ? order : (int)a->place - (int)b->place;
}

static void plain_walk(const struct trace *all, struct table *t)
{
    t->v = ARENA_ARRAY(t->a, struct discovered_text, TABLE_MAX);
    for (uint32_t i = 0; i < all->span_count; i++) {
        const struct span *s = all->spans[i];
        if (s->start_ns < t->q->start_min_ns || s->start_ns > t->q->start_max_ns ||
            (t->q->service.n && !str_eq(t->q->service, s->resource->service)))
            continue;
        t->spans++;
        table_add(t, TAG_SPAN, &s->attrs);
        table_add(t, TAG_RESOURCE, &s->resource->attrs);
        table_add(t, TAG_SCOPE, &s->scope->attrs);
        for (uint32_t k = 0; k < s->event_count; k++)
            table_add(t, TAG_EVENT, &s->events[k].attrs);
        for (uint32_t k = 0; k < s->link_count; k++)
            table_add(t, TAG_LINK, &s->links[k].attrs);
    }
    if (t->n)
        qsort(t->v, t->n, sizeof *t->v, by_count);
}

static size_t check_one(const struct sent *t, struct snap *snap, const struct discover_query *q,
                        unsigned tenant, struct str key)
{
    struct arena a = arena_init(256 * MIB);
    struct table want = {.q = q, .key = key, .a = &a};
    struct discovered got;
    plain_walk(&t->spans[tenant], &want);
    CHECK_OK(key.p ? snap_values(snap, q, key, &a, &got, NULL)
                   : snap_keys(snap, q, &a, &got, NULL));
    CHECK_INT(got.spans, want.spans);
    CHECK_INT(got.total, want.n);
    CHECK_INT(got.n, min_size(want.n, q->limit));
    CHECK(got.complete && !got.missed && !got.longer);
    for (size_t i = 0; i < got.n; i++) {
        CHECK_STR(got.v[i].text, want.v[i].text);
        CHECK_INT(got.v[i].count, want.v[i].count);
        CHECK_INT(got.v[i].place, want.v[i].place);
        CHECK_INT(got.v[i].types, want.v[i].types);
        CHECK_INT(got.v[i].missed, 0);
    }
    arena_fini(&a);
    return want.n;
}

static void check_random_questions(const struct sent *t, unsigned count)
{
    char key[32], service[32];
    struct snap *snap = store_snap(t->store);
    size_t found = 0, empty = 0;
    for (unsigned i = 0; i < count; i++) {
        unsigned tenant = roll(4) == 0;
        struct discover_query q = {.tenant = tenant_name(tenant),
                                   .place = roll(2) ? TAG_ANY : roll(TAG_LINK + 1),
                                   .start_max_ns = UINT64_MAX,
                                   .limit = roll(3) ? DISCOVER_LIMIT_MAX : 1 + roll(9)};
        bool values = roll(2);
        if (roll(2))
            q.service = numbered(service, "svc", roll(4));
        if (roll(2))
            q.start_min_ns = BASE_NS + roll(1000) * NS_PER_S;
        if (roll(2))
            q.start_max_ns = BASE_NS + roll(1100) * NS_PER_S;
        if (!roll(4))
            q.prefix = values ? STR("1") : STR("key.1");
        numbered(key, "key.", roll(t->keys + 1));
        size_t n = check_one(t, snap, &q, tenant, values ? str_from_c(key) : STR_NONE);
        found += n > 0;
        empty += n == 0;
    }
    CHECK(found > count / 4 && empty);
    snap_unref(snap);
}

TEST(discover_agrees_with_a_plain_walk)
{
    struct sent t = {.keys = 12, .values = 40};
    open_and_send(&t, 90, 12, 20);
    check_random_questions(&t, 300);
    finish(&t);
}

TEST(discover_agrees_with_a_plain_walk_over_many_row_groups)
{
    struct sent t = {.keys = 4, .values = 300};
    open_and_send(&t, 60, 500, 40);
    check_random_questions(&t, 30);
    finish(&t);
}

/* --- bounds --- */

/* One span a value, `digits` long at least; every `often`th carries the same one. */
static void send_unique(struct sent *t, uint32_t first, uint32_t n, uint32_t often, int digits)
{
    struct batch_builder bb;
    struct store_ticket ticket = {.done = taken};
    char buf[DISCOVER_TEXT_MAX + 1];
    batch_builder_init(&bb);
    bb_group_begin(&bb);
    bb_group_scope(&bb);
    bb_group_end(&bb);
    for (uint32_t i = first; i < first + n; i++) {
        struct span_rec *s = bb_span(&bb);
        uint64_t id = i + 1;
        memcpy(s->trace_id, &id, 8);
        memcpy(s->span_id, &id, 8);
        s->start_ns = BASE_NS + i;
        bb_attr_str(&bb, STR("k"), ATTR_STR,
                    i % often ? str_of(buf, (size_t)sprintf(buf, "%0*u", digits, i))
                              : STR("often"));
        CHECK(bb_span_end(&bb));
    }
    CHECK_OK(batch_seal(&bb, STR("default"), BASE_NS, &ticket.batch, NULL));
    CHECK_OK(store_append(t->store, &ticket));
    while (store_step(t->store))
        ;
    t->batch[t->n++] = ticket.batch;
    batch_builder_fini(&bb);
}

TEST(discover_forgets_the_rare_and_says_how_much)
{
    struct sent t = {0};
    struct arena a = arena_init(64 * MIB);
    struct discover_query q = {
        .tenant = STR("default"), .start_max_ns = UINT64_MAX, .limit = DISCOVER_LIMIT_MAX};
    struct discovered got;
    const uint32_t n = 4 * DISCOVER_TEXTS_MAX, often = 50;
    open_and_send(&t, 0, 1, 1);
    for (uint32_t i = 0; i < 8; i++) {
        send_unique(&t, i * (n / 8), n / 8, often, 1);
        if (i % 3 == 2)
            CHECK_OK(store_flush(t.store, NULL));
    }
    struct snap *snap = store_snap(t.store);
    CHECK_OK(snap_values(snap, &q, STR("k"), &a, &got, NULL));
    CHECK(!got.complete && got.missed && got.missed < 64);
    CHECK(got.total <= DISCOVER_TEXTS_MAX && got.n == DISCOVER_LIMIT_MAX);
    CHECK_INT(got.spans, n);
    CHECK_STR(got.v[0].text, STR("often"));
    uint64_t really = (n + often - 1) / often;
    CHECK(got.v[0].count <= really && really <= got.v[0].count + got.v[0].missed);
    for (size_t i = 1; i < got.n; i++)
        CHECK(got.v[i].count <= 1 && got.v[i].count + got.v[i].missed >= 1);
    snap_unref(snap);
    arena_fini(&a);
    finish(&t);
}

/* As many as can be held are still exact; when their bytes are too many, fewer are held. */
TEST(discover_holds_as_much_as_it_says)
{
    static const struct {
        uint32_t n;
        int digits;
        bool fits;
    } rows[] = {{DISCOVER_TEXTS_MAX, 1, true}, {20000, 700, true}, {20000, 1000, false}};
    for (size_t k = 0; k < ARRAY_LEN(rows); k++) {
        struct sent t = {0};
        struct arena a = arena_init(64 * MIB);
        struct discover_query q = {
            .tenant = STR("default"), .start_max_ns = UINT64_MAX, .limit = DISCOVER_LIMIT_MAX};
        struct discovered got;
        open_and_send(&t, 0, 1, 1);
        send_unique(&t, 0, rows[k].n, rows[k].n, rows[k].digits);
        CHECK_OK(store_flush(t.store, NULL));
        send_unique(&t, 0, rows[k].n, rows[k].n, rows[k].digits);
        struct snap *snap = store_snap(t.store);
        CHECK_OK(snap_values(snap, &q, STR("k"), &a, &got, NULL));
        CHECK_INT(got.complete, rows[k].fits);
        CHECK(rows[k].fits ? got.total == rows[k].n : got.total < rows[k].n && got.missed);
        for (size_t i = 0; i < got.n; i++)
            CHECK(got.v[i].count <= 2 && got.v[i].count + got.v[i].missed >= 2);
        snap_unref(snap);
        arena_fini(&a);
        finish(&t);
    }
}

TEST(discover_does_not_list_what_is_too_long)
{
    struct sent t = {0};
    struct arena a = arena_init(64 * MIB);
    struct batch_builder bb;
    struct store_ticket ticket = {.done = taken};
    static char text[DISCOVER_TEXT_MAX + 1];
    struct discover_query q = {.tenant = STR("default"), .start_max_ns = UINT64_MAX, .limit = 10};
    struct discovered got;
    memset(text, 'x', sizeof text);
    open_and_send(&t, 0, 1, 1);
    batch_builder_init(&bb);
    bb_group_begin(&bb);
    bb_group_scope(&bb);
    bb_group_end(&bb);
    for (uint64_t i = 1; i < 4; i++) {
        struct span_rec *s = bb_span(&bb);
        memcpy(s->trace_id, &i, 8);
        memcpy(s->span_id, &i, 8);
        bb_attr_str(&bb, STR("k"), ATTR_STR, str_of(text, sizeof text - (i == 1)));
        CHECK(bb_span_end(&bb));
    }
    CHECK_OK(batch_seal(&bb, STR("default"), BASE_NS, &ticket.batch, NULL));
    CHECK_OK(store_append(t.store, &ticket));
    while (store_step(t.store))
        ;
    struct snap *snap = store_snap(t.store);
    CHECK_OK(snap_values(snap, &q, STR("k"), &a, &got, NULL));
    CHECK_INT(got.n, 1);
    CHECK_INT(got.v[0].text.n, DISCOVER_TEXT_MAX);
    CHECK_INT(got.longer, 2);
    CHECK(!got.complete);
    q.limit = DISCOVER_LIMIT_MAX + 1;
    CHECK(snap_keys(snap, &q, &a, &got, NULL) == E_INVALID);
    snap_unref(snap);
    batch_unref(ticket.batch);
    batch_builder_fini(&bb);
    arena_fini(&a);
    finish(&t);
}

/* What is said to be covered is: a question for later starts alone has the same answer. */
TEST(discover_says_what_a_budget_left_out)
{
    struct sent t = {0};
    struct arena a = arena_init(64 * MIB);
    struct discover_query q = {
        .tenant = STR("default"), .start_max_ns = UINT64_MAX, .limit = 10, .budget_ns = 1};
    struct discovered got, all;
    open_and_send(&t, 0, 1, 1);
    for (uint32_t i = 0; i < 4; i++) {
        send_unique(&t, i * 20000, 20000, 7, 1);
        CHECK_OK(store_flush(t.store, NULL));
    }
    struct snap *snap = store_snap(t.store);
    CHECK_OK(snap_keys(snap, &q, &a, &got, NULL));
    CHECK(!got.complete && got.spans && got.spans < 80000 && got.after_ns > BASE_NS);
    CHECK_INT(got.after_ns, BASE_NS + 80000 - got.spans - 1);
    q.budget_ns = 0;
    q.start_min_ns = got.after_ns + 1;
    CHECK_OK(snap_keys(snap, &q, &a, &all, NULL));
    CHECK(all.complete && all.after_ns == 0);
    CHECK_INT(all.spans, got.spans);
    CHECK_INT(all.v[0].count, got.v[0].count);
    snap_unref(snap);
    arena_fini(&a);
    finish(&t);
}

/* --- costs --- */

struct files {
    struct os *os;
    uint64_t bytes;
};

static void add_file(void *arg, const char *name)
{
    struct files *f = arg;
    char path[300];
    struct os_file *file;
    uint64_t bytes;
    snprintf(path, sizeof path, "/data/blocks/%s", name);
    CHECK_OK(os_open(f->os, path, OS_READ, &file, NULL));
    CHECK_OK(os_size(file, &bytes, NULL));
    f->bytes += bytes;
    os_close(file);
}

TEST(costs_are_the_bytes_of_the_files)
{
    struct sent t = {.keys = 12, .values = 40};
    struct arena a = arena_init(64 * MIB);
    struct cost c;
    uint64_t bytes = 0, spans = 0, waiting = 0;
    open_and_send(&t, 90, 12, 20);
    struct files files = {.os = t.os};
    CHECK_OK(os_list(t.os, "/data/blocks", add_file, &files, NULL));
    struct snap *snap = store_snap(t.store);
    for (unsigned tenant = 0; tenant < TENANTS; tenant++) {
        uint64_t columns = 0, services = 0, operations = 0, of_services = 0, of_operations = 0;
        CHECK_OK(snap_cost(snap, tenant_name(tenant), 0, &a, &c, NULL));
        for (size_t i = 0; i < c.column_n; i++)
            columns += c.columns[i].bytes;
        for (size_t i = 0; i < c.service_n; i++) {
            services += c.services[i].bytes;
            of_services += c.services[i].spans;
        }
        for (size_t i = 0; i < c.operation_n; i++) {
            operations += c.operations[i].bytes;
            of_operations += c.operations[i].spans;
            CHECK(!i || c.operations[i - 1].bytes >= c.operations[i].bytes);
        }
        CHECK(c.complete && c.blocks > 2);
        CHECK_INT(c.service_n, 3);
        CHECK(c.operation_n > 10 && c.operation_n <= 15); /* a rare one may still wait */
        CHECK_INT(columns, c.bytes);
        CHECK_INT(services, c.bytes);
        CHECK_INT(operations, c.bytes);
        CHECK_INT(of_services, c.spans);
        CHECK_INT(of_operations, c.spans);
        CHECK_INT(c.spans + c.waiting_spans, t.spans[tenant].span_count);
        bytes += c.bytes;
        spans += c.spans;
        waiting += c.waiting_spans;
    }
    CHECK_INT(bytes, files.bytes);
    CHECK(spans && waiting);
    CHECK_OK(snap_cost(snap, STR("default"), 1, &a, &c, NULL));
    CHECK(!c.complete && c.blocks == 1 && c.after_ns);
    snap_unref(snap);
    arena_fini(&a);
    finish(&t);
}

/* An operation pays for its own values. */
TEST(costs_go_to_the_operation_that_has_the_values)
{
    struct sent t = {0};
    struct arena a = arena_init(64 * MIB);
    struct batch_builder bb;
    struct store_ticket ticket = {.done = taken};
    struct cost c;
    char text[64];
    open_and_send(&t, 0, 1, 1);
    batch_builder_init(&bb);
    bb_group_begin(&bb);
    bb_group_scope(&bb);
    bb_group_end(&bb);
    for (uint64_t i = 1; i <= 4000; i++) {
        struct span_rec *s = bb_span(&bb);
        bool dear = i % 4 == 0;
        memcpy(s->trace_id, &i, 8);
        memcpy(s->span_id, &i, 8);
        bb_name(&bb, s, dear ? STR("dear") : STR("cheap"));
        if (dear) {
            struct event_rec *e = bb_event(&bb);
            e->name = bb_string(&bb, STR("event"));
            for (size_t k = 0; k < sizeof text; k++)
                text[k] = (char)test_rand();
            bb_attr_str(&bb, STR("k"), ATTR_STR, str_of(text, sizeof text));
        }
        CHECK(bb_span_end(&bb));
    }
    CHECK_OK(batch_seal(&bb, STR("default"), BASE_NS, &ticket.batch, NULL));
    CHECK_OK(store_append(t.store, &ticket));
    while (store_step(t.store))
        ;
    CHECK_OK(store_flush(t.store, NULL));
    struct snap *snap = store_snap(t.store);
    CHECK_OK(snap_cost(snap, STR("default"), 0, &a, &c, NULL));
    CHECK_INT(c.operation_n, 2);
    CHECK_STR(c.operations[0].name, STR("dear"));
    CHECK_INT(c.operations[0].spans, 1000);
    CHECK(c.operations[0].bytes > 1000 * 64);
    CHECK(c.operations[1].bytes / 3000 <= c.operations[0].bytes / 1000 - 64);
    CHECK_STR(c.columns[0].name, STR("k"));
    CHECK_INT(c.columns[0].kind, COST_EVENT_ATTR);
    CHECK(c.columns[0].bytes >= 1000 * 64);
    snap_unref(snap);
    batch_unref(ticket.batch);
    batch_builder_fini(&bb);
    arena_fini(&a);
    finish(&t);
}

/* What a block of n spans costs that have so many names; with: each has a value under "k". */
static struct cost cost_of_spans(uint32_t n, uint32_t names, bool with, struct arena *a)
{
    struct sent t = {0};
    struct batch_builder bb;
    struct store_ticket ticket = {.done = taken};
    struct cost c;
    char buf[32];
    open_and_send(&t, 0, 1, 1);
    batch_builder_init(&bb);
    bb_group_begin(&bb);
    bb_attr_str(&bb, STR("service.name"), ATTR_STR, STR("svc"));
    bb_group_scope(&bb);
    bb_group_end(&bb);
    for (uint64_t i = 1; i <= n; i++) {
        struct span_rec *s = bb_span(&bb);
        uint64_t random = i * UINT64_C(0x9e3779b97f4a7c15);
        memcpy(s->trace_id, &i, 8);
        memcpy(s->span_id, &random, 8);
        s->start_ns = BASE_NS + i * 1000;
        bb_name(&bb, s, numbered(buf, "op", (uint32_t)i % names));
        bb_attr_str(&bb, STR("route"), ATTR_STR, numbered(buf, "/", (uint32_t)i % 50));
        if (with)
            bb_attr_str(&bb, STR("k"), ATTR_STR, numbered(buf, "v", (uint32_t)(random >> 40)));
        CHECK(bb_span_end(&bb));
    }
    CHECK_OK(batch_seal(&bb, STR("default"), BASE_NS, &ticket.batch, NULL));
    CHECK_OK(store_append(t.store, &ticket));
    while (store_step(t.store))
        ;
    CHECK_OK(store_flush(t.store, NULL));
    struct snap *snap = store_snap(t.store);
    CHECK_OK(snap_cost(snap, STR("default"), 0, a, &c, NULL));
    CHECK_INT(c.spans, n);
    snap_unref(snap);
    batch_unref(ticket.batch);
    batch_builder_fini(&bb);
    finish(&t);
    return c;
}

TEST(costs_are_what_dropping_a_key_saves)
{
    struct arena a = arena_init(64 * MIB);
    struct cost with = cost_of_spans(20000, 7, true, &a);
    struct cost without = cost_of_spans(20000, 7, false, &a);
    uint64_t saves = 0;
    for (size_t i = 0; i < with.column_n; i++)
        if (str_eq_c(with.columns[i].name, "k"))
            saves = with.columns[i].bytes;
    uint64_t saved = with.bytes - without.bytes;
    CHECK(saves > 20000);
    CHECK(saved >= saves && saved < saves + 20000 * 2); /* 10 bits a value in the filter */
    arena_fini(&a);
}

TEST(costs_of_too_many_operations_are_one_row)
{
    struct arena a = arena_init(64 * MIB);
    struct cost c = cost_of_spans(COST_ROWS_MAX + 1000, COST_ROWS_MAX + 1000, false, &a);
    uint64_t bytes = 0, spans = 0;
    CHECK_INT(c.operation_n, COST_ROWS_MAX);
    for (size_t i = 0; i < c.operation_n; i++) {
        bytes += c.operations[i].bytes;
        spans += c.operations[i].spans;
    }
    CHECK_INT(bytes, c.bytes);
    CHECK_INT(spans, c.spans);
    CHECK_STR(c.operations[0].name, STR("other-operations"));
    CHECK_INT(c.operations[0].spans, 1001); /* one row of the table is this one */
    arena_fini(&a);
}
