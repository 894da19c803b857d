/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table from 64-bit keys to 32-bit numbers, sized once and kept in an arena. Keys may be
 * chosen by an enemy: the seed is taken from the table's own address, which changes from run to
 * run, so nobody outside can aim at one slot. */
#ifndef LYMER_BASE_IDMAP_H
#define LYMER_BASE_IDMAP_H

#include "base/arena.h"
#include "base/hash.h"

struct idmap_slot {
    uint64_t key;
    uint32_t value;
    bool used;
};

struct idmap {
    struct idmap_slot *slots;
    uint64_t seed;
    size_t mask;
};

/* Room for `count` keys at half load. False past the arena's cap. */
static inline MUST_CHECK bool idmap_init(struct idmap *m, size_t count, struct arena *a)
{
    size_t slots = 16;
    while (slots / 2 < count)
        slots *= 2;
    m->slots = ARENA_ARRAY(a, struct idmap_slot, slots);
    m->mask = slots - 1;
    m->seed = hash_u64((uintptr_t)m->slots ^ (uintptr_t)m, HASH_K2);
    return m->slots != NULL;
}

static inline struct idmap_slot *idmap_probe(const struct idmap *m, uint64_t key)
{
    size_t at = (size_t)hash_u64(key, m->seed) & m->mask;
    while (m->slots[at].used && m->slots[at].key != key)
        at = (at + 1) & m->mask;
    return &m->slots[at];
}

/* The number under key, NULL when absent. */
static inline uint32_t *idmap_get(const struct idmap *m, uint64_t key)
{
    struct idmap_slot *slot = idmap_probe(m, key);
    return slot->used ? &slot->value : NULL;
}

/* The number under key, made with `value` when it was absent (*fresh says so). At most as many keys
 * as idmap_init was told. */
static inline uint32_t *idmap_put(struct idmap *m, uint64_t key, uint32_t value, bool *fresh)
{
    struct idmap_slot *slot = idmap_probe(m, key);
    *fresh = !slot->used;
    if (*fresh)
        *slot = (struct idmap_slot){.key = key, .value = value, .used = true};
    return &slot->value;
}

#endif
