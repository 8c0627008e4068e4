"""The interface that other programs use: ``dagster job execute`` and its exit code."""

from pathlib import Path

from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project

PYTHON = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}


def test_exit_code_zero_when_all_was_delivered_or_nothing_was_owed(project: Project, received: Path) -> None:
    """A run by command line ends with 0 when everything owed was delivered, and when nothing was owed."""
    lines = project.put_days("23")
    code, printed = project.execute()
    assert code == 0, printed
    assert sorted(project.copied()) == sorted(lines)
    code, printed = project.execute()
    assert code == 0, printed
    assert any("found no new file since" in entry for entry in project.last_log())


def test_exit_code_not_zero_when_a_subscriber_failed(project: Project, received: Path) -> None:
    """A run ends with another code when a subscriber failed; what the others got stays delivered."""
    project.config["subscribers"]["crm"] = PYTHON
    (received / "crm.fails").touch()
    lines = project.put_days("23")
    code, printed = project.execute()
    assert code != 0, printed
    assert any("503: down for maintenance" in entry for entry in project.last_log())
    assert sorted(project.copied()) == sorted(lines)
    (received / "crm.fails").unlink()
    code, printed = project.execute()
    assert code == 0, printed
    assert receivers.events("crm", received) == lines
    assert sorted(project.copied()) == sorted(lines)


def test_a_wrong_deployment_file_is_one_clear_error(project: Project) -> None:
    """A mistake in the deployment file ends the command with the file, the line, what was found and what is allowed."""
    project.config["subscribers"] = {"crm": {"type": "webhok", "url": "https://example.com"}}
    code, printed = project.execute()
    assert code != 0
    assert "test.yaml" in printed
    assert "webhok" in printed
    assert "webhook" in printed


def test_relative_paths_start_at_the_working_folder(project: Project) -> None:
    """URLs and paths in the deployment file may be relative to the folder the command runs in."""
    project.config.update(
        source={"url": "bucket"},
        staging={"url": "staging"},
        quarantine={"url": "quarantine"},
        ledger={"url": "ledger.db"},
        subscribers={"copy": {"type": "files", "url": "copy"}},
    )
    lines = project.put_days("23")
    code, printed = project.execute()
    assert code == 0, printed
    assert sorted(project.copied()) == sorted(lines)
    assert (project.root / "ledger.db").exists()
