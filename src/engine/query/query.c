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

enum errc query_summary(struct snap *s, struct str tenant, const uint8_t id[16],
                        const struct adjust_config *c, struct arena *a, struct trace_summary *out,
                        struct err *e)
{
    struct trace *t;
    arena_reset(a);
    enum errc rc = query_trace(s, tenant, id, false, c, a, &t, e);
    if (rc == E_OK)
        rc = summarize_trace(t, a, out);
    if (rc != E_NO_MEMORY)
        return rc;
    arena_fini(a); /* also the piece that a reset keeps: it may be all there is */
    return summarize_stored(s, tenant, id, &summary_bounds, a, out, e);
}
