/* SPDX-License-Identifier: Apache-2.0 */
/* GET /api/export: every trace with a matching span as a line of OTLP/JSON, oldest first, streamed.
 * Parameters: service, operation, start and end (nanoseconds since 1970), minDuration, maxDuration
 * (nanoseconds), tag=key:value, repeated. The stream breaks off when something fails on the way. */
#ifndef LYMER_SERVE_API_EXPORT_H
#define LYMER_SERVE_API_EXPORT_H

#include "model/query.h"
#include "serve/http.h"
#include "store/trace/trace_store.h"

/* Its door's arg is a `struct jaeger_api`, or begins with one. */
extern const struct http_route export_routes[];
extern const size_t export_route_count;

/* The work itself, for those that have the store at hand: line() gets each line with its '\n' and
 * answers false to stop (E_CANCELLED). q->limit is not looked at. */
MUST_CHECK enum errc export_lines(struct snap *s, const struct trace_query *q,
                                  bool (*line)(void *arg, struct str line), void *arg,
                                  struct err *e);

#endif
