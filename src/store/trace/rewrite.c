/* SPDX-License-Identifier: Apache-2.0 */
/* Rewriting: the blocks of a tenant are looked at, and those that something must change in become
 * new blocks. The asker's thread looks, since reading disturbs nobody; the builder writes, since it
 * alone changes what the store consists of.
 *
 *      asker                            builder
 *      rewriting = …            ─────►  ends the merge on its way, begins no other
 *      everything is built      ◄─────  paused
 *      looks at a block
 *      part = the block         ─────►  a row group a turn, then one manifest edit
 *      the next block           ◄─────  part = NULL
 *
 * Invariants
 * 1. No merge of another kind runs meanwhile, so a block that was looked at is still the block that
 *    is rewritten, or retention has dropped it.
 * 2. Log segments that were written before are removed, not recycled, and none is recycled until
 *    the end: a recycled one holds bytes of its earlier turns behind its end.
 * 3. An old block leaves the disk with the last snapshot that reads it. The asker counts the files
 *    that are left, and says so. */
#include "store/trace/store_parts.h"

#include "base/log.h"
#include "base/stats.h"

#include <stdlib.h>

/* --- the builder's part --- */

static bool is_asked(const struct rewriting *w)
{
    return w && (!w->paused || w->part);
}

bool store_rewrite_waits(const struct store *s)
{
    return is_asked(s->rewriting) && !store_compact_io_rest(s);
}

bool store_rewrite_asked(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    bool asked = s->rewriting != NULL;
    pthread_mutex_unlock(&s->lock);
    return asked;
}

uint64_t store_rewrite_step(struct store *s)
{
    struct err e = {.code = E_OK};
    bool done = true;
    pthread_mutex_lock(&s->lock);
    struct rewriting *w = s->rewriting;
    bool waits = is_asked(w), pause = w && !w->paused;
    struct part *part = waits ? w->part : NULL;
    pthread_mutex_unlock(&s->lock);
    if (!waits)
        return UINT64_MAX;
    enum errc rc = pause ? store_compact_settle(s, &e)
                         : store_compact_rewrite(s, part, &w->class, 1, &done, &e);
    if (!done)
        return 0;
    pthread_mutex_lock(&s->lock);
    w->paused |= rc == E_OK;
    w->part = NULL;
    w->error = e;
    w->error.code = rc;
    w->answered = true;
    pthread_cond_broadcast(&s->built);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

/* --- the asker's --- */

/* Lets the builder work: on a part, or (NULL) to come to rest. */
static enum errc let_builder(struct store *s, struct part *part, struct err *e)
{
    pthread_mutex_lock(&s->lock);
    struct rewriting *w = s->rewriting;
    w->part = part;
    w->answered = false;
    pthread_cond_signal(&s->work);
    while (!w->answered) {
        if (s->config.threads) {
            pthread_cond_wait(&s->built, &s->lock);
        } else {
            pthread_mutex_unlock(&s->lock);
            (void)store_step(s);
            pthread_mutex_lock(&s->lock);
        }
    }
    if (e)
        *e = w->error;
    enum errc rc = w->error.code;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static enum errc begin(struct store *s, struct rewriting *w, struct err *e)
{
    pthread_mutex_lock(&s->lock);
    bool free = !s->rewriting && !s->rewriting_stopped;
    if (free)
        s->rewriting = w;
    pthread_mutex_unlock(&s->lock);
    return free ? E_OK : fail(e, E_UNAVAILABLE, "another one is under way, or the server stops");
}

static void end(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    s->rewriting = NULL;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
}

bool store_rewrite_stopped(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    bool stopped = s->rewriting_stopped;
    pthread_mutex_unlock(&s->lock);
    return stopped;
}

void store_stop_redacting(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    s->rewriting_stopped = true;
    pthread_cond_signal(&s->work); /* the builder need not rest any more */
    pthread_mutex_unlock(&s->lock);
}

/* One block. What is wrong with it alone is counted and said; E_OK then. */
static enum errc rewrite_part(struct store *s, const struct rewrite *r, struct part *p,
                              struct rewritten *out, struct err *e)
{
    bool touched = false;
    struct err why = {.code = E_OK};
    enum errc rc = r->look(r->arg, p->block, &touched, &why);
    if (rc == E_OK && touched && !r->look_only)
        rc = let_builder(s, p, &why);
    if (rc == E_OK && touched) {
        out->blocks++;
        r->touched(r->arg);
    }
    if (rc == E_OK)
        return E_OK;
    log_error("store", "%s is left as it is: %s", p->path, err_msg(&why));
    out->failed++;
    if (rc == E_CORRUPT || rc == E_NO_MEMORY)
        return E_OK;
    if (e)
        *e = why;
    return rc;
}

/* Every block of the tenant, the references given back one by one so that old files go early. */
static enum errc rewrite_parts(struct store *s, const struct rewrite *r, struct rewritten *out,
                               struct err *e)
{
    enum errc rc = E_OK;
    struct version *v = store_version(s);
    size_t n = 0;
    struct part **parts = xmalloc((v->part_n + 1) * sizeof(struct part *));
    for (size_t i = 0; i < v->part_n; i++)
        if (v->parts[i]->tenant == r->tenant)
            parts[n++] = part_ref(v->parts[i]);
    version_unref(v);
    for (size_t i = 0; i < n; i++) {
        if (rc == E_OK && store_rewrite_stopped(s))
            rc = fail(e, E_CANCELLED, "the server stops; %zu blocks were not looked at", n - i);
        if (rc == E_OK)
            rc = rewrite_part(s, r, parts[i], out, e);
        part_unref(parts[i]);
    }
    free(parts);
    return rc;
}

/* --- what is left --- */

struct leftovers {
    const struct version *v;
    uint64_t before; /* block ids of this call and later are no leftovers */
    uint64_t n;
};

static void count_leftover(void *arg, const char *name)
{
    struct leftovers *l = arg;
    struct str tenant;
    uint64_t id;
    if (!store_block_name(name, &id, &tenant) || id >= l->before)
        return;
    for (size_t i = 0; i < l->v->part_n; i++)
        if (l->v->parts[i]->id == id)
            return;
    l->n++;
}

static void count_file(void *arg, const char *name)
{
    (void)name;
    ++*(uint64_t *)arg;
}

/* What is gone must stay gone when the power fails now. */
static enum errc look_back(struct store *s, uint64_t before, struct rewritten *out, struct err *e)
{
    struct version *v = store_version(s);
    struct leftovers l = {.v = v, .before = before};
    char *damaged = store_path(s->dir, "damaged");
    enum errc rc = os_sync_dir(s->os, s->blocks_dir, e);
    if (rc == E_OK)
        rc = os_list(s->os, s->blocks_dir, count_leftover, &l, e);
    if (os_list(s->os, damaged, count_file, &out->set_aside, NULL) != E_OK)
        out->set_aside = 0; /* there is no such folder while nothing was ever damaged */
    out->held = l.n;
    free(damaged);
    version_unref(v);
    return rc;
}

/* --- the door --- */

static uint64_t ids_so_far(struct store *s)
{
    struct version *v = store_version(s);
    uint64_t next = v->part_n ? v->parts[v->part_n - 1]->id + 1 : 0;
    version_unref(v);
    return next;
}

static enum errc rewrite_paused(struct store *s, const struct rewrite *r, struct rewritten *out,
                                struct err *e)
{
    if (s->wal)
        wal_forget_begin(s->wal);
    enum errc rc = store_build_all(s, true, e);
    uint64_t before = ids_so_far(s);
    if (rc == E_OK)
        rc = rewrite_parts(s, r, out, e);
    enum errc forgot = s->wal ? wal_forget_end(s->wal, rc == E_OK ? e : NULL) : E_OK;
    rc = rc == E_OK ? forgot : rc;
    return rc == E_OK ? look_back(s, before, out, e) : rc;
}

enum errc store_rewrite(struct store *s, const struct rewrite *r, struct rewritten *out,
                        struct err *e)
{
    *out = (struct rewritten){0};
    if (r->look_only) {
        enum errc built = store_flush(s, e);
        return built == E_OK ? rewrite_parts(s, r, out, e) : built;
    }
    struct rewriting w = {.class.change = r->change};
    enum errc rc = begin(s, &w, e);
    if (rc != E_OK)
        return rc;
    rc = let_builder(s, NULL, e);
    if (rc == E_OK)
        rc = rewrite_paused(s, r, out, e);
    end(s);
    return rc;
}
