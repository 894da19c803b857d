/* SPDX-License-Identifier: Apache-2.0 */
/* Redaction: a trace, or the values of an attribute key, are erased from everything the store
 * holds. What is erased is decided here, span by span; how it leaves every file is rewrite.c's.
 *
 * A value is replaced once: what reads like the marker is not touched again. So a redaction that
 * was cut short is repeated at the cost of a look at the blocks that are done. */
#include "store/trace/store_parts.h"

#include "base/hash.h"

#include <stdlib.h>

#define MARKER   STR("[redacted]")
#define LOOK_MAX GIB /* of one trace, and of one value as text */

struct redact {
    const struct store_redaction *want;
    struct store_redacted *sum;
    struct store_redacted here; /* in the block that is looked at */
    uint64_t *prints; /* of the traces touched, with repeats; from `print_here` in this block */
    size_t print_n, print_cap, print_here;
    struct arena scratch;
};

/* --- one span --- */

static bool is_wanted(const struct store_redaction *r, const struct value *v, struct arena *a)
{
    if (v->type == ATTR_STR && str_eq(v->s, MARKER))
        return false;
    return !r->has_value || str_eq(value_text(v, a), r->value);
}

/* How many values are to go; with `replace` they go. */
static uint64_t redact_kvs(const struct store_redaction *r, const struct kvs *kvs, bool replace,
                           struct arena *a)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < kvs->n; i++) {
        if (!str_eq(kvs->v[i].key, r->key) || !is_wanted(r, &kvs->v[i].val, a))
            continue;
        n++;
        if (replace)
            kvs->v[i].val = (struct value){.type = ATTR_STR, .s = MARKER};
    }
    return n;
}

/* Spans share their resource and scope: replaced with the first, they are done for all. */
static uint64_t redact_span(const struct store_redaction *r, const struct span *s, bool replace,
                            struct arena *a)
{
    if (r->service.n && !str_eq(s->resource->service, r->service))
        return 0;
    uint64_t n = redact_kvs(r, &s->attrs, replace, a) +
                 redact_kvs(r, &s->resource->attrs, replace, a) +
                 redact_kvs(r, &s->scope->attrs, replace, a);
    for (uint32_t i = 0; i < s->event_count; i++)
        n += redact_kvs(r, &s->events[i].attrs, replace, a);
    for (uint32_t i = 0; i < s->link_count; i++)
        n += redact_kvs(r, &s->links[i].attrs, replace, a);
    return n;
}

/* --- the change --- */

static bool stays(void *arg, const struct trace *t)
{
    const struct redact *x = arg;
    return memcmp(t->id, x->want->trace_id, 16) != 0;
}

static void replace_values(void *arg, struct span *s, struct arena *a)
{
    const struct redact *x = arg;
    (void)redact_span(x->want, s, true, a);
}

/* --- the look --- */

static void touch_trace(struct redact *x, const uint8_t id[16])
{
    if (x->print_n == x->print_cap) {
        x->print_cap = x->print_cap ? 2 * x->print_cap : 256;
        x->prints = xrealloc(x->prints, x->print_cap * sizeof *x->prints);
    }
    x->prints[x->print_n++] = hash_mix(load_u64le(id) ^ HASH_K0, load_u64le(id + 8) ^ HASH_K1);
}

static void look_at_chain(void *arg, const struct trace *chain)
{
    struct redact *x = arg;
    uint64_t before = x->here.values;
    for (uint32_t i = 0; i < chain->span_count; i++) {
        uint64_t n = redact_span(x->want, chain->spans[i], false, &x->scratch);
        x->here.values += n;
        x->here.spans += n > 0;
    }
    if (x->here.values > before)
        touch_trace(x, chain->id);
    if (!x->scratch.failed)
        arena_reset(&x->scratch);
}

static enum errc look_for_trace(struct redact *x, struct block *b, struct err *e)
{
    struct trace t = {0};
    enum errc rc = block_trace(b, x->want->trace_id, &x->scratch, &t, e);
    x->here.spans = t.span_count;
    if (t.span_count)
        touch_trace(x, x->want->trace_id);
    arena_reset(&x->scratch);
    return rc;
}

static enum errc look(void *arg, struct block *b, bool *touched, struct err *e)
{
    struct redact *x = arg;
    bool has = true;
    enum errc rc;
    x->here = (struct store_redacted){0};
    x->print_n = x->print_here; /* of a block that failed */
    if (x->want->trace_id) {
        rc = look_for_trace(x, b, e);
    } else {
        rc = block_has_key(b, x->want->key, &has, e);
        if (rc == E_OK && has)
            rc = block_scan(b, look_at_chain, x, e);
    }
    if (rc == E_OK && x->scratch.failed)
        rc = fail(e, E_NO_MEMORY, "a value is too large to be compared");
    x->scratch.failed = false;
    *touched = x->here.spans > 0;
    return rc;
}

static void note_touched(void *arg)
{
    struct redact *x = arg;
    x->sum->spans += x->here.spans;
    x->sum->values += x->here.values;
    x->print_here = x->print_n;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* A trace may lie in several blocks. */
static uint64_t count_traces(struct redact *x)
{
    uint64_t n = 0;
    if (x->print_here)
        qsort(x->prints, x->print_here, sizeof *x->prints, by_number);
    for (size_t i = 0; i < x->print_here; i++)
        n += i == 0 || x->prints[i] != x->prints[i - 1];
    return n;
}

/* --- the audit --- */

/* In quotes, one line whatever the bytes are. */
static void put_quoted(struct buf *out, const char *name, struct str s)
{
    buf_addf(out, " %s=\"", name);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < ' ' || c >= 0x7f || c == '"' || c == '\\')
            buf_addf(out, "\\x%02x", c);
        else
            buf_add_char(out, (char)c);
    }
    buf_add_char(out, '"');
}

/* The value itself is what must not be kept: that one was given is said. */
static struct buf describe(const struct store_redaction *r, const char *what)
{
    struct buf out = buf_init(AUDIT_LINE_MAX);
    buf_addf(&out, "redact %s", what);
    put_quoted(&out, "door", str_from_c(r->door));
    put_quoted(&out, "tenant", r->tenant);
    if (r->trace_id) {
        buf_add_c(&out, " trace=");
        for (int i = 0; i < 16; i++)
            buf_addf(&out, "%02x", r->trace_id[i]);
        return out;
    }
    put_quoted(&out, "key", r->key);
    if (r->service.n)
        put_quoted(&out, "service", r->service);
    if (r->has_value)
        buf_addf(&out, " value_bytes=%zu", r->value.n);
    return out;
}

static enum errc audit(struct store *s, const struct store_redaction *r, const char *what,
                       const struct store_redacted *sum, struct err *e)
{
    struct buf line = describe(r, what);
    if (sum)
        buf_addf(&line,
                 " traces=%llu spans=%llu values=%llu blocks=%llu failed=%llu held=%llu "
                 "damaged=%llu",
                 (unsigned long long)sum->traces, (unsigned long long)sum->spans,
                 (unsigned long long)sum->values, (unsigned long long)sum->blocks,
                 (unsigned long long)sum->failed, (unsigned long long)sum->held,
                 (unsigned long long)sum->set_aside);
    enum errc rc = line.failed ? fail(e, E_TOO_BIG, "the key is too long")
                               : store_audit(s, buf_str(&line), e);
    buf_fini(&line);
    return rc;
}

/* --- the door --- */

static enum errc run(struct store *s, struct redact *x, uint32_t tenant, struct err *e)
{
    struct rewritten done;
    struct rewrite r = {.tenant = tenant,
                        .look_only = x->want->count_only,
                        .look = look,
                        .touched = note_touched,
                        .arg = x,
                        .change.arg = x};
    if (x->want->trace_id)
        r.change.keep = stays;
    else
        r.change.edit = replace_values;
    enum errc rc = store_rewrite(s, &r, &done, e);
    x->sum->traces = count_traces(x);
    x->sum->blocks = done.blocks;
    x->sum->failed = done.failed;
    x->sum->held = done.held;
    x->sum->set_aside = done.set_aside;
    return rc;
}

enum errc store_redact(struct store *s, const struct store_redaction *r, struct store_redacted *out,
                       struct err *e)
{
    struct redact x = {.want = r, .sum = out, .scratch = arena_init(LOOK_MAX)};
    uint32_t tenant = catalog_find_tenant(s->catalog, r->tenant);
    enum errc rc = E_OK;
    *out = (struct store_redacted){0};
    if (!r->trace_id && !r->key.n)
        return fail(e, E_INVALID, "neither a trace nor a key is named");
    if (tenant == CATALOG_NONE)
        return fail(e, E_NOT_FOUND, "there is no tenant %.*s", STR_ARG(r->tenant));
    if (!r->count_only)
        rc = audit(s, r, "begins", NULL, e);
    if (rc == E_OK) {
        rc = run(s, &x, tenant, e);
        bool left = out->failed || out->held || out->set_aside;
        const char *what = rc == E_OK && !left ? "done" : "incomplete";
        enum errc said = r->count_only ? E_OK : audit(s, r, what, out, rc == E_OK ? e : NULL);
        rc = rc == E_OK ? said : rc;
    }
    free(x.prints);
    arena_fini(&x.scratch);
    return rc;
}
