/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/api/jaeger_params.h"

#include "base/num.h"
#include "codec/jaeger_json.h"
#include "codec/json.h"
#include "serve/api/discover.h"

struct params {
    struct http_req *r;
    struct arena *a;
    struct str why;
};

struct str jaeger_param(struct http_req *r, struct str name)
{
    size_t at = 0;
    struct str value;
    return http_param(r, name, &at, &value) ? value : STR("");
}

/* --- values as Go reads them --- */

static struct str quoted(struct params *p, struct str s)
{
    struct buf b = buf_init(8 * HTTP_TARGET_MAX);
    jaeger_quote(&b, s);
    struct str text = arena_str(p->a, buf_str(&b));
    buf_fini(&b);
    return text;
}

enum go_number { GO_OK, GO_SYNTAX, GO_RANGE };

static enum go_number go_int(struct str s, int64_t least, int64_t most, int64_t *v)
{
    bool negative = s.n && s.p[0] == '-';
    if (s.n && (s.p[0] == '-' || s.p[0] == '+'))
        s = str_skip(s, 1);
    if (!s.n)
        return GO_SYNTAX;
    uint64_t limit = negative ? -(uint64_t)least : (uint64_t)most, n = 0;
    bool over = false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return GO_SYNTAX;
        uint64_t digit = (uint64_t)(s.p[i] - '0');
        over |= digit > limit || n > (limit - digit) / 10;
        n = over ? n : n * 10 + digit;
    }
    *v = negative ? (int64_t)-n : (int64_t)n;
    return over ? GO_RANGE : GO_OK;
}

/* The cause in p->why, without the name of the parameter. */
static bool get_int(struct params *p, const char *fn, struct str s, int64_t least, int64_t most,
                    int64_t *v)
{
    enum go_number rc = go_int(s, least, most, v);
    if (rc == GO_OK)
        return true;
    struct str q = quoted(p, s);
    p->why = arena_printf(p->a, "strconv.%s: parsing %.*s: %s", fn, STR_ARG(q),
                          rc == GO_SYNTAX ? "invalid syntax" : "value out of range");
    return false;
}

static bool get_bool(struct params *p, struct str s, bool *v)
{
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
    static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        if (str_eq_c(s, yes[i]) || str_eq_c(s, no[i])) {
            *v = str_eq_c(s, yes[i]);
            return true;
        }
    struct str q = quoted(p, s);
    p->why = arena_printf(p->a, "strconv.ParseBool: parsing %.*s: invalid syntax", STR_ARG(q));
    return false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The unit that is wrong in a duration Go refuses: missing (empty) or unknown; false when the
 * number itself is wrong. */
static bool bad_unit(struct str s, struct str *unit)
{
    if (s.n && (s.p[0] == '-' || s.p[0] == '+'))
        s = str_skip(s, 1);
    while (s.n) {
        size_t n = 0, digits = 0;
        for (bool dot = false; n < s.n && (is_digit(s.p[n]) || (s.p[n] == '.' && !dot)); n++) {
            dot |= s.p[n] == '.';
            digits += s.p[n] != '.';
        }
        if (!digits)
            return false;
        s = str_skip(s, n);
        for (n = 0; n < s.n && !is_digit(s.p[n]) && s.p[n] != '.';)
            n++;
        *unit = str_take(s, n);
        static const char *const units[] = {"ns", "us", "µs", "μs", "ms", "s", "m", "h"};
        bool known = false;
        for (size_t i = 0; i < ARRAY_LEN(units); i++)
            known |= str_eq_c(*unit, units[i]);
        if (!known)
            return true;
        s = str_skip(s, n);
    }
    return false;
}

static bool get_duration(struct params *p, struct str s, int64_t *ns)
{
    if (num_get_duration(s, ns))
        return true;
    struct str unit, q = quoted(p, s);
    if (!bad_unit(s, &unit)) {
        p->why = arena_printf(p->a, "time: invalid duration %.*s", STR_ARG(q));
    } else if (!unit.n) {
        p->why = arena_printf(p->a, "time: missing unit in duration %.*s", STR_ARG(q));
    } else {
        struct str u = quoted(p, unit);
        p->why = arena_printf(p->a, "time: unknown unit %.*s in duration %.*s", STR_ARG(u),
                              STR_ARG(q));
    }
    return false;
}

/* Where the text leaves the layout, as Go's time.Parse tells it; *rest is what did not fit. A text
 * that fits everywhere names a day or an hour that does not exist. */
static const char *time_misfit(struct str s, struct str *rest)
{
    static const struct {
        const char *element;
        uint8_t digits;
    } layout[] = {{"2006", 4}, {"-", 0}, {"01", 2}, {"-", 0}, {"02", 2}, {"T", 0},
                  {"15", 2},   {":", 0}, {"04", 2}, {":", 0}, {"05", 2}};
    for (size_t i = 0; i < ARRAY_LEN(layout); i++) {
        size_t n = layout[i].digits ? layout[i].digits : 1;
        bool fits = s.n >= n;
        for (size_t k = 0; k < n && fits; k++)
            fits = layout[i].digits ? is_digit(s.p[k]) : s.p[k] == layout[i].element[0];
        *rest = s;
        if (!fits)
            return layout[i].element;
        s = str_skip(s, n);
    }
    if (s.n > 1 && s.p[0] == '.' && is_digit(s.p[1]))
        for (s = str_skip(s, 1); s.n && is_digit(s.p[0]);)
            s = str_skip(s, 1);
    *rest = s;
    bool zone = s.n == 6 && (s.p[0] == '+' || s.p[0] == '-' || s.p[0] == ' ');
    return zone || str_eq(s, STR("Z")) ? NULL : "Z07:00";
}

static bool get_time(struct params *p, struct str s, uint64_t *ns)
{
    if (num_get_rfc3339(s, ns))
        return true;
    struct str rest, q = quoted(p, s);
    const char *element = time_misfit(s, &rest);
    struct str r = quoted(p, rest);
    if (element)
        p->why = arena_printf(p->a,
                              "parsing time %.*s as \"2006-01-02T15:04:05.999999999Z07:00\": "
                              "cannot parse %.*s as \"%s\"",
                              STR_ARG(q), STR_ARG(r), element);
    else
        p->why = arena_printf(p->a, "parsing time %.*s: out of range", STR_ARG(q));
    return false;
}

/* Hex; base64 of 8 or 16 bytes is taken where hex fails, the error speaks of hex. */
static bool get_trace_id(struct params *p, struct str text, uint8_t id[16])
{
    struct err e = {0};
    if (jaeger_trace_id_parse(text, id, &e) == E_OK)
        return true;
    struct buf bytes = buf_init(32);
    bool ok = text.n <= 24 && num_get_base64(text, &bytes) && (bytes.n == 16 || bytes.n == 8);
    if (ok) {
        memset(id, 0, 16);
        memcpy(id + 16 - bytes.n, bytes.p, bytes.n);
    }
    buf_fini(&bytes);
    if (!ok)
        p->why = arena_str(p->a, str_from_c(err_msg(&e)));
    return ok;
}

/* --- tags --- */

static bool too_many_tags(struct params *p)
{
    p->why = arena_printf(p->a, "too many tags, at most %u can be asked for", QUERY_TAGS_MAX);
    return false;
}

/* Later values of a key replace earlier ones. */
static bool add_tag(struct params *p, struct trace_query *q, struct tag_filter *tags,
                    struct str key, struct str value)
{
    for (uint32_t i = 0; i < q->tag_count; i++)
        if (str_eq(tags[i].key, key)) {
            tags[i].value = value;
            return true;
        }
    if (q->tag_count == QUERY_TAGS_MAX)
        return too_many_tags(p);
    tags[q->tag_count++] = (struct tag_filter){.op = TAG_EQUALS, .key = key, .value = value};
    return true;
}

static const char *json_type_name(enum json_type t)
{
    switch (t) {
    case JSON_NUMBER:
        return "number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "bool";
    case JSON_ARRAY:
        return "array";
    case JSON_OBJECT:
        return "object";
    default:
        return "string";
    }
}

static bool bad_json(struct params *p, const struct json_reader *j, const char *go_type)
{
    if (j->type == JSON_END || (j->type == JSON_ERROR && j->err == E_TRUNCATED))
        p->why = STR("unexpected end of JSON input");
    else if (j->type == JSON_ERROR)
        p->why = arena_printf(p->a, "%s at byte %zu", j->why, json_offset(j));
    else
        p->why = arena_printf(p->a, "json: cannot unmarshal %s into Go value of type %s",
                              json_type_name(j->type), go_type);
    return false;
}

/* An object of strings; null stands for an empty object or string, as in Go. */
static bool add_json_tags(struct params *p, struct trace_query *q, struct tag_filter *tags,
                          struct str json)
{
    struct json_reader j;
    json_reader_init(&j, json, p->a);
    enum json_type t = json_next(&j);
    if (t != JSON_OBJECT && t != JSON_NULL)
        return bad_json(p, &j, "map[string]string");
    while (t != JSON_NULL && (t = json_next(&j)) == JSON_KEY) {
        struct str key = j.text;
        t = json_next(&j);
        if (t != JSON_STRING && t != JSON_NULL)
            return bad_json(p, &j, "string");
        if (!add_tag(p, q, tags, key, t == JSON_STRING ? j.text : STR("")))
            return false;
        t = JSON_KEY;
    }
    if (t == JSON_ERROR || json_next(&j) != JSON_END)
        return bad_json(p, &j, "map[string]string");
    return true;
}

static bool new_tags(struct params *p, struct trace_query *q, struct tag_filter **tags)
{
    *tags = ARENA_ARRAY(p->a, struct tag_filter, QUERY_TAGS_MAX);
    q->tags = *tags;
    p->why = STR("the request is too large");
    return *tags != NULL;
}

static bool get_v1_tags(struct params *p, struct trace_query *q, struct tag_filter *tags)
{
    struct str v;
    for (size_t at = 0; http_param(p->r, STR("tag"), &at, &v);) {
        size_t colon = str_find(v, ':');
        if (colon == v.n) {
            p->why = arena_printf(
                p->a, "malformed 'tag' parameter, expecting key:value, received: %.*s", STR_ARG(v));
            return false;
        }
        if (!add_tag(p, q, tags, str_take(v, colon), str_skip(v, colon + 1)))
            return false;
    }
    for (size_t at = 0; http_param(p->r, STR("tags"), &at, &v);)
        if (!add_json_tags(p, q, tags, v)) {
            p->why = arena_printf(p->a, "malformed 'tags' parameter, cannot unmarshal JSON: %.*s",
                                  STR_ARG(p->why));
            return false;
        }
    return true;
}

/* --- v1 --- */

/* Names the parameter in front of the cause. */
static bool unparsable(struct params *p, const char *name)
{
    p->why = arena_printf(p->a, "unable to parse param '%s': %.*s", name, STR_ARG(p->why));
    return false;
}

static uint64_t to_ns(int64_t v, uint64_t unit_ns)
{
    uint64_t ns;
    if (v < 0)
        return 0;
    return __builtin_mul_overflow((uint64_t)v, unit_ns, &ns) ? UINT64_MAX : ns;
}

static bool v1_time(struct params *p, const char *name, uint64_t unit_ns, uint64_t absent,
                    uint64_t *ns)
{
    struct str s = jaeger_param(p->r, str_from_c(name));
    int64_t v;
    *ns = absent;
    if (!s.n)
        return true;
    if (!get_int(p, "ParseInt", s, INT64_MIN, INT64_MAX, &v))
        return unparsable(p, name);
    *ns = to_ns(v, unit_ns);
    return true;
}

static bool v1_duration(struct params *p, const char *name, int64_t *ns)
{
    struct str s = jaeger_param(p->r, str_from_c(name));
    *ns = 0;
    return !s.n || get_duration(p, s, ns) || unparsable(p, name);
}

static bool v1_raw(struct params *p, bool *raw)
{
    struct str s = jaeger_param(p->r, STR("raw"));
    *raw = false;
    return !s.n || get_bool(p, s, raw) || unparsable(p, "raw");
}

/* Zero and less ask for the default. */
static bool get_limit_of(struct params *p, const char *fn, struct str s, const char *what,
                         uint32_t most, uint32_t *limit)
{
    int64_t v = 0;
    if (s.n && !get_int(p, fn, s, INT32_MIN, INT32_MAX, &v))
        return false;
    if (v > most) {
        p->why = arena_printf(p->a, "at most %u %s can be asked for", most, what);
        return false;
    }
    if (v > 0)
        *limit = (uint32_t)v;
    return true;
}

static bool get_limit(struct params *p, const char *fn, struct str s, uint32_t *limit)
{
    *limit = JAEGER_LIMIT_DEFAULT;
    return get_limit_of(p, fn, s, "traces", QUERY_LIMIT_MAX, limit);
}

/* --- what Jaeger has not: order, cursor, status, kind, has --- */

static bool own_param(struct params *p, struct jaeger_search *out, const char *name, struct str *v)
{
    *v = jaeger_param(p->r, str_from_c(name));
    out->own |= v->n > 0;
    return v->n > 0;
}

static bool no_choice(struct params *p, const char *name, struct str v, const char *choices)
{
    struct str q = quoted(p, v);
    p->why = arena_printf(p->a, "unable to parse param '%s': %.*s is not one of %s", name,
                          STR_ARG(q), choices);
    return false;
}

static bool get_cursor(struct params *p, struct jaeger_search *out, bool ordered)
{
    struct str v;
    enum query_order order;
    if (!own_param(p, out, "cursor", &v))
        return true;
    if (!query_cursor_get(v, &order, &out->after)) {
        p->why = STR("unable to parse param 'cursor': it is not the nextCursor of an answer");
        return false;
    }
    if (ordered && order != out->q.order) {
        p->why = STR("unable to parse param 'cursor': it is of another order");
        return false;
    }
    out->q.order = order;
    out->q.after = &out->after;
    return true;
}

static bool get_has(struct params *p, struct jaeger_search *out, struct tag_filter *tags)
{
    struct str v;
    for (size_t at = 0; http_param(p->r, STR("has"), &at, &v);) {
        if (out->q.tag_count == QUERY_TAGS_MAX)
            return too_many_tags(p);
        tags[out->q.tag_count++] = (struct tag_filter){.op = TAG_EXISTS, .key = v};
        out->own = true;
    }
    return true;
}

static bool get_own(struct params *p, struct jaeger_search *out, struct tag_filter *tags)
{
    struct trace_query *q = &out->q;
    struct str v;
    bool ordered = own_param(p, out, "order", &v);
    if (ordered && !query_order_from(v, &q->order))
        return no_choice(p, "order", v, "newest, slowest, spans, errors");
    if (own_param(p, out, "status", &v) && !query_status_from(v, &q->statuses))
        return no_choice(p, "status", v, "unset, ok, error");
    if (own_param(p, out, "kind", &v) && !query_kind_from(v, &q->kind))
        return no_choice(p, "kind", v, "unspecified, internal, server, client, producer, consumer");
    return get_cursor(p, out, ordered) && get_has(p, out, tags);
}

/* A maximum below zero would mean "none" to the store; Jaeger finds nothing with it. */
static bool set_durations(struct params *p, struct trace_query *q, int64_t least, int64_t most)
{
    p->why = STR("'maxDuration' should be greater than 'minDuration'");
    if (most < 0 || (least && most && most < least))
        return false;
    q->duration_min_ns = least > 0 ? (uint64_t)least : 0;
    q->duration_max_ns = (uint64_t)most;
    return true;
}

static bool get_ids(struct params *p, struct jaeger_search *out)
{
    struct str v;
    size_t count = 0;
    for (size_t at = 0; http_param(p->r, STR("traceID"), &at, &v);)
        count++;
    p->why = STR("the request is too large");
    if (count && !(out->ids = arena_calloc(p->a, count, 16, 1)))
        return false;
    for (size_t at = 0; out->id_count < count && http_param(p->r, STR("traceID"), &at, &v);)
        if (!get_trace_id(p, v, out->ids[out->id_count++])) {
            p->why = arena_printf(p->a, "cannot parse traceID param: %.*s", STR_ARG(p->why));
            return false;
        }
    return true;
}

static bool v1_search(struct params *p, uint64_t now_ns, struct jaeger_search *out)
{
    struct trace_query *q = &out->q;
    struct tag_filter *tags;
    int64_t least, most;
    if (!new_tags(p, q, &tags))
        return false;
    q->service = jaeger_param(p->r, STR("service"));
    q->operation = jaeger_param(p->r, STR("operation"));
    q->kind = -1;
    uint64_t back = now_ns - min_u64(now_ns, JAEGER_SEARCH_BACK_NS);
    if (!v1_time(p, "start", NS_PER_US, back, &q->start_min_ns) ||
        !v1_time(p, "end", NS_PER_US, now_ns, &q->start_max_ns) || !get_v1_tags(p, q, tags) ||
        !get_limit(p, "ParseInt", jaeger_param(p->r, STR("limit")), &q->limit) ||
        !v1_duration(p, "minDuration", &least) || !v1_duration(p, "maxDuration", &most) ||
        !get_ids(p, out) || !v1_raw(p, &out->raw) || !get_own(p, out, tags))
        return false;
    if (out->id_count)
        return true;
    p->why = STR("parameter 'service' is required");
    bool asks = q->service.n || q->operation.n || q->tag_count || least || most || out->own;
    return asks && set_durations(p, q, least, most);
}

/* An arena that ran out on the way has dropped something: refuse rather than guess. */
static bool settle(struct params *p, bool ok, struct str *why)
{
    if (ok && !p->a->failed)
        return true;
    *why = p->why.n ? p->why : STR("the request is too large");
    return false;
}

bool jaeger_params_search(struct http_req *r, uint64_t now_ns, struct jaeger_search *out,
                          struct str *why)
{
    struct params p = {.r = r, .a = &r->arena};
    *out = (struct jaeger_search){0};
    return settle(&p, v1_search(&p, now_ns, out), why);
}

/* Our own, in both generations: a page of a trace. */
static bool get_page(struct params *p, struct jaeger_get *out)
{
    struct str offset = jaeger_param(p->r, STR("offset")), limit = jaeger_param(p->r, STR("limit"));
    int64_t from = 0;
    out->paged = offset.n || limit.n;
    out->limit = PAGE_SPANS_DEFAULT;
    if (offset.n && !get_int(p, "ParseInt", offset, 0, INT64_MAX, &from)) {
        p->why = arena_printf(p->a, "unable to parse param 'offset': %.*s", STR_ARG(p->why));
        return false;
    }
    out->offset = (uint64_t)from;
    return get_limit_of(p, "ParseInt", limit, "spans", PAGE_SPANS_MAX, &out->limit);
}

bool jaeger_params_get(struct http_req *r, struct str id, struct jaeger_get *out, struct str *why)
{
    struct params p = {.r = r, .a = &r->arena};
    uint64_t hint; /* start and end are hints, which our index does not need */
    bool ok = get_page(&p, out) && get_trace_id(&p, id, out->id) &&
              v1_time(&p, "start", NS_PER_US, 0, &hint) &&
              v1_time(&p, "end", NS_PER_US, 0, &hint) && v1_raw(&p, &out->raw);
    return settle(&p, ok, why);
}

bool jaeger_params_dependencies(struct http_req *r, uint64_t now_ns,
                                struct jaeger_dependencies *out, struct str *why)
{
    struct params p = {.r = r, .a = &r->arena};
    uint64_t back;
    bool ok = v1_time(&p, "endTs", NS_PER_MS, now_ns, &out->to_ns) &&
              v1_time(&p, "lookback", NS_PER_MS, to_ns(JAEGER_DEPENDENCIES_BACK_MS, NS_PER_MS),
                      &back);
    if (ok)
        out->from_ns = out->to_ns - min_u64(out->to_ns, back);
    out->service = jaeger_param(r, STR("service"));
    return settle(&p, ok, why);
}

/* --- our own --- */

static bool discover(struct params *p, uint64_t now_ns, struct discover_query *q)
{
    uint64_t back_ns;
    q->service = jaeger_param(p->r, STR("service"));
    q->prefix = jaeger_param(p->r, STR("prefix"));
    q->limit = DISCOVER_LIMIT_DEFAULT;
    q->budget_ns = DISCOVER_BUDGET_NS;
    p->why = STR("parameter 'place' is one of any, span, resource, scope, event, link");
    if (!discover_place_from(jaeger_param(p->r, STR("place")), &q->place))
        return false;
    if (!v1_time(p, "lookback", NS_PER_MS, JAEGER_SEARCH_BACK_NS, &back_ns) ||
        !v1_time(p, "end", NS_PER_US, now_ns, &q->start_max_ns))
        return false;
    uint64_t from_ns = q->start_max_ns - min_u64(q->start_max_ns, back_ns);
    return v1_time(p, "start", NS_PER_US, from_ns, &q->start_min_ns) &&
           get_limit_of(p, "ParseInt", jaeger_param(p->r, STR("limit")), "keys or values",
                        DISCOVER_LIMIT_MAX, &q->limit);
}

bool jaeger_params_discover(struct http_req *r, uint64_t now_ns, struct discover_query *out,
                            struct str *why)
{
    struct params p = {.r = r, .a = &r->arena};
    *out = (struct discover_query){0};
    return settle(&p, discover(&p, now_ns, out), why);
}

/* --- v3 --- */

/* The first of the spellings that has a value; *name is the one used. */
static struct str spelled(struct params *p, const char *const names[3], const char **name)
{
    struct str v = STR("");
    for (size_t i = 0; i < 3 && names[i] && !v.n; i++) {
        v = jaeger_param(p->r, str_from_c(names[i]));
        *name = names[i];
    }
    return v;
}

static bool malformed(struct params *p, const char *name)
{
    p->why = arena_printf(p->a, "malformed parameter %s: %.*s", name, STR_ARG(p->why));
    return false;
}

static bool v3_time(struct params *p, const char *camel, const char *snake, uint64_t *ns,
                    bool *present)
{
    const char *name;
    struct str s = spelled(p, (const char *const[3]){camel, snake}, &name);
    *present = s.n > 0;
    return !s.n || get_time(p, s, ns) || malformed(p, name);
}

static bool v3_duration(struct params *p, const char *camel, const char *snake, int64_t *ns)
{
    const char *name;
    struct str s = spelled(p, (const char *const[3]){camel, snake}, &name);
    *ns = 0;
    return !s.n || get_duration(p, s, ns) || malformed(p, name);
}

static bool v3_raw(struct params *p, const char *camel, const char *snake, bool *raw)
{
    const char *name;
    struct str s = spelled(p, (const char *const[3]){camel, snake}, &name);
    *raw = false;
    return !s.n || get_bool(p, s, raw) || malformed(p, name);
}

static bool v3_attributes(struct params *p, struct trace_query *q, struct tag_filter *tags)
{
    struct str json = jaeger_param(p->r, STR("query.attributes"));
    return !json.n || add_json_tags(p, q, tags, json) || malformed(p, "query.attributes");
}

static bool v3_window(struct params *p, struct trace_query *q)
{
    bool has_min, has_max;
    if (!v3_time(p, "query.startTimeMin", "query.start_time_min", &q->start_min_ns, &has_min) ||
        !v3_time(p, "query.startTimeMax", "query.start_time_max", &q->start_max_ns, &has_max))
        return false;
    p->why = STR("query.startTimeMin and query.startTimeMax are required");
    if (!has_min || !has_max)
        return false;
    p->why = STR("query.startTimeMin must be before query.startTimeMax");
    return q->start_min_ns < q->start_max_ns;
}

static bool v3_search(struct params *p, struct jaeger_search *out)
{
    struct trace_query *q = &out->q;
    struct tag_filter *tags;
    const char *name;
    int64_t least, most;
    if (!new_tags(p, q, &tags))
        return false;
    q->kind = -1;
    q->service = spelled(p, (const char *const[3]){"query.serviceName", "query.service_name"},
                         &name);
    q->operation = spelled(p, (const char *const[3]){"query.operationName", "query.operation_name"},
                           &name);
    if (jaeger_param(p->r, STR("query.filter")).n) {
        p->why = STR("filter expressions are not supported yet");
        return malformed(p, "query.filter");
    }
    if (!v3_attributes(p, q, tags) || !v3_window(p, q) || !get_own(p, out, tags))
        return false;
    static const char *const depth[3] = {"query.searchDepth", "query.search_depth",
                                         "query.num_traces"};
    struct str limit = spelled(p, depth, &name);
    if (!get_limit(p, "Atoi", limit, &q->limit))
        return malformed(p, name);
    return v3_duration(p, "query.durationMin", "query.duration_min", &least) &&
           v3_duration(p, "query.durationMax", "query.duration_max", &most) &&
           v3_raw(p, "query.rawTraces", "query.raw_traces", &out->raw) &&
           set_durations(p, q, least, most);
}

bool jaeger_params_v3_search(struct http_req *r, struct jaeger_search *out, struct str *why)
{
    struct params p = {.r = r, .a = &r->arena};
    *out = (struct jaeger_search){0};
    return settle(&p, v3_search(&p, out), why);
}

bool jaeger_params_v3_get(struct http_req *r, struct str id, struct jaeger_get *out,
                          struct str *why)
{
    struct params p = {.r = r, .a = &r->arena};
    uint64_t hint;
    bool present;
    bool ok = (get_trace_id(&p, id, out->id) || malformed(&p, "trace_id")) && get_page(&p, out) &&
              v3_time(&p, "startTime", "start_time", &hint, &present) &&
              v3_time(&p, "endTime", "end_time", &hint, &present) &&
              v3_raw(&p, "rawTraces", "raw_traces", &out->raw);
    return settle(&p, ok, why);
}
