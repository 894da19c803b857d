/* SPDX-License-Identifier: Apache-2.0 */
/* The fast lane of the batch builder, for a decoder that reads attributes in place: the usual case
 * of bb_attr_str and bb_attr_bits inlined, everything else left to those. How the guess works is
 * told in batch.c. */
#ifndef LYMER_MODEL_BATCH_ADD_H
#define LYMER_MODEL_BATCH_ADD_H

#include "base/bytes.h"
#include "model/batch.h"

static inline struct attr_rec *bb_attrs(const struct batch_builder *b)
{
    return (struct attr_rec *)(void *)b->attrs.p;
}

static inline struct sref batch_dict_ref(const struct batch_dict *d, uint32_t id)
{
    return ((const struct sref *)(const void *)d->refs.p)[id];
}

/* The attribute expected next when it has this key and there is room for one more, else NULL. */
static inline const struct attr_rec *bb_guess_wide(const struct batch_builder *b, struct str key)
{
    const struct attr_rec *guess = bb_attrs(b) + b->expect;
    if (UNLIKELY(b->expect >= b->attrs.n || b->attrs.n == b->attrs.cap ||
                 b->attrs.n - b->owner_at >= BATCH_SPAN_ATTRS_MAX))
        return NULL;
    struct sref k = batch_dict_ref(&b->keys, guess->key);
    return k.len == key.n && bytes_eq_wide(b->heap.p + k.off, key.p, key.n) ? guess : NULL;
}

/* bb_attr_str of a key and a string with BYTES_WIDE readable bytes each. */
static inline void bb_attr_str_wide(struct batch_builder *b, struct str key, struct str value)
{
    const struct attr_rec *guess = bb_guess_wide(b, key);
    if (UNLIKELY(!guess || b->heap.cap - b->heap.n < value.n + BYTES_WIDE)) {
        bb_attr_str(b, key, ATTR_STR, value);
        return;
    }
    struct attr_rec *a = bb_attrs(b) + b->attrs.n;
    *a = *guess;
    b->attrs.n++;
    b->expect++;
    if (a->type == ATTR_STR && a->v.s.len == value.n &&
        bytes_eq_wide(b->heap.p + a->v.s.off, value.p, value.n))
        return;
    bytes_copy_wide(b->heap.p + b->heap.n, value.p, value.n);
    a->type = ATTR_STR;
    a->v.s = (struct sref){value.n ? b->heap.n : 0, (uint32_t)value.n};
    b->heap.n += (uint32_t)value.n;
}

/* bb_attr_bits of a key with BYTES_WIDE readable bytes. */
static inline void bb_attr_bits_wide(struct batch_builder *b, struct str key, enum attr_type type,
                                     uint64_t bits)
{
    const struct attr_rec *guess = bb_guess_wide(b, key);
    if (UNLIKELY(!guess)) {
        bb_attr_bits(b, key, type, bits);
        return;
    }
    struct attr_rec *a = bb_attrs(b) + b->attrs.n;
    *a = (struct attr_rec){.key = guess->key, .type = (uint8_t)type, .v.bits = bits};
    b->attrs.n++;
    b->expect++;
}

#endif
