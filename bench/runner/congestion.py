"""TCP's congestion control, which decides how bulk on loopback looks: BBR's pacing hides what a
copy costs, cubic shows it. Bulk rows run under each that was asked for, all others under the
machine's.

The setting belongs to a network namespace, so the runner enters one of its own (root) and sets it
there; nobody else on the machine sees it. Sockets take it when they are made or accepted, so what
is started afterwards has it. Where there is no such namespace nothing is set: bulk rows run under
the control that is in force, and the others are reported as not measured.
"""

import ctypes
import fcntl
import os
import socket
import struct

SETTING = "/proc/sys/net/ipv4/tcp_congestion_control"
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
_libc = ctypes.CDLL(None, use_errno=True)


class Control:
    """Which controls bulk is measured under, and which it cannot be: `names`, `absent` by name."""

    def __init__(self, wanted, setting=SETTING, enter=None):
        self.setting = setting
        self.default = self.now = self._read()
        self.names = []
        self.absent = {}
        refused = (enter or enter_network)()
        self.own = refused is None
        for name in wanted:
            reason = refused if name != self.default else None
            if self.own:
                reason = self._try(name)
            if reason:
                self.absent[name] = reason
            else:
                self.names.append(name)
        self.use(self.default)
        if not self.names:
            self.names = [self.default]  # better than no bulk at all; the tables say which

    def use(self, name):
        """From now on, for what is started."""
        if name != self.now:
            self._write(name)
            self.now = name

    def of(self, row):
        """The controls that a row runs under; None stands for one that is none of ours."""
        if not row.on_this_kernel:
            return [None]
        return self.names if row.bulk else [self.default]

    def _try(self, name):
        try:
            self.use(name)
        except OSError as error:
            return (
                f"the kernel has no {name} for a namespace ({error.strerror}); "
                "see net.ipv4.tcp_allowed_congestion_control"
            )
        return None

    def _read(self):
        with open(self.setting) as text:
            return text.read().strip()

    def _write(self, name):
        with open(self.setting, "w") as out:
            out.write(name)
        if self._read() != name:
            raise OSError(0, f"{self._read()} stays in force")


def enter_network():
    """Takes this process into a network of its own with loopback; the reason why not, or None."""
    if os.geteuid() != 0:
        return "only root can set it without setting it for everybody"
    if not os.access(SETTING, os.W_OK):
        return f"{SETTING} cannot be written here"
    if _libc.unshare(CLONE_NEWNET) != 0:
        return f"no network namespace: {os.strerror(ctypes.get_errno())}"
    _loopback_up()
    return None


def _loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        ask = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("16xh", fcntl.ioctl(control, SIOCGIFFLAGS, ask))
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
