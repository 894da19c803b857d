/* SPDX-License-Identifier: Apache-2.0 */
/* Errors are values with a sentence. One table gives each its name, text, HTTP status and gRPC
 * status.
 *
 * A fallible function returns `enum errc` (E_OK is 0) and is MUST_CHECK. Where a human will read
 * the reason it also takes `struct err *e`, which may be NULL and is written only on failure. The
 * sentence is for the caller's user: it never holds pointers, stack or memory content. */
#ifndef LYMER_BASE_ERR_H
#define LYMER_BASE_ERR_H

#include "base/str.h"

/*    name           text                              HTTP gRPC */
#define ERR_TABLE(X)                                 \
    X(OK, "ok", 200, 0)                              \
    X(INVALID, "invalid input", 400, 3)              \
    X(TRUNCATED, "input ends too early", 400, 3)     \
    X(DEPTH, "nested too deep", 400, 3)              \
    X(TOO_BIG, "larger than the limit", 413, 8)      \
    X(NOT_FOUND, "not found", 404, 5)                \
    X(EXISTS, "exists already", 409, 6)              \
    X(UNSUPPORTED, "not supported", 415, 12)         \
    X(UNAUTHENTICATED, "who are you", 401, 16)       \
    X(DENIED, "not allowed", 403, 7)                 \
    X(THROTTLED, "too many requests", 429, 14)       \
    X(UNAVAILABLE, "cannot take more now", 503, 14)  \
    X(TIMEOUT, "took too long", 504, 4)              \
    X(CANCELLED, "cancelled", 499, 1)                \
    X(NO_MEMORY, "--max-memory is used up", 503, 14) \
    X(FULL, "disk is full", 503, 14)                 \
    X(IO, "input/output error", 500, 13)             \
    X(CORRUPT, "stored data is damaged", 500, 15)    \
    X(LOCKED, "in use by another process", 500, 9)   \
    X(VERSION, "written by a newer version", 500, 9) \
    X(USAGE, "wrong usage", 400, 3)                  \
    X(INTERNAL, "internal error", 500, 13)

enum errc {
#define ERR_ENUM(name, text, http, grpc) E_##name,
    ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
        ERRC_COUNT
};

#define ERR_MSG_MAX 256

struct err {
    enum errc code;
    char msg[ERR_MSG_MAX];
};

const char *err_name(enum errc code); /* "INVALID" */
const char *err_text(enum errc code); /* "invalid input" */
int err_http(enum errc code);
int err_grpc(enum errc code);

/* Writes the sentence (when e is not NULL) and returns code, so that `return fail(e, E_IO, …)`
 * reads well. */
enum errc fail(struct err *e, enum errc code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Same, followed by ": strerror(errno)"; ENOSPC and EDQUOT become E_FULL whatever `code` says. */
enum errc fail_errno(struct err *e, enum errc code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The sentence, or the code's text when there is none. */
const char *err_msg(const struct err *e);
/* What a user can do about it, to be put behind the sentence; "" when there is no such thing. */
const char *err_hint(enum errc code);

/* Is it of what is stored, which cannot be read? */
static inline bool err_is_damage(enum errc code)
{
    return code == E_CORRUPT || code == E_IO;
}

#endif
