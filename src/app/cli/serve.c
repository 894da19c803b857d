/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that are about the server's settings, and those that only print. */
#include "app/cli/commands.h"
#include "app/version.h"
#include "app/wire.h"
#include "codec/json.h"

#include <stdio.h>
#include <unistd.h>

static int serve(struct cli *c)
{
    struct config config;
    struct err e = {0};
    const struct wire_args args = {c->argc, c->argv, (const char *const *)environ};
    config_init(&config);
    enum errc code = config_load(&config, args.argc, args.argv, args.env, &e);
    int status = code ? cli_fail(c, CLI_USAGE, "%s", err_msg(&e)) : wire_serve(&config, &args);
    config_fini(&config);
    return status;
}

const struct cli_command cli_serve = {
    .name = "serve",
    .args = "",
    .summary = "Run the server in the foreground",
    .details = "SIGTERM and SIGINT stop it cleanly, SIGHUP reads the settings again. Each setting "
               "can also be a variable (--max-disk is LYMER_MAX_DISK) or a line of the --config "
               "file; docs/config.md.",
    .run = serve,
};

/* --- config: its own two options, the rest is the server's --- */

static void write_json(const struct config *config, struct buf *out)
{
    static const char *const sources[] = {"default", "file", "environment", "environment", "flag"};
    struct json_writer w = json_writer_init(out, 2);
    json_object(&w);
    for (int i = 0; i < CONF_COUNT; i++) {
        json_key(&w, str_from_c(conf_keys[i].key));
        json_object(&w);
        JSON_KEY_C(&w, "value");
        json_str(&w, str_from_c(config->given[i].text));
        JSON_KEY_C(&w, "source");
        json_str(&w, str_from_c(sources[config->given[i].source]));
        json_object_end(&w);
    }
    json_object_end(&w);
    buf_add_char(out, '\n');
}

#define CONFIG_ARGS_MAX 128

static int print_config(struct cli *c)
{
    const char *args[CONFIG_ARGS_MAX];
    int n = 0;
    bool json = false, markdown = false;
    for (int i = 0; i < c->argc; i++) {
        if (strcmp(c->argv[i], "--markdown") == 0) {
            markdown = true;
        } else if (strcmp(c->argv[i], "-o") == 0 && i + 1 < c->argc) {
            if (strcmp(c->argv[++i], "json") != 0)
                return cli_fail(c, CLI_USAGE, "-o: \"%.100s\" is not json", c->argv[i]);
            json = true;
        } else if (n == CONFIG_ARGS_MAX) {
            return cli_fail(c, CLI_USAGE, "more than %d arguments", CONFIG_ARGS_MAX);
        } else {
            args[n++] = c->argv[i];
        }
    }
    struct config config;
    struct err e = {0};
    struct buf out = buf_init(MIB);
    int status = CLI_OK;
    config_init(&config);
    if (markdown)
        config_write_markdown(&out);
    else if (config_load(&config, n, args, (const char *const *)environ, &e))
        status = cli_fail(c, CLI_USAGE, "%s", err_msg(&e));
    else if (json)
        write_json(&config, &out);
    else
        config_write(&config, &out);
    if (config.warnings.n)
        fprintf(stderr, "%.*s", (int)config.warnings.n, config.warnings.p);
    cli_out(buf_str(&out));
    buf_fini(&out);
    config_fini(&config);
    return status;
}

const struct cli_command cli_config = {
    .name = "config",
    .args = "",
    .summary = "Print the server's settings and where each came from",
    .details = "Takes the options of `lymer serve`, and -o json, or --markdown for the reference "
               "page.",
    .run = print_config,
};

/* --- version, completion --- */

static const struct cli_option version_options[] = {
    {"output", "FORMAT", "text", "text|json", "How to print"}, {0}};

static int print_version(struct cli *c)
{
    struct buf out = buf_init(KIB);
    buf_addf(&out,
             cli_choice(c, "output") ? "{\"version\":\"%s\",\"commit\":\"%s\"}\n"
                                     : "lymer %s (%s)\n",
             LYMER_VERSION, version_commit);
    cli_out(buf_str(&out));
    buf_fini(&out);
    return CLI_OK;
}

const struct cli_command cli_version = {.name = "version",
                                        .args = "",
                                        .summary = "Print the version",
                                        .options = version_options,
                                        .run = print_version};

static const struct cli_option no_options[] = {{0}};

static int print_completion(struct cli *c)
{
    static const char *const shells[] = {"bash", "zsh", "fish"};
    for (size_t i = 0; i < ARRAY_LEN(shells); i++) {
        if (strcmp(c->args[0], shells[i]) != 0)
            continue;
        struct buf out = buf_init(MIB);
        cli_completion(shells[i], &out);
        cli_out(buf_str(&out));
        buf_fini(&out);
        return CLI_OK;
    }
    return cli_fail(c, CLI_USAGE, "\"%.100s\" is not bash, zsh or fish", c->args[0]);
}

const struct cli_command cli_completion_command = {
    .name = "completion",
    .args = "bash|zsh|fish",
    .args_min = 1,
    .args_max = 1,
    .summary = "Print completion for a shell",
    .details =
        "For bash and zsh: source <(lymer completion bash) or zsh. For fish: lymer completion fish | "
        "source",
    .options = no_options,
    .run = print_completion,
};
