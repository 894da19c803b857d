/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an OTLP request in JSON; then as fuzz_otlp_pb. */
#include "fuzz/otlp_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    otlp_check(str_of(data, n), true);
    return 0;
}
