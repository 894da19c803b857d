/* SPDX-License-Identifier: Apache-2.0 */
#include "app/load/spans.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "tests/harness.h"

#include <stdlib.h>

/* Just enough protobuf to look inside what the generator made. */
struct field {
    uint64_t number, value;
    struct str bytes;
};

static bool next_field(struct str *in, struct field *f)
{
    const uint8_t *p = (const uint8_t *)in->p, *end = p + in->n;
    uint64_t tag, n = 0;
    if (!in->n)
        return false;
    p = varint_get(p, end, &tag);
    CHECK(p);
    *f = (struct field){.number = tag >> 3};
    switch (tag & 7) {
    case 0:
        p = varint_get(p, end, &f->value);
        CHECK(p);
        break;
    case 1:
        n = 8;
        break;
    case 5:
        n = 4;
        break;
    case 2:
        p = varint_get(p, end, &n);
        CHECK(p);
        break;
    default:
        CHECK(false);
    }
    CHECK((size_t)(end - p) >= n);
    f->bytes = str_of(p, n);
    *in = str_of(p + n, (size_t)(end - p) - n);
    return true;
}

#define SPANS_MAX 2000000

static struct {
    uint64_t hash, bytes, spans, requests, full, attrs, roots, errors, outside;
    uint64_t *ids;
    uint64_t min_ns, max_ns;
} saw;

static void look_at_span(struct str span)
{
    struct field f;
    bool parent = false;
    uint64_t id = 0;
    while (next_field(&span, &f)) {
        parent |= f.number == 4;
        saw.attrs += f.number == 9;
        saw.errors += f.number == 15;
        if (f.number == 2)
            id = load_u64le(f.bytes.p);
        if (f.number == 7 || f.number == 8) {
            uint64_t t = load_u64le(f.bytes.p);
            saw.outside += t < saw.min_ns || t > saw.max_ns;
        }
    }
    saw.roots += !parent;
    CHECK(saw.spans < SPANS_MAX);
    saw.ids[saw.spans++] = id;
}

static void look(void *arg, struct str request, uint32_t span_count)
{
    struct field rs, ss, s;
    uint64_t before = saw.spans, resources = 0;
    (void)arg;
    saw.hash = hash_str(request, saw.hash);
    saw.bytes += request.n;
    saw.requests++;
    saw.full += span_count == SPANS_BATCH;
    while (next_field(&request, &rs)) {
        CHECK_INT(rs.number, 1);
        resources++;
        while (next_field(&rs.bytes, &ss))
            while (ss.number == 2 && next_field(&ss.bytes, &s))
                if (s.number == 2)
                    look_at_span(s.bytes);
    }
    CHECK_INT(resources, 1); /* one sender, one resource */
    CHECK_INT(saw.spans - before, span_count);
}

static uint64_t make(const struct spans_config *c, uint64_t traces)
{
    free(saw.ids);
    memset(&saw, 0, sizeof saw);
    saw.ids = xcalloc(SPANS_MAX, sizeof *saw.ids);
    saw.min_ns = c->start_ns;
    saw.max_ns = c->start_ns + (traces + 1) * c->trace_every_ns + 3600 * NS_PER_S;
    struct spans *s = spans_new(c, look, NULL);
    uint64_t made = 0;
    for (uint64_t n = 0; n < traces; n++)
        made += spans_trace(s, n);
    spans_flush(s);
    spans_free(s);
    CHECK_INT(made, saw.spans);
    return saw.hash;
}

static const struct spans_config shop = {.profile = SPANS_SHOP,
                                         .seed = 1,
                                         .start_ns = UINT64_C(1767225600000000000),
                                         .trace_every_ns = 300000,
                                         .error_percent = 2};

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

TEST(spans_same_seed_same_bytes)
{
    struct spans_config other = shop;
    other.seed = 2;
    uint64_t first = make(&shop, 500), second = make(&shop, 500);
    CHECK(first == second);
    CHECK(make(&other, 500) != first);
    /* The bytes of a seed are what benches compare from day to day: a change of them is meant. */
    if (first != UINT64_C(0xa466d8e5c6d44631))
        test_fail(__FILE__, __LINE__, "the bytes of seed 1 hash to 0x%llx",
                  (unsigned long long)first);
}

TEST(spans_shop_is_as_large_as_it_should_be)
{
    make(&shop, 5000);
    double per_trace = (double)saw.spans / 5000, per_span = (double)saw.bytes / (double)saw.spans;
    CHECK(per_trace > 29 && per_trace < 33);
    CHECK(per_span > 560 && per_span < 620);
    CHECK(saw.attrs > 11 * saw.spans && saw.attrs < 13 * saw.spans);
    CHECK_INT(saw.roots, 5000);
    CHECK_INT(saw.outside, 0);
    CHECK(saw.errors > 0 && saw.errors < saw.spans / 50);
    CHECK(saw.full * 10 > saw.requests * 6);
}

TEST(spans_ids_are_all_different)
{
    make(&shop, 20000);
    qsort(saw.ids, saw.spans, sizeof *saw.ids, by_value);
    for (uint64_t i = 1; i < saw.spans; i++)
        CHECK(saw.ids[i] != saw.ids[i - 1] && saw.ids[i - 1] != 0);
}

TEST(spans_errors_follow_the_percentage)
{
    struct spans_config c = shop;
    c.error_percent = 0;
    make(&c, 1000);
    CHECK_INT(saw.errors, 0);
    c.error_percent = 100;
    make(&c, 1000);
    CHECK(saw.errors >= 2000); /* the origin and all above it */
}

TEST(spans_shapes_have_the_spans_asked_for)
{
    static const struct {
        enum spans_profile profile;
        uint32_t asked, made;
    } rows[] = {{SPANS_FLAT, 0, 8}, {SPANS_DEEP, 0, 100},       {SPANS_WIDE, 0, 1000},
                {SPANS_FLAT, 1, 1}, {SPANS_DEEP, 20000, 20000}, {SPANS_WIDE, 50000, 50000}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct spans_config c = shop;
        c.profile = rows[i].profile;
        c.trace_spans = rows[i].asked;
        c.error_percent = 50;
        make(&c, 3);
        CHECK_INT(saw.spans, 3 * rows[i].made);
        CHECK_INT(saw.roots, 3);
    }
}

TEST(spans_a_trace_is_the_same_whoever_makes_it)
{
    make(&shop, 1);
    struct spans *s = spans_new(&shop, look, NULL);
    uint32_t alone = spans_trace(s, 77);
    (void)spans_trace(s, 3);
    CHECK_INT(spans_trace(s, 77), alone);
    spans_free(s);
}
