/* SPDX-License-Identifier: Apache-2.0 */
/* Repair: what store_verify finds is made right, and what was lost is said.
 *
 * Most of it is what every start does (recover.c): the manifest is rebuilt and unnamed blocks are
 * adopted, a block that cannot be opened is set aside, a damaged log record is skipped. So repair
 * opens the directory as a store, and adds what would take a start too long: every block is read to
 * its end, and the spans that can be read of a damaged one become new blocks.
 *
 *   FORMAT     written again when the manifest says that this is a store
 *   manifest   rebuilt by opening; a copy stays in damaged/
 *   log        a copy of the damaged segment goes to damaged/; what can be read becomes blocks
 *   block      the file goes to damaged/; its readable spans become blocks. One edit names them and
 *              gives up the damaged one, so a crash leaves the old state or the new
 *
 * Calls between services were counted when the spans came and stay as they are. */
#include "store/trace/care.h"
#include "store/trace/store_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define RESCUE_BATCH_SPANS 8192u
#define RESCUE_BLOCK_BYTES (64 * MIB) /* of batches, for one new block */
#define RESCUE_ARENA_MAX   (2 * GIB)

struct repair {
    struct os *os;
    const char *dir;
    char *damaged_dir;
    bool dry;
    care_say *say;
    void *arg;
    struct damages damages;
    struct store *s; /* while mending */
};

PRINTF_LIKE(2, 3)
static void say(const struct repair *r, const char *fmt, ...)
{
    char line[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    r->say(r->arg, line);
}

static const char *is(const struct repair *r)
{
    return r->dry ? "would be" : "is";
}

static bool has(const struct repair *r, enum damage_kind kind)
{
    for (size_t i = 0; i < r->damages.n; i++)
        if (r->damages.v[i].kind == kind)
            return true;
    return false;
}

/* Puts a name of blocks/file, or a copy of wal/file, into damaged/. A segment's name comes again:
 * its copy is named after the time too. */
static enum errc keep(const struct repair *r, const char *folder, const char *file, bool copy,
                      struct err *e)
{
    bool linked;
    char name[STORE_BLOCK_FILE + 32];
    char *dir = store_path(r->dir, folder), *from = store_path(dir, file);
    snprintf(name, sizeof name, copy ? "%s.%llu" : "%s", file,
             (unsigned long long)os_now_ns(r->os));
    char *to = store_path(r->damaged_dir, name);
    enum errc rc = os_mkdir(r->os, r->damaged_dir, e);
    if (rc == E_OK)
        rc = copy ? os_copy_file(r->os, from, to, e) : os_link_or_copy(r->os, from, to, &linked, e);
    if (rc == E_EXISTS) /* by an earlier repair that did not come to its end */
        rc = E_OK;
    if (rc == E_OK)
        rc = os_sync_dir(r->os, r->damaged_dir, e);
    free(to);
    free(from);
    free(dir);
    return rc;
}

/* --- one damaged block --- */

struct rescue {
    struct repair *r;
    const char *file;
    struct manifest_block old; /* id 0: the manifest does not name it any more */
    struct str tenant;
    uint32_t tenant_no;
    struct batch_builder builder;
    const struct batch **batches;
    size_t batch_n, batch_cap;
    uint64_t batch_bytes, saved;
    struct part **parts; /* the new blocks */
    size_t part_n, part_cap;
    enum errc rc;
    struct err *e;
};

static void seal(struct rescue *x)
{
    struct batch *b;
    x->saved -= batch_builder_rejected(&x->builder);
    if (x->rc == E_OK && batch_builder_spans(&x->builder)) {
        x->rc = batch_seal(&x->builder, x->tenant, x->old.end_ns, &b, x->e);
        if (x->rc == E_OK && x->batch_n == x->batch_cap) {
            x->batch_cap = x->batch_cap ? 2 * x->batch_cap : 16;
            x->batches = xrealloc(x->batches, x->batch_cap * sizeof(struct batch *));
        }
        if (x->rc == E_OK) {
            x->batches[x->batch_n++] = b;
            x->batch_bytes += batch_bytes(b);
        }
    }
    batch_builder_reset(&x->builder);
}

static struct part *part_begin(struct rescue *x)
{
    struct store *s = x->r->s;
    struct part *p = xcalloc(1, sizeof *p);
    atomic_init(&p->refs, 1);
    atomic_store(&p->dropped, true); /* until it is committed */
    p->os = s->os;
    p->tenant = x->tenant_no;
    p->id = s->next_block++;
    p->path = store_block_path(s, p->id, x->tenant);
    if (x->part_n == x->part_cap) {
        x->part_cap = x->part_cap ? 2 * x->part_cap : 4;
        x->parts = xrealloc(x->parts, x->part_cap * sizeof(struct part *));
    }
    return x->parts[x->part_n++] = p;
}

/* The batches so far become a block. */
static void build(struct rescue *x)
{
    struct block_summary summary;
    struct arena a = arena_init(RESCUE_ARENA_MAX);
    if (x->rc == E_OK && x->batch_n) {
        struct part *p = part_begin(x);
        x->rc = block_build(x->r->s->block_builder, x->r->os, p->path, x->batches, x->batch_n, &a,
                            &summary, x->e);
        if (x->rc == E_OK)
            x->rc = block_open(x->r->os, p->path, &p->block, x->e);
        if (x->rc == E_OK) {
            const struct block_meta *meta = block_meta(p->block);
            p->spans = meta->span_count;
            p->bytes = meta->file_bytes;
            p->min_ns = meta->min_ns;
            p->max_ns = meta->max_ns;
            p->end_ns = x->old.end_ns; /* when its newest span came */
            p->kept_ns = x->old.kept_ns;
        }
    }
    for (size_t i = 0; i < x->batch_n; i++)
        batch_unref(x->batches[i]);
    x->batch_n = x->batch_bytes = 0;
    arena_fini(&a);
}

static bool same_origin(const struct span *a, const struct span *b)
{
    return a->resource == b->resource && a->scope == b->scope;
}

/* The spans from `from` on that share its origin, so that it is written once a batch. */
static void put_origin(struct rescue *x, struct span *const *spans, bool *put, uint32_t from,
                       uint32_t n)
{
    bool begun = false;
    for (uint32_t i = from; i < n; i++) {
        if (put[i] || !same_origin(spans[from], spans[i]))
            continue;
        if (!begun)
            group_to_builder(spans[from]->resource, spans[from]->scope, &x->builder);
        begun = put[i] = true;
        span_to_builder(spans[i], &x->builder);
        if (batch_builder_spans(&x->builder) >= RESCUE_BATCH_SPANS) {
            seal(x);
            begun = false;
        }
    }
}

static void put_spans(struct rescue *x, struct span *const *spans, uint32_t n)
{
    bool *put = xcalloc(n, sizeof *put);
    for (uint32_t i = 0; i < n; i++)
        if (!put[i])
            put_origin(x, spans, put, i, n);
    free(put);
}

static bool on_saved(void *arg, struct span *const *spans, uint32_t n)
{
    struct rescue *x = arg;
    x->saved += n;
    if (x->r->dry)
        return true;
    put_spans(x, spans, n);
    if (x->batch_bytes >= RESCUE_BLOCK_BYTES) {
        seal(x);
        build(x);
    }
    return x->rc == E_OK;
}

/* The version without the old block and with the new ones. */
static void publish(struct rescue *x)
{
    struct store *s = x->r->s;
    pthread_mutex_lock(&s->lock);
    struct version *old = s->version, *v = version_copy(old, x->part_n);
    size_t kept = 0;
    for (size_t i = 0; i < v->part_n; i++) {
        if (v->parts[i]->id == x->old.id) {
            atomic_store(&v->parts[i]->dropped, true);
            part_unref(v->parts[i]); /* the old version still holds it */
        } else {
            v->parts[kept++] = v->parts[i];
        }
    }
    v->part_n = kept;
    for (size_t i = 0; i < x->part_n; i++)
        v->parts[v->part_n++] = part_ref(x->parts[i]);
    s->version = v;
    pthread_mutex_unlock(&s->lock);
    version_unref(old);
}

static void commit(struct rescue *x)
{
    struct store *s = x->r->s;
    struct edit edit;
    if (x->rc == E_OK && x->part_n)
        x->rc = os_sync_dir(s->os, s->blocks_dir, x->e);
    if (x->rc != E_OK)
        return;
    edit_init(&edit);
    edit_tenant(&edit, x->tenant);
    for (size_t i = 0; i < x->part_n; i++) {
        struct part *p = x->parts[i];
        edit_block(&edit, p);
        atomic_store(&p->dropped, false); /* a failed commit may have reached the disk */
    }
    edit_number(&edit, EDIT_DROP, x->old.id);
    edit_number(&edit, EDIT_NEXT_ID, s->next_block);
    x->rc = manifest_commit(s->manifest, &edit.buf, store_write_state, s, x->e);
    edit_fini(&edit);
    if (x->rc == E_OK)
        publish(x);
}

static void say_rescue(const struct rescue *x, const struct block_lost *lost)
{
    const struct repair *r = x->r;
    uint64_t gone = x->old.spans > x->saved ? x->old.spans - x->saved : 0;
    struct care_range range = {gone, lost->spans ? lost->min_ns : x->old.min_ns,
                               lost->spans ? lost->max_ns : x->old.max_ns};
    char text[CARE_RANGE_TEXT];
    care_range_text(&range, x->tenant, text);
    say(r, "blocks/%s: %s set aside in damaged/; of its %llu spans %llu %s kept, in new blocks",
        x->file, is(r), (unsigned long long)x->old.spans, (unsigned long long)x->saved,
        r->dry ? "would be" : "are");
    if (gone)
        say(r, "  lost: %s", text);
    if (lost->values)
        say(r, "  lost: %llu attributes of those kept", (unsigned long long)lost->values);
    if (lost->parents)
        say(r, "  lost: which span is the parent of %llu of those kept",
            (unsigned long long)lost->parents);
}

/* Reads what can be read of `path` into new blocks and says what could not. */
static enum errc rescue_block(struct repair *r, const char *path, const char *file,
                              const struct manifest_block *old, const char *tenant, struct err *e)
{
    struct rescue x = {
        .r = r, .file = file, .old = *old, .tenant = str_from_c(tenant), .e = e, .rc = E_OK};
    struct block_lost lost = {0};
    struct block *b;
    x.tenant_no = r->s ? catalog_tenant(r->s->catalog, x.tenant) : 0;
    batch_builder_init(&x.builder);
    if (block_open_damaged(r->os, path, &b, NULL) == E_OK) {
        enum errc rc = block_salvage(b, on_saved, &x, &lost, e);
        x.rc = x.rc == E_OK ? rc : x.rc;
        block_unref(b);
    }
    if (!r->dry) {
        seal(&x);
        build(&x);
        commit(&x);
    }
    if (x.rc == E_OK)
        say_rescue(&x, &lost);
    for (size_t i = 0; i < x.part_n; i++)
        part_unref(x.parts[i]);
    free(x.parts);
    free(x.batches);
    batch_builder_fini(&x.builder);
    return x.rc;
}

/* --- all blocks --- */

/* A block of the opened store: E_OK when it is whole, or mended now. */
static enum errc mend_part(struct repair *r, const struct part *p, struct err *e)
{
    char name[STORE_BLOCK_FILE], tenant[BATCH_TENANT_MAX + 1];
    enum errc rc = block_verify(p->block, e);
    if (rc == E_OK || rc == E_NO_MEMORY)
        return rc;
    struct str t = catalog_tenant_name(r->s->catalog, p->tenant);
    snprintf(tenant, sizeof tenant, "%.*s", STR_ARG(t));
    store_block_file(p->id, t, name);
    struct manifest_block old = {.id = p->id,
                                 .spans = p->spans,
                                 .min_ns = p->min_ns,
                                 .max_ns = p->max_ns,
                                 .end_ns = p->end_ns,
                                 .kept_ns = p->kept_ns};
    rc = keep(r, "blocks", name, false, e);
    return rc == E_OK ? rescue_block(r, p->path, name, &old, tenant, e) : rc;
}

static bool is_open(const struct version *v, uint64_t id)
{
    for (size_t i = 0; i < v->part_n; i++)
        if (v->parts[i]->id == id)
            return true;
    return false;
}

/* A block that was found damaged and that opening has set aside, or found gone. */
static enum errc mend_set_aside(struct repair *r, const struct damage *d, struct err *e)
{
    char *path = store_path(r->damaged_dir, d->file);
    enum errc rc = rescue_block(r, path, d->file, &d->block, d->tenant, e);
    free(path);
    return rc;
}

static enum errc mend_blocks(struct repair *r, struct err *e)
{
    enum errc rc = E_OK;
    struct version *v = store_version(r->s);
    for (size_t i = 0; rc == E_OK && i < v->part_n; i++)
        rc = mend_part(r, v->parts[i], e);
    for (size_t i = 0; rc == E_OK && i < r->damages.n; i++)
        if (r->damages.v[i].kind == DAMAGE_BLOCK && !is_open(v, r->damages.v[i].block.id))
            rc = mend_set_aside(r, &r->damages.v[i], e);
    version_unref(v);
    return rc;
}

/* --- the other files --- */

static void say_others(const struct repair *r)
{
    if (has(r, DAMAGE_MANIFEST))
        say(r,
            MANIFEST_NAME
            ": %s rebuilt from its readable edits and from the blocks; dependencies counted in the "
            "others are lost",
            is(r));
    for (size_t i = 0; i < r->damages.n; i++)
        if (r->damages.v[i].kind == DAMAGE_LOG)
            say(r, "wal/%s: a copy %s kept in damaged/; what can be read %s put into blocks",
                r->damages.v[i].file, is(r), is(r));
}

static enum errc keep_segments(struct repair *r, struct err *e)
{
    enum errc rc = E_OK;
    for (size_t i = 0; rc == E_OK && i < r->damages.n; i++)
        if (r->damages.v[i].kind == DAMAGE_LOG)
            rc = keep(r, "wal", r->damages.v[i].file, true, e);
    return rc;
}

static enum errc mend(struct repair *r, struct err *e)
{
    struct store_config c;
    store_config_visitor(&c, r->os, r->dir);
    c.threads = false;
    c.adopt = true;
    enum errc rc = keep_segments(r, e);
    if (rc == E_OK)
        rc = store_open(&r->s, &c, e);
    if (rc != E_OK)
        return rc;
    say_others(r);
    rc = mend_blocks(r, e);
    if (rc == E_OK)
        rc = store_flush(r->s, e); /* gives up the log */
    store_close(r->s);
    r->s = NULL;
    return rc;
}

/* What mend() would say. A manifest that would be rebuilt might name more blocks. */
static enum errc pretend(struct repair *r, struct err *e)
{
    enum errc rc = E_OK;
    say_others(r);
    for (size_t i = 0; rc == E_OK && i < r->damages.n; i++) {
        const struct damage *d = &r->damages.v[i];
        if (d->kind != DAMAGE_BLOCK)
            continue;
        char *dir = store_path(r->dir, "blocks"), *path = store_path(dir, d->file);
        rc = rescue_block(r, path, d->file, &d->block, d->tenant, e);
        free(path);
        free(dir);
    }
    return rc;
}

/* --- FORMAT --- */

static enum errc apply_nothing(void *arg, struct str payload)
{
    (void)arg;
    (void)payload;
    return E_OK;
}

/* Without a FORMAT file that can be read the manifest tells whether this is a store. */
static enum errc mend_format(const struct repair *r, unsigned *found, struct err *e)
{
    struct manifest_report report;
    char format[64];
    bool fresh;
    enum errc rc = store_check_format(r->os, r->dir, &fresh, e);
    if ((rc == E_OK && !fresh) || (rc != E_OK && rc != E_CORRUPT))
        return rc;
    if (manifest_scan(r->os, r->dir, apply_nothing, NULL, &report, NULL) != E_OK)
        return rc == E_OK ? fail(e, E_NOT_FOUND, "there is no store in %s", r->dir) : rc;
    ++*found;
    say(r, "FORMAT: %s written again", is(r));
    int n = snprintf(format, sizeof format, STORE_FORMAT_TEXT "%d\n", STORE_FORMAT);
    return r->dry ? E_OK : os_replace_file(r->os, r->dir, "FORMAT", str_of(format, (size_t)n), e);
}

/* --- the whole --- */

/* Held by nobody? Opening the store takes the lock again. */
static enum errc check_lock(const struct repair *r, struct err *e)
{
    struct os_file *f = NULL;
    char *path = store_path(r->dir, "LOCK");
    enum errc rc = os_open(r->os, path, OS_WRITE, &f, e);
    if (rc == E_OK)
        rc = os_lock(f, e);
    if (rc == E_LOCKED)
        rc = fail(e, E_LOCKED, "%s is in use by another process", r->dir);
    os_close(f);
    free(path);
    return rc;
}

static void say_nothing(void *arg, const char *line)
{
    (void)arg;
    (void)line;
}

/* What could not be read for another reason than damage is left alone. */
static enum errc check_damage(const struct damage *d, struct err *e)
{
    if (d->code == E_VERSION)
        return fail(e, E_VERSION, "%s was written by a newer version, which can repair it",
                    d->file);
    return d->code == E_NO_MEMORY ? fail(e, E_NO_MEMORY, "no memory to read %s", d->file) : E_OK;
}

static enum errc repair(struct repair *r, unsigned *found, struct err *e)
{
    enum errc rc = mend_format(r, found, e);
    if (rc == E_OK)
        rc = store_inspect(r->os, r->dir, r->say, r->arg, &r->damages, e);
    *found += (unsigned)r->damages.n;
    for (size_t i = 0; rc == E_OK && i < r->damages.n; i++)
        rc = check_damage(&r->damages.v[i], e);
    if (rc != E_OK || !r->damages.n)
        return rc;
    rc = r->dry ? pretend(r, e) : mend(r, e);
    return rc == E_OK && !r->dry ? store_verify(r->os, r->dir, say_nothing, NULL, e) : rc;
}

static bool has_file(const struct repair *r, const char *name)
{
    struct os_file *f;
    char *path = store_path(r->dir, name);
    bool there = os_open(r->os, path, OS_READ, &f, NULL) == E_OK;
    if (there)
        os_close(f);
    free(path);
    return there;
}

enum errc store_repair(struct os *os, const char *dir, bool dry, care_say *say_line, void *arg,
                       unsigned *found, struct err *e)
{
    struct repair r = {.os = os, .dir = dir, .dry = dry, .say = say_line, .arg = arg};
    *found = 0;
    if (!has_file(&r, "FORMAT") && !has_file(&r, MANIFEST_NAME))
        return fail(e, E_NOT_FOUND, "there is no store in %s", dir);
    r.damaged_dir = store_path(dir, "damaged");
    enum errc rc = dry ? E_OK : check_lock(&r, e);
    if (rc == E_OK)
        rc = repair(&r, found, e);
    damages_fini(&r.damages);
    free(r.damaged_dir);
    return rc;
}
