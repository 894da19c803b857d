/* SPDX-License-Identifier: Apache-2.0 */
/* One answer of Jaeger's API, from the tenant to the last byte. Private to serve/api.
 *
 * What is written gathers in a buffer. An answer that stays below ANSWER_WHOLE_MAX is sent in one
 * piece, with its length, perhaps compressed, perhaps only as 304; a longer one is streamed, and
 * the writer waits while the client is slow. Until the first byte has left, the answer can still
 * turn into an error. */
#ifndef LYMER_SERVE_API_JAEGER_ANSWER_H
#define LYMER_SERVE_API_JAEGER_ANSWER_H

#include "codec/jaeger_json.h"
#include "serve/api/jaeger.h"

#define ANSWER_WHOLE_MAX (1 * MIB)
/* One span's JSON: the part of an answer that cannot be flushed in between. */
#define ANSWER_BUF_MAX (512 * MIB)

enum answer_form { ANSWER_V1, ANSWER_V3 };

struct answer {
    struct http_req *r;
    const struct jaeger_api *api;
    enum answer_form form;
    struct str tenant;
    struct snap *snap; /* NULL until answer_snap */
    uint64_t now_ns;
    struct arena arena; /* what the store lists; the request's own is small */
    struct buf buf;
    struct json_writer w;
    struct jaeger_json_sink sink; /* for jaeger_json_trace */
    bool started, gone;           /* streaming has begun; the client has left */
    struct trace_hits *hits;      /* of a search; NULL: none */
    bool own;                     /* its answer says how far it goes also when it is whole */
    bool said;                    /* that it is not whole, in the head */
    enum query_order order;
    uint64_t offset, limit; /* what the envelope says of a page; else 0, as Jaeger has it */
};

/* Who asks. False, counted: 401 with this sentence. */
MUST_CHECK bool api_tenant(const struct http_req *r, struct str *tenant, const char **why);

/* Every answer's headers, tenant and pretty-printing. False when the tenant was refused: the answer
 * is complete. Otherwise exactly one of answer_send, answer_fail… and answer_break ends it. */
MUST_CHECK bool answer_begin(struct answer *a, struct http_req *r, enum answer_form form);
struct snap *answer_snap(struct answer *a);

/* Searches with the budget of the server. False when the answer is complete already: an error. The
 * hits live as long as the answer. */
struct jaeger_search;
MUST_CHECK bool answer_search(struct answer *a, struct jaeger_search *s, struct trace_hits *hits);
/* Members `nextCursor` and `coverage` for whoever asked with a parameter of ours, or whose search
 * ended early. answer_envelope_end does it, too. */
void answer_coverage(struct answer *a);

/* Sends what has gathered when it is enough. False when the client is gone. */
MUST_CHECK bool answer_flush(struct answer *a);
/* The end. etag: answer 304 when the client has this very body. */
void answer_send(struct answer *a, bool etag);
/* An error in the API's own form; nothing may have been sent yet. */
void answer_fail(struct answer *a, int status, struct str message);
/* What a client is told of an error: its sentence, or only the code's text when the sentence is for
 * the operator; then it goes to the log. */
const char *answer_sentence(enum errc code, const struct err *e);
/* A trace cannot be read. True when it is one that a search found and that is damaged: the answer
 * goes on without it, counts it, and says in its head that it is not whole unless that is sent. */
bool answer_left_out(struct answer *a, enum errc rc);
/* An error from its code: its status, and answer_sentence. */
void answer_fail_code(struct answer *a, enum errc code, const struct err *e);
/* The same of a whole trace that was asked for; one too large is told how it can be read. */
void answer_fail_trace(struct answer *a, enum errc code, const struct err *e);
/* Ends an answer that cannot be completed: as an error when nothing has been sent, else broken off
 * so that the client can tell. */
void answer_break(struct answer *a, struct str message);

/* `{"data":` … `,"total":N,"limit":0,"offset":0,"errors":null or a list}`. */
struct answer_error {
    struct answer_error *next;
    int code; /* 0: left out */
    struct str message;
    const uint8_t *trace_id; /* NULL: left out */
};
/* A member, unless it is 0. */
void answer_count(struct json_writer *w, struct str key, uint64_t n);
void answer_envelope(struct answer *a);
void answer_envelope_end(struct answer *a, size_t total, const struct answer_error *errors);

/* Rows of the two generations, for jaeger_api_routes. */
extern const struct http_route jaeger_v1_routes[], jaeger_v3_routes[];
extern const size_t jaeger_v1_route_count, jaeger_v3_route_count;

/* OTLP of a body as traces, sorted by id, each in order. Their strings are views into *batch: unref
 * it last. rejected: spans that were unfit (ids, depth, limits). */
MUST_CHECK enum errc jaeger_transform(struct str body, bool protobuf, struct arena *a,
                                      struct batch **batch, struct trace **traces, size_t *count,
                                      uint32_t *rejected, struct err *e);

#endif
