"""wire: the frames of Culvert's two wires, for the developer tools and the tests. Not used by the program.

One table per version, written from docs/PROTOCOL.md and on purpose not from src/core/wire/frame.h, so that the two can be
held against each other. Kinds have the names of v2; the v1 names (Handshake, StreamData, ...) are accepted as well.
Nothing is refused on encoding: a scripted peer must be able to say what is wrong.
"""
import ipaddress
import struct

FIN = 0x0001

# kind: (type, [(field, form)]). Forms: u8 u16 u32 u64, text (u16 length + bytes), rest (bytes to
# the end), addr, b16 and b32.
V2 = {
    "HELLO": (1, [("caps", "u32"), ("workers", "u16"), ("lanes", "u16"), ("window", "u32"),
                  ("max_data", "u32"), ("agent", "text"), ("client", "text"), ("nonce", "b32")]),
    "HELLO_OK": (2, [("revision", "u32"), ("nonce", "b32")]),
    "AUTH": (3, [("id", "b16"), ("bound", "u8"), ("proof", "b32")]),
    "AUTH_OK": (4, [("proof", "b32"), ("caps", "u32"), ("lanes", "u16"), ("window", "u32"), ("max_data", "u32"),
                    ("slots", "u32"), ("session", "u64"), ("agent", "text")]),
    "AUTH_ERR": (5, [("code", "u16"), ("text", "text")]),
    "BIND": (6, [("tunnel", "u16"), ("port", "u16"), ("options", "u32"), ("name", "text"),
                 ("origin", "text")]),
    "BIND_OK": (7, [("tunnel", "u16"), ("port", "u16"), ("host", "text")]),
    "BIND_ERR": (8, [("tunnel", "u16"), ("code", "u16"), ("text", "text")]),
    "JOIN": (9, [("session", "u64"), ("lane", "u16"), ("join_flags", "u16"), ("rx_bytes", "u64"),
                 ("bound", "u8"), ("proof", "b32")]),
    "JOIN_OK": (10, [("lane", "u16"), ("rx_bytes", "u64"), ("proof", "b32")]),
    "GOAWAY": (11, [("code", "u16"), ("text", "text")]),
    "PING": (12, [("time", "u64"), ("rx_bytes", "u64")]),
    "PONG": (13, [("time", "u64"), ("rx_bytes", "u64")]),
    "OPEN": (16, [("tunnel", "u16"), ("visitor", "addr"), ("local", "addr")]),
    "DATA": (17, [("data", "rest")]),
    "WINDOW": (18, [("increment", "u32")]),
    "RESET": (19, [("code", "u16")]),
}

V1 = {
    "HELLO": (1, [("role", "u8"), ("caps", "u64"), ("agent", "text")]),
    "HELLO_OK": (2, []),
    "AUTH": (3, [("token", "rest")]),
    "AUTH_OK": (4, []),
    "AUTH_ERR": (5, [("text", "rest")]),
    "BIND_OK": (6, [("port", "u16")]),
    "OPEN": (7, []),
    "DATA": (8, [("data", "rest")]),
    "CLOSE": (9, []),
    "PING": (10, []),
    "GOAWAY": (11, [("code", "u16"), ("text", "rest")]),
}

TABLES = {1: V1, 2: V2}
HEADER = {1: struct.Struct(">BBII"), 2: struct.Struct(">BBHII")}

V1_NAMES = {
    "HANDSHAKE": "HELLO", "HANDSHAKEACK": "HELLO_OK", "AUTHOK": "AUTH_OK", "AUTHERR": "AUTH_ERR",
    "BINDOK": "BIND_OK", "STREAMOPEN": "OPEN", "STREAMDATA": "DATA", "STREAMCLOSE": "CLOSE",
    "HEARTBEAT": "PING", "ERROR": "GOAWAY",
}

DEFAULTS = {
    ("HELLO", "workers"): 1, ("HELLO", "window"): 1 << 20, ("HELLO", "max_data"): 1 << 24,
    ("HELLO", "agent"): b"peer", ("HELLO", "role"): 1, ("HELLO_OK", "revision"): 2,
    ("AUTH_OK", "lanes"): 1, ("AUTH_OK", "window"): 1 << 20, ("AUTH_OK", "max_data"): 1 << 24,
    ("AUTH_OK", "slots"): 1 << 16, ("AUTH_OK", "session"): 1, ("AUTH_OK", "agent"): b"peer",
    ("AUTH", "token"): b"dev-token",
}

REASONS = {
    0: "DONE", 1: "PEER_RESET", 2: "ORIGIN_REFUSED", 3: "ORIGIN_UNREACHABLE", 4: "ORIGIN_TIMEOUT",
    5: "LIMIT_STREAMS", 6: "LIMIT_BUFFERS", 7: "LIMIT_DESCRIPTORS", 8: "STALLED", 9: "SESSION_LOST",
    10: "DRAIN", 11: "SOCKET_ERROR", 12: "NO_TUNNEL", 13: "V1_CLOSED", 31: "PEER_OTHER",
    32: "BAD_VERSION", 33: "BAD_FRAME", 34: "BAD_STATE", 35: "FRAME_TOO_LONG", 36: "FLOW_CONTROL",
    37: "AUTH_FAILED", 38: "AUTH_WEAK_TOKEN", 39: "HANDSHAKE_TIMEOUT", 40: "HEARTBEAT_MISSED",
    41: "LANE_EOF", 42: "LANE_ERROR", 43: "LIMIT_SESSIONS", 44: "LIMIT_LANES",
    45: "LIMIT_UNAUTHENTICATED", 46: "SHUTDOWN", 47: "REPLACED", 48: "UNKNOWN_SESSION", 49: "PORT_BUSY",
    50: "PORT_FORBIDDEN", 51: "PORTS_EXHAUSTED", 52: "LIMIT_TUNNELS", 53: "CONNECT_FAILED",
    54: "RESOLVE_FAILED", 55: "TLS_FAILED", 56: "TLS_TRUNCATED", 57: "TLS_TOO_OLD",
    58: "LANE_GONE", 59: "TLS_ENDS_BETWEEN", 60: "SERVER_UNPROVEN", 61: "OLD_WIRE",
    62: "STREAM_IDLE", 63: "PEER_SILENT", 64: "TOKEN_GONE",
}
REASON_CODES = {name: code for code, name in REASONS.items()}

SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
BYTES = {"b16": 16, "b32": 32}
# Fields that are no text.
OPAQUE = ("nonce", "id", "proof", "secret")


class WireError(Exception):
    """Bytes that are no frame, or a frame that cannot be said in this version."""


class Frame:
    """A decoded frame. `error` says what is wrong with the payload, None if nothing is."""

    show_bytes = 48  # of each field, in str()

    def __init__(self, version, kind, flags, stream, payload):
        self.version, self.kind, self.flags, self.stream = version, kind, flags, stream
        self.payload = payload
        self.fields, self.extra, self.error = decode_fields(version, kind, payload)

    def __str__(self):
        words = [self.kind]
        if self.stream:
            words.append(f"stream={stream_text(self.version, self.stream)}")
        if self.flags:
            words.append("FIN" if self.flags == FIN else f"flags=0x{self.flags:04x}")
        words.append(f"length={len(self.payload)}")
        words += [f"{name}={value_text(name, value)}" for name, value in self.fields.items()]
        if self.extra:
            words.append(f"extra={self.extra.hex()}")
        if self.error:
            words.append(f"MALFORMED: {self.error}")
        return " ".join(words)


def kind_of(name):
    """The kind of a name in any case, v1 or v2."""
    upper = name.upper()
    kind = V1_NAMES.get(upper, upper)
    if kind not in V1 and kind not in V2:
        raise WireError(f"no frame is called {name}")
    return kind


def stream_text(version, stream):
    if version == 1:
        return str(stream)
    return f"0x{stream:08x}({stream >> 20}/{stream & 0xfffff})"


def value_text(name, value):
    most = Frame.show_bytes
    if name == "code":
        return f"{value}({REASONS.get(value, 'unknown')})"
    if not isinstance(value, bytes):
        return str(value)
    if name in OPAQUE:
        return value.hex()
    cut = value[:most]
    text = "".join(chr(c) if 32 <= c < 127 and c not in b'"\\' else f"\\x{c:02x}" for c in cut)
    return f'"{text}"' + (f"..({len(value)})" if len(value) > most else "")


def addr_bytes(text):
    """ "192.0.2.1:80", "[2001:db8::1]:80" or "none" as it stands on the wire."""
    if text == "none":
        return b"\0"
    host, _, port = str(text).rpartition(":")
    ip = ipaddress.ip_address(host.strip("[]"))
    return bytes([ip.version]) + ip.packed + struct.pack(">H", int(port))


def encode_field(form, value):
    if form in SIZES:
        return int(value).to_bytes(SIZES[form], "big")
    if form == "addr":
        return addr_bytes(value)
    data = value.encode() if isinstance(value, str) else value
    if form == "text":
        return struct.pack(">H", len(data)) + data
    return data


def field_default(version, kind, name, form):
    if version == 1 and kind == "HELLO" and name == "caps":
        return 1
    if (kind, name) in DEFAULTS:
        return DEFAULTS[kind, name]
    return {"addr": "none", "b16": bytes(16), "b32": bytes(32), "text": b"", "rest": b""}.get(form, 0)


def encode(version, kind, stream=0, flags=0, **values):
    """A whole frame. Fields that are not named have defaults; unknown names are an error."""
    if kind not in TABLES[version]:
        raise WireError(f"v{version} has no {kind}")
    number, fields = TABLES[version][kind]
    payload = b"".join(
        encode_field(form, values.pop(name, field_default(version, kind, name, form)))
        for name, form in fields)
    if values:
        raise WireError(f"v{version} {kind} has no field {', '.join(values)}")
    if version == 1:
        return HEADER[1].pack(1, number, stream, len(payload)) + payload
    return HEADER[2].pack(2, number, flags, stream, len(payload)) + payload


def take(payload, at, size):
    if len(payload) - at < size:
        raise WireError(f"{size} bytes expected at offset {at}, {len(payload) - at} there")
    return payload[at:at + size], at + size


def decode_field(form, payload, at):
    """(value, next offset)"""
    if form in SIZES:
        data, at = take(payload, at, SIZES[form])
        return int.from_bytes(data, "big"), at
    if form == "rest":
        return payload[at:], len(payload)
    if form in BYTES:
        return take(payload, at, BYTES[form])
    if form == "text":
        size, at = decode_field("u16", payload, at)
        return take(payload, at, size)
    family, at = decode_field("u8", payload, at)
    if family == 0:
        return "none", at
    if family not in (4, 6):
        raise WireError(f"address family {family}")
    data, at = take(payload, at, 4 if family == 4 else 16)
    port, at = decode_field("u16", payload, at)
    host = str(ipaddress.ip_address(data))
    return f"{host}:{port}" if family == 4 else f"[{host}]:{port}", at


def decode_fields(version, kind, payload):
    """({field: value}, bytes behind the last field, error or None)"""
    fields, at = {}, 0
    try:
        for name, form in TABLES[version][kind][1]:
            fields[name], at = decode_field(form, payload, at)
    except WireError as error:
        return fields, b"", str(error)
    return fields, payload[at:], None


def decode_header(version, data):
    """(kind, flags, stream, length) of a complete header."""
    if version == 1:
        first, number, stream, length = HEADER[1].unpack(data)
        flags = 0
    else:
        first, number, flags, stream, length = HEADER[2].unpack(data)
    if first != version:
        raise WireError(f"first byte {first} where version {version} was expected")
    for kind, (known, _) in TABLES[version].items():
        if known == number:
            return kind, flags, stream, length
    raise WireError(f"v{version} has no frame type {number}")
