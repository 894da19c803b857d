/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include "base/bytes.h"

static unsigned char lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

bool str_eq_nocase(struct str a, struct str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct str str_trim(struct str s)
{
    while (s.n && is_blank(s.p[0]))
        s = str_skip(s, 1);
    while (s.n && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

bool str_split(struct str *rest, char sep, struct str *part)
{
    if (!rest->p)
        return false;
    size_t at = str_find(*rest, sep);
    *part = str_take(*rest, at);
    *rest = at < rest->n ? str_skip(*rest, at + 1) : STR_NONE;
    return true;
}

static bool is_tail(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

/* Unicode 15, table 3-7: only the second byte's range depends on the first. */
static size_t sequence_len(const unsigned char *p, size_t n)
{
    unsigned char c = p[0];
    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    size_t len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (n < len)
        return 0;
    unsigned char low = 0x80, high = 0xbf;
    if (c == 0xe0)
        low = 0xa0;
    else if (c == 0xed)
        high = 0x9f;
    else if (c == 0xf0)
        low = 0x90;
    else if (c == 0xf4)
        high = 0x8f;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (!is_tail(p[i]))
            return 0;
    return len;
}

size_t str_utf8_len(struct str s)
{
    return s.n ? sequence_len((const unsigned char *)s.p, s.n) : 0;
}

#define HIGH_BITS UINT64_C(0x8080808080808080)

bool str_is_utf8(struct str s)
{
    const unsigned char *p = (const unsigned char *)s.p, *end = p ? p + s.n : NULL;
    while (p < end) {
        /* Nearly all text is ASCII: eight bytes a step until one is not. */
        if (end - p >= 8 && (load_u64le(p) & HIGH_BITS) == 0) {
            p += 8;
            continue;
        }
        size_t len = sequence_len(p, (size_t)(end - p));
        if (len == 0)
            return false;
        p += len;
    }
    return true;
}
