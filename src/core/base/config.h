/*
 * config: what an instance was told to do, as one const structure.
 *
 * The command line (and later a file) is parsed once, at start, into a struct config that nobody
 * changes afterwards; workers hold a const pointer. There are no option variables elsewhere.
 * Durations are nanoseconds unless a name says otherwise.
 *
 * The token alone is no part of the structure: it is secret memory (secret.h) that belongs to it,
 * and is dropped as soon as what follows from it has been made (server/auth.h, client.c), before
 * there are workers.
 */
#ifndef CULVERT_CORE_BASE_CONFIG_H
#define CULVERT_CORE_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/port_set.h"

#define CONFIG_FOREVER     UINT32_MAX /* reconnect_attempts */
#define CONFIG_PORT        9000       /* of a server that names none */
#define CONFIG_TUNNELS_MAX 16
#define CONFIG_SERVERS_MAX 8
#define CONFIG_CPUS_MAX    256
#define CONFIG_TOKEN_MAX   1000
#define CONFIG_TOKENS_MAX  (16u << 20) /* bytes of all of them, with their newlines */

/* What a tunnel's name is made of. */
#define CONFIG_NAME_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

enum config_role { CONFIG_SERVER, CONFIG_CLIENT };
enum config_wire { CONFIG_WIRE_AUTO, CONFIG_WIRE_V1, CONFIG_WIRE_V2 };
enum config_engine { CONFIG_ENGINE_AUTO, CONFIG_ENGINE_KTLS, CONFIG_ENGINE_USER };
enum config_auto { CONFIG_AUTO, CONFIG_ON, CONFIG_OFF };
enum config_bulk { CONFIG_BULK_AUTO, CONFIG_SPLICE, CONFIG_COPY };

/* HOST:PORT as given: host without brackets, may be empty for a listen address (all addresses, IPv6
 * and IPv4). */
struct config_endpoint {
    char host[256];
    uint16_t port;
};

struct config_tunnel {
    struct config_endpoint origin;
    uint16_t port; /* public port asked for, 0: any */
    char name[64]; /* for logs and the summary; may be empty */
};

struct config {
    enum config_role role;
    unsigned workers;             /* >= 1 */
    unsigned cpu_count;           /* 0: not pinned */
    int cpus[CONFIG_CPUS_MAX];    /* worker i runs on cpus[i % cpu_count] */
    uint32_t max_streams;         /* per worker */
    uint32_t max_sessions;        /* server */
    uint32_t max_lanes;           /* server, per worker */
    uint32_t max_unauthenticated; /* server, per worker: connections before AUTH_OK */
    uint32_t bulk_buffers;        /* per worker: big buffers */
    uint32_t window_initial;      /* bytes per stream and direction */
    uint32_t window_max;
    uint64_t heartbeat; /* a lane sends PING this often */
    uint64_t expiry;    /* a lane that heard nothing this long is dead */
    uint64_t handshake_timeout;
    uint64_t connect_timeout; /* to the server and to origins */
    uint64_t drain_timeout;
    uint64_t grace; /* how long a lane that lost its connection waits for another; 0: not at all */
    bool grace_plain;           /* plain lanes, too: somebody on the path could take one over */
    uint64_t stream_idle;       /* a stream on which nothing moved this long ends; 0: none does */
    enum config_auto zero_copy; /* SEND_ZC */
    enum config_bulk bulk;      /* how it moves where both ways are open */
    char *token;       /* a server: any number, one in each line; NULL: nobody needs it any more */
    size_t token_size; /* a zero follows, which is not counted */
    bool log_visitors; /* a line for each visitor's end */
    bool token_is_default;  /* server: accept from loopback peers only */
    const char *token_file; /* where it is from, as given; NULL: not from a file */
    bool token_again;       /* a regular file: it can be read again */

    /* TLS: file names are absolute or relative to the working directory, empty: not given */
    enum config_auto tls; /* a server: AUTO takes both; a client: AUTO is plain on loopback only */
    char tls_cert[256], tls_key[256]; /* own certificate chain and key */
    char tls_ca[256];                 /* client: whose servers; server: whose clients (mTLS) */
    char tls_pin[128];                /* client: sha256:... of the server's key */
    bool tls_accept_new;              /* client: an unknown key is noted without asking */
    char state_dir[256];  /* known_servers, the certificate a server made itself; empty: none */
    bool state_dir_named; /* by the user: one that cannot be used is an error */
    char keylog[256];     /* debugging: SSLKEYLOGFILE */
    enum config_engine record_engine;

    /* server */
    struct config_endpoint listen;
    struct port_set ports; /* public ports that clients may get */
    uint16_t start_port;   /* one of them: the first choice for who takes any */
    char public_addr[256]; /* where public ports bind; empty: all addresses */

    /* client */
    enum config_wire wire;
    struct config_endpoint servers[CONFIG_SERVERS_MAX];
    unsigned server_count;
    struct config_tunnel tunnels[CONFIG_TUNNELS_MAX];
    unsigned tunnel_count;
    unsigned lanes; /* 0: as many as both sides have workers */
    bool reconnect;
    unsigned reconnect_attempts;
    uint64_t reconnect_first, reconnect_max; /* the seed: 1 s doubling to 30 s */
};

/* How long a lane of this kind that lost its connection waits for another, ns; 0: not at all. */
static inline uint64_t config_grace(const struct config *config, bool tls)
{
    return tls || config->grace_plain ? config->grace : 0;
}

/* One of the tokens of a struct config. */
struct config_token {
    const char *bytes;
    size_t size;
    unsigned line; /* 0, 1, 2, ... */
};

/* The next token; *token is zeros before the first. A blank line is counted, but holds none. False:
 * there is no other. */
bool config_next_token(const struct config *config, struct config_token *token);

/* For who needs one and may not have several: drops the blank lines about it. False: there are
 * several. */
bool config_keep_one_token(struct config *config);

/* In place of the token that is there comes `token`, secret memory with a zero at [size], or a
 * copy. False: no memory, and nothing has changed. */
void config_own_token(struct config *config, char *token, size_t size);
bool config_copy_token(struct config *config, const char *token, size_t size);

/* Wipes the token and gives it back; nothing if there is none. */
void config_drop_token(struct config *config);

#endif
