"""What the product's processes do in a world: one function a command, each as a process that has just started."""

from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta

from sqlalchemy import select

from export_pipeline.errors import ExportError
from export_pipeline.ledger import deliveries
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.records import Run
from export_pipeline.steps.backfill import plan_day
from export_pipeline.steps.messages import Notifications
from export_pipeline.steps.open import Workspace
from export_pipeline.steps.quarantine import dismiss as dismiss_records
from export_pipeline.steps.quarantine import waiting_names
from export_pipeline.steps.rebuild import rebuild as rebuild_ledger
from export_pipeline.steps.retention import fold_old_days
from export_pipeline.steps.retry import retry_quarantined
from export_pipeline.steps.run import RunResult, export, take, work
from export_pipeline_tests.simulation.destinations import MessageQueue, open_receivers
from export_pipeline_tests.simulation.seams import CURSOR, NOW, Killed, seam, unwatched
from export_pipeline_tests.simulation.world import BUCKET, World

Command = Callable[[World], None]


def run(world: World) -> None:
    """``export_job``: list, plan, choose, sweep, fold, read and deliver."""
    outside = world.outside

    def move_cursor(to: str) -> None:
        seam(CURSOR)
        outside.cursor = to or outside.cursor

    def notifications(place: Workspace) -> Notifications:
        return Notifications(MessageQueue(world), BUCKET, timedelta(days=1), place.quarantine)

    def do(place: Workspace, run_id: str) -> RunResult:
        return export(
            place,
            world.discovery_settings(),
            open_receivers(world),
            cursor=outside.cursor,
            move_cursor=move_cursor,
            wanted=dict(outside.subscribers),
            max_files=outside.rules.max_files,
            keep_days=outside.rules.keep_days,
            run=Run(run_id, _now(world)),
            notifications=notifications(place) if outside.rules.is_notified else None,
            other_runs=lambda: world.under_way - {run_id},
        )

    _job(world, do)


def backfill(world: World, day: str, *, again: bool = False, chosen: tuple[str, ...] = ()) -> None:
    """``backfill_job`` of a day, for the *chosen* subscribers or all; *again*: with what they have."""

    def do(place: Workspace, run_id: str) -> RunResult:
        planned = plan_day(
            place.source,
            place.ledger,
            world.discovery_settings(),
            day=date.fromisoformat(day),
            wanted=dict(world.outside.subscribers),
            chosen=list(chosen),
            again=again,
            run=Run(run_id, _now(world)),
        )
        world.outside.done["repeated"] += planned.repeated
        world.outside.done["added"] += planned.added
        to = planned.found.subscriptions
        take(place.ledger, planned.manifests, to, run_id=run_id)
        return work(place, planned.manifests, to, open_receivers(world), run_id=run_id)

    before = dict(world.outside.wanted_again)
    if again:
        for (name, event), times in _acknowledged(world).items():
            if event[:10].replace("/", "-") == day and (not chosen or name in chosen):
                world.outside.wanted_again[name, event] = times
        world.outside.replays.append((day, chosen))
    try:
        _job(world, do)
    except Killed:
        # Nothing is promised of a command that died half-way, beyond what others have asked for.
        wanted = world.outside.wanted_again
        world.outside.wanted_again = {one: times for one, times in wanted.items() if one in before}
        raise


def _acknowledged(world: World) -> dict[tuple[str, str], int]:
    """Subscriber and event → how often a replay has to bring again what the product knows to have come.

    Once; what another process has under way answers a replay as well.
    """
    a, d, n = t.acceptances.c, t.deliveries.c, t.subscriptions.c
    with unwatched(), world.workspace() as place, place.ledger.read() as tx:
        rows = select(n.name, a.manifest_id, a.n).join(t.subscriptions, n.id == a.subscription_id)
        rounds = Counter((name, f"{manifest}-{number}") for name, manifest, number in tx.execute(rows))
        done = select(n.name, d.manifest_id).join(t.deliveries, n.id == d.subscription_id)
        whole = {(name, manifest) for name, manifest in tx.execute(done.where(deliveries.is_delivered()))}
    found = {}
    for one, came in world.outside.received.items():
        times = rounds[one.subscriber, "-".join(one.batch.split("-")[:2])]
        if times or (one.subscriber, one.batch.partition("-")[0]) in whole:
            wanted = max(times, 1) + 1 - came if world.under_way else 1
            found.update({(one.subscriber, event): wanted for event in one.events if wanted > 0})
    return found


def retry(world: World) -> None:
    """``quarantine retry --all``."""

    def do(place: Workspace) -> None:
        done = retry_quarantined(place, waiting_names(place, everything=True), run=Run("retry", _now(world)))
        world.outside.done["retried"] += len(done.files) + done.stretches + done.refused

    world.outside.retries += 1
    _alone(world, do)


def dismiss(world: World) -> None:
    """``quarantine dismiss --all``."""

    def do(place: Workspace) -> None:
        names = waiting_names(place, everything=True)
        world.outside.done["dismissed"] += dismiss_records(place, names, by="somebody", why="not needed")

    world.outside.dismissals += 1
    _alone(world, do)


def fold(world: World) -> None:
    """What a run does at last: fold old days."""

    def do(place: Workspace) -> None:
        days = world.outside.rules.keep_days
        world.outside.done["folded"] += fold_old_days(place.source, place.ledger, keep_days=days, now=_now(world))

    _alone(world, do)


def rebuild(world: World) -> None:
    """``ledger rebuild``: from the listing, and from what the subscribers hold."""

    def marks(name: str) -> Callable[[date], set[str]]:
        return lambda _: {one.batch for one in world.outside.received if one.subscriber == name}

    def do(place: Workspace) -> None:
        rebuild_ledger(
            place.source,
            place.ledger,
            world.discovery_settings(),
            wanted=dict(world.outside.subscribers),
            marks={name: marks(name) for name in world.outside.subscribers},
            from_day=None,
            run=Run("rebuild", _now(world)),
        )

    world.outside.replays.append(("", ()))
    _alone(world, do)


def _now(world: World) -> datetime:
    return NOW + timedelta(days=world.outside.days)


def _job(world: World, do: Callable[[Workspace, str], RunResult]) -> None:
    """A run of a job: what it does not get done stays owed."""
    world.outside.runs += 1
    run_id = f"run-{world.outside.runs}"
    world.under_way.add(run_id)

    def work_and_tell(place: Workspace) -> None:
        done = do(place, run_id)
        for outcome in done.read:
            world.failures += outcome.unreadable.values()
        for error in done.failures:
            _tell(world, error)

    try:
        _alone(world, work_and_tell)
    finally:
        world.under_way.discard(run_id)


def _alone(world: World, do: Callable[[Workspace], None]) -> None:
    """A process of its own."""
    try:
        with world.workspace() as place:
            do(place)
    except Exception as error:  # noqa: BLE001 (it fails, whatever it was)
        _tell(world, error)


def _tell(world: World, error: Exception) -> None:
    """No command may fail for a reason that the package does not know."""
    told = world.failures if isinstance(error, ExportError) else world.surprises
    told.append(f"{type(error).__name__}: {error}")
