/* demo_child: see demo_child.h. */
#include "app/demo_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/base/secret.h"

#define VARIABLE "CULVERT_TOKEN="

/* What the child needs, made before fork: after it only async-signal-safe calls
 * are allowed, because the demo has threads. */
struct launch {
    const char *const *argv;
    char **env;
    int out, err; /* write ends */
    pid_t parent;
};

/* The environment with CULVERT_TOKEN replaced; one allocation. */
static char **demo_child_make_env(char *token)
{
    size_t count = 0, used = 0;
    char **env;

    while (environ[count] != NULL)
        count++;
    env = malloc((count + 2) * sizeof(*env));
    if (env == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], VARIABLE, strlen(VARIABLE)) != 0)
            env[used++] = environ[i];
    env[used++] = token;
    env[used] = NULL;
    return env;
}

/* In the child. Never returns. */
static void demo_child_launch_run(const struct launch *launch)
{
    sigset_t none;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != launch->parent) /* it died before the line above */
        _exit(1);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(launch->out, STDOUT_FILENO) < 0 ||
        dup2(launch->err, STDERR_FILENO) < 0)
        _exit(126);
    /* execve writes to none of them: POSIX, exec, rationale of the missing const. */
    execve("/proc/self/exe", (char *const *)launch->argv, launch->env);
    _exit(127);
}

static bool demo_child_make_pipe(int *read_end, int *write_end)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    *read_end = ends[0];
    *write_end = ends[1];
    return true;
}

static void demo_child_close_lines(struct demo_child_lines *lines)
{
    if (lines->fd >= 0)
        close(lines->fd);
    lines->fd = -1;
}

static pid_t demo_child_fork(struct demo_child *child, struct launch *launch)
{
    pid_t pid = -1;

    if (!demo_child_make_pipe(&child->out.fd, &launch->out))
        return -1;
    if (demo_child_make_pipe(&child->err.fd, &launch->err)) {
        pid = fork();
        if (pid == 0)
            demo_child_launch_run(launch);
        close(launch->err);
    }
    close(launch->out);
    return pid;
}

bool demo_child_start(struct demo_child *child, const char *name, const char *const argv[],
                      const char *token, bool verbose)
{
    char variable[128] = VARIABLE; /* on the stack: secret memory is zeros in the child */
    struct launch launch = { .argv = argv, .parent = getpid() };
    pid_t pid;
    int error;

    CHECK(child->pid == 0);
    *child = (struct demo_child){ .name = name, .verbose = verbose, .out.fd = -1, .err.fd = -1 };
    CHECK(strlen(token) < sizeof(variable) - strlen(VARIABLE));
    secret_copy(variable + strlen(VARIABLE), token, strlen(token) + 1);
    launch.env = demo_child_make_env(variable);
    pid = launch.env != NULL ? demo_child_fork(child, &launch) : -1;
    error = errno;
    explicit_bzero(variable, sizeof(variable));
    free(launch.env);
    if (pid > 0) {
        child->pid = pid;
        return true;
    }
    demo_child_close_lines(&child->out);
    demo_child_close_lines(&child->err);
    errno = error;
    return false;
}

/* Keeps the end of the log: when full, the older half goes. */
static void demo_child_keep_log(struct demo_child *child, const char *text, size_t size)
{
    size = min_size(size, DEMO_CHILD_LOG / 2 - 1);
    if (child->log_size + size + 1 > DEMO_CHILD_LOG) {
        size_t drop = DEMO_CHILD_LOG / 2;
        const char *line = memchr(child->log + drop, '\n', child->log_size - drop);

        if (line != NULL)
            drop = (size_t)(line + 1 - child->log);
        child->log_size -= drop;
        memmove(child->log, child->log + drop, child->log_size);
    }
    memcpy(child->log + child->log_size, text, size);
    child->log_size += size;
    child->log[child->log_size++] = '\n';
}

/* One read; true if there may be more. */
static bool demo_child_lines_read(struct demo_child_lines *lines)
{
    ssize_t n = read(lines->fd, lines->text + lines->size, sizeof(lines->text) - 1 - lines->size);

    if (n > 0) {
        lines->size += (size_t)n;
        return true;
    }
    if (n < 0 && errno == EINTR)
        return true;
    if (n == 0 || errno != EAGAIN)
        demo_child_close_lines(lines);
    return false;
}

/* Takes the next complete line (or all, if there is no room for more, or at the
 * end) into `line`. */
static bool demo_child_lines_take(struct demo_child_lines *lines, char *line)
{
    char *end = memchr(lines->text, '\n', lines->size);
    size_t size = end != NULL ? (size_t)(end - lines->text) : lines->size;
    size_t used = end != NULL ? size + 1 : size;

    if (end == NULL && lines->size < sizeof(lines->text) - 1 && !(lines->fd < 0 && lines->size > 0))
        return false;
    memcpy(line, lines->text, size);
    line[size] = '\0';
    lines->size -= used;
    memmove(lines->text, lines->text + used, lines->size);
    return true;
}

static void demo_child_note_log(void *arg, const char *text)
{
    struct demo_child *child = arg;

    demo_child_keep_log(child, text, strlen(text));
    if (child->verbose)
        fprintf(stderr, "%s| %s\n", child->name, text);
}

static void demo_child_drain(struct demo_child_lines *lines,
                             void (*note)(void *arg, const char *text), void *arg)
{
    char line[sizeof(lines->text)];
    bool more = lines->fd >= 0;

    while (more) {
        more = demo_child_lines_read(lines);
        while (demo_child_lines_take(lines, line))
            note(arg, line);
    }
}

void demo_child_read(struct demo_child *child, void (*line)(void *arg, const char *text), void *arg)
{
    demo_child_drain(&child->out, line, arg);
    demo_child_drain(&child->err, demo_child_note_log, child);
}

bool demo_child_ended(struct demo_child *child)
{
    int status;

    if (child->pid == 0 || waitpid(child->pid, &status, WNOHANG) != child->pid)
        return child->pid == 0;
    child->pid = 0;
    child->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return true;
}

void demo_child_signal(struct demo_child *child, int signal)
{
    if (child->pid != 0)
        kill(child->pid, signal);
}

void demo_child_print_log(const struct demo_child *child)
{
    size_t at = 0;

    if (child->verbose) /* already shown */
        return;
    while (at < child->log_size) {
        const char *line = child->log + at;
        const char *end = memchr(line, '\n', child->log_size - at);

        fprintf(stderr, "%s| %.*s\n", child->name, (int)(end - line), line);
        at += (size_t)(end - line) + 1;
    }
}
