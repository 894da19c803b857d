/* SPDX-License-Identifier: Apache-2.0 */
/* The read model: spans as a query returns them and encoders write them. Plain structs in a query's
 * arena; strings are views that live as long as the arena (or the batch they were read from, which
 * the reader keeps alive). Adjusters change it in place: it is the query's own copy. */
#ifndef LYMER_MODEL_TRACE_H
#define LYMER_MODEL_TRACE_H

#include "base/arena.h"
#include "model/batch.h"

/* type is an enum attr_type; s for STR, BYTES and, serialised, ARRAY and KVLIST. */
struct value {
    enum attr_type type;
    union {
        struct str s;
        int64_t i;
        double d;
        bool b;
    };
};

struct kv {
    struct str key;
    struct value val;
};

struct kvs {
    struct kv *v;
    uint32_t n;
};

struct resource {
    struct str service; /* service.name, or the placeholder for it (batch.c) */
    struct kvs attrs;
    uint32_t dropped;
    struct str schema_url;
};

struct scope {
    struct str name, version;
    struct kvs attrs;
    uint32_t dropped;
    struct str schema_url;
};

struct event {
    uint64_t time_ns;
    struct str name;
    struct kvs attrs;
    uint32_t dropped;
};

struct link {
    uint8_t trace_id[16], span_id[8];
    struct str trace_state;
    struct kvs attrs;
    uint32_t dropped, flags;
};

struct warning {
    struct warning *next;
    struct str text;
};

struct span {
    uint8_t trace_id[16], span_id[8], parent_id[8];
    uint64_t start_ns, end_ns;
    struct str name, trace_state, status_message;
    enum span_kind kind;
    enum span_status status;
    uint32_t flags;
    uint32_t dropped_attrs, dropped_events, dropped_links;
    const struct resource *resource; /* shared by spans of one origin: compare pointers to group */
    const struct scope *scope;
    struct kvs attrs;
    struct event *events;
    struct link *links;
    uint32_t event_count, link_count;
    struct warning *warnings; /* added by adjusters, oldest first */
};

/* Spans of one trace in order of start, then span id. */
struct trace {
    uint8_t id[16];
    struct span **spans;
    uint32_t span_count, span_cap;
    struct warning *warnings;
};

static inline bool id_is_zero(const uint8_t *id, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= id[i];
    return any == 0;
}

static inline bool span_has_parent(const struct span *s)
{
    return !id_is_zero(s->parent_id, 8);
}

static inline uint64_t span_duration_ns(const struct span *s)
{
    return s->end_ns > s->start_ns ? s->end_ns - s->start_ns : 0;
}

/* The value under key, NULL when absent (the first, when a client sent several). */
const struct value *kvs_get(const struct kvs *kvs, struct str key);

/* False when the arena is exhausted. */
MUST_CHECK bool trace_add(struct trace *t, struct span *s, struct arena *a);
void trace_sort(struct trace *t);
MUST_CHECK bool span_warn(struct span *s, struct arena *a, struct str text);

/* A span of a batch in the read model. Resources and scopes are made once per (batch, group), and
 * groups of one resource share it: `groups` is an array of batch->head->group_count entries, zeroed
 * by the caller before the first span of that batch. NULL when the arena is exhausted. The strings
 * stay views into the batch. */
struct span_origin {
    struct resource *resource;
    struct scope *scope;
};
struct span *span_from_batch(const struct batch *b, const struct span_rec *s,
                             struct span_origin *groups, struct arena *a);
struct value value_from_batch(const struct batch *b, const struct attr_rec *r);
/* One attribute of what was begun last in the builder. */
void bb_attr(struct batch_builder *b, struct str key, const struct value *v);
/* The same into a builder: a group, then spans that are of it (import, generator, tests). */
void group_to_builder(const struct resource *r, const struct scope *s, struct batch_builder *b);
void span_to_builder(const struct span *s, struct batch_builder *b);

/* The value as the text that searches compare and tables show: strings as they are, true/false,
 * integers, the shortest double, bytes in base64, arrays and maps as JSON. A view into the value or
 * into the arena. */
struct str value_text(const struct value *v, struct arena *a);

#endif
