/* SPDX-License-Identifier: Apache-2.0 */
/* A trace as a waterfall in text. */
#ifndef LYMER_APP_CLI_WATERFALL_H
#define LYMER_APP_CLI_WATERFALL_H

#include "base/buf.h"
#include "model/trace.h"

struct waterfall_style {
    unsigned width; /* cells, at least 40 */
    bool ascii, color;
    /* The spans are a page, those from `first` on (from 0), of a trace that has `total`; 0: they
     * are all of it. A parent outside the page is not marked as missing. */
    uint64_t first, total;
    uint32_t rows; /* at most so many; what is hidden is counted in a row of its own. 0: all */
};

/* a is scratch. False when the arena is exhausted. */
MUST_CHECK bool waterfall_write(const struct trace *t, const struct waterfall_style *style,
                                struct arena *a, struct buf *out);

#endif
