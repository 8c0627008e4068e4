"""Fills a ledger with days of files that were all delivered, as fast as its database allows."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from hashlib import blake2b
from itertools import islice
from typing import Any

from sqlalchemy import Index, Table, func, select, text

from export_pipeline.ledger import deliveries, manifests, sources, subscriptions
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger
from export_pipeline.source.file import SourceFile

MANIFEST_FILES = 100
BATCHES = 3
EVENTS = 2_000
SUBSCRIBERS = ("crm", "dwh")
SIZE_BYTES = 250_000
_ROWS_AT_ONCE = 50_000
_POSITIONS = [
    "[" + ",".join(map(str, range(at, at + MANIFEST_FILES // BATCHES))) + "]"
    for at in range(0, MANIFEST_FILES - MANIFEST_FILES // BATCHES, MANIFEST_FILES // BATCHES)
]
# Created once the rows exist: ten million random insertions into an index cost more than sorting it once.
_LATE_INDEXES = (
    "ix_files_manifest_id",
    "ix_manifests_read_at",
    "ix_manifests_not_folded",
    "ix_deliveries_last_run_id",
)


@dataclass(frozen=True, slots=True)
class Shape:
    """A ledger of *days* days, the last one *last_day*, with the same number of files each."""

    url: str
    last_day: date
    days: int
    files_a_day: int

    @property
    def first_day(self) -> date:
        """The first of the days."""
        return self.last_day - timedelta(days=self.days - 1)


def file_of(day: date, n: int) -> SourceFile:
    """The *n*-th file of a day."""
    minute = n * 1_440 // 100_000
    key = f"{day:%Y/%m/%d}/events-{n:08}-4f0c2d.json.gz"
    etag = f"{day.toordinal():08x}{n:024x}"
    moment = datetime(day.year, day.month, day.day, tzinfo=timezone.utc) + timedelta(minutes=minute)
    return SourceFile(key, etag, SIZE_BYTES, moment)


def fill(ledger: Ledger, shape: Shape, *, now: datetime) -> None:
    """Write sources, subscriptions, and *shape*'s files with all their results, into an empty ledger."""
    with ledger.write(durable=True) as tx:
        source = sources.add_source(tx, shape.url)
        wanted = dict.fromkeys(SUBSCRIBERS)
        found = subscriptions.register(tx, source, wanted, start_from="beginning", now=now).subscriptions
    numbers = [one.id for one in found]
    late = [index for table in t.metadata.tables.values() for index in table.indexes if index.name in _LATE_INDEXES]
    definitions = _drop(ledger, late)
    written = (now - timedelta(days=1)).replace(tzinfo=None)
    for table, rows in (
        (t.manifests, _manifests(shape, source, written)),
        (t.files, _files(shape, source, written)),
        (t.batches, _batches(shape)),
        (t.deliveries, _deliveries(shape, numbers, written)),
        (t.acceptances, _acceptances(shape, numbers, written)),
    ):
        _load(ledger, table, rows)
    with ledger.write() as tx:
        for definition in definitions:
            tx.execute(text(definition))
    if not ledger.is_sqlite:  # a server's autovacuum does this by itself within a minute
        with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def rows_of(ledger: Ledger, table: Table) -> int:
    """How many rows a table has."""
    with ledger.read() as tx:
        return int(tx.execute(select(func.count()).select_from(table)).scalar_one())


def _drop(ledger: Ledger, indexes: Iterable[Index]) -> list[str]:
    """Drop indexes; returns the statements that recreate them."""
    catalog = "SELECT sql FROM sqlite_master WHERE name = :name"
    if not ledger.is_sqlite:
        catalog = "SELECT indexdef FROM pg_indexes WHERE indexname = :name"
    definitions = []
    with ledger.write() as tx:
        for index in indexes:
            definitions.append(str(tx.execute(text(catalog), {"name": index.name}).scalar_one()))
            tx.execute(text(f"DROP INDEX {index.name}"))
    return definitions


def _load(ledger: Ledger, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    while chunk := list(islice(rows, _ROWS_AT_ONCE)):
        names = list(chunk[0])
        values = [tuple(row.values()) for row in chunk]
        with ledger.engine.connect() as connection, connection.begin():
            driver: Any = connection.connection.driver_connection
            if ledger.is_sqlite:
                marks = ",".join("?" * len(names))
                driver.executemany(
                    f"INSERT INTO {table.name} ({','.join(names)}) VALUES ({marks})", [_plain(row) for row in values]
                )
            else:
                lines = "".join("\t".join("\\N" if one is None else str(one) for one in row) + "\n" for row in values)
                with driver.cursor() as cursor:
                    cursor.copy_expert(f"COPY {table.name} ({','.join(names)}) FROM STDIN", io.StringIO(lines))


def _plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Times and dates as SQLAlchemy stores them in SQLite."""
    return tuple(
        one.strftime("%Y-%m-%d %H:%M:%S.%f")
        if isinstance(one, datetime)
        else one.isoformat()
        if isinstance(one, date)
        else one
        for one in row
    )


def _each(shape: Shape) -> Iterator[tuple[str, date, int]]:
    """Id, day and number of the first file of every manifest, in key order."""
    for n in range(shape.days):
        day = shape.first_day + timedelta(days=n)
        for first in range(0, shape.files_a_day, MANIFEST_FILES):
            yield blake2b(f"{day}{first}".encode(), digest_size=12).hexdigest(), day, first


def _manifests(shape: Shape, source_id: int, written: datetime) -> Iterator[dict[str, Any]]:
    for identity, day, first in _each(shape):
        yield {
            "id": identity,
            "source_id": source_id,
            "origin": manifests.SOURCE,
            "day": day,
            "first_key": file_of(day, first).key,
            "files": MANIFEST_FILES,
            "size_bytes": MANIFEST_FILES * SIZE_BYTES,
            "max_events": 10_000,
            "max_bytes": 4_194_304,
            "state": manifests.READ,
            "planned_at": written,
            "planned_by_run": f"run-{day}",
            "read_at": written,
            "read_attempts": 0,
            "bytes_unpacked": 700_000_000,
            "batches": BATCHES,
            "events_framed": BATCHES * EVENTS,
            "events_batched": BATCHES * EVENTS,
            "events_quarantined": 0,
        }


def _files(shape: Shape, source_id: int, written: datetime) -> Iterator[dict[str, Any]]:
    for identity, day, first in _each(shape):
        for n in range(first, first + MANIFEST_FILES):
            file = file_of(day, n)
            yield {
                "source_id": source_id,
                "key": file.key,
                "etag": file.etag,
                "size_bytes": file.size_bytes,
                "last_modified": file.last_modified.replace(tzinfo=None),
                "day": day,
                "manifest_id": identity,
                "seen_at": written,
            }


def _batches(shape: Shape) -> Iterator[dict[str, Any]]:
    for identity, _, first in _each(shape):
        for n in range(BATCHES):
            yield {
                "manifest_id": identity,
                "n": n,
                "events": EVENTS,
                "size_bytes": 4_000_000,
                "crc32": first * 7_919 + n,
                "file_positions": _POSITIONS[n],
            }


def _deliveries(shape: Shape, numbers: list[int], written: datetime) -> Iterator[dict[str, Any]]:
    for identity, day, first in _each(shape):
        for number in numbers:
            yield {
                "manifest_id": identity,
                "subscription_id": number,
                "day": day,
                "first_key": file_of(day, first).key,
                "state": deliveries.DELIVERED,
                "round": 1,
                "owed_at": written,
                "attempts": 1,
                "last_run_id": f"run-{day}",
                "delivered_at": written,
                "accepted": BATCHES * EVENTS,
                "refused": 0,
                "filtered": 0,
            }


def _acceptances(shape: Shape, numbers: list[int], written: datetime) -> Iterator[dict[str, Any]]:
    for identity, _, _ in _each(shape):
        for number in numbers:
            for n in range(BATCHES):
                yield {
                    "manifest_id": identity,
                    "subscription_id": number,
                    "round": 1,
                    "n": n,
                    "accepted": EVENTS,
                    "refused": 0,
                    "filtered": 0,
                    "accepted_at": written,
                }
