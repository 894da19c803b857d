/* SPDX-License-Identifier: Apache-2.0 */
#include "app/cli/term.h"

#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

unsigned term_width(void)
{
    const char *env = getenv("COLUMNS");
    uint64_t v;
    struct winsize w;
    if (!env || !num_get_u64(str_from_c(env), &v) || !v)
        v = ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : TERM_WIDTH_DEFAULT;
    return (unsigned)(v < 40 ? 40 : min_u64(v, 1000));
}

static bool env_on(const char *name)
{
    const char *v = getenv(name);
    return v && *v && strcmp(v, "0") != 0;
}

bool term_color(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    if (no && *no)
        return false;
    if (env_on("CLICOLOR_FORCE"))
        return true;
    return isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
}

bool term_utf8(void)
{
    const char *v = getenv("LC_ALL");
    if (!v || !*v)
        v = getenv("LC_CTYPE");
    if (!v || !*v)
        v = getenv("LANG");
    return !v || !*v || strstr(v, "UTF-8") || strstr(v, "utf8") || strstr(v, "UTF8") ||
           strstr(v, "utf-8");
}

/* --- widths: ranges of Unicode 15, merged where what lies between is unassigned --- */

struct range {
    uint32_t first, last;
};

static const struct range zero[] = {
    {0x0300, 0x036f}, {0x0483, 0x0489}, {0x0591, 0x05bd}, {0x05bf, 0x05bf},   {0x05c1, 0x05c2},
    {0x05c4, 0x05c5}, {0x0610, 0x061a}, {0x064b, 0x065f}, {0x0670, 0x0670},   {0x06d6, 0x06dc},
    {0x06df, 0x06e4}, {0x06e7, 0x06e8}, {0x06ea, 0x06ed}, {0x0900, 0x0902},   {0x093a, 0x093a},
    {0x093c, 0x093c}, {0x0941, 0x0948}, {0x094d, 0x094d}, {0x0e31, 0x0e31},   {0x0e34, 0x0e3a},
    {0x0e47, 0x0e4e}, {0x1160, 0x11ff}, {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff},   {0x200b, 0x200f},
    {0x202a, 0x202e}, {0x2060, 0x206f}, {0x20d0, 0x20ff}, {0x302a, 0x302d},   {0x3099, 0x309a},
    {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}, {0xfeff, 0xfeff}, {0x1f3fb, 0x1f3ff}, {0xe0000, 0xe0fff},
};

static const struct range wide[] = {
    {0x1100, 0x115f},   {0x231a, 0x231b},   {0x2329, 0x232a},   {0x23e9, 0x23ec},
    {0x23f0, 0x23f0},   {0x23f3, 0x23f3},   {0x25fd, 0x25fe},   {0x2614, 0x2615},
    {0x2648, 0x2653},   {0x267f, 0x267f},   {0x2693, 0x2693},   {0x26a1, 0x26a1},
    {0x26aa, 0x26ab},   {0x26bd, 0x26be},   {0x26c4, 0x26c5},   {0x26ce, 0x26ce},
    {0x26d4, 0x26d4},   {0x26ea, 0x26ea},   {0x26f2, 0x26f3},   {0x26f5, 0x26f5},
    {0x26fa, 0x26fa},   {0x26fd, 0x26fd},   {0x2705, 0x2705},   {0x270a, 0x270b},
    {0x2728, 0x2728},   {0x274c, 0x274c},   {0x274e, 0x274e},   {0x2753, 0x2755},
    {0x2757, 0x2757},   {0x2795, 0x2797},   {0x27b0, 0x27b0},   {0x27bf, 0x27bf},
    {0x2b1b, 0x2b1c},   {0x2b50, 0x2b50},   {0x2b55, 0x2b55},   {0x2e80, 0x303e},
    {0x3041, 0x33ff},   {0x3400, 0x4dbf},   {0x4e00, 0xa4cf},   {0xa960, 0xa97f},
    {0xac00, 0xd7a3},   {0xf900, 0xfaff},   {0xfe10, 0xfe19},   {0xfe30, 0xfe6f},
    {0xff00, 0xff60},   {0xffe0, 0xffe6},   {0x16fe0, 0x18dff}, {0x1aff0, 0x1b2ff},
    {0x1f004, 0x1f004}, {0x1f0cf, 0x1f0cf}, {0x1f18e, 0x1f18e}, {0x1f191, 0x1f19a},
    {0x1f200, 0x1f320}, {0x1f32d, 0x1f335}, {0x1f337, 0x1f37c}, {0x1f37e, 0x1f393},
    {0x1f3a0, 0x1f3ca}, {0x1f3cf, 0x1f3d3}, {0x1f3e0, 0x1f3f0}, {0x1f3f4, 0x1f3f4},
    {0x1f3f8, 0x1f43e}, {0x1f440, 0x1f440}, {0x1f442, 0x1f4fc}, {0x1f4ff, 0x1f53d},
    {0x1f54b, 0x1f54e}, {0x1f550, 0x1f567}, {0x1f57a, 0x1f57a}, {0x1f595, 0x1f596},
    {0x1f5a4, 0x1f5a4}, {0x1f5fb, 0x1f64f}, {0x1f680, 0x1f6c5}, {0x1f6cc, 0x1f6cc},
    {0x1f6d0, 0x1f6d2}, {0x1f6d5, 0x1f6df}, {0x1f6eb, 0x1f6ec}, {0x1f6f4, 0x1f6fc},
    {0x1f7e0, 0x1f7eb}, {0x1f7f0, 0x1f7f0}, {0x1f90c, 0x1f93a}, {0x1f93c, 0x1f945},
    {0x1f947, 0x1f9ff}, {0x1fa70, 0x1faff}, {0x20000, 0x2fffd}, {0x30000, 0x3fffd},
};

static bool in_ranges(uint32_t c, const struct range *r, size_t n)
{
    size_t low = 0;
    while (low < n) {
        size_t mid = low + (n - low) / 2;
        if (c > r[mid].last)
            low = mid + 1;
        else if (c < r[mid].first)
            n = mid;
        else
            return true;
    }
    return false;
}

static uint32_t code_point(struct str s, size_t len)
{
    static const uint8_t mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t c = (uint8_t)s.p[0] & mask[len];
    for (size_t i = 1; i < len; i++)
        c = c << 6 | ((uint8_t)s.p[i] & 0x3f);
    return c;
}

/* The first character: its bytes and cells; bytes 0 when it must be replaced. */
static size_t first_char(struct str s, unsigned *cells)
{
    size_t len = str_utf8_len(s);
    *cells = 1;
    if (!len)
        return 0;
    uint32_t c = code_point(s, len);
    if (c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) ||
        (c >= 0x2066 && c <= 0x2069))
        return 0; /* controls, and what would turn the direction of the line */
    if (in_ranges(c, zero, ARRAY_LEN(zero)))
        *cells = 0;
    else if (in_ranges(c, wide, ARRAY_LEN(wide)))
        *cells = 2;
    return len;
}

static size_t skip_char(struct str s, size_t shown)
{
    return shown ? shown : max_size(str_utf8_len(s), 1);
}

unsigned text_cells(struct str s)
{
    unsigned total = 0, cells;
    for (; s.n; total += cells)
        s = str_skip(s, skip_char(s, first_char(s, &cells)));
    return total;
}

unsigned text_add_cut(struct buf *out, struct str s, unsigned cells, bool ascii)
{
    bool cut = text_cells(s) > cells;
    unsigned room = cut && cells ? cells - 1 : cells, taken = 0, one;
    while (s.n) {
        size_t n = first_char(s, &one);
        if (taken + one > room)
            break;
        if (!n || (ascii && n > 1))
            buf_add_c(out, one == 2 ? "??" : one ? "?" : "");
        else
            buf_add(out, s.p, n);
        taken += one;
        s = str_skip(s, skip_char(s, n));
    }
    if (cut && cells) {
        buf_add_c(out, ascii ? "." : "…");
        taken++;
    }
    return taken;
}

void text_add_padded(struct buf *out, struct str s, unsigned cells, bool ascii)
{
    for (unsigned n = text_add_cut(out, s, cells, ascii); n < cells; n++)
        buf_add_char(out, ' ');
}

/* --- numbers --- */

const char *text_duration(uint64_t ns, bool ascii, char out[32])
{
    static const struct {
        uint64_t below, unit;
        const char *name, *plain;
    } units[] = {{NS_PER_US, 1, "ns", "ns"},
                 {NS_PER_MS, NS_PER_US, "µs", "us"},
                 {NS_PER_S, NS_PER_MS, "ms", "ms"},
                 {60 * NS_PER_S, NS_PER_S, "s", "s"}};
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (ns >= units[i].below)
            continue;
        double v = (double)ns / (double)units[i].unit;
        int digits = i == 0 || v >= 99.95 ? 0 : v >= 9.995 ? 1 : 2;
        if (v >= 999.5 && i + 1 < ARRAY_LEN(units))
            snprintf(out, 32, "1.00%s", ascii ? units[i + 1].plain : units[i + 1].name);
        else
            snprintf(out, 32, "%.*f%s", digits, v, ascii ? units[i].plain : units[i].name);
        return out;
    }
    uint64_t s = ns / NS_PER_S;
    if (s < 3600)
        snprintf(out, 32, "%um%02us", (unsigned)(s / 60), (unsigned)(s % 60));
    else if (s < 86400)
        snprintf(out, 32, "%uh%02um", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
    else
        snprintf(out, 32, "%llud%02uh", (unsigned long long)(s / 86400), (unsigned)(s / 3600 % 24));
    return out;
}

const char *text_count(uint64_t n, char out[32])
{
    char digits[NUM_TEXT_MAX];
    size_t len = num_put_u64(digits, n), at = 0;
    for (size_t i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
    return out;
}
