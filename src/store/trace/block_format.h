/* SPDX-License-Identifier: Apache-2.0 */
/* What writer and reader of a block share: the numbers of docs/format/block.md. Private to
 * block_*.c
 *
 *   head     magic, version
 *   groups   row groups, one after the other: chunks, directory, filter
 *   meta     strings, columns, key lists, shapes, origins
 *   tail     trace index, words, root
 *   trailer  where the tail is; fixed size, last in the file */
#ifndef LYMER_STORE_TRACE_BLOCK_FORMAT_H
#define LYMER_STORE_TRACE_BLOCK_FORMAT_H

#include "base/hash.h"
#include "model/batch.h"
#include "store/trace/block.h"
#include "store/trace/column.h"

#define BLOCK_MAGIC   UINT64_C(0x314b424b4d594c89) /* "\x89LYMKBK1" */
#define BLOCK_VERSION 2                            /* written; 1 is read, too */

#define BLOCK_HEAD_BYTES    16u
#define BLOCK_TRAILER_BYTES 40u

/* A row group ends before the trace that would make it larger than this; a trace that alone is
 * larger is cut into parts. */
#define GROUP_ROWS  8192u
#define GROUP_BYTES (32 * MIB) /* the same for the batch bytes its spans came from */

/* Bounds for the reader; far above what the writer makes. */
#define BLOCK_ROWS_MAX   (UINT64_C(1) << 40)
#define BLOCK_GROUPS_MAX (UINT32_C(1) << 24)
#define BLOCK_META_MAX   (UINT64_C(1) << 31)

struct block_trailer {
    uint64_t magic;
    uint32_t version, root_len;
    uint64_t tail_off, file_bytes;
    uint32_t tail_crc, crc; /* crc: of the bytes before it */
};
static_assert(sizeof(struct block_trailer) == BLOCK_TRAILER_BYTES, "on disk");

struct block_head {
    uint64_t magic;
    uint32_t version, crc;
};
static_assert(sizeof(struct block_head) == BLOCK_HEAD_BYTES, "on disk");

/* The three tables of a row group. */
enum block_table { TABLE_SPAN, TABLE_EVENT, TABLE_LINK, TABLE_COUNT };

/* Columns that every row group may have, by number; an absent one is all zero or empty. Attribute
 * columns follow: COL_ATTRS + index into the block's column table. */
#define BLOCK_COLUMNS(X)                \
    X(TRACE_ID, "trace id")             \
    X(TRACE_ROWS, "trace rows")         \
    X(TRACE_START, "trace start")       \
    X(SHAPE, "shape")                   \
    X(SPAN_ID, "span id")               \
    X(PARENT, "parent")                 \
    X(ORPHAN, "parent id (orphan)")     \
    X(START, "start")                   \
    X(DURATION, "duration")             \
    X(FLAGS, "flags")                   \
    X(DROPPED_ATTRS, "dropped attrs")   \
    X(DROPPED_EVENTS, "dropped events") \
    X(DROPPED_LINKS, "dropped links")   \
    X(TRACE_STATE, "trace state")       \
    X(MESSAGE, "status message")        \
    X(EVENTS, "event count")            \
    X(LINKS, "link count")              \
    X(EVENT_SHAPE, "event shape")       \
    X(EVENT_TIME, "event time")         \
    X(EVENT_DROPPED, "event dropped")   \
    X(LINK_SHAPE, "link shape")         \
    X(LINK_TRACE_ID, "link trace id")   \
    X(LINK_SPAN_ID, "link span id")     \
    X(LINK_STATE, "link trace state")   \
    X(LINK_DROPPED, "link dropped")     \
    X(LINK_FLAGS, "link flags")

enum {
#define BLOCK_COLUMN_ENUM(id, name) COL_##id,
    BLOCK_COLUMNS(BLOCK_COLUMN_ENUM)
#undef BLOCK_COLUMN_ENUM
        COL_FIXED,
    COL_ATTRS = 32
};

/* The parent column. Others: PARENT_AT + zigzag(own row - parent's row in the trace). */
enum { PARENT_NONE, PARENT_ORPHAN, PARENT_AT };

/* Words: sorted 32-bit hashes of what a query may name. */
enum { WORD_SERVICE = 1, WORD_NAME = 2, WORD_KEY = 3 };
#define BLOCK_WORDS_MAX 65536u /* more: none are kept and nothing is ruled out by them */

static inline uint32_t block_word(struct str s, uint64_t kind)
{
    return (uint32_t)(hash_str(s, kind) >> 32);
}

/* A fuzzer cannot guess checksums: its build takes any. */
static inline bool block_crc_ok(const void *p, size_t n, uint32_t want)
{
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    (void)p, (void)n, (void)want;
    return true;
#else
    return crc32c(0, p, n) == want;
#endif
}

static inline uint32_t block_fingerprint(const uint8_t id[16])
{
    return (uint32_t)(hash64(id, 16, 0) >> 32);
}

/* A chain in the trace index, as it is sorted. */
static inline uint64_t block_index_entry(const uint8_t id[16], uint32_t part)
{
    return (uint64_t)block_fingerprint(id) << 32 | part;
}

static inline int block_index_cmp(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

/* The value filter of a row group: pages of FILTER_BLOCKS split-block Bloom filters of 32 bytes and
 * a crc32c, so that one probe reads and checks one page. It holds every string and integer value of
 * an attribute of a span, event or link under the hash of its key. */
#define FILTER_BLOCKS     15u
#define FILTER_PAGE_BYTES (FILTER_BLOCKS * 32 + 4)
#define FILTER_BITS       10u /* a value */

static inline bool filter_page_ok(const uint8_t page[FILTER_PAGE_BYTES])
{
    return block_crc_ok(page, FILTER_BLOCKS * 32, load_u32le(page + FILTER_BLOCKS * 32));
}

static inline uint64_t filter_key_seed(struct str key)
{
    return hash_str(key, 4);
}

static inline uint64_t filter_hash_str(struct str value, uint64_t seed)
{
    return hash_str(value, seed);
}

static inline uint64_t filter_hash_int(uint64_t bits, uint64_t seed)
{
    return hash_u64(bits, seed + 1);
}

/* Which of `blocks` 32-byte filters, and which bit of word w in it. */
static inline uint32_t filter_at(uint64_t hash, uint32_t blocks)
{
    return (uint32_t)(((hash >> 32) * blocks) >> 32);
}

static inline uint32_t filter_bit(uint64_t hash, unsigned w)
{
    static const uint32_t salt[8] = {0x47b6137bu, 0x44974d91u, 0x8824ad5bu, 0xa2b7289du,
                                     0x705495c7u, 0x2df1424bu, 0x9efc4947u, 0x5c6bfb31u};
    return UINT32_C(1) << (((uint32_t)hash * salt[w]) >> 27);
}

static inline bool attr_is_str(unsigned type)
{
    return type == ATTR_STR || type == ATTR_BYTES || type == ATTR_ARRAY || type == ATTR_KVLIST;
}

/* Integers are stored with the sign bit flipped, so that unsigned order is their order. */
#define INT_FLIP (UINT64_C(1) << 63)

#endif
