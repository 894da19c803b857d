/* SPDX-License-Identifier: Apache-2.0 */
/* Where the asking commands get their answers: a server's query API, or a data directory read
 * directly. */
#ifndef LYMER_APP_CLI_SOURCE_H
#define LYMER_APP_CLI_SOURCE_H

#include "app/cli/cli.h"
#include "app/client.h"
#include "codec/json.h"
#include "engine/query/query.h"
#include "store/trace/trace_store.h"

/* The options every command with a source has. */
#define SOURCE_OPTIONS                                                                             \
    {"url", "URL", NULL, NULL, "Server to ask (default $LYMER_URL, else http://127.0.0.1:16686)"}, \
        {"data", "DIR", NULL, NULL, "Read this directory instead; no server may hold it"},         \
    {                                                                                              \
        "tenant", "NAME", NULL, NULL, "Tenant to ask for"                                          \
    }

struct source {
    const struct cli *cli;
    struct client client;
    bool guessed;        /* nobody said where the server is */
    int status;          /* of the last answer; 0: there was none */
    struct store *store; /* NULL: over HTTP */
    struct snap *snap;
    struct str tenant;
    char headers[300];
    struct arena arena; /* holds the answers */
    struct batch *held; /* what a decoded trace is made of views into */
};

/* CLI_OK, or the exit code after the sentence was printed: a directory that no server holds, as a
 * visitor. */
MUST_CHECK int source_open_store(const struct cli *c, const char *dir, struct store **out);

/* CLI_OK, or the exit code after the sentence was printed. Close it in any case. */
int source_open(struct source *s, const struct cli *c);
void source_close(struct source *s);

/* The ends of a command: closes the source and returns the exit code. The first prints and frees
 * the output before. */
#define SOURCE_OUT_MAX (2 * GIB)
/* Prints what there is so far, and empties it. */
void source_print(struct buf *out);
int source_finish(struct source *s, struct buf *out, int code);
int source_finish_err(struct source *s, struct buf *out,
                      const struct err *e); /* prints no output */
int source_end(struct source *s, int code);

MUST_CHECK enum errc source_services(struct source *s, struct str **out, size_t *n, struct err *e);
MUST_CHECK enum errc source_operations(struct source *s, struct str service, struct operation **out,
                                       size_t *n, struct err *e);
MUST_CHECK enum errc source_dependencies(struct source *s, uint64_t from_ns, uint64_t to_ns,
                                         struct dependency **out, size_t *n, struct err *e);
/* One page of a search. */
struct source_page {
    struct trace_summary *v;
    size_t n;
    struct str cursor;  /* where it goes on; empty: that was all */
    struct str warning; /* how far an incomplete search has come; empty: it is complete */
};
MUST_CHECK enum errc source_search(struct source *s, const struct trace_query *q,
                                   struct source_page *out, struct err *e);
MUST_CHECK enum errc source_trace(struct source *s, const uint8_t id[16], bool raw,
                                  struct trace **out, struct err *e);
/* Spans [offset, offset + limit) of the trace as stored, perhaps none, and how many it has. */
MUST_CHECK enum errc source_trace_page(struct source *s, const uint8_t id[16], uint64_t offset,
                                       uint32_t limit, struct trace **out, uint64_t *total,
                                       struct err *e);
/* Of a trace of any size: summarize_stored. */
MUST_CHECK enum errc source_summary(struct source *s, const uint8_t id[16],
                                    struct trace_summary *out, struct err *e);
/* Attribute keys; with a key, its values. The tenant is the source's, a directory has no budget. */
MUST_CHECK enum errc source_discover(struct source *s, struct discover_query *q, const char *key,
                                     struct discovered *out, struct err *e);
MUST_CHECK enum errc source_cost(struct source *s, struct cost *out, struct err *e);
/* Each trace with a matching span as a line of OTLP/JSON with its '\n', oldest first. */
MUST_CHECK enum errc source_export(struct source *s, const struct trace_query *q, client_sink *line,
                                   void *arg, struct err *e);

/* A TracesData of JSON or protobuf in the read model; of several traces the one with most spans. It
 * lives until the next one or source_close. */
MUST_CHECK enum errc source_decode(struct source *s, struct str bytes, bool json,
                                   struct trace **out, struct err *e);

/* The options of a search, and what they mean. False after the sentence was printed. */
#define QUERY_OPTIONS                                                                  \
    {"service", "NAME", NULL, NULL, "Service of a span"},                              \
        {"operation", "NAME", NULL, NULL, "Name of that span"},                        \
        {"tag", "KEY=VALUE", NULL, NULL, "Attribute of that span; may be repeated"},   \
        {"has", "KEY", NULL, NULL, "The span has that attribute; may be repeated"},    \
        {"status", "STATUS", NULL, "unset|ok|error", "Its status"},                    \
        {"kind", "KIND", NULL, "unspecified|internal|server|client|producer|consumer", \
         "Its kind"},                                                                  \
        {"min", "DURATION", NULL, NULL, "It took at least so long"},                   \
        {"max", "DURATION", NULL, NULL, "It took at most so long"},                    \
        {"since", "DURATION", NULL, NULL, "It started so long ago at most"},           \
        {"start", "TIME", NULL, NULL,                                                  \
         "It started then or later (RFC 3339, or 1h for an hour ago)"},                \
    {                                                                                  \
        "end", "TIME", NULL, NULL, "It started then or before"                         \
    }
MUST_CHECK bool source_query(struct source *s, uint64_t since_default_ns, struct trace_query *q);

/* The members that every summary has in JSON, within an object; "services" is the caller's. */
void summary_members(struct json_writer *w, const struct trace_summary *t);
void summary_counts(struct json_writer *w, uint64_t spans, uint64_t errors);

#endif
