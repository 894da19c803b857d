/* SPDX-License-Identifier: Apache-2.0 */
/* Compression behind one small door. Every inflater writes into a capped buffer, so a bomb ends at
 * the cap. */
#ifndef LYMER_BASE_ZIP_H
#define LYMER_BASE_ZIP_H

#include "base/buf.h"

enum zip_kind { ZIP_NONE, ZIP_GZIP, ZIP_DEFLATE, ZIP_ZSTD };

/* "gzip", "x-gzip", "deflate", "zlib", "zstd", "identity" and "" → kind; false for anything else.
 */
MUST_CHECK bool zip_kind_from(struct str name, enum zip_kind *kind);
const char *zip_name(enum zip_kind kind);

/* Appends the inflated bytes of `in` to out. E_TOO_BIG past out->max, E_INVALID for damage (also
 * trailing garbage), E_TRUNCATED when the stream ends early. Concatenated gzip members and zstd
 * frames are one stream. "deflate" takes zlib-wrapped and raw streams, as clients send both.
 * On failure out keeps what it had. Thread-safe. */
MUST_CHECK enum errc zip_inflate(enum zip_kind kind, struct str in, struct buf *out);
/* Appends the compressed bytes of `in` to out. */
MUST_CHECK enum errc zip_deflate(enum zip_kind kind, struct str in, int level, struct buf *out);

/* A gzip stream written in pieces (HTTP answers). */
struct gzip_stream;
struct gzip_stream *gzip_stream_new(int level);
void gzip_stream_free(struct gzip_stream *g);
/* Adds `in` and appends what is ready to out; finish ends the stream. */
MUST_CHECK enum errc gzip_stream_write(struct gzip_stream *g, struct str in, bool finish,
                                       struct buf *out);

/* zstd with caller-kept contexts, for the store: one per thread. */
struct zstd_ctx;
struct zstd_ctx *zstd_ctx_new(void);
void zstd_ctx_free(struct zstd_ctx *z);
size_t zstd_bound(size_t n);
/* Returns the compressed size, 0 on failure (never happens when out_max >= zstd_bound(in.n)). */
size_t zstd_pack(struct zstd_ctx *z, struct str in, int level, void *out, size_t out_max);
/* True when exactly out_n bytes came out. */
MUST_CHECK bool zstd_unpack(struct zstd_ctx *z, struct str in, void *out, size_t out_n);

#endif
