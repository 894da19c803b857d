/* SPDX-License-Identifier: Apache-2.0 */
/* OTLP over HTTP. Answers speak the request's encoding; the words of 405 and 415 are the
 * collector's, which clients and probes have learned. Small bodies are decoded on the loop, large
 * ones in the worker pool. */
#include "serve/recv/recv.h"

#include "base/num.h"
#include "base/stats.h"
#include "codec/otlp.h"

#define LOOP_BYTES_MAX (4 * MIB)  /* a larger body is decoded in the pool */
#define ANSWER_MAX     (16 * KIB) /* a sentence, escaped */
#define BUSY_MS        1000u      /* when the pool is full */

enum {
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_NOT_FOUND = 5,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_UNAVAILABLE = 14
};

enum encoding { ENC_NONE, ENC_PROTOBUF, ENC_JSON };

static enum encoding encoding_of(const struct http_req *r)
{
    struct str type = http_header(r, STR("content-type"));
    type = str_trim(str_take(type, str_find(type, ';')));
    if (str_eq_nocase(type, STR("application/x-protobuf")))
        return ENC_PROTOBUF;
    return str_eq_nocase(type, STR("application/json")) ? ENC_JSON : ENC_NONE;
}

/* What does not say how it is encoded is answered in protobuf. */
static const char *answer_type(const struct http_req *r)
{
    return encoding_of(r) == ENC_JSON ? "application/json" : "application/x-protobuf";
}

static void reply(struct http_req *r, int status, struct buf *body)
{
    http_reply(r, status, answer_type(r), buf_str(body));
    buf_fini(body);
}

/* google.rpc.Status as the request is encoded. retry_ms: 0 for what must not come again. */
static void put_status(const struct http_req *r, int grpc, struct str why, uint64_t retry_ms,
                       struct str violation, struct buf *body)
{
    if (encoding_of(r) == ENC_JSON)
        otlp_encode_status_json(grpc, why, retry_ms, violation, body);
    else
        otlp_encode_status(grpc, why, retry_ms, violation, body);
}

static void reply_status(struct http_req *r, int http, int grpc, struct str why, uint64_t retry_ms,
                         struct str violation)
{
    struct buf body = buf_init(ANSWER_MAX);
    put_status(r, grpc, why, retry_ms, violation, &body);
    if (retry_ms) { /* whole seconds, rounded up */
        char seconds[NUM_TEXT_MAX];
        size_t n = num_put_u64(seconds, (retry_ms + 999) / 1000);
        http_set_header(r, "Retry-After", str_of(seconds, n));
    }
    reply(r, http, &body);
}

/* Any thread: ingest's word on the batch. */
static void traces_done(void *arg, const struct ingest_result *res)
{
    struct http_req *r = arg;
    struct str message = str_from_c(res->message);
    if (res->code) {
        reply_status(r, err_http(res->code), err_grpc(res->code), message, res->retry_ms, STR_NONE);
        return;
    }
    struct buf body = buf_init(ANSWER_MAX);
    if (encoding_of(r) == ENC_JSON)
        otlp_encode_response_json(res->rejected, message, &body);
    else
        otlp_encode_response(res->rejected, message, &body);
    reply(r, 200, &body);
}

/* What the HTTP layer refuses: the gRPC code that says the same. */
static int grpc_code(int http)
{
    switch (http) {
    case 400:
    case 415:
        return GRPC_INVALID_ARGUMENT;
    case 413:
        return GRPC_RESOURCE_EXHAUSTED;
    case 503:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

const char *otlp_http_wording(const struct http_req *r, int status, struct str sentence,
                              uint64_t retry_ms, struct buf *body)
{
    if (encoding_of(r) == ENC_NONE)
        return NULL; /* not an OTLP client: it reads text */
    put_status(r, grpc_code(status), sentence, retry_ms, STR_NONE, body);
    return answer_type(r);
}

static void traces_take(struct http_req *r)
{
    const struct recv *recv = r->arg;
    struct batch_builder *b = recv_builder(recv);
    struct err e = {0};
    enum errc code = encoding_of(r) == ENC_JSON ? otlp_decode_traces_json(r->body, b, &e)
                                                : otlp_decode_traces(r->body, b, &e);
    if (code) {
        struct str why = str_from_c(err_msg(&e));
        stat_add(code == E_TOO_BIG ? STAT_REQUESTS_BAD_SIZE : STAT_REQUESTS_BAD_DECODE, 1);
        reply_status(r, err_http(code), err_grpc(code), why, 0, why);
    } else {
        ingest_submit(recv->ingest, recv_tenant(r), b, traces_done, r);
    }
    recv_builder_done();
}

struct large_body {
    struct work work; /* first */
    struct http_req *req;
};

static void traces_pooled(struct work *w)
{
    traces_take(((struct large_body *)w)->req);
}

static void traces(struct http_req *r)
{
    const struct recv *recv = r->arg;
    if (!str_eq(r->method, STR("POST"))) {
        stat_add(STAT_REQUESTS_BAD_METHOD, 1);
        http_set_header(r, "Allow", STR("POST"));
        http_reply(r, 405, "text/plain", STR("405 method not allowed, supported: [POST]"));
        return;
    }
    if (encoding_of(r) == ENC_NONE) {
        stat_add(STAT_REQUESTS_BAD_TYPE, 1);
        http_reply(r, 415, "text/plain",
                   STR("415 unsupported media type, supported: "
                       "[application/json, application/x-protobuf]"));
        return;
    }
    if (r->body.n <= LOOP_BYTES_MAX || !recv->pool) {
        traces_take(r);
        return;
    }
    struct large_body *large = ARENA_NEW(&r->arena, struct large_body);
    if (large) {
        *large = (struct large_body){.work.fn = traces_pooled, .req = r};
        if (work_post(recv->pool, &large->work))
            return;
    }
    stat_add(STAT_REQUESTS_REFUSED_BUSY, 1);
    reply_status(r, 503, GRPC_UNAVAILABLE, STR("too many large requests at once"), BUSY_MS,
                 STR_NONE);
}

/* The signals we do not keep: 404 and where to turn. */
static void absent(struct http_req *r, struct str why)
{
    stat_add(STAT_REQUESTS_BAD_PATH, 1);
    reply_status(r, 404, GRPC_NOT_FOUND, why, 0, STR_NONE);
}

static void absent_metrics(struct http_req *r)
{
    absent(r, STR(RECV_ABSENT("metrics")));
}

static void absent_logs(struct http_req *r)
{
    absent(r, STR(RECV_ABSENT("logs")));
}

static void absent_profiles(struct http_req *r)
{
    absent(r, STR(RECV_ABSENT("profiles")));
}

void otlp_http_fallback(struct http_req *r)
{
    stat_add(STAT_REQUESTS_BAD_PATH, 1);
    http_reply_text(r, 404, "404 page not found");
}

const struct http_route otlp_http_routes[] = {
    {"*", "/v1/traces", traces, HTTP_ON_LOOP},
    {"*", "/v1/metrics", absent_metrics, HTTP_ON_LOOP},
    {"*", "/v1/logs", absent_logs, HTTP_ON_LOOP},
    {"*", "/v1development/profiles", absent_profiles, HTTP_ON_LOOP},
};
const size_t otlp_http_route_count = ARRAY_LEN(otlp_http_routes);
