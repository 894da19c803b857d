/* SPDX-License-Identifier: Apache-2.0 */
#include "store/trace/column.h"

#include "base/bytes.h"

#include <stdlib.h>

enum { BYTES_PLAIN, BYTES_SAME, BYTES_ZSTD };
enum { NUMS_WIDTH = 15, NUMS_DELTA = 16 };
enum { STRS_TEXT, STRS_HEX, STRS_UUID, STRS_IPV4, STRS_FORMS };

/* Under this many bytes a zstd frame does not pay. */
#define ZSTD_MIN 48

void pack_varint(struct buf *out, uint64_t v)
{
    if (!buf_reserve(out, VARINT_MAX))
        return;
    uint8_t *at = (uint8_t *)out->p + out->n;
    out->n = (size_t)((char *)varint_put(at, v) - out->p);
}

void pack_str(struct buf *out, struct str s)
{
    pack_varint(out, s.n);
    buf_add_str(out, s);
}

/* --- bytes --- */

/* Sampled pair count of byte values: above 1/200 the distribution is skewed enough, or repeats
 * enough, that zstd is likely to save; uniformly random bytes give 1/256. */
static bool looks_random(const uint8_t *p, size_t n)
{
    enum { SAMPLE = 1024 };
    if (n < 128)
        return false;
    uint32_t count[256] = {0};
    size_t step = n / SAMPLE ? n / SAMPLE : 1, taken = 0;
    for (size_t i = 0; i < n && taken < SAMPLE; i += step, taken++)
        count[p[i]]++;
    uint64_t pairs = 0;
    for (int i = 0; i < 256; i++)
        pairs += (uint64_t)count[i] * (count[i] ? count[i] - 1 : 0);
    return pairs * 200 < (uint64_t)taken * (taken - 1);
}

static bool all_same(const uint8_t *p, size_t n)
{
    return n && memcmp(p, p + 1, n - 1) == 0;
}

void pack_bytes(struct packer *p, const void *data, size_t n)
{
    const uint8_t *in = data;
    struct buf *out = p->out;
    if (n > 1 && all_same(in, n)) {
        buf_add_char(out, BYTES_SAME);
        buf_add_char(out, (char)in[0]);
        return;
    }
    if (n >= ZSTD_MIN && !looks_random(in, n)) {
        size_t bound = zstd_bound(n);
        p->work.n = 0;
        if (!buf_reserve(&p->work, bound)) {
            out->failed = true;
            return;
        }
        size_t packed = zstd_pack(p->zstd, str_of(data, n), p->level, p->work.p, p->work.cap);
        if (packed && packed + packed / 64 + 4 < n) {
            buf_add_char(out, BYTES_ZSTD);
            pack_varint(out, packed);
            buf_add(out, p->work.p, packed);
            return;
        }
    }
    buf_add_char(out, BYTES_PLAIN);
    buf_add(out, data, n);
}

/* --- numbers --- */

static unsigned byte_width(uint64_t v)
{
    return v ? (unsigned)(71 - __builtin_clzll(v)) / 8 : 0;
}

static unsigned bit_width(uint64_t v)
{
    return v ? 64u - (unsigned)__builtin_clzll(v) : 0;
}

/* Does the sequence of differences need clearly fewer bits than the values less their minimum? */
static bool delta_pays(const uint64_t *v, size_t n, uint64_t min)
{
    size_t sample = n < 512 ? n : 512, first = (n - sample) / 2;
    uint64_t plain = 0, delta = 0, same = 0;
    for (size_t i = first + 1; i < first + sample; i++) {
        int64_t d = (int64_t)(v[i] - v[i - 1]);
        plain += bit_width(v[i] - min);
        delta += bit_width(zigzag(d));
        same += i > first + 1 && d == (int64_t)(v[i - 1] - v[i - 2]) && d != 0;
    }
    return delta * 8 < plain * 7 && (n > 64 || same * 2 > sample);
}

static void pack_planes(struct packer *p, const uint64_t *v, size_t n, uint64_t min, unsigned width)
{
    p->plane.n = 0;
    if (!buf_reserve(&p->plane, n + 1)) {
        p->out->failed = true;
        return;
    }
    uint8_t *plane = (uint8_t *)p->plane.p;
    for (unsigned w = 0; w < width; w++) {
        for (size_t i = 0; i < n; i++)
            plane[i] = (uint8_t)((v[i] - min) >> (8 * w));
        pack_bytes(p, plane, n);
    }
}

static void min_max(const uint64_t *v, size_t n, uint64_t *min, uint64_t *max)
{
    uint64_t lo = UINT64_MAX, hi = 0;
    for (size_t i = 0; i < n; i++) {
        lo = v[i] < lo ? v[i] : lo;
        hi = v[i] > hi ? v[i] : hi;
    }
    *min = lo;
    *max = hi;
}

static void pack_frame(struct packer *p, const uint64_t *v, size_t n, uint64_t min, unsigned width)
{
    buf_add_char(p->out, (char)width);
    pack_varint(p->out, min);
    pack_planes(p, v, n, min, width);
}

static void pack_delta(struct packer *p, const uint64_t *v, size_t n)
{
    uint64_t *d = malloc(n * sizeof *d);
    if (!d) {
        p->out->failed = true;
        return;
    }
    for (size_t i = 1; i < n; i++)
        d[i - 1] = zigzag((int64_t)(v[i] - v[i - 1]));
    d[n - 1] = 0;
    uint64_t min, max;
    min_max(d, n - 1, &min, &max);
    unsigned width = byte_width(max - min);
    buf_add_char(p->out, (char)(width | NUMS_DELTA));
    pack_varint(p->out, v[0]);
    pack_varint(p->out, min);
    pack_planes(p, d, n - 1, min, width);
    free(d);
}

void pack_nums(struct packer *p, const uint64_t *v, size_t n)
{
    if (!n)
        return;
    uint64_t differ = 0;
    for (size_t i = 1; i < n; i++)
        differ |= v[i] ^ v[0];
    /* numbers below 256 gain from deltas only when they count up */
    bool small = (differ | v[0]) < 256;
    bool counts = n > 8 && v[1] != v[0] && v[2] - v[1] == v[1] - v[0];
    uint64_t min = 0, max = differ | v[0];
    if (!differ)
        min = max = v[0];
    else if (!small)
        min_max(v, n, &min, &max);
    if (n > 8 && differ && (!small || counts) && delta_pays(v, n, min))
        pack_delta(p, v, n);
    else
        pack_frame(p, v, n, min, byte_width(max - min));
}

/* --- strings --- */

/* The value of a lower-case hex digit, 0x80 for any other character. */
static unsigned hex_digit(char c)
{
    static const uint8_t digit[256] = {
#define X4  128, 128, 128, 128
#define X16 X4, X4, X4, X4
        X16, X16, X16, 0,  1,  2,  3,   4,  5,  6,   7,   8,   9,   128, 128, X4,  X16, X16, 128,
        10,  11,  12,  13, 14, 15, 128, X4, X4, X16, X16, X16, X16, X16, X16, X16, X16, X16
#undef X16
#undef X4
    };
    return digit[(unsigned char)c];
}

static bool is_hex(struct str s)
{
    if (s.n < 8 || s.n % 2)
        return false;
    unsigned bad = 0;
    for (size_t i = 0; i < s.n && bad < 0x80; i++)
        bad |= hex_digit(s.p[i]);
    return bad < 0x80;
}

static bool uuid_dash(size_t i)
{
    return i == 8 || i == 13 || i == 18 || i == 23;
}

static bool is_uuid(struct str s)
{
    static const uint8_t runs[][2] = {{0, 8}, {9, 13}, {14, 18}, {19, 23}, {24, 36}};
    if (s.n != 36 || s.p[8] != '-' || s.p[13] != '-' || s.p[18] != '-' || s.p[23] != '-')
        return false;
    unsigned bad = 0;
    for (size_t r = 0; r < ARRAY_LEN(runs); r++)
        for (size_t i = runs[r][0]; i < runs[r][1]; i++)
            bad |= hex_digit(s.p[i]);
    return bad < 0x80;
}

/* Dotted decimal without leading zeros: the one text inet_ntoa would print. */
static bool get_ipv4(struct str s, uint32_t *ip)
{
    uint32_t out = 0;
    size_t at = 0;
    for (int part = 0; part < 4; part++) {
        uint32_t v = 0;
        size_t first = at;
        for (; at < s.n && at - first < 3 && s.p[at] >= '0' && s.p[at] <= '9'; at++)
            v = v * 10 + (uint32_t)(s.p[at] - '0');
        if (at == first || v > 255 || (s.p[first] == '0' && at - first > 1))
            return false;
        out = out << 8 | v;
        if (part < 3 && (at >= s.n || s.p[at++] != '.'))
            return false;
    }
    *ip = out;
    return at == s.n;
}

static int form_of(struct str s)
{
    uint32_t ip;
    return is_uuid(s) ? STRS_UUID : is_hex(s) ? STRS_HEX : get_ipv4(s, &ip) ? STRS_IPV4 : STRS_TEXT;
}

static bool has_form(struct str s, int form)
{
    uint32_t ip;
    return form == STRS_UUID ? is_uuid(s) : form == STRS_HEX ? is_hex(s) : get_ipv4(s, &ip);
}

/* The binary form all values share, or STRS_TEXT. */
static int common_form(const struct str *v, size_t n)
{
    int form = n >= 4 ? form_of(v[0]) : STRS_TEXT;
    for (size_t i = 1; i < n && form != STRS_TEXT; i++)
        if (!has_form(v[i], form))
            form = STRS_TEXT;
    return form;
}

/* Hex digits of s, dashes skipped, as bytes. */
static uint8_t *put_unhex(uint8_t *out, struct str s)
{
    for (size_t i = 0; i + 1 < s.n; i += 2) {
        if (s.p[i] == '-')
            i++;
        *out++ = (uint8_t)(hex_digit(s.p[i]) << 4 | hex_digit(s.p[i + 1]));
    }
    return out;
}

static void pack_lens(struct packer *p, const struct str *v, size_t n, unsigned divide)
{
    uint64_t *len = malloc(n * sizeof *len);
    if (!len) {
        p->out->failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++)
        len[i] = v[i].n / divide;
    pack_nums(p, len, n);
    free(len);
}

static void pack_ipv4(struct packer *p, const struct str *v, size_t n)
{
    uint64_t *ips = malloc(n * sizeof *ips);
    if (!ips) {
        p->out->failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t ip = 0;
        ensure(get_ipv4(v[i], &ip));
        ips[i] = ip;
    }
    pack_nums(p, ips, n);
    free(ips);
}

static void pack_values(struct packer *p, const struct str *v, size_t n)
{
    int form = common_form(v, n);
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += v[i].n;
    buf_add_char(p->out, (char)form);
    if (form == STRS_IPV4) {
        pack_ipv4(p, v, n);
        return;
    }
    if (form != STRS_UUID)
        pack_lens(p, v, n, form == STRS_HEX ? 2 : 1);
    struct buf heap = buf_init(SIZE_MAX);
    if (!buf_reserve(&heap, total + 1)) {
        p->out->failed = true;
        return;
    }
    uint8_t *at = (uint8_t *)heap.p;
    for (size_t i = 0; i < n; i++) {
        if (form != STRS_TEXT) {
            at = put_unhex(at, v[i]);
        } else if (v[i].n) {
            memcpy(at, v[i].p, v[i].n);
            at += v[i].n;
        }
    }
    pack_bytes(p, heap.p, (size_t)((char *)at - heap.p));
    buf_fini(&heap);
}

void pack_strs(struct packer *p, const uint64_t *ids, size_t n, const struct str *values,
               size_t distinct)
{
    if (!n)
        return;
    pack_varint(p->out, distinct);
    pack_nums(p, ids, n);
    pack_values(p, values, distinct);
}

/* --- decoding --- */

static void *bad(struct unpacker *u)
{
    u->bad = true;
    return NULL;
}

uint64_t unpack_varint(struct unpacker *u)
{
    uint64_t v;
    const uint8_t *next = u->bad ? NULL : varint_get(u->at, u->end, &v);
    if (!next) {
        u->bad = true;
        return 0;
    }
    u->at = next;
    return v;
}

uint64_t unpack_count(struct unpacker *u, uint64_t max)
{
    uint64_t v = unpack_varint(u);
    if (v > max)
        u->bad = true;
    return u->bad ? 0 : v;
}

uint64_t unpack_index(struct unpacker *u, uint64_t count)
{
    uint64_t v = unpack_varint(u);
    if (v >= count)
        u->bad = true;
    return u->bad ? 0 : v;
}

struct str unpack_raw(struct unpacker *u, size_t n)
{
    if (u->bad || n > (size_t)(u->end - u->at)) {
        u->bad = true;
        return STR_NONE;
    }
    struct str s = str_of(u->at, n);
    u->at += n;
    return s;
}

struct str unpack_str(struct unpacker *u)
{
    size_t n = unpack_count(u, (uint64_t)(u->end - u->at));
    return unpack_raw(u, n);
}

static unsigned unpack_byte(struct unpacker *u)
{
    struct str s = unpack_raw(u, 1);
    return s.n ? (unsigned char)s.p[0] : 0;
}

static const uint8_t *unpack_same(struct unpacker *u, size_t n)
{
    unsigned c = unpack_byte(u);
    uint8_t *out = u->bad ? NULL : arena_alloc(u->a, n, 1);
    if (!out)
        return bad(u);
    return memset(out, (int)c, n);
}

static const uint8_t *unpack_zstd(struct unpacker *u, size_t n)
{
    struct str in = unpack_str(u);
    uint8_t *out = u->bad ? NULL : arena_alloc(u->a, n, 8);
    if (!out || !zstd_unpack(u->zstd, in, out, n))
        return bad(u);
    return out;
}

const uint8_t *unpack_bytes(struct unpacker *u, size_t n)
{
    switch (unpack_byte(u)) {
    case BYTES_PLAIN:
        return (const uint8_t *)unpack_raw(u, n).p;
    case BYTES_SAME:
        return unpack_same(u, n);
    case BYTES_ZSTD:
        return unpack_zstd(u, n);
    default:
        return bad(u);
    }
}

static bool unpack_planes(struct unpacker *u, uint64_t *out, size_t n, uint64_t min, unsigned width)
{
    for (size_t i = 0; i < n; i++)
        out[i] = min;
    for (unsigned w = 0; w < width; w++) {
        const uint8_t *plane = unpack_bytes(u, n);
        if (u->bad || (n && !plane))
            return false;
        for (size_t i = 0; i < n; i++)
            out[i] += (uint64_t)plane[i] << (8 * w);
    }
    return true;
}

const uint64_t *unpack_nums(struct unpacker *u, size_t n)
{
    static const uint64_t none[1];
    if (!n || u->bad)
        return none;
    unsigned mode = unpack_byte(u), width = mode & NUMS_WIDTH;
    bool delta = mode & NUMS_DELTA;
    if (u->bad || width > 8 || mode > (NUMS_WIDTH | NUMS_DELTA) || n > COLUMN_VALUES_MAX)
        return bad(u);
    uint64_t first = delta ? unpack_varint(u) : 0, min = unpack_varint(u);
    uint64_t *out = u->bad ? NULL : arena_alloc(u->a, n * sizeof *out, 8);
    if (!out || !unpack_planes(u, out + delta, n - delta, min, width))
        return bad(u);
    if (delta) {
        out[0] = first;
        for (size_t i = 1; i < n; i++)
            out[i] = out[i - 1] + (uint64_t)unzigzag(out[i]);
    }
    return out;
}

static char *put_hex(char *out, uint8_t byte)
{
    static const char digits[] = "0123456789abcdef";
    *out++ = digits[byte >> 4];
    *out++ = digits[byte & 15];
    return out;
}

static char *put_ipv4(char *out, uint32_t ip)
{
    for (int shift = 24; shift >= 0; shift -= 8) {
        unsigned v = (ip >> shift) & 255;
        if (v >= 100)
            *out++ = (char)('0' + v / 100);
        if (v >= 10)
            *out++ = (char)('0' + v / 10 % 10);
        *out++ = (char)('0' + v % 10);
        if (shift)
            *out++ = '.';
    }
    return out;
}

static bool unpack_uuids(struct unpacker *u, uint32_t *off, struct strs *s)
{
    const uint8_t *in = unpack_bytes(u, (size_t)s->distinct * 16);
    char *text = u->bad ? NULL : arena_alloc(u->a, (size_t)s->distinct * 36, 1), *at = text;
    if (!text)
        return false;
    for (uint32_t i = 0; i < s->distinct; i++) {
        off[i] = i * 36;
        for (size_t k = 0; k < 16; k++) {
            if (uuid_dash((size_t)(at - text) - off[i]))
                *at++ = '-';
            at = put_hex(at, *in++);
        }
    }
    off[s->distinct] = s->distinct * 36;
    s->text = text;
    return true;
}

static bool unpack_ipv4s(struct unpacker *u, uint32_t *off, struct strs *s)
{
    const uint64_t *ips = unpack_nums(u, s->distinct);
    char *text = u->bad ? NULL : arena_alloc(u->a, (size_t)s->distinct * 15, 1), *at = text;
    if (!text)
        return false;
    for (uint32_t i = 0; i < s->distinct; i++) {
        off[i] = (uint32_t)(at - text);
        at = put_ipv4(at, (uint32_t)ips[i]);
    }
    off[s->distinct] = (uint32_t)(at - text);
    s->text = text;
    return true;
}

/* Offsets from lengths of `unit` characters a piece; false past 32 bits. */
static bool sum_lens(const uint64_t *len, uint32_t n, unsigned unit, uint32_t *off)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++) {
        off[i] = (uint32_t)total;
        if (len[i] > INT32_MAX || (total += len[i] * unit) > INT32_MAX)
            return false;
    }
    off[n] = (uint32_t)total;
    return true;
}

static bool unpack_texts(struct unpacker *u, uint32_t *off, struct strs *s, bool hex)
{
    const uint64_t *len = unpack_nums(u, s->distinct);
    if (u->bad || !sum_lens(len, s->distinct, hex ? 2 : 1, off))
        return false;
    size_t total = off[s->distinct], stored = hex ? total / 2 : total;
    const uint8_t *in = unpack_bytes(u, stored);
    if (u->bad)
        return false;
    s->text = (const char *)in;
    if (!hex)
        return true;
    char *text = arena_alloc(u->a, total, 1), *at = text;
    if (!text)
        return false;
    for (size_t i = 0; i < stored; i++)
        at = put_hex(at, in[i]);
    s->text = text;
    return true;
}

static bool ids_in_range(const uint64_t *id, size_t n, uint64_t distinct)
{
    uint64_t max = 0;
    for (size_t i = 0; i < n; i++)
        max = id[i] > max ? id[i] : max;
    return max < distinct;
}

bool unpack_strs(struct unpacker *u, size_t n, struct strs *out)
{
    *out = (struct strs){.n = (uint32_t)n};
    if (!n)
        return true;
    out->distinct = (uint32_t)unpack_count(u, n);
    out->id = unpack_nums(u, n);
    unsigned form = unpack_byte(u);
    uint32_t *off = u->bad ? NULL : arena_alloc(u->a, (out->distinct + (size_t)1) * sizeof *off, 4);
    if (!off || !ids_in_range(out->id, n, out->distinct))
        return !(u->bad = true);
    out->off = off;
    bool ok = form == STRS_UUID   ? unpack_uuids(u, off, out)
              : form == STRS_IPV4 ? unpack_ipv4s(u, off, out)
              : form < STRS_FORMS ? unpack_texts(u, off, out, form == STRS_HEX)
                                  : false;
    u->bad |= !ok;
    return ok;
}
