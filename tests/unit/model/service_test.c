/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"

#include "model/batch.h"

static struct str service_of(struct batch_builder *b, const char *key, enum attr_type type,
                             struct str value)
{
    batch_builder_reset(b);
    CHECK(bb_group_begin(b) != NULL);
    if (key)
        bb_attr_str(b, str_from_c(key), type, value);
    CHECK(bb_group_scope(b) != NULL);
    bb_group_end(b);
    struct span_rec *s = bb_span(b);
    s->trace_id[15] = s->span_id[7] = 1;
    CHECK(bb_span_end(b));
    struct batch *batch;
    CHECK_OK(batch_seal(b, STR("t"), 1, &batch, NULL));
    static char name[64];
    struct str got = batch_str(batch, batch->groups[0].service);
    memcpy(name, got.p, got.n);
    batch_unref(batch);
    return str_of(name, got.n);
}

TEST(a_resource_without_a_usable_name_has_jaegers_placeholder)
{
    struct batch_builder b;
    batch_builder_init(&b);
    CHECK_STR(service_of(&b, "service.name", ATTR_STR, STR("cart")), STR("cart"));
    CHECK_STR(service_of(&b, NULL, ATTR_STR, STR_NONE), STR("OTLPResourceNoServiceName"));
    CHECK_STR(service_of(&b, "host.name", ATTR_STR, STR("x")), STR("missing-service-name"));
    CHECK_STR(service_of(&b, "service.name", ATTR_STR, STR("")), STR("empty-service-name"));
    CHECK_STR(service_of(&b, "service.name", ATTR_BYTES, STR("x")), STR("service-name-wrong-type"));
    batch_builder_fini(&b);
}
