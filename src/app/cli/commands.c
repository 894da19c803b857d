/* SPDX-License-Identifier: Apache-2.0 */
#include "app/cli/commands.h"

const struct cli_command *const cli_commands[] = {
    &cli_serve, &cli_load, &cli_config, &cli_completion_command, &cli_version, NULL};
