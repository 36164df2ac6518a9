"""faults: what happens to machines and networks, with checked streams through all of it. The network is netns.py's; random turns come from --seed.

A case takes `Visitors` through its faults: streams at full speed both ways, one that reads slowly, one that reads nothing until the end, an origin that reads slowly, and a stream that is idle.
All must come through with every byte, over one session. The cases at the end are about what cannot survive, and what must be true afterwards.
"""
import contextlib
import os
import random
import select
import signal
import socket
import time

import net
from cases.resume import GRACE, MIB, V1, Load, one_stream
from harness import case, check, check_equal, small_disk
from netns import NEEDS, Network

FIND = {"not_in": V1, "needs": NEEDS, "deadline": 300}


def echo(sock):
    """The idle stream may wait for all faults to be over."""
    sock.settimeout(net.TIMEOUT * 8)
    net.echo(sock)


def odd_origin(sock):
    """The first byte says what becomes of the connection: D a download of the pattern, U an upload that is read slowly.

    A download ends by FIN, and its socket stays: one that is closed while its peer's window is shut is
    reset by the kernel after some 76 s (tcp(7), tcp_orphan_retries), with what it has not sent yet.
    """
    sock.settimeout(net.TIMEOUT * 8)
    kind = net.recv_exact(sock, 1)
    if kind == b"D":
        net.Pattern("odd").send(sock, 8 * MIB)
        sock.shutdown(socket.SHUT_WR)
        return net.Origin.KEEP
    sock.sendall(slow_sum(sock, 8 * MIB).encode())
    return None


def slow_sum(sock, size, pause=0.01):
    """Reads slowly at first (for some two seconds), then the rest; returns the checksum."""
    class Slow:
        until = time.monotonic() + 2

        def recv_into(self, view):
            if time.monotonic() < self.until:
                time.sleep(pause)
                view = view[:4096]
            return sock.recv_into(view)
    return net.Pattern("odd").recv(Slow(), size)


class Visitors:
    """See above. `over` says that the faults are over: all must end well from here on."""

    def __init__(self, t, client, streams=8, size=2 * MIB):
        self.t, self.client = t, client
        echo, odd = client.addrs
        self.idle = net.connect(echo)
        self.exchange(b"first")
        self.stalled = net.connect(odd, rcvbuf=65536)
        self.stalled.sendall(b"D")
        slow = net.connect(odd, rcvbuf=65536)
        slow.sendall(b"D")
        pushed = net.connect(odd)
        pushed.sendall(b"U")
        self.load = Load(echo, streams, size)
        self.tasks = [net.Task(slow_sum, slow, 8 * MIB), net.Task(self.push, pushed)]

    def exchange(self, text):
        self.idle.sendall(text)
        check_equal(net.recv_exact(self.idle, len(text)), text, "the idle stream")

    @staticmethod
    def push(sock):
        sock.settimeout(net.TIMEOUT * 2)
        digest = net.Pattern("odd").send(sock, 8 * MIB)
        check_equal(net.recv_all(sock).decode(), digest, "checksum of the upload")

    def moved(self, by=4):
        """Waits until the load has gone on for a while: streams have ended since now."""
        since = self.load.done
        self.t.until(lambda: self.load.done >= since + by or self.load.failed(), "streams that end")

    def over(self):
        self.load.join()
        for task in self.tasks:
            task.join_result()
        net.Pattern("odd").recv(self.stalled, 8 * MIB)
        check_equal(net.end_of(self.stalled), "eof", "end of the stalled stream")
        self.exchange(b"and last")
        check_equal(self.client.out.count("ready:"), 2, "tunnels made ready")


@contextlib.contextmanager
def under_load(t, *flags, streams=8, size=2 * MIB, server_under=(), nofile=None, **options):
    """Yields (network, server, client, visitors, rng), and sees all streams through."""
    print("seed", t.seed)
    network = Network(t)
    server = network.server(*GRACE, *flags, under=server_under)
    if nofile is not None:  # an accept has the limit of its beginning
        t.run("prlimit", ["prlimit", "--pid", str(server.pid), f"--nofile={nofile}:{nofile}"])
    client = network.client(server, network.origin(echo), network.origin(odd_origin), *GRACE, *flags, **options)
    if server.err:  # there is a log to see it in
        t.lanes_up(server)
    visitors = Visitors(t, client, streams, size)
    yield network, server, client, visitors, random.Random(t.seed)
    network.heal()
    visitors.over()
    if not t.long:  # seconds are enough to see that a path is dead: --expiry is for peers that do not resume
        check_equal(server.err.count("no frame heard for too long"), 0, "lanes that the server gave up")
    t.note = f"seed {t.seed}, {visitors.load.done} streams"


def kill_lane(network, rng):
    """One established connection, at one of its ends; none may be there just now."""
    ports = network.lanes()
    if ports:
        network.kill(rng.choice(ports), rng.random() < 0.5)


@case(**FIND)
def fault_lane_killed(t):
    """Connections are reset, one after the other, at either end."""
    with under_load(t) as (network, _, _, visitors, rng):
        for _ in range(200 if t.long else 20):
            time.sleep(rng.uniform(0, 0.1))
            kill_lane(network, rng)
        visitors.moved()


@case(**FIND)
def fault_black_hole(t):
    """Nothing arrives any more, on either side, and nobody is told."""
    with under_load(t) as (network, server, client, visitors, rng):
        for seconds in (1, 5, 30) if t.long else (1, 5):
            network.hole()
            time.sleep(seconds + rng.uniform(0, 0.5))
            network.heal()
            visitors.moved()
        # as a rule another connection is quicker than what TCP sends again on the old one
        t.until(lambda: "back after" in server.err or "was only slow" in client.err, "a lane that comes back")


@case(**FIND)
def fault_link_down(t):
    """The link is pulled at the one side and at the other: routes vanish, connections fail at once instead of in silence."""
    with under_load(t) as (network, _, _, visitors, rng):
        for far in (True, False):
            network.link(far, False)
            time.sleep((10 if t.long else 2) + rng.uniform(0, 0.5))
            network.link(far, True)
            visitors.moved()


@case(**FIND)
def fault_loss(t):
    """One packet in a hundred is lost each way, then one in twenty; connections are killed meanwhile."""
    with under_load(t) as (network, _, _, visitors, rng):
        for percent in (1, 5):
            network.hole(percent=percent)
            for _ in range(100 if t.long else 5):
                time.sleep(rng.uniform(0, 0.2))
                kill_lane(network, rng)
            visitors.moved()
            network.heal()


@case(**FIND)
def fault_one_way(t):
    """Only what comes from the server is lost, or only what comes from the client."""
    with under_load(t) as (network, _, _, visitors, rng):
        for far in (True, False):
            network.hole(far=far, near=not far)
            time.sleep((20 if t.long else 2.5) + rng.uniform(0, 0.5))
            network.heal()
            visitors.moved()


@case(**FIND)
def fault_roaming(t):
    """The client's address changes, and changes back: it comes back to its session from where it is, though nobody tells it that the old connection is over."""
    with under_load(t) as (network, server, _, visitors, _):
        for turn in range(1, 7 if t.long else 3):
            network.roam()
            server.expect(rf"lane 0 \({network.address}:\d+\): back after", stream="err", count=(turn + 1) // 2)
            visitors.moved()


@case(**FIND)
def fault_stopped(t):
    """Server and client stand still for a while; to the others their kernels look alive."""
    with under_load(t) as (network, server, client, visitors, rng):
        for proc in (server, client):
            proc.send(signal.SIGSTOP)
            time.sleep((20 if t.long else 5) + rng.uniform(0, 0.5))
            proc.send(signal.SIGCONT)
            visitors.moved()
    check_equal(server.err.count("connection lost"), 0, "lanes that were given up")


@case(**FIND)
def fault_log_disk_full(t):
    """Both log to a file system that is full, while their lanes are cut."""
    unders = []
    for log in ("server.log", "client.log"):
        disk = small_disk(8192)
        (disk / "fill").write_bytes(bytes(4096))
        unders.append(["sh", "-c", 'exec "$@" 2>"$0"', disk / log])
    with under_load(t, server_under=unders[0], under=unders[1]) as (network, server, client, visitors, rng):
        for _ in range(20):
            time.sleep(rng.uniform(0, 0.1))
            kill_lane(network, rng)
        visitors.moved()
        for proc in (server, client):
            check_equal(os.stat(f"/proc/{proc.pid}/fd/2").st_size, 4096, "bytes of the log, all that fit")


@case(**{**FIND, "needs": [*NEEDS, "prlimit"], "not_in": {**FIND["not_in"], "tls": "an accept has the old limit and a handshake the new one: shares_idle_visitors is its case"}})
def fault_no_descriptors(t):
    """Visitors take all descriptors that the kernel gives the server, and connections are cut meanwhile: lanes come back when visitors leave, if not before."""
    with under_load(t, nofile=64) as (network, server, client, visitors, rng):
        for _ in range(3):
            crowd = []
            while len(os.listdir(f"/proc/{server.pid}/fd")) < 64:
                crowd.append(net.connect(client.addr))
                check(len(crowd) < 500, "the server never ran out of descriptors")
                time.sleep(0.01)
            crowd.append(net.connect(client.addr))
            for _ in range(3):
                kill_lane(network, rng)
                time.sleep(rng.uniform(0, 0.2))
            for sock in crowd:
                sock.close()
            visitors.moved()
        server.expect("accepting pauses: Too many open files", stream="err")
        server.expect("accepting goes on, after", stream="err")


@case(**{**FIND, "needs": [*NEEDS, "prlimit"]})
def fault_few_descriptors(t):
    """A crowd from one address takes all descriptors that it may have, and connections are cut meanwhile: lanes come back
    and the others' streams go on, while the crowd stays. All the others may be one worker's."""
    each = t.mode.workers
    limit = f"--nofile={256 * each}:{256 * each}"
    with under_load(t, server_under=["prlimit", limit]) as (network, server, client, visitors, rng):
        for _ in range(3):
            crowd = [net.connect(client.addr, source="127.0.0.9") for _ in range(300 * each)]
            for _ in range(3):
                kill_lane(network, rng)
                time.sleep(rng.uniform(0, 0.2))
            visitors.moved()
            for sock in crowd:
                sock.close()
        server.expect("visitors refused: too many file descriptors: ", stream="err")


@case(**FIND)
def fault_no_buffers(t):
    """Eight big buffers on either side, and more streams than that, in cuts and in a hole: what is kept for a resume must not hold all of them for ever."""
    with under_load(t, "--bulk-buffers", "8", streams=16) as (network, _, _, visitors, rng):
        for _ in range(10):
            time.sleep(rng.uniform(0, 0.1))
            kill_lane(network, rng)
        visitors.moved()
        network.hole()
        time.sleep(2.5)
        network.heal()
        visitors.moved()


@case(**{**FIND, "deadline": 900})
def fault_mixed(t):
    """Faults of all kinds, in an order that the seed draws, and without a rest between them."""
    def stop(proc, seconds):
        proc.send(signal.SIGSTOP)
        time.sleep(seconds)
        proc.send(signal.SIGCONT)

    def hole(far, near, seconds):
        network.hole(far, near)
        time.sleep(seconds)
        network.heal()

    def pull(far, seconds):
        network.link(far, False)
        time.sleep(seconds)
        network.link(far, True)
    with under_load(t) as (network, server, client, visitors, rng):
        faults = [lambda: kill_lane(network, rng), lambda: kill_lane(network, rng), network.roam,
                  lambda: hole(True, True, rng.uniform(0, 3)), lambda: hole(True, False, rng.uniform(0, 3)),
                  lambda: hole(False, True, rng.uniform(0, 3)), lambda: pull(rng.random() < 0.5, rng.uniform(0, 2)),
                  lambda: stop(rng.choice((server, client)), rng.uniform(0, 2))]
        for _ in range(100 if t.long else 8):
            rng.choice(faults)()
            time.sleep(rng.uniform(0, 0.3))


# What cannot survive

@case(**FIND)
def fault_stalled_and_over(t):
    """The client is gone for good, and a visitor reads nothing at all: it is reset when the grace time is over, and the server can end. (Not on loopback, so
    that what it has not taken was sent without a copy.)"""
    network = Network(t)
    grace = ["--grace", "500ms"]
    server = network.server(*grace)
    client = network.client(server, network.origin(net.until_cut(net.flood)), *grace)
    t.stalled = net.connect(client.addr)
    t.until(lambda: len(t.stalled.recv(1 << 22, socket.MSG_PEEK)) > 100000, "a queue at the visitor")
    client.kill()
    server.expect("within the grace time", stream="err")
    poll = select.poll()
    poll.register(t.stalled, 0)
    check(poll.poll(net.TIMEOUT * 1000), "the visitor was not reset")
    check_equal(server.stop(), 0, "the server's status")


def ending_sessions(t, **options):
    network = Network(t)
    server = network.server(*GRACE)
    flags = [*GRACE, "--reconnect-attempts", "200"]
    origin = network.origin(net.until_cut(net.echo))
    client = network.client(server, origin, *flags)
    t.lanes_up(server)
    sock = net.connect(client.addr)
    sock.sendall(b"x")
    net.recv_exact(sock, 1)
    return network, server, client, origin, flags, sock


@case(**FIND)
def fault_server_killed(t):
    """kill -9 of the server, and a new one: the visitors' connections are over, the client is back by itself, and streams are whole again."""
    network, server, client, origin, _, sock = ending_sessions(t)
    for turn in range(3):
        server.kill()
        check_equal(net.end_of(sock), "reset", "the end of the old server's visitor")
        server = network.server(*GRACE, addr=server.addr, start_port=server.start_port)
        t.until(lambda: all(s.fileno() < 0 for s in origin.socks), "the ends at the origin")
        client.read_ready(turn + 2)
        one_stream(client.addrs[-1], f"turn {turn}", MIB)
        sock = net.connect(client.addrs[-1])
        sock.sendall(b"x")
        net.recv_exact(sock, 1)


@case(**FIND)
def fault_client_killed(t):
    """kill -9 of the client, and a new one: it has its port again, and visitors of the old one are reset."""
    network, server, client, origin, flags, sock = ending_sessions(t)
    port = client.addr[1]
    for turn in range(3):
        client.kill()
        client = network.client(server, origin, *flags)
        check_equal(client.addr[1], port, "public port")
        check_equal(net.end_of(sock), "reset", "the end of the old client's visitor")
        one_stream(client.addr, f"turn {turn}", MIB)
        sock = net.connect(client.addr)
        sock.sendall(b"x")
        net.recv_exact(sock, 1)
