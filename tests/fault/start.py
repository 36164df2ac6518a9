"""start: one start of the program, from exec to its end, and what may be said of it.

A start ends in one of two ways: the program says on standard output that it has started, is told to end, and ends with 0; or it ends
by itself with 3 and a sentence on standard error. Everything else (a signal, a failed CHECK, a sanitizer's report, another code, no
end) is a fault.
"""
import os
import re
import selectors
import signal
import subprocess
import time

STARTED = re.compile(rb"^(listening|ready): (\S+)", re.M)
TROUBLE = re.compile(r"(Address|Thread|Leak|Memory|UndefinedBehavior)Sanitizer|runtime error:|culvert: bug|double free|corrupt|"
                     r": Success\b")  # an error whose number got lost
SENTENCE = re.compile(r"^(?:\S+ ERROR \S+: |culvert: |\S+ ERROR connection .*: TLS failed: )(.+)$", re.M)
CANNOT_START, GAVE_UP = 3, 4


class Start:
    """A program that is running, or has ended: status, out, err; started: what it said it was ready for."""

    def __init__(self, argv, deadline=30, **options):
        self.argv, self.out, self.err, self.started, self.hung = argv, b"", b"", None, False
        self.until = time.monotonic() + deadline
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        self.selector = selectors.DefaultSelector()
        for pipe in (self.process.stdout, self.process.stderr):
            os.set_blocking(pipe.fileno(), False)
            self.selector.register(pipe, selectors.EVENT_READ)

    def read(self):
        """Waits for output and takes it; false when there is no more, or no more time."""
        left = self.until - time.monotonic()
        if left <= 0 or not self.selector.get_map():
            return False
        for key, _ in self.selector.select(left):
            data = key.fileobj.read(65536)
            if data == b"":
                self.selector.unregister(key.fileobj)
            elif data and key.fileobj is self.process.stdout:
                self.out += data
            elif data:
                self.err += data
        return True

    def wait_started(self):
        """True once it has started; false when it has ended, or the time is over."""
        while self.started is None and self.read():
            found = STARTED.search(self.out)
            self.started = found and found.group(2).decode()
        return self.started is not None

    def wait_end(self):
        while self.read():
            pass
        try:
            self.process.wait(max(self.until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            self.hung = True
            self.process.kill()
            self.process.wait()
        self.selector.close()
        self.process.stdout.close()
        self.process.stderr.close()
        return self

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.wait_end()

    def run(self):
        """The whole life."""
        return self.stop() if self.wait_started() else self.wait_end()

    @property
    def status(self):
        return self.process.returncode

    @property
    def text(self):
        return self.err.decode(errors="replace")

    @property
    def sentences(self):
        """What it said about its end."""
        return SENTENCE.findall(self.text)

    def judge(self, cause, *refusals):
        """What is wrong with it, or None. cause: a regular expression that every sentence of a refusal must match, or, when it has given
        up, what it said before; refusals: the codes that stand for one."""
        if self.hung:
            return "it did not end"
        if TROUBLE.search(self.text):
            return "trouble on standard error"
        if self.started is not None:
            return None if self.status == 0 else f"it started, and ended with {self.status}"
        if self.status not in (refusals or (CANNOT_START,)):
            return f"it did not start, and ended with {self.status}"
        if not self.sentences:
            return "it did not start, and said nothing"
        told = [self.text] if self.status == GAVE_UP else self.sentences
        wrong = [text for text in told if not re.search(cause, text)]
        return f"not /{cause}/: {wrong[0]}" if wrong else None


def server(culvert, *flags, workers=1):
    return [culvert, "server", "--addr", "127.0.0.1:0", "--public-addr", "127.0.0.1", "--token", "of-a-test",
            "--workers", str(workers), "--drain-timeout", "100ms", "--max-sessions", "64", *map(str, flags)]


def client(culvert, server_address, *flags, workers=1):
    return [culvert, "client", "--server", server_address, "--local", "127.0.0.1:1", "--token", "of-a-test",
            "--workers", str(workers), "--drain-timeout", "100ms", "--reconnect-first", "10ms", "--reconnect-max", "20ms",
            *map(str, flags)]
