/* SPDX-License-Identifier: Apache-2.0 */
/* What the two OTLP fuzz targets share. */
#ifndef LYMER_FUZZ_OTLP_CHECK_H
#define LYMER_FUZZ_OTLP_CHECK_H

#include "codec/otlp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static inline enum errc otlp_read(struct str in, bool json, struct batch_builder *b)
{
    struct err e;
    /* a copy of exact size, so that a sanitizer sees every byte read behind it */
    char *copy = malloc(in.n ? in.n : 1);
    if (in.n)
        memcpy(copy, in.p, in.n);
    in.p = copy;
    batch_builder_reset(b);
    enum errc code = json ? otlp_decode_traces_json(in, b, &e) : otlp_decode_traces(in, b, &e);
    free(copy);
    return code;
}

/* Seals, opens and encodes what is in the builder. */
static inline void otlp_write(struct batch_builder *b, struct buf *pb, struct buf *json)
{
    struct batch *batch, *opened;
    struct arena a = arena_init(GIB);
    struct err e;
    ensure(batch_seal(b, STR("t"), 1, &batch, &e) == E_OK);
    ensure(batch_open(batch_image(batch), &opened, &e) == E_OK);
    uint32_t n = opened->head->span_count;
    struct span_origin *groups = ARENA_ARRAY(&a, struct span_origin, opened->head->group_count + 1);
    struct span **spans = ARENA_ARRAY(&a, struct span *, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        spans[i] = span_from_batch(opened, &opened->spans[i], groups, &a);
        ensure(spans[i]);
        for (uint32_t k = 0; k < spans[i]->attrs.n; k++)
            ensure(value_text(&spans[i]->attrs.v[k].val, &a).p || a.failed);
    }
    otlp_encode_traces(spans, n, pb);
    otlp_encode_traces_json(spans, n, json);
    ensure(!pb->failed && !json->failed);
    batch_unref(batch);
    batch_unref(opened);
    arena_fini(&a);
}

static inline void otlp_check(struct str in, bool json)
{
    struct batch_builder b;
    struct buf pb = buf_init(GIB), text = buf_init(GIB), pb2 = buf_init(GIB), text2 = buf_init(GIB);
    batch_builder_init(&b);
    if (otlp_read(in, json, &b) == E_OK) {
        otlp_write(&b, &pb, &text);
        ensure(otlp_read(buf_str(&pb), false, &b) == E_OK && batch_builder_rejected(&b) == 0);
        otlp_write(&b, &pb2, &text2);
        ensure(str_eq(buf_str(&pb), buf_str(&pb2)) && str_eq(buf_str(&text), buf_str(&text2)));
        /* JSON cannot carry what is not UTF-8 or an unknown field inside a value, so only its own
         * form is stable */
        ensure(otlp_read(buf_str(&text), true, &b) == E_OK && batch_builder_rejected(&b) == 0);
        buf_reset(&pb2);
        buf_reset(&text2);
        otlp_write(&b, &pb2, &text2);
        ensure(str_eq(buf_str(&text), buf_str(&text2)));
    }
    buf_fini(&pb);
    buf_fini(&text);
    buf_fini(&pb2);
    buf_fini(&text2);
    batch_builder_fini(&b);
}

#endif
