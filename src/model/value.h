/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what is inside an array or map value: the serialised OTLP message is walked in place. */
#ifndef LYMER_MODEL_VALUE_H
#define LYMER_MODEL_VALUE_H

#include "model/trace.h"

struct value_iter {
    const uint8_t *at, *end;
    bool map;
};

/* v is ATTR_ARRAY or ATTR_KVLIST. */
struct value_iter value_iter_begin(const struct value *v);
/* The next element; key is STR_NONE in an array. False at the end (or at damage). Unknown fields
 * are skipped. */
bool value_iter_next(struct value_iter *it, struct str *key, struct value *out);
/* Checks the serialised message of an array or map: well formed and at most `depth` levels below
 * it. E_INVALID or E_DEPTH. */
MUST_CHECK enum errc value_check(struct str message, bool map, unsigned depth);
/* Decodes one serialised AnyValue message. Lenient as protobuf is: unknown fields skipped, last one
 * wins. */
MUST_CHECK bool value_decode(struct str message, struct value *out);
/* Appends v as a serialised AnyValue message (the inverse). */
struct buf;
void value_encode(const struct value *v, struct buf *out);

#endif
