/* SPDX-License-Identifier: Apache-2.0 */
#include "model/trace.h"

#include "base/jsontext.h"
#include "base/num.h"
#include "model/value.h"

#include <stdlib.h>

const struct value *kvs_get(const struct kvs *kvs, struct str key)
{
    for (uint32_t i = 0; i < kvs->n; i++)
        if (str_eq(kvs->v[i].key, key))
            return &kvs->v[i].val;
    return NULL;
}

bool trace_add(struct trace *t, struct span *s, struct arena *a)
{
    if (t->span_count == t->span_cap) {
        uint32_t cap = t->span_cap ? t->span_cap * 2 : 16;
        struct span **spans = ARENA_ARRAY(a, struct span *, cap);
        if (!spans)
            return false;
        if (t->span_count)
            memcpy(spans, t->spans, t->span_count * sizeof *spans);
        t->spans = spans;
        t->span_cap = cap;
    }
    t->spans[t->span_count++] = s;
    return true;
}

static int span_order(const void *a, const void *b)
{
    const struct span *x = *(const struct span *const *)a, *y = *(const struct span *const *)b;
    if (x->start_ns != y->start_ns)
        return x->start_ns < y->start_ns ? -1 : 1;
    return memcmp(x->span_id, y->span_id, sizeof x->span_id);
}

void trace_sort(struct trace *t)
{
    if (t->span_count)
        qsort(t->spans, t->span_count, sizeof *t->spans, span_order);
}

bool span_warn(struct span *s, struct arena *a, struct str text)
{
    struct warning *w = ARENA_NEW(a, struct warning), **last = &s->warnings;
    if (!w)
        return false;
    w->text = text;
    while (*last)
        last = &(*last)->next;
    *last = w;
    return true;
}

/* --- from a batch --- */

struct value value_from_batch(const struct batch *b, const struct attr_rec *r)
{
    struct value v = {.type = (enum attr_type)r->type};
    switch (v.type) {
    case ATTR_STR:
    case ATTR_BYTES:
    case ATTR_ARRAY:
    case ATTR_KVLIST:
        v.s = batch_str(b, r->v.s);
        break;
    case ATTR_BOOL:
        v.b = r->v.bits != 0;
        break;
    case ATTR_DOUBLE:
        v.d = r->v.d;
        break;
    case ATTR_INT:
        v.i = r->v.i;
        break;
    case ATTR_EMPTY:
    case ATTR_TYPE_COUNT:
        break;
    }
    return v;
}

static bool kvs_of(const struct batch *b, uint32_t at, uint32_t n, struct kvs *out, struct arena *a)
{
    struct kv *v = n ? arena_alloc(a, n * sizeof *v, _Alignof(struct kv)) : NULL;
    if (n && !v)
        return false;
    for (uint32_t i = 0; i < n; i++)
        v[i] = (struct kv){batch_key(b, &b->attrs[at + i]), value_from_batch(b, &b->attrs[at + i])};
    *out = (struct kvs){v, n};
    return true;
}

/* How far back a group looks for another scope of its resource. */
#define ORIGIN_LOOK_BACK 16u

static bool same_resource(const struct batch *b, const struct group_rec *x,
                          const struct group_rec *y)
{
    return x->res_attr_count == y->res_attr_count &&
           (x->res_attr_at == y->res_attr_at || x->res_attr_count == 0) &&
           x->res_dropped == y->res_dropped &&
           str_eq(batch_str(b, x->res_schema), batch_str(b, y->res_schema));
}

/* The resource of an earlier group when group i shares it and it was made already. */
static struct resource *resource_shared(const struct batch *b, uint32_t i,
                                        const struct span_origin *groups)
{
    for (uint32_t k = 1; k <= ORIGIN_LOOK_BACK && k <= i; k++) {
        if (!same_resource(b, &b->groups[i], &b->groups[i - k]))
            break;
        if (groups[i - k].resource)
            return groups[i - k].resource;
    }
    return NULL;
}

static struct resource *resource_of(const struct batch *b, const struct group_rec *g,
                                    struct arena *a)
{
    struct resource *r = ARENA_NEW(a, struct resource);
    if (!r || !kvs_of(b, g->res_attr_at, g->res_attr_count, &r->attrs, a))
        return NULL;
    r->service = batch_str(b, g->service);
    r->dropped = g->res_dropped;
    r->schema_url = batch_str(b, g->res_schema);
    return r;
}

static bool origin_of(const struct batch *b, uint32_t i, struct span_origin *groups,
                      struct arena *a)
{
    const struct group_rec *g = &b->groups[i];
    struct resource *r = resource_shared(b, i, groups);
    struct scope *s = ARENA_NEW(a, struct scope);
    r = r ? r : resource_of(b, g, a);
    if (!r || !s || !kvs_of(b, g->scope_attr_at, g->scope_attr_count, &s->attrs, a))
        return false;
    s->name = batch_str(b, g->scope_name);
    s->version = batch_str(b, g->scope_version);
    s->dropped = g->scope_dropped;
    s->schema_url = batch_str(b, g->scope_schema);
    groups[i] = (struct span_origin){r, s};
    return true;
}

static bool events_of(const struct batch *b, const struct span_rec *r, struct span *s,
                      struct arena *a)
{
    s->event_count = r->event_count;
    s->events = r->event_count ? ARENA_ARRAY(a, struct event, r->event_count) : NULL;
    if (r->event_count && !s->events)
        return false;
    for (uint32_t i = 0; i < r->event_count; i++) {
        const struct event_rec *e = &b->events[r->event_at + i];
        s->events[i] = (struct event){
            .time_ns = e->time_ns, .name = batch_str(b, e->name), .dropped = e->dropped};
        if (!kvs_of(b, e->attr_at, e->attr_count, &s->events[i].attrs, a))
            return false;
    }
    return true;
}

static bool links_of(const struct batch *b, const struct span_rec *r, struct span *s,
                     struct arena *a)
{
    s->link_count = r->link_count;
    s->links = r->link_count ? ARENA_ARRAY(a, struct link, r->link_count) : NULL;
    if (r->link_count && !s->links)
        return false;
    for (uint32_t i = 0; i < r->link_count; i++) {
        const struct link_rec *from = &b->links[r->link_at + i];
        struct link *l = &s->links[i];
        l->trace_state = batch_str(b, from->trace_state);
        l->dropped = from->dropped;
        l->flags = from->flags;
        memcpy(l->trace_id, from->trace_id, sizeof l->trace_id);
        memcpy(l->span_id, from->span_id, sizeof l->span_id);
        if (!kvs_of(b, from->attr_at, from->attr_count, &l->attrs, a))
            return false;
    }
    return true;
}

struct span *span_from_batch(const struct batch *b, const struct span_rec *r,
                             struct span_origin *groups, struct arena *a)
{
    struct span_origin *o = &groups[r->group];
    struct span *s = ARENA_NEW(a, struct span);
    if (!s || (!o->scope && !origin_of(b, r->group, groups, a)))
        return NULL;
    memcpy(s->trace_id, r->trace_id, sizeof s->trace_id);
    memcpy(s->span_id, r->span_id, sizeof s->span_id);
    memcpy(s->parent_id, r->parent_id, sizeof s->parent_id);
    s->start_ns = r->start_ns;
    s->end_ns = r->end_ns;
    s->name = batch_name(b, r);
    s->trace_state = batch_str(b, r->trace_state);
    s->status_message = batch_str(b, r->status_message);
    s->kind = (enum span_kind)r->kind;
    s->status = (enum span_status)r->status;
    s->flags = r->flags;
    s->dropped_attrs = r->dropped_attrs;
    s->dropped_events = r->dropped_events;
    s->dropped_links = r->dropped_links;
    s->resource = o->resource;
    s->scope = o->scope;
    bool ok = kvs_of(b, r->attr_at, r->attr_count, &s->attrs, a) && events_of(b, r, s, a) &&
              links_of(b, r, s, a);
    return ok ? s : NULL;
}

/* --- to a builder --- */

void bb_attr(struct batch_builder *b, struct str key, const struct value *v)
{
    uint64_t bits = 0;
    switch (v->type) {
    case ATTR_STR:
    case ATTR_BYTES:
    case ATTR_ARRAY:
    case ATTR_KVLIST:
        bb_attr_str(b, key, v->type, v->s);
        return;
    case ATTR_BOOL:
        bits = v->b;
        break;
    case ATTR_INT:
    case ATTR_DOUBLE:
        memcpy(&bits, &v->i, sizeof bits);
        break;
    case ATTR_EMPTY:
    case ATTR_TYPE_COUNT:
        break;
    }
    bb_attr_bits(b, key, v->type, bits);
}

static void kvs_to_builder(const struct kvs *kvs, struct batch_builder *b)
{
    for (uint32_t i = 0; i < kvs->n; i++)
        bb_attr(b, kvs->v[i].key, &kvs->v[i].val);
}

void group_to_builder(const struct resource *r, const struct scope *s, struct batch_builder *b)
{
    struct group_rec *g = bb_group_begin(b);
    if (!g)
        return;
    g->res_dropped = r->dropped;
    g->res_schema = bb_string(b, r->schema_url);
    kvs_to_builder(&r->attrs, b);
    g = bb_group_scope(b);
    if (!g)
        return;
    g->scope_name = bb_string(b, s->name);
    g->scope_version = bb_string(b, s->version);
    g->scope_schema = bb_string(b, s->schema_url);
    g->scope_dropped = s->dropped;
    kvs_to_builder(&s->attrs, b);
    bb_group_end(b);
}

void span_to_builder(const struct span *s, struct batch_builder *b)
{
    struct span_rec *r = bb_span(b);
    if (!r)
        return;
    memcpy(r->trace_id, s->trace_id, sizeof r->trace_id);
    memcpy(r->span_id, s->span_id, sizeof r->span_id);
    memcpy(r->parent_id, s->parent_id, sizeof r->parent_id);
    r->start_ns = s->start_ns;
    r->end_ns = s->end_ns;
    r->kind = (uint8_t)s->kind;
    r->status = (uint8_t)s->status;
    r->flags = s->flags;
    r->dropped_attrs = s->dropped_attrs;
    r->dropped_events = s->dropped_events;
    r->dropped_links = s->dropped_links;
    r->trace_state = bb_string(b, s->trace_state);
    r->status_message = bb_string(b, s->status_message);
    bb_name(b, r, s->name);
    kvs_to_builder(&s->attrs, b);
    for (uint32_t i = 0; i < s->event_count; i++) {
        struct event_rec *e = bb_event(b);
        if (!e)
            break;
        e->time_ns = s->events[i].time_ns;
        e->name = bb_string(b, s->events[i].name);
        e->dropped = s->events[i].dropped;
        kvs_to_builder(&s->events[i].attrs, b);
    }
    for (uint32_t i = 0; i < s->link_count; i++) {
        const struct link *from = &s->links[i];
        struct link_rec *l = bb_link(b);
        if (!l)
            break;
        memcpy(l->trace_id, from->trace_id, sizeof l->trace_id);
        memcpy(l->span_id, from->span_id, sizeof l->span_id);
        l->trace_state = bb_string(b, from->trace_state);
        l->dropped = from->dropped;
        l->flags = from->flags;
        kvs_to_builder(&from->attrs, b);
    }
    bb_span_end(b);
}

/* --- text --- */

static void json_value(struct buf *out, const struct value *v, struct arena *a, unsigned depth);

/* By key; equal keys as they were sent, which is how their views lie in the message. */
static int key_order(const void *a, const void *b)
{
    const struct kv *x = a, *y = b;
    int c = str_cmp(x->key, y->key);
    return c ? c : (x->key.p > y->key.p) - (x->key.p < y->key.p);
}

/* A map's entries by key, of equal keys only the last. */
static struct kvs map_sorted(const struct value *v, struct arena *a)
{
    struct value_iter it = value_iter_begin(v);
    struct kv kv;
    uint32_t n = 0, kept = 0;
    while (value_iter_next(&it, &kv.key, &kv.val))
        n++;
    struct kv *all = n ? ARENA_ARRAY(a, struct kv, n) : NULL;
    if (!all)
        return (struct kvs){NULL, 0};
    it = value_iter_begin(v);
    for (uint32_t i = 0; i < n && value_iter_next(&it, &kv.key, &kv.val); i++)
        all[i] = kv;
    qsort(all, n, sizeof *all, key_order);
    for (uint32_t i = 0; i < n; i++)
        if (i + 1 == n || !str_eq(all[i].key, all[i + 1].key))
            all[kept++] = all[i];
    return (struct kvs){all, kept};
}

static void json_map(struct buf *out, const struct value *v, struct arena *a, unsigned depth)
{
    struct kvs kvs = map_sorted(v, a);
    buf_add_char(out, '{');
    for (uint32_t i = 0; i < kvs.n; i++) {
        if (i)
            buf_add_char(out, ',');
        jsontext_str(out, kvs.v[i].key);
        buf_add_char(out, ':');
        json_value(out, &kvs.v[i].val, a, depth + 1);
    }
    buf_add_char(out, '}');
}

static void json_array(struct buf *out, const struct value *v, struct arena *a, unsigned depth)
{
    struct value_iter it = value_iter_begin(v);
    struct str key;
    struct value element;
    bool first = true;
    buf_add_char(out, '[');
    while (value_iter_next(&it, &key, &element)) {
        if (!first)
            buf_add_char(out, ',');
        first = false;
        json_value(out, &element, a, depth + 1);
    }
    buf_add_char(out, ']');
}

static void json_value(struct buf *out, const struct value *v, struct arena *a, unsigned depth)
{
    char text[NUM_TEXT_MAX];
    switch (depth > BATCH_DEPTH_MAX ? ATTR_EMPTY : v->type) {
    case ATTR_STR:
        jsontext_str(out, v->s);
        break;
    case ATTR_BOOL:
        buf_add_c(out, v->b ? "true" : "false");
        break;
    case ATTR_INT:
        buf_add(out, text, num_put_i64(text, v->i));
        break;
    case ATTR_DOUBLE:
        jsontext_double(out, v->d);
        break;
    case ATTR_BYTES:
        buf_add_char(out, '"');
        num_put_base64(out, v->s);
        buf_add_char(out, '"');
        break;
    case ATTR_ARRAY:
        json_array(out, v, a, depth);
        break;
    case ATTR_KVLIST:
        json_map(out, v, a, depth);
        break;
    case ATTR_EMPTY:
    case ATTR_TYPE_COUNT:
        buf_add_c(out, "null");
        break;
    }
}

struct str value_text(const struct value *v, struct arena *a)
{
    char text[NUM_TEXT_MAX];
    struct buf out = buf_init(8 * BATCH_IMAGE_MAX);
    switch (v->type) {
    case ATTR_STR:
        return v->s;
    case ATTR_BOOL:
        return v->b ? STR("true") : STR("false");
    case ATTR_INT:
        return arena_str(a, str_of(text, num_put_i64(text, v->i)));
    case ATTR_DOUBLE:
        return arena_str(a, str_of(text, num_put_double(text, v->d)));
    case ATTR_BYTES:
        num_put_base64(&out, v->s);
        break;
    case ATTR_ARRAY:
    case ATTR_KVLIST:
        json_value(&out, v, a, 0);
        break;
    case ATTR_EMPTY:
    case ATTR_TYPE_COUNT:
        return STR("");
    }
    struct str copy = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return copy;
}
