"""certs: certificates for the TLS cases: those that culvert makes, and with openssl those that it would not make (expired, self-signed, ...)."""
import pathlib
import re
import subprocess

from harness import find_tool

CONFIG = """
[ca]
default_ca = this
[this]
new_certs_dir = {dir}
database = {dir}/index.txt
rand_serial = yes
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
"""
EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
RSA = ["-newkey", "rsa:2048", "-nodes"]
ED25519 = ["-newkey", "ed25519", "-nodes"]


class Cert:
    """A certificate, its key, and the flags that name them. `pin` is computed without the program under test."""

    def __init__(self, cert, key):
        self.cert, self.key = pathlib.Path(cert), pathlib.Path(key)
        self.flags = ["--tls-cert", self.cert, "--tls-key", self.key]

    @property
    def pin(self):
        public = subprocess.run(["openssl", "x509", "-in", self.cert, "-noout", "-pubkey"], check=True, capture_output=True).stdout
        der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=public, check=True, capture_output=True).stdout
        digest = subprocess.run(["openssl", "dgst", "-sha256", "-r"], input=der, check=True, capture_output=True).stdout
        return "sha256:" + digest.decode().split()[0]


def openssl(*arguments):
    subprocess.run([find_tool("openssl"), *map(str, arguments)], check=True, capture_output=True)


def gen_cert(t, name, *flags):
    """culvert gen-cert in a directory of its own; returns it."""
    directory = t.dir / name
    subprocess.run([t.culvert, "gen-cert", "--dir", directory, *flags], check=True, capture_output=True)
    return directory


def server_cert(directory):
    return Cert(directory / "server.pem", directory / "server.key")


def client_cert(t, directory, name):
    """culvert gen-cert --client by the CA in `directory`."""
    subprocess.run([t.culvert, "gen-cert", "--dir", directory, "--client", name], check=True, capture_output=True)
    return Cert(directory / "client.pem", directory / "client.key")


def self_signed(t, name, *names):
    directory = t.dir / name
    directory.mkdir()
    cert = Cert(directory / "own.pem", directory / "own.key")
    openssl("req", "-x509", *EC, "-keyout", cert.key, "-out", cert.cert, "-days", 30, "-subj", "/CN=self",
            "-addext", "subjectAltName=" + ",".join(names or ("DNS:localhost", "IP:127.0.0.1")))
    return cert


def issue(t, name, subject, by, start, end, *options, key=None, names=None, new=EC):
    """A directory with ca.pem and ca.key, or own.pem and own.key with `names`; signed by the authority in `by`, or by itself.
    Its key is `key`, or a new one (EC, RSA, ED25519)."""
    directory = t.dir / name
    directory.mkdir()
    cert = Cert(directory / ("own.pem" if names else "ca.pem"), directory / ("own.key" if names else "ca.key"))
    (directory / "index.txt").touch()
    (directory / "ca.conf").write_text(CONFIG.format(dir=directory))
    if key:
        cert.key.write_bytes(key.read_bytes())
    openssl("req", "-new", *(["-key", cert.key] if key else [*new, "-keyout", cert.key]), "-out", directory / "own.csr",
            "-subj", f"/CN={subject}", *(["-addext", "subjectAltName=" + names] if names else []))
    signer = ["-cert", by / "ca.pem", "-keyfile", by / "ca.key"] if by else ["-selfsign", "-keyfile", cert.key]
    openssl("ca", "-batch", "-notext", "-config", directory / "ca.conf", *signer, "-startdate", start, "-enddate", end, *options,
            "-in", directory / "own.csr", "-out", cert.cert)
    return directory, cert


def authority(t, name, subject, start="20200101000000Z", end="20400101000000Z", by=None, key=None):
    """A CA, in a directory with ca.pem and ca.key: self-signed, or below the one in `by`; with `key`, that key."""
    return issue(t, name, subject, by, start, end, "-extensions", "authority", key=key)[0]


def signed(t, name, ca, start="20200101000000Z", end="20400101000000Z", names="DNS:localhost,IP:127.0.0.1", new=EC):
    """A server certificate of the CA in directory `ca`, with these dates and names, and a new key (EC, RSA, ED25519)."""
    return issue(t, name, "e2e", ca, start, end, names=names, new=new)[1]


def printed_pin(text):
    """The pin in a program's output."""
    return re.search(r"sha256:[0-9a-f]{64}", text).group()
