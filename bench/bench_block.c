/* SPDX-License-Identifier: Apache-2.0 */
/* What a block costs: building it, its size, reading a trace, searching. On the generator's `shop`
 * profile, decoded as the server decodes it. One figure a line; then, with -v, what each column
 * costs. Arguments: [-v] [spans] [builds]. */
#include "app/load/spans.h"
#include "codec/otlp.h"
#include "store/trace/block.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct input {
    struct batch_builder bb;
    struct batch **v;
    size_t n, cap, bytes;
    uint32_t spans, most;
};

static double now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double cpu_ns(void)
{
    return now_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static void die(const struct err *e)
{
    fprintf(stderr, "bench_block: %s\n", err_msg(e));
    exit(1);
}

static void on_request(void *arg, struct str request, uint32_t spans)
{
    struct input *in = arg;
    struct err e = {0};
    if (in->spans >= in->most)
        return;
    batch_builder_reset(&in->bb);
    if (in->n == in->cap)
        in->v = xrealloc(in->v, (in->cap = in->cap * 2 + 64) * sizeof *in->v);
    if (otlp_decode_traces(request, &in->bb, &e) ||
        batch_seal(&in->bb, STR("default"), 1, &in->v[in->n], &e))
        die(&e);
    in->bytes += in->v[in->n++]->image_len;
    in->spans += spans;
}

static void make_input(struct input *in, uint32_t spans)
{
    struct spans_config c = {.seed = 1,
                             .start_ns = UINT64_C(1767225600000000000),
                             .trace_every_ns = 3 * NS_PER_MS,
                             .error_percent = 2};
    struct spans *s = spans_new(&c, on_request, in);
    in->most = spans;
    batch_builder_init(&in->bb);
    for (uint64_t n = 0; in->spans < spans; n++)
        spans_trace(s, n);
    spans_free(s);
}

static void print_cost(void *arg, enum cost_kind kind, struct str name, enum attr_type type,
                       uint64_t bytes)
{
    static const char *const kinds[] = {"field", "span", "event", "link", "index"};
    printf("  %-6s %-32.*s type %d %10llu bytes %7.3f bytes/span\n", kinds[kind], STR_ARG(name),
           type, (unsigned long long)bytes, (double)bytes / *(const double *)arg);
}

struct ids {
    uint8_t (*v)[16];
    size_t n, cap;
};

static bool keep_id(void *arg, const uint8_t id[16], uint64_t min_ns)
{
    struct ids *ids = arg;
    (void)min_ns;
    if (ids->n == ids->cap)
        ids->v = xrealloc(ids->v, (ids->cap = ids->cap * 2 + 1024) * 16);
    memcpy(ids->v[ids->n++], id, 16);
    return true;
}

static double heap_mib(void)
{
    struct mallinfo2 m = mallinfo2();
    return (double)(m.uordblks + m.hblkhd) / (double)MIB;
}

static void bench_trace(struct block *b)
{
    struct ids ids = {0};
    struct err e = {0};
    struct arena a = arena_init(64 * MIB);
    if (block_each_trace(b, keep_id, &ids, &e))
        die(&e);
    size_t step = ids.n / 200 + 1, reads = 0;
    double begin = cpu_ns();
    for (size_t i = 0; i < ids.n; i += step, reads++) {
        struct trace t = {0};
        arena_reset(&a);
        if (block_trace(b, ids.v[i], &a, &t, &e))
            die(&e);
    }
    printf("trace_read_us %.1f\n", (cpu_ns() - begin) / 1e3 / (double)reads);
    begin = cpu_ns();
    for (size_t i = 0; i < ids.n; i++) {
        struct trace t = {0};
        arena_reset(&a);
        if (block_trace(b, ids.v[i], &a, &t, &e))
            die(&e);
    }
    printf("trace_in_order_us %.1f\n", (cpu_ns() - begin) / 1e3 / (double)ids.n);
    begin = cpu_ns();
    size_t found = 0;
    for (size_t i = 0; i < 1000000; i++) {
        uint8_t id[16] = {0};
        memcpy(id, &i, sizeof i);
        found += block_may_have(b, id);
    }
    printf("absent_trace_ns %.1f (%zu false)\n", (cpu_ns() - begin) / 1e6, found);
    free(ids.v);
    arena_fini(&a);
}

/* All row groups, as they lie. */
static size_t search_all(struct block *b, const struct trace_query *q)
{
    struct arena a = arena_init(64 * MIB);
    struct block_search *s;
    struct err e = {0};
    uint64_t bytes_read = 0;
    size_t found = 0;
    if (block_search_open(b, q, &a, &bytes_read, &s, &e))
        die(&e);
    for (uint32_t i = 0; s && i < block_group_count(b); i++) {
        struct block_hit *hits;
        uint32_t n;
        if (block_search_group(s, i, 0, &a, &hits, &n, &e))
            die(&e);
        found += n;
    }
    arena_fini(&a);
    return found;
}

static void bench_search(struct block *b, const char *what, struct trace_query q)
{
    enum { ROUNDS = 20 };
    size_t hits = 0;
    q.start_max_ns = UINT64_MAX;
    double begin = cpu_ns();
    for (int i = 0; i < ROUNDS; i++)
        hits = search_all(b, &q);
    printf("search_ms %.4f %s: %zu hits\n", (cpu_ns() - begin) / 1e6 / ROUNDS, what, hits);
}

static void bench_searches(struct block *b, struct str rare)
{
    struct tag_filter absent = {.key = STR("session.id"), .value = STR("no such")};
    struct tag_filter number = {.key = STR("thread.id"), .value = STR("65")};
    struct tag_filter once = {.key = STR("session.id"), .value = rare};
    struct tag_filter error = {.key = STR("error"), .value = STR("true")};
    struct tag_filter key = {.key = STR("no.such.key"), .value = STR("x")};
    bench_search(b, "service", (struct trace_query){.kind = -1, .service = STR("cart")});
    bench_search(b, "absent service", (struct trace_query){.kind = -1, .service = STR("carton")});
    bench_search(b, "absent key", (struct trace_query){.kind = -1, .tags = &key, .tag_count = 1});
    bench_search(b, "absent value",
                 (struct trace_query){.kind = -1, .tags = &absent, .tag_count = 1});
    bench_search(b, "absent integer",
                 (struct trace_query){.kind = -1, .tags = &number, .tag_count = 1});
    bench_search(b, "rare value", (struct trace_query){.kind = -1, .tags = &once, .tag_count = 1});
    bench_search(b, "errors", (struct trace_query){.kind = -1, .tags = &error, .tag_count = 1});
    bench_search(b, "slower than 2 s",
                 (struct trace_query){.kind = -1, .duration_min_ns = 2 * NS_PER_S});
}

static struct str some_session(const struct batch *b)
{
    for (uint32_t i = 0; i < b->head->attr_count; i++)
        if (str_eq_c(batch_key(b, &b->attrs[i]), "session.id"))
            return batch_str(b, b->attrs[i].v.s);
    return STR_NONE;
}

int main(int argc, char **argv)
{
    bool verbose = argc > 1 && str_eq_c(str_from_c(argv[1]), "-v");
    argv += verbose;
    argc -= verbose;
    uint32_t spans = argc > 1 ? (uint32_t)atoi(argv[1]) : 131072;
    int builds = argc > 2 ? atoi(argv[2]) : 10;
    const char *path = "build/bench.block";
    struct input in = {0};
    struct err e = {0};
    struct block *b;
    make_input(&in, spans);
    double heap = heap_mib();
    struct block_builder *bb = block_builder_new();
    struct block_summary sum = {0};
    double best = 1e30;
    for (int i = 0; i < builds; i++) {
        struct arena a = arena_init(64 * MIB);
        double begin = cpu_ns();
        if (block_build(bb, os_posix(), path, (const struct batch *const *)in.v, in.n, &a, &sum,
                        &e))
            die(&e);
        double took = cpu_ns() - begin;
        best = took < best ? took : best;
        arena_fini(&a);
    }
    double n = (double)sum.meta.span_count;
    printf("spans %u in %zu batches, %.0f bytes a span, %llu traces, %zu orphans\n", in.spans, in.n,
           (double)in.bytes / n, (unsigned long long)sum.meta.trace_count, sum.orphan_count);
    printf("build_ns_per_span %.1f\n", best / n);
    double kept = heap_mib() - heap;
    block_builder_trim(bb);
    printf("builder_mib %.1f, trimmed %.1f\n", kept, heap_mib() - heap);
    printf("bytes_per_span %.2f\n", (double)sum.meta.file_bytes / n);
    double begin = cpu_ns();
    if (block_open(os_posix(), path, &b, &e))
        die(&e);
    printf("open_us %.1f resident_bytes_per_trace %.1f\n", (cpu_ns() - begin) / 1e3,
           (double)block_resident_bytes(b) / (double)sum.meta.trace_count);
    bench_trace(b);
    bench_searches(b, some_session(in.v[in.n / 2]));
    if (verbose && block_cost(b, print_cost, NULL, &n, &e))
        die(&e);
    block_unref(b);
    unlink(path);
    for (size_t i = 0; i < in.n; i++)
        batch_unref(in.v[i]);
    block_builder_free(bb);
    batch_builder_fini(&in.bb);
    free(in.v);
    return 0;
}
