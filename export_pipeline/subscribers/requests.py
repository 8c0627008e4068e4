"""Subscribers whose destination limits the size of a request."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.errors import Refused, TryLater
from export_pipeline.subscribers.base import Subscriber
from export_pipeline.subscribers.http_client import Answer
from export_pipeline.subscribers.http_options import HttpClientOptions
from export_pipeline.subscribers.packing import Cut, Limits, Packed, pack


class RequestSubscriber(Subscriber):
    """Encodes every event as items, and sends as many per request as the destination accepts.

    A subclass sets the defaults of the limits, and implements :meth:`encode` and :meth:`post`.
    """

    max_request_events: int = Field(default=1_000, ge=1, description="Maximum number of items per request.")
    max_request_bytes: int = Field(
        default=1_000_000, ge=1, description="Maximum request size in bytes, before compression."
    )
    max_event_bytes: int = Field(
        default=1_000_000, ge=1, description="Maximum item size in bytes; a larger one goes to the quarantine."
    )
    overhead_bytes: ClassVar[int] = 0
    """Size of a request without its items."""
    separator_bytes: ClassVar[int] = 1
    """Bytes of a request per item, in addition to the item."""

    @abstractmethod
    def encode(self, event: bytes) -> Sequence[bytes]:
        """The items for one event, none if nothing is sent for it.

        Raises:
            Unfit: the event does not fit the destination's format; it is refused with this reason.
        """

    def encoder(self) -> Callable[[bytes], Sequence[bytes]]:
        """:meth:`encode`, prepared for many events."""
        return self.encode

    @abstractmethod
    def post(self, request: Packed) -> Receipt | None:
        """Send one request.

        Returns:
            None if every item was accepted, otherwise a Receipt by number of *item*.

        Raises:
            TryLater, Blocked, Refused: as for deliver; Refused by number of *item*.
        """

    def cut(self, batch: Batch) -> Cut:
        """Cut *batch* into requests."""
        limits = Limits(
            max_events=self.max_request_events,
            max_bytes=self.max_request_bytes,
            max_event_bytes=self.max_event_bytes,
            overhead_bytes=self.overhead_bytes,
            separator_bytes=self.separator_bytes,
        )
        return pack(batch, self.encoder(), limits)

    def deliver(self, batch: Batch) -> Receipt | None:
        """Send a part made by :meth:`cut`. Any other batch is cut first; then a failure repeats all of it."""
        if isinstance(batch, Packed):
            return self._post(batch)
        cut = self.cut(batch)
        refused, later, suspected = dict(cut.refused), dict[int, str](), dict[int, str]()
        for positions, part in cut.parts:
            receipt = self.deliver(part) or Receipt()
            refused |= _shifted(receipt.refused, positions)
            later |= _shifted(receipt.later, positions)
            suspected |= _shifted(receipt.suspected, positions)
        return Receipt(refused=refused, later=later, suspected=suspected)

    def _post(self, request: Packed) -> Receipt | None:
        """Post, and return the result by event instead of by item."""
        try:
            receipt = self.post(request)
        except Refused as refusal:
            refusal.events = request.by_event(refusal.events or {}) or None
            raise
        if receipt is None:
            return None
        refused = request.by_event(receipt.refused)
        later = {event: reason for event, reason in request.by_event(receipt.later).items() if event not in refused}
        if len(later) == request.events:
            raise TryLater(f"none of {request.events} events was accepted: {later[0]}")
        suspected = request.by_event(receipt.suspected)
        return Receipt(refused=refused, later=later, detail=receipt.detail, suspected=suspected)


def _shifted(reasons: Mapping[int, str], positions: Sequence[int]) -> dict[int, str]:
    return {positions[position]: reason for position, reason in reasons.items()}


class HttpRequestSubscriber(HttpClientOptions, RequestSubscriber):
    """A RequestSubscriber over HTTP; a subclass declares ``url`` or ``api_url``."""

    gzip: bool = Field(default=False, description="Compress the body (Content-Encoding: gzip).")

    def send_body(
        self,
        url: str,
        body: bytes,
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        method: str = "POST",
    ) -> Answer:
        """Send *body*, compressed if ``gzip`` is set; return the response, whatever its status."""
        more = {"content-type": content_type}
        if self.gzip:
            from isal import igzip

            body = igzip.compress(body, mtime=0)
            more["content-encoding"] = "gzip"
        return self._http.send(
            method,
            url,
            content=body,
            headers={**(headers or {}), **more},
            auth=auth,
            timeout_seconds=self.timeout_seconds,
            secrets=self.secret_values(),
            connections=self.connections,
        )
