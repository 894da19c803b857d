/* SPDX-License-Identifier: Apache-2.0 */
/* Every version of the files on disk that ever landed stays readable (docs/format/versions.md).
 *
 * tests/data/stores/NAME/ holds a store as the release of that time wrote it, and spans.txt, what
 * is in it: a line for every span, service, operation and dependency. The test opens a copy of each
 * and writes the same lines. A folder more is a version more; nothing here names them.
 *
 * LYMER_WRITE_STORE=DIR writes such a folder with the code of today. */
#include "base/hash.h"
#include "base/log.h"
#include "base/num.h"
#include "store/trace/care.h"
#include "store/trace/trace_store.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>

#define STORES   "tests/data/stores"
#define LISTING  (16 * MIB)
#define BASE_NS  (UINT64_C(1750000000) * NS_PER_S)
#define PATH_LEN 512

static const char *const tenants[] = {"default", "second"};

/* --- what is in a store, as text --- */

static void put_hex(struct buf *out, const char *before, const void *p, size_t n)
{
    char hex[64];
    buf_add_c(out, before);
    buf_add(out, hex, num_put_hex(hex, p, n));
}

static void put_quoted(struct buf *out, const char *before, struct str s)
{
    buf_addf(out, "%s\"", before);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char ch = (unsigned char)s.p[i];
        buf_addf(out, ch >= ' ' && ch < 127 && ch != '"' && ch != '\\' ? "%c" : "\\x%02x", ch);
    }
    buf_add_char(out, '"');
}

static void put_kvs(struct buf *out, const char *before, const struct kvs *kvs, struct arena *a)
{
    buf_addf(out, "%s{", before);
    for (uint32_t i = 0; i < kvs->n; i++) {
        put_quoted(out, i ? " " : "", kvs->v[i].key);
        buf_addf(out, ":%u", kvs->v[i].val.type);
        put_quoted(out, ":", value_text(&kvs->v[i].val, a));
    }
    buf_add_char(out, '}');
}

static void put_children(struct buf *out, const struct span *s, struct arena *a)
{
    for (uint32_t i = 0; i < s->event_count; i++) {
        const struct event *e = &s->events[i];
        buf_addf(out, " event %llu dropped %u", (unsigned long long)e->time_ns, e->dropped);
        put_quoted(out, " ", e->name);
        put_kvs(out, " ", &e->attrs, a);
    }
    for (uint32_t i = 0; i < s->link_count; i++) {
        const struct link *l = &s->links[i];
        put_hex(out, " link ", l->trace_id, 16);
        put_hex(out, " ", l->span_id, 8);
        buf_addf(out, " flags %u dropped %u", l->flags, l->dropped);
        put_quoted(out, " ", l->trace_state);
        put_kvs(out, " ", &l->attrs, a);
    }
}

static void put_span(struct buf *out, const struct span *s, struct arena *a)
{
    put_hex(out, "span ", s->trace_id, 16);
    put_hex(out, " ", s->span_id, 8);
    put_hex(out, " ", s->parent_id, 8);
    buf_addf(out, " %llu %llu kind %d status %d flags %u dropped %u %u %u",
             (unsigned long long)s->start_ns, (unsigned long long)s->end_ns, (int)s->kind,
             (int)s->status, s->flags, s->dropped_attrs, s->dropped_events, s->dropped_links);
    put_quoted(out, " ", s->name);
    put_quoted(out, " ", s->trace_state);
    put_quoted(out, " ", s->status_message);
    put_kvs(out, " ", &s->attrs, a);
    put_children(out, s, a);
    put_quoted(out, " of ", s->resource->service);
    put_quoted(out, " ", s->resource->schema_url);
    buf_addf(out, " dropped %u", s->resource->dropped);
    put_kvs(out, " ", &s->resource->attrs, a);
    put_quoted(out, " by ", s->scope->name);
    put_quoted(out, " ", s->scope->version);
    put_quoted(out, " ", s->scope->schema_url);
    buf_addf(out, " dropped %u", s->scope->dropped);
    put_kvs(out, " ", &s->scope->attrs, a);
    buf_add_char(out, '\n');
}

struct listing {
    struct buf *out;
    struct snap *snap;
    struct str tenant;
};

static bool list_trace(void *arg, const uint8_t id[16])
{
    struct listing *l = arg;
    struct arena a = arena_init(64 * MIB);
    struct trace *t;
    CHECK_OK(snap_trace(l->snap, l->tenant, id, &a, &t, NULL));
    for (uint32_t i = 0; i < t->span_count; i++)
        put_span(l->out, t->spans[i], &a);
    arena_fini(&a);
    return true;
}

static void list_names(const struct listing *l, struct arena *a)
{
    struct str *services;
    struct operation *ops;
    struct dependency *deps;
    size_t n;
    CHECK_OK(snap_services(l->snap, l->tenant, a, &services, &n));
    for (size_t i = 0; i < n; i++) {
        put_quoted(l->out, "service ", services[i]);
        buf_add_char(l->out, '\n');
    }
    CHECK_OK(snap_operations(l->snap, l->tenant, STR_NONE, -1, a, &ops, &n));
    for (size_t i = 0; i < n; i++) {
        put_quoted(l->out, "operation ", ops[i].name);
        buf_addf(l->out, " %d\n", (int)ops[i].kind);
    }
    CHECK_OK(snap_dependencies(l->snap, l->tenant, 0, UINT64_MAX, a, &deps, &n));
    for (size_t i = 0; i < n; i++) {
        put_quoted(l->out, "calls ", deps[i].parent);
        put_quoted(l->out, " ", deps[i].child);
        buf_addf(l->out, " %llu\n", (unsigned long long)deps[i].calls);
    }
}

static void list_store(struct store *s, struct buf *out)
{
    struct arena a = arena_init(64 * MIB);
    struct listing l = {.out = out, .snap = store_snap(s)};
    for (size_t i = 0; i < ARRAY_LEN(tenants); i++) {
        l.tenant = str_from_c(tenants[i]);
        buf_addf(out, "tenant %s\n", tenants[i]);
        list_names(&l, &a);
        CHECK_OK(snap_each_trace(l.snap, l.tenant, 0, UINT64_MAX, list_trace, &l, NULL));
    }
    snap_unref(l.snap);
    arena_fini(&a);
}

/* --- reading the stores of all versions --- */

static struct store *open_store(const char *dir)
{
    struct store_config c;
    struct store *s;
    struct err e;
    store_config_defaults(&c, os_posix(), dir);
    c.threads = false;
    c.retention_ns = 0;
    c.memtable_bytes = 64 * KIB;
    if (store_open(&s, &c, &e) != E_OK)
        test_fail(__FILE__, __LINE__, "%s: %s", dir, err_msg(&e));
    return s;
}

struct copying {
    const char *from, *to;
};

static void copy_file(void *arg, const char *name)
{
    const struct copying *c = arg;
    char from[PATH_LEN], to[PATH_LEN];
    snprintf(from, sizeof from, "%s/%s", c->from, name);
    snprintf(to, sizeof to, "%s/%s", c->to, name);
    struct copying inner = {from, to};
    if (os_list(os_posix(), from, copy_file, &inner, NULL) == E_OK)
        return; /* a folder: its files are copied by now */
    CHECK_OK(os_copy_file(os_posix(), from, to, NULL));
}

static void copy_folder(const char *from, const char *to, const char *folder)
{
    char a[PATH_LEN], b[PATH_LEN];
    snprintf(a, sizeof a, "%s%s", from, folder);
    snprintf(b, sizeof b, "%s%s", to, folder);
    struct copying c = {a, b};
    CHECK_OK(os_mkdir(os_posix(), b, NULL));
    CHECK_OK(os_list(os_posix(), a, copy_file, &c, NULL));
}

static void say(void *arg, const char *line)
{
    (void)arg;
    (void)line;
}

/* The first line that differs is told. */
static void check_listing(const char *name, struct str want, struct str got)
{
    struct str a, b;
    for (unsigned line = 1; str_split(&want, '\n', &a); line++)
        if (!str_split(&got, '\n', &b) || !str_eq(a, b))
            test_fail(__FILE__, __LINE__, "%s, line %u: got \"%.*s\", want \"%.*s\"", name, line,
                      STR_ARG(b), STR_ARG(a));
    CHECK(got.n == 0);
}

static void read_version(void *arg, const char *name)
{
    char from[PATH_LEN], to[PATH_LEN], text[PATH_LEN];
    struct buf want = buf_init(LISTING), got = buf_init(LISTING), built = buf_init(LISTING);
    struct err e;
    snprintf(from, sizeof from, STORES "/%s/store", name);
    snprintf(text, sizeof text, STORES "/%s/spans.txt", name);
    snprintf(to, sizeof to, "%s/%s", test_dir(), name);
    ++*(unsigned *)arg;
    copy_folder(from, to, "/blocks");
    copy_folder(from, to, "/wal");
    copy_folder(from, to, "");
    if (store_verify(os_posix(), to, say, NULL, &e) != E_OK)
        test_fail(__FILE__, __LINE__, "%s: %s", name, err_msg(&e));
    CHECK_OK(os_read_file(os_posix(), text, &want, NULL));
    struct store *s = open_store(to);
    list_store(s, &got);
    check_listing(name, buf_str(&want), buf_str(&got));
    CHECK_OK(store_flush(s, NULL)); /* and after it was written on with the code of today */
    store_close(s);
    s = open_store(to);
    list_store(s, &built);
    check_listing(name, buf_str(&want), buf_str(&built));
    store_close(s);
    buf_fini(&want);
    buf_fini(&got);
    buf_fini(&built);
}

TEST(store_reads_every_version_that_ever_landed)
{
    unsigned n = 0;
    log_setup((enum log_level)(LOG_ERROR + 1), LOG_TEXT);
    CHECK_OK(os_list(os_posix(), STORES, read_version, &n, NULL));
    CHECK(n > 0);
}

/* --- newer versions --- */

/* A file, where its versions are, and what their checksums cover and where they are. */
static const struct newer {
    const char *file;
    int64_t version, from, crc; /* offsets; negative ones from the end */
    int64_t twice;              /* how far behind is a second one; 0: none */
} newer[] = {
    {"MANIFEST", 8, 0, 28, 0},
    {"wal/0000000000000000.log", 8, 0, 44, 2048},
    {"blocks/0000000000000001.default.blk", -32, -40, -4, 0},
};

static void make_newer(char *p, size_t n, const struct newer *k, int64_t more)
{
    size_t version = (size_t)((k->version < 0 ? (int64_t)n : 0) + k->version + more);
    size_t from = (size_t)((k->from < 0 ? (int64_t)n : 0) + k->from + more);
    size_t crc = (size_t)((k->crc < 0 ? (int64_t)n : 0) + k->crc + more);
    store_u32le(p + version, 99);
    store_u32le(p + crc, crc32c(0, p + from, crc - from));
}

/* A batch of a newer version, in a record whose checksums are right. */
static void make_newer_batch(char *p)
{
    struct {
        uint64_t salt;
        uint32_t index, len, head_crc, payload_crc;
    } h;
    memcpy(&h, p + 4096, sizeof h);
    p[4096 + sizeof h + 4] = 99;
    h.payload_crc = crc32c(h.head_crc, p + 4096 + sizeof h, h.len);
    memcpy(p + 4096, &h, sizeof h);
}

/* What a newer version wrote is neither damaged nor empty: nothing is touched. */
TEST(store_leaves_what_a_newer_version_wrote_alone)
{
    log_setup((enum log_level)(LOG_ERROR + 1), LOG_TEXT);
    for (size_t i = 0; i <= ARRAY_LEN(newer); i++) {
        const struct newer *k = &newer[i < ARRAY_LEN(newer) ? i : 1];
        char dir[PATH_LEN / 2], path[PATH_LEN];
        struct buf file = buf_init(LISTING), after = buf_init(LISTING);
        struct store_config c;
        struct store *s;
        unsigned found;
        snprintf(dir, sizeof dir, "%s/%zu", test_dir(), i);
        copy_folder(STORES "/v1/store", dir, "/blocks");
        copy_folder(STORES "/v1/store", dir, "/wal");
        copy_folder(STORES "/v1/store", dir, "");
        snprintf(path, sizeof path, "%s/%s", dir, k->file);
        CHECK_OK(os_read_file(os_posix(), path, &file, NULL));
        if (i == ARRAY_LEN(newer))
            make_newer_batch(file.p);
        else
            make_newer(file.p, file.n, k, 0);
        if (i < ARRAY_LEN(newer) && k->twice)
            make_newer(file.p, file.n, k, k->twice);
        struct os_file *f;
        CHECK_OK(os_open(os_posix(), path, OS_WRITE | OS_FRESH, &f, NULL));
        CHECK_OK(os_pwrite(f, buf_str(&file), 0, NULL));
        os_close(f);
        store_config_defaults(&c, os_posix(), dir);
        c.threads = false;
        CHECK_INT(store_open(&s, &c, NULL), E_VERSION);
        CHECK_INT(store_repair(os_posix(), dir, false, say, NULL, &found, NULL), E_VERSION);
        CHECK(store_verify(os_posix(), dir, say, NULL, NULL) != E_OK);
        CHECK_OK(os_read_file(os_posix(), path, &after, NULL));
        CHECK_STR(buf_str(&after), buf_str(&file));
        buf_fini(&file);
        buf_fini(&after);
    }
}

/* --- writing one --- */

static void put_value(struct batch_builder *b, unsigned type, struct str key, uint64_t n)
{
    char text[32];
    static const char array[] = "\x0a\x02\x18\x05\x0a\x03\x0a\x01x"; /* ArrayValue [5, "x"] */
    static const char map[] = "\x0a\x07\x0a\x01k\x12\x02\x10\x01";   /* KeyValueList {k: true} */
    uint64_t half = UINT64_C(0x3fe0000000000000);                    /* 0.5 */
    struct str s = str_of(text,
                          (size_t)snprintf(text, sizeof text, "value-%llu", (unsigned long long)n));
    switch ((enum attr_type)type) {
    case ATTR_STR:
        bb_attr_str(b, key, ATTR_STR, s);
        break;
    case ATTR_BYTES:
        bb_attr_str(b, key, ATTR_BYTES, str_of("\0\xff\1", 3));
        break;
    case ATTR_ARRAY:
        bb_attr_str(b, key, ATTR_ARRAY, str_of(array, sizeof array - 1));
        break;
    case ATTR_KVLIST:
        bb_attr_str(b, key, ATTR_KVLIST, str_of(map, sizeof map - 1));
        break;
    case ATTR_BOOL:
        bb_attr_bits(b, key, ATTR_BOOL, n % 2);
        break;
    case ATTR_INT:
        bb_attr_bits(b, key, ATTR_INT, 0 - n);
        break;
    case ATTR_DOUBLE:
        bb_attr_bits(b, key, ATTR_DOUBLE, half + n);
        break;
    case ATTR_EMPTY:
    case ATTR_TYPE_COUNT:
        bb_attr_bits(b, key, ATTR_EMPTY, 0);
    }
}

static void write_children(struct batch_builder *b, uint64_t n, uint64_t start_ns)
{
    if (n % 3 == 0) {
        struct event_rec *e = bb_event(b);
        e->time_ns = start_ns + n;
        e->dropped = (uint32_t)n % 5;
        e->name = bb_string(b, STR("exception"));
        put_value(b, (unsigned)n % ATTR_TYPE_COUNT, STR("event.key"), n);
    }
    if (n % 4 == 0) {
        struct link_rec *l = bb_link(b);
        memset(l->trace_id, 0x77, 16);
        store_u64le(l->span_id, n + 1);
        l->trace_state = bb_string(b, STR("link=state"));
        l->flags = 1;
        l->dropped = (uint32_t)n % 2;
        put_value(b, (unsigned)(n + 3) % ATTR_TYPE_COUNT, STR("link.key"), n);
    }
}

/* Span number n, of trace n / 7; its parent is the one before. */
static void write_span(struct batch_builder *b, uint64_t n)
{
    static const char *const keys[] = {"http.route", "user.id", "net.peer", "retry"};
    struct span_rec *s = bb_span(b);
    uint64_t start_ns = BASE_NS + n * NS_PER_MS;
    store_u64le(s->trace_id, hash_u64(n / 7, 1) | 1);
    store_u64le(s->trace_id + 8, hash_u64(n / 7, 2));
    store_u64le(s->span_id, n + 1);
    store_u64le(s->parent_id, n % 7 ? n : 0);
    s->start_ns = start_ns;
    s->end_ns = start_ns + n * 1000 + (n % 11 == 0 ? 0 : 1);
    s->kind = (uint8_t)(n % KIND_COUNT);
    s->status = (uint8_t)(n % STATUS_COUNT);
    s->flags = 0x100 + (uint32_t)n % 2;
    s->dropped_attrs = n % 9 == 0;
    s->dropped_events = n % 10 == 0;
    s->dropped_links = n % 12 == 0;
    s->trace_state = bb_string(b, n % 5 ? STR("") : STR("a=b"));
    s->status_message = bb_string(b, n % 6 ? STR("") : STR("it did not work"));
    bb_name(b, s, n % 2 ? STR("GET /") : STR("query"));
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        put_value(b, (unsigned)(n / 8 + i) % ATTR_TYPE_COUNT, str_from_c(keys[i]), n);
    write_children(b, n, start_ns);
    CHECK(bb_span_end(b));
}

static void write_group(struct batch_builder *b, uint64_t first, uint64_t count, unsigned service)
{
    static const char *const names[] = {"front", "cart", "db"};
    struct group_rec *g = bb_group_begin(b);
    g->res_schema = bb_string(b, STR("https://opentelemetry.io/schemas/1.26.0"));
    g->res_dropped = service;
    bb_attr_str(b, STR("service.name"), ATTR_STR, str_from_c(names[service]));
    put_value(b, service + 3, STR("host.id"), service);
    g = bb_group_scope(b);
    g->scope_name = bb_string(b, STR("writer"));
    g->scope_version = bb_string(b, STR("1.2"));
    g->scope_dropped = 1;
    put_value(b, ATTR_INT, STR("scope.key"), 5);
    bb_group_end(b);
    for (uint64_t n = first; n < first + count; n++)
        if (n % 3 == service)
            write_span(b, n);
}

static void on_done(struct store_ticket *t, enum errc result, const char *why)
{
    (void)t;
    (void)why;
    CHECK_OK(result);
}

static void write_batch(struct store *s, unsigned tenant, uint64_t first, uint64_t count)
{
    struct batch_builder b;
    struct store_ticket t = {.done = on_done};
    batch_builder_init(&b);
    for (unsigned service = 0; service < 3; service++)
        write_group(&b, first, count, service);
    CHECK_OK(batch_seal(&b, str_from_c(tenants[tenant]), BASE_NS + 60 * NS_PER_S, &t.batch, NULL));
    CHECK_OK(store_append(s, &t));
    while (store_step(s))
        ;
    batch_unref(t.batch);
    batch_builder_fini(&b);
}

/* Three blocks of two tenants and a log. */
TEST(store_of_today_can_be_kept_for_the_test_above)
{
    const char *wanted = getenv("LYMER_WRITE_STORE");
    char dir[PATH_LEN / 2], to[PATH_LEN];
    struct backup_report report;
    struct buf text = buf_init(LISTING);
    struct err e;
    log_setup((enum log_level)(LOG_ERROR + 1), LOG_TEXT);
    snprintf(dir, sizeof dir, "%s%s", wanted ? wanted : test_dir(), wanted ? "" : "/kept");
    struct store *s = open_store(test_dir());
    write_batch(s, 0, 0, 70);
    write_batch(s, 1, 70, 21);
    CHECK_OK(store_flush(s, &e));
    write_batch(s, 0, 91, 35);
    CHECK_OK(store_flush(s, &e));
    write_batch(s, 0, 126, 14);
    write_batch(s, 1, 140, 7);
    list_store(s, &text);
    CHECK_OK(os_mkdir(os_posix(), dir, NULL));
    CHECK_OK(os_replace_file(os_posix(), dir, "spans.txt", buf_str(&text), NULL));
    snprintf(to, sizeof to, "%s/store", dir);
    CHECK_OK(store_backup(os_posix(), test_dir(), to, true, &report, &e));
    CHECK_INT(report.blocks, 3);
    CHECK_INT(report.records, 2);
    store_close(s);
    buf_fini(&text);
}
