"""A source in a folder and a ledger, with what the ops of a run do to them, one by one and without Dagster."""

from datetime import date, datetime, timezone
from pathlib import Path

from sqlalchemy import select

from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.batching.staging import Staging
from export_pipeline.ledger import deliveries
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import Run
from export_pipeline.source.file import ReadLimits
from export_pipeline.source.layout import Layout
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import Source, open_source
from export_pipeline.steps.backfill import Backfill, plan_day
from export_pipeline.steps.discover import Found, discover
from export_pipeline.steps.open import Workspace
from export_pipeline.storage.objects import open_objects
from export_pipeline.storage.settings import StoreSettings
from export_pipeline_tests.steps.search import search_settings

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
SETTINGS = search_settings(Layout("%Y/%m/%d"))


class Export:
    """A source in a folder, a ledger, and a cursor that is kept between two listings."""

    def __init__(self, folder: Path, ledger_url: str) -> None:
        self.bucket = folder / "bucket"
        self.bucket.mkdir(exist_ok=True)
        self.ledger = Ledger(ledger_url)
        self.cursor = ""
        self.frontier = ""
        self.runs = 0
        self.settings = SETTINGS
        self.subscribers: dict[str, str | None] = {"crm": None}
        self.limits = ReadLimits()
        self.max_attempts = 5
        self.staging = Staging(open_objects(str(folder / "staging"), StoreSettings(), private=True))
        self.quarantine = Quarantine(open_objects(str(folder / "quarantine"), StoreSettings(), private=True))

    @property
    def source(self) -> Source:
        return open_source(SourceSettings(url=str(self.bucket)))

    @property
    def place(self) -> Workspace:
        """Where reading and delivering find everything."""
        return Workspace(
            source=self.source,
            ledger=self.ledger,
            staging=self.staging,
            quarantine=self.quarantine,
            limits=self.limits,
            max_attempts=self.max_attempts,
            on_overwrite=self.settings.on_overwrite,
        )

    def put(self, *keys: str, text: str = "{}\n") -> None:
        """Write files, each with this text."""
        for key in keys:
            path = self.bucket / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def run(self, *, max_files: int = 100, now: datetime = NOW) -> Found:
        """One run that finds files and plans them; what it found."""
        self.runs += 1
        found = discover(
            self.source,
            self.ledger,
            self.settings,
            cursor=self.cursor,
            wanted=self.subscribers,
            max_files=max_files,
            run=Run(f"run-{self.runs}", now),
        )
        self.cursor = found.cursor
        self.frontier = found.frontier
        return found

    def planned(self) -> list[str]:
        """Every key ever planned, one for each file version."""
        with self.ledger.read() as tx:
            return list(tx.execute(select(t.files.c.key).where(t.files.c.manifest_id.is_not(None))).scalars())

    def owed(self, name: str) -> list[str]:
        """Keys owed to a subscriber, in the order of delivery."""
        with self.ledger.read() as tx:
            query = (
                select(t.files.c.key)
                .join(t.deliveries, t.deliveries.c.manifest_id == t.files.c.manifest_id)
                .join(t.subscriptions, t.subscriptions.c.id == t.deliveries.c.subscription_id)
                .where(t.subscriptions.c.name == name, t.deliveries.c.state == deliveries.OWED)
                .order_by(t.deliveries.c.day, t.deliveries.c.first_key, t.files.c.key)
            )
            return list(tx.execute(query).scalars())

    def ask_for(self, day: date, *, chosen: tuple[str, ...] = (), again: bool = False) -> Backfill:
        """``backfill_job`` of a day, for the *chosen* or all, up to where it reads and delivers."""
        return plan_day(
            self.source,
            self.ledger,
            self.settings,
            day=day,
            wanted=self.subscribers,
            chosen=list(chosen),
            again=again,
            run=Run("backfill", NOW),
        )
