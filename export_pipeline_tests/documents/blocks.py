"""The fenced blocks of README and docs, and which test looks after each.

A block is run, read by the parser it is meant for, or marked in the page, by a comment on the line above it:

    <!-- not run: why not -->             then it must really be something that cannot be run in a test
    <!-- output of: what printed it -->   then a test compares it with what is printed today
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
REPOSITORY = "https://github.com/export-pipeline/export_pipeline"
"""Its address, as pyproject.toml has it."""
CHECKED = {"sh", "yaml", "yml", "python", "javascript", "toml", "ini", "json", "sql"}
"""Languages whose unmarked blocks a test runs or parses: the tests beside this file say how."""

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>.*)$")
_MARK = re.compile(r"<!-- (not run|output of): (.+) -->")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Attributes:
        page: file name of the page.
        line: number of the line that opens it.
        language: as it is written behind the fence; empty where nothing is.
        text: what is between the fences, without the indent of the list it stands in.
        mark: ``not run``, ``output of``, or empty.
        reason: what the mark says.
    """

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    reason: str = ""

    @property
    def place(self) -> str:
        """Where the block is: page and line."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str:
        """The path in a first line such as ``# my_package/spool.py``; empty if there is none."""
        found = re.match(r"(?:#|//) (\S+)\n", self.text)
        return found[1] if found else ""

    @property
    def problem(self) -> str:
        """Why no test covers this block; empty if one does."""
        if self.mark:
            return "" if len(self.reason) >= 8 else "its mark gives no reason"
        if self.language in CHECKED:
            return ""
        return f"{self.language or 'no language'}: no test runs or parses such a block, and nothing says why not"

    @property
    def commands(self) -> list[str]:
        """The command lines of a block of shell, without comments; lines that go on are joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        stripped = (re.sub(r"(^|\s+)# .*$", "", line).strip() for line in lines)
        return [line for line in stripped if line]


def blocks_of(name: str, text: str) -> Iterator[Block]:
    """Every block of a page, however it is fenced and indented.

    Raises:
        ValueError: a fence is never closed.
    """
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        opening = _FENCE.match(lines[at])
        at += 1
        if opening is None:
            continue
        start, indent, fence = at, opening["indent"], opening["fence"]
        while at < len(lines) and not re.fullmatch(rf" *{fence[0]}{{{len(fence)},}} *", lines[at]):
            at += 1
        if at == len(lines):
            raise ValueError(f"{name}:{start}: the block is never closed")
        inner = "".join(line.removeprefix(indent) + "\n" for line in lines[start:at])
        mark = _MARK.fullmatch(lines[start - 2].strip()) if start > 1 else None
        yield Block(name, start, opening["info"].strip(), inner, *(mark.groups() if mark else ()))
        at += 1


def path_in_repository(target: str) -> str | None:
    """The path, with its heading, that an absolute link to this repository leads to; None where it leads elsewhere."""
    start = f"{REPOSITORY}/blob/main/"
    return target.removeprefix(start) if target.startswith(start) else None


def all_blocks(*languages: str, marked: bool = False) -> list[Block]:
    """The blocks of all pages in some languages, or in any; those with a mark only where asked for."""
    found = [block for page in PAGES for block in blocks_of(page.name, page.read_text(encoding="utf-8"))]
    return [block for block in found if (not languages or block.language in languages) and (marked or not block.mark)]


def block_of_file(path: str) -> Block:
    """The one block whose first line names a file."""
    (found,) = (block for block in all_blocks(marked=True) if block.file == path)
    return found


def commands(program: str) -> list[str]:
    """Every command line that begins with a program, of all pages, each once, in order."""
    lines = [line for block in all_blocks("sh") for line in block.commands]
    return list(dict.fromkeys(line for line in lines if line.split()[0] == program))
