"""The same resources where they lie in S3: dagster-aws's ``S3Resource`` with a URL.

A module of its own, since dagster-aws takes most of a second to import and a local deployment needs none of it.
"""

from dagster_aws.s3 import S3Resource

from export_pipeline.orchestration.resources import QuarantineResource, SourceResource, StagingResource, StoreResource


class S3StoreResource(StoreResource, S3Resource):
    """A folder in S3. Credentials come from boto3's usual chain where none are given."""

    def get_object_to_set_on_execution_context(self) -> "S3StoreResource":
        """The resource itself, where S3Resource would give ops a boto3 client."""
        return self


class S3SourceResource(SourceResource, S3StoreResource):
    """Where raw files land, in S3."""


class S3StagingResource(StagingResource, S3StoreResource):
    """Staged batches in S3."""


class S3QuarantineResource(QuarantineResource, S3StoreResource):
    """The quarantine in S3."""
