/* SPDX-License-Identifier: Apache-2.0 */
/* The write-ahead log: what is acknowledged lies here until it lies in a block. Bytes in
 * docs/format/wal.md. Private to store/trace.
 *
 * Threads: one writer calls wal_append and wal_rotate; wal_sync and wal_release may be called from
 * any other thread at the same time. */
#ifndef LYMER_STORE_TRACE_WAL_H
#define LYMER_STORE_TRACE_WAL_H

#include "base/os/os.h"

struct wal;

#define WAL_SPARES_MAX  2           /* recycled segments that wait for their next turn */
#define WAL_GROUP_MAX   256         /* records in one write */
#define WAL_RECORD_MAX  (256 * MIB) /* BATCH_IMAGE_MAX */
#define WAL_SEGMENT_MIN (64 * KIB)
#define WAL_HEAD_BYTES  4096

/* What a scan of one or several segments saw. */
struct wal_report {
    uint64_t segments, records, payload_bytes;
    uint64_t damaged_records; /* unreadable, though later ones could be read */
    uint64_t damaged_bytes;
    uint64_t torn_bytes; /* unfinished write at the end */
    uint64_t end;        /* behind the last readable record of the segment scanned last */
};

/* Gets each record in order. E_VERSION ends the scan; another error counts the record as damaged.
 */
typedef enum errc wal_record(void *arg, uint64_t seq, struct str payload);

/* Opens the log directory (created when absent), replays the segments after `released` into each()
 * and is then ready to append, to a new segment. Damage is reported, not an error; E_IO is. */
MUST_CHECK enum errc wal_open(struct wal **out, struct os *os, const char *dir,
                              uint64_t segment_bytes, uint64_t released, wal_record *each,
                              void *arg, struct wal_report *report, struct err *e);
void wal_close(struct wal *w); /* does not sync */

/* Appends records in order, several to a write. On failure the first *done of them are in the log,
 * the others are not promised to be: the segment is given up and the next append begins another. */
MUST_CHECK enum errc wal_append(struct wal *w, const struct str *images, size_t n, size_t *done,
                                struct err *e);
/* Syncs every segment that has unsynced records. A segment whose sync failed is given up: what is
 * in it unsynced may be lost. Any thread; E_IO also for a sync that failed in another thread, until
 * wal_take_poison has told it. */
MUST_CHECK enum errc wal_sync(struct wal *w, struct err *e);
/* Are there records that no sync has covered? */
bool wal_dirty(struct wal *w);
/* True once after a segment was given up by wal_sync: what was written to it should reach a block
 * soon. */
bool wal_take_poison(struct wal *w);
/* Ends the current segment. Returns the highest sequence number used so far (0: none). */
uint64_t wal_rotate(struct wal *w);
/* Records of segments up to seq are in blocks: their segments are recycled. */
void wal_release(struct wal *w, uint64_t seq);
/* From here to wal_forget_end released segments and spares are removed and not recycled: none that
 * was written before holds bytes of an earlier turn once it is released. */
void wal_forget_begin(struct wal *w);
/* E_IO when a file could not be removed for good. */
MUST_CHECK enum errc wal_forget_end(struct wal *w, struct err *e);
/* Is there, or can there be had, a segment to write to? E_FULL when not. Writer only. */
MUST_CHECK enum errc wal_probe(struct wal *w, struct err *e);
uint64_t wal_disk_bytes(struct wal *w);

/* --- reading segment files from outside, also those in use --- */

enum wal_state { WAL_RECORD, WAL_BAD_PAYLOAD, WAL_BAD_HEAD };

/* What lies at a place of a segment. */
struct wal_place {
    uint64_t seq, at, bytes;
    uint32_t index; /* of a record */
    enum wal_state state;
    struct str payload; /* as it is read, also when it is bad */
};

/* Gets each place in order. Of a record E_VERSION ends the scan and another error counts it as
 * damaged; at a bad head any error ends the scan. */
typedef enum errc wal_visit(void *arg, const struct wal_place *p);

/* Reads one segment file without changing it. E_NOT_FOUND when it is none (or a spare at or below
 * `released`). */
MUST_CHECK enum errc wal_scan_file(struct os *os, const char *path, uint64_t released,
                                   wal_visit *visit, void *arg, struct wal_report *report,
                                   struct err *e);
/* Were segments behind `released` released too? Sequence numbers are given out one after the other,
 * so one that is missing was given up, and a manifest that does not say so has lost its end. */
MUST_CHECK enum errc wal_has_gap(struct os *os, const char *dir, uint64_t released, bool *gap,
                                 struct err *e);

struct wal_head_copy {
    uint64_t at, seq, size;
    uint32_t version;
    bool ok;
};
/* Both copies of a segment's head, as they are. */
MUST_CHECK enum errc wal_read_heads(struct os *os, const char *path, struct wal_head_copy out[2],
                                    struct err *e);

/* Copies what is written of a segment that may be in use, damage included, and syncs the copy. What
 * was in the segment when this is called is in the copy. When the segment is given another turn
 * meanwhile the copy is of no use; but then the manifest, read from now on, releases *seq.
 * E_NOT_FOUND: no segment, or a spare at or below `released`. */
MUST_CHECK enum errc wal_copy_file(struct os *os, const char *path, const char *copy,
                                   uint64_t released, uint64_t *seq, struct wal_report *report,
                                   struct err *e);

#endif
