/*
 * options_endpoint: addresses, ports and names, as a command line says them.
 *
 * Nothing asks a resolver: a server's own addresses are numeric, and a client's names are looked up
 * when it dials. Each function reads one value of the flag into the member of struct options that
 * it is for; options_set.c calls it. False: *draft->error says what to write instead.
 */
#ifndef CULVERT_CONFIG_OPTIONS_ENDPOINT_H
#define CULVERT_CONFIG_OPTIONS_ENDPOINT_H

#include <stdbool.h>

#include "config/options_draft.h"
#include "config/options_table.h"

/* Of a server: where it listens, the public ports, and the address that these are bound on. */
bool options_endpoint_listen(struct options_draft *draft, const struct options_flag *flag,
                             char *value);
bool options_endpoint_ports(struct options_draft *draft, const struct options_flag *flag,
                            char *value);
bool options_endpoint_public_addr(struct options_draft *draft, const struct options_flag *flag,
                                  char *value);

/* Of a client: one more server, and one more tunnel's origin, public port or name. */
bool options_endpoint_server(struct options_draft *draft, const struct options_flag *flag,
                             char *value);
bool options_endpoint_local(struct options_draft *draft, const struct options_flag *flag,
                            char *value);
bool options_endpoint_port(struct options_draft *draft, const struct options_flag *flag,
                           char *value);
bool options_endpoint_tunnel_name(struct options_draft *draft, const struct options_flag *flag,
                                  char *value);

/* One more host name or address of a certificate. */
bool options_endpoint_cert_name(struct options_draft *draft, const struct options_flag *flag,
                                char *value);

#endif
