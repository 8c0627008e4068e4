"""``make bench-millions``: a million files an hour, and the cost of finding, planning and book-keeping.

Simulated are time, the bytes of the files and the receivers. Real are the messages in S3's format, boto3 and its
requests to a queue over HTTP, reading the messages, the ledger with everything that a run writes to it for two
subscribers, folding of old days, and the listing of the whole hour over HTTP. At the end a real run of ``export_job``
reads and delivers as many small files as arrive in a minute. Writes the figures into docs/scale.md.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import millions_page
from benchmarks.bench import bench
from benchmarks.bucket import Entry, write_index
from benchmarks.data import cached, repeated_files
from benchmarks.ledger import vacuum
from benchmarks.ledger_fill import rows_of
from benchmarks.millions_queue import control, login_at, queue_of_messages
from benchmarks.millions_world import BUCKET, FILES_AN_HOUR, PREFIX, START, Bucket, files_of, minute_of
from benchmarks.rounds import say
from benchmarks.serving import serving
from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.ledger import deliveries, manifests, owed
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.manifests import Manifest
from export_pipeline.ledger.records import LedgerBatch, PlanLimits, ReadingResult, Run, Subscription, Totals
from export_pipeline.source.layout import Layout
from export_pipeline.source.queue import NotificationQueue
from export_pipeline.source.s3 import S3Source
from export_pipeline.source.settings import SourceSettings
from export_pipeline.steps.discover import DiscoverySettings, discover
from export_pipeline.steps.messages import Notifications, discover_notified
from export_pipeline.steps.retention import fold_old_days
from export_pipeline.storage.location import parse_location
from export_pipeline.storage.objects import open_objects

SUBSCRIBERS = ("crm", "dwh")
MANIFEST_FILES = 1_000
EVENTS_A_FILE = 100
MAX_FILES = 20_000
_BATCH_EVENTS = 10_000
_FILES_A_BATCH = _BATCH_EVENTS // EVENTS_A_FILE
_EVENTS_READ = 10
SETTINGS = DiscoverySettings(
    layout=Layout("%Y/%m/%d/%H/"),
    start_date=date(2026, 1, 1),
    lookback=timedelta(hours=26),
    on_overwrite="read",
    start_from="beginning",
    limits=PlanLimits(
        max_events=_BATCH_EVENTS, max_bytes=5_000_000, manifest_max_files=MANIFEST_FILES, manifest_max_bytes=1 << 28
    ),
    prefix=PREFIX,
)


@dataclass(frozen=True, slots=True)
class Tick:
    """One minute.

    Attributes:
        find_*: finding and planning its files, including all requests to the queue.
        keep_*: the ledger's work for reading and delivering them, and for choosing what to do.
    """

    files: int
    messages: int
    find_wall_seconds: float
    find_cpu_seconds: float
    keep_wall_seconds: float
    keep_cpu_seconds: float
    ledger_bytes: int


class _Clock:
    """Wall and CPU time of this process since the last call of ``read``."""

    def __init__(self) -> None:
        self._last = (time.perf_counter(), time.process_time())

    def read(self) -> tuple[float, float]:
        now = (time.perf_counter(), time.process_time())
        passed = (now[0] - self._last[0], now[1] - self._last[1])
        self._last = now
        return passed


def simulate(ledger: Ledger, queue: NotificationQueue, quarantine: Quarantine, minutes: int) -> list[Tick]:
    """Tick after tick, each with the files of a minute, after one that is not counted and lists the empty bucket."""
    bucket = Bucket()
    notifications = Notifications(
        queue=queue, bucket=BUCKET, listing_every=timedelta(days=3_650), quarantine=quarantine
    )
    find = partial(
        discover_notified,
        bucket,
        ledger,
        SETTINGS,
        notifications,
        cursor="",
        wanted=dict.fromkeys(SUBSCRIBERS),
        max_files=MAX_FILES,
    )
    find(run=Run("first", START))
    ticks = []
    for minute in range(minutes):
        control(queue.url, "Arrive", minute=minute)
        run_id, now = f"run-{minute}", minute_of(minute + 1)
        clock = _Clock()
        noticed = find(run=Run(run_id, now))
        found = clock.read()
        assert noticed.found.files == len(files_of(minute)), noticed
        assert not noticed.found.more
        _work_off(ledger, noticed.found.subscriptions, run_id=run_id, now=now)
        kept = clock.read()
        ticks.append(Tick(noticed.found.files, noticed.taken.messages, *found, *kept, _bytes(ledger)))
        say(f"  minute {minute}: {found[0]:.2f} s to find, {kept[0]:.2f} s to keep, {_bytes(ledger) / 1e6:.0f} MB")
    return ticks


def _work_off(ledger: Ledger, subscriptions: tuple[Subscription, ...], *, run_id: str, now: datetime) -> None:
    """What the ops ask of the ledger until everything is delivered to all subscribers."""
    with ledger.read() as tx:
        chosen = owed.choose(tx, subscriptions, max_files=MAX_FILES, max_retries=10)
    with ledger.write() as tx:
        owed.assign(tx, chosen, subscriptions, run_id)
    for one in chosen:
        with ledger.read() as tx:
            owed.assigned(tx, one.id, [run_id])
            manifest = manifests.get(tx, one.id)
        reading = _reading(manifest)
        with ledger.write(durable=True) as tx:
            manifests.record_reading(tx, manifest, reading, now=now)
        for subscription in subscriptions:
            with ledger.read() as tx:
                delivery = deliveries.delivery(tx, one.id, subscription)
            assert delivery is not None
            for batch in reading.batches:
                with ledger.write() as tx:
                    deliveries.accept(tx, delivery, batch.n, Totals(batch.events, 0, 0), now=now)
            with ledger.write() as tx:
                deliveries.commit(tx, delivery, run_id=run_id, now=now)
            with ledger.read() as tx:
                owed.waiting(tx, manifest.source_id, [subscription])


def _reading(manifest: Manifest) -> ReadingResult:
    """A file contains a hundred events, and a batch those of a hundred files."""
    files = len(manifest.files)
    batches = []
    for n, first in enumerate(range(0, files, _FILES_A_BATCH)):
        positions = tuple(range(first, min(first + _FILES_A_BATCH, files)))
        batches.append(LedgerBatch(n, len(positions) * EVENTS_A_FILE, 4_000_000, first * 7_919 + n, positions))
    events = files * EVENTS_A_FILE
    return ReadingResult(tuple(batches), bytes_unpacked=events * 500, events_framed=events, events_quarantined=0)


def list_known(ledger: Ledger, folder: Path, minutes: int) -> dict[str, float]:
    """A listing of all files over HTTP that finds nothing new: the cost of listing every time."""
    body = folder / "body"
    body.write_bytes(b"{}\n")
    entries = [
        Entry(PREFIX + file.key, file.etag, file.size_bytes, int(file.last_modified.timestamp()), body)
        for minute in range(minutes)
        for file in files_of(minute)
    ]
    index = folder / "index.tsv"
    write_index(index, entries)
    with serving({BUCKET: index}) as server:
        settings = SourceSettings.model_validate({"url": f"s3://{BUCKET}/{PREFIX}", **login_at(server.endpoint)})
        source = S3Source(parse_location(settings.url), settings)
        requests = 0
        ask = source._list

        def counted(**arguments: Any) -> Any:
            nonlocal requests
            requests += 1
            return ask(**arguments)

        source._list = counted  # type: ignore[method-assign]
        clock = _Clock()
        found = discover(
            source,
            ledger,
            SETTINGS,
            cursor="",
            wanted=dict.fromkeys(SUBSCRIBERS),
            max_files=MAX_FILES,
            run=Run("listing", minute_of(minutes)),
        )
        wall, cpu = clock.read()
        assert found.files == 0, found
    return {"files": len(entries), "requests": requests, "wall_seconds": wall, "cpu_seconds": cpu}


def fold(ledger: Ledger) -> dict[str, float]:
    """Fold everything, as ``ledger.keep_days`` does once a day is old enough, and release the space."""
    vacuum(ledger)
    before = _bytes(ledger)
    clock = _Clock()
    manifests = fold_old_days(Bucket(), ledger, keep_days=1, now=START + timedelta(days=5), most=sys.maxsize)
    wall, cpu = clock.read()
    vacuum(ledger)
    return {
        "manifests": manifests,
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "bytes_before": before,
        "bytes_after": _bytes(ledger),
    }


def read_really(root: Path) -> dict[str, float]:
    """One run of ``export_job`` over a minute of small files, with Dagster, staging and a subscriber."""
    files = math.ceil(FILES_AN_HOUR / 60)
    make = partial(repeated_files, files=files, events_each=_EVENTS_READ)
    data = cached(root / "data", f"{files}-files-of-{_EVENTS_READ}", make)
    options = {"max_files": files, "manifest": {"max_files": MANIFEST_FILES}}
    with bench(root, {BUCKET: data}, options=options) as place:
        costs = place.exports(BUCKET, data, rounds=3)
    return {
        "files": files,
        "events": data.events,
        "stored_bytes": data.stored_bytes,
        "wall_seconds": statistics.median(cost.wall_seconds for cost in costs),
        "cpu_seconds": statistics.median(cost.cpu_seconds for cost in costs),
        "peak_bytes": statistics.median(cost.peak_bytes for cost in costs),
    }


def _bytes(ledger: Ledger) -> int:
    path = Path(ledger.engine.url.database or "")
    return sum(os.path.getsize(one) for one in (path, path.with_name(path.name + "-wal")) if one.exists())


def main() -> None:
    """Simulate, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(".bench"))
    parser.add_argument("--minutes", type=int, default=60)
    given = parser.parse_args()
    root = given.root.absolute()
    folder = root / "millions"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("ledger.db*"):
        if old.is_file():
            old.unlink()
    ledger = Ledger(str(folder / "ledger.db"))
    with queue_of_messages() as queue:
        ticks = simulate(ledger, queue, Quarantine(open_objects(str(folder / "quarantine"))), given.minutes)
        counts = control(queue.url, "Counts")
    assert counts["left"] == 0, counts
    say("listing all of it again")
    listing = list_known(ledger, folder, given.minutes)
    rows = {one.name: rows_of(ledger, one) for one in (t.files, t.manifests, t.batches, t.acceptances)}
    assert rows["files"] == sum(tick.files for tick in ticks), rows
    say("folding")
    folded = fold(ledger)
    ledger.close()
    say("reading as many files as a minute brings")
    read = read_really(root)
    results = {
        "ticks": [asdict(tick) for tick in ticks],
        "counts": counts,
        "listing": listing,
        "rows": rows,
        "folded": folded,
        "read": read,
    }
    (root / "results").mkdir(exist_ok=True)
    (root / "results" / "millions.json").write_text(json.dumps(results, indent=1))
    millions_page.write(results)


if __name__ == "__main__":
    main()
