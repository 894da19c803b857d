/* SPDX-License-Identifier: Apache-2.0 */
/* For the server's tests: a server in this process on a free port, and blocking clients that speak
 * HTTP/1.1 by text and HTTP/2 by hand-made frames, so that they can also speak it wrongly. */
#ifndef LYMER_TESTS_SERVE_CLIENT_H
#define LYMER_TESTS_SERVE_CLIENT_H

#include "base/buf.h"
#include "serve/http.h"
#include "serve/pool.h"

struct test_server {
    struct loop *loop;
    struct thread thread;
    struct work_pool *pool;
    struct http_server *server;
    struct http_door door;
    struct http_limits limits;
    size_t queue_max;
};

/* Set door, limits and queue_max before; routes of the tests' own are the default. */
struct test_server test_server_init(void);
void test_server_start(struct test_server *t);
void test_server_stop(struct test_server *t);
int test_dial(const struct test_server *t);

void send_all(int fd, struct str data);
void send_text(int fd, const char *text);
/* Appends until the text is in b; fails the test at the end of the stream. */
void read_until(int fd, struct buf *b, const char *text);
/* Appends to the end of the stream, or a reset (false). */
bool read_to_end(int fd, struct buf *b);
/* One HTTP/1 answer off the stream: its status; the body into b. */
int read_answer(int fd, struct buf *head, struct buf *body);
/* One request on a fresh connection: the status. */
int ask(const struct test_server *t, struct str request, struct buf *head, struct buf *body);

/* --- frames --- */

enum {
    F_DATA,
    F_HEADERS,
    F_PRIORITY,
    F_RST,
    F_SETTINGS,
    F_PUSH,
    F_PING,
    F_GOAWAY,
    F_WINDOW,
    F_CONT
};
#define END_STREAM  1
#define ACK         1
#define END_HEADERS 4

struct frame {
    uint32_t length, stream;
    uint8_t type, flags;
    uint8_t payload[32 * KIB];
};

/* Preface and empty SETTINGS. */
int h2_dial(const struct test_server *t);
void put_frame(struct buf *b, uint8_t type, uint8_t flags, uint32_t stream, struct str payload);
void send_frame(int fd, uint8_t type, uint8_t flags, uint32_t stream, struct str payload);
/* A literal field without indexing. */
void put_field(struct buf *b, const char *name, struct str value);
/* HEADERS of a whole head. */
void send_head(int fd, uint32_t stream, const char *method, const char *path, bool end);
/* False at the end of the stream. */
bool read_frame(int fd, struct frame *f);
/* Reads to a frame of this type (and stream, when not 0); SETTINGS and PING are acknowledged. False
 * at the end of the stream. */
bool read_frame_of(int fd, uint8_t type, uint32_t stream, struct frame *f);

#endif
