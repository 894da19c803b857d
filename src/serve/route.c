/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/route.h"

/* --- decoding --- */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct str http_percent_decode(struct str s, bool plus_is_space, struct arena *a)
{
    if (str_find(s, '%') == s.n && (!plus_is_space || str_find(s, '+') == s.n))
        return s.p ? s : STR("");
    char *out = arena_alloc(a, s.n, 1);
    if (!out)
        return STR_NONE;
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '%') {
            out[n++] = s.p[i] == '+' && plus_is_space ? ' ' : s.p[i];
            continue;
        }
        int high = i + 2 < s.n ? hex(s.p[i + 1]) : -1, low = i + 2 < s.n ? hex(s.p[i + 2]) : -1;
        if (high < 0 || low < 0)
            return STR_NONE;
        out[n++] = (char)(high << 4 | low);
        i += 2;
    }
    return str_of(out, n);
}

bool http_param(struct http_req *r, struct str name, size_t *at, struct str *value)
{
    while (*at < r->query.n) {
        struct str rest = str_skip(r->query, *at);
        struct str pair = str_take(rest, str_find(rest, '&'));
        *at += pair.n + 1;
        size_t eq = str_find(pair, '=');
        struct str key = http_percent_decode(str_take(pair, eq), true, &r->arena);
        if (!key.p || !str_eq(key, name))
            continue;
        *value = http_percent_decode(str_skip(pair, eq + 1), true, &r->arena);
        if (value->p)
            return true;
    }
    return false;
}

/* --- routes --- */

static bool is_param(struct str seg)
{
    return seg.n >= 2 && seg.p[0] == '{' && seg.p[seg.n - 1] == '}';
}

static bool is_rest(struct str seg)
{
    struct str dots = STR("...}");
    return is_param(seg) && seg.n > dots.n && str_eq(str_skip(seg, seg.n - dots.n), dots);
}

/* Segment by segment, each decoded alone: an encoded slash never makes a new segment. */
static bool path_matches(struct str pattern, struct str path, struct http_req *r, bool *bad)
{
    unsigned params = 0;
    pattern = str_skip(pattern, 1);
    path = str_skip(path, 1);
    for (;;) {
        struct str want = str_take(pattern, str_find(pattern, '/'));
        struct str raw = str_take(path, str_find(path, '/'));
        bool rest = is_rest(want);
        struct str seg = http_percent_decode(rest ? path : raw, false, &r->arena);
        *bad |= !seg.p;
        if (!seg.p || (is_param(want) ? !rest && !seg.n : !str_eq(want, seg)))
            return false;
        if (is_param(want)) {
            ensure(params < HTTP_PARAMS_MAX);
            r->params[params++] = seg;
        }
        bool path_ends = rest || raw.n == path.n, pattern_ends = want.n == pattern.n;
        if (path_ends || pattern_ends)
            return path_ends && pattern_ends;
        pattern = str_skip(pattern, want.n + 1);
        path = str_skip(path, raw.n + 1);
    }
}

static bool method_matches(struct str row, struct str method)
{
    return str_eq(row, method) || str_eq_c(row, "*") ||
           (str_eq_c(row, "GET") && str_eq_c(method, "HEAD"));
}

static void add_method(struct arena *a, struct str *list, const char *method)
{
    const char *more = strcmp(method, "GET") == 0 ? "GET, HEAD" : method;
    *list = list->n ? arena_printf(a, "%.*s, %s", STR_ARG(*list), more)
                    : arena_printf(a, "%s", more);
}

enum route_result route_find(const struct http_door *door, struct http_req *r,
                             const struct http_route **row, struct str *allow)
{
    bool bad = false;
    *allow = STR_NONE;
    for (size_t i = 0; i < door->route_count; i++) {
        const struct http_route *at = &door->routes[i];
        if (!path_matches(str_from_c(at->path), r->path, r, &bad))
            continue;
        if (method_matches(str_from_c(at->method), r->method)) {
            *row = at;
            return ROUTE_FOUND;
        }
        add_method(&r->arena, allow, at->method);
    }
    return bad ? ROUTE_BAD_PATH : allow->n ? ROUTE_OTHER_METHOD : ROUTE_NONE;
}

struct str route_methods(const struct http_door *door, struct http_req *r)
{
    struct str list = STR_NONE;
    bool bad = false;
    for (size_t i = 0; i < door->route_count; i++)
        if (path_matches(str_from_c(door->routes[i].path), r->path, r, &bad))
            add_method(&r->arena, &list, door->routes[i].method);
    return list.n ? list : STR("GET, HEAD, POST");
}

/* --- origins, encodings --- */

struct str cors_origin(const struct http_req *r, const struct http_door *door)
{
    struct str list = str_from_c(door->cors_origins), one;
    struct str origin = http_header(r, STR("origin"));
    if (!list.n || !origin.n)
        return STR_NONE;
    while (str_split(&list, ',', &one)) {
        one = str_trim(one);
        if (str_eq_c(one, "*"))
            return STR("*");
        if (str_eq_nocase(one, origin))
            return origin;
    }
    return STR_NONE;
}

bool cors_is_preflight(const struct http_req *r, const struct http_door *door)
{
    return door->cors_origins && str_eq_c(r->method, "OPTIONS") &&
           http_header(r, STR("origin")).n &&
           http_header(r, STR("access-control-request-method")).n;
}

/* "q=0", "q=0.0", "q=0.000" */
static bool is_refused(struct str params)
{
    struct str p;
    while (str_split(&params, ';', &p)) {
        p = str_trim(p);
        if (!str_eq_nocase(str_take(p, 3), STR("q=0")))
            continue;
        struct str rest = str_skip(p, 3);
        size_t i = 0;
        while (i < rest.n && (rest.p[i] == '.' || rest.p[i] == '0'))
            i++;
        return i == rest.n;
    }
    return false;
}

bool accepts_gzip(struct str accept_encoding)
{
    struct str one;
    bool any = false;
    while (str_split(&accept_encoding, ',', &one)) {
        size_t semi = str_find(one, ';');
        struct str name = str_trim(str_take(one, semi));
        bool yes = !is_refused(str_skip(one, semi));
        if (str_eq_nocase(name, STR("gzip")) || str_eq_nocase(name, STR("x-gzip")))
            return yes;
        any |= yes && str_eq_c(name, "*");
    }
    return any;
}
