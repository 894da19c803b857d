/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the HTTP server share beneath stream.h: the server, its connections, and the
 * doors of the two protocol engines. server.c owns connections and their clocks, h1.c and h2.c turn
 * bytes into streams, http.c and grpc.c take streams over. */
#ifndef LYMER_SERVE_ENGINE_H
#define LYMER_SERVE_ENGINE_H

#include "serve/stream.h"

#include <stdatomic.h>

#define NEVER_NS UINT64_MAX

struct hconn;

/* A protocol on a connection. All on its loop. */
struct hconn_ops {
    size_t (*read)(struct hconn *h, struct str in);
    void (*turn)(struct hconn *h);
    void (*drained)(struct hconn *h);
    void (*eof)(struct hconn *h);
    /* The server drains: finish what runs, then close. */
    void (*drain)(struct hconn *h);
    /* Acts on what is overdue (may close) and answers when to look again. */
    uint64_t (*expire)(struct hconn *h, uint64_t now_ns);
    /* The connection is gone: close streams, free the engine's state. */
    void (*closed)(struct hconn *h);
};

struct server_loop {
    struct http_server *server;
    struct loop *loop;
    struct hconn *conns;
    struct listener **listeners; /* one a door */
    struct loop_msg drain;
    uint64_t date_s; /* of the cached text */
    char date[32];
};

struct hconn {
    const struct hconn_ops *ops;
    void *engine; /* the protocol's state */
    struct conn *conn;
    struct server_loop *home;
    const struct http_door *door;
    struct hconn *prev, *next;
    struct timer timer;
    bool writing; /* counted as busy: output is on its way */
    uint8_t peer_len;
    char peer[];
};

/* What a listener gets as its argument. */
struct server_door {
    struct http_server *server;
    const struct http_door *door;
    uint16_t port; /* the real one */
};

struct http_server {
    struct http_limits limits;
    struct work_pool *pool;
    const struct http_door *doors;
    size_t door_count, loop_count;
    struct server_loop *homes;  /* one a loop */
    struct server_door *opened; /* one a door */
    _Atomic(size_t) inflight_bytes;
    _Atomic(size_t) busy;
    _Atomic(uint32_t) conns;
    _Atomic(bool) draining;
};

/* A connection of a door, on the loop's thread. Takes fd. */
void server_accept(struct http_server *s, struct loop *l, const struct http_door *door, int fd,
                   struct str peer);

/* --- connections, for the engines --- */

/* Writes and counts the connection as busy until drained. False: past the cap, close. */
MUST_CHECK bool hconn_write(struct hconn *h, struct str data);
/* Looks at the clock (ops->expire) at_ns at the latest. */
void hconn_arm(struct hconn *h, uint64_t at_ns);
struct str hconn_peer(const struct hconn *h);
/* "Sun, 06 Nov 1994 08:49:37 GMT", made once a second. */
struct str server_date(struct server_loop *home);
void server_busy(struct http_server *s, bool more);

extern const struct hconn_ops h1_ops, h2_ops;
void h1_open(struct hconn *h);
void h2_open(struct hconn *h);

/* --- streams, for the engines --- */

struct stream_engine {
    void (*head)(struct stream *s, int status, const struct http_header *headers, size_t count,
                 bool end);
    void (*send)(struct stream *s, struct str data, bool end);
    void (*trailers)(struct stream *s, const struct http_header *headers, size_t count);
    void (*reset)(struct stream *s, uint32_t h2_code);
    size_t (*queued)(const struct stream *s);
    void (*consumed)(struct stream *s, size_t n);
};

/* A request to fill: method, path, query, authority are set with request_line, fields added one by
 * one; all is copied. */
struct http_req *request_new(struct hconn *h);
MUST_CHECK bool request_line(struct http_req *r, struct str method, struct str path,
                             struct str query, struct str authority);
/* False: more than HTTP_HEADERS_MAX fields or HTTP_HEADER_BYTES_MAX bytes. */
MUST_CHECK bool request_field(struct http_req *r, struct str name, struct str value);
/* The head is complete: http.c decides who takes the stream. */
void stream_open(struct stream *s);
/* A whole answer with a sentence, counted by its status, from engine or taker; the sink hears
 * `closed` only. */
void stream_refuse(struct stream *s, int status, const char *text);
void refused_count(int status);
const char *status_text(int status);
/* Tells the taker that output drained, when it is owed. */
void stream_drained(struct stream *s);

#endif
