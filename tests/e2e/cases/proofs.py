"""proofs: nobody sees a token or a session's secret, nobody can use what he has seen, and each side knows whom it talks to."""
import socket
import ssl
import struct
import threading

import net
import tlspipe
import v1peer
import v2wire
from cases.wire import ends_at_once
from harness import Skip, case, check, check_equal, enter_private_network, find_tool
from proxy import Link, Proxy

V1 = {"v1": "v1 shows its token"}
PLAIN_V2 = {**V1, "tls": "the path is to be read"}
TLS_V2 = {**V1, "plain": "the case is about TLS"}
GRACE = ["--grace", "60s"]
ONCE = ["--no-reconnect"]


class RecordingLink(Link):
    """A connection of which every byte is kept, by direction: up is what the client says."""

    def __init__(self, proxy, near, far):
        self.said = {True: bytearray(), False: bytearray()}
        super().__init__(proxy, near, far)

    def copy(self, source, target, rng):
        heard = self.said[source is self.near]
        try:
            while data := source.recv(net.CHUNK):
                heard.extend(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            self.cut()

    def frames(self, up):
        """What was said, as (kind, payload)."""
        data, at, found = bytes(self.said[up]), 0, []
        while at + v2wire.HEADER.size <= len(data):
            _, kind, _, _, length = v2wire.HEADER.unpack_from(data, at)
            at += v2wire.HEADER.size + length
            found.append((kind, data[at - length:at]))
        return found

    def payload(self, up, kind):
        return next((payload for this, payload in self.frames(up) if this == kind), None)


class RecordingProxy(Proxy):
    LINK = RecordingLink


def secret_of(link, keys):
    """The session's secret, as whoever knows the token could make it from what he has read."""
    channel = v2wire.Channel(link.payload(True, v2wire.HELLO), link.payload(False, v2wire.HELLO_OK))
    return channel.secret(keys)


def recorded(t):
    """A session that has logged in, joined its lanes and come back from a cut, through a proxy that kept all of it."""
    origin = t.origin(net.echo)
    server = t.server(*GRACE)
    proxy = t.keep(RecordingProxy(server.addr))
    client = t.client(proxy.addr, origin, *GRACE)
    t.lanes_up(server)
    sock = net.connect(client.addr)
    net.exchange([sock], lambda _: b"before the cut")
    proxy.links[0].cut()
    server.expect("back after", stream="err")
    net.exchange([sock], lambda _: b"after the cut")
    return server, proxy


@case(not_in=PLAIN_V2)
def proofs_hide_all_secrets(t):
    """A log-in, joined lanes and a resume on plain connections, read byte for byte: no token, no key, no session secret."""
    _, proxy = recorded(t)
    keys = v2wire.Keys(t.token.encode())
    secrets = {"the token": t.token.encode(), "ClientKey": keys.client, "StoredKey": keys.stored, "ServerKey": keys.server,
               "the session's secret": secret_of(proxy.links[0], keys)}
    kinds = {kind for link in proxy.links for up in (True, False) for kind, _ in link.frames(up)}
    check({v2wire.HELLO, v2wire.HELLO_OK, v2wire.AUTH, v2wire.AUTH_OK, v2wire.JOIN, v2wire.JOIN_OK} <= kinds,
          f"the conversation lacks something: {sorted(kinds)}")
    for link in proxy.links:
        for up in (True, False):
            for what, secret in secrets.items():
                check(secret not in link.said[up], f"{what} crossed the network")


@case(not_in=PLAIN_V2)
def proofs_are_not_replayed(t):
    """AUTH and JOIN that were seen are worth nothing on another connection, be its HELLO the same."""
    server, proxy = recorded(t)
    link = proxy.links[0]
    resumed = next(other for other in proxy.links[1:] if (other.payload(True, v2wire.JOIN) or b"")[8:12] == b"\0\0\0\1")
    for kind, seen, answer, code in ((v2wire.AUTH, link.payload(True, v2wire.AUTH), v2wire.AUTH_ERR, 37),
                                     (v2wire.JOIN, resumed.payload(True, v2wire.JOIN), v2wire.GOAWAY, 48)):
        wire = v2wire.client_wire(server.addr)
        wire.send(v2wire.HELLO, 0, link.payload(True, v2wire.HELLO))
        wire.expect(v2wire.HELLO_OK)
        wire.send(kind, 0, seen)
        check_equal(struct.unpack_from(">H", wire.expect(answer)[2])[0], code, "code")
        ends_at_once(t, wire.sock, f"a replayed frame of type {kind}")


@case(not_in=V1)
def proofs_tell_a_stranger_nothing(t):
    """Before a log-in servers of any configuration answer alike: a number that never comes twice."""
    answers = []
    for flags in (["--grace", "0s"], ["--grace", "60s", "--window-initial", "256K", "--max-streams", "77"]):
        server = t.server(*flags)
        for _ in range(2):
            wire = v2wire.client_wire(server.addr)
            v2wire.greet(wire, lanes=9, caps=v2wire.RESUME)
            answers.append(wire.hello_ok)
            unknown, known = v2wire.Keys(b"nobody's"), v2wire.Keys(t.token.encode())
            unknown.client, known.client = bytes(32), bytes(32)
            refusals = []
            for keys in (unknown, known):
                other = v2wire.client_wire(server.addr)
                v2wire.greet(other)
                other.send(v2wire.AUTH, 0, v2wire.auth(keys, other.channel))
                refusals.append(other.expect(v2wire.AUTH_ERR)[2])
                ends_at_once(t, other.sock, "a wrong proof")
            check_equal(refusals[0], refusals[1], "an unknown token and a wrong proof")
            check_equal(struct.unpack_from(">H", refusals[0])[0], 37, "code")
    check_equal({(len(answer), answer[:4]) for answer in answers}, {(36, struct.pack(">I", v2wire.REVISION))}, "HELLO_OK")
    check_equal(len(set(answers)), len(answers), "nonces that came twice")


@case(not_in=V1)
def proofs_of_a_false_server(t):
    """Who answers in the server's place without the token is left at once: at the log-in, and on a lane that joins."""
    origin = t.origin(net.echo)
    thief = t.keep(v2wire.Server(b"not the token"))
    client = t.client(thief, origin, *ONCE, wait=False)
    wire = thief.accept(upto=v2wire.HELLO)
    wire.expect(v2wire.AUTH)
    wire.send(v2wire.AUTH_OK, 0, v2wire.auth_ok(wire.channel.server_proof(thief.keys)))
    ends_at_once(t, wire.sock, "a server without the token")
    client.want = (4,)
    client.expect("did not prove that it knows the token", stream="err")
    client.wait()
    check("ready:" not in client.out, "a tunnel through a false server")

    server = t.keep(v2wire.Server(t.token))
    client = t.client(server, origin, "--lanes", "2", wait=False)
    session = server.accept(lanes=2)
    client.expect("^ready:")
    lane = server.accept(upto=v2wire.HELLO)
    check_equal(struct.unpack_from(">QH", lane.expect(v2wire.JOIN)[2]), (7, 1), "session and lane of JOIN")
    lane.send(v2wire.JOIN_OK, 0, v2wire.join_ok(1, 0))
    ends_at_once(t, lane.sock, "a lane whose server proves nothing")
    client.expect("did not prove that it knows the token", stream="err")
    lane = server.accept(upto=v2wire.HELLO)  # it tries again, and the session stands
    session_id, number, flags, count = struct.unpack_from(">QHHQ", lane.expect(v2wire.JOIN)[2])
    check_equal((session_id, number, flags, count), (7, 1, 0, 0), "JOIN")
    lane.send(v2wire.JOIN_OK, 0, v2wire.join_ok(1, 0, lane.channel.join_ok_proof(session.secret, 7, 1)))
    lane.send(v2wire.OPEN, 1 << 20 | 5, v2wire.opening())
    lane.send(v2wire.DATA, 1 << 20 | 5, b"through the lane")
    check_equal(lane.expect(v2wire.DATA)[2], b"through the lane", "echo")


def shut(listener):
    """Wakes the thread that accepts on it, too."""
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def relay(source, target):
    try:
        while data := source.recv(net.CHUNK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for sock in (source, target):
            net.rst(sock)


class Middle:
    """Ends the client's TLS with the server's own certificate and key, and talks on: under TLS of its own, or plainly."""

    def __init__(self, t, target, tls):
        self.t, self.target, self.tls = t, target, tls
        self.listener = net.listen()
        self.addr = self.listener.getsockname()[:2]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
                near = net.LANES.accepted(sock)
                far = net.lane_connect(self.target) if self.tls else net.connect(self.target)
            except (OSError, ssl.SSLError):
                return
            for pair in ((near, far), (far, near)):
                threading.Thread(target=relay, args=pair, daemon=True).start()

    def check(self):
        pass

    def close(self):
        shut(self.listener)


@case(not_in=TLS_V2)
def proofs_notice_who_ends_tls(t):
    """Somebody between, with the server's own key: his two connections are not one, and no log-in passes."""
    origin = t.origin(net.echo)
    for tls, said, at_server in ((True, "refused the token: authentication failed", "authentication failed"),
                                 (False, "refused the log-in: TLS does not reach from the client to the server",
                                  "TLS does not reach from the client to the server")):
        server = t.server(tls=tls)
        client = t.client(t.keep(Middle(t, server.addr, tls)), origin, wait=False)
        client.want = (5,)
        client.expect(said, stream="err")
        server.expect(at_server, stream="err")
        check_equal(client.wait(), 5, "exit status")
    # The other way round: a plain client whose path somebody puts into TLS.
    server = t.server()
    listener = net.listen()
    client = t.client(listener.getsockname()[:2], origin, tls=False, wait=False)
    client.want = (5,)
    sock, _ = listener.accept()
    far = net.lane_connect(server.addr)
    for pair in ((sock, far), (far, sock)):
        threading.Thread(target=relay, args=pair, daemon=True).start()
    client.expect("refused the log-in: TLS does not reach", stream="err")
    client.wait()


@case(not_in=V1)
def peers_of_the_older_revision(t):
    """Who speaks v2 as it was gets a sentence, and shows nothing."""
    server = t.server()
    wire = v2wire.client_wire(server.addr)
    wire.send(v2wire.HELLO, 0, v2wire.old_hello())
    answer = wire.expect(v2wire.GOAWAY)[2]
    check_equal(struct.unpack_from(">H", answer)[0], 61, "code")
    check(b"update the older one" in answer, answer)
    ends_at_once(t, wire.sock, "an older client")
    server.expect("different revisions of v2: update the older one", stream="err")

    old = t.keep(v2wire.Server(t.token))
    client = t.client(old, t.origin(net.echo), *ONCE, wait=False)
    client.want = (4,)
    wire = old.accept(upto=0)
    wire.send(v2wire.HELLO_OK, 0, v2wire.old_hello_ok())
    heard = b""
    try:
        while data := wire.sock.recv(4096):
            heard += data
    except ConnectionResetError:
        pass
    check(t.token.encode() not in heard, "the token was shown to an older server")
    client.expect("different revisions of v2: update the older one", stream="err")
    client.wait()


def hang_up(listener, heard):
    """What a v1 server does with a v2 client: it closes without a word. What comes first is kept."""
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        heard.append(sock.recv(1))
        sock.close()


@case(not_in={"v1": "v2 comes first", "tls": "the path is to be read", "v2-2w": "nothing is done by workers"})
def no_fall_back_that_shows_the_token(t):
    """Who can cut a plain connection could ask for v1, and with it for the token: only on loopback."""
    if not find_tool("ip"):
        raise Skip("ip (iproute2) is not installed")
    enter_private_network(["192.0.2.1/32"])
    for host, falls_back in (("192.0.2.1", False), ("127.0.0.1", True)):
        listener, heard = net.listen(host), []
        threading.Thread(target=hang_up, args=(listener, heard), daemon=True).start()
        client = t.client(listener.getsockname()[:2], ("127.0.0.1", 1), *ONCE, wire="auto", wait=False)
        client.want = (4,)
        check_equal(client.wait(), 4, "exit status")
        check_equal(heard, [b"\2", b"\1"] if falls_back else [b"\2"], f"first bytes at {host}")
        said = "falling back to v1" if falls_back else "give --wire v1, which shows the token"
        check(said in client.err, f"{said!r} is not in the log")
        shut(listener)
