/* SPDX-License-Identifier: Apache-2.0 */
/* OTLP as protobuf: the decoder and the encoder over the tables of otlp_fields.h.
 *
 * Decoding follows the reference implementations where they agree: unknown fields are skipped, a
 * known number with another wire type is an unknown field, the last of a repeated scalar counts,
 * parts of a repeated message merge, groups are skipped. A value (AnyValue) sent twice is not
 * merged: the last one counts. UTF-8 is not checked; what is not UTF-8 is kept as it is.
 *
 * Most of the time goes into attributes, so their usual form (key then value, one field each, short
 * lengths) is read without a loop; any other form takes attribute_any(). */
#include "codec/otlp_fields.h"

#include "model/batch_add.h"
#include "model/value.h"

struct pb_walk {
    struct otlp_walk walk; /* first: the walk hands it back to fields() */
    const uint8_t *start;
    const uint8_t
        *wide_end;     /* from here on 2 * BYTES_WIDE bytes can be read; NULL: no such place */
    const uint8_t *at; /* where it went wrong, with why */
    const char *why;
    bool truncated; /* the request itself ends too early; a message inside it is just malformed */
};

static enum otlp_step damaged(struct pb_walk *w, const struct pb *c)
{
    w->at = c->at;
    w->why = c->why;
    return OTLP_FAILED;
}

/* --- attributes --- */

/* A KeyValue of any form. */
static enum otlp_step attribute_any(struct pb_walk *w, struct str message)
{
    struct pb c = pb_init(message);
    struct pb_field f;
    struct str key = STR("");
    struct value v = {.type = ATTR_EMPTY};
    while (pb_next(&c, &f)) {
        if (f.tag == PB_TAG(1, PB_LEN)) {
            key = f.bytes;
        } else if (f.tag == PB_TAG(2, PB_LEN) && !value_decode(f.bytes, &v)) {
            c.at = (const uint8_t *)f.bytes.p;
            c.why = "damaged attribute value";
        }
    }
    if (c.why)
        return damaged(w, &c);
    if (v.type == ATTR_ARRAY || v.type == ATTR_KVLIST) {
        enum errc code = value_check(v.s, v.type == ATTR_KVLIST, BATCH_DEPTH_MAX - 1);
        if (code == E_DEPTH) {
            bb_too_deep(w->walk.b);
            return OTLP_DONE;
        }
        if (code != E_OK) {
            c = (struct pb){.at = (const uint8_t *)v.s.p, .why = "damaged attribute value"};
            return damaged(w, &c);
        }
    }
    bb_attr(w->walk.b, key, &v);
    return OTLP_DONE;
}

#define LEN_LONG (SIZE_MAX / 2) /* neither a length nor a small negative difference of pointers */

/* A length of one or two bytes, LEN_LONG when it takes more. May step past the end of a message. */
static inline const uint8_t *short_len(const uint8_t *p, size_t *n)
{
    size_t low = p[0];
    if (LIKELY(low < 0x80)) {
        *n = low;
        return p + 1;
    }
    *n = p[1] < 0x80 ? (low & 0x7f) | (size_t)p[1] << 7 : LEN_LONG;
    return p + 2;
}

/* The usual form: 0x0a <key length> key 0x12 <value length> <one field of AnyValue>. */
static inline enum otlp_step attribute(struct pb_walk *w, struct str message)
{
    const uint8_t *p = (const uint8_t *)message.p, *end = p + message.n;
    size_t n;
    uint64_t bits;
    if (UNLIKELY(message.n < 6 || p[0] != PB_TAG(1, PB_LEN) || p[1] > message.n - 6 ||
                 p[1] >= 0x80))
        return attribute_any(w, message);
    struct str key = str_of(p + 2, p[1]);
    p += 2 + key.n;
    if (UNLIKELY(end > w->wide_end || p[0] != PB_TAG(2, PB_LEN)))
        return attribute_any(w, message);
    p = short_len(p + 1, &n);
    if (UNLIKELY(n != (size_t)(end - p)))
        return attribute_any(w, message);
    if (LIKELY(p[0] == PB_TAG(1, PB_LEN))) {
        p = short_len(p + 1, &n);
        if (LIKELY(n == (size_t)(end - p))) {
            bb_attr_str_wide(w->walk.b, key, str_of(p, n));
            return OTLP_DONE;
        }
    } else if (p[0] == PB_TAG(3, PB_VARINT) && varint_get(p + 1, end, &bits) == end) {
        bb_attr_bits_wide(w->walk.b, key, ATTR_INT, bits);
        return OTLP_DONE;
    }
    return attribute_any(w, message);
}

/* An attribute and those that follow directly behind it at *at, as they mostly do. */
static inline enum otlp_step attributes(struct pb_walk *w, uint32_t tag, struct str message,
                                        const uint8_t **at, const uint8_t *end)
{
    const uint8_t *p = *at;
    for (;;) {
        size_t n;
        enum otlp_step step = attribute(w, message);
        if (UNLIKELY(step != OTLP_DONE))
            return step;
        *at = p;
        if (p >= end || p > w->wide_end || *p != tag)
            return OTLP_DONE;
        p = short_len(p + 1, &n);
        if (UNLIKELY(p > end || n > (size_t)(end - p)))
            return OTLP_DONE;
        message = str_of(p, n);
        p += n;
    }
}

/* --- messages --- */

static enum otlp_step fields(struct otlp_walk *walk, const struct otlp_message *m, void *rec,
                             const void *body);

static void take_id(void *to, size_t n, struct str bytes)
{
    if (LIKELY(bytes.n == n))
        memcpy(to, bytes.p, n);
    else
        memset(to, 0, n);
}

/* A field whose wire type the row has: scalars into the record, the rest down the walk. */
static inline enum otlp_step field(struct pb_walk *w, const struct otlp_field *row, void *rec,
                                   const struct pb_field *f)
{
    char *to = (char *)rec + row->rec_at;
    uint32_t v32 = (uint32_t)f->num;
    struct sref ref;
    switch ((enum otlp_kind)row->kind) {
    case OTLP_ID16:
        take_id(to, 16, f->bytes);
        break;
    case OTLP_ID8:
        take_id(to, 8, f->bytes);
        break;
    case OTLP_STR:
        ref = bb_string(w->walk.b, f->bytes);
        memcpy(to, &ref, sizeof ref);
        break;
    case OTLP_NAME:
        bb_name(w->walk.b, rec, f->bytes);
        break;
    case OTLP_FIXED64:
        memcpy(to, &f->num, sizeof f->num);
        break;
    case OTLP_FIXED32:
    case OTLP_U32:
        memcpy(to, &v32, sizeof v32);
        break;
    case OTLP_ENUM:
        *to = (char)(f->num < row->limit ? f->num : 0);
        break;
    case OTLP_PART:
        return fields(&w->walk, row->sub, rec, &f->bytes);
    case OTLP_EVENTS:
        return otlp_walk_event(&w->walk, &f->bytes);
    case OTLP_LINKS:
        return otlp_walk_link(&w->walk, &f->bytes);
    case OTLP_SPANS:
        return otlp_walk_span(&w->walk, &f->bytes);
    case OTLP_SCOPES:
        return otlp_walk_scope_spans(&w->walk, &f->bytes);
    case OTLP_RESOURCES:
        return otlp_walk_resource_spans(&w->walk, &f->bytes);
    case OTLP_ATTRS:
    case OTLP_NONE:
        break;
    }
    return OTLP_DONE;
}

/* Reads a field at p, which is at or before wide_end. NULL when it takes more than a short look:
 * then pb_next() decides. */
static inline const uint8_t *short_field(const uint8_t *p, const uint8_t *end, struct pb_field *f)
{
    uint32_t tag = *p++;
    if (UNLIKELY(tag >= 0x80)) {
        tag = (tag & 0x7f) | (uint32_t)*p << 7;
        if (*p++ >= 0x80)
            return NULL;
    }
    size_t n = 0;
    switch (tag & 7) {
    case PB_LEN:
        p = short_len(p, &n);
        f->bytes = str_of(p, n);
        break;
    case PB_VARINT:
        f->num = *p;
        n = *p < 0x80 ? 1 : LEN_LONG;
        break;
    case PB_I64:
        f->num = load_u64le(p);
        n = 8;
        break;
    case PB_I32:
        f->num = load_u32le(p);
        n = 4;
        break;
    default:
        return NULL;
    }
    f->tag = tag;
    return LIKELY(p <= end && n <= (size_t)(end - p) && tag >= PB_TAG(1, 0)) ? p + n : NULL;
}

static enum otlp_step fields(struct otlp_walk *walk, const struct otlp_message *m, void *rec,
                             const void *body)
{
    struct pb_walk *w = (struct pb_walk *)walk;
    const uint8_t *p = (const uint8_t *)((const struct str *)body)->p;
    const uint8_t *end = p + ((const struct str *)body)->n;
    bool last_seen = false;
    while (p < end) {
        struct pb_field f;
        const uint8_t *next = p <= w->wide_end ? short_field(p, end, &f) : NULL;
        if (UNLIKELY(!next)) {
            struct pb c = {.at = p, .end = end};
            struct pb_field g;
            if (!pb_next(&c, &g)) {
                w->truncated = c.truncated && m == &otlp_traces;
                return damaged(w, &c);
            }
            f = g;
            next = c.at;
        }
        p = next;
        const struct otlp_field *row = &m->fields[f.tag >> 3 < m->count ? f.tag >> 3 : 0];
        if (UNLIKELY(row->kind == OTLP_NONE || row->wire != (f.tag & 7)))
            continue;
        if (UNLIKELY(row->early && last_seen))
            return OTLP_LATE;
        last_seen |= row->last;
        enum otlp_step step = row->kind == OTLP_ATTRS ? attributes(w, f.tag, f.bytes, &p, end)
                                                      : field(w, row, rec, &f);
        if (UNLIKELY(step != OTLP_DONE))
            return step;
    }
    return OTLP_DONE;
}

enum errc otlp_decode_traces(struct str pb, struct batch_builder *b, struct err *e)
{
    struct pb_walk w = {.walk = {b, fields}};
    pb = pb.n ? pb : STR("");
    w.start = (const uint8_t *)pb.p;
    if (pb.n >= 2 * BYTES_WIDE)
        w.wide_end = w.start + pb.n - 2 * BYTES_WIDE;
    enum otlp_step step = fields(&w.walk, &otlp_traces, &w, &pb); /* no scalars at the top */
    if (batch_builder_failed(b))
        return batch_builder_too_big(b, e);
    if (step == OTLP_DONE)
        return E_OK;
    return fail(e, w.truncated ? E_TRUNCATED : E_INVALID, "malformed protobuf: %s at byte %zu",
                w.why, (size_t)(w.at - w.start));
}

/* --- encoding --- */

/* The spans still to be written. */
struct pb_out {
    struct buf *out;
    struct span *const *spans;
    size_t n;
};

static void put_fields(struct pb_out *o, const struct otlp_message *m, const void *obj);

static void put_attrs(struct buf *out, uint32_t tag, const struct kvs *kvs)
{
    for (uint32_t i = 0; i < kvs->n; i++) {
        size_t message = pb_open(out, tag, 1);
        if (kvs->v[i].key.n)
            pb_put_bytes(out, PB_TAG(1, PB_LEN), kvs->v[i].key);
        size_t value = pb_open(out, PB_TAG(2, PB_LEN), 1);
        value_encode(&kvs->v[i].val, out);
        pb_close(out, value, 1);
        pb_close(out, message, 1);
    }
}

static void put_message(struct pb_out *o, uint32_t tag, unsigned len_guess,
                        const struct otlp_message *m, const void *obj)
{
    size_t mark = pb_open(o->out, tag, len_guess);
    put_fields(o, m, obj);
    pb_close(o->out, mark, len_guess);
}

/* The spans that share the next one's scope, or resource when `scopes`: each level takes its own
 * off the list. */
static void put_groups(struct pb_out *o, uint32_t tag, const struct otlp_field *row)
{
    const struct span *head = o->n ? o->spans[0] : NULL;
    while (o->n && o->spans[0]->resource == head->resource) {
        if (row->kind == OTLP_SCOPES) {
            put_message(o, tag, 3, row->sub, o->spans[0]->scope);
        } else if (o->spans[0]->scope == head->scope) {
            put_message(o, tag, 2, row->sub, o->spans[0]);
            o->spans++;
            o->n--;
        } else {
            break;
        }
    }
}

static void put_part(struct pb_out *o, uint32_t tag, const struct otlp_field *row, const void *obj)
{
    size_t before = o->out->n, mark = pb_open(o->out, tag, 1), empty = o->out->n;
    put_fields(o, row->sub, obj);
    if (o->out->n == empty && !row->always)
        o->out->n = before;
    else
        pb_close(o->out, mark, 1);
}

static void put_lists(struct pb_out *o, uint32_t tag, const struct otlp_field *row,
                      const struct span *s)
{
    for (uint32_t i = 0; row->kind == OTLP_EVENTS && i < s->event_count; i++)
        put_message(o, tag, 1, row->sub, &s->events[i]);
    for (uint32_t i = 0; row->kind == OTLP_LINKS && i < s->link_count; i++)
        put_message(o, tag, 1, row->sub, &s->links[i]);
}

static void put_field(struct pb_out *o, uint32_t tag, const struct otlp_field *row, const void *obj)
{
    const char *from = (const char *)obj + row->obj_at;
    struct str s;
    size_t id_len = row->kind == OTLP_ID16 ? 16 : 8;
    switch ((enum otlp_kind)row->kind) {
    case OTLP_ID16:
    case OTLP_ID8:
        if (!id_is_zero((const uint8_t *)from, id_len))
            pb_put_bytes(o->out, tag, str_of(from, id_len));
        break;
    case OTLP_STR:
    case OTLP_NAME:
        memcpy(&s, from, sizeof s);
        if (s.n)
            pb_put_bytes(o->out, tag, s);
        break;
    case OTLP_FIXED64:
        if (load_u64le(from))
            pb_put_i64(o->out, tag, load_u64le(from));
        break;
    case OTLP_FIXED32:
        if (load_u32le(from))
            pb_put_i32(o->out, tag, load_u32le(from));
        break;
    case OTLP_U32:
    case OTLP_ENUM:
        if (load_u32le(from))
            pb_put_varint(o->out, tag, load_u32le(from));
        break;
    case OTLP_ATTRS:
        put_attrs(o->out, tag, (const struct kvs *)(const void *)from);
        break;
    case OTLP_PART:
        put_part(o, tag, row, obj);
        break;
    case OTLP_EVENTS:
    case OTLP_LINKS:
        put_lists(o, tag, row, obj);
        break;
    case OTLP_SPANS:
    case OTLP_SCOPES:
        put_groups(o, tag, row);
        break;
    case OTLP_RESOURCES:
        while (o->n)
            put_message(o, tag, 3, row->sub, o->spans[0]->resource);
        break;
    case OTLP_NONE:
        break;
    }
}

static void put_fields(struct pb_out *o, const struct otlp_message *m, const void *obj)
{
    for (uint32_t number = 1; number < m->count; number++) {
        const struct otlp_field *row = &m->fields[number];
        put_field(o, PB_TAG(number, row->wire), row, obj);
    }
}

void otlp_encode_traces(struct span *const *spans, size_t n, struct buf *out)
{
    struct pb_out o = {out, spans, n};
    put_fields(&o, &otlp_traces, &o); /* no scalars at the top */
}
