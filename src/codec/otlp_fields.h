/* SPDX-License-Identifier: Apache-2.0 */
/* The OTLP schema as const tables, and the walk from a request down to its spans. Private to the
 * otlp codec.
 *
 * A table has a row for each field, at the index of its number. The row says how the field looks on
 * the wire, what it is called in JSON, where a decoder puts it (an offset into a record of
 * model/batch.h) and where an encoder finds it (an offset into an object of model/trace.h). Both
 * decoders and both encoders are loops over these rows: a field exists when it has a row. Messages
 * of other signals follow by adding tables, and a kind where a row needs something new.
 *
 * Two flags handle order. Protobuf and JSON let the fields of a message come in any order, but the
 * batch builder wants a resource before its scopes, a scope before its spans, a span's attributes
 * before its events. Rows marked `early` must be built before rows marked `last`; senders write
 * them so, by ascending number. A decoder goes through a message once in the order on the wire;
 * when it meets an early field behind a last one it stops with OTLP_LATE, and the walk takes back
 * what was built and goes through the message twice, first without the last fields, then with those
 * alone. At most one retry for each of the three levels bounds the work to eight times the input.
 */
#ifndef LYMER_CODEC_OTLP_FIELDS_H
#define LYMER_CODEC_OTLP_FIELDS_H

#include "base/pb.h"
#include "codec/otlp.h"

enum otlp_kind {
    OTLP_NONE,    /* no such field */
    OTLP_ID16,    /* bytes of that length, all zero otherwise; hex in JSON */
    OTLP_ID8,     /* likewise */
    OTLP_STR,     /* string */
    OTLP_NAME,    /* string: the span's name, numbered by the builder */
    OTLP_FIXED64, /* fixed64; a string of digits in JSON */
    OTLP_FIXED32, /* fixed32 */
    OTLP_U32,     /* uint32 */
    OTLP_ENUM,    /* one byte in the record, values below limit, 0 otherwise */
    OTLP_PART,    /* a message whose fields go into the same record */
    OTLP_ATTRS,   /* repeated KeyValue */
    OTLP_EVENTS,  /* repeated Event, Link, Span, ScopeSpans, ResourceSpans */
    OTLP_LINKS,
    OTLP_SPANS,
    OTLP_SCOPES,
    OTLP_RESOURCES,
};

struct otlp_message;

struct otlp_field {
    uint8_t kind; /* enum otlp_kind */
    uint8_t wire; /* enum pb_wire */
    uint8_t limit;
    bool early, last;
    bool always; /* OTLP_PART: written also when it is empty */
    uint16_t rec_at, obj_at;
    struct str json;
    const struct otlp_message *sub;
    const char *const *names; /* OTLP_ENUM: what protobuf calls the values */
};

#define OTLP_FIELDS_MAX 17

struct otlp_message {
    const char *name;
    uint8_t count; /* of rows; fields[number], number < count */
    struct otlp_field fields[OTLP_FIELDS_MAX];
};

extern const struct otlp_message otlp_traces, otlp_resource_spans, otlp_resource, otlp_scope_spans,
    otlp_scope, otlp_span, otlp_event, otlp_link, otlp_status;

/* How a pass through a message ended. */
enum otlp_step { OTLP_DONE, OTLP_LATE, OTLP_FAILED };

/* A decoder. `fields` goes through the message at body (what that is, is the decoder's business),
 * stores scalars in the record and calls the otlp_walk functions below for the rest. */
struct otlp_walk {
    struct batch_builder *b;
    enum otlp_step (*fields)(struct otlp_walk *w, const struct otlp_message *m, void *rec,
                             const void *body);
};

enum otlp_step otlp_walk_resource_spans(struct otlp_walk *w, const void *body);
enum otlp_step otlp_walk_scope_spans(struct otlp_walk *w, const void *body);
enum otlp_step otlp_walk_span(struct otlp_walk *w, const void *body);
enum otlp_step otlp_walk_event(struct otlp_walk *w, const void *body);
enum otlp_step otlp_walk_link(struct otlp_walk *w, const void *body);

#endif
