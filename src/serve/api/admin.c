/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/api/admin.h"

#include "base/num.h"
#include "base/os/os.h"
#include "base/os/process.h"
#include "base/stats.h"
#include "codec/json.h"
#include "serve/api/redact.h"
#include "serve/api/retention.h"
#include "store/trace/trace_store.h"

#define METRICS_MAX (1 * MIB)
#define ANSWER_MAX  (64 * KIB)

void admin_enter(struct admin *a, enum admin_phase phase)
{
    ensure(phase > (enum admin_phase)atomic_load(&a->phase));
    atomic_store(&a->phase_ns, os_now_ns(a->os));
    atomic_store(&a->phase, phase);
}

static void put_time(struct json_writer *w, uint64_t unix_ns)
{
    char text[NUM_TEXT_MAX];
    json_str(w, str_of(text, num_put_rfc3339(text, unix_ns)));
}

static void reply_json(struct http_req *r, int status, struct buf *body)
{
    http_reply(r, status, "application/json", buf_str(body));
    buf_fini(body);
}

/* --- Jaeger v1 --- */

void admin_health(struct http_req *r)
{
    struct admin *a = r->arg;
    bool ready = atomic_load(&a->phase) == ADMIN_READY;
    uint64_t since = atomic_load(&a->phase_ns), now = os_now_ns(a->os);
    char uptime[NUM_TEXT_MAX];
    size_t n = num_put_duration(uptime, now > since ? (int64_t)(now - since) : 0);
    struct buf out = buf_init(ANSWER_MAX);
    struct json_writer w = json_writer_init(&out, 0);
    json_object(&w);
    JSON_KEY_C(&w, "status");
    json_str(&w, ready ? STR("Server available") : STR("Server not available"));
    JSON_KEY_C(&w, "upSince");
    if (ready)
        put_time(&w, since);
    else
        json_str(&w, STR("0001-01-01T00:00:00Z")); /* Go's zero time */
    JSON_KEY_C(&w, "uptime");
    json_str(&w, ready ? str_of(uptime, n) : STR(""));
    json_object_end(&w);
    reply_json(r, ready ? 200 : 503, &out);
}

static void version(struct http_req *r)
{
    const struct admin *a = r->arg;
    struct buf out = buf_init(ANSWER_MAX);
    struct json_writer w = json_writer_init(&out, 0);
    char number[NUM_TEXT_MAX];
    size_t n = min_size(strlen(a->version), sizeof number - 1);
    number[0] = 'v';
    memcpy(number + 1, a->version, n);
    json_object(&w);
    JSON_KEY_C(&w, "gitCommit");
    json_str(&w, str_from_c(a->commit));
    JSON_KEY_C(&w, "gitVersion");
    json_str(&w, str_of(number, n + 1));
    JSON_KEY_C(&w, "buildDate");
    json_str(&w, str_from_c(a->build_date));
    json_object_end(&w);
    reply_json(r, 200, &out);
}

/* --- metrics --- */

static void put_number(struct buf *out, const char *name, const char *type, const char *help,
                       double v)
{
    char text[NUM_TEXT_MAX];
    buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n%s ", name, help, name, type, name);
    buf_add(out, text, num_put_double(text, v));
    buf_add_char(out, '\n');
}

/* The names every Prometheus client library uses. */
static void put_process(const struct admin *a, struct buf *out)
{
    struct process_usage u;
    process_usage(&u);
    put_number(out, "process_cpu_seconds_total", "counter", "User and system CPU time.",
               (double)u.cpu_ns / 1e9);
    put_number(out, "process_resident_memory_bytes", "gauge", "Resident memory.",
               (double)u.resident_bytes);
    put_number(out, "process_virtual_memory_bytes", "gauge", "Virtual memory.",
               (double)u.virtual_bytes);
    put_number(out, "process_open_fds", "gauge", "Open file descriptors.", (double)u.files_open);
    put_number(out, "process_max_fds", "gauge", "Limit of open file descriptors.",
               (double)u.files_max);
    put_number(out, "process_start_time_seconds", "gauge", "Start time, seconds since 1970.",
               (double)a->start_ns / 1e9);
}

static void metrics(struct http_req *r)
{
    const struct admin *a = r->arg;
    struct buf out = buf_init(METRICS_MAX);
    stats_write(&out);
    buf_addf(&out,
             "# HELP lymer_build_info What was built; always 1.\n"
             "# TYPE lymer_build_info gauge\n"
             "lymer_build_info{version=\"%s\",revision=\"%s\",build_date=\"%s\"} 1\n",
             a->version, a->commit, a->build_date);
    put_process(a, &out);
    http_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", buf_str(&out));
    buf_fini(&out);
}

/* Other paths are the fallback's: health. */
const struct http_route admin_routes[] = {
    {"GET", "/metrics", metrics, HTTP_ON_LOOP},
    {"GET", "/version", version, HTTP_ON_LOOP},
    {"POST", "/redact", admin_redact, HTTP_ON_POOL},
    {"GET", "/retention", admin_retention, HTTP_ON_POOL},
};
const size_t admin_route_count = ARRAY_LEN(admin_routes);

/* --- Jaeger v2: the collector's healthcheckv2 --- */

struct health {
    const char *status, *error; /* error NULL: none */
    int http;
    bool healthy;
    uint64_t since_ns;
};

static struct health health_of(struct admin *a)
{
    uint64_t since = atomic_load(&a->phase_ns);
    switch ((enum admin_phase)atomic_load(&a->phase)) {
    case ADMIN_STARTING:
        return (struct health){"StatusStarting", NULL, 503, false, a->start_ns};
    case ADMIN_STOPPING:
        return (struct health){"StatusStopping", NULL, 503, false, since};
    case ADMIN_READY:
        break;
    }
    struct store_stats s = {0};
    if (a->store)
        store_stats(a->store, &s);
    if (s.read_only) /* the collector calls this healthy: it may pass */
        return (struct health){"StatusRecoverableError", "the disk is full: nothing more is stored",
                               200, true, since};
    return (struct health){"StatusOK", NULL, 200, true, since};
}

static void put_health(struct json_writer *w, const struct health *h)
{
    JSON_KEY_C(w, "healthy");
    json_bool(w, h->healthy);
    JSON_KEY_C(w, "status");
    json_str(w, str_from_c(h->status));
    if (h->error) {
        JSON_KEY_C(w, "error");
        json_str(w, str_from_c(h->error));
    }
    JSON_KEY_C(w, "status_time");
    put_time(w, h->since_ns);
}

/* The parts by the names Jaeger v2 gives them. Only the store's side can be ill by itself. */
static const struct component {
    const char *group, *name;
    bool of_store;
} components[] = {
    {"extensions", "extension:healthcheckv2", false},
    {"extensions", "extension:jaeger_query", false},
    {"extensions", "extension:jaeger_storage", true},
    {"pipeline:traces", "receiver:otlp", false},
    {"pipeline:traces", "exporter:jaeger_storage_exporter", true},
};

static void put_group(struct json_writer *w, const char *group, const struct health *whole,
                      const struct health *rest)
{
    json_key(w, str_from_c(group));
    json_object(w);
    put_health(w, whole);
    JSON_KEY_C(w, "components");
    json_object(w);
    for (size_t i = 0; i < ARRAY_LEN(components); i++) {
        if (strcmp(components[i].group, group) != 0)
            continue;
        json_key(w, str_from_c(components[i].name));
        json_object(w);
        put_health(w, components[i].of_store ? whole : rest);
        json_object_end(w);
    }
    json_object_end(w);
    json_object_end(w);
}

static void status(struct http_req *r)
{
    struct admin *a = r->arg;
    struct health h = health_of(a), rest = h;
    struct str pipeline, value;
    size_t at = 0, at_verbose = 0;
    if (h.error) /* the store's own */
        rest = (struct health){"StatusOK", NULL, 200, true, h.since_ns};
    bool narrow = http_param(r, STR("pipeline"), &at, &pipeline);
    bool verbose = http_param(r, STR("verbose"), &at_verbose, &value);
    if (narrow && !str_eq(pipeline, STR("traces"))) {
        stat_add(STAT_REQUESTS_BAD_PARAM, 1);
        http_reply_text(r, 404, "no such pipeline");
        return;
    }
    struct buf out = buf_init(ANSWER_MAX);
    struct json_writer w = json_writer_init(&out, 0);
    json_object(&w);
    JSON_KEY_C(&w, "start_time");
    put_time(&w, a->start_ns);
    put_health(&w, &h);
    if (verbose) {
        JSON_KEY_C(&w, "components");
        json_object(&w);
        if (!narrow)
            put_group(&w, "extensions", &h, &rest);
        put_group(&w, "pipeline:traces", &h, &rest);
        json_object_end(&w);
    }
    json_object_end(&w);
    reply_json(r, h.http, &out);
}

const struct http_route status_routes[] = {
    {"GET", "/status", status, HTTP_ON_LOOP},
};
const size_t status_route_count = ARRAY_LEN(status_routes);
