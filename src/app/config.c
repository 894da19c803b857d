/* SPDX-License-Identifier: Apache-2.0 */
#include "app/config.h"

#include "base/num.h"
#include "base/os/os.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#define YAML_DEPTH_MAX 8u
#define KEY_MAX        128u

const struct conf_key conf_keys[CONF_COUNT] = {
#define CONF_ROW(field, type_, key_, def_, choices_, reload_, help_) \
    {key_, def_, choices_, help_, offsetof(struct config, field), CONF_##type_, CONF_##reload_},
    CONF_TABLE(CONF_ROW)
#undef CONF_ROW
};

/* --- names --- */

static void name_in_style(const char *key, const char *prefix, bool upper, char gap, char out[64])
{
    int n = snprintf(out, 64, "%s", prefix);
    for (const char *p = key; *p && n < 63; p++) {
        char c = *p == '.' || *p == '-' ? gap : *p;
        out[n++] = upper && c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
    }
    out[n] = 0;
}

void config_flag_name(const struct conf_key *k, char out[64])
{
    name_in_style(k->key, "--", false, '-', out);
}

void config_env_name(const struct conf_key *k, char out[64])
{
    name_in_style(k->key, "LYMER_", true, '_', out);
}

int config_find(struct str name)
{
    char flag[64];
    for (int i = 0; i < CONF_COUNT; i++) {
        config_flag_name(&conf_keys[i], flag);
        if (str_eq_c(name, conf_keys[i].key) || str_eq_c(name, flag + 2))
            return i;
    }
    return -1;
}

static unsigned edit_distance(struct str a, struct str b)
{
    unsigned row[64 + 1];
    if (a.n > 64 || b.n > 64)
        return 64;
    for (unsigned j = 0; j <= b.n; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a.n; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b.n; j++) {
            unsigned above = row[j], change = diagonal + (a.p[i - 1] != b.p[j - 1]);
            unsigned gap = (above < row[j - 1] ? above : row[j - 1]) + 1;
            row[j] = change < gap ? change : gap;
            diagonal = above;
        }
    }
    return row[b.n];
}

const char *config_nearest(struct str name, bool flag, char out[64])
{
    unsigned best = (unsigned)(name.n / 3 > 2 ? name.n / 3 : 2) + 1;
    int found = -1;
    char text[64];
    for (int i = 0; i < CONF_COUNT; i++) {
        config_flag_name(&conf_keys[i], text);
        unsigned d = edit_distance(name, str_from_c(text + 2));
        if (d < best)
            best = d, found = i;
    }
    if (found < 0)
        return NULL;
    if (flag)
        config_flag_name(&conf_keys[found], out);
    else
        snprintf(out, 64, "%s", conf_keys[found].key);
    return out;
}

/* --- values --- */

static bool choice_from(const char *choices, struct str text, unsigned *out)
{
    struct str rest = str_from_c(choices), one;
    for (unsigned i = 0; str_split(&rest, '|', &one); i++)
        if (str_eq(one, text)) {
            *out = i;
            return true;
        }
    return false;
}

static bool bool_from(struct str s, bool *out)
{
    static const char *const words[2][6] = {{"false", "0", "no", "off", "f", "F"},
                                            {"true", "1", "yes", "on", "t", "T"}};
    for (int v = 0; v < 2; v++)
        for (size_t i = 0; i < ARRAY_LEN(words[v]); i++)
            if (str_eq_nocase(s, str_from_c(words[v][i]))) {
                *out = v;
                return true;
            }
    return false;
}

/* A numeric address without brackets; "localhost" is 127.0.0.1. */
static bool host_from(struct str s, char out[46])
{
    unsigned char raw[16];
    if (s.n >= 2 && s.p[0] == '[' && s.p[s.n - 1] == ']')
        s = str_of(s.p + 1, s.n - 2);
    if (str_eq(s, STR("localhost")))
        s = STR("127.0.0.1");
    if (s.n == 0 || s.n > 45 || memchr(s.p, 0, s.n))
        return false;
    memcpy(out, s.p, s.n);
    out[s.n] = 0;
    return inet_pton(AF_INET, out, raw) == 1 || inet_pton(AF_INET6, out, raw) == 1;
}

static bool door_from(struct str s, struct door_addr *out)
{
    struct door_addr d = {0};
    size_t colon = s.n;
    while (colon && s.p[colon - 1] != ':')
        colon--;
    struct str port = str_skip(s, colon);
    uint64_t v = 0;
    if (colon == 1)
        snprintf(d.host, sizeof d.host, "0.0.0.0");
    else if (colon && !host_from(str_take(s, colon - 1), d.host))
        return false;
    if (port.n && (!num_get_u64(port, &v) || v > 65535))
        return false;
    d.port = (uint16_t)v;
    *out = d;
    return true;
}

static bool number_from(enum conf_type type, struct str s, uint64_t *out)
{
    int64_t ns;
    switch (type) {
    case CONF_BYTES:
        return num_get_bytes(s, out);
    case CONF_DURATION:
        if (!num_get_duration(s, &ns) || ns < 0)
            return false;
        *out = (uint64_t)ns;
        return true;
    default:
        return num_get_u64(s, out);
    }
}

static bool in_range(const struct conf_key *k, uint64_t v)
{
    struct str all = str_from_c(k->choices);
    const char *dots = strstr(k->choices, "..");
    if (!dots)
        return true;
    size_t at = (size_t)(dots - k->choices);
    uint64_t least, most;
    ensure(number_from(k->type, str_take(all, at), &least));
    ensure(number_from(k->type, str_skip(all, at + 2), &most));
    return v >= least && v <= most;
}

static const char *const wanted[] = {
    [CONF_STRING] = "text",
    [CONF_BOOL] = "true or false",
    [CONF_UINT] = "a whole number",
    [CONF_BYTES] = "a size such as 64MiB or 50GB",
    [CONF_DURATION] = "a duration such as 168h, 30m or 100ms",
    [CONF_CHOICE] = "one of",
    [CONF_HOST] = "a numeric address such as 127.0.0.1 or ::",
    [CONF_DOOR] = "a port such as 4317, an address and port such as 0.0.0.0:4317, or 0 to close it",
};

static bool value_from(const struct conf_key *k, struct str text, void *field)
{
    switch (k->type) {
    case CONF_STRING:
        *(conf_c_STRING *)field = text.p;
        return true;
    case CONF_BOOL:
        return bool_from(text, field);
    case CONF_CHOICE:
        return choice_from(k->choices, text, field);
    case CONF_HOST:
        return host_from(text, ((conf_c_HOST *)field)->text);
    case CONF_DOOR:
        return door_from(text, field);
    case CONF_UINT:
    case CONF_BYTES:
    case CONF_DURATION:
        return number_from(k->type, text, field) && in_range(k, *(uint64_t *)field);
    }
    return false;
}

/* Everything is kept as C text: a NUL inside a value would cut it off silently. */
static enum errc keep_text(struct config *c, struct str *text, const char *name, struct err *e)
{
    if (text->n > CONFIG_TEXT_MAX || (text->n && memchr(text->p, 0, text->n)))
        return fail(e, E_USAGE, "%s: the value is too long or holds a NUL", name);
    *text = arena_str(&c->arena, text->n ? *text : STR(""));
    return text->p ? E_OK : fail(e, E_NO_MEMORY, "too many settings");
}

enum errc config_set(struct config *c, enum conf_id id, enum conf_source source, const char *name,
                     struct str text, struct err *e)
{
    const struct conf_key *k = &conf_keys[id];
    if (c->given[id].source > source)
        return E_OK;
    enum errc code = keep_text(c, &text, name, e);
    if (code)
        return code;
    union {
        conf_c_DOOR door;
        conf_c_HOST host;
        conf_c_STRING string;
        uint64_t number;
        unsigned choice;
        bool flag;
    } v = {.number = 0};
    if (!value_from(k, text, &v))
        return fail(e, E_USAGE, "%s: \"%.100s\" is not %s%s%s", name, text.p, wanted[k->type],
                    *k->choices ? (k->type == CONF_CHOICE ? " " : " in ") : "", k->choices);
    static const size_t sizes[] = {
        [CONF_STRING] = sizeof(conf_c_STRING),     [CONF_BOOL] = sizeof(conf_c_BOOL),
        [CONF_UINT] = sizeof(conf_c_UINT),         [CONF_BYTES] = sizeof(conf_c_BYTES),
        [CONF_DURATION] = sizeof(conf_c_DURATION), [CONF_CHOICE] = sizeof(conf_c_CHOICE),
        [CONF_HOST] = sizeof(conf_c_HOST),         [CONF_DOOR] = sizeof(conf_c_DOOR)};
    memcpy((char *)c + k->offset, &v, sizes[k->type]);
    struct str kept = arena_str(&c->arena, str_from_c(name));
    c->given[id] = (struct conf_given){source, kept.p ? kept.p : "", text.p};
    return E_OK;
}

void config_init(struct config *c)
{
    *c = (struct config){.arena = arena_init(2 * MIB), .warnings = buf_init(64 * KIB)};
    for (int i = 0; i < CONF_COUNT; i++)
        ensure(config_set(c, (enum conf_id)i, CONF_FROM_DEFAULT, "default",
                          str_from_c(conf_keys[i].def), NULL) == E_OK);
}

void config_fini(struct config *c)
{
    arena_fini(&c->arena);
    buf_fini(&c->warnings);
}

/* --- the file --- */

/* Where the reader is: the dotted name so far, its length at each level, what comes next. */
struct yaml_walk {
    struct config *c;
    const char *file;
    char name[KEY_MAX];
    size_t len[YAML_DEPTH_MAX + 1];
    unsigned depth;
    bool want_value, in_list, done;
    struct buf list;
};

static enum errc yaml_name(struct yaml_walk *w, struct str part, unsigned line, struct err *e)
{
    size_t at = w->len[w->depth];
    size_t need = part.n + (at ? 1 : 0);
    if (at + need >= KEY_MAX || (part.n && memchr(part.p, 0, part.n)))
        return fail(e, E_USAGE, "%s:%u: the key is too long", w->file, line);
    if (at)
        w->name[at++] = '.';
    memcpy(w->name + at, part.p, part.n);
    w->name[at + part.n] = 0;
    w->want_value = true;
    return E_OK;
}

static enum errc yaml_value(struct yaml_walk *w, struct str text, unsigned line, struct err *e)
{
    struct str name = str_from_c(w->name);
    char where[KEY_MAX + 320], near[64];
    w->want_value = false;
    int id = config_find(name);
    if (id == CONF_config)
        return fail(e, E_USAGE, "%s:%u: a file cannot name another file", w->file, line);
    if (id < 0) {
        const char *other = config_nearest(name, false, near);
        return fail(e, E_USAGE, "%s:%u: unknown key \"%.100s\"%s%s%s", w->file, line, w->name,
                    other ? "; did you mean \"" : "", other ? other : "", other ? "\"?" : "");
    }
    snprintf(where, sizeof where, "%.300s:%u: %s", w->file, line, w->name);
    return config_set(w->c, (enum conf_id)id, CONF_FROM_FILE, where, text, e);
}

static enum errc yaml_scalar(struct yaml_walk *w, const yaml_event_t *ev, struct err *e)
{
    struct str text = str_of(ev->data.scalar.value, ev->data.scalar.length);
    unsigned line = (unsigned)ev->start_mark.line + 1;
    if (ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
        (str_eq(text, STR("~")) || str_eq(text, STR("null"))))
        text = STR("");
    if (w->in_list) {
        if (w->list.n) /* rules have commas of their own */
            buf_add_char(&w->list,
                         config_find(str_from_c(w->name)) == CONF_retention_rules ? ';' : ',');
        buf_add_str(&w->list, text);
        return E_OK;
    }
    if (w->depth == 0)
        return text.n ? fail(e, E_USAGE, "%s:%u: expected `key: value`", w->file, line) : E_OK;
    return w->want_value ? yaml_value(w, text, line, e) : yaml_name(w, text, line, e);
}

static enum errc yaml_open(struct yaml_walk *w, bool list, unsigned line, struct err *e)
{
    if (w->in_list || (list && !w->want_value) || w->depth == YAML_DEPTH_MAX)
        return fail(e, E_USAGE, "%s:%u: nested in a way no setting is", w->file, line);
    if (list) {
        w->in_list = true;
        buf_reset(&w->list);
        return E_OK;
    }
    if (w->depth && !w->want_value)
        return fail(e, E_USAGE, "%s:%u: a key must be plain text", w->file, line);
    size_t at = w->depth ? strlen(w->name) : 0;
    w->len[++w->depth] = at;
    w->want_value = false;
    return E_OK;
}

static enum errc yaml_event(struct yaml_walk *w, const yaml_event_t *ev, struct err *e)
{
    unsigned line = (unsigned)ev->start_mark.line + 1;
    switch (ev->type) {
    case YAML_SCALAR_EVENT:
        return yaml_scalar(w, ev, e);
    case YAML_MAPPING_START_EVENT:
        return yaml_open(w, false, line, e);
    case YAML_SEQUENCE_START_EVENT:
        return yaml_open(w, true, line, e);
    case YAML_SEQUENCE_END_EVENT:
        w->in_list = false;
        if (w->list.failed)
            return fail(e, E_USAGE, "%s:%u: the list is too long", w->file, line);
        return yaml_value(w, buf_str(&w->list), line, e);
    case YAML_MAPPING_END_EVENT:
        w->name[w->len[w->depth--]] = 0;
        return E_OK;
    case YAML_DOCUMENT_END_EVENT:
    case YAML_STREAM_END_EVENT:
        w->done = true;
        return E_OK;
    case YAML_ALIAS_EVENT:
        return fail(e, E_USAGE, "%s:%u: anchors and aliases are not read", w->file, line);
    default:
        return E_OK;
    }
}

enum errc config_read_yaml(struct config *c, struct str yaml, const char *name, struct err *e)
{
    struct yaml_walk w = {.c = c, .file = name, .list = buf_init(CONFIG_TEXT_MAX)};
    yaml_parser_t parser;
    yaml_event_t ev;
    enum errc code = E_OK;
    if (!yaml_parser_initialize(&parser))
        return fail(e, E_NO_MEMORY, "%s: no memory to read it", name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)yaml.p, yaml.n);
    while (!code && !w.done) {
        if (!yaml_parser_parse(&parser, &ev)) {
            code = fail(e, E_USAGE, "%s:%zu: %s", name, parser.problem_mark.line + 1,
                        parser.problem ? parser.problem : "not YAML");
            break;
        }
        code = yaml_event(&w, &ev, e);
        yaml_event_delete(&ev);
    }
    yaml_parser_delete(&parser);
    buf_fini(&w.list);
    return code;
}

static enum errc read_file(struct config *c, struct err *e)
{
    if (!*c->config)
        return E_OK;
    struct buf text = buf_init(CONFIG_FILE_MAX);
    enum errc code = os_read_file(os_posix(), c->config, &text, e);
    if (!code)
        code = config_read_yaml(c, buf_str(&text), c->config, e);
    buf_fini(&text);
    return code;
}

/* --- flags and environment --- */

static enum errc unknown_flag(struct str name, struct err *e)
{
    char near[64];
    const char *other = config_nearest(name, true, near);
    return fail(e, E_USAGE, "unknown flag --%.*s%s%s%s", STR_ARG(str_take(name, 100)),
                other ? "; did you mean " : "", other ? other : "", other ? "?" : "");
}

/* One flag at argv[*i]; *i moves past its value. With file_only, only --config is taken: the file
 * must be read before the other flags are laid over it. */
static enum errc one_flag(struct config *c, int argc, const char *const *argv, int *i,
                          bool file_only, struct err *e)
{
    struct str arg = str_from_c(argv[*i]);
    if (!str_starts(arg, STR("--")) || arg.n == 2)
        return fail(e, E_USAGE, "unexpected argument \"%.100s\"", argv[*i]);
    struct str name = str_skip(arg, 2);
    size_t equals = str_find(name, '=');
    bool inline_value = equals < name.n;
    struct str value = str_skip(name, equals + 1);
    name = str_take(name, equals);
    int id = config_find(name);
    const struct jaeger_key *jaeger = id < 0 ? jaeger_key_of_flag(name) : NULL;
    if (id < 0 && !jaeger)
        return unknown_flag(name, e);
    if (jaeger)
        id = jaeger_key_same_as(jaeger);
    bool is_switch = id >= 0 ? conf_keys[id].type == CONF_BOOL : jaeger_key_is_switch(jaeger, name);
    if (!inline_value && is_switch)
        value = STR("true");
    else if (!inline_value && *i + 1 < argc)
        value = str_from_c(argv[++*i]);
    else if (!inline_value)
        return fail(e, E_USAGE, "--%.*s needs a value", STR_ARG(str_take(name, 100)));
    if (file_only != (id == CONF_config))
        return E_OK;
    char flag[KEY_MAX];
    snprintf(flag, sizeof flag, "--%.*s", STR_ARG(str_take(name, 100)));
    return id >= 0 ? config_set(c, (enum conf_id)id, CONF_FROM_FLAG, flag, value, e)
                   : jaeger_key_apply(jaeger, c, CONF_FROM_FLAG, flag, value, e);
}

static enum errc all_flags(struct config *c, int argc, const char *const *argv, bool file_only,
                           struct err *e)
{
    enum errc code = E_OK;
    for (int i = 0; i < argc && !code; i++)
        code = one_flag(c, argc, argv, &i, file_only, e);
    return code;
}

/* Other LYMER_ variables have other readers. */
static bool env_is_foreign(struct str name)
{
    return str_eq(name, STR("LYMER_URL")) || str_starts(name, STR("LYMER_TEST_"));
}

static enum errc one_env(struct config *c, const char *entry, struct err *e)
{
    struct str all = str_from_c(entry);
    size_t equals = str_find(all, '=');
    struct str name = str_take(all, equals), value = str_skip(all, equals + 1);
    char text[KEY_MAX];
    if (!str_starts(name, STR("LYMER_"))) {
        const struct jaeger_key *jaeger = jaeger_key_of_env(name);
        snprintf(text, sizeof text, "%.*s", STR_ARG(str_take(name, 100)));
        return jaeger ? jaeger_key_apply(jaeger, c, CONF_FROM_JAEGER_ENV, text, value, e) : E_OK;
    }
    for (int i = 0; i < CONF_COUNT; i++) {
        config_env_name(&conf_keys[i], text);
        if (str_eq_c(name, text))
            return config_set(c, (enum conf_id)i, CONF_FROM_ENV, text, value, e);
    }
    if (!env_is_foreign(name))
        buf_addf(&c->warnings, "the variable %.*s is not known and ignored\n",
                 STR_ARG(str_take(name, 100)));
    return E_OK;
}

enum errc config_load(struct config *c, int argc, const char *const *argv, const char *const *env,
                      struct err *e)
{
    enum errc code = E_OK;
    for (; env && *env && !code; env++)
        code = one_env(c, *env, e);
    if (!code)
        code = all_flags(c, argc, argv, true, e);
    if (!code)
        code = read_file(c, e);
    return code ? code : all_flags(c, argc, argv, false, e);
}

/* --- what is printed from the rows --- */

static bool yaml_plain(const char *s)
{
    if (!*s || strchr("-?:,[]{}#&*!|>'\"%@` ", *s))
        return false;
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || (*s == ':' && (!s[1] || s[1] == ' ')) ||
            (*s == ' ' && s[1] == '#'))
            return false;
    return true;
}

static void write_scalar(const char *s, struct buf *out)
{
    if (yaml_plain(s)) {
        buf_add_c(out, s);
        return;
    }
    buf_add_char(out, '"');
    for (; *s; s++)
        if ((unsigned char)*s < 0x20)
            buf_addf(out, "\\x%02x", (unsigned char)*s);
        else
            buf_addf(out, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
    buf_add_char(out, '"');
}

void config_write(const struct config *c, struct buf *out)
{
    for (int i = 0; i < CONF_COUNT; i++) {
        const struct conf_given *g = &c->given[i];
        size_t start = out->n;
        if (i == CONF_config)
            buf_add_c(out, "# ");
        buf_addf(out, "%s: ", conf_keys[i].key);
        write_scalar(g->text, out);
        while (out->n - start < 32 && !out->failed)
            buf_add_char(out, ' ');
        if (g->source == CONF_FROM_DEFAULT)
            buf_add_c(out, "  # default\n");
        else
            buf_addf(out, "  # from %s\n", g->name);
    }
}

static const char *const type_names[] = {
    [CONF_STRING] = "TEXT",       [CONF_BOOL] = "",   [CONF_UINT] = "N",    [CONF_BYTES] = "SIZE",
    [CONF_DURATION] = "DURATION", [CONF_CHOICE] = "", [CONF_HOST] = "ADDR", [CONF_DOOR] = "PORT"};

/* `help` wrapped between the columns `left` and `width`; the cursor stands at column `at`. */
static void write_wrapped(const char *help, unsigned at, unsigned left, unsigned width,
                          struct buf *out)
{
    if (at + 2 > left) {
        buf_add_char(out, '\n');
        at = 0;
    }
    for (; at < left; at++)
        buf_add_char(out, ' ');
    struct str rest = str_from_c(help), word;
    bool first = true;
    while (str_split(&rest, ' ', &word)) {
        if (!first && at + 1 + word.n > width) {
            buf_addf(out, "\n%*s", (int)left, "");
            at = left;
        } else if (!first) {
            buf_add_char(out, ' ');
            at++;
        }
        buf_add_str(out, word);
        at += (unsigned)word.n;
        first = false;
    }
    buf_add_char(out, '\n');
}

void config_write_help(struct buf *out, unsigned width)
{
    char flag[64], text[512];
    for (int i = 0; i < CONF_COUNT; i++) {
        const struct conf_key *k = &conf_keys[i];
        config_flag_name(k, flag);
        size_t start = out->n;
        buf_addf(out, "  %s", flag);
        if (k->type == CONF_CHOICE)
            buf_addf(out, " %s", k->choices);
        else if (k->type != CONF_BOOL)
            buf_addf(out, " %s", type_names[k->type]);
        snprintf(text, sizeof text, *k->def && k->type != CONF_BOOL ? "%s (default %s)" : "%s",
                 k->help, k->def);
        write_wrapped(text, (unsigned)(out->n - start), 28, width, out);
    }
}

void config_write_markdown(struct buf *out)
{
    static const char intro[] =
        "# Settings\n\n"
        "This page is printed by `lymer config --markdown` from the table the server reads.\n\n"
        "A setting has one name, given as a flag (`--otlp-grpc-port 4317`), as a variable\n"
        "(`LYMER_OTLP_GRPC_PORT=4317`) or in the file that `--config` names (`otlp.grpc.port: 4317`,\n"
        "dotted or as nested maps). A flag wins over a variable, that over the file, that over the\n"
        "default. `lymer config` prints what holds and where it came from. A flag or file key that\n"
        "does not exist is an error; an unknown variable is a warning.\n\n"
        "A port is a number on the `listen` address (`4317`), an address and port\n"
        "(`0.0.0.0:4317`, `[::1]:4317`), `:4317` for every interface, or `0` or nothing to close it.\n"
        "SIGHUP reads the file again and takes over the settings marked so.\n\n"
        "| Key | Default | Values | SIGHUP | Meaning |\n|---|---|---|---|---|\n";
    buf_add_c(out, intro);
    for (int i = 0; i < CONF_COUNT; i++) {
        const struct conf_key *k = &conf_keys[i];
        buf_addf(out, "| `%s` | %s%s%s | ", k->key, *k->def ? "`" : "", k->def, *k->def ? "`" : "");
        for (const char *p = k->choices; *p; p++)
            buf_addf(out, *p == '|' ? ", " : "%c", *p);
        buf_addf(out, " | %s | %s |\n", k->reload == CONF_RELOAD ? "yes" : "", k->help);
    }
    config_jaeger_write_markdown(out);
}
