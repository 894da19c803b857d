/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a submitted builder:
 *
 *   all spans bad, or none ──────────────────────────────► done(E_OK), nothing stored
 *   bad tenant, batch past a cap ────────────────────────► done(final error)
 *   budget used up, store refuses ───────────────────────► done(retryable)
 *   store_append takes it ─► writer thread ─► logged ────► done(E_OK)
 *                                          └► failed ────► done(retryable)
 *
 * 1. done runs exactly once, by submission_end() alone; the submission is freed there.
 * 2. `pending` is the sum of batch_bytes() of batches the store holds unacknowledged. It is raised
 *    before store_append and lowered in submission_end(), whichever thread that runs on, so it
 *    never passes the budget and falls back to zero.
 * 3. Rejected spans are counted with the answer that tells the sender about them. A retryable
 *    answer counts the whole request as refused instead: it will come again.
 * 4. An error of the store is retryable to the sender, whatever it is to us: the spans are sound
 *    and must not be thrown away because our disk is not. */
#include "engine/ingest/ingest.h"

#include "base/stats.h"

#include <stdlib.h>

/* What a refused sender is asked to wait. A queue empties in milliseconds but exporters wait in
 * step; a full disk waits for retention or for a human. */
#define RETRY_BUSY_MS 1000u
#define RETRY_DISK_MS 30000u

#define TOO_MANY_WAITING "too many spans are waiting to be stored"

struct ingest {
    struct store *store;
    struct os *os;
    uint64_t pending_max_bytes;
    _Atomic uint64_t pending_bytes;
};

struct submission {
    struct store_ticket ticket; /* first: the store hands it back */
    struct ingest *in;
    ingest_done *done;
    void *arg;
    uint64_t held_bytes; /* our share of pending_bytes */
    uint32_t spans;
    uint32_t rejected[REJECT_COUNT];
    struct ingest_result result;
};

struct ingest *ingest_new(struct store *store, struct os *os, uint64_t pending_max_bytes)
{
    struct ingest *in = xcalloc(1, sizeof *in);
    in->store = store;
    in->os = os;
    in->pending_max_bytes = pending_max_bytes;
    return in;
}

void ingest_free(struct ingest *in)
{
    if (!in)
        return;
    ensure(atomic_load(&in->pending_bytes) == 0);
    free(in);
}

enum errc tenant_check(struct str name, struct str *out, struct err *e)
{
    if (!name.n) {
        *out = STR(TENANT_DEFAULT);
        return E_OK;
    }
    if (name.n > BATCH_TENANT_MAX)
        return fail(e, E_INVALID, "a tenant name has at most %u bytes", BATCH_TENANT_MAX);
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
        if (!ok)
            return fail(e, E_INVALID, "a tenant name is made of letters, digits, '.', '_' and '-'");
    }
    *out = name;
    return E_OK;
}

/* "3 spans rejected: 2 (trace id is zero), 1 (nested too deep)" */
static void say_rejected(struct ingest_result *r, const uint32_t rejected[REJECT_COUNT])
{
    struct buf text = buf_init(sizeof r->message - 1);
    buf_addf(&text, "%llu %s rejected:", (unsigned long long)r->rejected,
             r->rejected == 1 ? "span" : "spans");
    const char *comma = " ";
    for (int i = 0; i < REJECT_COUNT; i++) {
        if (!rejected[i])
            continue;
        buf_addf(&text, "%s%u (%s)", comma, rejected[i], span_reject_text((enum span_reject)i));
        comma = ", ";
    }
    if (text.n)
        memcpy(r->message, text.p, text.n);
    r->message[text.n] = '\0';
    buf_fini(&text);
}

static void count_rejected(const uint32_t rejected[REJECT_COUNT])
{
    static const enum stat_id stats[REJECT_COUNT] = {
        [REJECT_TRACE_ID] = STAT_SPANS_REJECTED_TRACE_ID,
        [REJECT_SPAN_ID] = STAT_SPANS_REJECTED_SPAN_ID,
        [REJECT_DEPTH] = STAT_SPANS_REJECTED_DEPTH,
        [REJECT_LIMIT] = STAT_SPANS_REJECTED_LIMIT,
        [REJECT_KEYS] = STAT_SPANS_REJECTED_KEYS,
    };
    for (int i = 0; i < REJECT_COUNT; i++)
        if (rejected[i])
            stat_add(stats[i], rejected[i]);
}

static void set_message(struct ingest_result *r, const char *why)
{
    size_t n = min_size(strlen(why), sizeof r->message - 1);
    memcpy(r->message, why, n);
    r->message[n] = '\0';
}

/* Turns what went wrong into what the sender is told, and counts it. */
static void set_refused(struct submission *s, enum errc code, const char *why)
{
    struct ingest_result *r = &s->result;
    *r = (struct ingest_result){.code = code};
    set_message(r, why);
    switch (code) {
    case E_TOO_BIG: /* the same request will not fit next time either */
        stat_add(STAT_REQUESTS_BAD_SIZE, 1);
        stat_add(STAT_SPANS_REJECTED_LIMIT, s->spans);
        return;
    case E_INVALID:
        stat_add(STAT_REQUESTS_BAD_TENANT, 1);
        return;
    case E_NO_MEMORY:
        stat_add(STAT_BATCHES_REFUSED_MEMORY, 1);
        r->retry_ms = RETRY_BUSY_MS;
        break;
    case E_UNAVAILABLE:
    case E_CANCELLED:
        stat_add(STAT_BATCHES_REFUSED_BUSY, 1);
        r->code = E_UNAVAILABLE;
        r->retry_ms = RETRY_BUSY_MS;
        break;
    default:
        stat_add(STAT_BATCHES_REFUSED_DISK, 1);
        r->code = code == E_FULL ? E_FULL : E_UNAVAILABLE;
        r->retry_ms = RETRY_DISK_MS;
        break;
    }
    stat_add(STAT_SPANS_REFUSED, s->spans);
}

static void set_accepted(struct submission *s)
{
    struct ingest_result *r = &s->result;
    r->accepted = s->spans;
    count_rejected(s->rejected);
    stat_add(STAT_SPANS_ACCEPTED, s->spans);
    stat_add(STAT_BATCHES_ACCEPTED, 1);
}

static void submission_end(struct submission *s)
{
    if (s->held_bytes)
        atomic_fetch_sub(&s->in->pending_bytes, s->held_bytes);
    s->done(s->arg, &s->result);
    free(s);
}

static void refuse(struct submission *s, enum errc code, const char *why)
{
    set_refused(s, code, why);
    submission_end(s);
}

/* The store's writer thread; it has logged `why`. */
static void stored(struct store_ticket *t, enum errc code, const char *why)
{
    struct submission *s = (struct submission *)t;
    (void)why;
    if (code == E_OK) {
        set_accepted(s);
        submission_end(s);
        return;
    }
    refuse(s, code == E_TOO_BIG || code == E_INVALID ? E_IO : code, err_text(code));
}

/* Takes `bytes` of the budget. E_TOO_BIG when it could never fit. */
static enum errc hold(struct submission *s, uint64_t bytes)
{
    struct ingest *in = s->in;
    if (bytes > in->pending_max_bytes)
        return E_TOO_BIG;
    uint64_t now = atomic_load_explicit(&in->pending_bytes, memory_order_relaxed);
    do {
        if (now > in->pending_max_bytes - bytes)
            return E_NO_MEMORY;
    } while (!atomic_compare_exchange_weak(&in->pending_bytes, &now, now + bytes));
    s->held_bytes = bytes;
    return E_OK;
}

/* Seals and hands over; on success `stored` will run, perhaps before this returns. */
static enum errc store_it(struct submission *s, struct str tenant, struct batch_builder *b,
                          struct err *e)
{
    struct ingest *in = s->in;
    if (atomic_load_explicit(&in->pending_bytes, memory_order_relaxed) >= in->pending_max_bytes)
        return fail(e, E_NO_MEMORY, TOO_MANY_WAITING); /* without sealing first */
    struct batch *batch;
    enum errc code = batch_seal(b, tenant, os_now_ns(in->os), &batch, e);
    if (code)
        return code;
    code = hold(s, batch_bytes(batch));
    if (code == E_TOO_BIG)
        fail(e, code, "the request is larger than all that may wait to be stored");
    else if (code)
        fail(e, code, TOO_MANY_WAITING);
    else {
        s->ticket = (struct store_ticket){.batch = batch, .done = stored};
        code = store_append(in->store, &s->ticket);
        if (code) /* else s is the store's, and perhaps gone already */
            fail(e, code, "%s", code == E_FULL ? "the disk is full" : "the store is busy");
    }
    batch_unref(batch);
    return code;
}

/* Everything that is decided without the store. */
static bool submit_early(struct submission *s, struct batch_builder *b, struct str *tenant)
{
    struct err e = {0};
    if (tenant_check(*tenant, tenant, &e)) {
        refuse(s, E_INVALID, err_msg(&e));
        return true;
    }
    if (batch_builder_failed(b)) {
        refuse(s, E_TOO_BIG, "the request holds more than one batch may");
        return true;
    }
    s->result.rejected = batch_builder_rejected(b);
    if (s->result.rejected)
        say_rejected(&s->result, s->rejected);
    if (s->spans)
        return false;
    set_accepted(s);
    submission_end(s);
    return true;
}

uint64_t ingest_batch_max(const struct ingest *in)
{
    return in->pending_max_bytes;
}

void ingest_submit(struct ingest *in, struct str tenant, struct batch_builder *b, ingest_done *done,
                   void *arg)
{
    struct submission *s = xcalloc(1, sizeof *s);
    s->in = in;
    s->done = done;
    s->arg = arg;
    s->spans = batch_builder_spans(b);
    memcpy(s->rejected, b->rejected, sizeof s->rejected);
    if (submit_early(s, b, &tenant))
        return;
    struct err e = {0};
    enum errc code = store_it(s, tenant, b, &e);
    if (code)
        refuse(s, code == E_INVALID ? E_INTERNAL : code, err_msg(&e));
}
