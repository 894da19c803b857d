/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: one table of commands, each with a table of options. Parsing, --help and shell
 * completion are done from the tables. Data goes to standard output, messages to standard error. */
#ifndef LYMER_APP_CLI_CLI_H
#define LYMER_APP_CLI_CLI_H

#include "base/buf.h"

#define CLI_GIVEN_MAX 64u /* options on one command line */

enum cli_exit {
    CLI_OK = 0,
    CLI_TRUE = 1, /* what was asked about is so: damage found, spans refused */
    CLI_USAGE = 2,
    CLI_NOT_FOUND = 3,
    CLI_UNREACHABLE = 4,
};

struct cli_option {
    const char *name;
    const char *arg; /* NULL: a switch */
    const char *def;
    const char *choices; /* "a|b|c", or NULL */
    const char *help;
};

struct cli;

struct cli_command {
    const char *name;
    const char *args; /* "ID|FILE|-", "" */
    unsigned args_min, args_max;
    const char *summary; /* a line */
    const char *details; /* paragraphs, or NULL */
    const struct cli_option
        *options; /* ends with a row without a name; NULL: it parses argv itself */
    int (*run)(struct cli *c);
};

struct cli {
    const struct cli_command *command;
    const char *const *args; /* what is not an option */
    unsigned arg_count;
    int argc; /* everything after the command's name, for those that parse it themselves */
    const char *const *argv;
    unsigned given_count;
    struct {
        const struct cli_option *option;
        const char *value;
    } given[CLI_GIVEN_MAX];
};

extern const struct cli_command
    *const cli_commands[]; /* NULL-terminated, in the order of the help */

int cli_main(int argc, const char *const *argv);

/* The value given last, else the default (may be NULL). */
const char *cli_value(const struct cli *c, const char *name);
bool cli_switch(const struct cli *c, const char *name);
/* Repeated options: the value at or after *at, moving it on; NULL at the end. */
const char *cli_each(const struct cli *c, const char *name, unsigned *at);
/* Numbers; on a bad one the sentence is printed and false returned. */
MUST_CHECK bool cli_u64(const struct cli *c, const char *name, uint64_t least, uint64_t most,
                        uint64_t *v);
MUST_CHECK bool cli_duration(const struct cli *c, const char *name, uint64_t *ns);
/* A time: RFC 3339, "now", or a duration back from now ("1h"). */
MUST_CHECK bool cli_time(const struct cli *c, const char *name, uint64_t now_ns, uint64_t *ns);
/* Position of the value in the option's choices. */
unsigned cli_choice(const struct cli *c, const char *name);

/* "lymer load: …" on standard error; returns code. */
int cli_fail(const struct cli *c, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The same for an error of the library, with the exit code that fits it. */
int cli_fail_err(const struct cli *c, const struct err *e);
/* Writes all of it to standard output; an output that is gone ends the process quietly. */
void cli_out(struct str text);
void cli_help(const struct cli_command *cmd, unsigned width, struct buf *out);
void cli_help_all(unsigned width, struct buf *out);
void cli_completion(const char *shell, struct buf *out);

#endif
