/* SPDX-License-Identifier: Apache-2.0 */
/* The write model: a batch of spans as one flat image.
 *
 * Every receiver builds spans with a `struct batch_builder`; batch_seal() lays them out as one
 * contiguous image (docs/format/batch.md). The same bytes are the payload of a write-ahead log
 * record, the content of the memtable and the input of the block builder: nothing is serialised
 * twice. Records point at strings by offset into the image's heap, so an image read back from a log
 * is used in place after batch_open() has checked every offset in it.
 *
 * Within a batch attribute keys and span names are numbered once; spans carry the numbers. String
 * values are not interned, but a value equal to the one under the same key in the last span of the
 * same name shares its bytes (`same offset` is a cheap hint that two values are equal; different
 * offsets say nothing).
 *
 * Arrays and maps (ATTR_ARRAY, ATTR_KVLIST) are kept as the serialised OTLP ArrayValue /
 * KeyValueList message, checked for shape and depth when they came in: lossless, and read only when
 * someone looks (model/value.h). */
#ifndef LYMER_MODEL_BATCH_H
#define LYMER_MODEL_BATCH_H

#include "base/err.h"
#include "base/str.h"
#include "base/hash.h"

#include <stdatomic.h>

enum attr_type {
    ATTR_EMPTY,
    ATTR_STR,
    ATTR_BOOL,
    ATTR_INT,
    ATTR_DOUBLE,
    ATTR_BYTES,
    ATTR_ARRAY,
    ATTR_KVLIST,
    ATTR_TYPE_COUNT
};

enum span_kind {
    KIND_UNSPECIFIED,
    KIND_INTERNAL,
    KIND_SERVER,
    KIND_CLIENT,
    KIND_PRODUCER,
    KIND_CONSUMER,
    KIND_COUNT
};
enum span_status { STATUS_UNSET, STATUS_OK, STATUS_ERROR, STATUS_COUNT };

/* Limits of what one batch may hold; named in docs/limits.md. */
#define BATCH_IMAGE_MAX      (256 * MIB)
#define BATCH_DEPTH_MAX      32u        /* nesting of attribute values */
#define BATCH_SPAN_ATTRS_MAX 65536u     /* attributes, events, links of one span, each */
#define BATCH_KEYS_MAX       65536u     /* distinct attribute keys that one request may bring */
#define BATCH_KEY_MAX        (64 * KIB) /* bytes of an attribute key, span or event name, trace state */
#define BATCH_TENANT_MAX     128u
/* Resource attributes summed over the groups of a batch: what a reader that visits each group does
 * at most. */
#define BATCH_GROUP_ATTRS_MAX (4u << 20)

/* Bytes [off, off+len) of the heap. */
struct sref {
    uint32_t off, len;
};

union attr_value {
    struct sref s; /* STR, BYTES, ARRAY, KVLIST */
    int64_t i;     /* INT; BOOL as 0 or 1 */
    double d;
    uint64_t bits;
};

struct attr_rec {
    uint32_t key; /* index into keys */
    uint8_t type; /* enum attr_type */
    uint8_t zero[3];
    union attr_value v;
};

/* One resource and scope; spans of a batch share few of these. */
struct group_rec {
    struct sref service; /* service.name, or a placeholder that says why not (batch.c) */
    uint32_t res_attr_at, res_attr_count;
    uint32_t scope_attr_at, scope_attr_count;
    uint32_t res_dropped, scope_dropped;
    struct sref res_schema, scope_schema, scope_name, scope_version;
};

struct event_rec {
    uint64_t time_ns;
    struct sref name;
    uint32_t attr_at, attr_count;
    uint32_t dropped, zero;
};

struct link_rec {
    uint8_t trace_id[16];
    uint8_t span_id[8];
    struct sref trace_state;
    uint32_t attr_at, attr_count;
    uint32_t dropped, flags;
};

struct span_rec {
    uint8_t trace_id[16];
    uint8_t span_id[8];
    uint8_t parent_id[8]; /* zero: none */
    uint64_t start_ns, end_ns;
    uint32_t group; /* index into groups */
    uint32_t name;  /* index into names */
    uint32_t attr_at, attr_count;
    uint32_t event_at, event_count;
    uint32_t link_at, link_count;
    struct sref trace_state, status_message;
    uint32_t flags;
    uint32_t dropped_attrs, dropped_events, dropped_links;
    uint8_t kind, status;
    uint8_t zero[6];
};

/* The head of an image; the sections follow in this order, each 8-byte aligned. */
struct batch_head {
    uint32_t magic; /* BATCH_MAGIC */
    uint16_t version;
    uint16_t tenant_len;
    uint64_t received_ns;    /* wall clock when it was sealed */
    uint64_t min_ns, max_ns; /* of span starts; min > max when there are no spans */
    uint32_t group_count, key_count, name_count, span_count;
    uint32_t attr_count, event_count, link_count, heap_len;
    /* tenant bytes, padded to 8; groups; keys (sref); names (sref); spans; attrs; events; links;
     * heap */
};

#define BATCH_MAGIC   0x3142594cu /* "LYB1" */
#define BATCH_VERSION 1

/* A sealed batch: an image and where its sections are. Immutable, shared by reference count. */
struct batch {
    _Atomic uint32_t refs;
    uint32_t image_len;
    const struct batch_head *head;
    struct str tenant;
    const struct group_rec *groups;
    const struct sref *keys, *names;
    const struct span_rec *spans;
    const struct attr_rec *attrs;
    const struct event_rec *events;
    const struct link_rec *links;
    const char *heap;
};

static inline struct str batch_str(const struct batch *b, struct sref s)
{
    return (struct str){b->heap + s.off, s.len};
}

static inline struct str batch_name(const struct batch *b, const struct span_rec *s)
{
    return batch_str(b, b->names[s->name]);
}

static inline struct str batch_key(const struct batch *b, const struct attr_rec *a)
{
    return batch_str(b, b->keys[a->key]);
}

static inline struct str batch_image(const struct batch *b)
{
    return (struct str){(const char *)b->head, b->image_len};
}

struct batch *batch_ref(const struct batch *b);
void batch_unref(const struct batch *b);
/* What holding the batch costs. */
size_t batch_bytes(const struct batch *b);

/* A batch over a copy of `image`, after every count, offset, index and enum in it has been checked
 * and found inside: E_CORRUPT, E_TRUNCATED or E_VERSION otherwise. */
MUST_CHECK enum errc batch_open(struct str image, struct batch **out, struct err *e);

/* --- building
 * ---------------------------------------------------------------------------------------- */

enum span_reject {
    REJECT_TRACE_ID,
    REJECT_SPAN_ID,
    REJECT_DEPTH,
    REJECT_LIMIT,
    REJECT_KEYS,
    REJECT_COUNT
};

const char *span_reject_text(enum span_reject r); /* a sentence for the client */

/* A growing array. */
struct batch_vec {
    char *p;
    uint32_t n, cap; /* elements */
};

/* Strings numbered in order of first appearance, found by hash. */
struct batch_dict {
    struct batch_vec refs;  /* struct sref: the image's section */
    struct batch_vec notes; /* uint32_t each: see batch.c */
    struct dict_slot *slots;
    uint32_t mask;
};

enum batch_owner { OWNER_NONE, OWNER_RESOURCE, OWNER_SCOPE, OWNER_SPAN, OWNER_EVENT, OWNER_LINK };

/* Reused from request to request by one thread, so its memory stays warm. The fields are private to
 * batch.c, but for reading rejected. */
struct batch_builder {
    struct batch_vec groups, spans, attrs, events, links, heap;
    struct batch_dict keys, names;
    uint32_t keys_max; /* a span that brings more is rejected; no limit until it is set */
    size_t image_max;  /* the cap; BATCH_IMAGE_MAX until it is set lower */
    uint32_t expect;   /* the attribute that the next one probably resembles */
    uint32_t owner_at; /* first attribute of what was begun last */
    uint8_t owner;     /* enum batch_owner of what was begun last */
    bool failed;       /* the cap or the machine's memory was hit */
    uint8_t bad[3];    /* bits 1 << enum span_reject of the resource, the scope and the span */
    uint32_t resource_spans, scope_spans; /* spans.n when they were begun */
    uint32_t group_attrs;                 /* resource attributes summed over groups */
    uint32_t span_heap, span_strings;     /* heap.n and dictionary sizes when the span was begun */
    uint32_t rejected[REJECT_COUNT];
    uint64_t min_ns, max_ns;
};

void batch_builder_init(struct batch_builder *b);
void batch_builder_fini(struct batch_builder *b);
/* Forgets the spans, keeps the memory (all but what one huge request grew). */
void batch_builder_reset(struct batch_builder *b);
/* The cap was hit: nothing more is taken and batch_seal answers E_TOO_BIG. */
static inline bool batch_builder_failed(const struct batch_builder *b)
{
    return b->failed;
}
enum errc batch_builder_too_big(const struct batch_builder *b, struct err *e); /* the sentence */
static inline uint32_t batch_builder_spans(const struct batch_builder *b)
{
    return b->spans.n;
}
uint32_t batch_builder_rejected(const struct batch_builder *b);

/* The order of building: for each resource: bb_group_begin, resource attributes (bb_attr…); for
 * each of its scopes: bb_group_scope, scope attributes, bb_group_end; then the scope's spans:
 * bb_span, fields through the pointer, attributes, then events each followed by its attributes,
 * links likewise, bb_span_end. Attributes belong to what was begun last.
 *
 * The pointers returned are NULL when the builder has failed (bb_event and bb_link also when the
 * span has too many: leave that one out) and valid until the next call that begins the same kind of
 * thing. Set ids, times, kind, status, flags and dropped counts directly; strings with bb_string. A
 * group that got no span is taken back. */
struct group_rec *bb_group_begin(struct batch_builder *b);
struct group_rec *bb_group_scope(struct batch_builder *b);
void bb_group_end(struct batch_builder *b);
struct span_rec *bb_span(struct batch_builder *b);
struct event_rec *bb_event(struct batch_builder *b);
struct link_rec *bb_link(struct batch_builder *b);
/* Early, if it can be: spans of one name tend to have the same attributes. */
void bb_name(struct batch_builder *b, struct span_rec *s, struct str name);
struct sref bb_string(struct batch_builder *b, struct str s);
/* One attribute of what was begun last. bb_attr_str serves STR, BYTES, ARRAY and KVLIST. */
void bb_attr_str(struct batch_builder *b, struct str key, enum attr_type type, struct str value);
void bb_attr_bits(struct batch_builder *b, struct str key, enum attr_type type, uint64_t bits);
/* What was begun last has a value nested deeper than BATCH_DEPTH_MAX: its span, or every span of
 * its resource or scope, will be rejected. */
void bb_too_deep(struct batch_builder *b);
/* Checks the span (ids not zero, limits held); a bad one is taken back and counted in rejected[].
 * True when kept. */
bool bb_span_end(struct batch_builder *b);
/* Takes the unfinished span back without counting it. */
void bb_span_abort(struct batch_builder *b);

/* Taking back more than a span, to decode it again in another order: to where bb_mark() was. */
struct bb_mark {
    uint32_t groups, spans, attrs, events, links;
    uint32_t owner_at, resource_spans, scope_spans, group_attrs;
    uint32_t rejected[REJECT_COUNT];
    uint64_t min_ns, max_ns;
    uint8_t owner, bad[3];
};
struct bb_mark bb_mark(const struct batch_builder *b);
void bb_rewind(struct batch_builder *b, const struct bb_mark *m);

/* Calls for a codec that finds a group's schema URL behind its spans. */
static inline uint32_t bb_group_count(const struct batch_builder *b)
{
    return b->groups.n;
}
static inline struct group_rec *bb_group_at(struct batch_builder *b, uint32_t i)
{
    return (struct group_rec *)(void *)b->groups.p + i;
}

/* The spans so far as one immutable batch with one reference; the builder is left as it was (reset
 * it). */
MUST_CHECK enum errc batch_seal(struct batch_builder *b, struct str tenant, uint64_t received_ns,
                                struct batch **out, struct err *e);

#endif
