"""The interface that other programs use: ``dagster job execute`` and its exit code."""

from pathlib import Path

import pytest

from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.security.test_pickle import pickles

PYTHON = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}


def test_the_exit_code_tells_whether_all_was_delivered(project: Project, received: Path) -> None:
    """A run by command line ends with another code than 0 when a subscriber failed, while what the others got stays
    delivered, and with 0 once everything owed was delivered. Relative paths start at the folder it runs in, and steps
    pass on nothing that is pickled.
    """
    project.config.update(
        source={"url": "bucket"},
        staging={"url": "staging"},
        quarantine={"url": "quarantine"},
        ledger={"url": "ledger.db"},
        subscribers={"copy": {"type": "files", "url": "copy"}, "crm": PYTHON},
    )
    (received / "crm.fails").touch()
    lines = project.put_days("23")
    code, printed = project.execute()
    assert code != 0, printed
    assert any("503: down for maintenance" in entry for entry in project.last_log())
    assert sorted(project.copied()) == sorted(lines)
    assert (project.root / "ledger.db").exists()
    (received / "crm.fails").unlink()
    code, printed = project.execute()
    assert code == 0, printed
    assert receivers.events("crm", received) == lines
    assert sorted(project.copied()) == sorted(lines)
    assert pickles(project.root) == []


@pytest.mark.thorough
def test_the_exit_code_where_nothing_was_owed(project: Project) -> None:
    """A run that finds nothing new ends with 0."""
    project.put_days("23")
    assert project.run().success
    code, printed = project.execute()
    assert code == 0, printed
    assert any("found no new file since" in entry for entry in project.last_log())


def test_a_wrong_deployment_file_is_one_clear_error(project: Project) -> None:
    """A mistake in the deployment file ends the command with the file, the line, what was found and what is allowed."""
    project.config["subscribers"] = {"crm": {"type": "webhok", "url": "https://example.com"}}
    code, printed = project.execute()
    assert code != 0
    assert "test.yaml" in printed
    assert "webhok" in printed
    assert "webhook" in printed
