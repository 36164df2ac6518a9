/*
 * config: what an instance was told to do, as one const structure.
 *
 * The command line (and later a file) is parsed once, at start, into a struct config that nobody changes afterwards; workers hold a
 * const pointer. There are no option variables elsewhere. Durations are nanoseconds unless a name says otherwise.
 */
#ifndef CULVERT_CORE_CONFIG_H
#define CULVERT_CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_TUNNELS_MAX 16
#define CONFIG_SERVERS_MAX 8
#define CONFIG_CPUS_MAX    256
#define CONFIG_TOKEN_MAX   1000

enum config_role { CONFIG_SERVER, CONFIG_CLIENT };
enum config_wire { CONFIG_WIRE_AUTO, CONFIG_WIRE_V1, CONFIG_WIRE_V2 };
enum config_engine { CONFIG_ENGINE_AUTO, CONFIG_ENGINE_KTLS, CONFIG_ENGINE_USER };
enum config_auto { CONFIG_AUTO, CONFIG_ON, CONFIG_OFF };

/* HOST:PORT as given: host without brackets, may be empty for a listen address (all addresses, IPv6 and IPv4). */
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
    enum config_auto zero_copy; /* SEND_ZC */
    char token[CONFIG_TOKEN_MAX + 1];
    size_t token_size;
    bool token_is_default; /* server: accept from loopback peers only */

    /* TLS: file names are absolute or relative to the working directory, empty: not given */
    bool tls;
    char tls_cert[256], tls_key[256]; /* own certificate chain and key */
    char tls_ca[256];                 /* client: whose servers; server: whose clients (mTLS) */
    char tls_pin[128];                /* client: sha256:... of the server's key */
    bool tls_accept_new;              /* client: an unknown key is noted without asking */
    char state_dir[256];              /* known_servers, the certificate a server made itself */
    char keylog[256];                 /* debugging: SSLKEYLOGFILE */
    enum config_engine record_engine;

    /* server */
    struct config_endpoint listen;
    uint16_t start_port;
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

#endif
