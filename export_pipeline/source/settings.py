"""The ``source:`` section of a deployment file."""

import re
from datetime import date
from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import Self

from export_pipeline.errors import ConfigurationError
from export_pipeline.source.ignored import DEFAULT_PATTERNS, Ignored
from export_pipeline.source.layout import Layout
from export_pipeline.storage.location import parse_location
from export_pipeline.storage.settings import StoreSettings

_QUEUE_URL = re.compile(r"https?://[^/\s@?#]+/[^\s?#]*[A-Za-z0-9_-]{1,80}")


class NotificationSettings(BaseModel):
    """A queue to which S3 sends a message for each new object."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    queue_url: str = Field(
        description="URL of the SQS queue to which the bucket sends its notifications: directly, through SNS, or "
        "through EventBridge. No other consumer may use it."
    )
    listing_every_seconds: int = Field(
        default=86_400,
        ge=60,
        description="How often the source is still listed, in seconds, to find files whose message was lost.",
    )
    visibility_seconds: int = Field(
        default=120,
        ge=10,
        le=43_200,
        description="Visibility timeout, in seconds: how long a message that a run has received is hidden from others. "
        "If the run dies, the message is received again after this time.",
    )
    endpoint_url: str | None = Field(
        default=None, description="Custom endpoint of SQS, such as that of a VPC. Default: the host of queue_url."
    )
    bucket: str | None = Field(
        default=None, description="Name of the bucket, needed if url is the ARN of an access point."
    )

    @field_validator("queue_url")
    @classmethod
    def _queue_url_is_one(cls, url: str) -> str:
        if not _QUEUE_URL.fullmatch(url):
            raise ValueError("allowed: the URL of a queue, https://sqs.<region>.amazonaws.com/<account>/<name>")
        # It returns ten messages of a group at a time, and none after one that is not deleted.
        if url.endswith(".fifo"):
            raise ValueError("found a FIFO queue; allowed: a standard queue")
        return url


class SourceSettings(StoreSettings):
    """Where raw files land, and how their keys encode the date."""

    url: str = Field(
        min_length=1,
        description="The folder in which files land: s3://bucket/prefix, an S3 ARN (arn:aws:s3:::bucket/prefix), "
        "gs://bucket/prefix, az://container/prefix, file:///absolute/path, or an absolute or relative path.",
    )
    layout: str = Field(
        default="%Y/%m/%d",
        description="How keys below url begin: a strftime pattern of %Y, %m, %d, %H, %M, %j and literal text.",
    )
    start_date: date = Field(default=date(2020, 1, 1), description="First day to export; older files are never read.")
    on_overwrite: Literal["read", "changed", "ignore"] = Field(
        default="read",
        description="A known key with new content: read it as a separate file, which delivers its unchanged lines "
        "again; deliver only the [lines that the older version had not](operations.md#a-file-was-uploaded-again); or "
        "ignore it. All are logged.",
    )

    ignore: list[str] | None = Field(
        default=None,
        description="Glob patterns of names to ignore; they replace [the shipped ones](sources.md#ignored-names); [] "
        "ignores nothing. `*.tmp` matches a file name, `_temporary/` a folder and everything below it, `raw/**/x*` the "
        "whole key below url; a pattern that begins with `!` re-includes what earlier ones ignore.",
    )

    notifications: NotificationSettings | None = Field(
        default=None,
        description="A queue that S3 notifies of new files, so that the source need not be listed at every tick. "
        "[How](notifications.md).",
    )

    @field_validator("url")
    @classmethod
    def _url_is_known(cls, url: str) -> str:
        try:
            parse_location(url)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return url

    @field_validator("layout")
    @classmethod
    def _layout_tells_the_day(cls, layout: str) -> str:
        try:
            Layout(layout)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return layout

    @field_validator("ignore")
    @classmethod
    def _ignore_has_patterns(cls, patterns: list[str] | None) -> list[str] | None:
        try:
            Ignored(patterns or ())
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return patterns

    @property
    def is_notified(self) -> bool:
        """A queue announces new files, and the source is listed only now and then."""
        return self.notifications is not None

    @property
    def ignored(self) -> Ignored:
        """Which names are ignored."""
        return _ignored(DEFAULT_PATTERNS if self.ignore is None else tuple(self.ignore))

    @model_validator(mode="after")
    def _notifications_fit_the_url(self) -> Self:
        if self.notifications is None:
            return self
        location = parse_location(self.url)
        if location.scheme != "s3":
            raise ValueError("notifications: only S3 can notify a queue, but url is not an S3 URL")
        if location.bucket.startswith("arn:") and self.notifications.bucket is None:
            raise ValueError(
                "notifications.bucket is missing: url is an access point, but messages contain the name of its bucket"
            )
        return self


@lru_cache(8)
def _ignored(patterns: tuple[str, ...]) -> Ignored:
    """Compiled once per process: every step opens the source, and the built-in patterns alone take milliseconds."""
    return Ignored(patterns)
