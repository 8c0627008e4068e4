"""Build Dagster's definitions from a deployment: everything is wired together here."""

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from dagster import ConfigurableResource, DailyPartitionsDefinition, Definitions, EnvVar

from export_pipeline.configuration.stores import QuarantineSettings, StagingSettings
from export_pipeline.configuration.subscribers import SubscriberEntry
from export_pipeline.deployment import Deployment
from export_pipeline.ledger.database import utc_now
from export_pipeline.orchestration import assets
from export_pipeline.orchestration.alerts import alerts_sensor
from export_pipeline.orchestration.assets import export_assets
from export_pipeline.orchestration.checks import check_schedule, export_check_job, export_checks
from export_pipeline.orchestration.executors import celery_app
from export_pipeline.orchestration.jobs import export_jobs
from export_pipeline.orchestration.new_files import new_files_sensor
from export_pipeline.orchestration.partitions import first_partition
from export_pipeline.orchestration.quarantine import quarantine_asset, quarantine_jobs
from export_pipeline.orchestration.ranges import range_assets
from export_pipeline.orchestration.resources import (
    LEDGER,
    QUARANTINE,
    SOURCE,
    STAGING,
    LedgerResource,
    QuarantineResource,
    SourceResource,
    StagingResource,
    StoreResource,
)
from export_pipeline.orchestration.schedule import export_schedule
from export_pipeline.secrets import EnvRef
from export_pipeline.source.settings import SourceSettings
from export_pipeline.storage.location import parse_location
from export_pipeline.storage.settings import StoreSettings
from export_pipeline.subscribers.unusable import Unusable

if TYPE_CHECKING:
    from celery import Celery


def definitions_of(deployment: Deployment, *, first_day: date | None = None) -> Definitions:
    """Jobs, schedules, sensors, assets, checks and resources of one deployment. Uses neither network nor disk.

    Args:
        first_day: the first partition (:func:`export_pipeline.orchestration.partitions.first_partition`); None:
            ``source.start_date``.
    """
    names = deployment.names
    begin = first_day or deployment.source.start_date
    partitions = DailyPartitionsDefinition(start_date=begin.isoformat(), end_offset=1)
    resources = {names.prefixed(name): resource for name, resource in _resources(deployment).items()}
    export_job, backfill_job = export_jobs(deployment, partitions, resources)
    check_job = export_check_job(deployment)
    raw, delivered = export_assets(
        deployment,
        source_url=deployment.source.url,
        source=assets.source_place(deployment.source.url, endpoint_url=deployment.source.endpoint_url),
        subscribers=deployment.subscribers,
        partitions=partitions,
    )
    return Definitions(
        jobs=[export_job, backfill_job, check_job, *quarantine_jobs(deployment, resources)],
        schedules=[
            export_schedule(deployment, export_job, cron=deployment.cron, timezone=deployment.timezone),
            check_schedule(deployment, check_job),
        ],
        sensors=[new_files_sensor(deployment, export_job), alerts_sensor(deployment)],
        assets=[
            raw,
            *([range_assets(deployment, delivered)] if delivered else []),
            quarantine_asset(deployment, partitions),
        ],
        asset_checks=export_checks(deployment),
        resources=resources,
    )


def loaded_definitions(deployment: Deployment) -> Definitions:
    """As :func:`definitions_of`, for a code location: its partitions begin where the ledger says."""
    return definitions_of(deployment, first_day=first_partition(deployment, today=utc_now().date()))


def celery_app_of(deployment: Deployment) -> "Celery":
    """The Celery application that workers run.

    Raises:
        ConfigurationError: the deployment's executor is not celery.
    """
    return celery_app(deployment.executor, max_run_seconds=deployment.run_seconds)


def workers_of(deployment: Deployment) -> list[str]:
    """Names of the Celery workers that answer within two seconds.

    Raises:
        ConfigurationError: the deployment's executor is not celery.
        kombu.exceptions.OperationalError: the broker cannot be reached.
    """
    with celery_app_of(deployment) as app, app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=2)
        answers = app.control.ping(timeout=2, connection=connection)
    return sorted(name for answer in answers for name in answer)


def _resources(deployment: Deployment) -> dict[str, ConfigurableResource[None]]:
    return {
        SOURCE: _source(deployment.source),
        LEDGER: LedgerResource(url=_plain(deployment.ledger.url)),
        STAGING: _store(deployment.staging, StagingResource, "S3StagingResource"),
        QUARANTINE: _store(deployment.quarantine, QuarantineResource, "S3QuarantineResource"),
        **{name: _subscriber(entry) for name, entry in deployment.subscribers.items()},
    }


def _source(settings: SourceSettings) -> ConfigurableResource[None]:
    own: dict[str, Any] = {
        "layout": settings.layout,
        "start_date": settings.start_date.isoformat(),
        "on_overwrite": settings.on_overwrite,
        "ignore": settings.ignore,
    }
    if told := settings.notifications:
        own |= {
            "queue_url": told.queue_url,
            "queue_endpoint_url": told.endpoint_url,
            "queue_bucket": told.bucket,
            "visibility_seconds": told.visibility_seconds,
            "listing_every_seconds": told.listing_every_seconds,
        }
    return _store(settings, SourceResource, "S3SourceResource", **own)


def _store(
    settings: SourceSettings | StagingSettings | QuarantineSettings,
    resource: type[StoreResource],
    in_s3: str,
    **own: Any,
) -> ConfigurableResource[None]:
    """The resource of a location in a store; based on dagster-aws if it is in S3."""
    given = {
        name: _plain(getattr(settings, name))
        for name in StoreSettings.model_fields
        if name in settings.model_fields_set
    }
    found: type[ConfigurableResource[None]] = resource
    if parse_location(settings.url).scheme == "s3":
        from export_pipeline.orchestration import s3_resources

        found = getattr(s3_resources, in_s3)
    return found(url=settings.url, **own, **given)


def _subscriber(entry: SubscriberEntry) -> ConfigurableResource[None]:
    if entry.unusable:
        # Dagster resolves the variables of all resources when a run starts, and an unset one would fail the run.
        return Unusable(reason=entry.unusable)
    return entry.resource_class(**{name: _plain(value) for name, value in entry.options.items()})


def _plain(value: Any) -> Any:
    """*value* for Dagster: a reference to an environment variable is resolved only when a run needs it."""
    if isinstance(value, EnvRef):
        return EnvVar(value.env)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
