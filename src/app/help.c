/*
 * help: see help.h.
 *
 * Only texts that no other file needs stand here: usage lines, examples, and what variables mean.
 * Flags come from config/options_table, exit codes from core/base/exit_code, so the help cannot
 * promise what the program does not do; and `culvert help table` has all of it in lines that the
 * build makes the man page and the completions of, so neither can they.
 */
#include "app/help.h"

#include <string.h>

#include "core/base/base.h"
#include "core/base/exit_code.h"
#include "core/base/log.h"

static const struct {
    const char *summary; /* for the overview */
    const char *usage;
    const char *about;
    const char *examples; /* NULL: none */
} commands[] = {
    [OPTIONS_SERVER] =
        {
            .summary = "accept clients and give each tunnel a public port",
            .usage =
                "culvert server [--addr HOST:PORT] [--start-port N] [flags]",
            .about = "Accepts clients on one address and, for each tunnel of a "
                     "client, visitors on a\n"
                     "public port of its own.",
            .examples = "  culvert server                                # "
                        "clients on :9000, ports from 10000\n"
                        "  culvert server --addr :7000 --start-port 20000 "
                        "--token-file /etc/culvert/token\n"
                        "  culvert server --public-addr 127.0.0.1        # "
                        "public ports behind a local proxy\n"
                        "  culvert server --workers 4 --cpus 0-3         # "
                        "four workers, each on its own core\n"
                        "  culvert server --tls                          # "
                        "takes no plain connection\n",
        },
    [OPTIONS_CLIENT] =
        {
            .summary =
                "expose local services through a server (the default command)",
            .usage =
                "culvert [client] --server HOST:PORT --local HOST:PORT [flags]",
            .about = "Connects to a server and exposes local services there. "
                     "Prints one line for each\n"
                     "tunnel when it is ready:\n"
                     "\n"
                     "  ready: tcp://PUBLIC-HOST:PORT -> ORIGIN-HOST:PORT\n"
                     "\n"
                     "A PORT or HOST:PORT that stands alone is a --local: 'culvert "
                     "3000' is\n"
                     "'culvert client --local 3000'.",
            .examples = "  culvert 3000 --server example.com\n"
                        "  culvert --server example.com:9000 --local "
                        "localhost:5432 --port 15432 --name db\n"
                        "  culvert --server example.com:9000 --local 3000 "
                        "--port 8080 --local 3001 --port 8081\n"
                        "  culvert --server a.example:9000 --server "
                        "b.example:9000 --local 22 \\\n"
                        "          --token-file ~/.config/culvert/token\n"
                        "  culvert --server example.com:9000 --local 3000 "
                        "--tls-ca ca.pem\n",
        },
    [OPTIONS_DEMO] =
        {
            .summary =
                "run server, client and an origin here, and check every byte",
            .usage =
                "culvert demo [--once] [--tls] [--size SIZE] [--requests N] [--workers N]",
            .about = "Starts a server, a client and a small origin on "
                     "loopback, moves data through the\n"
                     "tunnel in both directions, compares every byte, makes "
                     "HTTP requests, and prints\n"
                     "rates beside those of a direct connection. Then it stays "
                     "up until Ctrl+C, so that\n"
                     "you can open the public URL yourself.",
            .examples = "  culvert demo\n"
                        "  culvert demo --once --size 4G --workers 2\n"
                        "  culvert demo --tls\n",
        },
    [OPTIONS_GEN_CERT] =
        {
            .summary = "make a CA and certificates for TLS",
            .usage = "culvert gen-cert [--dir DIR] [--name HOST]... [--days N] "
                     "[--client NAME]",
            .about =
                "Makes in one directory what is missing of a CA (ca.pem, ca.key), "
                "and a new server\n"
                "certificate (server.pem, server.key) for the names that are given "
                "and localhost,\n"
                "signed by that CA. A key that is there is kept: the pin of a renewed "
                "certificate is\n"
                "the old one. Prints what was made, the pin, and the commands that use "
                "it. A server\n"
                "reads a renewed certificate on SIGHUP.",
            .examples =
                "  culvert gen-cert --dir /etc/culvert --name tunnel.example.com\n"
                "  culvert gen-cert --dir /etc/culvert --client laptop\n",
        },
    [OPTIONS_VERSION] =
        {
            .summary = "show the version, and what this kernel gives",
            .usage = "culvert version [--features]",
            .about = "Shows the version of the program.",
            .examples = "  culvert version --features\n",
        },
    [OPTIONS_HELP] =
        {
            .summary = "show the help of a command or topic",
            .usage = "culvert help [COMMAND | exit-codes | environment | table]",
            .about = "Shows the help of a command or topic.",
            .examples = "  culvert help client\n"
                        "  culvert help exit-codes\n",
        },
};

static void help_print_overview(FILE *out)
{
    fputs("culvert: exposes local TCP services through a server with a public "
          "address\n\n"
          "usage: culvert COMMAND [flags]\n\n",
          out);
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
        fprintf(out, "  %-9s %s\n", options_command_name((enum options_command)i),
                commands[i].summary);
    fputs("\nTo try it on this machine: culvert demo\n"
          "To expose a local service:\n\n"
          "  on the server:   culvert server --token-file FILE\n"
          "  on this machine: the command that it prints\n\n"
          "More: culvert help COMMAND, culvert help exit-codes, culvert help "
          "environment\n",
          out);
}

void help_print_command(FILE *out, enum options_command command)
{
    fprintf(out, "usage: %s\n\n%s\n", commands[command].usage, commands[command].about);
    options_print_flags(out, command);
    if (commands[command].examples != NULL)
        fprintf(out, "\nExamples\n%s", commands[command].examples);
}

static void help_print_exit_codes(FILE *out)
{
    fputs("Exit codes\n", out);
#define X(name, status, text) fprintf(out, "  %d  %s\n", status, text);
    EXIT_CODE_TABLE(X)
#undef X
}

static const struct {
    const char *name, *text;
} variables[] = {
    { "CULVERT_TOKEN", "the token, if neither --token nor --token-file is given" },
    { "SSLKEYLOGFILE", "for debugging: a file to which the secrets of TLS lanes are appended" },
    { "STATE_DIRECTORY", "set by systemd: the state directory, if --state-dir is not given" },
    { "XDG_STATE_HOME", "for others than root: in place of ~/.local/state" },
    { "NO_COLOR", "if set and not empty: no colours on a terminal" },
    { "JOURNAL_STREAM", "set by systemd: log lines carry priorities instead of times" },
};

static void help_print_environment(FILE *out)
{
    fputs("Environment\n", out);
    for (size_t i = 0; i < ARRAY_SIZE(variables); i++)
        fprintf(out, "  %-15s  %s\n", variables[i].name, variables[i].text);
}

/* For programs: all that the man page and the completions are made of, a line each, with tabs. */
static void help_print_table(FILE *out)
{
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
        fprintf(out, "command\t%s\t%s\t%s\n", options_command_name((enum options_command)i),
                commands[i].usage, commands[i].summary);
    options_print_table(out);
#define X(name, status, text) fprintf(out, "exit\t%d\t%s\n", status, text);
    EXIT_CODE_TABLE(X)
#undef X
    for (size_t i = 0; i < ARRAY_SIZE(variables); i++)
        fprintf(out, "variable\t%s\t%s\n", variables[i].name, variables[i].text);
}

static const struct {
    const char *name;
    void (*print)(FILE *out);
} topics[] = {
    { "exit-codes", help_print_exit_codes },
    { "environment", help_print_environment },
    { "table", help_print_table }, /* not among the words of the overview */
};

static int help_fail_topic(const char *topic)
{
    const char *near = options_command_nearest(topic);
    char shown[64];

    snprintf(shown, sizeof(shown), "%.60s", topic);
    log_clean(shown, strlen(shown));
    if (near != NULL)
        fprintf(stderr,
                "culvert: there is no help on '%s'; did you mean 'culvert help "
                "%s'?\n",
                shown, near);
    else
        fprintf(stderr,
                "culvert: there is no help on '%s'; 'culvert help' lists the "
                "topics\n",
                shown);
    return EXIT_CODE_USAGE;
}

int help_run(FILE *out, const char *topic)
{
    enum options_command command;

    if (topic == NULL) {
        help_print_overview(out);
        return EXIT_CODE_OK;
    }
    if (options_command_find(topic, &command)) {
        help_print_command(out, command);
        return EXIT_CODE_OK;
    }
    for (size_t i = 0; i < ARRAY_SIZE(topics); i++) {
        if (strcmp(topic, topics[i].name) == 0) {
            topics[i].print(out);
            return EXIT_CODE_OK;
        }
    }
    return help_fail_topic(topic);
}
