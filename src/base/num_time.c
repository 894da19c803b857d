/* SPDX-License-Identifier: Apache-2.0 */
/* Durations as Go writes and reads them, times as RFC 3339 does. */
#include "base/num.h"

#define NS_PER_MIN  (60 * NS_PER_S)
#define NS_PER_HOUR (60 * NS_PER_MIN)

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const struct unit {
    const char *name;
    uint64_t ns;
} duration_units[] = {
    {"ns", 1},
    {"us", NS_PER_US},
    {"\xc2\xb5s", NS_PER_US}, /* U+00B5 */
    {"\xce\xbcs", NS_PER_US}, /* U+03BC */
    {"ms", NS_PER_MS},
    {"s", NS_PER_S},
    {"m", NS_PER_MIN},
    {"h", NS_PER_HOUR},
};

/* A unit's name ends at the next digit or point. */
static bool take_unit(struct str *s, uint64_t *ns)
{
    size_t n = 0;
    while (n < s->n && s->p[n] != '.' && !is_digit(s->p[n]))
        n++;
    for (size_t i = 0; i < ARRAY_LEN(duration_units); i++)
        if (str_eq_c(str_take(*s, n), duration_units[i].name)) {
            *ns = duration_units[i].ns;
            *s = str_skip(*s, n);
            return true;
        }
    return false;
}

#define DURATION_LIMIT (UINT64_C(1) << 63)

/* The digits behind the point as so many ns of `unit`; those that do not fit change nothing. The
 * order of the divisions is Go's, so that both read a text alike. */
static uint64_t fraction_ns(struct str digits, uint64_t unit)
{
    uint64_t number = 0;
    double scale = 1;
    for (size_t i = 0; i < digits.n && number <= (DURATION_LIMIT - 10) / 10; i++) {
        number = number * 10 + (uint64_t)(digits.p[i] - '0');
        scale *= 10;
    }
    return (uint64_t)((double)number * ((double)unit / scale));
}

static struct str take_all_digits(struct str *s)
{
    size_t n = 0;
    while (n < s->n && is_digit(s->p[n]))
        n++;
    struct str digits = str_take(*s, n);
    *s = str_skip(*s, n);
    return digits;
}

/* One "12.5ms" off the front of *s, added to *sum. */
static bool take_term(struct str *s, uint64_t *sum)
{
    uint64_t number = 0, unit, ns;
    struct str whole = take_all_digits(s), fraction = STR("");
    if (s->n && s->p[0] == '.') {
        *s = str_skip(*s, 1);
        fraction = take_all_digits(s);
    }
    if (whole.n + fraction.n == 0 || (whole.n && !num_get_u64(whole, &number)))
        return false;
    if (!take_unit(s, &unit) || __builtin_mul_overflow(number, unit, &ns) || ns > DURATION_LIMIT)
        return false;
    ns += fraction_ns(fraction, unit);
    return !__builtin_add_overflow(*sum, ns, sum) && *sum <= DURATION_LIMIT;
}

bool num_get_duration(struct str s, int64_t *ns)
{
    bool minus = s.n && s.p[0] == '-';
    s = str_skip(s, s.n && (s.p[0] == '-' || s.p[0] == '+'));
    uint64_t sum = 0;
    if (s.n == 0)
        return false;
    if (str_eq(s, STR("0"))) /* the one number that needs no unit */
        s.n = 0;
    while (s.n)
        if (!take_term(&s, &sum))
            return false;
    if (sum > DURATION_LIMIT - !minus)
        return false;
    *ns = (int64_t)(minus ? 0 - sum : sum);
    return true;
}

/* v / unit with as many digits behind the point as needed. */
static size_t put_fraction(char *out, uint64_t v, uint64_t unit)
{
    size_t n = num_put_u64(out, v / unit);
    uint64_t rest = v % unit;
    if (rest)
        out[n++] = '.';
    for (; rest; rest %= unit) {
        unit /= 10;
        out[n++] = (char)('0' + rest / unit);
    }
    return n;
}

static size_t put_unit(char *out, const char *unit)
{
    size_t n = strlen(unit);
    memcpy(out, unit, n);
    return n;
}

size_t num_put_duration(char *out, int64_t ns)
{
    uint64_t v = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    size_t n = 0;
    if (ns < 0)
        out[n++] = '-';
    if (v && v < NS_PER_S) {
        uint64_t unit = v < NS_PER_US ? 1 : v < NS_PER_MS ? NS_PER_US : NS_PER_MS;
        n += put_fraction(out + n, v, unit);
        return n + put_unit(out + n, unit == 1 ? "ns" : unit == NS_PER_US ? "\xc2\xb5s" : "ms");
    }
    if (v >= NS_PER_HOUR) {
        n += num_put_u64(out + n, v / NS_PER_HOUR);
        out[n++] = 'h';
    }
    if (v >= NS_PER_MIN) {
        n += num_put_u64(out + n, v % NS_PER_HOUR / NS_PER_MIN);
        out[n++] = 'm';
    }
    n += put_fraction(out + n, v % NS_PER_MIN, NS_PER_S);
    out[n++] = 's';
    return n;
}

/* Days since 1970-01-01 of a date in the Gregorian calendar. The year begins in March so that the
 * leap day is its last. */
static int64_t days_from_date(int64_t year, unsigned month, unsigned day)
{
    year -= month <= 2;
    int64_t era = year / 400, of_era = year % 400; /* year is never negative here */
    int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void date_from_days(uint64_t days, unsigned *year, unsigned *month, unsigned *day)
{
    uint64_t z = days + 719468, era = z / 146097, of_era = z % 146097;
    uint64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint64_t of_year = of_era - (365 * y + y / 4 - y / 100), m = (5 * of_year + 2) / 153;
    *day = (unsigned)(of_year - (153 * m + 2) / 5 + 1);
    *month = (unsigned)(m < 10 ? m + 3 : m - 9);
    *year = (unsigned)(y + era * 400 + (*month <= 2));
}

static unsigned days_in(unsigned year, unsigned month)
{
    static const unsigned char days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

static bool take_digits(struct str *s, size_t n, unsigned *v)
{
    if (s->n < n)
        return false;
    *v = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_digit(s->p[i]))
            return false;
        *v = *v * 10 + (unsigned)(s->p[i] - '0');
    }
    *s = str_skip(*s, n);
    return true;
}

static bool take_char(struct str *s, const char *any_of)
{
    if (s->n == 0 || s->p[0] == '\0' || !strchr(any_of, s->p[0]))
        return false;
    *s = str_skip(*s, 1);
    return true;
}

static bool take_date(struct str *s, int64_t *seconds)
{
    unsigned year, month, day;
    if (!take_digits(s, 4, &year) || !take_char(s, "-") || !take_digits(s, 2, &month) ||
        !take_char(s, "-") || !take_digits(s, 2, &day))
        return false;
    if (year == 0 || month < 1 || month > 12 || day < 1 || day > days_in(year, month))
        return false;
    *seconds = days_from_date(year, month, day) * 86400;
    return true;
}

static bool take_clock(struct str *s, int64_t *seconds)
{
    unsigned hour, minute, second;
    if (!take_digits(s, 2, &hour) || !take_char(s, ":") || !take_digits(s, 2, &minute) ||
        !take_char(s, ":") || !take_digits(s, 2, &second))
        return false;
    *seconds += hour * 3600 + minute * 60 + second;
    return hour < 24 && minute < 60 && second < 60;
}

static bool take_nanoseconds(struct str *s, uint64_t *ns)
{
    *ns = 0;
    if (!take_char(s, "."))
        return true;
    uint64_t unit = NS_PER_S;
    for (; s->n && is_digit(s->p[0]) && unit > 1; *s = str_skip(*s, 1)) {
        unit /= 10;
        *ns += (uint64_t)(s->p[0] - '0') * unit;
    }
    return unit < NS_PER_S;
}

static bool take_offset(struct str *s, int64_t *seconds)
{
    unsigned hours, minutes;
    *seconds = 0;
    if (take_char(s, "Zz"))
        return true;
    bool minus = s->n && s->p[0] == '-';
    if (!take_char(s, "+- ") || !take_digits(s, 2, &hours) || !take_char(s, ":") ||
        !take_digits(s, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *seconds = (int64_t)(hours * 3600 + minutes * 60) * (minus ? -1 : 1);
    return true;
}

bool num_get_rfc3339(struct str s, uint64_t *unix_ns)
{
    int64_t seconds, offset;
    uint64_t ns;
    if (!take_date(&s, &seconds) || !take_char(&s, "Tt ") || !take_clock(&s, &seconds) ||
        !take_nanoseconds(&s, &ns) || !take_offset(&s, &offset) || s.n)
        return false;
    seconds -= offset;
    return seconds >= 0 && !__builtin_mul_overflow((uint64_t)seconds, NS_PER_S, unix_ns) &&
           !__builtin_add_overflow(*unix_ns, ns, unix_ns);
}

static size_t put_padded(char *out, unsigned v, size_t digits, char after)
{
    for (size_t i = digits; i-- > 0; v /= 10)
        out[i] = (char)('0' + v % 10);
    out[digits] = after;
    return digits + 1;
}

size_t num_put_rfc3339(char *out, uint64_t unix_ns)
{
    uint64_t seconds = unix_ns / NS_PER_S;
    unsigned year, month, day, clock = (unsigned)(seconds % 86400);
    date_from_days(seconds / 86400, &year, &month, &day);
    size_t n = put_padded(out, year, 4, '-');
    n += put_padded(out + n, month, 2, '-');
    n += put_padded(out + n, day, 2, 'T');
    n += put_padded(out + n, clock / 3600, 2, ':');
    n += put_padded(out + n, clock / 60 % 60, 2, ':');
    n += put_padded(out + n, clock % 60, 2, 'Z');
    uint64_t rest = unix_ns % NS_PER_S;
    if (rest) {
        /* "0.5" without its zero, over the Z. */
        char fraction[NUM_TEXT_MAX];
        size_t digits = put_fraction(fraction, rest, NS_PER_S) - 1;
        memcpy(out + n - 1, fraction + 1, digits);
        n += digits;
        out[n - 1] = 'Z';
    }
    return n;
}
