/* SPDX-License-Identifier: Apache-2.0 */
/* What the server counts about itself. One row a series; /metrics and its reference page are
 * printed from the rows, so a counter cannot exist without a name and a sentence. Counters with the
 * same name stand together and differ in labels. Names are Prometheus names without the `lymer_`
 * prefix. Any thread may call. */
#ifndef LYMER_BASE_STATS_H
#define LYMER_BASE_STATS_H

#include "base/buf.h"

#include <stdatomic.h>

/*  id   kind   name   labels   help */
#define STATS_TABLE(X)                                                                             \
    X(SPANS_ACCEPTED, COUNTER, "spans_accepted_total", "", "Spans acknowledged to a client.")      \
    X(SPANS_REJECTED_TRACE_ID, COUNTER, "spans_rejected_total", "reason=\"trace_id\"",             \
      "Spans refused for good, by reason.")                                                        \
    X(SPANS_REJECTED_SPAN_ID, COUNTER, "spans_rejected_total", "reason=\"span_id\"", "")           \
    X(SPANS_REJECTED_DEPTH, COUNTER, "spans_rejected_total", "reason=\"depth\"", "")               \
    X(SPANS_REJECTED_LIMIT, COUNTER, "spans_rejected_total", "reason=\"limit\"", "")               \
    X(SPANS_REJECTED_KEYS, COUNTER, "spans_rejected_total", "reason=\"keys\"", "")                 \
    X(SPANS_REFUSED, COUNTER, "spans_refused_total", "", "Spans answered with a retryable error.") \
    X(BATCHES_ACCEPTED, COUNTER, "batches_accepted_total", "", "Batches acknowledged.")            \
    X(BATCHES_REFUSED_BUSY, COUNTER, "batches_refused_total", "reason=\"busy\"",                   \
      "Batches answered with a retryable error, by reason.")                                       \
    X(BATCHES_REFUSED_DISK, COUNTER, "batches_refused_total", "reason=\"disk\"", "")               \
    X(BATCHES_REFUSED_MEMORY, COUNTER, "batches_refused_total", "reason=\"memory\"", "")           \
    X(REQUESTS_BAD_DECODE, COUNTER, "requests_bad_total", "reason=\"decode\"",                     \
      "Requests refused as malformed, by reason.")                                                 \
    X(REQUESTS_BAD_SIZE, COUNTER, "requests_bad_total", "reason=\"size\"", "")                     \
    X(REQUESTS_BAD_COMPRESSION, COUNTER, "requests_bad_total", "reason=\"compression\"", "")       \
    X(REQUESTS_BAD_TYPE, COUNTER, "requests_bad_total", "reason=\"type\"", "")                     \
    X(REQUESTS_BAD_METHOD, COUNTER, "requests_bad_total", "reason=\"method\"", "")                 \
    X(REQUESTS_BAD_PATH, COUNTER, "requests_bad_total", "reason=\"path\"", "")                     \
    X(REQUESTS_BAD_PARAM, COUNTER, "requests_bad_total", "reason=\"parameter\"", "")               \
    X(REQUESTS_BAD_HEAD, COUNTER, "requests_bad_total", "reason=\"head_size\"", "")                \
    X(REQUESTS_BAD_TIMEOUT, COUNTER, "requests_bad_total", "reason=\"timeout\"", "")               \
    X(REQUESTS_BAD_HTTP, COUNTER, "requests_bad_total", "reason=\"protocol\"", "")                 \
    X(REQUESTS_BAD_TENANT, COUNTER, "requests_bad_total", "reason=\"tenant\"", "")                 \
    X(REQUESTS_REFUSED_MEMORY, COUNTER, "requests_refused_total", "reason=\"memory\"",             \
      "Requests answered 503, by reason.")                                                         \
    X(REQUESTS_REFUSED_BUSY, COUNTER, "requests_refused_total", "reason=\"busy\"", "")             \
    X(CONNS_ACCEPTED, COUNTER, "connections_accepted_total", "", "Connections accepted.")          \
    X(CONNS_OPEN, GAUGE, "connections_open", "", "Connections open now.")                          \
    X(CONNS_CLOSED_IDLE, COUNTER, "connections_closed_total", "reason=\"idle\"",                   \
      "Connections closed by the server, by reason.")                                              \
    X(CONNS_CLOSED_SLOW, COUNTER, "connections_closed_total", "reason=\"slow\"", "")               \
    X(CONNS_CLOSED_PROTOCOL, COUNTER, "connections_closed_total", "reason=\"protocol\"", "")       \
    X(CONNS_CLOSED_FLOOD, COUNTER, "connections_closed_total", "reason=\"flood\"", "")             \
    X(CONNS_REFUSED_LIMIT, COUNTER, "connections_refused_total", "",                               \
      "Connections refused at the limit.")                                                         \
    X(REQUESTS_HTTP, COUNTER, "requests_total", "protocol=\"http\"",                               \
      "Requests read, by protocol.")                                                               \
    X(REQUESTS_GRPC, COUNTER, "requests_total", "protocol=\"grpc\"", "")                           \
    X(CALLS_DEADLINE, COUNTER, "calls_ended_total", "reason=\"deadline\"",                         \
      "gRPC calls that ended before they were answered, by reason.")                               \
    X(CALLS_CANCELLED, COUNTER, "calls_ended_total", "reason=\"cancelled\"", "")                   \
    X(BYTES_IN, COUNTER, "received_bytes_total", "", "Bytes read from sockets.")                   \
    X(BYTES_OUT, COUNTER, "sent_bytes_total", "", "Bytes written to sockets.")                     \
    X(INFLIGHT_BYTES, GAUGE, "inflight_bytes", "", "Bytes of request bodies held now.")            \
    X(WAL_BYTES, COUNTER, "wal_bytes_total", "", "Bytes appended to the write-ahead log.")         \
    X(WAL_RECORDS, COUNTER, "wal_records_total", "", "Records appended to the write-ahead log.")   \
    X(WAL_SYNCS, COUNTER, "wal_syncs_total", "", "Times the write-ahead log was synced.")          \
    X(WAL_ERRORS, COUNTER, "wal_errors_total", "",                                                 \
      "Failed writes or syncs of the write-ahead log.")                                            \
    X(MEMTABLE_SPANS, GAUGE, "memtable_spans", "", "Spans not yet in a block.")                    \
    X(MEMTABLE_BYTES, GAUGE, "memtable_bytes", "", "Bytes of spans not yet in a block.")           \
    X(BLOCKS, GAUGE, "blocks", "", "Blocks on disk.")                                              \
    X(BLOCK_SPANS, GAUGE, "block_spans", "", "Spans in blocks.")                                   \
    X(BLOCK_BYTES, GAUGE, "block_bytes", "", "Bytes of blocks.")                                   \
    X(MEMTABLES_MANY_KEYS, COUNTER, "memtables_many_keys_total", "",                               \
      "Blocks built early because their spans had too many attribute keys.")                       \
    X(BLOCKS_BUILT, COUNTER, "blocks_built_total", "", "Blocks built.")                            \
    X(BLOCKS_FAILED, COUNTER, "blocks_failed_total", "",                                           \
      "Block builds that failed and will be retried.")                                             \
    X(COMPACTIONS, COUNTER, "compactions_total", "", "Merges of several blocks into one.")         \
    X(COMPACTIONS_FAILED, COUNTER, "compactions_failed_total", "",                                 \
      "Merges that failed; the blocks stay as they were.")                                         \
    X(COMPACTED_BLOCKS, COUNTER, "compacted_blocks_total", "", "Blocks that were merged away.")    \
    X(COMPACTED_SPANS, COUNTER, "compacted_spans_total", "", "Spans rewritten by merges.")         \
    X(COMPACTION_READ, COUNTER, "compaction_bytes_total", "direction=\"read\"",                    \
      "Bytes that merging and rewriting blocks read and wrote.")                                   \
    X(COMPACTION_WRITTEN, COUNTER, "compaction_bytes_total", "direction=\"written\"", "")          \
    X(COMPACTION_BACKLOG, GAUGE, "compaction_backlog_blocks", "",                                  \
      "Small blocks that wait to be merged with others, when last looked.")                        \
    X(BLOCKS_EXPIRED, COUNTER, "blocks_expired_total", "", "Blocks dropped by retention.")         \
    X(SPANS_EXPIRED, COUNTER, "spans_expired_total", "", "Spans dropped by retention.")            \
    X(BLOCKS_SET_ASIDE, COUNTER, "blocks_set_aside_total", "", "Damaged blocks set aside.")        \
    X(BLOCKS_DAMAGED, COUNTER, "blocks_damaged_total", "",                                         \
      "Blocks in which searches met something that cannot be read.")                               \
    X(WAL_TAIL_DROPPED, COUNTER, "wal_tail_dropped_bytes_total", "",                               \
      "Bytes of torn log tail skipped at recovery.")                                               \
    X(WAL_DAMAGED, COUNTER, "wal_damaged_records_total", "",                                       \
      "Log records that could not be read at recovery, though later ones could.")                  \
    X(MANIFEST_REWRITES, COUNTER, "manifest_rewrites_total", "",                                   \
      "Times the manifest was rewritten.")                                                         \
    X(SERVICES_OVER_LIMIT, COUNTER, "catalog_over_limit_total", "names=\"services\"",              \
      "Names counted under an overflow name because the tenant has too many.")                     \
    X(OPERATIONS_OVER_LIMIT, COUNTER, "catalog_over_limit_total", "names=\"operations\"", "")      \
    X(TENANTS_OVER_LIMIT, COUNTER, "catalog_over_limit_total", "names=\"tenants\"", "")            \
    X(ORPHANS_GIVEN_UP, COUNTER, "dependency_orphans_given_up_total", "",                          \
      "Spans whose parent did not come in time to be counted as a dependency.")                    \
    X(PARENT_SEARCHES_CUT, COUNTER, "dependency_searches_cut_total", "",                           \
      "Spans whose parent was not looked for in every older block, because there are too many.")   \
    X(DEPENDENCY_ROWS_DROPPED, COUNTER, "dependency_rows_dropped_total", "",                       \
      "Oldest dependency rows dropped at the limit.")                                              \
    X(QUERIES, COUNTER, "queries_total", "", "Queries answered.")                                  \
    X(QUERIES_FAILED, COUNTER, "queries_failed_total", "", "Queries that failed.")

enum stat_id { /* not "stat": that tag is taken by <sys/stat.h> */
#define STATS_ENUM(id, kind, name, labels, help) STAT_##id,
               STATS_TABLE(STATS_ENUM)
#undef STATS_ENUM
                   STAT_COUNT
};

extern _Atomic int64_t stats_values[STAT_COUNT];

static inline void stat_add(enum stat_id s, int64_t n)
{
    atomic_fetch_add_explicit(&stats_values[s], n, memory_order_relaxed);
}

static inline void stat_set(enum stat_id s, int64_t v)
{
    atomic_store_explicit(&stats_values[s], v, memory_order_relaxed);
}

static inline int64_t stat_get(enum stat_id s)
{
    return atomic_load_explicit(&stats_values[s], memory_order_relaxed);
}

/* Prometheus text format, HELP and TYPE once a name. */
void stats_write(struct buf *out);

#endif
