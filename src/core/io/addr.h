/*
 * addr: socket addresses and HOST:PORT as text, both ways.
 *
 * Nothing here asks the resolver or the kernel (except for index and name of an IPv6 zone,
 * "%eth0"); names are core/resolve's. Texts go to the caller's buffer. IPv4 addresses that a dual-
 * stack listener shows as ::ffff:a.b.c.d are written as a.b.c.d, and zones by name, because that is
 * what the operator knows them by.
 *
 * Whether a host is numeric is a question of its form: the interface of a zone may not be there
 * yet, or no more. addr_from_host() alone needs it to be there.
 */
#ifndef CULVERT_CORE_IO_ADDR_H
#define CULVERT_CORE_IO_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/config.h"
#include "core/io/sock.h"
#include "core/wire/frame.h"

/* "[" + 45 characters of IPv6 + "%" + 15 of a zone + "]:65535" and the final NUL. */
#define ADDR_TEXT_MAX 72u

/* "[" + config_endpoint.host + "]:65535" and the final NUL. */
#define ADDR_ENDPOINT_TEXT_MAX 272u

/* Enough for any sentence of addr_parse_endpoint(), which quotes at most the start of its input. */
#define ADDR_ERROR_MAX 256u

/* What an endpoint is for decides which short forms make sense. */
enum addr_use {
    ADDR_LISTEN, /* "HOST:PORT", ":PORT", "PORT": without a host it is empty, all addresses */
    ADDR_SERVER, /* "HOST:PORT", "HOST": without a port it is CONFIG_PORT */
    ADDR_ORIGIN, /* "HOST:PORT", ":PORT", "PORT": without a host it is 127.0.0.1 */
};

/* "192.0.2.1:80", "[2001:db8::1]:80", "[fe80::1%eth0]:80" (its number when the interface is gone);
 * "unknown" for any other family. Writes at most `size` bytes (ADDR_TEXT_MAX is always enough), NUL
 * included; returns `text`. */
const char *addr_format(const struct sockaddr *addr, char *text, size_t size);

/* The same without port and brackets. */
const char *addr_format_host(const struct sockaddr *addr, char *text, size_t size);

/* "host:port", "[v6 host]:port", ":port" for an empty host. ADDR_ENDPOINT_TEXT_MAX is enough. */
const char *addr_format_endpoint(const struct config_endpoint *endpoint, char *text, size_t size);

/* Reads an endpoint; IPv6 addresses must stand in brackets (RFC 3986, 3.2.2). Port 0 is accepted
 * for ADDR_LISTEN only. False: *out is untouched and `error` (ADDR_ERROR_MAX bytes) holds a clause
 * such as "'::1:80' is ambiguous; write an IPv6 address in brackets, like [::1]:9000". */
bool addr_parse_endpoint(const char *text, enum addr_use use, struct config_endpoint *out,
                         char error[ADDR_ERROR_MAX]);

/* From a numeric host ("192.0.2.1", "2001:db8::1", "fe80::1%eth0") without brackets. False: not
 * numeric, or its zone is not there; *out is untouched. Old forms such as "127.1" are not taken for
 * numeric. */
bool addr_from_host(const char *host, uint16_t port, union sock_addr *out);

/* By its form: what is no name. */
bool addr_is_numeric(const char *host);

/* The zone of a numeric host whose interface this machine does not have now, or NULL. Points into
 * `host`. */
const char *addr_missing_zone(const char *host);

/* A link-local address without a zone: it may be on any interface, so nothing reaches it. */
bool addr_lacks_zone(const char *host);

/* The host as others know it: a zone means something on one machine only, and certificates have
 * none. Writes at most `size` bytes; returns `text`. */
const char *addr_drop_zone(const char *host, char *text, size_t size);

/* This machine by its name (localhost and what ends in .localhost, RFC 6761, 6.3) or a numeric
 * address of loopback. */
bool addr_host_is_loopback(const char *host);

/* Same family, address, zone and port. */
bool addr_equal(const union sock_addr *a, const union sock_addr *b);

/* Who is one owner (share.h): an IPv4 address, or the first 64 bits of an IPv6 address, as a
 * number. The family, AF_UNSPEC for any other. */
int addr_prefix(const union sock_addr *addr, uint64_t *prefix);

/* An address as it stands in OPEN (docs/PROTOCOL.md); family 0 for anything but IPv4 and IPv6. */
void addr_to_frame(const struct sockaddr *addr, struct frame_addr *out);

/* And back. False: family 0 or unknown, *out is untouched. */
bool addr_from_frame(const struct frame_addr *addr, union sock_addr *out);

#endif
