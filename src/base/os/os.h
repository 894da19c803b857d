/* SPDX-License-Identifier: Apache-2.0 */
/* The one door to the world the store sees: clock, randomness, files. Two back ends stand behind
 * it:
 *
 *   os_posix()   the machine.
 *   os_sim_new() a world made of memory and a seed: virtual clock, files that lose or garble what
 * was not synced at a crash, the Nth call failing, a disk of limited size.
 *
 * `--memory` is the simulated file system without faults and with the machine's clock (os_mem_new).
 * Every call may be made from any thread. Paths are NUL-terminated and relative to nothing but the
 * process. */
#ifndef LYMER_BASE_OS_OS_H
#define LYMER_BASE_OS_OS_H

#include "base/buf.h"

#include <sys/uio.h>

struct os;
struct os_file;

enum os_open {
    OS_READ = 1,  /* must exist */
    OS_WRITE = 2, /* read and write, created when absent */
    OS_FRESH = 4, /* with OS_WRITE: emptied when present */
};

/* Back ends fill this in; callers use the functions below. */
struct os_ops {
    uint64_t (*now_ns)(struct os *os);
    uint64_t (*mono_ns)(struct os *os);
    void (*random)(struct os *os, void *out, size_t n);
    enum errc (*open)(struct os *os, const char *path, int flags, struct os_file **out,
                      struct err *e);
    void (*close)(struct os_file *f);
    enum errc (*pread)(struct os_file *f, void *out, size_t n, uint64_t off, size_t *got,
                       struct err *e);
    enum errc (*pwritev)(struct os_file *f, const struct iovec *iov, int count, uint64_t off,
                         struct err *e);
    enum errc (*sync)(struct os_file *f, struct err *e);
    enum errc (*allocate)(struct os_file *f, uint64_t size, struct err *e);
    enum errc (*truncate)(struct os_file *f, uint64_t size, struct err *e);
    enum errc (*size)(struct os_file *f, uint64_t *size, struct err *e);
    enum errc (*lock)(struct os_file *f, struct err *e);
    enum errc (*rename)(struct os *os, const char *from, const char *to, struct err *e);
    enum errc (*link)(struct os *os, const char *from, const char *to, struct err *e);
    enum errc (*unlink)(struct os *os, const char *path, struct err *e);
    enum errc (*mkdir)(struct os *os, const char *path, struct err *e);
    enum errc (*sync_dir)(struct os *os, const char *path, struct err *e);
    enum errc (*list)(struct os *os, const char *path, void (*each)(void *arg, const char *name),
                      void *arg, struct err *e);
    enum errc (*free_bytes)(struct os *os, const char *path, uint64_t *free, struct err *e);
};

struct os {
    const struct os_ops *ops;
};

struct os_file {
    struct os *os;
};

struct os *os_posix(void);

/* What the calling thread has read and written so far, by calls that succeeded or not, through
 * whatever back end. Back ends count; a layer over one does not. */
struct os_io {
    uint64_t read_bytes, written_bytes;
};
struct os_io os_thread_io(void);
void os_count_read(uint64_t bytes);
void os_count_written(uint64_t bytes);

/* Wall clock, nanoseconds since 1970; may step. */
static inline uint64_t os_now_ns(struct os *os)
{
    return os->ops->now_ns(os);
}

/* Never steps back. */
static inline uint64_t os_mono_ns(struct os *os)
{
    return os->ops->mono_ns(os);
}

static inline void os_random(struct os *os, void *out, size_t n)
{
    os->ops->random(os, out, n);
}

/* E_NOT_FOUND when an OS_READ file is absent. */
static inline MUST_CHECK enum errc os_open(struct os *os, const char *path, int flags,
                                           struct os_file **out, struct err *e)
{
    return os->ops->open(os, path, flags, out, e);
}

static inline void os_close(struct os_file *f)
{
    if (f)
        f->os->ops->close(f);
}

/* *got < n only at the end of the file. */
static inline MUST_CHECK enum errc os_pread(struct os_file *f, void *out, size_t n, uint64_t off,
                                            size_t *got, struct err *e)
{
    return f->os->ops->pread(f, out, n, off, got, e);
}

/* All or an error; after an error any prefix may have been written. Short writes are retried
 * inside. */
static inline MUST_CHECK enum errc os_pwritev(struct os_file *f, const struct iovec *iov, int count,
                                              uint64_t off, struct err *e)
{
    return f->os->ops->pwritev(f, iov, count, off, e);
}

static inline MUST_CHECK enum errc os_pwrite(struct os_file *f, struct str data, uint64_t off,
                                             struct err *e)
{
    union {
        const char *in;
        void *out;
    } base = {.in = data.p};
    struct iovec iov = {.iov_base = base.out, .iov_len = data.n};
    return os_pwritev(f, &iov, 1, off, e);
}

/* Data and size reach stable storage (fdatasync). After a failure the file's unsynced content is
 * unknown. */
static inline MUST_CHECK enum errc os_sync(struct os_file *f, struct err *e)
{
    return f->os->ops->sync(f, e);
}

/* Makes the file at least `size` long with its space reserved. */
static inline MUST_CHECK enum errc os_allocate(struct os_file *f, uint64_t size, struct err *e)
{
    return f->os->ops->allocate(f, size, e);
}

static inline MUST_CHECK enum errc os_truncate(struct os_file *f, uint64_t size, struct err *e)
{
    return f->os->ops->truncate(f, size, e);
}

static inline MUST_CHECK enum errc os_size(struct os_file *f, uint64_t *size, struct err *e)
{
    return f->os->ops->size(f, size, e);
}

/* Exclusive, not blocking, gone with the process: E_LOCKED when another holds it. */
static inline MUST_CHECK enum errc os_lock(struct os_file *f, struct err *e)
{
    return f->os->ops->lock(f, e);
}

static inline MUST_CHECK enum errc os_rename(struct os *os, const char *from, const char *to,
                                             struct err *e)
{
    return os->ops->rename(os, from, to, e);
}

/* A second name for the same file. E_EXISTS when `to` is there; E_UNSUPPORTED when the two places
 * cannot share a file, and a copy must do. */
static inline MUST_CHECK enum errc os_link(struct os *os, const char *from, const char *to,
                                           struct err *e)
{
    return os->ops->link(os, from, to, e);
}

/* E_NOT_FOUND when absent. */
static inline MUST_CHECK enum errc os_unlink(struct os *os, const char *path, struct err *e)
{
    return os->ops->unlink(os, path, e);
}

/* Parents too; present is fine. What it made has reached stable storage when it returns. */
static inline MUST_CHECK enum errc os_mkdir(struct os *os, const char *path, struct err *e)
{
    return os->ops->mkdir(os, path, e);
}

/* Names created, renamed or removed in the directory reach stable storage. */
static inline MUST_CHECK enum errc os_sync_dir(struct os *os, const char *path, struct err *e)
{
    return os->ops->sync_dir(os, path, e);
}

/* Every entry but "." and "..", in no order. */
static inline MUST_CHECK enum errc os_list(struct os *os, const char *path,
                                           void (*each)(void *arg, const char *name), void *arg,
                                           struct err *e)
{
    return os->ops->list(os, path, each, arg, e);
}

static inline MUST_CHECK enum errc os_free_bytes(struct os *os, const char *path, uint64_t *free,
                                                 struct err *e)
{
    return os->ops->free_bytes(os, path, free, e);
}

/* A whole small file. The buffer's cap is the limit (E_TOO_BIG). */
MUST_CHECK enum errc os_read_file(struct os *os, const char *path, struct buf *out, struct err *e);
/* Written beside, synced, renamed into place, directory synced: the old or the new content, never
 * half. */
MUST_CHECK enum errc os_replace_file(struct os *os, const char *dir, const char *name,
                                     struct str data, struct err *e);
/* A synced copy. Its name is durable once the directory is synced. What a failure leaves of it is
 * removed. */
MUST_CHECK enum errc os_copy_file(struct os *os, const char *from, const char *to, struct err *e);
/* For files that nobody changes: a link where the places can share, else a copy. */
MUST_CHECK enum errc os_link_or_copy(struct os *os, const char *from, const char *to, bool *linked,
                                     struct err *e);

#endif
