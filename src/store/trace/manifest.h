/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest: which blocks the store consists of, how far the log is released, names and
 * dependencies. An append-only file of checksummed edits that is rewritten as one when it has grown
 * (docs/format/manifest.md). This module knows records, not what is in them (edit.h). Private to
 * store/trace; one thread. */
#ifndef LYMER_STORE_TRACE_MANIFEST_H
#define LYMER_STORE_TRACE_MANIFEST_H

#include "base/os/os.h"

struct manifest;

#define MANIFEST_NAME        "MANIFEST"
#define MANIFEST_MAX         ((size_t)1 * GIB)
#define MANIFEST_REWRITE_MIN (1 * MIB)
#define MANIFEST_GROWTH      4u /* rewritten past this many times the size it was rewritten to */

struct manifest_report {
    uint64_t edits, damaged_edits, torn_bytes;
    bool missing, unreadable; /* no file; a file whose head is damaged */
};

/* Gets each edit in order. An error counts it as damaged. */
typedef enum errc manifest_apply(void *arg, struct str payload);
/* Writes the whole state, without the edit being committed, as one edit. */
typedef void manifest_state(void *arg, struct buf *out);

/* Reads dir/MANIFEST. E_VERSION, E_IO. A missing or unreadable file and damaged edits are reported,
 * not an error; edits behind damage are still applied. */
MUST_CHECK enum errc manifest_open(struct manifest **out, struct os *os, const char *dir,
                                   manifest_apply *apply, void *arg, struct manifest_report *report,
                                   struct err *e);
void manifest_close(struct manifest *m);

/* The edit is on stable storage when it answers E_OK. After a failure it may or may not be there:
 * the caller must commit the same edit again before any other, and keep alive what it names. An
 * edit that did not fit its buffer is refused, and is not there. */
MUST_CHECK enum errc manifest_commit(struct manifest *m, const struct buf *edit,
                                     manifest_state *state, void *arg, struct err *e);

/* By how much the file may still grow before it has been replaced by a smaller one, both being
 * there together for a moment. */
uint64_t manifest_growth(const struct manifest *m);

/* Reads without an open manifest (verify). */
MUST_CHECK enum errc manifest_scan(struct os *os, const char *dir, manifest_apply *apply, void *arg,
                                   struct manifest_report *report, struct err *e);
/* The same, and the bytes up to the last whole edit: a manifest by themselves, unless damage is
 * reported. Also of a manifest in use: an edit is there or not. */
MUST_CHECK enum errc manifest_read(struct os *os, const char *dir, struct buf *bytes,
                                   manifest_apply *apply, void *arg, struct manifest_report *report,
                                   struct err *e);

/* What lies at a place of the file: the head, an edit, whole or not, or a gap without any. */
struct manifest_place {
    uint64_t at, bytes;
    uint32_t index;
    bool head, gap, ok; /* head: of the file; its version is the index */
    struct str payload;
};
typedef void manifest_visit(void *arg, const struct manifest_place *p);
/* Every place in order; an error when it does not begin as a manifest does. */
MUST_CHECK enum errc manifest_walk(struct os *os, const char *path, manifest_visit *visit,
                                   void *arg, struct err *e);

#endif
