"""tlspipe: TLS for the tests' own peers, behind a plain socket.

Python's TLS sockets may not be used by two threads at once, cannot peek and cannot be reset, and the peers of the tests do all three. So the
handshake is made on the real connection, and then a thread carries bytes between it and one end of a fresh loopback connection; the
peer uses the other end as if there were no TLS. FIN becomes close_notify and FIN, RST becomes RST without close_notify; the same
the other way round, but that an end without close_notify (a truncation) arrives as RST.
"""
import hashlib
import hmac
import os
import select
import socket
import ssl
import struct
import threading
import weakref

import net

CHUNK = 1 << 16
RANDOM_AT = 5 + 4 + 2  # of a ClientHello, in its record


def client_context(ca, newest=None, oldest=None):
    """Verifies against a CA file. `newest`: no TLS version beyond, such as ssl.TLSVersion.TLSv1_2."""
    context = ssl.create_default_context(cafile=str(ca))
    if newest:
        context.maximum_version = newest
    if oldest:
        context.minimum_version = oldest
    return context


def server_context(cert, key, client_ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(cert), str(key))
    if client_ca:
        context.load_verify_locations(str(client_ca))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def expand_label(name, secret, label, context, size):
    """HKDF-Expand-Label (RFC 8446, 7.1), for as much as one block gives."""
    label = b"tls13 " + label
    info = struct.pack(">HB", size, len(label)) + label + bytes([len(context)]) + context
    return hmac.new(secret, info + b"\1", name).digest()[:size]


def exporter_of(secret, cipher):
    """The channel binding of RFC 9266 from the exporter's secret (RFC 8446, 7.5)."""
    name = "sha384" if cipher.endswith("SHA384") else "sha256"
    empty = hashlib.new(name).digest()
    derived = expand_label(name, secret, b"EXPORTER-Channel-Binding", empty, len(empty))
    return expand_label(name, derived, b"exporter", empty, 32)


class KeyLog:
    """Exporters of this process's connections: a key log that is read on, and names them by the client's random."""

    def __init__(self, path, *contexts):
        self.path, self.secrets, self.at = str(path), {}, 0
        for context in contexts:
            context.keylog_filename = self.path

    def exporter(self, hello, tls):
        """`hello`: the client's first bytes. None under TLS 1.2."""
        random = hello[RANDOM_AT:RANDOM_AT + 32].hex()
        if random not in self.secrets:
            with open(self.path, encoding="ascii") as file:
                file.seek(self.at)
                whole = file.read().rpartition("\n")[0]  # another connection may be in the middle of its line
                self.secrets.update(line.split()[1:] for line in whole.splitlines() if line.startswith("EXPORTER_SECRET "))
                self.at += len(whole) + 1 if whole else 0
        secret = self.secrets.get(random)
        return exporter_of(bytes.fromhex(secret), tls.cipher()[0]) if secret else None


def loopback_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return near, far


class Pipe(threading.Thread):
    """Bytes between `plain` and the TLS connection `real`, whose handshake `shake` makes."""

    def __init__(self, real, context, server_side, name):
        super().__init__(daemon=True)
        self.real, self.plain = real, None
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server_side, server_hostname=name)
        self.hello = b""  # the client's first bytes
        self.server_side = server_side
        self.to_plain, self.to_real = b"", b""
        self.plain_ended = self.real_ended = False

    def shake(self):
        """Blocks, within the socket's time-out. An error of TLS or of the connection is the caller's."""
        while True:
            try:
                self.tls.do_handshake()
                self.say(self.outgoing.read())
                return
            except ssl.SSLWantReadError:
                self.say(self.outgoing.read())
            except ssl.SSLError:
                self.say(self.outgoing.read())  # the alert
                raise
            data = self.real.recv(CHUNK)
            if not data:
                raise ConnectionResetError("the connection ended during the TLS handshake")
            self.note_hello(data, self.server_side)
            self.incoming.write(data)

    def say(self, data):
        self.note_hello(data, not self.server_side)
        self.real.sendall(data)

    def note_hello(self, data, of_client):
        if of_client and len(self.hello) < RANDOM_AT + 32:
            self.hello += data

    def run(self):
        try:
            self.real.setblocking(False)
            self.plain.setblocking(False)
            self.decrypt()
            while not (self.plain_ended and self.real_ended and not self.to_plain and not self.to_real):
                self.turn()
            self.close()
        except (OSError, ssl.SSLError):
            for sock in (self.real, self.plain):
                try:
                    net.rst(sock)
                except OSError:
                    pass

    def close(self):
        self.real.close()
        self.plain.close()

    def turn(self):
        reads = [sock for sock, ended, waits in ((self.real, self.real_ended, self.to_plain),
                                                 (self.plain, self.plain_ended, self.to_real)) if not ended and not waits]
        writes = [sock for sock, waits in ((self.real, self.to_real), (self.plain, self.to_plain)) if waits]
        readable, writable, _ = select.select(reads, writes, [])
        if self.real in readable:
            data = self.real.recv(CHUNK)
            self.incoming.write(data) if data else self.incoming.write_eof()
            self.decrypt()
        if self.plain in readable:
            self.encrypt(self.plain.recv(CHUNK))
        if self.real in writable:
            self.to_real = self.flush(self.real, self.to_real, self.plain_ended)
        if self.plain in writable:
            self.to_plain = self.flush(self.plain, self.to_plain, self.real_ended)

    @staticmethod
    def flush(sock, data, last):
        data = data[sock.send(data):]
        if last and not data:
            sock.shutdown(socket.SHUT_WR)
        return data

    def encrypt(self, data):
        if data:
            self.tls.write(data)
        else:
            self.plain_ended = True
            try:
                self.tls.unwrap()
            except ssl.SSLError:
                pass  # close_notify is out; the peer's comes later, or data before it
        self.to_real += self.outgoing.read()

    def decrypt(self):
        """Takes all that can be opened. What remains unsaid (KeyUpdate) leaves with the next turn."""
        while True:
            try:
                data = self.tls.read(CHUNK)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLEOFError as error:
                raise ConnectionResetError("truncated") from error
            if not data:
                self.real_ended = True
                if not self.to_plain:
                    self.plain.shutdown(socket.SHUT_WR)
                break
            self.to_plain += data
        self.to_real += self.outgoing.read()


def wrap(real, context, server_side=False, name=None):
    """Makes the handshake and returns the plain socket. `tls` of the socket's pipe has version, cipher and certificate."""
    pipe = Pipe(real, context, server_side, name)
    try:
        pipe.shake()
    except (OSError, ssl.SSLError):
        real.close()
        raise
    near, pipe.plain = loopback_pair()
    near.settimeout(net.TIMEOUT)
    pipe.start()
    return near, pipe


class Lanes:
    """What net.lane_connect, net.lane_accepted and net.lane_exporter use in a TLS mode."""

    def __init__(self, directory):
        self.client = client_context(os.path.join(directory, "ca.pem"))
        self.server = server_context(os.path.join(directory, "server.pem"), os.path.join(directory, "server.key"))
        self.keylog = KeyLog(os.path.join(directory, f"keylog-{os.getpid()}"), self.client, self.server)
        self.exporters = weakref.WeakKeyDictionary()

    def keep(self, wrapped):
        sock, pipe = wrapped
        self.exporters[sock] = self.keylog.exporter(pipe.hello, pipe.tls)
        return sock

    def connect(self, addr, **options):
        return self.keep(wrap(net.connect(addr, **options), self.client, name=addr[0]))

    def accepted(self, sock):
        return self.keep(wrap(sock, self.server, server_side=True))

    def exporter(self, sock):
        return self.exporters.get(sock)
