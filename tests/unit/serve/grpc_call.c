/* SPDX-License-Identifier: Apache-2.0 */
/* The call machine over a made-up protocol engine that writes down what it is told: races and back
 * pressure happen exactly when the test says so. */
#include "base/stats.h"
#include "base/zip.h"
#include "codec/otlp.h"
#include "serve/engine.h"
#include "serve/grpc.h"
#include "serve/grpc_wire.h"
#include "serve/pool.h"
#include "tests/harness.h"

#include <stdlib.h>

#define SMALL_MAX (64 * KIB) /* the test server's limit of a message */

/* --- the made-up engine --- */

struct fake {
    struct stream s; /* first */
    struct buf said; /* "H200 grpc-status=0.", "D5 ", "T grpc-status=0." */
    size_t queued, consumed, given;
};

static void say_headers(struct fake *f, const struct http_header *h, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!str_eq(h[i].name, STR("content-type")))
            buf_addf(&f->said, "%.*s=%.*s.", STR_ARG(h[i].name), STR_ARG(h[i].value));
}

static void fake_head(struct stream *s, int status, const struct http_header *h, size_t n, bool end)
{
    struct fake *f = (struct fake *)s;
    buf_addf(&f->said, "H%d ", status);
    say_headers(f, h, n);
    if (end)
        buf_add_c(&f->said, "end");
    loop_stop(s->loop);
}

static void fake_send(struct stream *s, struct str data, bool end)
{
    struct fake *f = (struct fake *)s;
    CHECK(!end);
    buf_addf(&f->said, "D%zu ", data.n);
    f->queued += data.n;
}

static void fake_trailers(struct stream *s, const struct http_header *h, size_t n)
{
    struct fake *f = (struct fake *)s;
    buf_add_c(&f->said, "T ");
    say_headers(f, h, n);
}

static void fake_reset(struct stream *s, uint32_t code)
{
    buf_addf(&((struct fake *)s)->said, "R%u", code);
}

static size_t fake_queued(const struct stream *s)
{
    return ((const struct fake *)s)->queued;
}

static void fake_consumed(struct stream *s, size_t n)
{
    struct fake *f = (struct fake *)s;
    f->consumed += n;
    CHECK(f->consumed <= f->given);
}

static const struct stream_engine fake_engine = {.head = fake_head,
                                                 .send = fake_send,
                                                 .trailers = fake_trailers,
                                                 .reset = fake_reset,
                                                 .queued = fake_queued,
                                                 .consumed = fake_consumed};

/* --- methods that do what the test says --- */

static struct grpc_call *held; /* the last call that was given a message and not answered */
static struct buf heard;       /* "m:text ", "end ", "cancelled " */
static bool answer_at_once;
static struct loop *loop;

static void unary_message(struct grpc_call *c, struct str msg)
{
    buf_addf(&heard, "m:%.*s ", STR_ARG(str_take(msg, 20)));
    if (answer_at_once)
        grpc_reply(c, msg);
    else
        held = c;
}

static void cancelled(struct grpc_call *c)
{
    buf_add_c(&heard, "cancelled ");
    CHECK(c == held);
}

static void chat_message(struct grpc_call *c, struct str msg)
{
    buf_addf(&heard, "m:%.*s ", STR_ARG(str_take(msg, 20)));
    held = c;
    if (str_eq(msg, STR("bye")))
        grpc_finish(c, 0, STR_NONE, STR_NONE);
    else
        grpc_send(c, msg);
}

static void chat_end(struct grpc_call *c)
{
    buf_add_c(&heard, "end ");
    grpc_finish(c, 0, STR_NONE, STR_NONE);
}

static void chat_drain(struct grpc_call *c)
{
    grpc_finish(c, 14, STR("bye"), STR_NONE);
}

static void pooled_message(struct grpc_call *c, struct str msg)
{
    grpc_finish(c, 0, STR("from the pool"), STR_NONE);
    (void)msg;
}

static const struct grpc_method methods[] = {
    {.name = "Unary", .message = unary_message, .cancelled = cancelled},
    {.name = "Chat",
     .client_stream = true,
     .server_stream = true,
     .message = chat_message,
     .end = chat_end,
     .cancelled = cancelled,
     .drain = chat_drain},
    {.name = "Pooled", .pooled = true, .message = pooled_message},
};
static const struct grpc_service service = {"t.S", methods, ARRAY_LEN(methods), NULL};
static const struct grpc_service absent = {"t.Gone", methods, ARRAY_LEN(methods), "not here"};
static const struct grpc_service *const services[] = {&service, &absent, NULL};

/* --- a world --- */

static struct http_server server;
static struct server_loop home;
static struct hconn *conn;
static struct http_door door;

static void setup(void)
{
    loop = loop_new();
    heard = buf_init(64 * KIB);
    server.limits = http_limits_default();
    server.limits.body_max_bytes = SMALL_MAX;
    home = (struct server_loop){.server = &server, .loop = loop};
    door = (struct http_door){.name = "test", .services = services};
    conn = calloc(1, sizeof *conn);
    conn->home = &home;
    conn->door = &door;
}

static void teardown(void)
{
    loop_settle(loop);
    loop_free(loop);
    free(conn);
    buf_fini(&heard);
    CHECK_INT(atomic_load(&server.inflight_bytes), 0);
    CHECK_INT(atomic_load(&server.busy), 0); /* every request and so every call was freed */
}

static struct fake *open_call(const char *path, const char *header, const char *value)
{
    struct fake *f = calloc(1, sizeof *f);
    f->said = buf_init(64 * KIB);
    f->s = (struct stream){.engine = &fake_engine,
                           .loop = loop,
                           .server = &server,
                           .door = &door,
                           .req = request_new(conn),
                           .content_length = UINT64_MAX,
                           .http2 = true};
    CHECK(request_line(f->s.req, STR("POST"), str_from_c(path), STR_NONE, STR("here")));
    if (!header || strcmp(header, "content-type") != 0)
        CHECK(request_field(f->s.req, STR("content-type"), STR("application/grpc")));
    if (header)
        CHECK(request_field(f->s.req, str_from_c(header), str_from_c(value)));
    grpc_open(&f->s);
    return f;
}

static void give(struct fake *f, struct str bytes)
{
    f->given += bytes.n;
    if (f->s.ended) /* the engine does not give more */
        f->consumed += bytes.n;
    else
        f->s.sink->data(&f->s, bytes);
}

static void give_message(struct fake *f, bool compressed, struct str msg)
{
    uint8_t prefix[GRPC_PREFIX_BYTES];
    grpc_put_prefix(prefix, compressed, (uint32_t)msg.n);
    give(f, str_of(prefix, sizeof prefix));
    if (msg.n)
        give(f, msg);
}

static void half_close(struct fake *f)
{
    if (!f->s.ended)
        f->s.sink->end(&f->s);
}

static void close_call(struct fake *f)
{
    f->s.sink->closed(&f->s, f->s.ended);
    buf_fini(&f->said);
    free(f);
}

static void check_said(struct fake *f, const char *want)
{
    CHECK_STR(buf_str(&f->said), str_from_c(want));
}

/* Opens, sends one message, half-closes and expects this answer. */
static void check_call(const char *path, const char *header, const char *value, bool compressed,
                       struct str msg, const char *want)
{
    struct fake *f = open_call(path, header, value);
    give_message(f, compressed, msg);
    half_close(f);
    check_said(f, want);
    CHECK_INT(f->consumed, f->given);
    close_call(f);
}

/* --- tests --- */

TEST(a_unary_call_is_answered_on_the_loop)
{
    setup();
    answer_at_once = true;
    check_call("/t.S/Unary", NULL, NULL, false, STR("hello"), "H200 D5 D5 T grpc-status=0.");
    check_call("/t.S/Unary", NULL, NULL, false, STR(""), "H200 D5 T grpc-status=0.");
    CHECK_STR(buf_str(&heard), STR("m:hello m: "));
    teardown();
}

TEST(the_message_waits_for_the_end_of_the_request)
{
    setup();
    struct fake *f = open_call("/t.S/Unary", NULL, NULL);
    give_message(f, false, STR("hello"));
    CHECK_INT(heard.n, 0);
    half_close(f);
    CHECK_STR(buf_str(&heard), STR("m:hello "));
    grpc_finish(held, 3, STR("50% \n"), STR("d"));
    check_said(f, "H200 grpc-status=3.grpc-message=50%25 %0A.grpc-status-details-bin=ZA.end");
    close_call(f);
    teardown();
}

static void *reply_from_elsewhere(void *arg)
{
    grpc_reply(arg, STR("from afar"));
    return NULL;
}

static void elsewhere(void *(*fn)(void *), void *arg)
{
    pthread_t t;
    CHECK(pthread_create(&t, NULL, fn, arg) == 0);
    CHECK(pthread_join(t, NULL) == 0);
}

TEST(answers_of_other_threads_come_through_the_loop)
{
    setup();
    struct fake *f = open_call("/t.S/Unary", NULL, NULL);
    give_message(f, false, STR("hello"));
    half_close(f);
    elsewhere(reply_from_elsewhere, held);
    check_said(f, "");
    loop_settle(loop);
    check_said(f, "H200 D5 D9 T grpc-status=0.");
    close_call(f);
    teardown();
}

TEST(an_answer_after_the_client_left_goes_nowhere)
{
    setup();
    struct fake *f = open_call("/t.S/Unary", NULL, NULL);
    give_message(f, false, STR("hello"));
    half_close(f);
    close_call(f);
    CHECK_STR(buf_str(&heard), STR("m:hello cancelled "));
    CHECK_INT(stat_get(STAT_CALLS_CANCELLED), 1);
    CHECK_INT(atomic_load(&server.busy), 1); /* the method still has it */
    elsewhere(reply_from_elsewhere, held);
    loop_settle(loop);
    teardown();
}

TEST(an_answer_under_way_when_the_client_leaves_goes_nowhere)
{
    setup();
    struct fake *f = open_call("/t.S/Unary", NULL, NULL);
    give_message(f, false, STR("hello"));
    half_close(f);
    elsewhere(reply_from_elsewhere, held);
    close_call(f);
    teardown();
}

TEST(a_client_that_leaves_early_costs_nothing)
{
    setup();
    close_call(open_call("/t.S/Unary", NULL, NULL));
    struct fake *f = open_call("/t.S/Unary", NULL, NULL);
    give(f, STR("\0\0\0\0\5he"));
    close_call(f);
    CHECK_INT(heard.n, 0);
    teardown();
}

TEST(one_message_methods_refuse_none_two_and_a_half)
{
    setup();
    struct fake *f = open_call("/t.S/Unary", NULL, NULL);
    half_close(f);
    check_said(f, "H200 grpc-status=13.grpc-message=the request holds no message.end");
    close_call(f);
    f = open_call("/t.S/Unary", NULL, NULL);
    give(f, STR("\0\0\0\0\5he"));
    half_close(f);
    check_said(f, "H200 grpc-status=13.grpc-message=the request ends within a message.end");
    close_call(f);
    f = open_call("/t.S/Unary", NULL, NULL);
    give_message(f, false, STR("one"));
    give_message(f, false, STR("two"));
    check_said(f, "H200 grpc-status=13.grpc-message=more than one message in the request of a "
                  "unary method.end");
    close_call(f);
    CHECK_INT(heard.n, 0);
    teardown();
}

TEST(messages_of_every_encoding)
{
    static const enum zip_kind kinds[] = {ZIP_GZIP, ZIP_DEFLATE, ZIP_ZSTD};
    setup();
    answer_at_once = true;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct buf packed = buf_init(1 * MIB);
        CHECK_OK(zip_deflate(kinds[i], STR("packed"), 1, &packed));
        check_call("/t.S/Unary", "grpc-encoding", zip_name(kinds[i]), true, buf_str(&packed),
                   "H200 D5 D6 T grpc-status=0.");
        buf_fini(&packed);
        check_call("/t.S/Unary", "grpc-encoding", zip_name(kinds[i]), false, STR("plain!"),
                   "H200 D5 D6 T grpc-status=0.");
    }
    CHECK_STR(buf_str(&heard), STR("m:packed m:plain! m:packed m:plain! m:packed m:plain! "));
    teardown();
}

TEST(compression_flags_and_encodings_that_do_not_fit)
{
    setup();
    check_call("/t.S/Unary", NULL, NULL, true, STR("x"),
               "H200 grpc-status=13.grpc-message=a compressed message without grpc-encoding.end");
    check_call("/t.S/Unary", "grpc-encoding", "identity", true, STR("x"),
               "H200 grpc-status=13.grpc-message=a compressed message without grpc-encoding.end");
    check_call("/t.S/Unary", "grpc-encoding", "snappy", true, STR("x"),
               "H200 grpc-status=12.grpc-message=grpc-encoding \"snappy\" is not supported."
               "grpc-accept-encoding=identity,deflate,gzip,zstd.end");
    check_call("/t.S/Unary", "grpc-encoding", "gzip", true, STR("not gzip"),
               "H200 grpc-status=13.grpc-message=the message is not valid gzip.end");
    CHECK_INT(stat_get(STAT_REQUESTS_BAD_COMPRESSION), 4);
    struct fake *f = open_call("/t.S/Unary", NULL, NULL);
    give(f, STR("\2\0\0\0\1x"));
    check_said(f, "H200 grpc-status=13.grpc-message=compression flag 2 is not 0 or 1.end");
    close_call(f);
    CHECK_INT(heard.n, 0);
    teardown();
}

TEST(messages_past_the_limit_are_refused_for_good)
{
    setup();
    struct fake *f = open_call("/t.S/Unary", NULL, NULL);
    give(f, STR("\0\0\1\0\1"));
    check_said(f, "H200 grpc-status=8.grpc-message=a message of 65537 bytes is larger than the "
                  "limit of 65536.end");
    close_call(f);
    struct buf bomb = buf_init(1 * MIB), packed = buf_init(1 * MIB);
    buf_add_zero(&bomb, SMALL_MAX + 1);
    CHECK_OK(zip_deflate(ZIP_GZIP, buf_str(&bomb), 1, &packed));
    check_call("/t.S/Unary", "grpc-encoding", "gzip", true, buf_str(&packed),
               "H200 grpc-status=8.grpc-message=the message inflates to more than the limit of "
               "65536 bytes.end");
    check_call("/t.S/Pooled", "grpc-encoding", "gzip", true, buf_str(&packed),
               "H200 grpc-status=8.grpc-message=the message inflates to more than the limit of "
               "65536 bytes.end");
    CHECK_INT(stat_get(STAT_REQUESTS_BAD_SIZE), 3);
    buf_fini(&bomb);
    buf_fini(&packed);
    teardown();
}

TEST(what_is_not_served_is_unimplemented)
{
    setup();
    check_call("/t.S/Nope", NULL, NULL, false, STR("x"),
               "H200 grpc-status=12.grpc-message=no such method: \"t.S/Nope\".end");
    check_call("/t.X/Unary", NULL, NULL, false, STR("x"),
               "H200 grpc-status=12.grpc-message=no such method: \"t.X/Unary\".end");
    check_call("/t.S", NULL, NULL, false, STR("x"),
               "H200 grpc-status=12.grpc-message=no such method: \"t.S\".end");
    check_call("/", NULL, NULL, false, STR("x"),
               "H200 grpc-status=12.grpc-message=no such method: \"\".end");
    check_call("/t.Gone/Unary", NULL, NULL, false, STR("x"),
               "H200 grpc-status=12.grpc-message=not here.end");
    CHECK_INT(stat_get(STAT_REQUESTS_BAD_PATH), 5);
    teardown();
}

TEST(what_is_not_grpc_gets_an_http_answer)
{
    setup();
    check_call("/t.S/Unary", "content-type", "application/grpc-web", false, STR("x"), "H415 end");
    check_call("/t.S/Unary", "content-type", "application/grpc+json", false, STR("x"), "H415 end");
    CHECK_INT(stat_get(STAT_REQUESTS_BAD_TYPE), 2);
    teardown();
}

TEST(a_malformed_timeout_is_refused)
{
    setup();
    check_call("/t.S/Unary", "grpc-timeout", "10", false, STR("x"),
               "H200 grpc-status=13.grpc-message=grpc-timeout is malformed.end");
    teardown();
}

TEST(a_call_without_time_is_over)
{
    setup();
    check_call("/t.S/Unary", "grpc-timeout", "0S", false, STR("x"),
               "H200 grpc-status=4.grpc-message=the deadline passed.end");
    CHECK_INT(heard.n, 0);
    teardown();
}

TEST(the_deadline_ends_the_call_and_tells_the_method)
{
    setup();
    struct fake *f = open_call("/t.S/Unary", "grpc-timeout", "1m");
    CHECK(f->s.req != NULL);
    give_message(f, false, STR("slow"));
    half_close(f);
    loop_run(loop); /* until the answer stops it */
    check_said(f, "H200 grpc-status=4.grpc-message=the deadline passed.end");
    CHECK_INT(stat_get(STAT_CALLS_DEADLINE), 1);
    grpc_reply(held, STR("too late"));
    check_said(f, "H200 grpc-status=4.grpc-message=the deadline passed.end");
    close_call(f);
    CHECK_STR(buf_str(&heard), STR("m:slow cancelled "));
    teardown();
}

TEST(the_deadline_also_ends_a_request_that_never_ends)
{
    setup();
    struct fake *f = open_call("/t.S/Unary", "grpc-timeout", "1u");
    give(f, STR("\0\0\0\0\5he"));
    loop_run(loop); /* until the answer stops it */
    check_said(f, "H200 grpc-status=4.grpc-message=the deadline passed.end");
    close_call(f);
    CHECK_INT(heard.n, 0);
    teardown();
}

TEST(the_budget_of_bodies_refuses_with_a_hint)
{
    setup();
    server.limits.inflight_max_bytes = 10;
    struct fake *f = open_call("/t.S/Unary", NULL, NULL);
    give_message(f, false, STR("eleven bytes"));
    struct str said = buf_str(&f->said);
    CHECK(str_starts(said, STR("H200 grpc-status=14.grpc-message=")));
    CHECK(memmem(said.p, said.n, "grpc-status-details-bin=", 24) != NULL);
    close_call(f);
    server.limits.inflight_max_bytes = 1 * MIB;
    teardown();
}

TEST(streams_speak_message_by_message)
{
    setup();
    struct fake *f = open_call("/t.S/Chat", NULL, NULL);
    give_message(f, false, STR("one"));
    check_said(f, "H200 D5 D3 ");
    give_message(f, false, STR("two!"));
    half_close(f);
    check_said(f, "H200 D5 D3 D5 D4 T grpc-status=0.");
    CHECK_STR(buf_str(&heard), STR("m:one m:two! end "));
    close_call(f);
    teardown();
}

TEST(a_stream_without_messages_ends)
{
    setup();
    struct fake *f = open_call("/t.S/Chat", NULL, NULL);
    half_close(f);
    check_said(f, "H200 grpc-status=0.end");
    close_call(f);
    teardown();
}

TEST(nothing_of_a_stream_is_heard_after_its_end)
{
    setup();
    struct fake *f = open_call("/t.S/Chat", NULL, NULL);
    give(f, STR("\0\0\0\0\3bye\0\0\0\0\4more"));
    CHECK_STR(buf_str(&heard), STR("m:bye "));
    CHECK_INT(f->consumed, f->given);
    check_said(f, "H200 grpc-status=0.end");
    close_call(f);
    teardown();
}

TEST(a_slow_reader_is_not_asked_more)
{
    setup();
    struct fake *f = open_call("/t.S/Chat", NULL, NULL);
    f->queued = STREAM_HIGH_BYTES;
    give(f, STR("\0\0\0\0\3one\0\0\0\0\3two"));
    give(f, STR("\0\0\0\0\5three"));
    half_close(f);
    CHECK_STR(buf_str(&heard), STR("m:one "));
    CHECK_INT(f->consumed, 8); /* the rest holds the peer's window */
    f->queued = 0;
    stream_drained(&f->s);
    CHECK_STR(buf_str(&heard), STR("m:one m:two m:three end "));
    CHECK_INT(f->consumed, f->given);
    close_call(f);
    teardown();
}

TEST(a_slow_reader_that_leaves_is_forgotten)
{
    setup();
    struct fake *f = open_call("/t.S/Chat", NULL, NULL);
    f->queued = STREAM_HIGH_BYTES;
    give(f, STR("\0\0\0\0\3one\0\0\0\0\3two"));
    close_call(f);
    CHECK_STR(buf_str(&heard), STR("m:one cancelled "));
    grpc_finish(held, 0, STR_NONE, STR_NONE);
    teardown();
}

TEST(damage_in_a_stream_ends_it_and_tells_the_method)
{
    setup();
    struct fake *f = open_call("/t.S/Chat", NULL, NULL);
    give_message(f, false, STR("one"));
    give(f, STR("\7\0\0\0\1x"));
    check_said(f, "H200 D5 D3 T grpc-status=13.grpc-message=compression flag 7 is not 0 or 1.");
    CHECK_STR(buf_str(&heard), STR("m:one cancelled "));
    grpc_finish(held, 0, STR_NONE, STR_NONE);
    close_call(f);
    teardown();
}

TEST(drain_ends_streams)
{
    setup();
    struct fake *fresh = open_call("/t.S/Chat", NULL, NULL);
    struct fake *used = open_call("/t.S/Chat", NULL, NULL);
    struct fake *unary = open_call("/t.S/Unary", NULL, NULL);
    give_message(used, false, STR("one"));
    fresh->s.sink->drain(&fresh->s);
    used->s.sink->drain(&used->s);
    unary->s.sink->drain(&unary->s);
    check_said(fresh, "H200 grpc-status=14.grpc-message=the server is shutting down.end");
    check_said(used, "H200 D5 D3 T grpc-status=14.grpc-message=bye.");
    check_said(unary, "");
    close_call(fresh);
    close_call(used);
    close_call(unary);
    teardown();
}

TEST(large_messages_go_to_the_pool)
{
    setup();
    server.limits.body_max_bytes = 64 * MIB;
    server.pool = work_pool_new(1, 4);
    struct buf large = buf_init(64 * MIB), packed = buf_init(64 * MIB);
    buf_add_zero(&large, GRPC_LOOP_BYTES_MAX + 1);
    CHECK_OK(zip_deflate(ZIP_ZSTD, buf_str(&large), 1, &packed));
    struct fake *plain = open_call("/t.S/Pooled", NULL, NULL);
    give_message(plain, false, buf_str(&large));
    half_close(plain);
    struct fake *inflated = open_call("/t.S/Pooled", "grpc-encoding", "zstd");
    give_message(inflated, true, buf_str(&packed));
    half_close(inflated);
    struct fake *left = open_call("/t.S/Pooled", NULL, NULL);
    give_message(left, false, buf_str(&large));
    half_close(left);
    close_call(left); /* while the pool works on it, or before */
    check_said(plain, "");
    work_pool_free(server.pool); /* runs what is queued */
    loop_settle(loop);
    check_said(plain, "H200 grpc-status=0.grpc-message=from the pool.end");
    check_said(inflated, "H200 grpc-status=0.grpc-message=from the pool.end");
    close_call(plain);
    close_call(inflated);
    buf_fini(&large);
    buf_fini(&packed);
    teardown();
}

TEST(a_full_pool_refuses_with_a_hint)
{
    setup();
    server.limits.body_max_bytes = 64 * MIB;
    server.pool = work_pool_new(1, 0);
    struct buf large = buf_init(64 * MIB);
    buf_add_zero(&large, GRPC_LOOP_BYTES_MAX + 1);
    struct fake *f = open_call("/t.S/Pooled", NULL, NULL);
    give_message(f, false, buf_str(&large));
    half_close(f);
    struct str said = buf_str(&f->said);
    CHECK(str_starts(said, STR("H200 grpc-status=14.grpc-message=too many large requests")));
    close_call(f);
    work_pool_free(server.pool);
    buf_fini(&large);
    teardown();
}
