/* ports: see ports.h. */
#include "server/ports.h"

#include "core/base/check.h"
#include "core/base/mem.h"

CHECK_STATIC(PORTS_COUNT / 64 == PORT_SET_WORDS, "the words of both are combined");

bool ports_open(struct ports *ports, const struct port_set *given)
{
    memset(ports, 0, sizeof(*ports));
    ports->given = *given;
    ports->all = mem_map(PORTS_COUNT * sizeof(ports->all[0]));
    return ports->all != NULL;
}

void ports_close(struct ports *ports)
{
    mem_unmap(ports->all, PORTS_COUNT * sizeof(ports->all[0]));
    ports->all = NULL;
}

static void ports_set_busy(struct ports *ports, uint16_t port)
{
    const struct port *p = ports_at(ports, port);
    uint64_t bit = UINT64_C(1) << port % 64;

    if (p->refs > 0 || p->awaited != 0)
        ports->busy[port / 64] |= bit;
    else
        ports->busy[port / 64] &= ~bit;
}

void ports_ref(struct ports *ports, uint16_t port)
{
    CHECK(ports_at(ports, port)->refs < UINT32_MAX);
    ports_at(ports, port)->refs++;
    ports_set_busy(ports, port);
}

bool ports_unref(struct ports *ports, uint16_t port)
{
    CHECK(ports_at(ports, port)->refs > 0);
    ports_at(ports, port)->refs--;
    ports_set_busy(ports, port);
    return ports_at(ports, port)->refs == 0;
}

void ports_await(struct ports *ports, uint16_t port, uint64_t session)
{
    CHECK(session == 0 || ports_at(ports, port)->awaited == 0); /* nobody is thrown out */
    ports_at(ports, port)->awaited = session;
    ports_set_busy(ports, port);
}

void ports_tick(struct ports *ports, uint64_t now)
{
    /* Workers' clocks differ by the length of a turn. */
    if (now <= ports->turned || now - ports->turned < PORTS_FOREIGN_NS)
        return;
    if (now - ports->turned < 2 * PORTS_FOREIGN_NS)
        memcpy(ports->foreign[1], ports->foreign[0], sizeof(ports->foreign[1]));
    else
        memset(ports->foreign[1], 0, sizeof(ports->foreign[1]));
    memset(ports->foreign[0], 0, sizeof(ports->foreign[0]));
    ports->turned = now;
}

void ports_note_foreign(struct ports *ports, uint16_t port)
{
    ports->foreign[0][port / 64] |= UINT64_C(1) << port % 64;
}

uint16_t ports_find(struct ports *ports, uint32_t first, bool all)
{
    uint64_t below = (UINT64_C(1) << first % 64) - 1; /* in the first word */

    CHECK(first > 0);
    for (uint32_t i = first / 64; i < PORTS_COUNT / 64; i++) {
        uint64_t passed = ports->busy[i] | ~ports->given.bits[i] | below;

        if (!all)
            passed |= ports->foreign[0][i] | ports->foreign[1][i];
        below = 0;
        ports->looked++;
        if (passed == UINT64_MAX)
            continue;
        uint16_t port = (uint16_t)(i * 64 + (uint32_t)__builtin_ctzll(~passed));
        CHECK(ports_at(ports, port)->refs == 0 && ports_at(ports, port)->awaited == 0);
        return port;
    }
    return 0;
}
