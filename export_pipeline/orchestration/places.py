"""The pipeline's own resources as ops and sensors reach them, whatever prefix their names have."""

from collections.abc import Iterable
from typing import Any

from export_pipeline.orchestration.names import Names
from export_pipeline.orchestration.resources import (
    LedgerResource,
    QuarantineResource,
    SourceResource,
    StagingResource,
)

SOURCE, LEDGER, STAGING, QUARANTINE = "source", "ledger", "staging", "quarantine"
ALL = (SOURCE, LEDGER, STAGING, QUARANTINE)


def place_keys(names: Names, wanted: Iterable[str] = ALL) -> set[str]:
    """What an op has to require to find the places it wants."""
    return {names.prefixed(name) for name in wanted}


class Places:
    """The four places of one export, out of ``context.resources``; each is there where it was required.

    A resource's name depends on the export's prefix, so no parameter of an op can ask for it by name and type.
    """

    def __init__(self, resources: Any, names: Names) -> None:
        self._resources = resources
        self._names = names

    @property
    def source(self) -> SourceResource:
        """Where raw files land."""
        return self._get(SOURCE)  # type: ignore[no-any-return]

    @property
    def ledger(self) -> LedgerResource:
        """The database of what has been seen, planned and delivered."""
        return self._get(LEDGER)  # type: ignore[no-any-return]

    @property
    def staging(self) -> StagingResource:
        """Where a manifest's batches lie between reading and delivering."""
        return self._get(STAGING)  # type: ignore[no-any-return]

    @property
    def quarantine(self) -> QuarantineResource:
        """Where what cannot be delivered is kept."""
        return self._get(QUARANTINE)  # type: ignore[no-any-return]

    def _get(self, name: str) -> Any:
        return getattr(self._resources, self._names.prefixed(name))
