"""The sensor ``new_files``: while it is on, it checks for new files and drains a backlog without pauses."""

from datetime import datetime
from typing import Any

from dagster import (
    DefaultSensorStatus,
    JobDefinition,
    RunConfig,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from export_pipeline.deployment import Deployment
from export_pipeline.ledger import database
from export_pipeline.ledger.database import utc_now
from export_pipeline.orchestration import instigators
from export_pipeline.orchestration.guard import failures_without_secrets
from export_pipeline.orchestration.names import SENSOR_INTERVAL_SECONDS
from export_pipeline.orchestration.resources import LEDGER, SOURCE, Places, discovery_settings, place_keys
from export_pipeline.orchestration.schedule import reason_to_skip
from export_pipeline.steps.lookout import Lookout, Seen, gets_on

# A new file that a run could not plan, for whatever reason, starts another run no sooner than in the next slot.
_SLOT_SECONDS = 300
# Other messages may wait a moment later, and nothing tells them apart.
_SLOT_OF_MESSAGES_SECONDS = 2 * SENSOR_INTERVAL_SECONDS


def new_files_sensor(deployment: Deployment, job: JobDefinition) -> SensorDefinition:
    """Starts a run within seconds of a new file. Off by default; its cursor shows how far the source is listed."""
    lookout = Lookout()

    @sensor(
        name=deployment.names.new_files,
        job=job,
        required_resource_keys=place_keys(deployment.names, [SOURCE, LEDGER]),
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.STOPPED,
        description="Its cursor shows the key up to which the source has been listed. Move it back to list again from "
        "there; moving it forward has no effect. When on, the sensor checks for new files every few seconds, in the "
        "source or in the notification queue, and starts a run for them. While a backlog waits it starts the next run "
        "at once, with catch_up_max_files.",
    )
    def new_files(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        places = Places(context.resources, deployment.names)
        with failures_without_secrets(deployment.secret_values()):
            repository = instigators.repository_of(context)
            reason = reason_to_skip(
                deployment,
                context.instance,
                ledger=places.ledger.open,
                location=instigators.location_of(repository) if repository is not None else None,
            )
            if reason:
                return SkipReason(reason)
            source, ledger = places.source.open(), places.ledger.open()
            if gets_on(ledger, source.url):
                return RunRequest(run_config=RunConfig(ops=catch_up(deployment)))
            now = utc_now()
            seen = lookout.look(
                source,
                ledger,
                discovery_settings(deployment, places.source),
                queue=places.source.open_queue(),
                now=now,
            )
            if not seen:
                return SkipReason("no new files")
            with ledger.read() as tx:
                mark = database.source_mark(tx, source.url)
        return RunRequest(run_key=run_key(seen, mark, now))

    return new_files


def run_key(seen: Seen, mark: str, now: datetime) -> str:
    """A run key that is the same for two ticks that see the same file, so that Dagster starts only one run.

    Args:
        mark: mark of the ledger and the source.
    """
    what, slot_seconds = f"{seen.key} {seen.etag}", _SLOT_SECONDS
    if not seen.key:
        what, slot_seconds = "messages", _SLOT_OF_MESSAGES_SECONDS
    return f"{mark} {int(now.timestamp() // slot_seconds)} {what}"


def catch_up(deployment: Deployment) -> dict[str, Any]:
    """The config, by op, of a run that drains a backlog: it takes more files than one that the schedule starts."""
    return {deployment.names.list_new_files: {"config": {"max_files": deployment.catch_up_max_files}}}
