/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers and times to text and back, without locale. Parsers take the whole view or fail. */
#ifndef LYMER_BASE_NUM_H
#define LYMER_BASE_NUM_H

#include "base/buf.h"

#define NUM_TEXT_MAX 40

/* Writers put no NUL and return the length; `out` has NUM_TEXT_MAX bytes. */
size_t num_put_u64(char *out, uint64_t v);
size_t num_put_i64(char *out, int64_t v);
/* The shortest text that reads back to the same double, as ECMAScript prints it ("1", "0.1",
 * "1e+21"); NaN, Infinity, -Infinity by those names. */
size_t num_put_double(char *out, double v);
/* Lower-case hex, two digits a byte. */
size_t num_put_hex(char *out, const void *p, size_t n);

MUST_CHECK bool num_get_u64(struct str s, uint64_t *v);
MUST_CHECK bool num_get_i64(struct str s, int64_t *v);
/* Decimal with optional sign, point and exponent, or a name as above; what is too large for a
 * double is refused. */
MUST_CHECK bool num_get_double(struct str s, double *v);
/* Exactly n bytes from 2n digits, either case. */
MUST_CHECK bool num_get_hex(struct str s, void *out, size_t n);
/* "64MiB", "50GB", "1073741824": decimal (k, MB) and binary (Ki, MiB) suffixes
 * up to peta, case folded. */
MUST_CHECK bool num_get_bytes(struct str s, uint64_t *v);

/* Go duration: "1.5s", "100ms", "2h45m", "10us", "10µs", "-1.5h". */
MUST_CHECK bool num_get_duration(struct str s, int64_t *ns);
/* Go's own spelling of a duration: "1.5s", "100ms", "2h45m0s", "0s". */
size_t num_put_duration(char *out, int64_t ns);
/* RFC 3339 with up to nine fraction digits and any offset; a space where '+' was is taken for '+'.
 */
MUST_CHECK bool num_get_rfc3339(struct str s, uint64_t *unix_ns);
/* UTC, "2026-01-02T03:04:05.123456789Z", trailing zeros of the fraction left out. */
size_t num_put_rfc3339(char *out, uint64_t unix_ns);

/* Base64, standard alphabet with padding on write; either alphabet, padding optional, on read. */
void num_put_base64(struct buf *out, struct str bytes);
MUST_CHECK bool num_get_base64(struct str text, struct buf *out);

#endif
