/* SPDX-License-Identifier: Apache-2.0 */
/* redact: erase a trace, or the values of a key. */
#include "app/cli/commands.h"
#include "app/cli/source.h"
#include "app/client.h"
#include "base/num.h"
#include "codec/jaeger_json.h"
#include "codec/json.h"
#include "engine/ingest/ingest.h"
#include "serve/api/redact.h"
#include "store/trace/trace_store.h"

#include <stdio.h>

#define TIMEOUT_NS (3600 * NS_PER_S) /* the server answers when it is done */
#define ANSWER_MAX (64 * KIB)

static const struct cli_option redact_options[] = {
    {"trace", "ID", NULL, NULL, "Erase this trace"},
    {"key", "KEY", NULL, NULL, "Erase the values of this attribute key"},
    {"service", "NAME", NULL, NULL, "With --key: only in spans of this service"},
    {"value", "TEXT", NULL, NULL, "With --key: only values that read so"},
    {"yes", NULL, NULL, NULL, "Do it; without it what would be changed is counted"},
    {"dry-run", NULL, NULL, NULL, "Only count, even with --yes"},
    {"url", "URL", "http://127.0.0.1:14269", NULL, "The server's admin port"},
    {"data", "DIR", NULL, NULL, "Work on this directory instead; no server may hold it"},
    {"tenant", "NAME", NULL, NULL, "Tenant it is in"},
    {"output", "FORMAT", "text", "text|json", "How to print"},
    {0}};

static int read_question(struct cli *c, struct store_redaction *want, uint8_t id[16])
{
    struct err e = {0};
    const char *trace = cli_value(c, "trace"), *key = cli_value(c, "key");
    want->key = str_from_c(key);
    want->service = str_from_c(cli_value(c, "service"));
    want->value = str_from_c(cli_value(c, "value"));
    want->has_value = cli_value(c, "value") != NULL;
    want->count_only = !cli_switch(c, "yes") || cli_switch(c, "dry-run");
    if (tenant_check(str_from_c(cli_value(c, "tenant")), &want->tenant, &e))
        return cli_fail(c, CLI_USAGE, "--tenant: %s", err_msg(&e));
    if (!trace == !want->key.n)
        return cli_fail(c, CLI_USAGE, "either --trace or --key says what is to go");
    if (trace && (want->service.n || want->has_value))
        return cli_fail(c, CLI_USAGE, "--service and --value go with --key");
    if (trace && jaeger_trace_id_parse(str_from_c(trace), id, NULL))
        return cli_fail(c, CLI_USAGE, "--trace: \"%.100s\" is not a trace id", trace);
    want->trace_id = trace ? id : NULL;
    return CLI_OK;
}

/* --- the two ways --- */

static int in_directory(struct cli *c, const struct store_redaction *want,
                        struct store_redacted *done)
{
    const char *dir = cli_value(c, "data");
    struct store *s;
    struct err e = {0};
    int opened = source_open_store(c, dir, &s);
    if (opened)
        return opened;
    enum errc code = store_redact(s, want, done, &e);
    store_close(s);
    return code ? cli_fail_err(c, &e) : CLI_OK;
}

static void add_param(struct buf *path, const char *name, struct str value)
{
    buf_addf(path, "&%s=", name);
    client_add_encoded(path, value);
}

static struct buf path_of(struct cli *c, const struct store_redaction *want)
{
    struct buf path = buf_init(64 * KIB);
    buf_addf(&path, "/redact?count-only=%s", want->count_only ? "true" : "false");
    add_param(&path, "tenant", want->tenant);
    if (want->trace_id)
        add_param(&path, "trace", str_from_c(cli_value(c, "trace")));
    else
        add_param(&path, "key", want->key);
    if (want->service.n)
        add_param(&path, "service", want->service);
    if (want->has_value)
        add_param(&path, "value", want->value);
    buf_add_char(&path, 0);
    return path;
}

static bool read_answer(struct str body, struct store_redacted *done)
{
    const struct {
        const char *name;
        uint64_t *v;
    } rows[] = {{"traces", &done->traces},     {"spans", &done->spans},   {"values", &done->values},
                {"blocks", &done->blocks},     {"failed", &done->failed}, {"held", &done->held},
                {"setAside", &done->set_aside}};
    struct json_reader r;
    struct arena a = arena_init(ANSWER_MAX);
    size_t found = 0;
    json_reader_init(&r, body, &a);
    if (json_next(&r) == JSON_OBJECT)
        while (json_next(&r) == JSON_KEY) {
            struct str key = r.text;
            json_next(&r);
            for (size_t i = 0; i < ARRAY_LEN(rows); i++)
                found += str_eq_c(key, rows[i].name) && num_get_u64(r.text, rows[i].v);
        }
    arena_fini(&a);
    return found == ARRAY_LEN(rows);
}

static int over_http(struct cli *c, const struct store_redaction *want, struct store_redacted *done)
{
    struct client client;
    struct client_answer a = {0};
    struct err e = {0};
    int code = CLI_OK;
    struct buf path = path_of(c, want);
    if (path.failed)
        code = cli_fail(c, CLI_USAGE, "the question is too long");
    else if (client_init(&client, cli_value(c, "url"), TIMEOUT_NS, &e))
        code = cli_fail(c, CLI_USAGE, "--url: %s", err_msg(&e));
    if (!code) {
        if (client_call(&client, "POST", path.p, REDACT_CONFIRM ": redact\r\n", STR_NONE,
                        ANSWER_MAX, NULL, NULL, &a, &e))
            code = cli_fail_err(c, &e);
        else if (a.status == 404)
            code = cli_fail(c, CLI_NOT_FOUND, "%.*s", STR_ARG(str_trim(buf_str(&a.body))));
        else if (a.status != 200 || !read_answer(buf_str(&a.body), done))
            code = cli_fail(c, CLI_UNREACHABLE, "the server answers HTTP %d: %.*s", a.status,
                            STR_ARG(str_trim(str_take(buf_str(&a.body), 200))));
        client_answer_fini(&a);
        client_fini(&client);
    }
    buf_fini(&path);
    return code;
}

/* --- the answer --- */

static void put_text(const struct store_redaction *want, const struct store_redacted *d,
                     struct buf *out)
{
    const char *verb = want->count_only ? "would be " : "";
    if (want->trace_id)
        buf_addf(out, "%llu spans %serased in %llu blocks\n", (unsigned long long)d->spans, verb,
                 (unsigned long long)d->blocks);
    else
        buf_addf(out, "%llu values %sreplaced in %llu spans of %llu traces, in %llu blocks\n",
                 (unsigned long long)d->values, verb, (unsigned long long)d->spans,
                 (unsigned long long)d->traces, (unsigned long long)d->blocks);
    if (want->count_only)
        buf_add_c(out, "nothing was changed; --yes does it\n");
    if (d->failed)
        buf_addf(out,
                 "%llu blocks could not be read or written and are as they were; the log says "
                 "which\n",
                 (unsigned long long)d->failed);
    if (d->held)
        buf_addf(out,
                 "%llu old files could not be removed; "
                 "ask again to see them gone\n",
                 (unsigned long long)d->held);
    if (d->set_aside)
        buf_addf(
            out,
            "damaged/ holds %llu files that were not looked into; remove them, and ask again\n",
            (unsigned long long)d->set_aside);
}

static int redact(struct cli *c)
{
    uint8_t id[16];
    struct store_redacted done = {0};
    struct store_redaction want = {.door = "lymer redact --data"};
    int code = read_question(c, &want, id);
    if (!code)
        code = cli_value(c, "data") ? in_directory(c, &want, &done) : over_http(c, &want, &done);
    if (code)
        return code;
    struct buf out = buf_init(64 * KIB);
    if (cli_choice(c, "output") == 1)
        redact_json(&done, want.count_only, &out);
    else
        put_text(&want, &done, &out);
    cli_out(buf_str(&out));
    buf_fini(&out);
    if (done.failed || done.held || done.set_aside)
        return CLI_TRUE;
    return done.spans ? CLI_OK : CLI_NOT_FOUND;
}

const struct cli_command cli_redact = {
    .name = "redact",
    .args = "",
    .summary = "Erase a trace, or the values of a key, from everything that is stored",
    .details =
        "Values become \"[redacted]\" wherever the key stands: spans, resources, scopes, events and "
        "links. Keys inside of maps, the lists of services and operations, and the counts of calls "
        "stay; spans whose service.name is erased are of the service \"[redacted]\". "
        "What arrives while it runs, or later, is not changed: stop the sender first. Backups "
        "made before keep what they hold. A line before "
        "and one after it go to audit.log in the data directory. "
        "Exit code 1 when blocks, old files or files in damaged/ are left, 3 when there was "
        "nothing to erase.",
    .options = redact_options,
    .run = redact,
};
