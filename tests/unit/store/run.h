/* SPDX-License-Identifier: Apache-2.0 */
/* A run: a store in the simulated world, what was sent to it, and what happens to both. Everything
 * follows from the seed. A mistake ends the test and prints how to see it again. */
#ifndef LYMER_TESTS_STORE_RUN_H
#define LYMER_TESTS_STORE_RUN_H

#include "base/os/sim.h"
#include "tests/unit/store/world.h"

/* A crash: the power went, and the store that was opened again was compared with what was sent.
 * A fault: a call failed, the disk was full or a bit was flipped, and the same. */
struct tally {
    uint64_t crashes, faults;
};

struct run {
    struct os *os;
    struct world *w;
    struct store *s;
    struct store_config config;
    uint64_t seed;
    struct snap *held; /* an old snapshot, and which spans it had */
    bool *held_spans;
    struct tally *tally;
};

/* A thing that may happen; an act of weight n is n times as likely as one of 1. */
struct act {
    unsigned weight;
    void (*act)(struct run *r);
};

void run_begin(struct run *r, uint64_t seed, enum sync_policy sync, uint32_t rich,
               struct tally *tally);
void run_end(struct run *r);
void run_open(struct run *r);
_Noreturn void run_failed(const struct run *r, const char *what);
/* Worlds that begin from now on break this promise. */
void run_lie(enum sim_lie lie, const char *part);

void run_act(struct run *r, const struct act *acts, size_t n);
/* What a running server does, `n` times. */
void run_serve(struct run *r, unsigned n);
void run_advance(struct run *r, uint64_t ns);
/* Without faults: what the policy promises to sync is synced, so it must survive. */
void run_settle(struct run *r);
void run_compare(struct run *r, bool after_crash);
void run_ask(struct run *r);
/* After a fault is gone everything that was acknowledged is there, new batches are taken, and a
 * restart changes nothing. */
void run_recovers(struct run *r);
/* The process dies: from some call on nothing reaches the disk, then the power goes. */
void run_crash(struct run *r, uint64_t calls_left);

/* One seed of the sweep: which kind of run it is follows from the seed too. */
void sweep_seed(uint64_t seed, struct tally *tally);
/* model.c: everything a server and its operator do. */
void model_run(uint64_t seed, struct tally *tally);

#endif
