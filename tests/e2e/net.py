"""net: sockets for the end-to-end cases: visitors, origins in threads, reproducible random data, and ends that are told apart.

What the cases rely on:
  - Every socket has a time-out, so a lost byte or a lost wake-up ends a case with a message and never hangs it.
  - A connection ends in one of two ways, and the cases care which: `end_of` says 'eof' (FIN) or 'reset' (RST).
  - `Pattern` is random data that both ends can make from a seed. Each MiB starts with its own index, so that a block that was
    lost, doubled or moved cannot compare equal. Receivers compare every block at once (the first wrong offset is reported) and
    keep a checksum, which is compared with the sender's at the end.
  - Origins run in threads of the case's own process: no ports or processes are left behind. Mass origins (thousands of
    connections) use one epoll loop instead.
"""
import errno
import hashlib
import random
import select
import socket
import struct
import threading
import time

TIMEOUT = 60.0  # seconds; the runner scales it for slow builds with `set_time_factor`
CHUNK = 1 << 18
BLOCK = 1 << 20
IP_BIND_ADDRESS_NO_PORT = 24


def set_time_factor(factor):
    global TIMEOUT
    TIMEOUT = 60.0 * factor


class NetError(AssertionError):
    """What a case reports when the network did not do what was expected."""


def family_of(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def format_addr(addr):
    host, port = addr[0], addr[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_addr(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


class ResetAtOnce:
    """Stands for a connection that was made and reset before connect() returned: every use of it is refused with ECONNRESET."""

    def fail(self, *_):
        raise ConnectionResetError(errno.ECONNRESET, "reset before connect() returned")

    recv = recv_into = send = sendall = shutdown = fail

    def settimeout(self, *_):
        pass

    setsockopt = settimeout
    close = fileno = lambda self: -1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def is_loopback(host):
    return host in ("localhost", "::1") or host.startswith("127.")


def connect(addr, source=None, rcvbuf=None, timeout=None):
    """A connected visitor socket. `source` is an address to bind to; `rcvbuf` is set before the window is announced.

    A listener that resets what it accepts can be faster than connect(), which then fails with ECONNRESET; the caller gets a
    ResetAtOnce and sees the reset at its first use, as if it had come a moment later.
    """
    sock = socket.socket(family_of(addr[0]), socket.SOCK_STREAM)
    try:
        if rcvbuf:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if source:
            # Let connect() choose the port: one that bind() chose would be lost to every other
            # connect() of the machine.
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
        sock.settimeout(timeout or TIMEOUT)
        sock.connect(addr[:2])
    except ConnectionResetError:
        sock.close()
        return ResetAtOnce()
    except OSError as error:
        sock.close()
        error.filename = format_addr(addr)
        raise
    return sock


LANES = None  # in a TLS mode: a tlspipe.Lanes


def lane_connect(addr, **options):
    """A connection to a tunnel server as a client makes it: in a TLS mode behind TLS."""
    return LANES.connect(addr, **options) if LANES else connect(addr, **options)


def lane_accepted(sock):
    """What a tunnel server makes of a connection that it has accepted."""
    return LANES.accepted(sock) if LANES else sock


def lane_exporter(sock):
    """What both ends of such a connection have in common (RFC 9266, tls-exporter); None on a plain one."""
    return LANES.exporter(sock) if LANES else None


def listen(host="127.0.0.1", port=0, backlog=4096):
    sock = socket.socket(family_of(host), socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((host, port))
    sock.listen(backlog)
    return sock


def set_linger_rst(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def rst(sock):
    """Closes with RST."""
    set_linger_rst(sock)
    sock.close()


def recv_exact(sock, size):
    """Exactly `size` bytes; an earlier end is an error that tells how far it came."""
    out = bytearray(size)
    view, got = memoryview(out), 0
    while got < size:
        n = sock.recv_into(view[got:])
        if n == 0:
            raise NetError(f"end of stream after {got} of {size} bytes")
        got += n
    return bytes(out)


def recv_all(sock, limit=1 << 30):
    """Everything up to EOF."""
    parts, total = [], 0
    while total <= limit:
        data = sock.recv(CHUNK)
        if not data:
            return b"".join(parts)
        parts.append(data)
        total += len(data)
    raise NetError(f"more than {limit} bytes")


def end_of(sock, timeout=None):
    """How the peer ends the connection: 'eof', 'reset', or 'timeout' if it does not. Data before the end is dropped."""
    sock.settimeout(timeout or TIMEOUT)
    try:
        while sock.recv(CHUNK):
            pass
        return "eof"
    except (ConnectionResetError, BrokenPipeError):
        return "reset"
    except TimeoutError:
        return "timeout"


def connect_refused(addr):
    """True if nobody listens there."""
    try:
        connect(addr, timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


class Pattern:
    """Random data made from a seed; blocks of one MiB, each with its index in the first eight bytes."""

    def __init__(self, seed):
        self.body = random.Random(seed).randbytes(BLOCK - 8)

    def block(self, index):
        return struct.pack(">Q", index) + self.body

    def send(self, sock, total):
        """Sends the first `total` bytes; returns their checksum."""
        digest, sent = hashlib.sha1(usedforsecurity=False), 0
        while sent < total:
            block = memoryview(self.block(sent // BLOCK))[: total - sent]
            digest.update(block)
            sock.sendall(block)
            sent += len(block)
        return digest.hexdigest()

    def recv(self, sock, total):
        """Receives `total` bytes, comparing each block; returns their checksum."""
        digest, got = hashlib.sha1(usedforsecurity=False), 0
        buf = bytearray(BLOCK)
        while got < total:
            want = min(BLOCK, total - got)
            self._fill(sock, memoryview(buf)[:want], got, total)
            have = buf if want == BLOCK else buf[:want]
            digest.update(have)
            self._compare(have, self.block(got // BLOCK)[:want], got, total)
            got += want
        return digest.hexdigest()

    @staticmethod
    def _compare(have, wanted, done, total):
        if have != wanted:  # bytearray and bytes: a memcmp
            at = next(i for i in range(len(wanted)) if have[i] != wanted[i])
            raise NetError(f"wrong byte at offset {done + at} of {total}: {have[at]:#x}, expected {wanted[at]:#x}")

    @staticmethod
    def _fill(sock, view, done, total):
        at = 0
        while at < len(view):
            n = sock.recv_into(view[at:])
            if n == 0:
                raise NetError(f"end of stream after {done + at} of {total} bytes")
            at += n


class Task(threading.Thread):
    """A thread whose result or exception `join_result` brings home. A mistake in the case itself (a wrong call, a name that is not
    there) fails the case though nobody waits for the thread: see `mistakes`."""

    mistakes = []

    def __init__(self, function, *args):
        super().__init__(daemon=True)
        self.function, self.args = function, args
        self.result = self.error = None
        self.start()

    def run(self):
        try:
            self.result = self.function(*self.args)
        except (TypeError, NameError, AttributeError) as error:
            self.error = error
            Task.mistakes.append(f"a thread of the case: {type(error).__name__}: {error}")
        except BaseException as error:  # brought home by join_result
            self.error = error

    def join_result(self, timeout=None):
        self.join(timeout or TIMEOUT * 4)
        if self.is_alive():
            raise NetError(f"{self.function.__name__} did not end")
        if self.error:
            raise self.error
        return self.result


class Origin:
    """An origin in threads: handler(sock) for each connection. `seen` counts connections; errors of handlers are kept.

    The connection is closed (FIN) when the handler returns, unless it returned KEEP.
    """

    KEEP = object()

    def __init__(self, handler, host="127.0.0.1", port=0):
        self.handler = handler
        self.sock = listen(host, port)
        self.addr = self.sock.getsockname()[:2]
        self.errors, self.socks, self.seen = [], [], 0
        self.lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            conn.settimeout(TIMEOUT)
            with self.lock:
                self.seen += 1
                self.socks.append(conn)
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        try:
            keep = self.handler(conn) is self.KEEP
        except Exception as error:  # shown by the case that owns this origin
            self.errors.append(error)
            keep = False
        if not keep:
            conn.close()

    def wait_seen(self, count, timeout=None):
        """Waits until `count` connections have come; returns the last socket."""
        poll_until(lambda: self.seen >= count, f"connection {count} at the origin", timeout)
        with self.lock:
            return self.socks[count - 1]

    def check(self):
        if self.errors:
            raise NetError(f"origin: {self.errors[0]!r}") from self.errors[0]

    def close(self):
        """Stops listening; open connections live on."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    def kill(self):
        """Dies as a process dies by a crash: nobody listens, all connections reset."""
        self.close()
        with self.lock:
            for conn in self.socks:
                if conn.fileno() >= 0:
                    rst(conn)


def poll_until(condition, what, timeout=None):
    """Polls until the condition is true and returns its value; fails with `what` after a generous deadline."""
    deadline = time.monotonic() + (timeout or TIMEOUT)
    pause = 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise NetError(f"timed out waiting for {what}")
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


# Handlers for Origin.

def until_cut(handler):
    """The handler, for cases in which a reset of the origin's connection is no error: the visitor's side checks the bytes."""
    def tolerant(sock):
        try:
            return handler(sock)
        except (ConnectionResetError, BrokenPipeError):
            return None
    return tolerant


@until_cut
def echo(sock):
    """Sends everything back until EOF, then ends."""
    while data := sock.recv(CHUNK):
        sock.sendall(data)


def hold(sock):
    """Keeps the connection and does nothing; the case takes the socket from `Origin.socks`."""
    return Origin.KEEP


def flood(sock):
    """Sends for ever, until the connection breaks."""
    data = bytes(range(256)) * 1024
    try:
        while True:
            sock.sendall(data)
    except OSError:
        return


class EchoLoop:
    """One epoll loop in a thread that echoes small messages on any number of connections."""

    def __init__(self, host="127.0.0.1", port=0):
        self.sock = listen(host, port)
        self.sock.setblocking(False)
        self.addr = self.sock.getsockname()[:2]
        self.conns, self.seen, self.error = {}, 0, None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            self._loop()
        except Exception as error:  # shown by the case that owns this origin
            self.error = error

    def _loop(self):
        poll = select.epoll()
        poll.register(self.sock.fileno(), select.EPOLLIN)
        while self.sock.fileno() >= 0:
            for fd, _ in poll.poll(0.2):
                if fd == self.sock.fileno():
                    self._accept(poll)
                else:
                    self._echo(poll, fd)

    def _accept(self, poll):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            conn.setblocking(False)
            self.conns[conn.fileno()] = conn
            self.seen += 1
            poll.register(conn.fileno(), select.EPOLLIN)

    def _echo(self, poll, fd):
        conn = self.conns[fd]
        try:
            data = conn.recv(CHUNK)
            if data:
                conn.sendall(data)  # messages are far smaller than a socket buffer
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        poll.unregister(fd)
        conn.close()
        del self.conns[fd]

    def check(self):
        if self.error:
            raise NetError(f"echo origin: {self.error!r}")

    def close(self):
        self.sock.close()
        self.thread.join(2)


def exchange(socks, make_message, timeout=None):
    """Sends a message on every socket and waits until each has its echo. All sockets stay open.

    make_message(i) gives the bytes for socket i. One epoll loop; sockets are put into non-blocking mode.
    """
    poll = select.epoll()
    want, have = {}, {}
    for index, sock in enumerate(socks):
        sock.setblocking(False)
        message = make_message(index)
        want[sock.fileno()], have[sock.fileno()] = message, bytearray()
        poll.register(sock.fileno(), select.EPOLLIN)
        sock.send(message)
    by_fd = {sock.fileno(): index for index, sock in enumerate(socks)}
    left, deadline = len(socks), time.monotonic() + (timeout or TIMEOUT * 2)
    while left:
        if time.monotonic() > deadline:
            raise NetError(f"{left} of {len(socks)} streams did not answer")
        for fd, _ in poll.poll(0.5):
            left -= _exchange_read(poll, socks[by_fd[fd]], fd, want, have)
    poll.close()


def _exchange_read(poll, sock, fd, want, have):
    try:
        data = sock.recv(CHUNK)
    except BlockingIOError:
        return 0
    if not data:
        raise NetError(f"a stream ended after {len(have[fd])} of {len(want[fd])} bytes")
    have[fd] += data
    if len(have[fd]) < len(want[fd]):
        return 0
    if have[fd] != want[fd]:
        raise NetError("a stream answered with another stream's bytes")
    poll.unregister(fd)
    return 1
