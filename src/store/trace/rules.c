/* SPDX-License-Identifier: Apache-2.0 */
/* The language is a table of sentences. A word of a sentence stands for itself, or takes what
 * stands there: %d a duration, %n a number, %s a text, which may be in double quotes. */
#include "store/trace/rules.h"

#include "base/num.h"

#include <stdlib.h>

#define DAY_NS (86400 * NS_PER_S)

static const struct {
    const char *sentence;
    enum rule_kind kind;
} sentences[] = {
    {"keep error for %d", RULE_ERROR},
    {"keep slow p99 for %d", RULE_SLOW},
    {"keep service %s for %d", RULE_SERVICE},
    {"keep attribute %s for %d", RULE_ATTRIBUTE},
    {"sample %n per operation per hour for %d", RULE_SAMPLE},
    {"drop after %d", RULE_DROP},
};

/* The next word of a rule, taken off; false at its end. A quoted one may hold anything but '"'. */
static bool next_word(struct str *rest, struct str *word)
{
    while (rest->n && memchr(" \t\r", rest->p[0], 3))
        *rest = str_skip(*rest, 1);
    bool quoted = rest->n && rest->p[0] == '"';
    if (quoted)
        *rest = str_skip(*rest, 1);
    size_t n = 0;
    while (n < rest->n && (quoted ? rest->p[n] != '"' : !memchr(" \t\r", rest->p[n], 3)))
        n++;
    *word = str_take(*rest, n);
    *rest = str_skip(*rest, n + quoted);
    return n > 0 || quoted;
}

/* The next rule, taken off. */
static struct str next_rule(struct str *rest)
{
    size_t n = 0;
    for (bool quoted = false; n < rest->n && (quoted || !memchr(";\n", rest->p[n], 2)); n++)
        quoted ^= rest->p[n] == '"';
    struct str rule = str_trim(str_take(*rest, n));
    *rest = str_skip(*rest, n + 1);
    return rule;
}

static bool duration(struct str s, uint64_t *ns)
{
    int64_t v;
    uint64_t days;
    if (s.n && s.p[s.n - 1] == 'd') {
        if (!num_get_u64(str_take(s, s.n - 1), &days) || days > INT64_MAX / DAY_NS)
            return false;
        *ns = days * DAY_NS;
        return days > 0;
    }
    if (!num_get_duration(s, &v) || v <= 0)
        return false;
    *ns = (uint64_t)v;
    return true;
}

static bool take_text(struct rule *r, struct str word)
{
    size_t equals = r->kind == RULE_ATTRIBUTE ? str_find(word, '=') : word.n;
    r->key = str_take(word, equals);
    r->has_value = equals < word.n;
    r->value = str_skip(word, equals + 1);
    return r->key.n > 0;
}

static bool take_word(struct rule *r, struct str want, struct str word)
{
    if (str_eq(want, STR("%d")))
        return duration(word, &r->for_ns);
    if (str_eq(want, STR("%n")))
        return num_get_u64(word, &r->count) && r->count && r->count <= RULE_SAMPLE_MAX;
    if (str_eq(want, STR("%s")))
        return take_text(r, word);
    return str_eq(want, word);
}

/* How many words of the sentence fit. *want: the first that does not, empty when all do and nothing
 * stands behind them; *got: what stands there. */
static unsigned fits(const char *sentence, struct rule *r, struct str *want, struct str *got)
{
    struct str words = str_from_c(sentence), rest = r->text;
    unsigned n = 0;
    while (str_split(&words, ' ', want)) {
        if (!next_word(&rest, got))
            *got = STR("its end");
        if (!take_word(r, *want, *got))
            return n;
        n++;
    }
    *want = next_word(&rest, got) ? STR("its end") : STR("");
    return n;
}

static const char *in_words(struct str want, char out[64])
{
    static const struct {
        const char *sign, *text;
    } signs[] = {{"%d", "a duration such as 30d or 24h"},
                 {"%n", "a number from 1 to 1000"},
                 {"%s", "a name"}};
    for (size_t i = 0; i < ARRAY_LEN(signs); i++)
        if (str_eq_c(want, signs[i].sign))
            return signs[i].text;
    memcpy(out, want.p, min_size(want.n, 63));
    out[min_size(want.n, 63)] = 0;
    return out;
}

static enum errc parse_rule(struct rule *out, struct str text, size_t no, struct err *e)
{
    unsigned best = 0;
    struct str want = STR("keep, sample or drop"), got = text, w, g;
    char word[64];
    for (size_t i = 0; i < ARRAY_LEN(sentences); i++) {
        struct rule r = {.kind = sentences[i].kind, .text = text};
        unsigned n = fits(sentences[i].sentence, &r, &w, &g);
        if (!w.n) {
            *out = r;
            return E_OK;
        }
        if (n > best) {
            best = n;
            want = w;
            got = g;
        }
        if (n == best && n == 1 && str_starts(text, STR("keep")))
            want = STR("error, slow, service or attribute");
    }
    return fail(e, E_USAGE, "retention rule %zu: %s is expected where \"%.*s\" stands", no,
                in_words(want, word), STR_ARG(str_take(got, 60)));
}

static enum errc add_rule(struct rules *r, const struct rule *one, size_t no, struct err *e)
{
    if (one->kind == RULE_DROP && r->drop_ns)
        return fail(e, E_USAGE, "retention rule %zu: there is a `drop after` already", no);
    if (one->kind == RULE_DROP) {
        r->drop_ns = one->for_ns;
        return E_OK;
    }
    if (r->n == RULES_MAX)
        return fail(e, E_USAGE, "retention rule %zu: there are at most %u rules", no, RULES_MAX);
    r->v[r->n++] = *one;
    r->longest_ns = max_u64(r->longest_ns, one->for_ns);
    return E_OK;
}

enum errc rules_parse(struct rules *r, struct str text, struct err *e)
{
    *r = (struct rules){0};
    enum errc rc = text.n > RULES_TEXT_MAX ? fail(e, E_USAGE, "the rules are too long") : E_OK;
    if (rc == E_OK && text.n) {
        r->words = xmalloc(text.n);
        memcpy(r->words, text.p, text.n);
    }
    struct str rest = str_of(r->words, rc == E_OK ? text.n : 0);
    for (size_t no = 1; rc == E_OK && rest.n;) {
        struct rule one;
        struct str rule = next_rule(&rest);
        if (!rule.n)
            continue;
        rc = parse_rule(&one, rule, no, e);
        if (rc == E_OK)
            rc = add_rule(r, &one, no++, e);
    }
    for (size_t i = 0; rc == E_OK && i < r->n; i++)
        if (r->drop_ns && r->v[i].for_ns <= r->drop_ns)
            rc = fail(e, E_USAGE,
                      "retention rule \"%.*s\" keeps nothing: it is shorter than `drop after`",
                      STR_ARG(str_take(r->v[i].text, 80)));
    if (rc == E_OK && r->drop_ns && !r->n)
        rc = fail(e, E_USAGE, "`drop after` alone keeps nothing: retention is the setting for it");
    if (rc != E_OK)
        rules_fini(r);
    return rc;
}

void rules_fini(struct rules *r)
{
    free(r->words);
    *r = (struct rules){0};
}
