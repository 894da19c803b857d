/* SPDX-License-Identifier: Apache-2.0 */
/* Routes of our own beside Jaeger's, in its envelope (docs/internals/query-api.md):
 *
 *   GET /api/attributes               attribute keys with counts
 *   GET /api/attributes/{key}/values  values of a key with counts
 *   GET /api/cost                     what the bytes of the tenant's blocks are spent on */
#ifndef LYMER_SERVE_API_DISCOVER_H
#define LYMER_SERVE_API_DISCOVER_H

#include "codec/json.h"
#include "serve/http.h"
#include "store/trace/trace_store.h"

#define DISCOVER_LIMIT_DEFAULT 100u

/* Their door's arg is a `struct jaeger_api`, or begins with one. */
extern const struct http_route discover_routes[];
extern const size_t discover_route_count;

/* The names of places and types, by enum tag_place and enum attr_type. */
extern const char *const discover_places[], *const discover_types[];
/* False when it is none of the places; empty text is `any`. */
MUST_CHECK bool discover_place_from(struct str text, enum tag_place *place);
const char *cost_kind_text(enum cost_kind kind);
MUST_CHECK bool cost_kind_from(struct str text, enum cost_kind *kind);

/* The answers' bodies, for those that have the store at hand. */
void discovered_json(struct json_writer *w, const struct discovered *d, bool values,
                     uint32_t limit);
void cost_json(struct json_writer *w, const struct cost *c);

#endif
