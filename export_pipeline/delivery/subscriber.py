"""What sending needs of a subscriber, and how it calls one: every error it raises is one of ours, without secrets."""

import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.errors import Blocked, ConfigurationError, DeliveryError, Refused, TryLater
from export_pipeline.subscribers.filters import Selected
from export_pipeline.subscribers.packing import Cut
from export_pipeline.subscribers.scrubbing import scrub

if TYPE_CHECKING:
    from export_pipeline.ledger.claims import Claims

T = TypeVar("T")


class Deliverer(Protocol):
    """What sending needs of a subscriber."""

    @property
    def retry_for_seconds(self) -> float:
        """How long one call is retried."""

    def deliver(self, batch: Batch) -> Receipt | None:
        """Return once every event is accepted."""

    def secret_values(self) -> tuple[str, ...]:
        """Values that must never appear in a log."""


@runtime_checkable
class Selects(Protocol):
    """A subscriber that does not want every event."""

    def select(self, batch: Batch) -> Selected:
        """The events of *batch* that it wants."""


@runtime_checkable
class Cuts(Protocol):
    """A subscriber whose destination limits the size of one call."""

    def cut(self, batch: Batch) -> Cut:
        """Cut *batch* into requests."""


@runtime_checkable
class Loads(Deliverer, Protocol):
    """A subscriber that accepts several batches at once; allowed only if a repeat of all of them is harmless."""

    def deliver_many(self, batches: Sequence[Batch]) -> Sequence[Receipt | None]:
        """Return a receipt for each batch, once every event of all of them is accepted or refused."""


@runtime_checkable
class Checks(Protocol):
    """A subscriber that can detect before the first batch that no batch will be accepted."""

    def check_once(self) -> None:
        """Raise Blocked if the user must act first."""


@runtime_checkable
class Borrows(Protocol):
    """A subscriber that may have to lock its destination against other writers."""

    def lend_claims(self, claims: "Claims") -> None:
        """Receive the ledger's locks."""


def check_before(subscriber: Deliverer, secrets: Iterable[str] = ()) -> None:
    """Let *subscriber* check its address and credentials, once.

    Raises:
        Blocked: it reports that no batch can be accepted. Other errors are ignored: sending reports them better.
    """
    if not isinstance(subscriber, Checks):
        return
    try:
        ours((*subscriber.secret_values(), *secrets), subscriber.check_once)
    except (TryLater, Refused):
        return


def ours(secrets: Iterable[str], call: Callable[[], T]) -> T:
    """Call a subscriber; every error it raises becomes one of ours, without secrets."""
    hidden = tuple(secrets)
    try:
        return call()
    except TryLater as error:
        raise TryLater(
            scrub(str(error), hidden),
            retry_after_seconds=error.retry_after_seconds,
            status=error.status,
            answer=scrub(error.answer, hidden),
        ) from None
    except Refused as error:
        raise Refused(
            scrub(str(error), hidden),
            events=error.events,
            status=error.status,
            answer=scrub(error.answer, hidden),
            suspected=error.suspected,
        ) from None
    except DeliveryError as error:
        raise Blocked(scrub(str(error), hidden), status=error.status, answer=scrub(error.answer, hidden)) from None
    except ConfigurationError as error:
        raise Blocked(scrub(str(error), hidden)) from None
    except Exception as error:  # noqa: BLE001 (a subscriber may be third-party code; no error is ignored)
        raise TryLater(f"{type(error).__name__}: {scrub(str(error), hidden)}{_place(error)}") from None


def _place(error: Exception) -> str:
    """Where *error* was raised; its traceback is not kept, because its frames and causes may contain a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" (in {Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
