/*
 * options: see options.h.
 *
 * The table `flags` is the heart: name, value, default, help, setter, and where the value goes
 * (offset and width in struct options). Most rows share a setter for their kind of value (number,
 * duration, size, choice), so a new flag is a new row. Defaults are texts in the same rows and go
 * through the same setters before the command line is read; lists get theirs in finish_*, only if
 * the command line gave none.
 *
 * Tokens never appear in an error: an unknown flag is quoted as far as it is a name, and of one
 * that begins like the name of a secret only that name; the value of --token is wiped as soon as it
 * is copied, before anything after it can fail. What an error quotes is shown as the log would
 * (options_parse has the only way out). Where a token comes from otherwise is options_token.c.
 */
#include "config/options.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/options_habit.h"
#include "config/options_token.h"
#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/token.h"
#include "core/base/value.h"
#include "core/io/addr.h"
#include "core/io/limits.h"

#define DEFAULT_TOKEN      "dev-token"
#define DEFAULT_SERVER     "localhost:9000"
#define DEFAULT_START_PORT 10000
#define WORKERS_MAX        CONFIG_CPUS_MAX
#define SLOTS_MAX          STREAM_SLOTS_MAX

/* What parsing needs to remember beyond struct options. */
struct parse {
    struct options *options;
    struct options_error *error;
    unsigned port_count, name_count; /* pair with the tunnels in order */
    bool token_given, tls_given, plain_given;
    const char *token_file;
};

struct flag {
    const char *name;   /* without dashes */
    const char *value;  /* what the help calls its value; NULL: a switch */
    const char *preset; /* the default; NULL: none */
    const char *help;
    bool (*set)(struct parse *p, const struct flag *flag, char *value);
    uint64_t min, max; /* numbers, durations (ns), sizes */
    uint16_t offset;   /* in struct options */
    uint16_t width;    /* bytes there */
    uint8_t commands;  /* FOR_* */
    uint8_t group;     /* enum group */
    bool list;         /* repeatable: the preset is for the help only */
};

#define FOR_SERVER  (1u << OPTIONS_SERVER)
#define FOR_CLIENT  (1u << OPTIONS_CLIENT)
#define FOR_DEMO    (1u << OPTIONS_DEMO)
#define FOR_CERT    (1u << OPTIONS_GEN_CERT)
#define FOR_VERSION (1u << OPTIONS_VERSION)
#define FOR_ROLES   (FOR_SERVER | FOR_CLIENT)
#define FOR_RUNS    (FOR_ROLES | FOR_DEMO)
#define FOR_ALL     0xffu

/* What names a secret here or elsewhere: behind it, in the same word, the secret itself may stand
 * (-tSECRET, --token:SECRET, --passwordSECRET). */
static const struct {
    const char *name; /* without dashes */
    bool one_dash;    /* only behind one dash */
} secrets[] = {
    { "token", false },     { "secret", false },   { "auth-token", false },
    { "authtoken", false }, { "password", false }, { "t", true },
};

/* What one dash and one letter mean, to whom. */
static const struct {
    char letter;
    uint8_t commands;
    const char *name;
} letters[] = {
    { 'h', FOR_ALL, "help" },    { 'v', FOR_ALL, "version" }, { 'V', FOR_ALL, "version" },
    { 'p', FOR_CLIENT, "port" }, { 'p', FOR_SERVER, "addr" }, /* its own port, as with sshd */
};

enum group {
    GROUP_WHERE,
    GROUP_DEMO,
    GROUP_CERT,
    GROUP_SECRET,
    GROUP_CORES,
    GROUP_LIMITS,
    GROUP_TIMES,
    GROUP_REST
};

static const char *const group_titles[] = {
    [GROUP_WHERE] = "Addresses and tunnels",
    [GROUP_DEMO] = "What to check",
    [GROUP_CERT] = "What to make",
    [GROUP_SECRET] = "Token and TLS",
    [GROUP_CORES] = "Cores and lanes",
    [GROUP_LIMITS] = "Limits",
    [GROUP_TIMES] = "Times (250ms, 10s, 2m, 1h)",
    [GROUP_REST] = "Output",
};

__attribute__((format(printf, 2, 3))) static bool fail(struct parse *p, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(p->error->text, sizeof(p->error->text), format, args);
    va_end(args);
    p->error->code = EXIT_CODE_USAGE;
    return false;
}

/* Setters */

static void store(struct parse *p, const struct flag *flag, uint64_t value)
{
    char *at = (char *)p->options + flag->offset;

    switch (flag->width) {
    case 1:
        *(uint8_t *)at = (uint8_t)value;
        return;
    case 2:
        *(uint16_t *)(void *)at = (uint16_t)value;
        return;
    case 4:
        *(uint32_t *)(void *)at = (uint32_t)value;
        return;
    case 8:
        *(uint64_t *)(void *)at = value;
        return;
    default:
        CHECK(!"width of a flag's target");
    }
}

static bool set_number(struct parse *p, const struct flag *flag, char *value)
{
    uint64_t number;

    if (!value_parse_number(value, &number) || number < flag->min || number > flag->max)
        return fail(p, "--%s: '%.60s' is not a number from %llu to %llu", flag->name, value,
                    (unsigned long long)flag->min, (unsigned long long)flag->max);
    store(p, flag, number);
    return true;
}

/* "auto" is 0; what it means is settled in finish_*. */
static bool set_number_or_auto(struct parse *p, const struct flag *flag, char *value)
{
    if (strcmp(value, "auto") == 0) {
        store(p, flag, 0);
        return true;
    }
    if (!set_number(p, flag, value))
        return fail(p, "--%s: '%.60s' is neither 'auto' nor a number from %llu to %llu", flag->name,
                    value, (unsigned long long)flag->min, (unsigned long long)flag->max);
    return true;
}

static bool set_attempts(struct parse *p, const struct flag *flag, char *value)
{
    if (strcmp(value, "forever") == 0) {
        store(p, flag, CONFIG_FOREVER);
        return true;
    }
    if (!set_number(p, flag, value))
        return fail(p, "--%s: '%.60s' is neither 'forever' nor a number from %llu to %llu",
                    flag->name, value, (unsigned long long)flag->min,
                    (unsigned long long)flag->max);
    return true;
}

static bool set_duration(struct parse *p, const struct flag *flag, char *value)
{
    char min[VALUE_TEXT_MAX], max[VALUE_TEXT_MAX];
    uint64_t ns;

    if (!value_parse_duration(value, &ns))
        return fail(p,
                    "--%s: '%.60s' is not a duration; write a whole number and its unit, like "
                    "250ms, 10s, 2m or 1h",
                    flag->name, value);
    if (ns < flag->min || ns > flag->max)
        return fail(p, "--%s: %.60s is out of range; write a duration from %s to %s", flag->name,
                    value, value_format_duration(flag->min, min),
                    value_format_duration(flag->max, max));
    store(p, flag, ns);
    return true;
}

/* "auto" is UINT64_MAX; what it means is settled in finish_*. */
static bool set_duration_or_auto(struct parse *p, const struct flag *flag, char *value)
{
    if (strcmp(value, "auto") != 0)
        return set_duration(p, flag, value);
    store(p, flag, UINT64_MAX);
    return true;
}

/* "off" is 0. */
static bool set_duration_or_off(struct parse *p, const struct flag *flag, char *value)
{
    if (strcmp(value, "off") != 0)
        return set_duration(p, flag, value);
    store(p, flag, 0);
    return true;
}

static bool set_size(struct parse *p, const struct flag *flag, char *value)
{
    char min[VALUE_TEXT_MAX], max[VALUE_TEXT_MAX];
    uint64_t bytes;

    if (!value_parse_size(value, &bytes))
        return fail(p, "--%s: '%.60s' is not a size; write bytes, or a number with K, M or G",
                    flag->name, value);
    if (bytes < flag->min || bytes > flag->max)
        return fail(p, "--%s: %.60s is out of range; write a size from %s to %s", flag->name, value,
                    value_format_size(flag->min, min), value_format_size(flag->max, max));
    store(p, flag, bytes);
    return true;
}

/* flag->value lists the choices, "auto|on|off", in the order of the enum. */
static bool set_choice(struct parse *p, const struct flag *flag, char *value)
{
    size_t size = strlen(value);
    const char *choice = flag->value;

    for (uint64_t i = 0;; i++) {
        size_t n = strcspn(choice, "|");

        if (n == size && memcmp(choice, value, n) == 0) {
            store(p, flag, i);
            return true;
        }
        if (choice[n] == '\0')
            return fail(p, "--%s: '%.60s' is not one of %s", flag->name, value, flag->value);
        choice += n + 1;
    }
}

/* A switch arrives as "true" or "false". */
static bool set_switch(struct parse *p, const struct flag *flag, char *value)
{
    store(p, flag, value[0] == 't');
    return true;
}

static bool set_switch_off(struct parse *p, const struct flag *flag, char *value)
{
    store(p, flag, value[0] != 't');
    return true;
}

static bool set_cpus(struct parse *p, const struct flag *flag, char *value)
{
    struct config *config = &p->options->config;

    if (!value_parse_cpus(value, config->cpus, CONFIG_CPUS_MAX, &config->cpu_count))
        return fail(p,
                    "--%s: '%.60s' is not a list of at most %d cores, each once; write it like "
                    "0-3,6",
                    flag->name, value, CONFIG_CPUS_MAX);
    return true;
}

static bool read_endpoint(struct parse *p, const struct flag *flag, const char *value,
                          enum addr_use use, struct config_endpoint *out)
{
    char error[ADDR_ERROR_MAX];

    if (!addr_parse_endpoint(value, use, out, error))
        return fail(p, "--%s: %s", flag->name, error);
    return true;
}

/* A numeric address of this machine; "localhost" is one by definition, every other name is a
 * look-up whose answer may be somebody else's address. False: a name. */
static bool to_own_address(char *host, size_t size)
{
    if (!addr_is_numeric(host) && addr_host_is_loopback(host))
        snprintf(host, size, "127.0.0.1");
    return addr_is_numeric(host);
}

static bool set_listen(struct parse *p, const struct flag *flag, char *value)
{
    struct config_endpoint *listen = &p->options->config.listen;

    if (strchr(value, ',') != NULL)
        return fail(p,
                    "--%s: '%.60s': a server listens on one address; write one, or :PORT for all "
                    "of this machine",
                    flag->name, value);
    if (!read_endpoint(p, flag, value, ADDR_LISTEN, listen))
        return false;
    if (listen->host[0] == '\0' || to_own_address(listen->host, sizeof(listen->host)))
        return true;
    return fail(p,
                "--%s: '%.60s' is a name; write a numeric address of this machine, like "
                "127.0.0.1:%u, or :%u for all of them",
                flag->name, listen->host, listen->port, listen->port);
}

static bool set_ports(struct parse *p, const struct flag *flag, char *value)
{
    char error[PORT_SET_ERROR_MAX];

    if (!port_set_parse(value, &p->options->config.ports, error))
        return fail(p, "--%s: %s", flag->name, error);
    return true;
}

/* A numeric address, an IPv6 one with or without brackets. */
static bool set_public_addr(struct parse *p, const struct flag *flag, char *value)
{
    struct config *config = &p->options->config;
    size_t size = strlen(value);
    char host[sizeof(config->public_addr)];

    if (value[0] == '[' && size >= 2 && value[size - 1] == ']') {
        value++;
        size -= 2;
    }
    if (size < sizeof(host)) {
        memcpy(host, value, size);
        host[size] = '\0';
        if (addr_lacks_zone(host))
            return fail(p, "--%s: a link-local address needs its interface, like %s%%eth0",
                        flag->name, host);
        if (to_own_address(host, sizeof(host))) {
            memcpy(config->public_addr, host, sizeof(host));
            return true;
        }
    }
    return fail(p,
                "--%s: '%.60s' is not an IP address; write one of this machine, like 127.0.0.1 "
                "or ::1, or leave the flag out to bind all addresses",
                flag->name, value);
}

static bool set_server(struct parse *p, const struct flag *flag, char *value)
{
    struct config *config = &p->options->config;

    if (config->server_count == CONFIG_SERVERS_MAX)
        return fail(p, "--%s: at most %d servers can be tried; leave some out", flag->name,
                    CONFIG_SERVERS_MAX);
    return read_endpoint(p, flag, value, ADDR_SERVER, &config->servers[config->server_count++]);
}

static bool set_local(struct parse *p, const struct flag *flag, char *value)
{
    struct config *config = &p->options->config;

    if (config->tunnel_count == CONFIG_TUNNELS_MAX)
        return fail(p, "--%s: a session has at most %d tunnels; start a second client for more",
                    flag->name, CONFIG_TUNNELS_MAX);
    return read_endpoint(p, flag, value, ADDR_ORIGIN,
                         &config->tunnels[config->tunnel_count++].origin);
}

static bool set_port(struct parse *p, const struct flag *flag, char *value)
{
    uint64_t port;

    if (strchr(value, ':') != NULL)
        return fail(p,
                    "--%s: '%.60s' has two ports; write the public one here and the local one "
                    "with --local, like --local 3000 --port 10080",
                    flag->name, value);
    if (!value_parse_number(value, &port) || port > 65535)
        return fail(p, "--%s: '%.60s' is not a port; write a number from 1 to 65535, or 0 for any",
                    flag->name, value);
    if (p->port_count == CONFIG_TUNNELS_MAX)
        return fail(p, "--%s: given more than %d times", flag->name, CONFIG_TUNNELS_MAX);
    p->options->config.tunnels[p->port_count++].port = (uint16_t)port;
    return true;
}

static bool set_name(struct parse *p, const struct flag *flag, char *value)
{
    struct config_tunnel *tunnels = p->options->config.tunnels;
    size_t size = strlen(value);

    if (p->name_count == CONFIG_TUNNELS_MAX)
        return fail(p, "--%s: given more than %d times", flag->name, CONFIG_TUNNELS_MAX);
    if (size == 0 || size >= sizeof(tunnels->name) || strspn(value, CONFIG_NAME_LETTERS) != size)
        return fail(p, "--%s: '%.60s' is not a name; use up to %zu letters, digits, '-', '_', '.'",
                    flag->name, value, sizeof(tunnels->name) - 1);
    memcpy(tunnels[p->name_count++].name, value, size + 1);
    return true;
}

/* The letters that tls_gen_cert takes, too. */
static bool is_cert_name(const char *name)
{
    if (strchr(name, ':') != NULL)
        return addr_is_numeric(name) && strchr(name, '%') == NULL;
    return name[0] != '\0' && strspn(name, CONFIG_NAME_LETTERS "*") == strlen(name);
}

/* A host name or address of a certificate. */
static bool set_cert_name(struct parse *p, const struct flag *flag, char *value)
{
    struct options_gen_cert *what = &p->options->gen_cert;
    size_t size = strlen(value);

    if (what->name_count == OPTIONS_CERT_NAMES_MAX)
        return fail(p, "--%s: given more than %d times; one certificate for *.example.com may do",
                    flag->name, OPTIONS_CERT_NAMES_MAX);
    if (size >= sizeof(what->names[0]) || !is_cert_name(value))
        return fail(p,
                    "--%s: '%.60s' is not a name; write the host name or address of the server, "
                    "without port or zone, like example.com or 192.0.2.1",
                    flag->name, value);
    memcpy(what->names[what->name_count++], value, size + 1);
    return true;
}

static bool set_token(struct parse *p, const struct flag *flag, char *value)
{
    size_t size = strlen(value);
    bool ok = options_token_take("--token", value, &p->options->config, p->error);

    (void)flag;
    explicit_bzero(value, size);
    p->token_given = true;
    return ok;
}

static bool set_token_file(struct parse *p, const struct flag *flag, char *value)
{
    if (value[0] == '\0')
        return fail(p, "--%s: it is empty; write the path of a file", flag->name);
    p->token_file = value;
    return true;
}

/* Tls and --plain are two values of one thing; with =false each is as if it were not there. */
static bool set_tls(struct parse *p, const struct flag *flag, char *value)
{
    p->tls_given = value[0] == 't';
    (void)flag;
    return true;
}

static bool set_plain(struct parse *p, const struct flag *flag, char *value)
{
    p->plain_given = value[0] == 't';
    (void)flag;
    return true;
}

/* A path or other text, kept as it is. */
static bool set_text(struct parse *p, const struct flag *flag, char *value)
{
    size_t size = strlen(value);

    if (size == 0 || size >= flag->width)
        return fail(p, "--%s: '%.60s' is %s; write %s", flag->name, value,
                    size == 0 ? "empty" : "too long", flag->value);
    memcpy((char *)p->options + flag->offset, value, size + 1);
    return true;
}

static bool set_pin(struct parse *p, const struct flag *flag, char *value)
{
    if (!value_is_pin(value))
        return fail(p,
                    "--%s: '%.80s' is not a pin; it is sha256: and 64 hex digits, as the server "
                    "prints at start, or sha256// and base64, as curl writes it",
                    flag->name, value);
    return set_text(p, flag, value);
}

static bool set_state_dir(struct parse *p, const struct flag *flag, char *value)
{
    p->options->config.state_dir_named = true;
    return set_text(p, flag, value);
}

/* Table */

#define AT(member) \
    .offset = offsetof(struct options, member), .width = sizeof(((struct options *)0)->member)
#define MSEC      NSEC_PER_MSEC
#define HOUR      (3600 * NSEC_PER_SEC)
#define GRACE_TLS (60000 * MSEC)

/* In the order of the help text. clang-format would put each row on one line per field. */
/* clang-format off */
static const struct flag flags[] = {
    { "addr", "HOST:PORT", ":9000", "where clients connect; without a host, on all addresses",
      .set = set_listen, .commands = FOR_SERVER, .group = GROUP_WHERE },
    { "ports", "LIST", NULL,
      "public ports that clients may get, numbers and ranges like 80,443,10000-10100 (default: "
      "1024-65535)",
      .set = set_ports, .commands = FOR_SERVER, .group = GROUP_WHERE },
    { "start-port", "N", NULL,
      "the first of them to give out, busy ones are skipped (default: 10000; with --ports the "
      "lowest of these from 1024 up)",
      .set = set_number, .min = 1, .max = 65535, AT(config.start_port),
      .commands = FOR_SERVER, .group = GROUP_WHERE },
    { "public-addr", "ADDR", NULL, "address on which public ports are bound (default: all)",
      .set = set_public_addr, .commands = FOR_SERVER, .group = GROUP_WHERE },
    { "server", "HOST:PORT", DEFAULT_SERVER,
      "address of the server (HOST alone means port 9000); repeatable, tried in turn",
      .set = set_server, .commands = FOR_CLIENT, .group = GROUP_WHERE, .list = true },
    { "local", "HOST:PORT", NULL,
      "the origin: a local service to expose (PORT alone means 127.0.0.1); repeatable, one tunnel "
      "each; may stand without --local",
      .set = set_local, .commands = FOR_CLIENT, .group = GROUP_WHERE, .list = true },
    { "port", "N", NULL,
      "public port to ask for; repeatable: the first for the first --local, and so on (0: any)",
      .set = set_port, .commands = FOR_CLIENT, .group = GROUP_WHERE, .list = true },
    { "name", "S", NULL, "the tunnel's name in logs and summary; repeatable, pairs like --port",
      .set = set_name, .commands = FOR_CLIENT, .group = GROUP_WHERE, .list = true },

    { "once", NULL, NULL, "end after the check, with exit code 0 if every byte was right",
      .set = set_switch, AT(demo.once), .commands = FOR_DEMO, .group = GROUP_DEMO },
    { "size", "SIZE", "1G", "how much to move each way",
      .set = set_size, .min = MIB, .max = 1024 * 1024 * MIB, AT(demo.size),
      .commands = FOR_DEMO, .group = GROUP_DEMO },
    { "requests", "N", "5000", "HTTP requests to make, over 64 connections",
      .set = set_number, .min = 64, .max = 10000000, AT(demo.requests),
      .commands = FOR_DEMO, .group = GROUP_DEMO },
    { "verbose", NULL, NULL, "show the logs of server and client",
      .set = set_switch, AT(demo.verbose), .commands = FOR_DEMO, .group = GROUP_DEMO },

    { "dir", "DIR", NULL,
      "where to put the files (default: the state directory, where a server looks for them)",
      .set = set_text, AT(config.state_dir), .commands = FOR_CERT, .group = GROUP_CERT },
    { "name", "HOST", NULL,
      "name or address by which clients know the server; repeatable; localhost is always among "
      "them",
      .set = set_cert_name, .commands = FOR_CERT, .group = GROUP_CERT, .list = true },
    { "days", "N", NULL, "how long it is valid (default: 825, a new CA 3650)",
      .set = set_number, .min = 1, .max = 36500, AT(gen_cert.days),
      .commands = FOR_CERT, .group = GROUP_CERT },
    { "client", "NAME", NULL,
      "make a client certificate for this name instead, for servers that ask for one (--tls-ca)",
      .set = set_text, AT(gen_cert.client), .commands = FOR_CERT, .group = GROUP_CERT },

    { "token", "T", NULL,
      "the secret that both sides share (default: the file, then $CULVERT_TOKEN, then \""
      OPTIONS_DEFAULT_TOKEN "\", which a server accepts from loopback only); other users may see "
      "it in a process list before it is wiped, so prefer the next",
      .set = set_token, .commands = FOR_ROLES, .group = GROUP_SECRET },
    { "token-file", "FILE", NULL,
      "read the token from a file, without white space at the ends of its line; blank lines and "
      "those that begin with # are none; a server's file may have any number of tokens, one in "
      "each line",
      .set = set_token_file, .commands = FOR_ROLES, .group = GROUP_SECRET },
    { "tls", NULL, NULL,
      "encrypt the lanes; a server takes no plain ones then (without a flag: TLS, v2 and v1, by "
      "the first byte), a client encrypts on loopback, too (elsewhere it always does)",
      .set = set_tls, .commands = FOR_RUNS, .group = GROUP_SECRET },
    { "plain", NULL, NULL, "no TLS: whoever is on the path reads and changes what he likes",
      .set = set_plain, .commands = FOR_ROLES, .group = GROUP_SECRET },
    { "tls-cert", "FILE", NULL, "own certificate chain, PEM (client: if the server asks for one)",
      .set = set_text, AT(config.tls_cert), .commands = FOR_ROLES, .group = GROUP_SECRET },
    { "tls-key", "FILE", NULL, "its private key, PEM",
      .set = set_text, AT(config.tls_key), .commands = FOR_ROLES, .group = GROUP_SECRET },
    { "tls-ca", "FILE", NULL,
      "client: trust servers with a certificate of this CA; server: clients must show one of it",
      .set = set_text, AT(config.tls_ca), .commands = FOR_ROLES, .group = GROUP_SECRET },
    { "tls-pin", "sha256:HEX", NULL, "trust the server with this key, which it prints at start",
      .set = set_pin, AT(config.tls_pin), .commands = FOR_CLIENT, .group = GROUP_SECRET },
    { "tls-accept-new", NULL, NULL,
      "note the key of a server that is not known yet instead of asking; a changed key is refused "
      "all the same",
      .set = set_switch, AT(config.tls_accept_new), .commands = FOR_CLIENT, .group = GROUP_SECRET },
    { "state-dir", "DIR", NULL,
      "known_servers and a server's own certificate (default: /var/lib/culvert for root, "
      "~/.local/state/culvert for others)",
      .set = set_state_dir, AT(config.state_dir), .commands = FOR_ROLES, .group = GROUP_SECRET },
    { "record-engine", "auto|ktls|user", "auto",
      "who encrypts: the kernel, this program; auto: the kernel if it can",
      .set = set_choice, AT(config.record_engine), .commands = FOR_ROLES, .group = GROUP_SECRET },

    { "workers", "N|auto", "1", "worker threads; auto: one for each core this process may use",
      .set = set_number_or_auto, .min = 1, .max = WORKERS_MAX, AT(config.workers),
      .commands = FOR_RUNS, .group = GROUP_CORES },
    { "cpus", "LIST", NULL,
      "pin the workers to these cores in turn, like 0-3,6 (default: not pinned)",
      .set = set_cpus, .commands = FOR_ROLES, .group = GROUP_CORES },
    { "lanes", "N|auto", "auto",
      "connections to the server; auto: as many as both sides have workers",
      .set = set_number_or_auto, .min = 1, .max = SESSION_LANES_MAX, AT(config.lanes),
      .commands = FOR_CLIENT, .group = GROUP_CORES },
    { "wire", "auto|v1|v2", "auto", "protocol; auto: v2, and v1 if the server knows no other",
      .set = set_choice, AT(config.wire), .commands = FOR_CLIENT | FOR_DEMO, .group = GROUP_CORES },
    { "zero-copy", "auto|on|off", "auto",
      "send from our own buffers; auto: where the kernel gains by it",
      .set = set_choice, AT(config.zero_copy), .commands = FOR_ROLES, .group = GROUP_CORES },

    { "max-streams", "N", "131072", "streams per worker",
      .set = set_number, .min = 1, .max = SLOTS_MAX, AT(config.max_streams),
      .commands = FOR_ROLES, .group = GROUP_LIMITS },
    { "max-sessions", "N", "4096", "sessions",
      .set = set_number, .min = 1, .max = SLOTS_MAX, AT(config.max_sessions),
      .commands = FOR_SERVER, .group = GROUP_LIMITS },
    { "max-lanes", "N", "8192", "lanes per worker that have logged in",
      .set = set_number, .min = 1, .max = SLOTS_MAX, AT(config.max_lanes),
      .commands = FOR_SERVER, .group = GROUP_LIMITS },
    { "max-unauthenticated", "N", "512", "connections per worker that have not logged in",
      .set = set_number, .min = 1, .max = SLOTS_MAX, AT(config.max_unauthenticated),
      .commands = FOR_SERVER, .group = GROUP_LIMITS },
    { "bulk-buffers", "N", "512", "big buffers per worker, for streams that move bulk",
      .set = set_number, .min = 8, .max = 65536, AT(config.bulk_buffers),
      .commands = FOR_ROLES, .group = GROUP_LIMITS },
    { "window-initial", "SIZE", "64KiB", "window of a new stream, each direction",
      .set = set_size, .min = 4 * KIB, .max = 1024 * MIB, AT(config.window_initial),
      .commands = FOR_ROLES, .group = GROUP_LIMITS },
    { "window-max", "SIZE", "16MiB", "the largest window that a fast stream grows to",
      .set = set_size, .min = 4 * KIB, .max = 1024 * MIB, AT(config.window_max),
      .commands = FOR_ROLES, .group = GROUP_LIMITS },

    { "heartbeat", "D", "10s", "how often a lane sends PING",
      .set = set_duration, .min = 10 * MSEC, .max = HOUR, AT(config.heartbeat),
      .commands = FOR_ROLES, .group = GROUP_TIMES },
    { "expiry", "D", "30s", "a lane that heard nothing this long is dead",
      .set = set_duration, .min = 20 * MSEC, .max = 24 * HOUR, AT(config.expiry),
      .commands = FOR_ROLES, .group = GROUP_TIMES },
    { "handshake-timeout", "D", "10s", "from connection to AUTH_OK",
      .set = set_duration, .min = 10 * MSEC, .max = HOUR, AT(config.handshake_timeout),
      .commands = FOR_ROLES, .group = GROUP_TIMES },
    { "connect-timeout", "D", "10s", "to reach the server or an origin",
      .set = set_duration, .min = 10 * MSEC, .max = HOUR, AT(config.connect_timeout),
      .commands = FOR_ROLES, .group = GROUP_TIMES },
    { "drain-timeout", "D", "10s", "how long streams may finish after Ctrl+C or SIGTERM",
      .set = set_duration, .min = 0, .max = HOUR, AT(config.drain_timeout),
      .commands = FOR_ROLES, .group = GROUP_TIMES },
    { "grace", "D|auto", "auto",
      "how long streams wait when their connection is lost; auto: 60s with TLS, otherwise 0s",
      .set = set_duration_or_auto, .min = 0, .max = GRACE_MAX_S * NSEC_PER_SEC, AT(config.grace),
      .commands = FOR_ROLES,
      .group = GROUP_TIMES },
    { "stream-idle", "D|off", "off",
      "end a stream on which nothing has moved in either direction for this long",
      .set = set_duration_or_off, .min = NSEC_PER_SEC, .max = 24 * HOUR, AT(config.stream_idle),
      .commands = FOR_ROLES, .group = GROUP_TIMES },
    { "no-reconnect", NULL, NULL, "end when the session is lost",
      .set = set_switch_off, AT(config.reconnect), .commands = FOR_CLIENT, .group = GROUP_TIMES },
    { "reconnect-attempts", "N|forever", "10",
      "give up after this many attempts in a row; forever: never, as a service should",
      .set = set_attempts, .min = 1, .max = 1000000, AT(config.reconnect_attempts),
      .commands = FOR_CLIENT, .group = GROUP_TIMES },
    { "reconnect-first", "D", "1s", "wait before the first attempt; doubles with each",
      .set = set_duration, .min = MSEC, .max = HOUR, AT(config.reconnect_first),
      .commands = FOR_CLIENT, .group = GROUP_TIMES },
    { "reconnect-max", "D", "30s", "the longest wait between two attempts",
      .set = set_duration, .min = MSEC, .max = 24 * HOUR, AT(config.reconnect_max),
      .commands = FOR_CLIENT, .group = GROUP_TIMES },

    { "features", NULL, NULL, "also show what this kernel gives",
      .set = set_switch, AT(features), .commands = FOR_VERSION, .group = GROUP_REST },
    { "log-level", "error|warn|info|debug", "info", "least important lines to log, on stderr",
      .set = set_choice, AT(log_level), .commands = FOR_RUNS, .group = GROUP_REST },
    { "log-visitors", NULL, NULL,
      "log a line for each visitor's connection when it ends: from where, how many bytes, how "
      "long, why",
      .set = set_switch, AT(config.log_visitors), .commands = FOR_ROLES, .group = GROUP_REST },
    { "version", NULL, NULL, "show the version",
      .set = set_switch, AT(version), .commands = FOR_ALL, .group = GROUP_REST },
    { "help", NULL, NULL, "show this text",
      .set = set_switch, AT(help), .commands = FOR_ALL, .group = GROUP_REST },
};
/* clang-format on */

/* Parse */

static bool flag_is_for(const struct flag *flag, enum options_command command)
{
    return (flag->commands & (1u << command)) != 0;
}

/* The flag named by the `size` bytes at `name`: this command's, or else another's; NULL if there is
 * none. */
static const struct flag *flag_find(const char *name, size_t size, enum options_command command)
{
    const struct flag *other = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        if (strlen(flags[i].name) != size || memcmp(flags[i].name, name, size) != 0)
            continue;
        if (flag_is_for(&flags[i], command))
            return &flags[i];
        other = &flags[i];
    }
    return other;
}

/* A flag of this command that `word` begins, or that is a few letters away; NULL if none is. */
static const struct flag *flag_nearest(const char *word, enum options_command command)
{
    const struct flag *best = NULL;
    unsigned best_distance = ~0u;

    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        unsigned distance = value_distance(word, flags[i].name);

        if (!flag_is_for(&flags[i], command))
            continue;
        if (strlen(word) >= 3 && strncmp(word, flags[i].name, strlen(word)) == 0)
            distance = 1;
        if (distance < best_distance) {
            best = &flags[i];
            best_distance = distance;
        }
    }
    return value_is_near(best_distance, word) ? best : NULL;
}

/* For "--%s belongs to 'culvert %s'": the first command that takes the flag. */
static enum options_command flag_owner(const struct flag *flag)
{
    unsigned command = 0;

    while (!flag_is_for(flag, (enum options_command)command))
        command++;
    return (enum options_command)command;
}

/* How much of an unknown flag is its name: up to what no flag has in it, or to where a secret may
 * begin. */
static size_t name_size(const char *name, size_t size, bool one_dash)
{
    size_t letters_only = min_size(size, strspn(name, CONFIG_NAME_LETTERS));

    for (size_t i = 0; i < ARRAY_SIZE(secrets); i++) {
        size_t known = strlen(secrets[i].name);

        if (letters_only > known && memcmp(name, secrets[i].name, known) == 0 &&
            (one_dash || !secrets[i].one_dash))
            return known;
    }
    return letters_only;
}

/* What somebody who writes this is used to: by the whole name, or else by what may be quoted of it.
 * NULL: nothing that is known. */
static const char *find_habit(const char *whole, const char *quoted, bool near,
                              enum options_command command)
{
    const char *habit = options_habit_flag(whole, command);

    return habit != NULL || near ? habit : options_habit_flag(quoted, command);
}

/* The name of the flag `arg` is the `size` bytes at `name`, and no flag's of this command. What
 * stands behind it is never quoted: it may be a secret. */
static bool fail_unknown(struct parse *p, const char *arg, const char *name, size_t size)
{
    enum options_command command = p->options->command;
    const struct flag *other = flag_find(name, size, command), *near;
    size_t quoted = name_size(name, size, name == arg + 1);
    char whole[64], word[64], shown[80];

    snprintf(whole, sizeof(whole), "%.*s", (int)min_size(size, sizeof(whole) - 1), name);
    snprintf(word, sizeof(word), "%.*s", (int)min_size(quoted, sizeof(word) - 1), name);
    snprintf(shown, sizeof(shown), "%.*s%s%s", (int)(name - arg), arg, word,
             quoted < size ? "..." : "");
    near = flag_nearest(whole, command);
    const char *habit = find_habit(whole, word, near != NULL || other != NULL, command);
    if (habit != NULL)
        return fail(p, "%s is not a flag of 'culvert %s'; %s", shown, options_command_name(command),
                    habit);
    if (other != NULL)
        return fail(p, "--%s belongs to 'culvert %s', not to 'culvert %s'; leave it out",
                    other->name, options_command_name(flag_owner(other)),
                    options_command_name(command));
    if (near != NULL)
        return fail(p, "%s is not a flag of 'culvert %s'; did you mean --%s?", shown,
                    options_command_name(command), near->name);
    return fail(p, "%s is not a flag of 'culvert %s'; 'culvert help %s' lists them", shown,
                options_command_name(command), options_command_name(command));
}

static bool apply_switch(struct parse *p, const struct flag *flag, const char *value)
{
    char on[] = "true", off[] = "false";

    if (value == NULL || strcmp(value, on) == 0)
        return flag->set(p, flag, on);
    if (strcmp(value, off) == 0)
        return flag->set(p, flag, off);
    return fail(p, "--%s takes no value; write --%s alone", flag->name, flag->name);
}

/* Where the name starts after one or two dashes; NULL if `arg` is not a flag. */
static const char *flag_name(const char *arg)
{
    if (arg[0] != '-' || arg[1] == '\0')
        return NULL;
    return arg[1] == '-' ? arg + 2 : arg + 1;
}

/* A word that begins with a dash, taken apart. */
struct word {
    const struct flag *flag; /* this command's, or another's; NULL: nobody's */
    const char *name;        /* not ended by a zero */
    size_t size;
    char *value; /* in the same word, or NULL */
};

/* "-p", "-p=8080", "-p8080", "-p:8080"; false: no letter that means something here. */
static bool read_letter(char *arg, enum options_command command, struct word *word)
{
    unsigned i = 0;

    if (arg[1] == '-' || (arg[2] != '\0' && strchr("=:0123456789", arg[2]) == NULL))
        return false;
    while (i < ARRAY_SIZE(letters) &&
           (letters[i].letter != arg[1] || (letters[i].commands & (1u << command)) == 0))
        i++;
    if (i == ARRAY_SIZE(letters))
        return false;
    *word = (struct word){ .name = letters[i].name, .size = strlen(letters[i].name) };
    word->flag = flag_find(word->name, word->size, command);
    if (arg[2] != '\0')
        word->value = arg[2] == '=' ? arg + 3 : arg + 2;
    return true;
}

static struct word read_word(char *arg, enum options_command command)
{
    struct word word = { .name = flag_name(arg) };

    if (read_letter(arg, command, &word))
        return word;
    word.size = strcspn(word.name, "=");
    word.flag = flag_find(word.name, word.size, command);
    if (word.name[word.size] == '=')
        word.value = arg + (word.name - arg) + word.size + 1;
    return word;
}

/* True if `arg` is certainly the next flag rather than a value that begins with a dash: -p3abc is
 * no port. */
static bool is_known_flag(char *arg)
{
    if (flag_name(arg) == NULL)
        return false;
    struct word word = read_word(arg, OPTIONS_CLIENT);
    bool joined = word.value != NULL && word.value[-1] != '=';
    return word.flag != NULL &&
           (!joined || strspn(word.value, ":0123456789") == strlen(word.value));
}

/* No value of a list has a comma in it. */
static bool flag_set(struct parse *p, const struct flag *flag, char *value)
{
    int first = (int)strcspn(value, ",");

    if (!flag->list || value[first] == '\0')
        return flag->set(p, flag, value);
    return fail(p, "--%s: '%.60s' is a list; repeat the flag instead, like --%s %.*s --%s %.60s",
                flag->name, value, flag->name, first < 60 ? first : 60, value, flag->name,
                value + first + 1);
}

/* Handles argv[*at] and moves *at to the next argument. */
static bool parse_flag(struct parse *p, int argc, char **argv, int *at)
{
    char *arg = argv[(*at)++];
    struct word word = read_word(arg, p->options->command);
    const struct flag *flag = word.flag;

    if (flag == NULL || !flag_is_for(flag, p->options->command))
        return fail_unknown(p, arg, flag_name(arg), strcspn(flag_name(arg), "="));
    if (flag->value == NULL)
        return apply_switch(p, flag, word.value);
    if (word.value != NULL)
        return flag_set(p, flag, word.value);
    if (*at >= argc)
        return fail(p, "--%s needs a value; write --%s %s", flag->name, flag->name, flag->value);
    if (is_known_flag(argv[*at]))
        return fail(p, "--%s needs a value; write --%s %s, or --%s=%s if it begins as a flag does",
                    flag->name, flag->name, flag->value, flag->name, flag->value);
    return flag_set(p, flag, argv[(*at)++]);
}

/* PORT or HOST:PORT, or what was meant as one. */
static bool is_origin(const char *word)
{
    return strchr(word, ':') != NULL || strspn(word, "0123456789") == strlen(word);
}

/* A word that belongs to no flag: to a client an origin. */
static bool parse_positional(struct parse *p, char *arg)
{
    enum options_command command = p->options->command;

    if (command == OPTIONS_CLIENT && is_origin(arg))
        return flag_set(p, flag_find("local", 5, command), arg);
    if (command == OPTIONS_CLIENT)
        return fail(p,
                    "'%.60s' stands alone; to expose a local service write its PORT or HOST:PORT, "
                    "to name the server --server HOST:PORT",
                    arg);
    if (command == OPTIONS_SERVER && is_origin(arg))
        return fail(p, "'%.60s' stands alone; to have clients connect there write --addr %.60s",
                    arg, arg);
    return fail(p, "'%.60s' stands alone; 'culvert %s' takes only flags, which begin with --", arg,
                options_command_name(command));
}

static bool parse_args(struct parse *p, int argc, char **argv, int at)
{
    while (at < argc) {
        if (flag_name(argv[at]) != NULL) {
            if (!parse_flag(p, argc, argv, &at))
                return false;
        } else if (p->options->command == OPTIONS_HELP && p->options->topic == NULL) {
            p->options->topic = argv[at++];
        } else if (!parse_positional(p, argv[at++])) {
            return false;
        }
    }
    return true;
}

static bool fail_command(struct parse *p, const char *word)
{
    const char *near = options_command_nearest(word);
    const char *habit = options_habit_command(word);

    if (habit != NULL)
        return fail(p, "'%.60s' is not a command; %s", word, habit);
    if (near != NULL)
        return fail(p, "'%.60s' is not a command; did you mean 'culvert %s'?", word, near);
    return fail(p, "'%.60s' is not a command; 'culvert help' lists them", word);
}

static bool is_version(const char *word)
{
    return strcmp(word, "--version") == 0 || strcmp(word, "-version") == 0 ||
           strcmp(word, "-V") == 0 || strcmp(word, "-v") == 0;
}

static bool parse_command(struct parse *p, int argc, char **argv, int *at)
{
    const char *word = argc > 1 ? argv[1] : NULL;

    p->options->command = OPTIONS_CLIENT;
    *at = 1;
    if (word == NULL || (argc > 2 && word[0] == '-') || is_origin(word))
        return true;
    *at = 2;
    if (strcmp(word, "--help") == 0 || strcmp(word, "-help") == 0 || strcmp(word, "-h") == 0) {
        p->options->command = OPTIONS_HELP;
        return true;
    }
    if (is_version(word)) {
        p->options->command = OPTIONS_VERSION;
        return true;
    }
    if (word[0] == '-') {
        *at = 1;
        return true;
    }
    return options_command_find(word, &p->options->command) || fail_command(p, word);
}

static void apply_presets(struct parse *p)
{
    char value[64];

    p->options->config.reconnect = true;
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        if (flags[i].preset == NULL || flags[i].list)
            continue;
        snprintf(value, sizeof(value), "%s", flags[i].preset);
        CHECK(flags[i].set(p, &flags[i], value));
    }
}

/* Finish */

static unsigned cores_of_process(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 1;
    return (unsigned)min_size((size_t)CPU_COUNT(&set), WORKERS_MAX);
}

/* Where known_servers and a server's own certificate are. A service manager that has made a
 * directory for us (StateDirectory= of systemd) says so in STATE_DIRECTORY, a list with colons of
 * which the first one is meant; who has no home there has "/" for one. */
static bool finish_state_dir(struct config *config)
{
    const char *service = getenv("STATE_DIRECTORY");
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    size_t size = sizeof(config->state_dir);
    int n;

    if (config->state_dir[0] != '\0')
        return true;
    if (service != NULL && service[0] == '/')
        n = snprintf(config->state_dir, size, "%.*s", (int)strcspn(service, ":"), service);
    else if (geteuid() == 0)
        n = snprintf(config->state_dir, size, "/var/lib/culvert");
    else if (state != NULL && state[0] == '/')
        n = snprintf(config->state_dir, size, "%s/culvert", state);
    else if (home != NULL && home[0] == '/' && home[1] != '\0')
        n = snprintf(config->state_dir, size, "%s/.local/state/culvert", home);
    else
        return false;
    return n > 0 && (size_t)n < size;
}

/* Flags that say something of TLS, and would have no effect on plain lanes. */
static bool names_tls(const struct config *config)
{
    return config->tls_cert[0] != '\0' || config->tls_key[0] != '\0' || config->tls_ca[0] != '\0' ||
           config->tls_pin[0] != '\0' || config->tls_accept_new ||
           config->record_engine != CONFIG_ENGINE_AUTO;
}

/* What a server that listens on loopback alone keeps of itself is not worth a directory: its
 * clients need no certificate. */
static bool listens_on_loopback(const struct config *config)
{
    return config->role == CONFIG_SERVER && addr_host_is_loopback(config->listen.host);
}

static void find_state_dir(struct parse *p)
{
    struct config *config = &p->options->config;
    bool needed = getenv("STATE_DIRECTORY") != NULL || config->tls == CONFIG_ON ||
                  (config->tls == CONFIG_AUTO && !listens_on_loopback(config));

    if (!config->state_dir_named && (!needed || !finish_state_dir(config)))
        config->state_dir[0] = '\0';
}

static bool finish_tls(struct parse *p)
{
    struct config *config = &p->options->config;
    const char *keylog = getenv("SSLKEYLOGFILE");

    if (p->tls_given && p->plain_given)
        return fail(p, "--tls and --plain contradict each other; leave one of them out");
    if (p->plain_given && names_tls(config))
        return fail(p,
                    "--plain makes no use of the other TLS flags; leave it out, or leave them out");
    config->tls = p->plain_given ? CONFIG_OFF : CONFIG_AUTO;
    /* A server that wants certificates of its clients takes no lane that can have none. */
    if (p->tls_given || config->tls_ca[0] != '\0' ||
        (config->role == CONFIG_CLIENT && names_tls(config)))
        config->tls = CONFIG_ON;
    if ((config->tls_cert[0] == '\0') != (config->tls_key[0] == '\0'))
        return fail(p, "--tls-cert and --tls-key belong together; give both, or none");
    if (config->tls_ca[0] != '\0' && config->tls_pin[0] != '\0')
        return fail(p, "--tls-ca and --tls-pin are two ways to trust a server; give one of them");
    find_state_dir(p);
    if (keylog != NULL)
        snprintf(config->keylog, sizeof(config->keylog), "%s", keylog);
    return true;
}

static const char *token_source(const struct parse *p)
{
    if (p->token_given)
        return "--token";
    return p->token_file != NULL ? "--token-file" : "CULVERT_TOKEN";
}

/* What a file has at the ends of its lines is dropped; here somebody may have meant it. */
static void warn_of_blanks(struct parse *p)
{
    struct config_token token = { 0 };

    while (!p->options->config.token_is_default && config_next_token(&p->options->config, &token)) {
        if (!token_has_blank_ends(token.bytes, token.size))
            continue;
        snprintf(p->options->warning, sizeof(p->options->warning),
                 "%s: the token begins or ends with white space, which is taken for a part of it: "
                 "the other side must have the same, and a token file never has",
                 token_source(p));
        return;
    }
}

/* A client's token: strangers at a server far away may try what is weak. */
static bool finish_token(struct parse *p)
{
    const struct config *config = &p->options->config;
    const char *weakness = token_weakness(config->token, config->token_size);
    unsigned i = 0;

    while (i < config->server_count && addr_host_is_loopback(config->servers[i].host))
        i++;
    if (weakness == NULL || i == config->server_count)
        return true;
    if (config->token_is_default)
        return fail(p, "--token-file is missing: without it the token is \"" DEFAULT_TOKEN
                       "\", which a server takes from loopback only; name the file of the server's "
                       "token");
    return fail(p, "%s: the token is %s, which is good enough on loopback only; " TOKEN_CURE,
                token_source(p), weakness);
}

static bool finish_common(struct parse *p)
{
    struct config *config = &p->options->config;

    if (config->workers == 0)
        config->workers = config->cpu_count != 0 ? config->cpu_count : cores_of_process();
    /* Without TLS somebody on the path can take over a lane that comes back, behind its JOIN_OK:
     * the operator has to ask for that. */
    config->grace_plain = config->grace != UINT64_MAX;
    if (config->grace == UINT64_MAX)
        config->grace = config->reconnect ? GRACE_TLS : 0;
    if (config->heartbeat >= config->expiry)
        return fail(p, "--expiry must be longer than --heartbeat, or live lanes would be given up; "
                       "about three times as long is usual");
    if (config->window_initial > config->window_max)
        return fail(p, "--window-initial must not be above --window-max; raise the second");
    if (!finish_tls(p) ||
        (!p->token_given && !options_token_find(p->token_file, p->options, p->error)))
        return false;
    warn_of_blanks(p);
    if (config->role == CONFIG_CLIENT && !config_keep_one_token(config))
        return fail(p,
                    "%s: the token has several lines; only a server has several tokens, leave "
                    "one line",
                    token_source(p));
    return config->role != CONFIG_CLIENT || finish_token(p);
}

static bool finish_client(struct parse *p)
{
    struct config *config = &p->options->config;
    char preset[] = DEFAULT_SERVER;

    config->role = CONFIG_CLIENT;
    if (config->tunnel_count == 0)
        return fail(p, "--local is missing: name the service to expose, like --local "
                       "localhost:3000 or just 3000; 'culvert help' shows the commands");
    if (p->port_count > config->tunnel_count)
        return fail(p, "--port is given more often than --local; each belongs to one tunnel");
    if (p->name_count > config->tunnel_count)
        return fail(p, "--name is given more often than --local; each belongs to one tunnel");
    if (config->wire == CONFIG_WIRE_V1 && config->tunnel_count > 1)
        return fail(p, "--wire v1 carries one tunnel in a session; leave one --local, or use v2");
    if (config->wire == CONFIG_WIRE_V1 && config->lanes > 1)
        return fail(p, "--wire v1 has one lane; leave --lanes out, or use v2");
    if (config->reconnect_first > config->reconnect_max)
        return fail(p, "--reconnect-first must not be above --reconnect-max; raise the second");
    p->options->server_is_default = config->server_count == 0;
    if (config->server_count == 0 && !set_server(p, flag_find("server", 6, OPTIONS_CLIENT), preset))
        return false;
    return finish_common(p);
}

/* Ports that have names are for who lists them. */
static bool finish_server(struct parse *p)
{
    struct config *config = &p->options->config;
    bool listed = port_set_first(&config->ports) != 0;
    char text[PORT_SET_TEXT_MAX];

    config->role = CONFIG_SERVER;
    if (!listed)
        port_set_add(&config->ports, PORT_SET_LOW, UINT16_MAX);
    if (config->start_port == 0)
        config->start_port = listed ? port_set_first(&config->ports) : DEFAULT_START_PORT;
    if (!port_set_has(&config->ports, config->start_port))
        return fail(p,
                    "--start-port: %u is not one of the ports that clients may get, %s; write one "
                    "of these, or list it with --ports",
                    config->start_port, port_set_format(&config->ports, text));
    return finish_common(p);
}

static bool finish(struct parse *p)
{
    struct options *options = p->options;

    if (options->help || options->version)
        return true;
    switch (options->command) {
    case OPTIONS_SERVER:
        return finish_server(p);
    case OPTIONS_CLIENT:
        return finish_client(p);
    case OPTIONS_DEMO:
        options->config.tls = p->tls_given ? CONFIG_ON : CONFIG_AUTO;
        if (options->config.workers == 0)
            options->config.workers = cores_of_process();
        return true;
    case OPTIONS_GEN_CERT:
        if (options->gen_cert.client[0] != '\0' && options->gen_cert.name_count > 0)
            return fail(p, "--client makes a client's certificate, --name a server's; call twice");
        return finish_state_dir(&options->config) ||
               fail(p, "--dir is missing: there is no home directory to put the files in");
    default:
        return true;
    }
}

bool options_parse(int argc, char **argv, struct options *options, struct options_error *error)
{
    struct parse p = { .options = options, .error = error };
    int at;

    memset(options, 0, sizeof(*options));
    memset(error, 0, sizeof(*error));
    apply_presets(&p);
    bool ok = parse_command(&p, argc, argv, &at) && parse_args(&p, argc, argv, at) && finish(&p);
    if (ok)
        return true;
    config_drop_token(&options->config);
    log_clean(error->text, strlen(error->text)); /* it may quote any word of the command line */
    return false;
}

/* "0-3,6", for a sentence; cut if it does not fit. */
static void format_cores(const cpu_set_t *set, char *text, size_t size)
{
    size_t used = 0;

    text[0] = '\0';
    for (int first = 0, last; first < CPU_SETSIZE && used < size; first = last + 1) {
        last = first;
        if (!CPU_ISSET(first, set))
            continue;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, set))
            last++;
        used += (size_t)snprintf(text + used, size - used, "%s%d", used > 0 ? "," : "", first);
        if (last > first && used < size)
            used += (size_t)snprintf(text + used, size - used, "-%d", last);
    }
}

bool options_check_machine(const struct config *config, struct options_error *error)
{
    char cores[128];
    cpu_set_t set;

    if (config->cpu_count == 0 || sched_getaffinity(0, sizeof(set), &set) != 0)
        return true;
    for (unsigned i = 0; i < config->cpu_count; i++) {
        if (CPU_ISSET(config->cpus[i], &set))
            continue;
        format_cores(&set, cores, sizeof(cores));
        error->code = EXIT_CODE_CANNOT_START;
        snprintf(error->text, sizeof(error->text),
                 "--cpus: this process may not run on core %d; it may use %s", config->cpus[i],
                 cores);
        return false;
    }
    return true;
}

/* Help */

#define HELP_COLUMN 26
#define HELP_WIDTH  79

/* Words of `text` from `column` on, continued at HELP_COLUMN. */
static void print_wrapped(FILE *out, const char *text, size_t column)
{
    while (*text != '\0') {
        size_t size = strcspn(text, " ");

        if (column + 1 + size > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        fprintf(out, " %.*s", (int)size, text);
        column += 1 + size;
        text += size;
        text += strspn(text, " ");
    }
}

/* The letter that stands for the flag; 0: none. */
static char flag_letter(const struct flag *flag, enum options_command command)
{
    for (unsigned i = 0; i < ARRAY_SIZE(letters); i++)
        if ((letters[i].commands & (1u << command)) != 0 &&
            strcmp(letters[i].name, flag->name) == 0)
            return letters[i].letter;
    return '\0';
}

static void print_flag(FILE *out, const struct flag *flag, enum options_command command)
{
    const char letter[] = { '-', flag_letter(flag, command), ',', ' ', '\0' };
    char head[64], text[512];
    size_t column;

    snprintf(head, sizeof(head), "  %s--%s%s%s", letter[1] != '\0' ? letter : "", flag->name,
             flag->value != NULL ? " " : "", flag->value != NULL ? flag->value : "");
    column = strlen(head);
    if (column > HELP_COLUMN) {
        fprintf(out, "%s\n%*s", head, HELP_COLUMN, "");
    } else {
        fprintf(out, "%-*s", HELP_COLUMN, head);
    }
    if (flag->preset != NULL)
        snprintf(text, sizeof(text), "%s (default %s)", flag->help, flag->preset);
    else
        snprintf(text, sizeof(text), "%s", flag->help);
    print_wrapped(out, text, HELP_COLUMN);
    fputc('\n', out);
}

static void print_group(FILE *out, enum options_command command, unsigned group)
{
    bool titled = false;

    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        if (flags[i].group != group || !flag_is_for(&flags[i], command))
            continue;
        if (!titled)
            fprintf(out, "\n%s\n", group_titles[group]);
        titled = true;
        print_flag(out, &flags[i], command);
    }
}

void options_print_flags(FILE *out, enum options_command command)
{
    for (unsigned group = 0; group < ARRAY_SIZE(group_titles); group++)
        print_group(out, command, group);
}

static void print_commands(FILE *out, uint8_t commands)
{
    const char *between = "";

    for (unsigned i = 0; i < OPTIONS_COMMAND_COUNT; i++) {
        if ((commands & (1u << i)) == 0)
            continue;
        fprintf(out, "%s%s", between, options_command_name((enum options_command)i));
        between = ",";
    }
}

static void print_row(FILE *out, const struct flag *flag)
{
    fprintf(out, "flag\t%s\t", group_titles[flag->group]);
    print_commands(out, flag->commands);
    fprintf(out, "\t%s\t%s\t%s\t%s\n", flag->name, flag->value != NULL ? flag->value : "",
            flag->preset != NULL ? flag->preset : "", flag->help);
}

void options_print_table(FILE *out)
{
    for (unsigned group = 0; group < ARRAY_SIZE(group_titles); group++)
        for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
            if (flags[i].group == group)
                print_row(out, &flags[i]);
    for (size_t i = 0; i < ARRAY_SIZE(letters); i++) {
        fprintf(out, "letter\t%c\t", letters[i].letter);
        print_commands(out, letters[i].commands);
        fprintf(out, "\t%s\n", letters[i].name);
    }
}
