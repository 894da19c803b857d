/* SPDX-License-Identifier: Apache-2.0 */
/* verify: is the data whole? doctor: why do I see no traces? */
#include "app/cli/commands.h"
#include "app/cli/term.h"
#include "app/client.h"
#include "app/wire.h"
#include "base/num.h"
#include "codec/json.h"
#include "store/trace/trace_store.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- verify --- */

static const struct cli_option verify_options[] = {
    {"output", "FORMAT", "text", "text|json", "How to print"}, {0}};

struct verifying {
    struct buf out;
    struct json_writer json;
    bool as_json;
};

static void say_line(void *arg, const char *line)
{
    struct verifying *v = arg;
    if (v->as_json)
        json_str(&v->json, str_from_c(line));
    else
        buf_addf(&v->out, "%s\n", line);
}

static int verify(struct cli *c)
{
    struct err e = {0};
    struct verifying v = {.out = buf_init(64 * MIB), .as_json = cli_choice(c, "output") == 1};
    const char *dir = c->args[0];
    if (access(dir, F_OK) != 0)
        return cli_fail(c, CLI_NOT_FOUND, "%s: there is no such directory", dir);
    v.json = json_writer_init(&v.out, 0);
    if (v.as_json) {
        json_object(&v.json);
        JSON_KEY_C(&v.json, "files");
        json_array(&v.json);
    }
    enum errc code = store_verify(os_posix(), dir, say_line, &v, &e);
    if (v.as_json) {
        json_array_end(&v.json);
        JSON_KEY_C(&v.json, "ok");
        json_bool(&v.json, code == E_OK);
        json_object_end(&v.json);
        buf_add_char(&v.out, '\n');
    }
    cli_out(buf_str(&v.out));
    buf_fini(&v.out);
    return code ? cli_fail(c, code == E_NOT_FOUND ? CLI_NOT_FOUND : CLI_TRUE, "%s%s", err_msg(&e),
                           code == E_CORRUPT ? ": lymer repair keeps the rest" : "")
                : CLI_OK;
}

const struct cli_command cli_verify = {
    .name = "verify",
    .args = "DIR",
    .args_min = 1,
    .args_max = 1,
    .summary = "Read a data directory, check everything in it, change nothing",
    .details = "Works while a server runs on it. Exit code 1 when something is damaged.",
    .options = verify_options,
    .run = verify,
};

/* --- doctor --- */

static const struct cli_option doctor_options[] = {
    {"host", "ADDR", "127.0.0.1", NULL, "Where the server is"},
    {"port-offset", "N", "0", NULL, "What the server was started with"},
    {"data", "DIR", NULL, NULL, "Its directory (default: the server's default)"},
    {"output", "FORMAT", "text", "text|json", "How to print"},
    {0}};

enum finding { FINE, WARN, BAD };

struct doctor {
    const struct cli *cli;
    struct buf out;
    struct json_writer json;
    bool as_json, color;
    unsigned bad, warned;
    const char *host;
    uint64_t offset;
};

static void PRINTF_LIKE(4, 5)
    found(struct doctor *d, enum finding f, const char *what, const char *fmt, ...)
{
    static const char *const words[] = {"ok", "warning", "problem"};
    static const char *const colors[] = {"\033[32m", "\033[33m", "\033[1;31m"};
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    d->bad += f == BAD;
    d->warned += f == WARN;
    if (!d->as_json) {
        buf_addf(&d->out, "%s%-8s%s %-16s %s\n", d->color ? colors[f] : "", words[f],
                 d->color ? "\033[0m" : "", what, text);
        return;
    }
    json_object(&d->json);
    JSON_KEY_C(&d->json, "check");
    json_str(&d->json, str_from_c(what));
    JSON_KEY_C(&d->json, "result");
    json_str(&d->json, str_from_c(words[f]));
    JSON_KEY_C(&d->json, "text");
    json_str(&d->json, str_from_c(text));
    json_object_end(&d->json);
}

static void url_of(const struct doctor *d, uint64_t port, const char *path, char out[400])
{
    bool v6 = strchr(d->host, ':') != NULL;
    snprintf(out, 400, "http://%s%s%s:%llu%s", v6 ? "[" : "", d->host, v6 ? "]" : "",
             (unsigned long long)(port + d->offset), path);
}

/* The answer's status, 0 when there was none; the body is printed into `body`. */
static int call(const struct doctor *d, uint64_t port, const char *method, const char *path,
                struct str request, char body[2000], struct err *e)
{
    struct client c;
    struct client_answer a;
    char url[400];
    int status = 0;
    url_of(d, port, "", url);
    body[0] = 0;
    enum errc code = client_init(&c, url, 5 * NS_PER_S, e);
    if (!code) {
        code = client_call(&c, method, path, request.n ? "Content-Type: application/json\r\n" : "",
                           request, MIB, NULL, NULL, &a, e);
        status = code ? 0 : a.status;
        snprintf(body, 2000, "%.*s", STR_ARG(buf_str(&a.body)));
        client_answer_fini(&a);
    }
    client_fini(&c);
    return status;
}

static const struct door_check {
    const char *name;
    uint64_t port;
    const char *path; /* NULL: a connection is enough */
    const char *advice;
} doors[] = {
    {"OTLP gRPC", 4317, NULL, "SDKs with OTEL_EXPORTER_OTLP_PROTOCOL=grpc send here"},
    {"OTLP HTTP", 4318, NULL, "SDKs with OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf send here"},
    {"page and API", 16686, "/api/services", "the page, the command line and Grafana ask here"},
    {"admin", 14269, "/", "health and metrics"},
    {"health", 13133, "/status", "health as Jaeger v2 answers it"},
};

static bool check_door(struct doctor *d, const struct door_check *k)
{
    struct err e = {0};
    struct client_url u = {.port = (uint16_t)(k->port + d->offset)};
    char body[2000];
    int fd = -1, status = 200;
    snprintf(u.host, sizeof u.host, "%s", d->host);
    enum errc code = client_connect(&u, 3 * NS_PER_S, &fd, &e);
    if (!code)
        close(fd);
    if (!code && k->path)
        status = call(d, k->port, "GET", k->path, STR_NONE, body, &e);
    if (code || !status)
        found(d, BAD, k->name, "port %u: %s. %s", u.port, err_msg(&e), k->advice);
    else if (status != 200)
        found(d, BAD, k->name, "port %u answers HTTP %d; is it another program?", u.port, status);
    else
        found(d, FINE, k->name, "port %u answers; %s", u.port, k->advice);
    return !code && status == 200;
}

/* A span through OTLP/HTTP and back through the query API. */
static void check_ingest(struct doctor *d)
{
    uint8_t id[16];
    char hex[33], path[80], body[2000];
    struct err e = {0};
    uint64_t now = os_now_ns(os_posix()), begun = os_mono_ns(os_posix());
    os_random(os_posix(), id, sizeof id);
    id[0] |= 1;
    hex[num_put_hex(hex, id, 16)] = 0;
    struct buf span = buf_init(4 * KIB);
    buf_addf(
        &span,
        "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{"
        "\"stringValue\":\"lymer-doctor\"}}]},\"scopeSpans\":[{\"scope\":{\"name\":\"lymer\"},"
        "\"spans\":[{\"traceId\":\"%s\",\"spanId\":\"%.16s\",\"name\":\"self-test\",\"kind\":1,"
        "\"startTimeUnixNano\":\"%llu\",\"endTimeUnixNano\":\"%llu\"}]}]}]}",
        hex, hex, (unsigned long long)now, (unsigned long long)(now + NS_PER_MS));
    int status = call(d, 4318, "POST", "/v1/traces", buf_str(&span), body, &e);
    buf_fini(&span);
    if (status != 200) {
        if (status)
            found(d, BAD, "a span's way", "port %llu answers HTTP %d: %.200s",
                  (unsigned long long)(4318 + d->offset), status, body);
        else
            found(d, BAD, "a span's way", "%s", err_msg(&e));
        return;
    }
    snprintf(path, sizeof path, "/api/traces/%s", hex);
    status = call(d, 16686, "GET", path, STR_NONE, body, &e);
    char took[32];
    text_duration(os_mono_ns(os_posix()) - begun, false, took);
    if (status == 200 && strstr(body, "self-test"))
        found(d, FINE, "a span's way", "sent, acknowledged and read back in %s (lymer trace %s)",
              took, hex);
    else
        found(d, BAD, "a span's way", "it was acknowledged but the query API answers HTTP %d",
              status);
}

/* What the server refused until now, out of its metrics. */
static void check_counters(struct doctor *d)
{
    static const struct {
        const char *metric, *text;
    } rows[] = {
        {"lymer_spans_accepted_total", NULL},
        {"lymer_spans_rejected_total",
         "spans were rejected for good: their ids or sizes are wrong"},
        {"lymer_spans_refused_total",
         "spans were refused for the moment: memory, disk or queue full"},
        {"lymer_requests_bad_total", "requests were malformed: wrong port, path or encoding?"},
    };
    struct client c;
    struct client_answer a = {0};
    struct err e = {0};
    char url[400];
    url_of(d, 14269, "", url);
    enum errc code = client_init(&c, url, 5 * NS_PER_S, &e);
    if (!code)
        code = client_call(&c, "GET", "/metrics", "", STR_NONE, MIB, NULL, NULL, &a, &e);
    for (size_t i = 0; i < ARRAY_LEN(rows) && !code; i++) {
        double sum = 0, v;
        struct str rest = buf_str(&a.body), line;
        while (str_split(&rest, '\n', &line)) {
            size_t space = line.n;
            while (space && line.p[space - 1] != ' ')
                space--;
            if (str_starts(line, str_from_c(rows[i].metric)) &&
                num_get_double(str_skip(line, space), &v))
                sum += v;
        }
        if (!rows[i].text && sum < 1.5)
            found(
                d, WARN, "spans so far",
                "no application has sent a span: set OTEL_EXPORTER_OTLP_ENDPOINT=http://%s:%llu and "
                "look at the SDK's own log",
                d->host, (unsigned long long)(4318 + d->offset));
        else if (!rows[i].text)
            found(d, FINE, "spans so far", "%.0f accepted", sum);
        else if (sum > 0)
            found(d, WARN, "refusals", "%.0f %s; %s/metrics says why", sum, rows[i].text, url);
    }
    client_answer_fini(&a);
    client_fini(&c);
}

static void check_directory(struct doctor *d)
{
    struct config c;
    struct err e = {0};
    uint64_t room;
    const char *dir = cli_value(d->cli, "data");
    config_init(&c);
    if (!dir)
        dir = wire_data_dir(&c);
    if (access(dir, F_OK) != 0)
        found(d, WARN, "data directory", "%s is not there; the server makes it", dir);
    else if (access(dir, R_OK | W_OK | X_OK) != 0)
        found(d, WARN, "data directory", "%s cannot be written by this user: %s", dir,
              strerror(errno));
    else if (os_free_bytes(os_posix(), dir, &room, &e))
        found(d, WARN, "data directory", "%s: %s", dir, err_msg(&e));
    else
        found(d, room < 2 * GIB ? WARN : FINE, "data directory", "%s can be written, %.1f GB free",
              dir, (double)room / 1e9);
    config_fini(&c);
}

static void check_environment(struct doctor *d)
{
    const char *endpoint = getenv("OTEL_EXPORTER_OTLP_ENDPOINT"),
               *off = getenv("OTEL_SDK_DISABLED"), *sampler = getenv("OTEL_TRACES_SAMPLER"),
               *exporter = getenv("OTEL_TRACES_EXPORTER");
    if (off && strcmp(off, "true") == 0)
        found(d, WARN, "this shell", "OTEL_SDK_DISABLED=true: SDKs started from it send nothing");
    if (exporter && strcmp(exporter, "none") == 0)
        found(d, WARN, "this shell",
              "OTEL_TRACES_EXPORTER=none: SDKs started from it send nothing");
    if (sampler && strstr(sampler, "always_off"))
        found(d, WARN, "this shell", "OTEL_TRACES_SAMPLER=%.60s: nothing is sampled", sampler);
    if (endpoint && *endpoint)
        found(d, FINE, "this shell", "OTEL_EXPORTER_OTLP_ENDPOINT=%.200s", endpoint);
}

static int doctor(struct cli *c)
{
    struct doctor d = {.cli = c,
                       .out = buf_init(MIB),
                       .as_json = cli_choice(c, "output") == 1,
                       .color = term_color(),
                       .host = cli_value(c, "host")};
    if (!cli_u64(c, "port-offset", 0, 50000, &d.offset))
        return CLI_USAGE;
    d.json = json_writer_init(&d.out, 2);
    if (d.as_json)
        json_array(&d.json);
    unsigned up = 0;
    for (size_t i = 0; i < ARRAY_LEN(doors); i++)
        up += check_door(&d, &doors[i]);
    if (up) {
        check_counters(&d);
        check_ingest(&d);
    }
    check_directory(&d);
    check_environment(&d);
    if (d.as_json) {
        json_array_end(&d.json);
        buf_add_char(&d.out, '\n');
    } else if (!up) {
        buf_addf(&d.out, "\nno server answers on %s: start one with `lymer serve`%s\n", d.host,
                 d.offset ? "" : "; was it started with --port-offset?");
    }
    cli_out(buf_str(&d.out));
    buf_fini(&d.out);
    return !up ? CLI_UNREACHABLE : d.bad ? CLI_TRUE : CLI_OK;
}

const struct cli_command cli_doctor = {
    .name = "doctor",
    .args = "",
    .summary = "Find out why no traces are seen: ports, a span's way, directory, refusals",
    .details = "Sends one span of the service lymer-doctor and reads it back. Exit code 1 when "
               "something is wrong, 4 when no server answers.",
    .options = doctor_options,
    .run = doctor,
};
