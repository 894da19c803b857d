/* SPDX-License-Identifier: Apache-2.0 */
/* Jaeger's HTTP query API, both generations: /api/… (jaeger_v1.c) and /api/v3/… (jaeger_v3.c). */
#ifndef LYMER_SERVE_API_JAEGER_H
#define LYMER_SERVE_API_JAEGER_H

#include "engine/query/query.h"
#include "serve/http.h"

/* What the handlers need; lives as long as the server. The door that serves the routes has it as
 * its `arg`: r->arg is a `struct jaeger_api *`, or a struct that begins with one. */
struct jaeger_api {
    struct store *store;
    struct os *os;         /* clock and randomness */
    struct budget *memory; /* of all questions together; NULL: no limit */
    struct adjust_config adjust;
    const char *base_path;     /* NULL, "" or "/": none; else "/jaeger", without a slash behind */
    const char *tenant_header; /* lower case; NULL: x-tenant. X-Scope-OrgID is understood too */
    const char *tenants;       /* a comma list of those known; NULL or "": any */
    bool tenant_required;      /* without the header 401; else the default tenant */
    uint64_t search_max_ns;    /* wall time and bytes read of one search; 0: any */
    uint64_t search_max_bytes;
};

/* The rows of both generations under the base path, what answers other methods (405) and other
 * paths under /api (404) included. */
size_t jaeger_api_routes(const struct jaeger_api *api, struct http_route **out);
void jaeger_api_routes_free(struct http_route *routes, size_t count);

#endif
