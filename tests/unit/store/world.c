/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store/world.h"

#include "base/hash.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>

static char sentence[512];

struct world *world_new(uint64_t seed, uint64_t base_ns)
{
    struct world *w = xcalloc(1, sizeof *w);
    w->seed = seed;
    w->base_ns = base_ns;
    w->span_n = 1;
    w->text = buf_init(MIB);
    w->arena = arena_init(1 * GIB);
    batch_builder_init(&w->builder);
    return w;
}

void world_free(struct world *w)
{
    for (uint32_t i = 0; i < w->batch_n; i++)
        batch_unref(w->batches[i].ticket.batch);
    batch_builder_fini(&w->builder);
    buf_fini(&w->text);
    arena_fini(&w->arena);
    free(w);
}

uint64_t world_roll64(struct world *w)
{
    w->seed += HASH_K0;
    return hash_u64(w->seed, 7);
}

uint32_t world_roll(struct world *w, uint32_t n)
{
    return (uint32_t)(world_roll64(w) % n);
}

struct str world_tenant(uint32_t tenant)
{
    static const char *const names[TENANTS] = {"default", "other", "a.b \xc3\xa9"};
    return str_from_c(names[tenant]);
}

static void put_id(uint8_t *id, size_t n, uint64_t number)
{
    memset(id, 0xa5, n);
    store_u64le(id + n - 8, hash_u64(number, 3) | 1);
}

/* --- sending --- */

/* The position of a name, by its first appearance. */
static uint32_t named(struct named *l, struct str name)
{
    uint32_t i = 0;
    while (i < l->n && !str_eq(l->v[i], name))
        i++;
    ensure(i < NAMED_MAX);
    if (i == l->n)
        l->v[l->n++] = name;
    return i;
}

/* Another copy of a span of the service: same ids, another number and other content. */
static bool send_again(struct world *w, struct sent_span *x, uint32_t number)
{
    uint32_t other = 1 + world_roll(w, number);
    const struct sent_span *from = &w->spans[other];
    /* One that names no service is called by what else its resource has. */
    if (other == number || from->tenant != x->tenant || from->origin != x->origin ||
        x->origin > SERVICES + 1)
        return false;
    x->trace = from->trace;
    x->parent = from->parent;
    x->first = from->first;
    x->next = w->spans[from->first].next;
    w->spans[from->first].next = number;
    return true;
}

/* A span of a trace that the tenant has, or a new one; often a child of any earlier span of it. */
static void place_span(struct world *w, struct sent_span *x, uint32_t number)
{
    /* In a rich world two tenants may use one trace id. */
    uint32_t apart = w->rich ? 1 + world_roll(w, 2) : 1;
    x->first = number;
    x->trace = ++w->trace_n * 2 + (apart == 1 ? x->tenant % 2 : 0);
    if (number > 1 && world_roll(w, w->rich ? 10 : 4)) {
        uint32_t other = 1 + world_roll(w, number - 1);
        if (w->spans[other].tenant == x->tenant) {
            x->trace = w->spans[other].trace;
            x->parent = w->spans[other].first;
        } else if (apart == 2) {
            x->trace = w->spans[other].trace;
        }
    }
    if (x->parent && !world_roll(w, 6))
        x->parent = number + 1 + world_roll(w, 3); /* may come later, or never in this trace */
}

static void make_span(struct world *w, uint32_t tenant, uint32_t origin)
{
    uint32_t number = w->span_n++;
    struct sent_span *x = &w->spans[number];
    *x = (struct sent_span){.batch = w->batch_n, .tenant = tenant, .origin = origin};
    bool rich = world_roll(w, 100) < w->rich;
    if (!rich || world_roll(w, 8) || !send_again(w, x, number))
        place_span(w, x, number);
    struct span_rec *s = bb_span(&w->builder);
    put_id(s->trace_id, 16, x->trace);
    put_id(s->span_id, 8, x->first);
    if (x->parent)
        put_id(s->parent_id, 8, x->parent);
    /* Clocks are skewed, but by less than PARENT_SKEW_NS. */
    s->start_ns = w->base_ns + number * 150 * NS_PER_MS + world_roll(w, 50) * NS_PER_S;
    s->end_ns = s->start_ns + number;
    content_span(w, s, number, rich);
    ensure(bb_span_end(&w->builder));
}

/* The spans of the batch as the read model shows them: what the store must answer. */
static void remember(struct world *w, const struct batch *b, uint32_t first)
{
    struct sent_batch *sent = &w->batches[w->batch_n];
    struct span_origin *origins = ARENA_ARRAY(&w->arena, struct span_origin, b->head->group_count);
    for (uint32_t i = 0; i < b->head->span_count; i++) {
        struct sent_span *x = &w->spans[first + i];
        const struct span *s = span_from_batch(b, &b->spans[i], origins, &w->arena);
        ensure(s);
        bool listed = s->name.n <= NAME_LISTED;
        x->span = s;
        x->service = named(&w->services, s->resource->service);
        x->name = named(&w->names, listed ? s->name : STR("other-operations"));
        x->kind = listed ? s->kind : KIND_UNSPECIFIED;
        sent->end_ns = max_u64(sent->end_ns, max_u64(s->start_ns, s->end_ns));
    }
    sent->end_ns = min_u64(sent->end_ns, b->head->received_ns);
}

static struct batch *make_batch(struct world *w, uint32_t max_spans)
{
    struct batch *b;
    uint32_t tenant = world_roll(w, 5) == 0, spans = 1 + world_roll(w, max_spans);
    uint32_t first = w->span_n;
    if (w->rich && !world_roll(w, 10))
        tenant = TENANTS - 1;
    batch_builder_reset(&w->builder);
    while (spans) {
        uint32_t origin = world_roll(w, SERVICES), some = 1 + world_roll(w, spans);
        if (w->rich && !world_roll(w, 12))
            origin = SERVICES + world_roll(w, 3);
        content_group(w, origin);
        for (uint32_t i = 0; i < some; i++)
            make_span(w, tenant, origin);
        spans -= some;
    }
    w->batches[w->batch_n].spans = batch_builder_spans(&w->builder);
    enum errc rc = batch_seal(&w->builder, world_tenant(tenant),
                              w->base_ns + 700 * NS_PER_S + w->batch_n, &b, NULL);
    ensure(rc == E_OK);
    remember(w, b, first);
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
    *x = (struct sent_batch){.fate = FATE_OPEN, .may_go = w->capped};
    x->ticket.batch = make_batch(w, max_spans);
    x->ticket.done = on_done;
    w->batch_n++;
    enum errc rc = store_append(s, &x->ticket);
    if (rc != E_OK) {
        x->fate = FATE_REFUSED;
        x->result = rc;
    }
    return rc;
}

void world_expect_acked(struct world *w)
{
    for (uint32_t i = 0; i < w->batch_n; i++)
        w->batches[i].must_be_there |= w->batches[i].fate == FATE_ACKED;
}

void world_cap(struct world *w, bool capped)
{
    w->capped = capped;
    for (uint32_t i = 0; i < w->batch_n; i++)
        w->batches[i].may_go |= capped;
}

void world_forget_missing(struct world *w)
{
    for (uint32_t i = 0; i < w->batch_n; i++) {
        struct sent_batch *b = &w->batches[i];
        if (b->expired)
            continue;
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
    struct rot *damage;
    struct arena arena; /* of one trace */
};

static void check_span(struct walk *k, const struct span *s)
{
    const struct value *v = kvs_get(&s->attrs, STR("number"));
    if (!v || v->type != ATTR_INT || v->i < 1 || v->i >= k->w->span_n) {
        k->bad = "a span that nobody sent";
        return;
    }
    struct sent_span *x = &k->w->spans[v->i];
    if (x->tenant != k->tenant || !world_same_span(x->span, s))
        k->bad = "a span that is not as it was sent";
    else if (x->found && !k->damage)
        k->bad = "a span that is there twice";
    if (x->found && k->damage)
        k->damage->twice++;
    k->w->batches[x->batch].found += !x->found;
    x->found = true;
}

static void check_order(struct walk *k, const struct trace *t, const uint8_t id[16])
{
    for (uint32_t i = 0; i < t->span_count; i++) {
        const struct span *s = t->spans[i], *before = i ? t->spans[i - 1] : s;
        if (memcmp(s->trace_id, id, 16) != 0)
            k->bad = "a span of another trace";
        if (s->start_ns < before->start_ns ||
            (s->start_ns == before->start_ns && memcmp(s->span_id, before->span_id, 8) < 0))
            k->bad = "spans out of order";
    }
    if (t->spans[0]->start_ns < k->last_ns)
        k->bad = "traces out of order";
    k->last_ns = t->spans[0]->start_ns;
}

static bool check_trace(void *arg, const uint8_t id[16])
{
    struct walk *k = arg;
    struct trace *t;
    struct err e;
    enum errc rc = snap_trace(k->snap, world_tenant(k->tenant), id, &k->arena, &t, &e);
    if (rc == E_OK) {
        check_order(k, t, id);
        for (uint32_t i = 0; !k->bad && i < t->span_count; i++)
            check_span(k, t->spans[i]);
    } else if (rc == E_CORRUPT && k->damage) {
        k->damage->answers++;
    } else {
        snprintf(sentence, sizeof sentence, "a listed trace cannot be read: %s", err_msg(&e));
        k->bad = sentence;
    }
    arena_reset(&k->arena);
    return !k->bad;
}

const char *world_read(struct world *w, struct snap *snap, struct rot *damage)
{
    struct walk k = {.w = w, .snap = snap, .damage = damage};
    struct err e;
    k.arena = arena_init(64 * MIB);
    for (uint32_t i = 0; i < w->span_n; i++)
        w->spans[i].found = false;
    for (uint32_t i = 0; i < w->batch_n; i++)
        w->batches[i].found = 0;
    for (; !k.bad && k.tenant < TENANTS; k.tenant++) {
        k.last_ns = 0;
        enum errc rc = snap_each_trace(snap, world_tenant(k.tenant), 0, UINT64_MAX, check_trace, &k,
                                       &e);
        if (rc == E_CORRUPT && damage)
            damage->answers++;
        else if (rc != E_OK)
            k.bad = "traces cannot be listed";
    }
    arena_fini(&k.arena);
    return k.bad;
}

static const char *check_batches(struct world *w, bool after_crash)
{
    for (uint32_t i = 0; i < w->batch_n; i++) {
        struct sent_batch *b = &w->batches[i];
        if (b->found && b->found != b->spans)
            return "a part of a batch";
        if (b->found && b->fate == FATE_REFUSED && b->result == E_CANCELLED)
            return "a batch that was lost is back";
        if (b->found && b->expired)
            return "a batch that had expired is back";
        b->seen |= b->found > 0;
        if (b->found || (b->fate != FATE_ACKED && !b->seen))
            continue;
        b->expired |= b->may_go || b->end_ns < w->expired_ns;
        if (!b->expired && b->fate == FATE_ACKED && (b->must_be_there || !after_crash)) {
            snprintf(sentence, sizeof sentence, "acknowledged batch %u is lost", i);
            return sentence;
        }
    }
    return NULL;
}

const char *world_compare(struct world *w, struct store *s, bool after_crash)
{
    struct snap *snap = store_snap(s);
    const char *bad = world_read(w, snap, NULL);
    if (!bad)
        bad = check_batches(w, after_crash);
    if (!bad)
        bad = world_check_names(w, snap);
    snap_unref(snap);
    return bad;
}
