/* SPDX-License-Identifier: Apache-2.0 */
/* What is printed from the tables: the reference page, help, completion. */
#include "app/cli/cli.h"
#include "app/config.h"
#include "base/os/os.h"
#include "tests/harness.h"

TEST(docs_config_page_is_the_one_the_table_prints)
{
    struct buf page = buf_init(MIB), file = buf_init(MIB);
    struct err e;
    config_write_markdown(&page);
    CHECK_OK(os_read_file(os_posix(), "docs/config.md", &file, &e));
    if (!str_eq(buf_str(&page), buf_str(&file)))
        test_fail(__FILE__, __LINE__,
                  "docs/config.md: run `lymer config --markdown >docs/config.md`");
    buf_fini(&page);
    buf_fini(&file);
}

static unsigned longest_line(struct str text)
{
    struct str line;
    unsigned most = 0;
    while (str_split(&text, '\n', &line))
        most = line.n > most ? (unsigned)line.n : most;
    return most;
}

TEST(docs_help_fits_80_columns_and_names_every_option)
{
    for (const struct cli_command *const *cmd = cli_commands; *cmd; cmd++) {
        struct buf out = buf_init(MIB);
        cli_help(*cmd, 80, &out);
        unsigned longest = longest_line(buf_str(&out));
        if (longest > 80)
            test_fail(__FILE__, __LINE__, "%s --help has a line of %u", (*cmd)->name, longest);
        buf_add_char(&out, 0);
        for (const struct cli_option *o = (*cmd)->options; o && o->name; o++)
            CHECK(strstr(out.p, o->name));
        buf_fini(&out);
    }
}

TEST(docs_completion_knows_every_command)
{
    static const char *const shells[] = {"bash", "zsh", "fish"};
    for (size_t i = 0; i < ARRAY_LEN(shells); i++) {
        struct buf out = buf_init(MIB);
        cli_completion(shells[i], &out);
        buf_add_char(&out, 0);
        for (const struct cli_command *const *cmd = cli_commands; *cmd; cmd++)
            CHECK(strstr(out.p, (*cmd)->name));
        CHECK(strstr(out.p, i == 2 ? "otlp-grpc-port" : "--otlp-grpc-port"));
        CHECK(!out.failed);
        buf_fini(&out);
    }
}
