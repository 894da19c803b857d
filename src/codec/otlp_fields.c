/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/otlp_fields.h"

#define REC(type, field) .rec_at = offsetof(struct type##_rec, field)
#define OBJ(type, field) .obj_at = offsetof(struct type, field)
#define JSON(lit)        .json = {lit, sizeof lit - 1}

static const char *const kind_names[KIND_COUNT] = {"SPAN_KIND_UNSPECIFIED", "SPAN_KIND_INTERNAL",
                                                   "SPAN_KIND_SERVER",      "SPAN_KIND_CLIENT",
                                                   "SPAN_KIND_PRODUCER",    "SPAN_KIND_CONSUMER"};
static const char *const status_names[STATUS_COUNT] = {"STATUS_CODE_UNSET", "STATUS_CODE_OK",
                                                       "STATUS_CODE_ERROR"};

/* The objects of ResourceSpans and ScopeSpans are the resource and the scope themselves: those hold
 * the schema URLs. */

/* clang-format off */
const struct otlp_message otlp_traces = {
    "TracesData", 2, {
    [1] = {OTLP_RESOURCES, PB_LEN, JSON("resourceSpans"), .sub = &otlp_resource_spans},
}};

const struct otlp_message otlp_resource_spans = {
    "ResourceSpans", 4, {
    [1] = {OTLP_PART, PB_LEN, .early = true, .always = true, JSON("resource"), .sub = &otlp_resource},
    [2] = {OTLP_SCOPES, PB_LEN, .last = true, JSON("scopeSpans"), .sub = &otlp_scope_spans},
    [3] = {OTLP_STR, PB_LEN, REC(group, res_schema), OBJ(resource, schema_url), JSON("schemaUrl")},
}};

const struct otlp_message otlp_resource = {
    "Resource", 3, {
    [1] = {OTLP_ATTRS, PB_LEN, OBJ(resource, attrs), JSON("attributes")},
    [2] = {OTLP_U32, PB_VARINT, REC(group, res_dropped), OBJ(resource, dropped), JSON("droppedAttributesCount")},
}};

const struct otlp_message otlp_scope_spans = {
    "ScopeSpans", 4, {
    [1] = {OTLP_PART, PB_LEN, .early = true, .always = true, JSON("scope"), .sub = &otlp_scope},
    [2] = {OTLP_SPANS, PB_LEN, .last = true, JSON("spans"), .sub = &otlp_span},
    [3] = {OTLP_STR, PB_LEN, REC(group, scope_schema), OBJ(scope, schema_url), JSON("schemaUrl")},
}};

const struct otlp_message otlp_scope = {
    "InstrumentationScope", 5, {
    [1] = {OTLP_STR, PB_LEN, REC(group, scope_name), OBJ(scope, name), JSON("name")},
    [2] = {OTLP_STR, PB_LEN, REC(group, scope_version), OBJ(scope, version), JSON("version")},
    [3] = {OTLP_ATTRS, PB_LEN, OBJ(scope, attrs), JSON("attributes")},
    [4] = {OTLP_U32, PB_VARINT, REC(group, scope_dropped), OBJ(scope, dropped), JSON("droppedAttributesCount")},
}};

const struct otlp_message otlp_span = {
    "Span", 17, {
    [1] = {OTLP_ID16, PB_LEN, REC(span, trace_id), OBJ(span, trace_id), JSON("traceId")},
    [2] = {OTLP_ID8, PB_LEN, REC(span, span_id), OBJ(span, span_id), JSON("spanId")},
    [3] = {OTLP_STR, PB_LEN, REC(span, trace_state), OBJ(span, trace_state), JSON("traceState")},
    [4] = {OTLP_ID8, PB_LEN, REC(span, parent_id), OBJ(span, parent_id), JSON("parentSpanId")},
    [5] = {OTLP_NAME, PB_LEN, OBJ(span, name), JSON("name")},
    [6] = {OTLP_ENUM, PB_VARINT, REC(span, kind), OBJ(span, kind), .limit = KIND_COUNT, .names = kind_names, JSON("kind")},
    [7] = {OTLP_FIXED64, PB_I64, REC(span, start_ns), OBJ(span, start_ns), JSON("startTimeUnixNano")},
    [8] = {OTLP_FIXED64, PB_I64, REC(span, end_ns), OBJ(span, end_ns), JSON("endTimeUnixNano")},
    [9] = {OTLP_ATTRS, PB_LEN, .early = true, OBJ(span, attrs), JSON("attributes")},
    [10] = {OTLP_U32, PB_VARINT, REC(span, dropped_attrs), OBJ(span, dropped_attrs), JSON("droppedAttributesCount")},
    [11] = {OTLP_EVENTS, PB_LEN, .last = true, JSON("events"), .sub = &otlp_event},
    [12] = {OTLP_U32, PB_VARINT, REC(span, dropped_events), OBJ(span, dropped_events), JSON("droppedEventsCount")},
    [13] = {OTLP_LINKS, PB_LEN, .last = true, JSON("links"), .sub = &otlp_link},
    [14] = {OTLP_U32, PB_VARINT, REC(span, dropped_links), OBJ(span, dropped_links), JSON("droppedLinksCount")},
    [15] = {OTLP_PART, PB_LEN, JSON("status"), .sub = &otlp_status},
    [16] = {OTLP_FIXED32, PB_I32, REC(span, flags), OBJ(span, flags), JSON("flags")},
}};

const struct otlp_message otlp_event = {
    "Event", 5, {
    [1] = {OTLP_FIXED64, PB_I64, REC(event, time_ns), OBJ(event, time_ns), JSON("timeUnixNano")},
    [2] = {OTLP_STR, PB_LEN, REC(event, name), OBJ(event, name), JSON("name")},
    [3] = {OTLP_ATTRS, PB_LEN, OBJ(event, attrs), JSON("attributes")},
    [4] = {OTLP_U32, PB_VARINT, REC(event, dropped), OBJ(event, dropped), JSON("droppedAttributesCount")},
}};

const struct otlp_message otlp_link = {
    "Link", 7, {
    [1] = {OTLP_ID16, PB_LEN, REC(link, trace_id), OBJ(link, trace_id), JSON("traceId")},
    [2] = {OTLP_ID8, PB_LEN, REC(link, span_id), OBJ(link, span_id), JSON("spanId")},
    [3] = {OTLP_STR, PB_LEN, REC(link, trace_state), OBJ(link, trace_state), JSON("traceState")},
    [4] = {OTLP_ATTRS, PB_LEN, OBJ(link, attrs), JSON("attributes")},
    [5] = {OTLP_U32, PB_VARINT, REC(link, dropped), OBJ(link, dropped), JSON("droppedAttributesCount")},
    [6] = {OTLP_FIXED32, PB_I32, REC(link, flags), OBJ(link, flags), JSON("flags")},
}};

const struct otlp_message otlp_status = {
    "Status", 4, {
    [2] = {OTLP_STR, PB_LEN, REC(span, status_message), OBJ(span, status_message), JSON("message")},
    [3] = {OTLP_ENUM, PB_VARINT, REC(span, status), OBJ(span, status), .limit = STATUS_COUNT, .names = status_names, JSON("code")},
}};
/* clang-format on */

static_assert(sizeof(enum span_kind) == 4 && sizeof(enum span_status) == 4,
              "encoders read an enum of an object as 32 bits");

/* The message with only its last fields, or without them. */
static struct otlp_message half(const struct otlp_message *m, bool last)
{
    struct otlp_message h = *m;
    for (uint8_t i = 0; i < h.count; i++)
        if (h.fields[i].last != last)
            h.fields[i] = (struct otlp_field){0};
    return h;
}

/* Through a message whose fields came in an order that cannot be built: once for each half. */
static enum otlp_step two_passes(struct otlp_walk *w, const struct otlp_message *m, void *rec,
                                 const void *body)
{
    struct otlp_message h = half(m, false);
    enum otlp_step step = w->fields(w, &h, rec, body);
    if (step != OTLP_DONE)
        return step;
    h = half(m, true);
    return w->fields(w, &h, rec, body);
}

/* Scalars of a resource or scope are collected apart and copied to its groups at the end: the
 * schema URL comes behind the spans. */

enum otlp_step otlp_walk_resource_spans(struct otlp_walk *w, const void *body)
{
    struct bb_mark mark = bb_mark(w->b);
    struct group_rec got = {0};
    bb_group_begin(w->b);
    uint32_t first = bb_group_count(w->b);
    enum otlp_step step = w->fields(w, &otlp_resource_spans, &got, body);
    if (step == OTLP_LATE) {
        bb_rewind(w->b, &mark);
        bb_group_begin(w->b);
        step = two_passes(w, &otlp_resource_spans, &got, body);
    }
    for (uint32_t i = first; i && i <= bb_group_count(w->b); i++) {
        struct group_rec *g = bb_group_at(w->b, i - 1);
        g->res_schema = got.res_schema;
        g->res_dropped = got.res_dropped;
    }
    return step;
}

enum otlp_step otlp_walk_scope_spans(struct otlp_walk *w, const void *body)
{
    struct bb_mark mark = bb_mark(w->b);
    struct group_rec got = {0};
    bb_group_scope(w->b);
    enum otlp_step step = w->fields(w, &otlp_scope_spans, &got, body);
    if (step == OTLP_LATE) {
        bb_rewind(w->b, &mark);
        bb_group_scope(w->b);
        step = two_passes(w, &otlp_scope_spans, &got, body);
    }
    if (bb_group_count(w->b)) {
        struct group_rec *g = bb_group_at(w->b, bb_group_count(w->b) - 1);
        g->scope_schema = got.scope_schema;
        g->scope_name = got.scope_name;
        g->scope_version = got.scope_version;
        g->scope_dropped = got.scope_dropped;
    }
    return step;
}

enum otlp_step otlp_walk_span(struct otlp_walk *w, const void *body)
{
    struct span_rec *s = bb_span(w->b);
    if (!s)
        return OTLP_FAILED;
    enum otlp_step step = w->fields(w, &otlp_span, s, body);
    if (step == OTLP_LATE) {
        bb_span_abort(w->b);
        s = bb_span(w->b);
        step = s ? two_passes(w, &otlp_span, s, body) : OTLP_FAILED;
    }
    if (step == OTLP_DONE)
        bb_span_end(w->b);
    return step;
}

enum otlp_step otlp_walk_event(struct otlp_walk *w, const void *body)
{
    struct event_rec *e = bb_event(w->b);
    return e ? w->fields(w, &otlp_event, e, body) : OTLP_DONE;
}

enum otlp_step otlp_walk_link(struct otlp_walk *w, const void *body)
{
    struct link_rec *l = bb_link(w->b);
    return l ? w->fields(w, &otlp_link, l, body) : OTLP_DONE;
}
