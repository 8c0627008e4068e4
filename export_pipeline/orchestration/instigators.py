"""Cursors, ticks and backfills in the storage of Dagster's instance.

Dagster has no public API to read a sensor's cursor, the ticks of another schedule or its backfills, so this module uses
:mod:`export_pipeline.dagster_internals`. The state is stored under (location, repository, name); it can exist before a
sensor was ever turned on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dagster import DagsterInstance, DagsterInvariantViolationError, DagsterRun, SensorEvaluationContext
from typing_extensions import Self

from export_pipeline.configuration.names import Names
from export_pipeline.dagster_internals import (
    BULK_ACTION_TERMINAL_STATUSES,
    SINGLETON_REPOSITORY_NAME,
    BulkActionsFilter,
    BulkActionStatus,
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    InstigatorType,
    PartitionBackfill,
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
    SensorInstigatorData,
    SensorType,
    TickStatus,
    create_snapshot_id,
)
from export_pipeline.orchestration.names import LOCATION, SENSOR_INTERVAL_SECONDS
from export_pipeline.steps.next_listing import Cursor

FINISHED = (TickStatus.FAILURE, TickStatus.SUCCESS, TickStatus.SKIPPED)
_MOST_TICKS = 100

_MOST_BACKFILLS = 50

Origin = RemoteInstigatorOrigin
Repository = RemoteRepositoryOrigin


def repository_named(location: str) -> Repository:
    """The only repository of a code location, as Dagster creates it for ``Definitions``."""
    return RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), SINGLETON_REPOSITORY_NAME)


def repository_of(context: SensorEvaluationContext) -> Repository | None:
    """The repository that a sensor is evaluated for; None outside the daemon and the UI."""
    if context.code_location_origin is None or context.repository_name is None:
        return None
    return RemoteRepositoryOrigin(context.code_location_origin, context.repository_name)


def location_of(repository: Repository) -> str:
    """The name of a repository's code location."""
    return repository.code_location_origin.location_name


def origin_of(repository: Repository, name: str) -> Origin:
    """The origin of a schedule or sensor in a repository."""
    return RemoteInstigatorOrigin(repository, name)


def sensors_with_cursor(instance: DagsterInstance, name: str) -> Iterator[Origin]:
    """Every sensor with this name, in any code location, that has a cursor."""
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        if state.origin.instigator_name == name and _cursor(state):
            yield state.origin


def sensor_is_on(instance: DagsterInstance, name: str, *, location: str | None) -> bool:
    """Whether a sensor with this name is on.

    Args:
        location: name of its code location; None for any.
    """
    return any(
        state.status is InstigatorStatus.RUNNING
        and state.origin.instigator_name == name
        and location in (None, location_of(state.origin.repository_origin))
        for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    )


def has_state(instance: DagsterInstance, origin: Origin) -> bool:
    """Whether Dagster has stored a state for a sensor."""
    return _state(instance, origin) is not None


def read_cursor(instance: DagsterInstance, origin: Origin) -> str:
    """A sensor's cursor; empty if there is none."""
    return _cursor(_state(instance, origin))


def write_cursor(instance: DagsterInstance, origin: Origin, cursor: str, *, interval_seconds: int) -> None:
    """Set a sensor's cursor, and leave everything else of its state as it is.

    Args:
        interval_seconds: between two of its ticks; stored if the sensor has no state yet.
    """
    state = _state(instance, origin)
    if state is None:
        data = SensorInstigatorData(min_interval=interval_seconds, cursor=cursor, sensor_type=SensorType.STANDARD)
        first = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.STOPPED, data)
        try:
            instance.add_instigator_state(first)
            return
        except DagsterInvariantViolationError:
            # Somebody else was first: the daemon, the UI or another run.
            state = _state(instance, origin)
            if state is None:
                raise
    found = state.instigator_data
    old = found if isinstance(found, SensorInstigatorData) else SensorInstigatorData()
    instance.update_instigator_state(state.with_data(old._replace(cursor=cursor)))


def ticks_after(instance: DagsterInstance, origin: Origin, timestamp: float) -> Sequence[InstigatorTick]:
    """The last 100 ticks of a schedule or sensor after *timestamp*, the oldest first."""
    selector = create_snapshot_id(origin.get_selector())
    found = instance.get_ticks(origin.get_id(), selector, after=timestamp, limit=_MOST_TICKS)
    return sorted(found, key=lambda tick: tick.timestamp)


@dataclass(frozen=True, slots=True)
class LaunchedBackfill:
    """A backfill of a job, as it was launched.

    Attributes:
        location: the code location that it was launched in; None if unknown.
        days: names of its partitions.
        tags, run_config: as it was launched with.
        is_whole: each of its days gets its own run; false if it only retries failures.
        is_over: it creates no more runs.
        is_canceled: it was canceled.
        is_failed: it is over, and some of its runs failed.
    """

    id: str
    location: str | None
    days: tuple[str, ...]
    tags: Mapping[str, str]
    run_config: Mapping[str, Any]
    is_whole: bool
    is_over: bool
    is_canceled: bool
    is_failed: bool


def backfills_of(instance: DagsterInstance, job: str, *, after: datetime) -> list[LaunchedBackfill]:
    """The latest 50 backfills of a job, in any code location, that were launched after *after*."""
    wanted = BulkActionsFilter(job_name=job, created_after=after)
    return [_launched(one) for one in instance.get_backfills(filters=wanted, limit=_MOST_BACKFILLS)]


def backfill(instance: DagsterInstance, backfill_id: str) -> LaunchedBackfill | None:
    """One backfill; None if Dagster does not know it."""
    found = instance.get_backfill(backfill_id)
    return _launched(found) if found is not None else None


def forget_run(instance: DagsterInstance, run_id: str) -> None:
    """Delete a run and everything that Dagster keeps about it: its record, its events, and the output of its steps."""
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    instance.delete_run(run_id)
    # With SQLite there is one file per run, which Dagster empties but does not delete.
    shard = getattr(instance.event_log_storage, "path_for_shard", None)
    if shard is not None:
        for end in ("", "-wal", "-shm"):
            Path(shard(run_id) + end).unlink(missing_ok=True)


def _launched(found: PartitionBackfill) -> LaunchedBackfill:
    origin = found.partition_set_origin
    return LaunchedBackfill(
        id=found.backfill_id,
        location=origin.repository_origin.code_location_origin.location_name if origin else None,
        days=tuple(found.partition_names or ()),
        tags=found.tags,
        run_config=found.run_config or {},
        is_whole=not found.from_failure and not found.reexecution_steps,
        is_over=found.status in BULK_ACTION_TERMINAL_STATUSES,
        is_canceled=found.status in (BulkActionStatus.CANCELED, BulkActionStatus.CANCELING),
        is_failed=found.status in (BulkActionStatus.FAILED, BulkActionStatus.COMPLETED_FAILED),
    )


def _state(instance: DagsterInstance, origin: Origin) -> InstigatorState | None:
    return instance.get_instigator_state(origin.get_id(), create_snapshot_id(origin.get_selector()))


def _cursor(state: InstigatorState | None) -> str:
    data = state.instigator_data if state else None
    return (data.cursor or "") if isinstance(data, SensorInstigatorData) else ""


class SensorCursor:
    """The cursor of one sensor of one code location.

    Args:
        instance: the Dagster instance that stores its state.
        origin: which sensor.
    """

    def __init__(self, instance: DagsterInstance, origin: Origin) -> None:
        self._instance = instance
        self._origin = origin

    @classmethod
    def of_run(cls, instance: DagsterInstance, run: DagsterRun, names: Names, *, mark: str) -> Self:
        """The cursor of ``new_files`` as *run* sees it.

        A run records the code location that it was launched from. A run by ``dagster job execute`` has none: it uses
        the location whose cursor has the mark of its ledger, otherwise the one that workspace.yaml pins, or the only
        other one where a sensor with this name has a cursor.

        Args:
            mark: of the ledger and the source (``ledger.database.source_mark``); empty if there is none yet.
        """
        if run.remote_job_origin is not None:
            repository = run.remote_job_origin.repository_origin
            return cls(instance, origin_of(repository, names.new_files))
        pinned = origin_of(repository_named(LOCATION), names.new_files)
        known = [pinned, *sensors_with_cursor(instance, names.new_files)]
        own = [one for one in known if Cursor.parse(read_cursor(instance, one)).mark == mark]
        if own and mark:
            return cls(instance, own[0])
        if has_state(instance, pinned):
            return cls(instance, pinned)
        others = known[1:]
        return cls(instance, others[0] if len(others) == 1 else pinned)

    def read(self) -> str:
        """The cursor as the sensor's page shows it; empty if there is none."""
        return read_cursor(self._instance, self._origin)

    def replace(self, found: str, text: str) -> None:
        """Set the cursor to *text* if it still is *found*: an edit made meanwhile takes precedence.

        Everything else of the sensor's state does not change.
        """
        if text != found and self.read() == found:
            write_cursor(self._instance, self._origin, text, interval_seconds=SENSOR_INTERVAL_SECONDS)
