"""log: who reads what server and client say is not their business. A pipe that nobody reads, a disk
that is full, a flood of events: all goes on, all ends, and what was not written is counted."""
import collections
import contextlib
import fcntl
import os
import re
import select
import signal
import threading
import time

import net
import v1peer
import v2wire
from harness import case, check, check_equal, small_disk

F_SETPIPE_SZ = 1031
SOON = 15  # seconds within which everything ends that does not wait for a reader, on a busy machine


class Reader:
    """A pipe in place of a descriptor of a program, full to the brim; `read` makes it a pipe that
    is read."""

    def __init__(self, t, number, size=4096):
        self.path = t.dir / t.unique(f"pipe{number}")
        os.mkfifo(self.path)
        self.fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self.fd, F_SETPIPE_SZ, size)
        self.text, self.filling = "", b""
        while select.select([], [self.fd], [], 0)[1]:
            self.filling += b"." * os.write(self.fd, b"." * 4096)
        self.under = ["sh", "-c", f'exec "$@" {number}>"$0"', self.path]

    def read(self):
        """All that has come, without what it was full of."""
        while select.select([self.fd], [], [], 0)[0]:
            self.text += os.read(self.fd, 65536).decode()
        return self.text.lstrip(".")


@contextlib.contextmanager
def read_all_the_time(*pipes):
    """Who ends finds readers, however long his queue."""
    over = threading.Event()

    def follow(pipe):
        while not over.is_set():
            select.select([pipe.fd], [], [], 0.1)
            pipe.read()
    tasks = [net.Task(follow, pipe) for pipe in pipes]
    try:
        yield
    finally:
        over.set()
        for task in tasks:
            task.join_result()


def pending(proc, number):
    """Whether a signal to the process has not been taken yet."""
    with open(f"/proc/{proc.pid}/status", encoding="ascii") as file:
        return int(re.search(r"^ShdPnd:\s+(\w+)", file.read(), re.M).group(1), 16) >> (number - 1) & 1


def signal_taken(t, proc, number):
    proc.send(number)
    t.until(lambda: not pending(proc, number), f"{proc.name} to take signal {number}", SOON * t.factor)


def stuck_pair(t, number, *flags):
    """A server and a client that nobody hears on a descriptor, with an echo behind them."""
    pipes = [Reader(t, number), Reader(t, number)]
    return *silent_pair(t, [pipe.under for pipe in pipes], *flags), pipes


def listens(t, server):
    """Waits for a server that cannot say so."""
    def answers():
        try:
            net.connect(server.addr).close()
            return True
        except ConnectionRefusedError:
            check(server.running(), f"the server ended: {server.last_words()}")
            return False
    t.until(answers, "the server to listen")


def silent_pair(t, under, *flags):
    """They work, though they cannot say so."""
    server = t.server(*flags, wait=False, under=under[0])

    listens(t, server)
    client = t.client(server, t.origin(net.echo), *flags, wait=False, under=under[1])
    client.addr = (server.host, server.start_port)
    works(t, client.addr)
    return server, client


def works(t, addr):
    """Waits for the tunnel, and for a visitor to get its echo there."""
    def answers():
        try:
            with net.connect(addr) as sock:
                sock.settimeout(5)
                sock.sendall(b"?")
                return sock.recv(1) == b"?"
        except OSError:
            return False
    t.until(answers, "an echo through the tunnel")


def stream(addr, seed, size=1 << 20):
    """Bytes of its own in both directions at once, and back from the echo."""
    with net.connect(addr) as sock:
        sending = net.Task(net.Pattern(seed).send, sock, size)
        got = net.Pattern(seed).recv(sock, size)
        check_equal(got, sending.join_result(), "checksum")


def ends_soon(t, *procs):
    for proc in procs:
        check_equal(proc.stop(timeout=SOON * t.factor), 0, f"exit status of the {proc.name}")


def stuck(t, number):
    """Everything that makes the two say something, while nobody listens."""
    server, client, pipes = stuck_pair(t, number)
    for turn in range(3):
        stream(client.addr, f"turn {turn}")
        for proc in (server, client):
            signal_taken(t, proc, signal.SIGUSR1)
            signal_taken(t, proc, signal.SIGHUP)
        third = t.client(server, t.origin(net.echo))
        stream(third.addr, f"third {turn}")
        third.stop()
    stream(client.addr, "last")
    return server, client, pipes


@case()
def log_nobody_reads(t):
    """Standard error is a full pipe: streams, log-ins, signals and the end do not mind."""
    server, client, pipes = stuck(t, 2)
    client.expect("^ready: ", timeout=SOON * t.factor)  # standard output is another matter
    ends_soon(t, client, server)
    for proc, pipe in ((server, pipes[0]), (client, pipes[1])):
        check("summary" in proc.out, f"no summary of the {proc.name}")
        check_equal(pipe.read(), "", "what came through a pipe that was full")


@case()
def log_nobody_reads_and_tokens_change(t):
    """Standard error is a full pipe, with more to be said than its queue holds: SIGHUP brings the tokens of the file into force."""
    pipe, path, token = Reader(t, 2), t.write("tokens", f"{t.token}\n", 0o600), f"{t.token}-new".encode()
    server = t.server("--token-file", path, token=None, wait=False, under=pipe.under)
    listens(t, server)
    for _ in range(600):
        signal_taken(t, server, signal.SIGUSR1)

    def logs_in():
        with contextlib.closing((v1peer if t.mode.v1 else v2wire).client_wire(server.addr)) as wire:
            try:
                if t.mode.v1:
                    v1peer.log_in(wire, token)
                else:
                    v2wire.log_in(wire, token, upto=v2wire.AUTH)
                return True
            except (OSError, net.NetError, v1peer.ProtocolError, v2wire.ProtocolError):
                return False
    check(not logs_in(), "a token of nobody logs in")
    t.write("tokens", f"{token.decode()}\n", 0o644)  # everyone can read it: that is said first
    signal_taken(t, server, signal.SIGHUP)
    t.until(logs_in, "the new token to log in")
    ends_soon(t, server)
    check_equal(pipe.read(), "", "what came through a pipe that was full")


@case()
def output_nobody_reads(t):
    """Standard output is a full pipe. The log on standard error goes on, and what waited comes when
    somebody reads."""
    server, client, pipes = stuck(t, 1)
    server.expect(r"logged in \(v", stream="err", count=4)
    ends_soon(t, client)
    t.until(lambda: re.search(r"^listening: \S+$", pipes[0].read(), re.M), "what the server said at its start")
    ends_soon(t, server)
    said = pipes[0].read()
    check(said.endswith("\n") and "\nsummary\n" in said, f"the server's last words: {said[-500:]}")


@case()
def log_read_again(t):
    """More is said than the queue holds. When somebody reads again, lines come whole and the number
    of those left out is said; and the end is quick."""
    server, client, pipes = stuck_pair(t, 2)
    for _ in range(1500):  # each of some hundred bytes at the least
        for proc in (server, client):
            signal_taken(t, proc, signal.SIGUSR1)
    for proc, pipe in ((server, pipes[0]), (client, pipes[1])):
        said = re.compile(r"^\S+Z WARN  culvert: standard error was not read fast enough: ([1-9]\d+) lines were left out$", re.M)

        def told(pipe=pipe, proc=proc):
            signal_taken(t, proc, signal.SIGUSR1)
            return said.search(pipe.read())
        t.until(told, f"the number of lines that {proc.name} left out")
        for line in pipe.read().splitlines():
            check(re.match(r"\S+Z (ERROR|WARN |INFO |DEBUG) \S|worker \d+: phase|  ring: |  \d+ \S|$", line), f"half a line: {line!r}")
    works(t, client.addr)
    with read_all_the_time(*pipes):
        ends_soon(t, client, server)
    check("stopping" in pipes[0].read() and "stopping" in pipes[1].read(), "the end was not said")


@case()
def second_signal_with_a_stuck_log(t):
    """Ctrl+C twice, with a stream open and ten minutes to drain: it ends, whoever reads."""
    for number in (1, 2):
        flags = ["--drain-timeout", "10m"]
        server, client, _ = stuck_pair(t, number, *flags)
        with net.connect(client.addr) as sock:
            sock.sendall(b"x")
            check_equal(sock.recv(1), b"x", "echo")
            for proc in (client, server):
                proc.want = None
                signal_taken(t, proc, signal.SIGINT)
                if proc is client:
                    check(proc.running(), "the client did not wait for its stream")
                proc.send(signal.SIGINT)
                proc.wait(SOON * t.factor)


@case()
def log_disk_full(t):
    """The disk of the log is full, and then it is not: what was said meanwhile comes. One that
    stays full does not put off the end."""
    disk = small_disk(65536)
    (disk / "fill").write_bytes(bytes(65536))
    server = t.server(under=["sh", "-c", 'exec "$@" 2>"$0"', disk / "log"])
    client = t.client(server, t.origin(net.echo), under=["sh", "-c", 'exec "$@" 2>/dev/full', "sh"])
    stream(client.addr, "full")
    for proc in (server, client):
        signal_taken(t, proc, signal.SIGUSR1)
    check_equal((disk / "log").stat().st_size, 0, "bytes of the log on a full disk")
    (disk / "fill").unlink()

    def text():
        return (disk / "log").read_text(encoding="utf-8")
    t.until(lambda: "logged in" in text() and "streams opened" in text(), "what was said meanwhile")
    ends_soon(t, client, server)


# How much is said

def kinds_of(text):
    """Lines of the log by second and kind: what is left without numbers and addresses."""
    kinds = collections.Counter()
    for line in text.splitlines():
        when, _, what = line.partition(" ")
        kinds[when.partition(".")[0], re.sub(r"\(and .*? before this\)|[\d.:]+", "", what)] += 1
    return kinds


@case(not_in={"v1": "log-ins of the other wire are the same sites"}, deadline=240)
def flood_is_not_logged(t):
    """Log-ins, refused ones, refused visitors and strangers, as many as there can be for some
    seconds: a few lines each second, and all are counted."""
    server = t.server("--max-streams", "1", "--log-level", "info", "--max-unauthenticated", "2")
    client = t.client(server, t.origin(net.echo))
    held = net.connect(client.addr)
    held.sendall(b"x")
    net.recv_exact(held, 1)
    until = time.monotonic() + 6 * t.factor
    counts = collections.Counter()

    def flood(kind, action):
        while time.monotonic() < until:
            try:
                action()
            except (OSError, net.NetError, v2wire.ProtocolError):
                counts["refused"] += 1
            counts[kind] += 1

    def log_in(token):
        wire = v2wire.client_wire(server.addr, timeout=20)
        try:
            v2wire.log_in(wire, token, upto=v2wire.AUTH)
        finally:
            wire.close()

    def visit():
        with net.connect(client.addr) as sock:
            net.end_of(sock, timeout=0.2)  # another worker may take one

    def stranger():
        with net.connect(server.addr) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            net.end_of(sock, timeout=20)
    tasks = [net.Task(flood, kind, action) for kind, action in
             (("log-ins", lambda: log_in(t.token.encode())), ("bad log-ins", lambda: log_in(b"wrong")), ("visitors", visit),
              ("strangers", stranger)) for _ in range(2)]
    for task in tasks:
        task.join_result()
    held.close()
    client.stop()
    server.stop()
    check(min(counts.values()) > 30, f"no flood: {counts}")
    kinds = kinds_of(server.err)
    worst = kinds.most_common(1)[0]
    # five of one second and five of the next may fall into one
    check(worst[1] <= 10, f"{worst[1]} lines in a second: {worst[0]}")
    per_second = collections.Counter()
    for (second, _), count in kinds.items():
        per_second[second] += count
    t.note = f"{dict(counts)}: {len(server.err.splitlines())} lines, {max(per_second.values())} in a second"
    check(max(per_second.values()) <= 80, t.note)
    check(re.search(r"\((and \d+ more before|\d+ more like) this\)", server.err), "nothing was left out")


@case(needs=["prlimit"], waits=True, deadline=240)
def accepting_pauses_is_said_once(t):
    """Out of descriptors for more than ten seconds: the log says so, again after ten seconds with
    the number of pauses, and that it is over."""
    server = t.server(workers=1)
    t.run("prlimit", ["prlimit", "--pid", str(server.pid), "--nofile=64:64"])  # below what the server counts with
    client = t.client(server, t.origin(net.echo))
    socks = [net.connect(client.addr) for _ in range(90)]
    lines = server.expect(r"^(\S+)Z WARN  worker 0: accepting pauses: Too many open files.*$", stream="err", count=2)
    first, second = (line.group(1)[11:].split(":") for line in lines)
    apart = sum((float(b) - float(a)) * unit for a, b, unit in zip(first, second, (3600, 60, 1))) % 86400
    check(apart >= 9.9, f"said again after {apart:.1f} s")  # clocks of two kinds
    pauses = re.search(r"; (\d+) pauses since this was last said", lines[1].group())
    check(pauses and int(pauses.group(1)) > 10, lines[1].group())
    for sock in socks:
        net.rst(sock)
    server.expect(r"worker 0: accepting goes on, after [1-9]\d\.\d s$", stream="err")
    check(len(re.findall("accepting pauses", server.err)) <= 3, "said too often")
    works(t, client.addr)


@case(not_in={"plain": "there are no keys to log"})
def key_log_nobody_reads(t):
    """SSLKEYLOGFILE is a full pipe: lanes come up."""
    pipes = [Reader(t, "keys"), Reader(t, "keys")]
    envs = [{**os.environ, "SSLKEYLOGFILE": str(pipe.path)} for pipe in pipes]
    server = t.server(env=envs[0])
    client = t.client(server, t.origin(net.echo), env=envs[1])
    stream(client.addr, "keys")
    for proc in (server, client):
        proc.expect("key log file cannot be written", stream="err")
