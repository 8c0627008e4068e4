"""Schedules and sensors as Dagster's instance keeps them.

Dagster has no public way to read a sensor's cursor or the ticks of another schedule, so everything of it that is not
public stands in this file. The state is kept under (location, repository, name); it can be there before a sensor was
ever turned on.
"""

from collections.abc import Iterator, Sequence

from dagster import DagsterInstance, DagsterInvariantViolationError, SensorEvaluationContext
from dagster._core.definitions.repository_definition.valid_definitions import SINGLETON_REPOSITORY_NAME
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.definitions.sensor_definition import SensorType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    SensorInstigatorData,
    TickStatus,
)
from dagster._serdes import create_snapshot_id

FINISHED = (TickStatus.FAILURE, TickStatus.SUCCESS, TickStatus.SKIPPED)
_MOST_TICKS = 100

Origin = RemoteInstigatorOrigin
Repository = RemoteRepositoryOrigin


def repository_named(location: str) -> Repository:
    """The repository of a code location with one, which is how Dagster loads definitions."""
    return RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), SINGLETON_REPOSITORY_NAME)


def repository_of(context: SensorEvaluationContext) -> Repository | None:
    """The repository that a sensor is evaluated for; None outside of a daemon and the UI."""
    if context.code_location_origin is None or context.repository_name is None:
        return None
    return RemoteRepositoryOrigin(context.code_location_origin, context.repository_name)


def origin_of(repository: Repository, name: str) -> Origin:
    """Where a schedule or sensor stands."""
    return RemoteInstigatorOrigin(repository, name)


def sensors_with_cursor(instance: DagsterInstance, name: str) -> Iterator[Origin]:
    """Every sensor of this name, in any code location, that has a cursor."""
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        if state.origin.instigator_name == name and _cursor(state):
            yield state.origin


def has_state(instance: DagsterInstance, origin: Origin) -> bool:
    """Whether Dagster knows anything of a sensor."""
    return _state(instance, origin) is not None


def read_cursor(instance: DagsterInstance, origin: Origin) -> str:
    """A sensor's cursor, empty where there is none."""
    return _cursor(_state(instance, origin))


def write_cursor(instance: DagsterInstance, origin: Origin, cursor: str, *, interval_seconds: int) -> None:
    """Set a sensor's cursor, and leave everything else of its state as it is.

    Args:
        interval_seconds: between two of its ticks; written where the sensor has no state yet.
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
    """The last hundred ticks of a schedule or sensor later than *timestamp*, the oldest first."""
    selector = create_snapshot_id(origin.get_selector())
    found = instance.get_ticks(origin.get_id(), selector, after=timestamp, limit=_MOST_TICKS)
    return sorted(found, key=lambda tick: tick.timestamp)


def _state(instance: DagsterInstance, origin: Origin) -> InstigatorState | None:
    return instance.get_instigator_state(origin.get_id(), create_snapshot_id(origin.get_selector()))


def _cursor(state: InstigatorState | None) -> str:
    data = state.instigator_data if state else None
    return (data.cursor or "") if isinstance(data, SensorInstigatorData) else ""
