"""The last op of both jobs: turns the run red where a file could not be read, while all others are delivered."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from dagster import Failure, In, MetadataValue, Nothing, OpDefinition, OpExecutionContext, TableRecord, op

from export_pipeline.ledger import subscriptions
from export_pipeline.ledger.unreadable import UnreadableFile, unreadable
from export_pipeline.orchestration import reporting, wording
from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.guard import failures_without_secrets
from export_pipeline.orchestration.mapping import day_of, run_ids
from export_pipeline.orchestration.materialisations import SHOWN_FILES
from export_pipeline.orchestration.places import LEDGER, SOURCE, Places, place_keys
from export_pipeline.printable import printable


def report_unreadable_op(export: Export) -> OpDefinition:
    """One op for all manifests of a run: one for each would be skipped, with a line in the log, where all is well."""

    @op(
        name=export.names.prefixed("report_unreadable_files"),
        ins={"read": In(Nothing)},
        required_resource_keys=place_keys(export.names, [SOURCE, LEDGER]),
        description="Fails, so that somebody looks, where files could not be read: which, why, and what happens next.",
    )
    def report_unreadable_files(context: OpExecutionContext) -> None:
        reporting.run_ends(context)
        days = _days(context)
        if not days:
            return  # no manifest, no file
        places = Places(context.resources, export.names)
        with failures_without_secrets(export.secrets), places.ledger.open().read() as tx:
            number = subscriptions.source_id(tx, places.source.open().url)
            found = unreadable(tx, number, days, run_ids(context)) if number is not None else []
        if found:
            raise Failure(
                wording.unreadable_files(found), metadata=_details(found, export.max_attempts), allow_retries=False
            )
        context.log.info(wording.ALL_READ)

    return report_unreadable_files


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
