/* SPDX-License-Identifier: Apache-2.0 */
/* Every parser of base/num.h over the same text; what was read is written and read again. */
#include "base/num.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_numbers(struct str s)
{
    char text[NUM_TEXT_MAX];
    uint64_t u, u2;
    int64_t i, i2;
    double d, d2;
    if (num_get_u64(s, &u))
        ensure(num_get_u64(str_of(text, num_put_u64(text, u)), &u2) && u2 == u);
    if (num_get_i64(s, &i))
        ensure(num_get_i64(str_of(text, num_put_i64(text, i)), &i2) && i2 == i);
    if (num_get_double(s, &d)) {
        ensure(num_get_double(str_of(text, num_put_double(text, d)), &d2));
        ensure(d != d || memcmp(&d, &d2, sizeof d) == 0);
    }
    if (num_get_bytes(s, &u))
        ensure(s.n > 0);
}

static void check_times(struct str s)
{
    char text[NUM_TEXT_MAX];
    uint64_t u, u2;
    int64_t i, i2;
    if (num_get_duration(s, &i))
        ensure(num_get_duration(str_of(text, num_put_duration(text, i)), &i2) && i2 == i);
    if (num_get_rfc3339(s, &u))
        ensure(num_get_rfc3339(str_of(text, num_put_rfc3339(text, u)), &u2) && u2 == u);
}

static void check_bytes(struct str s)
{
    char text[NUM_TEXT_MAX];
    uint8_t id[8], id2[8];
    if (num_get_hex(s, id, sizeof id)) {
        ensure(num_get_hex(str_of(text, num_put_hex(text, id, sizeof id)), id2, sizeof id2));
        ensure(memcmp(id, id2, sizeof id) == 0);
    }
    struct buf bytes = buf_init(MIB), again = buf_init(2 * MIB), back = buf_init(MIB);
    if (num_get_base64(s, &bytes)) {
        num_put_base64(&again, buf_str(&bytes));
        ensure(num_get_base64(buf_str(&again), &back) && str_eq(buf_str(&back), buf_str(&bytes)));
    }
    buf_fini(&bytes);
    buf_fini(&again);
    buf_fini(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str s = str_of(data, n);
    check_numbers(s);
    check_times(s);
    check_bytes(s);
    return 0;
}
