/* SPDX-License-Identifier: Apache-2.0 */
/* import and export. What one writes the other reads back without loss. */
#include "app/cli/commands.h"
#include "app/cli/source.h"
#include "codec/otlp.h"
#include "engine/ingest/ingest.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DOCUMENT_MAX (256 * MIB) /* one JSON document, or a protobuf file */
#define SEND_BYTES   (4 * MIB)   /* documents are gathered up to about here */
#define RETRIES_MAX  8

/* --- export --- */

static const struct cli_option export_options[] = {QUERY_OPTIONS, SOURCE_OPTIONS, {0}};

static bool to_output(void *arg, struct str piece)
{
    (void)arg;
    cli_out(piece);
    return true;
}

static int export(struct cli *c)
{
    struct source s;
    struct trace_query q;
    struct err e = {0};
    int code = source_open(&s, c);
    if (!code && !source_query(&s, 0, &q))
        code = CLI_USAGE;
    if (!code && source_export(&s, &q, to_output, NULL, &e))
        code = cli_fail_err(c, &e);
    source_close(&s);
    return code;
}

const struct cli_command cli_export = {
    .name = "export",
    .args = "",
    .summary = "Write traces as OTLP JSON, one a line, oldest first",
    .details = "Everything, or the traces with a span that satisfies what is asked. `lymer import` "
               "reads it back.",
    .options = export_options,
    .run = export,
};

/* --- import --- */

static const struct cli_option import_options[] = {
    {"endpoint", "URL", "http://127.0.0.1:4318", NULL, "OTLP/HTTP server to send to"},
    {"data", "DIR", NULL, NULL, "Put it into this directory instead; no server may hold it"},
    {"tenant", "NAME", NULL, NULL, "Tenant it belongs to"},
    {"output", "FORMAT", "text", "text|json", "How the counts are printed"},
    {0}};

struct importer {
    const struct cli *cli;
    struct client client;
    struct store *store;
    struct str tenant;
    char headers[400];
    struct batch_builder builder;
    struct buf gathered; /* the documents in it, in case one is broken behind them */
    uint64_t documents, spans, rejected;
};

struct appended {
    struct store_ticket ticket;
    pthread_mutex_t lock; /* protects what follows */
    pthread_cond_t answered;
    bool done;
    enum errc code;
    char why[ERR_MSG_MAX];
};

static void on_appended(struct store_ticket *t, enum errc code, const char *why)
{
    struct appended *a = (struct appended *)t;
    pthread_mutex_lock(&a->lock);
    a->done = true;
    a->code = code;
    snprintf(a->why, sizeof a->why, "%s", why ? why : "");
    pthread_cond_signal(&a->answered);
    pthread_mutex_unlock(&a->lock);
}

static enum errc append(struct importer *im, struct batch *b, struct err *e)
{
    struct appended a = {.ticket = {.batch = b, .done = on_appended},
                         .lock = PTHREAD_MUTEX_INITIALIZER,
                         .answered = PTHREAD_COND_INITIALIZER};
    enum errc code;
    /* One batch is under way at a time: the queue is never full for long. */
    while ((code = store_append(im->store, &a.ticket)) == E_UNAVAILABLE)
        usleep(1000);
    if (code)
        return fail(e, code, "the store takes no more: %s", err_text(code));
    pthread_mutex_lock(&a.lock);
    while (!a.done)
        pthread_cond_wait(&a.answered, &a.lock);
    pthread_mutex_unlock(&a.lock);
    return a.code ? fail(e, a.code, "%s", a.why) : E_OK;
}

static enum errc post(struct importer *im, struct str body, struct err *e)
{
    struct client_answer a;
    for (int tries = 0;; tries++) {
        enum errc code = client_call(&im->client, "POST", "", im->headers, body, MIB, NULL, NULL,
                                     &a, e);
        uint64_t rejected = 0, wait_ms = a.retry_after_ms ? a.retry_after_ms : 100u << tries;
        struct str message;
        int status = a.status;
        if (!code && status == 200 && !otlp_decode_response(buf_str(&a.body), &rejected, &message))
            im->rejected += rejected, im->spans -= rejected;
        client_answer_fini(&a);
        if (code || status == 200)
            return code;
        if ((status != 429 && status != 502 && status != 503 && status != 504) ||
            tries == RETRIES_MAX)
            return fail(e, E_UNAVAILABLE, "%s:%u answers HTTP %d", im->client.url.host,
                        im->client.url.port, status);
        usleep((useconds_t)(wait_ms * 1000));
    }
}

static enum errc encode_and_post(struct importer *im, const struct batch *b, struct err *e)
{
    struct arena a = arena_init(4 * GIB);
    uint32_t n = b->head->span_count;
    struct span **spans = ARENA_ARRAY(&a, struct span *, n);
    struct span_origin *origins = ARENA_ARRAY(&a, struct span_origin, b->head->group_count);
    struct buf body = buf_init(GIB);
    bool ok = spans && origins;
    for (uint32_t i = 0; i < n && ok; i++)
        ok = (spans[i] = span_from_batch(b, &b->spans[i], origins, &a)) != NULL;
    if (ok)
        otlp_encode_traces(spans, n, &body);
    enum errc code = ok && !body.failed ? post(im, buf_str(&body), e)
                                        : fail(e, E_TOO_BIG, "too many spans at once");
    buf_fini(&body);
    arena_fini(&a);
    return code;
}

/* Hands on what the builder holds. */
static enum errc hand_on(struct importer *im, struct err *e)
{
    struct batch *b;
    uint32_t spans = batch_builder_spans(&im->builder);
    im->rejected += batch_builder_rejected(&im->builder);
    buf_reset(&im->gathered);
    if (!spans) {
        batch_builder_reset(&im->builder);
        return E_OK;
    }
    enum errc code = batch_seal(&im->builder, im->tenant, os_now_ns(os_posix()), &b, e);
    batch_builder_reset(&im->builder);
    if (code)
        return code;
    code = im->store ? append(im, b, e) : encode_and_post(im, b, e);
    batch_unref(b);
    im->spans += code ? 0 : spans;
    return code;
}

/* Finds where a JSON value ends: braces outside of strings. Fed in pieces. */
struct scanner {
    unsigned depth;
    bool in_string, escaped;
};

/* The bytes up to and with the end of the value, 0 when it ends later. */
static size_t scan(struct scanner *x, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char ch = s.p[i];
        if (x->escaped) {
            x->escaped = false;
        } else if (x->in_string) {
            x->escaped = ch == '\\';
            x->in_string = ch != '"';
        } else if (ch == '"') {
            x->in_string = true;
        } else if (ch == '{' || ch == '[') {
            x->depth++;
        } else if ((ch == '}' || ch == ']') && x->depth && --x->depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

/* Into the builder. */
static enum errc decode(struct importer *im, struct str text, bool json, struct err *e)
{
    return json ? otlp_decode_traces_json(text, &im->builder, e)
                : otlp_decode_traces(text, &im->builder, e);
}

/* A document was broken: the builder gets what was in it before. */
static void decode_again(struct importer *im)
{
    struct scanner x = {0};
    struct str left = buf_str(&im->gathered);
    size_t n;
    batch_builder_reset(&im->builder);
    while ((n = scan(&x, left))) {
        enum errc as_before = decode(im, str_take(left, n), true, NULL);
        ensure(as_before == E_OK);
        left = str_skip(left, n);
    }
}

static enum errc take_document(struct importer *im, struct str text, bool json, struct err *e)
{
    struct err why = {0};
    if (decode(im, text, json, &why)) {
        decode_again(im);
        return fail(e, E_INVALID, "document %llu: %s", (unsigned long long)im->documents + 1,
                    err_msg(&why));
    }
    im->documents++;
    if (im->gathered.n + text.n >= SEND_BYTES)
        return hand_on(im, e);
    buf_add_str(&im->gathered, text);
    return E_OK;
}

static bool is_blank(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!memchr(" \t\r\n", s.p[i], 4))
            return false;
    return true;
}

/* Takes the whole documents out of `in`; *scanned is how far the unfinished one has been looked at.
 */
static enum errc take_documents(struct importer *im, struct buf *in, struct scanner *x,
                                size_t *scanned, struct err *e)
{
    size_t from = 0, end;
    enum errc code = E_OK;
    while (!code && (end = scan(x, str_skip(buf_str(in), *scanned)))) {
        end += *scanned;
        code = take_document(im, str_of(in->p + from, end - from), true, e);
        from = *scanned = end;
    }
    *scanned = in->n - from;
    buf_consume(in, from);
    return code;
}

static enum errc read_all(struct importer *im, int fd, struct err *e)
{
    struct buf in = buf_init(DOCUMENT_MAX);
    struct scanner x = {0};
    size_t scanned = 0;
    bool json = false, known = false;
    enum errc code = E_OK;
    ssize_t n = 1;
    while (!code && n > 0) {
        if (!buf_reserve(&in, 64 * KIB)) {
            code = fail(e, E_TOO_BIG, "a document is larger than %zu bytes", DOCUMENT_MAX);
            break;
        }
        n = read(fd, in.p + in.n, in.cap - in.n);
        if (n < 0)
            code = fail_errno(e, E_IO, "reading");
        in.n += n > 0 ? (size_t)n : 0;
        if (!known && in.n) {
            known = !is_blank(buf_str(&in));
            json = known && memchr("{[ \t\r\n", in.p[0], 6);
        }
        if (!code && json)
            code = take_documents(im, &in, &x, &scanned, e);
    }
    if (!code && json && !is_blank(buf_str(&in)))
        code = fail(e, E_INVALID, "the last document has no end");
    if (!code && !json && in.n)
        code = take_document(im, buf_str(&in), false, e);
    struct err unsent = {0};
    enum errc sent = hand_on(im, &unsent); /* also what stands before something broken */
    if (code && sent) {
        struct err broken = *e;
        fail(e, code, "%.120s; what stands before it: %.100s", broken.msg, unsent.msg);
    } else if (sent) {
        code = fail(e, sent, "%s", unsent.msg);
    }
    buf_fini(&in);
    return code;
}

static int importer_open(struct importer *im, struct cli *c)
{
    struct err e = {0};
    const char *tenant = cli_value(c, "tenant"), *dir = cli_value(c, "data");
    *im = (struct importer){.cli = c, .client.fd = -1, .gathered = buf_init(SEND_BYTES)};
    batch_builder_init(&im->builder);
    if (tenant_check(str_from_c(tenant), &im->tenant, &e))
        return cli_fail(c, CLI_USAGE, "--tenant: %s", err_msg(&e));
    if (dir) {
        struct store_config k;
        store_config_visitor(&k, os_posix(), dir);
        enum errc code = store_open(&im->store, &k, &e);
        return code ? cli_fail_err(c, &e) : CLI_OK;
    }
    if (client_init(&im->client, cli_value(c, "endpoint"), 60 * NS_PER_S, &e))
        return cli_fail(c, CLI_USAGE, "--endpoint: %s", err_msg(&e));
    if (im->client.url.grpc)
        return cli_fail(c, CLI_USAGE, "--endpoint: import speaks OTLP/HTTP, not gRPC");
    if (!*im->client.url.path)
        memcpy(im->client.url.path, "/v1/traces", sizeof "/v1/traces");
    snprintf(im->headers, sizeof im->headers, "Content-Type: application/x-protobuf\r\n%s%s%s",
             tenant ? "x-tenant: " : "", tenant ? tenant : "", tenant ? "\r\n" : "");
    return CLI_OK;
}

static int import_fd(struct importer *im, int fd)
{
    struct err e = {0};
    enum errc code = read_all(im, fd, &e);
    struct buf out = buf_init(KIB);
    buf_addf(&out,
             cli_choice(im->cli, "output") == 1
                 ? "{\"documents\":%llu,\"spans_accepted\":%llu,\"spans_rejected\":%llu}\n"
                 : "%llu documents, %llu spans taken, %llu rejected\n",
             (unsigned long long)im->documents, (unsigned long long)im->spans,
             (unsigned long long)im->rejected);
    cli_out(buf_str(&out));
    buf_fini(&out);
    if (code)
        return cli_fail_err(im->cli, &e);
    return im->rejected ? CLI_TRUE : CLI_OK;
}

static int import(struct cli *c)
{
    struct importer im;
    int code = importer_open(&im, c), fd = STDIN_FILENO;
    if (!code && strcmp(c->args[0], "-") != 0)
        fd = open(c->args[0], O_RDONLY | O_CLOEXEC);
    if (!code && fd < 0)
        code = cli_fail(c, CLI_NOT_FOUND, "%s cannot be read", c->args[0]);
    if (!code)
        code = import_fd(&im, fd);
    if (fd > STDIN_FILENO)
        close(fd);
    if (im.store)
        store_close(im.store);
    client_fini(&im.client);
    batch_builder_fini(&im.builder);
    buf_fini(&im.gathered);
    return code;
}

const struct cli_command cli_import = {
    .name = "import",
    .args = "FILE|-",
    .args_min = 1,
    .args_max = 1,
    .summary = "Read OTLP from a file: JSON, one or many documents, or protobuf",
    .details = "Exit code 1 when spans were rejected.",
    .options = import_options,
    .run = import,
};
