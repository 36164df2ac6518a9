/*
 * What the programs of bench/ share: addresses, sizes, listeners, options.
 *
 * These programs are measuring tools. Anything that cannot start ends the process with one sentence
 * on stderr and exit code 1; a broken invariant ends it through bench_check().
 */
#ifndef BENCH_UTIL_H
#define BENCH_UTIL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One "--name value" or "--name" option; fill exactly one of the targets, leave the others NULL. */
struct bench_option {
    const char *name;  /* without the dashes */
    const char **text; /* takes a value, kept as it is */
    uint64_t *number;  /* takes a value: decimal with an optional k, m, g (powers of 1024) */
    bool *flag;        /* takes no value */
    const char *help;  /* one line for --help */
};

/* Reads all of argv[first..argc); prints help and exits 0 on --help, exits 1 on anything unknown.
 * The table ends with a row whose name is NULL. */
void bench_options(int argc, char **argv, int first, const struct bench_option *table);

/* Decimal number with an optional suffix k, m or g (powers of 1024). Exits 1 when it is not one. */
uint64_t bench_number(const char *text);

/* "A.B.C.D:PORT" or ":PORT" (then 127.0.0.1). Exits 1 when it is not one. */
struct sockaddr_in bench_addr(const char *text);

/* A listening TCP socket with SO_REUSEADDR and TCP_NODELAY (accepted sockets inherit it). */
int bench_listen(const struct sockaddr_in *addr, int type_flags);

/* A fresh TCP socket with TCP_NODELAY. Exits 1 when there is none to be had. */
int bench_socket(int type_flags);

/* Raises the soft limit of open files to the hard one, and both to 262,144 where allowed. Returns
 * it. */
uint64_t bench_raise_files(void);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t bench_now(void);

/* Prints "program: message" and exits 1; with errno's text when err is not 0. */
void bench_die(int err, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

/* A broken invariant: prints where and aborts. Stays on in release builds. */
void bench_check_failed(const char *what, const char *file, int line) __attribute__((noreturn));
#define bench_check(cond) \
    (__builtin_expect(!(cond), 0) ? bench_check_failed(#cond, __FILE__, __LINE__) : (void)0)

#endif
