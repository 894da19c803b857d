/* SPDX-License-Identifier: Apache-2.0 */
/* OTLP over HTTP/1.1. The call itself is made in pump(), so that the next request is generated
 * while the server works only as far as the socket buffers reach; workers add the rest. */
#include "app/load/carrier.h"

#include "codec/otlp.h"

#include <stdio.h>
#include <stdlib.h>

struct http_carrier {
    struct carrier carrier;
    struct client client;
    struct carrier_job *job;
    char headers[256];
};

static enum errc http_open(struct carrier *l, struct err *e)
{
    struct http_carrier *h = (struct http_carrier *)l;
    return h->client.fd >= 0
               ? E_OK
               : client_connect(&h->client.url, h->client.timeout_ns, &h->client.fd, e);
}

static enum errc http_send(struct carrier *l, struct carrier_job *job, struct err *e)
{
    struct http_carrier *h = (struct http_carrier *)l;
    (void)e;
    ensure(!h->job);
    h->job = job;
    return E_OK;
}

static uint64_t rejected_of(const struct http_carrier *h, const struct buf *body)
{
    uint64_t rejected = 0;
    struct str message;
    if (!h->carrier.config.json) {
        if (otlp_decode_response(buf_str(body), &rejected, &message))
            return 0;
        return rejected;
    }
    static const char key[] = "\"rejectedSpans\":\"";
    const char *at = body->n ? memmem(body->p, body->n, key, sizeof key - 1) : NULL;
    for (at = at ? at + sizeof key - 1 : NULL; at && at < body->p + body->n; at++) {
        if (*at < '0' || *at > '9')
            break;
        rejected = rejected * 10 + (uint64_t)(*at - '0');
    }
    return rejected;
}

static enum errc http_pump(struct carrier *l, int wait_ms, struct err *e)
{
    struct http_carrier *h = (struct http_carrier *)l;
    struct carrier_job *job = h->job;
    struct client_answer answer;
    (void)wait_ms;
    if (!job)
        return E_OK;
    h->job = NULL;
    enum errc code = client_call(&h->client, "POST", "", h->headers, buf_str(&job->body), MIB, NULL,
                                 NULL, &answer, e);
    if (!code) {
        int s = answer.status;
        struct carrier_answer a = {.retry_ms = answer.retry_after_ms, .why = job->said};
        snprintf(job->said, sizeof job->said, "HTTP %d", s);
        a.kind = s / 100 == 2                                   ? CARRIER_TAKEN
                 : s == 429 || s == 502 || s == 503 || s == 504 ? CARRIER_RETRY
                                                                : CARRIER_REFUSED;
        if (a.kind == CARRIER_TAKEN)
            a.rejected = rejected_of(h, &answer.body);
        l->config.answered(l->config.arg, job, &a);
    }
    client_answer_fini(&answer);
    return code;
}

static void http_close(struct carrier *l)
{
    struct http_carrier *h = (struct http_carrier *)l;
    h->job = NULL;
    struct client_url url = h->client.url;
    uint64_t timeout_ns = h->client.timeout_ns;
    client_fini(&h->client);
    h->client = (struct client){.url = url, .timeout_ns = timeout_ns, .fd = -1};
    h->client.in = buf_init(CLIENT_HEAD_MAX + CLIENT_READ_BYTES);
}

static void http_free(struct carrier *l)
{
    struct http_carrier *h = (struct http_carrier *)l;
    client_fini(&h->client);
    free(h);
}

static const struct carrier_ops http_ops = {1,         http_open,  http_send,
                                            http_pump, http_close, http_free};

struct carrier *http_carrier_new(const struct carrier_config *c)
{
    struct http_carrier *h = xcalloc(1, sizeof *h);
    h->carrier = (struct carrier){&http_ops, *c};
    h->client = (struct client){.url = c->url, .timeout_ns = c->timeout_ns, .fd = -1};
    h->client.in = buf_init(CLIENT_HEAD_MAX + CLIENT_READ_BYTES);
    int n = snprintf(h->headers, sizeof h->headers, "Content-Type: application/%s\r\n",
                     c->json ? "json" : "x-protobuf");
    if (c->zip != ZIP_NONE)
        snprintf(h->headers + n, sizeof h->headers - (size_t)n, "Content-Encoding: %s\r\n",
                 zip_name(c->zip));
    return &h->carrier;
}
