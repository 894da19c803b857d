/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/grpc_wire.h"

#include "tests/harness.h"

#include <stdlib.h>

/* Feeds `wire` in pieces of `step` bytes (0: random) and joins the messages with '|'. */
static enum grpc_read read_all(struct str wire, size_t step, size_t max, struct buf *out)
{
    struct grpc_reader r = {.body = buf_init(max)};
    enum grpc_read last = GRPC_READ_MORE;
    while (wire.n && last <= GRPC_READ_MESSAGE) {
        struct str part = str_take(wire, step ? step : 1 + test_rand() % 9);
        wire = str_skip(wire, part.n);
        while (part.n && last <= GRPC_READ_MESSAGE) {
            last = grpc_reader_take(&r, &part);
            if (last == GRPC_READ_MESSAGE) {
                buf_add_char(out, grpc_reader_compressed(&r) ? 'z' : '=');
                buf_add_str(out, buf_str(&r.body));
                buf_add_char(out, '|');
                grpc_reader_next(&r);
            }
        }
    }
    if (last == GRPC_READ_MORE && !grpc_reader_idle(&r))
        buf_add_c(out, "half");
    buf_fini(&r.body);
    return last;
}

static void check_reads(struct str wire, size_t max, enum grpc_read want, struct str messages)
{
    for (size_t step = 0; step <= wire.n; step++) {
        struct buf out = buf_init(1 * MIB);
        struct str guarded = test_guarded(wire);
        CHECK_INT(read_all(guarded, step, max, &out), want);
        CHECK_STR(buf_str(&out), messages);
        buf_fini(&out);
    }
}

TEST(messages_come_whole_from_any_split)
{
    check_reads(STR("\0\0\0\0\5hello\0\0\0\0\0\1\0\0\0\3abc"), 100, GRPC_READ_MESSAGE,
                STR("=hello|=|zabc|"));
}

TEST(half_a_message_is_not_idle)
{
    check_reads(STR("\0\0\0\0\1a\0\0\0\0\5hell"), 100, GRPC_READ_MORE, STR("=a|half"));
    check_reads(STR("\0\0\0\0\1a\0\0"), 100, GRPC_READ_MORE, STR("=a|half"));
}

TEST(flag_above_one_is_refused)
{
    check_reads(STR("\2\0\0\0\1a"), 100, GRPC_READ_BAD_FLAG, STR(""));
}

TEST(length_past_the_limit_is_refused_before_the_bytes)
{
    check_reads(STR("\0\0\0\0\x65"), 100, GRPC_READ_TOO_BIG, STR(""));
    check_reads(STR("\0\xff\xff\xff\xff"), 100, GRPC_READ_TOO_BIG, STR(""));
    check_reads(STR("\0\0\0\0\4abcd"), 4, GRPC_READ_MESSAGE, STR("=abcd|"));
}

TEST(a_claim_reserves_little)
{
    struct grpc_reader r = {.body = buf_init(64 * MIB)};
    struct str in = STR("\0\3\xff\xff\xff");
    CHECK_INT(grpc_reader_take(&r, &in), GRPC_READ_MORE);
    CHECK(r.body.cap <= 2 * GRPC_CLAIM_BYTES);
    buf_fini(&r.body);
}

static void check_timeout(const char *text, uint64_t want)
{
    uint64_t ns;
    CHECK(grpc_timeout_get(test_guarded(str_from_c(text)), &ns));
    CHECK_INT(ns, want);
}

TEST(timeouts_of_every_unit)
{
    check_timeout("2H", 7200 * NS_PER_S);
    check_timeout("3M", 180 * NS_PER_S);
    check_timeout("10S", 10 * NS_PER_S);
    check_timeout("500m", 500 * NS_PER_MS);
    check_timeout("7u", 7000);
    check_timeout("99999999n", 99999999);
    check_timeout("0S", 0);
    check_timeout("00000001S", NS_PER_S);
    check_timeout("99999999H", UINT64_MAX);
}

TEST(malformed_timeouts_are_refused)
{
    static const char *const bad[] = {"",     "S",          "10",  "10s", "-1S",
                                      "1.5S", "100000000S", "1 S", "1SS", "+1S"};
    uint64_t ns;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(!grpc_timeout_get(test_guarded(str_from_c(bad[i])), &ns));
}

TEST(message_text_is_percent_encoded)
{
    struct buf out = buf_init(100);
    grpc_put_percent(&out, STR("a b~%\n\x7f\xc3\xa9\0"));
    CHECK_STR(buf_str(&out), STR("a b~%25%0A%7F%C3%A9%00"));
    buf_reset(&out);
    grpc_put_percent(&out, STR("  a  "));
    CHECK_STR(buf_str(&out), STR("%20 a %20"));
    buf_fini(&out);
}

TEST(binary_metadata_has_no_padding)
{
    static const struct {
        struct str in, out;
    } cases[] = {{{"", 0}, {"", 0}},
                 {{"a", 1}, {"YQ", 2}},
                 {{"ab", 2}, {"YWI", 3}},
                 {{"abc", 3}, {"YWJj", 4}}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = buf_init(100);
        grpc_put_bin(&out, cases[i].in);
        CHECK_STR(buf_str(&out), cases[i].out);
        buf_fini(&out);
    }
}

TEST(content_types_of_grpc)
{
    static const char *const good[] = {"application/grpc", "application/grpc+proto",
                                       "application/grpc; charset=utf-8", "Application/gRPC"};
    static const char *const bad[] = {"application/grpc-web", "application/grpc+json",
                                      "application/json", ""};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        CHECK(grpc_content_type_ok(str_from_c(good[i])));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(!grpc_content_type_ok(str_from_c(bad[i])));
}
