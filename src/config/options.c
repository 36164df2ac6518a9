/*
 * options: see options.h.
 *
 * The table of flags is options_table.c, what becomes of a value options_set.c. Defaults are texts
 * in the rows and are set before the command line is read; lists get theirs in finish_*, only if
 * the command line gave none.
 *
 * Tokens never appear in an error: the value of --token is wiped as soon as it is copied, before
 * anything after it can fail, and of an unknown flag only the name is quoted (options_unknown.h).
 * What an error quotes is shown as the log would (options_parse has the only way out).
 */
#include "config/options.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/options_args.h"
#include "config/options_draft.h"
#include "config/options_set.h"
#include "config/options_table.h"
#include "config/options_token.h"
#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/token.h"
#include "core/io/addr.h"

#define DEFAULT_START_PORT 10000
#define WORKERS_MAX        CONFIG_CPUS_MAX
#define GRACE_TLS          (60 * NSEC_PER_SEC)

static void apply_preset(struct options_draft *d, const struct options_flag *flag)
{
    char value[64];

    snprintf(value, sizeof(value), "%s", flag->preset);
    CHECK(options_set(d, flag, value));
}

static void apply_presets(struct options_draft *d)
{
    d->options->config.reconnect = true;
    for (const struct options_flag *flag = options_flags; flag->name != NULL; flag++)
        if (flag->preset != NULL && !flag->list)
            apply_preset(d, flag);
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

static void find_state_dir(struct options_draft *d)
{
    struct config *config = &d->options->config;
    bool needed = getenv("STATE_DIRECTORY") != NULL || config->tls == CONFIG_ON ||
                  (config->tls == CONFIG_AUTO && !listens_on_loopback(config));

    config->state_dir_named = config->state_dir[0] != '\0';
    if (!config->state_dir_named && (!needed || !finish_state_dir(config)))
        config->state_dir[0] = '\0';
}

static bool finish_tls(struct options_draft *d)
{
    struct config *config = &d->options->config;
    const char *keylog = getenv("SSLKEYLOGFILE");

    if (d->tls_given && d->plain_given)
        return options_error_usage(
            d->error, "--tls and --plain contradict each other; leave one of them out");
    if (d->plain_given && names_tls(config))
        return options_error_usage(
            d->error,
            "--plain makes no use of the other TLS flags; leave it out, or leave them out");
    config->tls = d->plain_given ? CONFIG_OFF : CONFIG_AUTO;
    /* A server that wants certificates of its clients takes no lane that can have none. */
    if (d->tls_given || config->tls_ca[0] != '\0' ||
        (config->role == CONFIG_CLIENT && names_tls(config)))
        config->tls = CONFIG_ON;
    if ((config->tls_cert[0] == '\0') != (config->tls_key[0] == '\0'))
        return options_error_usage(d->error,
                                   "--tls-cert and --tls-key belong together; give both, or none");
    if (config->tls_ca[0] != '\0' && config->tls_pin[0] != '\0')
        return options_error_usage(
            d->error, "--tls-ca and --tls-pin are two ways to trust a server; give one of them");
    find_state_dir(d);
    if (keylog != NULL)
        snprintf(config->keylog, sizeof(config->keylog), "%s", keylog);
    return true;
}

static const char *token_source(const struct options_draft *d)
{
    if (d->token_given)
        return "--token";
    return d->token_file != NULL ? "--token-file" : "CULVERT_TOKEN";
}

/* What a file has at the ends of its lines is dropped; here somebody may have meant it. */
static void warn_of_blanks(struct options_draft *d)
{
    struct config_token token = { 0 };

    while (!d->options->config.token_is_default && config_next_token(&d->options->config, &token)) {
        if (!token_has_blank_ends(token.bytes, token.size))
            continue;
        snprintf(d->options->warning, sizeof(d->options->warning),
                 "%s: the token begins or ends with white space, which is taken for a part of it: "
                 "the other side must have the same, and a token file never has",
                 token_source(d));
        return;
    }
}

/* A client's token: strangers at a server far away may try what is weak. */
static bool finish_token(struct options_draft *d)
{
    const struct config *config = &d->options->config;
    const char *weakness = token_weakness(config->token, config->token_size);
    unsigned i = 0;

    while (i < config->server_count && addr_host_is_loopback(config->servers[i].host))
        i++;
    if (weakness == NULL || i == config->server_count)
        return true;
    if (config->token_is_default)
        return options_error_usage(
            d->error, "--token-file is missing: without it the token is \"" OPTIONS_DEFAULT_TOKEN
                      "\", which a server takes from loopback only; name the file of the server's "
                      "token");
    return options_error_usage(
        d->error, "%s: the token is %s, which is good enough on loopback only; " TOKEN_CURE,
        token_source(d), weakness);
}

static bool finish_common(struct options_draft *d)
{
    struct config *config = &d->options->config;

    if (config->workers == 0)
        config->workers = config->cpu_count != 0 ? config->cpu_count : cores_of_process();
    /* Without TLS somebody on the path can take over a lane that comes back, behind its JOIN_OK:
     * the operator has to ask for that. */
    config->grace_plain = config->grace != UINT64_MAX;
    if (config->grace == UINT64_MAX)
        config->grace = config->reconnect ? GRACE_TLS : 0;
    if (config->heartbeat >= config->expiry)
        return options_error_usage(
            d->error, "--expiry must be longer than --heartbeat, or live lanes would be given up; "
                      "about three times as long is usual");
    if (config->window_initial > config->window_max)
        return options_error_usage(
            d->error, "--window-initial must not be above --window-max; raise the second");
    if (!finish_tls(d) ||
        (!d->token_given && !options_token_find(d->token_file, d->options, d->error)))
        return false;
    warn_of_blanks(d);
    if (config->role == CONFIG_CLIENT && !config_keep_one_token(config))
        return options_error_usage(
            d->error,
            "%s: the token has several lines; only a server has several tokens, leave "
            "one line",
            token_source(d));
    return config->role != CONFIG_CLIENT || finish_token(d);
}

static bool finish_client(struct options_draft *d)
{
    struct config *config = &d->options->config;

    config->role = CONFIG_CLIENT;
    if (config->tunnel_count == 0)
        return options_error_usage(
            d->error, "--local is missing: name the service to expose, like --local "
                      "localhost:3000 or just 3000; 'culvert help' shows the commands");
    if (d->port_count > config->tunnel_count)
        return options_error_usage(
            d->error, "--port is given more often than --local; each belongs to one tunnel");
    if (d->name_count > config->tunnel_count)
        return options_error_usage(
            d->error, "--name is given more often than --local; each belongs to one tunnel");
    if (config->wire == CONFIG_WIRE_V1 && config->tunnel_count > 1)
        return options_error_usage(
            d->error, "--wire v1 carries one tunnel in a session; leave one --local, or use v2");
    if (config->wire == CONFIG_WIRE_V1 && config->lanes > 1)
        return options_error_usage(d->error,
                                   "--wire v1 has one lane; leave --lanes out, or use v2");
    if (config->reconnect_first > config->reconnect_max)
        return options_error_usage(
            d->error, "--reconnect-first must not be above --reconnect-max; raise the second");
    d->options->server_is_default = config->server_count == 0;
    if (config->server_count == 0)
        apply_preset(d, options_table_find("server", strlen("server"), OPTIONS_CLIENT));
    return finish_common(d);
}

/* Ports that have names are for who lists them. */
static bool finish_server(struct options_draft *d)
{
    struct config *config = &d->options->config;
    bool listed = port_set_first(&config->ports) != 0;
    char text[PORT_SET_TEXT_MAX];

    config->role = CONFIG_SERVER;
    if (!listed)
        port_set_add(&config->ports, PORT_SET_LOW, UINT16_MAX);
    if (config->start_port == 0)
        config->start_port = listed ? port_set_first(&config->ports) : DEFAULT_START_PORT;
    if (!port_set_has(&config->ports, config->start_port))
        return options_error_usage(
            d->error,
            "--start-port: %u is not one of the ports that clients may get, %s; write one "
            "of these, or list it with --ports",
            config->start_port, port_set_format(&config->ports, text));
    return finish_common(d);
}

static bool finish(struct options_draft *d)
{
    struct options *options = d->options;

    if (options->help || options->version)
        return true;
    switch (options->command) {
    case OPTIONS_SERVER:
        return finish_server(d);
    case OPTIONS_CLIENT:
        return finish_client(d);
    case OPTIONS_DEMO:
        options->config.tls = d->tls_given ? CONFIG_ON : CONFIG_AUTO;
        if (options->config.workers == 0)
            options->config.workers = cores_of_process();
        return true;
    case OPTIONS_GEN_CERT:
        if (options->gen_cert.client[0] != '\0' && options->gen_cert.name_count > 0)
            return options_error_usage(
                d->error, "--client makes a client's certificate, --name a server's; call twice");
        return finish_state_dir(&options->config) ||
               options_error_usage(
                   d->error, "--dir is missing: there is no home directory to put the files in");
    default:
        return true;
    }
}

bool options_parse(int argc, char **argv, struct options *options, struct options_error *error)
{
    struct options_draft d = { .options = options, .error = error };

    memset(options, 0, sizeof(*options));
    memset(error, 0, sizeof(*error));
    apply_presets(&d);
    bool ok = options_args_read(&d, argc, argv) && finish(&d);
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
