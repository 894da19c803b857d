/* SPDX-License-Identifier: Apache-2.0 */
/* What the server's protobuf services look like, as const tables, and their FileDescriptorProtos
 * encoded from them at run time: what reflection answers. A new service adds a file here. */
#ifndef LYMER_SERVE_DESCRIPTORS_H
#define LYMER_SERVE_DESCRIPTORS_H

#include "base/buf.h"

enum desc_type { /* FieldDescriptorProto.Type */
                 DESC_DOUBLE = 1,
                 DESC_INT64 = 3,
                 DESC_INT32 = 5,
                 DESC_FIXED64 = 6,
                 DESC_FIXED32 = 7,
                 DESC_BOOL = 8,
                 DESC_STRING = 9,
                 DESC_MESSAGE = 11,
                 DESC_BYTES = 12,
                 DESC_UINT32 = 13,
                 DESC_ENUM = 14
};

struct desc_field {
    const char *name;
    uint32_t number;
    enum desc_type type;
    bool repeated;
    bool in_oneof;  /* the message's one */
    const char *of; /* MESSAGE, ENUM: ".package.Name", or "Name" within the file's package */
};

struct desc_value {
    const char *name;
    uint32_t number;
};

struct desc_enum {
    const char *name;
    const struct desc_value *values;
    size_t value_count;
};

struct desc_message {
    const char *name;
    const struct desc_field *fields;
    size_t field_count;
    const struct desc_message *nested;
    size_t nested_count;
    const struct desc_enum *enums;
    size_t enum_count;
    const char *oneof; /* NULL: none */
    bool map_entry;
};

struct desc_method {
    const char *name, *in, *out; /* as desc_field.of */
    bool client_stream, server_stream;
};

struct desc_service {
    const char *name;
    const struct desc_method *methods;
    size_t method_count;
};

struct desc_file {
    const char *path, *package; /* "grpc/health/v1/health.proto", "grpc.health.v1" */
    const struct desc_file *const *imports;
    size_t import_count;
    const struct desc_message *messages;
    size_t message_count;
    const struct desc_enum *enums;
    size_t enum_count;
    const struct desc_service *services;
    size_t service_count;
};

/* All files; a file stands behind those it imports. */
extern const struct desc_file *const desc_files[];
extern const size_t desc_file_count;

const struct desc_file *desc_by_path(struct str path);
/* A message, field, enum, enum value, service or method by its full name. */
const struct desc_file *desc_by_symbol(struct str symbol);
/* True when the symbol is a message. */
bool desc_is_message(struct str symbol);

/* Appends the serialised FileDescriptorProto. */
void desc_encode(const struct desc_file *f, struct buf *out);
/* Calls each() for f and all it imports, directly or not, once each, imports first. */
void desc_each_needed(const struct desc_file *f, void (*each)(void *arg, const struct desc_file *f),
                      void *arg);

#endif
