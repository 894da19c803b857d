/* SPDX-License-Identifier: Apache-2.0 */
/* JSON texts are compared without white space. */
#ifndef LYMER_TESTS_UNIT_API_JSON_TEXT_H
#define LYMER_TESTS_UNIT_API_JSON_TEXT_H

#include "codec/json.h"

struct str json_text_compact(struct str json, struct arena *a);

#endif
