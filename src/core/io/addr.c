/* addr: see addr.h. */
#include "core/io/addr.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/base.h"
#include "core/base/check.h"

CHECK_STATIC(sizeof(struct sockaddr_in6) <= sizeof(union sock_addr), "IPv6 fits");
CHECK_STATIC(ADDR_TEXT_MAX >= INET6_ADDRSTRLEN + IF_NAMESIZE + sizeof("[]:65535"),
             "address, '%' and zone, brackets, colon, port");
CHECK_STATIC(ADDR_ENDPOINT_TEXT_MAX >= sizeof(((struct config_endpoint *)0)->host) + 9,
             "host, brackets, colon, port");

/* Both families as one IPv4 or IPv6 view; a mapped IPv4 address counts as IPv4. */
struct view {
    int family; /* AF_INET, AF_INET6, AF_UNSPEC */
    uint16_t port;
    uint32_t zone;
    uint8_t ip[16];
};

static struct view addr_view_of(const struct sockaddr *addr)
{
    struct view view = { .family = AF_UNSPEC };

    if (addr->sa_family == AF_INET) {
        struct sockaddr_in in;

        memcpy(&in, addr, sizeof(in));
        view.family = AF_INET;
        view.port = ntohs(in.sin_port);
        memcpy(view.ip, &in.sin_addr, 4);
    } else if (addr->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;

        memcpy(&in6, addr, sizeof(in6));
        view.port = ntohs(in6.sin6_port);
        if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr)) {
            view.family = AF_INET;
            memcpy(view.ip, in6.sin6_addr.s6_addr + 12, 4);
        } else {
            view.family = AF_INET6;
            view.zone = in6.sin6_scope_id;
            memcpy(view.ip, &in6.sin6_addr, 16);
        }
    }
    return view;
}

int addr_prefix(const union sock_addr *addr, uint64_t *prefix)
{
    struct view view = addr_view_of(&addr->sa);
    unsigned size = view.family == AF_INET ? 4 : 8;

    *prefix = 0;
    for (unsigned i = 0; i < size; i++)
        *prefix = *prefix << 8 | view.ip[i];
    return view.family;
}

static void addr_view_format_host(const struct view *view, char *text, size_t size)
{
    char ip[INET6_ADDRSTRLEN], zone[IF_NAMESIZE];

    if (view->family == AF_UNSPEC) {
        snprintf(text, size, "unknown");
        return;
    }
    CHECK(inet_ntop(view->family, view->ip, ip, sizeof(ip)) != NULL);
    if (view->zone == 0)
        snprintf(text, size, "%s", ip);
    else if (if_indextoname(view->zone, zone) != NULL)
        snprintf(text, size, "%s%%%s", ip, zone);
    else
        snprintf(text, size, "%s%%%u", ip, view->zone);
}

const char *addr_format_host(const struct sockaddr *addr, char *text, size_t size)
{
    struct view view = addr_view_of(addr);

    addr_view_format_host(&view, text, size);
    return text;
}

const char *addr_format(const struct sockaddr *addr, char *text, size_t size)
{
    struct view view = addr_view_of(addr);
    char host[ADDR_TEXT_MAX];

    addr_view_format_host(&view, host, sizeof(host));
    if (view.family == AF_INET6)
        snprintf(text, size, "[%s]:%u", host, view.port);
    else if (view.family == AF_INET)
        snprintf(text, size, "%s:%u", host, view.port);
    else
        snprintf(text, size, "%s", host);
    return text;
}

const char *addr_format_endpoint(const struct config_endpoint *endpoint, char *text, size_t size)
{
    if (strchr(endpoint->host, ':') != NULL)
        snprintf(text, size, "[%s]:%u", endpoint->host, endpoint->port);
    else
        snprintf(text, size, "%s:%u", endpoint->host, endpoint->port);
    return text;
}

__attribute__((format(printf, 2, 3))) static bool addr_fail(char *error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(error, ADDR_ERROR_MAX, format, args);
    va_end(args);
    return false;
}

/* How much of a wrong text an error quotes: enough to find it, not enough to fill the sentence. */
#define QUOTE "'%.60s'"

static bool addr_is_digits(const char *text)
{
    return text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
}

static bool addr_parse_port(const char *text, enum addr_use use, uint16_t *port, char *error)
{
    unsigned long value = 65536;

    if (addr_is_digits(text) && strlen(text) <= 5)
        value = strtoul(text, NULL, 10);
    if (value > 65535 || (value == 0 && use != ADDR_LISTEN))
        return addr_fail(error, QUOTE " is not a port; write a number from 1 to 65535", text);
    *port = (uint16_t)value;
    return true;
}

/* Letters, digits, '-', '_', '.' and the UTF-8 bytes of a name that is not ASCII. */
static bool addr_is_name(const char *host)
{
    for (; *host != '\0'; host++) {
        unsigned char c = (unsigned char)*host;

        if (!isalnum(c) && c != '-' && c != '_' && c != '.' && c < 0x80)
            return false;
    }
    return true;
}

static bool addr_set_host(const char *text, const char *host, size_t size,
                          struct config_endpoint *out, char *error)
{
    if (size >= sizeof(out->host))
        return addr_fail(error, QUOTE "... is too long for a host name; it may have 255 characters",
                         text);
    memcpy(out->host, host, size);
    out->host[size] = '\0';
    return true;
}

/* Of an interface: what dev_valid_name() of the kernel allows, and no '%', which would be a second
 * zone. */
static bool addr_is_zone(const char *zone)
{
    size_t size = strlen(zone);

    for (size_t i = 0; i < size; i++)
        if (strchr("/:%]", zone[i]) != NULL || (unsigned char)zone[i] <= ' ')
            return false;
    return size > 0 && size < IF_NAMESIZE;
}

/* By its form alone: an interface that a zone names may come and go. *zone: what stands behind '%',
 * NULL without one. */
static bool addr_parse_ipv6(const char *host, struct in6_addr *ip, const char **zone)
{
    char text[INET6_ADDRSTRLEN];
    size_t size = strcspn(host, "%");

    if (size >= sizeof(text))
        return false;
    memcpy(text, host, size);
    text[size] = '\0';
    *zone = host[size] == '%' ? host + size + 1 : NULL;
    return inet_pton(AF_INET6, text, ip) == 1 && (*zone == NULL || addr_is_zone(*zone));
}

/* "%eth0" or "%2" after a link-local address (RFC 4007, 11.2). 0: no such zone. */
static uint32_t addr_zone_index(const char *zone)
{
    if (addr_is_digits(zone) && strlen(zone) <= 9)
        return (uint32_t)strtoul(zone, NULL, 10);
    return if_nametoindex(zone);
}

bool addr_is_numeric(const char *host)
{
    struct in_addr in;
    struct in6_addr in6;
    const char *zone;

    return inet_pton(AF_INET, host, &in) == 1 || addr_parse_ipv6(host, &in6, &zone);
}

const char *addr_missing_zone(const char *host)
{
    struct in6_addr ip;
    const char *zone;

    if (!addr_parse_ipv6(host, &ip, &zone) || zone == NULL || addr_zone_index(zone) != 0)
        return NULL;
    return zone;
}

bool addr_lacks_zone(const char *host)
{
    struct in6_addr ip;
    const char *zone;

    return addr_parse_ipv6(host, &ip, &zone) && zone == NULL && IN6_IS_ADDR_LINKLOCAL(&ip);
}

const char *addr_drop_zone(const char *host, char *text, size_t size)
{
    struct in6_addr ip;
    const char *zone;
    bool has = addr_parse_ipv6(host, &ip, &zone) && zone != NULL;

    snprintf(text, size, "%.*s", (int)(has ? strcspn(host, "%") : strlen(host)), host);
    return text;
}

/* Without a port: a server has a default one. */
static bool addr_default_port(const char *text, enum addr_use use, uint16_t *port, char *error)
{
    if (use != ADDR_SERVER)
        return addr_fail(error, QUOTE " has no port; write it like %.60s:%s", text, text,
                         use == ADDR_ORIGIN ? "3000" : "9000");
    *port = CONFIG_PORT;
    return true;
}

/* "[v6]:PORT" */
static bool addr_parse_bracketed(const char *text, enum addr_use use, struct config_endpoint *out,
                                 char *error)
{
    const char *close = strchr(text, ']');
    struct in6_addr ip;
    const char *zone;

    if (close == NULL || (close[1] != ':' && close[1] != '\0'))
        return addr_fail(error, QUOTE " has no matching bracket; write it like [::1]:9000", text);
    if (!addr_set_host(text, text + 1, (size_t)(close - text - 1), out, error))
        return false;
    if (!addr_parse_ipv6(out->host, &ip, &zone))
        return addr_fail(error, QUOTE " is not an IPv6 address; only those stand in brackets",
                         out->host);
    if (addr_lacks_zone(out->host))
        return addr_fail(error,
                         QUOTE ": a link-local address needs its interface, like [%s%%eth0]:%s",
                         text, out->host, use == ADDR_ORIGIN ? "3000" : "9000");
    return close[1] == '\0' ? addr_default_port(text, use, &out->port, error)
                            : addr_parse_port(close + 2, use, &out->port, error);
}

/* "PORT" and ":PORT" */
static bool addr_parse_port_only(const char *text, enum addr_use use, struct config_endpoint *out,
                                 char *error)
{
    const char *port = text[0] == ':' ? text + 1 : text;

    if (use == ADDR_SERVER)
        return addr_fail(error, QUOTE " has no host; write it like example.com:%.10s", text,
                         addr_is_digits(port) ? port : "9000");
    snprintf(out->host, sizeof(out->host), "%s", use == ADDR_ORIGIN ? "127.0.0.1" : "");
    return addr_parse_port(port, use, &out->port, error);
}

/* Letters, and no label of none; what looks like an IPv4 address is one. 127.1 is an old form. */
static bool addr_check_host(const char *host, const char *text, char *error)
{
    struct in_addr old;

    if (strspn(host, "0123456789.") == strlen(host) && inet_aton(host, &old) == 0)
        return addr_fail(error, QUOTE " is not an IPv4 address; write it like 192.0.2.1:9000",
                         host);
    if (!addr_is_name(host))
        return addr_fail(error, QUOTE " has characters that no host name has; write it like %s",
                         text, "example.com:9000");
    if (host[0] == '.' || host[0] == '-' || strstr(host, "..") != NULL)
        return addr_fail(error, QUOTE " is not a host name; write it like example.com:9000", host);
    return true;
}

/* "HOST:PORT" and "HOST" */
static bool addr_parse_named(const char *text, enum addr_use use, struct config_endpoint *out,
                             char *error)
{
    size_t size = strcspn(text, ":");

    if (!addr_set_host(text, text, size, out, error) || !addr_check_host(out->host, text, error))
        return false;
    return text[size] == '\0' ? addr_default_port(text, use, &out->port, error)
                              : addr_parse_port(text + size + 1, use, &out->port, error);
}

/* "https://HOST/PATH": what to write instead is in it. */
static bool addr_fail_url(const char *text, enum addr_use use, char *error)
{
    const char *host = strstr(text, "://") + 3;
    int size = (int)strcspn(host, "/?#");
    const char *colon = memchr(host, ':', (size_t)size);
    const char *port = strncmp(text, "https", 5) == 0 ? ":443" : ":80";

    if (size == 0 || size > 60)
        return addr_fail(error, QUOTE " is a URL; write host and port only, like localhost:3000",
                         text);
    return addr_fail(error, QUOTE " is a URL; write host and port only, like %.*s%s", text, size,
                     host,
                     colon != NULL || host[0] == '[' ? "" : (use == ADDR_ORIGIN ? port : ":9000"));
}

/* "3000:10080", "127.0.0.1:3000:10080", and "10080:localhost:3000" as ssh has it: which of two
 * ports is which, only flags say. */
static bool addr_fail_ports(const char *text, enum addr_use use, char *error)
{
    const char *first = strchr(text, ':'), *last = strrchr(text, ':');
    bool ssh = first != last && strspn(text, "0123456789") == (size_t)(first - text);
    const char *local = ssh ? first + 1 : text, *port = ssh ? text : last + 1;
    size_t local_size = ssh ? strlen(local) : (size_t)(last - text);

    if (use != ADDR_ORIGIN)
        return addr_fail(error, QUOTE " has two ports; write a host and one port, like %s", text,
                         use == ADDR_SERVER ? "example.com:9000" : ":9000");
    return addr_fail(
        error,
        QUOTE " has two ports; write the local one here and the public one with --port, "
              "like --local %.*s --port %.*s",
        text, (int)min_size(local_size, 60), local, (int)min_size(strcspn(port, ":"), 10), port);
}

/* So many colons stand alone, with something before and behind each. */
static unsigned addr_lone_colons(const char *text)
{
    unsigned count = 0;

    for (const char *at = text; (at = strchr(at, ':')) != NULL; at++, count++)
        if (at == text || at[1] == ':' || at[1] == '\0')
            return 0;
    return count;
}

/* PORT:PORT, PORT:HOST:PORT, HOST:PORT:PORT. An IPv6 address has more colons, or two in a row. */
static bool addr_has_two_ports(const char *text)
{
    unsigned colons = addr_lone_colons(text);
    size_t first = strcspn(text, ":");

    if (colons == 1)
        return strspn(text, "0123456789") == first && addr_is_digits(text + first + 1);
    return colons == 2 && addr_is_digits(strrchr(text, ':') + 1);
}

bool addr_parse_endpoint(const char *text, enum addr_use use, struct config_endpoint *out,
                         char error[ADDR_ERROR_MAX])
{
    const char *colon = strchr(text, ':');
    struct config_endpoint endpoint = { .port = 0 };
    bool ok;

    if (text[0] == '\0')
        return addr_fail(error, "it is empty; write it like %s",
                         use == ADDR_ORIGIN ? "localhost:3000" : "example.com:9000");
    if (strstr(text, "://") != NULL)
        return addr_fail_url(text, use, error);
    if (text[0] != '[' && addr_has_two_ports(text))
        return addr_fail_ports(text, use, error);
    if (text[0] == '[')
        ok = addr_parse_bracketed(text, use, &endpoint, error);
    else if (colon != NULL && strchr(colon + 1, ':') != NULL)
        ok = addr_fail(
            error, QUOTE " is ambiguous; write an IPv6 address in brackets, like [::1]:9000", text);
    else if (colon == text || addr_is_digits(text))
        ok = addr_parse_port_only(text, use, &endpoint, error);
    else
        ok = addr_parse_named(text, use, &endpoint, error);
    if (ok)
        *out = endpoint;
    return ok;
}

bool addr_from_host(const char *host, uint16_t port, union sock_addr *out)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    const char *zone;

    if (inet_pton(AF_INET, host, &in.sin_addr) == 1) {
        memset(out, 0, sizeof(*out));
        memcpy(out, &in, sizeof(in));
        return true;
    }
    if (!addr_parse_ipv6(host, &in6.sin6_addr, &zone))
        return false;
    if (zone != NULL && (in6.sin6_scope_id = addr_zone_index(zone)) == 0)
        return false;
    memset(out, 0, sizeof(*out));
    memcpy(out, &in6, sizeof(in6));
    return true;
}

static bool addr_is_localhost(const char *host)
{
    size_t size = strlen(host), tail = strlen(".localhost");

    if (size > 0 && host[size - 1] == '.')
        size--;
    if (size == tail - 1)
        return strncasecmp(host, "localhost", size) == 0;
    return size > tail && strncasecmp(host + size - tail, ".localhost", tail) == 0;
}

bool addr_host_is_loopback(const char *host)
{
    union sock_addr addr;

    if (addr_from_host(host, 0, &addr))
        return sock_addr_is_loopback(&addr);
    return addr_is_localhost(host);
}

bool addr_equal(const union sock_addr *a, const union sock_addr *b)
{
    struct view va = addr_view_of(&a->sa), vb = addr_view_of(&b->sa);

    return a->sa.sa_family == b->sa.sa_family && va.port == vb.port && va.zone == vb.zone &&
           memcmp(va.ip, vb.ip, sizeof(va.ip)) == 0;
}

void addr_to_frame(const struct sockaddr *addr, struct frame_addr *out)
{
    struct view view = addr_view_of(addr);

    memset(out, 0, sizeof(*out));
    if (view.family == AF_UNSPEC)
        return;
    out->family = view.family == AF_INET ? 4 : 6;
    out->port = view.port;
    memcpy(out->ip, view.ip, view.family == AF_INET ? 4 : 16);
}

bool addr_from_frame(const struct frame_addr *addr, union sock_addr *out)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(addr->port) };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(addr->port) };

    if (addr->family != 4 && addr->family != 6)
        return false;
    memset(out, 0, sizeof(*out));
    if (addr->family == 4) {
        memcpy(&in.sin_addr, addr->ip, 4);
        memcpy(out, &in, sizeof(in));
    } else {
        memcpy(&in6.sin6_addr, addr->ip, 16);
        memcpy(out, &in6, sizeof(in6));
    }
    return true;
}
