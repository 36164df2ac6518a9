#!/usr/bin/env python3
"""crowd: many connections in a process of its own, because a case of 20,000 streams needs more descriptors than one process may have.

    crowd.py origin                      an echo origin; prints "origin HOST:PORT"
    crowd.py visitors HOST:PORT COUNT SOURCE
                                         opens COUNT connections from address SOURCE, prints "open COUNT"; then for each line on stdin
                                         sends a message on every connection, and prints "answered COUNT" when all came back
    crowd.py handshakes HOST:PORT COUNT CA
                                         opens COUNT connections, prints "connected", makes all TLS handshakes at once, and prints a line of JSON
    crowd.py storm HOST:PORT COUNT TOKEN [CA]
                                         logs COUNT clients in, each with a tunnel, and prints "bound COUNT"; then for each line on stdin all
                                         connections are reset and all clients come back at once, and a line of JSON tells how long it took.
                                         A line "login" makes new sessions, any other line resumes
"""
import errno
import heapq
import json
import os
import random
import resource
import select
import socket
import ssl
import struct
import sys
import time

import net
import tlspipe
import v2wire


def run_origin():
    origin = net.EchoLoop()
    print("origin " + net.format_addr(origin.addr), flush=True)
    sys.stdin.read()


def run_visitors(addr, count, source):
    socks = [net.connect(addr, source=source) for _ in range(count)]
    print(f"open {count}", flush=True)
    for number, _ in enumerate(sys.stdin):
        net.exchange(socks, lambda index: f"{source} {number} {index} ".encode() * 3)
        print(f"answered {count}", flush=True)


class Shake:
    """One handshake among many; `go` takes it as far as the bytes allow. The verdict: True made, False failed, None not over."""

    def __init__(self, addr, context):
        self.sock = net.connect(addr)
        self.sock.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.verdict = None

    def go(self):
        try:
            self.tls.do_handshake()
            self.verdict = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.verdict = False
        if data := self.outgoing.read():
            self.sock.send(data)

    def read(self):
        try:
            data = self.sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.verdict = False
            return
        self.incoming.write(data)
        self.go()


def run_handshakes(addr, count, ca):
    context = ssl.create_default_context(cafile=ca)
    shakes = {shake.sock.fileno(): shake for shake in (Shake(addr, context) for _ in range(count))}
    poll = select.epoll()
    for fd in shakes:
        poll.register(fd, select.EPOLLIN)
    print("connected", flush=True)
    started = time.monotonic()
    for shake in shakes.values():
        shake.go()
    while any(shake.verdict is None for shake in shakes.values()) and time.monotonic() - started < net.TIMEOUT:
        for fd, _ in poll.poll(1):
            shakes[fd].read()
            if shakes[fd].verdict is not None:
                poll.unregister(fd)
    made = sum(shake.verdict is True for shake in shakes.values())
    print(json.dumps({"made": made, "failed": count - made, "seconds": time.monotonic() - started}), flush=True)


class Stormer:
    """One client: its session, and the connection that is being made or is there. A refusal is followed by a pause of 0.1 to 0.2 s, as the program's own client has it."""

    def __init__(self, addr, keys, context, keylog):
        self.addr, self.keys, self.context, self.keylog = addr, keys, context, keylog
        self.secret, self.session, self.received = None, None, 0
        self.sock, self.bound = None, True

    def dial(self, poll, anew):
        self.anew = anew or self.secret is None
        self.bound, self.up, self.out, self.inbox, self.first = False, False, b"", b"", b""
        self.incoming, self.outgoing, self.tls = ssl.MemoryBIO(), ssl.MemoryBIO(), None
        self.sock = socket.socket(net.family_of(self.addr[0]), socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.connect_ex(self.addr)
        poll.register(self.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def cut(self, poll):
        poll.unregister(self.sock.fileno())
        net.rst(self.sock)

    def begin(self):
        self.up = True
        if self.context:
            self.tls = self.context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
            self.shake()
        else:
            self.say()

    def shake(self):
        try:
            self.tls.do_handshake()
            self.say()
        except ssl.SSLWantReadError:
            pass
        self.out += self.outgoing.read()

    def say(self):
        self.hello = v2wire.hello(agent=b"storm", caps=RESUME)
        self.put(v2wire.frame(v2wire.HELLO, 0, self.hello))
        self.said = True

    def put(self, words):
        if self.tls:
            self.tls.write(words)
            words = self.outgoing.read()
        self.out += words

    def go_on(self, answer):
        """Behind HELLO_OK."""
        frame, exporter = v2wire.frame, self.keylog.exporter(self.first, self.tls) if self.tls else None
        channel = v2wire.Channel(self.hello, answer, exporter)
        if self.anew:
            self.received, self.coming = 0, channel.secret(self.keys)
            self.put(frame(v2wire.AUTH, 0, v2wire.auth(self.keys, channel)) + frame(v2wire.BIND, 0, v2wire.bind()))
            return
        proof = channel.join_proof(self.secret, self.session, 0, RESUME, self.received)
        self.put(frame(v2wire.JOIN, 0, v2wire.join(self.session, 0, RESUME, self.received, channel.bound, proof)))

    said = False

    def event(self, poll):
        """Goes on; raises OSError when the connection failed."""
        if not self.up:
            error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, "connect")
            self.begin()
        try:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "end of the connection")
            self.take(data)
        except BlockingIOError:
            pass
        if self.out:
            self.first = self.first or self.out
            self.out = self.out[self.sock.send(self.out):]
            if not self.out:
                poll.modify(self.sock.fileno(), select.EPOLLIN)

    def take(self, data):
        if self.tls:
            self.incoming.write(data)
            if not self.said:
                self.shake()
            data = b""
            try:
                while self.said:
                    data += self.tls.read(65536)
            except ssl.SSLWantReadError:
                pass
        self.inbox += data
        while len(self.inbox) >= v2wire.HEADER.size:
            size = v2wire.HEADER.size + v2wire.HEADER.unpack_from(self.inbox)[4]
            if len(self.inbox) < size:
                break
            self.frame(self.inbox[:size])
            self.inbox = self.inbox[size:]

    def frame(self, frame):
        kind, payload = frame[1], frame[v2wire.HEADER.size:]
        if kind == v2wire.GOAWAY:
            self.secret = None
            raise ConnectionResetError(errno.ECONNRESET, "GOAWAY")
        if kind not in (v2wire.HELLO_OK, v2wire.JOIN_OK):
            self.received += len(frame)
        if kind == v2wire.HELLO_OK:
            self.go_on(payload)
        elif kind == v2wire.AUTH_OK:
            self.session, self.secret = struct.unpack_from(">Q", payload, 50)[0], self.coming
        elif kind in (v2wire.BIND_OK, v2wire.JOIN_OK):
            self.bound = True


RESUME = 1  # of HELLO's abilities, and of JOIN's flags


class Storm:
    def __init__(self, addr, count, token, ca):
        context = ssl.create_default_context(cafile=ca) if ca else None
        keylog = tlspipe.KeyLog(f"keylog-{os.getpid()}", context) if ca else None
        self.poll = select.epoll()
        self.all = [Stormer(addr, v2wire.Keys(token), context, keylog) for _ in range(count)]
        self.by_fd = {}

    def come(self, anew):
        """All of them, at once; returns (seconds, connections that were tried)."""
        for stormer in self.by_fd.values():
            stormer.cut(self.poll)
        self.by_fd = {}
        started, tries, later = time.monotonic(), 0, [(0, index) for index in range(len(self.all))]
        waiting = len(self.all)
        while waiting:
            while later and later[0][0] <= time.monotonic():
                stormer = self.all[heapq.heappop(later)[1]]
                stormer.said = False
                stormer.dial(self.poll, anew)
                self.by_fd[stormer.sock.fileno()] = stormer
                tries += 1
            for fd, _ in self.poll.poll(0.01):
                stormer = self.by_fd[fd]
                before = stormer.bound
                try:
                    stormer.event(self.poll)
                    waiting -= stormer.bound and not before
                except OSError:
                    stormer.cut(self.poll)
                    del self.by_fd[fd]
                    waiting += before
                    heapq.heappush(later, (time.monotonic() + random.uniform(0.1, 0.2), self.all.index(stormer)))
            if time.monotonic() - started > net.TIMEOUT:
                raise net.NetError(f"{waiting} of {len(self.all)} clients are not back")
        return time.monotonic() - started, tries


def run_storm(addr, count, token, ca):
    storm = Storm(addr, count, token.encode(), ca)
    storm.come(True)
    print(f"bound {count}", flush=True)
    for line in sys.stdin:
        seconds, tries = storm.come(line.strip() == "login")
        print(json.dumps({"seconds": seconds, "tries": tries}), flush=True)


def main(argv):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    net.set_time_factor(5)
    if argv[0] == "origin":
        run_origin()
    elif argv[0] == "handshakes":
        run_handshakes(net.parse_addr(argv[1]), int(argv[2]), argv[3])
    elif argv[0] == "storm":
        run_storm(net.parse_addr(argv[1]), int(argv[2]), argv[3], argv[4] if len(argv) > 4 else None)
    else:
        run_visitors(net.parse_addr(argv[1]), int(argv[2]), argv[3])


if __name__ == "__main__":
    main(sys.argv[1:])
