/* SPDX-License-Identifier: Apache-2.0 */
/* The machine itself. Calls interrupted by a signal are repeated, short reads and writes continued;
 * what remains is an error with the path's own sentence. */
#include "base/os/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

/* Spans hold what users typed: not for others to read. */
#define FILE_MODE 0640
#define DIR_MODE  0750
/* Far below IOV_MAX and enough to amortise the call. */
#define IOV_STEP 64

struct posix_file {
    struct os_file base;
    int fd;
    char path[]; /* for sentences */
};

static struct posix_file *file_of(struct os_file *f)
{
    return (struct posix_file *)f;
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;
    ensure(clock_gettime(id, &t) == 0);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t posix_now_ns(struct os *os)
{
    (void)os;
    return clock_ns(CLOCK_REALTIME);
}

static uint64_t posix_mono_ns(struct os *os)
{
    (void)os;
    return clock_ns(CLOCK_MONOTONIC);
}

static void posix_random(struct os *os, void *out, size_t n)
{
    (void)os;
    char *p = out;
    while (n) {
        ssize_t got = getrandom(p, n, 0);
        ensure(got >= 0 || errno == EINTR);
        p += got > 0 ? got : 0;
        n -= got > 0 ? (size_t)got : 0;
    }
}

static enum errc posix_open(struct os *os, const char *path, int flags, struct os_file **out,
                            struct err *e)
{
    int how = flags & OS_WRITE ? O_RDWR | O_CREAT : O_RDONLY;
    if (flags & OS_WRITE && flags & OS_FRESH)
        how |= O_TRUNC;
    int fd;
    do
        fd = open(path, how | O_CLOEXEC, FILE_MODE);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return fail_errno(e, errno == ENOENT ? E_NOT_FOUND : E_IO, "cannot open %s", path);
    size_t n = strlen(path) + 1;
    struct posix_file *f = xmalloc(sizeof *f + n);
    f->base.os = os;
    f->fd = fd;
    memcpy(f->path, path, n);
    *out = &f->base;
    return E_OK;
}

static void posix_close(struct os_file *of)
{
    struct posix_file *f = file_of(of);
    close(f->fd); /* what matters was synced before; Linux has freed the number even on EINTR */
    free(f);
}

static enum errc posix_pread(struct os_file *of, void *out, size_t n, uint64_t off, size_t *got,
                             struct err *e)
{
    struct posix_file *f = file_of(of);
    size_t done = 0;
    *got = 0;
    while (done < n) {
        ssize_t r = pread(f->fd, (char *)out + done, n - done, (off_t)(off + done));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return fail_errno(e, E_IO, "cannot read %s", f->path);
        if (r == 0)
            break;
        os_count_read((uint64_t)r);
        done += (size_t)r;
    }
    *got = done;
    return E_OK;
}

/* What remains of a vector: iov[0] without its first `skip` bytes, then the rest. */
struct rest {
    const struct iovec *iov;
    int count;
    size_t skip;
};

static int rest_fill(const struct rest *r, struct iovec *part)
{
    int n = 0;
    for (; n < r->count && n < IOV_STEP; n++)
        part[n] = r->iov[n];
    part[0].iov_base = (char *)part[0].iov_base + r->skip;
    part[0].iov_len -= r->skip;
    return n;
}

static void rest_advance(struct rest *r, size_t n)
{
    while (r->count && n >= r->iov->iov_len - r->skip) {
        n -= r->iov->iov_len - r->skip;
        r->skip = 0;
        r->iov++;
        r->count--;
    }
    r->skip += n;
}

static enum errc posix_pwritev(struct os_file *of, const struct iovec *iov, int count, uint64_t off,
                               struct err *e)
{
    struct posix_file *f = file_of(of);
    struct rest rest = {.iov = iov, .count = count};
    rest_advance(&rest, 0); /* over empty leading parts */
    while (rest.count) {
        struct iovec part[IOV_STEP];
        int n = rest_fill(&rest, part);
        ssize_t wrote = pwritev(f->fd, part, n, (off_t)off);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return fail_errno(e, E_IO, "cannot write %s", f->path);
        if (wrote == 0)
            return fail(e, E_IO, "cannot write %s: the system takes no bytes", f->path);
        os_count_written((uint64_t)wrote);
        off += (uint64_t)wrote;
        rest_advance(&rest, (size_t)wrote);
    }
    return E_OK;
}

static enum errc posix_sync(struct os_file *of, struct err *e)
{
    struct posix_file *f = file_of(of);
    if (fdatasync(f->fd) != 0)
        return fail_errno(e, E_IO, "cannot sync %s", f->path);
    return E_OK;
}

static enum errc posix_truncate(struct os_file *of, uint64_t size, struct err *e)
{
    struct posix_file *f = file_of(of);
    int r;
    do
        r = ftruncate(f->fd, (off_t)size);
    while (r != 0 && errno == EINTR);
    return r == 0 ? E_OK : fail_errno(e, E_IO, "cannot set the size of %s", f->path);
}

static enum errc posix_size(struct os_file *of, uint64_t *size, struct err *e)
{
    struct posix_file *f = file_of(of);
    struct stat st;
    if (fstat(f->fd, &st) != 0)
        return fail_errno(e, E_IO, "cannot stat %s", f->path);
    *size = (uint64_t)st.st_size;
    return E_OK;
}

/* fallocate(2) and not posix_fallocate(3), whose substitute writes every block. */
static enum errc posix_allocate(struct os_file *of, uint64_t size, struct err *e)
{
    struct posix_file *f = file_of(of);
    if (size == 0)
        return E_OK;
    int r;
    do
        r = fallocate(f->fd, 0, 0, (off_t)size);
    while (r != 0 && errno == EINTR);
    if (r == 0)
        return E_OK;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return fail_errno(e, E_IO, "cannot reserve space for %s", f->path);
    uint64_t now = 0;
    enum errc code = posix_size(of, &now, e);
    return code != E_OK || now >= size ? code : posix_truncate(of, size, e);
}

static enum errc posix_lock(struct os_file *of, struct err *e)
{
    struct posix_file *f = file_of(of);
    int r;
    do
        r = flock(f->fd, LOCK_EX | LOCK_NB);
    while (r != 0 && errno == EINTR);
    if (r == 0)
        return E_OK;
    if (errno == EWOULDBLOCK)
        return fail(e, E_LOCKED, "%s is in use by another process", f->path);
    return fail_errno(e, E_IO, "cannot lock %s", f->path);
}

static enum errc posix_rename(struct os *os, const char *from, const char *to, struct err *e)
{
    (void)os;
    if (rename(from, to) != 0)
        return fail_errno(e, errno == ENOENT ? E_NOT_FOUND : E_IO, "cannot rename %s to %s", from,
                          to);
    return E_OK;
}

/* Is it that these two places cannot share a file, rather than that something is wrong? */
static bool cannot_share(int no)
{
    return no == EXDEV || no == EPERM || no == EMLINK || no == EOPNOTSUPP || no == ENOSYS;
}

static enum errc posix_link(struct os *os, const char *from, const char *to, struct err *e)
{
    (void)os;
    if (link(from, to) == 0)
        return E_OK;
    enum errc code = cannot_share(errno) ? E_UNSUPPORTED : E_IO;
    if (errno == ENOENT || errno == EEXIST)
        code = errno == ENOENT ? E_NOT_FOUND : E_EXISTS;
    return fail_errno(e, code, "cannot link %s to %s", from, to);
}

static enum errc posix_unlink(struct os *os, const char *path, struct err *e)
{
    (void)os;
    if (unlink(path) != 0)
        return fail_errno(e, errno == ENOENT ? E_NOT_FOUND : E_IO, "cannot remove %s", path);
    return E_OK;
}

static bool is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static enum errc posix_sync_dir(struct os *os, const char *path, struct err *e)
{
    (void)os;
    int fd;
    do
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return fail_errno(e, errno == ENOENT ? E_NOT_FOUND : E_IO, "cannot open %s", path);
    enum errc code = E_OK;
    if (fsync(fd) != 0 && errno != EINVAL) /* EINVAL: this file system has no such thing */
        code = fail_errno(e, E_IO, "cannot sync directory %s", path);
    close(fd);
    return code;
}

/* One directory whose parents are there, its name synced. */
static enum errc mkdir_one(struct os *os, const char *path, struct err *e)
{
    char parent[PATH_MAX];
    if (mkdir(path, DIR_MODE) != 0) {
        int no = errno; /* also EROFS or EACCES of a parent that is there */
        if (is_dir(path))
            return E_OK;
        errno = no;
        return fail_errno(e, E_IO, "cannot make directory %s", path);
    }
    const char *slash = strrchr(path, '/');
    int n = slash ? (int)(slash - path) : 0;
    snprintf(parent, sizeof parent, "%.*s", n, path);
    return posix_sync_dir(os, n ? parent : slash ? "/" : ".", e);
}

static enum errc posix_mkdir(struct os *os, const char *path, struct err *e)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n >= sizeof part)
        return fail(e, E_TOO_BIG, "path too long: %s", path);
    memcpy(part, path, n + 1);
    enum errc code = E_OK;
    for (size_t i = 1; i <= n && code == E_OK; i++) {
        if ((path[i] != '/' && path[i] != '\0') || path[i - 1] == '/')
            continue;
        part[i] = '\0';
        code = mkdir_one(os, part, e);
        part[i] = path[i];
    }
    return code;
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static enum errc posix_list(struct os *os, const char *path,
                            void (*each)(void *arg, const char *name), void *arg, struct err *e)
{
    (void)os;
    DIR *dir = opendir(path);
    if (!dir)
        return fail_errno(e, errno == ENOENT ? E_NOT_FOUND : E_IO, "cannot list %s", path);
    enum errc code = E_OK;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry)
            break;
        if (!is_dots(entry->d_name))
            each(arg, entry->d_name);
    }
    if (errno)
        code = fail_errno(e, E_IO, "cannot list %s", path);
    closedir(dir);
    return code;
}

static enum errc posix_free_bytes(struct os *os, const char *path, uint64_t *free_bytes,
                                  struct err *e)
{
    (void)os;
    struct statvfs st;
    if (statvfs(path, &st) != 0)
        return fail_errno(e, errno == ENOENT ? E_NOT_FOUND : E_IO, "cannot ask free space of %s",
                          path);
    *free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    return E_OK;
}

static const struct os_ops ops = {
    .now_ns = posix_now_ns,
    .mono_ns = posix_mono_ns,
    .random = posix_random,
    .open = posix_open,
    .close = posix_close,
    .pread = posix_pread,
    .pwritev = posix_pwritev,
    .sync = posix_sync,
    .allocate = posix_allocate,
    .truncate = posix_truncate,
    .size = posix_size,
    .lock = posix_lock,
    .rename = posix_rename,
    .link = posix_link,
    .unlink = posix_unlink,
    .mkdir = posix_mkdir,
    .sync_dir = posix_sync_dir,
    .list = posix_list,
    .free_bytes = posix_free_bytes,
};

struct os *os_posix(void)
{
    static struct os machine = {.ops = &ops};
    return &machine;
}
