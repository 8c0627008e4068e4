"""The life of one file according to the ledger. Read-only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from sqlalchemy import Connection, func, select

from export_pipeline.ledger import deliveries, folding, manifests, parts
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.deliveries import DeliveryState
from export_pipeline.ledger.manifests import ManifestState
from export_pipeline.ledger.records import LedgerBatch
from export_pipeline.source.file import SourceFile


@dataclass(frozen=True, slots=True)
class ManifestLife:
    """A manifest that contains the file.

    Attributes:
        origin: source; quarantine or refused if the file is retried from the quarantine.
        state: see :mod:`ledger.manifests`.
        batches: how many it was cut into; None while unread.
        batches_with_file: numbers of those with events of the file.
        events_framed, events_batched, events_quarantined: of all its files; None while unread.
        holds_events: false if the file is known to contain none.
    """

    id: str
    origin: str
    state: ManifestState
    files: int
    planned_at: datetime
    planned_by_run: str
    read_at: datetime | None
    read_attempts: int
    last_error: str | None
    batches: int | None
    batches_with_file: tuple[int, ...]
    events_framed: int | None
    events_batched: int | None
    events_quarantined: int | None
    holds_events: bool

    @property
    def is_of_source(self) -> bool:
        """Whether its files are in the source; if not, they are retried from the quarantine."""
        return self.origin == manifests.SOURCE


@dataclass(frozen=True, slots=True)
class DeliveryLife:
    """A manifest on its way to one subscriber.

    Attributes:
        state: see :mod:`ledger.deliveries`.
        round: 1, and one more for each replay.
        accepted_batches: how many were accepted in this round so far.
        run_id: the run that delivered it, or tried last; None if none did.
    """

    subscriber: str
    state: DeliveryState
    round: int
    owed_at: datetime
    accepted_batches: int
    delivered_at: datetime | None
    attempts: int
    run_id: str | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class FileLife:
    """One content of one key.

    Attributes:
        file: as it was listed.
        note: why it was seen but not taken; None if it was taken.
        manifest: None only if it was not taken.
        deliveries: of the manifest, by subscriber; for those that receive it in parts, of the part.
    """

    file: SourceFile
    day: date
    seen_at: datetime
    note: str | None
    manifest: ManifestLife | None
    deliveries: tuple[DeliveryLife, ...]

    def subscribers_by_state(self) -> dict[str, list[str]]:
        """State → names of the subscribers with that state."""
        found: dict[str, list[str]] = {}
        for one in self.deliveries:
            found.setdefault(one.state, []).append(one.subscriber)
        return found


def lives(tx: Connection, source_id: int, keys: Sequence[str]) -> list[FileLife]:
    """What the ledger knows about the files under *keys*: one entry per content, in the order they were seen."""
    f = t.files.c
    rows = tx.execute(
        select(t.files).where(f.source_id == source_id, f.key.in_(keys)).order_by(f.seen_at, f.key, f.etag)
    ).all()
    return [
        FileLife(
            file=SourceFile(row.key, row.etag, row.size_bytes, row.last_modified),
            day=row.day,
            seen_at=row.seen_at,
            note=row.note,
            manifest=_manifest(tx, row.manifest_id, row.key) if row.manifest_id else None,
            deliveries=_deliveries(tx, row.manifest_id, row.key) if row.manifest_id else (),
        )
        for row in rows
    ]


def life_by_fingerprint(tx: Connection, source_id: int, file: SourceFile) -> FileLife | None:
    """What is left of the life of a folded file; None if it is not folded."""
    manifest_id = folding.near(tx, source_id, first_key=file.key, last_key=file.key).manifest_of(file)
    if manifest_id is None:
        return None
    row = tx.execute(select(t.manifests.c.day, t.manifests.c.planned_at).where(t.manifests.c.id == manifest_id)).one()
    return FileLife(
        file=file,
        day=row.day,
        seen_at=row.planned_at,
        note=None,
        manifest=_manifest(tx, manifest_id, file.key),
        deliveries=_deliveries(tx, manifest_id, file.key),
    )


def _manifest(tx: Connection, manifest_id: str, key: str) -> ManifestLife:
    row = tx.execute(select(t.manifests).where(t.manifests.c.id == manifest_id)).one()
    positions = {position for position, one in enumerate(manifests.get(tx, manifest_id).files) if one.key == key}
    batches: tuple[LedgerBatch, ...] = manifests.batches(tx, manifest_id)
    with_file = tuple(batch.n for batch in batches if positions & set(batch.file_positions))
    return ManifestLife(
        id=row.id,
        origin=row.origin,
        state=ManifestState(row.state),
        files=row.files,
        planned_at=row.planned_at,
        planned_by_run=row.planned_by_run,
        read_at=row.read_at,
        read_attempts=row.read_attempts,
        last_error=row.last_error,
        batches=row.batches,
        batches_with_file=with_file,
        events_framed=row.events_framed,
        events_batched=row.events_batched,
        events_quarantined=row.events_quarantined,
        # The files of a folded manifest are no longer known.
        holds_events=bool(with_file or not positions or row.batches is None) and row.events_batched != 0,
    )


def _deliveries(tx: Connection, manifest_id: str, key: str) -> tuple[DeliveryLife, ...]:
    """Of the manifest, or of the part that contains the file, for subscribers that received it in parts."""
    whole = _of(tx, manifest_id)
    split = {one.subscriber for one in whole if one.state.is_split}
    if not split:
        return whole
    held = [one for part in parts.holding(tx, manifest_id, key) for one in _of(tx, part) if one.subscriber in split]
    # A subscriber that had accepted all events of the file before is not owed any of it in a part.
    had_it = split - {part.subscriber for part in held}
    delivered = deliveries.STATES[deliveries.DELIVERED]
    done = [replace(one, state=delivered) for one in whole if one.subscriber in had_it]
    others = [one for one in whole if one.subscriber not in split]
    return tuple(sorted([*others, *held, *done], key=lambda one: one.subscriber))


def _of(tx: Connection, manifest_id: str) -> tuple[DeliveryLife, ...]:
    d, s = t.deliveries.c, t.subscriptions.c
    accepted = select(func.count()).where(deliveries.is_counted()).correlate(t.deliveries).scalar_subquery()
    rows = tx.execute(
        select(t.deliveries, s.name, accepted.label("accepted_batches"))
        .join(t.subscriptions, s.id == d.subscription_id)
        .where(d.manifest_id == manifest_id)
        .order_by(s.name)
    )
    return tuple(
        DeliveryLife(
            subscriber=row.name,
            state=deliveries.STATES[row.state],
            round=row.round,
            owed_at=row.owed_at,
            accepted_batches=row.accepted_batches,
            delivered_at=row.delivered_at,
            attempts=row.attempts,
            run_id=row.last_run_id,
            last_error=row.last_error,
        )
        for row in rows
    )
