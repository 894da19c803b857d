/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of a store that may be written to meanwhile, from outside: nothing is asked of the process
 * that holds it, and nothing of it waits.
 *
 * Why the copy holds everything that was acknowledged when the backup began: the order is log, then
 * manifest, then blocks, and each of the three is read when what the one before has given up can
 * only be in it.
 *
 *   1. Log. An acknowledged batch lies in a segment, or in a block that the manifest names. Each
 *      segment is copied up to its last readable record, under the sequence number that it had.
 *      When it is given another turn meanwhile, its release was durable before.
 *   2. Manifest, read after the log: it names the blocks of every segment that was released until
 *      then. Copies of those are of no use, some are of two turns, and are removed.
 *   3. Blocks, which never change. One that is gone was given up by an edit: the manifest is read
 *      again, which only moves on, so step 1 still holds. Each round finds the blocks of the round
 *      before in place.
 *
 * A round ends in another one only when the store gave up a block meanwhile.
 *
 * The copy's FORMAT file says from the beginning that it is not finished, and is replaced last. */
#include "store/trace/care.h"
#include "store/trace/store_parts.h"

#include <stdio.h>
#include <stdlib.h>

struct copied_segment {
    char *path;
    uint64_t seq;
    struct wal_report report;
};

struct backup {
    struct os *os;
    const char *from, *to;
    bool copy;
    struct copied_segment *segments;
    size_t segment_n, segment_cap;
    uint64_t *blocks; /* ids that are in place */
    bool *linked;
    size_t block_n, block_cap;
    struct buf manifest;
    struct manifest_state_in state; /* what it says */
};

/* --- the place --- */

static void note_entry(void *arg, const char *name)
{
    (void)name;
    *(bool *)arg = true;
}

static enum errc make_place(const struct backup *b, struct err *e)
{
    static const char *const folders[] = {"blocks", "wal"};
    bool taken = false;
    enum errc rc = os_list(b->os, b->to, note_entry, &taken, e);
    if (rc == E_OK && taken)
        return fail(e, E_EXISTS, "%s is not empty", b->to);
    rc = rc == E_NOT_FOUND ? os_mkdir(b->os, b->to, e) : rc;
    if (rc == E_OK)
        rc = os_replace_file(b->os, b->to, "FORMAT", STR(STORE_UNFINISHED "\n"), e);
    for (size_t i = 0; rc == E_OK && i < ARRAY_LEN(folders); i++) {
        char *path = store_path(b->to, folders[i]);
        rc = os_mkdir(b->os, path, e);
        free(path);
    }
    return rc;
}

/* --- the manifest --- */

static enum errc read_manifest(struct backup *b, struct err *e)
{
    struct manifest_report report;
    store_state_free(&b->state);
    store_state_init(&b->state);
    buf_reset(&b->manifest);
    enum errc rc = manifest_read(b->os, b->from, &b->manifest, manifest_state_apply, &b->state,
                                 &report, e);
    if (rc == E_NOT_FOUND || (rc == E_OK && report.damaged_edits))
        rc = fail(e, E_CORRUPT, "the manifest of %s is damaged", b->from);
    return rc;
}

/* --- the log --- */

static enum errc copy_segment(struct backup *b, const char *name, struct err *e)
{
    char inner[64];
    struct copied_segment s;
    struct str n = str_from_c(name);
    if (n.n != 20 || !str_eq(str_skip(n, 16), STR(".log")))
        return E_OK; /* not a segment */
    snprintf(inner, sizeof inner, "wal/%s", name);
    char *from = store_path(b->from, inner);
    s.path = store_path(b->to, inner);
    enum errc rc = wal_copy_file(b->os, from, s.path, b->state.released, &s.seq, &s.report, e);
    free(from);
    if (rc != E_OK) {
        free(s.path);
        return rc == E_NOT_FOUND ? E_OK : rc; /* a spare, or removed since */
    }
    if (b->segment_n == b->segment_cap) {
        b->segment_cap = b->segment_cap ? 2 * b->segment_cap : 8;
        b->segments = xrealloc(b->segments, b->segment_cap * sizeof *b->segments);
    }
    b->segments[b->segment_n++] = s;
    return E_OK;
}

static enum errc copy_log(struct backup *b, struct err *e)
{
    struct name_list names;
    char *dir = store_path(b->from, "wal");
    enum errc rc = name_list_read(b->os, dir, &names, e);
    for (size_t i = 0; rc == E_OK && i < names.n; i++)
        rc = copy_segment(b, names.v[i], e);
    name_list_fini(&names);
    free(dir);
    return rc;
}

/* Segments whose batches are in blocks by now. */
static enum errc drop_released(struct backup *b, struct err *e)
{
    size_t kept = 0;
    enum errc rc = E_OK;
    for (size_t i = 0; i < b->segment_n; i++) {
        struct copied_segment *s = &b->segments[i];
        if (rc == E_OK && s->seq <= b->state.released) {
            rc = os_unlink(b->os, s->path, e);
            free(s->path);
        } else {
            b->segments[kept++] = *s;
        }
    }
    b->segment_n = kept;
    return rc;
}

/* --- blocks --- */

static bool is_in_place(const struct backup *b, uint64_t id)
{
    for (size_t i = 0; i < b->block_n; i++)
        if (b->blocks[i] == id)
            return true;
    return false;
}

static char *block_path(const struct backup *b, const char *dir, const struct manifest_block *mb)
{
    char name[STORE_BLOCK_FILE], inner[STORE_BLOCK_FILE + 8];
    store_block_file(mb->id, catalog_tenant_name(b->state.catalog, mb->tenant), name);
    snprintf(inner, sizeof inner, "blocks/%s", name);
    return store_path(dir, inner);
}

/* E_NOT_FOUND when it is gone. */
static enum errc take_block(struct backup *b, const struct manifest_block *mb, struct err *e)
{
    bool linked = false;
    char *from = block_path(b, b->from, mb), *to = block_path(b, b->to, mb);
    enum errc rc = b->copy ? os_copy_file(b->os, from, to, e)
                           : os_link_or_copy(b->os, from, to, &linked, e);
    free(from);
    free(to);
    if (rc != E_OK)
        return rc;
    if (b->block_n == b->block_cap) {
        b->block_cap = b->block_cap ? 2 * b->block_cap : 64;
        b->blocks = xrealloc(b->blocks, b->block_cap * sizeof *b->blocks);
        b->linked = xrealloc(b->linked, b->block_cap * sizeof *b->linked);
    }
    b->blocks[b->block_n] = mb->id;
    b->linked[b->block_n++] = linked;
    return E_OK;
}

/* One round: the blocks that the manifest names now. E_NOT_FOUND: one of them is gone; *gone. */
static enum errc take_blocks(struct backup *b, uint64_t *gone, struct err *e)
{
    enum errc rc = E_OK;
    for (size_t i = 0; rc == E_OK && i < b->state.block_n; i++) {
        const struct manifest_block *mb = &b->state.blocks[i];
        if (is_in_place(b, mb->id))
            continue;
        *gone = mb->id;
        rc = take_block(b, mb, e);
    }
    return rc;
}

static bool is_named(const struct backup *b, uint64_t id)
{
    for (size_t i = 0; i < b->state.block_n; i++)
        if (b->state.blocks[i].id == id)
            return true;
    return false;
}

static enum errc copy_blocks(struct backup *b, struct err *e)
{
    uint64_t gone;
    enum errc rc;
    while ((rc = take_blocks(b, &gone, e)) == E_NOT_FOUND) {
        if ((rc = read_manifest(b, e)) != E_OK)
            return rc;
        if (is_named(b, gone))
            return fail(e, E_CORRUPT, "block %016llx of %s is not there", (unsigned long long)gone,
                        b->from);
    }
    return rc;
}

/* Blocks of an earlier round that were given up since. */
static enum errc drop_strays(const struct backup *b, const char *dir, struct err *e)
{
    struct name_list names;
    enum errc rc = name_list_read(b->os, dir, &names, e);
    for (size_t i = 0; rc == E_OK && i < names.n; i++) {
        uint64_t id;
        struct str tenant;
        char *path = store_path(dir, names.v[i]);
        if (store_block_name(names.v[i], &id, &tenant) && !is_named(b, id))
            rc = os_unlink(b->os, path, e);
        free(path);
    }
    name_list_fini(&names);
    return rc;
}

/* --- the end --- */

static enum errc sync_folders(const struct backup *b, struct err *e)
{
    char *blocks = store_path(b->to, "blocks"), *wal = store_path(b->to, "wal");
    enum errc rc = drop_strays(b, blocks, e);
    if (rc == E_OK)
        rc = os_sync_dir(b->os, blocks, e);
    if (rc == E_OK)
        rc = os_sync_dir(b->os, wal, e);
    free(blocks);
    free(wal);
    return rc;
}

static enum errc finish(const struct backup *b, struct err *e)
{
    char format[64];
    int n = snprintf(format, sizeof format, STORE_FORMAT_TEXT "%d\n", STORE_FORMAT);
    enum errc rc = sync_folders(b, e);
    if (rc == E_OK)
        rc = os_replace_file(b->os, b->to, MANIFEST_NAME, buf_str(&b->manifest), e);
    return rc == E_OK ? os_replace_file(b->os, b->to, "FORMAT", str_of(format, (size_t)n), e) : rc;
}

static void report(const struct backup *b, struct backup_report *out)
{
    *out = (struct backup_report){.blocks = b->state.block_n, .segments = b->segment_n};
    for (size_t i = 0; i < b->state.block_n; i++) {
        out->spans += b->state.blocks[i].spans;
        out->block_bytes += b->state.blocks[i].bytes;
    }
    for (size_t i = 0; i < b->block_n; i++)
        out->linked += b->linked[i] && is_named(b, b->blocks[i]);
    for (size_t i = 0; i < b->segment_n; i++) {
        out->records += b->segments[i].report.records;
        out->log_bytes += b->segments[i].report.end;
    }
}

static void backup_fini(struct backup *b)
{
    for (size_t i = 0; i < b->segment_n; i++)
        free(b->segments[i].path);
    free(b->segments);
    free(b->blocks);
    free(b->linked);
    buf_fini(&b->manifest);
    store_state_free(&b->state);
}

enum errc store_backup(struct os *os, const char *from, const char *to, bool copy,
                       struct backup_report *out, struct err *e)
{
    struct backup b = {
        .os = os, .from = from, .to = to, .copy = copy, .manifest = buf_init(MANIFEST_MAX)};
    store_state_init(&b.state);
    enum errc rc = store_check_there(os, from, e);
    if (rc == E_OK)
        rc = read_manifest(&b, e); /* which segments are worth a copy */
    if (rc == E_OK)
        rc = make_place(&b, e);
    if (rc == E_OK)
        rc = copy_log(&b, e);
    if (rc == E_OK)
        rc = read_manifest(&b, e);
    if (rc == E_OK)
        rc = copy_blocks(&b, e);
    if (rc == E_OK)
        rc = drop_released(&b, e);
    if (rc == E_OK)
        rc = finish(&b, e);
    if (rc == E_OK)
        report(&b, out);
    backup_fini(&b);
    return rc;
}
