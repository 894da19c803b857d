/* SPDX-License-Identifier: Apache-2.0 */
/* Spans come in any order, with parents that are missing, doubled or in a circle; all are shown.
 *
 * First every span gets a line: depth first, children by start, a span whose parent is not there
 * under no one, and last what only a circle reaches. Then the lines are thinned until they fit:
 * only the first children of each span, and only so deep; what is left out under a span is one row
 * that says how much and how many errors. */
#include "app/cli/waterfall.h"

#include "app/cli/term.h"
#include "base/hash.h"
#include "base/num.h"

#include <stdio.h>

#define NONE UINT32_MAX

/* A span in the order of display. */
struct line {
    const struct span *span;
    uint32_t depth, ordinal; /* which child of its parent: sum_up */
    uint32_t below;          /* lines of its subtree, itself not counted */
    uint32_t errors;         /* in the subtree, itself counted */
    bool last;               /* child of its parent */
    bool orphan;
};

struct node {
    uint32_t parent, first, newest, next;
    bool seen, orphan;
};

struct tree {
    const struct trace *trace;
    struct node *nodes;
    struct line *lines;
    uint32_t count;
    uint64_t min_ns, max_ns;
};

struct view {
    const struct waterfall_style *style;
    struct buf *out;
    const struct tree *tree;
    unsigned label, bar;
    uint32_t children_max, depth_max;
    unsigned indent;          /* cells a level */
    uint64_t *open;           /* a bit a depth: more siblings follow, so the guide goes on */
    const struct span **path; /* the newest span of each depth: a line's ancestors */
};

/* --- the tree --- */

static uint32_t slot_of(const uint32_t *table, uint32_t mask, const struct trace *t,
                        const uint8_t id[8])
{
    uint32_t at = (uint32_t)hash64(id, 8, 1) & mask;
    while (table[at] != NONE && memcmp(t->spans[table[at]]->span_id, id, 8) != 0)
        at = (at + 1) & mask;
    return at;
}

static bool link_nodes(struct tree *w, struct arena *a)
{
    const struct trace *t = w->trace;
    uint32_t size = 8;
    while (size < t->span_count * 2)
        size *= 2;
    uint32_t *table = ARENA_ARRAY(a, uint32_t, size);
    w->nodes = ARENA_ARRAY(a, struct node, t->span_count);
    w->lines = ARENA_ARRAY(a, struct line, t->span_count);
    if (!table || !w->nodes || !w->lines)
        return false;
    memset(table, 0xff, size * sizeof *table);
    for (uint32_t i = 0; i < t->span_count; i++) {
        uint32_t at = slot_of(table, size - 1, t, t->spans[i]->span_id);
        if (table[at] == NONE)
            table[at] = i;
        w->nodes[i] = (struct node){NONE, NONE, NONE, NONE, false, false};
    }
    for (uint32_t i = 0; i < t->span_count; i++) {
        const struct span *s = t->spans[i];
        if (!span_has_parent(s))
            continue;
        uint32_t parent = table[slot_of(table, size - 1, t, s->parent_id)];
        if (parent == NONE || parent == i) {
            w->nodes[i].orphan = true;
            continue;
        }
        struct node *p = &w->nodes[parent];
        w->nodes[i].parent = parent;
        if (p->newest == NONE)
            p->first = i;
        else
            w->nodes[p->newest].next = i;
        p->newest = i;
    }
    return true;
}

/* The subtree of a root, without a stack: down to the first child, else on to the next sibling of
 * the nearest ancestor that has one. */
static void add_lines(struct tree *w, uint32_t root)
{
    uint32_t at = root, depth = 0;
    for (;;) {
        struct node *n = &w->nodes[at];
        bool fresh = !n->seen;
        n->seen = true;
        if (fresh)
            w->lines[w->count++] = (struct line){.span = w->trace->spans[at],
                                                 .depth = depth,
                                                 .last = n->next == NONE,
                                                 .orphan = n->orphan};
        if (fresh && n->first != NONE) {
            at = n->first;
            depth++;
            continue;
        }
        while (at != root && w->nodes[at].next == NONE) {
            at = w->nodes[at].parent;
            depth--;
        }
        if (at == root)
            return;
        at = w->nodes[at].next;
    }
}

/* Which child each line is, and the sums of subtrees. */
static bool sum_up(struct tree *w, struct arena *a)
{
    uint32_t deepest = 0;
    for (uint32_t i = 0; i < w->count; i++)
        deepest = w->lines[i].depth > deepest ? w->lines[i].depth : deepest;
    uint32_t *ordinal = ARENA_ARRAY(a, uint32_t, deepest + 2);
    if (!ordinal)
        return false;
    for (uint32_t i = 0; i < w->count; i++) {
        struct line *l = &w->lines[i];
        l->ordinal = l->depth ? ordinal[l->depth]++ : 0;
        ordinal[l->depth + 1] = 0;
        l->errors = l->span->status == STATUS_ERROR;
    }
    for (uint32_t i = w->count; i--;) {
        struct line *l = &w->lines[i];
        uint32_t j = i + 1;
        while (j < w->count && w->lines[j].depth > l->depth) { /* each child once */
            l->below += 1 + w->lines[j].below;
            l->errors += w->lines[j].errors;
            j += 1 + w->lines[j].below;
        }
    }
    return true;
}

/* Takes the span out of its parent's children. A circle is opened once: this is linear in all. */
static void open_circle(struct tree *w, uint32_t at)
{
    struct node *n = &w->nodes[at], *parent = &w->nodes[n->parent];
    uint32_t *from = &parent->first;
    while (*from != at)
        from = &w->nodes[*from].next;
    *from = n->next;
    n->next = n->parent = NONE;
    n->orphan = true;
}

static bool tree_build(struct tree *w, const struct trace *t, struct arena *a)
{
    *w = (struct tree){.trace = t, .min_ns = UINT64_MAX};
    if (!link_nodes(w, a))
        return false;
    for (uint32_t i = 0; i < t->span_count; i++) {
        const struct span *s = t->spans[i];
        w->min_ns = min_u64(w->min_ns, s->start_ns);
        w->max_ns = max_u64(w->max_ns, max_u64(s->start_ns, s->end_ns));
        if (w->nodes[i].parent == NONE)
            add_lines(w, i);
    }
    for (uint32_t i = 0; i < t->span_count; i++)
        if (!w->nodes[i].seen) { /* on a circle: opened here */
            open_circle(w, i);
            add_lines(w, i);
        }
    return sum_up(w, a);
}

/* --- thinning --- */

/* Is the line hidden, and is it the first hidden one of its parent, which gets the row? */
static bool hidden(const struct view *v, const struct line *l, bool *row)
{
    *row = l->depth < v->depth_max ? l->ordinal == v->children_max
                                   : l->depth == v->depth_max && l->ordinal == 0;
    return l->ordinal >= v->children_max || l->depth >= v->depth_max;
}

static uint32_t rows_of(const struct view *v)
{
    uint32_t rows = 0;
    bool row;
    for (uint32_t i = 0; i < v->tree->count;) {
        const struct line *l = &v->tree->lines[i];
        bool gone = hidden(v, l, &row);
        rows += gone ? row : 1;
        i += gone ? 1 + l->below : 1;
    }
    return rows;
}

static void thin(struct view *v)
{
    static const uint32_t steps[][2] = {{1000, 1000}, {300, 100}, {100, 50}, {50, 30}, {20, 20},
                                        {10, 15},     {5, 10},    {3, 8},    {2, 6},   {1, 4}};
    v->children_max = v->depth_max = NONE;
    for (size_t i = 0; i < ARRAY_LEN(steps) && v->style->rows && rows_of(v) > v->style->rows; i++) {
        v->children_max = steps[i][0];
        v->depth_max = steps[i][1];
    }
}

/* --- drawing --- */

static const char *paint(const struct view *v, const char *code)
{
    return v->style->color ? code : "";
}

static void service_color(const struct view *v, struct str service)
{
    static const uint8_t palette[] = {39, 208, 41, 170, 220, 44, 141, 112, 203, 75, 180, 147};
    if (v->style->color)
        buf_addf(v->out, "\033[38;5;%um", palette[hash_str(service, 3) % ARRAY_LEN(palette)]);
}

static struct str service_of(const struct span *s)
{
    return s->resource && s->resource->service.n ? s->resource->service : STR("-");
}

static void spaces(struct buf *out, unsigned n)
{
    buf_addf(out, "%*s", (int)n, "");
}

/* The guides before a label; returns their cells. Very deep lines get their depth instead. */
static unsigned guides(const struct view *v, const struct line *l)
{
    bool ascii = v->style->ascii;
    if (!l->depth)
        return 0;
    buf_add_c(v->out, paint(v, "\033[2m"));
    unsigned cells = l->depth * v->indent;
    if (cells > v->label / 2) {
        char text[32];
        cells = (unsigned)snprintf(text, sizeof text, "%u> ", l->depth);
        buf_add_c(v->out, text);
    } else {
        for (uint32_t d = 1; d < l->depth; d++) {
            bool more = v->open[d / 64] >> (d % 64) & 1;
            buf_add_c(v->out, !more ? " " : ascii ? "|" : "│");
            spaces(v->out, v->indent - 1);
        }
        buf_add_c(v->out, l->last ? (ascii ? "`" : "└") : ascii ? "|" : "├");
        if (v->indent > 1)
            buf_add_c(v->out, ascii ? "-" : "─");
    }
    buf_add_c(v->out, paint(v, "\033[0m"));
    return cells;
}

static void label(const struct view *v, const struct line *l)
{
    bool ascii = v->style->ascii;
    unsigned used = guides(v, l), room = v->label - used;
    struct str service = service_of(l->span);
    if (l->orphan && room > 12 && !v->style->total) {
        buf_add_c(v->out, "? ");
        room -= 2;
    }
    /* A service is named where it begins; below, its colour goes on with the names. There the name
     * keeps a third of the room, however long the service's is. */
    bool begins = !l->depth || !str_eq(service_of(v->path[l->depth - 1]), service);
    service_color(v, service);
    if (begins) {
        room -= text_add_cut(v->out, service, room - room / 3, ascii);
        buf_add_c(v->out, paint(v, "\033[0m"));
        if (room) {
            buf_add_char(v->out, ' ');
            room--;
        }
    }
    text_add_padded(v->out, l->span->name, room, ascii);
    buf_add_c(v->out, paint(v, "\033[0m"));
}

static void bar_ascii(const struct view *v, uint64_t from, uint64_t to)
{
    unsigned first = (unsigned)(from / 8), last = (unsigned)((to - 1) / 8);
    for (unsigned i = 0; i < v->bar; i++)
        buf_add_char(v->out, i < first || i > last ? ' ' : '=');
}

/* The left edge is a half block, the right one exact to an eighth. */
static void bar_blocks(const struct view *v, uint64_t from, uint64_t to)
{
    static const char *const eighths[] = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
    for (unsigned i = 0; i < v->bar; i++) {
        uint64_t cell = (uint64_t)i * 8;
        if (to <= cell || from >= cell + 8)
            buf_add_char(v->out, ' ');
        else if (from >= cell + 4)
            buf_add_c(v->out, "▐");
        else
            buf_add_c(v->out, eighths[min_u64(to - cell, 8)]);
    }
}

/* Where the span lies, in eighths of a cell. At least one eighth long, always inside. */
static void bar(const struct view *v, const struct span *s)
{
    double total = (double)max_u64(v->tree->max_ns - v->tree->min_ns, 1), cells = v->bar * 8.0;
    uint64_t all = (uint64_t)v->bar * 8;
    uint64_t from = (uint64_t)((double)(s->start_ns - v->tree->min_ns) / total * cells);
    uint64_t to = (uint64_t)((double)(max_u64(s->end_ns, s->start_ns) - v->tree->min_ns) / total *
                                 cells +
                             0.5);
    from = min_u64(from, all - 1);
    to = min_u64(max_u64(to, from + 1), all);
    service_color(v, service_of(s));
    if (v->style->ascii)
        bar_ascii(v, from, to);
    else
        bar_blocks(v, from, to);
    buf_add_c(v->out, paint(v, "\033[0m"));
}

static void trim_right(struct buf *out)
{
    while (out->n && out->p[out->n - 1] == ' ')
        out->n--;
}

static void span_row(const struct view *v, const struct line *l)
{
    char text[32];
    const struct span *s = l->span;
    label(v, l);
    buf_add_char(v->out, ' ');
    bar(v, s);
    const char *d = text_duration(span_duration_ns(s), v->style->ascii, text);
    unsigned cells = text_cells(str_from_c(d));
    spaces(v->out, 1 + (cells < 7 ? 7 - cells : 0));
    buf_add_c(v->out, d);
    if (s->status == STATUS_ERROR)
        buf_addf(v->out, " %s%s%s", paint(v, "\033[1;31m"), v->style->ascii ? "!" : "✗",
                 paint(v, "\033[0m"));
    buf_add_char(v->out, '\n');
}

/* One row for this line and its hidden siblings after it. */
static void hidden_row(const struct view *v, const struct line *l)
{
    uint64_t spans = 0, errors = 0;
    const struct line *end = v->tree->lines + v->tree->count;
    for (const struct line *i = l; i < end && i->depth == l->depth; i += 1 + i->below) {
        spans += 1 + i->below;
        errors += i->errors;
    }
    struct line row = *l;
    char text[32];
    row.last = true;
    guides(v, &row);
    buf_addf(v->out, "%s%s %s more %s", paint(v, "\033[2m"), v->style->ascii ? "..." : "…",
             text_count(spans, text), spans == 1 ? "span" : "spans");
    if (errors)
        buf_addf(v->out, ", %s %s", text_count(errors, text), errors == 1 ? "error" : "errors");
    buf_addf(v->out, "%s\n", paint(v, "\033[0m"));
}

static void rows(struct view *v)
{
    bool row;
    for (uint32_t i = 0; i < v->tree->count;) {
        const struct line *l = &v->tree->lines[i];
        if (hidden(v, l, &row)) {
            if (row)
                hidden_row(v, l);
            i += 1 + l->below;
            continue;
        }
        uint64_t bit = UINT64_C(1) << (l->depth % 64);
        if (l->last)
            v->open[l->depth / 64] &= ~bit;
        else
            v->open[l->depth / 64] |= bit;
        v->path[l->depth] = l->span;
        span_row(v, l);
        i++;
    }
}

/* --- the head --- */

static uint32_t count_services(const struct trace *t, struct arena *a)
{
    uint32_t size = 8, n = 0;
    while (size < t->span_count * 2)
        size *= 2;
    struct str *table = ARENA_ARRAY(a, struct str, size);
    for (uint32_t i = 0; table && i < t->span_count; i++) {
        struct str s = service_of(t->spans[i]);
        uint32_t at = (uint32_t)hash_str(s, 5) & (size - 1);
        while (table[at].p && !str_eq(table[at], s))
            at = (at + 1) & (size - 1);
        n += !table[at].p;
        table[at] = s;
    }
    return n;
}

static const struct span *root_of(const struct tree *w)
{
    for (uint32_t i = 0; i < w->count; i++)
        if (!w->lines[i].depth && !w->lines[i].orphan)
            return w->lines[i].span;
    return w->lines[0].span;
}

/* How many, or which of how many. */
static void head_spans(const struct view *v)
{
    char n[32], to[32], of[32];
    uint64_t first = v->style->first, count = v->tree->count;
    if (v->style->total)
        buf_addf(v->out, "spans %s%s%s of %s", text_count(first + 1, n),
                 v->style->ascii ? "-" : "–", text_count(first + count, to),
                 text_count(v->style->total, of));
    else
        buf_addf(v->out, "%s %s", text_count(count, n), count == 1 ? "span" : "spans");
}

static void head(const struct view *v, struct arena *a)
{
    const struct tree *w = v->tree;
    const struct span *root = root_of(w);
    const char *dot = v->style->ascii ? ", " : " · ";
    char id[33], when[NUM_TEXT_MAX], d[32], n1[32], n2[32];
    uint64_t errors = 0;
    uint32_t services = count_services(w->trace, a);
    for (uint32_t i = 0; i < w->count; i++)
        errors += w->lines[i].depth == 0 ? w->lines[i].errors : 0;
    id[num_put_hex(id, w->trace->id, 16)] = 0;
    size_t n = num_put_rfc3339(when, w->min_ns / 1000000 * 1000000);
    buf_addf(v->out, "%s%s%s  ", paint(v, "\033[1m"), id, paint(v, "\033[0m"));
    service_color(v, service_of(root));
    text_add_cut(v->out, service_of(root), v->style->width - 34, v->style->ascii);
    buf_addf(v->out, "%s\n%s", paint(v, "\033[0m"), paint(v, "\033[1m"));
    text_add_cut(v->out, root->name, v->style->width, v->style->ascii);
    buf_addf(v->out, "%s\n%.*s%s%s%s", paint(v, "\033[0m"), (int)n, when, dot,
             text_duration(w->max_ns - w->min_ns, v->style->ascii, d), dot);
    head_spans(v);
    buf_addf(v->out, "%s%s %s", dot, text_count(services, n1),
             services == 1 ? "service" : "services");
    if (errors)
        buf_addf(v->out, "%s%s%s %s%s", dot, paint(v, "\033[1;31m"), text_count(errors, n2),
                 errors == 1 ? "error" : "errors", paint(v, "\033[0m"));
    buf_add_c(v->out, "\n\n");
}

/* The time scale: a mark at each quarter. */
static void ruler(const struct view *v)
{
    char text[32];
    uint64_t total = v->tree->max_ns - v->tree->min_ns;
    unsigned at = 0, marks = v->bar >= 32 ? 4 : 2;
    spaces(v->out, v->label + 1);
    buf_add_c(v->out, paint(v, "\033[2m"));
    for (unsigned i = 0; i < marks; i++) {
        unsigned want = v->bar * i / marks;
        spaces(v->out, want > at ? want - at : 0);
        buf_add_c(v->out, v->style->ascii ? "|" : "╷");
        const char *d = i ? text_duration(total / marks * i, v->style->ascii, text) : "0";
        buf_add_c(v->out, d);
        at = (want > at ? want : at) + 1 + text_cells(str_from_c(d));
    }
    trim_right(v->out);
    buf_addf(v->out, "%s\n", paint(v, "\033[0m"));
}

bool waterfall_write(const struct trace *t, const struct waterfall_style *style, struct arena *a,
                     struct buf *out)
{
    struct tree w;
    if (!t->span_count)
        return true;
    if (!tree_build(&w, t, a))
        return false;
    uint32_t deepest = 0;
    for (uint32_t i = 0; i < w.count; i++)
        deepest = w.lines[i].depth > deepest ? w.lines[i].depth : deepest;
    struct view v = {.style = style, .out = out, .tree = &w};
    v.open = ARENA_ARRAY(a, uint64_t, deepest / 64 + 1);
    v.path = ARENA_ARRAY(a, const struct span *, deepest + 1);
    if (!v.open || !v.path)
        return false;
    /* label, bar, seven cells of duration, the mark, and the gaps */
    v.label = (style->width - 11) / 2;
    v.bar = style->width - 11 - v.label;
    thin(&v);
    deepest = deepest < v.depth_max ? deepest : v.depth_max;
    v.indent = deepest * 2 > v.label / 2 ? 1 : 2;
    head(&v, a);
    ruler(&v);
    rows(&v);
    return true;
}
