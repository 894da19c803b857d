/* SPDX-License-Identifier: Apache-2.0 */
/* search, services, ops, deps. */
#include "app/cli/commands.h"
#include "app/cli/source.h"
#include "app/cli/term.h"
#include "base/num.h"
#include "codec/json.h"

#include <stdio.h>

#define HOUR_NS  (3600 * NS_PER_S)
#define SINCE_NS (48 * HOUR_NS)

/* --- search --- */

static const struct cli_option search_options[] = {
    QUERY_OPTIONS,
    {"order", "ORDER", NULL, "newest|slowest|spans|errors",
     "What comes first: the newest (default), those with the longest matching span, with most "
     "spans, with most errors"},
    {"cursor", "CURSOR", NULL, NULL, "Go on where the answer ended that printed it"},
    {"limit", "N", "20", NULL, "Traces at most"},
    {"output", "FORMAT", "table", "table|json|jsonl|id", "How to print"},
    SOURCE_OPTIONS,
    {0}};

static void summary_json(struct json_writer *w, const struct trace_summary *t, struct str cursor)
{
    json_object(w);
    summary_members(w, t);
    JSON_KEY_C(w, "services");
    json_array(w);
    for (uint32_t i = 0; i < t->service_count; i++)
        json_str(w, t->services[i].name);
    json_array_end(w);
    if (cursor.n) {
        JSON_KEY_C(w, "nextCursor");
        json_str(w, cursor);
    }
    json_object_end(w);
}

/* The last trace has the cursor, when there is more. */
static void page_json(const struct source_page *page, bool lines, struct buf *out)
{
    struct json_writer w = json_writer_init(out, lines ? 0 : 2);
    if (!lines)
        json_array(&w);
    for (size_t i = 0; i < page->n; i++) {
        summary_json(&w, &page->v[i], i + 1 == page->n ? page->cursor : STR_NONE);
        if (lines) {
            buf_add_char(out, '\n');
            w = json_writer_init(out, 0);
        }
    }
    if (!lines) {
        json_array_end(&w);
        buf_add_char(out, '\n');
    }
}

static void right(struct buf *out, const char *text, unsigned cells)
{
    unsigned have = text_cells(str_from_c(text));
    buf_addf(out, "%*s%s", (int)(have < cells ? cells - have : 0), "", text);
}

/* How much of a start is shown: all of it where there is room, else what tells the rows apart. */
static struct str start_text(uint64_t ns, unsigned cells, char out[NUM_TEXT_MAX])
{
    num_put_rfc3339(out, ns / NS_PER_S * NS_PER_S);
    out[10] = ' ';
    return str_of(out + 19 - cells, cells);
}

static unsigned start_cells(const struct trace_summary *v, size_t n, unsigned width)
{
    const uint64_t day_ns = 24 * 3600 * NS_PER_S;
    if (width >= 100)
        return 19;
    for (size_t i = 1; i < n; i++)
        if (v[i].min_start_ns / day_ns != v[0].min_start_ns / day_ns)
            return 14; /* month and day */
    return 8;
}

/* The id is whole at any width, since it is what the next command needs; the root gives way, but
 * not below eight cells. */
static void summaries_table(const struct trace_summary *v, size_t n, struct buf *out)
{
    bool color = term_color(), ascii = !term_utf8();
    unsigned width = term_width(), start = start_cells(v, n, width);
    unsigned fixed = start + 1 + 32 + 1 + 1 + 8 + 1 + 6 + 1 + 4;
    unsigned root = width > fixed + 8 ? width - fixed : 8;
    char text[NUM_TEXT_MAX], hex[33], d[32];
    buf_addf(out, "%s%-*s %-32s %-*s %8s %6s %4s%s\n", color ? "\033[1m" : "", (int)start,
             start == 19 ? "START (UTC)" : "UTC", "TRACE", (int)root, "ROOT", "DURATION", "SPANS",
             "ERR", color ? "\033[0m" : "");
    for (size_t i = 0; i < n; i++) {
        const struct trace_summary *t = &v[i];
        struct str at = start_text(t->min_start_ns, start, text);
        hex[num_put_hex(hex, t->trace_id, 16)] = 0;
        buf_addf(out, "%.*s %s ", STR_ARG(at), hex);
        struct buf name = buf_init(4 * MIB);
        buf_add_str(&name, t->root_service.n ? t->root_service : STR("-"));
        buf_add_c(&name, ": ");
        buf_add_str(&name, t->root_operation);
        text_add_padded(out, buf_str(&name), root, ascii);
        buf_fini(&name);
        buf_add_char(out, ' ');
        right(out, text_duration(t->max_end_ns - t->min_start_ns, ascii, d), 8);
        buf_addf(out, " %6llu ", (unsigned long long)t->span_count);
        if (t->error_count)
            buf_addf(out, "%s%4llu%s\n", color ? "\033[1;31m" : "",
                     (unsigned long long)t->error_count, color ? "\033[0m" : "");
        else
            buf_addf(out, "%4s\n", ascii ? "-" : "·");
    }
}

static bool order_from(const struct cli *c, struct trace_query *q, struct trace_hit *after)
{
    const char *order = cli_value(c, "order"), *cursor = cli_value(c, "cursor");
    enum query_order of;
    ensure(!order || query_order_from(str_from_c(order), &q->order));
    if (!cursor)
        return true;
    if (!query_cursor_get(str_from_c(cursor), &of, after)) {
        cli_fail(c, CLI_USAGE, "--cursor: \"%.100s\" was not printed by a search", cursor);
        return false;
    }
    if (order && of != q->order) {
        cli_fail(c, CLI_USAGE, "--cursor: it is of a search with --order %s", query_order_name(of));
        return false;
    }
    q->order = of;
    q->after = after;
    return true;
}

static void print_page(const struct source_page *page, unsigned format, struct buf *out)
{
    if (format == 1 || format == 2)
        page_json(page, format == 2, out);
    for (size_t i = 0; i < page->n && format == 3; i++) {
        char hex[33];
        hex[num_put_hex(hex, page->v[i].trace_id, 16)] = 0;
        buf_addf(out, "%s\n", hex);
    }
    if (format == 0 && page->n)
        summaries_table(page->v, page->n, out);
}

static int search(struct cli *c)
{
    struct source s;
    struct trace_query q;
    struct trace_hit after;
    struct source_page page;
    struct err e = {0};
    uint64_t limit;
    int code = source_open(&s, c);
    if (code)
        return source_end(&s, code);
    if (!cli_u64(c, "limit", 1, QUERY_LIMIT_MAX, &limit) || !source_query(&s, SINCE_NS, &q) ||
        !order_from(c, &q, &after))
        return source_end(&s, CLI_USAGE);
    q.limit = (uint32_t)limit;
    struct buf out = buf_init(SOURCE_OUT_MAX);
    if (source_search(&s, &q, &page, &e))
        return source_finish_err(&s, &out, &e);
    print_page(&page, cli_choice(c, "output"), &out);
    bool found = page.n || page.warning.n;
    source_print(&out); /* what is said of it stands below it */
    if (page.warning.n)
        fprintf(stderr, "%.*s\n", STR_ARG(page.warning));
    if (page.cursor.n)
        fprintf(stderr, "there is more: --cursor %.*s\n", STR_ARG(page.cursor));
    if (!found)
        fprintf(stderr, "no traces found\n");
    return source_finish(&s, &out, found ? CLI_OK : CLI_NOT_FOUND);
}

const struct cli_command cli_search = {
    .name = "search",
    .args = "",
    .summary = "List traces, the newest, slowest or largest first",
    .details = "A trace is listed when one of its spans satisfies everything asked. Without times: "
               "the last 48 hours. A server ends a search at its budget, and what it says then is "
               "printed. Exit code 3 when there is none.",
    .options = search_options,
    .run = search,
};

/* --- services, ops, deps --- */

static const struct cli_option list_options[] = {
    {"output", "FORMAT", "text", "text|json", "How to print"}, SOURCE_OPTIONS, {0}};

static int services(struct cli *c)
{
    struct source s;
    struct str *v;
    struct err e = {0};
    size_t n;
    int code = source_open(&s, c);
    if (code)
        return source_end(&s, code);
    struct buf out = buf_init(SOURCE_OUT_MAX);
    if (source_services(&s, &v, &n, &e))
        return source_finish_err(&s, &out, &e);
    struct json_writer w = json_writer_init(&out, 0);
    bool json = cli_choice(c, "output") == 1;
    if (json)
        json_array(&w);
    for (size_t i = 0; i < n; i++) {
        if (json) {
            json_str(&w, v[i]);
        } else {
            text_add_cut(&out, v[i], 1000, false);
            buf_add_char(&out, '\n');
        }
    }
    if (json) {
        json_array_end(&w);
        buf_add_char(&out, '\n');
    }
    return source_finish(&s, &out, CLI_OK);
}

const struct cli_command cli_services = {.name = "services",
                                         .args = "",
                                         .summary = "List the services that sent spans",
                                         .options = list_options,
                                         .run = services};

static const char *const kinds[KIND_COUNT] = {"",       "internal", "server",
                                              "client", "producer", "consumer"};

static int operations(struct cli *c)
{
    struct source s;
    struct operation *v;
    struct err e = {0};
    size_t n;
    int code = source_open(&s, c);
    if (code)
        return source_end(&s, code);
    struct buf out = buf_init(SOURCE_OUT_MAX);
    if (source_operations(&s, str_from_c(c->args[0]), &v, &n, &e))
        return source_finish_err(&s, &out, &e);
    struct json_writer w = json_writer_init(&out, 0);
    bool json = cli_choice(c, "output") == 1;
    if (json)
        json_array(&w);
    for (size_t i = 0; i < n; i++) {
        if (json) {
            json_object(&w);
            JSON_KEY_C(&w, "name");
            json_str(&w, v[i].name);
            JSON_KEY_C(&w, "spanKind");
            json_str(&w, str_from_c(kinds[v[i].kind]));
            json_object_end(&w);
        } else {
            buf_addf(&out, "%-9s ", kinds[v[i].kind]);
            text_add_cut(&out, v[i].name, 1000, false);
            buf_add_char(&out, '\n');
        }
    }
    if (json) {
        json_array_end(&w);
        buf_add_char(&out, '\n');
    }
    if (!n)
        fprintf(stderr, "no operations of \"%s\"\n", c->args[0]);
    return source_finish(&s, &out, n ? CLI_OK : CLI_NOT_FOUND);
}

const struct cli_command cli_ops = {.name = "ops",
                                    .args = "SERVICE",
                                    .args_min = 1,
                                    .args_max = 1,
                                    .summary = "List a service's operations with their span kinds",
                                    .options = list_options,
                                    .run = operations};

static const struct cli_option deps_options[] = {
    {"since", "DURATION", "24h", NULL, "Calls of the last so long"},
    {"output", "FORMAT", "text", "text|json|dot|mermaid", "How to print"},
    SOURCE_OPTIONS,
    {0}};

static void quoted(struct buf *out, struct str s)
{
    buf_add_char(out, '"');
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '"' || s.p[i] == '\\')
            buf_add_char(out, '\\');
        buf_add_char(out, (unsigned char)s.p[i] < 0x20 ? '?' : s.p[i]);
    }
    buf_add_char(out, '"');
}

static void one_dependency(struct buf *out, struct json_writer *w, unsigned format,
                           const struct dependency *d)
{
    char text[32];
    switch (format) {
    case 0:
        text_add_padded(out, d->parent, 24, false);
        buf_add_c(out, " -> ");
        text_add_padded(out, d->child, 24, false);
        buf_addf(out, " %12s\n", text_count(d->calls, text));
        break;
    case 1:
        json_object(w);
        JSON_KEY_C(w, "parent");
        json_str(w, d->parent);
        JSON_KEY_C(w, "child");
        json_str(w, d->child);
        JSON_KEY_C(w, "callCount");
        json_u64(w, d->calls);
        json_object_end(w);
        break;
    case 2:
        buf_add_c(out, "  ");
        quoted(out, d->parent);
        buf_add_c(out, " -> ");
        quoted(out, d->child);
        buf_addf(out, " [label=\"%llu\"];\n", (unsigned long long)d->calls);
        break;
    default:
        buf_add_c(out, "  ");
        text_add_cut(out, d->parent, 1000, false);
        buf_addf(out, " -- %llu --> ", (unsigned long long)d->calls);
        text_add_cut(out, d->child, 1000, false);
        buf_add_char(out, '\n');
    }
}

static int dependencies(struct cli *c)
{
    static const char *const before[] = {"", "", "digraph calls {\n", "graph LR\n"};
    static const char *const after[] = {"", "\n", "}\n", ""};
    struct source s;
    struct dependency *v;
    struct err e = {0};
    size_t n;
    uint64_t since, now = os_now_ns(os_posix());
    int code = source_open(&s, c);
    if (code)
        return source_end(&s, code);
    if (!cli_duration(c, "since", &since))
        return source_end(&s, CLI_USAGE);
    struct buf out = buf_init(SOURCE_OUT_MAX);
    if (source_dependencies(&s, since < now ? now - since : 0, now, &v, &n, &e))
        return source_finish_err(&s, &out, &e);
    unsigned format = cli_choice(c, "output");
    struct json_writer w = json_writer_init(&out, 0);
    buf_add_c(&out, before[format]);
    if (format == 1)
        json_array(&w);
    for (size_t i = 0; i < n; i++)
        one_dependency(&out, &w, format, &v[i]);
    if (format == 1)
        json_array_end(&w);
    buf_add_c(&out, after[format]);
    return source_finish(&s, &out, CLI_OK);
}

const struct cli_command cli_deps = {.name = "deps",
                                     .args = "",
                                     .summary = "List which service calls which, and how often",
                                     .options = deps_options,
                                     .run = dependencies};
