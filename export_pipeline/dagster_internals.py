"""Everything that this package uses of Dagster's private modules, which may change with any release of Dagster.

When Dagster is upgraded, only this file needs review; a test makes sure that no other file imports a private module.
Seen in dagster 1.13.27:

- schedules, sensors and their ticks in the instance (``scheduler.instigation``, ``remote_origin``, ``_serdes``): there
  is no public way to read or set a sensor's cursor, or to read another schedule's ticks;
- backfills (``execution.backfill``): no public way to list them, with their days and status;
- ``capture_interrupts``: termination from the UI waits until the batch in flight is recorded;
- ``cron_string_iterator``: Dagster's own interpretation of cron, from which any other might differ;
- ``validate_config``, ``DefinitionConfigSchema``: checks an executor's config as Dagster does, and a resource's as
  the Launchpad does;
- ``UnresolvedAssetJobDefinition``: the return type of the public function that creates one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import DagsterInstance
from dagster._config import validate_config
from dagster._core.definitions.definition_config_schema import DefinitionConfigSchema
from dagster._core.definitions.repository_definition.valid_definitions import SINGLETON_REPOSITORY_NAME
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.definitions.sensor_definition import SensorType
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.execution.backfill import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    SensorInstigatorData,
    TickStatus,
)
from dagster._serdes import create_snapshot_id
from dagster._utils.interrupts import capture_interrupts, check_captured_interrupt
from dagster._utils.schedules import cron_string_iterator


@contextmanager
def instance_of_command_line(name: str) -> Iterator[DagsterInstance]:
    """The instance that a ``dagster`` command run here would use: DAGSTER_HOME's, or that of ``./dagster.yaml``.

    Args:
        name: of the command, for messages.
    """
    # The import loads all of Dagster's commands, so it is made here, for the command line only.
    from dagster._cli.utils import get_possibly_temporary_instance_for_cli

    with get_possibly_temporary_instance_for_cli(name) as instance:
        yield instance


__all__ = [
    "BULK_ACTION_TERMINAL_STATUSES",
    "SINGLETON_REPOSITORY_NAME",
    "BulkActionStatus",
    "BulkActionsFilter",
    "DefinitionConfigSchema",
    "InstigatorState",
    "InstigatorStatus",
    "InstigatorTick",
    "InstigatorType",
    "PartitionBackfill",
    "RegisteredCodeLocationOrigin",
    "RemoteInstigatorOrigin",
    "RemoteRepositoryOrigin",
    "SensorInstigatorData",
    "SensorType",
    "TickStatus",
    "UnresolvedAssetJobDefinition",
    "capture_interrupts",
    "check_captured_interrupt",
    "create_snapshot_id",
    "cron_string_iterator",
    "instance_of_command_line",
    "validate_config",
]
