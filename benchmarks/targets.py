"""``make bench``, second part: start-up, listing, small files at latency and memory, each against its target."""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import ours
from benchmarks.bench import Bench, alternately, bench
from benchmarks.data import Data, cached, distinct_files, one_file, repeated_files
from benchmarks.measure import CommandFailed, Cost
from benchmarks.rounds import Figures, figures, say

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """One promise and its measurement.

    Attributes:
        what: the promise, in words.
        target: in words, such as ``at most 1.25``.
        measured: in words.
        is_met: whether it holds.
    """

    what: str
    target: str
    measured: str
    is_met: bool


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. The defaults are those of the published page; a test uses less.

    Attributes:
        keys: in the listed bucket.
        small_files: of 50 events, read at 20 ms of latency.
        many_files, few_files: memory for the former must not exceed that for the latter.
        large_bytes: decompressed size of the one large file.
        rounds: how often each is measured.
    """

    keys: int = 100_000
    small_files: int = 2_000
    many_files: int = 100_000
    few_files: int = 100
    large_bytes: int = 5_000_000_000
    rounds: int = 3


def start_up(root: Path, sizes: Sizes) -> list[Target]:
    """A run with nothing to do, compared with an empty job; then the same if the bucket holds many known keys."""
    few = cached(root / "data", "start-up", lambda folder: distinct_files(folder, events=1_000, files=10))
    many = cached(
        root / "data",
        f"{sizes.keys}-files-of-1",
        lambda folder: repeated_files(folder, files=sizes.keys, events_each=1),
    )
    targets = []
    with bench(root, {"few": few, "many": many}) as place:
        say(f"start-up with {few.files} known files")
        empty, idle = _idle(place, "few", few, sizes.rounds + 2)
        ratio = idle.wall_seconds / empty.wall_seconds
        targets.append(
            Target(
                "Wall time of a run with nothing owed, relative to an empty Dagster job",
                "at most 1.25",
                f"{ratio:.2f} ({idle.wall_seconds:.2f} s and {empty.wall_seconds:.2f} s; CPU {idle.cpu_seconds:.2f} s "
                f"and {empty.cpu_seconds:.2f} s)",
                ratio <= 1.25,
            )
        )
        say(f"start-up with {many.files:,} known files")
        empty, idle = _idle(place, "many", many, sizes.rounds)
        more = idle.cpu_seconds - empty.cpu_seconds
        targets.append(
            Target(
                f"CPU of a listing of {many.files:,} keys with nothing new, above the empty job",
                "under 1 s",
                f"{more:.2f} s (wall {idle.wall_seconds:.2f} s and {empty.wall_seconds:.2f} s)",
                more < 1,
            )
        )
    return targets


def _idle(place: Bench, bucket: str, data: Data, rounds: int) -> tuple[Figures, Figures]:
    """An empty job, and a run that finds nothing new, in a project to which all of *data* was delivered."""
    folder = place.project(bucket)
    place.cost(ours.data_path_command(bucket, max_files=data.files), folder)
    # Moves the cursor past the last key.
    place.cost(ours.export_command(), folder)
    empty, idle = alternately(
        rounds,
        lambda: place.cost(ours.empty_command(), folder),
        lambda: place.cost(ours.export_command(), folder),
    )
    return figures(empty), figures(idle)


def small_files(root: Path, sizes: Sizes) -> list[Target]:
    """Many small files from a server with a latency of 20 ms."""
    data = cached(
        root / "data",
        f"{sizes.small_files}-files-of-50",
        lambda folder: repeated_files(folder, files=sizes.small_files, events_each=50),
    )
    with bench(root, {"small": data}, latency_ms=20, options={"max_files": data.files}) as place:
        say(f"{data.files:,} small files at 20 ms, without Dagster")
        times = []
        for _ in range(sizes.rounds):
            command = ours.data_path_command("small", max_files=data.files)
            place.exports("small", data, rounds=1, command=command)
            times.append(place.times()["read"][0])
        rate = data.files / sorted(times)[len(times) // 2]
        say("with Dagster")
        whole = figures(place.exports("small", data, rounds=sizes.rounds))
    return [
        Target(
            f"Reading and staging {data.files:,} files of 50 events at 20 ms of latency",
            "at least 1,000 files/s",
            f"{rate:,.0f} files/s (whole `export_job`, delivery and start-up included: {whole.wall_seconds:.1f} s, "
            f"{data.files / whole.wall_seconds:,.0f} files/s)",
            rate >= 1_000,
        )
    ]


def memory(root: Path, sizes: Sizes) -> list[Target]:
    """Peak memory of the whole run, less that of an empty job, for few files, many files and large ones."""
    kinds = {
        f"{sizes.few_files:,} files of 2,000 events": (
            f"{sizes.few_files}-files-of-2000",
            lambda folder: repeated_files(folder, files=sizes.few_files, events_each=2_000),
        ),
        f"{sizes.many_files:,} files of 10 events": (
            f"{sizes.many_files}-files-of-10",
            lambda folder: repeated_files(folder, files=sizes.many_files, events_each=10),
        ),
        f"one gzip file of {sizes.large_bytes / 1e9:g} GB": (
            f"one-gzip-file-of-{sizes.large_bytes}",
            lambda folder: one_file(folder, unpacked_bytes=sizes.large_bytes, compressed=True),
        ),
        f"one plain file of {sizes.large_bytes / 1e9:g} GB": (
            f"one-plain-file-of-{sizes.large_bytes}",
            lambda folder: one_file(folder, unpacked_bytes=sizes.large_bytes, compressed=False),
        ),
    }
    targets = []
    for what, (name, make) in kinds.items():
        data = cached(root / "data", name, make)
        say(f"memory: {what}")
        with bench(root, {"bench": data}, options={"max_files": sizes.many_files}) as place:
            empty = place.cost(ours.empty_command(), place.project("bench"))
            try:
                (cost,) = place.exports("bench", data, rounds=1)
            except CommandFailed as error:
                targets.append(Target(f"Memory above the empty job: {what}", "at most 200 MiB", str(error), False))
                continue
        targets.append(_memory_target(what, cost, empty, data))
    return targets


def _memory_target(what: str, cost: Cost, empty: Cost, data: Data) -> Target:
    more = (cost.peak_bytes - empty.peak_bytes) / _MIB
    return Target(
        f"Memory above the empty job: {what}",
        "at most 200 MiB",
        f"{more:.0f} MiB ({cost.peak_bytes / _MIB:.0f} and {empty.peak_bytes / _MIB:.0f} MiB; "
        f"{cost.wall_seconds:.1f} s, {data.events / cost.wall_seconds:,.0f} events/s)",
        more <= 200,
    )


def main() -> None:
    """Measure each and save the results for the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(".bench"))
    parser.add_argument("--large-bytes", type=int, default=Sizes().large_bytes)
    given = parser.parse_args()
    root = given.root.absolute()
    sizes = Sizes(large_bytes=given.large_bytes)
    found = [*start_up(root, sizes), *small_files(root, sizes), *memory(root, sizes)]
    results = root / "results"
    results.mkdir(exist_ok=True)
    (results / "targets.json").write_text(json.dumps([asdict(target) for target in found], indent=1))


if __name__ == "__main__":
    main()
