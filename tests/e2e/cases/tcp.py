"""tcp: what TCP promises must survive the tunnel: each direction ends alone, RST is not FIN, silence is allowed.

v1 has no half-close and no reset: StreamClose ends both directions. What our two ends make of it is in docs/PROTOCOL.md; the cases
below say where v1 differs.
"""
import random
import resource
import signal
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


@case()
def reset_before_it_is_accepted(t):
    """Who has been reset and has said nothing, as port scans and some health checks do, costs no
    stream and no origin's connection."""
    origin = t.origin(net.until_cut(net.hold))
    addr = t.tunnel(origin)
    server = t.tunnel_server
    server.stand_still()  # they come to a socket that nobody accepts from
    for _ in range(20):
        net.rst(net.connect(addr))
        net.rst(net.connect(server.addr))
    visitor = net.connect(addr)
    visitor.sendall(b"my last words")
    net.rst(visitor)
    server.send(signal.SIGCONT)
    origin.wait_seen(1)
    net.connect(addr).close()
    origin.wait_seen(2)
    t.until(lambda: server.counted("connections accepted that had been reset", t.mode.workers) == 40, "40 counted")
    check_equal(origin.seen, 2, "connections at the origin")


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


# Processes that die, and ends that are good ones

BRIEF = ["--grace", "300ms"]  # under TLS a lane would wait longer for the process that is gone


def under_way(t, count=20):
    """Streams in the middle of a download, and as many of an upload, and then some downloads at full speed. Returns the public address, tasks whose
    results say how visitors see downloads end, the visitors that upload, and a list of how the origins see quiet streams end."""
    half, taken, ends = 100000, [], []

    @net.until_cut
    def handler(sock):
        kind = net.recv_exact(sock, 1)
        if kind == b"F":
            return net.flood(sock)
        if kind == b"D":
            sock.sendall(bytes(half))
        else:
            net.recv_exact(sock, half)
            taken.append(1)
        ends.append((kind, net.end_of(sock)))
        return None
    addr = t.tunnel(t.origin(handler), *BRIEF, server_flags=BRIEF)
    downloads, uploads = [], []
    for _ in range(count):
        uploads.append(net.connect(addr))
        uploads[-1].sendall(b"U" + bytes(half))
    for kind in b"D" * count + b"F" * 3:  # others wait long behind those that do not rest
        sock = net.connect(addr)
        sock.sendall(bytes([kind]))
        net.recv_exact(sock, half)
        downloads.append(net.Task(net.end_of, sock))
    t.until(lambda: len(taken) == count, "uploads under way")
    return addr, downloads, uploads, ends


def dies(t, which, number):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    addr, downloads, uploads, ends = under_way(t)
    proc = getattr(t, which)
    proc.send(signal.SIGSTOP)
    if which == "tunnel_server":  # they come to a socket that nobody accepts from any more
        uploads += [net.connect(addr) for _ in range(5)]
    proc.want = (-number,)
    proc.send(number)
    proc.send(signal.SIGCONT)
    proc.wait()
    check_equal({task.join_result() for task in downloads}, {"reset"}, "ends at the visitors that download")
    check_equal({net.end_of(sock) for sock in uploads}, {"reset"}, "ends at the visitors that upload")
    t.until(lambda: len(ends) == 2 * 20, "the ends at the origins")
    check_equal(set(ends), {(b"D", "reset"), (b"U", "reset")}, "ends at the origins")


@case()
def killed_server_is_no_end(t):
    """kill -9 of the server: half an answer must not look like a whole one, neither at visitors nor at origins."""
    dies(t, "tunnel_server", signal.SIGKILL)


@case()
def aborted_server_is_no_end(t):
    """The same when it ends itself, as a failed check does."""
    dies(t, "tunnel_server", signal.SIGABRT)


@case()
def killed_client_is_no_end(t):
    """kill -9 of the client."""
    dies(t, "tunnel_client", signal.SIGKILL)


@case()
def aborted_client_is_no_end(t):
    dies(t, "tunnel_client", signal.SIGABRT)


def slow_read(sock, size):
    """All of it, in pieces that a small buffer holds, and FIN behind it."""
    class Pieces:
        @staticmethod
        def recv_into(view):
            return sock.recv_into(view[:2048])
    net.Pattern("slow").recv(Pieces, size)
    check_equal(net.end_of(sock), "eof", "end")


def ends_before_it_is_read(t, exits):
    """Answers that are still in the server's kernel when their streams have ended."""
    size, count = 300000, 20

    def handler(sock):
        net.recv_exact(sock, 1)
        net.Pattern("slow").send(sock, size)
    addr = t.tunnel(t.origin(handler))
    visitors = [net.connect(addr, rcvbuf=4096) for _ in range(count)]
    for sock in visitors:
        sock.sendall(b"?")
        if not t.mode.v1:
            sock.shutdown(socket.SHUT_WR)
    for proc in (t.tunnel_server, t.tunnel_client):
        proc.expect(r"ends: (both directions ended|closed by a v1 peer)", stream="err", count=count)
    if exits:
        check_equal(t.tunnel_client.stop(), 0, "the client's status")
        check_equal(t.tunnel_server.stop(), 0, "the server's status")
    for sock in visitors:
        slow_read(sock, size)


@case()
def slow_reader_after_the_end(t):
    """A visitor that reads slowly has every byte, and FIN, though its stream ended long before: the kernel has the rest."""
    ends_before_it_is_read(t, exits=False)


@case()
def slow_reader_after_the_exit(t):
    """And though the programs are gone, too, in an orderly way."""
    ends_before_it_is_read(t, exits=True)


@case(not_in={"v1": "v1 has no half-close"})
def slow_origin_after_the_exit(t):
    """The same at the other end: an origin that has said all it had to say, and reads slowly."""
    size, count = 300000, 20
    origin = t.origin(net.hold)
    origin.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # accepted sockets inherit it
    addr = t.tunnel(origin)
    visitors = []
    for index in range(count):
        visitors.append(net.connect(addr))
        origin.wait_seen(index + 1).shutdown(socket.SHUT_WR)
    for sock in visitors:
        net.Pattern("slow").send(sock, size)
        sock.shutdown(socket.SHUT_WR)
        check_equal(net.end_of(sock), "eof", "end at the visitor")
    t.tunnel_client.expect("ends: both directions ended", stream="err", count=count)
    check_equal(t.tunnel_client.stop(), 0, "the client's status")
    for sock in origin.socks:
        slow_read(sock, size)


@case(direct=True, deadline=300)
def good_ends_under_load(t):
    """Some hundred short streams, eight at a time, beside downloads that do not rest: whoever ends first, each side has every byte
    and then FIN."""
    ends = []

    def handler(sock):
        kind, size = net.recv_exact(sock, 1), int(net.recv_exact(sock, 8))
        if kind == b"F":
            return net.flood(sock)
        net.Pattern("load").send(sock, size)
        if kind == b"V":  # the visitor ends first
            ends.append(net.end_of(sock))
        return None

    def visit(index):
        rng, done = random.Random(index), 0
        while done < t.size(15, 10, 100):
            size = rng.choice((0, 1, 1000, 20000, 300000))
            first = "O" if t.mode.v1 else rng.choice("OV")
            with net.connect(addr) as sock:
                sock.sendall(f"{first}{size:08}".encode())
                if first == "V":
                    sock.shutdown(socket.SHUT_WR)
                net.Pattern("load").recv(sock, size)
                check_equal(net.end_of(sock), "eof", f"end of stream {done} of visitor {index}")
            done += 1
    addr = t.tunnel(t.origin(handler))
    moved = [0] * 4

    @net.until_cut
    def download(index):
        with net.connect(addr) as sock:
            sock.sendall(b"F00000000")
            while data := sock.recv(net.CHUNK):
                moved[index] += len(data)
    for index in range(len(moved)):
        net.Task(download, index)
    for task in [net.Task(visit, index) for index in range(8)]:
        task.join_result()
    check_equal(set(ends) - {"eof"}, set(), "ends at the origin")
    check(min(moved) > t.size(16, 1) * 1024 * 1024, f"the downloads rested: {moved} bytes")


# Urgent data

@case(not_in={"v1": "the same sockets, and v1 cannot end one direction"})
def urgent_data(t):
    """A byte that is sent as urgent stands where it was sent; that it is urgent is not carried."""
    parts = [b"before ", b"urgent!", b" and after", b"X", b", again ", b"Y", b"."]

    def say(sock):
        for number, part in enumerate(parts):
            sock.send(part, socket.MSG_OOB if number % 2 else 0)
            time.sleep(0.01 if number == 3 else 0)  # some marks arrive alone, some with what follows
        sock.shutdown(socket.SHUT_WR)
    heard = []

    def handler(sock):
        say(sock)
        heard.append(net.recv_all(sock))
    addr = t.tunnel(t.origin(handler))
    for _ in range(20):
        sock = net.connect(addr)
        say(sock)
        check_equal(net.recv_all(sock), b"".join(parts), "what the origin said")
    t.until(lambda: len(heard) == 20, "twenty visitors at the origin")
    check_equal(set(heard), {b"".join(parts)}, "what the visitors said")


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
