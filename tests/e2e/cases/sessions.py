"""sessions: clients come and go: ports, tokens, heartbeats, loss and return, ends."""
import os
import pathlib
import re
import signal
import struct
import time

import net
import v1peer
import v2wire
from harness import Skip, case, check, check_equal, enter_private_network, has_ipv6

V2_ONLY = {"v1": "a rule of v2"}

MIB = 1 << 20
QUICK = ["--heartbeat", "250ms", "--expiry", "2s"]  # a busy machine may well stand still for half a second


def ask(addr, message=b"hello"):
    """One echo through a tunnel."""
    with net.connect(addr) as sock:
        sock.sendall(message)
        check_equal(net.recv_exact(sock, len(message)), message, "echo")


def said(word):
    """An origin that says its word to every visitor."""
    def handler(sock):
        sock.sendall(word)
        net.end_of(sock)
    return handler


def hear(addr, size):
    with net.connect(addr) as sock:
        return net.recv_exact(sock, size)


def closed(t, addr):
    t.until(lambda: net.connect_refused(addr), f"port {addr[1]} to be closed")


# Several clients

@case()
def several_clients(t):
    """Three clients at once: each visitor reaches its own origin, heavy traffic stays apart, the end of one is nobody else's."""
    server = t.server()
    words = [b"alpha", b"bravo", b"gamma"]
    clients = [t.client(server, t.origin(said(word))) for word in words]
    check_equal(len({c.addr for c in clients}), 3, "different public addresses")
    for word, client in zip(words, clients):
        check_equal(hear(client.addr, 5), word, "the origin's word")
    echo = [t.client(server, t.origin(net.echo)) for _ in range(2)]

    def move(index):
        sock = net.connect(echo[index % 2].addr)
        sending = net.Task(net.Pattern(index).send, sock, 4 * MIB)
        check_equal(net.Pattern(index).recv(sock, 4 * MIB), sending.join_result(), "checksum")
        sock.close()
    tasks = [net.Task(move, index) for index in range(8)]
    clients[1].stop()
    closed(t, clients[1].addr)
    for task in tasks:
        task.join_result()
    check_equal(hear(clients[0].addr, 5), b"alpha", "the first client's origin, after the second client left")


@case(not_in={"v1": "v1 has one tunnel in a session; several_locals_v1"})
def several_locals(t):
    """Several tunnels in one session, each with its own port and origin."""
    words = [f"origin {i}".encode() for i in range(5)]
    client = t.client(t.server(), *[t.origin(said(word)) for word in words])
    check_equal(len(set(client.addrs)), 5, "different public addresses")
    for word, addr in zip(words, client.addrs):
        check_equal(hear(addr, 8), word, "the origin's word")
    client.stop()
    for addr in client.addrs:
        closed(t, addr)


@case(not_in={"v2": "several tunnels are allowed: several_locals"})
def several_locals_v1(t):
    client = t.client(("127.0.0.1", t.port()), ("127.0.0.1", 1), ("127.0.0.1", 2), wait=False)
    client.want = (2,)
    check_equal(client.wait(), 2, "exit status")
    check("one tunnel" in client.err, client.last_words())


# Ports

@case()
def ports_upward(t):
    """From --start-port upward; busy ones are skipped; the port of a client that left is given out again."""
    start = t.ports(8)
    busy = net.listen("127.0.0.1", start + 1)
    server = t.server(start_port=start)
    origin = t.origin(net.echo)
    clients = [t.client(server, origin) for _ in range(3)]
    check_equal([c.addr[1] - start for c in clients], [0, 2, 3], "ports above --start-port")
    clients[1].stop()
    closed(t, clients[1].addr)
    again = t.client(server, origin)
    check_equal(again.addr[1] - start, 2, "the port given out again")
    ask(again.addr)
    busy.close()
    check_equal(t.client(server, origin).addr[1] - start, 1, "the port that had been busy")


@case()
def ports_come_back_after_traffic(t):
    """A port is free again at once although its connections linger in TIME_WAIT, ten times over."""
    server = t.server()
    origin = t.origin(net.echo)
    for _ in range(10):
        client = t.client(server, origin)
        check_equal(client.addr[1], server.start_port, "public port")
        ask(client.addr)
        client.stop()
        closed(t, client.addr)


@case(not_in={"v1": "a v1 client cannot ask for a port"})
def port_wanted(t):
    """--port is given what it asks for; a second one that asks for the same is told why not."""
    server = t.server()
    wanted = server.start_port + 5
    origin = t.origin(net.echo)
    first = t.client(server, origin, "--port", wanted)
    check_equal(first.addr[1], wanted, "public port")
    ask(first.addr)
    second = t.client(server, origin, "--port", wanted, "--no-reconnect", wait=False)
    second.want = None
    second.expect("port is in use", stream="err")
    check("ready:" not in second.out, "the second client is ready")
    ask(first.addr)
    both = t.client(server, origin, origin, "--port", 0, "--port", wanted + 1)
    check_equal([a[1] for a in both.addrs], [server.start_port, wanted + 1], "public ports")


@case(not_in={"v1": "a v1 client cannot ask for a port: ports_listed_any"})
def ports_listed(t):
    """--ports: what is listed can be had by number, any other port is refused with a reason of its
    own and the list, and neither a free port nor one that the client had before is an exception."""
    first = t.ports(10)
    listed = f"{first},{first + 4}-{first + 5}"
    origin = t.origin(net.echo)
    server = t.server(start_port=first)
    client = t.client(server, origin, "--port", first + 7)
    server.stop()
    client.stop()
    server = t.server("--ports", listed, start_port=first + 4)
    client = t.client(server, origin, origin, origin, "--port", first + 7, "--port", first + 5, "--port", first, wait=False)
    client.want = (6,)  # one of the tunnels was never ready
    found = client.expect(r"^ready: tcp://(\S+):(\d+) -> ", count=2)
    check_equal({int(line.group(2)) for line in found}, {first, first + 5}, "public ports")
    why = f"the port is not allowed: this server gives {listed}"
    client.expect(f"ERROR client: tunnel 0, port {first + 7}: {why}", stream="err")
    server.expect(f"WARN .*bind of port {first + 7} refused: {why}$", stream="err")
    check(net.connect_refused((server.host, first + 7)), "a port that is not listed is open")
    for addr in ((server.host, first), (server.host, first + 5)):
        ask(addr)
    check_equal(t.client(server, origin).addr[1], first + 4, "any port")
    wire = v2wire.client_wire(server.addr)
    v2wire.log_in(wire, t.token.encode(), upto=v2wire.AUTH)
    wire.send(v2wire.BIND, 0, v2wire.bind(0, first + 6))
    payload = wire.expect(v2wire.BIND_ERR)[2]
    check_equal(struct.unpack_from(">HH", payload), (0, 50), "tunnel and code of BIND_ERR")
    wire.close()


@case()
def ports_listed_any(t):
    """Any port is one of --ports, from --start-port up; when there is none left the client is told."""
    first = t.ports(12)
    server = t.server("--ports", f"{first},{first + 2},{first + 5}-{first + 6},{first + 9}", start_port=first + 2)
    origin = t.origin(net.echo)
    clients = [t.client(server, origin) for _ in range(4)]
    check_equal([c.addr[1] - first for c in clients], [2, 5, 6, 9], "public ports")
    for client in clients:
        ask(client.addr)
    last = t.client(server, origin, "--no-reconnect", wait=False)
    last.want = (1, 4, 6)
    check(last.wait() in last.want, "exit status without a port")
    check("no free public port" in last.err, last.last_words())


@case()
def ports_below_1024(t):
    """A port below 1024 is given if it is listed, and not by chance. In a network of its own, where
    this user may bind it."""
    enter_private_network()
    origin = t.origin(net.echo)
    server = t.server("--ports", "80,443,20000-20003", "--start-port", 20000)
    check_equal(t.client(server, origin).addr[1], 20000, "any port")
    if not t.mode.v1:
        named = t.client(server, origin, "--port", 443)
        check_equal(named.addr[1], 443, "the port that was asked for")
        ask(named.addr)
        usual = t.server(addr=("127.0.0.1", 9000))
        client = t.client(usual, origin, "--port", 80, "--no-reconnect", wait=False)
        client.want = (6,)
        check_equal(client.wait(), 6, "exit status")
        check("the port is not allowed: this server gives 1024-65535" in client.err, client.last_words())
    only = t.server("--ports", "80,443", "--start-port", 80, addr=("127.0.0.1", 9001))
    client = t.client(only, origin)
    check_equal(client.addr[1], 80, "any port where no other is listed")
    ask(client.addr)


@case(needs=["setpriv"])
def ports_below_1024_need_a_capability(t):
    """Both ends are told which, and so is who starts a server on such a port."""
    cure = "ports below 1024 need CAP_NET_BIND_SERVICE"
    enter_private_network()
    under = ["setpriv", "--bounding-set=-net_bind_service"]
    server = t.server("--ports", "80", "--start-port", 80, under=under)
    client = t.client(server, t.origin(net.echo), "--no-reconnect", wait=False)
    client.want = (1, 4, 6)
    check(client.wait() in client.want, "exit status of the client")
    check(cure in client.err, client.last_words())
    server.expect(cure, stream="err")
    low = t.server(addr=("127.0.0.1", 90), under=under, wait=False)
    low.want = (3,)
    check_equal(low.wait(), 3, "exit status of a server on port 90")
    check(cure in low.err, low.last_words())


# Tokens

@case()
def wrong_token(t):
    """AuthErr, close, exit status 5; the server goes on for everybody else."""
    server = t.server()
    good = t.client(server, t.origin(net.echo))
    bad = t.client(server, t.origin(net.echo), token="wrong-" + t.token, wait=False)
    bad.want = (5,)
    check_equal(bad.wait(), 5, "exit status")
    check(re.search("authentication failed|token", bad.err), bad.last_words())
    check("ready:" not in bad.out, "the client with a wrong token is ready")
    ask(good.addr)
    server.expect("authentication failed", stream="err")
    check(t.token not in server.err + bad.err + good.err, "a token in a log")


@case()
def wrong_token_on_the_wire(t):
    """What a peer sees: AuthErr, then the end. A token that only begins right, or goes on too long, is wrong too."""
    server = t.server()
    for token in (t.token[:-1], t.token + "x", t.token.upper(), "\0"):
        if t.mode.v1:
            wire = v1peer.client_wire(server.addr)
            wire.send(v1peer.HANDSHAKE, 0, v1peer.handshake_payload())
            wire.expect(v1peer.HANDSHAKE_ACK)
            wire.send(v1peer.AUTH, 0, token.encode())
            payload = wire.expect(v1peer.AUTH_ERR).payload
        else:
            wire = v2wire.client_wire(server.addr)
            v2wire.greet(wire)
            wire.send(v2wire.AUTH, 0, v2wire.auth(v2wire.Keys(token.encode()), wire.channel))
            payload = wire.expect(v2wire.AUTH_ERR)[2]
        check(b"authentication failed" in payload, f"text of AuthErr: {payload!r}")
        if not t.mode.v1:
            check_equal(payload[:2], b"\0\x25", "code of AUTH_ERR")
        check(net.end_of(wire.sock) in ("eof", "reset"), "no end after AuthErr")


@case()
def token_sources(t):
    """--token-file and the environment; --token is wiped from the process list."""
    server = t.server(token=None, **{"env": dict(os.environ, CULVERT_TOKEN=t.token)})
    origin = t.origin(net.echo)
    path = str(t.write("token", t.token + "\n", 0o600))
    ask(t.client(server, origin, "--token-file", path, token=None).addr)
    client = t.client(server, origin)
    ask(client.addr)
    line = pathlib.Path(f"/proc/{client.pid}/cmdline").read_bytes()
    check(b"--token" in line and t.token.encode() not in line, "the token stands in the process list")


@case()
def thousands_of_tokens(t):
    """A token file of thousands of lines: the first and the last log in; one that is not there is
    refused."""
    tokens = [f"{i:032x}" for i in range(3000)]
    path = t.write("tokens", "".join(f"{token}\n" for token in tokens), 0o600)
    server = t.server("--token-file", path, token=None)
    origin = t.origin(net.echo)
    for token in (tokens[0], tokens[-1]):
        ask(t.client(server, origin, token=token).addr)
    bad = t.client(server, origin, token=f"{len(tokens):032x}", wait=False)
    bad.want = (5,)
    check_equal(bad.wait(), 5, "exit status")
    server.expect("authentication failed", stream="err")


def refused_far_away(t, port, token):
    """A scripted client from another address: a token that is right, but good on loopback only, looks like a wrong one."""
    addr = ("192.0.2.1", port)
    if t.mode.v1:
        wire = v1peer.client_wire(addr)
        wire.send(v1peer.HANDSHAKE, 0, v1peer.handshake_payload(b"127.0.0.1:3000"))
        wire.expect(v1peer.HANDSHAKE_ACK)
        wire.send(v1peer.AUTH, 0, token)
        text = wire.expect(v1peer.AUTH_ERR).payload
    else:
        wire = v2wire.client_wire(addr)
        v2wire.greet(wire)
        wire.send(v2wire.AUTH, 0, v2wire.auth(v2wire.Keys(token), wire.channel))
        text = wire.expect(v2wire.AUTH_ERR)[2]
    check(text.endswith(b"authentication failed"), f"the refusal: {text!r}")


@case()
def dev_token_only_from_loopback(t):
    """Without a token of its own a server takes dev-token from loopback peers, says so, and refuses it to others. The program
    itself does not try."""
    enter_private_network(["192.0.2.1/32"])
    port = t.port()
    server = t.server(addr=("0.0.0.0", port), token=None)
    origin = t.origin(net.echo)
    near = t.client(("127.0.0.1", port), origin, token=None)
    ask((server.host, near.addr[1]))
    check("loopback" in server.err, "the server does not say that it takes the default token from loopback only")
    refused_far_away(t, port, b"dev-token")
    far = t.client(("192.0.2.1", port), origin, token=None, wait=False)
    far.want = (2,)
    check_equal(far.wait(), 2, "exit status of a client far away")
    check("--token-file" in far.err, f"the client is not told what to give: {far.last_words()}")


@case()
def weak_tokens_only_from_loopback(t):
    """A short token stands beside a long one: from far away the one is refused, for a reason that only the server's log
    has, and the other is let in."""
    enter_private_network(["192.0.2.1/32"])
    port = t.port()
    server = t.server("--token-file", t.write("tokens", f"short\n{t.token}\n", 0o600), addr=("0.0.0.0", port), token=None)
    origin = t.origin(net.echo)
    server.expect(r"WARN .*the token in line 1 is shorter than 16 characters", stream="err")
    ask((server.host, t.client(("127.0.0.1", port), origin, token="short").addr[1]))
    refused_far_away(t, port, b"short")
    server.expect("a token that is short or well known is good on loopback only", stream="err")
    ask((server.host, t.client(("192.0.2.1", port), origin).addr[1]))
    far = t.client(("192.0.2.1", port), origin, token="short", wait=False)
    far.want = (2,)
    check_equal(far.wait(), 2, "exit status of a client far away with a short token")


# Heartbeats and time-outs

def logged_in(t, server):
    """A scripted client, logged in; returns (wire, port, connection)."""
    if t.mode.v1:
        wire = v1peer.client_wire(server.addr)
        return wire, v1peer.log_in(wire, t.token.encode()), wire.sock
    wire = v2wire.client_wire(server.addr)
    return wire, v2wire.log_in(wire, t.token.encode())[0], wire.sock


@case()
def expiry_of_a_client(t):
    """A client that falls silent is given up after --expiry, not before: its visitors are dropped, its port is closed."""
    server = t.server(*QUICK)
    steady = t.client(server, t.origin(net.echo), *QUICK)
    wire, port, sock = logged_in(t, server)
    started = time.monotonic()
    if t.mode.v1:
        wire.send(v1peer.HEARTBEAT)
    visitor = net.connect((server.host, port))
    check(net.end_of(sock) in ("eof", "reset"), "the silent client was kept")
    check(time.monotonic() - started >= 1.8, "given up before --expiry")
    check(net.end_of(visitor) in ("eof", "reset"), "its visitor was kept")
    closed(t, (server.host, port))
    server.expect("no frame heard for too long", stream="err")
    ask(steady.addr)


@case(not_in={"v2": "a rule for v1 clients, which never send heartbeats"})
def no_expiry_of_a_v1_client(t):
    """The deployed v1 client never sends a Heartbeat: its silence alone is no reason to drop it."""
    server = t.server(*QUICK)
    wire, port, sock = logged_in(t, server)
    for _ in range(16):  # reads the server's heartbeats for four seconds, twice --expiry
        check_equal(wire.recv().type, v1peer.HEARTBEAT, "type of frame")
    visitor = net.connect((server.host, port))
    wire.expect(v1peer.STREAM_OPEN)
    visitor.close()
    wire.close()


@case()
def expiry_of_a_server(t):
    """A server that falls silent is given up by the client, which dials again."""
    if t.mode.v1:
        peer = t.keep(v1peer.V1Server(t.token, knobs=v1peer.Knobs(silent=True, heartbeat=0)))
        t.client(peer, t.origin(net.echo), *QUICK)
        t.until(lambda: peer.accepted >= 2, "a second connection")
        first, second = peer.times[:2]
    else:
        peer = t.keep(v2wire.Server(t.token))
        t.client(peer, t.origin(net.echo), *QUICK, wait=False)
        held = peer.accept()
        first = time.monotonic()
        peer.accept()
        second = time.monotonic()
        held.close()
    check(second - first >= 1.8, "given up before --expiry")


@case(not_in={"v1": "v1 tells no host", "tls": "plain scripted peer"})
def host_of_a_server(t):
    """The public host that a server tells is printed if it is an address or a name; nothing else reaches the terminal."""
    for host, printed in ((b"public.example.org", "public.example.org"), (b"2001:db8::1", "[2001:db8::1]"),
                          (b"x\x1b]0;owned\x07", "127.0.0.1"), (b"a b", "127.0.0.1"), (b"x\nready: tcp://y", "127.0.0.1")):
        peer = t.keep(v2wire.Server(t.token))
        client = t.client(peer, t.origin(net.echo), wait=False)
        wire = peer.accept(upto=v2wire.AUTH)
        wire.expect(v2wire.BIND)
        wire.send(v2wire.BIND_OK, 0, v2wire.bind_ok(0, 4711, host))
        client.expect(f"ready: tcp://{re.escape(printed)}:4711 -> ")
        check_equal([c for c in client.out if not (c.isprintable() or c == "\n")], [], "control characters on stdout")
        check_equal(client.out.count("ready:"), 1, "ready lines")
        client.kill()


@case()
def heartbeats_keep_a_session(t):
    """Idle for several times --expiry, with heartbeats: nothing happens."""
    server = t.server(*QUICK)
    client = t.client(server, t.origin(net.echo), *QUICK)
    sock = net.connect(client.addr)
    check_equal(net.end_of(sock, timeout=5), "timeout", "an idle stream")
    ask(client.addr)
    check_equal(client.out.count("ready:"), 1, "ready lines")


@case()
def handshake_timeout(t):
    """A connection that does not log in is closed after --handshake-timeout, however busily it drips."""
    server = t.server("--handshake-timeout", "500ms")
    hello = v1peer.frame(1, 0, v1peer.handshake_payload()) if t.mode.v1 else v2wire.frame(1, 0, v2wire.hello())
    for sent in (b"", hello[:3], hello):
        started = time.monotonic()
        sock = net.lane_connect(server.addr)
        sock.sendall(sent)
        check(net.end_of(sock) in ("eof", "reset"), f"kept after {len(sent)} bytes")
        check(time.monotonic() - started >= 0.4, f"closed too early after {len(sent)} bytes")
    sock = net.lane_connect(server.addr)
    try:
        for byte in hello:
            sock.sendall(bytes([byte]))
            time.sleep(0.1)  # this is the dripping
        raise AssertionError("a dripping connection was kept")
    except OSError:
        pass
    ask(t.client(server, t.origin(net.echo)).addr)


@case()
def handshake_timeout_of_a_server(t):
    """A server that accepts and says nothing: the client gives up after --handshake-timeout and dials again."""
    mute = net.listen()
    mute.settimeout(net.TIMEOUT)
    t.client(mute.getsockname()[:2], t.origin(net.echo), "--handshake-timeout", "500ms", wait=False)
    held = mute.accept()
    started = time.monotonic()
    second = mute.accept()
    check(time.monotonic() - started >= 0.4, "given up too early")
    for sock, _ in (held, second):
        sock.close()
    mute.close()


# Loss and return

@case()
def client_killed(t):
    """kill -9 of a client: its visitors are dropped, its port is free again, other clients do not notice. (With a grace time it could come back: cases/resume.py.)"""
    server = t.server("--grace", "0s")
    origin = t.origin(net.echo)
    other = t.client(server, origin)
    client = t.client(server, origin)
    visitors = [net.connect(client.addr) for _ in range(5)]
    for sock in visitors:
        sock.sendall(b"x")
        check_equal(sock.recv(1), b"x", "echo")
    client.kill()
    for sock in visitors:
        check(net.end_of(sock) in ("reset", "eof"), "a visitor was kept")
    closed(t, client.addr)
    check_equal(t.client(server, origin).addr, client.addr, "address of the next client")
    ask(other.addr)


@case()
def server_killed_and_back(t):
    """kill -9 of the server: origins are told, and when it is back the client is too, at the same public port."""
    ends = []

    def handler(sock):
        sock.sendall(b"!")
        ends.append(net.end_of(sock))
    server = t.server()
    client = t.client(server, t.origin(handler), "--reconnect-attempts", "200", "--grace", "0s")
    sock = net.connect(client.addr)
    check_equal(sock.recv(1), b"!", "greeting")
    server.kill()
    check(net.end_of(sock) in ("reset", "eof"), "the visitor's end")
    t.until(lambda: len(ends) == 1, "the end at the origin")
    t.server(addr=server.addr, start_port=server.start_port)
    client.expect(r"^ready: tcp://\S+ -> ", count=2)
    client.read_ready(2)
    check_equal(client.addrs[1], client.addrs[0], "public address afterwards")
    check_equal(hear(client.addr, 1), b"!", "greeting")


@case()
def server_comes_later(t):
    """A client that is started first waits for its server."""
    addr = ("127.0.0.1", t.port())
    client = t.client(addr, t.origin(net.echo), "--reconnect-attempts", "200", wait=False)
    client.expect("cannot connect", stream="err")
    t.server(addr=addr)
    client.read_ready(1)
    ask(client.addr)


@case()
def no_reconnect(t):
    """--no-reconnect: the loss of the session ends the client, and so does a server that is not there."""
    server = t.server()
    client = t.client(server, t.origin(net.echo), "--no-reconnect")
    client.want = (1,)
    server.kill()
    check_equal(client.wait(), 1, "exit status after the loss")
    early = t.client(server, t.origin(net.echo), "--no-reconnect", wait=False)
    early.want = (1, 4)
    check(early.wait() in early.want, "exit status without a server")


@case()
def reconnect_schedule(t):
    """Waits double from --reconnect-first to --reconnect-max, with jitter; after --reconnect-attempts the client gives up: status 4.

    The attempts are seen by a listener that accepts and closes.
    """
    listener = net.listen()
    listener.settimeout(net.TIMEOUT)
    client = t.client(listener.getsockname()[:2], t.origin(net.echo), "--reconnect-first", "100ms", "--reconnect-max", "400ms",
                      "--reconnect-attempts", "5", wait=False)
    client.want = (4,)
    times = []
    for _ in range(6):  # the first connection and five attempts
        sock, _ = listener.accept()
        times.append(time.monotonic())
        sock.close()
    check_equal(client.wait(), 4, "exit status")
    check("gave up after 5 attempts: --reconnect-attempts forever goes on" in client.err, "the flag is not named")
    listener.setblocking(False)
    try:
        listener.accept()
        raise AssertionError("a seventh connection")
    except BlockingIOError:
        pass
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    t.note = "waits " + ", ".join(f"{gap * 1000:.0f}" for gap in gaps) + " ms"
    for gap, planned in zip(gaps, (0.1, 0.2, 0.4, 0.4, 0.4)):
        check(gap >= planned * 0.45, f"too early: {t.note}")  # jitter takes away at most half
        check(gap <= planned * 1.6 + 5 * t.factor, f"too late: {t.note}")


# The end

def slow_download(t):
    """A visitor in the middle of a slow download of 24 MiB, far more than fits on the way; returns the task that reads the rest."""
    total = 24 * MIB
    addr = t.tunnel(t.origin(net.until_cut(lambda sock: net.Pattern("drain").send(sock, total))),
                    "--drain-timeout", "60s", server_flags=["--drain-timeout", "60s"])
    sock = net.connect(addr, rcvbuf=65536)
    check(net.recv_exact(sock, MIB) == net.Pattern("drain").block(0), "wrong bytes")

    def read_rest():
        for index in range(1, total // MIB):
            check(net.recv_exact(sock, MIB) == net.Pattern("drain").block(index), f"wrong bytes in MiB {index}")
            time.sleep(0.06)  # this is the slowness
        check_equal(net.end_of(sock), "eof", "end of the download")
        sock.close()
    return net.Task(read_rest)


@case()
def sigterm_drains_client(t):
    """SIGTERM at the client: a running download finishes whole, new visitors are turned away, exit status 0."""
    download = slow_download(t)
    t.tunnel_client.send(signal.SIGTERM)

    def turned_away():
        try:
            with net.connect(t.tunnel_client.addr) as sock:
                return net.end_of(sock, timeout=0.2) in ("reset", "eof")
        except ConnectionRefusedError:
            return True
    t.until(turned_away, "new visitors to be turned away")
    download.join_result()
    check_equal(t.tunnel_client.wait(), 0, "exit status")


@case()
def sigterm_drains_server(t):
    """SIGTERM at the server: nobody new is let in, a running download finishes whole, exit status 0."""
    download = slow_download(t)
    t.tunnel_server.send(signal.SIGTERM)
    closed(t, t.tunnel_client.addr)
    closed(t, t.tunnel_server.addr)
    download.join_result()
    check_equal(t.tunnel_server.wait(), 0, "exit status")


@case(not_in=V2_ONLY)
def no_lane_joins_a_server_that_drains(t):
    """JOIN behind SIGTERM is refused, and no port is opened again for it."""
    server = t.server()
    first = v2wire.client_wire(server.addr)
    addr = (server.host, v2wire.log_in(first, t.token.encode(), lanes=2)[0])
    visitor = net.connect(addr)
    visitor.sendall(b"x")
    first.expect(v2wire.OPEN)
    wires = [v2wire.client_wire(server.addr) for _ in range(6)]
    for wire in wires:
        v2wire.greet(wire)
    server.send(signal.SIGTERM)
    closed(t, addr)
    closed(t, server.addr)
    for wire in wires:
        proof = wire.channel.join_proof(first.secret, first.session, 1)
        try:
            wire.send(v2wire.JOIN, 0, v2wire.join(first.session, 1, bound=wire.channel.bound, proof=proof))
            while (got := wire.recv()) is not None:
                check_equal(got[0], v2wire.GOAWAY, "the answer to JOIN")
        except OSError:
            pass  # closed already
        check(net.connect_refused(addr), "the public port is open again")
    visitor.close()
    first.close()
    check_equal(server.wait(), 0, "exit status")


@case(not_in=V2_ONLY)
def refused_login_ends_nothing(t):
    """A log-in that is refused for want of room does not end the session of the client that it says to be."""
    server, held = t.server("--max-lanes", "1", workers=2), []

    def log_in(client):
        wire = v2wire.client_wire(server.addr)
        v2wire.greet(wire, client=client)
        wire.send(v2wire.AUTH, 0, v2wire.auth(v2wire.Keys(t.token.encode()), wire.channel))
        kind, _, _, payload = wire.recv()
        return wire, None if kind == v2wire.AUTH_OK else struct.unpack_from(">H", payload)[0]
    for client in [b"x" * 16] + [b"y" * 16] * 40:  # connections come to either worker
        wire, code = log_in(client)
        if code is None:
            held.append(wire)
        if len(held) == 2:
            break
    check_equal(len(held), 2, "sessions that fill both workers")
    refused = 0
    for _ in range(16):
        wire, code = log_in(b"x" * 16)
        if code is None:  # it came to its own worker, and took over
            held[0] = wire
            continue
        refused += 1
        held[0].send(v2wire.PING, 0, v2wire.ping())
        while (got := held[0].recv()) is not None and got[0] not in (v2wire.PONG, v2wire.GOAWAY):
            pass
        check(got is not None and got[0] == v2wire.PONG, f"its session ended for a log-in that was refused with {code}")
    check(refused > 0, "nobody was refused")
    t.note = f"{refused} refused"


@case()
def drain_timeout(t):
    """A stream that does not finish is cut after --drain-timeout, and the exit status is still 0."""
    for victim in ("server", "client"):
        flags = ["--drain-timeout", "600ms"]
        addr = t.tunnel(t.origin(net.echo), *flags, server_flags=flags)
        sock = net.connect(addr)
        sock.sendall(b"x")
        check_equal(sock.recv(1), b"x", "echo")
        proc = getattr(t, "tunnel_" + victim)
        started = time.monotonic()
        check_equal(proc.stop(signal.SIGINT), 0, f"exit status of the {victim}")
        check(time.monotonic() - started >= 0.5, f"the {victim} did not wait for its stream")
        check(net.end_of(sock) in ("reset", "eof"), "end at the visitor")
        if victim == "server":
            t.tunnel_client.stop()  # before it gives up dialling


@case()
def second_signal_ends_at_once(t):
    """Ctrl+C twice: no waiting for streams."""
    for victim in ("server", "client"):
        flags = ["--drain-timeout", "10m"]
        addr = t.tunnel(t.origin(net.echo), *flags, server_flags=flags)
        sock = net.connect(addr)
        sock.sendall(b"x")
        check_equal(sock.recv(1), b"x", "echo")
        proc = getattr(t, "tunnel_" + victim)
        proc.want = None
        proc.send(signal.SIGINT)
        proc.expect("(?i)drain|shutting down|stop", stream="err")
        check(proc.running(), f"the {victim} did not wait for its stream")
        proc.send(signal.SIGINT)
        proc.wait(20 * t.factor)
        sock.close()
        # The other one would wait ten minutes for nothing if the loss of its peer did not end its
        # streams.
        other = t.tunnel_client if victim == "server" else t.tunnel_server
        check_equal(other.stop(), 0, "exit status of the other")


@case()
def idle_ends_at_once(t):
    """Without streams SIGTERM ends both at once."""
    t.tunnel(t.origin(net.echo), "--drain-timeout", "10m", server_flags=["--drain-timeout", "10m"])
    check_equal(t.tunnel_client.stop(timeout=20 * t.factor), 0, "exit status of the client")
    check_equal(t.tunnel_server.stop(timeout=20 * t.factor), 0, "exit status of the server")


@case()
def summary(t):
    """At the end both print what they did: connections, streams, bytes, uptime, and a row per tunnel."""
    addr = t.tunnel(t.origin(net.echo))
    for _ in range(7):
        ask(addr, bytes(1000))
    t.tunnel_client.stop()
    t.tunnel_server.stop()
    for proc in (t.tunnel_client, t.tunnel_server):
        for word in ("connections", "streams", "bytes", "uptime"):
            check(re.search(word, proc.out, re.I), f"no '{word}' in the summary of the {proc.name}: {proc.out!r}")
        check(re.search(r"\b7\b", proc.out), f"seven streams are not in the summary of the {proc.name}")
        check(str(addr[1]) in proc.out, f"the tunnel is not in the summary of the {proc.name}")


@case()
def tunnel_names(t):
    """What --name says is where an operator looks: in the log, and in the summary of both ends."""
    addr = t.tunnel(t.origin(net.echo), "--name", "web")
    ask(addr)
    named, plain = rf"tunnel web, port {addr[1]} -> ", rf"tunnel port {addr[1]} -> "
    at_server = plain if t.mode.v1 else named  # v1 has no names
    t.tunnel_server.expect(at_server, stream="err")
    t.tunnel_client.stop()
    t.tunnel_server.stop()
    for proc, line in ((t.tunnel_client, named), (t.tunnel_server, at_server)):
        check(re.search(rf"^  {line}.*session \d+\): 1 streams", proc.out, re.M), f"no '{line}' in the summary of "
              f"the {proc.name}: {proc.out!r}")


# IPv6

@case()
def ipv6_everywhere(t):
    """Server, public port and origin on ::1."""
    if not has_ipv6():
        raise Skip("no IPv6 on this machine")
    origin = t.origin(net.echo, host="::1")
    addr = t.tunnel(origin, host="::1")
    check_equal(addr[0], "::1", "public host")
    ask(addr)
    check_equal(t.tunnel_server.addr[0], "::1", "server host")


@case()
def names_are_resolved(t):
    """localhost as server and as origin; a name that does not exist resets the visitor, not the client."""
    server = t.server()
    origin = t.origin(net.echo)
    ask(t.client(("localhost", server.addr[1]), ("localhost", origin.addr[1])).addr)
    client = t.client(server, ("no-such-name.invalid", 80))
    check(net.end_of(net.connect(client.addr)) in ("reset", "eof"), "end at the visitor")
    check(client.running(), "the client ended")


@case()
def a_port_in_use_is_waited_for_aloud(t):
    """A server whose port is in use says at once that it waits, takes the port when it comes free, ends on SIGTERM meanwhile, and fails
    with status 3 when it was long enough."""
    addr = ("127.0.0.1", t.port())
    says = f"INFO .*waiting for {net.format_addr(addr)}, which is in use: at most 1 s"
    held = net.listen(*addr)
    first = t.server(addr=addr, wait=False)
    first.want = (3,)
    first.expect(says, stream="err")
    check_equal(first.wait(), 3, "exit status of one that waited in vain")
    check("Address already in use" in first.err, first.err)
    stopped = t.server(addr=addr, wait=False)
    stopped.want = (3,)
    stopped.expect(says, stream="err")
    check_equal(stopped.stop(), 3, "exit status of one that was stopped while it waited")
    check("stopped while it waited for" in stopped.err and "already in use" not in stopped.err, stopped.err)
    second = t.server(addr=addr, wait=False)
    second.expect(says, stream="err")
    held.close()
    second.expect("^listening: ")
