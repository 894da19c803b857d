/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/json.h"

#include "base/bytes.h"
#include "base/jsontext.h"
#include "base/num.h"

/* --- reader --- */

/* What may come next. */
enum {
    WANT_VALUE,
    WANT_VALUE_OR_END, /* behind '[' */
    WANT_KEY,
    WANT_KEY_OR_END, /* behind '{' */
    WANT_COLON,
    WANT_COMMA_OR_END,
    WANT_NOTHING
};

void json_reader_init(struct json_reader *r, struct str in, struct arena *a)
{
    *r = (struct json_reader){.start = in.p, .at = in.p, .arena = a, .want = WANT_VALUE};
    r->end = in.n ? in.p + in.n : in.p;
}

static enum json_type reader_fail(struct json_reader *r, enum errc err, const char *why)
{
    r->err = err;
    r->why = why;
    return r->type = JSON_ERROR;
}

static enum json_type reader_ended(struct json_reader *r)
{
    r->at = r->end;
    return reader_fail(r, E_TRUNCATED, "input ends too early");
}

static enum json_type unexpected(struct json_reader *r)
{
    return reader_fail(r, E_INVALID, "unexpected character");
}

static bool in_object(const struct json_reader *r)
{
    return r->depth && r->stack[(r->depth - 1) / 8] >> ((r->depth - 1) % 8) & 1;
}

static void value_done(struct json_reader *r)
{
    r->want = r->depth ? WANT_COMMA_OR_END : WANT_NOTHING;
}

static enum json_type push(struct json_reader *r, enum json_type type)
{
    if (r->depth == JSON_DEPTH_MAX)
        return reader_fail(r, E_DEPTH, "nested too deep");
    uint8_t bit = (uint8_t)(1u << (r->depth % 8)), *level = &r->stack[r->depth / 8];
    *level = type == JSON_OBJECT ? *level | bit : *level & (uint8_t)~bit;
    r->depth++;
    r->at++;
    r->want = type == JSON_OBJECT ? WANT_KEY_OR_END : WANT_VALUE_OR_END;
    return r->type = type;
}

static enum json_type pop(struct json_reader *r)
{
    enum json_type type = in_object(r) ? JSON_OBJECT_END : JSON_ARRAY_END;
    r->depth--;
    r->at++;
    value_done(r);
    return r->type = type;
}

static enum json_type literal(struct json_reader *r, struct str word, enum json_type type)
{
    size_t left = (size_t)(r->end - r->at);
    if (memcmp(r->at, word.p, min_size(left, word.n)) != 0)
        return unexpected(r);
    if (left < word.n)
        return reader_ended(r);
    r->at += word.n;
    value_done(r);
    return r->type = type;
}

static const char *digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

static enum json_type number(struct json_reader *r)
{
    const char *p = r->at, *part, *end = r->end;
    p += *p == '-';
    part = p;
    p = p < end && *p == '0' ? p + 1 : digits(p, end); /* no leading zeros */
    bool ok = p > part;
    if (ok && p < end && *p == '.') {
        part = ++p;
        p = digits(p, end);
        ok = p > part;
    }
    if (ok && p < end && (*p == 'e' || *p == 'E')) {
        p++;
        p += p < end && (*p == '+' || *p == '-');
        part = p;
        p = digits(p, end);
        ok = p > part;
    }
    if (!ok) {
        r->at = p;
        return p == end ? reader_ended(r) : reader_fail(r, E_INVALID, "malformed number");
    }
    r->text = str_of(r->at, (size_t)(p - r->at));
    r->at = p;
    value_done(r);
    return r->type = JSON_NUMBER;
}

#define ONES  UINT64_C(0x0101010101010101)
#define HIGHS UINT64_C(0x8080808080808080)

/* The first quote, backslash or control character from p on, or end. */
static const char *plain_end(const char *p, const char *end)
{
    for (; end - p >= 8; p += 8) {
        uint64_t v = load_u64le(p), quote = v ^ (ONES * '"'), slash = v ^ (ONES * '\\');
        uint64_t hit = ((v - ONES * 0x20) & ~v) | ((quote - ONES) & ~quote) |
                       ((slash - ONES) & ~slash);
        if (hit & HIGHS)
            return p + __builtin_ctzll(hit & HIGHS) / 8;
    }
    while (p < end && (unsigned char)*p >= 0x20 && *p != '"' && *p != '\\')
        p++;
    return p;
}

/* Four hex digits; -1 when they are not. */
static int hex4(const char *p, const char *end)
{
    uint8_t two[2];
    if (end - p < 4 || !num_get_hex(str_of(p, 4), two, 2))
        return -1;
    return two[0] << 8 | two[1];
}

static char *put_utf8(char *to, unsigned c)
{
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *to++ = (char)(0xe0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    } else {
        *to++ = (char)(0xf0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 0x3f));
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    }
    return to;
}

/* The character behind a checked \u at *p, moved past it and past a second half; a surrogate
 * without its half is U+FFFD. */
static unsigned unicode(const char **p, const char *end)
{
    unsigned c = (unsigned)hex4(*p, end);
    *p += 4;
    if (c - 0xd800u >= 0x800u)
        return c;
    if (c < 0xdc00 && end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u') {
        unsigned low = (unsigned)hex4(*p + 2, end);
        if (low - 0xdc00u < 0x400u) {
            *p += 6;
            return 0x10000u + ((c - 0xd800u) << 10) + (low - 0xdc00u);
        }
    }
    return 0xfffd;
}

static char simple_escape(char c)
{
    switch (c) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case '"':
    case '\\':
    case '/':
        return c;
    default:
        return 0;
    }
}

/* Finds the closing quote from r->at (behind the opening one) on, checking every escape. NULL with
 * the error set. */
static const char *string_end(struct json_reader *r, bool *escaped)
{
    const char *p = r->at;
    for (;;) {
        p = plain_end(p, r->end);
        if (p < r->end && *p == '"')
            return p;
        *escaped = true;
        r->at = p;
        if (p == r->end || p + 1 == r->end) {
            reader_ended(r);
            return NULL;
        }
        if ((unsigned char)*p < 0x20) {
            reader_fail(r, E_INVALID, "control character in a string");
            return NULL;
        }
        bool wide = p[1] == 'u' && hex4(p + 2, r->end) >= 0;
        if (!wide && !simple_escape(p[1])) {
            if (p[1] == 'u' && r->end - p < 6)
                reader_ended(r);
            else
                reader_fail(r, E_INVALID, "malformed escape");
            return NULL;
        }
        p += wide ? 6 : 2;
    }
}

/* Unescapes what string_end has checked. An escape is never shorter than what it stands for. */
static struct str unescaped(struct arena *a, const char *p, const char *end)
{
    char *text = arena_alloc(a, (size_t)(end - p), 1), *to = text;
    if (!text)
        return STR_NONE;
    while (p < end) {
        const char *stop = memchr(p, '\\', (size_t)(end - p));
        size_t n = (size_t)((stop ? stop : end) - p);
        memcpy(to, p, n);
        to += n;
        p += n;
        if (p == end)
            break;
        char c = p[1];
        p += 2;
        if (c == 'u')
            to = put_utf8(to, unicode(&p, end));
        else
            *to++ = simple_escape(c);
    }
    return str_of(text, (size_t)(to - text));
}

static enum json_type string(struct json_reader *r, enum json_type type)
{
    bool escaped = false;
    const char *start = ++r->at, *end = string_end(r, &escaped);
    if (!end)
        return JSON_ERROR;
    if (escaped && !r->skipping) {
        r->text = unescaped(r->arena, start, end);
        if (!r->text.p)
            return reader_fail(r, E_NO_MEMORY, "no memory for a string");
    } else {
        r->text = str_of(start, (size_t)(end - start));
    }
    r->at = end + 1;
    if (type == JSON_KEY)
        r->want = WANT_COLON;
    else
        value_done(r);
    return r->type = type;
}

static enum json_type value(struct json_reader *r)
{
    switch (*r->at) {
    case '"':
        return string(r, JSON_STRING);
    case '{':
        return push(r, JSON_OBJECT);
    case '[':
        return push(r, JSON_ARRAY);
    case 't':
        return literal(r, STR("true"), JSON_TRUE);
    case 'f':
        return literal(r, STR("false"), JSON_FALSE);
    case 'n':
        return literal(r, STR("null"), JSON_NULL);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return number(r);
    default:
        return unexpected(r);
    }
}

/* Moves to the next byte that is not white space; false at the end of the input. */
static bool skip_space(struct json_reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
        r->at++;
    return r->at < r->end;
}

enum json_type json_next(struct json_reader *r)
{
    if (r->type == JSON_ERROR)
        return JSON_ERROR;
    while (skip_space(r)) {
        char c = *r->at;
        switch (r->want) {
        case WANT_COLON:
            if (c != ':')
                return unexpected(r);
            r->at++;
            r->want = WANT_VALUE;
            continue;
        case WANT_COMMA_OR_END:
            if (c == (in_object(r) ? '}' : ']'))
                return pop(r);
            if (c != ',')
                return unexpected(r);
            r->at++;
            r->want = in_object(r) ? WANT_KEY : WANT_VALUE;
            continue;
        case WANT_KEY_OR_END:
            if (c == '}')
                return pop(r);
            return c == '"' ? string(r, JSON_KEY) : unexpected(r);
        case WANT_KEY:
            return c == '"' ? string(r, JSON_KEY) : unexpected(r);
        case WANT_VALUE_OR_END:
            return c == ']' ? pop(r) : value(r);
        case WANT_VALUE:
            return value(r);
        default:
            return reader_fail(r, E_INVALID, "something behind the value");
        }
    }
    return r->want == WANT_NOTHING ? (r->type = JSON_END) : reader_ended(r);
}

void json_skip(struct json_reader *r)
{
    if (r->type != JSON_OBJECT && r->type != JSON_ARRAY)
        return;
    unsigned outside = r->depth - 1;
    r->skipping = true;
    while (r->depth > outside && json_next(r) != JSON_ERROR) {
    }
    r->skipping = false;
}

/* --- writer --- */

static void new_line(struct json_writer *w)
{
    static const char spaces[] = "                                ";
    buf_add_char(w->out, '\n');
    for (size_t n = (size_t)w->indent * w->depth; n;) {
        size_t part = min_size(n, sizeof spaces - 1);
        buf_add(w->out, spaces, part);
        n -= part;
    }
}

/* What stands between the value before and the one to come. */
static void separate(struct json_writer *w)
{
    if (w->after_key) {
        w->after_key = false;
        return;
    }
    if (w->depth && w->comma)
        buf_add_char(w->out, ',');
    if (w->depth && w->indent)
        new_line(w);
    w->comma = true;
}

static void open_with(struct json_writer *w, char c)
{
    separate(w);
    buf_add_char(w->out, c);
    w->depth++;
    w->comma = false;
}

static void close_with(struct json_writer *w, char c)
{
    w->depth--;
    if (w->comma && w->indent)
        new_line(w);
    buf_add_char(w->out, c);
    w->comma = true;
}

void json_object(struct json_writer *w)
{
    open_with(w, '{');
}

void json_object_end(struct json_writer *w)
{
    close_with(w, '}');
}

void json_array(struct json_writer *w)
{
    open_with(w, '[');
}

void json_array_end(struct json_writer *w)
{
    close_with(w, ']');
}

void json_key(struct json_writer *w, struct str key)
{
    separate(w);
    jsontext_str(w->out, key);
    buf_add_char(w->out, ':');
    if (w->indent)
        buf_add_char(w->out, ' ');
    w->after_key = true;
}

void json_str(struct json_writer *w, struct str s)
{
    separate(w);
    jsontext_str(w->out, s);
}

void json_raw(struct json_writer *w, struct str json)
{
    separate(w);
    buf_add_str(w->out, json);
}

void json_i64(struct json_writer *w, int64_t v)
{
    char text[NUM_TEXT_MAX];
    json_raw(w, str_of(text, num_put_i64(text, v)));
}

void json_u64(struct json_writer *w, uint64_t v)
{
    char text[NUM_TEXT_MAX];
    json_raw(w, str_of(text, num_put_u64(text, v)));
}

void json_u64_str(struct json_writer *w, uint64_t v)
{
    char text[NUM_TEXT_MAX + 2] = "\"";
    size_t n = 1 + num_put_u64(text + 1, v);
    text[n] = '"';
    json_raw(w, str_of(text, n + 1));
}

void json_i64_str(struct json_writer *w, int64_t v)
{
    char text[NUM_TEXT_MAX + 2] = "\"";
    size_t n = 1 + num_put_i64(text + 1, v);
    text[n] = '"';
    json_raw(w, str_of(text, n + 1));
}

void json_double(struct json_writer *w, double v)
{
    separate(w);
    jsontext_double(w->out, v);
}

void json_bool(struct json_writer *w, bool v)
{
    json_raw(w, v ? STR("true") : STR("false"));
}

void json_null(struct json_writer *w)
{
    json_raw(w, STR("null"));
}

void json_hex(struct json_writer *w, const void *bytes, size_t n)
{
    separate(w);
    if (!buf_reserve(w->out, 2 * n + 2))
        return;
    char *at = w->out->p + w->out->n;
    at[0] = '"';
    num_put_hex(at + 1, bytes, n);
    at[2 * n + 1] = '"';
    w->out->n += 2 * n + 2;
}

void json_base64(struct json_writer *w, struct str bytes)
{
    separate(w);
    buf_add_char(w->out, '"');
    num_put_base64(w->out, bytes);
    buf_add_char(w->out, '"');
}
