/* options_habit: see options_habit.h. */
#include "config/options_habit.h"

#include "core/base/base.h"

#include <string.h>

#define SERVER (1u << OPTIONS_SERVER)
#define CLIENT (1u << OPTIONS_CLIENT)

static const struct {
    const char *name;
    unsigned commands;
    const char *instead;
} habit_flags[] = {
    { "to", CLIENT, "the server is named with --server HOST:PORT" },
    { "s", CLIENT, "the server is named with --server HOST:PORT" },
    { "server-addr", CLIENT, "the server is named with --server HOST:PORT" },
    { "server_addr", CLIENT, "the server is named with --server HOST:PORT" },
    { "server-port", CLIENT, "the server is named with --server HOST:PORT" },
    { "server_port", CLIENT, "the server is named with --server HOST:PORT" },
    { "remote", CLIENT, "the server is named with --server HOST:PORT, a public port with --port" },
    { "remote-addr", CLIENT, "the server is named with --server HOST:PORT" },
    { "addr", CLIENT, "the server is named with --server, a local service with --local" },
    { "remote-port", CLIENT, "a public port is asked for with --port" },
    { "remote_port", CLIENT, "a public port is asked for with --port" },
    { "r", CLIENT, "a public port is asked for with --port" },
    { "R", CLIENT, "write ssh's -R 10080:localhost:3000 as --port 10080 --local localhost:3000" },
    { "L", CLIENT, "it exposes local services: --local localhost:3000" },
    { "l", CLIENT, "a local service is named with --local HOST:PORT" },
    { "local-port", CLIENT, "a local service is named with --local HOST:PORT" },
    { "local_port", CLIENT, "a local service is named with --local HOST:PORT" },
    { "local-host", CLIENT, "a local service is named with --local HOST:PORT" },
    { "local-addr", CLIENT, "a local service is named with --local HOST:PORT" },
    { "local-ip", CLIENT, "a local service is named with --local HOST:PORT" },
    { "local_ip", CLIENT, "a local service is named with --local HOST:PORT" },
    { "port", SERVER, "clients connect to --addr :PORT, and visitors to the ports of --ports" },
    { "bind", SERVER, "clients connect to --addr HOST:PORT" },
    { "bind-addr", SERVER, "clients connect to --addr HOST:PORT" },
    { "bind_addr", SERVER, "clients connect to --addr HOST:PORT" },
    { "bind-port", SERVER, "clients connect to --addr :PORT" },
    { "bind_port", SERVER, "clients connect to --addr :PORT" },
    { "control-port", SERVER, "clients connect to --addr :PORT" },
    { "listen", SERVER, "clients connect to --addr HOST:PORT" },
    { "host", SERVER, "clients connect to --addr HOST:PORT" },
    { "min-port", SERVER, "public ports are listed with --ports, like --ports 10000-10100" },
    { "max-port", SERVER, "public ports are listed with --ports, like --ports 10000-10100" },
    { "allow-ports", SERVER, "public ports are listed with --ports, like --ports 10000-10100" },
    { "allow_ports", SERVER, "public ports are listed with --ports, like --ports 10000-10100" },
    { "secret", SERVER | CLIENT, "a token is named with --token-file FILE" },
    { "authtoken", SERVER | CLIENT, "a token is named with --token-file FILE" },
    { "auth-token", SERVER | CLIENT, "a token is named with --token-file FILE" },
    { "auth", SERVER | CLIENT, "a token is named with --token-file FILE" },
    { "password", SERVER | CLIENT, "a token is named with --token-file FILE" },
    { "t", SERVER | CLIENT, "a token is named with --token-file FILE" },
    { "c", SERVER | CLIENT, "there is no configuration file, only flags" },
    { "config", SERVER | CLIENT, "there is no configuration file, only flags" },
    { "d", SERVER | CLIENT, "it stays in the foreground; a service manager runs it otherwise" },
    { "daemon", SERVER | CLIENT,
      "it stays in the foreground; a service manager runs it otherwise" },
    { "detach", SERVER | CLIENT,
      "it stays in the foreground; a service manager runs it otherwise" },
};

#define AS_CLIENT "to expose a local service write: culvert PORT --server HOST:PORT"
#define AS_SERVER "to accept clients write: culvert server"

static const struct {
    const char *word, *instead;
} habit_words[] = {
    { "http", AS_CLIENT },    { "https", AS_CLIENT },  { "tcp", AS_CLIENT },
    { "tls", AS_CLIENT },     { "local", AS_CLIENT },  { "expose", AS_CLIENT },
    { "connect", AS_CLIENT }, { "tunnel", AS_CLIENT }, { "start", AS_CLIENT },
    { "run", AS_CLIENT },     { "share", AS_CLIENT },  { "serve", AS_SERVER },
    { "listen", AS_SERVER },  { "daemon", AS_SERVER }, { "relay", AS_SERVER },
};

const char *options_habit_flag(const char *name, enum options_command command)
{
    for (unsigned i = 0; i < ARRAY_SIZE(habit_flags); i++)
        if ((habit_flags[i].commands & (1u << command)) != 0 &&
            strcmp(habit_flags[i].name, name) == 0)
            return habit_flags[i].instead;
    return NULL;
}

const char *options_habit_command(const char *word)
{
    for (unsigned i = 0; i < ARRAY_SIZE(habit_words); i++)
        if (strcmp(habit_words[i].word, word) == 0)
            return habit_words[i].instead;
    return NULL;
}
