/* SPDX-License-Identifier: Apache-2.0 */
/* One row per command, in its own file. */
#ifndef LYMER_APP_CLI_COMMANDS_H
#define LYMER_APP_CLI_COMMANDS_H

#include "app/cli/cli.h"

extern const struct cli_command cli_serve, cli_search, cli_trace, cli_services, cli_ops, cli_deps,
    cli_keys, cli_values, cli_cost, cli_load, cli_import, cli_export, cli_backup, cli_restore,
    cli_verify, cli_repair, cli_dump, cli_redact, cli_retention, cli_doctor, cli_config,
    cli_completion_command, cli_version;

#endif
