/* options_defaults: see options_defaults.h. */
#include "config/options_defaults.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/options_machine.h"
#include "config/options_set.h"
#include "config/options_table.h"
#include "core/base/base.h"
#include "core/base/check.h"
#include "core/io/addr.h"

#define DEFAULT_START_PORT 10000
#define DEFAULT_GRACE      (60 * NSEC_PER_SEC) /* with TLS */

static void defaults_preset(struct options_draft *d, const struct options_flag *flag)
{
    char value[64];

    snprintf(value, sizeof(value), "%s", flag->preset);
    CHECK(options_set(d, flag, value));
}

void options_defaults_before(struct options_draft *d)
{
    d->options->config.reconnect = true; /* what --no-reconnect takes back */
    for (const struct options_flag *flag = options_flags; flag->name != NULL; flag++)
        if (flag->preset != NULL && !flag->list)
            defaults_preset(d, flag);
}

static void defaults_workers(struct config *config)
{
    if (config->workers == 0)
        config->workers = config->cpu_count != 0 ? config->cpu_count : options_machine_cores();
}

/* Without TLS somebody on the path can take over a lane that comes back, behind its JOIN_OK: the
 * operator has to ask for that. */
static void defaults_grace(struct config *config)
{
    config->grace_plain = config->grace != UINT64_MAX;
    if (config->grace == UINT64_MAX)
        config->grace = config->reconnect ? DEFAULT_GRACE : 0;
}

/* A server that wants certificates of its clients takes no lane that can have none. */
static void defaults_tls(struct options_draft *d)
{
    struct config *config = &d->options->config;
    bool meant = d->options->command == OPTIONS_CLIENT && options_draft_names_tls(d);

    config->tls = d->plain_given ? CONFIG_OFF : CONFIG_AUTO;
    if (d->tls_given || config->tls_ca[0] != '\0' || meant)
        config->tls = CONFIG_ON;
}

/* The state directory */

/* Without --state-dir. A service manager that has made a directory for us (StateDirectory= of
 * systemd) says so in STATE_DIRECTORY, a list with colons of which the first one is meant; who has
 * no home there has "/" for one. Returns as snprintf does; 0: there is none. */
static int defaults_find_state_dir(char *dir, size_t size)
{
    const char *service = getenv("STATE_DIRECTORY");
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

    if (service != NULL && service[0] == '/')
        return snprintf(dir, size, "%.*s", (int)strcspn(service, ":"), service);
    if (geteuid() == 0)
        return snprintf(dir, size, "/var/lib/culvert");
    if (state != NULL && state[0] == '/')
        return snprintf(dir, size, "%s/culvert", state);
    if (home != NULL && home[0] == '/' && home[1] != '\0')
        return snprintf(dir, size, "%s/.local/state/culvert", home);
    return 0;
}

/* It stays empty if there is none, or only one with too long a name. */
static void defaults_state_dir(struct config *config)
{
    size_t size = sizeof(config->state_dir);

    if (config->state_dir[0] != '\0')
        return;
    int n = defaults_find_state_dir(config->state_dir, size);
    if (n <= 0 || (size_t)n >= size)
        config->state_dir[0] = '\0';
}

/* What a server that listens on loopback alone keeps of itself is not worth a directory: its
 * clients need no certificate. */
static bool defaults_keeps_state(const struct config *config)
{
    bool loopback = config->role == CONFIG_SERVER && addr_host_is_loopback(config->listen.host);

    return getenv("STATE_DIRECTORY") != NULL || config->tls == CONFIG_ON ||
           (config->tls == CONFIG_AUTO && !loopback);
}

/* Of a server or a client */

static void defaults_roles(struct options_draft *d)
{
    struct config *config = &d->options->config;
    const char *keylog = getenv("SSLKEYLOGFILE");

    defaults_workers(config);
    defaults_grace(config);
    defaults_tls(d);
    config->state_dir_named = config->state_dir[0] != '\0';
    if (defaults_keeps_state(config))
        defaults_state_dir(config);
    if (keylog != NULL)
        snprintf(config->keylog, sizeof(config->keylog), "%s", keylog);
}

/* Ports that have names are for who lists them. */
static void defaults_server(struct options_draft *d)
{
    struct config *config = &d->options->config;
    bool listed = port_set_first(&config->ports) != 0;

    config->role = CONFIG_SERVER;
    if (!listed)
        port_set_add(&config->ports, PORT_SET_LOW, UINT16_MAX);
    if (config->start_port == 0)
        config->start_port = listed ? port_set_first(&config->ports) : DEFAULT_START_PORT;
    defaults_roles(d);
}

static void defaults_client(struct options_draft *d)
{
    struct config *config = &d->options->config;

    config->role = CONFIG_CLIENT;
    d->options->server_is_default = config->server_count == 0;
    if (config->server_count == 0)
        defaults_preset(d, options_table_find("server", strlen("server"), OPTIONS_CLIENT));
    defaults_roles(d);
}

void options_defaults_after(struct options_draft *d)
{
    switch (d->options->command) {
    case OPTIONS_SERVER:
        defaults_server(d);
        return;
    case OPTIONS_CLIENT:
        defaults_client(d);
        return;
    case OPTIONS_DEMO:
        defaults_workers(&d->options->config);
        defaults_tls(d);
        return;
    case OPTIONS_GEN_CERT:
        defaults_state_dir(&d->options->config);
        return;
    default:
        return;
    }
}
