/* SPDX-License-Identifier: Apache-2.0 */
/* The names of every tenant: services and their operations, with when they were last seen. Names
 * are numbered for as long as the process lives; numbers are what memtables, dependencies and span
 * indexes carry. Private to store/trace. Any thread may call.
 *
 * A name is known as soon as its batch is acknowledged. What a block has made durable is marked
 * saved: the manifest writes saved names only, so that names of batches a crash took do not stay.
 */
#ifndef LYMER_STORE_TRACE_CATALOG_H
#define LYMER_STORE_TRACE_CATALOG_H

#include "store/trace/memtable.h"
#include "store/trace/trace_store.h"

struct catalog;

#define TENANTS_MAX      1024u /* of one store */
#define OTHER_SERVICES   "other-services"
#define OTHER_OPERATIONS "other-operations"
#define CATALOG_NAME_MAX KIB /* longer names count under the overflow name too */
#define CATALOG_NONE     UINT32_MAX
#define CATALOG_SLOTS_OVER \
    4u /* service numbers are not reused: at most this many times services_max */

struct catalog *catalog_new(uint32_t services_max, uint32_t operations_max);
void catalog_free(struct catalog *c);

/* CATALOG_NONE past TENANTS_MAX. */
uint32_t catalog_tenant(struct catalog *c, struct str name);
/* CATALOG_NONE when unknown. */
uint32_t catalog_find_tenant(struct catalog *c, struct str name);
struct str catalog_tenant_name(struct catalog *c, uint32_t tenant);

/* Notes every name of the batch and fills entry's tenant, services and trace_low (allocated).
 * E_THROTTLED: one tenant too many. */
MUST_CHECK enum errc catalog_note(struct catalog *c, const struct batch *b,
                                  struct mem_entry *entry);

/* A name, added when new. `saved` marks it as durable. Past the caps the number of the overflow
 * name is returned. */
uint32_t catalog_service(struct catalog *c, uint32_t tenant, struct str name, uint64_t seen_ns,
                         bool saved);
void catalog_operation(struct catalog *c, uint32_t service, struct str name, enum span_kind kind,
                       uint64_t seen_ns, bool saved);
/* The name lives as long as the catalogue. */
struct str catalog_service_name(struct catalog *c, uint32_t service);
uint32_t catalog_service_tenant(struct catalog *c, uint32_t service);

/* Forgets names last seen before. */
void catalog_prune(struct catalog *c, uint64_t before_ns);

/* For the store's door: those seen at or after since_ns. */
MUST_CHECK enum errc catalog_services(struct catalog *c, uint32_t tenant, uint64_t since_ns,
                                      struct arena *a, struct str **out, size_t *n);
MUST_CHECK enum errc catalog_operations(struct catalog *c, uint32_t tenant, struct str service,
                                        int kind, uint64_t since_ns, struct arena *a,
                                        struct operation **out, size_t *n);

/* Writes the tenant's saved names (manifest snapshot). */
struct edit;
void catalog_write(struct catalog *c, uint32_t tenant, struct edit *out);
uint32_t catalog_tenant_count(struct catalog *c);

#endif
