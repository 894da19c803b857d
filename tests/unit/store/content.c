/* SPDX-License-Identifier: Apache-2.0 */
/* What is in a span. Rich spans hold values of every type at every edge: each row of `kinds` is a
 * way to make a value. */
#include "base/hash.h"
#include "base/pb.h"
#include "model/value.h"
#include "tests/unit/store/world.h"

#include <stdarg.h>
#include <stdio.h>

static struct str text_of(struct world *w)
{
    return str_of(w->text.p ? w->text.p : "", w->text.n);
}

PRINTF_LIKE(2, 3)
static struct str print(struct world *w, const char *fmt, ...)
{
    static char line[128];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    buf_reset(&w->text);
    buf_add(&w->text, line, (size_t)n);
    return text_of(w);
}

static struct str noise(struct world *w, uint32_t n)
{
    buf_reset(&w->text);
    for (uint32_t i = 0; i < n; i++)
        buf_add_char(&w->text, (char)world_roll(w, 256));
    return text_of(w);
}

/* --- values --- */

static struct value value_text_of(struct str s)
{
    return (struct value){.type = ATTR_STR, .s = s};
}

static struct value of_few(struct world *w)
{
    static const char *const few[] = {"", "a", "GET", "true", "1", "200", "[1]", "{}"};
    return value_text_of(str_from_c(few[world_roll(w, ARRAY_LEN(few))]));
}

static struct value of_numbers(struct world *w)
{
    static const char *const forms[][2] = {
        {"", ""}, {"-", ""}, {"00", ""}, {"", ".50"}, {"0x", ""}};
    const char *const *form = forms[world_roll(w, ARRAY_LEN(forms))];
    return value_text_of(print(w, "%s%llu%s", form[0],
                               (unsigned long long)(world_roll64(w) >> world_roll(w, 64)),
                               form[1]));
}

static struct value of_uuids(struct world *w)
{
    uint64_t a = world_roll64(w), b = world_roll64(w);
    return value_text_of(print(w, "%08x-%04x-%04x-%04x-%012llx", (unsigned)(a >> 32),
                               (unsigned)(a >> 16 & 0xffff), (unsigned)(a & 0xffff),
                               (unsigned)(b >> 48),
                               (unsigned long long)(b & UINT64_C(0xffffffffffff))));
}

static struct value of_addresses(struct world *w)
{
    return value_text_of(print(w, "%u.%u.%u.%u", world_roll(w, 256), world_roll(w, 256),
                               world_roll(w, 256), world_roll(w, 300)));
}

static struct value of_noise(struct world *w)
{
    return value_text_of(noise(w, world_roll(w, 40)));
}

static struct value of_long(struct world *w)
{
    return value_text_of(noise(w, 2000 + world_roll(w, 3000)));
}

static struct value of_bytes(struct world *w)
{
    return (struct value){.type = ATTR_BYTES, .s = noise(w, world_roll(w, 20))};
}

static struct value of_bools(struct world *w)
{
    return (struct value){.type = ATTR_BOOL, .b = world_roll(w, 2)};
}

static struct value of_ints(struct world *w)
{
    static const int64_t edges[] = {0, -1, 1, INT64_MIN, INT64_MAX, 404, -128, 1 << 20};
    bool edge = world_roll(w, 2);
    return (struct value){.type = ATTR_INT,
                          .i = edge ? edges[world_roll(w, ARRAY_LEN(edges))]
                                    : (int64_t)(world_roll64(w) >> world_roll(w, 64))};
}

static struct value of_doubles(struct world *w)
{
    static const uint64_t edges[] = {
        0,                            /* 0 */
        UINT64_C(0x8000000000000000), /* -0 */
        UINT64_C(0x7ff0000000000000), /* infinite */
        UINT64_C(0xfff0000000000000),
        UINT64_C(0x7ff8000000000000), /* no number */
        UINT64_C(0xfff80000deadbeef), /* another one */
        1,                            /* the least */
        UINT64_C(0x3fb999999999999a), /* 0.1 */
        UINT64_C(0x4069000000000000), /* 200 */
        UINT64_C(0x7fefffffffffffff), /* the greatest */
    };
    uint64_t bits = world_roll(w, 3) ? edges[world_roll(w, ARRAY_LEN(edges))] : world_roll64(w);
    struct value v = {.type = ATTR_DOUBLE};
    memcpy(&v.d, &bits, sizeof v.d);
    return v;
}

static struct value of_nothing(struct world *w)
{
    (void)w;
    return (struct value){.type = ATTR_EMPTY};
}

/* A few scalars, and sometimes a list in the list; as a map each has a key. */
static void add_elements(struct world *w, struct buf *out, bool map, unsigned depth)
{
    for (uint32_t n = world_roll(w, 4); n; n--) {
        struct buf inner = buf_init(MIB), entry = buf_init(MIB);
        struct value v = world_roll(w, 2) ? of_ints(w) : world_roll(w, 2) ? of_few(w) : of_bools(w);
        if (depth && !world_roll(w, 3)) {
            struct buf list = buf_init(MIB);
            v.type = world_roll(w, 2) ? ATTR_ARRAY : ATTR_KVLIST;
            add_elements(w, &list, v.type == ATTR_KVLIST, depth - 1);
            v.s = str_of(list.p ? list.p : "", list.n);
            value_encode(&v, &inner);
            buf_fini(&list);
        } else {
            value_encode(&v, &inner);
        }
        if (map) {
            char key[2] = {'a' + (char)world_roll(w, 4), 0};
            pb_put_bytes(&entry, PB_TAG(1, PB_LEN), str_from_c(key));
            pb_put_bytes(&entry, PB_TAG(2, PB_LEN), buf_str(&inner));
            pb_put_bytes(out, PB_TAG(1, PB_LEN), buf_str(&entry));
        } else {
            pb_put_bytes(out, PB_TAG(1, PB_LEN), buf_str(&inner));
        }
        buf_fini(&inner);
        buf_fini(&entry);
    }
}

static struct value of_lists(struct world *w)
{
    struct value v = {.type = world_roll(w, 2) ? ATTR_ARRAY : ATTR_KVLIST};
    buf_reset(&w->text);
    add_elements(w, &w->text, v.type == ATTR_KVLIST, 2);
    v.s = text_of(w);
    return v;
}

/* Views into w->text live until the next value is made. */
static struct value (*const kinds[])(struct world *w) = {
    of_few,   of_numbers, of_uuids, of_addresses, of_noise,   of_bytes,
    of_bools, of_ints,    of_ints,  of_doubles,   of_nothing, of_lists,
};

static void put_attrs(struct world *w, uint32_t most)
{
    static const char *const odd[] = {"error", "span.kind", "event", "resource.k1", "", "number2"};
    for (uint32_t n = world_roll(w, most + 1); n; n--) {
        char key[32];
        uint32_t k = world_roll(w, 16);
        if (k < ARRAY_LEN(odd))
            snprintf(key, sizeof key, "%s", odd[k]);
        else
            snprintf(key, sizeof key, "k%u", k - (uint32_t)ARRAY_LEN(odd));
        struct value v = world_roll(w, 60) ? kinds[world_roll(w, ARRAY_LEN(kinds))](w) : of_long(w);
        bb_attr(&w->builder, str_from_c(key), &v);
    }
}

static struct sref put_string(struct world *w)
{
    static const char *const few[] = {"", "", "lib", "1.0", "https://schema/1", "k=v"};
    return bb_string(&w->builder, world_roll(w, 4) ? str_from_c(few[world_roll(w, 6)])
                                                   : noise(w, world_roll(w, 30)));
}

/* --- groups and spans --- */

static void put_service(struct world *w, uint32_t service)
{
    char name[16];
    if (service < SERVICES) {
        int n = snprintf(name, sizeof name, "svc%u", service);
        bb_attr_str(&w->builder, STR("service.name"), ATTR_STR, str_of(name, (size_t)n));
    } else if (service == SERVICES) {
        bb_attr_str(&w->builder, STR("service.name"), ATTR_STR, STR_NONE);
    } else if (service == SERVICES + 1) {
        bb_attr_bits(&w->builder, STR("service.name"), ATTR_INT, 7);
    }
}

void content_group(struct world *w, uint32_t service)
{
    bool rich = world_roll(w, 100) < w->rich;
    struct group_rec *g = bb_group_begin(&w->builder);
    if (rich) {
        g->res_dropped = world_roll(w, 3);
        g->res_schema = put_string(w);
        put_attrs(w, 3);
    }
    put_service(w, service);
    g = bb_group_scope(&w->builder);
    if (rich) {
        g->scope_name = put_string(w);
        g->scope_version = put_string(w);
        g->scope_schema = put_string(w);
        g->scope_dropped = world_roll(w, 3);
        put_attrs(w, 2);
    }
    bb_group_end(&w->builder);
}

static void put_events(struct world *w)
{
    for (uint32_t n = world_roll(w, 3); n; n--) {
        struct event_rec *e = bb_event(&w->builder);
        e->time_ns = world_roll(w, 4) ? w->base_ns + world_roll(w, 1000) : world_roll64(w);
        e->name = put_string(w);
        e->dropped = world_roll(w, 2);
        put_attrs(w, 2);
    }
}

static void put_links(struct world *w)
{
    for (uint32_t n = world_roll(w, 3); n; n--) {
        struct link_rec *l = bb_link(&w->builder);
        store_u64le(l->trace_id, world_roll64(w));
        store_u64le(l->span_id, world_roll64(w));
        l->trace_state = put_string(w);
        l->dropped = world_roll(w, 2);
        l->flags = world_roll(w, 2) ? (uint32_t)world_roll64(w) : 0;
        put_attrs(w, 1);
    }
}

static void put_times(struct world *w, struct span_rec *s)
{
    static const uint64_t odd[] = {0, 1, UINT64_MAX, UINT64_C(1) << 63, 3600 * NS_PER_S};
    switch (world_roll(w, 12)) {
    case 0:
        s->start_ns = odd[world_roll(w, ARRAY_LEN(odd))];
        break;
    case 1:
        s->end_ns = odd[world_roll(w, ARRAY_LEN(odd))];
        break;
    case 2: /* late */
        s->start_ns -= world_roll(w, 72) * 3600 * NS_PER_S;
        s->end_ns = s->start_ns + world_roll(w, 3);
        break;
    default:
        break;
    }
}

static struct str name_of(struct world *w, bool rich)
{
    if (rich && !world_roll(w, 8))
        return STR_NONE;
    if (rich && !world_roll(w, 20)) {
        buf_reset(&w->text);
        for (unsigned i = 0; i < NAME_LISTED + 1; i++)
            buf_add_char(&w->text, 'n');
        return text_of(w);
    }
    return print(w, "op%u", world_roll(w, 4));
}

void content_span(struct world *w, struct span_rec *s, uint32_t number, bool rich)
{
    s->kind = (uint8_t)world_roll(w, KIND_COUNT);
    if (rich) {
        put_times(w, s);
        s->status = (uint8_t)world_roll(w, STATUS_COUNT);
        s->flags = world_roll(w, 2) ? (uint32_t)world_roll64(w) : 1;
        s->dropped_attrs = world_roll(w, 2);
        s->dropped_events = world_roll(w, 2);
        s->dropped_links = world_roll(w, 2);
        s->trace_state = put_string(w);
        s->status_message = put_string(w);
    }
    bb_name(&w->builder, s, name_of(w, rich));
    bb_attr_bits(&w->builder, STR("number"), ATTR_INT, number);
    if (rich) {
        put_attrs(w, 8);
        put_events(w);
        put_links(w);
        return;
    }
    for (uint32_t i = world_roll(w, 3); i; i--)
        bb_attr_str(&w->builder, STR("text"), ATTR_STR,
                    str_of("abcdefghijklmnopqrstuvwxyz0123456789", world_roll(w, 36)));
}
