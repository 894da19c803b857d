/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"

#include "codec/json.h"

#include <math.h>

/* Reads the whole text and tells the tokens as letters: { } [ ] k s n t f 0 and . for the end, with
 * E at an error. */
static struct str tokens(const char *text, struct arena *a, struct json_reader *r)
{
    static char out[4096];
    static const char letter[] = {
        [JSON_END] = '.',    [JSON_ERROR] = 'E',      [JSON_NULL] = '0',   [JSON_TRUE] = 't',
        [JSON_FALSE] = 'f',  [JSON_NUMBER] = 'n',     [JSON_STRING] = 's', [JSON_KEY] = 'k',
        [JSON_OBJECT] = '{', [JSON_OBJECT_END] = '}', [JSON_ARRAY] = '[',  [JSON_ARRAY_END] = ']'};
    size_t n = 0;
    json_reader_init(r, test_guarded(str_from_c(text)), a);
    do
        out[n++] = letter[json_next(r)];
    while (r->type != JSON_END && r->type != JSON_ERROR && n < sizeof out);
    return str_of(out, n);
}

TEST(json_reads_what_the_grammar_allows)
{
    static const struct {
        const char *text, *tokens;
        enum errc err;
        size_t at;
    } cases[] = {
        {" {} ", "{}.", E_OK, 4},
        {"[]", "[].", E_OK, 2},
        {"{\"a\":[1,-2.5e+3,{}],\"b\":null}", "{k[nn{}]k0}.", E_OK, 29},
        {"true", "t.", E_OK, 4},
        {"[true ,\tfalse\r\n, null]", "[tf0].", E_OK, 22},
        {"\"\\u00e9\"", "s.", E_OK, 8},
        {"0", "n.", E_OK, 1},
        {"-0.0E-1", "n.", E_OK, 7},
        {"", "E", E_TRUNCATED, 0},
        {"[", "[E", E_TRUNCATED, 1},
        {"[1,", "[nE", E_TRUNCATED, 3},
        {"{\"a\"", "{kE", E_TRUNCATED, 4},
        {"{\"a\":", "{kE", E_TRUNCATED, 5},
        {"tru", "E", E_TRUNCATED, 3},
        {"\"abc", "E", E_TRUNCATED, 4},
        {"\"\\", "E", E_TRUNCATED, 2},
        {"\"\\u12", "E", E_TRUNCATED, 5},
        {"-", "E", E_TRUNCATED, 1},
        {"1.", "E", E_TRUNCATED, 2},
        {"[1,]", "[nE", E_INVALID, 3},
        {"[,1]", "[E", E_INVALID, 1},
        {"{,}", "{E", E_INVALID, 1},
        {"{\"a\":1,}", "{knE", E_INVALID, 7},
        {"{\"a\" 1}", "{kE", E_INVALID, 5},
        {"{1:2}", "{E", E_INVALID, 1},
        {"[1}", "[nE", E_INVALID, 2},
        {"{\"a\":1]", "{knE", E_INVALID, 6},
        {"01", "nE", E_INVALID, 1},
        {"+1", "E", E_INVALID, 0},
        {".5", "E", E_INVALID, 0},
        {"1e+ ", "E", E_INVALID, 3},
        {"nul1", "E", E_INVALID, 0},
        {"'a'", "E", E_INVALID, 0},
        {"\"\\x\"", "E", E_INVALID, 1},
        {"\"\\u12g4\"", "E", E_INVALID, 1},
        {"\"a\nb\"", "E", E_INVALID, 2},
        {"1 2", "nE", E_INVALID, 2},
        {"{}}", "{}E", E_INVALID, 2},
        {"NaN", "E", E_INVALID, 0},
        {"[1 /* no */]", "[nE", E_INVALID, 3},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena a = arena_init(MIB);
        struct json_reader r;
        struct str got = tokens(cases[i].text, &a, &r);
        if (!str_eq_c(got, cases[i].tokens) || r.err != cases[i].err ||
            json_offset(&r) != cases[i].at)
            test_fail(__FILE__, __LINE__, "%s: %.*s %s at %zu", cases[i].text, STR_ARG(got),
                      err_name(r.err), json_offset(&r));
        CHECK_INT(json_next(&r), r.type); /* end and errors stay */
        arena_fini(&a);
    }
}

TEST(json_unescapes_strings)
{
    static const struct {
        const char *text;
        struct str want;
    } cases[] = {
        {"\"plain\"", {"plain", 5}},
        {"\"\"", {"", 0}},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", {"\"\\/\b\f\n\r\t", 8}},
        {"\"\\u0041\\u00e9\\u20ac\"", {"A\xc3\xa9\xe2\x82\xac", 6}},
        {"\"\\ud83d\\ude00\"", {"\xf0\x9f\x98\x80", 4}},
        {"\"\\uD83D\\uDE00\"", {"\xf0\x9f\x98\x80", 4}},
        {"\"\\ud83d\"", {"\xef\xbf\xbd", 3}},
        {"\"\\ude00x\"", {"\xef\xbf\xbdx", 4}},
        {"\"\\ud83d\\u0041\"",
         {"\xef\xbf\xbd"
          "A",
          4}},
        {"\"\\ud83d\\ud83d\\ude00\"", {"\xef\xbf\xbd\xf0\x9f\x98\x80", 7}},
        {"\"a\\u0000b\"", {"a\0b", 3}},
        {"\"\xff\xfe raw\"", {"\xff\xfe raw", 6}},
        {"\"long enough to be read in words of eight \\n bytes\"",
         {"long enough to be read in words of eight \n bytes", 48}},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena a = arena_init(MIB);
        struct json_reader r;
        json_reader_init(&r, test_guarded(str_from_c(cases[i].text)), &a);
        CHECK_INT(json_next(&r), JSON_STRING);
        CHECK_STR(r.text, cases[i].want);
        CHECK_INT(json_next(&r), JSON_END);
        arena_fini(&a);
    }
}

TEST(json_depth_and_memory_have_limits)
{
    char text[JSON_DEPTH_MAX + 2];
    struct arena a = arena_init(64);
    struct json_reader r;
    memset(text, '[', sizeof text);
    json_reader_init(&r, str_of(text, sizeof text), &a);
    for (unsigned i = 0; i < JSON_DEPTH_MAX; i++)
        CHECK_INT(json_next(&r), JSON_ARRAY);
    CHECK_INT(json_next(&r), JSON_ERROR);
    CHECK_INT(r.err, E_DEPTH);
    json_reader_init(&r,
                     STR("[\"\\n............................................................"
                         "............................................................\"]"),
                     &a);
    CHECK_INT(json_next(&r), JSON_ARRAY);
    CHECK_INT(json_next(&r), JSON_ERROR);
    CHECK_INT(r.err, E_NO_MEMORY);
    arena_fini(&a);
}

TEST(json_skips_values_and_goes_back_to_bookmarks)
{
    struct arena a = arena_init(0);
    struct json_reader r;
    json_reader_init(&r, STR("{\"a\":{\"x\":[1,{\"\\n\":[]}]},\"b\":[[],{}],\"c\":3,\"d\":4}"), &a);
    CHECK_INT(json_next(&r), JSON_OBJECT);
    struct json_reader bookmark = r;
    for (int i = 0; i < 2; i++) {
        static const char *const keys[] = {"a", "b", "c", "d"};
        for (size_t k = 0; k < 4; k++) {
            CHECK_INT(json_next(&r), JSON_KEY);
            CHECK(str_eq_c(r.text, keys[k]));
            CHECK(json_next(&r) != JSON_ERROR);
            json_skip(&r);
        }
        CHECK_INT(json_next(&r), JSON_OBJECT_END);
        CHECK_INT(json_next(&r), JSON_END);
        r = bookmark;
    }
    arena_fini(&a);
}

static void write_sample(struct json_writer *w)
{
    json_object(w);
    JSON_KEY_C(w, "empty");
    json_object(w);
    json_object_end(w);
    JSON_KEY_C(w, "list");
    json_array(w);
    json_i64(w, -1);
    json_u64(w, UINT64_MAX);
    json_u64_str(w, 7);
    json_i64_str(w, INT64_MIN);
    json_double(w, 0.1);
    json_double(w, (double)NAN);
    json_double(w, -(double)INFINITY);
    json_bool(w, true);
    json_null(w);
    json_hex(w, "\x01\xab", 2);
    json_base64(w, STR("\xff\xfe"));
    json_array(w);
    json_array_end(w);
    json_array_end(w);
    JSON_KEY_C(w, "\"\n\x01");
    json_str(w, STR("a\\\"\xff\xe2\x80\xa8 \xc3\xa9\x7f</script>"));
    json_object_end(w);
}

TEST(json_writes_compact_and_pretty)
{
    struct buf out = buf_init(MIB);
    struct json_writer w = json_writer_init(&out, 0);
    write_sample(&w);
    CHECK_STR(buf_str(&out),
              STR("{\"empty\":{},\"list\":[-1,18446744073709551615,\"7\","
                  "\"-9223372036854775808\",0.1,\"NaN\",\"-Infinity\",true,null,\"01ab\","
                  "\"//4=\",[]],\"\\\"\\n\\u0001\":\"a\\\\\\\"\xef\xbf\xbd\\u2028 \xc3\xa9\x7f"
                  "</script>\"}"));
    buf_reset(&out);
    w = json_writer_init(&out, 2);
    json_object(&w);
    JSON_KEY_C(&w, "a");
    json_array(&w);
    json_i64(&w, 1);
    json_object(&w);
    json_object_end(&w);
    json_array_end(&w);
    JSON_KEY_C(&w, "b");
    json_null(&w);
    json_object_end(&w);
    CHECK_STR(buf_str(&out), STR("{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": null\n}"));
    buf_fini(&out);
}

/* Random strings survive writing and reading; only what is not UTF-8 is replaced. */
TEST(json_strings_round_trip)
{
    struct arena a = arena_init(64 * MIB);
    for (int i = 0; i < 2000; i++) {
        char text[48];
        size_t n = test_rand() % sizeof text;
        for (size_t k = 0; k < n; k++)
            text[k] = (char)(test_rand() % 4 ? 0x1c + test_rand() % 100 : test_rand());
        struct buf out = buf_init(MIB), again = buf_init(MIB);
        struct json_writer w = json_writer_init(&out, 0);
        struct json_reader r;
        json_str(&w, str_of(text, n));
        json_reader_init(&r, buf_str(&out), &a);
        CHECK_INT(json_next(&r), JSON_STRING);
        CHECK(str_is_utf8(r.text));
        if (str_is_utf8(str_of(text, n)))
            CHECK_STR(r.text, str_of(text, n));
        w = json_writer_init(&again, 0);
        json_str(&w, r.text);
        CHECK_STR(buf_str(&again), buf_str(&out));
        buf_fini(&out);
        buf_fini(&again);
    }
    arena_fini(&a);
}
