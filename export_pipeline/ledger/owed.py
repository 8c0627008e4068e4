"""What is owed: which manifests a run processes, and the size of the backlog."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    func,
    literal,
    or_,
    select,
    update,
)

from export_pipeline.ledger import folding
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import utc_now
from export_pipeline.ledger.deliveries import is_owed
from export_pipeline.ledger.records import Subscription
from export_pipeline.source.file import utf8

# Pauses before a file that failed by itself once, twice, … is retried in addition to the few of each run. No longer:
# after an outage the whole backlog should be read soon.
_PAUSES_MINUTES = (2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class OwedManifest:
    """A manifest that a run will read and deliver.

    Attributes:
        files, size_bytes: number and stored size of its files.
        subscribers: names of those it is owed to and that this run serves.
        is_suspect: a run began to read it and has not finished. If none is reading it now, that run died.
        tried_at: when that was last seen; None: never.
    """

    id: str
    day: date
    first_key: str
    files: int
    size_bytes: int
    subscribers: tuple[str, ...]
    is_suspect: bool = False
    tried_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The backlog of one subscriber.

    Attributes:
        size_bytes: of the files, as stored.
        oldest_arrival: when the oldest owed file arrived in the store; None: nothing is owed.
        failing: the latest attempt to deliver to it failed.
    """

    subscriber: str
    manifests: int
    files: int
    size_bytes: int
    oldest_arrival: datetime | None
    failing: bool


def choose(
    tx: Connection,
    subscriptions: Sequence[Subscription],
    *,
    max_files: int,
    max_retries: int,
    now: datetime | None = None,
) -> list[OwedManifest]:
    """The oldest owed manifests: at most *max_files* files per subscriber, at least one manifest.

    Manifests that could not be read before, since the store refused access or a run died, take at most half of that as
    long as untried ones wait. Files that failed by themselves are retried alone, at most *max_retries* of them in
    addition, plus as many as fit into what the others leave free: these after a pause that doubles with each attempt.
    So nothing unreadable delays what can be read.

    Args:
        now: aware; None: now.

    Returns:
        In key order, but those whose reader died come last, since they may end this run as well; of these the least
        recently tried comes first, so that each is observed separately.
    """
    chosen: dict[str, OwedManifest] = {}
    wanted: dict[str, list[str]] = {}
    for subscription in subscriptions:
        taken = _oldest(tx, subscription, max_files=max_files)
        left = max_files - sum(manifest.files for manifest in taken)
        more = max(0, left - max_retries) if max_retries else 0
        taken += _retries(tx, subscription, most=max_retries, more=more, now=now or utc_now())
        for manifest in taken:
            chosen[manifest.id] = manifest
            wanted.setdefault(manifest.id, []).append(subscription.name)
    return sorted(
        (_with_subscribers(manifest, wanted[manifest.id]) for manifest in chosen.values()),
        key=_turn,
    )


def choose_among(
    tx: Connection, subscriptions: Sequence[Subscription], *, source_id: int, day: date
) -> list[OwedManifest]:
    """Every manifest of one *day* that is owed to one of *subscriptions*, in key order."""
    d, m = t.deliveries.c, t.manifests.c
    names = {subscription.id: subscription.name for subscription in subscriptions}
    rows = tx.execute(
        _owed_manifests()
        .add_columns(d.subscription_id)
        .where(m.source_id == source_id, d.day == day, d.subscription_id.in_(names))
        .order_by(d.first_key, m.id)
    ).all()
    wanted: dict[str, list[str]] = {}
    for row in rows:
        wanted.setdefault(row.id, []).append(names[row.subscription_id])
    unique = {row.id: _manifest(row) for row in rows}
    return [_with_subscribers(manifest, wanted[manifest.id]) for manifest in unique.values()]


def owed_of_day(tx: Connection, source_id: int, names: Iterable[str], *, day: date) -> dict[str, int]:
    """Active subscriber among *names* → how many files of one *day* it is still owed; omits those owed nothing."""
    d, m, s = t.deliveries.c, t.manifests.c, t.subscriptions.c
    rows = tx.execute(
        select(s.name, func.sum(m.files))
        .join_from(t.deliveries, t.manifests, m.id == d.manifest_id)
        .join(t.subscriptions, s.id == d.subscription_id)
        .where(
            m.source_id == source_id,
            d.day == day,
            is_owed(),
            s.inactive_since.is_(None),
            s.name.in_(list(names)),
        )
        .group_by(s.name)
        .order_by(s.name)
    )
    return {row[0]: int(row[1]) for row in rows}


def assign(
    tx: Connection, manifests: Iterable[OwedManifest], subscriptions: Iterable[Subscription], run_id: str
) -> None:
    """Record which run takes which manifests to whom, for its later steps and for people."""
    d = t.deliveries.c
    numbers = {subscription.name: subscription.id for subscription in subscriptions}
    rows = [
        {"of_manifest": manifest.id, "of_subscription": numbers[name]}
        for manifest in manifests
        for name in manifest.subscribers
    ]
    if rows:
        statement = update(t.deliveries).where(
            d.manifest_id == bindparam("of_manifest"), d.subscription_id == bindparam("of_subscription")
        )
        tx.execute(statement.values(last_run_id=run_id), rows)


def assigned(tx: Connection, manifest_id: str, run_ids: Iterable[str]) -> list[str]:
    """Names of the subscribers that one of these runs delivers a manifest to, and that are still owed it."""
    return list(tx.execute(_assigned(), {"manifest": manifest_id, "runs": list(run_ids)}).scalars())


def assigned_untried(tx: Connection, run_ids: Iterable[str]) -> list[str]:
    """Ids of the manifests that one of these runs took last, and that are still owed to anyone, in key order.

    Without files that could not be read and were isolated: they have been tried.
    """
    d, m = t.deliveries.c, t.manifests.c
    rows = tx.execute(
        select(d.manifest_id)
        .join(t.manifests, m.id == d.manifest_id)
        .where(d.last_run_id.in_(list(run_ids)), is_owed(), m.read_attempts == 0)
        .order_by(d.day, d.first_key, d.manifest_id)
    ).scalars()
    return list(dict.fromkeys(rows))


def waiting(tx: Connection, source_id: int, subscriptions: Iterable[Subscription]) -> list[Waiting]:
    """The backlog of each subscriber. Scans only the owed deliveries, however old the ledger is."""
    subscriptions = list(subscriptions)
    numbers = [subscription.id for subscription in subscriptions]
    counted: Mapping[int, tuple[int, int, int]] = {
        row[0]: (row[1], int(row[2]), int(row[3])) for row in tx.execute(_counted(), {"numbers": numbers})
    }
    failing = failing_subscriptions(tx, source_id)
    found = []
    for subscription in subscriptions:
        manifests, files, size_bytes = counted.get(subscription.id, (0, 0, 0))
        oldest = _oldest_arrival(tx, subscription) if manifests else None
        found.append(Waiting(subscription.name, manifests, files, size_bytes, oldest, subscription.id in failing))
    return found


# The statements of every tick are built once: that takes as long as executing them.
@cache
def _counted() -> Select[Any]:
    d, m = t.deliveries.c, t.manifests.c
    return (
        select(d.subscription_id, func.count(), func.sum(m.files), func.sum(m.size_bytes))
        .join(t.manifests, m.id == d.manifest_id)
        # Not by the source: SQLite would choose that index, and scan every manifest of it.
        .where(is_owed(), d.subscription_id.in_(bindparam("numbers", expanding=True)))
        .group_by(d.subscription_id)
    )


@cache
def _assigned() -> Select[str]:
    d, s = t.deliveries.c, t.subscriptions.c
    names = select(s.name).join(t.deliveries, d.subscription_id == s.id)
    of_runs = d.last_run_id.in_(bindparam("runs", expanding=True))
    return names.where(d.manifest_id == bindparam("manifest"), is_owed(), of_runs).order_by(s.name)


@cache
def _failing() -> Select[int]:
    s = t.subscriptions.c
    return select(s.id).where(s.source_id == bindparam("of_source"), s.last_error.is_not(None))


@cache
def _waits() -> Select[Any]:
    d, s = t.deliveries.c, t.subscriptions.c
    owed = select(literal(1)).join_from(t.deliveries, t.subscriptions, s.id == d.subscription_id)
    return owed.where(d.manifest_id == bindparam("manifest"), is_owed(), s.inactive_since.is_(None)).limit(1)


def _oldest_arrival(tx: Connection, subscription: Subscription) -> datetime | None:
    """When the oldest owed file arrived.

    Only two manifests are examined: the first by day and key, and the one owed for longest, since what is planned early
    arrived early. Examining all files would take time proportional to the backlog.
    """
    d, m = t.deliveries.c, t.manifests.c
    # The rows of a part's files are those of the whole.
    holder = func.coalesce(m.part_of, m.id)
    owed = select(holder).join(t.deliveries, d.manifest_id == m.id)
    owed = owed.where(d.subscription_id == subscription.id, is_owed()).limit(1)
    first, longest = owed.order_by(d.day, d.first_key), owed.order_by(d.owed_at, d.day, d.first_key)
    return folding.first_arrival(tx, first.scalar_subquery(), longest.scalar_subquery())


def _owed_manifests() -> Select[Any]:
    d, m = t.deliveries.c, t.manifests.c
    return (
        select(m.id, m.day, m.first_key, m.files, m.size_bytes, m.read_attempts, m.reading_run_id, m.tried_at)
        .join(t.deliveries, d.manifest_id == m.id)
        .where(is_owed())
    )


def _oldest(tx: Connection, subscription: Subscription, *, max_files: int) -> list[OwedManifest]:
    """The oldest that were never tried, and those that failed through no fault of a file."""
    of_it = {"subscription": subscription.id, "most": max_files}
    fresh = _as_many(tx.execute(_untried(is_troubled=False), of_it), max_files)
    failed = _as_many(tx.execute(_untried(is_troubled=True), of_it), max_files)
    if fresh and failed:
        rest = max_files - sum(one.files for one in fresh)
        failed = _as_many(failed, max(max_files // 2, rest))
        fresh = _as_many(fresh, max(max_files // 2, max_files - sum(one.files for one in failed)))
    return fresh + failed


@cache
def _untried(*, is_troubled: bool) -> Select[Any]:
    d, m = t.deliveries.c, t.manifests.c
    owed = _owed_manifests().where(d.subscription_id == bindparam("subscription"), m.read_attempts == 0)
    owed = owed.order_by(d.day, d.first_key).limit(bindparam("most"))
    if is_troubled:
        # With the index of exactly these rows, as the condition is written: else SQLite would scan the whole backlog.
        return owed.where(or_(m.last_error.is_not(None), m.reading_run_id.is_not(None)))
    return owed.where(m.last_error.is_(None), m.reading_run_id.is_(None))


@cache
def _tried() -> Select[Any]:
    d, m = t.deliveries.c, t.manifests.c
    failed = _owed_manifests().where(d.subscription_id == bindparam("subscription"), m.read_attempts > 0)
    # The least often tried come first, then the least recently tried, so that all get their turn.
    return failed.order_by(m.read_attempts, m.tried_at.nulls_first(), d.day, d.first_key).limit(bindparam("most"))


def _retries(tx: Connection, subscription: Subscription, *, most: int, more: int, now: datetime) -> list[OwedManifest]:
    """Manifests that failed by themselves: *most* of them, and *more* of those whose pause is over."""
    found = [_manifest(row) for row in tx.execute(_tried(), {"subscription": subscription.id, "most": most})]
    if more and len(found) == most:
        known = {one.id for one in found}
        rested = tx.execute(
            _tried().where(or_(*_pauses_over(now))), {"subscription": subscription.id, "most": most + more}
        )
        found += [one for one in map(_manifest, rested) if one.id not in known][:more]
    return found


def _pauses_over(now: datetime) -> Iterator[ColumnElement[bool]]:
    m = t.manifests.c
    yield m.tried_at.is_(None)
    for tries, minutes in enumerate(_PAUSES_MINUTES, start=1):
        times = m.read_attempts == tries if tries < len(_PAUSES_MINUTES) else m.read_attempts >= tries
        yield and_(times, m.tried_at <= now - timedelta(minutes=minutes))


def _as_many(rows: Iterable[Any], max_files: int) -> list[OwedManifest]:
    """The first of *rows* that have *max_files* files together, but at least one."""
    chosen: list[OwedManifest] = []
    files = 0
    for row in rows:
        if chosen and files + row.files > max_files:
            break
        chosen.append(row if isinstance(row, OwedManifest) else _manifest(row))
        files += row.files
    return chosen


def _manifest(row: Row[Any]) -> OwedManifest:
    is_suspect = row.reading_run_id is not None
    return OwedManifest(row.id, row.day, row.first_key, row.files, row.size_bytes, (), is_suspect, row.tried_at)


def _turn(one: OwedManifest) -> tuple[bool, datetime, date, bytes]:
    never = datetime.min.replace(tzinfo=timezone.utc)
    tried_at = one.tried_at or never if one.is_suspect else never
    return one.is_suspect, tried_at, one.day, utf8(one.first_key)


def _with_subscribers(manifest: OwedManifest, names: Iterable[str]) -> OwedManifest:
    return replace(manifest, subscribers=tuple(names))


def gets_on(tx: Connection, subscription: Subscription) -> bool:
    """Whether the subscriber is owed anything that no reading failed for: each run takes some of that.

    Not whether anything is owed: if the store is down or a file is corrupt, run after run would be started.
    """
    d, m = t.deliveries.c, t.manifests.c
    fresh = (
        select(m.id)
        .join(t.deliveries, d.manifest_id == m.id)
        .where(d.subscription_id == subscription.id, is_owed(), m.last_error.is_(None))
        .where(m.reading_run_id.is_(None))
        .limit(1)
    )
    return tx.execute(fresh).first() is not None


def failing_subscriptions(tx: Connection, source_id: int) -> set[int]:
    """The subscriptions whose latest delivery failed."""
    return set(tx.execute(_failing(), {"of_source": source_id}).scalars())


def nobody_waits(tx: Connection, manifest_id: str) -> bool:
    """Whether a manifest is owed to no active subscriber, so that its staged batches can be deleted.

    For a removed subscriber nothing is kept staged: if it comes back, the manifest is read again.
    """
    return tx.execute(_waits(), {"manifest": manifest_id}).first() is None
