/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the cases of tests/golden/otlp.txt, which the reference implementation wrote (make_otlp.py
 * says how). Each is decoded and encoded again as protobuf and as JSON, which must give the
 * reference's bytes; and what was encoded must decode to the same again. */
#include "tests/harness.h"

#include "base/buf.h"
#include "base/num.h"
#include "codec/otlp.h"

#include <stdio.h>
#include <stdlib.h>

struct golden {
    struct str name, input, json, out, error;
    bool input_is_json;
    uint64_t rejected;
};

#define CASES_MAX 1000

static struct golden cases[CASES_MAX];
static size_t case_count;

static struct str unhex(struct str hex)
{
    char *bytes = xmalloc(hex.n / 2 + 1);
    CHECK(num_get_hex(hex, bytes, hex.n / 2));
    return str_of(bytes, hex.n / 2);
}

static const struct golden *case_named(struct str name)
{
    for (size_t i = 0; i < case_count; i++)
        if (str_eq(cases[i].name, name))
            return &cases[i];
    test_fail(__FILE__, __LINE__, "no case %.*s", STR_ARG(name));
}

static void take_line(struct golden *g, struct str line)
{
    struct str word;
    CHECK(str_split(&line, ' ', &word));
    line = line.p ? line : STR("");
    if (str_eq_c(word, "case")) {
        g->name = line;
    } else if (str_eq_c(word, "pb")) {
        g->input = unhex(line);
    } else if (str_eq_c(word, "in")) {
        g->input = line;
        g->input_is_json = true;
    } else if (str_eq_c(word, "rejected")) {
        CHECK(num_get_u64(line, &g->rejected));
    } else if (str_eq_c(word, "error")) {
        g->error = line;
    } else if (str_eq_c(word, "json")) {
        g->json = line;
    } else if (str_eq_c(word, "out")) {
        g->out = str_eq_c(line, "pb") ? g->input : unhex(line);
    } else if (str_eq_c(word, "same")) {
        g->json = case_named(line)->json;
        g->out = case_named(line)->out;
    } else {
        test_fail(__FILE__, __LINE__, "unknown line %.*s", STR_ARG(word));
    }
}

static void load_cases(void)
{
    FILE *f = fopen("tests/golden/otlp.txt", "rb");
    if (!f)
        test_fail(__FILE__, __LINE__, "run me from the top of the tree");
    size_t max = 4 * MIB;
    char *text = xmalloc(max);
    struct str rest = str_of(text, fread(text, 1, max, f)), line;
    fclose(f);
    CHECK(rest.n > 0 && rest.n < max);
    while (str_split(&rest, '\n', &line)) {
        CHECK(case_count < CASES_MAX);
        if (line.n)
            take_line(&cases[case_count], line);
        else if (cases[case_count].name.n)
            case_count++;
    }
    CHECK(case_count > 200);
}

static enum errc decode(struct batch_builder *b, struct str input, bool json)
{
    struct err e = {0};
    input = test_guarded(input);
    batch_builder_reset(b);
    enum errc code = json ? otlp_decode_traces_json(input, b, &e)
                          : otlp_decode_traces(input, b, &e);
    if (code != E_OK && !strstr(e.msg, " at byte "))
        test_fail(__FILE__, __LINE__, "error without a place: %s", e.msg);
    return code;
}

/* The builder's spans as protobuf or JSON. */
static struct str encode(struct batch_builder *b, bool json)
{
    struct batch *batch, *opened;
    struct arena a = arena_init(64 * MIB);
    struct buf out = buf_init(64 * MIB);
    CHECK_OK(batch_seal(b, STR("t"), 1, &batch, NULL));
    CHECK_OK(batch_open(batch_image(batch), &opened, NULL));
    uint32_t n = opened->head->span_count;
    struct span_origin *origins = ARENA_ARRAY(&a, struct span_origin,
                                              opened->head->group_count + 1);
    struct span **spans = ARENA_ARRAY(&a, struct span *, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        spans[i] = span_from_batch(opened, &opened->spans[i], origins, &a);
        CHECK(spans[i]);
    }
    if (json)
        otlp_encode_traces_json(spans, n, &out);
    else
        otlp_encode_traces(spans, n, &out);
    CHECK(!out.failed);
    batch_unref(batch);
    batch_unref(opened);
    arena_fini(&a);
    return buf_str(&out);
}

static void check_encodes(const struct golden *g, struct batch_builder *b)
{
    struct str pb = encode(b, false), json = encode(b, true);
    size_t same = 0, from;
    while (same < json.n && same < g->json.n && json.p[same] == g->json.p[same])
        same++;
    from = same < 40 ? 0 : same - 40;
    if (!str_eq(json, g->json))
        test_fail(__FILE__, __LINE__, "%.*s\n# got  %.*s\n# want %.*s", STR_ARG(g->name),
                  STR_ARG(str_take(str_skip(json, from), 200)),
                  STR_ARG(str_take(str_skip(g->json, from), 200)));
    if (!str_eq(pb, g->out))
        test_fail(__FILE__, __LINE__, "%.*s: other protobuf, JSON is right", STR_ARG(g->name));
    free((void *)(uintptr_t)pb.p);
    free((void *)(uintptr_t)json.p);
}

TEST(otlp_agrees_with_the_reference)
{
    struct batch_builder b;
    batch_builder_init(&b);
    load_cases();
    for (size_t i = 0; i < case_count; i++) {
        const struct golden *g = &cases[i];
        enum errc code = decode(&b, g->input, g->input_is_json);
        if (!str_eq_c(g->error.n ? g->error : STR("OK"), err_name(code)))
            test_fail(__FILE__, __LINE__, "%.*s: %s, want %.*s", STR_ARG(g->name), err_name(code),
                      STR_ARG(g->error));
        if (code != E_OK)
            continue;
        if (batch_builder_rejected(&b) != g->rejected)
            test_fail(__FILE__, __LINE__, "%.*s: rejected %u", STR_ARG(g->name),
                      batch_builder_rejected(&b));
        check_encodes(g, &b);
        CHECK_OK(decode(&b, g->out, false));
        check_encodes(g, &b);
        CHECK_OK(decode(&b, g->json, true));
        check_encodes(g, &b);
    }
    batch_builder_fini(&b);
}

TEST(otlp_refuses_every_cut)
{
    struct batch_builder b;
    batch_builder_init(&b);
    load_cases();
    const struct golden *full = case_named(STR("full"));
    size_t whole = 0; /* between two ResourceSpans a cut leaves a message that is complete */
    for (size_t n = 1; n < full->input.n; n++) {
        enum errc code = decode(&b, str_take(full->input, n), false);
        whole += code == E_OK;
        CHECK(code == E_OK || code == E_TRUNCATED);
    }
    CHECK_INT(whole, 1);
    for (size_t n = 0; n < full->json.n; n++)
        CHECK_INT(decode(&b, str_take(full->json, n), true), E_TRUNCATED);
    batch_builder_fini(&b);
}

/* One byte changed: an answer, whatever it is, and a batch that opens. */
TEST(otlp_survives_damage)
{
    struct batch_builder b;
    batch_builder_init(&b);
    load_cases();
    const struct golden *full = case_named(STR("full"));
    char *copy = xmalloc(full->json.n + full->input.n);
    for (int i = 0; i < 4000; i++) {
        struct str from = i % 2 ? full->json : full->input;
        memcpy(copy, from.p, from.n);
        for (uint64_t k = test_rand() % 3 + 1; k; k--)
            copy[test_rand() % from.n] = (char)test_rand();
        struct batch *batch, *opened;
        batch_builder_reset(&b);
        if ((i % 2 ? otlp_decode_traces_json(str_of(copy, from.n), &b, NULL)
                   : otlp_decode_traces(str_of(copy, from.n), &b, NULL)) != E_OK)
            continue;
        CHECK_OK(batch_seal(&b, STR(""), 0, &batch, NULL));
        CHECK_OK(batch_open(batch_image(batch), &opened, NULL));
        batch_unref(opened);
        batch_unref(batch);
    }
    free(copy);
    batch_builder_fini(&b);
}
