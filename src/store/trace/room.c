/* SPDX-License-Identifier: Apache-2.0 */
/* Invariants
 * 1. `used` is at least the sum of the costs of all files that have a name. It is raised before a
 *    write and lowered after a removal.
 * 2. A file that is open for writing knows what it was charged. After a call that failed, which may
 *    have left any part behind, it is measured.
 * 3. Files opened for reading are the inner world's own: they cost nothing and are not wrapped. */
#include "store/trace/room.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct face {
    struct os os; /* first */
    struct room *room;
    enum room_use use;
};

struct room {
    struct os *os;
    room_make *make;
    void *arg;
    _Atomic uint64_t used, max, state_reserve, block_reserve;
    struct face faces[ROOM_USES];
};

struct room_file {
    struct os_file file; /* first */
    struct os_file *inner;
    uint64_t charged;
};

static struct face *face_of(struct os *os)
{
    return (struct face *)os;
}

static struct os *inner_of(struct os *os)
{
    return face_of(os)->room->os;
}

static struct room_file *file_of(struct os_file *f)
{
    return (struct room_file *)f;
}

static uint64_t cost(uint64_t size)
{
    return round_up(size, ROOM_PAGE) + ROOM_PAGE;
}

/* Of the file with this name; 0 when there is none. */
static uint64_t cost_of(struct os *inner, const char *path)
{
    struct os_file *f;
    uint64_t size = 0;
    if (os_open(inner, path, OS_READ, &f, NULL) != E_OK)
        return 0;
    enum errc rc = os_size(f, &size, NULL);
    os_close(f);
    return rc == E_OK ? cost(size) : 0;
}

/* --- taking and giving --- */

static uint64_t limit_of(const struct room *r, enum room_use use)
{
    uint64_t max = atomic_load(&r->max), left = 0;
    if (!max || use == ROOM_STATE)
        return UINT64_MAX;
    left += atomic_load(&r->state_reserve);
    left += use == ROOM_BLOCK ? 0 : atomic_load(&r->block_reserve);
    return max > left ? max - left : 0;
}

uint64_t room_lacks(const struct room *r, enum room_use use, uint64_t bytes)
{
    uint64_t limit = limit_of(r, use), want = atomic_load(&r->used) + bytes;
    return want > limit ? want - limit : 0;
}

static bool take(struct room *r, enum room_use use, uint64_t bytes)
{
    uint64_t limit = limit_of(r, use), used = atomic_load(&r->used);
    do {
        if (bytes > limit || used > limit - bytes)
            return false;
    } while (!atomic_compare_exchange_weak(&r->used, &used, used + bytes));
    return true;
}

static void give(struct room *r, uint64_t bytes)
{
    atomic_fetch_sub(&r->used, bytes);
}

static enum errc charge(struct face *f, uint64_t bytes, struct err *e)
{
    struct room *r = f->room;
    if (take(r, f->use, bytes))
        return E_OK;
    if (f->use == ROOM_BLOCK && r->make) {
        r->make(r->arg, bytes);
        if (take(r, f->use, bytes))
            return E_OK;
    }
    return fail(e, E_FULL, "the disk cap of %llu bytes is reached",
                (unsigned long long)atomic_load(&r->max));
}

/* The file is about to be `size` bytes long. */
static enum errc grow(struct room_file *f, uint64_t size, struct err *e)
{
    uint64_t want = cost(size);
    if (want <= f->charged)
        return E_OK;
    enum errc rc = charge(face_of(f->file.os), want - f->charged, e);
    if (rc == E_OK)
        f->charged = want;
    return rc;
}

/* After a call that may have left the file shorter than it was charged for. */
static enum errc settle(struct room_file *f, enum errc rc)
{
    uint64_t size;
    if (os_size(f->inner, &size, NULL) != E_OK || cost(size) >= f->charged)
        return rc;
    give(face_of(f->file.os)->room, f->charged - cost(size));
    f->charged = cost(size);
    return rc;
}

/* --- the world, counted --- */

static uint64_t op_now_ns(struct os *os)
{
    return os_now_ns(inner_of(os));
}

static uint64_t op_mono_ns(struct os *os)
{
    return os_mono_ns(inner_of(os));
}

static void op_random(struct os *os, void *out, size_t n)
{
    os_random(inner_of(os), out, n);
}

static enum errc op_open(struct os *os, const char *path, int flags, struct os_file **out,
                         struct err *e)
{
    struct os *inner = inner_of(os);
    if (!(flags & OS_WRITE))
        return os_open(inner, path, flags, out, e);
    struct room *r = face_of(os)->room;
    uint64_t before = cost_of(inner, path), fresh = before ? 0 : cost(0);
    enum errc rc = charge(face_of(os), fresh, e);
    if (rc != E_OK)
        return rc;
    struct room_file *f = xcalloc(1, sizeof *f);
    *f = (struct room_file){.file = {os}, .charged = before + fresh};
    rc = os_open(inner, path, flags, &f->inner, e);
    if (rc != E_OK) {
        give(r, fresh);
        free(f);
        return rc;
    }
    *out = &f->file;
    return flags & OS_FRESH ? settle(f, E_OK) : E_OK;
}

static void op_close(struct os_file *f)
{
    os_close(file_of(f)->inner);
    free(file_of(f));
}

static enum errc op_pread(struct os_file *f, void *out, size_t n, uint64_t off, size_t *got,
                          struct err *e)
{
    return os_pread(file_of(f)->inner, out, n, off, got, e);
}

static enum errc op_pwritev(struct os_file *of, const struct iovec *iov, int count, uint64_t off,
                            struct err *e)
{
    struct room_file *f = file_of(of);
    uint64_t end = off;
    for (int i = 0; i < count; i++)
        end += iov[i].iov_len;
    enum errc rc = grow(f, end, e);
    if (rc != E_OK)
        return rc;
    rc = os_pwritev(f->inner, iov, count, off, e);
    return rc == E_OK ? rc : settle(f, rc);
}

static enum errc op_sync(struct os_file *f, struct err *e)
{
    return os_sync(file_of(f)->inner, e);
}

static enum errc op_allocate(struct os_file *of, uint64_t size, struct err *e)
{
    struct room_file *f = file_of(of);
    enum errc rc = grow(f, size, e);
    if (rc != E_OK)
        return rc;
    rc = os_allocate(f->inner, size, e);
    return rc == E_OK ? rc : settle(f, rc);
}

static enum errc op_truncate(struct os_file *of, uint64_t size, struct err *e)
{
    struct room_file *f = file_of(of);
    enum errc rc = grow(f, size, e);
    return rc == E_OK ? settle(f, os_truncate(f->inner, size, e)) : rc;
}

static enum errc op_size(struct os_file *f, uint64_t *size, struct err *e)
{
    return os_size(file_of(f)->inner, size, e);
}

static enum errc op_lock(struct os_file *f, struct err *e)
{
    return os_lock(file_of(f)->inner, e);
}

static enum errc op_rename(struct os *os, const char *from, const char *to, struct err *e)
{
    uint64_t replaced = cost_of(inner_of(os), to);
    enum errc rc = os_rename(inner_of(os), from, to, e);
    if (rc == E_OK)
        give(face_of(os)->room, replaced);
    return rc;
}

static enum errc op_unlink(struct os *os, const char *path, struct err *e)
{
    uint64_t removed = cost_of(inner_of(os), path);
    enum errc rc = os_unlink(inner_of(os), path, e);
    if (rc == E_OK)
        give(face_of(os)->room, removed);
    return rc;
}

static enum errc op_mkdir(struct os *os, const char *path, struct err *e)
{
    return os_mkdir(inner_of(os), path, e);
}

static enum errc op_sync_dir(struct os *os, const char *path, struct err *e)
{
    return os_sync_dir(inner_of(os), path, e);
}

static enum errc op_list(struct os *os, const char *path, void (*each)(void *arg, const char *name),
                         void *arg, struct err *e)
{
    return os_list(inner_of(os), path, each, arg, e);
}

static enum errc op_free_bytes(struct os *os, const char *path, uint64_t *free_bytes, struct err *e)
{
    return os_free_bytes(inner_of(os), path, free_bytes, e);
}

static const struct os_ops ops = {
    .now_ns = op_now_ns,
    .mono_ns = op_mono_ns,
    .random = op_random,
    .open = op_open,
    .close = op_close,
    .pread = op_pread,
    .pwritev = op_pwritev,
    .sync = op_sync,
    .allocate = op_allocate,
    .truncate = op_truncate,
    .size = op_size,
    .lock = op_lock,
    .rename = op_rename,
    .unlink = op_unlink,
    .mkdir = op_mkdir,
    .sync_dir = op_sync_dir,
    .list = op_list,
    .free_bytes = op_free_bytes,
};

/* --- the room --- */

struct room *room_new(struct os *os, room_make *make, void *arg)
{
    struct room *r = xcalloc(1, sizeof *r);
    r->os = os;
    r->make = make;
    r->arg = arg;
    for (int i = 0; i < ROOM_USES; i++)
        r->faces[i] = (struct face){.os = {&ops}, .room = r, .use = (enum room_use)i};
    return r;
}

void room_free(struct room *r)
{
    free(r);
}

struct os *room_os(struct room *r, enum room_use use)
{
    return &r->faces[use].os;
}

struct scan {
    struct os *os;
    const char *dir;
    uint64_t bytes;
};

static void scan_entry(void *arg, const char *name)
{
    struct scan *s = arg;
    char path[4200];
    int n = snprintf(path, sizeof path, "%s/%s", s->dir, name);
    if (n > 0 && (size_t)n < sizeof path)
        s->bytes += cost_of(s->os, path);
}

enum errc room_scan(struct room *r, const char *dir, struct err *e)
{
    static const char *const folders[] = {"", "/blocks", "/wal", "/damaged"};
    enum errc rc = E_OK;
    uint64_t bytes = 0;
    for (size_t i = 0; rc == E_OK && i < ARRAY_LEN(folders); i++) {
        char path[4200];
        snprintf(path, sizeof path, "%s%s", dir, folders[i]);
        struct scan scan = {.os = r->os, .dir = path, .bytes = ROOM_PAGE};
        rc = os_list(r->os, path, scan_entry, &scan, e);
        rc = rc == E_NOT_FOUND ? E_OK : rc;
        bytes += scan.bytes;
    }
    atomic_store(&r->used, bytes);
    return rc;
}

void room_limit(struct room *r, uint64_t max_bytes)
{
    atomic_store(&r->max, max_bytes);
}

void room_reserve(struct room *r, uint64_t state_bytes, uint64_t block_bytes)
{
    atomic_store(&r->state_reserve, state_bytes);
    atomic_store(&r->block_reserve, block_bytes);
}

uint64_t room_used(const struct room *r)
{
    return atomic_load(&r->used);
}

uint64_t room_limit_bytes(const struct room *r)
{
    return atomic_load(&r->max);
}
