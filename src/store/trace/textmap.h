/* SPDX-License-Identifier: Apache-2.0 */
/* Texts numbered from 0 in order of first appearance, each under a tag; the owner keeps what it
 * counts in arrays by number. The texts are copied. Born with caps on their number and their bytes.
 * Private to store/trace. */
#ifndef LYMER_STORE_TRACE_TEXTMAP_H
#define LYMER_STORE_TRACE_TEXTMAP_H

#include "base/arena.h"

struct textmap_entry {
    struct str text;
    uint32_t tag, hash;
};

struct textmap {
    struct textmap_entry *v;
    uint32_t n, max, cap, mask;
    uint32_t *slot; /* number + 1 */
    uint64_t seed;  /* what a client sends must not choose its place */
    struct arena texts;
};

#define TEXTMAP_NONE UINT32_MAX

struct textmap textmap_init(uint64_t seed, uint32_t max_texts, size_t max_bytes);
void textmap_fini(struct textmap *m);
/* The text's number, m->n - 1 when it is new; TEXTMAP_NONE when it would be and a cap is reached.
 */
uint32_t textmap_add(struct textmap *m, struct str text, uint32_t tag);

#endif
