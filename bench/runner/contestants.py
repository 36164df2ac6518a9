"""Everything that can carry a visitor to an origin, started with a configuration made on the spot.

A contestant is started for one measurement and stopped after it, so that its CPU time and its peak
memory belong to that measurement. All of them listen on 127.0.0.1 only. Peers run with the defaults
that their users have; where one setting makes a peer much faster, it competes again with it.
"""

import getpass
import os
import re
import shutil
import signal
import subprocess
import time

from runner.procs import Process, StartError, free_port, pids_of, plain_flag, wait_listening

HOST = "127.0.0.1"
NGINX_STREAM = (
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
    "/usr/share/nginx/modules/ngx_stream_module.so",
)


class Path:
    """A running contestant: where visitors go, and the processes whose time and memory count."""

    def __init__(self, port, processes, near=None, far=None):
        self.port = port
        self.processes = processes
        self.near = near  # the process beside the origin, where there are exactly two
        self.far = far  # the one that visitors meet

    def pids(self):
        return pids_of(self.processes)

    def counters(self):
        """What the processes can tell of themselves, by role; empty for most."""
        return {}

    def stop(self):
        for process in reversed(self.processes):
            process.stop()


class CulvertPath(Path):
    """Asks both ends for their counters with SIGUSR1 and reads the answer from their logs."""

    SETTLE = 0.15

    def counters(self):
        ends = {"server": self.far, "client": self.near}
        before = {role: os.path.getsize(end.log) for role, end in ends.items()}
        for end in ends.values():
            end.popen.send_signal(signal.SIGUSR1)
        time.sleep(self.SETTLE)
        return {role: self._parse(end.log, before[role]) for role, end in ends.items()}

    @staticmethod
    def _parse(log, offset):
        """Sums '  12 text' lines and '  ring: 3 waits, ...' over all workers."""
        sums = {}
        with open(log, errors="replace") as text:
            text.seek(offset)
            for line in text:
                if not line.startswith("  "):
                    continue
                _, _, tail = line.rpartition("ring: ")
                for part in tail.split(", ") if "ring: " in line else [line]:
                    found = re.match(r"\s*(\d+) (.+?)\s*$", part)
                    if found:
                        sums[found.group(2)] = sums.get(found.group(2), 0) + int(found.group(1))
        return sums


class Contestant:
    """Base: `name`, `start()`, and `missing()`: the reason why it cannot run, or None."""

    name = ""
    floor = False
    ours = False
    needs = ()
    path_type = Path

    def __init__(self, run):
        self.run = run

    def missing(self):
        absent = [tool for tool in self.needs if not find_tool(tool)]
        return f"{', '.join(absent)} not on PATH" if absent else None

    def start(self, origin):
        raise NotImplementedError

    # helpers for the subclasses

    def spawn(self, role, argv):
        return Process(
            argv,
            self.run.file(f"{self.name.replace(' ', '-')}-{role}.log"),
            cpus=self.run.cpus(role),
        )

    def write(self, name, text):
        path = self.run.file(f"{self.name.replace(' ', '-')}-{name}")
        with open(path, "w") as out:
            out.write(text)
        return path

    def two_hops(self, start_hop, origin):
        """Two relays in a row; start_hop(role, listen_port, to_port) starts one."""
        outer, inner = free_port(), free_port()
        processes = []
        try:
            processes.append(start_hop("near", inner, origin))
            processes.append(start_hop("far", outer, inner))
            wait_listening(inner, processes)
            wait_listening(outer, processes)
        except BaseException:
            Path(outer, processes).stop()
            raise
        return Path(outer, processes, near=processes[0], far=processes[1])

    def tunnel(self, server_argv, control, client_argv, public):
        """A server, and a client once the server's control port accepts."""
        processes = [self.spawn("far", server_argv)]
        try:
            wait_listening(control, processes)
            processes.append(self.spawn("near", client_argv))
            wait_listening(public, processes)
        except BaseException:
            Path(public, processes).stop()
            raise
        return self.path_type(public, processes, near=processes[1], far=processes[0])

    def alone(self, argv, port):
        """One process that listens; nothing behind it."""
        processes = [self.spawn("far", argv)]
        try:
            wait_listening(port, processes)
        except BaseException:
            Path(port, processes).stop()
            raise
        return Path(port, processes, far=processes[0])


def certificate(run):
    """A P-256 certificate that signs itself, made once per run: (certificate, key, both in one)."""
    cert, key, both = (run.file(f"tls.{ending}") for ending in ("crt", "key", "pem"))
    if not os.path.exists(both):
        argv = [find_tool("openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "30"]
        argv += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"]
        argv += ["-addext", f"subjectAltName=DNS:localhost,IP:{HOST}"]
        argv += ["-keyout", key, "-out", cert]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(both, "wb") as out:
            for part in (cert, key):
                with open(part, "rb") as pem:
                    out.write(pem.read())
    return cert, key, both


def find_tool(name):
    """shutil.which, and the places where Debian keeps what ordinary users have no PATH for."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")


class Direct(Contestant):
    name = "direct"

    def start(self, origin):
        return Path(origin, [])


class Floor(Contestant):
    """Two bare relays in a row."""

    floor = True

    def __init__(self, run, name, program):
        super().__init__(run)
        self.name = name
        self.program = program

    def hop(self, role, listen, to):
        ends = ["--listen", f"{HOST}:{listen}", "--to", f"{HOST}:{to}"]
        return self.spawn(role, [self.run.program(self.program), *ends])

    def start(self, origin):
        return self.two_hops(self.hop, origin)


class Culvert(Contestant):
    """Lanes in clear."""

    ours = True
    path_type = CulvertPath

    def lanes(self):
        """Flags of both ends."""
        return plain_flag(self.program)

    def __init__(self, run, name, wire, workers=1):
        super().__init__(run)
        self.name = name
        self.program = run.culvert
        self.wire = wire
        self.workers = workers

    def missing(self):
        if not os.access(self.program, os.X_OK):
            return f"no program at {self.program}"
        return None

    def server_argv(self, control, public):
        return [
            self.program,
            "server",
            "--addr",
            f"{HOST}:{control}",
            "--start-port",
            public,
            "--workers",
            self.workers,
            *self.lanes(),
        ]

    def client_argv(self, control):
        return [
            self.program,
            "client",
            "--server",
            f"{HOST}:{control}",
            "--wire",
            self.wire,
            "--workers",
            self.workers,
            *self.lanes(),
        ]

    def start(self, origin, origins=1):
        """With several origins (neighbouring ports) as many tunnels, from path.port upward."""
        control, public = free_port(), free_port(origins)
        client = self.client_argv(control)
        for i in range(origins):
            client += ["--local", f"{HOST}:{origin + i}"]
        if origins == 1:
            client += ["--port", public]
        path = self.tunnel(self.server_argv(control, public), control, client, public)
        for i in range(origins):
            wait_listening(public + i, path.processes)
        return path


class CulvertTls(Culvert):
    """Lanes under TLS, sealed and opened by Culvert itself on every kernel."""

    def lanes(self):
        return ["--tls", "--record-engine", "user"]

    def state(self, role):
        """Kept from start to start: the server makes its certificate once, the client knows it."""
        return ["--state-dir", self.run.file(f"{self.name.replace(' ', '-')}-{role}-state")]

    def server_argv(self, control, public):
        return super().server_argv(control, public) + self.state("server")

    def client_argv(self, control):
        return super().client_argv(control) + ["--tls-accept-new", *self.state("client")]

    def start_handshaker(self):
        """The server alone, with the certificate that all handshakers have; path.port is TLS."""
        control = free_port()
        cert, key, _ = certificate(self.run)
        argv = super().server_argv(control, free_port())
        argv += ["--tls-cert", cert, "--tls-key", key, *self.state("server")]
        return self.alone(argv, control)


class NginxSsl(Contestant):
    """nginx as others' measure of TLS handshakes; it is no tunnel."""

    name = "nginx ssl"
    needs = ("nginx", "openssl")

    def start_handshaker(self):
        port = free_port()
        cert, key, _ = certificate(self.run)
        config = self.write(
            "ssl.conf",
            f"""
daemon off; worker_processes 1; worker_rlimit_nofile 16384;
pid {self.run.file('nginx-ssl.pid')}; error_log stderr crit;
events {{ worker_connections 8000; }}
http {{
    access_log off;
    server {{
        listen {HOST}:{port} ssl backlog=4096;
        ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;
        location / {{ return 204; }}
    }}
}}
""",
        )
        return self.alone([find_tool("nginx"), "-e", "stderr", "-c", config], port)


class NginxStream(Contestant):
    needs = ("nginx",)

    def __init__(self, run, name, settings=""):
        super().__init__(run)
        self.name = name
        self.settings = settings

    def missing(self):
        if not self.module():
            return super().missing() or "nginx has no stream module (libnginx-mod-stream)"
        return super().missing()

    @staticmethod
    def module():
        return next((path for path in NGINX_STREAM if os.path.exists(path)), None)

    def hop(self, role, listen, to):
        config = self.write(
            f"{role}.conf",
            f"""
load_module {self.module()};
daemon off; worker_processes 1; worker_rlimit_nofile 16384;
pid {self.run.file('nginx-hop-' + role + '.pid')}; error_log stderr crit;
events {{ worker_connections 8000; }}
stream {{
    {self.settings}
    server {{ listen {HOST}:{listen} backlog=4096; proxy_pass {HOST}:{to}; tcp_nodelay on; }}
}}
""",
        )
        return self.spawn(role, [find_tool("nginx"), "-e", "stderr", "-c", config])

    def start(self, origin):
        return self.two_hops(self.hop, origin)


class HAProxy(Contestant):
    needs = ("haproxy",)

    def __init__(self, run, name, settings=""):
        super().__init__(run)
        self.name = name
        self.settings = settings

    def listen_as(self, role):
        """What the hop's `bind` line ends with."""
        return ""

    def dial_as(self, role):
        """What its `server` line ends with."""
        return ""

    def hop(self, role, listen, to):
        config = self.write(
            f"{role}.cfg",
            f"""
global
    maxconn 4000
    {self.settings}
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend in
    bind {HOST}:{listen} backlog 4096 {self.listen_as(role)}
    default_backend out
backend out
    server next {HOST}:{to} {self.dial_as(role)}
""",
        )
        return self.spawn(role, [find_tool("haproxy"), "-q", "-db", "-f", config])

    def start(self, origin):
        return self.two_hops(self.hop, origin)


class HAProxyTls(HAProxy):
    """TLS between the hops: the far one dials with it, the near one has the certificate."""

    needs = ("haproxy", "openssl")

    def listen_as(self, role):
        return f"ssl crt {certificate(self.run)[2]}" if role == "near" else ""

    def dial_as(self, role):
        return "ssl verify none" if role == "far" else ""


class Stunnel(Contestant):
    name = "stunnel x2"
    needs = ("stunnel", "openssl")

    def hop(self, role, listen, to):
        cert, key, _ = certificate(self.run)
        own = "client = yes" if role == "far" else f"cert = {cert}\nkey = {key}"
        config = self.write(
            f"{role}.conf",
            f"""
foreground = yes
pid =
debug = err
socket = a:SO_REUSEADDR=1
[hop]
accept = {HOST}:{listen}
connect = {HOST}:{to}
{own}
""",
        )
        return self.spawn(role, [find_tool("stunnel"), config])

    def start(self, origin):
        return self.two_hops(self.hop, origin)


class Ssh(Contestant):
    name = "ssh -R"
    needs = ("ssh", "sshd", "ssh-keygen")

    def keys(self):
        """A host key and a user key for this run."""
        for name in ("host_key", "user_key"):
            path = self.run.file(name)
            if not os.path.exists(path):
                subprocess.run(
                    [find_tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", path],
                    check=True,
                    stdin=subprocess.DEVNULL,
                )
        shutil.copy(self.run.file("user_key.pub"), self.run.file("authorized_keys"))

    def missing(self):
        if super().missing() is None and not os.path.isdir("/run/sshd") and os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)  # Debian makes it when its service starts
        return super().missing()

    def start(self, origin):
        self.keys()
        control, public = free_port(), free_port()
        config = self.write(
            "sshd.conf",
            f"""
ListenAddress {HOST}
Port {control}
HostKey {self.run.file('host_key')}
PidFile none
AuthorizedKeysFile {self.run.file('authorized_keys')}
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
AllowTcpForwarding yes
""",
        )
        server = [find_tool("sshd"), "-D", "-e", "-f", config]
        client = [
            find_tool("ssh"),
            "-N",
            "-F",
            "none",
            "-i",
            self.run.file("user_key"),
            "-p",
            control,
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "ExitOnForwardFailure=yes",
            "-o",
            "BatchMode=yes",
            "-R",
            f"{HOST}:{public}:{HOST}:{origin}",
            f"{getpass.getuser()}@{HOST}",
        ]
        return self.tunnel(server, control, client, public)


class Rathole(Contestant):
    name = "rathole"
    needs = ("rathole",)

    def start(self, origin):
        control, public = free_port(), free_port()
        server = self.write(
            "server.toml",
            f"""
[server]
bind_addr = "{HOST}:{control}"
default_token = "bench"
[server.services.bench]
bind_addr = "{HOST}:{public}"
""",
        )
        client = self.write(
            "client.toml",
            f"""
[client]
remote_addr = "{HOST}:{control}"
default_token = "bench"
[client.services.bench]
local_addr = "{HOST}:{origin}"
""",
        )
        tool = find_tool("rathole")
        return self.tunnel([tool, "--server", server], control, [tool, "--client", client], public)


class Frp(Contestant):
    needs = ("frps", "frpc")

    def __init__(self, run, name, mux, tls=False):
        super().__init__(run)
        self.name = name
        self.mux = "true" if mux else "false"
        self.tls = "true" if tls else "false"

    def start(self, origin):
        control, public = free_port(), free_port()
        server = self.write(
            "frps.toml",
            f"""
bindAddr = "{HOST}"
bindPort = {control}
proxyBindAddr = "{HOST}"
transport.tcpMux = {self.mux}
log.level = "error"
""",
        )
        client = self.write(
            "frpc.toml",
            f"""
serverAddr = "{HOST}"
serverPort = {control}
transport.tcpMux = {self.mux}
transport.tls.enable = {self.tls}
log.level = "error"
[[proxies]]
name = "bench"
type = "tcp"
localIP = "{HOST}"
localPort = {origin}
remotePort = {public}
""",
        )
        return self.tunnel(
            [find_tool("frps"), "-c", server], control, [find_tool("frpc"), "-c", client], public
        )


class Chisel(Contestant):
    name = "chisel"
    needs = ("chisel",)

    def start(self, origin):
        control, public = free_port(), free_port()
        tool = find_tool("chisel")
        return self.tunnel(
            [tool, "server", "--host", HOST, "--port", control, "--reverse"],
            control,
            [tool, "client", f"{HOST}:{control}", f"R:{HOST}:{public}:{HOST}:{origin}"],
            public,
        )


class Bore(Contestant):
    name = "bore"
    needs = ("bore",)
    CONTROL = 7835  # fixed in bore

    def start(self, origin):
        public = free_port()
        tool = find_tool("bore")
        return self.tunnel(
            [tool, "server", "--min-port", public, "--max-port", public],
            self.CONTROL,
            [tool, "local", origin, "--to", HOST, "--port", public],
            self.CONTROL,
        )

    def tunnel(self, server_argv, control, client_argv, public):
        path = super().tunnel(server_argv, control, client_argv, public)
        path.port = int(client_argv[-1])
        try:
            wait_listening(path.port, path.processes)
        except StartError:
            path.stop()
            raise
        return path


class GoTunnel(Contestant):
    """The seed itself, where somebody still has it."""

    name = "GoTunnel v1"

    @staticmethod
    def tool():
        return find_tool("gotunnel") or find_tool("gotunnel-v1")

    def missing(self):
        return None if self.tool() else "gotunnel not on PATH"

    def start(self, origin):
        control, public = free_port(), free_port()
        return self.tunnel(
            [self.tool(), "server", "--addr", f"{HOST}:{control}", "--start-port", public],
            control,
            [self.tool(), "client", "--server", f"{HOST}:{control}", "--local", f"{HOST}:{origin}"],
            public,
        )


def all_contestants(run):
    """In the order in which tables show them."""
    return [
        Direct(run),
        Floor(run, "floor ring", "floor_ring"),
        Floor(run, "floor plain", "floor_plain"),
        Floor(run, "floor splice", "floor_splice"),
        Culvert(run, "culvert v2", "v2"),
        Culvert(run, "culvert v1", "v1"),
        CulvertTls(run, "culvert tls", "v2"),
        NginxStream(run, "nginx stream x2"),
        NginxStream(run, "nginx 64k x2", "proxy_buffer_size 64k;"),
        HAProxy(run, "HAProxy tcp x2"),
        HAProxy(run, "HAProxy 64k x2", "tune.bufsize 65536"),
        HAProxyTls(run, "HAProxy tls x2"),
        HAProxyTls(run, "HAProxy 64k tls x2", "tune.bufsize 65536"),
        Stunnel(run),
        NginxSsl(run),
        Ssh(run),
        Rathole(run),
        Frp(run, "frp", mux=True),
        Frp(run, "frp no mux", mux=False),
        Frp(run, "frp tls", mux=True, tls=True),
        Frp(run, "frp no mux tls", mux=False, tls=True),
        Chisel(run),
        Bore(run),
        GoTunnel(run),
    ]
