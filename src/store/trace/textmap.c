/* SPDX-License-Identifier: Apache-2.0 */
#include "store/trace/textmap.h"

#include "base/hash.h"

#include <stdlib.h>

#define SLOTS_FIRST 256u

struct textmap textmap_init(uint64_t seed, uint32_t max_texts, size_t max_bytes)
{
    return (struct textmap){.seed = seed, .max = max_texts, .texts = arena_init(max_bytes)};
}

void textmap_fini(struct textmap *m)
{
    free(m->v);
    free(m->slot);
    arena_fini(&m->texts);
    *m = textmap_init(m->seed, m->max, m->texts.max_bytes);
}

/* Room for one more, in a table at most half full. */
static void textmap_grow(struct textmap *m)
{
    m->cap = m->cap ? m->cap * 2 : SLOTS_FIRST / 2;
    m->mask = m->cap * 2 - 1;
    m->v = xrealloc(m->v, m->cap * sizeof *m->v);
    free(m->slot);
    m->slot = xcalloc((size_t)m->mask + 1, sizeof *m->slot);
    for (uint32_t i = 0; i < m->n; i++) {
        uint32_t at = m->v[i].hash & m->mask;
        while (m->slot[at])
            at = (at + 1) & m->mask;
        m->slot[at] = i + 1;
    }
}

uint32_t textmap_add(struct textmap *m, struct str text, uint32_t tag)
{
    uint32_t hash = (uint32_t)hash_str(text, m->seed + tag);
    if (m->n == m->cap)
        textmap_grow(m);
    uint32_t at = hash & m->mask;
    for (; m->slot[at]; at = (at + 1) & m->mask) {
        const struct textmap_entry *e = &m->v[m->slot[at] - 1];
        if (e->hash == hash && e->tag == tag && str_eq(e->text, text))
            return m->slot[at] - 1;
    }
    struct str copy = m->n < m->max ? arena_str(&m->texts, text) : STR_NONE;
    if (!copy.p)
        return TEXTMAP_NONE;
    m->v[m->n] = (struct textmap_entry){copy, tag, hash};
    m->slot[at] = ++m->n;
    return m->n - 1;
}
