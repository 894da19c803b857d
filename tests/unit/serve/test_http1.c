/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1 parser against a table of requests: each is fed whole, byte by byte and in random
 * pieces, and must get the same verdict each time. */
#include "tests/harness.h"

#include "serve/http1.h"

#include <stdlib.h>

/* --- heads --- */

#define L(s)                \
    {                       \
        "" s, sizeof(s) - 1 \
    }
#define R "GET / HTTP/1.1\r\nHost: a\r\n"
#define P "POST / HTTP/1.1\r\nHost: a\r\n"

static const struct head_case {
    struct str in;
    enum http1_verdict want;
} head_cases[] = {
    {L(R "\r\n"), HTTP1_OK},
    {L("\r\n" R "\r\n"), HTTP1_OK},
    {L("\r\n\r\n" R "\r\n"), HTTP1_BAD_REQUEST_LINE},
    {L("GET / HTTP/1.0\r\n\r\n"), HTTP1_OK},
    {L("GET /a?b=c&d HTTP/1.1\r\nHost: a:80\r\n\r\n"), HTTP1_OK},
    {L("GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_OK},
    {L("GET HTTP://a?x HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_OK},
    {L("GET http:// HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_TARGET},
    {L("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_TARGET},
    {L("GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_TARGET},
    {L("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_OK},
    {L("GET * HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_TARGET},
    {L("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_TARGET},
    /* request lines */
    {L("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_REQUEST_LINE},
    {L("GET /  HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_REQUEST_LINE},
    {L("GET / HTTP/1.1 \r\nHost: a\r\n\r\n"), HTTP1_BAD_REQUEST_LINE},
    {L(" GET / HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_REQUEST_LINE},
    {L("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_REQUEST_LINE},
    {L("GET /\r\n\r\n"), HTTP1_BAD_REQUEST_LINE},
    {L("GET / http/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_REQUEST_LINE},
    {L("GET / HTTP/1.10\r\nHost: a\r\n\r\n"), HTTP1_BAD_REQUEST_LINE},
    {L("GET / HTTP/x.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_REQUEST_LINE},
    {L("GET / HTTP/1.2\r\nHost: a\r\n\r\n"), HTTP1_VERSION},
    {L("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), HTTP1_VERSION},
    {L("GET / HTTP/0.9\r\nHost: a\r\n\r\n"), HTTP1_VERSION},
    {L("G@T / HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_REQUEST_LINE},
    {L("BREW / HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_UNKNOWN_METHOD},
    {L("get / HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_UNKNOWN_METHOD},
    {L("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_TARGET},
    {L("GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_TARGET},
    {L("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_TARGET},
    {L("GET a HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD_TARGET},
    {L("\x16\x03\x01\x02\r\n\r\n"), HTTP1_BAD_REQUEST_LINE}, /* TLS on a plain port */
    /* line ends */
    {L("GET / HTTP/1.1\nHost: a\n\n"), HTTP1_BARE_LF},
    {L("GET / HTTP/1.1\r\nHost: a\n\r\n"), HTTP1_BARE_LF},
    {L("GET / HTTP/1.1\r\nHost: a\r\n\n"), HTTP1_BARE_LF},
    {L("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"), HTTP1_BARE_CR},
    {L("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"), HTTP1_BARE_CR},
    {L("GET / HTTP/1.1\rX\r\nHost: a\r\n\r\n"), HTTP1_BARE_CR},
    /* fields */
    {L(R "A: b\r\n\r\n"), HTTP1_OK},
    {L(R "A:\r\n\r\n"), HTTP1_OK},
    {L(R "A: \t b \t\r\n\r\n"), HTTP1_OK},
    {L(R "A: \xc3\xa4\r\n\r\n"), HTTP1_OK},
    {L(R "A : b\r\n\r\n"), HTTP1_BAD_FIELD},
    {L(R "A\t: b\r\n\r\n"), HTTP1_BAD_FIELD},
    {L(R ": b\r\n\r\n"), HTTP1_BAD_FIELD},
    {L(R "A\r\n\r\n"), HTTP1_BAD_FIELD},
    {L(R "A b: c\r\n\r\n"), HTTP1_BAD_FIELD},
    {L(R "A(: c\r\n\r\n"), HTTP1_BAD_FIELD},
    {L(R "A: b\0c\r\n\r\n"), HTTP1_BAD_FIELD},
    {L(R "A: b\x7f\r\n\r\n"), HTTP1_BAD_FIELD},
    {L(R "A\x80: b\r\n\r\n"), HTTP1_BAD_FIELD},
    {L(R " A: b\r\n\r\n"), HTTP1_FOLDED},
    {L(R "A: b\r\n c\r\n\r\n"), HTTP1_FOLDED},
    {L(R "A: b\r\n\tc\r\n\r\n"), HTTP1_FOLDED},
    {L("GET / HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n"), HTTP1_FOLDED},
    /* Host */
    {L("GET / HTTP/1.1\r\n\r\n"), HTTP1_BAD_HOST},
    {L(R "Host: a\r\n\r\n"), HTTP1_BAD_HOST},
    {L(R "host: b\r\n\r\n"), HTTP1_BAD_HOST},
    {L("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), HTTP1_BAD_HOST},
    {L("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), HTTP1_BAD_HOST},
    {L("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"), HTTP1_BAD_HOST},
    {L("GET / HTTP/1.1\r\nHost:\r\n\r\n"), HTTP1_OK},
    {L("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), HTTP1_OK},
    /* lengths: what smuggling is made of */
    {L(P "Content-Length: 0\r\n\r\n"), HTTP1_OK},
    {L(P "Content-Length: 000005\r\n\r\n"), HTTP1_OK},
    {L(P "Content-Length:\r\n\r\n"), HTTP1_BAD_LENGTH},
    {L(P "Content-Length: +5\r\n\r\n"), HTTP1_BAD_LENGTH},
    {L(P "Content-Length: -5\r\n\r\n"), HTTP1_BAD_LENGTH},
    {L(P "Content-Length: 0x5\r\n\r\n"), HTTP1_BAD_LENGTH},
    {L(P "Content-Length: 5 5\r\n\r\n"), HTTP1_BAD_LENGTH},
    {L(P "Content-Length: 5,5\r\n\r\n"), HTTP1_BAD_LENGTH},
    {L(P "Content-Length: 5, 6\r\n\r\n"), HTTP1_BAD_LENGTH},
    {L(P "Content-Length: 99999999999999999999\r\n\r\n"), HTTP1_BAD_LENGTH},
    {L(P "Content-Length: 18446744073709551617\r\n\r\n"), HTTP1_BAD_LENGTH},
    {L(P "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"), HTTP1_BAD_LENGTH},
    {L(P "Content-Length: 5\r\ncontent-length: 6\r\n\r\n"), HTTP1_BAD_LENGTH},
    {L(P "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP1_LENGTH_AND_CODING},
    {L(P "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"), HTTP1_LENGTH_AND_CODING},
    {L(P "Transfer-Encoding: chunked\r\n\r\n"), HTTP1_OK},
    {L(P "Transfer-Encoding: CHUNKED\r\n\r\n"), HTTP1_OK},
    {L(P "Transfer-Encoding: \tchunked \r\n\r\n"), HTTP1_OK},
    {L(P "Transfer-Encoding: xchunked\r\n\r\n"), HTTP1_BAD_CODING},
    {L(P "Transfer-Encoding: chunked, gzip\r\n\r\n"), HTTP1_BAD_CODING},
    {L(P "Transfer-Encoding: chunked, chunked\r\n\r\n"), HTTP1_BAD_CODING},
    {L(P "Transfer-Encoding: , chunked\r\n\r\n"), HTTP1_BAD_CODING},
    {L(P "Transfer-Encoding: gzip, chunked\r\n\r\n"), HTTP1_UNKNOWN_CODING},
    {L(P "Transfer-Encoding: identity\r\n\r\n"), HTTP1_BAD_CODING},
    {L(P "Transfer-Encoding:\r\n\r\n"), HTTP1_BAD_CODING},
    {L(P "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP1_BAD_CODING},
    {L(P "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"), HTTP1_BAD_CODING},
    {L(P "Transfer-Encoding: \"chunked\"\r\n\r\n"), HTTP1_BAD_CODING},
    {L(P "Transfer-Encoding: chunked;q=1\r\n\r\n"), HTTP1_BAD_CODING},
    {L(P "Transfer-Encoding : chunked\r\n\r\n"), HTTP1_BAD_FIELD},
    {L(P "Transfer-Encoding\x0b: chunked\r\n\r\n"), HTTP1_BAD_FIELD},
    {L("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP1_BAD_CODING},
    {L(R "Expect: 100-continue\r\n\r\n"), HTTP1_OK},
    {L(R "Expect: 200-ok\r\n\r\n"), HTTP1_EXPECTATION},
};

/* Scans in pieces of at most `step` bytes (0: random), then parses. *used: bytes of the head. */
static enum http1_verdict verdict_of(struct str in, size_t step, struct http1_head *h, size_t *used)
{
    struct http1_scan scan = {0};
    bool done = false;
    *used = 0;
    while (*used < in.n && !done) {
        struct str piece = test_guarded(
            str_take(str_skip(in, *used), step ? step : 1 + (size_t)(test_rand() % 9)));
        size_t n;
        enum http1_verdict v = http1_scan_feed(&scan, piece, &n, &done);
        *used += n;
        if (v != HTTP1_OK)
            return v;
        CHECK(done || n == piece.n);
    }
    CHECK(done);
    return http1_parse_head(str_take(in, *used), h);
}

TEST(http1_heads_get_their_verdict_however_they_are_cut)
{
    struct http1_head h;
    size_t used;
    for (size_t i = 0; i < ARRAY_LEN(head_cases); i++) {
        const struct head_case *c = &head_cases[i];
        struct str in = test_guarded(c->in);
        static const size_t steps[] = {SIZE_MAX, 1, 2, 0};
        for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
            enum http1_verdict v = verdict_of(in, steps[k], &h, &used);
            if (v != c->want)
                test_fail(__FILE__, __LINE__, "case %zu \"%.*s\": %s, want %s", i, STR_ARG(c->in),
                          http1_name(v), http1_name(c->want));
            CHECK(v != HTTP1_OK || used == in.n);
        }
    }
}

TEST(http1_heads_are_split_into_their_parts)
{
    struct http1_head h;
    size_t used;
    CHECK_INT(verdict_of(STR("POST http://h:1/p/q?x=1?y HTTP/1.1\r\nHost: other\r\nContent-Length: "
                             "12\r\nCONNECTION: foo, Close\r\nX-Y:  z \r\nExpect: "
                             "100-Continue\r\n\r\nBODY"),
                         SIZE_MAX, &h, &used),
              HTTP1_OK);
    CHECK_STR(h.method, STR("POST"));
    CHECK_STR(h.path, STR("/p/q"));
    CHECK_STR(h.query, STR("x=1?y"));
    CHECK_STR(h.host, STR("h:1"));
    CHECK_INT(h.content_length, 12);
    CHECK(h.has_length && !h.chunked && !h.keep_alive && h.expect_continue);
    CHECK_INT(h.field_count, 5);
    CHECK_STR(h.fields[3].name, STR("X-Y"));
    CHECK_STR(h.fields[3].value, STR("z"));
    CHECK_INT(verdict_of(STR("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), 1, &h, &used),
              HTTP1_OK);
    CHECK(h.keep_alive && h.minor == 0);
    CHECK_INT(verdict_of(STR("GET / HTTP/1.0\r\n\r\n"), 1, &h, &used), HTTP1_OK);
    CHECK(!h.keep_alive);
    CHECK_INT(verdict_of(STR(R "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nConnection: Upgrade, "
                               "HTTP2-Settings\r\n\r\n"),
                         1, &h, &used),
              HTTP1_OK);
    CHECK(h.upgrade_h2c && h.keep_alive);
}

/* "prefix" + n times c + "suffix" */
static struct str repeat(struct buf *b, const char *prefix, char c, size_t n, const char *suffix)
{
    buf_reset(b);
    buf_add_c(b, prefix);
    for (size_t i = 0; i < n; i++)
        buf_add_char(b, c);
    buf_add_c(b, suffix);
    return buf_str(b);
}

TEST(http1_limits_are_exact)
{
    struct buf b = buf_init(1 * MIB);
    struct http1_head h;
    size_t used;
    struct str s = repeat(&b, "GET /", 'a', HTTP_TARGET_MAX - 1, " HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK_INT(verdict_of(s, 1000, &h, &used), HTTP1_OK);
    s = repeat(&b, "GET /", 'a', HTTP_TARGET_MAX, " HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK_INT(verdict_of(s, 1000, &h, &used), HTTP1_TARGET_TOO_LONG);
    s = repeat(&b, "GET /", 'a', 2 * HTTP_TARGET_MAX, ""); /* refused before its line ends */
    CHECK_INT(verdict_of(s, 1000, &h, &used), HTTP1_TARGET_TOO_LONG);
    size_t fixed = strlen("Host: a\r\nX: \r\n\r\n");
    const char *head = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    s = repeat(&b, head, 'a', HTTP_HEADER_BYTES_MAX - fixed, "\r\n\r\n");
    CHECK_INT(verdict_of(s, 1000, &h, &used), HTTP1_OK);
    s = repeat(&b, head, 'a', HTTP_HEADER_BYTES_MAX - fixed + 1, "\r\n\r\n");
    CHECK_INT(verdict_of(s, 1000, &h, &used), HTTP1_HEADERS_TOO_BIG);
    s = repeat(&b, head, 'a', 2 * HTTP1_HEAD_MAX, "");
    CHECK_INT(verdict_of(s, 1000, &h, &used), HTTP1_HEADERS_TOO_BIG);
    for (unsigned extra = 0; extra < 2; extra++) {
        buf_reset(&b);
        buf_add_c(&b, "GET / HTTP/1.1\r\nHost: a\r\n");
        for (unsigned i = 1; i < HTTP_HEADERS_MAX + extra; i++)
            buf_addf(&b, "X-%u: y\r\n", i);
        buf_add_c(&b, "\r\n");
        CHECK_INT(verdict_of(buf_str(&b), SIZE_MAX, &h, &used),
                  extra ? HTTP1_HEADERS_TOO_BIG : HTTP1_OK);
    }
    buf_fini(&b);
}

/* Every byte value at every place of a small request: never a crash, and what is accepted is
 * accepted whole. */
TEST(http1_survives_any_byte_anywhere)
{
    static const char good[] = P "Content-Length: 5\r\nA: b\r\n\r\n";
    char bytes[sizeof good];
    struct http1_head h;
    for (size_t at = 0; at + 1 < sizeof good; at++)
        for (unsigned v = 0; v < 256; v++) {
            memcpy(bytes, good, sizeof good);
            bytes[at] = (char)v;
            struct http1_scan scan = {0};
            size_t used;
            bool done;
            if (http1_scan_feed(&scan, str_of(bytes, sizeof good - 1), &used, &done) != HTTP1_OK ||
                !done)
                continue;
            enum http1_verdict verdict = http1_parse_head(str_of(bytes, used), &h);
            if (verdict == HTTP1_OK && (v < 0x20 || v == 0x7f) && good[at] != (char)v)
                CHECK(v == '\t'); /* the only control byte a field may hold */
        }
}

/* --- the chunked coding --- */

static const struct chunk_case {
    struct str in, body, rest;
    enum http1_verdict want;
} chunk_cases[] = {
    {L("0\r\n\r\n"), L(""), L(""), HTTP1_OK},
    {L("5\r\nhello\r\n0\r\n\r\nNEXT"), L("hello"), L("NEXT"), HTTP1_OK},
    {L("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), L("hello world"), L(""), HTTP1_OK},
    {L("0000a\r\n0123456789\r\n0\r\n\r\n"), L("0123456789"), L(""), HTTP1_OK},
    {L("A;x=y;z=\"q\"\r\n0123456789\r\n0;e\r\n\r\n"), L("0123456789"), L(""), HTTP1_OK},
    {L("0\r\nA: b\r\nC: d\r\n\r\nX"), L(""), L("X"), HTTP1_OK},
    {L("\r\n"), L(""), L(""), HTTP1_BAD_CHUNK},
    {L(";x\r\n"), L(""), L(""), HTTP1_BAD_CHUNK},
    {L(" 5\r\nhello\r\n"), L(""), L(""), HTTP1_BAD_CHUNK},
    {L("5 \r\nhello\r\n"), L(""), L(""), HTTP1_BAD_CHUNK},
    {L("0x5\r\nhello\r\n"), L(""), L(""), HTTP1_BAD_CHUNK},
    {L("-5\r\nhello\r\n"), L(""), L(""), HTTP1_BAD_CHUNK},
    {L("5\nhello\r\n"), L(""), L(""), HTTP1_BAD_CHUNK},
    {L("5\r\nhelloX\r\n"), L("hello"), L(""), HTTP1_BAD_CHUNK},
    {L("5\r\nhello\n0\r\n\r\n"), L("hello"), L(""), HTTP1_BAD_CHUNK},
    {L("5\r\nhello\rX"), L("hello"), L(""), HTTP1_BAD_CHUNK},
    {L("5;a\nb\r\nhello"), L(""), L(""), HTTP1_BAD_CHUNK},
    {L("5;a\0b\r\nhello"), L(""), L(""), HTTP1_BAD_CHUNK},
    {L("FFFFFFFFFFFFFFFF\r\n"), L(""), L(""), HTTP1_BAD_CHUNK},
    {L("10000000000000005\r\nhello"), L(""), L(""), HTTP1_BAD_CHUNK},
    {L("00000000000000005\r\nhello"), L(""), L(""), HTTP1_BAD_CHUNK},
    {L("0\r\nA: b\n\r\n"), L(""), L(""), HTTP1_BAD_TRAILER},
    {L("0\r\nA: b\rc\r\n"), L(""), L(""), HTTP1_BAD_TRAILER},
    {L("0\r\n\rX"), L(""), L(""), HTTP1_BAD_TRAILER},
};

static enum http1_verdict unchunk(struct str in, size_t step, struct buf *body, size_t *used,
                                  bool *done)
{
    struct http1_chunked c = {0};
    enum http1_verdict v = HTTP1_OK;
    *used = 0;
    *done = false;
    while (*used < in.n && !*done && v == HTTP1_OK) {
        struct str piece = str_take(str_skip(in, *used), step), left = piece, data;
        while (left.n && !*done && v == HTTP1_OK) {
            v = http1_chunked_feed(&c, &left, &data, done);
            buf_add_str(body, data);
        }
        *used += piece.n - left.n;
    }
    return v;
}

TEST(http1_chunked_bodies_get_their_verdict_however_they_are_cut)
{
    for (size_t i = 0; i < ARRAY_LEN(chunk_cases); i++)
        for (size_t step = 1; step < 20; step++) {
            const struct chunk_case *c = &chunk_cases[i];
            struct buf body = buf_init(1 * KIB);
            size_t used;
            bool done;
            enum http1_verdict v = unchunk(test_guarded(c->in), step, &body, &used, &done);
            if (v != c->want)
                test_fail(__FILE__, __LINE__, "case %zu: %s, want %s", i, http1_name(v),
                          http1_name(c->want));
            CHECK_STR(buf_str(&body), c->body);
            CHECK_INT(done, v == HTTP1_OK);
            if (done)
                CHECK_STR(str_skip(c->in, used), c->rest);
            buf_fini(&body);
        }
}

TEST(http1_chunk_extensions_and_trailers_are_bounded)
{
    struct buf b = buf_init(1 * MIB), body = buf_init(1 * MIB);
    size_t used;
    bool done;
    struct str s = repeat(&b, "1;", 'a', HTTP1_CHUNK_EXT_MAX, "\r\nx\r\n0\r\n\r\n");
    CHECK_INT(unchunk(s, 100, &body, &used, &done), HTTP1_OK);
    s = repeat(&b, "1;", 'a', HTTP1_CHUNK_EXT_MAX + 1, "\r\nx\r\n0\r\n\r\n");
    CHECK_INT(unchunk(s, 100, &body, &used, &done), HTTP1_BAD_CHUNK);
    s = repeat(&b, "0\r\nA:", 'a', HTTP1_TRAILERS_MAX - 2, "\r\n\r\n");
    CHECK_INT(unchunk(s, 100, &body, &used, &done), HTTP1_OK);
    s = repeat(&b, "0\r\nA:", 'a', HTTP1_TRAILERS_MAX - 1, "\r\n\r\n");
    CHECK_INT(unchunk(s, 100, &body, &used, &done), HTTP1_BAD_TRAILER);
    buf_fini(&b);
    buf_fini(&body);
}
