/* SPDX-License-Identifier: Apache-2.0 */
/* A blocking HTTP/1.1 client for the command line and the generator: plain http, one connection
 * kept alive, every answer bounded. Why not libcurl: docs/adr/005-outgoing-http.md. */
#ifndef LYMER_APP_CLIENT_H
#define LYMER_APP_CLIENT_H

#include "base/buf.h"

#define CLIENT_HEAD_MAX   (64 * KIB)
#define CLIENT_READ_BYTES (64 * KIB)

struct client_url {
    char host[256];
    uint16_t port;
    char path[1024]; /* begins with '/', or empty */
    bool grpc;       /* grpc://host:port */
};

/* "http://host:port/path", "grpc://host:port", "[::1]" as host. E_USAGE with a sentence. */
MUST_CHECK enum errc client_url_parse(const char *text, uint16_t default_port,
                                      struct client_url *out, struct err *e);
/* A connected, blocking TCP socket. E_UNAVAILABLE names host and port. */
MUST_CHECK enum errc client_connect(const struct client_url *u, uint64_t timeout_ns, int *fd,
                                    struct err *e);

struct client {
    struct client_url url;
    uint64_t timeout_ns; /* without progress */
    int fd;              /* -1: not connected */
    struct buf in;       /* what was read behind the last answer */
    bool keep;
};

struct client_answer {
    int status;
    char type[128];          /* Content-Type */
    uint64_t retry_after_ms; /* 0: none said */
    struct buf body;         /* unless a sink took it */
};

/* Takes a piece of the body; false stops reading (E_CANCELLED). */
typedef bool client_sink(void *arg, struct str piece);

MUST_CHECK enum errc client_init(struct client *c, const char *url, uint64_t timeout_ns,
                                 struct err *e);
void client_fini(struct client *c);

/* headers: lines ending in "\r\n", may be "". The path comes behind the URL's own. A connection
 * that the server closed between two calls is opened again. With a sink a 2xx body goes there,
 * else, and for other statuses, into out->body (up to body_max). out is initialised here; fini it
 * always. */
MUST_CHECK enum errc client_call(struct client *c, const char *method, const char *path,
                                 const char *headers, struct str body, size_t body_max,
                                 client_sink *sink, void *arg, struct client_answer *out,
                                 struct err *e);
void client_answer_fini(struct client_answer *a);

/* Appends s percent-encoded for a query or path segment. */
void client_add_encoded(struct buf *out, struct str s);

#endif
