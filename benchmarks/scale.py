"""``make bench-scale``: how wall, CPU and memory of ``export_job`` grow with files, subscribers and file sizes."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks import ours
from benchmarks.bench import Bench, bench
from benchmarks.data import Data, cached, distinct_files, one_file, repeated_files
from benchmarks.measure import CommandFailed
from benchmarks.rounds import Figures, figures, say, undisturbed

BUCKET = "bench"
FILES = "files in the bucket, 10 events each, all new"
KNOWN = "files in the bucket, none of them new"
SUBSCRIBERS = "subscribers, 50,000 events in 100 files"
SIZE = "bytes of one gzip file, decompressed"


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement.

    Attributes:
        series: one of the constants above.
        x: files, subscribers or bytes.
        events: delivered to each subscriber.
        figures: of whole runs; None if the run failed.
        failure: why it failed.
    """

    series: str
    x: int
    events: int
    figures: Figures | None
    failure: str = ""


def by_files(root: Path, counts: Sequence[int], rounds: int) -> Iterator[Point]:
    """All files new, then none."""
    for count in counts:
        make = partial(repeated_files, files=count, events_each=10)
        data = cached(root / "data", f"{count}-files-of-10", make)
        with bench(root, {BUCKET: data}, options={"max_files": count}) as place:
            say(f"{count:,} new files")
            yield _exported(FILES, count, data, place, rounds)
            say(f"{count:,} known files")
            costs = [
                undisturbed(lambda: place.cost(ours.export_command(), place.project_folder)) for _ in range(rounds)
            ]
            yield Point(KNOWN, count, data.events, figures(costs))


def by_subscribers(root: Path, counts: Sequence[int], rounds: int) -> Iterator[Point]:
    """The same events to one subscriber, and to more."""
    data = cached(root / "data", "subscribers", partial(distinct_files, events=50_000, files=100))
    for count in counts:
        say(f"{count} subscribers")
        with bench(root, {BUCKET: data}, subscribers=count) as place:
            yield _exported(SUBSCRIBERS, count, data, place, rounds)


def by_size(root: Path, sizes: Sequence[int], rounds: int) -> Iterator[Point]:
    """One file, small and large."""
    for size in sizes:
        say(f"one file of {size:,} bytes")
        make = partial(one_file, unpacked_bytes=size, compressed=True)
        data = cached(root / "data", f"one-gzip-file-of-{size}", make)
        with bench(root, {BUCKET: data}) as place:
            yield _exported(SIZE, size, data, place, rounds)


def _exported(series: str, x: int, data: Data, place: Bench, rounds: int) -> Point:
    try:
        costs = place.exports(BUCKET, data, rounds=rounds)
    except CommandFailed as error:
        say(f"  failed: {error}")
        return Point(series, x, data.events, None, str(error))
    return Point(series, x, data.events, figures(costs))


def main() -> None:
    """Measure each series and keep the results for the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(".bench"))
    parser.add_argument("--files", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--subscribers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**n for n in range(4, 10)])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    root = given.root.absolute()
    points = [
        *by_size(root, given.sizes, given.rounds),
        *by_subscribers(root, given.subscribers, given.rounds),
        *by_files(root, given.files, given.rounds),
    ]
    results = root / "results"
    results.mkdir(exist_ok=True)
    (results / "scale.json").write_text(json.dumps([asdict(point) for point in points], indent=1))


if __name__ == "__main__":
    main()
