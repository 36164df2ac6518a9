"""moved_faults: bulk that is moved meets urgent bytes, and a lane that ends before the other one has been heard."""
import signal
import socket
import threading
import time

import net
import v2wire
from cases.moved import DOWN, NO_PIPES, UP
from cases.moved_ends import half_closed, hear_to_the_end, one_then_the_other
from cases.paths import behind
from cases.resume import cpu_seconds
from harness import case, check, check_equal

MIB = 1 << 20
PIPE_PLACES = 64  # of 256 KiB
LANES = 48


@case(not_in=NO_PIPES, deadline=240)
def what_is_moved_drains(t):
    """SIGTERM at either end in the middle of downloads and uploads: all of them finish whole, and status 0."""
    size = t.size(96, 24) * MIB
    for side in ("server", "client"):
        addr = t.tunnel(t.origin(one_then_the_other), "--drain-timeout", "60s", server_flags=["--drain-timeout", "60s"])
        tasks = [net.Task(half_closed, t, addr, 1, size) for _ in range(2)]
        t.until(lambda: t.tunnel_server.counted(UP, t.mode.workers) > size // 4, "bulk to be under way")
        proc = t.tunnel_server if side == "server" else t.tunnel_client
        proc.send(signal.SIGTERM)
        for task in tasks:
            task.join_result()
        check_equal(proc.wait(), 0, "exit status")
        t.tunnel_client.stop()
        t.tunnel_server.stop()


@case(not_in={**NO_PIPES, "v2-2w": "which lane a stream is on is not known"})
def drained_client_is_heard_out(t):
    """A client that ends is done when its lanes have taken the last bytes: while those of its spare lane are on their way, the end of the
    other one, which is there at once, must not end the session at the server."""
    go = threading.Event()

    def origin(sock):
        if net.recv_exact(sock, 1) == b"d":
            net.Pattern("heavy").send(sock, 96 * MIB)
        else:
            sock.sendall(b"!")
            go.wait(net.TIMEOUT)
            net.Pattern("last").send(sock, 20000)

    def heavy():
        with net.connect(client.addr) as sock:
            sock.sendall(b"d")
            sock.shutdown(socket.SHUT_WR)
            hear_to_the_end(sock, "heavy", 96 * MIB)
    server, proxy, client = behind(t, t.origin(origin), "--drain-timeout", "60s", server_flags=["--drain-timeout", "60s"])
    task = net.Task(heavy)
    server.expect("lane 1 .*joined", stream="err")
    with net.connect(client.addr) as sock:
        sock.sendall(b"s")
        sock.shutdown(socket.SHUT_WR)
        check_equal(net.recv_exact(sock, 1), b"!", "the origin's word")
        task.join_result()
        proxy.links[1].stall()
        client.send(signal.SIGTERM)
        client.expect("stopping", stream="err")
        go.set()
        time.sleep(0.5)  # the path is slow
        proxy.links[1].flow.set()
        hear_to_the_end(sock, "last", 20000)
        check_equal(client.wait(), 0, "exit status")


@case(not_in={**NO_PIPES, "v2-2w": "which lane a stream is on is not known"})
def drained_server_is_heard_out(t):
    """The other way round: the last bytes of an upload through the spare lane are on their way when the server is done."""
    heard = []

    def origin(sock):
        if net.recv_exact(sock, 1) == b"d":
            net.Pattern("heavy").send(sock, 96 * MIB)
        else:
            sock.sendall(b"!")
            sock.shutdown(socket.SHUT_WR)
            heard.append(hear_to_the_end(sock, "last", 20000))

    def heavy():
        with net.connect(client.addr) as sock:
            sock.sendall(b"d")
            sock.shutdown(socket.SHUT_WR)
            hear_to_the_end(sock, "heavy", 96 * MIB)
    server, proxy, client = behind(t, t.origin(origin), "--drain-timeout", "60s", server_flags=["--drain-timeout", "60s"])
    task = net.Task(heavy)
    server.expect("lane 1 .*joined", stream="err")
    with net.connect(client.addr) as sock:
        sock.sendall(b"s")
        check_equal(net.recv_exact(sock, 1), b"!", "the origin's word")
        check_equal(sock.recv(1), b"", "the origin's FIN")
        task.join_result()
        proxy.links[1].stall()
        server.send(signal.SIGTERM)
        server.expect("stopping", stream="err")
        net.Pattern("last").send(sock, 20000)
        sock.shutdown(socket.SHUT_WR)
        time.sleep(0.5)  # the path is slow
        proxy.links[1].flow.set()
        check_equal(server.wait(), 0, "exit status")
        t.until(lambda: heard or t.origin_errors(), "the last bytes at the origin")
        check_equal(t.origin_errors(), [], "what the origin heard")


@case(not_in={"v1": "v1 is copied"})
def urgent_in_bulk(t):
    """As urgent_data, in the middle of bulk of a visitor and of an origin: splice(2) stops there, a read does not."""
    size = t.size(48, 16) * MIB

    def say(sock):
        body = net.Pattern("urgent")
        for index in range(size // MIB):
            block = body.block(index)
            if index % 16 == 8:
                sock.send(block[:1], socket.MSG_OOB)
                block = block[1:]
            sock.sendall(block)
        sock.shutdown(socket.SHUT_WR)

    def both(sock):
        sock.settimeout(net.TIMEOUT / 2)
        saying = net.Task(say, sock)
        hear_to_the_end(sock, "urgent", size)
        saying.join_result()
    with net.connect(t.tunnel(t.origin(both))) as sock:
        both(sock)


@case(not_in=NO_PIPES)
def urgent_on_a_lane_that_moves(t):
    """A client that logs in and marks a byte of a large frame as urgent, which no good one does, takes no core from others."""
    server = t.server("--window-initial", "1MiB", workers=1)
    wire = v2wire.client_wire(server.addr)
    port, = v2wire.log_in(wire, t.token.encode(), window=16 * MIB)
    visitor = net.connect((server.host, port))
    visitor.sendall(b"x")
    stream = wire.expect(v2wire.OPEN)[1]
    size = wire.window
    head = v2wire.frame(v2wire.DATA, stream, b"", length=size)
    wire.send_raw(head + bytes(1000))
    net.recv_exact(visitor, 1000)
    wire.send_raw(bytes(1000))
    net.recv_exact(visitor, 1000)
    check_equal(server.counted(DOWN, 1), 1000, "bytes moved")
    wire.sock.send(b"!", socket.MSG_OOB)
    wire.send_raw(bytes(1000))
    before, started = cpu_seconds(server), time.monotonic()
    time.sleep(1)  # measured, not waited for
    used = (cpu_seconds(server) - before) / (time.monotonic() - started)
    check(used < 0.2, f"waiting took {used:.0%} of a core")


def nobody_listens(host, port):
    """Without a connection, which would be a stream for the lane."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return False
        return True


@case(not_in={**NO_PIPES, "v2-2w": "one worker shows it"})
def lanes_end_behind_full_pipes(t):
    """Clients say a little more each, a byte at a time, than fits into the pipes of readers that rest, and end: one of them when its pipe is
    just full. The server learns of every end at once, not when the readers go on."""
    server = t.server("--window-initial", "8MiB", "--heartbeat", "100s", "--expiry", "300s", workers=1)
    wires, visitors, ports = [], [], []
    for _ in range(LANES):  # so few that nobody has to give a pipe back
        wires.append(v2wire.client_wire(server.addr))
        ports += v2wire.log_in(wires[-1], t.token.encode(), window=8 * MIB)
        visitors.append(net.connect((server.host, ports[-1]), rcvbuf=4096))
        stream = wires[-1].expect(v2wire.OPEN)[1]
        whole = v2wire.frame(v2wire.DATA, stream, bytes(MIB))
        wires[-1].send_raw(whole * 3 + whole[:1024])
    time.sleep(0.3)  # all of that is where it can go
    for step in range(PIPE_PLACES + 2):
        for index, wire in enumerate(wires):
            if step < PIPE_PLACES + 3 - LANES + index:
                wire.send_raw(b"x")
        time.sleep(0.01)  # so that each arrives alone
    for wire in wires:
        wire.close()
    for port in ports:
        t.until(lambda: nobody_listens(server.host, port), f"the end of the session of port {port}")
    for sock in visitors:
        sock.close()
