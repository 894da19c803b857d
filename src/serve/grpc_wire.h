/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC's own bytes: message framing, timeouts, the encodings of metadata. Pure: no I/O, no clock.
 *
 * A message on the wire is a flag byte (1: compressed), four bytes of length, big-endian, and the
 * bytes; it knows nothing of the DATA frames that carry it, so the reader takes any split. */
#ifndef LYMER_SERVE_GRPC_WIRE_H
#define LYMER_SERVE_GRPC_WIRE_H

#include "base/buf.h"

#define GRPC_PREFIX_BYTES 5u
/* What a length claim alone may reserve; the rest grows as the bytes come. */
#define GRPC_CLAIM_BYTES (1 * MIB)

enum grpc_read {
    GRPC_READ_MORE,      /* the input is used up */
    GRPC_READ_MESSAGE,   /* r->body holds a message; grpc_reader_next() before reading on */
    GRPC_READ_BAD_FLAG,  /* flag byte above 1; final */
    GRPC_READ_TOO_BIG,   /* r->length is past body.max; final */
    GRPC_READ_NO_MEMORY, /* final */
};

struct grpc_reader {
    struct buf body; /* the caller's: its max is the limit of a message */
    uint32_t length; /* as the prefix says */
    uint8_t prefix[GRPC_PREFIX_BYTES];
    uint8_t prefix_count;
};

/* Takes what it can use off *in. */
MUST_CHECK enum grpc_read grpc_reader_take(struct grpc_reader *r, struct str *in);
void grpc_reader_next(struct grpc_reader *r);

static inline bool grpc_reader_compressed(const struct grpc_reader *r)
{
    return r->prefix[0] == 1;
}

/* Between messages: nothing of the next one has come. */
static inline bool grpc_reader_idle(const struct grpc_reader *r)
{
    return r->prefix_count == 0;
}

void grpc_put_prefix(uint8_t out[GRPC_PREFIX_BYTES], bool compressed, uint32_t length);

/* "10S", "500m": 1 to 8 digits and one of H M S m u n. False for anything else. */
MUST_CHECK bool grpc_timeout_get(struct str s, uint64_t *ns);

/* grpc-message: bytes outside 0x20–0x7e, '%' and a space at either end become %XX. */
void grpc_put_percent(struct buf *out, struct str s);
/* A value of a "-bin" field: base64 without padding. */
void grpc_put_bin(struct buf *out, struct str bytes);

/* "application/grpc", also with "+proto" or parameters; not grpc-web, not +json. */
bool grpc_content_type_ok(struct str s);

#endif
