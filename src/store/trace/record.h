/* SPDX-License-Identifier: Apache-2.0 */
/* How the log and the manifest frame what they append (docs/format/wal.md): a head, then the
 * payload, padded to a multiple of 8. The salt is a random number of the file's turn, so that
 * neither bytes of an earlier turn nor bytes a client chose are ever taken for a record. */
#ifndef LYMER_STORE_TRACE_RECORD_H
#define LYMER_STORE_TRACE_RECORD_H

#include "base/hash.h"

#include <assert.h>

#define RECORD_HEAD 24

struct record_head {
    uint64_t salt;
    uint32_t index;       /* of the record in its file */
    uint32_t len;         /* of the payload */
    uint32_t head_crc;    /* of salt, index, len */
    uint32_t payload_crc; /* of the payload, continued from head_crc */
};
static_assert(sizeof(struct record_head) == RECORD_HEAD, "on disk");

static inline struct record_head record_head_of(uint64_t salt, uint32_t index, struct str payload)
{
    struct record_head h = {.salt = salt, .index = index, .len = (uint32_t)payload.n};
    h.head_crc = crc32c(0, &h, offsetof(struct record_head, head_crc));
    h.payload_crc = crc32c(h.head_crc, payload.p, payload.n);
    return h;
}

/* Room: bytes of the file from the head on. */
static inline bool record_head_ok(const struct record_head *h, uint64_t salt, uint32_t least_index,
                                  uint64_t room)
{
    return h->salt == salt && h->index >= least_index && room >= RECORD_HEAD &&
           h->len <= room - RECORD_HEAD &&
           h->head_crc == crc32c(0, h, offsetof(struct record_head, head_crc));
}

static inline bool record_payload_ok(const struct record_head *h, struct str payload)
{
    return payload.n == h->len && crc32c(h->head_crc, payload.p, payload.n) == h->payload_crc;
}

static inline uint64_t record_bytes(uint64_t payload_len)
{
    return RECORD_HEAD + ((payload_len + 7) & ~UINT64_C(7));
}

#endif
