/* SPDX-License-Identifier: Apache-2.0 */
/* The first byte says how the rest is cut. A head and, when it says so, a chunked body: the verdict
 * and every byte handed out must not depend on the cuts. */
#include "serve/http1.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum http1_verdict scan(struct str in, size_t step, size_t *used, bool *done)
{
    struct http1_scan s = {0};
    *used = 0;
    *done = false;
    while (*used < in.n && !*done) {
        size_t n;
        enum http1_verdict v = http1_scan_feed(&s, str_take(str_skip(in, *used), step), &n, done);
        ensure(n <= min_size(step, in.n - *used));
        *used += n;
        if (v != HTTP1_OK)
            return v;
    }
    return HTTP1_OK;
}

static enum http1_verdict unchunk(struct str in, size_t step, struct buf *body, bool *done)
{
    struct http1_chunked c = {0};
    enum http1_verdict v = HTTP1_OK;
    *done = false;
    while (in.n && !*done && v == HTTP1_OK) {
        struct str piece = str_take(in, step), left = piece, data;
        while (left.n && !*done && v == HTTP1_OK) {
            v = http1_chunked_feed(&c, &left, &data, done);
            buf_add_str(body, data);
        }
        in = str_skip(in, piece.n - left.n);
    }
    return v;
}

static void check_body(struct str in, size_t step)
{
    struct buf whole = buf_init(1 * MIB), cut = buf_init(1 * MIB);
    bool done_whole, done_cut;
    enum http1_verdict a = unchunk(in, SIZE_MAX, &whole, &done_whole);
    enum http1_verdict b = unchunk(in, step, &cut, &done_cut);
    ensure(a == b && done_whole == done_cut && str_eq(buf_str(&whole), buf_str(&cut)));
    ensure(whole.n <= in.n);
    buf_fini(&whole);
    buf_fini(&cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    size_t step = data[0] % 64u + 1;
    struct str in = str_of(data + 1, size - 1);
    size_t used, used_cut;
    bool done, done_cut;
    enum http1_verdict v = scan(in, SIZE_MAX, &used, &done);
    if (in.n > HTTP_TARGET_MAX)
        return 0; /* which of two limits bites first may depend on the cuts */
    ensure(scan(in, step, &used_cut, &done_cut) == v && done == done_cut);
    ensure(v != HTTP1_OK || used == used_cut);
    struct http1_head h;
    if (v != HTTP1_OK || !done || http1_parse_head(str_take(in, used), &h) != HTTP1_OK)
        return 0;
    ensure(!(h.chunked && h.has_length) && h.path.n && h.field_count <= HTTP_HEADERS_MAX);
    if (h.chunked)
        check_body(str_skip(in, used), step);
    return 0;
}
