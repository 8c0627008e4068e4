"""What reading a manifest came to: its batches, or the files that stood in the way.

The states of manifests and of deliveries, and what leads from one to another:

    manifest:  planned ── record ─▶ read
               planned, read ── isolate, divide ─▶ superseded (its files go on in others)
               planned, read ── give_up ─▶ given_up ── reopen, owe_day (of a part) ─▶ planned, read
               planned, read, and done for everybody ── fold ─▶ folded_at is set ── unfold ─▶ as before
    delivery:  – ── owe ─▶ owed ── commit ─▶ delivered ── owe_day (all) ─▶ owed, one round more
               owed ── _waive, rebuild ─▶ waived ── _owe_again, owe_day ─▶ owed
               owed ── give_up, give_up_owed ─▶ given_up ── reopen, owe_day ─▶ owed
               owed ── split ─▶ split (what is left of it is owed in parts; for good)

While a manifest's state changes nobody can be added to it: see ``owing.hold_still``.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime

from sqlalchemy import Connection, Row, bindparam, case, delete, func, insert, or_, select, update

from export_pipeline.errors import LedgerError
from export_pipeline.ledger import parts, subscriptions
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import utc_now
from export_pipeline.ledger.owing import hold_still, owe, owe_missing
from export_pipeline.ledger.parts import PartFile, Ranges
from export_pipeline.ledger.planning import add_manifest, manifest_id
from export_pipeline.source.file import ReadLimits, SourceFile


class ReadingDiffers(LedgerError):
    """A second reading of a manifest came to something else than the first: its batches cannot be made again."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A planned group of files.

    Attributes:
        origin: where the files lie: ``source`` or ``quarantine``.
        state: planned, read, superseded or given_up.
        read_attempts: failed readings so far, of a file that was isolated.
        is_folded: its files and batches are folded, and have to be brought back before it can be read.
        reading_run_id: the run that began to read it and has not ended. Who holds the claim of reading it knows that
            this one died.
        reading_deaths: how many readings in a row died before that one.
        read_limits: what it was first read with; None: it was not read yet, or by a version that did not keep them.
        part_of: the manifest that it is a part of; None: of none.
        ranges: key → which of its events belong to it; of a file that is not here, all.
        events_framed, events_batched, events_quarantined: set once read; the first is the sum of the other two.
    """

    id: str
    source_id: int
    origin: str
    day: date
    files: tuple[SourceFile, ...]
    max_events: int
    max_bytes: int
    state: str
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
    def part_files(self) -> list[PartFile]:
        """The files with their ranges."""
        return [PartFile(file, self.ranges.get(file.key)) for file in self.files]


@dataclass(frozen=True, slots=True)
class LedgerBatch:
    """One batch of a manifest, as it was cut.

    Attributes:
        crc32: of the NDJSON bytes: a second reading must give the same.
        file_positions: indexes into the manifest's files.
    """

    n: int
    events: int
    size_bytes: int
    crc32: int
    file_positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading came to. events_framed = events in batches + events_quarantined.

    Attributes:
        events_of_files: of each file, in order, how many events the batches hold; None: not told.
        limits: what it was read with; None: not told.
    """

    batches: tuple[LedgerBatch, ...]
    bytes_unpacked: int
    events_framed: int
    events_quarantined: int
    events_of_files: tuple[int, ...] | None = None
    limits: ReadLimits | None = None


def manifest(tx: Connection, identity: str) -> Manifest:
    """The manifest called *identity*, or the one that took its place when unreadable files were set apart."""
    row = _row(tx, identity)
    while row.successor_id is not None:
        row = _row(tx, row.successor_id)
    members = parts.load(row.part_files) if row.part_files else _files(tx, row.id)
    return Manifest(
        id=row.id,
        source_id=row.source_id,
        origin=row.origin,
        day=row.day,
        files=tuple(one.file for one in members),
        max_events=row.max_events,
        max_bytes=row.max_bytes,
        state=row.state,
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


def _files(tx: Connection, identity: str) -> list[PartFile]:
    f = t.files.c
    rows = select(f.key, f.etag, f.size_bytes, f.last_modified).where(f.manifest_id == identity)
    return [PartFile(SourceFile(*row)) for row in tx.execute(rows.order_by(f.key, f.etag))]


def exists(tx: Connection, identity: str) -> bool:
    """Whether the ledger has a manifest called *identity*."""
    return tx.execute(select(t.manifests.c.id).where(t.manifests.c.id == identity)).first() is not None


def batches(tx: Connection, identity: str) -> tuple[LedgerBatch, ...]:
    """The batches that a read manifest was cut into, in order."""
    b = t.batches.c
    rows = tx.execute(
        select(b.n, b.events, b.size_bytes, b.crc32, b.file_positions).where(b.manifest_id == identity).order_by(b.n)
    )
    return tuple(LedgerBatch(*row[:4], tuple(json.loads(row[4]))) for row in rows)


def begin(tx: Connection, identity: str, run_id: str) -> None:
    """Write down that a run reads a manifest, before it does: should its process die of that, the next one knows.

    :func:`record` and :func:`end` take that back.
    """
    m = t.manifests.c
    deaths = case((m.reading_run_id.is_not(None), func.coalesce(m.reading_deaths, 0) + 1), else_=0)
    tx.execute(update(t.manifests).where(m.id == identity).values(reading_run_id=run_id, reading_deaths=deaths))


def end(tx: Connection, identity: str) -> None:
    """Note that a reading came to nothing, and that the process which read lives."""
    tx.execute(update(t.manifests).where(t.manifests.c.id == identity).values(reading_run_id=None))


def record(tx: Connection, found: Manifest, reading: Reading, *, now: datetime) -> None:
    """Keep what reading *found* came to; a second reading must have come to exactly the same.

    Raises:
        ReadingDiffers: the bytes are not those of the first reading.
        LedgerError: the numbers do not add up, or others have come in its place meanwhile.
    """
    batched = sum(batch.events for batch in reading.batches)
    if reading.events_framed != batched + reading.events_quarantined:
        raise LedgerError(
            f"manifest {found.id}: {reading.events_framed} events were framed, but {batched} are in batches and "
            f"{reading.events_quarantined} in the quarantine"
        )
    if found.state == t.READ:
        _must_be_the_same(found.id, batches(tx, found.id), reading.batches)
        forget_failures(tx, found.id)
        return
    written = tx.execute(
        update(t.manifests)
        .where(t.manifests.c.id == found.id, t.manifests.c.state == found.state)
        .values(
            state=t.READ,
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
        raise LedgerError(f"manifest {found.id} was {found.state} when it was read, and is not any more")
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


def may_change(tx: Connection, identity: str) -> bool:
    """Whether files may still be set apart from this manifest: nobody has accepted any of it, or was done with it."""
    a, d = t.acceptances.c, t.deliveries.c
    if tx.execute(select(a.n).where(a.manifest_id == identity).limit(1)).first() is not None:
        return False
    # Of what was folded the acceptances are gone, and no batch was ever accepted of a manifest without events. Its
    # deliveries tell: one that is done, or was before a replay asked for a new round. What was folded for those alone
    # who never got it may change.
    done = select(d.state).where(d.manifest_id == identity, or_(d.state == t.DELIVERED, d.round > 1))
    return tx.execute(done.limit(1)).first() is None


def isolate(
    tx: Connection, found: Manifest, unreadable: Mapping[str, str], *, url: str, run_id: str, now: datetime
) -> str | None:
    """Set unreadable files apart, each in a manifest of its own that later runs try alone.

    Args:
        unreadable: key → what is wrong with it.

    Returns:
        The id of the manifest that holds the readable files; None where none is left.
    """
    owed_to = _take_away(tx, found)
    readable = [one for one in found.part_files if one.file.key not in unreadable]
    rest = _replan(tx, found, readable, owed_to, url=url, run_id=run_id, now=now) if readable else None
    for one in found.part_files:
        if one.file.key in unreadable:
            alone = _replan(tx, found, [one], owed_to, url=url, run_id=run_id, now=now)
            count_failure(tx, alone, unreadable[one.file.key])
    _supersede(tx, found.id, rest)
    return rest


def divide(
    tx: Connection, found: Manifest, groups: Iterable[Sequence[SourceFile]], *, url: str, run_id: str, now: datetime
) -> list[str]:
    """Put a manifest of each of *groups* in the place of one whose reader died, so that the cause is found.

    No file of it is to blame so far, and none counts a try.

    Returns:
        Their ids.
    """
    owed_to = _take_away(tx, found)
    members = {one.file: one for one in found.part_files}
    ids = [
        _replan(tx, found, [members[file] for file in group], owed_to, url=url, run_id=run_id, now=now)
        for group in groups
    ]
    _supersede(tx, found.id, None)
    return ids


def count_failure(tx: Connection, identity: str, reason: str) -> int:
    """Count one more failed reading of a manifest; returns how many there are now."""
    m = t.manifests.c
    values = {"read_attempts": m.read_attempts + 1, "last_error": reason, "reading_run_id": None}
    tx.execute(update(t.manifests).where(m.id == identity).values(values))
    return int(tx.execute(select(m.read_attempts).where(m.id == identity)).scalar_one())


def forget_failures(tx: Connection, identity: str) -> None:
    """Let a manifest count its failed readings from none again."""
    values = {"read_attempts": 0, "last_error": None, "reading_run_id": None}
    tx.execute(update(t.manifests).where(t.manifests.c.id == identity).values(values))


def give_up(tx: Connection, identity: str, reason: str) -> None:
    """Close a manifest whose file lies in the quarantine as a whole; a retry from there opens it again."""
    _hold_still(tx, identity)
    tx.execute(update(t.manifests).where(t.manifests.c.id == identity).values(state=t.GIVEN_UP, last_error=reason))
    d = t.deliveries.c
    tx.execute(update(t.deliveries).where(d.manifest_id == identity, d.state == t.OWED).values(state=t.GIVEN_UP))


def reopen(tx: Connection, identity: str) -> None:
    """Owe a given-up manifest again, as if it had never been tried; also to who began to receive since."""
    _hold_still(tx, identity)
    m, d = t.manifests.c, t.deliveries.c
    # What was read before it was given up has its batches in the ledger: a second reading has to come to the same.
    state = case((m.read_at.is_not(None), t.READ), else_=t.PLANNED)
    opened = tx.execute(update(t.manifests).where(m.id == identity, m.state == t.GIVEN_UP).values(state=state)).rowcount
    owed = update(t.deliveries).where(d.manifest_id == identity, d.state == t.GIVEN_UP).values(state=t.OWED)
    if tx.execute(owed).rowcount or opened:
        forget_failures(tx, identity)
    if not opened:
        return  # it was given up for some alone, and stayed open to whoever is new
    # While it was given up nobody new was owed it. Who is out of the deployment file now is when coming back.
    found = manifest(tx, identity)
    for one in subscriptions.active(tx, found.source_id):
        if all(one.owes(file, found.day) for file in found.files):
            owe_missing(tx, one.id, m.id == identity, now=utc_now())


def _hold_still(tx: Connection, identity: str) -> None:
    hold_still(tx, tx.execute(select(t.manifests.c.source_id).where(t.manifests.c.id == identity)).scalar_one())


def _take_away(tx: Connection, found: Manifest) -> list[tuple[int, str | None]]:
    """Take a manifest's deliveries and batches away, for others come in its place.

    Returns:
        The subscriptions that it was owed to, each with the run that takes it there, if one does.
    """
    hold_still(tx, found.source_id)
    d = t.deliveries.c
    rows = tx.execute(select(d.subscription_id, d.last_run_id).where(d.manifest_id == found.id, d.state == t.OWED))
    owed_to = [(row.subscription_id, row.last_run_id) for row in rows]
    tx.execute(delete(t.deliveries).where(t.deliveries.c.manifest_id == found.id))
    tx.execute(delete(t.batches).where(t.batches.c.manifest_id == found.id))
    return owed_to


def _supersede(tx: Connection, identity: str, successor: str | None) -> None:
    values = {"state": t.SUPERSEDED, "successor_id": successor, "reading_run_id": None}
    tx.execute(update(t.manifests).where(t.manifests.c.id == identity).values(values))


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _row(tx: Connection, identity: str) -> Row[tuple[object, ...]]:
    row = tx.execute(select(t.manifests).where(t.manifests.c.id == identity)).first()
    if row is None:
        raise LedgerError(f"the ledger has no manifest {identity}")
    return row


def _replan(
    tx: Connection,
    found: Manifest,
    members: Sequence[PartFile],
    owed_to: Iterable[tuple[int, str | None]],
    *,
    url: str,
    run_id: str,
    now: datetime,
) -> str:
    if found.part_of is not None:
        return parts.add(tx, found.part_of, members, owed_to, run_id=run_id, now=now)
    files = [one.file for one in members]
    identity = manifest_id(url, files, max_events=found.max_events, max_bytes=found.max_bytes)
    add_manifest(
        tx,
        identity,
        files,
        source=found.source_id,
        day=found.day,
        max_events=found.max_events,
        max_bytes=found.max_bytes,
        run_id=run_id,
        now=now,
        origin=found.origin,
    )
    f = t.files.c
    moved = update(t.files).where(
        f.source_id == found.source_id, f.key == bindparam("of_key"), f.etag == bindparam("of_etag")
    )
    tx.execute(moved.values(manifest_id=identity), [{"of_key": file.key, "of_etag": file.etag} for file in files])
    for subscription, run in owed_to:
        owe(tx, identity, [subscription], day=found.day, first_key=files[0].key, now=now, run_id=run)
    return identity


def _must_be_the_same(identity: str, first: Sequence[LedgerBatch], second: Sequence[LedgerBatch]) -> None:
    if tuple(first) == tuple(second):
        return
    position = next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))
    raise ReadingDiffers(
        f"manifest {identity}: a second reading differs from the first, from batch {position} on "
        f"({len(first)} batches then, {len(second)} now), so that its batches cannot be made again"
    )
