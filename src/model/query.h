/* SPDX-License-Identifier: Apache-2.0 */
/* What a search asks. One span must satisfy all of it together. */
#ifndef LYMER_MODEL_QUERY_H
#define LYMER_MODEL_QUERY_H

#include "base/arena.h"
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

/* What ranks a trace; docs/internals/search.md. */
enum query_order {
    ORDER_NEWEST,      /* the start of its newest matching span */
    ORDER_SLOWEST,     /* the duration of its longest matching span */
    ORDER_MOST_SPANS,  /* its spans, matching or not */
    ORDER_MOST_ERRORS, /* those of them whose status is ERROR; traces without are not listed */
    ORDER_COUNT
};

/* A matching trace and its rank. Also a place in the order of answers that no trace has. */
struct trace_hit {
    uint8_t trace_id[16];
    uint64_t value; /* what the order compares: nanoseconds or a count */
    /* Start of the span the value is of (of several the newest); of the trace's newest span when
     * the value is a count. */
    uint64_t newest_ns;
};

struct trace_query {
    struct str tenant;
    struct str service, operation;             /* empty: any */
    int kind;                                  /* enum span_kind, -1: any */
    unsigned statuses;                         /* bits 1 << enum span_status; 0: any */
    uint64_t start_min_ns, start_max_ns;       /* span start, inclusive */
    uint64_t duration_min_ns, duration_max_ns; /* inclusive; max 0: none */
    const struct tag_filter *tags;
    uint32_t tag_count;
    uint32_t limit; /* traces */
    enum query_order order;
    const struct trace_hit *after; /* only what ranks behind this; NULL: everything */
    uint64_t max_time_ns;          /* wall time the search may take; 0: any */
    uint64_t max_bytes;            /* bytes it may read from files; 0: any */
};

struct trace_hits {
    struct trace_hit *v; /* best first */
    uint32_t n;
    bool more;             /* the answer goes on behind `next` */
    struct trace_hit next; /* the `after` of the question for the rest */
    /* False: the budget ended the search. Newest and slowest first the answer is then exact as far
     * as it goes: all spans that start after (last longer than) looked_above were looked at. By a
     * count it holds the best of the traces that have a matching span which starts after it. */
    bool complete;
    uint64_t looked_above;
    /* What cannot be read is left out: blocks with something like that, and, for who reads the
     * traces to count, traces of the answer. */
    uint32_t damaged, unreadable;
    uint32_t blocks, blocks_read; /* of the time that was asked for */
    uint64_t bytes_read;
};

/* Is the answer all there is? */
static inline bool trace_hits_whole(const struct trace_hits *h)
{
    return h->complete && !h->damaged && !h->unreadable;
}

static inline bool order_counts(enum query_order o)
{
    return o == ORDER_MOST_SPANS || o == ORDER_MOST_ERRORS;
}

/* The order of answers, a total one: value, newest first, then the smaller id. */
bool trace_hit_before(const struct trace_hit *x, const struct trace_hit *y);
/* Two parts of one trace: counts add up, of spans the better one is kept. */
void trace_hit_merge(enum query_order o, struct trace_hit *into, const struct trace_hit *part);

/* "newest", "slowest", "spans", "errors". */
const char *query_order_name(enum query_order o);
MUST_CHECK bool query_order_from(struct str name, enum query_order *o);
/* "unset", "ok", "error", as a set for trace_query.statuses. */
MUST_CHECK bool query_status_from(struct str name, unsigned *statuses);
const char *query_status_name(unsigned statuses); /* of a set of one */
/* "unspecified", "internal", "server", "client", "producer", "consumer". */
MUST_CHECK bool query_kind_from(struct str name, int *kind);
const char *query_kind_name(int kind);

/* A place in an order as text, for clients to hand back. */
#define QUERY_CURSOR_BYTES 33u
#define QUERY_CURSOR_TEXT  (2 * QUERY_CURSOR_BYTES)
size_t query_cursor_put(char out[QUERY_CURSOR_TEXT], enum query_order o,
                        const struct trace_hit *at);
MUST_CHECK bool query_cursor_get(struct str text, enum query_order *o, struct trace_hit *at);

/* What was looked at and what was left out, for an answer that is not whole. */
struct str query_coverage_text(const struct trace_hits *hits, enum query_order o, struct arena *a);

#endif
