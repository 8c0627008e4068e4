"""Read and deliver a range of days, one manifest after the other: what materializing assets does, in plain Python.

Days are planned first (:func:`export_pipeline.steps.backfill.plan_range`), so that all of the range is owed even if the
run fails. Then each day is delivered in turn, and looked up in the ledger: a day is complete for a subscriber once it
is owed nothing of that day, whichever run delivered it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from export_pipeline.delivery.subscriber import Deliverer
from export_pipeline.errors import FileError, TryLater
from export_pipeline.ledger import owed, sources
from export_pipeline.ledger.owed import OwedManifest
from export_pipeline.ledger.records import Subscription
from export_pipeline.steps.deliver import Delivered, NothingToDo, Stopped, deliver
from export_pipeline.steps.open import Workspace
from export_pipeline.steps.progress import Progress
from export_pipeline.steps.read import ReadOutcome
from export_pipeline.steps.run import read, take
from export_pipeline.steps.stopping import Stop, never


@dataclass(frozen=True, slots=True)
class Outcome:
    """One step of the delivery of a range.

    Attributes:
        subscriber: its name; empty: a manifest was read.
        manifest: the manifest that was read or delivered.
        result: its result, or why it failed.
    """

    subscriber: str
    manifest: OwedManifest
    result: ReadOutcome | Delivered | NothingToDo | Stopped | Exception


@dataclass(slots=True)
class Sum:
    """What a run delivered to one subscriber."""

    manifests: int = 0
    files: int = 0
    events: int = 0
    refused: int = 0
    size_bytes: int = 0

    def add(self, done: Delivered) -> None:
        """Count a manifest."""
        self.manifests += 1
        self.files += len(done.manifest.files)
        self.events += done.totals.accepted
        self.refused += done.totals.refused
        self.size_bytes += done.size_bytes


@dataclass(slots=True)
class RangeDelivery:
    """Delivers the planned days of a range to subscribers.

    A subscriber that failed, or whose time budget is used up, gets no more in this run; the others continue.

    Attributes:
        subscriptions: of the chosen subscribers.
        subscribers: by name.
        max_seconds: by name; None: no limit.
        on_wait: called before a pause between two attempts of a batch: subscriber, error, seconds.
        progress_of_reading, progress_of: make the progress of a manifest that is read, or delivered to a subscriber.
        sums: subscriber → what was delivered.
        of_day: the same for the latest day.
        failures: subscriber → its first failure.
        stopped: subscriber → why it gets no more, though it did not fail.
        unreadable: files that could not be read, by key, with the reason.
    """

    place: Workspace
    subscriptions: Sequence[Subscription]
    subscribers: Mapping[str, Deliverer]
    run_id: str
    max_seconds: Mapping[str, float | None] = field(default_factory=dict)
    stop: Stop = never
    on_wait: Callable[[str, TryLater, float], None] | None = None
    progress_of_reading: Callable[[], Progress] = Progress
    progress_of: Callable[[str], Progress] | None = None
    sums: dict[str, Sum] = field(default_factory=dict)
    of_day: dict[str, Sum] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def deliver_day(self, day: date) -> Iterator[Outcome]:
        """Deliver what is owed of *day*, and yield each step once it is done."""
        self.of_day = {}
        served = self._served()
        if not served:
            return
        with self.place.ledger.read() as tx:
            source_id = sources.source_id(tx, self.place.source.url) or 0
            manifests = owed.choose_among(tx, served, source_id=source_id, day=day)
        take(self.place.ledger, manifests, served, run_id=self.run_id)
        for manifest in manifests:
            if self.stop() or not self._served():
                return
            yield from self._deliver(manifest)

    def _deliver(self, manifest: OwedManifest) -> Iterator[Outcome]:
        if not any(one.name in manifest.subscribers for one in self._served()):
            return
        try:
            outcome, names = read(self.place, manifest.id, run_id=self.run_id, progress=self.progress_of_reading())
        except Exception as error:  # noqa: BLE001 (as a step of Dagster fails, whatever it was)
            self.unreadable[manifest.first_key] = str(error)
            yield Outcome("", manifest, error)
            return
        self.unreadable |= outcome.unreadable
        yield Outcome("", manifest, outcome)
        if outcome.staged is None:
            return
        for one in self._served():
            if one.name in names:
                yield Outcome(one.name, manifest, self._deliver_to(manifest, one))

    def _deliver_to(
        self, manifest: OwedManifest, subscription: Subscription
    ) -> Delivered | NothingToDo | Stopped | Exception:
        name, on_wait = subscription.name, self.on_wait
        try:
            done = deliver(
                self.place,
                manifest.id,
                subscription,
                self.subscribers[name],
                run_id=self.run_id,
                on_wait=None if on_wait is None else lambda error, seconds: on_wait(name, error, seconds),
                progress=self.progress_of(name) if self.progress_of is not None else None,
                max_seconds=self.max_seconds.get(name),
                stop=self.stop,
            )
        except FileError as error:
            self.unreadable[manifest.first_key] = str(error)
            return error
        except Exception as error:  # noqa: BLE001 (as a step of Dagster fails, whatever it was)
            self.failures[name] = error
            return error
        if isinstance(done, Stopped):
            self.stopped[name] = done.reason
        elif isinstance(done, Delivered):
            self.sums.setdefault(name, Sum()).add(done)
            self.of_day.setdefault(name, Sum()).add(done)
        return done

    def _served(self) -> list[Subscription]:
        out = {*self.failures, *self.stopped}
        return [one for one in self.subscriptions if one.name not in out]

    def owed_of_day(self, day: date) -> dict[str, int]:
        """Chosen subscriber → how many files of *day* it is still owed; omits those owed nothing."""
        with self.place.ledger.read() as tx:
            source_id = sources.source_id(tx, self.place.source.url) or 0
            return owed.owed_of_day(tx, source_id, [one.name for one in self.subscriptions], day=day)
