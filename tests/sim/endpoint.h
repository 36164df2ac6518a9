/*
 * endpoint: a scripted end of a TCP connection in the simulated world: a visitor, or an origin's
 * side of an accepted connection.
 *
 * What it does follows from its plan, drawn when it is made: how many bytes it sends, in which
 * pieces, when it pauses, whether it half-closes, resets, never reads. What it sends starts with
 * its own number (8 bytes), then comes a pattern that depends on the number and the position; so
 * the receiver learns who talks to it and checks every byte.
 *
 * An endpoint ends well when it has sent everything and FIN, and has read up to the peer's FIN. It
 * ends badly when it sees an error. `blamed` tells bad ends that the script or an injected fault
 * explains from those that are the program's doing.
 */
#ifndef CULVERT_TESTS_SIM_ENDPOINT_H
#define CULVERT_TESTS_SIM_ENDPOINT_H

#include "core/base/list.h"
#include "fake/fake.h"

#include <stdbool.h>
#include <stdint.h>

#define ENDPOINT_ID_SIZE 8u
#define ENDPOINT_MAX     16384u

struct endpoint_plan {
    uint64_t total;     /* bytes to send, the number included; 0: nothing, FIN only */
    uint64_t start;     /* ns after the connection stands, before anything is sent */
    uint64_t step_max;  /* bytes per write or read */
    uint64_t think_max; /* ns between steps */
    uint64_t pause_at;  /* when so many bytes were sent and received, UINT64_MAX: never ... */
    uint64_t pause;     /* ... do nothing for so many ns */
    uint64_t reset_at;  /* likewise: RST */
    uint64_t fin_delay; /* ns between the last byte and FIN */
    bool wait_for_end;  /* FIN only after the peer's FIN */
    bool wait_for_all;  /* FIN only when all that the peer means to send is here, or its FIN */
    bool never_reads;   /* sends, then sits there, and leaves after `patience` */
    uint64_t patience;  /* ns: never_reads ends */
    bool as_asked; /* an origin: `total` is what its visitor `asks` for, and waits for its name */
    uint64_t asks; /* a visitor */
};

enum endpoint_end {
    ENDPOINT_OPEN,
    ENDPOINT_WELL,    /* everything sent, and the peer's FIN read */
    ENDPOINT_REFUSED, /* the connection did not come about */
    ENDPOINT_DIED,    /* an error was seen */
    ENDPOINT_LEFT,    /* by its own script: RST, or closed without having read */
};

struct endpoint {
    uint64_t id; /* 1, 2, 3 ... */
    bool visitor;
    bool echo; /* the peer sends back what this one sends */
    int fd;
    uint64_t connection; /* fake_connection(), once known */
    struct endpoint_plan plan;
    enum endpoint_end end;
    bool blamed;
    const char *blame;
    bool connected, fin_sent, eof;
    uint64_t sent, received;
    uint64_t peer; /* id, 0: not known */
    uint64_t begins, pause_until, fin_due;
    bool paused;
    uint8_t head[ENDPOINT_ID_SIZE];
    struct fake_event event;
    uint64_t ended_at;
};

/* Forgets all endpoints. */
void endpoints_reset(void);

/* A visitor that dials `port` now, from a host of its own (fake_dial); an origin's end around an
 * accepted socket. */
struct endpoint *endpoint_dial(unsigned host, uint16_t port, const struct endpoint_plan *plan);
struct endpoint *endpoint_accept(int fd, const struct endpoint_plan *plan);

unsigned endpoint_count(void);
struct endpoint *endpoint_at(unsigned i); /* 0 .. count - 1 */

/* NULL if there is no such number. */
struct endpoint *endpoint_find(uint64_t id);

/* The endpoint of a connection, NULL if none. */
struct endpoint *endpoint_of_connection(uint64_t connection);

/* A bad end of this endpoint and of its peer is explained from now on. */
void endpoint_blame(struct endpoint *e, const char *why);

/* True if all have ended. */
bool endpoints_ended(void);

/* Ends this endpoint from outside (by RST), as a fault of the script. */
void endpoint_leave(struct endpoint *e);

/* Called when something is wrong with what an endpoint sees; prints and aborts through
 * check_failed. */
void endpoint_print(const struct endpoint *e);

#endif
