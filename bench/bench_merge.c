/* SPDX-License-Identifier: Apache-2.0 */
/* What merging blocks costs: eight blocks, as full memtables of the generator's `shop` profile
 * leave them, become one; then one of the inputs is looked at and rewritten through a change, as
 * redaction and rules do. Arguments: [spans a block]. */
#include "app/load/spans.h"
#include "codec/otlp.h"
#include "store/trace/block.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define INPUTS 8

struct bench {
    struct batch_builder bb;
    struct block_builder *builder;
    struct batch *batch[4096];
    size_t n;
    uint32_t spans, most;
    struct block *block[INPUTS];
    size_t blocks;
    uint64_t bytes;
    double build_ns;
    const char *dir;
};

static double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void die(const struct err *e)
{
    fprintf(stderr, "bench_merge: %s\n", err_msg(e));
    exit(1);
}

static void build(struct bench *b)
{
    char path[256];
    struct err e = {0};
    struct block_summary sum;
    struct arena a = arena_init(GIB);
    snprintf(path, sizeof path, "%s/%zu", b->dir, b->blocks);
    double begun = cpu_ns();
    if (block_build(b->builder, os_posix(), path, (const struct batch *const *)b->batch, b->n, &a,
                    &sum, &e))
        die(&e);
    b->build_ns += cpu_ns() - begun;
    if (block_open(os_posix(), path, &b->block[b->blocks++], &e))
        die(&e);
    b->bytes += sum.meta.file_bytes;
    for (size_t i = 0; i < b->n; i++)
        batch_unref(b->batch[i]);
    b->n = b->spans = 0;
    arena_fini(&a);
}

static void on_request(void *arg, struct str request, uint32_t spans)
{
    struct bench *b = arg;
    struct err e = {0};
    if (b->blocks == INPUTS)
        return;
    batch_builder_reset(&b->bb);
    if (otlp_decode_traces(request, &b->bb, &e) ||
        batch_seal(&b->bb, STR("default"), 1, &b->batch[b->n++], &e))
        die(&e);
    b->spans += spans;
    if (b->spans >= b->most || b->n == ARRAY_LEN(b->batch))
        build(b);
}

static void merge(struct bench *b)
{
    char path[256];
    struct err e = {0};
    struct block_merge *m;
    struct block_meta meta;
    bool done = false;
    double begun = cpu_ns(), slowest = 0;
    snprintf(path, sizeof path, "%s/merged", b->dir);
    if (block_merge_begin(&m, b->builder, os_posix(), path, b->block, b->blocks, NULL, &e))
        die(&e);
    double first = cpu_ns() - begun;
    while (!done) {
        double step = cpu_ns();
        if (block_merge_step(m, &done, &meta, &e))
            die(&e);
        step = cpu_ns() - step;
        slowest = step > slowest ? step : slowest;
    }
    block_merge_free(m);
    double took = cpu_ns() - begun, n = (double)meta.span_count;
    printf("merge_ns_per_span %.1f (building the inputs: %.1f)\n", took / n, b->build_ns / n);
    printf("first_step_ms %.1f, slowest_step_ms %.1f\n", first / 1e6, slowest / 1e6);
    printf("bytes_per_span %.2f, before %.2f\n", (double)meta.file_bytes / n, (double)b->bytes / n);
    printf("spans %llu, chains %llu\n", (unsigned long long)meta.span_count,
           (unsigned long long)meta.trace_count);
}

static void count_spans(void *arg, const struct trace *chain)
{
    *(uint64_t *)arg += chain->span_count;
}

static bool keep_all(void *arg, const struct trace *t)
{
    return arg && t->span_count;
}

static void rewrite(struct bench *b)
{
    char path[256];
    struct err e = {0};
    struct block_merge *m;
    struct block_meta meta;
    uint64_t spans = 0;
    bool done = false;
    const struct merge_change change = {.keep = keep_all, .arg = b};
    snprintf(path, sizeof path, "%s/rewritten", b->dir);
    double begun = cpu_ns();
    if (block_scan(b->block[0], count_spans, &spans, &e))
        die(&e);
    double looked = cpu_ns();
    if (block_merge_begin(&m, b->builder, os_posix(), path, b->block, 1, &change, &e))
        die(&e);
    while (!done)
        if (block_merge_step(m, &done, &meta, &e))
            die(&e);
    block_merge_free(m);
    double n = (double)meta.span_count;
    printf("look_ns_per_span %.1f, rewrite_ns_per_span %.1f\n", (looked - begun) / (double)spans,
           (cpu_ns() - looked) / n);
    unlink(path);
}

int main(int argc, char **argv)
{
    static struct bench b;
    char dir[] = "/tmp/lymer-bench-XXXXXX";
    struct spans_config c = {.seed = 1,
                             .start_ns = UINT64_C(1767225600000000000),
                             .trace_every_ns = 3 * NS_PER_MS,
                             .error_percent = 2};
    b.most = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 131072;
    b.dir = mkdtemp(dir);
    b.builder = block_builder_new();
    batch_builder_init(&b.bb);
    struct spans *s = spans_new(&c, on_request, &b);
    for (uint64_t n = 0; b.blocks < INPUTS; n++)
        spans_trace(s, n);
    spans_free(s);
    merge(&b);
    rewrite(&b);
    for (size_t i = 0; i < b.blocks; i++) {
        char path[256];
        block_unref(b.block[i]);
        snprintf(path, sizeof path, "%s/%zu", b.dir, i);
        unlink(path);
    }
    char merged[256];
    snprintf(merged, sizeof merged, "%s/merged", b.dir);
    unlink(merged);
    rmdir(b.dir);
    batch_builder_fini(&b.bb);
    block_builder_free(b.builder);
    return 0;
}
