/* SPDX-License-Identifier: Apache-2.0 */
/* backup, restore, repair, dump: care for a directory. verify is in check.c. */
#include "app/cli/commands.h"
#include "app/wire.h"
#include "codec/json.h"
#include "store/trace/care.h"
#include "store/trace/trace_store.h"

#include <stdlib.h>
#include <unistd.h>

#define OUT_MAX   (16 * MIB) /* of one row, and what gathers before it is written */
#define OUT_FLUSH (64 * KIB)

/* Output that is written as it comes. */
struct output {
    struct buf out;
    struct json_writer json;
    bool as_json;
};

static void output_init(struct output *o, const struct cli *c)
{
    *o = (struct output){.out = buf_init(OUT_MAX), .as_json = cli_choice(c, "output") == 1};
    o->json = json_writer_init(&o->out, 0);
}

static void output_flush(struct output *o, size_t least)
{
    if (o->out.n < least)
        return;
    cli_out(buf_str(&o->out));
    buf_reset(&o->out);
}

static void output_fini(struct output *o)
{
    output_flush(o, 0);
    buf_fini(&o->out);
}

static void say_line(void *arg, const char *line)
{
    struct output *o = arg;
    if (o->as_json)
        json_str(&o->json, str_from_c(line));
    else
        buf_addf(&o->out, "%s\n", line);
    output_flush(o, OUT_FLUSH);
}

/* --- backup, restore --- */

static void print_backup(const struct cli *c, const char *from, const char *to,
                         const struct backup_report *b)
{
    struct buf out = buf_init(64 * KIB);
    if (cli_choice(c, "output") == 1) {
        struct json_writer w = json_writer_init(&out, 0);
        json_object(&w);
        JSON_KEY_C(&w, "from");
        json_str(&w, str_from_c(from));
        JSON_KEY_C(&w, "to");
        json_str(&w, str_from_c(to));
        JSON_KEY_C(&w, "blocks");
        json_u64(&w, b->blocks);
        JSON_KEY_C(&w, "blocks_linked");
        json_u64(&w, b->linked);
        JSON_KEY_C(&w, "spans_in_blocks");
        json_u64(&w, b->spans);
        JSON_KEY_C(&w, "block_bytes");
        json_u64(&w, b->block_bytes);
        JSON_KEY_C(&w, "batches_in_log");
        json_u64(&w, b->records);
        JSON_KEY_C(&w, "log_bytes");
        json_u64(&w, b->log_bytes);
        json_object_end(&w);
        buf_add_char(&out, '\n');
    } else {
        buf_addf(&out,
                 "%s: %llu blocks (%llu linked, %llu copied) with %llu spans, %llu bytes; "
                 "%llu batches in the log, %llu bytes\n",
                 to, (unsigned long long)b->blocks, (unsigned long long)b->linked,
                 (unsigned long long)(b->blocks - b->linked), (unsigned long long)b->spans,
                 (unsigned long long)b->block_bytes, (unsigned long long)b->records,
                 (unsigned long long)b->log_bytes);
    }
    cli_out(buf_str(&out));
    buf_fini(&out);
}

/* Would the path be inside the folder, whatever links lie between? What is not there yet is judged
 * by the nearest folder above it. */
static bool is_inside(const char *dir, const char *path)
{
    char *outer = realpath(dir, NULL), *above = xstrdup(path), *inner;
    while (!(inner = realpath(*above ? above : "/", NULL)) && strchr(above, '/'))
        *strrchr(above, '/') = 0;
    if (!inner)
        inner = realpath(".", NULL);
    size_t n = outer ? strlen(outer) : 0;
    bool inside = n && inner && strncmp(inner, outer, n) == 0 && (!inner[n] || inner[n] == '/');
    free(outer);
    free(above);
    free(inner);
    return inside;
}

static int copy_store(struct cli *c, const char *from, const char *to)
{
    struct backup_report report;
    struct err e = {0};
    if (is_inside(from, to))
        return cli_fail(c, CLI_USAGE, "%s lies inside %s", to, from);
    if (store_backup(os_posix(), from, to, cli_switch(c, "copy"), &report, &e))
        return cli_fail_err(c, &e);
    print_backup(c, from, to, &report);
    return CLI_OK;
}

static const struct cli_option backup_options[] = {
    {"data", "DIR", NULL, NULL, "The directory to back up (default: the server's default)"},
    {"copy", NULL, NULL, NULL, "Copy blocks also where they could be linked"},
    {"output", "FORMAT", "text", "text|json", "How to print"},
    {0}};

static int backup(struct cli *c)
{
    struct config config;
    config_init(&config);
    const char *dir = cli_value(c, "data");
    int code = copy_store(c, dir ? dir : wire_data_dir(&config), c->args[0]);
    config_fini(&config);
    return code;
}

const struct cli_command cli_backup = {
    .name = "backup",
    .args = "DEST",
    .args_min = 1,
    .args_max = 1,
    .summary = "Copy a data directory, also while a server writes to it",
    .details = "DEST, which must be empty or absent, becomes a data directory by itself with "
               "everything that was acknowledged when the backup began. On the same file system "
               "blocks are linked and take no room; --copy makes a backup that damage to the "
               "original's bytes cannot reach. What was damaged before is copied as it is: "
               "`lymer verify DEST` reads every byte, and so does restore.",
    .options = backup_options,
    .run = backup,
};

static const struct cli_option restore_options[] = {
    {"copy", NULL, NULL, NULL, "Copy blocks also where they could be linked"},
    {"output", "FORMAT", "text", "text|json", "How to print"},
    {0}};

static void say_nothing(void *arg, const char *line)
{
    (void)arg;
    (void)line;
}

static int restore(struct cli *c)
{
    struct err e = {0};
    if (store_verify(os_posix(), c->args[0], say_nothing, NULL, &e))
        return cli_fail(c, cli_fail_err(c, &e), "nothing was restored");
    return copy_store(c, c->args[0], c->args[1]);
}

const struct cli_command cli_restore = {
    .name = "restore",
    .args = "BACKUP DIR",
    .args_min = 2,
    .args_max = 2,
    .summary = "Make a data directory from a backup",
    .details = "The backup is verified first and stays as it is. DIR must be empty or absent.",
    .options = restore_options,
    .run = restore,
};

/* --- repair --- */

static const struct cli_option repair_options[] = {
    {"dry-run", NULL, NULL, NULL, "Change nothing, say what would be done"},
    {"output", "FORMAT", "text", "text|json", "How to print"},
    {0}};

static int repair(struct cli *c)
{
    struct err e = {0};
    struct output r;
    unsigned found;
    bool dry = cli_switch(c, "dry-run");
    output_init(&r, c);
    if (r.as_json) {
        json_object(&r.json);
        JSON_KEY_C(&r.json, "lines");
        json_array(&r.json);
    }
    enum errc rc = store_repair(os_posix(), c->args[0], dry, say_line, &r, &found, &e);
    if (r.as_json) {
        json_array_end(&r.json);
        JSON_KEY_C(&r.json, "damaged");
        json_u64(&r.json, found);
        JSON_KEY_C(&r.json, "repaired");
        json_bool(&r.json, rc == E_OK && found && !dry);
        json_object_end(&r.json);
        buf_add_char(&r.out, '\n');
    } else if (rc == E_OK) {
        if (!found)
            buf_add_c(&r.out, "nothing is damaged\n");
        else
            buf_addf(&r.out, "%u part%s %s repaired\n", found, found == 1 ? "" : "s",
                     dry          ? "would be"
                     : found == 1 ? "was"
                                  : "were");
    }
    output_fini(&r);
    return rc ? cli_fail_err(c, &e) : found ? CLI_TRUE : CLI_OK;
}

const struct cli_command cli_repair = {
    .name = "repair",
    .args = "DIR",
    .args_min = 1,
    .args_max = 1,
    .summary = "Set damaged files of a data directory aside, keep what can be read of them",
    .details = "No server may hold the directory. Says what was lost. Exit code 0 when nothing was "
               "damaged, 1 when something was repaired.",
    .options = repair_options,
    .run = repair,
};

/* --- dump --- */

static const struct cli_option dump_options[] = {
    {"head", "N", "0", NULL, "Records, edits or row groups of each file; 0: all"},
    {"output", "FORMAT", "text", "text|json", "How to print"},
    {0}};

/* Text in quotes where it is not one plain word. */
static void put_text(struct buf *out, struct str s)
{
    bool plain = s.n > 0;
    for (size_t i = 0; i < s.n; i++)
        plain &= s.p[i] > ' ' && s.p[i] < 127 && s.p[i] != '"' && s.p[i] != '=';
    if (plain) {
        buf_add_str(out, s);
        return;
    }
    struct json_writer w = json_writer_init(out, 0);
    json_str(&w, s);
}

static void print_row(void *arg, const char *kind, const struct dump_field *fields, size_t n)
{
    struct output *d = arg;
    if (d->as_json) {
        json_object(&d->json);
        JSON_KEY_C(&d->json, "row");
        json_str(&d->json, str_from_c(kind));
    } else {
        buf_add_c(&d->out, kind);
    }
    for (size_t i = 0; i < n; i++) {
        const struct dump_field *f = &fields[i];
        if (d->as_json) {
            json_key(&d->json, str_from_c(f->name));
            if (f->text.p)
                json_str(&d->json, f->text);
            else
                json_u64(&d->json, f->number);
            continue;
        }
        buf_addf(&d->out, " %s=", f->name);
        if (f->text.p)
            put_text(&d->out, f->text);
        else
            buf_addf(&d->out, "%llu", (unsigned long long)f->number);
    }
    if (d->as_json)
        json_object_end(&d->json);
    else
        buf_add_char(&d->out, '\n');
    output_flush(d, OUT_FLUSH);
}

static int dump(struct cli *c)
{
    struct output d;
    struct err e = {0};
    uint64_t head, bad = 0;
    if (!cli_u64(c, "head", 0, UINT32_MAX, &head))
        return CLI_USAGE;
    output_init(&d, c);
    if (d.as_json)
        json_array(&d.json);
    enum errc rc = store_dump(os_posix(), c->args[0], head, print_row, &d, &bad, &e);
    if (d.as_json) {
        json_array_end(&d.json);
        buf_add_char(&d.out, '\n');
    }
    output_fini(&d);
    return rc ? cli_fail_err(c, &e) : bad ? CLI_TRUE : CLI_OK;
}

const struct cli_command cli_dump = {
    .name = "dump",
    .args = "FILE|DIR",
    .args_min = 1,
    .args_max = 1,
    .summary = "Print what a log segment, block or manifest consists of, byte range by byte range",
    .details = "Names are those of docs/format. Damage is said where it is and ends nothing; exit "
               "code 1 when there is some.",
    .options = dump_options,
    .run = dump,
};
