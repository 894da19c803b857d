/* SPDX-License-Identifier: Apache-2.0 */
/* The memtable: acknowledged batches that are not in a block yet, as they came. One thread adds,
 * any thread reads what was published: entries never move and never change. Private to store/trace.
 */
#ifndef LYMER_STORE_TRACE_MEMTABLE_H
#define LYMER_STORE_TRACE_MEMTABLE_H

#include "model/batch.h"

#define MEMTABLE_CHUNK_FIRST 64u
#define MEMTABLE_CHUNKS      24u
/* Attribute keys are told apart by a bit of so many; one with half of them set is full, at about
 * 90,000 keys. A block has a column for each key, so this bounds the memory of building it. */
#define MEMTABLE_KEY_BITS (1u << 17)

struct mem_entry {
    struct batch *batch; /* one reference */
    uint32_t tenant;     /* catalogue number */
    uint32_t *services;  /* catalogue number of each group's service */
    uint64_t
        *trace_low; /* the low eight bytes of each span's trace id: a trace is looked for here */
};

struct memtable {
    _Atomic uint32_t refs;
    uint64_t number;  /* counts up from 1; memtables are built in this order */
    uint64_t wal_seq; /* once frozen: its records are in segments up to this */
    uint64_t born_mono_ns;
    _Atomic uint32_t count; /* published entries */
    _Atomic uint64_t spans, bytes;
    _Atomic uint64_t min_ns, max_ns;
    uint32_t keys; /* bits set of key_bits; for the adding thread only, as these */
    uint64_t key_seed;
    uint64_t key_bits[MEMTABLE_KEY_BITS / 64];
    struct mem_entry *chunks[MEMTABLE_CHUNKS]; /* each twice as long as the one before */
};

/* key_seed: by chance, so that nobody can choose keys that share a bit. */
struct memtable *memtable_new(uint64_t number, uint64_t mono_ns, uint64_t key_seed);
struct memtable *memtable_ref(struct memtable *m);
void memtable_unref(struct memtable *m);

/* Takes the entry's batch reference and arrays. */
void memtable_add(struct memtable *m, const struct mem_entry *entry);

static inline bool memtable_has_many_keys(const struct memtable *m)
{
    return m->keys >= MEMTABLE_KEY_BITS / 2;
}

/* It is to be built; for the adding thread. */
static inline bool memtable_is_full(const struct memtable *m, uint64_t max_bytes)
{
    return atomic_load_explicit(&m->bytes, memory_order_relaxed) >= max_bytes ||
           memtable_has_many_keys(m);
}

static inline uint32_t memtable_count(const struct memtable *m)
{
    return atomic_load_explicit(&m->count, memory_order_acquire);
}

/* i < memtable_count(). */
static inline const struct mem_entry *memtable_at(const struct memtable *m, uint32_t i)
{
    uint32_t chunk = 31u - (uint32_t)__builtin_clz(i / MEMTABLE_CHUNK_FIRST + 1);
    return &m->chunks[chunk][i - MEMTABLE_CHUNK_FIRST * ((1u << chunk) - 1)];
}

static inline uint64_t trace_low(const uint8_t id[16])
{
    return load_u64le(id + 8);
}

#endif
