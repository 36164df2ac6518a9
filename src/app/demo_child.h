/*
 * demo_child: one child process of the demo: this same program as server or
 * client.
 *
 * Its standard output and error are pipes, which demo_child_read() must keep
 * empty. The log is kept (the last DEMO_CHILD_LOG bytes of it), and shown only
 * if something goes wrong, or as it comes with --verbose. The child has a
 * process group of its own, so that Ctrl+C on the terminal reaches only the
 * demo, which then ends its children in order; and the kernel kills it when the
 * demo dies (PR_SET_PDEATHSIG).
 */
#ifndef CULVERT_APP_DEMO_CHILD_H
#define CULVERT_APP_DEMO_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define DEMO_CHILD_LOG 16384u

/* Collects bytes into lines. */
struct demo_child_lines {
    int fd; /* -1: ended */
    size_t size;
    char text[1024];
};

struct demo_child {
    const char *name; /* "server", "client" */
    pid_t pid;        /* 0: not running */
    int status;       /* exit code once it has ended; 128 + signal if it was killed */
    bool verbose;
    struct demo_child_lines out, err;
    size_t log_size;
    char log[DEMO_CHILD_LOG];
};

/* Starts the program with argv (argv[0] included, NULL at the end) and
 * CULVERT_TOKEN=token. False with errno. Call from the main thread: the child
 * dies with the thread that made it. */
bool demo_child_start(struct demo_child *child, const char *name, const char *const argv[],
                      const char *token, bool verbose);

/* Takes what the pipes hold, without waiting; `line` is called for each line of
 * standard output. */
void demo_child_read(struct demo_child *child, void (*line)(void *arg, const char *text),
                     void *arg);

/* Notes the end of the child if it has ended. True if it is not running. */
bool demo_child_ended(struct demo_child *child);

/* Sends the signal if it runs. */
void demo_child_signal(struct demo_child *child, int signal);

/* Prints the kept log on standard error. */
void demo_child_print_log(const struct demo_child *child);

#endif
