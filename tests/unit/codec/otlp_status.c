/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "codec/otlp.h"
#include "tests/harness.h"

static void check_response(uint64_t rejected, struct str message, struct str pb, struct str json)
{
    struct buf out = buf_init(1 * KIB);
    otlp_encode_response(rejected, message, &out);
    CHECK_STR(buf_str(&out), pb);
    uint64_t got_rejected;
    struct str got_message;
    CHECK_OK(otlp_decode_response(test_guarded(pb), &got_rejected, &got_message));
    CHECK_INT(got_rejected, rejected);
    CHECK_STR(got_message, message);
    buf_reset(&out);
    otlp_encode_response_json(rejected, message, &out);
    CHECK_STR(buf_str(&out), json);
    buf_fini(&out);
}

TEST(responses_full_partial_and_warning)
{
    check_response(0, STR(""), STR(""), STR("{\"partialSuccess\":{}}"));
    check_response(
        300, STR("a\"b"),
        STR("\x0a\x08\x08\xac\x02\x12\x03"
            "a\"b"),
        STR("{\"partialSuccess\":{\"rejectedSpans\":\"300\",\"errorMessage\":\"a\\\"b\"}}"));
    check_response(0, STR("w"), STR("\x0a\x03\x12\x01w"),
                   STR("{\"partialSuccess\":{\"errorMessage\":\"w\"}}"));
}

TEST(damaged_responses_are_refused)
{
    static const struct str bad[] = {{"\x0a", 1}, {"\x0a\x05\x08", 3}, {"\x0a\x02\x08\xac", 4}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        uint64_t rejected;
        struct str message;
        CHECK_INT(otlp_decode_response(test_guarded(bad[i]), &rejected, &message), E_INVALID);
    }
}

/* The bytes are what Python's google.rpc.status_pb2 and error_details_pb2 serialise. */
TEST(statuses_carry_their_details)
{
    struct buf out = buf_init(1 * KIB);
    otlp_encode_status(14, STR("busy"), 1500, STR_NONE, &out);
    CHECK_STR(buf_str(&out), STR("\x08\x0e\x12\x04"
                                 "busy\x1a\x36\x0a\x28type.googleapis.com/google.rpc.RetryInfo"
                                 "\x12\x0a\x0a\x08\x08\x01\x10\x80\xca\xb5\xee\x01"));
    buf_fini(&out);
    out = buf_init(1 * KIB);
    otlp_encode_status(3, STR("no"), 0, STR("why"), &out);
    CHECK_STR(buf_str(&out), STR("\x08\x03\x12\x02no\x1a\x34\x0a\x29type.googleapis.com/"
                                 "google.rpc.BadRequest\x12\x07\x0a\x05\x12\x03why"));
    buf_fini(&out);
}

TEST(statuses_in_json)
{
    struct buf out = buf_init(1 * KIB);
    otlp_encode_status_json(14, STR("busy"), 1500, STR_NONE, &out);
    CHECK_STR(buf_str(&out),
              STR("{\"code\":14,\"message\":\"busy\",\"details\":[{\"@type\":\"type.googleapis.com/"
                  "google.rpc.RetryInfo\",\"retryDelay\":\"1.500s\"}]}"));
    buf_reset(&out);
    otlp_encode_status_json(3, STR("no"), 0, STR("why"), &out);
    CHECK_STR(buf_str(&out), STR("{\"code\":3,\"message\":\"no\",\"details\":[{\"@type\":\"type."
                                 "googleapis.com/google.rpc.BadRequest\",\"fieldViolations\":[{"
                                 "\"description\":\"why\"}]}]}"));
    buf_reset(&out);
    otlp_encode_status_json(5, STR("none"), 0, STR_NONE, &out);
    CHECK_STR(buf_str(&out), STR("{\"code\":5,\"message\":\"none\"}"));
    buf_fini(&out);
}
