"""The job that runs the asset checks, and its schedule."""

from dagster import (
    AssetCheckKey,
    AssetSelection,
    DefaultScheduleStatus,
    ScheduleDefinition,
    define_asset_job,
    in_process_executor,
)

from export_pipeline.configuration.schedule import cron_of
from export_pipeline.dagster_internals import UnresolvedAssetJobDefinition
from export_pipeline.orchestration.checks import check_specs
from export_pipeline.orchestration.export import Export


def export_check_job(export: Export) -> UnresolvedAssetJobDefinition:
    """``check_job``: every check of every asset of this export."""
    keys: list[AssetCheckKey] = [spec.key for specs in check_specs(export).values() for spec in specs]
    return define_asset_job(
        export.names.check_job,
        selection=AssetSelection.checks(*keys),
        executor_def=in_process_executor,
        description="Look whether every event is accounted for, whether the listing of the last days and the ledger "
        "agree, and whether anything waits for too long. It delivers nothing.",
    )


def check_schedule(export: Export, job: UnresolvedAssetJobDefinition) -> ScheduleDefinition:
    """The schedule of ``check_job``; off from the start unless the deployment says ``checks: {enabled: true}``."""
    checks = export.watching.checks
    return ScheduleDefinition(
        name=export.names.check_schedule,
        job=job,
        cron_schedule=cron_of(checks.frequency),
        execution_timezone=export.watching.timezone,
        default_status=DefaultScheduleStatus.RUNNING if checks.enabled else DefaultScheduleStatus.STOPPED,
        description=f"Runs {export.names.check_job} ({checks.frequency}).",
    )
