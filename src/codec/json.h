/* SPDX-License-Identifier: Apache-2.0 */
/* JSON in one pass, without a tree: a pull reader with a sticky error and a writer that keeps its
 * own commas. */
#ifndef LYMER_CODEC_JSON_H
#define LYMER_CODEC_JSON_H

#include "base/arena.h"
#include "base/buf.h"

#define JSON_DEPTH_MAX 512u

enum json_type {
    JSON_END,   /* of the input */
    JSON_ERROR, /* r->err and r->at say what and where */
    JSON_NULL,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NUMBER, /* r->text: as written */
    JSON_STRING, /* r->text: unescaped, in the arena when it had escapes, else a view of the input
                  */
    JSON_KEY,    /* likewise; the value follows */
    JSON_OBJECT,
    JSON_OBJECT_END,
    JSON_ARRAY,
    JSON_ARRAY_END
};

struct json_reader {
    const char *start, *at, *end;
    struct arena *arena;
    enum errc err;
    const char *why; /* a literal: "unexpected character" */
    struct str text;
    enum json_type type;
    unsigned depth;
    uint8_t want;
    bool skipping;                     /* strings are not unescaped */
    uint8_t stack[JSON_DEPTH_MAX / 8]; /* one bit a level: object or array */
};

void json_reader_init(struct json_reader *r, struct str in, struct arena *a);
/* A copy of the struct is a bookmark: assign it back to read on from there. E_DEPTH past
 * JSON_DEPTH_MAX, E_NO_MEMORY past the arena's cap, else E_TRUNCATED or E_INVALID. The next token,
 * also in r->type. Strict RFC 8259; invalid UTF-8 inside strings is passed through; lone surrogate
 * escapes become U+FFFD. After the top-level value only white space may follow. */
enum json_type json_next(struct json_reader *r);
/* Skips the value whose first token was just read. */
void json_skip(struct json_reader *r);
static inline size_t json_offset(const struct json_reader *r)
{
    return (size_t)(r->at - r->start);
}

/* Writer. Values are separated by themselves; strings are escaped, bytes that are not UTF-8 become
 * U+FFFD. With indent > 0 the output is pretty-printed by that many spaces, as Go's json.Indent
 * does it. */
struct json_writer {
    struct buf *out;
    unsigned indent, depth;
    bool comma, after_key;
};

static inline struct json_writer json_writer_init(struct buf *out, unsigned indent)
{
    return (struct json_writer){.out = out, .indent = indent};
}

void json_object(struct json_writer *w);
void json_object_end(struct json_writer *w);
void json_array(struct json_writer *w);
void json_array_end(struct json_writer *w);
void json_key(struct json_writer *w, struct str key);
void json_str(struct json_writer *w, struct str s);
void json_i64(struct json_writer *w, int64_t v);
void json_u64(struct json_writer *w, uint64_t v);
/* Strings of digits, as OTLP/JSON writes 64-bit numbers. */
void json_u64_str(struct json_writer *w, uint64_t v);
void json_i64_str(struct json_writer *w, int64_t v);
/* Shortest round-trip; NaN and infinities as strings. */
void json_double(struct json_writer *w, double v);
void json_bool(struct json_writer *w, bool v);
void json_null(struct json_writer *w);
void json_hex(struct json_writer *w, const void *bytes, size_t n);
void json_base64(struct json_writer *w, struct str bytes);
/* Text that is JSON already. */
void json_raw(struct json_writer *w, struct str json);

/* key and value in one call */
#define JSON_KEY_C(w, name) json_key((w), STR(name))

#endif
