/* SPDX-License-Identifier: Apache-2.0 */
/* The query parameters of Jaeger's API, typed, with its defaults and its error sentences (Go's
 * strconv and time wordings included: people search for them). Private to serve/api. Everything
 * lives in the request's arena. On failure *why is the sentence for a 400. */
#ifndef LYMER_SERVE_API_JAEGER_PARAMS_H
#define LYMER_SERVE_API_JAEGER_PARAMS_H

#include "engine/query/query.h"
#include "model/query.h"
#include "serve/http.h"
#include "store/trace/trace_store.h"

#define JAEGER_LIMIT_DEFAULT        100u
#define JAEGER_SEARCH_BACK_NS       (48 * 3600 * NS_PER_S)
#define JAEGER_DEPENDENCIES_BACK_MS INT64_C(86400000)

struct jaeger_search {
    struct trace_query q; /* all but the tenant */
    uint8_t (*ids)[16];   /* v1: traceID=…, instead of a search */
    size_t id_count;
    bool raw;
    bool own;               /* a parameter that Jaeger has not was given */
    struct trace_hit after; /* q.after, when there is a cursor */
};

struct jaeger_get {
    uint8_t id[16];
    bool raw;
    bool paged; /* spans [offset, offset + limit) are asked for */
    uint64_t offset;
    uint32_t limit;
};

struct jaeger_dependencies {
    uint64_t from_ns, to_ns;
    struct str service; /* empty: all */
};

MUST_CHECK bool jaeger_params_search(struct http_req *r, uint64_t now_ns, struct jaeger_search *out,
                                     struct str *why);
MUST_CHECK bool jaeger_params_get(struct http_req *r, struct str id, struct jaeger_get *out,
                                  struct str *why);
MUST_CHECK bool jaeger_params_dependencies(struct http_req *r, uint64_t now_ns,
                                           struct jaeger_dependencies *out, struct str *why);

/* All but the tenant; also of our own routes (serve/api/discover.h). Without `start` the last
 * `lookback` milliseconds. */
MUST_CHECK bool jaeger_params_discover(struct http_req *r, uint64_t now_ns,
                                       struct discover_query *out, struct str *why);

MUST_CHECK bool jaeger_params_v3_search(struct http_req *r, struct jaeger_search *out,
                                        struct str *why);
MUST_CHECK bool jaeger_params_v3_get(struct http_req *r, struct str id, struct jaeger_get *out,
                                     struct str *why);

/* The first value of the parameter, empty when absent. */
struct str jaeger_param(struct http_req *r, struct str name);

#endif
