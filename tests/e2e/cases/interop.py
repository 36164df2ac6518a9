"""interop: the deployed GoTunnel 1.0 program on either end, if one is on PATH as gotunnel-v1 (or where GOTUNNEL_V1 points).

The cases keep to what the deployed program can do; docs/PROTOCOL.md lists what it cannot. Its server takes only the token dev-token.
"""
import os
import re

import net
from harness import Skip, case, check, check_equal, find_tool
import v1peer

MIB = 1 << 20
V1_ONLY = {"v2": "GoTunnel speaks v1"}


def gotunnel():
    path = os.environ.get("GOTUNNEL_V1") or find_tool("gotunnel-v1")
    if not path or not os.access(path, os.X_OK):
        raise Skip("gotunnel-v1 is not on PATH")
    return path


def tls_flags(t, *what):
    """Their flags in a TLS mode; they have one dash or two."""
    files = {"ca": ["--tls-ca", t.certs / "ca.pem"],
             "own": ["--tls-cert", t.certs / "server.pem", "--tls-key", t.certs / "server.key"]} if t.mode.tls else {}
    return ["--tls", *[flag for name in what for flag in files[name]]] if t.mode.tls else []


def gotunnel_client(t, server, origin):
    """Their client; returns the public address, read from its output."""
    proc = t.spawn("gotunnel-client", [gotunnel(), "client", "--server", net.format_addr(server.addr),
                                       "--local", net.format_addr(origin.addr), "--token", t.token, *tls_flags(t, "ca")])
    text = t.until(lambda: re.search(r"(?:tcp://|http://|localhost:|port[^0-9\n]*)\S*?(\d{5})\b", proc.out + proc.err),
                   "a public port from GoTunnel's client")
    port = int(text.group(1))
    check(server.start_port <= port < server.start_port + 24, f"port {port}: {proc.out + proc.err}")
    return proc, (server.host, port)


def gotunnel_server(t):
    addr, start = ("127.0.0.1", t.port()), t.ports(24)
    proc = t.service("gotunnel-server", [gotunnel(), "server", "--addr", net.format_addr(addr), "--start-port", start,
                                        *tls_flags(t, "own")], addr)
    proc.addr = addr
    return proc


def echo_streams(addr, streams=8, size=2 * MIB):
    def visit(index):
        sock = net.connect(addr)
        sending = net.Task(net.Pattern(f"go {index}").send, sock, size)
        check_equal(net.Pattern(f"go {index}").recv(sock, size), sending.join_result(), "checksum")
        sock.close()
    for task in [net.Task(visit, index) for index in range(streams)]:
        task.join_result()


@case(not_in=V1_ONLY)
def interop_gotunnel_client(t):
    """Their client at our server: data on many streams, an origin's end, and a new client at the same port."""
    server = t.server()
    _, addr = gotunnel_client(t, server, t.origin(net.echo))
    echo_streams(addr)
    for _ in range(100):
        with net.connect(addr) as sock:
            sock.sendall(b"short")
            check_equal(net.recv_exact(sock, 5), b"short", "echo")
    _, second = gotunnel_client(t, server, t.origin(lambda sock: sock.sendall(b"bye")))
    check_equal(net.recv_all(net.connect(second)), b"bye", "what the visitor got, up to EOF")


@case(not_in=V1_ONLY)
def interop_gotunnel_client_idle(t):
    """Their client sends no heartbeat: our server keeps it all the same."""
    server = t.server("--heartbeat", "250ms", "--expiry", "2s")
    _, addr = gotunnel_client(t, server, t.origin(net.echo))
    sock = net.connect(addr)
    check_equal(net.end_of(sock, timeout=5), "timeout", "an idle stream")
    sock.settimeout(net.TIMEOUT)
    sock.sendall(b"awake")
    check_equal(net.recv_exact(sock, 5), b"awake", "echo")


@case(not_in=V1_ONLY)
def interop_gotunnel_client_wrong_token(t):
    """Their client with a wrong token: it is refused, and our server goes on."""
    server = t.server(token="another token")
    proc = t.spawn("gotunnel-client", [gotunnel(), "client", "--server", net.format_addr(server.addr),
                                       "--local", "127.0.0.1:1", "--token", t.token, "--no-reconnect", *tls_flags(t, "ca")])
    server.expect("authentication failed", stream="err")
    check(server.running(), "the server ended")
    proc.stop()


@case(not_in=V1_ONLY)
def interop_gotunnel_server(t):
    """Our client at their server, by fallback and by choice."""
    server = gotunnel_server(t)
    for wire in ("v1", "auto"):
        client = t.client(server, t.origin(net.echo), token="dev-token", wire=wire)
        echo_streams(client.addr, streams=4)
        client.stop()


@case(not_in=V1_ONLY)
def interop_gotunnel_server_origin_eof(t):
    """An origin that answers and ends: the whole answer comes through their server, which drops data in front of a hasty StreamClose."""
    server = gotunnel_server(t)

    def handler(sock):
        net.recv_exact(sock, 1)
        net.Pattern("answer").send(sock, MIB)
    client = t.client(server, t.origin(handler), token="dev-token", wire="v1")
    for _ in range(5):
        sock = net.connect(client.addr)
        sock.sendall(b"?")
        net.Pattern("answer").recv(sock, MIB)
        sock.close()


@case(not_in=V1_ONLY)
def interop_v1peer_is_like_gotunnel(t):
    """Our own v1 peer talks to the deployed one in both roles: what the other cases use is what is deployed."""
    server = gotunnel_server(t)
    client = v1peer.V1Client(server.addr, t.origin(net.echo), "dev-token")
    t.until(lambda: not net.connect_refused(("127.0.0.1", client.port)), "their public port")
    echo_streams(("127.0.0.1", client.port), streams=4, size=MIB // 4)
    check_equal(client.violations, [], "violations of their server")
    client.end()
    peer = t.keep(v1peer.V1Server(t.token, start_port=t.ports(4)))
    proc = t.spawn("gotunnel-client", [gotunnel(), "client", "--server", net.format_addr(peer.addr),
                                       "--local", net.format_addr(t.origin(net.echo).addr), "--token", t.token,
                                       *tls_flags(t, "ca")])
    session = peer.wait_session()
    echo_streams(("127.0.0.1", session.port), streams=4, size=MIB // 4)
    check_equal(peer.violations, [], "violations of their client")
    check(proc.running(), "their client ended")
