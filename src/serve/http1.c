/* SPDX-License-Identifier: Apache-2.0 */
/* See http1.h for what is refused and docs/adr/003-http1-parser.md for why this parser is our own.
 *
 * Character classes come from one table (RFC 9110 section 5.6.2 and 5.5, RFC 3986): a byte is asked
 * for its class, never compared in ranges. */
#include "serve/http1.h"

#include "base/num.h"

static const struct {
    int status;
    const char *name, *text;
} verdicts[] = {
#define HTTP1_ROW(name, status, text) {status, #name, text},
    HTTP1_TABLE(HTTP1_ROW)
#undef HTTP1_ROW
};

int http1_status(enum http1_verdict v)
{
    return verdicts[v].status;
}

const char *http1_text(enum http1_verdict v)
{
    return verdicts[v].text;
}

const char *http1_name(enum http1_verdict v)
{
    return verdicts[v].name;
}

/* --- character classes --- */

enum {
    TOKEN = 1,  /* tchar */
    VALUE = 2,  /* field-content: VCHAR, SP, HTAB, obs-text */
    TARGET = 4, /* what may stand in a request target: visible ASCII but '#' */
    HOST = 8,   /* reg-name, IP literal, port */
};

#define T (TOKEN | VALUE | TARGET)
#define H (TOKEN | VALUE | TARGET | HOST)
#define V (VALUE | TARGET)
#define W (VALUE)
#define X (VALUE | TARGET | HOST)

/* clang-format off */
static const uint8_t classes[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, W, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    /*   !  "  #          $  %  &  '  (  )  *  +  ,  -  .  / */
    W, H, V, TOKEN|VALUE, H, H, H, H, X, X, H, H, X, H, H, V,
    /* 0-9 : ; < = > ? */
    H, H, H, H, H, H, H, H, H, H, X, X, V, X, V, V,
    /* @ A-O */
    V, H, H, H, H, H, H, H, H, H, H, H, H, H, H, H,
    /* P-Z [ \ ] ^ _ */
    H, H, H, H, H, H, H, H, H, H, H, X, V, X, T, H,
    /* ` a-o */
    T, H, H, H, H, H, H, H, H, H, H, H, H, H, H, H,
    /* p-z { | } ~ DEL */
    H, H, H, H, H, H, H, H, H, H, H, V, T, V, H, 0,
    W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W,
    W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W,
    W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W,
    W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W,
};
/* clang-format on */

#undef T
#undef H
#undef V
#undef W
#undef X

static bool all_of(struct str s, uint8_t class)
{
    for (size_t i = 0; i < s.n; i++)
        if (!(classes[(uint8_t)s.p[i]] & class))
            return false;
    return true;
}

/* --- where the head ends --- */

/* One line is complete (its CR LF seen). */
static enum http1_verdict scan_line_end(struct http1_scan *s, bool *done)
{
    if (s->line == 0 && (s->first || s->total > 2)) {
        *done = s->first;
        return s->first ? HTTP1_OK : HTTP1_BAD_REQUEST_LINE; /* a second leading empty line */
    }
    s->first = s->first || s->line > 0;
    s->line = 0;
    return HTTP1_OK;
}

static enum http1_verdict scan_limits(const struct http1_scan *s)
{
    if (!s->first && s->line > HTTP_TARGET_MAX + HTTP1_METHOD_MAX + 16)
        return HTTP1_TARGET_TOO_LONG;
    return s->total > HTTP1_HEAD_MAX ? HTTP1_HEADERS_TOO_BIG : HTTP1_OK;
}

enum http1_verdict http1_scan_feed(struct http1_scan *s, struct str in, size_t *used, bool *done)
{
    enum http1_verdict v = HTTP1_OK;
    size_t at = 0;
    *done = false;
    while (at < in.n && v == HTTP1_OK && !*done) {
        struct str rest = str_take(str_skip(in, at), HTTP1_HEAD_MAX + 1);
        size_t lf = str_find(rest, '\n');
        size_t n = min_size(lf + 1, rest.n);
        bool cr = lf ? rest.p[lf - 1] == '\r' : s->cr; /* the byte before the LF, or the last one */
        at += n;
        s->total += (uint32_t)n;
        if (lf == rest.n) {
            s->cr = cr;
            s->line += (uint32_t)n;
            v = scan_limits(s);
            continue;
        }
        if (!cr) {
            v = HTTP1_BARE_LF;
            break;
        }
        s->line += (uint32_t)n - 2; /* wraps below zero and back when the CR came before */
        s->cr = false;
        v = scan_limits(s);
        if (v == HTTP1_OK)
            v = scan_line_end(s, done);
    }
    *used = at;
    return v;
}

/* --- the request line --- */

/* Takes a line off *rest, without its CR LF. */
static enum http1_verdict take_line(struct str *rest, struct str *line)
{
    size_t lf = str_find(*rest, '\n');
    if (lf == rest->n || lf == 0 || rest->p[lf - 1] != '\r')
        return HTTP1_BARE_LF;
    *line = str_take(*rest, lf - 1);
    *rest = str_skip(*rest, lf + 1);
    return str_find(*line, '\r') == line->n ? HTTP1_OK : HTTP1_BARE_CR;
}

static bool method_known(struct str m)
{
    static const char *const known[] = {"GET",     "HEAD",  "POST",  "PUT",    "DELETE",
                                        "OPTIONS", "PATCH", "TRACE", "CONNECT"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (str_eq_c(m, known[i]))
            return true;
    return false;
}

static enum http1_verdict parse_version(struct str v, uint8_t *minor)
{
    if (v.n != 8 || !str_starts(v, STR("HTTP/")) || v.p[6] != '.' || v.p[5] < '0' || v.p[5] > '9' ||
        v.p[7] < '0' || v.p[7] > '9')
        return HTTP1_BAD_REQUEST_LINE;
    if (v.p[5] != '1' || v.p[7] > '1')
        return HTTP1_VERSION;
    *minor = (uint8_t)(v.p[7] - '0');
    return HTTP1_OK;
}

/* "http://host/path" loses its scheme and authority; "*" stays for OPTIONS. */
static enum http1_verdict parse_target(struct http1_head *h)
{
    struct str t = h->target;
    if (str_eq_nocase(str_take(t, 7), STR("http://"))) {
        t = str_skip(t, 7);
        size_t end = 0;
        while (end < t.n && t.p[end] != '/' && t.p[end] != '?')
            end++;
        h->host = str_take(t, end);
        if (!end || !all_of(h->host, HOST))
            return HTTP1_BAD_TARGET;
        t = str_skip(t, end);
        if (!t.n || t.p[0] == '?') { /* no path: the root */
            h->path = STR("/");
            h->query = str_skip(t, 1);
            return HTTP1_OK;
        }
    } else if (str_eq_c(t, "*")) {
        if (!str_eq_c(h->method, "OPTIONS"))
            return HTTP1_BAD_TARGET;
    } else if (t.p[0] != '/') {
        return HTTP1_BAD_TARGET; /* authority-form is for CONNECT, which has no route here */
    }
    size_t q = str_find(t, '?');
    h->path = str_take(t, q);
    h->query = str_skip(t, q + 1);
    return HTTP1_OK;
}

static enum http1_verdict parse_request_line(struct str line, struct http1_head *h)
{
    size_t sp = str_find(line, ' ');
    h->method = str_take(line, sp);
    struct str rest = str_skip(line, sp + 1);
    size_t sp2 = str_find(rest, ' ');
    if (sp == line.n || sp2 == rest.n || !sp || !sp2 || !all_of(h->method, TOKEN))
        return HTTP1_BAD_REQUEST_LINE;
    h->target = str_take(rest, sp2);
    if (h->target.n > HTTP_TARGET_MAX)
        return HTTP1_TARGET_TOO_LONG;
    enum http1_verdict v = parse_version(str_skip(rest, sp2 + 1), &h->minor);
    if (v != HTTP1_OK)
        return v;
    if (!all_of(h->target, TARGET))
        return HTTP1_BAD_TARGET;
    if (!method_known(h->method))
        return HTTP1_UNKNOWN_METHOD;
    return parse_target(h);
}

/* --- fields --- */

static enum http1_verdict parse_field(struct str line, struct http_header *f)
{
    if (line.p[0] == ' ' || line.p[0] == '\t')
        return HTTP1_FOLDED;
    size_t colon = str_find(line, ':');
    f->name = str_take(line, colon);
    f->value = str_trim(str_skip(line, colon + 1));
    if (!colon || colon == line.n || !all_of(f->name, TOKEN) || !all_of(f->value, VALUE))
        return HTTP1_BAD_FIELD;
    return HTTP1_OK;
}

/* What the fields that frame a message say, gathered before it is judged. */
struct framing {
    unsigned hosts, lengths, codings;
    bool conn_close, conn_keep, conn_upgrade, conn_settings, upgrade_h2c, settings, expect_other;
};

static void parse_connection(struct str value, struct framing *fr)
{
    struct str token;
    while (str_split(&value, ',', &token)) {
        token = str_trim(token);
        fr->conn_close |= str_eq_nocase(token, STR("close"));
        fr->conn_keep |= str_eq_nocase(token, STR("keep-alive"));
        fr->conn_upgrade |= str_eq_nocase(token, STR("upgrade"));
        fr->conn_settings |= str_eq_nocase(token, STR("http2-settings"));
    }
}

static enum http1_verdict parse_length(struct str value, struct http1_head *h, struct framing *fr)
{
    if (fr->lengths++ || !value.n || value.n > 18)
        return HTTP1_BAD_LENGTH;
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] < '0' || value.p[i] > '9')
            return HTTP1_BAD_LENGTH;
    h->has_length = true;
    return num_get_u64(value, &h->content_length) ? HTTP1_OK : HTTP1_BAD_LENGTH;
}

static enum http1_verdict parse_coding(struct str value, struct http1_head *h, struct framing *fr)
{
    if (fr->codings++)
        return HTTP1_BAD_CODING;
    h->chunked = str_eq_nocase(value, STR("chunked"));
    if (h->chunked)
        return HTTP1_OK;
    /* "gzip, chunked" is well-formed but not ours; anything not ending in chunked cannot frame a
     * request. */
    size_t last = value.n;
    while (last && value.p[last - 1] != ',')
        last--;
    bool ends_chunked = str_eq_nocase(str_trim(str_skip(value, last)), STR("chunked"));
    struct str first = str_trim(str_take(value, str_find(value, ',')));
    bool twice = str_eq_nocase(first, STR("chunked"));
    return ends_chunked && !twice && first.n ? HTTP1_UNKNOWN_CODING : HTTP1_BAD_CODING;
}

static enum http1_verdict note_field(const struct http_header *f, struct http1_head *h,
                                     struct framing *fr)
{
    switch (f->name.n) { /* most fields end here */
    case 4:
        if (str_eq_nocase(f->name, STR("host"))) {
            if (fr->hosts++ || !all_of(f->value, HOST))
                return HTTP1_BAD_HOST;
            if (!h->host.n)
                h->host = f->value;
        }
        return HTTP1_OK;
    case 6:
        if (str_eq_nocase(f->name, STR("expect"))) {
            h->expect_continue |= str_eq_nocase(f->value, STR("100-continue"));
            fr->expect_other |= !str_eq_nocase(f->value, STR("100-continue"));
        }
        return HTTP1_OK;
    case 7:
        if (str_eq_nocase(f->name, STR("upgrade")))
            fr->upgrade_h2c |= str_eq_nocase(f->value, STR("h2c"));
        return HTTP1_OK;
    case 10:
        if (str_eq_nocase(f->name, STR("connection")))
            parse_connection(f->value, fr);
        return HTTP1_OK;
    case 14:
        if (str_eq_nocase(f->name, STR("content-length")))
            return parse_length(f->value, h, fr);
        fr->settings |= str_eq_nocase(f->name, STR("http2-settings"));
        return HTTP1_OK;
    case 17:
        if (str_eq_nocase(f->name, STR("transfer-encoding")))
            return parse_coding(f->value, h, fr);
        return HTTP1_OK;
    default:
        return HTTP1_OK;
    }
}

static enum http1_verdict judge(struct http1_head *h, const struct framing *fr)
{
    if (h->minor == 1 && fr->hosts != 1)
        return HTTP1_BAD_HOST;
    if (fr->codings && fr->lengths)
        return HTTP1_LENGTH_AND_CODING;
    if (fr->codings && h->minor == 0)
        return HTTP1_BAD_CODING; /* 1.0 has none: someone in between would frame it otherwise */
    if (fr->expect_other)
        return HTTP1_EXPECTATION;
    h->expect_continue &= h->minor == 1;
    h->keep_alive = !fr->conn_close && (h->minor == 1 || fr->conn_keep);
    h->upgrade_h2c = h->minor == 1 && fr->upgrade_h2c && fr->settings && fr->conn_upgrade &&
                     fr->conn_settings;
    return HTTP1_OK;
}

enum http1_verdict http1_parse_head(struct str block, struct http1_head *h)
{
    struct framing fr = {0};
    struct str line;
    /* The fields array is not cleared: 3 KiB a request for nothing. */
    memset(h, 0, offsetof(struct http1_head, fields));
    if (str_starts(block, STR("\r\n")))
        block = str_skip(block, 2);
    enum http1_verdict v = take_line(&block, &line);
    if (v == HTTP1_OK)
        v = parse_request_line(line, h);
    size_t fields_bytes = block.n;
    while (v == HTTP1_OK) {
        v = take_line(&block, &line);
        if (v != HTTP1_OK || !line.n)
            break;
        if (h->field_count == HTTP_HEADERS_MAX || fields_bytes > HTTP_HEADER_BYTES_MAX)
            return HTTP1_HEADERS_TOO_BIG;
        struct http_header *f = &h->fields[h->field_count++];
        v = parse_field(line, f);
        if (v == HTTP1_OK)
            v = note_field(f, h, &fr);
    }
    return v == HTTP1_OK ? judge(h, &fr) : v;
}

/* --- the chunked coding --- */

enum {
    C_SIZE,    /* hex digits */
    C_EXT,     /* from ';' to CR */
    C_SIZE_LF, /* LF after a size line */
    C_DATA,
    C_DATA_CR,
    C_DATA_LF,
    C_TRAILER, /* a trailer line, or the CR of the last empty one */
    C_TRAILER_LF,
    C_DONE,
};

static int hex_digit(uint8_t b)
{
    if (b >= '0' && b <= '9')
        return b - '0';
    b |= 0x20;
    return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

static enum http1_verdict chunk_size_byte(struct http1_chunked *c, uint8_t b)
{
    int digit = hex_digit(b);
    if (digit >= 0) {
        c->left = c->left << 4 | (uint64_t)digit;
        return ++c->digits > 16 || c->left > HTTP1_CHUNK_SIZE_MAX ? HTTP1_BAD_CHUNK : HTTP1_OK;
    }
    if (!c->digits || (b != '\r' && b != ';'))
        return HTTP1_BAD_CHUNK;
    c->state = b == '\r' ? C_SIZE_LF : C_EXT;
    return HTTP1_OK;
}

static enum http1_verdict chunk_ext_byte(struct http1_chunked *c, uint8_t b)
{
    if (b == '\r') {
        c->state = C_SIZE_LF;
        return HTTP1_OK;
    }
    return classes[b] & VALUE && ++c->ext_bytes <= HTTP1_CHUNK_EXT_MAX ? HTTP1_OK : HTTP1_BAD_CHUNK;
}

static enum http1_verdict trailer_byte(struct http1_chunked *c, uint8_t b)
{
    if (b == '\r')
        c->state = C_TRAILER_LF;
    else if (!(classes[b] & VALUE) || ++c->trailer_bytes > HTTP1_TRAILERS_MAX)
        return HTTP1_BAD_TRAILER;
    else
        c->line_bytes++;
    return HTTP1_OK;
}

static enum http1_verdict expect_byte(struct http1_chunked *c, uint8_t b, uint8_t want,
                                      uint8_t next)
{
    c->state = next;
    return b == want ? HTTP1_OK : HTTP1_BAD_CHUNK;
}

static enum http1_verdict chunked_byte(struct http1_chunked *c, uint8_t b)
{
    switch (c->state) {
    case C_SIZE:
        return chunk_size_byte(c, b);
    case C_EXT:
        return chunk_ext_byte(c, b);
    case C_SIZE_LF:
        c->digits = 0;
        return expect_byte(c, b, '\n', c->left ? C_DATA : C_TRAILER);
    case C_DATA_CR:
        return expect_byte(c, b, '\r', C_DATA_LF);
    case C_DATA_LF:
        return expect_byte(c, b, '\n', C_SIZE);
    case C_TRAILER:
        return trailer_byte(c, b);
    default: /* C_TRAILER_LF */
        expect_byte(c, b, '\n', c->line_bytes ? C_TRAILER : C_DONE);
        c->line_bytes = 0;
        return b == '\n' ? HTTP1_OK : HTTP1_BAD_TRAILER;
    }
}

enum http1_verdict http1_chunked_feed(struct http1_chunked *c, struct str *in, struct str *data,
                                      bool *done)
{
    enum http1_verdict v = HTTP1_OK;
    *data = STR_NONE;
    while (in->n && c->state != C_DONE && v == HTTP1_OK) {
        if (c->state == C_DATA) {
            *data = str_take(*in, (size_t)min_u64(c->left, in->n));
            *in = str_skip(*in, data->n);
            c->left -= data->n;
            if (!c->left)
                c->state = C_DATA_CR;
            break;
        }
        v = chunked_byte(c, (uint8_t)in->p[0]);
        *in = str_skip(*in, 1);
    }
    *done = v == HTTP1_OK && c->state == C_DONE;
    return v;
}
