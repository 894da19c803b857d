/* SPDX-License-Identifier: Apache-2.0 */
/* What a search asks. One span must satisfy all of it together. */
#ifndef LYMER_MODEL_QUERY_H
#define LYMER_MODEL_QUERY_H

#include "model/batch.h"

/* Where a tag filter looks. TAG_ANY is Jaeger's rule: span, resource, scope, event and link
 * attributes; the event name under the key `event`; and the fields that Jaeger shows as tags:
 * span.kind, error, span.status, otel.status_code, otel.status_description, otel.scope.name and
 * otel.scope.version (also scope.name and scope.version), w3c.tracestate; `resource.<key>` looks in
 * the resource only. docs/internals/search.md. */
enum tag_place { TAG_ANY, TAG_SPAN, TAG_RESOURCE, TAG_SCOPE, TAG_EVENT, TAG_LINK };
enum tag_op { TAG_EQUALS, TAG_EXISTS };

struct tag_filter {
    enum tag_place place;
    enum tag_op op;
    struct str key, value; /* compared as text: value_text() */
};

#define QUERY_TAGS_MAX  64u
#define QUERY_LIMIT_MAX 20000u

struct trace_query {
    struct str tenant;
    struct str service, operation;             /* empty: any */
    int kind;                                  /* enum span_kind, -1: any */
    uint64_t start_min_ns, start_max_ns;       /* span start, inclusive */
    uint64_t duration_min_ns, duration_max_ns; /* inclusive; max 0: none */
    const struct tag_filter *tags;
    uint32_t tag_count;
    uint32_t limit; /* traces */
};

/* A matching trace. Hits come newest first: by the start of the newest matching span, then by trace
 * id. */
struct trace_hit {
    uint8_t trace_id[16];
    uint64_t newest_ns;
};

struct trace_hits {
    struct trace_hit *v;
    uint32_t n;
    bool complete; /* false: a budget ended the scan; older matches may exist */
};

#endif
