"""tls_trust: who is trusted and who is not: CA, pin, known_servers, client certificates; what each side says; and that the safe way works by itself."""
import re
import signal
import time

import certs
import net
from harness import check, check_equal, case

NOT_IN = {"plain": "the case is about TLS", "v1": "the wire does not matter", "v2-2w": "workers do not matter"}
ONCE = ["--no-reconnect"]


def tls_server(t, *flags, **options):
    return t.server("--tls", *t.engine(0), *flags, tls=False, **options)


def tls_client(t, server, origin, *flags, **options):
    return t.client(server, origin, "--tls", *t.engine(1), *flags, tls=False, **options)


def works(client):
    with net.connect(client.addr) as sock:
        sock.sendall(b"hello")
        check_equal(net.recv_exact(sock, 5), b"hello", "echo")


def refused(t, server, says, *flags, origin=("127.0.0.1", 1), **options):
    """A client that does not get in: it says why, is not ready, and does not try again and again; status 1."""
    client = tls_client(t, server, origin, *flags, wait=False, **options)
    client.want = (1,)
    check_equal(client.wait(), 1, f"exit status ({client.last_words()})")
    check(re.search(says, client.err), f"/{says}/ is not in: {client.err}")
    check("ready:" not in client.out, "it is ready all the same")
    check_equal(len(re.findall("TLS failed", client.err)), 1, "attempts")
    return client


# What needs no thought

@case(not_in=NOT_IN)
def tls_server_makes_its_certificate(t):
    """--tls alone: a certificate of its own, readable by nobody else, kept over restarts; the command that the server prints works."""
    state = t.dir / "state" / "below"
    server = tls_server(t, "--state-dir", state)
    printed = server.expect(r"^tls: culvert client --server (\S+) --local HOST:PORT --tls-pin (sha256:[0-9a-f]{64}) --token-file FILE$")[0]
    check_equal(printed.group(1), net.format_addr(server.addr), "address in the command")
    check_equal(printed.group(2), certs.server_cert(state).pin, "pin, computed by openssl")
    for path in state.iterdir():
        check_equal(path.stat().st_mode & 0o777, 0o600, f"mode of {path.name}")
    check_equal(state.stat().st_mode & 0o777, 0o700, "mode of the directory")
    origin = t.origin(net.echo)
    client = tls_client(t, server, origin, "--tls-pin", printed.group(2))
    works(client)
    client.stop()
    server.stop()
    again = tls_server(t, "--state-dir", state)
    check_equal(certs.printed_pin(again.out), printed.group(2), "pin after a restart")
    works(tls_client(t, again, origin, "--tls-ca", state / "ca.pem"))


@case(not_in=NOT_IN)
def tls_gen_cert_output(t):
    """gen-cert prints what it made, the pin and commands that work; a second call keeps the CA and the key."""
    directory = t.dir / "made"
    proc = t.run("gen-cert", t.culvert_argv("gen-cert", "--dir", directory, "--name", "tunnel.example", "--name", "192.0.2.7"))
    for word in ("ca.pem", "server.key", "tunnel.example", "192.0.2.7", "localhost", "--tls-ca", "--tls-pin"):
        check(word in proc.out, f"'{word}' is not in the output")
    check_equal(len(re.findall("^made", proc.out, re.M)), 4, "files made")
    pin = certs.printed_pin(proc.out)
    check_equal(pin, certs.server_cert(directory).pin, "pin, computed by openssl")
    key, ca = (directory / "server.key").read_bytes(), (directory / "ca.pem").read_bytes()
    again = t.run("gen-cert", t.culvert_argv("gen-cert", "--dir", directory))
    check_equal(len(re.findall("^kept", again.out, re.M)), 3, "files kept")
    check_equal((key, ca), ((directory / "server.key").read_bytes(), (directory / "ca.pem").read_bytes()), "key and CA")
    check_equal(certs.printed_pin(again.out), pin, "pin of the renewed certificate")
    client = t.run("gen-cert", t.culvert_argv("gen-cert", "--dir", directory, "--client", "laptop"))
    check("client.pem" in client.out and (directory / "client.key").exists(), client.out)
    certs.openssl("verify", "-CAfile", directory / "ca.pem", directory / "server.pem", directory / "client.pem")
    short = t.dir / "short"
    for days, says in (("20", None), ("100", r"The CA expires in (19|20) days, 80 before this certificate")):
        proc = t.run("gen-cert", t.culvert_argv("gen-cert", "--dir", short, "--days", days))
        check(says is None and "expires in" not in proc.out or says and re.search(says, proc.out), proc.out)
    for flags, word, status in ((["--name", "no name"], "no name", 2), (["--dir", directory / "ca.pem"], "ca.pem", 3)):
        bad = t.run("gen-cert", t.culvert_argv("gen-cert", "--dir", directory, *flags), want=status)
        check(word in bad.err and len(bad.err.splitlines()) == 1, bad.err)


@case(not_in=NOT_IN, needs=["openssl"])
def tls_renewal(t):
    """A certificate near its end: one that the server made is renewed with its names and key, any other is warned about."""
    state, ca = certs.gen_cert(t, "state", "--name", "tunnel.example", "--name", "192.0.2.9", "--days", "20"), certs.gen_cert(t, "ca")
    pin, before = certs.server_cert(state).pin, (state / "ca.pem").read_bytes()
    server = tls_server(t, "--state-dir", state)
    server.expect("renewed the certificate .*server.pem", stream="err")
    server.expect(r"WARN.*the CA \S+/ca.pem expires in (19|20) days: clients that trust it", stream="err")
    check_equal((certs.server_cert(state).pin, (state / "ca.pem").read_bytes()), (pin, before), "pin and CA")
    certs.openssl("x509", "-in", state / "server.pem", "-noout", "-checkend", 700 * 86400)
    for name in ("-checkhost tunnel.example", "-checkip 192.0.2.9", "-checkhost localhost"):
        certs.openssl("x509", "-in", state / "server.pem", "-noout", *name.split())
    works(tls_client(t, server, t.origin(net.echo), "--tls-pin", pin))
    rows = [("end", "has expired, [0-9]+ days ago", {"end": "20240101000000Z"}), ("near", "expires in [0-9]+ days", {"end": near_end(10)})]
    for name, says, dates in rows:
        cert = certs.signed(t, name, ca, **dates)
        content = cert.cert.read_bytes()
        tls_server(t, *cert.flags).expect(f"WARN.*{says}.*gen-cert", stream="err")
        (state / "server.pem").write_bytes(content)
        (state / "server.key").write_bytes(cert.key.read_bytes())
        tls_server(t, "--state-dir", state).expect(f"WARN.*{says}", stream="err")
        check_equal((state / "server.pem").read_bytes(), content, "a certificate of another CA")
    check("expire" not in tls_server(t, *certs.server_cert(ca).flags).err, "a warning about a fresh certificate")


def near_end(days):
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + days * 86400))


@case(not_in=NOT_IN)
def tls_demo(t):
    """demo --tls encrypts: the client's log has the cipher, no file is left, every byte is right."""
    demo = t.run("demo", t.culvert_argv("demo", "--tls", "--once", "--verbose", "--requests", 64,
                                         "--size", t.size("256M", "64M", "1G")), timeout=200 * t.factor)
    check(re.search(r"client\| .*TLS 1\.3, \S+, records sent by", demo.err), "the log of the client has no cipher")
    check("Every byte was right." in demo.out and certs.printed_pin(demo.out), demo.out)
    state = re.search(r"(/\S*culvert-demo-\w+)/server\.pem", demo.err).group(1)
    check(not t.dir.joinpath(state).exists(), f"{state} is left")


# Trust by CA and by pin

@case(not_in=NOT_IN, needs=["openssl"])
def tls_trust_by_ca(t):
    """The right CA and name get in; another CA, another name, a self-signed one and wrong dates do not, each with its reason."""
    ca, other = certs.gen_cert(t, "ca"), certs.gen_cert(t, "other")
    origin = t.origin(net.echo)
    rows = [
        ("good", certs.signed(t, "good", ca), None),
        ("wildcard", certs.signed(t, "wildcard", ca, names="DNS:*.example.org,IP:127.0.0.1"), None),
        ("another CA", certs.signed(t, "stranger", other), r"not signed by a CA this side trusts"),
        ("another name", certs.signed(t, "name", ca, names="DNS:other.example"), r"for another name.*other\.example"),
        ("another address", certs.signed(t, "address", ca, names="IP:127.0.0.2"), r"for another name.*127\.0\.0\.2"),
        ("expired", certs.signed(t, "expired", ca, end="20240101000000Z"), r"has expired"),
        ("not yet valid", certs.signed(t, "future", ca, start="20390101000000Z"), r"not valid yet"),
        ("self-signed", certs.self_signed(t, "self"), r"self-signed"),
    ]
    for what, cert, says in rows:
        server = tls_server(t, *cert.flags)
        if says is None:
            works(tls_client(t, server, origin, "--tls-ca", ca / "ca.pem"))
        else:
            client = refused(t, server, says, "--tls-ca", ca / "ca.pem", *ONCE)
            server.expect(r"TLS failed: (the peer does not trust|the peer refused)", stream="err")
            check(re.search(r"make|give|connect|check", client.err.split("TLS failed")[1]), f"{what}: no cure in {client.err}")
    by_name = tls_server(t, *rows[0][1].flags)
    works(tls_client(t, ("localhost", by_name.addr[1]), origin, "--tls-ca", ca / "ca.pem"))
    works(tls_client(t, by_name, origin, "--tls-ca", rows[0][1].cert))  # the certificate itself
    t.note = f"{len(rows) + 2} servers"


@case(not_in=NOT_IN, needs=["openssl"])
def tls_trust_by_pin(t):
    """The key is the identity: neither name nor chain matter, but dates do; a wrong or changed key is refused."""
    ca = certs.gen_cert(t, "ca")
    origin = t.origin(net.echo)
    cert = certs.signed(t, "named", ca, names="DNS:other.example")
    alone = certs.self_signed(t, "alone", "DNS:nobody")
    for good in (cert, alone):
        works(tls_client(t, tls_server(t, *good.flags), origin, "--tls-pin", good.pin))
    server = tls_server(t, *cert.flags)
    client = refused(t, server, r"does not match --tls-pin", "--tls-pin", alone.pin)
    check(cert.pin in client.err, "the pin that the server has is not named")
    server.expect(r"TLS failed: the peer", stream="err")
    works(tls_client(t, server, origin, "--tls-pin", cert.pin.upper().replace("SHA256", "sha256")))
    old = certs.signed(t, "old", ca, end="20240101000000Z")
    refused(t, tls_server(t, *old.flags), r"has expired", "--tls-pin", old.pin, *ONCE)
    wrong = tls_client(t, server, origin, "--tls-pin", "sha256:1234", wait=False)
    wrong.want = (2,)
    check_equal(wrong.wait(), 2, "exit status with half a pin")
    check("64 hex digits" in wrong.err, wrong.last_words())


@case(not_in=NOT_IN)
def tls_bad_files(t):
    """Files that cannot be used end the start with status 3 and one sentence that names file and cure."""
    good, other = certs.gen_cert(t, "good"), certs.gen_cert(t, "other")
    text = t.write("text", "no certificate\n")
    rows = [
        ("server", ["--tls-cert", t.dir / "missing.pem", "--tls-key", good / "server.key"], "missing.pem"),
        ("server", ["--tls-cert", text, "--tls-key", good / "server.key"], "text"),
        ("server", ["--tls-cert", good / "server.pem", "--tls-key", text], "text"),
        ("server", ["--tls-cert", good / "server.pem", "--tls-key", other / "server.key"], "does not belong"),
        ("server", ["--tls-ca", text, "--state-dir", good], "text"),
        ("server", ["--state-dir", text], "text"),
        ("client", ["--tls-ca", t.dir / "missing.pem"], "missing.pem"),
        ("client", ["--tls-ca", text], "text"),
    ]
    for role, flags, word in rows:
        if role == "server":
            proc = tls_server(t, *flags, wait=False)
        else:
            proc = tls_client(t, ("127.0.0.1", 1), ("127.0.0.1", 1), *flags, wait=False)
        proc.want = (3,)
        check_equal(proc.wait(), 3, f"exit status of {role} {flags}")
        check(word in proc.err and len([line for line in proc.err.splitlines() if "ERROR" in line]) == 1, proc.err)


# CA files: tests/unit/test_tls_ca.c has every kind of damage; here is what the two programs make of
# it

PAST = "20240101000000Z"


def swallowed(first, second):
    """Two PEM texts, the first without its END line."""
    return first.replace("-----END CERTIFICATE-----\n", "") + second


def ends(proc, says):
    """It does not start: status 3 and one sentence."""
    proc.want = (3,)
    check_equal(proc.wait(), 3, f"exit status ({proc.last_words()})")
    errors = [line for line in proc.err.splitlines() if "ERROR" in line]
    check(len(errors) == 1 and re.search(says, errors[0]), f"/{says}/ is not in: {proc.err}")


@case(not_in=NOT_IN, needs=["openssl"])
def tls_ca_files(t):
    """A damaged CA file, or one that is out of date, ends the start of both programs, and the member is named; expired members beside others are warned about."""
    good, other = certs.authority(t, "good", "good CA"), certs.authority(t, "other", "other CA")
    old = certs.authority(t, "old", "old CA", end=PAST)
    own = certs.server_cert(certs.gen_cert(t, "own"))
    texts = {directory: (directory / "ca.pem").read_text() for directory in (good, other, old)}
    key = (good / "ca.key").read_text()
    rows = [
        (swallowed(texts[good], texts[other]), r"member 1 \(line 1, /CN=good CA\) has no END line"),
        (texts[good] + texts[other].partition("\n")[2], r"member 2 \(line [0-9]+\).*BEGIN line"),
        (texts[good] + texts[other].replace("\nMII", "\nM!I"), r"member 2 \(line [0-9]+\) is damaged.*not base64"),
        (texts[good] + key, r"member 2 \(line [0-9]+\) is a private key: take it out"),
        (texts[old], r"member 1 \(line 1, /CN=old CA\) has expired \(valid until 2024-01-01 00:00 UTC, this machine's clock says 20"),
    ]
    for index, (text, says) in enumerate(rows):
        path = t.write(f"ca{index}", text)
        server = tls_server(t, *own.flags, "--tls-ca", path, wait=False)
        client = tls_client(t, ("127.0.0.1", 1), ("127.0.0.1", 1), "--tls-ca", path, wait=False)
        for proc in (server, client):
            ends(proc, says)
            check(not set(key.splitlines()[1:-1]) & set(re.findall(r"[A-Za-z0-9+/=]{20,}", proc.err)), "a key is in the log")
    both = t.write("both", texts[old] + texts[good])
    server = tls_server(t, *certs.signed(t, "fresh", good).flags, "--tls-ca", both)
    warning = r"WARN.*member 1 \(line 1, /CN=old CA\) has expired \(valid until 2024"
    server.expect(warning, stream="err")
    client = certs.signed(t, "client", good)
    client = tls_client(t, server, t.origin(net.echo), "--tls-ca", both, *client.flags)
    client.expect(warning, stream="err")
    works(client)


@case(not_in=NOT_IN, needs=["openssl"])
def tls_expired_ca(t):
    """What an expired CA has signed is not trusted, at either end, though its file could be loaded; its renewed certificate (same name and key) mends that."""
    good, old = certs.authority(t, "good", "good CA"), certs.authority(t, "old", "old CA", end=PAST)
    renewed = certs.authority(t, "renewed", "old CA", key=old / "ca.key")
    stale = t.write("stale", (old / "ca.pem").read_text() + (good / "ca.pem").read_text())
    mended = t.write("mended", (old / "ca.pem").read_text() + (renewed / "ca.pem").read_text())
    says = r"the CA that signed the certificate has expired \(/CN=old CA, valid until 2024-01-01 00:00 UTC, this machine's clock says [^)]* UTC\).*--tls-ca"
    origin = t.origin(net.echo)
    of_old = certs.signed(t, "of-old", old)
    server = tls_server(t, *of_old.flags)
    refused(t, server, says, "--tls-ca", stale, *ONCE)
    server.expect("TLS failed: the peer does not trust", stream="err")
    works(tls_client(t, server, origin, "--tls-ca", mended))
    server = tls_server(t, *certs.signed(t, "of-good", good).flags, "--tls-ca", stale)
    client = tls_client(t, server, origin, "--tls-ca", good / "ca.pem", *of_old.flags, *ONCE, wait=False)
    client.want = (1, 4)
    check(client.wait() in client.want, f"exit status ({client.last_words()})")
    server.expect(f"TLS failed: {says}", stream="err")
    server = tls_server(t, *certs.signed(t, "of-good-again", good).flags, "--tls-ca", mended)
    works(tls_client(t, server, origin, "--tls-ca", good / "ca.pem", *of_old.flags))


@case(not_in=NOT_IN, needs=["openssl"])
def tls_ca_reload(t):
    """SIGHUP reads the CA file again: another CA counts at once, and a file that cannot be used changes nothing and is named."""
    first, second = certs.authority(t, "first", "first CA"), certs.authority(t, "second", "second CA")
    texts = [(directory / "ca.pem").read_text() for directory in (first, second)]
    one, two = certs.signed(t, "one", first), certs.signed(t, "two", second)
    ca = t.write("ca", texts[0])
    server = tls_server(t, *certs.server_cert(certs.gen_cert(t, "own")).flags, "--tls-ca", ca)
    trust = ["--tls-pin", certs.printed_pin(server.out)]
    origin = t.origin(net.echo)
    works(tls_client(t, server, origin, *trust, *one.flags))
    bad = [(swallowed(*texts), r"member 1 \(line 1, /CN=first CA\) has no END line"),
           ((certs.authority(t, "old", "old CA", end=PAST) / "ca.pem").read_text(), r"/CN=old CA\) has expired \(valid until 2024")]
    for count, (text, says) in enumerate(bad, 1):
        ca.write_text(text)
        server.send(signal.SIGHUP)
        server.expect(rf"ERROR.*CA file.*{says}", stream="err")
        server.expect("the certificate in use stays", stream="err", count=count)
        works(tls_client(t, server, origin, *trust, *one.flags))
    ca.write_text(texts[1])
    server.send(signal.SIGHUP)
    server.expect("certificate read again", stream="err")
    works(tls_client(t, server, origin, *trust, *two.flags))
    late = tls_client(t, server, origin, *trust, *one.flags, *ONCE, wait=False)
    late.want = (1, 4)
    check(late.wait() in late.want, f"exit status ({late.last_words()})")
    server.expect(r"not signed by a CA this side trusts \(signed by /CN=first CA\)", stream="err")


@case(not_in=NOT_IN, needs=["openssl"])
def tls_own_chain(t):
    """The file of --tls-cert: a damaged intermediate ends the start, one that has expired is warned about here and named there."""
    ca = certs.authority(t, "ca", "the CA")
    fresh, old = certs.authority(t, "fresh", "fresh middle", by=ca), certs.authority(t, "stale", "stale middle", by=ca, end=PAST)
    origin = t.origin(net.echo)
    below = certs.signed(t, "below", fresh)
    leaf, middle = below.cert.read_text(), (fresh / "ca.pem").read_text()
    chain = ["--tls-cert", t.write("chain", leaf + middle), "--tls-key", below.key]
    works(tls_client(t, tls_server(t, *chain), origin, "--tls-ca", ca / "ca.pem"))
    for text, says in ((swallowed(leaf, middle), r"member 1 \(line 1, /CN=e2e\) has no END line"),
                       (leaf + middle.replace("\nMII", "\nM!I"), r"member 2 \(line [0-9]+\) is damaged"),
                       (middle + leaf, "belongs to member 2")):
        ends(tls_server(t, "--tls-cert", t.write("bad", text), "--tls-key", below.key, wait=False), says)
    below = certs.signed(t, "below-stale", old)
    server = tls_server(t, "--tls-cert", t.write("stale.pem", below.cert.read_text() + (old / "ca.pem").read_text()),
                        "--tls-key", below.key)
    server.expect(r"WARN.*member 2 \(line [0-9]+, /CN=stale middle\) has expired", stream="err")
    refused(t, server, r"an intermediate certificate of the chain has expired \(/CN=stale middle, valid until 2024",
            "--tls-ca", ca / "ca.pem", *ONCE)


# Trust on first use

def known(t):
    path = t.dir / "client" / "known_servers"
    return path.read_text() if path.exists() else ""


@case(not_in=NOT_IN)
def tls_known_servers(t):
    """Unknown without a terminal: refused. --tls-accept-new: noted. Then known; a changed key is refused loudly, whatever the flags."""
    first, second = certs.gen_cert(t, "first"), certs.gen_cert(t, "second")
    state = ["--state-dir", t.dir / "client"]
    origin = t.origin(net.echo)
    server = tls_server(t, *certs.server_cert(first).flags)
    pin = certs.server_cert(first).pin
    client = refused(t, server, r"not known yet.*--tls-pin", *state)
    check(pin in client.err, "the pin is not shown")
    check_equal(known(t), "", "known_servers after a refusal")
    noted = client = tls_client(t, server, origin, *state, "--tls-accept-new")
    works(client)
    check(re.search(rf"^{re.escape(net.format_addr(server.addr))} {pin}$", known(t), re.M), known(t))
    check_equal((t.dir / "client" / "known_servers").stat().st_mode & 0o077, 0, "mode of known_servers for others")
    client = tls_client(t, server, origin, *state)
    works(client)
    noted.stop()
    client.stop()
    addr = server.addr
    server.stop()
    tls_server(t, *certs.server_cert(second).flags, addr=addr)
    before = known(t)
    for flags in ([], ["--tls-accept-new"]):
        client = refused(t, addr, r"KEY HAS CHANGED", *state, *flags)
        check("known_servers" in client.err, "the file is not named")
    check_equal(known(t), before, "known_servers after a changed key")


@case(not_in=NOT_IN)
def tls_known_servers_asks(t):
    """On a terminal the pin is shown and a human asked: no is no, yes is remembered and not asked again."""
    server = tls_server(t, "--state-dir", t.dir / "state")
    pin = certs.printed_pin(server.out)
    origin = t.origin(net.echo)
    state = ["--state-dir", t.dir / "client"]
    client = tls_client(t, server, origin, *state, wait=False, terminal=True)
    client.want = (1,)
    client.expect(r"Trust it\? \[y/N\]", stream="err")
    check(pin in client.err, "the pin is not shown")
    client.type("no\n")
    check_equal(client.wait(), 1, "exit status after no")
    check("not accepted" in client.err, client.err)
    check_equal(known(t), "", "known_servers after no")
    client = tls_client(t, server, origin, *state, wait=False, terminal=True)
    client.expect(r"Trust it\? \[y/N\]", stream="err")
    check("ready:" not in client.out, "ready before the answer")
    client.type("y\n")
    client.read_ready(1)
    works(client)
    check(pin in known(t), known(t))
    client.stop()
    client = tls_client(t, server, origin, *state, terminal=True)
    works(client)
    check("Trust it?" not in client.err, "asked again")


@case(not_in=NOT_IN)
def tls_slow_human(t):
    """A human who takes longer than the server's patience is not asked twice: the answer counts for the next connection, on the same wire."""
    server = tls_server(t, "--state-dir", t.dir / "state", "--handshake-timeout", "300ms")
    client = tls_client(t, server, t.origin(net.echo), "--state-dir", t.dir / "client", wire="auto", wait=False, terminal=True)
    client.expect(r"Trust it\? \[y/N\]", stream="err")
    server.expect("handshake took too long", stream="err")
    client.type("y\n")
    client.read_ready(1)
    works(client)
    check_equal(client.err.count("Trust it?"), 1, "questions")
    check("falling back" not in client.err, "it fell back to v1")


# Client certificates

@case(not_in=NOT_IN)
def tls_client_certificates(t):
    """A server with --tls-ca lets in whoever has a certificate of that CA and the token, and nobody else."""
    ca, other = certs.gen_cert(t, "ca"), certs.gen_cert(t, "other")
    for directory in (ca, other):
        certs.gen_cert(t, directory.name, "--client", "laptop")
    server = tls_server(t, *certs.server_cert(ca).flags, "--tls-ca", ca / "ca.pem")
    origin = t.origin(net.echo)
    trust = ["--tls-ca", ca / "ca.pem"]

    def own(directory):
        return ["--tls-cert", directory / "client.pem", "--tls-key", directory / "client.key"]
    works(tls_client(t, server, origin, *trust, *own(ca)))
    without = tls_client(t, server, origin, *trust, *ONCE, wait=False)
    stranger = tls_client(t, server, origin, *trust, *own(other), *ONCE, wait=False)
    for client in (without, stranger):
        client.want = (1, 4)
        check(client.wait() in client.want, f"exit status ({client.last_words()})")
        check("ready:" not in client.out, "it got in")
    server.expect("client certificate", stream="err")
    server.expect("not signed by a CA this side trusts", stream="err")
    check("it wants a client certificate" in without.err, f"the client is not told why: {without.err}")
    check("does not trust the certificate" in stranger.err, f"the client is not told why: {stranger.err}")
    bad = tls_client(t, server, origin, *trust, *own(ca), *ONCE, token="wrong", wait=False)
    bad.want = (5,)
    check_equal(bad.wait(), 5, "exit status with a certificate and a wrong token")
    works(tls_client(t, server, origin, *trust, *own(ca)))
