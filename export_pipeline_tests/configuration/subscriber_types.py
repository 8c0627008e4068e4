"""Subscribers as a third-party package would define them, named in deployment files as ``module:Class``."""

from typing import Literal

from pydantic import ConfigDict, Field, field_validator

from export_pipeline.batching.batch import Batch
from export_pipeline.subscribers.base import SECRET, Subscriber


class Crm(Subscriber):
    """Takes nothing, but has an option of each kind."""

    url: str = Field(min_length=3, description="Address.")
    secret: str = Field(json_schema_extra=SECRET, min_length=8, description="Key.")
    headers: dict[str, str] = Field(default={}, json_schema_extra=SECRET, description="Headers.")
    mode: Literal["fast", "safe"] = Field(default="safe", description="Mode.")
    tags: list[str] = Field(default=[], description="Tags.")
    limit: int = Field(default=1, ge=1, le=9, description="Limit.")

    @field_validator("secret")
    @classmethod
    def _starts_well(cls, value: str) -> str:
        if not value.startswith("whsec_"):
            raise ValueError(f"{value!r} does not begin with whsec_")
        return value

    def deliver(self, batch: Batch) -> None:
        """Accept everything."""


class Careless(Subscriber):
    """Its author let unknown keys pass, as Dagster does by default."""

    model_config = ConfigDict(extra="ignore")

    def deliver(self, batch: Batch) -> None:
        """Accept everything."""


class Aliased(Subscriber):
    """Its keys in the file are words that Python keeps for itself."""

    class_: str = Field(alias="class", json_schema_extra=SECRET, min_length=8, description="Class.")
    from_: int = Field(default=1, alias="from", ge=1, description="From.")

    def deliver(self, batch: Batch) -> None:
        """Accept everything."""
