"""The cost of a whole run to each destination, from the bucket to the receiver, above that of an empty Dagster job.

A destination is only a part of what an event costs: a run also lists, fetches, decompresses, validates, stages and
records. This is the figure that tells how many events a machine can export.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks import ours
from benchmarks.bench import Bench, NotAllDelivered, bench
from benchmarks.data import Data, cached, distinct_files
from benchmarks.markdown import table
from benchmarks.measure import CommandFailed, Cost
from benchmarks.rounds import figures, say, undisturbed

SUBSCRIBER = "main"
_FILES = 50


@dataclass(frozen=True, slots=True)
class Whole:
    """Whole runs to each subscriber.

    Attributes:
        bucket: what was exported, in words.
        cpu_us, wall_us: name → microseconds per event above those of an empty job, in the order of the page.
        notes: name → why there is no figure.
    """

    bucket: str
    cpu_us: Mapping[str, float]
    wall_us: Mapping[str, float]
    notes: Mapping[str, str]

    def shown(self, floor: str) -> list[str]:
        """The table, with rates relative to *floor*."""
        rows = [
            [name, f"{cpu:.1f}", f"{self.wall_us[name]:.1f}", f"{self.cpu_us[floor] / cpu:.2f}"]
            for name, cpu in self.cpu_us.items()
        ]
        rows += [[name, note, "", ""] for name, note in self.notes.items()]
        head = ["a whole run to", "CPU µs per event above empty", "wall µs per event above empty", f"rate ÷ {floor}"]
        return [*table(head, rows), "", self.bucket]


def whole_exports(root: Path, subscribers: Mapping[str, Mapping[str, Any]], *, events: int, rounds: int) -> Whole:
    """Export a bucket to each of *subscribers*, in turns.

    Args:
        subscribers: name on the page → the subscriber, as in a deployment file; ``{folder}`` and ``{run}`` in it are
            replaced by the project's folder and the round.
        events: number of events in the bucket.
        rounds: how often each is measured.
    """
    data = cached(
        root / "data", f"{events}-in-{_FILES}", lambda folder: distinct_files(folder, events=events, files=_FILES)
    )
    empty: list[Cost] = []
    found: dict[str, list[Cost]] = {name: [] for name in subscribers}
    notes: dict[str, str] = {}
    with bench(root, {"events": data}) as place:
        for run in range(rounds):
            # Its cost is subtracted from every other: more of them make it more precise.
            for _ in range(3):
                empty.append(undisturbed(lambda: place.cost(ours.empty_command(), place.project(ours.EMPTY_BUCKET))))
            for name, subscriber in subscribers.items():
                if name in notes:
                    continue
                say(f"a whole run to {name}")
                try:
                    found[name].append(_export(place, data, subscriber, run))
                except (CommandFailed, NotAllDelivered) as error:
                    notes[name] = str(error).splitlines()[-1][:200]
    nothing = figures(empty)
    costs = {name: figures(each) for name, each in found.items() if name not in notes}
    size = data.unpacked_bytes / data.events
    return Whole(
        f"{events:,} events of {size:,.0f} bytes in {_FILES} gzip files on S3.",
        {name: (one.cpu_seconds - nothing.cpu_seconds) / events * 1e6 for name, one in costs.items()},
        {name: (one.wall_seconds - nothing.wall_seconds) / events * 1e6 for name, one in costs.items()},
        notes,
    )


def _export(place: Bench, data: Data, subscriber: Mapping[str, Any], run: int) -> Cost:
    folder = place.project("events")
    path = folder / ours.DEPLOYMENT
    deployment = yaml.safe_load(path.read_text())
    told = json.dumps(subscriber).replace("{folder}", str(folder.absolute())).replace("{run}", f"whole_{run}")
    path.write_text(yaml.safe_dump({**deployment, "subscribers": {SUBSCRIBER: json.loads(told)}}))
    cost = place.cost(ours.export_command(), folder)
    accepted = _accepted(place, folder)
    if accepted != data.events:
        raise NotAllDelivered(f"{accepted:,} of {data.events:,} events were accepted")
    shutil.rmtree(folder)
    return cost


def _accepted(place: Bench, folder: Path) -> int:
    """The number of events that the subscriber accepted, according to the ledger."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("export-pipeline")), "metrics"],
        cwd=folder,
        env=ours.environment(place.server, folder),
        capture_output=True,
        text=True,
        check=True,
    )
    for line in done.stdout.splitlines():
        if line.startswith("export_pipeline_delivered_events_total{") and f'subscriber="{SUBSCRIBER}"' in line:
            return int(float(line.rpartition(" ")[2]))
    return 0
