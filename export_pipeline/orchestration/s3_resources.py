"""The same resources where they lie in S3: dagster-aws's ``S3Resource`` with a URL.

A module of its own, since dagster-aws takes most of a second to import and a local deployment needs none of it.
"""

from typing import Literal

from dagster_aws.s3 import S3Resource
from pydantic import Field

from export_pipeline.orchestration.resources import QuarantineResource, SourceResource, StagingResource, StoreResource
from export_pipeline.storage.settings import StoreSettings
from export_pipeline.subscribers.base import SECRET

_OWN_FIELDS = frozenset(StoreSettings.model_fields)


class S3StoreResource(S3Resource, StoreResource):
    """A folder in S3. Credentials come from boto3's usual chain where none are given."""

    aws_access_key_id: str | None = Field(
        default=None, description="AWS access key id. From boto3's usual chain by default.", json_schema_extra=SECRET
    )
    aws_secret_access_key: str | None = Field(
        default=None, description="AWS secret access key.", json_schema_extra=SECRET
    )
    aws_session_token: str | None = Field(
        default=None, description="Session token of temporary AWS credentials.", json_schema_extra=SECRET
    )
    max_attempts: int = Field(default=3, description="How often one request is tried, the first time included.")
    retry_mode: Literal["adaptive", "standard", "legacy"] = Field(
        default="adaptive", description="botocore's retry mode: adaptive slows down when S3 asks for it."
    )
    role_arn: str | None = Field(default=None, description="ARN of an IAM role to assume with the credentials found.")
    role_external_id: str | None = Field(default=None, description="External id that the role's trust policy demands.")
    ca_bundle: str | None = Field(default=None, description="Path of a CA bundle (PEM) to trust.")
    connect_timeout_seconds: float = Field(default=10, description="Longest wait for a connection.")
    read_timeout_seconds: float = Field(default=60, description="Longest silence in the middle of an answer.")
    virtual_hosted_style: bool | None = Field(default=None, description="Put the bucket into the host name.")
    requester_pays: bool = Field(default=False, description="Agree to pay for requests.")

    def get_object_to_set_on_execution_context(self) -> "S3StoreResource":
        """The resource itself, where S3Resource would give ops a boto3 client."""
        return self

    def store_settings(self) -> StoreSettings:
        """How the bucket is reached."""
        given = {name: getattr(self, name) for name in _OWN_FIELDS}
        if self.ca_bundle is not None:
            given["verify"] = self.ca_bundle
        return StoreSettings(**{name: value for name, value in given.items() if value is not None})


class S3SourceResource(S3StoreResource, SourceResource):
    """Where raw files land, in S3."""


class S3StagingResource(S3StoreResource, StagingResource):
    """Staged batches in S3."""


class S3QuarantineResource(S3StoreResource, QuarantineResource):
    """The quarantine in S3."""
