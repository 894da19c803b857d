/* SPDX-License-Identifier: Apache-2.0 */
#include "store/trace/block_read.h"
#include "store/trace/dump.h"

enum codec { CODEC_NUMBERS, CODEC_BYTES, CODEC_STRINGS };

static const struct {
    const char *name;
    enum codec codec;
} fixed[COL_FIXED] = {
#define DUMP_COLUMN(id, name_) [COL_##id] = {name_, CODEC_NUMBERS},
    BLOCK_COLUMNS(DUMP_COLUMN)
#undef DUMP_COLUMN
};

static enum codec codec_of(const struct shared *s, uint32_t no)
{
    switch (no) {
    case COL_TRACE_ID:
    case COL_SPAN_ID:
    case COL_ORPHAN:
    case COL_LINK_TRACE_ID:
    case COL_LINK_SPAN_ID:
        return CODEC_BYTES;
    case COL_TRACE_STATE:
    case COL_MESSAGE:
    case COL_LINK_STATE:
        return CODEC_STRINGS;
    default:
        return no >= COL_ATTRS && attr_is_str(s->cols[no - COL_ATTRS].type) ? CODEC_STRINGS
                                                                            : CODEC_NUMBERS;
    }
}

/* What the first bytes of a stored column say of how it is packed. */
static void dump_codec(struct dump *d, enum codec codec, const uint8_t *p, size_t n)
{
    static const char *const names[] = {"numbers", "bytes", "strings"};
    static const char *const how[] = {"plain", "repeated", "zstd"};
    dump_text(d, "codec", str_from_c(names[codec]));
    if (!n)
        return;
    struct unpacker u = {.at = p, .end = p + n};
    if (codec == CODEC_NUMBERS) {
        dump_number(d, "width", p[0] & 15);
        dump_number(d, "delta", p[0] >> 4 & 1);
    } else if (codec == CODEC_STRINGS) {
        dump_number(d, "distinct", unpack_varint(&u));
    } else if (p[0] < ARRAY_LEN(how)) {
        dump_text(d, "stored", str_from_c(how[p[0]]));
    }
}

/* A piece of the file whose damage is a row, not the end. NULL when it is bad. */
static const uint8_t *piece(struct reader *r, uint64_t at, uint64_t len, uint32_t crc)
{
    const uint8_t *p = reader_bytes(r, at, len, crc, "a piece");
    r->code = E_OK;
    return p;
}

static void dump_column(struct dump *d, struct rows *g, const struct rows_col *c)
{
    static const char *const tables[] = {"span", "event", "link"};
    static const char *const types[ATTR_TYPE_COUNT] = {"empty",  "string", "bool",  "int",
                                                       "double", "bytes",  "array", "map"};
    const struct shared *s = g->s;
    uint32_t attr = c->no - COL_ATTRS;
    const uint8_t *p = c->tail ? NULL : piece(g->r, c->at, c->len, c->crc);
    dump_begin(d, "column");
    dump_number(d, "no", c->no);
    if (c->no < COL_FIXED) {
        dump_text(d, "name", str_from_c(fixed[c->no].name));
    } else if (c->no >= COL_ATTRS) {
        dump_text(d, "table", str_from_c(tables[s->cols[attr].scope]));
        dump_text(d, "type", str_from_c(types[s->cols[attr].type]));
        dump_text(d, "key", s->strings[s->cols[attr].key]);
    }
    dump_number(d, "bytes", c->len);
    if (c->tail) {
        dump_codec(d, codec_of(s, c->no), g->tail ? g->tail + c->at : NULL, g->tail ? c->len : 0);
        dump_text(d, "in", STR("small"));
    } else {
        dump_number(d, "at", c->at);
        dump_codec(d, codec_of(s, c->no), p, p ? c->len : 0);
        dump_checksum(d, p != NULL);
    }
    dump_end(d);
}

/* The chunk of the small columns, unpacked for their rows. */
static void dump_small(struct dump *d, struct rows *g)
{
    const uint8_t *p = piece(g->r, g->tail_at, g->tail_len, g->tail_crc);
    struct unpacker u = reader_unpacker(g->r, p, g->tail_len);
    if (p && g->tail_raw <= READER_BYTES_MAX)
        g->tail = unpack_bytes(&u, g->tail_raw);
    dump_begin(d, "small");
    dump_number(d, "at", g->tail_at);
    dump_number(d, "bytes", g->tail_len);
    dump_number(d, "raw", g->tail_raw);
    dump_checksum(d, p != NULL);
    dump_end(d);
}

static void dump_filter(struct dump *d, struct reader *r, const struct group *g)
{
    uint64_t at = g->data_off + g->data_len + g->dir_len, bad = 0;
    for (uint64_t off = 0; off < g->filter_len; off += FILTER_PAGE_BYTES) {
        uint8_t page[FILTER_PAGE_BYTES];
        size_t got = 0;
        bool ok = os_pread(r->b->file, page, sizeof page, at + off, &got, NULL) == E_OK &&
                  got == sizeof page && filter_page_ok(page);
        bad += !ok;
    }
    dump_begin(d, "filter");
    dump_number(d, "at", at);
    dump_number(d, "pages", g->filter_len / FILTER_PAGE_BYTES);
    dump_number(d, "bad", bad);
    dump_end(d);
    d->bad += bad;
}

static void dump_group(struct dump *d, struct block *b, uint32_t no)
{
    struct reader *r = reader_take(b, NULL);
    const struct shared *s = shared_read(r);
    const struct group *g = &b->groups[no];
    struct rows rows;
    bool open = s && rows_open(r, s, no, &rows);
    r->code = E_OK;
    dump_begin(d, "group");
    dump_number(d, "no", no);
    dump_number(d, "at", g->data_off);
    dump_number(d, "rows", g->rows);
    dump_number(d, "parts", g->parts);
    dump_number(d, "continues", g->continues);
    dump_time(d, "first", g->min_ns);
    dump_time(d, "last", g->max_ns);
    dump_number(d, "longest_ns", g->max_duration_ns);
    dump_number(d, "chunks", g->data_len);
    dump_number(d, "directory", g->dir_len);
    dump_number(d, "filter", g->filter_len);
    dump_checksum(d, piece(r, g->data_off + g->data_len, g->dir_len, g->dir_crc) != NULL);
    dump_end(d);
    if (open && rows.tail_len)
        dump_small(d, &rows);
    for (uint32_t i = 0; open && i < rows.col_count; i++)
        dump_column(d, &rows, &rows.cols[i]);
    if (!open)
        dump_damage(d, g->data_off, g->data_len, STR("the row group cannot be opened"));
    dump_filter(d, r, g);
    enum errc ignored = reader_give(r); /* what was bad is in the rows */
    (void)ignored;
}

static void dump_shared(struct dump *d, struct block *b)
{
    struct reader *r = reader_take(b, NULL);
    const struct shared *s = shared_read(r);
    dump_begin(d, "meta");
    dump_number(d, "at", b->shared_off);
    dump_number(d, "bytes", b->shared_len);
    dump_number(d, "raw", b->shared_raw);
    dump_checksum(d, s != NULL);
    if (s) {
        dump_number(d, "strings", s->string_count);
        dump_number(d, "columns", s->col_count);
        dump_number(d, "lists", s->list_count);
        dump_number(d, "origins", s->origin_count);
        dump_number(d, "span_shapes", s->shape_count[TABLE_SPAN]);
        dump_number(d, "event_shapes", s->shape_count[TABLE_EVENT]);
        dump_number(d, "link_shapes", s->shape_count[TABLE_LINK]);
    }
    dump_end(d);
    enum errc ignored = reader_give(r);
    (void)ignored;
}

static void dump_head(struct dump *d, struct block *b)
{
    struct block_head h = {0};
    size_t got = 0;
    bool ok = os_pread(b->file, &h, sizeof h, 0, &got, NULL) == E_OK && h.magic == BLOCK_MAGIC &&
              block_crc_ok(&h, offsetof(struct block_head, crc), h.crc);
    dump_begin(d, "head");
    dump_number(d, "at", 0);
    dump_number(d, "version", h.version);
    dump_checksum(d, ok);
    dump_end(d);
}

static void dump_tail(struct dump *d, const struct block *b, bool ok)
{
    dump_begin(d, "tail");
    dump_number(d, "at", b->meta.file_bytes - BLOCK_TRAILER_BYTES - b->tail_len);
    dump_number(d, "bytes", b->tail_len);
    dump_number(d, "spans", b->meta.span_count);
    dump_number(d, "traces", b->meta.trace_count);
    dump_number(d, "words", b->word_count);
    dump_number(d, "groups", b->group_count);
    dump_time(d, "first", b->meta.min_ns);
    dump_time(d, "last", b->meta.max_ns);
    dump_time(d, "end", b->meta.max_end_ns);
    dump_checksum(d, ok);
    dump_end(d);
}

enum errc dump_block(struct dump *d, const char *path, struct err *e)
{
    struct block *b;
    enum errc rc = block_open(d->os, path, &b, e);
    bool ok = rc == E_OK;
    if (!ok && block_open_damaged(d->os, path, &b, e) != E_OK)
        return rc;
    dump_head(d, b);
    for (uint32_t i = 0; i < b->group_count && i < d->head; i++)
        dump_group(d, b, i);
    dump_shared(d, b);
    dump_tail(d, b, ok);
    block_unref(b);
    return E_OK;
}
