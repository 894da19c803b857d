/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"

#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct str put_double(double v)
{
    static char text[NUM_TEXT_MAX];
    return str_of(text, num_put_double(text, v));
}

TEST(num_doubles_print_as_ecmascript_does)
{
    static const struct {
        double v;
        const char *text;
    } rows[] = {
        {0, "0"},
        {-0.0, "-0"},
        {1, "1"},
        {-1.5, "-1.5"},
        {0.1, "0.1"},
        {100, "100"},
        {123456789012345680000.0, "123456789012345680000"},
        {1e20, "100000000000000000000"},
        {1e21, "1e+21"},
        {1.5e21, "1.5e+21"},
        {1e-6, "0.000001"},
        {1e-7, "1e-7"},
        {1.25e-7, "1.25e-7"},
        {123.456, "123.456"},
        {0.000123, "0.000123"},
        {5e-324, "5e-324"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {9007199254740993.0, "9007199254740992"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1.0 / 3, "0.3333333333333333"},
        {0x1p-44, "5.684341886080802e-14"}, /* the nearer …801 does not read back */
        {4.35, "4.35"},
        {NAN, "NaN"},
        {INFINITY, "Infinity"},
        {-INFINITY, "-Infinity"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        CHECK_STR(put_double(rows[i].v), str_from_c(rows[i].text));
}

static void check_round_trip(uint64_t bits)
{
    double v, back;
    memcpy(&v, &bits, sizeof v);
    if (isnan(v))
        return;
    struct str text = put_double(v);
    CHECK(text.n < NUM_TEXT_MAX);
    CHECK(num_get_double(text, &back));
    if (memcmp(&back, &v, sizeof v) != 0)
        test_fail(__FILE__, __LINE__, "%a printed as %.*s", v, STR_ARG(text));
}

TEST(num_doubles_survive_a_round_trip)
{
    for (int i = 0; i < 1000000; i++)
        check_round_trip(test_rand());
    for (uint64_t exp = 0; exp < 2047; exp++)
        for (uint64_t m = 0; m < 3; m++) {
            check_round_trip(exp << 52 | m);
            check_round_trip((exp << 52) - m);
        }
    check_round_trip(UINT64_C(0x7ff0000000000000));
}

/* No text of fewer digits reads back. */
TEST(num_doubles_are_shortest)
{
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = test_rand() & INT64_MAX;
        double v;
        memcpy(&v, &bits, sizeof v);
        if (i % 2)
            v = (double)(test_rand() % 100000000) / (double[]){1, 10, 100, 1000, 1e4}[i % 5];
        if (!isfinite(v) || v == 0)
            continue;
        struct str text = put_double(v);
        int digits = 0;
        char c = 0;
        bool seen = false;
        int trailing = 0;
        for (size_t k = 0; k < text.n && (c = text.p[k]) != 'e'; k++) {
            if (c < '0' || c > '9')
                continue;
            seen |= c != '0';
            digits += seen;
            trailing = c == '0' ? trailing + 1 : 0;
        }
        digits -= trailing;
        char shorter[64];
        if (digits > 1) {
            snprintf(shorter, sizeof shorter, "%.*e", digits - 2, v);
            CHECK(strtod(shorter, NULL) != v);
        }
    }
}

TEST(num_get_double_agrees_with_strtod)
{
    static const char *const texts[] = {
        "0",
        "-0",
        "1",
        "+1",
        ".5",
        "5.",
        "1e5",
        "1E-5",
        "1e+5",
        "0.1",
        "123456789.123456789",
        "179769313486231580793728971405301e276",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "9007199254740993",
        "9007199254740992.99999999999999999999",
        "0.000000000000000000000000000000000000000000000000000000001e57",
        "1e-400",
        "100000000000000000000000000000000000000000000e-44",
        "0e999999999999999999999999",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        double got = 1, want = strtod(texts[i], NULL);
        CHECK(num_get_double(test_guarded(str_from_c(texts[i])), &got));
        if (memcmp(&got, &want, sizeof got) != 0)
            test_fail(__FILE__, __LINE__, "%s: got %a, want %a", texts[i], got, want);
    }
    for (int i = 0; i < 20000; i++) {
        char text[96];
        int n = snprintf(text, sizeof text, "%llu.%llue%d", (unsigned long long)test_rand(),
                         (unsigned long long)test_rand(), (int)(test_rand() % 640) - 330);
        double got = 1, want = strtod(text, NULL);
        CHECK(num_get_double(str_of(text, (size_t)n), &got) == !!isfinite(want));
        if (isfinite(want))
            CHECK(got == want);
    }
}

/* The digit that decides stands far behind those that a double can hold. */
TEST(num_get_double_looks_at_every_digit)
{
    char text[3000];
    memset(text, '0', sizeof text);
    memcpy(text, "9007199254740993.", 17); /* half way: to even, which is below */
    double v;
    CHECK(num_get_double(str_of(text, sizeof text), &v) && v == 9007199254740992.0);
    text[sizeof text - 1] = '1';
    CHECK(num_get_double(str_of(text, sizeof text), &v) && v == 9007199254740994.0);
}

TEST(num_get_double_refuses)
{
    static const char *const texts[] = {"",      "-",   "+",   ".",   "e5",   "1e",    "1e+",
                                        "1.2.3", "1x",  " 1",  "1 ",  "0x1",  "1e999", "inf",
                                        "nan",   "--1", "1e-", "1,5", "-NaN2"};
    double v;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (num_get_double(str_from_c(texts[i]), &v))
            test_fail(__FILE__, __LINE__, "\"%s\" was taken", texts[i]);
}

TEST(num_integers)
{
    char text[NUM_TEXT_MAX];
    uint64_t u;
    int64_t i;
    CHECK_STR(str_of(text, num_put_u64(text, UINT64_MAX)), STR("18446744073709551615"));
    CHECK_STR(str_of(text, num_put_u64(text, 0)), STR("0"));
    CHECK_STR(str_of(text, num_put_i64(text, INT64_MIN)), STR("-9223372036854775808"));
    CHECK(num_get_u64(STR("18446744073709551615"), &u) && u == UINT64_MAX);
    CHECK(!num_get_u64(STR("18446744073709551616"), &u));
    CHECK(!num_get_u64(STR("99999999999999999999"), &u));
    CHECK(!num_get_u64(STR(""), &u) && !num_get_u64(STR("+1"), &u) && !num_get_u64(STR("1a"), &u));
    CHECK(num_get_i64(STR("-9223372036854775808"), &i) && i == INT64_MIN);
    CHECK(num_get_i64(STR("9223372036854775807"), &i) && i == INT64_MAX);
    CHECK(!num_get_i64(STR("9223372036854775808"), &i));
    CHECK(!num_get_i64(STR("-9223372036854775809"), &i));
    CHECK(!num_get_i64(STR("-"), &i) && !num_get_i64(STR("--1"), &i));
}

TEST(num_bytes_have_suffixes)
{
    uint64_t v;
    CHECK(num_get_bytes(STR("1073741824"), &v) && v == GIB);
    CHECK(num_get_bytes(STR("64MiB"), &v) && v == 64 * MIB);
    CHECK(num_get_bytes(STR("64mib"), &v) && v == 64 * MIB);
    CHECK(num_get_bytes(STR("50GB"), &v) && v == UINT64_C(50000000000));
    CHECK(num_get_bytes(STR("2k"), &v) && v == 2000);
    CHECK(num_get_bytes(STR("7B"), &v) && v == 7);
    CHECK(!num_get_bytes(STR("99999PiB"), &v));
    CHECK(!num_get_bytes(STR("MiB"), &v) && !num_get_bytes(STR("1XB"), &v));
    CHECK(!num_get_bytes(STR(""), &v) && !num_get_bytes(STR("-1"), &v));
}

TEST(num_hex)
{
    uint8_t bytes[4];
    char text[NUM_TEXT_MAX];
    CHECK(num_get_hex(STR("00fFA17b"), bytes, 4));
    CHECK_STR(str_of(text, num_put_hex(text, bytes, 4)), STR("00ffa17b"));
    CHECK(!num_get_hex(STR("00ffa17"), bytes, 4) && !num_get_hex(STR("00ffa17bb"), bytes, 4));
    CHECK(!num_get_hex(STR("00ffa1g0"), bytes, 4));
}

TEST(num_durations_read_as_go_does)
{
    static const struct {
        const char *text;
        int64_t ns;
    } rows[] = {
        {"0", 0},
        {"5s", 5000000000},
        {"30s", 30000000000},
        {"1478s", 1478000000000},
        {"-5s", -5000000000},
        {"+5s", 5000000000},
        {"-0", 0},
        {"+0", 0},
        {"5.0s", 5000000000},
        {"5.6s", 5600000000},
        {"5.s", 5000000000},
        {".5s", 500000000},
        {"1.004s", 1004000000},
        {"100.00100s", 100001000000},
        {"10ns", 10},
        {"11us", 11000},
        {"12\xc2\xb5s", 12000},
        {"12\xce\xbcs", 12000},
        {"13ms", 13000000},
        {"15m", 900000000000},
        {"16h", 57600000000000},
        {"3h30m", 12600000000000},
        {"10.5s4m", 250500000000},
        {"-2m3.4s", -123400000000},
        {"1h2m3s4ms5us6ns", 3723004005006},
        {"39h9m14.425s", 140954425000000},
        {"52763797000ns", 52763797000},
        {"0.3333333333333333333h", 1200000000000},
        {"9007199254740993ns", 9007199254740993},
        {"9223372036854775807ns", INT64_MAX},
        {"-9223372036854775808ns", INT64_MIN},
        {"9223372036854775.807us", INT64_MAX},
        {"-9223372036854775.808us", INT64_MIN},
        {"0.100000000000000000000h", 360000000000},
        {"0.830103483285477580700h", 2988372539827},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t ns = -1;
        if (!num_get_duration(test_guarded(str_from_c(rows[i].text)), &ns))
            test_fail(__FILE__, __LINE__, "\"%s\" was refused", rows[i].text);
        CHECK_INT(ns, rows[i].ns);
    }
    static const char *const bad[] = {"",
                                      "3",
                                      "-",
                                      "s",
                                      ".",
                                      "-.",
                                      ".s",
                                      "+.s",
                                      "1d",
                                      "1s0",
                                      "01",
                                      "3000000h",
                                      "9223372036854775808ns",
                                      "9223372036854775.808us",
                                      "9223372036854ms775us808ns",
                                      "1 s",
                                      "\x85\x85",
                                      "1s ",
                                      "-9223372036854775809ns",
                                      "99999999999999999999s"};
    int64_t ns;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (num_get_duration(str_from_c(bad[i]), &ns))
            test_fail(__FILE__, __LINE__, "\"%s\" was taken", bad[i]);
}

TEST(num_durations_print_as_go_does)
{
    static const struct {
        int64_t ns;
        const char *text;
    } rows[] = {
        {0, "0s"},
        {1, "1ns"},
        {1100, "1.1\xc2\xb5s"},
        {2200000, "2.2ms"},
        {3300000000, "3.3s"},
        {245000000000, "4m5s"},
        {245001000000, "4m5.001s"},
        {18367001000000, "5h6m7.001s"},
        {480000000001, "8m0.000000001s"},
        {INT64_MAX, "2562047h47m16.854775807s"},
        {INT64_MIN, "-2562047h47m16.854775808s"},
        {-1500000000, "-1.5s"},
        {9900000000000, "2h45m0s"},
        {3600000000000, "1h0m0s"},
        {100000000, "100ms"},
    };
    char text[NUM_TEXT_MAX];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        CHECK_STR(str_of(text, num_put_duration(text, rows[i].ns)), str_from_c(rows[i].text));
    for (int i = 0; i < 100000; i++) {
        int64_t ns = (int64_t)(test_rand() >> (test_rand() % 64)), back;
        CHECK(num_get_duration(str_of(text, num_put_duration(text, ns)), &back));
        CHECK_INT(back, ns);
    }
}

TEST(num_times)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } rows[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-01-02T03:04:05.123456789Z", UINT64_C(1767323045123456789)},
        {"2026-01-02T03:04:05Z", UINT64_C(1767323045000000000)},
        {"2024-02-29T12:00:00.5Z", UINT64_C(1709208000500000000)},
        {"2554-07-21T23:34:33.709551615Z", UINT64_MAX},
    };
    char text[NUM_TEXT_MAX];
    uint64_t ns;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CHECK(num_get_rfc3339(test_guarded(str_from_c(rows[i].text)), &ns));
        CHECK(ns == rows[i].ns);
        CHECK_STR(str_of(text, num_put_rfc3339(text, rows[i].ns)), str_from_c(rows[i].text));
    }
    for (int i = 0; i < 100000; i++) {
        uint64_t want = test_rand() >> (test_rand() % 64);
        CHECK(num_get_rfc3339(str_of(text, num_put_rfc3339(text, want)), &ns) && ns == want);
    }
    CHECK(num_get_rfc3339(STR("1970-01-01T02:00:00+02:00"), &ns) && ns == 0);
    CHECK(num_get_rfc3339(STR("1970-01-01T02:00:00 02:00"), &ns) && ns == 0);
    CHECK(num_get_rfc3339(STR("1969-12-31T22:30:00-01:30"), &ns) && ns == 0);
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-13-01T00:00:00Z",
                                      "2026-02-29T00:00:00Z",
                                      "2026-00-01T00:00:00Z",
                                      "2026-01-00T00:00:00Z",
                                      "2026-01-01T24:00:00Z",
                                      "2026-01-01T00:60:00Z",
                                      "2026-01-01T00:00:60Z",
                                      "2026-01-01T00:00:00",
                                      "2026-01-01T00:00:00.Z",
                                      "2026-01-01T00:00:00.1234567891Z",
                                      "2026-01-01T00:00:00Zx",
                                      "1969-12-31T23:59:59Z",
                                      "2554-07-21T23:34:33.709551616Z",
                                      "2026-01-01T00:00:00+24:00",
                                      "9999-01-01T00:00:00Z",
                                      "2026-01-01T00:00:00+0100",
                                      "0000-01-01T00:00:00Z"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (num_get_rfc3339(str_from_c(bad[i]), &ns))
            test_fail(__FILE__, __LINE__, "\"%s\" was taken", bad[i]);
}

TEST(num_base64)
{
    static const char *const rows[][2] = {{"", ""},
                                          {"f", "Zg=="},
                                          {"fo", "Zm8="},
                                          {"foo", "Zm9v"},
                                          {"foob", "Zm9vYg=="},
                                          {"fooba", "Zm9vYmE="},
                                          {"\xfb\xff", "+/8="}};
    struct buf b = buf_init(1000);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        buf_reset(&b);
        num_put_base64(&b, str_from_c(rows[i][0]));
        CHECK_STR(buf_str(&b), str_from_c(rows[i][1]));
        buf_reset(&b);
        CHECK(num_get_base64(test_guarded(str_from_c(rows[i][1])), &b));
        CHECK_STR(buf_str(&b), str_from_c(rows[i][0]));
    }
    buf_reset(&b);
    CHECK(num_get_base64(STR("-_8"), &b));
    CHECK_STR(buf_str(&b), STR("\xfb\xff"));
    CHECK(!num_get_base64(STR("A"), &b) && !num_get_base64(STR("A==="), &b));
    CHECK(!num_get_base64(STR("Zg=a"), &b) && !num_get_base64(STR("Zg\n="), &b));
    CHECK(!num_get_base64(STR("===="), &b) && !num_get_base64(STR("Zg==Zg=="), &b));
    struct buf small = buf_init(3);
    num_put_base64(&small, STR("abc"));
    CHECK(small.failed && small.n == 0);
    buf_fini(&b);
    buf_fini(&small);
}
