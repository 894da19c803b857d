/* SPDX-License-Identifier: Apache-2.0 */
/* Any query string gives parameters within their limits or a sentence. The first byte chooses the
 * call and the size of the arena; for single traces the part before the first '?' is the id. */
#include "serve/api/jaeger_params.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_search(const struct jaeger_search *s)
{
    const struct trace_query *q = &s->q;
    ensure(q->limit >= 1 && q->limit <= QUERY_LIMIT_MAX && q->tag_count <= QUERY_TAGS_MAX);
    ensure(s->id_count || !q->duration_max_ns || q->duration_max_ns >= q->duration_min_ns);
    ensure(q->order < ORDER_COUNT && q->kind < KIND_COUNT && (!q->after || s->own));
    uint64_t sum = 0;
    for (uint32_t i = 0; i < q->tag_count; i++)
        for (size_t k = 0; k < q->tags[i].key.n; k++)
            sum += (unsigned char)q->tags[i].key.p[k];
    for (size_t i = 0; i < s->id_count; i++)
        sum += s->ids[i][15];
    ensure(sum < UINT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (!n || n > HTTP_TARGET_MAX)
        return 0;
    struct str text = str_of(data + 1, n - 1), why = STR_NONE;
    struct http_req r = {.query = text, .arena = arena_init(data[0] & 8 ? 4 * KIB : 16 * MIB)};
    struct jaeger_search s;
    struct jaeger_get g;
    struct jaeger_dependencies d;
    struct discover_query q;
    bool ok = false;
    size_t id = str_find(text, '?');
    switch (data[0] & 7) {
    case 0:
    case 1:
        ok = jaeger_params_search(&r, UINT64_C(1700000000) * NS_PER_S, &s, &why);
        if (ok)
            check_search(&s);
        break;
    case 2:
        ok = jaeger_params_v3_search(&r, &s, &why);
        if (ok)
            check_search(&s);
        ensure(!ok || s.q.start_min_ns < s.q.start_max_ns);
        break;
    case 3:
        r.query = str_skip(text, id + 1);
        ok = jaeger_params_get(&r, str_take(text, id), &g, &why);
        break;
    case 4:
        r.query = str_skip(text, id + 1);
        ok = jaeger_params_v3_get(&r, str_take(text, id), &g, &why);
        break;
    case 5:
        ok = jaeger_params_discover(&r, UINT64_C(1700000000) * NS_PER_S, &q, &why);
        ensure(!ok || (q.limit && q.limit <= DISCOVER_LIMIT_MAX && q.place <= TAG_LINK));
        break;
    default:
        ok = jaeger_params_dependencies(&r, UINT64_C(1700000000) * NS_PER_S, &d, &why);
        ensure(!ok || d.from_ns <= d.to_ns);
        break;
    }
    ensure(ok || why.n);
    arena_fini(&r.arena);
    return 0;
}
