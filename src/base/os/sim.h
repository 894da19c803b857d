/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated world: the store's tests run in it, and `--memory` is its file system without
 * faults.
 *
 * Files are bytes in memory, each with a synced image and the writes since. sim_crash() is a power
 * cut: every unsynced write is, by the seed, kept, lost, kept in part (sector by sector of 512
 * bytes, any subset and so any order) or garbled inside its own range, and names created, renamed
 * or removed without a sync_dir may be undone. All open files become dead: their calls answer E_IO.
 * What was synced is never touched. A sync that fails forgets the unsynced writes without making
 * them safe, as Linux does. Directories cannot be renamed. */
#ifndef LYMER_BASE_OS_SIM_H
#define LYMER_BASE_OS_SIM_H

#include "base/os/os.h"

/* Clock starts at 2026-01-01T00:00:00Z and moves only by sim_advance. */
struct os *os_sim_new(uint64_t seed);
/* The same file system without faults, with the machine's clock and randomness. Its size is
 * unlimited until sim_disk_size; holes take no memory but count. */
struct os *os_mem_new(void);
void os_sim_free(struct os *os);

void sim_advance(struct os *os, uint64_t ns);
void sim_set_wall(struct os *os, uint64_t unix_ns); /* a clock step; mono does not move */
void sim_crash(struct os *os);

/* The kth call from now that can fail (open for writing, pwritev, sync, allocate, truncate, rename,
 * link, unlink, mkdir, sync_dir, pread) answers `code`; with `sticky` so do all after it. 0 turns
 * faults off. */
void sim_fail_after(struct os *os, uint64_t k, enum errc code, bool sticky);
/* How many such calls were made since the world began: the sweep's upper bound. */
uint64_t sim_calls(const struct os *os);
/* A failed pwritev leaves a random part of its bytes behind. Writes past `bytes` in total answer
 * E_FULL. */
void sim_disk_size(struct os *os, uint64_t bytes);
uint64_t sim_disk_used(const struct os *os);
/* The most that was used after any call, since the world began or this was asked last. */
uint64_t sim_disk_peak(struct os *os);
/* Flips one bit of a stored file (also synced content): rot, not a crash. */
MUST_CHECK bool sim_flip_bit(struct os *os, const char *path, uint64_t bit);

/* Promises that a broken machine does not keep: whoever tests that a crash loses nothing shows with
 * them that it would notice. */
enum sim_lie {
    SIM_HONEST,
    SIM_SYNC_LIES,     /* sync answers E_OK and makes nothing safe */
    SIM_SYNC_DIR_LIES, /* so does sync_dir */
    SIM_WRITE_TORN,    /* one write in eight ends early and answers E_OK */
};
/* For paths that contain `part`, which must stay valid. */
void sim_lie(struct os *os, enum sim_lie lie, const char *part);

#endif
