/* SPDX-License-Identifier: Apache-2.0 */
/* OTLP, protobuf and JSON, both driven by the field tables in otlp_fields.h. Pure: bytes to model
 * and back; no I/O, no logging, no globals; any input of any length gives a result or an error with
 * its offset, in bounded time and memory. One codec serves the server, the command line, the
 * generator and the library. */
#ifndef LYMER_CODEC_OTLP_H
#define LYMER_CODEC_OTLP_H

#include "base/buf.h"
#include "model/batch.h"
#include "model/trace.h"

/* ExportTraceServiceRequest (= TracesData). Spans are added to b; a bad span (ids, depth, limits)
 * is counted there and skipped; a damaged message gives E_INVALID or E_TRUNCATED with "… at byte N"
 * and leaves in b whatever came before it (the caller resets b). The input need not outlive the
 * call. */
MUST_CHECK enum errc otlp_decode_traces(struct str pb, struct batch_builder *b, struct err *e);
MUST_CHECK enum errc otlp_decode_traces_json(struct str json, struct batch_builder *b,
                                             struct err *e);

/* TracesData / ExportTraceServiceRequest of the spans in order; consecutive spans with the same
 * resource and scope pointers share their ResourceSpans and ScopeSpans. Warnings are not written.
 */
void otlp_encode_traces(struct span *const *spans, size_t n, struct buf *out);
void otlp_encode_traces_json(struct span *const *spans, size_t n, struct buf *out);

/* ExportTraceServiceResponse: empty when nothing was rejected and message is empty. JSON:
 * {"partialSuccess":{…}}. */
void otlp_encode_response(uint64_t rejected, struct str message, struct buf *out);
void otlp_encode_response_json(uint64_t rejected, struct str message, struct buf *out);

/* google.rpc.Status; retry_ms > 0 adds a RetryInfo detail, field_violation (may be empty) a
 * BadRequest. */
void otlp_encode_status(int grpc_code, struct str message, uint64_t retry_ms,
                        struct str field_violation, struct buf *out);
void otlp_encode_status_json(int grpc_code, struct str message, uint64_t retry_ms,
                             struct str field_violation, struct buf *out);

/* Reads the response back (load generator, tests): rejected count and message. */
MUST_CHECK enum errc otlp_decode_response(struct str pb, uint64_t *rejected, struct str *message);

#endif
