"""Staging is swept of what nobody delivers now."""

from pathlib import Path

from export_pipeline.ledger import owed
from export_pipeline.steps.retention import sweep_staging
from export_pipeline_tests.integration.owing import all_owed
from export_pipeline_tests.integration.project import Project


def test_what_another_run_delivers_stays(tmp_path: Path) -> None:
    """A staged manifest goes where no run has it in hand, and stays where this one or another that is under way has."""
    with all_owed(Project(tmp_path), files=3) as (place, active, chosen):
        mine, other, nobodys = chosen
        for manifest in chosen:
            place.staging.put(manifest.id, 0, b"{}\n")
        with place.ledger.write() as tx:
            owed.assign(tx, [mine], active, "run-1")
            owed.assign(tx, [other], active, "run-2")
            owed.assign(tx, [nobodys], active, "run-that-is-over")
        assert sweep_staging(place.staging, place.ledger, keep={mine.id}, runs=["run-2"]) == [nobodys.id]
        assert set(place.staging.manifests()) == {mine.id, other.id}
