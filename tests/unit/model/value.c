/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"

#include "base/buf.h"
#include "base/pb.h"
#include "model/value.h"

#include <math.h>

static struct value string(const char *s)
{
    return (struct value){.type = ATTR_STR, .s = str_from_c(s)};
}

/* An array or map of n elements; the bytes stay in out. */
static struct value list(struct buf *out, bool map, const struct kv *kv, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t element = pb_open(out, PB_TAG(1, PB_LEN), 1), value = 0;
        if (map) {
            pb_put_bytes(out, PB_TAG(1, PB_LEN), kv[i].key);
            value = pb_open(out, PB_TAG(2, PB_LEN), 1);
        }
        value_encode(&kv[i].val, out);
        if (map)
            pb_close(out, value, 1);
        pb_close(out, element, 1);
    }
    return (struct value){.type = map ? ATTR_KVLIST : ATTR_ARRAY, .s = buf_str(out)};
}

TEST(value_text_is_what_searches_compare)
{
    struct arena a = arena_init(MIB);
    struct buf array = buf_init(MIB), map = buf_init(MIB), outer = buf_init(MIB);
    struct kv kv[] = {{STR("b"), {.type = ATTR_INT, .i = -7}},
                      {STR("a"), string("q\"\n")},
                      {STR("a"), {.type = ATTR_DOUBLE, .d = (double)NAN}},
                      {STR(""), {.type = ATTR_BYTES, .s = STR("\xff")}},
                      {STR("e"), {.type = ATTR_EMPTY}},
                      {STR("t"), {.type = ATTR_BOOL, .b = true}}};
    struct value m = list(&map, true, kv, 6), v = list(&array, false, kv, 6);
    CHECK_STR(value_text(&v, &a), STR("[-7,\"q\\\"\\n\",\"NaN\",\"/w==\",null,true]"));
    CHECK_STR(value_text(&m, &a),
              STR("{\"\":\"/w==\",\"a\":\"NaN\",\"b\":-7,\"e\":null,\"t\":true}"));
    struct kv nest[] = {{STR("m"), m}, {STR("v"), v}};
    struct value both = list(&outer, true, nest, 2);
    CHECK(str_starts(value_text(&both, &a), STR("{\"m\":{\"\":\"/w==\",")));
    CHECK_STR(value_text(&kv[0].val, &a), STR("-7"));
    CHECK_STR(value_text(&kv[1].val, &a), STR("q\"\n"));
    CHECK_STR(value_text(&kv[3].val, &a), STR("/w=="));
    CHECK_STR(value_text(&kv[4].val, &a), STR(""));
    CHECK_STR(value_text(&kv[5].val, &a), STR("true"));
    CHECK_STR(value_text(&(struct value){.type = ATTR_DOUBLE, .d = 0.1}, &a), STR("0.1"));
    CHECK_STR(value_text(&(struct value){.type = ATTR_ARRAY}, &a), STR("[]"));
    CHECK_STR(value_text(&(struct value){.type = ATTR_KVLIST}, &a), STR("{}"));
    arena_fini(&a);
    buf_fini(&array);
    buf_fini(&map);
    buf_fini(&outer);
}

TEST(value_iter_walks_and_stops_at_damage)
{
    struct buf out = buf_init(MIB);
    struct kv kv[] = {{STR("k"), string("x")}, {STR("l"), {.type = ATTR_INT, .i = 5}}};
    struct value m = list(&out, true, kv, 2), got;
    struct value_iter it = value_iter_begin(&m);
    struct str key;
    CHECK(value_iter_next(&it, &key, &got));
    CHECK_STR(key, STR("k"));
    CHECK_STR(got.s, STR("x"));
    CHECK(value_iter_next(&it, &key, &got));
    CHECK_STR(key, STR("l"));
    CHECK_INT(got.i, 5);
    CHECK(!value_iter_next(&it, &key, &got));
    CHECK(!value_iter_next(&it, &key, &got));
    size_t whole = 0;
    for (size_t n = 0; n < m.s.n; n++) {
        struct str cut = test_guarded(str_take(m.s, n));
        struct value c = {.type = ATTR_KVLIST, .s = cut};
        enum errc code = value_check(cut, true, 0);
        whole += code == E_OK;
        CHECK(code == E_OK || code == E_INVALID);
        it = value_iter_begin(&c);
        while (value_iter_next(&it, &key, &got)) {
        }
    }
    CHECK_INT(whole, 2); /* nothing, and the first element alone */
    buf_fini(&out);
}

TEST(value_check_counts_levels)
{
    struct buf bufs[8];
    struct value v = string("x");
    for (unsigned i = 0; i < 8; i++) {
        bufs[i] = buf_init(MIB);
        struct kv kv = {STR("k"), v};
        v = list(&bufs[i], i % 2 == 0, &kv, 1);
        CHECK_INT(value_check(v.s, v.type == ATTR_KVLIST, i), E_OK);
        if (i)
            CHECK_INT(value_check(v.s, v.type == ATTR_KVLIST, i - 1), E_DEPTH);
    }
    for (unsigned i = 0; i < 8; i++)
        buf_fini(&bufs[i]);
}
