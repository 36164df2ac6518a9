"""one_port: safe without a flag. A server takes TLS, plain v2 and v1 on one port; a client encrypts unless the server is this machine; what
cannot be kept is said."""
import os
import re
import signal
import socket
import struct

import certs
import net
import v1peer
import v2wire
from cases.tls_trust import NOT_IN, tls_client, works
from harness import Skip, case, check, check_equal, enter_private_network, find_tool

FAR = "192.0.2.1"
USER = 65534


def far_away():
    if not find_tool("ip"):
        raise Skip("ip (iproute2) is not installed")
    enter_private_network([f"{FAR}/32"])


@case(not_in={**NOT_IN, "v2-2w": "the port is each worker's, see the other cases"})
def one_port_for_all(t):
    """Plain v2, v1, TLS with v2 and TLS with v1 at a server that was given no flag, all at once; each is logged as what it is."""
    server, origin = t.server(tls=False), t.origin(net.echo)
    trust = ["--tls-accept-new", "--state-dir", t.dir / "client"]
    clients = [t.client(server, origin, wire="v2", tls=False), t.client(server, origin, wire="v1", tls=False),
               tls_client(t, server, origin, *trust, wire="v2"), tls_client(t, server, origin, *trust, wire="v1")]
    for client in clients:
        works(client)
    for what in (r"\(v2\), plain", r"\(v1\), plain", r"\(v2\), TLS 1.3", r"\(v1\), TLS 1.3"):
        server.expect("logged in " + what, stream="err")
    check("WARN " not in server.err, f"a warning about connections that do not leave the machine: {server.err}")
    check("tls: " not in server.out, "a command for clients far away, who cannot reach it")


@case(not_in=NOT_IN)
def one_port_for_strangers(t):
    """A first byte that comes alone, no byte at all, and what is neither of the three: who waits is waited for, the rest is told."""
    server = t.server("--handshake-timeout", "3s", tls=False)
    lanes, net.LANES = net.LANES, None
    silent = net.connect(server.addr)
    slow = net.connect(server.addr)
    said = v2wire.hello()
    frame = v2wire.frame(v2wire.HELLO, 0, said)
    for at in range(4):
        slow.sendall(frame[at:at + 1])
    slow.sendall(frame[4:])
    v2wire.Wire(slow).expect(v2wire.HELLO_OK)
    other = net.connect(server.addr)
    other.sendall(b"GET / HTTP/1.1\r\n\r\n")
    check(net.end_of(other) in ("eof", "reset"), "kept")
    server.expect("the peer speaks HTTP", stream="err")
    begun = net.connect(server.addr)
    begun.sendall(b"\x16\x03\x01")
    for sock in (silent, begun):
        check(net.end_of(sock) in ("eof", "reset"), "kept after the time-out")
    net.connect(server.addr).close()
    server.expect("connection closed by the peer", stream="err")
    check("close_notify" not in server.err, "it takes who said nothing for a TLS peer")
    net.LANES = lanes


@case(not_in=NOT_IN)
def one_port_keeps_sessions_apart(t):
    """A session that began under TLS is not joined, nor its lane brought back, by a plain connection, whatever it proves."""
    server = t.server("--grace", "60s")
    wire = v2wire.client_wire(server.addr)
    v2wire.log_in(wire, t.token.encode(), lanes=2, caps=v2wire.RESUME)
    lanes, net.LANES = net.LANES, None
    for lane, flags in ((1, 0), (0, 1)):
        plain = v2wire.Wire(net.connect(server.addr))
        v2wire.say_join(plain, wire, lane, flags)
        code = struct.unpack_from(">H", plain.expect(v2wire.GOAWAY)[2])[0]
        check_equal(code, 59, f"code of lane {lane}")
        check(net.end_of(plain.sock) in ("eof", "reset"), "kept")
    net.LANES = lanes
    wire.send(v2wire.PING, 0, bytes(16))
    wire.expect(v2wire.PONG)


@case(not_in=NOT_IN)
def one_command_for_far_away(t):
    """Beyond loopback the server prints the whole command, which works as it stands; a client without it ends, and names the flag."""
    far_away()
    path = t.write("token", t.token + "\n", 0o600)
    state = t.dir / "state"
    server = t.server("--token-file", path, "--state-dir", state, host=FAR, tls=False, token=None)
    line = server.expect(r"^tls: culvert (client --server \S+ --local HOST:PORT --tls-pin sha256:\S+ --token-file \S+)$")[0]
    origin = t.origin(net.echo)
    words = line.group(1).replace("HOST:PORT", net.format_addr(origin.addr)).split()
    client = t.spawn("printed", t.culvert_argv(*words))
    client.is_culvert = True
    addr = net.parse_addr(client.expect(r"^ready: tcp://(\S+) ")[0].group(1))
    with net.connect(addr) as sock:
        sock.sendall(b"hello")
        check_equal(net.recv_exact(sock, 5), b"hello", "echo")
    server.expect(r"logged in \(v2\), TLS 1.3", stream="err")
    alone = t.spawn("alone", t.culvert_argv("client", "--server", net.format_addr(server.addr), "--local", "1", "--token-file", path,
                                            "--state-dir", t.dir / "client"))
    check_equal(alone.wait(), 1, "exit status of a client that cannot ask")
    check(f"add --tls-pin {certs.server_cert(state).pin}" in alone.err, alone.err)


@case(not_in=NOT_IN)
def one_name_of_the_certificate(t):
    """A server on all addresses prints the name that its certificate has."""
    far_away()
    certs.gen_cert(t, "state", "--name", FAR, "--name", "tunnel.example.org")
    server = t.server("--state-dir", t.dir / "state", addr=("0.0.0.0", t.port()), tls=False)
    server.expect(rf"^tls: culvert client --server tunnel\.example\.org:{server.addr[1]} ")


@case(not_in=NOT_IN)
def one_key_in_memory(t):
    """Where no directory can be had a server says that its pin changes, and works; one that was named is needed."""
    far_away()
    if os.geteuid() != 0:
        raise Skip("needs root to become another user")
    t.dir.chmod(0o755)
    under = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--bounding-set=-all", "env", "-i", "HOME=/"]
    pins = set()
    for _ in range(2):
        server = t.server(host=FAR, tls=False, under=under)
        server.expect(r"WARN .*the pin changes at each start.*--state-dir", stream="err")
        pins.add(certs.printed_pin(server.out))
        works(tls_client(t, server, t.origin(net.echo), "--tls-pin", certs.printed_pin(server.out)))
        server.stop()
    check_equal(len(pins), 2, "pins of two starts")
    named = t.server("--state-dir", "/proc/nothing", host=FAR, tls=False, under=under, wait=False)
    named.want = (3,)
    check_equal(named.wait(), 3, "exit status with a directory that cannot be made")
    check(re.search(r"ERROR .*/proc/nothing.*--state-dir", named.err), named.err)


@case(not_in={"tls": "the connections are plain"})
def plain_is_said(t):
    """Plain lanes beyond loopback: each side warns, once for a session; v1 has shown the token."""
    far_away()
    server = t.server(host=FAR)
    client = t.client(server, t.origin(net.echo))
    works(client)
    for proc in (server, client):
        proc.expect(r"WARN .*this connection is plain" + (".*has seen the token" if t.mode.v1 else ""), stream="err")


@case(not_in={"tls": "the client is not to be told", "v1": "v2 is the usual", "v2-2w": "workers do not matter"})
def plain_server_at_a_client_that_encrypts(t):
    """Without --plain a client far away does not speak plain, whatever the server does."""
    far_away()
    server = t.server("--plain", host=FAR)
    client = t.spawn("client", t.culvert_argv("client", "--server", net.format_addr(server.addr), "--local", "1", "--token", t.token,
                                              "--no-reconnect", "--state-dir", t.dir / "client"))
    check_equal(client.wait(), 1, "exit status")
    check("a Culvert peer without TLS" in client.err and "--plain" in client.err, client.err)
    server.expect("the peer speaks TLS and this side does not", stream="err")


@case(not_in=NOT_IN)
def one_ca_for_all(t):
    """A server that wants certificates of its clients wants them of all: without --tls, too, it takes no plain lane of either
    version, and the command that it prints names them. A client that is refused says why in its last line."""
    far_away()
    ca = certs.gen_cert(t, "ca", "--name", FAR)
    certs.gen_cert(t, "ca", "--client", "laptop")
    server = t.server("--tls-ca", ca / "ca.pem", *certs.server_cert(ca).flags, host=FAR, tls=False)
    server.expect("^tls: .* --tls-cert client.pem --tls-key client.key$")
    origin = t.origin(net.echo)
    works(tls_client(t, server, origin, "--tls-ca", ca / "ca.pem", "--tls-cert", ca / "client.pem", "--tls-key", ca / "client.key"))
    plain = [t.client(server, origin, "--plain", "--no-reconnect", wire=wire, tls=False, wait=False) for wire in ("v2", "v1")]
    for client in [*plain, tls_client(t, server, origin, "--tls-ca", ca / "ca.pem", "--no-reconnect", wait=False)]:
        client.want = (1, 4)
        client.wait()
        check("ready:" not in client.out and "(null)" not in client.err, client.err)
        check("ERROR" in client.err.splitlines()[-1], client.err)


@case(not_in=NOT_IN)
def one_directory_for_many(t):
    """Servers that start at the same time with nothing in their state directory have the same key,
    and gen-cert beside them leaves files that belong together."""
    addrs, start_port = [("127.0.0.1", t.port()) for _ in range(6)], t.ports(24)
    for turn in range(5):
        state = t.dir / f"state{turn}"
        servers = [t.server("--tls", "--state-dir", state, addr=addr, start_port=start_port, tls=False, wait=False)
                   for addr in addrs]
        made = t.spawn("gen-cert", t.culvert_argv("gen-cert", "--dir", state, "--name", "localhost"))
        for server in servers:
            server.expect(r"^listening: ")
        check_equal(made.wait(), 0, "exit status of gen-cert")
        pins = {certs.printed_pin(server.out) for server in servers}
        check_equal(pins, {certs.server_cert(state).pin}, "pins")
        for server in servers:
            server.stop()


def works_with(t, server, pin):
    works(tls_client(t, server, t.origin(net.echo), "--tls-pin", pin, "--state-dir", t.dir / "client"))


@case(not_in=NOT_IN)
def one_key_until_the_end(t):
    """SIGHUP, with which tokens are changed, never changes the key that clients have pinned: not when its files are gone, nor when
    others could be made; put back, they are read."""
    state, away = t.dir / "state", t.dir / "away"
    server = t.server("--tls", "--state-dir", state, tls=False)
    pin = certs.server_cert(state).pin
    works_with(t, server, pin)
    state.rename(away)
    server.send(signal.SIGHUP)
    server.expect("ERROR tls: cannot read .*server.pem", stream="err")
    server.expect("the certificate in use stays", stream="err")
    works_with(t, server, pin)
    check(not state.exists(), "files were made")
    away.rename(state)
    server.send(signal.SIGHUP)
    server.expect(f"certificate read again: {pin}", stream="err")


@case(not_in=NOT_IN)
def one_key_in_memory(t):
    """A key in memory stays, too, and the CA of clients is read again beside it."""
    old, new = (certs.gen_cert(t, name) for name in ("old", "new"))
    for name in ("old", "new"):
        certs.gen_cert(t, name, "--client", "laptop")
    ca = t.dir / "clients.pem"
    ca.write_bytes((old / "ca.pem").read_bytes())
    (t.dir / "no-directory").write_text("")
    server = t.server("--tls-ca", ca, tls=False, env={"STATE_DIRECTORY": str(t.dir / "no-directory")})
    pin = re.search(r"--tls-pin (sha256:\S+)", server.expect("^tls: .*")[0].group(0)).group(1)

    def client(folder, **more):
        return tls_client(t, server, t.origin(net.echo), "--tls-pin", pin, "--tls-cert", folder / "client.pem", "--tls-key",
                          folder / "client.key", "--no-reconnect", **more)
    works(client(old))
    ca.write_bytes((new / "ca.pem").read_bytes())
    server.send(signal.SIGHUP)
    server.expect(f"certificate read again: {pin}", stream="err")
    works(client(new))
    late = client(old, wait=False)
    late.want = (1, 4)
    late.wait()
    check("ready:" not in late.out, "the CA of before is trusted still")


@case(not_in={**NOT_IN, "v2-2w": "workers do not matter"}, needs=["unshare", "mount"])
def one_name_that_leads_away(t):
    """`localhost` is another machine: nothing is said to it, neither in clear without --plain, nor, whatever is asked for, with a
    weak token, of which a proof is enough to try words against."""
    far_away()
    hosts = t.write("hosts", f"{FAR} localhost\n")
    under = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts)]
    listener = socket.create_server((FAR, 0))
    listener.setblocking(False)
    for token, flags in ((t.token, []), ("short", ["--plain"]), ("short", ["--tls", "--tls-accept-new"])):
        client = t.spawn("away", [*under, *t.culvert_argv("client", "--server", f"localhost:{listener.getsockname()[1]}", "--local", "1",
                                                          "--token", token, "--no-reconnect", "--state-dir", t.dir / "client", *flags)])
        check_equal(client.wait(), 4, f"exit status with {flags}")
        check("leads to another address: it is not dialled" in client.err, client.err)
    try:
        listener.accept()
    except BlockingIOError:
        return
    check(False, "it was dialled")
