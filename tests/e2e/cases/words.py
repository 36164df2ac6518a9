"""words: what is typed out of habit, and files as editors leave them: it works, or the answer says what to type instead."""
import pathlib
import subprocess

import net
import v1peer
from harness import Client, Server, case, check, check_equal, enter_private_network, find_tool

ONCE = {"v1": "the same in every mode", "tls": "the same in every mode", "v2-2w": "the same in every mode"}


@case(not_in=ONCE)
def words_alone(t):
    """An origin stands alone, before or behind the flags, and -p asks for its public port."""
    server = t.server()
    origins = [t.origin(net.echo) for _ in range(2)]
    wanted = t.port()
    argv = [origins[0].addr[1], "-p", wanted, "--server", net.format_addr(server.addr), net.format_addr(origins[1].addr),
            "--token", t.token]
    client = t.start_culvert("client", Client, argv)
    client.origins = origins
    client.read_ready(2)
    check_equal(client.addrs[0][1], wanted, "public port")
    for addr in client.addrs:
        with net.connect(addr) as sock:
            sock.sendall(b"hello")
            check_equal(net.recv_exact(sock, 5), b"hello", "echo")


def of_any_editor(token, lines):
    """With a byte order mark, CR LF, blanks at the ends, comments and blank lines."""
    return b"\xef\xbb\xbf# tokens\r\n\r\n" + b"".join(
        b"# %d\r\n" % i if i % 10 == 0 else b"  other-token-number-%d \t\r\n" % i for i in range(lines)) + f" {token} \r\n".encode()


@case()
def words_of_token_files(t):
    """Token files of a server, with ten thousand lines, and of a client, as an editor on Windows leaves them."""
    server_file, client_file = t.dir / "tokens", t.dir / "token"
    server_file.write_bytes(of_any_editor(t.token, 10000))
    client_file.write_bytes(of_any_editor(t.token, 1))
    for path in (server_file, client_file):
        path.chmod(0o600)
    server = t.server("--token-file", server_file, token=None)
    client = t.client(server, t.origin(net.echo), "--token-file", client_file, token=None)
    with net.connect(client.addr) as sock:
        sock.sendall(b"hello")
        check_equal(net.recv_exact(sock, 5), b"hello", "echo")


@case(not_in={"tls": "v1 in clear shows the same"})
def words_blanks_about_a_token(t):
    """A token with white space at its ends is another one; both ends say so who can: a v1 peer shows it, a client knows its own."""
    server = t.server()
    client = t.client(server, t.origin(net.echo), token=t.token + " ", wait=False)
    client.want = (5,)
    check_equal(client.wait(), 5, "exit status")
    check("WARN  culvert: --token: the token begins or ends with white space" in client.err, client.last_words())
    hint = "this client's token is a known one but for white space at its ends"
    for token, expected in ((t.token[:-1] + " ", 0), (f"\t{t.token}\r\n", 1)):
        before = server.err.count(hint)
        try:
            v1peer.V1Client(server.addr, ("127.0.0.1", 1), token)
        except v1peer.ProtocolError:
            pass
        server.expect("closed: .*authentication failed", stream="err", count=1)
        t.until(lambda: server.err.count(hint) - before >= expected, "the server's hint")
        check_equal(server.err.count(hint) - before, expected, f"hints for {token!r}")
    check(t.token not in server.err, "the token is in the log")


def ip(*arguments):
    subprocess.run([find_tool("ip"), *arguments], check=True)


@case(needs=["ip"], not_in=ONCE)
def words_of_zones(t):
    """A link-local address: a client waits for its interface, a server says that it is not there, and when it is, all lines name it."""
    enter_private_network()
    where, port = "[fe80::5%path0]", t.port()
    file = t.write("token", t.token, 0o600)
    early = t.start_culvert("early", Server, ["server", "--addr", f"{where}:{port}"])
    early.want = (3,)
    check_equal(early.wait(), 3, "exit status of a server without the interface")
    check("there is no interface 'path0' on this machine" in early.err, early.last_words())
    state = t.dir / "state"
    origin = t.origin(net.echo)
    client = t.client(("fe80::5%path0", port), origin, "--tls-accept-new", "--state-dir", t.dir / "known", "--reconnect-attempts",
                      "forever", wait=False)
    client.expect("there is no interface 'path0' on this machine now", stream="err")
    ip("link", "add", "path0", "type", "veth", "peer", "name", "path1")
    ip("link", "set", "path1", "up")
    ip("link", "set", "path0", "up")
    ip("addr", "add", "fe80::5/64", "dev", "path0", "nodad")
    server = t.start_culvert("server", Server, ["server", "--addr", f"{where}:{port}", "--tls", "--token-file", file,
                                                          "--public-addr", "fe80::5%path0", "--state-dir", state])
    server.expect("^listening: ")
    check(f"listening: {where}:{port}\n" in server.out, server.out)
    check(f"tls: culvert client --server {where}:{port} " in server.out, server.out)
    client.expect(r"^ready: tcp://\[fe80::5%path0\]:")
    by_ca = t.client(("fe80::5%path0", port), origin, "--tls-ca", state / "ca.pem", wait=False, name="by-ca")
    by_ca.expect(r"^ready: tcp://\[fe80::5%path0\]:")
    known = pathlib.Path(t.dir / "known/known_servers").read_text(encoding="ascii")
    check(known.startswith(f"{where}:{port} sha256:"), known)


@case(not_in={"v1-1w": "v1 is asked for", "v2-2w": "workers do not matter", "tls": "the same"})
def a_port_that_v1_does_not_ask_for(t):
    """On the v1 wire the server chooses the port: a client that was to ask for one says that it has another."""
    server = t.server()
    client = t.client(server, t.origin(net.echo), "--port", server.start_port + 3, wire="v1")
    client.expect(rf"WARN +client: port {server.start_port + 3} was asked for, but with the v1 wire the server chooses", stream="err")
