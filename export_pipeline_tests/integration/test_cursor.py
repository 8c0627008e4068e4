"""The cursor of the sensor ``new_files``: seen and edited from outside, and never trusted with more than a start."""

from datetime import datetime, timezone
from pathlib import Path

from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}
WORKSPACE = """
load_from:
  - python_module:
      module_name: export_pipeline.definitions
      location_name: export_pipeline
"""


def test_the_command_line_reads_and_sets_the_cursor(project: Project, received: Path) -> None:
    """`dagster sensor cursor new_files --set <key>` is where the next run begins, and --delete starts it over."""
    (project.root / "workspace.yaml").write_text(WORKSPACE)
    project.config["subscribers"] = {"crm": CRM}
    project.config["lookback_hours"] = 0
    lines = project.put_days("10", "20", "23")
    code, printed = project.command("sensor", "cursor", "new_files", "--set", "2026/11/20/00/000.gz")
    assert code == 0, printed
    assert project.cursor() == "2026/11/20/00/000.gz"
    project.run()
    assert receivers.events("crm", received) == lines[6:]
    assert project.cursor() == "2026/11/23/00/001.gz"
    code, printed = project.command("sensor", "cursor", "new_files", "--delete")
    assert code == 0, printed
    assert project.cursor() == ""
    project.run()
    assert sorted(receivers.events("crm", received)) == sorted(lines)
    assert project.cursor() == "2026/11/23/00/001.gz"


def test_the_cursor_of_a_module_given_by_name_is_found(project: Project, received: Path) -> None:
    """A cursor that was set with `-m export_pipeline.definitions`, without workspace.yaml, is found as well."""
    project.config["subscribers"] = {"crm": CRM}
    project.config["lookback_hours"] = 0
    lines = project.put_days("10", "23")
    code, printed = project.command(
        "sensor", "cursor", "new_files", "--set", "2026/11/22", "-m", "export_pipeline.definitions"
    )
    assert code == 0, printed
    code, printed = project.execute()
    assert code == 0, printed
    assert receivers.events("crm", received) == lines[6:]


def test_moving_the_cursor_back_or_deleting_it_repeats_nothing(project: Project, received: Path) -> None:
    """Whatever is done to the cursor between runs, every event is delivered once."""
    project.config["subscribers"] = {"crm": CRM}
    lines = project.put_days("10", "20", "23")
    project.run()
    # A cursor in the future counts as one of this moment, so the new files are of today.
    today = datetime.now(timezone.utc)
    for n, cursor in enumerate(["2026/11/01", "nonsense", "2026/11/23/00/001.gz", "2099/01/01"]):
        project.set_cursor(cursor)
        lines += project.put(f"{today:%Y/%m/%d}/01/{n}.gz", [{"n": n}])
        assert project.run().success
        assert receivers.events("crm", received) == lines
    assert project.imbalances() == []
