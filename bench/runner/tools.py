"""The measuring tools: iperf3, wrk, loadgen and openssl s_time, each returning plain numbers.

Units everywhere: Gbit/s, requests per second, microseconds, seconds, MiB.
"""

import json
import os
import re
import subprocess
import time

from runner.contestants import find_tool
from runner.procs import (
    Process,
    StartError,
    cpu_seconds,
    free_port,
    peak_mib,
    pids_of,
    run_tool,
    wait_listening,
)

HOST = "127.0.0.1"
WARM = 0.3  # seconds before loadgen counts
HANDSHAKE_CLIENTS = 4
WRK_UNITS = {"us": 1, "ms": 1e3, "s": 1e6, "m": 6e7}


class Charge:
    """CPU time of a path's processes while a tool runs: `with Charge(run, path) as charge: ...`.

    Afterwards it leaves the path's own counters, where it has any, in run.counters for the record.
    """

    def __init__(self, run, path):
        self.run = run
        self.path = path
        self.seconds = 0.0
        self.peak = 0.0

    def __enter__(self):
        self.before = cpu_seconds(self.path.pids())
        return self

    def __exit__(self, *_):
        pids = self.path.pids()
        self.seconds = cpu_seconds(pids) - self.before
        self.peak = peak_mib(pids)
        self.run.counters = self.path.counters() or self.run.counters


def iperf3_server(run):
    """An iperf3 server of its own for one measurement (a shared one remembers a broken test)."""
    port = free_port()
    server = Process(
        [find_tool("iperf3"), "-s", "-B", HOST, "-p", port],
        run.file("iperf3.log"),
        cpus=run.cpus("origin"),
    )
    wait_listening(port, [server])
    return server, port


def iperf3(run, port, streams, seconds, down):
    """Received Gbit/s over all streams. iperf3 counts whole seconds."""
    argv = [
        find_tool("iperf3"),
        "-c",
        HOST,
        "-p",
        port,
        "-P",
        streams,
        "-t",
        max(1, round(seconds)),
        "-J",
    ] + (["-R"] if down else [])
    out = json.loads(run_tool(argv, seconds + 20, run.cpus("load")))
    if "error" in out:
        raise StartError(f"iperf3: {out['error']}")
    total = out["end"]["sum_received"]
    return total["bits_per_second"] / 1e9, total["bytes"] / 1e9


def wrk(run, port, connections, seconds, path="/"):
    """Requests per second, p50 and p99 in microseconds (wrk's own, closed loop)."""
    argv = [
        find_tool("wrk"),
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "--latency",
        f"http://{HOST}:{port}{path}",
    ]
    out = run_tool(argv, seconds + 20, run.cpus("load"))
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    total = re.search(r"(\d+) requests in", out)
    if rate is None or float(rate.group(1)) == 0:
        raise StartError("wrk got no answer")
    return {
        "rate": float(rate.group(1)),
        "requests": int(total.group(1)),
        "p50": _wrk_latency(out, "50%"),
        "p99": _wrk_latency(out, "99%"),
    }


def _wrk_latency(out, share):
    value, unit = re.search(re.escape(share) + r"\s+([\d.]+)(us|ms|s|m)", out).groups()
    return float(value) * WRK_UNITS[unit]


def handshakes(run, port, seconds):
    """Full TLS 1.3 handshakes, each on a connection of its own: (per second, how many).

    s_time counts whole seconds of the clock: it stops at the first that begins more than
    `-time` after its start. So the runner takes the time, and all clients end at the same moment.
    """
    argv = [find_tool("openssl"), "s_time", "-connect", f"{HOST}:{port}", "-new", "-tls1_3"]
    argv += ["-time", max(1, round(seconds))]
    logs = [run.file(f"s_time-{port}-{run.round}-{i}.log") for i in range(HANDSHAKE_CLIENTS)]
    began = time.monotonic()
    clients = [Process(argv, log, cpus=run.cpus("load")) for log in logs]
    try:
        for client in clients:
            if client.popen.wait(seconds + 20) != 0:
                raise StartError(f"openssl s_time: {client.tail()}")
        spent = time.monotonic() - began
    finally:
        for client in clients:
            client.stop()
    count = sum(s_time_count(log) for log in logs)
    return count / spent, count


def s_time_count(log):
    """The N of 'N connections in 1.23s; ...'."""
    with open(log, errors="replace") as text:
        found = re.search(r"(\d+) connections in", text.read())
    if found is None or int(found.group(1)) == 0:
        raise StartError("openssl s_time made no connection")
    return int(found.group(1))


def loadgen(run, mode, port, seconds, warm=WARM, **options):
    """Runs a measuring mode of loadgen and returns its JSON. Options as on its command line."""
    argv = [
        run.program("loadgen"),
        mode,
        "--json",
        "--to",
        f"{HOST}:{port}",
        "--ms",
        int(seconds * 1000),
        "--warm",
        int(warm * 1000),
    ]
    argv += _options(options)
    return json.loads(run_tool(argv, seconds + warm + 30, run.cpus("load")))


def _options(options):
    argv = []
    for name, value in options.items():
        if value is True:
            argv.append(f"--{name}")
        elif value is not False:
            argv += [f"--{name}", str(value)]
    return argv


class Background:
    """loadgen hold or stall, or a measuring mode that runs beside something else."""

    def __init__(self, run, mode, ports, **options):
        targets = ",".join(f"{HOST}:{port}" for port in ports)
        self.process = Process(
            [run.program("loadgen"), mode, "--to", targets, *_options(options)],
            run.file(f"loadgen-{mode}.log"),
            cpus=run.cpus("load"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def line(self):
        """The next line it prints; StartError when it ended instead."""
        text = self.process.popen.stdout.readline().decode().strip()
        if not text:
            raise StartError(f"loadgen: {self.process.tail() or 'ended'}")
        return text

    def count(self, word):
        """Waits for 'word N' and returns N."""
        text = self.line()
        if not text.startswith(word + " "):
            raise StartError(f"loadgen said '{text}' instead of '{word} N'")
        return int(text.split()[1])

    def ask(self):
        """Has hold echo a byte over every connection; returns how many answered."""
        self.process.popen.stdin.write(b"\n")
        self.process.popen.stdin.flush()
        return self.count("alive")

    def result(self, timeout):
        """Waits for the end of a measuring mode and returns its JSON."""
        out, _ = self.process.popen.communicate(timeout=timeout)
        if self.process.popen.returncode != 0:
            raise StartError(f"loadgen: {self.process.tail()}")
        return json.loads(out)

    def stop(self):
        self.process.stop()


class Origins:
    """The origins that stay up for the whole run: nginx with a small page, and bench/origin."""

    PAGE = "hello, world\\n"
    ECHO_PORTS = 8

    def __init__(self, run):
        self.http = free_port()
        self.echo = free_port(self.ECHO_PORTS)
        config = run.file("origin-nginx.conf")
        with open(config, "w") as out:
            out.write(f"""
worker_processes 1; daemon off; pid {run.file('origin-nginx.pid')}; error_log stderr crit;
events {{ worker_connections 16000; }}
worker_rlimit_nofile 17000;
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 3600;
    server {{ listen {HOST}:{self.http} backlog=4096; location / {{ return 200 "{self.PAGE}"; }} }}
}}
""")
        cpus = run.cpus("origin")
        self.processes = processes = [
            Process(
                [
                    run.program("origin"),
                    "--listen",
                    f"{HOST}:{self.echo}",
                    "--ports",
                    self.ECHO_PORTS,
                ],
                run.file("origin.log"),
                cpus=cpus,
            )
        ]
        wait_listening(self.echo, processes)
        if find_tool("nginx"):
            processes.append(
                Process(
                    [find_tool("nginx"), "-e", "stderr", "-c", config],
                    run.file("origin-nginx.log"),
                    cpus=cpus,
                )
            )
            wait_listening(self.http, processes)

    def pin(self, cpus):
        for pid in pids_of(self.processes):
            os.sched_setaffinity(pid, cpus)
