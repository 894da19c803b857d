/* SPDX-License-Identifier: Apache-2.0 */
/* The pure half of server reflection, v1 and v1alpha alike since their messages have the same
 * numbers: a request's bytes to its answer's. The services themselves are in serve/grpc.h. */
#ifndef LYMER_SERVE_REFLECTION_H
#define LYMER_SERVE_REFLECTION_H

#include "serve/grpc.h"

#define REFLECTION_REQUEST_MAX (16 * KIB)
#define REFLECTION_ANSWER_MAX  (256 * KIB)

/* ServerReflectionRequest → ServerReflectionResponse. E_INVALID: damaged, or asks nothing. */
MUST_CHECK enum errc reflection_answer(struct str msg, const struct grpc_service *const *services,
                                       struct buf *out);

#endif
