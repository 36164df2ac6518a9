"""world: the machines of a document, each with a network, a file system and processes of its own.

    client --- server --- visitor        here

Every machine is a mount, network and process namespace. /etc and /var/lib are its own: what the
real one has stands there by symbolic link, but for what is ours. So names lead where the documents
say, state begins empty, `pkill culvert` finds the machine's own, and whatever a command does to
them is gone at the end. `here` is nobody's neighbour, and its folder has what the repository has.

enter() has to be called first: it starts the program again in namespaces in which it may do this.
Nothing of it needs root where users may have namespaces.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

DEADLINE = 60  # seconds for what takes milliseconds, on a machine that has other work
ADDRESSES = {"server": "192.0.2.1", "client": "192.0.2.2", "visitor": "192.0.2.3"}
NAMES = {"server": ["tunnel.example.org", "tunnel.example.com", "example.com"]}
NEEDED = ["ip", "mount", "nsenter", "unshare"]
INSIDE = "CULVERT_DOCS_INSIDE"

# A machine's first process. $1: its folder, $2: names of ours that are not taken over.
MACHINE = r"""
set -e
own() {
    mkdir -p "$1/was$2" "$1/own$2"
    mount --rbind "$2" "$1/was$2"
    ln -s "$1/was$2"/* "$1/own$2/"
    rm -f "$1/own$2/culvert" "$1/own$2/hosts" "$1/own$2/machine-id"
    mount --bind "$1/own$2" "$2"
}
own "$1" /etc
own "$1" /var/lib
cp "$1/hosts" /etc/hosts
basename "$1" | md5sum | cut -c 1-32 >/etc/machine-id
ip link set lo up
echo there
exec sleep infinity
"""

# There is no way from one machine's disk to another's but this: what a reader does with scp.
SCP = r"""#!/bin/sh
# scp HOST:FILE... FOLDER: from the home folder or /etc of the machine that has the name.
for last; do :; done
while [ $# -gt 1 ]; do
    host=$(awk -v name="${1%%:*}" '{ for (i = 3; i <= NF; i++) if ($i == name) print $2 }' \
        /etc/hosts)
    file=${1#*:}
    case $file in
    /*) file=$WORLD/$host/own$file ;;
    *) file=$WORLD/$host/home/$file ;;
    esac
    cp "$file" "$last" || exit
    shift
done
"""


class Failed(Exception):
    """What went wrong, and the end of what was said."""
    def __init__(self, what, said=""):
        super().__init__(f"{what}; it said:\n{said[-2000:]}" if said else what)


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def ways_in():
    """Command lines that give a program mount and network namespaces, the best first."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    begin = ["unshare", *user, "--mount", "--net"]
    yield [*begin, "--propagation", "private"]
    yield [*begin, "--propagation", "slave"]
    # In a root that is no mount point nothing can be changed; it must not reach others, then.
    if user or "shared:" not in pathlib.Path("/proc/self/mountinfo").read_text():
        yield [*begin, "--propagation", "unchanged"]


def enter():
    """Returns when this program runs in namespaces of its own; does not return otherwise."""
    if os.environ.get(INSIDE):
        return
    for name in NEEDED:
        if not shutil.which(name):
            skip(f"{name} is not installed (tools/setup --test)")
    said = ""
    for way in ways_in():
        done = subprocess.run([*way, "unshare", "--mount", "--net", "--propagation", "unchanged",
                               "--pid", "--fork", "--mount-proc", "true"],
                              capture_output=True, text=True, check=False)
        if done.returncode == 0:
            os.environ[INSIDE] = "1"
            os.execvp(way[0], [*way, sys.executable, *sys.argv])
        said = done.stderr.strip()
    skip(f"no namespaces here: {said}")


class Running:
    """A command, and what it has said on standard output and error."""

    def __init__(self, machine, text, argv):
        self.machine, self.text, self.said = machine, text, ""
        self.more = threading.Condition()
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, errors="replace")
        self.over = False
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.more:
                self.said += line
                self.more.notify_all()
        self.process.wait()
        with self.more:
            self.over = True
            self.more.notify_all()

    def find(self, pattern):
        return re.search(pattern, self.said, re.M)

    def expect(self, pattern):
        """Waits for a line like this, wherever it is."""
        with self.more:
            self.more.wait_for(lambda: self.find(pattern) or self.over, DEADLINE)
            if found := self.find(pattern):
                return found
            why = "it has ended" if self.over else f"not in {DEADLINE} s"
        raise Failed(f"it did not say: {pattern}\n({why})", self.said)

    def finish(self):
        """Waits for the end; returns the exit status."""
        with self.more:
            if not self.more.wait_for(lambda: self.over, DEADLINE):
                raise Failed("it does not end", self.said)
        return self.process.returncode

    def interrupt(self, number=signal.SIGINT):
        """Ctrl+C, and what becomes of it. Shells around the program do not hear it."""
        pid = self.process.pid
        while (children := pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()) \
                and pathlib.Path(f"/proc/{pid}/comm").read_text().strip() in ("nsenter", "bash"):
            pid = int(children[0])
        os.kill(pid, number)
        return self.finish()


class Machine:
    def __init__(self, world, name, entries=()):
        self.world, self.name = world, name
        self.folder = world.folder / name
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        (self.folder / "hosts").write_text(world.hosts())
        for entry in entries:
            (self.home / entry.name).symlink_to(entry)
        self.first = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "unchanged", "--net", "--pid", "--fork",
             "--kill-child", "--mount-proc", "sh", "-c", MACHINE, "sh", str(self.folder)],
            stdout=subprocess.PIPE, text=True)
        if self.first.stdout.readline() != "there\n":
            raise Failed(f"machine {name} does not start")
        children = pathlib.Path(f"/proc/{self.first.pid}/task/{self.first.pid}/children")
        self.pid = int(children.read_text().split()[0])
        self.started = []

    def start(self, text):
        path = f"{self.world.folder}/bin:{os.environ['PATH']}:/usr/sbin:/sbin"
        env = [f"HOME={self.home}", f"PATH={path}", f"WORLD={self.world.folder}", "LC_ALL=C.UTF-8",
               "PYTHONUNBUFFERED=1", "TERM=dumb"]
        self.started.append(Running(self.name, text, [
            # -r: setns(2) leads to the root of the mount namespace, out of a chroot
            "nsenter", "-t", str(self.pid), "-r", "-w", "-m", "-n", "-p", "env", "-i", *env,
            "bash", "-c", 'cd "$0" && exec bash -c "$1"', str(self.home), text]))
        return self.started[-1]

    def end_all(self):
        """Whatever still runs after something went wrong."""
        for running in self.started:
            if not running.over:
                running.interrupt(signal.SIGKILL)
        self.started = []

    def run(self, text):
        """A command that has to succeed."""
        running = self.start(text)
        if running.finish() != 0:
            raise Failed(f"exit status {running.process.returncode}", running.said)
        return running


class World:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="culvert-docs-"))
        self.machines = {}
        # In memory: nothing of it is left, and no real folder can be emptied by mistake.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self.folder], check=True)

    def begin(self, culvert, source, build):
        programs = self.folder / "bin"
        programs.mkdir()
        (programs / "culvert").symlink_to(culvert)
        (programs / "scp").write_text(SCP)
        (programs / "scp").chmod(0o755)
        entries = [path for path in source.iterdir() if not path.name.startswith((".", "build"))]
        for name in ADDRESSES:
            self.machines[name] = Machine(self, name)
        self.machines["here"] = Machine(self, "here", entries)
        (self.machines["here"].home / "build").symlink_to(build)
        for name in ("client", "visitor"):
            self.cable(name)

    def cable(self, name):
        """From the server to another machine; either end has one address, and knows the other's."""
        ends = [("server", name), (name, "server")]
        pids = [self.machines[one].pid for one, _ in ends]
        subprocess.run(["ip", "link", "add", f"to-{name}", "netns", str(pids[0]), "type", "veth",
                        "peer", "name", "to-server", "netns", str(pids[1])], check=True)
        for one, other in ends:
            self.machines[one].run(f"ip addr add {ADDRESSES[one]} peer {ADDRESSES[other]} "
                                   f"dev to-{other} && ip link set to-{other} up")

    @staticmethod
    def hosts():
        lines = ["127.0.0.1 here localhost", "::1 here localhost"]
        lines += [" ".join([address, name, *NAMES.get(name, [])])
                  for name, address in ADDRESSES.items()]
        return "\n".join(lines) + "\n"

    def close(self):
        for machine in self.machines.values():
            machine.first.kill()
            machine.first.wait()
            machine.first.stdout.close()
        subprocess.run(["umount", "--lazy", self.folder], check=True)
        self.folder.rmdir()


@contextlib.contextmanager
def a_world(culvert, source, build):
    world = World()
    try:
        world.begin(culvert, source, build)
        yield world
    finally:
        world.close()
