/* SPDX-License-Identifier: Apache-2.0 */
/* Two hashes: hash64 for tables and filters (fast, seeded, not for secrets) and crc32c for what
 * lies on disk. hash64 with seed 0 is part of the block format (trace filters): its values never
 * change. */
#ifndef LYMER_BASE_HASH_H
#define LYMER_BASE_HASH_H

#include "base/bytes.h"
#include "base/str.h"

__extension__ typedef unsigned __int128 u128; /* ISO C has no name for it */

/* 64x64 multiply folded to 64 bits: every input bit reaches every output bit. The operands are
 * added back, because a product with zero would forget the other one. */
static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
    u128 m = (u128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64) ^ a ^ b;
}

#define HASH_K0 UINT64_C(0x9e3779b97f4a7c15)
#define HASH_K1 UINT64_C(0xd6e8feb86659fd93)
#define HASH_K2 UINT64_C(0xa0761d6478bd642f)

static inline uint64_t hash_u64(uint64_t v, uint64_t seed)
{
    return hash_mix(v ^ HASH_K0, seed ^ HASH_K1);
}

/* Both operands of every step hold the seed, so that nobody who does not know it can cancel one and
 * choose inputs that collide. */
static inline uint64_t hash64(const void *data, size_t n, uint64_t seed)
{
    const uint8_t *p = data;
    uint64_t h = seed ^ HASH_K2;
    size_t left = n;
    while (left > 16) {
        h = hash_mix(load_u64le(p) ^ h, load_u64le(p + 8) ^ h ^ HASH_K0);
        p += 16;
        left -= 16;
    }
    uint64_t a = 0, b = 0;
    if (left >= 8) {
        a = load_u64le(p);
        b = load_u64le(p + left - 8);
    } else if (left >= 4) {
        a = load_u32le(p);
        b = load_u32le(p + left - 4);
    } else if (left) {
        a = ((uint64_t)p[0] << 16) | ((uint64_t)p[left / 2] << 8) | p[left - 1];
    }
    h = hash_mix(a ^ h, b ^ h ^ HASH_K1);
    return hash_mix(h ^ n, h ^ HASH_K0);
}

static inline uint64_t hash_str(struct str s, uint64_t seed)
{
    return hash64(s.p, s.n, seed);
}

/* CRC-32C (Castagnoli) continued from `crc`; start with 0. Uses the CPU's instruction where there
 * is one. */
uint32_t crc32c(uint32_t crc, const void *data, size_t n);

#endif
