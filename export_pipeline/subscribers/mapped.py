"""Subscribers for analytics services: one call per event, built by a mapping that the deployment file may change."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr, field_validator

from export_pipeline.subscribers.mapping import compile_mapping, extended
from export_pipeline.subscribers.mapping_compiler import Call
from export_pipeline.subscribers.requests import HttpRequestSubscriber


class MappedSubscriber(HttpRequestSubscriber):
    """A subclass sets ``hosts``, ``path`` and ``default_mapping``, and implements :meth:`post` and :meth:`look_at`."""

    region: str = Field(default="us", description="Where the project is hosted.")
    api_url: str | None = Field(
        default=None, description="Address to use instead of the region's, such as a proxy or your own server."
    )
    mapping: dict[str, Any] = Field(
        default_factory=dict,
        description="Changes to the default mapping, in the mapping language: members given here replace those of "
        "the default, null removes one.",
    )
    hosts: ClassVar[Mapping[str, str]]
    path: ClassVar[str]
    default_mapping: ClassVar[Mapping[str, Any]]
    _call: Call | None = PrivateAttr(default=None)

    @field_validator("region")
    @classmethod
    def _check_region(cls, value: str) -> str:
        if value not in cls.hosts:
            raise ValueError(f"unknown region {value!r}; allowed: {', '.join(cls.hosts)}")
        return value

    @field_validator("mapping")
    @classmethod
    def _check_mapping(cls, value: dict[str, Any]) -> dict[str, Any]:
        compile_mapping(extended(cls.default_mapping, value))
        return value

    @abstractmethod
    def look_at(self, call: Mapping[str, Any]) -> None:
        """Raise Unfit if the service would drop *call* silently."""

    def encode(self, event: bytes) -> Sequence[bytes]:
        """The call for one event."""
        return self.encoder()(event)

    def encoder(self) -> Callable[[bytes], Sequence[bytes]]:
        """:meth:`encode`, without reading the options for each event."""
        call = self._call
        if call is None:
            call = self._call = Call(extended(self.default_mapping, self.mapping), self.look_at)
        return lambda event: (call(event),)

    @property
    def endpoint(self) -> str:
        """The URL of requests."""
        return (self.api_url or self.hosts[self.region]).rstrip("/") + self.path
