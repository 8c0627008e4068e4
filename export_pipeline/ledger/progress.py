"""How far one run is with what it took upon itself. Changes nothing."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from export_pipeline.ledger import tables as t


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run delivers to one subscriber, or to all, each one counted.

    Attributes:
        bytes_done, bytes_total: of the files as they are stored; of a manifest under way, by its accepted batches.
        files_done, files_total: files of manifests that are delivered as a whole, and of all.
        events: accepted, refused or filtered so far; how many there will be is known only once all is read.
    """

    bytes_done: int = 0
    bytes_total: int = 0
    files_done: int = 0
    files_total: int = 0
    events: int = 0

    def __add__(self, other: "Progress") -> "Progress":
        return Progress(
            self.bytes_done + other.bytes_done,
            self.bytes_total + other.bytes_total,
            self.files_done + other.files_done,
            self.files_total + other.files_total,
            self.events + other.events,
        )


def run_progress(tx: Connection, run_id: str) -> dict[str, Progress]:
    """Subscriber → how far the deliveries are that *run_id* took upon itself (``owed.assign``); sorted by name."""
    d, m, a, s = t.deliveries.c, t.manifests.c, t.acceptances.c, t.subscriptions.c
    of_round = (a.manifest_id == d.manifest_id) & (a.subscription_id == d.subscription_id) & (a.round == d.round)
    together = (
        t.deliveries.join(t.manifests, m.id == d.manifest_id)
        .join(t.subscriptions, s.id == d.subscription_id)
        .outerjoin(t.acceptances, of_round)
    )
    described = (s.name, d.state, m.size_bytes, m.files, m.batches)
    rows = tx.execute(
        select(
            *described,
            func.count(a.n).label("accepted_batches"),
            func.coalesce(func.sum(a.accepted + a.refused + a.filtered), 0).label("events"),
        )
        .select_from(together)
        .where(d.last_run_id == run_id, d.state.in_((t.OWED, t.DELIVERED)))
        .group_by(d.manifest_id, d.subscription_id, *described)
        .order_by(s.name)
    )
    found: dict[str, Progress] = {}
    for row in rows:
        is_done = row.state == t.DELIVERED
        under_way = row.size_bytes * row.accepted_batches // row.batches if row.batches else 0
        one = Progress(
            bytes_done=row.size_bytes if is_done else under_way,
            bytes_total=row.size_bytes,
            files_done=row.files if is_done else 0,
            files_total=row.files,
            events=int(row.events),
        )
        found[row.name] = found.get(row.name, Progress()) + one
    return found
