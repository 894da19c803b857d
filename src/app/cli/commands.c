/* SPDX-License-Identifier: Apache-2.0 */
#include "app/cli/commands.h"

const struct cli_command *const cli_commands[] = {
    &cli_serve,   &cli_search, &cli_trace,  &cli_services,
    &cli_ops,     &cli_deps,   &cli_keys,   &cli_values,
    &cli_cost,    &cli_load,   &cli_import, &cli_export,
    &cli_verify,  &cli_doctor, &cli_config, &cli_completion_command,
    &cli_version, NULL};
