"""The options of a store, and the AWS credentials, as fields of a Dagster resource.

They are the same as in the deployment file, except that Dagster resolves the environment variables of secrets.
"""

from typing import Any

from pydantic import Field, field_validator

from export_pipeline.storage.settings import LoginOptions, StoreOptions, StoreSettings
from export_pipeline.subscribers.base import SECRET


def _told(option: str) -> str:
    return StoreSettings.model_fields[option].description or ""


class LoginFields(LoginOptions):
    """The AWS credentials."""

    aws_access_key_id: str | None = Field(
        default=None, description=_told("aws_access_key_id"), json_schema_extra=SECRET
    )
    aws_secret_access_key: str | None = Field(
        default=None, description=_told("aws_secret_access_key"), json_schema_extra=SECRET
    )
    aws_session_token: str | None = Field(
        default=None, description=_told("aws_session_token"), json_schema_extra=SECRET
    )

    def store_settings(self) -> StoreSettings:
        """Those of these options that say how a store is reached."""
        given = {name: getattr(self, name) for name in StoreSettings.model_fields if hasattr(self, name)}
        return StoreSettings(**{name: value for name, value in given.items() if value is not None})


class StoreFields(StoreOptions, LoginFields):
    """How a store is reached."""

    # Any: Dagster's config has no type that accepts both a boolean and a path.
    verify: Any = Field(default=None, description=_told("verify"))

    @field_validator("verify")
    @classmethod
    def _verify_is_known(cls, value: object) -> object:
        if value is not None and not isinstance(value, bool | str):
            raise ValueError("allowed: true, false, or the path of a CA bundle (PEM)")
        return value
