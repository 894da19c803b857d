/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C three ways: the CPU's instruction on x86-64 (chosen at run time) and on AArch64 (when
 * built for it), tables elsewhere.
 *
 * The x86 instruction takes 8 bytes every cycle but answers after three, so three equal blocks run
 * side by side and are joined. Joining means moving a CRC over the n bytes that follow it, which is
 * multiplying it by x^(8n) modulo the polynomial: one carry-less multiplication with the constant
 * x^(8n-33), whose 64-bit product the CRC instruction itself reduces (33 bits are what the
 * reflected product and the reduction add). */
#include "base/crc32c.h"

#include "base/hash.h"

#include <pthread.h>

#define CRC_POLY UINT32_C(0x82f63b78) /* reflected */

static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void tables_fill(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = (c >> 1) ^ (c & 1 ? CRC_POLY : 0);
        tables[0][i] = c;
    }
    for (int t = 1; t < 8; t++)
        for (uint32_t i = 0; i < 256; i++)
            tables[t][i] = (tables[t - 1][i] >> 8) ^ tables[0][tables[t - 1][i] & 0xff];
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t n)
{
    pthread_once(&tables_once, tables_fill);
    const uint8_t *p = data;
    uint32_t c = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t v = load_u64le(p) ^ c;
        c = tables[7][v & 0xff] ^ tables[6][v >> 8 & 0xff] ^ tables[5][v >> 16 & 0xff] ^
            tables[4][v >> 24 & 0xff] ^ tables[3][v >> 32 & 0xff] ^ tables[2][v >> 40 & 0xff] ^
            tables[1][v >> 48 & 0xff] ^ tables[0][v >> 56];
    }
    for (; n; n--, p++)
        c = (c >> 8) ^ tables[0][(c ^ *p) & 0xff];
    return ~c;
}

#if defined(__x86_64__)

#include <immintrin.h>

#define HARDWARE __attribute__((target("sse4.2,pclmul")))

#define LONG_BLOCK  4096
#define SHORT_BLOCK 256
/* x^(8n-33) mod P for n of one and two blocks. */
#define LONG_SHIFT_1  0x82f89c77
#define LONG_SHIFT_2  0x54a86326
#define SHORT_SHIFT_1 0xb9e02b86
#define SHORT_SHIFT_2 0xdd7e3b0c

HARDWARE static inline __m128i multiply(uint64_t crc, uint32_t by)
{
    return _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc), _mm_cvtsi64_si128(by), 0);
}

/* The CRC of three blocks of `block` bytes at p, continued from c. */
HARDWARE static inline uint64_t three_blocks(uint64_t c, const uint8_t *p, size_t block,
                                             uint32_t shift_1, uint32_t shift_2)
{
    uint64_t c1 = 0, c2 = 0;
    for (size_t i = 0; i < block; i += 8) {
        c = _mm_crc32_u64(c, load_u64le(p + i));
        c1 = _mm_crc32_u64(c1, load_u64le(p + block + i));
        c2 = _mm_crc32_u64(c2, load_u64le(p + 2 * block + i));
    }
    __m128i moved = _mm_xor_si128(multiply(c, shift_2), multiply(c1, shift_1));
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(moved)) ^ c2;
}

HARDWARE static uint32_t crc32c_sse42(uint32_t crc, const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t c = (uint32_t)~crc;
    for (; n >= 3 * LONG_BLOCK; n -= 3 * LONG_BLOCK, p += 3 * LONG_BLOCK)
        c = three_blocks(c, p, LONG_BLOCK, LONG_SHIFT_1, LONG_SHIFT_2);
    for (; n >= 3 * SHORT_BLOCK; n -= 3 * SHORT_BLOCK, p += 3 * SHORT_BLOCK)
        c = three_blocks(c, p, SHORT_BLOCK, SHORT_SHIFT_1, SHORT_SHIFT_2);
    for (; n >= 8; n -= 8, p += 8)
        c = _mm_crc32_u64(c, load_u64le(p));
    for (; n; n--, p++)
        c = _mm_crc32_u8((uint32_t)c, *p);
    return ~(uint32_t)c;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t n)
{
    if (LIKELY(__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul")))
        return crc32c_sse42(crc, data, n);
    return crc32c_portable(crc, data, n);
}

#elif defined(__ARM_FEATURE_CRC32)

#include <arm_acle.h>

uint32_t crc32c(uint32_t crc, const void *data, size_t n)
{
    const uint8_t *p = data;
    uint32_t c = ~crc;
    for (; n >= 8; n -= 8, p += 8)
        c = __crc32cd(c, load_u64le(p));
    for (; n; n--, p++)
        c = __crc32cb(c, *p);
    return ~c;
}

#else

uint32_t crc32c(uint32_t crc, const void *data, size_t n)
{
    return crc32c_portable(crc, data, n);
}

#endif
