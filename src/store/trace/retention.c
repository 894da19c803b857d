/* SPDX-License-Identifier: Apache-2.0 */
/* Retention: whole blocks go, those whose newest span ended before the retention time, then the
 * oldest until the disk cap holds. The manifest says so first; a file goes with the last snapshot
 * that can read it. Names go when nobody has seen them for the retention time; dependencies stay.
 */
#include "store/trace/store_parts.h"

#include "base/log.h"
#include "base/stats.h"

#include <stdlib.h>

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
    size_t kept = 0;
    for (size_t i = 0; i < v->part_n; i++) {
        struct part *p = v->parts[i];
        if (!is_listed(ids, n, p->id)) {
            v->parts[kept++] = p;
            continue;
        }
        atomic_store(&p->dropped, true);
        stat_add(STAT_BLOCKS_EXPIRED, 1);
        stat_add(STAT_SPANS_EXPIRED, (int64_t)p->spans);
        stat_add(STAT_BLOCKS, -1);
        stat_add(STAT_BLOCK_SPANS, -(int64_t)p->spans);
        stat_add(STAT_BLOCK_BYTES, -(int64_t)p->bytes);
        part_unref(p); /* the old version still holds it */
    }
    v->part_n = kept;
    s->version = v;
    pthread_mutex_unlock(&s->lock);
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

/* The ids to drop, oldest first. */
static size_t choose(const struct version *v, uint64_t before_ns, uint64_t max_bytes,
                     uint64_t log_bytes, uint64_t *ids)
{
    size_t n = 0;
    uint64_t bytes = log_bytes;
    struct part **parts = xmalloc((v->part_n + 1) * sizeof(struct part *));
    for (size_t i = 0; i < v->part_n; i++) {
        parts[i] = v->parts[i];
        bytes += parts[i]->bytes;
    }
    qsort(parts, v->part_n, sizeof(struct part *), by_age);
    for (size_t i = 0; i < v->part_n; i++) {
        if (parts[i]->end_ns >= before_ns && (!max_bytes || bytes <= max_bytes))
            break;
        bytes -= parts[i]->bytes;
        ids[n++] = parts[i]->id;
    }
    free(parts);
    return n;
}

bool store_retain(struct store *s)
{
    struct err e;
    pthread_mutex_lock(&s->lock);
    uint64_t keep_ns = s->config.retention_ns, max_bytes = s->config.max_disk_bytes;
    struct version *v = version_ref(s->version);
    pthread_mutex_unlock(&s->lock);
    uint64_t now_ns = os_now_ns(s->os);
    uint64_t before_ns = keep_ns && now_ns > keep_ns ? now_ns - keep_ns : 0;
    uint64_t *ids = xmalloc((v->part_n + 1) * sizeof *ids);
    uint64_t log_bytes = s->wal ? wal_disk_bytes(s->wal) : 0;
    size_t n = choose(v, before_ns, max_bytes, log_bytes, ids);
    version_unref(v);
    if (n && max_bytes && log_bytes >= max_bytes)
        log_warn("store", "the log alone takes %llu bytes, the disk cap is %llu: no block can stay",
                 (unsigned long long)log_bytes, (unsigned long long)max_bytes);
    if (before_ns)
        catalog_prune(s->catalog, before_ns);
    if (n && store_drop_parts(s, ids, n, &e) != E_OK) {
        log_error("store", "expired blocks stay for now: %s", err_msg(&e));
        n = 0;
    }
    free(ids);
    return n > 0;
}
