"""Steps on two Celery workers, over a broker, PostgreSQL and S3: the same promises as in one process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.integration.spread import SpreadProject
from export_pipeline_tests.integration.waiting import wait_until

DAY = "2026-11-23"


def python(function: str) -> dict[str, str]:
    return {"type": "python", "function": f"export_pipeline_tests.integration.receivers:{function}"}


@pytest.mark.parametrize(
    ("broker", "dies"),
    [
        # Only the process that does the step: its worker gives the step back at once.
        ("redis", "process"),
        # All of a worker, as with its machine: Redis looks for what was lost every hundred seconds, RabbitMQ sees it.
        pytest.param("redis", "worker", marks=pytest.mark.thorough),
        pytest.param("rabbitmq", "worker", marks=pytest.mark.thorough),
    ],
    indirect=["broker"],
)
def test_two_workers_deliver_each_event_once(spread: SpreadProject, received: Path, dies: str) -> None:
    """Two workers share a backfill, and one is killed in the middle of a batch: that batch comes again, nothing comes
    twice, nothing is missing, every id is of the ledger, and its equations hold.
    """
    spread.config["batch"] = {"max_events": 3}
    spread.config["manifest"] = {"max_files": 1}
    spread.config["subscribers"] = {"crm": python("slow"), "stuck": python("stuck_in_first")}
    lines = spread.put_days("23", files=2, events=6)
    with spread.workers("one", "two") as workers:
        run = spread.start_backfill(DAY)
        victim = received / "stuck.pid"
        wait_until(victim.exists)
        if dies == "process":
            os.kill(int(victim.read_text()), signal.SIGKILL)
        else:
            parent = int(Path(f"/proc/{victim.read_text()}/stat").read_text().rpartition(")")[2].split()[1])
            (killed,) = (worker for worker in workers if worker.process.pid == parent)
            killed.kill()
        printed = run.communicate(timeout=240)[0].decode()
        assert run.returncode == 0, printed
    for name in ("crm", "stuck"):
        calls = receivers.calls(name, received)
        distinct = dict(calls)
        # What was under way in the process that died was not taken; had it been, it would have come again.
        assert len(calls) == len(distinct)
        assert sorted(line for ndjson in distinct.values() for line in ndjson.encode().splitlines()) == sorted(lines)
        assert sorted(distinct) == sorted(spread.batch_ids())
    assert spread.imbalances() == []
    taken = spread.steps_by_worker()
    assert taken["one"] > 0
    assert taken["two"] > 0


@pytest.mark.thorough
def test_steps_of_a_run_that_was_ended_deliver_nothing_more(spread: SpreadProject, received: Path) -> None:
    """The run's own process is killed: the step on a worker records its batch and stops, and those that wait for a
    worker begin nothing. The next run delivers the rest.
    """
    spread.config["batch"] = {"max_events": 1}
    spread.config["manifest"] = {"max_files": 1}
    spread.config["subscribers"] = {"crm": python("slow")}
    lines = spread.put_days("23", files=4, events=8)
    with spread.workers("one"):
        run = spread.start_backfill(DAY)
        wait_until(lambda: receivers.calls("crm", received))
        spread.cancel_runs()
        run.kill()
        run.communicate()
        wait_until(spread.is_idle)
        before = len(receivers.events("crm", received))
        assert before < len(lines)
        again = spread.start_backfill(DAY)
        printed = again.communicate(timeout=120)[0].decode()
        assert again.returncode == 0, printed
    assert sorted(receivers.events("crm", received)) == sorted(lines)
    assert spread.imbalances() == []


@pytest.mark.thorough
def test_a_process_for_each_step(project: Project, received: Path) -> None:
    """With `executor: multiprocess` steps run in separate processes, on SQLite and local folders, and deliver each
    event once.
    """
    project.config["executor"] = {"type": "multiprocess", "max_concurrent": 2}
    project.config["manifest"] = {"max_files": 1}
    project.config["subscribers"] = {"crm": python("crm")}
    lines = project.put_days("23", files=2)
    code, printed = project.execute()
    assert code == 0, printed
    assert sorted(receivers.events("crm", received)) == sorted(lines)
    assert project.imbalances() == []


@pytest.mark.thorough
def test_check_asks_the_workers(spread: SpreadProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """`export-pipeline check` fails while no worker answers, and where Dagster's storage is on this machine."""
    spread.config["subscribers"] = {"crm": python("crm")}
    command = [sys.executable, "-m", "export_pipeline.cli", "check"]
    monkeypatch.chdir(spread.root)
    monkeypatch.setenv("EXPORT_DEPLOYMENT", str(spread.deployment_path))
    monkeypatch.setenv("DAGSTER_HOME", str(spread.home))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "celery: no worker answered; start one: celery -A export_pipeline.celery_app worker" in _joined(done.stdout)
    assert done.stderr.splitlines()[-1] == "failed: executor"
    (spread.home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "executor celery runs steps on other machines; allowed: storage.postgres" in _joined(done.stdout)


def _joined(text: str) -> str:
    return " ".join(text.split())
