/* SPDX-License-Identifier: Apache-2.0 */
#include "app/cli/commands.h"

/* In the order of the help; clang-format would fill lines. */
/* clang-format off */
const struct cli_command *const cli_commands[] = {
    &cli_serve,
    &cli_search,
    &cli_trace,
    &cli_services,
    &cli_ops,
    &cli_deps,
    &cli_keys,
    &cli_values,
    &cli_cost,
    &cli_load,
    &cli_import,
    &cli_export,
    &cli_backup,
    &cli_restore,
    &cli_verify,
    &cli_repair,
    &cli_dump,
    &cli_redact,
    &cli_retention,
    &cli_doctor,
    &cli_config,
    &cli_completion_command,
    &cli_version,
    NULL
};
/* clang-format on */
