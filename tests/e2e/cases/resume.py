"""resume: streams outlive the connections that carry them. Every stream is checked, byte by byte, both ways; none may end before its time."""
import os
import pathlib
import random
import select
import signal
import socket
import struct
import threading
import time

import net
import v2wire
from cases.data import kind_of_stream, pushing_visitor, stalled_visitor
from cases.paths import behind
from harness import case, check, check_equal
from proxy import Proxy

MIB = 1 << 20
V1 = {"v1": "v1 has no resume"}
GRACE = ["--grace", "60s"]
GENERATIONS = 4095  # of stream ids


def one_stream(addr, seed, size):
    """Bytes of its own in both directions at once, then half-closes; the origin sends back what it gets (net.echo)."""
    sock = net.connect(addr)
    sock.settimeout(net.TIMEOUT * 4)
    sending = net.Task(net.Pattern(seed).send, sock, size)
    got = net.Pattern(seed).recv(sock, size)
    check_equal(got, sending.join_result(), "checksum")
    sock.shutdown(socket.SHUT_WR)
    check_equal(net.end_of(sock), "eof", "end of the stream")
    sock.close()


class Load:
    """`count` checked streams at any time, until `stop`; a failure of any is raised by `join`."""

    def __init__(self, addr, count, size=4 * MIB):
        self.addr, self.size = addr, size
        self.over = threading.Event()
        self.done = 0
        self.tasks = [net.Task(self.run, index) for index in range(count)]

    def run(self, index):
        turn = 0
        while not self.over.is_set():
            one_stream(self.addr, f"stream {index} turn {turn}", self.size)
            self.done += 1
            turn += 1

    def failed(self):
        return any(task.error for task in self.tasks)

    def join(self):
        self.over.set()
        for task in self.tasks:
            task.join_result(net.TIMEOUT * 8)


def resumed(t, origin, *flags):
    return behind(t, origin, *GRACE, *flags, server_flags=GRACE)


@case(not_in=V1)
def resume_one_stream(t):
    """A connection is reset and closed in mid-transfer; the stream goes on, and a stream that was idle answers afterwards."""
    server, proxy, client = resumed(t, t.origin(net.echo))
    idle = net.connect(client.addr)
    for rst in (True, False):
        busy = net.Task(one_stream, client.addr, "busy", t.size(64, 16) * MIB)
        time.sleep(0.05)
        for link in list(proxy.links):
            link.cut(rst)
        busy.join_result()
        idle.sendall(b"still there?")
        check_equal(net.recv_exact(idle, 12), b"still there?", "the idle stream")
    check_equal(client.out.count("ready:"), 1, "sessions")
    server.expect("back after", stream="err", count=1)


@case(not_in=V1, deadline=900)
def resume_many_cuts(t):
    """64 checked streams, and a connection cut at random moments, again and again: nothing is lost, doubled, or out of order, and no visitor is dropped."""
    cuts = t.size(60, 25, 1000)
    rng = random.Random(t.seed)
    server, proxy, client = resumed(t, t.origin(net.echo))
    t.lanes_up(server)
    load = Load(client.addr, t.size(64, 24, 64), t.size(4, 1, 4) * MIB)
    for number in range(cuts):
        time.sleep(rng.uniform(0, 0.08))
        alive = [link for link in proxy.links if link.alive]
        proxy.links[:] = alive
        if alive:
            rng.choice(alive).cut(rng.random() < 0.5)
    load.join()
    check_equal(client.out.count("ready:"), 1, "sessions")
    t.note = f"{cuts} cuts, {load.done} streams of {load.size // MIB} MiB"


@case(not_in=V1)
def resume_in_pieces(t):
    """The same where every read ends somewhere else: headers and frames are cut in two by the loss."""
    rng = random.Random(t.seed)
    _, proxy, client = behind(t, t.origin(net.echo), *GRACE, piece=900, server_flags=GRACE)
    load = Load(client.addr, 8, t.size(MIB // 2, MIB // 4))
    for _ in range(25):
        time.sleep(rng.uniform(0, 0.2))
        for link in [link for link in proxy.links if link.alive]:
            link.cut(rng.random() < 0.5)
    load.join()
    check_equal(client.out.count("ready:"), 1, "sessions")


@case(not_in=V1)
def resume_half_closed(t):
    """A visitor that has said all it has to say waits for its answer over a loss."""
    asked, go = threading.Event(), threading.Event()

    def answer_late(sock):
        said = net.recv_all(sock)
        asked.set()
        go.wait(net.TIMEOUT)
        sock.sendall(said[::-1])
    _, proxy, client = resumed(t, t.origin(answer_late))
    sock = net.connect(client.addr)
    sock.sendall(b"question")
    sock.shutdown(socket.SHUT_WR)
    t.until(asked.is_set, "the question at the origin")
    for link in list(proxy.links):
        link.cut()
    go.set()
    check_equal(net.recv_all(sock), b"noitseuq", "answer")


@case(not_in=V1)
def resume_visitors_come_meanwhile(t):
    """The server cannot be reached for a while: visitors that come in the meantime wait, and are served."""
    server, proxy, client = resumed(t, t.origin(net.echo))
    t.lanes_up(server)
    proxy.hold = True
    for link in list(proxy.links):
        link.cut()
    server.expect("connection lost", stream="err", count=1 if t.mode.workers == 1 else 2)
    socks = [net.connect(client.addr) for _ in range(20)]
    for number, sock in enumerate(socks):
        sock.sendall(b"visitor %2d" % number)
    proxy.hold = False
    for number, sock in enumerate(socks):
        check_equal(net.recv_exact(sock, 10), b"visitor %2d" % number, "answer")


@case(not_in=V1)
def resume_grace_is_over(t):
    """Nobody comes back: visitors and origins get RST when the grace time is over, not before; the client logs in again later, at the same port."""
    known, ends = threading.Event(), []

    def handler(sock):
        net.recv_exact(sock, 1)
        known.set()
        ends.append(net.end_of(sock))
    grace = ["--grace", "700ms"]
    server, proxy, client = behind(t, t.origin(handler), *grace, server_flags=grace)
    sock = net.connect(client.addr)
    sock.sendall(b"x")
    t.until(known.is_set, "the stream at the origin")
    proxy.hold = True
    for link in list(proxy.links):
        link.cut()
    started = time.monotonic()
    check_equal(net.end_of(sock), "reset", "the visitor's end")
    check(time.monotonic() - started > 0.6, "reset before the grace time was over")
    t.until(lambda: ends == ["reset"], "the origin's end")
    server.expect("within the grace time", stream="err")
    proxy.hold = False
    client.expect(r"^ready: tcp://\S+ -> \S+$", count=2)
    client.read_ready(2)
    check_equal(client.addrs[-1], client.addrs[0], "public address afterwards")


@case(not_in=V1)
def resume_is_off_by_request(t):
    """--grace 0 on either side: the session ends with its connection, and visitors learn it at once."""
    for flags, server_flags in ((["--grace", "0s"], GRACE), (GRACE, ["--grace", "0s"])):
        _, proxy, client = behind(t, t.origin(net.until_cut(net.echo)), *flags, server_flags=server_flags)
        sock = net.connect(client.addr)
        sock.sendall(b"x")
        net.recv_exact(sock, 1)
        for link in list(proxy.links):
            link.cut()
        check_equal(net.end_of(sock), "reset", "the visitor's end")
        client.expect(r"^ready: tcp://\S+ -> \S+$", count=2)


@case(not_in=V1)
def resume_stalled_beside(t):
    """Losses while one visitor does not read and one origin does not: they keep what is theirs, the others go on."""
    rng = random.Random(t.seed)
    _, proxy, client = resumed(t, t.origin(kind_of_stream))
    stalled = stalled_visitor(client.addr)
    pushing = pushing_visitor(client.addr)

    def echo_of(index):
        sock = net.connect(client.addr)
        sock.sendall(b"E")
        size = t.size(16, 4) * MIB
        sending = net.Task(net.Pattern(index).send, sock, size)
        check_equal(net.Pattern(index).recv(sock, size), sending.join_result(), "checksum")
    tasks = [net.Task(echo_of, index) for index in range(8)]
    for _ in range(10):
        time.sleep(rng.uniform(0, 0.1))
        for link in [link for link in proxy.links if link.alive]:
            link.cut()
    for task in tasks:
        task.join_result()
    net.recv_exact(stalled, 4 * MIB)
    pushing.close()


@case(not_in=V1)
def client_killed_and_back(t):
    """kill -9 of a client and its restart: the new process has the old ports at once, and the visitors of the old one are reset, long before the grace time is over."""
    origin, other = t.origin(net.until_cut(net.echo)), t.origin(net.echo)
    server = t.server(*GRACE)
    first = t.client(server, origin, *GRACE)
    second = t.client(server, other, *GRACE)
    visitor = net.connect(first.addr)
    net.exchange([visitor], lambda _: b"before")
    beside = net.connect(second.addr)
    net.exchange([beside], lambda _: b"before")
    first.kill()
    again = t.client(server, origin, *GRACE)
    check_equal(again.addr, first.addr, "public address of the new process")
    check_equal(net.end_of(visitor), "reset", "the old visitor's end")
    visitors = [net.connect(again.addr) for _ in range(16)]  # the first ones, of all workers
    net.exchange(visitors + [beside], lambda index: b"after %d" % index)
    server.expect("its client has logged in anew", stream="err")


@case(not_in=V1)
def port_of_a_lost_session(t):
    """A client that was killed and comes back with another command line is another client: it gets the ports that it asks for by number, once nobody can come back to them any more."""
    origin, other = t.origin(net.until_cut(net.echo)), t.origin(net.echo)
    server = t.server(*GRACE, "--heartbeat", "250ms")
    wanted = server.start_port + 5
    ports = ["--port", wanted, "--port", wanted + 1]
    first = t.client(server, origin, origin, *ports, *GRACE)
    t.lanes_up(server)
    visitor = net.connect(first.addr)
    net.exchange([visitor], lambda _: b"before")
    first.kill()
    server.expect("wait for it to come back", stream="err", count=t.mode.workers)  # lane 0 decides, and may be the last
    second = t.client(server, other, other, other, *ports, "--port", wanted + 2, *GRACE)
    check_equal([addr[1] for addr in second.addrs], [wanted + 2, wanted, wanted + 1], "public ports, as they come")
    check_equal(net.end_of(visitor), "reset", "the old visitor's end")
    net.exchange([net.connect(addr) for addr in second.addrs * 6], lambda index: b"after %d" % index)
    server.expect("a client with its token wants its port", stream="err")


@case(not_in=V1)
def clients_alike(t):
    """Two clients of one user with one command line are two clients: neither ends the other."""
    origin = t.origin(net.echo)
    server = t.server(*GRACE)
    clients = [t.client(server, origin, *GRACE) for _ in range(3)]
    check_equal(len({client.addr for client in clients}), 3, "public addresses")
    socks = [net.connect(client.addr) for client in clients]
    net.exchange(socks, lambda index: b"client %d" % index)


@case(not_in=V1)
def server_restarted_ports_stay(t):
    """A server that is killed and started again gives every client the port that it had, whoever comes first."""
    state = t.dir / "state"
    addr, start_port = ("127.0.0.1", t.port()), t.ports(24)
    server = t.server("--state-dir", state, addr=addr, start_port=start_port)
    origins = [t.origin(net.echo) for _ in range(3)]
    clients = [t.client(addr, origin, "--reconnect-attempts", "500") for origin in origins]
    before = [client.addr for client in clients]
    server.kill()
    clients[0].popen.send_signal(signal.SIGSTOP)  # comes last
    t.server("--state-dir", state, addr=addr, start_port=start_port)
    for client in reversed(clients):
        client.popen.send_signal(signal.SIGCONT)
        client.expect(r"^ready: tcp://\S+ -> \S+$", count=2)
        client.read_ready(2)
    check_equal([client.addrs[-1] for client in clients], before, "public addresses")
    check_equal((state / "ticket.key").stat().st_mode & 0o777, 0o600, "mode of the key")


def resuming_wire(t, server, **hello):
    """A scripted client with a session that can be resumed; `public`: its port."""
    wire = v2wire.client_wire(server.addr)
    wire.public, = v2wire.log_in(wire, t.token.encode(), caps=v2wire.RESUME, **hello)
    check_equal(wire.caps, v2wire.RESUME, "capabilities")  # what is kept is not moved: no spare lanes
    return wire


@case(not_in=V1)
def resume_peer_does_not_count(t):
    """A client that agrees to count and does not: what is kept for it has an end, the lane lives on, others do not notice."""
    server = t.server(*GRACE)
    beside = t.client(server, t.origin(net.echo), *GRACE)
    wire = resuming_wire(t, server)
    before = server.memory()
    many = v2wire.frame(v2wire.PING, 0, v2wire.ping()) * 200  # their answers fit one small buffer
    while "does not count what it receives: this lane cannot be resumed" not in server.err:
        wire.send_raw(many)
        net.recv_exact(wire.sock, len(many))
    wire.send_raw(many)
    net.recv_exact(wire.sock, len(many))
    check(server.memory() - before < 160 * MIB * min(t.factor, 3), f"memory grew from {before // MIB} to {server.memory() // MIB} MiB")
    one_stream(beside.addr, "beside", MIB)


def joined(server, first, lane, pings=0, **fields):
    """A connection that has joined the session of the wire `first`; `pings` are answered before JOIN."""
    wire = v2wire.client_wire(server.addr)
    v2wire.greet(wire)
    for _ in range(pings):
        wire.send(v2wire.PING, 0, v2wire.ping(7))
        wire.expect(v2wire.PONG)
    flags, count = fields.get("flags", 0), fields.get("rx_bytes", 0)
    proof = wire.channel.join_proof(first.secret, first.session, lane, flags, count)
    wire.send(v2wire.JOIN, 0, v2wire.join(first.session, lane, flags, count, wire.channel.bound, proof))
    wire.count = struct.unpack_from(">HQ", wire.expect(v2wire.JOIN_OK)[2])[1]
    return wire


@case(not_in=V1)
def resume_counts_from_join(t):
    """What was said before JOIN is not of the lane: with the true count of what came behind JOIN_OK the
    lane goes on where it was, and says nothing twice."""
    server = t.server(*GRACE, workers=1)
    first = resuming_wire(t, server, lanes=2, window=MIB)
    wire, count = joined(server, first, 1, pings=3), 0
    visitors = [net.connect((server.host, first.public)) for _ in range(8)]
    for visitor in visitors:
        visitor.sendall(b"hello")
    wire.send(v2wire.PING, 0, v2wire.ping(9))
    while True:
        kind, _, _, payload = wire.recv()
        count += v2wire.HEADER.size + len(payload)
        if kind == v2wire.PONG:
            break
    net.rst(wire.sock)
    server.expect("connection lost", stream="err")
    again = joined(server, first, 1, flags=1, rx_bytes=count)
    again.send(v2wire.PING, 0, v2wire.ping(10, 0))
    while (got := again.recv())[0] != v2wire.PONG:  # what came meanwhile, frame by frame
        check(got[0] in (v2wire.OPEN, v2wire.DATA, v2wire.PING), f"type {got[0]}")
    check_equal(got[3][:8], v2wire.ping(10)[:8], "the answer to the PING behind the resume")


def read_until_it_stops(wire, quiet):
    """Takes what comes and grants as much again, but counts nothing, until nothing has come for `quiet` seconds; returns the bytes of payload."""
    total = 0
    while select.select([wire.sock], [], [], quiet)[0]:
        kind, _, stream, payload = wire.recv()
        if kind == v2wire.DATA:
            total += len(payload)
            wire.send(v2wire.WINDOW, stream, struct.pack(">I", len(payload)))
    return total


def cpu_seconds(proc):
    """Processor time that it has used so far."""
    fields = pathlib.Path(f"/proc/{proc.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@case(not_in=V1)
def resume_full_log_rests(t):
    """A client that reads all and counts nothing: when the log of its lane is full its visitors wait, and the worker waits with them. With a count they go on."""
    server = t.server(*GRACE, "--bulk-buffers", "2048", "--heartbeat", "60s", "--expiry", "180s", workers=1)
    wire = resuming_wire(t, server, window=4 * MIB)
    addr = (server.host, wire.public)
    large = net.connect(addr)
    flood = net.Task(net.flood, large)
    wire.expect(v2wire.OPEN)
    total = read_until_it_stops(wire, 2 * t.factor)
    check(total >= 63 * MIB, f"it stopped after {total} bytes: not for its log")  # 64 MiB with the headers of its frames
    small = net.connect(addr)
    small.sendall(b"small")
    stream = wire.expect(v2wire.OPEN)[1]
    before, started = cpu_seconds(server), time.monotonic()
    time.sleep(1)  # measured, not waited for
    used = (cpu_seconds(server) - before) / (time.monotonic() - started)
    check(used < 0.1, f"waiting took {used:.0%} of a core")
    wire.send(v2wire.PONG, 0, v2wire.ping(0, total))
    while (got := wire.expect(v2wire.DATA))[1] != stream:
        pass
    check_equal(got[2], b"small", "what the second visitor sent")
    large.shutdown(socket.SHUT_RDWR)  # wakes the thread that writes to it
    flood.join_result()


def descriptors(proc):
    return len(os.listdir(f"/proc/{proc.pid}/fd"))


def wait_descriptors(proc, count):
    """As poll_until, without its pauses: for thousands of waits that are over at once."""
    deadline = time.monotonic() + net.TIMEOUT
    while descriptors(proc) != count:
        check(time.monotonic() < deadline, f"{descriptors(proc)} descriptors, not {count}")


@case(not_in=V1, deadline=300)
def id_comes_back_on_a_frozen_lane(t):
    """A visitor leaves while its answer is on the way, the lane freezes, and so many others come and go that the stream's id could come round. The next one
    gets nothing of that answer."""
    asked, go = threading.Event(), threading.Event()

    @net.until_cut
    def answer(sock):
        said = sock.recv(1)
        if said == b"A":
            asked.set()
            go.wait(net.TIMEOUT)
            said *= 21000
        sock.sendall(said)
        while sock.recv(1):
            pass
    server = t.server(*GRACE, workers=1)
    proxy = t.keep(Proxy(server.addr))
    client = t.client(proxy, t.origin(answer), "--reconnect-attempts", "200", *GRACE, workers=1)
    idle = descriptors(server)
    visitor = net.connect(client.addr)
    visitor.sendall(b"A")
    t.until(asked.is_set, "the question at the origin")
    for link in proxy.links:
        link.stall()
    go.set()
    net.rst(visitor)
    wait_descriptors(server, idle)
    proxy.hold = True
    for link in proxy.links:
        link.cut()
    server.expect("connection lost", stream="err")
    wait_descriptors(server, idle - 1)
    for _ in range(GENERATIONS - 1):
        visitor = net.connect(client.addr)
        wait_descriptors(server, idle)
        net.rst(visitor)
        wait_descriptors(server, idle - 1)
    visitor = net.connect(client.addr)
    visitor.sendall(b"B")
    proxy.hold = False
    visitor.shutdown(socket.SHUT_WR)
    got = net.recv_all(visitor)
    check(got == b"B", f"{len(got)} bytes came, {got.count(b'A')} of them another visitor's")
