/* SPDX-License-Identifier: Apache-2.0 */
/* Backup, repair and dump in the simulated world. A backup is taken while the store appends,
 * builds and gives up blocks between any two of its calls; one bit of any file is flipped, and the
 * store is repaired. A failure prints the seed. */
#include "store/trace/care.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/os/sim.h"
#include "base/stats.h"
#include "store/trace/block.h"
#include "tests/harness.h"
#include "tests/unit/store/world.h"

#include <stdio.h>
#include <stdlib.h>

struct care {
    struct os *os;
    struct world *w;
    struct store *s;
    struct store_config config;
    uint64_t seed;
};

static _Noreturn void care_failed(const struct care *c, const char *what)
{
    test_fail(__FILE__, __LINE__, "seed %llu: %s", (unsigned long long)c->seed, what);
}

static void care_open(struct care *c)
{
    struct err e;
    if (store_open(&c->s, &c->config, &e) != E_OK)
        care_failed(c, err_msg(&e));
}

static void care_begin(struct care *c, uint64_t seed)
{
    log_setup((enum log_level)(LOG_ERROR + 1), LOG_TEXT);
    stat_set(STAT_PARENT_SEARCHES_CUT, 0);
    *c = (struct care){.seed = seed, .os = os_sim_new(seed)};
    c->w = world_new(seed, os_now_ns(c->os));
    store_config_defaults(&c->config, c->os, "/data");
    c->config.threads = false;
    c->config.sync = (enum sync_policy)world_roll(c->w, 3);
    c->config.memtable_bytes = 8 * KIB + world_roll(c->w, 24 * KIB);
    c->config.retention_ns = 0;
    care_open(c);
}

static void care_end(struct care *c)
{
    store_close(c->s);
    world_free(c->w);
    os_sim_free(c->os);
}

static void act(struct care *c)
{
    switch (world_roll(c->w, 8)) {
    case 0:
        sim_advance(c->os, world_roll(c->w, 15) * NS_PER_S);
        break;
    case 1:
        if (!world_roll(c->w, 3))
            (void)!store_flush(c->s, NULL);
        break;
    case 2:
    case 3:
        (void)store_step(c->s);
        break;
    default:
        (void)!world_append(c->w, c->s, 8);
        (void)store_step(c->s);
    }
}

static void act_some(struct care *c, unsigned n)
{
    while (n--)
        act(c);
}

static void ignore(void *arg, const char *line)
{
    (void)arg;
    (void)line;
}

/* --- a store that does something between any two calls of a backup --- */

static struct {
    struct care *c; /* NULL: it rests */
    struct os_ops ops;
    const struct os_ops *real;
} busy;

static void meanwhile(void)
{
    if (!busy.c || world_roll(busy.c->w, 3))
        return;
    busy.c->os->ops = busy.real;
    act_some(busy.c, world_roll(busy.c->w, 12));
    busy.c->os->ops = &busy.ops;
}

static enum errc busy_open(struct os *os, const char *path, int flags, struct os_file **out,
                           struct err *e)
{
    meanwhile();
    return busy.real->open(os, path, flags, out, e);
}

static enum errc busy_pread(struct os_file *f, void *out, size_t n, uint64_t off, size_t *got,
                            struct err *e)
{
    meanwhile();
    return busy.real->pread(f, out, n, off, got, e);
}

static enum errc busy_link(struct os *os, const char *from, const char *to, struct err *e)
{
    meanwhile();
    return busy.real->link(os, from, to, e);
}

static enum errc busy_list(struct os *os, const char *path,
                           void (*each)(void *arg, const char *name), void *arg, struct err *e)
{
    meanwhile();
    enum errc rc = busy.real->list(os, path, each, arg, e);
    meanwhile();
    return rc;
}

static enum errc backup_while_busy(struct care *c, bool copy, struct err *e)
{
    struct backup_report report;
    busy.c = c;
    busy.real = c->os->ops;
    busy.ops = *c->os->ops;
    busy.ops.open = busy_open;
    busy.ops.pread = busy_pread;
    busy.ops.link = busy_link;
    busy.ops.list = busy_list;
    c->os->ops = &busy.ops;
    enum errc rc = store_backup(c->os, "/data", "/backup", copy, &report, e);
    c->os->ops = busy.real;
    busy.c = NULL;
    return rc;
}

static void open_backup(struct care *c, struct store **s)
{
    struct store_config config = c->config;
    struct err e;
    config.dir = "/backup";
    config.retention_ns = 0;
    if (store_verify(c->os, "/backup", ignore, NULL, &e) != E_OK ||
        store_open(s, &config, &e) != E_OK)
        care_failed(c, err_msg(&e));
}

/* Everything acknowledged before it began is there, nothing is there twice or in part. */
TEST(backup_of_a_busy_store)
{
    for (unsigned i = 0; i < 300; i++) {
        struct care c;
        struct store *s;
        struct err e;
        care_begin(&c, test_rand());
        act_some(&c, 20 + world_roll(c.w, 150));
        world_expect_acked(c.w);
        if (backup_while_busy(&c, world_roll(c.w, 2), &e) != E_OK)
            care_failed(&c, err_msg(&e));
        sim_crash(c.os); /* it is durable, by itself */
        store_close(c.s);
        open_backup(&c, &s);
        const char *bad = world_compare(c.w, s, true);
        if (bad)
            care_failed(&c, bad);
        store_close(s);
        care_open(&c);
        care_end(&c);
    }
}

/* Blocks expire meanwhile: what the store still has when the backup ends and had when it began is
 * in the backup. */
TEST(backup_while_blocks_expire)
{
    int64_t expired = stat_get(STAT_BLOCKS_EXPIRED);
    for (unsigned i = 0; i < 200; i++) {
        struct care c;
        struct store *s;
        struct err e;
        bool must[SENT_MAX];
        care_begin(&c, test_rand());
        sim_advance(c.os, 700 * NS_PER_S); /* when the world's batches come */
        c.config.retention_ns = (20 + world_roll(c.w, 60)) * NS_PER_S;
        store_reconfigure(c.s, &c.config);
        act_some(&c, 150);
        unsigned batches = c.w->batch_n;
        for (unsigned k = 0; k < batches; k++)
            must[k] = c.w->batches[k].fate == FATE_ACKED;
        if (backup_while_busy(&c, false, &e) != E_OK)
            care_failed(&c, err_msg(&e));
        (void)world_compare(c.w, c.s, true);
        for (unsigned k = 0; k < batches; k++)
            must[k] &= c.w->batches[k].found == c.w->batches[k].spans;
        open_backup(&c, &s);
        (void)world_compare(c.w, s, true);
        for (unsigned k = 0; k < batches; k++)
            if (must[k] && c.w->batches[k].found != c.w->batches[k].spans)
                care_failed(&c, "a batch that the store has is not in the backup");
        store_close(s);
        care_end(&c);
    }
    CHECK(stat_get(STAT_BLOCKS_EXPIRED) > expired);
}

/* The backup is whole, or cannot be opened, or nothing is in it yet. */
static void check_whole_or_none(struct care *c, bool must_be_whole)
{
    struct store *s;
    struct store_config config = c->config;
    config.dir = "/backup";
    enum errc rc = store_verify(c->os, "/backup", ignore, NULL, NULL);
    if (rc != E_OK) {
        if (must_be_whole)
            care_failed(c, "the backup is not a store");
        if (rc == E_NOT_FOUND && os_list(c->os, "/backup/blocks", ignore, NULL, NULL) == E_OK)
            care_failed(c, "an unfinished backup does not say so");
        if (rc != E_NOT_FOUND && store_open(&s, &config, NULL) == E_OK)
            care_failed(c, "an unfinished backup can be opened");
        return;
    }
    open_backup(c, &s);
    const char *bad = world_compare(c->w, s, true);
    if (bad)
        care_failed(c, bad);
    store_close(s);
}

enum trouble { CALL_FAILS, CALLS_FAIL, POWER_FAILS };

/* Trouble at the kth call. False when the backup ends before it. */
static bool backup_in_trouble(uint64_t seed, uint64_t k, enum trouble trouble, bool copy)
{
    struct care c;
    struct backup_report report;
    struct err e;
    care_begin(&c, seed);
    act_some(&c, 60);
    world_expect_acked(c.w);
    if (trouble == POWER_FAILS && store_flush(c.s, &e) != E_OK)
        care_failed(&c, err_msg(&e));
    uint64_t before = sim_calls(c.os);
    sim_fail_after(c.os, k, k % 2 ? E_IO : E_FULL, trouble != CALL_FAILS);
    enum errc rc = store_backup(c.os, "/data", "/backup", copy, &report, &e);
    bool reached = sim_calls(c.os) - before >= k;
    sim_fail_after(c.os, 0, E_OK, false);
    if (trouble == POWER_FAILS) {
        sim_crash(c.os);
        store_close(c.s);
        care_open(&c);
    }
    const char *bad = world_compare(c.w, c.s, true);
    if (bad)
        care_failed(&c, bad);
    check_whole_or_none(&c, rc == E_OK);
    care_end(&c);
    return reached;
}

static void backup_sweep(enum trouble trouble, unsigned seeds)
{
    for (unsigned i = 0; i < seeds; i++) {
        uint64_t seed = test_rand(), k = 1;
        while (backup_in_trouble(seed, k, trouble, i % 2))
            k++;
        if (k < 20)
            test_fail(__FILE__, __LINE__, "only %llu calls in a backup", (unsigned long long)k);
    }
}

TEST(backup_with_an_error_at_every_call)
{
    backup_sweep(CALL_FAILS, 2);
}

TEST(backup_with_errors_from_every_call_on)
{
    backup_sweep(CALLS_FAIL, 2);
}

TEST(backup_with_a_power_cut_at_every_call)
{
    backup_sweep(POWER_FAILS, 4);
}

TEST(backup_refuses_what_it_must_not_overwrite)
{
    struct care c;
    struct backup_report report;
    struct err e;
    care_begin(&c, 1);
    CHECK_INT(store_backup(c.os, "/data", "/data", false, &report, &e), E_EXISTS);
    CHECK_INT(store_backup(c.os, "/none", "/backup", false, &report, &e), E_NOT_FOUND);
    CHECK_OK(store_backup(c.os, "/data", "/backup", false, &report, &e));
    CHECK_INT(store_backup(c.os, "/data", "/backup", false, &report, &e), E_EXISTS);
    CHECK_OK(
        os_replace_file(c.os, "/backup", "FORMAT", STR("a backup that was not finished\n"), NULL));
    CHECK_INT(store_verify(c.os, "/backup", ignore, NULL, &e), E_CORRUPT);
    CHECK(strstr(err_msg(&e), "not finished"));
    care_end(&c);
}

/* --- repair --- */

/* Spans by number, whatever was lost of them: a span lasts as many nanoseconds as its number. */
struct census {
    struct snap *snap;
    struct str tenant;
    uint8_t *seen; /* by number: how often */
    uint32_t n, total;
    bool odd;
};

static bool count_trace(void *arg, const uint8_t id[16])
{
    struct census *x = arg;
    struct arena a = arena_init(64 * MIB);
    struct trace *t;
    if (snap_trace(x->snap, x->tenant, id, &a, &t, NULL) != E_OK) {
        x->odd = true;
    } else {
        for (uint32_t i = 0; i < t->span_count; i++) {
            uint64_t number = t->spans[i]->end_ns - t->spans[i]->start_ns;
            if (number && number < x->n)
                x->seen[number]++;
            else
                x->odd = true;
            x->total++;
        }
    }
    arena_fini(&a);
    return true;
}

static struct census take_census(struct store *s, uint32_t n)
{
    static const char *const tenants[] = {"default", "other"};
    struct census x = {.snap = store_snap(s), .n = n, .seen = xcalloc(n, 1)};
    for (size_t i = 0; i < ARRAY_LEN(tenants); i++) {
        x.tenant = str_from_c(tenants[i]);
        if (snap_each_trace(x.snap, x.tenant, 0, UINT64_MAX, count_trace, &x, NULL) != E_OK)
            x.odd = true;
    }
    snap_unref(x.snap);
    return x;
}

static void count_names(void *arg, const char *name)
{
    (void)name;
    ++*(unsigned *)arg;
}

struct pick {
    unsigned at;
    char name[200];
};

static void pick_name(void *arg, const char *name)
{
    struct pick *p = arg;
    if (p->at-- == 0)
        snprintf(p->name, sizeof p->name, "%s", name);
}

/* Any file of the store. */
static void pick_file(struct care *c, char path[300])
{
    static const char *const dirs[] = {"/data/blocks", "/data/wal"};
    unsigned roll = world_roll(c->w, 8), n = 0;
    if (roll < 2) {
        snprintf(path, 300, roll ? "/data/MANIFEST" : "/data/FORMAT");
        return;
    }
    const char *dir = dirs[roll > 5];
    CHECK_OK(os_list(c->os, dir, count_names, &n, NULL));
    struct pick pick = {.at = n ? world_roll(c->w, n) : 0};
    CHECK_OK(os_list(c->os, dir, pick_name, &pick, NULL));
    snprintf(path, 300, "%s/%s", *pick.name ? dir : "/data", *pick.name ? pick.name : "MANIFEST");
}

static uint64_t used_bytes(struct care *c, const char *path)
{
    struct os_file *f;
    uint64_t size;
    CHECK_OK(os_open(c->os, path, OS_READ, &f, NULL));
    CHECK_OK(os_size(f, &size, NULL));
    char *bytes = xmalloc(size + 1);
    size_t got;
    CHECK_OK(os_pread(f, bytes, size, 0, &got, NULL));
    while (got && !bytes[got - 1])
        got--;
    free(bytes);
    os_close(f);
    return got;
}

/* Lost: how many spans are not there any more, and of how many batches. */
static void count_lost(const struct care *c, const struct census *before,
                       const struct census *after, unsigned *spans, unsigned *batches)
{
    uint32_t last = UINT32_MAX;
    *spans = *batches = 0;
    for (uint32_t i = 1; i < before->n; i++) {
        if (!before->seen[i] || after->seen[i])
            continue;
        ++*spans;
        *batches += c->w->spans[i].batch != last;
        last = c->w->spans[i].batch;
    }
}

static uint64_t spans_of_block(struct os *os, const char *path)
{
    struct block *b;
    if (!strstr(path, "/blocks/") || block_open(os, path, &b, NULL) != E_OK)
        return 0;
    uint64_t n = block_meta(b)->span_count;
    block_unref(b);
    return n;
}

static void flip_and_repair(uint64_t seed)
{
    struct care c;
    struct err e = {0};
    char path[300];
    unsigned found, spans, batches;
    care_begin(&c, seed);
    act_some(&c, 30 + world_roll(c.w, 120));
    struct census before = take_census(c.s, SENT_MAX);
    pick_file(&c, path);
    uint64_t block_spans = spans_of_block(c.os, path);
    sim_fail_after(c.os, 1, E_IO, true); /* the process dies */
    store_close(c.s);
    sim_fail_after(c.os, 0, E_OK, false);
    uint64_t bits = used_bytes(&c, path) * 8;
    if (!bits || !sim_flip_bit(c.os, path, test_rand() % bits)) {
        care_open(&c);
        free(before.seen);
        care_end(&c);
        return;
    }
    enum errc would = store_repair(c.os, "/data", true, ignore, NULL, &found, NULL);
    enum errc rc = store_repair(c.os, "/data", false, ignore, NULL, &found, &e);
    if (rc == E_VERSION && strstr(path, "FORMAT")) {
        CHECK_OK(
            os_replace_file(c.os, "/data", "FORMAT", STR("lymer trace store format 1\n"), NULL));
        rc = would = E_OK;
        found = 0;
    }
    if (rc != E_OK || would != E_OK)
        care_failed(&c, err_msg(&e));
    if (store_verify(c.os, "/data", ignore, NULL, &e) != E_OK)
        care_failed(&c, err_msg(&e));
    unsigned again;
    if (store_repair(c.os, "/data", false, ignore, NULL, &again, &e) != E_OK || again)
        care_failed(&c, "the second repair finds something");
    care_open(&c);
    struct census after = take_census(c.s, SENT_MAX);
    count_lost(&c, &before, &after, &spans, &batches);
    if (after.odd)
        care_failed(&c, "a trace cannot be read, or is not as it was sent");
    if (strstr(path, "/wal/") ? batches > 1 : spans > block_spans)
        care_failed(&c, path);
    free(before.seen);
    free(after.seen);
    care_end(&c);
}

TEST(repair_after_any_bit_flip)
{
    for (unsigned i = 0; i < 400; i++)
        flip_and_repair(test_rand());
}

static void damage_an_index(struct care *c)
{
    struct pick pick = {0};
    CHECK_OK(os_list(c->os, "/data/blocks", pick_name, &pick, NULL));
    char path[300];
    snprintf(path, sizeof path, "/data/blocks/%s", pick.name);
    struct os_file *f;
    uint64_t size, tail;
    size_t got;
    CHECK_OK(os_open(c->os, path, OS_READ, &f, NULL));
    CHECK_OK(os_size(f, &size, NULL));
    CHECK_OK(os_pread(f, &tail, sizeof tail, size - 24, &got, NULL)); /* block.md: the trailer */
    os_close(f);
    CHECK(sim_flip_bit(c->os, path, tail * 8 + 5));
}

/* A damaged index costs nothing: every span, name and call is as before. */
TEST(repair_of_a_damaged_index_loses_nothing)
{
    struct care c;
    struct err e;
    unsigned found;
    care_begin(&c, test_rand());
    act_some(&c, 60);
    CHECK_OK(store_flush(c.s, &e));
    store_close(c.s);
    damage_an_index(&c);
    CHECK_OK(store_repair(c.os, "/data", false, ignore, NULL, &found, &e));
    CHECK_INT(found, 1);
    care_open(&c);
    const char *bad = world_compare(c.w, c.s, false);
    if (bad)
        care_failed(&c, bad);
    care_end(&c);
}

/* What is saved of a block stays as long as the block would have: by when its spans came. */
TEST(repair_does_not_shorten_the_retention)
{
    struct care c;
    struct err e;
    struct store_stats stats;
    unsigned found;
    care_begin(&c, 5);
    act_some(&c, 60);
    sim_advance(c.os, 3600 * NS_PER_S);
    struct batch_builder bb;
    batch_builder_init(&bb);
    bb_group_begin(&bb);
    bb_group_scope(&bb);
    bb_group_end(&bb);
    struct span_rec *s = bb_span(&bb);
    memset(s->trace_id, 9, 16);
    memset(s->span_id, 9, 8);
    s->start_ns = s->end_ns = NS_PER_S; /* it is imported, from long ago */
    bb_name(&bb, s, STR("old"));
    CHECK(bb_span_end(&bb));
    CHECK_OK(store_flush(c.s, &e));
    c.config.retention_ns = 1800 * NS_PER_S; /* all but this one goes */
    store_reconfigure(c.s, &c.config);
    struct sent_batch old = {.fate = FATE_OPEN};
    CHECK_OK(batch_seal(&bb, STR("default"), os_now_ns(c.os), &old.ticket.batch, NULL));
    old.ticket.done = c.w->batches[0].ticket.done;
    CHECK_OK(store_append(c.s, &old.ticket));
    CHECK_OK(store_flush(c.s, &e));
    (void)store_step(c.s);
    store_stats(c.s, &stats);
    CHECK_INT(stats.block_spans, 1);
    store_close(c.s);
    damage_an_index(&c);
    CHECK_OK(store_repair(c.os, "/data", false, ignore, NULL, &found, &e));
    CHECK_INT(found, 1);
    care_open(&c);
    (void)store_step(c.s);
    store_stats(c.s, &stats);
    CHECK_INT(stats.block_spans, 1);
    batch_unref(old.ticket.batch);
    batch_builder_fini(&bb);
    care_end(&c);
}

TEST(repair_leaves_a_held_and_a_foreign_directory_alone)
{
    struct care c;
    struct err e;
    unsigned found;
    care_begin(&c, 1);
    CHECK_INT(store_repair(c.os, "/data", false, ignore, NULL, &found, &e), E_LOCKED);
    CHECK_OK(store_repair(c.os, "/data", true, ignore, NULL, &found, &e));
    CHECK_INT(store_repair(c.os, "/none", false, ignore, NULL, &found, &e), E_NOT_FOUND);
    store_close(c.s);
    CHECK_OK(os_replace_file(c.os, "/data", "FORMAT", STR("lymer trace store format 7\n"), NULL));
    CHECK_INT(store_repair(c.os, "/data", false, ignore, NULL, &found, &e), E_VERSION);
    CHECK_OK(os_unlink(c.os, "/data/FORMAT", NULL));
    CHECK_OK(store_repair(c.os, "/data", false, ignore, NULL, &found, &e));
    CHECK_INT(found, 1);
    care_open(&c);
    care_end(&c);
}

/* --- what is read of a damaged block --- */

#define CHAIN 20000u /* spans of one trace, each the child of the one before: three row groups */

static void build_chain(struct os *os, struct arena *a, struct block_summary *summary)
{
    struct batch_builder b;
    struct batch *batch;
    struct block_builder *bb = block_builder_new();
    batch_builder_init(&b);
    bb_group_begin(&b);
    bb_attr_str(&b, STR("service.name"), ATTR_STR, STR("chain"));
    bb_group_scope(&b);
    bb_group_end(&b);
    for (uint32_t i = 1; i <= CHAIN; i++) {
        struct span_rec *s = bb_span(&b);
        memset(s->trace_id, 1, 16);
        store_u64le(s->span_id, i);
        store_u64le(s->parent_id, i - 1);
        s->start_ns = NS_PER_S + i;
        s->end_ns = s->start_ns + i;
        bb_name(&b, s, STR("link"));
        bb_attr_bits(&b, STR("number"), ATTR_INT, hash_u64(i, 3));
        CHECK(bb_span_end(&b));
    }
    CHECK_OK(batch_seal(&b, STR("default"), 1, &batch, NULL));
    CHECK_OK(block_build(bb, os, "b", (const struct batch *const *)&batch, 1, a, summary, NULL));
    batch_unref(batch);
    batch_builder_fini(&b);
    block_builder_free(bb);
}

struct chain {
    uint32_t saved, roots, without_number;
};

static bool on_chain(void *arg, struct span *const *spans, uint32_t n)
{
    struct chain *x = arg;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t id = load_u64le(spans[i]->span_id), parent = load_u64le(spans[i]->parent_id);
        CHECK_INT(spans[i]->end_ns - spans[i]->start_ns, id);
        CHECK(parent == id - 1 || parent == 0);
        x->roots += parent == 0;
        x->without_number += !kvs_get(&spans[i]->attrs, STR("number"));
    }
    x->saved += n;
    return true;
}

/* Wherever the bit is: what is saved is right, and with what is lost it is everything. */
TEST(salvage_of_a_trace_larger_than_a_row_group)
{
    struct arena a = arena_init(GIB);
    struct block_summary summary;
    uint64_t size = 0, lost_some = 0, roots = 0, values = 0;
    for (unsigned i = 0; i < 60; i++) {
        struct os *os = os_sim_new(7);
        struct block *b;
        struct block_lost lost;
        struct chain x = {0};
        build_chain(os, &a, &summary);
        size = summary.meta.file_bytes;
        CHECK(sim_flip_bit(os, "b", test_rand() % ((size - 64) * 8)));
        CHECK_OK(block_open_damaged(os, "b", &b, NULL));
        CHECK_OK(block_salvage(b, on_chain, &x, &lost, NULL));
        CHECK_INT(x.saved + lost.spans, CHAIN);
        CHECK_INT(x.without_number, lost.values);
        if (x.saved)
            CHECK(x.roots == lost.parents || x.roots == lost.parents + 1);
        lost_some += lost.spans > 0 && x.saved > 0;
        roots += lost.parents;
        values += lost.values;
        block_unref(b);
        os_sim_free(os);
        arena_reset(&a);
    }
    CHECK(lost_some && roots && values);
    arena_fini(&a);
}

/* --- dump --- */

struct rows {
    unsigned records, edits, groups, columns, damage, files;
};

static void on_row(void *arg, const char *kind, const struct dump_field *fields, size_t n)
{
    struct rows *r = arg;
    r->records += strcmp(kind, "record") == 0;
    r->edits += strcmp(kind, "edit") == 0;
    r->groups += strcmp(kind, "group") == 0;
    r->columns += strcmp(kind, "column") == 0;
    r->damage += strcmp(kind, "damage") == 0;
    r->files += strcmp(kind, "file") == 0;
    for (size_t i = 0; i < n; i++)
        CHECK(fields[i].name && (!fields[i].text.n || fields[i].text.p));
}

TEST(dump_shows_every_file_and_every_flip)
{
    struct care c;
    struct err e;
    uint64_t bad;
    struct rows all = {0}, one = {0};
    care_begin(&c, test_rand());
    act_some(&c, 100);
    CHECK_OK(store_flush(c.s, &e));
    for (unsigned i = 0; i < 5; i++)
        CHECK_OK(world_append(c.w, c.s, 8));
    for (unsigned i = 0; i < 200; i++) { /* no merge is half written */
        (void)store_step(c.s);
        sim_advance(c.os, NS_PER_S);
    }
    CHECK_OK(store_dump(c.os, "/data", 0, on_row, &all, &bad, &e));
    CHECK_INT(bad + all.damage, 0);
    CHECK(all.records >= 5 && all.edits > 1 && all.groups && all.columns > 10 && all.files > 4);
    CHECK_OK(store_dump(c.os, "/data/MANIFEST", 1, on_row, &one, &bad, &e));
    CHECK_INT(one.edits, 1);
    CHECK_INT(store_dump(c.os, "/data/LOCK", 0, on_row, &one, &bad, &e), E_INVALID);
    CHECK_INT(store_dump(c.os, "/data/none", 0, on_row, &one, &bad, &e), E_NOT_FOUND);
    for (unsigned i = 0; i < 300; i++) {
        struct pick pick = {.at = i % all.groups};
        char path[300];
        CHECK_OK(os_list(c.os, "/data/blocks", pick_name, &pick, NULL));
        CHECK(*pick.name);
        snprintf(path, sizeof path, "/data/blocks/%s", pick.name);
        uint64_t bit = test_rand() % (used_bytes(&c, path) * 8);
        CHECK(sim_flip_bit(c.os, path, bit));
        CHECK_OK(store_dump(c.os, path, 0, on_row, &one, &bad, &e));
        if (!bad)
            test_fail(__FILE__, __LINE__, "%s: bit %llu is not seen", path,
                      (unsigned long long)bit);
        CHECK(sim_flip_bit(c.os, path, bit));
    }
    care_end(&c);
}
