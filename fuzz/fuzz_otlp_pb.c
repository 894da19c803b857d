/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an OTLP request. What is accepted must seal into an image that opens, and what is
 * encoded from it must decode to the same again. */
#include "fuzz/otlp_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    otlp_check(str_of(data, n), false);
    return 0;
}
