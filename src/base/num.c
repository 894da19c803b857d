/* SPDX-License-Identifier: Apache-2.0 */
/* Integers, bytes, hex, base64 and the parsing of decimal fractions. The printing of doubles is
 * num_double.c, times are num_time.c. */
#include "base/num.h"

#include <stdlib.h>

size_t num_put_u64(char *out, uint64_t v)
{
    char text[20];
    size_t at = sizeof text;
    do {
        text[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    memcpy(out, text + at, sizeof text - at);
    return sizeof text - at;
}

size_t num_put_i64(char *out, int64_t v)
{
    if (v >= 0)
        return num_put_u64(out, (uint64_t)v);
    out[0] = '-';
    return 1 + num_put_u64(out + 1, 0 - (uint64_t)v);
}

size_t num_put_hex(char *out, const void *p, size_t n)
{
    const uint8_t *in = p;
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = "0123456789abcdef"[in[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[in[i] & 15];
    }
    return 2 * n;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool num_get_u64(struct str s, uint64_t *v)
{
    uint64_t out = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (!is_digit(s.p[i]) || __builtin_mul_overflow(out, 10, &out) ||
            __builtin_add_overflow(out, (uint64_t)(s.p[i] - '0'), &out))
            return false;
    }
    *v = out;
    return s.n > 0;
}

bool num_get_i64(struct str s, int64_t *v)
{
    bool minus = s.n && s.p[0] == '-';
    uint64_t abs;
    if (!num_get_u64(str_skip(s, minus || (s.n && s.p[0] == '+')), &abs) ||
        abs > (uint64_t)INT64_MAX + minus)
        return false;
    *v = (int64_t)(minus ? 0 - abs : abs);
    return true;
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool num_get_hex(struct str s, void *out, size_t n)
{
    if (s.n / 2 != n || s.n % 2)
        return false;
    uint8_t *p = out;
    for (size_t i = 0; i < n; i++) {
        int high = hex_digit(s.p[2 * i]), low = hex_digit(s.p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        p[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static const struct unit {
    const char *name;
    uint64_t bytes;
} byte_units[] = {
    {"", 1},
    {"B", 1},
    {"K", 1000},
    {"KB", 1000},
    {"M", 1000000},
    {"MB", 1000000},
    {"G", 1000000000},
    {"GB", 1000000000},
    {"T", UINT64_C(1000000000000)},
    {"TB", UINT64_C(1000000000000)},
    {"P", UINT64_C(1000000000000000)},
    {"PB", UINT64_C(1000000000000000)},
    {"Ki", UINT64_C(1) << 10},
    {"KiB", UINT64_C(1) << 10},
    {"Mi", UINT64_C(1) << 20},
    {"MiB", UINT64_C(1) << 20},
    {"Gi", UINT64_C(1) << 30},
    {"GiB", UINT64_C(1) << 30},
    {"Ti", UINT64_C(1) << 40},
    {"TiB", UINT64_C(1) << 40},
    {"Pi", UINT64_C(1) << 50},
    {"PiB", UINT64_C(1) << 50},
};

bool num_get_bytes(struct str s, uint64_t *v)
{
    size_t digits = 0;
    while (digits < s.n && is_digit(s.p[digits]))
        digits++;
    uint64_t number;
    if (!num_get_u64(str_take(s, digits), &number))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(byte_units); i++)
        if (str_eq_nocase(str_skip(s, digits), str_from_c(byte_units[i].name)))
            return !__builtin_mul_overflow(number, byte_units[i].bytes, v);
    return false;
}

void num_put_base64(struct buf *out, struct str bytes)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (bytes.n > SIZE_MAX / 4 || !buf_reserve(out, (bytes.n + 2) / 3 * 4)) {
        out->failed = true;
        return;
    }
    const uint8_t *in = (const uint8_t *)bytes.p;
    char *to = buf_end(out);
    for (size_t left = bytes.n; left;) {
        size_t take = min_size(left, 3);
        uint32_t v = (uint32_t)in[0] << 16 | (take > 1 ? (uint32_t)in[1] << 8 : 0) |
                     (take > 2 ? in[2] : 0u);
        to[0] = alphabet[v >> 18];
        to[1] = alphabet[v >> 12 & 63];
        to[2] = take > 1 ? alphabet[v >> 6 & 63] : '=';
        to[3] = take > 2 ? alphabet[v & 63] : '=';
        to += 4;
        in += take;
        left -= take;
    }
    out->n = bytes.n ? (size_t)(to - out->p) : out->n;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (is_digit(c))
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

bool num_get_base64(struct str text, struct buf *out)
{
    size_t n = text.n;
    if (n && n % 4 == 0 && text.p[n - 1] == '=')
        n -= text.p[n - 2] == '=' ? 2 : 1;
    if (n % 4 == 1 || !buf_reserve(out, n / 4 * 3 + 2))
        return false;
    uint8_t *to = (uint8_t *)buf_end(out);
    uint32_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        int digit = base64_digit(text.p[i]);
        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4)
            *to++ = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    out->n = (size_t)(to - (uint8_t *)out->p);
    return true;
}

/* Powers of ten that a double holds exactly. */
static const double exact_powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                      1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                      1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* More significant digits than any double needs to be rounded right; those behind count as one
 * digit that is not zero. */
#define DIGITS_MAX 800

struct decimal {
    char digits[DIGITS_MAX + 32]; /* room for the sticky digit and the exponent */
    size_t n;
    int64_t exp10; /* value = digits * 10^exp10 */
    bool sticky;
};

static void decimal_add(struct decimal *d, char c, bool fraction)
{
    bool leading_zero = d->n == 0 && c == '0';
    if (d->n < DIGITS_MAX && !leading_zero) {
        d->digits[d->n++] = c;
        d->exp10 -= fraction;
        return;
    }
    if (leading_zero) {
        d->exp10 -= fraction;
        return;
    }
    d->sticky |= c != '0';
    d->exp10 += !fraction;
}

static double decimal_value(struct decimal *d)
{
    uint64_t whole;
    if (d->n == 0)
        return 0;
    if (d->n <= 15 && d->exp10 >= -22 && d->exp10 <= 22 &&
        num_get_u64(str_of(d->digits, d->n), &whole))
        return d->exp10 < 0 ? (double)whole / exact_powers[-d->exp10]
                            : (double)whole * exact_powers[d->exp10];
    if (d->sticky) {
        d->digits[d->n++] = '1';
        d->exp10--;
    }
    int64_t exp10 = d->exp10 < -100000 ? -100000 : d->exp10 > 100000 ? 100000 : d->exp10;
    d->digits[d->n] = 'e';
    size_t end = d->n + 1 + num_put_i64(d->digits + d->n + 1, exp10);
    d->digits[end] = '\0';
    return strtod(d->digits, NULL); /* has no decimal point: the same in every locale */
}

/* "e-12" at s; saturates far outside of what a double can hold. */
static bool get_exponent(struct str s, int64_t *exp10)
{
    bool minus = s.n > 1 && s.p[1] == '-';
    s = str_skip(s, s.n > 1 && (s.p[1] == '-' || s.p[1] == '+') ? 2 : 1);
    int64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (!is_digit(s.p[i]))
            return false;
        if (v < INT64_C(1000000000000000000) / 10)
            v = v * 10 + (s.p[i] - '0');
    }
    *exp10 = minus ? -v : v;
    return s.n > 0;
}

static bool get_special(struct str s, double *v)
{
    if (str_eq(s, STR("NaN")))
        *v = (double)__builtin_nanf("");
    else if (str_eq(s, STR("Infinity")))
        *v = (double)__builtin_inff();
    else
        return false;
    return true;
}

static bool get_unsigned(struct str s, double *v)
{
    struct decimal d;
    d.n = 0;
    d.exp10 = 0;
    d.sticky = false;
    size_t i = 0, digits = 0;
    bool fraction = false;
    for (; i < s.n; i++) {
        if (s.p[i] == '.' && !fraction) {
            fraction = true;
            continue;
        }
        if (!is_digit(s.p[i]))
            break;
        decimal_add(&d, s.p[i], fraction);
        digits++;
    }
    int64_t exp10 = 0;
    if (digits == 0)
        return get_special(s, v);
    if (i < s.n && ((s.p[i] | 0x20) != 'e' || !get_exponent(str_skip(s, i), &exp10)))
        return false;
    d.exp10 += exp10;
    *v = decimal_value(&d);
    return *v <= 1.7976931348623157e308;
}

bool num_get_double(struct str s, double *v)
{
    bool minus = s.n && s.p[0] == '-', plus = s.n && s.p[0] == '+';
    double abs;
    if (!get_unsigned(str_skip(s, minus || plus), &abs))
        return false;
    *v = minus ? -abs : abs;
    return true;
}
