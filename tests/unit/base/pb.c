/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"

#include "base/pb.h"

#include <stdlib.h>

TEST(pb_fields_of_every_wire_type)
{
    struct buf out = buf_init(MIB);
    pb_put_varint(&out, PB_TAG(1, PB_VARINT), UINT64_MAX);
    pb_put_i64(&out, PB_TAG(2, PB_I64), 0x0102030405060708);
    pb_put_bytes(&out, PB_TAG(300, PB_LEN), STR("abc"));
    pb_put_tag(&out, PB_TAG(4, PB_GROUP));
    pb_put_varint(&out, PB_TAG(1, PB_VARINT), 1);
    pb_put_tag(&out, PB_TAG(4, PB_GROUP_END));
    pb_put_i32(&out, PB_TAG(PB_FIELD_MAX, PB_I32), 7);
    struct pb c = pb_init(test_guarded(buf_str(&out)));
    struct pb_field f;
    CHECK(pb_next(&c, &f) && f.tag == PB_TAG(1, PB_VARINT) && f.num == UINT64_MAX);
    CHECK(pb_next(&c, &f) && f.tag == PB_TAG(2, PB_I64) && f.num == 0x0102030405060708);
    CHECK(pb_next(&c, &f) && f.tag == PB_TAG(300, PB_LEN));
    CHECK_STR(f.bytes, STR("abc"));
    CHECK(pb_next(&c, &f) && f.tag == PB_TAG(4, PB_GROUP));
    CHECK(pb_next(&c, &f) && f.tag == PB_TAG(PB_FIELD_MAX, PB_I32) && f.num == 7);
    CHECK(!pb_next(&c, &f) && !c.why);
    buf_fini(&out);
}

/* Whatever length was guessed, the shortest one is written and the content is whole. */
TEST(pb_open_and_close_fit_any_length)
{
    static const size_t lengths[] = {0, 1, 127, 128, 16383, 16384, 100000};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        for (unsigned guess = 1; guess <= 4; guess++) {
            struct buf out = buf_init(MIB), want = buf_init(MIB);
            struct str content = str_of(xcalloc(1, lengths[i] + 1), lengths[i]);
            size_t mark = pb_open(&out, PB_TAG(1, PB_LEN), guess);
            buf_add_str(&out, content);
            pb_close(&out, mark, guess);
            pb_put_bytes(&want, PB_TAG(1, PB_LEN), content);
            CHECK_STR(buf_str(&out), buf_str(&want));
            free((void *)(uintptr_t)content.p);
            buf_fini(&out);
            buf_fini(&want);
        }
    }
    struct buf small = buf_init(130);
    size_t mark = pb_open(&small, PB_TAG(1, PB_LEN), 1);
    buf_add_zero(&small, 128);
    pb_close(&small, mark, 1);
    CHECK(small.failed);
    buf_fini(&small);
}
