"""resume: streams outlive the connections that carry them. Every stream is checked, byte by byte, both ways; none may end before its time."""
import random
import signal
import socket
import threading
import time

import net
import v2wire
from cases.data import kind_of_stream, pushing_visitor, stalled_visitor
from cases.paths import behind
from harness import case, check, check_equal

MIB = 1 << 20
V1 = {"v1": "v1 has no resume"}
GRACE = ["--grace", "60s"]


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
    """A client that was killed and comes back with another command line is another client: it gets the ports that it asks for by number, since nobody else is there."""
    origin, other = t.origin(net.until_cut(net.echo)), t.origin(net.echo)
    server = t.server(*GRACE)
    wanted = server.start_port + 5
    ports = ["--port", wanted, "--port", wanted + 1]
    first = t.client(server, origin, origin, *ports, *GRACE)
    t.lanes_up(server)
    visitor = net.connect(first.addr)
    net.exchange([visitor], lambda _: b"before")
    first.kill()
    server.expect("wait for it to come back", stream="err", count=t.mode.workers)  # lane 0 decides, and may be the last
    second = t.client(server, other, other, other, *ports, "--port", wanted + 2, *GRACE)
    check_equal([addr[1] for addr in second.addrs], [wanted, wanted + 1, wanted + 2], "public ports")
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


@case(not_in=V1)
def resume_peer_does_not_count(t):
    """A client that agrees to count and does not: what is kept for it has an end, the lane lives on, others do not notice."""
    server = t.server(*GRACE)
    beside = t.client(server, t.origin(net.echo), *GRACE)
    wire = v2wire.client_wire(server.addr)
    v2wire.log_in(wire, t.token.encode(), caps=v2wire.RESUME)
    check_equal(wire.caps, v2wire.RESUME, "capabilities")
    before = server.memory()
    many = v2wire.frame(v2wire.PING, 0, v2wire.ping()) * 200  # their answers fit one small buffer
    while "does not count what it receives: this lane cannot be resumed" not in server.err:
        wire.send_raw(many)
        net.recv_exact(wire.sock, len(many))
    wire.send_raw(many)
    net.recv_exact(wire.sock, len(many))
    check(server.memory() - before < 160 * MIB * min(t.factor, 3), f"memory grew from {before // MIB} to {server.memory() // MIB} MiB")
    one_stream(beside.addr, "beside", MIB)
