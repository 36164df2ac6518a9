"""data: many bytes and many streams: every byte compared, nobody starved, memory bounded."""
import pathlib
import resource
import socket
import subprocess
import sys
import threading
import time

import net
from harness import case, check, check_equal

MIB = 1 << 20


# Random data, both directions at once

def duplex(sock, send_seed, recv_seed, total):
    """Sends and receives `total` bytes at the same time; returns both checksums."""
    sending = net.Task(net.Pattern(send_seed).send, sock, total)
    received = net.Pattern(recv_seed).recv(sock, total)
    return sending.join_result(), received


def random_data(t, streams, total):
    each = total // streams
    origin_sums = {}

    def handler(sock):
        index = int.from_bytes(net.recv_exact(sock, 4), "big")
        origin_sums[index] = duplex(sock, f"down {index}", f"up {index}", each)
        sock.shutdown(socket.SHUT_WR)
        check_equal(net.end_of(sock), "eof", f"end of stream {index} at the origin")

    def visit(index):
        sock = net.connect(addr)
        sock.sendall(index.to_bytes(4, "big"))
        sums = duplex(sock, f"up {index}", f"down {index}", each)
        check_equal(net.end_of(sock), "eof", f"end of stream {index} at the visitor")
        sock.close()
        return sums
    addr = t.tunnel(t.origin(handler))
    started = time.monotonic()
    visits = [net.Task(visit, index) for index in range(streams)]
    visitor_sums = [task.join_result(net.TIMEOUT * 8) for task in visits]
    t.note = f"{2 * total / (time.monotonic() - started) / 1e6:,.0f} MB/s"
    t.until(lambda: len(origin_sums) == streams, "the origin's checksums")
    for index, (sent, received) in enumerate(visitor_sums):
        check_equal(origin_sums[index], (received, sent), f"checksums of stream {index} (sent, received)")


def amount(t):
    return t.size(128, 32, 1024) * MIB


@case(direct=True, deadline=300)
def random_data_1_stream(t):
    random_data(t, 1, amount(t))


@case(direct=True, deadline=300)
def random_data_64_streams(t):
    random_data(t, 64, amount(t))


@case(direct=True)
def odd_sizes(t):
    """Messages of every awkward size, one after the other on one stream, each waited for: no byte may be held back."""
    addr = t.tunnel(t.origin(net.echo))
    sock = net.connect(addr)
    body = net.Pattern("odd").body
    edges = (1, 10, 12, 512, 4096, 16384, 65536, 262144)
    for size in sorted({max(1, edge + d) for edge in edges for d in (-13, -12, -1, 0, 1, 12)} | {len(body)}):
        sock.sendall(body[:size])
        check(net.recv_exact(sock, size) == body[:size], f"{size} bytes came back changed")


# Many streams

@case(direct=True)
def streams_1000_at_once(t):
    """The seed's figure: a thousand open at once, each answering with its own bytes, twice."""
    origin = t.keep(net.EchoLoop())
    addr = t.tunnel(origin, server_flags=["--max-streams", "2000"])
    socks = [net.connect(addr) for _ in range(1000)]
    for number in range(2):
        net.exchange(socks, lambda index: f"round {number} stream {index} ".encode() * 20)
    check_equal(len(origin.conns), 1000, "connections open at the origin")
    for sock in socks:
        net.rst(sock)
    t.until(lambda: not origin.conns, "the end of all connections at the origin")


@case(alone=True, long=True, deadline=600)
def streams_20000_at_once(t):
    """Our own figure: as many as the descriptors of one process allow, up to 20,000: one token has seven
    eighths of them, beside what the process needs and strangers may take; on v1 of those of one worker.
    Visitors come from several addresses."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    mine = (hard - 1024) // (t.mode.workers if t.mode.v1 else 1) * 7 // 8
    if t.mode.workers > 1 and not t.mode.v1:
        mine = mine * 95 // 100  # by chance one worker gets more than its half
    total = min(20000, mine) // 4 * 4
    t.note = f"{total:,} streams" + (f": {hard:,} descriptors are allowed" if total < 20000 else "")

    def crowd(*arguments):
        return t.spawn("crowd", [sys.executable, pathlib.Path(net.__file__).with_name("crowd.py"), *arguments],
                       stdin=subprocess.PIPE, bufsize=0)
    origin = net.parse_addr(crowd("origin").expect(r"^origin (\S+)$")[0].group(1))
    # So many connects from one address to one origin make the kernel search long for free ports.
    flags = ["--max-streams", str(total * 8 // 7 + 100), "--connect-timeout", "60s"]
    addr = t.tunnel(origin, *flags, server_flags=flags)
    crowds = [crowd("visitors", net.format_addr(addr), str(total // 4), f"127.0.0.{i}") for i in (2, 3, 4, 5)]
    for visitors in crowds:
        visitors.expect(r"^open \d+$", timeout=net.TIMEOUT * 4)
    for number in (1, 2):
        for visitors in crowds:
            visitors.popen.stdin.write(b"\n")
        for visitors in crowds:
            visitors.expect(r"^answered \d+$", count=number, timeout=net.TIMEOUT * 4)
    t.note += f", server {t.tunnel_server.memory() // MIB} MiB, client {t.tunnel_client.memory() // MIB} MiB"


@case(direct=True, waits=True)
def empty_connections_2000(t):
    """Connections without a byte. Each reaches the origin and ends there; afterwards no descriptor is left over.

    On v1 an end without an answer is told to the origin after 30 s only: see docs/PROTOCOL.md, Half-close.
    """
    ended = []
    origin = t.origin(lambda sock: ended.append(net.end_of(sock)))
    addr = t.tunnel(origin)
    if not t.mode.direct:
        t.lanes_up(t.tunnel_server)
    before = open_descriptors(t)
    for _ in range(100):
        socks = [net.connect(addr) for _ in range(20)]
        for sock in socks:
            sock.close()
    t.until(lambda: origin.seen == 2000, "2,000 connections at the origin")
    t.until(lambda: len(ended) == 2000, "2,000 ends at the origin")
    check_equal(set(ended), {"eof"}, "how they ended")
    t.until(lambda: open_descriptors(t) <= before, "the descriptors to be given back")


def open_descriptors(t):
    if t.mode.direct:
        return 0
    return sum(len(list(pathlib.Path(f"/proc/{p.pid}/fd").iterdir())) for p in (t.tunnel_server, t.tunnel_client))


@case(direct=True)
def short_connections(t):
    """Eight visitors at once, each a connection per request, two hundred times: slots and ports are used again and again."""
    addr = t.tunnel(t.origin(net.echo))

    def visit(index):
        for number in range(200):
            with net.connect(addr) as sock:
                message = f"visitor {index} request {number}".encode()
                sock.sendall(message)
                check_equal(net.recv_exact(sock, len(message)), message, "answer")
    for task in [net.Task(visit, index) for index in range(8)]:
        task.join_result()


# A stalled one beside a live one. On v1 it stops the others, for five seconds: there these cases
# wait most of the time.

GROWTH = 64 * MIB  # of either process, over what it had before the first stream: buffers of the live one; sanitizers shadow it
STALLED = 4 * MIB  # for each stalled one: its window grows while the sockets on its way fill


def kind_of_stream(sock):
    """An origin for these cases: the first byte says what the visitor wants."""
    what = net.recv_exact(sock, 1)
    if what == b"F":
        return net.flood(sock)
    if what == b"H":
        return net.hold(sock)
    return net.echo(sock)


def live_rate(addr, size=32 * MIB):
    """Bytes per second of one echo visitor; best of three."""
    def once():
        with net.connect(addr) as sock:
            sock.sendall(b"E")
            started = time.monotonic()
            check_equal(*duplex(sock, "live", "live", size), "checksum of the live stream")
            return size / (time.monotonic() - started)
    return max(once() for _ in range(3))


def memory(t):
    return [p.memory() for p in (t.tunnel_server, t.tunnel_client)]


def stalled_beside_live(t, stall, count):
    """Measures a live stream alone, then beside `count` stalled ones made by stall(addr)."""
    addr = t.tunnel(t.origin(kind_of_stream))
    alone = live_rate(addr)
    before = memory(t)
    stalled = [stall(addr) for _ in range(count)]
    beside = live_rate(addr)
    after = memory(t)
    t.note = (f"alone {alone / 1e6:,.0f} MB/s, beside {beside / 1e6:,.0f} MB/s, memory of server and client "
              f"{before[0] // MIB} -> {after[0] // MIB} MiB, {before[1] // MIB} -> {after[1] // MIB} MiB")
    check(beside > alone / 8, "the live stream was slowed: " + t.note)
    for was, now in zip(before, after):
        check(now - was < (GROWTH + count * STALLED) * min(t.factor, 3), "memory grew: " + t.note)
    return stalled


def stalled_visitor(addr):
    """Asks for a flood and does not read it."""
    sock = net.connect(addr, rcvbuf=4096)
    sock.sendall(b"F")
    net.recv_exact(sock, 1)
    return sock


def pushing_visitor(addr):
    """Sends to an origin that does not read, until the socket takes no more for half a second."""
    sock = net.connect(addr)
    sock.sendall(b"H")
    sock.settimeout(0.5)
    try:
        while True:
            sock.sendall(bytes(65536))
    except TimeoutError:
        pass
    except OSError:
        pass  # v1 may close it: see docs/PROTOCOL.md
    return sock


@case(alone="stalled")
def stalled_visitor_beside_live(t):
    sock, = stalled_beside_live(t, stalled_visitor, 1)
    if not t.mode.v1:  # v1 closes it in the end; v2 keeps it, and it can go on
        net.recv_exact(sock, 64 * MIB)


@case(alone="stalled")
def stalled_visitors_many(t):
    """Thirty; on v1 two, as each holds up the lane for five seconds before it is closed."""
    stalled_beside_live(t, stalled_visitor, 2 if t.mode.v1 else 30)


@case(alone="stalled")
def stalled_origin_beside_live(t):
    stalled_beside_live(t, pushing_visitor, 1)


@case()
def slow_reader_gets_all(t):
    """A reader slower than its sender, on a stream beside a fast one: every byte arrives all the same."""
    total = 12 * MIB

    def handler(sock):
        net.Pattern("slow").send(sock, total)
    addr = t.tunnel(t.origin(handler))
    sock = net.connect(addr, rcvbuf=16384)
    pattern, got = net.Pattern("slow"), 0
    fast = net.Task(lambda: net.Pattern("slow").recv(net.connect(addr), total))
    while got < total:
        want = min(MIB, total - got)
        check(net.recv_exact(sock, want) == pattern.block(got // MIB)[:want], f"wrong bytes after {got}")
        got += want
        threading.Event().wait(0.05)  # this is the slowness
    check_equal(net.end_of(sock), "eof", "end")
    fast.join_result()
