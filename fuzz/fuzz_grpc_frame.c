/* SPDX-License-Identifier: Apache-2.0 */
/* The same bytes in one piece and in pieces give the same messages; nothing passes the limit. The
 * first byte seeds the split. */
#include "base/hash.h"
#include "serve/grpc_wire.h"

#include <stdlib.h>

#define LIMIT 4096u

struct seen {
    uint64_t hash;
    unsigned messages;
    enum grpc_read last;
    bool idle;
};

static struct seen read_all(struct str wire, uint64_t seed)
{
    struct grpc_reader r = {.body = buf_init(LIMIT)};
    struct seen s = {.last = GRPC_READ_MORE};
    while (wire.n && s.last <= GRPC_READ_MESSAGE) {
        struct str part = str_take(wire, seed ? 1 + (seed = hash_u64(seed, 1)) % 64 : wire.n);
        wire = str_skip(wire, part.n);
        while (part.n && s.last <= GRPC_READ_MESSAGE) {
            s.last = grpc_reader_take(&r, &part);
            ensure(r.body.n <= LIMIT);
            if (s.last != GRPC_READ_MESSAGE)
                continue;
            ensure(r.body.n == r.length);
            s.hash = hash_str(buf_str(&r.body), s.hash + grpc_reader_compressed(&r));
            s.messages++;
            grpc_reader_next(&r);
        }
    }
    s.idle = grpc_reader_idle(&r);
    buf_fini(&r.body);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    struct str wire = str_of(data + 1, size - 1);
    struct seen whole = read_all(wire, 0), split = read_all(wire, data[0] + 1u);
    ensure(whole.hash == split.hash && whole.messages == split.messages);
    ensure(whole.last == split.last && whole.idle == split.idle);
    uint64_t ns;
    if (grpc_timeout_get(wire, &ns))
        ensure(wire.n <= 9);
    struct buf text = buf_init(3 * size);
    grpc_put_percent(&text, wire);
    ensure(!text.failed);
    buf_fini(&text);
    return 0;
}
