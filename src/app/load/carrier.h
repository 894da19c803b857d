/* SPDX-License-Identifier: Apache-2.0 */
/* A carrier takes export requests to one server and brings the answers. Two kinds: gRPC with
 * several requests in flight, HTTP/1.1 with one. Used by one thread. */
#ifndef LYMER_APP_LOAD_CARRIER_H
#define LYMER_APP_LOAD_CARRIER_H

#include "app/client.h"
#include "base/zip.h"

#define CARRIER_JOBS 4u /* requests in flight on a gRPC carrier */

/* A request until it is answered. */
struct carrier_job {
    struct buf body; /* as it goes over the wire, compressed */
    uint32_t span_count;
    unsigned tries;
    uint64_t due_ns;  /* not before, monotonic */
    uint64_t sent_ns; /* when it was sent last */
    enum { JOB_FREE, JOB_WAITING, JOB_SENT } state;
    /* the carrier's own */
    int32_t stream;
    size_t sent;
    int http_status, grpc_status;
    struct buf answer;
    char said[200];
    uint64_t retry_ms;
};

struct carrier_answer {
    enum { CARRIER_TAKEN, CARRIER_REFUSED, CARRIER_RETRY } kind;
    uint64_t rejected; /* of a taken request */
    uint64_t retry_ms; /* 0: the server did not say */
    const char *why;
};

struct carrier;
typedef void carrier_answered(void *arg, struct carrier_job *job, const struct carrier_answer *a);

struct carrier_config {
    struct client_url url;
    bool json;
    enum zip_kind zip;
    uint64_t timeout_ns;
    carrier_answered *answered;
    void *arg;
};

struct carrier_ops {
    unsigned jobs; /* in flight at most */
    enum errc (*open)(struct carrier *l, struct err *e);
    /* The connection is up and takes a job; E_UNAVAILABLE when it broke. */
    enum errc (*send)(struct carrier *l, struct carrier_job *job, struct err *e);
    /* Moves bytes, waiting at most wait_ms; calls answered(). E_UNAVAILABLE when the connection
     * broke. */
    enum errc (*pump)(struct carrier *l, int wait_ms, struct err *e);
    void (*close)(struct carrier *l); /* may be opened again */
    void (*free)(struct carrier *l);
};

struct carrier {
    const struct carrier_ops *ops;
    struct carrier_config config;
};

struct carrier *grpc_carrier_new(const struct carrier_config *c);
struct carrier *http_carrier_new(const struct carrier_config *c);

#endif
