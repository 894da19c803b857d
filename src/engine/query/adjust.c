/* SPDX-License-Identifier: Apache-2.0 */
/* Jaeger's adjusters, in Jaeger's order and with its warnings (adjust_skew.c holds the clock).
 *
 *   1. end before start     Jaeger repairs it when the span comes in; we keep what was sent and
 *                           repair the copy that is read
 *   2. shared ids           a server span with the id of a client span (Zipkin's habit) gets a
 *                           fresh id and becomes the client span's child
 *   3. order                attributes by key, type, value; events by time
 *   4. duplicates           spans equal in every field, resource and scope
 *   5. clock skew
 *   6. IP tags              numbers under `ip` and `peer.ipv4` become dotted quads
 *   7. library attributes   telemetry.sdk.* and telemetry.distro.* move to the resource
 *   8. empty links          links without a trace id go
 *
 * A trace may have a million spans, all their ids equal or in one chain a million deep: everything
 * here is a pass, a sort or a hash look-up, nothing recurses. Resources are shared between spans
 * and constant; step 3 replaces them by owned copies, equal ones by the same copy, so that from
 * then on "same resource" is "same pointer". */
#include "engine/query/adjust.h"

#include "base/num.h"
#include "model/kvs.h"

#include <stdlib.h>

bool adjust_index(struct adjust *x)
{
    x->repeated_ids = false;
    if (!idmap_init(&x->ids, x->t->span_count, x->a))
        return false;
    for (uint32_t i = 0; i < x->t->span_count; i++) {
        bool fresh;
        idmap_put(&x->ids, span_key(x->t->spans[i]->span_id), i, &fresh);
        x->repeated_ids |= !fresh;
    }
    return true;
}

static void warn(struct adjust *x, struct span *s, struct str text)
{
    /* Exhaustion latches in the arena; adjust_trace's caller looks there. */
    if (!span_warn(s, x->a, text))
        x->a->failed = true;
}

/* --- 1. end before start --- */

/* As Go prints a time.Time in UTC, which the warning quotes. */
static size_t put_go_time(char *out, uint64_t ns)
{
    size_t n = num_put_rfc3339(out, ns);
    for (size_t i = 0; i < n; i++)
        if (out[i] == 'T')
            out[i] = ' ';
    static const char utc[] = " +0000 UTC";
    memcpy(out + n - 1, utc, sizeof utc - 1);
    return n - 1 + sizeof utc - 1;
}

static void repair_ends(struct adjust *x)
{
    for (uint32_t i = 0; i < x->t->span_count; i++) {
        struct span *s = x->t->spans[i];
        if (s->end_ns >= s->start_ns)
            continue;
        uint64_t end = s->start_ns + (s->start_ns < UINT64_MAX);
        char was[NUM_TEXT_MAX + 16], is[NUM_TEXT_MAX + 16];
        size_t was_n = put_go_time(was, s->end_ns), is_n = put_go_time(is, end);
        warn(x, s,
             arena_printf(x->a,
                          "Negative duration detected, sanitizing end timestamp. Original end "
                          "timestamp: %.*s, adjusted to: %.*s",
                          (int)was_n, was, (int)is_n, is));
        s->end_ns = end;
    }
}

/* --- 2. shared ids --- */

/* Children of a renamed id, the renamed spans' siblings included, follow it. */
static void follow_renamed(struct trace *t, const struct idmap *renamed, const uint64_t *fresh_ids)
{
    for (uint32_t i = 0; i < t->span_count; i++) {
        struct span *s = t->spans[i];
        const uint32_t *at = idmap_get(renamed, span_key(s->parent_id));
        if (at && span_key(s->span_id) != fresh_ids[*at])
            store_u64be(s->parent_id, fresh_ids[*at]);
    }
}

/* The next number no span has as its id. There are fewer spans than ids, so there is one. */
static uint64_t unused_id(const struct idmap *ids, uint64_t *last)
{
    do
        ++*last;
    while (idmap_get(ids, *last));
    return *last;
}

static bool split_shared_ids(struct adjust *x)
{
    struct trace *t = x->t;
    if (!x->repeated_ids)
        return true;
    struct idmap clients, renamed;
    uint64_t *fresh_ids = ARENA_ARRAY(x->a, uint64_t, t->span_count);
    if (!fresh_ids || !idmap_init(&clients, t->span_count, x->a) ||
        !idmap_init(&renamed, t->span_count, x->a))
        return false;
    bool fresh;
    for (uint32_t i = 0; i < t->span_count; i++)
        if (t->spans[i]->kind == KIND_CLIENT)
            idmap_put(&clients, span_key(t->spans[i]->span_id), i, &fresh);
    uint64_t last = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < t->span_count; i++) {
        struct span *s = t->spans[i];
        uint64_t shared = span_key(s->span_id);
        if (s->kind != KIND_SERVER || !idmap_get(&clients, shared))
            continue;
        fresh_ids[count] = unused_id(&x->ids, &last);
        *idmap_put(&renamed, shared, count, &fresh) = count;
        memcpy(s->parent_id, s->span_id, 8);
        store_u64be(s->span_id, fresh_ids[count++]);
    }
    if (!count)
        return true;
    x->moved = true;
    follow_renamed(t, &renamed, fresh_ids);
    return adjust_index(x);
}

/* --- 3. order --- */

static int event_cmp(const void *a, const void *b)
{
    const struct event *const *x = a, *const *y = b;
    if ((*x)->time_ns != (*y)->time_ns)
        return (*x)->time_ns < (*y)->time_ns ? -1 : 1;
    return (*x > *y) - (*x < *y); /* as they were */
}

static void sort_events(struct span *s, struct arena *a)
{
    bool sorted = true;
    for (uint32_t i = 1; i < s->event_count && sorted; i++)
        sorted = s->events[i - 1].time_ns <= s->events[i].time_ns;
    if (sorted)
        return;
    struct event **order = ARENA_ARRAY(a, struct event *, s->event_count);
    struct event *events = ARENA_ARRAY(a, struct event, s->event_count);
    if (!order || !events)
        return;
    for (uint32_t i = 0; i < s->event_count; i++)
        order[i] = &s->events[i];
    qsort(order, s->event_count, sizeof(struct event *), event_cmp);
    for (uint32_t i = 0; i < s->event_count; i++)
        events[i] = *order[i];
    s->events = events;
}

static bool copy_sorted(struct kvs *kvs, struct arena *a)
{
    struct kv *v = ARENA_ARRAY(a, struct kv, kvs->n);
    if (kvs->n && !v)
        return false;
    if (kvs->n)
        memcpy(v, kvs->v, kvs->n * sizeof *v);
    kvs->v = v;
    kvs_sort(kvs);
    return true;
}

static void *own_resource(const void *thing, struct arena *a)
{
    struct resource *own = ARENA_NEW(a, struct resource);
    if (!own)
        return NULL;
    memcpy(own, thing, sizeof *own);
    return copy_sorted(&own->attrs, a) ? own : NULL;
}

static void *own_scope(const void *thing, struct arena *a)
{
    struct scope *own = ARENA_NEW(a, struct scope);
    if (!own)
        return NULL;
    memcpy(own, thing, sizeof *own);
    return copy_sorted(&own->attrs, a) ? own : NULL;
}

static uint64_t hash_resource(const void *thing, uint64_t seed)
{
    return resource_hash(thing, seed);
}

static uint64_t hash_scope(const void *thing, uint64_t seed)
{
    return scope_hash(thing, seed);
}

static bool eq_resource(const void *a, const void *b)
{
    return resource_eq(a, b);
}

static bool eq_scope(const void *a, const void *b)
{
    return scope_eq(a, b);
}

struct canon_type {
    void *(*own)(const void *thing, struct arena *a);
    uint64_t (*hash)(const void *thing, uint64_t seed);
    bool (*eq)(const void *a, const void *b);
};

static const struct canon_type resource_type = {own_resource, hash_resource, eq_resource};
static const struct canon_type scope_type = {own_scope, hash_scope, eq_scope};

static bool canon_init(struct canon *c, size_t most, struct arena *a)
{
    c->list = ARENA_ARRAY(a, void *, most);
    /* Both the old and the owned address lead to the copy. */
    return c->list && idmap_init(&c->by_address, 2 * most, a) &&
           idmap_init(&c->by_content, most, a);
}

/* The owned copy; NULL when the arena is exhausted. */
static void *canon_of(struct canon *c, const struct canon_type *type, const void *thing,
                      struct arena *a)
{
    bool fresh;
    uint32_t *at = idmap_put(&c->by_address, (uintptr_t)thing, 0, &fresh);
    if (!fresh)
        return c->list[*at];
    void *own = type->own(thing, a);
    if (!own)
        return NULL;
    uint64_t hash = type->hash(own, c->by_content.seed);
    uint32_t *alike = idmap_put(&c->by_content, hash, c->count, &fresh);
    if (!fresh && type->eq(c->list[*alike], own)) {
        *at = *alike;
        return c->list[*alike];
    }
    *at = c->count;
    idmap_put(&c->by_address, (uintptr_t)own, c->count, &fresh);
    c->list[c->count++] = own;
    return own;
}

struct resource *adjust_resource(const struct adjust *x, const struct span *s, uint32_t *at)
{
    const uint32_t *found = s->resource
                                ? idmap_get(&x->resources.by_address, (uintptr_t)s->resource)
                                : NULL;
    if (!found)
        return NULL;
    *at = *found;
    return x->resources.list[*found];
}

static bool own_origins(struct adjust *x)
{
    struct span **spans = x->t->spans;
    size_t resources = 1, scopes = 1;
    for (uint32_t i = 1; i < x->t->span_count; i++) {
        resources += spans[i]->resource != spans[i - 1]->resource;
        scopes += spans[i]->scope != spans[i - 1]->scope;
    }
    if (!canon_init(&x->resources, resources, x->a) || !canon_init(&x->scopes, scopes, x->a))
        return false;
    for (uint32_t i = 0; i < x->t->span_count; i++) {
        struct span *s = spans[i];
        if (s->resource &&
            !(s->resource = canon_of(&x->resources, &resource_type, s->resource, x->a)))
            return false;
        if (s->scope && !(s->scope = canon_of(&x->scopes, &scope_type, s->scope, x->a)))
            return false;
    }
    return true;
}

static bool sort_collections(struct adjust *x)
{
    for (uint32_t i = 0; i < x->t->span_count; i++) {
        struct span *s = x->t->spans[i];
        kvs_sort(&s->attrs);
        sort_events(s, x->a);
        for (uint32_t k = 0; k < s->event_count; k++)
            kvs_sort(&s->events[k].attrs);
        for (uint32_t k = 0; k < s->link_count; k++)
            kvs_sort(&s->links[k].attrs);
    }
    return own_origins(x);
}

/* --- 4. duplicates --- */

static bool event_eq(const struct event *a, const struct event *b)
{
    return a->time_ns == b->time_ns && a->dropped == b->dropped && str_eq(a->name, b->name) &&
           kvs_eq(&a->attrs, &b->attrs);
}

static bool link_eq(const struct link *a, const struct link *b)
{
    return memcmp(a->trace_id, b->trace_id, 16) == 0 && memcmp(a->span_id, b->span_id, 8) == 0 &&
           a->dropped == b->dropped && a->flags == b->flags &&
           str_eq(a->trace_state, b->trace_state) && kvs_eq(&a->attrs, &b->attrs);
}

static bool span_eq(const struct span *a, const struct span *b)
{
    if (a->start_ns != b->start_ns || a->end_ns != b->end_ns || a->kind != b->kind ||
        a->status != b->status || a->flags != b->flags || a->resource != b->resource ||
        a->scope != b->scope || a->event_count != b->event_count ||
        a->link_count != b->link_count || a->dropped_attrs != b->dropped_attrs ||
        a->dropped_events != b->dropped_events || a->dropped_links != b->dropped_links)
        return false;
    if (memcmp(a->span_id, b->span_id, 8) || memcmp(a->parent_id, b->parent_id, 8) ||
        !str_eq(a->name, b->name) || !str_eq(a->trace_state, b->trace_state) ||
        !str_eq(a->status_message, b->status_message) || !kvs_eq(&a->attrs, &b->attrs))
        return false;
    for (uint32_t i = 0; i < a->event_count; i++)
        if (!event_eq(&a->events[i], &b->events[i]))
            return false;
    for (uint32_t i = 0; i < a->link_count; i++)
        if (!link_eq(&a->links[i], &b->links[i]))
            return false;
    return true;
}

/* Of what span_eq compares, enough to tell honest spans apart. */
static uint64_t span_hash(const struct span *s, uint64_t seed)
{
    uint64_t h = hash_u64(s->start_ns, hash_u64(s->end_ns, seed));
    h = hash64(s->span_id, 8, hash64(s->parent_id, 8, h));
    h = hash_u64((uintptr_t)s->resource, hash_u64((uintptr_t)s->scope, h));
    h = hash_u64((uint64_t)s->kind << 8 | (uint64_t)s->status, hash_u64(s->flags, h));
    h = hash_str(s->trace_state, hash_str(s->status_message, hash_str(s->name, h)));
    for (uint32_t i = 0; i < s->event_count; i++)
        h = kvs_hash(&s->events[i].attrs, hash_str(s->events[i].name, h ^ s->events[i].time_ns));
    for (uint32_t i = 0; i < s->link_count; i++)
        h = kvs_hash(&s->links[i].attrs, hash64(s->links[i].span_id, 8, h));
    return kvs_hash(&s->attrs, h);
}

static bool drop_duplicates(struct adjust *x)
{
    struct trace *t = x->t;
    if (!x->repeated_ids)
        return true;
    struct idmap seen;
    if (!idmap_init(&seen, t->span_count, x->a))
        return false;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->span_count; i++) {
        struct span *s = t->spans[i];
        bool fresh;
        uint32_t *at = idmap_put(&seen, span_hash(s, seen.seed), kept, &fresh);
        if (fresh || !span_eq(t->spans[*at], s))
            t->spans[kept++] = s;
    }
    if (kept == t->span_count)
        return true;
    t->span_count = kept;
    return adjust_index(x);
}

/* --- 6. IP tags --- */

static void dot_addresses(struct kvs *kvs, struct arena *a)
{
    for (uint32_t i = 0; i < kvs->n; i++) {
        struct value *v = &kvs->v[i].val;
        if (!str_eq(kvs->v[i].key, STR("ip")) && !str_eq(kvs->v[i].key, STR("peer.ipv4")))
            continue;
        uint32_t ip;
        if (v->type == ATTR_INT)
            ip = (uint32_t)(uint64_t)v->i;
        else if (v->type == ATTR_DOUBLE && v->d > -9.2e18 && v->d < 9.2e18)
            ip = (uint32_t)(uint64_t)(int64_t)v->d;
        else
            continue;
        struct str text = arena_printf(a, "%u.%u.%u.%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255,
                                       ip & 255);
        *v = (struct value){.type = ATTR_STR, .s = text};
    }
}

static void normalize_ips(struct adjust *x)
{
    for (uint32_t i = 0; i < x->resources.count; i++) {
        struct resource *r = x->resources.list[i];
        dot_addresses(&r->attrs, x->a);
    }
    for (uint32_t i = 0; i < x->t->span_count; i++)
        dot_addresses(&x->t->spans[i]->attrs, x->a);
}

/* --- 7. library attributes --- */

static bool is_library_key(struct str key)
{
    static const struct str keys[] = {{"telemetry.sdk.language", 22},
                                      {"telemetry.sdk.name", 18},
                                      {"telemetry.sdk.version", 21},
                                      {"telemetry.distro.name", 21},
                                      {"telemetry.distro.version", 24}};
    if (!str_starts(key, STR("telemetry.")))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (str_eq(key, keys[i]))
            return true;
    return false;
}

/* At most five a resource, so growing by copying is cheap enough. */
static bool resource_add(struct resource *r, const struct kv *kv, struct arena *a)
{
    struct kv *v = ARENA_ARRAY(a, struct kv, r->attrs.n + 1);
    if (!v)
        return false;
    if (r->attrs.n)
        memcpy(v, r->attrs.v, r->attrs.n * sizeof *v);
    v[r->attrs.n++] = *kv;
    r->attrs.v = v;
    return true;
}

/* True when the attribute now stands at the resource and leaves the span. A key that a span has
 * ten thousand times is warned of once. */
static bool move_attribute(struct adjust *x, struct span *s, struct resource *r,
                           const struct kv *kv, bool repeated)
{
    const struct value *there = kvs_get(&r->attrs, kv->key);
    if (!there)
        return resource_add(r, kv, x->a);
    if (there->type == ATTR_STR && kv->val.type == ATTR_STR && str_eq(there->s, kv->val.s))
        return true;
    if (!repeated)
        warn(x, s,
             arena_printf(x->a, "conflicting values between Span and Resource for attribute %.*s",
                          STR_ARG(kv->key)));
    return false;
}

static void move_library_attributes(struct adjust *x)
{
    for (uint32_t i = 0; i < x->t->span_count; i++) {
        struct span *s = x->t->spans[i];
        uint32_t kept = 0, at;
        for (uint32_t k = 0; k < s->attrs.n; k++) {
            struct kv kv = s->attrs.v[k];
            struct resource *r = is_library_key(kv.key) ? adjust_resource(x, s, &at) : NULL;
            bool repeated = kept && str_eq(s->attrs.v[kept - 1].key, kv.key);
            if (!r || !move_attribute(x, s, r, &kv, repeated))
                s->attrs.v[kept++] = kv;
        }
        s->attrs.n = kept;
    }
}

/* --- 8. empty links --- */

static void remove_empty_links(struct adjust *x)
{
    for (uint32_t i = 0; i < x->t->span_count; i++) {
        struct span *s = x->t->spans[i];
        uint32_t kept = 0;
        for (uint32_t k = 0; k < s->link_count; k++)
            if (!id_is_zero(s->links[k].trace_id, 16))
                s->links[kept++] = s->links[k];
        /* One warning a link, hung on behind the last: span_warn would walk to it each time. */
        struct warning **end = &s->warnings;
        while (kept < s->link_count && *end)
            end = &(*end)->next;
        for (; kept < s->link_count; s->link_count--) {
            *end = ARENA_NEW(x->a, struct warning);
            if (!*end)
                return;
            (*end)->text = STR("Invalid span link removed");
            end = &(*end)->next;
        }
    }
}

void adjust_trace(struct trace *t, const struct adjust_config *c, struct arena *a)
{
    struct adjust x = {.t = t, .config = c, .a = a};
    if (!t->span_count)
        return;
    repair_ends(&x);
    if (!adjust_index(&x) || !split_shared_ids(&x) || !sort_collections(&x) ||
        !drop_duplicates(&x) || !adjust_clock_skew(&x))
        return; /* latched in the arena */
    normalize_ips(&x);
    move_library_attributes(&x);
    remove_empty_links(&x);
    if (x.moved)
        trace_sort(t);
}
