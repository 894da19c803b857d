/* SPDX-License-Identifier: Apache-2.0 */
#include "app/cli/commands.h"
#include "app/load/load.h"
#include "base/num.h"
#include "base/os/os.h"

#define PACE_SPANS_PER_S 100000u /* how dense traces lie in time when no rate is asked for */

/* Times of the data: with a rate they begin now and run with the clock, else they end now. With a
 * seed "now" is the last full ten minutes: run twice it gives the same bytes, yet they are young
 * enough for every search and retention. */
#define SEED_QUANTUM_NS (600 * NS_PER_S)

#define RANDOM_SEED_MAX ((UINT64_C(1) << 53) - 1) /* a number every JSON reader keeps exact */

static const struct cli_option options[] = {
    {"endpoint", "URL", "grpc://127.0.0.1:4317", NULL,
     "Where to: grpc://host:port or http://host:port/v1/traces"},
    {"profile", "NAME", "shop", "shop|flat|deep|wide",
     "shop: 12 services, about 31 spans a trace; flat, deep, wide: traces of that shape"},
    {"traces", "N", "1000", NULL, "Traces to send"},
    {"spans", "N", "0", NULL, "Spans of a trace of flat, deep or wide; 0: 8, 100, 1000"},
    {"rate", "SPANS_PER_S", "0", NULL, "Spans a second over all workers; 0: as fast as it goes"},
    {"workers", "N", "1", NULL, "Connections, each with its thread"},
    {"seed", "N", NULL, NULL, "Same seed, same bytes; else other traces each time"},
    {"start", "TIME", NULL, NULL,
     "Start of the first trace; else such that the last one ends now, or with --seed at the last "
     "full ten minutes"},
    {"over", "DURATION", NULL, NULL,
     "Time the traces spread over; else as long as they take at --rate, or at 100,000 spans a "
     "second"},
    {"batch", "SPANS", "512", NULL, "Spans of a request"},
    {"encoding", "NAME", "protobuf", "protobuf|json", "How spans are written (json: http only)"},
    {"compression", "NAME", "none", "none|gzip|zstd", "How requests are compressed"},
    {"errors", "PERCENT", "2", NULL, "Traces that contain a failure"},
    {"give-up", "DURATION", "30s", NULL, "Stop when the server takes nothing for so long"},
    {0}};

static bool times(const struct cli *c, struct load_config *l)
{
    struct spans_config *s = &l->spans;
    static const unsigned sizes[] = {31, 8, 100, 1000};
    uint64_t per_trace = s->trace_spans && s->profile != SPANS_SHOP ? s->trace_spans
                                                                    : sizes[s->profile];
    uint64_t pace = l->rate ? l->rate : PACE_SPANS_PER_S, now = os_now_ns(os_posix());
    uint64_t over_ns;
    s->trace_every_ns = per_trace * NS_PER_S / pace;
    if (cli_value(c, "over")) {
        if (!cli_duration(c, "over", &over_ns))
            return false;
        s->trace_every_ns = over_ns / l->traces;
    }
    if (cli_value(c, "start"))
        return cli_time(c, "start", now, &s->start_ns);
    uint64_t length = l->rate ? 0 : min_u64(l->traces * s->trace_every_ns + NS_PER_S, now / 2);
    if (cli_value(c, "seed"))
        now -= now % SEED_QUANTUM_NS;
    s->start_ns = now - length;
    return true;
}

static bool seed(const struct cli *c, uint64_t *v)
{
    if (cli_value(c, "seed"))
        return cli_u64(c, "seed", 0, UINT64_MAX, v);
    os_random(os_posix(), v, sizeof *v);
    *v &= RANDOM_SEED_MAX;
    return true;
}

static bool settings(const struct cli *c, struct load_config *l)
{
    uint64_t workers, spans, batch, errors;
    struct err e;
    if (!cli_u64(c, "traces", 1, UINT64_C(1000000000), &l->traces) ||
        !cli_u64(c, "rate", 0, UINT64_C(1000000000), &l->rate) ||
        !cli_u64(c, "workers", 1, LOAD_WORKERS_MAX, &workers) || !seed(c, &l->spans.seed) ||
        !cli_u64(c, "spans", 0, SPANS_TRACE_MAX, &spans) || !cli_u64(c, "batch", 1, 8192, &batch) ||
        !cli_u64(c, "errors", 0, 100, &errors) || !cli_duration(c, "give-up", &l->give_up_ns))
        return false;
    l->workers = (unsigned)workers;
    l->spans.profile = (enum spans_profile)cli_choice(c, "profile");
    l->spans.trace_spans = (uint32_t)spans;
    l->spans.batch_spans = (uint32_t)batch;
    l->spans.error_percent = (uint32_t)errors;
    l->json = cli_choice(c, "encoding") == 1;
    static const enum zip_kind kinds[] = {ZIP_NONE, ZIP_GZIP, ZIP_ZSTD};
    l->zip = kinds[cli_choice(c, "compression")];
    const char *endpoint = cli_value(c, "endpoint");
    uint16_t port = strncmp(endpoint, "grpc", 4) == 0 ? 4317 : 4318;
    if (client_url_parse(endpoint, port, &l->endpoint, &e)) {
        cli_fail(c, CLI_USAGE, "--endpoint: %s", err_msg(&e));
        return false;
    }
    if (!l->endpoint.grpc && !*l->endpoint.path)
        memcpy(l->endpoint.path, "/v1/traces", sizeof "/v1/traces");
    if (l->endpoint.grpc && l->json) {
        cli_fail(c, CLI_USAGE, "--encoding json needs an http:// endpoint");
        return false;
    }
    return times(c, l);
}

static int run(struct cli *c)
{
    struct load_config l = {0};
    struct load_result r;
    if (!settings(c, &l))
        return CLI_USAGE;
    load_run(&l, &r);
    double seconds = (double)r.ns / 1e9;
    struct buf out = buf_init(4 * KIB);
    buf_addf(&out,
             "{\"traces\":%llu,\"spans_sent\":%llu,\"spans_accepted\":%llu,\"spans_rejected\":%llu,"
             "\"bytes\":%llu,\"seconds\":%.3f,\"spans_per_s\":%.0f,\"requests\":%llu,"
             "\"retries\":%llu,\"ack_ms_p50\":%.3f,\"ack_ms_p99\":%.3f,\"seed\":%llu}\n",
             (unsigned long long)r.traces, (unsigned long long)r.sent,
             (unsigned long long)r.accepted, (unsigned long long)r.rejected,
             (unsigned long long)r.bytes, seconds, (double)r.accepted / seconds,
             (unsigned long long)r.requests, (unsigned long long)r.retries, load_ack_ms(&r, 0.5),
             load_ack_ms(&r, 0.99), (unsigned long long)l.spans.seed);
    cli_out(buf_str(&out));
    buf_fini(&out);
    if (r.gave_up)
        return cli_fail(c, CLI_UNREACHABLE, "gave up: %s", r.why);
    return r.rejected ? cli_fail(c, CLI_TRUE, "spans were rejected: %s", r.why) : CLI_OK;
}

const struct cli_command cli_load = {
    .name = "load",
    .args = "",
    .summary = "Send generated traces and count what the server took",
    .details =
        "Ends with one line of JSON on standard output. Answers that ask for a retry are "
        "retried; a lost connection is opened again and what was not answered is sent again.",
    .options = options,
    .run = run,
};
