/* SPDX-License-Identifier: Apache-2.0 */
/* Retention: whole blocks go, those whose newest span came before the retention time, then the
 * oldest until the disk cap holds with something to spare. The manifest says so first; then the
 * file loses its name, and a snapshot that holds it reads on. Names go when nobody has seen them
 * for the retention time; dependencies stay. docs/internals/bounds.md tells the whole.
 */
#include "store/trace/store_parts.h"

#include "base/log.h"
#include "base/stats.h"

#include <stdlib.h>

/* What a disk cap must hold at least: the log as long as it gets before clients are told to wait,
 * the block that is being built and one more, FORMAT, LOCK and folders. */
#define LOG_SEGMENTS (FROZEN_MAX + 2u) /* one for each memtable and one to go on with */
#define LEAST_BLOCKS 2u
#define LEAST_REST   (64 * KIB)

static bool is_listed(const uint64_t *ids, size_t n, uint64_t id)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static void publish_without(struct store *s, const uint64_t *ids, size_t n)
{
    pthread_mutex_lock(&s->lock);
    struct version *old = s->version, *v = version_copy(old, 0);
    size_t kept = 0, gone_n = 0;
    struct part **gone = xmalloc((n + 1) * sizeof(struct part *));
    for (size_t i = 0; i < v->part_n; i++) {
        struct part *p = v->parts[i];
        if (!is_listed(ids, n, p->id)) {
            v->parts[kept++] = p;
            continue;
        }
        gone[gone_n++] = p; /* with the reference of the new version */
        stat_add(STAT_BLOCKS_EXPIRED, 1);
        stat_add(STAT_SPANS_EXPIRED, (int64_t)p->spans);
        stat_add(STAT_BLOCKS, -1);
        stat_add(STAT_BLOCK_SPANS, -(int64_t)p->spans);
        stat_add(STAT_BLOCK_BYTES, -(int64_t)p->bytes);
    }
    v->part_n = kept;
    s->version = v;
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < gone_n; i++) {
        part_remove(gone[i]);
        part_unref(gone[i]);
    }
    free(gone);
    version_unref(old);
}

enum errc store_drop_parts(struct store *s, const uint64_t *ids, size_t n, struct err *e)
{
    struct edit edit;
    edit_init(&edit);
    for (size_t i = 0; i < n; i++)
        edit_number(&edit, EDIT_DROP, ids[i]);
    enum errc rc = manifest_commit(s->manifest, &edit.buf, store_write_state, s, e);
    edit_fini(&edit);
    if (rc == E_OK)
        publish_without(s, ids, n);
    return rc;
}

static int by_age(const void *a, const void *b)
{
    const struct part *x = *(struct part *const *)a, *y = *(struct part *const *)b;
    if (x->end_ns != y->end_ns)
        return x->end_ns < y->end_ns ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* When the block goes, UINT64_MAX: never. What the rules have decided stays as long as they said;
 * what they have yet to decide, or cannot, as long as the longest of them says. */
static uint64_t expires_ns(const struct part *p, const struct store_config *c)
{
    uint64_t keep_ns = p->kept_ns ? p->kept_ns : c->retention_ns;
    if (!p->kept_ns && keep_ns)
        keep_ns = max_u64(keep_ns, c->longest_ns);
    return c->keep_all || !keep_ns || p->end_ns > UINT64_MAX - keep_ns ? UINT64_MAX
                                                                       : p->end_ns + keep_ns;
}

/* Drops what has expired by now_ns, then the oldest until `bytes` are free. Returns when the next
 * one expires. */
static uint64_t drop_old(struct store *s, uint64_t now_ns, uint64_t bytes)
{
    struct err e;
    pthread_mutex_lock(&s->lock);
    struct store_config c = s->config;
    pthread_mutex_unlock(&s->lock);
    struct version *v = store_version(s);
    size_t n = 0, part_n = v->part_n;
    uint64_t *ids = xmalloc((part_n + 1) * sizeof *ids), freed = 0, next_ns = UINT64_MAX;
    struct part **parts = xmalloc((part_n + 1) * sizeof(struct part *));
    memcpy(parts, v->parts, part_n * sizeof(struct part *));
    if (part_n)
        qsort(parts, part_n, sizeof(struct part *), by_age);
    for (size_t i = 0; i < part_n; i++)
        if (expires_ns(parts[i], &c) < now_ns)
            freed += parts[i]->bytes;
    for (size_t i = 0; i < part_n; i++) {
        uint64_t end_ns = expires_ns(parts[i], &c);
        if (end_ns >= now_ns && freed >= bytes) {
            next_ns = min_u64(next_ns, end_ns);
            continue;
        }
        if (end_ns >= now_ns)
            freed += parts[i]->bytes;
        ids[n++] = parts[i]->id;
    }
    version_unref(v);
    if (n && store_drop_parts(s, ids, n, &e) != E_OK)
        log_error("store", "old blocks stay for now: %s", err_msg(&e));
    free(parts);
    free(ids);
    return next_ns;
}

/* --- the cap --- */

static uint64_t segment_bytes(const struct store_config *c)
{
    return c->memtable_bytes + c->memtable_bytes / 8;
}

uint64_t store_least_disk(const struct store_config *c)
{
    uint64_t log = c->log ? LOG_SEGMENTS * max_u64(segment_bytes(c), WAL_SEGMENT_MIN) : 0;
    return 2 * MANIFEST_REWRITE_MIN + log + LEAST_BLOCKS * segment_bytes(c) + LEAST_REST;
}

void store_set_room(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t max_bytes = s->config.max_disk_bytes, block = segment_bytes(&s->config);
    for (size_t i = 0; i < s->version->mem_n; i++)
        block = max_u64(block, atomic_load(&s->version->mem[i]->bytes));
    pthread_mutex_unlock(&s->lock);
    room_reserve(s->room, manifest_growth(s->manifest), block);
    room_limit(s->room, max_bytes);
}

/* What is kept free so that the log, as long as it gets, and the next merge need not wait. */
static uint64_t headroom(const struct store *s, uint64_t max_bytes)
{
    const struct store_config *c = &s->config;
    uint64_t least = store_least_disk(c), log = 0;
    if (s->wal) {
        uint64_t most = LOG_SEGMENTS * (segment_bytes(c) + 2 * ROOM_PAGE);
        log = most - min_u64(most, wal_disk_bytes(s->wal));
    }
    return log + min_u64(c->compact_fanin * c->compact_bytes, (max_bytes - least) / 8);
}

void store_make_room(void *store, uint64_t bytes)
{
    struct store *s = store;
    if (!store_compact_commits(s))
        (void)drop_old(s, 0, room_lacks(s->room, ROOM_BLOCK, bytes));
}

/* --- time --- */

uint64_t store_retain(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t names_ns = store_names_ns(s);
    pthread_mutex_unlock(&s->lock);
    uint64_t now_ns = os_now_ns(s->os), max_bytes = room_limit_bytes(s->room);
    uint64_t log_bytes = s->wal ? wal_disk_bytes(s->wal) : 0, surplus = 0;
    if (max_bytes)
        surplus = room_lacks(s->room, ROOM_LOG, headroom(s, max_bytes));
    if (surplus && log_bytes >= max_bytes)
        log_warn("store", "the log alone takes %llu bytes, the disk cap is %llu: no block can stay",
                 (unsigned long long)log_bytes, (unsigned long long)max_bytes);
    if (names_ns && now_ns > names_ns)
        catalog_prune(s->catalog, now_ns - names_ns);
    uint64_t next_ns = drop_old(s, now_ns, surplus);
    return next_ns == UINT64_MAX ? UINT64_MAX : next_ns - min_u64(next_ns, now_ns);
}
