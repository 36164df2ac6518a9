/* options_endpoint: see options_endpoint.h. */
#include "config/options_endpoint.h"

#include <stdio.h>
#include <string.h>

#include "core/base/value.h"
#include "core/io/addr.h"

static bool endpoint_read(struct options_draft *d, const struct options_flag *flag,
                          const char *value, enum addr_use use, struct config_endpoint *out)
{
    char error[ADDR_ERROR_MAX];

    if (!addr_parse_endpoint(value, use, out, error))
        return options_error_usage(d->error, "--%s: %s", flag->name, error);
    return true;
}

/* A numeric address of this machine; "localhost" is one by definition, every other name is a
 * look-up whose answer may be somebody else's address. False: a name. */
static bool endpoint_to_own(char *host, size_t size)
{
    if (!addr_is_numeric(host) && addr_host_is_loopback(host))
        snprintf(host, size, "127.0.0.1");
    return addr_is_numeric(host);
}

/* A server's */

bool options_endpoint_listen(struct options_draft *d, const struct options_flag *flag, char *value)
{
    struct config_endpoint *listen = &d->options->config.listen;

    if (strchr(value, ',') != NULL)
        return options_error_usage(
            d->error,
            "--%s: '%.60s': a server listens on one address; write one, or :PORT for all of this "
            "machine",
            flag->name, value);
    if (!endpoint_read(d, flag, value, ADDR_LISTEN, listen))
        return false;
    if (listen->host[0] == '\0' || endpoint_to_own(listen->host, sizeof(listen->host)))
        return true;
    return options_error_usage(
        d->error,
        "--%s: '%.60s' is a name; write a numeric address of this machine, like 127.0.0.1:%u, or "
        ":%u for all of them",
        flag->name, listen->host, listen->port, listen->port);
}

bool options_endpoint_ports(struct options_draft *d, const struct options_flag *flag, char *value)
{
    char error[PORT_SET_ERROR_MAX];

    if (!port_set_parse(value, &d->options->config.ports, error))
        return options_error_usage(d->error, "--%s: %s", flag->name, error);
    return true;
}

static bool endpoint_fail_public(struct options_draft *d, const struct options_flag *flag,
                                 const char *value)
{
    return options_error_usage(
        d->error,
        "--%s: '%.60s' is not an IP address; write one of this machine, like 127.0.0.1 or ::1, or "
        "leave the flag out to bind all addresses",
        flag->name, value);
}

/* A numeric address, an IPv6 one with or without brackets. */
bool options_endpoint_public_addr(struct options_draft *d, const struct options_flag *flag,
                                  char *value)
{
    size_t size = strlen(value);
    char host[sizeof(d->options->config.public_addr)];

    if (value[0] == '[' && size >= 2 && value[size - 1] == ']') {
        value++;
        size -= 2;
    }
    if (size >= sizeof(host))
        return endpoint_fail_public(d, flag, value);
    memcpy(host, value, size);
    host[size] = '\0';
    if (addr_lacks_zone(host))
        return options_error_usage(d->error,
                                   "--%s: a link-local address needs its interface, like %s%%eth0",
                                   flag->name, host);
    if (!endpoint_to_own(host, sizeof(host)))
        return endpoint_fail_public(d, flag, value);
    memcpy(d->options->config.public_addr, host, strlen(host) + 1);
    return true;
}

/* A client's */

bool options_endpoint_server(struct options_draft *d, const struct options_flag *flag, char *value)
{
    struct config *config = &d->options->config;

    if (config->server_count == CONFIG_SERVERS_MAX)
        return options_error_usage(d->error,
                                   "--%s: at most %d servers can be tried; leave some out",
                                   flag->name, CONFIG_SERVERS_MAX);
    return endpoint_read(d, flag, value, ADDR_SERVER, &config->servers[config->server_count++]);
}

bool options_endpoint_local(struct options_draft *d, const struct options_flag *flag, char *value)
{
    struct config *config = &d->options->config;

    if (config->tunnel_count == CONFIG_TUNNELS_MAX)
        return options_error_usage(
            d->error, "--%s: a session has at most %d tunnels; start a second client for more",
            flag->name, CONFIG_TUNNELS_MAX);
    return endpoint_read(d, flag, value, ADDR_ORIGIN,
                         &config->tunnels[config->tunnel_count++].origin);
}

static bool endpoint_fail_often(struct options_draft *d, const struct options_flag *flag)
{
    return options_error_usage(d->error, "--%s: given more than %d times", flag->name,
                               CONFIG_TUNNELS_MAX);
}

bool options_endpoint_port(struct options_draft *d, const struct options_flag *flag, char *value)
{
    uint64_t port;

    if (strchr(value, ':') != NULL)
        return options_error_usage(
            d->error,
            "--%s: '%.60s' has two ports; write the public one here and the local one with "
            "--local, like --local 3000 --port 10080",
            flag->name, value);
    if (!value_parse_number(value, &port) || port > 65535)
        return options_error_usage(
            d->error, "--%s: '%.60s' is not a port; write a number from 1 to 65535, or 0 for any",
            flag->name, value);
    if (d->port_count == CONFIG_TUNNELS_MAX)
        return endpoint_fail_often(d, flag);
    d->options->config.tunnels[d->port_count++].port = (uint16_t)port;
    return true;
}

bool options_endpoint_tunnel_name(struct options_draft *d, const struct options_flag *flag,
                                  char *value)
{
    struct config_tunnel *tunnels = d->options->config.tunnels;
    size_t size = strlen(value);

    if (d->name_count == CONFIG_TUNNELS_MAX)
        return endpoint_fail_often(d, flag);
    if (size == 0 || size >= sizeof(tunnels->name) || strspn(value, CONFIG_NAME_LETTERS) != size)
        return options_error_usage(
            d->error, "--%s: '%.60s' is not a name; use up to %zu letters, digits, '-', '_', '.'",
            flag->name, value, sizeof(tunnels->name) - 1);
    memcpy(tunnels[d->name_count++].name, value, size + 1);
    return true;
}

/* A certificate's */

/* The letters that tls_gen_cert takes, too. */
static bool endpoint_is_cert_name(const char *name)
{
    if (strchr(name, ':') != NULL)
        return addr_is_numeric(name) && strchr(name, '%') == NULL;
    return name[0] != '\0' && strspn(name, CONFIG_NAME_LETTERS "*") == strlen(name);
}

bool options_endpoint_cert_name(struct options_draft *d, const struct options_flag *flag,
                                char *value)
{
    struct options_gen_cert *what = &d->options->gen_cert;
    size_t size = strlen(value);

    if (what->name_count == OPTIONS_CERT_NAMES_MAX)
        return options_error_usage(
            d->error, "--%s: given more than %d times; one certificate for *.example.com may do",
            flag->name, OPTIONS_CERT_NAMES_MAX);
    if (size >= sizeof(what->names[0]) || !endpoint_is_cert_name(value))
        return options_error_usage(
            d->error,
            "--%s: '%.60s' is not a name; write the host name or address of the server, without "
            "port or zone, like example.com or 192.0.2.1",
            flag->name, value);
    memcpy(what->names[what->name_count++], value, size + 1);
    return true;
}
