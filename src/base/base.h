/* SPDX-License-Identifier: Apache-2.0 */
/* The few words every file may use without thinking: attributes, assertions, small arithmetic. */
#ifndef LYMER_BASE_BASE_H
#define LYMER_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK             __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define LIKELY(x)              __builtin_expect(!!(x), 1)
#define UNLIKELY(x)            __builtin_expect(!!(x), 0)
#define ARRAY_LEN(a)           (sizeof(a) / sizeof((a)[0]))

/* An invariant. Stays on in release builds: a wrong answer is worse than a restart. */
#define ensure(x) (LIKELY(x) ? (void)0 : ensure_failed(#x, __FILE__, __LINE__))
_Noreturn void ensure_failed(const char *what, const char *file, int line);

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The next multiple of `to`, a power of two. */
static inline size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) & ~(to - 1);
}

/* Memory that must be there: small, bounded, at start-up or per connection. Aborts with a sentence
 * when the machine has none. What hostile input can size goes through buf or arena, which have
 * caps. */
void *xmalloc(size_t n);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);

#endif
