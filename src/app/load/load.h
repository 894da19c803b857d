/* SPDX-License-Identifier: Apache-2.0 */
/* Sends generated traces to a server from several threads and counts what it said. */
#ifndef LYMER_APP_LOAD_LOAD_H
#define LYMER_APP_LOAD_LOAD_H

#include "app/load/carrier.h"
#include "app/load/spans.h"

#define LOAD_WORKERS_MAX 64u

struct load_config {
    struct spans_config spans;
    struct client_url endpoint;
    bool json;
    enum zip_kind zip;
    uint64_t traces;
    uint64_t rate; /* spans a second over all workers; 0: as fast as it goes */
    unsigned workers;
    uint64_t give_up_ns; /* a request that nobody takes for so long is given up */
};

/* Acknowledgement times: sixteen buckets for each doubling of a microsecond. */
#define ACK_BUCKETS 512u

struct load_result {
    uint32_t acks[ACK_BUCKETS]; /* requests taken, by how long that took */
    uint64_t traces, sent, accepted, rejected, requests, retries, bytes, ns;
    bool gave_up; /* `why` says what happened */
    char why[ERR_MSG_MAX];
};

/* The time within which this share of the requests was taken, rounded up by a sixteenth at most. */
double load_ack_ms(const struct load_result *r, double share);

void load_run(const struct load_config *c, struct load_result *out);

#endif
