/* SPDX-License-Identifier: Apache-2.0 */
/* Retention rules as an operator writes them (docs/internals/retention-rules.md), separated by ';'
 * or line ends:
 *
 *      keep error for 30d; keep service checkout,payment for 14d; drop after 24h
 */
#ifndef LYMER_STORE_TRACE_RULES_H
#define LYMER_STORE_TRACE_RULES_H

#include "base/err.h"
#include "base/str.h"

#define RULES_MAX       24u
#define RULE_SAMPLE_MAX 1000u /* traces of an operation and hour */
#define RULES_TEXT_MAX  (16 * KIB)

enum rule_kind { RULE_ERROR, RULE_SLOW, RULE_SERVICE, RULE_ATTRIBUTE, RULE_SAMPLE, RULE_DROP };

struct rule {
    enum rule_kind kind;
    struct str text;       /* as it was written */
    struct str key, value; /* ATTRIBUTE; key: the list of SERVICE */
    bool has_value;
    uint64_t count;  /* SAMPLE */
    uint64_t for_ns; /* DROP: after */
};

struct rules {
    struct rule v[RULES_MAX]; /* without the DROP */
    size_t n;
    uint64_t drop_ns;    /* 0: not said, then the retention */
    uint64_t longest_ns; /* that a rule keeps anything */
    char *words;         /* what the views are of */
};

/* Empty text: no rules, n is 0. E_USAGE names rule and word. */
MUST_CHECK enum errc rules_parse(struct rules *r, struct str text, struct err *e);
void rules_fini(struct rules *r);

#endif
