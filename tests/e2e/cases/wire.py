"""wire: frames that no good peer sends, and v1 peers of our own in both roles.

Invalid input is data: each row is a place in the conversation and the bytes that are sent there. Every row must end that session at
once (far before any time-out) and nothing else: a session beside it carries a stream all the while.
"""
import fcntl
import pathlib
import re
import socket
import struct
import termios
import time

import net
import v1peer
import v2wire
from harness import ROOT, Failure, case, check, check_equal

MIB = 1 << 20
AT_ONCE = 10.0  # seconds; the servers and clients here have time-outs of a minute
PATIENT = ["--handshake-timeout", "60s", "--heartbeat", "60s", "--expiry", "180s"]
V1_ONLY = {"v2": "a rule of v1"}
V2_ONLY = {"v1": "a rule of v2"}

# (what, after which step, bytes). Steps of v1: 0 connected, HANDSHAKE, BIND_OK.

V1_TO_SERVER = [
    ("first byte 0", 0, bytes(10)),
    ("first byte 3", 0, v1peer.frame(v1peer.HANDSHAKE, 0, v1peer.handshake_payload(), version=3)),
    ("HTTP", 0, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("TLS ClientHello", 0, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512)),
    ("type 0", 0, v1peer.frame(0)),
    ("Auth before Handshake", 0, v1peer.frame(v1peer.AUTH, 0, b"token")),
    ("Heartbeat before Handshake", 0, v1peer.frame(v1peer.HEARTBEAT)),
    ("StreamData before Handshake", 0, v1peer.frame(v1peer.STREAM_DATA, 1, b"x")),
    ("Handshake too short", 0, v1peer.frame(v1peer.HANDSHAKE, 0, b"\1" + bytes(9))),
    ("Handshake whose address is cut", 0, v1peer.frame(v1peer.HANDSHAKE, 0, v1peer.handshake_payload()[:-1])),
    ("Handshake with bytes behind it", 0, v1peer.frame(v1peer.HANDSHAKE, 0, v1peer.handshake_payload() + b"x")),
    ("Handshake on a stream", 0, v1peer.frame(v1peer.HANDSHAKE, 1, v1peer.handshake_payload())),
    ("Handshake of 17 MiB", 0, v1peer.frame(v1peer.HANDSHAKE, 0, length=17 * MIB)),
    ("HandshakeAck to a server", 0, v1peer.frame(v1peer.HANDSHAKE_ACK)),
    ("Handshake twice", v1peer.HANDSHAKE, v1peer.frame(v1peer.HANDSHAKE, 0, v1peer.handshake_payload())),
    ("StreamData before Auth", v1peer.HANDSHAKE, v1peer.frame(v1peer.STREAM_DATA, 1, b"x")),
    ("empty Auth", v1peer.HANDSHAKE, v1peer.frame(v1peer.AUTH)),
    ("AuthOK to a server", v1peer.HANDSHAKE, v1peer.frame(v1peer.AUTH_OK)),
    ("Handshake in a session", v1peer.BIND_OK, v1peer.frame(v1peer.HANDSHAKE, 0, v1peer.handshake_payload())),
    ("Auth in a session", v1peer.BIND_OK, v1peer.frame(v1peer.AUTH, 0, b"token")),
    ("BindOK to a server", v1peer.BIND_OK, v1peer.frame(v1peer.BIND_OK, 0, b"\x30\x39")),
    ("StreamOpen to a server", v1peer.BIND_OK, v1peer.frame(v1peer.STREAM_OPEN, 1)),
    ("type 12", v1peer.BIND_OK, v1peer.frame(12)),
    ("type 255", v1peer.BIND_OK, v1peer.frame(255, 1, b"x")),
    ("version 2 in a v1 session", v1peer.BIND_OK, v1peer.frame(v1peer.HEARTBEAT, version=2)),
    ("Heartbeat with payload", v1peer.BIND_OK, v1peer.frame(v1peer.HEARTBEAT, 0, b"x")),
    ("Heartbeat on a stream", v1peer.BIND_OK, v1peer.frame(v1peer.HEARTBEAT, 1)),
    ("StreamClose with payload", v1peer.BIND_OK, v1peer.frame(v1peer.STREAM_CLOSE, 1, b"x")),
    ("StreamClose on stream 0", v1peer.BIND_OK, v1peer.frame(v1peer.STREAM_CLOSE, 0)),
    ("StreamData on stream 0", v1peer.BIND_OK, v1peer.frame(v1peer.STREAM_DATA, 0, b"x")),
    ("StreamData of 16 MiB + 1", v1peer.BIND_OK, v1peer.frame(v1peer.STREAM_DATA, 1, length=16 * MIB + 1)),
    ("StreamData of 4 GiB - 1", v1peer.BIND_OK, v1peer.frame(v1peer.STREAM_DATA, 1, length=2**32 - 1)),
]

V2_TO_SERVER = [
    ("type 0", 0, v2wire.frame(0)),
    ("AUTH before HELLO", 0, v2wire.frame(v2wire.AUTH, 0, v2wire.auth())),
    ("BIND before HELLO", 0, v2wire.frame(v2wire.BIND, 0, v2wire.bind())),
    ("PING before HELLO", 0, v2wire.frame(v2wire.PING, 0, v2wire.ping())),
    ("HELLO too short", 0, v2wire.frame(v2wire.HELLO, 0, v2wire.hello()[:17])),
    ("HELLO too long", 0, v2wire.frame(v2wire.HELLO, 0, length=4097)),
    ("HELLO of 4 GiB - 1", 0, v2wire.frame(v2wire.HELLO, 0, length=2**32 - 1)),
    ("HELLO on a stream", 0, v2wire.frame(v2wire.HELLO, 5, v2wire.hello())),
    ("HELLO whose agent is cut", 0, v2wire.frame(v2wire.HELLO, 0, v2wire.hello(agent=b"agent")[:20])),
    ("HELLO whose nonce is cut", 0, v2wire.frame(v2wire.HELLO, 0, v2wire.hello()[:-1])),
    ("HELLO without a nonce", 0, v2wire.frame(v2wire.HELLO, 0, v2wire.old_hello())),
    ("HELLO_OK to a server", 0, v2wire.frame(v2wire.HELLO_OK, 0, v2wire.hello_ok())),
    ("JOIN before HELLO", 0, v2wire.frame(v2wire.JOIN, 0, v2wire.join())),
    ("JOIN of an unknown session", v2wire.HELLO, v2wire.frame(v2wire.JOIN, 0, v2wire.join(session=99))),
    ("JOIN without a right proof", v2wire.HELLO, v2wire.frame(v2wire.JOIN, 0, v2wire.join())),
    ("JOIN too short", v2wire.HELLO, v2wire.frame(v2wire.JOIN, 0, v2wire.join()[:52])),
    ("JOIN and more", v2wire.HELLO, v2wire.frame(v2wire.JOIN, 0, v2wire.join()) + v2wire.frame(v2wire.PING, 0, v2wire.ping())),
    ("HELLO twice", v2wire.HELLO, v2wire.frame(v2wire.HELLO, 0, v2wire.hello())),
    ("BIND before AUTH", v2wire.HELLO, v2wire.frame(v2wire.BIND, 0, v2wire.bind())),
    ("DATA before AUTH", v2wire.HELLO, v2wire.frame(v2wire.DATA, 1, b"x")),
    ("empty AUTH", v2wire.HELLO, v2wire.frame(v2wire.AUTH)),
    ("AUTH too short", v2wire.HELLO, v2wire.frame(v2wire.AUTH, 0, v2wire.auth()[:48])),
    ("AUTH without a right proof", v2wire.HELLO, v2wire.frame(v2wire.AUTH, 0, v2wire.auth())),
    ("AUTH twice", v2wire.AUTH, v2wire.frame(v2wire.AUTH, 0, v2wire.auth())),
    ("JOIN behind AUTH", v2wire.AUTH, v2wire.frame(v2wire.JOIN, 0, v2wire.join())),
    ("DATA before BIND", v2wire.AUTH, v2wire.frame(v2wire.DATA, 1, b"x")),
    ("BIND too short", v2wire.AUTH, v2wire.frame(v2wire.BIND, 0, v2wire.bind()[:11])),
    ("BIND with a ticket of 97 bytes", v2wire.AUTH, v2wire.frame(v2wire.BIND, 0, v2wire.bind() + v2wire.text(bytes(97)))),
    ("BIND whose name is cut", v2wire.AUTH, v2wire.frame(v2wire.BIND, 0, struct.pack(">HHIHH", 0, 0, 0, 900, 0))),
    ("HELLO in a session", v2wire.BIND, v2wire.frame(v2wire.HELLO, 0, v2wire.hello())),
    ("AUTH in a session", v2wire.BIND, v2wire.frame(v2wire.AUTH, 0, v2wire.auth())),
    ("AUTH_OK to a server", v2wire.BIND, v2wire.frame(v2wire.AUTH_OK, 0, v2wire.auth_ok())),
    ("BIND_OK to a server", v2wire.BIND, v2wire.frame(v2wire.BIND_OK, 0, v2wire.bind_ok())),
    ("OPEN to a server", v2wire.BIND, v2wire.frame(v2wire.OPEN, 1, v2wire.opening())),
    ("type 14", v2wire.BIND, v2wire.frame(14)),
    ("type 20", v2wire.BIND, v2wire.frame(20, 1)),
    ("type 255", v2wire.BIND, v2wire.frame(255, 1)),
    ("version 1 in a v2 session", v2wire.BIND, v1peer.frame(v1peer.HEARTBEAT)),
    ("version 3 in a v2 session", v2wire.BIND, v2wire.frame(v2wire.PING, 0, v2wire.ping(), version=3)),
    ("PING too short", v2wire.BIND, v2wire.frame(v2wire.PING, 0, v2wire.ping()[:15])),
    ("PING on a stream", v2wire.BIND, v2wire.frame(v2wire.PING, 1, v2wire.ping())),
    ("DATA on stream 0", v2wire.BIND, v2wire.frame(v2wire.DATA, 0, b"x")),
    ("DATA of 16 MiB + 1", v2wire.BIND, v2wire.frame(v2wire.DATA, 1, length=16 * MIB + 1)),
    ("WINDOW too short", v2wire.BIND, v2wire.frame(v2wire.WINDOW, 1, b"\0\0\1")),
    ("WINDOW too long", v2wire.BIND, v2wire.frame(v2wire.WINDOW, 1, b"\0\0\0\0\1")),
    ("WINDOW of 0", v2wire.BIND, v2wire.frame(v2wire.WINDOW, 1, bytes(4))),
    ("RESET too short", v2wire.BIND, v2wire.frame(v2wire.RESET, 1, b"\0")),
    ("RESET on stream 0", v2wire.BIND, v2wire.frame(v2wire.RESET, 0, b"\0\1")),
    ("GOAWAY too short", v2wire.BIND, v2wire.frame(v2wire.GOAWAY, 0, b"\0\1\0")),
]

V1_TO_CLIENT = [
    ("HandshakeAck with payload", 0, v1peer.frame(v1peer.HANDSHAKE_ACK, 0, b"x")),
    ("AuthOK before HandshakeAck", 0, v1peer.frame(v1peer.AUTH_OK)),
    ("version 3", 0, v1peer.frame(v1peer.HANDSHAKE_ACK, version=3)),
    ("BindOK before AuthOK", v1peer.AUTH, v1peer.frame(v1peer.BIND_OK, 0, b"\x30\x39")),
    ("StreamOpen before AuthOK", v1peer.AUTH, v1peer.frame(v1peer.STREAM_OPEN, 1)),
    ("BindOK of port 0", v1peer.AUTH_OK, v1peer.frame(v1peer.BIND_OK, 0, b"\0\0")),
    ("BindOK of 3 bytes", v1peer.AUTH_OK, v1peer.frame(v1peer.BIND_OK, 0, b"\x30\x39\0")),
    ("Handshake to a client", v1peer.BIND_OK, v1peer.frame(v1peer.HANDSHAKE, 0, v1peer.handshake_payload())),
    ("AuthOK twice", v1peer.BIND_OK, v1peer.frame(v1peer.AUTH_OK)),
    ("StreamOpen with payload", v1peer.BIND_OK, v1peer.frame(v1peer.STREAM_OPEN, 1, b"x")),
    ("StreamOpen of stream 0", v1peer.BIND_OK, v1peer.frame(v1peer.STREAM_OPEN, 0)),
    ("type 99", v1peer.BIND_OK, v1peer.frame(99)),
    ("StreamData of 16 MiB + 1", v1peer.BIND_OK, v1peer.frame(v1peer.STREAM_DATA, 1, length=16 * MIB + 1)),
]

V2_TO_CLIENT = [
    ("HELLO_OK too short", 0, v2wire.frame(v2wire.HELLO_OK, 0, v2wire.hello_ok()[:27])),
    ("HELLO_OK of another revision", 0, v2wire.frame(v2wire.HELLO_OK, 0, v2wire.hello_ok(revision=3))),
    ("HELLO_OK without a nonce", 0, v2wire.frame(v2wire.HELLO_OK, 0, v2wire.old_hello_ok())),
    ("HELLO_OK whose nonce is cut", 0, v2wire.frame(v2wire.HELLO_OK, 0, v2wire.hello_ok()[:-1])),
    ("AUTH_OK before HELLO_OK", 0, v2wire.frame(v2wire.AUTH_OK, 0, v2wire.auth_ok())),
    ("AUTH_OK too short", v2wire.HELLO, v2wire.frame(v2wire.AUTH_OK, 0, v2wire.auth_ok()[:59])),
    ("AUTH_OK without a right proof", v2wire.HELLO, v2wire.frame(v2wire.AUTH_OK, 0, v2wire.auth_ok())),
    ("OPEN before AUTH_OK", v2wire.HELLO, v2wire.frame(v2wire.OPEN, 1, v2wire.opening())),
    ("BIND_OK of port 0", v2wire.AUTH, v2wire.frame(v2wire.BIND_OK, 0, v2wire.bind_ok(port=0))),
    ("BIND_OK of tunnel 1 of 1", v2wire.AUTH, v2wire.frame(v2wire.BIND_OK, 0, v2wire.bind_ok(tunnel=1))),
    ("BIND_OK with a ticket of 97 bytes", v2wire.AUTH, v2wire.frame(v2wire.BIND_OK, 0, v2wire.bind_ok() + v2wire.text(bytes(97)))),
    ("BIND_OK twice", v2wire.BIND, v2wire.frame(v2wire.BIND_OK, 0, v2wire.bind_ok())),
    ("BIND_ERR behind BIND_OK", v2wire.BIND, v2wire.frame(v2wire.BIND_ERR, 0, v2wire.bind_err())),
    ("BIND_ERR of tunnel 1 of 1", v2wire.AUTH, v2wire.frame(v2wire.BIND_ERR, 0, v2wire.bind_err(tunnel=1))),
    ("HELLO to a client", v2wire.BIND, v2wire.frame(v2wire.HELLO, 0, v2wire.hello())),
    ("BIND to a client", v2wire.BIND, v2wire.frame(v2wire.BIND, 0, v2wire.bind())),
    ("AUTH_OK twice", v2wire.BIND, v2wire.frame(v2wire.AUTH_OK, 0, v2wire.auth_ok())),
    ("OPEN too short", v2wire.BIND, v2wire.frame(v2wire.OPEN, 1, v2wire.opening()[:3])),
    ("OPEN of stream 0", v2wire.BIND, v2wire.frame(v2wire.OPEN, 0, v2wire.opening())),
    ("OPEN of slot 1024 of 1024", v2wire.BIND, v2wire.frame(v2wire.OPEN, 1 << 20 | 1024, v2wire.opening())),
    ("OPEN of the last slot that an id can name", v2wire.BIND, v2wire.frame(v2wire.OPEN, 2**32 - 1, v2wire.opening())),
    ("OPEN with an address of no family", v2wire.BIND, v2wire.frame(v2wire.OPEN, 1, b"\0\0\5\5")),
    ("type 15", v2wire.BIND, v2wire.frame(15)),
    ("WINDOW of 0", v2wire.BIND, v2wire.frame(v2wire.WINDOW, 1, bytes(4))),
    ("DATA of 16 MiB + 1", v2wire.BIND, v2wire.frame(v2wire.DATA, 1, length=16 * MIB + 1)),
]


def ends_at_once(t, sock, what):
    try:
        seen = net.end_of(sock, timeout=AT_ONCE * t.factor)
    except OSError as error:
        raise Failure(f"{what}: {error}") from error
    check(seen in ("eof", "reset"), f"{what}: the session was not closed")


def enter_v1(server, token, step):
    """A v1 connection to a server, brought to the step; returns (wire, public port or None)."""
    wire = v1peer.client_wire(server.addr)
    if step == 0:
        return wire, None
    if step == v1peer.BIND_OK:
        return wire, v1peer.log_in(wire, token)
    wire.send(v1peer.HANDSHAKE, 0, v1peer.handshake_payload())
    wire.expect(v1peer.HANDSHAKE_ACK)
    return wire, None


def enter_v2(server, token, step):
    wire = v2wire.client_wire(server.addr)
    if step == 0:
        return wire, None
    ports = v2wire.log_in(wire, token, upto=step)
    return wire, ports[0] if ports else None


@case(deadline=240)
def invalid_frames_to_server(t):
    """Each ends its own session at once; the session beside it keeps its stream, and a visitor of the ended one is dropped."""
    server = t.server(*PATIENT)
    steady = net.connect(t.client(server, t.origin(net.echo), *PATIENT).addr)
    table, enter = (V1_TO_SERVER, enter_v1) if t.mode.v1 else (V2_TO_SERVER, enter_v2)
    for what, step, data in table:
        wire, port = enter(server, t.token.encode(), step)
        visitor = net.connect((server.host, port)) if port else None
        wire.send_raw(data)
        ends_at_once(t, wire.sock, what)
        if port:
            ends_at_once(t, visitor, f"{what}: visitor")
            t.until(lambda: net.connect_refused((server.host, port)), f"{what}: port {port} to be closed")
        wire.close()
        steady.sendall(what.encode())
        check_equal(net.recv_exact(steady, len(what)), what.encode(), "the stream beside it")
    t.note = f"{len(table)} inputs"


def v1_server_script(listener, token, step):
    """Answers culvert's client as a v1 server up to the step."""
    sock, _ = listener.accept()
    sock.settimeout(net.TIMEOUT)
    wire = v1peer.Wire(net.lane_accepted(sock), v1peer.TO_SERVER)
    wire.expect(v1peer.HANDSHAKE)
    if step:
        wire.send(v1peer.HANDSHAKE_ACK)
        check_equal(wire.expect(v1peer.AUTH).payload, token, "token")
    if step in (v1peer.AUTH_OK, v1peer.BIND_OK):
        wire.send(v1peer.AUTH_OK)
    if step == v1peer.BIND_OK:
        wire.send(v1peer.BIND_OK, 0, struct.pack(">H", 12345))
    return wire


@case(deadline=240)
def invalid_frames_to_client(t):
    """Each ends the session at once, and the client dials again: an attempt that succeeded makes the count start anew."""
    if t.mode.v1:
        listener = net.listen()
        listener.settimeout(net.TIMEOUT)
        addr, table = listener.getsockname()[:2], V1_TO_CLIENT

        def accept(step):
            return v1_server_script(listener, t.token.encode(), step)
    else:
        listener = t.keep(v2wire.Server(t.token))
        addr, table = listener.addr, V2_TO_CLIENT

        def accept(step):
            return listener.accept(upto=step)
    origin = t.origin(net.echo)
    client = t.client(addr, origin, *PATIENT, "--reconnect-attempts", "20", wait=False)
    for what, step, data in table:
        wire = accept(step)
        wire.send_raw(data)
        ends_at_once(t, wire.sock, what)
        wire.close()
    check(client.running(), "the client ended")
    accept(v1peer.BIND_OK if t.mode.v1 else v2wire.BIND)
    t.note = f"{len(table)} inputs"


@case()
def half_sent_frames(t):
    """A peer that stops in the middle of a frame, or goes away there, hurts only itself."""
    quick = ["--heartbeat", "250ms", "--expiry", "2500ms"]
    server = t.server("--handshake-timeout", "1s", *quick)
    steady = net.connect(t.client(server, t.origin(net.echo), *quick).addr)
    enter, kit, last = (enter_v1, v1peer, v1peer.BIND_OK) if t.mode.v1 else (enter_v2, v2wire, v2wire.BIND)
    first = kit.frame(1, 0, v1peer.handshake_payload() if t.mode.v1 else v2wire.hello())
    data = kit.frame(v1peer.STREAM_DATA if t.mode.v1 else v2wire.DATA, 1, bytes(5000))
    silent = []
    for step, whole in ((0, first), (last, data)):
        for cut in (1, 2, 9, 11, len(whole) - 1):
            stays, _ = enter(server, t.token.encode(), step)
            leaves, _ = enter(server, t.token.encode(), step)
            if t.mode.v1 and step:
                stays.send(v1peer.HEARTBEAT)  # only of a v1 client that sends them does our server expect any
            stays.send_raw(whole[:cut])
            leaves.send_raw(whole[:cut])
            leaves.close()
            silent.append((stays, f"{cut} bytes of a frame, then silence"))
    for stays, what in silent:
        ends_at_once(t, stays.sock, what)
        stays.close()
        steady.sendall(b"steady")
        check_equal(net.recv_exact(steady, 6), b"steady", "the stream beside it")


@case()
def frames_byte_by_byte(t):
    """A peer whose every byte comes alone is a slow peer, not a bad one."""
    server = t.server()
    kit = v1peer if t.mode.v1 else v2wire
    wire = kit.client_wire(server.addr)
    wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    whole_send = wire.sock.sendall

    def drip(data):
        for byte in data:
            whole_send(bytes([byte]))
    wire.send_raw = drip
    wire.send = lambda kind, stream=0, payload=b"": drip(kit.frame(kind, stream, payload))
    port = kit.log_in(wire, t.token.encode())
    visitor = net.connect((server.host, port if t.mode.v1 else port[0]))
    visitor.sendall(b"a visitor's bytes")
    opened = wire.expect(kit.STREAM_OPEN if t.mode.v1 else kit.OPEN)
    stream = opened.stream if t.mode.v1 else opened[1]
    wire.send(kit.STREAM_DATA if t.mode.v1 else kit.DATA, stream, b"an answer in single bytes")
    check_equal(net.recv_exact(visitor, 25), b"an answer in single bytes", "answer")
    wire.close()


@case(not_in=V2_ONLY)
def beyond_the_window(t):
    """A client that sends more than it was granted is cut off: FLOW_CONTROL."""
    server = t.server(*PATIENT)
    wire, port = enter_v2(server, t.token.encode(), v2wire.BIND)
    visitor = net.connect((server.host, port), rcvbuf=4096)
    _, stream, _ = wire.expect(v2wire.OPEN)
    try:
        for _ in range(64):  # 64 MiB; nobody reads at the visitor, so no credit comes back
            wire.send(v2wire.DATA, stream, bytes(MIB))
    except OSError:
        pass
    ends_at_once(t, wire.sock, "more than the window")
    server.expect("more than its window", stream="err")
    visitor.close()


ESTABLISHED, CLOSE_WAIT, LAST_ACK = 1, 8, 9


def unsent(sock):
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]


def tcp_state(local, peer):
    """The state of a connection of this machine as its end `local` (ports) sees it, and how much it has not read (FIN counts)."""
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = [int(field.rpartition(":")[2], 16) for field in fields[1:3]]
        if ports == [local, peer]:
            return int(fields[3], 16), int(fields[4].rpartition(":")[2], 16)
    return 0, 0


def lose_behind_both_fins(t, server):
    """True if the lane was lost before it had taken the visitor's last bytes; either way the visitor must have the whole answer."""
    wire, port = enter_v2(server, t.token.encode(), v2wire.BIND)
    visitor = net.connect((server.host, port), rcvbuf=4096)
    visitor.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    ports = (port, visitor.getsockname()[1])
    _, stream, _ = wire.expect(v2wire.OPEN)
    wire.send(v2wire.WINDOW, stream, struct.pack(">I", 256 * MIB))
    visitor.settimeout(0.5)
    try:  # until the lane, which nobody reads, takes no more
        while True:
            visitor.sendall(bytes(65536))
    except TimeoutError:
        visitor.settimeout(net.TIMEOUT)

    def read_until(condition):  # just so much: what is left of the upload waits in the lane and in front of it
        while not condition():
            net.recv_exact(wire.sock, 32768)
            time.sleep(0.005)
    read_until(lambda: unsent(visitor) == 0 and tcp_state(*ports) == (ESTABLISHED, 0))
    visitor.shutdown(socket.SHUT_WR)  # FIN comes by itself, and is read by itself
    read_until(lambda: tcp_state(*ports) == (CLOSE_WAIT, 0))
    answer = net.Pattern("answer").block(0)[:60000]
    wire.send(v2wire.DATA, stream, answer, v2wire.FIN)
    t.until(lambda: tcp_state(*ports)[0] == LAST_ACK, "LAST_ACK")
    net.rst(wire.sock)
    ended = server.expect(rf"visitor 127.0.0.1:{ports[1]}\): ends: (.*),", stream="err")[0].group(1)
    check(net.recv_exact(visitor, len(answer)) == answer, "wrong bytes")
    check_equal(net.end_of(visitor), "eof", f"end of the stream, which for the server ends thus: {ended}")
    return ended.startswith("the session ended")


@case(not_in={**V2_ONLY, "tls": "the same in records"})
def lane_lost_behind_both_fins(t):
    """A visitor that has said FIN, and was told FIN: what becomes of its lane destroys nothing of the answer. (RST there would drop
    what the visitor has not taken yet, or say nothing at all.)"""
    server = t.server(*PATIENT)
    for number in range(1, 31):
        if lose_behind_both_fins(t, server):
            t.note = f"the {number}. time"
            return
    raise Failure("the lane was never lost in time")


# The kits of these cases against the document

DEV = v2wire.Keys(b"dev-token")
SAID = v2wire.hello(0, MIB, 256 * 1024, b"culvert 0.1.0", client=b"", nonce=bytes(range(32)), workers=2)
ANSWERED = v2wire.hello_ok(nonce=bytes(range(32, 64)))
CHANNEL = v2wire.Channel(SAID, ANSWERED)
SESSION = 0x1122334455667788
SECRET = CHANNEL.secret(DEV)

DOCUMENTED = {
    "hello": v2wire.frame(v2wire.HELLO, 0, SAID),
    "hello-ok": v2wire.frame(v2wire.HELLO_OK, 0, ANSWERED),
    "auth": v2wire.frame(v2wire.AUTH, 0, v2wire.auth(DEV, CHANNEL)),
    "auth-ok": v2wire.frame(v2wire.AUTH_OK, 0, v2wire.auth_ok(CHANNEL.server_proof(DEV), 2, MIB, 256 * 1024, 32768, SESSION,
                                                              b"culvert 0.1.0")),
    "join": v2wire.frame(v2wire.JOIN, 0, v2wire.join(SESSION, 1, proof=CHANNEL.join_proof(SECRET, SESSION, 1))),
    "join-ok": v2wire.frame(v2wire.JOIN_OK, 0, v2wire.join_ok(1, 0, CHANNEL.join_ok_proof(SECRET, SESSION, 1))),
    "bind": v2wire.frame(v2wire.BIND, 0, v2wire.bind(0, 10000, 0, b"web", b"localhost:3000")),
    "bind-ok": v2wire.frame(v2wire.BIND_OK, 0, v2wire.bind_ok(0, 10000, b"tunnel.example")),
    "ping": v2wire.frame(v2wire.PING, 0, v2wire.ping(1000000000, 65536)),
    "data-fin": v2wire.frame(v2wire.DATA, 0x00100005, b"bye", v2wire.FIN),
    "window": v2wire.frame(v2wire.WINDOW, 0x00100005, struct.pack(">I", 512 * 1024)),
    "reset": v2wire.frame(v2wire.RESET, 0x00100005, struct.pack(">H", 2)),
    "v1-handshake": v1peer.frame(v1peer.HANDSHAKE, 0, v1peer.handshake_payload(b"localhost:3000")),
    "v1-auth": v1peer.frame(v1peer.AUTH, 0, b"dev-token"),
    "v1-bind-ok": v1peer.frame(v1peer.BIND_OK, 0, b"\x27\x10"),
    "v1-stream-open": v1peer.frame(v1peer.STREAM_OPEN, 1),
    "v1-stream-data": v1peer.frame(v1peer.STREAM_DATA, 1, b"hello"),
    "v1-stream-close": v1peer.frame(v1peer.STREAM_CLOSE, 1),
    "v1-heartbeat": v1peer.frame(v1peer.HEARTBEAT),
}


@case(direct=True, not_in={"v1": "no tunnel is needed", "v2-2w": "no tunnel is needed"})
def kits_match_document(t):
    """The frames that these cases build are those of docs/PROTOCOL.md, byte for byte."""
    text = (ROOT / "docs/PROTOCOL.md").read_text()
    for name, built in DOCUMENTED.items():
        dump = re.search(rf"```frame {name}\n(.*?)```", text, re.S)
        check(dump, f"docs/PROTOCOL.md has no frame {name}")
        lines = [line.split("#")[0] for line in dump.group(1).splitlines()]
        check_equal(built.hex(" "), bytes.fromhex(" ".join(lines)).hex(" "), name)


# v2, frame by frame

@case(not_in=V2_ONLY)
def data_before_its_open(t):
    """A client guesses the id of the next visitor's stream, and begins DATA for it before it is opened:
    what comes of it afterwards is for nobody."""
    server = t.server(workers=1)
    wire = v2wire.client_wire(server.addr)
    addr = (server.host, v2wire.log_in(wire, t.token.encode())[0])
    first = net.connect(addr)
    stream = wire.expect(v2wire.OPEN)[1] + 1
    ports = (server.addr[1], wire.sock.getsockname()[1])
    wire.send_raw(v2wire.frame(v2wire.DATA, stream, length=20000) + bytes(10000))
    t.until(lambda: unsent(wire.sock) == 0 and tcp_state(*ports)[1] == 0, "the server to read it")
    v2wire.greet(v2wire.client_wire(server.addr))  # and its worker has had a turn since
    second = net.connect(addr)
    check_equal(wire.expect(v2wire.OPEN)[1], stream, "the id that was guessed")
    wire.send_raw(bytes(10000))
    wire.send(v2wire.DATA, stream, b"hello", v2wire.FIN)
    got = net.recv_all(second)
    check(got == b"hello", f"the second visitor received {len(got)} bytes, {got[-8:]} at the end")
    net.rst(second)
    wire.expect(v2wire.RESET)
    net.rst(first)


@case(not_in=V2_ONLY)
def v2_ping(t):
    """Each PING is answered at once, with its own time, in a session and beside one that is silent otherwise."""
    server = t.server(*PATIENT)
    wire, _ = enter_v2(server, t.token.encode(), v2wire.BIND)
    for number in (0, 1, 2**64 - 1):
        wire.send(v2wire.PING, 0, v2wire.ping(number) + b"later fields are ignored")
        _, _, answer = wire.expect(v2wire.PONG)
        time_back, counted = struct.unpack_from(">QQ", answer)
        check_equal(time_back, number, "time in PONG")
        check(counted > 0, "PONG says that nothing was received")
    wire.close()


@case(not_in=V2_ONLY)
def v2_binds(t):
    """Every BIND has one answer; a refused one leaves the session and its other tunnels as they are."""
    server = t.server(*PATIENT)
    wire, port = enter_v2(server, t.token.encode(), v2wire.BIND)
    wanted = server.start_port + 10

    def bind(tunnel, want):
        wire.send(v2wire.BIND, 0, v2wire.bind(tunnel, want))
        while True:
            got = wire.recv()
            check(got is not None, "the session was closed")
            if got[0] in (v2wire.BIND_OK, v2wire.BIND_ERR):
                return got[0], *struct.unpack_from(">HH", got[3])
    check_equal(bind(1, wanted), (v2wire.BIND_OK, 1, wanted), "a free port")
    check_equal(bind(2, wanted), (v2wire.BIND_ERR, 2, 49), "a busy port: PORT_BUSY")
    check_equal(bind(1, 0), (v2wire.BIND_ERR, 1, 34), "an index in use: BAD_STATE")
    for tunnel in range(2, 16):
        check_equal(bind(tunnel, 0)[:2], (v2wire.BIND_OK, tunnel), "a further tunnel")
    check_equal(bind(16, 0), (v2wire.BIND_ERR, 16, 52), "a 17th tunnel: LIMIT_TUNNELS")
    for number in (port, wanted):
        visitor = net.connect((server.host, number))
        _, stream, payload = wire.expect(v2wire.OPEN)
        check_equal(struct.unpack_from(">H", payload)[0], 0 if number == port else 1, "tunnel in OPEN")
        check_equal(payload[2:7], b"\4\x7f\0\0\1", "the visitor's address in OPEN")
        check_equal(struct.unpack_from(">H", payload, 7)[0], visitor.getsockname()[1], "the visitor's port in OPEN")
        wire.send(v2wire.RESET, stream, struct.pack(">H", 2))
        check_equal(net.end_of(visitor), "reset", "end of a visitor whose stream was reset")
    wire.close()


@case(not_in=V2_ONLY)
def v2_reset_is_no_good_end(t):
    """RESET cuts a stream whatever its code says, and the visitor sees a cut: for those, too, that name a good end."""
    server = t.server(*PATIENT)
    wire, port = enter_v2(server, t.token.encode(), v2wire.BIND)
    for code in (0, 1, 13, 999):
        visitor = net.connect((server.host, port))
        _, stream, _ = wire.expect(v2wire.OPEN)
        wire.send(v2wire.DATA, stream, b"half an answer")
        check_equal(net.recv_exact(visitor, 14), b"half an answer", "data")
        wire.send(v2wire.RESET, stream, struct.pack(">H", code))
        check_equal(net.end_of(visitor), "reset", f"end after RESET with code {code}")
    wire.close()


@case(not_in=V2_ONLY)
def v2_violation_on_any_lane(t):
    """What no good server says ends the client's session, whichever lane it comes on."""
    server = t.keep(v2wire.Server(t.token))
    t.client(server.addr, t.origin(net.echo), *PATIENT, "--reconnect-attempts", "20", wait=False)
    for number in range(2):
        lanes = [server.accept(lanes=2), server.accept_lane()]
        check_equal(lanes[1].lane, 1, "the lane that joins")
        lanes[number].send_raw(v2wire.frame(15))
        for wire in lanes:
            ends_at_once(t, wire.sock, f"type 15 on lane {number}")


@case(not_in=V2_ONLY)
def v2_offers(t):
    """AUTH_OK grants what docs/PROTOCOL.md bounds; what lies outside ends the connection, with a right proof too."""
    server = t.keep(v2wire.Server(t.token))
    t.client(server.addr, t.origin(net.echo), *PATIENT, "--reconnect-attempts", "20", wait=False)
    for answers in (dict(lanes=0), dict(slots=(1 << 20) + 1), dict(window=1 << 31), dict(max_data=1023)):
        ends_at_once(t, server.accept(upto=v2wire.AUTH, **answers).sock, f"AUTH_OK with {answers}")
    server.accept(lanes=1, slots=1 << 20, window=(1 << 31) - 1, max_data=1024)


@case(not_in=V2_ONLY)
def v2_slots(t):
    """OPEN may name every slot that HELLO_OK has told of, on each lane, and no other: that ends the session, not only its lane."""
    server, origin = t.keep(v2wire.Server(t.token)), t.origin(net.hold)
    t.client(server.addr, origin, *PATIENT, "--reconnect-attempts", "20", wait=False)
    for number, slots in enumerate((1, 1024, 1 << 20)):
        lanes = [server.accept(lanes=2, slots=slots), server.accept_lane()]
        for wire in lanes:
            wire.send(v2wire.OPEN, 1 << 20 | slots - 1, v2wire.opening())
        origin.wait_seen(2 * number + 2)
        if slots < 1 << 20:
            lanes[1 - number].send(v2wire.OPEN, 1 << 20 | slots, v2wire.opening())
            for wire in lanes:
                ends_at_once(t, wire.sock, f"an OPEN beyond {slots} slots")


@case(not_in=V2_ONLY)
def v2_join_ok_counts(t):
    """JOIN_OK for a new lane that counts bytes, or names another lane, ends that connection; the client tries again."""
    server, origin = t.keep(v2wire.Server(t.token)), t.origin(net.hold)
    t.client(server.addr, origin, *PATIENT, wait=False)
    first = server.accept(lanes=2)
    for answer in (dict(count=1), dict(count=2**64 - 1), dict(lane=0), dict(lane=2)):
        ends_at_once(t, server.accept_lane(**answer).sock, f"JOIN_OK with {answer}")
    for number, wire in enumerate((first, server.accept_lane())):
        wire.send(v2wire.OPEN, 1 << 20, v2wire.opening())
        origin.wait_seen(number + 1)


@case(not_in=V2_ONLY)
def v2_lanes(t):
    """A lane joins with a proof; with a wrong one it does not. When a lane ends, its streams end and the session lives."""
    server = t.server(*PATIENT)
    wire = v2wire.client_wire(server.addr)
    port, = v2wire.log_in(wire, t.token.encode(), lanes=4)
    lanes, session = wire.lanes, wire.session
    check(1 <= lanes <= 4, f"{lanes} lanes offered, 4 wanted")

    def join(lane, secret, ident=session):
        other = v2wire.client_wire(server.addr)
        v2wire.greet(other)
        proof = other.channel.join_proof(secret, ident, lane)
        other.send(v2wire.JOIN, 0, v2wire.join(ident, lane, bound=other.channel.bound, proof=proof))
        return other, other.recv()
    wrong = bytes([wire.secret[0] ^ 1]) + wire.secret[1:]
    check_equal(wire.caps, 0 if t.mode.tls else v2wire.SPARE, "capabilities")  # records are not moved
    most = lanes if t.mode.tls else 2 * lanes
    for what, lane, key, ident, code in (("wrong secret", 1, wrong, session, 48), ("wrong session", 1, wire.secret, session ^ 1, 48),
                                         ("a lane too many", most, wire.secret, session, 44)):
        other, got = join(lane, key, ident)
        check(got is not None and got[0] == v2wire.GOAWAY, f"{what}: {got}")
        check_equal(struct.unpack_from(">H", got[3])[0], code, what)
        ends_at_once(t, other.sock, what)
    if most > lanes:
        other, got = join(most - 1, wire.secret)
        check(got is not None and got[0] == v2wire.JOIN_OK, f"a spare lane: {got}")
        other.close()
    if lanes > 1:
        other, got = join(1, wire.secret)
        check(got is not None and got[0] == v2wire.JOIN_OK, f"JOIN: {got}")
        check_equal(got[3], v2wire.join_ok(1, 0, other.channel.join_ok_proof(wire.secret, session, 1)), "JOIN_OK")
        other.close()
        t.until(lambda: re.search(r"lane 1 .*-> CLOSED", server.err), "the server to miss lane 1")
    visitor = net.connect((server.host, port))
    _, stream, _ = wire.expect(v2wire.OPEN)
    wire.send(v2wire.DATA, stream, b"alive")
    check_equal(net.recv_exact(visitor, 5), b"alive", "the session after a lane ended")
    wire.close()


# v1 peers of our own

def exercise(t, addr, streams=16, size=MIB):
    """Echoes on several streams at once through a tunnel."""
    def visit(index):
        sock = net.connect(addr)
        sending = net.Task(net.Pattern(f"v1 {index}").send, sock, size)
        got = net.Pattern(f"v1 {index}").recv(sock, size)
        check_equal(got, sending.join_result(), "checksum")
        sock.close()
    for task in [net.Task(visit, index) for index in range(streams)]:
        task.join_result()


@case(not_in=V1_ONLY)
def v1_client_at_our_server(t):
    server = t.server()
    for number in range(3):
        client = v1peer.V1Client(server.addr, t.origin(net.echo), t.token)
        exercise(t, (server.host, client.port))
        client.end()
        check_equal(client.violations, [], "violations of the server")
        t.until(lambda: net.connect_refused((server.host, client.port)), "the port to be closed")


@case(not_in=V1_ONLY)
def v1_server_for_our_client(t):
    peer = t.keep(v1peer.V1Server(t.token))
    t.client(peer, t.origin(net.echo))
    exercise(t, ("127.0.0.1", peer.wait_session().port))
    check_equal(peer.violations, [], "violations of the client")


@case(not_in=V1_ONLY)
def v1_frames_of_16_mib(t):
    """The longest frame the wire allows, from a v1 peer, in both directions, twice on a stream."""
    size = 16 * MIB
    body = net.Pattern("16 MiB").block(0) * 16
    # A v1 client sends it to our server's visitor.
    server = t.server()
    client = v1peer.V1Client(server.addr, t.origin(net.hold), t.token)
    visitor = net.connect((server.host, client.port))
    t.until(lambda: client.streams, "a stream at the v1 client")
    sending = net.Task(lambda: [client.wire.send(v1peer.STREAM_DATA, 1, body) for _ in range(2)])
    for _ in range(2):
        check(net.recv_exact(visitor, size) == body, "the visitor's bytes are wrong")
    sending.join_result()
    client.end()
    # A v1 server sends it to our client's origin.
    peer = t.keep(v1peer.V1Server(t.token))
    origin = t.origin(net.hold)
    t.client(peer, origin)
    session = peer.wait_session()
    visitor = net.connect(("127.0.0.1", session.port))
    at_origin = origin.wait_seen(1)
    sending = net.Task(lambda: [session.wire.send(v1peer.STREAM_DATA, 1, body) for _ in range(2)])
    for _ in range(2):
        check(net.recv_exact(at_origin, size) == body, "the origin's bytes are wrong")
    sending.join_result()
    visitor.close()


@case(not_in=V1_ONLY)
def v1_visitor_eof(t):
    """A visitor's end is not told to a v1 client at once: it would end the answer too. With --long: after 30 s of quiet it is."""
    server = t.server()
    wire = v1peer.client_wire(server.addr)
    port = v1peer.log_in(wire, t.token.encode())
    visitor = net.connect((server.host, port))
    visitor.sendall(b"request")
    visitor.shutdown(socket.SHUT_WR)
    stream = wire.expect(v1peer.STREAM_OPEN).stream
    check_equal(wire.expect(v1peer.STREAM_DATA).payload, b"request", "request")
    wire.sock.settimeout(1.5)
    try:
        raise Failure(f"a frame after the visitor's end: {wire.recv()}")
    except TimeoutError:
        wire.sock.settimeout(net.TIMEOUT)
    wire.send(v1peer.STREAM_DATA, stream, b"answer")
    check_equal(net.recv_exact(visitor, 6), b"answer", "answer")
    if t.long:
        started = time.monotonic()
        check_equal(wire.expect(v1peer.STREAM_CLOSE).stream, stream, "stream closed")
        check(time.monotonic() - started > 25, "the server closed the stream too early")
    else:
        wire.send(v1peer.STREAM_CLOSE, stream)
    check_equal(net.end_of(visitor), "eof", "end at the visitor")
    wire.close()


@case(not_in=V1_ONLY)
def v1_origin_eof(t):
    """The origin's end is told to a v1 server after 250 ms without data the other way, and not before."""
    peer = t.keep(v1peer.V1Server(t.token))
    origin = t.origin(net.hold)
    t.client(peer, origin)
    port = peer.wait_session().port

    def busy(visitor, at_origin):
        """0.8 s in which data keeps coming the other way. When the last was sent; None where this machine was too slow for it."""
        sent = time.monotonic()
        for _ in range(8):
            before, sent = sent, time.monotonic()
            if sent - before > 0.2:
                return None
            try:
                visitor.sendall(b"more")
                check_equal(net.recv_exact(at_origin, 4), b"more", "data after the origin's end")
            except (net.NetError, OSError):
                if time.monotonic() - before > 0.2:
                    return None
                raise
            time.sleep(0.1)
        return sent if time.monotonic() - sent < 0.2 else None
    for attempt in range(1, 11):
        visitor = net.connect(("127.0.0.1", port))
        at_origin = origin.wait_seen(attempt)
        at_origin.sendall(b"all")
        at_origin.shutdown(socket.SHUT_WR)
        last = busy(visitor, at_origin)
        if last is not None:
            break
    check(last is not None, "no 0.8 s without a pause of 200 ms in ten attempts")
    check_equal(net.recv_all(visitor), b"all", "what the visitor got")
    check(time.monotonic() - last >= 0.24, "closed before 250 ms of quiet")


@case(not_in=V1_ONLY)
def v1_stalled_reader(t):
    """A reader that takes nothing for 5 s while 4 MiB wait is closed with RST, and the streams beside it go on."""
    def handler(sock):
        if net.recv_exact(sock, 1) == b"F":
            net.flood(sock)
        else:
            net.echo(sock)
    addr = t.tunnel(t.origin(handler))
    steady, stalled = net.connect(addr), net.connect(addr, rcvbuf=4096)
    steady.sendall(b"E")
    stalled.sendall(b"F")
    t.tunnel_server.expect("no progress", stream="err")
    steady.sendall(b"steady")
    check_equal(net.recv_exact(steady, 6), b"steady", "the stream beside it")
    check_equal(net.end_of(stalled), "reset", "end at the stalled reader")


@case(not_in=V1_ONLY, waits=True)
def v1_slow_but_steady_reader(t):
    """A reader that always takes something, however little, while 4 MiB wait is no stalled one: it gets all."""
    total, pattern = 24 * MIB, net.Pattern("steady")
    addr = t.tunnel(t.origin(lambda sock: pattern.send(sock, total)))
    sock = net.connect(addr, rcvbuf=16384)
    data = bytearray()
    for _ in range(130):  # 100 KB/s for 13 s, more than twice what a stalled one has
        data += net.recv_exact(sock, 10000)
        time.sleep(0.1)
    data += net.recv_exact(sock, total - len(data))
    check(all(data[i * MIB:(i + 1) * MIB] == pattern.block(i)[:MIB] for i in range(24)), "wrong bytes")
    check_equal(net.end_of(sock), "eof", "end")


@case(not_in=V1_ONLY)
def v1_peer_ignores_close(t):
    """A v1 client that keeps its side open after StreamClose: late frames are dropped, the session lives."""
    server = t.server()
    origin = t.origin(net.hold)
    client = v1peer.V1Client(server.addr, origin, t.token, v1peer.Knobs(ignore_close=True))
    visitor = net.connect((server.host, client.port))
    visitor.sendall(b"x")
    at_origin = origin.wait_seen(1)
    net.rst(visitor)
    for _ in range(50):
        at_origin.sendall(bytes(10000))
    other = net.connect((server.host, client.port))
    other.sendall(b"y")
    check_equal(net.recv_exact(origin.wait_seen(2), 1), b"y", "a new stream")
    client.end()


@case()
def fallback_to_v1(t):
    """A v2 client that meets a v1 server falls back, says so, and works; told to speak v2 only, it does not."""
    peer = t.keep(v1peer.V1Server(t.token))
    client = t.client(peer, t.origin(net.echo), wire="auto")
    check_equal(peer.refused, 1, "v2 connections that the v1 server closed")
    client.expect(r"\bv1\b", stream="err")
    exercise(t, ("127.0.0.1", peer.wait_session().port), streams=4)
    strict = t.client(peer, t.origin(net.echo), "--no-reconnect", wire="v2", wait=False, name="strict")
    strict.want = (1, 3, 4)
    check(strict.wait() in strict.want, "the strict client did not fail")
    check_equal(len(peer.sessions), 1, "sessions at the v1 server")
