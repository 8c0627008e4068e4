"""Each run of the export folds a piece of the ledger's old days."""

from dagster import OpExecutionContext

from export_pipeline.ledger.database import utc_now
from export_pipeline.orchestration import wording
from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.places import Places
from export_pipeline.steps import retention


def fold_old_days(context: OpExecutionContext, places: Places, export: Export) -> None:
    """Fold what ``ledger.keep_days`` allows, and say so where anything was."""
    if export.keep_days is None:
        return
    folded = retention.fold_old_days(
        places.source.open(), places.ledger.open(), keep_days=export.keep_days, now=utc_now()
    )
    if folded:
        context.log.info(wording.folded(folded, export.keep_days))
