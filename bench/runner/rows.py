"""The rows of the targets table: what is measured, on whom, and what is demanded of Culvert.

A row measures one contestant at a time and returns numbers by key. Metrics say how to print a key
and which direction is better; targets say what a key of ours is held against. Rows 1 to 6 compare
contestants; rows 8 to 13 compare a contestant with itself (with and without a disturbance), so
their keys already are ratios or absolute limits. Rows 14 to 17 are TLS: `culvert tls` against the
plain `culvert v2` of the same rounds and against peers that encrypt.
"""

import json
import os
import time

from runner.contestants import find_tool
from runner.procs import (
    Process,
    cpu_seconds,
    open_files_limit,
    pids_of,
    pss_bytes,
    resident_mib,
    run_tool,
    wait_echo,
    wait_visitors,
    wakeups,
    wakeups_since,
)
from runner.tools import WARM, Background, Charge, handshakes, iperf3, iperf3_server, loadgen, wrk

RINGS = ("floor ring", "floor plain")  # two designs: the better one is the ring floor
FLOORS = RINGS + ("floor splice",)
PEERS = (
    "nginx stream x2",
    "nginx 64k x2",
    "HAProxy tcp x2",
    "HAProxy 64k x2",
    "ssh -R",
    "rathole",
    "frp",
    "frp no mux",
    "chisel",
    "bore",
    "GoTunnel v1",
)
OURS = ("culvert v2", "culvert v1")
BASE = ("direct",) + FLOORS + OURS
PLAIN, TLS = "culvert v2", "culvert tls"
TLS_NAMED = ("ssh -R", "frp tls", "HAProxy tls x2", "stunnel x2")
TLS_PEERS = TLS_NAMED + ("HAProxy 64k tls x2", "frp no mux tls", "chisel")

HOLD_TARGET = 100000
HOLD_QUICK = 10000
PER_ORIGIN = (
    20000  # streams per origin port: the client's side has 28,000 ephemeral ports towards each
)
SPARE_FILES = 500


class Metric:
    """How to print one key. `better` is 'more' or 'less'; `against` adds a column '/ floor'."""

    def __init__(self, key, title, form="{:.2f}", better="more", against=False):
        self.key = key
        self.title = title
        self.form = form
        self.better = better
        self.against = against


class Target:
    """`key` of culvert v2 (or of the row's own subject) is at least / at most `factor` times
    `rival`'s, or `factor` itself.

    rival: a contestant's name, 'best floor', or a tuple of names of which the best counts.
    """

    def __init__(self, key, op, factor, rival=None, rival_key=None):
        self.key = key
        self.op = op
        self.factor = factor
        self.rival = rival
        self.rival_key = rival_key or key


class Row:
    number = 0
    title = ""
    note = ""
    quick = BASE  # contestants under --quick
    full = BASE + PEERS  # and otherwise
    metrics = ()
    targets = ()
    subject = None  # whom the targets judge, where it is not the one that others do
    bulk = False  # is run under each congestion control that was asked for
    on_this_kernel = True  # and so under its congestion control

    def names(self, quick):
        return self.quick if quick else self.full

    def measure(self, run, contestant):
        raise NotImplementedError


def times(beside, alone):
    """beside / alone for latencies, where 0 stands for 'no reply at all'."""
    return beside / alone if beside > 0 else float("inf")


def with_warm_up(run, got):
    """Requests of the whole time that was charged: those of the warm-up are not in the count."""
    return max(1, got["requests"] * (run.seconds + WARM) / run.seconds)


def _bulk(run, contestant, streams, down):
    """One iperf3 run on a fresh path: Gbit/s, CPU-seconds per GB, peak MiB."""
    server, port = iperf3_server(run)
    path = None
    try:
        path = contestant.start(port)
        with Charge(run, path) as charge:
            rate, gigabytes = iperf3(run, path.port, streams, run.seconds, down)
        return rate, charge.seconds / gigabytes, charge.peak
    finally:
        if path:
            path.stop()
        server.stop()


class BulkOne(Row):
    number = 1
    bulk = True
    title = "bulk, one stream, up and down (iperf3)"
    quick = BASE + ("nginx stream x2", "HAProxy tcp x2", "rathole", "frp no mux")
    metrics = (
        Metric("up", "up Gbit/s", against=True),
        Metric("down", "down Gbit/s", against=True),
        Metric("up_cpu", "up CPU-s/GB", better="less"),
        Metric("down_cpu", "down CPU-s/GB", better="less"),
        Metric("mem", "peak MiB", "{:.0f}", "less"),
    )
    targets = tuple(
        Target(key, ">=", factor, rival)
        for key in ("up", "down")
        for factor, rival in (
            (1.00, RINGS),
            (1.4, "nginx stream x2"),
            (1.5, "HAProxy tcp x2"),
            (1.5, "frp no mux"),
            (2.0, "rathole"),
        )
    )

    def measure(self, run, contestant):
        up, up_cpu, up_mem = _bulk(run, contestant, 1, down=False)
        down, down_cpu, down_mem = _bulk(run, contestant, 1, down=True)
        return {
            "up": up,
            "down": down,
            "up_cpu": up_cpu,
            "down_cpu": down_cpu,
            "mem": max(up_mem, down_mem),
        }


class BulkMany(Row):
    number = 2
    bulk = True
    title = "bulk, 8 and 64 streams, down (iperf3)"
    quick = FLOORS + OURS + ("nginx stream x2",)
    metrics = (
        Metric("s8", "8 streams Gbit/s", against=True),
        Metric("s64", "64 streams Gbit/s", against=True),
        Metric("s8_cpu", "8: CPU-s/GB", better="less"),
        Metric("s64_cpu", "64: CPU-s/GB", better="less"),
        Metric("s8_mem", "8: peak MiB", "{:.0f}", "less"),
        Metric("s64_mem", "64: peak MiB", "{:.0f}", "less"),
    )
    targets = tuple(
        Target(key, ">=", factor, rival)
        for key in ("s8", "s64")
        for factor, rival in ((0.9, "best floor"), (1.8, "nginx stream x2"))
    )

    def measure(self, run, contestant):
        s8, s8_cpu, s8_mem = _bulk(run, contestant, 8, down=True)
        s64, s64_cpu, s64_mem = _bulk(run, contestant, 64, down=True)
        return {
            "s8": s8,
            "s64": s64,
            "s8_cpu": s8_cpu,
            "s64_cpu": s64_cpu,
            "s8_mem": s8_mem,
            "s64_mem": s64_mem,
        }


class Requests(Row):
    number = 3
    title = "requests, keep-alive, 64 and 256 connections (wrk, nginx)"
    quick = RINGS + OURS + ("nginx stream x2", "HAProxy tcp x2", "rathole", "bore")
    metrics = (
        Metric("c64", "c64 req/s", "{:.0f}", against=True),
        Metric("c256", "c256 req/s", "{:.0f}", against=True),
        Metric("c64_p50", "c64 p50 us", "{:.0f}", "less"),
        Metric("c64_p99", "c64 p99 us", "{:.0f}", "less"),
        Metric("c64_cpu", "CPU us/req", "{:.1f}", "less"),
        Metric("mem", "peak MiB", "{:.0f}", "less"),
    )
    targets = tuple(
        Target(key, ">=", factor, rival)
        for key in ("c64", "c256")
        for factor, rival in (
            (1.3, RINGS),
            (1.5, ("nginx stream x2", "HAProxy tcp x2", "rathole", "bore")),
        )
    )

    def measure(self, run, contestant):
        path = contestant.start(run.origins.http)
        try:
            with Charge(run, path) as charge:
                c64 = wrk(run, path.port, 64, run.seconds)
            cpu = charge.seconds * 1e6 / c64["requests"]
            with Charge(run, path) as charge:
                c256 = wrk(run, path.port, 256, run.seconds)
            return {
                "c64": c64["rate"],
                "c256": c256["rate"],
                "c64_p50": c64["p50"],
                "c64_p99": c64["p99"],
                "c64_cpu": cpu,
                "mem": charge.peak,
            }
        finally:
            path.stop()


class RequestReply(Row):
    number = 4
    title = "one connection, request by request (loadgen rr, 64 bytes)"
    note = (
        "Origin and near hop share one core, visitor and far hop the other, as on two machines; "
        "left alone, the scheduler places them now so, now so, and p50 doubles or halves with it."
    )
    split = True
    metrics = (
        Metric("p50", "p50 us", "{:.1f}", "less", against=True),
        Metric("p99", "p99 us", "{:.1f}", "less", against=True),
        Metric("rate", "per second", "{:.0f}"),
        Metric("cpu", "CPU us/req", "{:.1f}", "less"),
    )
    targets = (Target("p50", "<=", 1.05, "best floor"), Target("p99", "<=", 1.2, "best floor"))

    def measure(self, run, contestant):
        path = contestant.start(run.origins.echo)
        try:
            with Charge(run, path) as charge:
                got = loadgen(run, "rr", path.port, run.seconds)
            whole = with_warm_up(run, got)
            return {
                "p50": got["latency_us"]["p50"],
                "p99": got["latency_us"]["p99"],
                "rate": got["per_second"],
                "cpu": charge.seconds * 1e6 / whole,
            }
        finally:
            path.stop()


class OpenLoop(Row):
    number = 5
    title = "open loop at half of the ring floor's capacity, 64 connections (loadgen open, nginx)"
    note = (
        "The rate is half of what the better ring floor reached in row 3's way at the start of the "
        "round; "
        "latency counts from when a request was due."
    )
    metrics = (
        Metric("p50", "p50 us", "{:.0f}", "less"),
        Metric("p99", "p99 us", "{:.0f}", "less", against=True),
        Metric("p999", "p99.9 us", "{:.0f}", "less"),
        Metric("max", "max us", "{:.0f}", "less"),
        Metric("rate", "offered req/s", "{:.0f}"),
        Metric("done", "answered req/s", "{:.0f}"),
        Metric("mem", "peak MiB", "{:.0f}", "less"),
    )
    targets = (Target("p99", "<=", 1.0, "best floor"),)

    def __init__(self):
        self.rate_round = None
        self.rate = 0

    def half_capacity(self, run):
        if self.rate_round != run.round:
            self.rate = int(max(self.capacity(run, run.contestant(name)) for name in RINGS) / 2)
            self.rate_round = run.round
        return self.rate

    @staticmethod
    def capacity(run, floor):
        path = floor.start(run.origins.http)
        try:
            return wrk(run, path.port, 64, 1)["rate"]
        finally:
            path.stop()

    def measure(self, run, contestant):
        rate = self.half_capacity(run)
        path = contestant.start(run.origins.http)
        try:
            with Charge(run, path) as charge:
                got = loadgen(
                    run, "open", path.port, run.seconds, connections=64, rate=rate, http="/"
                )
            latency = got["latency_us"]
            return {
                "p50": latency["p50"],
                "p99": latency["p99"],
                "p999": latency["p999"],
                "max": latency["max"],
                "rate": rate,
                "done": got["per_second"],
                "mem": charge.peak,
            }
        finally:
            path.stop()


class NewConnection(Row):
    number = 6
    title = "a new visitor connection for every request, 64 at once (loadgen crr, 64 bytes)"
    quick = ("direct",) + RINGS + OURS + ("HAProxy tcp x2", "rathole")
    metrics = (
        Metric("rate", "per second", "{:.0f}", against=True),
        Metric("p50", "p50 us", "{:.0f}", "less"),
        Metric("p99", "p99 us", "{:.0f}", "less"),
        Metric("errors", "errors", "{:.0f}", "less"),
        Metric("cpu", "CPU us/req", "{:.1f}", "less"),
        Metric("mem", "peak MiB", "{:.0f}", "less"),
    )
    targets = (
        Target("rate", ">=", 1.2, RINGS),
        Target("rate", ">=", 1.3, "HAProxy tcp x2"),
        Target("rate", ">=", 1.5, "rathole"),
    )

    def measure(self, run, contestant):
        path = contestant.start(run.origins.echo)
        try:
            with Charge(run, path) as charge:
                got = loadgen(run, "crr", path.port, run.seconds, connections=64)
            whole = with_warm_up(run, got)
            return {
                "rate": got["per_second"],
                "p50": got["latency_us"]["p50"],
                "p99": got["latency_us"]["p99"],
                "errors": got["errors"],
                "cpu": charge.seconds * 1e6 / whole,
                "mem": charge.peak,
            }
        finally:
            path.stop()


class CpuPerByte(Row):
    """Not measured again: row 1's CPU account, as a row of its own."""

    number = 7
    bulk = True
    title = "CPU-seconds per GB, server + client, bulk (from row 1)"
    derived_from = 1
    quick = BulkOne.quick
    metrics = (
        Metric("up_cpu", "up CPU-s/GB", better="less", against=True),
        Metric("down_cpu", "down CPU-s/GB", better="less", against=True),
        Metric("mem", "peak MiB", "{:.0f}", "less"),
    )
    targets = (
        Target("up_cpu", "<=", 1.1, "best floor"),
        Target("down_cpu", "<=", 1.1, "best floor"),
    )


def hold_count(quick):
    """As many idle streams as wanted, or as the limit of open files allows."""
    wanted = HOLD_QUICK if quick else HOLD_TARGET
    return max(0, min(wanted, open_files_limit() - SPARE_FILES))


class IdleStreams(Row):
    number = 8
    title = "many idle streams: memory, and bulk and requests beside them"
    note = (
        "Memory is the proportional set size of each process, above that of the same process "
        "before the streams came. Bulk (loadgen bulk, down) and requests (loadgen rr, 64) "
        "are those beside the idle streams divided by the mean of before and after."
    )
    quick = ("culvert v2",)
    full = RINGS + OURS
    metrics = (
        Metric("streams", "streams held", "{:.0f}"),
        Metric("alive", "still answering", "{:.0f}"),
        Metric("far_bytes", "server B/stream", "{:.0f}", "less"),
        Metric("near_bytes", "client B/stream", "{:.0f}", "less"),
        Metric("bulk", "bulk with / without"),
        Metric("requests", "requests with / without"),
    )
    targets = (
        Target("streams", ">=", HOLD_TARGET),
        Target("far_bytes", "<=", 512),
        Target("near_bytes", "<=", 512),
        Target("bulk", ">=", 0.97),
        Target("requests", ">=", 0.97),
    )

    def measure(self, run, contestant):
        count = hold_count(run.quick)
        origins = -(-count // PER_ORIGIN) if contestant.ours else 1
        if origins == 1:
            path = contestant.start(run.origins.echo)
        else:
            path = contestant.start(run.origins.echo, origins=origins)
        try:
            return self._with_and_without(
                run,
                path,
                count if contestant.ours else min(count, 3000),
                range(path.port, path.port + origins),
            )
        finally:
            path.stop()

    def _with_and_without(self, run, path, count, ports):
        bulk, requests = self._speeds(run, path.port)
        far, near = ([process.pid] for process in (path.far, path.near))
        far_base, near_base = pss_bytes(far), pss_bytes(near)
        hold = Background(run, "hold", ports, connections=count)
        try:
            held = hold.count("ready")
            time.sleep(0.3)
            far_bytes = (pss_bytes(far) - far_base) / max(1, held)
            near_bytes = (pss_bytes(near) - near_base) / max(1, held)
            bulk_beside, requests_beside = self._speeds(run, path.port)
            alive = hold.ask()
        finally:
            hold.stop()
        time.sleep(0.3)
        bulk_after, requests_after = self._speeds(run, path.port)
        return {
            "streams": held,
            "alive": alive,
            "far_bytes": far_bytes,
            "near_bytes": near_bytes,
            "bulk": 2 * bulk_beside / (bulk + bulk_after),
            "requests": 2 * requests_beside / (requests + requests_after),
        }

    @staticmethod
    def _speeds(run, port):
        bulk = loadgen(run, "bulk", port, run.seconds)["gbit_per_second"]
        return bulk, loadgen(run, "rr", port, run.seconds, connections=64)["per_second"]


class Idle(Row):
    number = 9
    title = "server and client idle: resident memory and wake-ups"
    note = (
        "A wake-up is a voluntary context switch, counted over 10 s (3 s with --quick). A heartbeat "
        "every 10 s costs each side at most four: ping out, answer in, ping in, answer out; eight "
        "allow for two in the window."
    )
    quick = ("culvert v2",)
    full = OURS + ("ssh -R", "rathole", "frp", "chisel", "bore")
    metrics = (
        Metric("far_mib", "server MiB", "{:.1f}", "less"),
        Metric("near_mib", "client MiB", "{:.1f}", "less"),
        Metric("far_wakes", "server wakes", "{:.0f}", "less"),
        Metric("near_wakes", "client wakes", "{:.0f}", "less"),
        Metric("cpu", "CPU %", "{:.2f}", "less"),
    )
    targets = (
        Target("far_mib", "<=", 8),
        Target("near_mib", "<=", 8),
        Target("far_wakes", "<=", 8),
        Target("near_wakes", "<=", 8),
        Target("cpu", "<=", 1.0),
    )

    def measure(self, run, contestant):
        path = contestant.start(run.origins.echo)
        window = 3.0 if run.quick else 10.0
        try:
            time.sleep(1.0)
            far, near = (pids_of([process]) for process in (path.far, path.near))
            before = wakeups(far), wakeups(near), cpu_seconds(far + near)
            time.sleep(window)
            return {
                "far_mib": resident_mib(far),
                "near_mib": resident_mib(near),
                "far_wakes": wakeups_since(before[0], far),
                "near_wakes": wakeups_since(before[1], near),
                "cpu": (cpu_seconds(far + near) - before[2]) * 100 / window,
            }
        finally:
            path.stop()


class Isolation(Row):
    number = 10
    title = "one stalled visitor beside a bulk stream, and beside a ping-pong stream"
    note = (
        "Each figure is with the stalled visitor divided by without, on the same running tunnel "
        "(bulk without: before and after); inf: no reply came at all."
    )
    quick = ("culvert v2",)
    full = RINGS + OURS + ("rathole", "frp", "chisel")
    metrics = (
        Metric("bulk", "bulk with / without"),
        Metric("p99", "p99 with / without", better="less"),
        Metric("p50", "p50 with / without", better="less"),
        Metric("mem", "peak MiB", "{:.0f}", "less"),
    )
    targets = (Target("bulk", ">=", 0.95), Target("p99", "<=", 1.2))

    def measure(self, run, contestant):
        path = contestant.start(run.origins.echo)
        try:
            before, calm = self._speeds(run, path.port)
            stall = Background(run, "stall", [path.port], connections=1)
            try:
                stall.count("ready")
                time.sleep(0.5)
                with Charge(run, path) as charge:
                    beside, stalled = self._speeds(run, path.port)
            finally:
                stall.stop()
            after = self._bulk(run, path.port)
            return {
                "bulk": 2 * beside / (before + after),
                "p99": times(stalled["p99"], calm["p99"]),
                "p50": times(stalled["p50"], calm["p50"]),
                "mem": charge.peak,
            }
        finally:
            path.stop()

    def _speeds(self, run, port):
        return self._bulk(run, port), loadgen(run, "rr", port, run.seconds)["latency_us"]

    @staticmethod
    def _bulk(run, port):
        return loadgen(run, "bulk", port, run.seconds)["gbit_per_second"]


class BesideBulk(Row):
    """Sparse requests and one bulk stream (down) on one running path: each alone, then both, once
    with the connections of the requests open before bulk begins and once opened amid it."""

    quick = RINGS + ("culvert v2",)
    full = FLOORS + OURS + ("nginx stream x2", "HAProxy tcp x2", "rathole", "frp", "chisel")
    metrics = (
        Metric("p99", "before: p99 / alone", better="less"),
        Metric("bulk", "before: bulk / alone"),
        Metric("late_p99", "amid: p99 / alone", better="less"),
        Metric("late_bulk", "amid: bulk / alone"),
        Metric("p50_alone", "alone p50 us", "{:.0f}", "less"),
        Metric("p99_alone", "alone p99 us", "{:.0f}", "less"),
        Metric("bulk_alone", "alone bulk Gbit/s"),
        Metric("p50_beside", "before: p50 us", "{:.0f}", "less"),
        Metric("p99_beside", "before: p99 us", "{:.0f}", "less"),
        Metric("bulk_beside", "before: bulk Gbit/s"),
        Metric("late_p50_beside", "amid: p50 us", "{:.0f}", "less"),
        Metric("late_p99_beside", "amid: p99 us", "{:.0f}", "less"),
        Metric("late_bulk_beside", "amid: bulk Gbit/s"),
    )
    mode = ""  # of loadgen
    load = {}
    SETTLED = 0.5  # seconds of bulk before the requests come

    def measure(self, run, contestant):
        path = contestant.start(run.origins.echo)
        try:
            bulk = loadgen(run, "bulk", path.port, run.seconds)["gbit_per_second"]
            alone = loadgen(run, self.mode, path.port, run.seconds, **self.load)["latency_us"]
            before, bulk_before = self.open_before(run, path)
            amid, bulk_amid = self.opened_amid(run, path)
            return {
                "p99": times(before["p99"], alone["p99"]),
                "bulk": bulk_before / bulk,
                "late_p99": times(amid["p99"], alone["p99"]),
                "late_bulk": bulk_amid / bulk,
                "p50_alone": alone["p50"],
                "p99_alone": alone["p99"],
                "bulk_alone": bulk,
                "p50_beside": before["p50"],
                "p99_beside": before["p99"],
                "bulk_beside": bulk_before,
                "late_p50_beside": amid["p50"],
                "late_p99_beside": amid["p99"],
                "late_bulk_beside": bulk_amid,
            }
        finally:
            path.stop()

    def open_before(self, run, path):
        """Bulk is counted while requests run, and requests are while bulk does: from 0.5 s on."""
        sparse = self._started(run, path, self.mode, run.seconds, 0.5, **self.load)
        try:
            wait_visitors(path.port, self.load["connections"], path.processes)
            got = loadgen(run, "bulk", path.port, run.seconds + 0.1, warm=0.3)
            return sparse.result(run.seconds + 40)["latency_us"], got["gbit_per_second"]
        finally:
            sparse.stop()

    def opened_amid(self, run, path):
        bulk = self._started(run, path, "bulk", run.seconds + WARM - 0.15, self.SETTLED + 0.15)
        try:
            wait_visitors(path.port, 1, path.processes)
            time.sleep(self.SETTLED)
            got = loadgen(run, self.mode, path.port, run.seconds, **self.load)
            return got["latency_us"], bulk.result(run.seconds + 40)["gbit_per_second"]
        finally:
            bulk.stop()

    @staticmethod
    def _started(run, path, mode, seconds, warm, **load):
        times_ms = {"ms": int(seconds * 1000), "warm": int(warm * 1000)}
        return Background(run, mode, [path.port], json=True, **times_ms, **load)


class Fairness(BesideBulk):
    number = 11
    title = "a bulk stream beside 64 request streams"
    note = (
        "The requests are an open loop of 5,000 a second over 64 connections, 64 bytes each: open "
        "before the bulk begins (before), and once more opened amid it (amid)."
    )
    targets = (
        Target("p99", "<=", 3.0),
        Target("bulk", ">=", 0.5),
        Target("late_p99", "<=", 3.0),
        Target("late_bulk", ">=", 0.5),
    )
    mode = "open"
    load = {"connections": 64, "rate": 5000}


class PingPong(BesideBulk):
    number = 18
    title = "a bulk stream beside one ping-pong stream"
    note = (
        "The next request follows each reply (loadgen rr, 64 bytes); its connection is open before "
        "the bulk begins (before), and once more opened amid it (amid)."
    )
    mode = "rr"
    load = {"connections": 1}


class LongPath(Row):
    """Needs netem, which the machine's kernel may lack: a lab script measures and prints JSON."""

    number = 12
    on_this_kernel = False
    title = "long fat path, netem 50 ms and 50 Mbit/s (the user-mode lab)"
    quick = full = ("culvert v2",)
    metrics = (
        Metric("one", "1 stream / direct"),
        Metric("lossy", "8 streams, 0.5 % loss / 4 direct"),
    )
    targets = (Target("one", ">=", 0.95), Target("lossy", ">=", 1.0))
    once = True

    @staticmethod
    def lab(run):
        return os.path.join(run.root, "bench", "lab-wan")

    def absent(self, run):
        if os.access(self.lab(run), os.X_OK):
            return None
        return "bench/lab-wan does not exist; it is to print {\"one\": ratio, \"lossy\": ratio}"

    def measure(self, run, contestant):
        return json.loads(run_tool([self.lab(run), run.culvert], 900).strip().splitlines()[-1])


class TwoWorkers(Row):
    number = 13
    title = "two workers against one: CPU per request, and what crosses cores"
    note = (
        "Requests are loadgen rr on 64 connections. Crossings are the visitors that a worker "
        "handed to another in the measured time, all connections being open before it began."
    )
    quick = full = ("culvert v2",)
    metrics = (
        Metric("cpu", "CPU per request, 2 / 1 workers", better="less"),
        Metric("rate", "requests/s, 2 / 1 workers"),
        Metric("cpu1", "1: CPU us/req", "{:.1f}", "less"),
        Metric("cpu2", "2: CPU us/req", "{:.1f}", "less"),
        Metric("crossings", "crossings", "{:.0f}", "less"),
    )
    targets = (Target("cpu", "<=", 1.0), Target("crossings", "<=", 0))
    CROSSINGS = "visitors handed to another worker"

    def measure(self, run, contestant):
        one = self._with(run, contestant, 1)
        two = self._with(run, contestant, 2)
        return {
            "cpu": two["cpu"] / one["cpu"],
            "rate": two["rate"] / one["rate"],
            "cpu1": one["cpu"],
            "cpu2": two["cpu"],
            "crossings": two["crossings"],
        }

    def _with(self, run, contestant, workers):
        before, contestant.workers = contestant.workers, workers
        try:
            path = contestant.start(run.origins.echo)
        finally:
            contestant.workers = before
        load = Background(
            run, "rr", [path.port], json=True, ms=int(run.seconds * 1000), warm=600, connections=64
        )
        try:
            time.sleep(0.3)
            first = self._crossings(path)
            with Charge(run, path) as charge:
                began = time.monotonic()
                got = load.result(run.seconds + 30)
                spent = time.monotonic() - began
            return {
                "cpu": charge.seconds * 1e6 / (got["per_second"] * spent),
                "rate": got["per_second"],
                "crossings": self._crossings(path) - first,
            }
        finally:
            load.stop()
            path.stop()

    def _crossings(self, path):
        return sum(end.get(self.CROSSINGS, 0) for end in path.counters().values())


def without_floor(metrics):
    """The same metrics where no floor is measured: without the column '/ floor'."""
    return tuple(Metric(m.key, m.title, m.form, m.better) for m in metrics)


class BulkTls(BulkOne):
    number = 14
    title = "bulk with TLS, one stream, up and down (iperf3)"
    note = (
        "culvert v2 is the plain figure of the same rounds. Eight streams (down) are measured "
        "without --quick. Under cubic plain bulk is moved, not copied."
    )
    subject = TLS
    quick = (PLAIN, TLS) + TLS_NAMED
    full = (PLAIN, TLS) + TLS_PEERS
    metrics = without_floor(BulkOne.metrics) + (Metric("s8", "8 streams Gbit/s"),)
    targets = tuple(
        Target(key, ">=", factor, rival)
        for key in ("up", "down")
        for factor, rival in (
            (0.65, PLAIN),
            (1.8, "ssh -R"),
            (2.5, "frp tls"),
            (2.0, "HAProxy tls x2"),
            (2.0, "stunnel x2"),
        )
    )

    def measure(self, run, contestant):
        got = super().measure(run, contestant)
        if not run.quick:
            got["s8"], _, _ = _bulk(run, contestant, 8, down=True)
        return got


class RequestsTls(Requests):
    number = 15
    title = "requests with TLS, keep-alive, 64 and 256 connections (wrk, nginx)"
    subject = TLS
    quick = (PLAIN, TLS)
    full = (PLAIN, TLS) + TLS_PEERS
    metrics = without_floor(Requests.metrics)
    targets = (Target("c64", ">=", 0.85, PLAIN),)


class RequestReplyTls(RequestReply):
    number = 16
    title = "one connection with TLS, request by request (loadgen rr, 64 bytes)"
    subject = TLS
    quick = (PLAIN, TLS)
    full = (PLAIN, TLS) + TLS_PEERS
    metrics = without_floor(RequestReply.metrics)
    targets = (Target("p50", "<=", 1.15, PLAIN),)


class Handshakes(Row):
    number = 17
    title = "full TLS 1.3 handshakes (openssl s_time -new, four at once)"
    note = (
        "Each connection is closed as soon as its handshake is over. Both servers have one and the "
        "same certificate (P-256). The four clients share the machine's cores and use more of them "
        "than the server does; what a handshake costs the server is the CPU column."
    )
    subject = TLS
    quick = full = (TLS, "nginx ssl")
    metrics = (
        Metric("rate", "per second", "{:.0f}"),
        Metric("cpu", "CPU us/handshake", "{:.0f}", "less"),
        Metric("mem", "peak MiB", "{:.0f}", "less"),
    )
    targets = (Target("rate", ">=", 0.9, "nginx ssl"),)

    @staticmethod
    def absent(_run):
        return None if find_tool("openssl") else "openssl not on PATH"

    def measure(self, run, contestant):
        path = contestant.start_handshaker()
        try:
            with Charge(run, path) as charge:
                rate, count = handshakes(run, path.port, run.seconds)
            return {"rate": rate, "cpu": charge.seconds * 1e6 / count, "mem": charge.peak}
        finally:
            path.stop()


class Seed(Row):
    """What the seed's own table has beyond the rows: busy CPU, and the time to come back."""

    number = 0
    title = "for the seed's table: CPU at 1,000 requests/s, and recovery after the server is killed"
    quick = full = ("culvert v2",)
    metrics = (
        Metric("busy", "CPU % at 1,000 req/s", "{:.1f}", "less"),
        Metric("session_mib", "MiB of both, 64 streams", "{:.1f}", "less"),
        Metric("reconnect", "back after s", "{:.2f}", "less"),
    )

    def measure(self, run, contestant):
        path = contestant.start(run.origins.echo)
        try:
            with Charge(run, path) as charge:
                loadgen(run, "open", path.port, run.seconds, warm=0.0, connections=64, rate=1000)
            return {
                "busy": charge.seconds * 100 / run.seconds,
                "session_mib": charge.peak,
                "reconnect": self._reconnect(path),
            }
        finally:
            path.stop()

    @staticmethod
    def _reconnect(path):
        """Kills the server, starts the same one again, and waits until the public port answers."""
        argv, log = path.far.argv, path.far.log
        path.far.stop()
        began = time.monotonic()
        path.far = Process(argv, log)
        path.processes[0] = path.far
        wait_echo(path.port, path.processes, timeout=30)
        return time.monotonic() - began


def all_rows():
    return [
        BulkOne(),
        BulkMany(),
        Requests(),
        RequestReply(),
        OpenLoop(),
        NewConnection(),
        CpuPerByte(),
        IdleStreams(),
        Idle(),
        Isolation(),
        Fairness(),
        LongPath(),
        TwoWorkers(),
        BulkTls(),
        RequestsTls(),
        RequestReplyTls(),
        Handshakes(),
        PingPong(),
        Seed(),
    ]
