"""programs: real programs through the tunnel, each against a private service with its own directory and port."""
import base64
import filecmp
import hashlib
import os
import pwd
import random
import shutil
import signal
import struct

import net
from harness import Failure, Skip, case, check, check_equal, find_tool

MIB = 1 << 20


# curl against nginx

NGINX = """
daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/nginx.log;
events {{ worker_connections 512; }}
http {{
    access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fcgi;
    uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi; client_max_body_size 0; sendfile on; gzip on; gzip_min_length 1;
    server {{
        listen {addr};
        root {dir}/www;
        location /put/ {{ root {dir}/up; dav_methods PUT; create_full_put_path on; }}
    }}
}}
"""


def nginx(t):
    addr = ("127.0.0.1", t.port())
    t.write("www/small", "a small file\n")
    (t.dir / "up").mkdir()
    conf = t.write("nginx.conf", "user root;\n" * (os.geteuid() == 0) + NGINX.format(dir=t.dir, addr=net.format_addr(addr)))
    t.service("nginx", ["nginx", "-c", conf, "-e", t.dir / "nginx.log", "-p", t.dir], addr)
    return addr


def big_file(path, size=100 * MIB):
    pattern = net.Pattern(str(path.name))
    with open(path, "wb") as out:
        for index in range(size // MIB):
            out.write(pattern.block(index))
    return path


def curl(t, addr, path, *arguments, **options):
    return t.run("curl", ["curl", "-sS", "--fail", "--max-time", int(net.TIMEOUT * 2), *arguments,
                          f"http://{net.format_addr(addr)}/{path}"], **options)


@case(needs=["curl", "nginx"], direct=True)
def curl_small(t):
    addr = t.tunnel(nginx(t))
    check_equal(curl(t, addr, "small").out, "a small file\n", "body")
    check_equal(t.run("curl", ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}",
                               f"http://{net.format_addr(addr)}/missing"]).out, "404", "status")


@case(needs=["curl", "nginx"], direct=True)
def curl_keepalive_many(t):
    """A hundred requests on one connection: one stream carries them all."""
    addr = t.tunnel(nginx(t))
    urls = [f"http://{net.format_addr(addr)}/small?{i}" for i in range(100)]
    done = t.run("curl", ["curl", "-sS", "--fail", "-w", "%{num_connects} ", *urls])
    check_equal(done.out.count("a small file"), 100, "bodies")
    check_equal(done.out.count("1 "), 1, "connections opened")


@case(needs=["curl", "nginx"], direct=True)
def curl_big_file(t):
    addr = t.tunnel(nginx(t))
    source = big_file(t.dir / "www/big")
    curl(t, addr, "big", "-o", t.dir / "copy")
    check(filecmp.cmp(source, t.dir / "copy", shallow=False), "the file arrived changed")


@case(needs=["curl", "nginx"], direct=True)
def curl_range(t):
    addr = t.tunnel(nginx(t))
    source = big_file(t.dir / "www/big", 8 * MIB)
    done = curl(t, addr, "big", "-r", "1000000-5000000", "-o", t.dir / "part", "-w", "%{http_code}")
    check_equal(done.out, "206", "status")
    check_equal((t.dir / "part").read_bytes(), source.read_bytes()[1000000:5000001], "range")


@case(needs=["curl", "nginx"], direct=True)
def curl_upload(t):
    """PUT of 32 MiB, with Expect: 100-continue, then POST refused by the origin early: curl gets the answer."""
    addr = t.tunnel(nginx(t))
    source = big_file(t.dir / "source", 32 * MIB)
    try:
        curl(t, addr, "put/x", "-T", source, "-H", "Expect: 100-continue")
    except Failure:
        if "405" in (t.dir / "curl.err").read_text():
            raise Skip("this nginx has no WebDAV") from None
        raise
    check(filecmp.cmp(source, t.dir / "up/put/x", shallow=False), "the upload arrived changed")
    done = t.run("curl", ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-d", "a=b",
                          f"http://{net.format_addr(addr)}/small"])
    check_equal(done.out, "405", "status of a POST to a file")


@case(needs=["curl", "nginx"], direct=True)
def curl_http10_close(t):
    """The end of the body is the end of the connection."""
    source = b"".join(net.Pattern("close").block(i) for i in range(3))

    def handler(sock):
        while b"\r\n\r\n" not in sock.recv(65536):
            pass
        sock.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + source)
    addr = t.tunnel(t.origin(handler))
    curl(t, addr, "x", "--http1.0", "-o", t.dir / "copy")
    check_equal(hashlib.sha256((t.dir / "copy").read_bytes()).hexdigest(), hashlib.sha256(source).hexdigest(), "body")
    real = t.client(t.tunnel_server, nginx(t)).addr if not t.mode.direct else nginx(t)
    check_equal(curl(t, real, "small", "--http1.0", "-H", "Connection: close").out, "a small file\n", "body")


@case(needs=["curl", "nginx"], direct=True)
def curl_chunked(t):
    """Chunked in both directions: gzip makes nginx's answer chunked, and curl uploads from a pipe."""
    addr = t.tunnel(nginx(t))
    text = "".join(f"line {i} of a text that shrinks\n" for i in range(50000))
    t.write("www/text.html", text)
    done = curl(t, addr, "text.html", "--compressed", "-D", t.dir / "head", "-o", t.dir / "copy")
    check("chunked" in (t.dir / "head").read_text(), "the answer was not chunked")
    check_equal((t.dir / "copy").read_text(), text, "body")
    with open(big_file(t.dir / "source", 8 * MIB), "rb") as source:
        done = curl(t, addr, "put/y", "-T", "-", "-w", "%{http_code}", stdin=source)
    check_equal(done.out[-3:], "201", "status")
    check(filecmp.cmp(t.dir / "source", t.dir / "up/put/y", shallow=False), "the upload arrived changed")


# iperf3

@case(needs=["iperf3"], direct=True)
def iperf3_both_ways(t):
    addr = ("127.0.0.1", t.port())
    server = t.spawn("iperf3-server", ["iperf3", "-s", "--forceflush", "-B", addr[0], "-p", addr[1]])
    addr = t.tunnel(addr)
    size = t.size("128M", "32M", "1G")
    for turn, extra in enumerate(([], ["-R"], ["-P", "4"], ["-R", "-P", "4"])):
        # The server learns later than the client that a test is over, and refuses another one until
        # then.
        server.expect("Server listening", count=turn + 1)
        done = t.run("iperf3", ["iperf3", "-c", addr[0], "-p", addr[1], "-n", size, "-J", *extra])
        check('"error"' not in done.out, f"iperf3 {extra}: {done.last_words()}")


# ssh and scp

SSHD = """
ListenAddress 127.0.0.1:{port}
HostKey {dir}/host_key
PidFile {dir}/sshd.pid
AuthorizedKeysFile {dir}/authorized
StrictModes no
UsePAM no
PasswordAuthentication no
Subsystem sftp internal-sftp
"""


def sshd(t):
    addr = ("127.0.0.1", t.port())
    for name in ("host_key", "user_key"):
        t.run("keygen", ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", t.dir / name])
    t.write("authorized", (t.dir / "user_key.pub").read_bytes(), 0o600)
    conf = t.write("sshd_config", SSHD.format(dir=t.dir, port=addr[1]))
    if os.geteuid() == 0 and not os.path.isdir("/run/sshd"):
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where Debian's sshd keeps its empty chroot
    t.service("sshd", [find_tool("sshd"), "-D", "-e", "-f", conf], addr)
    return addr


def ssh_options(t, addr, port_flag):
    return [port_flag, addr[1], "-F", "none", "-i", t.dir / "user_key", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={t.dir}/known", "-o", "LogLevel=ERROR"]


def me():
    return pwd.getpwuid(os.geteuid()).pw_name


@case(needs=["ssh", "sshd", "ssh-keygen"], direct=True)
def ssh_command(t):
    addr = t.tunnel(sshd(t))
    with open(t.write("input", bytes(range(256)) * 4096), "rb") as stdin:
        done = t.run("ssh", ["ssh", *ssh_options(t, addr, "-p"), f"{me()}@{addr[0]}", "cat; echo to stderr >&2; exit 7"],
                     want=7, stdin=stdin)
    check_equal(done.out_path.read_bytes(), bytes(range(256)) * 4096, "what came back")
    check_equal(done.err.strip(), "to stderr", "stderr")


@case(needs=["scp", "sshd", "ssh-keygen"], direct=True)
def scp_both_ways(t):
    addr = t.tunnel(sshd(t))
    source = big_file(t.dir / "source", 32 * MIB)
    options = ssh_options(t, addr, "-P")
    t.run("scp", ["scp", "-q", *options, source, f"{me()}@{addr[0]}:{t.dir}/there"])
    check(filecmp.cmp(source, t.dir / "there", shallow=False), "the file arrived changed")
    t.run("scp", ["scp", "-q", *options, f"{me()}@{addr[0]}:{t.dir}/there", t.dir / "back"])
    check(filecmp.cmp(source, t.dir / "back", shallow=False), "the file came back changed")


# PostgreSQL

def as_postgres(argv):
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return argv
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        raise Skip("no user postgres to run the server as") from None
    return [find_tool("setpriv"), "--reuid=postgres", "--regid=postgres", "--clear-groups", *argv]


def postgres(t):
    addr = ("127.0.0.1", t.port())
    data = t.dir / "pg"
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(data, "postgres", "postgres")
    t.run("initdb", as_postgres([find_tool("initdb"), "-N", "--no-locale", "-A", "trust", "-U", "tester", "-D", data]), cwd="/")
    server = t.spawn("postgres", as_postgres([find_tool("postgres"), "-D", data, "-h", addr[0], "-p", str(addr[1]), "-F",
                                              "-c", "unix_socket_directories=", "-c", "shared_buffers=16MB"]), cwd="/")
    server.expect("ready to accept connections", stream="err")  # before that it accepts, and refuses whoever comes
    return addr


@case(needs=["psql", "initdb", "postgres", "pgbench", "setpriv"], direct=True)
def psql_and_pgbench(t):
    """A query, COPY of some MB both ways, a cancelled query (a second connection while the first waits), and pgbench."""
    real = postgres(t)
    addr = t.tunnel(real)
    env = dict(os.environ, PGHOST=addr[0], PGPORT=str(addr[1]), PGUSER="tester", PGDATABASE="postgres")

    def psql(*arguments, **options):
        return t.run("psql", ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", *arguments], env=env, **options)
    check_equal(psql("-c", "select sum(i) from generate_series(1, 100000) i").out.strip(), "5000050000", "sum")
    rows = "".join(f"{i}\t{random.Random(i).getrandbits(200):x}\n" for i in range(60000))
    psql("-c", "create table t (i int primary key, v text)")
    with open(t.write("rows", rows), "rb") as stdin:
        psql("-c", "copy t from stdin", stdin=stdin)
    check(psql("-c", "copy (select * from t order by i) to stdout").out == rows, "COPY came back changed")
    slow = t.spawn("psql-slow", ["psql", "-X", "-c", "select pg_sleep(600)"], env=env)
    slow.want = (1,)
    t.until(lambda: psql("-c", "select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(600)'").out.strip() == "1",
            "the slow query")
    slow.stop(signal.SIGINT)  # psql asks for its end on a connection of its own
    check("canceling statement due to user request" in slow.err, f"cancelled query: {slow.last_words()}")
    t.run("pgbench", ["pgbench", "-i", "-q", "-s", "1"], env=env)
    done = t.run("pgbench", ["pgbench", "-c", "8", "-j", "2", "-t", "100", "-n"], env=env)
    check("actually processed: 800/800" in done.out, f"pgbench: {done.last_words()}")


# Redis

@case(needs=["redis-server", "redis-cli", "redis-benchmark"], direct=True)
def redis(t):
    addr = ("127.0.0.1", t.port())
    t.service("redis", ["redis-server", "--port", addr[1], "--bind", addr[0], "--dir", t.dir, "--save", "", "--daemonize", "no"], addr)
    addr = t.tunnel(addr)
    cli = ["redis-cli", "-h", addr[0], "-p", addr[1]]
    check_equal(t.run("redis-cli", [*cli, "set", "key", "value"]).out.strip(), "OK", "set")
    check_equal(t.run("redis-cli", [*cli, "get", "key"]).out.strip(), "value", "get")
    with open(t.write("big", base64.b64encode(random.Random(5).randbytes(6 * MIB))), "rb") as stdin:
        check_equal(t.run("redis-cli", [*cli, "-x", "set", "big"], stdin=stdin).out.strip(), "OK", "set big")
    got = t.run("redis-cli", [*cli, "--raw", "get", "big"]).out_path.read_bytes()[:-1]
    check(got == (t.dir / "big").read_bytes(), "8 MiB value came back changed")
    done = t.run("redis-benchmark", ["redis-benchmark", "-h", addr[0], "-p", addr[1], "-n", "10000", "-c", "50", "-P", "4",
                                     "-t", "set,get,lpush,lrange_100", "--csv"])
    check_equal(done.out.count("LRANGE_100"), 1, "benchmark rows")


# WebSocket

def websocket_frame(payload, mask=None, opcode=2):
    size = len(payload)
    bit = 0x80 if mask else 0
    if size < 126:
        head = struct.pack(">BB", 0x80 | opcode, bit | size)
    elif size < 65536:
        head = struct.pack(">BBH", 0x80 | opcode, bit | 126, size)
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, bit | 127, size)
    if not mask:
        return head + payload
    key = (mask * (size // 4 + 1))[:size]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
    return head + mask + body


def websocket_read(sock):
    first, second = net.recv_exact(sock, 2)
    size = second & 0x7f
    if size == 126:
        size = struct.unpack(">H", net.recv_exact(sock, 2))[0]
    elif size == 127:
        size = struct.unpack(">Q", net.recv_exact(sock, 8))[0]
    mask = net.recv_exact(sock, 4) if second & 0x80 else bytes(4)
    payload = net.recv_exact(sock, size)
    key = (mask * (size // 4 + 1))[:size]
    return first & 0xf, (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def accept_key(key):
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def read_head(sock):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += net.recv_exact(sock, 1)
    return head


def websocket_server(sock):
    head = read_head(sock)
    key = head.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
    sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Accept: " + accept_key(key) + b"\r\n\r\n")
    while True:
        opcode, payload = websocket_read(sock)
        sock.sendall(websocket_frame(payload, opcode=opcode))
        if opcode == 8:
            return


@case(direct=True)
def websocket_echo(t):
    addr = t.tunnel(t.origin(websocket_server))
    sock = net.connect(addr)
    key = base64.b64encode(b"0123456789abcdef")
    sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                 b"Sec-WebSocket-Key: " + key + b"\r\n\r\n")
    check(accept_key(key) in read_head(sock), "no upgrade")
    rng = random.Random(6)
    for size in [0, 1, 125, 126, 65535, 65536, 1 << 20] + [rng.randrange(2000) for _ in range(300)]:
        payload = rng.randbytes(size)
        sock.sendall(websocket_frame(payload, rng.randbytes(4)))
        check(websocket_read(sock) == (2, payload), f"a message of {size} bytes came back changed")
    sock.sendall(websocket_frame(b"\x03\xe8", rng.randbytes(4), opcode=8))
    check_equal(websocket_read(sock), (8, b"\x03\xe8"), "close")
    check_equal(net.end_of(sock), "eof", "end")


# HTTP/2

def nghttpd(t, *flags):
    addr = ("127.0.0.1", t.port())
    t.write("h2/small", "a small file\n")
    big_file(t.dir / "h2/big", 4 * MIB)
    t.service("nghttpd", ["nghttpd", "--no-tls", "-a", addr[0], "-d", t.dir / "h2", *flags, addr[1]], addr)
    return addr


@case(needs=["nghttp", "nghttpd"], direct=True)
def h2c_nghttp(t):
    """HTTP/2 without TLS: several streams in one connection, each body whole, and trailers after it."""
    addr = t.tunnel(nghttpd(t, "--trailer", "grpc-status: 0"))
    base = f"http://{net.format_addr(addr)}"
    done = t.run("nghttp", ["nghttp", "-v", "-n", "-w", "20", "-W", "20", base + "/small", base + "/big"])
    check_equal(done.out.count("grpc-status: 0"), 2, "trailers")
    done = t.run("nghttp", ["nghttp", base + "/big"])
    check(done.out_path.read_bytes() == (t.dir / "h2/big").read_bytes(), "the body arrived changed")


@case(needs=["h2load", "nghttpd"], direct=True)
def grpc_shaped_h2load(t):
    """As gRPC does: few connections, many streams at once, small messages both ways, trailers."""
    addr = t.tunnel(nghttpd(t, "--trailer", "grpc-status: 0", "--echo-upload"))
    message = t.write("message", random.Random(7).randbytes(700))
    done = t.run("h2load", ["h2load", "-n", "4000", "-c", "4", "-m", "100", "-d", message,
                            f"http://{net.format_addr(addr)}/echo"])
    check("4000 succeeded, 0 failed, 0 errored" in done.out, f"h2load: {done.last_words()}")
