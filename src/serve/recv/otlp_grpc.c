/* SPDX-License-Identifier: Apache-2.0 */
/* OTLP over gRPC. The message is decoded where it lies into this thread's builder and handed to
 * ingest; the answer comes from the store's writer thread when the batch is in the log. Messages
 * past GRPC_LOOP_BYTES_MAX arrive here on a worker thread (`pooled`); nothing below minds which. */
#include "serve/recv/recv.h"

#include "base/stats.h"
#include "codec/otlp.h"

#define RESPONSE_MAX (4 * KIB) /* one sentence */

static void export_refused(struct grpc_call *c, const struct ingest_result *r, struct buf *out)
{
    int status = err_grpc(r->code);
    struct str why = str_from_c(r->message);
    if (r->retry_ms)
        otlp_encode_status(status, why, r->retry_ms, STR_NONE, out);
    grpc_finish(c, status, why, buf_str(out));
}

/* Any thread: ingest's word on the batch. */
static void export_done(void *arg, const struct ingest_result *r)
{
    struct grpc_call *c = arg;
    struct buf out = buf_init(RESPONSE_MAX);
    if (r->code) {
        export_refused(c, r, &out);
    } else {
        otlp_encode_response(r->rejected, str_from_c(r->message), &out);
        grpc_reply(c, buf_str(&out));
    }
    buf_fini(&out);
}

static void export_damaged(struct grpc_call *c, enum errc code, const struct err *e)
{
    struct buf details = buf_init(RESPONSE_MAX);
    struct str why = str_from_c(err_msg(e));
    int status = err_grpc(code);
    stat_add(code == E_TOO_BIG ? STAT_REQUESTS_BAD_SIZE : STAT_REQUESTS_BAD_DECODE, 1);
    otlp_encode_status(status, why, 0, why, &details);
    grpc_finish(c, status, why, buf_str(&details));
    buf_fini(&details);
}

static void export_traces(struct grpc_call *c, struct str msg)
{
    const struct recv *recv = c->arg;
    struct batch_builder *b = recv_builder(recv);
    struct err e = {0};
    enum errc code = otlp_decode_traces(msg, b, &e);
    if (code)
        export_damaged(c, code, &e);
    else
        ingest_submit(recv->ingest, recv_tenant(c->req), b, export_done, c);
    recv_builder_done();
}

static const struct grpc_method trace_methods[] = {
    {.name = "Export", .pooled = true, .message = export_traces},
};

const struct grpc_service otlp_trace_service = {
    .name = "opentelemetry.proto.collector.trace.v1.TraceService",
    .methods = trace_methods,
    .method_count = ARRAY_LEN(trace_methods),
};

/* Methods of absent services never run: their names alone matter. */
static const struct grpc_method absent_methods[] = {{.name = "Export"}};

const struct grpc_service otlp_metrics_service = {
    .name = "opentelemetry.proto.collector.metrics.v1.MetricsService",
    .methods = absent_methods,
    .method_count = ARRAY_LEN(absent_methods),
    .absent = RECV_ABSENT("metrics"),
};

const struct grpc_service otlp_logs_service = {
    .name = "opentelemetry.proto.collector.logs.v1.LogsService",
    .methods = absent_methods,
    .method_count = ARRAY_LEN(absent_methods),
    .absent = RECV_ABSENT("logs"),
};

const struct grpc_service otlp_profiles_service = {
    .name = "opentelemetry.proto.collector.profiles.v1development.ProfilesService",
    .methods = absent_methods,
    .method_count = ARRAY_LEN(absent_methods),
    .absent = RECV_ABSENT("profiles"),
};

const struct grpc_service *const otlp_grpc_services[] = {
    &otlp_trace_service,         &grpc_health_service,
    &grpc_reflection_v1_service, &grpc_reflection_v1alpha_service,
    &otlp_metrics_service,       &otlp_logs_service,
    &otlp_profiles_service,      NULL,
};
