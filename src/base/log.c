/* SPDX-License-Identifier: Apache-2.0 */
/* A line is built whole on the stack and leaves in one write(2), so lines of different threads
 * never mix. What a client sent may stand in a message: control bytes, the backslash and bytes that
 * are not UTF-8 are escaped, so it can neither start a line of its own nor steer a terminal. */
#include "base/log.h"

#include "base/num.h"
#include "base/os/os.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define LOG_MESSAGE_MAX 1024
/* Every byte of the message may become \u00XX, and the head is short. */
#define LOG_LINE_MAX (LOG_MESSAGE_MAX * 6 + 256)

static _Atomic int least_level = LOG_INFO;
static _Atomic int line_format = LOG_TEXT;

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static const char *const level_labels[] = {"DEBUG", "INFO ", "WARN ", "ERROR"};

void log_setup(enum log_level least, enum log_format format)
{
    atomic_store_explicit(&least_level, (int)least, memory_order_relaxed);
    atomic_store_explicit(&line_format, (int)format, memory_order_relaxed);
}

bool log_level_from(struct str name, enum log_level *level)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++)
        if (str_eq_nocase(name, str_from_c(level_names[i]))) {
            *level = (enum log_level)i;
            return true;
        }
    return false;
}

bool log_on(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&least_level, memory_order_relaxed);
}

struct line {
    char p[LOG_LINE_MAX];
    size_t n;
};

static void add(struct line *l, struct str s)
{
    size_t n = min_size(s.n, sizeof l->p - l->n);
    memcpy(l->p + l->n, s.p, n);
    l->n += n;
}

static void add_c(struct line *l, const char *s)
{
    add(l, str_from_c(s));
}

static void add_escaped_byte(struct line *l, unsigned char c, bool json)
{
    char text[8];
    int n = snprintf(text, sizeof text, json ? "\\u%04x" : "\\x%02x", (unsigned)c);
    add(l, str_of(text, (size_t)n));
}

/* In JSON a byte that is not UTF-8 becomes the code point of its value: nothing is lost to the
 * reader's eye and the line stays valid. */
static void add_escaped(struct line *l, struct str s, bool json)
{
    while (s.n) {
        unsigned char c = (unsigned char)s.p[0];
        size_t len = str_utf8_len(s);
        bool c1_control = len == 2 && c == 0xc2 && (unsigned char)s.p[1] < 0xa0;
        if (len == 0 || c < 0x20 || c == 0x7f || c1_control) {
            add_escaped_byte(l, c1_control ? (unsigned char)s.p[1] : c, json);
            len = c1_control ? 2 : 1;
        } else {
            if (c == '\\' || (json && c == '"'))
                add(l, STR("\\"));
            add(l, str_take(s, len));
        }
        s = str_skip(s, len);
    }
}

/* "2026-11-20T21:00:00.123Z": always three digits, so that lines stand in columns. */
static void add_time(struct line *l, uint64_t now_ns)
{
    char text[NUM_TEXT_MAX], milli[8];
    size_t n = num_put_rfc3339(text, now_ns - now_ns % NS_PER_S);
    unsigned ms = (unsigned)(now_ns % NS_PER_S / NS_PER_MS);
    snprintf(milli, sizeof milli, ".%03uZ", ms % 1000);
    add(l, str_of(text, n - 1));
    add_c(l, milli);
}

static void write_line(enum log_level level, const char *area, struct str message)
{
    struct line l;
    l.n = 0;
    bool json = atomic_load_explicit(&line_format, memory_order_relaxed) == LOG_JSON;
    if (json)
        add_c(&l, "{\"time\":\"");
    add_time(&l, os_now_ns(os_posix()));
    add_c(&l, json ? "\",\"level\":\"" : " ");
    add_c(&l, json ? level_names[level] : level_labels[level]);
    add_c(&l, json ? "\",\"area\":\"" : " ");
    add_escaped(&l, str_take(str_from_c(area), 16), json);
    add_c(&l, json ? "\",\"message\":\"" : ": ");
    add_escaped(&l, message, json);
    add_c(&l, json ? "\"}\n" : "\n");
    /* Nothing sensible can be done when standard error is gone or full. */
    ssize_t wrote = write(STDERR_FILENO, l.p, l.n);
    (void)wrote;
}

/* True when the line may be written. The thread that opens a new window learns how many lines of
 * the last one were left out. A line that races with the change of window may count in either. */
static bool admit(struct log_site *site, uint32_t *left_out)
{
    uint64_t now_s = os_mono_ns(os_posix()) / NS_PER_S + 1; /* 0 is "never" */
    uint64_t window_s = atomic_load_explicit(&site->window_s, memory_order_relaxed);
    *left_out = 0;
    if ((window_s == 0 || now_s - window_s >= LOG_WINDOW_S) &&
        atomic_compare_exchange_strong(&site->window_s, &window_s, now_s)) {
        atomic_store(&site->lines, 0);
        *left_out = atomic_exchange(&site->left_out, 0);
    }
    if (atomic_load_explicit(&site->lines, memory_order_relaxed) < LOG_BURST &&
        atomic_fetch_add(&site->lines, 1) < LOG_BURST)
        return true;
    atomic_fetch_add_explicit(&site->left_out, 1, memory_order_relaxed);
    return false;
}

void log_line(struct log_site *site, enum log_level level, const char *area, const char *fmt, ...)
{
    uint32_t left_out;
    if (!admit(site, &left_out))
        return;
    char message[LOG_MESSAGE_MAX];
    if (left_out) {
        int n = snprintf(message, sizeof message, "%u lines like the next were left out", left_out);
        write_line(level, area, str_of(message, (size_t)n));
    }
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    write_line(level, area, str_of(message, n < 0 ? 0 : min_size((size_t)n, sizeof message - 1)));
}
