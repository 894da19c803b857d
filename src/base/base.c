/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ensure_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "lymer: %s:%d: this must hold and does not: %s\n", file, line, what);
    abort();
}

static _Noreturn void out_of_memory(size_t n)
{
    fprintf(stderr, "lymer: the system has no memory left (%zu bytes wanted)\n", n);
    abort();
}

void *xmalloc(size_t n)
{
    void *p = malloc(n ? n : 1);
    if (UNLIKELY(!p))
        out_of_memory(n);
    return p;
}

void *xcalloc(size_t count, size_t size)
{
    void *p = count && size ? calloc(count, size) : malloc(1);
    if (UNLIKELY(!p))
        out_of_memory(count && size > SIZE_MAX / count ? SIZE_MAX : count * size);
    return p;
}

void *xrealloc(void *p, size_t n)
{
    void *q = realloc(p, n ? n : 1);
    if (UNLIKELY(!q))
        out_of_memory(n);
    return q;
}

char *xstrdup(const char *s)
{
    size_t n = strlen(s) + 1;
    return memcpy(xmalloc(n), s, n);
}
