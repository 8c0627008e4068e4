"""Whether a run would find anything new. Checked every few seconds, so a look costs two short listings at most.

New files mostly sort after the frontier, the key up to which the source is listed. A late file sorts before it, within
the lookback. So each look lists one range of keys after the frontier and one range of the lookback, which advances from
look to look. A look writes nothing: the run that it starts plans what it saw.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from export_pipeline.deployment import Deployment
from export_pipeline.ledger import database, owed, sources, subscriptions
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import DatedFile, Subscription
from export_pipeline.ledger.sources import ListingState
from export_pipeline.source.file import SourceFile, utf8
from export_pipeline.source.queue import Queue
from export_pipeline.source.store import Source
from export_pipeline.steps.discover import DiscoverySettings, Found, Walk, unknown, with_days
from export_pipeline.steps.next_listing import next_listing
from export_pipeline.storage.location import parse_location

MOST_KEYS = 1_000
"""How many keys a range has: one page of an S3 listing."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The result of a look.

    Attributes:
        key: the first new file; empty if none was seen.
        etag: of that file.
        messages: how many messages wait in the notification queue, as far as the queue reports it.
    """

    key: str = ""
    etag: str = ""
    messages: int = 0

    def __bool__(self) -> bool:
        return bool(self.key or self.messages)

    def __str__(self) -> str:
        return f"{self.messages:,} messages in the queue" if self.messages else f"a new file, {self.key}"


class Lookout:
    """Looks at one source repeatedly.

    As long as the process lives, it remembers how far it has come in the lookback.
    """

    def __init__(self) -> None:
        self._after = ""

    def look(
        self,
        source: Source,
        ledger: Ledger,
        settings: DiscoverySettings,
        *,
        queue: Queue | None = None,
        now: datetime,
    ) -> Seen:
        """What a run would find. If there is a queue, asks it instead of the source.

        Args:
            now: aware.

        Raises:
            ListingFailed: the source could not be listed.
            QueueFailed: the queue could not be asked.
        """
        if queue is not None:
            return Seen(messages=queue.waiting())
        with ledger.read() as tx:
            source_id = sources.source_id(tx, source.url)
            known = subscriptions.active(tx, source_id) if source_id is not None else ()
            state = sources.listing_state(tx, source_id) if source_id is not None else ListingState()
            mark = database.source_mark(tx, source.url)
        begin = next_listing(settings, state, known, cursor="", mark=mark, now=now).first
        after = max(state.frontier, begin, key=utf8)
        walk = Walk(source, after=after, layout=settings.layout, most_keys=MOST_KEYS)
        first = self._first_new(walk, ledger, settings, source_id, known)
        if first is None and state.frontier:
            after = max(self._after, begin, key=utf8)
            walk = Walk(source, after=after, before=state.frontier, layout=settings.layout, most_keys=MOST_KEYS)
            first = self._first_new(walk, ledger, settings, source_id, known)
            self._after = walk.last_key if walk.is_cut else ""
        return Seen() if first is None else Seen(first.key, first.etag)

    @staticmethod
    def _first_new(
        walk: Walk,
        ledger: Ledger,
        settings: DiscoverySettings,
        source_id: int | None,
        known: Iterable[Subscription],
    ) -> SourceFile | None:
        return next((one.file for one in wanted_files(walk, ledger, settings, source_id, known)), None)


def wanted_files(
    files: Iterable[SourceFile],
    ledger: Ledger,
    settings: DiscoverySettings,
    source_id: int | None,
    known: Iterable[Subscription],
) -> Iterator[DatedFile]:
    """Those of *files* that a run would plan: unknown to the ledger, not before ``start_date``, wanted by a subscriber.

    Args:
        source_id: the source's number; None: the ledger does not know it.
        known: its subscriptions; empty: none are known yet, and any file may be wanted.
    """
    listing = with_days(files, settings.layout, Found())
    for one, overwrites in unknown(listing, ledger, source_id or 0, Found(), on_overwrite=settings.on_overwrite):
        if one.day < settings.start_date or (overwrites and settings.on_overwrite == "ignore"):
            continue
        if not known or any(subscription.owes(one.file, one.day) for subscription in known):
            yield one


def gets_on(ledger: Ledger, url: str) -> bool:
    """Whether another run could continue at once with what is already known.

    What is owed to a subscriber that just failed does not count: it has to wait for the schedule, or a failing receiver
    would be called endlessly. What could not be read does not count either, or a corrupt file, or a store that denies
    access, would start run after run.
    """
    with ledger.read() as tx:
        source_id = sources.source_id(tx, url)
        if source_id is None:
            return False
        more = sources.more_to_list(tx, source_id)
        failing = owed.failing_subscriptions(tx, source_id)
        well = [one for one in subscriptions.active(tx, source_id) if one.id not in failing]
        return any(more or owed.gets_on(tx, one) for one in well)


def owes_nothing(ledger: Ledger, url: str) -> bool:
    """Whether everything known is delivered, and nothing is left to list."""
    with ledger.read() as tx:
        source_id = sources.source_id(tx, url)
        if source_id is None or sources.more_to_list(tx, source_id):
            return False
        return not any(one.files for one in owed.waiting(tx, source_id, subscriptions.active(tx, source_id)))


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is left to the schedule, or to ``follow`` at its times, while every new file starts a run by itself.

    Two things: to list the whole lookback again now and then, and to try again what is owed. With notifications a
    listing is due as often as the deployment says for them, since a run lists no sooner; without, after
    ``sweep_minutes``.

    Attributes:
        listed_at: when the last listing began that came to the end of the source; None: none did.
        due_at: when the next one is due; None: now.
        owes: something that is known is owed, or was left to be listed.
        setting: the option that says how often.
    """

    listed_at: datetime | None
    due_at: datetime | None
    owes: bool
    setting: str

    def reason(self, now: datetime, *, retries: bool = True) -> str:
        """Why to run now; empty: there is no reason.

        Args:
            retries: whether what is owed is one.
        """
        if self.due_at is None or now >= self.due_at:
            return "a complete listing is due"
        return "files are still owed" if retries and self.owes else ""


def sweep_of(deployment: Deployment, ledger: Ledger) -> Sweep:
    """What is left to the schedule, as things are in the ledger."""
    url, told = parse_location(deployment.source.url).url, deployment.source.notifications
    with ledger.read() as tx:
        source_id = sources.source_id(tx, url)
        state = sources.listing_state(tx, source_id) if source_id is not None else ListingState()
    if told is not None:
        listed_at, every = state.listed_at, timedelta(seconds=told.listing_every_seconds)
        setting = "source.notifications.listing_every_seconds"
    else:
        listed_at, every, setting = state.complete_at, timedelta(minutes=deployment.sweep_minutes), "sweep_minutes"
    due_at = listed_at + every if listed_at is not None else None
    return Sweep(listed_at, due_at, not owes_nothing(ledger, url), setting)
