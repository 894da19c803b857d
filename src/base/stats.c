/* SPDX-License-Identifier: Apache-2.0 */
#include "base/stats.h"

#include "base/num.h"

_Atomic int64_t stats_values[STAT_COUNT];

enum stats_kind { COUNTER, GAUGE };

static const struct stats_row {
    enum stats_kind kind;
    const char *name, *labels, *help;
} rows[STAT_COUNT] = {
#define STATS_ROW(id, kind, name, labels, help) [STAT_##id] = {kind, name, labels, help},
    STATS_TABLE(STATS_ROW)
#undef STATS_ROW
};

static void write_head(struct buf *out, const struct stats_row *row)
{
    buf_addf(out, "# HELP lymer_%s %s\n", row->name, row->help);
    buf_addf(out, "# TYPE lymer_%s %s\n", row->name, row->kind == COUNTER ? "counter" : "gauge");
}

void stats_write(struct buf *out)
{
    for (size_t i = 0; i < STAT_COUNT; i++) {
        const struct stats_row *row = &rows[i];
        if (i == 0 || strcmp(row->name, rows[i - 1].name) != 0)
            write_head(out, row);
        char number[NUM_TEXT_MAX];
        size_t n = num_put_i64(number, stat_get((enum stat_id)i));
        bool labels = row->labels[0] != '\0';
        buf_addf(out, "lymer_%s%s%s%s %.*s\n", row->name, labels ? "{" : "", row->labels,
                 labels ? "}" : "", (int)n, number);
    }
}
