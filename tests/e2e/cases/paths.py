"""paths: what a network between client and server can do to the lanes."""
import re
import select
import time

import net
import v2wire
from harness import case, check, check_equal
from netns import NEEDS, PATH, Network
from proxy import Proxy

MIB = 1 << 20
QUICK = ["--heartbeat", "250ms", "--expiry", "2s"]
V1 = {"v1": "v1 has no resume"}
PLAIN = {"tls": "TLS does not matter"}
ONE_WORKER = {"v2-2w": "workers do not matter", "v1-2w": "workers do not matter"}
GRACE = ["--grace", "60s"]
ENDS = ["--grace", "0s"]  # a session ends with its connections; cases/resume.py has the rest


def behind(t, origin, *flags, piece=None, server_flags=()):
    """A server, a proxy before it, and a client that dials the proxy; returns (server, proxy, client)."""
    server = t.server(*server_flags)
    proxy = t.keep(Proxy(server.addr, piece))
    client = t.client(proxy, origin, "--reconnect-attempts", "200", *flags)
    proxy.wait_links(1 if t.mode.v1 else t.mode.workers)
    return server, proxy, client


def echo_works(addr, size=MIB):
    sock = net.connect(addr)
    sending = net.Task(net.Pattern("path").send, sock, size)
    check_equal(net.Pattern("path").recv(sock, size), sending.join_result(), "checksum")
    sock.close()


@case()
def lane_in_pieces(t):
    """A path that hands everything on in runs of 1 to 900 bytes: frames are put together from any pieces."""
    _, _, client = behind(t, t.origin(net.echo), piece=900)
    tasks = [net.Task(echo_works, client.addr, MIB) for _ in range(4)]
    for task in tasks:
        task.join_result()


@case()
def lane_in_single_bytes(t):
    """Byte by byte, from the handshake on."""
    _, _, client = behind(t, t.origin(net.echo), piece=1)
    echo_works(client.addr, 30000)


@case()
def lanes_cut(t):
    """All connections are reset in mid-transfer: visitors and origins see an end, the client is back, at the same port.

    A client that is faster than its server's noticing the loss gets another port, so nobody comes through before."""
    ends = []

    def handler(sock):
        net.flood(sock)
        ends.append(1)
    server, proxy, client = behind(t, t.origin(handler), *ENDS, server_flags=ENDS)
    for rst in (True, False):
        sock = net.connect(client.addr)
        net.recv_exact(sock, MIB)
        before = client.out.count("ready:")
        known = len(ends)
        proxy.hold = True
        for link in list(proxy.links):
            link.cut(rst)
        t.until(lambda: net.connect_refused(client.addr), "the port to be closed")
        proxy.hold = False
        check(net.end_of(sock) in ("eof", "reset"), "the visitor's end")
        t.until(lambda: len(ends) > known, "the origin's end")
        client.expect(r"^ready: tcp://\S+ -> \S+$", count=before + 1)
        client.read_ready(before + 1)
        check_equal(client.addrs[-1], client.addrs[0], "public address afterwards")
    sock = net.connect(client.addr)
    net.recv_exact(sock, MIB)
    server.expect("session 3", stream="err")


def ended(socks):
    """Those of the sockets at which an end has arrived."""
    poll = select.poll()
    for sock in socks:
        poll.register(sock.fileno(), select.POLLIN | select.POLLHUP)
    hung = {fd for fd, _ in poll.poll(0)}
    return [sock for sock in socks if sock.fileno() in hung]


@case(not_in={"v1": "v1 has one lane", "v2-1w": "one worker has one lane"})
def one_lane_cut(t):
    """A lane other than the first is lost: its streams end, the others go on, and the client joins it again."""
    server, proxy, client = behind(t, t.origin(net.echo), *ENDS, server_flags=ENDS)
    t.lanes_up(server)
    socks = [net.connect(client.addr) for _ in range(24)]
    net.exchange(socks, lambda index: b"before %d" % index)
    proxy.links[1].cut()
    t.until(lambda: ended(socks), "streams of the lane to end")
    proxy.wait_links(3)  # the lane is joined again, so all its streams have ended
    gone = ended(socks)
    alive = [sock for sock in socks if sock not in gone]
    check(alive, "no stream outlived one of two lanes")
    net.exchange(alive, lambda index: b"after %d" % index)
    more = [net.connect(client.addr) for _ in range(24)]
    net.exchange(more, lambda index: b"later %d" % index)
    check_equal(client.out.count("ready:"), 1, "ready lines")


@case(not_in={"v1": "v1 has one lane", "v2-1w": "one worker has one lane"})
def lanes_join_at_start(t):
    """A client opens all its lanes as soon as it starts: twenty-five times, as a race between its workers would show now and then."""
    server = t.server()
    proxy = t.keep(Proxy(server.addr))
    origin = t.origin(net.echo)
    for number in range(1, 26):
        client = t.client(proxy, origin)
        proxy.wait_links(number * t.mode.workers)
        client.stop()


@case()
def path_goes_dark(t):
    """Nothing arrives any more, and nobody is told: both ends find out by --expiry, not before, and start anew."""
    server, proxy, client = behind(t, t.origin(net.echo), *QUICK, *ENDS, server_flags=QUICK + ENDS)
    sock = net.connect(client.addr)
    sock.sendall(b"x")
    check_equal(sock.recv(1), b"x", "echo")
    if t.mode.v1:
        time.sleep(1)  # a v1 client that has never sent a Heartbeat is not expected to; see docs/PROTOCOL.md
    started = time.monotonic()
    for link in proxy.links:
        link.stall()
    check(net.end_of(sock) in ("eof", "reset"), "the visitor's end")
    check(time.monotonic() - started > 1.5, "given up before --expiry")  # the last frame came before the darkness
    client.expect(r"^ready: ", count=2)
    client.read_ready(2)
    echo_works(client.addrs[-1])
    server.expect("no frame heard for too long|its client has logged in anew", stream="err")  # whoever is first
    client.expect("no frame heard for too long|connection closed by the peer", stream="err")


@case()
def path_pauses(t):
    """A pause shorter than --expiry: nothing is lost, and the transfer goes on."""
    _, proxy, client = behind(t, t.origin(net.echo), "--heartbeat", "500ms", "--expiry", "20s")
    sock = net.connect(client.addr)
    size = 16 * MIB
    sending = net.Task(net.Pattern("pause").send, sock, size)
    receiving = net.Task(net.Pattern("pause").recv, sock, size)
    for _ in range(3):
        for link in proxy.links:
            link.stall()
        time.sleep(0.3)  # this is the pause
        for link in proxy.links:
            link.flow.set()
        time.sleep(0.05)
    check_equal(receiving.join_result(), sending.join_result(), "checksum")
    check_equal(client.out.count("ready:"), 1, "ready lines")


@case(not_in={**V1, **PLAIN, **ONE_WORKER}, needs=NEEDS, deadline=240)
def large_packets_lost(t):
    """An MTU of 1280 in the middle, and nobody says so: TCP finds out by itself, if the client lets it; and the log says what it looks like."""
    network, size = Network(t), 4 * MIB
    network.single_segments()
    origin = network.origin(lambda sock: net.Pattern("mtu").send(sock, size) if sock.recv(1) else None)
    server = network.server(*GRACE)
    client = network.client(server, origin, *GRACE)
    t.lanes_up(server)
    network.narrow()
    started = time.monotonic()
    socks = [net.connect(client.addr) for _ in range(4)]
    for sock in socks:
        sock.sendall(b"x")
    for task in [net.Task(net.Pattern("mtu").recv, sock, size) for sock in socks]:
        task.join_result()
    t.note = f"healed after {time.monotonic() - started:.1f} s"
    client.expect("large packets lost on the path", stream="err")
    check_equal(client.out.count("ready:"), 1, "ready lines")


# What the logs say of it

OUTAGE = 20
PLAIN_LOG = ["--log-level", "info"]
SCHEDULE = ["--reconnect-first", "1s", "--reconnect-max", "30s", "--reconnect-attempts", "forever"]


def lines_since(proc, before):
    return proc.err.splitlines()[before:]


def check_lines(t, proc, before, most):
    """A few lines; the last one says how long it took."""
    lines = lines_since(proc, before)
    check(len(lines) <= most, f"{len(lines)} lines of the {proc.name}:\n" + "\n".join(lines))
    return lines


def check_story(t, client, before):
    """Beginning, what is done, and the end with how long it took: six lines at most."""
    lines = check_lines(t, client, before, 6)
    check(re.search("connection lost: |cannot connect|nothing comes back", " ".join(lines[:2])), f"the beginning: {lines}")
    ends = [float(word) for line in lines for word in re.findall(r"after (\d+\.\d+) s, \d+ tries", line)]
    check(len(ends) == 1 and OUTAGE * 0.8 < ends[0] < OUTAGE + 15 * t.factor, f"the end, and how long it took: {lines}")
    t.note = (t.note + f", {len(lines)} lines").strip(", ")


@case(not_in={**V1, **PLAIN, "v2-1w": "several lanes say less"}, waits=True, deadline=240)
def outage_of_the_server_in_few_lines(t):
    """The server is away for 20 s, with and without a grace time: its client, with several lanes, tells a story of a few lines."""
    for grace in ("60s", "0s"):
        server = t.server("--grace", grace)
        client = t.client(server, t.origin(net.echo), *SCHEDULE, *PLAIN_LOG, "--grace", grace, *([] if t.mode.v1 else ["--lanes", "4"]))
        t.lanes_up(server)
        echo_works(client.addr, 1000)
        before = len(client.err.splitlines())
        server.kill()
        time.sleep(OUTAGE)  # this is the outage
        server = t.server("--grace", grace, addr=server.addr, start_port=server.start_port)
        client.expect(r"^ready: ", count=2)
        client.expect(r"after \d+\.\d+ s, \d+ tries", stream="err")
        check_story(t, client, before)
        client.stop()
        server.stop()


@case(not_in=V1)
def outage_within_seconds_names_its_cause(t):
    """The server is killed three times in quick succession: each outage says why the connection was lost, in a line of its own or in the
    first that is said of it."""
    flags = ["--grace", "0s", "--reconnect-attempts", "forever", *PLAIN_LOG]
    server = t.server("--grace", "0s")
    client = t.client(server, t.origin(net.echo), *flags, "--lanes", "4")
    for outage in range(1, 4):
        server.expect("joined on worker", stream="err", count=3)
        before = len(client.err)
        server.kill()
        t.until(lambda: "cannot connect" in client.err[before:] or "connection failed" in client.err[before:], "a try that failed")
        lines = client.err[before:].splitlines()
        check(re.search("connection (was )?lost( before)?: .*(closed|reset|close_notify|Connection)", lines[0]) and "0 tries" not in lines[0], f"outage {outage}: {lines}")
        server = t.server("--grace", "0s", addr=server.addr, start_port=server.start_port)
        client.expect("^ready: ", count=outage + 1)


@case(not_in={**V1, **PLAIN, "v2-1w": "several lanes say less"}, needs=NEEDS, waits=True, deadline=240)
def outage_of_the_path_in_few_lines(t):
    """The path is cut for 20 s, and nobody is told; there are streams on all lanes: a few lines at either end."""
    network = Network(t)
    server = network.server(*GRACE, *PLAIN_LOG)
    client = network.client(server, network.origin(net.echo), *GRACE, *SCHEDULE, *PLAIN_LOG, "--lanes", "4")
    t.until(lambda: len(network.lanes()) == 4, "four lanes")
    socks = [net.connect(client.addr) for _ in range(16)]
    net.exchange(socks, lambda index: b"before %2d" % index)
    before, at_server = len(client.err.splitlines()), len(server.err.splitlines())
    network.hole()
    for sock in socks:
        sock.send(b"meanwhile")
    time.sleep(OUTAGE)  # this is the outage
    network.heal()
    for sock in socks:
        sock.setblocking(True)
        sock.settimeout(net.TIMEOUT)
        check_equal(net.recv_exact(sock, 9), b"meanwhile", "the echo")
    client.expect(r"after \d+\.\d+ s, \d+ tries", stream="err")
    check_story(t, client, before)
    check_lines(t, server, at_server, 2 + 2 * t.mode.workers)
    check_equal(client.out.count("ready:"), 1, "ready lines")


# Dialling

@case(needs=["prlimit"])
def first_dial_fails_at_once(t):
    """A dial that fails before anything is waited for, as without descriptors, ends a client with --no-reconnect as any other does.

    How many descriptors a client needs before it dials is found by trying: with fewer it cannot start."""
    seen = {}
    for limit in range(4, 60):
        client = t.client(("127.0.0.1", 1), t.origin(net.echo), "--no-reconnect", wait=False, name=f"with{limit}",
                          under=["prlimit", f"--nofile={limit}:{limit}"])
        client.want = None
        status = client.wait()
        seen.setdefault(status, []).append(limit)
        if "Connection refused" in client.err:
            break
        if "cannot dial" in client.err:
            seen.setdefault("dial", []).append(limit)
            check_equal(status, 4, "exit status")
    check("dial" in seen, f"no limit under which the dial fails at once: {seen}")


@case()
def attempts_for_ever(t):
    """--reconnect-attempts forever: a client tries on when others have given up, and is there when its server is."""
    addr = ("127.0.0.1", t.port())
    client = t.client(addr, t.origin(net.echo), "--reconnect-first", "1ms", "--reconnect-max", "2ms", "--reconnect-attempts", "forever",
                      wait=False)
    others = t.client(addr, t.origin(net.echo), "--reconnect-first", "10ms", "--reconnect-max", "20ms", wait=False)
    others.want = (4,)
    check_equal(others.wait(), 4, "exit status of one that gives up")
    t.server(addr=addr)
    client.read_ready(1)
    echo_works(client.addr, 1000)


def answer_of(addr):
    """How long an origin's answer takes, or None if there is none."""
    started = time.monotonic()
    with net.connect(addr) as sock:
        try:
            sock.sendall(b"x")
            return time.monotonic() - started if sock.recv(1) == b"x" else None
        except OSError:
            return None


@case(not_in={**PLAIN, **ONE_WORKER}, needs=NEEDS)
def origin_with_silent_addresses(t):
    """An origin's name has three addresses, of which only the last one answers: a quarter of a second for each that says nothing, and from then on
    none. When none answers, both logs say so, as with a refusal, and the name is looked up again."""
    network, name = Network(t), "origin.test"
    network.silence(True, "127.0.0.1", "127.0.0.3")
    origin = network.t.origin
    with network.in_far():
        first = origin(net.echo, host="127.0.0.2")
        later = origin(net.echo, host="127.0.0.4", port=first.addr[1])
    under = network.named({name: ["127.0.0.1", "127.0.0.3", "127.0.0.2"]})
    server = network.server()
    client = network.client(server, (name, first.addr[1]), "--connect-timeout", "3s", under=under)
    took = answer_of(client.addr)
    check(took is not None and took < 1.5 * t.factor, f"the first visitor's answer: {took}")
    for number in range(4 * t.mode.workers):  # each worker learns by itself
        took = answer_of(client.addr)
    check(took is not None and took < 0.2 * t.factor, f"an answer of the address that answered last: {took}")
    network.silence(True, "127.0.0.1", "127.0.0.2", "127.0.0.3")
    started = time.monotonic()
    check(answer_of(client.addr) is None, "an answer of an address that is silent")
    check(2.9 < time.monotonic() - started < 6 * t.factor, "the connect time-out bounds all attempts")
    client.expect(rf"{name}:\d+: origin: Connection timed out", stream="err")
    if not t.mode.v1:
        server.expect("origin did not answer in time", stream="err")
    network.name_again({name: ["127.0.0.1", "127.0.0.4"]})
    t.until(lambda: answer_of(client.addr) is not None, "the new address to be looked up")
    check(later.seen > 0, "nobody came to the new address")


@case(not_in={**PLAIN, **ONE_WORKER}, needs=NEEDS)
def server_with_silent_addresses(t):
    """The server's name has three addresses, of which one answers: a quarter of a second for each that says nothing, not a time-out. When none does,
    the connect time-out is that of all together."""
    network, silent, good = Network(t), ["192.0.2.3", "192.0.2.4"], "192.0.2.200"
    for address in (*silent, good):
        network.ip(False, "addr", "add", address + "/24", "dev", PATH)
    network.silence(False, *silent)
    under = network.named({"localhost": [*silent, good]})
    plain = [] if t.mode.tls else ["--plain"]  # it is another machine, whatever its name
    server = t.server(host=good)
    started = time.monotonic()
    client = network.client(("localhost", server.addr[1]), network.origin(net.echo), "--connect-timeout", "8s", "--reconnect-attempts", "1000",
                            *plain, under=under)
    t.note = f"ready after {time.monotonic() - started:.2f} s"
    check(time.monotonic() - started < 3 * t.factor, t.note)
    echo_works((good, client.addr[1]))
    server.kill()
    t.server(addr=server.addr, start_port=server.start_port, host=good)
    client.expect(r"^ready: ", count=2)
    network.silence(False, *silent, good)
    started = time.monotonic()
    late = network.client(("localhost", server.addr[1]), network.origin(net.echo), "--connect-timeout", "2s", "--no-reconnect", *plain,
                          under=under, wait=False)
    late.want = (4,)
    check_equal(late.wait(), 4, "exit status without a server")
    check(1.9 < time.monotonic() - started < 5 * t.factor, "the time-out of all addresses together")


# Tunnels that are refused

def with_busy_port(t, *flags, server_flags=()):
    """A client with three tunnels, of which the second one's port is in use; returns (server, client, who has the port)."""
    server = t.server(*server_flags)
    held = net.listen(port=t.port())
    ports = [flag for port in (0, held.getsockname()[1], 0) for flag in ("--port", port)]
    origin = t.origin(net.echo)
    client = t.client(server, origin, origin, origin, *ports, *flags, wait=False)
    client.read_ready(2)
    return server, client, held


@case(not_in={**PLAIN, **ONE_WORKER, "v1": "v1 has one tunnel"})
def refused_tunnel_comes_later(t):
    """A tunnel whose port is in use when its client starts is there as soon as the port is free; what both logs say of it meanwhile is one line."""
    server, client, held = with_busy_port(t)
    port = held.getsockname()[1]
    client.expect(rf"tunnel 1, port {port}: the port is in use; it is asked for again", stream="err")
    time.sleep(3.5)  # asked for again after 1 and 2 s more, in vain
    for proc, what in ((client, f"tunnel 1, port {port}"), (server, f"bind of port {port} refused")):
        check_equal(proc.err.count(what), 1, f"lines of the {proc.name}")
    held.close()
    client.expect(rf"^ready: tcp://127\.0\.0\.1:{port} -> ")
    for addr in (("127.0.0.1", port), *client.addrs):
        tasks = [net.Task(echo_works, addr, 100000) for _ in range(8)]  # on every lane
        for task in tasks:
            task.join_result()
    check_equal(client.stop(), 0, "exit status")
    check("never bound" not in client.out, "the summary has a tunnel that was ready as missing")


@case(not_in={**PLAIN, "v1": "v1 has one tunnel"})
def refused_tunnel_never_comes(t):
    """A tunnel that was never ready stands in the summary and in the exit code, whatever else ends the client."""
    for flags, end in (((), lambda client, server: client.stop()), (("--no-reconnect",), lambda client, server: server.kill())):
        server, client, held = with_busy_port(t, *flags)
        client.want = (6,)
        end(client, server)
        check_equal(client.wait(), 6, "exit status")
        check(f"tunnel 1, port {held.getsockname()[1]} -> " in client.out and "never bound: the port is in use" in client.out,
              f"the summary does not name the tunnel: {client.out}")
        check("port 0 " not in client.out, f"the summary has a tunnel without a port: {client.out}")
        held.close()


@case(not_in={**PLAIN, "v1": "v1 cannot refuse a tunnel"})
def every_tunnel_refused(t):
    """Nothing came of the session, be it of one tunnel or of two: that is what the log says, once, and the exit code, as long as the last
    attempt ended so. Nothing was lost, and nothing is asked for again."""
    server, origin = t.server(), t.origin(net.echo)
    held = [net.listen(port=t.port()) for _ in range(2)]
    ports = [sock.getsockname()[1] for sock in held]
    for count in (1, 2):
        wanted = [flag for port in ports[:count] for flag in ("--port", port)]
        for flags, tries in ((["--no-reconnect"], 1), (["--reconnect-attempts", "2"], 3)):
            client = t.client(server, *[origin] * count, *wanted, *flags, wait=False)
            client.want = (6,)
            check_equal(client.wait(), 6, "exit status")
            lines = [line for line in client.err.splitlines() if " DEBUG " not in line and " TLS 1.3" not in line]
            check_equal(sum("the port is in use" in line for line in lines), count, f"lines of {count} tunnels: {lines}")
            check_equal(sum("the server refused every tunnel" in line for line in lines), 1, f"lines: {lines}")
            check_equal(client.out.count("never bound: the port is in use"), count, "lines of the summary")
            check_equal(sum("gave up after 2 attempts" in line for line in lines), tries // 3, f"lines: {lines}")
            check(not re.search("asked for again|connection lost|come back|not connected", client.err), f"untrue: {client.err}")
    server.stop()
    client = t.client(server, origin, "--reconnect-attempts", "2", wait=False)
    client.want = (4,)
    check_equal(client.wait(), 4, "exit status without a server")
    for sock in held:
        sock.close()


@case(not_in={**PLAIN, "v1": "v1 cannot refuse a tunnel"})
def every_tunnel_refused_then_stopped(t):
    """A client that tries on is told to end: the exit code says that no tunnel was ever ready."""
    server, held = t.server(), net.listen(port=t.port())
    client = t.client(server, t.origin(net.echo), "--port", held.getsockname()[1], "--reconnect-attempts", "forever", wait=False)
    client.want = (6,)
    client.expect("the server refused every tunnel", stream="err")
    check_equal(client.stop(), 6, "exit status")
    held.close()


@case(not_in={"v1": "v1 has one tunnel"})
def session_that_dies_half_bound(t):
    """A server that answers one of two BINDs and goes, each time: a session that was never ready earns no quick tries, and the schedule's
    pauses and its end apply."""
    server, origin = t.keep(v2wire.Server(t.token)), t.origin(net.echo)
    client = t.client(server, origin, origin, "--reconnect-first", "200ms", "--reconnect-attempts", "3", wait=False)
    client.want = (4,)
    times = []
    for count in range(1, 5):
        wire = server.accept()  # with one BIND_OK
        times.append(time.monotonic())
        client.expect(r"^ready: ", count=count)
        wire.close()
    check_equal(client.wait(), 4, "exit status")
    pauses = [after - before for before, after in zip(times, times[1:])]
    check(min(pauses) > 0.09, f"half of the schedule's pause at least: {pauses}")
