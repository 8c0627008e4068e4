"""An export that is notified of its files by a queue."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import select

from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import Run
from export_pipeline.source.file import SourceFile
from export_pipeline.source.layout import Layout
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import Source, open_source
from export_pipeline.steps.messages import Noticed, Notifications, discover_notified
from export_pipeline.storage.objects import open_objects
from export_pipeline_tests.source.messages import of_s3, record
from export_pipeline_tests.steps.notified.memory_queue import MemoryQueue
from export_pipeline_tests.steps.search import search_settings

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
SETTINGS = search_settings(Layout("%Y/%m/%d/%H/"))


class Export:
    """A bucket in a folder that tells a queue of its files, and a ledger."""

    def __init__(self, folder: Path, ledger_url: str, queue: MemoryQueue) -> None:
        self.bucket = folder / "bucket"
        self.bucket.mkdir(exist_ok=True)
        self.ledger = Ledger(ledger_url)
        self.queue = queue
        self.quarantined = folder / "quarantine"
        self.cursor = ""
        self.frontier = ""
        self.settings = SETTINGS
        self.subscribers: dict[str, str | None] = {"crm": None}
        self.source: Source = open_source(SourceSettings(url=str(self.bucket)))
        self.most_keys = 1_000_000

    def put(self, *keys: str, text: str = "{}\n", tell: bool = True) -> list[str]:
        """Write files; returns the messages about them, which are sent, too."""
        bodies = []
        for key in keys:
            path = self.bucket / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            bodies.append(self.message(key))
        if tell:
            self.queue.send(*bodies)
        return bodies

    def message(self, key: str, **changes: Any) -> str:
        """The body of a message about a file, as S3 sends it; *changes*: what it tells differently."""
        file = self.source.find_file(key)
        assert file is not None
        told = {"etag": file.etag, "size": file.size_bytes, "time": file.last_modified.isoformat(), **changes}
        return of_s3(record(key, **told))

    def run(self, *, max_files: int = 100, now: datetime = NOW, list_now: bool = False, **more: Any) -> Noticed:
        """One run that takes messages, and lists when that is due."""
        notifications = Notifications(
            queue=more.get("queue", self.queue),
            bucket="acme",
            listing_every=DAY,
            quarantine=Quarantine(open_objects(str(self.quarantined))),
            list_now=list_now,
            most_keys=self.most_keys,
        )
        noticed = discover_notified(
            self.source,
            self.ledger,
            self.settings,
            notifications,
            cursor=self.cursor,
            wanted=self.subscribers,
            max_files=max_files,
            run=Run("run", now),
        )
        self.cursor = noticed.found.cursor
        self.frontier = noticed.found.frontier
        return noticed

    def planned(self) -> list[str]:
        """Every key ever planned, one for each content, in key order."""
        with self.ledger.read() as tx:
            query = select(t.files.c.key).where(t.files.c.manifest_id.is_not(None)).order_by(t.files.c.key)
            return list(tx.execute(query).scalars())

    def files(self) -> list[SourceFile]:
        """Every file that the ledger knows, by key."""
        with self.ledger.read() as tx:
            f = t.files.c
            rows = tx.execute(select(f.key, f.etag, f.size_bytes, f.last_modified).order_by(f.key, f.etag))
            return [SourceFile(*row) for row in rows]
