/* SPDX-License-Identifier: Apache-2.0 */
/* The trace store's door.
 *
 * Writes: store_append hands a sealed batch to the writer thread, which appends its image to the
 * write-ahead log, adds it to the memtable and calls back. The callback is the acknowledgement: by
 * then the batch is in the log as the sync policy demands and every later snapshot sees it. A full
 * memtable is built into one immutable block per tenant in the background; the manifest makes it
 * official and releases the log. Small blocks that lie together in time are merged.
 *
 * Bounds: a span whose start is older than the retention time is not read any more, by no question;
 * its block goes when all its spans are. The files never take more than the disk cap: what would
 * pass it is refused (E_FULL) or makes the oldest blocks go first. docs/internals/bounds.md.
 *
 * Reads: a snapshot holds references to the memtables and blocks of one moment; it costs no copy
 * and blocks nobody. Reads may be made from any thread, also from several on one snapshot.
 *
 * The store knows no wire format and no sockets; everything outside goes through `struct os`. */
#ifndef LYMER_STORE_TRACE_TRACE_STORE_H
#define LYMER_STORE_TRACE_TRACE_STORE_H

#include "base/os/os.h"
#include "base/os/thread.h"
#include "model/batch.h"
#include "model/query.h"
#include "model/trace.h"
#include "store/trace/rules.h"

struct store;
struct snap;

enum sync_policy { SYNC_INTERVAL, SYNC_EACH, SYNC_OS };

struct store_config {
    struct os *os;
    const char *dir; /* created when absent; a process holds it by a lock file */
    bool log;        /* false: no write-ahead log (--memory) */
    enum sync_policy sync;
    uint64_t sync_every_ns;       /* SYNC_INTERVAL */
    uint64_t memtable_bytes;      /* a memtable that reaches this is built into blocks */
    uint64_t memtable_age_ns;     /* so is one whose oldest batch is older than this */
    uint64_t retention_ns;        /* 0: keep */
    const char *rules;            /* what is kept longer or shorter: rules.h; NULL or "": none */
    uint64_t drop_ns, longest_ns; /* of the rules; the store fills them in */
    uint64_t max_disk_bytes;      /* of the directory, at any moment; 0: no cap; the oldest go */
    uint32_t compact_fanin;       /* blocks of like size and time that become one; 0: none do */
    uint64_t compact_bytes;       /* a block of this size is not merged any more */
    unsigned compact_percent;     /* of a core that merging may take; 0: none */
    uint64_t compact_io_bytes;    /* a second, that merging may read and write; 0: any */
    uint32_t queue_max;           /* batches waiting for the writer */
    uint32_t services_max,
        operations_max; /* per tenant; past it names are counted under an overflow name */
    bool threads;       /* false: no threads; store_step() does the work (simulator) */
    bool keep_all;      /* nothing expires */
    bool must_exist;    /* a directory without a store is E_NOT_FOUND, and stays as it is */
    bool adopt; /* repair: take over blocks that a manifest without its end may have named */
};

void store_config_defaults(struct store_config *c, struct os *os, const char *dir);
/* For who opens a directory in the place of its server, whose settings are not known: nothing
 * expires, not even what rules have decided about, and nothing is merged. */
void store_config_visitor(struct store_config *c, struct os *os, const char *dir);

/* Recovers what a crash left: manifest, blocks, then the log. E_LOCKED, E_VERSION and E_IO touch
 * nothing. */
MUST_CHECK enum errc store_open(struct store **out, const struct store_config *c, struct err *e);
/* Acknowledges what is queued, builds what is in memory into blocks, syncs, closes. */
void store_close(struct store *s);

/* Embedded in the sender's own struct; called once from the writer thread (or store_step). */
struct store_ticket {
    struct msg msg;
    struct batch *batch;
    void (*done)(struct store_ticket *t, enum errc result, const char *why);
};

/* Adds a reference of its own to t->batch when it answers E_OK; then done() will be called exactly
 * once, perhaps before this returns. Otherwise (E_UNAVAILABLE: queue or memory full; E_FULL: disk)
 * nothing was taken and done() is not called. Never blocks. */
MUST_CHECK enum errc store_append(struct store *s, struct store_ticket *t);

/* Builds everything acknowledged so far into blocks and waits for it. */
MUST_CHECK enum errc store_flush(struct store *s, struct err *e);
/* Without threads: writer, builder and retention each take one step. True while there is work left.
 */
bool store_step(struct store *s);
/* Changes what can be changed while running: retention, disk cap, sync policy, what merging may
 * take (compact_percent, compact_io_bytes). */
void store_reconfigure(struct store *s, const struct store_config *c);

/* --- erasing --- */

/* What goes, in one tenant: a whole trace, or the values of an attribute key, which become
 * "[redacted]" wherever the key stands: spans, resources, scopes, events and links. */
struct store_redaction {
    struct str tenant;
    const uint8_t *trace_id; /* NULL: the values of key */
    struct str key, service; /* service of the span; empty: any */
    struct str value;        /* only values that read so (value_text) */
    bool has_value, count_only;
    const char *door; /* for the audit: who asked */
};

struct store_redacted {
    uint64_t traces, spans, values; /* touched: as readers see them, so a resource's value counts
                                       with each of its spans */
    uint64_t blocks, failed;        /* rewritten; not readable or not writable */
    uint64_t held;                  /* old files that could not be removed */
    uint64_t set_aside;             /* files in damaged/, where nobody can look */
};

/* Everything acknowledged before the call is covered, nothing that comes during or after it. When
 * it answers E_OK with failed and held 0, no file of the directory holds the erased bytes any more
 * but perhaps those set aside. Before and after, a line goes to DIR/audit.log. After an error, a
 * crash or a stop some blocks may be done and others not: it is repeated to be finished. One at a
 * time: E_UNAVAILABLE. Blocks the caller for as long as rewriting takes. Any thread. */
MUST_CHECK enum errc store_redact(struct store *s, const struct store_redaction *r,
                                  struct store_redacted *out, struct err *e);
/* What is under way, dry runs of rules too, ends after its present block with E_CANCELLED: before
 * store_close. */
void store_stop_redacting(struct store *s);

/* --- rules --- */

struct store_rule_share {
    uint64_t traces, spans, bytes; /* bytes by the share of the spans */
};

struct store_rules_report {
    struct rules rules;                      /* rules_fini() is the caller's */
    struct store_rule_share rule[RULES_MAX]; /* a trace counts with every rule that keeps it */
    struct store_rule_share all, kept;
};

/* What the rules would keep of the blocks about which nothing is decided yet, whatever their age,
 * by the code that decides. Empty text: the rules in force. Any thread; changes nothing. */
MUST_CHECK enum errc store_try_rules(struct store *s, struct str rules,
                                     struct store_rules_report *out, struct err *e);

/* --- reading --- */

struct snap *store_snap(struct store *s);
void snap_unref(struct snap *s);

/* Every span of the trace, from wherever it lies, in order. Views live as long as arena and
 * snapshot. E_NOT_FOUND; E_NO_MEMORY past the arena's cap. */
MUST_CHECK enum errc snap_trace(struct snap *s, struct str tenant, const uint8_t id[16],
                                struct arena *a, struct trace **out, struct err *e);

/* Spans [offset, offset + limit) of that order, and in *total how many there are. Memory, all of it
 * the arena's: one row group, 32 bytes for each span of the page and of at most PAGE_SLACK beside
 * it at both ends (more when more have one start), 128 KiB, and the page's spans. */
#define PAGE_SLACK 16384u
MUST_CHECK enum errc snap_trace_page(struct snap *s, struct str tenant, const uint8_t id[16],
                                     uint64_t offset, uint32_t limit, struct arena *a,
                                     struct trace **out, uint64_t *total, struct err *e);

/* What a span is counted by. Ids are big-endian; views live until each() returns. */
struct span_glance {
    uint64_t start_ns, end_ns, span_id;
    enum {
        GLANCE_ROOT,
        GLANCE_PARENT_STORED, /* it is in the trace: the block says so */
        GLANCE_PARENT_BY_ID   /* it may be */
    } parent;
    uint64_t parent_id; /* GLANCE_PARENT_BY_ID */
    struct str service, name;
    enum span_status status;
};
typedef void span_glance_each(void *arg, const struct span_glance *s);

/* What is set, and which columns are read for it. */
enum glance_part { GLANCE_ALL, GLANCE_IDS, GLANCE_PARENTS }; /* the last: ids and parents */

/* Every span of the trace once, as stored, from part to part of the store: in the order in which
 * snap_trace gathers them before it sorts. One pass, linear in the trace. Memory, however large the
 * trace, is one row group and the names and shapes of its block, within the budget. E_NOT_FOUND;
 * E_NO_MEMORY when the budget has not even that. */
MUST_CHECK enum errc snap_trace_glance(struct snap *s, struct str tenant, const uint8_t id[16],
                                       enum glance_part part, struct budget *budget,
                                       span_glance_each *each, void *arg, struct err *e);

/* Traces with a matching span, newest first, exact: the `limit` newest of all. */
MUST_CHECK enum errc snap_search(struct snap *s, const struct trace_query *q, struct arena *a,
                                 struct trace_hits *out, struct err *e);

/* Every trace of a tenant with a span that starts in [min, max], oldest first (one that began
 * before, by a span inside); each() returns false to stop. Export. */
MUST_CHECK enum errc snap_each_trace(struct snap *s, struct str tenant, uint64_t min_ns,
                                     uint64_t max_ns, bool (*each)(void *arg, const uint8_t id[16]),
                                     void *arg, struct err *e);

struct operation {
    struct str name;
    enum span_kind kind;
    uint64_t last_seen_ns;
};

struct dependency {
    struct str parent, child;
    uint64_t calls;
};

/* Sorted by name; operations by name, then kind. Arrays in the arena. Empty service: all
 * operations. */
MUST_CHECK enum errc snap_services(struct snap *s, struct str tenant, struct arena *a,
                                   struct str **out, size_t *n);
MUST_CHECK enum errc snap_operations(struct snap *s, struct str tenant, struct str service,
                                     int kind, struct arena *a, struct operation **out, size_t *n);
/* Calls between services (and within one) whose child span starts in [from, to]; sorted by parent,
 * then child. Exact to the minute at the edges of the window. */
MUST_CHECK enum errc snap_dependencies(struct snap *s, struct str tenant, uint64_t from_ns,
                                       uint64_t to_ns, struct arena *a, struct dependency **out,
                                       size_t *n);

/* --- discovery: which attributes are there, with which values --- */

#define DISCOVER_TEXTS_MAX  65536u         /* distinct keys or values counted at a time */
#define DISCOVER_BYTES_MAX  (16 * MIB)     /* of their text */
#define DISCOVER_TEXT_MAX   KIB            /* a longer one is not listed */
#define DISCOVER_LIMIT_MAX  20000u         /* of one answer */
#define DISCOVER_BUDGET_NS  (2 * NS_PER_S) /* what an answer over the network may take */
#define DISCOVER_MEMORY_MAX (256 * MIB)    /* for one batch or block on the way */

struct discover_query {
    struct str tenant, service;          /* service empty: all */
    enum tag_place place;                /* TAG_ANY: every place */
    struct str prefix;                   /* of the keys, or of the values as text */
    uint64_t start_min_ns, start_max_ns; /* span start, inclusive */
    uint32_t limit;
    uint64_t budget_ns; /* 0: none; past it older blocks are left out */
};

/* A key in one place, or a value as text (value_text: what searches compare), whatever its place
 * and type. It is counted once for each attribute of a span, an event or a link; one of a resource
 * or a scope once for each of its spans. */
struct discovered_text {
    struct str text;
    enum tag_place place; /* of a key */
    uint32_t types;       /* bits 1 << enum attr_type */
    uint64_t count;       /* at least, and … */
    uint64_t missed;      /* … at most so many more; 0: exact */
};

struct discovered {
    struct discovered_text *v; /* by count, most first, then by text */
    size_t n;
    uint64_t total;    /* distinct ones, also those past the limit */
    uint64_t spans;    /* that were looked at: of the service, in the time */
    uint64_t missed;   /* any text not among `total` occurred at most so often */
    uint64_t longer;   /* attributes whose text is longer than DISCOVER_TEXT_MAX */
    uint64_t after_ns; /* not complete for lack of time: spans that start later were looked at */
    bool complete;     /* everything was looked at, nothing missed, nothing longer */
};

MUST_CHECK enum errc snap_keys(struct snap *s, const struct discover_query *q, struct arena *a,
                               struct discovered *out, struct err *e);
MUST_CHECK enum errc snap_values(struct snap *s, const struct discover_query *q, struct str key,
                                 struct arena *a, struct discovered *out, struct err *e);

/* --- cost: what the bytes of a tenant's blocks are spent on --- */

#define COST_ROWS_MAX  65536u          /* operations, and columns; more go into one row together */
#define COST_BYTES_MAX (16 * MIB)      /* of their names */
#define COST_BUDGET_NS (10 * NS_PER_S) /* what an answer over the network may take */

enum cost_kind { COST_FIELD, COST_SPAN_ATTR, COST_EVENT_ATTR, COST_LINK_ATTR, COST_INDEX };

struct cost_column {
    enum cost_kind kind;
    struct str name;
    uint32_t types; /* of an attribute: bits 1 << enum attr_type */
    uint64_t bytes;
};

struct cost_operation {
    struct str service, name; /* name: not of a service's row */
    uint64_t spans, bytes;
};

/* Each list has the most expensive first, and its bytes add up to `bytes`. A value has an equal
 * share of its column's bytes in its row group, for the operation of its span; what holds no values
 * is shared equally by the spans. */
struct cost {
    uint64_t bytes, spans, blocks; /* that were looked at */
    uint64_t waiting_spans;        /* in no block yet */
    struct cost_column *columns;
    struct cost_operation *services, *operations;
    size_t column_n, service_n, operation_n;
    uint64_t after_ns; /* not complete: blocks whose spans all start later were looked at */
    bool complete;
};

/* budget_ns 0: no limit; past it older blocks are left out. */
MUST_CHECK enum errc snap_cost(struct snap *s, struct str tenant, uint64_t budget_ns,
                               struct arena *a, struct cost *out, struct err *e);

struct store_stats {
    uint64_t memtable_spans, memtable_bytes, block_count, block_spans, block_bytes, log_bytes;
    uint64_t disk_bytes; /* of everything in the directory, in whole pages */
    uint64_t oldest_ns, newest_ns;
    bool read_only; /* the disk is full */
};

void store_stats(struct store *s, struct store_stats *out);

/* --- checking --- */

/* Reads a directory without changing it and reports each file in a line: `say` gets "blocks/…:
 * 131072 spans, ok". E_CORRUPT when anything is damaged. Works on a live directory too. */
MUST_CHECK enum errc store_verify(struct os *os, const char *dir,
                                  void (*say)(void *arg, const char *line), void *arg,
                                  struct err *e);

#endif
