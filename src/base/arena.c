/* SPDX-License-Identifier: Apache-2.0 */
/* An arena is a list of chunks. The head of the list is the normal chunk that small requests are
 * cut from (a->at … a->end); behind it stand full normal chunks and the chunks of big requests,
 * which got one each so that they do not throw away the rest of the normal one.
 *
 *   1. a->at is NULL, or points into the head of the list.
 *   2. used_bytes is the sum of all chunks, headers included, and never passes max_bytes.
 *   3. Normal chunks are as big as all before them together, from 4 KiB to 1 MiB: the number of
 *      chunks is logarithmic for small arenas, the waste is bounded for large ones.
 *
 * Under AddressSanitizer what was not handed out is poisoned, so a use after arena_reset and a run
 * past the end of a chunk's used part are reported. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define CHUNK_LEAST (4 * KIB)
#define CHUNK_MOST  (1 * MIB)

struct arena_chunk {
    struct arena_chunk *next;
    size_t bytes;
    struct budget *budget; /* that it was taken from */
};

struct arena arena_init(size_t max_bytes)
{
    return (struct arena){.max_bytes = max_bytes};
}

struct arena arena_init_within(struct budget *budget, size_t max_bytes)
{
    return (struct arena){.max_bytes = max_bytes, .budget = budget};
}

static void chunk_free(struct arena_chunk *c)
{
    if (c->budget)
        budget_give(c->budget, c->bytes);
    arena_unpoison(c, c->bytes);
    free(c);
}

void arena_fini(struct arena *a)
{
    for (struct arena_chunk *c = a->chunks, *next; c; c = next) {
        next = c->next;
        chunk_free(c);
    }
    *a = arena_init_within(a->budget, a->max_bytes);
}

void arena_leave_budget(struct arena *a)
{
    for (struct arena_chunk *c = a->chunks; c; c = c->next) {
        if (c->budget)
            budget_give(c->budget, c->bytes);
        c->budget = NULL;
    }
    a->budget = NULL;
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *keep = a->at ? a->chunks : NULL;
    for (struct arena_chunk *c = keep ? keep->next : a->chunks, *next; c; c = next) {
        next = c->next;
        chunk_free(c);
    }
    *a = arena_init_within(a->budget, a->max_bytes);
    if (!keep)
        return;
    keep->next = NULL;
    a->chunks = keep;
    a->used_bytes = keep->bytes;
    a->at = (char *)(keep + 1);
    a->end = (char *)keep + keep->bytes;
    arena_poison(a->at, (size_t)(a->end - a->at));
}

static struct arena_chunk *chunk_new(struct arena *a, size_t bytes)
{
    if (a->budget && !budget_take(a->budget, bytes))
        return NULL;
    struct arena_chunk *c = malloc(bytes);
    if (!c) {
        if (a->budget)
            budget_give(a->budget, bytes);
        return NULL;
    }
    c->bytes = bytes;
    c->budget = a->budget;
    a->used_bytes += bytes;
    arena_poison(c + 1, bytes - sizeof *c);
    return c;
}

void arena_reset_warm(struct arena *a, size_t keep_max)
{
    size_t bytes = a->used_bytes;
    bool one = a->at && !a->chunks->next;
    if (one || !bytes || bytes > keep_max) {
        arena_reset(a);
        return;
    }
    arena_fini(a);
    struct arena_chunk *c = chunk_new(a, bytes);
    if (!c)
        return;
    c->next = NULL;
    a->chunks = c;
    a->at = (char *)(c + 1);
    a->end = (char *)c + bytes;
}

static char *aligned(void *p, size_t align)
{
    return (char *)(((uintptr_t)p + (align - 1)) & ~(uintptr_t)(align - 1));
}

/* A request that would waste much of a normal chunk: its own one, behind the head. */
static void *grow_big(struct arena *a, size_t need, size_t n, size_t align)
{
    struct arena_chunk *c = chunk_new(a, need);
    if (!c)
        return NULL;
    struct arena_chunk **place = a->at ? &a->chunks->next : &a->chunks;
    c->next = *place;
    *place = c;
    char *out = aligned(c + 1, align);
    arena_unpoison(out, n);
    return out;
}

static void *grow_normal(struct arena *a, size_t bytes, size_t n, size_t align)
{
    struct arena_chunk *c = chunk_new(a, bytes);
    if (!c)
        return NULL;
    c->next = a->chunks;
    a->chunks = c;
    char *out = aligned(c + 1, align);
    a->at = out + n;
    a->end = (char *)c + bytes;
    arena_unpoison(out, n);
    return out;
}

void *arena_grow(struct arena *a, size_t n, size_t align)
{
    size_t left = a->max_bytes - a->used_bytes, need = 0;
    bool fits = !__builtin_add_overflow(n, sizeof(struct arena_chunk) + align - 1, &need);
    void *out = NULL;
    if (fits && need <= left && !a->failed) {
        size_t next = min_size(CHUNK_MOST, max_size(CHUNK_LEAST, a->used_bytes));
        bool big = need > next / 4 && a->used_bytes;
        if (big || need > next)
            out = grow_big(a, need, n, align);
        else
            out = grow_normal(a, min_size(next, left), n, align);
    }
    a->failed |= !out;
    return out;
}

void *arena_calloc(struct arena *a, size_t count, size_t size, size_t align)
{
    size_t n;
    if (__builtin_mul_overflow(count, size, &n)) {
        a->failed = true;
        return NULL;
    }
    void *p = arena_alloc(a, n, align);
    return p && n ? memset(p, 0, n) : p;
}

struct str arena_str(struct arena *a, struct str s)
{
    char *p = s.n < SIZE_MAX ? arena_alloc(a, s.n + 1, 1) : NULL;
    if (!p)
        return STR_NONE;
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return str_of(p, s.n);
}

struct str arena_printf(struct arena *a, const char *fmt, ...)
{
    char local[256];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(local, sizeof local, fmt, args);
    va_end(args);
    if (n < 0) {
        a->failed = true;
        return STR_NONE;
    }
    if ((size_t)n < sizeof local)
        return arena_str(a, str_of(local, (size_t)n));
    char *p = arena_alloc(a, (size_t)n + 1, 1);
    if (!p)
        return STR_NONE;
    va_start(args, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, args);
    va_end(args);
    return str_of(p, (size_t)n);
}
