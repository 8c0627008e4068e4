"""What a run does, in plain Python: it takes on what is owed, reads each manifest, and delivers it.

The ops of Dagster's jobs call these parts; so do ``export-pipeline run`` and ``replay``, which run these jobs.
:func:`export` is a whole run without Dagster: the same parts in the same order.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from export_pipeline.delivery.subscriber import Deliverer
from export_pipeline.ledger import owed, sources
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.owed import OwedManifest
from export_pipeline.ledger.records import Run, Subscription
from export_pipeline.steps.deliver import deliver
from export_pipeline.steps.discover import DiscoverySettings, discover
from export_pipeline.steps.messages import Notifications, discover_notified
from export_pipeline.steps.open import Workspace
from export_pipeline.steps.progress import Progress
from export_pipeline.steps.read import ReadOutcome, ensure_staged
from export_pipeline.steps.retention import fold_old_days, sweep_staging

# Files retried alone take at most a tenth of a run: a day of corrupt files must not crowd out the healthy ones.
_RETRIES_SHARE = 10


@dataclass(frozen=True, slots=True)
class TakenOn:
    """What a run took on.

    Attributes:
        manifests: in the order in which they are read.
        left: subscriber → how many more files it is owed.
    """

    manifests: list[OwedManifest]
    left: dict[str, int]


@dataclass(slots=True)
class RunResult:
    """The result of a run.

    Attributes:
        read: the result of reading each manifest that was reached.
        failures: the errors of its steps; what was not delivered stays owed.
    """

    read: list[ReadOutcome] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)


def take_what_is_owed(
    ledger: Ledger, url: str, subscriptions: Sequence[Subscription], *, max_files: int, run_id: str
) -> TakenOn:
    """Choose the oldest manifests owed, and record that this run takes them on.

    Args:
        url: of the source.
        max_files: for each subscriber; see :func:`owed.choose`.
    """
    with ledger.read() as tx:
        most = max(1, max_files // _RETRIES_SHARE)
        chosen = owed.choose(tx, subscriptions, max_files=max_files, max_retries=most)
        number = sources.source_id(tx, url)
        waiting = owed.waiting(tx, number, subscriptions) if number is not None else []
    take(ledger, chosen, subscriptions, run_id=run_id)
    left = {
        one.subscriber: one.files - sum(each.files for each in chosen if one.subscriber in each.subscribers)
        for one in waiting
    }
    return TakenOn(chosen, left)


def take(
    ledger: Ledger, manifests: Sequence[OwedManifest], subscriptions: Iterable[Subscription], *, run_id: str
) -> None:
    """Record that this run takes on *manifests*, for its later steps, other runs and reports."""
    if manifests:
        with ledger.write() as tx:
            owed.assign(tx, manifests, subscriptions, run_id)


def read(
    place: Workspace, manifest_id: str, *, run_id: str, taken_by: Collection[str] = (), progress: Progress | None = None
) -> tuple[ReadOutcome, list[str]]:
    """Read a manifest that the run took on; returns the result and the subscribers that get it.

    Args:
        taken_by: the runs that this one re-executes, itself included; empty: none.
        progress: see :func:`ensure_staged`.

    Raises:
        FileError, LedgerError: as :func:`ensure_staged`.
    """
    with place.ledger.read() as tx:
        names = owed.assigned(tx, manifest_id, taken_by or [run_id])
    return ensure_staged(place, manifest_id, run_id=run_id, progress=progress), names


def work(
    place: Workspace,
    manifests: Iterable[OwedManifest],
    subscriptions: Sequence[Subscription],
    subscribers: Mapping[str, Deliverer],
    *,
    run_id: str,
) -> RunResult:
    """Read and deliver what the run took on, one manifest after the other; a failure does not stop the others."""
    done = RunResult()

    def step(call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 (any error fails a step, as in Dagster)
            done.failures.append(error)

    def read_and_deliver(manifest: OwedManifest) -> None:
        outcome, names = read(place, manifest.id, run_id=run_id)
        done.read.append(outcome)
        if outcome.staged is None:
            return
        for one in subscriptions:
            if one.name in names:
                step(partial(deliver, place, manifest.id, one, subscribers[one.name], run_id=run_id))

    for manifest in manifests:
        step(partial(read_and_deliver, manifest))
    return done


def export(
    place: Workspace,
    settings: DiscoverySettings,
    subscribers: Mapping[str, Deliverer],
    *,
    cursor: str,
    move_cursor: Callable[[str], None],
    wanted: dict[str, str | None],
    max_files: int,
    keep_days: int | None,
    run: Run,
    notifications: Notifications | None = None,
    other_runs: Callable[[], Collection[str]] = tuple,
) -> RunResult:
    """One whole run: list, plan, take on, read and deliver.

    Args:
        subscribers: by name.
        cursor: the text of the cursor; *move_cursor* receives the new one once everything up to it is planned.
        wanted: the configured subscribers and their ``since``.
        keep_days: number of days that the ledger keeps in full; None: all.
        notifications: how the source announces new files; None: it is listed in each run.
        other_runs: returns the runs in progress, whose staged batches are left alone.

    Raises:
        ListingFailed: the source could not be listed; nothing was planned.
        QueueFailed: the queue did not answer well; what was planned stays owed.
    """
    places = place.source, place.ledger, settings
    if notifications is None:
        found = discover(*places, cursor=cursor, wanted=wanted, max_files=max_files, run=run)
    else:
        noticed = discover_notified(*places, notifications, cursor=cursor, wanted=wanted, max_files=max_files, run=run)
        found = noticed.found
    move_cursor(found.cursor)
    taken = take_what_is_owed(place.ledger, place.source.url, found.subscriptions, max_files=max_files, run_id=run.id)
    keep = {one.id for one in taken.manifests}
    sweep_staging(place.staging, place.ledger, keep=keep, runs=other_runs())
    fold_old_days(place.source, place.ledger, keep_days=keep_days, now=run.now)
    return work(place, taken.manifests, found.subscriptions, subscribers, run_id=run.id)
