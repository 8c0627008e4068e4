"""What the product's processes do in a world: one function a command, each as a process that has just started."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial

from sqlalchemy import select

from export_pipeline.batching.batch import Batch
from export_pipeline.errors import Blocked, ExportError, Refused, TryLater
from export_pipeline.ledger import deliveries, owed
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.owed import OwedManifest
from export_pipeline.ledger.records import Subscription
from export_pipeline.steps.backfill import plan_day
from export_pipeline.steps.deliver import deliver
from export_pipeline.steps.discover import discover
from export_pipeline.steps.open import Workspace
from export_pipeline.steps.read import ensure_staged
from export_pipeline.steps.rebuild import rebuild as rebuild_ledger
from export_pipeline.steps.retention import fold_old_days, sweep_staging
from export_pipeline.steps.retry import retry_quarantined
from export_pipeline.subscribers import filters
from export_pipeline_tests.simulation.seams import CALL, CURSOR, NOW, TAKEN, seam, unwatched
from export_pipeline_tests.simulation.world import REFUSED_MARK, Mood, Receipt, World

Command = Callable[[World], None]


class Receiver:
    """A subscriber. What it has is outside: it outlives whoever delivers."""

    retry_for_seconds = 0.0

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.max_in_flight = world.outside.rules.in_flight

    @property
    def mood(self) -> Mood:
        return self.world.outside.moods.get(self.name, Mood())

    def secret_values(self) -> tuple[str, ...]:
        return ()

    def select(self, batch: Batch) -> filters.Selected:
        only = {"kind": [self.mood.only]} if self.mood.only else {}
        found = filters.select(batch, only=only, but={}, drop_fields=())
        left_out = [line for index, line in enumerate(batch.lines()) if index not in found.indices]
        self.world.outside.filtered |= {(self.name, json.loads(line)["n"]) for line in left_out}
        return found

    def deliver(self, batch: Batch) -> None:
        """Take the batch, or answer in today's mood."""
        seam(CALL, f"{self.name} {batch.id}", is_effect=False)
        outside, mood = self.world.outside, self.mood
        names = tuple(json.loads(line)["n"] for line in batch.lines())
        marked = [index for index, name in enumerate(names) if name.endswith(REFUSED_MARK)]
        if mood.is_down:
            raise Blocked("gone")
        if mood.later:
            outside.moods[self.name] = replace(mood, later=mood.later - 1)
            raise TryLater("busy")
        if marked and mood.refuses:
            raise Refused("refused", events=dict.fromkeys(marked, "marked") if mood.refuses == "index" else None)
        outside.received[Receipt(self.name, batch.id, names)] += 1
        seam(TAKEN, f"{self.name} {batch.id}")
        if mood.loses:
            outside.moods[self.name] = replace(mood, loses=mood.loses - 1)
            outside.lost_answers += 1
            raise TryLater("the answer got lost")


def run(world: World) -> None:
    """``export_job``: list, plan, choose, sweep, fold, read and deliver."""

    def plan(place: Workspace, run_id: str) -> tuple[list[OwedManifest], tuple[Subscription, ...]]:
        outside = world.outside
        found = discover(
            place.source,
            place.ledger,
            world.discovery_settings(),
            cursor=outside.cursor,
            wanted=dict(outside.subscribers),
            max_files=outside.rules.max_files,
            run_id=run_id,
            now=_now(world),
        )
        seam(CURSOR, is_effect=True)
        outside.cursor = found.cursor or outside.cursor
        most = outside.rules.max_files
        with place.ledger.read() as tx:
            chosen = owed.choose(tx, found.subscriptions, max_files=most, max_retries=max(1, most // 10))
        _assign(place, chosen, found.subscriptions, run_id)
        others = world.under_way - {run_id}
        sweep_staging(place.staging, place.ledger, keep={one.id for one in chosen}, runs=others)
        fold_old_days(place.source, place.ledger, keep_days=outside.rules.keep_days, now=_now(world))
        return chosen, found.subscriptions

    _work(world, plan)


def backfill(world: World, day: str, *, again: bool = False, chosen: tuple[str, ...] = ()) -> None:
    """``backfill_job`` of a day, for the *chosen* subscribers or all; *again*: with what they have."""

    def plan(place: Workspace, run_id: str) -> tuple[list[OwedManifest], tuple[Subscription, ...]]:
        planned = plan_day(
            place.source,
            place.ledger,
            world.discovery_settings(),
            day=date.fromisoformat(day),
            wanted=dict(world.outside.subscribers),
            chosen=list(chosen),
            again=again,
            run_id=run_id,
            now=_now(world),
        )
        world.outside.done["repeated"] += planned.repeated
        world.outside.done["added"] += planned.added
        _assign(place, planned.manifests, planned.found.subscriptions, run_id)
        return planned.manifests, planned.found.subscriptions

    if again:
        for name, event in _acknowledged(world):
            if event[:10].replace("/", "-") == day and (not chosen or name in chosen):
                world.outside.wanted_again[name, event] = world.outside.times()[name, event] + 1
        world.outside.replays.append((day, chosen))
    _work(world, plan)


def _acknowledged(world: World) -> set[tuple[str, str]]:
    """Subscriber and event, where the product knows that the subscriber has it."""
    a, d, n = t.acceptances.c, t.deliveries.c, t.subscriptions.c
    with unwatched(), world.workspace() as place, place.ledger.read() as tx:
        rows = select(n.name, a.manifest_id, a.n).join(t.subscriptions, n.id == a.subscription_id)
        batches = {(name, f"{manifest}-{number}") for name, manifest, number in tx.execute(rows)}
        done = select(n.name, d.manifest_id).join(t.deliveries, n.id == d.subscription_id)
        whole = {(name, manifest) for name, manifest in tx.execute(done.where(deliveries.is_delivered()))}
    return {
        (one.subscriber, event)
        for one in world.outside.received
        for event in one.events
        if (one.subscriber, "-".join(one.batch.split("-")[:2])) in batches
        or (one.subscriber, one.batch.partition("-")[0]) in whole
    }


def retry(world: World) -> None:
    """``quarantine retry --all``."""

    def do(place: Workspace) -> None:
        names = list(dict.fromkeys(name for name, _ in place.quarantine.records()))
        done = retry_quarantined(place, names, run_id="retry", now=_now(world))
        world.outside.done["retried"] += len(done.files) + done.stretches + done.refused

    world.outside.retries += 1
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
            run_id="rebuild",
            now=_now(world),
        )

    world.outside.replays.append(("", ()))
    _alone(world, do)


def _now(world: World) -> datetime:
    return NOW + timedelta(days=world.outside.days)


def _assign(place: Workspace, chosen: list[OwedManifest], to: tuple[Subscription, ...], run_id: str) -> None:
    if chosen:
        with place.ledger.write() as tx:
            owed.assign(tx, chosen, to, run_id)


def _work(world: World, plan: Callable[[Workspace, str], tuple[list[OwedManifest], tuple[Subscription, ...]]]) -> None:
    """A run of a job: what it does not get done stays owed, and each step that fails leaves the others alone."""
    world.outside.runs += 1
    run_id = f"run-{world.outside.runs}"
    world.under_way.add(run_id)

    def do(place: Workspace) -> None:
        chosen, to = plan(place, run_id)
        for one in chosen:
            _step(world, partial(_read_and_deliver, world, place, one.id, to, run_id))

    try:
        _alone(world, do)
    finally:
        world.under_way.discard(run_id)


def _read_and_deliver(world: World, place: Workspace, identity: str, to: tuple[Subscription, ...], run_id: str) -> None:
    with place.ledger.read() as tx:
        names = owed.assigned(tx, identity, [run_id])
    outcome = ensure_staged(place, identity, run_id=run_id)
    world.failures += outcome.unreadable.values()
    if outcome.staged is None:
        return
    for one in to:
        if one.name in names:
            _step(world, partial(deliver, place, identity, one, Receiver(world, one.name), run_id=run_id))


def _alone(world: World, do: Callable[[Workspace], None]) -> None:
    """A process of its own."""

    def work() -> None:
        with world.workspace() as place:
            do(place)

    _step(world, work)


def _step(world: World, call: Callable[[], object]) -> None:
    """*call*; where it raises, this step has failed, as in Dagster."""
    try:
        call()
    except ExportError as error:
        world.failures.append(f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 (no step may fail for a reason that the package does not know)
        world.surprises.append(f"{type(error).__name__}: {error}")
