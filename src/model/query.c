/* SPDX-License-Identifier: Apache-2.0 */
#include "model/query.h"

#include "base/err.h"
#include "base/num.h"

static const char *const order_names[ORDER_COUNT] = {"newest", "slowest", "spans", "errors"};
static const char *const status_names[STATUS_COUNT] = {"unset", "ok", "error"};
static const char *const kind_names[KIND_COUNT] = {"unspecified", "internal", "server",
                                                   "client",      "producer", "consumer"};

bool trace_hit_before(const struct trace_hit *x, const struct trace_hit *y)
{
    if (x->value != y->value)
        return x->value > y->value;
    if (x->newest_ns != y->newest_ns)
        return x->newest_ns > y->newest_ns;
    return memcmp(x->trace_id, y->trace_id, 16) < 0;
}

void trace_hit_merge(enum query_order o, struct trace_hit *into, const struct trace_hit *part)
{
    if (order_counts(o)) {
        into->value += part->value;
        into->newest_ns = max_u64(into->newest_ns, part->newest_ns);
    } else if (trace_hit_before(part, into)) {
        *into = *part;
    }
}

const char *query_order_name(enum query_order o)
{
    return order_names[o];
}

static bool name_from(struct str name, const char *const *names, unsigned n, unsigned *at)
{
    for (*at = 0; *at < n; ++*at)
        if (str_eq_c(name, names[*at]))
            return true;
    return false;
}

bool query_order_from(struct str name, enum query_order *o)
{
    unsigned at;
    bool known = name_from(name, order_names, ORDER_COUNT, &at);
    *o = known ? (enum query_order)at : ORDER_NEWEST;
    return known;
}

bool query_status_from(struct str name, unsigned *statuses)
{
    unsigned at;
    bool known = name_from(name, status_names, STATUS_COUNT, &at);
    *statuses = known ? 1u << at : 0;
    return known;
}

const char *query_status_name(unsigned statuses)
{
    return status_names[statuses >> STATUS_ERROR & 1 ? STATUS_ERROR : statuses >> STATUS_OK & 1];
}

bool query_kind_from(struct str name, int *kind)
{
    unsigned at;
    bool known = name_from(name, kind_names, KIND_COUNT, &at);
    *kind = known ? (int)at : -1;
    return known;
}

const char *query_kind_name(int kind)
{
    return kind_names[kind];
}

size_t query_cursor_put(char out[QUERY_CURSOR_TEXT], enum query_order o, const struct trace_hit *at)
{
    uint8_t bytes[QUERY_CURSOR_BYTES] = {(uint8_t)o};
    store_u64le(bytes + 1, at->value);
    store_u64le(bytes + 9, at->newest_ns);
    memcpy(bytes + 17, at->trace_id, 16);
    return num_put_hex(out, bytes, sizeof bytes);
}

bool query_cursor_get(struct str text, enum query_order *o, struct trace_hit *at)
{
    uint8_t bytes[QUERY_CURSOR_BYTES];
    if (text.n != QUERY_CURSOR_TEXT || !num_get_hex(text, bytes, sizeof bytes) ||
        bytes[0] >= ORDER_COUNT)
        return false;
    *o = (enum query_order)bytes[0];
    at->value = load_u64le(bytes + 1);
    at->newest_ns = load_u64le(bytes + 9);
    memcpy(at->trace_id, bytes + 17, 16);
    return true;
}

static void budget_text(struct buf *out, const struct trace_hits *hits, enum query_order o)
{
    static const char *const looked[ORDER_COUNT] = {
        [ORDER_NEWEST] = "span that starts after",
        [ORDER_SLOWEST] = "span that takes longer than",
        [ORDER_MOST_SPANS] = "trace with a matching span that starts after",
        [ORDER_MOST_ERRORS] = "trace with a matching span that starts after",
    };
    char text[NUM_TEXT_MAX];
    if (hits->looked_above == UINT64_MAX) {
        buf_add_c(out, "the search ended at its budget before it had looked at what is in memory");
        return;
    }
    size_t n = o == ORDER_SLOWEST
                   ? num_put_duration(text, (int64_t)min_u64(hits->looked_above, INT64_MAX))
                   : num_put_rfc3339(text, hits->looked_above);
    buf_addf(out,
             "the search ended at its budget after %u of %u blocks and %llu bytes; it has looked "
             "at every %s %.*s",
             hits->blocks_read, hits->blocks, (unsigned long long)hits->bytes_read, looked[o],
             (int)n, text);
}

struct str query_coverage_text(const struct trace_hits *hits, enum query_order o, struct arena *a)
{
    struct buf out = buf_init(4 * KIB);
    if (!hits->complete) {
        budget_text(&out, hits, o);
        if (!hits->more)
            buf_add_c(&out,
                      ", and there is no going on from here: ask for less (a time, a service), or "
                      "raise query.max-bytes and query.max-time");
    }
    if (hits->damaged)
        buf_addf(&out, "%s%u of the blocks cannot be read whole, and what is damaged was left out",
                 out.n ? "; " : "", hits->damaged);
    if (hits->unreadable)
        buf_addf(&out, "%s%u of the traces found cannot be read", out.n ? "; " : "",
                 hits->unreadable);
    if (hits->damaged || hits->unreadable)
        buf_add_c(&out, err_hint(E_CORRUPT));
    struct str text = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return text;
}
