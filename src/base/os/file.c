/* SPDX-License-Identifier: Apache-2.0 */
/* Over any back end: whole files, and what each thread moves. */
#include "base/os/os.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define READ_STEP (64 * KIB)
#define COPY_STEP (1 * MIB)

static _Thread_local struct os_io moved;

struct os_io os_thread_io(void)
{
    return moved;
}

void os_count_read(uint64_t bytes)
{
    moved.read_bytes += bytes;
}

void os_count_written(uint64_t bytes)
{
    moved.written_bytes += bytes;
}

/* Tells whether the file has a byte past the buffer's cap. */
static enum errc refuse_more(struct os_file *f, const char *path, const struct buf *out,
                             uint64_t off, struct err *e)
{
    char byte;
    size_t got;
    enum errc code = os_pread(f, &byte, 1, off, &got, e);
    if (code == E_OK && got)
        return fail(e, E_TOO_BIG, "%s is larger than %zu bytes", path, out->max);
    return code;
}

/* The size is a hint only: the file may grow while it is read. */
static enum errc read_all(struct os_file *f, const char *path, struct buf *out, struct err *e)
{
    uint64_t size, off = 0;
    enum errc code = os_size(f, &size, e);
    for (size_t got = 1; code == E_OK && got;) {
        uint64_t step = off < size ? size - off : READ_STEP;
        size_t want = (size_t)min_u64(step, out->max - out->n);
        if (want == 0)
            return refuse_more(f, path, out, off, e);
        if (!buf_reserve(out, want))
            return fail(e, E_NO_MEMORY, "no memory to read %s", path);
        code = os_pread(f, out->p + out->n, want, off, &got, e);
        if (code == E_OK) {
            out->n += got;
            off += got;
        }
    }
    return code;
}

enum errc os_read_file(struct os *os, const char *path, struct buf *out, struct err *e)
{
    struct os_file *f;
    enum errc code = os_open(os, path, OS_READ, &f, e);
    if (code != E_OK)
        return code;
    code = read_all(f, path, out, e);
    os_close(f);
    return code;
}

static enum errc write_synced(struct os *os, const char *path, struct str data, struct err *e)
{
    struct os_file *f;
    enum errc code = os_open(os, path, OS_WRITE | OS_FRESH, &f, e);
    if (code != E_OK)
        return code;
    code = os_pwrite(f, data, 0, e);
    if (code == E_OK)
        code = os_sync(f, e);
    os_close(f);
    return code;
}

enum errc os_replace_file(struct os *os, const char *dir, const char *name, struct str data,
                          struct err *e)
{
    char path[PATH_MAX], beside[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    int m = snprintf(beside, sizeof beside, "%s/%s.new", dir, name);
    if (n < 0 || m < 0 || (size_t)m >= sizeof beside)
        return fail(e, E_TOO_BIG, "path too long: %s/%s", dir, name);
    enum errc code = write_synced(os, beside, data, e);
    if (code == E_OK)
        code = os_rename(os, beside, path, e);
    if (code != E_OK) {
        /* The first error is the one to tell; a left-over ".new" is overwritten next time. */
        enum errc ignored = os_unlink(os, beside, NULL);
        (void)ignored;
        return code;
    }
    return os_sync_dir(os, dir, e);
}

/* --- copies --- */

static enum errc copy_bytes(struct os_file *in, struct os_file *out, struct err *e)
{
    char *step = malloc(COPY_STEP);
    size_t got = COPY_STEP;
    enum errc code = step ? E_OK : fail(e, E_NO_MEMORY, "no memory to copy a file");
    for (uint64_t off = 0; code == E_OK && got == COPY_STEP; off += got) {
        code = os_pread(in, step, COPY_STEP, off, &got, e);
        if (code == E_OK && got)
            code = os_pwrite(out, str_of(step, got), off, e);
    }
    free(step);
    return code;
}

enum errc os_copy_file(struct os *os, const char *from, const char *to, struct err *e)
{
    struct os_file *in, *out;
    enum errc code = os_open(os, from, OS_READ, &in, e);
    if (code != E_OK)
        return code;
    code = os_open(os, to, OS_WRITE | OS_FRESH, &out, e);
    if (code == E_OK) {
        code = copy_bytes(in, out, e);
        if (code == E_OK)
            code = os_sync(out, e);
        os_close(out);
    }
    os_close(in);
    if (code != E_OK) {
        enum errc ignored = os_unlink(os, to, NULL); /* the first error is the one to tell */
        (void)ignored;
    }
    return code;
}

enum errc os_link_or_copy(struct os *os, const char *from, const char *to, bool *linked,
                          struct err *e)
{
    enum errc code = os_link(os, from, to, e);
    *linked = code == E_OK;
    return code == E_UNSUPPORTED ? os_copy_file(os, from, to, e) : code;
}
