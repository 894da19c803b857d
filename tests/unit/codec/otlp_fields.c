/* SPDX-License-Identifier: Apache-2.0 */
/* What every row of the field tables must have, and that the walk is never fooled by a table. */
#include "tests/harness.h"

#include "codec/otlp_fields.h"

static const struct otlp_message *const messages[] = {
    &otlp_traces, &otlp_resource_spans, &otlp_resource, &otlp_scope_spans, &otlp_scope,
    &otlp_span,   &otlp_event,          &otlp_link,     &otlp_status};

static const uint8_t wire_of[] = {
    [OTLP_ID16] = PB_LEN,   [OTLP_ID8] = PB_LEN,     [OTLP_STR] = PB_LEN,
    [OTLP_NAME] = PB_LEN,   [OTLP_FIXED64] = PB_I64, [OTLP_FIXED32] = PB_I32,
    [OTLP_U32] = PB_VARINT, [OTLP_ENUM] = PB_VARINT, [OTLP_PART] = PB_LEN,
    [OTLP_ATTRS] = PB_LEN,  [OTLP_EVENTS] = PB_LEN,  [OTLP_LINKS] = PB_LEN,
    [OTLP_SPANS] = PB_LEN,  [OTLP_SCOPES] = PB_LEN,  [OTLP_RESOURCES] = PB_LEN};

TEST(otlp_rows_are_whole)
{
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        const struct otlp_message *m = messages[i];
        CHECK(m->count <= OTLP_FIELDS_MAX);
        CHECK_INT(m->fields[0].kind, OTLP_NONE); /* where unknown numbers land */
        for (uint8_t k = 1; k < m->count; k++) {
            const struct otlp_field *f = &m->fields[k];
            if (f->kind == OTLP_NONE)
                continue;
            bool list = f->kind >= OTLP_EVENTS;
            CHECK_INT(f->wire, wire_of[f->kind]);
            CHECK(f->json.n > 0);
            CHECK((f->sub != NULL) == (list || f->kind == OTLP_PART));
            CHECK((f->names != NULL) == (f->kind == OTLP_ENUM));
            CHECK((f->limit > 0) == (f->kind == OTLP_ENUM));
            CHECK(f->last == (list && f->kind != OTLP_RESOURCES));
            for (uint8_t j = (uint8_t)(k + 1); j < m->count; j++)
                CHECK(!str_eq(f->json, m->fields[j].json));
        }
    }
}

/* Every message below another is reached through exactly the rows that say so. */
TEST(otlp_messages_are_reached)
{
    size_t reached = 0;
    for (size_t i = 0; i < ARRAY_LEN(messages); i++)
        for (uint8_t k = 1; k < messages[i]->count; k++)
            reached += messages[i]->fields[k].sub != NULL;
    CHECK_INT(reached, ARRAY_LEN(messages) - 1);
}
