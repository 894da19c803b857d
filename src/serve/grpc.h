/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC over the HTTP server's HTTP/2 connections: framing, compression (gzip, deflate, zstd),
 * deadlines, trailers, status details. Unary and streaming methods alike get whole, decompressed
 * messages. */
#ifndef LYMER_SERVE_GRPC_H
#define LYMER_SERVE_GRPC_H

#include "serve/http.h"

struct grpc_call {
    const struct grpc_method *method;
    struct http_req *req; /* metadata: http_header(call->req, …) */
    void *arg;            /* the door's */
    void *state;          /* the method's own */
    uint64_t deadline_ns; /* monotonic; 0: none */
};

/* All three run on the loop that owns the connection. */
struct grpc_method {
    const char *name; /* "Export" */
    bool client_stream, server_stream;
    /* A whole message; a view that lives until it returns. Unary: exactly one call, then no `end`.
     */
    void (*message)(struct grpc_call *c, struct str msg);
    void (*end)(struct grpc_call *c);       /* client half-closed (streaming methods) */
    void (*cancelled)(struct grpc_call *c); /* client went away or the deadline passed before
                                               grpc_finish; may be NULL */
};

struct grpc_service {
    const char *name; /* "opentelemetry.proto.collector.trace.v1.TraceService" */
    const struct grpc_method *methods;
    size_t method_count;
};

/* Any thread. Sends one message; a streaming method may send many. */
void grpc_send(struct grpc_call *c, struct str msg);
/* Ends the call, exactly once; the call is gone afterwards. details: serialised google.rpc.Status
 * or empty. */
void grpc_finish(struct grpc_call *c, int status, struct str message, struct str details);

/* Ready-made services: health (Check, Watch, List; every service of the same door and "" are
 * SERVING until drain) and reflection v1 and v1alpha over the descriptors in serve/descriptors.h.
 */
extern const struct grpc_service grpc_health_service;
extern const struct grpc_service grpc_reflection_v1_service;
extern const struct grpc_service grpc_reflection_v1alpha_service;

#endif
