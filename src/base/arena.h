/* SPDX-License-Identifier: Apache-2.0 */
/* One lifetime for many small things: an arena per request, batch or query; freed in one call. Born
 * with a cap; past it arena_alloc returns NULL and `failed` latches, so a caller may check once at
 * the end where every use tolerates NULL, or at each allocation. Not thread-safe. */
#ifndef LYMER_BASE_ARENA_H
#define LYMER_BASE_ARENA_H

#include "base/budget.h"
#include "base/str.h"

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks; /* newest first */
    char *at, *end;             /* free part of the newest chunk */
    size_t used_bytes, max_bytes;
    struct budget *budget; /* NULL: none; may be set at any time, for what is taken from then on */
    bool failed;
};

struct arena arena_init(size_t max_bytes);
/* One whose chunks also count against a budget that it shares. */
struct arena arena_init_within(struct budget *budget, size_t max_bytes);
void arena_fini(struct arena *a);
/* What it holds counts no longer: a cache whose memory is bounded otherwise. */
void arena_leave_budget(struct arena *a);
/* Forgets everything, keeps one chunk. */
void arena_reset(struct arena *a);
/* The same for an arena that is filled and reset over and over: what it held, up to keep_max bytes,
 * stays as one chunk, so that the next filling allocates nothing. */
void arena_reset_warm(struct arena *a, size_t keep_max);

/* Under AddressSanitizer memory not handed out is poisoned. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define arena_poison(p, n)   ASAN_POISON_MEMORY_REGION((p), (n))
#define arena_unpoison(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
#else
#define arena_poison(p, n)   ((void)(p), (void)(n))
#define arena_unpoison(p, n) ((void)(p), (void)(n))
#endif

void *arena_grow(struct arena *a, size_t n, size_t align); /* slow path */

/* Uninitialised memory, aligned; NULL past the cap. */
static inline void *arena_alloc(struct arena *a, size_t n, size_t align)
{
    uintptr_t at = ((uintptr_t)a->at + (align - 1)) & ~(uintptr_t)(align - 1);
    if (LIKELY(a->at && n <= (uintptr_t)a->end - at && at <= (uintptr_t)a->end)) {
        a->at = (char *)at + n;
        arena_unpoison((void *)at, n);
        return (void *)at;
    }
    return arena_grow(a, n, align);
}

/* Zeroed array; NULL on overflow or past the cap. */
void *arena_calloc(struct arena *a, size_t count, size_t size, size_t align);
#define ARENA_NEW(a, type) ((type *)arena_calloc((a), 1, sizeof(type), _Alignof(type)))
#define ARENA_ARRAY(a, type, count) \
    ((type *)arena_calloc((a), (count), sizeof(type), _Alignof(type)))

/* A copy with a NUL behind it (not counted in n); STR_NONE past the cap. */
struct str arena_str(struct arena *a, struct str s);
struct str arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
