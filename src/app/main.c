/*
 * main: the process before the engine: limits and signals that concern all of
 * it, the command line, and the dispatch to a command. Everything else is the
 * engine's (app/engine.h) or the demo's (app/demo.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "app/demo.h"
#include "app/engine.h"
#include "app/gen_cert.h"
#include "app/help.h"
#include "config/options.h"
#include "core/base/base.h"
#include "core/base/exit_code.h"
#include "core/base/log.h"
#include "core/base/secret.h"
#include "core/base/sink.h"
#include "core/io/ring.h"
#include "culvert_version.h"
#include "tls/tls.h"

#define SAY_AT_ONCE (200 * NSEC_PER_MSEC)

/* What stands in for a standard descriptor that was closed: otherwise the next socket has its
 * number, and a peer gets the log. Not closed on exec, since it is the standard descriptor from now
 * on. */
static bool main_open_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        if (open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY) != fd)
            return false;
    }
    return true;
}

/* One descriptor for each visitor and each origin: the soft limit (1024 by
 * custom, for the sake of select) is far below what the tables hold, and the
 * hard one is the administrator's word. */
static void main_raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_at(LOG_WARN, "culvert", "cannot raise the limit of open files: %s", strerror(errno));
}

static volatile sig_atomic_t end_status;

static void main_end_now(int number)
{
    (void)number;
    _exit(end_status);
}

/* What was said may still wait for its readers. As a rule they take it at once; otherwise exit()
 * gives them some time (sink.h), unless one more signal says that there is none. */
static void main_finish_saying(int status)
{
    struct sigaction action = { .sa_handler = main_end_now };
    sigset_t set;

    log_flush(true);
    sink_set_patience(SAY_AT_ONCE);
    sink_drain();
    end_status = status;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static int main_run_engine(struct options *options)
{
    struct options_error error;
    int status;

    if (!options_check_machine(&options->config, &error)) {
        fprintf(stderr, "culvert: %s\n", error.text);
        return error.code;
    }
    if (!log_start()) {
        fprintf(stderr, "culvert: cannot make a thread: %s\n", strerror(errno));
        return EXIT_CODE_CANNOT_START;
    }
    if (options->warning[0] != '\0')
        log_at(LOG_WARN, "culvert", "%s", options->warning);
    if (options->server_is_default)
        log_at(LOG_INFO, "culvert",
               "no server is named, so one on this machine is tried: name another with --server "
               "HOST:PORT");
    main_raise_descriptor_limit();
    secret_warn();
    status = engine_run(&options->config);
    main_finish_saying(status);
    if (engine_left_service()) {
        sink_stop();
        _exit(status);
    }
    return status;
}

static int main_run_demo(struct options *options)
{
    main_raise_descriptor_limit();
    return demo_run(options);
}

static int main_run_version(struct options *options)
{
    printf("culvert %s\n", CULVERT_VERSION_FULL);
    if (options->features)
        ring_features_print(stdout);
    return EXIT_CODE_OK;
}

static int main_run_help(struct options *options)
{
    return help_run(stdout, options->topic);
}

static int main_run_gen_cert(struct options *options)
{
    return gen_cert_run(options);
}

static int (*const commands[OPTIONS_COMMAND_COUNT])(struct options *options) = {
    [OPTIONS_SERVER] = main_run_engine,   [OPTIONS_CLIENT] = main_run_engine,
    [OPTIONS_DEMO] = main_run_demo,       [OPTIONS_GEN_CERT] = main_run_gen_cert,
    [OPTIONS_VERSION] = main_run_version, [OPTIONS_HELP] = main_run_help,
};

static int main_run(struct options *options)
{
    if (options->help) {
        help_print_command(stdout, options->command);
        return EXIT_CODE_OK;
    }
    if (options->version)
        return main_run_version(options);
    return commands[options->command](options);
}

/* The variable is what getenv points to: the strings at the top of this thread's stack. */
static void main_wipe_environment(void)
{
    char *token = getenv("CULVERT_TOKEN");

    if (token != NULL)
        explicit_bzero(token, strlen(token));
}

int main(int argc, char **argv)
{
    if (!main_open_standard_descriptors()) { /* first: all else may open a descriptor */
        fprintf(stderr, "culvert: cannot open /dev/null: %s\n", strerror(errno));
        return EXIT_CODE_CANNOT_START;
    }
    (void)tls_mem_start(); /* false: only our own secrets are kept out of core dumps */
    struct options options;
    struct options_error error;

    signal(SIGPIPE, SIG_IGN); /* a broken connection is an error of one write, not
                               of the process */
    if (!options_parse(argc, argv, &options, &error)) {
        fprintf(stderr, "culvert: %s\n", error.text);
        return error.code;
    }
    main_wipe_environment();
    log_init(options.log_level);
    int status = main_run(&options);
    config_drop_token(&options.config);
    return status;
}
