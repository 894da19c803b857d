/* SPDX-License-Identifier: Apache-2.0 */
/* Which attribute keys there are, and which values a key has, with how often.
 *
 * Memtables are walked whole, then blocks from the newest to the oldest until the time is up.
 *
 * Counts are held for a bounded number of texts. When there are more, the rarer half is forgotten:
 * the most that any forgotten text may have occurred is `missed`, and a text that comes (again)
 * later starts with that much doubt. So at any time
 *
 *   1. a text that is held occurred count to count + its missed times,
 *   2. a text that is not held occurred at most `missed` times,
 *
 * and as long as nothing was forgotten every count is exact. */
#include "store/trace/discover.h"

#include "store/trace/store_parts.h"

#include <stdlib.h>

#define PLACES (TAG_LINK + 1)

/* --- counting --- */

bool discover_wants(const struct discovery *d, struct str key, enum tag_place place)
{
    return discover_in(d->q, place) &&
           (d->values ? str_eq(key, d->key) : str_starts(key, d->q->prefix));
}

static uint64_t most_of(const struct discover_count *c)
{
    return c->count + c->missed;
}

/* A text and its count, as they are sorted. */
struct ranked {
    const struct textmap_entry *text;
    const struct discover_count *count;
};

static int by_most(const void *x, const void *y)
{
    const struct ranked *a = x, *b = y;
    uint64_t m = most_of(a->count), n = most_of(b->count);
    if (m != n)
        return m > n ? -1 : 1;
    if (a->count->missed != b->count->missed)
        return a->count->missed < b->count->missed ? -1 : 1;
    int order = str_cmp(a->text->text, b->text->text);
    return order ? order : (int)a->text->tag - (int)b->text->tag;
}

static struct ranked *ranking(const struct discovery *d)
{
    struct ranked *v = xcalloc((size_t)d->texts.n + 1, sizeof *v);
    for (uint32_t i = 0; i < d->texts.n; i++)
        v[i] = (struct ranked){&d->texts.v[i], &d->counts[i]};
    if (d->texts.n)
        qsort(v, d->texts.n, sizeof *v, by_most);
    return v;
}

static void forget_the_rarer_half(struct discovery *d)
{
    uint32_t keep = 0;
    struct ranked *v = ranking(d);
    struct discover_count *counts = xcalloc(DISCOVER_TEXTS_MAX, sizeof *counts);
    struct textmap kept = textmap_init(d->texts.seed, DISCOVER_TEXTS_MAX, DISCOVER_BYTES_MAX);
    for (; keep < d->texts.n / 2; keep++) {
        if (textmap_add(&kept, v[keep].text->text, v[keep].text->tag) == TEXTMAP_NONE)
            break;
        counts[keep] = *v[keep].count;
    }
    d->missed = max_u64(d->missed, most_of(v[keep].count));
    free(v);
    free(d->counts);
    textmap_fini(&d->texts);
    d->texts = kept;
    d->counts = counts;
}

static void count_text(struct discovery *d, struct str text, enum tag_place place, uint32_t types,
                       uint64_t count)
{
    if (text.n > DISCOVER_TEXT_MAX) {
        d->longer += count;
        return;
    }
    uint32_t before = d->texts.n, no = textmap_add(&d->texts, text, place);
    while (no == TEXTMAP_NONE && d->texts.n) {
        forget_the_rarer_half(d);
        before = d->texts.n;
        no = textmap_add(&d->texts, text, place);
    }
    if (no == TEXTMAP_NONE) {
        d->failed = true;
        return;
    }
    if (no == before)
        d->counts[no].missed = d->missed;
    d->counts[no].count += count;
    d->counts[no].types |= types;
}

void discover_key(struct discovery *d, struct str key, enum tag_place place, uint32_t types,
                  uint64_t count)
{
    if (count && discover_wants(d, key, place))
        count_text(d, key, place, types, count);
}

void discover_value(struct discovery *d, const struct value *v, uint64_t count)
{
    arena_reset(&d->value);
    struct str text = value_text(v, &d->value);
    d->failed |= d->value.failed;
    if (count && !d->value.failed && str_starts(text, d->q->prefix))
        count_text(d, text, TAG_ANY, 1u << v->type, count);
}

bool discover_late(struct discovery *d, uint64_t max_ns)
{
    if (d->deadline_ns && d->begun && !d->late)
        d->late = os_mono_ns(d->os) >= d->deadline_ns;
    if (d->late)
        d->after_ns = max_u64(d->after_ns, max_ns);
    return d->late;
}

/* --- memtables --- */

struct batch_walk {
    struct discovery *d;
    const struct batch *b;
    uint64_t *group_spans; /* of each group: spans that are looked at */
    /* keys: of each place and key */
    uint64_t *count;
    uint32_t *types;
    uint32_t key; /* values: its number */
};

/* Attributes [at, at + n), each `times` times. */
static void walk_attrs(struct batch_walk *w, enum tag_place place, uint32_t at, uint32_t n,
                       uint64_t times)
{
    const struct attr_rec *a = w->b->attrs + at;
    size_t first = (size_t)place * w->b->head->key_count;
    if (!discover_in(w->d->q, place))
        return;
    for (uint32_t i = 0; i < n; i++, a++) {
        if (!w->d->values) {
            w->count[first + a->key] += times;
            w->types[first + a->key] |= 1u << a->type;
        } else if (a->key == w->key) {
            struct value v = value_from_batch(w->b, a);
            discover_value(w->d, &v, times);
        }
    }
}

static void walk_span(struct batch_walk *w, const struct span_rec *s)
{
    const struct event_rec *e = w->b->events + s->event_at;
    const struct link_rec *l = w->b->links + s->link_at;
    w->group_spans[s->group]++;
    walk_attrs(w, TAG_SPAN, s->attr_at, s->attr_count, 1);
    for (uint32_t i = 0; i < s->event_count; i++)
        walk_attrs(w, TAG_EVENT, e[i].attr_at, e[i].attr_count, 1);
    for (uint32_t i = 0; i < s->link_count; i++)
        walk_attrs(w, TAG_LINK, l[i].attr_at, l[i].attr_count, 1);
}

static void walk_groups(struct batch_walk *w)
{
    for (uint32_t i = 0; i < w->b->head->group_count; i++) {
        const struct group_rec *g = &w->b->groups[i];
        if (!w->group_spans[i])
            continue;
        walk_attrs(w, TAG_RESOURCE, g->res_attr_at, g->res_attr_count, w->group_spans[i]);
        walk_attrs(w, TAG_SCOPE, g->scope_attr_at, g->scope_attr_count, w->group_spans[i]);
        w->d->spans += w->group_spans[i];
    }
}

static void tell_keys(const struct batch_walk *w)
{
    uint32_t n = w->b->head->key_count;
    for (unsigned place = TAG_SPAN; place < PLACES; place++)
        for (uint32_t i = 0; i < n; i++)
            discover_key(w->d, batch_str(w->b, w->b->keys[i]), place,
                         w->types[(size_t)place * n + i], w->count[(size_t)place * n + i]);
}

static bool walk_begin(struct batch_walk *w, struct discovery *d, const struct batch *b)
{
    size_t groups = b->head->group_count, keys = b->head->key_count;
    *w = (struct batch_walk){.d = d, .b = b, .key = UINT32_MAX};
    arena_reset(&d->walk);
    w->group_spans = ARENA_ARRAY(&d->walk, uint64_t, groups + 1);
    w->count = ARENA_ARRAY(&d->walk, uint64_t, d->values ? 1 : keys * PLACES + 1);
    w->types = ARENA_ARRAY(&d->walk, uint32_t, d->values ? 1 : keys * PLACES + 1);
    for (uint32_t i = 0; d->values && i < keys && w->key == UINT32_MAX; i++)
        if (str_eq(batch_str(b, b->keys[i]), d->key))
            w->key = i;
    d->failed |= d->walk.failed;
    return !d->walk.failed;
}

static void walk_batch(struct discovery *d, const struct batch *b)
{
    struct batch_walk w;
    const struct discover_query *q = d->q;
    if (b->head->min_ns > q->start_max_ns || b->head->max_ns < q->start_min_ns ||
        !walk_begin(&w, d, b))
        return;
    for (uint32_t i = 0; i < b->head->span_count; i++) {
        const struct span_rec *s = &b->spans[i];
        if (discover_in_time(q, s->start_ns) &&
            (!q->service.n || str_eq(batch_str(b, b->groups[s->group].service), q->service)))
            walk_span(&w, s);
    }
    walk_groups(&w);
    if (!d->values)
        tell_keys(&w);
}

static void walk_memtables(struct discovery *d, struct snap *s, uint32_t tenant)
{
    for (size_t i = 0; i < s->version->mem_n; i++)
        for (uint32_t k = 0, n = snap_mem_count(s, i); k < n; k++) {
            const struct mem_entry *entry = memtable_at(s->version->mem[i], k);
            if (entry->tenant == tenant)
                walk_batch(d, entry->batch);
        }
}

/* --- the door --- */

static enum errc walk_blocks(struct discovery *d, struct snap *s, uint32_t tenant, struct err *e)
{
    enum errc rc = E_OK;
    size_t n;
    struct part **parts = version_parts(s->version, tenant, d->q->start_min_ns, d->q->start_max_ns,
                                        &n);
    for (size_t i = 0; rc == E_OK && i < n && !discover_late(d, parts[i]->max_ns); i++)
        rc = block_discover(parts[i]->block, d, e);
    free(parts);
    return rc;
}

/* By the count that is sure, so that what is exact comes before what may be. */
static int by_count(const void *x, const void *y)
{
    const struct discovered_text *a = x, *b = y;
    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    int order = str_cmp(a->text, b->text);
    return order ? order : (int)a->place - (int)b->place;
}

static enum errc tell(const struct discovery *d, struct arena *a, struct discovered *out,
                      struct err *e)
{
    size_t n = d->texts.n;
    *out = (struct discovered){.total = n,
                               .spans = d->spans,
                               .missed = d->missed,
                               .longer = d->longer,
                               .after_ns = d->after_ns,
                               .complete = !d->late && !d->missed && !d->longer};
    struct discovered_text *all = xcalloc(n + 1, sizeof *all);
    for (size_t i = 0; i < n; i++)
        all[i] = (struct discovered_text){.text = d->texts.v[i].text,
                                          .place = d->texts.v[i].tag,
                                          .types = d->counts[i].types,
                                          .count = d->counts[i].count,
                                          .missed = d->counts[i].missed};
    if (n)
        qsort(all, n, sizeof *all, by_count);
    out->n = min_size(n, d->q->limit);
    out->v = ARENA_ARRAY(a, struct discovered_text, out->n + 1);
    for (size_t i = 0; out->v && i < out->n; i++) {
        out->v[i] = all[i];
        out->v[i].text = arena_str(a, all[i].text);
    }
    free(all);
    return a->failed ? fail(e, E_NO_MEMORY, "no memory for the answer") : E_OK;
}

void discovery_init(struct discovery *d, struct os *os, const struct discover_query *q)
{
    uint64_t seed;
    os_random(os, &seed, sizeof seed);
    *d = (struct discovery){.q = q,
                            .os = os,
                            .deadline_ns = q->budget_ns ? os_mono_ns(os) + q->budget_ns : 0,
                            .texts = textmap_init(seed, DISCOVER_TEXTS_MAX, DISCOVER_BYTES_MAX),
                            .counts = xcalloc(DISCOVER_TEXTS_MAX, sizeof *d->counts),
                            .walk = arena_init(DISCOVER_MEMORY_MAX),
                            .value = arena_init(DISCOVER_MEMORY_MAX)};
}

void discovery_fini(struct discovery *d)
{
    textmap_fini(&d->texts);
    free(d->counts);
    arena_fini(&d->walk);
    arena_fini(&d->value);
}

static enum errc discover(struct snap *s, const struct discover_query *q, bool values,
                          struct str key, struct arena *a, struct discovered *out, struct err *e)
{
    struct discovery d;
    enum errc rc = E_OK;
    uint32_t tenant = catalog_find_tenant(s->store->catalog, q->tenant);
    if (q->limit > DISCOVER_LIMIT_MAX)
        return fail(e, E_INVALID, "at most %u at a time", DISCOVER_LIMIT_MAX);
    discovery_init(&d, s->store->os, q);
    d.values = values;
    d.key = key;
    if (tenant != CATALOG_NONE) {
        walk_memtables(&d, s, tenant);
        rc = walk_blocks(&d, s, tenant, e);
    }
    if (rc == E_OK && d.failed)
        rc = fail(e, E_NO_MEMORY, "a batch or a block needs more than %zu bytes of memory",
                  DISCOVER_MEMORY_MAX);
    if (rc == E_OK)
        rc = tell(&d, a, out, e);
    discovery_fini(&d);
    return rc;
}

enum errc snap_keys(struct snap *s, const struct discover_query *q, struct arena *a,
                    struct discovered *out, struct err *e)
{
    return discover(s, q, false, STR_NONE, a, out, e);
}

enum errc snap_values(struct snap *s, const struct discover_query *q, struct str key,
                      struct arena *a, struct discovered *out, struct err *e)
{
    return discover(s, q, true, key, a, out, e);
}
