/* port_set: see port_set.h. */
#include "core/base/port_set.h"

#include <stdio.h>
#include <string.h>

#define PORT_MAX   65535u
#define PIECE_MAX  12u /* ",65535-65535" */
#define REST       ",..."
#define PIECE_SHOW 40 /* bytes of a wrong part that are quoted */

void port_set_add(struct port_set *set, uint16_t first, uint16_t last)
{
    for (uint32_t port = first; port <= last; port++)
        set->bits[port / 64] |= UINT64_C(1) << port % 64;
}

uint16_t port_set_next(const struct port_set *set, uint32_t from)
{
    uint64_t below = (UINT64_C(1) << from % 64) - 1; /* in the first word */

    for (uint32_t i = from / 64; i < PORT_SET_WORDS; i++) {
        uint64_t word = set->bits[i] & ~below;

        below = 0;
        if (word != 0)
            return (uint16_t)(i * 64 + (uint32_t)__builtin_ctzll(word));
    }
    return 0;
}

uint32_t port_set_count(const struct port_set *set, uint32_t from)
{
    uint64_t below = (UINT64_C(1) << from % 64) - 1;
    uint32_t count = 0;

    for (uint32_t i = from / 64; i < PORT_SET_WORDS; i++) {
        count += (uint32_t)__builtin_popcountll(set->bits[i] & ~below);
        below = 0;
    }
    return count;
}

uint16_t port_set_first(const struct port_set *set)
{
    uint16_t port = port_set_next(set, PORT_SET_LOW);

    return port != 0 ? port : port_set_next(set, 1);
}

/* Reads up to five digits; *text stands behind them. 0: there is no port there. */
static uint32_t port_set_take(const char **text)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < 5 && **text >= '0' && **text <= '9'; i++)
        value = value * 10 + (uint32_t)(*(*text)++ - '0');
    return value <= PORT_MAX ? value : 0;
}

/* One "443" or "10000-10100" of `size` bytes. */
static bool port_set_piece(const char *piece, size_t size, struct port_set *set, char *error)
{
    const char *at = piece;
    uint32_t first = port_set_take(&at), last = first;

    if (at < piece + size && *at == '-') {
        at++;
        last = port_set_take(&at);
    }
    if (at != piece + size || first == 0 || last == 0) {
        snprintf(error, PORT_SET_ERROR_MAX,
                 "'%.*s' is neither a port nor a range of ports from 1 to 65535; write numbers and "
                 "ranges like 80,443,10000-10100",
                 (int)(size < PIECE_SHOW ? size : PIECE_SHOW), piece);
        return false;
    }
    if (first > last) {
        snprintf(error, PORT_SET_ERROR_MAX, "the range %u-%u begins above its end; write %u-%u",
                 first, last, last, first);
        return false;
    }
    port_set_add(set, (uint16_t)first, (uint16_t)last);
    return true;
}

bool port_set_parse(const char *text, struct port_set *set, char error[PORT_SET_ERROR_MAX])
{
    struct port_set found = { .bits = { 0 } };
    bool more = true;

    while (more) {
        size_t size = strcspn(text, ",");

        if (!port_set_piece(text, size, &found, error))
            return false;
        more = text[size] == ',';
        text += size + more;
    }
    *set = found;
    return true;
}

/* Where the run of ports that begins with `first` ends. */
static uint16_t port_set_run(const struct port_set *set, uint16_t first)
{
    uint32_t last = first;

    while (last < PORT_MAX && port_set_has(set, (uint16_t)(last + 1)))
        last++;
    return (uint16_t)last;
}

const char *port_set_format(const struct port_set *set, char text[PORT_SET_TEXT_MAX])
{
    size_t used = 0;
    uint32_t next = 1;

    text[0] = '\0';
    for (uint16_t first; next <= PORT_MAX && (first = port_set_next(set, next)) != 0;) {
        uint16_t last = port_set_run(set, first);
        const char *comma = used > 0 ? "," : "";

        if (used + PIECE_MAX + sizeof(REST) > PORT_SET_TEXT_MAX) {
            snprintf(text + used, PORT_SET_TEXT_MAX - used, REST);
            break;
        }
        used += (size_t)snprintf(text + used, PORT_SET_TEXT_MAX - used, "%s%u", comma, first);
        if (last > first)
            used += (size_t)snprintf(text + used, PORT_SET_TEXT_MAX - used, "-%u", last);
        next = last + 1U;
    }
    return text;
}
