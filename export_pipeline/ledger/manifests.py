"""Manifests: what is planned to be read, and the result of reading it.

The states of a manifest and their transitions:

    planned ── record_reading ─▶ read
    planned, read ── isolate, divide ─▶ superseded (others replace it)
    planned, read ── give_up ─▶ given_up ── reopen, owe_day (of a part) ─▶ planned, read
    planned, read, and done for all subscribers ── fold ─▶ folded_at is set ── unfold ─▶ as before

While a manifest's state changes, no subscriber can be added to it: see ``sources.hold_still``.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Any

from sqlalchemy import Case, ColumnElement, Connection, Row, case, func, insert, select, update

from export_pipeline.errors import LedgerError
from export_pipeline.ledger import records
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.records import LedgerBatch, PartFile, Ranges, ReadingResult, Run
from export_pipeline.source.file import ReadLimits, SourceFile

# The states and kinds of manifests as stored in the ledger; outside this module they are only for display and tests.
PLANNED, READ, GIVEN_UP, SUPERSEDED = "planned", "read", "given_up", "superseded"
SOURCE, QUARANTINE, REFUSED = "source", "quarantine", "refused"

# What a part inherits from its whole.
OF_WHOLE = ("source_id", "origin", "day", "max_events", "max_bytes", "read_limits")


class ManifestState(str):
    """The state of one manifest, named as in the ledger."""

    __slots__ = ()

    @property
    def is_read(self) -> bool:
        """Whether it was read: a second reading must give the same result."""
        return self == READ

    @property
    def is_replaced(self) -> bool:
        """Whether other manifests replace it."""
        return self == SUPERSEDED

    @property
    def is_closed(self) -> bool:
        """Whether there is nothing to read of it: other manifests replace it, or its only file was given up.

        A file belongs to the manifest that replaces its old one. So if a file's manifest is closed, the file is in the
        quarantine as a whole, and no run retries it before the user requests it.
        """
        return self == GIVEN_UP or self.is_replaced


class ReadingDiffers(LedgerError):
    """A second reading of a manifest gave another result than the first: its batches cannot be recreated."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A planned group of files.

    Attributes:
        origin: where the files are: ``source`` or ``quarantine``.
        state: see the top of this module.
        read_attempts: failed readings so far, for an isolated file.
        is_folded: its files and batches are folded, and must be restored before it can be read.
        reading_run_id: the run that began to read it and has not finished. Whoever holds the claim of reading it knows
            that this run has died.
        reading_deaths: how many readings in a row died before that one.
        read_limits: limits of the first reading; None: not read yet, or by a version that did not record them.
        part_of: the manifest that it is a part of; None: of none.
        ranges: key → which of its events belong to it; files that are missing here belong to it completely.
        events_framed, events_batched, events_quarantined: set once read; the first is the sum of the other two.
    """

    id: str
    source_id: int
    origin: str
    day: date
    files: tuple[SourceFile, ...]
    max_events: int
    max_bytes: int
    state: ManifestState
    read_attempts: int
    events_framed: int | None
    events_batched: int | None
    events_quarantined: int | None
    is_folded: bool = False
    reading_run_id: str | None = None
    reading_deaths: int = 0
    read_limits: ReadLimits | None = None
    part_of: str | None = None
    ranges: Mapping[str, Ranges] = field(default_factory=dict)

    @property
    def needs_files(self) -> bool:
        """Whether only fingerprints of its files are known, by which they must be found before it can be read."""
        return self.is_folded or any(map(records.is_nameless, self.files))

    @property
    def is_of_source(self) -> bool:
        """Whether its files are in the source; if not, they are in the quarantine, from where they are retried."""
        return self.origin == SOURCE

    @property
    def is_refused(self) -> bool:
        """Whether it contains events that one subscriber refused, and that belong to no one else."""
        return self.origin == REFUSED

    @property
    def part_files(self) -> list[PartFile]:
        """The files with their ranges."""
        return [PartFile(file, self.ranges.get(file.key)) for file in self.files]


def is_read() -> ColumnElement[bool]:
    """Whether a manifest was read."""
    return t.manifests.c.state == READ


def is_planned() -> ColumnElement[bool]:
    """Whether a manifest waits to be read for the first time."""
    return t.manifests.c.state == PLANNED


def is_living() -> ColumnElement[bool]:
    """Whether a manifest can be owed: it is neither given up nor replaced by others."""
    return t.manifests.c.state.in_((PLANNED, READ))


def is_given_up() -> ColumnElement[bool]:
    """Whether a manifest is not read again before the user, or a backfill of a part, requests it."""
    return t.manifests.c.state == GIVEN_UP


def is_replaced() -> ColumnElement[bool]:
    """Whether other manifests replace a manifest."""
    return t.manifests.c.state == SUPERSEDED


def has_rows() -> ColumnElement[bool]:
    """Whether a manifest's files and batches are separate rows."""
    return t.manifests.c.folded_at.is_(None)


def is_of_source() -> ColumnElement[bool]:
    """Whether a manifest's files are in the source."""
    return t.manifests.c.origin == SOURCE


def is_refused() -> ColumnElement[bool]:
    """Whether a manifest contains events that one subscriber refused, and that others received in another manifest."""
    return t.manifests.c.origin == REFUSED


def in_store_of(tx: Connection, manifest_id: str) -> tuple[ColumnElement[bool], ...]:
    """Whether the files of manifests are in the same store as this one's: of one source, or of its quarantine."""
    m = t.manifests.c
    own = tx.execute(select(m.source_id, m.origin).where(m.id == manifest_id)).one()
    return m.source_id == own.source_id, is_of_source() if own.origin == SOURCE else ~is_of_source()


def manifest_id_of(url: str, files: Iterable[SourceFile], *, max_events: int, max_bytes: int) -> str:
    """Identifies exactly these bytes cut by exactly these limits: 24 hexadecimal digits of a SHA-256."""
    digest = hashlib.sha256(f"{url}\n{max_events}\n{max_bytes}\n".encode())
    for file in files:
        digest.update(f"{file.key}\0{file.etag}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:24]


def add(
    tx: Connection,
    manifest_id: str,
    files: Sequence[SourceFile],
    *,
    source_id: int,
    day: date,
    max_events: int,
    max_bytes: int,
    run: Run,
    origin: str = SOURCE,
) -> None:
    """Record a manifest that has not been read yet. The caller writes or moves its files."""
    tx.execute(
        insert(t.manifests).values(
            id=manifest_id,
            source_id=source_id,
            origin=origin,
            day=day,
            first_key=files[0].key,
            files=len(files),
            size_bytes=sum(file.size_bytes for file in files),
            max_events=max_events,
            max_bytes=max_bytes,
            state=PLANNED,
            planned_at=run.now,
            planned_by_run=run.id,
            read_attempts=0,
        )
    )


def add_like(tx: Connection, found: Manifest, files: Sequence[SourceFile], *, url: str, run: Run) -> str:
    """Record a manifest of *files*, which are where those of *found* are, and which is cut like it; returns its id."""
    return _add_like(tx, found, files, url=url, run=run, origin=found.origin)


def add_retry(
    tx: Connection,
    found: Manifest,
    files: Sequence[SourceFile],
    *,
    is_refused: bool,
    url: str,
    run: Run,
) -> str:
    """Record a manifest of *files* in the quarantine, which hold what was kept there of *found*; returns its id.

    Args:
        is_refused: events that one subscriber refused.
    """
    origin = REFUSED if is_refused else QUARANTINE
    return _add_like(tx, found, files, url=url, run=run, origin=origin)


def _add_like(tx: Connection, found: Manifest, files: Sequence[SourceFile], *, url: str, run: Run, origin: str) -> str:
    manifest_id = manifest_id_of(url, files, max_events=found.max_events, max_bytes=found.max_bytes)
    add(
        tx,
        manifest_id,
        files,
        source_id=found.source_id,
        day=found.day,
        max_events=found.max_events,
        max_bytes=found.max_bytes,
        run=run,
        origin=origin,
    )
    return manifest_id


def add_part(
    tx: Connection,
    manifest_id: str,
    described: Callable[[], Mapping[str, Any]],
    *,
    why_lost: str | None,
    run: Run,
) -> None:
    """Record a part of a manifest, or reopen it if it exists.

    Args:
        described: what it inherits from the whole, and of its files.
        why_lost: why it is given up at once, if it is new; None: it is to be read.
    """
    m = t.manifests.c
    state = PLANNED if why_lost is None else GIVEN_UP
    known = tx.execute(select(m.state, m.read_at).where(m.id == manifest_id)).first()
    if known is None:
        tx.execute(
            insert(t.manifests).values(
                **described(),
                id=manifest_id,
                state=state,
                last_error=why_lost,
                planned_at=run.now,
                planned_by_run=run.id,
            )
        )
    elif known.state == SUPERSEDED:
        # Its files were isolated for others since; for these subscribers they are first tried together.
        values: dict[str, Any] = {"state": state, "last_error": why_lost, "successor_id": None, "read_at": None}
        tx.execute(update(t.manifests).where(m.id == manifest_id).values(**values, read_attempts=0, batches=None))
    elif known.state == GIVEN_UP and why_lost is None:
        values = {"state": READ if known.read_at else PLANNED, "last_error": None, "read_attempts": 0}
        tx.execute(update(t.manifests).where(m.id == manifest_id).values(values))


def get(tx: Connection, manifest_id: str) -> Manifest:
    """The manifest *manifest_id*, or the one that replaced it when unreadable files were isolated."""
    row = _row(tx, manifest_id)
    while row.successor_id is not None:
        row = _row(tx, row.successor_id)
    members = records.load_part_files(row.part_files) if row.part_files else _files(tx, row.id)
    return Manifest(
        id=row.id,
        source_id=row.source_id,
        origin=row.origin,
        day=row.day,
        files=tuple(one.file for one in members),
        max_events=row.max_events,
        max_bytes=row.max_bytes,
        state=ManifestState(row.state),
        read_attempts=row.read_attempts,
        events_framed=row.events_framed,
        events_batched=row.events_batched,
        events_quarantined=row.events_quarantined,
        is_folded=row.folded_at is not None,
        reading_run_id=row.reading_run_id,
        reading_deaths=row.reading_deaths or 0,
        read_limits=ReadLimits(**json.loads(row.read_limits)) if row.read_limits else None,
        part_of=row.part_of,
        ranges={one.file.key: one.ranges for one in members if one.ranges is not None},
    )


def _files(tx: Connection, manifest_id: str) -> list[PartFile]:
    f = t.files.c
    rows = select(f.key, f.etag, f.size_bytes, f.last_modified).where(f.manifest_id == manifest_id)
    return [PartFile(SourceFile(*row)) for row in tx.execute(rows.order_by(f.key, f.etag))]


def exists(tx: Connection, manifest_id: str) -> bool:
    """Whether the ledger has a manifest called *manifest_id*."""
    return tx.execute(select(t.manifests.c.id).where(t.manifests.c.id == manifest_id)).first() is not None


def source_of(tx: Connection, manifest_id: str) -> int | None:
    """The number of a manifest's source; None if there is no such manifest."""
    return tx.execute(select(t.manifests.c.source_id).where(t.manifests.c.id == manifest_id)).scalar()


def known_among(tx: Connection, manifest_ids: Sequence[str]) -> list[str]:
    """Those of *manifest_ids* that are manifests of this ledger."""
    return list(tx.execute(select(t.manifests.c.id).where(t.manifests.c.id.in_(manifest_ids))).scalars())


def is_any_of(tx: Connection, source_id: int) -> bool:
    """Whether the ledger has a manifest of a source."""
    count = select(func.count()).select_from(t.manifests).where(t.manifests.c.source_id == source_id)
    return bool(tx.execute(count).scalar())


def was_recorded(tx: Connection, manifest_id: str) -> bool:
    """Whether a reading of the manifest ended well, or others came in its place."""
    m = t.manifests.c
    recorded = select(m.id).where(m.id == manifest_id, m.read_at.is_not(None) | is_replaced())
    return tx.execute(recorded).first() is not None


def batches(tx: Connection, manifest_id: str) -> tuple[LedgerBatch, ...]:
    """The batches that a read manifest was cut into, in order."""
    b = t.batches.c
    rows = tx.execute(
        select(b.n, b.events, b.size_bytes, b.crc32, b.file_positions).where(b.manifest_id == manifest_id).order_by(b.n)
    )
    return tuple(LedgerBatch(*row[:4], tuple(json.loads(row[4]))) for row in rows)


def begin_reading(tx: Connection, manifest_id: str, run_id: str) -> None:
    """Record that a run is about to read a manifest: if its process dies of that, the next run knows.

    :func:`record_reading` and :func:`end_reading` undo that.
    """
    m = t.manifests.c
    deaths = case((m.reading_run_id.is_not(None), func.coalesce(m.reading_deaths, 0) + 1), else_=0)
    tx.execute(update(t.manifests).where(m.id == manifest_id).values(reading_run_id=run_id, reading_deaths=deaths))


def end_reading(tx: Connection, manifest_id: str) -> None:
    """Record that a reading failed, but that the reading process is alive."""
    tx.execute(update(t.manifests).where(t.manifests.c.id == manifest_id).values(reading_run_id=None))


def record_reading(tx: Connection, found: Manifest, reading: ReadingResult, *, now: datetime) -> None:
    """Record the result of reading *found*; a second reading must have given exactly the same.

    Raises:
        ReadingDiffers: the bytes are not those of the first reading.
        LedgerError: the numbers do not add up, or others have replaced it meanwhile.
    """
    batched = sum(batch.events for batch in reading.batches)
    if reading.events_framed != batched + reading.events_quarantined:
        raise LedgerError(
            f"manifest {found.id}: {reading.events_framed} events were framed, but {batched} are in batches and "
            f"{reading.events_quarantined} in the quarantine"
        )
    if found.state.is_read:
        _must_be_the_same(found.id, batches(tx, found.id), reading.batches)
        forget_failures(tx, found.id)
        return
    written = tx.execute(
        update(t.manifests)
        .where(t.manifests.c.id == found.id, t.manifests.c.state == str(found.state))
        .values(
            state=READ,
            read_at=now,
            last_error=None,
            read_attempts=0,
            reading_run_id=None,
            read_limits=_compact(asdict(reading.limits)) if reading.limits else None,
            events_of_files=_compact(reading.events_of_files) if reading.events_of_files is not None else None,
            bytes_unpacked=reading.bytes_unpacked,
            batches=len(reading.batches),
            events_framed=reading.events_framed,
            events_batched=batched,
            events_quarantined=reading.events_quarantined,
        )
    )
    if written.rowcount != 1:
        raise LedgerError(f"manifest {found.id} was {found.state} when it was read, but no longer is")
    rows = [
        {
            "manifest_id": found.id,
            "n": batch.n,
            "events": batch.events,
            "size_bytes": batch.size_bytes,
            "crc32": batch.crc32,
            "file_positions": _compact(batch.file_positions),
        }
        for batch in reading.batches
    ]
    if rows:
        tx.execute(insert(t.batches), rows)


def give_up(tx: Connection, manifest_id: str, reason: str) -> None:
    """Close a manifest that is not read again before a retry reopens it."""
    tx.execute(update(t.manifests).where(t.manifests.c.id == manifest_id).values(state=GIVEN_UP, last_error=reason))


def reopen(tx: Connection, manifest_id: str) -> bool:
    """Reopen a manifest that was given up; returns whether it was."""
    m = t.manifests.c
    opened = update(t.manifests).where(m.id == manifest_id, m.state == GIVEN_UP).values(state=_before_given_up())
    return bool(tx.execute(opened).rowcount)


def reopen_parts(tx: Connection, source_id: int, day: date) -> None:
    """Reopen the parts of a day's manifests that were given up: their files may be back."""
    m = t.manifests.c
    given_up_parts = (m.source_id == source_id, m.day == day, m.part_of.is_not(None), is_given_up())
    opened = {"state": _before_given_up(), "read_attempts": 0, "last_error": None}
    tx.execute(update(t.manifests).where(*given_up_parts).values(opened))


def _before_given_up() -> Case[Any]:
    # What was read before it was given up has its batches in the ledger: a second reading must give the same.
    return case((t.manifests.c.read_at.is_not(None), READ), else_=PLANNED)


def replace(tx: Connection, manifest_id: str, successor: str | None) -> None:
    """Close a manifest that others replace, and whose batches belong to no one.

    Args:
        successor: the one with the readable files, if there is one.
    """
    values = {"state": SUPERSEDED, "successor_id": successor, "reading_run_id": None}
    tx.execute(update(t.manifests).where(t.manifests.c.id == manifest_id).values(values))


def count_failure(tx: Connection, manifest_id: str, reason: str) -> int:
    """Count one more failed reading of a manifest; returns how many there are now."""
    m = t.manifests.c
    values = {"read_attempts": m.read_attempts + 1, "last_error": reason, "reading_run_id": None}
    tx.execute(update(t.manifests).where(m.id == manifest_id).values(values))
    return int(tx.execute(select(m.read_attempts).where(m.id == manifest_id)).scalar_one())


def note_failure(tx: Connection, manifest_id: str, reason: str) -> None:
    """Record why a manifest could not be read if no file of it is to blame, so that no attempt counts.

    Reading it successfully clears that.
    """
    values = {"last_error": reason, "reading_run_id": None}
    tx.execute(update(t.manifests).where(t.manifests.c.id == manifest_id).values(values))


def forget_failures(tx: Connection, manifest_id: str) -> None:
    """Reset a manifest's count of failed readings."""
    values = {"read_attempts": 0, "last_error": None, "reading_run_id": None}
    tx.execute(update(t.manifests).where(t.manifests.c.id == manifest_id).values(values))


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _row(tx: Connection, manifest_id: str) -> Row[tuple[object, ...]]:
    row = tx.execute(select(t.manifests).where(t.manifests.c.id == manifest_id)).first()
    if row is None:
        raise LedgerError(f"the ledger has no manifest {manifest_id}")
    return row


def _must_be_the_same(manifest_id: str, first: Sequence[LedgerBatch], second: Sequence[LedgerBatch]) -> None:
    if tuple(first) == tuple(second):
        return
    position = next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))
    raise ReadingDiffers(
        f"manifest {manifest_id}: a second reading differs from the first, from batch {position} on "
        f"({len(first)} batches then, {len(second)} now), so its batches cannot be recreated"
    )
