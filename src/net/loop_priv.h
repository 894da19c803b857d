/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share: the loop's parts that connections and listeners hang on. */
#ifndef LYMER_NET_LOOP_PRIV_H
#define LYMER_NET_LOOP_PRIV_H

#include "net/loop.h"

#include <stdatomic.h>

/* One buffer all connections of a loop read into: idle connections own none. 256 KiB stay in the
 * second-level cache. */
#define LOOP_READ_BYTES (256 * KIB)

/* Output waits in chunks that return to the loop, so that idle connections own none either. */
#define CHUNK_BYTES     (16 * KIB)
#define CHUNKS_KEPT_MAX 64u

struct chunk {
    struct chunk *next;
    uint32_t from, to;
    char bytes[CHUNK_BYTES - 16];
};

/* Anything epoll can wake. Embedded first in what it wakes, heap-allocated. */
struct source {
    void (*ready)(struct source *s, uint32_t events);
    struct source *next_retired;
    bool listed; /* on the list of dirty conns: not to be freed yet */
};

struct loop {
    int epoll_fd, event_fd;
    _Atomic(bool) stop;
    _Atomic(uint64_t) owner; /* thread running the loop + 1; 0: none */
    uint64_t now_ns;
    struct mailbox box;
    bool own_post; /* the loop's own thread filled the box: do not sleep */
    struct timer **heap;
    uint32_t heap_count, heap_cap;
    struct conn *dirty;     /* conns with work for the end of the turn */
    struct source *retired; /* closed in this turn, freed at its end */
    struct conn *conns;     /* all that live, for loop_free */
    struct chunk *spare;    /* free chunks */
    uint32_t spare_count;
    char *read_buf;
};

void loop_watch(struct loop *l, int fd, struct source *s, uint32_t events, bool add);
/* Its descriptor is closed; free it when no event of this turn can name it any more. */
void source_retire(struct loop *l, struct source *s);
/* conn.c: end-of-turn work; closing what is left when the loop is freed. */
void conns_end_turn(struct loop *l);
void conns_close_all(struct loop *l);

#endif
