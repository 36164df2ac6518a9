"""tcp: what TCP promises must survive the tunnel: each direction ends alone, RST is not FIN, silence is allowed.

v1 has no half-close and no reset: StreamClose ends both directions. What our two ends make of it is in docs/PROTOCOL.md; the cases
below say where v1 differs.
"""
import random
import socket
import time

import net
from harness import check, check_equal, case

MIB = 1 << 20


def either_end(t, seen, wanted, what):
    """v2 carries the kind of end; v1 cannot."""
    if t.mode.v1:
        check(seen in ("eof", "reset"), f"{what}: {seen}")
    else:
        check_equal(seen, wanted, what)


# Half-close

@case(direct=True, not_in={"v1": "v1 cannot carry it; half_close_visitor_v1 has what it can"})
def half_close_visitor(t):
    """The visitor ends its direction; the origin sees EOF, then answers, and the answer arrives whole."""
    def handler(sock):
        digest = net.Pattern("up").recv(sock, 3 * MIB)
        check_equal(sock.recv(1), b"", "the origin's EOF")
        sock.sendall(digest.encode())
        net.Pattern("down").send(sock, 5 * MIB)
    sock = net.connect(t.tunnel(t.origin(handler)))
    digest = net.Pattern("up").send(sock, 3 * MIB)
    sock.shutdown(socket.SHUT_WR)
    check_equal(net.recv_exact(sock, 40).decode(), digest, "checksum")
    net.Pattern("down").recv(sock, 5 * MIB)
    check_equal(net.end_of(sock), "eof", "end")


@case(not_in={"v2": "v2 has half-close: half_close_visitor"})
def half_close_visitor_v1(t):
    """The visitor ends its direction. The origin cannot learn of it, but what it sends later still arrives, and its end too."""
    origin = t.origin(net.hold)
    sock = net.connect(t.tunnel(origin))
    sock.sendall(b"request")
    sock.shutdown(socket.SHUT_WR)
    at_origin = origin.wait_seen(1)
    check_equal(net.recv_exact(at_origin, 7), b"request", "request")
    for part in (b"first", b"second", b"third"):
        time.sleep(0.4)  # longer than any grace of ours
        at_origin.sendall(part)
        check_equal(net.recv_exact(sock, len(part)), part, "answer")
    at_origin.close()
    check_equal(net.end_of(sock), "eof", "end")


@case(direct=True, not_in={"v1": "v1 cannot carry it; half_close_origin_v1 has what it can"})
def half_close_origin(t):
    """The origin ends its direction first; the visitor goes on sending, long after."""
    digests = []

    def handler(sock):
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        digests.append(net.Pattern("up").recv(sock, 5 * MIB))
        check_equal(sock.recv(1), b"", "the origin's EOF")
    sock = net.connect(t.tunnel(t.origin(handler)))
    check_equal(net.recv_all(sock), b"hello", "greeting, up to EOF")
    time.sleep(0.6)  # a half-closed stream may rest
    digest = net.Pattern("up").send(sock, 5 * MIB)
    sock.shutdown(socket.SHUT_WR)
    t.until(lambda: digests == [digest], "the origin's checksum")


@case(not_in={"v2": "v2 has half-close: half_close_origin"})
def half_close_origin_v1(t):
    """The origin ends its direction while the visitor is sending: what is on its way still arrives; then the stream ends."""
    digests = []

    def handler(sock):
        net.recv_exact(sock, 1)
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        digests.append(net.Pattern("up").recv(sock, 5 * MIB))
        check(net.end_of(sock) in ("eof", "reset"), "no end at the origin")
    sock = net.connect(t.tunnel(t.origin(handler)))
    sock.sendall(b"x")
    digest = net.Pattern("up").send(sock, 5 * MIB)
    t.until(lambda: digests == [digest], "the origin's checksum")
    check_equal(net.recv_exact(sock, 5), b"hello", "greeting")
    check_equal(net.end_of(sock), "eof", "end")


@case(direct=True, not_in={"v1": "v1 has no half-close"})
def half_close_many(t):
    """Sixty streams that end their directions in either order, some empty: no end of one touches another."""
    def plan(index):
        rng = random.Random(index)
        return rng.choice((0, 1, 5000, 300000)), rng.choice((0, 1, 5000, 300000)), rng.random() < 0.5

    def handler(sock):
        index = net.recv_exact(sock, 1)[0]
        up, down, origin_first = plan(index)
        if origin_first:
            net.Pattern(f"d{index}").send(sock, down)
            sock.shutdown(socket.SHUT_WR)
        net.Pattern(f"u{index}").recv(sock, up)
        check_equal(sock.recv(1), b"", f"EOF of stream {index} at the origin")
        if not origin_first:
            net.Pattern(f"d{index}").send(sock, down)

    def visit(index):
        up, down, origin_first = plan(index)
        sock = net.connect(addr)
        sock.sendall(bytes([index]))
        if origin_first:
            net.Pattern(f"d{index}").recv(sock, down)
            check_equal(sock.recv(1), b"", f"EOF of stream {index} at the visitor")
        net.Pattern(f"u{index}").send(sock, up)
        sock.shutdown(socket.SHUT_WR)
        if not origin_first:
            net.Pattern(f"d{index}").recv(sock, down)
        check_equal(net.end_of(sock), "eof", f"end of stream {index}")
    addr = t.tunnel(t.origin(handler))
    for task in [net.Task(visit, index) for index in range(60)]:
        task.join_result()


# RST

@case(direct=True)
def rst_by_visitor(t):
    """The origin sees ECONNRESET; a second stream of the session does not notice."""
    ends = []

    def handler(sock):
        if net.recv_exact(sock, 1) == b"R":
            sock.sendall(b"!")
            ends.append(net.end_of(sock))
        else:
            net.echo(sock)
    addr = t.tunnel(t.origin(handler))
    other, sock = net.connect(addr), net.connect(addr)
    other.sendall(b"E")
    sock.sendall(b"R")
    check_equal(net.recv_exact(sock, 1), b"!", "answer")
    net.rst(sock)
    t.until(lambda: ends, "an end at the origin")
    either_end(t, ends[0], "reset", "end at the origin")
    other.sendall(b"still here")
    check_equal(net.recv_exact(other, 10), b"still here", "the other stream")


@case(direct=True)
def rst_by_origin(t):
    """The visitor sees what was sent before, then ECONNRESET."""
    def handler(sock):
        net.recv_exact(sock, 1)
        sock.sendall(b"last words")
        net.recv_exact(sock, 1)
        net.rst(sock)
    sock = net.connect(t.tunnel(t.origin(handler)))
    sock.sendall(b"1")
    check_equal(net.recv_exact(sock, 10), b"last words", "data before the reset")
    sock.sendall(b"2")
    either_end(t, net.end_of(sock), "reset", "end at the visitor")


@case(direct=True)
def rst_after_half_close(t):
    """Either side may reset although it has ended its direction before."""
    origin = t.origin(net.hold)
    sock = net.connect(t.tunnel(origin))
    sock.sendall(b"x")
    at_origin = origin.wait_seen(1)
    check_equal(net.recv_exact(at_origin, 1), b"x", "data")
    sock.shutdown(socket.SHUT_WR)
    if not t.mode.v1:
        check_equal(at_origin.recv(1), b"", "EOF at the origin")
    net.rst(at_origin)
    either_end(t, net.end_of(sock), "reset", "end at the visitor")


@case(direct=True)
def visitor_aborts_download(t):
    """A visitor leaves in mid-download, again and again: the origin is told each time, and a steady stream loses nothing."""
    ends = []

    def handler(sock):
        if net.recv_exact(sock, 1) == b"E":
            return net.echo(sock)
        net.flood(sock)
        ends.append(1)
        return None
    addr = t.tunnel(t.origin(handler))
    steady = net.connect(addr)
    steady.sendall(b"E")
    for number in range(20):
        sock = net.connect(addr)
        sock.sendall(b"F")
        net.recv_exact(sock, 100000)
        sock.close() if number % 2 else net.rst(sock)
        message = f"message {number}".encode()
        steady.sendall(message)
        check_equal(net.recv_exact(steady, len(message)), message, "the steady stream")
    t.until(lambda: len(ends) == 20, "twenty ends at the origin")


@case(direct=True)
def visitor_aborts_upload(t):
    """A visitor is reset while its data is on the way to an origin that reads slowly: the origin does not mistake it for an end."""
    origin = t.origin(net.hold)
    sock = net.connect(t.tunnel(origin))
    at_origin = origin.wait_seen(1)
    sock.sendall(bytes(100000))
    check_equal(len(net.recv_exact(at_origin, 100000)), 100000, "data")
    sock.sendall(bytes(50))
    net.rst(sock)
    either_end(t, net.end_of(at_origin), "reset", "end at the origin")


# Origins that are not there, or go

@case()
def origin_unreachable(t):
    """A refused connection is an RST at the visitor, at once, and only for this visitor."""
    port = t.port()
    addr = t.tunnel(("127.0.0.1", port))
    for _ in range(3):
        sock = net.connect(addr)
        started = time.monotonic()
        either_end(t, net.end_of(sock), "reset", "end at the visitor")
        check(time.monotonic() - started < 5 * t.factor, "not at once")
    t.origin(net.echo, port=port)
    sock = net.connect(addr)
    sock.sendall(b"now")
    check_equal(net.recv_exact(sock, 3), b"now", "after the origin came")


@case()
def origin_does_not_answer(t):
    """An origin whose host drops our SYN: after --connect-timeout, RST."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    fillers = []
    for _ in range(8):  # fills the backlog, so that later SYNs are dropped
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
        fillers.append(filler)
    addr = t.tunnel(full.getsockname(), "--connect-timeout", "600ms")
    sock = net.connect(addr)
    started = time.monotonic()
    either_end(t, net.end_of(sock), "reset", "end at the visitor")
    check(time.monotonic() - started > 0.4, "before the time-out")


@case(direct=True)
def origin_dies(t):
    """The origin's process dies under a download: RST at the visitor. Later visitors are refused, until a new one listens."""
    origin = t.origin(net.flood)
    addr = t.tunnel(origin)
    sock = net.connect(addr)
    net.recv_exact(sock, 100000)
    origin.kill()
    either_end(t, net.end_of(sock), "reset", "end at the visitor")
    if not t.mode.direct:
        either_end(t, net.end_of(net.connect(addr)), "reset", "end at a later visitor")
    t.origin(net.echo, port=origin.addr[1])
    sock = net.connect(addr)
    sock.sendall(b"back")
    check_equal(net.recv_exact(sock, 4), b"back", "after the origin came back")


# Silence

@case(direct=True)
def silent_visitor(t):
    """A visitor that connects and says nothing reaches the origin, and is kept: heartbeats are the session's business."""
    origin = t.origin(net.echo)
    quick = ["--heartbeat", "250ms", "--expiry", "2s", "--handshake-timeout", "1s"]
    addr = t.tunnel(origin, *quick, server_flags=quick)
    sock = net.connect(addr)
    origin.wait_seen(1)
    check_equal(net.end_of(sock, timeout=4), "timeout", "a silent stream")
    sock.settimeout(net.TIMEOUT)
    sock.sendall(b"awake")
    check_equal(net.recv_exact(sock, 5), b"awake", "answer")


@case(direct=True)
def origin_speaks_first(t):
    """As SMTP, SSH and MySQL do."""
    def handler(sock):
        sock.sendall(b"220 ready\r\n")
        check_equal(net.recv_exact(sock, 6), b"QUIT\r\n", "command")
    sock = net.connect(t.tunnel(t.origin(handler)))
    check_equal(net.recv_exact(sock, 11), b"220 ready\r\n", "banner")
    sock.sendall(b"QUIT\r\n")
    check_equal(net.end_of(sock), "eof", "end")


@case(direct=True)
def origin_closes_at_once(t):
    """An origin that accepts and closes: the visitor sees EOF, not RST."""
    addr = t.tunnel(t.origin(lambda sock: None))
    for _ in range(20):
        check_equal(net.end_of(net.connect(addr)), "eof", "end at the visitor")


@case(direct=True)
def small_messages_ping_pong(t):
    """Two thousand one-byte turns: no byte waits for a second one."""
    sock = net.connect(t.tunnel(t.origin(net.echo)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    started = time.monotonic()
    for number in range(2000):
        byte = bytes([number & 255])
        sock.sendall(byte)
        check_equal(sock.recv(1), byte, "echo")
    t.note = f"{(time.monotonic() - started) / 2000 * 1e6:.0f} us a turn"
