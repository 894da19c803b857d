/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pb.h"

static bool pb_fail(struct pb *c, const char *why, bool truncated)
{
    c->why = why;
    c->truncated = truncated;
    return false;
}

bool pb_varint(struct pb *c, uint64_t *v)
{
    if (LIKELY(c->at < c->end && *c->at < 0x80)) {
        *v = *c->at++;
        return true;
    }
    const uint8_t *p = varint_get(c->at, c->end, v);
    if (!p)
        return c->end - c->at < VARINT_MAX ? pb_fail(c, "input ends in a number", true)
                                           : pb_fail(c, "number longer than ten bytes", false);
    c->at = p;
    return true;
}

bool pb_bytes(struct pb *c, struct str *v)
{
    const uint8_t *start = c->at;
    uint64_t n;
    if (!pb_varint(c, &n))
        return false;
    if (n > (uint64_t)(c->end - c->at)) {
        c->at = start;
        return pb_fail(c, "length reaches past the end", true);
    }
    *v = str_of(c->at, n);
    c->at += n;
    return true;
}

uint32_t pb_tag(struct pb *c)
{
    const uint8_t *start = c->at;
    uint64_t tag;
    if (c->at == c->end || !pb_varint(c, &tag))
        return 0;
    if (tag >> 32 || tag >> 3 == 0 || (tag & 7) > PB_I32) {
        c->at = start;
        pb_fail(c, (tag & 7) > PB_I32 ? "unknown wire type" : "impossible field number", false);
        return 0;
    }
    return (uint32_t)tag;
}

static bool skip_bytes(struct pb *c, size_t n)
{
    if ((size_t)(c->end - c->at) < n)
        return pb_fail(c, "input ends in a number", true);
    c->at += n;
    return true;
}

/* Everything up to the end of the group just begun. */
static bool skip_group(struct pb *c, uint32_t tag)
{
    uint32_t open[PB_GROUP_DEPTH] = {tag >> 3};
    for (unsigned depth = 1; depth;) {
        tag = pb_tag(c);
        if (tag == 0)
            return c->why ? false : pb_fail(c, "input ends in a group", true);
        if ((tag & 7) == PB_GROUP) {
            if (depth == PB_GROUP_DEPTH)
                return pb_fail(c, "groups nested too deep", false);
            open[depth++] = tag >> 3;
        } else if ((tag & 7) == PB_GROUP_END) {
            if (open[--depth] != tag >> 3)
                return pb_fail(c, "end of a group that was not begun", false);
        } else if (!pb_skip(c, tag)) {
            return false;
        }
    }
    return true;
}

bool pb_skip(struct pb *c, uint32_t tag)
{
    uint64_t v;
    struct str bytes;
    switch (tag & 7) {
    case PB_VARINT:
        return pb_varint(c, &v);
    case PB_I64:
        return skip_bytes(c, 8);
    case PB_LEN:
        return pb_bytes(c, &bytes);
    case PB_GROUP:
        return skip_group(c, tag);
    case PB_I32:
        return skip_bytes(c, 4);
    default:
        return pb_fail(c, "end of a group that was not begun", false);
    }
}

bool pb_next(struct pb *c, struct pb_field *f)
{
    f->tag = pb_tag(c);
    if (f->tag == 0)
        return false;
    switch (f->tag & 7) {
    case PB_VARINT:
        return pb_varint(c, &f->num);
    case PB_LEN:
        return pb_bytes(c, &f->bytes);
    case PB_I64:
        if (!skip_bytes(c, 8))
            return false;
        f->num = load_u64le(c->at - 8);
        return true;
    case PB_I32:
        if (!skip_bytes(c, 4))
            return false;
        f->num = load_u32le(c->at - 4);
        return true;
    default:
        return pb_skip(c, f->tag);
    }
}

/* --- writing --- */

static void put_varint(struct buf *out, uint64_t v)
{
    if (buf_reserve(out, VARINT_MAX))
        out->n = (size_t)((char *)varint_put((uint8_t *)out->p + out->n, v) - out->p);
}

void pb_put_tag(struct buf *out, uint32_t tag)
{
    put_varint(out, tag);
}

void pb_put_varint(struct buf *out, uint32_t tag, uint64_t v)
{
    put_varint(out, tag);
    put_varint(out, v);
}

void pb_put_i64(struct buf *out, uint32_t tag, uint64_t v)
{
    put_varint(out, tag);
    buf_add(out, &v, sizeof v);
}

void pb_put_i32(struct buf *out, uint32_t tag, uint32_t v)
{
    put_varint(out, tag);
    buf_add(out, &v, sizeof v);
}

void pb_put_bytes(struct buf *out, uint32_t tag, struct str v)
{
    put_varint(out, tag);
    put_varint(out, v.n);
    buf_add_str(out, v);
}

size_t pb_open(struct buf *out, uint32_t tag, unsigned len_guess)
{
    put_varint(out, tag);
    buf_add_zero(out, len_guess);
    return out->n;
}

void pb_close(struct buf *out, size_t mark, unsigned len_guess)
{
    if (out->failed)
        return;
    size_t n = out->n - mark, len = varint_len(n);
    if (len > len_guess && !buf_reserve(out, len - len_guess))
        return;
    char *at = out->p + mark - len_guess;
    if (len != len_guess)
        memmove(at + len, at + len_guess, n);
    varint_put((uint8_t *)at, n);
    out->n = (size_t)(at - out->p) + len + n;
}
