/* SPDX-License-Identifier: Apache-2.0 */
#include "model/kvs.h"

#include "base/hash.h"
#include "base/idmap.h"

#include <stdlib.h>

#define SMALL_SORT 24u /* below it insertion sort beats qsort's calls */

static bool value_is_text(const struct value *v)
{
    return v->type == ATTR_STR || v->type == ATTR_BYTES || v->type == ATTR_ARRAY ||
           v->type == ATTR_KVLIST;
}

static uint64_t value_bits(const struct value *v)
{
    uint64_t bits = 0;
    if (v->type == ATTR_INT)
        bits = (uint64_t)v->i;
    else if (v->type == ATTR_BOOL)
        bits = v->b;
    else if (v->type == ATTR_DOUBLE)
        memcpy(&bits, &v->d, sizeof bits);
    return bits;
}

/* IEEE 754's total order as unsigned numbers: also NaN has one place, so sorting stays sound. */
static uint64_t double_rank(uint64_t bits)
{
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

int value_cmp(const struct value *a, const struct value *b)
{
    if (a->type != b->type)
        return a->type < b->type ? -1 : 1;
    if (value_is_text(a))
        return str_cmp(a->s, b->s);
    if (a->type == ATTR_INT)
        return (a->i > b->i) - (a->i < b->i);
    uint64_t x = value_bits(a), y = value_bits(b);
    if (a->type == ATTR_DOUBLE) {
        x = double_rank(x);
        y = double_rank(y);
    }
    return (x > y) - (x < y);
}

int kv_cmp(const struct kv *a, const struct kv *b)
{
    int c = str_cmp(a->key, b->key);
    return c ? c : value_cmp(&a->val, &b->val);
}

bool kvs_eq(const struct kvs *a, const struct kvs *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (!str_eq(a->v[i].key, b->v[i].key) || value_cmp(&a->v[i].val, &b->v[i].val))
            return false;
    return true;
}

uint64_t kvs_hash(const struct kvs *kvs, uint64_t seed)
{
    uint64_t h = hash_u64(kvs->n, seed);
    for (uint32_t i = 0; i < kvs->n; i++) {
        const struct value *v = &kvs->v[i].val;
        h = hash_str(kvs->v[i].key, h ^ (uint64_t)v->type);
        h = value_is_text(v) ? hash_str(v->s, h) : hash_u64(value_bits(v), h);
    }
    return h;
}

static int kv_qsort_cmp(const void *a, const void *b)
{
    return kv_cmp(a, b);
}

void kvs_sort(struct kvs *kvs)
{
    if (kvs->n > SMALL_SORT) {
        qsort(kvs->v, kvs->n, sizeof *kvs->v, kv_qsort_cmp);
        return;
    }
    for (uint32_t i = 1; i < kvs->n; i++) {
        if (kv_cmp(&kvs->v[i - 1], &kvs->v[i]) <= 0)
            continue;
        struct kv moved = kvs->v[i];
        uint32_t at = i;
        do
            kvs->v[at] = kvs->v[at - 1];
        while (--at > 0 && kv_cmp(&kvs->v[at - 1], &moved) > 0);
        kvs->v[at] = moved;
    }
}

bool resource_eq(const struct resource *a, const struct resource *b)
{
    return a == b || (a->dropped == b->dropped && str_eq(a->service, b->service) &&
                      str_eq(a->schema_url, b->schema_url) && kvs_eq(&a->attrs, &b->attrs));
}

uint64_t resource_hash(const struct resource *r, uint64_t seed)
{
    return kvs_hash(&r->attrs, hash_str(r->schema_url, hash_u64(r->dropped, seed)));
}

bool scope_eq(const struct scope *a, const struct scope *b)
{
    return a == b || (a->dropped == b->dropped && str_eq(a->name, b->name) &&
                      str_eq(a->version, b->version) && str_eq(a->schema_url, b->schema_url) &&
                      kvs_eq(&a->attrs, &b->attrs));
}

uint64_t scope_hash(const struct scope *s, uint64_t seed)
{
    uint64_t h = hash_str(s->version, hash_str(s->name, seed));
    return kvs_hash(&s->attrs, hash_str(s->schema_url, hash_u64(s->dropped, h)));
}

/* A counting sort: number the (resource, scope) pairs as they appear, count, place. */
struct span **trace_by_origin(const struct trace *t, struct arena *a)
{
    uint32_t n = t->span_count, groups = 0;
    struct span **out = ARENA_ARRAY(a, struct span *, n);
    uint32_t *group = ARENA_ARRAY(a, uint32_t, n), *at = ARENA_ARRAY(a, uint32_t, (size_t)n + 1);
    struct idmap pairs;
    if (!out || !group || !at || !idmap_init(&pairs, n, a))
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        const struct span *s = t->spans[i];
        bool fresh;
        uint64_t key = hash_u64((uintptr_t)s->resource, (uintptr_t)s->scope);
        group[i] = *idmap_put(&pairs, key, groups, &fresh);
        groups += fresh;
        at[group[i] + 1]++;
    }
    for (uint32_t g = 0; g < groups; g++)
        at[g + 1] += at[g];
    for (uint32_t i = 0; i < n; i++)
        out[at[group[i]]++] = t->spans[i];
    return out;
}
