/* SPDX-License-Identifier: Apache-2.0 */
/* Redaction: what is to go goes from every file, what is to stay stays as it was, whatever fails
 * meanwhile. */
#include "base/hash.h"
#include "base/log.h"
#include "base/os/sim.h"
#include "base/os/thread.h"
#include "base/stats.h"
#include "tests/harness.h"
#include "tests/unit/store/world.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

/* The beginning of the longer values that worlds put under the key `text`. */
#define SECRET "abcdefghij"

struct run {
    struct os *os;
    struct store_config c;
    struct store *s;
    struct world *w;
};

static void run_begin(struct run *r, uint64_t seed)
{
    log_setup((enum log_level)(LOG_ERROR + 1), LOG_TEXT);
    stat_set(STAT_PARENT_SEARCHES_CUT, 0);
    *r = (struct run){.os = os_sim_new(seed)};
    store_config_defaults(&r->c, r->os, "/data");
    r->c.threads = false;
    r->c.sync = SYNC_EACH;
    r->c.memtable_bytes = 16 * KIB;
    r->c.retention_ns = 0;
    r->c.compact_fanin = 4;
    r->w = world_new(seed, os_now_ns(r->os));
    CHECK_OK(store_open(&r->s, &r->c, NULL));
}

static void run_end(struct run *r)
{
    store_close(r->s);
    world_free(r->w);
    os_sim_free(r->os);
}

static void settle(struct run *r)
{
    for (unsigned i = 0; store_step(r->s); i++)
        CHECK(i < 100000);
}

static void send(struct run *r, unsigned batches)
{
    while (batches--) {
        CHECK_OK(world_append(r->w, r->s, 8));
        (void)store_step(r->s);
    }
    settle(r);
}

static const struct store_redaction text_key = {
    .tenant = {"default", 7}, .key = {"text", 4}, .door = "test"};

/* --- every byte of the directory --- */

struct hunt {
    struct os *os;
    const char *dir;
    struct str what;
    unsigned found;
};

static void hunt_file(void *arg, const char *name)
{
    struct hunt *h = arg;
    char path[256];
    struct buf all = buf_init(GIB);
    snprintf(path, sizeof path, "%s/%s", h->dir, name);
    if (os_read_file(h->os, path, &all, NULL) == E_OK && all.n)
        h->found += memmem(all.p, all.n, h->what.p, h->what.n) != NULL;
    buf_fini(&all);
}

/* How many files hold these bytes. */
static unsigned hunt_in(struct run *r, const char *dir, struct str what)
{
    struct hunt h = {.os = r->os, .dir = dir, .what = what};
    (void)!os_list(r->os, dir, hunt_file, &h, NULL);
    return h.found;
}

static unsigned hunt(struct run *r, struct str what)
{
    return hunt_in(r, "/data", what) + hunt_in(r, "/data/wal", what) +
           hunt_in(r, "/data/blocks", what) + hunt_in(r, "/data/damaged", what);
}

/* --- what readers see --- */

struct view {
    struct snap *snap;
    struct str tenant;
    uint64_t traces, spans, texts, marked; /* texts: values under `text` that are not the marker */
    uint8_t first[16];
    uint64_t prints[2 * SENT_MAX]; /* of each span without its values under `text` */
    size_t print_n;
};

static uint64_t print_kvs(const struct kvs *kvs, uint64_t h, struct arena *a)
{
    for (uint32_t i = 0; i < kvs->n; i++) {
        h = hash_str(kvs->v[i].key, h);
        if (!str_eq(kvs->v[i].key, STR("text")))
            h = hash_str(value_text(&kvs->v[i].val, a), h);
    }
    return h;
}

static uint64_t print_span(const struct span *s, struct arena *a)
{
    uint64_t h = hash_str(str_of(s->trace_id, sizeof s->trace_id), s->start_ns);
    h = hash_str(str_of(s->span_id, sizeof s->span_id), h);
    h = hash_str(str_of(s->parent_id, sizeof s->parent_id), h);
    h = hash_str(s->name, hash_u64(h, s->end_ns));
    h = print_kvs(&s->attrs, h, a);
    h = print_kvs(&s->resource->attrs, h, a);
    h = print_kvs(&s->scope->attrs, h, a);
    for (uint32_t i = 0; i < s->event_count; i++)
        h = print_kvs(&s->events[i].attrs, hash_str(s->events[i].name, h), a);
    for (uint32_t i = 0; i < s->link_count; i++)
        h = print_kvs(&s->links[i].attrs, h, a);
    return h;
}

static bool view_trace(void *arg, const uint8_t id[16])
{
    struct view *v = arg;
    struct arena a = arena_init(64 * MIB);
    struct trace *t;
    CHECK_OK(snap_trace(v->snap, v->tenant, id, &a, &t, NULL));
    if (!v->traces++)
        memcpy(v->first, id, 16);
    v->spans += t->span_count;
    for (uint32_t i = 0; i < t->span_count; i++) {
        CHECK(v->print_n < ARRAY_LEN(v->prints));
        v->prints[v->print_n++] = print_span(t->spans[i], &a);
        for (uint32_t k = 0; k < t->spans[i]->attrs.n; k++) {
            const struct kv *kv = &t->spans[i]->attrs.v[k];
            bool marked = str_eq(kv->val.s, STR("[redacted]"));
            v->texts += str_eq(kv->key, STR("text")) && !marked;
            v->marked += str_eq(kv->key, STR("text")) && marked;
        }
    }
    arena_fini(&a);
    return true;
}

static int by_print(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static struct view view(struct run *r, const char *tenant)
{
    struct view v = {.snap = store_snap(r->s), .tenant = str_from_c(tenant)};
    CHECK_OK(snap_each_trace(v.snap, v.tenant, 0, UINT64_MAX, view_trace, &v, NULL));
    snap_unref(v.snap);
    qsort(v.prints, v.print_n, sizeof v.prints[0], by_print);
    size_t n = 0; /* a cut manifest may bring a block back beside what was made of it */
    for (size_t i = 0; i < v.print_n; i++)
        if (!n || v.prints[n - 1] != v.prints[i])
            v.prints[n++] = v.prints[i];
    v.print_n = n;
    return v;
}

/* All spans are there as they were, but for what is under `text`. */
static bool same_but_text(const struct view *a, const struct view *b)
{
    return a->print_n == b->print_n &&
           memcmp(a->prints, b->prints, a->print_n * sizeof a->prints[0]) == 0;
}

TEST(redact_key_leaves_no_byte)
{
    struct run r;
    struct store_redacted done, again;
    struct store_redaction count = text_key;
    run_begin(&r, 3);
    send(&r, 120); /* blocks, memtable, log, recycled segments */
    struct view before = view(&r, "default"), other = view(&r, "other");
    CHECK(before.texts > 100 && hunt(&r, STR(SECRET)) > 0);
    count.count_only = true;
    CHECK_OK(store_redact(r.s, &count, &done, NULL));
    CHECK_INT(done.values, before.texts);
    CHECK_INT(view(&r, "default").texts, before.texts);
    send(&r, 3); /* to be built, from a log segment that stands in a recycled one */
    before = view(&r, "default");
    other = view(&r, "other");
    CHECK_OK(store_redact(r.s, &text_key, &done, NULL));
    CHECK_INT(done.values, before.texts);
    CHECK(done.blocks > 0 && done.traces > 0 && done.spans <= done.values);
    CHECK_INT(done.failed + done.held + done.set_aside, 0);
    CHECK_INT(hunt_in(&r, "/data/wal", STR(SECRET)), 0); /* the log is of all tenants */
    struct view after = view(&r, "default");
    CHECK_INT(after.texts, 0);
    CHECK_INT(after.marked, before.texts);
    CHECK_INT(after.spans, before.spans);
    CHECK(same_but_text(&before, &after));
    CHECK_INT(view(&r, "other").texts, other.texts);
    count = text_key;
    count.tenant = STR("other");
    CHECK_OK(store_redact(r.s, &count, &again, NULL));
    CHECK_INT(hunt(&r, STR(SECRET)), 0);
    CHECK_OK(store_redact(r.s, &text_key, &again, NULL)); /* nothing is left to do */
    CHECK_INT(again.blocks, 0);
    send(&r, 20);
    before = view(&r, "default");
    store_close(r.s);
    CHECK_OK(store_open(&r.s, &r.c, NULL));
    after = view(&r, "default");
    CHECK(same_but_text(&before, &after) && after.texts == before.texts);
    run_end(&r);
}

TEST(redact_trace_goes_and_counts_stay)
{
    struct run r;
    struct store_redacted done;
    struct arena a = arena_init(MIB);
    struct dependency *deps;
    size_t before_n, after_n;
    uint64_t before_calls = 0, after_calls = 0;
    run_begin(&r, 4);
    send(&r, 100);
    struct view before = view(&r, "default");
    struct snap *snap = store_snap(r.s);
    CHECK_OK(snap_dependencies(snap, STR("default"), 0, UINT64_MAX, &a, &deps, &before_n));
    for (size_t i = 0; i < before_n; i++)
        before_calls += deps[i].calls;
    snap_unref(snap);
    struct store_redaction want = {
        .tenant = STR("default"), .trace_id = before.first, .door = "test"};
    CHECK_OK(store_redact(r.s, &want, &done, NULL));
    CHECK(done.traces == 1 && done.blocks > 0 && done.held + done.failed == 0);
    struct view after = view(&r, "default");
    CHECK_INT(after.traces, before.traces - 1);
    CHECK_INT(after.spans, before.spans - done.spans);
    CHECK_INT(hunt(&r, str_of(before.first, 16)), 0);
    snap = store_snap(r.s);
    CHECK_OK(snap_dependencies(snap, STR("default"), 0, UINT64_MAX, &a, &deps, &after_n));
    for (size_t i = 0; i < after_n; i++)
        after_calls += deps[i].calls;
    CHECK_INT(after_calls, before_calls);
    snap_unref(snap);
    CHECK_OK(store_redact(r.s, &want, &done, NULL));
    CHECK_INT(done.spans + done.blocks, 0);
    arena_fini(&a);
    run_end(&r);
}

/* A block of which nothing stays is no block any more. */
TEST(redact_every_trace)
{
    struct run r;
    struct store_redacted done;
    struct store_stats stats;
    run_begin(&r, 5);
    send(&r, 12);
    static const char *const tenants[] = {"default", "other"};
    for (size_t i = 0; i < ARRAY_LEN(tenants); i++)
        for (struct view v; (v = view(&r, tenants[i])).traces;) {
            struct store_redaction want = {.tenant = v.tenant, .trace_id = v.first, .door = "test"};
            CHECK_OK(store_redact(r.s, &want, &done, NULL));
            CHECK(done.spans > 0);
        }
    settle(&r);
    store_stats(r.s, &stats);
    CHECK_INT(stats.block_count, 0);
    store_close(r.s);
    CHECK_OK(store_open(&r.s, &r.c, NULL));
    CHECK_INT(view(&r, "default").traces, 0);
    run_end(&r);
}

TEST(redact_only_the_service_and_the_value)
{
    struct run r;
    struct store_redacted all, one, value;
    struct store_redaction want = text_key;
    run_begin(&r, 6);
    send(&r, 60);
    want.count_only = true;
    CHECK_OK(store_redact(r.s, &want, &all, NULL));
    want.service = STR("svc1");
    CHECK_OK(store_redact(r.s, &want, &one, NULL));
    CHECK(one.values > 0 && one.values < all.values);
    want.value = STR("abc");
    want.has_value = true;
    CHECK_OK(store_redact(r.s, &want, &value, NULL));
    CHECK(value.values > 0 && value.values < one.values);
    want.count_only = false;
    CHECK_OK(store_redact(r.s, &want, &value, NULL));
    CHECK_INT(view(&r, "default").marked, value.values);
    want = text_key;
    want.key = STR("service.name"); /* of resources: counted with each of their spans */
    want.service = STR("svc2");
    CHECK_OK(store_redact(r.s, &want, &value, NULL));
    CHECK(value.values > 0 && value.values == value.spans);
    want.count_only = true;
    CHECK_OK(store_redact(r.s, &want, &value, NULL));
    CHECK_INT(value.values, 0);
    want.tenant = STR("nobody");
    CHECK_INT(store_redact(r.s, &want, &value, NULL), E_NOT_FOUND);
    run_end(&r);
}

static bool count_trace(void *arg, const uint8_t id[16])
{
    (void)id;
    ++*(uint64_t *)arg;
    return true;
}

/* Files that a snapshot still reads lose their names all the same. */
TEST(redact_removes_what_a_snapshot_reads)
{
    struct run r;
    struct store_redacted done;
    uint64_t traces = 0;
    run_begin(&r, 7);
    send(&r, 60);
    CHECK_OK(store_flush(r.s, NULL));
    struct snap *snap = store_snap(r.s);
    CHECK_OK(store_redact(r.s, &text_key, &done, NULL));
    CHECK(done.blocks > 0);
    CHECK_INT(done.held, 0);
    CHECK_OK(snap_each_trace(snap, STR("default"), 0, UINT64_MAX, count_trace, &traces, NULL));
    CHECK(traces > 0);
    snap_unref(snap);
    run_end(&r);
}

TEST(redact_writes_an_audit)
{
    struct run r;
    struct store_redacted done;
    struct store_redaction want = text_key;
    struct buf log = buf_init(MIB);
    run_begin(&r, 8);
    send(&r, 30);
    want.value = STR("abcdefghijkl");
    want.has_value = true;
    want.key = STR("te\"xt\n");
    CHECK_OK(store_redact(r.s, &want, &done, NULL));
    CHECK_OK(store_redact(r.s, &text_key, &done, NULL));
    CHECK_OK(os_read_file(r.os, "/data/audit.log", &log, NULL));
    buf_add_char(&log, 0);
    CHECK(!strstr(log.p, SECRET));
    CHECK(strstr(log.p, "Z redact begins door=\"test\" tenant=\"default\" key=\"te\\x22xt\\x0a\" "
                        "value_bytes=12\n") != NULL);
    char end[200];
    snprintf(end, sizeof end,
             "Z redact done door=\"test\" tenant=\"default\" key=\"text\" traces=%llu spans=%llu "
             "values=%llu blocks=%llu failed=0 held=0 damaged=0\n",
             (unsigned long long)done.traces, (unsigned long long)done.spans,
             (unsigned long long)done.values, (unsigned long long)done.blocks);
    CHECK(strstr(log.p, end) != NULL);
    buf_fini(&log);
    run_end(&r);
}

/* A damaged block is left, and said; the others are done. */
TEST(redact_goes_on_past_a_damaged_block)
{
    struct run r;
    struct store_redacted done;
    char path[96];
    run_begin(&r, 9);
    r.c.compact_fanin = 0;
    store_close(r.s);
    CHECK_OK(store_open(&r.s, &r.c, NULL));
    for (int i = 0; i < 6; i++) {
        send(&r, 4);
        CHECK_OK(store_flush(r.s, NULL));
    }
    unsigned hit = 0;
    for (unsigned id = 0; id < 4 && !hit; id++) {
        snprintf(path, sizeof path, "/data/blocks/%016x.default.blk", id);
        hit = sim_flip_bit(r.os, path, 8 * 40);
    }
    CHECK(hit);
    CHECK_OK(store_redact(r.s, &text_key, &done, NULL));
    CHECK_INT(done.failed, 1);
    CHECK(done.blocks >= 4);
    run_end(&r);
}

/* --- power cuts and failing calls --- */

static void crash_and_open(struct run *r)
{
    sim_fail_after(r->os, 1, E_IO, true);
    store_close(r->s);
    sim_crash(r->os);
    sim_fail_after(r->os, 0, E_OK, false);
    CHECK_OK(store_open(&r->s, &r->c, NULL));
}

/* The redaction meets a fault at the kth call, then the power fails. Nothing is lost; what was
 * acknowledged as erased stays so; what was not is erased by asking again. */
static bool crash_run(uint64_t seed, uint64_t k, bool sticky)
{
    struct run r;
    struct store_redacted done;
    run_begin(&r, seed);
    send(&r, 20 + (unsigned)(seed % 20));
    static struct view before, after;
    before = view(&r, "default");
    uint64_t calls = sim_calls(r.os);
    sim_fail_after(r.os, k, E_IO, sticky);
    bool acked = store_redact(r.s, &text_key, &done, NULL) == E_OK && !done.failed;
    bool reached = sim_calls(r.os) - calls >= k;
    if (!sticky)
        sim_fail_after(r.os, 0, E_OK, false);
    bool clean = acked && !done.held;
    if (k % 2)
        crash_and_open(&r);
    sim_fail_after(r.os, 0, E_OK, false);
    after = view(&r, "default");
    CHECK(same_but_text(&before, &after) && (!acked || !after.texts));
    struct store_redaction other = text_key;
    other.tenant = STR("other");
    for (int i = 0; i < 4; i++) { /* what failed for a moment is tried again by the store */
        sim_advance(r.os, 61 * NS_PER_S);
        settle(&r);
    }
    enum errc rc = store_redact(r.s, &other, &done, NULL);
    CHECK(rc == E_OK || rc == E_NOT_FOUND);
    if (clean)
        CHECK_INT(hunt(&r, STR(SECRET)), 0);
    CHECK_OK(store_redact(r.s, &text_key, &done, NULL));
    CHECK_INT(view(&r, "default").texts, 0);
    crash_and_open(&r);
    after = view(&r, "default");
    CHECK(same_but_text(&before, &after) && !after.texts);
    run_end(&r);
    return reached;
}

TEST(redact_fault_sweep)
{
    for (int sticky = 0; sticky < 2; sticky++)
        for (unsigned i = 0; i < 3; i++) {
            uint64_t seed = test_rand(), k = 1;
            while (crash_run(seed, k, sticky))
                k++;
            CHECK(k > 10);
        }
}

/* A batch that was answered with an error may lie in the log all the same, and no memtable knows
 * it: its segment goes too. */
TEST(redact_also_what_only_the_log_holds)
{
    struct run r;
    struct store_redacted done;
    run_begin(&r, 10);
    send(&r, 20);
    CHECK_OK(store_redact(r.s, &text_key, &done, NULL));
    CHECK_INT(hunt_in(&r, "/data/wal", STR(SECRET)), 0);
    for (uint64_t k = 1; !hunt_in(&r, "/data/wal", STR(SECRET)); k++) {
        sim_fail_after(r.os, k, E_IO, false); /* at last the sync: the record is written */
        CHECK_OK(world_append(r.w, r.s, 8));
        (void)store_step(r.s);
        CHECK(r.w->batches[r.w->batch_n - 1].fate == FATE_REFUSED);
        sim_fail_after(r.os, 0, E_OK, false);
    }
    CHECK_OK(store_redact(r.s, &text_key, &done, NULL));
    CHECK_INT(hunt_in(&r, "/data/wal", STR(SECRET)), 0);
    run_end(&r);
}

/* --- the I/O budget: in memory, against the machine's clock --- */

/* A store with blocks, and a builder that may move so much a second. */
static void held_begin(struct run *r, uint64_t rate)
{
    log_setup((enum log_level)(LOG_ERROR + 1), LOG_TEXT);
    *r = (struct run){.os = os_mem_new()};
    store_config_defaults(&r->c, r->os, "/data");
    r->c.threads = false;
    r->c.memtable_bytes = 16 * KIB;
    r->c.compact_fanin = 0;
    r->w = world_new(4, os_now_ns(r->os));
    CHECK_OK(store_open(&r->s, &r->c, NULL));
    send(r, 60);
    CHECK_OK(store_flush(r->s, NULL));
    store_close(r->s);
    r->c.threads = true;
    r->c.compact_io_bytes = rate;
    CHECK_OK(store_open(&r->s, &r->c, NULL));
}

static uint64_t moved(void)
{
    return (uint64_t)(stat_get(STAT_COMPACTION_READ) + stat_get(STAT_COMPACTION_WRITTEN));
}

TEST(redact_keeps_to_the_io_budget)
{
    struct run r;
    struct store_redacted done;
    uint64_t rate = 256 * KIB, moved_before = moved();
    held_begin(&r, rate);
    struct view before = view(&r, "default");
    uint64_t begun_ns = os_mono_ns(r.os);
    CHECK_OK(store_redact(r.s, &text_key, &done, NULL));
    uint64_t took_ns = os_mono_ns(r.os) - begun_ns, bytes = moved() - moved_before;
    CHECK(done.blocks >= 4);
    CHECK(took_ns >= bytes / 2 * NS_PER_S / rate); /* all but the last step, one of many */
    struct view after = view(&r, "default");
    CHECK(same_but_text(&before, &after) && !after.texts);
    run_end(&r);
}

static void redact_slowly(void *store)
{
    struct store_redacted done;
    CHECK_INT(store_redact(store, &text_key, &done, NULL), E_CANCELLED);
}

/* A server that stops does not wait for the budget: here a step's rest would be hours. */
TEST(redact_ends_with_the_server)
{
    struct run r;
    struct thread asker;
    held_begin(&r, 1);
    uint64_t before = moved();
    thread_start(&asker, "asker", redact_slowly, r.s);
    while (moved() == before) /* the builder rests from now on */
        sched_yield();
    store_stop_redacting(r.s);
    thread_join(&asker);
    run_end(&r);
}
