/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a batch image. What opens is read in full, as the store and queries read it: every
 * offset must stay inside. */
#include "model/trace.h"
#include "model/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static uint64_t read_kvs(const struct kvs *kvs, struct arena *a)
{
    uint64_t h = kvs->n;
    for (uint32_t i = 0; i < kvs->n; i++) {
        h = hash_str(kvs->v[i].key, h);
        h = hash_str(value_text(&kvs->v[i].val, a), h);
    }
    return h;
}

static uint64_t read_span(const struct span *s, struct arena *a)
{
    uint64_t h = hash_str(s->name, 0) ^ hash_str(s->trace_state, 1) ^
                 hash_str(s->status_message, 2);
    h ^= read_kvs(&s->attrs, a) ^ read_kvs(&s->resource->attrs, a) ^ read_kvs(&s->scope->attrs, a);
    h ^= hash_str(s->resource->service, 3) ^ hash_str(s->resource->schema_url, 4);
    h ^= hash_str(s->scope->name, 5) ^ hash_str(s->scope->version, 6);
    for (uint32_t i = 0; i < s->event_count; i++)
        h ^= hash_str(s->events[i].name, 7) ^ read_kvs(&s->events[i].attrs, a);
    for (uint32_t i = 0; i < s->link_count; i++)
        h ^= hash_str(s->links[i].trace_state, 8) ^ read_kvs(&s->links[i].attrs, a);
    return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct batch *b;
    struct err e;
    if (batch_open(str_of(data, n), &b, &e) != E_OK)
        return 0;
    struct arena a = arena_init(64 * MIB);
    struct span_origin *groups = ARENA_ARRAY(&a, struct span_origin, b->head->group_count + 1);
    uint64_t seen = 0;
    for (uint32_t i = 0; groups && i < b->head->span_count; i++) {
        const struct span *s = span_from_batch(b, &b->spans[i], groups, &a);
        if (!s)
            break;
        seen ^= read_span(s, &a);
    }
    ensure(seen + 1 != b->image_len || n); /* so that the reads are not left out */
    arena_fini(&a);
    batch_unref(b);
    return 0;
}
