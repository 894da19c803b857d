/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC over the HTTP server's HTTP/2 connections: framing, compression (gzip, deflate, zstd),
 * deadlines, trailers, status details. Unary and streaming methods alike get whole, decompressed
 * messages.
 *
 * A call that was given to its method once (message or end) belongs to the method until it calls
 * grpc_finish: exactly once, also after `cancelled`, from any thread. Until that return the pointer
 * is good, whatever became of the client. */
#ifndef LYMER_SERVE_GRPC_H
#define LYMER_SERVE_GRPC_H

#include "serve/http.h"

/* Messages above this are inflated and handled in the worker pool when the method allows it. */
#define GRPC_LOOP_BYTES_MAX (4 * MIB)

struct grpc_call {
    const struct grpc_method *method;
    const struct http_door *door;
    struct http_req *req; /* metadata: http_header(call->req, …) */
    void *arg;            /* the door's */
    void *state;          /* the method's own */
    uint64_t deadline_ns; /* monotonic; 0: none */
};

/* All run on the loop that owns the connection, but for `message` of a method with `pooled`. */
struct grpc_method {
    const char *name; /* "Export" */
    bool client_stream, server_stream;
    bool pooled; /* unary only: a large message may be handed over on a worker thread */
    /* A whole message; a view that lives until it returns. Unary: exactly one call, after the
     * client half-closed, then no `end`. */
    void (*message)(struct grpc_call *c, struct str msg);
    void (*end)(struct grpc_call *c); /* client half-closed (streaming methods) */
    /* The client went away or the deadline passed: what is sent now goes nowhere. Only between the
     * first message or end and grpc_finish. May be NULL. */
    void (*cancelled)(struct grpc_call *c);
    /* The server is draining (grpc_draining) or the client has closed its side of the connection:
     * finish what would otherwise never end. May be NULL. */
    void (*drain)(struct grpc_call *c);
};

struct grpc_service {
    const char *name; /* "opentelemetry.proto.collector.trace.v1.TraceService" */
    const struct grpc_method *methods;
    size_t method_count;
    /* Not NULL: known but not served; its methods answer UNIMPLEMENTED with this sentence, health
     * and reflection do not list it. */
    const char *absent;
};

/* Any thread. Sends one message; a streaming method may send many. What a slow client has not taken
 * is queued; on the loop a method need not care: it gets no further message while much is queued.
 */
void grpc_send(struct grpc_call *c, struct str msg);
/* The one message of a unary method and OK, in one go: grpc_send and grpc_finish. */
void grpc_reply(struct grpc_call *c, struct str msg);
/* Ends the call, exactly once; the call is gone afterwards. details: serialised google.rpc.Status
 * or empty. */
void grpc_finish(struct grpc_call *c, int status, struct str message, struct str details);

bool grpc_draining(const struct grpc_call *c);

/* Ready-made services: health (Check, Watch, List; every service of the same door and "" are
 * SERVING until drain) and reflection v1 and v1alpha over the descriptors in serve/descriptors.h.
 */
extern const struct grpc_service grpc_health_service;
extern const struct grpc_service grpc_reflection_v1_service;
extern const struct grpc_service grpc_reflection_v1alpha_service;

#endif
