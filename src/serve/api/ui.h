/* SPDX-License-Identifier: Apache-2.0 */
/* The web page: three files embedded in the binary, served under any path prefix. */
#ifndef LYMER_SERVE_API_UI_H
#define LYMER_SERVE_API_UI_H

#include "serve/http.h"

extern const struct http_route ui_routes[];
extern const size_t ui_route_count;

#endif
