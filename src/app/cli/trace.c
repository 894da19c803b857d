/* SPDX-License-Identifier: Apache-2.0 */
/* trace: one trace, a page of it, or, of one too large to be read whole, its summary and the
 * command that reads the first page. */
#include "app/cli/commands.h"
#include "app/cli/source.h"
#include "app/cli/term.h"
#include "app/cli/waterfall.h"
#include "base/num.h"
#include "codec/jaeger_json.h"
#include "codec/json.h"
#include "codec/otlp.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define INPUT_MAX    (256 * MIB)
#define ROWS_DEFAULT "200"

enum { WATERFALL, JAEGER, OTLP }; /* --output */

/* The spans that are shown: those from `offset` on, of `total`. total 0: all of them. */
struct shown {
    bool paged;
    uint64_t offset, limit, total;
    unsigned width; /* cells */
};

/* --- a file --- */

static enum errc read_input(const char *name, struct buf *in, struct err *e)
{
    if (strcmp(name, "-") != 0)
        return os_read_file(os_posix(), name, in, e);
    for (;;) {
        if (!buf_reserve(in, 64 * KIB))
            return fail(e, E_TOO_BIG, "the input is larger than %zu bytes", in->max);
        ssize_t n = read(STDIN_FILENO, in->p + in->n, in->cap - in->n);
        if (n < 0)
            return fail_errno(e, E_IO, "standard input");
        if (n == 0)
            return E_OK;
        in->n += (size_t)n;
    }
}

static bool looks_like_json(struct str s)
{
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\n' || s.p[0] == '\t' || s.p[0] == '\r'))
        s = str_skip(s, 1);
    return s.n && s.p[0] == '{';
}

/* --- drawing --- */

static void put_jaeger(struct source *s, const struct trace *t, const struct shown *shown,
                       struct buf *out)
{
    struct json_writer w = json_writer_init(out, 0);
    json_object(&w);
    JSON_KEY_C(&w, "data");
    json_array(&w);
    if (t->span_count)
        out->failed |= !jaeger_json_trace(&w, t, &s->arena, NULL);
    json_array_end(&w);
    if (shown->paged) {
        JSON_KEY_C(&w, "total");
        json_u64(&w, shown->total);
        JSON_KEY_C(&w, "limit");
        json_u64(&w, shown->limit);
        JSON_KEY_C(&w, "offset");
        json_u64(&w, shown->offset);
    }
    json_object_end(&w);
    buf_add_char(out, '\n');
}

/* What a page leaves open is said beside it, so that data stays data. */
static int page_end(const struct cli *c, const struct trace *t, const struct shown *shown)
{
    char n[32];
    uint64_t next = shown->offset + t->span_count;
    if (!shown->paged)
        return CLI_OK;
    if (!t->span_count)
        return cli_fail(c, CLI_NOT_FOUND,
                        "there is nothing at --offset %llu: the trace has %s spans",
                        (unsigned long long)shown->offset, text_count(shown->total, n));
    if (next < shown->total)
        fprintf(stderr, "there is more: --offset %llu\n", (unsigned long long)next);
    return CLI_OK;
}

static int draw(struct source *s, struct trace *t, const struct shown *shown)
{
    const struct cli *c = s->cli;
    uint64_t rows;
    struct buf out = buf_init(SOURCE_OUT_MAX);
    if (!cli_u64(c, "rows", 0, UINT32_MAX, &rows))
        return source_finish(s, &out, CLI_USAGE);
    unsigned format = cli_choice(c, "output");
    if (format == JAEGER) {
        put_jaeger(s, t, shown, &out);
    } else if (format == OTLP) {
        otlp_encode_traces_json(t->spans, t->span_count, &out);
        buf_add_char(&out, '\n');
    } else {
        struct waterfall_style style = {.width = shown->width,
                                        .ascii = cli_switch(c, "ascii") || !term_utf8(),
                                        .color = term_color(),
                                        .first = shown->offset,
                                        .total = shown->total,
                                        .rows = (uint32_t)rows};
        if (!waterfall_write(t, &style, &s->arena, &out))
            return source_finish(s, &out, cli_fail(c, CLI_TRUE, "the trace is too large to draw"));
    }
    source_print(&out); /* what is said of it stands below it */
    return source_finish(s, &out, page_end(c, t, shown));
}

/* --- too large to be read whole --- */

static void add_quoted(struct buf *out, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-._/:@%+=,";
    if (*text && strspn(text, plain) == strlen(text)) {
        buf_add_c(out, text);
        return;
    }
    buf_add_char(out, '\'');
    for (; *text; text++) {
        if (*text == '\'')
            buf_add_c(out, "'\\'");
        buf_add_char(out, *text);
    }
    buf_add_char(out, '\'');
}

/* As it can be pasted: the first page of the trace from the same source. */
static void add_command(struct buf *out, const struct cli *c, const struct trace_summary *t)
{
    static const char *const sources[] = {"url", "data", "tenant"};
    char id[33];
    id[num_put_hex(id, t->trace_id, 16)] = 0;
    buf_addf(out, "lymer trace %s --offset 0 --limit %u", id, PAGE_SPANS_DEFAULT);
    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        const char *value = cli_value(c, sources[i]);
        if (!value)
            continue;
        buf_addf(out, " --%s ", sources[i]);
        add_quoted(out, value);
    }
}

static void put_services(struct json_writer *w, const struct trace_summary *t)
{
    JSON_KEY_C(w, "services");
    json_array(w);
    for (uint32_t i = 0; i < t->service_count; i++) {
        json_object(w);
        JSON_KEY_C(w, "name");
        json_str(w, t->services[i].name);
        summary_counts(w, t->services[i].span_count, t->services[i].error_count);
        json_object_end(w);
    }
    json_array_end(w);
}

static void put_summary(struct json_writer *w, const struct trace_summary *t)
{
    json_object(w);
    summary_members(w, t);
    JSON_KEY_C(w, "roots");
    json_u64(w, t->root_count);
    if (!t->orphans_unknown) {
        JSON_KEY_C(w, "orphans");
        json_u64(w, t->orphan_count);
    }
    put_services(w, t);
    json_object_end(w);
}

/* In the place of Jaeger's envelope: no data, why, and what there is instead. */
static void summary_json(const struct cli *c, const struct trace_summary *t, const struct err *why,
                         struct buf *out)
{
    struct buf command = buf_init(64 * KIB);
    struct json_writer w = json_writer_init(out, 0);
    add_command(&command, c, t);
    json_object(&w);
    JSON_KEY_C(&w, "data");
    json_array(&w);
    json_array_end(&w);
    JSON_KEY_C(&w, "errors");
    json_array(&w);
    json_object(&w);
    JSON_KEY_C(&w, "msg");
    json_str(&w, str_from_c(err_msg(why)));
    json_object_end(&w);
    json_array_end(&w);
    JSON_KEY_C(&w, "summary");
    put_summary(&w, t);
    JSON_KEY_C(&w, "firstPage");
    json_str(&w, buf_str(&command));
    json_object_end(&w);
    buf_add_char(out, '\n');
    out->failed |= command.failed;
    buf_fini(&command);
}

static void service_row(struct buf *out, struct str name, const struct service_summary *s,
                        bool ascii)
{
    char n1[32], n2[32];
    text_add_padded(out, name, 40, ascii);
    buf_addf(out, " %13s %13s\n", text_count(s->span_count, n1), text_count(s->error_count, n2));
}

static void service_rows(struct trace_summary *t, bool ascii, struct buf *out)
{
    char label[64] = "other-services (more than can be told apart)";
    buf_addf(out, "%-40s %13s %13s\n", "SERVICE", "SPANS", "ERRORS");
    if (t->service_count)
        qsort(t->services, t->service_count, sizeof *t->services, service_by_spans);
    for (uint32_t i = 0; i < t->service_count; i++)
        service_row(out, t->services[i].name, &t->services[i], ascii);
    if (t->other_services)
        snprintf(label, sizeof label, "other-services (%u)", t->other_services);
    if (t->others.span_count)
        service_row(out, str_from_c(label), &t->others, ascii);
}

static void counted(struct buf *out, uint64_t n, const char *one, const char *more)
{
    char text[32];
    buf_addf(out, "%s %s", text_count(n, text), n == 1 ? one : more);
}

static void summary_text(const struct cli *c, struct trace_summary *t, unsigned width,
                         struct buf *out)
{
    bool ascii = cli_switch(c, "ascii") || !term_utf8();
    const char *dot = ascii ? ", " : " · ";
    char id[33], when[NUM_TEXT_MAX], d[32];
    id[num_put_hex(id, t->trace_id, 16)] = 0;
    size_t n = num_put_rfc3339(when, t->min_start_ns / NS_PER_MS * NS_PER_MS);
    buf_addf(out, "%s  ", id);
    text_add_cut(out, t->root_service.n ? t->root_service : STR("-"), width - 34, ascii);
    buf_add_char(out, '\n');
    text_add_cut(out, t->root_count ? t->root_operation : STR("(no root span)"), width, ascii);
    buf_addf(out, "\n%.*s%s%s%s", (int)n, when, dot,
             text_duration(t->max_end_ns - t->min_start_ns, ascii, d), dot);
    counted(out, t->span_count, "span", "spans");
    buf_add_c(out, dot);
    counted(out, t->error_count, "error", "errors");
    buf_add_c(out, dot);
    counted(out, t->root_count, "root", "roots");
    buf_add_c(out, dot);
    if (t->orphans_unknown)
        buf_add_c(out, "too many spans without their parent to count");
    else
        counted(out, t->orphan_count, "span without its parent", "spans without their parent");
    buf_add_c(out, "\n\n");
    service_rows(t, ascii, out);
    buf_add_c(out, "\nIt could not be read whole. Its first page:\n\n    ");
    add_command(out, c, t);
    buf_add_char(out, '\n');
}

/* The trace could not be read whole, for this reason: what is said instead. Data that was asked for
 * and is not there is no success. */
static int summarize(struct source *s, const uint8_t id[16], unsigned width, const struct err *why)
{
    const struct cli *c = s->cli;
    struct trace_summary t;
    struct err e = {0};
    unsigned format = cli_choice(c, "output");
    arena_fini(&s->arena); /* full of what could be read */
    if (source_summary(s, id, &t, &e))
        return source_end(s, cli_fail_err(c, why));
    struct buf out = buf_init(SOURCE_OUT_MAX);
    int code = format == WATERFALL ? CLI_OK : CLI_TRUE;
    if (format == OTLP) {
        struct buf command = buf_init(64 * KIB);
        add_command(&command, c, &t);
        code = cli_fail(c, code, "%s; the first page: %.*s", err_msg(why),
                        STR_ARG(buf_str(&command)));
        buf_fini(&command);
    } else if (format == JAEGER) {
        summary_json(c, &t, why, &out);
    } else {
        fprintf(stderr, "%s\n", err_msg(why));
        summary_text(c, &t, width, &out);
    }
    return source_finish(s, &out, code);
}

/* --- the command --- */

static bool shown_from(const struct cli *c, struct shown *out)
{
    uint64_t width;
    *out = (struct shown){.paged = cli_value(c, "offset") || cli_value(c, "limit"),
                          .limit = PAGE_SPANS_DEFAULT};
    if (!cli_u64(c, "width", 0, 1000, &width))
        return false;
    out->width = width ? (unsigned)max_u64(width, 40) : term_width();
    return (!cli_value(c, "offset") || cli_u64(c, "offset", 0, INT64_MAX, &out->offset)) &&
           (!cli_value(c, "limit") || cli_u64(c, "limit", 1, PAGE_SPANS_MAX, &out->limit));
}

static int trace_from_file(struct source *s, const char *name, struct shown *shown)
{
    struct trace *t;
    struct err e = {0};
    struct buf in = buf_init(INPUT_MAX);
    enum errc code = read_input(name, &in, &e);
    if (!code)
        code = source_decode(s, buf_str(&in), looks_like_json(buf_str(&in)), &t, &e);
    buf_fini(&in);
    if (code)
        return source_end(s, cli_fail_err(s->cli, &e));
    if (shown->paged) {
        uint64_t from = min_u64(shown->offset, t->span_count);
        shown->total = t->span_count;
        t->spans += from;
        t->span_count = (uint32_t)min_u64(shown->limit, t->span_count - from);
    }
    return draw(s, t, shown);
}

static int trace_from_source(struct source *s, const uint8_t id[16], struct shown *shown)
{
    struct trace *t;
    struct err e = {0};
    enum errc code = shown->paged ? source_trace_page(s, id, shown->offset, (uint32_t)shown->limit,
                                                      &t, &shown->total, &e)
                                  : source_trace(s, id, cli_switch(s->cli, "raw"), &t, &e);
    if (code == E_OK)
        return draw(s, t, shown);
    bool large = code == E_NO_MEMORY || code == E_TOO_BIG || s->status == 503;
    return large && !shown->paged ? summarize(s, id, shown->width, &e)
                                  : source_end(s, cli_fail_err(s->cli, &e));
}

static int show_trace(struct cli *c)
{
    struct source s;
    struct shown shown;
    uint8_t id[16];
    const char *what = c->args[0];
    if (!shown_from(c, &shown))
        return CLI_USAGE;
    bool is_id = jaeger_trace_id_parse(str_from_c(what), id, NULL) == E_OK;
    if (!is_id || strcmp(what, "-") == 0) {
        s = (struct source){.cli = c, .client.fd = -1, .arena = arena_init(4 * GIB)};
        if (strcmp(what, "-") != 0 && access(what, F_OK) != 0)
            return source_end(
                &s, cli_fail(c, CLI_USAGE, "\"%.100s\" is neither a trace id nor a file", what));
        return trace_from_file(&s, what, &shown);
    }
    int code = source_open(&s, c);
    return code ? source_end(&s, code) : trace_from_source(&s, id, &shown);
}

static const struct cli_option trace_options[] = {
    {"output", "FORMAT", "waterfall", "waterfall|json|otlp", "json is Jaeger's, otlp OTLP/JSON"},
    {"offset", "N", NULL, NULL,
     "A page: the spans from this one on, the first being 0, in order of start"},
    {"limit", "N", NULL, NULL, "Spans of the page, at most 10000; 1000 when not given"},
    {"width", "CELLS", "0", NULL, "Width; 0: the terminal's"},
    {"ascii", NULL, NULL, NULL, "Draw with ASCII only"},
    {"rows", "N", ROWS_DEFAULT, NULL, "Spans to draw at most, the rest is counted; 0: all"},
    {"raw", NULL, NULL, NULL, "As stored, without the adjustments of the query API"},
    SOURCE_OPTIONS,
    {0}};

const struct cli_command cli_trace = {
    .name = "trace",
    .args = "ID|FILE|-",
    .args_min = 1,
    .args_max = 1,
    .summary = "Show a trace as a waterfall",
    .details =
        "FILE or - (standard input) holds OTLP, as JSON or protobuf. With --offset or --limit "
        "a page of the trace is shown, as it is stored. Of a trace too large to be read whole "
        "the summary is shown, and the command that reads the first page; with -o json or "
        "otlp the exit code is 1 then.",
    .options = trace_options,
    .run = show_trace,
};
