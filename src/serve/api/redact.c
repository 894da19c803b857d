/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/api/redact.h"

#include "codec/jaeger_json.h"
#include "codec/json.h"
#include "engine/ingest/ingest.h"
#include "serve/api/admin.h"
#include "serve/pool.h"
#include "store/trace/trace_store.h"

#include <stdio.h>

#define ANSWER_MAX (4 * KIB)

void redact_json(const struct store_redacted *done, bool count_only, struct buf *out)
{
    const struct {
        const char *name;
        uint64_t v;
    } rows[] = {{"traces", done->traces},     {"spans", done->spans},   {"values", done->values},
                {"blocks", done->blocks},     {"failed", done->failed}, {"held", done->held},
                {"setAside", done->set_aside}};
    struct json_writer w = json_writer_init(out, 0);
    json_object(&w);
    JSON_KEY_C(&w, "countOnly");
    json_bool(&w, count_only);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_key(&w, str_from_c(rows[i].name));
        json_u64(&w, rows[i].v);
    }
    json_object_end(&w);
    buf_add_char(out, '\n');
}

static struct str param(struct http_req *r, struct str name)
{
    struct str v = STR_NONE;
    size_t at = 0;
    return http_param(r, name, &at, &v) ? v : STR_NONE;
}

/* False with the sentence in e. */
static bool read_question(struct http_req *r, struct store_redaction *want, uint8_t id[16],
                          struct err *e)
{
    struct str trace = param(r, STR("trace"));
    size_t at = 0;
    want->key = param(r, STR("key"));
    want->service = param(r, STR("service"));
    want->has_value = http_param(r, STR("value"), &at, &want->value);
    want->count_only = str_eq(param(r, STR("count-only")), STR("true"));
    if (tenant_check(param(r, STR("tenant")), &want->tenant, e))
        return false;
    if ((trace.n > 0) == (want->key.n > 0)) {
        (void)fail(e, E_INVALID, "either trace or key says what is to go");
        return false;
    }
    if (!trace.n)
        return true;
    if (want->service.n || want->has_value) { /* or more would go than was meant */
        (void)fail(e, E_INVALID, "service and value go with key");
        return false;
    }
    want->trace_id = id;
    return jaeger_trace_id_parse(trace, id, e) == E_OK;
}

static bool is_confirmed(const struct http_req *r, const struct store_redaction *want)
{
    return want->count_only || str_eq(http_header(r, STR(REDACT_CONFIRM)), STR("redact"));
}

void admin_redact(struct http_req *r)
{
    const struct admin *a = r->arg;
    char door[128];
    uint8_t id[16];
    struct err e = {0};
    struct store_redacted done;
    struct store_redaction want = {.door = door};
    snprintf(door, sizeof door, "admin port, %.*s", STR_ARG(str_take(r->peer, 100)));
    if (!read_question(r, &want, id, &e)) {
        http_reply_text(r, 400, "%s", err_msg(&e));
        return;
    }
    if (!is_confirmed(r, &want)) {
        http_reply_text(r, 403, "the header \"" REDACT_CONFIRM ": redact\" is missing");
        return;
    }
    work_yield(); /* it may take minutes */
    enum errc code = store_redact(a->store, &want, &done, &e);
    work_resume();
    if (code) {
        http_reply_text(r, err_http(code), "%s%s", err_msg(&e), err_hint(code));
        return;
    }
    struct buf out = buf_init(ANSWER_MAX);
    redact_json(&done, want.count_only, &out);
    http_reply(r, 200, "application/json", buf_str(&out));
    buf_fini(&out);
}
