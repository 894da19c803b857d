/* SPDX-License-Identifier: Apache-2.0 */
/* A growable byte buffer that is born with its cap. The first failure (cap or memory) latches
 * `failed`; later additions do nothing, so a writer checks once at the end. */
#ifndef LYMER_BASE_BUF_H
#define LYMER_BASE_BUF_H

#include "base/err.h"
#include "base/str.h"

struct buf {
    char *p;
    size_t n, cap, max;
    bool failed;
};

/* No allocation yet. */
static inline struct buf buf_init(size_t max_bytes)
{
    return (struct buf){.max = max_bytes};
}

void buf_fini(struct buf *b);

/* Keeps the memory. */
static inline void buf_reset(struct buf *b)
{
    b->n = 0;
    b->failed = false;
}

bool buf_grow(struct buf *b, size_t more); /* slow path of buf_reserve */

/* Room for `more` bytes behind b->n; false when that would pass the cap. */
static inline MUST_CHECK bool buf_reserve(struct buf *b, size_t more)
{
    return LIKELY(!b->failed && b->cap - b->n >= more) || buf_grow(b, more);
}

static inline void buf_add(struct buf *b, const void *p, size_t n)
{
    if (buf_reserve(b, n) && n) {
        memcpy(b->p + b->n, p, n);
        b->n += n;
    }
}

static inline void buf_add_str(struct buf *b, struct str s)
{
    buf_add(b, s.p, s.n);
}

static inline void buf_add_c(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

static inline void buf_add_char(struct buf *b, char c)
{
    if (buf_reserve(b, 1))
        b->p[b->n++] = c;
}

void buf_add_zero(struct buf *b, size_t n);
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Drops the first n bytes, moving the rest down. */
void buf_consume(struct buf *b, size_t n);

static inline struct str buf_str(const struct buf *b)
{
    return (struct str){b->p, b->n};
}

/* Where the next byte goes; NULL while there is no memory yet (NULL + 0 is undefined in C). */
static inline char *buf_end(const struct buf *b)
{
    return b->p ? b->p + b->n : NULL;
}

/* E_OK, or E_TOO_BIG when an addition failed. */
static inline enum errc buf_err(const struct buf *b)
{
    return b->failed ? E_TOO_BIG : E_OK;
}

/* Hands the memory to the caller (free() it) and leaves b empty. */
char *buf_take(struct buf *b, size_t *n);

#endif
