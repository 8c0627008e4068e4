"""The cursor of the sensor ``new_files``, as Dagster keeps it: read and set by the ops.

It shows how far the source is listed; the ledger is what knows. While the sensor is on, the daemon writes back, at the
end of each tick, the cursor it read at its start: such an older one only makes the next listing longer.
"""

from dagster import DagsterInstance, DagsterRun
from typing_extensions import Self

from export_pipeline.orchestration import instigators
from export_pipeline.orchestration.names import LOCATION, SENSOR_INTERVAL_SECONDS, Names
from export_pipeline.steps.next_listing import Cursor


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
    def of_run(cls, instance: DagsterInstance, run: DagsterRun, names: Names, *, mark: str) -> Self:
        """The cursor of ``new_files`` as *run* sees it.

        A run tells the code location it was launched from. One by ``dagster job execute`` knows none: it takes the
        location whose cursor has the mark of its ledger, else the one that workspace.yaml pins, or the only other one
        where a sensor of this name has a cursor.

        Args:
            mark: of the ledger and the source (:func:`export_pipeline.ledger.identity.mark`); empty: there is none yet.
        """
        if run.remote_job_origin is not None:
            repository = run.remote_job_origin.repository_origin
            return cls(instance, instigators.origin_of(repository, names.new_files))
        pinned = instigators.origin_of(instigators.repository_named(LOCATION), names.new_files)
        known = [pinned, *instigators.sensors_with_cursor(instance, names.new_files)]
        own = [one for one in known if Cursor.parse(instigators.read_cursor(instance, one)).mark == mark]
        if own and mark:
            return cls(instance, own[0])
        if instigators.has_state(instance, pinned):
            return cls(instance, pinned)
        others = known[1:]
        return cls(instance, others[0] if len(others) == 1 else pinned)

    def read(self) -> str:
        """What the sensor's page shows, empty where there is nothing."""
        return instigators.read_cursor(self._instance, self._origin)

    def replace(self, found: str, text: str) -> None:
        """Set the cursor to *text* where it still is *found*: an edit made meanwhile wins.

        Everything else of the sensor's state is left as it is.
        """
        if text != found and self.read() == found:
            instigators.write_cursor(self._instance, self._origin, text, interval_seconds=SENSOR_INTERVAL_SECONDS)
