"""endings: what has arrived whole, its FIN included, is delivered, whatever becomes of the lane and
the session that brought it."""
import socket

import net
from harness import case, check_equal

SIZE = 5 << 20  # more than the kernel keeps for a reader who reads nothing (tcp_wmem: 4 MiB) ...
WINDOW = ["--window-initial", "6MiB", "--window-max", "6MiB"]  # ... and less than may arrive at once
STREAMS = 4
DRAIN = ["--drain-timeout", "60s"]
ONE_LANE = ["--lanes", "1"]  # a session ends with its lane 0, whatever the others still have on their way
V2_ONLY = {"v1": "StreamClose ends both directions"}


def take_all(sock, seed):
    """All of it, and its end."""
    net.Pattern(seed).recv(sock, SIZE)
    check_equal(net.end_of(sock), "eof", "the end behind the last byte")
    sock.close()


def give_all(sock, seed):
    """All of it, and FIN."""
    net.Pattern(seed).send(sock, SIZE)
    sock.shutdown(socket.SHUT_WR)


@case(not_in=V2_ONLY)
def last_bytes_for_slow_origins(t):
    """Origins that have said all read what visitors have sent them when the server has gone: it
    drained, and for it these streams were over."""
    listener = t.keep(net.Origin(net.hold))
    listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    addr = t.tunnel(listener, *ONE_LANE, *WINDOW, server_flags=DRAIN)
    visitors = [net.connect(addr) for _ in range(STREAMS)]
    for index, visitor in enumerate(visitors):
        listener.wait_seen(index + 1).shutdown(socket.SHUT_WR)
        give_all(visitor, "up")
    for visitor in visitors:
        check_equal(net.end_of(visitor), "eof", "the origin's end")
    check_equal(t.tunnel_server.stop(), 0, "the server's exit status")
    t.tunnel_client.expect("the server says", stream="err")
    for origin in listener.socks:
        take_all(origin, "up")


@case(not_in=V2_ONLY)
def last_bytes_for_slow_visitors(t):
    """The same the other way round: the client drains and leaves, and visitors who have said all have
    not yet read."""
    origin = t.origin(lambda sock: give_all(sock, "down") or net.Origin.KEEP)
    addr = t.tunnel(origin, *ONE_LANE, *DRAIN, server_flags=WINDOW)
    visitors = [net.connect(addr, rcvbuf=4096) for _ in range(STREAMS)]
    for visitor in visitors:
        visitor.shutdown(socket.SHUT_WR)
    for index in range(STREAMS):
        check_equal(net.end_of(origin.wait_seen(index + 1)), "eof", "the visitor's end")
    check_equal(t.tunnel_client.stop(), 0, "the client's exit status")
    t.tunnel_server.expect("session 1: ends", stream="err")
    for visitor in visitors:
        take_all(visitor, "down")
