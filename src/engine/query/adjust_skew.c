/* SPDX-License-Identifier: Apache-2.0 */
/* Clock skew: a child on another host that does not lie within its parent is taken to have a wrong
 * clock, and is centred in the parent (or, when it lasted longer, at least not let start before
 * it). Its descendants on the same host share its delta. With a limit of zero, Jaeger's default,
 * deltas are computed and told in a warning, and nothing moves.
 *
 * Parents go before children: a queue over child lists visits each span once. Spans whose parent is
 * missing are roots; spans that repeat an id stay outside the tree; spans on a circle of parents
 * are reached from no root and stay as they are. */
#include "engine/query/adjust.h"

#include "base/num.h"
#include "model/kvs.h"
#include "model/value.h"

#define NONE UINT32_MAX

struct node {
    uint32_t parent, first_child, next_sibling; /* NONE */
    struct str host;                            /* empty: unknown */
    struct str skew_host;                       /* the host delta was computed for */
    int64_t delta;
    bool in_tree;
};

struct skew {
    struct adjust *x;
    struct node *nodes; /* one a span */
    uint32_t *queue;
    uint32_t queued;
    struct str *hosts; /* by resource */
};

/* host.id, else host.ip (the first of a list), else host.name. */
static struct str host_of(const struct resource *r, struct arena *a)
{
    const struct value *v = kvs_get(&r->attrs, STR("host.id"));
    if (v)
        return v->type == ATTR_STR ? v->s : STR_NONE;
    v = kvs_get(&r->attrs, STR("host.ip"));
    if (v && v->type == ATTR_STR)
        return v->s;
    if (v && v->type == ATTR_ARRAY) {
        struct value_iter it = value_iter_begin(v);
        struct str key;
        struct value first;
        if (value_iter_next(&it, &key, &first))
            return value_text(&first, a);
    }
    v = kvs_get(&r->attrs, STR("host.name"));
    return v && v->type == ATTR_STR ? v->s : STR_NONE;
}

static void warn(struct skew *k, struct span *s, struct str text)
{
    if (!span_warn(s, k->x->a, text))
        k->x->a->failed = true;
}

static bool skew_init(struct skew *k, struct adjust *x)
{
    uint32_t n = x->t->span_count;
    *k = (struct skew){.x = x};
    k->nodes = ARENA_ARRAY(x->a, struct node, n);
    k->queue = ARENA_ARRAY(x->a, uint32_t, n);
    k->hosts = ARENA_ARRAY(x->a, struct str, x->resources.count);
    if (!k->nodes || !k->queue || (x->resources.count && !k->hosts))
        return false;
    for (uint32_t i = 0; i < x->resources.count; i++)
        k->hosts[i] = host_of(x->resources.list[i], x->a);
    for (uint32_t i = 0; i < n; i++) {
        struct node *node = &k->nodes[i];
        uint32_t resource;
        if (adjust_resource(x, x->t->spans[i], &resource))
            node->host = k->hosts[resource];
        node->parent = node->first_child = node->next_sibling = NONE;
        node->in_tree = *idmap_get(&x->ids, span_key(x->t->spans[i]->span_id)) == i;
        if (!node->in_tree)
            warn(k, x->t->spans[i], STR("duplicate span IDs; skipping clock skew adjustment"));
    }
    return true;
}

static void warn_orphan(struct skew *k, struct span *s)
{
    char id[16];
    num_put_hex(id, s->parent_id, 8);
    warn(k, s,
         arena_printf(k->x->a,
                      "parent span ID=%.16s is not in the trace; skipping clock skew adjustment",
                      id));
}

/* Child lists, in the order of the trace, and the roots into the queue. */
static void plant(struct skew *k)
{
    for (uint32_t i = k->x->t->span_count; i-- > 0;) {
        struct span *s = k->x->t->spans[i];
        struct node *node = &k->nodes[i];
        const uint32_t *parent = span_has_parent(s) ? idmap_get(&k->x->ids, span_key(s->parent_id))
                                                    : NULL;
        if (!node->in_tree)
            continue;
        if (!parent) {
            if (span_has_parent(s))
                warn_orphan(k, s);
            k->queue[k->queued++] = i;
            continue;
        }
        node->parent = *parent;
        node->next_sibling = k->nodes[*parent].first_child;
        k->nodes[*parent].first_child = i;
    }
}

static int64_t difference(uint64_t a, uint64_t b)
{
    return a >= b ? (int64_t)min_u64(a - b, INT64_MAX) : -(int64_t)min_u64(b - a, INT64_MAX);
}

static int64_t delta_of(const struct span *child, const struct span *parent)
{
    uint64_t child_ns = span_duration_ns(child), parent_ns = span_duration_ns(parent);
    if (child_ns > parent_ns) /* asynchronous, or the parent gave up first */
        return child->start_ns < parent->start_ns ? difference(parent->start_ns, child->start_ns)
                                                  : 0;
    if (child->start_ns >= parent->start_ns && child->end_ns <= parent->end_ns)
        return 0;
    /* The way there and the way back are taken to be equally long. */
    return difference(parent->start_ns + (parent_ns - child_ns) / 2, child->start_ns);
}

static uint64_t shifted(uint64_t t, int64_t delta)
{
    if (delta < 0)
        return t - min_u64(t, (uint64_t)-delta);
    return t + min_u64(UINT64_MAX - t, (uint64_t)delta);
}

static void apply(struct skew *k, struct span *s, int64_t delta)
{
    struct arena *a = k->x->a;
    uint64_t limit = k->x->config->max_clock_skew_ns;
    char text[NUM_TEXT_MAX], limit_text[NUM_TEXT_MAX];
    int n = (int)num_put_duration(text, delta);
    if ((uint64_t)(delta < 0 ? -delta : delta) > limit) {
        int limit_n = (int)num_put_duration(limit_text, (int64_t)min_u64(limit, INT64_MAX));
        warn(k, s,
             limit ? arena_printf(a,
                                  "max clock skew adjustment delta of %.*s exceeded; not applying "
                                  "calculated delta of %.*s",
                                  limit_n, limit_text, n, text)
                   : arena_printf(a,
                                  "clock skew adjustment disabled; not applying calculated delta "
                                  "of %.*s",
                                  n, text));
        return;
    }
    s->start_ns = shifted(s->start_ns, delta);
    s->end_ns = shifted(s->end_ns, delta);
    for (uint32_t i = 0; i < s->event_count; i++)
        s->events[i].time_ns = shifted(s->events[i].time_ns, delta);
    warn(k, s, arena_printf(a, "This span's timestamps were adjusted by %.*s", n, text));
    k->x->moved = true;
}

static void visit(struct skew *k, uint32_t at)
{
    struct node *node = &k->nodes[at];
    struct span *s = k->x->t->spans[at];
    if (node->parent == NONE) {
        node->skew_host = node->host;
    } else {
        const struct node *parent = &k->nodes[node->parent];
        if (node->host.n && str_eq(node->host, parent->skew_host))
            node->delta = parent->delta;
        else
            node->delta = delta_of(s, k->x->t->spans[node->parent]);
        node->skew_host = node->host;
    }
    if (node->delta)
        apply(k, s, node->delta);
    for (uint32_t c = node->first_child; c != NONE; c = k->nodes[c].next_sibling)
        k->queue[k->queued++] = c;
}

bool adjust_clock_skew(struct adjust *x)
{
    struct skew k;
    if (!skew_init(&k, x))
        return false;
    plant(&k);
    for (uint32_t i = 0; i < k.queued; i++)
        visit(&k, k.queue[i]);
    return !x->a->failed;
}
