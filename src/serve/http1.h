/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.x requests: bytes in, views and a verdict out. No input or output, no allocation, no
 * state but what the caller holds.
 *
 * Three pure pieces:
 *   http1_scan_*      finds where a request head ends; fed in pieces, looks at each byte once
 *   http1_parse_head  a whole head block → struct http1_head; the same bytes give the same answer
 *   http1_chunked_*   takes the chunked coding off a body; fed in pieces
 *
 * Stricter than RFC 9112 wherever leniency lets two parsers disagree about where a message ends:
 * lines end in CRLF, never in a bare LF; a bare CR or NUL is refused anywhere; no folded lines; no
 * space around a field name; one Content-Length at most, digits only; never beside a
 * Transfer-Encoding; chunked is the only transfer coding. */
#ifndef LYMER_SERVE_HTTP1_H
#define LYMER_SERVE_HTTP1_H

#include "serve/http.h"

/* Request line and fields together. */
#define HTTP1_HEAD_MAX       (HTTP_TARGET_MAX + HTTP_HEADER_BYTES_MAX)
#define HTTP1_METHOD_MAX     16u
#define HTTP1_CHUNK_EXT_MAX  (4 * KIB) /* bytes of chunk extensions in one body */
#define HTTP1_TRAILERS_MAX   (8 * KIB) /* bytes of trailer fields */
#define HTTP1_CHUNK_SIZE_MAX (UINT64_C(1) << 40)

/* Why a request is refused; each has its HTTP status and its sentence. */
/*    name            status  text */
#define HTTP1_TABLE(X)                                                         \
    X(OK, 200, "ok")                                                           \
    X(BARE_LF, 400, "line does not end in CR LF")                              \
    X(BARE_CR, 400, "CR without LF")                                           \
    X(BAD_REQUEST_LINE, 400, "malformed request line")                         \
    X(BAD_TARGET, 400, "malformed request target")                             \
    X(BAD_FIELD, 400, "malformed header field")                                \
    X(FOLDED, 400, "folded header field")                                      \
    X(BAD_HOST, 400, "missing, repeated or malformed Host")                    \
    X(BAD_LENGTH, 400, "malformed or repeated Content-Length")                 \
    X(LENGTH_AND_CODING, 400, "Content-Length beside Transfer-Encoding")       \
    X(BAD_CODING, 400, "malformed or repeated Transfer-Encoding")              \
    X(BAD_CHUNK, 400, "malformed chunk")                                       \
    X(BAD_TRAILER, 400, "malformed or too long trailer section")               \
    X(TARGET_TOO_LONG, 414, "request target longer than 32 KiB")               \
    X(EXPECTATION, 417, "unknown expectation")                                 \
    X(HEADERS_TOO_BIG, 431, "header section larger than 64 KiB or 100 fields") \
    X(UNKNOWN_METHOD, 501, "unknown method")                                   \
    X(UNKNOWN_CODING, 501, "transfer coding other than chunked")               \
    X(VERSION, 505, "HTTP version is not 1.0 or 1.1")

enum http1_verdict {
#define HTTP1_ENUM(name, status, text) HTTP1_##name,
    HTTP1_TABLE(HTTP1_ENUM)
#undef HTTP1_ENUM
        HTTP1_VERDICTS
};

int http1_status(enum http1_verdict v);
const char *http1_text(enum http1_verdict v);
const char *http1_name(enum http1_verdict v);

/* --- where the head ends --- */

struct http1_scan {
    uint32_t line; /* bytes of the line so far, its line end not counted */
    uint32_t total;
    bool cr;    /* the last byte was CR */
    bool first; /* a request line has been seen */
};

/* Feeds bytes. *used is how many belong to the head (all of them when more are needed); *done says
 * that the empty line was the last of them. Leading empty lines are part of the head; one is
 * allowed. */
enum http1_verdict http1_scan_feed(struct http1_scan *s, struct str in, size_t *used, bool *done);

/* --- the head --- */

struct http1_head {
    struct str method, target;
    struct str path, query; /* of the target; an absolute-form loses scheme and authority */
    struct str host;        /* Host, or the authority of an absolute-form */
    uint8_t minor;          /* HTTP/1.minor */
    bool keep_alive;        /* the connection may carry another request */
    bool chunked;
    bool has_length;
    bool expect_continue;
    bool upgrade_h2c;        /* Upgrade: h2c with HTTP2-Settings, both named in Connection */
    uint64_t content_length; /* 0 when absent */
    uint32_t field_count;
    struct http_header fields[HTTP_HEADERS_MAX]; /* names as sent: compare without case */
};

/* block: up to and with the empty line, as http1_scan_feed delimited it. Views into block. */
enum http1_verdict http1_parse_head(struct str block, struct http1_head *h);

/* --- the chunked coding --- */

struct http1_chunked {
    uint8_t state;
    uint8_t digits;
    uint32_t ext_bytes, trailer_bytes, line_bytes;
    uint64_t left; /* of this chunk */
};

/* Takes bytes from *in: leaves *in behind what it took. *data is a piece of the body (perhaps
 * empty). Call again while *in is not empty and *done is false. */
enum http1_verdict http1_chunked_feed(struct http1_chunked *c, struct str *in, struct str *data,
                                      bool *done);

#endif
