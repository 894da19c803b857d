/* SPDX-License-Identifier: Apache-2.0 */
/* Order, equality and hash of attribute values and lists: what adjusters sort and deduplicate by
 * and what encoders recognise equal resources by. Floats compare by their bits, so that NaN equals
 * itself. */
#ifndef LYMER_MODEL_KVS_H
#define LYMER_MODEL_KVS_H

#include "model/trace.h"

int value_cmp(const struct value *a, const struct value *b); /* by type, then content */
int kv_cmp(const struct kv *a, const struct kv *b);          /* by key, type, content */
bool kvs_eq(const struct kvs *a, const struct kvs *b);       /* same entries in the same order */
uint64_t kvs_hash(const struct kvs *kvs, uint64_t seed);
void kvs_sort(struct kvs *kvs); /* in place, by kv_cmp */

bool resource_eq(const struct resource *a, const struct resource *b);
uint64_t resource_hash(const struct resource *r, uint64_t seed);
bool scope_eq(const struct scope *a, const struct scope *b);
uint64_t scope_hash(const struct scope *s, uint64_t seed);

/* The spans of t grouped by resource and scope (by address), groups in order of appearance, spans
 * of a group in the trace's order: what an encoder that shares them wants. NULL when the arena is
 * exhausted. */
struct span **trace_by_origin(const struct trace *t, struct arena *a);

#endif
