"""documents: what a reader is told to type, taken from the documents themselves.

A fenced block says what is in it by its first word:

    sh        commands, each as it stands; on a machine of its own that has the repository
    console   a session on one or more machines: `server$ command` (or `#` for root) and, below it,
              what the command prints. `...` stands for whatever; everything else is as printed
    text ini frame   no commands

Indented blocks are not used, since nobody could say which of these they are. What stands between
back quotes in the prose and begins like one of our programs is a command, too.
"""
import re
from typing import NamedTuple

KINDS = {"sh", "console", "text", "ini", "frame"}
PROMPT = re.compile(r"^(\w+)([$#]) (.+)$")
# As a person sees it: a comment has two blanks or more before it.
COMMENT = re.compile(r"\s{2,}#.*$")
OURS = re.compile(r"^(?:culvert|(?:tools|tests|bench|build)/[\w./-]*\w)(?: |$)")


class Command(NamedTuple):
    document: str
    line: int
    section: str
    machine: str
    text: str
    prints: list  # lines, in their order

    def where(self):
        return f"{self.document}:{self.line}: {self.text}"


class Span(NamedTuple):
    """A command within the prose."""
    document: str
    line: int
    text: str

    def is_synopsis(self):
        """With places to be filled in."""
        return bool(re.search(r"[\[\]*|]|\.\.\.|\b[A-Z][A-Z-]*\b", self.text))

    def where(self):
        return f"{self.document}:{self.line}: `{self.text}`"


class BadDocument(Exception):
    pass


class Document:
    def __init__(self, name, text):
        self.name, self.commands, self.spans, self.prose = name, [], [], []
        self.section, self.kind, self.block, self.block_line = "", None, [], 0
        for number, line in enumerate(text.splitlines(), 1):
            self.take(number, line)
        if self.kind:
            self.bad(number, "a block without an end")

    def bad(self, number, what):
        raise BadDocument(f"{self.name}:{number}: {what}")

    def take(self, number, line):
        if line.startswith("```"):
            self.fence(number, line[3:].split(" ")[0])
        elif self.kind:
            self.block.append(line)
        else:
            self.outside(number, line)

    def fence(self, number, kind):
        if self.kind:
            {"sh": self.sh, "console": self.console}.get(self.kind, lambda: None)()
            self.kind = None
            return
        if kind not in KINDS:
            self.bad(number, f"a block of kind '{kind}'; kinds are {', '.join(sorted(KINDS))}")
        self.kind, self.block, self.block_line = kind, [], number

    def outside(self, number, line):
        if re.match(r" {4,}\S", line):
            self.bad(number, "an indented block: give it a fence that says what is in it")
        if heading := re.match(r"#+ (.*)", line):
            self.section = heading[1]
        self.prose.append((number, line))
        for text in re.findall(r"`([^`]+)`", line):
            if OURS.match(text):
                self.spans.append(Span(self.name, number, text.replace("\\|", "|")))

    def add(self, number, machine, text, prints=()):
        self.commands.append(Command(self.name, number, self.section, machine,
                                     COMMENT.sub("", text), list(prints)))

    def joined(self):
        """(number, line), where a line that ends with a backslash goes on with the next one."""
        lines = iter(enumerate(self.block, self.block_line + 1))
        for number, line in lines:
            while line.endswith("\\"):
                line = line[:-1].rstrip() + " " + next(lines)[1].strip()
            yield number, line

    def sh(self):
        for number, line in self.joined():
            if line.strip() and not line.startswith("#"):
                self.add(number, "here", line)

    def console(self):
        for number, line in self.joined():
            if found := PROMPT.match(line):
                self.add(number, found[1], found[3])
            elif not line.strip():
                continue
            elif not self.commands or self.commands[-1].line < self.block_line:
                self.bad(number, "a console block begins with a prompt")
            else:
                self.commands[-1].prints.append(line)
