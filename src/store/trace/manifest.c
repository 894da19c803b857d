/* SPDX-License-Identifier: Apache-2.0 */
/* Invariants
 * 1. An edit is committed by one write and one sync at the end of the file, or by replacing the
 * file by one that holds the whole state and the edit. Both are atomic: a crash leaves the state
 *    before or after.
 * 2. After a failed write, sync or replacement nothing is appended any more: the end of the file is
 *    unknown. The next commit replaces it. The same holds for a file found torn or damaged.
 * 3. Records are framed as in the log (record.h), with a salt of their own for each file. */
#include "store/trace/manifest.h"

#include "base/log.h"
#include "base/stats.h"
#include "store/trace/record.h"

#include <stdio.h>
#include <stdlib.h>

#define MANIFEST_MAGIC   "LYMERMAN"
#define MANIFEST_VERSION 2 /* written; 1 is read, too */

struct manifest_head {
    char magic[8];
    uint32_t version, zero;
    uint64_t salt;
    uint32_t zero2, crc; /* of all before */
};
static_assert(sizeof(struct manifest_head) == 32, "on disk");

struct manifest {
    struct os *os;
    char *dir, *path;
    struct os_file *f; /* NULL: the next commit replaces the file */
    uint64_t salt, end, rewritten_bytes;
    uint32_t index;
};

/* --- reading --- */

struct loaded {
    uint64_t salt, end;
    uint32_t next_index;
    uint32_t version;
    bool clean; /* ends with a whole record */
};

static enum errc head_check(struct str file, const char *path, uint64_t *salt, uint32_t *version,
                            struct err *e)
{
    struct manifest_head h;
    if (file.n < sizeof h)
        return fail(e, E_CORRUPT, "%s is too short to be a manifest", path);
    memcpy(&h, file.p, sizeof h);
    if (memcmp(h.magic, MANIFEST_MAGIC, sizeof h.magic) != 0 ||
        h.crc != crc32c(0, &h, offsetof(struct manifest_head, crc)))
        return fail(e, E_CORRUPT, "%s does not begin as a manifest does", path);
    if (!h.version || h.version > MANIFEST_VERSION)
        return fail(e, E_VERSION, "%s has format %u; this version reads formats up to %u", path,
                    h.version, MANIFEST_VERSION);
    *salt = h.salt;
    *version = h.version;
    return E_OK;
}

static bool record_at(struct str file, size_t at, const struct loaded *l, struct record_head *h)
{
    if (file.n - at < RECORD_HEAD || load_u64le(file.p + at) != l->salt)
        return false;
    memcpy(h, file.p + at, sizeof *h);
    return record_head_ok(h, l->salt, l->next_index, file.n - at);
}

/* Applies every readable record. Unreadable bytes with a readable record behind them are damage;
 * at the end they are an unfinished write. */
static void read_records(struct str file, struct loaded *l, manifest_apply *apply, void *arg,
                         struct manifest_report *report)
{
    size_t at = l->end, bad_from = 0;
    while (at < file.n) {
        struct record_head h;
        if (!record_at(file, at, l, &h)) {
            bad_from = bad_from ? bad_from : at;
            at += 8;
            continue;
        }
        struct str payload = str_of(file.p + at + RECORD_HEAD, h.len);
        bool ok = record_payload_ok(&h, payload) && apply(arg, payload) == E_OK;
        if (ok) {
            report->damaged_edits += bad_from != 0;
            report->edits++;
            bad_from = 0;
            l->end = at + record_bytes(h.len); /* past the file when its padding was cut off */
        } else if (!bad_from) {
            bad_from = at;
        }
        l->next_index = h.index + 1;
        at += record_bytes(h.len);
    }
    l->clean = !bad_from && !report->damaged_edits && l->end == file.n;
    report->torn_bytes += bad_from ? file.n - bad_from : 0;
}

static enum errc load_bytes(struct os *os, const char *path, struct buf *file, struct loaded *l,
                            manifest_apply *apply, void *arg, struct manifest_report *report,
                            struct err *e)
{
    *report = (struct manifest_report){0};
    *l = (struct loaded){.end = sizeof(struct manifest_head)};
    enum errc rc = os_read_file(os, path, file, e);
    if (rc == E_OK)
        rc = head_check(buf_str(file), path, &l->salt, &l->version, e);
    if (rc == E_OK)
        read_records(buf_str(file), l, apply, arg, report);
    return rc;
}

static enum errc load(struct os *os, const char *path, struct loaded *l, manifest_apply *apply,
                      void *arg, struct manifest_report *report, struct err *e)
{
    struct buf file = buf_init(MANIFEST_MAX);
    enum errc rc = load_bytes(os, path, &file, l, apply, arg, report, e);
    buf_fini(&file);
    return rc;
}

static char *manifest_path(const char *dir)
{
    struct buf path = buf_init(8 * KIB);
    buf_addf(&path, "%s/" MANIFEST_NAME, dir);
    buf_add_char(&path, 0);
    return buf_take(&path, NULL);
}

enum errc manifest_scan(struct os *os, const char *dir, manifest_apply *apply, void *arg,
                        struct manifest_report *report, struct err *e)
{
    struct loaded l;
    char *path = manifest_path(dir);
    enum errc rc = load(os, path, &l, apply, arg, report, e);
    free(path);
    return rc;
}

enum errc manifest_read(struct os *os, const char *dir, struct buf *bytes, manifest_apply *apply,
                        void *arg, struct manifest_report *report, struct err *e)
{
    struct loaded l;
    char *path = manifest_path(dir);
    enum errc rc = load_bytes(os, path, bytes, &l, apply, arg, report, e);
    free(path);
    if (rc == E_OK && l.end < bytes->n)
        bytes->n = (size_t)l.end;
    return rc;
}

static void walk_record(struct str file, size_t at, const struct record_head *h,
                        manifest_visit *visit, void *arg)
{
    struct manifest_place p = {.at = at,
                               .bytes = record_bytes(h->len),
                               .index = h->index,
                               .payload = str_of(file.p + at + RECORD_HEAD, h->len)};
    p.ok = record_payload_ok(h, p.payload);
    visit(arg, &p);
}

enum errc manifest_walk(struct os *os, const char *path, manifest_visit *visit, void *arg,
                        struct err *e)
{
    struct buf file = buf_init(MANIFEST_MAX);
    struct loaded l = {0};
    enum errc rc = os_read_file(os, path, &file, e);
    struct str s = buf_str(&file);
    if (rc == E_OK)
        rc = head_check(s, path, &l.salt, &l.version, e);
    if (rc == E_OK)
        visit(arg, &(struct manifest_place){.bytes = sizeof(struct manifest_head),
                                            .index = l.version,
                                            .head = true,
                                            .ok = true});
    size_t at = sizeof(struct manifest_head), bad_from = 0;
    while (rc == E_OK && at < s.n) {
        struct record_head h;
        bool found = record_at(s, at, &l, &h);
        if (!found && !bad_from)
            bad_from = at;
        if ((found || at + 8 >= s.n) && bad_from)
            visit(arg, &(struct manifest_place){
                           .at = bad_from, .bytes = (found ? at : s.n) - bad_from, .gap = true});
        if (found) {
            walk_record(s, at, &h, visit, arg);
            l.next_index = h.index + 1;
            bad_from = 0;
        }
        at += found ? record_bytes(h.len) : 8;
    }
    buf_fini(&file);
    return rc;
}

/* --- opening --- */

/* Readies the file for appending; when that fails the next commit replaces it. */
static void begin_append(struct manifest *m, uint64_t end)
{
    if (os_open(m->os, m->path, OS_WRITE, &m->f, NULL) != E_OK)
        m->f = NULL;
    m->end = end;
}

/* What was read may be in memory only: a process was killed between its write and its sync, or the
 * sync failed, after which the system takes the bytes for written. It must not be taken back by a
 * power cut once others act on it, for log segments are recycled and files removed because of it.
 * So it is written anew. A full disk is no reason not to start. */
static enum errc make_safe(const struct manifest *m, struct str bytes, struct err *e)
{
    enum errc rc = os_replace_file(m->os, m->dir, MANIFEST_NAME, bytes, e);
    if (rc == E_FULL)
        log_warn("store", "%s could not be written anew: %s", m->path, err_msg(e));
    return rc == E_FULL ? E_OK : rc;
}

enum errc manifest_open(struct manifest **out, struct os *os, const char *dir,
                        manifest_apply *apply, void *arg, struct manifest_report *report,
                        struct err *e)
{
    struct loaded l;
    struct buf file = buf_init(MANIFEST_MAX);
    struct manifest *m = xcalloc(1, sizeof *m);
    m->os = os;
    m->dir = xstrdup(dir);
    m->path = manifest_path(dir);
    enum errc rc = load_bytes(os, m->path, &file, &l, apply, arg, report, e);
    report->missing = rc == E_NOT_FOUND;
    report->unreadable = rc == E_CORRUPT;
    if (rc == E_OK)
        rc = make_safe(m, buf_str(&file), e);
    if (rc == E_OK) {
        m->salt = l.salt;
        m->index = l.next_index;
        m->rewritten_bytes = l.end / MANIFEST_GROWTH;
        if (l.clean && l.version == MANIFEST_VERSION) /* else the next commit replaces the file */
            begin_append(m, l.end);
    }
    buf_fini(&file);
    if (rc == E_OK || report->missing || report->unreadable) {
        *out = m;
        return E_OK;
    }
    manifest_close(m);
    return rc;
}

void manifest_close(struct manifest *m)
{
    if (!m)
        return;
    os_close(m->f);
    free(m->dir);
    free(m->path);
    free(m);
}

/* --- committing --- */

static void add_record(struct buf *out, uint64_t salt, uint32_t index, struct str payload)
{
    struct record_head h = record_head_of(salt, index, payload);
    buf_add(out, &h, sizeof h);
    buf_add_str(out, payload);
    buf_add_zero(out, round_up(payload.n, 8) - payload.n);
}

static enum errc append(struct manifest *m, struct str edit, struct err *e)
{
    struct buf out = buf_init(MANIFEST_MAX);
    add_record(&out, m->salt, m->index, edit);
    enum errc rc = buf_err(&out);
    if (rc == E_OK)
        rc = os_pwrite(m->f, buf_str(&out), m->end, e);
    if (rc == E_OK)
        rc = os_sync(m->f, e);
    if (rc == E_OK) {
        m->end += out.n;
        m->index++;
    } else {
        os_close(m->f);
        m->f = NULL;
    }
    buf_fini(&out);
    return rc;
}

static enum errc rewrite(struct manifest *m, struct str edit, manifest_state *state, void *arg,
                         struct err *e)
{
    struct buf file = buf_init(MANIFEST_MAX), whole = buf_init(MANIFEST_MAX);
    struct manifest_head h = {.version = MANIFEST_VERSION};
    memcpy(h.magic, MANIFEST_MAGIC, sizeof h.magic);
    os_random(m->os, &h.salt, sizeof h.salt);
    h.crc = crc32c(0, &h, offsetof(struct manifest_head, crc));
    buf_add(&file, &h, sizeof h);
    state(arg, &whole);
    add_record(&file, h.salt, 0, buf_str(&whole));
    add_record(&file, h.salt, 1, edit);
    os_close(m->f);
    m->f = NULL;
    enum errc rc = whole.failed || file.failed
                       ? fail(e, E_TOO_BIG, "the manifest would be larger than %zu bytes",
                              MANIFEST_MAX)
                       : os_replace_file(m->os, m->dir, MANIFEST_NAME, buf_str(&file), e);
    if (rc == E_OK) {
        m->salt = h.salt;
        m->index = 2;
        m->rewritten_bytes = file.n;
        begin_append(m, file.n);
        stat_add(STAT_MANIFEST_REWRITES, 1);
    }
    buf_fini(&file);
    buf_fini(&whole);
    return rc;
}

/* A larger file is rewritten; one past MANIFEST_MAX could not be read. */
static uint64_t size_limit(const struct manifest *m)
{
    uint64_t limit = max_u64(MANIFEST_REWRITE_MIN, MANIFEST_GROWTH * m->rewritten_bytes);
    return min_u64(limit, MANIFEST_MAX);
}

uint64_t manifest_growth(const struct manifest *m)
{
    uint64_t most = 2 * size_limit(m);
    return most - min_u64(most, m->end);
}

enum errc manifest_commit(struct manifest *m, const struct buf *edit, manifest_state *state,
                          void *arg, struct err *e)
{
    uint64_t limit = size_limit(m);
    if (edit->failed) /* a part of an edit would release log that no block holds */
        return fail(e, E_NO_MEMORY, "no memory for a manifest edit");
    if (m->f && m->end + record_bytes(edit->n) <= limit)
        return append(m, buf_str(edit), e);
    return rewrite(m, buf_str(edit), state, arg, e);
}
