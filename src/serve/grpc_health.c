/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.health.v1. The server as a whole ("") and every service of the door that is served are
 * SERVING until drain, then NOT_SERVING: watchers are told and their calls ended, since a watch
 * has no other end. */
#include "serve/grpc.h"

#include "base/pb.h"

enum serving { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3 };

enum { STATUS_INVALID_ARGUMENT = 3, STATUS_NOT_FOUND = 5, STATUS_UNAVAILABLE = 14 };

#define HEALTH_LIST_MAX (64 * KIB)

static enum serving now(const struct grpc_call *c)
{
    return grpc_draining(c) ? NOT_SERVING : SERVING;
}

static enum serving state_of(const struct grpc_call *c, struct str service)
{
    if (!service.n)
        return now(c);
    for (const struct grpc_service *const *s = c->door->services; *s; s++)
        if (!(*s)->absent && str_eq_c(service, (*s)->name))
            return now(c);
    return SERVICE_UNKNOWN;
}

/* HealthCheckRequest.service; false when the call was ended because the message is damaged. */
static bool read_service(struct grpc_call *c, struct str msg, struct str *service)
{
    struct pb in = pb_init(msg);
    struct pb_field f;
    *service = STR_NONE;
    while (pb_next(&in, &f))
        if (f.tag == PB_TAG(1, PB_LEN))
            *service = f.bytes;
    if (in.why)
        grpc_finish(c, STATUS_INVALID_ARGUMENT, STR("damaged message"), STR_NONE);
    return !in.why;
}

/* HealthCheckResponse */
static struct str response(char out[2], enum serving s)
{
    out[0] = PB_TAG(1, PB_VARINT);
    out[1] = (char)s;
    return str_of(out, 2);
}

static void check(struct grpc_call *c, struct str msg)
{
    struct str service;
    char out[2];
    if (!read_service(c, msg, &service))
        return;
    enum serving s = state_of(c, service);
    if (s == SERVICE_UNKNOWN)
        grpc_finish(c, STATUS_NOT_FOUND, STR("unknown service"), STR_NONE);
    else
        grpc_reply(c, response(out, s));
}

static void watch(struct grpc_call *c, struct str msg)
{
    struct str service;
    char out[2];
    if (!read_service(c, msg, &service))
        return;
    grpc_send(c, response(out, state_of(c, service)));
    c->state = service.n && state_of(c, service) == SERVICE_UNKNOWN ? NULL : c;
    if (grpc_draining(c))
        grpc_finish(c, STATUS_UNAVAILABLE, STR("the server is shutting down"), STR_NONE);
}

static void watch_drain(struct grpc_call *c)
{
    char out[2];
    if (!grpc_draining(c)) {
        grpc_finish(c, STATUS_UNAVAILABLE, STR("the client has closed its side"), STR_NONE);
        return;
    }
    if (c->state) /* a service we know */
        grpc_send(c, response(out, NOT_SERVING));
    grpc_finish(c, STATUS_UNAVAILABLE, STR("the server is shutting down"), STR_NONE);
}

static void watch_cancelled(struct grpc_call *c)
{
    grpc_finish(c, STATUS_UNAVAILABLE, STR_NONE, STR_NONE);
}

static void put_status(struct buf *out, const char *service, enum serving s)
{
    char value[2];
    size_t entry = pb_open(out, PB_TAG(1, PB_LEN), 1);
    pb_put_bytes(out, PB_TAG(1, PB_LEN), str_from_c(service));
    pb_put_bytes(out, PB_TAG(2, PB_LEN), response(value, s));
    pb_close(out, entry, 1);
}

static void list(struct grpc_call *c, struct str msg)
{
    (void)msg; /* HealthListRequest has no fields */
    struct buf out = buf_init(HEALTH_LIST_MAX);
    put_status(&out, "", now(c));
    for (const struct grpc_service *const *s = c->door->services; *s; s++)
        if (!(*s)->absent)
            put_status(&out, (*s)->name, now(c));
    ensure(!out.failed); /* our own names */
    grpc_reply(c, buf_str(&out));
    buf_fini(&out);
}

static const struct grpc_method methods[] = {
    {.name = "Check", .message = check},
    {.name = "List", .message = list},
    {.name = "Watch",
     .server_stream = true,
     .message = watch,
     .cancelled = watch_cancelled,
     .drain = watch_drain},
};

const struct grpc_service grpc_health_service = {
    .name = "grpc.health.v1.Health",
    .methods = methods,
    .method_count = ARRAY_LEN(methods),
};
