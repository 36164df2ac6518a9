/* cure: see cure.h. */
#include "core/cure.h"

#include "core/base.h"

#include <errno.h>

static const struct {
    int error;
    const char *text;
} cure_table[] = {
    { EMFILE, ": raise ulimit -n (with systemd LimitNOFILE=)" },
    { ENFILE, ": raise sysctl fs.file-max" },
    { ENOMEM, ": free some memory, or raise ulimit -v" },
    { ENOBUFS, ": free some memory" },
    { EAGAIN, ": lower --workers, or raise ulimit -u (with systemd TasksMax=)" },
    { EADDRINUSE, ": another program has this port, choose another one" },
    { EADDRNOTAVAIL, ": it is no address of this machine" },
};

const char *cure_text(int error)
{
    for (unsigned i = 0; i < ARRAY_SIZE(cure_table); i++)
        if (cure_table[i].error == error)
            return cure_table[i].text;
    return "";
}
