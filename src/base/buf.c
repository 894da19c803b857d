/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_LEAST 64

void buf_fini(struct buf *b)
{
    free(b->p);
    *b = buf_init(b->max);
}

bool buf_grow(struct buf *b, size_t more)
{
    if (b->failed)
        return false;
    if (more > b->max - b->n) {
        b->failed = true;
        return false;
    }
    if (more <= b->cap - b->n)
        return true;
    size_t twice = b->cap > SIZE_MAX / 2 ? SIZE_MAX : b->cap * 2;
    size_t cap = min_size(b->max, max_size(BUF_LEAST, max_size(b->n + more, twice)));
    char *p = realloc(b->p, cap);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->p = p;
    b->cap = cap;
    return true;
}

void buf_add_zero(struct buf *b, size_t n)
{
    if (buf_reserve(b, n) && n) {
        memset(b->p + b->n, 0, n);
        b->n += n;
    }
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
    char local[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(local, sizeof local, fmt, args);
    va_end(args);
    if (n < 0) {
        b->failed = true;
        return;
    }
    if ((size_t)n < sizeof local) {
        buf_add(b, local, (size_t)n);
        return;
    }
    /* Past the cap by one byte for vsnprintf's NUL would be a false alarm: print beside. */
    char *text = malloc((size_t)n + 1);
    if (!text || !buf_reserve(b, (size_t)n)) {
        b->failed = true;
        free(text);
        return;
    }
    va_start(args, fmt);
    vsnprintf(text, (size_t)n + 1, fmt, args);
    va_end(args);
    buf_add(b, text, (size_t)n);
    free(text);
}

void buf_consume(struct buf *b, size_t n)
{
    n = min_size(n, b->n);
    b->n -= n;
    if (n && b->n)
        memmove(b->p, b->p + n, b->n);
}

char *buf_take(struct buf *b, size_t *n)
{
    char *p = b->p;
    if (n)
        *n = b->n;
    *b = buf_init(b->max);
    return p;
}
