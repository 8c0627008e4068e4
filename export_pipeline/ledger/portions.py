"""Portions: what a subscriber has received of a batch that it has accepted only in part.

A batch goes out in several requests where the destination takes only so much in one, or where its answers divide it: it
refused the whole and took one half, or took some events and postponed the others. The steps by which that came about
are kept until the batch is accepted, so that the next run sends only the rest, in the same requests under the same ids.
Where answers have divided it they are kept for good: a replay repeats what was accepted as it came, and leaves refused
events to the quarantine, so that no event comes under a second id. Else a round begins without any.
"""

import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select

from export_pipeline.ledger import tables as t
from export_pipeline.ledger.deliveries import Delivery
from export_pipeline.ledger.records import Ranges


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one request; events are identified by their numbers in the planned batch.

    Attributes:
        of: id of the request; None: the batch was divided before any was sent.
        accepted: events that the destination has.
        refused: number of an event → the destination's reason.
        requests: id → events of the requests that take its place, in order.
        forgets_refusals: what was refused so far is to be sent again: the destination was at fault.
    """

    of: str | None = None
    accepted: Ranges = ()
    refused: Mapping[int, str] = field(default_factory=dict)
    requests: tuple[tuple[str, Ranges], ...] = ()
    forgets_refusals: bool = False

    @property
    def divides(self) -> bool:
        """Whether an answer is why the batch does not go out as one request, or as its limits divide it."""
        return bool(self.refused) or (self.of is not None and bool(self.requests))


@dataclass(slots=True)
class Portions:
    """The state of a batch.

    Attributes:
        accepted: numbers of the events that the destination has.
        refused: number of an event → the destination's reason.
        requests: id → numbers of the events of each request that was to be sent next, in order.
        sent: the same of those that were accepted.
        is_divided: by answers, which may be others next time.
    """

    accepted: set[int] = field(default_factory=set)
    refused: dict[int, str] = field(default_factory=dict)
    requests: list[tuple[str, list[int]]] = field(default_factory=list)
    sent: list[tuple[str, list[int]]] = field(default_factory=list)
    is_divided: bool = False

    def take(self, step: Step) -> None:
        """Go one step further."""
        self.accepted.update(numbers(step.accepted))
        self.is_divided |= step.divides
        if step.accepted and step.of is not None:
            self.sent.append((step.of, numbers(step.accepted)))
        if step.forgets_refusals:
            self.refused.clear()
        self.refused.update(step.refused)
        if step.of is None and step.requests:
            self.requests.clear()
        at = next((at for at, (identity, _) in enumerate(self.requests) if identity == step.of), None)
        replaced = slice(0, 0) if at is None else slice(at, at + 1)
        self.requests[replaced] = [(identity, numbers(ranges)) for identity, ranges in step.requests]

    def again(self) -> "Portions":
        """How a replay begins: what was accepted is to be sent in the same requests, and nothing that was refused."""
        return Portions(refused=dict(self.refused), requests=list(self.sent))


def ranges(ascending: Sequence[int]) -> Ranges:
    """Numbers as ranges."""
    if ascending and ascending[-1] - ascending[0] + 1 == len(ascending):
        return ((ascending[0], ascending[-1] + 1),)
    found: list[tuple[int, int]] = []
    for number in ascending:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return tuple(found)


def numbers(stretches: Iterable[tuple[int, int]]) -> list[int]:
    """Ranges as numbers."""
    return [number for start, stop in stretches for number in range(start, stop)]


def add(tx: Connection, found: Delivery, n: int, steps: Sequence[Step]) -> None:
    """Record *steps*, which follow those recorded before. Only the holder of the delivery's claim calls this."""
    told = zlib.compress(json.dumps([asdict(step) for step in steps], separators=(",", ":")).encode(), 1)
    row = {"manifest_id": found.manifest_id, "subscription_id": found.subscription_id, "round": found.round, "n": n}
    c = t.portions.c
    step = select(func.coalesce(func.max(c.step) + 1, 0)).where(*(c[name] == value for name, value in row.items()))
    tx.execute(insert(t.portions).values(**row, step=step.scalar_subquery(), steps=told))


def of_delivery(tx: Connection, found: Delivery) -> dict[int, Portions]:
    """Number of batch → its state, for batches accepted only in part in this round."""
    return _of(tx, found.manifest_id, found.subscription_id, t.portions.c.round == found.round)


def of_earlier_rounds(tx: Connection, found: Delivery) -> dict[int, tuple[Portions, set[int]]]:
    """The same of the last round before this one, of the batches that answers had divided by then.

    Returns:
        With each, the numbers of its events that the quarantine has, or had, since they were refused in a round that
        accepted the batch.
    """
    a, c = t.acceptances.c, t.portions.c
    done = select(a.round, a.n).where(a.manifest_id == found.manifest_id, a.subscription_id == found.subscription_id)
    accepted_then = {(row.round, row.n) for row in tx.execute(done.where(a.round < found.round))}
    of_it = _of_delivery(found.manifest_id, found.subscription_id)
    rounds = tx.execute(select(c.round).where(of_it, c.round < found.round).distinct().order_by(c.round)).scalars()
    standing: dict[int, tuple[Portions, set[int]]] = {}
    for number in rounds.all():
        for n, one in _of(tx, found.manifest_id, found.subscription_id, c.round == number).items():
            kept = standing[n][1] if n in standing else set()
            # Of what was folded every round was done.
            is_done = not accepted_then or (number, n) in accepted_then
            standing[n] = one, kept | (one.refused.keys() if is_done else set())
    return {n: (one, kept) for n, (one, kept) in standing.items() if one.is_divided}


def accepted(tx: Connection, manifest: str, subscription: int) -> dict[int, set[int]]:
    """Number of batch → its events that a subscriber has received, in any round, for batches received only in part."""
    found = _of(tx, manifest, subscription)
    return {n: one.accepted for n, one in found.items() if one.accepted}


def forget(tx: Connection, found: Delivery, n: int) -> None:
    """Delete what was kept of batch *n*, in earlier rounds too: it was accepted as a whole."""
    c = t.portions.c
    tx.execute(delete(t.portions).where(_of_delivery(found.manifest_id, found.subscription_id), c.n == n))


def _of(tx: Connection, manifest: str, subscription: int, *conditions: ColumnElement[bool]) -> dict[int, Portions]:
    c = t.portions.c
    rows = tx.execute(
        select(c.n, c.steps).where(_of_delivery(manifest, subscription), *conditions).order_by(c.round, c.step)
    )
    standing: dict[int, Portions] = defaultdict(Portions)
    for row in rows:
        for one in json.loads(zlib.decompress(row.steps)):
            standing[row.n].take(_step(one))
    return dict(standing)


def _of_delivery(manifest: str, subscription: int) -> ColumnElement[bool]:
    return and_(t.portions.c.manifest_id == manifest, t.portions.c.subscription_id == subscription)


def _step(told: Mapping[str, Any]) -> Step:
    return Step(
        of=told["of"],
        accepted=tuple((start, stop) for start, stop in told["accepted"]),
        refused={int(number): reason for number, reason in told["refused"].items()},
        requests=tuple(
            (identity, tuple((start, stop) for start, stop in stretches)) for identity, stretches in told["requests"]
        ),
        forgets_refusals=told["forgets_refusals"],
    )
