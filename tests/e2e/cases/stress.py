"""stress: much of everything at once, and too little of what is needed."""
import os
import random
import re
import shutil
import signal
import socket

import net
from harness import Skip, case, check, check_equal, find_tool

MIB = 1 << 20


# Chaos, from a seed

def chaos_plan(rng):
    """What one stream does: (kind, bytes up, bytes down)."""
    sizes = (0, 1, 100, 4000, 70000, 300000, 2 * MIB)
    kind = rng.choice(("echo", "half", "half", "close_first", "visitor_rst", "origin_rst", "abort_down", "abort_up"))
    return kind, rng.choice(sizes), rng.choice(sizes)


def chaos_origin(seed, half_close):
    """Learns its stream's number from the first four bytes and plays its part of the plan."""
    def handler(sock):
        try:
            index = int.from_bytes(net.recv_exact(sock, 4), "big")
        except ConnectionResetError:
            return  # a visitor's RST takes along what it sent before
        kind, up, down = chaos_plan(random.Random(f"{seed} {index}"))
        if kind == "echo":
            net.echo(sock)
        elif kind == "half":
            net.Pattern(f"up {index}").recv(sock, up)
            if half_close:
                check_equal(sock.recv(1), b"", f"EOF of stream {index}")
            net.Pattern(f"down {index}").send(sock, down)
        elif kind == "close_first":
            net.Pattern(f"down {index}").send(sock, down)
        elif kind == "origin_rst":
            net.Pattern(f"up {index}").recv(sock, up)
            net.rst(sock)
        elif kind == "abort_down":
            net.until_cut(net.flood)(sock)
        else:
            net.end_of(sock)
    return handler


def chaos_visit(addr, seed, index, half_close):
    kind, up, down = chaos_plan(random.Random(f"{seed} {index}"))
    with net.connect(addr) as sock:
        sock.sendall(index.to_bytes(4, "big"))
        if kind == "echo":
            sending = net.Task(net.Pattern(f"up {index}").send, sock, up)
            net.Pattern(f"up {index}").recv(sock, up)
            sending.join_result()
        elif kind == "half":
            net.Pattern(f"up {index}").send(sock, up)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            net.Pattern(f"down {index}").recv(sock, down)
            check_equal(net.end_of(sock), "eof", f"end of stream {index}")
        elif kind == "close_first":
            net.Pattern(f"down {index}").recv(sock, down)
            check_equal(net.end_of(sock), "eof", f"end of stream {index}")
        elif kind == "origin_rst":
            net.until_cut(lambda s: net.Pattern(f"up {index}").send(s, up))(sock)
            check(net.end_of(sock) in (("reset",) if half_close else ("reset", "eof")), f"end of stream {index}")
        elif kind == "abort_down":
            net.recv_exact(sock, 1 + up // 8)
            net.rst(sock)
        elif kind in ("visitor_rst", "abort_up"):
            net.Pattern(f"up {index}").send(sock, up)
            net.rst(sock)


def chaos(t, flags, streams=400, at_once=24):
    """Streams of every kind, many at once; every one that promises bytes is checked, and in the end all are gone."""
    seed = t.seed
    t.note = f"seed {seed}"
    origin = t.origin(chaos_origin(seed, half_close=not t.mode.v1))
    addr = t.tunnel(origin, *flags, server_flags=flags)
    numbers = iter(range(streams))

    def visitor():
        while (index := next(numbers, None)) is not None:
            chaos_visit(addr, seed, index, half_close=not t.mode.v1)
    for task in [net.Task(visitor) for _ in range(at_once)]:
        task.join_result()
    if not t.mode.v1:  # on v1 a stream whose visitor has left is kept for half a minute
        t.until(lambda: all(sock.fileno() < 0 for sock in origin.socks), "all connections at the origin to end")
    t.tunnel_server.send(signal.SIGUSR1)
    t.tunnel_server.expect("(?i)streams", stream="err")


@case(deadline=300)
def chaos_streams(t):
    chaos(t, [], streams=t.size(300, 100, 2000))


@case(deadline=300)
def chaos_with_tiny_windows(t):
    """The same with the least memory that may be configured: everything waits for everything, and nothing for ever."""
    chaos(t, ["--bulk-buffers", "8", "--window-initial", "4KiB", "--window-max", "16KiB"], streams=t.size(120, 60, 600))


@case(deadline=300)
def chaos_with_zero_copy(t):
    """The same with zero-copy sends forced on: a buffer that is given back too early shows as wrong bytes."""
    chaos(t, ["--zero-copy", "on"], streams=t.size(150, 80, 1000))


@case(deadline=300)
def bulk_with_tiny_buffers(t):
    """Sixteen streams at once, both directions, through eight big buffers."""
    flags = ["--bulk-buffers", "8", "--window-initial", "8KiB", "--window-max", "1MiB"]
    addr = t.tunnel(t.origin(net.echo), *flags, server_flags=flags)
    bulk(addr, 16, t.size(4, 1) * MIB)


@case(deadline=300)
def bulk_with_zero_copy(t):
    flags = ["--zero-copy", "on"]
    addr = t.tunnel(t.origin(net.echo), *flags, server_flags=flags)
    bulk(addr, 8, t.size(16, 4) * MIB)


def bulk(addr, streams, size):
    def visit(index):
        sock = net.connect(addr)
        sending = net.Task(net.Pattern(f"bulk {index}").send, sock, size)
        check_equal(net.Pattern(f"bulk {index}").recv(sock, size), sending.join_result(), "checksum")
        sock.close()
    for task in [net.Task(visit, index) for index in range(streams)]:
        task.join_result()


@case(not_in={"v1": "v1 has no windows"})
def requests_beside_bulk(t):
    """Windows of bulk streams are kept small at both ends while small exchanges share their lanes, and every byte of both arrives."""
    addr = t.tunnel(t.origin(net.echo))
    socks = [net.connect(addr) for _ in range(8)]

    def limited(proc):
        proc.send(signal.SIGUSR1)
        return "windows kept small" in proc.err

    def both():
        transfer = net.Task(bulk, addr, 2, t.size(16, 4) * MIB)
        while transfer.is_alive():
            net.exchange(socks, lambda index: b"beside %d" % index)
        transfer.join_result()
        return limited(t.tunnel_server) and limited(t.tunnel_client)
    t.until(both, "windows to be kept small at both ends")


@case(not_in={"v1": "the wire does not matter"})
def least_of_everything(t):
    """The lowest value of every limit that the command line takes: it starts, and carries a stream."""
    flags = ["--bulk-buffers", "4", "--window-initial", "4KiB", "--window-max", "4KiB", "--max-streams", "1"]
    server_only = ["--max-sessions", "1", "--max-lanes", "2", "--max-unauthenticated", "1"]
    argv = t.culvert_argv("server", "--bulk-buffers", "3")
    refused = t.run("culvert", argv, want=2)
    lowest = re.search(r"from (\d+) to", refused.err).group(1)
    flags[1] = lowest
    addr = t.tunnel(t.origin(net.echo), *flags, server_flags=flags + server_only)
    bulk(addr, 1, MIB)


# Clients that come and go

@case(deadline=300)
def clients_come_and_go(t):
    """Twenty lives of clients, ended in every way, beside one that stays and works: no port, session or stream is left over."""
    server = t.server("--grace", "0s")  # whoever is killed is gone
    origin = t.origin(net.echo)
    steady = t.client(server, origin)
    sock = net.connect(steady.addr)
    for life in range(20):
        client = t.client(server, origin)
        check_equal(client.addr[1], server.start_port + 1, f"port of client {life}")
        visitors = [net.connect(client.addr) for _ in range(5)]
        net.exchange(visitors, lambda index: b"visitor %d" % index)
        if life % 3 == 0:
            client.kill()
        elif life % 3 == 1:
            client.want = None
            client.send(signal.SIGINT)
            client.send(signal.SIGINT)
            client.wait()
        else:
            client.stop()
        for visitor in visitors:
            check(net.end_of(visitor) in ("reset", "eof"), "a visitor was kept")
        t.until(lambda: net.connect_refused(client.addr), "the port to be closed")
        sock.sendall(b"steady")
        check_equal(net.recv_exact(sock, 6), b"steady", "the client that stays")


# Too little

@case(needs=["prlimit"])
def out_of_descriptors(t):
    """A server that the kernel gives no more descriptors, against its own count, lets visitors wait in the backlog; when
    others leave, they are served."""
    server = t.server()
    t.run("prlimit", ["prlimit", "--pid", str(server.pid), "--nofile=64:64"])  # an accept has the limit of its beginning
    client = t.client(server, t.origin(net.echo))
    socks = [net.connect(client.addr) for _ in range(90)]
    for sock in socks:
        sock.setblocking(False)
        sock.send(b"?")
    answered = set()

    def some_answer():
        for sock in socks:
            try:
                if sock not in answered and sock.recv(1) == b"?":
                    answered.add(sock)
            except BlockingIOError:
                pass
        return len(answered) >= 20
    t.until(some_answer, "visitors within the limit to be served")
    server.expect("(?i)descriptors|open files", stream="err")
    check(len(answered) < 90, "more visitors were served than there are descriptors")

    def all_answer():
        for sock in list(answered):
            if sock.fileno() >= 0:
                net.rst(sock)
        live = [sock for sock in socks if sock.fileno() >= 0]
        for sock in live:
            try:
                if sock.recv(1) == b"?":
                    answered.add(sock)
            except BlockingIOError:
                pass
        return len(answered) == 90
    t.until(all_answer, "the others to be served")


@case(needs=["prlimit"])
def out_of_descriptors_at_the_client(t):
    """A client that runs out resets the visitor, and goes on."""
    server = t.server()
    client = t.client(server, t.origin(net.echo), under=["prlimit", "--nofile=64:64"])
    ends = []
    socks = []
    for _ in range(60):
        sock = net.connect(client.addr)
        socks.append(sock)
        try:
            sock.sendall(b"?")
            ends.append("echo" if sock.recv(1) == b"?" else "eof")
        except ConnectionResetError:
            ends.append("reset")
    check(ends.count("echo") >= 10 and ends[-1] != "echo", f"ends: {ends}")
    for sock in socks:
        net.rst(sock) if ends[socks.index(sock)] == "echo" else sock.close()

    def served():
        with net.connect(client.addr) as sock:
            try:
                sock.sendall(b"?")
                return sock.recv(1) == b"?"
            except ConnectionResetError:
                return False
    t.until(served, "room after the others left")


@case(needs=["prlimit", "setpriv"])
def unprivileged_user(t):
    """An ordinary user with 8 MiB of lockable memory, as after a log-in: both ends start and carry bulk."""
    if find_tool("id") is None or t.run("id", ["id", "-u"]).out.strip() != "0":
        raise Skip("needs root to become another user")
    program = shutil.copy(t.culvert, t.dir / "culvert")
    t.culvert = str(program)
    under = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "prlimit", "--memlock=8388608"]
    for path in t.certs.glob("*"):
        os.chown(path, 65534, 65534)
    if t.mode.tls:
        t.certs.chmod(0o755)
    server = t.server(under=under)
    client = t.client(server, t.origin(net.echo), under=under)
    bulk(client.addr, 4, 8 * MIB)
