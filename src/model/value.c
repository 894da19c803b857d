/* SPDX-License-Identifier: Apache-2.0 */
/* AnyValue, ArrayValue and KeyValueList of OTLP, read in place. All three are lists of fields:
 *   AnyValue       1 string, 2 bool, 3 int64, 4 double, 5 ArrayValue, 6 KeyValueList, 7 bytes
 *   ArrayValue     1 AnyValue…            KeyValueList   1 KeyValue…
 *   KeyValue       1 key, 2 AnyValue
 * Within one message the last of a field wins. Field 8 (string_value_strindex) belongs to profiles
 * and is ignored like any field not named here. */
#include "model/value.h"

#include "base/pb.h"

enum {
    TAG_STRING = PB_TAG(1, PB_LEN),
    TAG_BOOL = PB_TAG(2, PB_VARINT),
    TAG_INT = PB_TAG(3, PB_VARINT),
    TAG_DOUBLE = PB_TAG(4, PB_I64),
    TAG_ARRAY = PB_TAG(5, PB_LEN),
    TAG_KVLIST = PB_TAG(6, PB_LEN),
    TAG_BYTES = PB_TAG(7, PB_LEN),
    TAG_ELEMENT = PB_TAG(1, PB_LEN),
    TAG_KEY = PB_TAG(1, PB_LEN),
    TAG_VALUE = PB_TAG(2, PB_LEN),
};

static void take_field(struct value *v, const struct pb_field *f)
{
    switch (f->tag) {
    case TAG_STRING:
        *v = (struct value){.type = ATTR_STR, .s = f->bytes};
        break;
    case TAG_BOOL:
        *v = (struct value){.type = ATTR_BOOL, .i = f->num != 0};
        break;
    case TAG_INT:
        *v = (struct value){.type = ATTR_INT, .i = (int64_t)f->num};
        break;
    case TAG_DOUBLE:
        *v = (struct value){.type = ATTR_DOUBLE};
        memcpy(&v->d, &f->num, sizeof v->d);
        break;
    case TAG_ARRAY:
        *v = (struct value){.type = ATTR_ARRAY, .s = f->bytes};
        break;
    case TAG_KVLIST:
        *v = (struct value){.type = ATTR_KVLIST, .s = f->bytes};
        break;
    case TAG_BYTES:
        *v = (struct value){.type = ATTR_BYTES, .s = f->bytes};
        break;
    default:
        break;
    }
}

bool value_decode(struct str message, struct value *out)
{
    struct pb c = pb_init(message);
    struct pb_field f;
    *out = (struct value){.type = ATTR_EMPTY};
    while (pb_next(&c, &f))
        take_field(out, &f);
    return !c.why;
}

/* A KeyValue's parts. Of a value sent twice the last counts, as Go's generated code has it. */
static bool key_value(struct str message, struct str *key, struct str *value)
{
    struct pb c = pb_init(message);
    struct pb_field f;
    *key = *value = STR("");
    while (pb_next(&c, &f)) {
        if (f.tag == TAG_KEY)
            *key = f.bytes;
        else if (f.tag == TAG_VALUE)
            *value = f.bytes;
    }
    return !c.why;
}

struct value_iter value_iter_begin(const struct value *v)
{
    struct pb c = pb_init(v->s);
    return (struct value_iter){.at = c.at, .end = c.end, .map = v->type == ATTR_KVLIST};
}

bool value_iter_next(struct value_iter *it, struct str *key, struct value *out)
{
    struct pb c = {.at = it->at, .end = it->end};
    struct pb_field f;
    *key = STR_NONE;
    while (pb_next(&c, &f)) {
        if (f.tag != TAG_ELEMENT)
            continue;
        it->at = c.at;
        struct str message = f.bytes;
        return (!it->map || key_value(f.bytes, key, &message)) && value_decode(message, out);
    }
    it->at = it->end;
    return false;
}

enum errc value_check(struct str message, bool map, unsigned depth)
{
    struct pb c = pb_init(message);
    struct pb_field f;
    while (pb_next(&c, &f)) {
        struct str key, element = f.bytes;
        struct value v;
        if (f.tag != TAG_ELEMENT)
            continue;
        if ((map && !key_value(f.bytes, &key, &element)) || !value_decode(element, &v))
            return E_INVALID;
        if (v.type != ATTR_ARRAY && v.type != ATTR_KVLIST)
            continue;
        enum errc code = depth == 0 ? E_DEPTH : value_check(v.s, v.type == ATTR_KVLIST, depth - 1);
        if (code != E_OK)
            return code;
    }
    return c.why ? E_INVALID : E_OK;
}

void value_encode(const struct value *v, struct buf *out)
{
    uint64_t bits;
    switch (v->type) {
    case ATTR_STR:
        pb_put_bytes(out, TAG_STRING, v->s);
        break;
    case ATTR_BOOL:
        pb_put_varint(out, TAG_BOOL, v->b);
        break;
    case ATTR_INT:
        pb_put_varint(out, TAG_INT, (uint64_t)v->i);
        break;
    case ATTR_DOUBLE:
        memcpy(&bits, &v->d, sizeof bits);
        pb_put_i64(out, TAG_DOUBLE, bits);
        break;
    case ATTR_BYTES:
        pb_put_bytes(out, TAG_BYTES, v->s);
        break;
    case ATTR_ARRAY:
        pb_put_bytes(out, TAG_ARRAY, v->s);
        break;
    case ATTR_KVLIST:
        pb_put_bytes(out, TAG_KVLIST, v->s);
        break;
    case ATTR_EMPTY:
    case ATTR_TYPE_COUNT:
        break;
    }
}
