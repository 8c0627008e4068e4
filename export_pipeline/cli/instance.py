"""Dagster's instance, the same one that ``dagster job execute`` takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance


@contextmanager
def dagster_instance() -> "Iterator[DagsterInstance]":
    """DAGSTER_HOME's instance; where that is not set, the one that ``./dagster.yaml`` describes, or a passing one."""
    from export_pipeline.dagster_internals import instance_of_command_line

    with instance_of_command_line("export-pipeline") as instance:
        yield instance


def sensor_name(prefix: str) -> str:
    """What the sensor ``new_files`` is called in Dagster.

    Args:
        prefix: of the deployment's names.
    """
    from export_pipeline.configuration.names import Names

    return Names(prefix).new_files


def read_cursor(prefix: str, mark: str) -> str:
    """The cursor of ``new_files``, as a run by command line sees it; empty where there is none.

    Args:
        prefix: of the deployment's names.
        mark: of the ledger and the source.
    """
    from dagster import DagsterRun

    from export_pipeline.configuration.names import Names
    from export_pipeline.orchestration.instigators import SensorCursor

    names = Names(prefix)
    with dagster_instance() as instance:
        return SensorCursor.of_run(instance, DagsterRun(job_name=names.export_job), names, mark=mark).read()
