/* SPDX-License-Identifier: Apache-2.0 */
/* How it is fast: every operation is compiled once into parts, each a run of bytes that never
 * change (tags, keys, constant attributes) followed by at most one value that is made anew. A span
 * is then some forty copies into the open request. A request's head (its lengths, the resource, the
 * scope) is written last, into room kept free before the first span, so that lengths are as short
 * as a serialiser makes them.
 *
 * Invariants:
 *  1. A span is at most SPAN_BYTES_MAX long, so one check of room covers the whole span, and at
 *     least 128, so its length always takes two bytes.
 *  2. Only `rnd` numbers decide anything; they start from hash(seed, trace number). */
#include "app/load/spans.h"

#include "app/load/ops.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>

#define HEAD_ROOM      2048u
#define SPAN_BYTES_MAX 8192u
#define PARTS_BYTES    (256 * KIB)
#define WALK_DEPTH_MAX 32

struct part {
    const uint8_t *lit;
    uint32_t len;
    const struct op_attr *make; /* NULL: none follows */
};

struct program {
    struct part parts[OPS_ATTRS_MAX + 1];
    unsigned count;
};

/* The open request of one instance of a service. */
struct sender {
    struct buf head;  /* ResourceSpans.resource, then ScopeSpans.scope, each as a field */
    size_t res_len;   /* of the first of them */
    struct buf spans; /* HEAD_ROOM bytes, then spans */
    uint32_t span_count;
    uint64_t oldest; /* trace number of its first span */
};

/* The one who caused the trace. */
struct visitor {
    char session[36], address[NUM_TEXT_MAX * 2], user[NUM_TEXT_MAX * 2];
    uint8_t session_len, address_len, user_len, agent;
};

struct spans {
    struct spans_config config;
    spans_request *out;
    void *arg;
    const struct op *ops;
    const struct op_service *services;
    unsigned service_count;
    struct program *programs;
    struct buf literals;
    struct sender *senders;
    /* the trace being made */
    uint64_t rnd, number, salt;
    uint8_t trace_id[16];
    struct visitor visitor;
    uint32_t made, fail_at;
    uint64_t product;
};

static const char *const agents[] = {
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Mobile Safari/537.36",
    "python-requests/2.32.3",
};

/* Durations over their median, in 1/256, at 64 even quantiles: log-normal with a Pareto tail. */
static const uint16_t tail[65] = {
    34,  57,  69,  79,  87,  95,  102, 108, 114, 120, 126, 132, 138,  143, 149, 154, 160,
    165, 171, 176, 182, 187, 193, 199, 205, 211, 217, 223, 229, 236,  242, 249, 256, 263,
    270, 278, 286, 294, 302, 311, 320, 329, 339, 350, 360, 372, 384,  397, 410, 425, 441,
    458, 476, 497, 519, 544, 573, 606, 644, 691, 749, 827, 943, 1536, 6144};

/* --- numbers --- */

static uint64_t rnd(struct spans *s)
{
    s->rnd += HASH_K0;
    return hash_mix(s->rnd ^ HASH_K2, HASH_K1);
}

/* In [0, n). */
static uint64_t below(struct spans *s, uint64_t n)
{
    return n >> 32 ? rnd(s) % n : ((rnd(s) >> 32) * n) >> 32;
}

static uint64_t long_tailed(struct spans *s, uint64_t median)
{
    uint64_t r = rnd(s);
    unsigned at = (unsigned)(r >> 58), between = (unsigned)(r >> 48) & 1023;
    uint64_t factor = tail[at] * 1024u + (uint64_t)(tail[at + 1] - tail[at]) * between;
    return median * factor / (256 * 1024);
}

static uint64_t self_ns(struct spans *s, const struct op *op)
{
    return long_tailed(s, op->self_us * NS_PER_US) + (rnd(s) & 1023);
}

static void trace_id_of(uint64_t seed, uint64_t n, uint8_t id[16])
{
    store_u64le(id, hash_u64(n, seed));
    store_u64le(id + 8, hash_u64(n ^ HASH_K2, seed) | 1);
}

/* --- bytes --- */

static uint8_t *put(uint8_t *p, const void *data, size_t n)
{
    memcpy(p, data, n);
    return p + n;
}

static uint8_t *put_field(uint8_t *p, uint8_t tag, const void *data, size_t n)
{
    *p++ = tag;
    p = varint_put(p, n);
    return put(p, data, n);
}

static uint8_t *put_fixed64(uint8_t *p, uint8_t tag, uint64_t v)
{
    *p++ = tag;
    store_u64le(p, v);
    return p + 8;
}

/* KeyValue { key, value { string_value } } as field `tag` of what holds it. */
static uint8_t *put_text_attr(uint8_t *p, uint8_t tag, struct str key, const char *v, size_t n)
{
    size_t any = 1 + varint_len(n) + n;
    size_t body = 1 + varint_len(key.n) + key.n + 1 + varint_len(any) + any;
    *p++ = tag;
    p = varint_put(p, body);
    p = put_field(p, 0x0a, key.p, key.n);
    *p++ = 0x12;
    p = varint_put(p, any);
    return put_field(p, 0x0a, v, n);
}

/* The same with a value that is already an encoded AnyValue field. */
static uint8_t *put_any_attr(uint8_t *p, uint8_t tag, struct str key, const uint8_t *any, size_t n)
{
    *p++ = tag;
    p = varint_put(p, 1 + varint_len(key.n) + key.n + 2 + n);
    p = put_field(p, 0x0a, key.p, key.n);
    return put_field(p, 0x12, any, n);
}

static uint8_t *put_int_attr(uint8_t *p, uint8_t tag, struct str key, int64_t v)
{
    uint8_t any[1 + VARINT_MAX];
    any[0] = 0x18;
    return put_any_attr(p, tag, key, any, (size_t)(varint_put(any + 1, (uint64_t)v) - any));
}

static uint8_t *put_double_attr(uint8_t *p, uint8_t tag, struct str key, double v)
{
    uint8_t any[9] = {0x21};
    memcpy(any + 1, &v, 8);
    return put_any_attr(p, tag, key, any, sizeof any);
}

static uint8_t *put_bool_attr(uint8_t *p, uint8_t tag, struct str key, bool v)
{
    uint8_t any[2] = {0x10, v};
    return put_any_attr(p, tag, key, any, sizeof any);
}

static size_t uuid_text(uint64_t a, uint64_t b, char out[36])
{
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0, at = 0; i < 32; i++) {
        uint64_t half = i < 16 ? a : b;
        if (i == 8 || i == 12 || i == 16 || i == 20)
            out[at++] = '-';
        out[at++] = digits[(half >> (4 * (i & 15))) & 15];
    }
    out[14] = '4';
    return 36;
}

/* "10.16.<host>.<n>" of an instance of some peer: few of them, and stable. */
static size_t pod_text(uint64_t r, char out[NUM_TEXT_MAX])
{
    memcpy(out, "10.16.", 6);
    size_t n = 6 + num_put_u64(out + 6, 20 + (r & 3));
    out[n++] = '.';
    return n + num_put_u64(out + n, 10 + ((r >> 8) & 31));
}

static size_t product_text(uint64_t product, char out[16])
{
    static const char letters[] = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    uint64_t h = hash_u64(product, 7);
    for (int i = 0; i < 10; i++, h >>= 5)
        out[i] = letters[h & 31];
    return 10;
}

static struct str word_of(const char *words, uint64_t r)
{
    unsigned count = 1;
    for (const char *p = words; *p; p++)
        count += *p == '|';
    struct str rest = str_from_c(words), word = STR_NONE;
    for (uint64_t i = r % count + 1; i; i--)
        (void)str_split(&rest, '|', &word);
    return word;
}

/* --- one attribute --- */

static uint8_t *put_path(struct spans *s, uint8_t *p, uint8_t tag, struct str key, const char *path)
{
    char text[96];
    size_t n = strlen(path);
    ensure(n + 16 < sizeof text);
    memcpy(text, path, n);
    return put_text_attr(p, tag, key, text, n + product_text(s->product, text + n));
}

static uint8_t *put_made(struct spans *s, uint8_t *p, uint8_t tag, const struct op_attr *a,
                         bool failed)
{
    struct str key = str_from_c(a->key), word;
    const struct visitor *v = &s->visitor;
    char text[NUM_TEXT_MAX * 2];
    uint64_t r;
    switch (a->make) {
    case MAKE_TEXT:
        return put_text_attr(p, tag, key, a->text, strlen(a->text));
    case MAKE_INT:
        return put_int_attr(p, tag, key, a->n);
    case MAKE_PICK:
        word = word_of(a->text, rnd(s) >> 32);
        return put_text_attr(p, tag, key, word.p, word.n);
    case MAKE_RANGE:
        return put_int_attr(p, tag, key, a->n + (int64_t)below(s, (uint64_t)(a->m - a->n + 1)));
    case MAKE_SKEWED:
        r = below(s, (uint64_t)(a->m - a->n + 1));
        return put_int_attr(p, tag, key, a->n + (int64_t)below(s, r + 1));
    case MAKE_DOUBLE:
        r = below(s, (uint64_t)(a->m - a->n) * 100);
        return put_double_attr(p, tag, key, (double)a->n + (double)r / 100.0);
    case MAKE_BOOL:
        return put_bool_attr(p, tag, key, below(s, 100) < (uint64_t)a->n);
    case MAKE_UUID:
        r = rnd(s);
        return put_text_attr(p, tag, key, text, uuid_text(r, rnd(s), text));
    case MAKE_SESSION:
        return put_text_attr(p, tag, key, v->session, v->session_len);
    case MAKE_USER:
        return put_text_attr(p, tag, key, v->user, v->user_len);
    case MAKE_ADDRESS:
        return put_text_attr(p, tag, key, v->address, v->address_len);
    case MAKE_AGENT:
        return put_text_attr(p, tag, key, agents[v->agent], strlen(agents[v->agent]));
    case MAKE_PRODUCT:
        return put_text_attr(p, tag, key, text, product_text(s->product, text));
    case MAKE_PATH:
        return put_path(s, p, tag, key, a->text);
    case MAKE_POD:
        return put_text_attr(p, tag, key, text, pod_text(rnd(s), text));
    case MAKE_HTTP:
        return put_int_attr(p, tag, key, failed ? 500 : 200);
    case MAKE_RPC:
        return put_int_attr(p, tag, key, failed ? 13 : 0);
    case MAKE_SEQUENCE:
        return put_int_attr(p, tag, key, (int64_t)(s->number + 1000000));
    }
    return p;
}

/* --- compiling an operation --- */

#define SPAN_ATTR 0x4a /* Span.attributes */

static bool is_constant(const struct op_attr *a)
{
    return a->make == MAKE_TEXT || a->make == MAKE_INT;
}

/* Literals are laid out in one buffer that does not move while programs are compiled. */
static void compile(struct spans *s, const struct op *op, struct program *prog)
{
    ensure(s->literals.n + SPAN_BYTES_MAX < PARTS_BYTES);
    uint8_t *p = (uint8_t *)s->literals.p + s->literals.n, *start = p;
    p = put_field(p, 0x2a, op->name, strlen(op->name));
    *p++ = 0x30;
    *p++ = (uint8_t)op->kind;
    for (unsigned i = 0; i <= OPS_ATTRS_MAX; i++) {
        const struct op_attr *a = &op->attrs[i];
        bool end = i == OPS_ATTRS_MAX || !a->key;
        if (!end && is_constant(a)) {
            p = put_made(s, p, SPAN_ATTR, a, false);
            continue;
        }
        prog->parts[prog->count++] = (struct part){start, (uint32_t)(p - start), end ? NULL : a};
        start = p;
        if (end)
            break;
    }
    s->literals.n = (size_t)(p - (uint8_t *)s->literals.p);
}

/* --- senders --- */

static uint8_t *put_instance(struct spans *s, uint8_t *p, const struct op_service *v,
                             unsigned service, unsigned instance)
{
    uint64_t r = hash_u64(service * OPS_INSTANCES + instance, s->config.seed ^ HASH_K1);
    char text[80], id[36];
    uuid_text(r, hash_u64(r, 1), id);
#define RES(key, value, n) (p = put_text_attr(p, 0x0a, STR(key), value, n))
    RES("service.name", v->name, strlen(v->name));
    RES("service.namespace", "shop", 4);
    RES("service.version", v->version, strlen(v->version));
    RES("service.instance.id", id, 36);
    RES("deployment.environment.name", "production", 10);
    int n = snprintf(text, sizeof text, "%s-%08x-%05x", v->name, (unsigned)(r >> 32),
                     (unsigned)(r & 0xfffff));
    RES("k8s.pod.name", text, (size_t)n);
    RES("host.name", text, (size_t)n);
    RES("k8s.namespace.name", "shop", 4);
    n = snprintf(text, sizeof text, "node-%u", (unsigned)(r % 5));
    RES("k8s.node.name", text, (size_t)n);
    RES("os.type", "linux", 5);
    p = put_int_attr(p, 0x0a, STR("process.pid"), 1 + (int64_t)(r >> 20 & 63));
    RES("process.runtime.name", v->runtime, strlen(v->runtime));
    RES("telemetry.sdk.name", "opentelemetry", 13);
    RES("telemetry.sdk.language", v->language, strlen(v->language));
    RES("telemetry.sdk.version", "1.26.0", 6);
#undef RES
    return p;
}

static void sender_init(struct spans *s, struct sender *d, unsigned service, unsigned instance)
{
    const struct op_service *v = &s->services[service];
    uint8_t text[HEAD_ROOM], field[HEAD_ROOM + 8], *p = put_instance(s, text, v, service, instance);
    d->head = buf_init(HEAD_ROOM);
    d->spans = buf_init(64 * MIB);
    buf_add_zero(&d->spans, HEAD_ROOM);
    d->res_len = (size_t)(put_field(field, 0x0a, text, (size_t)(p - text)) - field);
    buf_add(&d->head, field, d->res_len);
    p = put_field(text, 0x0a, v->scope, strlen(v->scope));
    p = put_field(p, 0x12, v->scope_version, strlen(v->scope_version));
    buf_add(&d->head, field, (size_t)(put_field(field, 0x0a, text, (size_t)(p - text)) - field));
    ensure(!d->head.failed);
}

/* The lengths before the spans are known now: TracesData { ResourceSpans { resource, ScopeSpans {
 * scope, spans }, schema_url } }. */
static void sender_send(struct spans *s, struct sender *d)
{
    static const char schema[] = "https://opentelemetry.io/schemas/1.26.0";
    if (!d->span_count)
        return;
    ensure(buf_reserve(&d->spans, sizeof schema + 8));
    struct str res = {d->head.p, d->res_len};
    struct str scope = {d->head.p + d->res_len, d->head.n - d->res_len};
    size_t inner = scope.n + d->spans.n - HEAD_ROOM;
    size_t outer = res.n + 1 + varint_len(inner) + inner + 2 + sizeof schema - 1;
    uint8_t head[HEAD_ROOM], *p = head;
    *p++ = 0x0a;
    p = varint_put(p, outer);
    p = put(p, res.p, res.n);
    *p++ = 0x12;
    p = varint_put(p, inner);
    p = put(p, scope.p, scope.n);
    size_t head_len = (size_t)(p - head);
    ensure(head_len <= HEAD_ROOM);
    memcpy(d->spans.p + HEAD_ROOM - head_len, head, head_len);
    uint8_t *end = (uint8_t *)d->spans.p + d->spans.n;
    end = put_field(end, 0x1a, schema, sizeof schema - 1);
    const char *start = d->spans.p + HEAD_ROOM - head_len;
    s->out(s->arg, str_of(start, (size_t)((char *)end - start)), d->span_count);
    d->spans.n = HEAD_ROOM;
    d->span_count = 0;
}

static struct sender *sender_of(struct spans *s, unsigned service)
{
    unsigned instance = (unsigned)(hash_u64(service, s->salt) >> 32) % OPS_INSTANCES;
    return &s->senders[service * OPS_INSTANCES + instance];
}

/* --- one span --- */

struct draft {
    const struct op *op;
    unsigned service;
    uint8_t id[8], parent[8];
    bool has_parent, failed, origin; /* origin: the failure began here */
    uint64_t start_ns, end_ns;
};

static void draft_init(struct spans *s, struct draft *d, const struct op *op,
                       const struct draft *parent, uint64_t start_ns)
{
    *d = (struct draft){.op = op, .service = op->service, .start_ns = start_ns};
    store_u64le(d->id, rnd(s) | 1);
    if (parent) {
        d->has_parent = true;
        memcpy(d->parent, parent->id, 8);
    }
}

static uint8_t *put_exception(struct spans *s, uint8_t *p, const struct draft *d)
{
    static const char stack[] =
        "java.lang.IllegalStateException: upstream connect error or disconnect/reset before headers\n"
        "\tat shop.client.Retry.call(Retry.java:88)\n\tat shop.client.Stub.invoke(Stub.java:231)\n"
        "\tat shop.handler.Handler.handle(Handler.java:57)\n\tat shop.Server.run(Server.java:140)\n";
    uint8_t event[1024], *q = put_fixed64(event, 0x09, d->end_ns - (rnd(s) & 0xffff) % 40000);
    q = put_field(q, 0x12, "exception", 9);
    q = put_text_attr(q, 0x1a, STR("exception.type"), "java.lang.IllegalStateException", 31);
    q = put_text_attr(q, 0x1a, STR("exception.message"), "upstream connect error", 22);
    q = put_text_attr(q, 0x1a, STR("exception.stacktrace"), stack, sizeof stack - 1);
    return put_field(p, 0x5a, event, (size_t)(q - event));
}

static uint8_t *put_event(struct spans *s, uint8_t *p, const struct draft *d)
{
    uint64_t length = d->end_ns - d->start_ns;
    uint8_t event[256], *q = put_fixed64(event, 0x09, d->start_ns + below(s, length + 1));
    q = put_field(q, 0x12, "message", 7);
    q = put_text_attr(q, 0x1a, STR("rpc.message.type"), "RECEIVED", 8);
    q = put_int_attr(q, 0x1a, STR("rpc.message.id"), 1 + (int64_t)below(s, 9));
    q = put_int_attr(q, 0x1a, STR("rpc.message.uncompressed_size"), (int64_t)below(s, 9000));
    return put_field(p, 0x5a, event, (size_t)(q - event));
}

static uint8_t *put_link(struct spans *s, uint8_t *p, const struct draft *d)
{
    uint8_t link[64], *q = put_field(link, 0x0a, s->trace_id, 16);
    q = put_field(q, 0x12, d->parent, 8);
    return put_field(p, 0x6a, link, (size_t)(q - link));
}

static uint8_t *put_span_body(struct spans *s, uint8_t *p, const struct draft *d,
                              const struct program *prog)
{
    p = put_field(p, 0x0a, s->trace_id, 16);
    p = put_field(p, 0x12, d->id, 8);
    if (d->has_parent)
        p = put_field(p, 0x22, d->parent, 8);
    p = put(p, prog->parts[0].lit, prog->parts[0].len);
    if (prog->parts[0].make)
        p = put_made(s, p, SPAN_ATTR, prog->parts[0].make, d->failed);
    for (unsigned i = 1; i < prog->count; i++) {
        p = put(p, prog->parts[i].lit, prog->parts[i].len);
        if (prog->parts[i].make)
            p = put_made(s, p, SPAN_ATTR, prog->parts[i].make, d->failed);
    }
    p = put_fixed64(p, 0x39, d->start_ns);
    p = put_fixed64(p, 0x41, d->end_ns);
    if (d->origin)
        p = put_exception(s, p, d);
    else if ((rnd(s) & 31) == 0)
        p = put_event(s, p, d);
    if (d->op->kind == KIND_CONSUMER)
        p = put_link(s, p, d);
    static const char reason[] = "\x12\x16upstream connect error\x18\x02";
    if (d->failed)
        p = d->origin ? put_field(p, 0x7a, reason, sizeof reason - 1)
                      : put_field(p, 0x7a, "\x18\x02", 2);
    static const uint8_t flags[] = {0x85, 0x01, 0x01, 0x01, 0x00, 0x00}; /* sampled, parent local */
    return put(p, flags, sizeof flags);
}

static void draft_end(struct spans *s, struct draft *d, uint64_t end_ns, const struct program *prog)
{
    d->end_ns = end_ns;
    if (++s->made == s->fail_at)
        d->failed = d->origin = true;
    s->product = below(s, 1000);
    struct sender *to = sender_of(s, d->service);
    if (!to->span_count)
        to->oldest = s->number;
    ensure(buf_reserve(&to->spans, SPAN_BYTES_MAX));
    uint8_t *at = (uint8_t *)to->spans.p + to->spans.n;
    uint8_t *end = put_span_body(s, at + 3, d, prog);
    size_t n = (size_t)(end - at) - 3;
    ensure(n >= 128 && n < SPAN_BYTES_MAX); /* two bytes of length */
    at[0] = 0x12;
    at[1] = (uint8_t)(n | 0x80);
    at[2] = (uint8_t)(n >> 7);
    to->spans.n += n + 3;
    if (++to->span_count == s->config.batch_spans)
        sender_send(s, to);
}

/* --- traces --- */

/* The operation and all it calls, one after the other; its span is written when it ends, as SDKs
 * do.
 */
static struct draft walk(struct spans *s, unsigned op, const struct draft *parent,
                         uint64_t start_ns, int depth)
{
    const struct op *o = &s->ops[op];
    struct draft d;
    ensure(depth < WALK_DEPTH_MAX);
    draft_init(s, &d, o, parent, start_ns);
    uint64_t self = self_ns(s, o), at = start_ns + self / 3;
    for (const struct op_call *c = o->calls; c < o->calls + OPS_CALLS_MAX && c->most; c++) {
        uint64_t times = c->least + below(s, c->most - c->least + 1u);
        for (; times; times--) {
            struct draft called = walk(s, c->op, &d, at, depth + 1);
            at = called.end_ns + (rnd(s) & 0x7fff);
            d.failed |= called.failed;
        }
    }
    draft_end(s, &d, at + self - self / 3, &s->programs[op]);
    return d;
}

static void shop_trace(struct spans *s, uint64_t start_ns)
{
    uint64_t dice = below(s, 100);
    const struct op_root *r = shop_roots;
    while (r[1].share && dice >= r->share)
        dice -= r++->share;
    (void)walk(s, r->op, NULL, start_ns, 0);
}

/* A root whose children follow each other (flat) or overlap (wide). */
static void fan_trace(struct spans *s, uint64_t start_ns, bool overlap)
{
    struct draft root, d;
    draft_init(s, &root, s->ops, NULL, start_ns);
    uint64_t at = start_ns, last = start_ns + 1;
    for (uint32_t i = 1; i < s->config.trace_spans; i++) {
        draft_init(s, &d, s->ops, &root, at);
        d.service = i % s->service_count;
        uint64_t end = at + self_ns(s, s->ops);
        draft_end(s, &d, end, s->programs);
        root.failed |= d.failed;
        last = max_u64(last, end);
        at = overlap ? at + (rnd(s) & 0x3fff) : end;
    }
    draft_end(s, &root, last, s->programs);
}

/* Each span inside the one before; the service changes every ten levels. Written from the outside
 * in, so that no depth needs a stack. */
static void deep_trace(struct spans *s, uint64_t start_ns)
{
    uint32_t n = s->config.trace_spans;
    uint64_t step = 20 * NS_PER_US, end_ns = start_ns + (2 * (uint64_t)n + 1) * step;
    struct draft parent, d;
    for (uint32_t i = 0; i < n; i++) {
        draft_init(s, &d, s->ops, i ? &parent : NULL, start_ns + i * step + (rnd(s) & 0xfff));
        d.service = i / 10 % s->service_count;
        draft_end(s, &d, end_ns - i * step - (rnd(s) & 0xfff), s->programs);
        parent = d;
    }
}

static void meet_visitor(struct spans *s)
{
    struct visitor *v = &s->visitor;
    uint64_t r = rnd(s);
    v->session_len = (uint8_t)uuid_text(r, rnd(s), v->session);
    memcpy(v->user, "user-", 5);
    v->user_len = (uint8_t)(5 + num_put_u64(v->user + 5, below(s, 50000)));
    uint64_t ip = rnd(s);
    size_t n = num_put_u64(v->address, 11 + (ip & 127));
    for (int i = 1; i < 4; i++) {
        v->address[n++] = '.';
        n += num_put_u64(v->address + n, (ip >> (8 * i)) & 255);
    }
    v->address_len = (uint8_t)n;
    v->agent = (uint8_t)below(s, ARRAY_LEN(agents));
}

/* What waits too long goes as it is. Looking at one sender a trace keeps this off the profile. */
static void send_oldest(struct spans *s)
{
    struct sender *d = &s->senders[s->number % (s->service_count * OPS_INSTANCES)];
    if (d->span_count && s->number - d->oldest > SPANS_WINDOW)
        sender_send(s, d);
}

uint32_t spans_trace(struct spans *s, uint64_t n)
{
    const struct spans_config *c = &s->config;
    s->number = n;
    s->made = 0;
    trace_id_of(c->seed, n, s->trace_id);
    s->salt = hash_u64(n, c->seed ^ HASH_K0);
    s->rnd = s->salt;
    meet_visitor(s);
    bool fails = below(s, 100) < c->error_percent;
    uint32_t among = c->profile == SPANS_SHOP ? 20 : (uint32_t)min_u64(20, c->trace_spans);
    s->fail_at = fails ? 1 + (uint32_t)below(s, among) : 0;
    uint64_t jitter = c->trace_every_ns ? below(s, c->trace_every_ns) : 0;
    uint64_t start_ns = c->start_ns + n * c->trace_every_ns + jitter;
    if (c->profile == SPANS_SHOP)
        shop_trace(s, start_ns);
    else if (c->profile == SPANS_DEEP)
        deep_trace(s, start_ns);
    else
        fan_trace(s, start_ns, c->profile == SPANS_WIDE);
    send_oldest(s);
    return s->made;
}

void spans_flush(struct spans *s)
{
    for (unsigned i = 0; i < s->service_count * OPS_INSTANCES; i++)
        sender_send(s, &s->senders[i]);
}

struct spans *spans_new(const struct spans_config *c, spans_request *out, void *arg)
{
    static const uint32_t sizes[] = {
        [SPANS_SHOP] = 1, [SPANS_FLAT] = 8, [SPANS_DEEP] = 100, [SPANS_WIDE] = 1000};
    struct spans *s = xcalloc(1, sizeof *s);
    bool shop = c->profile == SPANS_SHOP;
    *s = (struct spans){.config = *c, .out = out, .arg = arg};
    s->config.seed += c->profile * HASH_K0; /* other traces for another profile */
    if (!s->config.batch_spans)
        s->config.batch_spans = SPANS_BATCH;
    if (!s->config.trace_spans)
        s->config.trace_spans = sizes[c->profile];
    ensure(s->config.trace_spans <= SPANS_TRACE_MAX);
    s->ops = shop ? shop_ops : &plain_op;
    s->services = shop ? shop_services : plain_services;
    s->service_count = shop ? shop_service_count : plain_service_count;
    unsigned op_count = shop ? shop_op_count : 1;
    s->literals = buf_init(PARTS_BYTES);
    ensure(buf_reserve(&s->literals, PARTS_BYTES));
    s->programs = xcalloc(op_count, sizeof *s->programs);
    for (unsigned i = 0; i < op_count; i++)
        compile(s, &s->ops[i], &s->programs[i]);
    s->senders = xcalloc(s->service_count * OPS_INSTANCES, sizeof *s->senders);
    for (unsigned i = 0; i < s->service_count * OPS_INSTANCES; i++)
        sender_init(s, &s->senders[i], i / OPS_INSTANCES, i % OPS_INSTANCES);
    return s;
}

void spans_free(struct spans *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < s->service_count * OPS_INSTANCES; i++) {
        buf_fini(&s->senders[i].head);
        buf_fini(&s->senders[i].spans);
    }
    buf_fini(&s->literals);
    free(s->programs);
    free(s->senders);
    free(s);
}
