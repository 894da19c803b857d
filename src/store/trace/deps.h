/* SPDX-License-Identifier: Apache-2.0 */
/* Dependencies between services, exact: every span with a parent is one call from the parent's
 * service to the span's own, counted in the minute of the span's start.
 *
 *   deps        what is settled: rows (minutes, parent, child) → calls. Outlives the blocks.
 *   orphans     spans of blocks whose parent has not been seen yet.
 *   span_index  print of every span of a memtable → its service. The newest few are kept in memory,
 *               so that parent and child may come in neighbouring memtables at no cost.
 *
 * All three are immutable and shared by reference, so a snapshot sees them as they fit together.
 * Service numbers are the catalogue's. Private to store/trace. */
#ifndef LYMER_STORE_TRACE_DEPS_H
#define LYMER_STORE_TRACE_DEPS_H

#include "base/hash.h"
#include "base/os/os.h"
#include "store/trace/memtable.h"

#define MINUTE_NS       (60 * NS_PER_S)
#define DEPS_ROWS_MAX   (1u << 20)
#define ORPHANS_MAX     (1u << 18) /* remembered; the oldest are given up first */
#define ORPHAN_MINUTES  60u        /* nor is a parent awaited that arrives later than this */
#define DEPS_MINUTE_AGE 1440u      /* rows older than this are gathered by the hour … */
#define DEPS_HOUR_AGE   43200u     /* … and older than this (30 days) by the day */

/* --- prints --- */

/* Identifies a span of a tenant; seed is span_print_seed() of the tenant's name. Part of the
 * manifest format. Never 0. */
static inline uint64_t span_print(uint64_t seed, const uint8_t trace_id[16], const uint8_t id[8])
{
    uint64_t h = hash_mix(load_u64le(trace_id) ^ HASH_K0, load_u64le(trace_id + 8) ^ seed);
    h = hash_mix(h ^ HASH_K1, load_u64le(id) ^ HASH_K2);
    return h ? h : 1;
}

static inline uint64_t span_print_seed(struct str tenant)
{
    return hash_str(tenant, 0);
}

/* --- settled rows --- */

struct dep_row {
    uint32_t minute, width; /* minutes [minute, minute + width) since 1970 */
    uint32_t parent, child;
    uint64_t calls;
};

struct deps {
    _Atomic uint32_t refs;
    uint32_t gathered_hour; /* when old rows were last gathered */
    size_t n;
    struct dep_row rows[]; /* by minute, width, parent, child */
};

/* A growing list of rows, not in order, with repeats. */
struct dep_list {
    struct dep_row *v;
    size_t n, cap;
};

void dep_list_add(struct dep_list *l, struct dep_row row);
void dep_list_fini(struct dep_list *l);
/* Sorts and sums equal rows. */
void dep_list_pack(struct dep_list *l);

/* The rows of old (may be NULL) and of the list, old ones gathered by hour and day. One reference.
 */
struct deps *deps_merge(const struct deps *old, struct dep_list *more, uint32_t now_minute);
struct deps *deps_ref(struct deps *d);
void deps_unref(struct deps *d);

/* --- orphans --- */

struct orphan {
    uint64_t print;           /* of the parent */
    uint32_t service, minute; /* of the span */
    uint32_t noted;           /* minute when the newest span of its memtable arrived */
};

struct orphans {
    _Atomic uint32_t refs;
    size_t n;
    struct orphan v[]; /* by print */
};

struct orphan_list {
    struct orphan *v;
    size_t n, cap;
};

void orphan_list_add(struct orphan_list *l, struct orphan o);
void orphan_list_fini(struct orphan_list *l);

/* A growing list of prints. */
struct print_list {
    uint64_t *v;
    size_t n, cap;
};

void print_list_add(struct print_list *l, uint64_t print);
void print_list_fini(struct print_list *l);

/* old (may be NULL) without the settled prints and what is too old, with `more`; lists get sorted.
 * What arrives from now on arrives after `arrived_minute`. */
struct orphans *orphans_merge(const struct orphans *old, struct print_list *settled,
                              struct orphan_list *more, uint32_t arrived_minute);
struct orphans *orphans_ref(struct orphans *o);
void orphans_unref(struct orphans *o);

/* --- span index --- */

struct span_index;

/* Of the first `count` entries, all tenants. */
struct span_index *span_index_new(struct os *os, const struct memtable *m, uint32_t count);
bool span_index_find(const struct span_index *ix, uint64_t print, uint32_t *service);
struct span_index *span_index_ref(struct span_index *ix);
void span_index_unref(struct span_index *ix);

#endif
