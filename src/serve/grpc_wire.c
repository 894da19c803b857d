/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/grpc_wire.h"

#include "base/bytes.h"
#include "base/num.h"

static bool take_prefix(struct grpc_reader *r, struct str *in)
{
    while (r->prefix_count < GRPC_PREFIX_BYTES && in->n) {
        r->prefix[r->prefix_count++] = (uint8_t)in->p[0];
        *in = str_skip(*in, 1);
    }
    return r->prefix_count == GRPC_PREFIX_BYTES;
}

enum grpc_read grpc_reader_take(struct grpc_reader *r, struct str *in)
{
    if (r->prefix_count < GRPC_PREFIX_BYTES) {
        if (!take_prefix(r, in))
            return GRPC_READ_MORE;
        r->length = load_u32be(r->prefix + 1);
        if (r->prefix[0] > 1)
            return GRPC_READ_BAD_FLAG;
        if (r->length > r->body.max)
            return GRPC_READ_TOO_BIG;
        if (!buf_reserve(&r->body, min_size(r->length, GRPC_CLAIM_BYTES)))
            return GRPC_READ_NO_MEMORY;
    }
    struct str part = str_take(*in, r->length - r->body.n);
    buf_add_str(&r->body, part);
    if (r->body.failed)
        return GRPC_READ_NO_MEMORY;
    *in = str_skip(*in, part.n);
    return r->body.n == r->length ? GRPC_READ_MESSAGE : GRPC_READ_MORE;
}

void grpc_reader_next(struct grpc_reader *r)
{
    buf_reset(&r->body);
    r->prefix_count = 0;
}

void grpc_put_prefix(uint8_t out[GRPC_PREFIX_BYTES], bool compressed, uint32_t length)
{
    out[0] = compressed;
    store_u32be(out + 1, length);
}

bool grpc_timeout_get(struct str s, uint64_t *ns)
{
    static const struct {
        char unit;
        uint64_t ns;
    } units[] = {{'H', 3600 * NS_PER_S}, {'M', 60 * NS_PER_S}, {'S', NS_PER_S},
                 {'m', NS_PER_MS},       {'u', NS_PER_US},     {'n', 1}};
    if (s.n < 2 || s.n > 9)
        return false;
    uint64_t count = 0;
    for (size_t i = 0; i + 1 < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        count = count * 10 + (uint64_t)(s.p[i] - '0');
    }
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (units[i].unit == s.p[s.n - 1]) {
            /* 99,999,999 hours are more nanoseconds than 64 bits hold */
            *ns = count > UINT64_MAX / units[i].ns ? UINT64_MAX : count * units[i].ns;
            return true;
        }
    }
    return false;
}

void grpc_put_percent(struct buf *out, struct str s)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        bool edge_space = c == ' ' && (i == 0 || i + 1 == s.n); /* HTTP would strip it */
        if (c >= 0x20 && c <= 0x7e && c != '%' && !edge_space)
            buf_add_char(out, (char)c);
        else
            buf_add(out, (char[]){'%', hex[c >> 4], hex[c & 15]}, 3);
    }
}

void grpc_put_bin(struct buf *out, struct str bytes)
{
    num_put_base64(out, bytes);
    while (out->n && out->p[out->n - 1] == '=')
        out->n--;
}

bool grpc_content_type_ok(struct str s)
{
    struct str type = str_trim(str_take(s, str_find(s, ';')));
    return str_eq_nocase(type, STR("application/grpc+proto")) ||
           str_eq_nocase(type, STR("application/grpc"));
}
