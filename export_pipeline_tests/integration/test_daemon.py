"""Schedule and sensor in a real daemon, as `dagster dev` starts it."""

from pathlib import Path

import pytest

from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.dagster_dev import dagster_dev
from export_pipeline_tests.integration.project import Project

# Every minute is the most that cron can say; the ticks come at the full minute.
EVERY_MINUTE = "* * * * *"
CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}


@pytest.mark.thorough
def test_a_due_tick_runs_the_job(project: Project, received: Path) -> None:
    """When due the schedule runs the job, which moves the cursor on; each time, the tests of the UI see it do so."""
    project.config.update(frequency=EVERY_MINUTE, subscribers={"crm": CRM})
    lines = project.put_days("23")
    with dagster_dev(project) as dev:
        dev.wait_for(lambda: receivers.events("crm", received), seconds=120)
        assert receivers.events("crm", received) == lines
        first = dev.wait_for(lambda: [tick for tick in dev.ticks("schedule", "export_schedule") if tick["runIds"]])
        assert first[0]["status"] == "SUCCESS"
        assert dev.wait_for(dev.cursor).startswith("2026/11/23/00/001.gz (ledger ")


def test_the_sensor_drains_a_backlog_and_clobbers_nothing(project: Project, received: Path) -> None:
    """On, new_files starts runs until nothing waits, though the daemon writes its own cursor back; then one run for a
    file that arrives, and the schedule none.
    """
    project.config.update(
        frequency="weekly", max_files=2, catch_up_max_files=4, subscribers={"crm": CRM}, lookback_hours=1
    )
    lines = project.put_days("19", "20", "21", "22", "23")
    assert project.run().success
    with dagster_dev(project) as dev:
        dev.start_sensor("new_files")
        dev.wait_for(lambda: len(receivers.events("crm", received)) >= len(lines), seconds=240)
        skipped = dev.wait_for(
            lambda: [tick for tick in dev.ticks("sensor", "new_files") if tick["status"] == "SKIPPED"], seconds=120
        )
        before = len(dev.runs())
        lines += project.put_days("24", files=1)
        dev.wait_for(lambda: len(receivers.events("crm", received)) >= len(lines), seconds=240)
        later = dev.runs()[: len(dev.runs()) - before]
        assert len(later) == 1
        assert {"key": "dagster/sensor_name", "value": "new_files"} in later[0]["tags"]
    assert receivers.events("crm", received) == lines
    assert any("no new files" in tick["skipReason"] or "under way" in tick["skipReason"] for tick in skipped)
    assert project.run().success
    assert receivers.events("crm", received) == lines
    assert project.imbalances() == []
