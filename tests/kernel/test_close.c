/*
 * close: what src/core assumes of the end of a TCP connection.
 *
 * A socket whose SO_LINGER is {on, 0} from its first moment is reset whenever it goes without
 * further words: with its process, too, whatever rings hold. The price is paid where the end is a
 * good one: behind a FIN of both sides (LAST_ACK, CLOSING) such a close says nothing at all, and
 * what the network has lost is not sent again. So the linger is taken off in front of a close that
 * means FIN (stream_join), and there only.
 *
 * How the network loses something on loopback: a socket filter that takes nothing makes TCP drop
 * what arrives, without an acknowledgement.
 */
#include "kernel.h"

#include <linux/filter.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define PATIENCE 10000 /* ms */
#define MUCH     (4u << 20)

static const char words[] = "and the last words";

static char *junk;

/* Streams' options on a listening socket, as in sock.c. */
static void stream_options(int fd, bool linger)
{
    struct linger value = { .l_onoff = linger, .l_linger = 0 };
    int on = 1;

    EXPECT(setsockopt(fd, SOL_SOCKET, SO_LINGER, &value, sizeof(value)) == 0);
    EXPECT(setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)) == 0);
}

static int listen_at(struct sockaddr_in *addr, bool linger)
{
    socklen_t size = sizeof(*addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *addr =
        (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    EXPECT(fd >= 0);
    stream_options(fd, linger);
    EXPECT(bind(fd, (struct sockaddr *)addr, size) == 0 && listen(fd, 64) == 0);
    EXPECT(getsockname(fd, (struct sockaddr *)addr, &size) == 0);
    return fd;
}

static int state_of(int fd)
{
    struct tcp_info info = { 0 };
    socklen_t size = sizeof(info);

    EXPECT(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
    return info.tcpi_state;
}

static void wait_for_state(int fd, int state)
{
    for (int ms = 0; ms < PATIENCE && state_of(fd) != state; ms++)
        usleep(1000);
    EXPECT(state_of(fd) == state);
}

static bool wait_for_input(int fd, int ms)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

    return poll(&poll_fd, 1, ms) == 1;
}

/* From here on nothing that arrives at this socket is taken; and: again. */
static void deafen(int fd)
{
    struct sock_filter drop = { .code = BPF_RET | BPF_K, .k = 0 };
    struct sock_fprog program = { .len = 1, .filter = &drop };

    EXPECT(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0);
}

static void hear(int fd)
{
    int none = 0;

    EXPECT(setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof(none)) == 0);
}

/* How the other end's words end. */
enum ending { ENDS_BY_FIN, ENDS_BY_RST, ENDS_NOT };

struct heard {
    size_t bytes;
    enum ending ending;
};

static struct heard listen_to(int fd, int patience)
{
    static char buf[65536];
    struct heard heard = { 0, ENDS_NOT };

    while (wait_for_input(fd, patience)) {
        ssize_t n = recv(fd, buf, sizeof(buf), 0);

        if (n > 0) {
            heard.bytes += (size_t)n;
            continue;
        }
        EXPECT(n == 0 || errno == ECONNRESET);
        heard.ending = n == 0 ? ENDS_BY_FIN : ENDS_BY_RST;
        break;
    }
    return heard;
}

/* A connection as a stream has it: `ours` was accepted. */
struct pair {
    int ours, peer;
};

static struct pair pair_new(bool linger, int peer_rcvbuf)
{
    struct sockaddr_in addr;
    int listener = listen_at(&addr, linger);
    struct pair pair = { .peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };

    if (peer_rcvbuf > 0)
        EXPECT(setsockopt(pair.peer, SOL_SOCKET, SO_RCVBUF, &peer_rcvbuf, sizeof(int)) == 0);
    EXPECT(connect(pair.peer, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    pair.ours = accept(listener, NULL, NULL);
    EXPECT(pair.ours >= 0);
    close(listener);
    return pair;
}

/* What accepted sockets inherit */

static void linger_and_oobinline_are_inherited(void)
{
    for (int on = 0; on < 2; on++) {
        struct pair pair = pair_new(on != 0, 0);
        struct linger linger = { .l_onoff = -1, .l_linger = -1 };
        socklen_t size = sizeof(linger);
        int inline_on = 0;

        EXPECT(getsockopt(pair.ours, SOL_SOCKET, SO_LINGER, &linger, &size) == 0);
        EXPECT(linger.l_onoff == on && linger.l_linger == 0);
        size = sizeof(inline_on);
        EXPECT(getsockopt(pair.ours, SOL_SOCKET, SO_OOBINLINE, &inline_on, &size) == 0);
        EXPECT(inline_on == 1);
        close(pair.ours);
        EXPECT(listen_to(pair.peer, PATIENCE).ending == (on ? ENDS_BY_RST : ENDS_BY_FIN));
        close(pair.peer);
    }
}

/* Multishot accept gives the same sockets. */
static void a_ring_accepts_the_same(struct io_uring *ring)
{
    struct sockaddr_in addr;
    int listener = listen_at(&addr, true), peer = kernel_dial(&addr);
    struct io_uring_sqe *sqe = kernel_sqe(ring);

    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    sqe->user_data = 1;
    int ours = kernel_next(ring).res;
    EXPECT(ours >= 0);
    close(ours);
    EXPECT(listen_to(peer, PATIENCE).ending == ENDS_BY_RST);
    sqe = kernel_sqe(ring);
    io_uring_prep_cancel64(sqe, 1, 0);
    sqe->user_data = 2;
    (void)kernel_next(ring);
    (void)kernel_next(ring);
    close(peer);
    close(listener);
}

/* The listener itself: who waits in its queue is reset, with linger and without; the port is
 * free at once. */
static void a_listener_closes_as_before(void)
{
    for (int on = 0; on < 2; on++) {
        struct sockaddr_in addr;
        int listener = listen_at(&addr, on != 0), peer = kernel_dial(&addr);

        close(listener);
        EXPECT(listen_to(peer, PATIENCE).ending == ENDS_BY_RST);
        close(peer);
        EXPECT(connect(peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                       (struct sockaddr *)&addr, sizeof(addr)) != 0);
        EXPECT(errno == ECONNREFUSED);
        close(peer);
        listener = kernel_listen(&addr, false);
        EXPECT(listener >= 0);
        close(listener);
    }
}

/* Urgent data */

/* Inline, urgent bytes stand where they were sent; otherwise one of them is lost for a plain
 * reader. */
static void urgent_bytes_keep_their_place(void)
{
    for (int on = 0; on < 2; on++) {
        struct pair pair = pair_new(true, 0);
        char buf[16] = { 0 };
        size_t want = on ? 9 : 8, got = 0;

        EXPECT(setsockopt(pair.ours, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)) == 0);
        EXPECT(send(pair.peer, "abc", 3, 0) == 3);
        EXPECT(send(pair.peer, "def", 3, MSG_OOB) == 3);
        EXPECT(send(pair.peer, "ghi", 3, 0) == 3);
        shutdown(pair.peer, SHUT_WR);
        while (got < sizeof(buf)) { /* a read ends in front of the mark */
            ssize_t n = recv(pair.ours, buf + got, sizeof(buf) - got, 0);
            EXPECT(n >= 0);
            if (n == 0)
                break;
            got += (size_t)n;
        }
        EXPECT(got == want && memcmp(buf, on ? "abcdefghi" : "abcdeghi", want) == 0);
        close(pair.ours);
        close(pair.peer);
    }
}

/* The same through a ring: a read that is short because of the mark says that there is more, or
 * another one finds it. */
static void a_ring_reads_urgent_bytes(struct io_uring *ring)
{
    struct pair pair = pair_new(true, 0);
    char buf[16] = { 0 };
    size_t got = 0;

    EXPECT(send(pair.peer, "abc", 3, 0) == 3);
    EXPECT(send(pair.peer, "d", 1, MSG_OOB) == 1);
    EXPECT(send(pair.peer, "ef", 2, 0) == 2);
    while (got < 6) {
        struct io_uring_sqe *sqe = kernel_sqe(ring);
        io_uring_prep_recv(sqe, pair.ours, buf + got, sizeof(buf) - got, 0);
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
        struct kernel_cqe cqe = kernel_next(ring);
        EXPECT(cqe.res > 0);
        got += (size_t)cqe.res;
    }
    EXPECT(memcmp(buf, "abcdef", 6) == 0);
    close(pair.ours);
    close(pair.peer);
}

/* Close, state by state */

enum peer_fin { NO_FIN, FIN_FIRST, FIN_LAST };

struct scene {
    const char *name;
    int state; /* of ours, when it is closed */
    enum peer_fin peer_fin;
    bool our_fin;
    bool lost;   /* what we said is lost on the way, for now */
    bool silent; /* a close with linger 0 says nothing */
    bool much;   /* more than the peer's buffer takes: some of it is not sent yet */
    /* What the peer sees of a close, without linger and with linger 0. An end by FIN is whole:
     * everything that we said came before it. */
    enum ending endings[2];
};

static const struct scene scenes[] = {
    { "ESTABLISHED", TCP_ESTABLISHED, .endings = { ENDS_BY_FIN, ENDS_BY_RST } },
    { "ESTABLISHED, not acknowledged", TCP_ESTABLISHED, .lost = true,
      .endings = { ENDS_BY_FIN, ENDS_BY_RST } },
    { "ESTABLISHED, not sent", TCP_ESTABLISHED, .much = true,
      .endings = { ENDS_BY_FIN, ENDS_BY_RST } },
    { "CLOSE_WAIT", TCP_CLOSE_WAIT, FIN_FIRST, .endings = { ENDS_BY_FIN, ENDS_BY_RST } },
    { "CLOSE_WAIT, not acknowledged", TCP_CLOSE_WAIT, FIN_FIRST, .lost = true,
      .endings = { ENDS_BY_FIN, ENDS_BY_RST } },
    { "FIN_WAIT1, not acknowledged", TCP_FIN_WAIT1, .our_fin = true, .lost = true,
      .endings = { ENDS_BY_FIN, ENDS_BY_RST } },
    { "FIN_WAIT1, not sent", TCP_FIN_WAIT1, .our_fin = true, .much = true,
      .endings = { ENDS_BY_FIN, ENDS_BY_RST } },
    /* It has our FIN, and reads that first. */
    { "FIN_WAIT2", TCP_FIN_WAIT2, .our_fin = true, .endings = { ENDS_BY_FIN, ENDS_BY_FIN } },
    /* The three in which linger 0 must not stand. In the last one the peer's own FIN, whose
     * acknowledgement is lost, too, is sent again and finds nobody. */
    { "LAST_ACK, not acknowledged", TCP_LAST_ACK, FIN_FIRST, .our_fin = true, .lost = true,
      .silent = true, .endings = { ENDS_BY_FIN, ENDS_NOT } },
    { "LAST_ACK, not sent", TCP_LAST_ACK, FIN_FIRST, .our_fin = true, .much = true,
      .endings = { ENDS_BY_FIN, ENDS_BY_RST } },
    { "CLOSING, not acknowledged", TCP_CLOSING, FIN_LAST, .our_fin = true, .lost = true,
      .silent = true, .endings = { ENDS_BY_FIN, ENDS_BY_RST } },
    /* The socket is in TIME_WAIT, or gone: nothing is left that a close could change. */
    { "after LAST_ACK", TCP_CLOSE, FIN_FIRST, .our_fin = true,
      .endings = { ENDS_BY_FIN, ENDS_BY_FIN } },
    { "TIME_WAIT", TCP_CLOSE, FIN_LAST, .our_fin = true, .endings = { ENDS_BY_FIN, ENDS_BY_FIN } },
};

static size_t say(const struct scene *scene, int fd)
{
    size_t said = sizeof(words);

    EXPECT(send(fd, words, sizeof(words), 0) == (ssize_t)sizeof(words));
    for (ssize_t n = 0; scene->much && n >= 0; said += n > 0 ? (size_t)n : 0)
        n = send(fd, junk, MUCH, MSG_DONTWAIT);
    return said;
}

static void hear_fin(const struct pair *pair)
{
    char byte;

    EXPECT(shutdown(pair->peer, SHUT_WR) == 0 && recv(pair->ours, &byte, 1, 0) == 0);
}

/* Brings ours to the scene's state; how much it has said. */
static size_t play(const struct scene *scene, const struct pair *pair)
{
    if (scene->peer_fin == FIN_FIRST) {
        hear_fin(pair);
        wait_for_state(pair->peer, TCP_FIN_WAIT2); /* it has our acknowledgement */
    }
    if (scene->lost)
        deafen(pair->peer);
    size_t said = say(scene, pair->ours);
    if (scene->our_fin)
        EXPECT(shutdown(pair->ours, SHUT_WR) == 0);
    if (scene->peer_fin == FIN_LAST) {
        wait_for_state(pair->ours, scene->lost ? TCP_FIN_WAIT1 : TCP_FIN_WAIT2);
        hear_fin(pair);
    }
    wait_for_state(pair->ours, scene->state);
    return said;
}

/* A reset would be lost like everything else; what is only sent again later is not. */
static void leave(const struct scene *scene, const struct pair *pair, bool linger)
{
    bool reset = scene->endings[linger] == ENDS_BY_RST && !scene->silent;

    if (scene->lost && reset)
        hear(pair->peer);
    close(pair->ours);
    if (scene->lost && !reset)
        hear(pair->peer);
}

static void check_ending(const struct scene *scene, const struct pair *pair, bool linger,
                         size_t said)
{
    enum ending wanted = scene->endings[linger];
    struct heard heard = listen_to(pair->peer, wanted == ENDS_NOT ? 300 : PATIENCE);
    bool right = heard.ending == wanted && (wanted != ENDS_BY_FIN || heard.bytes == said) &&
                 (wanted != ENDS_NOT || heard.bytes == 0);

    if (right)
        return;
    fprintf(stderr, "%s, linger %d: ending %d, %zu of %zu bytes\n", scene->name, linger,
            heard.ending, heard.bytes, said);
    exit(1);
}

/* The twin without linger shows how long to wait for what does not come: TCP would send both
 * again at the same times. */
static void close_in(const struct scene *scene)
{
    struct pair pairs[2];
    size_t said[2];

    for (int on = 0; on < 2; on++) {
        pairs[on] = pair_new(on != 0, scene->much ? 4096 : 0);
        said[on] = play(scene, &pairs[on]);
    }
    for (int on = 1; on >= 0; on--)
        leave(scene, &pairs[on], on != 0);
    for (int on = 0; on < 2; on++) {
        check_ending(scene, &pairs[on], on != 0, said[on]);
        close(pairs[on].peer);
    }
}

/* Linger taken off in front of the close: as if it had never been on, in every state. */
static void close_after_all(const struct scene *scene)
{
    struct scene off = *scene;
    struct pair pair = pair_new(true, scene->much ? 4096 : 0);
    size_t said = play(scene, &pair);
    struct linger none = { .l_onoff = 0 };

    EXPECT(setsockopt(pair.ours, SOL_SOCKET, SO_LINGER, &none, sizeof(none)) == 0);
    off.endings[1] = off.endings[0];
    leave(&off, &pair, true);
    check_ending(&off, &pair, true, said);
    close(pair.peer);
}

/* Death */

/* A process with a ring that holds everything: a listener with a multishot accept, and a read of
 * what it has accepted. */
__attribute__((noreturn)) static void live(int listener, int ready)
{
    struct io_uring ring;
    struct io_uring_sqe *sqe;
    char buf[4];

    kernel_ring(&ring, 8);
    sqe = kernel_sqe(&ring);
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    sqe->user_data = 1;
    int fd = kernel_next(&ring).res;
    EXPECT(fd >= 0 && send(fd, words, sizeof(words), 0) == (ssize_t)sizeof(words));
    sqe = kernel_sqe(&ring);
    io_uring_prep_recv(sqe, fd, buf, sizeof(buf), 0);
    sqe->user_data = 2;
    EXPECT(io_uring_submit(&ring) == 1);
    EXPECT(write(ready, "!", 1) == 1);
    for (;;)
        pause();
}

/* The first visitor is read from, the second one accepted and not yet seen by anybody. */
static void a_killed_process_resets_its_streams(int number)
{
    for (int on = 0; on < 2; on++) {
        struct sockaddr_in addr;
        int listener = listen_at(&addr, on != 0), first = kernel_dial(&addr), ready[2], status;
        char byte;

        EXPECT(pipe(ready) == 0);
        pid_t child = fork();
        EXPECT(child >= 0);
        if (child == 0)
            live(listener, ready[1]);
        close(listener);
        EXPECT(read(ready[0], &byte, 1) == 1);
        int second = kernel_dial(&addr);
        EXPECT(kill(child, number) == 0 && waitpid(child, &status, 0) == child);
        EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == number);
        struct heard heard = listen_to(first, PATIENCE);
        EXPECT(heard.bytes == sizeof(words) && heard.ending == (on ? ENDS_BY_RST : ENDS_BY_FIN));
        EXPECT(!on || listen_to(second, PATIENCE).ending == ENDS_BY_RST);
        close(first);
        close(second);
        close(ready[0]);
        close(ready[1]);
    }
}

int main(void)
{
    const struct rlimit no_core = { 0, 0 };
    struct io_uring ring;

    EXPECT(setrlimit(RLIMIT_CORE, &no_core) == 0);
    junk = calloc(1, MUCH);
    EXPECT(junk != NULL);
    kernel_ring(&ring, 64);
    linger_and_oobinline_are_inherited();
    a_ring_accepts_the_same(&ring);
    a_listener_closes_as_before();
    urgent_bytes_keep_their_place();
    a_ring_reads_urgent_bytes(&ring);
    for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
        close_in(&scenes[i]);
        close_after_all(&scenes[i]);
    }
    a_killed_process_resets_its_streams(SIGKILL);
    a_killed_process_resets_its_streams(SIGABRT);
    io_uring_queue_exit(&ring);
    free(junk);
    return 0;
}
