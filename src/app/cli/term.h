/* SPDX-License-Identifier: Apache-2.0 */
/* What the terminal is: width, colour, and how many cells text takes. */
#ifndef LYMER_APP_CLI_TERM_H
#define LYMER_APP_CLI_TERM_H

#include "base/buf.h"

#define TERM_WIDTH_DEFAULT 80u

/* $COLUMNS, else the terminal's, else 80; 40 to 1,000. */
unsigned term_width(void);
/* Standard output is a terminal that shows colour; NO_COLOR and CLICOLOR_FORCE are heeded. */
bool term_color(void);
/* The locale's character set is UTF-8. */
bool term_utf8(void);

/* Cells the text takes: 0 for combining marks, 2 for wide characters; each byte that is not UTF-8
 * and each control character is shown as one '?'. */
unsigned text_cells(struct str s);
/* Appends at most `cells` cells of s, made harmless for a terminal, ending in "…" (ascii: ".") when
 * something is cut; returns the cells taken. */
unsigned text_add_cut(struct buf *out, struct str s, unsigned cells, bool ascii);
/* Likewise, then spaces up to `cells`. */
void text_add_padded(struct buf *out, struct str s, unsigned cells, bool ascii);
/* "1.23ms", "45.6µs" (ascii: "us"), "12m03s": at most 7 cells. Returns the text in out. */
const char *text_duration(uint64_t ns, bool ascii, char out[32]);
/* "12,345" */
const char *text_count(uint64_t n, char out[32]);

#endif
