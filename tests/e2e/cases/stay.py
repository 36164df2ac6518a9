"""stay: nothing stays for ever: those who are gone without a word, resets that nobody reads, streams on which nothing moves; and memory
is given back."""
import os
import pathlib
import ssl
import time

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

ONE_WORKER = {"v2-2w": "workers do not matter", "v1-2w": "workers do not matter"}


@case(not_in=ONE_WORKER, waits=True)
def silent_ends_are_asked(t):
    """TCP asks a visitor and an origin that say nothing whether they are still there, within a minute; the latter is a matter of system
    calls, which are made when a stream has been quiet for ten seconds. (What comes of silence takes two minutes more:
    tests/kernel/test_keepalive.c.)"""
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


def descriptors(proc):
    return len(os.listdir(f"/proc/{proc.pid}/fd"))


def fill(sock):
    """Sends until nothing more is taken for a second."""
    sock.settimeout(1)
    try:
        while True:
            sock.send(bytes(65536))
    except TimeoutError:
        sock.settimeout(net.TIMEOUT)


@case(not_in={**ONE_WORKER, "tls": "TLS does not matter"}, waits=True)
def resets_that_nobody_reads(t):
    """Visitors whose bytes the origin does not take are not read any more; that they reset is seen all the same. The origin may still
    have what has arrived, but not for ever. (v1 cannot tell it of a reset.)"""
    count = 20
    origin = t.origin(net.hold)
    addr = t.tunnel(origin)
    server, client = t.tunnel_server, t.tunnel_client
    with net.connect(addr) as sock:
        sock.sendall(b"?")
        origin.wait_seen(1)
        # A spare lane may come to be, which stays; pipes go when nobody has used them for a while.
        before = [descriptors(server), descriptors(client)]
        socks = [net.connect(addr) for _ in range(count)]
        tasks = [net.Task(fill, sock) for sock in socks]
        for task in tasks:
            task.join_result()
        check(descriptors(server) >= before[0] + count, "the visitors were let in")
        for sock in socks:
            net.rst(sock)
        t.until(lambda: descriptors(server) <= before[0] + 1, "the end of the visitors' streams", timeout=12 * t.factor)
        if not t.mode.v1:
            t.until(lambda: descriptors(client) <= before[1] + 1, "the end of the origin's", timeout=60 * t.factor)


def lives(sock, seconds, pause=0.4):
    """An echo goes on for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sock.sendall(b"?")
        check_equal(net.recv_exact(sock, 1), b"?", "echo")
        time.sleep(pause)


def idle_stream_ends(t, idle, server_flags, client_flags):
    origin = t.origin(net.until_cut(net.echo))
    addr = t.tunnel(origin, *client_flags, server_flags=server_flags)
    busy, silent = net.connect(addr), net.connect(addr)
    silent.sendall(b"?")
    check_equal(net.recv_exact(silent, 1), b"?", "echo")
    since = time.monotonic()
    task = net.Task(lives, busy, 3 * idle)
    end = net.end_of(silent, timeout=30 * t.factor)
    check(end == "reset" or (t.mode.v1 and client_flags), f"the silent visitor's end: {end}")  # v1's StreamClose is any end
    check(time.monotonic() - since > idle - 0.1, "the time of --stream-idle")
    at_origin = origin.wait_seen(2)
    t.until(lambda: any(s.fileno() < 0 for s in origin.socks), "the end of the origin's connection")
    check(at_origin is not None, "two connections at the origin")
    task.join_result(timeout=60 * t.factor)
    (t.tunnel_server if server_flags else t.tunnel_client).expect("ends: nothing moved for longer than --stream-idle", stream="err")


@case(not_in=ONE_WORKER)
def stream_idle_of_the_server(t):
    """--stream-idle ends a stream on which nothing moves, at both ends by reset, and no other."""
    idle_stream_ends(t, 2, ["--stream-idle", "2s"], [])


@case(not_in=ONE_WORKER)
def stream_idle_of_the_client(t):
    """The same, said by the client."""
    idle_stream_ends(t, 2, [], ["--stream-idle", "2s"])


@case(not_in={**ONE_WORKER, "v1": "v1 closes a stalled reader after five seconds"})
def stream_idle_and_slow_readers(t):
    """A reader that takes little, but goes on, is not idle; one that takes nothing is, after twice the time at most."""
    def flood(sock):
        net.Pattern("down").send(sock, 16 << 20)
    addr = t.tunnel(t.origin(net.until_cut(flood)), server_flags=["--stream-idle", "2s"])
    slow, stalled = (net.connect(addr, rcvbuf=16384) for _ in range(2))
    end = time.monotonic() + 8
    while time.monotonic() < end:
        check(len(net.recv_exact(slow, 8192)) == 8192, "a slow reader's bytes")
        time.sleep(0.1)
    t.tunnel_server.expect("ends: nothing moved for longer than --stream-idle", stream="err", timeout=30 * t.factor)
    check_equal(net.end_of(stalled), "reset", "the stalled visitor's end")
    net.recv_exact(slow, 1 << 20)


# Memory is given back

SECONDS = 30  # from the end of the load until what it took is back, but for some


def resident(t):
    return [proc.memory() for proc in (t.tunnel_server, t.tunnel_client)]


def base(t, addr):
    """Resident bytes of server and client after the first small request."""
    with net.connect(addr) as sock:
        sock.sendall(b"?")
        check_equal(net.recv_exact(sock, 1), b"?", "echo")
    return resident(t)


def given_back(t, before, peak):
    """Both are at most half as large again as they were."""
    t.note = " to ".join("%d+%d" % tuple(size >> 20 for size in sizes) for sizes in (before, peak))

    def back():
        return all(now <= 1.5 * then for now, then in zip(resident(t), before))
    try:
        t.until(back, f"memory to come back: {before}, then {peak}", timeout=(SECONDS + 10) * t.factor)
    finally:
        t.note += " to %d+%d MiB" % tuple(size >> 20 for size in resident(t))


@case(not_in=ONE_WORKER, waits=True, deadline=240)
def memory_after_bulk(t):
    """64 visitors with bulk, of whom half read slowly and leave by reset: when they are gone the memory is."""
    size = t.size(24, 4) << 20
    addr = t.tunnel(t.origin(net.until_cut(net.echo)))
    before = base(t, addr)

    def bulk(sock):
        sender = net.Task(sock.sendall, bytes(size))
        got = sum(len(net.recv_exact(sock, 1 << 16)) for _ in range(size >> 16))
        sender.join_result()
        return got

    def flood(sock):
        fill(sock)
        net.rst(sock)
    socks = [net.connect(addr) for _ in range(64)]
    tasks = [net.Task(bulk if i % 2 == 0 else flood, sock) for i, sock in enumerate(socks)]
    seen = []
    for task in tasks:  # what the first to end took may be given back before the last one ends
        task.join_result(timeout=120 * t.factor)
        seen.append(resident(t))
    peak = [max(column) for column in zip(*seen)]
    for sock in socks:
        sock.close()
    check(peak[0] > 2 * before[0], f"the load took memory: {before}, {peak}")
    given_back(t, before, peak)
    base(t, addr)


@case(not_in={**ONE_WORKER, "plain": "there is no TLS"}, waits=True, deadline=240)
def memory_after_half_handshakes(t):
    """500 connections whose TLS handshake stops in the middle."""
    t.needs_its_own_memory()
    count = t.size(500, 100)
    addr = t.tunnel(t.origin(net.echo), server_flags=["--handshake-timeout", "60s"])
    before = base(t, addr)
    hello = ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=str(t.certs / "ca.pem"))
    half = context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    try:
        half.do_handshake()
    except ssl.SSLWantReadError:
        first = hello.read()
    socks = [net.connect(t.tunnel_server.addr) for _ in range(count)]
    for sock in socks:
        sock.sendall(first)
    for sock in socks:
        net.recv_exact(sock, 100)  # the server's part
    peak = resident(t)
    for sock in socks:
        net.rst(sock)
    given_back(t, before, peak)
    base(t, addr)
