/* SPDX-License-Identifier: Apache-2.0 */
/* Traces as Jaeger's query API writes them (shared by /api/traces, /api/transform and the command
 * line). */
#ifndef LYMER_CODEC_JAEGER_JSON_H
#define LYMER_CODEC_JAEGER_JSON_H

#include "codec/json.h"
#include "model/trace.h"

/* Where a long trace goes in pieces: when the writer's buffer holds JAEGER_JSON_CHUNK bytes, flush
 * is called between two spans; it empties the buffer (buf_reset), or answers false to stop. */
#define JAEGER_JSON_CHUNK (64 * KIB)
struct jaeger_json_sink {
    bool (*flush)(void *arg, struct buf *out);
    void *arg;
};

/* One element of the envelope's data list: {"traceID","spans","processes","warnings"}. `a` is
 * scratch. sink may be NULL: all stays in the buffer. False when the sink said so, or when the
 * scratch or the buffer has reached its cap. */
MUST_CHECK bool jaeger_json_trace(struct json_writer *w, const struct trace *t, struct arena *a,
                                  const struct jaeger_json_sink *sink);

/* "internal", "server", …; empty for KIND_UNSPECIFIED. */
struct str jaeger_kind_text(enum span_kind kind);
/* The kind by that name; false when there is none. */
MUST_CHECK bool jaeger_kind_from(struct str text, enum span_kind *kind);

/* 16 hex digits when the high half is zero, else 32. Returns the length; out has 32 bytes. */
size_t jaeger_trace_id_text(const uint8_t id[16], char *out);
/* 1 to 32 hex digits, either case, zero-extended; the error sentence is Jaeger's. */
MUST_CHECK enum errc jaeger_trace_id_parse(struct str text, uint8_t id[16], struct err *e);

/* Appends s as Go's strconv.Quote writes it, which Jaeger's error sentences contain. */
void jaeger_quote(struct buf *out, struct str s);

#endif
