/* SPDX-License-Identifier: Apache-2.0 */
/* The three codecs a block is made of (docs/format/block.md): bytes, numbers and strings.
 *
 *   bytes    stored as they are, as one repeated byte, or zstd, whichever is smallest for the
 * money; numbers  u64 sequences: constant, or (after a delta where that helps) less their minimum
 * and split into byte planes, each plane stored as bytes; strings  ids into the distinct values of
 * the sequence in order of first appearance. When every value is lower-case hex, a UUID or a dotted
 * IPv4 address the values are stored binary.
 *
 * Decoders are total: any input gives a value or false. What they return lives in the arena. */
#ifndef LYMER_STORE_TRACE_COLUMN_H
#define LYMER_STORE_TRACE_COLUMN_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/zip.h"

/* Values of one column of one row group: a bound on what a damaged count can make us allocate. */
#define COLUMN_VALUES_MAX (UINT32_C(1) << 25)

/* --- encoding: appended to `out`, which latches failure --- */

struct packer {
    struct buf *out;
    struct zstd_ctx *zstd;
    int level;
    struct buf plane, work; /* scratch */
};

void pack_bytes(struct packer *p, const void *data, size_t n);
void pack_nums(struct packer *p, const uint64_t *v, size_t n);
/* ids[i] < distinct; every value is used, ids first appear in ascending order. */
void pack_strs(struct packer *p, const uint64_t *ids, size_t n, const struct str *values,
               size_t distinct);

/* Varint, and varint length followed by bytes. */
void pack_varint(struct buf *out, uint64_t v);
void pack_str(struct buf *out, struct str s);

/* --- decoding: a cursor whose failure is sticky --- */

struct unpacker {
    const uint8_t *at, *end;
    struct arena *a;
    struct zstd_ctx *zstd;
    bool bad;
};

uint64_t unpack_varint(struct unpacker *u);
/* A varint that must be <= max. */
uint64_t unpack_count(struct unpacker *u, uint64_t max);
/* A varint that must be < count; 0 when bad. */
uint64_t unpack_index(struct unpacker *u, uint64_t count);
struct str unpack_str(struct unpacker *u); /* a view of the input */
struct str unpack_raw(struct unpacker *u, size_t n);
/* n bytes; a view of the input when they are stored plainly. NULL when bad. */
const uint8_t *unpack_bytes(struct unpacker *u, size_t n);
const uint64_t *unpack_nums(struct unpacker *u, size_t n);

/* A decoded string column: value i is text[off[id[i]] .. off[id[i]+1]). */
struct strs {
    const uint64_t *id;
    const uint32_t *off;
    const char *text;
    uint32_t n, distinct;
};

MUST_CHECK bool unpack_strs(struct unpacker *u, size_t n, struct strs *out);

static inline struct str strs_value(const struct strs *s, uint32_t id)
{
    return (struct str){s->text + s->off[id], s->off[id + 1] - s->off[id]};
}

#endif
