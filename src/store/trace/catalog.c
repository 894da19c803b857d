/* SPDX-License-Identifier: Apache-2.0 */
/* Three tables under one lock: tenants, services, operations, each an array found through an open
 * addressing index of positions.
 *
 * Services keep their number while the process lives, for others hold it; forgotten ones are only
 * marked (seen_ns 0). Operations are held by nobody, so pruning packs their array. The writer
 * touches the tables once per distinct (service, name, kind) of a batch, not per span. */
#include "store/trace/catalog.h"

#include "base/stats.h"
#include "store/trace/edit.h"

#include <pthread.h>
#include <stdlib.h>

#define MARKS_FIRST 256u
#define MARKS_KEPT  4096u

struct tenant {
    struct str name;
    uint32_t services, operations; /* alive */
    uint32_t slots;                /* services, alive or forgotten */
    uint32_t other_service;        /* CATALOG_NONE until needed */
};

struct service {
    struct str name;
    uint32_t tenant;
    uint64_t seen_ns;  /* 0: forgotten */
    uint64_t saved_ns; /* 0: no block has it */
};

struct op {
    struct str name;
    uint32_t service;
    enum span_kind kind;
    uint64_t seen_ns, saved_ns;
};

struct table {
    uint32_t *slot; /* position + 1; 0: empty */
    uint32_t mask, n, cap;
};

/* A distinct (group, name, kind) of the batch being noted. */
struct mark {
    uint64_t key; /* + 1; 0: empty */
    uint64_t seen_ns;
};

struct catalog {
    pthread_mutex_t lock; /* protects everything below */
    uint32_t services_max, operations_max;
    struct table tenant_table, service_table, op_table;
    struct tenant *tenants;
    struct service *services;
    struct op *ops;
    struct mark *marks; /* the writer's scratch, open addressing */
    uint32_t mark_mask, mark_count;
};

static struct str copy(struct str s)
{
    char *p = xmalloc(s.n + 1);
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = 0;
    return str_of(p, s.n);
}

static void free_str(struct str s)
{
    union {
        const char *in;
        void *out;
    } p = {.in = s.p};
    free(p.out);
}

/* --- tables --- */

static void table_put(struct table *t, uint64_t hash, uint32_t position)
{
    uint32_t i = (uint32_t)hash & t->mask;
    while (t->slot[i])
        i = (i + 1) & t->mask;
    t->slot[i] = position + 1;
}

static uint64_t service_hash(const struct service *s)
{
    return hash_str(s->name, s->tenant + 1);
}

static uint64_t op_hash(const struct op *o)
{
    return hash_str(o->name, (uint64_t)o->service * KIND_COUNT + (unsigned)o->kind + 1);
}

static void table_clear(struct table *t)
{
    memset(t->slot, 0, (t->mask + 1) * sizeof *t->slot);
}

/* Room for one more element in the array at *items and in the index; true when the index must be
 * filled again. */
static bool table_grow(struct table *t, void *items, size_t item_bytes)
{
    void **array = items;
    if (t->n < t->cap)
        return false;
    t->cap = t->cap ? 2 * t->cap : 64;
    *array = xrealloc(*array, t->cap * item_bytes);
    t->mask = 2 * t->cap - 1;
    free(t->slot);
    t->slot = xcalloc(t->mask + 1, sizeof *t->slot);
    return true;
}

struct catalog *catalog_new(uint32_t services_max, uint32_t operations_max)
{
    struct catalog *c = xcalloc(1, sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    c->services_max = services_max;
    c->operations_max = operations_max;
    c->mark_mask = MARKS_FIRST - 1;
    c->marks = xcalloc(c->mark_mask + 1, sizeof *c->marks);
    return c;
}

void catalog_free(struct catalog *c)
{
    if (!c)
        return;
    for (uint32_t i = 0; i < c->tenant_table.n; i++)
        free_str(c->tenants[i].name);
    for (uint32_t i = 0; i < c->service_table.n; i++)
        free_str(c->services[i].name);
    for (uint32_t i = 0; i < c->op_table.n; i++)
        free_str(c->ops[i].name);
    free(c->tenant_table.slot);
    free(c->service_table.slot);
    free(c->op_table.slot);
    free(c->tenants);
    free(c->services);
    free(c->ops);
    free(c->marks);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* --- tenants --- */

static uint32_t tenant_find(const struct catalog *c, struct str name)
{
    const struct table *t = &c->tenant_table;
    if (!t->slot)
        return CATALOG_NONE;
    uint32_t at = (uint32_t)hash_str(name, 0) & t->mask;
    for (; t->slot[at]; at = (at + 1) & t->mask)
        if (str_eq(c->tenants[t->slot[at] - 1].name, name))
            return t->slot[at] - 1;
    return CATALOG_NONE;
}

static uint32_t tenant_get(struct catalog *c, struct str name)
{
    struct table *t = &c->tenant_table;
    uint32_t found = tenant_find(c, name);
    if (found != CATALOG_NONE || t->n == TENANTS_MAX)
        return found;
    if (table_grow(t, &c->tenants, sizeof *c->tenants))
        for (uint32_t i = 0; i < t->n; i++)
            table_put(t, hash_str(c->tenants[i].name, 0), i);
    c->tenants[t->n] = (struct tenant){.name = copy(name), .other_service = CATALOG_NONE};
    table_put(t, hash_str(name, 0), t->n);
    return t->n++;
}

uint32_t catalog_tenant(struct catalog *c, struct str name)
{
    pthread_mutex_lock(&c->lock);
    uint32_t tenant = tenant_get(c, name);
    pthread_mutex_unlock(&c->lock);
    return tenant;
}

uint32_t catalog_find_tenant(struct catalog *c, struct str name)
{
    pthread_mutex_lock(&c->lock);
    uint32_t tenant = tenant_find(c, name);
    pthread_mutex_unlock(&c->lock);
    return tenant;
}

struct str catalog_tenant_name(struct catalog *c, uint32_t tenant)
{
    pthread_mutex_lock(&c->lock);
    ensure(tenant < c->tenant_table.n);
    struct str name = c->tenants[tenant].name;
    pthread_mutex_unlock(&c->lock);
    return name;
}

uint32_t catalog_tenant_count(struct catalog *c)
{
    pthread_mutex_lock(&c->lock);
    uint32_t n = c->tenant_table.n;
    pthread_mutex_unlock(&c->lock);
    return n;
}

/* --- services --- */

static uint32_t service_find(const struct catalog *c, uint32_t tenant, struct str name)
{
    const struct table *t = &c->service_table;
    if (!t->slot)
        return CATALOG_NONE;
    struct service key = {.name = name, .tenant = tenant};
    uint32_t at = (uint32_t)service_hash(&key) & t->mask;
    for (; t->slot[at]; at = (at + 1) & t->mask) {
        const struct service *s = &c->services[t->slot[at] - 1];
        if (s->tenant == tenant && str_eq(s->name, name))
            return t->slot[at] - 1;
    }
    return CATALOG_NONE;
}

static uint32_t service_add(struct catalog *c, uint32_t tenant, struct str name)
{
    struct table *t = &c->service_table;
    if (table_grow(t, &c->services, sizeof *c->services))
        for (uint32_t i = 0; i < t->n; i++)
            table_put(t, service_hash(&c->services[i]), i);
    c->services[t->n] = (struct service){.name = copy(name), .tenant = tenant};
    table_put(t, service_hash(&c->services[t->n]), t->n);
    c->tenants[tenant].slots++;
    return t->n++;
}

static void see(uint64_t *seen_ns, uint64_t *saved_ns, uint64_t ns, bool saved)
{
    *seen_ns = max_u64(*seen_ns, ns);
    if (saved)
        *saved_ns = max_u64(*saved_ns, ns);
}

static void service_see(struct catalog *c, uint32_t number, uint64_t ns, bool saved)
{
    struct service *s = &c->services[number];
    c->tenants[s->tenant].services += !s->seen_ns && ns;
    see(&s->seen_ns, &s->saved_ns, ns, saved);
}

static uint32_t service_get(struct catalog *c, uint32_t tenant, struct str name, uint64_t seen_ns,
                            bool saved)
{
    struct tenant *t = &c->tenants[tenant];
    uint32_t number = service_find(c, tenant, name);
    bool full = t->services >= c->services_max || name.n > CATALOG_NAME_MAX ||
                (number == CATALOG_NONE && t->slots / CATALOG_SLOTS_OVER >= c->services_max);
    if ((number == CATALOG_NONE || !c->services[number].seen_ns) && full) {
        stat_add(STAT_SERVICES_OVER_LIMIT, 1);
        if (t->other_service == CATALOG_NONE) {
            number = service_find(c, tenant, STR(OTHER_SERVICES));
            t->other_service = number != CATALOG_NONE ? number
                                                      : service_add(c, tenant, STR(OTHER_SERVICES));
        }
        number = t->other_service;
    } else if (number == CATALOG_NONE) {
        number = service_add(c, tenant, name);
    }
    service_see(c, number, seen_ns, saved);
    return number;
}

uint32_t catalog_service(struct catalog *c, uint32_t tenant, struct str name, uint64_t seen_ns,
                         bool saved)
{
    pthread_mutex_lock(&c->lock);
    uint32_t number = service_get(c, tenant, name, seen_ns, saved);
    pthread_mutex_unlock(&c->lock);
    return number;
}

struct str catalog_service_name(struct catalog *c, uint32_t service)
{
    pthread_mutex_lock(&c->lock);
    ensure(service < c->service_table.n);
    struct str name = c->services[service].name;
    pthread_mutex_unlock(&c->lock);
    return name;
}

uint32_t catalog_service_tenant(struct catalog *c, uint32_t service)
{
    pthread_mutex_lock(&c->lock);
    ensure(service < c->service_table.n);
    uint32_t tenant = c->services[service].tenant;
    pthread_mutex_unlock(&c->lock);
    return tenant;
}

/* --- operations --- */

static struct op *op_find(const struct catalog *c, const struct op *key)
{
    const struct table *t = &c->op_table;
    if (!t->slot)
        return NULL;
    for (uint32_t at = (uint32_t)op_hash(key) & t->mask; t->slot[at]; at = (at + 1) & t->mask) {
        struct op *o = &c->ops[t->slot[at] - 1];
        if (o->service == key->service && o->kind == key->kind && str_eq(o->name, key->name))
            return o;
    }
    return NULL;
}

static void ops_index(struct catalog *c)
{
    for (uint32_t i = 0; i < c->op_table.n; i++)
        table_put(&c->op_table, op_hash(&c->ops[i]), i);
}

static void op_get(struct catalog *c, uint32_t service, struct str name, enum span_kind kind,
                   uint64_t seen_ns, bool saved)
{
    struct op key = {.name = name, .service = service, .kind = kind};
    struct op *o = op_find(c, &key);
    struct tenant *t = &c->tenants[c->services[service].tenant];
    if (!o && (t->operations >= c->operations_max || name.n > CATALOG_NAME_MAX)) {
        stat_add(STAT_OPERATIONS_OVER_LIMIT, 1);
        key.name = STR(OTHER_OPERATIONS);
        key.kind = KIND_UNSPECIFIED;
        o = op_find(c, &key);
        /* One overflow name per service: bounded by the services. */
    }
    if (!o) {
        if (table_grow(&c->op_table, &c->ops, sizeof *c->ops))
            ops_index(c);
        key.name = copy(key.name);
        o = &c->ops[c->op_table.n];
        *o = key;
        table_put(&c->op_table, op_hash(o), c->op_table.n++);
        t->operations++;
    }
    see(&o->seen_ns, &o->saved_ns, seen_ns, saved);
}

void catalog_operation(struct catalog *c, uint32_t service, struct str name, enum span_kind kind,
                       uint64_t seen_ns, bool saved)
{
    pthread_mutex_lock(&c->lock);
    service_see(c, service, seen_ns, saved); /* a manifest may say less of the service */
    op_get(c, service, name, kind, seen_ns, saved);
    pthread_mutex_unlock(&c->lock);
}

/* --- noting a batch --- */

static struct mark *mark_slot(struct catalog *c, uint64_t key)
{
    uint32_t at = (uint32_t)(hash_u64(key, 0) >> 20) & c->mark_mask;
    while (c->marks[at].key && c->marks[at].key != key)
        at = (at + 1) & c->mark_mask;
    return &c->marks[at];
}

static void marks_grow(struct catalog *c)
{
    struct mark *old = c->marks;
    uint32_t n = c->mark_mask + 1;
    c->mark_mask = 2 * n - 1;
    c->marks = xcalloc(2 * (size_t)n, sizeof *c->marks);
    for (uint32_t i = 0; i < n; i++)
        if (old[i].key)
            *mark_slot(c, old[i].key) = old[i];
    free(old);
}

/* Group and name are below 2^28: an image holds no more of either. */
static uint64_t mark_key(const struct span_rec *s)
{
    return ((uint64_t)s->group << 32 | (uint64_t)s->name << 3 | s->kind) + 1;
}

/* Collects the distinct (group, name, kind) of the batch with the newest start of each, and the low
 * half of every trace id. */
static void marks_collect(struct catalog *c, const struct batch *b, uint64_t *low)
{
    struct mark *last = NULL;
    for (uint32_t i = 0; i < b->head->span_count; i++) {
        const struct span_rec *s = &b->spans[i];
        uint64_t key = mark_key(s);
        low[i] = trace_low(s->trace_id);
        if (!last || last->key != key) {
            if (2 * c->mark_count > c->mark_mask)
                marks_grow(c);
            last = mark_slot(c, key);
            c->mark_count += !last->key;
            last->key = key;
        }
        last->seen_ns = max_u64(last->seen_ns, s->start_ns);
    }
}

/* Groups without spans get no number: nothing asks for it. */
static void marks_apply(struct catalog *c, const struct batch *b, uint32_t tenant,
                        uint32_t *services)
{
    for (uint32_t i = 0; c->mark_count && i <= c->mark_mask; i++) {
        struct mark *m = &c->marks[i];
        if (!m->key)
            continue;
        uint64_t key = m->key - 1;
        uint32_t group = (uint32_t)(key >> 32), name = (uint32_t)key >> 3;
        uint64_t seen_ns = max_u64(min_u64(m->seen_ns, b->head->received_ns), 1);
        struct str service = batch_str(b, b->groups[group].service);
        services[group] = service_get(c, tenant, service, seen_ns, false);
        op_get(c, services[group], batch_str(b, b->names[name]), key & 7, seen_ns, false);
        *m = (struct mark){0};
        c->mark_count--;
    }
    if (c->mark_mask >= MARKS_KEPT) { /* one odd batch must not slow down every later one */
        c->mark_mask = MARKS_FIRST - 1;
        free(c->marks);
        c->marks = xcalloc(MARKS_FIRST, sizeof *c->marks);
    }
}

enum errc catalog_note(struct catalog *c, const struct batch *b, struct mem_entry *entry)
{
    const struct batch_head *h = b->head;
    pthread_mutex_lock(&c->lock);
    uint32_t tenant = tenant_get(c, b->tenant);
    if (tenant == CATALOG_NONE) {
        pthread_mutex_unlock(&c->lock);
        return E_THROTTLED;
    }
    entry->tenant = tenant;
    entry->services = xmalloc((h->group_count + 1) * sizeof *entry->services);
    entry->trace_low = xmalloc((h->span_count + 1) * sizeof *entry->trace_low);
    marks_collect(c, b, entry->trace_low);
    marks_apply(c, b, tenant, entry->services);
    pthread_mutex_unlock(&c->lock);
    return E_OK;
}

/* --- forgetting --- */

void catalog_prune(struct catalog *c, uint64_t before_ns)
{
    uint32_t kept = 0;
    pthread_mutex_lock(&c->lock);
    for (uint32_t i = 0; i < c->op_table.n; i++) {
        struct op *o = &c->ops[i];
        if (o->seen_ns >= before_ns) {
            c->ops[kept++] = *o;
            continue;
        }
        c->tenants[c->services[o->service].tenant].operations--;
        free_str(o->name);
    }
    if (kept < c->op_table.n) {
        c->op_table.n = kept;
        table_clear(&c->op_table);
        ops_index(c);
    }
    for (uint32_t i = 0; i < c->service_table.n; i++) {
        struct service *s = &c->services[i];
        if (s->seen_ns && s->seen_ns < before_ns) {
            s->seen_ns = s->saved_ns = 0;
            c->tenants[s->tenant].services--;
        }
    }
    pthread_mutex_unlock(&c->lock);
}

/* --- reading --- */

static int by_str(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static int by_operation(const void *a, const void *b)
{
    const struct operation *x = a, *y = b;
    int order = str_cmp(x->name, y->name);
    return order ? order : (int)x->kind - (int)y->kind;
}

enum errc catalog_services(struct catalog *c, uint32_t tenant, uint64_t since_ns, struct arena *a,
                           struct str **out, size_t *n)
{
    *n = 0;
    pthread_mutex_lock(&c->lock);
    *out = ARENA_ARRAY(a, struct str, c->tenants[tenant].services + 1);
    for (uint32_t i = 0; *out && i < c->service_table.n; i++) {
        const struct service *s = &c->services[i];
        if (s->tenant == tenant && s->seen_ns && s->seen_ns >= since_ns)
            (*out)[(*n)++] = arena_str(a, s->name);
    }
    pthread_mutex_unlock(&c->lock);
    if (a->failed)
        return E_NO_MEMORY;
    qsort(*out, *n, sizeof **out, by_str);
    return E_OK;
}

/* The same name may come from several services. */
static size_t drop_repeats(struct operation *v, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (kept && by_operation(&v[kept - 1], &v[i]) == 0)
            v[kept - 1].last_seen_ns = max_u64(v[kept - 1].last_seen_ns, v[i].last_seen_ns);
        else
            v[kept++] = v[i];
    }
    return kept;
}

enum errc catalog_operations(struct catalog *c, uint32_t tenant, struct str service, int kind,
                             uint64_t since_ns, struct arena *a, struct operation **out, size_t *n)
{
    *n = 0;
    pthread_mutex_lock(&c->lock);
    uint32_t wanted = service.n ? service_find(c, tenant, service) : CATALOG_NONE;
    bool none = service.n && wanted == CATALOG_NONE;
    *out = ARENA_ARRAY(a, struct operation, c->tenants[tenant].operations + 1);
    for (uint32_t i = 0; !none && *out && i < c->op_table.n; i++) {
        const struct op *o = &c->ops[i];
        bool mine = service.n ? o->service == wanted : c->services[o->service].tenant == tenant;
        if (mine && o->seen_ns >= since_ns && (kind < 0 || (int)o->kind == kind))
            (*out)[(*n)++] = (struct operation){arena_str(a, o->name), o->kind, o->seen_ns};
    }
    pthread_mutex_unlock(&c->lock);
    if (a->failed)
        return E_NO_MEMORY;
    qsort(*out, *n, sizeof **out, by_operation);
    *n = drop_repeats(*out, *n);
    return E_OK;
}

void catalog_write(struct catalog *c, uint32_t tenant, struct edit *out)
{
    pthread_mutex_lock(&c->lock);
    for (uint32_t i = 0; i < c->service_table.n; i++) {
        const struct service *s = &c->services[i];
        if (s->tenant == tenant && s->saved_ns)
            edit_service(out, i, s->name, s->saved_ns);
    }
    for (uint32_t i = 0; i < c->op_table.n; i++) {
        const struct op *o = &c->ops[i];
        const struct service *s = &c->services[o->service];
        if (s->tenant != tenant || !o->saved_ns)
            continue;
        uint32_t service = edit_service(out, o->service, s->name, s->saved_ns);
        edit_add(out, &(struct edit_item){.tag = EDIT_OPERATION,
                                          .service = service,
                                          .kind = (uint32_t)o->kind,
                                          .name = o->name,
                                          .seen_ns = o->saved_ns});
    }
    pthread_mutex_unlock(&c->lock);
}
