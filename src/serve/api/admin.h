/* SPDX-License-Identifier: Apache-2.0 */
/* What the server says about itself: Jaeger v1's admin port (14269: health on `/` and every path
 * that is not another's, `/metrics`, `/version`, `/redact`, `/retention`) and Jaeger v2's health
 * port (13133:
 * `/status`). Both doors have a `struct admin` as their arg. */
#ifndef LYMER_SERVE_API_ADMIN_H
#define LYMER_SERVE_API_ADMIN_H

#include "serve/http.h"

#include <stdatomic.h>

enum admin_phase { ADMIN_STARTING, ADMIN_READY, ADMIN_STOPPING };

struct store;
struct os;

struct admin {
    const char *version, *commit, *build_date;
    struct os *os;
    struct store *store; /* for its health; NULL before it is open */
    uint64_t start_ns;   /* wall clock */
    /* Written by admin_enter. */
    _Atomic int phase;
    _Atomic uint64_t phase_ns; /* since when, wall clock */
};

/* Moves on: STARTING → READY → STOPPING, or STARTING → STOPPING. */
void admin_enter(struct admin *a, enum admin_phase phase);

extern const struct http_route admin_routes[]; /* 14269 */
extern const size_t admin_route_count;
http_handler admin_health; /* its fallback: any other path */

extern const struct http_route status_routes[]; /* 13133 */
extern const size_t status_route_count;

#endif
