"""The cursor of the sensor ``new_files``, read and moved by the ops.

While the sensor is on, the daemon writes back, at the end of each tick, the cursor it read at its start. The ledger
knows every file that was planned, so an older cursor only makes the next listing longer.
"""

from dagster import DagsterInstance, DagsterRun
from typing_extensions import Self

from export_pipeline.orchestration import instigators
from export_pipeline.orchestration.names import LOCATION, SENSOR_INTERVAL_SECONDS, Names


class SensorCursor:
    """The cursor of one sensor of one code location.

    Args:
        instance: where Dagster keeps its state.
        origin: which sensor.
    """

    def __init__(self, instance: DagsterInstance, origin: instigators.Origin) -> None:
        self._instance = instance
        self._origin = origin

    @classmethod
    def of_run(cls, instance: DagsterInstance, run: DagsterRun, names: Names) -> Self:
        """The cursor of ``new_files`` as *run* sees it.

        A run tells the code location it was launched from. One by ``dagster job execute`` knows none: it takes the one
        that workspace.yaml pins, or the only other location where a sensor of this name has a cursor.
        """
        if run.remote_job_origin is not None:
            repository = run.remote_job_origin.repository_origin
            return cls(instance, instigators.origin_of(repository, names.new_files))
        pinned = instigators.origin_of(instigators.repository_named(LOCATION), names.new_files)
        if instigators.has_state(instance, pinned):
            return cls(instance, pinned)
        others = list(instigators.sensors_with_cursor(instance, names.new_files))
        return cls(instance, others[0] if len(others) == 1 else pinned)

    def read(self) -> str:
        """The key, empty where there is none."""
        return instigators.read_cursor(self._instance, self._origin)

    def move(self, key: str) -> None:
        """Set the cursor to *key*, and leave everything else of the sensor's state as it is."""
        instigators.write_cursor(self._instance, self._origin, key, interval_seconds=SENSOR_INTERVAL_SECONDS)
