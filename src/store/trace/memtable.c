/* SPDX-License-Identifier: Apache-2.0 */
#include "store/trace/memtable.h"

#include "base/hash.h"

#include <stdlib.h>

struct memtable *memtable_new(uint64_t number, uint64_t mono_ns, uint64_t key_seed)
{
    struct memtable *m = xcalloc(1, sizeof *m);
    atomic_init(&m->refs, 1);
    atomic_init(&m->min_ns, UINT64_MAX);
    m->number = number;
    m->born_mono_ns = mono_ns;
    m->key_seed = key_seed;
    return m;
}

struct memtable *memtable_ref(struct memtable *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void memtable_unref(struct memtable *m)
{
    if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0, n = memtable_count(m); i < n; i++) {
        const struct mem_entry *entry = memtable_at(m, i);
        batch_unref(entry->batch);
        free(entry->services);
        free(entry->trace_low);
    }
    for (size_t i = 0; i < MEMTABLE_CHUNKS; i++)
        free(m->chunks[i]);
    free(m);
}

/* Plain loads and stores: only the adding thread changes these. */
static void widen(struct memtable *m, const struct batch_head *h)
{
    if (h->min_ns < atomic_load_explicit(&m->min_ns, memory_order_relaxed))
        atomic_store_explicit(&m->min_ns, h->min_ns, memory_order_relaxed);
    if (h->max_ns > atomic_load_explicit(&m->max_ns, memory_order_relaxed))
        atomic_store_explicit(&m->max_ns, h->max_ns, memory_order_relaxed);
}

static void note_keys(struct memtable *m, const struct batch *b)
{
    for (uint32_t i = 0; i < b->head->key_count; i++) {
        uint64_t h = hash_str(batch_str(b, b->keys[i]), m->key_seed) % MEMTABLE_KEY_BITS;
        uint64_t *word = &m->key_bits[h / 64], bit = UINT64_C(1) << h % 64;
        m->keys += !(*word & bit);
        *word |= bit;
    }
}

void memtable_add(struct memtable *m, const struct mem_entry *entry)
{
    const struct batch_head *h = entry->batch->head;
    uint32_t n = atomic_load_explicit(&m->count, memory_order_relaxed);
    uint32_t chunk = 31u - (uint32_t)__builtin_clz(n / MEMTABLE_CHUNK_FIRST + 1);
    uint32_t len = MEMTABLE_CHUNK_FIRST << chunk;
    ensure(chunk < MEMTABLE_CHUNKS);
    if (!m->chunks[chunk])
        m->chunks[chunk] = xmalloc(len * sizeof(struct mem_entry));
    m->chunks[chunk][n - (len - MEMTABLE_CHUNK_FIRST)] = *entry;
    widen(m, h);
    note_keys(m, entry->batch);
    size_t bytes = batch_bytes(entry->batch) + h->span_count * sizeof(uint64_t) +
                   h->group_count * sizeof(uint32_t);
    atomic_fetch_add_explicit(&m->spans, h->span_count, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&m->count, n + 1, memory_order_release);
}
