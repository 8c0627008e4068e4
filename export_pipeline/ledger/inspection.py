"""How an export stands: queries for people who look, which change nothing."""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, and_, exists, func, or_, select

from export_pipeline.ledger import folding, owed
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.subscriptions import Subscription


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one subscriber is.

    Attributes:
        is_active: whether it is configured; what a removed one was owed stays in the ledger.
        since: what the deployment file said when it was last applied; None: nothing.
        start_day, start_at: it is owed no file of an earlier day, or that arrived earlier; None: no bound.
        delivered_day, delivered_key: everything up to this file was delivered; None where nothing was.
        owed_manifests, owed_files: what waits for it.
        oldest_arrival: when the oldest owed file arrived in the store; None where nothing is owed.
        given_up_files: files that it will not get, since they could not be read and lie in the quarantine.
        last_error: why the latest attempt failed; None while it went well.
        is_blocked: later attempts will fail too, until a person changes something.
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
    """Files that are given up: nobody tries them again before a person does.

    Attributes:
        keys: of the files; only the first one where the manifest is folded.
        files: how many they are.
        subscribers: who does not get them; empty: nobody was owed them.
        reason: why they could not be read; None where that is not known any more.
    """

    day: date
    keys: tuple[str, ...]
    files: int
    subscribers: tuple[str, ...]
    reason: str | None


@dataclass(frozen=True, slots=True)
class Account:
    """What became of all files of a source.

    Attributes:
        files: seen, ignored ones included.
        ignored_files: seen and, by configuration, not taken.
        unread_files: planned, and not read yet.
        unreadable_files: the ones that could not be read so far and are tried again.
        given_up_files: kept in the quarantine as a whole.
        events_framed, events_batched, events_quarantined: of the files read; the first is the sum of the other two.
        refused_events: in the quarantine because a subscriber refused them, each subscriber counted.
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
"""Of a source that no run has seen."""


def standings(tx: Connection, source: int) -> list[Standing]:
    """Every subscriber that the ledger knows, by name; removed ones only where they are owed something."""
    s = t.subscriptions.c
    rows = tx.execute(select(t.subscriptions).where(s.source_id == source).order_by(s.name)).all()
    known = [Subscription(row.id, row.name, row.start_day, row.start_at) for row in rows]
    given_up = _given_up_files(tx, source)
    found = []
    for row, one, waiting in zip(rows, known, owed.waiting(tx, source, known), strict=True):
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


def account(tx: Connection, source: int) -> Account:
    """What became of all files. Walks every file and manifest of the source once."""
    f, m, d = t.files.c, t.manifests.c, t.deliveries.c
    # What is driven again from the quarantine has files of its own there.
    of_source = or_(m.origin == t.SOURCE, f.manifest_id.is_(None))
    files, taken = tx.execute(
        select(func.count(), func.count(f.manifest_id))
        .select_from(t.files.outerjoin(t.manifests, m.id == f.manifest_id))
        .where(f.source_id == source, of_source)
    ).one()
    unread = select(func.coalesce(func.sum(m.files), 0)).where(m.source_id == source, m.state == t.PLANNED)
    sums = [func.coalesce(func.sum(column), 0) for column in (m.events_framed, m.events_batched, m.events_quarantined)]
    framed, batched, quarantined = tx.execute(
        # What is in a part was counted when the whole was read.
        select(*sums).where(m.source_id == source, m.state == t.READ, m.origin == t.SOURCE, m.part_of.is_(None))
    ).one()
    given_up = select(func.coalesce(func.sum(m.files), 0)).where(m.source_id == source, m.state == t.GIVEN_UP)
    refused = (
        select(func.coalesce(func.sum(d.refused), 0))
        .join(t.manifests, m.id == d.manifest_id)
        .where(m.source_id == source, d.state == t.DELIVERED)
    )
    return Account(
        files=files + folding.folded_files(tx, source),
        ignored_files=files - taken,
        unread_files=int(tx.execute(unread.where(m.part_of.is_(None))).scalar_one()),
        unreadable_files=int(tx.execute(unread.where(m.read_attempts > 0)).scalar_one()),
        given_up_files=int(tx.execute(given_up).scalar_one()),
        events_framed=int(framed),
        events_batched=int(batched),
        events_quarantined=int(quarantined),
        refused_events=int(tx.execute(refused).scalar_one()),
        more_to_list=bool(tx.execute(select(t.sources.c.more_to_list).where(t.sources.c.id == source)).scalar()),
    )


def given_up(tx: Connection, source: int, *, most: int) -> list[GivenUp]:
    """What was given up, for everybody or for some, the newest days first; at most *most* manifests."""
    m, d, f, s = t.manifests.c, t.deliveries.c, t.files.c, t.subscriptions.c
    for_some = exists().where(d.manifest_id == m.id, d.state == t.GIVEN_UP)
    manifests = tx.execute(
        select(m.id, m.day, m.first_key, m.files, m.last_error)
        .where(m.source_id == source, or_(m.state == t.GIVEN_UP, for_some))
        .order_by(m.day.desc(), m.first_key)
        .limit(most)
    ).all()
    found = []
    for row in manifests:
        keys = tx.execute(select(f.key).where(f.manifest_id == row.id).order_by(f.key)).scalars()
        names = tx.execute(
            select(s.name)
            .join(t.deliveries, d.subscription_id == s.id)
            .where(d.manifest_id == row.id, d.state == t.GIVEN_UP)
            .order_by(s.name)
        ).scalars()
        found.append(GivenUp(row.day, tuple(keys) or (row.first_key,), row.files, tuple(names), row.last_error))
    return found


def _given_up_files(tx: Connection, source: int) -> dict[int, int]:
    d, m = t.deliveries.c, t.manifests.c
    rows = tx.execute(
        select(d.subscription_id, func.sum(m.files))
        .join(t.manifests, m.id == d.manifest_id)
        .where(d.state == t.GIVEN_UP, m.source_id == source)
        .group_by(d.subscription_id)
    )
    return {row[0]: int(row[1]) for row in rows}


def _delivered_up_to(tx: Connection, subscription: int) -> tuple[date | None, str | None]:
    """The last file of the source before the first one that is owed; one that holds no event was not delivered."""
    d, f, m = t.deliveries.c, t.files.c, t.manifests.c
    of_source = select(d.day, d.first_key, d.manifest_id).join(t.manifests, m.id == d.manifest_id)
    of_source = of_source.where(d.subscription_id == subscription, m.origin == t.SOURCE)
    owed_first = of_source.where(d.state == t.OWED).order_by(d.day, d.first_key).limit(1)
    delivered = of_source.where(d.state == t.DELIVERED, m.part_of.is_(None), m.events_batched > 0)
    first = tx.execute(owed_first).first()
    if first is not None:
        of_the_same_day = and_(d.day == first.day, d.first_key < first.first_key)
        delivered = delivered.where(or_(d.day < first.day, of_the_same_day))
    last = tx.execute(delivered.order_by(d.day.desc(), d.first_key.desc()).limit(1)).first()
    if last is None:
        return None, None
    key = tx.execute(select(func.max(f.key)).where(f.manifest_id == last.manifest_id)).scalar()
    folded = select(t.folded.c.last_key).where(t.folded.c.manifest_id == last.manifest_id)
    return last.day, key if key is not None else tx.execute(folded).scalar()
