/* SPDX-License-Identifier: Apache-2.0 */
#include "app/cli/waterfall.h"

#include "app/cli/term.h"
#include "tests/harness.h"

#include <stdio.h>

static struct arena arena;
static struct trace trace;
static const struct resource shop = {.service = {"shop", 4}}, bank = {.service = {"bank", 4}};

static struct span *add(uint64_t id, uint64_t parent, const char *name, uint64_t start_ms,
                        uint64_t end_ms)
{
    struct span *s = ARENA_NEW(&arena, struct span);
    memset(s->trace_id, 0xab, 16);
    memcpy(s->span_id, &id, 8);
    memcpy(s->parent_id, &parent, 8);
    s->name = str_from_c(name);
    s->start_ns = UINT64_C(1767225600000000000) + start_ms * NS_PER_MS;
    s->end_ns = UINT64_C(1767225600000000000) + end_ms * NS_PER_MS;
    s->resource = &shop;
    CHECK(trace_add(&trace, s, &arena));
    return s;
}

static void begin(void)
{
    arena = arena_init(64 * MIB);
    trace = (struct trace){0};
    memset(trace.id, 0xab, 16);
}

static void expect(const struct waterfall_style *style, const char *want)
{
    struct buf out = buf_init(MIB);
    trace_sort(&trace);
    CHECK(waterfall_write(&trace, style, &arena, &out));
    CHECK_STR(buf_str(&out), str_from_c(want));
    buf_fini(&out);
    arena_fini(&arena);
}

static void checkout(void)
{
    begin();
    add(1, 0, "POST /checkout", 0, 800);
    add(2, 1, "validate cart", 0, 95);
    struct span *charge = add(3, 1, "charge", 100, 700);
    struct span *card = add(4, 3, "POST /card", 130, 690);
    struct span *ledger = add(5, 4, "INSERT ledger with a name far too long for it", 400, 680);
    charge->status = STATUS_ERROR;
    card->resource = ledger->resource = &bank;
    add(6, 1, "ship", 710, 711);
}

TEST(waterfall_at_80_columns)
{
    checkout();
    expect(&(struct waterfall_style){.width = 80},
           "abababababababababababababababab  shop\n"
           "POST /checkout\n"
           "2026-01-01T00:00:00Z · 800ms · 6 spans · 2 services · 1 error\n"
           "\n"
           "                                   ╷0      ╷200ms   ╷400ms   ╷600ms\n"
           "shop POST /checkout                ███████████████████████████████████   800ms\n"
           "├─validate cart                    ████▏                                95.0ms\n"
           "├─charge                               ██████████████████████████▋       600ms ✗\n"
           "│ └─bank POST /card                     ▐████████████████████████▎       560ms\n"
           "│   └─INSERT ledger with a name f…                  ▐███████████▊        280ms\n"
           "└─ship                                                            ▏     1.00ms\n");
}

TEST(waterfall_at_80_columns_in_ascii)
{
    checkout();
    expect(&(struct waterfall_style){.width = 80, .ascii = true},
           "abababababababababababababababab  shop\n"
           "POST /checkout\n"
           "2026-01-01T00:00:00Z, 800ms, 6 spans, 2 services, 1 error\n"
           "\n"
           "                                   |0      |200ms   |400ms   |600ms\n"
           "shop POST /checkout                ===================================   800ms\n"
           "|-validate cart                    =====                                95.0ms\n"
           "|-charge                               ===========================       600ms !\n"
           "| `-bank POST /card                     ==========================       560ms\n"
           "|   `-INSERT ledger with a name f.                  =============        280ms\n"
           "`-ship                                                            =     1.00ms\n");
}

/* A parent outside the page is not missing. */
TEST(waterfall_of_a_page)
{
    begin();
    add(3, 1, "charge", 100, 700);
    add(4, 3, "POST /card", 130, 690);
    expect(&(struct waterfall_style){.width = 80, .ascii = true, .first = 1999, .total = 1000000},
           "abababababababababababababababab  shop\n"
           "charge\n"
           "2026-01-01T00:00:00.1Z, 600ms, spans 2,000-2,001 of 1,000,000, 1 service\n"
           "\n"
           "                                   |0      |150ms   |300ms   |450ms\n"
           "shop charge                        ===================================   600ms\n"
           "`-POST /card                        ==================================   560ms\n");
}

TEST(waterfall_in_color_at_60_columns)
{
    begin();
    add(1, 0, "a", 0, 100);
    add(2, 1, "b", 50, 100)->status = STATUS_ERROR;
    expect(
        &(struct waterfall_style){.width = 60, .color = true},
        "\033[1mabababababababababababababababab\033[0m  \033[38;5;44mshop\033[0m\n"
        "\033[1ma\033[0m\n"
        "2026-01-01T00:00:00Z · 100ms · 2 spans · 1 service · \033[1;31m1 error\033[0m\n"
        "\n"
        "                         \033[2m╷0          ╷50.0ms\033[0m\n"
        "\033[38;5;44mshop\033[0m a                  \033[0m \033[38;5;44m█████████████████████████\033[0m   100ms\n"
        "\033[2m└─\033[0m\033[38;5;44mb                     \033[0m \033[38;5;44m            ▐████████████\033[0m  50.0ms \033[1;31m✗\033[0m\n");
}

TEST(waterfall_shows_orphans_circles_and_doubles)
{
    begin();
    add(1, 0, "root", 0, 100);
    add(2, 99, "lost parent", 10, 20);
    add(3, 4, "circle a", 20, 30);
    add(4, 3, "circle b", 21, 30);
    add(5, 3, "beside the circle", 22, 30);
    add(6, 6, "own parent", 30, 40);
    add(1, 0, "root's double", 40, 50);
    expect(&(struct waterfall_style){.width = 80, .ascii = true},
           "abababababababababababababababab  shop\n"
           "root\n"
           "2026-01-01T00:00:00Z, 100ms, 7 spans, 1 service\n"
           "\n"
           "                                   |0      |25.0ms  |50.0ms  |75.0ms\n"
           "shop root                          ===================================   100ms\n"
           "? shop lost parent                    ====                              10.0ms\n"
           "? shop own parent                            ====                       10.0ms\n"
           "shop root's double                               ====                   10.0ms\n"
           "? shop circle a                           ====                          10.0ms\n"
           "|-circle b                                ====                          9.00ms\n"
           "`-beside the circle                       ====                          8.00ms\n");
}

TEST(waterfall_counts_what_it_hides)
{
    begin();
    add(1, 0, "root", 0, 1000);
    for (uint64_t i = 0; i < 400; i++)
        add(10 + i, 1, "child", i, i + 2)->status = i == 399 ? STATUS_ERROR : STATUS_UNSET;
    add(1000, 20, "grandchild", 11, 12);
    expect(&(struct waterfall_style){.width = 80, .ascii = true, .rows = 8},
           "abababababababababababababababab  shop\n"
           "root\n"
           "2026-01-01T00:00:00Z, 1.00s, 402 spans, 1 service, 1 error\n"
           "\n"
           "                                   |0      |250ms   |500ms   |750ms\n"
           "shop root                          ===================================   1.00s\n"
           "|-child                            =                                    2.00ms\n"
           "|-child                            =                                    2.00ms\n"
           "|-child                            =                                    2.00ms\n"
           "|-child                            =                                    2.00ms\n"
           "|-child                            =                                    2.00ms\n"
           "`-... 396 more spans, 1 error\n");
}

TEST(waterfall_handles_a_very_deep_trace)
{
    begin();
    for (uint64_t i = 0; i < 20000; i++)
        add(i + 1, i, "deeper", i, 40000 - i);
    expect(&(struct waterfall_style){.width = 40, .ascii = true, .rows = 6},
           "abababababababababababababababab  shop\n"
           "deeper\n"
           "2026-01-01T00:00:00Z, 40.0s, 20,000 spans, 1 service\n"
           "\n"
           "               |0     |20.0s\n"
           "shop deeper    ===============   40.0s\n"
           "`deeper        ===============   40.0s\n"
           " `deeper       ===============   40.0s\n"
           "  `deeper      ===============   40.0s\n"
           "   `... 19,996 more spans\n");
}

TEST(waterfall_times_at_their_limits)
{
    begin();
    struct span *a = add(1, 0, "from nothing to everything", 0, 0);
    a->start_ns = 0;
    a->end_ns = UINT64_MAX;
    struct span *b = add(2, 1, "ends before it starts", 5, 3);
    (void)b;
    struct span *c = add(3, 1, "at the end", 0, 0);
    c->start_ns = c->end_ns = UINT64_MAX;
    expect(&(struct waterfall_style){.width = 60, .ascii = true},
           "abababababababababababababababab  shop\n"
           "from nothing to everything\n"
           "1970-01-01T00:00:00Z, 213503d23h, 3 spans, 1 service\n"
           "\n"
           "                         |0          |106751d23h\n"
           "shop from nothing to ev. ========================= 213503d23h\n"
           "|-ends before it starts    =                           0ns\n"
           "`-at the end                                     =     0ns\n");
}

TEST(waterfall_makes_names_harmless)
{
    begin();
    struct span *s = add(1, 0, "\033[31mred\n\xff tab\t", 0, 1);
    (void)s;
    add(2, 1, "注文サービスを処理する長い名前です", 0, 1);
    add(3, 1, "e\xcc\x81t\xc3\xa9 \xe2\x80\xae evil", 0, 1);
    expect(&(struct waterfall_style){.width = 50},
           "abababababababababababababababab  shop\n"
           "?[31mred?? tab?\n"
           "2026-01-01T00:00:00Z · 1.00ms · 3 spans · 1 service\n"
           "\n"
           "                    ╷0        ╷500µs\n"
           "shop ?[31mred?? ta… ████████████████████  1.00ms\n"
           "├─注文サービスを処… ████████████████████  1.00ms\n"
           "└─été ? evil        ████████████████████  1.00ms\n");
}

TEST(text_knows_how_wide_it_is)
{
    CHECK_INT(text_cells(STR("abc")), 3);
    CHECK_INT(text_cells(STR("日本")), 4);
    CHECK_INT(text_cells(STR("한국어")), 6);
    CHECK_INT(text_cells(STR("e\xcc\x81")), 1);
    CHECK_INT(text_cells(STR("🚀")), 2);
    CHECK_INT(text_cells(STR("\xff\xfe")), 2);
    CHECK_INT(text_cells(STR("")), 0);
    struct buf out = buf_init(KIB);
    CHECK_INT(text_add_cut(&out, STR("日本語"), 4, false), 3);
    CHECK_STR(buf_str(&out), STR("日…"));
    buf_reset(&out);
    text_add_padded(&out, STR("日本語"), 8, false);
    CHECK_STR(buf_str(&out), STR("日本語  "));
    buf_reset(&out);
    CHECK_INT(text_add_cut(&out, STR("abc"), 0, false), 0);
    CHECK_INT(out.n, 0);
    buf_fini(&out);
}

TEST(text_writes_durations_in_seven_cells)
{
    static const struct {
        uint64_t ns;
        const char *text;
    } rows[] = {{0, "0ns"},
                {999, "999ns"},
                {1000, "1.00µs"},
                {12345, "12.3µs"},
                {999499, "999µs"},
                {999999, "1.00ms"},
                {1234567, "1.23ms"},
                {99949999, "99.9ms"},
                {123456789, "123ms"},
                {999999999, "1.00s"},
                {59 * NS_PER_S, "59.0s"},
                {61 * NS_PER_S, "1m01s"},
                {3600 * NS_PER_S, "1h00m"},
                {90000 * NS_PER_S, "1d01h"},
                {UINT64_MAX, "213503d23h"}};
    char text[32];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        CHECK_STR(str_from_c(text_duration(rows[i].ns, false, text)), str_from_c(rows[i].text));
    CHECK_STR(str_from_c(text_count(0, text)), STR("0"));
    CHECK_STR(str_from_c(text_count(999, text)), STR("999"));
    CHECK_STR(str_from_c(text_count(1234567, text)), STR("1,234,567"));
}
