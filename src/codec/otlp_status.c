/* SPDX-License-Identifier: Apache-2.0 */
/* What a receiver answers: ExportTraceServiceResponse and google.rpc.Status with its details, in
 * both encodings. */
#include "codec/otlp.h"

#include "base/num.h"
#include "base/pb.h"
#include "codec/json.h"

#define TYPE_URL "type.googleapis.com/google.rpc."

#define MESSAGE_MAX (4 * KIB) /* of one detail: holds a sentence */

/* --- ExportTraceServiceResponse --- */

void otlp_encode_response(uint64_t rejected, struct str message, struct buf *out)
{
    if (!rejected && !message.n)
        return;
    size_t partial = pb_open(out, PB_TAG(1, PB_LEN), 1);
    if (rejected)
        pb_put_varint(out, PB_TAG(1, PB_VARINT), rejected);
    if (message.n)
        pb_put_bytes(out, PB_TAG(2, PB_LEN), message);
    pb_close(out, partial, 1);
}

void otlp_encode_response_json(uint64_t rejected, struct str message, struct buf *out)
{
    struct json_writer w = json_writer_init(out, 0);
    json_object(&w);
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
    json_object_end(&w);
}

enum errc otlp_decode_response(struct str pb, uint64_t *rejected, struct str *message)
{
    struct pb in = pb_init(pb), partial = {0};
    struct pb_field f;
    *rejected = 0;
    *message = STR_NONE;
    while (pb_next(&in, &f)) {
        if (f.tag != PB_TAG(1, PB_LEN))
            continue;
        partial = pb_init(f.bytes);
        while (pb_next(&partial, &f)) {
            if (f.tag == PB_TAG(1, PB_VARINT))
                *rejected = f.num;
            else if (f.tag == PB_TAG(2, PB_LEN))
                *message = f.bytes;
        }
        if (partial.why)
            return E_INVALID;
    }
    return in.why ? E_INVALID : E_OK;
}

/* --- google.rpc.Status --- */

/* One google.protobuf.Any among the details. */
static void put_any(struct buf *out, struct str type_url, const struct buf *value)
{
    size_t any = pb_open(out, PB_TAG(3, PB_LEN), 1);
    pb_put_bytes(out, PB_TAG(1, PB_LEN), type_url);
    pb_put_bytes(out, PB_TAG(2, PB_LEN), buf_str(value));
    pb_close(out, any, 1);
}

static void put_retry_info(struct buf *out, uint64_t retry_ms)
{
    struct buf info = buf_init(MESSAGE_MAX);
    size_t delay = pb_open(&info, PB_TAG(1, PB_LEN), 1);
    if (retry_ms >= 1000)
        pb_put_varint(&info, PB_TAG(1, PB_VARINT), retry_ms / 1000);
    if (retry_ms % 1000)
        pb_put_varint(&info, PB_TAG(2, PB_VARINT), retry_ms % 1000 * NS_PER_MS);
    pb_close(&info, delay, 1);
    put_any(out, STR(TYPE_URL "RetryInfo"), &info);
    buf_fini(&info);
}

static void put_bad_request(struct buf *out, struct str description)
{
    struct buf bad = buf_init(MESSAGE_MAX);
    size_t violation = pb_open(&bad, PB_TAG(1, PB_LEN), 1);
    pb_put_bytes(&bad, PB_TAG(2, PB_LEN), str_take(description, MESSAGE_MAX / 2));
    pb_close(&bad, violation, 1);
    put_any(out, STR(TYPE_URL "BadRequest"), &bad);
    buf_fini(&bad);
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

/* "1.500s": a protobuf Duration has 0, 3, 6 or 9 fraction digits. */
static void json_duration(struct json_writer *w, uint64_t ms)
{
    struct buf text = buf_init(NUM_TEXT_MAX);
    buf_addf(&text, "%llu", (unsigned long long)(ms / 1000));
    if (ms % 1000)
        buf_addf(&text, ".%03u", (unsigned)(ms % 1000));
    buf_add_char(&text, 's');
    json_str(w, buf_str(&text));
    buf_fini(&text);
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
    }
    if (retry_ms) {
        json_object(&w);
        JSON_KEY_C(&w, "@type");
        json_str(&w, STR(TYPE_URL "RetryInfo"));
        JSON_KEY_C(&w, "retryDelay");
        json_duration(&w, retry_ms);
        json_object_end(&w);
    }
    if (field_violation.n) {
        json_object(&w);
        JSON_KEY_C(&w, "@type");
        json_str(&w, STR(TYPE_URL "BadRequest"));
        JSON_KEY_C(&w, "fieldViolations");
        json_array(&w);
        json_object(&w);
        JSON_KEY_C(&w, "description");
        json_str(&w, field_violation);
        json_object_end(&w);
        json_array_end(&w);
        json_object_end(&w);
    }
    if (retry_ms || field_violation.n)
        json_array_end(&w);
    json_object_end(&w);
}
