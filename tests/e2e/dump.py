"""dump: what a core dump of a process contains, and a search in it for secrets in every shape that
a library may give them.

A core is the kernel's own, of a process that gets SIGABRT: only the kernel obeys MADV_DONTDUMP,
puts the registers of all threads into the notes, and stops threads wherever they are. Where the
system pipes cores to a program (core_pattern), the same pages are read from /proc/PID/mem of the
stopped process instead, by the same rules, but without registers.

A secret is looked for in pieces of 8 bytes, because the part of one that a register or a dead
stack frame holds is a leak, too.
"""
import hashlib
import hmac
import os
import pathlib
import re
import resource
import signal
import struct
import subprocess

import net

PIECE = 8
CORE_PATTERN = pathlib.Path("/proc/sys/kernel/core_pattern")
PT_LOAD = 1


# What a secret may look like

def swapped(data, size):
    """Words of `size` bytes with the other byte order, as hashes load them; what is left over at
    the end stays away."""
    return b"".join(data[i:i + size][::-1] for i in range(0, len(data) - size + 1, size))


def raw(secret):
    return {"bytes": secret}


def number(secret):
    """An integer in big endian: as it stands in files, and in the limbs of a bignum, the least
    first."""
    return {"bytes": secret, "limbs": secret[::-1]}


def mac_key(secret):
    """A key of HMAC: also xored with the pads of RFC 2104, as it is hashed, and in the words
    that SHA-2 loads."""
    forms = {"bytes": secret}
    for name, pad in (("inner", 0x36), ("outer", 0x5c)):
        padded = bytes(byte ^ pad for byte in secret)
        forms |= {f"{name} pad": padded, f"{name} pad, words": swapped(padded, 4), f"{name} pad, long words": swapped(padded, 8)}
    return forms


def cipher_key(secret):
    """ChaCha20's code for many blocks at a time keeps a word several times over, one for each
    block."""
    forms = {"bytes": secret}
    return forms | {f"word {i}": secret[4 * i:4 * i + 4] * 4 for i in range(len(secret) // 4)}


def pieces(form):
    """Of so many bytes, and the last of them; what is shorter stands for itself."""
    if len(form) <= PIECE:
        return [form]
    return [form[i:i + PIECE] for i in range(0, len(form) - PIECE + 1, PIECE)] + [form[-PIECE:]]


class Secret:
    """`forms`: {what it is called: bytes}. registers: those may not have it either."""

    def __init__(self, name, forms, registers=True):
        self.name, self.forms, self.registers = name, forms, registers


class Search:
    """For many secrets at once: one look at each place of the memory, in a table of how their
    pieces begin."""

    KEY = 8

    def __init__(self, known):
        self.table = {}
        for secret in known:
            for form, data in secret.forms.items():
                for piece in pieces(data):
                    self.table.setdefault(piece[:self.KEY], []).append((piece, secret, form))

    def sights(self, memory):
        """{(secret, form): address of the first sight}."""
        found = {}
        for address, data in memory.pages():
            notes = memory.is_note(address)
            for at in range(len(data) - self.KEY + 1):
                for piece, secret, form in self.table.get(data[at:at + self.KEY], ()):
                    if data.startswith(piece, at) and (secret.registers or not notes):
                        found.setdefault((secret, form), address + at)
        return found


# What the file of a key begins with: it says the kind of key, as every certificate of the kind
# does.
KEY_HEAD = re.compile("MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"  # EC, P-256
                      "|MC4CAQAwBQYDK2VwBCIEI"  # Ed25519
                      "|MII.{9}BgkqhkiG9w0BAQEFAASC.{18}")  # RSA, up to the modulus


def key_secrets(name, path):
    """All that a private key's file holds: its numbers as openssl reads them, and the lines of
    the file but for the head."""
    text = subprocess.run(["openssl", "pkey", "-in", path, "-noout", "-text"], check=True, capture_output=True).stdout.decode()
    found = []
    for label, digits in re.findall(r"^(\w+):\n((?: +[0-9a-f:]+\n)+)", text, re.M):
        if label in ("pub", "modulus"):
            continue
        value = bytes.fromhex(re.sub(r"[\s:]", "", digits)).lstrip(b"\0")
        found.append(Secret(f"{name}, {label}", number(value)))
    lines = path.read_text().splitlines()[1:-1]
    lines[0], heads = KEY_HEAD.subn("", lines[0])
    assert heads == 1, f"{path} begins like no key that is known"
    return found + [Secret(f"{name}, file", {f"line {i + 1}": line.encode() for i, line in enumerate(lines)})]


# TLS

def expand_label(secret, label, size):
    """HKDF-Expand-Label of RFC 8446, 7.1, without context and up to one block."""
    label = b"tls13 " + label
    info = struct.pack(">HB", size, len(label)) + label + b"\0"
    return hmac.new(secret, info + b"\1", hashlib.sha384 if len(secret) == 48 else hashlib.sha256).digest()[:size]


def derived(name, secret):
    """A traffic secret and what is made of it."""
    found = [Secret(name, mac_key(secret)), Secret(f"{name}, finished", mac_key(expand_label(secret, b"finished", len(secret)))),
             Secret(f"{name}, iv", raw(expand_label(secret, b"iv", 12)))]
    for size in (32,) if len(secret) == 48 else (16, 32):
        found.append(Secret(f"{name}, key of {size} bytes", cipher_key(expand_label(secret, b"key", size))))
    return found


def keylog_secrets(text):
    """Of each handshake in lines of SSLKEYLOGFILE; both ends of one write the same."""
    found = []
    for line in sorted(set(text.splitlines())):
        label, random, secret = line.split()
        secret = bytes.fromhex(secret)
        what = f"{label} of {random[:8]}"
        found += derived(what, secret) if "TRAFFIC" in label else [Secret(what, mac_key(secret))]
    return found


# Memory

class Memory:
    """Ranges of bytes with their addresses."""

    PAGE = 4096

    def __init__(self, ranges, notes=()):
        self.ranges, self.notes = ranges, notes

    def is_note(self, address):
        return any(start <= address < end for start, end in self.notes)

    def find(self, needle):
        return any(needle in data for _, data in self.ranges)

    def pages(self):
        """Overlapping parts, of which each place of a piece is in one; not those of zeros."""
        for address, data in self.ranges:
            for at in range(0, len(data), self.PAGE):
                part = data[at:at + self.PAGE + PIECE - 1]
                if part.count(0) < len(part):
                    yield address + at, part


def data_of(file, start, size):
    """[(offset, bytes)] of what is no hole in a part of a file. Tables that were never touched
    are holes of gigabytes."""
    at, end, found = start, start + size, []
    while at < end:
        try:
            at = os.lseek(file.fileno(), at, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but holes is left
            break
        if at < end:
            hole = min(os.lseek(file.fileno(), at, os.SEEK_HOLE), end)
            found.append((at, os.pread(file.fileno(), hole - at, at)))
            at = hole
    return found


def segments(file):
    """[(type, offset, address, size)] of an ELF file's program headers. A core of more than
    65,534 of them is not expected here."""
    head = os.pread(file.fileno(), 1 << 20, 0)
    at, = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    found = []
    for i in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", head, at + i * size)
        found.append((kind, offset, address, length))
    return found


def read_core(path):
    """A core file: its notes, which have the registers, at their offset in the file, and its
    pages at their addresses."""
    with open(path, "rb") as file:
        found = segments(file)
        return Memory([(address + offset - start if kind == PT_LOAD else offset, data)
                       for kind, start, address, size in found for offset, data in data_of(file, start, size)],
                      [(start, start + size) for kind, start, _, size in found if kind != PT_LOAD])


class Mapping:
    """One of /proc/PID/smaps."""

    def __init__(self, head, text):
        match = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+ *(.*)", head)
        self.start, self.end = int(match[1], 16), int(match[2], 16)
        self.rights, self.name = match[3], match[4]
        self.flags = set(re.search(r"^VmFlags:(.*)$", text, re.M)[1].split())
        self.resident, self.locked = (int(re.search(rf"^{name}: +(\d+) kB", text, re.M)[1]) for name in ("Rss", "Locked"))

    def __repr__(self):
        return f"{self.start:x}-{self.end:x} {self.rights} {self.name} [{' '.join(sorted(self.flags))}]"


def mappings(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps").read_text()
    parts = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.M)[1:]
    return [Mapping(part, part) for part in parts]


def read_mapping(pid, mapping):
    """The resident pages of a private, writable mapping."""
    ranges, page = [], os.sysconf("SC_PAGE_SIZE")
    count = (mapping.end - mapping.start) // page
    with open(f"/proc/{pid}/pagemap", "rb") as pagemap, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        pagemap.seek(mapping.start // page * 8)
        there = struct.unpack(f"<{count}Q", pagemap.read(8 * count))
        at = 0
        while at < count:
            first = at
            while at < count and there[at] >> 62:  # present or swapped
                at += 1
            if at > first:
                mem.seek(mapping.start + first * page)
                ranges.append((mapping.start + first * page, mem.read((at - first) * page)))
            at += 1
    return ranges


def live(pid, wanted):
    """The writable memory of a process in the mappings that `wanted` says."""
    ranges = []
    for mapping in mappings(pid):
        if "rw" in mapping.rights and not {"io", "pf"} & mapping.flags and wanted(mapping):
            ranges += read_mapping(pid, mapping)
    return Memory(ranges)


# Taking a core

def kernel_writes_files():
    pattern = CORE_PATTERN.read_text().strip()
    return pattern != "" and "|" not in pattern and "/" not in pattern


def prepare(proc):
    """Lets a process that runs in a directory of its own leave a core there."""
    _, hard = resource.prlimit(proc.pid, resource.RLIMIT_CORE)
    resource.prlimit(proc.pid, resource.RLIMIT_CORE, (hard, hard))
    return hard != 0 and kernel_writes_files()


def take(procs):
    """The cores of processes, all taken at one moment; {process: Memory}. They end by it. Each
    has a directory of its own, `cores`, to run in."""
    by_kernel = all([prepare(proc) for proc in procs])
    if not by_kernel:
        for proc in procs:
            proc.send(signal.SIGSTOP)
        dumps = {proc: live(proc.pid, lambda mapping: "dd" not in mapping.flags) for proc in procs}
    for proc in procs:
        proc.want = (-signal.SIGABRT,)
        proc.send(signal.SIGABRT)
        proc.send(signal.SIGCONT)
    for proc in procs:
        proc.wait()
    if by_kernel:
        dumps = {proc: read_core(next(proc.cores.iterdir())) for proc in procs}
    for proc in procs:
        for path in proc.cores.iterdir():
            path.unlink()
    return dumps, "kernel's cores" if by_kernel else "memory as the kernel would dump it: it gives its cores to a program here"
