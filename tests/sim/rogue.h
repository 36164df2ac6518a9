/*
 * rogue: a client that speaks v2 by hand, and badly: a scripted peer of the server in the simulated
 * world, with a session, its tunnels and its lanes.
 *
 * It logs in as any client does (SCRAM and all), binds, and joins more lanes. Then it does what its
 * plan says, to all who come to its tunnels: an OPEN is never answered, or by as much DATA as the
 * visitor's window takes; the visitor may say nothing more, or as much as it likes; what arrives on
 * a lane is never counted, or not even read; PINGs come without end. A connection that the server
 * ends comes again after a pause, as another session, so it is there until it is told to leave.
 *
 * Its bytes say what visitors did not send and no origin did: visitors of its tunnels must not look
 * at them (endpoint_plan.never_reads).
 */
#ifndef CULVERT_TESTS_SIM_ROGUE_H
#define CULVERT_TESTS_SIM_ROGUE_H

#include <stdbool.h>
#include <stdint.h>

#define ROGUE_TUNNELS_MAX 16u
#define ROGUE_LANES_MAX   8u

struct rogue_plan {
    unsigned host; /* whence it dials */
    uint16_t port; /* of the server's lanes */
    const char *token;
    unsigned tunnels; /* that it asks for; it gets as many as it may have */
    unsigned lanes;
    bool resumes;         /* the server keeps what it has sent */
    bool floods;          /* a PING with everything it reads, and some more from time to time */
    bool fills;           /* as much DATA for each stream as its window takes */
    uint32_t credit;      /* for what the visitor says, in WINDOW; 0: what HELLO said */
    unsigned reset_after; /* ms: an OPEN is answered by RESET so much later; 0: never */
    unsigned deaf_after;  /* reads nothing more on a lane after so many OPENs; 0: reads on */
};

struct rogue;

/* Dials at once. Ends with rogue_leave. */
struct rogue *rogue_come(const struct rogue_plan *plan);

/* Its connections end: with GOAWAY and FIN, or by RST, whereupon the server keeps what can be
 * resumed. The memory is given back. */
void rogue_leave(struct rogue *rogue, bool politely);

/* Where visitors find it: the ports that it has been given, up to `most`. */
unsigned rogue_ports(const struct rogue *rogue, uint16_t *ports, unsigned most);

/* It is logged in, with at least one tunnel. */
bool rogue_stands(const struct rogue *rogue);

/* How often the server has refused it something: a session, a tunnel, a lane. */
unsigned rogue_refusals(const struct rogue *rogue);

#endif
