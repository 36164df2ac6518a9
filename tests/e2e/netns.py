"""netns: a real network between server and client, that can be made to fail.

Two network namespaces and a veth pair between them. `near` is where the case's own process lives from then on: the server and the visitors.
`far` belongs to a process that sleeps: the client and the origins. Only the lanes take the path. Nothing is left behind, since neither namespace has a name and the pair goes
with them.

What fails, fails as in real life: a packet that is dropped where it would come in is lost without a word at the one who sent it (a drop at the output would be told to
its sender), `ss -K` ends a connection at one end at once and at the other by RST, a link that is down takes its routes with it, and an address that is gone takes the
connections with it that were made from it.
"""
import contextlib
import ctypes
import os
import re
import subprocess
import time

import net
from harness import Skip, enter_private_network, find_tool

SERVER, CLIENT, ROAMED = "192.0.2.1", "192.0.2.2", "192.0.2.3"
PATH = "path0"
NEEDS = ["ip", "nft", "ss", "unshare", "nsenter"]
CLONE_NEWNET = 0x40000000
DROP = f"""table inet fault {{
    chain in {{
        type filter hook input priority 0
        iifname "{PATH}" WHICH drop
    }}
}}
"""


class Network:
    """For a case that has started nothing yet: it moves its process."""

    def __init__(self, t):
        enter_private_network()
        self.t = t
        self.holder = t.spawn("far", ["unshare", "--net", "sleep", "infinity"])
        self.near = os.open("/proc/self/ns/net", os.O_RDONLY)
        t.until(self.far_is_there, "the second network namespace")
        self.far = os.open(f"/proc/{self.holder.pid}/ns/net", os.O_RDONLY)
        self.under = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        self.dropping = set()
        self.address = CLIENT
        self.ip(False, "link", "add", PATH, "type", "veth", "peer", "name", PATH, "netns", str(self.holder.pid))
        for far, address in ((False, SERVER), (True, CLIENT)):
            self.ip(far, "addr", "add", address + "/24", "dev", PATH)
            self.ip(far, "link", "set", PATH, "up")
            self.ip(far, "link", "set", "lo", "up")
        self.try_faults()

    def far_is_there(self):
        if not self.holder.running():
            raise Skip("no permission for a second network namespace")
        return os.readlink(f"/proc/{self.holder.pid}/ns/net") != os.readlink("/proc/self/ns/net")

    def try_faults(self):
        """A kernel without nf_tables or INET_DIAG_DESTROY is a reason to skip, not to fail."""
        sock = net.listen(SERVER)
        with self.in_far():
            conn = net.connect(sock.getsockname())
        for what, argv in (("nftables", ["nft", "list", "ruleset"]), ("ss -K", ["ss", "-K", "-tn", "dst", CLIENT])):
            done = self.run(False, *argv)
            if done.returncode:
                raise Skip(f"{what} does not work here: {done.stderr.strip()[:80]}")
        if net.end_of(conn, 5) == "timeout":
            raise Skip("ss -K does not work here (INET_DIAG_DESTROY)")

    def run(self, far, tool, *arguments, **options):
        argv = [*(self.under if far else []), find_tool(tool), *arguments]
        argv[0] = find_tool(argv[0])
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=net.TIMEOUT, **options)

    def ip(self, far, *arguments):
        self.must(self.run(far, "ip", *arguments))

    @staticmethod
    def must(done):
        if done.returncode:
            raise net.NetError(f"{' '.join(done.args)}: {done.stderr.strip()}")

    @contextlib.contextmanager
    def in_far(self):
        """This thread's sockets are made in the far namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        net_of = lambda fd: libc.setns(fd, CLONE_NEWNET)
        if net_of(self.far):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            if net_of(self.near):
                raise OSError(ctypes.get_errno(), "setns")

    # Who lives there

    def server(self, *flags, **options):
        return self.t.server(*flags, host=SERVER, **options)

    def origin(self, handler):
        with self.in_far():
            return self.t.origin(handler)

    def client(self, server, *origins_and_flags, under=(), **options):
        return self.t.client(server, *origins_and_flags, under=[*self.under, *under], **options)

    # What happens to the path

    def hole(self, far=True, near=True, percent=100):
        """Packets are lost that arrive at the far side, at the near side; where some are lost already, nothing changes."""
        which = "" if percent == 100 else f"numgen random mod 100 < {percent}"
        for side, wanted in ((True, far), (False, near)):
            if wanted and side not in self.dropping:
                self.must(self.run(side, "nft", "-f", "-", input=DROP.replace("WHICH", which)))
                self.dropping.add(side)

    def single_segments(self):
        """For `narrow`, before there are connections: what travels is one segment, and TCP looks for their length when it must."""
        for far in (False, True):
            self.ip(far, "link", "set", PATH, "gso_max_segs", "1")
            done = self.run(far, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/tcp_mtu_probing")
            if done.returncode:
                raise Skip(f"no tcp_mtu_probing here: {done.stderr.strip()[:80]}")

    def narrow(self, longest=1280):
        """Packets that are longer are lost without a word, both ways: an MTU in the middle, and no ICMP."""
        for side in (False, True):
            self.must(self.run(side, "nft", "-f", "-", input=DROP.replace("WHICH", f"meta length > {longest}")))
            self.dropping.add(side)

    def silence(self, far, *addresses):
        """Nobody answers who connects to these addresses, from now on at no others."""
        rules = "".join(f"ip daddr {address} tcp flags & (syn|ack) == syn drop; " for address in addresses)
        self.must(self.run(far, "nft", "-f", "-", input=f"""table inet silent {{}}
delete table inet silent
table inet silent {{ chain in {{ type filter hook input priority 0; {rules} }}; }}
"""))

    def named(self, addresses_of):
        """`under` for a program that knows these names: {name: addresses}. name_again() changes them."""
        self.hosts = self.t.write("hosts", "")
        self.name_again(addresses_of)
        return ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(self.hosts)]

    def name_again(self, addresses_of):
        self.hosts.write_text("".join(f"{address} {name}\n" for name, addresses in addresses_of.items() for address in addresses))

    def heal(self):
        """Nothing is lost any more; returns when (monotonic) the path was there again, at the earliest."""
        since = time.monotonic()
        for side in list(self.dropping):
            since = time.monotonic()
            self.must(self.run(side, "nft", "delete", "table", "inet", "fault"))
            self.dropping.remove(side)
        return since

    def link(self, far, up):
        self.ip(far, "link", "set", PATH, "up" if up else "down")

    def lanes(self):
        """The established connections of the path, by the client's port."""
        out = self.run(True, "ss", "-Htn", "state", "established", "dst", SERVER).stdout
        return [int(port) for port in re.findall(rf"\d\.\d+:(\d+)\s+{re.escape(SERVER)}:\d+", out)]

    def kill(self, port, far):
        """Ends one of them: at the far side at once, at the near side by RST; or the other way round."""
        which = ["sport" if far else "dport", "=", f":{port}"]  # a visitor's or an origin's connection may have the same port
        self.run(far, "ss", "-K", "-tn", "state", "established", *which, "and", "dst", SERVER if far else self.address)

    def roam(self):
        """The client's address is gone, and there is another one."""
        old, self.address = self.address, ROAMED if self.address == CLIENT else CLIENT
        self.ip(True, "addr", "del", old + "/24", "dev", PATH)
        self.ip(True, "addr", "add", self.address + "/24", "dev", PATH)
