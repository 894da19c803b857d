/* SPDX-License-Identifier: Apache-2.0 */
#include "base/jsontext.h"

#include "base/bytes.h"
#include "base/num.h"

/* Two-character escapes by byte; 'u' for the other control characters. U+2028 and U+2029 are also
 * escaped, as Go does it, because JavaScript once took them for line ends. */
static const char escapes[256] = {
    [0] = 'u',  [1] = 'u',  [2] = 'u',  [3] = 'u',  [4] = 'u',   [5] = 'u',     [6] = 'u',
    [7] = 'u',  [8] = 'b',  [9] = 't',  [10] = 'n', [11] = 'u',  [12] = 'f',    [13] = 'r',
    [14] = 'u', [15] = 'u', [16] = 'u', [17] = 'u', [18] = 'u',  [19] = 'u',    [20] = 'u',
    [21] = 'u', [22] = 'u', [23] = 'u', [24] = 'u', [25] = 'u',  [26] = 'u',    [27] = 'u',
    [28] = 'u', [29] = 'u', [30] = 'u', [31] = 'u', ['"'] = '"', ['\\'] = '\\',
};

#define ONES  UINT64_C(0x0101010101010101)
#define HIGHS UINT64_C(0x8080808080808080)

/* Non-zero when one of the eight bytes is a control character, a quote, a backslash or not ASCII.
 */
static uint64_t needs_care(uint64_t v)
{
    uint64_t quote = v ^ (ONES * '"'), slash = v ^ (ONES * '\\');
    return ((v - ONES * 0x20) | (quote - ONES) | (slash - ONES) | v) & HIGHS;
}

/* How many bytes from the start of s can be written as they are. */
static size_t plain_run(struct str s)
{
    size_t n = 0;
    while (s.n - n >= 8 && !needs_care(load_u64le(s.p + n)))
        n += 8;
    while (n < s.n && (unsigned char)s.p[n] < 0x80 && !escapes[(unsigned char)s.p[n]])
        n++;
    return n;
}

static void put_escape(struct buf *out, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    char text[6] = {'\\', escapes[c], '0', '0', hex[c >> 4], hex[c & 15]};
    buf_add(out, text, escapes[c] == 'u' ? 6 : 2);
}

/* One sequence that is not plain ASCII; returns the bytes it took. */
static size_t put_wide(struct buf *out, struct str s)
{
    size_t n = str_utf8_len(s);
    if (n == 0) {
        buf_add_c(out, "\xef\xbf\xbd");
        return 1;
    }
    if (n == 3 && memcmp(s.p, "\xe2\x80\xa8", 2) == 0 && ((unsigned char)s.p[2] | 1) == 0xa9)
        buf_add_c(out, s.p[2] == '\xa8' ? "\\u2028" : "\\u2029");
    else
        buf_add(out, s.p, n);
    return n;
}

void jsontext_str(struct buf *out, struct str s)
{
    buf_add_char(out, '"');
    while (s.n) {
        size_t n = plain_run(s);
        buf_add(out, s.p, n);
        s = str_skip(s, n);
        if (s.n == 0)
            break;
        unsigned char c = (unsigned char)s.p[0];
        if (c < 0x80) {
            put_escape(out, c);
            s = str_skip(s, 1);
        } else {
            s = str_skip(s, put_wide(out, s));
        }
    }
    buf_add_char(out, '"');
}

void jsontext_double(struct buf *out, double v)
{
    char text[NUM_TEXT_MAX];
    size_t n = num_put_double(text, v);
    bool finite = v - v == 0;
    if (!finite)
        buf_add_char(out, '"');
    buf_add(out, text, n);
    if (!finite)
        buf_add_char(out, '"');
}
