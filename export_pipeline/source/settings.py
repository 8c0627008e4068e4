"""The ``source:`` part of a deployment file."""

from datetime import date
from typing import Literal

from pydantic import Field, field_validator

from export_pipeline.errors import ConfigurationError
from export_pipeline.source.layout import Layout
from export_pipeline.storage.location import parse_location
from export_pipeline.storage.settings import StoreSettings


class SourceSettings(StoreSettings):
    """Where raw files land, and how their keys tell the date."""

    url: str = Field(
        min_length=1,
        description="The folder in which files land: s3://bucket/prefix, an S3 ARN (arn:aws:s3:::bucket/prefix), "
        "gs://bucket/prefix, az://container/prefix, file:///absolute/path or a path relative to the working directory.",
    )
    layout: str = Field(
        default="%Y/%m/%d",
        description="How a key below url begins, as a strftime pattern of %Y, %m, %d, %H, %M, %j and literal text.",
    )
    start_date: date = Field(
        default=date(2020, 1, 1), description="First day that is ever exported; older files are left alone."
    )
    on_overwrite: Literal["read", "ignore"] = Field(
        default="read",
        description="A known key with new content: read it as a file of its own, or ignore it; it is logged.",
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
