"""said: what server and client say while they run, as somebody reads it who has never seen them: what is waited for, why it ends, what was
moved, and what to change."""
import pathlib
import re
import signal
import socket

import certs
import net
from cases.tls_trust import NOT_IN, near_end, tls_client, tls_server, works
from cases.visitors import lines as visitor_lines
from harness import Skip, case, check, check_equal, enter_private_network

UTC = r"20\d\d-\d\d-\d\d \d\d:\d\d UTC"
FUTURE, PAST = "20390101000000Z", "20240101000000Z"
ONE_WORKER = {"v2-2w": "workers do not matter", "v1-2w": "workers do not matter"}
FOR_EVER = ["--reconnect-attempts", "forever"]


def errors(proc):
    return [line for line in proc.err.splitlines() if re.match(r"\S+ ERROR ", line)]


# Dates

@case(not_in=NOT_IN, needs=["openssl"])
def a_clock_that_is_wrong_is_waited_for(t):
    """The server's certificate begins in the future, or has ended: both ends name both dates, the server serves, and a client that has just
    started tries on until it can trust it. One that is to try once ends."""
    ca = certs.gen_cert(t, "ca")
    good = certs.signed(t, "good", ca)
    for name, dates, says in (("early", {"start": FUTURE}, f"is not valid yet .*valid from 2039-01-01 00:00 UTC, this machine's clock says {UTC}"),
                              ("late", {"end": PAST}, f"has expired.*valid until 2024-01-01 00:00 UTC, this machine's clock says {UTC}")):
        cert = certs.signed(t, name, ca, **dates)
        server = tls_server(t, *cert.flags)
        server.expect("WARN .*" + says, stream="err")
        client = tls_client(t, server, t.origin(net.echo), "--tls-ca", ca / "ca.pem", *FOR_EVER, wait=False)
        client.expect(f"WARN .*TLS failed: the certificate {says}", stream="err")
        once = tls_client(t, server, t.origin(net.echo), "--tls-ca", ca / "ca.pem", "--no-reconnect", wait=False)
        once.want = (1,)
        check_equal(once.wait(), 1, "exit status of the one that tries once")
        check(re.search(f"TLS failed: the certificate {says}", errors(once)[0]), f"the end: {errors(once)}")
        cert.cert.write_bytes(good.cert.read_bytes())
        cert.key.write_bytes(good.key.read_bytes())
        server.send(signal.SIGHUP)
        client.read_ready(1)
        works(client)


@case(not_in=NOT_IN, needs=["openssl"])
def a_ca_of_tomorrow_is_no_reason_to_stay_away(t):
    """A CA file of which nothing is valid yet: the clock is not set. The programs start and say so."""
    ca = certs.authority(t, "tomorrow", "tomorrow", start=FUTURE, end="20400101000000Z")
    own = certs.signed(t, "own", ca)
    says = f"WARN .*/CN=tomorrow\\) is not valid yet \\(valid from 2039-01-01 00:00 UTC, this machine's clock says {UTC}\\)"
    server = tls_server(t, *own.flags, "--tls-ca", ca / "ca.pem")
    client = tls_client(t, server, t.origin(net.echo), "--tls-ca", ca / "ca.pem", *FOR_EVER, wait=False)
    for proc in (server, client):
        proc.expect(says, stream="err")
    check(not errors(client), errors(client))


@case(not_in=NOT_IN, needs=["openssl"], waits=True)
def own_certificate_is_renewed_while_it_runs(t):
    """The clock was set while the server ran: a certificate of its own that is out of date then is made again at once, with the same key."""
    state = certs.gen_cert(t, "state")
    pin = certs.server_cert(state).pin
    server = tls_server(t, "--state-dir", state)
    origin = t.origin(net.echo)
    works(tls_client(t, server, origin, "--tls-pin", pin))
    for number, dates in enumerate(({"end": PAST}, {"end": near_end(10)}, {"start": FUTURE})):
        old = certs.issue(t, f"old{number}", "e2e", state, dates.get("start", "20200101000000Z"), dates.get("end", "20400101000000Z"),
                          key=state / "server.key", names="DNS:localhost,IP:127.0.0.1")[1]
        old.cert.rename(state / "server.pem")
        server.expect("renewed the certificate", stream="err", count=number + 1, timeout=40 * t.factor)
        server.expect("certificate read again: " + pin, stream="err", count=number + 1)
        works(tls_client(t, server, origin, "--tls-ca", state / "ca.pem"))
    certs.openssl("x509", "-in", state / "server.pem", "-noout", "-checkend", 700 * 86400)


# Keys

def new_key(t, name, *how):
    """A self-signed certificate with such a key."""
    directory = t.dir / name
    directory.mkdir()
    cert = certs.Cert(directory / "own.pem", directory / "own.key")
    certs.openssl("req", "-x509", "-newkey", *how, "-nodes", "-keyout", cert.key, "-out", cert.cert, "-days", 90, "-subj", "/CN=self",
                  "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    return cert


@case(not_in=NOT_IN, needs=["openssl"])
def keys_of_all_kinds(t):
    """Every kind of key that the documents name, in every form: the pin is right, and a client gets in by pin and by CA. Other kinds end the start,
    with what is taken instead."""
    origin = t.origin(net.echo)
    kinds = {f"p{bits}": ["ec", "-pkeyopt", f"ec_paramgen_curve:{curve}"] for bits, curve in
             ((256, "prime256v1"), (384, "secp384r1"), (521, "secp521r1"))}
    kinds.update(ed25519=["ed25519"], ed448=["ed448"], rsa2048=["rsa:2048"], rsa4096=["rsa:4096"],
                 signed_pss=["rsa:2048", "-sigopt", "rsa_padding_mode:pss"])
    made = {name: new_key(t, name, *how) for name, how in kinds.items()}
    for name, tool in (("p256", "ec"), ("rsa2048", "rsa")):  # SEC 1 and PKCS #1 beside PKCS #8
        form = made[name + "_old_form"] = certs.Cert(made[name].cert, t.dir / f"{name}.old")
        certs.openssl(tool, "-in", made[name].key, "-out", form.key, *(["-traditional"] if tool == "rsa" else []))
    at = {"addr": ("127.0.0.1", t.port()), "start_port": t.ports(24)}
    for name, cert in made.items():
        server = tls_server(t, *cert.flags, **at)
        check_equal(certs.printed_pin(server.out), cert.pin, f"pin of {name}, computed by openssl")
        for trust in (["--tls-pin", cert.pin], ["--tls-ca", cert.cert]):
            client = tls_client(t, server, origin, *trust)
            works(client)
            client.stop()
        server.stop()
    good = made["p256"]
    sealed, der = t.dir / "sealed", t.dir / "der"
    certs.openssl("pkcs8", "-topk8", "-in", good.key, "-passout", "pass:x", "-out", sealed)
    certs.openssl("pkey", "-in", good.key, "-outform", "DER", "-out", der)
    for cert, says in ((certs.Cert(good.cert, sealed), r"is encrypted, .*openssl pkey -in \S+/sealed"),
                       (certs.Cert(good.cert, der), r"not in PEM form: openssl pkey -inform DER"),
                       (certs.Cert(good.cert, made["p384"].key), r"does not belong to the certificate"),
                       (new_key(t, "pss", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"), r"a kind that peers do not take: .*P-256.*RSA$"),
                       (new_key(t, "koblitz", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"), r"a kind that peers do not take")):
        server = tls_server(t, *cert.flags, wait=False, **at)
        server.want = (3,)
        check_equal(server.wait(), 3, f"exit status ({says})")
        check(len(errors(server)) == 1 and re.search(says, errors(server)[0]), f"/{says}/ is not in {errors(server)}")


# The first attempt

class Deaf:
    """A server that the kernel answers for, and nobody else."""

    def __init__(self):
        self.sock = net.listen()
        self.addr = self.sock.getsockname()

    def check(self):
        pass

    def close(self):
        self.sock.close()


@case(not_in=ONE_WORKER)
def a_silent_server_is_told_of(t):
    """A server that does not answer: the client says after a second whom it waits for and how long. One that answers is not worth a line."""
    deaf = t.keep(Deaf())
    client = t.client(deaf, t.origin(net.echo), *FOR_EVER, wait=False)
    at = re.escape(net.format_addr(deaf.addr))
    client.expect(rf"INFO  client: connected to {at}, which does not answer yet: it has 10 s$", stream="err")
    quick = t.client(t.server(), t.origin(net.echo))
    check("yet" not in quick.err, f"a quick client: {quick.err}")


@case(not_in={**ONE_WORKER, "tls": "it does not come to TLS"})
def a_black_hole_is_told_of(t):
    """Nothing comes back at all, not even from the kernel: the backlog of the listener is full."""
    enter_private_network(["192.0.2.1/32"])
    hole = socket.socket()
    hole.bind(("192.0.2.1", 0))
    hole.listen(0)
    held = []
    for _ in range(4):  # fills the queue: what does not fit is not answered
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(hole.getsockname())
        held.append(sock)
    client = t.client(hole.getsockname(), t.origin(net.echo), *FOR_EVER, wait=False)
    client.expect(rf"INFO  client: connecting to 192\.0\.2\.1:{hole.getsockname()[1]}: nothing answers yet, it has 10 s$", stream="err")
    for sock in (hole, *held):
        sock.close()


@case(not_in=ONE_WORKER)
def no_server_yet(t):
    """Nobody listens: the first attempt says why, and when the next one is."""
    client = t.client(("127.0.0.1", t.port()), t.origin(net.echo), *FOR_EVER, wait=False)
    client.expect(r"WARN .*cannot connect to the server: Connection refused: nothing listens there$", stream="err")
    client.expect(r"INFO  client: trying again: attempt 1 in 0\.\d s$", stream="err")
    check_equal(client.stop(), 0, "exit status")
    check(re.search(r"^  sessions +0: it was never logged in$", client.out, re.M), f"the summary: {client.out}")


# The end

@case(not_in=ONE_WORKER)
def what_ends_a_process_is_an_error(t):
    """Whatever ends a client or a server by itself is said at level ERROR, in one line that has the reason."""
    origin, server = t.origin(net.echo), t.server()
    nobody, busy = ("127.0.0.1", t.port()), net.listen(port=t.port())
    rows = [
        (4, r"because of --no-reconnect; what failed last: cannot connect.*refused", lambda: t.client(nobody, origin, "--no-reconnect", wait=False)),
        (4, r"gave up after 1 attempts.*what failed last: cannot connect", lambda: t.client(nobody, origin, "--reconnect-attempts", "1", wait=False)),
        (5, r"refused the token", lambda: t.client(server, origin, token="x" * 40, wait=False)),
        (3, r"cannot listen", lambda: t.server(addr=busy.getsockname(), wait=False)),
    ]
    if not t.mode.v1:
        port = busy.getsockname()[1]
        rows.append((6, r"the port is in use|--no-reconnect", lambda: t.client(server, origin, "--port", port, "--no-reconnect", wait=False)))
    if t.mode.tls:
        rows.append((1, r"does not match --tls-pin", lambda: tls_client(t, server, origin, "--tls-pin", "sha256:" + "0" * 64, wait=False)))
    for status, says, start in rows:
        proc = start()
        proc.want = (status,)
        check_equal(proc.wait(), status, f"exit status ({says})")
        check(errors(proc) and all(re.search(says, line) for line in errors(proc)), f"/{says}/ is not in {errors(proc)} of {proc.err}")
        if status == 5:
            told = [line for line in proc.err.splitlines() if "authentication failed" in line and " DEBUG " not in line]
            check_equal(len(told), 1, f"lines of a refusal: {told}")
            server.expect("INFO .*closed: authentication failed: its token is another one", stream="err")
    client = t.client(server, origin, "--no-reconnect", "--grace", "0s")
    client.want = (1,)
    server.kill()
    check_equal(client.wait(), 1, "exit status when the server is gone")
    check(len(errors(client)) == 1 and "--no-reconnect" in errors(client)[0], f"the end: {errors(client)}")
    check("trying to come back" not in client.err, "it says what it does not do")
    busy.close()


# What was moved


def moved(proc):
    """(up, down) of the totals in a summary, and of its rows."""
    totals = [int(re.search(rf"^  bytes {way} .*\((\d+)\) (from|to) visitors$", proc.out, re.M).group(1)) for way in ("up", "down")]
    rows = [0, 0]
    for line in re.findall(r"^  (?:tunnel|streams that) .*: .*$", proc.out, re.M):
        for index, way in enumerate(("up", "down")):
            rows[index] += int(re.search(rf"([\d.]+) B {way}", line).group(1))
    return tuple(totals), tuple(rows)


@case()
def bytes_mean_the_same_at_both_ends(t):
    """Up is from visitors and down is to them, in the summaries, their rows, and the lines of visitors, at either end; the rows add up to the
    totals also when somebody resets with bytes under way."""
    up, down, count = 78, 329, 3

    def answer(sock):
        net.recv_exact(sock, up)
        sock.sendall(b"d" * down)
    server = t.server("--log-visitors")
    client = t.client(server, t.origin(answer), "--log-visitors")
    for _ in range(count):
        with net.connect(client.addr) as sock:
            sock.sendall(b"u" * up)
            net.recv_exact(sock, down)
            check_equal(net.end_of(sock), "eof", "the end of a visitor")
    for proc in (server, client):
        t.until(lambda proc=proc: len(visitor_lines(proc)) == count, f"lines of the {proc.name}")
    check_equal(client.stop(), 0, "exit status")
    check_equal(server.stop(), 0, "exit status")
    for proc in (server, client):
        check_equal(moved(proc), ((up * count, down * count),) * 2, f"totals and rows of the {proc.name}")
        said = visitor_lines(proc)
        check_equal((sum(int(line["up"]) for line in said), sum(int(line["down"]) for line in said)), (up * count, down * count),
                    f"lines of the {proc.name}")


@case(not_in=ONE_WORKER)
def rows_add_up_to_totals(t):
    """Bytes that came for a visitor who was gone were not handed on: neither the rows nor the totals have them."""
    size = 200  # below a kibibyte: the rows say it exactly

    def pour(sock):
        try:
            net.recv_exact(sock, 1)
            sock.sendall(b"d" * size)
            net.end_of(sock)
        except OSError:
            pass  # the visitor was faster
    server = t.server()
    client = t.client(server, t.origin(pour))
    for index in range(4):
        sock = net.connect(client.addr)
        sock.sendall(b"u")
        if index % 2 == 0:
            net.recv_exact(sock, size)
        net.rst(sock)
    server.expect("ends: connection reset", stream="err", count=4)
    client.stop()
    server.stop()
    for proc in (server, client):
        totals, rows = moved(proc)
        check_equal(rows, totals, f"rows and totals of the {proc.name}")


@case(not_in=ONE_WORKER)
def a_summary_without_a_session(t):
    """Nobody came: the summary says that, instead of zeros."""
    server = t.server()
    check_equal(server.stop(), 0, "exit status")
    check(re.search(r"^  sessions +0: no client has logged in$", server.out, re.M), f"the summary: {server.out}")
    check("bytes" not in server.out and "streams" not in server.out, f"zeros: {server.out}")


# A server that was started anew

@case(not_in={"v1": "v1 has one lane, and no sessions that outlive it", "plain": "lanes are the same"})
def a_new_server_hears_of_old_sessions_once(t):
    """After a server's restart each lane of each client asks for what is gone: one line at the server, one at each client."""
    flags = ["--grace", "60s"]
    server = t.server(*flags)
    clients = [t.client(server, t.origin(net.echo), *flags, *FOR_EVER, "--lanes", "6", "--log-level", "info") for _ in range(2)]
    server.expect("joined on worker", stream="err", count=10)
    server.kill()
    server = t.server(*flags, "--log-level", "info", addr=server.addr, start_port=server.start_port)
    for client in clients:
        client.expect(r"^ready: ", count=2)
        client.expect(r"connected after \d", stream="err")
        client.expect("no such session", stream="err")  # its other lanes have asked
    server.expect("session that is over", stream="err")
    check_equal(len(re.findall("session that is over", server.err)), 1, f"lines of the server:\n{server.err}")
    check("no such session" not in server.err, server.err)
    for client in clients:
        check_equal(client.err.count("no such session"), 1, f"lines of a client:\n{client.err}")


# Addresses and ports

def few_ports():
    """Two local ports for connections, in a network of its own."""
    enter_private_network()
    try:
        pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("61000 61001\n")
    except OSError as error:
        raise Skip(f"the range of local ports cannot be set: {error}") from None


def visitor(number, addr):
    """From an address that has two ports of its own; None: it was reset before it knew that it was connected."""
    try:
        return socket.create_connection(addr, timeout=net.TIMEOUT, source_address=(f"127.0.0.{number}", 0))
    except ConnectionResetError:
        return None


@case(not_in={**ONE_WORKER, "tls": "TLS comes later"})
def no_local_port_is_left(t):
    """All local ports towards the origin, or the server, are taken: the message says so and names the range."""
    says = r"Cannot assign requested address: all local ports for connections to this place are taken: widen sysctl net\.ipv4\.ip_local_port_range"
    few_ports()
    server, origin = t.server(), t.origin(net.echo)
    client = t.client(server, origin)
    visitors = [visitor(number, client.addr) for number in range(2, 6)]
    client.expect("WARN .*origin: " + says, stream="err")
    held = []
    while len(held) < 3:
        try:
            held.append(net.connect(server.addr))
        except OSError:
            break
    late = t.client(server, origin, *FOR_EVER, wait=False)
    late.expect("WARN .*cannot connect to the server: " + says, stream="err")
    for sock in filter(None, visitors + held):
        sock.close()


@case(not_in={**ONE_WORKER, "tls": "it is behind the client"})
def an_origin_without_an_address(t):
    """The origin's name is unknown: the client says so at once, and of each visitor not that there was no way."""
    client = t.client(t.server(), ("no-such-host.invalid", 80))
    client.expect("WARN .*cannot resolve 'no-such-host.invalid'", stream="err")
    with net.connect(client.addr) as sock:
        check(net.end_of(sock) in ("reset", "eof"), "kept")
    client.expect(r"WARN .*no-such-host\.invalid:80: origin: no address is known of this name$", stream="err")
    check("No route to host" not in client.err, client.err)


# Others at the port

@case(not_in={**ONE_WORKER, "tls": "the client is to be let in by accident", "v1": "the wire is chosen"})
def a_stranger_is_shown_no_token(t):
    """The address is another service's: the client says which, and does not take it for a v1 server, which is shown the token."""
    seen = []

    def greet(sock):
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        seen.append(sock.recv(65536))
        sock.recv(1)
    for answer, says in ((greet, "the peer speaks HTTP"), (lambda sock: sock.sendall(b"220 mail ESMTP\r\n"), "the peer is no tunnel server")):
        other = t.origin(answer)
        client = t.client(other, t.origin(net.echo), "--no-reconnect", wire="auto", wait=False)
        client.want = (4,)
        check_equal(client.wait(), 4, "exit status")
        check(re.search(says, client.err), client.err)
        check("falling back" not in client.err, "it took it for a v1 server")
    check_equal(len(seen), 1, "connections to the HTTP server")
    check(t.token.encode() not in seen[0], "the token was shown")


@case(not_in={**NOT_IN, "v2-2w": "workers do not matter"})
def cures_name_the_flag_of_this_side(t):
    """TLS at one end only: each end's log says what to change there."""
    for flag, client_flags, at_server, at_client in (
            ("--tls", [], "give that client --tls in place of --plain, or start this server without --tls", "give this client --tls in place of --plain, or start the server with --plain"),
            ("--plain", ["--tls", "--tls-accept-new"], "start this server without --plain, or that client with it",
             "start the server without --plain; or this client with it")):
        server = t.server(flag, *(["--state-dir", t.dir / "state"] if flag == "--tls" else []), tls=False)
        client = t.client(server, t.origin(net.echo), "--state-dir", t.dir / "client", *client_flags, tls=False, wait=False)
        client.want = (1,)
        check_equal(client.wait(), 1, "exit status")
        check(len(errors(client)) == 1 and at_client in errors(client)[0], errors(client))
        server.expect(re.escape(at_server), stream="err")
