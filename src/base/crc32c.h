/* SPDX-License-Identifier: Apache-2.0 */
/* The table-driven form behind crc32c() (base/hash.h), named so that tests can compare the two. */
#ifndef LYMER_BASE_CRC32C_H
#define LYMER_BASE_CRC32C_H

#include "base/base.h"

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t n);

#endif
