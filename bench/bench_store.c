/* SPDX-License-Identifier: Apache-2.0 */
/* What the store costs in CPU time per span, thread by thread, on a shop's spans: writer (log,
 * memtable, names), builder (blocks, dependencies), syncer; then what reading a trace, searching
 * and asking for dependencies take. Prints one figure a line. Arguments: directory, thousands of
 * spans. */
#include "app/load/spans.h"
#include "base/log.h"
#include "codec/otlp.h"
#include "store/trace/trace_store.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define WINDOW 64 /* batches in flight */

struct item {
    struct store_ticket ticket; /* first */
    _Atomic bool answered;
    enum errc result;
};

static struct item *items;
static size_t item_n, item_cap;
static struct batch_builder builder;
static uint64_t span_total;

static void on_request(void *arg, struct str request, uint32_t span_count)
{
    struct err e;
    (void)arg;
    batch_builder_reset(&builder);
    ensure(otlp_decode_traces(request, &builder, &e) == E_OK);
    if (item_n == item_cap)
        items = xrealloc(items, (item_cap = item_cap ? 2 * item_cap : 1024) * sizeof *items);
    items[item_n] = (struct item){.result = E_OK};
    ensure(batch_seal(&builder, STR("default"), os_now_ns(os_posix()), &items[item_n].ticket.batch,
                      &e) == E_OK);
    item_n++;
    span_total += span_count;
}

static void make_batches(uint64_t spans)
{
    struct spans_config c = {.profile = SPANS_SHOP,
                             .seed = 1,
                             .start_ns = os_now_ns(os_posix()) - 600 * NS_PER_S,
                             .trace_every_ns = NS_PER_MS,
                             .error_percent = 2};
    batch_builder_init(&builder);
    struct spans *s = spans_new(&c, on_request, NULL);
    for (uint64_t n = 0; span_total < spans; n++)
        (void)spans_trace(s, n);
    spans_flush(s);
    spans_free(s);
}

static void on_done(struct store_ticket *t, enum errc result, const char *why)
{
    struct item *item = (struct item *)t;
    (void)why;
    item->result = result;
    atomic_store(&item->answered, true);
}

/* CPU nanoseconds of the thread with this name. */
static double thread_ns(const char *wanted)
{
    double total = 0;
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *d; dir && (d = readdir(dir));) {
        char path[512], name[64] = "";
        unsigned long long ns = 0;
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", d->d_name);
        FILE *f = fopen(path, "r");
        if (f && fgets(name, sizeof name, f))
            name[strcspn(name, "\n")] = 0;
        if (f)
            fclose(f);
        snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", d->d_name);
        f = fopen(path, "r");
        if (f && fscanf(f, "%llu", &ns) == 1 && strcmp(name, wanted) == 0)
            total += (double)ns;
        if (f)
            fclose(f);
    }
    if (dir)
        closedir(dir);
    return total;
}

static uint64_t wall_ns(void)
{
    return os_mono_ns(os_posix());
}

/* Of the calling thread: reading is measured in CPU time, for the builder is busy beside it. */
static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void wait_for(struct item *item)
{
    while (!atomic_load(&item->answered))
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    if (item->result != E_OK)
        printf("refused: %s\n", err_name(item->result));
}

static void append_all(struct store *s)
{
    for (size_t i = 0; i < item_n; i++) {
        if (i >= WINDOW)
            wait_for(&items[i - WINDOW]);
        items[i].ticket.done = on_done;
        atomic_store(&items[i].answered, false);
        while (store_append(s, &items[i].ticket) != E_OK)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    wait_for(&items[item_n - 1]);
}

/* The first page, and the one behind it. */
static void time_search(struct snap *snap, const char *what, const char *where,
                        struct trace_query q)
{
    struct trace_hits hits = {.n = 0};
    struct trace_hit after;
    for (int page = 1; page < 3; page++) {
        struct arena a = arena_init(1 * GIB);
        uint64_t before = cpu_ns();
        (void)!snap_search(snap, &q, &a, &hits, NULL);
        printf("search, %s, page %d, %u hits, %u of %u blocks, %.2f MB read, %s: %.1f us\n", what,
               page, hits.n, hits.blocks_read, hits.blocks, (double)hits.bytes_read / 1e6, where,
               (double)(cpu_ns() - before) / 1e3);
        after = hits.next;
        q.after = &after;
        arena_fini(&a);
        if (!hits.more)
            break;
    }
}

static void time_reads(struct store *s, const char *where)
{
    struct snap *snap = store_snap(s);
    uint64_t trace_ns = 0;
    for (uint64_t i = 0; i < 50; i++) {
        struct arena a = arena_init(1 * GIB);
        struct trace *t;
        const uint8_t *id = items[i * item_n / 50].ticket.batch->spans[0].trace_id;
        uint64_t before = cpu_ns();
        (void)!snap_trace(snap, STR("default"), id, &a, &t, NULL);
        trace_ns += cpu_ns() - before;
        arena_fini(&a);
    }
    printf("trace by id, %s: %.1f us\n", where, (double)trace_ns / 50e3);
    struct tag_filter tag = {.key = STR("no.such.key"), .value = STR("x")};
    struct trace_query q = {.tenant = STR("default"),
                            .service = STR("frontend"),
                            .kind = -1,
                            .start_max_ns = UINT64_MAX,
                            .duration_min_ns = 50 * NS_PER_MS,
                            .limit = 20};
    time_search(snap, "newest", where, q);
    q.tags = &tag;
    q.tag_count = 1;
    time_search(snap, "no such key", where, q);
    q = (struct trace_query){.tenant = STR("default"),
                             .kind = -1,
                             .start_max_ns = UINT64_MAX,
                             .limit = 20,
                             .order = ORDER_SLOWEST};
    time_search(snap, "slowest", where, q);
    q.service = STR("cart");
    time_search(snap, "slowest of cart", where, q);
    q.service = STR("frontend");
    time_search(snap, "slowest of frontend", where, q);
    q.order = ORDER_MOST_SPANS;
    time_search(snap, "most spans", where, q);
    q.order = ORDER_MOST_ERRORS;
    q.statuses = 1u << STATUS_ERROR;
    time_search(snap, "most errors", where, q);
    struct arena a = arena_init(1 * GIB);
    struct dependency *deps;
    size_t n;
    uint64_t before = cpu_ns();
    (void)!snap_dependencies(snap, STR("default"), 0, UINT64_MAX, &a, &deps, &n);
    printf("%zu dependencies, %s: %.1f us\n", n, where, (double)(cpu_ns() - before) / 1e3);
    arena_fini(&a);
    snap_unref(snap);
}

int main(int argc, char **argv)
{
    struct store_config c;
    struct store *s;
    struct err e;
    struct store_stats stats;
    if (argc < 2) {
        fprintf(stderr, "usage: bench_store DIR [THOUSANDS OF SPANS]\n");
        return 2;
    }
    store_config_defaults(&c, os_posix(), argv[1]);
    make_batches(1000 * (argc > 2 ? strtoull(argv[2], NULL, 10) : 800));
    if (store_open(&s, &c, &e) != E_OK) {
        fprintf(stderr, "%s\n", err_msg(&e));
        return 1;
    }
    uint64_t before = wall_ns();
    double spans = (double)span_total, written = 0;
    append_all(s);
    printf("%.0f spans in %.2f s of wall time\n", spans, (double)(wall_ns() - before) / 1e9);
    printf("writer, new log files: %.1f ns/span\n", thread_ns("store-writer") / spans);
    printf("syncer: %.1f ns/span\n", thread_ns("store-syncer") / spans);
    time_reads(s, "some in memory");
    if (store_flush(s, &e) != E_OK)
        fprintf(stderr, "%s\n", err_msg(&e));
    printf("builder: %.1f ns/span\n", thread_ns("store-builder") / spans);
    store_stats(s, &stats);
    printf("blocks: %llu, %.1f bytes/span\n", (unsigned long long)stats.block_count,
           (double)stats.block_bytes / spans);
    time_reads(s, "in blocks");
    for (int round = 0; round < 2; round++) { /* the same spans again: the log is warm now */
        written = thread_ns("store-writer");
        append_all(s);
    }
    printf("writer, recycled log files: %.1f ns/span\n",
           (thread_ns("store-writer") - written) / spans);
    store_close(s);
    before = wall_ns();
    if (store_open(&s, &c, &e) == E_OK) {
        printf("start: %.2f ms\n", (double)(wall_ns() - before) / 1e6);
        store_close(s);
    }
    return 0;
}
