/* SPDX-License-Identifier: Apache-2.0 */
/* OTLP spans in Jaeger's query JSON, as Jaeger's own translation and user-interface model write
 * them.
 *
 *   span tags    otel.scope.name, otel.scope.version, the attributes, span.kind, otel.status_code,
 *                error, otel.status_description, w3c.tracestate; in this order
 *   references   the parent as CHILD_OF first, then the links as FOLLOWS_FROM unless the link
 *                attribute opentracing.ref_type says child_of. A link to the parent is no second
 *                reference: it decides the type of the first.
 *   logs         one an event: field `event` with its name unless an attribute has that key, then
 *                its attributes
 *   processes    p1, p2, … in order of appearance; resources of equal service and attributes are
 *                one process
 *   times        microseconds, cut off
 *   int64        a JSON number when JavaScript can hold it, else a string
 *
 * The attribute @jaeger@warnings becomes the span's warnings and @jaeger@format is not shown:
 * Jaeger keeps both inside its spans and never lets them out.
 *
 * A trace may have a million spans: nothing here looks at a span twice, processes are found by the
 * resource's address first and by content once an address, and the output leaves through the sink
 * span by span. */
#include "codec/jaeger_json.h"

#include "base/idmap.h"
#include "base/num.h"
#include "model/kvs.h"
#include "model/value.h"

#define SAFE_INT_MAX (((int64_t)1 << 53) - 1) /* JavaScript's */

#define KEY_WARNINGS STR("@jaeger@warnings")
#define KEY_FORMAT   STR("@jaeger@format")

static const struct str kind_texts[KIND_COUNT] = {
    [KIND_UNSPECIFIED] = {"", 0},      [KIND_INTERNAL] = {"internal", 8},
    [KIND_SERVER] = {"server", 6},     [KIND_CLIENT] = {"client", 6},
    [KIND_PRODUCER] = {"producer", 8}, [KIND_CONSUMER] = {"consumer", 8},
};

struct str jaeger_kind_text(enum span_kind kind)
{
    return (unsigned)kind < KIND_COUNT ? kind_texts[kind] : kind_texts[KIND_UNSPECIFIED];
}

bool jaeger_kind_from(struct str text, enum span_kind *kind)
{
    for (unsigned k = 0; k < KIND_COUNT; k++)
        if (str_eq(text, kind_texts[k])) {
            *kind = (enum span_kind)k;
            return true;
        }
    return false;
}

/* --- ids --- */

size_t jaeger_trace_id_text(const uint8_t id[16], char *out)
{
    return id_is_zero(id, 8) ? num_put_hex(out, id + 8, 8) : num_put_hex(out, id, 16);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Up to 16 digits into the 8 bytes at out; Jaeger's parser reads the halves apart and its error
 * quotes the half. */
static enum errc parse_half(struct str s, uint8_t out[8], struct err *e)
{
    uint64_t v = 0;
    bool ok = s.n > 0;
    for (size_t i = 0; i < s.n && ok; i++) {
        int digit = hex_digit(s.p[i]);
        ok = digit >= 0;
        v = v << 4 | (uint64_t)(digit & 15);
    }
    if (ok) {
        store_u64be(out, v);
        return E_OK;
    }
    struct buf quoted = buf_init(KIB);
    jaeger_quote(&quoted, s);
    enum errc rc = fail(e, E_INVALID, "strconv.ParseUint: parsing %.*s: invalid syntax",
                        STR_ARG(buf_str(&quoted)));
    buf_fini(&quoted);
    return rc;
}

enum errc jaeger_trace_id_parse(struct str text, uint8_t id[16], struct err *e)
{
    if (text.n > 32)
        return fail(e, E_INVALID, "TraceID cannot be longer than 32 hex characters: %.*s",
                    STR_ARG(text));
    memset(id, 0, 16);
    size_t high = text.n > 16 ? text.n - 16 : 0;
    enum errc rc = high ? parse_half(str_take(text, high), id, e) : E_OK;
    return rc ? rc : parse_half(str_skip(text, high), id + 8, e);
}

void jaeger_quote(struct buf *out, struct str s)
{
    static const char letters[] = "\aa\bb\ff\nn\rr\tt\vv\"\"\\\\";
    buf_add_char(out, '"');
    while (s.n) {
        unsigned char c = (unsigned char)*s.p;
        size_t n = str_utf8_len(s);
        const char *letter = NULL;
        for (size_t i = 0; i + 1 < sizeof letters && !letter; i += 2)
            if ((unsigned char)letters[i] == c)
                letter = &letters[i + 1];
        if (letter)
            buf_addf(out, "\\%c", *letter);
        else if (n == 0 || c < 0x20 || c == 0x7f)
            buf_addf(out, "\\x%02x", c);
        else if (n == 2 && c == 0xc2 && (unsigned char)s.p[1] < 0xa0)
            buf_addf(out, "\\u%04x", (unsigned char)s.p[1]);
        else
            buf_add(out, s.p, n);
        s = str_skip(s, n ? n : 1);
    }
    buf_add_char(out, '"');
}

/* --- tags --- */

static void put_id(struct json_writer *w, const uint8_t trace_id[16])
{
    char text[32];
    json_str(w, str_of(text, jaeger_trace_id_text(trace_id, text)));
}

static void tag_head(struct json_writer *w, struct str key, struct str type)
{
    json_object(w);
    JSON_KEY_C(w, "key");
    json_str(w, key);
    JSON_KEY_C(w, "type");
    json_str(w, type);
    JSON_KEY_C(w, "value");
}

static void put_str_tag(struct json_writer *w, struct str key, struct str value)
{
    tag_head(w, key, STR("string"));
    json_str(w, value);
    json_object_end(w);
}

static void put_tag(struct json_writer *w, const struct kv *kv, struct arena *a)
{
    const struct value *v = &kv->val;
    switch (v->type) {
    case ATTR_BOOL:
        tag_head(w, kv->key, STR("bool"));
        json_bool(w, v->b);
        break;
    case ATTR_INT:
        tag_head(w, kv->key, STR("int64"));
        if (v->i > SAFE_INT_MAX || v->i < -SAFE_INT_MAX)
            json_i64_str(w, v->i);
        else
            json_i64(w, v->i);
        break;
    case ATTR_DOUBLE:
        tag_head(w, kv->key, STR("float64"));
        json_double(w, v->d);
        break;
    case ATTR_BYTES:
        tag_head(w, kv->key, STR("binary"));
        json_base64(w, v->s);
        break;
    case ATTR_STR:
        put_str_tag(w, kv->key, v->s);
        return;
    case ATTR_EMPTY:
    case ATTR_ARRAY:
    case ATTR_KVLIST:
    case ATTR_TYPE_COUNT:
        put_str_tag(w, kv->key, v->type == ATTR_EMPTY ? STR("") : value_text(v, a));
        return;
    }
    json_object_end(w);
}

static bool is_private_key(struct str key)
{
    return key.n && key.p[0] == '@' && (str_eq(key, KEY_WARNINGS) || str_eq(key, KEY_FORMAT));
}

static void put_attrs(struct json_writer *w, const struct kvs *attrs, struct arena *a)
{
    for (uint32_t i = 0; i < attrs->n; i++)
        if (!is_private_key(attrs->v[i].key))
            put_tag(w, &attrs->v[i], a);
}

static void put_span_tags(struct json_writer *w, const struct span *s, struct arena *a)
{
    JSON_KEY_C(w, "tags");
    json_array(w);
    if (s->scope && s->scope->name.n)
        put_str_tag(w, STR("otel.scope.name"), s->scope->name);
    if (s->scope && s->scope->version.n)
        put_str_tag(w, STR("otel.scope.version"), s->scope->version);
    put_attrs(w, &s->attrs, a);
    if (jaeger_kind_text(s->kind).n)
        put_str_tag(w, STR("span.kind"), jaeger_kind_text(s->kind));
    if (s->status == STATUS_OK)
        put_str_tag(w, STR("otel.status_code"), STR("OK"));
    if (s->status == STATUS_ERROR) {
        put_str_tag(w, STR("otel.status_code"), STR("ERROR"));
        tag_head(w, STR("error"), STR("bool"));
        json_bool(w, true);
        json_object_end(w);
    }
    if (s->status_message.n)
        put_str_tag(w, STR("otel.status_description"), s->status_message);
    if (s->trace_state.n)
        put_str_tag(w, STR("w3c.tracestate"), s->trace_state);
    json_array_end(w);
}

/* --- spans --- */

static bool link_is_child_of(const struct link *l)
{
    const struct value *v = kvs_get(&l->attrs, STR("opentracing.ref_type"));
    return v && v->type == ATTR_STR && str_eq(v->s, STR("child_of"));
}

static bool link_is_parent(const struct link *l, const struct span *s)
{
    return span_has_parent(s) && memcmp(l->span_id, s->parent_id, 8) == 0 &&
           memcmp(l->trace_id, s->trace_id, 16) == 0;
}

static void put_reference(struct json_writer *w, bool child_of, const uint8_t trace_id[16],
                          const uint8_t span_id[8])
{
    json_object(w);
    JSON_KEY_C(w, "refType");
    json_str(w, child_of ? STR("CHILD_OF") : STR("FOLLOWS_FROM"));
    JSON_KEY_C(w, "traceID");
    put_id(w, trace_id);
    JSON_KEY_C(w, "spanID");
    json_hex(w, span_id, 8);
    json_object_end(w);
}

static void put_references(struct json_writer *w, const struct span *s)
{
    JSON_KEY_C(w, "references");
    json_array(w);
    if (span_has_parent(s)) {
        bool child_of = true;
        for (uint32_t i = 0; i < s->link_count; i++)
            if (link_is_parent(&s->links[i], s))
                child_of = link_is_child_of(&s->links[i]);
        put_reference(w, child_of, s->trace_id, s->parent_id);
    }
    for (uint32_t i = 0; i < s->link_count; i++) {
        const struct link *l = &s->links[i];
        if (!link_is_parent(l, s))
            put_reference(w, link_is_child_of(l), l->trace_id, l->span_id);
    }
    json_array_end(w);
}

static void put_logs(struct json_writer *w, const struct span *s, struct arena *a)
{
    JSON_KEY_C(w, "logs");
    json_array(w);
    for (uint32_t i = 0; i < s->event_count; i++) {
        const struct event *ev = &s->events[i];
        json_object(w);
        JSON_KEY_C(w, "timestamp");
        json_u64(w, ev->time_ns / NS_PER_US);
        JSON_KEY_C(w, "fields");
        json_array(w);
        if (ev->name.n && !kvs_get(&ev->attrs, STR("event")))
            put_str_tag(w, STR("event"), ev->name);
        put_attrs(w, &ev->attrs, a);
        json_array_end(w);
        json_object_end(w);
    }
    json_array_end(w);
}

/* null, or the list: what the span brought along, then what the adjusters found. */
static void put_warnings(struct json_writer *w, const struct kvs *attrs,
                         const struct warning *warnings, struct arena *a)
{
    JSON_KEY_C(w, "warnings");
    const struct value *brought = attrs ? kvs_get(attrs, KEY_WARNINGS) : NULL;
    if (brought && brought->type != ATTR_ARRAY && brought->type != ATTR_STR)
        brought = NULL;
    if (!brought && !warnings) {
        json_null(w);
        return;
    }
    json_array(w);
    if (brought && brought->type == ATTR_STR)
        json_str(w, brought->s);
    if (brought && brought->type == ATTR_ARRAY) {
        struct value_iter it = value_iter_begin(brought);
        struct str key;
        struct value v;
        while (value_iter_next(&it, &key, &v))
            json_str(w, value_text(&v, a));
    }
    for (const struct warning *x = warnings; x; x = x->next)
        json_str(w, x->text);
    json_array_end(w);
}

static void put_process_id(struct json_writer *w, uint32_t number)
{
    char text[1 + NUM_TEXT_MAX] = {'p'};
    json_str(w, str_of(text, 1 + num_put_u64(text + 1, number)));
}

static void put_span(struct json_writer *w, const struct span *s, uint32_t process, struct arena *a)
{
    json_object(w);
    JSON_KEY_C(w, "traceID");
    put_id(w, s->trace_id);
    JSON_KEY_C(w, "spanID");
    json_hex(w, s->span_id, 8);
    if (s->flags & 0xff) {
        JSON_KEY_C(w, "flags");
        json_u64(w, s->flags & 0xff);
    }
    JSON_KEY_C(w, "operationName");
    json_str(w, s->name);
    put_references(w, s);
    JSON_KEY_C(w, "startTime");
    json_u64(w, s->start_ns / NS_PER_US);
    JSON_KEY_C(w, "duration");
    json_u64(w, span_duration_ns(s) / NS_PER_US);
    put_span_tags(w, s, a);
    put_logs(w, s, a);
    JSON_KEY_C(w, "processID");
    put_process_id(w, process);
    put_warnings(w, &s->attrs, s->warnings, a);
    json_object_end(w);
}

/* --- processes --- */

struct processes {
    struct idmap by_address, by_content; /* → number, from 1 */
    const struct resource **list;        /* number - 1 → resource */
    uint32_t *next_alike;                /* chains numbers whose contents hash alike */
    uint32_t count;
};

static const struct resource no_resource;

static bool same_process(const struct resource *a, const struct resource *b)
{
    return str_eq(a->service, b->service) && kvs_eq(&a->attrs, &b->attrs);
}

static uint32_t process_add(struct processes *p, const struct resource *r, uint64_t content)
{
    bool fresh;
    uint32_t *first = idmap_put(&p->by_content, content, p->count + 1, &fresh);
    if (!fresh)
        for (uint32_t n = *first; n; n = p->next_alike[n - 1])
            if (same_process(p->list[n - 1], r))
                return n;
    p->list[p->count] = r;
    p->next_alike[p->count] = fresh ? 0 : *first;
    *first = ++p->count;
    return p->count;
}

static uint32_t process_of(struct processes *p, const struct span *s)
{
    const struct resource *r = s->resource ? s->resource : &no_resource;
    bool fresh;
    uint32_t *number = idmap_put(&p->by_address, (uintptr_t)r, 0, &fresh);
    if (fresh)
        *number = process_add(p, r, kvs_hash(&r->attrs, p->by_address.seed));
    return *number;
}

/* Addresses that occur: the tables are sized by runs of equal ones, not by spans. */
static size_t resource_runs(const struct trace *t)
{
    size_t runs = 1;
    for (uint32_t i = 1; i < t->span_count; i++)
        runs += t->spans[i]->resource != t->spans[i - 1]->resource;
    return runs;
}

static bool processes_init(struct processes *p, const struct trace *t, struct arena *a)
{
    size_t most = resource_runs(t);
    *p = (struct processes){0};
    p->list = ARENA_ARRAY(a, const struct resource *, most);
    p->next_alike = ARENA_ARRAY(a, uint32_t, most);
    return p->list && p->next_alike && idmap_init(&p->by_address, most, a) &&
           idmap_init(&p->by_content, most, a);
}

static void put_processes(struct json_writer *w, const struct processes *p, struct arena *a)
{
    JSON_KEY_C(w, "processes");
    json_object(w);
    for (uint32_t i = 0; i < p->count; i++) {
        const struct resource *r = p->list[i];
        char text[1 + NUM_TEXT_MAX] = {'p'};
        json_key(w, str_of(text, 1 + num_put_u64(text + 1, i + 1)));
        json_object(w);
        JSON_KEY_C(w, "serviceName");
        json_str(w, r->service);
        JSON_KEY_C(w, "tags");
        json_array(w);
        for (uint32_t k = 0; k < r->attrs.n; k++)
            if (!str_eq(r->attrs.v[k].key, STR("service.name")))
                put_tag(w, &r->attrs.v[k], a);
        json_array_end(w);
        json_object_end(w);
    }
    json_object_end(w);
}

bool jaeger_json_trace(struct json_writer *w, const struct trace *t, struct arena *a,
                       const struct jaeger_json_sink *sink)
{
    struct processes processes;
    if (!processes_init(&processes, t, a))
        return false;
    json_object(w);
    JSON_KEY_C(w, "traceID");
    put_id(w, t->span_count ? t->spans[0]->trace_id : t->id);
    JSON_KEY_C(w, "spans");
    json_array(w);
    for (uint32_t i = 0; i < t->span_count; i++) {
        put_span(w, t->spans[i], process_of(&processes, t->spans[i]), a);
        if (sink && w->out->n >= JAEGER_JSON_CHUNK && !sink->flush(sink->arg, w->out))
            return false;
    }
    json_array_end(w);
    put_processes(w, &processes, a);
    put_warnings(w, NULL, t->warnings, a);
    json_object_end(w);
    return !w->out->failed && !a->failed;
}
