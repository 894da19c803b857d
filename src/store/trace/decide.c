/* SPDX-License-Identifier: Apache-2.0 */
/* Retention by rule: what of a window of blocks stays, and how long.
 *
 * When the newest spans of a window (compact.c) are as old as `drop after`, the blocks of it that
 * are not decided are judged together: once to learn what the rules ask of the whole (the p99 of
 * each operation, the reservoirs), once to note which rules keep each trace. Then each block is
 * rewritten: the traces that are kept equally long become one block, the others none. A block that
 * was decided says so in the manifest and is not judged again.
 *
 * Everything is decided by what the blocks hold: the same blocks give the same answer, in a dry run
 * as well. A trace with spans in a decided block of the window or one beside it stays as long as
 * that block. */
#include "store/trace/match.h"
#include "store/trace/store_parts.h"

#include "base/hash.h"
#include "base/log.h"

#include <stdlib.h>

/* Of the blocks judged together; the durations of their spans take 64 MiB. */
#define JUDGE_SPANS_MAX  (1u << 23)
#define JUDGE_TRACES_MAX (1u << 21)
#define HOUR_NS          (3600 * NS_PER_S)

/* Finds what stands in an array by the hash of it. */
struct table {
    uint64_t *slot; /* hash in the high half, number + 1 in the low; 0: free */
    uint32_t mask, n;
};

#define NONE UINT32_MAX

struct op {
    struct str service, name;
    enum span_kind kind;
    uint64_t *durations;
    uint32_t n, cap;
    uint64_t p99_ns;
};

/* The smallest hashes of the traces with a span of the operation in the hour. */
struct reservoir {
    uint32_t rule, op;
    uint64_t hour;
    uint64_t *hash; /* ascending */
    uint32_t n, cap;
};

struct seen {
    uint64_t print, follow_ns;
    uint32_t mask, spans; /* mask: the rules that keep it */
};

struct judge {
    struct rules rules;
    struct part **parts, **decided;
    size_t n, decided_n;
    struct arena names;
    struct op *ops;
    struct reservoir *pools;
    struct seen *seen;
    uint32_t op_n, op_cap, pool_n, pool_cap, seen_n, seen_cap;
    struct table op_tab, pool_tab, seen_tab;
    /* The builder's progress: blocks read in this pass, passes, blocks rewritten. */
    size_t at;
    unsigned pass;
    struct rewrite_class classes[RULES_MAX];
    struct class_arg {
        const struct judge *j;
        uint64_t for_ns;
    } args[RULES_MAX];
    size_t class_n;
};

/* --- arrays and tables --- */

static void *grown(void *v, uint32_t *cap, size_t n, size_t size)
{
    if (n <= *cap)
        return v;
    ensure(n <= UINT32_MAX / 2);
    *cap = (uint32_t)max_size(n, *cap * (size_t)2);
    return xrealloc(v, *cap * size);
}

static void table_put(struct table *t, uint64_t entry)
{
    uint32_t at = (uint32_t)(entry >> 32) & t->mask;
    while (t->slot[at])
        at = (at + 1) & t->mask;
    t->slot[at] = entry;
}

static void table_add(struct table *t, uint32_t hash, uint32_t id)
{
    if (!t->slot || t->n * 2 > t->mask) {
        struct table more = {.mask = t->slot ? t->mask * 2 + 1 : 255, .n = t->n};
        more.slot = xcalloc(more.mask + (size_t)1, sizeof *more.slot);
        for (uint32_t i = 0; t->slot && i <= t->mask; i++)
            if (t->slot[i])
                table_put(&more, t->slot[i]);
        free(t->slot);
        *t = more;
    }
    table_put(t, (uint64_t)hash << 32 | (id + 1));
    t->n++;
}

/* Walks the numbers under the hash: *at starts at it; NONE at the end. */
static uint32_t table_next(const struct table *t, uint32_t hash, uint32_t *at)
{
    while (t->slot) {
        uint64_t entry = t->slot[*at & t->mask];
        *at = (*at & t->mask) + 1;
        if (!entry)
            break;
        if (entry >> 32 == hash)
            return (uint32_t)entry - 1;
    }
    return NONE;
}

/* --- what the rules ask of the whole --- */

static uint64_t print_of(const uint8_t id[16])
{
    return hash_mix(load_u64le(id) ^ HASH_K0, load_u64le(id + 8) ^ HASH_K1);
}

static uint32_t op_of(struct judge *j, const struct span *s)
{
    uint64_t h = hash_str(s->resource->service, hash_str(s->name, (uint64_t)s->kind));
    uint32_t hash = (uint32_t)h, at = hash, id;
    while ((id = table_next(&j->op_tab, hash, &at)) != NONE) {
        const struct op *o = &j->ops[id];
        if (o->kind == s->kind && str_eq(o->name, s->name) &&
            str_eq(o->service, s->resource->service))
            return id;
    }
    j->ops = grown(j->ops, &j->op_cap, j->op_n + (size_t)1, sizeof *j->ops);
    j->ops[j->op_n] = (struct op){.service = arena_str(&j->names, s->resource->service),
                                  .name = arena_str(&j->names, s->name),
                                  .kind = s->kind};
    table_add(&j->op_tab, hash, j->op_n);
    return j->op_n++;
}

static struct reservoir *reservoir_of(struct judge *j, uint32_t rule, uint32_t op, uint64_t hour,
                                      bool make)
{
    uint32_t hash = (uint32_t)hash_mix(hash_u64(rule, op), hour ^ HASH_K2), at = hash, id;
    while ((id = table_next(&j->pool_tab, hash, &at)) != NONE) {
        struct reservoir *r = &j->pools[id];
        if (r->rule == rule && r->op == op && r->hour == hour)
            return r;
    }
    if (!make)
        return NULL;
    j->pools = grown(j->pools, &j->pool_cap, j->pool_n + (size_t)1, sizeof *j->pools);
    struct reservoir *r = &j->pools[j->pool_n];
    *r = (struct reservoir){.rule = rule, .op = op, .hour = hour};
    table_add(&j->pool_tab, hash, j->pool_n++);
    return r;
}

static void reservoir_add(struct reservoir *r, uint64_t hash, uint64_t most)
{
    uint32_t at = r->n;
    while (at > 0 && r->hash[at - 1] > hash)
        at--;
    if (at == most || (at > 0 && r->hash[at - 1] == hash))
        return;
    if (r->n == most)
        r->n--;
    r->hash = grown(r->hash, &r->cap, r->n + (size_t)1, sizeof *r->hash);
    memmove(r->hash + at + 1, r->hash + at, (r->n - at) * sizeof *r->hash);
    r->hash[at] = hash;
    r->n++;
}

static void learn_chain(void *arg, const struct trace *chain)
{
    struct judge *j = arg;
    uint64_t print = print_of(chain->id);
    for (uint32_t i = 0; i < chain->span_count; i++) {
        const struct span *s = chain->spans[i];
        uint32_t op = op_of(j, s);
        struct op *o = &j->ops[op];
        o->durations = grown(o->durations, &o->cap, o->n + (size_t)1, sizeof *o->durations);
        o->durations[o->n++] = span_duration_ns(s);
        for (uint32_t k = 0; k < j->rules.n; k++)
            if (j->rules.v[k].kind == RULE_SAMPLE)
                reservoir_add(reservoir_of(j, k, op, s->start_ns / HOUR_NS, true), print,
                              j->rules.v[k].count);
    }
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The nearest rank: of a hundred spans one is longer. */
static void learn_end(struct judge *j)
{
    for (uint32_t i = 0; i < j->op_n; i++) {
        struct op *o = &j->ops[i];
        qsort(o->durations, o->n, sizeof *o->durations, by_number);
        o->p99_ns = o->durations[((uint64_t)o->n * 99 + 99) / 100 - 1];
        free(o->durations);
        o->durations = NULL;
    }
}

/* --- which rules keep a trace --- */

static bool in_list(struct str list, struct str service)
{
    struct str one;
    while (str_split(&list, ',', &one))
        if (str_eq(str_trim(one), service))
            return true;
    return false;
}

static bool has_attribute(const struct rule *r, const struct span *s)
{
    const struct tag_filter tag = {.place = TAG_ANY,
                                   .op = r->has_value ? TAG_EQUALS : TAG_EXISTS,
                                   .key = r->key,
                                   .value = r->value};
    const struct trace_query q = {
        .kind = -1, .start_max_ns = UINT64_MAX, .tags = &tag, .tag_count = 1};
    return match_span(&q, s);
}

static bool is_sampled(struct judge *j, uint32_t rule, uint32_t op, const struct span *s,
                       uint64_t print)
{
    const struct reservoir *r = reservoir_of(j, rule, op, s->start_ns / HOUR_NS, false);
    return r && r->n && bsearch(&print, r->hash, r->n, sizeof print, by_number);
}

static bool keeps(struct judge *j, uint32_t rule, uint32_t op, const struct span *s, uint64_t print)
{
    const struct rule *r = &j->rules.v[rule];
    switch (r->kind) {
    case RULE_ERROR:
        return s->status == STATUS_ERROR;
    case RULE_SLOW:
        return span_duration_ns(s) > j->ops[op].p99_ns;
    case RULE_SERVICE:
        return in_list(r->key, s->resource->service);
    case RULE_ATTRIBUTE:
        return has_attribute(r, s);
    case RULE_SAMPLE:
        return is_sampled(j, rule, op, s, print);
    case RULE_DROP:
        break;
    }
    return false;
}

static struct seen *seen_find(const struct judge *j, uint64_t print)
{
    uint32_t at = (uint32_t)print, id;
    while ((id = table_next(&j->seen_tab, (uint32_t)print, &at)) != NONE)
        if (j->seen[id].print == print)
            return &j->seen[id];
    return NULL;
}

static uint64_t follow_ns(const struct judge *j, const uint8_t id[16])
{
    uint64_t ns = 0;
    for (size_t i = 0; i < j->decided_n; i++)
        if (j->decided[i]->kept_ns > ns && block_may_have(j->decided[i]->block, id))
            ns = j->decided[i]->kept_ns;
    return ns;
}

static struct seen *seen_of(struct judge *j, const uint8_t id[16], uint64_t print)
{
    struct seen *x = seen_find(j, print);
    if (x)
        return x;
    j->seen = grown(j->seen, &j->seen_cap, j->seen_n + (size_t)1, sizeof *j->seen);
    j->seen[j->seen_n] = (struct seen){.print = print, .follow_ns = follow_ns(j, id)};
    table_add(&j->seen_tab, (uint32_t)print, j->seen_n);
    return &j->seen[j->seen_n++];
}

static void judge_chain(void *arg, const struct trace *chain)
{
    struct judge *j = arg;
    uint64_t print = print_of(chain->id);
    struct seen *x = seen_of(j, chain->id, print);
    x->spans += chain->span_count;
    for (uint32_t i = 0; i < chain->span_count; i++) {
        uint32_t op = op_of(j, chain->spans[i]);
        for (uint32_t k = 0; k < j->rules.n; k++)
            if (!(x->mask >> k & 1) && keeps(j, k, op, chain->spans[i], print))
                x->mask |= 1u << k;
    }
}

/* How long the trace is kept: as long as the rule that keeps it longest. 0: not. */
static uint64_t kept_ns(const struct judge *j, const struct seen *x)
{
    uint64_t ns = x->follow_ns;
    for (uint32_t k = 0; k < j->rules.n; k++)
        if (x->mask >> k & 1)
            ns = max_u64(ns, j->rules.v[k].for_ns);
    return ns;
}

/* The class of traces that are kept so long: the shortest that is long enough. */
static const struct class_arg *class_for(const struct judge *j, uint64_t ns)
{
    const struct class_arg *best = NULL;
    for (size_t k = 0; k < j->class_n; k++)
        if (j->args[k].for_ns >= ns && (!best || j->args[k].for_ns < best->for_ns))
            best = &j->args[k];
    return best;
}

static bool is_of_class(void *arg, const struct trace *t)
{
    const struct class_arg *c = arg;
    const struct seen *x = seen_find(c->j, print_of(t->id));
    uint64_t ns = x ? kept_ns(c->j, x) : 0;
    return ns && class_for(c->j, ns) == c;
}

static bool keep_none(void *arg, const struct trace *t)
{
    (void)arg;
    (void)t;
    return false;
}

/* The class gets the time: its first, or a longer one. */
static void set_class(struct judge *j, size_t k, uint64_t ns)
{
    j->args[k] = (struct class_arg){.j = j, .for_ns = ns};
    j->classes[k] = (struct rewrite_class){.change = {.keep = is_of_class, .arg = &j->args[k]},
                                           .kept_ns = ns};
}

/* The times that traces are kept: each becomes a block of its own. What follows decided blocks can
 * add times that no rule has; past RULES_MAX the next longer class takes them. */
static void list_classes(struct judge *j)
{
    for (uint32_t i = 0; i < j->seen_n; i++) {
        uint64_t ns = kept_ns(j, &j->seen[i]);
        size_t k = 0, longest = 0;
        for (; k < j->class_n && j->args[k].for_ns != ns; k++)
            longest = j->args[k].for_ns > j->args[longest].for_ns ? k : longest;
        if (!ns || k < j->class_n)
            continue;
        if (k < RULES_MAX)
            set_class(j, j->class_n++, ns);
        else if (j->args[longest].for_ns < ns)
            set_class(j, longest, ns);
    }
}

/* --- a judge --- */

static void judge_free(struct judge *j)
{
    if (!j)
        return;
    for (size_t i = 0; i < j->n; i++)
        part_unref(j->parts[i]);
    for (size_t i = 0; i < j->decided_n; i++)
        part_unref(j->decided[i]);
    for (uint32_t i = 0; i < j->op_n; i++)
        free(j->ops[i].durations);
    for (uint32_t i = 0; i < j->pool_n; i++)
        free(j->pools[i].hash);
    free(j->parts);
    free(j->decided);
    free(j->ops);
    free(j->pools);
    free(j->seen);
    free(j->op_tab.slot);
    free(j->pool_tab.slot);
    free(j->seen_tab.slot);
    arena_fini(&j->names);
    rules_fini(&j->rules);
    free(j);
}

static bool is_open(const struct part *p)
{
    return !p->kept_ns && !p->left_alone;
}

/* The blocks of the window that are not decided, as many as may be judged together, and the decided
 * ones of it and of those beside it. */
static struct judge *judge_new(const struct version *v, const struct part *first, uint64_t width_ns)
{
    struct judge *j = xcalloc(1, sizeof *j);
    uint64_t window = first->end_ns / width_ns, spans = 0, traces = 0;
    j->names = arena_init(GIB);
    j->parts = xmalloc((v->part_n + 1) * sizeof(struct part *));
    j->decided = xmalloc((v->part_n + 1) * sizeof(struct part *));
    for (size_t i = 0; i < v->part_n; i++) {
        struct part *p = v->parts[i];
        uint64_t w = p->end_ns / width_ns;
        if (p->tenant != first->tenant)
            continue;
        if (p->kept_ns && w + 1 >= window && w <= window + 1)
            j->decided[j->decided_n++] = part_ref(p);
        if (w != window || (p != first && !is_open(p)))
            continue;
        spans += p->spans;
        traces += block_meta(p->block)->trace_count;
        if (j->n && (spans > JUDGE_SPANS_MAX || traces > JUDGE_TRACES_MAX))
            break;
        j->parts[j->n++] = part_ref(p);
    }
    return j;
}

/* Reads one block. False: nothing is left to read, and everything is known. */
static bool judge_step(struct judge *j, enum errc *rc, struct err *e)
{
    if (j->pass == 2)
        return false;
    *rc = block_scan(j->parts[j->at]->block, j->pass ? judge_chain : learn_chain, j, e);
    if (*rc == E_OK && j->names.failed)
        *rc = fail(e, E_NO_MEMORY, "the names of the operations are too many");
    if (*rc != E_OK)
        return false;
    if (++j->at == j->n) {
        if (j->pass++ == 0)
            learn_end(j);
        else
            list_classes(j);
        j->at = 0;
    }
    return true;
}

/* --- the builder's part --- */

void store_decide_abandon(struct store *s)
{
    judge_free(s->judge);
    s->judge = NULL;
}

static bool take_rules(struct store *s, struct rules *out)
{
    pthread_mutex_lock(&s->lock);
    enum errc rc = rules_parse(out, str_from_c(s->rules_text), NULL);
    pthread_mutex_unlock(&s->lock);
    return rc == E_OK && out->n; /* they were read when they were set */
}

/* The oldest window that has reached the age. */
static struct judge *choose(struct store *s, const struct store_config *c)
{
    uint64_t age_ns = c->drop_ns ? c->drop_ns : c->retention_ns, width_ns = store_window_ns(c);
    uint64_t now_ns = os_now_ns(s->os);
    if (!c->longest_ns || !age_ns)
        return NULL;
    struct version *v = store_version(s);
    const struct part *first = NULL;
    for (size_t i = 0; i < v->part_n; i++) {
        const struct part *p = v->parts[i];
        uint64_t due_ns = (p->end_ns / width_ns + 1) * width_ns;
        if (is_open(p) && now_ns > age_ns && due_ns < now_ns - age_ns &&
            (!first || p->end_ns / width_ns < first->end_ns / width_ns))
            first = p;
    }
    struct judge *j = first ? judge_new(v, first, width_ns) : NULL;
    version_unref(v);
    if (j && !take_rules(s, &j->rules)) {
        judge_free(j);
        j = NULL;
    }
    return j;
}

enum decide_result store_decide_step(struct store *s, const struct store_config *c,
                                     struct part **part, const struct rewrite_class **class,
                                     size_t *class_n)
{
    struct err e;
    enum errc rc = E_OK;
    struct judge *j = s->judge;
    if (!j && !(j = s->judge = choose(s, c)))
        return DECIDE_NOTHING;
    if (judge_step(j, &rc, &e))
        return DECIDE_BUSY;
    if (rc != E_OK) {
        struct part *p = j->parts[j->at];
        log_error("store", "%s cannot be judged by the rules: %s", p->path, err_msg(&e));
        if (rc == E_CORRUPT || rc == E_NO_MEMORY || ++p->unreadable == UNREADABLE_MAX)
            p->left_alone = true; /* or one bad sector would be in the way of all others */
        s->compact_at_ns = os_mono_ns(s->os) + DECIDE_PAUSE_NS;
    }
    if (rc != E_OK || j->at == j->n) {
        store_decide_abandon(s);
        return DECIDE_BUSY;
    }
    static const struct rewrite_class nothing = {.change = {.keep = keep_none}, .kept_ns = 1};
    *part = j->parts[j->at++];
    *class = j->class_n ? j->classes : &nothing;
    *class_n = max_size(j->class_n, 1);
    return DECIDE_REWRITE;
}

/* --- dry run --- */

static void report(const struct judge *j, uint64_t bytes, uint64_t spans,
                   struct store_rules_report *out)
{
    for (uint32_t i = 0; i < j->seen_n; i++) {
        const struct seen *x = &j->seen[i];
        bool kept = kept_ns(j, x) > 0;
        struct store_rule_share *shares[RULES_MAX + 2] = {&out->all, kept ? &out->kept : NULL};
        for (uint32_t k = 0; k < j->rules.n; k++)
            shares[k + 2] = x->mask >> k & 1 ? &out->rule[k] : NULL;
        for (size_t k = 0; k < ARRAY_LEN(shares); k++)
            if (shares[k]) {
                shares[k]->traces++;
                shares[k]->spans += x->spans;
                shares[k]->bytes += (uint64_t)((double)bytes * x->spans / (double)spans);
            }
    }
}

static enum errc try_window(struct store *s, const struct version *v, const struct part *first,
                            uint64_t width_ns, const struct rules *rules, uint64_t *last,
                            struct store_rules_report *out, struct err *e)
{
    struct judge *j = judge_new(v, first, width_ns);
    uint64_t bytes = 0, spans = 0;
    enum errc rc = E_OK;
    j->rules = *rules;
    j->rules.words = NULL; /* the caller's */
    for (size_t i = 0; i < j->n; i++) {
        bytes += j->parts[i]->bytes;
        spans += j->parts[i]->spans;
    }
    while (rc == E_OK && judge_step(j, &rc, e))
        if (store_rewrite_stopped(s))
            rc = fail(e, E_CANCELLED, "the server stops");
    if (rc == E_OK)
        report(j, bytes, spans, out);
    *last = j->parts[j->n - 1]->id;
    judge_free(j);
    return rc;
}

/* Part i begins what is judged together: those before it of its window were judged. */
enum errc store_try_rules(struct store *s, struct str text, struct store_rules_report *out,
                          struct err *e)
{
    *out = (struct store_rules_report){0};
    enum errc rc = E_OK;
    if (text.n)
        rc = rules_parse(&out->rules, text, e);
    else
        (void)take_rules(s, &out->rules);
    if (rc == E_OK && !out->rules.n)
        rc = fail(e, E_USAGE, "there are no rules");
    if (rc == E_OK)
        rc = store_flush(s, e);
    if (rc != E_OK)
        return rc;
    pthread_mutex_lock(&s->lock);
    uint64_t width_ns = store_window_ns(&s->config);
    struct version *now = version_ref(s->version);
    pthread_mutex_unlock(&s->lock);
    struct version *v = version_copy(now, 0); /* loses what was judged */
    version_unref(now);
    while (rc == E_OK) {
        size_t i = 0, kept = 0;
        uint64_t last = 0;
        while (i < v->part_n && !is_open(v->parts[i]))
            i++;
        if (i == v->part_n)
            break;
        const uint32_t tenant = v->parts[i]->tenant;
        const uint64_t window = v->parts[i]->end_ns / width_ns;
        rc = try_window(s, v, v->parts[i], width_ns, &out->rules, &last, out, e);
        for (i = 0; i < v->part_n; i++) {
            struct part *p = v->parts[i];
            if (is_open(p) && p->tenant == tenant && p->end_ns / width_ns == window &&
                p->id <= last)
                part_unref(p);
            else
                v->parts[kept++] = p;
        }
        v->part_n = kept;
    }
    version_unref(v);
    return rc;
}
