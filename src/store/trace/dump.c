/* SPDX-License-Identifier: Apache-2.0 */
#include "store/trace/dump.h"

#include "base/num.h"
#include "store/trace/block_format.h"
#include "store/trace/store_parts.h"

#include <stdlib.h>

#define ROW_TEXT_MAX (1 * MIB)

/* --- rows --- */

void dump_begin(struct dump *d, const char *kind)
{
    arena_reset(&d->text);
    d->kind = kind;
    d->field_n = 0;
}

static void add(struct dump *d, const char *name, struct str text, uint64_t number)
{
    ensure(d->field_n < DUMP_FIELDS_MAX);
    d->fields[d->field_n++] = (struct dump_field){name, text, number};
}

void dump_number(struct dump *d, const char *name, uint64_t v)
{
    add(d, name, STR_NONE, v);
}

void dump_text(struct dump *d, const char *name, struct str s)
{
    struct str copy = arena_str(&d->text, s);
    add(d, name, copy.p ? copy : STR("(too long)"), 0);
}

void dump_time(struct dump *d, const char *name, uint64_t unix_ns)
{
    char text[NUM_TEXT_MAX];
    dump_text(d, name, str_of(text, num_put_rfc3339(text, unix_ns)));
}

void dump_checksum(struct dump *d, bool ok)
{
    dump_text(d, "checksum", ok ? STR("ok") : STR("bad"));
    d->bad += !ok;
}

void dump_end(struct dump *d)
{
    d->row(d->arg, d->kind, d->fields, d->field_n);
}

void dump_damage(struct dump *d, uint64_t at, uint64_t bytes, struct str what)
{
    dump_begin(d, "damage");
    dump_number(d, "at", at);
    dump_number(d, "bytes", bytes);
    dump_text(d, "what", what);
    dump_end(d);
    d->bad++;
}

/* --- a log segment --- */

struct dump_log {
    struct dump *d;
    uint64_t rows;
};

static void dump_batch(struct dump *d, struct str payload)
{
    struct batch *b;
    struct err e;
    if (batch_open(payload, &b, &e) != E_OK) {
        dump_text(d, "batch", str_from_c(err_msg(&e)));
        d->bad++;
        return;
    }
    dump_text(d, "tenant", b->tenant);
    dump_number(d, "spans", b->head->span_count);
    dump_time(d, "received", b->head->received_ns);
    dump_time(d, "first", b->head->min_ns);
    dump_time(d, "last", b->head->max_ns);
    batch_unref(b);
}

static enum errc dump_place(void *arg, const struct wal_place *p)
{
    struct dump_log *l = arg;
    struct dump *d = l->d;
    if (p->state == WAL_BAD_HEAD) {
        dump_damage(d, p->at, p->bytes, STR("no record can be read here"));
        return E_OK;
    }
    if (p->state == WAL_RECORD && l->rows++ >= d->head)
        return E_OK;
    dump_begin(d, "record");
    dump_number(d, "at", p->at);
    dump_number(d, "index", p->index);
    dump_number(d, "bytes", p->payload.n);
    dump_checksum(d, p->state == WAL_RECORD);
    dump_batch(d, p->payload);
    dump_end(d);
    return E_OK;
}

static enum errc dump_segment(struct dump *d, const char *path, struct err *e)
{
    struct wal_head_copy heads[2];
    struct wal_report report = {0};
    struct dump_log log = {.d = d};
    enum errc rc = wal_read_heads(d->os, path, heads, e);
    for (int i = 0; rc == E_OK && i < 2; i++) {
        dump_begin(d, "head");
        dump_number(d, "at", heads[i].at);
        dump_number(d, "version", heads[i].version);
        dump_number(d, "sequence", heads[i].seq);
        dump_number(d, "size", heads[i].size);
        dump_checksum(d, heads[i].ok);
        dump_end(d);
    }
    if (rc == E_OK)
        rc = wal_scan_file(d->os, path, 0, dump_place, &log, &report, e);
    if (rc == E_NOT_FOUND && !heads[0].ok && !heads[1].ok) /* a file that was never used */
        return E_OK;
    if (rc != E_OK)
        return rc;
    dump_begin(d, "end");
    dump_number(d, "at", report.end);
    dump_number(d, "records", report.records);
    dump_number(d, "damaged", report.damaged_records);
    dump_number(d, "unfinished", report.torn_bytes);
    dump_end(d);
    return E_OK;
}

/* --- a manifest --- */

static const char *const tags[EDIT_TAG_COUNT] = {
    [EDIT_TENANT] = "TENANT",   [EDIT_SERVICE] = "SERVICE", [EDIT_OPERATION] = "OPERATION",
    [EDIT_EDGE] = "EDGE",       [EDIT_ORPHAN] = "ORPHAN",   [EDIT_SETTLED] = "SETTLED",
    [EDIT_BLOCK] = "BLOCK",     [EDIT_DROP] = "DROP",       [EDIT_RELEASE] = "RELEASE",
    [EDIT_NEXT_ID] = "NEXT_ID", [EDIT_KEPT] = "KEPT"};

static void dump_names(struct dump *d, const struct edit_item *i)
{
    if (i->tag == EDIT_OPERATION) {
        dump_number(d, "service", i->service);
        dump_number(d, "kind", i->kind);
    }
    dump_text(d, "name", i->name);
    if (i->tag != EDIT_TENANT && i->seen_ns)
        dump_time(d, "seen", i->seen_ns);
}

static void dump_dependency(struct dump *d, const struct edit_item *i)
{
    if (i->tag == EDIT_EDGE) {
        dump_time(d, "minute", i->edge.minute * (60 * NS_PER_S));
        dump_number(d, "minutes", i->edge.width);
        dump_number(d, "parent", i->edge.parent);
        dump_number(d, "child", i->edge.child);
        dump_number(d, "calls", i->edge.calls);
        return;
    }
    dump_number(d, "print", i->orphan.print);
    if (i->tag == EDIT_SETTLED)
        return;
    dump_number(d, "service", i->orphan.service);
    dump_time(d, "minute", i->orphan.minute * (60 * NS_PER_S));
    dump_time(d, "noted", i->orphan.noted * (60 * NS_PER_S));
}

static void dump_manifest_block(struct dump *d, const struct edit_item *i)
{
    dump_number(d, "id", i->block.id);
    dump_number(d, "spans", i->block.spans);
    dump_number(d, "bytes", i->block.bytes);
    dump_time(d, "first", i->block.min_ns);
    dump_time(d, "last", i->block.max_ns);
    dump_time(d, "end", i->block.end_ns);
}

static void dump_item(struct dump *d, const struct edit_item *i)
{
    dump_begin(d, tags[i->tag]);
    switch (i->tag) {
    case EDIT_TENANT:
    case EDIT_SERVICE:
    case EDIT_OPERATION:
        dump_names(d, i);
        break;
    case EDIT_EDGE:
    case EDIT_ORPHAN:
    case EDIT_SETTLED:
        dump_dependency(d, i);
        break;
    case EDIT_BLOCK:
        dump_manifest_block(d, i);
        break;
    case EDIT_DROP:
    case EDIT_RELEASE:
    case EDIT_NEXT_ID:
        dump_number(d, i->tag == EDIT_RELEASE ? "sequence" : "id", i->number);
        break;
    case EDIT_KEPT:
        dump_number(d, "id", i->kept.id);
        dump_number(d, "for_ns", i->kept.for_ns);
        break;
    case EDIT_TAG_COUNT:
        break;
    }
    dump_end(d);
}

static void dump_edit(void *arg, const struct manifest_place *p)
{
    struct dump_log *l = arg;
    struct dump *d = l->d;
    if (p->gap) {
        dump_damage(d, p->at, p->bytes, STR("no edit can be read here"));
        return;
    }
    if (!p->head && p->ok && l->rows++ >= d->head)
        return;
    dump_begin(d, p->head ? "head" : "edit");
    dump_number(d, "at", p->at);
    dump_number(d, p->head ? "version" : "index", p->index);
    dump_number(d, "bytes", p->head ? p->bytes : p->payload.n);
    dump_checksum(d, p->ok);
    dump_end(d);
    if (p->head || !p->ok)
        return;
    struct edit_cursor c = edit_cursor_of(p->payload);
    struct edit_item item;
    while (edit_next(&c, &item))
        dump_item(d, &item);
    if (c.bad)
        dump_damage(d, p->at, p->bytes, STR("the edit has an item that is none"));
}

static enum errc dump_manifest(struct dump *d, const char *path, struct err *e)
{
    struct dump_log log = {.d = d};
    return manifest_walk(d->os, path, dump_edit, &log, e);
}

/* --- any file --- */

enum dump_kind { DUMP_UNKNOWN, DUMP_LOG, DUMP_BLOCK, DUMP_MANIFEST };

/* By how it begins; when that is damaged, by its name. */
static enum errc kind_of(struct dump *d, const char *path, enum dump_kind *out, struct err *e)
{
    static const char block[] = "\x89LYMKBK1";
    struct os_file *f;
    char magic[8] = {0};
    size_t got = 0;
    struct str name = str_from_c(path);
    struct str end = str_skip(name, name.n < 4 ? 0 : name.n - 4);
    enum errc rc = os_open(d->os, path, OS_READ, &f, e);
    if (rc != E_OK)
        return rc;
    rc = os_pread(f, magic, sizeof magic, 0, &got, e);
    os_close(f);
    *out = DUMP_UNKNOWN;
    if (memcmp(magic, "LYMERWAL", 8) == 0 || str_eq(end, STR(".log")))
        *out = DUMP_LOG;
    else if (memcmp(magic, block, 8) == 0 || str_eq(end, STR(".blk")))
        *out = DUMP_BLOCK;
    else if (memcmp(magic, "LYMERMAN", 8) == 0 || str_eq(end, STR("FEST")))
        *out = DUMP_MANIFEST;
    return rc == E_OK && *out == DUMP_UNKNOWN ? fail(e, E_INVALID, "%s is no file of a store", path)
                                              : rc;
}

static enum errc dump_file(struct dump *d, const char *path, struct err *e)
{
    static const char *const names[] = {"", "log", "block", "manifest"};
    static enum errc (*const dumpers[])(struct dump *, const char *, struct err *) = {
        NULL, dump_segment, dump_block, dump_manifest};
    enum dump_kind kind;
    struct err why;
    enum errc rc = kind_of(d, path, &kind, e);
    if (rc != E_OK)
        return rc;
    dump_begin(d, "file");
    dump_text(d, "path", str_from_c(path));
    dump_text(d, "is", str_from_c(names[kind]));
    dump_end(d);
    rc = dumpers[kind](d, path, &why);
    if (rc != E_OK)
        dump_damage(d, 0, 0, str_from_c(err_msg(&why)));
    return E_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Files that are gone by then, as in a live directory, are passed over. */
static enum errc dump_folder(struct dump *d, const char *dir, const char *folder, struct err *e)
{
    struct name_list names;
    char *path = store_path(dir, folder);
    enum errc rc = name_list_read(d->os, path, &names, e);
    if (names.n)
        qsort(names.v, names.n, sizeof names.v[0], by_name);
    for (size_t i = 0; rc == E_OK && i < names.n; i++) {
        char *file = store_path(path, names.v[i]);
        rc = dump_file(d, file, e);
        rc = rc == E_NOT_FOUND || rc == E_INVALID ? E_OK : rc;
        free(file);
    }
    name_list_fini(&names);
    free(path);
    return rc == E_NOT_FOUND ? E_OK : rc;
}

static enum errc dump_directory(struct dump *d, const char *dir, struct err *e)
{
    struct buf format = buf_init(256);
    char *path = store_path(dir, "FORMAT"), *manifest = store_path(dir, MANIFEST_NAME);
    enum errc rc = os_read_file(d->os, path, &format, e);
    if (rc == E_OK) {
        dump_begin(d, "file");
        dump_text(d, "path", str_from_c(path));
        dump_text(d, "is", str_trim(buf_str(&format)));
        dump_end(d);
        rc = dump_file(d, manifest, e);
    }
    if (rc == E_OK)
        rc = dump_folder(d, dir, "wal", e);
    if (rc == E_OK)
        rc = dump_folder(d, dir, "blocks", e);
    buf_fini(&format);
    free(path);
    free(manifest);
    return rc;
}

static void ignore_name(void *arg, const char *name)
{
    (void)arg;
    (void)name;
}

enum errc store_dump(struct os *os, const char *path, uint64_t head, dump_row *row, void *arg,
                     uint64_t *bad, struct err *e)
{
    struct dump d = {.os = os,
                     .row = row,
                     .arg = arg,
                     .head = head ? head : UINT64_MAX,
                     .text = arena_init(ROW_TEXT_MAX)};
    bool is_dir = os_list(os, path, ignore_name, NULL, NULL) == E_OK;
    enum errc rc = is_dir ? dump_directory(&d, path, e) : dump_file(&d, path, e);
    *bad = d.bad;
    arena_fini(&d.text);
    return rc;
}
