"""What one run came to, from the ledger: so every executor reports it alike, whatever process did the work."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from export_pipeline.ledger import deliveries, inspection, manifests, owed, quarantined, sources, subscriptions
from export_pipeline.ledger import tables as t


@dataclass(frozen=True, slots=True)
class SubscriberTotals:
    """What a subscriber got in a run.

    Attributes:
        events: accepted in this run.
        files: of manifests that it has completely now.
    """

    events: int = 0
    files: int = 0


@dataclass(frozen=True, slots=True)
class RunTotals:
    """The sum of a run.

    Attributes:
        found_files: planned by this run.
        delivered: subscriber → what it got.
        aside: kind of record → how many this run put into the quarantine.
        owed_files: subscriber → files that it is owed now.
    """

    found_files: int
    delivered: dict[str, SubscriberTotals]
    aside: dict[str, int]
    owed_files: dict[str, int]


def run_totals(tx: Connection, url: str, run_id: str, *, since: datetime) -> RunTotals | None:
    """The sum of a run that exports the source at *url*; None if the ledger does not know that source.

    Args:
        since: when the run began; what was accepted earlier is not counted.
    """
    source_id = sources.source_id(tx, url)
    if source_id is None:
        return None
    active = subscriptions.active(tx, source_id)
    files = {name: one.files_done for name, one in inspection.run_standings(tx, run_id).items()}
    events = _accepted(tx, run_id, since)
    names = sorted({*files, *events, *(one.name for one in active)})
    return RunTotals(
        found_files=_found(tx, source_id, run_id),
        delivered={name: SubscriberTotals(events.get(name, 0), files.get(name, 0)) for name in names},
        aside=quarantined.kept_by_run(tx, source_id, run_id),
        owed_files={one.subscriber: one.files for one in owed.waiting(tx, source_id, active)},
    )


def _accepted(tx: Connection, run_id: str, since: datetime) -> dict[str, int]:
    a, d, s = t.acceptances.c, t.deliveries.c, t.subscriptions.c
    rows = tx.execute(
        select(s.name, func.sum(a.accepted))
        .select_from(t.deliveries.join(t.subscriptions, s.id == d.subscription_id))
        .join(t.acceptances, deliveries.is_counted())
        .where(d.last_run_id == run_id, a.accepted_at >= since)
        .group_by(s.name)
    )
    return {name: int(number) for name, number in rows}


def _found(tx: Connection, source_id: int, run_id: str) -> int:
    """Files that the run planned, and not those that it only set apart: these were seen before."""
    f, m = t.files.c, t.manifests.c
    own = (m.source_id == source_id, manifests.has_rows(), m.planned_by_run == run_id)
    moments = list(tx.execute(select(m.planned_at).distinct().where(*own)).scalars())
    if not moments:
        return 0
    found = select(func.count()).join(t.manifests, m.id == f.manifest_id).where(*own, f.seen_at.in_(moments))
    return int(tx.execute(found.select_from(t.files)).scalar_one())
