"""Two deployments on one Dagster instance: neither takes the other's runs for its own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.remote_origin import RemoteJobOrigin

from export_pipeline.deployment import load_deployment
from export_pipeline.ledger import database
from export_pipeline.ledger.claims import at_work
from export_pipeline.ledger.database import Ledger
from export_pipeline.orchestration import instigators, underway
from export_pipeline.orchestration.names import EXECUTOR_TAG, LEDGER_IDENTITY_TAG, LEDGER_TAG
from export_pipeline.orchestration.schedule import reason_to_skip
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.integration.retrying import retry

pytestmark = pytest.mark.usefixtures("one_event_log")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)])
def neighbours(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Project, Project]:
    """Two projects whose deployment files have one name, with a ledger each, on the first one's Dagster instance."""
    found = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        found.append(Project(tmp_path / name))
    here, there = found
    there.home = here.home
    if request.param == "postgresql":
        here.config["ledger"] = {"url": request.getfixturevalue("new_postgres")}
    return here, there


def mark(ledger: Ledger) -> str:
    with ledger.read() as tx:
        return database.identity(tx)


@contextmanager
def started(
    instance: DagsterInstance, project: Project, *, location: str | None = None, marked: bool = True
) -> Iterator[DagsterRun]:
    """A run of the project's export_job that works, from this code location or from none."""
    origin = None
    if location is not None:
        origin = RemoteJobOrigin(instigators.repository_named(location), "export_job")
    with project.ledger() as ledger:
        tags = {LEDGER_TAG: "test", EXECUTOR_TAG: "in_process"}
        if marked:
            tags[LEDGER_IDENTITY_TAG] = mark(ledger)
        run = instance.create_run_for_job(
            project.job(), status=DagsterRunStatus.STARTED, tags=tags, remote_job_origin=origin
        )
        instance.report_engine_event("begun", run)
        with at_work(ledger.claims, run.run_id):
            yield run


def reason(project: Project, instance: DagsterInstance, location: str | None = None) -> str | None:
    """Why the project's schedule would skip a tick now."""
    export = load_deployment(str(project.deployment_path))
    with project.ledger() as ledger:
        return reason_to_skip(export, instance, ledger=lambda: ledger, location=location)


@pytest.mark.parametrize("location", [None, "there"])
def test_a_run_of_another_ledger_neither_delays_a_tick_nor_is_taken_for_lost(
    neighbours: tuple[Project, Project], location: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent run of a deployment with the same name, which uses its own ledger, is left alone."""
    monkeypatch.setattr(underway, "_SILENT_SECONDS", 0.0)
    here, there = neighbours
    with (
        DagsterInstance.from_config(str(here.home)) as instance,
        started(instance, there, location=location) as run,
    ):
        time.sleep(0.01)
        assert reason(here, instance) is None
        still = instance.get_run_by_id(run.run_id)
        assert still is not None
        assert still.status is DagsterRunStatus.STARTED
        assert reason(there, instance) == f"run {run.run_id[:8]} of export_job is still under way (started)"


def test_a_run_that_has_not_begun_belongs_to_its_code_location(neighbours: tuple[Project, Project]) -> None:
    """Until a run says which ledger it works with, its code location does; a schedule knows its own from its runs."""
    here, there = neighbours
    with DagsterInstance.from_config(str(here.home)) as instance:
        with started(instance, here, location="here") as earlier:
            pass
        instance.report_run_failed(earlier)
        with started(instance, there, location="there", marked=False):
            assert reason(here, instance) is None
            assert reason(there, instance, "there") is not None
        with started(instance, here, location="here", marked=False):
            assert reason(here, instance) is not None


def test_every_run_says_which_ledger_it_works_with(neighbours: tuple[Project, Project]) -> None:
    """Runs of both jobs have the identity of their ledger as a tag, which distinguishes neighbours on one instance."""
    found = []
    for project in neighbours:
        project.put_days("23")
        project.run()
        project.run("backfill_job", partition="2026-11-23")
        with project.ledger() as ledger, DagsterInstance.from_config(str(project.home)) as instance:
            found += [run.tags[LEDGER_IDENTITY_TAG] for run in instance.get_runs(limit=2)]
            assert set(found[-2:]) == {mark(ledger)}
    assert len(set(found)) == 2


def test_a_retry_takes_nothing_of_a_neighbour_out_of_a_shared_quarantine(neighbours: tuple[Project, Project]) -> None:
    """What another deployment keeps in the same quarantine stays there, until that one drives it again."""
    here, there = neighbours
    there.config["quarantine"] = here.config["quarantine"]
    there.put_bytes("2026/11/23/00/bad.gz", b"no event\n")
    there.run()
    here.run()
    kept = here.quarantined()
    assert kept
    found = retry(here)
    assert (found.stretches, found.of_others) == (0, 1)
    assert here.quarantined() == kept
    assert retry(there).stretches == 1
