"""Compare the listing of some days with the ledger, and plan what is missing: the check ``completeness``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from itertools import islice
from typing import NamedTuple

from export_pipeline.ledger import database, deliveries, known, owed, parts, planning, sources, subscriptions
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.deliveries import DeliveryState
from export_pipeline.ledger.owed import Waiting
from export_pipeline.ledger.records import DatedFile, Run, Subscription
from export_pipeline.ledger.sources import ListingState
from export_pipeline.source.ignored import LeftOut
from export_pipeline.source.store import Source
from export_pipeline.steps.discover import DiscoverySettings, Found, dated, planning_alone, register, unknown
from export_pipeline.steps.lookout import wanted_files
from export_pipeline.steps.next_listing import ListingRules, midnight, next_listing

_COMPARED_AT_ONCE = 1_000
SHOWN_KEYS = 20


class Shortfall(NamedTuple):
    """Objects of one kind that a subscriber should have but has not received.

    Attributes:
        kind: its name in reports.
        words: what is wrong with them.
        keys: the first of them.
        is_owed: the subscriber may still get them; if not, the user must act.
    """

    kind: str
    words: str
    objects: int
    keys: list[str]
    is_owed: bool


@dataclass(slots=True)
class SubscriberTally:
    """How many of the listed objects one subscriber has received, and what happens to the others.

    Attributes:
        wanted: objects that it should get, by its start: the sum of the numbers below and of the missing ones.
        delivered: objects that it has received.
        waiting: owed, but not yet due, because they arrived recently.
        overdue, overdue_keys: owed and due; the first of them.
        given_up, given_up_keys: unreadable, and in the quarantine as whole files; the first of them.
    """

    wanted: int = 0
    delivered: int = 0
    waiting: int = 0
    overdue: int = 0
    overdue_keys: list[str] = field(default_factory=list)
    given_up: int = 0
    given_up_keys: list[str] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """How many are wanted and due, but were found by no run."""
        return self.wanted - self.delivered - self.waiting - sum(one.objects for one in self.shortfalls)

    @property
    def shortfalls(self) -> tuple[Shortfall, ...]:
        """What the subscriber should have but has not received, according to the ledger, by kind."""
        return (
            Shortfall("overdue", "overdue", self.overdue, self.overdue_keys, is_owed=True),
            Shortfall("given_up", "unreadable and quarantined", self.given_up, self.given_up_keys, is_owed=False),
        )

    @property
    def is_short(self) -> bool:
        """Whether it has not received all that it should have."""
        return bool(self.missing) or any(one.objects for one in self.shortfalls)

    def add(self, other: "SubscriberTally") -> None:
        """Add the counts of *other*, which covers further days."""
        for name in ("wanted", "delivered", "waiting", "overdue", "given_up"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("overdue_keys", "given_up_keys"):
            ours = getattr(self, name)
            ours += getattr(other, name)[: SHOWN_KEYS - len(ours)]


@dataclass(slots=True)
class Comparison:
    """The listing of some days compared with the ledger.

    Attributes:
        objects: how many the listing contains for these days.
        planned: how many of them the ledger knows.
        unwanted: how many go to no subscriber: older than every start, or known keys with new content, ignored.
        recent: how many no run has found yet, but arrived too recently to be due.
        missing: those that are due but were found by no run, in key order; :meth:`add` keeps only the first ones.
        missing_objects: the number of missing objects, those not kept included.
        missing_overwrites: how many of the missing are new content under a key whose earlier content was taken.
        subscribers: name → its tally.
        left_out: ignored names, and what could not be listed and therefore was not compared.
    """

    first_day: date
    last_day: date
    objects: int = 0
    planned: int = 0
    unwanted: int = 0
    recent: int = 0
    missing: list[DatedFile] = field(default_factory=list)
    missing_objects: int = 0
    missing_overwrites: int = 0
    subscribers: dict[str, SubscriberTally] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)

    def add(self, other: "Comparison") -> None:
        """Add *other*, which covers the following days; only the first missing objects are kept."""
        self.last_day = other.last_day
        for name in ("objects", "planned", "unwanted", "recent", "missing_objects", "missing_overwrites"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.missing += other.missing[: max(0, SHOWN_KEYS - len(self.missing))]
        for name, tally in other.subscribers.items():
            self.subscribers.setdefault(name, SubscriberTally()).add(tally)


@dataclass(frozen=True, slots=True)
class Repaired:
    """How much of what was missing is now planned."""

    files: int
    manifests: int


def compare(
    source: Source,
    ledger: Ledger,
    settings: ListingRules,
    *,
    first_day: date,
    last_day: date,
    wanted: Sequence[str],
    due_before: datetime,
) -> Comparison:
    """List the days from *first_day* to *last_day*, both included, and look up every object. Changes nothing.

    Args:
        wanted: names of the configured subscribers.
        due_before: objects that arrived earlier should be delivered by now.

    Raises:
        ListingFailed: the source could not be listed.
    """
    source.take_left_out()
    result = Comparison(first_day, last_day, subscribers={name: SubscriberTally() for name in wanted})
    with ledger.read() as tx:
        source_id = sources.source_id(tx, source.url)
        configured = subscriptions.active(tx, source_id) if source_id is not None else ()
        # In a ledger without a run everything is missing for every subscriber; no source has the number 0.
        source_id = source_id or 0
        states = deliveries.states_of_days(tx, source_id, first_day=first_day, last_day=last_day)
    names = {one.id: one for one in configured if one.name in result.subscribers}
    listing = _listing(source, settings, first_day=max(first_day, settings.start_date), last_day=last_day)
    while chunk := list(islice(listing, _COMPARED_AT_ONCE)):
        with ledger.read() as tx:
            seen = known.between(tx, source_id, chunk, takes_ignored=settings.on_overwrite != "ignore")
        for one in chunk:
            result.objects += 1
            if seen.has(one.file, one.day):
                manifest = seen.manifest_of(one.file, one.day) or ""
                of_file = states.get(manifest, {})
                if any(state.is_split for state in of_file.values()):
                    with ledger.read() as tx:
                        of_file = of_file | parts.delivery_states(tx, manifest, one.file.key)
                _count_planned(result, one, of_file, names, due_before)
            elif settings.on_overwrite == "ignore" and seen.was_taken(one.file.key, one.day):
                result.unwanted += 1
            else:
                before = result.missing_objects
                _count_unknown(result, one, names, due_before, is_new_ledger=not configured)
                if seen.was_taken(one.file.key, one.day):
                    result.missing_overwrites += result.missing_objects - before
    result.left_out = source.take_left_out()
    return result


def compare_all(
    source: Source,
    ledger: Ledger,
    settings: ListingRules,
    *,
    first_day: date,
    last_day: date,
    wanted: Sequence[str],
    due_before: datetime,
    progress: Callable[[Comparison], None] = lambda _: None,
) -> Comparison:
    """Like :func:`compare`, but for years: month by month, so that memory holds one month's deliveries at a time.

    Args:
        progress: called with the result so far, after each month.
    """
    result = Comparison(first_day, first_day, subscribers={name: SubscriberTally() for name in wanted})
    begin = max(first_day, settings.start_date)
    while begin <= last_day:
        end = min(last_day, (begin.replace(day=1) + timedelta(days=31)).replace(day=1) - timedelta(days=1))
        result.add(
            compare(source, ledger, settings, first_day=begin, last_day=end, wanted=wanted, due_before=due_before)
        )
        progress(result)
        begin = end + timedelta(days=1)
    return result


def plan_missing(
    source: Source,
    ledger: Ledger,
    settings: DiscoverySettings,
    missing: Sequence[DatedFile],
    *,
    wanted: dict[str, str | None],
    run: Run,
) -> Repaired:
    """Plan files that a comparison found *missing*, and owe them to the subscribers that get them.

    The next run delivers them.

    Args:
        missing: in key order. Those that another run has planned in the meantime are skipped.
        wanted: the configured subscribers and their ``since``.
    """
    with planning_alone(source, ledger):
        source_id, registration = register(source, ledger, settings, wanted, now=run.now)
        found = Found()
        new = [
            one
            for one, _ in unknown(iter(missing), ledger, source_id, found, on_overwrite=settings.on_overwrite)
            if any(subscription.owes(one.file, one.day) for subscription in registration.subscriptions)
        ]
        with ledger.write(durable=True) as tx:
            known.take_after_all(tx, source_id, [one for one in found.after_all if one in new])
            manifests = planning.plan(
                tx,
                source_id=source_id,
                url=source.url,
                files=new,
                subscriptions=registration.subscriptions,
                limits=settings.limits,
                run=run,
            )
    return Repaired(len(new), len(manifests))


def _listing(source: Source, settings: ListingRules, *, first_day: date, last_day: date) -> Iterator[DatedFile]:
    listing = dated(
        source,
        settings.layout,
        Found(),
        after=settings.layout.start_after(midnight(first_day)),
        before=settings.layout.next_day_floor(last_day),
    )
    return (one for one in listing if first_day <= one.day <= last_day)


def _count_planned(
    result: Comparison,
    one: DatedFile,
    states: Mapping[int, DeliveryState],
    names: dict[int, Subscription],
    due_before: datetime,
) -> None:
    result.planned += bool(states)
    result.unwanted += not states
    for number, state in states.items():
        if number not in names or state.is_waived:
            continue
        tally = result.subscribers[names[number].name]
        tally.wanted += 1
        if state.is_delivered:
            tally.delivered += 1
        elif state.is_given_up:
            tally.given_up += 1
            _show(tally.given_up_keys, one)
        elif one.file.last_modified > due_before:
            tally.waiting += 1
        else:
            tally.overdue += 1
            _show(tally.overdue_keys, one)


def _count_unknown(
    result: Comparison, one: DatedFile, names: dict[int, Subscription], due_before: datetime, *, is_new_ledger: bool
) -> None:
    getting = [found.name for found in names.values() if found.owes(one.file, one.day)]
    if is_new_ledger:
        getting = list(result.subscribers)
    if not getting:
        result.unwanted += 1
    elif one.file.last_modified > due_before:
        result.recent += 1
    else:
        result.missing.append(one)
        result.missing_objects += 1
        for name in getting:
            result.subscribers[name].wanted += 1


def _show(keys: list[str], one: DatedFile) -> None:
    if len(keys) < SHOWN_KEYS:
        keys.append(one.file.key)


def days_up_to_yesterday(now: datetime, days: int) -> tuple[date, date]:
    """The first and the last of the *days* whole days before today, in UTC."""
    yesterday = now.astimezone(timezone.utc).date() - timedelta(days=1)
    return yesterday - timedelta(days=days - 1), yesterday


MOST_UNLISTED = 10_000


@dataclass(frozen=True, slots=True)
class Freshness:
    """What is waiting, in the source and for each subscriber.

    Attributes:
        since: the beginning of the keys at which the next listing starts; empty: the very first key. Earlier keys
            were not looked at.
        unlisted: number of files that no run has found yet; counting stops at ``MOST_UNLISTED``.
        oldest_unlisted: when the oldest of them arrived; None if there are none.
        first_unlisted_key: the key of the first of them; empty if there are none.
        waiting: what each subscriber is owed; empty in a ledger that no run has used.
    """

    since: str
    unlisted: int
    oldest_unlisted: datetime | None
    first_unlisted_key: str
    waiting: Sequence[Waiting]


def look(source: Source, ledger: Ledger, settings: DiscoverySettings, *, cursor: str, now: datetime) -> Freshness:
    """List what the next runs will list, and read from the ledger what is owed. Changes nothing.

    Raises:
        ListingFailed: the source could not be listed.
    """
    with ledger.read() as tx:
        source_id = sources.source_id(tx, source.url)
        known = subscriptions.active(tx, source_id) if source_id is not None else ()
        waiting = owed.waiting(tx, source_id, known) if source_id is not None else []
        begin = next_listing(
            settings,
            sources.listing_state(tx, source_id) if source_id is not None else ListingState(),
            known,
            cursor=cursor,
            mark=database.source_mark(tx, source.url),
            now=now,
        )
    listing = source.list_files(after=begin.first, before=_end(settings, now))
    unlisted = list(islice(wanted_files(listing, ledger, settings, source_id, known), MOST_UNLISTED))
    return Freshness(
        since=settings.layout.floor_after(begin.first) if begin.first else "",
        unlisted=len(unlisted),
        oldest_unlisted=min((one.file.last_modified for one in unlisted), default=None),
        first_unlisted_key=unlisted[0].file.key if unlisted else "",
        waiting=waiting,
    )


def _end(settings: DiscoverySettings, now: datetime) -> str:
    # Two days ahead: keys may be named by a clock or in a time zone that is ahead of ours.
    return settings.layout.next_day_floor(now.date() + timedelta(days=2))
