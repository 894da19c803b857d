/* SPDX-License-Identifier: Apache-2.0 */
/* Worker w of n makes the traces w, w + n, w + 2n, …, each with its own generator, connection and
 * jobs. A job holds a request from the moment it is full until the server has taken or refused it
 * for good; a retryable answer or a lost connection puts it back, to be sent again after a while,
 * so that nothing generated is lost while the server restarts. Sending more waits for a free job:
 * the server's pace is the generator's. */
#include "app/load/load.h"

#include "base/hash.h"
#include "base/os/os.h"
#include "base/os/thread.h"
#include "codec/otlp.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define BACKOFF_FIRST_MS UINT64_C(50)
#define BACKOFF_MOST_MS  UINT64_C(5000)

struct worker {
    const struct load_config *config;
    struct load_result result;
    struct thread thread;
    unsigned number;
    struct spans *spans;
    struct carrier *carrier;
    struct carrier_job jobs[CARRIER_JOBS];
    bool up;
    uint64_t dial_ns; /* not before: the connection was lost */
    unsigned dial_tries;
    uint64_t up_ns; /* last time anything was answered, or the start */
    bool stop;
    struct batch_builder builder; /* for JSON */
    struct arena arena;
};

static uint64_t now_ns(void)
{
    return os_mono_ns(os_posix());
}

/* Doubles with each try; spread by a quarter, so that workers do not come back together. */
static uint64_t backoff_ns(const struct worker *w, unsigned tries)
{
    uint64_t ms = min_u64(BACKOFF_FIRST_MS << (tries < 8 ? tries : 8), BACKOFF_MOST_MS);
    uint64_t spread = hash_u64(tries + 1, w->number) % (ms / 2 + 1);
    return (ms - ms / 4 + spread) * NS_PER_MS;
}

static void give_up(struct worker *w, const char *why)
{
    if (!w->stop)
        snprintf(w->result.why, sizeof w->result.why, "%s", why);
    w->stop = w->result.gave_up = true;
}

static void retry_later(struct worker *w, struct carrier_job *job, uint64_t wait_ns)
{
    job->state = JOB_WAITING;
    job->due_ns = now_ns() + wait_ns;
    job->tries++;
    w->result.retries++;
}

static uint32_t ack_bucket(uint64_t ns)
{
    uint64_t us = max_u64(ns / NS_PER_US, 16);
    unsigned shift = 59u - (unsigned)__builtin_clzll(us); /* leaves five bits */
    return (uint32_t)min_u64(shift * 16 + (us >> shift) - 16, ACK_BUCKETS - 1);
}

static double bucket_ms(uint32_t bucket)
{
    return (double)((bucket % 16 + UINT64_C(17)) << (bucket / 16)) / 1000;
}

double load_ack_ms(const struct load_result *r, double share)
{
    uint64_t total = 0, seen = 0;
    uint32_t i = 0;
    for (; i < ACK_BUCKETS; i++)
        total += r->acks[i];
    for (i = 0; i < ACK_BUCKETS; i++)
        if ((seen += r->acks[i]) && (double)seen >= share * (double)total)
            return bucket_ms(i);
    return 0;
}

static void answered(void *arg, struct carrier_job *job, const struct carrier_answer *a)
{
    struct worker *w = arg;
    uint64_t now = now_ns();
    if (a->kind == CARRIER_RETRY) {
        if (now - w->up_ns > w->config->give_up_ns)
            give_up(w, a->why);
        retry_later(w, job, a->retry_ms ? a->retry_ms * NS_PER_MS : backoff_ns(w, job->tries));
        return;
    }
    uint64_t rejected = a->kind == CARRIER_REFUSED ? job->span_count : a->rejected;
    rejected = min_u64(rejected, job->span_count);
    if (rejected && !w->result.why[0])
        snprintf(w->result.why, sizeof w->result.why, "%s",
                 a->kind == CARRIER_REFUSED ? a->why : "rejected in part");
    w->result.rejected += rejected;
    w->result.accepted += job->span_count - rejected;
    if (a->kind == CARRIER_TAKEN)
        w->result.acks[ack_bucket(now - job->sent_ns)]++;
    w->up_ns = now;
    w->dial_tries = 0;
    job->state = JOB_FREE;
}

static void lost(struct worker *w, const struct err *e)
{
    w->carrier->ops->close(w->carrier);
    w->up = false;
    if (now_ns() - w->up_ns > w->config->give_up_ns)
        give_up(w, err_msg(e));
    w->dial_ns = now_ns() + backoff_ns(w, w->dial_tries++);
    for (unsigned i = 0; i < CARRIER_JOBS; i++)
        if (w->jobs[i].state == JOB_SENT)
            retry_later(w, &w->jobs[i], 0);
}

static unsigned in_flight(const struct worker *w)
{
    unsigned n = 0;
    for (unsigned i = 0; i < CARRIER_JOBS; i++)
        n += w->jobs[i].state == JOB_SENT;
    return n;
}

/* Sends what is due and moves bytes, waiting at most wait_ms. */
static void turn(struct worker *w, int wait_ms)
{
    struct err e = {0};
    uint64_t now = now_ns();
    if (!w->up && now < w->dial_ns) {
        poll(NULL, 0, (int)min_u64((w->dial_ns - now) / NS_PER_MS + 1, 100));
        return;
    }
    if (!w->up && w->carrier->ops->open(w->carrier, &e)) {
        lost(w, &e);
        return;
    }
    w->up = true;
    enum errc code = E_OK;
    uint64_t soonest = UINT64_MAX;
    for (unsigned i = 0; i < CARRIER_JOBS && !code; i++) {
        struct carrier_job *job = &w->jobs[i];
        if (job->state != JOB_WAITING || in_flight(w) >= w->carrier->ops->jobs)
            continue;
        if (job->due_ns <= now) {
            job->state = JOB_SENT;
            job->sent_ns = now_ns();
            code = w->carrier->ops->send(w->carrier, job, &e);
        } else {
            soonest = min_u64(soonest, job->due_ns);
        }
    }
    if (soonest != UINT64_MAX && wait_ms)
        wait_ms = (int)min_u64((uint64_t)wait_ms, (soonest - now) / NS_PER_MS + 1);
    if (!code && in_flight(w))
        code = w->carrier->ops->pump(w->carrier, wait_ms, &e);
    else if (!code && wait_ms)
        poll(NULL, 0, wait_ms);
    if (code)
        lost(w, &e);
}

static struct carrier_job *free_job(struct worker *w)
{
    for (unsigned i = 0; i < w->carrier->ops->jobs; i++)
        if (w->jobs[i].state == JOB_FREE)
            return &w->jobs[i];
    return NULL;
}

/* The same request in JSON, by the codec. */
static void to_json(struct worker *w, struct str request, struct buf *out)
{
    struct batch *b = NULL;
    arena_reset(&w->arena);
    batch_builder_reset(&w->builder);
    ensure(otlp_decode_traces(request, &w->builder, NULL) == E_OK);
    ensure(batch_seal(&w->builder, STR("load"), 0, &b, NULL) == E_OK);
    uint32_t n = b->head->span_count;
    struct span **spans = ARENA_ARRAY(&w->arena, struct span *, n);
    struct span_origin *origins = ARENA_ARRAY(&w->arena, struct span_origin, b->head->group_count);
    ensure(spans && origins);
    for (uint32_t i = 0; i < n; i++)
        ensure((spans[i] = span_from_batch(b, &b->spans[i], origins, &w->arena)));
    otlp_encode_traces_json(spans, n, out);
    batch_unref(b);
}

static void on_request(void *arg, struct str request, uint32_t span_count)
{
    struct worker *w = arg;
    struct carrier_job *job;
    const struct load_config *c = w->config;
    static const int levels[] = {[ZIP_NONE] = 0, [ZIP_GZIP] = 1, [ZIP_DEFLATE] = 1, [ZIP_ZSTD] = 1};
    struct buf json = buf_init(256 * MIB);
    while (!(job = free_job(w)) && !w->stop)
        turn(w, 1000);
    if (!job)
        return;
    if (c->json) {
        to_json(w, request, &json);
        request = buf_str(&json);
    }
    buf_reset(&job->body);
    if (c->zip == ZIP_NONE)
        buf_add_str(&job->body, request);
    else
        ensure(zip_deflate(c->zip, request, levels[c->zip], &job->body) == E_OK);
    ensure(!job->body.failed && !json.failed);
    buf_fini(&json);
    job->span_count = span_count;
    job->state = JOB_WAITING;
    job->due_ns = 0;
    job->tries = 0;
    w->result.sent += span_count;
    w->result.bytes += job->body.n;
    w->result.requests++;
    turn(w, 0);
}

/* Holds the worker to its share of the rate. */
static void keep_pace(struct worker *w, uint64_t begun_ns, uint64_t made)
{
    uint64_t rate = w->config->rate;
    if (!rate)
        return;
    uint64_t due = begun_ns + (uint64_t)((double)made * w->config->workers * 1e9 / (double)rate);
    for (uint64_t now = now_ns(); now < due && !w->stop; now = now_ns())
        turn(w, (int)min_u64((due - now + NS_PER_MS - 1) / NS_PER_MS, 100));
}

static bool unanswered(const struct worker *w)
{
    for (unsigned i = 0; i < CARRIER_JOBS; i++)
        if (w->jobs[i].state != JOB_FREE)
            return true;
    return false;
}

static void work(void *arg)
{
    struct worker *w = arg;
    const struct load_config *c = w->config;
    uint64_t begun = now_ns(), made = 0;
    w->up_ns = begun;
    for (uint64_t n = w->number; n < c->traces && !w->stop; n += c->workers) {
        keep_pace(w, begun, made);
        made += spans_trace(w->spans, n);
        w->result.traces++;
    }
    if (!w->stop)
        spans_flush(w->spans);
    while (unanswered(w) && !w->stop)
        turn(w, 1000);
}

static void worker_init(struct worker *w, const struct load_config *c, unsigned number)
{
    struct carrier_config k = {.url = c->endpoint,
                               .json = c->json,
                               .zip = c->zip,
                               .timeout_ns = 30 * NS_PER_S,
                               .answered = answered,
                               .arg = w};
    *w = (struct worker){.config = c, .number = number};
    w->spans = spans_new(&c->spans, on_request, w);
    w->carrier = c->endpoint.grpc ? grpc_carrier_new(&k) : http_carrier_new(&k);
    for (unsigned i = 0; i < CARRIER_JOBS; i++) {
        w->jobs[i].body = buf_init(256 * MIB);
        w->jobs[i].answer = buf_init(256 * KIB);
    }
    w->arena = arena_init(GIB);
    batch_builder_init(&w->builder);
}

static void worker_fini(struct worker *w)
{
    w->carrier->ops->free(w->carrier);
    spans_free(w->spans);
    for (unsigned i = 0; i < CARRIER_JOBS; i++) {
        buf_fini(&w->jobs[i].body);
        buf_fini(&w->jobs[i].answer);
    }
    arena_fini(&w->arena);
    batch_builder_fini(&w->builder);
}

void load_run(const struct load_config *c, struct load_result *out)
{
    ensure(c->workers && c->workers <= LOAD_WORKERS_MAX);
    struct worker *all = xcalloc(c->workers, sizeof *all);
    uint64_t begun = now_ns();
    *out = (struct load_result){0};
    for (unsigned i = 0; i < c->workers; i++)
        worker_init(&all[i], c, i);
    for (unsigned i = 1; i < c->workers; i++)
        thread_start(&all[i].thread, "load", work, &all[i]);
    work(&all[0]);
    for (unsigned i = 0; i < c->workers; i++) {
        const struct load_result *r = &all[i].result;
        if (i)
            thread_join(&all[i].thread);
        out->traces += r->traces;
        out->sent += r->sent;
        out->accepted += r->accepted;
        out->rejected += r->rejected;
        out->requests += r->requests;
        out->retries += r->retries;
        out->bytes += r->bytes;
        for (uint32_t k = 0; k < ACK_BUCKETS; k++)
            out->acks[k] += r->acks[k];
        out->gave_up |= r->gave_up;
        if (!out->why[0])
            memcpy(out->why, r->why, sizeof out->why);
        worker_fini(&all[i]);
    }
    out->ns = now_ns() - begun;
    free(all);
}
