/* SPDX-License-Identifier: Apache-2.0 */
/* Care for a directory from outside of any open store: back it up, repair it, look into it.
 * store_verify is in trace_store.h. `say` gets one line at a time, without a newline. */
#ifndef LYMER_STORE_TRACE_CARE_H
#define LYMER_STORE_TRACE_CARE_H

#include "base/os/os.h"

typedef void care_say(void *arg, const char *line);

struct backup_report {
    uint64_t blocks, linked, spans, block_bytes; /* linked: blocks that share their file */
    uint64_t segments, records, log_bytes;
};

/* Copies the store in `from`, which another process may be writing to, into the empty or absent
 * directory `to`, as a store by itself: it holds everything that was acknowledged when this was
 * called. Blocks are linked where the file system can, unless `copy`. Durable when it answers E_OK;
 * before that `to` is not a store, and says so when it is opened.
 *
 * E_NOT_FOUND: no store in `from`; E_EXISTS: `to` is not empty; E_CORRUPT: the manifest is damaged,
 * or a block that it names is not there. */
MUST_CHECK enum errc store_backup(struct os *os, const char *from, const char *to, bool copy,
                                  struct backup_report *out, struct err *e);

/* Checks everything in the directory, says what is wrong, and makes it right: what cannot be read
 * is set aside in damaged/, what can be read of it is kept. *found counts what was wrong. With
 * `dry` it changes nothing and says what it would do. E_LOCKED when a process holds the directory.
 */
MUST_CHECK enum errc store_repair(struct os *os, const char *dir, bool dry, care_say *say,
                                  void *arg, unsigned *found, struct err *e);

/* --- looking into files --- */

struct dump_field {
    const char *name;
    struct str text; /* when it has one */
    uint64_t number;
};

/* A row: what it is ("record", "edit", "column" …) and what is said of it. */
typedef void dump_row(void *arg, const char *kind, const struct dump_field *fields, size_t n);

/* Every piece of a log segment, block or manifest, or of all files of a directory, as
 * docs/format/ names them; `head`: records, edits or row groups of each file (0: all). Damage is a
 * row of its own, *bad counts it. E_INVALID: not a file of a store; E_NOT_FOUND; E_IO. */
MUST_CHECK enum errc store_dump(struct os *os, const char *path, uint64_t head, dump_row *row,
                                void *arg, uint64_t *bad, struct err *e);

#endif
