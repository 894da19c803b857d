/* SPDX-License-Identifier: Apache-2.0 */
/* The disk cap. Everything the store writes goes through one of the faces of a `struct room`, each
 * a `struct os`: they count what the files of the directory take, and a write that would pass the
 * cap answers E_FULL before it is made. So the cap holds at any moment, whoever writes what.
 *
 * The faces differ in what they must leave free for others:
 *
 *   ROOM_STATE   nothing: the manifest, whose edits give space back, is never refused
 *   ROOM_BLOCK   what the manifest may still grow by; asks for older blocks to be given up
 *   ROOM_LOG     that, and one memtable's block: the log can always be turned into blocks
 *   ROOM_MERGE   the same: a merge can wait
 *
 * A file counts from its first byte until its name is removed; what a reader still holds of a
 * removed file is not in the directory any more and does not count. Every file counts in whole
 * pages, and one more for its place in the directory. Private to store/trace. */
#ifndef LYMER_STORE_TRACE_ROOM_H
#define LYMER_STORE_TRACE_ROOM_H

#include "base/os/os.h"

#define ROOM_PAGE 4096u

enum room_use { ROOM_STATE, ROOM_BLOCK, ROOM_LOG, ROOM_MERGE, ROOM_USES };

/* Gives up the oldest data until `bytes` more can be written by a block, if it can. Called on the
 * thread that writes the block. */
typedef void room_make(void *arg, uint64_t bytes);

struct room;
struct room *room_new(struct os *os, room_make *make, void *arg);
void room_free(struct room *r);
struct os *room_os(struct room *r, enum room_use use);

/* Counts the files that are there: of the directory and of its folders. */
MUST_CHECK enum errc room_scan(struct room *r, const char *dir, struct err *e);

/* 0: no cap. May be called while others write. */
void room_limit(struct room *r, uint64_t max_bytes);
/* What the manifest may still grow by, and one memtable's block. */
void room_reserve(struct room *r, uint64_t state_bytes, uint64_t block_bytes);

uint64_t room_used(const struct room *r);
uint64_t room_limit_bytes(const struct room *r);
/* By how much `bytes` more would pass what this use may fill; 0: they fit. */
uint64_t room_lacks(const struct room *r, enum room_use use, uint64_t bytes);

#endif
