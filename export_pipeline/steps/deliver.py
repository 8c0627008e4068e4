"""Deliver a manifest's staged batches to one subscriber: all that an op ``deliver_to_…`` does, in plain Python."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from export_pipeline.batching.batch import Batch
from export_pipeline.batching.reading import ahead
from export_pipeline.batching.record import Kept
from export_pipeline.delivery.echoes import without_echoes
from export_pipeline.delivery.meter import Meter
from export_pipeline.delivery.subscriber import Borrows, Deliverer
from export_pipeline.delivery.window import send_many
from export_pipeline.errors import Blocked, DeliveryError, StagingLost, TryLater
from export_pipeline.ledger import counters, deliveries, owed, portions, subscriptions
from export_pipeline.ledger.counters import Counters
from export_pipeline.ledger.database import Ledger, utc_now
from export_pipeline.ledger.deliveries import Delivery
from export_pipeline.ledger.manifests import Manifest
from export_pipeline.ledger.portions import Portions, Step
from export_pipeline.ledger.records import LedgerBatch, Subscription, Totals
from export_pipeline.steps.changed import CHANGED, Reduced, reduce_to_changed
from export_pipeline.steps.open import Workspace
from export_pipeline.steps.origins import origins_of
from export_pipeline.steps.progress import Progress
from export_pipeline.steps.quarantine import keep, move_objects, replaced_by_newer, resolve_accepted
from export_pipeline.steps.read import Staged, ensure_staged
from export_pipeline.steps.stopping import Allowance, Stop, never

_HAS_IT = Reduced("it is already delivered")


class HeldBack(DeliveryError):
    """The subscriber failed earlier in the same run: the rest waits for the next run, in order."""


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """Nothing was sent, for this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The rest was left to the next run, which continues after the last accepted batch.

    Attributes:
        reason: why, as the end of a sentence.
        accepted_batches: number of the manifest's batches accepted so far, by earlier runs included.
        batches: number of the manifest's batches; 0 if delivery did not begin.
    """

    reason: str
    accepted_batches: int = 0
    batches: int = 0


@dataclass(frozen=True, slots=True)
class Delivered:
    """The result of a delivery.

    Attributes:
        manifest: what was delivered.
        batches, size_bytes: how much was sent in this run.
        totals: of the whole manifest, earlier runs included.
        seconds: how long it took in this run.
        is_asked_again: a replay was requested in the meantime, and is still owed.
        warnings: what else is worth knowing, one sentence each.
    """

    manifest: Manifest
    batches: int
    size_bytes: int
    totals: Totals
    seconds: float
    is_asked_again: bool = False
    warnings: tuple[str, ...] = ()


def deliver(
    place: Workspace,
    manifest_id: str,
    subscription: Subscription,
    subscriber: Deliverer,
    *,
    run_id: str,
    on_wait: Callable[[TryLater, float], None] | None = None,
    progress: Progress | None = None,
    max_seconds: float | None = None,
    stop: Stop = never,
) -> Delivered | NothingToDo | Stopped:
    """Deliver the manifest *manifest_id*: the batches not accepted yet, in order, each recorded once accepted.

    If the process is killed, at most the batches in flight (one, or max_in_flight) are sent again, under the same
    ids. If the subscriber accepted part of a batch, only the rest is sent.

    Args:
        progress: begins with the events and NDJSON bytes that this run has to deliver, and advances by accepted batch.
        max_seconds: how long all deliveries of this run to this subscriber may take together; checked between two
            batches. None: no limit.
        stop: also checked between two batches.

    Raises:
        DeliveryError: the subscriber did not accept a batch; those before it stay delivered.
        HeldBack: the subscriber failed earlier in this run.
    """
    started = time.monotonic()
    allowance = Allowance(place.ledger, subscription, run_id=run_id, seconds=max_seconds, stop=stop)
    if reason := allowance.reason():
        return Stopped(reason)
    staged = ensure_staged(place, manifest_id, run_id=run_id).staged
    if staged is None:
        return NothingToDo("its file could not be read; see read_batches for the reason")
    manifest = staged.manifest
    with place.ledger.claims.claim(f"deliver:{manifest.id}:{subscription.id}") as mine:
        if not mine:
            return NothingToDo("another run is delivering it; the next run delivers what is owed after that")
        with place.ledger.read() as tx:
            delivery = deliveries.delivery(tx, manifest.id, subscription)
            failure = subscriptions.failed_in_run(tx, subscription, run_id)
        is_owed = delivery is not None and delivery.state.is_owed
        if is_owed and failure is not None:
            raise HeldBack(f"{subscription.name} failed earlier in this run, so this waits for the next one: {failure}")
        reduced = reduce_to_changed(place, manifest, delivery, subscription, run_id=run_id) if is_owed else _HAS_IT
        if delivery is None or reduced.reason:
            with place.ledger.read() as tx:
                done = owed.nobody_waits(tx, manifest.id)
            if done:
                # Another run delivered the last of it and emptied staging before it was staged again here.
                place.staging.delete(manifest.id)
            return NothingToDo(reduced.reason)
        if isinstance(subscriber, Borrows):
            subscriber.lend_claims(place.ledger.claims)
        meter = Meter()
        try:
            sent, reason = _send_all(
                place,
                staged,
                delivery,
                subscription,
                subscriber,
                run_id=run_id,
                on_wait=on_wait,
                progress=progress or Progress(),
                allowance=allowance,
                meter=meter,
            )
        finally:
            allowance.keep()
            if calls := meter.take(Counters()):
                # Of a batch that was cut short, or in flight beside one that failed.
                with place.ledger.write() as tx:
                    counters.add(tx, subscription.id, calls)
        accepted = len(delivery.accepted_batches) + len(sent)
        if accepted < len(staged.batches):
            return Stopped(reason, accepted, len(staged.batches))
        with place.ledger.write() as tx:
            totals, closed = deliveries.commit(tx, delivery, run_id=run_id, now=utc_now())
            done = owed.nobody_waits(tx, manifest.id)
    if done:
        place.staging.delete(manifest.id)
    return Delivered(
        manifest,
        batches=len(sent),
        size_bytes=sum(batch.size_bytes for batch in sent),
        totals=totals,
        seconds=time.monotonic() - started,
        is_asked_again=not closed,
        warnings=reduced.warnings,
    )


def _send_all(
    place: Workspace,
    staged: Staged,
    delivery: Delivery,
    subscription: Subscription,
    subscriber: Deliverer,
    *,
    run_id: str,
    on_wait: Callable[[TryLater, float], None] | None,
    progress: Progress,
    allowance: Allowance,
    meter: Meter,
) -> tuple[list[LedgerBatch], str]:
    """The accepted batches, and why the others were not begun; empty if none are left."""
    manifest = staged.manifest
    todo = [batch for batch in staged.batches if batch.n not in delivery.accepted_batches]
    progress.begin(events=sum(batch.events for batch in todo), size_bytes=sum(batch.size_bytes for batch in todo))
    with place.ledger.read() as tx:
        in_part = portions.of_delivery(tx, delivery)
        earlier = portions.of_earlier_rounds(tx, delivery) if delivery.round > 1 else {}
    memories = {
        batch.n: _Memory(place.ledger, delivery, batch.n, in_part.get(batch.n), earlier.get(batch.n)) for batch in todo
    }
    failure: DeliveryError | None = None
    accepted: list[LedgerBatch] = []
    whole: list[int] = []
    reason = ""

    def while_allowed(coming: Iterator[tuple[LedgerBatch, Batch]]) -> Iterator[tuple[LedgerBatch, Batch]]:
        nonlocal reason
        for one in coming:
            # At least one batch per run; otherwise a time budget that is too small would never make progress.
            if one[0] is not todo[0] and (reason := allowance.reason()):
                return
            yield one

    with closing(ahead(_batches(place, manifest, todo, run_id=run_id), depth=1)) as coming:
        for entry, batch, sent in send_many(
            subscriber,
            while_allowed(coming),
            max_in_flight=getattr(subscriber, "max_in_flight", 1),
            memory=lambda entry: memories[entry.n],
            secrets=place.secrets,
            on_wait=meter.waiting(on_wait),
            sleep=allowance.sleep,
            meter=meter,
        ):
            if isinstance(sent, DeliveryError):
                if allowance.cut_short and isinstance(sent, TryLater):
                    reason = allowance.reason()
                    continue  # the run or its time budget ends; the subscriber did not fail
                if failure is None:
                    failure = _without_echoes(sent, batch)
                    with place.ledger.write() as tx:
                        deliveries.fail(
                            tx,
                            delivery,
                            reason=f"batch {batch.id}: {sent}",
                            run_id=run_id,
                            now=utc_now(),
                            is_blocked=isinstance(sent, Blocked),
                        )
                        counters.add(tx, subscription.id, meter.take(Counters(failed_attempts=1)))
                continue  # batches in flight beside it may have been accepted; they are recorded
            kept: list[Kept] = []
            if refused := memories[entry.n].refused_now(sent.refused):
                # Before the acceptance: after a crash in between, this is repeated, overwriting the same object.
                if delivery.round > 1:
                    refused |= place.quarantine.refused(
                        manifest_id=manifest.id, day=manifest.day, subscriber=subscription.name, n=entry.n
                    )
                kept = place.quarantine.put_refused(
                    manifest_id=manifest.id,
                    subscriber=subscription.name,
                    n=entry.n,
                    batch=batch,
                    refused=refused,
                    origins=origins_of(place, manifest, staged.batches, entry.n),
                )
                for one in kept:
                    # The ledger's is shown where no one expects user data; the record's is beside the data.
                    one.reason = without_echoes(one.reason, batch.data)
            totals = Totals(accepted=sent.accepted, refused=len(sent.refused), filtered=sent.filtered)
            replaced, to = [], replaced_by_newer(run_id)
            with place.ledger.write() as tx:
                deliveries.accept(tx, delivery, entry.n, totals, now=utc_now())
                if kept:
                    replaced = keep(tx, manifest, kept, to, run_id=run_id, by_lines=place.on_overwrite == CHANGED)
                if memories[entry.n].is_kept and not memories[entry.n].is_divided:
                    portions.forget(tx, delivery, entry.n)
                counters.add(tx, subscription.id, meter.take(_counted(totals, entry)))
            move_objects(place, replaced, to)
            accepted.append(entry)
            whole += [] if sent.refused else [entry.n]
            progress.advance(events=entry.events, size_bytes=entry.size_bytes)
    if whole and delivery.is_repeated:
        # It has now accepted what it refused of them in an earlier round: a retry would deliver that again.
        resolve_accepted(place, manifest, subscription.name, whole, run_id=run_id)
    if failure is not None:
        raise failure
    return accepted, reason


def _counted(totals: Totals, batch: LedgerBatch) -> Counters:
    return Counters(
        delivered_events=totals.accepted,
        delivered_bytes=batch.size_bytes,
        delivered_batches=1,
        refused_events=totals.refused,
        filtered_events=totals.filtered,
    )


def _without_echoes(error: DeliveryError, batch: Batch) -> DeliveryError:
    """The error, which is shown in many places, without what it repeats of the events."""
    error.args = tuple(without_echoes(str(one), batch.data) for one in error.args)
    error.answer = without_echoes(error.answer, batch.data)
    error.batch_id = batch.id
    return error


class _Memory:
    """What the ledger has recorded of a batch that is sent in several requests.

    Args:
        before: the result of earlier attempts in this round.
        earlier: the result of the previous round, and which refused events the quarantine has, or had.

    Attributes:
        is_kept: the ledger may have rows of the batch.
        is_divided: the subscriber's answers divided it, in this round or before.
    """

    def __init__(
        self,
        ledger: Ledger,
        delivery: Delivery,
        n: int,
        before: Portions | None,
        earlier: tuple[Portions, set[int]] | None,
    ) -> None:
        self._ledger = ledger
        self._delivery = delivery
        self._n = n
        self._before = before
        self._earlier = earlier
        self.is_kept = before is not None or delivery.round > 1
        self.is_divided = earlier is not None or (before is not None and before.is_divided)

    def recall(self) -> Portions | None:
        if self._before is None and self._earlier is not None:
            self._before = self._earlier[0].again()
            requests = tuple((identity, portions.ranges(numbers)) for identity, numbers in self._before.requests)
            self._before.is_divided = True
            self.keep([Step(refused=self._before.refused, requests=requests)])
        return self._before

    def keep(self, steps: Sequence[Step]) -> None:
        self.is_kept = True
        self.is_divided |= any(step.divides for step in steps)
        with self._ledger.write() as tx:
            portions.add(tx, self._delivery, self._n, steps)

    def refused_now(self, refused: Mapping[int, str]) -> dict[int, str]:
        """Those of the *refused* events that no earlier round refused; the others are in the quarantine, or were."""
        before = self._earlier[1] if self._earlier is not None else set()
        return {number: reason for number, reason in refused.items() if number not in before}


def _batches(
    place: Workspace, manifest: Manifest, todo: list[LedgerBatch], *, run_id: str
) -> Iterator[tuple[LedgerBatch, Batch]]:
    for entry in todo:
        try:
            data = place.staging.get(manifest.id, entry.n, crc32=entry.crc32, size_bytes=entry.size_bytes)
        except StagingLost:
            # Another run swept it, the disk was lost, or someone changed a delivered file that is a hard link to the
            # staged one. Reading gives the same bytes again, or fails loudly.
            place.staging.discard(manifest.id, entry.n)
            ensure_staged(place, manifest.id, run_id=run_id)
            data = place.staging.get(manifest.id, entry.n, crc32=entry.crc32, size_bytes=entry.size_bytes)
        yield (
            entry,
            Batch(
                id=f"{manifest.id}-{entry.n}",
                data=data,
                events=entry.events,
                files=tuple(manifest.files[position].key for position in entry.file_positions),
                date=manifest.day,
                staged_file=place.staging.file_of(manifest.id, entry.n),
            ),
        )
