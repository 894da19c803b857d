/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as JSON, token by token and skipped over: both must agree on whether it is well formed.
 * What was read and written again must read the same. */
#include "codec/json.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Reads everything and writes it again; true when it is well formed. */
static bool rewrite(struct str in, struct buf *out)
{
    struct arena a = arena_init(64 * MIB);
    struct json_reader r;
    struct json_writer w = json_writer_init(out, 0);
    json_reader_init(&r, in, &a);
    for (;;) {
        switch (json_next(&r)) {
        case JSON_END:
        case JSON_ERROR:
            ensure(json_offset(&r) <= in.n && (r.type == JSON_END) == (r.err == E_OK));
            arena_fini(&a);
            return r.type == JSON_END;
        case JSON_NULL:
            json_null(&w);
            break;
        case JSON_TRUE:
        case JSON_FALSE:
            json_bool(&w, r.type == JSON_TRUE);
            break;
        case JSON_NUMBER:
            json_raw(&w, r.text);
            break;
        case JSON_STRING:
            json_str(&w, r.text);
            break;
        case JSON_KEY:
            json_key(&w, r.text);
            break;
        case JSON_OBJECT:
            json_object(&w);
            break;
        case JSON_OBJECT_END:
            json_object_end(&w);
            break;
        case JSON_ARRAY:
            json_array(&w);
            break;
        case JSON_ARRAY_END:
            json_array_end(&w);
            break;
        }
    }
}

static bool skips(struct str in)
{
    struct arena a = arena_init(64 * MIB);
    struct json_reader r;
    json_reader_init(&r, in, &a);
    json_next(&r);
    json_skip(&r);
    bool ok = json_next(&r) == JSON_END;
    arena_fini(&a);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf once = buf_init(GIB), twice = buf_init(GIB);
    char *copy = malloc(n ? n : 1);
    if (n)
        memcpy(copy, data, n);
    bool ok = rewrite(str_of(copy, n), &once);
    ensure(skips(str_of(copy, n)) == ok);
    if (ok) {
        ensure(rewrite(buf_str(&once), &twice));
        ensure(str_eq(buf_str(&once), buf_str(&twice)));
    }
    free(copy);
    buf_fini(&once);
    buf_fini(&twice);
    return 0;
}
