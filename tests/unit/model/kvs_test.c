/* SPDX-License-Identifier: Apache-2.0 */
/* The order attributes are sorted in must be total, also over what enemies send: NaN, equal keys,
 * zeros of both signs. */
#include "base/idmap.h"
#include "model/kvs.h"
#include "tests/harness.h"

#include <math.h>

static struct value random_value(void)
{
    static const double doubles[] = {0.0, -0.0, 1.5, -1.5, 1e308, -1e308, 0.1};
    struct value v = {.type = (enum attr_type)(test_rand() % ATTR_TYPE_COUNT)};
    switch (v.type) {
    case ATTR_BOOL:
        v.b = test_rand() & 1;
        break;
    case ATTR_INT:
        v.i = (int64_t)(test_rand() % 5) - 2;
        break;
    case ATTR_DOUBLE:
        v.d = test_rand() % 4 ? doubles[test_rand() % ARRAY_LEN(doubles)] : (double)NAN;
        break;
    default:
        v.s = str_of("abcabc", test_rand() % 7);
        break;
    }
    return v;
}

TEST(sorting_gives_a_total_order_for_every_length)
{
    static struct kv kv[200];
    for (uint32_t n = 0; n < ARRAY_LEN(kv); n++) {
        struct kvs kvs = {kv, n};
        for (uint32_t i = 0; i < n; i++)
            kv[i] = (struct kv){str_of("kkkk", test_rand() % 5), random_value()};
        kvs_sort(&kvs);
        for (uint32_t i = 1; i < n; i++)
            for (uint32_t k = 0; k < i; k++)
                CHECK(kv_cmp(&kv[k], &kv[i]) <= 0);
        CHECK(kvs_eq(&kvs, &kvs));
    }
}

TEST(doubles_stand_in_numeric_order)
{
    static const double order[] = {-HUGE_VAL, -1.5, -0.0, 0.0, 1.5, HUGE_VAL};
    for (size_t i = 1; i < ARRAY_LEN(order); i++) {
        struct value a = {.type = ATTR_DOUBLE, .d = order[i - 1]};
        struct value b = {.type = ATTR_DOUBLE, .d = order[i]};
        CHECK(value_cmp(&a, &b) < 0);
        CHECK(value_cmp(&b, &a) > 0);
        CHECK(value_cmp(&a, &a) == 0);
    }
}

TEST(lists_that_differ_hash_and_compare_apart)
{
    struct kv a[] = {{STR("k"), {.type = ATTR_STR, .s = STR("1")}}};
    struct kv b[] = {{STR("k"), {.type = ATTR_BYTES, .s = STR("1")}}};
    struct kv c[] = {{STR("k1"), {.type = ATTR_STR, .s = STR("")}}};
    struct kvs x = {a, 1}, y = {b, 1}, z = {c, 1}, none = {a, 0};
    CHECK(!kvs_eq(&x, &y) && !kvs_eq(&x, &z) && !kvs_eq(&x, &none));
    CHECK(kvs_hash(&x, 7) != kvs_hash(&y, 7) && kvs_hash(&x, 7) != kvs_hash(&z, 7));
    CHECK(kvs_hash(&x, 7) == kvs_hash(&x, 7));
}

TEST(idmap_finds_every_key_and_no_other)
{
    struct arena arena = arena_init(MIB);
    struct idmap m;
    bool fresh;
    CHECK(idmap_init(&m, 1000, &arena));
    for (uint32_t i = 0; i < 1000; i++) {
        idmap_put(&m, (uint64_t)i << 32, i, &fresh);
        CHECK(fresh);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        CHECK_INT(*idmap_put(&m, (uint64_t)i << 32, 7, &fresh), i);
        CHECK(!fresh);
        CHECK_INT(*idmap_get(&m, (uint64_t)i << 32), i);
        CHECK(!idmap_get(&m, ((uint64_t)i << 32) + 1));
    }
    arena_fini(&arena);
}

TEST(spans_are_grouped_by_origin_in_order)
{
    struct arena arena = arena_init(MIB);
    static const struct resource r1, r2;
    static const struct scope s1, s2;
    struct span v[6] = {
        {.resource = &r1, .scope = &s1}, {.resource = &r2, .scope = &s1},
        {.resource = &r1, .scope = &s2}, {.resource = &r1, .scope = &s1},
        {.resource = &r2, .scope = &s1}, {.resource = &r1, .scope = &s2},
    };
    struct span *list[6] = {&v[0], &v[1], &v[2], &v[3], &v[4], &v[5]};
    struct trace t = {.spans = list, .span_count = 6};
    struct span **out = trace_by_origin(&t, &arena);
    static const unsigned want[] = {0, 3, 1, 4, 2, 5};
    for (size_t i = 0; i < 6; i++)
        CHECK(out[i] == &v[want[i]]);
    arena_fini(&arena);
}
