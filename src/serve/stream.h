/* SPDX-License-Identifier: Apache-2.0 */
/* One request and its answer, whatever the protocol version: the private door between the protocol
 * engines (http1, h2) and what takes requests over (http.c, grpc.c).
 *
 * Everything here runs on the loop that owns the connection. Another thread keeps a struct loop_msg
 * in its own object, posts it to the stream's loop and looks there whether the stream still lives:
 * `closed` is the moment to forget the pointer.
 *
 *   engine parses a head, makes the stream and its request → the taker's *_open(s) sets s->sink
 *   → sink->data … sink->end   (the taker calls stream_consumed as it takes the bytes)
 *   ← stream_head, stream_send …, stream_trailers or end=true: the answer; may begin and end before
 *     the request did: the engine then tells the peer to stop and the sink gets no more data
 *   → sink->closed, exactly once, whatever happened; the stream is gone when it returns.
 *
 * Calls of the taker never call back into its sink before they return (closed included). */
#ifndef LYMER_SERVE_STREAM_H
#define LYMER_SERVE_STREAM_H

#include "serve/http.h"

/* Past HIGH queued bytes a taker stops sending; `drained` comes when they fell to LOW. */
#define STREAM_HIGH_BYTES (1 * MIB)
#define STREAM_LOW_BYTES  (256 * KIB)

struct stream;
struct stream_engine;

struct stream_sink {
    /* Bytes of the request body, as they come; a view until it returns. */
    void (*data)(struct stream *s, struct str chunk);
    /* The request is complete (trailers are dropped). */
    void (*end)(struct stream *s);
    /* Queued output fell to STREAM_LOW_BYTES after stream_send had answered false. May be NULL. */
    void (*drained)(struct stream *s);
    /* The server is draining, or the peer will say nothing more on the whole connection: end what
     * would otherwise never end (a watch). May be NULL. */
    void (*drain)(struct stream *s);
    /* Last call. answered: the whole answer was handed to the socket; else the peer reset the
     * stream, or the connection broke. */
    void (*closed)(struct stream *s, bool answered);
};

/* Embedded first in the engine's own stream. Takers read all and write sink and user. */
struct stream {
    const struct stream_engine *engine;
    const struct stream_sink *sink;
    void *user; /* the taker's */
    struct loop *loop;
    struct http_server *server;
    const struct http_door *door;
    /* Method, path, headers, peer. Owned by the taker from *_open on: it may outlive the stream and
     * ends with request_free. */
    struct http_req *req;
    uint64_t content_length; /* UINT64_MAX: not announced */
    bool http2;
    bool no_body;   /* end of the request came with its head; sink->end still follows */
    bool head_sent; /* by stream_head */
    bool ended;     /* the answer is complete or reset: nothing may be sent any more */
    bool high;      /* the engine owes a `drained` */
    bool patient;   /* set by the taker: the body may rest for long (a streaming call) */
};

/* --- the answer --- */

/* Names in lower case. Copied. end: no body and no trailers follow (gRPC: trailers-only). */
void stream_head(struct stream *s, int status, const struct http_header *headers, size_t count,
                 bool end);
/* Copies. Never refuses; false: STREAM_HIGH_BYTES are queued, wait for `drained` before more. */
bool stream_send(struct stream *s, struct str data, bool end);
/* Ends the answer with trailers (HTTP/2 only). */
void stream_trailers(struct stream *s, const struct http_header *headers, size_t count);
/* Breaks the stream off: RST_STREAM with this HTTP/2 error code; an HTTP/1 connection closes. */
void stream_reset(struct stream *s, uint32_t h2_code);
/* Bytes of the answer the socket has not taken yet. */
size_t stream_queued(const struct stream *s);

/* --- the request --- */

/* Opens the peer's flow-control window again by n bytes of data the taker is done with. What was
 * not consumed holds the peer back: a window is STREAM_WINDOW_BYTES. */
#define STREAM_WINDOW_BYTES (1 * MIB)
#define CONN_WINDOW_BYTES   (8 * MIB)
void stream_consumed(struct stream *s, size_t n);

/* Bodies held by the whole process. Any thread. False: past the limit, refuse with a retryable
 * answer. What was taken must be given back by whoever holds the bytes in the end. */
MUST_CHECK bool inflight_take(struct http_server *server, size_t bytes);
void inflight_give(struct http_server *server, size_t bytes);

const struct http_limits *server_limits(const struct http_server *server);
bool server_draining(const struct http_server *server);          /* any thread */
struct work_pool *server_pool(const struct http_server *server); /* NULL: there is none */

/* Frees a request and its arena. Any thread. Until then the server counts as busy. */
void request_free(struct http_req *r);

/* --- grpc.c's side --- */

/* Takes over a stream whose content-type starts with application/grpc, of a door with services, on
 * HTTP/2: sets s->sink before it returns (it may answer at once). http.c has counted the request in
 * REQUESTS_GRPC. */
void grpc_open(struct stream *s);

#endif
