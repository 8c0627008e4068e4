"""The resources for places in S3: dagster-aws's ``S3Resource`` with a URL.

A separate module, because dagster-aws takes most of a second to import and a local deployment does not need it.
"""

from dagster_aws.s3 import S3Resource

from export_pipeline.orchestration.resources import QuarantineResource, SourceResource, StagingResource, StoreResource


class S3StoreResource(StoreResource, S3Resource):
    """A folder in S3. Without explicit credentials, boto3's usual chain is used."""

    def get_object_to_set_on_execution_context(self) -> "S3StoreResource":
        """The resource itself; S3Resource would give ops a boto3 client."""
        return self


class S3SourceResource(SourceResource, S3StoreResource):
    """The source in S3."""


class S3StagingResource(StagingResource, S3StoreResource):
    """Staged batches in S3."""


class S3QuarantineResource(QuarantineResource, S3StoreResource):
    """The quarantine in S3."""
