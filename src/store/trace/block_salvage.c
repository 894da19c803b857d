/* SPDX-License-Identifier: Apache-2.0 */
/* What can still be read of a damaged block.
 *
 * The trace index is not asked: row groups are gone through one after the other, and in each its
 * trace parts. A run is what can be read of one trace without a gap; only a trace larger than a row
 * group can have a gap inside. Parents are distances within the trace, so a run resolves those that
 * point into itself; a parent beyond a gap is lost with it. */
#include "store/trace/block_read.h"

#include <stdlib.h>

#define SALVAGE_BYTES_MAX (8 * GIB)  /* the spans of one trace */
#define SALVAGE_KEEP      (64 * MIB) /* spans before the memory of the earlier ones is used again */

struct salvage {
    struct block *b;
    struct reader *r;
    const struct shared *s;
    struct arena a; /* the spans of a run, and what they share with those before */
    struct span_maker maker;
    uint32_t group, part;
    block_saved *saved;
    void *arg;
    struct block_lost *lost;
    bool stop;
};

static void lose(struct salvage *x, uint64_t rows)
{
    const struct group *g = &x->b->groups[x->group];
    bool first = !x->lost->spans;
    x->lost->min_ns = first ? g->min_ns : min_u64(x->lost->min_ns, g->min_ns);
    x->lost->max_ns = first ? g->max_ns : max_u64(x->lost->max_ns, g->max_ns);
    x->lost->spans += rows;
}

/* Damage is what we are here for; only memory ends it. */
static void forgive(struct salvage *x)
{
    if (x->r->code == E_NO_MEMORY)
        x->stop = true;
    else
        x->r->code = E_OK;
}

static void next_part(struct salvage *x)
{
    if (++x->part == x->b->groups[x->group].parts) {
        x->group++;
        x->part = 0;
    }
}

/* The part where we are: true when its rows were added to the run. Moves on, past the whole group
 * when its directory cannot be read. */
static bool take_part(struct salvage *x, struct trace_read *t)
{
    struct rows *rows = rows_get(x->r, x->s, x->group);
    if (!rows) {
        forgive(x);
        lose(x, x->b->groups[x->group].rows);
        x->group++;
        x->part = 0;
        return false;
    }
    bool ok = trace_read_part(t, x->group, x->part);
    if (!ok) {
        forgive(x);
        lose(x, rows->trace_rows[x->part]);
    }
    next_part(x);
    return ok;
}

static void resolve(struct salvage *x, struct trace_read *t)
{
    for (uint32_t i = 0; i < t->n; i++) {
        if (t->parent[i] < PARENT_AT)
            continue;
        int64_t at = (int64_t)i - unzigzag(t->parent[i] - PARENT_AT);
        if (at >= 0 && at < t->n)
            memcpy(t->spans[i]->parent_id, t->spans[at]->span_id, 8);
        else
            x->lost->parents++;
    }
}

/* What spans share is made once, until it is time to use the memory again. */
static bool ready_maker(struct salvage *x)
{
    if (x->maker.a && x->a.used_bytes < SALVAGE_KEEP)
        return true;
    arena_reset(&x->a);
    x->maker = (struct span_maker){
        .a = &x->a,
        .lost_values = &x->lost->values,
        .origins = arena_calloc(&x->a, x->s->origin_count + (size_t)1, sizeof *x->maker.origins, 8),
        .strings = arena_calloc(&x->a, x->s->string_count + (size_t)1, sizeof *x->maker.strings,
                                8)};
    if (x->maker.origins && x->maker.strings)
        return true;
    reader_no_memory(x->r);
    forgive(x);
    return false;
}

static void take_run(struct salvage *x)
{
    bool more = ready_maker(x);
    struct trace_read t = {.r = x->r, .s = x->s, .maker = x->maker};
    while (more && !x->stop)
        more = take_part(x, &t) && x->part == 0 && x->group < x->b->group_count &&
               x->b->groups[x->group].continues;
    resolve(x, &t);
    if (t.n && !x->stop)
        x->stop = !x->saved(x->arg, t.spans, t.n);
}

/* A reader for each row group: what it decodes stays in memory until it is given back. */
static enum errc take_group(struct salvage *x, struct err *e)
{
    uint32_t group = x->group;
    x->r = reader_take(x->b, e);
    x->s = shared_read(x->r);
    if (!x->s) { /* no span can be read without it */
        forgive(x);
        for (; x->group < x->b->group_count; x->group++)
            lose(x, x->b->groups[x->group].rows);
    }
    while (x->s && !x->stop && x->group == group)
        take_run(x);
    return reader_give(x->r);
}

enum errc block_salvage(struct block *b, block_saved *saved, void *arg, struct block_lost *lost,
                        struct err *e)
{
    struct salvage x = {
        .b = b, .a = arena_init(SALVAGE_BYTES_MAX), .saved = saved, .arg = arg, .lost = lost};
    enum errc rc = E_OK;
    *lost = (struct block_lost){0};
    while (rc == E_OK && !x.stop && x.group < b->group_count)
        rc = take_group(&x, e);
    arena_fini(&x.a);
    return rc;
}

/* --- the index, made anew --- */

struct reindex {
    uint64_t *v; /* fingerprint << 32 | first part, of each chain */
    uint64_t n, most;
    uint8_t last[16]; /* trace of the part before */
};

/* Adds the chains that begin in the row group. Whether its first part continues the one before it
 * only the damaged tail says. That it does can be seen to be wrong by the ids; that it does not, by
 * the number of chains: a merged block may have two chains of a trace behind one another. */
static void reindex_group(struct reader *r, uint32_t no, struct reindex *x)
{
    const struct shared *s = shared_read(r);
    struct rows g;
    if (!s || !rows_open(r, s, no, &g))
        return;
    bool same = no && !memcmp(x->last, g.trace_ids, 16);
    if ((g.g->continues && !same) || x->n + g.g->parts - g.g->continues > x->most) {
        reader_bad(r, "the root");
        return;
    }
    for (uint32_t k = g.g->continues; k < g.g->parts; k++)
        x->v[x->n++] = block_index_entry(g.trace_ids + (size_t)k * 16, g.g->first_part + k);
    memcpy(x->last, g.trace_ids + (size_t)(g.g->parts - 1) * 16, 16);
}

static enum errc reindex(struct block *b, struct err *e)
{
    struct reindex x = {.most = b->meta.trace_count};
    enum errc rc = E_OK;
    x.v = xcalloc(x.most + 1, sizeof *x.v);
    for (uint32_t i = 0; !rc && i < b->group_count; i++) {
        struct reader *r = reader_take(b, e);
        reindex_group(r, i, &x);
        rc = reader_give(r);
    }
    if (!rc && x.n != x.most)
        rc = fail(e, E_CORRUPT, "%s: the root is damaged", b->path);
    if (!rc) {
        uint32_t *index = xcalloc(2 * x.n + 1, sizeof *index);
        qsort(x.v, x.n, sizeof *x.v, block_index_cmp);
        for (uint64_t i = 0; i < x.n; i++) {
            index[i] = (uint32_t)(x.v[i] >> 32);
            index[x.n + i] = (uint32_t)x.v[i];
        }
        block_set_index(b, index);
    }
    free(x.v);
    return rc;
}

enum errc block_open_mended(struct os *os, const char *path, struct block **out, struct err *e)
{
    struct block *b;
    enum errc rc = block_open_damaged(os, path, &b, e);
    if (rc)
        return rc;
    rc = reindex(b, e);
    if (rc)
        block_unref(b);
    else
        *out = b;
    return rc;
}
