/* SPDX-License-Identifier: Apache-2.0 */
/* The product, read from top to bottom: doors, store, engines, threads; then signals; then down
 * again in reverse. The only file that knows all parts.
 *
 * Order matters twice. Going up, every port is bound before the store is opened, so that a start
 * that cannot succeed leaves the data untouched; connections that come meanwhile wait in the
 * listeners until the loops run. Going down, requests are drained while everything still works;
 * only then do the loops end, and the store last, since it acknowledges what is in its queue. */
#include "app/wire.h"

#include "app/version.h"
#include "base/log.h"
#include "base/num.h"
#include "base/os/os.h"
#include "base/os/sim.h"
#include "base/os/thread.h"
#include "engine/ingest/ingest.h"
#include "serve/api/admin.h"
#include "serve/api/discover.h"
#include "serve/api/export.h"
#include "serve/api/jaeger.h"
#include "serve/api/ui.h"
#include "serve/http.h"
#include "serve/pool.h"
#include "serve/recv/recv.h"
#include "store/trace/trace_store.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LOOPS_MAX       64u
#define DOORS_MAX       8u
#define POOL_QUEUE_MAX  256u
#define STORE_QUEUE_MAX 1024u
#define MEMORY_PARTS    4u /* request bodies, batches that wait, memtables, questions */
#define MEMTABLES       4u /* one takes spans, three may wait for the builder */
#define EXIT_CANNOT_RUN 2
#define MEMORY_DIR      "memory" /* of the store in the world of --memory */

struct server {
    const struct config *config;
    struct os *os, *memory_os;
    const char *dir;
    struct store *store;
    struct store_config store_config;
    struct ingest *ingest;
    struct work_pool *pool;
    struct budget query_memory;
    struct recv recv;
    struct jaeger_api jaeger;
    struct admin admin;
    char base_path[256];
    struct http_route *jaeger_routes, *page_routes;
    size_t own_route_count, jaeger_route_count, page_route_count;
    struct http_door doors[DOORS_MAX];
    char flags[DOORS_MAX][64];
    size_t door_count;
    struct http_server *http;
    struct loop *loops[LOOPS_MAX];
    struct thread threads[LOOPS_MAX];
    size_t loop_count;
};

const char *wire_data_dir(const struct config *c)
{
    if (*c->data)
        return c->data;
    return access("/var/lib/lymer", W_OK) == 0 ? "/var/lib/lymer" : "./lymer-data";
}

/* --- memory --- */

/* Few arenas, large blocks apart, and memory given back early: the resident size follows what is
 * held, not what was held once. Four times these thresholds change neither CPU nor peak. */
static void tune_malloc(void)
{
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_TRIM_THRESHOLD, (int)(4 * MIB));
    mallopt(M_MMAP_THRESHOLD, (int)(1 * MIB));
}

/* --- doors --- */

/* "/jaeger" out of "/", "jaeger", "/jaeger/" and the like; empty for none. */
static void set_base_path(struct server *s)
{
    struct str p = str_from_c(s->config->base_path);
    while (p.n && p.p[p.n - 1] == '/')
        p.n--;
    while (p.n && p.p[0] == '/')
        p = str_skip(p, 1);
    snprintf(s->base_path, sizeof s->base_path, "%s%.*s", p.n ? "/" : "", STR_ARG(p));
}

/* A copy of the rows under the base path. */
static size_t add_routes(struct server *s, size_t at, const struct http_route *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(s->base_path) + strlen(rows[i].path) + 1;
        char *path = xmalloc(n);
        snprintf(path, n, "%s%s", s->base_path, rows[i].path);
        s->page_routes[at + i] = rows[i];
        s->page_routes[at + i].path = path;
    }
    return at + count;
}

/* Our own routes, then Jaeger's rows with their catch-all for /api, then the page. */
static void make_page_routes(struct server *s)
{
    s->jaeger_route_count = jaeger_api_routes(&s->jaeger, &s->jaeger_routes);
    s->own_route_count = export_route_count + discover_route_count;
    s->page_route_count = s->own_route_count + s->jaeger_route_count + ui_route_count;
    s->page_routes = xcalloc(s->page_route_count, sizeof *s->page_routes);
    size_t n = add_routes(s, 0, export_routes, export_route_count);
    n = add_routes(s, n, discover_routes, discover_route_count);
    memcpy(s->page_routes + n, s->jaeger_routes, s->jaeger_route_count * sizeof *s->page_routes);
    (void)add_routes(s, n + s->jaeger_route_count, ui_routes, ui_route_count);
}

static void free_page_routes(struct server *s)
{
    for (size_t i = 0; i < s->page_route_count; i++)
        if (i < s->own_route_count || i >= s->own_route_count + s->jaeger_route_count)
            free((char *)(uintptr_t)s->page_routes[i].path);
    free(s->page_routes);
    jaeger_api_routes_free(s->jaeger_routes, s->jaeger_route_count);
}

/* The door with its address and port filled in from the settings, unless it is closed. */
static enum errc add_door(struct server *s, enum conf_id id, const struct door_addr *addr,
                          struct http_door door, struct err *e)
{
    const struct config *c = s->config;
    if (!addr->port)
        return E_OK;
    ensure(s->door_count < DOORS_MAX);
    char *flag = s->flags[s->door_count];
    config_flag_name(&conf_keys[id], flag);
    if (addr->port + c->port_offset > 65535)
        return fail(e, E_USAGE, "%s: port %u + %llu is past 65535; %s or --port-offset moves it",
                    door.name, addr->port, (unsigned long long)c->port_offset, flag);
    door.flag = flag;
    door.addr = *addr->host ? addr->host : c->listen.text;
    door.port = (uint16_t)(addr->port + c->port_offset);
    s->doors[s->door_count++] = door;
    return E_OK;
}

static enum errc make_doors(struct server *s, struct err *e)
{
    const struct config *c = s->config;
    const struct http_door otlp_grpc = {.name = "OTLP over gRPC",
                                        .services = otlp_grpc_services,
                                        .grpc_only = true,
                                        .arg = &s->recv};
    /* gRPC too: a client cannot tell by the address which of the two ports it was given. */
    const struct http_door otlp_http = {.name = "OTLP over HTTP",
                                        .services = otlp_grpc_services,
                                        .routes = otlp_http_routes,
                                        .route_count = otlp_http_route_count,
                                        .fallback = otlp_http_fallback,
                                        .wording = otlp_http_wording,
                                        .cors_origins = *c->cors_origins ? c->cors_origins : NULL,
                                        .arg = &s->recv};
    const struct http_door page = {.name = "query",
                                   .routes = s->page_routes,
                                   .route_count = s->page_route_count,
                                   .arg = &s->jaeger};
    const struct http_door admin = {.name = "admin",
                                    .routes = admin_routes,
                                    .route_count = admin_route_count,
                                    .fallback = admin_health,
                                    .arg = &s->admin};
    const struct http_door health = {.name = "health",
                                     .routes = status_routes,
                                     .route_count = status_route_count,
                                     .arg = &s->admin};
    enum errc code = add_door(s, CONF_otlp_grpc_port, &c->otlp_grpc_port, otlp_grpc, e);
    if (!code)
        code = add_door(s, CONF_otlp_http_port, &c->otlp_http_port, otlp_http, e);
    if (!code)
        code = add_door(s, CONF_query_port, &c->query_port, page, e);
    if (!code)
        code = add_door(s, CONF_admin_port, &c->admin_port, admin, e);
    if (!code)
        code = add_door(s, CONF_health_port, &c->health_port, health, e);
    return code;
}

/* What each of those that need memory may take: together they take all of max-memory, or the half
 * of it that --memory does not use as its disk. */
static uint64_t memory_part(const struct config *c)
{
    return (c->memory ? c->max_memory / 2 : c->max_memory) / MEMORY_PARTS;
}

static enum errc open_doors(struct server *s, struct err *e)
{
    const struct config *c = s->config;
    unsigned cpus = thread_cpus();
    struct http_limits limits = http_limits_default();
    limits.body_max_bytes = c->max_request;
    limits.inflight_max_bytes = max_size(memory_part(c), c->max_request);
    limits.conns_max = (uint32_t)c->max_connections;
    s->loop_count = c->loops ? (size_t)c->loops : min_size(cpus, 2);
    for (size_t i = 0; i < s->loop_count; i++)
        s->loops[i] = loop_new();
    size_t threads = c->query_threads ? (size_t)c->query_threads : min_size(cpus, 4);
    s->pool = work_pool_new((unsigned)threads, POOL_QUEUE_MAX);
    s->recv.pool = s->pool;
    enum errc code = make_doors(s, e);
    return code ? code
                : http_server_open(&s->http, s->loops, s->loop_count, s->doors, s->door_count,
                                   s->pool, &limits, e);
}

/* --- store --- */

static void reloadable_store_settings(struct store_config *k, const struct config *c)
{
    static const enum sync_policy policies[] = {SYNC_INTERVAL, SYNC_EACH, SYNC_OS};
    k->sync = policies[c->sync];
    k->sync_every_ns = c->sync_every;
    k->retention_ns = c->retention;
    k->rules = c->retention_rules;
    k->max_disk_bytes = c->max_disk;
    k->compact_percent = (unsigned)c->compact_percent;
    k->compact_io_bytes = c->memory ? 0 : c->compact_io; /* memory is nobody's disk */
    uint64_t memory_disk = c->max_memory / 2;
    if (c->memory && (!k->max_disk_bytes || k->max_disk_bytes > memory_disk))
        k->max_disk_bytes = memory_disk;
}

static enum errc open_store(struct server *s, struct err *e)
{
    const struct config *c = s->config;
    struct store_config *k = &s->store_config;
    s->os = os_posix();
    s->dir = wire_data_dir(c);
    if (c->memory) {
        s->os = s->memory_os = os_mem_new();
        s->dir = MEMORY_DIR;
    }
    store_config_defaults(k, s->os, s->dir);
    k->log = !c->memory;
    k->memtable_bytes = min_u64(c->memtable, memory_part(c) / MEMTABLES);
    k->memtable_age_ns = c->memtable_age;
    k->queue_max = STORE_QUEUE_MAX;
    k->threads = true;
    reloadable_store_settings(k, c);
    enum errc code = store_open(&s->store, k, e);
    if (code)
        return code;
    s->ingest = ingest_new(s->store, os_posix(), memory_part(c));
    s->recv.ingest = s->ingest;
    s->jaeger.store = s->store;
    s->admin.store = s->store;
    return E_OK;
}

/* --- running --- */

static void run_loop(void *arg)
{
    loop_run(arg);
}

static void announce(const struct server *s)
{
    const struct config *c = s->config;
    const char *host = *c->query_port.host ? c->query_port.host : c->listen.text;
    bool any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    bool v6 = !any && strchr(host, ':');
    printf("lymer " LYMER_VERSION " is ready");
    if (c->query_port.port)
        printf(": http://%s%s%s:%llu%s/", v6 ? "[" : "", any ? "127.0.0.1" : host, v6 ? "]" : "",
               (unsigned long long)(c->query_port.port + c->port_offset), s->base_path);
    printf(c->memory ? " (in memory)\n" : " (data in %s)\n", s->dir);
    fflush(stdout);
}

static void log_warnings(const struct config *c)
{
    struct str rest = buf_str(&c->warnings), line;
    while (str_split(&rest, '\n', &line))
        if (line.n)
            log_warn("config", "%.*s", STR_ARG(line));
}

static void set_log(const struct config *c)
{
    static const enum log_level levels[] = {LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR};
    static const enum log_format formats[] = {LOG_TEXT, LOG_JSON};
    log_setup(levels[c->log_level], formats[c->log_format]);
}

/* SIGHUP: everything is read again; what can change while running does, the rest is named. */
static void reload(struct server *s, const struct wire_args *args)
{
    struct config fresh;
    struct err e = {0};
    config_init(&fresh);
    if (config_load(&fresh, args->argc, args->argv, args->env, &e)) {
        log_error("config", "not reloaded: %s", err_msg(&e));
        config_fini(&fresh);
        return;
    }
    for (int i = 0; i < CONF_COUNT; i++)
        if (conf_keys[i].reload == CONF_FIXED &&
            strcmp(fresh.given[i].text, s->config->given[i].text) != 0)
            log_warn("config", "%s changed: it is taken over at the next start", conf_keys[i].key);
    set_log(&fresh);
    reloadable_store_settings(&s->store_config, &fresh);
    store_reconfigure(s->store, &s->store_config);
    log_info("config", "reloaded");
    config_fini(&fresh);
}

static void signals_of_ours(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
}

static int next_signal(const sigset_t *set, uint64_t wait_ns)
{
    struct timespec t = {(time_t)(wait_ns / NS_PER_S), (long)(wait_ns % NS_PER_S)};
    int sig;
    do
        sig = wait_ns ? sigtimedwait(set, NULL, &t) : sigwaitinfo(set, NULL);
    while (sig < 0 && errno == EINTR);
    return sig;
}

/* True when every request was answered in time. A second signal ends the process at once: what was
 * acknowledged is in the log. */
static bool drain(struct server *s, const sigset_t *set)
{
    uint64_t end = os_mono_ns(os_posix()) + s->config->drain;
    admin_enter(&s->admin, ADMIN_STOPPING);
    http_server_drain(s->http);
    while (http_server_busy(s->http)) {
        if (os_mono_ns(os_posix()) >= end)
            return false;
        int sig = next_signal(set, 5 * NS_PER_MS);
        if (sig == SIGTERM || sig == SIGINT)
            _exit(128 + sig);
    }
    return true;
}

static void wait_for_end(struct server *s, const sigset_t *set, const struct wire_args *args)
{
    int sig;
    while ((sig = next_signal(set, 0)) == SIGHUP)
        reload(s, args);
    log_info("serve", "%s: stopping", sig == SIGINT ? "SIGINT" : "SIGTERM");
}

/* --- up and down --- */

static enum errc start(struct server *s, struct err *e)
{
    s->admin = (struct admin){.version = LYMER_VERSION,
                              .commit = version_commit,
                              .build_date = "",
                              .os = os_posix(),
                              .start_ns = os_now_ns(os_posix())};
    s->admin.phase_ns = s->admin.start_ns;
    set_base_path(s);
    s->jaeger.os = os_posix();
    s->jaeger.memory = &s->query_memory;
    s->query_memory.max = memory_part(s->config);
    s->jaeger.adjust.max_clock_skew_ns = s->config->clock_skew;
    s->jaeger.search_max_ns = s->config->search_time;
    s->jaeger.search_max_bytes = s->config->search_bytes;
    s->jaeger.base_path = s->base_path;
    make_page_routes(s);
    enum errc code = open_doors(s, e);
    if (!code)
        code = open_store(s, e);
    if (code)
        return code;
    for (size_t i = 0; i < s->loop_count; i++)
        thread_start(&s->threads[i], "loop", run_loop, s->loops[i]);
    admin_enter(&s->admin, ADMIN_READY);
    return E_OK;
}

/* Also after a start that stopped halfway. The pool ends before the loops, which its handlers may
 * wait for, and is freed after them: connections that had nothing to say while the server drained
 * may still come with a request. */
static void stop(struct server *s)
{
    if (s->store)
        store_stop_redacting(s->store); /* which a worker may wait for */
    if (s->pool)
        work_pool_stop(s->pool);
    for (size_t i = 0; i < s->loop_count; i++) {
        loop_stop(s->loops[i]);
        if (s->threads[i].started)
            thread_join(&s->threads[i]);
    }
    if (s->store)
        store_close(s->store);
    http_server_close(s->http);
    work_pool_free(s->pool);
    if (s->ingest)
        ingest_free(s->ingest);
    for (size_t i = 0; i < s->loop_count; i++)
        loop_free(s->loops[i]);
    free_page_routes(s);
    if (s->memory_os)
        os_sim_free(s->memory_os);
}

int wire_serve(const struct config *c, const struct wire_args *args)
{
    struct server s = {.config = c};
    struct err e = {0};
    sigset_t set;
    signals_of_ours(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    tune_malloc();
    set_log(c);
    if (start(&s, &e)) {
        fprintf(stderr, "lymer serve: %s\n", err_msg(&e));
        stop(&s);
        return EXIT_CANNOT_RUN;
    }
    log_warnings(c);
    announce(&s);
    wait_for_end(&s, &set, args);
    if (!drain(&s, &set)) {
        log_warn("serve", "requests were still running after %llu s: stopping without them",
                 (unsigned long long)(c->drain / NS_PER_S));
        if (store_flush(s.store, &e))
            log_error("serve", "%s", err_msg(&e));
        _exit(0);
    }
    stop(&s);
    log_info("serve", "stopped");
    return 0;
}
