"""Which runs the alerts are about."""

from pathlib import Path

from dagster import DagsterRun

from export_pipeline.deployment import load_deployment
from export_pipeline.orchestration.build import definitions_of
from export_pipeline.orchestration.happenings import ASSET_JOB, is_of
from export_pipeline_tests.integration.project import Project


def test_a_failure_of_every_job_is_reported(tmp_path: Path) -> None:
    """Alerts are about each job that the export defines, with a prefix too, and about no other."""
    project = Project(tmp_path)
    for prefix in ("", "web"):
        project.config |= {"prefix": prefix} if prefix else {}
        deployment = load_deployment(str(project.deployment_path))
        jobs = {job.name for job in definitions_of(deployment).resolve_all_job_defs()}
        ours = {job for job in jobs if not job.startswith(ASSET_JOB)}
        assert len(ours) >= 5
        assert [job for job in sorted(ours) if not is_of(deployment, DagsterRun(job_name=job))] == []
        assert not is_of(deployment, DagsterRun(job_name="nightly_report"))
