/*
 * port_set: a set of ports, as a list in a command line says it, pure.
 *
 * A bit for each of the 65,536: whoever looks for a port that is free, too, combines the words of
 * both (server/ports.c). Port 0 is never in it.
 */
#ifndef CULVERT_CORE_BASE_PORT_SET_H
#define CULVERT_CORE_BASE_PORT_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PORT_SET_WORDS (65536u / 64u)

/* Below it are the ports for which a system wants a privilege, and which have names. */
#define PORT_SET_LOW 1024u

struct port_set {
    uint64_t bits[PORT_SET_WORDS];
};

static inline bool port_set_has(const struct port_set *set, uint16_t port)
{
    return (set->bits[port / 64] >> port % 64 & 1) != 0;
}

/* first to last, both included; first > 0. */
void port_set_add(struct port_set *set, uint16_t first, uint16_t last);

/* The lowest from `from` upwards; 0: there is none. */
uint16_t port_set_next(const struct port_set *set, uint32_t from);

/* How many there are from `from` upwards. */
uint32_t port_set_count(const struct port_set *set, uint32_t from);

/* The first choice for who takes any port: the lowest from PORT_SET_LOW upwards, or the lowest; 0:
 * the set is empty. */
uint16_t port_set_first(const struct port_set *set);

/* "80,443,10000-10100": numbers and ranges upwards, in any order; what is named twice is in it
 * once. False: *set is as it was, and `error` says what is wrong with which part. */
#define PORT_SET_ERROR_MAX 160u
bool port_set_parse(const char *text, struct port_set *set, char error[PORT_SET_ERROR_MAX]);

/* The same the other way, in order and joined; what does not fit is "...". Returns `text`. */
#define PORT_SET_TEXT_MAX 96u
const char *port_set_format(const struct port_set *set, char text[PORT_SET_TEXT_MAX]);

#endif
