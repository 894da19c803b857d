/* SPDX-License-Identifier: Apache-2.0 */
/* DIR/audit.log: a line of text for each thing that erased data on purpose
 * (docs/format/directory.md). Only ever appended to. */
#include "store/trace/store_parts.h"

#include "base/log.h"
#include "base/num.h"

#include <stdlib.h>

#define AUDIT_NAME "audit.log"

/* A line that a crash cut short is ended first. */
static enum errc append(struct os_file *f, struct str line, struct err *e)
{
    uint64_t size = 0;
    char last = '\n';
    size_t got = 0;
    enum errc rc = os_size(f, &size, e);
    if (rc == E_OK && size)
        rc = os_pread(f, &last, 1, size - 1, &got, e);
    if (rc == E_OK)
        rc = os_pwrite(f, last == '\n' ? str_skip(line, 1) : line, size, e);
    return rc == E_OK ? os_sync(f, e) : rc;
}

enum errc store_audit(struct store *s, struct str text, struct err *e)
{
    char time[NUM_TEXT_MAX];
    struct buf line = buf_init(2 * AUDIT_LINE_MAX);
    struct os_file *f = NULL;
    char *path = store_path(s->dir, AUDIT_NAME);
    size_t n = num_put_rfc3339(time, os_now_ns(s->os));
    buf_addf(&line, "\n%.*s %.*s\n", (int)n, time, STR_ARG(text));
    enum errc rc = line.failed ? fail(e, E_TOO_BIG, "a line of the audit is too long") : E_OK;
    if (rc == E_OK)
        rc = os_open(s->os, path, OS_WRITE, &f, e);
    if (rc == E_OK)
        rc = append(f, buf_str(&line), e);
    if (rc == E_OK)
        rc = os_sync_dir(s->os, s->dir, e);
    os_close(f);
    if (rc == E_OK)
        log_info("audit", "%.*s", STR_ARG(text));
    free(path);
    buf_fini(&line);
    return rc;
}
