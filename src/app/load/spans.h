/* SPDX-License-Identifier: Apache-2.0 */
/* Spans that look like a shop's, made fast enough (a quarter of a microsecond each) that one core
 * drives a server to its limit; for `lymer load`, benches and tests.
 *
 * A trace is a walk through a table of operations (shop.c); each span is written once, as OTLP
 * protobuf, into the open request of the service instance it belongs to, and a request leaves when
 * it holds `batch_spans`. So a trace arrives in pieces from a dozen senders, as it does from SDKs.
 * No instance holds a span back for longer than SPANS_WINDOW traces.
 *
 * Everything follows from (seed, trace number): the same configuration gives the same bytes, and a
 * trace is the same whichever worker makes it. Every id is different. */
#ifndef LYMER_APP_LOAD_SPANS_H
#define LYMER_APP_LOAD_SPANS_H

#include "base/buf.h"

#define SPANS_WINDOW    4096u
#define SPANS_BATCH     512u
#define SPANS_TRACE_MAX 1000000u /* spans of one trace */

enum spans_profile { SPANS_SHOP, SPANS_FLAT, SPANS_DEEP, SPANS_WIDE };

struct spans_config {
    enum spans_profile profile;
    uint64_t seed;
    uint64_t start_ns;       /* of trace 0 */
    uint64_t trace_every_ns; /* trace n starts at start_ns + n * trace_every_ns, plus some jitter */
    uint32_t trace_spans;    /* flat, deep, wide: spans of a trace; 0: 8, 100, 1000 */
    uint32_t batch_spans;    /* 0: SPANS_BATCH */
    uint32_t error_percent;  /* of traces that contain a failure */
};

struct spans;

/* A whole ExportTraceServiceRequest; a view that lives until the callback returns. */
typedef void spans_request(void *arg, struct str request, uint32_t span_count);

struct spans *spans_new(const struct spans_config *c, spans_request *out, void *arg);
void spans_free(struct spans *s);

/* Makes trace number n; calls out for each request that became full. Returns its spans. */
uint32_t spans_trace(struct spans *s, uint64_t n);
/* Sends what is left, at the end. */
void spans_flush(struct spans *s);

#endif
