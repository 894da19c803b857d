/* SPDX-License-Identifier: Apache-2.0 */
#include "store/trace/best.h"

#include "base/hash.h"

#include <stdlib.h>

bool best_init(struct best *k, uint32_t limit, struct arena *a)
{
    uint32_t slots = 64;
    while (slots < 2 * limit)
        slots *= 2;
    *k = (struct best){.limit = limit, .mask = slots - 1};
    k->heap = ARENA_ARRAY(a, struct trace_hit, limit);
    k->back = ARENA_ARRAY(a, uint32_t, limit);
    k->slot = ARENA_ARRAY(a, uint32_t, slots);
    return !a->failed;
}

static uint32_t slot_home(const struct best *k, const uint8_t id[16])
{
    return (uint32_t)hash64(id, 16, 1) & k->mask;
}

static uint32_t slot_find(const struct best *k, const uint8_t id[16])
{
    uint32_t at = slot_home(k, id);
    while (k->slot[at] && memcmp(k->heap[k->slot[at] - 1].trace_id, id, 16) != 0)
        at = (at + 1) & k->mask;
    return at;
}

/* Closes the gap, so that searches do not end in it. */
static void slot_remove(struct best *k, uint32_t gap)
{
    k->slot[gap] = 0;
    for (uint32_t at = (gap + 1) & k->mask; k->slot[at]; at = (at + 1) & k->mask) {
        uint32_t position = k->slot[at] - 1;
        uint32_t home = slot_home(k, k->heap[position].trace_id);
        if (((at - home) & k->mask) < ((at - gap) & k->mask))
            continue;
        k->slot[gap] = k->slot[at];
        k->back[position] = gap;
        k->slot[at] = 0;
        gap = at;
    }
}

static void heap_put(struct best *k, uint32_t position, struct trace_hit hit, uint32_t slot)
{
    k->heap[position] = hit;
    k->back[position] = slot;
    k->slot[slot] = position + 1;
}

static void heap_down(struct best *k, uint32_t at)
{
    struct trace_hit hit = k->heap[at];
    uint32_t slot = k->back[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < k->n && trace_hit_before(&k->heap[child], &k->heap[child + 1]))
            child++;
        if (child >= k->n || trace_hit_before(&k->heap[child], &hit))
            break;
        heap_put(k, at, k->heap[child], k->back[child]);
        at = child;
    }
    heap_put(k, at, hit, slot);
}

static void heap_up(struct best *k, uint32_t at)
{
    struct trace_hit hit = k->heap[at];
    uint32_t slot = k->back[at];
    while (at > 0 && trace_hit_before(&k->heap[(at - 1) / 2], &hit)) {
        heap_put(k, at, k->heap[(at - 1) / 2], k->back[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(k, at, hit, slot);
}

void best_add(struct best *k, const struct trace_hit *hit)
{
    uint32_t slot = slot_find(k, hit->trace_id);
    if (k->slot[slot]) {
        uint32_t at = k->slot[slot] - 1;
        if (trace_hit_before(hit, &k->heap[at])) {
            k->heap[at] = *hit;
            heap_down(k, at);
        }
    } else if (k->n < k->limit) {
        heap_put(k, k->n, *hit, slot);
        heap_up(k, k->n++);
    } else if (trace_hit_before(hit, &k->heap[0])) {
        slot_remove(k, k->back[0]);
        heap_put(k, 0, *hit, slot_find(k, hit->trace_id));
        heap_down(k, 0);
    }
}

bool best_holds(const struct best *k, const uint8_t trace_id[16])
{
    return k->slot[slot_find(k, trace_id)] != 0;
}

bool best_is_idle(const struct best *k, const struct trace_hit *hit)
{
    uint32_t slot = k->slot[slot_find(k, hit->trace_id)];
    if (slot)
        return !trace_hit_before(hit, &k->heap[slot - 1]);
    return k->n == k->limit && !trace_hit_before(hit, &k->heap[0]);
}

static int by_rank(const void *a, const void *b)
{
    return trace_hit_before(a, b) ? -1 : 1;
}

void best_sort(struct best *k)
{
    if (k->n)
        qsort(k->heap, k->n, sizeof *k->heap, by_rank);
}
