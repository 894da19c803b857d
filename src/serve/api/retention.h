/* SPDX-License-Identifier: Apache-2.0 */
/* GET /retention on the admin port: what retention rules would keep and save. ?rules=… (absent:
 * those in force), &output=json. */
#ifndef LYMER_SERVE_API_RETENTION_H
#define LYMER_SERVE_API_RETENTION_H

#include "serve/http.h"

struct store_rules_report;

http_handler admin_retention; /* its arg is the `struct admin` */

/* The answer, also of `lymer retention`. */
void retention_text(const struct store_rules_report *r, struct buf *out);
void retention_json(const struct store_rules_report *r, struct buf *out);

#endif
