/* SPDX-License-Identifier: Apache-2.0 */
/* The two worlds behind os.h. What is true of both is checked in both. */
#include "tests/harness.h"

#include "base/os/sim.h"
#include "base/os/thread.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct os_file *open_ok(struct os *os, const char *path, int flags)
{
    struct os_file *f = NULL;
    CHECK_OK(os_open(os, path, flags, &f, NULL));
    return f;
}

static void write_ok(struct os_file *f, const char *text, uint64_t off)
{
    CHECK_OK(os_pwrite(f, str_from_c(text), off, NULL));
}

static struct str content(struct os *os, const char *path)
{
    static struct buf b;
    buf_fini(&b);
    b = buf_init(64 * MIB);
    enum errc code = os_read_file(os, path, &b, NULL);
    return code == E_OK ? str_of(b.p ? b.p : "", b.n) : STR("<none>");
}

static void count_names(void *arg, const char *name)
{
    CHECK(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
    ++*(int *)arg;
}

static int names_in(struct os *os, const char *dir)
{
    int n = 0;
    CHECK_OK(os_list(os, dir, count_names, &n, NULL));
    return n;
}

/* --- what every world does --- */

static void check_files(struct os *os, const char *dir)
{
    char a[200], b[200], deep[200];
    snprintf(a, sizeof a, "%s/a", dir);
    snprintf(b, sizeof b, "%s/b", dir);
    snprintf(deep, sizeof deep, "%s/x//y/z/", dir);
    struct err e;
    struct os_file *f, *g;
    CHECK_INT(os_open(os, a, OS_READ, &f, &e), E_NOT_FOUND);
    CHECK_OK(os_mkdir(os, deep, NULL));
    CHECK_OK(os_mkdir(os, deep, NULL));
    CHECK_INT(names_in(os, dir), 1);
    f = open_ok(os, a, OS_WRITE);
    write_ok(f, "hello", 3);
    CHECK_STR(content(os, a), STR("\0\0\0hello"));
    struct iovec parts[200];
    char bytes[200];
    for (size_t i = 0; i < 200; i++) {
        bytes[i] = (char)i;
        parts[i] = (struct iovec){&bytes[i], i % 3 != 1}; /* some are empty */
    }
    CHECK_OK(os_pwritev(f, parts, 200, 70000, NULL));
    uint64_t size;
    CHECK_OK(os_size(f, &size, NULL));
    CHECK_INT(size, 70000 + 133);
    char back[300];
    size_t got;
    CHECK_OK(os_pread(f, back, sizeof back, 70000, &got, NULL));
    CHECK_INT(got, 133);
    for (size_t i = 0, k = 0; i < 200; i++)
        if (i % 3 != 1)
            CHECK(back[k++] == (char)i);
    CHECK_OK(os_pread(f, back, sizeof back, 1 << 20, &got, NULL));
    CHECK_INT(got, 0);
    CHECK_OK(os_truncate(f, 5, NULL));
    CHECK_OK(os_truncate(f, 8, NULL));
    CHECK_STR(content(os, a), STR("\0\0\0he\0\0\0"));
    CHECK_OK(os_allocate(f, 100, NULL));
    CHECK_OK(os_allocate(f, 50, NULL));
    CHECK_OK(os_allocate(f, 0, NULL));
    CHECK_OK(os_size(f, &size, NULL));
    CHECK_INT(size, 100);
    CHECK_OK(os_sync(f, NULL));
    CHECK_OK(os_lock(f, NULL));
    g = open_ok(os, a, OS_WRITE);
    CHECK_INT(os_lock(g, &e), E_LOCKED);
    os_close(f);
    CHECK_OK(os_lock(g, NULL));
    os_close(g);

    CHECK_OK(os_rename(os, a, b, NULL));
    CHECK_INT(os_rename(os, a, b, &e), E_NOT_FOUND);
    CHECK_STR(content(os, a), STR("<none>"));
    f = open_ok(os, b, OS_READ);
    CHECK_INT(os_pwrite(f, STR("x"), 0, &e), E_IO);
    CHECK_INT(os_link(os, a, b, &e), E_NOT_FOUND);
    CHECK_OK(os_link(os, b, a, NULL));
    CHECK_INT(os_link(os, b, a, &e), E_EXISTS);
    os_close(g = open_ok(os, a, OS_WRITE));
    memcpy(back, content(os, b).p, 100);
    CHECK_STR(content(os, a), str_of(back, 100));
    CHECK_OK(os_unlink(os, a, NULL)); /* the other name stays */
    CHECK_STR(content(os, b), str_of(back, 100));
    CHECK_OK(os_copy_file(os, b, a, NULL));
    CHECK_STR(content(os, a), str_of(back, 100));
    CHECK_OK(os_unlink(os, a, NULL));
    CHECK_INT(os_copy_file(os, a, b, &e), E_NOT_FOUND);
    CHECK_OK(os_unlink(os, b, NULL));
    CHECK_INT(os_unlink(os, b, &e), E_NOT_FOUND);
    CHECK_OK(os_pread(f, back, 5, 0, &got, NULL)); /* an open file outlives its name */
    CHECK_INT(got, 5);
    os_close(f);
    CHECK_OK(os_replace_file(os, dir, "b", STR("one"), NULL));
    CHECK_OK(os_replace_file(os, dir, "b", STR("two!"), NULL));
    CHECK_STR(content(os, b), STR("two!"));
    CHECK_INT(names_in(os, dir), 2);
    os_close(open_ok(os, b, OS_WRITE | OS_FRESH));
    CHECK_STR(content(os, b), STR(""));
    CHECK_OK(os_sync_dir(os, dir, NULL));
    snprintf(deep, sizeof deep, "%s/none", dir);
    int n = 0;
    CHECK_INT(os_list(os, deep, count_names, &n, &e), E_NOT_FOUND);
    CHECK_INT(os_sync_dir(os, deep, &e), E_NOT_FOUND);
    snprintf(deep, sizeof deep, "%s/none/file", dir);
    CHECK_INT(os_open(os, deep, OS_WRITE, &f, &e), E_NOT_FOUND);
    CHECK(os_open(os, dir, OS_WRITE, &f, &e) != E_OK);
    uint64_t free_bytes;
    CHECK_OK(os_free_bytes(os, dir, &free_bytes, NULL));
    CHECK(free_bytes > 0);
}

static void check_read_file_cap(struct os *os, const char *dir)
{
    char path[200];
    snprintf(path, sizeof path, "%s/ten", dir);
    CHECK_OK(os_replace_file(os, dir, "ten", STR("0123456789"), NULL));
    struct buf exact = buf_init(10), less = buf_init(9);
    CHECK_OK(os_read_file(os, path, &exact, NULL));
    CHECK_STR(buf_str(&exact), STR("0123456789"));
    CHECK_INT(os_read_file(os, path, &less, NULL), E_TOO_BIG);
    buf_fini(&exact);
    buf_fini(&less);
}

/* Every byte counts once, on the thread that moves it. */
static void check_counts(struct os *os, const char *dir)
{
    char path[200];
    char back[64];
    size_t got;
    snprintf(path, sizeof path, "%s/counted", dir);
    struct os_io before = os_thread_io();
    struct os_file *f = open_ok(os, path, OS_WRITE);
    struct iovec parts[3] = {{back, 7}, {back, 0}, {back, 40}};
    memset(back, 'x', sizeof back);
    CHECK_OK(os_pwritev(f, parts, 3, 5, NULL));
    CHECK_OK(os_pread(f, back, sizeof back, 10, &got, NULL));
    CHECK_OK(os_sync(f, NULL));
    os_close(f);
    struct os_io after = os_thread_io();
    CHECK_INT(after.written_bytes - before.written_bytes, 47);
    CHECK_INT(after.read_bytes - before.read_bytes, 42);
    CHECK_OK(os_unlink(os, path, NULL));
}

TEST(os_machine_keeps_files)
{
    check_files(os_posix(), test_dir());
    check_read_file_cap(os_posix(), test_dir());
    check_counts(os_posix(), test_dir());
}

TEST(os_memory_keeps_files)
{
    struct os *os = os_mem_new();
    CHECK_OK(os_mkdir(os, "/data/lymer", NULL));
    check_files(os, "/data/lymer");
    check_read_file_cap(os, "/data/lymer");
    check_counts(os, "/data/lymer");
    CHECK_INT(sim_calls(os), 0);
    os_sim_free(os);
}

TEST(os_sim_keeps_files)
{
    struct os *os = os_sim_new(1);
    CHECK_OK(os_mkdir(os, "data", NULL));
    check_files(os, "data");
    check_read_file_cap(os, "data");
    check_counts(os, "data");
    os_sim_free(os);
}

TEST(os_machine_says_when_the_disk_is_full)
{
    struct os_file *f;
    struct err e;
    if (os_open(os_posix(), "/dev/full", OS_WRITE, &f, NULL) != E_OK)
        return; /* not in every container */
    CHECK_INT(os_pwrite(f, STR("x"), 0, &e), E_FULL);
    os_close(f);
}

TEST(os_clocks_and_randomness)
{
    struct os *m = os_posix(), *s = os_sim_new(7), *t = os_sim_new(7);
    CHECK(os_now_ns(m) > UINT64_C(1700000000) * NS_PER_S);
    uint64_t mono = os_mono_ns(m);
    CHECK(os_mono_ns(m) >= mono);
    uint64_t a[4] = {0}, b[4] = {0};
    os_random(m, a, sizeof a);
    os_random(m, b, sizeof b);
    CHECK(memcmp(a, b, sizeof a) != 0);
    os_random(s, a, sizeof a);
    os_random(t, b, sizeof b);
    CHECK(memcmp(a, b, sizeof a) == 0);
    uint64_t start = os_now_ns(s);
    CHECK(start == UINT64_C(1767225600) * NS_PER_S);
    mono = os_mono_ns(s);
    sim_advance(s, 5);
    CHECK(os_now_ns(s) == start + 5 && os_mono_ns(s) == mono + 5);
    sim_set_wall(s, 77);
    CHECK(os_now_ns(s) == 77 && os_mono_ns(s) == mono + 5);
    os_sim_free(s);
    os_sim_free(t);
}

/* A model of bytes beside a file of the memory world. */
TEST(os_memory_agrees_with_a_model)
{
    struct os *os = os_mem_new();
    size_t max = 400000, size = 0;
    char *model = xcalloc(1, max), *tmp = xmalloc(max);
    struct os_file *f = open_ok(os, "f", OS_WRITE);
    for (int i = 0; i < 3000; i++) {
        size_t off = test_rand() % max, n = test_rand() % (i % 10 ? 3000 : max);
        n = min_size(n, max - off);
        if (test_rand() % 8 == 0) {
            CHECK_OK(os_truncate(f, off, NULL));
            if (off < size)
                memset(model + off, 0, size - off);
            size = off;
        } else if (test_rand() % 2) {
            memset(tmp, (int)test_rand(), n);
            CHECK_OK(os_pwrite(f, str_of(tmp, n), off, NULL));
            memcpy(model + off, tmp, n);
            size = n ? max_size(size, off + n) : size;
        }
        size_t got;
        CHECK_OK(os_pread(f, tmp, n, off, &got, NULL));
        CHECK_INT(got, off < size ? min_size(n, size - off) : 0);
        CHECK(memcmp(tmp, model + off, got) == 0);
        CHECK_INT(sim_disk_used(os), size);
    }
    os_close(f);
    CHECK_OK(os_unlink(os, "f", NULL));
    CHECK_INT(sim_disk_used(os), 0);
    os_sim_free(os);
    free(model);
    free(tmp);
}

/* --- crashes --- */

TEST(sim_crash_never_touches_what_was_synced)
{
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct os *os = os_sim_new(seed);
        CHECK_OK(os_mkdir(os, "d", NULL));
        struct os_file *f = open_ok(os, "d/f", OS_WRITE);
        char a[5000];
        memset(a, 'a', sizeof a);
        CHECK_OK(os_pwrite(f, str_of(a, sizeof a), 0, NULL));
        CHECK_OK(os_sync(f, NULL));
        CHECK_OK(os_sync_dir(os, "d", NULL));
        memset(a, 'b', sizeof a);
        CHECK_OK(os_pwrite(f, str_of(a, 2000), 3000, NULL));
        CHECK_OK(os_pwrite(f, str_of(a, 5000), 5000, NULL));
        sim_crash(os);
        char byte;
        size_t got;
        CHECK_INT(os_pread(f, &byte, 1, 0, &got, NULL), E_IO);
        CHECK_INT(os_pwrite(f, STR("x"), 0, NULL), E_IO);
        CHECK_INT(os_sync(f, NULL), E_IO);
        os_close(f);
        struct str s = content(os, "d/f");
        CHECK(s.n >= 5000 && s.n <= 10000);
        for (size_t i = 0; i < 3000; i++)
            CHECK(s.p[i] == 'a');
        os_sim_free(os);
    }
}

/* Every outcome that the manual promises is really drawn. */
TEST(sim_crash_draws_every_fate)
{
    unsigned kept = 0, lost = 0, mixed = 0, garbled = 0, name_gone = 0, name_there = 0;
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct os *os = os_sim_new(seed);
        struct os_file *f = open_ok(os, "f", OS_WRITE);
        char a[4096];
        memset(a, 'a', sizeof a);
        CHECK_OK(os_pwrite(f, str_of(a, sizeof a), 0, NULL));
        CHECK_OK(os_sync(f, NULL));
        CHECK_OK(os_sync_dir(os, ".", NULL));
        memset(a, 'b', sizeof a);
        CHECK_OK(os_pwrite(f, str_of(a, sizeof a), 0, NULL));
        os_close(open_ok(os, "g", OS_WRITE));
        os_close(f);
        sim_crash(os);
        struct str s = content(os, "f");
        CHECK_INT(s.n, 4096);
        size_t b = 0, other = 0;
        for (size_t i = 0; i < s.n; i++) {
            b += s.p[i] == 'b';
            other += s.p[i] != 'a' && s.p[i] != 'b';
        }
        kept += b == 4096;
        lost += b + other == 0;
        mixed += other == 0 && b > 0 && b < 4096;
        garbled += other > 0;
        *(names_in(os, ".") == 2 ? &name_there : &name_gone) += 1;
        os_sim_free(os);
    }
    CHECK(kept > 20 && lost > 20 && mixed > 10 && garbled > 10);
    CHECK(name_there > 50 && name_gone > 50);
}

TEST(sim_replace_is_old_or_new_after_any_crash)
{
    unsigned old = 0, new = 0;
    for (uint64_t seed = 0; seed < 600; seed++) {
        struct os *os = os_sim_new(seed);
        CHECK_OK(os_mkdir(os, "d", NULL));
        CHECK_OK(os_replace_file(os, "d", "f", STR("the old content"), NULL));
        sim_fail_after(os, 1 + seed % 7, E_IO, true); /* the sixth does not exist: no failure */
        enum errc code = os_replace_file(os, "d", "f", STR("new"), NULL);
        sim_crash(os);
        bool is_new = str_eq(content(os, "d/f"), STR("new"));
        CHECK(is_new || str_eq(content(os, "d/f"), STR("the old content")));
        CHECK(is_new || code != E_OK);
        *(is_new ? &new : &old) += 1;
        os_sim_free(os);
    }
    CHECK(old > 50 && new > 50);
}

TEST(sim_failed_sync_is_not_repaired_by_a_second)
{
    unsigned lost = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct os *os = os_sim_new(seed);
        struct os_file *f = open_ok(os, "f", OS_WRITE);
        CHECK_OK(os_sync_dir(os, ".", NULL));
        write_ok(f, "data", 0);
        sim_fail_after(os, 1, E_IO, false);
        CHECK_INT(os_sync(f, NULL), E_IO);
        CHECK_STR(content(os, "f"), STR("data"));
        CHECK_OK(os_sync(f, NULL));
        os_close(f);
        sim_crash(os);
        lost += content(os, "f").n == 0;
        os_sim_free(os);
    }
    CHECK(lost > 5 && lost < 45);
}

TEST(sim_is_the_same_for_the_same_seed)
{
    uint64_t sums[2];
    for (int round = 0; round < 2; round++) {
        struct os *os = os_sim_new(99);
        uint64_t sum = 0;
        for (unsigned i = 0; i < 40; i++) {
            struct os_file *f = open_ok(os, "f", OS_WRITE);
            char a[2000];
            memset(a, (int)i, sizeof a);
            CHECK_OK(os_pwrite(f, str_of(a, sizeof a), (uint64_t)i * 100, NULL));
            os_close(f);
            if (i == 0)
                CHECK_OK(os_sync_dir(os, ".", NULL));
            sim_crash(os);
            struct str s = content(os, "f");
            for (size_t k = 0; k < s.n; k++)
                sum = sum * 31 + (unsigned char)s.p[k];
        }
        sums[round] = sum;
        os_sim_free(os);
    }
    CHECK(sums[0] == sums[1]);
}

/* --- faults, the disk, rot --- */

TEST(sim_fails_the_call_it_was_told_to)
{
    struct os *os = os_sim_new(3);
    struct os_file *f = open_ok(os, "f", OS_WRITE);
    uint64_t before = sim_calls(os);
    sim_fail_after(os, 2, E_FULL, false);
    write_ok(f, "one", 0);
    CHECK_INT(os_pwrite(f, STR("two"), 3, NULL), E_FULL);
    write_ok(f, "three", 6);
    CHECK_INT(sim_calls(os) - before, 3);
    sim_fail_after(os, 1, E_IO, true);
    size_t got;
    char byte;
    struct os_file *g;
    CHECK_INT(os_pread(f, &byte, 1, 0, &got, NULL), E_IO);
    CHECK_INT(os_sync(f, NULL), E_IO);
    CHECK_INT(os_allocate(f, 10, NULL), E_IO);
    CHECK_INT(os_truncate(f, 10, NULL), E_IO);
    CHECK_INT(os_rename(os, "f", "g", NULL), E_IO);
    CHECK_INT(os_unlink(os, "f", NULL), E_IO);
    CHECK_INT(os_mkdir(os, "d", NULL), E_IO);
    CHECK_INT(os_sync_dir(os, ".", NULL), E_IO);
    CHECK_INT(os_open(os, "h", OS_WRITE, &g, NULL), E_IO);
    g = open_ok(os, "f", OS_READ); /* to open for reading is not among them */
    os_close(g);
    sim_fail_after(os, 0, E_OK, false);
    CHECK_OK(os_unlink(os, "f", NULL));
    os_close(f);
    os_sim_free(os);
}

TEST(sim_failed_write_leaves_any_prefix)
{
    unsigned none = 0, all = 0, part = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct os *os = os_sim_new(seed);
        struct os_file *f = open_ok(os, "f", OS_WRITE);
        sim_fail_after(os, 1, E_IO, false);
        CHECK_INT(os_pwrite(f, STR("abcd"), 0, NULL), E_IO);
        struct str s = content(os, "f");
        CHECK(str_starts(STR("abcd"), s));
        none += s.n == 0;
        all += s.n == 4;
        part += s.n > 0 && s.n < 4;
        os_close(f);
        os_sim_free(os);
    }
    CHECK(none && all && part);
}

TEST(sim_disk_has_a_size)
{
    struct os *os = os_sim_new(5);
    sim_disk_size(os, 1000);
    struct os_file *f = open_ok(os, "f", OS_WRITE);
    CHECK_OK(os_allocate(f, 900, NULL));
    CHECK_INT(os_allocate(f, 1001, NULL), E_FULL);
    write_ok(f, "over what is reserved", 100);
    struct os_file *g = open_ok(os, "g", OS_WRITE);
    char a[200] = {0};
    CHECK_INT(os_pwrite(g, str_of(a, 101), 0, NULL), E_FULL);
    CHECK_OK(os_truncate(g, 0, NULL));
    CHECK_OK(os_pwrite(g, str_of(a, 100), 0, NULL));
    uint64_t left;
    CHECK_OK(os_free_bytes(os, "/", &left, NULL));
    CHECK_INT(left, 0);
    CHECK_OK(os_unlink(os, "f", NULL));
    CHECK_INT(sim_disk_used(os), 1000); /* still open */
    os_close(f);
    CHECK_INT(sim_disk_used(os), 100);
    CHECK_OK(os_sync_dir(os, ".", NULL));
    CHECK_OK(os_truncate(g, 10, NULL));
    CHECK_INT(sim_disk_used(os), 10);
    os_close(g);
    sim_crash(os);
    CHECK(sim_disk_used(os) <= 100);
    os_sim_free(os);
}

TEST(sim_rot_flips_one_bit)
{
    struct os *os = os_sim_new(5);
    CHECK_OK(os_replace_file(os, ".", "f", STR("abc"), NULL));
    CHECK(sim_flip_bit(os, "f", 8 + 1));
    CHECK_STR(content(os, "f"), STR("a`c"));
    sim_crash(os);
    CHECK_STR(content(os, "f"), STR("a`c"));
    CHECK(!sim_flip_bit(os, "f", 24) && !sim_flip_bit(os, "none", 0));
    os_sim_free(os);
}

TEST(sim_a_removed_file_may_come_back)
{
    unsigned back = 0, gone = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct os *os = os_sim_new(seed);
        CHECK_OK(os_replace_file(os, ".", "f", STR("abc"), NULL));
        CHECK_OK(os_unlink(os, "f", NULL));
        CHECK_INT(sim_disk_used(os), 0);
        sim_crash(os);
        struct str s = content(os, "f");
        bool there = str_eq(s, STR("abc"));
        CHECK(there || str_eq(s, STR("<none>")));
        CHECK_INT(sim_disk_used(os), there ? 3 : 0);
        *(there ? &back : &gone) += 1;
        os_sim_free(os);
    }
    CHECK(back > 10 && gone > 10);
}

/* --- threads --- */

struct worker {
    struct os *os;
    unsigned number;
};

static void work(void *arg)
{
    struct worker *w = arg;
    char path[32], back[1000], want[1000];
    snprintf(path, sizeof path, "f%u", w->number);
    memset(want, (int)w->number, sizeof want);
    struct os_file *f = open_ok(w->os, path, OS_WRITE);
    for (uint64_t i = 0; i < 300; i++) {
        size_t got;
        CHECK_OK(os_pwrite(f, str_of(want, sizeof want), i * 999, NULL));
        CHECK_OK(os_pread(f, back, sizeof back, i * 999, &got, NULL));
        CHECK(got == sizeof back && memcmp(back, want, got) == 0);
        CHECK_OK(os_sync(f, NULL));
    }
    os_close(f);
}

/* Either name may be lost with the power, the content of neither. */
TEST(sim_a_link_holds_the_file_or_is_gone)
{
    bool seen[2] = {0};
    for (int i = 0; i < 200; i++) {
        struct os *os = os_sim_new(test_rand());
        CHECK_OK(os_replace_file(os, ".", "f", STR("kept"), NULL));
        CHECK_OK(os_link(os, "f", "g", NULL));
        if (i % 2)
            CHECK_OK(os_unlink(os, "f", NULL));
        sim_crash(os);
        struct str g = content(os, "g");
        bool there = !str_eq(g, STR("<none>"));
        if (there)
            CHECK_STR(g, STR("kept"));
        if (i % 2 == 0)
            CHECK_STR(content(os, "f"), STR("kept"));
        seen[there] = true;
        os_sim_free(os);
    }
    CHECK(seen[0] && seen[1]);
}

TEST(sim_serves_many_threads)
{
    for (int fault_mode = 0; fault_mode < 2; fault_mode++) {
        struct os *os = fault_mode ? os_sim_new(1) : os_mem_new();
        struct thread threads[4] = {0};
        struct worker workers[4];
        for (unsigned i = 0; i < 4; i++) {
            workers[i] = (struct worker){os, i};
            thread_start(&threads[i], "worker", work, &workers[i]);
        }
        for (unsigned i = 0; i < 4; i++)
            thread_join(&threads[i]);
        CHECK_INT(sim_disk_used(os), 4 * (299 * 999 + 1000));
        os_sim_free(os);
    }
}
