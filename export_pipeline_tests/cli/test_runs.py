"""``export-pipeline run`` and ``replay``."""

from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import select

from export_pipeline.cli.replay import days_between
from export_pipeline.ledger import subscriptions
from export_pipeline.ledger import tables as t
from export_pipeline_tests.cli.conftest import CommandLine
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project

pytestmark = pytest.mark.usefixtures("one_event_log")

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}
DWH = {"type": "python", "function": "export_pipeline_tests.integration.receivers:dwh", "retry_for_seconds": 0}


@pytest.fixture
def two(project: Project, received: Path) -> Project:
    project.config["subscribers"] = {"crm": CRM, "dwh": DWH}
    return project


def test_a_run_is_the_export_jobs(two: Project, cli: CommandLine, received: Path) -> None:
    """`run` lists, reads and delivers, moves the cursor, leaves a run in Dagster, and says what each subscriber got."""
    lines = two.put_days("22", "23")
    done = cli("run")
    assert done.code == 0
    assert receivers.events("crm", received) == receivers.events("dwh", received) == lines
    assert two.cursor() == "2026/11/23/00/001.gz"
    report = done.out.splitlines()
    assert report[0].startswith("run ")
    assert " succeeded in " in report[0]
    assert [line.split("(")[0].split() for line in report[1:]] == [
        ["crm", "4", "files,", "12", "events"],
        ["dwh", "4", "files,", "12", "events"],
    ]
    assert "found 4 new files, planned as 2 manifests" in done.err
    assert "Skipping step" not in done.err
    done = cli("run", "--json")
    assert done.code == 0
    assert done.json()["subscribers"] == {}
    assert receivers.events("crm", received) == lines


def test_a_failed_run_is_an_exit_code(two: Project, cli: CommandLine, received: Path) -> None:
    """If a subscriber fails, the exit code is 1, its failure is reported once, and the other one gets everything."""
    lines = two.put_days("21", "22", "23")
    (received / "crm.fails").touch()
    done = cli("run")
    assert done.code == 1
    assert done.err.count("503: down for maintenance") == 1
    assert " FAILED in " in done.out
    assert "0 of 6 files, 0 events (0 bytes as stored)" in done.out
    assert receivers.events("dwh", received) == lines
    (received / "crm.fails").unlink()
    assert cli("run").code == 0
    assert receivers.events("crm", received) == lines


def test_max_files_of_one_run(two: Project, cli: CommandLine, received: Path) -> None:
    """`--max-files` holds for this run only."""
    lines = two.put_days("23", files=5)
    assert cli("run", "--max-files", "2").code == 0
    assert receivers.events("crm", received) == lines[:6]
    assert cli("run").code == 0
    assert receivers.events("crm", received) == lines
    assert cli("run", "--max-files", "0").code == 2


def test_a_replay_of_what_is_missing_and_of_all(two: Project, cli: CommandLine, received: Path) -> None:
    """`replay` delivers days to chosen subscribers: what they never received, or everything again under the same batch
    ids.
    """
    two.config["subscribers"] = {"crm": CRM}
    lines = two.put_days("21", "22", "23")
    two.run()
    two.config["subscribers"] = {"crm": CRM, "dwh": DWH}
    done = cli("replay", "2026-11-21", "2026-11-22")
    assert done.code == 0
    assert done.out.splitlines()[0] == "2 days replayed"
    assert receivers.events("dwh", received) == lines[:12]
    assert receivers.events("crm", received) == lines
    first = receivers.calls("crm", received)
    done = cli("replay", "2026-11-21", "2026-11-22", "--only", "all", "--subscriber", "crm", "--json")
    assert done.code == 0
    assert {day: list(outcome["subscribers"]) for day, outcome in done.json().items()} == {
        "2026-11-21": ["crm"],
        "2026-11-22": ["crm"],
    }
    assert receivers.calls("crm", received) == [*first, *first[:2]]
    assert receivers.events("dwh", received) == lines[:12]
    assert cli("replay", "2026-11-05").out == "1 day replayed; nothing was owed\n"
    assert two.imbalances() == []


def test_a_replay_beside_a_delivery_under_way_is_not_called_replayed(
    two: Project, cli: CommandLine, received: Path
) -> None:
    """A day that another run is delivering is reported as still owed, with exit code 1; the next run delivers it."""
    two.put_days("21")
    two.run()
    first = receivers.calls("crm", received)
    with two.ledger() as ledger:
        with ledger.read() as tx:
            (crm,) = [one for one in subscriptions.active(tx, 1) if one.name == "crm"]
            manifest = tx.execute(select(t.manifests.c.id)).scalar_one()
        with ledger.claims.claim(f"deliver:{manifest}:{crm.id}") as mine:
            assert mine
            done = cli("replay", "2026-11-21", "--only", "all")
    assert done.code == 1
    assert done.out.splitlines()[0] == "0 of 1 day replayed, 1 partly"
    assert done.out.splitlines()[-1] == (
        "2026-11-21: crm is still owed 2 files. The next run of the export delivers them."
    )
    assert len(receivers.calls("dwh", received)) == 2
    assert receivers.calls("crm", received) == first
    assert two.run().success
    assert receivers.calls("crm", received) == first * 2


def test_a_replay_stops_at_the_first_day_that_fails(two: Project, cli: CommandLine, received: Path) -> None:
    """After a day that failed the replay ends with 1 and says what is left; --keep-going tries the others."""
    two.config["start_from"] = "2026-11-23"
    lines = two.put_days("10", "11", "12")
    (received / "crm.fails").touch()
    done = cli("replay", "2026-11-10", "2026-11-12")
    assert done.code == 1
    assert "1 day FAILED" in done.out
    assert "failed: 2026-11-10; not started: 2026-11-11 to 2026-11-12" in done.out
    assert receivers.events("dwh", received) == lines[:6]
    done = cli("replay", "2026-11-10", "2026-11-12", "--keep-going")
    assert done.code == 1
    assert "failed: 2026-11-10, 2026-11-11, 2026-11-12. The next run" in done.out
    assert receivers.events("dwh", received) == lines
    (received / "crm.fails").unlink()
    assert cli("run").code == 0
    assert receivers.events("crm", received) == lines


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["2026-11-31"], "found '2026-11-31'; allowed: a date, YYYY-MM-DD"),
        (["2026-11-02", "2026-11-01"], "allowed: days from 2020-01-01 (source.start_date) to "),
        (["2019-12-31"], "allowed: days from 2020-01-01 (source.start_date) to "),
        (["2999-01-01"], "(today, UTC), the earlier one first"),
        (["2026-11-01", "-s", "crmm"], "--subscriber: found crmm; allowed: crm, dwh"),
        (["2026-11-01", "--only", "some"], "Invalid value for '--only'"),
    ],
)
def test_what_cannot_be_replayed(two: Project, cli: CommandLine, arguments: list[str], text: str) -> None:
    """A wrong day, order or subscriber is wrong usage, and starts no run."""
    done = cli("replay", *arguments)
    assert done.code == 2
    assert text in done.err
    assert not (two.root / "ledger.db").exists()


def test_days_between_includes_both_ends() -> None:
    """A range of days has its first and its last day in it, across months."""
    days = days_between("2024-02-28", "2024-03-01", earliest=date(2024, 2, 28), latest=date(2024, 3, 1))
    assert [day.isoformat() for day in days] == ["2024-02-28", "2024-02-29", "2024-03-01"]


def test_a_prefix_of_the_deployment(two: Project, cli: CommandLine, received: Path) -> None:
    """With `prefix` in the deployment file the commands run the jobs, and find the cursor, that Dagster knows by it."""
    two.config["prefix"] = "web"
    lines = two.put_days("22", "23")
    done = cli("run")
    assert done.code == 0, done.err
    assert receivers.events("crm", received) == lines
    two.put("2026/01/01/late.gz", [{"n": 1}])
    late = cli("why", "2026/01/01/late.gz", "--json").json()
    assert late["answers"][0]["code"] == "before_next_listing"
    assert cli("replay", "2026-11-22", "--only", "all", "--subscriber", "dwh").code == 0
    assert len(receivers.events("dwh", received)) == len(lines) + 6
