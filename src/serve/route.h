/* SPDX-License-Identifier: Apache-2.0 */
/* What a request's head means to a door: which route, which parameters, which origin. Pure. */
#ifndef LYMER_SERVE_ROUTE_H
#define LYMER_SERVE_ROUTE_H

#include "serve/http.h"

enum route_result { ROUTE_FOUND, ROUTE_NONE, ROUTE_OTHER_METHOD, ROUTE_BAD_PATH };

/* The first row that takes the request's path and method; fills r->params. HEAD is served by GET
 * rows. allow: for ROUTE_OTHER_METHOD, in r->arena. */
enum route_result route_find(const struct http_door *door, struct http_req *r,
                             const struct http_route **row, struct str *allow);
/* The methods of the path's rows, for a preflight answer; in r->arena. */
struct str route_methods(const struct http_door *door, struct http_req *r);

/* The value for access-control-allow-origin; STR_NONE: nothing is said. */
struct str cors_origin(const struct http_req *r, const struct http_door *door);
bool cors_is_preflight(const struct http_req *r, const struct http_door *door);

/* Whether an Accept-Encoding lets the answer be gzip (a q of 0 refuses). */
bool accepts_gzip(struct str accept_encoding);

#endif
