/* SPDX-License-Identifier: Apache-2.0 */
/* The input is the manifest of a store that is opened, used, and opened again. The first byte says
 * whether it is the file itself or the payload of a valid edit. */
#include "base/log.h"
#include "base/os/sim.h"
#include "store/trace/care.h"
#include "store/trace/record.h"
#include "store/trace/trace_store.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_file(struct os *os, const char *dir, const char *name, struct str bytes)
{
    if (os_replace_file(os, dir, name, bytes, NULL) != E_OK)
        abort();
}

static void put_edit(struct os *os, struct str payload)
{
    struct {
        char magic[8];
        uint32_t version, zero;
        uint64_t salt;
        uint32_t zero2, crc;
    } h = {.version = 1, .salt = 42};
    memcpy(h.magic, "LYMERMAN", 8);
    h.crc = crc32c(0, &h, sizeof h - 4);
    struct buf file = buf_init(MIB);
    struct record_head r = record_head_of(42, 0, payload);
    buf_add(&file, &h, sizeof h);
    buf_add(&file, &r, sizeof r);
    buf_add_str(&file, payload);
    buf_add_zero(&file, (size_t)(record_bytes(payload.n) - RECORD_HEAD) - payload.n);
    put_file(os, "/d", "MANIFEST", buf_str(&file));
    buf_fini(&file);
}

static void use(struct os *os, struct store_config *c)
{
    struct store *s;
    struct arena a = arena_init(64 * MIB);
    struct str *services;
    struct operation *ops;
    struct dependency *deps;
    size_t n;
    if (store_open(&s, c, NULL) != E_OK) {
        arena_fini(&a);
        return;
    }
    struct snap *snap = store_snap(s);
    (void)!snap_services(snap, STR("default"), &a, &services, &n);
    (void)!snap_operations(snap, STR("default"), STR("cart"), -1, &a, &ops, &n);
    (void)!snap_dependencies(snap, STR("default"), 0, UINT64_MAX, &a, &deps, &n);
    snap_unref(snap);
    (void)store_step(s);
    sim_advance(os, 60 * NS_PER_S);
    (void)store_step(s);
    store_close(s);
    arena_fini(&a);
}

static void say(void *arg, const char *line)
{
    (void)arg;
    (void)line;
}

static void on_row(void *arg, const char *kind, const struct dump_field *fields, size_t n)
{
    (void)arg;
    if (!kind || (n && !fields[n - 1].name))
        abort();
}

/* Dump, backup and repair of the store with this manifest. */
static void care(struct os *os)
{
    struct backup_report report;
    uint64_t bad;
    unsigned found;
    (void)!store_dump(os, "/d", 0, on_row, NULL, &bad, NULL);
    if (store_backup(os, "/d", "/backup", false, &report, NULL) == E_OK &&
        store_verify(os, "/backup", say, NULL, NULL) != E_OK)
        abort();
    if (store_repair(os, "/d", false, say, NULL, &found, NULL) == E_OK &&
        store_verify(os, "/d", say, NULL, NULL) != E_OK)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size || size > 64 * KIB)
        return 0;
    log_setup((enum log_level)(LOG_ERROR + 1), LOG_TEXT);
    struct os *os = os_sim_new(1);
    struct store_config c;
    struct str in = str_of(data + 1, size - 1);
    store_config_defaults(&c, os, "/d");
    c.threads = false;
    if (os_mkdir(os, "/d", NULL) != E_OK)
        abort();
    put_file(os, "/d", "FORMAT", STR("lymer trace store format 1\n"));
    if (data[0] & 1)
        put_edit(os, in);
    else
        put_file(os, "/d", "MANIFEST", in);
    (void)!store_verify(os, "/d", say, NULL, NULL);
    if (data[0] & 2)
        care(os);
    use(os, &c);
    use(os, &c);
    os_sim_free(os);
    return 0;
}
