/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/query/query.h"

enum errc query_trace(struct snap *s, struct str tenant, const uint8_t id[16], bool raw,
                      const struct adjust_config *c, struct arena *a, struct trace **out,
                      struct err *e)
{
    enum errc rc = snap_trace(s, tenant, id, a, out, e);
    if (rc)
        return rc;
    if (!raw)
        adjust_trace(*out, c, a);
    if (a->failed)
        return fail(e, E_NO_MEMORY, "the trace is larger than a query may hold in memory");
    return E_OK;
}
