/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated world.
 *
 * A file is an inode with two images: `now`, what readers see, and `synced`, what a power cut
 * cannot touch, and between them the list of writes and changes of size since the last sync. Names
 * are kept twice in the same way: `names`, what open() sees, and `kept_names`, what a power cut
 * leaves, and between them the list of name operations without a sync_dir.
 *
 *   1. `synced` plus any outcome of the pending writes is a content the file may have after a
 *      crash; `kept_names` plus any outcome of the pending name operations are the names.
 *   2. An inode lives while a name (of either table), a pending operation or an open file holds it.
 *      It takes room on the disk while a name in `names` or an open file holds it.
 *   3. A sync that fails forgets the pending writes without making them safe, as Linux does: a
 *      later sync that succeeds does not bring them back.
 *   4. Without faults (os_mem_new) nothing is ever pending and only `now` and `names` are used.
 *
 * One lock protects the world. In memory mode readers share it, and a waiting writer goes before
 * new readers. */
#include "base/os/sim.h"

#include "base/hash.h"
#include "base/os/image.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define SECTOR    512
#define BUCKETS   1024
#define START_NS  (UINT64_C(1767225600) * NS_PER_S) /* 2026-01-01T00:00:00Z */
#define BOUNDLESS ((uint64_t)INT64_MAX)

struct change {
    bool resize; /* to `off` bytes; otherwise n bytes were written at off */
    uint64_t off;
    size_t n;
    uint8_t *bytes;
};

struct sim_handle;

struct inode {
    struct image now, synced;
    struct change *changes; /* since the last sync, oldest first */
    size_t change_count, change_cap;
    size_t live, durable; /* references: names and open files; kept_names and pending operations */
    const struct sim_handle *locked_by;
    struct inode *prev, *next;
};

struct name {
    struct name *next;
    struct inode *inode; /* NULL for a directory */
    char path[];
};

struct names {
    struct name *buckets[BUCKETS];
};

enum name_kind { NAME_CREATE, NAME_RENAME, NAME_UNLINK };

struct name_op {
    enum name_kind kind;
    struct inode *inode;
    char *path, *to;
    struct name_op *next;
};

struct sim {
    struct os base;
    bool faults;           /* false: memory mode */
    pthread_rwlock_t lock; /* protects all below */
    uint64_t rand, wall_ns, mono_ns, epoch;
    _Atomic uint64_t calls, used;
    uint64_t peak;                /* of used */
    uint64_t fail_at, disk_bytes; /* fail_at 0: never */
    enum errc fail_code;
    bool fail_sticky;
    enum sim_lie lie;
    const char *lie_part;
    struct names names, kept_names, dirs;
    struct name_op *ops, **ops_last;
    struct inode *inodes;
};

struct sim_handle {
    struct os_file base;
    struct inode *inode;
    uint64_t epoch;
    bool writable;
    char path[];
};

static struct sim *sim_of(struct os *os)
{
    return (struct sim *)os;
}

static const struct sim *sim_of_const(const struct os *os)
{
    return (const struct sim *)os;
}

static void lock(struct sim *s)
{
    ensure(pthread_rwlock_wrlock(&s->lock) == 0);
}

static void unlock(struct sim *s)
{
    ensure(pthread_rwlock_unlock(&s->lock) == 0);
}

static uint64_t sim_rand(struct sim *s)
{
    s->rand += HASH_K0;
    return hash_u64(s->rand, HASH_K2);
}

/* --- names --- */

static struct name **names_at(struct names *t, const char *path)
{
    struct name **at = &t->buckets[hash_str(str_from_c(path), 0) % BUCKETS];
    while (*at && strcmp((*at)->path, path) != 0)
        at = &(*at)->next;
    return at;
}

static struct inode *names_get(struct names *t, const char *path)
{
    struct name *name = *names_at(t, path);
    return name ? name->inode : NULL;
}

/* Binds path to inode and returns what it was bound to. */
static struct inode *names_put(struct names *t, const char *path, struct inode *inode)
{
    struct name **at = names_at(t, path);
    if (!*at) {
        size_t n = strlen(path) + 1;
        *at = xmalloc(sizeof **at + n);
        (*at)->next = NULL;
        (*at)->inode = NULL;
        memcpy((*at)->path, path, n);
    }
    struct inode *was = (*at)->inode;
    (*at)->inode = inode;
    return was;
}

static struct inode *names_remove(struct names *t, const char *path)
{
    struct name **at = names_at(t, path), *name = *at;
    if (!name)
        return NULL;
    struct inode *was = name->inode;
    *at = name->next;
    free(name);
    return was;
}

static void names_clear(struct names *t)
{
    for (size_t i = 0; i < BUCKETS; i++)
        while (t->buckets[i])
            names_remove(t, t->buckets[i]->path);
}

/* "a//b/./c/" is "a/b/c"; ".." is not understood. */
static enum errc path_clean(const char *path, char out[PATH_MAX], struct err *e)
{
    struct str rest = str_from_c(path), part;
    size_t n = 0;
    if (rest.n >= PATH_MAX)
        return fail(e, E_TOO_BIG, "path too long");
    if (rest.n && rest.p[0] == '/')
        out[n++] = '/';
    while (str_split(&rest, '/', &part)) {
        if (part.n == 0 || str_eq(part, STR(".")))
            continue;
        if (n && out[n - 1] != '/')
            out[n++] = '/';
        memcpy(out + n, part.p, part.n);
        n += part.n;
    }
    if (n == 0)
        out[n++] = '.';
    out[n] = '\0';
    return E_OK;
}

static void path_parent(const char *path, char out[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n == 0) {
        out[0] = slash ? '/' : '.';
        out[1] = '\0';
        return;
    }
    memcpy(out, path, n);
    out[n] = '\0';
}

static bool is_dir(struct sim *s, const char *path)
{
    return strcmp(path, "/") == 0 || strcmp(path, ".") == 0 || *names_at(&s->dirs, path);
}

static bool in_dir(const char *path, const char *dir)
{
    char parent[PATH_MAX];
    path_parent(path, parent);
    return strcmp(parent, dir) == 0 && strcmp(path, dir) != 0;
}

/* --- inodes --- */

static struct inode *inode_new(struct sim *s)
{
    struct inode *i = xcalloc(1, sizeof *i);
    i->next = s->inodes;
    if (i->next)
        i->next->prev = i;
    s->inodes = i;
    return i;
}

static void changes_forget(struct inode *i)
{
    for (size_t k = 0; k < i->change_count; k++)
        free(i->changes[k].bytes);
    i->change_count = 0;
}

static void inode_free(struct sim *s, struct inode *i)
{
    *(i->prev ? &i->prev->next : &s->inodes) = i->next;
    if (i->next)
        i->next->prev = i->prev;
    changes_forget(i);
    free(i->changes);
    image_fini(&i->now);
    image_fini(&i->synced);
    free(i);
}

static void use(struct sim *s, uint64_t more)
{
    s->used += more;
    s->peak = max_u64(s->peak, s->used);
}

static void live_ref(struct sim *s, struct inode *i)
{
    if (i->live++ == 0)
        use(s, i->now.size);
}

static void live_unref(struct sim *s, struct inode *i)
{
    if (!i)
        return;
    ensure(i->live);
    if (--i->live == 0) {
        s->used -= i->now.size;
        if (i->durable == 0)
            inode_free(s, i);
    }
}

static void durable_unref(struct sim *s, struct inode *i)
{
    if (!i)
        return;
    ensure(i->durable);
    if (--i->durable == 0 && i->live == 0)
        inode_free(s, i);
}

static struct change *change_add(struct inode *i)
{
    if (i->change_count == i->change_cap) {
        i->change_cap = i->change_cap ? i->change_cap * 2 : 8;
        i->changes = xrealloc(i->changes, i->change_cap * sizeof *i->changes);
    }
    struct change *c = &i->changes[i->change_count++];
    *c = (struct change){0};
    return c;
}

static void inode_resize(struct sim *s, struct inode *i, uint64_t size)
{
    use(s, size - i->now.size);
    image_resize(&i->now, size);
    if (!s->faults)
        return;
    struct change *c = change_add(i);
    c->resize = true;
    c->off = size;
}

static enum errc inode_write(struct sim *s, struct inode *i, uint64_t off, const void *p, size_t n)
{
    uint64_t before = i->now.size;
    bool wrote = image_write(&i->now, off, p, n);
    use(s, i->now.size - before);
    if (!wrote)
        return E_NO_MEMORY;
    if (s->faults && n) {
        struct change *c = change_add(i);
        c->off = off;
        c->n = n;
        c->bytes = memcpy(xmalloc(n), p, n);
    }
    return E_OK;
}

static void change_apply(struct image *m, const struct change *c)
{
    if (c->resize)
        image_resize(m, c->off);
    else
        ensure(image_write(m, c->off, c->bytes, c->n));
}

/* --- name operations --- */

static void op_add(struct sim *s, enum name_kind kind, struct inode *i, const char *path,
                   const char *to)
{
    if (!s->faults)
        return;
    struct name_op *op = xcalloc(1, sizeof *op);
    *op = (struct name_op){.kind = kind, .inode = i, .path = xstrdup(path)};
    op->to = to ? xstrdup(to) : NULL;
    i->durable++;
    *s->ops_last = op;
    s->ops_last = &op->next;
}

/* Does to kept_names what op did to names. */
static void op_apply(struct sim *s, const struct name_op *op)
{
    struct names *t = &s->kept_names;
    bool there = names_get(t, op->path) == op->inode;
    if (op->kind != NAME_CREATE && there)
        durable_unref(s, names_remove(t, op->path));
    if (op->kind == NAME_UNLINK)
        return;
    op->inode->durable++;
    durable_unref(s, names_put(t, op->kind == NAME_CREATE ? op->path : op->to, op->inode));
}

static void op_free(struct sim *s, struct name_op *op)
{
    durable_unref(s, op->inode);
    free(op->path);
    free(op->to);
    free(op);
}

static bool op_touches(const struct name_op *op, const char *dir)
{
    return in_dir(op->path, dir) || (op->to && in_dir(op->to, dir));
}

/* --- faults --- */

/* E_OK, or the error that this call was chosen for. */
static enum errc fault(struct sim *s, const char *path, struct err *e)
{
    if (!s->faults)
        return E_OK;
    s->calls++;
    if (!s->fail_at || s->calls < s->fail_at)
        return E_OK;
    if (!s->fail_sticky)
        s->fail_at = 0;
    return fail(e, s->fail_code, "simulated fault on %s", path);
}

static bool lies(const struct sim *s, enum sim_lie lie, const char *path)
{
    return UNLIKELY(s->lie == lie) && strstr(path, s->lie_part);
}

static enum errc room_for(struct sim *s, uint64_t more, const char *path, struct err *e)
{
    uint64_t left = s->disk_bytes > s->used ? s->disk_bytes - s->used : 0;
    return more <= left ? E_OK : fail(e, E_FULL, "no space left for %s", path);
}

static enum errc handle_check(struct sim *s, const struct sim_handle *h, struct err *e)
{
    if (h->epoch != s->epoch)
        return fail(e, E_IO, "%s was open when the power went", h->path);
    return E_OK;
}

static enum errc handle_check_write(struct sim *s, const struct sim_handle *h, struct err *e)
{
    enum errc code = handle_check(s, h, e);
    if (code == E_OK && !h->writable)
        code = fail(e, E_IO, "%s is open for reading only", h->path);
    return code == E_OK ? fault(s, h->path, e) : code;
}

/* --- the back end: clock and randomness --- */

static uint64_t op_now_ns(struct os *os)
{
    struct sim *s = sim_of(os);
    if (!s->faults)
        return os_now_ns(os_posix());
    lock(s);
    uint64_t ns = s->wall_ns;
    unlock(s);
    return ns;
}

static uint64_t op_mono_ns(struct os *os)
{
    struct sim *s = sim_of(os);
    if (!s->faults)
        return os_mono_ns(os_posix());
    lock(s);
    uint64_t ns = s->mono_ns;
    unlock(s);
    return ns;
}

static void op_random(struct os *os, void *out, size_t n)
{
    struct sim *s = sim_of(os);
    if (!s->faults) {
        os_random(os_posix(), out, n);
        return;
    }
    lock(s);
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = (uint8_t)sim_rand(s);
    unlock(s);
}

/* --- the back end: files --- */

static struct os_file *handle_new(struct sim *s, struct inode *i, const char *path, bool writable)
{
    size_t n = strlen(path) + 1;
    struct sim_handle *h = xmalloc(sizeof *h + n);
    h->base.os = &s->base;
    h->inode = i;
    h->epoch = s->epoch;
    h->writable = writable;
    memcpy(h->path, path, n);
    live_ref(s, i);
    return &h->base;
}

static enum errc open_locked(struct sim *s, const char *path, int flags, struct os_file **out,
                             struct err *e)
{
    bool write = flags & OS_WRITE;
    enum errc code = write ? fault(s, path, e) : E_OK;
    if (code != E_OK)
        return code;
    char parent[PATH_MAX];
    path_parent(path, parent);
    struct inode *i = names_get(&s->names, path);
    if (is_dir(s, path))
        return fail(e, E_IO, "%s is a directory", path);
    if (!is_dir(s, parent) || (!i && !write))
        return fail(e, E_NOT_FOUND, "cannot open %s: not found", path);
    if (!i) {
        i = inode_new(s);
        live_ref(s, i);
        names_put(&s->names, path, i);
        op_add(s, NAME_CREATE, i, path, NULL);
    } else if (write && flags & OS_FRESH) {
        inode_resize(s, i, 0);
    }
    *out = handle_new(s, i, path, write);
    return E_OK;
}

static enum errc op_open(struct os *os, const char *path, int flags, struct os_file **out,
                         struct err *e)
{
    struct sim *s = sim_of(os);
    char clean[PATH_MAX];
    enum errc code = path_clean(path, clean, e);
    if (code != E_OK)
        return code;
    lock(s);
    code = open_locked(s, clean, flags, out, e);
    unlock(s);
    return code;
}

static void op_close(struct os_file *f)
{
    struct sim *s = sim_of(f->os);
    struct sim_handle *h = (struct sim_handle *)f;
    lock(s);
    if (h->inode->locked_by == h)
        h->inode->locked_by = NULL;
    live_unref(s, h->inode);
    unlock(s);
    free(h);
}

static enum errc op_pread(struct os_file *f, void *out, size_t n, uint64_t off, size_t *got,
                          struct err *e)
{
    struct sim *s = sim_of(f->os);
    const struct sim_handle *h = (const struct sim_handle *)f;
    *got = 0;
    if (s->faults) /* counts the call */
        lock(s);
    else
        ensure(pthread_rwlock_rdlock(&s->lock) == 0);
    enum errc code = handle_check(s, h, e);
    if (code == E_OK)
        code = fault(s, h->path, e);
    uint64_t size = h->inode->now.size;
    if (code == E_OK && off < size) {
        *got = (size_t)min_u64(n, size - off);
        image_read(&h->inode->now, off, out, *got);
        os_count_read(*got);
    }
    unlock(s);
    return code;
}

/* The first `n` bytes of the vector, as one write each part. */
static enum errc write_parts(struct sim *s, struct sim_handle *h, const struct iovec *iov,
                             int count, uint64_t off, uint64_t n, struct err *e)
{
    for (int i = 0; i < count && n; i++) {
        size_t part = (size_t)min_u64(iov[i].iov_len, n);
        if (inode_write(s, h->inode, off, iov[i].iov_base, part) != E_OK)
            return fail(e, E_NO_MEMORY, "no memory to write %s", h->path);
        os_count_written(part);
        off += part;
        n -= part;
    }
    return E_OK;
}

static enum errc pwritev_locked(struct sim *s, struct sim_handle *h, const struct iovec *iov,
                                int count, uint64_t off, struct err *e)
{
    uint64_t total = 0;
    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    if (off > BOUNDLESS || total > BOUNDLESS - off)
        return fail(e, E_TOO_BIG, "%s would grow too large", h->path);
    enum errc code = handle_check_write(s, h, e);
    bool dead = h->epoch != s->epoch || !h->writable;
    uint64_t end = off + total, size = h->inode->now.size;
    if (code == E_OK && end > size)
        code = room_for(s, end - size, h->path, e);
    if (code == E_OK && lies(s, SIM_WRITE_TORN, h->path) && sim_rand(s) % 8 == 0)
        total = sim_rand(s) % (total + 1);
    if (code == E_OK)
        return write_parts(s, h, iov, count, off, total, e);
    if (!dead && s->faults && total) {
        /* Some of it arrived, but no more than the disk can hold. */
        uint64_t left = s->disk_bytes > s->used ? s->disk_bytes - s->used : 0;
        uint64_t most = off > size ? 0 : min_u64(total, size - off + left);
        enum errc ignored = write_parts(s, h, iov, count, off, sim_rand(s) % (most + 1), NULL);
        (void)ignored;
    }
    return code;
}

static enum errc op_pwritev(struct os_file *f, const struct iovec *iov, int count, uint64_t off,
                            struct err *e)
{
    struct sim *s = sim_of(f->os);
    lock(s);
    enum errc code = pwritev_locked(s, (struct sim_handle *)f, iov, count, off, e);
    unlock(s);
    return code;
}

static enum errc op_sync(struct os_file *f, struct err *e)
{
    struct sim *s = sim_of(f->os);
    const struct sim_handle *h = (const struct sim_handle *)f;
    lock(s);
    enum errc code = handle_check(s, h, e);
    if (code == E_OK && lies(s, SIM_SYNC_LIES, h->path)) {
        unlock(s);
        return E_OK;
    }
    bool dead = code != E_OK;
    if (code == E_OK)
        code = fault(s, h->path, e);
    struct inode *i = h->inode;
    for (size_t k = 0; k < i->change_count && !dead; k++)
        if (code == E_OK || sim_rand(s) % 2) /* a failed sync may have come some way */
            change_apply(&i->synced, &i->changes[k]);
    if (!dead)
        changes_forget(i);
    unlock(s);
    return code;
}

/* Sets the size; `grow_only` is allocate. */
static enum errc set_size(struct os_file *f, uint64_t size, bool grow_only, struct err *e)
{
    struct sim *s = sim_of(f->os);
    struct sim_handle *h = (struct sim_handle *)f;
    lock(s);
    enum errc code = size > BOUNDLESS ? fail(e, E_TOO_BIG, "%s would grow too large", h->path)
                                      : handle_check_write(s, h, e);
    uint64_t now = h->inode->now.size;
    if (code == E_OK && size > now)
        code = room_for(s, size - now, h->path, e);
    if (code == E_OK && size != now && !(grow_only && size < now))
        inode_resize(s, h->inode, size);
    unlock(s);
    return code;
}

static enum errc op_allocate(struct os_file *f, uint64_t size, struct err *e)
{
    return set_size(f, size, true, e);
}

static enum errc op_truncate(struct os_file *f, uint64_t size, struct err *e)
{
    return set_size(f, size, false, e);
}

static enum errc op_size(struct os_file *f, uint64_t *size, struct err *e)
{
    struct sim *s = sim_of(f->os);
    const struct sim_handle *h = (const struct sim_handle *)f;
    lock(s);
    enum errc code = handle_check(s, h, e);
    *size = code == E_OK ? h->inode->now.size : 0;
    unlock(s);
    return code;
}

static enum errc op_lock(struct os_file *f, struct err *e)
{
    struct sim *s = sim_of(f->os);
    struct sim_handle *h = (struct sim_handle *)f;
    lock(s);
    enum errc code = handle_check(s, h, e);
    if (code == E_OK && h->inode->locked_by && h->inode->locked_by != h)
        code = fail(e, E_LOCKED, "%s is in use by another process", h->path);
    if (code == E_OK)
        h->inode->locked_by = h;
    unlock(s);
    return code;
}

/* --- the back end: names --- */

static enum errc rename_locked(struct sim *s, const char *from, const char *to, struct err *e)
{
    enum errc code = fault(s, from, e);
    if (code != E_OK)
        return code;
    char parent[PATH_MAX];
    path_parent(to, parent);
    struct inode *i = names_get(&s->names, from);
    if (is_dir(s, from) || is_dir(s, to))
        return fail(e, E_UNSUPPORTED, "cannot rename %s: directories stay where they are", from);
    if (!i || !is_dir(s, parent))
        return fail(e, E_NOT_FOUND, "cannot rename %s to %s: not found", from, to);
    if (strcmp(from, to) == 0)
        return E_OK;
    names_remove(&s->names, from);
    op_add(s, NAME_RENAME, i, from, to);
    live_unref(s, names_put(&s->names, to, i));
    return E_OK;
}

/* For the calls that take two paths. */
static enum errc with_paths(struct os *os, const char *from, const char *to, struct err *e,
                            enum errc (*body)(struct sim *s, const char *from, const char *to,
                                              struct err *e))
{
    struct sim *s = sim_of(os);
    char clean_from[PATH_MAX], clean_to[PATH_MAX];
    enum errc code = path_clean(from, clean_from, e);
    if (code == E_OK)
        code = path_clean(to, clean_to, e);
    if (code != E_OK)
        return code;
    lock(s);
    code = body(s, clean_from, clean_to, e);
    unlock(s);
    return code;
}

static enum errc op_rename(struct os *os, const char *from, const char *to, struct err *e)
{
    return with_paths(os, from, to, e, rename_locked);
}

/* To a crash it is as if the file had been created there. */
static enum errc link_locked(struct sim *s, const char *from, const char *to, struct err *e)
{
    enum errc code = fault(s, from, e);
    if (code != E_OK)
        return code;
    char parent[PATH_MAX];
    path_parent(to, parent);
    struct inode *i = names_get(&s->names, from);
    if (!i || !is_dir(s, parent))
        return fail(e, E_NOT_FOUND, "cannot link %s to %s: not found", from, to);
    if (names_get(&s->names, to) || is_dir(s, to))
        return fail(e, E_EXISTS, "cannot link %s to %s: it exists", from, to);
    live_ref(s, i);
    names_put(&s->names, to, i);
    op_add(s, NAME_CREATE, i, to, NULL);
    return E_OK;
}

static enum errc op_link(struct os *os, const char *from, const char *to, struct err *e)
{
    return with_paths(os, from, to, e, link_locked);
}

static enum errc unlink_locked(struct sim *s, const char *path, struct err *e)
{
    enum errc code = fault(s, path, e);
    if (code != E_OK)
        return code;
    struct inode *i = names_get(&s->names, path);
    if (!i)
        return is_dir(s, path) ? fail(e, E_IO, "%s is a directory", path)
                               : fail(e, E_NOT_FOUND, "cannot remove %s: not found", path);
    op_add(s, NAME_UNLINK, i, path, NULL);
    live_unref(s, names_remove(&s->names, path));
    return E_OK;
}

/* For the calls that take one path. */
static enum errc with_path(struct os *os, const char *path, struct err *e,
                           enum errc (*body)(struct sim *s, const char *path, struct err *e))
{
    struct sim *s = sim_of(os);
    char clean[PATH_MAX];
    enum errc code = path_clean(path, clean, e);
    if (code != E_OK)
        return code;
    lock(s);
    code = body(s, clean, e);
    unlock(s);
    return code;
}

static enum errc op_unlink(struct os *os, const char *path, struct err *e)
{
    return with_path(os, path, e, unlink_locked);
}

static enum errc mkdir_locked(struct sim *s, const char *path, struct err *e)
{
    enum errc code = fault(s, path, e);
    if (code != E_OK)
        return code;
    char part[PATH_MAX];
    for (const char *at = path; at;) {
        at = strchr(at + 1, '/');
        size_t n = at ? (size_t)(at - path) : strlen(path);
        memcpy(part, path, n);
        part[n] = '\0';
        if (names_get(&s->names, part))
            return fail(e, E_IO, "%s is not a directory", part);
        if (!is_dir(s, part))
            names_put(&s->dirs, part, NULL);
    }
    return E_OK;
}

static enum errc op_mkdir(struct os *os, const char *path, struct err *e)
{
    return with_path(os, path, e, mkdir_locked);
}

static enum errc sync_dir_locked(struct sim *s, const char *path, struct err *e)
{
    enum errc code = fault(s, path, e);
    if (code == E_OK && !is_dir(s, path))
        code = fail(e, E_NOT_FOUND, "cannot sync %s: not found", path);
    if (lies(s, SIM_SYNC_DIR_LIES, path))
        return code;
    struct name_op **at = &s->ops;
    while (code == E_OK && *at) {
        struct name_op *op = *at;
        if (op_touches(op, path)) {
            *at = op->next;
            op_apply(s, op);
            op_free(s, op);
        } else {
            at = &op->next;
        }
    }
    if (code == E_OK)
        s->ops_last = at;
    return code;
}

static enum errc op_sync_dir(struct os *os, const char *path, struct err *e)
{
    return with_path(os, path, e, sync_dir_locked);
}

static void list_table(const struct names *t, const char *dir, struct buf *out)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (const struct name *name = t->buckets[i]; name; name = name->next)
            if (in_dir(name->path, dir)) {
                const char *slash = strrchr(name->path, '/');
                const char *base = slash ? slash + 1 : name->path;
                buf_add(out, base, strlen(base) + 1);
            }
}

/* The names are copied first: `each` may call the world. */
static enum errc op_list(struct os *os, const char *path, void (*each)(void *arg, const char *name),
                         void *arg, struct err *e)
{
    struct sim *s = sim_of(os);
    char clean[PATH_MAX];
    enum errc code = path_clean(path, clean, e);
    if (code != E_OK)
        return code;
    struct buf all = buf_init(SIZE_MAX);
    lock(s);
    bool found = is_dir(s, clean);
    list_table(&s->names, clean, &all);
    list_table(&s->dirs, clean, &all);
    unlock(s);
    if (!found)
        code = fail(e, E_NOT_FOUND, "cannot list %s: not found", path);
    else if (all.failed)
        code = fail(e, E_NO_MEMORY, "no memory to list %s", path);
    for (size_t at = 0; code == E_OK && at < all.n; at += strlen(all.p + at) + 1)
        each(arg, all.p + at);
    buf_fini(&all);
    return code;
}

static enum errc op_free_bytes(struct os *os, const char *path, uint64_t *free_bytes, struct err *e)
{
    (void)path;
    (void)e;
    struct sim *s = sim_of(os);
    lock(s);
    *free_bytes = s->disk_bytes > s->used ? s->disk_bytes - s->used : 0;
    unlock(s);
    return E_OK;
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
    .link = op_link,
    .unlink = op_unlink,
    .mkdir = op_mkdir,
    .sync_dir = op_sync_dir,
    .list = op_list,
    .free_bytes = op_free_bytes,
};

/* --- the world's own switches --- */

static struct sim *world_new(bool faults, uint64_t seed)
{
    struct sim *s = xcalloc(1, sizeof *s);
    s->base.ops = &ops;
    s->faults = faults;
    s->rand = seed;
    s->wall_ns = START_NS;
    s->mono_ns = NS_PER_S;
    s->disk_bytes = BOUNDLESS;
    s->ops_last = &s->ops;
    pthread_rwlockattr_t attr;
    ensure(pthread_rwlockattr_init(&attr) == 0);
    ensure(pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) == 0);
    ensure(pthread_rwlock_init(&s->lock, &attr) == 0);
    pthread_rwlockattr_destroy(&attr);
    return s;
}

struct os *os_sim_new(uint64_t seed)
{
    return &world_new(true, seed)->base;
}

struct os *os_mem_new(void)
{
    return &world_new(false, 0)->base;
}

static void ops_clear(struct sim *s)
{
    for (struct name_op *op = s->ops, *next; op; op = next) {
        next = op->next;
        op_free(s, op);
    }
    s->ops = NULL;
    s->ops_last = &s->ops;
}

void os_sim_free(struct os *os)
{
    if (!os)
        return;
    struct sim *s = sim_of(os);
    ops_clear(s);
    names_clear(&s->names);
    names_clear(&s->kept_names);
    names_clear(&s->dirs);
    while (s->inodes)
        inode_free(s, s->inodes);
    pthread_rwlock_destroy(&s->lock);
    free(s);
}

void sim_advance(struct os *os, uint64_t ns)
{
    struct sim *s = sim_of(os);
    lock(s);
    s->wall_ns += ns;
    s->mono_ns += ns;
    unlock(s);
}

void sim_set_wall(struct os *os, uint64_t unix_ns)
{
    struct sim *s = sim_of(os);
    lock(s);
    s->wall_ns = unix_ns;
    unlock(s);
}

void sim_fail_after(struct os *os, uint64_t k, enum errc code, bool sticky)
{
    struct sim *s = sim_of(os);
    lock(s);
    s->fail_at = k ? s->calls + k : 0;
    s->fail_code = code;
    s->fail_sticky = sticky;
    unlock(s);
}

uint64_t sim_calls(const struct os *os)
{
    return sim_of_const(os)->calls;
}

void sim_lie(struct os *os, enum sim_lie lie, const char *part)
{
    struct sim *s = sim_of(os);
    lock(s);
    s->lie = lie;
    s->lie_part = part;
    unlock(s);
}

void sim_disk_size(struct os *os, uint64_t bytes)
{
    struct sim *s = sim_of(os);
    lock(s);
    s->disk_bytes = min_u64(bytes, BOUNDLESS);
    unlock(s);
}

uint64_t sim_disk_peak(struct os *os)
{
    struct sim *s = sim_of(os);
    lock(s);
    uint64_t peak = s->peak;
    s->peak = s->used;
    unlock(s);
    return peak;
}

uint64_t sim_disk_used(const struct os *os)
{
    return sim_of_const(os)->used;
}

static void flip(struct image *m, uint64_t bit)
{
    uint8_t byte;
    if (bit / 8 >= m->size)
        return;
    image_read(m, bit / 8, &byte, 1);
    byte ^= (uint8_t)(1u << (bit % 8));
    ensure(image_write(m, bit / 8, &byte, 1));
}

bool sim_flip_bit(struct os *os, const char *path, uint64_t bit)
{
    struct sim *s = sim_of(os);
    char clean[PATH_MAX];
    if (path_clean(path, clean, NULL) != E_OK)
        return false;
    lock(s);
    struct inode *i = names_get(&s->names, clean);
    bool there = i && bit / 8 < i->now.size;
    if (there) {
        flip(&i->now, bit);
        flip(&i->synced, bit);
    }
    unlock(s);
    return there;
}

/* --- the power cut --- */

/* What a whole crash leans to; each change then draws its own fate. */
enum mood { MOOD_KEEP_ALL, MOOD_LOSE_ALL, MOOD_MIXED, MOOD_PREFIX, MOOD_COUNT };

/* Sectors of the write are kept, lost or garbled one by one. A size that grew without its data is
 * read as zeros. */
static void crash_write(struct sim *s, struct image *m, const struct change *c, bool garble)
{
    for (size_t at = 0, n; at < c->n; at += n) {
        n = min_size(c->n - at, SECTOR - (size_t)((c->off + at) % SECTOR));
        if (sim_rand(s) % 2)
            continue;
        uint8_t sector[SECTOR];
        memcpy(sector, c->bytes + at, n);
        for (size_t i = 0; garble && i < n; i++)
            sector[i] = (uint8_t)sim_rand(s);
        ensure(image_write(m, c->off + at, sector, n));
    }
    if (sim_rand(s) % 2 && m->size < c->off + c->n)
        image_resize(m, c->off + c->n);
}

static void crash_change(struct sim *s, struct image *m, const struct change *c)
{
    switch (sim_rand(s) % 4) {
    case 0:
        change_apply(m, c);
        break;
    case 1:
        break;
    default:
        if (!c->resize)
            crash_write(s, m, c, sim_rand(s) % 2);
        else if (sim_rand(s) % 2)
            change_apply(m, c);
    }
}

static void copy_image(struct image *to, const struct image *from)
{
    image_fini(to);
    for (size_t at = 0; at < from->page_count; at++)
        if (from->pages[at])
            ensure(image_write(to, (uint64_t)at * IMAGE_PAGE, from->pages[at], IMAGE_PAGE));
    image_resize(to, from->size);
}

static void crash_inode(struct sim *s, struct inode *i, enum mood mood)
{
    size_t prefix = (size_t)(sim_rand(s) % (i->change_count + 1));
    for (size_t k = 0; k < i->change_count; k++)
        if (mood == MOOD_KEEP_ALL || (mood == MOOD_PREFIX && k < prefix))
            change_apply(&i->synced, &i->changes[k]);
        else if (mood == MOOD_MIXED || (mood == MOOD_PREFIX && k == prefix))
            crash_change(s, &i->synced, &i->changes[k]);
    changes_forget(i);
    copy_image(&i->now, &i->synced);
    i->locked_by = NULL;
}

/* An operation whose file is not where it took it from was undone with the one before it. */
static void crash_names(struct sim *s, enum mood mood)
{
    size_t count = 0, k = 0;
    for (const struct name_op *op = s->ops; op; op = op->next)
        count++;
    size_t prefix = (size_t)(sim_rand(s) % (count + 1));
    for (const struct name_op *op = s->ops; op; op = op->next, k++) {
        bool keep = mood == MOOD_KEEP_ALL || (mood == MOOD_PREFIX && k < prefix) ||
                    (mood == MOOD_MIXED && sim_rand(s) % 2);
        bool possible = op->kind == NAME_CREATE || names_get(&s->kept_names, op->path) == op->inode;
        if (keep && possible)
            op_apply(s, op);
    }
    ops_clear(s);
}

/* The names become what was kept; files keep their references from dead handles. */
static void crash_rebind(struct sim *s)
{
    for (size_t b = 0; b < BUCKETS; b++)
        for (struct name *name = s->kept_names.buckets[b]; name; name = name->next)
            live_ref(s, name->inode);
    for (size_t b = 0; b < BUCKETS; b++)
        while (s->names.buckets[b])
            live_unref(s, names_remove(&s->names, s->names.buckets[b]->path));
    for (size_t b = 0; b < BUCKETS; b++)
        for (struct name *name = s->kept_names.buckets[b]; name; name = name->next)
            names_put(&s->names, name->path, name->inode);
}

void sim_crash(struct os *os)
{
    struct sim *s = sim_of(os);
    ensure(s->faults);
    lock(s);
    s->epoch++;
    s->fail_at = 0;
    crash_names(s, (enum mood)(sim_rand(s) % MOOD_COUNT));
    enum mood mood = (enum mood)(sim_rand(s) % MOOD_COUNT);
    crash_rebind(s);
    for (struct inode *i = s->inodes; i; i = i->next) {
        uint64_t before = i->now.size;
        crash_inode(s, i, mood);
        if (i->live)
            s->used += i->now.size - before;
    }
    unlock(s);
}
