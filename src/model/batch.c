/* SPDX-License-Identifier: Apache-2.0 */
/* Building, sealing and opening batches. The image is described byte by byte in
 * docs/format/batch.md.
 *
 * The builder keeps one growing array per section of the image, so that sealing is one allocation
 * and a copy per section. What makes it fast is a guess: spans of one name come from one place in a
 * program and carry the same attribute keys in the same order, mostly with the same values. So the
 * builder keeps a cursor, `expect`, into its own attribute array: at bb_name it is set to the first
 * attribute of the last span with that name and moves along with the attributes that are added. An
 * attribute is first compared with the expected one; only when the guess fails is its key hashed.
 * A value equal to the expected one's shares its bytes. A wrong guess costs time and nothing else:
 * every comparison is of the bytes themselves.
 *
 * Invariants
 *  1. attrs, events and links of one owner are contiguous, in the order they were added.
 *  2. spans.n counts finished spans only: the span being built lies behind them, and taking it back
 *     is setting the counts of attrs, events and links back to what its record says.
 *  3. Heap bytes that a record or a dictionary refers to are never cut off: the heap is only rolled
 *     back when no dictionary has grown since (span_strings).
 *  4. After a failure to grow, `failed` stays set until the reset; records are whole or absent, so
 *     the builder can be used as before and the seal refuses.
 *  5. A dictionary's notes: for a key, the last value added when its guess failed, as index + 1 of
 *     the attribute; for a name, the first attribute of its last span, likewise. Both are hints and
 *     checked against attrs.n before use.
 *  6. The heap has BYTES_WIDE bytes behind its end, for comparing and copying in fixed steps
 *     (model/batch_add.h). */
#include "model/batch_add.h"

#include <stdlib.h>

#define SLOTS_MIN     256u
#define VEC_MIN_BYTES 4096u
#define VEC_WARM_MAX  (4 * MIB) /* what a reset keeps of one array */

struct dict_slot {
    uint32_t hash, id1; /* id + 1; 0: free */
};

static_assert(sizeof(struct batch_head) == 64 && sizeof(struct group_rec) == 64, "image layout");
static_assert(sizeof(struct span_rec) == 120 && sizeof(struct attr_rec) == 16, "image layout");
static_assert(sizeof(struct event_rec) == 32 && sizeof(struct link_rec) == 48, "image layout");

/* --- arrays and dictionaries --- */

static bool vec_grow(struct batch_builder *b, struct batch_vec *v, size_t more, size_t size)
{
    size_t need = v->n + more, cap = max_size(v->cap * (size_t)2, need);
    cap = min_size(cap, b->image_max / size);
    char *p = cap >= need && !b->failed ? realloc(v->p, cap * size) : NULL;
    if (!p) {
        b->failed = true;
        return false;
    }
    v->p = p;
    v->cap = (uint32_t)cap;
    return true;
}

static inline bool vec_room(struct batch_builder *b, struct batch_vec *v, size_t more, size_t size)
{
    return LIKELY(v->cap - v->n >= more) || vec_grow(b, v, more, size);
}

static void vec_init(struct batch_vec *v, size_t size)
{
    *v = (struct batch_vec){.p = xmalloc(VEC_MIN_BYTES), .cap = (uint32_t)(VEC_MIN_BYTES / size)};
}

static void vec_reset(struct batch_vec *v, size_t size)
{
    v->n = 0;
    if (v->cap * size > VEC_WARM_MAX) {
        free(v->p);
        vec_init(v, size);
    }
}

static inline struct span_rec *span_now(const struct batch_builder *b)
{
    return (struct span_rec *)(void *)b->spans.p + b->spans.n;
}

static inline struct group_rec *group_now(const struct batch_builder *b)
{
    return (struct group_rec *)(void *)b->groups.p + b->groups.n - 1;
}

static inline uint32_t *dict_note(const struct batch_dict *d, uint32_t id)
{
    return (uint32_t *)(void *)d->notes.p + id;
}

static inline bool heap_has(const struct batch_builder *b, struct sref at, struct str s)
{
    return at.len == s.n && (s.n == 0 || memcmp(b->heap.p + at.off, s.p, s.n) == 0);
}

static struct sref heap_add(struct batch_builder *b, struct str s)
{
    if (s.n == 0 || !vec_room(b, &b->heap, s.n + BYTES_WIDE, 1))
        return (struct sref){0, 0};
    struct sref at = {b->heap.n, (uint32_t)s.n};
    memcpy(b->heap.p + at.off, s.p, s.n);
    b->heap.n += at.len;
    return at;
}

static void dict_init(struct batch_dict *d)
{
    vec_init(&d->refs, sizeof(struct sref));
    vec_init(&d->notes, sizeof(uint32_t));
    d->slots = xcalloc(SLOTS_MIN, sizeof *d->slots);
    d->mask = SLOTS_MIN - 1;
}

static void dict_fini(struct batch_dict *d)
{
    free(d->refs.p);
    free(d->notes.p);
    free(d->slots);
}

static void dict_reset(struct batch_dict *d)
{
    vec_reset(&d->refs, sizeof(struct sref));
    vec_reset(&d->notes, sizeof(uint32_t));
    if (d->mask >= 16 * SLOTS_MIN) {
        free(d->slots);
        d->slots = xcalloc(SLOTS_MIN, sizeof *d->slots);
        d->mask = SLOTS_MIN - 1;
    } else {
        memset(d->slots, 0, (d->mask + 1) * sizeof *d->slots);
    }
}

static bool dict_rehash(struct batch_builder *b, struct batch_dict *d)
{
    uint32_t mask = d->mask * 2 + 1;
    struct dict_slot *slots = calloc((size_t)mask + 1, sizeof *slots);
    if (!slots) {
        b->failed = true;
        return false;
    }
    for (uint32_t i = 0; i <= d->mask; i++) {
        uint32_t to = d->slots[i].hash & mask;
        while (d->slots[i].id1 && slots[to].id1)
            to = (to + 1) & mask;
        if (d->slots[i].id1)
            slots[to] = d->slots[i];
    }
    free(d->slots);
    d->slots = slots;
    d->mask = mask;
    return true;
}

enum { BAD_RESOURCE, BAD_SCOPE, BAD_SPAN };

/* What was begun last cannot be kept for this reason. */
static void mark_bad(struct batch_builder *b, enum span_reject why)
{
    int whose = b->owner == OWNER_RESOURCE ? BAD_RESOURCE
                : b->owner == OWNER_SCOPE  ? BAD_SCOPE
                                           : BAD_SPAN;
    b->bad[whose] |= (uint8_t)(1u << why);
}

static uint32_t dict_add(struct batch_builder *b, struct batch_dict *d, struct str s,
                         struct dict_slot *slot, uint32_t hash)
{
    if (UNLIKELY(d == &b->keys && d->refs.n >= b->keys_max)) {
        mark_bad(b, REJECT_KEYS);
        return 0;
    }
    if (!vec_room(b, &d->refs, 1, sizeof(struct sref)) ||
        !vec_room(b, &d->notes, 1, sizeof(uint32_t)))
        return 0;
    struct sref at = heap_add(b, s);
    if (b->failed)
        return 0;
    uint32_t id = d->refs.n++;
    d->notes.n++;
    memcpy(d->refs.p + id * sizeof at, &at, sizeof at);
    *dict_note(d, id) = 0;
    *slot = (struct dict_slot){hash, id + 1};
    if (d->refs.n * 2 > d->mask)
        (void)dict_rehash(b, d);
    return id;
}

/* The number of s, given now if it is new. 0 after a failure, when the image will not be sealed,
 * and for a key too many, when what was begun last will not be kept. */
static uint32_t dict_id(struct batch_builder *b, struct batch_dict *d, struct str s)
{
    /* Seeded by an address, so that nobody outside can choose strings that collide. */
    uint32_t hash = (uint32_t)hash_str(s, (uint64_t)(uintptr_t)b);
    for (uint32_t i = hash & d->mask;; i = (i + 1) & d->mask) {
        struct dict_slot *slot = &d->slots[i];
        if (slot->id1 == 0)
            return dict_add(b, d, s, slot, hash);
        if (slot->hash == hash && heap_has(b, batch_dict_ref(d, slot->id1 - 1), s))
            return slot->id1 - 1;
    }
}

/* --- life --- */

void batch_builder_init(struct batch_builder *b)
{
    *b = (struct batch_builder){
        .min_ns = UINT64_MAX, .keys_max = UINT32_MAX, .image_max = BATCH_IMAGE_MAX};
    dict_init(&b->keys);
    dict_init(&b->names);
    vec_init(&b->groups, sizeof(struct group_rec));
    vec_init(&b->spans, sizeof(struct span_rec));
    vec_init(&b->attrs, sizeof(struct attr_rec));
    vec_init(&b->events, sizeof(struct event_rec));
    vec_init(&b->links, sizeof(struct link_rec));
    vec_init(&b->heap, 1);
}

void batch_builder_fini(struct batch_builder *b)
{
    dict_fini(&b->keys);
    dict_fini(&b->names);
    free(b->groups.p);
    free(b->spans.p);
    free(b->attrs.p);
    free(b->events.p);
    free(b->links.p);
    free(b->heap.p);
}

void batch_builder_reset(struct batch_builder *b)
{
    struct batch_builder next = {
        .min_ns = UINT64_MAX, .keys_max = b->keys_max, .image_max = b->image_max};
    dict_reset(&b->keys);
    dict_reset(&b->names);
    vec_reset(&b->groups, sizeof(struct group_rec));
    vec_reset(&b->spans, sizeof(struct span_rec));
    vec_reset(&b->attrs, sizeof(struct attr_rec));
    vec_reset(&b->events, sizeof(struct event_rec));
    vec_reset(&b->links, sizeof(struct link_rec));
    vec_reset(&b->heap, 1);
    next.keys = b->keys, next.names = b->names, next.groups = b->groups, next.spans = b->spans;
    next.attrs = b->attrs, next.events = b->events, next.links = b->links, next.heap = b->heap;
    *b = next;
}

enum errc batch_builder_too_big(const struct batch_builder *b, struct err *e)
{
    return fail(e, E_TOO_BIG, "the spans of one request take more than %zu MiB",
                b->image_max / MIB);
}

uint32_t batch_builder_rejected(const struct batch_builder *b)
{
    uint32_t sum = 0;
    for (int r = 0; r < REJECT_COUNT; r++)
        sum += b->rejected[r];
    return sum;
}

const char *span_reject_text(enum span_reject r)
{
    static const char *const text[REJECT_COUNT] = {
        [REJECT_TRACE_ID] = "trace id is missing, zero or not 16 bytes",
        [REJECT_SPAN_ID] = "span id is missing, zero or not 8 bytes",
        [REJECT_DEPTH] = "attribute values are nested too deep",
        [REJECT_KEYS] = "too many different attribute keys in one request",
        [REJECT_LIMIT] = "too many attributes, events or links, or too long a name or key",
    };
    return r < REJECT_COUNT ? text[r] : "";
}

/* --- attributes --- */

void bb_too_deep(struct batch_builder *b)
{
    mark_bad(b, REJECT_DEPTH);
}

/* The name under which searches, the catalogue and answers know the resource: service.name, or
 * Jaeger's placeholder for what is missing there. */
static void find_service(struct batch_builder *b, struct group_rec *g)
{
    struct str placeholder = g->res_attr_count ? STR("missing-service-name")
                                               : STR("OTLPResourceNoServiceName");
    for (uint32_t i = 0; i < g->res_attr_count; i++) {
        const struct attr_rec *a = bb_attrs(b) + g->res_attr_at + i;
        if (!heap_has(b, batch_dict_ref(&b->keys, a->key), STR("service.name")))
            continue;
        if (a->type == ATTR_STR && a->v.s.len) {
            g->service = a->v.s;
            return;
        }
        placeholder = a->type == ATTR_STR ? STR("empty-service-name")
                                          : STR("service-name-wrong-type");
        break;
    }
    g->service = bb_string(b, placeholder);
}

/* Ends the attributes of what was begun last. */
static void owner_close(struct batch_builder *b)
{
    uint32_t count = b->attrs.n - b->owner_at;
    switch ((enum batch_owner)b->owner) {
    case OWNER_NONE:
        break;
    case OWNER_RESOURCE:
        group_now(b)->res_attr_count = count;
        find_service(b, group_now(b));
        break;
    case OWNER_SCOPE:
        group_now(b)->scope_attr_count = count;
        break;
    case OWNER_SPAN:
        span_now(b)->attr_count = count;
        break;
    case OWNER_EVENT:
        ((struct event_rec *)(void *)b->events.p)[b->events.n - 1].attr_count = count;
        break;
    case OWNER_LINK:
        ((struct link_rec *)(void *)b->links.p)[b->links.n - 1].attr_count = count;
        break;
    }
    b->owner = OWNER_NONE;
}

static void owner_open(struct batch_builder *b, enum batch_owner owner)
{
    b->owner = (uint8_t)owner;
    b->owner_at = b->attrs.n;
}

/* Finds the key by its hash and puts the cursor where the next guess should be. */
static uint32_t key_unexpected(struct batch_builder *b, struct str key)
{
    uint32_t id = dict_id(b, &b->keys, key);
    const struct attr_rec *attrs = bb_attrs(b);
    for (uint32_t i = b->expect; i < b->attrs.n && i < b->expect + 4; i++) {
        if (attrs[i].key == id) {
            b->expect = i + 1; /* some keys were left out this time */
            break;
        }
    }
    return id;
}

/* A new attribute under key, its value not yet set; *like is the one it resembles, or NULL. NULL
 * when there is no room. */
static inline struct attr_rec *attr_add(struct batch_builder *b, struct str key,
                                        const struct attr_rec **like)
{
    if (UNLIKELY(key.n > BATCH_KEY_MAX || b->attrs.n - b->owner_at >= BATCH_SPAN_ATTRS_MAX)) {
        mark_bad(b, REJECT_LIMIT);
        return NULL;
    }
    if (UNLIKELY(!vec_room(b, &b->attrs, 1, sizeof(struct attr_rec))))
        return NULL;
    struct attr_rec *attrs = bb_attrs(b), *a = &attrs[b->attrs.n], *guess = &attrs[b->expect];
    if (LIKELY(b->expect < b->attrs.n && heap_has(b, batch_dict_ref(&b->keys, guess->key), key))) {
        b->expect++;
        a->key = guess->key;
        *like = guess;
    } else {
        a->key = key_unexpected(b, key);
        uint32_t *note = b->failed ? NULL : dict_note(&b->keys, a->key);
        *like = note && *note && *note <= b->attrs.n ? &attrs[*note - 1] : NULL;
        if (note)
            *note = b->attrs.n + 1;
    }
    memset(a->zero, 0, sizeof a->zero);
    b->attrs.n++;
    return a;
}

void bb_attr_str(struct batch_builder *b, struct str key, enum attr_type type, struct str value)
{
    const struct attr_rec *like;
    struct attr_rec *a = attr_add(b, key, &like);
    if (UNLIKELY(!a))
        return;
    a->type = (uint8_t)type;
    if (like && like->type == type && heap_has(b, like->v.s, value))
        a->v.s = like->v.s;
    else
        a->v.s = heap_add(b, value);
}

void bb_attr_bits(struct batch_builder *b, struct str key, enum attr_type type, uint64_t bits)
{
    const struct attr_rec *like;
    struct attr_rec *a = attr_add(b, key, &like);
    if (UNLIKELY(!a))
        return;
    a->type = (uint8_t)type;
    a->v.bits = bits;
}

struct sref bb_string(struct batch_builder *b, struct str s)
{
    return heap_add(b, s);
}

/* --- groups --- */

struct group_rec *bb_group_begin(struct batch_builder *b)
{
    owner_close(b);
    if (b->groups.n && b->spans.n == b->scope_spans) {
        const struct group_rec *g = group_now(b);
        b->attrs.n = b->spans.n == b->resource_spans ? g->res_attr_at : g->scope_attr_at;
        b->groups.n--;
    }
    b->resource_spans = b->scope_spans = b->spans.n;
    b->bad[BAD_RESOURCE] = b->bad[BAD_SCOPE] = 0;
    if (b->failed || !vec_room(b, &b->groups, 1, sizeof(struct group_rec)))
        return NULL;
    b->groups.n++;
    *group_now(b) = (struct group_rec){.res_attr_at = b->attrs.n, .scope_attr_at = b->attrs.n};
    owner_open(b, OWNER_RESOURCE);
    return group_now(b);
}

struct group_rec *bb_group_scope(struct batch_builder *b)
{
    bool first = b->owner == OWNER_RESOURCE;
    owner_close(b);
    if (b->failed || b->groups.n == 0)
        return NULL;
    struct group_rec g = *group_now(b);
    if (!first && b->spans.n == b->scope_spans)
        b->attrs.n = g.scope_attr_at; /* in place of the one before, which got no span */
    else if (!first && vec_room(b, &b->groups, 1, sizeof g))
        b->groups.n++;
    *group_now(b) = (struct group_rec){.service = g.service,
                                       .res_attr_at = g.res_attr_at,
                                       .res_attr_count = g.res_attr_count,
                                       .res_dropped = g.res_dropped,
                                       .res_schema = g.res_schema,
                                       .scope_attr_at = b->attrs.n};
    b->scope_spans = b->spans.n;
    b->bad[BAD_SCOPE] = 0;
    owner_open(b, OWNER_SCOPE);
    return b->failed ? NULL : group_now(b);
}

void bb_group_end(struct batch_builder *b)
{
    owner_close(b);
}

/* --- spans --- */

struct span_rec *bb_span(struct batch_builder *b)
{
    owner_close(b);
    if (b->failed || b->groups.n == 0 || !vec_room(b, &b->spans, 1, sizeof(struct span_rec)))
        return NULL;
    struct span_rec *s = span_now(b);
    *s = (struct span_rec){.group = b->groups.n - 1,
                           .name = UINT32_MAX,
                           .attr_at = b->attrs.n,
                           .event_at = b->events.n,
                           .link_at = b->links.n};
    b->bad[BAD_SPAN] = 0;
    b->span_heap = b->heap.n;
    b->span_strings = b->keys.refs.n + b->names.refs.n;
    if (b->spans.n)
        b->expect = s[-1].attr_at;
    owner_open(b, OWNER_SPAN);
    return s;
}

void bb_name(struct batch_builder *b, struct span_rec *s, struct str name)
{
    if (name.n > BATCH_KEY_MAX) {
        b->bad[BAD_SPAN] |= 1u << REJECT_LIMIT;
        name.n = 0;
    }
    s->name = dict_id(b, &b->names, name);
    if (b->failed)
        return;
    uint32_t note = *dict_note(&b->names, s->name);
    if (note && b->attrs.n == s->attr_at)
        b->expect = note - 1;
}

struct event_rec *bb_event(struct batch_builder *b)
{
    owner_close(b);
    if (b->events.n - span_now(b)->event_at >= BATCH_SPAN_ATTRS_MAX) {
        b->bad[BAD_SPAN] |= 1u << REJECT_LIMIT;
        return NULL;
    }
    if (b->failed || !vec_room(b, &b->events, 1, sizeof(struct event_rec)))
        return NULL;
    struct event_rec *e = (struct event_rec *)(void *)b->events.p + b->events.n++;
    *e = (struct event_rec){.attr_at = b->attrs.n};
    owner_open(b, OWNER_EVENT);
    return e;
}

struct link_rec *bb_link(struct batch_builder *b)
{
    owner_close(b);
    if (b->links.n - span_now(b)->link_at >= BATCH_SPAN_ATTRS_MAX) {
        b->bad[BAD_SPAN] |= 1u << REJECT_LIMIT;
        return NULL;
    }
    if (b->failed || !vec_room(b, &b->links, 1, sizeof(struct link_rec)))
        return NULL;
    struct link_rec *l = (struct link_rec *)(void *)b->links.p + b->links.n++;
    *l = (struct link_rec){.attr_at = b->attrs.n};
    owner_open(b, OWNER_LINK);
    return l;
}

static bool is_zero(const uint8_t *id, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= id[i];
    return any == 0;
}

/* The limits that are easier to check at the end than at every place where a record is filled. */
static bool span_strings_fit(const struct batch_builder *b, const struct span_rec *s)
{
    const struct event_rec *e = (const struct event_rec *)(const void *)b->events.p + s->event_at;
    const struct link_rec *l = (const struct link_rec *)(const void *)b->links.p + s->link_at;
    bool fit = s->trace_state.len <= BATCH_KEY_MAX;
    for (uint32_t i = 0; i < s->event_count; i++)
        fit &= e[i].name.len <= BATCH_KEY_MAX;
    for (uint32_t i = 0; i < s->link_count; i++)
        fit &= l[i].trace_state.len <= BATCH_KEY_MAX;
    return fit;
}

static unsigned span_check(struct batch_builder *b, const struct span_rec *s)
{
    unsigned bad = b->bad[BAD_RESOURCE] | b->bad[BAD_SCOPE] | b->bad[BAD_SPAN];
    bad |= (unsigned)is_zero(s->trace_id, sizeof s->trace_id) << REJECT_TRACE_ID;
    bad |= (unsigned)is_zero(s->span_id, sizeof s->span_id) << REJECT_SPAN_ID;
    bad |= (unsigned)!span_strings_fit(b, s) << REJECT_LIMIT;
    if (b->spans.n == b->scope_spans) { /* the group's first */
        uint32_t count = group_now(b)->res_attr_count;
        if (b->group_attrs + count > BATCH_GROUP_ATTRS_MAX)
            bad |= 1u << REJECT_LIMIT;
        else if (!bad)
            b->group_attrs += count;
    }
    return bad;
}

bool bb_span_end(struct batch_builder *b)
{
    if (b->failed)
        return false;
    owner_close(b);
    struct span_rec *s = span_now(b);
    s->event_count = b->events.n - s->event_at;
    s->link_count = b->links.n - s->link_at;
    unsigned bad = span_check(b, s);
    if (UNLIKELY(bad)) {
        b->rejected[__builtin_ctz(bad)]++;
        bb_span_abort(b);
        return false;
    }
    if (UNLIKELY(s->name == UINT32_MAX))
        s->name = dict_id(b, &b->names, STR(""));
    if (UNLIKELY(b->failed))
        return false;
    *dict_note(&b->names, s->name) = s->attr_at + 1;
    b->min_ns = min_u64(b->min_ns, s->start_ns);
    b->max_ns = max_u64(b->max_ns, s->start_ns);
    b->spans.n++;
    return true;
}

void bb_span_abort(struct batch_builder *b)
{
    const struct span_rec *s = span_now(b);
    b->owner = OWNER_NONE;
    if (b->failed)
        return;
    b->attrs.n = s->attr_at;
    b->events.n = s->event_at;
    b->links.n = s->link_at;
    if (b->span_strings == b->keys.refs.n + b->names.refs.n)
        b->heap.n = b->span_heap;
}

struct bb_mark bb_mark(const struct batch_builder *b)
{
    struct bb_mark m = {.groups = b->groups.n,
                        .spans = b->spans.n,
                        .attrs = b->attrs.n,
                        .events = b->events.n,
                        .links = b->links.n,
                        .owner_at = b->owner_at,
                        .resource_spans = b->resource_spans,
                        .scope_spans = b->scope_spans,
                        .group_attrs = b->group_attrs,
                        .min_ns = b->min_ns,
                        .max_ns = b->max_ns,
                        .owner = b->owner};
    memcpy(m.rejected, b->rejected, sizeof m.rejected);
    memcpy(m.bad, b->bad, sizeof m.bad);
    return m;
}

void bb_rewind(struct batch_builder *b, const struct bb_mark *m)
{
    b->groups.n = m->groups;
    b->spans.n = m->spans;
    b->attrs.n = m->attrs;
    b->events.n = m->events;
    b->links.n = m->links;
    b->owner_at = m->owner_at;
    b->resource_spans = m->resource_spans;
    b->scope_spans = m->scope_spans;
    b->group_attrs = m->group_attrs;
    b->min_ns = m->min_ns;
    b->max_ns = m->max_ns;
    b->owner = m->owner;
    memcpy(b->rejected, m->rejected, sizeof m->rejected);
    memcpy(b->bad, m->bad, sizeof m->bad);
}

/* --- sealing --- */

#define IMAGE_AT 16 /* multiple of; behind struct batch */

/* Where each section of an image lies. */
struct layout {
    uint64_t tenant, groups, keys, names, spans, attrs, events, links, heap, end;
};

static struct layout image_layout(const struct batch_head *h)
{
    struct layout l = {.tenant = sizeof *h};
    l.groups = l.tenant + round_up(h->tenant_len, 8);
    l.keys = l.groups + h->group_count * (uint64_t)sizeof(struct group_rec);
    l.names = l.keys + h->key_count * (uint64_t)sizeof(struct sref);
    l.spans = l.names + h->name_count * (uint64_t)sizeof(struct sref);
    l.attrs = l.spans + h->span_count * (uint64_t)sizeof(struct span_rec);
    l.events = l.attrs + h->attr_count * (uint64_t)sizeof(struct attr_rec);
    l.links = l.events + h->event_count * (uint64_t)sizeof(struct event_rec);
    l.heap = l.links + h->link_count * (uint64_t)sizeof(struct link_rec);
    l.end = l.heap + h->heap_len;
    return l;
}

/* A batch with room for an image of image_len bytes behind it, its one reference the caller's. */
static struct batch *batch_new(uint64_t image_len)
{
    size_t at = round_up(sizeof(struct batch), IMAGE_AT);
    struct batch *b = malloc(at + image_len);
    if (!b)
        return NULL;
    *b = (struct batch){.image_len = (uint32_t)image_len, .head = (void *)((char *)b + at)};
    atomic_init(&b->refs, 1);
    return b;
}

static void batch_point(struct batch *b, const struct layout *l)
{
    const char *image = (const char *)b->head;
    b->tenant = str_of(image + l->tenant, b->head->tenant_len);
    b->groups = (const void *)(image + l->groups);
    b->keys = (const void *)(image + l->keys);
    b->names = (const void *)(image + l->names);
    b->spans = (const void *)(image + l->spans);
    b->attrs = (const void *)(image + l->attrs);
    b->events = (const void *)(image + l->events);
    b->links = (const void *)(image + l->links);
    b->heap = image + l->heap;
}

static char *section(char *to, const void *from, size_t bytes)
{
    if (bytes)
        memcpy(to, from, bytes);
    return to + bytes;
}

static void image_write(char *at, const struct batch_head *h, struct str tenant,
                        const struct batch_builder *b)
{
    at = section(at, h, sizeof *h);
    at = section(at, tenant.p, tenant.n);
    at = section(at, "\0\0\0\0\0\0\0", round_up(tenant.n, 8) - tenant.n);
    at = section(at, b->groups.p, b->groups.n * sizeof(struct group_rec));
    at = section(at, b->keys.refs.p, b->keys.refs.n * sizeof(struct sref));
    at = section(at, b->names.refs.p, b->names.refs.n * sizeof(struct sref));
    at = section(at, b->spans.p, b->spans.n * sizeof(struct span_rec));
    at = section(at, b->attrs.p, b->attrs.n * sizeof(struct attr_rec));
    at = section(at, b->events.p, b->events.n * sizeof(struct event_rec));
    at = section(at, b->links.p, b->links.n * sizeof(struct link_rec));
    section(at, b->heap.p, b->heap.n);
}

enum errc batch_seal(struct batch_builder *b, struct str tenant, uint64_t received_ns,
                     struct batch **out, struct err *e)
{
    owner_close(b);
    if (tenant.n > BATCH_TENANT_MAX)
        return fail(e, E_INVALID, "tenant name is longer than %u bytes", BATCH_TENANT_MAX);
    struct batch_head h = {.magic = BATCH_MAGIC,
                           .version = BATCH_VERSION,
                           .tenant_len = (uint16_t)tenant.n,
                           .received_ns = received_ns,
                           .min_ns = b->min_ns,
                           .max_ns = b->max_ns,
                           .group_count = b->groups.n,
                           .key_count = b->keys.refs.n,
                           .name_count = b->names.refs.n,
                           .span_count = b->spans.n,
                           .attr_count = b->attrs.n,
                           .event_count = b->events.n,
                           .link_count = b->links.n,
                           .heap_len = b->heap.n};
    struct layout l = image_layout(&h);
    if (b->failed || l.end > b->image_max)
        return batch_builder_too_big(b, e);
    struct batch *batch = batch_new(l.end);
    if (!batch)
        return fail(e, E_NO_MEMORY, "no memory for a batch of %llu bytes",
                    (unsigned long long)l.end);
    image_write((char *)(uintptr_t)batch->head, &h, tenant, b);
    batch_point(batch, &l);
    *out = batch;
    return E_OK;
}

/* --- opening --- */

/* The sections of an image whose counts are known to fit, and what is still to be checked. */
struct image_check {
    const struct batch *b;
    uint64_t attrs, events, links; /* owned so far: each at most once */
    uint64_t min_ns, max_ns;
};

static bool sref_ok(const struct batch *b, struct sref s)
{
    return (uint64_t)s.off + s.len <= b->head->heap_len;
}

static bool range_ok(uint64_t at, uint64_t count, uint64_t total, uint64_t *owned)
{
    *owned += count;
    return at + count <= total && *owned <= total && count <= BATCH_SPAN_ATTRS_MAX;
}

static bool strings_ok(const struct batch *b, const struct sref *s, uint32_t n)
{
    bool ok = true;
    for (uint32_t i = 0; i < n; i++)
        ok &= sref_ok(b, s[i]) && s[i].len <= BATCH_KEY_MAX;
    return ok;
}

static bool groups_ok(struct image_check *c)
{
    const struct batch_head *h = c->b->head;
    uint64_t resource_attrs = 0;
    for (uint32_t i = 0; i < h->group_count; i++) {
        const struct group_rec *g = &c->b->groups[i];
        uint64_t shared = 0; /* a resource's attributes may belong to several groups */
        resource_attrs += g->res_attr_count;
        if (!sref_ok(c->b, g->service) || !sref_ok(c->b, g->res_schema) ||
            !sref_ok(c->b, g->scope_schema) || !sref_ok(c->b, g->scope_name) ||
            !sref_ok(c->b, g->scope_version) ||
            !range_ok(g->res_attr_at, g->res_attr_count, h->attr_count, &shared) ||
            !range_ok(g->scope_attr_at, g->scope_attr_count, h->attr_count, &c->attrs))
            return false;
    }
    return resource_attrs <= BATCH_GROUP_ATTRS_MAX + BATCH_SPAN_ATTRS_MAX;
}

static bool spans_ok(struct image_check *c)
{
    const struct batch_head *h = c->b->head;
    for (uint32_t i = 0; i < h->span_count; i++) {
        const struct span_rec *s = &c->b->spans[i];
        if (s->group >= h->group_count || s->name >= h->name_count || s->kind >= KIND_COUNT ||
            s->status >= STATUS_COUNT || s->trace_state.len > BATCH_KEY_MAX ||
            !sref_ok(c->b, s->trace_state) || !sref_ok(c->b, s->status_message) ||
            !range_ok(s->attr_at, s->attr_count, h->attr_count, &c->attrs) ||
            !range_ok(s->event_at, s->event_count, h->event_count, &c->events) ||
            !range_ok(s->link_at, s->link_count, h->link_count, &c->links) ||
            is_zero(s->trace_id, sizeof s->trace_id) || is_zero(s->span_id, sizeof s->span_id))
            return false;
        c->min_ns = min_u64(c->min_ns, s->start_ns);
        c->max_ns = max_u64(c->max_ns, s->start_ns);
    }
    return c->min_ns == h->min_ns && c->max_ns == h->max_ns;
}

static bool attrs_ok(const struct batch *b)
{
    for (uint32_t i = 0; i < b->head->attr_count; i++) {
        const struct attr_rec *a = &b->attrs[i];
        bool ok;
        switch (a->type) {
        case ATTR_EMPTY:
            ok = a->v.bits == 0;
            break;
        case ATTR_BOOL:
            ok = a->v.bits <= 1;
            break;
        case ATTR_INT:
        case ATTR_DOUBLE:
            ok = true;
            break;
        default:
            ok = a->type < ATTR_TYPE_COUNT && sref_ok(b, a->v.s);
        }
        if (!ok || a->key >= b->head->key_count)
            return false;
    }
    return true;
}

static bool events_ok(struct image_check *c)
{
    const struct batch_head *h = c->b->head;
    for (uint32_t i = 0; i < h->event_count; i++) {
        const struct event_rec *e = &c->b->events[i];
        if (!sref_ok(c->b, e->name) || e->name.len > BATCH_KEY_MAX ||
            !range_ok(e->attr_at, e->attr_count, h->attr_count, &c->attrs))
            return false;
    }
    return true;
}

static bool links_ok(struct image_check *c)
{
    const struct batch_head *h = c->b->head;
    for (uint32_t i = 0; i < h->link_count; i++) {
        const struct link_rec *l = &c->b->links[i];
        if (!sref_ok(c->b, l->trace_state) || l->trace_state.len > BATCH_KEY_MAX ||
            !range_ok(l->attr_at, l->attr_count, h->attr_count, &c->attrs))
            return false;
    }
    return true;
}

/* The head alone: after this every section lies inside the image. */
static enum errc head_check(struct str image, struct batch_head *h, struct layout *l, struct err *e)
{
    if (image.n < sizeof *h)
        return fail(e, E_TRUNCATED, "batch of %zu bytes ends in its head", image.n);
    memcpy(h, image.p, sizeof *h);
    if (h->magic != BATCH_MAGIC || h->version == 0)
        return fail(e, E_CORRUPT, "not a batch");
    if (h->version > BATCH_VERSION)
        return fail(e, E_VERSION, "batch of version %u, this program knows up to %u", h->version,
                    BATCH_VERSION);
    *l = image_layout(h);
    if (l->end > image.n)
        return fail(e, E_TRUNCATED, "batch of %llu bytes ends after %zu",
                    (unsigned long long)l->end, image.n);
    if (l->end < image.n || image.n > BATCH_IMAGE_MAX || h->tenant_len > BATCH_TENANT_MAX)
        return fail(e, E_CORRUPT, "batch has impossible sizes");
    return E_OK;
}

static const char *sections_check(const struct batch *b)
{
    struct image_check c = {.b = b, .min_ns = UINT64_MAX};
    if (!strings_ok(b, b->keys, b->head->key_count))
        return "keys";
    if (!strings_ok(b, b->names, b->head->name_count))
        return "names";
    if (!groups_ok(&c))
        return "groups";
    if (!spans_ok(&c))
        return "spans";
    if (!attrs_ok(b))
        return "attributes";
    if (!events_ok(&c))
        return "events";
    return links_ok(&c) ? NULL : "links";
}

enum errc batch_open(struct str image, struct batch **out, struct err *e)
{
    struct batch_head h;
    struct layout l;
    enum errc code = head_check(image, &h, &l, e);
    if (code != E_OK)
        return code;
    struct batch *b = batch_new(image.n);
    if (!b)
        return fail(e, E_NO_MEMORY, "no memory for a batch of %zu bytes", image.n);
    memcpy((char *)(uintptr_t)b->head, image.p, image.n);
    batch_point(b, &l);
    const char *damaged = sections_check(b);
    if (damaged) {
        batch_unref(b);
        return fail(e, E_CORRUPT, "batch has damaged %s", damaged);
    }
    *out = b;
    return E_OK;
}

struct batch *batch_ref(const struct batch *b)
{
    struct batch *shared = (struct batch *)(uintptr_t)b;
    atomic_fetch_add_explicit(&shared->refs, 1, memory_order_relaxed);
    return shared;
}

void batch_unref(const struct batch *b)
{
    struct batch *shared = (struct batch *)(uintptr_t)b;
    if (b && atomic_fetch_sub_explicit(&shared->refs, 1, memory_order_acq_rel) == 1)
        free(shared);
}

size_t batch_bytes(const struct batch *b)
{
    return round_up(sizeof *b, IMAGE_AT) + b->image_len;
}
