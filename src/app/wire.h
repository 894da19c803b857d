/* SPDX-License-Identifier: Apache-2.0 */
/* The server put together. */
#ifndef LYMER_APP_WIRE_H
#define LYMER_APP_WIRE_H

#include "app/config.h"

/* What `lymer serve` was started with, to read it all again on SIGHUP. */
struct wire_args {
    int argc;
    const char *const *argv, *const *env;
};

/* Serves until SIGTERM or SIGINT. 0, or 2 with one line on standard error when it cannot start. */
int wire_serve(const struct config *c, const struct wire_args *args);

/* The directory of the store: what was configured, else the default. A view that lives as long as
 * c.
 */
const char *wire_data_dir(const struct config *c);

#endif
