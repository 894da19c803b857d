/* SPDX-License-Identifier: Apache-2.0 */
/* The first byte chooses the kind and the cap. Whatever comes, the cap holds, a failure leaves the
 * buffer as it was, and what did come out survives being packed again. */
#include "base/zip.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_round_trip(enum zip_kind kind, struct str bytes)
{
    struct buf zipped = buf_init(SIZE_MAX), back = buf_init(bytes.n);
    ensure(zip_deflate(kind, bytes, 1, &zipped) == E_OK);
    ensure(zip_inflate(kind, buf_str(&zipped), &back) == E_OK);
    ensure(str_eq(buf_str(&back), bytes));
    buf_fini(&zipped);
    buf_fini(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    enum zip_kind kind = (enum zip_kind)(data[0] % 4);
    struct buf out = buf_init(data[0] & 0x80 ? 300 : 256 * KIB);
    buf_add_c(&out, "keep");
    enum errc code = zip_inflate(kind, str_of(data + 1, n - 1), &out);
    ensure(out.n <= out.max && out.cap <= out.max);
    ensure(str_starts(buf_str(&out), STR("keep")));
    ensure(code == E_OK || out.n == 4);
    ensure((code == E_TOO_BIG) >= out.failed);
    if (code == E_OK)
        check_round_trip(kind, str_skip(buf_str(&out), 4));
    buf_fini(&out);
    return 0;
}
