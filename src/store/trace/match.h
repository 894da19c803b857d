/* SPDX-License-Identifier: Apache-2.0 */
/* The one meaning of a search, on spans of the read model; the memtable scans with it and the
 * columnar reader is tested against it. */
#ifndef LYMER_STORE_TRACE_MATCH_H
#define LYMER_STORE_TRACE_MATCH_H

#include "model/query.h"
#include "model/trace.h"

/* Does this one span satisfy all of q (time, service, operation, kind, duration, every tag)? */
bool match_span(const struct trace_query *q, const struct span *s);
/* The same on a batch record, without building a read model for spans that fail early. */
bool match_record(const struct trace_query *q, const struct batch *b, const struct span_rec *s);

#endif
