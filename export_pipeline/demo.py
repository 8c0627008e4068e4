"""``make demo``: create a sample bucket, run ``export_job`` of the deployment ``local`` once, and print a report."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, select

from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.configuration.location import DEFAULT_NAME
from export_pipeline.configuration.scaffold import write_demo
from export_pipeline.deployment import Deployment, load_deployment
from export_pipeline.errors import ConfigurationError, ExportError
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger, utc_now
from export_pipeline.printable import printable
from export_pipeline.quantities import counted, sized
from export_pipeline.sample_bucket import make_sample_bucket
from export_pipeline.secrets import resolve
from export_pipeline.storage.location import parse_location
from export_pipeline.storage.objects import open_objects

FOLDER = Path(".demo")
LOG = FOLDER / "export.log"
COMMAND = ("run", "--deployment", DEFAULT_NAME)
_LOG_LINES_SHOWN = 40


def main(*, dev: str = "make dev", again: str = "make demo") -> int:
    """Run the demo in the working folder; the exit code of its export.

    Args:
        dev, again: the commands that the report suggests next, for the UI and for another run.
    """
    started = utc_now()
    try:
        if written := write_demo():
            _say("Folder", f"wrote {', '.join(written)}")
        deployment = load_deployment(DEFAULT_NAME)
        _say("Bucket", _fill(_bucket(deployment)))
    except ExportError as error:
        print(error, file=sys.stderr)
        return 1
    _say("Run", f"export-pipeline {' '.join(COMMAND)}")
    exit_code, seconds = _export()
    _say("", f"{'succeeded' if exit_code == 0 else 'FAILED'} in {seconds:.1f} s; log: {LOG}")
    if exit_code != 0:
        lines = LOG.read_text(encoding="utf-8", errors="replace").splitlines()
        print("", *lines[-_LOG_LINES_SHOWN:], sep="\n  | ")
        return exit_code
    ledger = Ledger(resolve(deployment.ledger.url) or "")
    with ledger.read() as tx:
        for label, text in _report(tx, deployment, started):
            _say(label, text)
    ledger.close()
    width = max(len(dev), len(again)) + 4
    _say("Next", f"{dev:<{width}} starts Dagster's UI on http://127.0.0.1:3000, which shows this run")
    _say("", f"{again:<{width}} adds a few more files, and delivers only those")
    return 0


def _say(label: str, text: str) -> None:
    print(f"{label:<12} {text}", flush=True)


def _bucket(deployment: Deployment) -> Path:
    """The folder that stands for the bucket.

    Raises:
        ConfigurationError: the deployment reads from somewhere else, where the demo must not write.
    """
    location = parse_location(deployment.source.url)
    folder = Path(location.prefix)
    if location.scheme != "file" or not folder.is_relative_to(FOLDER.absolute()):
        raise ConfigurationError(
            f"{deployment.path}: source.url: found {location.url}; allowed for the demo: a folder below {FOLDER}/"
        )
    return folder


def _fill(bucket: Path) -> str:
    """Put sample files into the bucket, many in the first run and a few in later ones; returns a summary."""
    before = sum(1 for path in bucket.rglob("*.gz"))
    shown = os.path.relpath(bucket)
    if before:
        sample = make_sample_bucket(bucket, events=240, files=3, days=1, seed=before, broken=False)
        return (
            f"{shown}: {before} earlier files, and {len(sample.files)} new files with {sample.events} events, "
            "from the last 24 hours"
        )
    sample = make_sample_bucket(bucket)
    broken = ", one of them with a malformed line" if sample.broken_key else ""
    return f"{shown}: created {len(sample.files)} files with {sample.events:,} events{broken}"


def _export() -> tuple[int, float]:
    """Run the export from the command line, its log in a file; returns the exit code and the duration in seconds."""
    command = [sys.executable, "-m", "export_pipeline.cli", *COMMAND]
    began = time.monotonic()
    with LOG.open("w", encoding="utf-8") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)  # noqa: S603 (our own)
    return done.returncode, time.monotonic() - began


def _report(tx: Connection, deployment: Deployment, started: datetime) -> Iterator[tuple[str, str]]:
    """What the ledger has recorded since *started*, as label and text."""
    f, m = t.files.c, t.manifests.c
    size = func.coalesce(func.sum(f.size_bytes), 0)
    files = select(func.count(), size, func.count(func.distinct(f.day))).where(f.seen_at >= started)
    found, size_bytes, days = tx.execute(files).one()
    yield (
        "Found",
        f"{counted(found, 'new file')} ({sized(size_bytes)}) of {counted(days, 'day')}" if found else "no new files",
    )
    for row in _delivered(tx, started):
        batches = counted(row.batches, "batch", "batches")
        yield "Delivered", f"{counted(row.accepted, 'event')} to {row.name} in {batches} {_where(deployment, row.name)}"
    sums = select(func.sum(m.events_framed), func.sum(m.events_batched), func.sum(m.events_quarantined))
    framed, batched, aside = (number or 0 for number in tx.execute(sums.where(m.read_at >= started)).one())
    kept = f", kept in {deployment.quarantine.url}" if aside else ""
    yield "Quarantined", f"{counted(aside, 'record')}{kept}" if aside else "nothing"
    for manifest, day in tx.execute(select(m.id, m.day).where(m.read_at >= started, m.events_quarantined > 0)):
        yield from (("", text) for text in _reasons(deployment, manifest, day))
    yield (
        "Account",
        f"{counted(framed, 'record')} read = {counted(batched, 'event')} in batches + {aside:,} quarantined",
    )


def _reasons(deployment: Deployment, manifest_id: str, day: date) -> Iterator[str]:
    """The quarantined records of one manifest: file, offset and reason."""
    quarantine = Quarantine(open_objects(deployment.quarantine.url, deployment.quarantine))
    for _, record in quarantine.records(day.isoformat()):
        if record.manifest == manifest_id:
            where = f"{counted(record.length, 'byte')} at offset {record.offset:,}"
            yield f"{printable(record.key)}, {where}: {record.reason}"


def _delivered(tx: Connection, started: datetime) -> list[Row[Any]]:
    a, s = t.acceptances.c, t.subscriptions.c
    return list(
        tx.execute(
            select(s.name, func.sum(a.accepted).label("accepted"), func.count().label("batches"))
            .join(t.subscriptions, s.id == a.subscription_id)
            .where(a.accepted_at >= started)
            .group_by(s.name)
            .order_by(s.name)
        )
    )


def _where(deployment: Deployment, subscriber: str) -> str:
    entry = deployment.subscribers[subscriber]
    return f"→ {entry.options['url']}" if entry.type_name == "files" else f"({entry.type_name})"


if __name__ == "__main__":
    sys.exit(main())
