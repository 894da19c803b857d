/* SPDX-License-Identifier: Apache-2.0 */
/* Query strings in, typed parameters or Jaeger's own sentence out. */
#include "base/num.h"
#include "serve/api/discover.h"
#include "serve/api/jaeger_params.h"
#include "tests/harness.h"

#define NOW_NS (UINT64_C(1700000000) * NS_PER_S)

static struct http_req request(const char *query)
{
    return (struct http_req){.query = str_from_c(query), .arena = arena_init(MIB)};
}

static struct str shown(struct http_req *r, const struct jaeger_search *s)
{
    const struct trace_query *q = &s->q;
    struct buf b = buf_init(64 * KIB);
    buf_addf(&b, "%.*s/%.*s %llu..%llu", STR_ARG(q->service), STR_ARG(q->operation),
             (unsigned long long)q->start_min_ns, (unsigned long long)q->start_max_ns);
    if (q->duration_min_ns || q->duration_max_ns)
        buf_addf(&b, " %llu-%lluns", (unsigned long long)q->duration_min_ns,
                 (unsigned long long)q->duration_max_ns);
    buf_addf(&b, " x%u", q->limit);
    for (uint32_t i = 0; i < q->tag_count; i++) {
        buf_addf(&b, " %.*s", STR_ARG(q->tags[i].key));
        if (q->tags[i].op == TAG_EQUALS)
            buf_addf(&b, "=%.*s", STR_ARG(q->tags[i].value));
    }
    if (q->order)
        buf_addf(&b, " %s", query_order_name(q->order));
    if (q->statuses)
        buf_addf(&b, " %s", query_status_name(q->statuses));
    if (q->kind >= 0)
        buf_addf(&b, " %s", query_kind_name(q->kind));
    if (q->after)
        buf_addf(&b, " after %llu %llu %u", (unsigned long long)q->after->value,
                 (unsigned long long)q->after->newest_ns, q->after->trace_id[15]);
    CHECK(s->own || !(q->order || q->statuses || q->kind >= 0 || q->after));
    for (size_t i = 0; i < s->id_count; i++) {
        char hex[NUM_TEXT_MAX];
        buf_addf(&b, " #%.*s", (int)num_put_hex(hex, s->ids[i], 16), hex);
    }
    if (s->raw)
        buf_add_c(&b, " raw");
    struct str text = arena_str(&r->arena, buf_str(&b));
    buf_fini(&b);
    return text;
}

struct row {
    const char *query, *want, *why; /* want, or the refusal */
};

static void check_rows(const struct row *rows, size_t n, bool v3)
{
    for (size_t i = 0; i < n; i++) {
        struct http_req r = request(rows[i].query);
        struct jaeger_search s;
        struct str why = STR("");
        bool ok = v3 ? jaeger_params_v3_search(&r, &s, &why)
                     : jaeger_params_search(&r, NOW_NS, &s, &why);
        struct str got = ok ? shown(&r, &s) : why;
        struct str want = str_from_c(rows[i].want ? rows[i].want : rows[i].why);
        if (ok != (rows[i].want != NULL) || !str_eq(got, want))
            test_fail(__FILE__, __LINE__, "%s: %s \"%.*s\", want \"%.*s\"", rows[i].query,
                      ok ? "taken as" : "refused:", STR_ARG(got), STR_ARG(want));
        arena_fini(&r.arena);
    }
}

/* By errors, 2 and 3, an id that ends in 9. */
#define CURSOR                           \
    "0302000000000000000300000000000000" \
    "00000000000000000000000000000009"
#define WINDOW "1699827200000000000..1700000000000000000"

static const struct row v1_rows[] = {
    {"service=web", "web/ " WINDOW " x100", NULL},
    {"service=a%20b%2Fc+d&operation=GET+%2F", "a b/c d/GET / " WINDOW " x100", NULL},
    {"service=s&start=1&end=2", "s/ 1000..2000 x100", NULL},
    {"service=s&start=-5&end=9223372036854775807", "s/ 0..18446744073709551615 x100", NULL},
    {"service=s&start=%2B7&end=0", "s/ 7000..0 x100", NULL},
    {"service=s&lookback=custom&view=list&limit=20", "s/ " WINDOW " x20", NULL},
    {"service=s&limit=0", "s/ " WINDOW " x100", NULL},
    {"service=s&limit=-3", "s/ " WINDOW " x100", NULL},
    {"service=s&limit=20000", "s/ " WINDOW " x20000", NULL},
    {"service=s&minDuration=1.5ms&maxDuration=2s", "s/ " WINDOW " 1500000-2000000000ns x100", NULL},
    {"service=s&maxDuration=500us", "s/ " WINDOW " 0-500000ns x100", NULL},
    {"service=s&minDuration=10%C2%B5s", "s/ " WINDOW " 10000-0ns x100", NULL},
    {"service=s&minDuration=-1s", "s/ " WINDOW " x100", NULL},
    {"service=s&tag=a:b&tag=c:d:e", "s/ " WINDOW " x100 a=b c=d:e", NULL},
    {"service=s&tags=%7B%22a%22:%22b%22%7D&tag=a:x&tag=:y", "s/ " WINDOW " x100 a=b =y", NULL},
    {"service=s&tags={\"a\":null}&tags=null", "s/ " WINDOW " x100 a=", NULL},
    {"service=s&tags={\"k\":\"1\"}&tags={\"k\":\"2\",\"\\u00e9\":\"\\n\"}",
     "s/ " WINDOW " x100 k=2 \xc3\xa9=\n", NULL},
    {"service=s&raw=true", "s/ " WINDOW " x100 raw", NULL},
    {"service=s&raw=F", "s/ " WINDOW " x100", NULL},
    {"traceID=1&traceID=abc0000000000000def",
     "/ " WINDOW " x100 #00000000000000000000000000000001 #0000000000000abc0000000000000def", NULL},
    {"", NULL, "parameter 'service' is required"},
    {"service=", NULL, "parameter 'service' is required"},
    {"limit=5&start=1&raw=true&order=", NULL, "parameter 'service' is required"},
    {"operation=x", "/x " WINDOW " x100", NULL},
    {"tag=a:b", "/ " WINDOW " x100 a=b", NULL},
    {"minDuration=1ms", "/ " WINDOW " 1000000-0ns x100", NULL},
    {"order=newest", "/ " WINDOW " x100", NULL},
    {"order=slowest", "/ " WINDOW " x100 slowest", NULL},
    {"service=s&order=spans&status=unset&kind=unspecified",
     "s/ " WINDOW " x100 spans unset unspecified", NULL},
    {"status=ok", "/ " WINDOW " x100 ok", NULL},
    {"kind=server&status=error", "/ " WINDOW " x100 error server", NULL},
    {"has=a&has=b&tag=c:d", "/ " WINDOW " x100 c=d a b", NULL},
    {"cursor=" CURSOR, "/ " WINDOW " x100 errors after 2 3 9", NULL},
    {"order=errors&cursor=" CURSOR, "/ " WINDOW " x100 errors after 2 3 9", NULL},
    {"order=spans&cursor=" CURSOR, NULL, "unable to parse param 'cursor': it is of another order"},
    {"cursor=1" CURSOR, NULL,
     "unable to parse param 'cursor': it is not the nextCursor of an answer"},
    {"order=oldest", NULL,
     "unable to parse param 'order': \"oldest\" is not one of newest, slowest, spans, errors"},
    {"status=bad", NULL, "unable to parse param 'status': \"bad\" is not one of unset, ok, error"},
    {"kind=Server", NULL,
     "unable to parse param 'kind': \"Server\" is not one of unspecified, internal, server, client, "
     "producer, consumer"},
    {"service=s&start=x", NULL,
     "unable to parse param 'start': strconv.ParseInt: parsing \"x\": invalid syntax"},
    {"service=s&start=1.5", NULL,
     "unable to parse param 'start': strconv.ParseInt: parsing \"1.5\": invalid syntax"},
    {"service=s&end=9223372036854775808", NULL,
     "unable to parse param 'end': strconv.ParseInt: parsing \"9223372036854775808\": value out "
     "of range"},
    {"service=s&end=-9223372036854775809", NULL,
     "unable to parse param 'end': strconv.ParseInt: parsing \"-9223372036854775809\": value out "
     "of range"},
    {"service=s&end=%22%0A", NULL,
     "unable to parse param 'end': strconv.ParseInt: parsing \"\\\"\\n\": invalid syntax"},
    {"service=s&limit=x", NULL, "strconv.ParseInt: parsing \"x\": invalid syntax"},
    {"service=s&limit=2147483648", NULL,
     "strconv.ParseInt: parsing \"2147483648\": value out of range"},
    {"service=s&limit=20001", NULL, "at most 20000 traces can be asked for"},
    {"service=s&minDuration=5", NULL,
     "unable to parse param 'minDuration': time: missing unit in duration \"5\""},
    {"service=s&minDuration=x", NULL,
     "unable to parse param 'minDuration': time: invalid duration \"x\""},
    {"service=s&maxDuration=5x", NULL,
     "unable to parse param 'maxDuration': time: unknown unit \"x\" in duration \"5x\""},
    {"service=s&maxDuration=1s5", NULL,
     "unable to parse param 'maxDuration': time: missing unit in duration \"1s5\""},
    {"service=s&maxDuration=1.2.3s", NULL,
     "unable to parse param 'maxDuration': time: missing unit in duration \"1.2.3s\""},
    {"service=s&maxDuration=99999999999h", NULL,
     "unable to parse param 'maxDuration': time: invalid duration \"99999999999h\""},
    {"service=s&minDuration=2s&maxDuration=1s", NULL,
     "'maxDuration' should be greater than 'minDuration'"},
    {"service=s&maxDuration=-1s", NULL, "'maxDuration' should be greater than 'minDuration'"},
    {"service=s&tag=x", NULL, "malformed 'tag' parameter, expecting key:value, received: x"},
    {"service=s&tag=", NULL, "malformed 'tag' parameter, expecting key:value, received: "},
    {"service=s&tags={\"a\":1}", NULL,
     "malformed 'tags' parameter, cannot unmarshal JSON: json: cannot unmarshal number into Go "
     "value of type string"},
    {"service=s&tags={\"a\":{}}", NULL,
     "malformed 'tags' parameter, cannot unmarshal JSON: json: cannot unmarshal object into Go "
     "value of type string"},
    {"service=s&tags=[]", NULL,
     "malformed 'tags' parameter, cannot unmarshal JSON: json: cannot unmarshal array into Go "
     "value of type map[string]string"},
    {"service=s&tags={\"a\":\"b\"", NULL,
     "malformed 'tags' parameter, cannot unmarshal JSON: unexpected end of JSON input"},
    {"service=s&traceID=xyz", NULL,
     "cannot parse traceID param: strconv.ParseUint: parsing \"xyz\": invalid syntax"},
    {"service=s&raw=yes", NULL,
     "unable to parse param 'raw': strconv.ParseBool: parsing \"yes\": invalid syntax"},
};

TEST(v1_search_parameters)
{
    check_rows(v1_rows, ARRAY_LEN(v1_rows), false);
}

#define TIMES "query.startTimeMin=1970-01-01T00:00:01Z&query.startTimeMax=1970-01-01T00:00:02.5Z"
#define SPAN  "1000000000..2500000000"

static const struct row v3_rows[] = {
    {TIMES, "/ " SPAN " x100", NULL},
    {"query.serviceName=a&query.operationName=b&" TIMES, "a/b " SPAN " x100", NULL},
    {"query.service_name=a&query.operation_name=b&" TIMES, "a/b " SPAN " x100", NULL},
    {"query.serviceName=a&query.service_name=b&" TIMES, "a/ " SPAN " x100", NULL},
    {"query.start_time_min=1970-01-01T00:00:00Z&query.start_time_max=1970-01-01T02:00:01+02:00",
     "/ 0..1000000000 x100", NULL},
    {"query.startTimeMin=1970-01-01T00:00:00%2B00:00&query.startTimeMax=1970-01-01T02:00:01%2B02:00",
     "/ 0..1000000000 x100", NULL},
    {"query.searchDepth=7&" TIMES, "/ " SPAN " x7", NULL},
    {"query.search_depth=8&" TIMES, "/ " SPAN " x8", NULL},
    {"query.num_traces=9&" TIMES, "/ " SPAN " x9", NULL},
    {"query.searchDepth=0&" TIMES, "/ " SPAN " x100", NULL},
    {"query.searchDepth=-1&" TIMES, "/ " SPAN " x100", NULL},
    {"query.durationMin=1s&query.duration_max=2s&" TIMES, "/ " SPAN " 1000000000-2000000000ns x100",
     NULL},
    {"query.rawTraces=1&" TIMES, "/ " SPAN " x100 raw", NULL},
    {"query.attributes={\"a\":\"b\"}&" TIMES, "/ " SPAN " x100 a=b", NULL},
    {"", NULL, "query.startTimeMin and query.startTimeMax are required"},
    {"query.startTimeMin=1970-01-01T00:00:01Z", NULL,
     "query.startTimeMin and query.startTimeMax are required"},
    {"query.startTimeMin=1970-01-01T00:00:01Z&query.startTimeMax=1970-01-01T00:00:01Z", NULL,
     "query.startTimeMin must be before query.startTimeMax"},
    {"query.startTimeMin=yesterday&query.startTimeMax=1970-01-01T00:00:01Z", NULL,
     "malformed parameter query.startTimeMin: parsing time \"yesterday\" as "
     "\"2006-01-02T15:04:05.999999999Z07:00\": cannot parse \"yesterday\" as \"2006\""},
    {"query.start_time_max=1970-01-01&query.startTimeMin=1970-01-01T00:00:01Z", NULL,
     "malformed parameter query.start_time_max: parsing time \"1970-01-01\" as "
     "\"2006-01-02T15:04:05.999999999Z07:00\": cannot parse \"\" as \"T\""},
    {"query.startTimeMin=1970-01-01T00:00:01", NULL,
     "malformed parameter query.startTimeMin: parsing time \"1970-01-01T00:00:01\" as "
     "\"2006-01-02T15:04:05.999999999Z07:00\": cannot parse \"\" as \"Z07:00\""},
    {"query.startTimeMin=1970-13-01T00:00:01Z", NULL,
     "malformed parameter query.startTimeMin: parsing time \"1970-13-01T00:00:01Z\": out of range"},
    {"query.search_depth=x&" TIMES, NULL,
     "malformed parameter query.search_depth: strconv.Atoi: parsing \"x\": invalid syntax"},
    {"query.durationMin=5&" TIMES, NULL,
     "malformed parameter query.durationMin: time: missing unit in duration \"5\""},
    {"query.raw_traces=maybe&" TIMES, NULL,
     "malformed parameter query.raw_traces: strconv.ParseBool: parsing \"maybe\": invalid syntax"},
    {"query.attributes=[]&" TIMES, NULL,
     "malformed parameter query.attributes: json: cannot unmarshal array into Go value of type "
     "map[string]string"},
    {"query.filter={}&" TIMES, NULL,
     "malformed parameter query.filter: filter expressions are not supported yet"},
};

TEST(v3_search_parameters)
{
    check_rows(v3_rows, ARRAY_LEN(v3_rows), true);
}

TEST(the_65th_tag_is_refused)
{
    struct buf query = buf_init(64 * KIB);
    buf_add_c(&query, "service=s");
    for (unsigned i = 0; i < QUERY_TAGS_MAX; i++)
        buf_addf(&query, "&tag=k%u:v", i);
    struct http_req r = request("");
    struct jaeger_search s;
    struct str why;
    r.query = buf_str(&query);
    CHECK(jaeger_params_search(&r, NOW_NS, &s, &why));
    CHECK_INT(s.q.tag_count, QUERY_TAGS_MAX);
    buf_add_c(&query, "&tag=one:more");
    r.query = buf_str(&query);
    CHECK(!jaeger_params_search(&r, NOW_NS, &s, &why));
    CHECK_STR(why, STR("too many tags, at most 64 can be asked for"));
    arena_fini(&r.arena);
    buf_fini(&query);
}

TEST(an_arena_too_small_refuses_and_never_guesses)
{
    for (size_t cap = 0; cap < 8000; cap += 61) {
        struct http_req r = request("service=s%20x&tag=a:b&tags={\"c\":\"\\u0064\"}&traceID=1");
        arena_fini(&r.arena);
        r.arena = arena_init(cap);
        struct jaeger_search s;
        struct str why = STR("");
        if (jaeger_params_search(&r, NOW_NS, &s, &why)) {
            CHECK(s.id_count == 1 && s.q.tag_count == 2);
            CHECK_STR(s.q.tags[1].value, STR("d"));
        } else {
            CHECK(why.n > 0);
        }
        arena_fini(&r.arena);
    }
}

TEST(trace_ids_of_a_path_may_be_base64)
{
    static const struct {
        const char *text, *id;
    } rows[] = {
        {"abc", "00000000000000000000000000000abc"},
        {"AAECAwQFBgcICQoLDA0ODw==", "000102030405060708090a0b0c0d0e0f"},
        {"__79_Pv6-fj39vX08_Lx8A", "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0"},
        {"//79/Pv6+fj39vX08/Lx8A==", "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0"},
        {"AAAAAAAAAAE=", "00000000000000000000000000000001"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_req r = request("raw=1&start=5&end=6");
        struct jaeger_get q;
        struct str why;
        char hex[NUM_TEXT_MAX];
        CHECK(jaeger_params_get(&r, str_from_c(rows[i].text), &q, &why));
        CHECK_STR(str_of(hex, num_put_hex(hex, q.id, 16)), str_from_c(rows[i].id));
        CHECK(q.raw);
        CHECK(jaeger_params_v3_get(&r, str_from_c(rows[i].text), &q, &why));
        CHECK(!q.raw);
        arena_fini(&r.arena);
    }
}

TEST(single_trace_parameters_are_refused_in_both_tongues)
{
    struct http_req r = request("start=x&startTime=now&raw=2");
    struct jaeger_get q;
    struct str why;
    CHECK(!jaeger_params_get(&r, STR("g"), &q, &why));
    CHECK_STR(why, STR("strconv.ParseUint: parsing \"g\": invalid syntax"));
    CHECK(!jaeger_params_get(&r, STR("1"), &q, &why));
    CHECK_STR(
        why, STR("unable to parse param 'start': strconv.ParseInt: parsing \"x\": invalid syntax"));
    CHECK(!jaeger_params_v3_get(&r, STR("g"), &q, &why));
    CHECK_STR(why, STR("malformed parameter trace_id: strconv.ParseUint: parsing \"g\": invalid "
                       "syntax"));
    CHECK(!jaeger_params_v3_get(&r, STR("1"), &q, &why));
    CHECK_STR(why,
              STR("malformed parameter startTime: parsing time \"now\" as "
                  "\"2006-01-02T15:04:05.999999999Z07:00\": cannot parse \"now\" as \"2006\""));
    arena_fini(&r.arena);
}

TEST(dependency_windows)
{
    static const struct {
        const char *query;
        uint64_t from_ns, to_ns;
        const char *why;
    } rows[] = {
        {"", NOW_NS - 86400 * NS_PER_S, NOW_NS, NULL},
        {"endTs=2000&lookback=500", 1500 * NS_PER_MS, 2000 * NS_PER_MS, NULL},
        {"endTs=2000&lookback=5000", 0, 2000 * NS_PER_MS, NULL},
        {"endTs=2000&lookback=-1", 2000 * NS_PER_MS, 2000 * NS_PER_MS, NULL},
        {"endTs=x", 0, 0,
         "unable to parse param 'endTs': strconv.ParseInt: parsing \"x\": invalid syntax"},
        {"lookback=1h", 0, 0,
         "unable to parse param 'lookback': strconv.ParseInt: parsing \"1h\": invalid syntax"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_req r = request(rows[i].query);
        struct jaeger_dependencies q;
        struct str why = STR("");
        CHECK(jaeger_params_dependencies(&r, NOW_NS, &q, &why) == !rows[i].why);
        if (rows[i].why) {
            CHECK_STR(why, str_from_c(rows[i].why));
        } else {
            CHECK_INT(q.from_ns, rows[i].from_ns);
            CHECK_INT(q.to_ns, rows[i].to_ns);
        }
        arena_fini(&r.arena);
    }
}

TEST(discover_questions)
{
    static const struct {
        const char *query, *want, *why;
    } rows[] = {
        {"", "/ any " WINDOW " x100", NULL},
        {"service=a%20b&prefix=http.&place=event&limit=7&start=1000000&end=2000000",
         "a b/http. event 1000000000..2000000000 x7", NULL},
        {"end=2000000&lookback=500", "/ any 1500000000..2000000000 x100", NULL},
        {"end=2000000&lookback=5000", "/ any 0..2000000000 x100", NULL},
        {"start=1&lookback=500", "/ any 1000..1700000000000000000 x100", NULL},
        {"limit=0", "/ any " WINDOW " x100", NULL},
        {"limit=20000", "/ any " WINDOW " x20000", NULL},
        {"limit=20001", NULL, "at most 20000 keys or values can be asked for"},
        {"place=Span", NULL, "parameter 'place' is one of any, span, resource, scope, event, link"},
        {"lookback=1h", NULL,
         "unable to parse param 'lookback': strconv.ParseInt: parsing \"1h\": invalid syntax"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_req r = request(rows[i].query);
        struct discover_query q;
        struct str why = STR("");
        bool ok = jaeger_params_discover(&r, NOW_NS, &q, &why);
        struct str got = why;
        if (ok)
            got = arena_printf(&r.arena, "%.*s/%.*s %s %llu..%llu x%u", STR_ARG(q.service),
                               STR_ARG(q.prefix), discover_places[q.place],
                               (unsigned long long)q.start_min_ns,
                               (unsigned long long)q.start_max_ns, q.limit);
        CHECK(ok == (rows[i].want != NULL));
        CHECK_STR(got, str_from_c(ok ? rows[i].want : rows[i].why));
        arena_fini(&r.arena);
    }
}
