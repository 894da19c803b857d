/* SPDX-License-Identifier: Apache-2.0 */
/* Retention rules: how they are read, and what they keep, against a naive decision over all traces
 * of random worlds. */
#include "base/hash.h"
#include "base/log.h"
#include "base/os/sim.h"
#include "base/stats.h"
#include "store/trace/rules.h"
#include "tests/harness.h"
#include "tests/unit/store/world.h"

#include <stdio.h>
#include <stdlib.h>

#define DAY_NS  (86400 * NS_PER_S)
#define HOUR_NS (3600 * NS_PER_S)

/* --- the language --- */

TEST(rules_are_read)
{
    struct rules r;
    CHECK_OK(rules_parse(&r,
                         STR(" keep error for 30d;keep slow p99 for 48h\nkeep service a,b for 14d;"
                             "; keep attribute \"tenant.tier=gold; old\" for 60d; keep attribute k "
                             "for 3d; sample 20 per operation per hour for 90d; drop after 24h;"),
                         NULL));
    CHECK_INT(r.n, 6);
    CHECK_INT(r.drop_ns, DAY_NS);
    CHECK_INT(r.longest_ns, 90 * DAY_NS);
    CHECK(r.v[1].kind == RULE_SLOW && r.v[1].for_ns == 2 * DAY_NS);
    CHECK(str_eq_c(r.v[2].key, "a,b") && str_eq_c(r.v[3].value, "gold; old"));
    CHECK(str_eq_c(r.v[4].key, "k") && !r.v[4].has_value && r.v[5].count == 20);
    rules_fini(&r);
    CHECK_OK(rules_parse(&r, STR(" ; \n"), NULL));
    CHECK_INT(r.n, 0);
    rules_fini(&r);
}

TEST(rules_say_what_is_wrong)
{
    static const struct {
        const char *text, *said;
    } rows[] = {
        {"keep errors for 3d",
         "rule 1: error, slow, service or attribute is expected where \"errors\" stands"},
        {"keep error for 3d; keep slow p95 for 3d", "rule 2: p99 is expected where \"p95\" stands"},
        {"keep error for ever",
         "rule 1: a duration such as 30d or 24h is expected where \"ever\" stands"},
        {"keep error for", "rule 1: a duration such as 30d or 24h is expected where \"its end\""},
        {"sample 0 per operation per hour for 3d",
         "rule 1: a number from 1 to 1000 is expected where \"0\" stands"},
        {"keep error for 3d please", "rule 1: its end is expected where \"please\" stands"},
        {"forget it", "rule 1: keep, sample or drop is expected where \"forget it\" stands"},
        {"drop after 1h; drop after 2h", "there is a `drop after` already"},
        {"drop after 1h", "alone keeps nothing"},
        {"keep error for 1h; drop after 2h", "it is shorter than `drop after`"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rules r;
        struct err e = {0};
        CHECK_INT(rules_parse(&r, str_from_c(rows[i].text), &e), E_USAGE);
        if (!strstr(err_msg(&e), rows[i].said))
            test_fail(__FILE__, __LINE__, "%s: %s", rows[i].text, err_msg(&e));
    }
}

/* --- what they keep --- */

#define RULES                                                                          \
    "keep service svc1 for 5d; keep slow p99 for 9d; keep attribute text=abc for 9d; " \
    "sample 1 per operation per hour for 20d; drop after 24h"

struct run {
    struct os *os;
    struct store_config c;
    struct store *s;
    struct world *w;
};

static void run_begin(struct run *r, uint64_t seed)
{
    log_setup((enum log_level)(LOG_ERROR + 1), LOG_TEXT);
    *r = (struct run){.os = os_sim_new(seed)};
    store_config_defaults(&r->c, r->os, "/data");
    r->c.threads = false;
    r->c.memtable_bytes = 16 * KIB;
    r->c.retention_ns = 7 * DAY_NS;
    r->c.compact_fanin = seed % 2 ? 4 : 0;
    r->c.rules = RULES;
    r->w = world_new(seed, os_now_ns(r->os));
    CHECK_OK(store_open(&r->s, &r->c, NULL));
}

static void run_end(struct run *r)
{
    store_close(r->s);
    world_free(r->w);
    os_sim_free(r->os);
}

static void pass(struct run *r, uint64_t ns)
{
    sim_advance(r->os, ns);
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned k = 0; store_step(r->s); k++)
            CHECK(k < 100000);
        sim_advance(r->os, 70 * NS_PER_S);
    }
}

static void send(struct run *r, unsigned batches)
{
    while (batches--) {
        CHECK_OK(world_append(r->w, r->s, 8));
        (void)store_step(r->s);
    }
    CHECK_OK(store_flush(r->s, NULL));
}

/* Every trace of a tenant, whole. */
struct all {
    struct snap *snap;
    struct str tenant;
    struct arena a;
    struct trace *v[SENT_MAX];
    uint64_t days[SENT_MAX]; /* how long it is to be kept */
    size_t n;
};

static bool take(void *arg, const uint8_t id[16])
{
    struct all *l = arg;
    CHECK(l->n < SENT_MAX);
    CHECK_OK(snap_trace(l->snap, l->tenant, id, &l->a, &l->v[l->n++], NULL));
    return true;
}

static void all_begin(struct all *l, struct run *r, const char *tenant)
{
    l->snap = store_snap(r->s);
    l->tenant = str_from_c(tenant);
    l->a = arena_init(256 * MIB);
    l->n = 0;
    CHECK_OK(snap_each_trace(l->snap, l->tenant, 0, UINT64_MAX, take, l, NULL));
}

static void all_end(struct all *l)
{
    arena_fini(&l->a);
    snap_unref(l->snap);
}

static bool same_op(const struct span *a, const struct span *b)
{
    return a->kind == b->kind && str_eq(a->name, b->name) &&
           str_eq(a->resource->service, b->resource->service);
}

/* More than 99 of 100 spans of the operation are shorter. */
static bool is_slow(const struct all *l, const struct span *s)
{
    uint64_t total = 0, not_shorter = 0;
    for (size_t i = 0; i < l->n; i++)
        for (uint32_t k = 0; k < l->v[i]->span_count; k++) {
            const struct span *o = l->v[i]->spans[k];
            total += same_op(o, s);
            not_shorter += same_op(o, s) && span_duration_ns(o) >= span_duration_ns(s);
        }
    return not_shorter * 100 <= total;
}

static uint64_t print_of(const uint8_t id[16])
{
    return hash_mix(load_u64le(id) ^ HASH_K0, load_u64le(id + 8) ^ HASH_K1);
}

static bool is_first_of_hour(const struct all *l, const struct span *s)
{
    for (size_t i = 0; i < l->n; i++)
        for (uint32_t k = 0; k < l->v[i]->span_count; k++) {
            const struct span *o = l->v[i]->spans[k];
            if (same_op(o, s) && o->start_ns / HOUR_NS == s->start_ns / HOUR_NS &&
                print_of(o->trace_id) < print_of(s->trace_id))
                return false;
        }
    return true;
}

static uint64_t days_of(const struct all *l, const struct span *s)
{
    uint64_t days = str_eq_c(s->resource->service, "svc1") ? 5 : 0;
    for (uint32_t i = 0; i < s->attrs.n; i++)
        if (str_eq_c(s->attrs.v[i].key, "text") && str_eq_c(s->attrs.v[i].val.s, "abc"))
            days = 9;
    if (is_slow(l, s))
        days = 9;
    return is_first_of_hour(l, s) ? 20 : days;
}

static void decide(struct all *l)
{
    for (size_t i = 0; i < l->n; i++) {
        l->days[i] = 0;
        for (uint32_t k = 0; k < l->v[i]->span_count; k++)
            l->days[i] = max_u64(l->days[i], days_of(l, l->v[i]->spans[k]));
    }
}

static const struct trace *find(const struct all *l, const uint8_t id[16])
{
    for (size_t i = 0; i < l->n; i++)
        if (memcmp(l->v[i]->id, id, 16) == 0)
            return l->v[i];
    return NULL;
}

/* What is there now is what was to be kept longer than `days`, whole. */
static void expect(struct run *r, const struct all *before, uint64_t days)
{
    static struct all now;
    all_begin(&now, r, before->tenant.p);
    size_t n = 0;
    for (size_t i = 0; i < before->n; i++) {
        const struct trace *t = find(&now, before->v[i]->id);
        CHECK((t != NULL) == (before->days[i] > days));
        CHECK(!t || t->span_count == before->v[i]->span_count);
        n += t != NULL;
    }
    CHECK_INT(now.n, n);
    all_end(&now);
}

static uint64_t calls(struct run *r, const char *tenant)
{
    struct arena a = arena_init(MIB);
    struct dependency *v;
    size_t n, services;
    struct str *names;
    uint64_t sum = 0;
    struct snap *snap = store_snap(r->s);
    CHECK_OK(snap_dependencies(snap, str_from_c(tenant), 0, UINT64_MAX, &a, &v, &n));
    for (size_t i = 0; i < n; i++)
        sum += v[i].calls;
    CHECK_OK(snap_services(snap, str_from_c(tenant), &a, &names, &services));
    snap_unref(snap);
    arena_fini(&a);
    return sum * 100 + services;
}

static void keeps_as_decided(uint64_t seed, bool restart)
{
    static struct all first, other;
    struct run r;
    struct store_rules_report would;
    run_begin(&r, seed);
    send(&r, 60);
    all_begin(&first, &r, "default");
    all_begin(&other, &r, "other");
    decide(&first);
    decide(&other);
    uint64_t counts = calls(&r, "default"), kept = 0;
    for (size_t i = 0; i < first.n; i++)
        kept += first.days[i] > 0;
    for (size_t i = 0; i < other.n; i++)
        kept += other.days[i] > 0;
    CHECK_OK(store_try_rules(r.s, STR(RULES), &would, NULL));
    CHECK_INT(would.all.traces, first.n + other.n);
    CHECK_INT(would.all.spans, r.w->span_n - 1);
    CHECK_INT(would.kept.traces, kept);
    CHECK(kept > 0 && kept < first.n + other.n);
    rules_fini(&would.rules);
    pass(&r, 23 * HOUR_NS);
    CHECK(find(&first, first.v[0]->id) != NULL);
    pass(&r, 24 * HOUR_NS); /* a window, and the age */
    expect(&r, &first, 0);
    expect(&r, &other, 0);
    CHECK_INT(calls(&r, "default"), counts);
    int64_t rewritten = stat_get(STAT_COMPACTED_SPANS);
    pass(&r, 2 * DAY_NS);
    if (!r.c.compact_fanin)
        CHECK_INT(stat_get(STAT_COMPACTED_SPANS), rewritten); /* once is enough */
    if (restart) {
        store_close(r.s);
        CHECK_OK(store_open(&r.s, &r.c, NULL));
    }
    pass(&r, 2 * DAY_NS);
    expect(&r, &first, 5);
    expect(&r, &other, 5);
    pass(&r, 4 * DAY_NS);
    expect(&r, &first, 9);
    pass(&r, 11 * DAY_NS);
    expect(&r, &first, 20);
    all_end(&first);
    all_end(&other);
    run_end(&r);
}

TEST(rules_keep_what_a_naive_reader_keeps)
{
    for (uint64_t seed = 1; seed <= 12; seed++)
        keeps_as_decided(seed, seed % 3 == 0);
}

/* Spans that come after their window was decided stay with their trace, or are judged alone. */
TEST(rules_late_spans_follow_their_trace)
{
    static struct all first;
    struct run r;
    run_begin(&r, 21);
    send(&r, 40);
    all_begin(&first, &r, "default");
    decide(&first);
    pass(&r, 47 * HOUR_NS);
    expect(&r, &first, 0);
    r.c.rules = "keep error for 30d; drop after 24h"; /* not this span */
    store_reconfigure(r.s, &r.c);
    struct batch_builder bb;
    batch_builder_init(&bb);
    size_t at = 0;
    while (first.days[at] != 5)
        at++;
    bb_group_begin(&bb);
    bb_attr_str(&bb, STR("service.name"), ATTR_STR, STR("svc1"));
    bb_group_scope(&bb);
    bb_group_end(&bb);
    struct span_rec *s = bb_span(&bb);
    memcpy(s->trace_id, first.v[at]->id, 16);
    memset(s->span_id, 7, 8);
    s->start_ns = first.v[at]->spans[0]->start_ns + 1;
    s->end_ns = s->start_ns;
    bb_name(&bb, s, STR("late"));
    CHECK(bb_span_end(&bb));
    struct sent_batch late = {.fate = FATE_OPEN};
    CHECK_OK(batch_seal(&bb, STR("default"), r.w->base_ns + 1, &late.ticket.batch, NULL));
    late.ticket.done = r.w->batches[0].ticket.done;
    CHECK_OK(store_append(r.s, &late.ticket));
    CHECK_OK(store_flush(r.s, NULL));
    pass(&r, HOUR_NS);
    struct snap *snap = store_snap(r.s);
    struct trace *t;
    CHECK_OK(snap_trace(snap, STR("default"), first.v[at]->id, &first.a, &t, NULL));
    CHECK_INT(t->span_count, first.v[at]->span_count + 1);
    snap_unref(snap);
    batch_unref(late.ticket.batch);
    batch_builder_fini(&bb);
    all_end(&first);
    run_end(&r);
}

static void put_span(struct batch_builder *bb, uint8_t id, const char *service, uint64_t start_ns)
{
    bb_group_begin(bb);
    bb_attr_str(bb, STR("service.name"), ATTR_STR, str_from_c(service));
    bb_group_scope(bb);
    bb_group_end(bb);
    struct span_rec *s = bb_span(bb);
    memset(s->trace_id, id, 16);
    store_u64le(s->span_id, start_ns);
    s->start_ns = s->end_ns = start_ns;
    bb_name(bb, s, STR("one"));
    CHECK(bb_span_end(bb));
}

/* They came when the world began. */
static void send_put(struct run *r, struct batch_builder *bb)
{
    struct sent_batch sent = {.fate = FATE_OPEN};
    CHECK_OK(batch_seal(bb, STR("default"), r->w->base_ns + 1, &sent.ticket.batch, NULL));
    batch_builder_reset(bb);
    sent.ticket.done = r->w->batches[0].ticket.done;
    CHECK_OK(store_append(r->s, &sent.ticket));
    (void)store_step(r->s); /* it is taken */
    CHECK_OK(store_flush(r->s, NULL));
    batch_unref(sent.ticket.batch);
}

/* As many times to keep as there can be rules, and one more of rules that were. */
TEST(rules_of_before_are_one_class_more)
{
    struct run r;
    struct batch_builder bb;
    struct buf text = buf_init(4 * KIB);
    struct arena a = arena_init(MIB);
    struct trace *t;
    char service[8];
    run_begin(&r, 2);
    send(&r, 1);
    batch_builder_init(&bb);
    put_span(&bb, 99, "svc1", NS_PER_S);
    send_put(&r, &bb);
    pass(&r, 47 * HOUR_NS);
    for (unsigned i = 0; i < RULES_MAX; i++)
        buf_addf(&text, "keep service s%u for %ud; ", i, 31 + i);
    buf_add_c(&text, "drop after 24h");
    buf_add_char(&text, 0);
    r.c.rules = text.p;
    store_reconfigure(r.s, &r.c);
    for (unsigned i = 0; i < RULES_MAX; i++) {
        snprintf(service, sizeof service, "s%u", i);
        put_span(&bb, (uint8_t)(i + 1), service, (2 + i) * NS_PER_S);
    }
    put_span(&bb, 99, "late", 99 * NS_PER_S);
    send_put(&r, &bb);
    pass(&r, HOUR_NS);
    struct snap *snap = store_snap(r.s);
    for (uint8_t i = 0; i <= RULES_MAX; i++) {
        uint8_t id[16];
        memset(id, i < RULES_MAX ? i + 1 : 99, 16);
        CHECK_OK(snap_trace(snap, STR("default"), id, &a, &t, NULL));
        CHECK_INT(t ? t->span_count : 0, i < RULES_MAX ? 1 : 2);
    }
    snap_unref(snap);
    arena_fini(&a);
    buf_fini(&text);
    batch_builder_fini(&bb);
    run_end(&r);
}

static enum errc cannot_read(struct os_file *f, void *out, size_t n, uint64_t off, size_t *got,
                             struct err *e)
{
    (void)f;
    (void)out;
    (void)n;
    (void)off;
    (void)got;
    return fail(e, E_IO, "a bad sector");
}

/* A block that cannot be read is not in the way of others, and goes when no rule would keep it. */
TEST(rules_leave_an_unreadable_block_alone)
{
    struct run r;
    struct store_stats stats;
    run_begin(&r, 3);
    send(&r, 10);
    const struct os_ops *real = r.os->ops;
    struct os_ops ops = *real;
    ops.pread = cannot_read;
    r.os->ops = &ops;
    for (unsigned i = 0; i < 19; i++) /* it is tried again first */
        pass(&r, DAY_NS);
    store_stats(r.s, &stats);
    CHECK_INT(stats.block_spans, r.w->span_n - 1);
    pass(&r, DAY_NS);
    store_stats(r.s, &stats);
    CHECK_INT(stats.block_spans, 0);
    r.os->ops = real;
    run_end(&r);
}

/* Repair, search --data and the like do not know the settings of the server. */
TEST(rules_a_visitor_forgets_nothing)
{
    struct run r;
    struct store_config visitor;
    struct store_stats before, after;
    run_begin(&r, 4);
    send(&r, 20);
    pass(&r, 47 * HOUR_NS);
    store_stats(r.s, &before);
    CHECK(before.block_spans > 0);
    store_close(r.s);
    sim_advance(r.os, 90 * DAY_NS);
    store_config_visitor(&visitor, r.os, "/data");
    visitor.threads = false;
    CHECK_OK(store_open(&r.s, &visitor, NULL));
    pass(&r, DAY_NS);
    store_stats(r.s, &after);
    CHECK_INT(after.block_spans, before.block_spans);
    CHECK_INT(after.block_count, before.block_count);
    store_close(r.s);
    CHECK_OK(store_open(&r.s, &r.c, NULL));
    store_stats(r.s, &after);
    CHECK_INT(after.block_spans, 0);
    run_end(&r);
}

/* Failing calls and power cuts while it is decided: what is to stay stays, whole. */
static bool fault_run(uint64_t seed, uint64_t k)
{
    static struct all first;
    struct run r;
    run_begin(&r, seed);
    r.c.sync = SYNC_EACH;
    send(&r, 25);
    all_begin(&first, &r, "default");
    decide(&first);
    uint64_t calls_before = sim_calls(r.os);
    sim_fail_after(r.os, k, E_IO, true);
    snap_unref(first.snap); /* of the store that is about to die */
    pass(&r, 47 * HOUR_NS);
    bool reached = sim_calls(r.os) - calls_before >= k;
    sim_fail_after(r.os, 1, E_IO, true);
    store_close(r.s);
    sim_crash(r.os);
    sim_fail_after(r.os, 0, E_OK, false);
    CHECK_OK(store_open(&r.s, &r.c, NULL));
    static struct all now;
    pass(&r, HOUR_NS);
    all_begin(&now, &r, "default");
    for (size_t i = 0; i < first.n; i++) {
        const struct trace *t = find(&now, first.v[i]->id);
        /* More: a cut manifest may bring a block back beside what was made of it. */
        CHECK(!first.days[i] || (t && t->span_count >= first.v[i]->span_count));
    }
    all_end(&now);
    first.snap = store_snap(r.s);
    all_end(&first);
    run_end(&r);
    return reached;
}

TEST(rules_fault_sweep)
{
    for (uint64_t seed = 30; seed < 32; seed++)
        for (uint64_t k = 1; fault_run(seed, k); k++)
            ;
}
