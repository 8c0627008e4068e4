"""The status of an export: read-only queries for people."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, and_, exists, func, or_, select

from export_pipeline.ledger import deliveries, folding, manifests, owed, quarantined, records
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.manifests import ManifestState
from export_pipeline.ledger.records import Subscription
from export_pipeline.source.file import utf8


@dataclass(frozen=True, slots=True)
class Standing:
    """The progress of one subscriber.

    Attributes:
        is_active: whether it is configured; what a removed one was owed stays in the ledger.
        since: as in the deployment file when it was last applied; None: not set.
        start_day, start_at: it is owed no file of an earlier day, or that arrived earlier; None: no limit.
        delivered_day, delivered_key: everything up to this file was delivered; None if nothing was.
        owed_manifests, owed_files: its backlog.
        oldest_arrival: when the oldest owed file arrived in the store; None if nothing is owed.
        given_up_files: files that it will not receive, since they could not be read and are in the quarantine.
        last_error: why the latest attempt failed; None if it succeeded.
        is_blocked: later attempts will fail too, until the user changes something.
    """

    subscriber: str
    is_active: bool
    since: str | None
    start_day: date | None
    start_at: datetime | None
    delivered_day: date | None
    delivered_key: str | None
    owed_manifests: int
    owed_files: int
    oldest_arrival: datetime | None
    given_up_files: int
    last_success_at: datetime | None
    last_error: str | None
    last_error_at: datetime | None
    last_error_run_id: str | None
    is_blocked: bool


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Files that were given up: they are not retried until the user requests it.

    Attributes:
        keys: of the files; only the first one if the manifest is folded.
        files: their number.
        subscribers: those that do not receive them; empty: they were owed to nobody.
        reason: why they could not be read; None if that is no longer known.
    """

    day: date
    keys: tuple[str, ...]
    files: int
    subscribers: tuple[str, ...]
    reason: str | None


@dataclass(frozen=True, slots=True)
class Account:
    """The totals of all files of a source.

    Attributes:
        files: all that were seen, including ignored ones.
        ignored_files: seen and, by configuration, not taken.
        unread_files: planned, and not read yet.
        unreadable_files: those that could not be read so far and are retried.
        given_up_files: kept in the quarantine as whole files, and neither dismissed nor replaced by newer ones.
        events_framed, events_batched, events_quarantined: of the files read; the first is the sum of the other two.
        refused_events: in the quarantine because a subscriber refused them, counted per subscriber.
        more_to_list: the last listing stopped at ``max_files``.
    """

    files: int
    ignored_files: int
    unread_files: int
    unreadable_files: int
    given_up_files: int
    events_framed: int
    events_batched: int
    events_quarantined: int
    refused_events: int
    more_to_list: bool


NOTHING = Account(0, 0, 0, 0, 0, 0, 0, 0, 0, more_to_list=False)
"""For a source that no run has seen."""


@dataclass(frozen=True, slots=True)
class DayTotal:
    """All manifests of one day together.

    Attributes:
        events: in batches, or accepted by a subscriber.
        files: where they come from.
    """

    events: int
    files: int


@dataclass(frozen=True, slots=True)
class RunStanding:
    """What a run delivers to one subscriber, or to all, counted per subscriber.

    Attributes:
        bytes_done, bytes_total: stored bytes of the files; a manifest in progress counts by its accepted batches.
        files_done, files_total: files of completely delivered manifests, and of all.
        events: accepted, refused or filtered so far; the total is known only once everything is read.
    """

    bytes_done: int = 0
    bytes_total: int = 0
    files_done: int = 0
    files_total: int = 0
    events: int = 0

    def __add__(self, other: "RunStanding") -> "RunStanding":
        return RunStanding(
            self.bytes_done + other.bytes_done,
            self.bytes_total + other.bytes_total,
            self.files_done + other.files_done,
            self.files_total + other.files_total,
            self.events + other.events,
        )


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """A file whose latest reading failed.

    Attributes:
        reason: what is wrong with it, without secrets.
        attempts: how many runs have tried it.
        is_tried_again: by later runs; if not, it is in the quarantine as a whole.
    """

    key: str
    day: date
    reason: str
    attempts: int
    is_tried_again: bool


def standings(tx: Connection, source_id: int) -> list[Standing]:
    """Every subscriber in the ledger, by name; removed ones only if they are owed something."""
    s = t.subscriptions.c
    rows = tx.execute(select(t.subscriptions).where(s.source_id == source_id).order_by(s.name)).all()
    known = [Subscription(row.id, row.name, row.start_day, row.start_at) for row in rows]
    given_up = _given_up_files(tx, source_id)
    found = []
    for row, one, waiting in zip(rows, known, owed.waiting(tx, source_id, known), strict=True):
        if row.inactive_since is not None and not waiting.manifests:
            continue
        day, key = _delivered_up_to(tx, one.id)
        found.append(
            Standing(
                subscriber=one.name,
                is_active=row.inactive_since is None,
                since=row.since,
                start_day=one.start_day,
                start_at=one.start_at,
                delivered_day=day,
                delivered_key=key,
                owed_manifests=waiting.manifests,
                owed_files=waiting.files,
                oldest_arrival=waiting.oldest_arrival,
                given_up_files=given_up.get(one.id, 0),
                last_success_at=row.last_success_at,
                last_error=row.last_error,
                last_error_at=row.last_error_at,
                last_error_run_id=row.last_error_run_id,
                is_blocked=row.is_blocked and row.last_error is not None,
            )
        )
    return found


def account(tx: Connection, source_id: int) -> Account:
    """The totals of all files. Scans every file and manifest of the source once."""
    f, m, d = t.files.c, t.manifests.c, t.deliveries.c
    # What is retried from the quarantine has separate files there.
    of_source = or_(manifests.is_of_source(), f.manifest_id.is_(None))
    files, taken = tx.execute(
        select(func.count(), func.count(f.manifest_id))
        .select_from(t.files.outerjoin(t.manifests, m.id == f.manifest_id))
        .where(f.source_id == source_id, of_source)
    ).one()
    unread = select(func.coalesce(func.sum(m.files), 0)).where(m.source_id == source_id, manifests.is_planned())
    sums = [func.coalesce(func.sum(column), 0) for column in (m.events_framed, m.events_batched, m.events_quarantined)]
    framed, batched, aside = tx.execute(
        # The events of a part were counted when the whole was read.
        select(*sums).where(
            m.source_id == source_id, manifests.is_read(), manifests.is_of_source(), m.part_of.is_(None)
        )
    ).one()
    given_up = select(func.coalesce(func.sum(m.files), 0)).where(
        m.source_id == source_id, manifests.is_given_up(), ~quarantined.is_settled()
    )
    refused = (
        select(func.coalesce(func.sum(d.refused), 0))
        .join(t.manifests, m.id == d.manifest_id)
        .where(m.source_id == source_id, deliveries.is_delivered())
    )
    return Account(
        files=files + folding.count_files(tx, source_id),
        ignored_files=files - taken,
        unread_files=int(tx.execute(unread.where(m.part_of.is_(None))).scalar_one()),
        unreadable_files=int(tx.execute(unread.where(m.read_attempts > 0)).scalar_one()),
        given_up_files=int(tx.execute(given_up).scalar_one()),
        events_framed=int(framed),
        events_batched=int(batched),
        events_quarantined=int(aside),
        refused_events=int(tx.execute(refused).scalar_one()),
        more_to_list=bool(tx.execute(select(t.sources.c.more_to_list).where(t.sources.c.id == source_id)).scalar()),
    )


def given_up(tx: Connection, source_id: int, *, most: int) -> list[GivenUp]:
    """What was given up, for all or for some, the newest days first; at most *most* manifests.

    Except what was dismissed, or what newer files replace.
    """
    m, d, f, s = t.manifests.c, t.deliveries.c, t.files.c, t.subscriptions.c
    for_some = exists().where(d.manifest_id == m.id, deliveries.is_given_up())
    rows = tx.execute(
        select(m.id, m.day, m.first_key, m.files, m.last_error)
        .where(m.source_id == source_id, or_(manifests.is_given_up(), for_some), ~quarantined.is_settled())
        .order_by(m.day.desc(), m.first_key)
        .limit(most)
    ).all()
    found = []
    for row in rows:
        keys = tx.execute(select(f.key).where(f.manifest_id == row.id).order_by(f.key)).scalars()
        names = tx.execute(
            select(s.name)
            .join(t.deliveries, d.subscription_id == s.id)
            .where(d.manifest_id == row.id, deliveries.is_given_up())
            .order_by(s.name)
        ).scalars()
        found.append(GivenUp(row.day, tuple(keys) or (row.first_key,), row.files, tuple(names), row.last_error))
    return found


def _given_up_files(tx: Connection, source_id: int) -> dict[int, int]:
    d, m = t.deliveries.c, t.manifests.c
    rows = tx.execute(
        select(d.subscription_id, func.sum(m.files))
        .join(t.manifests, m.id == d.manifest_id)
        .where(deliveries.is_given_up(), m.source_id == source_id, ~quarantined.is_settled())
        .group_by(d.subscription_id)
    )
    return {row[0]: int(row[1]) for row in rows}


def _delivered_up_to(tx: Connection, subscription: int) -> tuple[date | None, str | None]:
    """The last file of the source before the first owed one; a file without events was not delivered."""
    d, m = t.deliveries.c, t.manifests.c
    of_source = select(d.day, d.first_key, d.manifest_id).join(t.manifests, m.id == d.manifest_id)
    of_source = of_source.where(d.subscription_id == subscription, manifests.is_of_source())
    owed_first = of_source.where(deliveries.is_owed()).order_by(d.day, d.first_key).limit(1)
    delivered = of_source.where(deliveries.is_delivered(), m.part_of.is_(None), m.events_batched > 0)
    first = tx.execute(owed_first).first()
    if first is not None:
        of_the_same_day = and_(d.day == first.day, d.first_key < first.first_key)
        delivered = delivered.where(or_(d.day < first.day, of_the_same_day))
    last = tx.execute(delivered.order_by(d.day.desc(), d.first_key.desc()).limit(1)).first()
    if last is None:
        return None, None
    return last.day, folding.last_key(tx, last.manifest_id)


def read_of_day(tx: Connection, source_id: int, day: date) -> DayTotal:
    """What has been read of *day*."""
    m = t.manifests.c
    found = select(func.sum(m.events_batched), func.sum(m.files)).where(
        m.source_id == source_id, m.day == day, manifests.is_read(), m.part_of.is_(None)
    )
    events, files = tx.execute(found).one()
    return DayTotal(int(events or 0), int(files or 0))


def delivered_of_day(tx: Connection, source_id: int, subscription: Subscription, day: date) -> DayTotal:
    """What a subscriber has received of *day*; what it receives again counts once."""
    d, m = t.deliveries.c, t.manifests.c
    found = (
        select(func.sum(d.accepted), func.sum(m.files))
        .join(t.manifests, m.id == d.manifest_id)
        .where(m.source_id == source_id, m.day == day, d.subscription_id == subscription.id, deliveries.is_delivered())
    )
    events, files = tx.execute(found).one()
    return DayTotal(int(events or 0), int(files or 0))


def run_standings(tx: Connection, run_id: str) -> dict[str, RunStanding]:
    """Subscriber → progress of the deliveries that *run_id* took on (``owed.assign``); sorted by name."""
    d, m, a, s = t.deliveries.c, t.manifests.c, t.acceptances.c, t.subscriptions.c
    together = (
        t.deliveries.join(t.manifests, m.id == d.manifest_id)
        .join(t.subscriptions, s.id == d.subscription_id)
        .outerjoin(t.acceptances, deliveries.is_counted())
    )
    described = (s.name, d.state, m.size_bytes, m.files, m.batches)
    rows = tx.execute(
        select(
            *described,
            func.count(a.n).label("accepted_batches"),
            func.coalesce(func.sum(a.accepted + a.refused + a.filtered), 0).label("events"),
        )
        .select_from(together)
        .where(d.last_run_id == run_id, deliveries.is_taken_by_run())
        .group_by(d.manifest_id, d.subscription_id, *described)
        .order_by(s.name)
    )
    found: dict[str, RunStanding] = {}
    for row in rows:
        is_done = deliveries.STATES[row.state].is_delivered
        under_way = row.size_bytes * row.accepted_batches // row.batches if row.batches else 0
        one = RunStanding(
            bytes_done=row.size_bytes if is_done else under_way,
            bytes_total=row.size_bytes,
            files_done=row.files if is_done else 0,
            files_total=row.files,
            events=int(row.events),
        )
        found[row.name] = found.get(row.name, RunStanding()) + one
    return found


def unreadable_files(
    tx: Connection, source_id: int, days: Collection[date], run_ids: Collection[str]
) -> list[UnreadableFile]:
    """What one of these runs took of these days and could not read, in key order.

    Args:
        days: only manifests of these are queried; there is an index by day, but none by run.
        run_ids: a run and those it re-executes. A file that a later run took is reported by that run.
    """
    d, f, m = t.deliveries.c, t.files.c, t.manifests.c
    rows = tx.execute(
        select(f.key, m.day, m.last_error, m.read_attempts, m.state)
        .distinct()
        .join(t.manifests, m.id == f.manifest_id)
        .join(t.deliveries, d.manifest_id == m.id)
        .where(m.source_id == source_id, m.day.in_(days), m.read_attempts > 0, d.last_run_id.in_(run_ids))
        .order_by(f.key)
    )
    of_parts = tx.execute(
        select(m.part_files, m.day, m.last_error, m.read_attempts, m.state)
        .distinct()
        .join(t.deliveries, d.manifest_id == m.id)
        .where(m.source_id == source_id, m.day.in_(days), m.part_of.is_not(None))
        .where(m.read_attempts > 0, d.last_run_id.in_(run_ids))
    )
    found = [(row.key, row) for row in rows]
    found += [(one.file.key, row) for row in of_parts for one in records.load_part_files(row.part_files)]
    return [
        UnreadableFile(key, row.day, row.last_error, row.read_attempts, not ManifestState(row.state).is_closed)
        for key, row in sorted(found, key=lambda one: utf8(one[0]))
    ]
