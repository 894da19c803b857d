/* SPDX-License-Identifier: Apache-2.0 */
/* retention: what rules would keep and save. */
#include "app/cli/commands.h"
#include "app/cli/source.h"
#include "app/client.h"
#include "serve/api/retention.h"
#include "store/trace/trace_store.h"

#define TIMEOUT_NS (3600 * NS_PER_S) /* the server answers when it has read everything */
#define ANSWER_MAX (256 * KIB)

static const struct cli_option retention_options[] = {
    {"dry-run", NULL, NULL, NULL, "Count and change nothing; the only way there is, and needed"},
    {"rules", "TEXT", NULL, NULL, "The rules, ';' between them (default: the server's own)"},
    {"url", "URL", "http://127.0.0.1:14269", NULL, "The server's admin port"},
    {"data", "DIR", NULL, NULL, "Read this directory instead; no server may hold it"},
    {"output", "FORMAT", "text", "text|json", "How to print"},
    {0}};

static int in_directory(struct cli *c, const char *dir, const char *rules, struct buf *out)
{
    struct store *s;
    struct store_rules_report report;
    struct err e = {0};
    int opened = source_open_store(c, dir, &s);
    if (opened)
        return opened;
    enum errc code = store_try_rules(s, str_from_c(rules), &report, &e);
    if (!code && cli_choice(c, "output") == 1)
        retention_json(&report, out);
    else if (!code)
        retention_text(&report, out);
    rules_fini(&report.rules);
    store_close(s);
    return code ? cli_fail_err(c, &e) : CLI_OK;
}

static int over_http(struct cli *c, const char *rules, struct buf *out)
{
    struct client client;
    struct client_answer a = {0};
    struct err e = {0};
    int code = CLI_OK;
    struct buf path = buf_init(64 * KIB);
    buf_addf(&path, "/retention?output=%s&rules=", cli_value(c, "output"));
    client_add_encoded(&path, str_from_c(rules));
    buf_add_char(&path, 0);
    if (path.failed)
        code = cli_fail(c, CLI_USAGE, "--rules: the text is too long");
    else if (client_init(&client, cli_value(c, "url"), TIMEOUT_NS, &e))
        code = cli_fail(c, CLI_USAGE, "--url: %s", err_msg(&e));
    if (!code) {
        if (client_call(&client, "GET", path.p, "", STR_NONE, ANSWER_MAX, NULL, NULL, &a, &e))
            code = cli_fail_err(c, &e);
        else if (a.status != 200)
            code = cli_fail(c, a.status == 400 ? CLI_USAGE : CLI_UNREACHABLE, "%.*s",
                            STR_ARG(str_take(buf_str(&a.body), str_find(buf_str(&a.body), '\n'))));
        else
            buf_add_str(out, buf_str(&a.body));
        client_answer_fini(&a);
        client_fini(&client);
    }
    buf_fini(&path);
    return code;
}

static int retention(struct cli *c)
{
    const char *dir = cli_value(c, "data"), *rules = cli_value(c, "rules");
    struct buf out = buf_init(2 * ANSWER_MAX);
    if (!cli_switch(c, "dry-run"))
        return cli_fail(c, CLI_USAGE,
                        "--dry-run is missing; the server acts on retention.rules by itself");
    if (dir && !rules)
        return cli_fail(c, CLI_USAGE, "a directory has no rules of its own: --rules");
    int code = dir ? in_directory(c, dir, rules, &out) : over_http(c, rules, &out);
    if (!code)
        cli_out(buf_str(&out));
    buf_fini(&out);
    return code;
}

const struct cli_command cli_retention = {
    .name = "retention",
    .args = "",
    .summary = "Say what retention rules would keep and save; changes nothing",
    .details = "Every trace about which nothing is decided yet is judged, whatever its age, by the "
               "code that decides. A trace counts with every rule that keeps it; bytes follow the "
               "share of the spans.",
    .options = retention_options,
    .run = retention,
};
