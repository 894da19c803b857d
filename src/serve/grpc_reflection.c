/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.reflection v1 and v1alpha: one stream, an answer a request. */
#include "serve/reflection.h"

#include "base/warm.h"

enum { STATUS_OK = 0, STATUS_INVALID_ARGUMENT = 3, STATUS_EXHAUSTED = 8, STATUS_UNAVAILABLE = 14 };

static void info_message(struct grpc_call *c, struct str msg)
{
    if (msg.n > REFLECTION_REQUEST_MAX) {
        grpc_finish(c, STATUS_EXHAUSTED, STR("the request is larger than the limit"), STR_NONE);
        return;
    }
    struct buf out = warm_take(REFLECTION_ANSWER_MAX);
    enum errc code = reflection_answer(msg, c->door->services, &out);
    ensure(code != E_TOO_BIG); /* our own files and one request */
    if (code)
        grpc_finish(c, STATUS_INVALID_ARGUMENT, STR("damaged or empty request"), STR_NONE);
    else
        grpc_send(c, buf_str(&out));
    warm_give(&out);
}

static void info_end(struct grpc_call *c)
{
    grpc_finish(c, STATUS_OK, STR_NONE, STR_NONE);
}

static void info_stop(struct grpc_call *c)
{
    grpc_finish(c, STATUS_UNAVAILABLE, STR("the server is shutting down"), STR_NONE);
}

static const struct grpc_method methods[] = {
    {.name = "ServerReflectionInfo",
     .client_stream = true,
     .server_stream = true,
     .message = info_message,
     .end = info_end,
     .cancelled = info_stop,
     .drain = info_stop},
};

const struct grpc_service grpc_reflection_v1_service = {
    .name = "grpc.reflection.v1.ServerReflection",
    .methods = methods,
    .method_count = ARRAY_LEN(methods),
};

const struct grpc_service grpc_reflection_v1alpha_service = {
    .name = "grpc.reflection.v1alpha.ServerReflection",
    .methods = methods,
    .method_count = ARRAY_LEN(methods),
};
