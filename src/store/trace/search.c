/* SPDX-License-Identifier: Apache-2.0 */
/* A search of a snapshot: the best `limit` traces by the order that is asked for, exactly.
 *
 * Memtables are looked at first, then row groups of all blocks together, those first that may hold
 * the best: by their newest start, or their longest duration. (A block stands for all its groups
 * until its turn comes.) Once as many traces are found as are asked for, the worst of them says
 * what cannot matter any more; the first group below ends the search. (What counts are made of lies
 * anywhere: such a search looks at every group that may match.)
 *
 * How a trace gets its rank, when its spans lie in several groups, blocks and memtables:
 *
 *   1. Newest or slowest first, from the start: a trace ranks by its best matching span. Each group
 *      offers the best it has, and the better one is kept. A trace that was pushed out comes back
 * only with a better span than it was pushed out with.
 *   2. Behind a cursor the same trace must not be listed again for a lesser span, and a count is
 * the sum of what lies everywhere. So a trace is *settled* before it is offered: asked for in the
 *      memtables (a table made at the start, as large as they are) and in every block that may have
 *      it, which a probe of the resident index tells. Most traces lie in one place and cost no
 * read.
 *
 * Memory is by the limit, the number of row groups, and the memtables; not by traces or spans. */
#include "store/trace/best.h"
#include "store/trace/match.h"
#include "store/trace/store_parts.h"

#include <stdlib.h>

/* What a query is in the blocks it has looked at; past it, it is worked out anew. */
#define PLANS_BYTES_MAX (64 * MIB)
#define SETTLED_KEPT    1024u    /* ranks that are remembered, a power of two */
#define IN_MEMORY       SIZE_MAX /* in place of a block */

/* One trace in the memtables. */
struct tally {
    struct trace_hit hit;
    bool matched;
};

struct tallies {
    struct tally *v;
    uint32_t n, cap;
    uint32_t *slot; /* open addressing: number + 1 */
    uint32_t mask;
    uint64_t seed; /* of the slots: a sender chooses ids */
};

/* A block of the tenant. */
struct place {
    struct part *part;
    struct block_search *plan; /* NULL also when nothing of it can match */
    bool planned, read;
    bool damaged; /* something of it was left out; with no plan: all of it */
};

#define ALL_GROUPS UINT32_MAX

struct group_at {
    uint64_t key; /* no span of it is worth more */
    uint32_t place, group;
};

/* A heap: the best is the first. */
struct group_heap {
    struct group_at *v;
    size_t n, cap;
};

struct search {
    struct snap *snap;
    const struct trace_query *q;
    uint32_t tenant;
    struct best best;
    bool settles;
    struct tallies mem;
    struct trace_hit *settled; /* by a hash of their ids; value and id 0: none */
    struct place *places;
    size_t place_n;
    struct group_heap groups;
    struct arena plans, hits;
    uint64_t begun_ns, bytes_read;
    uint64_t met; /* reads that met damage */
    bool spent;   /* the budget */
    uint64_t cut; /* then: what is worth more was looked at */
    struct err *e;
};

static bool spent(struct search *s)
{
    const struct trace_query *q = s->q;
    if (q->max_bytes && s->bytes_read >= q->max_bytes)
        s->spent = true;
    if (q->max_time_ns && os_mono_ns(s->snap->store->os) - s->begun_ns >= q->max_time_ns)
        s->spent = true;
    return s->spent;
}

/* --- memtables --- */

static uint32_t tally_slot(const struct tallies *t, const uint8_t id[16])
{
    uint32_t at = (uint32_t)hash64(id, 16, t->seed) & t->mask;
    while (t->slot[at] && memcmp(t->v[t->slot[at] - 1].hit.trace_id, id, 16) != 0)
        at = (at + 1) & t->mask;
    return at;
}

static void tallies_grow(struct tallies *t)
{
    t->cap = t->cap ? 2 * t->cap : 1024;
    t->v = xrealloc(t->v, t->cap * sizeof *t->v);
    free(t->slot);
    t->slot = xcalloc(2 * (size_t)t->cap, sizeof *t->slot);
    t->mask = 2 * t->cap - 1;
    for (uint32_t i = 0; i < t->n; i++)
        t->slot[tally_slot(t, t->v[i].hit.trace_id)] = i + 1;
}

static const struct tally *tally_find(const struct tallies *t, const uint8_t id[16])
{
    uint32_t at = t->cap ? t->slot[tally_slot(t, id)] : 0;
    return at ? &t->v[at - 1] : NULL;
}

static void tally_add(struct tallies *t, enum query_order o, const struct trace_hit *hit,
                      bool matched)
{
    if (t->n == t->cap)
        tallies_grow(t);
    uint32_t at = tally_slot(t, hit->trace_id);
    if (!t->slot[at]) {
        t->slot[at] = t->n + 1;
        t->v[t->n++] = (struct tally){*hit, matched};
        return;
    }
    struct tally *have = &t->v[t->slot[at] - 1];
    trace_hit_merge(o, &have->hit, hit);
    have->matched |= matched;
}

/* What one span is worth. */
static uint64_t record_value(enum query_order o, const struct span_rec *s)
{
    switch (o) {
    case ORDER_SLOWEST:
        return s->end_ns > s->start_ns ? s->end_ns - s->start_ns : 0;
    case ORDER_MOST_SPANS:
        return 1;
    case ORDER_MOST_ERRORS:
        return s->status == STATUS_ERROR;
    default:
        return s->start_ns;
    }
}

static struct trace_hit record_hit(uint64_t value, const struct span_rec *s)
{
    struct trace_hit hit = {.value = value, .newest_ns = s->start_ns};
    memcpy(hit.trace_id, s->trace_id, 16);
    return hit;
}

static void tally_batch(struct search *s, const struct batch *b)
{
    const struct trace_query *q = s->q;
    struct match match;
    bool may = match_begin(&match, q, b), counts = order_counts(q->order);
    for (uint32_t i = 0; (may || counts) && i < b->head->span_count; i++) {
        const struct span_rec *span = &b->spans[i];
        bool matched = may && match_next(&match, span);
        if (!matched && !counts)
            continue;
        struct trace_hit hit = record_hit(record_value(q->order, span), span);
        tally_add(&s->mem, q->order, &hit, matched);
    }
}

static void search_batch(struct search *s, const struct batch *b)
{
    const struct trace_query *q = s->q;
    struct match match;
    uint64_t floor = best_floor(&s->best);
    if ((q->order == ORDER_NEWEST && b->head->max_ns < floor) || !match_begin(&match, q, b))
        return;
    for (uint32_t i = 0; i < b->head->span_count; i++) {
        const struct span_rec *span = &b->spans[i];
        uint64_t value = record_value(q->order, span);
        if (value < floor || !match_next(&match, span))
            continue;
        struct trace_hit hit = record_hit(value, span);
        best_add(&s->best, &hit);
        floor = best_floor(&s->best);
    }
}

/* Newest first. */
static void search_memtables(struct search *s)
{
    const struct version *v = s->snap->version;
    for (size_t m = 0; m < v->mem_n; m++)
        for (uint32_t i = snap_mem_count(s->snap, m); i > 0; i--) {
            const struct mem_entry *entry = memtable_at(v->mem[m], i - 1);
            if (entry->tenant != s->tenant)
                continue;
            if (spent(s)) {
                s->cut = UINT64_MAX;
                return;
            }
            if (s->settles)
                tally_batch(s, entry->batch);
            else
                search_batch(s, entry->batch);
        }
}

/* --- damage --- */

/* How a read of the block ended. The search goes on without what cannot be read, and says so; any
 * other error ends it. */
static enum errc without(struct search *s, size_t place, enum errc rc, const struct err *why)
{
    if (err_is_damage(rc)) {
        part_damaged(s->places[place].part, why);
        s->places[place].damaged = true;
        s->met++;
        return E_OK;
    }
    return rc ? fail(s->e, rc, "%s", err_msg(why)) : E_OK;
}

/* --- settling --- */

/* The query in the numbers of the block; *plan is NULL when nothing of it can match. */
static enum errc plan_for(struct search *s, size_t place, struct block_search **plan)
{
    struct place *p = &s->places[place];
    struct err why = {0};
    enum errc rc = E_OK;
    if (!p->planned && s->plans.used_bytes > PLANS_BYTES_MAX) {
        arena_reset(&s->plans);
        for (size_t i = 0; i < s->place_n; i++)
            s->places[i].planned = false;
    }
    if (!p->planned) {
        rc = block_search_open(p->part->block, s->q, &s->plans, &s->bytes_read, &p->plan, &why);
        p->plan = rc ? NULL : p->plan;
        rc = without(s, place, rc, &why);
    }
    p->planned = rc == E_OK;
    *plan = p->plan;
    return rc;
}

/* What one block has of the trace. */
static enum errc ask_block(struct search *s, size_t place, const uint8_t id[16], bool *found,
                           struct trace_hit *out)
{
    const struct place *p = &s->places[place];
    struct block_search *plan = NULL;
    struct err why = {0};
    bool counts = order_counts(s->q->order);
    enum errc rc = counts ? E_OK : plan_for(s, place, &plan);
    *found = false;
    if (rc || (!counts && !plan)) {
        s->met += p->damaged;
        return rc;
    }
    if (counts)
        rc = block_count_trace(p->part->block, s->q->order, id, &s->bytes_read, out, &why);
    else
        rc = block_search_trace(plan, id, found, out, &why);
    *found = !rc && (counts || *found);
    return without(s, place, rc, &why);
}

/* The rank by all that the snapshot has of a trace that `from` has offered. */
static enum errc settle(struct search *s, size_t from, const struct block_hit *h,
                        struct trace_hit *out)
{
    const uint8_t *id = h->hit.trace_id;
    const struct tally *mem = from == IN_MEMORY ? NULL : tally_find(&s->mem, id);
    struct trace_hit part;
    bool found;
    enum errc rc = E_OK;
    *out = h->hit;
    if (!h->whole && !(rc = ask_block(s, from, id, &found, &part)) && found)
        *out = part;
    if (mem)
        trace_hit_merge(s->q->order, out, &mem->hit);
    for (size_t i = 0; rc == E_OK && i < s->place_n; i++) {
        if (i == from || !block_may_have(s->places[i].part->block, id))
            continue;
        if (spent(s))
            break;
        rc = ask_block(s, i, id, &found, &part);
        if (rc == E_OK && found)
            trace_hit_merge(s->q->order, out, &part);
    }
    return rc;
}

static bool is_wanted(const struct search *s, const struct trace_hit *hit)
{
    return (!s->q->after || trace_hit_before(s->q->after, hit)) &&
           (s->q->order != ORDER_MOST_ERRORS || hit->value);
}

/* A trace with a matching span: into the answer if its rank is good enough. */
static enum errc offer(struct search *s, size_t from, const struct block_hit *h)
{
    struct trace_hit hit = h->hit;
    if (s->settles) {
        uint32_t at = (uint32_t)hash64(hit.trace_id, 16, 3) & (SETTLED_KEPT - 1);
        struct trace_hit *known = &s->settled[at];
        if (best_holds(&s->best, hit.trace_id))
            return E_OK;
        /* Of spans the best decides: what it is worth here, it is worth at least. */
        if (!order_counts(s->q->order) && (!is_wanted(s, &hit) || best_is_idle(&s->best, &hit)))
            return E_OK;
        if (memcmp(known->trace_id, hit.trace_id, 16) != 0) {
            uint64_t met = s->met;
            enum errc rc = settle(s, from, h, &hit);
            if (rc || s->spent)
                return rc;
            /* Who does not know its rank cannot tell whether it was listed before the cursor. */
            if (s->q->after && s->met != met)
                return E_OK;
            *known = hit;
        }
        hit = *known;
    }
    if (is_wanted(s, &hit))
        best_add(&s->best, &hit);
    return E_OK;
}

static enum errc offer_memtables(struct search *s)
{
    enum errc rc = E_OK;
    for (uint32_t i = 0; i < s->mem.n && rc == E_OK; i++) {
        const struct tally *t = &s->mem.v[i];
        if (t->matched)
            rc = offer(s, IN_MEMORY, &(struct block_hit){t->hit, true});
        if (spent(s)) {
            s->cut = UINT64_MAX;
            break;
        }
    }
    return rc;
}

/* --- blocks --- */

static int by_newest(const void *a, const void *b)
{
    const struct part *x = ((const struct place *)a)->part, *y = ((const struct place *)b)->part;
    if (x->max_ns != y->max_ns)
        return x->max_ns > y->max_ns ? -1 : 1;
    return x->id > y->id ? -1 : x->id < y->id;
}

static bool group_before(const struct group_at *x, const struct group_at *y)
{
    if (x->key != y->key)
        return x->key > y->key;
    return x->place != y->place ? x->place < y->place : x->group < y->group;
}

static void group_push(struct group_heap *h, struct group_at g)
{
    if (h->n == h->cap) {
        h->cap = h->cap ? 2 * h->cap : 256;
        h->v = xrealloc(h->v, h->cap * sizeof *h->v);
    }
    size_t at = h->n++;
    for (; at && group_before(&g, &h->v[(at - 1) / 2]); at = (at - 1) / 2)
        h->v[at] = h->v[(at - 1) / 2];
    h->v[at] = g;
}

static struct group_at group_pop(struct group_heap *h)
{
    struct group_at best = h->v[0], last = h->v[--h->n];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < h->n; at = child) {
        child += child + 1 < h->n && group_before(&h->v[child + 1], &h->v[child]);
        if (!group_before(&h->v[child], &last))
            break;
        h->v[at] = h->v[child];
    }
    h->v[at] = last;
    return best;
}

static bool in_window(const struct trace_query *q, uint64_t min_ns, uint64_t max_ns)
{
    return min_ns <= q->start_max_ns && max_ns >= q->start_min_ns;
}

/* May the group, or the block, have an answer, and worth how much at most? */
static bool group_key(const struct trace_query *q, const struct block_bounds *g, uint64_t *key)
{
    if (!in_window(q, g->min_ns, g->max_ns) || g->max_duration_ns < q->duration_min_ns)
        return false;
    *key = min_u64(g->max_ns, q->start_max_ns);
    if (q->order == ORDER_SLOWEST)
        *key = q->duration_max_ns ? min_u64(g->max_duration_ns, q->duration_max_ns)
                                  : g->max_duration_ns;
    if (order_counts(q->order) || !q->after)
        return true;
    *key = min_u64(*key, q->after->value);
    return q->order != ORDER_NEWEST || g->min_ns <= q->after->value;
}

/* Every block of the tenant, and in the heap those that may match. */
static void find_blocks(struct search *s, struct trace_hits *out)
{
    const struct version *v = s->snap->version;
    s->places = xcalloc(v->part_n + 1, sizeof *s->places);
    for (size_t i = 0; i < v->part_n; i++)
        if (v->parts[i]->tenant == s->tenant)
            s->places[s->place_n++].part = v->parts[i];
    qsort(s->places, s->place_n, sizeof *s->places, by_newest);
    for (size_t i = 0; i < s->place_n; i++) {
        const struct part *p = s->places[i].part;
        struct block_bounds bounds = block_bounds(p->block);
        struct group_at all = {.place = (uint32_t)i, .group = ALL_GROUPS};
        out->blocks += in_window(s->q, p->min_ns, p->max_ns);
        if (group_key(s->q, &bounds, &all.key))
            group_push(&s->groups, all);
    }
}

/* The turn of a block has come: its row groups take its place. */
static void push_groups(struct search *s, uint32_t place)
{
    const struct block *b = s->places[place].part->block;
    uint32_t n = block_may_match(b, s->q) ? block_group_count(b) : 0;
    for (uint32_t k = 0; k < n; k++) {
        struct block_bounds bounds = block_group_bounds(b, k);
        struct group_at g = {.place = place, .group = k};
        if (group_key(s->q, &bounds, &g.key))
            group_push(&s->groups, g);
    }
}

static enum errc search_group(struct search *s, const struct group_at *g)
{
    struct block_search *plan;
    struct block_hit *hits;
    struct err why = {0};
    uint32_t n = 0;
    enum errc rc = plan_for(s, g->place, &plan);
    if (rc || !plan)
        return rc;
    s->places[g->place].read = true;
    arena_reset(&s->hits);
    uint64_t floor = order_counts(s->q->order) ? 0 : best_floor(&s->best);
    rc = block_search_group(plan, g->group, floor, &s->hits, &hits, &n, &why);
    n = rc ? 0 : n;
    rc = without(s, g->place, rc, &why);
    for (uint32_t i = 0; rc == E_OK && i < n && !s->spent; i++)
        rc = offer(s, g->place, &hits[i]);
    return rc;
}

static enum errc search_groups(struct search *s)
{
    bool counts = order_counts(s->q->order);
    enum errc rc = E_OK;
    while (s->groups.n && rc == E_OK && !s->spent) {
        struct group_at g = group_pop(&s->groups);
        if (!counts && g.key < best_floor(&s->best))
            break;
        if (g.group == ALL_GROUPS)
            push_groups(s, g.place);
        else if (!spent(s))
            rc = search_group(s, &g);
        if (s->spent)
            s->cut = g.key;
    }
    return rc;
}

/* --- the answer --- */

/* One more than was asked for is kept, to know whether there are more. */
static void answer(struct search *s, struct trace_hits *out)
{
    const struct trace_query *q = s->q;
    bool counts = order_counts(q->order);
    best_sort(&s->best);
    out->v = s->best.heap;
    out->n = s->best.n;
    out->complete = !s->spent;
    if (s->spent && !counts) {
        for (out->n = 0; out->n < s->best.n && out->v[out->n].value > s->cut;)
            out->n++;
        out->complete = out->n > q->limit;
    }
    out->more = out->n > q->limit;
    out->n = out->more ? q->limit : out->n;
    if (out->complete && out->more)
        out->next = out->v[out->n - 1];
    if (!out->complete) {
        out->looked_above = s->cut;
        out->next = (struct trace_hit){.value = s->cut, .newest_ns = UINT64_MAX};
        /* Of counts nobody knows which is next; and no place that is where it was. */
        out->more = !counts && (!q->after || trace_hit_before(q->after, &out->next));
    }
    for (size_t i = 0; i < s->place_n; i++) {
        out->blocks_read += s->places[i].read;
        out->damaged += s->places[i].damaged;
    }
    out->bytes_read = s->bytes_read;
}

enum errc snap_search(struct snap *snap, const struct trace_query *q, struct arena *a,
                      struct trace_hits *out, struct err *e)
{
    struct search s = {.snap = snap, .q = q, .e = e};
    *out = (struct trace_hits){.complete = true};
    if (q->tag_count > QUERY_TAGS_MAX || q->limit > QUERY_LIMIT_MAX)
        return fail(e, E_INVALID, "at most %u tags and %u traces", QUERY_TAGS_MAX, QUERY_LIMIT_MAX);
    s.tenant = catalog_find_tenant(snap->store->catalog, q->tenant);
    if (s.tenant == CATALOG_NONE || !q->limit)
        return E_OK;
    s.settled = ARENA_ARRAY(a, struct trace_hit, SETTLED_KEPT);
    if (!best_init(&s.best, q->limit + 1, a))
        return fail(e, E_NO_MEMORY,
                    "no memory for %u traces: all questions together may take a part of "
                    "--max-memory",
                    q->limit);
    s.settles = q->after || order_counts(q->order);
    s.plans = arena_init(GIB);
    s.hits = arena_init(GIB);
    s.begun_ns = os_mono_ns(snap->store->os);
    os_random(snap->store->os, &s.mem.seed, sizeof s.mem.seed);
    find_blocks(&s, out);
    search_memtables(&s);
    enum errc rc = s.spent ? E_OK : offer_memtables(&s);
    if (rc == E_OK && !s.spent)
        rc = search_groups(&s);
    if (rc == E_OK)
        answer(&s, out);
    arena_fini(&s.plans);
    arena_fini(&s.hits);
    free(s.places);
    free(s.groups.v);
    free(s.mem.v);
    free(s.mem.slot);
    return rc;
}
