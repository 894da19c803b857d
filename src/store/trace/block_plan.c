/* SPDX-License-Identifier: Apache-2.0 */
/* The first step of a run: everything that repeats gets a number, and every span gets its place.
 *
 * Numbers are given in the order of first appearance, so the same batches give the same bytes. A
 * batch has numbered its keys and names already; they are mapped once per batch (batch_map), so
 * that a span costs array look-ups and no hashing. Its shape (origin, name, kind, status, keys with
 * types) is guessed from the last span of the same name in the batch and compared; only a wrong
 * guess is looked up.
 *
 * Order: traces by first start, then id; spans in a trace by start, then id, then arrival. */
#include "store/trace/block_build.h"

#include <stdlib.h>

/* Memory of the plan that stays for the next run. */
#define PLAN_ARENA_KEEP (8 * MIB)

/* --- tables --- */

void idtab_reset(struct idtab *t)
{
    if (t->n)
        memset(t->slot, 0, ((size_t)t->mask + 1) * sizeof *t->slot);
    t->n = 0;
}

static void idtab_put(struct idtab *t, uint32_t hash, uint32_t id1)
{
    uint32_t i = hash & t->mask;
    while (t->slot[i].id)
        i = (i + 1) & t->mask;
    t->slot[i] = (struct idslot){hash, id1};
}

static void idtab_grow(struct idtab *t)
{
    struct idtab old = *t;
    t->mask = old.slot ? old.mask * 2 + 1 : 255;
    t->slot = xcalloc((size_t)t->mask + 1, sizeof *t->slot);
    for (uint32_t i = 0; old.slot && i <= old.mask; i++)
        if (old.slot[i].id)
            idtab_put(t, old.slot[i].hash, old.slot[i].id);
    free(old.slot);
}

void idtab_add(struct idtab *t, uint32_t hash, uint32_t id)
{
    if (!t->slot || t->n * 2 > t->mask)
        idtab_grow(t);
    idtab_put(t, hash, id + 1);
    t->n++;
}

uint32_t intern_str(struct intern *in, struct str s)
{
    uint32_t hash = (uint32_t)hash_str(s, 5), at = hash, id;
    while ((id = idtab_next(&in->tab, hash, &at)) != NO_ID)
        if (str_eq(in->v[id], s))
            return id;
    in->v = vec_room(in->v, &in->cap, in->n + (size_t)1, sizeof *in->v);
    in->v[in->n] = in->keep ? arena_str(in->keep, s) : s;
    ensure(in->v[in->n].p || !s.n);
    idtab_add(&in->tab, hash, in->n);
    return in->n++;
}

/* --- columns, key lists, shapes --- */

uint32_t plan_col(struct block_builder *bb, unsigned scope, unsigned type, struct str key)
{
    uint32_t key_id = intern_str(&bb->strings, key);
    uint32_t hash = (uint32_t)hash_u64(key_id, scope * 8 + type), at = hash, id;
    while ((id = idtab_next(&bb->col_tab, hash, &at)) != NO_ID) {
        const struct col *c = &bb->cols[id];
        if (c->key == key_id && c->scope == scope && c->type == type)
            return id;
    }
    bb->cols = vec_room(bb->cols, &bb->col_cap, bb->col_count + (size_t)1, sizeof *bb->cols);
    bb->cols[bb->col_count] = (struct col){.key = key_id,
                                           .scope = (uint8_t)scope,
                                           .type = (uint8_t)type,
                                           .seed = filter_key_seed(key)};
    idtab_add(&bb->col_tab, hash, bb->col_count);
    return bb->col_count++;
}

/* The column of one attribute. */
static inline uint32_t attr_col(struct block_builder *bb, const struct batch *b,
                                struct batch_map *m, unsigned scope, const struct attr_rec *a)
{
    uint32_t *slot = &m->col[((size_t)scope * b->head->key_count + a->key) * 8 + a->type];
    if (UNLIKELY(*slot == NO_ID))
        *slot = plan_col(bb, scope, a->type, batch_str(b, b->keys[a->key]));
    return *slot;
}

/* Room for a list of n columns behind the pool. */
static uint32_t *pool_room(struct block_builder *bb, uint32_t n)
{
    bb->list_pool = vec_room(bb->list_pool, &bb->pool_cap, bb->pool_n + (size_t)n + 1,
                             sizeof *bb->list_pool);
    return bb->list_pool + bb->pool_n;
}

/* The number of the list that was put behind the pool; it stays there when it is new. */
static uint32_t pool_number(struct block_builder *bb, uint32_t n)
{
    const uint32_t *cols = bb->list_pool + bb->pool_n;
    uint32_t hash = (uint32_t)hash64(cols, n * sizeof *cols, n), at = hash, id;
    while ((id = idtab_next(&bb->list_tab, hash, &at)) != NO_ID) {
        const struct keylist *l = &bb->lists[id];
        if (l->n == n && (!n || !memcmp(bb->list_pool + l->at, cols, n * sizeof *cols)))
            return id;
    }
    bb->lists = vec_room(bb->lists, &bb->list_cap, bb->list_count + (size_t)1, sizeof *bb->lists);
    bb->lists[bb->list_count] = (struct keylist){bb->pool_n, n};
    bb->pool_n += n;
    idtab_add(&bb->list_tab, hash, bb->list_count);
    return bb->list_count++;
}

static uint32_t list_number(struct block_builder *bb, const struct batch *b, struct batch_map *m,
                            unsigned scope, const struct attr_rec *a, uint32_t n)
{
    uint32_t *cols = pool_room(bb, n);
    for (uint32_t i = 0; i < n; i++)
        cols[i] = attr_col(bb, b, m, scope, &a[i]);
    return pool_number(bb, n);
}

uint32_t plan_list(struct block_builder *bb, const uint32_t *cols, uint32_t n)
{
    uint32_t *room = pool_room(bb, n);
    if (n)
        memcpy(room, cols, n * sizeof *cols);
    return pool_number(bb, n);
}

uint32_t plan_shape(struct block_builder *bb, enum block_table table, const struct shape *want)
{
    struct shapes *t = &bb->shapes[table];
    uint64_t tag = (uint64_t)want->kind << 8 | want->status;
    uint64_t mixed = hash_u64((uint64_t)want->origin << 32 | want->name, tag << 32 | want->list);
    uint32_t hash = (uint32_t)mixed, at = hash, id;
    while ((id = idtab_next(&t->tab, hash, &at)) != NO_ID) {
        const struct shape *s = &t->v[id];
        if (s->origin == want->origin && s->name == want->name && s->list == want->list &&
            s->kind == want->kind && s->status == want->status)
            return id;
    }
    t->v = vec_room(t->v, &t->cap, t->n + (size_t)1, sizeof *t->v);
    t->v[t->n] = *want;
    t->v[t->n].local = NO_ID;
    idtab_add(&t->tab, hash, t->n);
    return t->n++;
}

/* --- origins --- */

static void blob_attrs(struct buf *out, const struct batch *b, uint32_t at, uint32_t n)
{
    pack_varint(out, n);
    for (const struct attr_rec *a = b->attrs + at, *end = a + n; a < end; a++) {
        pack_str(out, batch_key(b, a));
        buf_add_char(out, (char)a->type);
        if (attr_is_str(a->type))
            pack_str(out, batch_str(b, a->v.s));
        else if (a->type != ATTR_EMPTY)
            buf_add(out, &a->v.bits, 8);
    }
}

static void blob_origin(struct buf *out, const struct batch *b, const struct group_rec *g)
{
    pack_str(out, batch_str(b, g->service));
    pack_str(out, batch_str(b, g->res_schema));
    pack_str(out, batch_str(b, g->scope_schema));
    pack_str(out, batch_str(b, g->scope_name));
    pack_str(out, batch_str(b, g->scope_version));
    pack_varint(out, g->res_dropped);
    pack_varint(out, g->scope_dropped);
    blob_attrs(out, b, g->res_attr_at, g->res_attr_count);
    blob_attrs(out, b, g->scope_attr_at, g->scope_attr_count);
}

/* Notes the keys of a resource or scope among the words. */
static void note_keys(struct block_builder *bb, struct unpacker *u)
{
    for (uint64_t n = unpack_varint(u); n && !u->bad; n--) {
        struct str key = unpack_str(u), type = unpack_raw(u, 1);
        bb->words = vec_room(bb->words, &bb->word_cap, bb->word_n + (size_t)1, sizeof *bb->words);
        bb->words[bb->word_n++] = block_word(key, WORD_KEY);
        if (type.n && attr_is_str((unsigned char)type.p[0]))
            (void)unpack_str(u);
        else if (type.n && type.p[0] != ATTR_EMPTY)
            (void)unpack_raw(u, 8);
    }
}

/* The service of the origin; its keys become words. */
static struct str read_blob(struct block_builder *bb, struct str blob)
{
    struct unpacker u = {.at = (const uint8_t *)blob.p, .end = (const uint8_t *)blob.p + blob.n};
    struct str service = unpack_str(&u);
    for (int i = 0; i < 4; i++) /* schema URLs, name and version of the scope */
        (void)unpack_str(&u);
    for (int i = 0; i < 2; i++) /* dropped */
        (void)unpack_varint(&u);
    note_keys(bb, &u);
    note_keys(bb, &u);
    return service;
}

/* The number of the origin whose bytes were appended to origin_blobs; they stay when it is new. */
static uint32_t origin_number(struct block_builder *bb, size_t from)
{
    struct buf *blobs = &bb->origin_blobs;
    ensure(!blobs->failed);
    size_t len = blobs->n - from;
    uint32_t hash = (uint32_t)hash64(blobs->p + from, len, 6), at = hash, id;
    while ((id = idtab_next(&bb->origin_tab, hash, &at)) != NO_ID) {
        const struct origin *o = &bb->origins[id];
        if (o->blob_len == len && !memcmp(blobs->p + o->blob_at, blobs->p + from, len)) {
            blobs->n = from;
            return id;
        }
    }
    bb->origins = vec_room(bb->origins, &bb->origin_cap, bb->origin_count + (size_t)1,
                           sizeof *bb->origins);
    bb->origins[bb->origin_count] = (struct origin){.blob_at = from, .blob_len = len};
    idtab_add(&bb->origin_tab, hash, bb->origin_count);
    return bb->origin_count++;
}

static uint32_t group_origin(struct block_builder *bb, const struct batch *b,
                             const struct group_rec *g)
{
    size_t from = bb->origin_blobs.n;
    uint32_t known = bb->origin_count;
    blob_origin(&bb->origin_blobs, b, g);
    uint32_t no = origin_number(bb, from);
    if (no == known) {
        struct origin *o = &bb->origins[no];
        (void)read_blob(bb, str_of(bb->origin_blobs.p + o->blob_at, o->blob_len));
        o->service = intern_str(&bb->services, batch_str(b, g->service));
    }
    return no;
}

uint32_t plan_origin(struct block_builder *bb, struct str blob)
{
    size_t from = bb->origin_blobs.n;
    uint32_t known = bb->origin_count;
    buf_add_str(&bb->origin_blobs, blob);
    uint32_t no = origin_number(bb, from);
    if (no == known)
        bb->origins[no].service = intern_str(&bb->services, read_blob(bb, blob));
    return no;
}

/* --- spans --- */

static uint32_t *map_array(struct block_builder *bb, size_t n)
{
    uint32_t *p = arena_alloc(&bb->plan, n * sizeof *p, sizeof *p);
    ensure(p || !n);
    return n ? memset(p, 0xff, n * sizeof *p) : p;
}

static bool list_is(struct block_builder *bb, const struct keylist *l, const struct batch *b,
                    const struct batch_map *m, const struct attr_rec *a, uint32_t n)
{
    if (l->n != n)
        return false;
    const uint32_t *want = bb->list_pool + l->at;
    for (uint32_t i = 0; i < n; i++)
        if (m->col[((size_t)TABLE_SPAN * b->head->key_count + a[i].key) * 8 + a[i].type] != want[i])
            return false;
    return true;
}

static uint32_t span_shape(struct block_builder *bb, const struct batch *b, struct batch_map *m,
                           const struct span_rec *s)
{
    struct shapes *t = &bb->shapes[TABLE_SPAN];
    if (UNLIKELY(m->origin[s->group] == NO_ID))
        m->origin[s->group] = group_origin(bb, b, &b->groups[s->group]);
    uint32_t origin = m->origin[s->group], guess = m->guess[s->name];
    const struct attr_rec *a = b->attrs + s->attr_at;
    if (LIKELY(guess != NO_ID)) {
        const struct shape *g = &t->v[guess];
        if (g->origin == origin && g->kind == s->kind && g->status == s->status &&
            list_is(bb, &bb->lists[g->list], b, m, a, s->attr_count))
            return guess;
    }
    if (m->name[s->name] == NO_ID)
        m->name[s->name] = intern_str(&bb->strings, batch_name(b, s));
    struct shape want = {.origin = origin,
                         .name = m->name[s->name],
                         .list = list_number(bb, b, m, TABLE_SPAN, a, s->attr_count),
                         .kind = s->kind,
                         .status = s->status};
    return m->guess[s->name] = plan_shape(bb, TABLE_SPAN, &want);
}

static void plan_events(struct block_builder *bb, const struct batch *b, struct batch_map *m,
                        const struct span_rec *s)
{
    for (uint32_t i = s->event_at; i < s->event_at + s->event_count; i++) {
        const struct event_rec *e = &b->events[i];
        struct shape want = {
            .name = intern_str(&bb->strings, batch_str(b, e->name)),
            .list = list_number(bb, b, m, TABLE_EVENT, b->attrs + e->attr_at, e->attr_count)};
        m->event_shape[i] = plan_shape(bb, TABLE_EVENT, &want);
    }
    for (uint32_t i = s->link_at; i < s->link_at + s->link_count; i++) {
        const struct link_rec *l = &b->links[i];
        struct shape want = {
            .list = list_number(bb, b, m, TABLE_LINK, b->attrs + l->attr_at, l->attr_count)};
        m->link_shape[i] = plan_shape(bb, TABLE_LINK, &want);
    }
}

static uint32_t trace_number(struct block_builder *bb, const uint8_t id[16])
{
    uint64_t mixed = hash_mix(load_u64le(id) + bb->seed[0], load_u64le(id + 8) + bb->seed[1]);
    uint32_t hash = (uint32_t)(mixed >> 32), at = hash, no;
    while ((no = idtab_next(&bb->trace_tab, hash, &at)) != NO_ID)
        if (!memcmp(bb->traces[no].id, id, 16))
            return no;
    bb->traces = vec_room(bb->traces, &bb->trace_cap, bb->trace_count + (size_t)1,
                          sizeof *bb->traces);
    struct trace_at *t = &bb->traces[bb->trace_count];
    *t = (struct trace_at){.min_ns = UINT64_MAX};
    memcpy(t->id, id, 16);
    idtab_add(&bb->trace_tab, hash, bb->trace_count);
    return bb->trace_count++;
}

static void map_batch(struct block_builder *bb, uint32_t no)
{
    const struct batch *b = bb->batches[no];
    const struct batch_head *h = b->head;
    struct batch_map *m = &bb->maps[no];
    *m = (struct batch_map){.span_bytes = b->image_len / max_u64(h->span_count, 1) + 1};
    if (bb->given)
        return;
    m->col = map_array(bb, (size_t)TABLE_COUNT * h->key_count * 8);
    m->name = map_array(bb, h->name_count);
    m->guess = map_array(bb, h->name_count);
    m->origin = map_array(bb, h->group_count);
    m->event_shape = map_array(bb, h->event_count);
    m->link_shape = map_array(bb, h->link_count);
}

static void plan_batch(struct block_builder *bb, uint32_t no)
{
    const struct batch *b = bb->batches[no];
    const struct batch_head *h = b->head;
    struct batch_map *m = &bb->maps[no];
    map_batch(bb, no);
    uint32_t trace = NO_ID;
    for (uint32_t i = 0; i < h->span_count; i++) {
        const struct span_rec *s = &b->spans[i];
        if (trace == NO_ID || memcmp(bb->traces[trace].id, s->trace_id, 16))
            trace = trace_number(bb, s->trace_id);
        struct trace_at *t = &bb->traces[trace];
        t->count++;
        t->min_ns = min_u64(t->min_ns, s->start_ns);
        bb->max_end_ns = max_u64(bb->max_end_ns, s->end_ns);
        uint32_t shape = bb->given ? bb->given[no].span[i].shape : span_shape(bb, b, m, s);
        struct shape *sh = &bb->shapes[TABLE_SPAN].v[shape];
        sh->count++;
        sh->last_ns = max_u64(sh->last_ns, s->start_ns);
        if (!bb->given && (s->event_count | s->link_count))
            plan_events(bb, b, m, s);
        bb->row_trace[bb->row_count] = trace;
        bb->unsorted[bb->row_count++] = (struct row){.start_ns = s->start_ns,
                                                     .span_id = load_u64be(s->span_id),
                                                     .parent_id = load_u64be(s->parent_id),
                                                     .rec = s,
                                                     .batch = no,
                                                     .shape = shape};
    }
}

/* --- order --- */

static int trace_order_cmp(const void *x, const void *y, void *arg)
{
    const struct trace_at *traces = arg;
    const struct trace_at *a = &traces[*(const uint32_t *)x], *b = &traces[*(const uint32_t *)y];
    if (a->min_ns != b->min_ns)
        return a->min_ns < b->min_ns ? -1 : 1;
    return memcmp(a->id, b->id, 16);
}

static void place_rows(struct block_builder *bb)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < bb->trace_count; i++) {
        struct trace_at *t = &bb->traces[bb->trace_order[i]];
        t->at = at;
        at += t->count;
    }
    for (uint32_t i = 0; i < bb->row_count; i++)
        bb->rows[bb->traces[bb->row_trace[i]].at++] = bb->unsorted[i];
    for (uint32_t i = 0; i < bb->trace_count; i++)
        bb->traces[i].at -= bb->traces[i].count;
}

static inline bool row_before(const struct row *a, const struct row *b)
{
    return a->start_ns != b->start_ns ? a->start_ns < b->start_ns : a->span_id < b->span_id;
}

static void insertion_sort(struct row *v, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (!row_before(&v[i], &v[i - 1]))
            continue;
        struct row r = v[i];
        size_t k = i;
        for (; k && row_before(&r, &v[k - 1]); k--)
            v[k] = v[k - 1];
        v[k] = r;
    }
}

static void merge(struct row *out, const struct row *a, size_t an, const struct row *b, size_t bn)
{
    while (an && bn) {
        bool second = row_before(b, a);
        *out++ = second ? *b++ : *a++;
        bn -= second;
        an -= !second;
    }
    memcpy(out, an ? a : b, (an + bn) * sizeof *out);
}

/* Stable; tmp has room for n. */
static void sort_rows(struct row *v, size_t n, struct row *tmp)
{
    enum { RUN = 40 };
    for (size_t i = 0; i < n; i += RUN)
        insertion_sort(v + i, min_size(RUN, n - i));
    struct row *from = v, *to = tmp;
    for (size_t run = RUN; run < n; run *= 2) {
        for (size_t i = 0; i < n; i += 2 * run) {
            size_t an = min_size(run, n - i), bn = min_size(run, n - i - an);
            merge(to + i, from + i, an, from + i + an, bn);
        }
        struct row *swap = from;
        from = to;
        to = swap;
    }
    if (from != v)
        memcpy(v, from, n * sizeof *v);
}

/* --- parents --- */

static uint32_t service_of(const struct block_builder *bb, const struct row *r)
{
    return bb->origins[bb->shapes[TABLE_SPAN].v[r->shape].origin].service;
}

#define NS_PER_MINUTE (60 * NS_PER_S)

static void count_edge(struct block_builder *bb, const struct row *parent, const struct row *child)
{
    struct edge want = {.minute = (uint32_t)(child->start_ns / NS_PER_MINUTE),
                        .parent = service_of(bb, parent),
                        .child = service_of(bb, child),
                        .calls = 1};
    uint32_t hash = (uint32_t)hash_u64((uint64_t)want.parent << 32 | want.child,
                                       want.minute + UINT64_C(1));
    uint32_t at = hash, id;
    while ((id = idtab_next(&bb->edge_tab, hash, &at)) != NO_ID) {
        struct edge *e = &bb->edges[id];
        if (e->minute == want.minute && e->parent == want.parent && e->child == want.child) {
            e->calls++;
            return;
        }
    }
    bb->edges = vec_room(bb->edges, &bb->edge_cap, bb->edge_count + (size_t)1, sizeof *bb->edges);
    bb->edges[bb->edge_count] = want;
    idtab_add(&bb->edge_tab, hash, bb->edge_count++);
}

static void add_orphan(struct block_builder *bb, const struct row *r)
{
    bb->orphans = vec_room(bb->orphans, &bb->orphan_cap, bb->orphan_count + (size_t)1,
                           sizeof *bb->orphans);
    struct block_orphan *o = &bb->orphans[bb->orphan_count++];
    memcpy(o->trace_id, r->rec->trace_id, 16);
    store_u64be(o->parent_id, r->parent_id);
    o->service = service_of(bb, r);
    o->minute = (uint32_t)(r->start_ns / NS_PER_MINUTE);
}

/* Parents of the rows of one trace: their ordinals, by a table of span ids. Of spans that share an
 * id the first is the parent. */
static void plan_parents(struct block_builder *bb, struct row *v, uint32_t n, uint32_t *parent)
{
    uint32_t size = 8;
    while (size < n * UINT64_C(2))
        size *= 2;
    bb->id_slots = vec_room(bb->id_slots, &bb->id_slots_cap, size, sizeof *bb->id_slots);
    uint32_t *slot = bb->id_slots, mask = size - 1;
    memset(slot, 0, size * sizeof *slot);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = (uint32_t)hash_u64(v[i].span_id, bb->seed[0]) & mask;
        while (slot[at] && v[slot[at] - 1].span_id != v[i].span_id)
            at = (at + 1) & mask;
        if (!slot[at])
            slot[at] = i + 1;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint64_t id = v[i].parent_id;
        parent[i] = PARENT_NONE;
        if (!id)
            continue;
        uint32_t at = (uint32_t)hash_u64(id, bb->seed[0]) & mask;
        while (slot[at] && v[slot[at] - 1].span_id != id)
            at = (at + 1) & mask;
        if (slot[at]) {
            parent[i] = PARENT_AT + (uint32_t)zigzag((int64_t)i - (slot[at] - 1));
            count_edge(bb, &v[slot[at] - 1], &v[i]);
        } else {
            parent[i] = PARENT_ORPHAN;
            add_orphan(bb, &v[i]);
        }
    }
}

/* Forgets the run before. */
static void run_reset(struct block_builder *bb)
{
    arena_reset_warm(&bb->plan, PLAN_ARENA_KEEP);
    idtab_reset(&bb->trace_tab);
    bb->trace_count = bb->row_count = bb->part_count = 0;
}

void plan_spans(struct block_builder *bb, const struct batch *const *batches,
                const struct given *given, size_t n)
{
    size_t spans = 0;
    run_reset(bb);
    bb->batches = batches;
    bb->given = given;
    bb->batch_count = n;
    for (size_t i = 0; i < bb->batch_count; i++)
        spans += bb->batches[i]->head->span_count;
    ensure(spans < NO_ID / 4 && bb->batch_count < NO_ID);
    bb->rows = vec_room(bb->rows, &bb->rows_cap, spans, sizeof *bb->rows);
    bb->unsorted = vec_room(bb->unsorted, &bb->unsorted_cap, spans, sizeof *bb->unsorted);
    bb->row_trace = vec_room(bb->row_trace, &bb->row_trace_cap, spans, sizeof *bb->row_trace);
    bb->parents = vec_room(bb->parents, &bb->parents_cap, spans, sizeof *bb->parents);
    bb->maps = ARENA_ARRAY(&bb->plan, struct batch_map, bb->batch_count);
    ensure(bb->maps || !bb->batch_count);
    for (uint32_t i = 0; i < bb->batch_count; i++)
        plan_batch(bb, i);
    bb->trace_order = vec_room(bb->trace_order, &bb->trace_order_cap, bb->trace_count,
                               sizeof *bb->trace_order);
    for (uint32_t i = 0; i < bb->trace_count; i++)
        bb->trace_order[i] = i;
    if (bb->trace_count)
        qsort_r(bb->trace_order, bb->trace_count, sizeof *bb->trace_order, trace_order_cmp,
                bb->traces);
    place_rows(bb);
    for (uint32_t i = 0; i < bb->trace_count; i++) {
        struct trace_at *t = &bb->traces[bb->trace_order[i]];
        sort_rows(bb->rows + t->at, t->count, bb->unsorted);
        plan_parents(bb, bb->rows + t->at, t->count, bb->parents + t->at);
    }
}
