/* SPDX-License-Identifier: Apache-2.0 */
/* The input is a log segment found at start: recovery must not crash, hang, or take bytes for a
 * batch that do not check out; and the log must work afterwards. The first byte says how the input
 * is dressed: as it is, or behind a valid head, or as payloads of valid records. */
#include "base/os/sim.h"
#include "model/batch.h"
#include "store/trace/care.h"
#include "store/trace/record.h"
#include "store/trace/wal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seg_head {
    char magic[8];
    uint32_t version, zero;
    uint64_t seq, salt, size;
    uint32_t zero2, crc;
};

#define SALT UINT64_C(0x1122334455667788)

static enum errc open_batch(void *arg, uint64_t seq, struct str payload)
{
    struct batch *b;
    (void)arg;
    (void)seq;
    enum errc rc = batch_open(payload, &b, NULL);
    if (rc == E_OK)
        batch_unref(b);
    return rc;
}

static void on_row(void *arg, const char *kind, const struct dump_field *fields, size_t n)
{
    (void)arg;
    if (!kind || (n && !fields[n - 1].name))
        abort();
}

static enum errc take_all(void *arg, const struct wal_place *p)
{
    (void)arg;
    (void)p;
    return E_OK;
}

/* From outside, as dump and backup read it. A copy has what the original has. */
static void read_outside(struct os *os, const char *path)
{
    struct wal_report copied, read = {0};
    uint64_t bad, seq;
    if (store_dump(os, path, 0, on_row, NULL, &bad, NULL) != E_OK)
        abort();
    if (wal_copy_file(os, path, "/wal/copy", 0, &seq, &copied, NULL) != E_OK)
        return;
    if (wal_scan_file(os, "/wal/copy", 0, take_all, NULL, &read, NULL) != E_OK ||
        read.records != copied.records)
        abort();
    if (os_unlink(os, "/wal/copy", NULL) != E_OK)
        abort();
}

static void put(struct os_file *f, struct str bytes, uint64_t at)
{
    if (os_pwrite(f, bytes, at, NULL) != E_OK)
        abort();
}

static void dress(struct os_file *f, unsigned how, struct str in)
{
    struct seg_head h = {
        .magic = "LYMERWA", .version = 1, .seq = 1, .salt = SALT, .size = WAL_SEGMENT_MIN};
    h.magic[7] = 'L';
    h.crc = crc32c(0, &h, offsetof(struct seg_head, crc));
    put(f, str_of(&h, sizeof h), 0);
    uint64_t at = WAL_HEAD_BYTES;
    for (uint32_t index = 0; how == 2 && in.n; index++) {
        struct str payload = str_take(in, 1 + (unsigned char)in.p[0] * 8u);
        struct record_head r = record_head_of(SALT, index, payload);
        put(f, str_of(&r, sizeof r), at);
        put(f, payload, at + sizeof r);
        at += record_bytes(payload.n);
        in = str_skip(in, payload.n);
    }
    if (in.n)
        put(f, in, at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size || size > 64 * KIB)
        return 0;
    struct os *os = os_sim_new(1);
    struct os_file *f;
    struct str in = str_of(data + 1, size - 1);
    if (os_mkdir(os, "/wal", NULL) != E_OK ||
        os_open(os, "/wal/0000000000000000.log", OS_WRITE, &f, NULL) != E_OK)
        abort();
    if (data[0] % 3)
        dress(f, data[0] % 3, in);
    else if (in.n)
        put(f, in, 0);
    if (data[0] & 0x80 && os_truncate(f, WAL_SEGMENT_MIN, NULL) != E_OK)
        abort();
    os_close(f);
    read_outside(os, "/wal/0000000000000000.log");
    struct wal *w;
    struct wal_report report;
    size_t done;
    struct str image = STR("after");
    enum errc rc = wal_open(&w, os, "/wal", WAL_SEGMENT_MIN, 0, open_batch, NULL, &report, NULL);
    if (rc == E_OK) {
        rc = wal_append(w, &image, 1, &done, NULL);
        wal_close(w);
    }
    if (rc != E_OK && rc != E_VERSION)
        abort();
    os_sim_free(os);
    return 0;
}
