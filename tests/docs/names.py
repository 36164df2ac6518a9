"""names: flags, files, functions, tests and sections that documents name are there."""
import pathlib
import re
import subprocess
from typing import NamedTuple

from documents import Document
from world import Failed

DOCUMENTS = ["README.md", "CHANGELOG.md", "bench/README.md"]

# Flags of other people's programs, and words for a flag.
FOREIGN = {
    "--flag": "any", "--secret": "a token that looks like a flag",
    "--security-opt": "docker run", "--prefix": "cmake --install", "--install": "cmake",
    "--build": "cmake", "--now": "systemctl",
    "--test-dir": "ctest", "--preset": "cmake", "--output-on-failure": "ctest",
}

FOLDERS = "bench|dist|docs|findings|src|tests|tools"
PATH = re.compile(rf"(?<![\w./-])((?:{FOLDERS})/[\w.*/-]*[\w*/])")
SOURCE_FILE = re.compile(r"(?<![\w./-])(\w+\.[ch])\b")
FLAG = re.compile(r"(?<![\w-])(--[a-z][a-z0-9-]*[a-z0-9])(?![\w*])")
TEST = re.compile(r"`((?:unit|sim|kernel|fault|lab|fuzz|install|lint)\.[\w-]+)`")
# A function, or several: `relay_*_done`. Elsewhere names with "_" are mostly the kernel's.
FUNCTION = re.compile(r"\b((?:lane|relay|stream|session|listener|worker|share)_[a-z_*]+)\b(?!\.)")
SECTION = re.compile(r'(?:(docs/\w+\.md)`?,|\((?:docs/)?(\w+\.md),|[Ss]ee)\s+("[^"]+"|section \d+)')


def typed(source):
    """The documents of which each command is typed."""
    return ["README.md", *sorted(f"docs/{path.name}" for path in (source / "docs").glob("*.md"))]


class Table:
    """What `culvert help table` says."""

    def __init__(self, culvert):
        self.commands, self.flags, self.exits, self.variables = [], {}, {}, []
        text = subprocess.run([culvert, "help", "table"], capture_output=True, text=True,
                              check=True).stdout
        for line in text.splitlines():
            getattr(self, "row_" + line.split("\t")[0])(*line.split("\t")[1:])

    def row_command(self, name, *_):
        self.commands.append(name)

    def row_flag(self, _, commands, name, *__):
        self.flags.setdefault("--" + name, set()).update(commands.split(","))

    def row_letter(self, letter, commands, _):
        self.flags.setdefault("-" + letter, set()).update(commands.split(","))

    def row_exit(self, code, text):
        self.exits[int(code)] = text

    def row_variable(self, name, _):
        self.variables.append(name)


class Place(NamedTuple):
    document: str
    line: int
    text: str


# ---------------------------------------------------------------------------- commands in the prose

def check_span(span, table, source):
    program, *words = span.text.split()
    if program != "culvert":
        check_tool(program, words, source)
        return
    command = next((word for word in words[:1] if re.match(r"[a-z]", word)), "client")
    if command not in table.commands:
        raise Failed(f"culvert has no command '{command}'")
    for flag in FLAG.findall(span.text):
        if command not in table.flags.get(flag, ()):
            raise Failed(f"culvert {command} has no flag {flag}")


def check_tool(program, words, source):
    if program.startswith("build/"):
        return  # made by the build; names of its programs are checked with their sources
    path = source / program
    if not path.exists():
        raise Failed(f"there is no {program}")
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        for flag in [word.partition("=")[0].strip("[]") for word in words if "--" in word]:
            if flag not in text:
                raise Failed(f"{program} has no flag {flag}")


def runs_to_its_end(span):
    """Commands that a test can run without anything else."""
    return not span.is_synopsis() and bool(re.match(
        r"culvert (help|version|gen-cert .|demo .*--once)", span.text))


# ---------------------------------------------------------------------------- names

class Names:
    def __init__(self, source, build, culvert):
        self.source, self.table = source, Table(culvert)
        self.texts = {path: path.read_text(encoding="utf-8") for path in self.paths()}
        sources = [path for folder in ("src", "tests", "bench") for path in
                   (source / folder).rglob("*.[ch]")]
        self.files = {path.name for path in sources}
        self.words = {word for path in sources
                      for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
        self.tool_flags = self.flags_of_tools()
        listing = subprocess.run(["ctest", "--test-dir", build, "-N"], capture_output=True,
                                 text=True, check=True).stdout
        self.tests = set(re.findall(r"Test +#\d+: (\S+)", listing))

    def paths(self):
        return [self.source / name for name in DOCUMENTS] + \
            sorted((self.source / "docs").glob("*.md"))

    def flags_of_tools(self):
        tools = [path for folder in ("tools", "bench", "tests/e2e", "tests/sim", "bench/runner")
                 for path in (self.source / folder).glob("*") if path.is_file()]
        return {flag for path in tools for flag in FLAG.findall(path.read_text(encoding="utf-8"))}

    def places(self, pattern, texts=None):
        for path, text in (texts or self.texts).items():
            for found in pattern.finditer(text):
                line = text.count("\n", 0, found.start()) + 1
                yield Place(str(path.relative_to(self.source)), line, found[1])

    def flags(self):
        for place in self.places(FLAG):
            if place.text not in self.table.flags and place.text not in self.tool_flags \
                    and place.text not in FOREIGN:
                yield place, "no program of ours has this flag"

    def files_named(self):
        for place in self.places(PATH):
            if not list(self.source.glob(place.text.rstrip("/"))):
                yield place, "there is no such file"
        for place in self.places(SOURCE_FILE):
            if place.text not in self.files:
                yield place, "there is no such source"

    def functions(self):
        texts = {path: text for path, text in self.texts.items() if path.name == "ARCHITECTURE.md"}
        for place in self.places(FUNCTION, texts):
            pattern = re.compile(place.text.replace("*", r"\w*") + "$")
            if not any(pattern.match(word) for word in self.words):
                yield place, "there is no such function"

    def tests_named(self):
        for place in self.places(TEST):
            if place.text not in self.tests:
                yield place, "there is no such test"

    def sections(self):
        """`docs/X.md`, "Section"; a paragraph may begin with its name."""
        for path, text in self.texts.items():
            for found in SECTION.finditer(text):
                name = found[1] or (f"docs/{found[2]}" if found[2] else None)
                where = self.source / name if name else path
                wanted = " ".join(found[3].strip('"').replace("section ", "").split())
                if not re.search(rf"^(#+ |- |\*\*|)(\d+\. )?{re.escape(wanted)}[.,\s]",
                                 self.texts.get(where, ""), re.M):
                    line = text.count("\n", 0, found.start()) + 1
                    yield (Place(str(path.relative_to(self.source)), line, found[3]),
                           f"there is no such section in {where.name}")

    def all_flags_documented(self):
        """Every flag of every command has a row of its own in OPERATIONS.md."""
        path = self.source / "docs/OPERATIONS.md"
        rows = "\n".join(line.split("|")[1] for line in self.texts[path].splitlines()
                         if line.startswith("|"))
        for flag in sorted(self.table.flags):
            if not re.search(rf"`{flag}[ `]", rows):
                yield Place("docs/OPERATIONS.md", 1, flag), "this flag has no row"
        for name in self.table.variables:
            if f"`{name}`" not in rows:
                yield Place("docs/OPERATIONS.md", 1, name), "this variable has no row"


def check_all(source, build, culvert):
    names = Names(source, build, culvert)
    errors = []
    for check in (names.flags, names.files_named, names.functions, names.tests_named,
                  names.sections, names.all_flags_documented):
        errors += [f"{place.document}:{place.line}: {place.text}: {what}"
                   for place, what in check()]
    for name in typed(source):
        Document(name, names.texts[source / name])  # every block says what is in it
    print(f"{len(names.texts)} documents, {len(errors)} errors")
    return errors
