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

struct load_result {
    uint64_t traces, sent, accepted, rejected, requests, retries, bytes, ns;
    bool gave_up; /* `why` says what happened */
    char why[ERR_MSG_MAX];
};

void load_run(const struct load_config *c, struct load_result *out);

#endif
