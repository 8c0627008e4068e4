"""``make bench``, first part: compares this project with others, from a bucket to NDJSON on a disk."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from benchmarks import data, ours
from benchmarks.account import Account, account_of
from benchmarks.bucket import read_index, write_index
from benchmarks.environments import Environment, NotInstalled, environment
from benchmarks.machine import WARM_BYTES, warm_memory
from benchmarks.measure import CommandFailed, Cost, measured
from benchmarks.rounds import TRIES, say, undisturbed
from benchmarks.serving import Server, answers_per_second, serving
from benchmarks.task import BUCKET, Task, Way, environ
from benchmarks.ways import WAYS

_SLOW_SECONDS = 10


@dataclass(slots=True)
class Row:
    """The result of one way.

    Attributes:
        failure: why it was not measured; empty if it was.
        events: how many were produced.
        is_exact: every event was produced with its bytes unchanged.
        costs: of every counted run, by milliseconds of latency.
        parts: of those without latency: part of the data path → wall and CPU seconds.
    """

    name: str
    what: str
    version: str = ""
    failure: str = ""
    events: int = 0
    is_exact: bool = False
    costs: dict[int, list[Cost]] = field(default_factory=dict)
    parts: list[dict[str, tuple[float, float]]] = field(default_factory=list)

    @property
    def is_slow(self) -> bool:
        """It takes so long already that it is not measured with latency."""
        return any(cost.wall_seconds > _SLOW_SECONDS for cost in self.costs.get(0, []))


class WrongResult(Exception):
    """A way succeeded, but with a different number of events than in the bucket."""


@dataclass(frozen=True, slots=True)
class Race:
    """The participants and the conditions.

    Attributes:
        root: for environments, work and the commands' output.
        data: the bucket.
        expected: the correct result.
        ways: the participants.
        warm_up: whether each runs once without counting.
        rounds: how often each run counts.
        tries: how often a disturbed run is made at most.
        warm_bytes: free memory that is really available at each run.
    """

    root: Path
    data: data.Data
    expected: Account
    ways: Sequence[Way]
    warm_up: bool
    rounds: int
    tries: int = TRIES
    warm_bytes: int = WARM_BYTES

    def run(self, latencies_ms: Sequence[int]) -> tuple[list[Row], float]:
        """Every way's row, in the order given, and how many GETs a second the server answers."""
        rows = [Row(way.name, way.what) for way in self.ways]
        installed = [self._install(way, row) for way, row in zip(self.ways, rows, strict=True)]
        speed = 0.0
        for latency_ms in latencies_ms:
            with serving(self._buckets(), latency_ms=latency_ms) as server:
                if not latency_ms:
                    keys = [entry.key for entry in read_index(self.data.index)]
                    speed = answers_per_second(server, BUCKET, keys)
                if any(way.is_ours for way in self.ways):
                    ours.make_template(self.root / "template", server, options={"max_files": self.data.files})
                for number in range(self.rounds + self.warm_up):
                    is_counted = number >= self.warm_up
                    say(f"latency {latency_ms} ms, {f'round {number}' if is_counted else 'warming up'}")
                    for way, found, row in zip(self.ways, installed, rows, strict=True):
                        if not row.failure and not (latency_ms and row.is_slow):
                            self._take_part(way, found, row, server, latency_ms if is_counted else None)
        return rows, speed

    def _install(self, way: Way, row: Row) -> Environment | None:
        found = None
        if way.requirements:
            say(f"installing {', '.join(way.requirements)}")
            folder = self.root / "environments" / way.requirements[0].partition("=")[0].partition("[")[0]
            try:
                found = environment(folder, way.requirements)
            except NotInstalled as error:
                row.failure = f"could not be installed: {error}"
                return None
        if way.package:
            row.version = found.versions[way.package] if found else version(way.package)
        return found

    def _take_part(self, way: Way, found: Environment | None, row: Row, server: Server, latency_ms: int | None) -> None:
        """One run of one way, which counts if a latency is given."""
        task = Task(server, self.data.index, self.data.files, self.root / "template", self.root / "work" / "race")

        def run() -> Cost:
            task.prepare()
            command = way.command(task, found)
            with warm_memory(self.warm_bytes):
                cost = measured(
                    command.arguments,
                    log=self.root / "work" / "race.log",
                    environ={**environ(task), **command.environ},
                    folder=task.folder,
                    server_pid=server.pid,
                )
            self._check(way, row, task)
            return cost

        try:
            cost = run() if latency_ms is None else undisturbed(run, tries=self.tries)
        except (CommandFailed, WrongResult) as error:
            row.failure = str(error)
            say(f"  {way.name}: {error}")
            return
        if latency_ms is not None:
            row.costs.setdefault(latency_ms, []).append(cost)
            if latency_ms == 0 and (task.folder / "times.json").exists():
                row.parts.append(json.loads((task.folder / "times.json").read_text()))
        say(
            f"  {way.name}: {cost.wall_seconds:.2f} s, CPU {cost.cpu_seconds:.2f} s, {cost.peak_bytes / 1e6:.0f} MB, "
            f"others took {cost.foreign_cores:.2f} cores"
        )

    def _check(self, way: Way, row: Row, task: Task) -> None:
        if not way.delivers:
            return
        found = account_of(way.produced(task.folder), begins=way.begins)
        if found.events != self.expected.events:
            raise WrongResult(f"{found.events:,} of {self.expected.events:,} events came out")
        row.events, row.is_exact = found.events, found.checksum == self.expected.checksum

    def _buckets(self) -> dict[str, Path]:
        empty = self.root / "data" / "empty.tsv"
        write_index(empty, [])
        return {BUCKET: self.data.index, ours.EMPTY_BUCKET: empty}


def prepared(root: Path, *, events: int, files: int, framing: str = "lines") -> tuple[data.Data, Account]:
    """The bucket, and the correct result."""
    name = f"{events}-events-in-{files}-{framing}"
    found = data.cached(
        root / "data", name, lambda folder: data.distinct_files(folder, events=events, files=files, framing=framing)
    )
    return found, Account(events, int(found.checksum, 16))


def main() -> None:
    """Run the comparison and save its results for the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(".bench"))
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-ms", type=int, nargs="+", default=[0, 20])
    parser.add_argument("--tries", type=int, default=TRIES, help="of a run that was disturbed")
    parser.add_argument("--only", default="", help="part of the names of the ways to run")
    given = parser.parse_args()
    bucket, expected = prepared(given.root, events=given.events, files=given.files)
    ways = [way for way in WAYS if given.only.lower() in way.name.lower()]
    race = Race(given.root.absolute(), bucket, expected, ways, warm_up=True, rounds=given.rounds, tries=given.tries)
    rows, speed = race.run(given.latency_ms)
    results = given.root / "results"
    results.mkdir(exist_ok=True)
    described = {"files": bucket.files, "events": bucket.events}
    described |= {"stored_bytes": bucket.stored_bytes, "unpacked_bytes": bucket.unpacked_bytes}
    (results / "compare.json").write_text(
        json.dumps({"data": described, "answers_per_second": speed, "rows": [asdict(row) for row in rows]}, indent=1)
    )


if __name__ == "__main__":
    main()
