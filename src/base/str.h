/* SPDX-License-Identifier: Apache-2.0 */
/* A view of bytes: pointer and length travel together. Bytes from outside are never assumed to end
 * in NUL or to be UTF-8. A `struct str` never owns what it points at. */
#ifndef LYMER_BASE_STR_H
#define LYMER_BASE_STR_H

#include "base/base.h"

#include <string.h>

struct str {
    const char *p;
    size_t n;
};

/* A view of a string literal. */
#define STR(lit) ((struct str){"" lit, sizeof(lit) - 1})
#define STR_NONE ((struct str){NULL, 0})
/* For printf("%.*s"): clipped at INT_MAX. */
#define STR_ARG(s) (int)((s).n > 0x7fffffff ? 0x7fffffff : (s).n), (s).p

static inline struct str str_of(const void *p, size_t n)
{
    return (struct str){p, n};
}

static inline struct str str_from_c(const char *s)
{
    return (struct str){s, s ? strlen(s) : 0};
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool str_eq_c(struct str a, const char *b)
{
    return str_eq(a, str_from_c(b));
}

static inline bool str_starts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

/* Bytewise order; a prefix sorts first. */
static inline int str_cmp(struct str a, struct str b)
{
    size_t n = min_size(a.n, b.n);
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

/* ASCII case folded; for header names and the like. */
bool str_eq_nocase(struct str a, struct str b);

/* The view without the first n bytes (n is clipped). */
static inline struct str str_skip(struct str s, size_t n)
{
    n = min_size(n, s.n);
    return (struct str){s.p ? s.p + n : NULL, s.n - n};
}

static inline struct str str_take(struct str s, size_t n)
{
    return (struct str){s.p, min_size(n, s.n)};
}

/* Position of the first c, or s.n. */
static inline size_t str_find(struct str s, char c)
{
    const char *at = s.n ? memchr(s.p, c, s.n) : NULL;
    return at ? (size_t)(at - s.p) : s.n;
}

struct str str_trim(struct str s); /* ASCII space and tab on both ends */

/* Takes the part before the first `sep` off *rest. False when *rest is exhausted (p becomes NULL).
 */
bool str_split(struct str *rest, char sep, struct str *part);

/* Well-formed UTF-8, surrogates and over-long forms refused. */
bool str_is_utf8(struct str s);
/* Length in bytes of the well-formed sequence at the start of s, 0 when there is none. */
size_t str_utf8_len(struct str s);

#endif
