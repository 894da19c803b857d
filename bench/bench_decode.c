/* SPDX-License-Identifier: Apache-2.0 */
/* What decoding, sealing and opening cost, in CPU time per span, on requests like a web shop's: 12
 * services, each request 512 spans of one service instance, about 590 bytes and 12 attributes a
 * span. Prints one figure a line. Arguments: rounds. */
#include "base/hash.h"
#include "codec/otlp.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SERVICES = 12, BATCHES = 48, BATCH_SPANS = 512 };

static uint64_t rand_state = 1;

static uint64_t rand64(void)
{
    rand_state += HASH_K0;
    return hash_u64(rand_state, 7);
}

/* --- the shop --- */

/* A value: text with placeholders %u (uuid), %n (one of a million), %i (address), %s (one of
 * twenty), or starting with # an integer below the number that follows. */
struct attr_spec {
    const char *key, *value;
};

struct op_spec {
    const char *name;
    enum span_kind kind;
    int scope;
    struct attr_spec attrs[16];
};

static const char *const services[SERVICES] = {
    "frontend", "cart",     "checkout",        "payment", "shipping", "email",
    "currency", "accounts", "product-catalog", "ads",     "quotes",   "recommendations"};

static const struct op_spec ops[] = {
    {"GET /api/products/{id}",
     KIND_SERVER,
     0,
     {{"http.request.method", "GET"},
      {"url.scheme", "http"},
      {"url.path", "/api/products/%n"},
      {"http.route", "/api/products/{id}"},
      {"server.address", "frontend.shop.svc.cluster.local"},
      {"server.port", "#8080"},
      {"client.address", "%i"},
      {"network.peer.address", "10.42.0.%s"},
      {"network.peer.port", "#65535"},
      {"network.protocol.version", "1.1"},
      {"user_agent.original",
       "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/1%s.0.0.0 Safari/537.36"},
      {"http.response.status_code", "#3"},
      {"session.id", "%u"}}},
    {"POST /api/cart",
     KIND_SERVER,
     0,
     {{"http.request.method", "POST"},
      {"url.scheme", "http"},
      {"url.path", "/api/cart"},
      {"http.route", "/api/cart"},
      {"server.address", "frontend.shop.svc.cluster.local"},
      {"server.port", "#8080"},
      {"client.address", "%i"},
      {"network.peer.address", "10.42.0.%s"},
      {"network.peer.port", "#65535"},
      {"network.protocol.version", "1.1"},
      {"user_agent.original",
       "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/%s Safari"},
      {"http.response.status_code", "#2"},
      {"app.user.id", "%u"}}},
    {"oteldemo.CartService/AddItem",
     KIND_CLIENT,
     1,
     {{"rpc.system", "grpc"},
      {"rpc.service", "oteldemo.CartService"},
      {"rpc.method", "AddItem"},
      {"server.address", "cart.shop.svc.cluster.local"},
      {"server.port", "#7070"},
      {"network.peer.address", "10.96.0.%s"},
      {"network.peer.port", "#7070"},
      {"network.transport", "tcp"},
      {"app.user.id", "%u"},
      {"app.product.id", "OLJ%n"},
      {"app.product.quantity", "#10"},
      {"rpc.grpc.status_code", "#1"}}},
    {"SELECT products",
     KIND_CLIENT,
     2,
     {{"db.system.name", "postgresql"},
      {"db.namespace", "shop"},
      {"db.operation.name", "SELECT"},
      {"db.collection.name", "products"},
      {"db.query.text",
       "SELECT id, name, price, stock FROM products WHERE category = $1 AND price < $2 ORDER BY id"},
      {"server.address", "postgres.shop.svc.cluster.local"},
      {"server.port", "#5432"},
      {"network.peer.address", "10.96.1.%s"},
      {"db.response.returned_rows", "#100"},
      {"db.client.connection.pool.name", "shop-primary"},
      {"thread.id", "#64"},
      {"thread.name", "http-worker-%s"}}},
    {"HGET",
     KIND_CLIENT,
     2,
     {{"db.system.name", "redis"},
      {"db.operation.name", "HGET"},
      {"db.query.text", "HGET cart:%u items"},
      {"server.address", "valkey.shop.svc.cluster.local"},
      {"server.port", "#6379"},
      {"network.peer.address", "10.96.2.%s"},
      {"network.peer.port", "#6379"},
      {"network.type", "ipv4"},
      {"db.redis.database_index", "#16"},
      {"db.redis.flags", "None, DemandMaster"},
      {"app.cart.items", "#12"}}},
    {"orders publish",
     KIND_PRODUCER,
     1,
     {{"messaging.system", "kafka"},
      {"messaging.operation.type", "publish"},
      {"messaging.destination.name", "orders"},
      {"messaging.destination.partition.id", "%s"},
      {"messaging.kafka.message.offset", "#1000000000"},
      {"messaging.message.id", "%u"},
      {"messaging.client.id", "checkout-producer-1"},
      {"server.address", "kafka.shop.svc.cluster.local"},
      {"server.port", "#9092"},
      {"app.order.id", "%u"},
      {"app.order.amount", "#100000"},
      {"app.order.currency", "EUR"}}},
};

static struct str random_text(const char *spec, struct arena *a)
{
    char text[256];
    size_t n = 0;
    for (; *spec && n < 200; spec++) {
        uint64_t r = rand64();
        if (*spec != '%')
            text[n++] = *spec;
        else if (*++spec == 'u')
            n += (size_t)snprintf(text + n, 40, "%08x-%04x-4%03x-%04x-%012llx", (unsigned)(r >> 32),
                                  (unsigned)(r & 0xffff), (unsigned)(r >> 16 & 0xfff), 0x8abcU,
                                  (unsigned long long)(rand64() >> 16));
        else if (*spec == 'n')
            n += (size_t)snprintf(text + n, 24, "%u", (unsigned)(r % 1000000));
        else if (*spec == 'i')
            n += (size_t)snprintf(text + n, 24, "%u.%u.%u.%u", (unsigned)(r & 255),
                                  (unsigned)(r >> 8 & 255), (unsigned)(r >> 16 & 255),
                                  (unsigned)(r >> 24 & 255));
        else
            n += (size_t)snprintf(text + n, 24, "%u", 10 + (unsigned)(r % 20));
    }
    return arena_str(a, str_of(text, n));
}

static struct kvs make_attrs(const struct attr_spec *spec, size_t max, struct arena *a)
{
    struct kvs kvs = {ARENA_ARRAY(a, struct kv, max), 0};
    for (; kvs.n < max && spec[kvs.n].key; kvs.n++) {
        const char *value = spec[kvs.n].value;
        struct kv *kv = &kvs.v[kvs.n];
        kv->key = str_from_c(spec[kvs.n].key);
        if (value[0] == '#')
            kv->val = (struct value){.type = ATTR_INT,
                                     .i = (int64_t)(rand64() % strtoull(value + 1, NULL, 10))};
        else
            kv->val = (struct value){.type = ATTR_STR, .s = random_text(value, a)};
    }
    return kvs;
}

static void make_event(struct span *s, struct arena *a)
{
    static const struct attr_spec spec[] = {{"exception.type", "java.util.concurrent.TimeoutEx"},
                                            {"exception.message", "no answer from 10.96.0.%s"},
                                            {0}};
    s->events = ARENA_NEW(a, struct event);
    s->event_count = 1;
    s->events->time_ns = s->end_ns;
    s->events->name = STR("exception");
    s->events->attrs = make_attrs(spec, 2, a);
    s->status = STATUS_ERROR;
    s->status_message = STR("deadline exceeded");
}

static struct span *make_span(const struct op_spec *op, struct arena *a)
{
    struct span *s = ARENA_NEW(a, struct span);
    for (size_t i = 0; i < 8; i++) {
        s->trace_id[i] = (uint8_t)rand64();
        s->trace_id[i + 8] = (uint8_t)rand64();
        s->span_id[i] = (uint8_t)rand64();
        s->parent_id[i] = (uint8_t)rand64();
    }
    s->start_ns = UINT64_C(1790000000000000000) + rand64() % (10 * NS_PER_S);
    s->end_ns = s->start_ns + rand64() % (100 * NS_PER_MS);
    s->name = str_from_c(op->name);
    s->kind = op->kind;
    s->flags = 0x101;
    s->attrs = make_attrs(op->attrs, ARRAY_LEN(op->attrs), a);
    if (rand64() % 20 == 0)
        make_event(s, a);
    return s;
}

/* One request: spans ordered by scope, as exporters group them. */
static struct str make_request(int service, struct arena *a)
{
    static const char *const scopes[] = {"@opentelemetry/instrumentation-http",
                                         "@opentelemetry/instrumentation-grpc",
                                         "@opentelemetry/instrumentation-pg"};
    struct attr_spec res[] = {{"service.name", services[service]},
                              {"service.namespace", "shop"},
                              {"service.version", "2.1.3"},
                              {"service.instance.id", "%u"},
                              {"host.name", "node-%s"},
                              {"k8s.pod.name", "pod-%n"},
                              {"k8s.namespace.name", "shop"},
                              {"telemetry.sdk.name", "opentelemetry"},
                              {"telemetry.sdk.language", "nodejs"},
                              {"telemetry.sdk.version", "1.30.1"},
                              {"process.pid", "#65535"},
                              {0}};
    struct resource *r = ARENA_NEW(a, struct resource);
    r->attrs = make_attrs(res, 11, a);
    struct span *spans[BATCH_SPANS];
    size_t n = 0;
    int pick[BATCH_SPANS];
    for (int i = 0; i < BATCH_SPANS; i++)
        pick[i] = (int)((rand64() % 4 + (uint64_t)service) % ARRAY_LEN(ops));
    for (int k = 0; k < 3; k++) {
        struct scope *scope = ARENA_NEW(a, struct scope);
        scope->name = str_from_c(scopes[k]);
        scope->version = STR("0.57.1");
        for (int i = 0; i < BATCH_SPANS; i++) {
            if (ops[pick[i]].scope != k)
                continue;
            spans[n] = make_span(&ops[pick[i]], a);
            spans[n]->resource = r;
            spans[n++]->scope = scope;
        }
    }
    struct buf out = buf_init(4 * MIB);
    otlp_encode_traces(spans, n, &out);
    ensure(!out.failed);
    return buf_str(&out);
}

/* --- measuring --- */

static double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static struct str requests[BATCHES];

static void fill(struct batch_builder *b, int i)
{
    batch_builder_reset(b);
    ensure(otlp_decode_traces(requests[i % BATCHES], b, NULL) == E_OK);
}

static struct batch *seal(struct batch_builder *b)
{
    struct batch *batch;
    ensure(batch_seal(b, STR("default"), 1, &batch, NULL) == E_OK);
    return batch;
}

enum step { DECODE, SEAL, OPEN };

/* The best of `runs` passes over all requests, in ns a span: other programs on the machine only
 * ever make a pass slower. */
static double measure(enum step upto, int runs)
{
    struct batch_builder b;
    double best = 1e18;
    batch_builder_init(&b);
    for (int run = 0; run < runs; run++) {
        double from = cpu_ns();
        for (int i = 0; i < BATCHES; i++) {
            struct batch *opened;
            fill(&b, i);
            if (upto == DECODE)
                continue;
            struct batch *batch = seal(&b);
            if (upto == OPEN) {
                ensure(batch_open(batch_image(batch), &opened, NULL) == E_OK);
                batch_unref(opened);
            }
            batch_unref(batch);
        }
        double took = (cpu_ns() - from) / BATCHES / BATCH_SPANS;
        best = took < best ? took : best;
    }
    batch_builder_fini(&b);
    return best;
}

int main(int argc, char **argv)
{
    int runs = argc > 1 ? atoi(argv[1]) : 100;
    struct arena a = arena_init(256 * MIB);
    struct batch_builder b;
    size_t wire = 0, image = 0, attrs = 0;
    batch_builder_init(&b);
    for (int i = 0; i < BATCHES; i++) {
        requests[i] = make_request(i % SERVICES, &a);
        arena_reset(&a);
        fill(&b, i);
        struct batch *batch = seal(&b);
        wire += requests[i].n;
        image += batch->image_len;
        attrs += batch->head->attr_count;
        batch_unref(batch);
    }
    double spans = BATCHES * BATCH_SPANS;
    double decode = measure(DECODE, runs), sealed = measure(SEAL, runs);
    double opened = measure(OPEN, runs);
    printf("wire_bytes_per_span %.0f\n", (double)wire / spans);
    printf("image_bytes_per_span %.0f\n", (double)image / spans);
    printf("attributes_per_span %.1f\n", (double)attrs / spans);
    printf("decode_ns_per_span %.1f\n", decode);
    printf("seal_ns_per_span %.1f\n", sealed - decode);
    printf("open_ns_per_span %.1f\n", opened - sealed);
    batch_builder_fini(&b);
    arena_fini(&a);
    for (int i = 0; i < BATCHES; i++)
        free((void *)(uintptr_t)requests[i].p);
    return 0;
}
