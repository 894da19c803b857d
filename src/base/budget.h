/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that many hold a part of and together never more than a limit. Any thread. */
#ifndef LYMER_BASE_BUDGET_H
#define LYMER_BASE_BUDGET_H

#include "base/base.h"

#include <stdatomic.h>

struct budget {
    _Atomic size_t used, max; /* max 0: no limit */
};

static inline bool budget_take(struct budget *b, size_t bytes)
{
    size_t max = atomic_load_explicit(&b->max, memory_order_relaxed);
    size_t used = atomic_load_explicit(&b->used, memory_order_relaxed);
    do {
        if (max && (bytes > max || used > max - bytes))
            return false;
    } while (!atomic_compare_exchange_weak(&b->used, &used, used + bytes));
    return true;
}

static inline void budget_give(struct budget *b, size_t bytes)
{
    atomic_fetch_sub(&b->used, bytes);
}

#endif
