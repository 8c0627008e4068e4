"""``ledger.keep_days``: old days are folded, and every promise holds as if they were not."""

import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from dagster import DagsterInstance
from sqlalchemy import func, select

from export_pipeline.ledger import owed, subscriptions
from export_pipeline.ledger import tables as t
from export_pipeline.orchestration.names import FILES, FOUND_TAG, LEDGER_IDENTITY_TAG, NOTHING
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project

pytestmark = pytest.mark.usefixtures("one_event_log")

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}
DWH = {"type": "python", "function": "export_pipeline_tests.integration.receivers:dwh", "retry_for_seconds": 0}
ALL = {"list_day_files": {"config": {"only": "all"}}}


def rows(project: Project) -> dict[str, int]:
    """How many rows the tables have that are folded, and that of what was folded."""
    with project.ledger() as ledger, ledger.read() as tx:
        return {
            table.name: tx.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (t.files, t.batches, t.acceptances, t.folded)
        }


def as_on_the_next_day(project: Project) -> None:
    """Old days are looked at once a day."""
    with project.ledger() as ledger, ledger.write() as tx:
        tx.execute(t.sources.update().values(folded_before=date(2026, 11, 1)))


@pytest.fixture
def folded(project: Project, ledger_url: str, received: Path) -> Project:
    """Two days that were delivered to crm in several batches a file, and are folded."""
    project.config["subscribers"] = {"crm": CRM}
    project.config["batch"] = {"max_events": 2}
    project.config["ledger"] = {"url": ledger_url, "keep_days": 1}
    project.put_days("21", "22")
    assert project.run().success
    assert rows(project) == {"files": 4, "batches": 6, "acceptances": 6, "folded": 0}
    as_on_the_next_day(project)
    run = project.run()
    assert "folded 2 manifests older than 1 day" in "\n".join(run.messages("info"))
    assert rows(project) == {"files": 0, "batches": 0, "acceptances": 0, "folded": 2}
    assert project.imbalances() == []
    return project


def test_a_folded_file_that_is_listed_again_is_known(folded: Project, received: Path) -> None:
    """After the cursor was lost all is listed again: what was folded is not delivered twice, what came late is."""
    before = receivers.calls("crm", received)
    late = folded.put("2026/11/21/00/000-late.gz", [{"late": True}])
    folded.set_cursor("2026/11/01/")
    assert folded.run().success
    assert receivers.calls("crm", received)[len(before) :] == [
        (receivers.calls("crm", received)[-1][0], late[0].decode() + "\n")
    ]
    folded.set_cursor("2026/11/01/")
    as_on_the_next_day(folded)
    assert folded.run().success
    assert len(receivers.calls("crm", received)) == len(before) + 1
    assert rows(folded)["folded"] == 3
    assert folded.imbalances() == []


@pytest.mark.parametrize("on_overwrite", ["read", "ignore"])
def test_a_folded_key_with_new_content_is_told_apart(folded: Project, received: Path, on_overwrite: str) -> None:
    """A folded key that comes with new content is what on_overwrite says: a new file with a warning, or none."""
    before = receivers.events("crm", received)
    folded.config["source"]["on_overwrite"] = on_overwrite
    new = folded.put("2026/11/21/00/000.gz", [{"new": "content"}])
    folded.set_cursor("2026/11/01/")
    run = folded.run()
    assert run.success
    assert receivers.events("crm", received) == [*before, *(new if on_overwrite == "read" else [])]
    assert "2026/11/21/00/000.gz" in "\n".join(run.messages("warning"))


def test_a_backfill_of_a_folded_day_gives_the_same_batches(folded: Project, received: Path) -> None:
    """`only: all` sends a folded day again with the same ids and bytes, and `only: missing` sends nothing of it."""
    before = receivers.calls("crm", received)
    assert folded.run("backfill_job", partition="2026-11-21").success
    assert receivers.calls("crm", received) == before
    assert folded.run("backfill_job", partition="2026-11-21", config=ALL).success
    assert receivers.calls("crm", received) == [*before, *before[:3]]
    assert rows(folded)["folded"] == 1
    assert folded.imbalances() == []


def test_a_subscriber_that_starts_at_the_beginning_gets_folded_days(folded: Project, received: Path) -> None:
    """A new subscriber with since: beginning gets what was folded, in the batches that the others got."""
    folded.config["subscribers"]["dwh"] = {**DWH, "since": "beginning"}
    assert folded.run().success
    assert receivers.calls("dwh", received) == receivers.calls("crm", received)
    assert folded.imbalances() == []


def test_a_folded_manifest_whose_file_is_gone_is_given_up_after_max_attempts(folded: Project, received: Path) -> None:
    """Where a replay needs a file that is no longer in the source, runs fail and say so, then what is owed is given up;
    what was delivered before stays delivered.
    """
    folded.config["max_attempts"] = 2
    (folded.bucket / "2026/11/21/00/001.gz").unlink()
    first = folded.run("backfill_job", partition="2026-11-21", config=ALL)
    assert not first.success
    (reason,) = first.failures.values()
    assert "1 of its 2 files, between 2026/11/21/00/000.gz and 2026/11/21/00/001.gz, are no longer in the" in reason
    assert folded.states("crm") == ["owed", "delivered"]
    with folded.ledger() as ledger, ledger.read() as tx:
        (waiting,) = owed.waiting(tx, 1, subscriptions.active(tx, 1))
    assert (waiting.files, waiting.oldest_arrival is None) == (2, False)
    lost = folded.run()
    assert not lost.success
    assert folded.states("crm") == ["given_up", "delivered"]
    assert folded.run().success
    assert folded.imbalances() == []


def test_what_is_owed_is_not_folded(project: Project, ledger_url: str, received: Path) -> None:
    """A day stays in full while a subscriber is owed any of it, and is folded once the last one has it."""
    project.config["subscribers"] = {"crm": CRM, "dwh": DWH}
    project.config["ledger"] = {"url": ledger_url, "keep_days": 1}
    (received / "dwh.fails").touch()
    project.put_days("21")
    assert not project.run().success
    assert not project.run().success
    assert rows(project)["folded"] == 0
    (received / "dwh.fails").unlink()
    assert project.run().success
    as_on_the_next_day(project)
    assert project.run().success
    assert rows(project) == {"files": 0, "batches": 0, "acceptances": 0, "folded": 1}


def test_old_runs_that_found_nothing_are_purged(project: Project, tmp_path: Path) -> None:
    """After `retention.runs_days` nothing is left in Dagster's storage of a run that found nothing, neither rows nor
    files; runs that delivered or failed stay, as do those of another deployment, and younger ones.
    """
    project.keep_what_is_printed()
    (tmp_path / "neighbour").mkdir()
    neighbour = Project(tmp_path / "neighbour")
    neighbour.home = project.home
    project.put_days("23")
    delivered, idle, another = project.run(), [project.run().run_id for _ in range(2)], neighbour.run()
    (project.root / "copy").rename(project.root / "away")
    (project.root / "copy").write_text("in the way")
    project.put_days("24")
    failed = project.run()
    assert not failed.success

    def left() -> set[str]:
        with DagsterInstance.from_config(str(project.home)) as instance:
            return {run.run_id for run in instance.get_runs()}

    assert left() == {delivered.run_id, *idle, another.run_id, failed.run_id}
    assert all(any(project.home.rglob(f"{run_id}*")) for run_id in idle)
    with closing(sqlite3.connect(project.home / "history" / "runs.db")) as connection, connection:
        connection.execute("UPDATE runs SET create_timestamp = datetime(create_timestamp, '-31 days')")
    assert not project.run().success  # it has work to do, and leaves old runs alone
    assert left() >= set(idle)
    (project.root / "copy").unlink()
    (project.root / "away").rename(project.root / "copy")
    assert project.run().success
    assert project.run().success
    assert left() >= {delivered.run_id, another.run_id, failed.run_id}
    assert left() & set(idle) == set()
    assert [path for run_id in idle for path in project.home.rglob(f"{run_id}*")] == []
    neighbour.config["retention"] = {"runs_days": None}
    neighbour.run()
    assert another.run_id in left()
    del neighbour.config["retention"]
    neighbour.run()
    assert another.run_id not in left()


def test_a_run_that_is_executed_again_says_itself_what_it_found(project: Project) -> None:
    """A run that repeats one which found nothing, and finds files, is none that is purged, though it has its tags."""
    project.run()
    with DagsterInstance.from_config(str(project.home)) as instance:
        tags = dict(instance.get_runs(limit=1)[0].tags)
        assert tags[FOUND_TAG] == NOTHING
        project.put_days("23")
        assert project.run(tags={**tags, LEDGER_IDENTITY_TAG: "of another ledger"}).success
        found = instance.get_runs(limit=1)[0].tags
    assert found[FOUND_TAG] == FILES
    assert found[LEDGER_IDENTITY_TAG] == tags[LEDGER_IDENTITY_TAG]
