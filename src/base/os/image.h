/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a simulated file: a table of pages, each made when first written, so that a file
 * grows without being copied and a hole costs nothing. Not thread-safe. */
#ifndef LYMER_BASE_OS_IMAGE_H
#define LYMER_BASE_OS_IMAGE_H

#include "base/base.h"

#define IMAGE_PAGE (64 * KIB)

struct image {
    uint8_t **pages; /* NULL: zeros */
    size_t page_count;
    uint64_t size; /* bytes behind it in the last page are zero */
};

void image_fini(struct image *m);
/* n bytes at off, which must lie inside. */
void image_read(const struct image *m, uint64_t off, void *out, size_t n);
/* Grows the image as needed; false when memory is out (a part may be written). */
MUST_CHECK bool image_write(struct image *m, uint64_t off, const void *data, size_t n);
void image_resize(struct image *m, uint64_t size);

#endif
