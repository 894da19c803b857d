/* SPDX-License-Identifier: Apache-2.0 */
/* The builder: the oldest frozen memtable becomes one block per tenant, and one manifest edit makes
 * that official together with the names, the dependencies and the release of the log.
 *
 * Dependencies. A block reports the calls whose parent it holds itself (edges) and the spans whose
 * parent it does not (orphans). An orphan's parent may lie
 *   - in a memtable built shortly before: its span index is still in memory;
 *   - in an older block: asked through its filter, PARENT_BLOCKS_MAX blocks at most, of which a
 *     build reads PARENT_ASKS_MAX at most;
 *   - in a memtable yet to come: the orphan is remembered, and looked for in each new span index.
 * So every call is counted once, in the build that sees the second of the two spans.
 *
 * When the commit fails it is unknown whether the edit reached the disk. The finished build is kept
 * as it is and only the commit is tried again: block files that a durable edit may name must stay.
 */
#include "store/trace/store_parts.h"

#include "base/log.h"
#include "base/stats.h"

#include <stdlib.h>

#define BUILD_ARENA_MAX (2 * GIB)

struct built_block {
    uint32_t tenant;
    struct str tenant_name;
    struct part *part;
    struct block_summary summary;
};

struct build {
    struct memtable *memtable;
    struct arena arena; /* summaries */
    struct built_block *blocks;
    size_t block_n;
    struct span_index *index;
    struct dep_list calls;
    struct orphan_list orphans;
    struct print_list settled;
    struct edit edit;
    uint64_t received_ns; /* newest arrival: nothing was seen later */
};

static uint32_t arrived_minute(const struct build *b)
{
    return (uint32_t)(b->received_ns / MINUTE_NS);
}

static void build_free(struct build *b)
{
    for (size_t i = 0; i < b->block_n; i++)
        if (b->blocks[i].part)
            part_unref(b->blocks[i].part);
    free(b->blocks);
    arena_fini(&b->arena);
    span_index_unref(b->index);
    dep_list_fini(&b->calls);
    orphan_list_fini(&b->orphans);
    print_list_fini(&b->settled);
    edit_fini(&b->edit);
    memtable_unref(b->memtable);
    free(b);
}

void store_build_abandon(struct store *s)
{
    struct build *b = s->build;
    if (!b)
        return;
    for (size_t i = 0; i < b->block_n; i++) /* the edit may have reached the disk */
        atomic_store(&b->blocks[i].part->dropped, false);
    build_free(b);
    s->build = NULL;
}

/* --- blocks --- */

/* The memtable's batches of one tenant. */
static size_t batches_of(const struct memtable *m, uint32_t tenant, const struct batch **out)
{
    size_t n = 0;
    for (uint32_t i = 0, count = memtable_count(m); i < count; i++)
        if (memtable_at(m, i)->tenant == tenant)
            out[n++] = memtable_at(m, i)->batch;
    return n;
}

static void find_tenants(struct store *s, struct build *b)
{
    const struct memtable *m = b->memtable;
    uint32_t tenants = catalog_tenant_count(s->catalog);
    bool *seen = xcalloc(tenants + 1, sizeof *seen);
    for (uint32_t i = 0, count = memtable_count(m); i < count; i++) {
        const struct mem_entry *entry = memtable_at(m, i);
        b->received_ns = max_u64(b->received_ns, entry->batch->head->received_ns);
        b->block_n += !seen[entry->tenant];
        seen[entry->tenant] = true;
    }
    b->blocks = xcalloc(b->block_n + 1, sizeof *b->blocks);
    size_t n = 0;
    for (uint32_t t = 0; t < tenants; t++)
        if (seen[t])
            b->blocks[n++] = (struct built_block){
                .tenant = t, .tenant_name = catalog_tenant_name(s->catalog, t)};
    free(seen);
}

static enum errc build_block(struct store *s, struct build *b, struct built_block *block,
                             const struct batch **batches, struct err *e)
{
    size_t n = batches_of(b->memtable, block->tenant, batches);
    struct part *part = xcalloc(1, sizeof *part);
    atomic_init(&part->refs, 1);
    part->os = s->os;
    part->tenant = block->tenant;
    part->memtable = b->memtable->number;
    part->id = s->next_block++;
    part->path = store_block_path(s, part->id, block->tenant_name);
    atomic_store(&part->dropped, true); /* until it is committed */
    block->part = part;
    enum errc rc = block_build(s->block_builder, room_os(s->room, ROOM_BLOCK), part->path, batches,
                               n, &b->arena, &block->summary, e);
    if (rc == E_OK)
        rc = block_open(s->os, part->path, &part->block, e);
    if (rc != E_OK)
        return rc;
    const struct block_meta *meta = block_meta(part->block);
    ensure(meta->span_count == block->summary.meta.span_count);
    part->spans = meta->span_count;
    part->bytes = meta->file_bytes;
    part->min_ns = meta->min_ns;
    part->max_ns = meta->max_ns;
    part->end_ns = b->received_ns;
    return E_OK;
}

static enum errc build_blocks(struct store *s, struct build *b, struct err *e)
{
    enum errc rc = E_OK;
    const struct batch **batches = xmalloc((memtable_count(b->memtable) + 1) * sizeof *batches);
    for (size_t i = 0; rc == E_OK && i < b->block_n; i++)
        rc = build_block(s, b, &b->blocks[i], batches, e);
    free(batches);
    return rc == E_OK ? os_sync_dir(s->os, s->blocks_dir, e) : rc;
}

/* --- dependencies --- */

static enum errc ask_block(struct store *s, const struct part *p, const struct parent_key *key,
                           bool *found, uint32_t *service, struct err *e)
{
    struct str name;
    enum errc rc = block_span_service(p->block, key->trace_id, key->parent_id, found, &name, e);
    if (rc == E_OK && *found)
        *service = catalog_service(s->catalog, p->tenant, name, 0, false);
    return rc;
}

/* Could the block hold the parent of a span of this minute? */
static bool may_hold_parent(const struct parent_search *search, const struct part *p,
                            uint64_t child_ns)
{
    const struct version *v = search->version;
    uint64_t later_ns = MINUTE_NS + PARENT_SKEW_NS;
    uint64_t from_ns = child_ns > PARENT_LOOKBACK_NS ? child_ns - PARENT_LOOKBACK_NS : 0;
    uint64_t to_ns = child_ns < UINT64_MAX - later_ns ? child_ns + later_ns : UINT64_MAX;
    bool indexed = v->recent_memtable && p->memtable >= v->recent_memtable;
    return !indexed && p->tenant == search->tenant && p->min_ns <= to_ns && p->max_ns >= from_ns;
}

/* The blocks that may have the trace. */
static void find_places(struct parent_search *search, const struct parent_key *key)
{
    const struct version *v = search->version;
    if (search->known && search->child_ns == key->child_ns &&
        !memcmp(search->trace_id, key->trace_id, 16))
        return;
    unsigned asked = 0;
    search->may_n = 0;
    search->cut = false;
    for (size_t i = v->part_n; i > 0 && !search->cut; i--) {
        struct part *p = v->parts[i - 1];
        if (!may_hold_parent(search, p, key->child_ns))
            continue;
        search->cut = asked++ == PARENT_BLOCKS_MAX;
        if (!search->cut && block_may_have(p->block, key->trace_id))
            search->may[search->may_n++] = p;
    }
    memcpy(search->trace_id, key->trace_id, 16);
    search->child_ns = key->child_ns;
    search->known = true;
}

enum errc store_find_parent(struct store *s, struct parent_search *search,
                            const struct parent_key *key, bool *found, uint32_t *service,
                            struct err *e)
{
    const struct version *v = search->version;
    enum errc rc = E_OK;
    *found = false;
    for (size_t i = 0; !*found && i < v->recent_n; i++)
        *found = span_index_find(v->recent[i], key->print, service);
    if (*found)
        return E_OK;
    find_places(search, key);
    size_t i = 0;
    for (; !*found && rc == E_OK && i < search->may_n && search->asks; i++, search->asks--)
        rc = ask_block(s, search->may[i], key, found, service, e);
    bool cut = search->cut || i < search->may_n;
    stat_add(STAT_PARENT_SEARCHES_CUT, rc == E_OK && !*found && cut);
    return rc;
}

static void note_call(struct build *b, uint32_t minute, uint32_t parent, uint32_t child,
                      uint64_t calls)
{
    dep_list_add(
        &b->calls,
        (struct dep_row){
            .minute = minute, .width = 1, .parent = parent, .child = child, .calls = calls});
}

/* A block that cannot be read may be readable a moment later, so the build is tried again; but not
 * for ever, or one bad sector would stop the store. */
static enum errc find_parent(struct store *s, struct parent_search *search,
                             const struct parent_key *key, bool *found, uint32_t *service,
                             struct err *e)
{
    enum errc rc = store_find_parent(s, search, key, found, service, e);
    if (rc == E_OK || (rc != E_CORRUPT && s->unreadable++ < UNREADABLE_MAX))
        return rc;
    log_error("store", "a dependency may be missing: %s", err_msg(e));
    stat_add(STAT_PARENT_SEARCHES_CUT, 1);
    e->code = E_OK; /* said: the build has not failed */
    *found = false;
    return E_OK;
}

/* The block's own calls, and its orphans as far as older spans settle them. */
static enum errc reconcile_block(struct store *s, struct build *b, struct parent_search *search,
                                 const struct built_block *block, const uint32_t *services,
                                 struct err *e)
{
    const struct block_summary *sum = &block->summary;
    enum errc rc = E_OK;
    uint64_t seed = span_print_seed(block->tenant_name), last = 0;
    uint32_t parent = 0, minute = 0;
    bool found = false;
    for (size_t i = 0; i < sum->edge_count; i++) {
        const struct block_edge *edge = &sum->edges[i];
        note_call(b, edge->minute, services[edge->parent], services[edge->child], edge->calls);
    }
    for (size_t i = 0; rc == E_OK && i < sum->orphan_count; i++) {
        const struct block_orphan *o = &sum->orphans[i];
        struct parent_key key = {.print = span_print(seed, o->trace_id, o->parent_id),
                                 .trace_id = o->trace_id,
                                 .parent_id = o->parent_id,
                                 .child_ns = (uint64_t)o->minute * MINUTE_NS};
        uint32_t child = services[o->service];
        /* Children of one parent stand together. */
        if (key.print != last || (!found && o->minute != minute))
            rc = find_parent(s, search, &key, &found, &parent, e);
        last = key.print;
        minute = o->minute;
        if (rc == E_OK && found)
            note_call(b, o->minute, parent, child, 1);
        else if (rc == E_OK)
            orphan_list_add(&b->orphans, (struct orphan){.print = key.print,
                                                         .service = child,
                                                         .minute = o->minute,
                                                         .noted = arrived_minute(b)});
    }
    return rc;
}

/* Orphans of older blocks whose parent came with this memtable. */
static void settle_orphans(struct build *b, const struct orphans *known)
{
    for (size_t i = 0; i < known->n; i++) {
        const struct orphan *o = &known->v[i];
        uint32_t parent;
        if (!span_index_find(b->index, o->print, &parent))
            continue;
        note_call(b, o->minute, parent, o->service, 1);
        if (!b->settled.n || b->settled.v[b->settled.n - 1] != o->print)
            print_list_add(&b->settled, o->print);
    }
}

/* --- the edit --- */

static uint32_t edit_service_of(struct store *s, struct edit *edit, uint32_t service,
                                uint64_t seen_ns)
{
    return edit_service(edit, service, catalog_service_name(s->catalog, service), seen_ns);
}

void edit_block(struct edit *edit, const struct part *p)
{
    struct edit_item item = {.tag = EDIT_BLOCK};
    item.block.id = p->id;
    item.block.spans = p->spans;
    item.block.bytes = p->bytes;
    item.block.min_ns = p->min_ns;
    item.block.max_ns = p->max_ns;
    item.block.end_ns = p->end_ns;
    edit_add(edit, &item);
    if (p->kept_ns) {
        struct edit_item kept = {.tag = EDIT_KEPT};
        kept.kept.id = p->id;
        kept.kept.for_ns = p->kept_ns;
        edit_add(edit, &kept);
    }
}

static void edit_add_call(struct store *s, struct edit *edit, const struct dep_row *row)
{
    struct edit_item item = {.tag = EDIT_EDGE};
    item.edge.minute = row->minute;
    item.edge.width = row->width;
    item.edge.parent = edit_service_of(s, edit, row->parent, 0);
    item.edge.child = edit_service_of(s, edit, row->child, 0);
    item.edge.calls = row->calls;
    edit_add(edit, &item);
}

static void edit_add_orphan(struct store *s, struct edit *edit, const struct orphan *o)
{
    struct edit_item item = {.tag = EDIT_ORPHAN};
    item.orphan.print = o->print;
    item.orphan.service = edit_service_of(s, edit, o->service, 0);
    item.orphan.minute = o->minute;
    item.orphan.noted = o->noted;
    edit_add(edit, &item);
}

static uint64_t seen_of(const struct build *b, const struct block_op *op)
{
    return max_u64(min_u64(op->last_seen_ns, b->received_ns), 1);
}

/* The numbers of the block's services; overflow names included. */
static uint32_t *number_services(struct store *s, const struct built_block *block)
{
    const struct block_summary *sum = &block->summary;
    uint32_t *services = xmalloc((sum->service_count + 1) * sizeof *services);
    for (size_t i = 0; i < sum->service_count; i++)
        services[i] = catalog_service(s->catalog, block->tenant, sum->services[i], 0, false);
    return services;
}

static void edit_block_names(struct store *s, struct build *b, const struct built_block *block)
{
    for (size_t i = 0; i < block->summary.op_count; i++) {
        const struct block_op *op = &block->summary.ops[i];
        uint64_t seen_ns = seen_of(b, op);
        uint32_t number = catalog_service(s->catalog, block->tenant, op->service, seen_ns, false);
        uint32_t service = edit_service_of(s, &b->edit, number, seen_ns);
        edit_add(&b->edit, &(struct edit_item){.tag = EDIT_OPERATION,
                                               .service = service,
                                               .kind = (uint32_t)op->kind,
                                               .name = op->name,
                                               .seen_ns = seen_ns});
    }
}

/* Calls and orphans of one tenant, from lists that hold all tenants. */
static void edit_tenant_rows(struct store *s, struct edit *edit, uint32_t tenant,
                             const struct dep_row *rows, size_t row_n, const struct orphan *orphans,
                             size_t orphan_n)
{
    for (size_t i = 0; i < row_n; i++)
        if (catalog_service_tenant(s->catalog, rows[i].child) == tenant)
            edit_add_call(s, edit, &rows[i]);
    for (size_t i = 0; i < orphan_n; i++)
        if (catalog_service_tenant(s->catalog, orphans[i].service) == tenant)
            edit_add_orphan(s, edit, &orphans[i]);
}

static enum errc reconcile(struct store *s, struct build *b, struct err *e)
{
    enum errc rc = E_OK;
    struct version *v = store_version(s);
    b->index = span_index_new(s->os, b->memtable, memtable_count(b->memtable));
    settle_orphans(b, v->orphans);
    struct parent_search search = {.version = v, .asks = PARENT_ASKS_MAX};
    for (size_t i = 0; rc == E_OK && i < b->block_n; i++) {
        uint32_t *services = number_services(s, &b->blocks[i]);
        search.tenant = b->blocks[i].tenant;
        search.known = false;
        rc = reconcile_block(s, b, &search, &b->blocks[i], services, e);
        free(services);
    }
    for (size_t i = 0; i < v->part_n; i++)
        block_forget_spans(v->parts[i]->block);
    version_unref(v);
    dep_list_pack(&b->calls);
    return rc;
}

/* What the build learned, as one edit. */
static enum errc build_edit(struct store *s, struct build *b, struct err *e)
{
    for (size_t i = 0; i < b->block_n; i++) {
        const struct built_block *block = &b->blocks[i];
        edit_tenant(&b->edit, block->tenant_name);
        edit_block_names(s, b, block);
        edit_block(&b->edit, block->part);
        edit_tenant_rows(s, &b->edit, block->tenant, b->calls.v, b->calls.n, b->orphans.v,
                         b->orphans.n);
    }
    for (size_t i = 0; i < b->settled.n; i++) {
        struct edit_item item = {.tag = EDIT_SETTLED};
        item.orphan.print = b->settled.v[i];
        edit_add(&b->edit, &item);
    }
    edit_number(&b->edit, EDIT_RELEASE, b->memtable->wal_seq);
    edit_number(&b->edit, EDIT_NEXT_ID, s->next_block);
    return b->edit.buf.failed ? fail(e, E_NO_MEMORY, "no memory for a manifest edit") : E_OK;
}

/* --- the whole state, for a rewritten manifest --- */

void store_write_state(void *arg, struct buf *out)
{
    struct store *s = arg;
    struct version *v = store_version(s);
    struct edit edit;
    edit_init(&edit);
    for (uint32_t t = 0, n = catalog_tenant_count(s->catalog); t < n; t++) {
        edit_tenant(&edit, catalog_tenant_name(s->catalog, t));
        catalog_write(s->catalog, t, &edit);
        for (size_t i = 0; i < v->part_n; i++)
            if (v->parts[i]->tenant == t)
                edit_block(&edit, v->parts[i]);
        edit_tenant_rows(s, &edit, t, v->deps->rows, v->deps->n, v->orphans->v, v->orphans->n);
    }
    /* What is frozen is not built: the log is released up to what lies before the oldest of it. */
    edit_number(&edit, EDIT_RELEASE, s->released);
    edit_number(&edit, EDIT_NEXT_ID, s->next_block);
    buf_add_str(out, buf_str(&edit.buf));
    out->failed |= edit.buf.failed;
    edit_fini(&edit);
    version_unref(v);
}

/* --- one build --- */

static struct build *build_begin(struct store *s)
{
    struct build *b = xcalloc(1, sizeof *b);
    pthread_mutex_lock(&s->lock);
    b->memtable = memtable_ref(s->version->mem[s->version->mem_n - 1]);
    pthread_mutex_unlock(&s->lock);
    b->arena = arena_init(BUILD_ARENA_MAX);
    edit_init(&b->edit);
    find_tenants(s, b);
    return b;
}

static void publish(struct store *s, struct build *b)
{
    struct version *now = store_version(s); /* only this thread changes what is merged here */
    struct deps *deps = deps_merge(now->deps, &b->calls, (uint32_t)(os_now_ns(s->os) / MINUTE_NS));
    struct orphans *orphans = orphans_merge(now->orphans, &b->settled, &b->orphans,
                                            arrived_minute(b));
    version_unref(now);
    pthread_mutex_lock(&s->lock);
    struct version *old = s->version, *v = version_copy(old, b->block_n);
    memtable_unref(v->mem[--v->mem_n]);
    stat_add(STAT_MEMTABLE_SPANS, -(int64_t)atomic_load(&b->memtable->spans));
    stat_add(STAT_MEMTABLE_BYTES, -(int64_t)atomic_load(&b->memtable->bytes));
    atomic_fetch_sub(&s->held_bytes, atomic_load(&b->memtable->bytes));
    for (size_t i = 0; i < b->block_n; i++) {
        struct part *p = b->blocks[i].part;
        v->parts[v->part_n++] = part_ref(p);
        stat_add(STAT_BLOCKS, 1);
        stat_add(STAT_BLOCK_SPANS, (int64_t)p->spans);
        stat_add(STAT_BLOCK_BYTES, (int64_t)p->bytes);
    }
    deps_unref(v->deps);
    v->deps = deps;
    orphans_unref(v->orphans);
    v->orphans = orphans;
    if (v->recent_n == RECENT_MAX)
        span_index_unref(v->recent[--v->recent_n]);
    memmove(v->recent + 1, v->recent, v->recent_n * sizeof v->recent[0]);
    v->recent[0] = span_index_ref(b->index);
    v->recent_n++;
    v->recent_memtable = b->memtable->number - (v->recent_n - 1);
    s->version = v;
    atomic_fetch_sub(&s->frozen, 1);
    pthread_mutex_unlock(&s->lock);
    version_unref(old);
}

/* The edit is durable: what it says becomes what the store says. */
static void build_finish(struct store *s, struct build *b)
{
    for (size_t i = 0; i < b->block_n; i++) {
        const struct built_block *block = &b->blocks[i];
        for (size_t k = 0; k < block->summary.op_count; k++) {
            const struct block_op *op = &block->summary.ops[k];
            uint64_t seen_ns = seen_of(b, op);
            uint32_t service = catalog_service(s->catalog, block->tenant, op->service, seen_ns,
                                               true);
            catalog_operation(s->catalog, service, op->name, op->kind, seen_ns, true);
        }
        atomic_store(&block->part->dropped, false);
        stat_add(STAT_BLOCKS_BUILT, 1);
    }
    s->released = b->memtable->wal_seq;
    s->unreadable = 0;
    publish(s, b);
    if (s->wal)
        wal_release(s->wal, s->released);
}

static void report(struct store *s, const struct err *e)
{
    bool was_full = atomic_exchange(&s->blocks_full, e->code == E_FULL);
    if (e->code != E_OK) {
        stat_add(STAT_BLOCKS_FAILED, 1);
        if (!was_full || e->code != E_FULL) /* a full disk is said once, not with every attempt */
            log_error("store", "a block could not be written, will be tried again: %s", err_msg(e));
    }
    pthread_mutex_lock(&s->lock);
    s->build_error = *e;
    s->build_attempts++;
    pthread_cond_broadcast(&s->built);
    pthread_mutex_unlock(&s->lock);
}

enum build_result store_build_step(struct store *s)
{
    struct err e = {.code = E_OK};
    enum errc rc = E_OK;
    if (!atomic_load(&s->frozen))
        return BUILD_NOTHING;
    struct build *b = s->build;
    if (!b) {
        b = build_begin(s);
        rc = build_blocks(s, b, &e);
        if (rc == E_OK)
            rc = reconcile(s, b, &e);
        if (rc == E_OK)
            rc = build_edit(s, b, &e);
        if (rc != E_OK) {
            build_free(b); /* with the files: no edit names them */
            report(s, &e);
            return BUILD_FAILED;
        }
        s->build = b;
    }
    rc = manifest_commit(s->manifest, &b->edit.buf, store_write_state, s, &e);
    if (rc == E_OK) {
        build_finish(s, b);
        s->build = NULL;
        build_free(b);
    }
    report(s, &e);
    return rc == E_OK ? BUILD_DONE : BUILD_FAILED;
}
