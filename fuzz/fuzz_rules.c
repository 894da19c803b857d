/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as retention rules: read or refused with a sentence; what was read holds together. */
#include "store/trace/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct rules r;
    struct err e = {0};
    if (rules_parse(&r, str_of(data, n), &e) != E_OK) {
        ensure(e.code == E_USAGE && e.msg[0]);
        return 0;
    }
    ensure(r.n <= RULES_MAX);
    for (size_t i = 0; i < r.n; i++) {
        ensure(r.v[i].for_ns > r.drop_ns && r.v[i].for_ns <= r.longest_ns && r.v[i].text.n);
        ensure(r.v[i].kind != RULE_SAMPLE || (r.v[i].count && r.v[i].count <= RULE_SAMPLE_MAX));
    }
    rules_fini(&r);
    return 0;
}
