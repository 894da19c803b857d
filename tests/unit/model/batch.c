/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"

#include "model/batch.h"
#include "base/bytes.h"

#include <stdio.h>
#include <stdlib.h>

static const uint8_t id16[16] = {1, 2, 3}, id8[8] = {4, 5, 6};

static void group(struct batch_builder *b, const char *service)
{
    CHECK(bb_group_begin(b));
    bb_attr_str(b, STR("service.name"), ATTR_STR, str_from_c(service));
    CHECK(bb_group_scope(b));
    bb_group_end(b);
}

static struct span_rec *span(struct batch_builder *b, const char *name, uint64_t start_ns)
{
    struct span_rec *s = bb_span(b);
    CHECK(s);
    memcpy(s->trace_id, id16, 16);
    memcpy(s->span_id, id8, 8);
    s->start_ns = start_ns;
    bb_name(b, s, str_from_c(name));
    return s;
}

static struct batch *seal(struct batch_builder *b)
{
    struct batch *batch;
    CHECK_OK(batch_seal(b, STR("acme"), 77, &batch, NULL));
    return batch;
}

/* Opens the image and checks that the result is the same image. */
static void check_opens(const struct batch *batch)
{
    struct batch *again;
    struct err e;
    if (batch_open(batch_image(batch), &again, &e) != E_OK)
        test_fail(__FILE__, __LINE__, "batch_open: %s", err_msg(&e));
    CHECK_STR(batch_image(again), batch_image(batch));
    CHECK_STR(again->tenant, batch->tenant);
    batch_unref(again);
}

TEST(batch_holds_what_was_built)
{
    struct batch_builder b;
    batch_builder_init(&b);
    group(&b, "cart");
    struct span_rec *s = span(&b, "GET /", 10);
    s->kind = KIND_SERVER;
    s->trace_state = bb_string(&b, STR("a=b"));
    bb_attr_str(&b, STR("http.method"), ATTR_STR, STR("GET"));
    bb_attr_bits(&b, STR("http.status"), ATTR_INT, 200);
    struct event_rec *e = bb_event(&b);
    e->name = bb_string(&b, STR("exception"));
    bb_attr_bits(&b, STR("fatal"), ATTR_BOOL, 1);
    struct link_rec *l = bb_link(&b);
    memcpy(l->trace_id, id16, 16);
    CHECK(bb_span_end(&b));
    span(&b, "GET /", 5);
    bb_attr_str(&b, STR("http.method"), ATTR_STR, STR("GET"));
    CHECK(bb_span_end(&b));

    struct batch *batch = seal(&b);
    check_opens(batch);
    CHECK_INT(batch->head->span_count, 2);
    CHECK_INT(batch->head->min_ns, 5);
    CHECK_INT(batch->head->max_ns, 10);
    CHECK_INT(batch->head->key_count, 4);
    CHECK_INT(batch->head->name_count, 1);
    CHECK_STR(batch->tenant, STR("acme"));
    CHECK_STR(batch_str(batch, batch->groups[0].service), STR("cart"));
    const struct span_rec *one = &batch->spans[0], *two = &batch->spans[1];
    CHECK_STR(batch_name(batch, one), STR("GET /"));
    CHECK_STR(batch_str(batch, one->trace_state), STR("a=b"));
    CHECK_INT(one->attr_count, 2);
    CHECK_INT(one->event_count, 1);
    CHECK_INT(one->link_count, 1);
    const struct attr_rec *a = &batch->attrs[one->attr_at];
    CHECK_STR(batch_key(batch, a), STR("http.method"));
    CHECK_STR(batch_str(batch, a->v.s), STR("GET"));
    CHECK_INT(a[1].v.i, 200);
    const struct event_rec *ev = &batch->events[one->event_at];
    CHECK_STR(batch_str(batch, ev->name), STR("exception"));
    CHECK_INT(ev->attr_count, 1);
    CHECK_STR(batch_key(batch, &batch->attrs[ev->attr_at]), STR("fatal"));
    CHECK_INT(batch->attrs[two->attr_at].v.s.off, a->v.s.off); /* shared bytes */
    batch_unref(batch);
    batch_builder_fini(&b);
}

static void attrs(struct batch_builder *b, const char *prefix, unsigned from, unsigned upto)
{
    char key[32];
    for (unsigned i = from; i < upto; i++) {
        snprintf(key, sizeof key, "%s%u", prefix, i);
        bb_attr_bits(b, str_from_c(key), ATTR_INT, i);
    }
}

/* Spans that bring keys past the limit are rejected, also through their resource; those that use
 * known keys are kept, and the next request starts anew. */
TEST(batch_rejects_keys_past_the_limit)
{
    struct batch_builder b;
    batch_builder_init(&b);
    b.keys_max = 10; /* service.name is one */
    for (int round = 0; round < 2; round++) {
        batch_builder_reset(&b);
        group(&b, "cart");
        span(&b, "fits", 1);
        attrs(&b, "k", 0, 9);
        CHECK(bb_span_end(&b));
        span(&b, "one more", 2);
        attrs(&b, "k", 3, 10);
        CHECK(!bb_span_end(&b));
        span(&b, "in an event", 3);
        CHECK(bb_event(&b));
        attrs(&b, "e", 0, 1);
        CHECK(!bb_span_end(&b));
        span(&b, "known", 4);
        attrs(&b, "k", 5, 9);
        CHECK(bb_span_end(&b));
        CHECK(bb_group_begin(&b));
        attrs(&b, "r", 0, 1);
        CHECK(bb_group_scope(&b));
        bb_group_end(&b);
        span(&b, "of such a resource", 5);
        CHECK(!bb_span_end(&b));
        CHECK_INT(b.rejected[REJECT_KEYS], 3);
        CHECK_INT(batch_builder_rejected(&b), 3);
        struct batch *batch = seal(&b);
        check_opens(batch);
        CHECK_INT(batch->head->key_count, 10);
        CHECK_INT(batch->head->span_count, 2);
        const struct span_rec *known = &batch->spans[1];
        CHECK_INT(known->start_ns, 4);
        CHECK_INT(known->attr_count, 4);
        CHECK_STR(batch_key(batch, &batch->attrs[known->attr_at]), STR("k5"));
        CHECK_INT(batch->attrs[known->attr_at].v.bits, 5);
        batch_unref(batch);
    }
    batch_builder_fini(&b);
}

TEST(batch_rejects_spans_and_counts_why)
{
    struct batch_builder b;
    batch_builder_init(&b);
    group(&b, "cart");
    struct span_rec *s = span(&b, "no trace id", 1);
    memset(s->trace_id, 0, 16);
    bb_attr_str(&b, STR("k"), ATTR_STR, STR("v"));
    CHECK(!bb_span_end(&b));
    s = span(&b, "no span id", 1);
    memset(s->span_id, 0, 8);
    CHECK(!bb_span_end(&b));
    span(&b, "deep", 1);
    bb_too_deep(&b);
    CHECK(!bb_span_end(&b));
    span(&b, "many", 1);
    for (unsigned i = 0; i <= BATCH_SPAN_ATTRS_MAX; i++)
        bb_attr_bits(&b, STR("k"), ATTR_INT, i);
    CHECK(!bb_span_end(&b));
    span(&b, "events", 1);
    for (unsigned i = 0; i < BATCH_SPAN_ATTRS_MAX; i++)
        CHECK(bb_event(&b));
    CHECK(!bb_event(&b));
    CHECK(!bb_span_end(&b));
    char *key = xcalloc(1, BATCH_KEY_MAX + 1);
    span(&b, "key", 1);
    bb_attr_bits(&b, str_of(key, BATCH_KEY_MAX + 1), ATTR_INT, 0);
    CHECK(!bb_span_end(&b));
    span(&b, "fits", 1);
    bb_attr_bits(&b, str_of(key, BATCH_KEY_MAX), ATTR_INT, 0);
    CHECK(bb_span_end(&b));
    free(key);
    CHECK_INT(b.rejected[REJECT_TRACE_ID], 1);
    CHECK_INT(b.rejected[REJECT_SPAN_ID], 1);
    CHECK_INT(b.rejected[REJECT_DEPTH], 1);
    CHECK_INT(b.rejected[REJECT_LIMIT], 3);
    CHECK_INT(batch_builder_rejected(&b), 6);
    struct batch *batch = seal(&b);
    check_opens(batch);
    CHECK_INT(batch->head->span_count, 1);
    CHECK_INT(batch->head->event_count, 0);
    CHECK_INT(batch->head->attr_count, 2);
    batch_unref(batch);
    batch_builder_fini(&b);
}

TEST(batch_scopes_share_their_resource)
{
    struct batch_builder b;
    batch_builder_init(&b);
    group(&b, "none"); /* no span: taken back */
    group(&b, "cart");
    for (int i = 0; i < 3; i++) {
        if (i)
            CHECK(bb_group_scope(&b));
        bb_attr_bits(&b, STR("scope"), ATTR_INT, (uint64_t)i);
        if (i == 1)
            continue; /* no span: its place is taken by the next */
        span(&b, "x", 1);
        CHECK(bb_span_end(&b));
    }
    group(&b, "mail");
    bb_too_deep(&b); /* belongs to nothing any more: the next span's */
    span(&b, "y", 1);
    CHECK(bb_span_end(&b));
    struct batch *batch = seal(&b);
    check_opens(batch);
    CHECK_INT(batch->head->group_count, 3);
    CHECK_INT(batch->groups[0].res_attr_at, batch->groups[1].res_attr_at);
    CHECK_STR(batch_str(batch, batch->groups[1].service), STR("cart"));
    CHECK_STR(batch_str(batch, batch->groups[2].service), STR("mail"));
    CHECK_INT(batch->groups[1].scope_attr_count, 1);
    CHECK_INT(batch->attrs[batch->groups[1].scope_attr_at].v.i, 2);
    batch_unref(batch);
    batch_builder_fini(&b);
}

TEST(batch_bad_resource_rejects_its_spans_only)
{
    struct batch_builder b;
    batch_builder_init(&b);
    CHECK(bb_group_begin(&b));
    bb_too_deep(&b);
    for (int i = 0; i < 2; i++) {
        CHECK(bb_group_scope(&b));
        span(&b, "x", 1);
        CHECK(!bb_span_end(&b));
    }
    CHECK(bb_group_begin(&b));
    CHECK(bb_group_scope(&b));
    bb_too_deep(&b);
    span(&b, "x", 1);
    CHECK(!bb_span_end(&b));
    CHECK(bb_group_scope(&b));
    span(&b, "x", 1);
    CHECK(bb_span_end(&b));
    CHECK_INT(b.rejected[REJECT_DEPTH], 3);
    batch_builder_fini(&b);
}

TEST(batch_many_groups_of_a_wide_resource_hit_the_limit)
{
    struct batch_builder b;
    batch_builder_init(&b);
    CHECK(bb_group_begin(&b));
    for (unsigned i = 0; i < BATCH_SPAN_ATTRS_MAX; i++)
        bb_attr_bits(&b, STR("k"), ATTR_INT, i);
    for (unsigned i = 0; i < 100; i++) {
        CHECK(bb_group_scope(&b));
        for (int j = 0; j < 2; j++) {
            span(&b, "x", 1);
            CHECK_INT(bb_span_end(&b), i < BATCH_GROUP_ATTRS_MAX / BATCH_SPAN_ATTRS_MAX);
        }
    }
    struct batch *batch = seal(&b);
    check_opens(batch);
    batch_unref(batch);
    batch_builder_fini(&b);
}

TEST(batch_rewind_takes_back_spans_and_groups)
{
    struct batch_builder b;
    batch_builder_init(&b);
    group(&b, "cart");
    span(&b, "x", 10);
    CHECK(bb_span_end(&b));
    struct batch *before = seal(&b);
    struct bb_mark m = bb_mark(&b);
    group(&b, "cart");
    span(&b, "x", 5);
    CHECK(bb_span_end(&b));
    bb_rewind(&b, &m);
    struct batch *after = seal(&b);
    CHECK_INT(after->head->span_count, before->head->span_count);
    CHECK_INT(after->head->group_count, 1);
    CHECK_INT(after->head->min_ns, 10);
    check_opens(after);
    batch_unref(before);
    batch_unref(after);
    batch_builder_fini(&b);
}

/* Spans of random shapes, some taken back: the builder's guesses must never show in the result. */
TEST(batch_guesses_never_show)
{
    struct batch_builder b;
    batch_builder_init(&b);
    for (int round = 0; round < 30; round++) {
        char text[64];
        uint64_t seed[400], kept = 0;
        batch_builder_reset(&b);
        group(&b, "cart");
        for (int i = 0; i < 400; i++) {
            uint64_t r = test_rand(), shape = r % 7, attrs = r >> 8 & 15;
            snprintf(text, sizeof text, "name %d", (int)shape);
            struct span_rec *s = span(&b, text, 1);
            for (uint64_t k = 0; k < attrs; k++) {
                uint64_t pick = hash_u64(r, k);
                char key[16];
                snprintf(key, sizeof key, "k%d", (int)(pick % 5 == 0 ? pick >> 8 & 31 : k));
                snprintf(text, sizeof text, "v%d", (int)(pick >> 16 & 3));
                bb_attr_str(&b, str_from_c(key), ATTR_STR, str_from_c(text));
            }
            if (r >> 32 & 1) {
                CHECK(bb_span_end(&b));
                seed[kept++] = r;
            } else if (r >> 33 & 1) {
                bb_span_abort(&b);
            } else {
                memset(s->span_id, 0, 8);
                CHECK(!bb_span_end(&b));
            }
        }
        struct batch *batch = seal(&b);
        check_opens(batch);
        CHECK_INT(batch->head->span_count, kept);
        for (uint64_t i = 0; i < kept; i++) {
            const struct span_rec *s = &batch->spans[i];
            uint64_t r = seed[i];
            snprintf(text, sizeof text, "name %d", (int)(r % 7));
            CHECK_STR(batch_name(batch, s), str_from_c(text));
            CHECK_INT(s->attr_count, r >> 8 & 15);
            for (uint64_t k = 0; k < s->attr_count; k++) {
                const struct attr_rec *a = &batch->attrs[s->attr_at + k];
                uint64_t pick = hash_u64(r, k);
                snprintf(text, sizeof text, "k%d", (int)(pick % 5 == 0 ? pick >> 8 & 31 : k));
                CHECK_STR(batch_key(batch, a), str_from_c(text));
                snprintf(text, sizeof text, "v%d", (int)(pick >> 16 & 3));
                CHECK_STR(batch_str(batch, a->v.s), str_from_c(text));
            }
        }
        batch_unref(batch);
    }
    batch_builder_fini(&b);
}

TEST(batch_many_names_and_keys)
{
    struct batch_builder b;
    batch_builder_init(&b);
    for (int round = 0; round < 2; round++) {
        batch_builder_reset(&b);
        group(&b, "cart");
        for (int i = 0; i < 5000; i++) {
            char text[32];
            snprintf(text, sizeof text, "%d", i);
            span(&b, text, 1);
            bb_attr_bits(&b, str_from_c(text), ATTR_INT, (uint64_t)i);
            CHECK(bb_span_end(&b));
        }
        struct batch *batch = seal(&b);
        check_opens(batch);
        CHECK_INT(batch->head->key_count, 5001);
        CHECK_INT(batch->head->name_count, 5000);
        CHECK_STR(batch_key(batch, &batch->attrs[4001]), STR("4000"));
        batch_unref(batch);
    }
    batch_builder_fini(&b);
}

TEST(batch_past_the_cap_is_refused_and_memory_given_back)
{
    struct batch_builder b;
    batch_builder_init(&b);
    group(&b, "cart");
    size_t n = 8 * MIB;
    char *big = xmalloc(n);
    memset(big, 'x', n);
    for (int i = 0; i < 40 && !batch_builder_failed(&b); i++) {
        big[0] = (char)i; /* no two alike */
        if (!bb_span(&b))
            break;
        bb_attr_str(&b, STR("k"), ATTR_STR, str_of(big, n));
        struct span_rec *s = (struct span_rec *)(void *)b.spans.p + b.spans.n;
        memcpy(s->trace_id, id16, 16);
        memcpy(s->span_id, id8, 8);
        bb_span_end(&b);
    }
    CHECK(batch_builder_failed(&b));
    CHECK(!bb_span(&b));
    struct batch *batch;
    struct err e;
    CHECK_INT(batch_seal(&b, STR(""), 0, &batch, &e), E_TOO_BIG);
    batch_builder_reset(&b);
    CHECK(!batch_builder_failed(&b));
    CHECK(b.heap.cap <= 64 * KIB);
    group(&b, "cart");
    span(&b, "x", 1);
    CHECK(bb_span_end(&b));
    batch = seal(&b);
    check_opens(batch);
    batch_unref(batch);
    free(big);
    batch_builder_fini(&b);
}

static struct batch *sample(struct batch_builder *b)
{
    group(b, "cart");
    for (int i = 0; i < 3; i++) {
        span(b, "x", 9);
        bb_attr_str(b, STR("k"), ATTR_STR, STR("value"));
        bb_attr_bits(b, STR("b"), ATTR_BOOL, 1);
        bb_attr_bits(b, STR("e"), ATTR_EMPTY, 0);
        bb_event(b)->name = bb_string(b, STR("ev"));
        bb_attr_bits(b, STR("i"), ATTR_INT, 1);
        bb_link(b)->trace_state = bb_string(b, STR("t=s"));
        CHECK(bb_span_end(b));
    }
    return seal(b);
}

TEST(batch_open_refuses_every_cut)
{
    struct batch_builder b;
    batch_builder_init(&b);
    struct batch *batch = sample(&b), *out;
    struct str image = batch_image(batch);
    for (size_t n = 0; n < image.n; n++) {
        enum errc code = batch_open(test_guarded(str_take(image, n)), &out, NULL);
        CHECK(code == E_TRUNCATED || code == E_CORRUPT);
    }
    batch_unref(batch);
    batch_builder_fini(&b);
}

/* What a reader may do with an opened batch must stay inside it, whatever was damaged. */
static void walk(const struct batch *b)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < b->head->span_count; i++) {
        const struct span_rec *s = &b->spans[i];
        sum += batch_name(b, s).n + b->groups[s->group].res_attr_count;
        for (uint32_t k = 0; k < s->attr_count; k++) {
            const struct attr_rec *a = &b->attrs[s->attr_at + k];
            struct str v = a->type == ATTR_STR ? batch_str(b, a->v.s) : batch_key(b, a);
            sum += hash_str(v, sum);
        }
        for (uint32_t k = 0; k < s->event_count; k++)
            sum += hash_str(batch_str(b, b->events[s->event_at + k].name), sum);
    }
    volatile uint64_t sink = sum;
    (void)sink;
}

TEST(batch_open_survives_damage)
{
    struct batch_builder b;
    batch_builder_init(&b);
    struct batch *batch = sample(&b), *out;
    struct str image = batch_image(batch);
    char *copy = xmalloc(image.n);
    unsigned refused = 0;
    for (int i = 0; i < 20000; i++) {
        memcpy(copy, image.p, image.n);
        for (uint64_t k = test_rand() % 3 + 1; k; k--)
            copy[test_rand() % image.n] = (char)(test_rand() % 3 ? test_rand() : 0xff);
        enum errc code = batch_open(str_of(copy, image.n), &out, NULL);
        if (code == E_OK) {
            walk(out);
            batch_unref(out);
        }
        refused += code != E_OK;
    }
    CHECK(refused > 5000 && refused < 20000);
    memcpy(copy, image.p, image.n);
    store_u16le(copy + 4, BATCH_VERSION + 1);
    CHECK_INT(batch_open(str_of(copy, image.n), &out, NULL), E_VERSION);
    free(copy);
    batch_unref(batch);
    batch_builder_fini(&b);
}
