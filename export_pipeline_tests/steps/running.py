"""An export whose runs read and deliver, without Dagster; in this process, or in a separate one that may die."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from export_pipeline.batching.batch import Batch
from export_pipeline.batching.record import Record
from export_pipeline.errors import DeliveryError, ExportError, FileForbidden, TryLater
from export_pipeline.ledger import balance, owed
from export_pipeline.ledger.records import Run
from export_pipeline.source import local
from export_pipeline.source.file import SourceFile
from export_pipeline.steps.deliver import deliver
from export_pipeline.steps.read import ensure_staged
from export_pipeline.steps.retry import retry_quarantined
from export_pipeline.testing.doubles import RecordingSubscriber
from export_pipeline_tests.steps.exporting import NOW, Export


class Receiver(RecordingSubscriber):
    """Takes nothing while it is down, and no more batches than it has room for. Keeps in a file what it takes, too."""

    is_down = False
    room: int | None = None

    def __init__(self, kept: Path) -> None:
        super().__init__(retry_for_seconds=0)
        self.kept = kept

    def deliver(self, batch: Batch) -> None:
        """Accept, or not."""
        if self.is_down or self.room == 0:
            raise TryLater("down")
        if self.room is not None:
            self.room -= 1
        with self.kept.open("ab") as file:
            file.write(batch.data)
        super().deliver(batch)


class Runs(Export):
    """An export that reads and delivers, three files a run, two tries for a file.

    Attributes:
        notes: what the latest run said of manifests that were divided.
    """

    max_files = 3
    max_retries = 10

    def __init__(self, folder: Path, ledger_url: str) -> None:
        super().__init__(folder, ledger_url)
        self.subscribers = {"crm": None, "dwh": None}
        self.receivers = {name: Receiver(folder / f"got-{name}") for name in self.subscribers}
        self.folder = folder
        self.ledger_url = ledger_url
        self.max_attempts = 2
        self.notes: list[str] = []

    def put_events(self, *keys: str) -> None:
        """One event in each file, which names it."""
        for key in keys:
            self.put(key, text=f'{{"key":"{key}"}}\n')

    def work(self) -> list[str]:
        """One run; returns why manifests could not be read. Staging holds none of the earlier ones."""
        for manifest_id in self.staging.manifests():
            self.staging.delete(manifest_id)
        found = self.run(max_files=self.max_files)
        with self.ledger.read() as tx:
            chosen = owed.choose(tx, found.subscriptions, max_files=self.max_files, max_retries=self.max_retries)
        failures = []
        self.notes = []
        for manifest in chosen:
            try:
                outcome = ensure_staged(self.place, manifest.id, run_id=f"run-{self.runs}")
            except ExportError as error:
                failures.append(str(error))
                continue
            self.notes += outcome.notes
            failures += outcome.unreadable.values()
            for one in found.subscriptions:
                if one.name in manifest.subscribers and outcome.staged is not None:
                    try:
                        deliver(self.place, manifest.id, one, self.receivers[one.name], run_id=f"run-{self.runs}")
                    except DeliveryError:
                        assert self.receivers[one.name].is_down or self.receivers[one.name].room == 0
        return failures

    def got(self, name: str) -> list[str]:
        """Keys whose event a subscriber has got, in order."""
        return [line.split(b'"')[3].decode() for line in self.receivers[name].lines]

    def kept(self, name: str) -> list[str]:
        """The same, in key order, whichever process delivered it."""
        path = self.receivers[name].kept
        return sorted(line.split(b'"')[3].decode() for line in path.read_bytes().splitlines()) if path.exists() else []

    def work_and_die(self, *killers: str) -> bool:
        """One run in a separate process, which is killed as it reads one of *killers*; returns whether it was."""
        self.runs += 1
        arguments = [str(self.folder), self.ledger_url, str(self.runs), str(self.max_attempts), *killers]
        done = subprocess.run([sys.executable, "-m", __name__, *arguments], check=False, timeout=120)
        assert done.returncode in (0, -signal.SIGKILL)
        return done.returncode != 0

    def records(self) -> list[Record]:
        """What waits in the quarantine."""
        return [record for _, record in self.quarantine.records()]

    def retry(self) -> list[str]:
        """Keys of the files that ``quarantine retry --all`` owes again."""
        names = dict.fromkeys(name for name, _ in self.quarantine.records())
        return retry_quarantined(self.place, names, run=Run("retry", NOW)).files

    def imbalances(self) -> list[str]:
        """Sentences about numbers of the ledger that do not add up."""
        with self.ledger.read() as tx:
            return [*balance.imbalances(tx, 1)]

    def limit(self, manifest_files: int) -> None:
        """So many files in a manifest at most."""
        limits = replace(self.settings.limits, manifest_max_files=manifest_files)
        self.settings = replace(self.settings, limits=limits)


@contextmanager
def denied(*but: str) -> Iterator[None]:
    """Inside the block the store refuses to return any file, except these."""
    allowed = local.LocalSource.read_range

    def read_range(self: local.LocalSource, file: SourceFile, start: int, stop: int) -> bytes:
        if file.key not in but:
            raise FileForbidden(file.key, "access denied")
        return allowed(self, file, start, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local.LocalSource, "read_range", read_range)
        yield


@contextmanager
def without(export: Runs, key: str) -> Iterator[None]:
    """Inside the block the file is not there; afterwards it is as it was."""
    there, away = export.bucket / key, export.bucket / ".away"
    there.rename(away)
    yield
    away.rename(there)


def main(folder: str, ledger_url: str, run: str, max_attempts: str, *killers: str) -> None:
    """A run that nothing ends but the system, as soon as it reads one of *killers*."""
    read_range = local.LocalSource.read_range

    def read_or_die(self: local.LocalSource, file: SourceFile, start: int, stop: int) -> bytes:
        if file.key in killers:
            os.kill(os.getpid(), signal.SIGKILL)
        return read_range(self, file, start, stop)

    local.LocalSource.read_range = read_or_die  # type: ignore[method-assign]
    export = Runs(Path(folder), ledger_url)
    export.runs, export.max_attempts, export.max_files = int(run) - 1, int(max_attempts), 100
    export.work()
    export.ledger.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
