/* SPDX-License-Identifier: Apache-2.0 */
/* One way out: every query API asks here. Adds to the store's answers what Jaeger's adjusters do.
 */
#ifndef LYMER_ENGINE_QUERY_QUERY_H
#define LYMER_ENGINE_QUERY_QUERY_H

#include "model/query.h"
#include "model/trace.h"
#include "store/trace/trace_store.h"

#define QUERY_ARENA_MAX (1 * GIB) /* one trace in the read model */

struct adjust_config {
    uint64_t max_clock_skew_ns; /* 0: compute, warn, do not apply (as Jaeger) */
};

/* The trace, adjusted unless raw. E_NOT_FOUND. */
MUST_CHECK enum errc query_trace(struct snap *s, struct str tenant, const uint8_t id[16], bool raw,
                                 const struct adjust_config *c, struct arena *a, struct trace **out,
                                 struct err *e);

/* Jaeger's adjusters in Jaeger's order: shared client/server span ids, sorted tags and log fields,
 * duplicates, clock skew, IP tags, library attributes, empty links; also end before start. One
 * file, one function each. */
void adjust_trace(struct trace *t, const struct adjust_config *c, struct arena *a);

struct service_summary {
    struct str name;
    uint32_t span_count, error_count;
};

struct trace_summary {
    uint8_t trace_id[16];
    struct str root_service, root_operation;
    uint64_t min_start_ns, max_end_ns;
    uint32_t span_count, error_count, orphan_count;
    struct service_summary *services; /* sorted by name */
    uint32_t service_count;
};

/* Of an adjusted trace. */
MUST_CHECK enum errc summarize_trace(const struct trace *t, struct arena *a,
                                     struct trace_summary *out);

#endif
