/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"

#include "base/hash.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOTE_MAX 256

static struct test *tests, **tests_last = &tests;
static uint64_t rand_state;
static char dir_path[64];
static char *note; /* shared with the child that runs the test */

void test_register(struct test *t)
{
    *tests_last = t;
    tests_last = &t->next;
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stdout, "# %s:%d: ", file, line);
    vfprintf(stdout, fmt, args);
    fprintf(stdout, "\n");
    fflush(stdout);
    va_end(args);
    _exit(1);
}

void test_note(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(note, NOTE_MAX, fmt, args);
    va_end(args);
}

uint64_t test_rand(void)
{
    rand_state += HASH_K0;
    return hash_u64(rand_state, 1);
}

const char *test_dir(void)
{
    if (!dir_path[0]) {
        snprintf(dir_path, sizeof dir_path, "/tmp/lymer-test-XXXXXX");
        if (!mkdtemp(dir_path))
            test_fail(__FILE__, __LINE__, "mkdtemp: %s", strerror(errno));
    }
    return dir_path;
}

struct str test_guarded(struct str bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), len = round_up(bytes.n, page) + page;
    char *at = mmap(NULL, len + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || mprotect(at + len, page, PROT_NONE) != 0)
        test_fail(__FILE__, __LINE__, "mmap: %s", strerror(errno));
    if (bytes.n)
        memcpy(at + len - bytes.n, bytes.p, bytes.n);
    return str_of(at + len - bytes.n, bytes.n);
}

static void remove_dir(const char *path)
{
    pid_t child = fork();
    if (child == 0) {
        execlp("rm", "rm", "-rf", path, (char *)NULL);
        _exit(127);
    }
    if (child > 0)
        waitpid(child, NULL, 0);
}

/* In the child: the test's directory is removed here, and by the parent when the child dies (see
 * run_one). */
static void child_main(const struct test *t)
{
    t->fn();
    if (dir_path[0])
        remove_dir(dir_path);
    fflush(stdout);
    exit(0); /* not _exit: leak checkers report at exit */
}

static bool run_one(const struct test *t, unsigned number)
{
    fflush(stdout);
    note[0] = 0;
    pid_t child = fork();
    if (child == 0)
        child_main(t);
    int status = 0;
    waitpid(child, &status, 0);
    bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (WIFSIGNALED(status))
        printf("# killed by signal %d\n", WTERMSIG(status));
    if (!ok && note[0])
        printf("# %s\n", note);
    if (!ok) /* every test begins with it: the child's own has moved on */
        printf("# LYMER_TEST_SEED=%llu\n", (unsigned long long)rand_state);
    printf("%s %u - %s: %s\n", ok ? "ok" : "not ok", number, t->file, t->name);
    return ok;
}

static bool wanted(const struct test *t, char **patterns, int count)
{
    char full[512];
    snprintf(full, sizeof full, "%s:%s", t->file, t->name);
    for (int i = 0; i < count; i++)
        if (strstr(full, patterns[i]))
            return true;
    return count == 0;
}

/* "0/2": every second test. */
static void part_from(const char *text, unsigned *part, unsigned *parts)
{
    *part = 0;
    *parts = 1;
    if (text && (sscanf(text, "%u/%u", part, parts) != 2 || *part >= *parts)) {
        fprintf(stderr, "LYMER_TEST_PART=%s is not a part such as 0/2\n", text);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    bool list = argc > 1 && strcmp(argv[1], "-l") == 0;
    if (list)
        argc--, argv++;
    const char *seed = getenv("LYMER_TEST_SEED");
    rand_state = seed ? strtoull(seed, NULL, 10) : (uint64_t)getpid() * HASH_K1;
    unsigned passed = 0, failed = 0, part, parts, n = 0;
    part_from(getenv("LYMER_TEST_PART"), &part, &parts);
    note = mmap(NULL, NOTE_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (note == MAP_FAILED)
        return 1;
    for (const struct test *t = tests; t; t = t->next) {
        if (!wanted(t, argv + 1, argc - 1) || n++ % parts != part)
            continue;
        if (list)
            printf("%s:%s\n", t->file, t->name);
        else if (run_one(t, passed + failed + 1))
            passed++;
        else
            failed++;
    }
    if (!list)
        printf("%u passed, %u failed\n", passed, failed);
    return failed || (!list && passed == 0) ? 1 : 0;
}
