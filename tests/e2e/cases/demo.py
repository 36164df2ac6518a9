"""demo: `culvert demo`, the first thing that a newcomer runs."""
import os
import re
import signal
import urllib.request

from harness import case, check, check_equal, descendants


def start(t, *flags):
    argv = t.culvert_argv("demo", "--workers", t.mode.workers, "--wire", t.mode.wire, "--requests", 640,
                          "--size", t.size("256M", "64M", "1G"),
                          *(["--tls"] if t.mode.tls else []), *flags)
    return t.spawn("demo", argv)


def gone(pids):
    """True when none of the processes lives (a zombie does not)."""
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                if file.read().rpartition(")")[2].split()[0] not in "ZX":
                    return False
        except FileNotFoundError:
            pass
    return True


def children(t, demo):
    """The two children, by name."""
    def both():
        lines = descendants(demo.pid)
        found = {name: pid for pid, line in lines.items() for name in ("server", "client") if f"culvert {name} " in line}
        return found if len(found) == 2 else None
    return t.until(both, "a server and a client")


@case(deadline=300)
def demo_once(t):
    """The whole check, then exit code 0; nobody is left behind."""
    demo = start(t, "--once")
    found = children(t, demo)
    check_equal(demo.wait(200 * t.factor), 0, f"exit code ({demo.last_words()})")
    check_equal(demo.out.count("all right"), 3, "measurements that were right")
    check("Every byte was right." in demo.out, demo.last_words())
    check_equal(demo.err, "", "standard error")
    check(gone(found.values()), "a child outlived the demo")


@case(deadline=300)
def demo_stays_up(t):
    """Without --once the public URL answers until Ctrl+C, which ends all three in order with exit code 0."""
    demo = start(t)
    match = demo.expect(r"^Public URL: (http://\S+)", timeout=200 * t.factor)[0]
    found = children(t, demo)
    for _ in range(3):
        with urllib.request.urlopen(match.group(1), timeout=30) as answer:
            check_equal(answer.status, 200, "status")
            check(b"It works" in answer.read(), "the page is another one")
    check_equal(demo.stop(signal.SIGINT), 0, f"exit code ({demo.last_words()})")
    check(gone(found.values()), "a child outlived the demo")


@case()
def demo_interrupted(t):
    """Ctrl+C in the middle of the check: exit code 1, because nothing was shown to be right."""
    demo = start(t, "--once", "--size", "1024G")
    demo.want = (1,)
    demo.expect(r"^ *download +1024GiB")
    found = children(t, demo)
    check_equal(demo.stop(signal.SIGINT), 1, f"exit code ({demo.last_words()})")
    check(re.search("stopped by SIGINT .* before the check was over", demo.err), demo.last_words())
    check(gone(found.values()), "a child outlived the demo")


@case()
def demo_killed(t):
    """kill -9 of the demo takes its children along."""
    demo = start(t, "--size", "1024G")
    demo.expect(r"^ *download +1024GiB")
    found = children(t, demo)
    demo.kill()
    t.until(lambda: gone(found.values()), "the children to be killed")


@case()
def demo_child_dies(t):
    """A child that dies is named, with its log, and the check has failed."""
    for victim in ("client", "server"):
        demo = start(t, "--once", "--size", "1024G")
        demo.want = (1,)
        demo.expect(r"^ *download +1024GiB")
        os.kill(children(t, demo)[victim], signal.SIGKILL)
        check_equal(demo.wait(), 1, f"exit code ({demo.last_words()})")
        check(f"the {victim} was killed by signal 9" in demo.err, demo.last_words())
        check("server| " in demo.err, "the log of the server was not shown")
