"""visitors: --log-visitors says one line for each visitor's connection when it ends, at both ends."""
import re
import socket

import net
import v2wire
from harness import case, check, check_equal

LINE = re.compile(r"^\S+Z INFO  visitor: (.*)$", re.M)
KEYS = ["from", "tunnel", "port", "session", "up", "down", "ms", "reason", "by"]
FLAG = "--log-visitors"


def lines(proc):
    """What one end has said of its visitors: a list of dictionaries, in order."""
    found = []
    for match in LINE.finditer(proc.err):
        pairs = [word.split("=") for word in match.group(1).split(" ")]
        check(all(len(pair) == 2 for pair in pairs), f"no key=value: {match.group()}")
        line = dict(pairs)
        keys = KEYS if proc.name.startswith("server") else [*KEYS, "origin"]
        check_equal(list(line), keys, f"keys of {match.group()}")
        found.append(line)
    return found


def pair(t, origins, *client_flags, server_flags=()):
    server = t.server(FLAG, *server_flags)
    client = t.client(server, *origins, FLAG, *client_flags)
    t.lanes_up(server)
    return server, client


def said(t, proc, count=1):
    """The lines of one end, once there are so many."""
    t.until(lambda: len(lines(proc)) >= count, f"{count} lines of the {proc.name}")
    found = lines(proc)
    check_equal(len(found), count, f"lines of the {proc.name}")
    return found


def name_of(sock):
    return net.format_addr(sock.getsockname()[:2])


def is_line(line, **wanted):
    for key, value in wanted.items():
        check_equal(line[key], str(value), f"{key} in {line}")


def answer(size):
    """An origin that reads to the end and then says so many bytes."""
    def handler(sock):
        while sock.recv(65536):
            pass
        sock.sendall(bytes(size))
    return handler


def half_closed(addr, up, down):
    """A visitor that says `up` bytes and its end, and takes `down`; returns its address."""
    with net.connect(addr) as sock:
        sock.sendall(bytes(up))
        sock.shutdown(socket.SHUT_WR)
        check_equal(len(net.recv_exact(sock, down)), down, "answer")
        check_equal(net.end_of(sock), "eof", "end of the answer")
        return name_of(sock)


@case(not_in={"v1": "v1 has no half-close: visitors_of_v1"})
def visitors_that_end_in_order(t):
    """Both ends say the same of a connection: who, where, how many bytes each way."""
    sizes = [(0, 0), (1, 0), (0, 1), (1000, 3000000), (2000000, 10)]
    server, client = pair(t, [t.origin(answer(down)) for _, down in sizes], *[x for i in range(len(sizes)) for x in ("--name", f"t{i}")])
    froms = [half_closed(addr, up, down) for addr, (up, down) in zip(client.addrs, sizes)]
    for end in (server, client):
        by_name = {line["from"]: line for line in said(t, end, len(sizes))}
        for i, ((up, down), name) in enumerate(zip(sizes, froms)):
            is_line(by_name[name], tunnel=f"t{i}", port=client.addrs[i][1], up=up, down=down, reason="DONE", by="both")
            check(by_name[name]["session"].isdigit() and int(by_name[name]["ms"]) < 60000 * t.factor, by_name[name])
            if end is client:
                is_line(by_name[name], origin=net.format_addr(client.origins[i].addr))


@case(not_in={"v2": "visitors_that_end_in_order"})
def visitors_of_v1(t):
    """A v1 session: the origin says its answer and closes. The client knows no visitor, and the port
    that it was given."""
    def handler(sock):
        net.recv_exact(sock, 7)
        sock.sendall(bytes(50000))
    server, client = pair(t, [t.origin(handler)])
    with net.connect(client.addr) as sock:
        sock.sendall(b"request")
        check_equal(len(net.recv_exact(sock, 50000)), 50000, "answer")
        check_equal(net.end_of(sock), "eof", "end of the answer")
        name = name_of(sock)
    is_line(said(t, server)[0], **{"from": name}, port=client.addr[1], up=7, down=50000)
    is_line(said(t, client)[0], **{"from": "-"}, port=client.addr[1], up=7, down=50000)


@case(needs=["curl"])
def visitors_with_curl(t):
    """An HTTP request, as an operator sees it."""
    server, client = pair(t, [t.origin(http)], "--name", "web")
    t.run("curl", ["curl", "-sS", "--fail", "-o", "/dev/null", f"http://{net.format_addr(client.addr)}/"])
    for end in (server, client):
        line, = said(t, end)
        is_line(line, tunnel="web" if end is client or not t.mode.v1 else "-", port=client.addr[1], down=len(RESPONSE))
        check(int(line["up"]) > 50, line)
        check(line["reason"] in ("DONE", "V1_CLOSED"), line)


RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


def http(sock):
    request = b""
    while b"\r\n\r\n" not in request:
        request += sock.recv(65536)
    sock.sendall(RESPONSE)


@case()
def visitors_that_are_reset(t):
    """A visitor resets, and an origin: each end says which of the two it was, where its wire does."""
    def resets(sock):
        net.recv_exact(sock, 3)
        net.rst(sock)
    server, client = pair(t, [t.origin(net.echo)])
    with net.connect(client.addr) as sock:
        sock.sendall(b"hello")
        net.recv_exact(sock, 5)
        net.rst(sock)
    is_line(said(t, server)[0], up=5, down=5, reason="PEER_RESET", by="visitor")
    line, = said(t, client)
    is_line(line, up=5, down=5)
    if not t.mode.v1:
        is_line(line, reason="PEER_RESET", by="visitor")
    server, client = pair(t, [t.origin(resets)])
    with net.connect(client.addr) as sock:
        sock.sendall(b"abc")
        check(net.end_of(sock) in ("reset", "eof"), "the visitor's end")
    is_line(said(t, client)[0], up=3, down=0, reason="PEER_RESET", by="origin")
    line, = said(t, server)
    is_line(line, up=3, down=0)
    if not t.mode.v1:
        is_line(line, reason="PEER_RESET", by="origin")


@case()
def visitors_in_the_middle(t):
    """A visitor that takes a part and resets: each end says what it has handed on, and no more."""
    size = 64 << 20
    server, client = pair(t, [t.origin(net.until_cut(lambda sock: sock.sendall(bytes(size))))])
    with net.connect(client.addr, rcvbuf=65536) as sock:
        net.recv_exact(sock, 1 << 20)
        net.rst(sock)
    down = [int(said(t, end)[0]["down"]) for end in (server, client)]
    check((1 << 20) <= down[0] <= down[1] <= size, f"{down[0]} bytes delivered to the visitor, {down[1]} taken from the origin")
    t.note = f"{down[0]} of {down[1]}"


@case()
def visitors_of_no_origin(t):
    """An origin that refuses, and one that is idle for too long."""
    server, client = pair(t, [("127.0.0.1", t.port())])
    with net.connect(client.addr) as sock:
        net.end_of(sock)
    is_line(said(t, client)[0], up=0, down=0, reason="ORIGIN_REFUSED", by="origin")
    line, = said(t, server)
    is_line(line, down=0, reason="V1_CLOSED" if t.mode.v1 else "ORIGIN_REFUSED")
    server, client = pair(t, [t.origin(net.echo)], server_flags=["--stream-idle", "1s"])
    with net.connect(client.addr) as sock:
        sock.sendall(b"x")
        net.recv_exact(sock, 1)
        check(net.end_of(sock) in ("reset", "eof"), "an idle visitor was kept")
    line, = said(t, server)
    is_line(line, up=1, down=1, reason="STREAM_IDLE", by="-")
    check(int(line["ms"]) >= 1000, line)


@case()
def visitors_at_a_limit(t):
    """Who is turned away has a line, too; and who is cut when the session is lost."""
    server, client = pair(t, [t.origin(net.echo)], "--no-reconnect", server_flags=["--max-streams", "1", "--grace", "0s"])
    held = [net.connect(client.addr) for _ in range(12)]

    def turned_away():
        return [line for line in lines(server) if line["reason"] == "LIMIT_STREAMS"]
    t.until(lambda: len(turned_away()) >= len(held) - t.mode.workers, "visitors that are turned away: each worker has one")
    check(all(line["up"] == line["down"] == "0" for line in turned_away()), turned_away())
    client.kill()
    t.until(lambda: any(line["reason"] == "SESSION_LOST" for line in lines(server)), "the line of a visitor that is cut")
    t.until(lambda: len(lines(server)) == len(held), "a line for each")
    for sock in held:
        sock.close()


@case()
def visitors_each_have_a_line(t):
    """Three hundred visitors as fast as they come, at a level that says nothing else: each has one."""
    server = t.server(FLAG, "--log-level", "error")
    client = t.client(server, t.origin(net.echo), FLAG, "--log-level", "error")
    names = []
    for _ in range(300):
        with net.connect(client.addr) as sock:
            sock.sendall(b"12345")
            net.recv_exact(sock, 5)
            names.append(name_of(sock))
            net.rst(sock)
    for end in (server, client):
        found = said(t, end, len(names))
        check_equal(len(end.err.splitlines()), len(names), "lines of all kinds")
        if end is server or not t.mode.v1:
            check_equal(sorted(line["from"] for line in found), sorted(names), "visitors")


@case()
def visitors_without_the_flag(t):
    """No line of it without the flag, at any level."""
    addr = t.tunnel(t.origin(net.echo))
    with net.connect(addr) as sock:
        sock.sendall(b"x")
        net.recv_exact(sock, 1)
        net.rst(sock)
    t.tunnel_server.expect("stream .* ends: ", stream="err")
    check_equal(lines(t.tunnel_server) + lines(t.tunnel_client), [], "lines of visitors")


@case(not_in={"v1": "v1 has no names"})
def visitors_of_a_strange_name(t):
    """The name of a tunnel is the client's choice: it makes no keys of its own."""
    server = t.server(FLAG)
    wire = v2wire.client_wire(server.addr)
    v2wire.log_in(wire, t.token.encode(), upto=v2wire.AUTH)
    wire.send(v2wire.BIND, 0, v2wire.bind(0, 0, 0, b"x reason=DONE by=me\n"))
    wire.expect(v2wire.BIND_OK)
    with net.connect((server.host, server.start_port)) as sock:
        wire.expect(v2wire.OPEN)
        net.rst(sock)
    line, = said(t, server)
    is_line(line, tunnel="x_reason_DONE_by_me_", reason="PEER_RESET", by="visitor")
    wire.close()
