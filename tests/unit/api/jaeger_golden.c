/* SPDX-License-Identifier: Apache-2.0 */
/* tests/data/jaeger/golden/NAME.txt: OTLP JSON in, Jaeger's JSON out.
 *
 *   # what it shows
 *   > raw                    or: > adjust [the largest clock skew that is corrected]
 *   {OTLP}
 *   >
 *   [Jaeger's traces]
 *
 * White space does not count, order does. */
#include "base/num.h"
#include "base/os/os.h"
#include "codec/jaeger_json.h"
#include "engine/query/query.h"
#include "serve/api/jaeger_answer.h"
#include "tests/harness.h"
#include "tests/unit/api/json_text.h"

#include <stdio.h>

#define GOLDEN_DIR "tests/data/jaeger/golden"

struct golden {
    struct str otlp, jaeger;
    bool raw;
    struct adjust_config config;
};

static struct golden parse(struct str file)
{
    struct golden g = {0};
    struct str line, *section = NULL;
    while (str_split(&file, '\n', &line)) {
        if (line.n && line.p[0] == '#')
            continue;
        if (line.n && line.p[0] == '>') {
            struct str rest = str_trim(str_skip(line, 1)), word;
            section = section ? &g.jaeger : &g.otlp;
            if (section == &g.jaeger || !str_split(&rest, ' ', &word))
                continue;
            g.raw = str_eq_c(word, "raw");
            CHECK(g.raw || str_eq_c(word, "adjust"));
            int64_t skew = 0;
            CHECK(!rest.n || num_get_duration(str_trim(rest), &skew));
            g.config.max_clock_skew_ns = (uint64_t)skew;
        } else if (section) {
            section->p = section->p ? section->p : line.p;
            section->n = (size_t)(line.p + line.n - section->p);
        }
    }
    CHECK(g.otlp.n && g.jaeger.n);
    return g;
}

static struct str transform(const struct golden *g, struct arena *a)
{
    struct batch *batch;
    struct trace *traces;
    size_t n;
    uint32_t rejected;
    struct err e = {0};
    if (jaeger_transform(g->otlp, false, a, &batch, &traces, &n, &rejected, &e))
        test_fail(__FILE__, __LINE__, "%s", err_msg(&e));
    CHECK_INT(rejected, 0);
    struct buf out = buf_init(16 * MIB);
    struct json_writer w = json_writer_init(&out, 0);
    json_array(&w);
    for (size_t i = 0; i < n; i++) {
        if (!g->raw)
            adjust_trace(&traces[i], &g->config, a);
        CHECK(jaeger_json_trace(&w, &traces[i], a, NULL));
    }
    json_array_end(&w);
    CHECK(!out.failed && !a->failed);
    struct str text = arena_str(a, buf_str(&out));
    buf_fini(&out);
    batch_unref(batch);
    return text;
}

static void run_golden(void *arg, const char *name)
{
    struct arena a = arena_init(64 * MIB);
    struct buf file = buf_init(MIB);
    char path[512];
    struct err e = {0};
    snprintf(path, sizeof path, GOLDEN_DIR "/%s", name);
    if (os_read_file(os_posix(), path, &file, &e))
        test_fail(__FILE__, __LINE__, "%s: %s", path, err_msg(&e));
    struct golden g = parse(buf_str(&file));
    struct str want = json_text_compact(g.jaeger, &a), got = transform(&g, &a);
    size_t same = 0;
    while (same < want.n && same < got.n && want.p[same] == got.p[same])
        same++;
    size_t from = same > 60 ? same - 60 : 0;
    if (!str_eq(want, got))
        test_fail(__FILE__, __LINE__, "%s: got …%.*s, want …%.*s", name,
                  STR_ARG(str_take(str_skip(got, from), 160)),
                  STR_ARG(str_take(str_skip(want, from), 160)));
    ++*(size_t *)arg;
    buf_fini(&file);
    arena_fini(&a);
}

TEST(golden_files)
{
    size_t count = 0;
    struct err e = {0};
    CHECK_OK(os_list(os_posix(), GOLDEN_DIR, run_golden, &count, &e));
    CHECK(count >= 10);
}
