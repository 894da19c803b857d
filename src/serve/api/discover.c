/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/api/discover.h"

#include "serve/api/jaeger_answer.h"
#include "serve/api/jaeger_params.h"

#define PLACES     (TAG_LINK + 1)
#define COST_KINDS (COST_INDEX + 1)

const char *const discover_places[PLACES] = {"any", "span", "resource", "scope", "event", "link"};
const char *const discover_types[ATTR_TYPE_COUNT] = {"empty",  "string", "bool",  "int",
                                                     "double", "bytes",  "array", "map"};
static const char *const cost_kinds[COST_KINDS] = {"field", "span", "event", "link", "index"};

static bool name_at(const char *const *names, unsigned count, struct str text, unsigned *at)
{
    for (*at = 0; *at < count; ++*at)
        if (str_eq_c(text, names[*at]))
            return true;
    return false;
}

bool discover_place_from(struct str text, enum tag_place *place)
{
    unsigned at = TAG_ANY;
    bool ok = !text.n || name_at(discover_places, PLACES, text, &at);
    *place = ok ? at : TAG_ANY;
    return ok;
}

const char *cost_kind_text(enum cost_kind kind)
{
    return cost_kinds[kind];
}

bool cost_kind_from(struct str text, enum cost_kind *kind)
{
    unsigned at;
    bool ok = name_at(cost_kinds, COST_KINDS, text, &at);
    *kind = ok ? at : COST_FIELD;
    return ok;
}

/* --- bodies --- */

static void put_types(struct json_writer *w, uint32_t types)
{
    JSON_KEY_C(w, "types");
    json_array(w);
    for (unsigned i = 0; i < ATTR_TYPE_COUNT; i++)
        if (types >> i & 1)
            json_str(w, str_from_c(discover_types[i]));
    json_array_end(w);
}

static void put_u64(struct json_writer *w, struct str key, uint64_t v)
{
    json_key(w, key);
    json_u64(w, v);
}

/* A start: rounded up, so that what is said to be covered is. */
static void put_after(struct json_writer *w, bool complete, uint64_t after_ns)
{
    JSON_KEY_C(w, "complete");
    json_bool(w, complete);
    if (after_ns)
        put_u64(w, STR("coveredAfter"), after_ns / NS_PER_US + (after_ns % NS_PER_US != 0));
}

static void put_text(struct json_writer *w, const struct discovered_text *t, bool value)
{
    json_object(w);
    if (value) {
        JSON_KEY_C(w, "value");
        json_str(w, t->text);
    } else {
        JSON_KEY_C(w, "key");
        json_str(w, t->text);
        JSON_KEY_C(w, "place");
        json_str(w, str_from_c(discover_places[t->place]));
    }
    put_types(w, t->types);
    put_u64(w, STR("count"), t->count);
    if (t->missed)
        put_u64(w, STR("missed"), t->missed);
    json_object_end(w);
}

void discovered_json(struct json_writer *w, const struct discovered *d, bool values, uint32_t limit)
{
    json_object(w);
    JSON_KEY_C(w, "data");
    json_array(w);
    for (size_t i = 0; i < d->n; i++)
        put_text(w, &d->v[i], values);
    json_array_end(w);
    put_u64(w, STR("total"), d->total);
    put_u64(w, STR("limit"), limit);
    put_u64(w, STR("offset"), 0);
    JSON_KEY_C(w, "errors");
    json_null(w);
    put_u64(w, STR("spans"), d->spans);
    put_u64(w, STR("missed"), d->missed);
    put_u64(w, STR("longer"), d->longer);
    put_after(w, d->complete, d->after_ns);
    json_object_end(w);
}

static void put_operations(struct json_writer *w, const struct cost_operation *v, size_t n)
{
    json_array(w);
    for (size_t i = 0; i < n; i++) {
        json_object(w);
        JSON_KEY_C(w, "service");
        json_str(w, v[i].service);
        if (v[i].name.p) {
            JSON_KEY_C(w, "operation");
            json_str(w, v[i].name);
        }
        put_u64(w, STR("spans"), v[i].spans);
        put_u64(w, STR("bytes"), v[i].bytes);
        json_object_end(w);
    }
    json_array_end(w);
}

static void put_columns(struct json_writer *w, const struct cost *c)
{
    json_array(w);
    for (size_t i = 0; i < c->column_n; i++) {
        const struct cost_column *col = &c->columns[i];
        json_object(w);
        JSON_KEY_C(w, "name");
        json_str(w, col->name);
        JSON_KEY_C(w, "kind");
        json_str(w, str_from_c(cost_kind_text(col->kind)));
        if (col->types)
            put_types(w, col->types);
        put_u64(w, STR("bytes"), col->bytes);
        json_object_end(w);
    }
    json_array_end(w);
}

void cost_json(struct json_writer *w, const struct cost *c)
{
    json_object(w);
    JSON_KEY_C(w, "data");
    json_object(w);
    put_u64(w, STR("bytes"), c->bytes);
    put_u64(w, STR("spans"), c->spans);
    put_u64(w, STR("blocks"), c->blocks);
    put_u64(w, STR("waitingSpans"), c->waiting_spans);
    put_after(w, c->complete, c->after_ns);
    JSON_KEY_C(w, "services");
    put_operations(w, c->services, c->service_n);
    JSON_KEY_C(w, "operations");
    put_operations(w, c->operations, c->operation_n);
    JSON_KEY_C(w, "columns");
    put_columns(w, c);
    json_object_end(w);
    put_u64(w, STR("total"), 1);
    put_u64(w, STR("limit"), 0);
    put_u64(w, STR("offset"), 0);
    JSON_KEY_C(w, "errors");
    json_null(w);
    json_object_end(w);
}

/* --- routes --- */

static void answer(struct http_req *r, bool values)
{
    struct answer a;
    struct discover_query q;
    struct discovered d;
    struct str why;
    struct err e = {0};
    if (!answer_begin(&a, r, ANSWER_V1))
        return;
    if (!jaeger_params_discover(r, a.now_ns, &q, &why)) {
        answer_fail(&a, 400, why);
        return;
    }
    q.tenant = a.tenant;
    enum errc rc = values ? snap_values(answer_snap(&a), &q, r->params[0], &a.arena, &d, &e)
                          : snap_keys(answer_snap(&a), &q, &a.arena, &d, &e);
    if (rc) {
        answer_fail_code(&a, rc, &e);
        return;
    }
    discovered_json(&a.w, &d, values, q.limit);
    answer_send(&a, false);
}

static void get_keys(struct http_req *r)
{
    answer(r, false);
}

static void get_values(struct http_req *r)
{
    answer(r, true);
}

static void get_cost(struct http_req *r)
{
    struct answer a;
    struct cost c;
    struct err e = {0};
    if (!answer_begin(&a, r, ANSWER_V1))
        return;
    enum errc rc = snap_cost(answer_snap(&a), a.tenant, COST_BUDGET_NS, &a.arena, &c, &e);
    if (rc) {
        answer_fail_code(&a, rc, &e);
        return;
    }
    cost_json(&a.w, &c);
    answer_send(&a, false);
}

const struct http_route discover_routes[] = {
    {"GET", "/api/attributes", get_keys, HTTP_ON_POOL},
    {"GET", "/api/attributes/{key}/values", get_values, HTTP_ON_POOL},
    {"GET", "/api/cost", get_cost, HTTP_ON_POOL},
};
const size_t discover_route_count = ARRAY_LEN(discover_routes);
