"""Tests of the floors as relays: bytes both ways, half-close, resets, a peer that is not there, and
nothing kept of those who left.

    test_floors.py FOLDER        where floor_ring, floor_plain and floor_splice are
"""

import os
import socket
import struct
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from runner.procs import Process, free_port, is_listening, stop_all, wait_listening  # noqa: E402

HOST = "127.0.0.1"
LIMIT = 20


def read_all(sock):
    parts = []
    while True:
        part = sock.recv(1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def until_end(sock):
    """Reads until the end, of whichever kind."""
    try:
        read_all(sock)
    except ConnectionError:
        pass


class Relay:
    """The tests; a subclass below for each program."""

    program = None

    def setUp(self):
        self.origin = socket.create_server((HOST, 0), backlog=64)
        self.origin.settimeout(LIMIT)
        self.addCleanup(self.origin.close)
        self.port = free_port()
        self.log = tempfile.NamedTemporaryFile()
        self.addCleanup(self.log.close)
        ends = ["--listen", f"{HOST}:{self.port}", "--to", "%s:%d" % self.origin.getsockname()]
        self.process = Process(
            [os.path.join(os.environ["BENCH_PROGRAMS"], self.program), *ends], self.log.name
        )
        self.addCleanup(self.process.stop)
        wait_listening(self.port, [self.process])
        self.idle = self.open_files()

    def visit(self):
        visitor = socket.create_connection((HOST, self.port), LIMIT)
        self.addCleanup(visitor.close)
        return visitor

    def pair(self):
        visitor = self.visit()
        served, _ = self.origin.accept()
        served.settimeout(LIMIT)
        self.addCleanup(served.close)
        return visitor, served

    def open_files(self):
        """Sockets alone: the splice floor keeps pipes for the next."""
        links = f"/proc/{self.process.pid}/fd"
        return sum(self.is_socket(os.path.join(links, name)) for name in os.listdir(links))

    @staticmethod
    def is_socket(link):
        try:
            return os.readlink(link).startswith("socket:")
        except FileNotFoundError:
            return False  # closed meanwhile

    def wait_idle(self):
        deadline = time.monotonic() + LIMIT
        while self.open_files() != self.idle and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual(self.open_files(), self.idle)

    def carry(self, source, sink, data, pause=0.0):
        """Sends data and the end of it from one to the other, whose reader begins after a pause."""
        sender = threading.Thread(
            target=lambda: (source.sendall(data), source.shutdown(socket.SHUT_WR))
        )
        sender.start()
        try:
            time.sleep(pause)
            return read_all(sink)
        finally:
            sender.join(LIMIT)

    def test_bytes_and_half_close_both_ways(self):
        data = os.urandom(9_999_991)
        visitor, served = self.pair()
        self.assertTrue(self.carry(visitor, served, data) == data)
        self.assertTrue(self.carry(served, visitor, data[::-1]) == data[::-1])
        self.wait_idle()

    def test_the_origin_may_end_first(self):
        visitor, served = self.pair()
        self.assertEqual(self.carry(served, visitor, b"bye"), b"bye")
        self.assertEqual(self.carry(visitor, served, b"still here"), b"still here")
        self.wait_idle()

    def test_a_reader_that_pauses_loses_nothing(self):
        data = os.urandom(24 << 20)
        visitor, served = self.pair()
        self.assertTrue(self.carry(visitor, served, data, pause=0.3) == data)

    def test_a_reset_ends_the_other_side_and_frees_the_pair(self):
        for first in (0, 1):
            ends = self.pair()
            ends[0].sendall(b"x")
            self.assertEqual(ends[1].recv(1), b"x")
            reset(ends[first])
            until_end(ends[1 - first])
            self.wait_idle()

    def test_a_reset_amid_bulk(self):
        for first in (0, 1):
            ends = self.pair()
            ends[first].settimeout(0.2)
            try:
                for _ in range(256):
                    ends[first].sendall(bytes(1 << 20))
            except TimeoutError:
                pass  # all is full
            reset(ends[first])
            until_end(ends[1 - first])
            self.wait_idle()

    def test_no_origin(self):
        self.origin.close()
        until_end(self.visit())
        self.wait_idle()

    def test_many_at_once_and_again(self):
        for _ in range(3):
            pairs = [self.pair() for _ in range(40)]
            for number, (visitor, served) in enumerate(pairs):
                visitor.sendall(b"%d" % number)
                self.assertEqual(served.recv(9), b"%d" % number)
            for visitor, served in pairs:
                visitor.close()
                served.close()
            self.wait_idle()
        self.assertTrue(self.process.alive() and is_listening(self.port))


class Ring(Relay, unittest.TestCase):
    program = "floor_ring"


class Plain(Relay, unittest.TestCase):
    program = "floor_plain"


class Splice(Relay, unittest.TestCase):
    program = "floor_splice"


if __name__ == "__main__":
    os.environ["BENCH_PROGRAMS"] = sys.argv.pop(1)
    try:
        unittest.main()
    finally:
        stop_all()
