"""The task: from a bucket to NDJSON on a disk; and the description of a way to do it."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import ours
from benchmarks.environments import Environment
from benchmarks.serving import Server, login

BUCKET = "bench"


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Attributes:
        server: where the files are, in BUCKET below ``events/``.
        index: of the bucket.
        files: how many.
        template: a project of ours to copy.
        folder: where to work, fresh; output goes below ``out/``.
    """

    server: Server
    index: Path
    files: int
    template: Path
    folder: Path

    @property
    def output(self) -> Path:
        """The output file of most ways."""
        return self.folder / "out" / "events.ndjson"

    def prepare(self) -> None:
        """An empty folder to work in."""
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "out").mkdir(parents=True)


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a way.

    Attributes:
        arguments: the command line.
        environ: variables in addition to those of every command.
    """

    arguments: list[str]
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Way:
    """One way.

    Attributes:
        name: as the table shows it.
        what: a sentence about what it does and does not do.
        command: creates its command, and writes the files that it needs.
        package: whose version the table shows; empty: none.
        requirements: for its environment; empty if it needs none.
        produced: the files with its events, found in its folder.
        begins: how lines with an event begin.
        delivers: whether it produces events at all.
        is_ours: runs in a copy of the project's template.
    """

    name: str
    what: str
    command: Callable[[Task, Environment | None], Command]
    package: str = ""
    requirements: tuple[str, ...] = ()
    produced: Callable[[Path], list[Path]] = lambda folder: [folder / "out" / "events.ndjson"]
    begins: bytes = b"{"
    delivers: bool = True
    is_ours: bool = False


def environ(task: Task) -> dict[str, str]:
    """The environment variables of every command."""
    return ours.environment(None, task.folder) | login(task.server)
