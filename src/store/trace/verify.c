/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a whole directory without changing it. On a live one a block may expire, a segment be
 * recycled and the last record be half written while we look: what is missing is looked up in the
 * manifest again, and an unfinished end of the log is no damage. */
#include "base/num.h"
#include "store/trace/store_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* --- what is said of spans --- */

void care_range_text(const struct care_range *r, struct str tenant, char out[CARE_RANGE_TEXT])
{
    char first[NUM_TEXT_MAX], last[NUM_TEXT_MAX];
    int a = (int)num_put_rfc3339(first, r->min_ns), b = (int)num_put_rfc3339(last, r->max_ns);
    snprintf(out, CARE_RANGE_TEXT, "%llu spans of tenant %.*s that began between %.*s and %.*s",
             (unsigned long long)r->spans, STR_ARG(tenant), a, first, b, last);
}

/* --- the walk --- */

struct verify {
    struct os *os;
    const char *dir;
    void (*say)(void *arg, const char *line);
    void *arg;
    struct damages *damages;
    uint64_t log_spans;
};

PRINTF_LIKE(2, 3)
static void say(struct verify *v, const char *fmt, ...)
{
    char line[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    v->say(v->arg, line);
}

static struct damage *note(struct verify *v, enum damage_kind kind, enum errc code,
                           const char *file)
{
    struct damages *d = v->damages;
    if (d->n == d->cap)
        d->v = xrealloc(d->v, (d->cap = d->cap ? 2 * d->cap : 8) * sizeof *d->v);
    d->v[d->n] = (struct damage){.kind = kind, .code = code, .file = xstrdup(file)};
    return &d->v[d->n++];
}

void damages_fini(struct damages *d)
{
    for (size_t i = 0; i < d->n; i++) {
        free(d->v[i].file);
        free(d->v[i].tenant);
    }
    free(d->v);
}

void store_state_init(struct manifest_state_in *in)
{
    *in = (struct manifest_state_in){.catalog = catalog_new(UINT32_MAX, UINT32_MAX)};
}

void store_state_free(struct manifest_state_in *in)
{
    catalog_free(in->catalog);
    manifest_state_fini(in);
}

static enum errc read_state(struct verify *v, struct manifest_state_in *in,
                            struct manifest_report *report, struct err *e)
{
    store_state_init(in);
    return manifest_scan(v->os, v->dir, manifest_state_apply, in, report, e);
}

static bool still_named(struct verify *v, uint64_t id)
{
    struct manifest_state_in in;
    struct manifest_report report;
    bool named = false;
    if (read_state(v, &in, &report, NULL) == E_OK)
        for (size_t i = 0; i < in.block_n; i++)
            named |= in.blocks[i].id == id;
    store_state_free(&in);
    return named;
}

static void verify_block(struct verify *v, const struct manifest_block *mb, struct str tenant)
{
    struct err e;
    struct block *b = NULL;
    char name[STORE_BLOCK_FILE];
    store_block_file(mb->id, tenant, name);
    char *dir = store_path(v->dir, "blocks"), *path = store_path(dir, name);
    enum errc rc = block_open(v->os, path, &b, &e);
    if (rc == E_OK)
        rc = block_verify(b, &e);
    if (rc == E_OK && block_meta(b)->span_count != mb->spans)
        rc = fail(&e, E_CORRUPT, "the manifest says %llu spans", (unsigned long long)mb->spans);
    if (rc == E_OK) {
        say(v, "blocks/%s: %llu spans, ok", name, (unsigned long long)mb->spans);
    } else if (rc != E_NOT_FOUND || still_named(v, mb->id)) {
        struct damage *d = note(v, DAMAGE_BLOCK, rc, name);
        d->block = *mb;
        d->tenant = xcalloc(tenant.n + 1, 1);
        memcpy(d->tenant, tenant.p, tenant.n);
        say(v, "blocks/%s: %s", name, err_msg(&e));
    }
    if (b)
        block_unref(b);
    free(path);
    free(dir);
}

/* What can be said of a record that is lost: its batch may be whole but for a byte of some text. */
static void say_lost_record(struct verify *v, const struct wal_place *p)
{
    struct batch *b = NULL;
    if (p->state == WAL_BAD_HEAD || batch_open(p->payload, &b, NULL) != E_OK) {
        say(v, "  at %llu: %llu bytes are damaged", (unsigned long long)p->at,
            (unsigned long long)p->bytes);
        return;
    }
    struct care_range range = {b->head->span_count, b->head->min_ns, b->head->max_ns};
    char text[CARE_RANGE_TEXT];
    care_range_text(&range, b->tenant, text);
    say(v, "  at %llu: a record is damaged: %s", (unsigned long long)p->at, text);
    batch_unref(b);
}

static enum errc count_spans(void *arg, const struct wal_place *p)
{
    struct verify *v = arg;
    struct batch *b;
    enum errc rc = p->state == WAL_RECORD ? batch_open(p->payload, &b, NULL) : E_CORRUPT;
    if (rc == E_OK) {
        v->log_spans += b->head->span_count;
        batch_unref(b);
        return E_OK;
    }
    say_lost_record(v, p);
    return p->state == WAL_RECORD ? rc : E_OK;
}

struct verify_log {
    struct verify *v;
    uint64_t released;
};

static void verify_segment(void *arg, const char *name)
{
    struct verify_log *l = arg;
    struct verify *v = l->v;
    struct wal_report report = {0};
    struct err e;
    struct str s = str_from_c(name);
    if (s.n != 20 || !str_eq(str_skip(s, 16), STR(".log")))
        return;
    char inner[64];
    snprintf(inner, sizeof inner, "wal/%s", name);
    char *path = store_path(v->dir, inner);
    v->log_spans = 0;
    enum errc rc = wal_scan_file(v->os, path, l->released, count_spans, v, &report, &e);
    if (rc == E_NOT_FOUND) {
        say(v, "%s: spare", inner);
    } else if (rc != E_OK) {
        note(v, DAMAGE_LOG, rc, name);
        say(v, "%s: %s", inner, err_msg(&e));
    } else if (report.damaged_records) {
        note(v, DAMAGE_LOG, E_CORRUPT, name);
        say(v, "%s: %llu spans, %llu damaged records", inner, (unsigned long long)v->log_spans,
            (unsigned long long)report.damaged_records);
    } else {
        say(v, "%s: %llu spans, ok%s", inner, (unsigned long long)v->log_spans,
            report.torn_bytes ? " (the last write was not finished)" : "");
    }
    free(path);
}

static void verify_strays(void *arg, const char *name)
{
    struct verify *v = arg;
    say(v, "damaged/%s: set aside earlier", name);
}

/* An end that was being written when we looked is whole by now. */
static enum errc end_is_lost(struct verify *v, struct manifest_state_in *in,
                             struct manifest_report *report, bool *lost, struct err *e)
{
    enum lost_end end = END_UNFINISHED;
    *lost = false;
    if (!report->torn_bytes)
        return E_OK;
    store_state_free(in);
    enum errc rc = read_state(v, in, report, e);
    if (rc == E_OK)
        rc = store_end_is_lost(v->os, v->dir, in, report, &end, e);
    *lost = end != END_UNFINISHED;
    return rc;
}

static enum errc verify_manifest(struct verify *v, struct manifest_state_in *in, struct err *e)
{
    struct manifest_report report;
    bool lost = false;
    enum errc rc = read_state(v, in, &report, e);
    if (rc == E_OK)
        rc = end_is_lost(v, in, &report, &lost, e);
    if (rc == E_OK && (report.damaged_edits || lost))
        say(v, MANIFEST_NAME ": %llu edits, %llu places are damaged",
            (unsigned long long)report.edits, (unsigned long long)report.damaged_edits + lost);
    else if (rc == E_OK)
        say(v, MANIFEST_NAME ": %llu edits, %zu blocks, ok%s", (unsigned long long)report.edits,
            in->block_n, report.torn_bytes ? " (the last write was not finished)" : "");
    else if (rc == E_CORRUPT || rc == E_NOT_FOUND)
        say(v, "%s", err_msg(e));
    bool damaged = rc == E_CORRUPT || rc == E_NOT_FOUND;
    if (damaged || (rc == E_OK && (report.damaged_edits || lost)))
        note(v, DAMAGE_MANIFEST, E_CORRUPT, MANIFEST_NAME);
    return damaged ? E_OK : rc;
}

enum errc store_inspect(struct os *os, const char *dir, void (*say_line)(void *, const char *),
                        void *arg, struct damages *out, struct err *e)
{
    struct verify v = {.os = os, .dir = dir, .say = say_line, .arg = arg, .damages = out};
    struct manifest_state_in in;
    struct err why;
    *out = (struct damages){0};
    enum errc rc = verify_manifest(&v, &in, &why);
    for (size_t i = 0; rc == E_OK && i < in.block_n; i++)
        verify_block(&v, &in.blocks[i], catalog_tenant_name(in.catalog, in.blocks[i].tenant));
    struct verify_log log = {.v = &v, .released = in.released};
    char *wal_dir = store_path(dir, "wal"), *damaged_dir = store_path(dir, "damaged");
    if (rc == E_OK)
        rc = os_list(os, wal_dir, verify_segment, &log, &why);
    bool set_aside = os_list(os, damaged_dir, verify_strays, &v, NULL) == E_OK;
    (void)set_aside; /* there is no such folder while nothing was ever damaged */
    free(wal_dir);
    free(damaged_dir);
    store_state_free(&in);
    if (rc != E_OK && e)
        *e = why;
    return rc;
}

enum errc store_verify(struct os *os, const char *dir, void (*say_line)(void *, const char *),
                       void *arg, struct err *e)
{
    struct damages damages = {0};
    enum errc rc = store_check_there(os, dir, e);
    if (rc == E_OK)
        rc = store_inspect(os, dir, say_line, arg, &damages, e);
    if (rc == E_OK && damages.n)
        rc = fail(e, E_CORRUPT,
                  damages.n == 1 ? "%zu part of %s is damaged" : "%zu parts of %s are damaged",
                  damages.n, dir);
    damages_fini(&damages);
    return rc;
}
