/*
 * The command line. Most cases are rows: words in, and either an assertion on the result or a part
 * of the sentence that a wrong line must be told.
 */
#include <check.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/wire/frame.h"
#include "config/options.h"
#include "config/options_token.h"

#define WORDS_MAX 64
#define PIN       "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static char line_copy[4096];
static char *words[WORDS_MAX];
static struct options options;
static struct options_error error;

/* Splits at blanks; the words are writable, as argv's are. */
static int split(const char *line)
{
    int count = 0;

    ck_assert_uint_lt(strlen(line), sizeof(line_copy));
    memcpy(line_copy, line, strlen(line) + 1);
    for (char *word = strtok(line_copy, " "); word != NULL; word = strtok(NULL, " ")) {
        ck_assert_int_lt(count, WORDS_MAX - 1);
        words[count++] = word;
    }
    words[count] = NULL;
    return count;
}

static bool parse(const char *line)
{
    config_drop_token(&options.config);
    return options_parse(split(line), words, &options, &error);
}

static const struct config *parse_ok(const char *line)
{
    ck_assert_msg(parse(line), "%s: %s", line, error.text);
    return &options.config;
}

static void assert_refused(const char *line, const char *says)
{
    ck_assert_msg(!parse(line), "accepted: %s", line);
    ck_assert_ptr_null(options.config.token);
    ck_assert_msg(strstr(error.text, says) != NULL, "%s: '%s' is not in '%s'", line, says,
                  error.text);
    ck_assert_int_eq(error.code, EXIT_CODE_USAGE);
}

static void setup(void)
{
    unsetenv("CULVERT_TOKEN");
}

static void teardown(void)
{
    config_drop_token(&options.config);
}

/* Commands */

static const struct {
    const char *line;
    enum options_command command;
    bool help;
} commands[] = {
    { "culvert server", OPTIONS_SERVER, false },
    { "culvert client --local 1", OPTIONS_CLIENT, false },
    { "culvert --local 1", OPTIONS_CLIENT, false },
    { "culvert --local=1", OPTIONS_CLIENT, false },
    { "culvert demo --once", OPTIONS_DEMO, false },
    { "culvert gen-cert", OPTIONS_GEN_CERT, false },
    { "culvert gen-cert --help", OPTIONS_GEN_CERT, true },
    { "culvert version", OPTIONS_VERSION, false },
    { "culvert --version", OPTIONS_VERSION, false },
    { "culvert -V", OPTIONS_VERSION, false },
    { "culvert -v", OPTIONS_VERSION, false },
    { "culvert 3000", OPTIONS_CLIENT, false },
    { "culvert localhost:3000", OPTIONS_CLIENT, false },
    { "culvert server -h", OPTIONS_SERVER, true },
    { "culvert gen-cert -h", OPTIONS_GEN_CERT, true },
    { "culvert help", OPTIONS_HELP, false },
    { "culvert --help", OPTIONS_HELP, false },
    { "culvert -h", OPTIONS_HELP, false },
    { "culvert server --help", OPTIONS_SERVER, true },
    { "culvert client -h", OPTIONS_CLIENT, true },
    { "culvert --local 1 --help", OPTIONS_CLIENT, true },
    { "culvert client --help", OPTIONS_CLIENT, true }, /* help needs no --local */
};

START_TEST(the_command_is_found)
{
    parse_ok(commands[_i].line);
    ck_assert_int_eq(options.command, commands[_i].command);
    ck_assert_int_eq(options.help, commands[_i].help);
}
END_TEST

START_TEST(help_takes_a_topic_and_version_features)
{
    parse_ok("culvert help exit-codes");
    ck_assert_str_eq(options.topic, "exit-codes");
    parse_ok("culvert version --features");
    ck_assert(options.features);
    parse_ok("culvert version");
    ck_assert(!options.features);
}
END_TEST

/* Defaults */

START_TEST(server_defaults)
{
    const struct config *config = parse_ok("culvert server");

    ck_assert_int_eq(config->role, CONFIG_SERVER);
    ck_assert_str_eq(config->listen.host, "");
    ck_assert_uint_eq(config->listen.port, 9000);
    ck_assert_uint_eq(config->start_port, 10000);
    ck_assert_str_eq(config->public_addr, "");
    ck_assert_uint_eq(config->workers, 1);
    ck_assert_uint_eq(config->cpu_count, 0);
    ck_assert_uint_eq(config->max_streams, 131072);
    ck_assert_uint_eq(config->max_sessions, 4096);
    ck_assert_uint_eq(config->max_lanes, 8192);
    ck_assert_uint_eq(config->max_unauthenticated, 512);
    ck_assert_uint_eq(config->bulk_buffers, 512);
    ck_assert_uint_eq(config->window_initial, 64 * KIB);
    ck_assert_uint_eq(config->window_max, 16 * MIB);
    ck_assert_uint_eq(config->heartbeat, 10 * NSEC_PER_SEC);
    ck_assert_uint_eq(config->expiry, 30 * NSEC_PER_SEC);
    ck_assert_uint_eq(config->handshake_timeout, 10 * NSEC_PER_SEC);
    ck_assert_uint_eq(config->connect_timeout, 10 * NSEC_PER_SEC);
    ck_assert_uint_eq(config->drain_timeout, 10 * NSEC_PER_SEC);
    ck_assert_int_eq(config->zero_copy, CONFIG_AUTO);
    ck_assert_str_eq(config->token, "dev-token");
    ck_assert_uint_eq(config->token_size, 9);
    ck_assert(config->token_is_default);
    ck_assert_int_eq(options.log_level, LOG_INFO);
    ck_assert_str_eq(options.warning, "");
}
END_TEST

/* Start-port is the first choice within --ports. */
static const struct {
    const char *flags;
    uint16_t start;
    uint16_t in, out; /* a port that is given, and one that is not; 0: there is none to try */
} ports[] = {
    { "", 10000, 1024, 1023 },
    { " --start-port 1024", 1024, 65535, 80 },
    { " --ports 80,443,10000-10100", 10000, 443, 10101 },
    { " --ports 80,443", 80, 443, 10000 },
    { " --ports 20000-20010 --start-port 20005", 20005, 20000, 10000 },
    { " --start-port 20005 --ports=20000-20010", 20005, 20010, 20011 },
    { " --ports 80,10000 --start-port 80", 80, 10000, 443 },
    { " --ports 80 --ports 90", 90, 90, 80 }, /* the last one counts */
    { " --ports 1-65535", 1024, 1, 0 },
};

START_TEST(public_ports_and_the_first_choice)
{
    char line[256];

    snprintf(line, sizeof(line), "culvert server%s", ports[_i].flags);
    const struct config *config = parse_ok(line);
    ck_assert_uint_eq(config->start_port, ports[_i].start);
    ck_assert(port_set_has(&config->ports, ports[_i].in));
    ck_assert(!port_set_has(&config->ports, ports[_i].out));
}
END_TEST

START_TEST(client_defaults)
{
    const struct config *config = parse_ok("culvert --local localhost:3000");

    ck_assert_int_eq(config->role, CONFIG_CLIENT);
    ck_assert_uint_eq(config->server_count, 1);
    ck_assert_str_eq(config->servers[0].host, "localhost");
    ck_assert_uint_eq(config->servers[0].port, 9000);
    ck_assert_uint_eq(config->tunnel_count, 1);
    ck_assert_str_eq(config->tunnels[0].origin.host, "localhost");
    ck_assert_uint_eq(config->tunnels[0].origin.port, 3000);
    ck_assert_uint_eq(config->tunnels[0].port, 0);
    ck_assert_str_eq(config->tunnels[0].name, "");
    ck_assert_int_eq(config->wire, CONFIG_WIRE_AUTO);
    ck_assert_uint_eq(config->lanes, 0);
    ck_assert(config->reconnect);
    ck_assert_uint_eq(config->reconnect_attempts, 10);
    ck_assert_uint_eq(config->reconnect_first, NSEC_PER_SEC);
    ck_assert_uint_eq(config->reconnect_max, 30 * NSEC_PER_SEC);
    ck_assert(config->token_is_default);
}
END_TEST

START_TEST(demo_defaults)
{
    parse_ok("culvert demo");
    ck_assert(!options.demo.once && !options.demo.verbose);
    ck_assert_uint_eq(options.demo.size, 1024 * MIB);
    ck_assert_uint_eq(options.demo.requests, 5000);
    ck_assert_uint_eq(options.config.workers, 1);
}
END_TEST

/* Flags */

START_TEST(every_server_flag_reaches_its_place)
{
    const struct config *config = parse_ok(
        "culvert server --addr 127.0.0.1:9001 --start-port 20000 --public-addr ::1 --workers 3 "
        "--cpus 5,0-1 --max-streams 7 --max-sessions 8 --max-lanes 9 --max-unauthenticated 10 "
        "--bulk-buffers 11 --window-initial 32K --window-max 1MiB --heartbeat 100ms --expiry 300ms "
        "--handshake-timeout 1s --connect-timeout 2s --drain-timeout 3m --zero-copy off --token s "
        "--stream-idle 4m --log-level debug");

    ck_assert_str_eq(config->listen.host, "127.0.0.1");
    ck_assert_uint_eq(config->listen.port, 9001);
    ck_assert_uint_eq(config->start_port, 20000);
    ck_assert_str_eq(config->public_addr, "::1");
    ck_assert_uint_eq(config->workers, 3);
    ck_assert_uint_eq(config->cpu_count, 3);
    ck_assert_int_eq(config->cpus[0], 5);
    ck_assert_int_eq(config->cpus[2], 1);
    ck_assert_uint_eq(config->max_streams, 7);
    ck_assert_uint_eq(config->max_sessions, 8);
    ck_assert_uint_eq(config->max_lanes, 9);
    ck_assert_uint_eq(config->max_unauthenticated, 10);
    ck_assert_uint_eq(config->bulk_buffers, 11);
    ck_assert_uint_eq(config->window_initial, 32 * KIB);
    ck_assert_uint_eq(config->window_max, MIB);
    ck_assert_uint_eq(config->heartbeat, 100 * NSEC_PER_MSEC);
    ck_assert_uint_eq(config->expiry, 300 * NSEC_PER_MSEC);
    ck_assert_uint_eq(config->handshake_timeout, NSEC_PER_SEC);
    ck_assert_uint_eq(config->connect_timeout, 2 * NSEC_PER_SEC);
    ck_assert_uint_eq(config->drain_timeout, 180 * NSEC_PER_SEC);
    ck_assert_uint_eq(config->stream_idle, 240 * NSEC_PER_SEC);
    ck_assert_int_eq(config->zero_copy, CONFIG_OFF);
    ck_assert_str_eq(config->token, "s");
    ck_assert(!config->token_is_default);
    ck_assert_int_eq(options.log_level, LOG_DEBUG);
}
END_TEST

START_TEST(every_client_flag_reaches_its_place)
{
    const struct config *config = parse_ok(
        "culvert client --token sixteen-letters- --server=a:1 --server [::1]:2 --local 3000 "
        "--local=db:5432 --port 80 "
        "--port=0 --name web --name=db-1 --wire v2 --lanes 4 --no-reconnect --zero-copy=on "
        "--reconnect-attempts 3 --reconnect-first 5ms --reconnect-max 50ms");

    ck_assert_uint_eq(config->server_count, 2);
    ck_assert_str_eq(config->servers[1].host, "::1");
    ck_assert_uint_eq(config->servers[1].port, 2);
    ck_assert_uint_eq(config->tunnel_count, 2);
    ck_assert_str_eq(config->tunnels[0].origin.host, "127.0.0.1");
    ck_assert_uint_eq(config->tunnels[0].port, 80);
    ck_assert_str_eq(config->tunnels[0].name, "web");
    ck_assert_str_eq(config->tunnels[1].origin.host, "db");
    ck_assert_uint_eq(config->tunnels[1].port, 0);
    ck_assert_str_eq(config->tunnels[1].name, "db-1");
    ck_assert_int_eq(config->wire, CONFIG_WIRE_V2);
    ck_assert_uint_eq(config->lanes, 4);
    ck_assert(!config->reconnect);
    ck_assert_int_eq(config->zero_copy, CONFIG_ON);
    ck_assert_uint_eq(config->reconnect_attempts, 3);
    ck_assert_uint_eq(config->reconnect_first, 5 * NSEC_PER_MSEC);
    ck_assert_uint_eq(config->reconnect_max, 50 * NSEC_PER_MSEC);
}
END_TEST

/* Without a flag a server takes all kinds, and a client decides by where the server is. */
START_TEST(tls_is_the_default)
{
    static const struct {
        const char *line;
        enum config_auto tls;
    } rows[] = {
        { "culvert server", CONFIG_AUTO },
        { "culvert server --tls", CONFIG_ON },
        { "culvert server --plain", CONFIG_OFF },
        { "culvert server --tls=false", CONFIG_AUTO },
        { "culvert server --tls-cert c --tls-key k", CONFIG_AUTO },
        { "culvert server --record-engine user", CONFIG_AUTO },
        { "culvert --local 1", CONFIG_AUTO },
        { "culvert --local 1 --tls", CONFIG_ON },
        { "culvert --local 1 --plain", CONFIG_OFF },
        { "culvert --local 1 --tls-pin " PIN, CONFIG_ON },
        { "culvert --local 1 --tls-ca x", CONFIG_ON },
        { "culvert server --tls-ca x", CONFIG_ON },
        { "culvert --local 1 --tls-accept-new", CONFIG_ON },
        { "culvert demo", CONFIG_AUTO },
        { "culvert demo --tls", CONFIG_ON },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        ck_assert_msg(parse_ok(rows[i].line)->tls == rows[i].tls, "%s", rows[i].line);
}
END_TEST

START_TEST(plain_lanes_outlive_their_connection_on_request_only)
{
    ck_assert_uint_eq(config_grace(parse_ok("culvert server"), true), 60 * NSEC_PER_SEC);
    ck_assert_uint_eq(config_grace(parse_ok("culvert server"), false), 0);
    ck_assert_uint_eq(config_grace(parse_ok("culvert server --grace 5s"), false), 5 * NSEC_PER_SEC);
    ck_assert_uint_eq(config_grace(parse_ok("culvert server --grace 0s"), true), 0);
    ck_assert_uint_eq(config_grace(parse_ok("culvert --local 1 --no-reconnect"), true), 0);
}
END_TEST

/* What a server keeps of itself has a place, unless nobody but this machine is to come. */
START_TEST(the_state_directory_is_where_it_is_needed)
{
    setenv("XDG_STATE_HOME", "/x", 1);
    bool root = geteuid() == 0;
    const char *usual = root ? "/var/lib/culvert" : "/x/culvert";

    ck_assert_str_eq(parse_ok("culvert server")->state_dir, usual);
    ck_assert_str_eq(parse_ok("culvert server --addr 192.0.2.1:1")->state_dir, usual);
    ck_assert_str_eq(parse_ok("culvert server --addr 127.0.0.1:1 --tls")->state_dir, usual);
    ck_assert_str_eq(parse_ok("culvert server --addr 127.0.0.1:1")->state_dir, "");
    ck_assert_str_eq(parse_ok("culvert server --addr [::1]:1")->state_dir, "");
    ck_assert_str_eq(parse_ok("culvert server --plain")->state_dir, "");
    ck_assert_str_eq(parse_ok("culvert server --plain --state-dir /d")->state_dir, "/d");
    unsetenv("XDG_STATE_HOME");
}
END_TEST

/* A weak token is good enough where nobody far away can try it. */
START_TEST(a_weak_token_is_taken_on_loopback)
{
    parse_ok("culvert --local 1 --server 127.0.0.1:1 --token t");
    parse_ok("culvert --local 1 --server [::1]:1 --server localhost:2 --token t");
    parse_ok("culvert --local 1 --server A.LocalHost.:1");
    parse_ok("culvert --local 1 --server a.example:1 --token sixteen-letters-");
    parse_ok("culvert server --token t");
}
END_TEST

START_TEST(gen_cert_flags_reach_their_place)
{
    const struct options_gen_cert *what = &options.gen_cert;

    parse_ok("culvert gen-cert");
    ck_assert_uint_eq(what->name_count, 0);
    ck_assert_uint_eq(what->days, 0);
    ck_assert_str_eq(what->client, "");
    parse_ok("culvert gen-cert --dir /d --name a.example --name ::1 --days 30");
    ck_assert_str_eq(options.config.state_dir, "/d");
    ck_assert_uint_eq(what->name_count, 2);
    ck_assert_str_eq(what->names[0], "a.example");
    ck_assert_str_eq(what->names[1], "::1");
    ck_assert_uint_eq(what->days, 30);
    parse_ok("culvert gen-cert --client laptop");
    ck_assert_str_eq(what->client, "laptop");
}
END_TEST

/* systemd's word for the directory it made (several stand in one list) is below the flag's and
 * above all else. */
static const struct {
    const char *variable, *flag, *dir;
} state_dirs[] = {
    { "/var/lib/one", "", "/var/lib/one" },
    { "/var/lib/one:/var/lib/two", "", "/var/lib/one" },
    { "/var/lib/one", " --dir /d", "/d" },
    { "relative", "", NULL }, /* no answer: as if it were not there */
    { "", "", NULL },
};

START_TEST(state_directory_of_the_service_manager)
{
    const char *variable = state_dirs[_i].variable, *dir = state_dirs[_i].dir;
    char command[64], without[sizeof(options.config.state_dir)];

    snprintf(command, sizeof(command), "culvert gen-cert%s", state_dirs[_i].flag);
    unsetenv("STATE_DIRECTORY");
    memcpy(without, parse_ok(command)->state_dir, sizeof(without));
    setenv("STATE_DIRECTORY", variable, 1);
    ck_assert_str_eq(parse_ok(command)->state_dir, dir != NULL ? dir : without);
    unsetenv("STATE_DIRECTORY");
}
END_TEST

/* One flag name, two meanings: each command has its own. */
START_TEST(name_of_a_tunnel_is_no_name_of_a_certificate)
{
    ck_assert_str_eq(parse_ok("culvert --local 1 --name web")->tunnels[0].name, "web");
    ck_assert_uint_eq(options.gen_cert.name_count, 0);
    assert_refused("culvert --local 1 --name ::1", "is not a name");
}
END_TEST

START_TEST(demo_flags_reach_their_place)
{
    parse_ok("culvert demo --once --verbose --size 64M --requests 100 --workers 2 --wire v1");
    ck_assert(options.demo.once && options.demo.verbose);
    ck_assert_uint_eq(options.demo.size, 64 * MIB);
    ck_assert_uint_eq(options.demo.requests, 100);
    ck_assert_uint_eq(options.config.workers, 2);
    ck_assert_int_eq(options.config.wire, CONFIG_WIRE_V1);
}
END_TEST

START_TEST(the_forms_of_a_go_program_work)
{
    const struct config *config = parse_ok("culvert -local localhost:3000 -no-reconnect=true");

    ck_assert_uint_eq(config->tunnel_count, 1);
    ck_assert(!config->reconnect);
    ck_assert(parse_ok("culvert --local 1 --no-reconnect=false")->reconnect);
    config = parse_ok("culvert --local 1 --reconnect-attempts forever");
    ck_assert_uint_eq(config->reconnect_attempts, CONFIG_FOREVER);
    ck_assert(!parse_ok("culvert server --tls=false --token t")->token_is_default);
}
END_TEST

START_TEST(the_last_one_counts)
{
    ck_assert_uint_eq(parse_ok("culvert server --workers 2 --workers 5")->workers, 5);
    ck_assert_str_eq(parse_ok("culvert server --token a --token b")->token, "b");
}
END_TEST

START_TEST(a_value_may_look_like_a_flag_after_equals)
{
    ck_assert_str_eq(parse_ok("culvert server --token=--addr")->token, "--addr");
    ck_assert_str_eq(parse_ok("culvert server --token -x")->token, "-x");
    ck_assert_str_eq(parse_ok("culvert server --token=a=b")->token, "a=b");
}
END_TEST

START_TEST(auto_workers_are_the_cores_of_this_process)
{
    cpu_set_t set;

    ck_assert_int_eq(sched_getaffinity(0, sizeof(set), &set), 0);
    ck_assert_uint_eq(parse_ok("culvert server --workers auto")->workers,
                      (unsigned)CPU_COUNT(&set));
    ck_assert_uint_eq(parse_ok("culvert demo --workers auto")->workers, (unsigned)CPU_COUNT(&set));
    ck_assert_uint_eq(parse_ok("culvert server --workers auto --cpus 0-4")->workers, 5);
    ck_assert_uint_eq(parse_ok("culvert server --cpus 0-4")->workers, 1);
}
END_TEST

static const struct {
    const char *line, *says;
} refused[] = {
    /* commands and unknown flags */
    { "culvert", "--local is missing" },
    { "culvert client --server a:1", "--local is missing" },
    { "culvert sever", "did you mean 'culvert server'?" },
    { "culvert clietn --local 1", "did you mean 'culvert client'?" },
    { "culvert zebra", "'culvert help' lists them" },
    { "culvert server --hartbeat 1s", "did you mean --heartbeat?" },
    { "culvert server --max-stream 1", "did you mean --max-streams?" },
    { "culvert server --window 1", "did you mean --window-" },
    { "culvert client --lcoal 1", "did you mean --local?" },
    { "culvert client --xyzzy", "'culvert help client' lists them" },
    { "culvert server --local 1", "--local belongs to 'culvert client'" },
    { "culvert client --start-port 1", "--start-port belongs to 'culvert server'" },
    { "culvert demo --token t", "not to 'culvert demo'" },
    { "culvert gen-cert --tls", "not to 'culvert gen-cert'" },
    { "culvert gen-cert --client a --name b", "call twice" },
    { "culvert gen-cert --name=", "is not a name" },
    { "culvert gen-cert --days 0", "not a number from 1" },
    { "culvert server --name x", "not to 'culvert server'" },
    { "culvert server --days 1", "belongs to 'culvert gen-cert'" },
    { "culvert client web", "'web' stands alone; to expose a local service write its PORT" },
    { "culvert client 3000:10080", "--local 3000 --port 10080" },
    { "culvert server 9000", "write --addr 9000" },
    { "culvert server web", "takes only flags" },
    { "culvert gen-cert a.example:1", "takes only flags" },
    { "culvert http://localhost:3000", "write host and port only, like localhost:3000" },
    /* the words of others */
    { "culvert http 3000", "write: culvert PORT --server HOST:PORT" },
    { "culvert local 3000 --to a.example", "write: culvert PORT --server HOST:PORT" },
    { "culvert listen", "write: culvert server" },
    { "culvert client 3000 --to a.example", "--server HOST:PORT" },
    { "culvert client -R 10080:localhost:3000", "--port 10080 --local localhost:3000" },
    { "culvert client --remote-port 1", "with --port" },
    { "culvert client -c x.toml", "there is no configuration file" },
    { "culvert server --port 9000", "--addr :PORT" },
    { "culvert server --bind-port 9000", "--addr :PORT" },
    { "culvert server --secret x", "--token-file FILE" },
    { "culvert client -x", "is not a flag" },
    { "culvert demo -p 1", "-p is not a flag of 'culvert demo'" },
    /* one flag, several values */
    { "culvert client --local 1 --server a:1,b:2", "like --server a:1 --server b:2" },
    { "culvert client --local a:1,b:2", "like --local a:1 --local b:2" },
    { "culvert a:1,b:2", "like --local a:1 --local b:2" },
    { "culvert client --local 1 --port 1,2", "like --port 1 --port 2" },
    { "culvert client --local 1 -p 1,2", "like --port 1 --port 2" },
    { "culvert client --local 1 --name a,b", "like --name a --name b" },
    { "culvert gen-cert --name a,b", "like --name a --name b" },
    { "culvert server --addr 127.0.0.1:1,[::1]:1", "listens on one address" },
    { "culvert server --public-addr 127.0.0.1,::1", "is not an IP address" },
    { "culvert client --local 1 --port 10080:3000", "like --local 3000 --port 10080" },
    { "culvert client --local", "--local needs a value" },
    { "culvert client --local 1 -p", "--port needs a value" },
    { "culvert client --local 1 -p --tls", "--port needs a value" },
    { "culvert client --local -p", "--local needs a value" },
    /* forms */
    { "culvert server --addr a.example:9000",
      "is a name; write a numeric address of this machine" },
    { "culvert client --local 1 --server https://a.example", "like a.example:9000" },
    { "culvert client --local 1 --server a..b:1", "is not a host name" },
    { "culvert client --local 1 --tls-pin abc", "it is sha256: and 64 hex digits" },
    { "culvert client --local 1 --tls-pin=", "it is sha256: and 64 hex digits" },
    { "culvert client --local 1 --tls-pin abc", "or sha256// and base64, as curl writes it" },
    { "culvert gen-cert --name a/b", "is not a name" },
    { "culvert gen-cert --name a:9000", "without port or zone" },
    { "culvert gen-cert --name fe80::1%lo", "without port or zone" },
    { "culvert help a b", "stands alone" },
    { "culvert server --", "is not a flag" },
    { "culvert server --=x", "is not a flag" },
    { "culvert server -", "stands alone" },
    /* values that are missing or too many */
    { "culvert server --addr", "--addr needs a value; write --addr HOST:PORT" },
    { "culvert client --local", "--local needs a value" },
    { "culvert client --token --local 1", "--token needs a value" },
    { "culvert client --no-reconnect=maybe --local 1", "--no-reconnect takes no value" },
    { "culvert client --no-reconnect= --local 1", "--no-reconnect takes no value" },
    /* wrong values */
    { "culvert server --addr http://x:1", "--addr: 'http://x:1' is a URL" },
    { "culvert server --start-port 0", "not a number from 1 to 65535" },
    { "culvert server --start-port 80", "80 is not one of the ports that clients may get, "
                                        "1024-65535; write one of these, or list it" },
    { "culvert server --ports 80,10000-10100 --start-port 9999", "may get, 80,10000-10100; write" },
    { "culvert server --ports 0", "--ports: '0' is neither a port nor a range" },
    { "culvert server --ports=", "write numbers and ranges like 80,443,10000-10100" },
    { "culvert server --ports 80,443-", "--ports: '443-' is neither" },
    { "culvert server --ports 10100-10000", "write 10000-10100" },
    { "culvert client --local 1 --ports 80", "--ports belongs to 'culvert server'" },
    { "culvert server --start-port 65536", "not a number from 1 to 65535" },
    { "culvert server --start-port 1x", "'1x' is not a number" },
    { "culvert server --public-addr a.example", "is not an IP address" },
    { "culvert server --public-addr [::1", "is not an IP address" },
    { "culvert server --public-addr fe80::1", "needs its interface, like fe80::1%eth0" },
    { "culvert server --addr [fe80::1]:9000", "needs its interface, like [fe80::1%eth0]:9000" },
    { "culvert 3000 --server [fe80::1]:9000", "needs its interface, like [fe80::1%eth0]:9000" },
    { "culvert server --public-addr 1.2.3.4:80", "is not an IP address" },
    { "culvert server --workers 0", "neither 'auto' nor a number from 1 to 256" },
    { "culvert server --workers many", "neither 'auto' nor a number" },
    { "culvert server --cpus 3-1", "write it like 0-3,6" },
    { "culvert server --max-streams 1048577", "from 1 to 1048576" },
    { "culvert server --heartbeat 10", "'10' is not a duration" },
    { "culvert server --heartbeat 1ms", "write a duration from 10ms to 1h" },
    { "culvert server --window-max 2G", "write a size from 4KiB to 1GiB" },
    { "culvert server --window-max big", "'big' is not a size" },
    { "culvert server --log-level loud", "'loud' is not one of error|warn|info|debug" },
    { "culvert server --zero-copy o", "is not one of auto|on|off" },
    { "culvert server --token=", "the token is empty" },
    { "culvert server --token-file=", "write the path of a file" },
    { "culvert client --local 1 --wire v3", "'v3' is not one of auto|v1|v2" },
    { "culvert client --local 1 --port 65536", "is not a port" },
    { "culvert client --local 1 --name a/b", "is not a name" },
    { "culvert client --local 1 --name a\001b", "is not a name" },
    { "culvert client --local 1 --name=", "is not a name" },
    { "culvert client --local 1 --server 9000", "has no host" },
    { "culvert demo --size 0", "write a size from 1MiB" },
    /* values that do not go together */
    { "culvert client --local 1 --port 1 --port 2", "--port is given more often than --local" },
    { "culvert client --local 1 --name a --name b", "--name is given more often than --local" },
    { "culvert client --local 1 --local 2 --wire v1", "--wire v1 carries one tunnel" },
    { "culvert client --local 1 --lanes 2 --wire v1", "--wire v1 has one lane" },
    { "culvert server --heartbeat 30s", "--expiry must be longer than --heartbeat" },
    { "culvert server --window-initial 1M --window-max 64K", "must not be above --window-max" },
    { "culvert client --local 1 --reconnect-attempts never", "neither 'forever' nor a number" },
    { "culvert client --local 1 --reconnect-attempts 0", "neither 'forever' nor a number" },
    { "culvert client --local 1 --reconnect-first 1m", "must not be above --reconnect-max" },
    /* TLS */
    { "culvert server --plain --tls-cert c.pem --tls-key k.pem", "--plain makes no use" },
    { "culvert server --plain --tls", "contradict each other" },
    { "culvert server --tls --tls-cert c.pem", "--tls-cert and --tls-key belong together" },
    { "culvert server --tls --tls-pin x", "belongs to 'culvert client'" },
    { "culvert client --local 1 --plain --tls-ca ca.pem", "--plain makes no use" },
    { "culvert client --local 1 --plain --tls", "contradict each other" },
    { "culvert client --local 1 --tls --tls-ca c.pem --tls-pin " PIN, "give one of them" },
    { "culvert client --local 1 --tls --tls-ca=", "is empty" },
    /* weak tokens */
    { "culvert client --local 1 --server a.example:1", "--token-file is missing" },
    { "culvert client --local 1 --server a:1 --token short",
      "--token: the token is shorter than 16" },
    { "culvert client --local 1 --server [::1]:1 --server a:1 --token changemechangeme",
      "well known" },
    { "culvert client --local 1 --server a:1 --token aaaaaaaaaaaaaaaaaaaa", "again and again" },
};

/* Origins without a flag, letters, and what can mean one thing only. */
START_TEST(short_forms_work)
{
    const struct config *config = parse_ok("culvert 3000 -p 80 --local a:1 [::1]:2 -p81 -p=0");

    ck_assert_uint_eq(config->tunnel_count, 3);
    ck_assert_str_eq(config->tunnels[0].origin.host, "127.0.0.1");
    ck_assert_uint_eq(config->tunnels[0].origin.port, 3000);
    ck_assert_uint_eq(config->tunnels[0].port, 80);
    ck_assert_str_eq(config->tunnels[1].origin.host, "a");
    ck_assert_uint_eq(config->tunnels[1].port, 81);
    ck_assert_str_eq(config->tunnels[2].origin.host, "::1");
    ck_assert_str_eq(config->servers[0].host, "localhost");
    ck_assert(options.server_is_default);
    config = parse_ok("culvert client a:1 --server localhost --server [::1] --server 127.0.0.1:7");
    ck_assert_uint_eq(config->servers[0].port, 9000);
    ck_assert_uint_eq(config->servers[1].port, 9000);
    ck_assert_uint_eq(config->servers[2].port, 7);
    ck_assert(!options.server_is_default);
    ck_assert_uint_eq(parse_ok("culvert server -p 7000")->listen.port, 7000);
    ck_assert_uint_eq(parse_ok("culvert server -p:7001")->listen.port, 7001);
    ck_assert_str_eq(parse_ok("culvert server -p localhost:7000")->listen.host, "127.0.0.1");
    ck_assert_str_eq(parse_ok("culvert server --public-addr localhost")->public_addr, "127.0.0.1");
    ck_assert_str_eq(parse_ok("culvert server --public-addr ::1%lo")->public_addr, "::1%lo");
}
END_TEST

/* Of every command, whatever else is missing. */
START_TEST(the_version_is_everybodys)
{
    static const char *const flags[] = { "-v", "-V", "--version", "-version" };
    char line[64];

    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
        for (unsigned command = 0; command < OPTIONS_COMMAND_COUNT; command++) {
            snprintf(line, sizeof(line), "culvert %s %s",
                     options_command_name((enum options_command)command), flags[i]);
            parse_ok(line);
            ck_assert_msg(options.version, "%s", line);
        }
    parse_ok("culvert 3000 -v");
    ck_assert(options.version);
}
END_TEST

/* An interface that is not there is no fault of the line: it may come. */
START_TEST(a_zone_may_come_later)
{
    const struct config *config =
        parse_ok("culvert --server [fe80::1%no-such-0]:1 --local [fe80::2%no-such-1]:2 "
                 "--token abcdefgh01234567");

    ck_assert_str_eq(config->servers[0].host, "fe80::1%no-such-0");
    ck_assert_str_eq(config->tunnels[0].origin.host, "fe80::2%no-such-1");
    config =
        parse_ok("culvert server --addr [fe80::1%no-such-0]:1 --public-addr fe80::1%no-such-0");
    ck_assert_str_eq(config->listen.host, "fe80::1%no-such-0");
    ck_assert_str_eq(config->public_addr, "fe80::1%no-such-0");
}
END_TEST

START_TEST(a_wrong_line_is_told_the_cure)
{
    assert_refused(refused[_i].line, refused[_i].says);
}
END_TEST

/* `start`, then `flag` so many times. */
static const char *repeat(const char *start, const char *flag, unsigned times)
{
    static char line[2048];
    size_t size = (size_t)snprintf(line, sizeof(line), "%s", start);

    for (unsigned i = 0; i < times; i++)
        size += (size_t)snprintf(line + size, sizeof(line) - size, " %s", flag);
    ck_assert_uint_lt(size, sizeof(line));
    return line;
}

START_TEST(lists_end_with_a_sentence)
{
    const char *start = "culvert client --local 1";

    parse_ok(repeat("culvert client", "--local 1", CONFIG_TUNNELS_MAX));
    assert_refused(repeat(start, "--local 1", CONFIG_TUNNELS_MAX), "at most 16 tunnels");
    parse_ok(repeat(start, "--server [::1]:1", CONFIG_SERVERS_MAX));
    assert_refused(repeat(start, "--server [::1]:1", CONFIG_SERVERS_MAX + 1), "at most 8 servers");
    assert_refused(repeat(start, "--port 1", CONFIG_TUNNELS_MAX + 1), "more than 16 times");
    assert_refused(repeat(start, "--name a", CONFIG_TUNNELS_MAX + 1), "more than 16 times");
}
END_TEST

/* `start` and then the letter so many times. */
static const char *pad(const char *start, char letter, size_t times)
{
    static char line[3000];
    size_t size = (size_t)snprintf(line, sizeof(line), "%s", start);

    ck_assert_uint_lt(size + times, sizeof(line));
    memset(line + size, letter, times);
    line[size + times] = '\0';
    return line;
}

START_TEST(a_long_word_does_not_break_a_sentence)
{
    assert_refused(pad("culvert server --", 'a', 2000), "is not a flag");
    assert_refused(pad("culvert server --addr=", 'b', 2000), "too long for a host");
    assert_refused(pad("culvert server --addr=", 'b', 200), "has no port");
    assert_refused(pad("culvert client --server 1,", 'b', 2000), "repeat the flag");
    assert_refused(pad("culvert client --local 1:", '2', 2000), "has two ports");
    assert_refused(pad("culvert client http://", 'b', 2000), "is a URL");
    assert_refused(pad("culvert ", 'c', 2000), "is not a command");
    assert_refused(pad("culvert client ", 'd', 2000), "stands alone");
    assert_refused(pad("culvert client --local 1 --name ", 'e', 64), "is not a name");
    parse_ok(pad("culvert client --local 1 --name ", 'f', 63));
}
END_TEST

/* Token */

START_TEST(the_token_is_wiped_from_argv)
{
    char command[] = "culvert", server[] = "server", flag[] = "--token", value[] = "s3cret";
    char joined[] = "--token=other";
    char *argv[] = { command, server, flag, value, joined, NULL };

    ck_assert(options_parse(5, argv, &options, &error));
    ck_assert_str_eq(options.config.token, "other");
    ck_assert_mem_eq(value, "\0\0\0\0\0\0", 7);
    ck_assert_mem_eq(joined, "--token=\0\0\0\0\0", 14);
}
END_TEST

START_TEST(a_refused_token_is_wiped_too_and_not_quoted)
{
    assert_refused(pad("culvert server --token=", 's', CONFIG_TOKEN_MAX + 1),
                   "longer than 1000 bytes");
    ck_assert_ptr_null(strstr(error.text, "sss"));
    ck_assert_str_eq(words[2], "--token=");
    parse_ok(pad("culvert server --token=", 's', CONFIG_TOKEN_MAX));
    ck_assert_uint_eq(options.config.token_size, CONFIG_TOKEN_MAX);
    assert_refused("culvert server --tokn=hunter2", "did you mean --token?");
    ck_assert_ptr_null(strstr(error.text, "hunter2"));
}
END_TEST

/* Where a secret stands in the word of a flag that there is not: here, or where people come
 * from. */
START_TEST(a_flag_with_a_token_in_it_is_not_quoted)
{
    static const struct {
        const char *line, *says;
    } known[] = {
        { "culvert client 3000 -tHunter2", "-t... is not a flag of 'culvert client'; a token is" },
        { "culvert client 3000 -t:Hunter2", "-t... is not a flag of 'culvert client'; a token is" },
        { "culvert client 3000 -t=Hunter2", "-t is not a flag of 'culvert client'; a token is" },
        { "culvert server --token:Hunter2", "--token... is not a flag of 'culvert server'" },
        { "culvert server --tokenHunter2", "--token... is not a flag of 'culvert server'" },
        { "culvert server -tokenHunter2", "-token... is not a flag of 'culvert server'" },
        { "culvert server --token-Hunter2", "--token... is not a flag of 'culvert server'" },
        { "culvert server --secretHunter2", "--secret... is not a flag of 'culvert server'" },
        { "culvert server --password:Hunter2", "a token is named with --token-file FILE" },
        { "culvert server --auth-tokenHunter2", "a token is named with --token-file FILE" },
        { "culvert server --auth:Hunter2", "--auth... is not a flag of 'culvert server'; a token" },
        { "culvert demo --tokenHunter2", "--token... is not a flag of 'culvert demo'" },
        { "culvert client 3000 --token -p2 Hunter2", "or --token=T if it begins as a flag does" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        assert_refused(known[i].line, known[i].says);
        ck_assert_msg(strstr(error.text, "unter") == NULL, "%s", error.text);
    }
    /* what begins like that and is nearly a flag is told which one */
    assert_refused("culvert client 3000 --token-fiel x", "did you mean --token-file?");
    assert_refused("culvert client 3000 -tls-acept-new", "did you mean --tls-accept-new?");
    assert_refused("culvert client 3000 --tls-acept-new", "--tls-acept-new is not a flag");
    assert_refused("culvert demo --token-file x", "--token-file belongs to 'culvert server'");
    ck_assert_str_eq(parse_ok("culvert server --token -p3abc")->token, "-p3abc");
}
END_TEST

/* Whatever a word has in it, and wherever it is quoted. */
START_TEST(an_error_is_text)
{
    static const char *const lines[] = {
        "culvert \033[31m x",          "culvert client --\033[31m",
        "culvert client \033[31m",     "culvert server --addr \033:1",
        "culvert server --ports \033", "culvert server --workers \033",
        "culvert --local \033,\177",   "culvert 1 --tls-pin \302\233",
        "culvert server \n",           "culvert server --token-file /\033",
    };

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        ck_assert(!parse(lines[i]));
        for (const char *at = error.text; *at != '\0'; at++)
            ck_assert_msg((unsigned char)*at >= ' ' && (unsigned char)*at < 0x7f, "%zu: %s", i,
                          error.text);
    }
    assert_refused("culvert \033[31m x", "'?[31m' is not a command");
    assert_refused("culvert Z\303\274rich x", "'Z\303\274rich' is not a command");
}
END_TEST

/* A token file with these contents; the line to parse names it. */
static void with_file(const char *bytes, size_t size, mode_t mode, char line[128])
{
    char path[] = "/tmp/culvert-test-XXXXXX";
    int fd = mkstemp(path);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, size), (ssize_t)size);
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
    snprintf(line, 128, "culvert server --token-file %s", path);
}

static void remove_file(const char *line)
{
    unlink(strrchr(line, ' ') + 1);
}

static const struct {
    const char *bytes;
    const char *token; /* NULL: refused as empty */
} files[] = {
    { "secret\n", "secret" },
    { "secret", "secret" },
    { "two words\n", "two words" },
    { "secret\n\n", "secret\n" },
    { " x ", "x" },
    { "\xef\xbb\xbfsecret\r\n", "secret" },
    { "\xef\xbb\xbf# mine\r\n\r\none \t\r\n\ttwo\r\n # his\r\n", "\n\none\ntwo\n" },
    { "#one\n#two", NULL },
    { "# one\nsecret#1\n", "\nsecret#1" },
    { " \t\none\n\f\n", "\none\n" },
    { "\xef\xbb\xbf", NULL },
    { " \r\n\t\r\n", NULL },
    { "one\n\ntwo\n", "one\n\ntwo" },
    { "\none", "\none" },
    { "one\r\n\r\ntwo\r\n", "one\n\ntwo" },
    { "secret\r", "secret" },
    { "a\rb\n", "a\rb" },
    { "\r\n\r\n", NULL },
    { "", NULL },
    { "\n", NULL },
    { "\n\n", NULL },
    { "\n\n\n\n\n", NULL },
};

START_TEST(a_token_file_loses_one_newline)
{
    char line[128];
    bool ok;

    with_file(files[_i].bytes, strlen(files[_i].bytes), 0600, line);
    ok = parse(line);
    remove_file(line);
    ck_assert_int_eq(ok, files[_i].token != NULL);
    if (ok) {
        ck_assert_str_eq(options.config.token, files[_i].token);
        ck_assert_uint_eq(options.config.token_size, strlen(files[_i].token));
        ck_assert(!options.config.token_is_default);
        ck_assert_str_eq(options.warning, "");
    } else {
        ck_assert_ptr_nonnull(strstr(error.text, "--token-file: the token is empty"));
        ck_assert_int_eq(error.code, EXIT_CODE_USAGE);
        ck_assert_ptr_null(options.config.token);
    }
}
END_TEST

/* Parses with a token file of these contents, which is gone afterwards. */
static bool parse_file(const char *bytes, size_t size)
{
    char line[128];

    with_file(bytes, size, 0600, line);
    bool ok = parse(line);
    remove_file(line);
    return ok;
}

static void assert_file_refused(const char *bytes, size_t size, const char *says)
{
    ck_assert(!parse_file(bytes, size));
    ck_assert_str_eq(error.text, says);
    ck_assert_int_eq(error.code, EXIT_CODE_USAGE);
    ck_assert_ptr_null(options.config.token);
}

/* As PowerShell's `>` writes it: half of the token would be zeros. At the start and again. */
START_TEST(a_token_file_in_utf16_is_refused)
{
    static const struct {
        const char *bytes;
        size_t size;
    } known[] = {
        { "\xff\xfe"
          "s\0e\0c\0r\0e\0t\0\r\0\n\0",
          18 },
        { "\xfe\xff\0s\0e\0c\0r\0e\0t\0\n", 16 },
        { "\xff\xfe", 2 },
    };
    char warning[OPTIONS_WARNING_MAX], line[128];

    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        struct config config = { .token_file = NULL }, fresh = { .token_file = NULL };

        ck_assert(!parse_file(known[i].bytes, known[i].size));
        ck_assert_int_eq(error.code, EXIT_CODE_USAGE);
        ck_assert_ptr_nonnull(strstr(error.text, "' is UTF-16: save it as UTF-8"));
        with_file(known[i].bytes, known[i].size, 0600, line);
        config.token_file = strrchr(line, ' ') + 1;
        memset(&error, 0, sizeof(error));
        ck_assert(!options_token_again(&config, &fresh, warning, &error));
        remove_file(line);
        ck_assert_ptr_null(fresh.token);
        ck_assert_ptr_nonnull(strstr(error.text, "' is UTF-16: save it as UTF-8"));
    }
    ck_assert(parse_file("\xff", 1)); /* a token of one byte is one */
}
END_TEST

/* Lines: too long is the last of them, or it is not. */
START_TEST(each_token_of_a_file_has_a_limit)
{
    static const char before[] = "short\n\nother\n";
    char bytes[sizeof(before) - 1 + CONFIG_TOKEN_MAX + 2], *last = bytes + sizeof(before) - 1;

    memcpy(bytes, before, sizeof(before) - 1);
    memset(last, 't', CONFIG_TOKEN_MAX + 1);
    last[CONFIG_TOKEN_MAX + 1] = '\n';
    assert_file_refused(last, CONFIG_TOKEN_MAX + 2,
                        "--token-file: the token is longer than 1000 bytes; use a shorter one");
    assert_file_refused(
        bytes, sizeof(bytes),
        "--token-file: line 4: the token is longer than 1000 bytes; use a shorter one");
    assert_file_refused(
        bytes, sizeof(bytes) - 1,
        "--token-file: line 4: the token is longer than 1000 bytes; use a shorter one");
    last[CONFIG_TOKEN_MAX] = '\n';
    ck_assert(parse_file(last, CONFIG_TOKEN_MAX + 1));
    ck_assert_uint_eq(options.config.token_size, FRAME_TOKEN_MAX);
    ck_assert(parse_file(bytes, sizeof(bytes) - 1));
    ck_assert_uint_eq(options.config.token_size, sizeof(bytes) - 2);
}
END_TEST

/* Every size about those at which the memory that it is read into grows. */
START_TEST(a_token_file_may_have_any_number_of_lines)
{
    static char bytes[100000];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)(i % 33 == 32 ? '\n' : 'a' + i * 7919 % 26);
    for (size_t size = 1000; size < sizeof(bytes);
         size = size % 16 < 15 ? size + 1 : 2 * (size - 15)) {
        ck_assert(parse_file(bytes, size));
        size_t kept = bytes[size - 1] == '\n' ? size - 1 : size;
        ck_assert_uint_eq(options.config.token_size, kept);
        ck_assert_mem_eq(options.config.token, bytes, kept);
        ck_assert_int_eq(options.config.token[kept], '\0');
    }
}
END_TEST

START_TEST(a_token_file_has_a_limit)
{
    char *bytes = malloc(CONFIG_TOKENS_MAX + 1);

    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i <= CONFIG_TOKENS_MAX; i++)
        bytes[i] = i % 800 == 799 ? '\n' : 't';
    ck_assert(parse_file(bytes, CONFIG_TOKENS_MAX));
    ck_assert_uint_eq(options.config.token_size, CONFIG_TOKENS_MAX);
    ck_assert(!parse_file(bytes, CONFIG_TOKENS_MAX + 1));
    free(bytes);
    assert_refused("culvert server --token-file /dev/zero",
                   "--token-file: '/dev/zero' is larger than 16 MiB; name a file of tokens");
}
END_TEST

/* In a file it is a blank line; what looks as one and is none (zeros) was not meant as a secret. */
START_TEST(a_line_that_looks_blank_is_no_token)
{
    static const char *const blanks[] = { " ", "\t", " \t \v", "\f\r\r" };
    char bytes[64];

    for (size_t i = 0; i < ARRAY_SIZE(blanks); i++) {
        int size = snprintf(bytes, sizeof(bytes), "one\n\n%s\ntwo\n", blanks[i]);
        ck_assert(parse_file(bytes, (size_t)size));
        ck_assert_str_eq(options.config.token, "one\n\n\ntwo");
        setenv("CULVERT_TOKEN", blanks[i], 1);
        assert_refused("culvert server", "CULVERT_TOKEN: line 1: the token is nothing but white");
    }
    assert_file_refused("one\n\n\0\0\n", 8,
                        "--token-file: line 3: the token is nothing but white space");
}
END_TEST

/* Ten thousand lines of an editor on Windows, every tenth a comment or blank. */
START_TEST(a_file_of_any_editor_is_read)
{
    static char bytes[10000 * 16], want[16];
    size_t size = (size_t)snprintf(bytes, sizeof(bytes), "\xef\xbb\xbf");
    struct config_token token = { 0 };
    unsigned count = 0;

    for (unsigned i = 0; i < 10000; i++)
        size += (size_t)snprintf(bytes + size, sizeof(bytes) - size,
                                 i % 20 == 0   ? "# %u\r\n"
                                 : i % 20 == 9 ? "  \r\n"
                                               : "t%u \r\n",
                                 i);
    ck_assert(parse_file(bytes, size));
    while (config_next_token(&options.config, &token)) {
        int want_size = snprintf(want, sizeof(want), "t%u", token.line);
        ck_assert_uint_eq(token.size, (size_t)want_size);
        ck_assert_mem_eq(token.bytes, want, token.size);
        count++;
    }
    ck_assert_uint_eq(count, 9000);
}
END_TEST

/* What is not a file's is taken as it is, and said to be so. */
START_TEST(white_space_at_the_ends_is_warned_about)
{
    setenv("CULVERT_TOKEN", "secret\r", 1);
    ck_assert_str_eq(parse_ok("culvert server")->token, "secret\r");
    ck_assert_ptr_nonnull(strstr(options.warning, "CULVERT_TOKEN: the token begins or ends with"));
    ck_assert_str_eq(parse_ok("culvert --local 1")->token, "secret\r");
    ck_assert_ptr_nonnull(strstr(options.warning, "CULVERT_TOKEN: the token begins or ends with"));
    setenv("CULVERT_TOKEN", "sec ret", 1);
    parse_ok("culvert server");
    ck_assert_str_eq(options.warning, "");
    unsetenv("CULVERT_TOKEN");
    parse_ok("culvert server");
    ck_assert_str_eq(options.warning, "");
}
END_TEST

/* A client shows who it is by one token. */
START_TEST(a_client_has_one_token)
{
    char line[128], client[160];

    with_file("one\n\ntwo\n", 9, 0600, line);
    snprintf(client, sizeof(client), "culvert client --local 1 %s", strstr(line, "--token-file"));
    assert_refused(client, "--token-file: the token has several lines; only a server has several");
    remove_file(line);
    with_file("\xef\xbb\xbf# mine\r\n\r\none \r\n\r\n", 20, 0600, line);
    snprintf(client, sizeof(client), "culvert client --local 1 %s", strstr(line, "--token-file"));
    ck_assert_str_eq(parse_ok(client)->token, "one");
    remove_file(line);
    setenv("CULVERT_TOKEN", "one\ntwo", 1);
    assert_refused("culvert client --local 1", "CULVERT_TOKEN: the token has several lines");
    ck_assert_str_eq(parse_ok("culvert server")->token, "one\ntwo");
}
END_TEST

START_TEST(a_token_may_hold_any_byte)
{
    char line[128];
    bool ok;

    with_file("a\0b\377\n", 5, 0600, line);
    ok = parse(line);
    remove_file(line);
    ck_assert(ok);
    ck_assert_uint_eq(options.config.token_size, 4);
    ck_assert_mem_eq(options.config.token, "a\0b\377", 5);
}
END_TEST

START_TEST(a_public_token_file_is_warned_about)
{
    char line[128];
    bool ok;

    with_file("x\n", 2, 0644, line);
    ok = parse(line);
    remove_file(line);
    ck_assert(ok);
    ck_assert_ptr_nonnull(strstr(options.warning, "can be read by every user"));
    ck_assert_ptr_nonnull(strstr(options.warning, "chmod 600"));
}
END_TEST

START_TEST(a_token_file_that_is_not_there_is_no_default)
{
    setenv("CULVERT_TOKEN", "from-environment", 1);
    ck_assert(!parse("culvert server --token-file /nonexistent/token"));
    ck_assert_ptr_nonnull(strstr(error.text, "cannot read '/nonexistent/token': No such file"));
    ck_assert_int_eq(error.code, EXIT_CODE_CANNOT_START);
    ck_assert(!parse("culvert server --token-file /"));
    ck_assert_ptr_nonnull(strstr(error.text, "cannot read '/': Is a directory"));
    ck_assert_int_eq(error.code, EXIT_CODE_CANNOT_START);
}
END_TEST

static struct config fresh;
static char warning[OPTIONS_WARNING_MAX];

static void assert_not_again(const char *says)
{
    ck_assert(!options_token_again(&options.config, &fresh, warning, &error));
    ck_assert_ptr_null(fresh.token);
    ck_assert_msg(strstr(error.text, says) != NULL, "'%s' is not in '%s'", says, error.text);
    ck_assert_str_eq(options.config.token, "one\ntwo"); /* what was read at first stays */
}

static void rewrite(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_TRUNC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

START_TEST(a_token_file_is_read_again)
{
    char line[128], path[128];

    with_file("one\ntwo\n", 8, 0600, line);
    snprintf(path, sizeof(path), "%s", strrchr(line, ' ') + 1);
    const struct config *config = parse_ok(line);
    ck_assert_str_eq(config->token_file, path);
    ck_assert(config->token_again && !config->token_is_default);
    rewrite(path, "three\r\n\ntwo\n");
    ck_assert(options_token_again(config, &fresh, warning, &error));
    ck_assert_str_eq(fresh.token, "three\n\ntwo");
    ck_assert(!fresh.token_is_default);
    ck_assert_str_eq(warning, "");
    config_drop_token(&fresh);
    ck_assert_int_eq(chmod(path, 0644), 0);
    ck_assert(options_token_again(config, &fresh, warning, &error));
    ck_assert_ptr_nonnull(strstr(warning, "chmod 600"));
    config_drop_token(&fresh);
    rewrite(path, "");
    assert_not_again("the token is empty");
    rewrite(path, "\n\n");
    assert_not_again("the token is empty");
    rewrite(path, "# one\n \t\n");
    assert_not_again("the token is empty");
    unlink(path);
    assert_not_again("No such file");
    ck_assert_int_eq(mkfifo(path, 0600), 0); /* nobody writes to it: that is not waited for */
    assert_not_again("is no regular file any more");
    unlink(path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    assert_not_again("is no regular file any more");
    rmdir(path);
}
END_TEST

START_TEST(a_pipe_is_not_read_again)
{
    char line[128];
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(write(fds[1], "secret\n", 7), 7);
    close(fds[1]);
    snprintf(line, sizeof(line), "culvert server --token-file /dev/fd/%d", fds[0]);
    ck_assert(!parse_ok(line)->token_again);
    ck_assert_str_eq(options.config.token, "secret");
    ck_assert_ptr_nonnull(options.config.token_file);
    close(fds[0]);
    ck_assert_ptr_null(parse_ok("culvert server --token x")->token_file);
    ck_assert_ptr_null(parse_ok("culvert server")->token_file);
    ck_assert_ptr_null(parse_ok("culvert server --token-file /nowhere --token x")->token_file);
}
END_TEST

START_TEST(token_precedence)
{
    char file_line[128], line[256];
    bool ok;

    setenv("CULVERT_TOKEN", "from-environment", 1);
    ck_assert_str_eq(parse_ok("culvert server")->token, "from-environment");
    ck_assert(!options.config.token_is_default);
    with_file("from-file\n", 10, 0600, file_line);
    ok = parse(file_line);
    ck_assert(ok);
    ck_assert_str_eq(options.config.token, "from-file");
    snprintf(line, sizeof(line), "%s --token from-flag", file_line);
    ok = parse(line);
    remove_file(file_line);
    ck_assert(ok);
    ck_assert_str_eq(options.config.token, "from-flag");
    setenv("CULVERT_TOKEN", "", 1);
    assert_refused("culvert server", "CULVERT_TOKEN: the token is empty");
    ck_assert_str_eq(parse_ok("culvert server --token x")->token, "x");
}
END_TEST

/* Whatever is wrong with the line, before or after the token. */
START_TEST(a_refused_command_line_leaves_no_token)
{
    assert_refused("culvert server --token s --tokn x", "did you mean --token?");
    assert_refused("culvert server --token s --token t --expiry 1s", "--expiry must be longer");
    assert_refused("culvert client --token s", "--local is missing");
    assert_refused("culvert server --expiry 1s", "--expiry must be longer");
    ck_assert(!parse("culvert server --token s --token-file"));
    ck_assert_ptr_null(options.config.token);
    parse_ok("culvert server --token s --help"); /* it is the caller's, for whom it is of no use */
    ck_assert_str_eq(options.config.token, "s");
}
END_TEST

/* A configured token may read "dev-token" and is then not the default: somebody chose it. */
START_TEST(only_the_missing_token_is_the_default)
{
    ck_assert(!parse_ok("culvert server --token dev-token")->token_is_default);
    ck_assert(parse_ok("culvert server")->token_is_default);
}
END_TEST

/* Environment */

START_TEST(cores_are_checked_against_this_process)
{
    struct config config = { .cpu_count = 1 };
    cpu_set_t set;
    int in = 0, out = 0;

    ck_assert_int_eq(sched_getaffinity(0, sizeof(set), &set), 0);
    while (!CPU_ISSET(in, &set))
        in++;
    while (CPU_ISSET(out, &set))
        out++;
    config.cpus[0] = in;
    ck_assert(options_check_machine(&config, &error));
    config.cpus[0] = out;
    ck_assert(!options_check_machine(&config, &error));
    ck_assert_int_eq(error.code, EXIT_CODE_CANNOT_START);
    ck_assert_ptr_nonnull(strstr(error.text, "may not run on core"));
    config.cpu_count = 0;
    ck_assert(options_check_machine(&config, &error));
}
END_TEST

/* Help */

/* The help of a command, in memory. */
static char *flags_text(enum options_command command)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    ck_assert_ptr_nonnull(out);
    options_print_flags(out, command);
    fclose(out);
    return text;
}

START_TEST(help_lists_the_flags_of_its_command_only)
{
    char *server = flags_text(OPTIONS_SERVER), *client = flags_text(OPTIONS_CLIENT);

    ck_assert_ptr_nonnull(strstr(server, "--start-port N"));
    ck_assert_ptr_nonnull(strstr(server, "(default :9000)"));
    ck_assert_ptr_null(strstr(server, "--local "));
    ck_assert_ptr_nonnull(strstr(client, "--local HOST:PORT"));
    ck_assert_ptr_nonnull(strstr(client, "  -p, --port N"));
    ck_assert_ptr_nonnull(strstr(server, "  -p, --addr HOST:PORT"));
    ck_assert_ptr_null(strstr(client, "--start-port"));
    ck_assert_ptr_nonnull(strstr(server, "--heartbeat D"));
    ck_assert_ptr_nonnull(strstr(client, "--heartbeat D"));
    free(server);
    free(client);
}
END_TEST

/* Programs split its lines at tabs: none may come from a text. */
START_TEST(table_has_its_fields_in_each_line)
{
    char *text = NULL, *rest, *line;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    ck_assert_ptr_nonnull(out);
    options_print_table(out);
    fclose(out);
    ck_assert_ptr_nonnull(strstr(text, "\tclient,demo\twire\tauto|v1|v2\tauto\t"));
    ck_assert_ptr_nonnull(strstr(text, "\nletter\tp\tclient\tport\n"));
    ck_assert_ptr_nonnull(strstr(text, "\nletter\tp\tserver\taddr\n"));
    for (rest = text; (line = strsep(&rest, "\n")) != NULL && line[0] != '\0';) {
        unsigned tabs = 0;

        bool letter = strncmp(line, "letter\t", 7) == 0;

        ck_assert_msg(letter || strncmp(line, "flag\t", 5) == 0, "%s", line);
        for (const char *at = line; *at != '\0'; at++)
            tabs += *at == '\t';
        ck_assert_msg(tabs == (letter ? 3 : 6), "%s", line);
    }
    free(text);
}
END_TEST

START_TEST(help_is_80_columns_wide)
{
    for (unsigned command = 0; command < OPTIONS_COMMAND_COUNT; command++) {
        char *text = flags_text((enum options_command)command);

        for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
            ck_assert_msg(strlen(line) <= 79, "%zu columns: %s", strlen(line), line);
        free(text);
    }
}
END_TEST

/* docs/OPERATIONS.md repeats the flags by hand: a new flag must be described there. */
START_TEST(the_document_names_every_flag)
{
    static char doc[1 << 16];
    const char *source = getenv("CULVERT_SOURCE_DIR");
    char path[1024];
    FILE *file;
    size_t size;

    snprintf(path, sizeof(path), "%s/docs/OPERATIONS.md", source != NULL ? source : ".");
    file = fopen(path, "r");
    ck_assert_msg(file != NULL, "%s cannot be read; run this test from the top or through ctest",
                  path);
    size = fread(doc, 1, sizeof(doc) - 1, file);
    fclose(file);
    ck_assert_uint_lt(size, sizeof(doc) - 1);
    for (unsigned command = 0; command < OPTIONS_COMMAND_COUNT; command++) {
        char *text = flags_text((enum options_command)command);

        for (char *at = strstr(text, " --"); at != NULL; at = strstr(at + 3, " --")) {
            char name[64];

            ck_assert_int_eq(sscanf(at + 1, "%63[a-z0-9-]", name), 1);
            ck_assert_msg(strstr(doc, name) != NULL, "%s does not name %s", path, name);
        }
        free(text);
    }
}
END_TEST

START_TEST(exit_codes_never_change)
{
    ck_assert_int_eq(EXIT_CODE_OK, 0);
    ck_assert_int_eq(EXIT_CODE_FAILED, 1);
    ck_assert_int_eq(EXIT_CODE_USAGE, 2);
    ck_assert_int_eq(EXIT_CODE_CANNOT_START, 3);
    ck_assert_int_eq(EXIT_CODE_GAVE_UP, 4);
    ck_assert_int_eq(EXIT_CODE_AUTH_REFUSED, 5);
    for (int status = 0; status <= 5; status++)
        ck_assert_str_ne(exit_code_text(status), exit_code_text(99));
}
END_TEST

static void add_token_tests(TCase *tcase)
{
    tcase_add_test(tcase, the_token_is_wiped_from_argv);
    tcase_add_test(tcase, a_refused_token_is_wiped_too_and_not_quoted);
    tcase_add_test(tcase, a_flag_with_a_token_in_it_is_not_quoted);
    tcase_add_test(tcase, an_error_is_text);
    tcase_add_test(tcase, a_token_file_in_utf16_is_refused);
    tcase_add_loop_test(tcase, a_token_file_loses_one_newline, 0, ARRAY_SIZE(files));
    tcase_add_test(tcase, each_token_of_a_file_has_a_limit);
    tcase_add_test(tcase, a_token_file_may_have_any_number_of_lines);
    tcase_add_test(tcase, a_token_file_has_a_limit);
    tcase_add_test(tcase, a_line_that_looks_blank_is_no_token);
    tcase_add_test(tcase, a_file_of_any_editor_is_read);
    tcase_add_test(tcase, white_space_at_the_ends_is_warned_about);
    tcase_add_test(tcase, a_client_has_one_token);
    tcase_add_test(tcase, a_refused_command_line_leaves_no_token);
    tcase_add_test(tcase, a_token_may_hold_any_byte);
    tcase_add_test(tcase, a_public_token_file_is_warned_about);
    tcase_add_test(tcase, a_token_file_that_is_not_there_is_no_default);
    tcase_add_test(tcase, a_token_file_is_read_again);
    tcase_add_test(tcase, a_pipe_is_not_read_again);
    tcase_add_test(tcase, token_precedence);
    tcase_add_test(tcase, only_the_missing_token_is_the_default);
}

int main(void)
{
    Suite *suite = suite_create("options");
    TCase *tcase = tcase_create("options");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, the_command_is_found, 0, ARRAY_SIZE(commands));
    tcase_add_test(tcase, help_takes_a_topic_and_version_features);
    tcase_add_test(tcase, server_defaults);
    tcase_add_loop_test(tcase, public_ports_and_the_first_choice, 0, ARRAY_SIZE(ports));
    tcase_add_test(tcase, client_defaults);
    tcase_add_test(tcase, demo_defaults);
    tcase_add_test(tcase, every_server_flag_reaches_its_place);
    tcase_add_test(tcase, every_client_flag_reaches_its_place);
    tcase_add_test(tcase, tls_is_the_default);
    tcase_add_test(tcase, plain_lanes_outlive_their_connection_on_request_only);
    tcase_add_test(tcase, the_state_directory_is_where_it_is_needed);
    tcase_add_test(tcase, a_weak_token_is_taken_on_loopback);
    tcase_add_test(tcase, demo_flags_reach_their_place);
    tcase_add_test(tcase, gen_cert_flags_reach_their_place);
    tcase_add_loop_test(tcase, state_directory_of_the_service_manager, 0, ARRAY_SIZE(state_dirs));
    tcase_add_test(tcase, name_of_a_tunnel_is_no_name_of_a_certificate);
    tcase_add_test(tcase, the_forms_of_a_go_program_work);
    tcase_add_test(tcase, the_last_one_counts);
    tcase_add_test(tcase, a_value_may_look_like_a_flag_after_equals);
    tcase_add_test(tcase, auto_workers_are_the_cores_of_this_process);
    tcase_add_test(tcase, short_forms_work);
    tcase_add_test(tcase, the_version_is_everybodys);
    tcase_add_test(tcase, a_zone_may_come_later);
    tcase_add_loop_test(tcase, a_wrong_line_is_told_the_cure, 0, ARRAY_SIZE(refused));
    tcase_add_test(tcase, lists_end_with_a_sentence);
    tcase_add_test(tcase, a_long_word_does_not_break_a_sentence);
    add_token_tests(tcase);
    tcase_add_test(tcase, cores_are_checked_against_this_process);
    tcase_add_test(tcase, help_lists_the_flags_of_its_command_only);
    tcase_add_test(tcase, table_has_its_fields_in_each_line);
    tcase_add_test(tcase, help_is_80_columns_wide);
    tcase_add_test(tcase, the_document_names_every_flag);
    tcase_add_test(tcase, exit_codes_never_change);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
