/* SPDX-License-Identifier: Apache-2.0 */
/* OTLP as JSON: the decoder and the encoder over the tables of otlp_fields.h.
 *
 * Read: members in any order, lowerCamelCase names only, unknown members and nulls ignored, 64-bit
 * integers as strings or numbers, ids in hex, other bytes in base64, enums as integers or by name.
 * Of a member sent twice the last counts when it is a scalar; lists and objects add up, as they do
 * in protobuf. A member of another JSON type than the schema has is an error.
 *
 * Attribute values go through their protobuf form, which is how arrays and maps are stored anyway:
 * emit_any() turns an AnyValue object into an AnyValue message. */
#include "codec/otlp_fields.h"

#include "base/num.h"
#include "codec/json.h"
#include "model/value.h"

struct json_walk {
    struct otlp_walk walk; /* first: the walk hands it back to fields() */
    struct json_reader r;
    const char *why; /* what is wrong when the reader itself is content */
    struct buf value, bytes;
    bool too_deep; /* met while reading the current attribute */
};

static enum otlp_step wrong(struct json_walk *w, const char *why)
{
    if (w->r.type != JSON_ERROR)
        w->why = why;
    return OTLP_FAILED;
}

static enum otlp_step fields(struct otlp_walk *walk, const struct otlp_message *m, void *rec,
                             const void *body);

/* --- scalars --- */

/* The token just read as an integer: a string or a number, which may be written with a fraction or
 * an exponent as long as it is whole. */
static bool integer(const struct json_reader *r, int64_t *i, uint64_t *u)
{
    double d;
    if (r->type != JSON_STRING && r->type != JSON_NUMBER)
        return false;
    if (num_get_u64(r->text, u)) {
        *i = (int64_t)*u;
        return true;
    }
    if (num_get_i64(r->text, i)) {
        *u = (uint64_t)*i;
        return true;
    }
    if (!num_get_double(r->text, &d) || !(d >= -0x1p63 && d < 0x1p63) || d != (double)(int64_t)d)
        return false;
    *i = (int64_t)d;
    *u = (uint64_t)*i;
    return true;
}

static void take_hex(const struct json_reader *r, void *to, size_t n)
{
    if (!num_get_hex(r->text, to, n))
        memset(to, 0, n);
}

static uint8_t enum_value(const struct json_reader *r, const struct otlp_field *row)
{
    int64_t i;
    uint64_t u;
    if (integer(r, &i, &u))
        return u < row->limit ? (uint8_t)u : 0;
    for (uint8_t k = 0; k < row->limit; k++)
        if (str_eq_c(r->text, row->names[k]))
            return k;
    return 0;
}

static enum otlp_step scalar(struct json_walk *w, const struct otlp_field *row, void *rec)
{
    const struct json_reader *r = &w->r;
    char *to = (char *)rec + row->rec_at;
    int64_t i;
    uint64_t u;
    bool number = row->kind == OTLP_FIXED64 || row->kind == OTLP_FIXED32 || row->kind == OTLP_U32;
    if (number ? !integer(r, &i, &u) || (row->kind != OTLP_FIXED64 && u > UINT32_MAX) ||
                     (u && r->text.p[0] == '-')
               : r->type != JSON_STRING && !(r->type == JSON_NUMBER && row->kind == OTLP_ENUM))
        return wrong(w, number ? "not a number of this field" : "not a string");
    uint32_t u32 = number ? (uint32_t)u : 0;
    struct sref ref;
    switch ((enum otlp_kind)row->kind) {
    case OTLP_ID16:
        take_hex(r, to, 16);
        break;
    case OTLP_ID8:
        take_hex(r, to, 8);
        break;
    case OTLP_STR:
        ref = bb_string(w->walk.b, r->text);
        memcpy(to, &ref, sizeof ref);
        break;
    case OTLP_NAME:
        bb_name(w->walk.b, rec, r->text);
        break;
    case OTLP_FIXED64:
        memcpy(to, &u, sizeof u);
        break;
    case OTLP_FIXED32:
    case OTLP_U32:
        memcpy(to, &u32, sizeof u32);
        break;
    case OTLP_ENUM:
        *to = (char)enum_value(r, row);
        break;
    default:
        break;
    }
    return OTLP_DONE;
}

/* --- attribute values --- */

/* AnyValue's members; the index is the enum attr_type. */
static const struct str any_names[ATTR_TYPE_COUNT] = {
    [ATTR_STR] = {"stringValue", 11},   [ATTR_BOOL] = {"boolValue", 9},
    [ATTR_INT] = {"intValue", 8},       [ATTR_DOUBLE] = {"doubleValue", 11},
    [ATTR_BYTES] = {"bytesValue", 10},  [ATTR_ARRAY] = {"arrayValue", 10},
    [ATTR_KVLIST] = {"kvlistValue", 11}};

static enum attr_type any_type(struct str name)
{
    for (int t = ATTR_STR; t < ATTR_TYPE_COUNT; t++)
        if (str_eq(name, any_names[t]))
            return (enum attr_type)t;
    return ATTR_EMPTY;
}

/* Goes to the next member of the object being read and to its value. JSON_KEY when there is one,
 * its name in *name; else JSON_OBJECT_END or JSON_ERROR. */
static enum json_type member(struct json_reader *r, struct str *name)
{
    enum json_type type = json_next(r);
    *name = r->text;
    if (type != JSON_KEY)
        return type;
    return json_next(r) == JSON_ERROR ? JSON_ERROR : JSON_KEY;
}

/* The token just read as a scalar of this type. */
static enum otlp_step any_scalar(struct json_walk *w, enum attr_type type, struct value *v)
{
    const struct json_reader *r = &w->r;
    uint64_t u;
    *v = (struct value){.type = type};
    switch (type) {
    case ATTR_STR:
        v->s = r->text;
        return r->type == JSON_STRING ? OTLP_DONE : wrong(w, "stringValue is not a string");
    case ATTR_BOOL:
        v->i = r->type == JSON_TRUE;
        return r->type == JSON_TRUE || r->type == JSON_FALSE ? OTLP_DONE
                                                             : wrong(w, "boolValue is not a bool");
    case ATTR_INT:
        return integer(r, &v->i, &u) ? OTLP_DONE : wrong(w, "intValue is not an integer");
    case ATTR_DOUBLE:
        return (r->type == JSON_NUMBER || r->type == JSON_STRING) && num_get_double(r->text, &v->d)
                   ? OTLP_DONE
                   : wrong(w, "doubleValue is not a number");
    default:
        buf_reset(&w->bytes);
        if (r->type != JSON_STRING || !num_get_base64(r->text, &w->bytes))
            return wrong(w, "bytesValue is not base64");
        v->s = buf_str(&w->bytes);
        return OTLP_DONE;
    }
}

static enum otlp_step emit_any(struct json_walk *w, struct buf *out, unsigned depth);

/* A KeyValue object, whose first token was just read, as a message. */
static enum otlp_step emit_key_value(struct json_walk *w, struct buf *out, unsigned depth)
{
    struct str name;
    enum json_type type;
    enum otlp_step step = w->r.type == JSON_OBJECT ? OTLP_DONE : wrong(w, "not an object");
    while (step == OTLP_DONE && (type = member(&w->r, &name)) != JSON_OBJECT_END) {
        if (type == JSON_ERROR)
            return OTLP_FAILED;
        if (str_eq(name, STR("key")) && w->r.type == JSON_STRING) {
            pb_put_bytes(out, PB_TAG(1, PB_LEN), w->r.text);
        } else if (str_eq(name, STR("value")) && w->r.type == JSON_OBJECT) {
            size_t mark = pb_open(out, PB_TAG(2, PB_LEN), 1);
            step = emit_any(w, out, depth);
            pb_close(out, mark, 1);
        } else {
            json_skip(&w->r);
        }
    }
    return step;
}

/* {"values":[…]}, whose first token was just read, as the content of an ArrayValue or
 * KeyValueList. */
static enum otlp_step emit_list(struct json_walk *w, struct buf *out, bool map, unsigned depth)
{
    struct str name;
    enum json_type type;
    enum otlp_step step = w->r.type == JSON_OBJECT ? OTLP_DONE : wrong(w, "not an object");
    while (step == OTLP_DONE && (type = member(&w->r, &name)) != JSON_OBJECT_END) {
        if (type == JSON_ERROR)
            return OTLP_FAILED;
        if (!str_eq(name, STR("values")) || w->r.type != JSON_ARRAY) {
            json_skip(&w->r);
            continue;
        }
        while (step == OTLP_DONE && (type = json_next(&w->r)) != JSON_ARRAY_END) {
            size_t mark = pb_open(out, PB_TAG(1, PB_LEN), 1);
            step = map ? emit_key_value(w, out, depth) : emit_any(w, out, depth);
            pb_close(out, mark, 1);
        }
    }
    return step;
}

/* An AnyValue object, whose first token was just read, as a message. A list below `depth` others
 * is left out and noted when that is too deep. */
static enum otlp_step emit_any(struct json_walk *w, struct buf *out, unsigned depth)
{
    static const uint32_t tags[] = {
        [ATTR_ARRAY] = PB_TAG(5, PB_LEN), [ATTR_KVLIST] = PB_TAG(6, PB_LEN)};
    struct str name;
    enum json_type type;
    enum otlp_step step = w->r.type == JSON_OBJECT ? OTLP_DONE : wrong(w, "not an object");
    while (step == OTLP_DONE && (type = member(&w->r, &name)) != JSON_OBJECT_END) {
        if (type == JSON_ERROR)
            return OTLP_FAILED;
        enum attr_type t = any_type(name);
        struct value v;
        if (t == ATTR_EMPTY || w->r.type == JSON_NULL) {
            json_skip(&w->r);
        } else if (t != ATTR_ARRAY && t != ATTR_KVLIST) {
            step = any_scalar(w, t, &v);
            if (step == OTLP_DONE)
                value_encode(&v, out);
        } else if (depth == BATCH_DEPTH_MAX) {
            w->too_deep = true;
            json_skip(&w->r);
        } else {
            size_t mark = pb_open(out, tags[t], 1);
            step = emit_list(w, out, t == ATTR_KVLIST, depth + 1);
            pb_close(out, mark, 1);
        }
    }
    return step;
}

/* A KeyValue object, whose first token was just read, as an attribute of what was begun last. */
static enum otlp_step attribute(struct json_walk *w)
{
    struct pb_field f;
    struct str key = STR("");
    struct value v = {.type = ATTR_EMPTY};
    buf_reset(&w->value);
    w->too_deep = false;
    enum otlp_step step = emit_key_value(w, &w->value, 0);
    if (step != OTLP_DONE)
        return step;
    if (w->value.failed)
        return wrong(w, "attribute too long");
    if (w->too_deep) {
        bb_too_deep(w->walk.b);
        return OTLP_DONE;
    }
    for (struct pb c = pb_init(buf_str(&w->value)); pb_next(&c, &f);) {
        if (f.tag == PB_TAG(1, PB_LEN))
            key = f.bytes;
        else
            ensure(value_decode(f.bytes, &v));
    }
    bb_attr(w->walk.b, key, &v);
    return OTLP_DONE;
}

/* --- messages --- */

static const struct otlp_field *row_of(const struct otlp_message *m, struct str name)
{
    for (uint32_t i = 1; i < m->count; i++)
        if (str_eq(m->fields[i].json, name))
            return &m->fields[i];
    return NULL;
}

/* One object of a list, whose first token was just read. */
static enum otlp_step element(struct json_walk *w, const struct otlp_field *row)
{
    struct json_reader mark = w->r;
    enum otlp_step step;
    if (row->kind == OTLP_ATTRS)
        return attribute(w);
    if (w->r.type != JSON_OBJECT)
        return wrong(w, "not an object");
    switch ((enum otlp_kind)row->kind) {
    case OTLP_EVENTS:
        step = otlp_walk_event(&w->walk, &mark);
        break;
    case OTLP_LINKS:
        step = otlp_walk_link(&w->walk, &mark);
        break;
    case OTLP_SPANS:
        step = otlp_walk_span(&w->walk, &mark);
        break;
    case OTLP_SCOPES:
        step = otlp_walk_scope_spans(&w->walk, &mark);
        break;
    default:
        step = otlp_walk_resource_spans(&w->walk, &mark);
    }
    if (step == OTLP_DONE && w->r.at == mark.at)
        json_skip(&w->r); /* the builder did not want it */
    return step;
}

static enum otlp_step list(struct json_walk *w, const struct otlp_field *row)
{
    if (w->r.type != JSON_ARRAY)
        return wrong(w, "not an array");
    enum otlp_step step = OTLP_DONE;
    while (step == OTLP_DONE && json_next(&w->r) != JSON_ARRAY_END)
        step = w->r.type == JSON_ERROR ? OTLP_FAILED : element(w, row);
    return step;
}

static enum otlp_step field(struct json_walk *w, const struct otlp_field *row, void *rec)
{
    struct json_reader mark = w->r;
    switch ((enum otlp_kind)row->kind) {
    case OTLP_PART:
        return w->r.type == JSON_OBJECT ? fields(&w->walk, row->sub, rec, &mark)
                                        : wrong(w, "not an object");
    case OTLP_ATTRS:
    case OTLP_EVENTS:
    case OTLP_LINKS:
    case OTLP_SPANS:
    case OTLP_SCOPES:
    case OTLP_RESOURCES:
        return list(w, row);
    default:
        return scalar(w, row, rec);
    }
}

/* body is a bookmark behind the object's first token. */
static enum otlp_step fields(struct otlp_walk *walk, const struct otlp_message *m, void *rec,
                             const void *body)
{
    struct json_walk *w = (struct json_walk *)walk;
    bool last_seen = false;
    struct str name;
    enum json_type type;
    w->r = *(const struct json_reader *)body;
    while ((type = member(&w->r, &name)) != JSON_OBJECT_END) {
        if (type == JSON_ERROR)
            return OTLP_FAILED;
        const struct otlp_field *row = row_of(m, name);
        if (!row || w->r.type == JSON_NULL) {
            json_skip(&w->r);
            continue;
        }
        if (row->early && last_seen)
            return OTLP_LATE;
        last_seen |= row->last;
        enum otlp_step step = field(w, row, rec);
        if (step != OTLP_DONE)
            return step;
    }
    return OTLP_DONE;
}

static enum errc decode(struct json_walk *w, struct err *e)
{
    enum otlp_step step = OTLP_FAILED;
    if (json_next(&w->r) == JSON_OBJECT) {
        struct json_reader mark = w->r;
        step = fields(&w->walk, &otlp_traces, w, &mark); /* no scalars at the top */
    } else {
        wrong(w, "not an object");
    }
    if (batch_builder_failed(w->walk.b))
        return batch_builder_too_big(w->walk.b, e);
    if (step == OTLP_DONE && json_next(&w->r) == JSON_END)
        return E_OK;
    return fail(e, w->r.err ? w->r.err : E_INVALID, "malformed JSON: %s at byte %zu",
                w->r.err ? w->r.why : w->why, json_offset(&w->r));
}

enum errc otlp_decode_traces_json(struct str json, struct batch_builder *b, struct err *e)
{
    struct arena a = arena_init(BATCH_IMAGE_MAX);
    struct json_walk w = {.walk = {b, fields},
                          .value = buf_init(BATCH_IMAGE_MAX),
                          .bytes = buf_init(BATCH_IMAGE_MAX)};
    json_reader_init(&w.r, json, &a);
    enum errc code = decode(&w, e);
    buf_fini(&w.value);
    buf_fini(&w.bytes);
    arena_fini(&a);
    return code;
}

/* --- encoding --- */

/* The spans still to be written. */
struct json_out {
    struct json_writer w;
    struct span *const *spans;
    size_t n;
};

static void put_fields(struct json_out *o, const struct otlp_message *m, const void *obj);

static void put_object(struct json_out *o, const struct otlp_message *m, const void *obj)
{
    json_object(&o->w);
    put_fields(o, m, obj);
    json_object_end(&o->w);
}

static void put_value(struct json_writer *w, const struct value *v);

static void put_key_value(struct json_writer *w, struct str key, const struct value *v)
{
    json_object(w);
    if (key.n) {
        JSON_KEY_C(w, "key");
        json_str(w, key);
    }
    JSON_KEY_C(w, "value");
    put_value(w, v);
    json_object_end(w);
}

static void put_list(struct json_writer *w, const struct value *v)
{
    struct value_iter it = value_iter_begin(v);
    struct str key;
    struct value element;
    bool empty = true;
    json_object(w);
    for (; value_iter_next(&it, &key, &element); empty = false) {
        if (empty) {
            JSON_KEY_C(w, "values");
            json_array(w);
        }
        if (v->type == ATTR_KVLIST)
            put_key_value(w, key, &element);
        else
            put_value(w, &element);
    }
    if (!empty)
        json_array_end(w);
    json_object_end(w);
}

static void put_value(struct json_writer *w, const struct value *v)
{
    json_object(w);
    if (v->type != ATTR_EMPTY)
        json_key(w, any_names[v->type]);
    switch (v->type) {
    case ATTR_STR:
        json_str(w, v->s);
        break;
    case ATTR_BOOL:
        json_bool(w, v->b);
        break;
    case ATTR_INT:
        json_i64_str(w, v->i);
        break;
    case ATTR_DOUBLE:
        json_double(w, v->d);
        break;
    case ATTR_BYTES:
        json_base64(w, v->s);
        break;
    case ATTR_ARRAY:
    case ATTR_KVLIST:
        put_list(w, v);
        break;
    case ATTR_EMPTY:
    case ATTR_TYPE_COUNT:
        break;
    }
    json_object_end(w);
}

static void put_attrs(struct json_writer *w, struct str name, const struct kvs *kvs)
{
    if (kvs->n == 0)
        return;
    json_key(w, name);
    json_array(w);
    for (uint32_t i = 0; i < kvs->n; i++)
        put_key_value(w, kvs->v[i].key, &kvs->v[i].val);
    json_array_end(w);
}

/* As in protobuf: each level takes its own spans off the list. */
static void put_groups(struct json_out *o, const struct otlp_field *row)
{
    const struct span *head = o->n ? o->spans[0] : NULL;
    json_key(&o->w, row->json);
    json_array(&o->w);
    while (o->n && (row->kind == OTLP_RESOURCES || o->spans[0]->resource == head->resource)) {
        if (row->kind == OTLP_RESOURCES) {
            put_object(o, row->sub, o->spans[0]->resource);
        } else if (row->kind == OTLP_SCOPES) {
            put_object(o, row->sub, o->spans[0]->scope);
        } else if (o->spans[0]->scope == head->scope) {
            put_object(o, row->sub, o->spans[0]);
            o->spans++;
            o->n--;
        } else {
            break;
        }
    }
    json_array_end(&o->w);
}

static void put_events(struct json_out *o, const struct otlp_field *row, const struct span *s)
{
    uint32_t n = row->kind == OTLP_EVENTS ? s->event_count : s->link_count;
    if (n == 0)
        return;
    json_key(&o->w, row->json);
    json_array(&o->w);
    for (uint32_t i = 0; i < n; i++)
        put_object(o, row->sub,
                   row->kind == OTLP_EVENTS ? (const void *)&s->events[i]
                                            : (const void *)&s->links[i]);
    json_array_end(&o->w);
}

static void put_scalar(struct json_writer *w, const struct otlp_field *row, const char *from)
{
    struct str s;
    size_t id_len = row->kind == OTLP_ID16 ? 16 : 8;
    switch ((enum otlp_kind)row->kind) {
    case OTLP_ID16:
    case OTLP_ID8:
        if (id_is_zero((const uint8_t *)from, id_len))
            return;
        json_key(w, row->json);
        json_hex(w, from, id_len);
        break;
    case OTLP_STR:
    case OTLP_NAME:
        memcpy(&s, from, sizeof s);
        if (s.n == 0)
            return;
        json_key(w, row->json);
        json_str(w, s);
        break;
    case OTLP_FIXED64:
        if (load_u64le(from) == 0)
            return;
        json_key(w, row->json);
        json_u64_str(w, load_u64le(from));
        break;
    default:
        if (load_u32le(from) == 0)
            return;
        json_key(w, row->json);
        json_u64(w, load_u32le(from));
    }
}

static void put_fields(struct json_out *o, const struct otlp_message *m, const void *obj)
{
    for (const struct otlp_field *row = m->fields + 1; row < m->fields + m->count; row++) {
        const char *from = (const char *)obj + row->obj_at;
        switch ((enum otlp_kind)row->kind) {
        case OTLP_NONE:
            break;
        case OTLP_PART:
            json_key(&o->w, row->json);
            put_object(o, row->sub, obj);
            break;
        case OTLP_ATTRS:
            put_attrs(&o->w, row->json, (const struct kvs *)(const void *)from);
            break;
        case OTLP_EVENTS:
        case OTLP_LINKS:
            put_events(o, row, obj);
            break;
        case OTLP_SPANS:
        case OTLP_SCOPES:
        case OTLP_RESOURCES:
            put_groups(o, row);
            break;
        default:
            put_scalar(&o->w, row, from);
        }
    }
}

void otlp_encode_traces_json(struct span *const *spans, size_t n, struct buf *out)
{
    struct json_out o = {json_writer_init(out, 0), spans, n};
    put_object(&o, &otlp_traces, &o); /* no scalars at the top */
}
