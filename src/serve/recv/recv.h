/* SPDX-License-Identifier: Apache-2.0 */
/* The receivers' door to the wiring: route tables and services, one file a protocol. A door of the
 * HTTP server that carries any of them has a `struct recv` as its arg. */
#ifndef LYMER_SERVE_RECV_RECV_H
#define LYMER_SERVE_RECV_RECV_H

#include "engine/ingest/ingest.h"
#include "serve/grpc.h"
#include "serve/pool.h"

struct recv {
    struct ingest *ingest;
    struct work_pool *pool; /* decodes large HTTP bodies; NULL: the loop does */
};

/* OTLP over HTTP: POST /v1/traces, and a sentence for the signals that are not kept. */
extern const struct http_route otlp_http_routes[];
extern const size_t otlp_http_route_count;
void otlp_http_fallback(struct http_req *r);
http_wording otlp_http_wording; /* google.rpc.Status in the request's encoding */

/* OTLP over gRPC. The door also takes health and reflection, see serve/grpc.h. */
extern const struct grpc_service otlp_trace_service;
/* Known but not served: metrics, logs and profiles; all of them, for the door's table. */
extern const struct grpc_service otlp_metrics_service, otlp_logs_service, otlp_profiles_service;
/* The whole table of 4317, NULL-terminated: all of the above. */
extern const struct grpc_service *const otlp_grpc_services[];

/* --- shared by the receivers --- */

/* The tenant named by x-tenant or X-Scope-OrgID; empty when neither is there. Unchecked: ingest
 * does that. */
struct str recv_tenant(const struct http_req *r);
/* This thread's builder, empty; it goes with the thread. When the request has been handed on it is
 * given back: what a large one took is freed then, not when the thread decodes the next. */
struct batch_builder *recv_builder(const struct recv *recv);
void recv_builder_done(void);
/* "lymer keeps traces only so far; point the … exporter elsewhere or switch it off" */
#define RECV_ABSENT(signal) \
    "lymer keeps traces only so far; point the " signal " exporter elsewhere or switch it off"

#endif
