/* SPDX-License-Identifier: Apache-2.0 */
/* Questions. The naive answer looks at every span that is there, with match_span as the meaning of
 * a search. A question is a row of `questions`.
 *
 * Names and dependencies outlive their spans, so where retention has taken some the answer has a
 * lower and an upper bound, which otherwise are equal. The store also looks for a span's parent
 * within limits (store_parts.h: time, age, number of blocks): calls outside them may be counted. */
#include "base/stats.h"
#include "model/kvs.h"
#include "store/trace/match.h"
#include "store/trace/store_parts.h"
#include "tests/unit/store/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static char sentence[512];

PRINTF_LIKE(1, 2)
static const char *say(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(sentence, sizeof sentence, fmt, args);
    va_end(args);
    return sentence;
}

/* --- spans --- */

static bool same_events(const struct span *a, const struct span *b)
{
    if (a->event_count != b->event_count)
        return false;
    for (uint32_t i = 0; i < a->event_count; i++) {
        const struct event *x = &a->events[i], *y = &b->events[i];
        if (x->time_ns != y->time_ns || x->dropped != y->dropped || !str_eq(x->name, y->name) ||
            !kvs_eq(&x->attrs, &y->attrs))
            return false;
    }
    return true;
}

static bool same_links(const struct span *a, const struct span *b)
{
    if (a->link_count != b->link_count)
        return false;
    for (uint32_t i = 0; i < a->link_count; i++) {
        const struct link *x = &a->links[i], *y = &b->links[i];
        if (memcmp(x->trace_id, y->trace_id, 16) != 0 || memcmp(x->span_id, y->span_id, 8) != 0 ||
            x->dropped != y->dropped || x->flags != y->flags ||
            !str_eq(x->trace_state, y->trace_state) || !kvs_eq(&x->attrs, &y->attrs))
            return false;
    }
    return true;
}

bool world_same_span(const struct span *a, const struct span *b)
{
    return memcmp(a->trace_id, b->trace_id, 16) == 0 && memcmp(a->span_id, b->span_id, 8) == 0 &&
           memcmp(a->parent_id, b->parent_id, 8) == 0 && a->start_ns == b->start_ns &&
           a->end_ns == b->end_ns && str_eq(a->name, b->name) &&
           str_eq(a->trace_state, b->trace_state) && str_eq(a->status_message, b->status_message) &&
           a->kind == b->kind && a->status == b->status && a->flags == b->flags &&
           a->dropped_attrs == b->dropped_attrs && a->dropped_events == b->dropped_events &&
           a->dropped_links == b->dropped_links && resource_eq(a->resource, b->resource) &&
           scope_eq(a->scope, b->scope) && kvs_eq(&a->attrs, &b->attrs) && same_events(a, b) &&
           same_links(a, b);
}

/* --- what may still be known of a span --- */

static bool is_there(const struct world *w, uint32_t number, uint32_t tenant)
{
    return w->spans[number].found && w->spans[number].tenant == tenant;
}

/* There, or it was until retention took it. */
static bool was_there(const struct world *w, uint32_t number, uint32_t tenant)
{
    const struct sent_span *x = &w->spans[number];
    return x->tenant == tenant && (x->found || w->batches[x->batch].expired);
}

static uint64_t received_ns(const struct world *w, uint32_t number)
{
    return w->batches[w->spans[number].batch].ticket.batch->head->received_ns;
}

/* --- dependencies --- */

struct bounds {
    uint64_t min, max;
};

/* Is the store sure to find the parent? */
static bool within_limits(const struct world *w, uint32_t child, uint32_t parent)
{
    uint64_t c = w->spans[child].span->start_ns, p = w->spans[parent].span->start_ns;
    uint64_t c_ns = received_ns(w, child), p_ns = received_ns(w, parent);
    uint64_t apart_ns = c_ns > p_ns ? c_ns - p_ns : p_ns - c_ns;
    return (p <= c ? c - p <= PARENT_LOOKBACK_NS - MINUTE_NS : p - c <= PARENT_SKEW_NS) &&
           apart_ns <= ORPHAN_MINUTES * MINUTE_NS - MINUTE_NS;
}

/* Adds the call that `child` is, if any, to the bounds of its pair of services. */
static void count_call(const struct world *w, uint32_t tenant, uint32_t child,
                       struct bounds calls[NAMED_MAX][NAMED_MAX])
{
    const struct sent_span *x = &w->spans[child];
    bool possible = false, certain = false;
    uint32_t service = 0;
    bool sent = x->parent && x->parent < w->span_n && w->spans[x->parent].first == x->parent;
    if (!sent || !was_there(w, child, tenant))
        return;
    for (uint32_t p = x->parent; p; p = w->spans[p].next) {
        if (w->spans[p].trace != x->trace || !was_there(w, p, tenant))
            continue;
        possible = true;
        service = w->spans[p].service;
        certain |= x->found && w->spans[p].found && within_limits(w, child, p);
    }
    calls[service][x->service].min += certain;
    calls[service][x->service].max += possible;
}

static uint32_t find_named(const struct named *l, struct str name)
{
    uint32_t i = 0;
    while (i < l->n && !str_eq(l->v[i], name))
        i++;
    return i;
}

static const char *check_dependencies(const struct world *w, struct snap *snap, uint32_t tenant,
                                      struct arena *a)
{
    static struct bounds calls[NAMED_MAX][NAMED_MAX];
    struct dependency *v;
    size_t n;
    if (stat_get(STAT_PARENT_SEARCHES_CUT)) /* with very many blocks; it is counted */
        return NULL;
    memset(calls, 0, sizeof calls);
    for (uint32_t i = 1; i < w->span_n; i++)
        count_call(w, tenant, i, calls);
    if (snap_dependencies(snap, world_tenant(tenant), 0, UINT64_MAX, a, &v, &n) != E_OK)
        return "dependencies cannot be read";
    for (size_t i = 0; i < n; i++) {
        uint32_t p = find_named(&w->services, v[i].parent),
                 c = find_named(&w->services, v[i].child);
        if (p == w->services.n || c == w->services.n || !v[i].calls)
            return "a dependency between services that nobody sent";
        struct bounds *b = &calls[p][c];
        if (v[i].calls < b->min || v[i].calls > b->max)
            return say("%.*s calls %.*s %llu times, not %llu to %llu", STR_ARG(v[i].parent),
                       STR_ARG(v[i].child), (unsigned long long)v[i].calls,
                       (unsigned long long)b->min, (unsigned long long)b->max);
        *b = (struct bounds){0};
    }
    for (uint32_t p = 0; p < w->services.n; p++)
        for (uint32_t c = 0; c < w->services.n; c++)
            if (calls[p][c].min)
                return say("no dependency of %.*s on %.*s, or two", STR_ARG(w->services.v[c]),
                           STR_ARG(w->services.v[p]));
    return NULL;
}

/* --- names --- */

/* When a name was last seen: by the spans that are there, and at the latest. */
struct seen {
    uint64_t there_ns, latest_ns; /* 0: not at all */
};

typedef struct seen seen_table[NAMED_MAX][NAMED_MAX][KIND_COUNT]; /* service, name, kind */

static void see_names(const struct world *w, uint32_t tenant, seen_table seen)
{
    uint64_t newest_ns = 0;
    for (uint32_t i = 0; i < w->batch_n; i++)
        newest_ns = max_u64(newest_ns, w->batches[i].ticket.batch->head->received_ns);
    memset(seen, 0, sizeof(seen_table));
    for (uint32_t i = 1; i < w->span_n; i++) {
        const struct sent_span *x = &w->spans[i];
        struct seen *s = &seen[x->service][x->name][x->kind];
        uint64_t start_ns = max_u64(x->span->start_ns, 1);
        if (!was_there(w, i, tenant))
            continue;
        if (x->found)
            s->there_ns = max_u64(s->there_ns, min_u64(start_ns, received_ns(w, i)));
        s->latest_ns = max_u64(s->latest_ns, min_u64(start_ns, newest_ns));
    }
}

/* Names whose spans were last seen before may be gone. */
static bool must_be_listed(const struct world *w, const struct seen *s)
{
    return s->there_ns && s->there_ns >= w->listed_ns;
}

static const char *check_operations(const struct world *w, struct snap *snap, uint32_t tenant,
                                    uint32_t service, seen_table seen, struct arena *a)
{
    struct operation *ops;
    size_t n, missing = 0;
    if (snap_operations(snap, world_tenant(tenant), w->services.v[service], -1, a, &ops, &n) !=
        E_OK)
        return "operations cannot be read";
    for (uint32_t name = 0; name < w->names.n; name++)
        for (uint32_t kind = 0; kind < KIND_COUNT; kind++)
            missing += must_be_listed(w, &seen[service][name][kind]);
    for (size_t i = 0; i < n; i++) {
        uint32_t name = find_named(&w->names, ops[i].name);
        const struct seen *s = &seen[service][name % NAMED_MAX][ops[i].kind];
        bool must = name < w->names.n && must_be_listed(w, s);
        missing -= must;
        if (name == w->names.n || !s->latest_ns || ops[i].last_seen_ns > s->latest_ns ||
            (must && ops[i].last_seen_ns < s->there_ns))
            return say("operation %.*s of %.*s, which nobody sent, or seen at another time",
                       STR_ARG(ops[i].name), STR_ARG(w->services.v[service]));
        if (i && (str_cmp(ops[i - 1].name, ops[i].name) > 0 ||
                  (str_eq(ops[i - 1].name, ops[i].name) && ops[i - 1].kind >= ops[i].kind)))
            return "operations out of order, or twice";
    }
    return missing ? say("%.*s lacks %zu operations of %.*s", STR_ARG(world_tenant(tenant)),
                         missing, STR_ARG(w->services.v[service]))
                   : NULL;
}

static const char *check_services(const struct world *w, struct snap *snap, uint32_t tenant,
                                  seen_table seen, struct arena *a)
{
    struct str *v;
    size_t n, listed = 0;
    if (snap_services(snap, world_tenant(tenant), a, &v, &n) != E_OK)
        return "services cannot be read";
    for (uint32_t service = 0; service < w->services.n; service++) {
        bool must = false, may = false, is = false;
        for (uint32_t i = 0; i < w->names.n * KIND_COUNT; i++) {
            const struct seen *x = &seen[service][i / KIND_COUNT][i % KIND_COUNT];
            must |= must_be_listed(w, x);
            may |= x->latest_ns > 0;
        }
        for (size_t i = 0; i < n; i++)
            is |= str_eq(v[i], w->services.v[service]);
        listed += is;
        if (is ? !may : must)
            return say("service %.*s of %.*s is %slisted", STR_ARG(w->services.v[service]),
                       STR_ARG(world_tenant(tenant)), is ? "" : "not ");
    }
    for (size_t i = 1; i < n; i++)
        if (str_cmp(v[i - 1], v[i]) >= 0)
            return "services out of order";
    return listed == n ? NULL : "a service that nobody sent";
}

const char *world_check_names(struct world *w, struct snap *snap)
{
    static seen_table seen;
    struct arena a = arena_init(16 * MIB);
    const char *bad = NULL;
    for (uint32_t tenant = 0; !bad && tenant < TENANTS; tenant++) {
        see_names(w, tenant, seen);
        bad = check_services(w, snap, tenant, seen, &a);
        for (uint32_t i = 0; !bad && i < w->services.n; i++)
            bad = check_operations(w, snap, tenant, i, seen, &a);
        if (!bad)
            bad = check_dependencies(w, snap, tenant, &a);
    }
    arena_fini(&a);
    return bad;
}

/* --- random questions --- */

struct question {
    struct world *w;
    struct store *s;
    struct snap *snap;
    struct arena *a;
    uint32_t tenant;
};

static uint32_t any_span(struct world *w)
{
    return w->span_n > 1 ? 1 + world_roll(w, w->span_n - 1) : 0;
}

/* A time near a span's. */
static uint64_t any_ns(struct world *w)
{
    uint32_t number = any_span(w);
    return number ? w->spans[number].span->start_ns + world_roll(w, 3) - 1 : 0;
}

static const char *ask_trace(struct question *q)
{
    struct world *w = q->w;
    uint32_t number = any_span(w), there = 0;
    uint8_t id[16] = {0};
    struct trace *t;
    if (number)
        memcpy(id, w->spans[number].span->trace_id, 16);
    for (uint32_t i = 1; i < w->span_n; i++)
        there += is_there(w, i, q->tenant) && memcmp(w->spans[i].span->trace_id, id, 16) == 0;
    enum errc rc = snap_trace(q->snap, world_tenant(q->tenant), id, q->a, &t, NULL);
    if (rc != (there ? E_OK : E_NOT_FOUND))
        return say("a trace by id: %s", err_name(rc));
    return there && t->span_count != there ? "a trace by id is not whole" : NULL;
}

/* Filters are mostly taken from spans, or nothing would match. */
static void any_tag(struct question *q, struct tag_filter *f)
{
    struct world *w = q->w;
    uint32_t number = any_span(w);
    static const char *const keys[] = {
        "error", "span.kind", "otel.status_code", "event",         "scope.name", "number",
        "text",  "none",      "resource.k1",      "w3c.tracestate"};
    static const char *const values[] = {"true", "server", "OK", "lib", "7", "", "200", "k=v"};
    f->place = world_roll(w, 3) ? TAG_ANY : (enum tag_place)world_roll(w, TAG_LINK + 1);
    f->op = world_roll(w, 3) ? TAG_EQUALS : TAG_EXISTS;
    f->key = str_from_c(keys[world_roll(w, ARRAY_LEN(keys))]);
    f->value = str_from_c(values[world_roll(w, ARRAY_LEN(values))]);
    if (!number || !world_roll(w, 3))
        return;
    const struct span *s = w->spans[number].span;
    const struct kvs *from[] = {&s->attrs,
                                &s->attrs,
                                &s->resource->attrs,
                                &s->scope->attrs,
                                s->event_count ? &s->events[0].attrs : &s->attrs,
                                s->link_count ? &s->links[0].attrs : &s->attrs};
    const struct kvs *kvs = from[world_roll(w, ARRAY_LEN(from))];
    if (!kvs->n)
        return;
    const struct kv *kv = &kvs->v[world_roll(w, kvs->n)];
    f->key = kv->key;
    f->value = value_text(&kv->val, q->a);
}

static void any_query(struct question *q, struct trace_query *out, struct tag_filter *tags)
{
    static const uint32_t limits[] = {1, 2, 3, 7, 20, QUERY_LIMIT_MAX};
    struct world *w = q->w;
    uint32_t number = any_span(w);
    *out = (struct trace_query){.tenant = world_tenant(q->tenant),
                                .kind = -1,
                                .start_max_ns = UINT64_MAX,
                                .tags = tags,
                                .limit = limits[world_roll(w, ARRAY_LEN(limits))]};
    if (number && !world_roll(w, 3))
        out->service = w->spans[number].span->resource->service;
    if (number && !world_roll(w, 4))
        out->operation = w->spans[number].span->name;
    if (!world_roll(w, 5))
        out->kind = (int)world_roll(w, KIND_COUNT);
    if (!world_roll(w, 3))
        out->start_min_ns = any_ns(w);
    if (!world_roll(w, 3))
        out->start_max_ns = any_ns(w);
    if (!world_roll(w, 5))
        out->duration_min_ns = world_roll(w, w->span_n + 1);
    if (!world_roll(w, 5))
        out->duration_max_ns = world_roll(w, w->span_n + 1);
    for (uint32_t n = world_roll(w, 3); n; n--)
        any_tag(q, &tags[out->tag_count++]);
}

static int hit_order(const void *a, const void *b)
{
    const struct trace_hit *x = a, *y = b;
    if (x->newest_ns != y->newest_ns)
        return x->newest_ns > y->newest_ns ? -1 : 1;
    return memcmp(x->trace_id, y->trace_id, 16);
}

static int hit_by_id(const void *a, const void *b)
{
    const struct trace_hit *x = a, *y = b;
    int c = memcmp(x->trace_id, y->trace_id, 16);
    return c ? c : hit_order(a, b);
}

/* The naive search: every span, then the newest of each trace, then the newest of all. */
static uint32_t search_all(struct question *q, const struct trace_query *query,
                           struct trace_hit *hits)
{
    uint32_t n = 0, kept = 0;
    for (uint32_t i = 1; i < q->w->span_n; i++) {
        const struct span *s = q->w->spans[i].span;
        if (!is_there(q->w, i, q->tenant) || !match_span(query, s))
            continue;
        hits[n].newest_ns = s->start_ns;
        memcpy(hits[n++].trace_id, s->trace_id, 16);
    }
    qsort(hits, n, sizeof *hits, hit_by_id);
    for (uint32_t i = 0; i < n; i++)
        if (!kept || memcmp(hits[kept - 1].trace_id, hits[i].trace_id, 16) != 0)
            hits[kept++] = hits[i];
    qsort(hits, kept, sizeof *hits, hit_order);
    return kept;
}

static const char *ask_search(struct question *q)
{
    static struct trace_hit expected[SENT_MAX];
    struct tag_filter tags[3];
    struct trace_query query;
    struct trace_hits hits;
    any_query(q, &query, tags);
    if (snap_search(q->snap, &query, q->a, &hits, NULL) != E_OK)
        return "a search failed";
    uint32_t n = search_all(q, &query, expected);
    n = n < query.limit ? n : query.limit;
    if (hits.n != n || !hits.complete)
        return say("a search finds %u traces, not %u", hits.n, n);
    for (uint32_t i = 0; i < n; i++)
        if (memcmp(hits.v[i].trace_id, expected[i].trace_id, 16) != 0 ||
            hits.v[i].newest_ns != expected[i].newest_ns)
            return say("hit %u of a search is another trace, or of another time", i);
    return NULL;
}

static const char *ask_operations(struct question *q)
{
    struct operation *ops;
    size_t n;
    int kind = (int)world_roll(q->w, KIND_COUNT + 1) - 1;
    if (snap_operations(q->snap, world_tenant(q->tenant), STR_NONE, kind, q->a, &ops, &n) != E_OK)
        return "all operations cannot be read";
    for (size_t i = 0; i < n; i++) {
        if (kind >= 0 && (int)ops[i].kind != kind)
            return "an operation of another kind";
        if (i && str_eq(ops[i - 1].name, ops[i].name) && ops[i - 1].kind >= ops[i].kind)
            return "an operation twice";
    }
    return NULL;
}

struct listed {
    const struct world *w;
    uint32_t tenant, n;
    bool stranger; /* listed without a span in the window, or twice */
    const struct trace_query *window;
    bool *seen; /* by span number */
};

static bool note_listed(void *arg, const uint8_t id[16])
{
    struct listed *l = arg;
    bool inside = false;
    for (uint32_t i = 1; i < l->w->span_n; i++) {
        const struct span *s = l->w->spans[i].span;
        if (!is_there(l->w, i, l->tenant) || memcmp(s->trace_id, id, 16) != 0 ||
            !match_span(l->window, s))
            continue;
        inside = true;
        l->stranger |= l->seen[i];
        l->seen[i] = true;
        l->n++;
    }
    l->stranger |= !inside;
    return true;
}

/* Every trace with a span in the window is listed, once, and no other. */
static const char *ask_window(struct question *q)
{
    static bool seen[SENT_MAX];
    uint64_t a = any_ns(q->w), b = any_ns(q->w);
    struct trace_query window = {
        .kind = -1, .start_min_ns = min_u64(a, b), .start_max_ns = max_u64(a, b)};
    struct listed l = {.w = q->w, .tenant = q->tenant, .window = &window, .seen = seen};
    memset(seen, 0, sizeof seen);
    if (snap_each_trace(q->snap, world_tenant(q->tenant), window.start_min_ns, window.start_max_ns,
                        note_listed, &l, NULL) != E_OK)
        return "the traces of a window cannot be listed";
    for (uint32_t i = 1; i < q->w->span_n; i++)
        l.n -= is_there(q->w, i, q->tenant) && match_span(&window, q->w->spans[i].span);
    return l.n || l.stranger ? "the traces of a window are not those with a span in it" : NULL;
}

/* A window of time holds no more calls than all of it, and two that meet hold them all. */
static const char *ask_dependencies(struct question *q)
{
    uint64_t cut = any_ns(q->w) / MINUTE_NS * MINUTE_NS;
    const uint64_t windows[3][2] = {{0, UINT64_MAX}, {0, cut ? cut - 1 : 0}, {cut, UINT64_MAX}};
    uint64_t calls[3] = {0};
    for (unsigned i = 0; i < 3; i++) {
        struct dependency *v;
        size_t n;
        if (snap_dependencies(q->snap, world_tenant(q->tenant), windows[i][0], windows[i][1], q->a,
                              &v, &n) != E_OK)
            return "dependencies of a window cannot be read";
        for (size_t k = 0; k < n; k++)
            calls[i] += v[k].calls;
    }
    if (stat_get(STAT_PARENT_SEARCHES_CUT))
        return NULL;
    /* Rows gathered by the hour or day may be on both sides. */
    return calls[1] + calls[2] < calls[0] || calls[1] > calls[0] || calls[2] > calls[0]
               ? say("%llu calls, and %llu before and %llu after a moment",
                     (unsigned long long)calls[0], (unsigned long long)calls[1],
                     (unsigned long long)calls[2])
               : NULL;
}

static const char *ask_stats(struct question *q)
{
    struct store_stats stats;
    uint64_t there = 0;
    store_stats(q->s, &stats);
    for (uint32_t i = 1; i < q->w->span_n; i++)
        there += q->w->spans[i].found;
    return stats.memtable_spans + stats.block_spans == there
               ? NULL
               : say("%llu spans in memory and %llu in blocks, not %llu",
                     (unsigned long long)stats.memtable_spans,
                     (unsigned long long)stats.block_spans, (unsigned long long)there);
}

static const struct {
    unsigned times;
    const char *(*ask)(struct question *q);
} questions[] = {
    {3, ask_trace},      {6, ask_search},       {1, ask_window},
    {1, ask_operations}, {1, ask_dependencies}, {1, ask_stats},
};

const char *world_ask(struct world *w, struct store *s, struct snap *snap)
{
    struct arena a = arena_init(64 * MIB);
    struct question q = {.w = w, .s = s, .snap = snap, .a = &a};
    const char *bad = NULL;
    for (size_t i = 0; !bad && i < ARRAY_LEN(questions); i++)
        for (unsigned n = questions[i].times; !bad && n; n--) {
            q.tenant = world_roll(w, TENANTS);
            bad = questions[i].ask(&q);
        }
    arena_fini(&a);
    return bad;
}
