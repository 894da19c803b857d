/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/api/ui.h"

#include "base/hash.h"
#include "base/num.h"

/* The assembler reads the file: no generated source, no cost at compile time. */
#define EMBED(name, file)                                                             \
    __asm__(".pushsection .rodata\n"                                                  \
            ".global ui_" #name "_begin\nui_" #name "_begin:\n.incbin \"" file "\"\n" \
            ".global ui_" #name "_end\nui_" #name "_end:\n.popsection\n");            \
    extern const char ui_##name##_begin[], ui_##name##_end[]

EMBED(index, "ui/src/index.html");
EMBED(script, "ui/src/page.js");
EMBED(style, "ui/src/page.css");
EMBED(icon, "ui/src/favicon.svg");

/* Attribute values are hostile and the page shows them: nothing but our own files may run. */
static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'self'; form-action 'self'";

static void reply(struct http_req *r, const char *ctype, struct str body)
{
    char tag[20] = "\"";
    uint64_t sum = hash_str(body, 0);
    num_put_hex(tag + 1, &sum, sizeof sum);
    tag[17] = '"';
    struct str etag = str_of(tag, 18);
    http_set_header(r, "ETag", etag);
    http_set_header(r, "Cache-Control", STR("no-cache"));
    http_set_header(r, "Content-Security-Policy", str_of(policy, sizeof policy - 1));
    http_set_header(r, "Referrer-Policy", STR("same-origin"));
    if (str_eq(http_header(r, STR("if-none-match")), etag))
        http_reply(r, 304, ctype, STR_NONE);
    else
        http_reply(r, 200, ctype, body);
}

static struct str between(const char *begin, const char *end)
{
    return str_of(begin, (size_t)(end - begin));
}

/* The page finds everything else through <base>, relative to its own address: right behind any
 * prefix. */
static void page(struct http_req *r, struct str base)
{
    const struct str mark = STR("{{base}}");
    struct str all = between(ui_index_begin, ui_index_end);
    const char *at = memmem(all.p, all.n, mark.p, mark.n);
    ensure(at);
    size_t head = (size_t)(at - all.p);
    struct str tail = str_skip(all, head + mark.n);
    struct str html = arena_printf(&r->arena, "%.*s%.*s%.*s", (int)head, all.p, STR_ARG(base),
                                   STR_ARG(tail));
    reply(r, "text/html; charset=utf-8", html);
}

static void page_at_top(struct http_req *r)
{
    page(r, STR("./"));
}

static void page_below(struct http_req *r)
{
    page(r, STR("../"));
}

static void script(struct http_req *r)
{
    reply(r, "text/javascript; charset=utf-8", between(ui_script_begin, ui_script_end));
}

static void style(struct http_req *r)
{
    reply(r, "text/css; charset=utf-8", between(ui_style_begin, ui_style_end));
}

static void icon(struct http_req *r)
{
    reply(r, "image/svg+xml", between(ui_icon_begin, ui_icon_end));
}

const struct http_route ui_routes[] = {
    {"GET", "/", page_at_top, HTTP_ON_LOOP},
    {"GET", "/search", page_at_top, HTTP_ON_LOOP},
    {"GET", "/trace/{id}", page_below, HTTP_ON_LOOP},
    {"GET", "/static/page.js", script, HTTP_ON_LOOP},
    {"GET", "/static/page.css", style, HTTP_ON_LOOP},
    {"GET", "/favicon.ico", icon, HTTP_ON_LOOP},
};
const size_t ui_route_count = ARRAY_LEN(ui_routes);
