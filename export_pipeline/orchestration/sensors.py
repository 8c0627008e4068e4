"""The sensor ``new_files``: its cursor shows how far the source is listed, and, while it is on, it drains a backlog."""

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

from export_pipeline.ledger import backlog as ledger_backlog
from export_pipeline.ledger import planning, subscriptions
from export_pipeline.ledger.database import Ledger
from export_pipeline.orchestration import instigators
from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.guard import failures_without_secrets
from export_pipeline.orchestration.names import SENSOR_INTERVAL_SECONDS
from export_pipeline.orchestration.places import LEDGER, SOURCE, Places, place_keys
from export_pipeline.orchestration.schedule import reason_to_skip


def new_files_sensor(export: Export, job: JobDefinition) -> SensorDefinition:
    """Where more files wait than one run takes, start the next run at once. Off by default."""

    @sensor(
        name=export.names.new_files,
        job=job,
        required_resource_keys=place_keys(export.names, [SOURCE, LEDGER]),
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.STOPPED,
        description="Its cursor shows the key up to which the source has been listed. Set it back to list once more "
        "from there; moved forward it changes nothing. Turned on, it starts the next run at once while a backlog "
        "waits, with catch_up_max_files.",
    )
    def new_files(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        places = Places(context.resources, export.names)
        with failures_without_secrets(export.secrets):
            repository = instigators.repository_of(context)
            reason = reason_to_skip(
                export,
                context.instance,
                ledger=places.ledger.open,
                location=instigators.location_of(repository) if repository is not None else None,
            )
            if reason:
                return SkipReason(reason)
            url = places.source.open().url
            if not backlog(places.ledger.open(), url):
                return SkipReason("nothing waits for a run; the schedule looks for new files")
        return RunRequest(
            run_config=RunConfig(
                ops={export.names.list_new_files: {"config": {"max_files": export.catch_up_max_files}}}
            )
        )

    return new_files


def backlog(ledger: Ledger, url: str) -> bool:
    """Whether another run could get on at once.

    What is owed to a subscriber that just failed is no reason: it has to wait for the schedule, or a sick receiver
    would be knocked at without end. Nor is what could not be read, or a corrupt file, or a store that refuses access,
    would start run after run.
    """
    with ledger.read() as tx:
        number = subscriptions.source_id(tx, url)
        if number is None:
            return False
        more = planning.more_to_list(tx, number)
        failing = ledger_backlog.failing(tx, number)
        well = [one for one in subscriptions.active(tx, number) if one.id not in failing]
        return any(more or ledger_backlog.gets_on(tx, one) for one in well)
