"""The export job as something that Dagster can load again in another process."""

from dagster import JobDefinition

from export_pipeline.deployment import load_deployment
from export_pipeline.orchestration.build import definitions_of


def export_job() -> JobDefinition:
    """The job of the deployment that EXPORT_DEPLOYMENT names."""
    return definitions_of(load_deployment()).resolve_job_def("export_job")
