/* SPDX-License-Identifier: Apache-2.0 */
/* The summary of a trace of any size, from glances at its spans as they are stored.
 *
 * All but one number comes from one pass. How many spans wait for a parent that is not in the trace
 * takes a second one over the ids, and only when there are spans whose block does not say that it
 * has their parent: the ids waited for are put into a table, then each id of the trace is crossed
 * out. A table that gets full keeps the ids whose hash lies in the lower half of its range, and in
 * half of that …; the rest of the range is the next round's. So memory is the table's, the answer
 * is exact, and rounds are at most twice as many as tables the ids waited for would fill: one, but
 * for traces that are mostly fragments. After the last round allowed the number is not known. */
#include "base/bytes.h"
#include "base/idmap.h"
#include "engine/query/query.h"

#include <stdlib.h>

const struct summary_bounds summary_bounds = {.services_shown = SUMMARY_SERVICES_SHOWN,
                                              .services_held = SUMMARY_SERVICES_HELD,
                                              .awaited = SUMMARY_AWAITED_HELD,
                                              .rounds = SUMMARY_ROUNDS_MAX};

/* The round in which a parent is looked for. */
struct awaited {
    struct idmap ids; /* how many spans wait for each; its slots are NULL until there is one */
    uint64_t seed, from, upto;
    uint32_t n;
    bool failed;
};

struct tally {
    const struct summary_bounds *bounds;
    struct trace_summary *out;
    struct arena *a;
    struct service_summary *slots, *last; /* last: of the span before */
    size_t mask, name_bytes;
    uint64_t seed;
    uint32_t held;
    bool passed_over; /* a service had no place */
    uint64_t root_ns, root_id;
    struct buf root_service, root_operation;
    struct awaited awaited;
};

/* --- parents --- */

static uint64_t round_of(const struct awaited *w, uint64_t id)
{
    return hash_u64(id, w->seed);
}

/* Leaves the upper half of the range to a later round. What stays is put in again, in the order of
 * the slots from behind a free one: so it finds its place where it was or before that. */
static void awaited_halve(struct awaited *w)
{
    struct idmap_slot *slots = w->ids.slots;
    size_t mask = w->ids.mask, from = 0;
    bool fresh;
    w->upto = w->from + (w->upto - w->from) / 2;
    w->n = 0;
    while (slots[from].used)
        from++; /* the table is half empty at least */
    for (size_t i = 1; i <= mask; i++) {
        struct idmap_slot *slot = &slots[(from + i) & mask], was = *slot;
        *slot = (struct idmap_slot){0};
        if (was.used && round_of(w, was.key) <= w->upto) {
            idmap_put(&w->ids, was.key, was.value, &fresh);
            w->n++;
        }
    }
}

static void await(struct tally *t, uint64_t id)
{
    struct awaited *w = &t->awaited;
    bool fresh;
    if (!w->ids.slots && !idmap_init(&w->ids, t->bounds->awaited, t->a))
        w->failed = true;
    if (w->failed || round_of(w, id) < w->from)
        return;
    while (round_of(w, id) <= w->upto) {
        uint32_t *waiting = w->n < t->bounds->awaited ? idmap_put(&w->ids, id, 0, &fresh)
                                                      : idmap_get(&w->ids, id);
        if (waiting) {
            w->n += !(*waiting)++;
            return;
        }
        if (w->from == w->upto) { /* as many ids of one hash: not by chance */
            w->failed = true;
            return;
        }
        awaited_halve(w);
    }
}

static void await_parent(void *arg, const struct span_glance *s)
{
    if (s->parent == GLANCE_PARENT_BY_ID)
        await(arg, s->parent_id);
}

static void cross_out(void *arg, const struct span_glance *s)
{
    struct tally *t = arg;
    uint32_t *waiting = idmap_get(&t->awaited.ids, s->span_id);
    if (waiting)
        *waiting = 0;
}

static void awaited_next(struct awaited *w)
{
    w->from = w->upto + 1;
    w->upto = UINT64_MAX;
    w->n = 0;
    memset(w->ids.slots, 0, (w->ids.mask + 1) * sizeof *w->ids.slots);
}

/* The first round's ids were gathered on the way. */
static enum errc count_orphans(struct tally *t, struct snap *s, struct str tenant,
                               const uint8_t id[16], struct err *e)
{
    struct awaited *w = &t->awaited;
    enum errc rc = E_OK;
    for (uint32_t n = 0; rc == E_OK && w->ids.slots && !w->failed; n++) {
        if (n == t->bounds->rounds) {
            t->out->orphan_count = 0;
            t->out->orphans_unknown = true;
            break;
        }
        rc = snap_trace_glance(s, tenant, id, GLANCE_IDS, t->a->budget, cross_out, t, e);
        for (size_t i = 0; i <= w->ids.mask; i++)
            t->out->orphan_count += w->ids.slots[i].value;
        if (rc || w->upto == UINT64_MAX)
            break;
        awaited_next(w);
        rc = snap_trace_glance(s, tenant, id, GLANCE_PARENTS, t->a->budget, await_parent, t, e);
    }
    return rc;
}

/* --- services --- */

/* NULL: there is no place for it. */
static struct service_summary *service_slot(struct tally *t, struct str name)
{
    if (t->last && str_eq(t->last->name, name))
        return t->last;
    size_t at = (size_t)hash_str(name, t->seed) & t->mask;
    while (t->slots[at].span_count && !str_eq(t->slots[at].name, name))
        at = (at + 1) & t->mask;
    struct service_summary *slot = &t->slots[at];
    if (!slot->span_count) {
        if (t->held == t->bounds->services_held || name.n > SUMMARY_NAMES_BYTES - t->name_bytes)
            return NULL;
        slot->name = arena_str(t->a, name);
        t->name_bytes += name.n;
        t->held++;
    }
    return t->last = slot;
}

static void count_service(struct tally *t, const struct span_glance *s)
{
    struct service_summary *slot = service_slot(t, s->service);
    if (!slot) {
        t->passed_over = true;
        slot = &t->out->others;
    }
    slot->span_count++;
    slot->error_count += s->status == STATUS_ERROR;
}

int service_by_spans(const void *a, const void *b)
{
    const struct service_summary *x = a, *y = b;
    if (x->span_count != y->span_count)
        return x->span_count > y->span_count ? -1 : 1;
    return str_cmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    return str_cmp(((const struct service_summary *)a)->name,
                   ((const struct service_summary *)b)->name);
}

static void list_services(struct tally *t)
{
    struct trace_summary *out = t->out;
    uint32_t n = 0;
    for (size_t i = 0; i <= t->mask; i++)
        if (t->slots[i].span_count)
            t->slots[n++] = t->slots[i];
    qsort(t->slots, n, sizeof *t->slots, service_by_spans);
    out->services = t->slots;
    out->service_count = (uint32_t)min_u64(n, t->bounds->services_shown);
    for (uint32_t i = out->service_count; i < n; i++) {
        out->others.span_count += t->slots[i].span_count;
        out->others.error_count += t->slots[i].error_count;
    }
    out->other_services = t->passed_over ? 0 : n - out->service_count;
    if (out->service_count)
        qsort(out->services, out->service_count, sizeof *out->services, by_name);
}

/* --- all --- */

static void keep_text(struct buf *b, struct str s)
{
    buf_reset(b);
    buf_add_str(b, s);
}

/* As repair_ends of the adjusters has it. */
static uint64_t repaired_end(const struct span_glance *s)
{
    return s->end_ns >= s->start_ns ? s->end_ns : s->start_ns + (s->start_ns < UINT64_MAX);
}

static void count_span(void *arg, const struct span_glance *s)
{
    struct tally *t = arg;
    struct trace_summary *out = t->out;
    out->span_count++;
    out->error_count += s->status == STATUS_ERROR;
    out->min_start_ns = min_u64(out->min_start_ns, s->start_ns);
    out->max_end_ns = max_u64(out->max_end_ns, repaired_end(s));
    count_service(t, s);
    if (s->parent == GLANCE_PARENT_BY_ID)
        await(t, s->parent_id);
    if (s->parent != GLANCE_ROOT)
        return;
    bool first = !out->root_count++ || s->start_ns < t->root_ns ||
                 (s->start_ns == t->root_ns && s->span_id < t->root_id);
    if (first) {
        t->root_ns = s->start_ns;
        t->root_id = s->span_id;
        keep_text(&t->root_service, s->service);
        keep_text(&t->root_operation, s->name);
    }
}

static bool tally_init(struct tally *t, const struct summary_bounds *bounds, struct arena *a,
                       struct trace_summary *out)
{
    size_t slots = 16;
    while (slots / 2 < bounds->services_held)
        slots *= 2;
    *t = (struct tally){.bounds = bounds,
                        .out = out,
                        .a = a,
                        .slots = ARENA_ARRAY(a, struct service_summary, slots),
                        .mask = slots - 1,
                        .root_service = buf_init(SUMMARY_ROOT_BYTES),
                        .root_operation = buf_init(SUMMARY_ROOT_BYTES)};
    /* As in idmap.h: an address nobody outside knows. */
    t->seed = hash_u64((uintptr_t)t->slots ^ (uintptr_t)t, HASH_K2);
    t->awaited = (struct awaited){.seed = hash_u64(t->seed, HASH_K1), .upto = UINT64_MAX};
    return t->slots != NULL;
}

static enum errc tally_up(struct tally *t, struct snap *s, struct str tenant, const uint8_t id[16],
                          struct err *e)
{
    enum errc rc = snap_trace_glance(s, tenant, id, GLANCE_ALL, t->a->budget, count_span, t, e);
    if (rc == E_OK)
        rc = count_orphans(t, s, tenant, id, e);
    if (rc != E_OK)
        return rc;
    list_services(t);
    t->out->root_service = arena_str(t->a, buf_str(&t->root_service));
    t->out->root_operation = arena_str(t->a, buf_str(&t->root_operation));
    bool failed = t->a->failed || t->awaited.failed || t->root_service.failed ||
                  t->root_operation.failed;
    return failed ? fail(e, E_NO_MEMORY, "the summary needs more memory than a question may take")
                  : E_OK;
}

enum errc summarize_stored(struct snap *s, struct str tenant, const uint8_t id[16],
                           const struct summary_bounds *bounds, struct arena *a,
                           struct trace_summary *out, struct err *e)
{
    struct tally t;
    *out = (struct trace_summary){.min_start_ns = UINT64_MAX, .stored = true};
    memcpy(out->trace_id, id, 16);
    enum errc rc = tally_init(&t, bounds, a, out)
                       ? tally_up(&t, s, tenant, id, e)
                       : fail(e, E_NO_MEMORY, "no memory for the summary");
    buf_fini(&t.root_service);
    buf_fini(&t.root_operation);
    return rc;
}
