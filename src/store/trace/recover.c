/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a directory: format, lock, manifest, blocks, log, in this order
 * (docs/format/directory.md).
 *
 * A new directory gets an empty manifest first and its FORMAT file last, so a directory with a
 * FORMAT file has a manifest, or has lost it. Blocks that the manifest does not name are builds
 * that a crash cut short: their batches are still in the log, so the files are removed. But when
 * the manifest itself is damaged or gone, such a block may be all there is of its spans: it is
 * adopted, and its names are read from its spans. When only the end of the manifest is
 * unreadable it may yet have been committed: as a merge, when blocks that it names are gone; then
 * the merged block is adopted. As a build, when the log was released further than it says; then
 * repair adopts the block and any other start sets it aside, for after a power cut its batches may
 * be in the log in part. */
#include "store/trace/store_parts.h"

#include "base/log.h"
#include "base/num.h"
#include "base/stats.h"

#include <stdio.h>
#include <stdlib.h>

#define ADOPT_ARENA_MAX (1 * GIB)

/* --- what the manifest says --- */

struct apply {
    struct manifest_state_in *in;
    uint32_t tenant; /* CATALOG_NONE: none yet */
    uint32_t *services;
    size_t service_n, service_cap;
    struct orphan_list orphans;
    struct print_list settled;
};

static bool positions_ok(const struct edit_item *item, size_t services)
{
    switch (item->tag) {
    case EDIT_OPERATION:
        return item->service < services;
    case EDIT_EDGE:
        return item->edge.parent < services && item->edge.child < services;
    case EDIT_ORPHAN:
        return item->orphan.service < services;
    default:
        return true;
    }
}

/* An edit is applied whole or not at all, so it is read once before. */
static bool edit_ok(struct str payload)
{
    struct edit_cursor c = edit_cursor_of(payload);
    struct edit_item item;
    bool tenant = false;
    size_t services = 0;
    while (edit_next(&c, &item)) {
        bool named = item.tag >= EDIT_SERVICE && item.tag <= EDIT_BLOCK && item.tag != EDIT_SETTLED;
        if ((named && !tenant) || !positions_ok(&item, services))
            return false;
        if (item.tag == EDIT_TENANT) {
            if (!item.name.n || item.name.n > BATCH_TENANT_MAX)
                return false;
            tenant = true;
            services = 0;
        }
        services += item.tag == EDIT_SERVICE;
    }
    return !c.bad;
}

static void apply_service(struct apply *a, const struct edit_item *item)
{
    if (a->service_n == a->service_cap) {
        a->service_cap = a->service_cap ? 2 * a->service_cap : 64;
        a->services = xrealloc(a->services, a->service_cap * sizeof *a->services);
    }
    a->services[a->service_n++] = catalog_service(a->in->catalog, a->tenant, item->name,
                                                  item->seen_ns, true);
}

static void apply_operation(struct apply *a, const struct edit_item *item)
{
    catalog_operation(a->in->catalog, a->services[item->service], item->name,
                      (enum span_kind)item->kind, item->seen_ns, true);
}

static void apply_block(struct apply *a, const struct edit_item *item)
{
    struct manifest_state_in *in = a->in;
    if (in->block_n == in->block_cap) {
        in->block_cap = in->block_cap ? 2 * in->block_cap : 64;
        in->blocks = xrealloc(in->blocks, in->block_cap * sizeof *in->blocks);
    }
    in->blocks[in->block_n++] = (struct manifest_block){.id = item->block.id,
                                                        .spans = item->block.spans,
                                                        .bytes = item->block.bytes,
                                                        .min_ns = item->block.min_ns,
                                                        .max_ns = item->block.max_ns,
                                                        .end_ns = item->block.end_ns,
                                                        .tenant = a->tenant};
    in->next_block = max_u64(in->next_block, item->block.id + 1);
}

static void apply_kept(struct manifest_state_in *in, uint64_t id, uint64_t for_ns)
{
    for (size_t i = in->block_n; i > 0; i--)
        if (in->blocks[i - 1].id == id) {
            in->blocks[i - 1].kept_ns = for_ns;
            return;
        }
}

static void apply_drop(struct manifest_state_in *in, uint64_t id)
{
    size_t kept = 0;
    for (size_t i = 0; i < in->block_n; i++)
        if (in->blocks[i].id != id)
            in->blocks[kept++] = in->blocks[i];
    in->block_n = kept;
}

static void apply_edge(struct apply *a, const struct edit_item *item)
{
    dep_list_add(&a->in->deps, (struct dep_row){.minute = item->edge.minute,
                                                .width = item->edge.width,
                                                .parent = a->services[item->edge.parent],
                                                .child = a->services[item->edge.child],
                                                .calls = item->edge.calls});
}

static void apply_item(struct apply *a, const struct edit_item *item)
{
    switch (item->tag) {
    case EDIT_TENANT:
        a->tenant = catalog_tenant(a->in->catalog, item->name);
        a->service_n = 0;
        break;
    case EDIT_SERVICE:
        apply_service(a, item);
        break;
    case EDIT_OPERATION:
        apply_operation(a, item);
        break;
    case EDIT_EDGE:
        apply_edge(a, item);
        break;
    case EDIT_ORPHAN:
        a->in->noted = (uint32_t)max_u64(a->in->noted,
                                         min_u64(item->orphan.noted, a->in->now_minute));
        orphan_list_add(&a->orphans, (struct orphan){.print = item->orphan.print,
                                                     .service = a->services[item->orphan.service],
                                                     .minute = item->orphan.minute,
                                                     .noted = item->orphan.noted});
        break;
    case EDIT_SETTLED:
        print_list_add(&a->settled, item->orphan.print);
        break;
    case EDIT_BLOCK:
        apply_block(a, item);
        break;
    case EDIT_DROP:
        apply_drop(a->in, item->number);
        break;
    case EDIT_RELEASE:
        a->in->released = max_u64(a->in->released, item->number);
        break;
    case EDIT_NEXT_ID:
        a->in->next_block = max_u64(a->in->next_block, item->number);
        break;
    case EDIT_KEPT:
        apply_kept(a->in, item->kept.id, item->kept.for_ns);
        break;
    case EDIT_TAG_COUNT:
        break;
    }
}

enum errc manifest_state_apply(void *arg, struct str payload)
{
    struct apply a = {.in = arg, .tenant = CATALOG_NONE};
    struct edit_cursor c = edit_cursor_of(payload);
    struct edit_item item;
    if (!edit_ok(payload))
        return E_CORRUPT;
    while (edit_next(&c, &item) &&
           !(item.tag == EDIT_TENANT && catalog_tenant(a.in->catalog, item.name) == CATALOG_NONE))
        apply_item(&a, &item);
    if (a.orphans.n || a.settled.n || !a.in->orphans) {
        struct orphans *old = a.in->orphans;
        a.in->orphans = orphans_merge(old, &a.settled, &a.orphans, a.in->noted);
        orphans_unref(old);
    }
    free(a.services);
    orphan_list_fini(&a.orphans);
    print_list_fini(&a.settled);
    return c.at == c.end ? E_OK : E_CORRUPT; /* too many tenants */
}

void manifest_state_fini(struct manifest_state_in *in)
{
    free(in->blocks);
    dep_list_fini(&in->deps);
    orphans_unref(in->orphans);
}

/* --- format and lock --- */

enum errc store_check_format(struct os *os, const char *dir, bool *fresh, struct err *e)
{
    struct buf text = buf_init(256);
    char *path = store_path(dir, "FORMAT");
    uint64_t version = 0;
    enum errc rc = os_read_file(os, path, &text, e);
    *fresh = rc == E_NOT_FOUND;
    struct str rest = str_trim(buf_str(&text)), prefix = STR(STORE_FORMAT_TEXT);
    while (rest.n && rest.p[rest.n - 1] == '\n')
        rest.n--;
    if (rc == E_NOT_FOUND)
        rc = E_OK;
    else if (rc == E_OK && str_eq(rest, STR(STORE_UNFINISHED)))
        rc = fail(e, E_CORRUPT, "%s is " STORE_UNFINISHED, dir);
    else if (rc == E_TOO_BIG || (rc == E_OK && (!str_starts(rest, prefix) ||
                                                !num_get_u64(str_skip(rest, prefix.n), &version))))
        rc = fail(e, E_CORRUPT, "%s does not say which format the directory has", path);
    else if (rc == E_OK && version != STORE_FORMAT)
        rc = fail(e, E_VERSION, "%s was written by a newer version: format %llu, this one reads %d",
                  dir, (unsigned long long)version, STORE_FORMAT);
    free(path);
    buf_fini(&text);
    return rc;
}

enum errc store_check_there(struct os *os, const char *dir, struct err *e)
{
    struct os_file *f;
    bool fresh;
    enum errc rc = store_check_format(os, dir, &fresh, e);
    if (rc != E_OK || !fresh)
        return rc;
    char *path = store_path(dir, MANIFEST_NAME);
    rc = os_open(os, path, OS_READ, &f, e);
    if (rc == E_OK) {
        os_close(f);
        rc = fail(e, E_CORRUPT, "%s has lost its FORMAT file", dir);
    } else if (rc == E_NOT_FOUND) {
        rc = fail(e, rc, "there is no store in %s", dir);
    }
    free(path);
    return rc;
}

static enum errc take_lock(struct store *s, struct err *e)
{
    char *path = store_path(s->dir, "LOCK");
    enum errc rc = os_mkdir(s->os, s->dir, e);
    if (rc == E_OK)
        rc = os_open(s->os, path, OS_WRITE, &s->lock_file, e);
    if (rc == E_OK)
        rc = os_lock(s->lock_file, e);
    if (rc == E_LOCKED)
        rc = fail(e, E_LOCKED, "%s is in use by another process", s->dir);
    free(path);
    return rc;
}

/* The directory that holds dir, whose entry for it must be durable too. */
static enum errc sync_parent(struct store *s, struct err *e)
{
    char *parent = xstrdup(s->dir);
    size_t n = strlen(parent);
    while (n > 1 && parent[n - 1] == '/')
        n--;
    while (n > 0 && parent[n - 1] != '/')
        n--;
    while (n > 1 && parent[n - 1] == '/')
        n--;
    parent[n] = 0;
    enum errc rc = os_sync_dir(s->os, n ? parent : ".", e);
    free(parent);
    return rc;
}

static enum errc make_folders(struct store *s, struct err *e)
{
    enum errc rc = os_mkdir(s->os, s->blocks_dir, e);
    if (rc == E_OK)
        rc = os_mkdir(s->os, s->wal_dir, e);
    return rc;
}

static enum errc make_fresh(struct store *s, struct err *e)
{
    char format[64];
    int n = snprintf(format, sizeof format, STORE_FORMAT_TEXT "%d\n", STORE_FORMAT);
    struct edit edit;
    edit_init(&edit);
    edit_number(&edit, EDIT_NEXT_ID, s->next_block);
    enum errc rc = manifest_commit(s->manifest, &edit.buf, store_write_state, s, e);
    edit_fini(&edit);
    if (rc == E_OK)
        rc = os_replace_file(s->os, s->dir, "FORMAT", str_of(format, (size_t)n), e);
    return rc == E_OK ? sync_parent(s, e) : rc;
}

/* --- blocks --- */

bool store_block_name(const char *name, uint64_t *id, struct str *tenant)
{
    struct str s = str_from_c(name);
    uint8_t bytes[8];
    if (s.n < 16 + 1 + 1 + 4 || s.p[16] != '.' || !num_get_hex(str_take(s, 16), bytes, 8) ||
        !str_eq(str_skip(s, s.n - 4), STR(".blk")))
        return false;
    *id = load_u64be(bytes);
    *tenant = str_take(str_skip(s, 17), s.n - 17 - 4);
    return tenant->n <= BATCH_TENANT_MAX;
}

/* Moves a file out of the way, so that it can be looked at and is not read again. */
static void set_aside(struct store *s, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = store_path(s->dir, "damaged");
    char *to = store_path(dir, slash ? slash + 1 : path);
    if (os_mkdir(s->os, dir, NULL) == E_OK && os_rename(s->os, path, to, NULL) == E_OK)
        log_error("store", "%s was set aside in %s", path, dir);
    free(to);
    free(dir);
}

static struct part *part_of(struct store *s, const struct manifest_block *mb)
{
    struct part *p = xcalloc(1, sizeof *p);
    atomic_init(&p->refs, 1);
    p->os = s->os;
    p->id = mb->id;
    p->tenant = mb->tenant;
    p->spans = mb->spans;
    p->bytes = mb->bytes;
    p->min_ns = mb->min_ns;
    p->max_ns = mb->max_ns;
    p->end_ns = mb->end_ns;
    p->kept_ns = mb->kept_ns;
    p->path = store_block_path(s, mb->id, catalog_tenant_name(s->catalog, mb->tenant));
    return p;
}

/* E_OK with *out NULL: the file is gone or damaged and was set aside; `lost` then says so. */
static enum errc part_open(struct store *s, const struct manifest_block *mb, struct edit *lost,
                           struct part **out, struct err *e)
{
    struct part *p = part_of(s, mb);
    struct err why = {0};
    enum errc rc = block_open(s->os, p->path, &p->block, &why);
    if (rc == E_CORRUPT) {
        struct err worse = {0};
        rc = block_open_mended(s->os, p->path, &p->block, &worse);
        if (rc == E_OK)
            log_error("store",
                      "%s; what it says is made up for in memory: lymer repair writes it anew",
                      err_msg(&why));
        else
            why = worse;
        p->left_alone = true;
    }
    if (rc == E_OK && block_meta(p->block)->span_count != mb->spans)
        rc = fail(&why, E_CORRUPT, "%s has %llu spans, the manifest says %llu", p->path,
                  (unsigned long long)block_meta(p->block)->span_count,
                  (unsigned long long)mb->spans);
    *out = NULL;
    if (rc == E_OK) {
        *out = p;
        return E_OK;
    }
    if (rc != E_IO && rc != E_VERSION && rc != E_NO_MEMORY) {
        edit_number(lost, EDIT_DROP, mb->id);
        log_error("store", "%s; %llu spans are lost", err_msg(&why), (unsigned long long)mb->spans);
        stat_add(STAT_BLOCKS_SET_ASIDE, 1);
        if (rc != E_NOT_FOUND)
            set_aside(s, p->path);
        rc = E_OK;
    }
    part_unref(p);
    return rc ? fail(e, rc, "%s", why.msg) : E_OK;
}

static int by_id(const void *a, const void *b)
{
    const struct manifest_block *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static enum errc open_parts(struct store *s, struct manifest_state_in *in, struct version *v,
                            struct edit *lost, struct err *e)
{
    enum errc rc = E_OK;
    if (in->block_n)
        qsort(in->blocks, in->block_n, sizeof *in->blocks, by_id);
    v->parts = xmalloc((in->block_n + 1) * sizeof(struct part *));
    for (size_t i = 0; rc == E_OK && i < in->block_n; i++) {
        struct part *p;
        rc = part_open(s, &in->blocks[i], lost, &p, e);
        if (rc == E_OK && p)
            v->parts[v->part_n++] = p;
    }
    return rc;
}

/* --- files the manifest does not name --- */

enum stray_fate { STRAY_REMOVED, STRAY_SET_ASIDE, STRAY_ADOPTED };

struct strays {
    struct store *s;
    struct manifest_state_in *in;
    enum stray_fate fate;
};

static bool is_named(const struct manifest_state_in *in, uint64_t id)
{
    for (size_t i = 0; i < in->block_n; i++)
        if (in->blocks[i].id == id)
            return true;
    return false;
}

static bool note_names(void *arg, const uint8_t id[16], uint64_t min_ns)
{
    struct {
        struct store *s;
        struct part *p;
    } *x = arg;
    struct arena a = arena_init(ADOPT_ARENA_MAX);
    struct trace t = {0};
    (void)min_ns;
    memcpy(t.id, id, 16);
    if (block_trace(x->p->block, id, &a, &t, NULL) == E_OK) {
        for (uint32_t i = 0; i < t.span_count; i++) {
            const struct span *span = t.spans[i];
            uint64_t seen_ns = max_u64(min_u64(span->start_ns, os_now_ns(x->s->os)), 1);
            uint32_t service = catalog_service(x->s->catalog, x->p->tenant, span->resource->service,
                                               seen_ns, true);
            catalog_operation(x->s->catalog, service, span->name, span->kind, seen_ns, true);
        }
    }
    arena_fini(&a);
    return true;
}

static void adopt(struct strays *x, const char *path, uint64_t id, struct str tenant)
{
    struct store *s = x->s;
    struct block *block;
    struct err e;
    if (block_open(s->os, path, &block, &e) != E_OK) {
        log_error("store", "%s", err_msg(&e));
        set_aside(s, path);
        return;
    }
    const struct block_meta *meta = block_meta(block);
    struct apply a = {.in = x->in, .tenant = catalog_tenant(s->catalog, tenant)};
    struct edit_item item = {.tag = EDIT_BLOCK};
    item.block.id = id;
    item.block.spans = meta->span_count;
    item.block.bytes = meta->file_bytes;
    item.block.min_ns = meta->min_ns;
    item.block.max_ns = meta->max_ns;
    item.block.end_ns = os_now_ns(s->os); /* when its spans came is not known any more */
    struct part p = {.tenant = a.tenant, .block = block};
    struct {
        struct store *s;
        struct part *p;
    } names = {s, &p};
    if (a.tenant != CATALOG_NONE) {
        if (block_each_trace(block, note_names, &names, &e) != E_OK)
            log_error("store", "%s: some names are not known: %s", path, err_msg(&e));
        apply_block(&a, &item);
        log_warn("store", "%s: %llu spans kept, though the manifest has lost them", path,
                 (unsigned long long)meta->span_count);
    }
    block_unref(block);
}

static void handle_stray(void *arg, const char *name)
{
    struct strays *x = arg;
    uint64_t id = 0;
    struct str tenant;
    bool block = store_block_name(name, &id, &tenant);
    if (block && is_named(x->in, id))
        return;
    char *path = store_path(x->s->blocks_dir, name);
    if (block && x->fate == STRAY_ADOPTED)
        adopt(x, path, id, tenant);
    else if (block && x->fate == STRAY_SET_ASIDE)
        set_aside(x->s, path);
    else if (block && os_unlink(x->s->os, path, NULL) != E_OK)
        log_warn("store", "cannot remove the unfinished block %s", path);
    if (block)
        x->s->next_block = max_u64(x->s->next_block, id + 1);
    free(path);
}

static enum errc handle_strays(struct store *s, struct manifest_state_in *in, enum stray_fate fate,
                               struct err *e)
{
    struct name_list names;
    struct strays x = {.s = s, .in = in, .fate = fate};
    enum errc rc = name_list_read(s->os, s->blocks_dir, &names, e);
    for (size_t i = 0; rc == E_OK && i < names.n; i++)
        handle_stray(&x, names.v[i]);
    name_list_fini(&names);
    return rc;
}

/* A damaged manifest is kept beside the new one for whoever wants to look at it. */
static void keep_damaged_manifest(struct store *s)
{
    struct buf file = buf_init(MANIFEST_MAX);
    char name[64];
    char *path = store_path(s->dir, MANIFEST_NAME), *dir = store_path(s->dir, "damaged");
    snprintf(name, sizeof name, MANIFEST_NAME ".%llu", (unsigned long long)os_now_ns(s->os));
    if (os_read_file(s->os, path, &file, NULL) == E_OK && os_mkdir(s->os, dir, NULL) == E_OK &&
        os_replace_file(s->os, dir, name, buf_str(&file), NULL) == E_OK)
        log_error("store", "%s is damaged; a copy is in %s", path, dir);
    buf_fini(&file);
    free(path);
    free(dir);
}

/* What the folder of blocks and the manifest do not agree about. */
static enum errc compare_blocks(struct os *os, const char *dir, const struct manifest_state_in *in,
                                bool *unnamed, bool *missing, struct err *e)
{
    struct name_list names;
    char *blocks = store_path(dir, "blocks");
    enum errc rc = name_list_read(os, blocks, &names, e);
    size_t there = 0;
    *unnamed = false;
    for (size_t i = 0; rc == E_OK && i < names.n; i++) {
        uint64_t id;
        struct str tenant;
        if (!store_block_name(names.v[i], &id, &tenant))
            continue;
        there += is_named(in, id);
        *unnamed |= !is_named(in, id);
    }
    *missing = there < in->block_n;
    name_list_fini(&names);
    free(blocks);
    return rc;
}

enum errc store_end_is_lost(struct os *os, const char *dir, const struct manifest_state_in *in,
                            const struct manifest_report *report, enum lost_end *lost,
                            struct err *e)
{
    bool unnamed, missing, gap = false;
    *lost = END_UNFINISHED;
    if (!report->torn_bytes)
        return E_OK;
    enum errc rc = compare_blocks(os, dir, in, &unnamed, &missing, e);
    char *wal_dir = store_path(dir, "wal");
    if (rc == E_OK && unnamed)
        rc = wal_has_gap(os, wal_dir, in->released, &gap, e);
    free(wal_dir);
    if (rc == E_OK && unnamed)
        *lost = missing ? END_OF_MERGE : gap ? END_OF_BUILD : END_UNFINISHED;
    return rc;
}

static enum errc load_manifest(struct store *s, bool fresh, struct version *v, struct edit *lost,
                               struct err *e)
{
    struct manifest_report report;
    struct manifest_state_in in = {.catalog = s->catalog,
                                   .next_block = 1,
                                   .now_minute = (uint32_t)(os_now_ns(s->os) / MINUTE_NS)};
    enum errc rc = manifest_open(&s->manifest, s->os, s->dir, manifest_state_apply, &in, &report,
                                 e);
    enum lost_end end = END_UNFINISHED;
    if (rc == E_OK)
        rc = store_end_is_lost(s->os, s->dir, &in, &report, &end, e);
    bool damaged = rc == E_OK && (report.unreadable || report.damaged_edits ||
                                  end == END_OF_MERGE || (end == END_OF_BUILD && s->config.adopt));
    bool adopt_them = damaged || (rc == E_OK && report.missing); /* blocks beside no manifest */
    enum stray_fate fate = adopt_them            ? STRAY_ADOPTED
                           : end == END_OF_BUILD ? STRAY_SET_ASIDE
                                                 : STRAY_REMOVED;
    s->next_block = in.next_block;
    if (damaged)
        keep_damaged_manifest(s);
    if (adopt_them && !fresh)
        edit_number(lost, EDIT_NEXT_ID, s->next_block); /* anything: the manifest is rewritten */
    if (rc == E_OK)
        rc = handle_strays(s, &in, fate, e);
    if (rc == E_OK)
        rc = open_parts(s, &in, v, lost, e);
    if (rc == E_OK && report.torn_bytes)
        log_info("store", "dropped %llu bytes of an unfinished manifest edit",
                 (unsigned long long)report.torn_bytes);
    s->next_block = max_u64(s->next_block, in.next_block);
    s->released = in.released;
    v->deps = deps_merge(NULL, &in.deps, in.now_minute);
    struct print_list none = {0};
    struct orphan_list no_more = {0};
    v->orphans = orphans_merge(in.orphans, &none, &no_more, in.noted);
    manifest_state_fini(&in);
    return rc;
}

/* --- the log --- */

struct replay {
    struct store *s;
    struct version *v;
    uint64_t seq; /* of the segment being read */
    uint64_t spans;
};

static void replay_push(struct replay *r, struct memtable *m)
{
    struct version *v = r->v;
    v->mem = xrealloc(v->mem, (v->mem_n + 1) * sizeof *v->mem);
    memmove(v->mem + 1, v->mem, v->mem_n * sizeof *v->mem);
    v->mem[0] = m;
    v->mem_n++;
}

/* Between segments, a memtable that is full is frozen as it would have been. */
static void replay_segment(struct replay *r, uint64_t seq)
{
    struct memtable *active = r->v->mem[0];
    if (seq != r->seq && memtable_is_full(active, r->s->config.memtable_bytes)) {
        active->wal_seq = r->seq;
        replay_push(r, memtable_new(active->number + 1, os_mono_ns(r->s->os), r->s->key_seed));
        atomic_fetch_add(&r->s->frozen, 1);
    }
    r->seq = seq;
}

static enum errc replay_record(void *arg, uint64_t seq, struct str payload)
{
    struct replay *r = arg;
    struct batch *b;
    enum errc rc = batch_open(payload, &b, NULL);
    if (rc != E_OK)
        return rc;
    replay_segment(r, seq);
    struct mem_entry entry = {.batch = b};
    rc = catalog_note(r->s->catalog, b, &entry);
    if (rc != E_OK) {
        batch_unref(b);
        return rc;
    }
    r->spans += b->head->span_count;
    memtable_add(r->v->mem[0], &entry);
    return E_OK;
}

static enum errc load_log(struct store *s, struct version *v, struct err *e)
{
    struct replay r = {.s = s, .v = v};
    struct wal_report report;
    uint64_t segment_bytes = s->config.memtable_bytes + s->config.memtable_bytes / 8;
    os_random(s->os, &s->key_seed, sizeof s->key_seed);
    replay_push(&r, memtable_new(1, os_mono_ns(s->os), s->key_seed));
    if (!s->config.log)
        return E_OK;
    enum errc rc = wal_open(&s->wal, room_os(s->room, ROOM_LOG), s->wal_dir, segment_bytes,
                            s->released, replay_record, &r, &report, e);
    if (rc != E_OK)
        return rc;
    stat_add(STAT_WAL_TAIL_DROPPED, (int64_t)report.torn_bytes);
    stat_add(STAT_WAL_DAMAGED, (int64_t)report.damaged_records);
    if (report.torn_bytes)
        log_info("store", "dropped %llu bytes of an unfinished write at the end of the log",
                 (unsigned long long)report.torn_bytes);
    if (report.damaged_records)
        log_error("store", "%llu damaged records in the log were skipped",
                  (unsigned long long)report.damaged_records);
    if (r.spans)
        log_info("store", "read %llu spans from the log", (unsigned long long)r.spans);
    return E_OK;
}

/* Says in the manifest what this start has found out. Failing is no reason not to start: the next
 * commit, or the next start, says it. */
static void commit_lost(struct store *s, struct edit *lost)
{
    struct err e;
    if (lost->buf.n && manifest_commit(s->manifest, &lost->buf, store_write_state, s, &e) != E_OK)
        log_warn("store", "%s", err_msg(&e));
}

enum errc store_recover(struct store *s, struct err *e)
{
    bool fresh;
    struct edit lost;
    struct version *v = xcalloc(1, sizeof *v);
    atomic_init(&v->refs, 1);
    edit_init(&lost);
    enum errc rc = store_check_format(s->os, s->dir, &fresh, e);
    if (rc == E_OK && fresh && s->config.must_exist)
        rc = store_check_there(s->os, s->dir, e); /* which says what it is that is not there */
    if (rc == E_OK)
        rc = take_lock(s, e);
    if (rc == E_OK)
        rc = make_folders(s, e);
    if (rc == E_OK)
        rc = room_scan(s->room, s->dir, e);
    if (rc == E_OK)
        rc = load_manifest(s, fresh, v, &lost, e);
    if (rc == E_OK)
        rc = load_log(s, v, e);
    s->version = v;
    if (rc == E_OK && fresh)
        rc = make_fresh(s, e);
    if (rc == E_OK) {
        commit_lost(s, &lost);
        s->active = v->mem[0];
        atomic_store(&s->active_full, memtable_is_full(s->active, s->config.memtable_bytes));
        for (size_t i = 0; i < v->mem_n; i++)
            atomic_fetch_add(&s->held_bytes, atomic_load(&v->mem[i]->bytes));
    }
    edit_fini(&lost);
    return rc;
}
