"""A Dagster job that does nothing: the cost of a run before any work."""

from dagster import in_process_executor, job, op


@op
def nothing() -> None:
    """Do nothing."""


@job(executor_def=in_process_executor)
def empty_job() -> None:
    """Do nothing in one op, in the executor that the export uses; Dagster's own default takes a second longer."""
    nothing()
