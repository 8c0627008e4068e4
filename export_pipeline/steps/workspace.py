"""What reading and delivering work with."""

from dataclasses import dataclass

from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.batching.staging import Staging
from export_pipeline.ledger.database import Ledger
from export_pipeline.source.limits import ReadLimits
from export_pipeline.source.store import Source


@dataclass(frozen=True, slots=True)
class Workspace:
    """The open places of one export, and what a file may cost.

    Attributes:
        max_attempts: how many runs try an unreadable file before it is quarantined as a whole.
        secrets: values that must appear in no reason, log or ledger.
    """

    source: Source
    ledger: Ledger
    staging: Staging
    quarantine: Quarantine
    limits: ReadLimits
    max_attempts: int
    secrets: frozenset[str] = frozenset()
