/* SPDX-License-Identifier: Apache-2.0 */
/* Reading protobuf messages field by field, in place, without a schema: a cursor with a sticky
 * error. Groups (wire types 3 and 4), long deprecated, are stepped over as one unknown field. And
 * the few calls that write. */
#ifndef LYMER_BASE_PB_H
#define LYMER_BASE_PB_H

#include "base/buf.h"
#include "base/bytes.h"

enum pb_wire { PB_VARINT, PB_I64, PB_LEN, PB_GROUP, PB_GROUP_END, PB_I32 };

#define PB_FIELD_MAX   ((1u << 29) - 1)
#define PB_GROUP_DEPTH 32u

#define PB_TAG(number, wire) ((uint32_t)(number) << 3 | (wire))

struct pb {
    const uint8_t *at, *end;
    const char *why; /* the sticky error, a literal; `at` is where */
    bool truncated;  /* … is that the input ended */
};

/* tag is PB_TAG(number, wire type). `num` for VARINT, I64 and I32, `bytes` for LEN. */
struct pb_field {
    uint32_t tag;
    uint64_t num;
    struct str bytes;
};

static inline struct pb pb_init(struct str message)
{
    const uint8_t *p = (const uint8_t *)message.p;
    return (struct pb){.at = p, .end = message.n ? p + message.n : p};
}

/* The next field: false at the end of the message, or with `why` set. */
bool pb_next(struct pb *c, struct pb_field *f);
/* Steps over the value of a field whose tag was just read. False with `why` set. */
MUST_CHECK bool pb_skip(struct pb *c, uint32_t tag);
/* Reads a tag: 0 at the end, or with `why` set. */
uint32_t pb_tag(struct pb *c);
/* A varint or a length within the message; false with `why` set. */
MUST_CHECK bool pb_varint(struct pb *c, uint64_t *v);
MUST_CHECK bool pb_bytes(struct pb *c, struct str *v);

/* --- writing --- */

void pb_put_tag(struct buf *out, uint32_t tag);
void pb_put_varint(struct buf *out, uint32_t tag, uint64_t v);
void pb_put_i64(struct buf *out, uint32_t tag, uint64_t v);
void pb_put_i32(struct buf *out, uint32_t tag, uint32_t v);
void pb_put_bytes(struct buf *out, uint32_t tag, struct str v);
/* A sub-message whose length is not known yet: what is added until pb_close is its content.
 * len_guess is how many bytes the length will probably take; a wrong guess costs a move. */
size_t pb_open(struct buf *out, uint32_t tag, unsigned len_guess);
void pb_close(struct buf *out, size_t mark, unsigned len_guess);

#endif
