/* SPDX-License-Identifier: Apache-2.0 */
/* The sweep: every seed is a run of some kind (`kinds`), with crashes or faults in it, and after
 * each of them the store is compared with what was sent. Nothing acknowledged may be lost, no
 * answer may be wrong, nothing may abort. That the sweep can fail is tested too: in a world that
 * breaks a promise it must find the loss.
 *
 * A failing seed is printed with the command that runs it again. docs/internals/proof.md */
#include "base/hash.h"
#include "base/stats.h"
#include "tests/harness.h"
#include "tests/unit/store/run.h"

#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define RICH 10 /* spans in a hundred */

/* --- crashes --- */

static void crashes(uint64_t seed, enum sync_policy sync, struct tally *tally)
{
    struct run r;
    run_begin(&r, seed, sync, RICH, tally);
    for (unsigned life = 4 + world_roll(r.w, 8); life; life--) {
        run_serve(&r, world_roll(r.w, 12));
        if (world_roll(r.w, 2))
            run_settle(&r);
        run_crash(&r, 1 + world_roll(r.w, world_roll(r.w, 3) ? 16 : 60));
        if (!world_roll(r.w, 4))
            run_ask(&r);
    }
    run_end(&r);
}

static void crashes_each(uint64_t seed, struct tally *tally)
{
    crashes(seed, SYNC_EACH, tally);
}

static void crashes_interval(uint64_t seed, struct tally *tally)
{
    crashes(seed, SYNC_INTERVAL, tally);
}

static void crashes_os(uint64_t seed, struct tally *tally)
{
    crashes(seed, SYNC_OS, tally);
}

/* --- failing calls --- */

static void faults(uint64_t seed, enum errc code, bool sticky, struct tally *tally)
{
    struct run r;
    run_begin(&r, seed, (enum sync_policy)(seed % 3), RICH, tally);
    for (unsigned n = 4 + world_roll(r.w, 12); n; n--) {
        uint64_t k = 1 + world_roll(r.w, 30), before = sim_calls(r.os);
        run_serve(&r, world_roll(r.w, 12));
        sim_fail_after(r.os, k, code, sticky);
        run_serve(&r, 8);
        tally->faults += sim_calls(r.os) - before >= k;
        sim_fail_after(r.os, 0, E_OK, false);
        run_compare(&r, false);
    }
    run_recovers(&r);
    run_end(&r);
}

static void one_call_fails(uint64_t seed, struct tally *tally)
{
    faults(seed, E_IO, false, tally);
}

static void calls_fail(uint64_t seed, struct tally *tally)
{
    faults(seed, E_IO, true, tally);
}

static void calls_find_no_space(uint64_t seed, struct tally *tally)
{
    faults(seed, E_FULL, seed % 2, tally);
}

/* Opening fails with an error, touches nothing that matters, and the next opening succeeds. */
static void opening_fails(uint64_t seed, struct tally *tally)
{
    struct run r;
    struct err e;
    run_begin(&r, seed, SYNC_EACH, RICH, tally);
    for (unsigned n = 16; n; n--) {
        run_serve(&r, world_roll(r.w, 8));
        uint64_t k = 1 + world_roll(r.w, 60);
        if (world_roll(r.w, 2)) /* or else closing builds everything */
            sim_fail_after(r.os, 1, E_IO, true);
        store_close(r.s);
        uint64_t before = sim_calls(r.os);
        sim_fail_after(r.os, k, E_IO, false);
        enum errc rc = store_open(&r.s, &r.config, &e);
        tally->faults += sim_calls(r.os) - before >= k;
        sim_fail_after(r.os, 0, E_OK, false);
        if (rc != E_OK)
            run_open(&r);
        run_compare(&r, true);
        world_forget_missing(r.w);
    }
    run_end(&r);
}

/* Did a batch, or a block, find no space? */
static bool found_full(const struct run *r, uint32_t first_batch, int64_t failed)
{
    bool full = stat_get(STAT_BLOCKS_FAILED) > failed;
    for (uint32_t i = first_batch; i < r->w->batch_n; i++)
        full |= r->w->batches[i].result == E_FULL;
    return full;
}

static void disk_fills(uint64_t seed, struct tally *tally)
{
    struct run r;
    run_begin(&r, seed, (enum sync_policy)(seed % 3), RICH, tally);
    for (unsigned n = 8; n; n--) {
        run_serve(&r, world_roll(r.w, 10));
        sim_disk_size(r.os, sim_disk_used(r.os) + world_roll(r.w, 20 * KIB));
        uint32_t first = r.w->batch_n;
        int64_t failed = stat_get(STAT_BLOCKS_FAILED);
        run_serve(&r, 16);
        tally->faults += found_full(&r, first, failed);
        run_compare(&r, false);
        sim_disk_size(r.os, 1 * GIB);
    }
    run_recovers(&r);
    run_end(&r);
}

/* --- rot --- */

struct files {
    const char *dir;
    char v[256][PATH_MAX / 8];
    size_t n;
};

static void note_file(void *arg, const char *name)
{
    struct files *f = arg;
    if (f->n < ARRAY_LEN(f->v))
        snprintf(f->v[f->n++], sizeof f->v[0], "%s/%s", f->dir, name);
}

static uint64_t file_bits(struct os *os, const char *path)
{
    struct os_file *f;
    uint64_t size = 0;
    if (os_open(os, path, OS_READ, &f, NULL) != E_OK)
        return 0; /* a folder */
    CHECK_OK(os_size(f, &size, NULL));
    os_close(f);
    return 8 * size;
}

/* A bit of some file: its path, and where it is. */
static const char *any_bit(struct run *r, uint64_t *bit)
{
    static const char *const dirs[] = {"/data", "/data/blocks", "/data/blocks", "/data/wal"};
    static struct files files;
    for (;;) {
        files = (struct files){.dir = dirs[world_roll(r->w, ARRAY_LEN(dirs))]};
        CHECK_OK(os_list(r->os, files.dir, note_file, &files, NULL));
        if (!files.n)
            continue;
        const char *path = files.v[world_roll(r->w, (uint32_t)files.n)];
        uint64_t bits = file_bits(r->os, path);
        if (!bits)
            continue;
        *bit = world_roll64(r->w) % bits;
        if (strstr(path, "/wal/") && world_roll(r->w, 2)) /* the rest is mostly empty */
            *bit %= 8 * 8 * KIB;
        return path;
    }
}

/* While the store is open: every answer is right or says that the data is damaged, and when the bit
 * is right again so is everything. */
static void rot_comes_and_goes(uint64_t seed, struct tally *tally)
{
    struct run r;
    uint64_t bit;
    run_begin(&r, seed, SYNC_EACH, RICH, tally);
    run_serve(&r, 20 + world_roll(r.w, 40));
    for (unsigned n = 20; n; n--) {
        struct rot damage = {0};
        const char *path = any_bit(&r, &bit);
        CHECK(sim_flip_bit(r.os, path, bit));
        struct snap *snap = store_snap(r.s);
        const char *bad = world_read(r.w, snap, &damage);
        if (bad || damage.twice)
            run_failed(&r, bad ? bad : "a span that is there twice");
        snap_unref(snap);
        CHECK(sim_flip_bit(r.os, path, bit));
        run_compare(&r, false);
        tally->faults++;
    }
    run_recovers(&r);
    run_end(&r);
}

/* What store_verify says of one file. */
struct verdict {
    const char *path; /* inside the directory */
    unsigned long long spans;
    bool unfinished;
};

static void hear(void *arg, const char *line)
{
    struct verdict *v = arg;
    size_t n = strlen(v->path);
    if (strncmp(line, v->path, n) != 0 || line[n] != ':')
        return;
    (void)sscanf(line + n, ": %llu spans", &v->spans);
    v->unfinished = strstr(line, "not finished") != NULL;
}

static uint64_t lost_spans(const struct world *w, uint32_t *batches)
{
    uint64_t lost = 0;
    *batches = 0;
    for (uint32_t i = 0; i < w->batch_n; i++) {
        const struct sent_batch *b = &w->batches[i];
        if (!b->must_be_there || b->found == b->spans)
            continue;
        lost += b->spans - b->found;
        ++*batches;
    }
    return lost;
}

/* The batch that was acknowledged last is what is missing. */
static bool lost_last(const struct world *w)
{
    for (uint32_t i = w->batch_n; i > 0; i--)
        if (w->batches[i - 1].must_be_there)
            return w->batches[i - 1].found < w->batches[i - 1].spans;
    return false;
}

/* A bit of a closed store: verify says so, or the bit means nothing. The start loses what the bit
 * hit and no more: a block, a record of the log, the last edit of the manifest (which looks like an
 * unfinished commit). */
static void check_loss(struct run *r, const char *path, const struct verdict *before,
                       const struct verdict *after, enum errc verified)
{
    struct rot damage = {0};
    uint32_t batches;
    struct snap *snap = store_snap(r->s);
    const char *bad = world_read(r->w, snap, &damage);
    if (bad)
        run_failed(r, bad);
    snap_unref(snap);
    uint64_t lost = lost_spans(r->w, &batches);
    /* A last record whose salt rots looks like bytes of an earlier turn (docs/format/wal.md). */
    bool stale = strstr(path, "/wal/") && batches == 1 && lost_last(r->w);
    bool silent = verified == E_OK && !after->unfinished && !stale;
    bool too_many = strstr(path, "/wal/")      ? batches > 1
                    : strstr(path, "MANIFEST") ? lost && !after->unfinished && verified != E_CORRUPT
                                               : lost > before->spans && !damage.answers;
    /* The log is read from further back when the manifest has lost where it began. */
    too_many |= damage.twice && !strstr(path, "MANIFEST");
    if (too_many || (silent && (lost || damage.answers || damage.twice))) {
        static char text[512];
        snprintf(text, sizeof text,
                 "a bit of %s: %llu spans of %u batches are lost, of %llu; "
                 "%u are there twice, %u answers say damage; verify: %s",
                 path, (unsigned long long)lost, batches, before->spans, damage.twice,
                 damage.answers, err_name(verified));
        run_failed(r, text);
    }
}

static void rot_while_closed(uint64_t seed, struct tally *tally)
{
    struct run r;
    struct err e;
    struct verdict before = {0}, after = {0};
    uint64_t bit;
    run_begin(&r, seed, SYNC_EACH, RICH, tally);
    run_serve(&r, 20 + world_roll(r.w, 40));
    if (world_roll(r.w, 2)) /* what is in memory stays in the log */
        sim_fail_after(r.os, 1, E_IO, true);
    store_close(r.s);
    sim_fail_after(r.os, 0, E_OK, false);
    const char *path = any_bit(&r, &bit);
    before.path = after.path = path + strlen("/data/");
    CHECK_OK(store_verify(r.os, "/data", hear, &before, &e));
    CHECK(sim_flip_bit(r.os, path, bit));
    enum errc verified = store_verify(r.os, "/data", hear, &after, &e);
    if (strstr(path, "FORMAT")) { /* an unknown format is not touched */
        if (verified == E_OK || store_open(&r.s, &r.config, &e) == E_OK)
            run_failed(&r, "a damaged FORMAT file is not noticed");
        CHECK(sim_flip_bit(r.os, path, bit));
        verified = E_OK;
    }
    run_open(&r);
    check_loss(&r, path, &before, &after, verified);
    if (world_append(r.w, r.s, 4) != E_OK)
        run_failed(&r, "a damaged store takes no batch");
    if (store_flush(r.s, &e) != E_OK)
        run_failed(&r, err_msg(&e));
    tally->faults++;
    run_end(&r);
}

/* --- the sweep --- */

static void (*const kinds[])(uint64_t seed, struct tally *tally) = {
    crashes_each,   crashes_interval,   crashes_os,          crashes_each,
    one_call_fails, calls_fail,         calls_find_no_space, opening_fails,
    disk_fills,     rot_comes_and_goes, rot_while_closed,    model_run,
};

void sweep_seed(uint64_t seed, struct tally *tally)
{
    kinds[hash_u64(seed, 11) % ARRAY_LEN(kinds)](seed, tally);
}

static uint64_t setting(const char *name, uint64_t usual)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : usual;
}

/* Seeds from `first`, until there were so many or the time is over. */
static void sweep(uint64_t first, uint64_t seeds, uint64_t seconds)
{
    struct tally tally = {0};
    uint64_t seed = first, end_ns = os_mono_ns(os_posix()) + seconds * NS_PER_S;
    while (seed - first < seeds && (!seconds || os_mono_ns(os_posix()) < end_ns)) {
        test_note("again: LYMER_STORE_SEED=%llu build/release/unit store_sweep",
                  (unsigned long long)seed);
        sweep_seed(seed++, &tally);
    }
    printf("# %llu crashes, %llu faults, seeds %llu..%llu\n", (unsigned long long)tally.crashes,
           (unsigned long long)tally.faults, (unsigned long long)first,
           (unsigned long long)seed - 1);
}

TEST(store_sweep)
{
    const char *one = getenv("LYMER_STORE_SEED");
    /* Files of 64 KiB come and go with every run: their memory is kept. */
    mallopt(M_MMAP_THRESHOLD, 64 * MIB);
    mallopt(M_TRIM_THRESHOLD, 512 * MIB);
    if (one)
        sweep(setting("LYMER_STORE_SEED", 0), 1, 0);
    else
        sweep(setting("LYMER_SWEEP_FIRST", test_rand() >> 16), setting("LYMER_SWEEP_SEEDS", 2000),
              setting("LYMER_SWEEP_SECONDS", 0));
}

/* --- it can fail --- */

static const struct {
    enum sim_lie lie;
    const char *part;
} lies[] = {
    {SIM_SYNC_LIES, "/wal/"},     {SIM_SYNC_LIES, "/blocks/"},  {SIM_SYNC_LIES, "MANIFEST"},
    {SIM_SYNC_DIR_LIES, "/data"}, {SIM_WRITE_TORN, "MANIFEST"}, {SIM_WRITE_TORN, "/wal/"},
};

#define LIE_SEEDS 2000u /* within so many each is found */

/* A mistake ends the process, so each sweep has its own. True when one was found; *seed is where.
 */
static bool finds(enum sim_lie lie, const char *part, uint64_t first, uint64_t seeds,
                  uint64_t *seed)
{
    uint64_t *at = mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                        0);
    CHECK(at != MAP_FAILED);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct tally tally = {0};
        if (!freopen("/dev/null", "w", stdout))
            _exit(2);
        run_lie(lie, part);
        for (*at = first; *at - first < seeds; ++*at)
            sweep_seed(*at, &tally);
        _exit(0);
    }
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    *seed = *at;
    munmap(at, sizeof *at);
    return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

/* The seed that finds the lie finds nothing without it. */
TEST(broken_promises_are_found)
{
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        uint64_t first = test_rand() >> 16, seed;
        if (!finds(lies[i].lie, lies[i].part, first, LIE_SEEDS, &seed))
            test_fail(__FILE__, __LINE__, "lie %d about %s is not found in seeds %llu..%llu",
                      (int)lies[i].lie, lies[i].part, (unsigned long long)first,
                      (unsigned long long)first + LIE_SEEDS - 1);
        if (finds(SIM_HONEST, "", seed, 1, &seed))
            test_fail(__FILE__, __LINE__, "seed %llu fails without a lie",
                      (unsigned long long)seed);
    }
}
