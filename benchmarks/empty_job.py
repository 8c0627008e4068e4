"""A Dagster job that does nothing: what a run costs before it begins to work."""

from dagster import in_process_executor, job, op


@op
def nothing() -> None:
    """Do nothing."""


@job(executor_def=in_process_executor)
def empty_job() -> None:
    """Do nothing in one op, in the executor that the export uses; Dagster's own default takes a second longer."""
    nothing()
