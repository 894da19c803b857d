/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/api/retention.h"

#include "codec/json.h"
#include "serve/api/admin.h"
#include "serve/pool.h"
#include "store/trace/trace_store.h"

#define ANSWER_MAX (256 * KIB)

static void text_row(struct buf *out, const struct store_rule_share *s, struct str what)
{
    buf_addf(out, "%10llu %12llu %14llu  %.*s\n", (unsigned long long)s->traces,
             (unsigned long long)s->spans, (unsigned long long)s->bytes, STR_ARG(what));
}

void retention_text(const struct store_rules_report *r, struct buf *out)
{
    uint64_t saved = r->all.bytes - min_u64(r->kept.bytes, r->all.bytes);
    buf_addf(out, "%10s %12s %14s  %s\n", "traces", "spans", "bytes", "kept by");
    for (size_t i = 0; i < r->rules.n; i++)
        text_row(out, &r->rule[i], r->rules.v[i].text);
    text_row(out, &r->kept, STR("any rule"));
    text_row(out, &r->all, STR("(all that is not decided yet)"));
    buf_addf(out, "saved: %llu bytes, %.1f %%\n", (unsigned long long)saved,
             r->all.bytes ? 100.0 * (double)saved / (double)r->all.bytes : 0.0);
}

static void json_share(struct json_writer *w, const struct store_rule_share *s, struct str rule)
{
    json_object(w);
    if (rule.n) {
        JSON_KEY_C(w, "rule");
        json_str(w, rule);
    }
    JSON_KEY_C(w, "traces");
    json_u64(w, s->traces);
    JSON_KEY_C(w, "spans");
    json_u64(w, s->spans);
    JSON_KEY_C(w, "bytes");
    json_u64(w, s->bytes);
    json_object_end(w);
}

void retention_json(const struct store_rules_report *r, struct buf *out)
{
    struct json_writer w = json_writer_init(out, 0);
    json_object(&w);
    JSON_KEY_C(&w, "rules");
    json_array(&w);
    for (size_t i = 0; i < r->rules.n; i++)
        json_share(&w, &r->rule[i], r->rules.v[i].text);
    json_array_end(&w);
    JSON_KEY_C(&w, "kept");
    json_share(&w, &r->kept, STR_NONE);
    JSON_KEY_C(&w, "all");
    json_share(&w, &r->all, STR_NONE);
    json_object_end(&w);
    buf_add_char(out, '\n');
}

void admin_retention(struct http_req *r)
{
    const struct admin *a = r->arg;
    struct err e = {0};
    struct store_rules_report report;
    struct str rules = STR_NONE, output = STR_NONE;
    size_t at = 0, at_output = 0;
    (void)http_param(r, STR("rules"), &at, &rules);
    bool as_json = http_param(r, STR("output"), &at_output, &output) && str_eq(output, STR("json"));
    work_yield(); /* it reads everything */
    enum errc code = store_try_rules(a->store, rules, &report, &e);
    work_resume();
    if (code) {
        http_reply_text(r, err_http(code), "%s%s", err_msg(&e), err_hint(code));
    } else {
        struct buf out = buf_init(ANSWER_MAX);
        if (as_json)
            retention_json(&report, &out);
        else
            retention_text(&report, &out);
        http_reply(r, 200, as_json ? "application/json" : "text/plain", buf_str(&out));
        buf_fini(&out);
    }
    rules_fini(&report.rules);
}
