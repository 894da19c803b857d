/* SPDX-License-Identifier: Apache-2.0 */
#include "store/trace/deps.h"

#include "base/stats.h"

#include <stdlib.h>

/* --- rows --- */

static void list_room(void *items, size_t *cap, size_t n, size_t item_bytes)
{
    void **array = items;
    if (n < *cap)
        return;
    *cap = *cap ? 2 * *cap : 64;
    *array = xrealloc(*array, *cap * item_bytes);
}

void dep_list_add(struct dep_list *l, struct dep_row row)
{
    list_room(&l->v, &l->cap, l->n, sizeof *l->v);
    l->v[l->n++] = row;
}

void dep_list_fini(struct dep_list *l)
{
    free(l->v);
    *l = (struct dep_list){0};
}

#define ORDER(x, y)                    \
    do {                               \
        if ((x) != (y))                \
            return (x) < (y) ? -1 : 1; \
    } while (0)

static int row_cmp(const void *a, const void *b)
{
    const struct dep_row *x = a, *y = b;
    ORDER(x->minute, y->minute);
    ORDER(x->width, y->width);
    ORDER(x->parent, y->parent);
    ORDER(x->child, y->child);
    return 0;
}

void dep_list_pack(struct dep_list *l)
{
    size_t kept = 0;
    if (l->n)
        qsort(l->v, l->n, sizeof *l->v, row_cmp);
    for (size_t i = 0; i < l->n; i++) {
        if (kept && row_cmp(&l->v[kept - 1], &l->v[i]) == 0)
            l->v[kept - 1].calls += l->v[i].calls;
        else
            l->v[kept++] = l->v[i];
    }
    l->n = kept;
}

static struct deps *deps_alloc(size_t n, uint32_t now_minute)
{
    struct deps *d = xmalloc(sizeof *d + n * sizeof d->rows[0]);
    atomic_init(&d->refs, 1);
    d->n = 0;
    d->gathered_hour = now_minute / 60;
    return d;
}

static struct dep_row gather(struct dep_row row, uint32_t now_minute)
{
    uint32_t age = now_minute > row.minute ? now_minute - row.minute : 0;
    uint32_t width = age > DEPS_HOUR_AGE ? 1440 : age > DEPS_MINUTE_AGE ? 60 : 1;
    if (width > row.width) {
        row.minute -= row.minute % width;
        row.width = width;
    }
    return row;
}

/* All rows again, gathered: once an hour. */
static struct deps *deps_gather(const struct deps *old, const struct dep_list *more,
                                uint32_t now_minute)
{
    struct dep_list all = {0};
    for (size_t i = 0; old && i < old->n; i++)
        dep_list_add(&all, gather(old->rows[i], now_minute));
    for (size_t i = 0; i < more->n; i++)
        dep_list_add(&all, gather(more->v[i], now_minute));
    dep_list_pack(&all);
    size_t drop = all.n > DEPS_ROWS_MAX ? all.n - DEPS_ROWS_MAX : 0;
    stat_add(STAT_DEPENDENCY_ROWS_DROPPED, (int64_t)drop);
    struct deps *d = deps_alloc(all.n - drop, now_minute);
    d->n = all.n - drop;
    if (d->n)
        memcpy(d->rows, all.v + drop, d->n * sizeof d->rows[0]);
    dep_list_fini(&all);
    return d;
}

struct deps *deps_merge(const struct deps *old, struct dep_list *more, uint32_t now_minute)
{
    dep_list_pack(more);
    if (!old || old->gathered_hour != now_minute / 60 || old->n + more->n > DEPS_ROWS_MAX)
        return deps_gather(old, more, now_minute);
    struct deps *d = deps_alloc(old->n + more->n, now_minute);
    size_t i = 0, k = 0;
    while (i < old->n || k < more->n) {
        int order = i == old->n ? 1 : k == more->n ? -1 : row_cmp(&old->rows[i], &more->v[k]);
        d->rows[d->n] = order <= 0 ? old->rows[i] : more->v[k];
        if (order == 0)
            d->rows[d->n].calls += more->v[k].calls;
        i += order <= 0;
        k += order >= 0;
        d->n++;
    }
    return d;
}

struct deps *deps_ref(struct deps *d)
{
    atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
    return d;
}

void deps_unref(struct deps *d)
{
    if (d && atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) == 1)
        free(d);
}

/* --- orphans --- */

void orphan_list_add(struct orphan_list *l, struct orphan o)
{
    list_room(&l->v, &l->cap, l->n, sizeof *l->v);
    l->v[l->n++] = o;
}

void orphan_list_fini(struct orphan_list *l)
{
    free(l->v);
    *l = (struct orphan_list){0};
}

void print_list_add(struct print_list *l, uint64_t print)
{
    list_room(&l->v, &l->cap, l->n, sizeof *l->v);
    l->v[l->n++] = print;
}

void print_list_fini(struct print_list *l)
{
    free(l->v);
    *l = (struct print_list){0};
}

static int print_cmp(const void *a, const void *b)
{
    ORDER(*(const uint64_t *)a, *(const uint64_t *)b);
    return 0;
}

static int orphan_cmp(const void *a, const void *b)
{
    const struct orphan *x = a, *y = b;
    ORDER(x->print, y->print);
    ORDER(x->minute, y->minute);
    ORDER(x->service, y->service);
    return 0;
}

static int noted_cmp(const void *a, const void *b)
{
    ORDER(*(const uint32_t *)a, *(const uint32_t *)b);
    return 0;
}

/* Drops those noted longest ago until ORPHANS_MAX are left. */
static void orphans_cut(struct orphans *o)
{
    if (o->n <= ORPHANS_MAX)
        return;
    size_t drop = o->n - ORPHANS_MAX, kept = 0;
    uint32_t *noted = xmalloc(o->n * sizeof *noted);
    for (size_t i = 0; i < o->n; i++)
        noted[i] = o->v[i].noted;
    qsort(noted, o->n, sizeof *noted, noted_cmp);
    uint32_t last = noted[drop - 1]; /* all before this minute go, and as many of it as needed */
    size_t of_last = 0;
    for (size_t i = drop; i > 0 && noted[i - 1] == last; i--)
        of_last++;
    free(noted);
    for (size_t i = 0; i < o->n; i++) {
        bool go = o->v[i].noted < last || (o->v[i].noted == last && of_last && of_last--);
        if (!go)
            o->v[kept++] = o->v[i];
    }
    o->n = kept;
    stat_add(STAT_ORPHANS_GIVEN_UP, (int64_t)drop);
}

struct orphans *orphans_merge(const struct orphans *old, struct print_list *settled,
                              struct orphan_list *more, uint32_t arrived_minute)
{
    size_t old_n = old ? old->n : 0, i = 0, k = 0, s = 0, given_up = 0;
    struct orphans *o = xmalloc(sizeof *o + (old_n + more->n) * sizeof o->v[0]);
    atomic_init(&o->refs, 1);
    o->n = 0;
    if (settled->n)
        qsort(settled->v, settled->n, sizeof *settled->v, print_cmp);
    if (more->n)
        qsort(more->v, more->n, sizeof *more->v, orphan_cmp);
    while (i < old_n || k < more->n) {
        if (i == old_n || (k < more->n && orphan_cmp(&more->v[k], &old->v[i]) < 0)) {
            o->v[o->n++] = more->v[k++];
            continue;
        }
        const struct orphan *x = &old->v[i++];
        while (s < settled->n && settled->v[s] < x->print)
            s++;
        if (s < settled->n && settled->v[s] == x->print)
            continue;
        if (arrived_minute > x->noted && arrived_minute - x->noted > ORPHAN_MINUTES)
            given_up++;
        else
            o->v[o->n++] = *x;
    }
    stat_add(STAT_ORPHANS_GIVEN_UP, (int64_t)given_up);
    orphans_cut(o);
    return o;
}

struct orphans *orphans_ref(struct orphans *o)
{
    atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
    return o;
}

void orphans_unref(struct orphans *o)
{
    if (o && atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) == 1)
        free(o);
}

/* --- span index --- */

/* Prints and services apart: who asks mostly asks in vain, and reads prints only. */
struct span_index {
    _Atomic uint32_t refs;
    size_t mask;
    uint64_t seed;     /* of the slots: a sender can choose prints */
    uint32_t *service; /* of each slot */
    uint64_t print[];  /* 0: empty */
};

static size_t index_slot(const struct span_index *ix, uint64_t print)
{
    size_t at = (size_t)hash_u64(print, ix->seed) & ix->mask;
    while (ix->print[at] && ix->print[at] != print)
        at = (at + 1) & ix->mask;
    return at;
}

struct span_index *span_index_new(struct os *os, const struct memtable *m, uint32_t count)
{
    size_t spans = 0, slots = 64;
    for (uint32_t i = 0; i < count; i++)
        spans += memtable_at(m, i)->batch->head->span_count;
    while (slots < spans + spans / 4)
        slots *= 2;
    struct span_index *ix = xmalloc(sizeof *ix +
                                    slots * (sizeof ix->print[0] + sizeof ix->service[0]));
    *ix = (struct span_index){.mask = slots - 1, .service = (uint32_t *)(ix->print + slots)};
    memset(ix->print, 0, slots * sizeof ix->print[0]);
    os_random(os, &ix->seed, sizeof ix->seed);
    atomic_init(&ix->refs, 1);
    for (uint32_t i = 0; i < count; i++) {
        const struct mem_entry *entry = memtable_at(m, i);
        const struct batch *b = entry->batch;
        uint64_t seed = span_print_seed(b->tenant);
        for (uint32_t k = 0; k < b->head->span_count; k++) {
            const struct span_rec *s = &b->spans[k];
            uint64_t print = span_print(seed, s->trace_id, s->span_id);
            size_t at = index_slot(ix, print);
            if (ix->print[at]) /* of several spans with one id the first counts */
                continue;
            ix->print[at] = print;
            ix->service[at] = entry->services[s->group];
        }
    }
    return ix;
}

bool span_index_find(const struct span_index *ix, uint64_t print, uint32_t *service)
{
    size_t at = index_slot(ix, print);
    if (!ix->print[at])
        return false;
    *service = ix->service[at];
    return true;
}

struct span_index *span_index_ref(struct span_index *ix)
{
    atomic_fetch_add_explicit(&ix->refs, 1, memory_order_relaxed);
    return ix;
}

void span_index_unref(struct span_index *ix)
{
    if (ix && atomic_fetch_sub_explicit(&ix->refs, 1, memory_order_acq_rel) == 1)
        free(ix);
}
