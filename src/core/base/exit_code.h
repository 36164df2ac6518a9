/*
 * exit_code: what the program's exit status says.
 *
 * One table: main returns these, `culvert help exit-codes` prints the texts, docs/OPERATIONS.md
 * repeats them. Scripts and service managers decide on them (restart on 1 and 4, never on 2 and 5),
 * so never renumber, only append.
 */
#ifndef CULVERT_CORE_BASE_EXIT_CODE_H
#define CULVERT_CORE_BASE_EXIT_CODE_H

/* X(name, status, text) */
#define EXIT_CODE_TABLE(X)                                                                         \
    X(OK, 0, "done; also after Ctrl+C or SIGTERM once the drain is over")                          \
    X(FAILED, 1, "failed while running; the last log lines say why")                               \
    X(USAGE, 2, "wrong flag or value; the message names it and the cure")                          \
    X(CANNOT_START, 3,                                                                             \
      "the machine refused: io_uring forbidden, a limit too low, address in use, file unreadable") \
    X(GAVE_UP, 4, "client: the server could not be reached in all --reconnect-attempts")           \
    X(AUTH_REFUSED, 5, "client: the server refused the token; trying again would not help")        \
    X(TUNNEL_MISSING, 6,                                                                           \
      "client: as 0 or 1, but some tunnel was never ready, or it gave up and all were refused")

enum exit_code {
#define X(name, status, text) EXIT_CODE_##name = (status),
    EXIT_CODE_TABLE(X)
#undef X
};

/* The table's sentence for a status; "unknown exit code" for any other number. Never NULL. */
const char *exit_code_text(int status);

#endif
