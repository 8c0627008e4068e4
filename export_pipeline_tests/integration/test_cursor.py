"""The cursor of the sensor ``new_files``: seen, edited, and obeyed where it makes a listing longer."""

from datetime import datetime, timezone
from pathlib import Path

import pytest

from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}
WORKSPACE = """
load_from:
  - python_module:
      module_name: export_pipeline.definitions
      location_name: export_pipeline
"""


@pytest.mark.thorough
def test_the_command_line_reads_and_sets_the_cursor(project: Project, received: Path) -> None:
    """`dagster sensor cursor new_files --set <day>` lists again from that day, once; --delete changes nothing."""
    (project.root / "workspace.yaml").write_text(WORKSPACE)
    project.config["subscribers"] = {"crm": CRM}
    project.config["lookback_hours"] = 0
    lines = project.put_days("20", "23")
    project.run()
    assert receivers.events("crm", received) == lines
    late = project.put("2026/11/20/01/late.gz", [{"late": 1}])
    project.run()
    code, printed = project.command("sensor", "cursor", "new_files", "--set", "2026/11/20")
    assert code == 0, printed
    assert project.cursor() == "2026/11/20"
    project.run()
    assert receivers.events("crm", received) == [*lines, *late]
    assert project.cursor() == "2026/11/23/00/001.gz"
    code, printed = project.command("sensor", "cursor", "new_files", "--delete")
    assert code == 0, printed
    assert project.cursor() == ""
    project.run()
    assert receivers.events("crm", received) == [*lines, *late]
    assert project.cursor() == "2026/11/23/00/001.gz"


def test_a_cursor_set_before_the_first_run_hides_no_history(project: Project, received: Path) -> None:
    """What another deployment of the folder left in the cursor is ignored, with one warning that says what to set."""
    project.config["subscribers"] = {"crm": CRM}
    lines = project.put_days("01", "10", "23")
    project.set_cursor("2026/11/23/00/theirs.gz (ledger 0123abcd)")
    run = project.run()
    assert receivers.events("crm", received) == lines
    assert [one for one in run.messages("warning") if "cursor" in one] == [
        "the cursor 2026/11/23/00/theirs.gz was written by another deployment, so it was ignored: the listing started "
        "at the first key, as recorded in the ledger. To skip older files, set `start_from` or the `since` of a "
        "subscriber; to list again from an earlier day, set the cursor to that day"
    ]


@pytest.mark.thorough
def test_the_cursor_of_a_module_given_by_name_is_found(project: Project, received: Path) -> None:
    """A cursor that was set with `-m export_pipeline.definitions`, without workspace.yaml, is the one that runs set;
    before the first run it hides nothing.
    """
    project.config["subscribers"] = {"crm": CRM}
    lines = project.put_days("10", "23")
    arguments = ("sensor", "cursor", "new_files", "--set", "2026/11/22", "-m", "export_pipeline.definitions")
    code, printed = project.command(*arguments)
    assert code == 0, printed
    code, printed = project.execute()
    assert code == 0, printed
    assert (
        "the cursor 2026/11/22 was set before this ledger recorded how far the source is listed, so it was ignored"
        in printed
    )
    assert receivers.events("crm", received) == lines
    assert project.cursor() == "2026/11/23/00/001.gz"


def test_moving_the_cursor_back_or_deleting_it_repeats_nothing(project: Project, received: Path) -> None:
    """Whatever is done to the cursor between runs, every event is delivered once."""
    project.config["subscribers"] = {"crm": CRM}
    lines = project.put_days("10", "20", "23")
    project.run()
    today = datetime.now(timezone.utc)
    for n, cursor in enumerate(["2026/11/01", "nonsense", "2026/11/23/00/001.gz", "2099/01/01"]):
        project.set_cursor(cursor)
        lines += project.put(f"{today:%Y/%m/%d}/01/{n}.gz", [{"n": n}])
        assert project.run().success
        assert receivers.events("crm", received) == lines
    assert project.imbalances() == []


def test_an_edit_made_during_a_run_wins(project: Project) -> None:
    """A run sets the cursor only if it is still what the run found: what a user set in the meantime stays."""
    project.set_cursor("2026/11/20")
    with project.sensor_cursor() as cursor:
        cursor.replace("2026/11/23/00/001.gz", "2026/11/24/00/000.gz (ledger 0123abcd)")
        assert cursor.read() == "2026/11/20"
        cursor.replace("2026/11/20", "2026/11/24/00/000.gz (ledger 0123abcd)")
        assert cursor.read() == "2026/11/24/00/000.gz (ledger 0123abcd)"
