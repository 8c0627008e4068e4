"""The figures of an export at one moment, for metrics.

Every query uses an index, and none reads what was delivered: the cost depends on the backlog and on the number of
entries in the quarantine, not on the age of the ledger.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from export_pipeline.batching.record import FILE, REFUSED, STRETCH
from export_pipeline.ledger import manifests, owed, quarantined
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.counters import Counters
from export_pipeline.ledger.records import Subscription


@dataclass(frozen=True, slots=True)
class SubscriberFigures:
    """One subscriber.

    Attributes:
        lag_seconds: age of the oldest file that it is owed; 0: nothing is owed.
        owed_files, owed_bytes: its backlog; bytes as stored in the source.
        is_failing: the latest attempt to deliver to it failed.
        is_blocked: later attempts will fail too, until the user changes something.
        succeeded_at: when it last accepted the last batch of a manifest; None: never.
        counters: sums since *counted_since*.
    """

    name: str
    lag_seconds: float
    owed_files: int
    owed_bytes: int
    is_failing: bool
    is_blocked: bool
    succeeded_at: datetime | None
    counters: Counters
    counted_since: datetime


@dataclass(frozen=True, slots=True)
class ExportFigures:
    """One export, which is one source with its subscribers.

    Attributes:
        subscribers: the configured ones, by name.
        records: kind, subscriber (empty unless it refused them) and state → number of records in the quarantine.
        unreadable_files: those that could not be read so far and are retried.
        listed_at: start of the last listing that reached the end of the source; None: none did yet.
        more_to_list: the last listing stopped at ``max_files``.
        run_ended_at, run_succeeded_at: the end of the last run of the export, and of the last that succeeded; None:
            none did since the ledger records it.
    """

    subscribers: tuple[SubscriberFigures, ...]
    records: Mapping[tuple[str, str, str], int]
    unreadable_files: int
    listed_at: datetime | None
    more_to_list: bool
    run_ended_at: datetime | None
    run_succeeded_at: datetime | None


def export_figures(tx: Connection, source_id: int, *, now: datetime) -> ExportFigures:
    """The figures of the export of a source."""
    m, s = t.manifests.c, t.sources.c
    source = tx.execute(
        select(s.complete_at, s.more_to_list, s.run_ended_at, s.run_succeeded_at).where(s.id == source_id)
    ).one()
    unreadable = select(func.coalesce(func.sum(m.files), 0)).where(
        m.source_id == source_id, m.read_attempts > 0, manifests.is_planned()
    )
    subscribers = _subscribers(tx, source_id, now)
    return ExportFigures(
        subscribers=subscribers,
        records=_records(tx, source_id, [one.name for one in subscribers]),
        unreadable_files=int(tx.execute(unreadable).scalar_one()),
        listed_at=source.complete_at,
        more_to_list=source.more_to_list,
        run_ended_at=source.run_ended_at,
        run_succeeded_at=source.run_succeeded_at,
    )


def _subscribers(tx: Connection, source_id: int, now: datetime) -> tuple[SubscriberFigures, ...]:
    s = t.subscriptions.c
    rows = tx.execute(
        select(t.subscriptions).where(s.source_id == source_id, s.inactive_since.is_(None)).order_by(s.name)
    ).all()
    backlogs = owed.waiting(
        tx, source_id, [Subscription(row.id, row.name, row.start_day, row.start_at) for row in rows]
    )
    return tuple(
        SubscriberFigures(
            name=row.name,
            lag_seconds=max(0.0, (now - one.oldest_arrival).total_seconds()) if one.oldest_arrival else 0.0,
            owed_files=one.files,
            owed_bytes=one.size_bytes,
            is_failing=one.failing,
            is_blocked=row.is_blocked and one.failing,
            succeeded_at=row.last_success_at,
            counters=Counters(*(getattr(row, name) for name in Counters.__slots__)),
            counted_since=row.counted_since or row.created_at,
        )
        for row, one in zip(rows, backlogs, strict=True)
    )


def _records(tx: Connection, source_id: int, subscribers: list[str]) -> dict[tuple[str, str, str], int]:
    """Also those that are 0, so that a graph of the first record begins at 0."""
    of_whom = [(STRETCH, ""), (FILE, ""), *((REFUSED, name) for name in subscribers)]
    records = {(kind, name, state): 0 for kind, name in of_whom for state in quarantined.STATES}
    q = t.quarantined.c
    of_each = (q.kind, q.subscriber, q.state)
    rows = tx.execute(select(*of_each, func.sum(q.records)).where(q.source_id == source_id).group_by(*of_each))
    return records | {(kind, name, state): int(number) for kind, name, state, number in rows}
