"""netem: lanes over a path that loses, delays, doubles and reorders packets. Needs a kernel with netem: that of tools/lab has it.

The case has a network namespace of its own. In it, netem is on the loopback for one port only, that of the connections between client and proxy: visitors, origins and the server
are not touched. Packets are as small there as on a real path (mtu, gso_max_segs), or one loss would be 64 KiB.
"""
import os
import random
import subprocess

import net
from cases.paths import behind
from cases.resume import GRACE, V1, Load
from harness import Skip, case, check_equal, enter_private_network, find_tool

KIB = 1 << 10
PATH = "delay 25ms 1ms loss 1% duplicate 1% reorder 2%"  # each way


def run(*words):
    tool, *arguments = " ".join(words).split()
    done = subprocess.run([find_tool(tool), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise net.NetError(f"{' '.join(words)}: {done.stderr.strip()}")


def bad_path(port):
    """From now on packets from and to this port of the loopback take PATH."""
    run("ip link set lo mtu 1500 gso_max_segs 1")
    run("tc qdisc add dev lo root handle 1: prio bands 2 priomap", "0 " * 16)
    run("tc qdisc add dev lo parent 1:2 handle 2: netem limit 1000", PATH)
    for side in ("sport", "dport"):
        run(f"tc filter add dev lo parent 1: protocol ip u32 match ip {side} {port} 0xffff flowid 1:2")


def try_netem():
    try:
        run("tc qdisc add dev lo root netem delay 1ms")
        run("tc qdisc del dev lo root")
    except net.NetError as error:
        if "LAB_DIR" in os.environ:
            raise  # that kernel has it
        raise Skip("this kernel has no netem: tools/lab has one that does") from error


@case(not_in=V1, needs=["ip", "tc"], deadline=600)
def netem_cuts(t):
    """Eight checked streams over such a path, and every now and then a connection is cut: every byte is right, no stream ends early."""
    rng = random.Random(t.seed)
    enter_private_network()
    try_netem()
    server, proxy, client = behind(t, t.origin(net.echo), *GRACE, "--heartbeat", "1s", server_flags=[*GRACE, "--heartbeat", "1s"])
    t.lanes_up(server)
    bad_path(proxy.addr[1])
    load = Load(client.addr, 8, 64 * KIB)
    cuts = t.size(10, 5, 100)
    for _ in range(cuts):
        since, some = load.done, rng.randint(2, 12)
        t.until(lambda: load.done >= since + some or any(task.error for task in load.tasks), "streams that end")
        alive = [link for link in proxy.links if link.alive]
        if alive:
            rng.choice(alive).cut(rng.random() < 0.5)
    load.join()
    check_equal(client.out.count("ready:"), 1, "sessions")
    t.note = f"seed {t.seed}, {cuts} cuts, {load.done} streams of {load.size // KIB} KiB"
