/* SPDX-License-Identifier: Apache-2.0 */
/* What the server can be told, in one table. A key has one name, spelled after where it is given:
 *
 *   otlp.grpc.port          in a --config file, dotted or as nested maps
 *   --otlp-grpc-port        as a flag
 *   LYMER_OTLP_GRPC_PORT    as an environment variable
 *
 * A flag wins over the environment, that over the file, that over the default. `lymer serve
 * --help`, `lymer config`, shell completion and docs/config.md are printed from the rows, so a key
 * cannot exist without its sentence. Jaeger's flags and variables are a second table
 * (config_jaeger.c) that translates to these keys. */
#ifndef LYMER_APP_CONFIG_H
#define LYMER_APP_CONFIG_H

#include "base/arena.h"
#include "base/buf.h"

#define CONFIG_FILE_MAX (1 * MIB)
#define CONFIG_TEXT_MAX (64 * KIB) /* of one value */

/* An address to listen on. "4317": that port on --listen's address; "0.0.0.0:4317", "[::1]:4317":
 * that address; ":4317": every interface, as Jaeger reads it; "" or "0": closed. */
struct door_addr {
    char host[46]; /* empty: --listen's */
    uint16_t port; /* 0: closed */
};

struct host_addr {
    char text[46]; /* numeric, without brackets */
};

enum conf_type {
    CONF_STRING,
    CONF_BOOL,
    CONF_UINT,
    CONF_BYTES,
    CONF_DURATION,
    CONF_CHOICE,
    CONF_HOST,
    CONF_DOOR
};

typedef const char *conf_c_STRING;
typedef bool conf_c_BOOL;
typedef uint64_t conf_c_UINT, conf_c_BYTES, conf_c_DURATION; /* durations in nanoseconds */
typedef unsigned conf_c_CHOICE;                              /* position in the list of choices */
typedef struct host_addr conf_c_HOST;
typedef struct door_addr conf_c_DOOR;

enum conf_reload { CONF_FIXED, CONF_RELOAD }; /* taken over by SIGHUP, or only at start */

/* A name with "" before it opens a group in the help. Choices stand in the order of their enum. For
 * UINT the choices column may hold "least..most". */
/*  field, type, key, default, choices, reload, help */
#define CONF_TABLE(X)                                                                                  \
    X(config, STRING, "config", "", "", FIXED, "File of settings in YAML")                             \
    X(data, STRING, "data", "", "", FIXED,                                                             \
      "Directory of the store; empty: /var/lib/lymer when it can be written, else ./lymer-data")       \
    X(memory, BOOL, "memory", "false", "", FIXED,                                                      \
      "Keep everything in memory, write nothing to disk")                                              \
    X(sync, CHOICE, "sync", "interval", "interval|each|os", RELOAD,                                    \
      "When the log reaches the disk: every sync-every, before each answer, or when the system likes") \
    X(sync_every, DURATION, "sync-every", "100ms", "1ms..1m", RELOAD,                                  \
      "Longest time between two syncs of the log with --sync=interval")                                \
    X(retention, DURATION, "retention", "168h", "", RELOAD,                                            \
      "Forget spans older than this; 0: never")                                                        \
    X(retention_rules, STRING, "retention.rules", "", "", RELOAD,                                      \
      "What is kept longer, the rest shorter: 'keep error for 30d; drop after 24h'; a list in a file") \
    X(max_disk, BYTES, "max-disk", "50GB", "", RELOAD,                                                 \
      "Forget the oldest spans when the store grows past this; 0: no cap")                             \
    X(max_memory, BYTES, "max-memory", "512MiB", "64MiB..1024GiB", FIXED,                              \
      "For request bodies, spans not yet in a block and queries; with --memory half is for blocks")    \
    X(memtable, BYTES, "memtable", "32MiB", "64KiB..1GiB", FIXED,                                      \
      "Spans gathered in memory before they become a block")                                           \
    X(memtable_age, DURATION, "memtable-age", "30m", "1s..24h", FIXED,                                 \
      "Longest time before they become one all the same")                                              \
    X(compact_percent, UINT, "compact.cpu-percent", "50", "0..100", RELOAD,                            \
      "Share of a core that merging small blocks may take; 0: they stay small")                        \
    X(compact_io, BYTES, "compact.io", "64MiB", "", RELOAD,                                            \
      "Bytes a second that merging and rewriting blocks may read and write together; 0: any")          \
    X(listen, HOST, "listen", "127.0.0.1", "", FIXED,                                                  \
      "Address of every port that does not name its own; 0.0.0.0 or [::] for every interface")         \
    X(port_offset, UINT, "port-offset", "0", "0..50000", FIXED, "Added to every port")                 \
    X(otlp_grpc_port, DOOR, "otlp.grpc.port", "4317", "", FIXED, "OTLP over gRPC")                     \
    X(otlp_http_port, DOOR, "otlp.http.port", "4318", "", FIXED, "OTLP over HTTP")                     \
    X(query_port, DOOR, "query.port", "16686", "", FIXED, "The page and the HTTP query API")           \
    X(admin_port, DOOR, "admin.port", "14269", "", FIXED, "Health and metrics")                        \
    X(health_port, DOOR, "health.port", "13133", "", FIXED, "Health as Jaeger v2 answers it")          \
    X(cors_origins, STRING, "otlp.http.cors-origins", "", "", FIXED,                                   \
      "Origins whose browsers may send spans: a comma list, or *")                                     \
    X(max_request, BYTES, "max-request-bytes", "64MiB", "1KiB..256MiB", FIXED,                         \
      "Largest request body, before and after decompression")                                          \
    X(max_connections, UINT, "max-connections", "10000", "1..1000000", FIXED,                          \
      "Connections open at the same time")                                                             \
    X(loops, UINT, "loops", "0", "0..64", FIXED,                                                       \
      "Threads that read and write sockets; 0: one a CPU, at most two")                                \
    X(base_path, STRING, "query.base-path", "/", "", FIXED,                                            \
      "Path the page and the query API stand under, for use behind a proxy")                           \
    X(query_threads, UINT, "query.threads", "0", "0..64", FIXED,                                       \
      "Queries answered at the same time; 0: one a CPU, at most four")                                 \
    X(clock_skew, DURATION, "query.max-clock-skew", "0s", "", FIXED,                                   \
      "Largest clock difference between services that traces are corrected by; 0: only warn")          \
    X(search_time, DURATION, "query.max-time", "10s", "", FIXED,                                       \
      "Longest time a search may take before it answers with what it is sure of; 0: any")              \
    X(search_bytes, BYTES, "query.max-bytes", "1GiB", "", FIXED,                                       \
      "Most bytes a search may read from disk, likewise; 0: any")                                      \
    X(drain, DURATION, "shutdown.timeout", "5s", "0s..10m", FIXED,                                     \
      "How long running requests may take to end after SIGTERM")                                       \
    X(log_level, CHOICE, "log.level", "info", "debug|info|warn|error", RELOAD,                         \
      "Least level logged")                                                                            \
    X(log_format, CHOICE, "log.format", "text", "text|json", RELOAD, "How log lines look")

enum conf_id {
#define CONF_ENUM(field, ...) CONF_##field,
    CONF_TABLE(CONF_ENUM)
#undef CONF_ENUM
        CONF_COUNT
};

/* Where a value came from; later ones win. */
enum conf_source {
    CONF_FROM_DEFAULT,
    CONF_FROM_FILE,
    CONF_FROM_JAEGER_ENV,
    CONF_FROM_ENV,
    CONF_FROM_FLAG
};

struct conf_given {
    enum conf_source source;
    const char *name; /* as the user spelled it: "LYMER_DATA", "--data" */
    const char *text;
};

struct config {
#define CONF_FIELD(field, type, ...) conf_c_##type field;
    CONF_TABLE(CONF_FIELD)
#undef CONF_FIELD
    struct conf_given given[CONF_COUNT];
    struct arena arena;  /* holds every text */
    struct buf warnings; /* lines: what was understood only in part */
};

struct conf_key {
    const char *key, *def, *choices, *help;
    size_t offset;
    enum conf_type type;
    enum conf_reload reload;
};
extern const struct conf_key conf_keys[CONF_COUNT];

void config_init(struct config *c);
void config_fini(struct config *c);

/* Everything at once, in order of precedence: defaults, the file that --config or LYMER_CONFIG
 * names, `env` (NAME=value, NULL-terminated), the flags. E_USAGE with a sentence for an unknown
 * flag or file key (naming the nearest) and for a value that does not parse; E_NOT_FOUND or E_IO
 * for the file. */
MUST_CHECK enum errc config_load(struct config *c, int argc, const char *const *argv,
                                 const char *const *env, struct err *e);

/* One value; `name` is how the user spelled the key, for the error. Lower sources never replace
 * higher ones. */
MUST_CHECK enum errc config_set(struct config *c, enum conf_id id, enum conf_source source,
                                const char *name, struct str text, struct err *e);
/* The text in the file's YAML, read into c. */
MUST_CHECK enum errc config_read_yaml(struct config *c, struct str yaml, const char *name,
                                      struct err *e);
/* The key's id, -1 when unknown. Takes the dotted name or the flag's (without dashes before it). */
int config_find(struct str name);
/* The known name nearest to a misspelled one, NULL when none is near: the key, or with flag its
 * flag's spelling in `out`. */
const char *config_nearest(struct str name, bool flag, char out[64]);
/* "--otlp-grpc-port" / "LYMER_OTLP_GRPC_PORT" */
void config_flag_name(const struct conf_key *k, char out[64]);
void config_env_name(const struct conf_key *k, char out[64]);

/* The values that hold, as a YAML file that --config reads; with the source of each as a comment.
 */
void config_write(const struct config *c, struct buf *out);
/* The rows as the reference page docs/config.md, and as the options part of --help. */
void config_write_markdown(struct buf *out);
void config_write_help(struct buf *out, unsigned width);

/* --- config_jaeger.c: Jaeger v1's names --- */

struct jaeger_key;

/* The row for a Jaeger flag ("memory.max-traces") or variable ("SPAN_STORAGE_TYPE"), NULL when it
 * is not Jaeger's. A name that only looks like Jaeger's gets a row that warns. */
const struct jaeger_key *jaeger_key_of_flag(struct str name);
const struct jaeger_key *jaeger_key_of_env(struct str name);
bool jaeger_key_is_switch(const struct jaeger_key *k, struct str name);
/* The key it is another name for, -1 when it is more than that. */
int jaeger_key_same_as(const struct jaeger_key *k);
/* Sets what it means, or puts a line into c->warnings. */
MUST_CHECK enum errc jaeger_key_apply(const struct jaeger_key *k, struct config *c,
                                      enum conf_source source, const char *name, struct str value,
                                      struct err *e);
void config_jaeger_write_markdown(struct buf *out);

#endif
