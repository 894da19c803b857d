/* SPDX-License-Identifier: Apache-2.0 */
/* The shortest decimal that reads back to the same double.
 *
 * Nearly every double that people measure is a decimal of at most 15 digits. Two different decimals
 * of at most 15 digits never round to the same normal double, so the first one found that reads
 * back is the shortest: fast_decimal() looks for an m of at most 15 digits and a k with m / 10^k ==
 * v. The quotient of two exact doubles is rounded once, so the comparison is the reading back.
 *
 * What is left needs 16 or 17 digits, or stands far from 1: there the C library prints with rising
 * precision until strtod agrees. Below the normal range fewer than 15 digits may do. At a power of
 * two the interval of doubles that round to v is wider above than below, so the next higher decimal
 * may be the shorter one that reads back. */
#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FRACTION_MAX 9
#define M_LIMIT      1e15
#define NORMAL_LEAST 2.2250738585072014e-308

/* digits * 10^exp10, digits without trailing zeros. */
struct shortest {
    uint64_t digits;
    int exp10;
};

static bool fast_decimal(double v, struct shortest *out)
{
    static const double powers[FRACTION_MAX + 1] = {1e0, 1e1, 1e2, 1e3, 1e4,
                                                    1e5, 1e6, 1e7, 1e8, 1e9};
    for (int k = 0; k <= FRACTION_MAX; k++) {
        double m = nearbyint(v * powers[k]);
        if (m >= M_LIMIT)
            return false;
        if (m >= 1 && m / powers[k] == v) {
            *out = (struct shortest){(uint64_t)m, -k};
            return true;
        }
    }
    return false;
}

static bool reads_back(uint64_t digits, int exp10, double v)
{
    char text[48];
    snprintf(text, sizeof text, "%llue%d", (unsigned long long)digits, exp10);
    return strtod(text, NULL) == v;
}

/* v rounded to `precision` digits; the decimal point of the locale is stepped over. */
static struct shortest print_rounded(double v, int precision)
{
    char text[48];
    snprintf(text, sizeof text, "%.*e", precision - 1, v);
    struct shortest s = {0, 0};
    const char *p = text;
    for (; *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            s.digits = s.digits * 10 + (uint64_t)(*p - '0');
    s.exp10 = (int)strtol(p + 1, NULL, 10) - (precision - 1);
    return s;
}

static bool is_power_of_two(double v)
{
    int exp;
    return frexp(v, &exp) == 0.5;
}

static struct shortest slow_decimal(double v)
{
    int precision = v < NORMAL_LEAST ? 1 : 15;
    for (;; precision++) {
        struct shortest s = print_rounded(v, precision);
        if (precision == 17 || reads_back(s.digits, s.exp10, v))
            return s;
        if (is_power_of_two(v) && reads_back(s.digits + 1, s.exp10, v)) {
            s.digits++;
            return s;
        }
    }
}

static size_t put_fill(char *out, size_t at, const char *from, size_t n)
{
    if (from)
        memcpy(out + at, from, n);
    else
        memset(out + at, '0', n);
    return at + n;
}

/* Number::toString of ECMAScript: k digits, the decimal point behind the first n of them. */
static size_t put_ecmascript(char *out, const char *digits, size_t k, int n)
{
    size_t at = 0;
    if (n >= (int)k && n <= 21) {
        at = put_fill(out, at, digits, k);
        return put_fill(out, at, NULL, (size_t)n - k);
    }
    if (n > 0 && n <= 21) {
        at = put_fill(out, at, digits, (size_t)n);
        out[at++] = '.';
        return put_fill(out, at, digits + n, k - (size_t)n);
    }
    if (n > -6 && n <= 0) {
        at = put_fill(out, at, "0.", 2);
        at = put_fill(out, at, NULL, (size_t)-n);
        return put_fill(out, at, digits, k);
    }
    out[at++] = digits[0];
    if (k > 1) {
        out[at++] = '.';
        at = put_fill(out, at, digits + 1, k - 1);
    }
    out[at++] = 'e';
    out[at++] = n - 1 < 0 ? '-' : '+';
    return at + num_put_u64(out + at, (uint64_t)abs(n - 1));
}

static size_t put_name(char *out, const char *name)
{
    size_t n = strlen(name);
    memcpy(out, name, n);
    return n;
}

/* The sign of zero is kept, unlike in ECMAScript: nothing may be lost. */
size_t num_put_double(char *out, double v)
{
    if (isnan(v))
        return put_name(out, "NaN");
    size_t at = 0;
    if (signbit(v)) {
        out[at++] = '-';
        v = -v;
    }
    if (isinf(v))
        return at + put_name(out + at, "Infinity");
    if (v < 1e15 && v == (double)(uint64_t)v)
        return at + num_put_u64(out + at, (uint64_t)v);
    struct shortest s;
    if (!fast_decimal(v, &s))
        s = slow_decimal(v);
    while (s.digits % 10 == 0) {
        s.digits /= 10;
        s.exp10++;
    }
    char digits[NUM_TEXT_MAX];
    size_t k = num_put_u64(digits, s.digits);
    return at + put_ecmascript(out + at, digits, k, (int)k + s.exp10);
}
