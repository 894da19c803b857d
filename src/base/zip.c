/* SPDX-License-Identifier: Apache-2.0 */
/* Whole-buffer (de)compression.
 *
 * libdeflate needs the whole output in one piece and wants to know its size. A gzip file says it in
 * its last four bytes, but the sender says so: the hint is believed only as far as the input's size
 * makes it likely, and memory beyond grows by doubling as bytes really come. An attempt that ran
 * out of room is repeated from the start of its member, so at most twice the work is done.
 *
 * Contexts are kept per thread: they cost more to make than a small body takes to inflate. */
#include "base/zip.h"

#include "base/bytes.h"

#include <libdeflate.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

/* A hint of the inflated size is believed up to this many times the input. Spans in OTLP shrink
 * eight- to twentyfold. */
#define HINT_RATIO 64
#define ROOM_LEAST (4 * KIB)
/* 32 MiB: what common encoders use at their strongest level. */
#define ZSTD_WINDOW_LOG 25
/* A zstd context larger than this is not kept for the next body. */
#define ZSTD_KEEP_BYTES (2 * MIB)

static const struct zip_row {
    const char *name;
    enum zip_kind kind;
} names[] = {
    {"gzip", ZIP_GZIP}, {"x-gzip", ZIP_GZIP},   {"deflate", ZIP_DEFLATE}, {"zlib", ZIP_DEFLATE},
    {"zstd", ZIP_ZSTD}, {"identity", ZIP_NONE}, {"", ZIP_NONE},
};

bool zip_kind_from(struct str name, enum zip_kind *kind)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (str_eq_nocase(name, str_from_c(names[i].name))) {
            *kind = names[i].kind;
            return true;
        }
    return false;
}

const char *zip_name(enum zip_kind kind)
{
    static const char *const by_kind[] = {"identity", "gzip", "deflate", "zstd"};
    return by_kind[kind];
}

/* --- contexts of a thread --- */

struct contexts {
    struct libdeflate_decompressor *inflater;
    struct libdeflate_compressor *deflater;
    int deflater_level;
    ZSTD_DCtx *unzstd;
    ZSTD_CCtx *zstd;
};

static pthread_key_t contexts_key;
static pthread_once_t contexts_once = PTHREAD_ONCE_INIT;

static void contexts_free(void *p)
{
    struct contexts *c = p;
    libdeflate_free_decompressor(c->inflater);
    libdeflate_free_compressor(c->deflater);
    ZSTD_freeDCtx(c->unzstd);
    ZSTD_freeCCtx(c->zstd);
    free(c);
}

static void contexts_make_key(void)
{
    ensure(pthread_key_create(&contexts_key, contexts_free) == 0);
}

static struct contexts *contexts_of_thread(void)
{
    pthread_once(&contexts_once, contexts_make_key);
    struct contexts *c = pthread_getspecific(contexts_key);
    if (!c) {
        c = xcalloc(1, sizeof *c);
        ensure(pthread_setspecific(contexts_key, c) == 0);
    }
    return c;
}

/* --- room in a capped buffer --- */

static enum errc too_big(struct buf *out)
{
    out->failed = true;
    return E_TOO_BIG;
}

/* Makes room for up to `want` bytes, as far as the cap allows. */
static enum errc room_make(struct buf *out, size_t want)
{
    if (out->failed)
        return E_TOO_BIG;
    size_t most = out->max - out->n;
    return buf_reserve(out, min_size(want, most)) ? E_OK : E_NO_MEMORY;
}

/* Twice the room, after an attempt ran out of it. */
static enum errc room_double(struct buf *out)
{
    size_t have = out->cap - out->n, most = out->max - out->n;
    if (have >= most)
        return too_big(out);
    return room_make(out, have > most / 2 ? most : max_size(have * 2, ROOM_LEAST));
}

/* --- gzip, zlib and raw deflate --- */

enum wrap { WRAP_GZIP, WRAP_ZLIB, WRAP_RAW };

/* A raw stream cannot look so: its first block would be a stored one with a set padding bit, and
 * encoders leave padding zero. */
static bool has_zlib_head(struct str in)
{
    if (in.n < 2)
        return false;
    unsigned cmf = (unsigned char)in.p[0], flg = (unsigned char)in.p[1];
    return (cmf & 0x0f) == 8 && cmf >> 4 <= 7 && (cmf << 8 | flg) % 31 == 0;
}

static enum libdeflate_result inflate_once(struct libdeflate_decompressor *d, enum wrap wrap,
                                           struct str in, struct buf *out, size_t *used,
                                           size_t *got)
{
    char *to = buf_end(out);
    size_t room = out->cap - out->n;
    switch (wrap) {
    case WRAP_GZIP:
        return libdeflate_gzip_decompress_ex(d, in.p, in.n, to, room, used, got);
    case WRAP_ZLIB:
        return libdeflate_zlib_decompress_ex(d, in.p, in.n, to, room, used, got);
    case WRAP_RAW:
        break;
    }
    return libdeflate_deflate_decompress_ex(d, in.p, in.n, to, room, used, got);
}

/* libdeflate does not tell damage from an early end: zlib does, going over the input once more,
 * without keeping what comes out and no further than `most` bytes of it. */
static enum errc explain(enum wrap wrap, struct str in, size_t most)
{
    static const int window_bits[] = {15 + 16, 15, -15};
    unsigned char waste[16 * KIB];
    z_stream z = {0};
    if (in.n > UINT_MAX || inflateInit2(&z, window_bits[wrap]) != Z_OK)
        return E_INVALID;
    union {
        const char *in;
        unsigned char *zlib; /* which does not write there, but does not say so either */
    } from = {.in = in.p};
    z.next_in = from.zlib;
    z.avail_in = (unsigned)in.n;
    int r = Z_OK;
    while (r == Z_OK && z.total_out <= most) {
        z.next_out = waste;
        z.avail_out = sizeof waste;
        r = inflate(&z, Z_NO_FLUSH);
    }
    bool ended_early = r == Z_BUF_ERROR && z.avail_in == 0;
    inflateEnd(&z);
    return ended_early ? E_TRUNCATED : E_INVALID;
}

static enum errc inflate_member(enum wrap wrap, struct str *in, struct buf *out)
{
    struct contexts *c = contexts_of_thread();
    if (!c->inflater && !(c->inflater = libdeflate_alloc_decompressor()))
        return E_NO_MEMORY;
    for (;;) {
        size_t used = 0, got = 0;
        enum errc code;
        switch (inflate_once(c->inflater, wrap, *in, out, &used, &got)) {
        case LIBDEFLATE_SUCCESS:
            *in = str_skip(*in, used);
            out->n += got;
            return E_OK;
        case LIBDEFLATE_INSUFFICIENT_SPACE:
            code = room_double(out);
            if (code != E_OK)
                return code;
            break;
        default:
            return explain(wrap, *in, out->max - out->n);
        }
    }
}

static size_t first_guess(enum wrap wrap, struct str in)
{
    size_t likely = in.n > SIZE_MAX / HINT_RATIO ? SIZE_MAX : in.n * HINT_RATIO;
    if (wrap == WRAP_GZIP && in.n >= 18)
        return min_size(likely, max_size(load_u32le(in.p + in.n - 4), ROOM_LEAST));
    return max_size(likely / 8, ROOM_LEAST);
}

static enum errc inflate_all(enum wrap wrap, struct str in, struct buf *out)
{
    enum errc code = in.n ? room_make(out, first_guess(wrap, in)) : E_TRUNCATED;
    while (code == E_OK && in.n) {
        code = inflate_member(wrap, &in, out);
        if (code == E_OK && in.n && wrap != WRAP_GZIP)
            code = E_INVALID;
    }
    return code;
}

/* --- zstd --- */

static enum errc zstd_error(size_t r)
{
    switch (ZSTD_getErrorCode(r)) {
    case ZSTD_error_srcSize_wrong:
        return E_TRUNCATED;
    case ZSTD_error_frameParameter_windowTooLarge:
        return E_TOO_BIG;
    case ZSTD_error_memory_allocation:
        return E_NO_MEMORY;
    default:
        return E_INVALID;
    }
}

/* A frame of unknown size, or one whose claim is not believed: out grows as bytes come. */
static enum errc unzstd_stream(ZSTD_DCtx *d, struct str *in, struct buf *out)
{
    ZSTD_DCtx_reset(d, ZSTD_reset_session_only);
    ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
    ZSTD_inBuffer from = {in->p, in->n, 0};
    enum errc code = room_make(out, ROOM_LEAST);
    while (code == E_OK) {
        ZSTD_outBuffer to = {out->p, out->cap, out->n};
        size_t r = ZSTD_decompressStream(d, &to, &from);
        if (ZSTD_isError(r))
            return zstd_error(r);
        bool full = to.pos == to.size;
        out->n = to.pos;
        if (r == 0) {
            *in = str_skip(*in, from.pos);
            return E_OK;
        }
        if (full)
            code = room_double(out);
        else if (from.pos == from.size)
            code = E_TRUNCATED;
    }
    return code;
}

static enum errc unzstd_frame(ZSTD_DCtx *d, struct str *in, struct buf *out)
{
    unsigned long long size = ZSTD_getFrameContentSize(in->p, in->n);
    if (size == ZSTD_CONTENTSIZE_ERROR)
        return in->n < 18 ? unzstd_stream(d, in, out) : E_INVALID; /* the head may be cut */
    if (size == ZSTD_CONTENTSIZE_UNKNOWN ||
        size > ROOM_LEAST + (unsigned long long)in->n * HINT_RATIO)
        return unzstd_stream(d, in, out);
    if (size > out->max - out->n)
        return too_big(out);
    size_t frame = ZSTD_findFrameCompressedSize(in->p, in->n);
    if (ZSTD_isError(frame))
        return zstd_error(frame);
    enum errc code = room_make(out, (size_t)size);
    if (code != E_OK)
        return code;
    size_t r = ZSTD_decompressDCtx(d, buf_end(out), (size_t)size, in->p, frame);
    if (ZSTD_isError(r))
        return zstd_error(r);
    out->n += r;
    *in = str_skip(*in, frame);
    return E_OK;
}

static enum errc unzstd_all(struct str in, struct buf *out)
{
    struct contexts *c = contexts_of_thread();
    if (!c->unzstd && !(c->unzstd = ZSTD_createDCtx()))
        return E_NO_MEMORY;
    enum errc code = in.n ? E_OK : E_TRUNCATED;
    while (code == E_OK && in.n)
        code = unzstd_frame(c->unzstd, &in, out);
    if (ZSTD_sizeof_DCtx(c->unzstd) > ZSTD_KEEP_BYTES) {
        ZSTD_freeDCtx(c->unzstd);
        c->unzstd = NULL;
    }
    return code;
}

enum errc zip_inflate(enum zip_kind kind, struct str in, struct buf *out)
{
    size_t before = out->n;
    enum errc code = E_OK;
    switch (kind) {
    case ZIP_NONE:
        buf_add_str(out, in);
        return buf_err(out);
    case ZIP_GZIP:
        code = inflate_all(WRAP_GZIP, in, out);
        break;
    case ZIP_DEFLATE:
        code = inflate_all(has_zlib_head(in) ? WRAP_ZLIB : WRAP_RAW, in, out);
        break;
    case ZIP_ZSTD:
        code = unzstd_all(in, out);
        break;
    }
    if (code != E_OK)
        out->n = before;
    return code;
}

/* --- writing --- */

static struct libdeflate_compressor *deflater(int level)
{
    struct contexts *c = contexts_of_thread();
    if (c->deflater && c->deflater_level == level)
        return c->deflater;
    libdeflate_free_compressor(c->deflater);
    c->deflater_level = level;
    return c->deflater = libdeflate_alloc_compressor(level);
}

static enum errc deflate_whole(enum wrap wrap, struct str in, int level, struct buf *out)
{
    struct libdeflate_compressor *c = deflater(level < 0 ? 0 : level > 12 ? 12 : level);
    if (!c)
        return E_NO_MEMORY;
    size_t bound = wrap == WRAP_GZIP ? libdeflate_gzip_compress_bound(c, in.n)
                                     : libdeflate_zlib_compress_bound(c, in.n);
    enum errc code = room_make(out, bound);
    if (code != E_OK)
        return code;
    char *to = buf_end(out);
    size_t room = out->cap - out->n;
    size_t n = wrap == WRAP_GZIP ? libdeflate_gzip_compress(c, in.p, in.n, to, room)
                                 : libdeflate_zlib_compress(c, in.p, in.n, to, room);
    out->n += n;
    return n ? E_OK : too_big(out);
}

static enum errc zstd_whole(struct str in, int level, struct buf *out)
{
    struct contexts *c = contexts_of_thread();
    if (!c->zstd && !(c->zstd = ZSTD_createCCtx()))
        return E_NO_MEMORY;
    enum errc code = room_make(out, ZSTD_compressBound(in.n));
    if (code != E_OK)
        return code;
    size_t n = ZSTD_compressCCtx(c->zstd, buf_end(out), out->cap - out->n, in.p, in.n, level);
    if (!ZSTD_isError(n)) {
        out->n += n;
        return E_OK;
    }
    return ZSTD_getErrorCode(n) == ZSTD_error_dstSize_tooSmall ? too_big(out) : E_NO_MEMORY;
}

enum errc zip_deflate(enum zip_kind kind, struct str in, int level, struct buf *out)
{
    switch (kind) {
    case ZIP_NONE:
        break;
    case ZIP_GZIP:
        return deflate_whole(WRAP_GZIP, in, level, out);
    case ZIP_DEFLATE:
        return deflate_whole(WRAP_ZLIB, in, level, out);
    case ZIP_ZSTD:
        return zstd_whole(in, level, out);
    }
    buf_add_str(out, in);
    return buf_err(out);
}

/* --- gzip in pieces --- */

struct gzip_stream {
    z_stream z;
    bool finished;
};

struct gzip_stream *gzip_stream_new(int level)
{
    struct gzip_stream *g = xcalloc(1, sizeof *g);
    int r = deflateInit2(&g->z, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    if (r != Z_OK) {
        free(g);
        return NULL;
    }
    return g;
}

void gzip_stream_free(struct gzip_stream *g)
{
    if (!g)
        return;
    deflateEnd(&g->z);
    free(g);
}

/* One piece that zlib can count; all of it is taken. */
static enum errc gzip_stream_piece(struct gzip_stream *g, struct str in, int flush, struct buf *out)
{
    union {
        const char *in;
        unsigned char *zlib;
    } from = {.in = in.p};
    g->z.next_in = from.zlib;
    g->z.avail_in = (unsigned)in.n;
    do {
        enum errc code = room_make(out, ROOM_LEAST);
        if (code != E_OK)
            return code;
        size_t room = min_size(out->cap - out->n, UINT_MAX);
        if (room == 0)
            return too_big(out);
        g->z.next_out = (unsigned char *)out->p + out->n;
        g->z.avail_out = (unsigned)room;
        g->finished = deflate(&g->z, flush) == Z_STREAM_END;
        out->n += room - g->z.avail_out;
    } while (!g->finished && (g->z.avail_out == 0 || g->z.avail_in));
    return E_OK;
}

enum errc gzip_stream_write(struct gzip_stream *g, struct str in, bool finish, struct buf *out)
{
    ensure(!g->finished);
    enum errc code = E_OK;
    while (code == E_OK && in.n > UINT_MAX) {
        code = gzip_stream_piece(g, str_take(in, UINT_MAX), Z_NO_FLUSH, out);
        in = str_skip(in, UINT_MAX);
    }
    if (code == E_OK && (in.n || finish))
        code = gzip_stream_piece(g, in, finish ? Z_FINISH : Z_NO_FLUSH, out);
    return code;
}

/* --- zstd for the store --- */

struct zstd_ctx {
    ZSTD_CCtx *pack;
    ZSTD_DCtx *unpack;
};

struct zstd_ctx *zstd_ctx_new(void)
{
    struct zstd_ctx *z = xcalloc(1, sizeof *z);
    z->pack = ZSTD_createCCtx();
    z->unpack = ZSTD_createDCtx();
    ensure(z->pack && z->unpack);
    return z;
}

void zstd_ctx_free(struct zstd_ctx *z)
{
    if (!z)
        return;
    ZSTD_freeCCtx(z->pack);
    ZSTD_freeDCtx(z->unpack);
    free(z);
}

size_t zstd_bound(size_t n)
{
    return ZSTD_compressBound(n);
}

size_t zstd_pack(struct zstd_ctx *z, struct str in, int level, void *out, size_t out_max)
{
    size_t n = ZSTD_compressCCtx(z->pack, out, out_max, in.p, in.n, level);
    return ZSTD_isError(n) ? 0 : n;
}

bool zstd_unpack(struct zstd_ctx *z, struct str in, void *out, size_t out_n)
{
    return ZSTD_decompressDCtx(z->unpack, out, out_n, in.p, in.n) == out_n;
}
