/* SPDX-License-Identifier: Apache-2.0 */
#include "store/trace/edit.h"

#include "base/bytes.h"
#include "model/batch.h"

#include <stdlib.h>

/* --- reading --- */

static uint64_t get(struct edit_cursor *c)
{
    uint64_t v = 0;
    const uint8_t *next = c->bad ? NULL : varint_get(c->at, c->end, &v);
    c->bad |= !next;
    c->at = next ? next : c->end;
    return next ? v : 0;
}

static uint32_t get_u32(struct edit_cursor *c)
{
    uint64_t v = get(c);
    c->bad |= v > UINT32_MAX;
    return (uint32_t)v;
}

static uint64_t get_fixed(struct edit_cursor *c)
{
    if (c->bad || c->end - c->at < 8) {
        c->bad = true;
        return 0;
    }
    c->at += 8;
    return load_u64le(c->at - 8);
}

static struct str get_str(struct edit_cursor *c)
{
    uint64_t n = get(c);
    if (c->bad || n > (uint64_t)(c->end - c->at)) {
        c->bad = true;
        return STR_NONE;
    }
    c->at += n;
    return str_of(c->at - n, (size_t)n);
}

static void get_edge(struct edit_cursor *c, struct edit_item *out)
{
    out->edge.minute = get_u32(c);
    out->edge.width = get_u32(c);
    out->edge.parent = get_u32(c);
    out->edge.child = get_u32(c);
    out->edge.calls = get(c);
    c->bad |= !out->edge.width;
}

static void get_block(struct edit_cursor *c, struct edit_item *out)
{
    out->block.id = get(c);
    out->block.spans = get(c);
    out->block.bytes = get(c);
    out->block.min_ns = get(c);
    out->block.max_ns = get(c);
    out->block.end_ns = get(c);
}

bool edit_next(struct edit_cursor *c, struct edit_item *out)
{
    if (c->bad || c->at == c->end)
        return false;
    *out = (struct edit_item){.tag = *c->at++};
    switch (out->tag) {
    case EDIT_TENANT:
        out->name = get_str(c);
        break;
    case EDIT_SERVICE:
        out->name = get_str(c);
        out->seen_ns = get(c);
        break;
    case EDIT_OPERATION:
        out->service = get_u32(c);
        out->kind = get_u32(c);
        out->name = get_str(c);
        out->seen_ns = get(c);
        c->bad |= out->kind >= KIND_COUNT;
        break;
    case EDIT_EDGE:
        get_edge(c, out);
        break;
    case EDIT_ORPHAN:
        out->orphan.print = get_fixed(c);
        out->orphan.service = get_u32(c);
        out->orphan.minute = get_u32(c);
        out->orphan.noted = get_u32(c);
        break;
    case EDIT_SETTLED:
        out->orphan.print = get_fixed(c);
        break;
    case EDIT_BLOCK:
        get_block(c, out);
        break;
    case EDIT_DROP:
    case EDIT_RELEASE:
    case EDIT_NEXT_ID:
        out->number = get(c);
        break;
    case EDIT_KEPT:
        out->kept.id = get(c);
        out->kept.for_ns = get(c);
        break;
    case EDIT_TAG_COUNT:
    default:
        c->bad = true;
    }
    return !c->bad;
}

/* --- writing --- */

void edit_init(struct edit *e)
{
    *e = (struct edit){.buf = buf_init(EDIT_MAX)};
}

void edit_fini(struct edit *e)
{
    buf_fini(&e->buf);
    free(e->local);
    free(e->used);
}

static void forget_services(struct edit *e)
{
    for (uint32_t i = 0; i < e->count; i++)
        e->local[e->used[i]] = 0;
    e->count = 0;
}

void edit_reset(struct edit *e)
{
    buf_reset(&e->buf);
    forget_services(e);
}

static void put(struct edit *e, uint64_t v)
{
    uint8_t bytes[VARINT_MAX];
    buf_add(&e->buf, bytes, (size_t)(varint_put(bytes, v) - bytes));
}

static void put_str(struct edit *e, struct str s)
{
    put(e, s.n);
    buf_add_str(&e->buf, s);
}

static void put_fixed(struct edit *e, uint64_t v)
{
    buf_add(&e->buf, &v, sizeof v);
}

void edit_tenant(struct edit *e, struct str name)
{
    forget_services(e);
    edit_add(e, &(struct edit_item){.tag = EDIT_TENANT, .name = name});
}

uint32_t edit_service(struct edit *e, uint32_t number, struct str name, uint64_t seen_ns)
{
    if (number >= e->local_cap) {
        uint32_t cap = number + number / 2 + 16;
        e->local = xrealloc(e->local, cap * sizeof *e->local);
        memset(e->local + e->local_cap, 0, (cap - e->local_cap) * sizeof *e->local);
        e->local_cap = cap;
    }
    if (!e->local[number]) {
        if (e->count == e->used_cap) {
            e->used_cap = e->used_cap ? 2 * e->used_cap : 16;
            e->used = xrealloc(e->used, e->used_cap * sizeof *e->used);
        }
        e->used[e->count++] = number;
        e->local[number] = e->count;
        edit_add(e, &(struct edit_item){.tag = EDIT_SERVICE, .name = name, .seen_ns = seen_ns});
    }
    return e->local[number] - 1;
}

void edit_add(struct edit *e, const struct edit_item *item)
{
    buf_add_char(&e->buf, (char)item->tag);
    switch (item->tag) {
    case EDIT_TENANT:
        put_str(e, item->name);
        break;
    case EDIT_SERVICE:
        put_str(e, item->name);
        put(e, item->seen_ns);
        break;
    case EDIT_OPERATION:
        put(e, item->service);
        put(e, item->kind);
        put_str(e, item->name);
        put(e, item->seen_ns);
        break;
    case EDIT_EDGE:
        put(e, item->edge.minute);
        put(e, item->edge.width);
        put(e, item->edge.parent);
        put(e, item->edge.child);
        put(e, item->edge.calls);
        break;
    case EDIT_ORPHAN:
        put_fixed(e, item->orphan.print);
        put(e, item->orphan.service);
        put(e, item->orphan.minute);
        put(e, item->orphan.noted);
        break;
    case EDIT_SETTLED:
        put_fixed(e, item->orphan.print);
        break;
    case EDIT_BLOCK:
        put(e, item->block.id);
        put(e, item->block.spans);
        put(e, item->block.bytes);
        put(e, item->block.min_ns);
        put(e, item->block.max_ns);
        put(e, item->block.end_ns);
        break;
    case EDIT_DROP:
    case EDIT_RELEASE:
    case EDIT_NEXT_ID:
        put(e, item->number);
        break;
    case EDIT_KEPT:
        put(e, item->kept.id);
        put(e, item->kept.for_ns);
        break;
    case EDIT_TAG_COUNT:
        ensure(item->tag != EDIT_TAG_COUNT); /* an edit item has a tag */
    }
}
