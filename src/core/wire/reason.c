/* reason: see reason.h. One table, and look-ups in it. */
#include "core/wire/reason.h"

#include "core/base/base.h"
#include "core/base/check.h"

static const struct {
    const char *name;
    const char *text;
    uint16_t code;
    bool rst;
} table[] = {
#define X(name, code, rst, text) [REASON_##name] = { #name, text, code, rst },
    REASON_TABLE(X)
#undef X
};

const char *reason_text(enum reason reason)
{
    CHECK(reason < REASON_COUNT);
    return table[reason].text;
}

const char *reason_name(enum reason reason)
{
    CHECK(reason < REASON_COUNT);
    return table[reason].name;
}

uint16_t reason_code(enum reason reason)
{
    CHECK(reason < REASON_COUNT);
    return table[reason].code;
}

enum reason reason_from_code(uint16_t code)
{
    for (unsigned i = 0; i < REASON_COUNT; i++)
        if (table[i].code == code)
            return (enum reason)i;
    return REASON_PEER_OTHER;
}

bool reason_is_rst(enum reason reason)
{
    CHECK(reason < REASON_COUNT);
    return table[reason].rst;
}

bool reason_is_violation(enum reason reason)
{
    return reason >= REASON_BAD_VERSION && reason <= REASON_FLOW_CONTROL;
}
