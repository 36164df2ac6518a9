"""v2wire: culvert's own wire (v2) as the cases script it: frames with any content, and both halves of the conversation.

This is not a peer: it logs in as a client or answers as a server, and then the case decides each frame. The layouts are those of
docs/PROTOCOL.md, written down a second time on purpose, so that a change of the program's layout shows here.
"""
import struct

import net

HEADER = struct.Struct(">BBHII")
(HELLO, HELLO_OK, AUTH, AUTH_OK, AUTH_ERR, BIND, BIND_OK, BIND_ERR, JOIN, JOIN_OK, GOAWAY, PING, PONG) = range(1, 14)
OPEN, DATA, WINDOW, RESET = range(16, 20)
FIN = 1
RESUME = 1  # capability
WINDOW_SIZE = 64 * 1024  # what we grant per stream
SECRET = bytes(range(32))


class ProtocolError(Exception):
    """The other side sent what the case did not expect."""


def frame(kind, stream=0, payload=b"", flags=0, version=2, length=None):
    """The bytes of a frame; `version` and `length` may be wrong on purpose."""
    return HEADER.pack(version, kind, flags, stream, len(payload) if length is None else length) + payload


def text(value):
    return struct.pack(">H", len(value)) + value


def hello(lanes=1, window=WINDOW_SIZE, max_data=1 << 20, agent=b"e2e", caps=0):
    return struct.pack(">IHHII", caps, 1, lanes, window, max_data) + text(agent)


def hello_ok(lanes=1, window=WINDOW_SIZE, max_data=1 << 20, slots=1024, session=7, agent=b"e2e"):
    return struct.pack(">IHIIIQ", 0, lanes, window, max_data, slots, session) + text(agent)


def bind(tunnel=0, port=0, options=0, name=b"", origin=b"127.0.0.1:1"):
    return struct.pack(">HHI", tunnel, port, options) + text(name) + text(origin)


def bind_ok(tunnel=0, port=1, host=b"127.0.0.1"):
    return struct.pack(">HH", tunnel, port) + text(host)


def join(session=1, lane=1, flags=0, rx_bytes=0, secret=SECRET):
    return struct.pack(">QHHQ", session, lane, flags, rx_bytes) + secret


def opening(tunnel=0):
    return struct.pack(">HBB", tunnel, 0, 0)


def ping(time=1, rx_bytes=0):
    return struct.pack(">QQ", time, rx_bytes)


class Wire:
    """One v2 connection."""

    def __init__(self, sock):
        self.sock = sock

    def send(self, kind, stream=0, payload=b"", flags=0):
        self.sock.sendall(frame(kind, stream, payload, flags))

    def send_raw(self, data):
        self.sock.sendall(data)

    def recv(self):
        """The next frame as (kind, flags, stream, payload), or None at the end of the connection."""
        first = self.sock.recv(1)
        if not first:
            return None
        version, kind, flags, stream, length = HEADER.unpack(first + net.recv_exact(self.sock, HEADER.size - 1))
        if version != 2:
            raise ProtocolError(f"version {version}")
        return kind, flags, stream, net.recv_exact(self.sock, length) if length else b""

    def expect(self, kind):
        """The next frame of this kind, as (flags, stream, payload). PING is answered, PONG and WINDOW are passed over."""
        while True:
            got = self.recv()
            if got is None:
                raise ProtocolError(f"end of connection, expected type {kind}")
            if got[0] == kind:
                return got[1:]
            if got[0] == PING:
                self.send(PONG, 0, got[3])
            elif got[0] not in (PONG, WINDOW):
                raise ProtocolError(f"type {got[0]} with {got[3]!r}, expected {kind}")

    def close(self):
        self.sock.close()


def client_wire(addr, timeout=None):
    return Wire(net.lane_connect(addr, timeout=timeout))


def log_in(wire, token, ports=(0,), upto=BIND):
    """A client's half, up to and including the answer to HELLO, AUTH or BIND; returns the public ports."""
    wire.send(HELLO, 0, hello())
    wire.hello_ok = wire.expect(HELLO_OK)[2]
    wire.window = struct.unpack_from(">I", wire.hello_ok, 6)[0]
    if upto == HELLO:
        return []
    wire.send(AUTH, 0, token)
    wire.secret = wire.expect(AUTH_OK)[2]
    if upto == AUTH:
        return []
    bound = []
    for index, port in enumerate(ports):
        wire.send(BIND, 0, bind(index, port))
        bound.append(struct.unpack_from(">HH", wire.expect(BIND_OK)[2])[1])
    return bound


class Server:
    """A scripted server for culvert's client: accept() takes the next connection and answers it up to BIND_OK."""

    def __init__(self, port=0):
        self.sock = net.listen("127.0.0.1", port)
        self.sock.settimeout(net.TIMEOUT)
        self.addr = self.sock.getsockname()[:2]

    def accept(self, upto=BIND, **answers):
        sock, _ = self.sock.accept()
        sock.settimeout(net.TIMEOUT)
        wire = Wire(net.lane_accepted(sock))
        wire.hello = wire.expect(HELLO)[2]
        if upto == 0:
            return wire
        wire.send(HELLO_OK, 0, hello_ok(**answers))
        if upto == HELLO:
            return wire
        wire.token = wire.expect(AUTH)[2]
        wire.send(AUTH_OK, 0, SECRET)
        if upto == AUTH:
            return wire
        wire.bind = wire.expect(BIND)[2]
        wire.send(BIND_OK, 0, bind_ok(struct.unpack_from(">H", wire.bind)[0]))
        return wire

    def check(self):
        pass

    def close(self):
        self.sock.close()
