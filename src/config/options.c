/*
 * options: see options.h.
 *
 * The table of flags is options_table.c, what becomes of a value options_set.c. Defaults are texts
 * in the rows and are set before the command line is read; lists get theirs in finish_*, only if
 * the command line gave none.
 *
 * Tokens never appear in an error: an unknown flag is quoted as far as it is a name, and of one
 * that begins like the name of a secret only that name; the value of --token is wiped as soon as it
 * is copied, before anything after it can fail. What an error quotes is shown as the log would
 * (options_parse has the only way out). Where a token comes from otherwise is options_token.c.
 */
#include "config/options.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/options_draft.h"
#include "config/options_habit.h"
#include "config/options_set.h"
#include "config/options_table.h"
#include "config/options_token.h"
#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/token.h"
#include "core/base/value.h"
#include "core/io/addr.h"

#define DEFAULT_START_PORT 10000
#define WORKERS_MAX        CONFIG_CPUS_MAX
#define GRACE_TLS          (60 * NSEC_PER_SEC)

/* What names a secret here or elsewhere: behind it, in the same word, the secret itself may stand
 * (-tSECRET, --token:SECRET, --passwordSECRET). */
static const struct {
    const char *name; /* without dashes */
    bool one_dash;    /* only behind one dash */
} secrets[] = {
    { "token", false },     { "secret", false },   { "auth-token", false },
    { "authtoken", false }, { "password", false }, { "t", true },
};

/* Parse */

/* How much of an unknown flag is its name: up to what no flag has in it, or to where a secret may
 * begin. */
static size_t name_size(const char *name, size_t size, bool one_dash)
{
    size_t letters_only = min_size(size, strspn(name, CONFIG_NAME_LETTERS));

    for (size_t i = 0; i < ARRAY_SIZE(secrets); i++) {
        size_t known = strlen(secrets[i].name);

        if (letters_only > known && memcmp(name, secrets[i].name, known) == 0 &&
            (one_dash || !secrets[i].one_dash))
            return known;
    }
    return letters_only;
}

/* What somebody who writes this is used to: by the whole name, or else by what may be quoted of it.
 * NULL: nothing that is known. */
static const char *find_habit(const char *whole, const char *quoted, bool near,
                              enum options_command command)
{
    const char *habit = options_habit_flag(whole, command);

    return habit != NULL || near ? habit : options_habit_flag(quoted, command);
}

/* The name of the flag `arg` is the `size` bytes at `name`, and no flag's of this command. What
 * stands behind it is never quoted: it may be a secret. */
static bool fail_unknown(struct options_draft *d, const char *arg, const char *name, size_t size)
{
    enum options_command command = d->options->command;
    const struct options_flag *other = options_table_find(name, size, command), *near;
    size_t quoted = name_size(name, size, name == arg + 1);
    char whole[64], word[64], shown[80];

    snprintf(whole, sizeof(whole), "%.*s", (int)min_size(size, sizeof(whole) - 1), name);
    snprintf(word, sizeof(word), "%.*s", (int)min_size(quoted, sizeof(word) - 1), name);
    snprintf(shown, sizeof(shown), "%.*s%s%s", (int)(name - arg), arg, word,
             quoted < size ? "..." : "");
    near = options_table_nearest(whole, command);
    const char *habit = find_habit(whole, word, near != NULL || other != NULL, command);
    if (habit != NULL)
        return options_error_usage(d->error, "%s is not a flag of 'culvert %s'; %s", shown,
                                   options_command_name(command), habit);
    if (other != NULL)
        return options_error_usage(
            d->error, "--%s belongs to 'culvert %s', not to 'culvert %s'; leave it out",
            other->name, options_command_name(options_table_owner(other)),
            options_command_name(command));
    if (near != NULL)
        return options_error_usage(d->error, "%s is not a flag of 'culvert %s'; did you mean --%s?",
                                   shown, options_command_name(command), near->name);
    return options_error_usage(d->error,
                               "%s is not a flag of 'culvert %s'; 'culvert help %s' lists them",
                               shown, options_command_name(command), options_command_name(command));
}

/* Where the name starts after one or two dashes; NULL if `arg` is not a flag. */
static const char *flag_name(const char *arg)
{
    if (arg[0] != '-' || arg[1] == '\0')
        return NULL;
    return arg[1] == '-' ? arg + 2 : arg + 1;
}

/* A word that begins with a dash, taken apart. */
struct word {
    const struct options_flag *flag; /* this command's, or another's; NULL: nobody's */
    const char *name;                /* not ended by a zero */
    size_t size;
    char *value; /* in the same word, or NULL */
};

/* "-p", "-p=8080", "-p8080", "-p:8080"; false: no letter that means something here. */
static bool read_letter(char *arg, enum options_command command, struct word *word)
{
    const struct options_letter *letter = options_letters;

    if (arg[1] == '-' || (arg[2] != '\0' && strchr("=:0123456789", arg[2]) == NULL))
        return false;
    while (letter->letter != '\0' &&
           (letter->letter != arg[1] || (letter->commands & (1u << command)) == 0))
        letter++;
    if (letter->letter == '\0')
        return false;
    *word = (struct word){ .name = letter->name, .size = strlen(letter->name) };
    word->flag = options_table_find(word->name, word->size, command);
    if (arg[2] != '\0')
        word->value = arg[2] == '=' ? arg + 3 : arg + 2;
    return true;
}

static struct word read_word(char *arg, enum options_command command)
{
    struct word word = { .name = flag_name(arg) };

    if (read_letter(arg, command, &word))
        return word;
    word.size = strcspn(word.name, "=");
    word.flag = options_table_find(word.name, word.size, command);
    if (word.name[word.size] == '=')
        word.value = arg + (word.name - arg) + word.size + 1;
    return word;
}

/* True if `arg` is certainly the next flag rather than a value that begins with a dash: -p3abc is
 * no port. */
static bool is_known_flag(char *arg)
{
    if (flag_name(arg) == NULL)
        return false;
    struct word word = read_word(arg, OPTIONS_CLIENT);
    bool joined = word.value != NULL && word.value[-1] != '=';
    return word.flag != NULL &&
           (!joined || strspn(word.value, ":0123456789") == strlen(word.value));
}

/* Handles argv[*at] and moves *at to the next argument. */
static bool parse_flag(struct options_draft *d, int argc, char **argv, int *at)
{
    char *arg = argv[(*at)++];
    struct word word = read_word(arg, d->options->command);
    const struct options_flag *flag = word.flag;

    if (flag == NULL || !options_flag_is_for(flag, d->options->command))
        return fail_unknown(d, arg, flag_name(arg), strcspn(flag_name(arg), "="));
    if (flag->value == NULL)
        return options_set(d, flag, word.value);
    if (word.value != NULL)
        return options_set(d, flag, word.value);
    if (*at >= argc)
        return options_error_usage(d->error, "--%s needs a value; write --%s %s", flag->name,
                                   flag->name, flag->value);
    if (is_known_flag(argv[*at]))
        return options_error_usage(
            d->error, "--%s needs a value; write --%s %s, or --%s=%s if it begins as a flag does",
            flag->name, flag->name, flag->value, flag->name, flag->value);
    return options_set(d, flag, argv[(*at)++]);
}

/* PORT or HOST:PORT, or what was meant as one. */
static bool is_origin(const char *word)
{
    return strchr(word, ':') != NULL || strspn(word, "0123456789") == strlen(word);
}

/* A word that belongs to no flag: to a client an origin. */
static bool parse_positional(struct options_draft *d, char *arg)
{
    enum options_command command = d->options->command;

    if (command == OPTIONS_CLIENT && is_origin(arg))
        return options_set(d, options_table_find("local", strlen("local"), command), arg);
    if (command == OPTIONS_CLIENT)
        return options_error_usage(
            d->error,
            "'%.60s' stands alone; to expose a local service write its PORT or HOST:PORT, "
            "to name the server --server HOST:PORT",
            arg);
    if (command == OPTIONS_SERVER && is_origin(arg))
        return options_error_usage(
            d->error, "'%.60s' stands alone; to have clients connect there write --addr %.60s", arg,
            arg);
    return options_error_usage(
        d->error, "'%.60s' stands alone; 'culvert %s' takes only flags, which begin with --", arg,
        options_command_name(command));
}

static bool parse_args(struct options_draft *d, int argc, char **argv, int at)
{
    while (at < argc) {
        if (flag_name(argv[at]) != NULL) {
            if (!parse_flag(d, argc, argv, &at))
                return false;
        } else if (d->options->command == OPTIONS_HELP && d->options->topic == NULL) {
            d->options->topic = argv[at++];
        } else if (!parse_positional(d, argv[at++])) {
            return false;
        }
    }
    return true;
}

static bool fail_command(struct options_draft *d, const char *word)
{
    const char *near = options_command_nearest(word);
    const char *habit = options_habit_command(word);

    if (habit != NULL)
        return options_error_usage(d->error, "'%.60s' is not a command; %s", word, habit);
    if (near != NULL)
        return options_error_usage(d->error, "'%.60s' is not a command; did you mean 'culvert %s'?",
                                   word, near);
    return options_error_usage(d->error, "'%.60s' is not a command; 'culvert help' lists them",
                               word);
}

static bool is_version(const char *word)
{
    return strcmp(word, "--version") == 0 || strcmp(word, "-version") == 0 ||
           strcmp(word, "-V") == 0 || strcmp(word, "-v") == 0;
}

static bool parse_command(struct options_draft *d, int argc, char **argv, int *at)
{
    const char *word = argc > 1 ? argv[1] : NULL;

    d->options->command = OPTIONS_CLIENT;
    *at = 1;
    if (word == NULL || (argc > 2 && word[0] == '-') || is_origin(word))
        return true;
    *at = 2;
    if (strcmp(word, "--help") == 0 || strcmp(word, "-help") == 0 || strcmp(word, "-h") == 0) {
        d->options->command = OPTIONS_HELP;
        return true;
    }
    if (is_version(word)) {
        d->options->command = OPTIONS_VERSION;
        return true;
    }
    if (word[0] == '-') {
        *at = 1;
        return true;
    }
    return options_command_find(word, &d->options->command) || fail_command(d, word);
}

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
    int at;

    memset(options, 0, sizeof(*options));
    memset(error, 0, sizeof(*error));
    apply_presets(&d);
    bool ok = parse_command(&d, argc, argv, &at) && parse_args(&d, argc, argv, at) && finish(&d);
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
