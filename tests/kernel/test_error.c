/*
 * error: what src/core/mux/quiet.c assumes of a socket that nobody reads.
 *
 * A reset shows in poll(2) as POLLERR without any event being asked for, also when there is unread
 * data, and stays there until a call has been told the error; what had arrived before can still be
 * read, and comes first. FIN, of one end or of both, is no POLLERR (of both it is POLLHUP).
 */
#include "kernel.h"

static short events_of(int fd, int ms)
{
    struct pollfd poll_fd = { .fd = fd };

    EXPECT(poll(&poll_fd, 1, ms) >= 0);
    return poll_fd.revents;
}

static void await_input(int fd)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

    EXPECT(poll(&poll_fd, 1, 10000) == 1);
}

static void reset_shows_behind_data(void)
{
    char words[8];
    int fds[2];

    kernel_pair(fds);
    EXPECT(events_of(fds[1], 0) == 0);
    EXPECT(send(fds[0], "words", 5, 0) == 5);
    await_input(fds[1]);
    EXPECT(events_of(fds[1], 0) == 0);
    kernel_reset(fds[0]);
    EXPECT((events_of(fds[1], 10000) & POLLERR) != 0);
    EXPECT((events_of(fds[1], 0) & POLLERR) != 0);
    EXPECT(recv(fds[1], words, sizeof(words), 0) == 5);
    EXPECT((events_of(fds[1], 0) & POLLERR) != 0);
    EXPECT(recv(fds[1], words, sizeof(words), 0) == -1 && errno == ECONNRESET);
    EXPECT((events_of(fds[1], 0) & POLLERR) == 0);
    close(fds[1]);
}

static void reset_shows_behind_fin(void)
{
    int fds[2];

    kernel_pair(fds);
    EXPECT(shutdown(fds[0], SHUT_WR) == 0);
    await_input(fds[1]);
    EXPECT(events_of(fds[1], 0) == 0);
    kernel_reset(fds[0]);
    EXPECT((events_of(fds[1], 10000) & POLLERR) != 0);
    close(fds[1]);
}

static void fins_are_no_error(void)
{
    int fds[2];

    kernel_pair(fds);
    EXPECT(shutdown(fds[1], SHUT_WR) == 0 && shutdown(fds[0], SHUT_WR) == 0);
    EXPECT((events_of(fds[1], 10000) & (POLLERR | POLLHUP)) == POLLHUP);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    reset_shows_behind_data();
    reset_shows_behind_fin();
    fins_are_no_error();
    return 0;
}
