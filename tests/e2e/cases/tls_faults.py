"""tls_faults: what goes wrong on the way and in time: changed records, cut connections, handshakes that stop or storm; and what must not leak."""
import errno
import json
import os
import re
import signal
import socket
import ssl
import sys
import time

import certs
import net
import tlspipe
from cases.resume import Load
from cases.tls_trust import NOT_IN, refused, tls_client, tls_server, works
from harness import HERE, Skip, case, check, check_equal, port_free
from proxy import FlightProxy, Proxy, RecordProxy

MIB = 1 << 20
FAKED = "failed authentication"


# A man in the middle

def flip(at, bit=1):
    """The record with one bit of the byte at `at` changed."""
    def change(records):
        record = bytearray(records[0])
        record[at if at >= 0 else len(record) + at] ^= bit
        return bytes(record)
    return change


def cut(records):
    """The record without its last three bytes, and with its header still promising them; another follows."""
    return records[0][:-3] + records[1]


def shorter(records):
    """The same with a header that tells the truth."""
    size = len(records[0]) - 5 - 3
    return records[0][:3] + size.to_bytes(2, "big") + records[0][5:-3]


# (what, data records needed, what is sent in their place, what the victim's log says)
ATTACKS = [
    ("type", 1, flip(0), "does not belong here"),
    ("version, high", 1, flip(1), f"{FAKED}|another TLS version"),
    ("version, low", 1, flip(2), f"{FAKED}|another TLS version"),
    ("length less one", 1, lambda r: r[0][:4] + bytes([r[0][4] ^ 1]) + r[0][5:], FAKED),
    ("length far too long", 1, lambda r: r[0][:3] + b"\xff\xff" + r[0][5:], "longer than TLS allows"),
    ("length just too long", 1, lambda r: r[0][:3] + b"\x41\x01" + r[0][5:], "longer than TLS allows"),
    ("length too short", 1, lambda r: r[0][:3] + b"\x00\x03" + r[0][5:8], "too short to be sealed"),
    ("no length", 1, lambda r: r[0][:3] + b"\x00\x00", "too short to be sealed"),
    ("first byte", 1, flip(5), FAKED),
    ("a byte in the middle", 1, lambda r: flip(len(r[0]) // 2, 0x80)(r), FAKED),
    ("first byte of the tag", 1, flip(-16), FAKED),
    ("last byte of the tag", 1, flip(-1), FAKED),
    ("tag of zeros", 1, lambda r: r[0][:-16] + bytes(16), FAKED),
    ("replayed", 1, lambda r: r[0] + r[0], FAKED),
    ("reordered", 2, lambda r: r[1] + r[0], FAKED),
    ("left out", 2, lambda r: r[1], FAKED),
    ("cut", 2, cut, FAKED),
    ("shortened", 1, shorter, FAKED),
    ("bytes of another lane", 1, lambda r: b"\x17\x03\x03\x00\x40" + os.urandom(64), FAKED),
    ("plain data", 1, lambda r: b"\x17\x03\x03\x00\x12plain application", FAKED),
    ("plain alert", 1, lambda r: b"\x15\x03\x03\x00\x02\x01\x00", "unencrypted alert"),
    ("plain close_notify and the rest", 1, lambda r: b"\x15\x03\x03\x00\x02\x01\x00" + r[0], "unencrypted alert"),
    ("plain handshake message", 1, lambda r: b"\x16\x03\x03\x00\x04\x00\x00\x00\x00", "does not belong here"),
    ("no TLS at all", 1, lambda r: b"HTTP/1.1 200 OK\r\n\r\n", "does not belong here|longer than TLS|another TLS version"),
]


def chatter(sock):
    """Echoes in pieces, each a record of its own more or less."""
    try:
        while data := sock.recv(2000):
            sock.sendall(data)
    except OSError:
        return


def attack(proxy, client, row, up):
    """Arms the proxy and lets a stream run into it; returns how the stream ended at the visitor."""
    what, count, function, _ = row
    sock = net.connect(client.addr)
    sock.sendall(b"before")
    check_equal(net.recv_exact(sock, 6), b"before", f"{what}: echo before the attack")
    proxy.attack(up, count, function)
    sock.settimeout(0.02)
    try:
        while proxy.armed:  # a record may be held back, and with it the echo
            sock.sendall(bytes(3000))
            try:
                sock.recv(65536)
            except TimeoutError:
                pass
    except (ConnectionResetError, BrokenPipeError):
        check(proxy.armed is None, f"{what}: reset before the attack")
        return "reset"
    return net.end_of(sock)


@case(not_in=NOT_IN, waits=True, deadline=240)
def tls_changed_records(t):
    """Every way to change records on their way closes the lane with the right reason, at either end; streams are reset, the session comes back."""
    if "user" not in t.engine(0) or "user" not in t.engine(1):
        raise Skip("the kernel has one reason for all, and does not look at a TLS 1.3 record's outer type (see unit.tls_ktls)")
    ca = certs.gen_cert(t, "ca")
    server = tls_server(t, *certs.server_cert(ca).flags, "--grace", "0s")
    proxy = t.keep(RecordProxy(server.addr))
    client = tls_client(t, proxy, t.origin(chatter), "--tls-ca", ca / "ca.pem", "--reconnect-attempts", "1000")
    sessions = 1
    for row in ATTACKS:
        started = time.monotonic()
        for up, victim in ((True, server), (False, client)):
            before = len(victim.err)
            check_equal(attack(proxy, client, row, up), "reset", f"{row[0]}: end at the visitor")
            t.until(lambda v=victim, b=before, says=row[3]: re.search(says, v.err[b:]), f"/{row[3]}/ in the log of the {victim.name}: {row[0]}")
            sessions += 1
            client.expect(r"^ready: ", count=sessions)
            client.read_ready(sessions)
            check_equal(client.addrs[-1], client.addrs[0], "public address afterwards")
        time.sleep(max(0, started + 0.8 - time.monotonic()))  # a call site logs five lines a second, and here two in each turn
    works(client)
    check(server.running() and client.running(), "one of them ended")
    t.note = f"{len(ATTACKS)} attacks on each end"


@case(not_in=NOT_IN, deadline=240)
def tls_changed_records_resumed(t):
    """The same attacks with a grace time cost the connection, and the streams nothing: every byte arrives."""
    if "user" not in t.engine(0) or "user" not in t.engine(1):
        raise Skip("the kernel does not look at a TLS 1.3 record's outer type (see unit.tls_ktls)")
    ca = certs.gen_cert(t, "ca")
    server = tls_server(t, *certs.server_cert(ca).flags)
    proxy = t.keep(RecordProxy(server.addr))
    client = tls_client(t, proxy, t.origin(net.echo), "--tls-ca", ca / "ca.pem")
    load = Load(client.addr, 4, 1 << 20)
    for row in ATTACKS:
        for up in (True, False):
            links = len(proxy.links)
            proxy.attack(up, row[1], row[2])
            t.until(lambda n=links: proxy.armed is None and len(proxy.links) > n, f"{row[0]}: the attack and another connection")
    load.join()
    check_equal(client.out.count("ready:"), 1, "sessions")


def first_plain(said):
    """Where something stands that is no record; None: nowhere. The last record may be cut."""
    at = 0
    while at < len(said):
        head = said[at:at + 5]
        if head[0] not in (20, 21, 22, 23) or head[1:2] not in (b"", b"\x03"):
            return at
        if len(head) < 5:
            return None
        size = int.from_bytes(head[3:5], "big")
        if not 0 < size <= (1 << 14) + 256:
            return at
        at += 5 + size
    return None


@case(not_in=NOT_IN)
def tls_changed_behind_handshake(t):
    """A record that does not open right behind the server's handshake, where a lane joins and where
    one is resumed: nothing leaves plain, not the JOIN that waits; the lane comes by another one."""
    ca = certs.gen_cert(t, "ca")
    server = tls_server(t, *certs.server_cert(ca).flags, "--grace", "60s", workers=2)
    proxy = t.keep(FlightProxy(server.addr))
    junk = b"\x17\x03\x03\x00\x40" + bytes(64)

    def all_sealed(count):
        t.until(lambda: len(proxy.attacked) >= count and proxy.attacked[-1].over.is_set(),
                "the end of the connection that was attacked")
        said = bytes(proxy.attacked[-1].said)
        check(len(said) > 100, f"only {len(said)} bytes came from the client")
        at = first_plain(said)
        check(at is None, f"plain bytes behind {at} of TLS: {said[at or 0:][:24].hex()}")
    proxy.attack(junk)  # not the first connection, which logs in, but the one that joins
    client = tls_client(t, proxy, t.origin(net.echo), "--tls-ca", ca / "ca.pem", "--grace", "60s",
                        workers=2)
    all_sealed(1)
    client.expect(FAKED, stream="err")
    server.expect("joined on worker", stream="err")
    socks = [net.connect(client.addr) for _ in range(8)]  # on both lanes, or nearly so
    for sock in socks:
        sock.sendall(b"before")
        check_equal(net.recv_exact(sock, 6), b"before", "echo before the cut")
    links = len(proxy.links)
    proxy.attack(junk)
    for link in [link for link in proxy.links if link.alive and link not in proxy.attacked]:
        link.cut()
    all_sealed(2)
    server.expect("back after", stream="err", count=2)
    for sock in socks:
        sock.sendall(b"behind")
        check_equal(net.recv_exact(sock, 6), b"behind", "echo on the lane that came back")
    check_equal(client.out.count("ready:"), 1, "sessions")
    check(len(proxy.links) >= links + 3, "the attacked resume was not tried again")


@case(not_in=NOT_IN)
def tls_bytes_behind_the_end(t):
    """Whole records, junk and single bytes behind close_notify, in one read with it and in later ones, from a stranger: they are
    dropped, and whoever else uses the worker does not notice."""
    ca = certs.gen_cert(t, "ca")
    server = tls_server(t, *certs.server_cert(ca).flags)
    client = tls_client(t, server, t.origin(net.echo), "--tls-ca", ca / "ca.pem")
    context = ssl.create_default_context(cafile=str(ca / "ca.pem"))
    for behind in (b"\x17\x03\x03\x00\x30" + bytes(48), b"\x17", b"HTTP/1.1 200 OK\r\n"):
        for together in (True, False):
            with net.connect(server.addr) as sock:
                pipe = tlspipe.Pipe(sock, context, False, "localhost")
                pipe.shake()
                try:
                    pipe.tls.unwrap()
                except ssl.SSLError:
                    pass  # it wants the server's close_notify
                end = pipe.outgoing.read()
                check(len(end) > 5, "no close_notify")
                parts = [end + behind] if together else [end, behind, behind]
                for part in parts:
                    sock.sendall(part)
                    works(client)
            works(client)
    check_equal(client.out.count("ready:"), 1, "sessions")


# Truncation

@case(not_in=NOT_IN)
def tls_truncation(t):
    """A lane that ends without close_notify, by kill -9 or by a FIN on the way, is logged as a truncation; streams learn an error, not an end."""
    ca = certs.gen_cert(t, "ca")
    ends = []

    def handler(sock):
        sock.sendall(b"half an answer")
        ends.append(net.end_of(sock))
    origin = t.origin(handler)

    def half(client):
        sock = net.connect(client.addr)
        check_equal(net.recv_exact(sock, 14), b"half an answer", "answer")
        return sock
    server = tls_server(t, *certs.server_cert(ca).flags, "--grace", "0s")
    client = tls_client(t, server, origin, "--tls-ca", ca / "ca.pem")
    sock = half(client)
    client.kill()
    check_equal(net.end_of(sock), "reset", "end at the visitor after kill -9 of the client")
    server.expect("without TLS close_notify: bytes may be missing", stream="err")
    # A FIN that somebody on the way made.
    proxy = t.keep(Proxy(server.addr))
    client = tls_client(t, proxy, origin, "--tls-ca", ca / "ca.pem")
    sock = half(client)
    known = len(ends)
    proxy.links[0].cut(rst=False)
    check_equal(net.end_of(sock), "reset", "end at the visitor after a false FIN")
    t.until(lambda: len(ends) > known, "the end at the origin")
    check_equal(ends[-1], "reset", "end at the origin after a false FIN")
    server.expect("without TLS close_notify", stream="err", count=2)
    client.expect("without TLS close_notify", stream="err")
    client.expect(r"^ready: ", count=2)
    # kill -9 of the server.
    client.read_ready(2)
    sock = half(client)
    known = len(ends)
    server.kill()
    client.expect("without TLS close_notify|connection failed", stream="err", count=2)
    t.until(lambda: len(ends) > known, "the end at the origin")
    check_equal(ends[-1], "reset", "end at the origin after kill -9 of the server")
    sock.close()


@case(not_in=NOT_IN)
def tls_orderly_end(t):
    """An orderly end has close_notify in both directions: nobody speaks of a truncation."""
    ca = certs.gen_cert(t, "ca")
    server = tls_server(t, *certs.server_cert(ca).flags)
    for _ in range(3):
        client = tls_client(t, server, t.origin(net.echo), "--tls-ca", ca / "ca.pem")
        works(client)
        check_equal(client.stop(), 0, "exit status")
        check("close_notify" not in client.err, client.err)
    last = tls_client(t, server, t.origin(net.echo), "--tls-ca", ca / "ca.pem", "--no-reconnect")
    last.want = (0, 1)
    works(last)
    server.stop()
    last.wait()
    check("close_notify" not in server.err + last.err, "a truncation was logged")


def cuts(server):
    return [line for line in server.err.splitlines() if "close_notify" in line]


@case(not_in=NOT_IN)
def tls_orderly_end_of_clients_that_give_up(t):
    """A client that ends by itself, without a tunnel or with a token that is another one, and one that is stopped while lanes are still
    on their way, is not taken for one that was cut."""
    ca = certs.gen_cert(t, "ca")
    origin, trust = t.origin(net.echo), ["--tls-ca", ca / "ca.pem"]
    first = t.ports(24)
    server = tls_server(t, *certs.server_cert(ca).flags, "--ports", f"{first}-{first + 23}", "--grace", "0s", start_port=first, workers=2)
    rows = ((6, ["--port", 80, "--no-reconnect"]), (6, ["--port", 80, "--reconnect-attempts", "1"]),
            (5, ["--token", "another one of 16", "--no-reconnect"]))
    for status, flags in rows:
        client = tls_client(t, server, origin, *trust, *flags, wait=False)
        client.want = (status,)
        check_equal(client.wait(), status, f"exit status with {flags}")
    server.expect("session 3: ends: ", stream="err")
    server.expect("its token is another one", stream="err")
    check_equal(cuts(server), [], "orderly ends that the server takes for cuts")
    for _ in range(3):
        server = tls_server(t, *certs.server_cert(ca).flags, "--grace", "0s", workers=2)
        client = tls_client(t, server, origin, *trust, "--lanes", 8, "--grace", "0s", workers=2)
        check_equal(client.stop(), 0, "exit status")
        server.expect("session 1: ends: ", stream="err")
        server.stop()
        check_equal(cuts(server), [], "a stop among the first lanes that the server takes for a cut")


@case(not_in=NOT_IN)
def tls_end_at_once(t):
    """A client that is stopped at once, with a visitor, cuts what is on its way; the server says that it had told before that it ends."""
    ca = certs.gen_cert(t, "ca")
    server = tls_server(t, *certs.server_cert(ca).flags, "--grace", "0s")
    client = tls_client(t, server, t.origin(net.echo), "--tls-ca", ca / "ca.pem", "--drain-timeout", "300s", "--lanes", "1")
    with net.connect(client.addr) as sock:
        sock.sendall(b"x")
        check_equal(net.recv_exact(sock, 1), b"x", "echo")
        client.send(signal.SIGTERM)
        t.until(lambda: port_free(client.addr[1]), "the end of the public port: the server has heard of it")
        client.stop()
    server.expect("session 1: ends: ", stream="err")
    lines = [line for line in cuts(server) if "closed: " in line]
    check(len(lines) == 1 and "it had said that it ends" in lines[0], f"what is said of the end: {lines}")


# Time

def client_hello():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()


@case(not_in=NOT_IN)
def tls_handshake_stops(t):
    """A handshake that stops anywhere is closed after --handshake-timeout, and holds up nobody."""
    server = tls_server(t, "--state-dir", t.dir / "state", "--handshake-timeout", "500ms")
    client = tls_client(t, server, t.origin(net.echo), "--tls-ca", t.dir / "state" / "ca.pem")
    hello = client_hello()
    for size in (1, 5, len(hello) // 2, len(hello) - 1, len(hello)):
        started = time.monotonic()
        sock = net.connect(server.addr)
        sock.sendall(hello[:size])
        works(client)
        check(net.end_of(sock) in ("eof", "reset"), f"kept after {size} bytes")
        check(time.monotonic() - started >= 0.4, f"closed too early after {size} bytes")
    server.expect("handshake took too long", stream="err", count=5)
    works(client)


def percentile(values, part):
    return sorted(values)[int(len(values) * part)] * 1000


@case(not_in=NOT_IN, alone=True, deadline=240)
def tls_handshake_storm(t):
    """1,000 handshakes at once: each is made, and a stream beside them goes on; its delays are shown."""
    count = 1000
    ca = certs.gen_cert(t, "ca")
    server = tls_server(t, *certs.server_cert(ca).flags, "--max-unauthenticated", 2 * count, "--handshake-timeout", "120s")
    client = tls_client(t, server, t.origin(net.echo), "--tls-ca", ca / "ca.pem")
    sock = net.connect(client.addr)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def turn():
        started = time.perf_counter()
        sock.sendall(b"ping")
        check_equal(net.recv_exact(sock, 4), b"ping", "echo")
        return time.perf_counter() - started
    calm = [turn() for _ in range(300)]
    storm = t.spawn("storm", [sys.executable, HERE / "crowd.py", "handshakes", net.format_addr(server.addr), count, ca / "ca.pem"])
    storm.expect("^connected")
    during = []
    while storm.running():
        during.append(turn())
    result = json.loads(storm.out.splitlines()[-1])
    check_equal((storm.popen.returncode, result["made"], result["failed"]), (0, count, 0), "handshakes made and failed")
    for _ in range(100):
        turn()
    check(len(during) > 10, "the storm was over before it was measured")
    t.note = (f"{count} in {result['seconds']:.1f} s; turns: calm p50 {percentile(calm, 0.5):.2f} ms, p99 {percentile(calm, 0.99):.2f}; "
              f"in the storm p50 {percentile(during, 0.5):.2f}, p99 {percentile(during, 0.99):.2f}, worst {max(during) * 1000:.1f}")


# Reload

@case(not_in={kind: why for kind, why in NOT_IN.items() if kind != "v2-2w"})
def tls_reload(t):
    """SIGHUP: new clients see the new key, a download that runs does not notice; files that cannot be read change nothing."""
    total = 24 * MIB
    first, second = certs.gen_cert(t, "first"), certs.gen_cert(t, "second")
    pins = [certs.server_cert(directory).pin for directory in (first, second)]
    live = certs.Cert(t.dir / "live.pem", t.dir / "live.key")

    def put(directory):
        live.cert.write_bytes((directory / "server.pem").read_bytes())
        live.key.write_bytes((directory / "server.key").read_bytes())
    put(first)
    server = tls_server(t, *live.flags)
    client = tls_client(t, server, t.origin(net.until_cut(lambda sock: net.Pattern("reload").send(sock, total))), "--tls-pin", pins[0])
    sock = net.connect(client.addr, rcvbuf=65536)
    check(net.recv_exact(sock, MIB) == net.Pattern("reload").block(0), "wrong bytes")
    put(second)
    server.send(signal.SIGHUP)
    server.expect(f"certificate read again: {pins[1]}", stream="err")
    echo = t.origin(net.echo)
    refused(t, server, "does not match --tls-pin", "--tls-pin", pins[0])
    works(tls_client(t, server, echo, "--tls-pin", pins[1]))
    live.cert.write_text("nothing\n")
    server.send(signal.SIGHUP)
    server.expect("the certificate in use stays", stream="err")
    works(tls_client(t, server, echo, "--tls-pin", pins[1]))
    for index in range(1, total // MIB):
        check(net.recv_exact(sock, MIB) == net.Pattern("reload").block(index), f"wrong bytes in MiB {index}")
    check_equal(net.end_of(sock), "eof", "end of the download")
    check_equal(client.out.count("ready:"), 1, "ready lines of the client with the old key")


def hung_reader(t, path):
    """The other end of a FIFO that somebody has opened, and reads until this end is closed."""
    def opened():
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            check_equal(error.errno, errno.ENXIO, "why the FIFO cannot be opened")
            return None
    return t.until(opened, f"{path.name} to be read")


@case(not_in={kind: why for kind, why in NOT_IN.items() if kind != "v2-2w"})
def tls_reload_hangs(t):
    """A certificate file that says nothing and has no end holds up no signal: counters are printed, another SIGHUP is obeyed when
    the file system comes back, and SIGTERM ends the server while it does not."""
    first, second = certs.gen_cert(t, "first"), certs.gen_cert(t, "second")
    pins = [certs.server_cert(directory).pin for directory in (first, second)]
    live, echo = certs.Cert(t.dir / "live.pem", t.dir / "live.key"), t.origin(net.echo)
    for target, source in ((live.cert, "server.pem"), (live.key, "server.key")):
        target.write_bytes((first / source).read_bytes())
    server = tls_server(t, *live.flags)

    def hang():
        os.mkfifo(t.dir / "fifo")
        os.replace(t.dir / "fifo", live.cert)
        server.send(signal.SIGHUP)
        return hung_reader(t, live.cert)
    end = hang()
    server.send(signal.SIGUSR1)
    server.expect("^worker 0: phase 0", stream="err")
    works(tls_client(t, server, echo, "--tls-pin", pins[0]))
    (t.dir / "new").write_bytes((second / "server.pem").read_bytes())
    os.replace(t.dir / "new", live.cert)
    live.key.write_bytes((second / "server.key").read_bytes())
    server.send(signal.SIGHUP)
    server.send(signal.SIGUSR1)  # of two that wait the one with the lower number is taken first: SIGHUP
    server.expect("^worker 0: phase 0", stream="err", count=2)
    check("read again" not in server.err, "the certificate was read while the file hung")
    os.close(end)
    server.expect(f"certificate read again: {pins[1]}", stream="err", count=2)
    works(tls_client(t, server, echo, "--tls-pin", pins[1]))
    end = hang()
    check_equal(server.stop(), 0, "exit status of the server whose file hangs")
    check("\nsummary\n" in server.out, "no summary")
    os.close(end)


# Secrets

@case(not_in=NOT_IN)
def tls_key_log(t):
    """SSLKEYLOGFILE is obeyed, with a warning, mode 0600; without it nothing is written; and no secret ever stands in a log."""
    ca = certs.gen_cert(t, "ca")
    own, trust = certs.server_cert(ca), ["--tls-ca", ca / "ca.pem"]
    origin = t.origin(net.echo)
    paths = {name: t.dir / f"{name}.keys" for name in ("server", "client")}
    env = {name: dict(os.environ, SSLKEYLOGFILE=str(path)) for name, path in paths.items()}
    server = tls_server(t, *own.flags, env=env["server"])
    client = tls_client(t, server, origin, *trust, env=env["client"])
    works(client)
    secrets = []
    for name, proc in (("server", server), ("client", client)):
        check(re.search(r"WARN.*TLS secrets are written to", proc.err), f"the {name} does not warn")
        check_equal(paths[name].stat().st_mode & 0o777, 0o600, "mode of the key log")
        lines = [line.split() for line in paths[name].read_text().splitlines() if not line.startswith("#")]
        check({"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} <= {line[0] for line in lines}, f"labels: {lines}")
        secrets += [line[2] for line in lines]
    check_equal(sorted(set(secrets)), sorted(secrets[:len(secrets) // 2]), "secrets of both ends")
    quiet = tls_server(t, *own.flags)
    other = tls_client(t, quiet, origin, *trust)
    works(other)
    check("TLS secrets" not in quiet.err + other.err, "a warning without a key log")
    key = "".join(own.key.read_text().splitlines()[1:-1])
    logs = "".join(proc.err + proc.out for proc in (server, client, quiet, other))
    for secret in (*secrets, key, key[:40], t.token):
        check(secret not in logs and secret.upper() not in logs, "a secret stands in a log")
