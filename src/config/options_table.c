/*
 * options_table: see options_table.h.
 *
 * A row reads: name, value, default and help; what it is; where it goes, who takes it and where the
 * help has it. A place is an offset into struct options and its width, so that one function stores
 * all numbers (options_set.c). Defaults are texts as somebody would write them, and are read as
 * these would be.
 */
#include "config/options_table.h"

#include <string.h>

#include "config/options_token.h"
#include "config/options_values.h"
#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/value.h"
#include "core/io/limits.h"

#define FOR_SERVER  (1u << OPTIONS_SERVER)
#define FOR_CLIENT  (1u << OPTIONS_CLIENT)
#define FOR_DEMO    (1u << OPTIONS_DEMO)
#define FOR_CERT    (1u << OPTIONS_GEN_CERT)
#define FOR_VERSION (1u << OPTIONS_VERSION)
#define FOR_ROLES   (FOR_SERVER | FOR_CLIENT)
#define FOR_RUNS    (FOR_ROLES | FOR_DEMO)
#define FOR_ALL     0xffu

#define AT(member) \
    .offset = offsetof(struct options, member), .width = sizeof(((struct options *)0)->member)
#define RANGE(low, high) .min = (low), .max = (high)
#define OR(text, number) .word = (text), .meaning = (number)

#define MSEC NSEC_PER_MSEC
#define SEC  NSEC_PER_SEC
#define HOUR (3600 * SEC)

/* clang-format would put each row on one line per field. */
/* clang-format off */
const struct options_flag options_flags[] = {
    { "addr", "HOST:PORT", ":9000", "where clients connect; without a host, on all addresses",
      .kind = KIND_LISTEN, .commands = FOR_SERVER, .group = GROUP_WHERE },
    { "ports", "LIST", NULL,
      "public ports that clients may get, numbers and ranges like 80,443,10000-10100 (default: "
      "1024-65535)",
      .kind = KIND_PORTS, .commands = FOR_SERVER, .group = GROUP_WHERE },
    { "start-port", "N", NULL,
      "the first of them to give out, busy ones are skipped (default: 10000; with --ports the "
      "lowest of these from 1024 up)",
      .kind = KIND_NUMBER, RANGE(1, 65535),
      AT(config.start_port), .commands = FOR_SERVER, .group = GROUP_WHERE },
    { "public-addr", "ADDR", NULL, "address on which public ports are bound (default: all)",
      .kind = KIND_PUBLIC_ADDR, .commands = FOR_SERVER, .group = GROUP_WHERE },
    { "server", "HOST:PORT", "localhost:9000",
      "address of the server (HOST alone means port 9000); repeatable, tried in turn",
      .kind = KIND_SERVER, .commands = FOR_CLIENT, .group = GROUP_WHERE, .list = true },
    { "local", "HOST:PORT", NULL,
      "the origin: a local service to expose (PORT alone means 127.0.0.1); repeatable, one tunnel "
      "each; may stand without --local",
      .kind = KIND_LOCAL, .commands = FOR_CLIENT, .group = GROUP_WHERE, .list = true },
    { "port", "N", NULL,
      "public port to ask for; repeatable: the first for the first --local, and so on (0: any)",
      .kind = KIND_PORT, .commands = FOR_CLIENT, .group = GROUP_WHERE, .list = true },
    { "name", "S", NULL, "the tunnel's name in logs and summary; repeatable, pairs like --port",
      .kind = KIND_TUNNEL_NAME, .commands = FOR_CLIENT, .group = GROUP_WHERE, .list = true },

    { "once", NULL, NULL, "end after the check, with exit code 0 if every byte was right",
      .kind = KIND_SWITCH, AT(demo.once), .commands = FOR_DEMO, .group = GROUP_DEMO },
    { "size", "SIZE", "1G", "how much to move each way",
      .kind = KIND_SIZE, RANGE(MIB, 1024 * 1024 * MIB),
      AT(demo.size), .commands = FOR_DEMO, .group = GROUP_DEMO },
    { "requests", "N", "5000", "HTTP requests to make, over 64 connections",
      .kind = KIND_NUMBER, RANGE(64, 10000000),
      AT(demo.requests), .commands = FOR_DEMO, .group = GROUP_DEMO },
    { "verbose", NULL, NULL, "show the logs of server and client",
      .kind = KIND_SWITCH, AT(demo.verbose), .commands = FOR_DEMO, .group = GROUP_DEMO },

    { "dir", "DIR", NULL,
      "where to put the files (default: the state directory, where a server looks for them)",
      .kind = KIND_TEXT, AT(config.state_dir), .commands = FOR_CERT, .group = GROUP_CERT },
    { "name", "HOST", NULL,
      "name or address by which clients know the server; repeatable; localhost is always among "
      "them",
      .kind = KIND_CERT_NAME, .commands = FOR_CERT, .group = GROUP_CERT, .list = true },
    { "days", "N", NULL, "how long it is valid (default: 825, a new CA 3650)",
      .kind = KIND_NUMBER, RANGE(1, 36500),
      AT(gen_cert.days), .commands = FOR_CERT, .group = GROUP_CERT },
    { "client", "NAME", NULL,
      "make a client certificate for this name instead, for servers that ask for one (--tls-ca)",
      .kind = KIND_TEXT, AT(gen_cert.client), .commands = FOR_CERT, .group = GROUP_CERT },

    { "token", "T", NULL,
      "the secret that both sides share (default: the file, then $CULVERT_TOKEN, then \""
      OPTIONS_DEFAULT_TOKEN "\", which a server accepts from loopback only); other users may see "
      "it in a process list before it is wiped, so prefer the next",
      .kind = KIND_TOKEN, .commands = FOR_ROLES, .group = GROUP_SECRET },
    { "token-file", "FILE", NULL,
      "read the token from a file, without white space at the ends of its line; blank lines and "
      "those that begin with # are none; a server's file may have any number of tokens, one in "
      "each line",
      .kind = KIND_TOKEN_FILE, .commands = FOR_ROLES, .group = GROUP_SECRET },
    { "tls", NULL, NULL,
      "encrypt the lanes; a server takes no plain ones then (without a flag: TLS, v2 and v1, by "
      "the first byte), a client encrypts on loopback, too (elsewhere it always does)",
      .kind = KIND_TLS, .commands = FOR_RUNS, .group = GROUP_SECRET },
    { "plain", NULL, NULL, "no TLS: whoever is on the path reads and changes what he likes",
      .kind = KIND_PLAIN, .commands = FOR_ROLES, .group = GROUP_SECRET },
    { "tls-cert", "FILE", NULL, "own certificate chain, PEM (client: if the server asks for one)",
      .kind = KIND_TEXT, AT(config.tls_cert), .commands = FOR_ROLES, .group = GROUP_SECRET },
    { "tls-key", "FILE", NULL, "its private key, PEM",
      .kind = KIND_TEXT, AT(config.tls_key), .commands = FOR_ROLES, .group = GROUP_SECRET },
    { "tls-ca", "FILE", NULL,
      "client: trust servers with a certificate of this CA; server: clients must show one of it",
      .kind = KIND_TEXT, AT(config.tls_ca), .commands = FOR_ROLES, .group = GROUP_SECRET },
    { "tls-pin", "sha256:HEX", NULL, "trust the server with this key, which it prints at start",
      .kind = KIND_PIN, AT(config.tls_pin), .commands = FOR_CLIENT, .group = GROUP_SECRET },
    { "tls-accept-new", NULL, NULL,
      "note the key of a server that is not known yet instead of asking; a changed key is refused "
      "all the same",
      .kind = KIND_SWITCH,
      AT(config.tls_accept_new), .commands = FOR_CLIENT, .group = GROUP_SECRET },
    { "state-dir", "DIR", NULL,
      "known_servers and a server's own certificate (default: /var/lib/culvert for root, "
      "~/.local/state/culvert for others)",
      .kind = KIND_TEXT, AT(config.state_dir), .commands = FOR_ROLES, .group = GROUP_SECRET },
    { "record-engine", "auto|ktls|user", "auto",
      "who encrypts: the kernel, this program; auto: the kernel if it can",
      .kind = KIND_CHOICE, AT(config.record_engine), .commands = FOR_ROLES, .group = GROUP_SECRET },

    { "workers", "N|auto", "1", "worker threads; auto: one for each core this process may use",
      .kind = KIND_NUMBER, RANGE(1, CONFIG_CPUS_MAX), OR("auto", 0),
      AT(config.workers), .commands = FOR_RUNS, .group = GROUP_CORES },
    { "cpus", "LIST", NULL,
      "pin the workers to these cores in turn, like 0-3,6 (default: not pinned)",
      .kind = KIND_CPUS, .commands = FOR_ROLES, .group = GROUP_CORES },
    { "lanes", "N|auto", "auto",
      "connections to the server; auto: as many as both sides have workers",
      .kind = KIND_NUMBER, RANGE(1, SESSION_LANES_MAX), OR("auto", 0),
      AT(config.lanes), .commands = FOR_CLIENT, .group = GROUP_CORES },
    { "wire", "auto|v1|v2", "auto", "protocol; auto: v2, and v1 if the server knows no other",
      .kind = KIND_CHOICE,
      AT(config.wire), .commands = FOR_CLIENT | FOR_DEMO, .group = GROUP_CORES },
    { "zero-copy", "auto|on|off", "auto",
      "send from our own buffers; auto: where the kernel gains by it",
      .kind = KIND_CHOICE, AT(config.zero_copy), .commands = FOR_ROLES, .group = GROUP_CORES },

    { "bulk", "auto|splice|copy", "auto",
      "how bulk of plain lanes moves: through pipes, uncopied, or through buffers (auto: through "
      "pipes, but not where TCP paces it, as BBR does)",
      .kind = KIND_CHOICE, AT(config.bulk), .commands = FOR_ROLES, .group = GROUP_CORES },

    { "max-streams", "N", "131072", "streams per worker",
      .kind = KIND_NUMBER, RANGE(1, STREAM_SLOTS_MAX),
      AT(config.max_streams), .commands = FOR_ROLES, .group = GROUP_LIMITS },
    { "max-sessions", "N", "4096", "sessions",
      .kind = KIND_NUMBER, RANGE(1, STREAM_SLOTS_MAX),
      AT(config.max_sessions), .commands = FOR_SERVER, .group = GROUP_LIMITS },
    { "max-lanes", "N", "8192", "lanes per worker that have logged in",
      .kind = KIND_NUMBER, RANGE(1, STREAM_SLOTS_MAX),
      AT(config.max_lanes), .commands = FOR_SERVER, .group = GROUP_LIMITS },
    { "max-unauthenticated", "N", "512", "connections per worker that have not logged in",
      .kind = KIND_NUMBER, RANGE(1, STREAM_SLOTS_MAX),
      AT(config.max_unauthenticated), .commands = FOR_SERVER, .group = GROUP_LIMITS },
    { "bulk-buffers", "N", "512", "big buffers per worker, for streams that move bulk",
      .kind = KIND_NUMBER, RANGE(8, 65536),
      AT(config.bulk_buffers), .commands = FOR_ROLES, .group = GROUP_LIMITS },
    { "window-initial", "SIZE", "64KiB", "window of a new stream, each direction",
      .kind = KIND_SIZE, RANGE(4 * KIB, 1024 * MIB),
      AT(config.window_initial), .commands = FOR_ROLES, .group = GROUP_LIMITS },
    { "window-max", "SIZE", "16MiB", "the largest window that a fast stream grows to",
      .kind = KIND_SIZE, RANGE(4 * KIB, 1024 * MIB),
      AT(config.window_max), .commands = FOR_ROLES, .group = GROUP_LIMITS },

    { "heartbeat", "D", "10s", "how often a lane sends PING",
      .kind = KIND_DURATION, RANGE(10 * MSEC, HOUR),
      AT(config.heartbeat), .commands = FOR_ROLES, .group = GROUP_TIMES },
    { "expiry", "D", "30s", "a lane that heard nothing this long is dead",
      .kind = KIND_DURATION, RANGE(20 * MSEC, 24 * HOUR),
      AT(config.expiry), .commands = FOR_ROLES, .group = GROUP_TIMES },
    { "handshake-timeout", "D", "10s", "from connection to AUTH_OK",
      .kind = KIND_DURATION, RANGE(10 * MSEC, HOUR),
      AT(config.handshake_timeout), .commands = FOR_ROLES, .group = GROUP_TIMES },
    { "connect-timeout", "D", "10s", "to reach the server or an origin",
      .kind = KIND_DURATION, RANGE(10 * MSEC, HOUR),
      AT(config.connect_timeout), .commands = FOR_ROLES, .group = GROUP_TIMES },
    { "drain-timeout", "D", "10s", "how long streams may finish after Ctrl+C or SIGTERM",
      .kind = KIND_DURATION, RANGE(0, HOUR),
      AT(config.drain_timeout), .commands = FOR_ROLES, .group = GROUP_TIMES },
    { "grace", "D|auto", "auto",
      "how long streams wait when their connection is lost; auto: 60s with TLS, otherwise 0s",
      .kind = KIND_DURATION, RANGE(0, GRACE_MAX_S * SEC), OR("auto", UINT64_MAX),
      AT(config.grace), .commands = FOR_ROLES, .group = GROUP_TIMES },
    { "stream-idle", "D|off", "off",
      "end a stream on which nothing has moved in either direction for this long",
      .kind = KIND_DURATION, RANGE(SEC, 24 * HOUR), OR("off", 0),
      AT(config.stream_idle), .commands = FOR_ROLES, .group = GROUP_TIMES },
    { "no-reconnect", NULL, NULL, "end when the session is lost",
      .kind = KIND_SWITCH_OFF, AT(config.reconnect), .commands = FOR_CLIENT, .group = GROUP_TIMES },
    { "reconnect-attempts", "N|forever", "10",
      "give up after this many attempts in a row; forever: never, as a service should",
      .kind = KIND_NUMBER, RANGE(1, 1000000), OR("forever", CONFIG_FOREVER),
      AT(config.reconnect_attempts), .commands = FOR_CLIENT, .group = GROUP_TIMES },
    { "reconnect-first", "D", "1s", "wait before the first attempt; doubles with each",
      .kind = KIND_DURATION, RANGE(MSEC, HOUR),
      AT(config.reconnect_first), .commands = FOR_CLIENT, .group = GROUP_TIMES },
    { "reconnect-max", "D", "30s", "the longest wait between two attempts",
      .kind = KIND_DURATION, RANGE(MSEC, 24 * HOUR),
      AT(config.reconnect_max), .commands = FOR_CLIENT, .group = GROUP_TIMES },

    { "features", NULL, NULL, "also show what this kernel gives",
      .kind = KIND_SWITCH, AT(features), .commands = FOR_VERSION, .group = GROUP_REST },
    { "log-level", "error|warn|info|debug", "info", "least important lines to log, on stderr",
      .kind = KIND_CHOICE, AT(log_level), .commands = FOR_RUNS, .group = GROUP_REST },
    { "log-visitors", NULL, NULL,
      "log a line for each visitor's connection when it ends: from where, how many bytes, how "
      "long, why",
      .kind = KIND_SWITCH, AT(config.log_visitors), .commands = FOR_ROLES, .group = GROUP_REST },
    { "version", NULL, NULL, "show the version",
      .kind = KIND_SWITCH, AT(version), .commands = FOR_ALL, .group = GROUP_REST },
    { "help", NULL, NULL, "show this text",
      .kind = KIND_SWITCH, AT(help), .commands = FOR_ALL, .group = GROUP_REST },

    { .name = NULL },
};
/* clang-format on */

const struct options_letter options_letters[] = {
    { 'h', FOR_ALL, "help" },    { 'v', FOR_ALL, "version" }, { 'V', FOR_ALL, "version" },
    { 'p', FOR_CLIENT, "port" }, { 'p', FOR_SERVER, "addr" }, /* its own port, as with sshd */
    { .letter = '\0' },
};

static const char *const titles[] = {
    [GROUP_WHERE] = "Addresses and tunnels",
    [GROUP_DEMO] = "What to check",
    [GROUP_CERT] = "What to make",
    [GROUP_SECRET] = "Token and TLS",
    [GROUP_CORES] = "Cores and lanes",
    [GROUP_LIMITS] = "Limits",
    [GROUP_TIMES] = "Times (250ms, 10s, 2m, 1h)",
    [GROUP_REST] = "Output",
};
CHECK_STATIC(ARRAY_SIZE(titles) == GROUP_COUNT, "every group has a title");

const char *options_table_title(enum options_group group)
{
    CHECK(group < GROUP_COUNT);
    return titles[group];
}

const struct options_flag *options_table_find(const char *name, size_t size,
                                              enum options_command command)
{
    const struct options_flag *other = NULL;

    for (const struct options_flag *flag = options_flags; flag->name != NULL; flag++) {
        if (strlen(flag->name) != size || memcmp(flag->name, name, size) != 0)
            continue;
        if (options_flag_is_for(flag, command))
            return flag;
        other = flag;
    }
    return other;
}

/* 1 for what begins the name, from three letters on. */
static unsigned table_distance(const char *word, const char *name)
{
    size_t size = strlen(word);

    return size >= 3 && strncmp(word, name, size) == 0 ? 1 : value_distance(word, name);
}

const struct options_flag *options_table_nearest(const char *word, enum options_command command)
{
    const struct options_flag *best = NULL;
    unsigned best_distance = ~0u;

    for (const struct options_flag *flag = options_flags; flag->name != NULL; flag++) {
        unsigned distance = table_distance(word, flag->name);

        if (options_flag_is_for(flag, command) && distance < best_distance) {
            best = flag;
            best_distance = distance;
        }
    }
    return value_is_near(best_distance, word) ? best : NULL;
}

enum options_command options_table_owner(const struct options_flag *flag)
{
    unsigned command = 0;

    while (!options_flag_is_for(flag, (enum options_command)command))
        command++;
    return (enum options_command)command;
}
