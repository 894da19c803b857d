/* SPDX-License-Identifier: Apache-2.0 */
/* The store's door, its versions and its writer.
 *
 *   store_append → queue → writer: log, memtable, acknowledgement
 *                              │ full or old: freeze
 *                              ▼
 *                          builder: blocks, manifest, log released      syncer: fdatasync
 *
 * Invariants
 * 1. A batch is acknowledged after its record is in the log (and synced, with SYNC_EACH) and after
 * it is in the active memtable. So whoever heard the acknowledgement finds the batch, and a crash
 *    finds it in the log.
 * 2. Freezing a memtable ends the log segment. So a memtable's records lie in segments of their own
 *    and "the log is released up to segment n" says exactly which batches are in blocks.
 * 3. Memtables are built in the order they were frozen. One manifest edit names the blocks, the
 * names and dependencies found in them, and the release: all or nothing.
 * 4. A segment is recycled and a block file removed only after the edit that says so is synced.
 * 5. An error is told to the sender or to the log, and what was acknowledged stays in memory and in
 *    the log until it is in a block. Building is tried again until it succeeds.
 *
 * Locks: store.lock, then none. wal, catalog and mailbox have locks of their own, taken inside. */
#include "store/trace/store_parts.h"

#include "base/log.h"
#include "base/os/process.h"
#include "base/stats.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void store_config_defaults(struct store_config *c, struct os *os, const char *dir)
{
    *c = (struct store_config){.os = os,
                               .dir = dir,
                               .log = true,
                               .sync = SYNC_INTERVAL,
                               .sync_every_ns = 100 * NS_PER_MS,
                               .memtable_bytes = 64 * MIB,
                               .memtable_age_ns = 900 * NS_PER_S,
                               .retention_ns = UINT64_C(168) * 3600 * NS_PER_S,
                               .compact_fanin = 8,
                               .compact_bytes = 16 * MIB,
                               .compact_percent = 50,
                               .queue_max = 4096,
                               .services_max = 10000,
                               .operations_max = 100000,
                               .threads = true};
}

void store_config_visitor(struct store_config *c, struct os *os, const char *dir)
{
    store_config_defaults(c, os, dir);
    c->retention_ns = 0;
    c->compact_fanin = 0;
    c->keep_all = true;
}

/* --- parts and versions --- */

struct part *part_ref(struct part *p)
{
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void part_unref(struct part *p)
{
    if (atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (p->block)
        block_unref(p->block);
    if (atomic_load(&p->dropped) && os_unlink(p->os, p->path, NULL) != E_OK)
        log_warn("store", "cannot remove the expired block %s; the next start will", p->path);
    free(p->path);
    free(p);
}

void part_remove(struct part *p)
{
    atomic_store(&p->dropped, os_unlink(p->os, p->path, NULL) != E_OK);
}

void part_damaged(struct part *p, const struct err *why)
{
    if (atomic_exchange(&p->damaged, true))
        return;
    stat_add(STAT_BLOCKS_DAMAGED, 1);
    log_error("store", "%s; searches go on without it%s", err_msg(why), err_hint(E_CORRUPT));
}

struct version *version_copy(const struct version *v, size_t more)
{
    struct version *c = xmalloc(sizeof *c);
    atomic_init(&c->refs, 1);
    c->mem_n = v->mem_n;
    c->part_n = v->part_n;
    c->recent_n = v->recent_n;
    c->recent_memtable = v->recent_memtable;
    c->mem = xmalloc((v->mem_n + 1) * sizeof(struct memtable *));
    c->parts = xmalloc((v->part_n + more + 1) * sizeof(struct part *));
    for (size_t i = 0; i < v->mem_n; i++)
        c->mem[i] = memtable_ref(v->mem[i]);
    for (size_t i = 0; i < v->part_n; i++)
        c->parts[i] = part_ref(v->parts[i]);
    for (size_t i = 0; i < v->recent_n; i++)
        c->recent[i] = span_index_ref(v->recent[i]);
    c->deps = deps_ref(v->deps);
    c->orphans = orphans_ref(v->orphans);
    return c;
}

struct version *version_ref(struct version *v)
{
    atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
    return v;
}

/* Adds to the gauges what the store holds, or takes it back. */
static void gauge(const struct version *v, int64_t sign)
{
    for (size_t i = 0; i < v->mem_n; i++) {
        stat_add(STAT_MEMTABLE_SPANS, sign * (int64_t)atomic_load(&v->mem[i]->spans));
        stat_add(STAT_MEMTABLE_BYTES, sign * (int64_t)atomic_load(&v->mem[i]->bytes));
    }
    for (size_t i = 0; i < v->part_n; i++) {
        stat_add(STAT_BLOCKS, sign);
        stat_add(STAT_BLOCK_SPANS, sign * (int64_t)v->parts[i]->spans);
        stat_add(STAT_BLOCK_BYTES, sign * (int64_t)v->parts[i]->bytes);
    }
}

void version_unref(struct version *v)
{
    if (!v || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < v->mem_n; i++)
        memtable_unref(v->mem[i]);
    for (size_t i = 0; i < v->part_n; i++)
        part_unref(v->parts[i]);
    for (size_t i = 0; i < v->recent_n; i++)
        span_index_unref(v->recent[i]);
    deps_unref(v->deps); /* may be NULL when opening failed early */
    orphans_unref(v->orphans);
    free(v->mem);
    free(v->parts);
    free(v);
}

struct version *store_version(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    struct version *v = version_ref(s->version);
    pthread_mutex_unlock(&s->lock);
    return v;
}

char *store_path(const char *dir, const char *name)
{
    size_t n = strlen(dir) + strlen(name) + 2;
    char *path = xmalloc(n);
    snprintf(path, n, "%s/%s", dir, name);
    return path;
}

static void name_list_add(void *arg, const char *name)
{
    struct name_list *l = arg;
    if (l->n == l->cap)
        l->v = xrealloc(l->v, (l->cap = l->cap ? 2 * l->cap : 64) * sizeof *l->v);
    l->v[l->n++] = xstrdup(name);
}

enum errc name_list_read(struct os *os, const char *dir, struct name_list *l, struct err *e)
{
    *l = (struct name_list){0};
    return os_list(os, dir, name_list_add, l, e);
}

void name_list_fini(struct name_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
}

void store_block_file(uint64_t id, struct str tenant, char name[STORE_BLOCK_FILE])
{
    snprintf(name, STORE_BLOCK_FILE, "%016llx.%.*s.blk", (unsigned long long)id, STR_ARG(tenant));
}

char *store_block_path(const struct store *s, uint64_t id, struct str tenant)
{
    char name[STORE_BLOCK_FILE];
    store_block_file(id, tenant, name);
    return store_path(s->blocks_dir, name);
}

/* --- freezing --- */

/* The active memtable becomes frozen; an empty one takes its place. Writer only. */
static void freeze(struct store *s)
{
    struct memtable *active = s->active;
    if (memtable_has_many_keys(active)) {
        stat_add(STAT_MEMTABLES_MANY_KEYS, 1);
        log_warn("store", "%llu spans become a block now: they have very many attribute keys",
                 (unsigned long long)atomic_load(&active->spans));
    }
    active->wal_seq = s->wal ? wal_rotate(s->wal) : 0;
    struct memtable *fresh = memtable_new(active->number + 1, os_mono_ns(s->os), s->key_seed);
    pthread_mutex_lock(&s->lock);
    struct version *old = s->version, *v = version_copy(old, 0);
    memmove(v->mem + 1, v->mem, v->mem_n * sizeof(struct memtable *));
    v->mem[0] = s->active = fresh;
    v->mem_n++;
    s->version = v;
    atomic_fetch_add(&s->frozen, 1);
    atomic_store(&s->active_full, false);
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    version_unref(old);
}

/* Nanoseconds until the active memtable is due; 0: now. */
static uint64_t freeze_due_ns(struct store *s, bool poisoned)
{
    const struct memtable *active = s->active;
    pthread_mutex_lock(&s->lock);
    bool wanted = s->freeze_upto >= active->number, scrub = s->scrub_upto >= active->number;
    uint64_t most_ns = s->config.memtable_age_ns, keep_ns = s->config.retention_ns;
    pthread_mutex_unlock(&s->lock);
    if (!memtable_count(active) && !scrub)
        return UINT64_MAX;
    if (keep_ns) /* only blocks can go */
        most_ns = min_u64(most_ns, keep_ns / WINDOWS);
    if (wanted || poisoned || memtable_is_full(active, s->config.memtable_bytes))
        return 0;
    uint64_t age_ns = os_mono_ns(s->os) - active->born_mono_ns;
    return age_ns >= most_ns ? 0 : most_ns - age_ns;
}

/* --- the writer --- */

static void group_room(struct store *s, size_t n)
{
    if (n <= s->group_cap)
        return;
    s->group_cap = n + n / 2;
    s->group = xrealloc(s->group, s->group_cap * sizeof *s->group);
    s->images = xrealloc(s->images, s->group_cap * sizeof *s->images);
}

/* Refusals that are known before anything is written. */
static enum errc group_check(struct store *s, const struct batch *b)
{
    if (atomic_load(&s->disk_full))
        return E_FULL;
    if (catalog_tenant(s->catalog, b->tenant) != CATALOG_NONE)
        return E_OK;
    stat_add(STAT_TENANTS_OVER_LIMIT, 1);
    return E_THROTTLED;
}

/* Splits the messages into what goes to the log (the first of the return value) and what is refused
 * or empty (behind it). */
static size_t group_collect(struct store *s, struct msg *messages, size_t *total)
{
    size_t n = 0, good = 0;
    for (struct msg *m = messages, *next; m; m = next) {
        next = m->next;
        if (m == &s->wake) {
            pthread_mutex_lock(&s->lock);
            s->wake_posted = false;
            pthread_mutex_unlock(&s->lock);
            continue;
        }
        struct store_ticket *t = (struct store_ticket *)m;
        group_room(s, n + 1);
        struct pending p = {.ticket = t, .result = group_check(s, t->batch)};
        if (p.result == E_OK && t->batch->head->span_count) {
            s->group[n] = s->group[good];
            s->group[good++] = p;
        } else {
            s->group[n] = p;
        }
        n++;
    }
    *total = n;
    return good;
}

/* How many of the first n are in the log as the sync policy demands; the others get `rc`. */
static size_t group_log(struct store *s, size_t n, enum errc *rc, struct err *e)
{
    size_t done = n;
    *rc = E_OK;
    if (!s->wal || !n)
        return n;
    for (size_t i = 0; i < n; i++)
        s->images[i] = batch_image(s->group[i].ticket->batch);
    *rc = wal_append(s->wal, s->images, n, &done, e);
    if (*rc == E_FULL) {
        log_warn("store", "the disk is full: nothing more is taken until there is space again");
        atomic_store(&s->disk_full, true);
        s->probe_at_ns = os_mono_ns(s->os) + PROBE_NS;
        atomic_store(&s->room_wanted, true);
    }
    pthread_mutex_lock(&s->lock);
    if (*rc == E_FULL)
        pthread_cond_signal(&s->work);
    enum sync_policy sync = s->config.sync;
    if (done && sync == SYNC_INTERVAL && s->syncer_idle)
        pthread_cond_signal(&s->dirty);
    pthread_mutex_unlock(&s->lock);
    if (!done || sync != SYNC_EACH)
        return done;
    enum errc synced = wal_sync(s->wal, *rc == E_OK ? e : NULL);
    if (synced != E_OK) {
        *rc = synced;
        return 0;
    }
    return done;
}

static void group_insert(struct store *s, struct batch *b)
{
    struct memtable *active = s->active;
    struct mem_entry entry = {.batch = batch_ref(b)};
    if (!memtable_count(active))
        active->born_mono_ns = os_mono_ns(s->os);
    enum errc rc = catalog_note(s->catalog, b, &entry);
    ensure(rc == E_OK); /* group_check made the tenant */
    uint64_t before = atomic_load(&active->bytes);
    memtable_add(active, &entry);
    stat_add(STAT_MEMTABLE_SPANS, b->head->span_count);
    uint64_t added = atomic_load(&active->bytes) - before;
    stat_add(STAT_MEMTABLE_BYTES, (int64_t)added);
    atomic_fetch_add(&s->held_bytes, added);
    atomic_store(&s->active_full, memtable_is_full(active, s->config.memtable_bytes));
}

/* Logs, inserts and answers everything that came. */
static void write_group(struct store *s, struct msg *messages)
{
    struct err e = {.code = E_OK};
    enum errc rc;
    size_t total, good = group_collect(s, messages, &total);
    size_t done = group_log(s, good, &rc, &e);
    if (rc != E_OK)
        log_warn("store", "%zu batches could not be logged: %s", good - done, err_msg(&e));
    for (size_t i = 0; i < total; i++) {
        struct pending *p = &s->group[i];
        struct batch *b = p->ticket->batch;
        if (i < done)
            group_insert(s, b);
        else if (i < good)
            p->result = rc;
        p->ticket->done(p->ticket, p->result, p->result == E_OK ? "" : err_text(p->result));
        batch_unref(b);
    }
}

/* While the disk is full: looks now and then whether a segment can be had. */
static void probe_disk(struct store *s)
{
    if (!atomic_load(&s->disk_full) || os_mono_ns(s->os) < s->probe_at_ns)
        return;
    s->probe_at_ns = os_mono_ns(s->os) + PROBE_NS;
    if (wal_probe(s->wal, NULL) == E_OK) {
        log_info("store", "there is space again: batches are taken");
        atomic_store(&s->disk_full, false);
    }
}

/* One turn of the writer. Returns how long it may sleep, 0 when there is more to do. */
static uint64_t writer_turn(struct store *s, struct msg *messages)
{
    if (messages)
        write_group(s, messages);
    probe_disk(s);
    bool poisoned = s->wal && wal_take_poison(s->wal);
    if (poisoned)
        log_error("store", "the log could not be synced: what it holds is built into blocks now");
    uint64_t due_ns = freeze_due_ns(s, poisoned);
    if (due_ns == 0 && atomic_load(&s->frozen) < FROZEN_MAX) {
        freeze(s);
        due_ns = UINT64_MAX;
    }
    if (atomic_load(&s->disk_full) || due_ns == 0) /* space, or the builder, must be waited for */
        due_ns = min_u64(max_u64(due_ns, NS_PER_S / 20), NS_PER_S);
    return due_ns;
}

static void writer_main(void *arg)
{
    struct store *s = arg;
    uint64_t sleep_ns = UINT64_MAX;
    for (;;) {
        struct msg *messages = mailbox_wait(&s->queue, min_u64(sleep_ns, 3600 * NS_PER_S));
        sleep_ns = writer_turn(s, messages);
        if (!messages && mailbox_is_closed(&s->queue))
            return;
    }
}

static void wake_writer(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    bool post = !s->wake_posted;
    s->wake_posted = true;
    pthread_mutex_unlock(&s->lock);
    if (post && !mailbox_post(&s->queue, &s->wake)) {
        /* Full: the writer is awake. */
        pthread_mutex_lock(&s->lock);
        s->wake_posted = false;
        pthread_mutex_unlock(&s->lock);
    }
}

static bool tenant_ok(struct str tenant)
{
    for (size_t i = 0; i < tenant.n; i++)
        if (tenant.p[i] == '/' || tenant.p[i] == 0)
            return false;
    return tenant.n > 0 && tenant.n <= BATCH_TENANT_MAX;
}

enum errc store_append(struct store *s, struct store_ticket *t)
{
    if (!tenant_ok(t->batch->tenant))
        return E_INVALID;
    if (atomic_load(&s->disk_full))
        return E_FULL;
    bool late = atomic_load(&s->frozen) >= FROZEN_MAX && atomic_load(&s->active_full);
    if (late || atomic_load(&s->held_bytes) >= HELD_MAX(s->config))
        return atomic_load(&s->blocks_full) ? E_FULL : E_UNAVAILABLE;
    batch_ref(t->batch);
    if (mailbox_post(&s->queue, &t->msg))
        return E_OK;
    batch_unref(t->batch);
    return E_UNAVAILABLE;
}

/* --- the syncer --- */

/* Nanoseconds to wait, 0 when it has synced. */
static uint64_t syncer_step(struct store *s)
{
    struct err e;
    uint64_t now_ns = os_mono_ns(s->os), since_ns = now_ns - s->synced_at_ns;
    pthread_mutex_lock(&s->lock);
    uint64_t every_ns = s->config.sync_every_ns;
    pthread_mutex_unlock(&s->lock);
    if (since_ns < every_ns)
        return every_ns - since_ns;
    if (wal_sync(s->wal, &e) != E_OK) {
        log_error("store", "%s", err_msg(&e));
        wake_writer(s);
    }
    s->synced_at_ns = now_ns;
    return 0;
}

static bool needs_sync(struct store *s)
{
    return s->wal && s->config.sync == SYNC_INTERVAL && wal_dirty(s->wal);
}

/* Lock held. */
static void wait_ns(struct store *s, pthread_cond_t *cond, uint64_t ns)
{
    struct timespec at;
    if (ns == UINT64_MAX) {
        pthread_cond_wait(cond, &s->lock);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &at);
    uint64_t nsec = (uint64_t)at.tv_nsec + ns % NS_PER_S;
    at.tv_sec += (time_t)(ns / NS_PER_S + nsec / NS_PER_S);
    at.tv_nsec = (long)(nsec % NS_PER_S);
    pthread_cond_timedwait(cond, &s->lock, &at);
}

static void syncer_main(void *arg)
{
    struct store *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->stop_syncer) {
        if (!needs_sync(s)) {
            s->syncer_idle = true;
            wait_ns(s, &s->dirty, UINT64_MAX);
            s->syncer_idle = false;
            continue;
        }
        pthread_mutex_unlock(&s->lock);
        uint64_t sleep_ns = syncer_step(s);
        pthread_mutex_lock(&s->lock);
        uint64_t until_ns = os_mono_ns(s->os) + sleep_ns;
        while (!s->stop_syncer && os_mono_ns(s->os) < until_ns)
            wait_ns(s, &s->dirty, until_ns - os_mono_ns(s->os));
    }
    pthread_mutex_unlock(&s->lock);
}

/* --- the builder --- */

/* One turn: builds, looks at retention, merges a little. Returns how long it may sleep, 0 when
 * there is more. */
static uint64_t builder_turn(struct store *s)
{
    uint64_t now_ns = os_mono_ns(s->os);
    store_set_room(s);
    if (atomic_exchange(&s->room_wanted, false))
        s->maintain_at_ns = 0;
    if (atomic_load(&s->frozen) && now_ns >= s->retry_at_ns) {
        enum build_result result = store_build_step(s);
        s->retry_at_ns = result == BUILD_FAILED ? os_mono_ns(s->os) + RETRY_NS : 0;
        pthread_mutex_lock(&s->lock);
        if (s->config.max_disk_bytes)
            s->maintain_at_ns = 0; /* the new block may have passed the cap */
        pthread_mutex_unlock(&s->lock);
    }
    if (now_ns >= s->maintain_at_ns && !s->build && !store_compact_commits(s)) {
        uint64_t expiry_ns = store_retain(s);
        bool idle = s->build_attempts == s->attempts_maintained;
        if (idle && s->attempts_trimmed != s->build_attempts) {
            block_builder_trim(s->block_builder);
            process_trim_memory();
            s->attempts_trimmed = s->build_attempts;
        }
        s->attempts_maintained = s->build_attempts;
        s->maintain_at_ns = now_ns + min_u64(MAINTAIN_NS, max_u64(expiry_ns, EXPIRY_NS));
    }
    uint64_t sleep_ns = s->maintain_at_ns > now_ns ? s->maintain_at_ns - now_ns : EXPIRY_NS;
    if (!s->build || store_rewrite_asked(s)) /* who asks for a rewrite hears what fails */
        sleep_ns = min_u64(sleep_ns, store_compact_step(s, atomic_load(&s->frozen) > 0));
    if (atomic_load(&s->frozen))
        sleep_ns = s->retry_at_ns > now_ns ? s->retry_at_ns - now_ns : 0;
    return sleep_ns;
}

static void builder_main(void *arg)
{
    struct store *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->stop_builder) {
        pthread_mutex_unlock(&s->lock);
        uint64_t sleep_ns = builder_turn(s);
        pthread_mutex_lock(&s->lock);
        if (sleep_ns && !s->stop_builder && !(atomic_load(&s->frozen) && !s->retry_at_ns) &&
            !store_rewrite_waits(s))
            wait_ns(s, &s->work, sleep_ns);
    }
    pthread_mutex_unlock(&s->lock);
}

/* --- steps, flush --- */

bool store_step(struct store *s)
{
    struct msg *messages = mailbox_take(&s->queue);
    uint64_t writer_ns = writer_turn(s, messages);
    uint64_t builder_ns = builder_turn(s);
    if (needs_sync(s))
        (void)syncer_step(s);
    return messages || writer_ns == 0 || builder_ns == 0;
}

/* Lock held. True when every memtable up to `number` is in blocks. */
static bool is_built(const struct store *s, uint64_t number)
{
    const struct version *v = s->version;
    bool nothing = v->mem_n == 1 && !memtable_count(v->mem[0]);
    return v->mem[v->mem_n - 1]->number > number || (nothing && s->scrub_upto < number);
}

/* Waits, or without threads works, until `number` is built or an attempt that began later failed.
 */
static enum errc wait_built(struct store *s, uint64_t number, struct err *e)
{
    enum errc rc = E_OK;
    pthread_mutex_lock(&s->lock);
    uint64_t attempts = s->build_attempts;
    while (rc == E_OK && !is_built(s, number)) {
        if (!s->config.threads) {
            pthread_mutex_unlock(&s->lock);
            s->retry_at_ns = 0;
            (void)store_step(s);
            pthread_mutex_lock(&s->lock);
        } else {
            pthread_cond_wait(&s->built, &s->lock);
        }
        if (s->build_attempts > attempts && s->build_error.code != E_OK) {
            rc = s->build_error.code;
            if (e)
                *e = s->build_error;
        }
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

enum errc store_build_all(struct store *s, bool scrub, struct err *e)
{
    pthread_mutex_lock(&s->lock);
    uint64_t number = s->version->mem[0]->number;
    s->freeze_upto = max_u64(s->freeze_upto, number);
    if (scrub)
        s->scrub_upto = number;
    pthread_mutex_unlock(&s->lock);
    if (s->config.threads)
        wake_writer(s);
    return wait_built(s, number, e);
}

enum errc store_flush(struct store *s, struct err *e)
{
    return store_build_all(s, false, e);
}

uint64_t store_names_ns(const struct store *s)
{
    uint64_t ns = s->config.retention_ns;
    return ns ? max_u64(ns, s->config.longest_ns) : 0;
}

static enum errc set_rules(struct store *s, const char *text, struct err *e)
{
    struct rules r;
    enum errc rc = rules_parse(&r, str_from_c(text), e);
    if (rc != E_OK)
        return rc;
    pthread_mutex_lock(&s->lock);
    free(s->rules_text);
    s->rules_text = xstrdup(text ? text : "");
    s->config.drop_ns = r.drop_ns;
    s->config.longest_ns = r.longest_ns;
    pthread_mutex_unlock(&s->lock);
    rules_fini(&r);
    return E_OK;
}

void store_reconfigure(struct store *s, const struct store_config *c)
{
    struct err e;
    uint64_t least = store_least_disk(c);
    bool too_small = c->max_disk_bytes && c->max_disk_bytes < least;
    if (too_small)
        log_error("store",
                  "a disk cap of %llu bytes is too small, %llu are needed: it stays as it is",
                  (unsigned long long)c->max_disk_bytes, (unsigned long long)least);
    if (set_rules(s, c->rules, &e) != E_OK)
        log_error("store", "the rules stay as they were: %s", err_msg(&e));
    pthread_mutex_lock(&s->lock);
    s->config.retention_ns = c->retention_ns;
    if (!too_small)
        s->config.max_disk_bytes = c->max_disk_bytes;
    s->config.compact_percent = c->compact_percent;
    s->config.compact_io_bytes = c->compact_io_bytes;
    s->config.sync = c->sync;
    s->config.sync_every_ns = c->sync_every_ns;
    pthread_cond_signal(&s->dirty);
    atomic_store(&s->room_wanted, true); /* at once, not at the next look */
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
}

/* --- opening and closing --- */

static void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

static struct store *store_new(const struct store_config *c)
{
    struct store *s = xcalloc(1, sizeof *s);
    s->config = *c;
    s->room = room_new(c->os, store_make_room, s);
    s->os = room_os(s->room, ROOM_STATE);
    s->dir = xstrdup(c->dir);
    s->config.dir = s->dir;
    s->blocks_dir = store_path(c->dir, "blocks");
    s->wal_dir = store_path(c->dir, "wal");
    s->catalog = catalog_new(c->services_max, c->operations_max);
    s->block_builder = block_builder_new();
    s->build_error.code = E_OK;
    mailbox_init(&s->queue, c->queue_max);
    pthread_mutex_init(&s->lock, NULL);
    cond_init(&s->work);
    cond_init(&s->built);
    cond_init(&s->dirty);
    return s;
}

static void store_free(struct store *s)
{
    store_build_abandon(s);
    store_compact_abandon(s);
    store_decide_abandon(s);
    version_unref(s->version);
    wal_close(s->wal);
    manifest_close(s->manifest);
    os_close(s->lock_file);
    catalog_free(s->catalog);
    block_builder_free(s->block_builder);
    mailbox_fini(&s->queue);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->built);
    pthread_cond_destroy(&s->dirty);
    free(s->rules_text);
    free(s->group);
    free(s->images);
    free(s->dir);
    free(s->blocks_dir);
    free(s->wal_dir);
    room_free(s->room);
    free(s);
}

enum errc store_open(struct store **out, const struct store_config *c, struct err *e)
{
    uint64_t least = store_least_disk(c);
    if (c->max_disk_bytes && c->max_disk_bytes < least)
        return fail(
            e, E_INVALID,
            "max-disk of %llu bytes is too small: with a memtable of %llu bytes the log and "
            "the blocks need %llu",
            (unsigned long long)c->max_disk_bytes, (unsigned long long)c->memtable_bytes,
            (unsigned long long)least);
    struct store *s = store_new(c);
    enum errc rc = set_rules(s, c->rules, e);
    if (rc == E_OK)
        rc = store_recover(s, e);
    if (rc != E_OK) {
        store_free(s);
        return rc;
    }
    gauge(s->version, 1);
    store_set_room(s);
    (void)store_retain(s); /* before anything is read or written */
    if (c->threads) {
        thread_start(&s->writer, "store-writer", writer_main, s);
        thread_start(&s->builder, "store-builder", builder_main, s);
        if (s->wal)
            thread_start(&s->syncer, "store-syncer", syncer_main, s);
    }
    *out = s;
    return E_OK;
}

static void stop(struct store *s, bool *flag, pthread_cond_t *cond)
{
    pthread_mutex_lock(&s->lock);
    *flag = true;
    pthread_cond_signal(cond);
    pthread_mutex_unlock(&s->lock);
}

void store_close(struct store *s)
{
    struct err e;
    if (!s)
        return;
    mailbox_close(&s->queue);
    if (s->writer.started)
        thread_join(&s->writer);
    /* From here on this thread is the writer. */
    for (struct msg *m; (m = mailbox_take(&s->queue));)
        (void)writer_turn(s, m);
    if (memtable_count(s->active))
        freeze(s);
    stop(s, &s->stop_builder, &s->work);
    if (s->builder.started)
        thread_join(&s->builder);
    stop(s, &s->stop_syncer, &s->dirty);
    if (s->syncer.started)
        thread_join(&s->syncer);
    while (atomic_load(&s->frozen) && store_build_step(s) == BUILD_DONE)
        ;
    if (atomic_load(&s->frozen))
        log_error("store", "closing without building the last batches%s",
                  s->wal ? ": they are in the log and will be read at the next start" : "");
    if (s->wal && wal_sync(s->wal, &e) != E_OK)
        log_error("store", "%s", err_msg(&e));
    gauge(s->version, -1);
    store_free(s);
}

void store_stats(struct store *s, struct store_stats *out)
{
    struct version *v = store_version(s);
    *out = (struct store_stats){.oldest_ns = UINT64_MAX};
    for (size_t i = 0; i < v->mem_n; i++) {
        out->memtable_spans += atomic_load(&v->mem[i]->spans);
        out->memtable_bytes += atomic_load(&v->mem[i]->bytes);
        out->oldest_ns = min_u64(out->oldest_ns, atomic_load(&v->mem[i]->min_ns));
        out->newest_ns = max_u64(out->newest_ns, atomic_load(&v->mem[i]->max_ns));
    }
    out->block_count = v->part_n;
    for (size_t i = 0; i < v->part_n; i++) {
        out->block_spans += v->parts[i]->spans;
        out->block_bytes += v->parts[i]->bytes;
        out->oldest_ns = min_u64(out->oldest_ns, v->parts[i]->min_ns);
        out->newest_ns = max_u64(out->newest_ns, v->parts[i]->max_ns);
    }
    if (out->oldest_ns > out->newest_ns)
        out->oldest_ns = 0;
    out->log_bytes = s->wal ? wal_disk_bytes(s->wal) : 0;
    out->disk_bytes = room_used(s->room);
    out->read_only = atomic_load(&s->disk_full) ||
                     (atomic_load(&s->blocks_full) && atomic_load(&s->frozen) >= FROZEN_MAX);
    version_unref(v);
}
