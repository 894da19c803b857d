/* SPDX-License-Identifier: Apache-2.0 */
/* What an OTLP server answers: ExportTraceServiceResponse and, for errors, google.rpc.Status with
 * its details. */
#include "codec/otlp.h"

#include "base/num.h"
#include "base/pb.h"
#include "codec/json.h"

#define RETRY_INFO  "type.googleapis.com/google.rpc.RetryInfo"
#define BAD_REQUEST "type.googleapis.com/google.rpc.BadRequest"

/* Response.partial_success = 1 { rejected_spans = 1, error_message = 2 } */

void otlp_encode_response(uint64_t rejected, struct str message, struct buf *out)
{
    if (rejected == 0 && message.n == 0)
        return;
    size_t mark = pb_open(out, PB_TAG(1, PB_LEN), 1);
    if (rejected)
        pb_put_varint(out, PB_TAG(1, PB_VARINT), rejected);
    if (message.n)
        pb_put_bytes(out, PB_TAG(2, PB_LEN), message);
    pb_close(out, mark, 1);
}

void otlp_encode_response_json(uint64_t rejected, struct str message, struct buf *out)
{
    struct json_writer w = json_writer_init(out, 0);
    json_object(&w);
    if (rejected || message.n) {
        JSON_KEY_C(&w, "partialSuccess");
        json_object(&w);
        if (rejected) {
            JSON_KEY_C(&w, "rejectedSpans");
            json_u64_str(&w, rejected);
        }
        if (message.n) {
            JSON_KEY_C(&w, "errorMessage");
            json_str(&w, message);
        }
        json_object_end(&w);
    }
    json_object_end(&w);
}

static bool read_partial(struct str pb, uint64_t *rejected, struct str *message)
{
    struct pb c = pb_init(pb);
    struct pb_field f;
    while (pb_next(&c, &f)) {
        if (f.tag == PB_TAG(1, PB_VARINT))
            *rejected = f.num;
        else if (f.tag == PB_TAG(2, PB_LEN))
            *message = f.bytes;
    }
    return !c.why;
}

enum errc otlp_decode_response(struct str pb, uint64_t *rejected, struct str *message)
{
    struct pb c = pb_init(pb);
    struct pb_field f;
    *rejected = 0;
    *message = STR_NONE;
    while (pb_next(&c, &f))
        if (f.tag == PB_TAG(1, PB_LEN) && !read_partial(f.bytes, rejected, message))
            return E_INVALID;
    return c.why ? E_INVALID : E_OK;
}

/* Status { code = 1, message = 2, details = 3: Any { type_url = 1, value = 2 }… } */

static size_t detail_open(struct buf *out, struct str type, size_t *value)
{
    size_t mark = pb_open(out, PB_TAG(3, PB_LEN), 1);
    pb_put_bytes(out, PB_TAG(1, PB_LEN), type);
    *value = pb_open(out, PB_TAG(2, PB_LEN), 1);
    return mark;
}

/* RetryInfo.retry_delay = 1: Duration { seconds = 1, nanos = 2 } */
static void put_retry_info(struct buf *out, uint64_t retry_ms)
{
    size_t value, mark = detail_open(out, STR(RETRY_INFO), &value);
    size_t delay = pb_open(out, PB_TAG(1, PB_LEN), 1);
    if (retry_ms / 1000)
        pb_put_varint(out, PB_TAG(1, PB_VARINT), retry_ms / 1000);
    if (retry_ms % 1000)
        pb_put_varint(out, PB_TAG(2, PB_VARINT), retry_ms % 1000 * NS_PER_MS);
    pb_close(out, delay, 1);
    pb_close(out, value, 1);
    pb_close(out, mark, 1);
}

/* BadRequest.field_violations = 1: FieldViolation { field = 1, description = 2 } */
static void put_bad_request(struct buf *out, struct str description)
{
    size_t value, mark = detail_open(out, STR(BAD_REQUEST), &value);
    size_t violation = pb_open(out, PB_TAG(1, PB_LEN), 1);
    pb_put_bytes(out, PB_TAG(2, PB_LEN), description);
    pb_close(out, violation, 1);
    pb_close(out, value, 1);
    pb_close(out, mark, 1);
}

void otlp_encode_status(int grpc_code, struct str message, uint64_t retry_ms,
                        struct str field_violation, struct buf *out)
{
    if (grpc_code)
        pb_put_varint(out, PB_TAG(1, PB_VARINT), (uint64_t)grpc_code);
    if (message.n)
        pb_put_bytes(out, PB_TAG(2, PB_LEN), message);
    if (retry_ms)
        put_retry_info(out, retry_ms);
    if (field_violation.n)
        put_bad_request(out, field_violation);
}

static void json_detail(struct json_writer *w, struct str type)
{
    json_object(w);
    JSON_KEY_C(w, "@type");
    json_str(w, type);
}

/* A Duration in JSON has 0 or 3 digits of a second here, and always an s. */
static void json_retry_info(struct json_writer *w, uint64_t retry_ms)
{
    char text[NUM_TEXT_MAX + 8];
    size_t n = num_put_u64(text, retry_ms / 1000);
    if (retry_ms % 1000) {
        unsigned ms = (unsigned)(retry_ms % 1000);
        text[n++] = '.';
        text[n++] = (char)('0' + ms / 100);
        text[n++] = (char)('0' + ms / 10 % 10);
        text[n++] = (char)('0' + ms % 10);
    }
    text[n++] = 's';
    json_detail(w, STR(RETRY_INFO));
    JSON_KEY_C(w, "retryDelay");
    json_str(w, str_of(text, n));
    json_object_end(w);
}

static void json_bad_request(struct json_writer *w, struct str description)
{
    json_detail(w, STR(BAD_REQUEST));
    JSON_KEY_C(w, "fieldViolations");
    json_array(w);
    json_object(w);
    JSON_KEY_C(w, "description");
    json_str(w, description);
    json_object_end(w);
    json_array_end(w);
    json_object_end(w);
}

void otlp_encode_status_json(int grpc_code, struct str message, uint64_t retry_ms,
                             struct str field_violation, struct buf *out)
{
    struct json_writer w = json_writer_init(out, 0);
    json_object(&w);
    JSON_KEY_C(&w, "code");
    json_i64(&w, grpc_code);
    JSON_KEY_C(&w, "message");
    json_str(&w, message);
    if (retry_ms || field_violation.n) {
        JSON_KEY_C(&w, "details");
        json_array(&w);
        if (retry_ms)
            json_retry_info(&w, retry_ms);
        if (field_violation.n)
            json_bad_request(&w, field_violation);
        json_array_end(&w);
    }
    json_object_end(&w);
}
