"""Runs of this project alone: a place for them, and their costs."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import ours
from benchmarks.account import account_of
from benchmarks.bucket import write_index
from benchmarks.data import Data
from benchmarks.machine import warm_memory
from benchmarks.measure import Cost, measured
from benchmarks.rounds import say, undisturbed
from benchmarks.serving import Server, login, serving


class NotAllDelivered(Exception):
    """A run succeeded, but the subscriber has a different number of events than the bucket."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A running server, and a template of a project.

    Attributes:
        root: where projects are created.
        server: serves the buckets.
        template: to be copied for each run.
    """

    root: Path
    server: Server
    template: Path

    @property
    def project_folder(self) -> Path:
        """The folder of the last project."""
        return self.root / "work" / "project"

    def project(self, bucket: str) -> Path:
        """A new project that exports *bucket* and has delivered nothing yet."""
        folder = self.project_folder
        shutil.rmtree(folder, ignore_errors=True)
        ours.copy_project(self.template, folder, self.server, bucket=bucket)
        return folder

    def cost(self, command: list[str], folder: Path) -> Cost:
        """The cost of *command* in the project *folder*."""
        with warm_memory():
            cost = measured(
                command,
                log=self.root / "work" / "project.log",
                environ=ours.environment(None, folder) | login(self.server),
                folder=folder,
                server_pid=self.server.pid,
            )
        say(
            f"    {cost.wall_seconds:.2f} s, CPU {cost.cpu_seconds:.2f} s, {cost.peak_bytes / 1e6:.0f} MB, "
            f"others took {cost.foreign_cores:.2f} cores"
        )
        return cost

    def exports(self, bucket: str, data: Data, *, rounds: int, command: list[str] | None = None) -> list[Cost]:
        """The cost of exporting all of *bucket*, repeatedly from the beginning.

        Raises:
            NotAllDelivered: some events were not delivered.
        """
        return [undisturbed(lambda: self._export(bucket, data, command)) for _ in range(rounds)]

    def times(self) -> dict[str, tuple[float, float]]:
        """Wall and CPU seconds of each part of the last run of the data path."""
        found: dict[str, tuple[float, float]] = json.loads((self.project_folder / "times.json").read_text())
        return found

    def _export(self, bucket: str, data: Data, command: list[str] | None) -> Cost:
        folder = self.project(bucket)
        cost = self.cost(command or ours.export_command(), folder)
        found = account_of(ours.delivered(folder)).events
        if found != data.events:
            raise NotAllDelivered(f"{found:,} of {data.events:,} events came out")
        return cost


@contextmanager
def bench(
    root: Path,
    buckets: Mapping[str, Data],
    *,
    latency_ms: float = 0,
    subscribers: int = 1,
    options: Mapping[str, object] | None = None,
) -> Iterator[Bench]:
    """Serve *buckets* until the block exits."""
    empty = root / "data" / "empty.tsv"
    write_index(empty, [])
    indices = {name: data.index for name, data in buckets.items()} | {ours.EMPTY_BUCKET: empty}
    with serving(indices, latency_ms=latency_ms) as server:
        template = root / "template"
        ours.make_template(template, server, subscribers=subscribers, options=options)
        yield Bench(root, server, template)


def alternately(rounds: int, *commands: Callable[[], Cost]) -> list[list[Cost]]:
    """Each of *commands* in turn, *rounds* times, so that a slow moment of the machine affects all of them."""
    costs: list[list[Cost]] = [[] for _ in commands]
    for _ in range(rounds):
        for found, run in zip(costs, commands, strict=True):
            found.append(undisturbed(run))
    return costs
