/* SPDX-License-Identifier: Apache-2.0 */
/* Jaeger v1's flags and variables, so that a compose file or unit works with the image's name
 * swapped. A flag `collector.otlp.grpc.host-port` is also the variable
 * COLLECTOR_OTLP_GRPC_HOST_PORT. What has no meaning here is named in a warning, without its value:
 * it may be a secret. */
#include "app/config.h"

#include <stdio.h>

enum { SAME_AS_NONE = -1 };

struct jaeger_key {
    const char *flag;
    int same_as; /* enum conf_id */
    enum errc (*apply)(struct config *c, enum conf_source source, const char *name,
                       struct str value, struct err *e);
    bool is_switch;
    const char *note; /* for the reference page, and the warning when there is no apply */
};

static bool truth(struct str v)
{
    return str_eq(v, STR("1")) || str_eq_nocase(v, STR("t")) || str_eq_nocase(v, STR("true"));
}

static enum errc storage_type(struct config *c, enum conf_source source, const char *name,
                              struct str value, struct err *e)
{
    if (str_eq(value, STR("memory")))
        return config_set(c, CONF_memory, source, name, STR("true"), e);
    if (!str_eq(value, STR("badger")))
        buf_addf(
            &c->warnings,
            "%s=%.*s: spans are kept in the embedded store; other back ends do not exist here\n",
            name, STR_ARG(str_take(value, 100)));
    return E_OK;
}

static enum errc ephemeral(struct config *c, enum conf_source source, const char *name,
                           struct str value, struct err *e)
{
    return truth(value) ? config_set(c, CONF_memory, source, name, value, e) : E_OK;
}

static enum errc consistency(struct config *c, enum conf_source source, const char *name,
                             struct str value, struct err *e)
{
    return truth(value) ? config_set(c, CONF_sync, source, name, STR("each"), e) : E_OK;
}

/* Badger wants two directories, the store needs one: the values' wins. */
static enum errc key_directory(struct config *c, enum conf_source source, const char *name,
                               struct str value, struct err *e)
{
    return c->given[CONF_data].source >= source ? E_OK
                                                : config_set(c, CONF_data, source, name, value, e);
}

static enum errc otlp_enabled(struct config *c, enum conf_source source, const char *name,
                              struct str value, struct err *e)
{
    if (truth(value))
        return E_OK;
    enum errc code = config_set(c, CONF_otlp_grpc_port, source, name, STR("0"), e);
    return code ? code : config_set(c, CONF_otlp_http_port, source, name, STR("0"), e);
}

static enum errc log_level(struct config *c, enum conf_source source, const char *name,
                           struct str value, struct err *e)
{
    bool fatal = str_eq(value, STR("dpanic")) || str_eq(value, STR("panic")) ||
                 str_eq(value, STR("fatal"));
    return config_set(c, CONF_log_level, source, name, fatal ? STR("error") : value, e);
}

static enum errc log_encoding(struct config *c, enum conf_source source, const char *name,
                              struct str value, struct err *e)
{
    bool console = str_eq(value, STR("console"));
    return config_set(c, CONF_log_format, source, name, console ? STR("text") : value, e);
}

#define SAME(flag, key)                   \
    {                                     \
        flag, CONF_##key, NULL, false, "" \
    }
#define DOES(flag, fn, note)                \
    {                                       \
        flag, SAME_AS_NONE, fn, false, note \
    }
#define SWITCH(flag, fn, note)             \
    {                                      \
        flag, SAME_AS_NONE, fn, true, note \
    }
#define NONE(flag, note)                      \
    {                                         \
        flag, SAME_AS_NONE, NULL, false, note \
    }

static const struct jaeger_key keys[] = {
    DOES("span-storage.type", storage_type,
         "`memory` turns `memory` on; `badger` is the store itself"),
    SWITCH("badger.ephemeral", ephemeral, "`true` turns `memory` on"),
    SWITCH("badger.consistency", consistency, "`true` is `sync: each`"),
    SAME("badger.directory-value", data),
    DOES("badger.directory-key", key_directory, "`data`, unless directory-value is given"),
    SAME("badger.span-store-ttl", retention),
    SWITCH("collector.otlp.enabled", otlp_enabled, "`false` closes both OTLP ports"),
    SAME("collector.otlp.grpc.host-port", otlp_grpc_port),
    SAME("collector.otlp.http.host-port", otlp_http_port),
    SAME("collector.otlp.grpc.max-message-size", max_request),
    SAME("collector.otlp.http.cors.allowed-origins", cors_origins),
    SAME("query.http-server.host-port", query_port),
    SAME("query.base-path", base_path),
    SAME("query.max-clock-skew-adjustment", clock_skew),
    SAME("admin.http.host-port", admin_port),
    SAME("jaeger-listen-host", listen),
    SAME("config-file", config),
    DOES("log-level", log_level, "`log.level`"),
    DOES("log-encoding", log_encoding, "`log.format`; `console` is `text`"),
    NONE("memory.max-traces", "spans are forgotten by age and size: `retention`, `max-disk`"),
    NONE("multi-tenancy.enabled",
         "the tenant header is always read, `x-tenant` or `X-Scope-OrgID`"),
    NONE("multi-tenancy.header", "the tenant header is always read, `x-tenant` or `X-Scope-OrgID`"),
    NONE("multi-tenancy.tenants", "every tenant name is taken"),
    NONE("dependency-storage-type", "dependencies are counted as spans come in"),
    NONE("metrics-storage-type", "not understood"),
};

/* What starts like this is Jaeger's although no row knows it. Short words that other programs use
 * for variables are spelled longer there. */
static const struct {
    const char *flag, *env;
} prefixes[] = {
    {"admin.", "ADMIN_HTTP_"},
    {"agent.", NULL},
    {"badger.", "BADGER_"},
    {"cassandra", "CASSANDRA_"},
    {"collector.", "COLLECTOR_"},
    {"downsampling.", "DOWNSAMPLING_"},
    {"es.", "ES_"},
    {"es-archive.", "ES_ARCHIVE_"},
    {"grpc-storage.", "GRPC_STORAGE_"},
    {"http-server.", "HTTP_SERVER_HOST_PORT"},
    {"ingester.", "INGESTER_"},
    {"kafka.", "KAFKA_"},
    {"memory.", "MEMORY_MAX_TRACES"},
    {"metrics-", "METRICS_BACKEND"},
    {"multi-tenancy.", "MULTI_TENANCY_"},
    {"processor.", "PROCESSOR_"},
    {"prometheus.", "PROMETHEUS_"},
    {"query.", "QUERY_HTTP"},
    {"query.", "QUERY_GRPC"},
    {"query.", "QUERY_UI_CONFIG"},
    {"query.", "QUERY_STATIC_FILES"},
    {"query.", "QUERY_BEARER_TOKEN"},
    {"query.", "QUERY_ADDITIONAL_HEADERS"},
    {"sampling.", "SAMPLING_"},
    {"span-storage.", "SPAN_STORAGE_"},
    {"feature-gates", NULL},
};

static const struct jaeger_key not_understood = NONE("", "not understood");

static bool is_env_of(struct str env, const char *flag)
{
    size_t n = strlen(flag);
    if (env.n != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = flag[i];
        c = c == '.' || c == '-' ? '_' : c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
        if (env.p[i] != c)
            return false;
    }
    return true;
}

const struct jaeger_key *jaeger_key_of_flag(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (str_eq_c(name, keys[i].flag))
            return &keys[i];
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (str_starts(name, str_from_c(prefixes[i].flag)))
            return &not_understood;
    return NULL;
}

const struct jaeger_key *jaeger_key_of_env(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (is_env_of(name, keys[i].flag))
            return &keys[i];
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (prefixes[i].env && str_starts(name, str_from_c(prefixes[i].env)))
            return &not_understood;
    return NULL;
}

bool jaeger_key_is_switch(const struct jaeger_key *k, struct str name)
{
    static const char end[] = ".enabled";
    size_t n = sizeof end - 1;
    return k->is_switch || (name.n > n && memcmp(name.p + name.n - n, end, n) == 0);
}

int jaeger_key_same_as(const struct jaeger_key *k)
{
    return k->same_as;
}

enum errc jaeger_key_apply(const struct jaeger_key *k, struct config *c, enum conf_source source,
                           const char *name, struct str value, struct err *e)
{
    if (k->same_as >= 0)
        return config_set(c, (enum conf_id)k->same_as, source, name, value, e);
    if (k->apply)
        return k->apply(c, source, name, value, e);
    buf_addf(&c->warnings, "%s of Jaeger has no effect: %s\n", name, k->note);
    return E_OK;
}

void config_jaeger_write_markdown(struct buf *out)
{
    buf_add_c(out,
              "\n## Jaeger's names\n\n"
              "These flags of Jaeger v1 and the variables of the same name\n"
              "(`SPAN_STORAGE_TYPE`, `BADGER_EPHEMERAL`, …) are understood. Others that look like\n"
              "Jaeger's are named in a warning and have no effect.\n\n"
              "| Jaeger | Here |\n|---|---|\n");
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        buf_addf(out, "| `%s` | ", keys[i].flag);
        if (keys[i].same_as >= 0)
            buf_addf(out, "`%s` |\n", conf_keys[keys[i].same_as].key);
        else
            buf_addf(out, "%s%s |\n", keys[i].apply ? "" : "no effect: ", keys[i].note);
    }
}
