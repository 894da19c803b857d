/* SPDX-License-Identifier: Apache-2.0 */
/* How JSON spells strings and doubles: for the JSON writer and for the text of array and map
 * values. */
#ifndef LYMER_BASE_JSONTEXT_H
#define LYMER_BASE_JSONTEXT_H

#include "base/buf.h"

/* Quoted and escaped; each byte that is not part of well-formed UTF-8 becomes U+FFFD. */
void jsontext_str(struct buf *out, struct str s);
/* The shortest text that reads back the same; "NaN", "Infinity" and "-Infinity" in quotes. */
void jsontext_double(struct buf *out, double v);

#endif
