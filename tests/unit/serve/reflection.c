/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/descriptors.h"
#include "serve/reflection.h"

#include "base/pb.h"
#include "tests/harness.h"

#include <stdio.h>

/* The `nth` field with this tag; STR_NONE when there is none. */
static struct str field(struct str message, uint32_t number, unsigned nth)
{
    struct pb in = pb_init(message);
    struct pb_field f;
    while (pb_next(&in, &f))
        if (f.tag == PB_TAG(number, PB_LEN) && nth-- == 0)
            return f.bytes;
    CHECK(!in.why);
    return STR_NONE;
}

static uint64_t number(struct str message, uint32_t number)
{
    struct pb in = pb_init(message);
    struct pb_field f;
    while (pb_next(&in, &f))
        if (f.tag == PB_TAG(number, PB_VARINT))
            return f.num;
    return 0;
}

/* The DescriptorProto, FieldDescriptorProto, … called `name` among the fields `number`. */
static struct str named(struct str message, uint32_t number, const char *name)
{
    for (unsigned i = 0;; i++) {
        struct str m = field(message, number, i);
        if (!m.p || str_eq_c(field(m, 1, 0), name))
            return m;
    }
}

static struct str encoded(const char *path, struct buf *out)
{
    const struct desc_file *f = desc_by_path(str_from_c(path));
    CHECK(f != NULL);
    *out = buf_init(64 * KIB);
    desc_encode(f, out);
    CHECK_OK(buf_err(out));
    return buf_str(out);
}

static bool imports(const struct desc_file *f, const struct desc_file *other)
{
    for (size_t i = 0; i < f->import_count; i++)
        if (f->imports[i] == other)
            return true;
    return f == other;
}

/* The type exists, in the file itself or one it imports. */
static void check_type(const struct desc_file *f, const char *of)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s%s", of[0] == '.' ? "" : f->package, of[0] == '.' ? "" : ".",
             of[0] == '.' ? of + 1 : of);
    const struct desc_file *home = desc_by_symbol(str_from_c(full));
    if (!home || !imports(f, home))
        test_fail(__FILE__, __LINE__, "%s: %s is not there", f->path, full);
}

static void check_messages(const struct desc_file *f, const struct desc_message *m, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < m[i].field_count; k++) {
            const struct desc_field *a = &m[i].fields[k];
            CHECK_INT(a->of != NULL, a->type == DESC_MESSAGE || a->type == DESC_ENUM);
            CHECK(!a->in_oneof || m[i].oneof);
            if (a->of)
                check_type(f, a->of);
            for (size_t j = 0; j < k; j++)
                CHECK(m[i].fields[j].number != a->number);
        }
        check_messages(f, m[i].nested, m[i].nested_count);
    }
}

TEST(every_type_named_in_the_tables_exists_and_is_imported)
{
    for (size_t i = 0; i < desc_file_count; i++) {
        const struct desc_file *f = desc_files[i];
        check_messages(f, f->messages, f->message_count);
        for (size_t k = 0; k < f->service_count; k++)
            for (size_t j = 0; j < f->services[k].method_count; j++) {
                check_type(f, f->services[k].methods[j].in);
                check_type(f, f->services[k].methods[j].out);
            }
    }
}

TEST(a_file_stands_behind_its_imports)
{
    for (size_t i = 0; i < desc_file_count; i++)
        for (size_t k = 0; k < desc_files[i]->import_count; k++) {
            bool before = false;
            for (size_t j = 0; j < i; j++)
                before = before || desc_files[j] == desc_files[i]->imports[k];
            CHECK(before);
        }
}

TEST(span_is_described_as_the_wire_has_it)
{
    struct buf out;
    struct str file = encoded("opentelemetry/proto/trace/v1/trace.proto", &out);
    CHECK_STR(field(file, 2, 0), STR("opentelemetry.proto.trace.v1"));
    CHECK_STR(field(file, 12, 0), STR("proto3"));
    struct str span = named(file, 4, "Span");
    struct str start = named(span, 2, "start_time_unix_nano");
    CHECK_INT(number(start, 3), 7);
    CHECK_INT(number(start, 4), 1);
    CHECK_INT(number(start, 5), DESC_FIXED64);
    CHECK_STR(field(start, 10, 0), STR("startTimeUnixNano"));
    struct str events = named(span, 2, "events");
    CHECK_INT(number(events, 4), 3);
    CHECK_STR(field(events, 6, 0), STR(".opentelemetry.proto.trace.v1.Span.Event"));
    CHECK(named(span, 3, "Link").p != NULL);
    CHECK(named(span, 4, "SpanKind").p != NULL);
    CHECK_INT(number(named(named(span, 4, "SpanKind"), 2, "SPAN_KIND_CLIENT"), 2), 3);
    buf_fini(&out);
}

TEST(maps_oneofs_and_streams_are_marked)
{
    struct buf out;
    struct str file = encoded("grpc/health/v1/health.proto", &out);
    struct str entry = named(named(file, 4, "HealthListResponse"), 3, "StatusesEntry");
    CHECK_INT(number(field(entry, 7, 0), 7), 1);
    struct str watch = named(named(file, 6, "Health"), 2, "Watch");
    CHECK_INT(number(watch, 5), 0);
    CHECK_INT(number(watch, 6), 1);
    CHECK_STR(field(watch, 2, 0), STR(".grpc.health.v1.HealthCheckRequest"));
    buf_fini(&out);
    file = encoded("grpc/reflection/v1alpha/reflection.proto", &out);
    struct str request = named(file, 4, "ServerReflectionRequest");
    CHECK_STR(field(field(request, 8, 0), 1, 0), STR("message_request"));
    struct str extension = named(request, 2, "file_containing_extension");
    CHECK_STR(field(extension, 6, 0), STR(".grpc.reflection.v1alpha.ExtensionRequest"));
    buf_fini(&out);
}

static void check_symbol(const char *symbol, const char *path)
{
    const struct desc_file *f = desc_by_symbol(str_from_c(symbol));
    CHECK((f != NULL) == (path != NULL));
    if (f)
        CHECK_STR(str_from_c(f->path), str_from_c(path));
}

TEST(symbols_of_every_kind_are_found)
{
    static const char trace[] = "opentelemetry/proto/trace/v1/trace.proto";
    check_symbol("opentelemetry.proto.trace.v1.Span", trace);
    check_symbol("opentelemetry.proto.trace.v1.Span.Event", trace);
    check_symbol("opentelemetry.proto.trace.v1.Span.Event.name", trace);
    check_symbol("opentelemetry.proto.trace.v1.Span.SpanKind", trace);
    check_symbol("opentelemetry.proto.trace.v1.Span.SPAN_KIND_CLIENT", trace);
    check_symbol("opentelemetry.proto.trace.v1.SpanFlags", trace);
    check_symbol("grpc.health.v1.Health", "grpc/health/v1/health.proto");
    check_symbol("grpc.health.v1.Health.Watch", "grpc/health/v1/health.proto");
    check_symbol("grpc.reflection.v1.ServerReflection", "grpc/reflection/v1/reflection.proto");
    check_symbol("opentelemetry.proto.trace.v1.Spa", NULL);
    check_symbol("opentelemetry.proto.trace.v1.Span.", NULL);
    check_symbol("opentelemetry.proto.trace.v1", NULL);
    check_symbol("opentelemetry.proto.trace.v1.", NULL);
    check_symbol("grpc.health.v1.Health.Watch.x", NULL);
    check_symbol("", NULL);
}

static const struct grpc_service served = {.name = "grpc.reflection.v1.ServerReflection"};
static const struct grpc_service absent = {.name = "grpc.health.v1.Health", .absent = "no"};
static const struct grpc_service undescribed = {.name = "a.B"};
static const struct grpc_service *const services[] = {&served, &absent, &undescribed, NULL};

/* Asks with one string field and returns the answer's field `number`. */
static struct str ask(uint32_t ask_number, struct str what, uint32_t number, struct buf *out)
{
    struct buf request = buf_init(1 * KIB);
    pb_put_bytes(&request, PB_TAG(1, PB_LEN), STR("host"));
    pb_put_bytes(&request, PB_TAG(ask_number, PB_LEN), what);
    *out = buf_init(256 * KIB);
    CHECK_OK(reflection_answer(buf_str(&request), services, out));
    CHECK_STR(field(buf_str(out), 1, 0), STR("host"));
    CHECK_STR(field(buf_str(out), 2, 0), buf_str(&request));
    buf_fini(&request);
    return field(buf_str(out), number, 0);
}

TEST(reflection_lists_what_is_served_and_described)
{
    struct buf out;
    struct str list = ask(7, STR("*"), 6, &out);
    CHECK_STR(field(field(list, 1, 0), 1, 0), STR("grpc.reflection.v1.ServerReflection"));
    CHECK(field(list, 1, 1).p == NULL);
    buf_fini(&out);
}

TEST(reflection_sends_a_file_with_its_imports)
{
    struct buf out;
    struct str files = ask(4, STR("opentelemetry.proto.collector.trace.v1.TraceService.Export"), 4,
                           &out);
    CHECK_STR(field(field(files, 1, 0), 1, 0), STR("opentelemetry/proto/common/v1/common.proto"));
    CHECK_STR(field(field(files, 1, 3), 1, 0),
              STR("opentelemetry/proto/collector/trace/v1/trace_service.proto"));
    CHECK(field(files, 1, 4).p == NULL);
    buf_fini(&out);
    files = ask(3, STR("grpc/health/v1/health.proto"), 4, &out);
    CHECK_STR(field(field(files, 1, 0), 1, 0), STR("grpc/health/v1/health.proto"));
    CHECK(field(files, 1, 1).p == NULL);
    buf_fini(&out);
}

TEST(reflection_says_not_found)
{
    static const struct {
        uint32_t ask;
        struct str what;
    } cases[] = {{3, {"x.proto", 7}}, {4, {"a.B", 3}}, {5, {"", 0}}, {6, {"a.B", 3}}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out;
        struct str error = ask(cases[i].ask, cases[i].what, 7, &out);
        CHECK_INT(number(error, 1), 5);
        CHECK(field(error, 2, 0).n > 0);
        buf_fini(&out);
    }
}

TEST(reflection_knows_no_extensions_of_our_messages)
{
    struct buf out;
    struct str none = ask(6, STR("grpc.health.v1.HealthCheckRequest"), 5, &out);
    CHECK_STR(field(none, 1, 0), STR("grpc.health.v1.HealthCheckRequest"));
    buf_fini(&out);
}

TEST(reflection_refuses_damage_and_silence)
{
    struct buf out = buf_init(1 * KIB);
    CHECK_INT(reflection_answer(test_guarded(STR("\x3a\x05x")), services, &out), E_INVALID);
    CHECK_INT(reflection_answer(STR(""), services, &out), E_INVALID);
    CHECK_INT(reflection_answer(STR("\x0a\x01h"), services, &out), E_INVALID);
    buf_fini(&out);
}
