/* SPDX-License-Identifier: Apache-2.0 */
/* Fixed-width little- and big-endian loads and stores, varints, zigzag. The bounded forms never
 * read or write past `end`. */
#ifndef LYMER_BASE_BYTES_H
#define LYMER_BASE_BYTES_H

#include "base/base.h"

#include <assert.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "on-disk structs are used in place");

static inline uint16_t load_u16le(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t load_u32le(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t load_u64le(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store_u16le(void *p, uint16_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void store_u32le(void *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void store_u64le(void *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline uint32_t load_u32be(const void *p)
{
    return __builtin_bswap32(load_u32le(p));
}

static inline uint64_t load_u64be(const void *p)
{
    return __builtin_bswap64(load_u64le(p));
}

static inline void store_u32be(void *p, uint32_t v)
{
    store_u32le(p, __builtin_bswap32(v));
}

static inline void store_u64be(void *p, uint64_t v)
{
    store_u64le(p, __builtin_bswap64(v));
}

/* The _wide functions may touch that many bytes behind the last of the n they are asked for. */
#define BYTES_WIDE 32u

#ifdef __SSE2__
/* A bit set for each of 32 bytes that is equal. */
static inline uint64_t bytes_same32(const void *a, const void *b)
{
    const __m128i *x = a, *y = b;
    __m128i low = _mm_cmpeq_epi8(_mm_loadu_si128(x), _mm_loadu_si128(y));
    __m128i high = _mm_cmpeq_epi8(_mm_loadu_si128(x + 1), _mm_loadu_si128(y + 1));
    return (uint64_t)(uint32_t)_mm_movemask_epi8(low) | (uint64_t)(uint32_t)_mm_movemask_epi8(high)
                                                            << 16;
}
#endif

/* memcmp(a, b, n) == 0 in steps of 32 bytes, without a branch on small lengths. */
static inline bool bytes_eq_wide(const void *a, const void *b, size_t n)
{
#ifdef __SSE2__
    const char *p = a, *q = b;
    for (; UNLIKELY(n > BYTES_WIDE); p += BYTES_WIDE, q += BYTES_WIDE, n -= BYTES_WIDE)
        if (bytes_same32(p, q) != UINT32_MAX)
            return false;
    return (~bytes_same32(p, q) & ((UINT64_C(1) << n) - 1)) == 0;
#else
    return memcmp(a, b, n) == 0;
#endif
}

/* memcpy(to, from, n), which may also write what is behind. */
static inline void bytes_copy_wide(void *to, const void *from, size_t n)
{
    if (LIKELY(n <= BYTES_WIDE))
        memcpy(to, from, BYTES_WIDE);
    else
        memcpy(to, from, n);
}

#define VARINT_MAX 10

/* Writes v at p (VARINT_MAX bytes of room) and returns the byte after it. */
static inline uint8_t *varint_put(uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static inline size_t varint_len(uint64_t v)
{
    return ((size_t)(63 - __builtin_clzll(v | 1)) * 9 + 73) / 64;
}

/* Reads a varint at p; NULL when it runs past end or is longer than ten bytes. */
static inline const uint8_t *varint_get(const uint8_t *p, const uint8_t *end, uint64_t *v)
{
    uint64_t out = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (UNLIKELY(p == end))
            return NULL;
        uint8_t byte = *p++;
        out |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
        if (LIKELY(byte < 0x80)) {
            *v = out;
            return p;
        }
    }
    return NULL;
}

static inline uint64_t zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static inline int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

#endif
