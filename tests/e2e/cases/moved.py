"""moved: bulk that goes through pipes, uncopied, and what befalls it on the way."""
import pathlib
import time

import net
from harness import case, check, check_equal

MIB = 1 << 20
NO_PIPES = {"v1": "v1 is copied", "tls": "records are copied"}
UP, DOWN = "bytes moved through pipes to lanes", "bytes moved through pipes from lanes"


def bulk(addr, streams, size):
    """Up and down at once, each with its FIN behind it."""
    def visit(index):
        with net.connect(addr) as sock:
            sending = net.Task(net.Pattern(f"moved {index}").send, sock, size)
            check_equal(net.Pattern(f"moved {index}").recv(sock, size), sending.join_result(), "checksum")
    for task in [net.Task(visit, index) for index in range(streams)]:
        task.join_result()


def moved(t):
    return {(side, way): proc.counted(way, t.mode.workers)
            for side, proc in (("server", t.tunnel_server), ("client", t.tunnel_client)) for way in (UP, DOWN)}


@case(deadline=240)
def bulk_is_moved(t):
    """Every byte is right, and on plain v2 lanes most of them were moved; elsewhere none was."""
    size = t.size(96, 16) * MIB
    addr = t.tunnel(t.origin(net.echo))
    bulk(addr, 1, size)
    bulk(addr, 8, size // 8)
    counts = moved(t)
    if t.mode.v1 or t.mode.tls:
        check(not any(counts.values()), f"nothing is moved here: {counts}")
    else:
        check(all(count > size // 2 for count in counts.values()), f"of {2 * size} bytes each way were moved {counts}")


@case(not_in=NO_PIPES)
def bulk_is_copied_where_asked(t):
    """--bulk copy moves nothing at this end; the other end moves."""
    size = t.size(32, 8) * MIB
    addr = t.tunnel(t.origin(net.echo), "--bulk", "copy")
    bulk(addr, 1, size)
    counts = moved(t)
    check(not counts["client", UP] and not counts["client", DOWN], f"the client copies: {counts}")
    check(counts["server", UP] > 0 and counts["server", DOWN] > 0, f"the server moves: {counts}")


@case(not_in=NO_PIPES)
def bulk_is_copied_where_tcp_paces(t):
    """--bulk auto: the machine's congestion control decides."""
    size = t.size(32, 8) * MIB
    auto = ["--bulk", "auto"]
    addr = t.tunnel(t.origin(net.echo), *auto, server_flags=auto)
    bulk(addr, 1, size)
    control = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    counts = moved(t)
    t.note = control
    check(all((count == 0) == control.startswith("bbr") for count in counts.values()), f"under {control} were moved {counts}")


@case(not_in=NO_PIPES)
def grace_copies(t):
    """A lane that can be resumed keeps what it sends, and moves nothing either way."""
    size = t.size(32, 8) * MIB
    addr = t.tunnel(t.origin(net.echo), "--grace", "30s", server_flags=["--grace", "30s"])
    bulk(addr, 1, size)
    counts = moved(t)
    check(not any(counts.values()), f"moved: {counts}")


@case(not_in=NO_PIPES, deadline=240)
def bulk_moved_ends(t):
    """Visitors and origins reset in the middle of what is moved; those beside them have all their bytes."""
    size = t.size(24, 8) * MIB

    def origin(sock):
        kind = net.recv_exact(sock, 1)
        if kind == b"r":
            net.recv_exact(sock, 4 * MIB)
            net.rst(sock)
        elif kind == b"e":
            net.echo(sock)
        else:
            return net.hold(sock)
        return None

    addr = t.tunnel(t.origin(net.until_cut(origin)))

    def whole(index):
        with net.connect(addr) as sock:
            sock.sendall(b"e")
            sending = net.Task(net.Pattern(f"whole {index}").send, sock, size)
            check_equal(net.Pattern(f"whole {index}").recv(sock, size), sending.join_result(), "checksum")

    def cut(kind):
        with net.connect(addr) as sock:
            sock.sendall(kind)
            sock.settimeout(2)
            try:
                for _ in range(16):
                    sock.sendall(bytes(MIB))
            except OSError:
                pass  # the origin's reset, or nobody takes it
            net.rst(sock)

    for _ in range(t.size(4, 2, 12)):
        tasks = [net.Task(whole, index) for index in range(2)] + [net.Task(cut, kind) for kind in (b"r", b"e", b"h")]
        for task in tasks:
            task.join_result()
    check(all(moved(t).values()), "some of it was moved")


@case(not_in=NO_PIPES)
def stalled_reader_of_what_is_moved(t):
    """A visitor that reads nothing for a while has every byte in the end, and others move on beside it."""
    size = t.size(48, 16) * MIB
    origin = t.origin(lambda sock: net.Pattern("stalled").send(sock, size))
    addr = t.tunnel(origin)
    with net.connect(addr) as stalled:
        time.sleep(0.5)
        digests = []
        for _ in range(2):
            with net.connect(addr) as sock:
                digests.append(net.Pattern("stalled").recv(sock, size))
        digests.append(net.Pattern("stalled").recv(stalled, size))
        check_equal(stalled.recv(1), b"", "FIN")
    check_equal(len(set(digests)), 1, "checksums")


@case(not_in={**NO_PIPES, "v2-2w": "there are as many lanes as workers"})
def spare_lane(t):
    """While bulk moves the client dials another lane, and whoever comes then is served on it; it stays, and the session is the same."""
    size = t.size(64, 16) * MIB

    def origin(sock):
        if net.recv_exact(sock, 1) == b"b":
            net.Pattern("bulk").recv(sock, size)
            sock.sendall(b"!")
        else:
            net.echo(sock)

    addr = t.tunnel(t.origin(net.until_cut(origin)))
    server = t.tunnel_server
    check_equal(server.counted("lanes accepted or dialled", 1), 1, "lanes")

    def heavy():
        with net.connect(addr) as sock:
            sock.sendall(b"b")
            net.Pattern("bulk").send(sock, size)
            check_equal(net.recv_exact(sock, 1), b"!", "the origin's word")
    for _ in range(3):
        task = net.Task(heavy)
        while task.is_alive():
            with net.connect(addr) as sock:
                sock.sendall(b"s0123456789")
                check_equal(net.recv_exact(sock, 10), b"0123456789", "the echo")
        task.join_result()
    check_equal(server.counted("lanes accepted or dialled", 1), 2, "lanes")
    check_equal(server.counted("sessions opened", 1), 1, "sessions")
