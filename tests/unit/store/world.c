/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store/world.h"

#include "base/hash.h"
#include "base/stats.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>

#define TENANTS  2
#define SERVICES 5
#define NAMES    4

static char sentence[512];

struct world *world_new(uint64_t seed, uint64_t base_ns)
{
    struct world *w = xcalloc(1, sizeof *w);
    w->seed = seed;
    w->base_ns = base_ns;
    w->span_n = 1;
    batch_builder_init(&w->builder);
    return w;
}

void world_free(struct world *w)
{
    batch_builder_fini(&w->builder);
    free(w);
}

uint32_t world_roll(struct world *w, uint32_t n)
{
    w->seed += HASH_K0;
    return (uint32_t)(hash_u64(w->seed, 7) % n);
}

static const char *tenant_name(uint32_t t)
{
    return t ? "other" : "default";
}

static struct str numbered(char *buf, const char *prefix, uint32_t n)
{
    return str_of(buf, (size_t)sprintf(buf, "%s%u", prefix, n));
}

static void put_id(uint8_t *id, size_t n, uint64_t number)
{
    memset(id, 0xa5, n);
    store_u64le(id + n - 8, hash_u64(number, 3) | 1);
}

/* A span of a trace that the tenant has, or a new one; often a child of any earlier span of it. */
static void make_span(struct world *w, uint32_t tenant, uint32_t service)
{
    uint32_t number = w->span_n++;
    struct sent_span *x = &w->spans[number];
    char buf[64];
    *x = (struct sent_span){.batch = w->batch_n, .tenant = tenant, .service = service};
    x->trace = 2 * (w->trace_n / 2 + 1) + tenant;
    if (number > 1 && world_roll(w, 4)) {
        uint32_t other = 1 + world_roll(w, number - 1);
        if (w->spans[other].tenant == tenant) {
            x->trace = w->spans[other].trace;
            x->parent = other;
        }
    }
    if (!x->parent)
        w->trace_n += 2;
    if (x->parent && !world_roll(w, 6))
        x->parent = number + 1 + world_roll(w, 3); /* may come later, or never in this trace */
    x->name = world_roll(w, NAMES);
    x->kind = world_roll(w, KIND_COUNT);
    /* Clocks are skewed, but by less than PARENT_SKEW_NS. */
    x->start_ns = w->base_ns + number * 150 * NS_PER_MS + world_roll(w, 50) * NS_PER_S;
    struct span_rec *s = bb_span(&w->builder);
    put_id(s->trace_id, 16, x->trace);
    put_id(s->span_id, 8, number);
    if (x->parent)
        put_id(s->parent_id, 8, x->parent);
    s->start_ns = x->start_ns;
    s->end_ns = x->start_ns + number;
    s->kind = (uint8_t)x->kind;
    bb_name(&w->builder, s, numbered(buf, "op", x->name));
    bb_attr_bits(&w->builder, STR("number"), ATTR_INT, number);
    for (uint32_t i = world_roll(w, 3); i; i--)
        bb_attr_str(&w->builder, STR("text"), ATTR_STR,
                    str_of("abcdefghijklmnopqrstuvwxyz0123456789", world_roll(w, 36)));
    ensure(bb_span_end(&w->builder));
}

static struct batch *make_batch(struct world *w, uint32_t max_spans)
{
    struct batch *b;
    char buf[64];
    uint32_t tenant = world_roll(w, 5) == 0, spans = 1 + world_roll(w, max_spans);
    batch_builder_reset(&w->builder);
    while (spans) {
        uint32_t service = world_roll(w, SERVICES), some = 1 + world_roll(w, spans);
        bb_group_begin(&w->builder);
        bb_attr_str(&w->builder, STR("service.name"), ATTR_STR, numbered(buf, "svc", service));
        bb_group_scope(&w->builder);
        bb_group_end(&w->builder);
        for (uint32_t i = 0; i < some; i++)
            make_span(w, tenant, service);
        spans -= some;
    }
    w->batches[w->batch_n].spans = batch_builder_spans(&w->builder);
    enum errc rc = batch_seal(&w->builder, str_from_c(tenant_name(tenant)),
                              w->base_ns + 700 * NS_PER_S + w->batch_n, &b, NULL);
    ensure(rc == E_OK);
    return b;
}

static void on_done(struct store_ticket *t, enum errc result, const char *why)
{
    struct sent_batch *x = (struct sent_batch *)t;
    ensure(x->fate == FATE_OPEN && why);
    x->fate = result == E_OK ? FATE_ACKED : FATE_REFUSED;
    x->result = result;
}

enum errc world_append(struct world *w, struct store *s, uint32_t max_spans)
{
    if (w->span_n + max_spans >= SENT_MAX || w->batch_n >= SENT_MAX)
        return E_TOO_BIG;
    struct sent_batch *x = &w->batches[w->batch_n];
    *x = (struct sent_batch){.world = w, .fate = FATE_OPEN};
    struct batch *b = make_batch(w, max_spans);
    x->ticket.batch = b;
    x->ticket.done = on_done;
    w->batch_n++;
    enum errc rc = store_append(s, &x->ticket);
    if (rc != E_OK) {
        x->fate = FATE_REFUSED;
        x->result = rc;
    }
    batch_unref(b);
    return rc;
}

void world_expect_acked(struct world *w)
{
    for (uint32_t i = 0; i < w->batch_n; i++)
        w->batches[i].must_be_there |= w->batches[i].fate == FATE_ACKED;
}

void world_forget_missing(struct world *w)
{
    for (uint32_t i = 0; i < w->batch_n; i++) {
        struct sent_batch *b = &w->batches[i];
        b->fate = b->found ? FATE_ACKED : FATE_REFUSED;
        b->must_be_there = b->found > 0;
        b->result = E_CANCELLED;
    }
}

/* --- comparing --- */

struct walk {
    struct world *w;
    struct snap *snap;
    uint32_t tenant;
    const char *bad;
    uint64_t last_ns;
};

static bool same_span(const struct sent_span *x, const struct span *s, uint32_t number)
{
    uint8_t id[16], parent[8] = {0};
    char buf[64];
    put_id(id, 16, x->trace);
    if (x->parent)
        put_id(parent, 8, x->parent);
    return memcmp(s->trace_id, id, 16) == 0 && memcmp(s->parent_id, parent, 8) == 0 &&
           s->start_ns == x->start_ns && s->end_ns == x->start_ns + number &&
           s->kind == (enum span_kind)x->kind && str_eq(s->name, numbered(buf, "op", x->name)) &&
           str_eq(s->resource->service, numbered(buf, "svc", x->service));
}

static void check_span(struct walk *k, const struct span *s)
{
    const struct value *v = kvs_get(&s->attrs, STR("number"));
    uint8_t id[8];
    if (!v || v->type != ATTR_INT || v->i < 1 || v->i >= k->w->span_n) {
        k->bad = "a span that nobody sent";
        return;
    }
    uint32_t number = (uint32_t)v->i;
    struct sent_span *x = &k->w->spans[number];
    put_id(id, 8, number);
    if (memcmp(s->span_id, id, 8) != 0 || x->tenant != k->tenant || !same_span(x, s, number))
        k->bad = "a span that is not as it was sent";
    else if (x->found)
        k->bad = "a span that is there twice";
    x->found = true;
    k->w->batches[x->batch].found++;
}

static bool check_trace(void *arg, const uint8_t id[16])
{
    struct walk *k = arg;
    struct arena a = arena_init(64 * MIB);
    struct trace *t;
    struct err e;
    struct str tenant = str_from_c(tenant_name(k->tenant));
    if (snap_trace(k->snap, tenant, id, &a, &t, &e) != E_OK) {
        snprintf(sentence, sizeof sentence, "a listed trace cannot be read: %s", err_msg(&e));
        k->bad = sentence;
    } else {
        for (uint32_t i = 0; !k->bad && i < t->span_count; i++) {
            if (i && t->spans[i]->start_ns < t->spans[i - 1]->start_ns)
                k->bad = "spans out of order";
            check_span(k, t->spans[i]);
        }
        if (!k->bad && t->spans[0]->start_ns < k->last_ns)
            k->bad = "traces out of order";
        k->last_ns = t->spans[0]->start_ns;
    }
    arena_fini(&a);
    return !k->bad;
}

static const char *check_batches(const struct world *w, bool after_crash)
{
    for (uint32_t i = 0; i < w->batch_n; i++) {
        const struct sent_batch *b = &w->batches[i];
        if (b->found && b->found != b->spans)
            return "a part of a batch";
        if (!b->found && (b->must_be_there || (b->fate == FATE_ACKED && !after_crash))) {
            snprintf(sentence, sizeof sentence, "acknowledged batch %u is lost", i);
            return sentence;
        }
        if (b->found && b->fate == FATE_REFUSED && b->result == E_CANCELLED)
            return "a batch that was lost is back";
    }
    return NULL;
}

static bool find_dep(const struct dependency *v, size_t n, const char *parent, const char *child,
                     uint64_t calls)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq_c(v[i].parent, parent) && str_eq_c(v[i].child, child))
            return v[i].calls == calls;
    return calls == 0;
}

static const char *check_deps(const struct world *w, struct snap *snap, uint32_t tenant,
                              struct arena *a)
{
    uint64_t calls[SERVICES][SERVICES] = {{0}};
    struct dependency *v;
    size_t n, pairs = 0;
    for (uint32_t i = 1; i < w->span_n; i++) {
        const struct sent_span *x = &w->spans[i];
        const struct sent_span *p = x->parent < w->span_n ? &w->spans[x->parent] : NULL;
        if (x->found && x->tenant == tenant && x->parent && p && p->found && p->tenant == tenant &&
            p->trace == x->trace)
            pairs += calls[p->service][x->service]++ == 0;
    }
    if (snap_dependencies(snap, str_from_c(tenant_name(tenant)), 0, UINT64_MAX, a, &v, &n) != E_OK)
        return "dependencies cannot be read";
    if (n != pairs) {
        snprintf(sentence, sizeof sentence, "%zu dependencies, not %zu", n, pairs);
        return sentence;
    }
    for (uint32_t p = 0; p < SERVICES; p++)
        for (uint32_t c = 0; c < SERVICES; c++) {
            char parent[16], child[16];
            snprintf(parent, sizeof parent, "svc%u", p);
            snprintf(child, sizeof child, "svc%u", c);
            if (!find_dep(v, n, parent, child, calls[p][c])) {
                snprintf(sentence, sizeof sentence, "dependency %s -> %s of %s is not %llu", parent,
                         child, tenant_name(tenant), (unsigned long long)calls[p][c]);
                return sentence;
            }
        }
    return NULL;
}

static const char *check_names(const struct world *w, struct snap *snap, uint32_t tenant,
                               struct arena *a)
{
    for (uint32_t service = 0; service < SERVICES; service++) {
        uint64_t seen[NAMES][KIND_COUNT] = {{0}};
        size_t n, expected = 0;
        struct operation *ops;
        char buf[64], name[64];
        for (uint32_t i = 1; i < w->span_n; i++) {
            const struct sent_span *x = &w->spans[i];
            if (!x->found || x->tenant != tenant || x->service != service)
                continue;
            expected += seen[x->name][x->kind] == 0;
            seen[x->name][x->kind] = max_u64(seen[x->name][x->kind], x->start_ns);
        }
        if (snap_operations(snap, str_from_c(tenant_name(tenant)), numbered(buf, "svc", service),
                            -1, a, &ops, &n) != E_OK ||
            n != expected) {
            snprintf(sentence, sizeof sentence, "%s has %zu operations of svc%u, not %zu",
                     tenant_name(tenant), n, service, expected);
            return sentence;
        }
        for (size_t i = 0; i < n; i++) {
            uint32_t op = 0;
            while (op < NAMES && !str_eq(ops[i].name, numbered(name, "op", op)))
                op++;
            if (op == NAMES || seen[op][ops[i].kind] != ops[i].last_seen_ns)
                return "an operation nobody sent, or seen at another time";
        }
    }
    return NULL;
}

const char *world_compare(struct world *w, struct store *s, bool after_crash)
{
    struct walk k = {.w = w, .snap = store_snap(s)};
    struct arena a = arena_init(16 * MIB);
    struct err e;
    for (uint32_t i = 0; i < w->span_n; i++)
        w->spans[i].found = false;
    for (uint32_t i = 0; i < w->batch_n; i++)
        w->batches[i].found = 0;
    for (k.tenant = 0; !k.bad && k.tenant < TENANTS; k.tenant++) {
        k.last_ns = 0;
        if (snap_each_trace(k.snap, str_from_c(tenant_name(k.tenant)), 0, UINT64_MAX, check_trace,
                            &k, &e) != E_OK)
            k.bad = "traces cannot be listed";
    }
    if (!k.bad)
        k.bad = check_batches(w, after_crash);
    for (uint32_t t = 0; !k.bad && t < TENANTS; t++) {
        k.bad = check_names(w, k.snap, t, &a);
        const char *bad = k.bad ? NULL : check_deps(w, k.snap, t, &a);
        /* With very many blocks the search for parents has a limit, which is counted. */
        if (bad && !stat_get(STAT_PARENT_SEARCHES_CUT))
            k.bad = bad;
    }
    arena_fini(&a);
    snap_unref(k.snap);
    return k.bad;
}
