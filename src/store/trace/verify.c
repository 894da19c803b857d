/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a whole directory without changing it. On a live one a block may expire, a segment be
 * recycled and the last record be half written while we look: what is missing is looked up in the
 * manifest again, and an unfinished end of the log is no damage. */
#include "store/trace/store_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct verify {
    struct os *os;
    const char *dir;
    void (*say)(void *arg, const char *line);
    void *arg;
    unsigned damaged;
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

PRINTF_LIKE(2, 3)
static void say_damaged(struct verify *v, const char *fmt, ...)
{
    char line[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    v->say(v->arg, line);
    v->damaged++;
}

static enum errc read_state(struct verify *v, struct manifest_state_in *in,
                            struct manifest_report *report, struct err *e)
{
    *in = (struct manifest_state_in){.catalog = catalog_new(UINT32_MAX, UINT32_MAX)};
    return manifest_scan(v->os, v->dir, manifest_state_apply, in, report, e);
}

static void free_state(struct manifest_state_in *in)
{
    catalog_free(in->catalog);
    manifest_state_fini(in);
}

static bool still_named(struct verify *v, uint64_t id)
{
    struct manifest_state_in in;
    struct manifest_report report;
    bool named = false;
    if (read_state(v, &in, &report, NULL) == E_OK)
        for (size_t i = 0; i < in.block_n; i++)
            named |= in.blocks[i].id == id;
    free_state(&in);
    return named;
}

static void verify_block(struct verify *v, const struct manifest_block *mb, struct str tenant)
{
    struct err e;
    struct block *b = NULL;
    char name[BATCH_TENANT_MAX + 64];
    snprintf(name, sizeof name, "blocks/%016llx.%.*s.blk", (unsigned long long)mb->id,
             STR_ARG(tenant));
    char *path = store_path(v->dir, name);
    enum errc rc = block_open(v->os, path, &b, &e);
    if (rc == E_OK)
        rc = block_verify(b, &e);
    if (rc == E_OK && block_meta(b)->span_count != mb->spans)
        rc = fail(&e, E_CORRUPT, "the manifest says %llu spans", (unsigned long long)mb->spans);
    if (rc == E_OK)
        say(v, "%s: %llu spans, ok", name, (unsigned long long)mb->spans);
    else if (rc != E_NOT_FOUND || still_named(v, mb->id))
        say_damaged(v, "%s: %s", name, err_msg(&e));
    if (b)
        block_unref(b);
    free(path);
}

static enum errc count_spans(void *arg, uint64_t seq, struct str payload)
{
    struct verify *v = arg;
    struct batch *b;
    (void)seq;
    enum errc rc = batch_open(payload, &b, NULL);
    if (rc != E_OK)
        return rc;
    v->log_spans += b->head->span_count;
    batch_unref(b);
    return E_OK;
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
    if (rc == E_NOT_FOUND)
        say(v, "%s: spare", inner);
    else if (rc != E_OK)
        say_damaged(v, "%s: %s", inner, err_msg(&e));
    else if (report.damaged_records)
        say_damaged(v, "%s: %llu spans, %llu damaged records", inner,
                    (unsigned long long)v->log_spans, (unsigned long long)report.damaged_records);
    else
        say(v, "%s: %llu spans, ok%s", inner, (unsigned long long)v->log_spans,
            report.torn_bytes ? " (the last write was not finished)" : "");
    free(path);
}

static void verify_strays(void *arg, const char *name)
{
    struct verify *v = arg;
    say(v, "damaged/%s: set aside earlier", name);
}

static enum errc verify_manifest(struct verify *v, struct manifest_state_in *in, struct err *e)
{
    struct manifest_report report;
    enum errc rc = read_state(v, in, &report, e);
    if (rc == E_OK && report.damaged_edits)
        say_damaged(v, MANIFEST_NAME ": %llu edits, %llu places are damaged",
                    (unsigned long long)report.edits, (unsigned long long)report.damaged_edits);
    else if (rc == E_OK)
        say(v, MANIFEST_NAME ": %llu edits, %zu blocks, ok%s", (unsigned long long)report.edits,
            in->block_n, report.torn_bytes ? " (the last write was not finished)" : "");
    else if (rc == E_CORRUPT || rc == E_NOT_FOUND)
        say_damaged(v, "%s", e ? err_msg(e) : err_text(rc));
    return rc == E_CORRUPT || rc == E_NOT_FOUND ? E_OK : rc;
}

enum errc store_verify(struct os *os, const char *dir,
                       void (*say_line)(void *arg, const char *line), void *arg, struct err *e)
{
    struct verify v = {.os = os, .dir = dir, .say = say_line, .arg = arg};
    struct manifest_state_in in;
    struct err why;
    bool fresh;
    enum errc rc = store_check_format(os, dir, &fresh, e);
    if (rc == E_OK && fresh)
        return fail(e, E_NOT_FOUND, "there is no store in %s", dir);
    if (rc != E_OK)
        return rc;
    rc = verify_manifest(&v, &in, &why);
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
    free_state(&in);
    if (rc != E_OK && e)
        *e = why;
    if (rc == E_OK && v.damaged)
        rc = fail(e, E_CORRUPT, "%u parts of %s are damaged", v.damaged, dir);
    return rc;
}
