"""One tick from the ledger's point of view: the queries of ``export_job`` and the sensor, with a listing in memory."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone

from benchmarks.ledger_fill import BATCHES, EVENTS, MANIFEST_FILES, SUBSCRIBERS, Shape, file_of
from export_pipeline.ledger import deliveries, manifests, owed, subscriptions, unreadable
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import LedgerBatch, PlanLimits, ReadingResult, Run, Totals
from export_pipeline.source.file import SourceFile
from export_pipeline.source.layout import Layout
from export_pipeline.source.store import Source
from export_pipeline.steps.discover import DiscoverySettings, discover
from export_pipeline.steps.lookout import gets_on
from export_pipeline.steps.retention import fold_old_days
from export_pipeline.steps.stopping import Allowance

SETTINGS = DiscoverySettings(
    layout=Layout("%Y/%m/%d"),
    start_date=date(1990, 1, 1),
    lookback=timedelta(hours=26),
    on_overwrite="read",
    start_from="beginning",
    limits=PlanLimits(
        max_events=10_000, max_bytes=4_194_304, manifest_max_files=MANIFEST_FILES, manifest_max_bytes=1 << 28
    ),
    prefix="",
)
READING = ReadingResult(
    batches=tuple(LedgerBatch(n, EVENTS, 4_000_000, n, tuple(range(MANIFEST_FILES // 3))) for n in range(BATCHES)),
    bytes_unpacked=700_000_000,
    events_framed=BATCHES * EVENTS,
    events_quarantined=0,
)


class MadeUpSource(Source):
    """Lists the files of a shape, and some more of its last day; has no bytes.

    Attributes:
        added: how many files were added to the last day.
    """

    def __init__(self, shape: Shape) -> None:
        self.url = shape.url
        self.shape = shape
        self.added = 0

    def list_files(self, *, after: str = "", prefix: str = "", before: str | None = None) -> Iterator[SourceFile]:
        """See :class:`Source`."""
        # Straight to the first requested day, or walking all days would be measured with the ledger.
        begin = date.fromisoformat(after[:10].replace("/", "-")) if len(after) >= 10 else self.shape.first_day
        skipped = max(0, (begin - self.shape.first_day).days)
        for n in range(skipped, self.shape.days):
            day = self.shape.first_day + timedelta(days=n)
            for number in range(self.shape.files_a_day + (self.added if day == self.shape.last_day else 0)):
                file = file_of(day, number)
                if file.key > after and file.key.startswith(prefix) and (before is None or file.key < before):
                    yield file

    def read_range(self, file: SourceFile, start: int, stop: int) -> bytes:
        """Nothing is read here."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""


def tick(ledger: Ledger, source: MadeUpSource, cursor: str, *, run_id: str) -> str:
    """A manifest of new files arrives, is found, planned, read and delivered to all; returns the new cursor."""
    source.added += MANIFEST_FILES
    now = datetime.combine(source.shape.last_day, datetime.min.time(), timezone.utc) + timedelta(hours=23)
    found = discover(
        source,
        ledger,
        SETTINGS,
        cursor=cursor,
        wanted=dict.fromkeys(SUBSCRIBERS),
        max_files=MANIFEST_FILES,
        run=Run(run_id, now),
    )
    assert found.files == MANIFEST_FILES, found
    with ledger.read() as tx:
        chosen = owed.choose(tx, found.subscriptions, max_files=MANIFEST_FILES, max_retries=10)
    with ledger.write() as tx:
        owed.assign(tx, chosen, found.subscriptions, run_id)
    fold_old_days(source, ledger, keep_days=100_000, now=now)
    for one in chosen:
        with ledger.read() as tx:
            owed.assigned(tx, one.id, [run_id])
        with ledger.write() as tx:
            manifests.begin_reading(tx, one.id, run_id)
        with ledger.write(durable=True) as tx:
            manifests.record_reading(tx, manifests.get(tx, one.id), READING, now=now)
            unreadable.others_read(tx, one.id, began=now)
        for subscription in found.subscriptions:
            allowance = Allowance(ledger, subscription, run_id=run_id, seconds=300)
            with ledger.read() as tx:
                delivery = deliveries.delivery(tx, one.id, subscription)
                subscriptions.failed_in_run(tx, subscription, run_id)
            assert delivery is not None
            for n in range(BATCHES):
                assert not allowance.reason()
                with ledger.write() as tx:
                    deliveries.accept(tx, delivery, n, Totals(EVENTS, 0, 0), now=now)
            allowance.keep()
            with ledger.write() as tx:
                deliveries.commit(tx, delivery, run_id=run_id, now=now)
                owed.nobody_waits(tx, one.id)
            with ledger.read() as tx:
                owed.waiting(tx, 1, [subscription])
    assert not gets_on(ledger, source.url)
    return found.cursor
