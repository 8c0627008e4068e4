"""The last op of both jobs: turns the run red where a file could not be read, while all others are delivered."""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from dagster import (
    DagsterEventType,
    DagsterInstance,
    EventLogRecord,
    Failure,
    In,
    MetadataValue,
    Nothing,
    OpDefinition,
    OpExecutionContext,
    TableRecord,
    op,
)

from export_pipeline.ledger import owed, subscriptions
from export_pipeline.ledger.unreadable import UnreadableFile, unreadable
from export_pipeline.orchestration import reporting, wording
from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.guard import NEXT, failures_without_secrets
from export_pipeline.orchestration.mapping import day_of, run_ids
from export_pipeline.orchestration.materialisations import SHOWN_FILES
from export_pipeline.orchestration.places import LEDGER, SOURCE, Places, place_keys
from export_pipeline.printable import printable

_RECORDS_AT_ONCE = 1_000


def report_unreadable_op(export: Export) -> OpDefinition:
    """One op for all manifests of a run: one for each would be skipped, with a line in the log, where all is well."""

    @op(
        name=export.names.prefixed("report_unreadable_files"),
        ins={"read": In(Nothing)},
        required_resource_keys=place_keys(export.names, [SOURCE, LEDGER]),
        description="Fails, so that somebody looks, where files could not be read, or were left out by a re-execution: "
        "which, why, and what happens next.",
    )
    def report_unreadable_files(context: OpExecutionContext) -> None:
        reporting.run_ends(context)
        places = Places(context.resources, export.names)
        if left := _never_read(context, export, places):
            raise Failure(
                wording.never_read(left),
                metadata={"manifests": len(left), NEXT: wording.NEVER_READ_NEXT},
                allow_retries=False,
            )
        days = _days(context)
        if not days:
            return  # no manifest, no file
        with failures_without_secrets(export.secrets), places.ledger.open().read() as tx:
            number = subscriptions.source_id(tx, places.source.open().url)
            found = unreadable(tx, number, days, run_ids(context)) if number is not None else []
        if found:
            raise Failure(
                wording.unreadable_files(found), metadata=_details(found, export.max_attempts), allow_retries=False
            )
        context.log.info(wording.ALL_READ)

    return report_unreadable_files


def _never_read(context: OpExecutionContext, export: Export, places: Places) -> list[str]:
    """Manifests that a run took which this one executes again, and that no read_batches has come to in either.

    Of a run that was killed Dagster repeats "from failure" the steps that had begun, and those of other ops. The steps
    of the manifests whose turn had not come it leaves out, and calls the run a success.
    """
    if context.run.parent_run_id is None:
        return []
    runs = run_ids(context)
    with failures_without_secrets(export.secrets), places.ledger.open().read() as tx:
        taken = owed.assigned_manifests(tx, runs)
    if not taken:
        return []
    read = export.names.prefixed("read_batches")
    steps = {record.event_log_entry.step_key or "" for run in runs for record in _step_ends(context.instance, run)}
    seen = {key.rpartition("_")[2].rstrip("]") for key in steps if key.partition("[")[0] == read}
    return [manifest for manifest in taken if manifest not in seen]


def _step_ends(instance: DagsterInstance, run_id: str) -> Iterator[EventLogRecord]:
    cursor = None
    while True:
        found = instance.get_records_for_run(
            run_id, of_type=DagsterEventType.STEP_SUCCESS, cursor=cursor, limit=_RECORDS_AT_ONCE
        )
        yield from found.records
        if not found.has_more:
            return
        cursor = found.cursor


def _days(context: OpExecutionContext) -> set[date]:
    """The days of the manifests that came before, which only the steps' own keys tell."""
    (read,) = context.get_step_execution_context().step.step_inputs
    return {day_of(handle.step_key) for handle in read.get_step_output_handle_dependencies()}


def _details(found: Sequence[UnreadableFile], max_attempts: int) -> dict[str, Any]:
    rows = [
        TableRecord(
            {
                "file": printable(file.key),
                "reason": printable(file.reason),
                "what happens next": wording.fate_of_unreadable(file, max_attempts),
            }
        )
        for file in found[:SHOWN_FILES]
    ]
    return {"files": len(found), "unreadable": MetadataValue.table(rows)}
