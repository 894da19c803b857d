/* SPDX-License-Identifier: Apache-2.0 */
#include "app/cli/cli.h"

#include "app/cli/term.h"
#include "app/config.h"
#include "base/num.h"
#include "base/os/os.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ARGS_MAX 256u

/* --- messages --- */

int cli_fail(const struct cli *c, int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, c->command ? "lymer %s: " : "lymer%s: ", c->command ? c->command->name : "");
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    return code;
}

int cli_fail_err(const struct cli *c, const struct err *e)
{
    int code = CLI_TRUE;
    if (e->code == E_USAGE || e->code == E_INVALID)
        code = CLI_USAGE;
    else if (e->code == E_NOT_FOUND)
        code = CLI_NOT_FOUND;
    else if (e->code == E_UNAVAILABLE || e->code == E_TIMEOUT || e->code == E_LOCKED)
        code = CLI_UNREACHABLE;
    return cli_fail(c, code, "%s%s", err_msg(e), err_hint(e->code));
}

void cli_out(struct str text)
{
    while (text.n) {
        ssize_t n = write(STDOUT_FILENO, text.p, text.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EPIPE)
            exit(CLI_OK); /* `lymer search | head` has seen enough */
        if (n < 0) {
            fprintf(stderr, "lymer: cannot write the output: %s\n", strerror(errno));
            exit(CLI_TRUE);
        }
        text = str_skip(text, (size_t)n);
    }
}

/* --- values --- */

const char *cli_value(const struct cli *c, const char *name)
{
    for (unsigned i = c->given_count; i; i--)
        if (strcmp(c->given[i - 1].option->name, name) == 0)
            return c->given[i - 1].value;
    for (const struct cli_option *o = c->command->options; o->name; o++)
        if (strcmp(o->name, name) == 0)
            return o->def;
    return NULL;
}

bool cli_switch(const struct cli *c, const char *name)
{
    return cli_value(c, name) != NULL;
}

const char *cli_each(const struct cli *c, const char *name, unsigned *at)
{
    while (*at < c->given_count) {
        unsigned i = (*at)++;
        if (strcmp(c->given[i].option->name, name) == 0)
            return c->given[i].value;
    }
    return NULL;
}

bool cli_u64(const struct cli *c, const char *name, uint64_t least, uint64_t most, uint64_t *v)
{
    const char *text = cli_value(c, name);
    if (num_get_u64(str_from_c(text), v) && *v >= least && *v <= most)
        return true;
    cli_fail(c, CLI_USAGE, "--%s: \"%.100s\" is not a whole number from %llu to %llu", name, text,
             (unsigned long long)least, (unsigned long long)most);
    return false;
}

bool cli_duration(const struct cli *c, const char *name, uint64_t *ns)
{
    const char *text = cli_value(c, name);
    int64_t v;
    if (!num_get_duration(str_from_c(text), &v) || v < 0) {
        cli_fail(c, CLI_USAGE, "--%s: \"%.100s\" is not a duration such as 100ms or 1h", name,
                 text);
        return false;
    }
    *ns = (uint64_t)v;
    return true;
}

bool cli_time(const struct cli *c, const char *name, uint64_t now_ns, uint64_t *ns)
{
    const char *text = cli_value(c, name);
    int64_t back;
    if (strcmp(text, "now") == 0) {
        *ns = now_ns;
        return true;
    }
    if (num_get_rfc3339(str_from_c(text), ns))
        return true;
    if (num_get_duration(str_from_c(text), &back) && back >= 0 && (uint64_t)back <= now_ns) {
        *ns = now_ns - (uint64_t)back;
        return true;
    }
    cli_fail(c, CLI_USAGE,
             "--%s: \"%.100s\" is not a time such as 2026-01-02T03:04:05Z, or 1h for an hour ago",
             name, text);
    return false;
}

static bool choice_at(const char *choices, const char *value, unsigned *at)
{
    struct str rest = str_from_c(choices), one;
    for (*at = 0; str_split(&rest, '|', &one); ++*at)
        if (str_eq_c(one, value))
            return true;
    return false;
}

unsigned cli_choice(const struct cli *c, const char *name)
{
    unsigned at = 0;
    for (const struct cli_option *o = c->command->options; o->name; o++)
        if (strcmp(o->name, name) == 0)
            ensure(choice_at(o->choices, cli_value(c, name), &at));
    return at;
}

/* --- parsing --- */

static const struct cli_option *option_named(const struct cli_command *cmd, struct str name)
{
    if (str_eq(name, STR("o")))
        name = STR("output");
    for (const struct cli_option *o = cmd->options; o->name; o++)
        if (str_eq_c(name, o->name))
            return o;
    return NULL;
}

static int take_option(struct cli *c, int argc, const char *const *argv, int *i)
{
    struct str arg = str_from_c(argv[*i]);
    bool is_long = arg.p[1] == '-';
    struct str name = str_skip(arg, is_long ? 2 : 1), value = STR_NONE;
    size_t equals = is_long ? str_find(name, '=') : name.n;
    bool has_value = equals < name.n;
    if (has_value) {
        value = str_skip(name, equals + 1);
        name = str_take(name, equals);
    }
    if (!is_long && name.n > 1 && name.p[0] == 'o') { /* -ojson */
        value = str_skip(name, 1);
        name = str_take(name, 1);
        has_value = true;
    }
    const struct cli_option *o = option_named(c->command, name);
    if (!o || (!is_long && name.n != 1))
        return cli_fail(c, CLI_USAGE, "unknown option %.100s; see lymer %s --help", argv[*i],
                        c->command->name);
    if (!o->arg && has_value)
        return cli_fail(c, CLI_USAGE, "--%s takes no value", o->name);
    if (o->arg && !has_value) {
        if (*i + 1 >= argc)
            return cli_fail(c, CLI_USAGE, "--%s needs a value (%s)", o->name, o->arg);
        value = str_from_c(argv[++*i]);
    }
    unsigned at;
    if (o->choices && !choice_at(o->choices, value.p, &at))
        return cli_fail(c, CLI_USAGE, "--%s: \"%.100s\" is not one of %s", o->name, value.p,
                        o->choices);
    if (c->given_count == CLI_GIVEN_MAX)
        return cli_fail(c, CLI_USAGE, "more than %u options", CLI_GIVEN_MAX);
    c->given[c->given_count].option = o;
    c->given[c->given_count++].value = o->arg ? value.p : "";
    return CLI_OK;
}

static int parse(struct cli *c, int argc, const char *const *argv, const char **args)
{
    bool only_args = false;
    for (int i = 0; i < argc; i++) {
        int code = CLI_OK;
        if (!only_args && strcmp(argv[i], "--") == 0)
            only_args = true;
        else if (!only_args && argv[i][0] == '-' && argv[i][1])
            code = take_option(c, argc, argv, &i);
        else if (c->arg_count == ARGS_MAX)
            code = cli_fail(c, CLI_USAGE, "more than %u arguments", ARGS_MAX);
        else
            args[c->arg_count++] = argv[i];
        if (code)
            return code;
    }
    c->args = args;
    if (c->arg_count < c->command->args_min)
        return cli_fail(c, CLI_USAGE, "expects %s", c->command->args);
    if (c->arg_count > c->command->args_max)
        return cli_fail(c, CLI_USAGE, "unexpected argument \"%.100s\"", args[c->command->args_max]);
    return CLI_OK;
}

static const struct cli_command *command_named(const char *name)
{
    for (const struct cli_command *const *cmd = cli_commands; *cmd; cmd++)
        if (strcmp((*cmd)->name, name) == 0)
            return *cmd;
    return NULL;
}

static bool asks_help(int argc, const char *const *argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static int print_help(const struct cli_command *cmd)
{
    struct buf out = buf_init(MIB);
    if (cmd)
        cli_help(cmd, term_width(), &out);
    else
        cli_help_all(term_width(), &out);
    cli_out(buf_str(&out));
    buf_fini(&out);
    return CLI_OK;
}

int cli_main(int argc, const char *const *argv)
{
    struct cli c = {0};
    const char *args[ARGS_MAX];
    const char *name = argc > 1 ? argv[1] : "help";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    if (strcmp(name, "--version") == 0)
        name = "version";
    if (strcmp(name, "help") == 0 && argc <= 2)
        return print_help(NULL);
    bool help = strcmp(name, "help") == 0;
    if (help)
        name = argv[2];
    const struct cli_command *cmd = command_named(name);
    if (!cmd)
        return cli_fail(&c, CLI_USAGE, "unknown command \"%.100s\"; see lymer help", name);
    if (help || asks_help(argc - 2, argv + 2))
        return print_help(cmd);
    c.command = cmd;
    c.argc = argc > 2 ? argc - 2 : 0;
    c.argv = argv + 2;
    if (cmd->options) {
        int code = parse(&c, c.argc, c.argv, args);
        if (code)
            return code;
    }
    return cmd->run(&c);
}
