/* SPDX-License-Identifier: Apache-2.0 */
/* Erasing through the admin port: POST /redact?trace=ID, or ?key=K&service=S&value=V, with
 * &tenant=T and &count-only=true. Without count-only the header `x-lymer-confirm: redact` must be
 * there, which a web page of another origin cannot send. */
#ifndef LYMER_SERVE_API_REDACT_H
#define LYMER_SERVE_API_REDACT_H

#include "serve/http.h"

struct store_redacted;

http_handler admin_redact; /* its arg is the `struct admin` */

/* The answer, also of `lymer redact --output json`: what was touched, or with count_only would be.
 */
void redact_json(const struct store_redacted *done, bool count_only, struct buf *out);

#define REDACT_CONFIRM "x-lymer-confirm"

#endif
