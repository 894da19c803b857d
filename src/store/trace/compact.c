/* SPDX-License-Identifier: Apache-2.0 */
/* Compaction: blocks of one tenant that lie together in time become one, a row group at a step, in
 * the pauses of the builder.
 *
 * What is merged. A block belongs to the time window in which its newest span came (a sixteenth of
 * the retention, so that no span stays longer than that beyond its time), and to a tier by its
 * size: below compact_bytes, below an eighth of it, and so on. As soon as compact_fanin blocks of
 * one tier stand in one window they become one of the next tier. So a span is rewritten a few times
 * at most, and at full load once. In a window that has passed, whatever small blocks are left
 * become one when the store has nothing else to do.
 *
 * When. A step never runs while a memtable waits to be built, unless so many blocks wait to be
 * merged that questions would suffer. After a step the builder rests, so that merging takes no more
 * than compact_percent of a core; not with such a backlog.
 *
 * The I/O budget. What a step has read and written, counted where it happens (os_thread_io), is
 * spread over time: the next step begins when compact_io_bytes a second would have moved it. So
 * from the begin of any step on, no more than the rate and one step are moved, and time in which
 * nothing was merged earns nothing. It holds with a backlog as well: the disk is the log's first,
 * and a backlog is what a slow disk makes. Steps of rules and of redaction count like those of
 * merges; only a commit that is tried again does not wait. The rest is computed anew at each look,
 * so a reload acts on the one under way.
 *
 * The commit is one manifest edit: the new block is named and the old ones are given up, or
 * neither. When it fails it is unknown whether the edit reached the disk; the new file is kept and
 * the edit tried again. Whatever happened meanwhile to the old blocks is looked at first: when
 * retention has dropped one, the merge is given up.
 */
#include "store/trace/store_parts.h"

#include "base/log.h"
#include "base/os/process.h"
#include "base/stats.h"

#include <stdlib.h>

#define TIER_FACTOR        8u
#define TIERS              4u
#define WINDOW_MIN_NS      (3600 * NS_PER_S)
#define WINDOW_MAX_NS      (86400 * NS_PER_S)
#define COMPACT_INPUTS_MAX 16u
#define COMPACT_CHAINS_MAX (1u << 20) /* of the inputs together: 60 MiB of memory while merging */
#define COMPACT_META_MAX   (8 * MIB)  /* likewise what their row groups share, unpacked */
#define COMPACT_BACKLOG    64u        /* blocks; past it merging does not wait for the builder */
#define COMPACT_PAUSE_NS   (60 * NS_PER_S) /* after a failure */

struct compaction {
    struct block_merge *merge; /* NULL once it is written */
    struct block_builder *builder;
    struct part *in[COMPACT_INPUTS_MAX];
    size_t n;
    struct part *out; /* being written */
    struct part *outs[RULES_MAX];
    size_t out_n; /* written; a change of which nothing stays writes none */
    const struct rewrite_class *class;
    size_t class_n; /* classes to be written behind this one */
    struct str tenant;
};

/* --- choosing --- */

static bool merges(const struct store_config *c)
{
    return c->compact_fanin && c->compact_percent;
}

uint64_t store_window_ns(const struct store_config *c)
{
    uint64_t ns = c->retention_ns ? c->retention_ns / WINDOWS : WINDOW_MAX_NS;
    return max_u64(min_u64(ns, WINDOW_MAX_NS), WINDOW_MIN_NS);
}

/* 0: large enough to be left alone. */
static unsigned tier_of(const struct part *p, uint64_t compact_bytes)
{
    unsigned tier = 0;
    for (uint64_t most = compact_bytes; p->bytes < most && tier < TIERS; most /= TIER_FACTOR)
        tier++;
    return tier;
}

/* A block that may be merged. */
struct candidate {
    struct part *part;
    uint64_t window;
    unsigned tier;
};

static int by_place(const void *x, const void *y)
{
    const struct candidate *a = x, *b = y;
    if (a->part->tenant != b->part->tenant)
        return a->part->tenant < b->part->tenant ? -1 : 1;
    if (a->part->kept_ns != b->part->kept_ns)
        return a->part->kept_ns < b->part->kept_ns ? -1 : 1;
    if (a->window != b->window)
        return a->window < b->window ? -1 : 1;
    if (a->tier != b->tier)
        return a->tier > b->tier ? -1 : 1; /* the smallest first */
    if (a->part->end_ns != b->part->end_ns)
        return a->part->end_ns < b->part->end_ns ? -1 : 1;
    return a->part->id < b->part->id ? -1 : a->part->id > b->part->id;
}

static size_t list_candidates(const struct version *v, const struct store_config *c,
                              struct candidate *out)
{
    size_t n = 0;
    for (size_t i = 0; i < v->part_n; i++) {
        struct part *p = v->parts[i];
        unsigned tier = tier_of(p, c->compact_bytes);
        if (tier && !p->left_alone)
            out[n++] = (struct candidate){p, p->end_ns / store_window_ns(c), tier};
    }
    if (n)
        qsort(out, n, sizeof *out, by_place);
    return n;
}

/* How many of the candidates from v on one merge may take. */
static size_t within_limits(const struct candidate *v, size_t n)
{
    uint64_t chains = 0, meta = 0;
    size_t k = 0;
    for (; k < n && k < COMPACT_INPUTS_MAX; k++) {
        chains += block_meta(v[k].part->block)->trace_count;
        meta += block_shared_bytes(v[k].part->block);
        if (chains > COMPACT_CHAINS_MAX || meta > COMPACT_META_MAX)
            break;
    }
    return k;
}

/* The first blocks of a place that one merge may take: *at is how many stand before them, each too
 * much with the one behind it. 0: there are none. */
static size_t first_fitting(const struct candidate *v, size_t run, size_t least, size_t *at)
{
    size_t take;
    for (*at = 0; run - *at >= least; ++*at)
        if ((take = within_limits(v + *at, run - *at)) >= 2)
            return take;
    return 0;
}

static bool same_place(const struct candidate *a, const struct candidate *b, bool any_tier)
{
    return a->part->tenant == b->part->tenant && a->part->kept_ns == b->part->kept_ns &&
           a->window == b->window && (any_tier || a->tier == b->tier);
}

/* The first place with enough blocks: returns how many to take from *at on. */
static size_t choose_place(const struct candidate *v, size_t n, const struct store_config *c,
                           uint64_t now_ns, bool idle, size_t *at)
{
    size_t run, take, before;
    for (size_t i = 0; i < n; i += run) {
        bool passed = idle &&
                      (v[i].window + 1) * store_window_ns(c) + store_window_ns(c) / 4 < now_ns;
        for (run = 1; i + run < n && same_place(&v[i], &v[i + run], passed); run++)
            ;
        if ((take = first_fitting(v + i, run, passed ? 2 : c->compact_fanin, &before))) {
            *at = i + before;
            return take;
        }
    }
    return 0;
}

/* Blocks that stand together and only wait for their turn. */
static size_t backlog_of(const struct candidate *v, size_t n, const struct store_config *c)
{
    size_t run, before, sum = 0;
    for (size_t i = 0; i < n; i += run) {
        for (run = 1; i + run < n && same_place(&v[i], &v[i + run], false); run++)
            ;
        if (first_fitting(v + i, run, c->compact_fanin, &before))
            sum += run - before;
    }
    return sum;
}

static void set_backlog(struct store *s, size_t n)
{
    s->compact_backlog = n;
    s->backlog_said &= n > COMPACT_BACKLOG;
    stat_set(STAT_COMPACTION_BACKLOG, (int64_t)n);
}

/* Both the old and the new must fit under the disk cap while they are there together. */
static bool fits_disk(const struct store *s, const struct candidate *in, size_t n)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += in[i].part->bytes;
    return !room_lacks(s->room, ROOM_MERGE, bytes);
}

/* --- one merge --- */

static void compaction_free(struct compaction *k)
{
    block_merge_free(k->merge);
    block_builder_free(k->builder);
    for (size_t i = 0; i < k->n; i++)
        part_unref(k->in[i]);
    for (size_t i = 0; i < k->out_n; i++)
        part_unref(k->outs[i]);
    if (k->out)
        part_unref(k->out);
    free(k);
    process_trim_memory(); /* a merge takes as much as all else, and is rare */
}

void store_compact_abandon(struct store *s)
{
    struct compaction *k = s->compaction;
    if (!k)
        return;
    for (size_t i = 0; !k->merge && i < k->out_n; i++) /* the edit may have reached the disk */
        atomic_store(&k->outs[i]->dropped, false);
    compaction_free(k);
    s->compaction = NULL;
}

static struct part *new_part(struct store *s, uint32_t tenant, struct str name)
{
    struct part *p = xcalloc(1, sizeof *p);
    atomic_init(&p->refs, 1);
    p->os = s->os;
    p->tenant = tenant;
    p->id = s->next_block++;
    p->path = store_block_path(s, p->id, name);
    atomic_store(&p->dropped, true); /* until it is committed */
    return p;
}

static void say_failed(struct store *s, const char *what, const struct err *e)
{
    stat_add(STAT_COMPACTIONS_FAILED, 1);
    s->compact_at_ns = os_mono_ns(s->os) + COMPACT_PAUSE_NS;
    log_error("store", "%s: %s", what, err_msg(e));
}

/* An input cannot be read, or all are larger than a merge can hold: it is left as it is, and the
 * others go on without it. When all can be read, an input/output error was one of writing. */
static void leave_alone(struct compaction *k, enum errc rc)
{
    size_t left = 0;
    for (size_t i = 0; i < k->n; i++)
        if (block_verify(k->in[i]->block, NULL) != E_OK) {
            k->in[i]->left_alone = true;
            left++;
        }
    for (size_t i = 0; !left && rc != E_IO && i < k->n; i++)
        k->in[i]->left_alone = true;
}

static void give_up(struct store *s, enum errc rc, const struct err *e)
{
    struct compaction *k = s->compaction;
    say_failed(s, "blocks could not be merged", e);
    if (rc == E_CORRUPT || rc == E_NO_MEMORY || rc == E_IO)
        leave_alone(k, rc);
    compaction_free(k); /* with the file: no edit names it */
    s->compaction = NULL;
}

/* Begins to write the next class of the inputs, or all of them. */
static enum errc begin_out(struct store *s, struct compaction *k, struct err *e)
{
    struct block *blocks[COMPACT_INPUTS_MAX];
    const struct rewrite_class *c = k->class;
    k->out = new_part(s, k->in[0]->tenant, k->tenant);
    k->out->memtable = k->in[0]->memtable;
    k->out->kept_ns = c && c->kept_ns ? c->kept_ns : k->in[0]->kept_ns;
    for (size_t i = 0; i < k->n; i++) {
        blocks[i] = k->in[i]->block;
        k->out->end_ns = max_u64(k->out->end_ns, k->in[i]->end_ns);
        k->out->memtable = min_u64(k->out->memtable, k->in[i]->memtable);
    }
    return block_merge_begin(&k->merge, k->builder, room_os(s->room, ROOM_MERGE), k->out->path,
                             blocks, k->n, c ? &c->change : NULL, e);
}

static enum errc begin(struct store *s, struct part *const *in, size_t n,
                       const struct rewrite_class *class, size_t class_n, struct err *e)
{
    struct compaction *k = s->compaction = xcalloc(1, sizeof *k);
    k->tenant = catalog_tenant_name(s->catalog, in[0]->tenant);
    k->builder = block_builder_new();
    for (k->n = 0; k->n < n; k->n++)
        k->in[k->n] = part_ref(in[k->n]);
    k->class = class;
    k->class_n = class_n ? class_n - 1 : 0;
    return begin_out(s, k, e);
}

static bool choose(struct store *s, const struct store_config *c, enum errc *rc, struct err *e)
{
    struct version *v = store_version(s);
    struct candidate *list = xmalloc((v->part_n + 1) * sizeof *list);
    size_t at = 0, n = list_candidates(v, c, list);
    bool idle = !c->threads || s->build_attempts == s->attempts_maintained;
    size_t take = choose_place(list, n, c, os_now_ns(s->os), idle, &at);
    set_backlog(s, backlog_of(list, n, c));
    if (take && !fits_disk(s, list + at, take))
        take = 0;
    struct part *in[COMPACT_INPUTS_MAX];
    for (size_t i = 0; i < take; i++)
        in[i] = list[at + i].part;
    if (take)
        *rc = begin(s, in, take, NULL, 0, e);
    free(list);
    version_unref(v);
    return take > 0;
}

/* --- the commit --- */

static bool holds_inputs(const struct version *v, const struct compaction *k)
{
    size_t found = 0;
    for (size_t i = 0; i < v->part_n; i++)
        for (size_t j = 0; j < k->n; j++)
            found += v->parts[i] == k->in[j];
    return found == k->n;
}

/* The parts with what was written in the place of its inputs, by id. */
static void replace_parts(struct version *v, const struct compaction *k)
{
    size_t kept = 0, at;
    for (size_t i = 0; i < v->part_n; i++) {
        bool gone = false;
        for (size_t j = 0; j < k->n; j++)
            gone |= v->parts[i] == k->in[j];
        if (gone)
            part_unref(v->parts[i]); /* the old version still holds it */
        else
            v->parts[kept++] = v->parts[i];
    }
    v->part_n = kept;
    for (size_t i = 0; i < k->out_n; i++) {
        for (at = v->part_n++; at > 0 && v->parts[at - 1]->id > k->outs[i]->id; at--)
            v->parts[at] = v->parts[at - 1];
        v->parts[at] = part_ref(k->outs[i]);
    }
}

static void publish_merged(struct store *s, struct compaction *k)
{
    pthread_mutex_lock(&s->lock);
    struct version *old = s->version, *v = version_copy(old, k->out_n);
    replace_parts(v, k);
    s->version = v;
    pthread_mutex_unlock(&s->lock);
    int64_t bytes = 0, spans = 0, written = 0;
    for (size_t i = 0; i < k->out_n; i++) {
        atomic_store(&k->outs[i]->dropped, false);
        bytes += (int64_t)k->outs[i]->bytes;
        written += (int64_t)k->outs[i]->spans;
    }
    spans = written;
    for (size_t i = 0; i < k->n; i++) {
        part_remove(k->in[i]);
        bytes -= (int64_t)k->in[i]->bytes;
        spans -= (int64_t)k->in[i]->spans;
    }
    stat_add(STAT_BLOCKS, (int64_t)k->out_n - (int64_t)k->n);
    stat_add(STAT_BLOCK_BYTES, bytes);
    stat_add(STAT_BLOCK_SPANS, spans);
    stat_add(STAT_COMPACTIONS, 1);
    stat_add(STAT_COMPACTED_BLOCKS, (int64_t)k->n);
    stat_add(STAT_COMPACTED_SPANS, written);
    version_unref(old);
}

static enum errc commit(struct store *s, struct compaction *k, struct err *e)
{
    struct edit edit;
    edit_init(&edit);
    edit_tenant(&edit, k->tenant);
    for (size_t i = 0; i < k->out_n; i++)
        edit_block(&edit, k->outs[i]);
    for (size_t i = 0; i < k->n; i++)
        edit_number(&edit, EDIT_DROP, k->in[i]->id);
    edit_number(&edit, EDIT_NEXT_ID, s->next_block);
    enum errc rc = manifest_commit(s->manifest, &edit.buf, store_write_state, s, e);
    edit_fini(&edit);
    return rc;
}

/* The block is written: makes it official. A failure is tried again later. */
static enum errc finish(struct store *s, struct err *e)
{
    struct compaction *k = s->compaction;
    struct version *v = store_version(s);
    bool all = holds_inputs(v, k);
    version_unref(v);
    if (all && commit(s, k, e) != E_OK) {
        say_failed(s, "a merged block could not be made official", e);
        return e->code;
    }
    if (all)
        publish_merged(s, k);
    compaction_free(k);
    s->compaction = NULL;
    return E_OK;
}

static enum errc open_out(struct store *s, struct part *p, const struct block_meta *meta,
                          struct err *e)
{
    enum errc rc = os_sync_dir(s->os, s->blocks_dir, e);
    if (rc == E_OK)
        rc = block_open(s->os, p->path, &p->block, e);
    if (rc != E_OK)
        return rc;
    ensure(block_meta(p->block)->span_count == meta->span_count);
    p->spans = meta->span_count;
    p->bytes = meta->file_bytes;
    p->min_ns = meta->min_ns;
    p->max_ns = meta->max_ns;
    return E_OK;
}

/* The block is written; on to the next class, if there is one. */
static enum errc end_out(struct store *s, struct compaction *k, const struct block_meta *meta,
                         struct err *e)
{
    enum errc rc = E_OK;
    block_merge_free(k->merge);
    k->merge = NULL;
    if (meta->span_count) {
        rc = open_out(s, k->out, meta, e);
        k->outs[k->out_n++] = k->out;
    } else {
        part_unref(k->out); /* with its file */
    }
    k->out = NULL;
    if (rc == E_OK && k->class_n) {
        k->class_n--;
        k->class ++;
        rc = begin_out(s, k, e);
    }
    return rc;
}

static enum errc merge_step(struct store *s, struct err *e)
{
    struct compaction *k = s->compaction;
    struct block_meta meta;
    bool done = false;
    if (!k->merge)
        return finish(s, e);
    enum errc rc = block_merge_step(k->merge, &done, &meta, e);
    if (rc == E_OK && done)
        rc = end_out(s, k, &meta, e);
    if (rc != E_OK)
        give_up(s, rc, e);
    else if (!k->merge)
        rc = finish(s, e);
    return rc;
}

/* Begins what the rules ask for, or else a merge. */
static bool begin_next(struct store *s, const struct store_config *c, enum errc *rc, struct err *e)
{
    struct part *part;
    const struct rewrite_class *class;
    size_t class_n;
    switch (store_decide_step(s, c, &part, &class, &class_n)) {
    case DECIDE_REWRITE:
        *rc = begin(s, &part, 1, class, class_n, e);
        return true;
    case DECIDE_BUSY:
        return true;
    case DECIDE_NOTHING:
        break;
    }
    return merges(c) && choose(s, c, rc, e);
}

static bool take_step(struct store *s, const struct store_config *c)
{
    struct err e = {.code = E_OK};
    enum errc rc = E_OK;
    if (!s->compaction) {
        bool any = begin_next(s, c, &rc, &e);
        if (rc != E_OK)
            give_up(s, rc, &e);
        return any;
    }
    (void)merge_step(s, &e); /* was said, and is tried again */
    return true;
}

enum errc store_compact_settle(struct store *s, struct err *e)
{
    struct compaction *k = s->compaction;
    if (!k || !k->merge) {
        enum errc rc = k ? finish(s, e) : E_OK;
        if (rc == E_OK)
            store_decide_abandon(s);
        return rc;
    }
    compaction_free(k); /* with the file: no edit names it */
    s->compaction = NULL;
    store_decide_abandon(s);
    return E_OK;
}

enum errc store_compact_rewrite(struct store *s, struct part *p, const struct rewrite_class *class,
                                size_t class_n, bool *done, struct err *e)
{
    enum errc rc;
    if (s->compaction) {
        rc = merge_step(s, e);
    } else {
        rc = begin(s, &p, 1, class, class_n, e);
        if (rc != E_OK)
            give_up(s, rc, e);
    }
    *done = rc != E_OK || !s->compaction;
    return rc;
}

/* --- a step and its rest --- */

#define STEP_BYTES_MAX (UINT64_MAX / NS_PER_S / 2) /* 9 GB, so that times do not overflow */

uint64_t store_compact_io_rest(const struct store *s)
{
    uint64_t rate = s->config.compact_io_bytes;
    if (!rate || store_compact_commits(s)) /* a commit moves little, and all other edits wait */
        return 0;
    if (s->rewriting && (s->rewriting_stopped || !s->config.threads))
        return 0; /* the server waits for it to end; or the asker is the builder, and alone */
    uint64_t until_ns = s->step_begun_ns + s->step_bytes * NS_PER_S / rate;
    uint64_t now_ns = os_mono_ns(s->os);
    return until_ns > now_ns ? until_ns - now_ns : 0;
}

static void count_step(struct store *s, uint64_t begun_ns, const struct os_io *before)
{
    struct os_io now = os_thread_io();
    uint64_t read = now.read_bytes - before->read_bytes;
    uint64_t written = now.written_bytes - before->written_bytes;
    stat_add(STAT_COMPACTION_READ, (int64_t)read);
    stat_add(STAT_COMPACTION_WRITTEN, (int64_t)written);
    s->step_begun_ns = begun_ns;
    s->step_bytes = min_u64(read + written, STEP_BYTES_MAX);
}

static uint64_t cpu_rest(const struct store_config *c, uint64_t took_ns)
{
    uint64_t percent = min_u64(max_u64(c->compact_percent, 1), 100);
    return took_ns * (100 - percent) / percent;
}

/* Blocks gather while a merge on its way rests. Said once for each backlog: whoever set the budget
 * should hear what it costs. */
static void look_at_backlog(struct store *s, const struct store_config *c)
{
    if (!merges(c))
        return;
    struct version *v = store_version(s);
    struct candidate *list = xmalloc((v->part_n + 1) * sizeof *list);
    set_backlog(s, backlog_of(list, list_candidates(v, c, list), c));
    free(list);
    version_unref(v);
    if (s->compact_backlog <= COMPACT_BACKLOG || s->backlog_said)
        return;
    s->backlog_said = true;
    log_warn(
        "store",
        "%zu small blocks wait to be merged, and compact.io holds merging to %llu bytes a second: "
        "questions may get slower",
        s->compact_backlog, (unsigned long long)c->compact_io_bytes);
}

static uint64_t merge_turn(struct store *s, const struct store_config *c, bool builder_waits)
{
    uint64_t begun_ns = os_mono_ns(s->os);
    struct os_io before = os_thread_io();
    if (!merges(c))
        set_backlog(s, 0);
    if (!s->compaction && !c->longest_ns && !merges(c))
        return UINT64_MAX;
    if (begun_ns < s->compact_at_ns)
        return s->compact_at_ns - begun_ns;
    if (builder_waits && s->compact_backlog <= COMPACT_BACKLOG)
        return 0;
    bool any = take_step(s, c);
    count_step(s, begun_ns, &before);
    if (!any)
        return UINT64_MAX;
    uint64_t now_ns = os_mono_ns(s->os);
    bool late = s->compact_backlog > COMPACT_BACKLOG;
    uint64_t rest_ns = late ? 0 : cpu_rest(c, now_ns - begun_ns);
    s->compact_at_ns = max_u64(s->compact_at_ns, now_ns + rest_ns);
    return s->compact_at_ns - now_ns;
}

static uint64_t rewrite_turn(struct store *s)
{
    uint64_t begun_ns = os_mono_ns(s->os);
    struct os_io before = os_thread_io();
    uint64_t rest_ns = store_rewrite_step(s);
    count_step(s, begun_ns, &before);
    return rest_ns;
}

uint64_t store_compact_step(struct store *s, bool builder_waits)
{
    pthread_mutex_lock(&s->lock);
    struct store_config c = s->config;
    bool asked = s->rewriting != NULL;
    uint64_t io_rest_ns = store_compact_io_rest(s);
    pthread_mutex_unlock(&s->lock);
    if (io_rest_ns) {
        look_at_backlog(s, &c);
        return io_rest_ns;
    }
    return asked ? rewrite_turn(s) : merge_turn(s, &c, builder_waits);
}

bool store_compact_commits(const struct store *s)
{
    return s->compaction && !s->compaction->merge;
}
