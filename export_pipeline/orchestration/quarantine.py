"""The quarantine in Dagster: an asset with the records of each day, and jobs that retry and dismiss them."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from dagster import (
    Array,
    AssetMaterialization,
    AssetSpec,
    ConfigurableResource,
    DailyPartitionsDefinition,
    Failure,
    Field,
    JobDefinition,
    MetadataValue,
    OpDefinition,
    OpExecutionContext,
    TableColumn,
    TableMetadataValue,
    TableRecord,
    TableSchema,
    graph,
    in_process_executor,
    op,
)
from sqlalchemy import Connection

from export_pipeline.configuration.names import Names
from export_pipeline.deployment import Deployment
from export_pipeline.ledger import manifests, quarantined, sources
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.quarantined import Entry
from export_pipeline.orchestration.guard import failures_logged
from export_pipeline.orchestration.resources import Places, place_keys
from export_pipeline.printable import printable
from export_pipeline.quantities import counted
from export_pipeline.steps.open import Workspace, workspace_of
from export_pipeline.steps.quarantine import dismiss, waiting_names
from export_pipeline.steps.retry import retried_by, retry_quarantined

RETRY_JOB, DISMISS_JOB = "retry_quarantine", "dismiss_quarantine"
# Dagster wants another name for the op than for its job.
RETRY_OP, DISMISS_OP = "retry_records", "dismiss_records"
NEWEST = 50
"""Maximum number of rows in the table of an entry."""
_DESCRIPTION = """What could not be delivered, by day: malformed records, events that a subscriber refused, and files \
that could not be read. An entry appears when something is quarantined, retried, dismissed or resolved.

- `kept`: records that wait for someone; `retried`, `dismissed` and `resolved` no longer do
- `newest`: the {newest} entries that were quarantined last, by file; their `id` is what the jobs `{retry}` and \
`{dismiss}` take

`export-pipeline quarantine show ID` shows the bytes. They are not shown here: they can contain personal data.
"""
_TABLE = TableSchema(
    columns=[
        TableColumn("id", "string", description="For the jobs, and for export-pipeline quarantine."),
        TableColumn("state", "string", description="kept, retried, dismissed or resolved."),
        TableColumn("reason", "string", description="Of the first record."),
        TableColumn("file", "string", description="Key in the source."),
        TableColumn("offset", "int", description="Of the first record: byte in the file, or event in the batch."),
        TableColumn("records", "int"),
        TableColumn("subscriber", "string", description="Which one refused it."),
        TableColumn("since", "string", description="When it was quarantined, in UTC."),
        TableColumn("changed", "string", description="By whom, and why, it no longer waits."),
    ]
)
_IDS = Field(
    Array(str), default_value=[], description="Entries, as the table of the asset `quarantine` names them: its ids."
)
_DAY = Field(str, default_value="", description="Instead of ids: everything that waits of this day, YYYY-MM-DD.")


def quarantine_asset(deployment: Deployment, partitions: DailyPartitionsDefinition) -> AssetSpec:
    """The asset ``quarantine``."""
    names = deployment.names
    return AssetSpec(
        names.quarantine,
        deps=[names.raw_events],
        description=_DESCRIPTION.format(
            newest=NEWEST, retry=names.prefixed(RETRY_JOB), dismiss=names.prefixed(DISMISS_JOB)
        ),
        partitions_def=partitions,
        group_name=names.prefixed("export"),
        owners=deployment.owners,
        kinds={"json"},
    )


def quarantine_of_day(tx: Connection, names: Names, source_id: int, day: date) -> AssetMaterialization:
    """The records of a day, now."""
    newest = quarantined.entries(tx, source_id, day=day, newest=NEWEST)
    return AssetMaterialization(
        asset_key=names.quarantine,
        partition=day.isoformat(),
        metadata={**quarantined.counts(tx, source_id, day=day), "newest": _table(newest)},
    )


def show_quarantine(context: OpExecutionContext, names: Names, ledger: Ledger, manifest_id: str) -> None:
    """Materialize what the quarantine has of a manifest's day now."""
    with ledger.read() as tx:
        manifest = manifests.get(tx, manifest_id)
        shown = quarantine_of_day(tx, names, manifest.source_id, manifest.day)
    context.log_event(shown)


def _table(entries: Iterable[Entry]) -> TableMetadataValue:
    rows = [
        TableRecord(
            {
                "id": one.name,
                "state": one.state,
                "file": printable(one.key),
                "offset": one.offset,
                "records": one.records,
                "subscriber": one.subscriber,
                "reason": printable(one.reason),
                "since": f"{one.kept_at:%Y-%m-%d %H:%M:%S}",
                "changed": printable(f"{one.changed_by}: {one.why}") if one.changed_by else "",
            }
        )
        for one in entries
    ]
    return MetadataValue.table(rows, schema=_TABLE)


def quarantine_jobs(deployment: Deployment, resources: dict[str, ConfigurableResource[None]]) -> list[JobDefinition]:
    """The jobs ``retry_quarantine`` and ``dismiss_quarantine``.

    Args:
        resources: all that their ops require.
    """
    return [
        _job(
            deployment,
            RETRY_JOB,
            _retry_op(deployment),
            resources,
            config={"ids": []},
            description="Retry quarantined records, after their cause was fixed: the next run of "
            f"`{deployment.names.export_job}` reads and delivers them, and what fails again returns.",
        ),
        _job(
            deployment,
            DISMISS_JOB,
            _dismiss_op(deployment),
            resources,
            config={"ids": [], "why": ""},
            description="Dismiss quarantined records: they stay where they are, with who dismissed them and why, and "
            "no longer need attention.",
        ),
    ]


def _job(
    deployment: Deployment,
    name: str,
    definition: OpDefinition,
    resources: dict[str, ConfigurableResource[None]],
    *,
    config: dict[str, Any],
    description: str,
) -> JobDefinition:
    @graph(name=deployment.names.prefixed(name), description=description)
    def of_quarantine() -> None:
        definition()

    needed = place_keys(deployment.names)
    return of_quarantine.to_job(
        executor_def=in_process_executor,
        resource_defs={name: resource for name, resource in resources.items() if name in needed},
        config={"ops": {definition.name: {"config": config}}},
    )


def _retry_op(deployment: Deployment) -> OpDefinition:
    @op(
        name=deployment.names.prefixed(RETRY_OP),
        required_resource_keys=place_keys(deployment.names),
        config_schema={"ids": _IDS, "day": _DAY},
        description="Plan the chosen records again.",
    )
    def retry(context: OpExecutionContext) -> None:
        with failures_logged(context, deployment.secret_values()):
            place = _workspace(context, deployment)
            names = _chosen(context, place)
            done = retry_quarantined(place, names, run=retried_by(f"run {context.run_id}"))
            for sentence in done.sentences():
                context.log.info(sentence)
            _show(context, deployment, place, names)

    return retry


def _dismiss_op(deployment: Deployment) -> OpDefinition:
    @op(
        name=deployment.names.prefixed(DISMISS_OP),
        required_resource_keys=place_keys(deployment.names),
        config_schema={
            "ids": _IDS,
            "day": _DAY,
            "why": Field(str, description="The reason, which is kept with the records."),
            "by": Field(str, default_value="", description="Who decides. By default the id of this run."),
        },
        description="Record that no one will deliver the chosen records.",
    )
    def dismiss_them(context: OpExecutionContext) -> None:
        with failures_logged(context, deployment.secret_values()):
            why = context.op_config["why"].strip()
            if not why:
                raise Failure("why: found an empty text; allowed: the reason, in words", allow_retries=False)
            place = _workspace(context, deployment)
            names = _chosen(context, place)
            by = context.op_config["by"].strip() or f"run {context.run_id}"
            dismissed = dismiss(place, names, by=by, why=why)
            context.log.info(f"dismissed {counted(dismissed, 'record')}")
            _show(context, deployment, place, names)

    return dismiss_them


def _chosen(context: OpExecutionContext, place: Workspace) -> list[str]:
    """The objects of the chosen entries.

    Raises:
        ConfigurationError: none is chosen, or one does not wait.
    """
    return waiting_names(place, context.op_config["ids"], day=context.op_config["day"] or None)


def _show(context: OpExecutionContext, deployment: Deployment, place: Workspace, names: Iterable[str]) -> None:
    with place.ledger.read() as tx:
        source_id = sources.source_id(tx, place.source.url)
        if source_id is None:
            return
        shown = [
            quarantine_of_day(tx, deployment.names, source_id, day)
            for day in sorted({date.fromisoformat(name.partition("/")[0]) for name in names})
        ]
    for one in shown:
        context.log_event(one)


def _workspace(context: OpExecutionContext, deployment: Deployment) -> Workspace:
    places = Places(context.resources, deployment.names)
    return workspace_of(
        deployment,
        source=places.source.open(),
        ledger=places.ledger.open(),
        staging=places.staging.open(),
        quarantine=places.quarantine.open(),
    )
