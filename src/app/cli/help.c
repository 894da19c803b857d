/* SPDX-License-Identifier: Apache-2.0 */
/* --help and shell completion, from the tables. */
#include "app/cli/cli.h"
#include "app/config.h"

#include <stdio.h>

static void add_wrapped(struct buf *out, const char *text, unsigned at, unsigned left,
                        unsigned width)
{
    struct str rest = str_from_c(text), word;
    if (at + 2 > left) {
        buf_add_char(out, '\n');
        at = 0;
    }
    buf_addf(out, "%*s", (int)(left - at), "");
    at = left;
    for (bool first = true; str_split(&rest, ' ', &word); first = false) {
        if (!first && at + 1 + word.n > width) {
            buf_addf(out, "\n%*s", (int)left, "");
            at = left;
        } else if (!first) {
            buf_add_char(out, ' ');
            at++;
        }
        buf_add_str(out, word);
        at += (unsigned)word.n;
    }
    buf_add_char(out, '\n');
}

static void add_option(struct buf *out, const struct cli_option *o, unsigned width)
{
    char left[96], text[512];
    bool output = strcmp(o->name, "output") == 0;
    int n = snprintf(left, sizeof left, "  %s--%s%s%s", output ? "-o, " : "", o->name,
                     o->arg ? " " : "", o->arg ? (o->choices ? o->choices : o->arg) : "");
    snprintf(text, sizeof text, o->def ? "%s (default %s)" : "%s", o->help, o->def ? o->def : "");
    buf_add_c(out, left);
    add_wrapped(out, text, (unsigned)n, 26, width);
}

static bool has_config(const struct cli_command *cmd)
{
    return !cmd->options;
}

void cli_help(const struct cli_command *cmd, unsigned width, struct buf *out)
{
    buf_addf(out, "lymer %s [OPTIONS]%s%s\n\n", cmd->name, *cmd->args ? " " : "", cmd->args);
    add_wrapped(out, cmd->summary, 0, 2, width);
    if (cmd->details) {
        buf_add_char(out, '\n');
        add_wrapped(out, cmd->details, 0, 2, width);
    }
    buf_add_c(out, "\nOptions:\n");
    if (has_config(cmd))
        config_write_help(out, width);
    for (const struct cli_option *o = cmd->options; o && o->name; o++)
        add_option(out, o, width);
    buf_add_c(out, "  -h, --help              This text\n");
}

void cli_help_all(unsigned width, struct buf *out)
{
    buf_add_c(out, "lymer " LYMER_VERSION ": receives, keeps and shows the traces of distributed "
                   "systems\n\nUsage: lymer COMMAND [OPTIONS]\n\n");
    for (const struct cli_command *const *cmd = cli_commands; *cmd; cmd++) {
        buf_addf(out, "  %-12s", (*cmd)->name);
        add_wrapped(out, (*cmd)->summary, 14, 16, width);
    }
    buf_add_c(out,
              "\n`lymer COMMAND --help` tells more. Exit codes: 0 ok, 1 what was asked about is "
              "so,\n2 wrong usage, 3 not found, 4 unreachable or unable to answer.\n");
}

/* --- completion: each option as "--name<TAB-free>help" for the shell's own syntax --- */

static void each_flag(const struct cli_command *cmd, struct buf *out,
                      void (*one)(struct buf *out, const struct cli_command *cmd, const char *flag,
                                  const char *choices, const char *help))
{
    char flag[64];
    for (const struct cli_option *o = cmd->options; o && o->name; o++) {
        snprintf(flag, sizeof flag, "--%s", o->name);
        one(out, cmd, flag, o->choices, o->help);
    }
    for (int i = 0; has_config(cmd) && i < CONF_COUNT; i++) {
        config_flag_name(&conf_keys[i], flag);
        one(out, cmd, flag, conf_keys[i].type == CONF_CHOICE ? conf_keys[i].choices : NULL,
            conf_keys[i].help);
    }
    one(out, cmd, "--help", NULL, "This text");
}

static void words(struct buf *out, const char *choices)
{
    for (const char *p = choices; *p; p++)
        buf_add_char(out, *p == '|' ? ' ' : *p);
}

static void bash_flag(struct buf *out, const struct cli_command *cmd, const char *flag,
                      const char *choices, const char *help)
{
    (void)cmd;
    (void)choices;
    (void)help;
    buf_addf(out, "%s ", flag);
}

static void bash_choice(struct buf *out, const struct cli_command *cmd, const char *flag,
                        const char *choices, const char *help)
{
    (void)help;
    if (!choices)
        return;
    buf_addf(out, "    %s:%s) COMPREPLY=($(compgen -W \"", cmd->name, flag);
    words(out, choices);
    buf_add_c(out, "\" -- \"$cur\")); return ;;\n");
}

static void bash(struct buf *out)
{
    buf_add_c(out, "_lymer() {\n    local cur=${COMP_WORDS[COMP_CWORD]} cmd=${COMP_WORDS[1]} "
                   "prev=${COMP_WORDS[COMP_CWORD-1]} words=\n    [ \"$prev\" = -o ] && "
                   "prev=--output\n    case $cmd:$prev in\n");
    for (const struct cli_command *const *cmd = cli_commands; *cmd; cmd++)
        each_flag(*cmd, out, bash_choice);
    buf_add_c(out, "    esac\n    if [ \"$COMP_CWORD\" = 1 ]; then\n        words=\"");
    for (const struct cli_command *const *cmd = cli_commands; *cmd; cmd++)
        buf_addf(out, "%s ", (*cmd)->name);
    buf_add_c(out, "help\"\n    else\n        case $cmd in\n");
    for (const struct cli_command *const *cmd = cli_commands; *cmd; cmd++) {
        buf_addf(out, "        %s) words=\"", (*cmd)->name);
        each_flag(*cmd, out, bash_flag);
        buf_add_c(out, "\" ;;\n");
    }
    buf_add_c(out, "        esac\n        case $cur in -*) ;; *) COMPREPLY=($(compgen -f -- "
                   "\"$cur\")); return ;; esac\n    fi\n    COMPREPLY=($(compgen -W \"$words\" -- "
                   "\"$cur\"))\n}\ncomplete -o filenames -F _lymer lymer\n");
}

/* Between single quotes, with what zsh's _arguments takes specially left out. */
static void plain(struct buf *out, const char *s)
{
    for (; *s; s++)
        if (!strchr("'[]:\\`$\"", *s))
            buf_add_char(out, *s);
}

static void zsh_flag(struct buf *out, const struct cli_command *cmd, const char *flag,
                     const char *choices, const char *help)
{
    (void)cmd;
    buf_addf(out, " \\\n            '%s[", flag);
    plain(out, help);
    buf_add_char(out, ']');
    if (choices) {
        buf_add_c(out, ":value:(");
        words(out, choices);
        buf_add_char(out, ')');
    }
    buf_add_char(out, '\'');
}

static void zsh(struct buf *out)
{
    buf_add_c(out, "#compdef lymer\n_lymer() {\n    local -a commands\n    commands=(\n");
    for (const struct cli_command *const *cmd = cli_commands; *cmd; cmd++) {
        buf_addf(out, "        '%s:", (*cmd)->name);
        plain(out, (*cmd)->summary);
        buf_add_c(out, "'\n");
    }
    buf_add_c(out, "    )\n    if (( CURRENT == 2 )); then _describe command commands; return; fi\n"
                   "    case $words[2] in\n");
    for (const struct cli_command *const *cmd = cli_commands; *cmd; cmd++) {
        buf_addf(out, "        %s) _arguments", (*cmd)->name);
        each_flag(*cmd, out, zsh_flag);
        buf_add_c(out, " \\\n            '*:file:_files' ;;\n");
    }
    buf_add_c(out, "    esac\n}\ncompdef _lymer lymer\n");
}

static void fish_flag(struct buf *out, const struct cli_command *cmd, const char *flag,
                      const char *choices, const char *help)
{
    buf_addf(out, "complete -c lymer -n '__fish_seen_subcommand_from %s' -l %s", cmd->name,
             flag + 2);
    if (choices) {
        buf_add_c(out, " -x -a '");
        words(out, choices);
        buf_add_char(out, '\'');
    }
    buf_add_c(out, " -d '");
    plain(out, help);
    buf_add_c(out, "'\n");
}

static void fish(struct buf *out)
{
    for (const struct cli_command *const *cmd = cli_commands; *cmd; cmd++) {
        buf_addf(out, "complete -c lymer -n __fish_use_subcommand -f -a %s -d '", (*cmd)->name);
        plain(out, (*cmd)->summary);
        buf_add_c(out, "'\n");
        each_flag(*cmd, out, fish_flag);
    }
}

void cli_completion(const char *shell, struct buf *out)
{
    if (strcmp(shell, "bash") == 0)
        bash(out);
    else if (strcmp(shell, "zsh") == 0)
        zsh(out);
    else
        fish(out);
}
