"""stay: nothing stays for ever: those who are gone without a word, resets that nobody reads, streams on which nothing moves; and memory
is given back."""
import pathlib

import net
from harness import case, check, check_equal

KEEPALIVE = 2  # of the timers in /proc/net/tcp


def timers(local=None, remote=None):
    """(kind, seconds) of the timer of each established connection with these ports."""
    found = []
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = [int(end.rpartition(":")[2], 16) for end in fields[1:3]]
        if fields[3] == "01" and local in (None, ports[0]) and remote in (None, ports[1]):
            kind, when = fields[5].split(":")
            found.append((int(kind, 16), int(when, 16) / 100))
    return found


@case()
def silent_ends_are_asked(t):
    """TCP asks a visitor and an origin that say nothing whether they are still there, within a minute. (What comes of silence then
    takes two minutes: tests/kernel/test_keepalive.c.)"""
    origin = t.origin(net.echo)
    addr = t.tunnel(origin)
    with net.connect(addr) as sock:
        sock.sendall(b"?")
        check_equal(net.recv_exact(sock, 1), b"?", "echo")
        visitor = sock.getsockname()[1]

        def asked(**ports):
            found = timers(**ports)
            return len(found) == 1 and found[0][0] == KEEPALIVE and found[0][1] <= 61
        t.until(lambda: asked(local=addr[1], remote=visitor), "keepalive towards the visitor")
        t.until(lambda: asked(remote=origin.addr[1]), "keepalive towards the origin")
