"""Subscribers that speak to a server by a library's client."""

import threading
from abc import abstractmethod
from typing import Any

from dagster import EnvVar
from pydantic import Field, PrivateAttr, ValidationInfo, field_validator

from export_pipeline.batching.batch import Receipt
from export_pipeline.subscribers.http_client import check_url
from export_pipeline.subscribers.packing import Packed
from export_pipeline.subscribers.requests import RequestSubscriber
from export_pipeline.subscribers.scrubbing import public_url
from export_pipeline.subscribers.worker import in_time


class LibraryClientSubscriber(RequestSubscriber):
    """A RequestSubscriber whose client knows time-outs of single reads only: the whole answer gets one here.

    A subclass keeps its client in ``_client``, which it replaces under ``_opening``, and writes :meth:`send` and
    :meth:`ask`.
    """

    allow_http: bool = Field(
        default=False, description="Send unencrypted (http://) to a host that is not this machine."
    )
    api_url: str = Field(description="Address of the server.")
    timeout_seconds: float = Field(default=60.0, gt=0, description="How long one request may take.")
    _client: Any = PrivateAttr(default=None)
    _opening: Any = PrivateAttr(default_factory=threading.Lock)

    @field_validator("api_url", mode="before")
    @classmethod
    def _check_url(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and not isinstance(value, EnvVar):
            return check_url(value, allow_http=bool(info.data.get("allow_http")))
        return value

    @abstractmethod
    def send(self, request: Packed) -> Receipt | None:
        """As :meth:`post`, however long the answer takes."""

    @abstractmethod
    def ask(self) -> None:
        """As :meth:`check`, however long the answer takes."""

    def post(self, request: Packed) -> Receipt | None:
        """As :meth:`RequestSubscriber.post`; TryLater where the answer is not whole after ``timeout_seconds``."""
        return in_time(lambda: self.send(request), timeout_seconds=self.timeout_seconds, place=self._place)

    def check(self) -> None:
        """Reach the server; TryLater where the answer is not whole after ``timeout_seconds``."""
        in_time(self.ask, timeout_seconds=self.timeout_seconds, place=self._place)

    def close(self) -> None:
        """Close the connections."""
        with self._opening:
            if self._client is not None:
                self._client.close()
            self._client = None

    @property
    def _place(self) -> str:
        return public_url(self.api_url, path=False)
