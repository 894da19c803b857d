/* SPDX-License-Identifier: Apache-2.0 */
/* Traces as Jaeger's query API writes them (shared by /api/traces, /api/transform and the command
 * line). */
#ifndef LYMER_CODEC_JAEGER_JSON_H
#define LYMER_CODEC_JAEGER_JSON_H

#include "codec/json.h"
#include "model/trace.h"

/* One element of the envelope's data list: {"traceID","spans","processes","warnings"}. `a` is
 * scratch. */
void jaeger_json_trace(struct json_writer *w, const struct trace *t, struct arena *a);
/* 16 hex digits when the high half is zero, else 32. Returns the length; out has 32 bytes. */
size_t jaeger_trace_id_text(const uint8_t id[16], char *out);
/* 1 to 32 hex digits, either case, zero-extended; the error sentence is Jaeger's. */
MUST_CHECK enum errc jaeger_trace_id_parse(struct str text, uint8_t id[16], struct err *e);

#endif
