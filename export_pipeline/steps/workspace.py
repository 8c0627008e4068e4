"""What reading and delivering work with."""

import math
from dataclasses import dataclass

from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.batching.staging import Staging
from export_pipeline.ledger.database import Ledger
from export_pipeline.source.limits import ReadLimits
from export_pipeline.source.store import Source
from export_pipeline.steps.stopping import Stop, never


@dataclass(frozen=True, slots=True)
class Workspace:
    """The open places of one export, and what a file may cost.

    Attributes:
        max_attempts: how many runs try an unreadable file before it is quarantined as a whole.
        secrets: values that must appear in no reason, log or ledger.
        stop: why a reading under way must end, once it has had *reading_seconds*.
        reading_seconds: how long a reading may take in any case, also where the run's time is over before.
    """

    source: Source
    ledger: Ledger
    staging: Staging
    quarantine: Quarantine
    limits: ReadLimits
    max_attempts: int
    secrets: frozenset[str] = frozenset()
    stop: Stop = never
    reading_seconds: float = math.inf
