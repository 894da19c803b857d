/* SPDX-License-Identifier: Apache-2.0 */
/* Strings, errors, buffers and arenas. */
#include "tests/harness.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>

TEST(str_pieces)
{
    struct str rest = STR("a,,b"), part;
    CHECK(str_split(&rest, ',', &part) && str_eq(part, STR("a")));
    CHECK(str_split(&rest, ',', &part) && part.n == 0);
    CHECK(str_split(&rest, ',', &part) && str_eq(part, STR("b")));
    CHECK(!str_split(&rest, ',', &part));
    rest = STR("a,");
    CHECK(str_split(&rest, ',', &part) && str_split(&rest, ',', &part) && part.n == 0);
    CHECK(!str_split(&rest, ',', &part));
    CHECK_STR(str_trim(STR(" \t a b\t ")), STR("a b"));
    CHECK_STR(str_trim(STR("  ")), STR(""));
    CHECK(str_eq_nocase(STR("Content-TYPE"), STR("content-type")));
    CHECK(!str_eq_nocase(STR("[]"), STR("{}")));
    CHECK(str_cmp(STR("a"), STR("ab")) < 0 && str_cmp(STR("b"), STR("ab")) > 0);
}

TEST(str_utf8)
{
    static const char *const good[] = {"",
                                       "abcdefghijkl",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       ("12345678\xc3\xa4"
                                        "12345678")};
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xc2"
                                      "a",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xe2\x82",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xf0\x90\x80",
                                      "\xff",
                                      "12345678\xe4"
                                      "12345678"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        CHECK(str_is_utf8(test_guarded(str_from_c(good[i]))));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(!str_is_utf8(test_guarded(str_from_c(bad[i]))));
    CHECK(str_is_utf8(STR("a\0b")));
    CHECK_INT(str_utf8_len(STR("\xe2\x82\xac!")), 3);
    CHECK_INT(str_utf8_len(STR("\xe2\x82")), 0);
}

TEST(bytes_varints)
{
    for (int i = 0; i < 100000; i++) {
        uint64_t v = test_rand() >> (test_rand() % 64), back;
        uint8_t p[VARINT_MAX];
        const uint8_t *end = varint_put(p, v);
        CHECK_INT(end - p, varint_len(v));
        CHECK(varint_get(p, end, &back) == end && back == v);
        CHECK(!varint_get(p, end - 1, &back));
        CHECK(unzigzag(zigzag((int64_t)v)) == (int64_t)v);
    }
}

TEST(err_sentences)
{
    struct err e;
    CHECK_INT(fail(&e, E_INVALID, "bad %s", "thing"), E_INVALID);
    CHECK_STR(str_from_c(err_msg(&e)), STR("bad thing"));
    CHECK_INT(fail(NULL, E_IO, "x"), E_IO);
    errno = ENOSPC;
    CHECK_INT(fail_errno(&e, E_IO, "cannot write"), E_FULL);
    CHECK_STR(str_from_c(err_msg(&e)), STR("cannot write: No space left on device"));
    char name[600];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    errno = EIO;
    CHECK_INT(fail_errno(&e, E_IO, "cannot write %s", name), E_IO);
    CHECK_INT(strlen(e.msg), ERR_MSG_MAX - 1);
    e = (struct err){.code = E_LOCKED};
    CHECK_STR(str_from_c(err_msg(&e)), STR("in use by another process"));
    CHECK_STR(str_from_c(err_name(E_TOO_BIG)), STR("TOO_BIG"));
    CHECK_INT(err_http(E_TOO_BIG), 413);
    CHECK_INT(err_grpc(E_UNAVAILABLE), 14);
    CHECK_INT(err_http((enum errc)999), 500);
}

TEST(buf_stops_at_its_cap)
{
    struct buf b = buf_init(100);
    for (int i = 0; i < 100; i++)
        buf_add_char(&b, (char)i);
    CHECK(!b.failed && b.n == 100 && b.cap == 100);
    buf_add(&b, "", 0);
    CHECK(!b.failed);
    buf_add_char(&b, 'x');
    CHECK(b.failed && b.n == 100 && buf_err(&b) == E_TOO_BIG);
    buf_consume(&b, 50);
    buf_add_char(&b, 'x'); /* latched */
    CHECK(b.n == 50 && b.p[0] == 50);
    buf_reset(&b);
    buf_addf(&b, "%0100d", 7); /* exactly the cap */
    CHECK(!b.failed && b.n == 100 && b.p[99] == '7');
    buf_addf(&b, "%s", "x");
    CHECK(b.failed);
    buf_fini(&b);
    CHECK(!b.p && b.max == 100);
    CHECK(!buf_reserve(&b, SIZE_MAX) && b.failed);
}

TEST(buf_long_prints_and_zeros)
{
    struct buf b = buf_init(5000);
    buf_addf(&b, "%01000d", 3);
    buf_add_zero(&b, 3);
    CHECK_INT(b.n, 1003);
    CHECK(b.p[999] == '3' && b.p[1002] == 0);
    size_t n;
    char *p = buf_take(&b, &n);
    CHECK(n == 1003 && !b.p && b.n == 0);
    free(p);
    buf_consume(&b, 10);
    CHECK(b.n == 0);
}

TEST(arena_hands_out_aligned_separate_memory)
{
    struct arena a = arena_init(16 * MIB);
    struct {
        uint8_t *p;
        size_t n;
    } got[2000];
    for (size_t i = 0; i < ARRAY_LEN(got); i++) {
        size_t align = (size_t)1 << (test_rand() % 7);
        got[i].n = test_rand() % (i % 50 ? 200 : 60000);
        got[i].p = arena_alloc(&a, got[i].n, align);
        CHECK(got[i].p && (uintptr_t)got[i].p % align == 0);
        memset(got[i].p, (int)i, got[i].n);
    }
    for (size_t i = 0; i < ARRAY_LEN(got); i++)
        for (size_t k = 0; k < got[i].n; k++)
            CHECK(got[i].p[k] == (uint8_t)i);
    CHECK(a.used_bytes <= a.max_bytes);
    arena_reset(&a);
    CHECK(a.used_bytes <= MIB && a.chunks && a.at);
    arena_fini(&a);
    CHECK(a.used_bytes == 0);
}

TEST(arena_stops_at_its_cap)
{
    struct arena a = arena_init(10000);
    size_t handed = 0;
    while (arena_alloc(&a, 100, 8))
        handed += 100;
    CHECK(handed > 8000 && a.used_bytes <= 10000 && a.failed);
    arena_reset(&a);
    CHECK(!a.failed && arena_alloc(&a, 100, 8));
    CHECK(!arena_alloc(&a, SIZE_MAX, 8) && a.failed);
    arena_reset(&a);
    CHECK(!arena_alloc(&a, SIZE_MAX - 20, 8));
    CHECK(!arena_calloc(&a, SIZE_MAX / 2, 3, 1));
    arena_fini(&a);
    CHECK(arena_alloc(&a, 9000, 1)); /* more than a first chunk */
    arena_fini(&a);
}

TEST(arena_strings)
{
    struct arena a = arena_init(MIB);
    struct str s = arena_str(&a, STR("hello"));
    CHECK_STR(s, STR("hello"));
    CHECK(s.p[5] == '\0');
    CHECK(arena_str(&a, STR_NONE).p != NULL);
    CHECK_STR(arena_printf(&a, "%d-%s", 5, "x"), STR("5-x"));
    CHECK_INT(arena_printf(&a, "%01000d", 5).n, 1000);
    int *zeros = ARENA_ARRAY(&a, int, 1000);
    for (int i = 0; i < 1000; i++)
        CHECK(zeros[i] == 0);
    arena_fini(&a);
}

/* Arenas that share a budget together never hold more than it; what was taken is given back, by a
 * reset, by the end, and by leaving. */
TEST(arenas_share_a_budget)
{
    struct budget budget = {.max = 64 * KIB};
    struct arena a = arena_init_within(&budget, MIB), b = arena_init_within(&budget, MIB);
    CHECK(arena_alloc(&a, 40000, 8));
    CHECK(!arena_alloc(&b, 40000, 8));
    CHECK(b.failed);
    CHECK_INT(budget.used, a.used_bytes + b.used_bytes);
    arena_reset(&a);
    arena_reset(&b);
    CHECK_INT(budget.used, a.used_bytes + b.used_bytes);
    CHECK(arena_alloc(&b, 40000, 8));
    arena_leave_budget(&b);
    CHECK(arena_alloc(&a, 60000, 8));
    CHECK(arena_alloc(&b, 100000, 8)); /* no longer counted */
    arena_fini(&a);
    arena_fini(&b);
    CHECK_INT(budget.used, 0);
}
