/* SPDX-License-Identifier: Apache-2.0 */
#include "base/os/image.h"

#include <stdlib.h>
#include <string.h>

void image_fini(struct image *m)
{
    image_resize(m, 0);
    free(m->pages);
    *m = (struct image){0};
}

/* The part of [off, off + n) that lies in one page. */
static size_t step(uint64_t off, size_t n)
{
    return min_size(n, IMAGE_PAGE - (size_t)(off % IMAGE_PAGE));
}

void image_read(const struct image *m, uint64_t off, void *out, size_t n)
{
    ensure(off <= m->size && n <= m->size - off);
    uint8_t *to = out;
    while (n) {
        size_t at = (size_t)(off / IMAGE_PAGE), part = step(off, n);
        if (at < m->page_count && m->pages[at])
            memcpy(to, m->pages[at] + off % IMAGE_PAGE, part);
        else
            memset(to, 0, part);
        to += part;
        off += part;
        n -= part;
    }
}

static bool table_grow(struct image *m, uint64_t at)
{
    if (at < m->page_count)
        return true;
    uint64_t count = max_u64(max_u64(at + 1, (uint64_t)m->page_count * 2), 4);
    if (count > SIZE_MAX / sizeof *m->pages)
        return false;
    uint8_t **pages = realloc(m->pages, (size_t)count * sizeof *pages);
    if (!pages)
        return false;
    memset(pages + m->page_count, 0, ((size_t)count - m->page_count) * sizeof *pages);
    m->pages = pages;
    m->page_count = (size_t)count;
    return true;
}

bool image_write(struct image *m, uint64_t off, const void *data, size_t n)
{
    const uint8_t *from = data;
    while (n) {
        uint64_t at = off / IMAGE_PAGE;
        size_t part = step(off, n);
        if (!table_grow(m, at))
            return false;
        if (!m->pages[at] && !(m->pages[at] = calloc(1, IMAGE_PAGE)))
            return false;
        memcpy(m->pages[at] + off % IMAGE_PAGE, from, part);
        from += part;
        off += part;
        n -= part;
        m->size = max_u64(m->size, off);
    }
    return true;
}

void image_resize(struct image *m, uint64_t size)
{
    uint64_t keep = size / IMAGE_PAGE + (size % IMAGE_PAGE != 0);
    for (uint64_t at = keep; size < m->size && at < m->page_count; at++) {
        free(m->pages[at]);
        m->pages[at] = NULL;
    }
    size_t used = (size_t)(size % IMAGE_PAGE);
    if (size < m->size && used && keep <= m->page_count && m->pages[keep - 1])
        memset(m->pages[keep - 1] + used, 0, IMAGE_PAGE - used);
    m->size = size;
}
