/* SPDX-License-Identifier: Apache-2.0 */
/* One way out: every query API asks here. Adds to the store's answers what Jaeger's adjusters do.
 */
#ifndef LYMER_ENGINE_QUERY_QUERY_H
#define LYMER_ENGINE_QUERY_QUERY_H

#include "model/query.h"
#include "model/trace.h"
#include "store/trace/trace_store.h"

#define QUERY_ARENA_MAX    (1 * GIB) /* one trace in the read model */
#define PAGE_SPANS_DEFAULT 1000u     /* of a page of a trace (snap_trace_page) */
#define PAGE_SPANS_MAX     10000u

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

/* --- summaries --- */

struct service_summary {
    struct str name;
    uint64_t span_count, error_count;
};

/* For qsort: the one with the most spans first, then by name. */
int service_by_spans(const void *a, const void *b);

struct trace_summary {
    uint8_t trace_id[16];
    struct str root_service, root_operation; /* of the root that starts first */
    uint64_t min_start_ns, max_end_ns;
    uint64_t span_count, error_count, root_count;
    uint64_t orphan_count;            /* spans whose parent is not in the trace */
    struct service_summary *services; /* sorted by name */
    uint32_t service_count;
    struct service_summary others; /* spans of services that are not listed; no name */
    uint32_t other_services;       /* how many; 0, though there are spans: not known */
    bool orphans_unknown;          /* there are too many: orphan_count says nothing */
    bool stored;                   /* of the spans as stored, not adjusted */
};

/* Of an adjusted trace; every service is listed. */
MUST_CHECK enum errc summarize_trace(const struct trace *t, struct arena *a,
                                     struct trace_summary *out);

#define SUMMARY_SERVICES_SHOWN 100u        /* the most frequent are listed, the others counted */
#define SUMMARY_SERVICES_HELD  16384u      /* told apart; those that come later are others */
#define SUMMARY_NAMES_BYTES    (1 * MIB)   /* of their names; likewise */
#define SUMMARY_ROOT_BYTES     (256 * MIB) /* each of the root's two names */
#define SUMMARY_AWAITED_HELD   131072u     /* parents looked for in one round */
#define SUMMARY_ROUNDS_MAX     64u         /* then it is not known how many are missing */

struct summary_bounds {
    uint32_t services_shown, services_held, awaited, rounds;
};
extern const struct summary_bounds summary_bounds; /* those above */

/* Of a trace of any size, as its spans are stored: one that came twice counts twice; an end before
 * the start is repaired as the adjusters do. Exact. Memory does not grow with the trace: below
 * 7 MiB of the arena and its budget, what snap_trace_glance takes, and beside them the root's two
 * names. The trace is passed over once, and twice more for each round of parents that blocks do not
 * know of. E_NOT_FOUND; E_NO_MEMORY. */
MUST_CHECK enum errc summarize_stored(struct snap *s, struct str tenant, const uint8_t id[16],
                                      const struct summary_bounds *bounds, struct arena *a,
                                      struct trace_summary *out, struct err *e);

/* Of the adjusted trace or, when that is too large, as stored. The arena is emptied first; what is
 * shown lives in it. */
MUST_CHECK enum errc query_summary(struct snap *s, struct str tenant, const uint8_t id[16],
                                   const struct adjust_config *c, struct arena *a,
                                   struct trace_summary *out, struct err *e);

#endif
