#!/usr/bin/env python3
"""v1peer: a GoTunnel v1 peer of the tests' own, in both roles, strict about the wire and able to misbehave on request.

As a module: V1Server and V1Client run in threads of a case; Wire is one connection with frames, for cases that script every frame.
As a program it has culvert's command line as far as v1 goes, so that two of them are a tunnel that the cases can be tried on:
    tests/e2e/run --culvert tests/e2e/v1peer.py --mode v1-1w --case 'curl_*'

Strict means: a frame that a deployed v1 peer would not send in this place (unknown type, wrong direction, payload where there is none,
data on a stream that was never opened) is kept in `violations`, and the session is closed. Like the deployed server, ours closes a
connection whose first byte is not 1.

Streams follow the deployed peers: an end of file on a socket is sent as StreamClose, and StreamClose closes the socket, because v1 has
no half-close. Each stream has a writer thread with its own queue, so that a slow socket never stops the reading of the tunnel.
"""
import queue
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from dataclasses import dataclass

import net

HEADER = struct.Struct(">BBII")
FRAME_MAX = 16 * 1024 * 1024
(HANDSHAKE, HANDSHAKE_ACK, AUTH, AUTH_OK, AUTH_ERR, BIND_OK, STREAM_OPEN, STREAM_DATA, STREAM_CLOSE, HEARTBEAT,
 ERROR) = range(1, 12)
STREAM_TYPES = (STREAM_OPEN, STREAM_DATA, STREAM_CLOSE)
EMPTY_TYPES = (HANDSHAKE_ACK, AUTH_OK, STREAM_OPEN, STREAM_CLOSE, HEARTBEAT)
TO_SERVER = (HANDSHAKE, AUTH, STREAM_DATA, STREAM_CLOSE, HEARTBEAT)
TO_CLIENT = (HANDSHAKE_ACK, AUTH_OK, AUTH_ERR, BIND_OK, STREAM_OPEN, STREAM_DATA, STREAM_CLOSE, HEARTBEAT, ERROR)


class ProtocolError(Exception):
    """The other side sent what v1 does not allow."""


@dataclass
class Frame:
    type: int
    stream: int
    payload: bytes


@dataclass
class Knobs:
    """How to behave. The defaults are a deployed peer."""
    chunk: int = 4096            # longest StreamData payload sent
    heartbeat: float = 10.0      # seconds; 0: never
    silent: bool = False         # after the session stands: neither read nor write
    ignore_close: bool = False   # keep a stream's socket open when StreamClose arrives
    send_close: bool = True      # say StreamClose on end of file
    close_delay: float = 0.0     # seconds between end of file and StreamClose
    auth_text: bytes = b"bad token"  # text of AuthErr; None: close without a word, as deployed


def frame(kind, stream=0, payload=b"", version=1, length=None):
    """The bytes of a frame; `version` and `length` may be wrong on purpose."""
    return HEADER.pack(version, kind, stream, len(payload) if length is None else length) + payload


def handshake_payload(expose=b"127.0.0.1:3000", role=1, capabilities=1):
    return struct.pack(">BQH", role, capabilities, len(expose)) + expose


class Wire:
    """One v1 connection: frames out under a lock, frames in one at a time, checked."""

    def __init__(self, sock, accepts):
        self.sock, self.accepts = sock, accepts
        self.lock = threading.Lock()
        self.opened = set()

    def send(self, kind, stream=0, payload=b""):
        with self.lock:
            self.sock.sendall(frame(kind, stream, payload))

    def send_raw(self, data):
        with self.lock:
            self.sock.sendall(data)

    def recv(self):
        """The next frame, or None at the end of the connection."""
        first = self.sock.recv(1)
        if not first:
            return None
        if first != b"\x01":
            raise ProtocolError(f"version {first[0]}")
        version, kind, stream, length = HEADER.unpack(first + net.recv_exact(self.sock, HEADER.size - 1))
        self.check(kind, stream, length)
        return Frame(kind, stream, net.recv_exact(self.sock, length) if length else b"")

    def check(self, kind, stream, length):
        if kind not in self.accepts:
            raise ProtocolError(f"type {kind} in this direction")
        if length > FRAME_MAX:
            raise ProtocolError(f"length {length}")
        if (kind in STREAM_TYPES) != (stream != 0):
            raise ProtocolError(f"type {kind} with stream {stream}")
        if kind in EMPTY_TYPES and length:
            raise ProtocolError(f"type {kind} with {length} bytes of payload")
        if kind == BIND_OK and length != 2:
            raise ProtocolError(f"BindOK with {length} bytes of payload")
        if kind == STREAM_OPEN:
            if stream in self.opened:
                raise ProtocolError(f"stream {stream} opened twice")
            self.opened.add(stream)
        elif kind in STREAM_TYPES and stream not in self.opened:
            raise ProtocolError(f"type {kind} on stream {stream}, which was never opened")

    def expect(self, kind):
        """The next frame, which must be of this type; Heartbeats before it are passed over."""
        while True:
            got = self.recv()
            if got is None:
                raise ProtocolError(f"end of connection, expected type {kind}")
            if got.type == kind:
                return got
            if got.type != HEARTBEAT:
                raise ProtocolError(f"type {got.type}, expected {kind}")

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


def client_wire(addr, timeout=None):
    return Wire(net.lane_connect(addr, timeout=timeout), TO_CLIENT)


def log_in(wire, token, expose=b"127.0.0.1:3000"):
    """A client's half of the conversation up to BindOK; returns the public port."""
    wire.send(HANDSHAKE, 0, handshake_payload(expose))
    wire.expect(HANDSHAKE_ACK)
    wire.send(AUTH, 0, token)
    wire.expect(AUTH_OK)
    return struct.unpack(">H", wire.expect(BIND_OK).payload)[0]


class Stream:
    """One socket (a visitor's or an origin's) bound to a stream id."""

    def __init__(self, session, ident, sock):
        self.session, self.id, self.sock = session, ident, sock
        self.queue = queue.Queue()
        sock.settimeout(None)
        session.streams[ident] = self
        threading.Thread(target=self.write_loop, daemon=True).start()
        threading.Thread(target=self.read_loop, daemon=True).start()

    def read_loop(self):
        knobs = self.session.knobs
        try:
            while data := self.sock.recv(knobs.chunk):
                self.session.wire.send(STREAM_DATA, self.id, data)
        except OSError:
            pass
        if knobs.send_close and self.id in self.session.streams:
            time.sleep(knobs.close_delay)
            self.queue.put("tell")

    def write_loop(self):
        while (item := self.queue.get()) not in ("close", "tell"):
            try:
                self.sock.sendall(item)
            except OSError:
                item = "tell"
                break
        if self.session.streams.pop(self.id, None) and item == "tell":
            self.session.tell_close(self.id)
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


class Session:
    """What both roles share once the session stands: heartbeats, and frames to streams."""

    def __init__(self, wire, knobs):
        self.wire, self.knobs = wire, knobs
        self.streams, self.violations = {}, []
        self.heartbeats = 0
        self.ended = threading.Event()
        self.resume = threading.Event()

    def start(self):
        self.wire.sock.settimeout(None)
        threading.Thread(target=self.read_loop, daemon=True).start()
        if self.knobs.heartbeat and not self.knobs.silent:
            threading.Thread(target=self.heartbeat_loop, daemon=True).start()

    def heartbeat_loop(self):
        while not self.ended.wait(self.knobs.heartbeat):
            try:
                self.wire.send(HEARTBEAT)
            except OSError:
                return

    def read_loop(self):
        try:
            if self.knobs.silent:
                self.resume.wait()
            while (got := self.wire.recv()) is not None:
                self.handle(got)
        except ProtocolError as error:
            self.violations.append(str(error))
        except (OSError, net.NetError):
            pass
        self.end()

    def handle(self, got):
        stream = self.streams.get(got.stream)
        if got.type == HEARTBEAT:
            self.heartbeats += 1
        elif got.type == STREAM_OPEN:
            self.open(got.stream)
        elif got.type == STREAM_DATA:
            if stream:
                stream.queue.put(got.payload)
        elif got.type == STREAM_CLOSE:
            if stream and not self.knobs.ignore_close:
                stream.queue.put("close")
        else:
            raise ProtocolError(f"type {got.type} in a session that stands")

    def open(self, ident):
        raise ProtocolError("StreamOpen towards a server")

    def tell_close(self, ident):
        try:
            self.wire.send(STREAM_CLOSE, ident)
        except OSError:
            pass

    def end(self):
        self.ended.set()
        self.wire.close()
        for stream in list(self.streams.values()):
            stream.queue.put("close")


class V1Client(Session):
    """A v1 client for one origin. After construction the session stands and `port` is known."""

    def __init__(self, addr, origin, token, knobs=None):
        super().__init__(client_wire(addr), knobs or Knobs())
        self.origin = getattr(origin, "addr", origin)
        self.port = log_in(self.wire, token.encode(), net.format_addr(self.origin).encode())
        self.start()

    def open(self, ident):
        try:
            sock = net.connect(self.origin)
        except OSError:
            self.tell_close(ident)  # a deployed client says nothing; the cases want to see an end
            return
        Stream(self, ident, sock)


class ServerSession(Session):
    """One logged-in client at a V1Server, with its public listener."""

    def __init__(self, wire, knobs, listener):
        super().__init__(wire, knobs)
        self.listener, self.next_id = listener, 0
        self.port = listener.getsockname()[1]
        wire.opened = _Range(self)

    def accept_loop(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.next_id += 1
            self.wire.send(STREAM_OPEN, self.next_id)
            Stream(self, self.next_id, sock)

    def end(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        super().end()


class _Range:
    """The ids that a server has opened: 1 to next_id."""

    def __init__(self, session):
        self.session = session

    def __contains__(self, ident):
        return 1 <= ident <= self.session.next_id


class V1Server:
    """A v1 server. `sessions` holds those that logged in; `refused` counts connections that began with another version."""

    def __init__(self, token, addr=("127.0.0.1", 0), start_port=0, knobs=None):
        self.token, self.knobs, self.start_port = token.encode(), knobs or Knobs(), start_port
        self.host = addr[0]
        self.sock = net.listen(*addr)
        self.addr = self.sock.getsockname()[:2]
        self.sessions, self.violations = [], []
        self.accepted = self.refused = 0
        self.times = []
        threading.Thread(target=self.accept_loop, daemon=True).start()

    def accept_loop(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            self.accepted += 1
            self.times.append(time.monotonic())
            sock.settimeout(net.TIMEOUT)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            wire = Wire(net.lane_accepted(sock), TO_SERVER)
        except ssl.SSLError as error:
            self.violations.append(str(error))
            return
        except OSError:
            return
        try:
            if wire.sock.recv(1, socket.MSG_PEEK) not in (b"\x01", b""):
                self.refused += 1
                wire.close()
                return
            if self.log_in(wire):
                return
        except (ProtocolError, net.NetError) as error:
            self.violations.append(str(error))
        except OSError:
            pass
        wire.close()

    def log_in(self, wire):
        """A server's half of the conversation; True once the session stands."""
        hello = wire.expect(HANDSHAKE).payload
        if len(hello) < 11 or len(hello) != 11 + struct.unpack(">H", hello[9:11])[0] or hello[0] != 1:
            raise ProtocolError(f"Handshake payload {hello!r}")
        wire.send(HANDSHAKE_ACK)
        if wire.expect(AUTH).payload != self.token:
            if self.knobs.auth_text is not None:
                wire.send(AUTH_ERR, 0, self.knobs.auth_text)
            return False
        session = ServerSession(wire, self.knobs, self.public_listener())
        wire.send(AUTH_OK)
        wire.send(BIND_OK, 0, struct.pack(">H", session.port))
        session.violations = self.violations
        session.start()
        self.sessions.append(session)
        threading.Thread(target=session.accept_loop, daemon=True).start()
        return True

    def public_listener(self):
        port = self.start_port
        while True:
            try:
                return net.listen(self.host, port)
            except OSError:
                port += 1

    def wait_session(self, count=1):
        """The count-th session, once it stands."""
        net.poll_until(lambda: len(self.sessions) >= count, f"v1 session {count}")
        return self.sessions[count - 1]

    def close(self):
        """Stops listening and ends all sessions."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        for session in self.sessions:
            session.end()

    def check(self):
        if self.violations:
            raise net.NetError(f"v1 peer: {self.violations[0]}")


def flag_values(argv, name, default=None):
    return [argv[i + 1] for i, word in enumerate(argv[:-1]) if word == name] or [default]


def run_server(argv):
    server = V1Server(flag_values(argv, "--token", "dev-token")[-1],
                      net.parse_addr(flag_values(argv, "--addr", "127.0.0.1:9000")[-1]),
                      int(flag_values(argv, "--start-port", "10000")[-1]))
    print(f"listening: {net.format_addr(server.addr)}", flush=True)
    return server.close


def run_client(argv):
    server = net.parse_addr(flag_values(argv, "--server", "127.0.0.1:9000")[-1])
    origin = net.parse_addr(flag_values(argv, "--local")[-1])
    client = V1Client(server, origin, flag_values(argv, "--token", "dev-token")[-1])
    print(f"ready: tcp://{net.format_addr((server[0], client.port))} -> {net.format_addr(origin)}", flush=True)
    return client.end


def main(argv):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})  # before any thread is there
    stop = {"server": run_server, "client": run_client}[argv[0]](argv)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
