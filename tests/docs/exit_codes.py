"""exit_codes: each row of the documents' table of exit codes is what happens."""
import concurrent.futures
import queue
import re

from world import Failed

TOKEN = "a-token-of-the-documents-test"
CLIENT = "culvert client --server 127.0.0.1:9000 --local 3000 --token-file token"
QUICK = "--reconnect-attempts 1 --reconnect-first 250ms"


def ends(text):
    """A command that ends by itself."""
    def situation(machine):
        return machine.start(text).finish()
    return situation


def beside_server(text, server="culvert server --token-file token"):
    """A command beside a server, on the same machine, that ends by itself."""
    def situation(machine):
        running = machine.start(server)
        running.expect("^listening: ")
        code = machine.start(text).finish()
        running.interrupt()
        return code
    return situation


def interrupted(text, line):
    """A command that is told to end when it has said a line, beside a server."""
    def situation(machine):
        server = machine.start("culvert server --token-file token")
        server.expect("^listening: ")
        running = machine.start(text)
        running.expect(line)
        code = running.interrupt()
        server.interrupt()
        return code
    return situation


def server_stops(machine):
    running = machine.start("culvert server --token-file token")
    running.expect("^listening: ")
    return running.interrupt()


def server_ends_below(text):
    """The end of a client whose server ends."""
    def situation(machine):
        server = machine.start("culvert server --token-file token")
        server.expect("^listening: ")
        client = machine.start(text)
        client.expect("^ready: ")
        server.interrupt()
        return client.finish()
    return situation


# (code, what happens, how)
SITUATIONS = [
    (0, "a server is told to stop", server_stops),
    (0, "a client is told to stop", interrupted(CLIENT, "^ready: ")),
    (0, "the version", ends("culvert version")),
    (0, "the demo's check", ends("culvert demo --once --size 1M --requests 64")),
    (1, "the server ends, --no-reconnect", server_ends_below(f"{CLIENT} --no-reconnect")),
    (1, "nobody says whether the server is to be trusted", beside_server(
        f"{CLIENT} --tls", "culvert server --tls --token-file token")),
    (2, "an unknown flag", ends("culvert server --no-such-flag")),
    (2, "an unknown command", ends("culvert no-such-command")),
    (2, "a value out of range", ends("culvert server --start-port 70000")),
    (2, "an empty token file", ends(": >empty; culvert server --token-file empty")),
    (2, "a weak token for another machine", ends(
        "culvert client --server 192.0.2.9:9000 --local 3000 --token short")),
    (3, "a token file that is not there", ends("culvert server --token-file no-such-file")),
    (3, "a CA file that is not there", ends(f"{CLIENT} --tls-ca no-such-file")),
    (3, "the address is in use", beside_server("culvert server --token-file token")),
    (3, "a limit that is too low", ends(
        "ulimit -v 100000 && exec culvert server --token-file token")),
    (4, "nobody is at the server's address", ends(f"{CLIENT} {QUICK}")),
    (4, "the same, and no second try", ends(f"{CLIENT} --no-reconnect")),
    (4, "a server that was there does not come again", server_ends_below(f"{CLIENT} {QUICK}")),
    (5, "a wrong token", beside_server(f"{CLIENT.replace('--token-file token', '')} "
                                       "--token another-token-than-that")),
    (6, "one of two ports is not allowed", interrupted(
        f"{CLIENT} --local 3001 --port 10000 --port 80", "not allowed")),
    (6, "no port is allowed, --no-reconnect", beside_server(
        f"{CLIENT} --port 80 --no-reconnect")),
]


def rows(text):
    """{code: meaning} of the table below the heading "Exit codes"."""
    section = re.search(r"^## Exit codes\n(.*?)^## ", text, re.M | re.S)[1]
    return {int(code): meaning for code, meaning in
            re.findall(r"^\| (\d+) \| ([^|]+?) \|", section, re.M)}


def check(a_world, source, table):
    documented = rows((source / "docs/OPERATIONS.md").read_text(encoding="utf-8"))
    errors = []
    for code in sorted({*documented, *table.exits, *(row[0] for row in SITUATIONS)}):
        if not (code in documented and code in table.exits and
                any(row[0] == code for row in SITUATIONS)):
            errors.append(f"exit code {code}: not in OPERATIONS.md, the help, and SITUATIONS")
    machines = queue.SimpleQueue()
    for machine in a_world.machines.values():
        machine.run(f"umask 077; echo {TOKEN} >token")
        machines.put(machine)
    with concurrent.futures.ThreadPoolExecutor(machines.qsize()) as pool:
        seen = pool.map(lambda row: try_on(machines, row[2]), SITUATIONS)
    errors += [f"{what}: {code}, not {wanted}"
               for (wanted, what, _), code in zip(SITUATIONS, seen) if code != wanted]
    print(f"{len(SITUATIONS)} situations, {len(errors)} errors")
    return errors


def try_on(machines, situation):
    """On a machine on which nothing runs."""
    machine = machines.get()
    try:
        return situation(machine)
    except Failed as failed:
        return failed
    finally:
        machine.end_all()
        machines.put(machine)
