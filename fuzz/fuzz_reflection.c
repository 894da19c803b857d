/* SPDX-License-Identifier: Apache-2.0 */
/* Any request gets a well-formed answer that repeats it, or is refused. */
#include "base/pb.h"
#include "serve/reflection.h"

static const struct grpc_service health = {.name = "grpc.health.v1.Health"};
static const struct grpc_service *const services[] = {&health, NULL};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > REFLECTION_REQUEST_MAX)
        return 0;
    struct buf out = buf_init(REFLECTION_ANSWER_MAX);
    enum errc code = reflection_answer(str_of(data, size), services, &out);
    ensure(code == E_OK || code == E_INVALID);
    if (code == E_OK) {
        struct pb in = pb_init(buf_str(&out));
        struct pb_field f;
        unsigned answers = 0;
        while (pb_next(&in, &f)) {
            if (f.tag == PB_TAG(2, PB_LEN))
                ensure(str_eq(f.bytes, str_of(data, size)));
            answers += f.tag >> 3 >= 4;
        }
        ensure(!in.why && answers == 1);
    }
    buf_fini(&out);
    return 0;
}
