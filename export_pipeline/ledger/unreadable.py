"""Files that a run could not read."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, select

from export_pipeline.ledger import parts
from export_pipeline.ledger import tables as t
from export_pipeline.source.file import utf8


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """A file whose latest reading failed.

    Attributes:
        reason: what is wrong with it, without secrets.
        attempts: how many runs have tried it.
        given_up: it lies in the quarantine as a whole, and no run tries it again.
    """

    key: str
    day: date
    reason: str
    attempts: int
    given_up: bool


def unreadable(tx: Connection, source: int, days: Collection[date], run_ids: Collection[str]) -> list[UnreadableFile]:
    """What one of these runs took of these days and could not read, in key order.

    Args:
        days: the manifests of these are looked at; there is an index for that, and none by run.
        run_ids: a run and those it re-executes. A file that a later run took is that one's to report.
    """
    d, f, m = t.deliveries.c, t.files.c, t.manifests.c
    rows = tx.execute(
        select(f.key, m.day, m.last_error, m.read_attempts, m.state)
        .distinct()
        .join(t.manifests, m.id == f.manifest_id)
        .join(t.deliveries, d.manifest_id == m.id)
        .where(m.source_id == source, m.day.in_(days), m.read_attempts > 0, d.last_run_id.in_(run_ids))
        .order_by(f.key)
    )
    of_parts = tx.execute(
        select(m.part_files, m.day, m.last_error, m.read_attempts, m.state)
        .distinct()
        .join(t.deliveries, d.manifest_id == m.id)
        .where(m.source_id == source, m.day.in_(days), m.part_of.is_not(None))
        .where(m.read_attempts > 0, d.last_run_id.in_(run_ids))
    )
    found = [(row.key, row) for row in rows]
    found += [(one.file.key, row) for row in of_parts for one in parts.load(row.part_files)]
    return [
        UnreadableFile(key, row.day, row.last_error, row.read_attempts, row.state == t.GIVEN_UP)
        for key, row in sorted(found, key=lambda one: utf8(one[0]))
    ]
