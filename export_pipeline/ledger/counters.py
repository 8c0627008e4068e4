"""Sums that only grow, for metrics: what each subscriber was sent and what that took, and how the last run ended.

A delivery adds to them in the transaction that records a batch as accepted or failed, so they cost no wait for the
disk. They are sums of what happened: a batch that is delivered again counts again.
"""

from dataclasses import astuple, dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import Connection, Update, bindparam, update

from export_pipeline.ledger import tables as t


@dataclass(frozen=True, slots=True)
class Counters:
    """What is added to the sums of one subscriber.

    Attributes:
        delivered_events, delivered_bytes, delivered_batches: in batches that it accepted, refused and filtered events
            left out of the events; the bytes are those of the whole batches, as NDJSON.
        refused_events, filtered_events: of these batches.
        calls: calls of its ``deliver``, each of which sends one request to most destinations.
        retries: calls that repeated an earlier one after a pause.
        failed_attempts: batches that it did not accept in a run.
        call_seconds: how long the calls took, without the pauses between them.
    """

    delivered_events: int = 0
    delivered_bytes: int = 0
    delivered_batches: int = 0
    refused_events: int = 0
    filtered_events: int = 0
    calls: int = 0
    retries: int = 0
    failed_attempts: int = 0
    call_seconds: float = 0.0

    def __bool__(self) -> bool:
        return any(astuple(self))


@cache
def _addition() -> Update:
    """The statement that adds to all sums. Building it takes several times as long as executing it."""
    s = t.subscriptions.c
    added = {name: s[name] + bindparam(f"more_{name}") for name in Counters.__slots__}
    return update(t.subscriptions).where(s.id == bindparam("of_subscription")).values(added)


def add(tx: Connection, subscription_id: int, more: Counters) -> None:
    """Add *more* to the sums of a subscription. As the last statement: the row stays locked until the commit."""
    numbers = {f"more_{name}": getattr(more, name) for name in Counters.__slots__}
    tx.execute(_addition(), {"of_subscription": subscription_id, **numbers})


def run_ended(tx: Connection, source_id: int, *, succeeded: bool, now: datetime) -> None:
    """Record that a run of the export ended now."""
    values = {"run_ended_at": now, **({"run_succeeded_at": now} if succeeded else {})}
    tx.execute(update(t.sources).where(t.sources.c.id == source_id).values(values))
