"""limits: each is refused explicitly, logged, and harmless to what is within it; and the command line says what is wrong with it."""
import itertools
import os
import re
import shutil
import threading

import net
from harness import Skip, case, check, check_equal

MIB = 1 << 20


def answers(sock, timeout=20):
    """Whether an echo comes back, or how the connection ended: 'echo', 'eof' or 'reset'."""
    sock.settimeout(timeout)
    try:
        sock.sendall(b"?")
        return "echo" if sock.recv(1) == b"?" else "eof"
    except (ConnectionResetError, BrokenPipeError):
        return "reset"


@case()
def max_streams(t):
    """Visitors beyond --max-streams are reset at once; when others leave there is room again. The limit is per worker."""
    limit = 8
    addr = t.tunnel(t.origin(net.echo), server_flags=["--max-streams", limit])
    socks = [net.connect(addr) for _ in range(limit * t.mode.workers + 24)]
    seen = [answers(sock) for sock in socks]
    check(limit <= seen.count("echo") <= limit * t.mode.workers, f"{seen.count('echo')} visitors were let in")
    check_equal(seen.count("echo") + seen.count("reset"), len(socks), "visitors let in or reset")
    t.tunnel_server.expect("too many streams", stream="err")
    check(t.tunnel_server.err.count("too many streams") < 24, "each refusal was logged, not each burst")
    for sock, how in zip(socks, seen):
        if how == "echo":
            check_equal(answers(sock), "echo", "a visitor within the limit")
            net.rst(sock)  # a mere FIN would keep a v1 stream for a while

    def room():
        with net.connect(addr) as sock:
            return answers(sock) == "echo"
    t.until(room, "room after the others left")


@case()
def max_streams_of_the_client(t):
    """The client's own limit resets the visitor too."""
    limit = 4
    addr = t.tunnel(t.origin(net.echo), "--max-streams", limit)
    socks = [net.connect(addr) for _ in range(limit * t.mode.workers + 12)]
    seen = [answers(sock) for sock in socks]
    check(limit <= seen.count("echo") <= limit * t.mode.workers, f"{seen.count('echo')} visitors were let in")
    check_equal(seen.count("echo") + seen.count("reset") + seen.count("eof"), len(socks), "visitors let in or turned away")
    t.tunnel_client.expect("too many streams", stream="err")


@case()
def max_sessions(t):
    """A client beyond --max-sessions is told so; when another leaves it gets in."""
    server = t.server("--max-sessions", "2")
    origin = t.origin(net.echo)
    first, second = t.client(server, origin), t.client(server, origin)
    third = t.client(server, origin, "--reconnect-attempts", "1000", wait=False)
    server.expect("too many sessions", stream="err")
    third.expect("too many sessions|session was refused|closed by the peer", stream="err")
    check("ready:" not in third.out, "the third client is ready")
    for client in (first, second):
        with net.connect(client.addr) as sock:
            check_equal(answers(sock), "echo", "a client within the limit")
    first.stop()
    third.read_ready(1)


@case()
def max_lanes(t):
    """A client whose lane is beyond --max-lanes of the worker it comes to is told so; when the others leave it gets in."""
    limit = 2
    server = t.server("--max-lanes", limit, "--max-unauthenticated", "64")
    origin, inside = t.origin(net.echo), []
    while True:
        client = t.client(server, origin, *([] if t.mode.wire == "v1" else ["--lanes", "1"]),
                          "--reconnect-attempts", "1000", wait=False)
        t.until(lambda c=client: "ready:" in c.out or "too many lanes" in server.err, "a client to be let in or refused")
        if "ready:" not in client.out:
            break
        client.read_ready(1)
        inside.append(client)
        check(len(inside) <= limit * t.mode.workers, f"{len(inside)} clients of one lane each were let in")
    check(len(inside) >= limit, f"only {len(inside)} clients were let in")
    for other in inside:
        with net.connect(other.addr) as sock:
            check_equal(answers(sock), "echo", "a client within the limit")
    for other in inside:
        other.stop()
    client.read_ready(1)


@case()
def max_unauthenticated(t):
    """Of connections beyond --max-unauthenticated the oldest are closed; sessions go on, and a client gets in beside them."""
    limit = 4
    server = t.server("--max-unauthenticated", limit, "--handshake-timeout", "5m")
    client = t.client(server, t.origin(net.echo))
    idlers = [net.connect(server.addr) for _ in range(limit * t.mode.workers + 12)]
    for idler in idlers:
        idler.settimeout(0.2)
    kept = []

    def settled():
        kept[:] = [idler for idler in idlers if net.end_of(idler, timeout=0.05) == "timeout"]
        return len(kept) <= limit * t.mode.workers
    t.until(settled, "those beyond the limit to be closed")
    check(len(kept) >= limit, f"only {len(kept)} were kept")
    server.expect("too many.* that have not logged in", stream="err")
    with net.connect(client.addr) as sock:
        check_equal(answers(sock), "echo", "a session that stands")
    check(all(idler in kept for idler in idlers[-limit // 2:]), "the newest were closed")
    t.client(server, t.origin(net.echo))


# The command line

USAGE = [
    (["server", "--nonsense"], "nonsense"),
    (["server", "--start-port", "70000"], "start-port"),
    (["server", "--start-port", "abc"], "start-port"),
    (["server", "--start-port", "80"], "list it with --ports"),
    (["server", "--ports", "80,x"], "'x' is neither a port nor a range"),
    (["server", "--ports", "20-10"], "write 10-20"),
    (["server", "--ports", "80,443", "--start-port", "444"], "80,443"),
    (["server", "--addr", "1.2.3.4"], "addr"),
    (["server", "--workers", "-1"], "workers"),
    (["server", "--local", "127.0.0.1:1"], "local"),
    (["server", "--heartbeat", "10"], "heartbeat"),
    (["server", "--heartbeat", "10s", "--expiry", "5s"], "expiry"),
    (["server", "--public-addr", "nowhere"], "public-addr"),
    (["server", "--plain", "--tls-cert", "x", "--tls-key", "y"], "--plain"),
    (["server", "--plain", "--tls"], "--plain"),
    (["server", "--tls", "--tls-cert", "x"], "--tls-key"),
    (["server", "--tls", "--tls-pin", "sha256:00"], "tls-pin"),
    (["server", "stray"], "stray"),
    (["client"], "local"),
    (["client", "--local"], "local"),
    (["client", "--local", "127.0.0.1:0"], "local"),
    (["client", "--local", "127.0.0.1:99999"], "local"),
    (["client", "--local", "127.0.0.1:80", "--wire", "v3"], "wire"),
    (["client", "--local", "127.0.0.1:80", "--port", "1", "--port", "2"], "port"),
    (["client", "--local", "127.0.0.1:80", "--plain", "--tls-ca", "x"], "--plain"),
    (["client", "--local", "127.0.0.1:80", "--server", "192.0.2.1:1", "--token", "short"], "16 characters"),
    (["client", "--local", "127.0.0.1:80", "--server", "192.0.2.1:1"], "--token-file"),
    (["client", "--local", "127.0.0.1:80", "--tls", "--tls-ca", "x", "--tls-pin", "y"], "--tls-pin"),
    (["gen-cert", "--client", "x", "--name", "y"], "--client"),
    (["client", "--local", "127.0.0.1:80", "--token", ""], "token"),
    (["client", "--local", "127.0.0.1:80", "--start-port", "1"], "start-port"),
    (["sever"], "server"),
]


@case(not_in={"v1": "the wire does not matter", "v2-2w": "workers do not matter"})
def usage_errors(t):
    """Status 2, and the message names the flag."""
    for arguments, word in USAGE:
        proc = t.run("culvert", t.culvert_argv(*arguments), want=2, timeout=10 * t.factor)
        check(word in proc.err, f"{' '.join(arguments)}: '{word}' is not in: {proc.last_words()}")
        check_equal(proc.out, "", f"{' '.join(arguments)}: standard output")


@case(not_in={"v1": "the wire does not matter", "v2-2w": "workers do not matter"})
def help_and_version(t):
    """Help goes to standard output with status 0, for the program and each command; it names the flags."""
    for arguments, word in ((["help"], "server"), (["--help"], "server"), (["server", "--help"], "--start-port"),
                            (["client", "--help"], "--local"), (["help", "client"], "--token"), (["help", "exit-codes"], "5"),
                            (["version"], "culvert"), (["version", "--features"], "io_uring")):
        proc = t.run("culvert", t.culvert_argv(*arguments))
        check(word in proc.out, f"{' '.join(arguments)}: '{word}' is not in the output")


@case()
def cannot_start(t):
    """An address in use and a missing token file: status 3 and one sentence that says what to change."""
    server = t.server()
    second = t.server(addr=server.addr, wait=False)
    second.want = (3,)
    check_equal(second.wait(), 3, "exit status with an address in use")
    check(str(server.addr[1]) in second.err and re.search("in use", second.err), second.last_words())
    client = t.client(server, ("127.0.0.1", 1), "--token-file", str(t.dir / "missing"), token=None, wait=False)
    client.want = (3,)
    check_equal(client.wait(), 3, "exit status with a missing token file")
    check("missing" in client.err, client.last_words())


@case(needs=["setpriv", "prlimit"], not_in={"tls": "its keys are not an ordinary user's"}, deadline=300)
def smallest_rings(t):
    """Locked memory for no more than the smallest rings, at both ends: more happens at once than they hold, and nothing is lost."""
    if os.geteuid() != 0:
        raise Skip("needs users with accounts of their own")
    t.culvert = shutil.copy(t.culvert, t.dir / "culvert")
    limit = (44 * t.mode.workers + 12) * 1024
    under = [["prlimit", f"--memlock={limit}:{limit}", "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
             for uid in (200000 + os.getpid(), 300000 + os.getpid())]
    server = t.server(under=under[0])
    client = t.client(server, t.origin(net.echo), under=under[1])
    counted = "rings have 256 entries instead of 2048"
    check((counted in server.err) == (counted in client.err), "one of the two has other rings")
    t.note = "" if counted in server.err else "this kernel does not count rings"
    socks = [net.connect(client.addr) for _ in range(t.size(1500, 300))]
    for turn in range(4):
        net.exchange(socks, lambda i: b"%d in turn %d " % (i, turn) * 20)  # noqa: B023
    for sock in socks:
        net.rst(sock)
    with net.connect(client.addr) as sock:
        pattern = net.Pattern("rings").block(0)
        sender = threading.Thread(target=sock.sendall, args=(pattern,))
        sender.start()
        check(net.recv_exact(sock, len(pattern)) == pattern, "a mebibyte came back changed")
        sender.join()


def closing(numbers):
    """A program that runs another one without these of its standard descriptors."""
    return ["sh", "-c", 'exec "$@" ' + " ".join(f"{n}{'<>'[n > 0]}&-" for n in numbers), "sh"]


def visit(addr, data):
    """True when everything comes back, and nothing else is among it."""
    try:
        with net.connect(addr, timeout=5) as sock:
            sock.sendall(data)
            return net.recv_exact(sock, len(data)) == data
    except (OSError, net.NetError):
        return False


def complain(addr):
    """Makes the server log a line; what it answers to a stranger is a frame at most, and no text of its own."""
    with net.connect(addr, timeout=5) as sock:
        sock.sendall(b"\x07 no such version")
        try:
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        except ConnectionResetError:
            answer = b""
    check(b"WARN" not in answer and b"DEBUG" not in answer, f"the log went to a peer: {answer[:80]!r}")


@case()
def closed_descriptors(t):
    """Started without standard input, output or error, in all combinations: their numbers lead nowhere, and no peer gets what was meant for them."""
    origin = t.origin(net.echo)
    for numbers in itertools.chain.from_iterable(itertools.combinations((0, 1, 2), count) for count in range(4)):
        server = t.server(wait=False, under=closing(numbers))
        client = t.client(server, origin, "--port", str(server.start_port), wait=False, under=closing(numbers))
        data = b"to and fro " * 5000
        t.until(lambda: visit((server.host, server.start_port), data), f"a visitor, without {numbers}")  # noqa: B023
        for _ in range(8):
            complain(server.addr)
        for proc, n in itertools.product((server, client), numbers):
            check_equal(os.readlink(f"/proc/{proc.pid}/fd/{n}"), "/dev/null", f"descriptor {n} of the {proc.name}")
        check(visit((server.host, server.start_port), data), f"no visitor any more, without {numbers}")
        check_equal(client.stop(), 0, f"the client's end, without {numbers}")
        check_equal(server.stop(), 0, f"the server's end, without {numbers}")


@case(not_in={"v1": "the wire does not matter"})
def plain_command_is_client(t):
    """`culvert --server ... --local ...` without a command, with --flag=value."""
    server = t.server()
    origin = t.origin(net.echo)
    argv = t.culvert_argv(f"--server={net.format_addr(server.addr)}", f"--local={net.format_addr(origin.addr)}",
                          f"--token={t.token}", *(t.client_tls() if t.mode.tls else []))
    proc = t.spawn("plain", argv)
    proc.is_culvert = True
    match = proc.expect(r"^ready: tcp://(\S+) -> (\S+)$")[0]
    check_equal(match.group(2), net.format_addr(origin.addr), "origin in the ready line")
    with net.connect(net.parse_addr(match.group(1))) as sock:
        check_equal(answers(sock), "echo", "visitor")
