/* SPDX-License-Identifier: Apache-2.0 */
/* Every request gets one response that repeats it; what is not found is an error_response, not the
 * end of the stream. A file is answered with all it imports. */
#include "serve/reflection.h"

#include "base/pb.h"
#include "serve/descriptors.h"

enum { STATUS_NOT_FOUND = 5 };

enum ask { /* the field of the oneof message_request */
           ASK_NOTHING = 0,
           ASK_FILE = 3,
           ASK_SYMBOL = 4,
           ASK_EXTENSION = 5,
           ASK_EXTENSION_NUMBERS = 6,
           ASK_SERVICES = 7
};

struct request {
    struct str raw, host, value;
    enum ask ask;
};

static bool read_request(struct str msg, struct request *r)
{
    struct pb in = pb_init(msg);
    struct pb_field f;
    *r = (struct request){.raw = msg};
    while (pb_next(&in, &f)) {
        uint32_t number = f.tag >> 3;
        if (f.tag == PB_TAG(1, PB_LEN)) {
            r->host = f.bytes;
        } else if ((f.tag & 7) == PB_LEN && number >= ASK_FILE && number <= ASK_SERVICES) {
            r->ask = (enum ask)number; /* the last one of a oneof holds */
            r->value = f.bytes;
        }
    }
    return !in.why;
}

static void put_file(void *arg, const struct desc_file *f)
{
    struct buf *out = arg;
    size_t mark = pb_open(out, PB_TAG(1, PB_LEN), 2);
    desc_encode(f, out);
    pb_close(out, mark, 2);
}

static void put_error(struct buf *out, const char *what)
{
    size_t mark = pb_open(out, PB_TAG(7, PB_LEN), 1);
    pb_put_varint(out, PB_TAG(1, PB_VARINT), STATUS_NOT_FOUND);
    pb_put_bytes(out, PB_TAG(2, PB_LEN), str_from_c(what));
    pb_close(out, mark, 1);
}

static void put_files(struct buf *out, const struct desc_file *f, const char *missing)
{
    if (!f) {
        put_error(out, missing);
        return;
    }
    size_t mark = pb_open(out, PB_TAG(4, PB_LEN), 2);
    desc_each_needed(f, put_file, out);
    pb_close(out, mark, 2);
}

/* No message of ours has extensions; asking for those of a message we have is answered so. */
static void put_extension_numbers(struct buf *out, struct str type)
{
    if (!desc_is_message(type)) {
        put_error(out, "unknown message type");
        return;
    }
    size_t mark = pb_open(out, PB_TAG(5, PB_LEN), 1);
    pb_put_bytes(out, PB_TAG(1, PB_LEN), type);
    pb_close(out, mark, 1);
}

/* The door's services that are served and described. */
static void put_services(struct buf *out, const struct grpc_service *const *services)
{
    size_t mark = pb_open(out, PB_TAG(6, PB_LEN), 2);
    for (const struct grpc_service *const *s = services; *s; s++) {
        if ((*s)->absent || !desc_by_symbol(str_from_c((*s)->name)))
            continue;
        size_t service = pb_open(out, PB_TAG(1, PB_LEN), 1);
        pb_put_bytes(out, PB_TAG(1, PB_LEN), str_from_c((*s)->name));
        pb_close(out, service, 1);
    }
    pb_close(out, mark, 2);
}

enum errc reflection_answer(struct str msg, const struct grpc_service *const *services,
                            struct buf *out)
{
    struct request r;
    if (!read_request(msg, &r) || r.ask == ASK_NOTHING)
        return E_INVALID;
    pb_put_bytes(out, PB_TAG(1, PB_LEN), r.host);
    pb_put_bytes(out, PB_TAG(2, PB_LEN), r.raw);
    switch (r.ask) {
    case ASK_FILE:
        put_files(out, desc_by_path(r.value), "unknown file");
        break;
    case ASK_SYMBOL:
        put_files(out, desc_by_symbol(r.value), "unknown symbol");
        break;
    case ASK_EXTENSION_NUMBERS:
        put_extension_numbers(out, r.value);
        break;
    case ASK_SERVICES:
        put_services(out, services);
        break;
    default:
        put_error(out, "unknown extension");
        break;
    }
    return buf_err(out);
}
