/* SPDX-License-Identifier: Apache-2.0 */
/* The one meaning of a search, on spans of the read model; the memtable scans with it and the
 * columnar reader is tested against it. docs/internals/search.md is the rule in words.
 *
 * The tenant is not looked at: batches and blocks are chosen by tenant before. */
#ifndef LYMER_STORE_TRACE_MATCH_H
#define LYMER_STORE_TRACE_MATCH_H

#include "model/query.h"
#include "model/trace.h"

/* Does this one span satisfy all of q (time, service, operation, kind, duration, every tag)? */
bool match_span(const struct trace_query *q, const struct span *s);
/* The same on a batch record, without building a read model. For many records of one batch use
 * struct match. */
bool match_record(const struct trace_query *q, const struct batch *b, const struct span_rec *s);

/* A query prepared for one batch: names and keys are looked up once, then compared as numbers.
 * Borrows q and b. */
struct match {
    const struct trace_query *q;
    const struct batch *b;
    uint32_t name;                         /* number of the operation in the batch */
    uint32_t group;                        /* the group that was looked at last */
    bool group_ok;                         /* its service is the one that is asked for */
    bool origin_yes[QUERY_TAGS_MAX];       /* its resource or scope satisfies the tag */
    uint32_t key[QUERY_TAGS_MAX];          /* number of each tag's key, MATCH_NO_KEY when absent */
    uint32_t resource_key[QUERY_TAGS_MAX]; /* the same of tag_resource_key */
};

#define MATCH_NO_KEY UINT32_MAX

/* False: no span of the batch can match. */
MUST_CHECK bool match_begin(struct match *m, const struct trace_query *q, const struct batch *b);
bool match_next(struct match *m, const struct span_rec *s);

/* --- tags ------------------------------------------------------------------------------------ */

/* What a tag filter may find beside attributes of its key: a field of the span. */
enum tag_field {
    FIELD_NONE,
    FIELD_ERROR,          /* error */
    FIELD_KIND,           /* span.kind */
    FIELD_STATUS,         /* span.status */
    FIELD_STATUS_CODE,    /* otel.status_code */
    FIELD_STATUS_MESSAGE, /* otel.status_description */
    FIELD_TRACE_STATE,    /* w3c.tracestate */
    FIELD_SCOPE_NAME,     /* scope.name, otel.scope.name */
    FIELD_SCOPE_VERSION,  /* scope.version, otel.scope.version */
    FIELD_EVENT_NAME      /* event: any event of the span with this name */
};

/* By key and place; place TAG_ANY knows them all, the others those that live there. */
enum tag_field tag_field(const struct tag_filter *f);
/* "resource.<key>" under TAG_ANY also means <key> of the resource; else STR_NONE. */
struct str tag_resource_key(const struct tag_filter *f);

bool tag_match_kind(const struct tag_filter *f, enum span_kind kind);
/* field is FIELD_ERROR, FIELD_STATUS or FIELD_STATUS_CODE. */
bool tag_match_status(const struct tag_filter *f, enum tag_field field, enum span_status status);
/* The other fields: text that counts as absent when empty. */
bool tag_match_text(const struct tag_filter *f, struct str text);
bool tag_match_value(const struct tag_filter *f, const struct value *v);

#endif
