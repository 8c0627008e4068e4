"""Steps on two Celery workers, over Redis, PostgreSQL and S3: the same promises as in one process."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.spread import VARIABLES, SpreadProject
from export_pipeline_tests.servers.postgres import new_database
from export_pipeline_tests.servers.redis import redis_server
from export_pipeline_tests.servers.s3 import S3Server

DAY = "2026-11-23"


@pytest.fixture
def spread(
    tmp_path: Path, rclone: S3Server, postgres_url: str, received: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SpreadProject]:
    """A project for Celery's workers; none runs yet."""
    with (
        redis_server(tmp_path) as broker,
        new_database(postgres_url) as ledger,
        new_database(postgres_url) as storage,
    ):
        for name, value in (VARIABLES | {"SPREAD_BROKER": broker}).items():
            monkeypatch.setenv(name, value)
        yield SpreadProject(tmp_path, s3=rclone, ledger=ledger, storage=storage, broker=broker)


def python(function: str) -> dict[str, str]:
    return {"type": "python", "function": f"export_pipeline_tests.integration.receivers:{function}"}


def wait_until(check: Callable[[], object], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_two_workers_deliver_each_event_once(spread: SpreadProject, received: Path) -> None:
    """Both workers take steps of one run; one is killed with all its processes in the middle of a batch. What it had in
    hand comes again under its old id, nothing else comes twice, nothing is missing, and the ledger's equations hold.
    """
    spread.config["batch"] = {"max_events": 3}
    spread.config["manifest"] = {"max_files": 1}
    spread.config["subscribers"] = {"crm": python("slow"), "stuck": python("stuck_in_first")}
    lines = spread.put_days("23", files=8, events=6)
    with spread.workers("one", "two") as workers:
        run = spread.start_backfill(DAY)
        victim = received / "stuck.pid"
        wait_until(victim.exists)
        parent = int(Path(f"/proc/{victim.read_text()}/stat").read_text().rpartition(")")[2].split()[1])
        (killed,) = (worker for worker in workers if worker.process.pid == parent)
        killed.kill()
        printed = run.communicate(timeout=120)[0].decode()
        assert run.returncode == 0, printed
    for name in ("crm", "stuck"):
        calls = receivers.calls(name, received)
        distinct = dict(calls)
        assert len(calls) - len(distinct) <= 1, "more than the batch in flight came again"
        assert len(set(calls)) == len(distinct), "an id came with other events"
        assert sorted(line for _, ndjson in distinct.items() for line in ndjson.encode().splitlines()) == sorted(lines)
        assert sorted(distinct) == sorted(spread.batch_ids())
    assert spread.imbalances() == []
    taken = spread.steps_by_worker()
    assert taken["one"] > 0
    assert taken["two"] > 0


def test_a_step_whose_process_dies_is_done_again_at_once(spread: SpreadProject, received: Path) -> None:
    """Where only the process of a step is killed, its worker hands the step back, and nobody waits for a time-out."""
    spread.config["executor"]["redeliver_after_seconds"] = 3_600
    spread.config["subscribers"] = {"stuck": python("stuck_in_first")}
    lines = spread.put_days("23", files=1)
    with spread.workers("one"):
        run = spread.start_backfill(DAY)
        victim = received / "stuck.pid"
        wait_until(victim.exists)
        os.kill(int(victim.read_text()), signal.SIGKILL)
        printed = run.communicate(timeout=120)[0].decode()
        assert run.returncode == 0, printed
    assert sorted(receivers.events("stuck", received)) == sorted(lines)
    assert spread.imbalances() == []


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
