"""Processes that a run starts: it owns them, and all of them are gone when it ends.

Every process gets its own session, so that one kill takes its children too, and a death signal, so
that the kernel ends it if the runner itself is killed outright. CPU time and memory are read from
/proc for a process and all its descendants (nginx workers, sshd's children).
"""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_started = []
_priority = False
PRIORITY = -15


class StartError(Exception):
    """A contestant or tool that did not come up; the text says which and why."""


def set_priority(on):
    """Whether processes started from now on go before those of others on this machine."""
    global _priority
    _priority = on


def _raise_priority():
    """Nice counts only within a session where the kernel groups by session: set the group's too."""
    os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    try:
        with open("/proc/self/autogroup", "w") as group:
            group.write(str(PRIORITY))
    except OSError:
        pass  # a kernel without such groups


def _in_child(cpus):
    def prepare():
        os.setsid()
        if _priority:
            _raise_priority()
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if cpus:
            os.sched_setaffinity(0, cpus)

    return prepare


class Process:
    """One started program; stdout and stderr go to a file in the run's directory."""

    def __init__(self, argv, log, cpus=None, stdin=None, stdout=None, env=None):
        self.argv = [str(part) for part in argv]
        self.log = log
        with open(log, "ab") as sink:
            self.popen = subprocess.Popen(
                self.argv,
                stdin=stdin or subprocess.DEVNULL,
                stdout=stdout or sink,
                stderr=sink,
                preexec_fn=_in_child(cpus),
                env=env,
            )
        self.pid = self.popen.pid
        _started.append(self)

    def alive(self):
        return self.popen.poll() is None

    def tail(self, lines=3):
        try:
            with open(self.log, errors="replace") as text:
                return " / ".join(line.strip() for line in text.readlines()[-lines:])
        except OSError:
            return ""

    def stop(self, grace=0.0):
        """Ends the process and its session; with a grace, SIGTERM first."""
        if grace > 0 and self.alive():
            self.popen.terminate()
            try:
                self.popen.wait(grace)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe:
                pipe.close()
        if self in _started:
            _started.remove(self)


def start_busy(count, log):
    """Loops that do nothing but take a core, to be beside what is measured; each its own session,
    as a neighbour's program is, and never before others."""
    set_before, loops = _priority, []
    set_priority(False)
    try:
        for _ in range(count):
            loops.append(Process(["/bin/sh", "-c", "while :; do :; done"], log))
    finally:
        set_priority(set_before)
    return loops


def stop_all():
    """Ends whatever is still running, newest first."""
    for process in reversed(list(_started)):
        process.stop()


def run_tool(argv, timeout, cpus=None):
    """Runs a measuring tool to its end and returns its stdout; StartError when it fails."""
    argv = [str(part) for part in argv]
    tool = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_in_child(cpus),
    )
    try:
        out, err = tool.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise StartError(f"{argv[0]} did not end within {timeout:.0f} s") from None
    finally:
        if tool.poll() is None:
            os.killpg(tool.pid, signal.SIGKILL)
            tool.communicate()
    if tool.returncode != 0:
        text = (err.strip() or out.strip()).splitlines()
        raise StartError(f"{os.path.basename(argv[0])}: {text[-1] if text else tool.returncode}")
    return out


def number_list(text):
    """'1,3,14-17' -> [1, 3, 14, 15, 16, 17]; ValueError when it is no such list."""
    numbers = []
    for item in text.split(","):
        low, dash, high = item.partition("-")
        span = range(int(low), (int(high) if dash else int(low)) + 1)
        if not span:
            raise ValueError(f"'{item}' runs backwards")
        numbers += span
    return numbers


# ---- ports ----

_next_port = 20000 + os.getpid() * 37 % 11000  # two runs at once start apart


def free_port(count=1):
    """The first of `count` neighbouring ports that can be bound; below the ephemeral ones."""
    global _next_port
    while True:
        first = _next_port
        _next_port += count
        if _next_port > 32000:
            _next_port = 20000
        if all(_bindable(port) for port in range(first, first + count)):
            return first


def _bindable(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def is_listening(port):
    """From /proc/net, without a connection that an origin or a tunnel would have to deal with."""
    wanted = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as lines:
                next(lines)
                for line in lines:
                    fields = line.split(None, 4)
                    if fields[3] != "0A":  # listeners come first
                        break
                    if fields[1].endswith(wanted):
                        return True
        except OSError:
            continue
    return False


def visitors_of(port):
    """How many connections to this port are established, by the side that asked for them: the
    other side's may be among those of IPv6."""
    wanted, count = f":{port:04X}", 0
    with open("/proc/net/tcp") as lines:
        for line in lines:
            fields = line.split(None, 4)
            count += fields[3] == "01" and fields[2].endswith(wanted)
    return count


def wait_visitors(port, count, processes, timeout=10.0):
    wait_until(
        lambda: visitors_of(port) >= count, processes, f"see {count} visitors at {port}", timeout
    )


def wait_listening(port, processes, timeout=10.0):
    """Until somebody listens on the port; StartError when a process dies first or time runs out."""
    wait_until(lambda: is_listening(port), processes, f"open port {port}", timeout)


def wait_echo(port, processes, timeout):
    """Until a byte comes back through 127.0.0.1:port from bench/origin."""
    wait_until(lambda: _echoes(port), processes, f"carry a byte over port {port}", timeout)


def _echoes(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as probe:
            probe.settimeout(1)
            probe.sendall(b"e")
            return probe.recv(1) == b"e"
    except OSError:
        return False


def wait_until(ready, processes, what, timeout):
    deadline = time.monotonic() + timeout
    while not ready():
        for process in processes:
            if not process.alive():
                name = os.path.basename(process.argv[0])
                raise StartError(f"{name} ended: {process.tail() or 'without a word'}")
        if time.monotonic() > deadline:
            raise StartError(
                f"{os.path.basename(processes[-1].argv[0])} did not {what}: "
                f"{processes[-1].tail()}"
            )
        time.sleep(0.005)


# ---- accounts from /proc ----


def _tree(roots):
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = _stat(int(name))
            if stat:
                children.setdefault(int(stat[1]), []).append(int(name))
    found, queue = [], list(roots)
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue.extend(children.get(pid, []))
    return found


def _stat(pid):
    """Fields of /proc/PID/stat from the state on, or None."""
    try:
        with open(f"/proc/{pid}/stat") as text:
            return text.read().rsplit(")", 1)[1].split()
    except OSError:
        return None


def pids_of(processes):
    return _tree([process.pid for process in processes])


def cpu_seconds(pids):
    """User and system time, children that have ended included."""
    ticks = 0
    for pid in pids:
        stat = _stat(pid)
        if stat:
            ticks += sum(int(field) for field in stat[11:15])
    return ticks / TICKS


def _status_kib(pid, key):
    try:
        with open(f"/proc/{pid}/status") as text:
            for line in text:
                if line.startswith(key + ":"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def peak_mib(pids):
    """Sum of the highest resident sizes."""
    return sum(_status_kib(pid, "VmHWM") for pid in pids) / 1024


def resident_mib(pids):
    return sum(_status_kib(pid, "VmRSS") for pid in pids) / 1024


def pss_bytes(pids):
    """Proportional set size: what the processes hold, shared pages split among their users."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as text:
                for line in text:
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
        except OSError:
            pass
    return total


def wakeups(pids):
    """Voluntary context switches by thread: each one is a sleep that was ended."""
    counts = {}
    for pid in pids:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            counts[thread] = _status_kib(f"{pid}/task/{thread}", "voluntary_ctxt_switches")
    return counts


def wakeups_since(before, pids):
    """Those since an earlier wakeups(); threads that ended meanwhile are not counted."""
    now = wakeups(pids)
    return sum(count - before.get(thread, 0) for thread, count in now.items())


def open_files_limit():
    """The hard limit, raised first where that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, 1 << 18), max(hard, 1 << 18)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def plain_flag(culvert):
    """What asks for lanes in clear; builds before 0.1.0 had nothing else, and no such flag."""
    said = subprocess.run([culvert, "help", "server"], capture_output=True, text=True, check=False)
    return ["--plain"] if "--plain" in said.stdout + said.stderr else []
