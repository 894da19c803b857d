/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"

#include "base/zip.h"

#include <stdlib.h>
#include <zstd.h>

static const enum zip_kind kinds[] = {ZIP_GZIP, ZIP_DEFLATE, ZIP_ZSTD};

static struct buf sample(size_t n)
{
    struct buf b = buf_init(n);
    while (b.n < n) {
        char c = (char)(test_rand() % 20 ? 'a' + test_rand() % 4 : test_rand() % 256);
        buf_add_char(&b, c);
    }
    return b;
}

static struct buf packed(enum zip_kind kind, struct str in)
{
    struct buf b = buf_init(SIZE_MAX);
    CHECK_OK(zip_deflate(kind, in, 6, &b));
    return b;
}

TEST(zip_names)
{
    enum zip_kind kind;
    CHECK(zip_kind_from(STR("GZip"), &kind) && kind == ZIP_GZIP);
    CHECK(zip_kind_from(STR("x-gzip"), &kind) && kind == ZIP_GZIP);
    CHECK(zip_kind_from(STR("deflate"), &kind) && kind == ZIP_DEFLATE);
    CHECK(zip_kind_from(STR("zstd"), &kind) && kind == ZIP_ZSTD);
    CHECK(zip_kind_from(STR(""), &kind) && kind == ZIP_NONE);
    CHECK(!zip_kind_from(STR("br"), &kind));
    CHECK_STR(str_from_c(zip_name(ZIP_ZSTD)), STR("zstd"));
}

TEST(zip_gives_back_what_it_took)
{
    static const size_t sizes[] = {0, 1, 100, 5000, 300000};
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            struct buf in = sample(sizes[i]), out = buf_init(sizes[i] + 3);
            struct buf zipped = packed(kinds[k], buf_str(&in));
            buf_add(&out, "xyz", 3); /* it appends */
            CHECK_OK(zip_inflate(kinds[k], test_guarded(buf_str(&zipped)), &out));
            CHECK_STR(str_skip(buf_str(&out), 3), buf_str(&in));
            buf_fini(&in);
            buf_fini(&out);
            buf_fini(&zipped);
        }
}

TEST(zip_bomb_ends_at_the_cap)
{
    struct buf zeros = buf_init(SIZE_MAX);
    buf_add_zero(&zeros, 64 * MIB);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct buf bomb = packed(kinds[k], buf_str(&zeros)), out = buf_init(1 * MIB);
        buf_add(&out, "keep", 4);
        CHECK_INT(zip_inflate(kinds[k], buf_str(&bomb), &out), E_TOO_BIG);
        CHECK(out.failed && out.cap <= out.max);
        CHECK_STR(buf_str(&out), STR("keep"));
        buf_fini(&out);
        out = buf_init(zeros.n - 1);
        CHECK_INT(zip_inflate(kinds[k], buf_str(&bomb), &out), E_TOO_BIG);
        buf_fini(&out);
        out = buf_init(zeros.n);
        CHECK_OK(zip_inflate(kinds[k], buf_str(&bomb), &out));
        CHECK_STR(buf_str(&out), buf_str(&zeros));
        buf_fini(&out);
        buf_fini(&bomb);
    }
    buf_fini(&zeros);
}

TEST(zip_says_when_the_end_is_missing)
{
    struct buf in = sample(3000);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct buf zipped = packed(kinds[k], buf_str(&in)), out = buf_init(10000);
        for (size_t n = 0; n < zipped.n; n += n < 30 || n + 30 > zipped.n ? 1 : 37) {
            enum errc code = zip_inflate(kinds[k], test_guarded(str_take(buf_str(&zipped), n)),
                                         &out);
            if (code != E_TRUNCATED)
                test_fail(__FILE__, __LINE__, "%s cut at %zu: %s", zip_name(kinds[k]), n,
                          err_name(code));
            CHECK_INT(out.n, 0);
        }
        buf_add_c(&zipped, "garbage!");
        CHECK_INT(zip_inflate(kinds[k], buf_str(&zipped), &out), E_INVALID);
        buf_fini(&zipped);
        buf_fini(&out);
    }
    buf_fini(&in);
}

TEST(zip_members_and_frames_follow_each_other)
{
    static const enum zip_kind chained[] = {ZIP_GZIP, ZIP_ZSTD};
    for (size_t k = 0; k < ARRAY_LEN(chained); k++) {
        struct buf all = buf_init(SIZE_MAX), want = buf_init(SIZE_MAX), out = buf_init(MIB);
        for (size_t i = 0; i < 20; i++) {
            struct buf in = sample(i * 500), zipped = packed(chained[k], buf_str(&in));
            buf_add_str(&all, buf_str(&zipped));
            buf_add_str(&want, buf_str(&in));
            buf_fini(&in);
            buf_fini(&zipped);
        }
        CHECK_OK(zip_inflate(chained[k], buf_str(&all), &out));
        CHECK_STR(buf_str(&out), buf_str(&want));
        buf_fini(&all);
        buf_fini(&want);
        buf_fini(&out);
    }
}

TEST(zip_takes_raw_deflate)
{
    struct buf in = sample(5000), zipped = packed(ZIP_DEFLATE, buf_str(&in)), out = buf_init(5000);
    struct str raw = str_of(zipped.p + 2, zipped.n - 6);
    CHECK_OK(zip_inflate(ZIP_DEFLATE, raw, &out));
    CHECK_STR(buf_str(&out), buf_str(&in));
    buf_fini(&in);
    buf_fini(&zipped);
    buf_fini(&out);
}

/* A length in the gzip tail that is a lie is damage, whatever it claims. */
TEST(zip_gzip_size_is_only_a_hint)
{
    struct buf in = sample(5000), zipped = packed(ZIP_GZIP, buf_str(&in)), out = buf_init(64 * MIB);
    memcpy(zipped.p + zipped.n - 4, "\xff\xff\xff\x7f", 4);
    CHECK_INT(zip_inflate(ZIP_GZIP, buf_str(&zipped), &out), E_INVALID);
    CHECK(out.cap < MIB);
    buf_fini(&in);
    buf_fini(&zipped);
    buf_fini(&out);
}

TEST(zip_zstd_without_size)
{
    struct buf in = sample(300000), out = buf_init(300000);
    size_t max = ZSTD_compressBound(in.n);
    char *p = xmalloc(max);
    ZSTD_CCtx *c = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0);
    size_t n = ZSTD_compress2(c, p, max, in.p, in.n);
    CHECK(!ZSTD_isError(n));
    CHECK_OK(zip_inflate(ZIP_ZSTD, str_of(p, n), &out));
    CHECK_STR(buf_str(&out), buf_str(&in));
    buf_reset(&out);
    CHECK_INT(zip_inflate(ZIP_ZSTD, str_of(p, n - 1), &out), E_TRUNCATED);
    struct buf small = buf_init(299999);
    CHECK_INT(zip_inflate(ZIP_ZSTD, str_of(p, n), &small), E_TOO_BIG);
    ZSTD_freeCCtx(c);
    free(p);
    buf_fini(&in);
    buf_fini(&out);
    buf_fini(&small);
}

TEST(zip_gzip_stream_in_pieces)
{
    struct buf in = sample(200000), zipped = buf_init(SIZE_MAX), out = buf_init(in.n);
    struct gzip_stream *g = gzip_stream_new(5);
    for (size_t at = 0; at < in.n;) {
        size_t n = min_size(test_rand() % 9000, in.n - at);
        CHECK_OK(gzip_stream_write(g, str_of(in.p + at, n), false, &zipped));
        at += n;
    }
    CHECK_OK(gzip_stream_write(g, STR(""), true, &zipped));
    gzip_stream_free(g);
    CHECK_OK(zip_inflate(ZIP_GZIP, buf_str(&zipped), &out));
    CHECK_STR(buf_str(&out), buf_str(&in));
    struct buf tiny = buf_init(20);
    g = gzip_stream_new(5);
    CHECK_INT(gzip_stream_write(g, buf_str(&in), true, &tiny), E_TOO_BIG);
    gzip_stream_free(g);
    buf_fini(&tiny);
    buf_fini(&in);
    buf_fini(&zipped);
    buf_fini(&out);
}

TEST(zip_store_contexts)
{
    struct zstd_ctx *z = zstd_ctx_new();
    struct buf in = sample(70000);
    size_t max = zstd_bound(in.n);
    char *p = xmalloc(max), *back = xmalloc(in.n);
    size_t n = zstd_pack(z, buf_str(&in), 1, p, max);
    CHECK(n > 0 && n < in.n);
    CHECK(zstd_unpack(z, str_of(p, n), back, in.n));
    CHECK(memcmp(back, in.p, in.n) == 0);
    CHECK(!zstd_unpack(z, str_of(p, n), back, in.n - 1));
    CHECK(!zstd_unpack(z, str_of(p, n - 1), back, in.n));
    CHECK_INT(zstd_pack(z, buf_str(&in), 1, p, 10), 0);
    zstd_ctx_free(z);
    free(p);
    free(back);
    buf_fini(&in);
}
