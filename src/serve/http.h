/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP server of routes, the same for HTTP/1.1 and HTTP/2 without TLS (h2c by prior
 * knowledge; the first bytes of a connection tell which). gRPC (serve/grpc.h) rides on the same
 * HTTP/2 connections.
 *
 * A handler runs when the whole request body has arrived and been decompressed. It answers at once,
 * or keeps the request and answers later from any thread; exactly one http_reply or http_start …
 * http_end. A request lives until then. If the client goes away in between, writes answer false and
 * http_end still has to be called. */
#ifndef LYMER_SERVE_HTTP_H
#define LYMER_SERVE_HTTP_H

#include "base/arena.h"
#include "base/buf.h"
#include "net/loop.h"

#define HTTP_PARAMS_MAX       4
#define HTTP_HEADERS_MAX      100u
#define HTTP_HEADER_BYTES_MAX (64 * KIB)
#define HTTP_TARGET_MAX       (32 * KIB)

struct http_header {
    struct str name, value; /* names in lower case */
};

struct http_req {
    struct str method, path, query; /* path without query, still percent-encoded */
    struct str authority, peer;
    const struct http_header *headers;
    uint32_t header_count;
    struct str body;                    /* decompressed */
    struct str params[HTTP_PARAMS_MAX]; /* what the route's {…} matched, percent-decoded */
    struct arena arena;                 /* the handler's scratch, freed with the request */
    void *arg;                          /* the route's */
};

typedef void http_handler(struct http_req *r);

/* How a door words what HTTP itself refuses (a body too large, broken compression, no room): fills
 * body and answers its content type; NULL: the sentence goes out as plain text. retry_ms: when the
 * client may come again, 0: never with this request. */
typedef const char *http_wording(const struct http_req *r, int status, struct str sentence,
                                 uint64_t retry_ms, struct buf *body);

enum http_where {
    HTTP_ON_LOOP, /* short and never blocking */
    HTTP_ON_POOL, /* in the worker pool: may read the store, may wait in http_write */
};

/* path: literal segments and {name} for one segment; a last {name...} takes the rest. More specific
 * rows first. method "*" takes any. */
struct http_route {
    const char *method, *path;
    http_handler *fn;
    enum http_where where;
};

struct http_limits {
    size_t body_max_bytes;     /* before and after decompression */
    size_t inflight_max_bytes; /* bodies held by the whole process: past it 503 */
    uint32_t conns_max;
    uint64_t header_timeout_ns; /* for a whole request head */
    uint64_t body_timeout_ns;   /* without progress */
    uint64_t idle_timeout_ns;   /* between requests */
    uint64_t write_timeout_ns;  /* peer takes nothing */
};

struct http_limits http_limits_default(void);

struct work_pool;

/* A door: an address, a port, routes, perhaps gRPC services, CORS. Tables are borrowed for the
 * server's life. */
struct grpc_service;
struct http_door {
    const char *name; /* "otlp-http": for logs and errors */
    const char *flag; /* the flag that moves it: for the error when the port is taken */
    const char *addr;
    uint16_t port;
    const struct http_route *routes;
    size_t route_count;
    const struct grpc_service *const *services; /* NULL-terminated, or NULL */
    void *arg;                /* goes to handlers as r->arg, to gRPC methods as call->arg */
    bool grpc_only;           /* HTTP requests get 415 */
    const char *cors_origins; /* "*", a comma list, or NULL: no CORS */
    http_handler *fallback;   /* no route matched; NULL: 404 text */
    http_wording *wording;    /* NULL: plain text */
    /* Header fields added to every answer, "name: value" lines, or NULL. */
    const char *const *extra_headers;
};

struct http_server;
/* All doors on all loops. E_EXISTS names the port and the flag. The pool runs HTTP_ON_POOL
 * handlers. */
MUST_CHECK enum errc http_server_open(struct http_server **out, struct loop *const *loops,
                                      size_t loop_count, const struct http_door *doors,
                                      size_t door_count, struct work_pool *pool,
                                      const struct http_limits *limits, struct err *e);
/* Stops accepting, sends GOAWAY / Connection: close, lets running requests finish. Any thread. */
void http_server_drain(struct http_server *s);
/* Requests still running and connections with output on its way. */
size_t http_server_busy(struct http_server *s);
void http_server_close(struct http_server *s); /* after the loops have ended */
uint16_t http_server_port(const struct http_server *s,
                          size_t door); /* the real one when 0 was asked */

/* --- requests --- */

struct str http_header(const struct http_req *r, struct str lower_name); /* STR_NONE when absent */
/* The query parameter, percent- and plus-decoded (in r->arena); false when absent (a malformed
 * escape counts as absent). *at walks repeated ones: start at 0. */
bool http_param(struct http_req *r, struct str name, size_t *at, struct str *value);
/* STR_NONE for malformed escapes, and past the arena's cap. */
struct str http_percent_decode(struct str s, bool plus_is_space, struct arena *a);

/* --- answers; from any thread --- */

/* The whole answer. ctype and body are copied. Compresses when the client takes it and it pays. */
void http_reply(struct http_req *r, int status, const char *ctype, struct str body);
/* Sets a header of the answer to come, before http_reply / http_start. Copied. */
void http_set_header(struct http_req *r, const char *name, struct str value);
/* "text/plain" with the sentence and a newline. */
void http_reply_text(struct http_req *r, int status, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* A streamed answer, only from the pool: http_write waits while the peer is slow. False: the client
 * is gone. */
void http_start(struct http_req *r, int status, const char *ctype);
MUST_CHECK bool http_write(struct http_req *r, struct str data);
/* ok=false breaks the stream off so that the client can tell. */
void http_end(struct http_req *r, bool ok);

#endif
