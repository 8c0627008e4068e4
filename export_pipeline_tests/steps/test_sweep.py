"""Staging is swept of what nobody delivers now."""

from pathlib import Path

from export_pipeline.ledger import owed, subscriptions
from export_pipeline.steps.sweep import sweep_staging
from export_pipeline_tests.integration.project import Project


def test_what_another_run_delivers_stays(tmp_path: Path) -> None:
    """A staged manifest goes where no run has it in hand, and stays where this one or another that is under way has."""
    project = Project(tmp_path)
    project.config["manifest"] = {"max_files": 1}
    project.put_days("23", files=3)
    (project.root / "copy").write_text("in the way, so that all stays owed")
    project.run()
    with project.workspace() as place:
        with place.ledger.read() as tx:
            number = subscriptions.source_id(tx, place.source.url)
            assert number is not None
            active = subscriptions.active(tx, number)
            chosen = owed.choose(tx, active, max_files=10, max_retries=1)
        mine, other, nobodys = chosen
        for manifest in chosen:
            place.staging.put(manifest.id, 0, b"{}\n")
        with place.ledger.write() as tx:
            owed.assign(tx, [mine], active, "run-1")
            owed.assign(tx, [other], active, "run-2")
            owed.assign(tx, [nobodys], active, "run-that-is-over")
        assert sweep_staging(place.staging, place.ledger, keep={mine.id}, runs=["run-2"]) == [nobodys.id]
        assert set(place.staging.manifests()) == {mine.id, other.id}
