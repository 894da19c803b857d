/* SPDX-License-Identifier: Apache-2.0 */
#include "store/trace/match.h"

#include "base/num.h"

static const char *const kind_names[KIND_COUNT] = {"unspecified", "internal", "server",
                                                   "client",      "producer", "consumer"};
static const char *const status_names[STATUS_COUNT] = {"UNSET", "OK", "ERROR"};

/* --- tags --- */

static const struct {
    const char *key;
    enum tag_field field;
    enum tag_place place; /* where it lives, beside TAG_ANY */
} field_rows[] = {
    {"error", FIELD_ERROR, TAG_SPAN},
    {"span.kind", FIELD_KIND, TAG_SPAN},
    {"span.status", FIELD_STATUS, TAG_SPAN},
    {"otel.status_code", FIELD_STATUS_CODE, TAG_SPAN},
    {"otel.status_description", FIELD_STATUS_MESSAGE, TAG_SPAN},
    {"w3c.tracestate", FIELD_TRACE_STATE, TAG_SPAN},
    {"scope.name", FIELD_SCOPE_NAME, TAG_SCOPE},
    {"otel.scope.name", FIELD_SCOPE_NAME, TAG_SCOPE},
    {"scope.version", FIELD_SCOPE_VERSION, TAG_SCOPE},
    {"otel.scope.version", FIELD_SCOPE_VERSION, TAG_SCOPE},
    {"event", FIELD_EVENT_NAME, TAG_EVENT},
};

enum tag_field tag_field(const struct tag_filter *f)
{
    for (size_t i = 0; i < ARRAY_LEN(field_rows); i++)
        if ((f->place == TAG_ANY || f->place == field_rows[i].place) &&
            str_eq_c(f->key, field_rows[i].key))
            return field_rows[i].field;
    return FIELD_NONE;
}

struct str tag_resource_key(const struct tag_filter *f)
{
    struct str prefix = STR("resource.");
    if (f->place != TAG_ANY || !str_starts(f->key, prefix) || f->key.n == prefix.n)
        return STR_NONE;
    return str_skip(f->key, prefix.n);
}

bool tag_match_kind(const struct tag_filter *f, enum span_kind kind)
{
    if (f->op == TAG_EXISTS)
        return kind != KIND_UNSPECIFIED;
    return str_eq_nocase(f->value, str_from_c(kind_names[kind]));
}

bool tag_match_status(const struct tag_filter *f, enum tag_field field, enum span_status status)
{
    if (field == FIELD_ERROR) {
        if (f->op == TAG_EXISTS)
            return status == STATUS_ERROR;
        return (status == STATUS_ERROR && str_eq_c(f->value, "true")) ||
               (status == STATUS_OK && str_eq_c(f->value, "false"));
    }
    if (f->op == TAG_EXISTS)
        return status != STATUS_UNSET;
    if (field == FIELD_STATUS_CODE && status == STATUS_UNSET)
        return false; /* never shown, so never found */
    return str_eq_nocase(f->value, str_from_c(status_names[status]));
}

bool tag_match_text(const struct tag_filter *f, struct str text)
{
    return text.n && (f->op == TAG_EXISTS || str_eq(text, f->value));
}

/* Bytes, arrays and maps: only these need memory for their text. */
static bool match_long_text(const struct tag_filter *f, const struct value *v)
{
    char opens = v->type == ATTR_ARRAY ? '[' : '{';
    if (v->type != ATTR_BYTES && v->type != ATTR_EMPTY && (!f->value.n || f->value.p[0] != opens))
        return false;
    struct arena a = arena_init(64 * KIB + 16 * v->s.n);
    bool yes = str_eq(value_text(v, &a), f->value) && !a.failed;
    arena_fini(&a);
    return yes;
}

bool tag_match_value(const struct tag_filter *f, const struct value *v)
{
    char text[NUM_TEXT_MAX];
    if (f->op == TAG_EXISTS)
        return true;
    switch (v->type) {
    case ATTR_STR:
        return str_eq(v->s, f->value);
    case ATTR_BOOL:
        return str_eq_c(f->value, v->b ? "true" : "false");
    case ATTR_INT:
        return str_eq(f->value, str_of(text, num_put_i64(text, v->i)));
    case ATTR_DOUBLE:
        return str_eq(f->value, str_of(text, num_put_double(text, v->d)));
    case ATTR_EMPTY:
        return f->value.n == 0;
    case ATTR_BYTES:
    case ATTR_ARRAY:
    case ATTR_KVLIST:
        return match_long_text(f, v);
    case ATTR_TYPE_COUNT:
        break;
    }
    return false;
}

static bool match_times(const struct trace_query *q, uint64_t start, uint64_t end)
{
    uint64_t duration = end > start ? end - start : 0;
    return start >= q->start_min_ns && start <= q->start_max_ns && duration >= q->duration_min_ns &&
           (!q->duration_max_ns || duration <= q->duration_max_ns);
}

static bool match_kind(const struct trace_query *q, unsigned kind, unsigned status)
{
    return (q->kind < 0 || (unsigned)q->kind == kind) &&
           (!q->statuses || q->statuses >> status & 1);
}

/* --- read model --- */

static bool kvs_match(const struct tag_filter *f, struct str key, const struct kvs *kvs)
{
    for (uint32_t i = 0; i < kvs->n; i++)
        if (str_eq(kvs->v[i].key, key) && tag_match_value(f, &kvs->v[i].val))
            return true;
    return false;
}

static bool span_field_match(const struct tag_filter *f, const struct span *s)
{
    enum tag_field field = tag_field(f);
    switch (field) {
    case FIELD_NONE:
        return false;
    case FIELD_ERROR:
    case FIELD_STATUS:
    case FIELD_STATUS_CODE:
        return tag_match_status(f, field, s->status);
    case FIELD_KIND:
        return tag_match_kind(f, s->kind);
    case FIELD_STATUS_MESSAGE:
        return tag_match_text(f, s->status_message);
    case FIELD_TRACE_STATE:
        return tag_match_text(f, s->trace_state);
    case FIELD_SCOPE_NAME:
        return tag_match_text(f, s->scope->name);
    case FIELD_SCOPE_VERSION:
        return tag_match_text(f, s->scope->version);
    case FIELD_EVENT_NAME:
        for (uint32_t i = 0; i < s->event_count; i++)
            if (tag_match_text(f, s->events[i].name))
                return true;
        return false;
    }
    return false;
}

static bool looks_in(const struct tag_filter *f, enum tag_place place)
{
    return f->place == TAG_ANY || f->place == place;
}

static bool span_tag_match(const struct tag_filter *f, const struct span *s)
{
    if (looks_in(f, TAG_SPAN) && kvs_match(f, f->key, &s->attrs))
        return true;
    if (looks_in(f, TAG_RESOURCE) && kvs_match(f, f->key, &s->resource->attrs))
        return true;
    if (looks_in(f, TAG_SCOPE) && kvs_match(f, f->key, &s->scope->attrs))
        return true;
    for (uint32_t i = 0; looks_in(f, TAG_EVENT) && i < s->event_count; i++)
        if (kvs_match(f, f->key, &s->events[i].attrs))
            return true;
    for (uint32_t i = 0; looks_in(f, TAG_LINK) && i < s->link_count; i++)
        if (kvs_match(f, f->key, &s->links[i].attrs))
            return true;
    struct str resource_key = tag_resource_key(f);
    if (resource_key.n && kvs_match(f, resource_key, &s->resource->attrs))
        return true;
    return span_field_match(f, s);
}

bool match_span(const struct trace_query *q, const struct span *s)
{
    if (!match_times(q, s->start_ns, s->end_ns) || !match_kind(q, s->kind, s->status) ||
        (q->service.n && !str_eq(q->service, s->resource->service)) ||
        (q->operation.n && !str_eq(q->operation, s->name)))
        return false;
    for (uint32_t i = 0; i < q->tag_count; i++)
        if (!span_tag_match(&q->tags[i], s))
            return false;
    return true;
}

/* --- batch records --- */

static uint32_t find_number(const struct batch *b, const struct sref *names, uint32_t count,
                            struct str name)
{
    for (uint32_t i = 0; i < count; i++)
        if (str_eq(batch_str(b, names[i]), name))
            return i;
    return MATCH_NO_KEY;
}

bool match_begin(struct match *m, const struct trace_query *q, const struct batch *b)
{
    const struct batch_head *h = b->head;
    if (!h->span_count || h->min_ns > q->start_max_ns || h->max_ns < q->start_min_ns)
        return false;
    *m = (struct match){.q = q, .b = b, .name = MATCH_NO_KEY, .group = UINT32_MAX};
    if (q->operation.n) {
        m->name = find_number(b, b->names, h->name_count, q->operation);
        if (m->name == MATCH_NO_KEY)
            return false;
    }
    for (uint32_t i = 0; i < q->tag_count; i++) {
        const struct tag_filter *f = &q->tags[i];
        struct str resource_key = tag_resource_key(f);
        m->key[i] = find_number(b, b->keys, h->key_count, f->key);
        m->resource_key[i] = resource_key.n ? find_number(b, b->keys, h->key_count, resource_key)
                                            : MATCH_NO_KEY;
        if (m->key[i] == MATCH_NO_KEY && m->resource_key[i] == MATCH_NO_KEY &&
            tag_field(f) == FIELD_NONE)
            return false;
    }
    return true;
}

static bool attrs_match(const struct match *m, const struct tag_filter *f, uint32_t key,
                        uint32_t at, uint32_t count)
{
    if (key == MATCH_NO_KEY)
        return false;
    for (const struct attr_rec *a = m->b->attrs + at, *end = a + count; a < end; a++) {
        if (a->key != key)
            continue;
        struct value v = value_from_batch(m->b, a);
        if (tag_match_value(f, &v))
            return true;
    }
    return false;
}

static bool record_field_match(const struct match *m, const struct tag_filter *f,
                               const struct span_rec *s)
{
    const struct batch *b = m->b;
    enum tag_field field = tag_field(f);
    switch (field) {
    case FIELD_NONE:
        return false;
    case FIELD_ERROR:
    case FIELD_STATUS:
    case FIELD_STATUS_CODE:
        return tag_match_status(f, field, s->status);
    case FIELD_KIND:
        return tag_match_kind(f, s->kind);
    case FIELD_STATUS_MESSAGE:
        return tag_match_text(f, batch_str(b, s->status_message));
    case FIELD_TRACE_STATE:
        return tag_match_text(f, batch_str(b, s->trace_state));
    case FIELD_SCOPE_NAME:
        return tag_match_text(f, batch_str(b, b->groups[s->group].scope_name));
    case FIELD_SCOPE_VERSION:
        return tag_match_text(f, batch_str(b, b->groups[s->group].scope_version));
    case FIELD_EVENT_NAME:
        for (uint32_t i = 0; i < s->event_count; i++)
            if (tag_match_text(f, batch_str(b, b->events[s->event_at + i].name)))
                return true;
        return false;
    }
    return false;
}

static bool origin_match(const struct match *m, uint32_t i, const struct group_rec *g)
{
    const struct tag_filter *f = &m->q->tags[i];
    uint32_t key = m->key[i];
    return (looks_in(f, TAG_RESOURCE) &&
            attrs_match(m, f, key, g->res_attr_at, g->res_attr_count)) ||
           (looks_in(f, TAG_SCOPE) &&
            attrs_match(m, f, key, g->scope_attr_at, g->scope_attr_count)) ||
           attrs_match(m, f, m->resource_key[i], g->res_attr_at, g->res_attr_count);
}

/* Once for all spans of a group, which stand together. */
static void look_at_group(struct match *m, uint32_t group)
{
    const struct trace_query *q = m->q;
    const struct group_rec *g = &m->b->groups[group];
    m->group = group;
    m->group_ok = !q->service.n || str_eq(q->service, batch_str(m->b, g->service));
    for (uint32_t i = 0; m->group_ok && i < q->tag_count; i++)
        m->origin_yes[i] = origin_match(m, i, g);
}

static bool record_tag_match(const struct match *m, uint32_t i, const struct span_rec *s)
{
    const struct tag_filter *f = &m->q->tags[i];
    uint32_t key = m->key[i];
    if (m->origin_yes[i])
        return true;
    if (looks_in(f, TAG_SPAN) && attrs_match(m, f, key, s->attr_at, s->attr_count))
        return true;
    const struct event_rec *events = m->b->events + s->event_at;
    for (uint32_t k = 0; looks_in(f, TAG_EVENT) && k < s->event_count; k++)
        if (attrs_match(m, f, key, events[k].attr_at, events[k].attr_count))
            return true;
    const struct link_rec *links = m->b->links + s->link_at;
    for (uint32_t k = 0; looks_in(f, TAG_LINK) && k < s->link_count; k++)
        if (attrs_match(m, f, key, links[k].attr_at, links[k].attr_count))
            return true;
    return record_field_match(m, f, s);
}

bool match_next(struct match *m, const struct span_rec *s)
{
    const struct trace_query *q = m->q;
    if (!match_times(q, s->start_ns, s->end_ns) || !match_kind(q, s->kind, s->status) ||
        (q->operation.n && s->name != m->name))
        return false;
    if (s->group != m->group)
        look_at_group(m, s->group);
    if (!m->group_ok)
        return false;
    for (uint32_t i = 0; i < q->tag_count; i++)
        if (!record_tag_match(m, i, s))
            return false;
    return true;
}

bool match_record(const struct trace_query *q, const struct batch *b, const struct span_rec *s)
{
    struct match m;
    return match_begin(&m, q, b) && match_next(&m, s);
}
