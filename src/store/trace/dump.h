/* SPDX-License-Identifier: Apache-2.0 */
/* The dumper's insides: dump.c walks files, logs and manifests, dump_block.c blocks. */
#ifndef LYMER_STORE_TRACE_DUMP_H
#define LYMER_STORE_TRACE_DUMP_H

#include "base/arena.h"
#include "store/trace/care.h"

#define DUMP_FIELDS_MAX 16u

struct dump {
    struct os *os;
    dump_row *row;
    void *arg;
    uint64_t head; /* rows of each file that tell nothing bad */
    uint64_t bad;
    struct arena text; /* of the row being made */
    const char *kind;
    struct dump_field fields[DUMP_FIELDS_MAX];
    size_t field_n;
};

/* A row is begun, gets its fields in order, and is handed on. */
void dump_begin(struct dump *d, const char *kind);
void dump_number(struct dump *d, const char *name, uint64_t v);
void dump_text(struct dump *d, const char *name, struct str s);
void dump_time(struct dump *d, const char *name, uint64_t unix_ns);
void dump_checksum(struct dump *d, bool ok); /* "ok" or "bad", and counted */
void dump_end(struct dump *d);
/* A row about what is not as it should be. */
void dump_damage(struct dump *d, uint64_t at, uint64_t bytes, struct str what);

MUST_CHECK enum errc dump_block(struct dump *d, const char *path, struct err *e);

#endif
