/* SPDX-License-Identifier: Apache-2.0 */
/* POST /api/transform: a file someone has, shown as a trace without being stored. */
#include "codec/otlp.h"
#include "serve/api/jaeger_answer.h"

#include <stdlib.h>

static int span_cmp(const void *a, const void *b)
{
    const struct span *const *x = a, *const *y = b;
    int c = memcmp((*x)->trace_id, (*y)->trace_id, 16);
    if (c)
        return c;
    if ((*x)->start_ns != (*y)->start_ns)
        return (*x)->start_ns < (*y)->start_ns ? -1 : 1;
    return memcmp((*x)->span_id, (*y)->span_id, 8);
}

static struct span **read_spans(const struct batch *b, struct arena *a)
{
    uint32_t n = b->head->span_count;
    struct span **spans = ARENA_ARRAY(a, struct span *, n);
    struct span_origin *origins = ARENA_ARRAY(a, struct span_origin, b->head->group_count);
    if (!spans || !origins)
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        if (!(spans[i] = span_from_batch(b, &b->spans[i], origins, a)))
            return NULL;
    qsort(spans, n, sizeof(struct span *), span_cmp);
    return spans;
}

/* Neighbours with one id are one trace; its list is a piece of the sorted one. */
static enum errc split(struct span **spans, uint32_t n, struct arena *a, struct trace **traces,
                       size_t *count)
{
    size_t most = 0;
    for (uint32_t i = 0; i < n; i++)
        most += !i || memcmp(spans[i]->trace_id, spans[i - 1]->trace_id, 16) != 0;
    struct trace *v = ARENA_ARRAY(a, struct trace, most);
    if (!v)
        return E_NO_MEMORY;
    struct trace *t = v;
    for (uint32_t i = 0; i < n; i++) {
        if (i && memcmp(spans[i]->trace_id, spans[i - 1]->trace_id, 16) != 0)
            t++;
        if (!t->spans)
            t->spans = &spans[i];
        memcpy(t->id, spans[i]->trace_id, 16);
        t->span_count++;
        t->span_cap++;
    }
    *traces = v;
    *count = most;
    return E_OK;
}

enum errc jaeger_transform(struct str body, bool protobuf, struct arena *a, struct batch **batch,
                           struct trace **traces, size_t *count, uint32_t *rejected, struct err *e)
{
    struct batch_builder b;
    batch_builder_init(&b);
    *batch = NULL;
    *count = 0;
    enum errc rc = protobuf ? otlp_decode_traces(body, &b, e)
                            : otlp_decode_traces_json(body, &b, e);
    *rejected = batch_builder_rejected(&b);
    if (!rc && batch_builder_spans(&b))
        rc = batch_seal(&b, STR_NONE, 0, batch, e);
    batch_builder_fini(&b);
    if (rc || !*batch)
        return rc;
    struct span **spans = read_spans(*batch, a);
    rc = spans ? split(spans, (*batch)->head->span_count, a, traces, count) : E_NO_MEMORY;
    if (rc) {
        batch_unref(*batch);
        *batch = NULL;
        return fail(e, rc, "the traces are larger than a query may hold in memory");
    }
    return E_OK;
}
