"""Send several batches at the same time, and report the outcome of each."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import TypeVar

from export_pipeline.batching.batch import Batch
from export_pipeline.delivery.loads import send_loads
from export_pipeline.delivery.memory import Memory
from export_pipeline.delivery.meter import Meter
from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.delivery.subscriber import Deliverer, Loads, check_before
from export_pipeline.errors import Blocked, DeliveryError, TryLater

T = TypeVar("T")

_POLL_SECONDS = 0.2


def send_many(
    subscriber: Deliverer,
    batches: Iterable[tuple[T, Batch]],
    *,
    max_in_flight: int = 1,
    memory: Callable[[T], Memory] | None = None,
    secrets: Iterable[str] = (),
    on_wait: Callable[[TryLater, float], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    meter: Meter | None = None,
) -> Iterator[tuple[T, Batch, Sent | DeliveryError]]:
    """Send *batches* to *subscriber*, at most *max_in_flight* at a time, and yield the outcome of each, in order.

    Before the first batch the subscriber checks itself; if it is blocked, nothing is sent. After the first failure
    no further batch is started; those in flight are waited for and yielded, so that their acceptance can be
    recorded. With ``max_in_flight`` 1 everything happens in the caller's thread. A subscriber that is loaded
    (``deliver_many``) gets one load after the other, regardless of ``max_in_flight``.

    Args:
        subscriber: the destination.
        batches: each with a value of the caller that is yielded with it.
        max_in_flight: how many at a time.
        memory: returns, for the caller's value, where the steps of its batch are kept; called in the batch's thread.
        secrets: as for :func:`send_to`.
        on_wait: as for :func:`send_to`; called in the thread of the batch that waits.
        sleep: as for :func:`send_to`; called in that thread, too.
        meter: counts the calls.
    """
    hidden = tuple(secrets)
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        return
    try:
        check_before(subscriber, hidden)
    except Blocked as error:
        yield *first, error
        return
    batches = chain([first], batches)

    def attempt(own: T, batch: Batch, wait: Callable[[float], None]) -> Sent | DeliveryError:
        kept = memory(own) if memory is not None else None
        try:
            return send_to(subscriber, batch, memory=kept, secrets=hidden, on_wait=on_wait, sleep=wait, meter=meter)
        except DeliveryError as error:
            return error

    if isinstance(subscriber, Loads):
        yield from send_loads(
            subscriber, batches, memory=memory, secrets=hidden, on_wait=on_wait, sleep=sleep, meter=meter
        )
        return
    if max_in_flight == 1:
        for own, batch in batches:
            outcome = attempt(own, batch, sleep)
            yield own, batch, outcome
            if isinstance(outcome, DeliveryError):
                return
        return
    stop = threading.Event()
    under_way: deque[tuple[T, Batch, Future[Sent | DeliveryError]]] = deque()
    pool = ThreadPoolExecutor(max_in_flight, thread_name_prefix="deliver")
    failed = False
    wait = partial(_sleep, stop, sleep)
    try:
        for own, batch in batches:
            under_way.append((own, batch, pool.submit(attempt, own, batch, wait)))
            if len(under_way) == max_in_flight:
                oldest = under_way.popleft()
                outcome = oldest[2].result()
                failed = isinstance(outcome, DeliveryError)
                yield oldest[0], oldest[1], outcome
            if failed:
                break
        for own, batch, future in under_way:
            yield own, batch, future.result()
    finally:
        # Reached early if the run is interrupted: threads between two attempts give up, those sending finish.
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _sleep(stop: threading.Event, sleep: Callable[[float], None], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and not stop.is_set():
        sleep(min(left, _POLL_SECONDS))
    if stop.is_set():
        raise TryLater("the run was stopped")
