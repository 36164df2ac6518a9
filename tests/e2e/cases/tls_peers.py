"""tls_peers: who is on the other side: peers with another TLS, with none where there should be some, and programs that nobody here wrote."""
import re
import socket
import ssl
import struct

import certs
import net
import tlspipe
import v1peer
import v2wire
from cases.interop import gotunnel
from cases.tls_trust import NOT_IN, ONCE, refused, tls_client, tls_server
from harness import case, check, check_equal

MIB = 1 << 20
TLS12 = ssl.TLSVersion.TLSv1_2


# Plain bytes on a TLS port, and the reverse

def gives_up(client, says):
    """The client ends by itself and has said this."""
    client.want = (1, 4)
    check(client.wait() in client.want, f"exit status ({client.last_words()})")
    check(re.search(says, client.err), f"/{says}/ is not in: {client.err}")


@case(not_in=NOT_IN)
def tls_plain_client_at_tls_server(t):
    """Each side's log says what the other seems to be, on either wire; the client gives up at once."""
    server = tls_server(t, "--state-dir", t.dir / "state")
    origin = ("127.0.0.1", 1)
    for number, (wire, what) in enumerate((("v2", "a Culvert peer without TLS"), ("auto", "a Culvert peer without TLS"),
                                           ("v1", "a v1 tunnel peer without TLS"))):
        client = t.client(server, origin, wire=wire, tls=False, wait=False)
        gives_up(client, "the peer speaks TLS and this side does not")
        check_equal(client.err.count("attempt"), 0, "attempts")
        check("falling back" not in client.err, "it took a TLS server for a v1 server")
        server.expect("seems to be a (Culvert|v1 tunnel) peer without TLS", stream="err", count=number + 1)
        check(what in [line for line in server.err.splitlines() if "seems to be" in line][-1], server.err)


@case(not_in=NOT_IN)
def tls_client_at_plain_server(t):
    server = t.server("--plain", tls=False)
    for number, wire in enumerate(("v2", "auto", "v1")):
        client = refused(t, server, "the server seems to be a Culvert peer without TLS", "--tls-accept-new",
                         "--state-dir", t.dir / "client", wire=wire)
        check("falling back" not in client.err, "it fell back to v1")
        server.expect("the peer speaks TLS and this side does not", stream="err", count=number + 1)
    # A v1 server hangs up without a word.
    peer = t.keep(v1peer.V1Server(t.token))
    net.LANES, lanes = None, net.LANES
    client = tls_client(t, peer, ("127.0.0.1", 1), "--tls-accept-new", "--state-dir", t.dir / "client", *ONCE, wire="v1", wait=False)
    gives_up(client, "in the TLS handshake.*does it speak TLS here")
    net.LANES = lanes


@case(not_in=NOT_IN)
def tls_other_protocols(t):
    """HTTP and SSH where a tunnel was expected, in the clear and inside TLS."""
    ca = certs.gen_cert(t, "ca")
    server = tls_server(t, *certs.server_cert(ca).flags)
    for hello, says in ((b"GET / HTTP/1.1\r\n\r\n", "seems to be an HTTP peer.*visitors use the tunnel's public port"),
                        (b"SSH-2.0-x\r\n", "seems to be an SSH peer")):
        sock = net.connect(server.addr)
        sock.sendall(hello)
        check(net.end_of(sock) in ("eof", "reset"), "kept")
        server.expect(says, stream="err")
    sock, _ = tlspipe.wrap(net.connect(server.addr), tlspipe.client_context(ca / "ca.pem"), name="localhost")
    sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
    check(net.end_of(sock) in ("eof", "reset"), "kept")
    server.expect("unknown protocol version: the peer speaks HTTP", stream="err")
    for word, greeting in (("an HTTP peer", b"HTTP/1.1 400 Bad Request\r\n\r\n"), ("an SSH peer", b"SSH-2.0-x\r\n")):
        other = t.origin(lambda sock, text=greeting: sock.sendall(text))
        refused(t, other.addr, f"the server seems to be {word}", "--tls-accept-new", "--state-dir", t.dir / "client")
    plain = t.server(tls=False)
    sock = net.connect(plain.addr)
    sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
    check(net.end_of(sock) in ("eof", "reset"), "kept")
    plain.expect("unknown protocol version: the peer speaks HTTP", stream="err")


# Versions

@case(not_in=NOT_IN, needs=["openssl"])
def tls_old_versions(t):
    """TLS 1.0 and 1.1 are refused by name."""
    server = tls_server(t, "--state-dir", t.dir / "state")
    for number, version in enumerate(("-tls1", "-tls1_1")):
        proc = t.run("s_client", ["openssl", "s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-connect", net.format_addr(server.addr)],
                     want=1)
        check(re.search("alert protocol version|unsupported protocol|no protocols available", proc.err), proc.err)
        server.expect("no TLS version in common", stream="err", count=number + 1)


def v1_pipe(server, ca, newest):
    """A v1 client's connection as GoTunnel makes it: TLS 1.2 or newer, the CA file, the name localhost."""
    context = tlspipe.client_context(ca / "ca.pem", newest=newest)
    sock, pipe = tlspipe.wrap(net.connect(server.addr), context, name="localhost")
    return v1peer.Wire(sock, v1peer.TO_CLIENT), pipe


@case(not_in=NOT_IN)
def tls_v1_client(t):
    """A v1 client with TLS 1.2 and 1.3 that verifies localhost against gen-cert's CA: bulk both ways, and a small exchange."""
    ca = certs.gen_cert(t, "ca", "--name", "tunnel.example")
    server = tls_server(t, *certs.server_cert(ca).flags)
    for newest, version in ((TLS12, "TLSv1.2"), (None, "TLSv1.3")):
        wire, pipe = v1_pipe(server, ca, newest)
        check_equal(pipe.tls.version(), version, "TLS version")
        port = v1peer.log_in(wire, t.token.encode())
        visitor = net.connect((server.host, port))
        stream = wire.expect(v1peer.STREAM_OPEN).stream
        body = net.Pattern(version).block(0)
        sending = net.Task(lambda sock=visitor, data=body: sock.sendall(data))
        got = b""
        while len(got) < MIB:
            got += wire.expect(v1peer.STREAM_DATA).payload
        check(got == body, "bytes up are wrong")
        sending.join_result()
        receiving = net.Task(net.recv_exact, visitor, MIB)
        for at in range(0, MIB, 4096):
            wire.send(v1peer.STREAM_DATA, stream, body[at:at + 4096])
        check(receiving.join_result() == body, "bytes down are wrong")
        server.expect(version.replace("v", " ") + ", ", stream="err")
        wire.close()


@case(not_in=NOT_IN)
def tls_12_is_for_v1_only(t):
    """A v2 peer with TLS 1.2 is refused, on either side; with TLS 1.3 it is let in."""
    ca = certs.gen_cert(t, "ca")
    server = tls_server(t, *certs.server_cert(ca).flags)
    context = tlspipe.client_context(ca / "ca.pem", newest=TLS12)
    wire = v2wire.Wire(tlspipe.wrap(net.connect(server.addr), context, name="localhost")[0])
    wire.send(v2wire.HELLO, 0, v2wire.hello())
    check_equal(struct.unpack_from(">H", wire.expect(v2wire.GOAWAY)[2])[0], 57, "code of GOAWAY")
    check(net.end_of(wire.sock) in ("eof", "reset"), "no end after GOAWAY")
    server.expect("v2 needs TLS 1.3", stream="err")
    # Our client at a v2 server that has TLS 1.2 only.
    listener = t.keep(v2wire.Server(t.token))
    old = tlspipe.server_context(ca / "server.pem", ca / "server.key")
    old.maximum_version = TLS12

    def serve():
        net.LANES = type("Old", (), {"accepted": staticmethod(lambda sock: tlspipe.wrap(sock, old, server_side=True)[0]),
                                     "exporter": staticmethod(lambda sock: None)})
        wire = listener.accept(upto=v2wire.HELLO)
        return net.end_of(wire.sock)
    lanes, serving = net.LANES, net.Task(serve)
    client = tls_client(t, listener, ("127.0.0.1", 1), "--tls-ca", ca / "ca.pem", *ONCE, wire="auto", wait=False)
    gives_up(client, "v2 needs TLS 1.3")
    check(serving.join_result() in ("eof", "reset"), "no end at the server")
    net.LANES = lanes
    strict = net.Task(lambda: tlspipe.wrap(listener.sock.accept()[0], old, server_side=True))
    gives_up(tls_client(t, listener, ("127.0.0.1", 1), "--tls-ca", ca / "ca.pem", *ONCE, wire="v2", wait=False), "no TLS version in common")
    try:
        strict.join_result()
        raise AssertionError("a handshake with TLS 1.2 was made")
    except OSError:
        pass


# Programs

@case(not_in=NOT_IN, needs=["openssl", "gnutls-cli", "curl"])
def tls_tools(t):
    """openssl, gnutls and curl find the certificate valid for its names and shake hands."""
    ca = certs.gen_cert(t, "ca")
    server = tls_server(t, *certs.server_cert(ca).flags)
    host, port = server.addr
    for version in ("-tls1_2", "-tls1_3"):
        proc = t.run("s_client", ["openssl", "s_client", version, "-connect", f"{host}:{port}", "-CAfile", ca / "ca.pem",
                                  "-verify_hostname", "localhost", "-verify_return_error"], want=None)
        check("Verification: OK" in proc.out or "Verify return code: 0" in proc.out, proc.out[-500:])
    proc = t.run("gnutls", ["gnutls-cli", "--x509cafile", ca / "ca.pem", "--verify-hostname=localhost", "-p", port, host], want=None)
    check("Handshake was completed" in proc.out, proc.out[-500:] + proc.err)
    proc = t.run("curl", ["curl", "-sv", "--max-time", "20", "--cacert", ca / "ca.pem", f"https://localhost:{port}/", "--resolve",
                          f"localhost:{port}:{host}"], want=None)
    check("SSL certificate verify ok" in proc.err, proc.err[-800:])
    server.expect("the peer speaks HTTP", stream="err")


@case(not_in=NOT_IN, needs=["openssl"])
def tls_openssl_server(t):
    """Our client at openssl's server: the handshake is made and verified, and a server that never answers is given up in time."""
    ca = certs.gen_cert(t, "ca")
    addr = ("127.0.0.1", t.port())
    ours, theirs = socket.socketpair()  # s_server ends a session when its standard input ends
    t.service("s_server", ["openssl", "s_server", "-accept", addr[1], "-cert", ca / "server.pem", "-key", ca / "server.key", "-quiet"],
              addr, stdin=theirs)
    client = tls_client(t, addr, ("127.0.0.1", 1), "--tls-ca", ca / "ca.pem", "--handshake-timeout", "2s", *ONCE, wait=False)
    gives_up(client, "handshake took too long")
    engine = t.engine(1)[1]
    check(re.search(rf"TLS 1\.3, \S+, records sent by {engine}, received by {engine}", client.err), client.err)
    ours.close()


@case(not_in=NOT_IN)
def tls_gotunnel(t):
    """The deployed v1 program with --tls on either end, when it is here."""
    program = gotunnel()
    ca = certs.gen_cert(t, "ca")
    own = certs.server_cert(ca).flags
    server = tls_server(t, *own)
    theirs = t.spawn("gotunnel-client", [program, "client", "--server", net.format_addr(server.addr), "--local",
                                         net.format_addr(t.origin(net.echo).addr), "--token", t.token, "--tls", "--tls-ca", ca / "ca.pem"])
    server.expect(r"logged in \(v1\)", stream="err")
    t.until(lambda: not net.connect_refused((server.host, server.start_port)), "the public port")
    echo(("127.0.0.1", server.start_port))
    theirs.stop()
    addr = ("127.0.0.1", t.port())
    t.service("gotunnel-server", [program, "server", "--addr", net.format_addr(addr), "--start-port", t.ports(24), "--tls", *own], addr)
    client = tls_client(t, addr, t.origin(net.echo), "--tls-ca", ca / "ca.pem", token="dev-token", wire="auto")
    echo(client.addr)


def echo(addr, size=2 * MIB):
    sock = net.connect(addr)
    sending = net.Task(net.Pattern("tls").send, sock, size)
    check_equal(net.Pattern("tls").recv(sock, size), sending.join_result(), "checksum")
    sock.close()
