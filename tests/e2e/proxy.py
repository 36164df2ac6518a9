"""proxy: a TCP relay between a client and its server that can treat each connection badly.

What a path of the real world does to a lane: cuts it (with FIN or RST), swallows everything without a word, breaks it into other pieces.
The proxy's threads copy bytes; `links` are the connections that came, in order.
"""
import random
import socket
import threading

import net


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy, near, far):
        self.proxy, self.near, self.far = proxy, near, far
        self.flow = threading.Event()
        self.flow.set()
        self.alive = True
        for source, target, seed in ((near, far, 1), (far, near, 2)):
            threading.Thread(target=self.copy, args=(source, target, random.Random(seed)), daemon=True).start()

    def copy(self, source, target, rng):
        try:
            while data := source.recv(net.CHUNK):
                self.flow.wait()
                self.proxy.send(target, data, rng)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            self.cut()

    def stall(self):
        """From now on nothing arrives, in either direction, and nobody is told."""
        self.flow.clear()

    def cut(self, rst=True):
        """Ends the connection at both ends, by RST or FIN."""
        if self.alive:
            self.alive = False
            for sock in (self.near, self.far):
                try:
                    if rst:
                        net.set_linger_rst(sock)
                    sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads it, whose use of the socket delays close()
                    sock.close()
                except OSError:
                    pass
        self.flow.set()


class RecordLink(Link):
    """A connection that is TLS: bytes move in whole records, each through the proxy's `pass_record`."""

    def __init__(self, proxy, near, far):
        self.attacked = False
        self.passed = {True: 0, False: 0}  # data records up and down
        super().__init__(proxy, near, far)

    def hears(self, up, data):
        pass

    def copy(self, source, target, rng):
        buf = b""
        try:
            while data := source.recv(net.CHUNK):
                self.hears(source is self.near, data)
                buf += data
                out = []
                while len(buf) >= 5 and len(buf) >= 5 + int.from_bytes(buf[3:5], "big"):
                    size = 5 + int.from_bytes(buf[3:5], "big")
                    out.append(self.proxy.pass_record(self, source is self.near, buf[:size]))
                    buf = buf[size:]
                target.sendall(b"".join(out))
            target.shutdown(socket.SHUT_WR)
        except OSError:
            self.cut()


class Proxy:
    """Relays to `target`. `piece`: longest run of bytes that is sent at once; runs are of random length up to it."""

    LINK = Link

    def __init__(self, target, piece=None):
        self.target, self.piece = target, piece
        self.hold = False  # True: who comes is reset at once
        self.sock = net.listen()
        self.addr = self.sock.getsockname()[:2]
        self.links = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.sock.accept()
            except OSError:
                return
            try:
                far = None if self.hold else net.connect(self.target)
            except OSError:
                far = None
            if far is None:
                net.rst(near)
                continue
            for sock in (near, far):
                sock.settimeout(None)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.links.append(self.LINK(self, near, far))

    def send(self, target, data, rng):
        if self.piece is None:
            target.sendall(data)
            return
        view, at = memoryview(data), 0
        while at < len(view):
            size = rng.randint(1, self.piece)
            target.sendall(view[at:at + size])
            at += size

    def wait_links(self, count):
        net.poll_until(lambda: len(self.links) >= count, f"connection {count} at the proxy")
        return self.links

    def check(self):
        pass

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        for link in self.links:
            link.cut()


class RecordProxy(Proxy):
    """A man in the middle of TLS. `attack` arms it once: the next `count` data records of one direction of one connection are handed to a
    function, and what that returns is sent in their place. A connection is attacked once, and not before streams have used it: what comes on it
    afterwards reaches nobody."""

    LINK = RecordLink
    DATA = 23
    SHAKING = 12  # data records of one direction, of which the first are the handshake's

    def __init__(self, target):
        self.lock = threading.Lock()
        self.armed = None
        super().__init__(target)

    def attack(self, up, count, function):
        with self.lock:
            self.armed = (up, count, function, {})

    def pass_record(self, link, up, record):
        with self.lock:
            if record[0] != self.DATA:
                return record
            link.passed[up] += 1
            if self.armed is None or self.armed[0] != up or link.attacked or link.passed[up] <= self.SHAKING:
                return record
            _, count, function, waiting = self.armed
            held = waiting.setdefault(link, [])
            held.append(record)
            if len(held) < count:
                return b""
            self.armed = None
            link.attacked = True
            return function(held)


class FlightLink(RecordLink):
    """Keeps all that the client says. `over`: it says nothing more."""

    def __init__(self, proxy, near, far):
        self.said, self.over = bytearray(), threading.Event()
        self.flight = []  # records of the server, until the client answers
        self.answered = False
        super().__init__(proxy, near, far)

    def hears(self, up, data):
        if up:
            self.said += data

    def copy(self, source, target, rng):
        super().copy(source, target, rng)
        if source is self.near:
            self.over.set()


class FlightProxy(Proxy):
    """A man in the middle of TLS handshakes. On the first connection, which passes unharmed, it
    learns how many records the server's flight has. After `attack` the flight of the next one is
    held until it is whole, and leaves in one piece with `junk` right behind it."""

    LINK = FlightLink
    DATA = 23

    def __init__(self, target):
        self.lock = threading.Lock()
        self.size = None  # of the flight, in records
        self.junk = None
        self.attacked = []
        super().__init__(target)

    def attack(self, junk):
        with self.lock:
            self.junk = junk

    def pass_record(self, link, up, record):
        with self.lock:
            if up:
                if record[0] == self.DATA and not link.answered:
                    link.answered = True
                    self.size = self.size or len(link.flight)
                return record
            if link.answered:
                return record
            link.flight.append(record)
            if self.junk is None or self.size is None:
                return record
            if len(link.flight) < self.size:
                return b""
            junk, self.junk = self.junk, None
            self.attacked.append(link)
            return b"".join(link.flight) + junk
