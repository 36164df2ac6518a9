"""tokens: a server reads its file of tokens again on SIGHUP: who may log in, and whose session ends."""
import os
import re
import signal
import struct

import net
import v1peer
import v2wire
from harness import case, check, check_equal

V2_ONLY = {"v1": "a rule of v2"}
READ_AGAIN = r"INFO  server: tokens read again: "


def ask(addr):
    """One echo through a tunnel."""
    with net.connect(addr) as sock:
        sock.sendall(b"hello")
        check_equal(net.recv_exact(sock, 5), b"hello", "echo")


class Tokens:
    """A file of tokens, and a server that has read it."""

    def __init__(self, t, names, *flags, **options):
        self.t = t
        self.path = t.dir / "tokens"
        self.write(names)
        self.server = t.server("--token-file", self.path, *flags, token=None, **options)
        self.times = 0

    def of(self, name):
        return f"{self.t.token}-{name}"

    def write(self, names):
        """Whole or not at all, as an administrator should."""
        new = self.t.write("tokens.new", "".join(f"{self.of(name)}\n" if name else "\n" for name in names), 0o600)
        os.replace(new, self.path)

    def again(self, names, says):
        """Other tokens; waits until the server says `says` of them."""
        self.write(names)
        self.server.send(signal.SIGHUP)
        self.times += 1
        self.server.expect(READ_AGAIN, stream="err", count=self.times)
        said = re.findall(READ_AGAIN + "(.*)", self.server.err)[-1]
        check(re.fullmatch(says, said), f"{said!r}, expected {says!r}")

    def client(self, name, origin, *flags, **options):
        return self.t.client(self.server, origin, *flags, token=self.of(name), **options)

    def refused(self, client):
        """The client ends because its token is refused, and soon."""
        client.want = (5,)
        check_equal(client.wait(), 5, f"exit status of the {client.name}")
        check("the server refused the token: authentication failed" in client.err, client.last_words())


@case()
def tokens_come_and_go(t):
    """A new token can log in, one that is gone ends its session and that client with status 5, and
    one that stands in another line now does not mind: neither its streams, nor its port afterwards."""
    tokens = Tokens(t, ["gone", "stays"])
    origin = t.origin(net.echo)
    gone, stays = tokens.client("gone", origin), tokens.client("stays", origin)
    t.lanes_up(tokens.server)
    early = tokens.client("new", origin, wait=False)
    tokens.refused(early)
    visitors = [net.connect(client.addr) for client in [gone] * 6 + [stays] * 6]
    for sock in visitors:
        sock.sendall(b"x")
        check_equal(net.recv_exact(sock, 1), b"x", "echo")
    tokens.again(["new", "", "stays", "new"], r"2, 1 new, 1 gone \(1 sessions end\)")
    for sock in visitors[:6]:
        check(net.end_of(sock) in ("reset", "eof"), "a visitor of the token that is gone was kept")
    tokens.refused(gone)
    if not t.mode.v1:
        check("the server says: the token is not accepted any more" in gone.err, gone.err[-500:])
    tries = tokens.server.err.count("authentication failed")
    check(tries <= 4, f"{tries} log-ins were refused")
    t.until(lambda: net.connect_refused(gone.addr), "the port of the session that ended to be closed")
    for sock in visitors[6:]:
        sock.sendall(b"y")
        check_equal(net.recv_exact(sock, 1), b"y", "echo of the token that stays")
        sock.close()
    ask(tokens.client("new", origin).addr)
    ask(stays.addr)
    check_equal(stays.out.count("ready:"), 1, "ready lines of the client whose token stays")
    stays.stop()
    again = tokens.client("stays", origin)
    if not t.mode.v1:  # v1 has no identity
        check_equal(again.addr, stays.addr, "address of the client that comes again")
    ask(again.addr)
    tokens.again(["stays", "gone"], r"2, 1 new, 1 gone \(1 sessions end\)")
    ask(tokens.client("gone", origin).addr)
    t.until(lambda: len([c for c in t.procs if c.name.startswith("client") and c.running()]) == 2, "the new one to end")
    for client in t.procs:
        if client.name.startswith("client") and not client.running() and client.popen.returncode == 5:
            client.want = (5,)


@case()
def tokens_that_cannot_be_read(t):
    """A file that is damaged, empty, not there, or no file any more changes nothing, whatever it is:
    the log says what is wrong with which line. The default token does not come in its place."""
    tokens = Tokens(t, ["one", "two"])
    origin = t.origin(net.echo)
    client = tokens.client("two", origin)
    sock = net.connect(client.addr)
    sock.sendall(b"x")
    check_equal(net.recv_exact(sock, 1), b"x", "echo")
    path = tokens.path

    def fifo():
        os.mkfifo(path)
    damages = [
        (lambda: path.write_text(""), "the token is empty; it needs at least one character"),
        (lambda: path.write_text(f"{tokens.of('one')}\n\0\n"), "line 2: the token is nothing but white space"),
        (lambda: path.write_text("a\nb\n" + "c" * 1001 + "\n"), "line 3: the token is longer than 1000 bytes; use a shorter one"),
        (lambda: None, "No such file or directory"),
        (path.mkdir, "is no regular file any more; put one there"),
        (fifo, "is no regular file any more; put one there"),
    ]
    for damage, why in damages:
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        damage()
        tokens.server.send(signal.SIGHUP)
        tokens.server.expect(rf"ERROR server: tokens not read again, those in use stay: .*{re.escape(why)}.*{re.escape(str(path))}",
                             stream="err")
        sock.sendall(b"y")
        check_equal(net.recv_exact(sock, 1), b"y", "echo")
    one = tokens.client("one", origin)
    ask(one.addr)
    tokens.refused(t.client(tokens.server, origin, token="dev-token", wait=False))
    path.unlink()
    tokens.again(["two"], r"1, 0 new, 1 gone \(1 sessions end\)")
    tokens.refused(one)
    sock.sendall(b"z")
    check_equal(net.recv_exact(sock, 1), b"z", "echo")
    sock.close()
    for client in t.procs:
        if client.name.startswith("client") and client is not t.procs[1]:
            client.want = (5,)


@case()
def tokens_of_a_pipe(t):
    """What came through a pipe cannot be read again: one line says so, and the tokens stay."""
    read, write = os.pipe()
    os.write(write, f"{t.token}\n".encode())
    os.close(write)
    server = t.server("--token-file", f"/dev/fd/{read}", token=None, pass_fds=[read])
    os.close(read)
    client = t.client(server, t.origin(net.echo))
    server.send(signal.SIGHUP)
    server.expect(r"WARN  server: tokens not read again: --token-file '/dev/fd/\d+' is no regular file", stream="err")
    ask(client.addr)
    ask(t.client(server, t.origin(net.echo)).addr)


@case(not_in=V2_ONLY)
def tokens_gone_and_resume(t):
    """A session that waits for its client ends as well when its token is gone: nobody brings its
    lane back, and its visitor is reset at once, not when the grace time is over."""
    tokens = Tokens(t, ["gone", "stays"], "--grace", "10m")
    wire = v2wire.client_wire(tokens.server.addr)
    port, = v2wire.log_in(wire, tokens.of("gone").encode(), caps=v2wire.RESUME)
    other = v2wire.client_wire(tokens.server.addr)
    v2wire.log_in(other, tokens.of("stays").encode(), upto=v2wire.AUTH, caps=v2wire.RESUME)
    other.send(v2wire.BIND, 0, v2wire.bind())
    count = 2 * v2wire.HEADER.size + len(other.auth_ok) + len(other.expect(v2wire.BIND_OK)[2])
    visitor = net.connect((tokens.server.host, port))
    wire.expect(v2wire.OPEN)
    for lost in (wire, other):
        net.rst(lost.sock)
    tokens.server.expect("lost: ", stream="err", count=2)
    tokens.again(["stays"], r"1, 0 new, 1 gone \(1 sessions end\)")
    check(net.end_of(visitor) in ("reset", "eof"), "the visitor was kept")
    for of, code in ((wire, 48), (other, None)):
        back = v2wire.client_wire(tokens.server.addr)
        v2wire.say_join(back, of, 0, v2wire.RESUME, count)
        kind, _, _, payload = back.recv()
        if code is None:
            check_equal(kind, v2wire.JOIN_OK, "the answer to JOIN of a session whose token stays")
        else:
            check_equal((kind, struct.unpack_from(">H", payload)[0]), (v2wire.GOAWAY, code), "the answer to JOIN")
        back.close()
    again = v2wire.client_wire(tokens.server.addr)
    v2wire.greet(again)
    again.send(v2wire.AUTH, 0, v2wire.auth(v2wire.Keys(tokens.of("gone").encode()), again.channel))
    check_equal(again.expect(v2wire.AUTH_ERR)[2][:2], b"\0\x25", "code of AUTH_ERR")


@case(deadline=240)
def tokens_flicker(t):
    """A token comes and goes while clients log in with it as fast as they can: when it is gone none
    of them has a session."""
    tokens = Tokens(t, ["stays"], "--max-unauthenticated", "4096")
    token, over, held = tokens.of("flickers").encode(), [], []

    def log_in():
        if t.mode.v1:
            wire = v1peer.client_wire(tokens.server.addr)
            held.append(wire)
            v1peer.log_in(wire, token)
        else:
            wire = v2wire.client_wire(tokens.server.addr)
            held.append(wire)
            v2wire.log_in(wire, token, upto=v2wire.AUTH)

    def storm():
        done = 0
        while not over:
            try:
                log_in()
                done += 1
            except (OSError, net.NetError, v1peer.ProtocolError, v2wire.ProtocolError):
                pass
        return done
    tasks = [net.Task(storm) for _ in range(3)]
    def knocks(wanted):
        """One more log-in; whether the server says `wanted` to it."""
        try:
            log_in()
            return wanted
        except (OSError, net.NetError, v1peer.ProtocolError, v2wire.ProtocolError):
            return not wanted
    for _ in range(t.size(12, 4, 60)):
        for names, known in ((["stays", "flickers"], True), (["stays"], False)):
            tokens.write(names)
            tokens.server.send(signal.SIGHUP)
            t.until(lambda: knocks(known), f"the token to be known: {known}")  # noqa: B023
    over.append(True)
    done = sum(task.join_result() for task in tasks)
    t.note = f"{done} log-ins"
    check(done > 0 and "(0 sessions end)" in tokens.server.err, t.note)
    for wire in held:
        check(net.end_of(wire.sock) in ("eof", "reset"), "a session without a token was kept")
    tokens.server.send(signal.SIGUSR1)
    said = tokens.server.expect(r"^worker \d+: phase 0, streams \d+, stream ids \d+, lanes \d+, sessions (\d+)", stream="err",
                                count=t.mode.workers)
    check_equal([line.group(1) for line in said], ["0"] * t.mode.workers, "sessions of each worker")
