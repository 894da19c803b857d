/* SPDX-License-Identifier: Apache-2.0 */
/* An open block: its tail in memory, everything else read when asked for. Opening reads the last
 * OPEN_BYTES of the file, which hold the whole tail of an ordinary block, and checks it.
 *
 * What stays resident is 8 bytes and 8 to 16 bits a trace, 4 bytes a word and a row of numbers a
 * row group. */
#include "store/trace/block_read.h"

#include <stdlib.h>

#define OPEN_BYTES (64 * KIB)
/* Reader contexts kept for the next call. */
#define POOL_MAX 4
/* Memory each of them keeps. */
#define READER_BYTES_KEEP (4 * MIB)

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER; /* protects the two below */
static struct reader *pool;
static unsigned pool_count;
static _Atomic uint64_t blocks_opened;

/* Decoded meta sections of all blocks that are kept for the next call; past it those that were not
 * asked for longest go. */
#define SHARED_BYTES_MAX (32 * MIB)

static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER; /* protects the three below */
static struct shared *shared_newest, *shared_oldest;
static size_t shared_bytes;

/* --- reader contexts --- */

/* Lock held. The reader that knows the block, or else the one that was unused longest. */
static struct reader *pool_pick(const struct block *b)
{
    struct reader **at = &pool;
    if (!pool)
        return NULL;
    while ((*at)->serial != b->serial && (*at)->next)
        at = &(*at)->next;
    struct reader *r = *at;
    *at = r->next;
    pool_count--;
    return r;
}

static void shared_unref(struct shared *s);

void reader_forget(struct reader *r, size_t keep)
{
    arena_reset_warm(&r->a, keep);
    shared_unref(r->shared);
    r->serial = 0;
    r->shared = NULL;
    memset(r->rows, 0, sizeof r->rows);
}

void reader_relieve(struct reader *r)
{
    if (r->a.used_bytes <= READER_BYTES_KEEP)
        return;
    arena_reset_warm(&r->a, READER_BYTES_KEEP);
    memset(r->rows, 0, sizeof r->rows);
}

struct reader *reader_take(struct block *b, struct err *e)
{
    pthread_mutex_lock(&pool_lock);
    struct reader *r = pool_pick(b);
    pthread_mutex_unlock(&pool_lock);
    if (!r) {
        r = xcalloc(1, sizeof *r);
        r->a = arena_init(READER_BYTES_MAX);
        r->zstd = zstd_ctx_new();
    } else if (r->serial != b->serial) {
        reader_forget(r, READER_BYTES_KEEP);
    }
    r->serial = b->serial;
    r->b = b;
    r->e = e;
    r->code = E_OK;
    r->bytes_read = 0;
    return r;
}

enum errc reader_give(struct reader *r)
{
    enum errc code = r->code;
    /* Half read, or too much to keep. */
    if (code || r->a.used_bytes > READER_BYTES_KEEP ||
        (r->shared && r->shared->arena.used_bytes > SHARED_BYTES_MAX))
        reader_forget(r, READER_BYTES_KEEP);
    arena_leave_budget(&r->a);
    pthread_mutex_lock(&pool_lock);
    bool keep = pool_count < POOL_MAX;
    if (keep) {
        r->next = pool;
        pool = r;
        pool_count++;
    }
    pthread_mutex_unlock(&pool_lock);
    if (!keep) {
        shared_unref(r->shared);
        arena_fini(&r->a);
        zstd_ctx_free(r->zstd);
        free(r);
    }
    return code;
}

bool reader_bad(struct reader *r, const char *what)
{
    if (!r->code)
        r->code = fail(r->e, E_CORRUPT, "%s: %s is damaged", r->b->path, what);
    return false;
}

bool reader_no_memory(struct reader *r)
{
    if (!r->code)
        r->code = fail(r->e, E_NO_MEMORY, "%s: no memory to read it", r->b->path);
    return false;
}

void *reader_alloc(struct reader *r, size_t n, size_t size)
{
    void *p = arena_calloc(&r->a, n ? n : 1, size, 8);
    if (!p)
        reader_no_memory(r);
    return p;
}

const uint8_t *reader_raw(struct reader *r, uint64_t off, uint64_t len)
{
    uint8_t *p = len > r->b->meta.file_bytes ? NULL : arena_alloc(&r->a, len + 1, 8);
    if (!p) {
        reader_no_memory(r);
        return NULL;
    }
    size_t got;
    enum errc code = os_pread(r->b->file, p, len, off, &got, r->e);
    if (code) {
        r->code = r->code ? r->code : code;
        return NULL;
    }
    r->bytes_read += got;
    if (got != len) {
        reader_bad(r, "the end");
        return NULL;
    }
    return p;
}

const uint8_t *reader_bytes(struct reader *r, uint64_t off, uint64_t len, uint32_t crc,
                            const char *what)
{
    const uint8_t *p = reader_raw(r, off, len);
    if (p && !block_crc_ok(p, len, crc)) {
        reader_bad(r, what);
        return NULL;
    }
    return p;
}

struct unpacker reader_unpacker(struct reader *r, const uint8_t *p, size_t n)
{
    return (struct unpacker){.at = p, .end = p ? p + n : NULL, .a = &r->a, .zstd = r->zstd};
}

bool reader_check(struct reader *r, const struct unpacker *u, const char *what)
{
    if (!u->bad)
        return true;
    return r->a.failed ? reader_no_memory(r) : reader_bad(r, what);
}

/* --- opening --- */

static enum errc bad(const struct block *b, const char *what, struct err *e)
{
    return fail(e, E_CORRUPT, "%s: %s is damaged", b->path, what);
}

/* Reads [off, off + n) or fails. */
static enum errc read_exact(struct block *b, void *out, size_t n, uint64_t off, struct err *e)
{
    size_t got;
    enum errc code = os_pread(b->file, out, n, off, &got, e);
    if (!code && got != n)
        code = fail(e, E_CORRUPT, "%s: ends too early", b->path);
    return code;
}

static enum errc check_trailer(struct block *b, const struct block_trailer *t, uint64_t size,
                               struct err *e)
{
    if (t->magic != BLOCK_MAGIC)
        return fail(e, E_CORRUPT, "%s: not a block, or cut short", b->path);
    if (!block_crc_ok(t, offsetof(struct block_trailer, crc), t->crc))
        return bad(b, "the trailer", e);
    if (!t->version || t->version > BLOCK_VERSION)
        return fail(e, E_VERSION, "%s: block version %u, this program reads up to %u", b->path,
                    t->version, BLOCK_VERSION);
    b->version = t->version;
    if (t->file_bytes != size || t->tail_off < BLOCK_HEAD_BYTES ||
        t->tail_off > size - BLOCK_TRAILER_BYTES ||
        t->root_len > size - BLOCK_TRAILER_BYTES - t->tail_off)
        return bad(b, "the trailer", e);
    return E_OK;
}

/* The trailer and the tail before it, in one read when the tail is small. */
static enum errc read_tail(struct block *b, struct block_trailer *t, bool damaged, struct err *e)
{
    uint64_t size;
    enum errc code = os_size(b->file, &size, e);
    if (code)
        return code;
    b->meta.file_bytes = size;
    if (size < BLOCK_HEAD_BYTES + BLOCK_TRAILER_BYTES)
        return fail(e, E_CORRUPT, "%s: too short for a block", b->path);
    size_t first = min_size(size, OPEN_BYTES);
    char *p = xmalloc(OPEN_BYTES);
    if (!(code = read_exact(b, p, first, size - first, e))) {
        memcpy(t, p + first - sizeof *t, sizeof *t);
        code = check_trailer(b, t, size, e);
    }
    if (code) {
        free(p);
        return code;
    }
    b->tail_len = (size_t)(size - BLOCK_TRAILER_BYTES - t->tail_off);
    b->tail = malloc(b->tail_len + 1);
    size_t have = min_size(first - sizeof *t, b->tail_len);
    if (!b->tail)
        code = fail(e, E_NO_MEMORY, "%s: no memory to open it", b->path);
    else if (have < b->tail_len)
        code = read_exact(b, b->tail, b->tail_len - have, t->tail_off, e);
    if (!code)
        memcpy(b->tail + b->tail_len - have, p + first - sizeof *t - have, have);
    free(p);
    if (!code && !damaged && !block_crc_ok(b->tail, b->tail_len, t->tail_crc))
        code = bad(b, "the tail", e);
    return code;
}

static void unpack_group(struct unpacker *u, struct group *g, uint64_t *off, uint64_t *part)
{
    g->data_off = *off;
    g->data_len = unpack_varint(u);
    g->dir_len = unpack_varint(u);
    g->filter_len = unpack_varint(u);
    g->dir_crc = (uint32_t)unpack_count(u, UINT32_MAX);
    g->rows = (uint32_t)unpack_count(u, COLUMN_VALUES_MAX);
    uint64_t parts = unpack_varint(u);
    g->parts = (uint32_t)(parts >> 1);
    g->continues = parts & 1;
    g->first_part = (uint32_t)*part;
    g->min_ns = unpack_varint(u);
    g->max_ns = unpack_varint(u);
    g->max_duration_ns = unpack_varint(u);
    uint64_t most = UINT64_MAX / 8;
    if (g->data_len > most || g->dir_len > most || g->filter_len > most || parts >> 1 > g->rows ||
        !g->rows || !g->parts || g->filter_len % FILTER_PAGE_BYTES)
        u->bad = true;
    *off += g->data_len + g->dir_len + g->filter_len;
    *part += parts >> 1;
    if (*off > most || *part > UINT32_MAX)
        u->bad = true;
}

static bool unpack_root(struct block *b, const struct block_trailer *t, struct unpacker *u)
{
    uint64_t off = BLOCK_HEAD_BYTES, part = 0, rows = 0;
    b->meta.span_count = unpack_count(u, BLOCK_ROWS_MAX);
    b->meta.trace_count = unpack_count(u, b->tail_len / 8);
    b->meta.min_ns = unpack_varint(u);
    b->meta.max_ns = unpack_varint(u);
    b->meta.max_end_ns = unpack_varint(u);
    b->word_count = (uint32_t)unpack_count(u, b->tail_len / 4);
    b->shared_raw = unpack_count(u, BLOCK_META_MAX);
    b->shared_len = unpack_count(u, t->tail_off);
    b->shared_crc = (uint32_t)unpack_count(u, UINT32_MAX);
    b->group_count = (uint32_t)unpack_count(u, (uint64_t)(u->end - u->at));
    if (u->bad || !(b->groups = calloc(b->group_count + (size_t)1, sizeof *b->groups)))
        return false;
    for (uint32_t i = 0; i < b->group_count && !u->bad; i++) {
        unpack_group(u, &b->groups[i], &off, &part);
        rows += b->groups[i].rows;
        b->max_duration_ns = max_u64(b->max_duration_ns, b->groups[i].max_duration_ns);
    }
    b->shared_off = off;
    return !u->bad && u->at == u->end && off + b->shared_len == t->tail_off &&
           rows == b->meta.span_count && part >= b->meta.trace_count;
}

/* Eight to sixteen a trace. */
static uint64_t mark_bits(const struct block *b)
{
    uint64_t bits = 64;
    while (bits < 8 * b->meta.trace_count && bits < UINT64_C(1) << 32)
        bits *= 2;
    return bits;
}

static void mark_traces(struct block *b)
{
    uint64_t bits = mark_bits(b);
    b->marks = xcalloc(bits / 64, sizeof *b->marks);
    b->marks_shift = 32 - (unsigned)__builtin_ctzll(bits);
    for (uint64_t i = 0; i < b->meta.trace_count; i++) {
        uint32_t mark = b->fingerprints[i] >> b->marks_shift;
        b->marks[mark / 64] |= UINT64_C(1) << mark % 64;
    }
}

void block_set_index(struct block *b, uint32_t *index)
{
    b->remade = index;
    b->fingerprints = index;
    b->part = index + b->meta.trace_count;
    b->word_count = 0;
    b->meta.min_ns = 0;
    b->meta.max_ns = b->meta.max_end_ns = b->max_duration_ns = UINT64_MAX;
    for (uint32_t i = 0; i < b->group_count; i++) {
        b->groups[i].min_ns = 0;
        b->groups[i].max_ns = b->groups[i].max_duration_ns = UINT64_MAX;
    }
    free(b->marks);
    mark_traces(b);
}

static enum errc parse_tail(struct block *b, const struct block_trailer *t, struct err *e)
{
    const uint8_t *end = (const uint8_t *)b->tail + b->tail_len;
    struct unpacker u = {.at = end - t->root_len, .end = end};
    if (!unpack_root(b, t, &u))
        return bad(b, "the root", e);
    uint64_t n = b->meta.trace_count;
    if (n * 8 + (uint64_t)b->word_count * 4 + t->root_len != b->tail_len)
        return bad(b, "the root", e);
    b->fingerprints = (const uint32_t *)(const void *)b->tail;
    b->part = b->fingerprints + n;
    b->words = b->part + n;
    mark_traces(b);
    return E_OK;
}

static void shared_drop(struct block *b);

static void block_free(struct block *b)
{
    shared_drop(b);
    for (uint32_t i = 0; i < b->service_count; i++)
        free((void *)(uintptr_t)b->services[i].p);
    free(b->services);
    span_ids_free(b->ids);
    pthread_mutex_destroy(&b->lock);
    os_close(b->file);
    free(b->tail);
    free(b->remade);
    free(b->marks);
    free(b->groups);
    free(b->path);
    free(b);
}

static enum errc open_block(struct os *os, const char *path, bool damaged, struct block **out,
                            struct err *e)
{
    struct block *b = xcalloc(1, sizeof *b);
    struct block_trailer t;
    atomic_init(&b->refs, 1);
    b->serial = 1 + atomic_fetch_add(&blocks_opened, 1);
    pthread_mutex_init(&b->lock, NULL);
    b->path = xstrdup(path);
    enum errc code = os_open(os, path, OS_READ, &b->file, e);
    if (!code)
        code = read_tail(b, &t, damaged, e);
    if (!code)
        code = parse_tail(b, &t, e);
    if (code) {
        block_free(b);
        return code;
    }
    *out = b;
    return E_OK;
}

enum errc block_open(struct os *os, const char *path, struct block **out, struct err *e)
{
    return open_block(os, path, false, out, e);
}

enum errc block_open_damaged(struct os *os, const char *path, struct block **out, struct err *e)
{
    return open_block(os, path, true, out, e);
}

struct block *block_ref(struct block *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void block_unref(struct block *b)
{
    if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
        block_free(b);
}

const struct block_meta *block_meta(const struct block *b)
{
    return &b->meta;
}

size_t block_resident_bytes(const struct block *b)
{
    return sizeof *b + b->tail_len + mark_bits(b) / 8 + b->group_count * sizeof *b->groups +
           strlen(b->path);
}

uint64_t block_shared_bytes(const struct block *b)
{
    return b->shared_raw;
}

/* --- the index --- */

/* The first entry whose fingerprint is not below that of id. Fingerprints are uniform, so a guess
 * by proportion is near; from there the window doubles, then halves. */
uint32_t block_find(const struct block *b, const uint8_t id[16])
{
    uint32_t want = block_fingerprint(id), n = (uint32_t)b->meta.trace_count;
    const uint32_t *v = b->fingerprints;
    if (!n)
        return 0;
    uint32_t at = (uint32_t)((uint64_t)want * n >> 32), step = 8;
    uint32_t low = at, high = at;
    while (low && v[low - 1] >= want) {
        low -= low < step ? low : step;
        step *= 2;
    }
    for (step = 8; high < n && v[high] < want; step *= 2)
        high += n - high < step ? n - high : step;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (v[mid] < want)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

bool block_may_have(const struct block *b, const uint8_t trace_id[16])
{
    uint32_t want = block_fingerprint(trace_id), mark = want >> b->marks_shift;
    if (LIKELY(!(b->marks[mark / 64] >> mark % 64 & 1)))
        return false;
    uint32_t at = block_find(b, trace_id);
    return at < b->meta.trace_count && b->fingerprints[at] == want;
}

uint32_t block_group_of(const struct block *b, uint32_t part)
{
    uint32_t low = 0, high = b->group_count;
    while (high - low > 1) {
        uint32_t mid = low + (high - low) / 2;
        if (b->groups[mid].first_part <= part)
            low = mid;
        else
            high = mid;
    }
    return low;
}

struct newest {
    uint64_t max_ns;
    uint32_t no;
};

static int newest_first(const void *x, const void *y)
{
    const struct newest *a = x, *b = y;
    if (a->max_ns != b->max_ns)
        return a->max_ns > b->max_ns ? -1 : 1;
    return a->no > b->no ? -1 : a->no < b->no;
}

uint32_t *block_newest_groups(const struct block *b)
{
    struct newest *v = xcalloc(b->group_count + (size_t)1, sizeof *v);
    uint32_t *order = xcalloc(b->group_count + (size_t)1, sizeof *order);
    for (uint32_t i = 0; i < b->group_count; i++)
        v[i] = (struct newest){b->groups[i].max_ns, i};
    qsort(v, b->group_count, sizeof *v, newest_first);
    for (uint32_t i = 0; i < b->group_count; i++)
        order[i] = v[i].no;
    free(v);
    return order;
}

/* --- what row groups share --- */

static unsigned unpack_u8(struct unpacker *u)
{
    struct str s = unpack_raw(u, 1);
    return s.n ? (unsigned char)s.p[0] : 0;
}

/* A count of things of at least one byte each, and room for them. */
static uint32_t unpack_array(struct reader *r, struct unpacker *u, size_t size, void **out)
{
    uint32_t n = (uint32_t)unpack_count(u, min_u64((uint64_t)(u->end - u->at), UINT32_MAX));
    *out = u->bad ? NULL : reader_alloc(r, n, size);
    if (!*out)
        u->bad = true;
    return u->bad ? 0 : n;
}

static void unpack_lists(struct reader *r, struct unpacker *u, struct shared *s)
{
    void *v;
    s->list_count = unpack_array(r, u, sizeof *s->lists, &v);
    s->lists = v;
    for (uint32_t i = 0; i < s->list_count && !u->bad; i++) {
        s->lists[i].n = unpack_array(r, u, 4, &v);
        s->lists[i].col = v;
        for (uint32_t j = 0; j < s->lists[i].n; j++)
            s->lists[i].col[j] = (uint32_t)unpack_index(u, s->col_count);
    }
}

static void unpack_cols(struct reader *r, struct unpacker *u, struct shared *s)
{
    void *v;
    s->string_count = unpack_array(r, u, sizeof *s->strings, &v);
    s->strings = v;
    for (uint32_t i = 0; i < s->string_count; i++)
        s->strings[i] = unpack_str(u);
    s->col_count = unpack_array(r, u, sizeof *s->cols, &v);
    s->cols = v;
    for (uint32_t i = 0; i < s->col_count; i++) {
        unsigned c = unpack_u8(u);
        s->cols[i].scope = c & 15;
        s->cols[i].type = (uint8_t)(c >> 4);
        s->cols[i].key = (uint32_t)unpack_index(u, s->string_count);
        if (s->cols[i].scope >= TABLE_COUNT || s->cols[i].type >= ATTR_TYPE_COUNT)
            u->bad = true;
    }
}

static void unpack_shapes(struct reader *r, struct unpacker *u, struct shared *s,
                          enum block_table table)
{
    void *v;
    uint32_t n = s->shape_count[table] = unpack_array(r, u, sizeof **s->shapes, &v);
    struct shared_shape *shape = s->shapes[table] = v;
    for (uint32_t i = 0; i < n && !u->bad; i++, shape++) {
        if (table == TABLE_SPAN) {
            shape->origin = (uint32_t)unpack_index(u, s->origin_count);
            unsigned c = unpack_u8(u);
            shape->kind = c & 15;
            shape->status = (uint8_t)(c >> 4);
        }
        if (table != TABLE_LINK)
            shape->name = (uint32_t)unpack_index(u, s->string_count);
        shape->list = (uint32_t)unpack_index(u, s->list_count);
        if (shape->kind >= KIND_COUNT || shape->status >= STATUS_COUNT)
            u->bad = true;
    }
}

static void unpack_origins(struct reader *r, struct unpacker *u, struct shared *s)
{
    void *v;
    s->origin_count = unpack_array(r, u, sizeof *s->origins, &v);
    s->origins = v;
    s->services = reader_alloc(r, s->origin_count, sizeof *s->services);
    for (uint32_t i = 0; i < s->origin_count && s->services; i++) {
        s->origins[i] = unpack_str(u);
        struct unpacker o = reader_unpacker(r, (const uint8_t *)s->origins[i].p, s->origins[i].n);
        s->services[i] = unpack_str(&o);
        u->bad |= o.bad;
    }
}

/* Decodes into the reader's arena. */
static struct shared *shared_decode(struct reader *r)
{
    struct block *b = r->b;
    struct shared *s = reader_alloc(r, 1, sizeof *s);
    const uint8_t *in = s ? reader_bytes(r, b->shared_off, b->shared_len, b->shared_crc,
                                         "the meta section")
                          : NULL;
    if (!in)
        return NULL;
    struct unpacker u = reader_unpacker(r, in, b->shared_len);
    const uint8_t *raw = unpack_bytes(&u, b->shared_raw);
    if (!u.bad)
        u = reader_unpacker(r, raw, b->shared_raw);
    unpack_cols(r, &u, s);
    unpack_lists(r, &u, s);
    unpack_origins(r, &u, s);
    for (int t = 0; t < TABLE_COUNT; t++)
        unpack_shapes(r, &u, s, t);
    return reader_check(r, &u, "the meta section") ? s : NULL;
}

/* --- decoded meta sections that are kept; the lock is held --- */

static void shared_unlink(struct shared *s)
{
    *(s->newer ? &s->newer->older : &shared_newest) = s->older;
    *(s->older ? &s->older->newer : &shared_oldest) = s->newer;
}

static void shared_link(struct shared *s)
{
    s->newer = NULL;
    s->older = shared_newest;
    *(s->older ? &s->older->newer : &shared_oldest) = s;
    shared_newest = s;
}

static void shared_put(struct shared *s)
{
    if (--s->refs)
        return;
    struct arena a = s->arena; /* s lies in it */
    arena_fini(&a);
}

static void shared_evict(struct shared *s)
{
    shared_unlink(s);
    shared_bytes -= s->arena.used_bytes;
    s->b->shared = NULL;
    s->b = NULL;
    shared_put(s);
}

static void shared_keep(struct block *b, struct shared *s)
{
    if (b->shared || s->arena.used_bytes > SHARED_BYTES_MAX)
        return; /* another reader was faster; or it would push all others out */
    s->refs++;
    s->b = b;
    b->shared = s;
    shared_bytes += s->arena.used_bytes;
    shared_link(s);
    while (shared_bytes > SHARED_BYTES_MAX)
        shared_evict(shared_oldest);
}

/* --- the same for everyone --- */

static void shared_unref(struct shared *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&shared_lock);
    shared_put(s);
    pthread_mutex_unlock(&shared_lock);
}

static void shared_drop(struct block *b)
{
    pthread_mutex_lock(&shared_lock);
    if (b->shared)
        shared_evict(b->shared);
    pthread_mutex_unlock(&shared_lock);
}

static struct shared *shared_find(struct block *b)
{
    pthread_mutex_lock(&shared_lock);
    struct shared *s = b->shared;
    if (s) {
        s->refs++;
        shared_unlink(s);
        shared_link(s);
    }
    pthread_mutex_unlock(&shared_lock);
    return s;
}

const struct shared *shared_read(struct reader *r)
{
    if (r->shared || (r->shared = shared_find(r->b)))
        return r->shared;
    struct arena own = r->a; /* it is decoded into an arena that goes with it */
    r->a = arena_init(READER_BYTES_MAX);
    struct shared *s = shared_decode(r);
    struct arena decoded = r->a;
    r->a = own;
    if (!s) {
        arena_fini(&decoded);
        return NULL;
    }
    s->arena = decoded;
    s->refs = 1;
    pthread_mutex_lock(&shared_lock);
    shared_keep(r->b, s);
    pthread_mutex_unlock(&shared_lock);
    return r->shared = s;
}

static bool unpack_kvs(struct unpacker *u, struct kvs *out, struct arena *a)
{
    uint32_t n = (uint32_t)unpack_count(u, (uint64_t)(u->end - u->at));
    struct kv *kv = u->bad || !n ? NULL : ARENA_ARRAY(a, struct kv, n);
    if (u->bad || (n && !kv))
        return false;
    *out = (struct kvs){kv, n};
    for (; n; n--, kv++) {
        kv->key = unpack_str(u);
        unsigned type = unpack_u8(u);
        if (type >= ATTR_TYPE_COUNT)
            u->bad = true;
        kv->val.type = u->bad ? ATTR_EMPTY : type;
        if (attr_is_str(type)) {
            kv->val.s = unpack_str(u);
            continue;
        }
        struct str bits = type == ATTR_EMPTY ? STR_NONE : unpack_raw(u, 8);
        if (u->bad)
            return false;
        if (type == ATTR_BOOL)
            kv->val.b = load_u64le(bits.p) != 0;
        else if (type == ATTR_INT)
            kv->val.i = (int64_t)load_u64le(bits.p);
        else if (type == ATTR_DOUBLE)
            memcpy(&kv->val.d, bits.p, 8);
    }
    return !u->bad;
}

bool shared_origin(struct reader *r, const struct shared *s, uint32_t origin, struct arena *a,
                   struct span_origin *out)
{
    struct str blob = arena_str(a, s->origins[origin]);
    struct resource *res = ARENA_NEW(a, struct resource);
    struct scope *scope = ARENA_NEW(a, struct scope);
    if (!blob.p || !res || !scope)
        return reader_no_memory(r);
    struct unpacker u = reader_unpacker(r, (const uint8_t *)blob.p, blob.n);
    res->service = unpack_str(&u);
    res->schema_url = unpack_str(&u);
    scope->schema_url = unpack_str(&u);
    scope->name = unpack_str(&u);
    scope->version = unpack_str(&u);
    res->dropped = (uint32_t)unpack_count(&u, UINT32_MAX);
    scope->dropped = (uint32_t)unpack_count(&u, UINT32_MAX);
    if (!unpack_kvs(&u, &res->attrs, a) || !unpack_kvs(&u, &scope->attrs, a))
        return a->failed ? reader_no_memory(r) : reader_bad(r, "a resource");
    *out = (struct span_origin){res, scope};
    return true;
}
