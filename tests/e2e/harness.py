"""harness: what a case is, and what it may use: processes, ports, culvert servers and clients.

A case is a function with one argument, registered by the decorator `case`. The runner (`run`) calls it once per mode, each time in
a process of its own with a directory of its own, and gives it a `Context`. After the function returns, `Context.finish` stops what
was started and then judges: every culvert process must have ended with the status that the case said (0 if it said nothing) after
one SIGTERM, no stderr may show a sanitizer report or a failed CHECK, and no descendant may be left.

Rules for cases: wait for events (`until`, `Proc.expect`), never for time to pass; take ports from `port` or `ports`; use time-outs
only to bound a failure. A time that the product promises is asserted from below exactly and from above generously.

Ports come from a window that this process owns by a lock file, below the kernel's ephemeral range, so that several runs on one
machine do not meet. In direct mode there is no tunnel: `Context.tunnel` returns the origin's own address, which tests the test.
"""
import ctypes
import fcntl
import os
import pathlib
import pty
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import termios
import threading
import time

import net
import tlspipe

HERE = pathlib.Path(__file__).resolve().parent
ROOT = pathlib.Path(__file__).resolve().parents[2]
TROUBLE = re.compile(r"(Address|Thread|Leak|Memory|UndefinedBehavior)Sanitizer|runtime error:|culvert: bug"
                     r"|Invalid (read|write) of size|definitely lost: [1-9]")
PORT_FIRST, PORT_LAST, PORT_WINDOW = 11000, 32000, 300
PR_SET_CHILD_SUBREAPER = 36
CASES = []


class Failure(AssertionError):
    """The product did not do what the case demands."""


class Skip(Exception):
    """The case cannot run here; the text says why."""


class Mode:
    """One way to run a case: the wire the client speaks, the workers on both sides, and whether the lanes are encrypted."""

    def __init__(self, name):
        self.name = name
        self.direct = name == "direct"
        wire, workers, tls = (name + "--").split("-")[:3]
        self.v1 = wire == "v1"
        self.wire = "v1" if self.v1 else "v2"
        self.workers = 1 if self.direct else int(workers.rstrip("w"))
        self.tls = tls == "tls"
        self.kinds = (self.wire, f"{wire}-{workers}", self.name, "tls" if self.tls else "plain")


MODES = ["v2-1w", "v2-2w", "v1-1w", "v1-2w", "v2-1w-tls", "v2-2w-tls", "v1-1w-tls"]


class Case:
    def __init__(self, function, needs, direct, not_in, alone, waits, long, deadline):
        self.function, self.name = function, function.__name__
        self.needs, self.direct, self.not_in, self.long = needs, direct, not_in or {}, long
        self.alone, self.waits, self.deadline = alone, waits, deadline

    def why_not(self, mode, long=True):
        """Why this case has no place in this mode or in a usual run; None if it has."""
        if mode.direct and not self.direct:
            return "needs a tunnel"
        if self.long and not long:
            return "only with --long"
        return None if mode.direct else next((self.not_in[kind] for kind in mode.kinds if kind in self.not_in), None)

    def missing(self):
        """A program that it needs and that is not here; None if all are."""
        return next((f"{tool} is not installed" for tool in self.needs if not find_tool(tool)), None)


def case(needs=(), direct=False, not_in=None, alone=False, waits=False, long=False, deadline=120):
    """Registers a case. `needs`: programs; `direct`: also meaningful without a tunnel; `not_in`: {mode, wire,
    "tls" or "plain": why not}; "v2-1w" stands for v2-1w-tls, too; `long`: only with --long;
    `alone`: no other case may run beside it, but those that wait and, if it is a word, those of a v1 mode with the same word;
    `waits`: it does next to nothing for half a minute, starts first, and takes no other case's place; `deadline`: seconds, generous."""
    def register(function):
        CASES.append(Case(function, needs, direct, not_in, alone, waits, long, deadline))
        return function
    return register


def find_tool(name):
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin"
    found = shutil.which(name, path=path)
    if found is None and name in ("initdb", "postgres", "pgbench"):
        found = max((str(p) for p in pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}")),
                    default=None)
    return found


def prctl(option, value):
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def descendants(pid):
    """All live descendants of a process: {pid: command line}."""
    children = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = pathlib.Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, queue = {}, [pid]
    while queue:
        for child in children.get(queue.pop(), []):
            try:
                line = pathlib.Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
            found[child] = line.decode(errors="replace").strip()
            queue.append(child)
    return found


class PortWindow:
    """A range of ports that no other run on this machine uses, held by a lock."""

    def __init__(self):
        directory = pathlib.Path(tempfile.gettempdir()) / "culvert-e2e-ports"
        directory.mkdir(mode=0o777, exist_ok=True)
        for first in range(PORT_FIRST, PORT_LAST, PORT_WINDOW):
            self.lock = open(directory / str(first), "w")
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.lock.close()
                continue
            self.next, self.end = first, first + PORT_WINDOW
            return
        raise Skip("no free window of ports")

    def take(self, count=1):
        """The first of `count` neighbouring ports that are free on IPv4 and IPv6."""
        while self.next + count <= self.end:
            first = self.next
            self.next += count
            if all(port_free(port) for port in range(first, first + count)):
                return first
        raise Failure("the test's window of ports is used up")


def port_free(port):
    for host in ("0.0.0.0", "::"):
        try:
            net.listen(host, port, backlog=1).close()
        except OSError as error:
            if error.errno == 98:  # EADDRINUSE; a host without IPv6 gives another error
                return False
    return True


class Proc:
    """A child process with its output in files."""

    def __init__(self, context, name, argv, **options):
        self.context, self.name, self.want = context, name, (0,)
        self.is_culvert = False
        self.copying = None  # the terminal's output to err_path
        self.out_path = context.dir / f"{name}.out"
        self.err_path = context.dir / f"{name}.err"
        (context.dir / f"{name}.cmd").write_text(" ".join(map(str, argv)) + "\n")
        stdin = options.pop("stdin", subprocess.DEVNULL)
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            if options.pop("terminal", False):
                stdin = err = self.open_terminal()
            self.popen = subprocess.Popen([str(a) for a in argv], stdin=stdin, stdout=out, stderr=err, **options)
        if stdin is err:
            os.close(stdin)
        self.pid = self.popen.pid

    def open_terminal(self):
        """A terminal for standard input and standard error, whose output goes to the file of the latter; returns the program's end of it."""
        self.terminal, ours = pty.openpty()
        attributes = termios.tcgetattr(ours)
        attributes[1] &= ~termios.OPOST  # lines end as they are written
        termios.tcsetattr(ours, termios.TCSANOW, attributes)

        def copy(path):
            with open(path, "ab", buffering=0) as file:
                try:
                    while data := os.read(self.terminal, 65536):
                        file.write(data)
                except OSError:
                    pass  # the program's end is closed
        self.copying = threading.Thread(target=copy, args=(self.err_path,), daemon=True)
        self.copying.start()
        return ours

    def type(self, text):
        os.write(self.terminal, text.encode())

    @property
    def out(self):
        return self.out_path.read_text(errors="replace")

    @property
    def err(self):
        return self.err_path.read_text(errors="replace")

    def running(self):
        return self.popen.poll() is None

    def stand_still(self):
        """SIGSTOP, until all its threads stand."""
        self.send(signal.SIGSTOP)
        tasks = pathlib.Path(f"/proc/{self.popen.pid}/task")
        net.poll_until(lambda: all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks.iterdir()),
                       f"threads of {self.name} that stand still")

    def counted(self, what, workers):
        """The sum of a counter over all workers, as the program says on SIGUSR1."""
        said, last = self.err, "completions handled"
        self.send(signal.SIGUSR1)
        self.expect(last, stream="err", count=said.count(last) + workers)
        return sum(map(int, re.findall(rf"(\d+) {what}", self.err[len(said):])))

    def expect(self, pattern, stream="out", timeout=None, count=1):
        """Waits until the output matches `count` times; returns the matches. Fails at once if the process ends before."""
        regex = re.compile(pattern, re.M)

        def look():
            ended = not self.running()
            found = list(regex.finditer(getattr(self, stream)))
            if len(found) >= count:
                return found
            if ended:
                raise Failure(f"{self.name} ended with status {self.popen.returncode} before it printed "
                              f"/{pattern}/: {self.last_words()}")
            return None
        return net.poll_until(look, f"/{pattern}/ from {self.name}", timeout)

    def last_words(self):
        lines = [line for line in (self.err + self.out).splitlines() if line.strip()]
        return lines[-1][:200] if lines else "(it said nothing)"

    def send(self, number):
        if self.running():
            self.popen.send_signal(number)

    def wait(self, timeout=None):
        """The exit status; negative for a signal. All that it wrote is in its files then."""
        try:
            status = self.popen.wait(timeout or net.TIMEOUT)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end") from None
        if self.copying is not None:
            self.copying.join(net.TIMEOUT)
        return status

    def stop(self, number=signal.SIGTERM, timeout=None):
        self.send(number)
        return self.wait(timeout)

    def kill(self):
        """kill -9, as part of a case."""
        self.want = (-signal.SIGKILL,)
        self.send(signal.SIGKILL)
        self.wait()

    def memory(self):
        """Resident bytes."""
        text = pathlib.Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Rss:\s+(\d+) kB", text, re.M).group(1)) * 1024


class Server(Proc):
    """culvert server. addr: where clients connect; start_port: the first public port; host: where public ports bind."""


class Client(Proc):
    """culvert client. addrs: the public addresses, in the order of --local."""

    def read_ready(self, count):
        found = self.expect(r"^ready: tcp://(\S+) -> (\S+)$", count=count)
        self.addrs = [net.parse_addr(match.group(1)) for match in found]
        self.addr = self.addrs[0]


class Context:
    """What a case works with."""

    def __init__(self, mode, directory, options):
        self.mode, self.dir = mode, pathlib.Path(directory)
        self.long, self.small, self.culvert = options.long, options.small, options.culvert
        self.factor = options.time_factor
        self.seed = options.seed
        self.procs, self.origins = [], []
        self.window = None
        self.token = "token-of-" + self.dir.name
        self.names = {}
        self.certs = self.dir / "tls"
        if mode.tls:
            self.make_certs()
            net.LANES = tlspipe.Lanes(self.certs)
        self.note = ""  # shown beside ok
        os.environ.pop("CULVERT_TOKEN", None)
        prctl(PR_SET_CHILD_SUBREAPER, 1)

    # Ports and files

    def port(self):
        return self.ports(1)

    def ports(self, count):
        """The first of `count` free neighbouring ports."""
        if self.window is None:
            self.window = PortWindow()
        return self.window.take(count)

    def write(self, name, content, mode=0o644):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    def needs_its_own_memory(self):
        """Skips a case about memory that TLS libraries take: a sanitizer gives it to them by itself."""
        with open(self.culvert, "rb") as program:
            if re.search(rb"__[at]san_init\0", program.read()):
                raise Skip("the sanitizer's allocator is in the place of the program's own")

    def size(self, usual, small, full=None):
        """How much of something: the usual amount, or that of --long or --small."""
        if self.long and full is not None:
            return full
        return small if self.small else usual

    def until(self, condition, what, timeout=None):
        return net.poll_until(condition, what, timeout)

    def make_certs(self):
        """A CA and a certificate for localhost in `certs`, as a user makes them; the address is that of private networks of cases."""
        subprocess.run([self.culvert, "gen-cert", "--dir", self.certs, "--name", "192.0.2.1"], check=True, stdout=subprocess.DEVNULL)

    def server_tls(self):
        """With one worker the server takes plain connections, too."""
        only = ["--tls"] if self.mode.workers > 1 else []
        return [*only, "--tls-cert", self.certs / "server.pem", "--tls-key", self.certs / "server.key", *self.engine(0)]

    def client_tls(self):
        return ["--tls", "--tls-ca", self.certs / "ca.pem", *self.engine(1)]

    @staticmethod
    def engine(side):
        """The same engine on every kernel, unless tests/lab/ktls says otherwise: the server's (0) and the client's (1)."""
        return ["--record-engine", os.environ.get("CULVERT_E2E_ENGINES", "user user").split()[side]]

    # Processes

    def unique(self, name):
        self.names[name] = self.names.get(name, 0) + 1
        return name if self.names[name] == 1 else f"{name}{self.names[name]}"

    def spawn(self, name, argv, kind=Proc, **options):
        argv = [find_tool(argv[0]) or argv[0], *argv[1:]]
        proc = kind(self, self.unique(name), argv, **options)
        self.procs.append(proc)
        return proc

    def run(self, name, argv, want=0, timeout=None, **options):
        """Runs a program to its end and returns it; any other status than `want` fails the case."""
        proc = self.spawn(name, argv, **options)
        status = proc.wait(timeout or net.TIMEOUT * 2)
        if want is not None and status != want:
            raise Failure(f"{proc.name} ended with status {status}, expected {want}: {proc.last_words()}")
        return proc

    def service(self, name, argv, addr, **options):
        """Starts a service and waits until it accepts connections at addr."""
        proc = self.spawn(name, argv, **options)

        def accepting():
            if not proc.running():
                raise Failure(f"{name} ended with status {proc.popen.returncode}: {proc.last_words()}")
            try:
                net.connect(addr, timeout=5).close()
                return True
            except OSError:
                return False
        self.until(accepting, f"{name} at {net.format_addr(addr)}")
        return proc

    # Culvert

    def culvert_argv(self, *arguments):
        return [self.culvert, *map(str, arguments)]

    def start_culvert(self, name, kind, arguments, under=(), **options):
        """`under`: a program and its arguments that run culvert, such as prlimit."""
        proc = self.spawn(name, [*under, *self.culvert_argv(*arguments)], kind=kind, **options)
        proc.is_culvert = True
        return proc

    def server(self, *flags, addr=None, start_port=None, host="127.0.0.1", token=True, wait=True,
               workers=None, tls=True, **options):
        """A culvert server, listening. In a TLS mode with TLS, unless `tls` is false. Flags given twice: the later one, the case's, wins."""
        addr = addr or (host, self.port())
        start_port = start_port or self.ports(24)
        arguments = ["server", "--addr", net.format_addr(addr), "--start-port", start_port,
                     "--public-addr", host, "--workers", workers or self.mode.workers, "--log-level", "debug",
                     "--drain-timeout", "300ms", "--bulk", "splice"]
        if self.mode.tls and tls:
            arguments += self.server_tls()
        if token:
            arguments += ["--token", self.token if token is True else token]
        proc = self.start_culvert("server", Server, [*arguments, *flags], **options)
        proc.addr, proc.start_port, proc.host = addr, start_port, host
        if wait:
            proc.expect(r"^listening: \S+")
        return proc

    def client(self, server, *origins_and_flags, token=True, wire=None, wait=True, workers=None, name="client",
               tls=True, **options):
        """A culvert client for one or more origins ((host, port) or anything with .addr), then flags."""
        flags = [f for f in origins_and_flags if isinstance(f, (str, int, os.PathLike))]
        origins = [o for o in origins_and_flags if o not in flags]
        addr = getattr(server, "addr", server)
        arguments = ["client", "--server", net.format_addr(addr), "--wire", wire or self.mode.wire,
                     "--workers", workers or self.mode.workers, "--log-level", "debug",
                     "--reconnect-first", "50ms", "--reconnect-max", "200ms", "--drain-timeout", "300ms", "--bulk", "splice"]
        for origin in origins:
            arguments += ["--local", net.format_addr(getattr(origin, "addr", origin))]
        if self.mode.tls and tls:
            arguments += self.client_tls()
        elif not net.is_loopback(addr[0]) and not any(str(flag).startswith("--tls") for flag in flags):
            arguments += ["--plain"]
        if token:
            arguments += ["--token", self.token if token is True else token]
        proc = self.start_culvert(name, Client, [*arguments, *flags], **options)
        proc.origins = origins
        if wait:
            proc.read_ready(len(origins))
        return proc

    def tunnel(self, origin, *client_flags, server_flags=(), host="127.0.0.1"):
        """A server and a client before one origin; returns the public address. Direct mode: the origin's address."""
        if self.mode.direct:
            return getattr(origin, "addr", origin)
        self.tunnel_server = self.server(*server_flags, host=host)
        self.tunnel_client = self.client(self.tunnel_server, origin, *client_flags)
        return self.tunnel_client.addr

    def lanes_up(self, server):
        """Waits until the first client of `server` has all its lanes; by itself it is ready with the first."""
        if not self.mode.v1 and self.mode.workers > 1:
            server.expect("joined on worker", stream="err", count=self.mode.workers - 1)

    def origin(self, handler, host="127.0.0.1", port=0):
        """An origin in threads; errors of its handler fail the case."""
        return self.keep(net.Origin(handler, host, port))

    def keep(self, origin):
        self.origins.append(origin)
        return origin

    # The end

    def finish(self):
        """Stops everything; returns a list of what was wrong."""
        wrong = self.origin_errors()
        for proc in self.in_order_of_ending():
            if proc.is_culvert:
                wrong += self.judge(proc)
            elif proc.running():
                self.end_service(proc)
        for origin in self.origins:
            origin.close()
        return wrong + self.leaks() + net.Task.mistakes

    def in_order_of_ending(self):
        """Clients before servers, so that no client starts to dial again; services last."""
        return sorted(self.procs, key=lambda p: 0 if isinstance(p, Client) else 1 if p.is_culvert else 2)

    def origin_errors(self):
        """What went wrong in the origins' threads so far; what the end of the tunnel does to them afterwards does not count."""
        wrong = []
        for origin in self.origins:
            try:
                origin.check()
            except net.NetError as error:
                wrong.append(str(error))
        return wrong

    def judge(self, proc):
        """Ends one culvert process and says what was wrong with it."""
        wrong = []
        if proc.running():
            proc.send(signal.SIGTERM)
        try:
            status = proc.wait(30 * self.factor)
        except Failure:
            proc.send(signal.SIGABRT)
            proc.popen.wait()
            wrong.append(f"{proc.name} did not end after SIGTERM")
            status = None
        if status is not None and proc.want and status not in proc.want:
            wrong.append(f"{proc.name} ended with status {status}, expected {proc.want[0]}: {proc.last_words()}")
        if self.token in proc.err + proc.out:
            wrong.append(f"the token stands in the output of {proc.name}")
        trouble = TROUBLE.search(proc.err)
        if trouble:
            start = proc.err.rfind("\n", 0, trouble.start()) + 1
            wrong.insert(0, f"{proc.name}: {proc.err[start:start + 200].splitlines()[0]}")
        return wrong

    def end_service(self, proc):
        proc.send(signal.SIGTERM)
        try:
            proc.popen.wait(5)
        except subprocess.TimeoutExpired:
            proc.send(signal.SIGKILL)
            proc.popen.wait()

    def leaks(self):
        """Descendants that outlive the case; helpers of services get a moment to end."""
        try:
            net.poll_until(lambda: not descendants(os.getpid()), "children", timeout=5)
            return []
        except net.NetError:
            left = descendants(os.getpid())
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            return [f"leaked process: {line[:80]}" for line in left.values()]


def check(condition, text):
    """Fails the case with a text."""
    if not condition:
        raise Failure(text)


def check_equal(value, wanted, what):
    if value != wanted:
        raise Failure(f"{what}: {value!r}, expected {wanted!r}")


def enter_private_network(addresses=()):
    """Moves this process into a new network namespace with loopback up and more addresses on it."""
    clone_newuser, clone_newnet = 0x10000000, 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    if not find_tool("ip"):
        raise Skip("ip (iproute2) is not installed")
    if os.geteuid() == 0:
        failed = libc.unshare(clone_newnet)
    else:
        uid = os.geteuid()
        failed = libc.unshare(clone_newuser | clone_newnet)
        if not failed:
            pathlib.Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    if failed:
        raise Skip("no permission for a network namespace: " + os.strerror(ctypes.get_errno()))
    subprocess.run([find_tool("ip"), "link", "set", "lo", "up"], check=True)
    for address in addresses:
        subprocess.run([find_tool("ip"), "addr", "add", address, "dev", "lo"], check=True)


def small_disk(size):
    """A tmpfs of so many bytes, without a place in any mount namespace (fsopen(2), Linux 5.2), so that it can be had in a
    chroot, too, where the propagation of mounts cannot be changed. It is there as long as this process."""
    fsopen, fsconfig, fsmount = 430, 431, 432
    set_string, create = 1, 6
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number, *arguments):
        done = libc.syscall(number, *arguments)
        if done < 0:
            raise Skip("no permission to make a file system: " + os.strerror(ctypes.get_errno()))
        return done
    context = call(fsopen, b"tmpfs", 0)
    call(fsconfig, context, set_string, b"size", str(size).encode(), 0)
    call(fsconfig, context, create, None, None, 0)
    return pathlib.Path(f"/proc/{os.getpid()}/fd/{call(fsmount, context, 0, 0)}")


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        return True
    except OSError:
        return False
