"""v2wire: culvert's own wire (v2) as the cases script it: frames with any content, and both halves of the conversation.

This is not a peer: it logs in as a client or answers as a server, and then the case decides each frame. The layouts are those of
docs/PROTOCOL.md, written down a second time on purpose, so that a change of the program's layout shows here; so are the proofs, which
these cases share with tools/peer (tools/proofs.py).
"""
import os
import pathlib
import struct
import sys

import net

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from proofs import Channel, Keys  # noqa: E402

HEADER = struct.Struct(">BBHII")
(HELLO, HELLO_OK, AUTH, AUTH_OK, AUTH_ERR, BIND, BIND_OK, BIND_ERR, JOIN, JOIN_OK, GOAWAY, PING, PONG) = range(1, 14)
OPEN, DATA, WINDOW, RESET = range(16, 20)
FIN = 1
RESUME, SPARE = 1, 2  # capabilities
WINDOW_SIZE = 64 * 1024  # what we grant per stream
REVISION = 2
PROOF = bytes(range(32))  # of nothing


class ProtocolError(Exception):
    """The other side sent what the case did not expect."""


def frame(kind, stream=0, payload=b"", flags=0, version=2, length=None):
    """The bytes of a frame; `version` and `length` may be wrong on purpose."""
    return HEADER.pack(version, kind, flags, stream, len(payload) if length is None else length) + payload


def text(value):
    return struct.pack(">H", len(value)) + value


# Payloads

def hello(lanes=1, window=WINDOW_SIZE, max_data=1 << 20, agent=b"e2e", caps=0, client=b"", nonce=None, workers=1):
    return (struct.pack(">IHHII", caps, workers, lanes, window, max_data) + text(agent) + text(client)
            + (os.urandom(32) if nonce is None else nonce))


def old_hello(agent=b"e2e"):
    """As it was before proofs."""
    return struct.pack(">IHHII", 0, 1, 1, WINDOW_SIZE, 1 << 20) + text(agent)


def hello_ok(revision=REVISION, nonce=None):
    return struct.pack(">I", revision) + (os.urandom(32) if nonce is None else nonce)


def old_hello_ok():
    return struct.pack(">IHIIIQ", 0, 1, WINDOW_SIZE, 1 << 20, 1024, 7) + text(b"e2e")


def auth(keys=None, channel=None):
    """With keys and a channel the right one."""
    if keys is None:
        return bytes(16) + b"\0" + PROOF
    return keys.id + bytes([channel.bound]) + channel.proof(keys)


def auth_ok(proof=PROOF, lanes=1, window=WINDOW_SIZE, max_data=1 << 20, slots=1024, session=7, agent=b"e2e", caps=0):
    return proof + struct.pack(">IHIIIQ", caps, lanes, window, max_data, slots, session) + text(agent)


def bind(tunnel=0, port=0, options=0, name=b"", origin=b"127.0.0.1:1"):
    return struct.pack(">HHI", tunnel, port, options) + text(name) + text(origin)


def bind_ok(tunnel=0, port=1, host=b"127.0.0.1"):
    return struct.pack(">HH", tunnel, port) + text(host)


def bind_err(tunnel=0, code=49):
    return struct.pack(">HH", tunnel, code) + text(b"")


def join(session=1, lane=1, flags=0, rx_bytes=0, bound=0, proof=PROOF):
    return struct.pack(">QHHQB", session, lane, flags, rx_bytes, bound) + proof


def join_ok(lane=1, rx_bytes=0, proof=PROOF):
    return struct.pack(">HQ", lane, rx_bytes) + proof


def opening(tunnel=0):
    return struct.pack(">HBB", tunnel, 0, 0)


def ping(time=1, rx_bytes=0):
    return struct.pack(">QQ", time, rx_bytes)


class Wire:
    """One v2 connection."""

    def __init__(self, sock):
        self.sock = sock

    def exporter(self):
        """What the two ends of a TLS connection have in common; None on a plain one."""
        return net.lane_exporter(self.sock)

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


def greet(wire, **fields):
    """A client's HELLO and its answer: wire.channel."""
    said = hello(**fields)
    wire.send(HELLO, 0, said)
    wire.hello_ok = wire.expect(HELLO_OK)[2]
    wire.channel = Channel(said, wire.hello_ok, wire.exporter())


def log_in(wire, token, ports=(0,), upto=BIND, **fields):
    """A client's half, up to and including the answer to HELLO, AUTH or BIND; returns the public ports."""
    greet(wire, **fields)
    if upto == HELLO:
        return []
    keys = Keys(token)
    wire.send(AUTH, 0, auth(keys, wire.channel))
    wire.auth_ok = wire.expect(AUTH_OK)[2]
    if wire.auth_ok[:32] != wire.channel.server_proof(keys):
        raise ProtocolError("the server's proof is wrong")
    wire.caps, wire.lanes, wire.window, _, _, wire.session = struct.unpack_from(">IHIIIQ", wire.auth_ok, 32)
    wire.secret = wire.channel.secret(keys)
    if upto == AUTH:
        return []
    bound = []
    for index, port in enumerate(ports):
        wire.send(BIND, 0, bind(index, port))
        bound.append(struct.unpack_from(">HH", wire.expect(BIND_OK)[2])[1])
    return bound


def say_join(wire, of, lane, flags=0, rx_bytes=0):
    """JOIN for a session that was opened on the wire `of`, behind HELLO."""
    greet(wire)
    proof = wire.channel.join_proof(of.secret, of.session, lane, flags, rx_bytes)
    wire.send(JOIN, 0, join(of.session, lane, flags, rx_bytes, wire.channel.bound, proof))


class Server:
    """A scripted server for culvert's client, which has `token`: accept() takes the next connection and answers it up to BIND_OK."""

    def __init__(self, token=b"", port=0):
        self.sock = net.listen("127.0.0.1", port)
        self.sock.settimeout(net.TIMEOUT)
        self.addr = self.sock.getsockname()[:2]
        self.keys = Keys(token if isinstance(token, bytes) else token.encode())

    def greet(self, wire):
        """HELLO was read; answers it."""
        answer = hello_ok()
        wire.send(HELLO_OK, 0, answer)
        wire.channel = Channel(wire.hello, answer, wire.exporter())

    def accept(self, upto=BIND, **answers):
        sock, _ = self.sock.accept()
        sock.settimeout(net.TIMEOUT)
        wire = Wire(net.lane_accepted(sock))
        wire.hello = wire.expect(HELLO)[2]
        if upto == 0:
            return wire
        self.greet(wire)
        if upto == HELLO:
            return wire
        wire.auth = wire.expect(AUTH)[2]
        if wire.auth != auth(self.keys, wire.channel):
            raise ProtocolError("the client's proof is wrong")
        wire.secret = self.secret = wire.channel.secret(self.keys)
        wire.send(AUTH_OK, 0, auth_ok(**{"proof": wire.channel.server_proof(self.keys), **answers}))
        if upto == AUTH:
            return wire
        wire.bind = wire.expect(BIND)[2]
        wire.send(BIND_OK, 0, bind_ok(struct.unpack_from(">H", wire.bind)[0]))
        return wire

    def accept_lane(self, lane=None, count=0):
        """The next connection as a lane that joins the session of the last accept()."""
        sock, _ = self.sock.accept()
        sock.settimeout(net.TIMEOUT)
        wire = Wire(net.lane_accepted(sock))
        wire.hello = wire.expect(HELLO)[2]
        self.greet(wire)
        said = wire.expect(JOIN)[2]
        session, wire.lane, flags, rx_bytes = struct.unpack_from(">QHHQ", said)
        proof = wire.channel.join_proof(self.secret, session, wire.lane, flags, rx_bytes)
        if said != join(session, wire.lane, flags, rx_bytes, wire.channel.bound, proof):
            raise ProtocolError("the proof in JOIN is wrong")
        lane = wire.lane if lane is None else lane
        wire.send(JOIN_OK, 0, join_ok(lane, count, wire.channel.join_ok_proof(self.secret, session, lane)))
        return wire

    def check(self):
        pass

    def close(self):
        self.sock.close()
