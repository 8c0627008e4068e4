"""The export job as something that Dagster can load again in another process."""

from pathlib import Path

from dagster import JobDefinition, build_reconstructable_job
from dagster._core.definitions.reconstruct import ReconstructableJob

from export_pipeline.deployment import load_deployment
from export_pipeline.orchestration.build import definitions_of


def export_job(path: str) -> JobDefinition:
    """The job of the deployment in a file."""
    return definitions_of(load_deployment(path)).resolve_job_def("export_job")


def reloadable(path: Path) -> ReconstructableJob:
    """The same as a thing to execute; Dagster keeps one for each path."""
    return build_reconstructable_job(__name__, "export_job", (str(path),))
