/* SPDX-License-Identifier: Apache-2.0 */
/* Jaeger's spelling of ids, kinds and quoted values. */
#include "base/num.h"
#include "codec/jaeger_json.h"
#include "tests/harness.h"

static const struct {
    const char *in, *id, *error; /* id as 32 digits, or the sentence */
} ids[] = {
    {"1", "00000000000000000000000000000001", NULL},
    {"ABCDEF", "00000000000000000000000000abcdef", NULL},
    {"0123456789abcdef", "00000000000000000123456789abcdef", NULL},
    {"f0123456789abcdef", "000000000000000f0123456789abcdef", NULL},
    {"0123456789abcdef0123456789ABCDEF", "0123456789abcdef0123456789abcdef", NULL},
    {"0", "00000000000000000000000000000000", NULL},
    {"", NULL, "strconv.ParseUint: parsing \"\": invalid syntax"},
    {"xyz", NULL, "strconv.ParseUint: parsing \"xyz\": invalid syntax"},
    {"+1", NULL, "strconv.ParseUint: parsing \"+1\": invalid syntax"},
    {"g0123456789abcdef", NULL, "strconv.ParseUint: parsing \"g\": invalid syntax"},
    {"f0123456789abcdeg", NULL, "strconv.ParseUint: parsing \"0123456789abcdeg\": invalid syntax"},
    {"0123456789abcdef0123456789abcdef0", NULL,
     "TraceID cannot be longer than 32 hex characters: 0123456789abcdef0123456789abcdef0"},
};

TEST(trace_ids_are_read_as_jaeger_reads_them)
{
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        uint8_t id[16];
        char text[32];
        struct err e = {0};
        enum errc rc = jaeger_trace_id_parse(str_from_c(ids[i].in), id, &e);
        CHECK_INT(rc, ids[i].id ? E_OK : E_INVALID);
        if (rc)
            CHECK_STR(str_from_c(e.msg), str_from_c(ids[i].error));
        else
            CHECK_STR(str_of(text, num_put_hex(text, id, 16)), str_from_c(ids[i].id));
    }
}

TEST(trace_ids_are_16_digits_when_the_high_half_is_zero)
{
    uint8_t id[16] = {[15] = 0xab};
    char text[32];
    CHECK_STR(str_of(text, jaeger_trace_id_text(id, text)), STR("00000000000000ab"));
    id[7] = 1;
    CHECK_STR(str_of(text, jaeger_trace_id_text(id, text)),
              STR("000000000000000100000000000000ab"));
}

TEST(quoting_is_go_s)
{
    static const struct {
        struct str in, out;
    } rows[] = {
        {{"abc", 3}, {"\"abc\"", 5}},
        {{"a\"\\b", 4}, {"\"a\\\"\\\\b\"", 8}},
        {{"\n\t\x01\x7f", 4}, {"\"\\n\\t\\x01\\x7f\"", 14}},
        {{"\xff\xc3", 2}, {"\"\\xff\\xc3\"", 10}},
        {{"\xc3\xa9\xc2\x85", 4}, {"\"\xc3\xa9\\u0085\"", 10}},
        {{"", 0}, {"\"\"", 2}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf b = buf_init(KIB);
        jaeger_quote(&b, rows[i].in);
        CHECK_STR(buf_str(&b), rows[i].out);
        buf_fini(&b);
    }
}

TEST(kinds_have_names_both_ways)
{
    for (unsigned k = 0; k < KIND_COUNT; k++) {
        enum span_kind kind;
        CHECK(jaeger_kind_from(jaeger_kind_text((enum span_kind)k), &kind));
        CHECK_INT(kind, k);
    }
    enum span_kind kind;
    CHECK(!jaeger_kind_from(STR("SERVER"), &kind));
    CHECK_STR(jaeger_kind_text(KIND_SERVER), STR("server"));
}
