/* cure: see cure.h. */
#include "core/base/cure.h"

#include "core/base/base.h"

#include <errno.h>
#include <netinet/in.h>

struct cure {
    int error;
    const char *text;
};

static const struct cure cure_table[] = {
    { EMFILE, ": raise ulimit -n (with systemd LimitNOFILE=)" },
    { ENFILE, ": raise sysctl fs.file-max" },
    { ENOMEM, ": free some memory, or raise ulimit -v" },
    { ENOBUFS, ": free some memory" },
    { EAGAIN, ": lower --workers, or raise ulimit -u (with systemd TasksMax=)" },
    { EADDRINUSE, ": another program has this port, choose another one" },
    { EADDRNOTAVAIL, ": it is no address of this machine" },
};

static const struct cure cure_connect_table[] = {
    { EADDRNOTAVAIL, ": all local ports for connections to this place are taken: widen sysctl "
                     "net.ipv4.ip_local_port_range, or give it further addresses" },
    { ECONNREFUSED, ": nothing listens there" },
    { ENETUNREACH, ": this machine has no way there, is its network up?" },
};

static const char *cure_find(const struct cure *table, size_t count, int error)
{
    for (size_t i = 0; i < count; i++)
        if (table[i].error == error)
            return table[i].text;
    return "";
}

const char *cure_text(int error)
{
    return cure_find(cure_table, ARRAY_SIZE(cure_table), error);
}

const char *cure_bind_text(int error, uint16_t port)
{
    return error == EACCES && port < IPPORT_RESERVED
               ? ": ports below 1024 need CAP_NET_BIND_SERVICE (docs/OPERATIONS.md, \"With "
                 "systemd\") or sysctl net.ipv4.ip_unprivileged_port_start"
               : cure_text(error);
}

const char *cure_connect_text(int error)
{
    return error == EADDRNOTAVAIL || cure_text(error)[0] == '\0'
               ? cure_find(cure_connect_table, ARRAY_SIZE(cure_connect_table), error)
               : cure_text(error);
}
