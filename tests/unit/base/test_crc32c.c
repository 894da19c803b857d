/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"

#include "base/crc32c.h"
#include "base/hash.h"

#include <stdlib.h>

/* RFC 3720, appendix B.4, and the check value of the CRC catalogue. */
TEST(crc32c_known_vectors)
{
    uint8_t bytes[32];
    memset(bytes, 0, sizeof bytes);
    CHECK_INT(crc32c(0, bytes, sizeof bytes), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    CHECK_INT(crc32c(0, bytes, sizeof bytes), 0x62a8ab43);
    for (unsigned i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    CHECK_INT(crc32c(0, bytes, sizeof bytes), 0x46dd794e);
    for (unsigned i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    CHECK_INT(crc32c(0, bytes, sizeof bytes), 0x113fdb5c);
    CHECK_INT(crc32c(0, "123456789", 9), 0xe3069283);
    CHECK_INT(crc32c(0, NULL, 0), 0);
}

static char *random_bytes(size_t n)
{
    char *p = xmalloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)test_rand();
    return p;
}

TEST(crc32c_hardware_equals_tables)
{
    size_t max = 3 * 4096 * 2 + 3 * 256 + 40;
    char *p = random_bytes(max);
    for (size_t n = 0; n < 1100; n++)
        CHECK_INT(crc32c((uint32_t)n, p + n % 9, n), crc32c_portable((uint32_t)n, p + n % 9, n));
    for (int i = 0; i < 500; i++) {
        size_t from = test_rand() % 64, n = test_rand() % (max - from);
        CHECK_INT(crc32c(7, p + from, n), crc32c_portable(7, p + from, n));
    }
    CHECK_INT(crc32c(0, p, max), crc32c_portable(0, p, max));
    free(p);
}

TEST(crc32c_continues)
{
    size_t n = 3 * 4096 * 2 + 100;
    char *p = random_bytes(n);
    uint32_t whole = crc32c(0, p, n);
    for (int i = 0; i < 200; i++) {
        size_t cut = test_rand() % (n + 1);
        CHECK_INT(crc32c(crc32c(0, p, cut), p + cut, n - cut), whole);
        CHECK_INT(crc32c_portable(crc32c(0, p, cut), p + cut, n - cut), whole);
    }
    free(p);
}

TEST(crc32c_reads_only_its_bytes)
{
    char *p = random_bytes(13000);
    for (size_t n = 0; n < 13000; n += n < 40 ? 1 : 997) {
        struct str s = test_guarded(str_of(p, n));
        CHECK_INT(crc32c(0, s.p, s.n), crc32c_portable(0, s.p, s.n));
    }
    free(p);
}
