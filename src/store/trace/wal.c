/* SPDX-License-Identifier: Apache-2.0 */
/* The write-ahead log.
 *
 * A segment is one file: two copies of its head in the first WAL_HEAD_BYTES, then records, each on
 * a multiple of 8. A segment's identity is in its head, not in its file name: a sequence number,
 * which orders segments, and a random salt, which every record of that turn repeats.
 *
 *      head copy | head copy | record | record | … | bytes of an earlier turn
 *
 * Writing to a new file costs five times what writing to pages costs that the page cache already
 * holds (486 against 86 ns a span), so a segment that is no longer needed is not removed: it waits
 * as a spare and is stamped with a new head. No rename is needed, so none can be undone by a crash.
 *
 * Invariants
 * 1. A record belongs to the current turn when its salt is the head's and its head checksum is
 *    right. Bytes of an earlier turn carry another salt; bytes that a client chose cannot carry
 * this one, because nobody outside knows it.
 * 2. Head and payload have a checksum each. A damaged payload is skipped by its length; after a
 *    damaged head the next record is searched for by salt. So damage costs the records it touches.
 * 3. Nothing is appended behind an error, a failed sync or a restart: the next record goes to
 * another segment. So the end of the readable records is the end of the segment, and a record that
 * was answered with an error is never followed by one that was acknowledged.
 * 4. A segment is re-stamped only after wal_release(): its records are in blocks that the manifest
 *    names.
 * 5. The directory is synced when a segment file is made, the head with the first records. */
#include "store/trace/wal.h"

#include "base/log.h"
#include "base/os/thread.h"
#include "base/stats.h"
#include "store/trace/record.h"

#include <stdio.h>
#include <stdlib.h>

#define WAL_VERSION    1
#define WAL_HEAD_COPY  2048 /* offset of the second copy: another sector */
#define WAL_SCAN_BYTES (256 * KIB)
#define WAL_NAME_MAX   32
#define WAL_PATH_MAX   4200
#define WAL_MAGIC      "LYMERWAL"

struct seg_head {
    char magic[8];
    uint32_t version, zero;
    uint64_t seq, salt, size;
    uint32_t zero2, crc; /* of all before */
};
static_assert(sizeof(struct seg_head) == 48, "on disk");

enum seg_state {
    SEG_CURRENT, /* being appended to */
    SEG_CLOSED,  /* complete, waits for its release */
    SEG_SPARE    /* free */
};

struct seg {
    struct seg *next;
    struct os_file *f;
    uint64_t slot; /* its file name */
    uint64_t seq, salt, size, end;
    uint32_t index; /* next record */
    enum seg_state state;
    bool dirty;       /* has records that no sync has covered */
    bool poisoned;    /* a sync failed */
    bool stuck;       /* its file could not be removed */
    unsigned syncing; /* threads inside os_sync; the file stays open for them */
    bool removed;     /* close when nobody syncs */
};

struct wal {
    struct os *os;
    char *dir;
    uint64_t segment_bytes;
    pthread_mutex_t lock; /* protects the list, states, dirty, poisoned, syncing, and below */
    struct seg *segs;
    uint64_t next_seq, next_slot;
    bool poison;
    bool forgetting;           /* no segment is recycled */
    pthread_mutex_t sync_lock; /* one wal_sync at a time; taken before lock */
    struct seg *current;       /* writer only; NULL: the next append takes one */
    struct record_head heads[WAL_GROUP_MAX];
    struct iovec iov[3 * WAL_GROUP_MAX];
};

static void seg_path(const struct wal *w, uint64_t slot, char *out)
{
    snprintf(out, WAL_PATH_MAX, "%s/%016llx.log", w->dir, (unsigned long long)slot);
}

/* --- heads --- */

static void head_fill(struct seg_head *h, const struct seg *s)
{
    *h = (struct seg_head){.version = WAL_VERSION, .seq = s->seq, .salt = s->salt, .size = s->size};
    memcpy(h->magic, WAL_MAGIC, sizeof h->magic);
    h->crc = crc32c(0, h, offsetof(struct seg_head, crc));
}

static bool head_ok(const struct seg_head *h)
{
    return memcmp(h->magic, WAL_MAGIC, sizeof h->magic) == 0 &&
           h->crc == crc32c(0, h, offsetof(struct seg_head, crc));
}

/* The valid copy with the higher sequence number: a stamp may have been cut between the two. */
static enum errc head_read(struct os_file *f, struct seg_head *out, bool *found, struct err *e)
{
    char area[WAL_HEAD_BYTES];
    size_t got = 0;
    *found = false;
    enum errc rc = os_pread(f, area, sizeof area, 0, &got, e);
    if (rc != E_OK || got < sizeof area)
        return rc;
    for (size_t at = 0; at <= WAL_HEAD_COPY; at += WAL_HEAD_COPY) {
        struct seg_head h;
        memcpy(&h, area + at, sizeof h);
        if (head_ok(&h) && (!*found || h.seq > out->seq)) {
            *out = h;
            *found = true;
        }
    }
    if (*found && out->version != WAL_VERSION)
        return fail(e, E_VERSION, "a log segment has format %u; this version reads format %u",
                    out->version, WAL_VERSION);
    return E_OK;
}

enum errc wal_read_heads(struct os *os, const char *path, struct wal_head_copy out[2],
                         struct err *e)
{
    struct os_file *f;
    size_t got = 0;
    enum errc rc = os_open(os, path, OS_READ, &f, e);
    if (rc != E_OK)
        return rc;
    for (int i = 0; rc == E_OK && i < 2; i++) {
        struct seg_head h = {0};
        uint64_t at = i ? WAL_HEAD_COPY : 0;
        rc = os_pread(f, &h, sizeof h, at, &got, e);
        out[i] = (struct wal_head_copy){at, h.seq, h.size, h.version, head_ok(&h)};
    }
    os_close(f);
    return rc;
}

static enum errc head_write(const struct seg *s, struct err *e)
{
    char area[WAL_HEAD_BYTES] = {0};
    struct seg_head h;
    head_fill(&h, s);
    memcpy(area, &h, sizeof h);
    memcpy(area + WAL_HEAD_COPY, &h, sizeof h);
    return os_pwrite(s->f, str_of(area, sizeof area), 0, e);
}

/* --- scanning --- */

struct scan {
    struct os_file *f;
    uint64_t salt, seq, size, at;
    uint32_t next_index;
    struct buf payload;
    uint64_t suspect_records, suspect_bytes; /* unreadable so far, nothing readable behind yet */
    struct wal_report *report;
};

static bool scan_head_ok(const struct scan *s, const struct record_head *h, uint64_t at)
{
    return record_head_ok(h, s->salt, s->next_index, s->size - at) && h->len <= WAL_RECORD_MAX;
}

/* Where the next readable head is, at or after s->at; s->size when there is none. */
static enum errc scan_find(struct scan *s, uint64_t *found, struct err *e)
{
    size_t got = 0;
    enum errc rc = E_OK;
    char *window = xmalloc(WAL_SCAN_BYTES);
    for (uint64_t at = s->at; at + RECORD_HEAD <= s->size; at += got - RECORD_HEAD + 8) {
        size_t want = (size_t)min_u64(WAL_SCAN_BYTES, s->size - at) & ~(size_t)7;
        rc = os_pread(s->f, window, want, at, &got, e);
        got &= ~(size_t)7;
        if (rc != E_OK || got < RECORD_HEAD)
            break;
        for (size_t i = 0; i + RECORD_HEAD <= got; i += 8) {
            struct record_head h;
            if (LIKELY(load_u64le(window + i) != s->salt))
                continue;
            memcpy(&h, window + i, sizeof h);
            if (scan_head_ok(s, &h, at + i)) {
                *found = at + i;
                free(window);
                return E_OK;
            }
        }
    }
    *found = s->size;
    free(window);
    return rc;
}

static enum errc scan_payload(struct scan *s, const struct record_head *h, bool *ok, struct err *e)
{
    size_t got = 0;
    buf_reset(&s->payload);
    *ok = false;
    if (!buf_reserve(&s->payload, h->len))
        return fail(e, E_NO_MEMORY, "no memory for a log record of %u bytes", h->len);
    enum errc rc = os_pread(s->f, s->payload.p, h->len, s->at + RECORD_HEAD, &got, e);
    s->payload.n = got;
    *ok = rc == E_OK && record_payload_ok(h, buf_str(&s->payload));
    return rc;
}

static void scan_good(struct scan *s)
{
    s->report->end = s->at;
    s->report->records++;
    s->report->payload_bytes += s->payload.n;
    s->report->damaged_records += s->suspect_records;
    s->report->damaged_bytes += s->suspect_bytes;
    s->suspect_records = s->suspect_bytes = 0;
}

static void scan_suspect(struct scan *s, uint64_t bytes)
{
    s->suspect_records++;
    s->suspect_bytes += bytes;
}

/* Unreadable bytes from s->at on: to the next readable head, or the end (false). */
static enum errc scan_gap(struct scan *s, bool looks_written, wal_visit *visit, void *arg,
                          bool *more, struct err *e)
{
    uint64_t found;
    enum errc rc = scan_find(s, &found, e);
    if (rc != E_OK)
        return rc;
    *more = found < s->size;
    struct wal_place gap = {.seq = s->seq, .at = s->at, .state = WAL_BAD_HEAD};
    gap.bytes = *more ? found - s->at : RECORD_HEAD;
    if (*more || looks_written) {
        scan_suspect(s, gap.bytes);
        rc = visit(arg, &gap);
    }
    s->at = found;
    return rc;
}

/* One step: a record, a gap, or the end (false). */
static enum errc scan_step(struct scan *s, wal_visit *visit, void *arg, bool *more, struct err *e)
{
    struct record_head h;
    size_t got = 0;
    *more = false;
    if (s->at + RECORD_HEAD > s->size)
        return E_OK;
    enum errc rc = os_pread(s->f, &h, sizeof h, s->at, &got, e);
    if (rc != E_OK || got < sizeof h)
        return rc;
    if (!scan_head_ok(s, &h, s->at))
        return scan_gap(s, h.salt == s->salt, visit, arg, more, e);
    bool ok;
    *more = true;
    if ((rc = scan_payload(s, &h, &ok, e)) != E_OK)
        return rc;
    struct wal_place place = {.seq = s->seq,
                              .at = s->at,
                              .bytes = record_bytes(h.len),
                              .index = h.index,
                              .state = ok ? WAL_RECORD : WAL_BAD_PAYLOAD,
                              .payload = buf_str(&s->payload)};
    s->next_index = h.index + 1;
    s->at += place.bytes;
    enum errc said = visit(arg, &place);
    if (ok && said == E_VERSION) /* not damage: to be left alone */
        return fail(e, E_VERSION, "the log has a batch that a newer version wrote");
    if (ok && said == E_OK)
        scan_good(s);
    else
        scan_suspect(s, RECORD_HEAD + h.len);
    return E_OK;
}

static enum errc scan_segment(struct os_file *f, const struct seg_head *head, uint64_t size,
                              wal_visit *visit, void *arg, struct wal_report *report, struct err *e)
{
    struct scan s = {.f = f,
                     .salt = head->salt,
                     .seq = head->seq,
                     .size = size,
                     .at = WAL_HEAD_BYTES,
                     .payload = buf_init(WAL_RECORD_MAX),
                     .report = report};
    enum errc rc = E_OK;
    for (bool more = true; rc == E_OK && more;)
        rc = scan_step(&s, visit, arg, &more, e);
    report->segments++;
    report->torn_bytes += s.suspect_bytes;
    buf_fini(&s.payload);
    return rc;
}

static enum errc visit_nothing(void *arg, const struct wal_place *p)
{
    (void)arg;
    (void)p;
    return E_OK;
}

/* A log that is being appended to may be read while a record is half there and the one behind it
 * whole a moment later, which looks like damage. So a first scan finds how far it is written: what
 * lies before that is complete by then. */
static enum errc scan_written(struct os_file *f, const struct seg_head *head,
                              struct wal_report *report, struct err *e)
{
    uint64_t size;
    enum errc rc = os_size(f, &size, e);
    *report = (struct wal_report){.end = WAL_HEAD_BYTES};
    return rc == E_OK ? scan_segment(f, head, size, visit_nothing, NULL, report, e) : rc;
}

/* Opens a segment file that has records after `released`. */
static enum errc open_used(struct os *os, const char *path, uint64_t released, struct os_file **f,
                           struct seg_head *head, struct err *e)
{
    bool found;
    enum errc rc = os_open(os, path, OS_READ, f, e);
    if (rc != E_OK)
        return rc;
    rc = head_read(*f, head, &found, e);
    if (rc == E_OK && (!found || head->seq <= released))
        rc = fail(e, E_NOT_FOUND, "%s: no log records", path);
    if (rc != E_OK)
        os_close(*f);
    return rc;
}

enum errc wal_scan_file(struct os *os, const char *path, uint64_t released, wal_visit *visit,
                        void *arg, struct wal_report *report, struct err *e)
{
    struct os_file *f;
    struct seg_head head;
    struct wal_report written;
    enum errc rc = open_used(os, path, released, &f, &head, e);
    if (rc != E_OK)
        return rc;
    rc = scan_written(f, &head, &written, e);
    if (rc == E_OK)
        rc = scan_segment(f, &head, written.end, visit, arg, report, e);
    report->torn_bytes += written.torn_bytes;
    os_close(f);
    return rc;
}

struct seen_segments {
    struct os *os;
    const char *dir;
    uint64_t released, count, last;
    enum errc rc;
    struct err *e;
};

static void see_segment(void *arg, const char *name)
{
    struct seen_segments *s = arg;
    char path[WAL_PATH_MAX];
    struct os_file *f;
    struct seg_head head;
    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    enum errc rc = open_used(s->os, path, s->released, &f, &head, s->e);
    if (rc == E_OK) {
        s->count++;
        s->last = max_u64(s->last, head.seq);
        os_close(f);
    } else if (rc != E_NOT_FOUND) {
        s->rc = rc;
    }
}

enum errc wal_has_gap(struct os *os, const char *dir, uint64_t released, bool *gap, struct err *e)
{
    struct seen_segments s = {.os = os, .dir = dir, .released = released, .e = e};
    enum errc rc = os_list(os, dir, see_segment, &s, e);
    *gap = !s.count || s.count < s.last - released;
    return rc == E_OK ? s.rc : rc;
}

/* --- copying a segment in use --- */

static enum errc copy_records(struct os_file *from, struct os_file *to, uint64_t end, struct err *e)
{
    char *window = xmalloc(WAL_SCAN_BYTES);
    enum errc rc = E_OK;
    size_t got = 0;
    for (uint64_t at = WAL_HEAD_BYTES; rc == E_OK && at < end; at += got) {
        rc = os_pread(from, window, (size_t)min_u64(WAL_SCAN_BYTES, end - at), at, &got, e);
        if (rc == E_OK && !got)
            rc = fail(e, E_IO, "a log segment became shorter while it was read");
        if (rc == E_OK)
            rc = os_pwrite(to, str_of(window, got), at, e);
    }
    free(window);
    return rc;
}

static enum errc copy_turn(struct os_file *from, struct os_file *to, const struct seg_head *head,
                           struct wal_report *report, struct err *e)
{
    enum errc rc = scan_written(from, head, report, e);
    struct seg s = {.f = to, .seq = head->seq, .salt = head->salt, .size = report->end};
    if (rc == E_OK)
        rc = head_write(&s, e);
    if (rc == E_OK)
        rc = copy_records(from, to, report->end, e);
    return rc == E_OK ? os_sync(to, e) : rc;
}

enum errc wal_copy_file(struct os *os, const char *path, const char *copy, uint64_t released,
                        uint64_t *seq, struct wal_report *report, struct err *e)
{
    struct os_file *from, *to;
    struct seg_head head;
    enum errc rc = open_used(os, path, released, &from, &head, e);
    if (rc != E_OK)
        return rc;
    *seq = head.seq;
    rc = os_open(os, copy, OS_WRITE | OS_FRESH, &to, e);
    if (rc == E_OK) {
        rc = copy_turn(from, to, &head, report, e);
        os_close(to);
    }
    os_close(from);
    return rc;
}

/* --- segments --- */

static void seg_add(struct wal *w, struct seg *s)
{
    pthread_mutex_lock(&w->lock);
    s->next = w->segs;
    w->segs = s;
    pthread_mutex_unlock(&w->lock);
}

/* Lock held. The file is removed, and closed when nobody syncs it, and s leaves the list. A file
 * that cannot be removed stays a spare that is never used. */
static void seg_remove(struct wal *w, struct seg *s)
{
    char path[WAL_PATH_MAX];
    struct seg **at = &w->segs;
    seg_path(w, s->slot, path);
    if (os_unlink(w->os, path, NULL) != E_OK) {
        log_warn("wal", "cannot remove the unused log segment %s", path);
        s->state = SEG_SPARE;
        s->stuck = true;
        return;
    }
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    s->removed = true;
    if (!s->syncing) {
        os_close(s->f);
        free(s);
    }
}

static unsigned spare_count(const struct wal *w)
{
    unsigned n = 0;
    for (const struct seg *s = w->segs; s; s = s->next)
        n += s->state == SEG_SPARE && !s->stuck;
    return n;
}

/* Lock held. */
static void seg_retire(struct wal *w, struct seg *s)
{
    s->state = SEG_SPARE;
    s->dirty = false;
    if (w->forgetting || s->poisoned || s->size != w->segment_bytes ||
        spare_count(w) > WAL_SPARES_MAX)
        seg_remove(w, s);
}

static struct seg *spare_take(struct wal *w)
{
    struct seg *s;
    pthread_mutex_lock(&w->lock);
    for (s = w->segs; s && (s->state != SEG_SPARE || s->stuck); s = s->next)
        ;
    if (s)
        s->state = SEG_CURRENT;
    pthread_mutex_unlock(&w->lock);
    return s;
}

static enum errc seg_new(struct wal *w, uint64_t size, struct seg **out, struct err *e)
{
    char path[WAL_PATH_MAX];
    struct seg *s = xcalloc(1, sizeof *s);
    s->slot = w->next_slot++;
    s->size = size;
    s->state = SEG_CURRENT;
    seg_path(w, s->slot, path);
    enum errc rc = os_open(w->os, path, OS_WRITE | OS_FRESH, &s->f, e);
    if (rc != E_OK) {
        free(s);
        return rc;
    }
    rc = os_allocate(s->f, size, e);
    if (rc == E_OK)
        rc = os_sync_dir(w->os, w->dir, e);
    seg_add(w, s);
    if (rc != E_OK) {
        pthread_mutex_lock(&w->lock);
        seg_remove(w, s);
        pthread_mutex_unlock(&w->lock);
        return rc;
    }
    *out = s;
    return E_OK;
}

/* A segment with a fresh head becomes the current one. */
static enum errc seg_begin(struct wal *w, uint64_t need, struct err *e)
{
    struct seg *s = need <= w->segment_bytes ? spare_take(w) : NULL;
    if (!s) {
        uint64_t size = max_u64(w->segment_bytes, need);
        enum errc rc = seg_new(w, size, &s, e);
        if (rc != E_OK)
            return rc;
    }
    os_random(w->os, &s->salt, sizeof s->salt);
    s->seq = w->next_seq++;
    s->end = WAL_HEAD_BYTES;
    s->index = 0;
    enum errc rc = head_write(s, e);
    pthread_mutex_lock(&w->lock);
    s->poisoned = rc != E_OK;
    if (rc != E_OK)
        seg_retire(w, s);
    else
        w->current = s;
    pthread_mutex_unlock(&w->lock);
    return rc;
}

static void seg_end(struct wal *w)
{
    struct seg *s = w->current;
    if (!s)
        return;
    w->current = NULL;
    pthread_mutex_lock(&w->lock);
    s->state = SEG_CLOSED;
    pthread_mutex_unlock(&w->lock);
}

/* --- appending --- */

static int record_iov(struct wal *w, size_t i, struct str image, struct iovec *iov)
{
    static char zeros[8];
    struct seg *s = w->current;
    struct record_head *h = &w->heads[i];
    union {
        const char *in;
        void *out;
    } base = {.in = image.p};
    *h = (struct record_head){
        .salt = s->salt, .index = s->index + (uint32_t)i, .len = (uint32_t)image.n};
    h->head_crc = crc32c(0, h, offsetof(struct record_head, head_crc));
    h->payload_crc = crc32c(h->head_crc, image.p, image.n);
    iov[0] = (struct iovec){.iov_base = h, .iov_len = sizeof *h};
    iov[1] = (struct iovec){.iov_base = base.out, .iov_len = image.n};
    size_t pad = round_up(image.n, 8) - image.n;
    if (pad)
        iov[2] = (struct iovec){.iov_base = zeros, .iov_len = pad};
    return pad ? 3 : 2;
}

/* As many of the images as fit the current segment and one write. */
static enum errc append_some(struct wal *w, const struct str *images, size_t n, size_t *done,
                             struct err *e)
{
    struct seg *s = w->current;
    uint64_t end = s->end;
    int parts = 0;
    size_t count = 0;
    while (count < n && count < WAL_GROUP_MAX && end + record_bytes(images[count].n) <= s->size) {
        end += record_bytes(images[count].n);
        parts += record_iov(w, count, images[count], w->iov + parts);
        count++;
    }
    ensure(count > 0);
    enum errc rc = os_pwritev(s->f, w->iov, parts, s->end, e);
    if (rc != E_OK) {
        stat_add(STAT_WAL_ERRORS, 1);
        seg_end(w);
        return rc;
    }
    pthread_mutex_lock(&w->lock);
    s->dirty = true; /* after the write: a sync that ran beside it may not have covered it */
    pthread_mutex_unlock(&w->lock);
    stat_add(STAT_WAL_BYTES, (int64_t)(end - s->end));
    stat_add(STAT_WAL_RECORDS, (int64_t)count);
    s->end = end;
    s->index += (uint32_t)count;
    *done += count;
    return E_OK;
}

static bool current_poisoned(struct wal *w)
{
    pthread_mutex_lock(&w->lock);
    bool yes = w->current && w->current->poisoned;
    pthread_mutex_unlock(&w->lock);
    return yes;
}

enum errc wal_append(struct wal *w, const struct str *images, size_t n, size_t *done, struct err *e)
{
    enum errc rc = E_OK;
    *done = 0;
    if (current_poisoned(w))
        seg_end(w);
    while (rc == E_OK && *done < n) {
        uint64_t bytes = record_bytes(images[*done].n);
        if (images[*done].n > WAL_RECORD_MAX)
            return fail(e, E_TOO_BIG, "a batch of %zu bytes is larger than a log record may be",
                        images[*done].n);
        if (w->current && w->current->end + bytes > w->current->size)
            seg_end(w);
        if (!w->current)
            rc = seg_begin(w, WAL_HEAD_BYTES + bytes, e);
        if (rc == E_OK)
            rc = append_some(w, images + *done, n - *done, done, e);
    }
    return rc;
}

enum errc wal_probe(struct wal *w, struct err *e)
{
    return w->current ? E_OK : seg_begin(w, w->segment_bytes, e);
}

uint64_t wal_rotate(struct wal *w)
{
    seg_end(w);
    return w->next_seq - 1;
}

void wal_release(struct wal *w, uint64_t seq)
{
    pthread_mutex_lock(&w->lock);
    for (struct seg *s = w->segs, *next; s; s = next) {
        next = s->next;
        if (s->state == SEG_CLOSED && s->seq <= seq)
            seg_retire(w, s);
    }
    pthread_mutex_unlock(&w->lock);
}

/* Lock held. */
static void remove_spares(struct wal *w)
{
    for (struct seg *s = w->segs, *next; s; s = next) {
        next = s->next;
        if (s->state == SEG_SPARE)
            seg_remove(w, s);
    }
}

void wal_forget_begin(struct wal *w)
{
    pthread_mutex_lock(&w->lock);
    w->forgetting = true;
    remove_spares(w);
    pthread_mutex_unlock(&w->lock);
}

enum errc wal_forget_end(struct wal *w, struct err *e)
{
    bool stuck = false;
    pthread_mutex_lock(&w->lock);
    w->forgetting = false;
    for (const struct seg *s = w->segs; s; s = s->next)
        stuck |= s->stuck;
    pthread_mutex_unlock(&w->lock);
    enum errc rc = os_sync_dir(w->os, w->dir, e);
    return rc == E_OK && stuck ? fail(e, E_IO, "a log segment cannot be removed") : rc;
}

/* --- syncing --- */

/* The first dirty segment, marked as being synced; NULL when all is clean. */
static struct seg *dirty_take(struct wal *w)
{
    struct seg *s;
    pthread_mutex_lock(&w->lock);
    for (s = w->segs; s && !(s->dirty && !s->poisoned); s = s->next)
        ;
    if (s) {
        s->dirty = false;
        s->syncing++;
    }
    pthread_mutex_unlock(&w->lock);
    return s;
}

static void dirty_done(struct wal *w, struct seg *s, bool ok)
{
    pthread_mutex_lock(&w->lock);
    s->syncing--;
    if (!ok) {
        s->poisoned = true;
        w->poison = true;
    }
    bool last = s->removed && !s->syncing;
    pthread_mutex_unlock(&w->lock);
    if (last) {
        os_close(s->f);
        free(s);
    }
}

static enum errc sync_all(struct wal *w, struct err *e)
{
    enum errc rc = E_OK;
    for (struct seg *s; (s = dirty_take(w));) {
        enum errc one = os_sync(s->f, rc == E_OK ? e : NULL);
        stat_add(one == E_OK ? STAT_WAL_SYNCS : STAT_WAL_ERRORS, 1);
        dirty_done(w, s, one == E_OK);
        if (rc == E_OK)
            rc = one;
    }
    return rc;
}

/* The caller's records may be in a segment that another thread is syncing, and found clean: that
 * sync is waited for, and its failure is the caller's. */
enum errc wal_sync(struct wal *w, struct err *e)
{
    pthread_mutex_lock(&w->sync_lock);
    enum errc rc = sync_all(w, e);
    pthread_mutex_lock(&w->lock);
    bool poison = w->poison;
    pthread_mutex_unlock(&w->lock);
    pthread_mutex_unlock(&w->sync_lock);
    if (rc == E_OK && poison)
        rc = fail(e, E_IO, "the log could not be synced");
    return rc;
}

bool wal_dirty(struct wal *w)
{
    bool dirty = false;
    pthread_mutex_lock(&w->lock);
    for (const struct seg *s = w->segs; s; s = s->next)
        dirty |= s->dirty && !s->poisoned;
    pthread_mutex_unlock(&w->lock);
    return dirty;
}

bool wal_take_poison(struct wal *w)
{
    pthread_mutex_lock(&w->lock);
    bool poison = w->poison;
    w->poison = false;
    pthread_mutex_unlock(&w->lock);
    return poison;
}

uint64_t wal_disk_bytes(struct wal *w)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&w->lock);
    for (const struct seg *s = w->segs; s; s = s->next)
        bytes += s->size;
    pthread_mutex_unlock(&w->lock);
    return bytes;
}

/* --- opening --- */

struct found_files {
    struct wal *w;
    uint64_t *slots;
    size_t n, cap;
};

static void found_add(void *arg, const char *name)
{
    struct found_files *l = arg;
    unsigned long long slot;
    char tail[8] = "";
    if (strlen(name) != 20 || sscanf(name, "%16llx%7s", &slot, tail) != 2 ||
        strcmp(tail, ".log") != 0)
        return;
    if (l->n == l->cap)
        l->slots = xrealloc(l->slots, (l->cap = l->cap ? 2 * l->cap : 16) * sizeof *l->slots);
    l->slots[l->n++] = slot;
    l->w->next_slot = max_u64(l->w->next_slot, slot + 1);
}

static enum errc seg_load(struct wal *w, uint64_t slot, uint64_t released, struct err *e)
{
    char path[WAL_PATH_MAX];
    struct seg_head head = {0};
    bool found = false;
    struct seg *s = xcalloc(1, sizeof *s);
    s->slot = slot;
    seg_path(w, slot, path);
    enum errc rc = os_open(w->os, path, OS_WRITE, &s->f, e);
    if (rc == E_OK)
        rc = head_read(s->f, &head, &found, e);
    if (rc == E_OK)
        rc = os_size(s->f, &s->size, e);
    if (rc != E_OK) {
        os_close(s->f);
        free(s);
        return rc;
    }
    s->seq = found ? head.seq : 0;
    s->salt = head.salt;
    s->state = found && head.seq > released ? SEG_CLOSED : SEG_SPARE;
    s->dirty = s->state == SEG_CLOSED; /* a process that was killed may have left it unsynced */
    w->next_seq = max_u64(w->next_seq, s->seq + 1);
    seg_add(w, s);
    if (s->state == SEG_SPARE) {
        pthread_mutex_lock(&w->lock);
        seg_retire(w, s);
        pthread_mutex_unlock(&w->lock);
    }
    return E_OK;
}

static struct seg *seg_after(const struct wal *w, uint64_t seq)
{
    struct seg *best = NULL;
    for (struct seg *s = w->segs; s; s = s->next)
        if (s->state == SEG_CLOSED && s->seq > seq && (!best || s->seq < best->seq))
            best = s;
    return best;
}

struct replay_to {
    wal_record *each;
    void *arg;
};

static enum errc replay_place(void *arg, const struct wal_place *p)
{
    const struct replay_to *to = arg;
    return p->state == WAL_RECORD ? to->each(to->arg, p->seq, p->payload) : E_OK;
}

static enum errc replay(struct wal *w, wal_record *each, void *arg, struct wal_report *report,
                        struct err *e)
{
    enum errc rc = E_OK;
    uint64_t seq = 0;
    struct replay_to to = {each, arg};
    for (struct seg *s; rc == E_OK && (s = seg_after(w, seq)); seq = s->seq) {
        struct seg_head head = {.seq = s->seq, .salt = s->salt};
        rc = scan_segment(s->f, &head, s->size, replay_place, &to, report, e);
    }
    return rc;
}

enum errc wal_open(struct wal **out, struct os *os, const char *dir, uint64_t segment_bytes,
                   uint64_t released, wal_record *each, void *arg, struct wal_report *report,
                   struct err *e)
{
    struct wal *w = xcalloc(1, sizeof *w);
    w->os = os;
    w->dir = xstrdup(dir);
    w->segment_bytes = max_u64(round_up(segment_bytes, 4096), WAL_SEGMENT_MIN);
    w->next_seq = released + 1;
    pthread_mutex_init(&w->lock, NULL);
    pthread_mutex_init(&w->sync_lock, NULL);
    struct found_files found = {.w = w};
    *report = (struct wal_report){0};
    enum errc rc = os_mkdir(os, dir, e);
    if (rc == E_OK)
        rc = os_list(os, dir, found_add, &found, e);
    for (size_t i = 0; rc == E_OK && i < found.n; i++)
        rc = seg_load(w, found.slots[i], released, e);
    free(found.slots);
    if (rc == E_OK) /* a process that was killed may have left names that a power cut undoes */
        rc = os_sync_dir(os, dir, e);
    if (rc == E_OK)
        rc = replay(w, each, arg, report, e);
    if (rc == E_OK)
        *out = w;
    else
        wal_close(w);
    return rc;
}

void wal_close(struct wal *w)
{
    if (!w)
        return;
    for (struct seg *s = w->segs, *next; s; s = next) {
        next = s->next;
        os_close(s->f);
        free(s);
    }
    pthread_mutex_destroy(&w->lock);
    pthread_mutex_destroy(&w->sync_lock);
    free(w->dir);
    free(w);
}
