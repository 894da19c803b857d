/* SPDX-License-Identifier: Apache-2.0 */
/* The test harness: tests register themselves, each runs in its own process (a crash fails one
 * test, not the run), output is TAP, the last line is "N passed, N failed".
 *
 *   TEST(buf_stops_at_its_cap) { struct buf b = buf_init(4); … CHECK(b.failed); }
 *
 * build/unit [-v] [-l] [PATTERN…]: runs tests whose "file:name" contains a pattern. LYMER_TEST_SEED
 * sets the seed of test_rand(); it is printed when a test fails. */
#ifndef LYMER_TESTS_HARNESS_H
#define LYMER_TESTS_HARNESS_H

#include "base/str.h"

struct test {
    const char *file, *name;
    void (*fn)(void);
    struct test *next;
};

void test_register(struct test *t);
_Noreturn void test_fail(const char *file, int line, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* What is printed when the test fails from now on, also by a signal: how to see it again. */
void test_note(const char *fmt, ...) PRINTF_LIKE(1, 2);
uint64_t test_rand(void);
/* A fresh directory that is removed when the test ends. */
const char *test_dir(void);
/* n bytes ending exactly at an unreadable page: an over-read crashes. Copies `bytes`. */
struct str test_guarded(struct str bytes);

#define TEST(name_)                                                                    \
    static void test_##name_(void);                                                    \
    __attribute__((constructor)) static void test_register_##name_(void)               \
    {                                                                                  \
        static struct test t = {.file = __FILE__, .name = #name_, .fn = test_##name_}; \
        test_register(&t);                                                             \
    }                                                                                  \
    static void test_##name_(void)

#define CHECK(x)                                     \
    do {                                             \
        if (!(x))                                    \
            test_fail(__FILE__, __LINE__, "%s", #x); \
    } while (0)
#define CHECK_INT(got, want)                                                             \
    do {                                                                                 \
        long long got_ = (long long)(got), want_ = (long long)(want);                    \
        if (got_ != want_)                                                               \
            test_fail(__FILE__, __LINE__, "%s: got %lld, want %lld", #got, got_, want_); \
    } while (0)
#define CHECK_STR(got, want)                                                                      \
    do {                                                                                          \
        struct str got_ = (got), want_ = (want);                                                  \
        if (!str_eq(got_, want_))                                                                 \
            test_fail(__FILE__, __LINE__, "%s: got \"%.*s\", want \"%.*s\"", #got, STR_ARG(got_), \
                      STR_ARG(want_));                                                            \
    } while (0)
#define CHECK_OK(call)                                                       \
    do {                                                                     \
        enum errc errc_ = (call);                                            \
        if (errc_ != E_OK)                                                   \
            test_fail(__FILE__, __LINE__, "%s: %s", #call, err_name(errc_)); \
    } while (0)

#endif
