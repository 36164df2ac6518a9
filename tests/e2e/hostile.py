#!/usr/bin/env python3
"""hostile: one owner doing its worst, in a process of its own. For cases/shares.py and bench/attack.

    hostile.py ATTACK HOST:PORT [--token T] [--from ADDR] [--visit HOST:PORT] [--count N] [--rate N]
               [--tls DIR] [--bare]

HOST:PORT is a tunnel server. Each attack is a function below, and its first line says what it does.
It makes its sessions, tunnels and visitors itself, from the address --from; with --visit its
visitors go to that public port, which is somebody else's tunnel. It prints "ready" when it has what
it can get (as much as it was given, or --count), goes on as fast as it can (or --rate a second)
until standard input ends, and then prints "did N": how often it did what it does.

Being refused, in whatever way, is not an error here: an attacker tries again.

--bare: the other end is a listener that takes everything and says nothing (bench/siege bare). The
attack then does the same without waiting for answers, so that what its own processor time costs the
neighbours can be told from what the server's share of it costs them.
"""
import argparse
import collections
import os
import resource
import select
import socket
import ssl
import struct
import sys
import threading
import time

import net
import tlspipe
import v1peer
import v2wire

MIB = 1 << 20
KIB = 1 << 10
BIG_WINDOW = (1 << 31) - 1
PATIENCE = 3.0  # seconds for an answer; then it counts as refused
SETTLED = 0.6  # seconds without progress: there is no more to be had
AT_MOST = 20.0  # seconds for that
REFUSED = (OSError, v2wire.ProtocolError, v1peer.ProtocolError, net.NetError, ssl.SSLError)
RESUME = v2wire.RESUME
LEAST_PIECE = 16 * KIB  # smaller ones would pass for requests, which keep windows small
ATTACKS = {}
VISITOR_UNSENT = 64 * KIB
LINGERING = 3000  # connections that lingering_lanes keeps
BARE_COUNT = 1000  # of what a bare listener never refuses
SINK = bytearray(256 * KIB)  # what is read and not looked at


def attack(function):
    ATTACKS[function.__name__] = function
    return function


class BareWire(v2wire.Wire):
    """A connection to somebody who never answers: the answers are made up here."""

    ANSWERS = {
        v2wire.HELLO_OK: v2wire.hello_ok(),
        v2wire.AUTH_OK: v2wire.auth_ok(lanes=64, caps=RESUME),
        v2wire.AUTH_ERR: b"\0\0\0\0",
        v2wire.BIND_OK: v2wire.bind_ok(),
        v2wire.JOIN_OK: v2wire.join_ok(),
        v2wire.GOAWAY: b"\0\0\0\0",
    }

    def expect(self, kind):
        return 0, 0, self.ANSWERS[kind]


class Attacker:
    """Who attacks, and whom. `did` counts."""

    def __init__(self, options):
        self.addr, self.source = net.parse_addr(options.server), options.source
        self.keys = v2wire.Keys(options.token.encode())
        self.token = options.token.encode()
        self.target = net.parse_addr(options.visit) if options.visit else None
        self.count, self.rate, self.bare = options.count, options.rate, options.bare
        self.did = 0
        self.held = []  # sockets that nobody may close by accident
        self.is_ready, self.keeper = False, None

    # Its life

    def ready(self):
        if not self.is_ready:
            self.is_ready = True
            print("ready", flush=True)

    def turns(self):
        """Turns for ever, counted, at --rate if there is one."""
        self.ready()
        due = time.monotonic()
        while True:
            yield self.did
            self.did += 1
            if self.rate:
                due += 1 / self.rate
                time.sleep(max(0, due - time.monotonic()))

    def take_all(self, take, pause=0.02):
        """take(n) until it is refused or --count; then it tries again for ever."""
        most = min(self.count, BARE_COUNT) if self.bare else self.count
        while self.did < most:
            try:
                take(self.did)
            except REFUSED:
                break
            self.did += 1
        self.ready()
        while True:
            time.sleep(pause)
            try:
                take(self.did)
                self.did += 1
            except REFUSED:
                pass

    def rest(self):
        self.ready()
        threading.Event().wait()

    def keep(self, wire):
        """A lane that lives on and is read."""
        self.keeper = self.keeper or Drain()
        self.keeper.add(wire.sock)

    def settled(self, value, most=AT_MOST):
        """Waits until a number does not grow any more, or for `most` seconds."""
        began = last = time.monotonic()
        seen = value()
        while time.monotonic() - last < SETTLED and time.monotonic() - began < most:
            time.sleep(0.02)
            now = value()
            if now > seen:
                seen, last = now, time.monotonic()

    # Its connections

    def connect(self, addr=None, rcvbuf=None, connect=net.connect):
        """Without a word; to the tunnel port if nothing else is said."""
        sock = connect(addr or self.addr, source=self.source, rcvbuf=rcvbuf, timeout=PATIENCE)
        if isinstance(sock, net.ResetAtOnce):
            raise ConnectionResetError("reset at once")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def wire(self, rcvbuf=None):
        kind = BareWire if self.bare else v2wire.Wire
        return kind(self.connect(rcvbuf=rcvbuf, connect=net.lane_connect))

    def log_in(self, tunnels=1, rcvbuf=None, **fields):
        """A session on a wire, with wire.ports."""
        wire = self.wire(rcvbuf)
        try:
            v2wire.greet(wire, **fields)
            wire.send(v2wire.AUTH, 0, v2wire.auth(self.keys, wire.channel))
            answer = wire.expect(v2wire.AUTH_OK)[2]
            wire.caps, wire.lanes, wire.window, _, _, wire.session = struct.unpack_from(">IHIIIQ", answer, 32)
            wire.secret = wire.channel.secret(self.keys)
            wire.ports = [self.bind(wire, index) for index in range(tunnels)]
        except REFUSED:
            net.rst(wire.sock)
            raise
        return wire

    def bind(self, wire, index):
        wire.send(v2wire.BIND, 0, v2wire.bind(index))
        port = struct.unpack_from(">HH", wire.expect(v2wire.BIND_OK)[2])[1]
        return self.addr[1] if self.bare else port

    def join(self, of, lane, flags=0, received=0, rcvbuf=None):
        wire = self.wire(rcvbuf)
        try:
            v2wire.say_join(wire, of, lane, flags, received)
            wire.expect(v2wire.JOIN_OK)
        except REFUSED:
            net.rst(wire.sock)
            raise
        return wire

    def session(self, lanes=1, **fields):
        """The wires of a session with lanes, as many of them as it is given; under TLS, where each
        costs this process a thread, a quarter."""
        lanes = max(1, lanes // 4) if net.LANES else lanes
        first = self.log_in(lanes=lanes, **fields)
        wires = [first]
        for lane in range(1, min(lanes, first.lanes)):
            try:
                wires.append(self.join(first, lane, rcvbuf=fields.get("rcvbuf")))
            except REFUSED:
                break
        return wires

    def sessions(self, count, **fields):
        """Up to `count` of them, as lists of wires."""
        made = []
        for _ in range(count):
            try:
                made.append(self.session(**fields))
            except REFUSED:
                break
        return made

    def visit(self, port=None, rcvbuf=None):
        """A visitor of one of its own ports, or of --visit. What it has not sent yet would fill its own
        machine's memory for TCP (net.ipv4.tcp_mem), which is not the server's: here they are the same."""
        sock = self.connect(self.target if self.target and port is None else (self.addr[0], port), rcvbuf)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, VISITOR_UNSENT)
        return sock

    def visitors(self, count, port=None, rcvbuf=None):
        """Up to `count` of them, at once."""
        made = []
        try:
            for _ in range(count):
                made.append(self.visit(port, rcvbuf))
        except REFUSED:
            pass
        self.held += made
        return made

    def tunnel(self):
        """The port that its visitors go to: None with --visit, otherwise a tunnel of its own whose
        client reads all and says nothing."""
        if self.target:
            return None
        wire = self.log_in(window=BIG_WINDOW)
        Drain([wire])
        return wire.ports[0]


def say(sock, data):
    """What the socket takes at once; False when it is over."""
    try:
        sock.send(data)
    except (BlockingIOError, TimeoutError):
        pass
    except OSError:
        return False
    return True


class Drain(threading.Thread):
    """Reads lanes as fast as they come, and tells an old count now and then, so that they live."""

    PONG = v2wire.frame(v2wire.PONG, 0, v2wire.ping(0, 0))

    def __init__(self, wires=(), beat=True):
        super().__init__(daemon=True)
        self.poll, self.socks = select.epoll(), {}
        self.beat, self.bytes = beat, 0
        self.enough = False  # set by its owner: nothing more is read
        for wire in wires:
            self.add(wire.sock)
        self.start()

    def add(self, sock):
        sock.setblocking(False)
        self.socks[sock.fileno()] = sock
        self.poll.register(sock.fileno(), select.EPOLLIN)

    def run(self):
        beaten = 0.0
        while not self.enough:
            for fd, _ in self.poll.poll(0.2):
                self.read(fd)
            if self.beat and time.monotonic() - beaten > 1:
                beaten = time.monotonic()
                for sock in list(self.socks.values()):
                    say(sock, self.PONG)

    def read(self, fd):
        try:
            got = self.socks[fd].recv_into(SINK)
        except BlockingIOError:
            return
        except OSError:
            got = 0
        self.bytes += got
        if not got:
            self.poll.unregister(fd)
            self.socks.pop(fd).close()


class Pour(threading.Thread):
    """Sends on every socket what it takes, for ever; those that end are left out."""

    def __init__(self, socks, piece, most=1 << 60, at_end=None):
        super().__init__(daemon=True)
        self.socks, self.piece, self.most, self.at_end = socks, piece, most, at_end
        self.bytes = 0
        self.start()

    def run(self):
        poll = select.epoll()
        left = {}
        for sock in self.socks:
            sock.setblocking(False)
            left[sock.fileno()] = [sock, self.most]
            poll.register(sock.fileno(), select.EPOLLOUT)
        while left:
            for fd, _ in poll.poll(1):
                if not self.go_on(left[fd]):
                    poll.unregister(fd)
                    del left[fd]

    def go_on(self, one):
        try:
            sent = one[0].send(self.piece[:one[1]])
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.bytes += sent
        one[1] -= sent
        if one[1] == 0 and self.at_end:
            self.at_end(one[0])
        return one[1] > 0


class Feeder(threading.Thread):
    """The client of a tunnel on one lane, which sends its visitors all that their windows take.
    PINGs
    are answered `late`, so that the path looks long."""

    def __init__(self, wire, late=0.0, most=1 << 60, piece=64 * KIB):
        super().__init__(daemon=True)
        self.wire, self.late, self.most, self.piece = wire, late, most, bytes(piece)
        self.credit, self.fed = {}, collections.Counter()
        self.granted = self.bytes = self.answered = 0
        self.answers = collections.deque()
        wire.sock.settimeout(0.01)
        self.start()

    def run(self):
        buf = bytearray()
        try:
            while True:
                try:
                    data = self.wire.sock.recv(256 * KIB)
                    if not data:
                        return
                    buf += data
                except TimeoutError:
                    pass
                self.take(buf)
                self.send()
        except OSError:
            return

    def take(self, buf):
        at = 0
        while len(buf) - at >= v2wire.HEADER.size:
            _, kind, _, stream, length = v2wire.HEADER.unpack_from(buf, at)
            if len(buf) - at < v2wire.HEADER.size + length:
                break
            payload = bytes(buf[at + v2wire.HEADER.size:at + v2wire.HEADER.size + length])
            at += v2wire.HEADER.size + length
            self.frame(kind, stream, payload)
        del buf[:at]

    def frame(self, kind, stream, payload):
        if kind == v2wire.OPEN:
            self.credit[stream] = self.wire.window
        elif kind == v2wire.WINDOW and stream in self.credit:
            more = struct.unpack(">I", payload)[0]
            self.credit[stream] += more
            self.granted += more
        elif kind == v2wire.RESET:
            self.credit.pop(stream, None)
        elif kind == v2wire.PING:
            self.answers.append((time.monotonic() + self.late, payload))

    def send(self):
        """Blocks while the lane does."""
        self.wire.sock.settimeout(None)
        while self.answers and self.answers[0][0] <= time.monotonic():
            self.wire.send(v2wire.PONG, 0, self.answers.popleft()[1])
            self.answered += 1
        for stream in list(self.credit):
            size = min(self.credit[stream], len(self.piece), self.most - self.fed[stream])
            if size >= LEAST_PIECE:
                self.wire.send(v2wire.DATA, stream, self.piece[:size])
                self.credit[stream] -= size
                self.fed[stream] += size
                self.bytes += size
        self.wire.sock.settimeout(0.01)


def hose(a, wires, blob):
    """Blob after blob on all wires, as far as they take it. A blob is made of whole frames, and
    what was begun is ended."""
    poll = select.epoll()
    rest = {}
    for wire in wires:
        wire.sock.setblocking(False)
        rest[wire.sock.fileno()] = [wire.sock, b""]
        poll.register(wire.sock.fileno(), select.EPOLLOUT)
    a.ready()
    while rest:
        for fd, _ in poll.poll(1):
            one = rest[fd]
            try:
                one[1] = one[1] or blob
                one[1] = one[1][one[0].send(one[1]):]
                a.did += 1
            except BlockingIOError:
                pass
            except OSError:
                poll.unregister(fd)
                del rest[fd]
        if a.rate:
            time.sleep(1 / a.rate)


def hose_again(a, make, blob):
    """As hose, and with new wires when the old ones were closed."""
    while True:
        try:
            wires = make()
        except REFUSED:
            a.ready()
            time.sleep(0.05)
            continue
        hose(a, wires, blob)


# Strangers: they have no token

@attack
def silent_strangers(a):
    """Connections that say nothing, --count of them at a time; who is closed comes again."""
    poll, socks = select.epoll(), {}

    def come():
        sock = a.connect()
        socks[sock.fileno()] = sock
        poll.register(sock.fileno(), select.EPOLLRDHUP | select.EPOLLERR | select.EPOLLHUP)
        a.did += 1

    began = due = time.monotonic()
    while True:
        while len(socks) < a.count and time.monotonic() >= due:
            due = max(due + 1 / a.rate, time.monotonic() - 1) if a.rate else 0
            try:
                come()
            except OSError:
                break
        if len(socks) >= a.count or time.monotonic() - began > 1:
            a.ready()
        for fd, _ in poll.poll(0.005):
            poll.unregister(fd)
            socks.pop(fd).close()


def knock(a, words=b""):
    """One connection that says something and is reset."""
    sock = a.connect()
    if words:
        sock.sendall(words)
    net.rst(sock)


def knocks(a, words=b""):
    for _ in a.turns():
        try:
            knock(a, words)
        except OSError:
            pass


@attack
def knocking_strangers(a):
    """Connections that are reset at once."""
    knocks(a)


@attack
def greeting_strangers(a):
    """Connections that say HELLO and are reset."""
    knocks(a, v2wire.frame(v2wire.HELLO, 0, v2wire.hello()))


@attack
def babbling_strangers(a):
    """Connections with a first byte that is no protocol's, kept until the server has said so."""
    def babble(_):
        sock = a.connect()
        sock.sendall(b"\x07")
        a.held.append(sock)
        if len(a.held) > 200:
            net.rst(a.held.pop(0))
    for turn in a.turns():
        try:
            babble(turn)
        except OSError:
            pass


@attack
def guessing_strangers(a):
    """Log-ins with a wrong token, one after the other."""
    keys = v2wire.Keys(b"a guess")
    for _ in a.turns():
        try:
            wire = a.wire()
            v2wire.greet(wire)
            wire.send(v2wire.AUTH, 0, v2wire.auth(keys, wire.channel))
            wire.expect(v2wire.AUTH_ERR)
            net.rst(wire.sock)
        except REFUSED:
            pass


@attack
def false_joins(a):
    """JOIN for sessions that are not one's own."""
    for turn in a.turns():
        try:
            wire = a.wire()
            v2wire.greet(wire)
            wire.send(v2wire.JOIN, 0, v2wire.join(session=1 + turn % 8, lane=turn % 2, flags=turn % 2))
            wire.expect(v2wire.GOAWAY)
            net.rst(wire.sock)
        except REFUSED:
            pass


def client_hello(addr):
    """The first flight of a handshake, which may be said any number of times."""
    context = net.LANES.client if net.LANES else ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=addr[0])
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


@attack
def half_handshakes(a):
    """A ClientHello, for which the server computes its whole flight, and a reset once that has
    come."""
    hello = client_hello(a.addr)
    for _ in a.turns():
        try:
            sock = a.connect()
            sock.sendall(hello)
            if not a.bare:
                sock.recv(1)
            net.rst(sock)
        except OSError:
            pass


@attack
def kept_handshakes(a):
    """The same, and then nothing: --count handshakes that do not go on."""
    hello = client_hello(a.addr)

    def keep(_):
        sock = a.connect()
        sock.sendall(hello)
        if not a.bare:
            sock.recv(1)
        a.held.append(sock)
    a.take_all(keep)


@attack
def whole_handshakes(a):
    """Complete handshakes, each closed after it."""
    hello = client_hello(a.addr)
    for _ in a.turns():
        try:
            sock = a.connect()
            if a.bare:
                client_hello(a.addr)
                sock.sendall(hello)
            else:
                tlspipe.Pipe(sock, net.LANES.client, False, a.addr[0]).shake()
            net.rst(sock)
        except REFUSED:
            pass


# Clients: they have a token

@attack
def dropped_sessions(a):
    """Sessions until they are refused, whose connections are dropped: they stay for the grace
    time."""
    def take(_):
        wire = a.log_in(caps=RESUME)
        net.rst(wire.sock)
    a.take_all(take)


@attack
def many_sessions(a):
    """Sessions until they are refused, kept."""
    a.take_all(lambda _: a.keep(a.log_in()))


@attack
def many_lanes(a):
    """Sessions of 64 lanes until they are refused."""
    of = []

    def take(turn):
        if turn % 64 == 0:
            of[:] = [a.log_in(lanes=64)]
            a.keep(of[0])
        else:
            a.keep(a.join(of[0], turn % 64))
    a.take_all(take)


@attack
def many_tunnels(a):
    """Sessions of 16 tunnels until the last one is refused: ports, listening sockets."""
    wire = None

    def take(turn):
        nonlocal wire
        if turn % 16 == 0 or wire is None:
            wire = a.log_in(tunnels=0)
            a.held.append(wire)
        a.bind(wire, turn % 16)
    a.take_all(take)


@attack
def comings_and_goings(a):
    """Log-ins, each with a tunnel, that leave at once."""
    for _ in a.turns():
        try:
            net.rst(a.log_in().sock)
        except REFUSED:
            pass


@attack
def replacements(a):
    """Log-ins with the same identity: each ends the session before it."""
    for turn in a.turns():
        try:
            a.held.append(a.log_in(tunnels=1, client=b"the same one", caps=RESUME).sock)
            if len(a.held) > 4:
                net.rst(a.held.pop(0))
        except REFUSED:
            pass


@attack
def refused_binds(a):
    """BIND for an index that is taken, as fast as the lane takes it; refusals are read."""
    def make():
        wire = a.log_in()
        Drain([wire])
        return [wire]
    hose_again(a, make, v2wire.frame(v2wire.BIND, 0, v2wire.bind(0)) * 200)


@attack
def rejoined_lanes(a):
    """JOIN with RESUME for lane 0 again and again: each freezes the lane and takes its connection's
    place."""
    wire = None
    for _ in a.turns():
        try:
            if wire is None:
                wire = now = a.log_in(caps=RESUME)
            after = a.join(wire, 0, RESUME, 0)
            net.rst(now.sock)
            now = after
        except REFUSED:
            wire = None


@attack
def lingering_lanes(a):
    """JOIN of one lane again and again, and of one that was never there: who is replaced or refused keeps its end
    open as long as the server lingers."""
    wire = None
    for turn in a.turns():
        try:
            if wire is None:
                wire = a.log_in(lanes=64, caps=RESUME)
                a.held.append(wire)
            if turn % 2 == 0:
                a.held.append(a.join(wire, 1))
            else:
                refused = a.wire()
                v2wire.say_join(refused, wire, 2, RESUME, 0)
                a.held.append(refused)
        except REFUSED:
            wire = None
        while len(a.held) > LINGERING:
            net.rst(a.held.pop(0).sock)


@attack
def replayed_logs(a):
    """A lane with a full log: JOIN with RESUME and a count of 0, all of it read, and again."""
    wires = a.session(caps=RESUME, window=BIG_WINDOW)
    first, now = wires[0], wires[0]
    drain = Drain(wires, beat=False)
    Pour(a.visitors(4, first.ports[0]), bytes(64 * KIB), 8 * MIB)
    a.settled(lambda: drain.bytes)
    for _ in a.turns():
        try:
            if first is None:
                first = now = a.log_in(caps=RESUME)
            after = a.join(first, 0, RESUME, 0)
            net.rst(now.sock)
            now = after
            net.recv_exact(now.sock, 24 * MIB if not a.bare else 0)
        except TimeoutError:
            pass
        except REFUSED:
            first = None


@attack
def uncounted_logs(a):
    """RESUME, 32 lanes, a visitor on each with small pieces, all read and never counted: the server
    keeps all it has sent, in small buffers as long as no send has more than half of one."""
    wires = a.session(lanes=32, caps=RESUME, window=BIG_WINDOW)
    socks = a.visitors(len(wires), wires[0].ports[0])
    keep_pace(a, [wire.sock for wire in wires], socks, bytes(3500))
    a.rest()


def keep_pace(a, lanes, socks, piece):
    """A piece from each visitor, and the next ones when all lanes' are there, so that no read of
    the
    server is ever full. Ready when nothing moves any more, or all small buffers must be taken."""
    enough = 600 * MIB
    poll, here = select.epoll(), {sock.fileno(): sock for sock in lanes}
    for sock in [*lanes, *socks]:
        sock.setblocking(False)
    for fd in here:
        poll.register(fd, select.EPOLLIN)
    due = came = 0
    beaten, moved = time.monotonic(), time.monotonic()
    while socks:
        if came >= due or a.bare:
            socks = [sock for sock in socks if say(sock, piece)]
            a.did += len(socks)
            due += len(socks) * (len(piece) + v2wire.HEADER.size)
        before = came
        for fd, _ in poll.poll(0 if a.bare else 0.1):
            try:
                came += here[fd].recv_into(SINK)
            except BlockingIOError:
                pass
        now = time.monotonic()
        moved = now if came > before else moved
        if now - moved > SETTLED or came > enough:
            a.ready()
            came = due  # a piece that was lost shall not end it
            time.sleep(0.01)
        if now - beaten > 1:
            beaten = now
            for sock in lanes:
                say(sock, Drain.PONG)


@attack
def deaf_pings(a):
    """A session of 64 lanes that sends PINGs and reads nothing: answers pile up."""
    blob = v2wire.frame(v2wire.PING, 0, v2wire.ping()) * 200
    hose_again(a, lambda: a.session(lanes=64, rcvbuf=4096), blob)


@attack
def pings(a):
    """PINGs as fast as the lane takes them, and all answers read."""
    def make():
        wire = a.log_in()
        Drain([wire], beat=False)
        return [wire]
    hose_again(a, make, v2wire.frame(v2wire.PING, 0, v2wire.ping()) * 2000)


def with_stream(a):
    """A lane with a stream of a visitor that does nothing; returns (wires, id)."""
    wire = a.log_in()
    a.held.append(a.visit(wire.ports[0]))
    stream = 1 if a.bare else wire.expect(v2wire.OPEN)[1]
    Drain([wire], beat=False)
    return [wire], stream


@attack
def windows(a):
    """WINDOW of one byte as fast as the lane takes it."""
    wires, stream = with_stream(a)
    hose(a, wires, v2wire.frame(v2wire.WINDOW, stream, b"\0\0\0\1") * 3000)
    hose_again(a, lambda: with_stream(a)[0], v2wire.frame(v2wire.PING, 0, v2wire.ping()))


@attack
def stray_data(a):
    """DATA for streams that are not there, a byte in each."""
    def make():
        wire = a.log_in()
        Drain([wire], beat=False)
        return [wire]
    hose_again(a, make, v2wire.frame(v2wire.DATA, 1 << 20 | 77, b"x") * 3000)


@attack
def begun_frames(a):
    """4 sessions of 64 lanes, each made busy with large frames, and then left in the middle of a
    header."""
    big = v2wire.frame(v2wire.DATA, 1 << 20 | 77, bytes(MIB))
    wires = [wire for session in a.sessions(4, lanes=64) for wire in session]
    Pour([wire.sock for wire in wires], big * 2, 2 * len(big), at_end=lambda sock: say(sock, big[:5])).join(AT_MOST)
    a.did = len(wires)
    a.rest()


@attack
def begun_payloads(a):
    """The same, left in the middle of a payload."""
    big = v2wire.frame(v2wire.DATA, 1 << 20 | 77, bytes(MIB))
    wires = [wire for session in a.sessions(4, lanes=64) for wire in session]
    Pour([wire.sock for wire in wires], big * 2, 2 * len(big) - 1000).join(AT_MOST)
    a.did = len(wires)
    a.rest()


@attack
def unread_lanes(a):
    """4 sessions of 64 lanes that are never read, and visitors who pour into them: each lane keeps
    what it may."""
    made = a.sessions(4, lanes=64, window=BIG_WINDOW, rcvbuf=4096)
    socks = [sock for wires in made for sock in a.visitors(128, wires[0].ports[0])]
    pour = Pour(socks, bytes(256 * KIB))
    a.settled(lambda: pour.bytes if not a.bare else 0, 4)
    a.did = len(socks)
    a.rest()


@attack
def slow_lanes(a):
    """The same with one session whose lanes are read a hundred bytes at a time."""
    wires = a.session(lanes=64, window=BIG_WINDOW, rcvbuf=4096)
    pour = Pour(a.visitors(256, wires[0].ports[0]), bytes(64 * KIB))
    a.settled(lambda: pour.bytes if not a.bare else 0)
    for wire in wires:
        wire.sock.setblocking(False)
    for _ in a.turns():
        for wire in wires:
            try:
                wire.sock.recv(100)
            except OSError:
                pass
        time.sleep(0.01)


@attack
def small_unread(a):
    """500 visitors who send single bytes to a tunnel whose client reads nothing."""
    wires = a.session(lanes=8, window=BIG_WINDOW, rcvbuf=4096)
    pour = Pour(a.visitors(500, wires[0].ports[0]), b"x")
    a.settled(lambda: pour.bytes if not a.bare else 0, 2)
    a.did = pour.bytes
    a.rest()


@attack
def frozen_session(a):
    """A session of 16 lanes that loses its connections, and visitors who pour into it meanwhile,
    and more of them."""
    made = a.sessions(4, lanes=16, caps=RESUME, window=BIG_WINDOW)
    for wires in made:
        for wire in wires:
            net.rst(wire.sock)
    pours = [Pour(a.visitors(250, wires[0].ports[0]), bytes(64 * KIB)) for wires in made]
    a.settled(lambda: sum(pour.bytes for pour in pours) if not a.bare else 0)
    a.did = len(a.held)
    a.rest()


@attack
def kept_ids(a):
    """A client that tells no count while visitors come and go: all ids stay taken."""
    wire = a.log_in()
    Drain([wire])
    for _ in a.turns():
        try:
            net.rst(a.visit(wire.ports[0]))
        except OSError:
            pass


@attack
def resetting_client(a):
    """Visitors come as fast as they can, and the client answers each OPEN with RESET."""
    wire = a.log_in()
    threading.Thread(target=reset_all, args=(wire,), daemon=True).start()
    for _ in a.turns():
        try:
            sock = a.visit(wire.ports[0])
            if not a.bare:
                net.end_of(sock, PATIENCE)
            net.rst(sock)
        except OSError:
            pass


def reset_all(wire):
    try:
        while (got := wire.recv()) is not None:
            if got[0] == v2wire.OPEN:
                wire.send(v2wire.RESET, got[2], b"\0\2")
            elif got[0] == v2wire.PING:
                wire.send(v2wire.PONG, 0, got[3])
    except REFUSED:
        pass


# Visitors: they have a public port

@attack
def passing_visitors(a):
    """Visitors who come and reset, as fast as they can."""
    port = a.tunnel()
    for _ in a.turns():
        try:
            net.rst(a.visit(port))
        except OSError:
            pass


@attack
def idle_visitors(a):
    """Visitors who do nothing, --count of them, and more when there is room."""
    port = a.tunnel()
    a.take_all(lambda _: a.held.append(a.visit(port)), pause=0.005)


@attack
def trickling_visitors(a):
    """--count visitors, each of whom sends a byte a second."""
    socks = a.visitors(min(a.count, 500), a.tunnel())
    a.did = len(socks)
    a.ready()
    while True:
        for sock in socks:
            say(sock, b"x")
            time.sleep(1 / max(1, len(socks)))


@attack
def half_closed_visitors(a):
    """--count visitors who ask for bytes without end (a "b" does that at the origins of the tests),
    end their own direction and never read."""
    for sock in a.visitors(min(a.count, BARE_COUNT), a.tunnel(), rcvbuf=4096):
        say(sock, b"b")
        sock.shutdown(socket.SHUT_WR)
        a.did += 1
    a.rest()


@attack
def full_windows(a):
    """64 visitors who read fast until their windows are as large as they get, and then stop."""
    wire = a.log_in()
    feeder = Feeder(wire, late=0.7)
    began = time.monotonic()
    while not a.bare and not feeder.answered and time.monotonic() - began < AT_MOST:
        time.sleep(0.02)  # the path has no length before
    socks = a.visitors(64, wire.ports[0])
    drain = Drain([v2wire.Wire(sock) for sock in socks], beat=False)
    most, began, grown = 0, time.monotonic(), time.monotonic()
    while time.monotonic() < max(began + 2, grown + 1) and time.monotonic() - began < AT_MOST:
        time.sleep(0.005)
        size = len(socks) * wire.window + feeder.granted - drain.bytes
        if size > most:
            most, grown = size, time.monotonic()
    drain.enough = True
    a.did = most
    a.rest()


@attack
def stuffed_visitors(a):
    """--count visitors who read nothing, and a client that sends each of them all that it may."""
    wire = a.log_in()
    feeder = Feeder(wire)
    socks = a.visitors(a.count, wire.ports[0], rcvbuf=4096)
    a.settled(lambda: feeder.bytes, 4 + a.count / 1000)
    a.did = len(socks)
    a.rest()


def v1_log_in(a):
    wire = v1peer.Wire(a.connect(connect=net.lane_connect), v1peer.TO_CLIENT)
    if a.bare:
        wire.send_raw(v1peer.frame(v1peer.HANDSHAKE, 0, v1peer.handshake_payload()))
        return wire, a.addr[1]
    return wire, v1peer.log_in(wire, a.token)


@attack
def v1_unread(a):
    """v1 clients that read nothing, and visitors who pour into them."""
    pours = []
    for _ in range(8):
        try:
            wire, port = v1_log_in(a)
        except REFUSED:
            break
        a.held.append(wire.sock)
        pours.append(Pour(a.visitors(64, port), bytes(64 * KIB)))
    a.settled(lambda: sum(pour.bytes for pour in pours) if not a.bare else 0)
    a.did = len(a.held)
    a.rest()


@attack
def v1_stuffed(a):
    """A v1 client that sends just less to each of many visitors than makes the lane wait, and they
    read nothing."""
    try:
        wire, port = v1_log_in(a)
    except REFUSED:
        a.rest()
    socks = a.visitors(a.count, port, rcvbuf=4096)
    wire.sock.settimeout(PATIENCE)
    piece = bytes(64 * KIB)
    try:
        for number in range(len(socks)):
            stream = 1 + number if a.bare else wire.expect(v1peer.STREAM_OPEN).stream
            for _ in range(3800 // 64):
                wire.send(v1peer.STREAM_DATA, stream, piece)
            a.did += 1
    except REFUSED:
        pass
    a.rest()


def parse_arguments():
    parser = argparse.ArgumentParser(description="One owner doing its worst.")
    parser.add_argument("attack", choices=sorted(ATTACKS))
    parser.add_argument("server", metavar="HOST:PORT")
    parser.add_argument("--token", default="dev-token")
    parser.add_argument("--from", dest="source", default="127.0.0.9", metavar="ADDR")
    parser.add_argument("--visit", metavar="HOST:PORT")
    parser.add_argument("--count", type=int, default=1 << 30)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--tls", metavar="DIR")
    parser.add_argument("--bare", action="store_true")
    return parser.parse_args()


def run(a, function):
    """Until standard input ends; an attack that has nothing more to do rests."""
    def work():
        try:
            function(a)
        except REFUSED as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        a.ready()
    threading.Thread(target=work, daemon=True).start()
    sys.stdin.read()
    print(f"did {a.did}", flush=True)
    os._exit(0)


def main():
    options = parse_arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.tls and not options.bare:
        net.LANES = tlspipe.Lanes(options.tls)
    run(Attacker(options), ATTACKS[options.attack])


if __name__ == "__main__":
    main()
