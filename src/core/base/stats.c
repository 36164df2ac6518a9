/* stats: names and sums, see stats.h. */
#include "core/base/stats.h"

#include "core/base/check.h"

static const struct {
    const char *name, *text;
} table[] = {
#define X(name, text) [STAT_##name] = { #name, text },
    STATS_TABLE(X)
#undef X
};

const char *stat_name(enum stats_item stat)
{
    CHECK(stat < STAT_COUNT);
    return table[stat].name;
}

const char *stat_text(enum stats_item stat)
{
    CHECK(stat < STAT_COUNT);
    return table[stat].text;
}

void stats_add(struct stats *sum, const struct stats *part)
{
    for (unsigned i = 0; i < STAT_COUNT; i++)
        sum->value[i] += part->value[i];
}
