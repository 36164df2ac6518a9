"""moved_ends: what befalls bulk that goes through pipes: half-closes, resets, deaths, losses, pieces, readers that rest, spare lanes."""
import pathlib
import random
import signal
import socket
import threading
import time

import net
import v2wire
from cases.moved import DOWN, NO_PIPES, UP, moved
from cases.paths import behind
from harness import case, check, check_equal

MIB = 1 << 20
GRACE = ["--grace", "60s"]
RESTS = 3  # seconds that a reader rests: more than a round in which the server looks for such ones


def say_and_end(sock, seed, size):
    digest = net.Pattern(seed).send(sock, size)
    sock.shutdown(socket.SHUT_WR)
    return digest


def hear_to_the_end(sock, seed, size):
    digest = net.Pattern(seed).recv(sock, size)
    check_equal(sock.recv(1), b"", f"FIN behind {seed}")
    return digest


def prefix(sock, seed):
    """How much of a pattern came, and how it ended; every byte that came is right."""
    pattern, got = net.Pattern(seed), 0
    try:
        while data := sock.recv(MIB):
            at = 0
            while at < len(data):
                block = pattern.block((got + at) // MIB)[(got + at) % MIB:]
                part = data[at:at + len(block)]
                check(part == block[:len(part)], f"wrong bytes between {got} and {got + len(data)} of {seed}")
                at += len(part)
            got += len(data)
        return got, "eof"
    except (ConnectionResetError, BrokenPipeError):
        return got, "reset"


class Beside:
    """A stream with bytes of its own both ways beside what is cut: nothing may happen to it."""

    def __init__(self, addr):
        self.over = threading.Event()
        self.turns = 0
        self.sock = net.connect(addr)
        self.sock.sendall(b"e")
        self.task = net.Task(self.run)

    def run(self):
        while not self.over.is_set():
            seed = f"beside {self.turns}"
            sending = net.Task(net.Pattern(seed).send, self.sock, 2 * MIB)
            check_equal(net.Pattern(seed).recv(self.sock, 2 * MIB), sending.join_result(), "checksum")
            self.turns += 1

    def end(self):
        """It went on until now, and goes on."""
        before = self.turns
        net.poll_until(lambda: self.turns > before + 1 or self.task.error, "the stream beside")
        self.over.set()
        self.task.join_result()
        self.sock.shutdown(socket.SHUT_WR)
        check_equal(net.end_of(self.sock), "eof", "the end of the stream beside")
        self.sock.close()


def half_closed(t, addr, streams, size):
    """So many visitors that say all and end, and then hear all. On v1, which cannot end one direction, they do not end."""
    def visit(index):
        with net.connect(addr) as sock:
            sock.sendall(index.to_bytes(4, "big") + size.to_bytes(4, "big") + bytes([t.mode.v1]))
            up = net.Pattern(f"up {index}").send(sock, size)
            if not t.mode.v1:
                sock.shutdown(socket.SHUT_WR)
            check_equal(net.recv_exact(sock, 40).decode(), up, "the origin's checksum of what went up")
            hear_to_the_end(sock, f"down {index}", size)
    for task in [net.Task(visit, index) for index in range(streams)]:
        task.join_result()


def one_then_the_other(sock):
    """Hears all, says its checksum and as much of its own."""
    index, size, v1 = (int.from_bytes(net.recv_exact(sock, width), "big") for width in (4, 4, 1))
    digest = net.Pattern(f"up {index}").recv(sock, size)
    if not v1:
        check_equal(sock.recv(1), b"", "FIN")
    sock.sendall(digest.encode())
    net.Pattern(f"down {index}").send(sock, size)


@case(deadline=300)
def bulk_is_moved_one_way(t):
    """Up to its FIN, and then down, through one connection and through eight: moved on plain v2 lanes, whichever way alone."""
    size = t.size(256, 16) * MIB
    addr = t.tunnel(t.origin(one_then_the_other))
    half_closed(t, addr, 1, size)
    half_closed(t, addr, 8, size // 8)
    counts = moved(t)
    t.note = ", ".join(f"{side} {way.split()[-2]} {count / (2 * size):.0%}" for (side, way), count in counts.items())
    if t.mode.v1 or t.mode.tls:
        check(not any(counts.values()), f"nothing is moved here: {counts}")
    else:
        least = t.size(size, size // 2)  # how fast it begins counts for more with little
        check(all(count > least for count in counts.values()), f"of {2 * size} bytes each way were moved {counts}")


# Resets

@case(not_in=NO_PIPES, deadline=240)
def downloads_that_are_moved_end(t):
    """An origin resets in the middle of a download: what its visitor has got is right, and it ends with a reset. A visitor resets: so does
    the origin's end. A stream beside them goes on."""
    ends = []

    def origin(sock):
        kind = net.recv_exact(sock, 1)
        if kind == b"e":
            return net.echo(sock)
        try:
            net.Pattern("download").send(sock, 24 * MIB)
            if kind == b"r":
                net.rst(sock)
            else:
                net.Pattern("download").send(sock, 4096 * MIB)
        except (ConnectionResetError, BrokenPipeError) as error:
            ends.append(type(error))
        return None
    addr = t.tunnel(t.origin(net.until_cut(origin)))
    beside = Beside(addr)
    visitors = t.size(12, 4)
    for number in range(visitors):
        with net.connect(addr) as sock:
            sock.sendall(b"r")
            got, end = prefix(sock, "download")
            check(end == "reset" and got <= 24 * MIB, f"reset by the origin behind 24 MiB, came {got} and {end}")
        sock = net.connect(addr)
        sock.sendall(b"f")
        check(net.recv_exact(sock, MIB) == net.Pattern("download").block(0), "wrong bytes")
        for _ in range(16 + number):
            net.recv_exact(sock, MIB)
        net.rst(sock)
    t.until(lambda: len(ends) == visitors, "the origin's ends")
    beside.end()
    check(moved(t)["client", UP] > visitors * 16 * MIB, "most of it was moved")


# Deaths

def flood_origin(sock):
    kind = net.recv_exact(sock, 1)
    if kind == b"e":
        return net.echo(sock)
    if kind == b"d":
        net.Pattern("down").send(sock, 4096 * MIB)
    else:
        got, end = prefix(sock, "up")
        check(got > 0 and end == "reset", f"what went up ended with {end} after {got} bytes")
    return None


def bulk_both_ways(addr):
    """A download and an upload that go on until they are cut, both under way: tasks with what came and how it ended."""
    begun = threading.Event()

    def download():
        with net.connect(addr) as sock:
            sock.sendall(b"d")
            check(net.recv_exact(sock, MIB) == net.Pattern("down").block(0), "wrong bytes")
            for index in range(1, 24):
                check(net.recv_exact(sock, MIB) == net.Pattern("down").block(index), "wrong bytes")
            begun.set()
            return net.end_of(sock)

    def upload():
        with net.connect(addr) as sock:
            sock.sendall(b"u")
            try:
                net.Pattern("up").send(sock, 4096 * MIB)
            except (ConnectionResetError, BrokenPipeError):
                return "reset"
        return "eof"
    tasks = [net.Task(download), net.Task(upload)]
    net.poll_until(begun.is_set, "bulk to be under way")
    return tasks


@case(not_in=NO_PIPES, deadline=240)
def who_moves_is_killed(t):
    """kill -9 of the client and of the server in the middle of bulk both ways: both ends of each stream are reset, never told that this was
    all; the other one serves who comes next."""
    origin = t.origin(net.until_cut(flood_origin))
    server = t.server()
    for _ in range(t.size(3, 1)):
        client = t.client(server, origin)
        tasks = bulk_both_ways(client.addr)
        client.kill()
        check_equal([task.join_result() for task in tasks], ["reset", "reset"], "ends of visitors")
    client = t.client(server, origin)
    tasks = bulk_both_ways(client.addr)
    server.kill()
    check_equal([task.join_result() for task in tasks], ["reset", "reset"], "ends of visitors")
    again = t.server(addr=server.addr, start_port=server.start_port)
    client.read_ready(2)
    tasks = bulk_both_ways(client.addr)
    again.send(signal.SIGTERM)
    check_equal([task.join_result() for task in tasks], ["reset", "reset"], "ends of visitors when the server's time is over")


# Readers that rest

@case(not_in=NO_PIPES, deadline=300)
def readers_of_what_is_moved_rest(t):
    """So many visitors that read nothing for some seconds that pipes are short: each has every byte afterwards, and one that reads has
    them meanwhile. The same of origins."""
    size, count = t.size(12, 4) * MIB, t.size(60, 12)
    go = threading.Event()

    def origin(sock):
        if net.recv_exact(sock, 1) == b"d":
            return net.Pattern("rest").send(sock, size)
        go.wait(net.TIMEOUT)
        return sock.sendall(hear_to_the_end(sock, "rest", size).encode())
    addr = t.tunnel(t.origin(origin))
    socks = [net.connect(addr) for _ in range(count)]
    for sock in socks:
        sock.sendall(b"d")
    uploads = [net.connect(addr) for _ in range(count)]
    for sock in uploads:
        sock.sendall(b"u")
    saying = [net.Task(say_and_end, sock, "rest", size) for sock in uploads]
    until = time.monotonic() + RESTS
    while time.monotonic() < until:
        with net.connect(addr) as sock:
            sock.sendall(b"d")
            hear_to_the_end(sock, "rest", size)
    go.set()
    for task in [net.Task(hear_to_the_end, sock, "rest", size) for sock in socks]:
        task.join_result()
    for sock, task in zip(uploads, saying):
        check_equal(net.recv_exact(sock, 40).decode(), task.join_result(), "checksum of an upload")
        check_equal(sock.recv(1), b"", "FIN")
    for sock in socks + uploads:
        sock.close()
    counts = moved(t)
    check(all(counts.values()), f"some of it was moved: {counts}")
    with net.connect(addr) as sock:
        sock.sendall(b"d")
        hear_to_the_end(sock, "rest", size)
    check(moved(t)["client", UP] > counts["client", UP], "there are pipes again")


# Losses

@case(not_in=NO_PIPES, deadline=300)
def bulk_is_cut_again_and_again(t):
    """Connections of bulk are cut again and again: it is kept and copied, so nothing is missing and nothing comes twice."""
    size = t.size(96, 16) * MIB
    _, proxy, client = behind(t, t.origin(one_then_the_other), *GRACE, server_flags=GRACE)
    tasks = [net.Task(half_closed, t, client.addr, 2, size)]
    cuts = 0
    while tasks[0].is_alive() and cuts < 40:
        time.sleep(0.04)
        for link in [link for link in proxy.links if link.alive]:
            link.cut(cuts % 2 == 0)
            cuts += 1
    for task in tasks:
        task.join_result(net.TIMEOUT * 4)
    check_equal(client.out.count("ready:"), 1, "sessions")
    t.note = f"{cuts} cuts"


# Pieces

@case(not_in=NO_PIPES, deadline=240)
def bulk_moved_in_pieces(t):
    """A path that delivers everything in small pieces: a pipe holds few bytes then, and there are not pipes enough for a window."""
    size = t.size(24, 6) * MIB
    _, _, client = behind(t, t.origin(one_then_the_other), piece=1400)
    half_closed(t, client.addr, 2, size // 2)
    half_closed(t, client.addr, 6, size // 6)


@case(not_in=NO_PIPES)
def frames_moved_in_any_pieces(t):
    """Frames of any size for several streams, with others between them, arrive cut anywhere, in the middle of headers, too: the server moves
    what is large and reads what is small, and each visitor has its bytes, and its FIN."""
    total, rng = 6 * MIB, random.Random(t.seed)
    server = t.server("--window-initial", "8MiB", workers=1)
    wire = v2wire.client_wire(server.addr)
    port, = v2wire.log_in(wire, t.token.encode(), window=8 * MIB)
    for number in range(t.size(4, 2, 20)):
        visitors, left = [], {}
        for index in range(3):
            sock = net.connect((server.host, port))
            while (got := wire.recv())[0] != v2wire.OPEN:
                pass  # PONG, WINDOW, and the ends of those before
            stream = got[2]
            visitors.append((sock, f"pieces {number} {index}"))
            pattern = net.Pattern(visitors[-1][1])
            left[stream] = memoryview(b"".join(pattern.block(block) for block in range(total // MIB)))
        tasks = [net.Task(hear_to_the_end, sock, seed, total) for sock, seed in visitors]
        while left:
            send_in_pieces(wire, some_frames(left, rng), rng)
        for task in tasks:
            task.join_result()
        for sock, _ in visitors:
            sock.close()
    t.note = f"{server.counted(DOWN, 1) / (number + 1) / 3 / total:.0%} moved"
    check(server.counted(DOWN, 1) > 0, "some of it was moved")
    wire.close()


def some_frames(left, rng):
    """The next frames of some streams, in one run of bytes."""
    out = []
    for _ in range(rng.randint(1, 4)):
        if not left:
            break
        stream = rng.choice(list(left))
        size = rng.choice((1, 700, 9000, 65536, 70000, 262144, rng.randint(1, MIB), MIB))
        part, left[stream] = left[stream][:size], left[stream][size:]
        last = not left[stream]
        out.append(v2wire.frame(v2wire.DATA, stream, bytes(part), flags=v2wire.FIN if last and rng.random() < 0.5 else 0))
        if last:
            if not out[-1][2] | out[-1][3]:
                out.append(v2wire.frame(v2wire.DATA, stream, b"", flags=v2wire.FIN))
            del left[stream]
        if rng.random() < 0.3:
            out.append(v2wire.frame(v2wire.PING, 0, v2wire.ping()))
    return b"".join(out)


def send_in_pieces(wire, data, rng):
    at = 0
    while at < len(data):
        size = rng.choice((1, 5, 11, 12, 13, 1000, 65536, 1 << 19, 1 << 22))
        wire.send_raw(data[at:at + size])
        at += size
        if size < 1000:
            time.sleep(0.0005)  # so that it arrives alone


# Spare lanes

def small_requests(addr, task):
    """Requests of newcomers as long as the task lives: how many, and the slowest."""
    slowest, count = 0.0, 0
    while task.is_alive():
        started = time.monotonic()
        with net.connect(addr) as sock:
            sock.sendall(b"e0123456789")
            check_equal(net.recv_exact(sock, 10), b"0123456789", "the echo")
        slowest, count = max(slowest, time.monotonic() - started), count + 1
    return count, slowest


@case(not_in={**NO_PIPES, "v2-2w": "lanes of several workers are counted elsewhere"}, deadline=240)
def spare_lane_of_each_session(t):
    """A spare lane comes with bulk, in each session again: behind the server's end, behind a cut, and it goes with its session."""
    size = t.size(96, 16) * MIB

    def origin(sock):
        if net.recv_exact(sock, 1) == b"e":
            return net.echo(sock)
        return say_and_end(sock, "spare", size)

    def heavy():
        with net.connect(client.addr) as sock:
            sock.sendall(b"d")
            return hear_to_the_end(sock, "spare", size)

    def round_of_bulk():
        task = net.Task(heavy)
        count, slowest = small_requests(client.addr, task)
        task.join_result()
        t.note += f"{count} requests, the slowest {slowest * 1000:.0f} ms; "
        check(slowest < 5 * t.factor, f"a newcomer waited for {slowest:.1f} s")
    server, proxy, client = behind(t, t.origin(net.until_cut(origin)))
    for session in (1, 2):  # the second behind a cut of all connections
        for _ in range(2):
            round_of_bulk()
        check_equal(server.counted("sessions opened", 1), session, "sessions")
        check_equal(len(server_sockets(server)), 2, "connections of lanes")  # a dial that the end overtook has gone
        if session == 1:
            for link in list(proxy.links):
                link.cut()
            client.read_ready(2)
    server.kill()
    again = t.server(addr=server.addr, start_port=server.start_port)
    client.read_ready(3)
    round_of_bulk()
    check_equal(len(server_sockets(again)), 2, "connections of lanes at the new server")


@case(not_in={**NO_PIPES, "v2-2w": "which lane a stream is on is not known"}, deadline=240)
def a_spare_lane_is_cut(t):
    """One of two connections is lost in the middle of bulk, without grace: the session ends whole, never half, and the next works."""
    def origin(sock):
        if net.recv_exact(sock, 1) == b"e":
            return net.echo(sock)
        return net.flood(sock)
    server, proxy, client = behind(t, t.origin(net.until_cut(origin)))
    for turn, index in enumerate((0, 1)):
        heavy = net.connect(client.addr)
        heavy.sendall(b"d")
        reading = net.Task(net.end_of, heavy)
        t.until(lambda: len([link for link in proxy.links if link.alive]) == 2, "the spare lane")
        small = net.connect(client.addr)
        small.sendall(b"e?")
        check_equal(net.recv_exact(small, 1), b"?", "echo")
        [link for link in proxy.links if link.alive][index].cut()
        check_equal(reading.join_result(), "reset", "the end of bulk")
        check_equal(net.end_of(small), "reset", "the end of a stream on the other lane")
        client.read_ready(2 + turn)
        with net.connect(client.addr) as sock:
            sock.sendall(b"e!")
            check_equal(net.recv_exact(sock, 1), b"!", "echo in the next session")


@case(not_in={**NO_PIPES, "v2-2w": "there are more connections to begin with"}, deadline=240)
def spare_lane_is_refused(t):
    """The spare lane cannot be had for a while: the session lives without it, and has it later."""
    size = t.size(48, 16) * MIB

    def origin(sock):
        if net.recv_exact(sock, 1) == b"e":
            return net.echo(sock)
        return say_and_end(sock, "spare", size)

    def heavy():
        with net.connect(client.addr) as sock:
            sock.sendall(b"d")
            return hear_to_the_end(sock, "spare", size)
    server, proxy, client = behind(t, t.origin(net.until_cut(origin)))
    proxy.hold = True
    for _ in range(3):
        task = net.Task(heavy)
        small_requests(client.addr, task)
        task.join_result()
    check_equal(len(server_sockets(server)), 1, "connections of lanes")
    proxy.hold = False

    def spare_is_there():
        task = net.Task(heavy)
        small_requests(client.addr, task)
        task.join_result()
        return len(server_sockets(server)) == 2
    t.until(spare_is_there, "the spare lane")
    check_equal(client.out.count("ready:"), 1, "sessions")


@case(not_in=NO_PIPES, deadline=240)
def bulk_begins_while_draining(t):
    """Bulk that begins behind SIGTERM asks for a spare lane where none can be had any more: it is whole all the same, and status 0."""
    size = t.size(48, 16) * MIB
    for side in ("server", "client"):
        go = threading.Event()

        def origin(sock, go=go):
            sock.sendall(b"!")
            go.wait(net.TIMEOUT)
            net.Pattern("late").send(sock, size)
        addr = t.tunnel(t.origin(origin), "--drain-timeout", "60s", server_flags=["--drain-timeout", "60s"])
        with net.connect(addr) as sock:
            check_equal(net.recv_exact(sock, 1), b"!", "the origin's word")
            proc = t.tunnel_server if side == "server" else t.tunnel_client
            proc.send(signal.SIGTERM)
            proc.expect("stopping", stream="err")
            t.until(lambda: net.connect_refused(t.tunnel_server.addr if side == "server" else addr), "no more visitors or clients")
            go.set()
            hear_to_the_end(sock, "late", size)
        check_equal(proc.wait(), 0, "exit status")
        t.tunnel_client.stop()
        t.tunnel_server.stop()


def server_sockets(server):
    """Connections at the address for lanes."""
    port = f":{server.addr[1]:04X}"
    inodes = set()
    for fd in pathlib.Path(f"/proc/{server.pid}/fd").iterdir():
        try:
            inodes.add(str(fd.readlink()))
        except OSError:
            pass
    rows = [line.split() for line in pathlib.Path(f"/proc/{server.pid}/net/tcp").read_text().splitlines()[1:]]
    return [row for row in rows if row[1].endswith(port) and row[3] == "01" and f"socket:[{row[9]}]" in inodes]
