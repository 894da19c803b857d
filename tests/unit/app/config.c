/* SPDX-License-Identifier: Apache-2.0 */
#include "app/config.h"

#include "tests/harness.h"

#include <stdio.h>

#define NO_ENV   ((const char *const[]){NULL})
#define ENV(...) ((const char *const[]){__VA_ARGS__, NULL})
#define LOAD(env, ...)                                                    \
    config_load(&c, (int)ARRAY_LEN(((const char *const[]){__VA_ARGS__})), \
                (const char *const[]){__VA_ARGS__}, env, &e)

static struct config c;
static struct err e;

static const char *file_of(const char *text)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/lymer.yaml", test_dir());
    FILE *f = fopen(path, "w");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
    return path;
}

static bool warned(const char *text)
{
    buf_add_char(&c.warnings, 0);
    return strstr(c.warnings.p, text) != NULL;
}

TEST(config_rules_are_joined_by_semicolons)
{
    config_init(&c);
    CHECK_OK(config_read_yaml(&c,
                              STR("retention: 24h\nretention.rules:\n  - keep service a,b for 3d\n"
                                  "  - drop after 1h\n"),
                              "f", NULL));
    CHECK_STR(str_from_c(c.retention_rules), STR("keep service a,b for 3d;drop after 1h"));
    config_fini(&c);
}

TEST(config_defaults_are_what_the_contract_says)
{
    config_init(&c);
    CHECK_OK(config_load(&c, 0, NULL, NO_ENV, &e));
    CHECK_STR(str_from_c(c.listen.text), STR("127.0.0.1"));
    CHECK_INT(c.otlp_grpc_port.port, 4317);
    CHECK_INT(c.otlp_http_port.port, 4318);
    CHECK_INT(c.query_port.port, 16686);
    CHECK_INT(c.admin_port.port, 14269);
    CHECK_INT(c.health_port.port, 13133);
    CHECK_INT(c.sync, 0);
    CHECK_INT(c.sync_every, 100 * NS_PER_MS);
    CHECK_INT(c.retention, 168 * 3600 * NS_PER_S);
    CHECK_INT(c.compact_percent, 50);
    CHECK_INT(c.compact_io, 64 * MIB);
    CHECK(!c.memory);
    config_fini(&c);
}

TEST(config_flag_wins_over_env_over_file_over_default)
{
    const char *path = file_of("retention: 1h\nmax-disk: 1GB\nsync: os\nmax-memory: 1GiB\n");
    config_init(&c);
    CHECK_OK(LOAD(ENV("LYMER_RETENTION=2h", "LYMER_MAX_DISK=2GB", "LYMER_SYNC=each"), "--retention",
                  "3h", "--config", path, "--max-disk=3GB"));
    CHECK_INT(c.retention, 3 * 3600 * NS_PER_S);
    CHECK_INT(c.max_disk, 3000000000);
    CHECK_INT(c.sync, 1);
    CHECK_INT(c.max_memory, GIB);
    CHECK_INT(c.given[CONF_retention].source, CONF_FROM_FLAG);
    CHECK_INT(c.given[CONF_sync].source, CONF_FROM_ENV);
    CHECK_INT(c.given[CONF_max_memory].source, CONF_FROM_FILE);
    CHECK_INT(c.given[CONF_listen].source, CONF_FROM_DEFAULT);
    config_fini(&c);
}

TEST(config_merging_is_given_a_rate)
{
    const char *path = file_of("compact: {cpu-percent: 20, io: 8MiB}\n");
    config_init(&c);
    CHECK_OK(LOAD(NO_ENV, "--config", path));
    CHECK_INT(c.compact_io, 8 * MIB);
    CHECK_INT(c.compact_percent, 20);
    config_fini(&c);
    config_init(&c);
    CHECK_OK(LOAD(ENV("LYMER_COMPACT_IO=1MB"), "--compact-io=0", "--config", path));
    CHECK_INT(c.compact_io, 0);
    CHECK(conf_keys[CONF_compact_io].reload == CONF_RELOAD);
    config_fini(&c);
}

TEST(config_file_may_come_from_the_environment_and_be_nested)
{
    char env[300];
    snprintf(env, sizeof env, "LYMER_CONFIG=%s",
             file_of("# a comment\notlp:\n  grpc: {port: 5000}\n  http:\n    port: \"\"\n"
                     "    cors-origins: [https://a.example, https://b.example]\n"
                     "query.base-path: /jaeger\nmemory: yes\nlog: {level: debug}\n"));
    config_init(&c);
    CHECK_OK(config_load(&c, 0, NULL, ENV(env), &e));
    CHECK_INT(c.otlp_grpc_port.port, 5000);
    CHECK_INT(c.otlp_http_port.port, 0);
    CHECK_STR(str_from_c(c.cors_origins), STR("https://a.example,https://b.example"));
    CHECK_STR(str_from_c(c.base_path), STR("/jaeger"));
    CHECK(c.memory);
    CHECK_INT(c.log_level, 0);
    config_fini(&c);
}

static const struct {
    const char *text, *why;
} bad_files[] = {
    {"retentoin: 1h\n", "lymer.yaml:1: unknown key \"retentoin\"; did you mean \"retention\"?"},
    {"otlp:\n  grpc:\n    prot: 1\n", "unknown key \"otlp.grpc.prot\"; did you mean"},
    {"a\n", "expected `key: value`"},
    {"- a\n", "nested in a way"},
    {"retention: [[1h]]\n", "nested in a way"},
    {"? {a: b}\n: c\n", "a key must be plain text"},
    {"retention: *x\n", "aliases"},
    {"retention: \"x\n", "lymer.yaml:"},
    {"config: other.yaml\n", "cannot name another file"},
    {"retention: soon\n", "\"soon\" is not a duration such as 168h"},
    {"sync: \"each\\0x\"\n", "holds a NUL"},
    {"a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}\n", "nested in a way"},
};

TEST(config_refuses_what_a_file_should_not_hold)
{
    for (size_t i = 0; i < ARRAY_LEN(bad_files); i++) {
        config_init(&c);
        CHECK_INT(LOAD(NO_ENV, "--config", file_of(bad_files[i].text)), E_USAGE);
        if (!strstr(e.msg, bad_files[i].why))
            test_fail(__FILE__, __LINE__, "file %zu: \"%s\" lacks \"%s\"", i, e.msg,
                      bad_files[i].why);
        config_fini(&c);
    }
    config_init(&c);
    CHECK_INT(LOAD(NO_ENV, "--config", "/nonexistent/lymer.yaml"), E_NOT_FOUND);
    config_fini(&c);
}

static const struct {
    const char *argv[3], *why;
} bad_flags[] = {
    {{"--no-such-flag"}, "unknown flag --no-such-flag"},
    {{"--retension", "1h"}, "unknown flag --retension; did you mean --retention?"},
    {{"--data"}, "--data needs a value"},
    {{"extra"}, "unexpected argument \"extra\""},
    {{"-x"}, "unexpected argument \"-x\""},
    {{"--"}, "unexpected argument \"--\""},
    {{"--sync", "never"}, "--sync: \"never\" is not one of interval|each|os"},
    {{"--port-offset", "60000"}, "--port-offset: \"60000\" is not a whole number in 0..50000"},
    {{"--port-offset=-1"}, "is not a whole number"},
    {{"--listen", "example.com"}, "is not a numeric address"},
    {{"--otlp-grpc-port", "70000"}, "is not a port"},
    {{"--otlp-grpc-port", "host:1"}, "is not a port"},
    {{"--memory=perhaps"}, "is not true or false"},
    {{"--max-memory", "1KiB"}, "is not a size such as 64MiB or 50GB in 64MiB..1024GiB"},
    {{"--retention", "-1h"}, "is not a duration"},
};

TEST(config_refuses_bad_flags_with_a_sentence)
{
    for (size_t i = 0; i < ARRAY_LEN(bad_flags); i++) {
        int n = bad_flags[i].argv[1] ? 2 : 1;
        config_init(&c);
        CHECK_INT(config_load(&c, n, bad_flags[i].argv, NO_ENV, &e), E_USAGE);
        if (!strstr(e.msg, bad_flags[i].why))
            test_fail(__FILE__, __LINE__, "flags %zu: \"%s\" lacks \"%s\"", i, e.msg,
                      bad_flags[i].why);
        config_fini(&c);
    }
}

TEST(config_ports_take_addresses_and_close)
{
    config_init(&c);
    CHECK_OK(LOAD(NO_ENV, "--otlp-grpc-port", "[::1]:77", "--otlp-http-port=:78", "--query.port",
                  "10.0.0.1:79", "--admin-port", "0", "--health-port", "", "--listen", "[::]"));
    CHECK_STR(str_from_c(c.otlp_grpc_port.host), STR("::1"));
    CHECK_INT(c.otlp_grpc_port.port, 77);
    CHECK_STR(str_from_c(c.otlp_http_port.host), STR("0.0.0.0"));
    CHECK_STR(str_from_c(c.query_port.host), STR("10.0.0.1"));
    CHECK_INT(c.admin_port.port, 0);
    CHECK_INT(c.health_port.port, 0);
    CHECK_STR(str_from_c(c.listen.text), STR("::"));
    config_fini(&c);
}

TEST(config_understands_jaegers_variables)
{
    config_init(&c);
    CHECK_OK(config_load(
        &c, 0, NULL,
        ENV("SPAN_STORAGE_TYPE=badger", "BADGER_EPHEMERAL=false", "BADGER_CONSISTENCY=true",
            "BADGER_DIRECTORY_VALUE=/badger/data", "BADGER_DIRECTORY_KEY=/badger/key",
            "BADGER_SPAN_STORE_TTL=48h", "COLLECTOR_OTLP_GRPC_HOST_PORT=0.0.0.0:5317",
            "COLLECTOR_OTLP_HTTP_HOST_PORT=:5318", "QUERY_HTTP_SERVER_HOST_PORT=127.0.0.1:5686",
            "ADMIN_HTTP_HOST_PORT=:5269", "LOG_LEVEL=warn", "QUERY_BASE_PATH=/jaeger",
            "QUERY_MAX_CLOCK_SKEW_ADJUSTMENT=5s", "JAEGER_LISTEN_HOST=0.0.0.0",
            "COLLECTOR_OTLP_HTTP_CORS_ALLOWED_ORIGINS=*", "COLLECTOR_OTLP_ENABLED=true",
            "LYMER_DATA=/data", "PATH=/bin"),
        &e));
    CHECK(!c.memory);
    CHECK_INT(c.sync, 1);
    CHECK_STR(str_from_c(c.data), STR("/data"));
    CHECK_INT(c.retention, 48 * 3600 * NS_PER_S);
    CHECK_STR(str_from_c(c.otlp_grpc_port.host), STR("0.0.0.0"));
    CHECK_INT(c.otlp_grpc_port.port, 5317);
    CHECK_INT(c.otlp_http_port.port, 5318);
    CHECK_INT(c.query_port.port, 5686);
    CHECK_INT(c.admin_port.port, 5269);
    CHECK_INT(c.log_level, 2);
    CHECK_STR(str_from_c(c.base_path), STR("/jaeger"));
    CHECK_INT(c.clock_skew, 5 * NS_PER_S);
    CHECK_STR(str_from_c(c.listen.text), STR("0.0.0.0"));
    CHECK_STR(str_from_c(c.cors_origins), STR("*"));
    CHECK_INT(c.warnings.n, 0);
    config_fini(&c);
}

TEST(config_badger_needs_one_directory)
{
    static const char *const orders[][2] = {
        {"BADGER_DIRECTORY_VALUE=/v", "BADGER_DIRECTORY_KEY=/k"},
        {"BADGER_DIRECTORY_KEY=/k", "BADGER_DIRECTORY_VALUE=/v"}};
    for (int i = 0; i < 2; i++) {
        config_init(&c);
        CHECK_OK(config_load(&c, 0, NULL, ENV(orders[i][0], orders[i][1]), &e));
        CHECK_STR(str_from_c(c.data), STR("/v"));
        config_fini(&c);
    }
}

TEST(config_memory_storage_of_jaeger_is_memory_here)
{
    config_init(&c);
    CHECK_OK(
        config_load(&c, 0, NULL, ENV("SPAN_STORAGE_TYPE=memory", "MEMORY_MAX_TRACES=100"), &e));
    CHECK(c.memory);
    CHECK(warned("MEMORY_MAX_TRACES of Jaeger has no effect"));
    config_fini(&c);
}

TEST(config_names_what_it_does_not_understand_but_never_its_value)
{
    config_init(&c);
    CHECK_OK(LOAD(ENV("ES_PASSWORD=secret", "LYMER_RETENTOIN=1h", "ES=unrelated"),
                  "--es.server-urls", "http://secret", "--collector.zipkin.host-port=:9411",
                  "--collector.grpc.tls.enabled", "--memory.max-traces=7", "--memory"));
    CHECK(c.memory);
    CHECK(warned("ES_PASSWORD of Jaeger has no effect: not understood"));
    CHECK(warned("--es.server-urls of Jaeger has no effect"));
    CHECK(warned("--collector.zipkin.host-port"));
    CHECK(warned("--memory.max-traces of Jaeger has no effect: spans are forgotten by age"));
    CHECK(warned("LYMER_RETENTOIN is not known"));
    CHECK(!warned("secret"));
    config_fini(&c);
}

TEST(config_prints_what_it_reads)
{
    config_init(&c);
    CHECK_OK(LOAD(ENV("LYMER_MAX_DISK=7GB"), "--data", "/tmp/a b: \"c\"", "--memory",
                  "--otlp.http.port", ""));
    struct buf text = buf_init(MIB);
    config_write(&c, &text);
    struct config again;
    config_init(&again);
    CHECK_OK(config_read_yaml(&again, buf_str(&text), "printed", &e));
    for (int i = 0; i < CONF_COUNT; i++)
        CHECK_STR(str_from_c(again.given[i].text), str_from_c(c.given[i].text));
    buf_add_char(&text, 0);
    CHECK(strstr(text.p, "# from LYMER_MAX_DISK"));
    CHECK(strstr(text.p, "# from --data"));
    buf_fini(&text);
    config_fini(&again);
    config_fini(&c);
}

TEST(config_survives_any_yaml)
{
    static const char alphabet[] = "a:{}[]-?&*!|>'\"%@` \n\t#,~0retention";
    char text[200];
    for (int i = 0; i < 20000; i++) {
        size_t n = test_rand() % sizeof text;
        for (size_t j = 0; j < n; j++)
            text[j] = alphabet[test_rand() % (sizeof alphabet - 1)];
        config_init(&c);
        (void)!config_read_yaml(&c, str_of(text, n), "any", &e);
        config_fini(&c);
    }
}
