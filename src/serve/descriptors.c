/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/descriptors.h"

/* clang-format off */
#define FIELD(name, number, type)             {name, number, DESC_##type, false, false, NULL}
#define FIELDS_OF(name, number, type)         {name, number, DESC_##type, true, false, NULL}
#define MESSAGE(name, number, of)             {name, number, DESC_MESSAGE, false, false, of}
#define MESSAGES(name, number, of)            {name, number, DESC_MESSAGE, true, false, of}
#define ENUM(name, number, of)                {name, number, DESC_ENUM, false, false, of}
#define CHOICE(name, number, type)            {name, number, DESC_##type, false, true, NULL}
#define CHOICE_OF(name, number, of)           {name, number, DESC_MESSAGE, false, true, of}
#define FIELDS(table)                         .fields = (table), .field_count = ARRAY_LEN(table)
#define VALUES(table)                         .values = (table), .value_count = ARRAY_LEN(table)
#define METHODS(table)                        .methods = (table), .method_count = ARRAY_LEN(table)
#define NESTED(table)                         .nested = (table), .nested_count = ARRAY_LEN(table)
#define ENUMS(table)                          .enums = (table), .enum_count = ARRAY_LEN(table)
#define IMPORTS(table)                        .imports = (table), .import_count = ARRAY_LEN(table)
#define MESSAGE_TYPES(table)                  .messages = (table), .message_count = ARRAY_LEN(table)
#define SERVICES(table)                       .services = (table), .service_count = ARRAY_LEN(table)

#define COMMON   ".opentelemetry.proto.common.v1."
#define RESOURCE ".opentelemetry.proto.resource.v1."
#define TRACE    ".opentelemetry.proto.trace.v1."

/* --- opentelemetry.proto.common.v1 --- */

static const struct desc_field any_value[] = {
    CHOICE("string_value", 1, STRING),
    CHOICE("bool_value", 2, BOOL),
    CHOICE("int_value", 3, INT64),
    CHOICE("double_value", 4, DOUBLE),
    CHOICE_OF("array_value", 5, "ArrayValue"),
    CHOICE_OF("kvlist_value", 6, "KeyValueList"),
    CHOICE("bytes_value", 7, BYTES),
};
static const struct desc_field array_value[] = {MESSAGES("values", 1, "AnyValue")};
static const struct desc_field key_value_list[] = {MESSAGES("values", 1, "KeyValue")};
static const struct desc_field key_value[] = {
    FIELD("key", 1, STRING),
    MESSAGE("value", 2, "AnyValue"),
};
static const struct desc_field instrumentation_scope[] = {
    FIELD("name", 1, STRING),
    FIELD("version", 2, STRING),
    MESSAGES("attributes", 3, "KeyValue"),
    FIELD("dropped_attributes_count", 4, UINT32),
};
static const struct desc_field entity_ref[] = {
    FIELD("schema_url", 1, STRING),
    FIELD("type", 2, STRING),
    FIELDS_OF("id_keys", 3, STRING),
    FIELDS_OF("description_keys", 4, STRING),
};
static const struct desc_message common_messages[] = {
    {.name = "AnyValue", FIELDS(any_value), .oneof = "value"},
    {.name = "ArrayValue", FIELDS(array_value)},
    {.name = "KeyValueList", FIELDS(key_value_list)},
    {.name = "KeyValue", FIELDS(key_value)},
    {.name = "InstrumentationScope", FIELDS(instrumentation_scope)},
    {.name = "EntityRef", FIELDS(entity_ref)},
};
static const struct desc_file common_file = {
    .path = "opentelemetry/proto/common/v1/common.proto",
    .package = "opentelemetry.proto.common.v1",
    MESSAGE_TYPES(common_messages),
};

/* --- opentelemetry.proto.resource.v1 --- */

static const struct desc_field resource[] = {
    MESSAGES("attributes", 1, COMMON "KeyValue"),
    FIELD("dropped_attributes_count", 2, UINT32),
    MESSAGES("entity_refs", 3, COMMON "EntityRef"),
};
static const struct desc_message resource_messages[] = {{.name = "Resource", FIELDS(resource)}};
static const struct desc_file *const resource_imports[] = {&common_file};
static const struct desc_file resource_file = {
    .path = "opentelemetry/proto/resource/v1/resource.proto",
    .package = "opentelemetry.proto.resource.v1",
    IMPORTS(resource_imports),
    MESSAGE_TYPES(resource_messages),
};

/* --- opentelemetry.proto.trace.v1 --- */

static const struct desc_field traces_data[] = {MESSAGES("resource_spans", 1, "ResourceSpans")};
static const struct desc_field resource_spans[] = {
    MESSAGE("resource", 1, RESOURCE "Resource"),
    MESSAGES("scope_spans", 2, "ScopeSpans"),
    FIELD("schema_url", 3, STRING),
};
static const struct desc_field scope_spans[] = {
    MESSAGE("scope", 1, COMMON "InstrumentationScope"),
    MESSAGES("spans", 2, "Span"),
    FIELD("schema_url", 3, STRING),
};
static const struct desc_field span[] = {
    FIELD("trace_id", 1, BYTES),
    FIELD("span_id", 2, BYTES),
    FIELD("trace_state", 3, STRING),
    FIELD("parent_span_id", 4, BYTES),
    FIELD("flags", 16, FIXED32),
    FIELD("name", 5, STRING),
    ENUM("kind", 6, "Span.SpanKind"),
    FIELD("start_time_unix_nano", 7, FIXED64),
    FIELD("end_time_unix_nano", 8, FIXED64),
    MESSAGES("attributes", 9, COMMON "KeyValue"),
    FIELD("dropped_attributes_count", 10, UINT32),
    MESSAGES("events", 11, "Span.Event"),
    FIELD("dropped_events_count", 12, UINT32),
    MESSAGES("links", 13, "Span.Link"),
    FIELD("dropped_links_count", 14, UINT32),
    MESSAGE("status", 15, "Status"),
};
static const struct desc_field span_event[] = {
    FIELD("time_unix_nano", 1, FIXED64),
    FIELD("name", 2, STRING),
    MESSAGES("attributes", 3, COMMON "KeyValue"),
    FIELD("dropped_attributes_count", 4, UINT32),
};
static const struct desc_field span_link[] = {
    FIELD("trace_id", 1, BYTES),
    FIELD("span_id", 2, BYTES),
    FIELD("trace_state", 3, STRING),
    MESSAGES("attributes", 4, COMMON "KeyValue"),
    FIELD("dropped_attributes_count", 5, UINT32),
    FIELD("flags", 6, FIXED32),
};
static const struct desc_value span_kind_values[] = {
    {"SPAN_KIND_UNSPECIFIED", 0}, {"SPAN_KIND_INTERNAL", 1}, {"SPAN_KIND_SERVER", 2},
    {"SPAN_KIND_CLIENT", 3},      {"SPAN_KIND_PRODUCER", 4}, {"SPAN_KIND_CONSUMER", 5},
};
static const struct desc_field span_status[] = {
    FIELD("message", 2, STRING),
    ENUM("code", 3, "Status.StatusCode"),
};
static const struct desc_value status_code_values[] = {
    {"STATUS_CODE_UNSET", 0}, {"STATUS_CODE_OK", 1}, {"STATUS_CODE_ERROR", 2},
};
static const struct desc_value span_flags_values[] = {
    {"SPAN_FLAGS_DO_NOT_USE", 0},
    {"SPAN_FLAGS_TRACE_FLAGS_MASK", 0xff},
    {"SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK", 0x100},
    {"SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK", 0x200},
};
static const struct desc_message span_nested[] = {
    {.name = "Event", FIELDS(span_event)},
    {.name = "Link", FIELDS(span_link)},
};
static const struct desc_enum span_enums[] = {{.name = "SpanKind", VALUES(span_kind_values)}};
static const struct desc_enum status_enums[] = {{.name = "StatusCode", VALUES(status_code_values)}};
static const struct desc_enum trace_enums[] = {{.name = "SpanFlags", VALUES(span_flags_values)}};
static const struct desc_message trace_messages[] = {
    {.name = "TracesData", FIELDS(traces_data)},
    {.name = "ResourceSpans", FIELDS(resource_spans)},
    {.name = "ScopeSpans", FIELDS(scope_spans)},
    {.name = "Span", FIELDS(span), NESTED(span_nested), ENUMS(span_enums)},
    {.name = "Status", FIELDS(span_status), ENUMS(status_enums)},
};
static const struct desc_file *const trace_imports[] = {&common_file, &resource_file};
static const struct desc_file trace_file = {
    .path = "opentelemetry/proto/trace/v1/trace.proto",
    .package = "opentelemetry.proto.trace.v1",
    IMPORTS(trace_imports),
    MESSAGE_TYPES(trace_messages),
    ENUMS(trace_enums),
};

/* --- opentelemetry.proto.collector.trace.v1 --- */

static const struct desc_field export_request[] = {
    MESSAGES("resource_spans", 1, TRACE "ResourceSpans"),
};
static const struct desc_field export_response[] = {
    MESSAGE("partial_success", 1, "ExportTracePartialSuccess"),
};
static const struct desc_field partial_success[] = {
    FIELD("rejected_spans", 1, INT64),
    FIELD("error_message", 2, STRING),
};
static const struct desc_message collector_messages[] = {
    {.name = "ExportTraceServiceRequest", FIELDS(export_request)},
    {.name = "ExportTraceServiceResponse", FIELDS(export_response)},
    {.name = "ExportTracePartialSuccess", FIELDS(partial_success)},
};
static const struct desc_method trace_service_methods[] = {
    {"Export", "ExportTraceServiceRequest", "ExportTraceServiceResponse", false, false},
};
static const struct desc_service collector_services[] = {
    {.name = "TraceService", METHODS(trace_service_methods)},
};
static const struct desc_file *const collector_imports[] = {&trace_file};
static const struct desc_file collector_file = {
    .path = "opentelemetry/proto/collector/trace/v1/trace_service.proto",
    .package = "opentelemetry.proto.collector.trace.v1",
    IMPORTS(collector_imports),
    MESSAGE_TYPES(collector_messages),
    SERVICES(collector_services),
};

/* --- grpc.health.v1 --- */

static const struct desc_field health_request[] = {FIELD("service", 1, STRING)};
static const struct desc_field health_response[] = {
    ENUM("status", 1, "HealthCheckResponse.ServingStatus"),
};
static const struct desc_value serving_status_values[] = {
    {"UNKNOWN", 0}, {"SERVING", 1}, {"NOT_SERVING", 2}, {"SERVICE_UNKNOWN", 3},
};
static const struct desc_field health_list_response[] = {
    MESSAGES("statuses", 1, "HealthListResponse.StatusesEntry"),
};
static const struct desc_field statuses_entry[] = {
    FIELD("key", 1, STRING),
    MESSAGE("value", 2, "HealthCheckResponse"),
};
static const struct desc_enum health_enums[] = {
    {.name = "ServingStatus", VALUES(serving_status_values)},
};
static const struct desc_message health_list_nested[] = {
    {.name = "StatusesEntry", FIELDS(statuses_entry), .map_entry = true},
};
static const struct desc_message health_messages[] = {
    {.name = "HealthCheckRequest", FIELDS(health_request)},
    {.name = "HealthCheckResponse", FIELDS(health_response), ENUMS(health_enums)},
    {.name = "HealthListRequest"},
    {.name = "HealthListResponse", FIELDS(health_list_response), NESTED(health_list_nested)},
};
static const struct desc_method health_methods[] = {
    {"Check", "HealthCheckRequest", "HealthCheckResponse", false, false},
    {"List", "HealthListRequest", "HealthListResponse", false, false},
    {"Watch", "HealthCheckRequest", "HealthCheckResponse", false, true},
};
static const struct desc_service health_services[] = {{.name = "Health", METHODS(health_methods)}};
static const struct desc_file health_file = {
    .path = "grpc/health/v1/health.proto",
    .package = "grpc.health.v1",
    MESSAGE_TYPES(health_messages),
    SERVICES(health_services),
};

/* --- grpc.reflection.v1 and v1alpha: the same messages in two packages --- */

static const struct desc_field reflection_request[] = {
    FIELD("host", 1, STRING),
    CHOICE("file_by_filename", 3, STRING),
    CHOICE("file_containing_symbol", 4, STRING),
    CHOICE_OF("file_containing_extension", 5, "ExtensionRequest"),
    CHOICE("all_extension_numbers_of_type", 6, STRING),
    CHOICE("list_services", 7, STRING),
};
static const struct desc_field extension_request[] = {
    FIELD("containing_type", 1, STRING),
    FIELD("extension_number", 2, INT32),
};
static const struct desc_field reflection_response[] = {
    FIELD("valid_host", 1, STRING),
    MESSAGE("original_request", 2, "ServerReflectionRequest"),
    CHOICE_OF("file_descriptor_response", 4, "FileDescriptorResponse"),
    CHOICE_OF("all_extension_numbers_response", 5, "ExtensionNumberResponse"),
    CHOICE_OF("list_services_response", 6, "ListServiceResponse"),
    CHOICE_OF("error_response", 7, "ErrorResponse"),
};
static const struct desc_field file_descriptor_response[] = {
    FIELDS_OF("file_descriptor_proto", 1, BYTES),
};
static const struct desc_field extension_number_response[] = {
    FIELD("base_type_name", 1, STRING),
    FIELDS_OF("extension_number", 2, INT32),
};
static const struct desc_field list_service_response[] = {
    MESSAGES("service", 1, "ServiceResponse"),
};
static const struct desc_field service_response[] = {FIELD("name", 1, STRING)};
static const struct desc_field error_response[] = {
    FIELD("error_code", 1, INT32),
    FIELD("error_message", 2, STRING),
};
static const struct desc_message reflection_messages[] = {
    {.name = "ServerReflectionRequest", FIELDS(reflection_request), .oneof = "message_request"},
    {.name = "ExtensionRequest", FIELDS(extension_request)},
    {.name = "ServerReflectionResponse", FIELDS(reflection_response), .oneof = "message_response"},
    {.name = "FileDescriptorResponse", FIELDS(file_descriptor_response)},
    {.name = "ExtensionNumberResponse", FIELDS(extension_number_response)},
    {.name = "ListServiceResponse", FIELDS(list_service_response)},
    {.name = "ServiceResponse", FIELDS(service_response)},
    {.name = "ErrorResponse", FIELDS(error_response)},
};
static const struct desc_method reflection_methods[] = {
    {"ServerReflectionInfo", "ServerReflectionRequest", "ServerReflectionResponse", true, true},
};
static const struct desc_service reflection_services[] = {
    {.name = "ServerReflection", METHODS(reflection_methods)},
};
static const struct desc_file reflection_v1_file = {
    .path = "grpc/reflection/v1/reflection.proto",
    .package = "grpc.reflection.v1",
    MESSAGE_TYPES(reflection_messages),
    SERVICES(reflection_services),
};
static const struct desc_file reflection_v1alpha_file = {
    .path = "grpc/reflection/v1alpha/reflection.proto",
    .package = "grpc.reflection.v1alpha",
    MESSAGE_TYPES(reflection_messages),
    SERVICES(reflection_services),
};
/* clang-format on */

const struct desc_file *const desc_files[] = {
    &common_file,        &resource_file,           &trace_file,     &health_file,
    &reflection_v1_file, &reflection_v1alpha_file, &collector_file,
};
const size_t desc_file_count = ARRAY_LEN(desc_files);
