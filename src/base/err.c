/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

struct err_row {
    const char *name, *text;
    int http, grpc;
};

static const struct err_row rows[ERRC_COUNT] = {
#define ERR_ROW(name, text, http, grpc) [E_##name] = {#name, text, http, grpc},
    ERR_TABLE(ERR_ROW)
#undef ERR_ROW
};

static const struct err_row *row(enum errc code)
{
    return &rows[(unsigned)code < ERRC_COUNT ? code : E_INTERNAL];
}

const char *err_name(enum errc code)
{
    return row(code)->name;
}

const char *err_text(enum errc code)
{
    return row(code)->text;
}

int err_http(enum errc code)
{
    return row(code)->http;
}

int err_grpc(enum errc code)
{
    return row(code)->grpc;
}

enum errc fail(struct err *e, enum errc code, const char *fmt, ...)
{
    if (!e)
        return code;
    va_list args;
    va_start(args, fmt);
    e->code = code;
    vsnprintf(e->msg, sizeof e->msg, fmt, args);
    va_end(args);
    return code;
}

enum errc fail_errno(struct err *e, enum errc code, const char *fmt, ...)
{
    int no = errno;
    if (no == ENOSPC || no == EDQUOT)
        code = E_FULL;
    if (!e)
        return code;
    va_list args;
    va_start(args, fmt);
    e->code = code;
    int n = vsnprintf(e->msg, sizeof e->msg, fmt, args);
    va_end(args);
    size_t used = n < 0 ? 0 : min_size((size_t)n, sizeof e->msg - 1);
    char text[128];
    snprintf(e->msg + used, sizeof e->msg - used, ": %s", strerror_r(no, text, sizeof text));
    return code;
}

const char *err_msg(const struct err *e)
{
    if (!e)
        return err_text(E_INTERNAL);
    return e->msg[0] ? e->msg : err_text(e->code);
}

const char *err_hint(enum errc code)
{
    return code == E_CORRUPT ? ": lymer verify tells what, lymer repair keeps the rest" : "";
}
