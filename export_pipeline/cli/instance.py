"""Dagster's instance and the cursor of ``new_files``, the same that ``dagster job execute`` uses."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance


@contextmanager
def dagster_instance() -> "Iterator[DagsterInstance]":
    """The instance of DAGSTER_HOME; if that is not set, the one of ``./dagster.yaml``, or a temporary one."""
    from export_pipeline.dagster_internals import instance_of_command_line

    with instance_of_command_line("export-pipeline") as instance:
        yield instance


def sensor_name(prefix: str) -> str:
    """The name of the sensor ``new_files`` in Dagster.

    Args:
        prefix: prefix of the deployment's names.
    """
    from export_pipeline.configuration.names import Names

    return Names(prefix).new_files


def read_cursor(prefix: str, mark: str) -> str:
    """The cursor of ``new_files``, as a run from the command line sees it; empty if there is none.

    Args:
        prefix: prefix of the deployment's names.
        mark: mark of the ledger and the source.
    """
    from dagster import DagsterRun

    from export_pipeline.configuration.names import Names
    from export_pipeline.orchestration.instigators import SensorCursor

    names = Names(prefix)
    with dagster_instance() as instance:
        return SensorCursor.of_run(instance, DagsterRun(job_name=names.export_job), names, mark=mark).read()
