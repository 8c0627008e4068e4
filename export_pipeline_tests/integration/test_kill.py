"""SIGKILL at exact moments: nothing is lost, and at most the one batch in flight is sent again, under its old id."""

from collections import Counter
from pathlib import Path

import pytest

from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project

# One manifest of three batches, for two subscribers: `copy` (files) is served first, then `crm` (a Python function).
MOMENTS = [
    "plan:before:1",
    "plan:after:1",  # inside the transaction
    "move_cursor:before:1",
    "move_cursor:after:1",
    "stage:before:2",
    "stage:after:3",
    "record_reading:before:1",
    "record_reading:after:1",  # inside the transaction
    "deliver_files:before:1",
    "deliver_files:after:1",  # accepted, and nobody knows
    "accept:after:1",  # inside the transaction
    "deliver_files:before:2",  # between two acceptances
    "deliver_files:after:3",
    "commit:before:1",  # between the last acceptance and the commit
    "commit:after:1",  # inside the transaction
    "accept:before:4",
    "accept:before:6",
    "commit:before:2",
    "commit:after:2",
    "delete_staged:before:2",
]
# The simulation crashes before every effect. This one shows that the promises hold for a real Dagster process, too.
ALWAYS = {"deliver_files:after:1"}


@pytest.mark.parametrize(
    "moment", [one if one in ALWAYS else pytest.param(one, marks=pytest.mark.thorough) for one in MOMENTS]
)
def test_a_run_killed_at_any_moment_loses_and_repeats_nothing(project: Project, received: Path, moment: str) -> None:
    """Killed at this moment, the next run completes the work; at most one batch comes twice, with the same bytes."""
    project.config["batch"] = {"max_events": 2}
    project.config["subscribers"]["crm"] = {
        "type": "python",
        "function": "export_pipeline_tests.integration.receivers:crm",
    }
    lines = project.put_days("23", files=2, events=3)
    project.kill_job_at(moment)
    assert project.run().success
    assert sorted(project.copied()) == sorted(lines)
    calls = receivers.calls("crm", received)
    assert set(calls) == {call for call in calls if call[0] in project.batch_ids()}
    assert [line for _, ndjson in dict.fromkeys(calls) for line in ndjson.encode().split(b"\n")[:-1]] == lines
    repeats = {call: number for call, number in Counter(calls).items() if number > 1}
    assert sum(repeats.values()) in (0, 2)
    assert project.imbalances() == []
    assert project.staged() == []
    assert any(line.startswith("found no new file") for line in project.run().messages("info"))


def test_a_kill_after_acceptance_repeats_exactly_that_batch(project: Project, received: Path) -> None:
    """Killed after the receiver took a batch and before that was recorded, that batch and no other comes again."""
    project.config["batch"] = {"max_events": 2}
    project.config["subscribers"] = {
        "crm": {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm"}
    }
    project.put_days("23", files=2, events=3)
    project.kill_job_at("accept:before:2")
    project.run()
    first, second, third = project.batch_ids()
    assert [batch_id for batch_id, _ in receivers.calls("crm", received)] == [first, second, second, third]
    assert receivers.calls("crm", received)[1] == receivers.calls("crm", received)[2]
