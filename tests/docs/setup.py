"""setup: tools/setup where there is no dpkg, and what it needs is there, or is not."""
# The same programs, but for some, which are put back for the next situation.
PROGRAMS = """mkdir programs && ln -sf /usr/bin/* /usr/sbin/* /bin/* programs/ &&
rm -f programs/dpkg* programs/apt* && printf '#!/bin/sh\\nexit 1\\n' >false && chmod +x false"""
SETUP = "PATH=$PWD/programs tools/setup"
OLD_LIBRARY = "ln -sf $PWD/false programs/pkg-config"

# (what is the matter, before, flag, exit status, what is said)
SITUATIONS = [
    ("all is there", "true", "--build", 0, ""),
    ("no curl", "mv programs/curl .", "--test", 0, "tests are skipped that need:"),
    ("no CMake", "mv programs/cmake .", "--build", 3, "cmake, which Debian has in: gcc"),
    ("a library is too old", OLD_LIBRARY, "--build", 3, "liburing >= 2.3, wolfssl, "),
]


def check(a_world):
    machine, errors = a_world.machines["here"], []
    machine.run(PROGRAMS)
    for what, before, flag, code, said in SITUATIONS:
        machine.run(before)
        running = machine.start(f"{SETUP} {flag}")
        if running.finish() != code or said not in running.said or (not said and running.said):
            errors.append(f"{what}: exit status {running.process.returncode}, not {code}, or not "
                          f"'{said}'; it said:\n{running.said}")
    print(f"{len(SITUATIONS)} situations, {len(errors)} errors")
    return errors
