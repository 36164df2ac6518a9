"""proofs: what a v2 log-in proves, and how. For tools/peer and the tests. Not used by the program.

Written from docs/PROTOCOL.md, section 3, and on purpose not from src/core/mux/scram.c, so that the two can be held against each other.
"""
import hashlib
import hmac
import struct


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def sha256(data):
    return hashlib.sha256(data).digest()


class Keys:
    """What follows from a token."""

    def __init__(self, token):
        self.token_key = mac(b"culvert v2 token", token)
        self.id = mac(self.token_key, b"Token Id")[:16]
        self.client = mac(self.token_key, b"Client Key")
        self.stored = sha256(self.client)
        self.server = mac(self.token_key, b"Server Key")


class Channel:
    """What the proofs of one connection are bound to: the payloads of HELLO and HELLO_OK, and under TLS the exporter."""

    def __init__(self, said, answered, exporter=None):
        self.bound = 0 if exporter is None else 1
        self.bytes = sha256(sha256(said) + sha256(answered)) + bytes([self.bound]) + (exporter or bytes(32))

    def proof(self, keys):
        """AUTH's."""
        signature = mac(keys.stored, b"culvert v2 auth", self.bytes, keys.id)
        return bytes(a ^ b for a, b in zip(keys.client, signature))

    def server_proof(self, keys):
        """AUTH_OK's."""
        return mac(keys.server, b"culvert v2 auth ok", self.bytes, keys.id)

    def secret(self, keys):
        """The session's."""
        return mac(keys.client, b"culvert v2 session", self.bytes, keys.id)

    def join_proof(self, secret, session, lane, flags=0, rx_bytes=0):
        return mac(secret, b"culvert v2 join", self.bytes, struct.pack(">QHHQ", session, lane, flags, rx_bytes))

    def join_ok_proof(self, secret, session, lane):
        return mac(secret, b"culvert v2 join ok", self.bytes, struct.pack(">QH", session, lane))
