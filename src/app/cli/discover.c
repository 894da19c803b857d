/* SPDX-License-Identifier: Apache-2.0 */
/* keys, values: which attributes there are. cost: what the disk is spent on. */
#include "app/cli/commands.h"
#include "app/cli/source.h"
#include "app/cli/term.h"
#include "base/num.h"
#include "serve/api/discover.h"

#include <stdio.h>

#define OUT_MAX  (256 * MIB)
#define SINCE_NS (48 * 3600 * NS_PER_S)

static void say_what_is_missing(bool complete, uint64_t after_ns)
{
    char text[NUM_TEXT_MAX];
    if (after_ns)
        fprintf(stderr, "not complete: time was up; spans that start after %.*s were looked at\n",
                (int)num_put_rfc3339(text, after_ns), text);
    else if (!complete)
        fprintf(stderr, "not complete: there were too many\n");
}

/* --- keys and values --- */

#define DISCOVER_OPTIONS                                                                 \
    {"service", "NAME", NULL, NULL, "Only on spans of this service"},                    \
        {"prefix", "TEXT", NULL, NULL, "Only those that begin so"},                      \
        {"place", "PLACE", "any", "any|span|resource|scope|event|link", "Where"},        \
        {"limit", "N", "100", NULL, "How many at most"},                                 \
        {"since", "DURATION", "48h", NULL, "Of spans that started so long ago at most"}, \
        {"start", "TIME", NULL, NULL, "They started then or later (RFC 3339, or 1h)"},   \
        {"end", "TIME", NULL, NULL, "They started then or before"},                      \
        {"output", "FORMAT", "table", "table|json", "How to print"}, SOURCE_OPTIONS,     \
    {                                                                                    \
        0                                                                                \
    }

static const struct cli_option keys_options[] = {DISCOVER_OPTIONS};

static void add_types(struct buf *out, uint32_t types, unsigned cells)
{
    struct buf text = buf_init(KIB);
    for (unsigned i = 0; i < ATTR_TYPE_COUNT; i++)
        if (types >> i & 1)
            buf_addf(&text, "%s%s", text.n ? "," : "", discover_types[i]);
    text_add_padded(out, buf_str(&text), cells, !term_utf8());
    buf_fini(&text);
}

/* Attributes, and how many spans they would be for one on each. */
static void discovered_table(const struct discovered *d, const char *key, struct buf *out)
{
    bool color = term_color(), ascii = !term_utf8();
    unsigned width = term_width(), fixed = 1 + 14 + 1 + 15 + (key ? 0 : 1 + 8);
    unsigned cells = width > fixed + 20 ? width - fixed : 20;
    char text[32], more[32];
    buf_addf(out, "%s%-*s%s %-14s %15s%s\n", color ? "\033[1m" : "", (int)cells,
             key ? "VALUE" : "KEY", key ? "" : " PLACE   ", "TYPES", "COUNT",
             color ? "\033[0m" : "");
    for (size_t i = 0; i < d->n; i++) {
        const struct discovered_text *t = &d->v[i];
        text_add_padded(out, t->text, cells, ascii);
        if (!key)
            buf_addf(out, " %-8s", discover_places[t->place]);
        buf_add_char(out, ' ');
        add_types(out, t->types, 14);
        buf_addf(out, " %15s", text_count(t->count, text));
        if (t->missed)
            buf_addf(out, " to %s", text_count(t->count + t->missed, more));
        buf_add_char(out, '\n');
    }
    if (d->total > d->n)
        buf_addf(out, "(%s others)\n", text_count(d->total - d->n, text));
}

static int discover(struct cli *c, const char *key)
{
    struct source s;
    struct trace_query times;
    struct discovered d;
    struct err e = {0};
    uint64_t limit;
    struct buf out = buf_init(OUT_MAX);
    int code = source_open(&s, c);
    if (!code && (!cli_u64(c, "limit", 1, DISCOVER_LIMIT_MAX, &limit) ||
                  !source_query(&s, SINCE_NS, &times)))
        code = CLI_USAGE;
    if (code)
        return source_finish(&s, &out, code);
    struct discover_query q = {.service = times.service,
                               .place = cli_choice(c, "place"),
                               .prefix = str_from_c(cli_value(c, "prefix")),
                               .start_min_ns = times.start_min_ns,
                               .start_max_ns = times.start_max_ns,
                               .limit = (uint32_t)limit};
    if (source_discover(&s, &q, key, &d, &e))
        return source_finish_err(&s, &out, &e);
    if (cli_choice(c, "output") == 1) {
        struct json_writer w = json_writer_init(&out, 0);
        discovered_json(&w, &d, key != NULL, q.limit);
        buf_add_char(&out, '\n');
    } else if (d.n) {
        discovered_table(&d, key, &out);
    }
    if (!d.n)
        fprintf(stderr, "no %s found\n", key ? "values" : "attributes");
    say_what_is_missing(d.complete, d.after_ns);
    return source_finish(&s, &out, d.n ? CLI_OK : CLI_NOT_FOUND);
}

static int keys(struct cli *c)
{
    return discover(c, NULL);
}

static int values(struct cli *c)
{
    return discover(c, c->args[0]);
}

const struct cli_command cli_keys = {
    .name = "keys",
    .args = "",
    .summary = "List the attribute keys of spans, with how often each occurs",
    .details = "Once for each attribute of a span, an event or a link; an attribute of a resource "
               "or a scope once for each of its spans.",
    .options = keys_options,
    .run = keys,
};

const struct cli_command cli_values = {
    .name = "values",
    .args = "KEY",
    .args_min = 1,
    .args_max = 1,
    .summary = "List the values of an attribute key, with how often each occurs",
    .details = "Values are shown, and told apart, as the text that a search compares. With a great "
               "many of them counts become ranges, COUNT to COUNT.",
    .options = keys_options,
    .run = values,
};

/* --- cost --- */

static const struct cli_option cost_options[] = {
    {"top", "N", "15", NULL, "Rows of each table; the others are added up. 0: all"},
    {"output", "FORMAT", "table", "table|json", "How to print"},
    SOURCE_OPTIONS,
    {0}};

/* One table: its rows in the order they are added, the others in one. */
struct cost_table {
    struct buf *out;
    const struct cost *cost;
    uint64_t top, rows, others, others_bytes, others_spans;
    unsigned cells;
};

static void cost_row(const struct cost_table *t, struct str name, const char *note, uint64_t bytes,
                     uint64_t spans)
{
    char text[32];
    const struct cost *c = t->cost;
    text_add_padded(t->out, name, t->cells, !term_utf8());
    buf_addf(t->out, " %11s %13s %5.1f%% %7.2f\n", note, text_count(bytes, text),
             c->bytes ? 100.0 * (double)bytes / (double)c->bytes : 0,
             spans ? (double)bytes / (double)spans : 0);
}

static struct cost_table cost_begin(struct buf *out, const struct cost *c, uint64_t top,
                                    const char *name, const char *note, const char *bytes)
{
    unsigned width = term_width();
    bool color = term_color();
    struct cost_table t = {
        .out = out, .cost = c, .top = top, .cells = width > 61 ? width - 41 : 20};
    buf_addf(out, "\n%s%-*s %11s %13s %6s %7s%s\n", color ? "\033[1m" : "", (int)t.cells, name,
             note, bytes, "SHARE", "B/SPAN", color ? "\033[0m" : "");
    return t;
}

/* spans: what the bytes are told per. */
static void cost_add(struct cost_table *t, struct str name, const char *note, uint64_t bytes,
                     uint64_t spans)
{
    if (t->top && t->rows == t->top) {
        t->others++;
        t->others_bytes += bytes;
        t->others_spans += spans;
        return;
    }
    t->rows++;
    cost_row(t, name, note, bytes, spans);
}

static void cost_end(const struct cost_table *t, uint64_t spans)
{
    char text[48], count[32];
    int n = snprintf(text, sizeof text, "(%s others)", text_count(t->others, count));
    if (t->others)
        cost_row(t, str_of(text, (size_t)n), "", t->others_bytes, spans);
}

static void operations_table(const struct cost_operation *v, size_t n, const char *head,
                             const struct cost *c, uint64_t top, struct buf *out)
{
    struct cost_table t = cost_begin(out, c, top, head, "SPANS", "BYTES");
    char text[32];
    for (size_t i = 0; i < n; i++) {
        struct buf name = buf_init(4 * MIB);
        buf_add_str(&name, v[i].service);
        if (v[i].name.p) {
            buf_add_c(&name, ": ");
            buf_add_str(&name, v[i].name);
        }
        cost_add(&t, buf_str(&name), text_count(v[i].spans, text), v[i].bytes, v[i].spans);
        buf_fini(&name);
    }
    cost_end(&t, t.others_spans);
}

static void columns_table(const struct cost *c, bool attributes, uint64_t top, struct buf *out)
{
    struct cost_table t = attributes ? cost_begin(out, c, top, "ATTRIBUTE KEY", "OF", "DROP SAVES")
                                     : cost_begin(out, c, top, "FIELD OR INDEX", "KIND", "BYTES");
    for (size_t i = 0; i < c->column_n; i++) {
        const struct cost_column *col = &c->columns[i];
        bool attr = col->kind != COST_FIELD && col->kind != COST_INDEX;
        if (attr == attributes)
            cost_add(&t, col->name, cost_kind_text(col->kind), col->bytes, c->spans);
    }
    cost_end(&t, c->spans);
}

static void cost_tables(const struct cost *c, uint64_t top, struct buf *out)
{
    char bytes[32], blocks[32], spans[32], waiting[32];
    buf_addf(out, "%s bytes in %s blocks, %s spans, %.2f bytes a span\n",
             text_count(c->bytes, bytes), text_count(c->blocks, blocks),
             text_count(c->spans, spans), c->spans ? (double)c->bytes / (double)c->spans : 0);
    if (c->waiting_spans)
        buf_addf(out, "%s spans are not in a block yet\n", text_count(c->waiting_spans, waiting));
    if (!c->blocks)
        return;
    operations_table(c->services, c->service_n, "SERVICE", c, top, out);
    operations_table(c->operations, c->operation_n, "OPERATION", c, top, out);
    columns_table(c, true, top, out);
    columns_table(c, false, top, out);
}

static int cost(struct cli *c)
{
    struct source s;
    struct cost cost;
    struct err e = {0};
    uint64_t top;
    struct buf out = buf_init(OUT_MAX);
    int code = source_open(&s, c);
    if (!code && !cli_u64(c, "top", 0, UINT32_MAX, &top))
        code = CLI_USAGE;
    if (code)
        return source_finish(&s, &out, code);
    if (source_cost(&s, &cost, &e))
        return source_finish_err(&s, &out, &e);
    if (cli_choice(c, "output") == 1) {
        struct json_writer w = json_writer_init(&out, 0);
        cost_json(&w, &cost);
        buf_add_char(&out, '\n');
    } else {
        cost_tables(&cost, top, &out);
    }
    say_what_is_missing(cost.complete, cost.after_ns);
    return source_finish(&s, &out, CLI_OK);
}

const struct cli_command cli_cost = {
    .name = "cost",
    .args = "",
    .summary = "Show what the bytes on disk are spent on, and what dropping a key would save",
    .details = "Each value costs an equal share of its column's bytes in its row group, to the "
               "operation of its span; what holds no values is shared equally by the spans. Each "
               "of services, operations and columns adds up to the tenant's block files. Dropping "
               "a key saves its columns, and its part of filters and directories besides.",
    .options = cost_options,
    .run = cost,
};
