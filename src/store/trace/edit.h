/* SPDX-License-Identifier: Apache-2.0 */
/* One manifest edit: what changes together (docs/format/manifest.md). A sequence of items, each a
 * tag byte and its fields; a TENANT item says whose the following ones are, a SERVICE item numbers
 * a service for the items behind it. Private to store/trace. */
#ifndef LYMER_STORE_TRACE_EDIT_H
#define LYMER_STORE_TRACE_EDIT_H

#include "base/buf.h"

#define EDIT_MAX ((size_t)1 * GIB)

enum edit_tag {
    EDIT_TENANT = 1,
    EDIT_SERVICE,
    EDIT_OPERATION,
    EDIT_EDGE,
    EDIT_ORPHAN,  /* a span whose parent has not been seen yet */
    EDIT_SETTLED, /* an orphan that need not be remembered any more */
    EDIT_BLOCK,
    EDIT_DROP,
    EDIT_RELEASE, /* log segments up to seq are in blocks */
    EDIT_NEXT_ID,
    EDIT_KEPT, /* rules have decided about a block: how long it is kept */
    EDIT_TAG_COUNT
};

struct edit_item {
    enum edit_tag tag;
    union {
        struct {
            struct str name;  /* TENANT, SERVICE, OPERATION */
            uint32_t service; /* OPERATION: position among the SERVICE items of this tenant */
            uint32_t kind;
            uint64_t seen_ns;
        };
        struct {
            uint32_t minute, width; /* the minutes [minute, minute + width) */
            uint32_t parent, child;
            uint64_t calls;
        } edge;
        struct {
            uint64_t print;
            uint32_t service, minute, noted;
        } orphan; /* SETTLED: print only */
        struct {
            uint64_t id, spans, bytes, min_ns, max_ns, end_ns;
        } block;
        struct {
            uint64_t id, for_ns;
        } kept;
        uint64_t number; /* DROP, RELEASE, NEXT_ID */
    };
};

/* --- reading: total on any bytes --- */

struct edit_cursor {
    const uint8_t *at, *end;
    bool bad; /* latched: the rest makes no sense */
};

static inline struct edit_cursor edit_cursor_of(struct str payload)
{
    const uint8_t *p = (const uint8_t *)payload.p;
    return (struct edit_cursor){.at = p, .end = p + payload.n};
}

/* The next item; false at the end and at damage. Positions are not checked against what came
 * before: the applier does. */
bool edit_next(struct edit_cursor *c, struct edit_item *out);

/* --- writing --- */

struct edit {
    struct buf buf;
    uint32_t *local; /* service number → position + 1 among the SERVICE items of this tenant */
    uint32_t local_cap;
    uint32_t *used; /* the numbers in local, to forget them at the next tenant */
    uint32_t count, used_cap;
};

void edit_init(struct edit *e);
void edit_fini(struct edit *e);
void edit_reset(struct edit *e);

void edit_tenant(struct edit *e, struct str name);
/* The service's position; its item is written at the first call of each tenant. */
uint32_t edit_service(struct edit *e, uint32_t number, struct str name, uint64_t seen_ns);
/* Positions in the item are what edit_service gave. */
void edit_add(struct edit *e, const struct edit_item *item);

static inline void edit_number(struct edit *e, enum edit_tag tag, uint64_t number)
{
    edit_add(e, &(struct edit_item){.tag = tag, .number = number});
}

#endif
