/* SPDX-License-Identifier: Apache-2.0 */
/* Finding and encoding the tables of descriptors.c. Numbers are those of descriptor.proto. */
#include "serve/descriptors.h"

#include "base/pb.h"

#include <stdio.h>

#define DESC_NAME_MAX 256 /* of a qualified name: our own tables, checked by a test */

enum { LABEL_OPTIONAL = 1, LABEL_REPEATED = 3 };

/* --- finding --- */

const struct desc_file *desc_by_path(struct str path)
{
    for (size_t i = 0; i < desc_file_count; i++)
        if (str_eq_c(path, desc_files[i]->path))
            return desc_files[i];
    return NULL;
}

/* Takes "name" off the front of *s: all of it, or up to a '.' with something behind. */
static bool take_name(struct str *s, const char *name)
{
    struct str n = str_from_c(name);
    if (!str_starts(*s, n) || (s->n > n.n && (s->p[n.n] != '.' || s->n == n.n + 1)))
        return false;
    *s = str_skip(*s, n.n + 1);
    return true;
}

static bool enums_have(const struct desc_enum *e, size_t count, struct str s)
{
    for (size_t i = 0; i < count; i++) {
        if (str_eq_c(s, e[i].name))
            return true;
        for (size_t k = 0; k < e[i].value_count; k++) /* values live beside their enum */
            if (str_eq_c(s, e[i].values[k].name))
                return true;
    }
    return false;
}

static bool messages_have(const struct desc_message *m, size_t count, struct str s,
                          bool only_message)
{
    for (size_t i = 0; i < count; i++, m++) {
        struct str rest = s;
        if (!take_name(&rest, m->name))
            continue;
        if (!rest.n)
            return true;
        if (messages_have(m->nested, m->nested_count, rest, only_message))
            return true;
        if (only_message)
            continue;
        if (enums_have(m->enums, m->enum_count, rest))
            return true;
        for (size_t k = 0; k < m->field_count; k++)
            if (str_eq_c(rest, m->fields[k].name))
                return true;
    }
    return false;
}

static bool services_have(const struct desc_service *v, size_t count, struct str s)
{
    for (size_t i = 0; i < count; i++) {
        struct str rest = s;
        if (!take_name(&rest, v[i].name))
            continue;
        if (!rest.n)
            return true;
        for (size_t k = 0; k < v[i].method_count; k++)
            if (str_eq_c(rest, v[i].methods[k].name))
                return true;
    }
    return false;
}

static const struct desc_file *find(struct str symbol, bool only_message)
{
    for (size_t i = 0; i < desc_file_count; i++) {
        const struct desc_file *f = desc_files[i];
        struct str rest = symbol;
        if (!take_name(&rest, f->package) || !rest.n)
            continue;
        if (messages_have(f->messages, f->message_count, rest, only_message))
            return f;
        if (!only_message && (enums_have(f->enums, f->enum_count, rest) ||
                              services_have(f->services, f->service_count, rest)))
            return f;
    }
    return NULL;
}

const struct desc_file *desc_by_symbol(struct str symbol)
{
    return find(symbol, false);
}

bool desc_is_message(struct str symbol)
{
    return find(symbol, true) != NULL;
}

/* --- encoding --- */

static void put_c(struct buf *out, uint32_t number, const char *text)
{
    pb_put_bytes(out, PB_TAG(number, PB_LEN), str_from_c(text));
}

static void put_int(struct buf *out, uint32_t number, uint64_t v)
{
    pb_put_varint(out, PB_TAG(number, PB_VARINT), v);
}

/* "Name" → ".package.Name" */
static void put_type(struct buf *out, uint32_t number, const char *package, const char *of)
{
    char full[DESC_NAME_MAX];
    int n = of[0] == '.' ? snprintf(full, sizeof full, "%s", of)
                         : snprintf(full, sizeof full, ".%s.%s", package, of);
    ensure(n > 0 && (size_t)n < sizeof full);
    put_c(out, number, full);
}

/* lowerCamelCase, as protoc derives it. */
static void put_json_name(struct buf *out, uint32_t number, const char *name)
{
    char json[DESC_NAME_MAX];
    size_t n = 0;
    bool upper = false;
    for (const char *p = name; *p; p++) {
        if (*p != '_')
            json[n++] = upper && *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
        upper = *p == '_';
        ensure(n < sizeof json);
    }
    pb_put_bytes(out, PB_TAG(number, PB_LEN), str_of(json, n));
}

static void put_field(struct buf *out, const struct desc_field *f, const char *package)
{
    size_t mark = pb_open(out, PB_TAG(2, PB_LEN), 1);
    put_c(out, 1, f->name);
    put_int(out, 3, f->number);
    put_int(out, 4, f->repeated ? LABEL_REPEATED : LABEL_OPTIONAL);
    put_int(out, 5, f->type);
    if (f->of)
        put_type(out, 6, package, f->of);
    if (f->in_oneof)
        put_int(out, 9, 0);
    put_json_name(out, 10, f->name);
    pb_close(out, mark, 1);
}

static void put_enum(struct buf *out, uint32_t number, const struct desc_enum *e)
{
    size_t mark = pb_open(out, PB_TAG(number, PB_LEN), 1);
    put_c(out, 1, e->name);
    for (size_t i = 0; i < e->value_count; i++) {
        size_t value = pb_open(out, PB_TAG(2, PB_LEN), 1);
        put_c(out, 1, e->values[i].name);
        put_int(out, 2, e->values[i].number);
        pb_close(out, value, 1);
    }
    pb_close(out, mark, 1);
}

static void put_message(struct buf *out, uint32_t number, const struct desc_message *m,
                        const char *package)
{
    size_t mark = pb_open(out, PB_TAG(number, PB_LEN), 2);
    put_c(out, 1, m->name);
    for (size_t i = 0; i < m->field_count; i++)
        put_field(out, &m->fields[i], package);
    for (size_t i = 0; i < m->nested_count; i++)
        put_message(out, 3, &m->nested[i], package);
    for (size_t i = 0; i < m->enum_count; i++)
        put_enum(out, 4, &m->enums[i]);
    if (m->map_entry) {
        size_t options = pb_open(out, PB_TAG(7, PB_LEN), 1);
        put_int(out, 7, 1);
        pb_close(out, options, 1);
    }
    if (m->oneof) {
        size_t oneof = pb_open(out, PB_TAG(8, PB_LEN), 1);
        put_c(out, 1, m->oneof);
        pb_close(out, oneof, 1);
    }
    pb_close(out, mark, 2);
}

static void put_service(struct buf *out, const struct desc_service *v, const char *package)
{
    size_t mark = pb_open(out, PB_TAG(6, PB_LEN), 2);
    put_c(out, 1, v->name);
    for (size_t i = 0; i < v->method_count; i++) {
        const struct desc_method *m = &v->methods[i];
        size_t method = pb_open(out, PB_TAG(2, PB_LEN), 1);
        put_c(out, 1, m->name);
        put_type(out, 2, package, m->in);
        put_type(out, 3, package, m->out);
        if (m->client_stream)
            put_int(out, 5, 1);
        if (m->server_stream)
            put_int(out, 6, 1);
        pb_close(out, method, 1);
    }
    pb_close(out, mark, 2);
}

void desc_encode(const struct desc_file *f, struct buf *out)
{
    put_c(out, 1, f->path);
    put_c(out, 2, f->package);
    for (size_t i = 0; i < f->import_count; i++)
        put_c(out, 3, f->imports[i]->path);
    for (size_t i = 0; i < f->message_count; i++)
        put_message(out, 4, &f->messages[i], f->package);
    for (size_t i = 0; i < f->enum_count; i++)
        put_enum(out, 5, &f->enums[i]);
    for (size_t i = 0; i < f->service_count; i++)
        put_service(out, &f->services[i], f->package);
    put_c(out, 12, "proto3");
}

static bool needs(const struct desc_file *f, const struct desc_file *other)
{
    if (f == other)
        return true;
    for (size_t i = 0; i < f->import_count; i++)
        if (needs(f->imports[i], other))
            return true;
    return false;
}

void desc_each_needed(const struct desc_file *f, void (*each)(void *arg, const struct desc_file *f),
                      void *arg)
{
    for (size_t i = 0; i < desc_file_count; i++)
        if (needs(f, desc_files[i]))
            each(arg, desc_files[i]);
}
