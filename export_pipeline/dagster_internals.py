"""Everything that this package imports from Dagster's private modules, which can change with any release of Dagster.

On an upgrade of Dagster, review this file; a test ensures that no other imports a private module. Verified with dagster
1.13.27:

- stored schedules, sensors and ticks (``scheduler.instigation``, ``remote_origin``,
  ``_serdes``): there is no public API to read or set a sensor's cursor, or to read another schedule's ticks;
- backfills (``execution.backfill``): there is none to list backfills, their days and their results, either;
- ``capture_interrupts``: delays termination from the UI until the batch in flight is recorded;
- ``cron_string_iterator``: Dagster's own cron parser, from which any other could differ;
- ``validate_config``, ``DefinitionConfigSchema``: validate an executor's config as Dagster does, and a resource's in
  the Launchpad;
- ``UnresolvedAssetJobDefinition``: the return type of a public function.
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
    """The instance that a ``dagster`` command would use here: that of DAGSTER_HOME, or of ``./dagster.yaml``.

    Args:
        name: name of the command, for messages.
    """
    # Imported here: it loads all of Dagster's commands, which only the command line needs.
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
