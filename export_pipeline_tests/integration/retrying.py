"""Retry everything in the quarantine, without the command."""

from export_pipeline.ledger.database import utc_now
from export_pipeline.ledger.records import Run
from export_pipeline.steps.retry import Retried, retry_quarantined
from export_pipeline_tests.integration.project import Project


def retry(project: Project) -> Retried:
    """What will be retried."""
    with project.workspace() as place:
        names = list(dict.fromkeys(name for name, _ in place.quarantine.records()))
        return retry_quarantined(place, names, run=Run("by hand", utc_now()))
