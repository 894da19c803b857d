/* SPDX-License-Identifier: Apache-2.0 */
/* Any OTLP that is taken becomes, adjusted or not, well-formed Jaeger JSON, whole or in pieces. The
 * first byte: protobuf, adjust, small arena, clock skew limit. */
#include "codec/jaeger_json.h"
#include "engine/query/query.h"
#include "serve/api/jaeger_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_json(struct str json)
{
    struct arena a = arena_init(64 * MIB);
    struct json_reader r;
    json_reader_init(&r, json, &a);
    enum json_type t;
    while ((t = json_next(&r)) != JSON_END)
        ensure(t != JSON_ERROR);
    arena_fini(&a);
}

static bool append(void *arg, struct buf *out)
{
    buf_add_str(arg, buf_str(out));
    buf_reset(out);
    return true;
}

static void write(struct trace *t, struct arena *a, bool small)
{
    struct buf chunk = buf_init(32 * MIB), whole = buf_init(32 * MIB);
    struct json_writer w = json_writer_init(&chunk, 0);
    struct jaeger_json_sink sink = {append, &whole};
    if (jaeger_json_trace(&w, t, a, &sink)) {
        append(&whole, &chunk);
        check_json(buf_str(&whole));
    } else {
        ensure(small || a->failed || chunk.failed || whole.failed);
    }
    buf_fini(&chunk);
    buf_fini(&whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (!n)
        return 0;
    bool small = data[0] & 4;
    struct arena a = arena_init(small ? 8 * KIB : 64 * MIB);
    struct adjust_config config = {.max_clock_skew_ns = data[0] & 8 ? NS_PER_S : 0};
    struct batch *batch;
    struct trace *traces;
    struct trace_summary summary;
    size_t count;
    uint32_t rejected;
    struct str body = str_of(data + 1, n - 1);
    if (jaeger_transform(body, data[0] & 1, &a, &batch, &traces, &count, &rejected, NULL) == E_OK) {
        for (size_t i = 0; i < count; i++) {
            if (data[0] & 2)
                adjust_trace(&traces[i], &config, &a);
            if (summarize_trace(&traces[i], &a, &summary) == E_OK)
                ensure(summary.span_count == traces[i].span_count);
            write(&traces[i], &a, small);
        }
        if (batch)
            batch_unref(batch);
    }
    arena_fini(&a);
    return 0;
}
