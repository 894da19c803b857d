/* SPDX-License-Identifier: Apache-2.0 */
/* Spare buffers of this thread, handed out last in, first out: request after request works in the
 * same, cached memory, without asking the system for pages. A buffer may be given back on another
 * thread than it was taken on. At most WARM_SPARES are kept, none above WARM_BYTES_MAX; a thread's
 * spares go with the thread. */
#ifndef LYMER_BASE_WARM_H
#define LYMER_BASE_WARM_H

#include "base/buf.h"

#define WARM_SPARES    8u
#define WARM_BYTES_MAX (1 * MIB)

/* An empty buffer with this cap, perhaps with memory already. */
struct buf warm_take(size_t max_bytes);
/* Leaves *b empty and without memory. */
void warm_give(struct buf *b);

#endif
