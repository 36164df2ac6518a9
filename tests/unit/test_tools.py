#!/usr/bin/env python3
"""tools/wire.py, tools/frame-dump and tools/peer.

wire.py is a second implementation of docs/PROTOCOL.md, so holding it against the document's examples (which test_frame
holds against the program's encoders) checks both. The peer is played against itself.
"""
import os
import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"
sys.dont_write_bytecode = True
sys.path.insert(0, str(TOOLS))
import wire  # noqa: E402

ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def examples():
    """{name: bytes} of the document's ```frame blocks."""
    text = (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```frame (\S+)\n(.*?)^```", text, re.M | re.S)
    return {name: bytes.fromhex("".join(line.partition("#")[0] for line in body.splitlines()))
            for name, body in blocks}


def run(tool, *arguments, text=None):
    return subprocess.run([TOOLS / tool, *arguments], input=text, capture_output=True, timeout=60, env=ENVIRONMENT,
                          check=False)


class Peers:
    """A listening peer with one script; `dial` plays another against it."""

    def __init__(self, script):
        self.process = subprocess.Popen([TOOLS / "peer", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=ENVIRONMENT)
        self.process.stdin.write(("listen 0\naccept\n" + script).encode())
        self.process.stdin.close()
        self.port = self.process.stdout.readline().decode().rpartition(":")[2].strip()

    def dial(self, script):
        """(exit code, error text) of the dialling peer; the listening one's are in self.code and self.error."""
        result = run("peer", "-", f"port={self.port}", text=f"connect 127.0.0.1:$port one\n{script}".encode())
        self.error = self.process.stderr.read().decode()
        self.code = self.process.wait(60)
        self.process.stdout.close()
        self.process.stderr.close()
        return result.returncode, result.stderr.decode()



class Promises(unittest.TestCase):
    """docs/SECURITY.md says which test holds what it promises."""

    def test_their_tests_exist(self):
        text = (ROOT / "docs" / "SECURITY.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| .* \| (.*) \|$", text[text.index("\n## How this is tested"):], re.M)[2:]
        self.assertGreater(len(rows), 10)
        cases = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/e2e/cases").glob("*.py"))
        simulations = (ROOT / "tests/sim/sim.c").read_text(encoding="utf-8")
        for row in rows:
            names = re.findall(r"`([^`]+)`", row)
            self.assertTrue(names, row)
            for name in names:
                label, _, rest = name.rpartition(".")
                if label == "sim":
                    self.assertIn(f'"{rest}"', simulations)
                elif label:
                    self.assertTrue((ROOT / f"tests/{label}/test_{rest}.c").exists(), name)
                else:  # a function of its own, or a row of the attackers' table
                    row = f'"{name.removeprefix("shares_")}"'
                    self.assertTrue(f"\ndef {name}(t):" in cases or row in cases, f"no case {name}")


class Wire(unittest.TestCase):
    def test_document(self):
        found = examples()
        self.assertGreater(len(found), 25)
        for name, data in found.items():
            version = data[0]
            size = wire.HEADER[version].size
            kind, flags, stream, length = wire.decode_header(version, data[:size])
            frame = wire.Frame(version, kind, flags, stream, data[size:])
            self.assertEqual(length, len(data) - size, name)
            self.assertIsNone(frame.error, name)
            self.assertEqual(frame.extra, b"", name)
            self.assertEqual(wire.encode(version, kind, stream=stream, flags=flags, **frame.fields), data, name)

    def test_every_kind_has_an_example(self):
        seen = {(data[0], wire.decode_header(data[0], data[:wire.HEADER[data[0]].size])[0])
                for data in examples().values()}
        self.assertEqual(seen, {(version, kind) for version, kinds in wire.TABLES.items() for kind in kinds})

    def test_reasons(self):
        text = (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
        rows = dict(re.findall(r"^\| (\d+) \| ([A-Z0-9_]+) \| .* \| (?:RST|FIN) \|$", text, re.M))
        self.assertEqual({int(code): name for code, name in rows.items()}, wire.REASONS)

    def test_cut_payloads(self):
        for name, data in examples().items():
            size = wire.HEADER[data[0]].size
            kind, flags, stream, length = wire.decode_header(data[0], data[:size])
            ends_open = any(form == "rest" for _, form in wire.TABLES[data[0]][kind][1])
            if length > 0 and not ends_open:
                self.assertIsNotNone(wire.Frame(data[0], kind, flags, stream, data[size:-1]).error, name)


class Dump(unittest.TestCase):
    def test_raw_and_hex(self):
        data = b"".join(data for name, data in examples().items() if not name.startswith("v1-"))
        for text in (data, data.hex(" ").encode(), b"# a comment\n" + data.hex().encode()):
            result = run("frame-dump", text=text)
            lines = result.stdout.decode().splitlines()
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(len(lines), sum(not name.startswith("v1-") for name in examples()))
            self.assertIn('v2 HELLO length=65 caps=0 workers=2', lines[0])
        result = run("frame-dump", "--only", "RESET", text=data)
        self.assertEqual(result.stdout.decode().split("v2 ")[1].strip(),
                         "RESET stream=0x00100005(1/5) length=2 code=2(ORIGIN_REFUSED)")

    def test_refusals(self):
        for text, said in ((b"\x02\x0c", "header cut"), (b"03", "neither version"), (b"02 ff" + b"00" * 10, "type 255"),
                           (b"020", "odd"), (examples()["ping"][:-1], "payload")):
            result = run("frame-dump", text=text)
            self.assertEqual(result.returncode, 1, text)
            self.assertIn(said, result.stderr.decode())


class Peer(unittest.TestCase):
    def both_good(self, server, client):
        peers = Peers(server)
        code, error = peers.dial(client)
        self.assertEqual((code, error, peers.code, peers.error), (0, "", 0, ""))

    def test_v2(self):
        self.both_good(
            "serve port=4711\nsend PING time=5\nsend OPEN stream=0x100005 visitor=192.0.2.1:99\n"
            "send DATA stream=0x100005 'data=one\\n'\nexpect-data 100000 stream=0x100005\n"
            "expect DATA flags=fin data=\nsend RESET stream=0x100005 code=STALLED\nexpect-eof",
            "login\nexpect OPEN stream=@s visitor=192.0.2.1:99\nexpect DATA stream=$s 'data=one\\n'\n"
            "repeat 10 send DATA stream=$s size=10000\nsend DATA stream=$s flags=fin\n"
            "expect RESET code=STALLED stream=$s\nclose")

    def test_join(self):
        serve = "serve token=other\naccept two\nexpect HELLO\nsend HELLO_OK\nexpect JOIN lane=3 join_flags=1 rx_bytes=7\n"
        code, error = Peers(serve + "send JOIN_OK lane=3\ndrain").dial(
            "set at 127.0.0.1:$port\nlogin token=other\nconnect $at two\njoin lane=3 join_flags=1 rx_bytes=7")
        self.assertEqual(code, 1)
        self.assertIn("JOIN_OK lane=3 proof=", error)

    def test_wrong_token(self):
        peers = Peers("serve token=other")
        code, _ = peers.dial("login")
        self.assertEqual((code, peers.code), (1, 1))
        self.assertIn("AUTH id=", peers.error)

    def test_v1(self):
        self.both_good(
            "version 1\nserve port=4711\nsend StreamOpen stream=1\nexpect StreamData stream=1 data=hi\n"
            "send StreamClose stream=1\nexpect-none 0.2\nhalf-close\nexpect-rst",
            "version 1\nlogin\nexpect OPEN stream=1\nsend DATA stream=1 data=hi\nexpect CLOSE stream=1\n"
            "expect-eof\nrst")

    def test_bytes(self):
        self.both_good("expect-hex 01 02\nexpect-text 'a\\x00b'\nsend-header DATA stream=9 length=16777216\ndrain",
                       "send-hex 0102\nsend-text 'a\\x00b'\nexpect-hex 0211 0000 00000009 01000000\nclose")

    def test_several_connections(self):
        self.both_good("accept two\nuse 1\nsend-text first\nuse two\nsend-text second\nclose\nuse 1\nclose",
                       "set a one\nconnect 127.0.0.1:${port} two\nexpect-text second\nuse $a\n"
                       "expect-text first\nexpect-eof")

    def test_surprises(self):
        for server, client, said in (
                ("send PONG\nsend GOAWAY code=46", "expect DATA", "got GOAWAY"),
                ("close", "expect HELLO", "the peer closed"),
                ("rst", "expect-eof", "reset"),
                ("send-hex 0300", "expect-hex 0200", "expected"),
                ("send-hex ff" + "00" * 11, "expect HELLO", "no frame"),
                ("send DATA stream=1 size=5\nsleep 1", "expect-data 4", "4 bytes of DATA expected, got 5"),
                ("sleep 1", "timeout 0.1\nexpect HELLO", "nothing more came"),
                ("send DATA stream=1\nsleep 1", "expect-none 1", "no frame expected")):
            code, error = Peers(server).dial(client)
            self.assertEqual(code, 1, client)
            self.assertIn(said, error)

    def test_script_errors(self):
        for script in ("jump", "send NOTHING", "expect DATA", "version 3", "send DATA stream=$none", "use 9"):
            result = run("peer", "-e", script)
            self.assertEqual(result.returncode, 2, script)
            self.assertIn("line 1", result.stderr.decode())


if __name__ == "__main__":
    unittest.main()
