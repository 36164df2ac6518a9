"""secrets: where secrets lie in a running server and client, and that no core dump has one."""
import fcntl
import os
import pathlib
import re
import secrets
import shutil
import signal
import struct
import subprocess
import termios

import certs
import dump
import net
import v2wire
from harness import Skip, case, check, check_equal
from proofs import Keys
from proxy import Proxy

GRACE = ["--grace", "60s"]
SAID = b"what a visitor said to an origin, 1234567890"
HOLDER = ["dd", f"bs={1 << 20}", "iflag=fullblock", "status=none"]  # keeps what it has read until the buffer is full
USER = 65532  # nobody else's: what is locked for rings is counted by user
NOT_IN = {"v2-1w": "two workers do more", "v1-2w": "one worker will do"}
ONE_MODE = {"plain": "with TLS there are more secrets", "v1": "the wire does not matter", "v2-2w": "workers do not matter"}


class World:
    """A server and clients after all that they do with secrets: logins good and bad, lanes lost
    and resumed, tickets, and with TLS certificates with keys of three kinds at both ends, and
    reloads. `secrets`: all that is known of them; `procs`: those that are to be looked at."""

    def __init__(self, t):
        if t.factor > 1:
            raise Skip("sanitizers have memory of their own")
        self.t, self.v1, self.tls = t, t.mode.v1, t.mode.tls
        self.secrets, self.procs, self.socks, self.wires = [], [], [], []
        t.culvert = str(pathlib.Path(t.culvert).absolute())  # they run in directories of their own
        t.token, self.marker = secrets.token_hex(16), secrets.token_hex(16)
        self.tokens = [t.token, *(secrets.token_hex(16) for _ in range(3))]
        self.origin = t.origin(net.until_cut(net.echo))
        self.know_tokens()
        self.keys = self.make_keys() if self.tls else [None]
        self.server = self.start_server()
        self.know(dump.Secret("ticket.key", dump.mac_key((t.dir / "state/ticket.key").read_bytes())))

    # What is known

    def know(self, *found):
        self.secrets += found

    def know_tokens(self):
        """They and all that follows from them but their public ids."""
        for i, text in enumerate(self.tokens):
            token = text.encode()
            keys = Keys(token)
            for name, secret in (("", token), (", TokenKey", keys.token_key), (", ClientKey", keys.client),
                                 (", StoredKey", keys.stored), (", ServerKey", keys.server)):
                self.know(dump.Secret(f"token {i + 1}{name}", dump.mac_key(secret)))

    def make_keys(self):
        """[(kind, server's certificate, client's)]: one pair by gen-cert, and two by openssl."""
        made = [("EC", certs.server_cert(self.t.certs), certs.client_cert(self.t, self.t.certs, "e2e"))]
        for kind, new in (("RSA", certs.RSA), ("Ed25519", certs.ED25519)):
            made.append((kind, *(certs.signed(self.t, f"{kind}-{side}", self.t.certs, new=new) for side in ("server", "client"))))
        for kind, *pair in made:
            for side, cert in zip(("server", "client"), pair):
                self.know(*dump.key_secrets(f"{kind} key of the {side}", cert.key))
        net.LANES.client.load_cert_chain(made[0][2].cert, made[0][2].key)
        return made

    # Programs

    def options(self, name, token):
        """A directory of its own for its core, and an environment with a token in it if `token`
        is one."""
        cores = self.t.dir / f"cores-{name}"
        cores.mkdir(exist_ok=True)
        env = dict(os.environ, MARKER=self.marker, **({"CULVERT_TOKEN": token} if token else {}))
        if self.tls:
            env["SSLKEYLOGFILE"] = str(self.t.dir / f"{name}.keys")
        return {"cwd": cores, "env": env}

    def watch(self, proc, name):
        proc.cores = self.t.dir / f"cores-{name}"
        self.procs.append(proc)
        return proc

    def put(self, cert):
        for name, path in (("live.pem", cert.cert), ("live.key", cert.key)):
            shutil.copy(path, self.t.dir / name)

    def start_server(self):
        """Its tokens are in a file, between so many others that it is read in many pieces."""
        others = [secrets.token_hex(16) for _ in range(3000)]
        tokens = [self.tokens[0], *others[:2000], self.tokens[1], *others[2000:], self.tokens[2]]
        path = self.t.write("tokens", "".join(f"{token}\n" for token in tokens), 0o600)
        flags = ["--token-file", path, "--state-dir", self.t.dir / "state", *GRACE]
        if self.tls:
            self.put(self.keys[0][1])
            flags += ["--tls-cert", self.t.dir / "live.pem", "--tls-key", self.t.dir / "live.key", "--tls-ca", self.t.certs / "ca.pem"]
        return self.watch(self.t.server(*flags, token=None, **self.options("server", None)), "server")

    def make_itself(self):
        """A server that makes its certificate when it starts."""
        state = self.t.dir / "made"
        server = self.t.server("--tls", *self.t.engine(0), "--state-dir", state, tls=False, **self.options("maker", None))
        self.watch(server, "maker")
        for name in ("ca.key", "server.key"):
            self.know(*dump.key_secrets(f"{name} of the maker", state / name))

    def start_client(self, name, server, *flags, key=0, env_token=None, **options):
        if self.tls:
            flags += ("--tls-cert", self.keys[key][2].cert, "--tls-key", self.keys[key][2].key)
        return self.t.client(server, self.origin, *GRACE, *flags, token=None, name=name, **self.options(name, env_token), **options)

    def speak(self, client):
        """A stream that stays open and has been used."""
        sock = net.connect(client.addr)
        sock.sendall(SAID)
        check_equal(net.recv_exact(sock, len(SAID)), SAID, "echo")
        self.socks.append(sock)

    # What happens

    def live(self):
        self.resume()
        self.refuse()
        for index in range(1, len(self.keys)):
            self.reload(index)
        if self.tls:
            self.make_itself()
        if not self.v1:
            self.script_client()
            self.script_server()
        if self.tls:
            self.know(*dump.keylog_secrets("".join(path.read_text() for path in self.t.dir.glob("*.keys"))))
        # What a thread copied last stays in its vector registers: with those of AVX-512, which glibc's
        # memcpy() takes where it can and hardly anything else does, for long.
        self.know(dump.Secret("what was said", dump.raw(SAID), registers=False))

    def resume(self):
        """A client with its token in the environment, whose lanes are cut once; v1 has no
        resume."""
        proxy = self.t.keep(Proxy(self.server.addr))
        client = self.watch(self.start_client("client", proxy, env_token=self.tokens[0]), "client")
        self.speak(client)
        if self.v1:
            return
        self.t.lanes_up(self.server)
        for link in proxy.wait_links(self.t.mode.workers):
            link.cut()
        self.server.expect("back after", stream="err", count=self.t.mode.workers)
        self.speak(client)

    def refuse(self):
        """A token that the server does not have: somebody's secret all the same."""
        bad = self.start_client("stranger", self.server, "--token", self.tokens[3], wait=False)
        bad.want = (5,)
        check_equal(bad.wait(), 5, "exit status")

    def reload(self, index):
        """The next certificate and its key; then a client with a key of the same kind and its
        token on the command line or in a file."""
        kind, cert, _ = self.keys[index]
        self.put(cert)
        self.server.send(signal.SIGHUP)
        self.server.expect("certificate read again", stream="err", count=index)
        flags = ["--token", self.tokens[1]] if index == 1 else ["--token-file", self.t.write("token", self.tokens[2], 0o600)]
        name = f"client-{kind}"
        self.speak(self.watch(self.start_client(name, self.server, *flags, key=index), name))

    def script_client(self):
        """A client of the test's own learns the secret of its session."""
        wire = v2wire.client_wire(self.server.addr)
        v2wire.log_in(wire, self.tokens[0].encode())
        self.know(dump.Secret("session of the server", dump.mac_key(wire.secret)))
        self.wires.append(wire)

    def script_server(self):
        """So does a server of its own."""
        peer = self.t.keep(v2wire.Server(self.tokens[0].encode()))
        client = self.watch(self.start_client("client-of-the-test", peer, env_token=self.tokens[0], wait=False), "client-of-the-test")
        wire = peer.accept()
        self.wires.append(wire)
        client.expect("^ready:")
        self.know(dump.Secret("session of the client", dump.mac_key(wire.secret)))


def is_secret(mapping):
    """Wiped in a child of fork(2), which little else is: pages of glibc's getrandom(3) (2.41, Linux 6.11), which may be dropped,
    too."""
    return "wf" in mapping.flags and "dp" not in mapping.flags


def check_mappings(proc):
    """Secret memory is never dumped, and locked."""
    own = [mapping for mapping in dump.mappings(proc.pid) if is_secret(mapping)]
    check(own, f"the {proc.name} has no secret memory")
    for mapping in own:
        check({"dd", "lo"} <= mapping.flags, f"{proc.name}: {mapping}")
        check_equal(mapping.locked, mapping.resident, f"locked pages of {proc.name}: {mapping}")


def check_places(world, proc):
    """The tokens that a process has are found where they belong, and nowhere that is dumped; nor
    does the system show them."""
    token = world.tokens[0].encode()
    belongs = dump.live(proc.pid, is_secret)
    if proc in world.procs[:2]:
        server = proc == world.server
        check(belongs.find(Keys(token).stored), f"the StoredKey of the {proc.name} is not in its secret memory")
        keeps = world.v1 and not server  # it shows its token
        check_equal(bool(belongs.find(token)), keeps,
                    f"the token of the {proc.name} is in its secret memory")
    for name in ("environ", "cmdline"):
        shown = pathlib.Path(f"/proc/{proc.pid}/{name}").read_bytes()
        for secret in world.tokens:
            check(secret.encode() not in shown, f"a token is in /proc/PID/{name} of the {proc.name}")


def check_whole(proc, before, core):
    """All that may be dumped is there, and nothing of what may not. What a thread maps between
    `before` and the end does not matter."""
    for mapping in before:
        inside = [address for address, _ in core.ranges if mapping.start <= address < mapping.end]
        if "dd" in mapping.flags:
            check(not inside, f"core of {proc.name}: {mapping} is in it")
        elif mapping.name in ("[heap]", "[stack]"):
            check(inside, f"core of {proc.name}: {mapping} is not in it")


@case(not_in=NOT_IN, needs=["openssl"], deadline=300)
def secrets_in_memory(t):
    """Secrets of a server and its clients lie in memory that is locked, and no core dump has
    one: neither tokens, keys nor what follows from them."""
    world = World(t)
    world.live()
    for proc in world.procs:
        check_mappings(proc)
        check_places(world, proc)
    before = {proc: dump.mappings(proc.pid) for proc in world.procs}
    cores, t.note = dump.take(world.procs)
    found, search = [], dump.Search(world.secrets)
    for proc, core in cores.items():
        check_whole(proc, before[proc], core)
        check(core.find(world.marker.encode()), f"the core of {proc.name} lacks what is known to be in it: nothing would be found")
        found += [f"{secret.name} ({form}) at {address:x} in {proc.name}" for (secret, form), address in search.sights(core).items()]
    check(not found, f"{len(found)} secrets are in core dumps: {'; '.join(found)}")
    check_search(world)
    t.note += f", {len(world.secrets)} secrets, {len(world.procs)} processes"


def waiting_bytes(pipe):
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


def check_search(world):
    """The same search of a process that holds every form of every secret in ordinary memory."""
    forms = b"\n".join(form for secret in world.secrets for form in secret.forms.values())
    options = world.options("holder", None)
    holder = world.t.spawn("holder", HOLDER, stdin=subprocess.PIPE, cwd=options["cwd"])
    holder.cores = options["cwd"]
    holder.popen.stdin.write(forms)
    holder.popen.stdin.flush()
    world.t.until(lambda: waiting_bytes(holder.popen.stdin) == 0, "the holder has read it all")
    found = dump.Search(world.secrets).sights(dump.take([holder])[0][holder])
    for secret in world.secrets:
        for form in secret.forms:
            check((secret, form) in found, f"the search does not find {secret.name} ({form})")


@case(not_in=ONE_MODE, needs=["prlimit", "setpriv"])
def secrets_that_cannot_be_locked(t):
    """An ordinary user with too little lockable memory: each side says so once and what to do,
    and works. With the usual 8 MiB nobody says anything."""
    t.needs_its_own_memory()
    if os.geteuid() != 0:
        raise Skip("needs root to become another user")
    t.dir.chmod(0o755)
    t.culvert = shutil.copy(t.culvert, t.dir / "culvert")
    for path in (t.certs, *t.certs.glob("*")):
        os.chown(path, USER, USER)
    for kib, warnings in ((900, 1), (8192, 0)):
        under = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--bounding-set=-all", "prlimit", f"--memlock={kib << 10}"]
        server = t.server(under=under)
        client = t.client(server, t.origin(net.echo), under=under)
        with net.connect(client.addr) as sock:
            sock.sendall(SAID)
            check_equal(net.recv_exact(sock, len(SAID)), SAID, "echo")
        for proc in (client, server):
            proc.stop()
            check_equal(len(re.findall(r"WARN .*cannot lock more memory for secrets .*LimitMEMLOCK=", proc.err)), warnings,
                        f"warnings of the {proc.name} with {kib} KiB")
