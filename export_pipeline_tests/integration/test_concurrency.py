"""Two runs at the same moment on one ledger."""

from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus

from export_pipeline.deployment import load_deployment
from export_pipeline.ledger import owed
from export_pipeline.orchestration.names import LEDGER_TAG
from export_pipeline.steps.deliver import Delivered, NothingToDo, deliver
from export_pipeline.steps.open import open_subscriber
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.owing import all_owed
from export_pipeline_tests.integration.project import EXECUTE_JOB, Project


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)])
def test_two_runs_at_once_deliver_every_batch_once(
    project: Project, received: Path, database: str, request: pytest.FixtureRequest
) -> None:
    """Two `dagster job execute` at the same moment: no batch is delivered twice, none is lost."""
    if database == "postgresql":
        project.config["ledger"] = {"url": request.getfixturevalue("new_postgres")}
    project.config["batch"] = {"max_events": 2}
    project.config["manifest"] = {"max_files": 2}
    project.config["subscribers"] = {
        "crm": {"type": "python", "function": "export_pipeline_tests.integration.receivers:slow"}
    }
    lines = project.put_days("22", "23", files=4)
    # Dagster's own storage must be there: two processes that make its tables at the same moment hinder each other.
    with DagsterInstance.from_config(str(project.home)) as instance:
        assert instance.get_runs() == []
    both = [project.start(*EXECUTE_JOB) for _ in range(2)]
    printed = [process.communicate(timeout=240)[0].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    # Whoever came second may have left what the first still had in hand; it was that one's to finish.
    assert sorted(receivers.events("crm", received)) == sorted(lines)
    ids = [batch_id for batch_id, _ in receivers.calls("crm", received)]
    assert sorted(ids) == sorted(set(ids)) == sorted(project.batch_ids())
    assert project.imbalances() == []


def test_a_run_leaves_alone_what_another_has_staged(project: Project) -> None:
    """What a run under way has in hand stays in staging beside another run, and is swept once that one is over."""
    with all_owed(project, files=2) as (place, active, (_, other)):
        place.staging.put(other.id, 0, b"{}\n")
        with DagsterInstance.from_config(str(project.home)) as instance:
            run = instance.create_run_for_job(project.job(), status=DagsterRunStatus.STARTED, tags={LEDGER_TAG: "test"})
            with place.ledger.write() as tx:
                owed.assign(tx, [other], active, run.run_id)
            only_one = {"list_new_files": {"config": {"max_files": 1}}}
            project.run(config=only_one)
            assert other.id in place.staging.manifests()
            instance.report_run_canceled(run)
            project.run(config=only_one)
            assert other.id not in place.staging.manifests()


def test_nothing_stays_staged_of_what_another_run_has_delivered(project: Project) -> None:
    """A run that stages a manifest again, while another delivers the last of it, deletes it again."""
    with all_owed(project, files=1) as (place, (subscription,), (manifest,)):
        (project.root / "copy").unlink()
        with open_subscriber(load_deployment(str(project.deployment_path)).subscribers["copy"]) as copy:
            assert isinstance(deliver(place, manifest.id, subscription, copy, run_id="first"), Delivered)
            assert deliver(place, manifest.id, subscription, copy, run_id="second") == NothingToDo(
                "it is already delivered"
            )
    assert project.staged() == []


def test_a_destination_that_lets_one_in_at_a_time(project: Project, received: Path) -> None:
    """While another process with this ledger holds the lock, a batch stays owed; the next run delivers it."""
    kind = "export_pipeline_tests.integration.receivers:Narrow"
    project.config["subscribers"] = {"narrow": {"type": kind, "retry_for_seconds": 0}}
    lines = project.put_days("23")
    assert project.run().success
    assert receivers.events("narrow", received) == lines
    more = project.put_days("24")
    with project.ledger() as ledger, ledger.claims.claim("place:narrow") as mine:
        assert mine
        (reason,) = project.run().failures.values()
    assert "narrow: another worker still writes there after 0 s" in reason
    assert receivers.events("narrow", received) == lines
    assert project.run().success
    assert receivers.events("narrow", received) == lines + more
