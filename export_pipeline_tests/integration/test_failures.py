"""What the page of a run shows of a failure: who, what, why, and what happens next."""

import json
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from dagster import (
    DagsterEventType,
    DagsterInstance,
    ReexecutionOptions,
    TableMetadataValue,
    execute_job,
)

from export_pipeline_tests.integration import reexecution
from export_pipeline_tests.integration.project import Project, Run
from export_pipeline_tests.servers.http import Reply
from export_pipeline_tests.servers.otlp import OtlpReceiver
from export_pipeline_tests.servers.receiver import Receiver

pytestmark = pytest.mark.usefixtures("one_event_log")

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BROKEN = b"\x1f\x8b broken"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with Receiver(SECRET) as running:
        yield running


def hook(receiver: Receiver) -> dict[str, Any]:
    return {"type": "webhook", "url": receiver.url, "retry_for_seconds": 0, "secret": {"env": "HOOK_SECRET"}}


def shown(run: Run, op: str) -> dict[str, Any]:
    """The metadata of the first failure of an op."""
    for entry in run.entries:
        event = entry.dagster_event
        if event and event.event_type is DagsterEventType.STEP_FAILURE and (entry.step_key or "").startswith(op):
            failure = event.step_failure_data.user_failure_data
            assert failure is not None
            return dict(failure.metadata)
    raise AssertionError(f"{op} did not fail")


def values(metadata: dict[str, Any]) -> dict[str, Any]:
    return {name: value.value for name, value in metadata.items()}


@pytest.mark.parametrize(
    ("status", "next_step"),
    [
        (503, "the next run retries the same batches, under the same ids"),
        (401, "fix the cause; nothing is lost, all data stays owed"),
    ],
)
def test_a_failed_delivery_shows_batch_and_answer(
    project: Project, receiver: Receiver, status: int, next_step: str
) -> None:
    """A failed delivery shows subscriber, batch, status, the answer's first 500 bytes, and what happens next."""
    project.config["subscribers"] = {"hook": hook(receiver)}
    project.put_days("23")
    receiver.standing = Reply(status, b"no thanks, " + b"x" * 1_000)
    run = project.run()
    assert values(shown(run, "deliver_to_hook")) == {
        "subscriber": "hook",
        "batch": project.batch_ids()[0],
        "status": str(status),
        "answer": "no thanks, " + "x" * 489,
        "what happens next": next_step,
    }


def test_a_failure_is_a_line_of_the_log_once(project: Project, receiver: Receiver) -> None:
    """An ERROR line has subscriber, batch, status, answer and what happens next; what waits for it has no line."""
    project.config["subscribers"] = {"hook": hook(receiver)}
    project.put_days("22", "23")
    receiver.standing = Reply(503, b"down for maintenance")
    run = project.run()
    assert len([step for step in run.failures if step.startswith("deliver_to_hook")]) == 2
    assert run.messages("error") == [
        f"hook did not accept a batch: {receiver.url} answered 503: down for maintenance "
        f"[batch {project.batch_ids()[0]}, status 503]; next: the next run retries the same batches, under the same ids"
    ]


def test_an_answer_that_repeats_an_event_is_not_repeated(project: Project, receiver: Receiver) -> None:
    """Neither log, failure nor ledger has what a destination repeats of the events that it does not like."""
    project.config["subscribers"] = {"hook": hook(receiver)}
    project.put("2026/11/23/a.gz", [{"email": "ann@example.com", "n": 1}])
    receiver.standing = Reply(503, b"cannot take email ann@example.com now")
    run = project.run()
    told = repr([run.messages("error"), run.failures, values(shown(run, "deliver_to_hook"))])
    assert "cannot take email [event data] now" in told
    assert "ann@example.com" not in told
    assert "ann@example.com" not in (project.root / "ledger.db").read_bytes().decode("latin-1")


@pytest.mark.parametrize("executor", ["in_process", pytest.param("multiprocess", marks=pytest.mark.thorough)])
def test_the_last_line_of_a_run_is_its_sum(project: Project, receiver: Receiver, executor: str) -> None:
    """Whatever failed, it ends with what was found, delivered, quarantined, and is still owed, by subscriber.

    And it pushes metrics, if a collector is configured, with a header that no line shows.
    """
    project.config["executor"] = executor
    project.config["subscribers"]["hook"] = hook(receiver)
    project.put_days("23")
    project.put("2026/11/23/00/bad.gz", [b"nonsense", {"n": 1}])
    project.put_bytes("2026/11/23/00/broken.gz", BROKEN, compress=False)
    receiver.standing = Reply(503, b"down")
    with OtlpReceiver() as collector:
        project.config["metrics"] = {"otlp": {"endpoint": collector.url, "headers": {"x-key": {"env": "OTLP_KEY"}}}}
        _, printed = project.execute(HOOK_SECRET=SECRET, OTLP_KEY="planted-key")
    assert collector.requests[0].headers["x-key"] == "planted-key"
    assert "planted-key" not in printed
    assert collector.value("export_pipeline_owed_files", subscriber="hook") == 4
    assert collector.value("export_pipeline_delivered_events", subscriber="copy") == 7
    assert collector.value("export_pipeline_last_run_success") == 0
    lines = [json.loads(entry) for entry in project.last_log()]
    assert [line["user_message"] for line in lines if line["dagster_event"] is None][-1] == (
        "this run: found 4 new files; delivered: copy 7 events (3 files complete); quarantined: 1 malformed record; "
        "still owed: copy 1 file, hook 4 files"
    )


def test_a_destination_that_does_not_answer(project: Project, receiver: Receiver) -> None:
    """Where nobody answered, the failure has no status, and shows no empty answer."""
    project.config["subscribers"] = {"hook": {**hook(receiver), "url": "http://127.0.0.1:1/"}}
    project.put_days("23")
    found = values(shown(project.run(), "deliver_to_hook"))
    assert found["status"] == "none"
    assert "answer" not in found


def test_a_source_that_cannot_be_listed(project: Project) -> None:
    """Any failure says what happens next; a source that cannot be listed is listed by the next run."""
    project.put_days("23")
    project.bucket.rename(project.root / "away")
    run = project.run()
    assert values(shown(run, "list_new_files")) == {
        "what happens next": "the next run lists again from where this one started; nothing is lost"
    }


def test_what_is_held_back_says_what_happens_next(project: Project, receiver: Receiver) -> None:
    """After a first failure the other manifests of a run say that they wait for the next one."""
    project.config["subscribers"] = {"hook": hook(receiver)}
    project.put_days("22", "23")
    receiver.standing = Reply(503, b"down")
    run = project.run()
    later = [entry for entry in run.entries if entry.step_key in list(run.failures)[1:] and entry.is_dagster_event]
    (failure,) = [
        entry.dagster_event.step_failure_data.user_failure_data
        for entry in later
        if entry.dagster_event and entry.dagster_event.event_type is DagsterEventType.STEP_FAILURE
    ]
    assert failure is not None
    assert values(dict(failure.metadata)) == {
        "subscriber": "hook",
        "what happens next": "the next run retries the same batches, under the same ids",
    }


def test_unreadable_files_fail_one_step_of_the_run(project: Project) -> None:
    """Files of several manifests that cannot be read fail one step; its table says which, why, and what comes next."""
    lines = project.put_days("21", "22", "23")
    for day in ("21", "23"):
        project.put_bytes(f"2026/11/{day}/00/broken.gz", BROKEN, compress=False)
    run = project.run()
    assert list(run.failures) == ["report_unreadable_files"]
    told = run.failures["report_unreadable_files"]
    assert told.startswith("2 files could not be read, all others were read: 2026/11/21/00/broken.gz: the gzip data is")
    assert told.endswith("(and 1 more file)")
    table = shown(run, "report_unreadable_files")["unreadable"]
    assert isinstance(table, TableMetadataValue)
    assert [record.data["file"] for record in table.records] == [f"2026/11/{day}/00/broken.gz" for day in ("21", "23")]
    assert table.records[0].data["what happens next"] == (
        "is retried alone in later runs, and quarantined after 5 attempts (1 attempt so far)"
    )
    assert project.copied() == lines


def test_a_file_that_is_given_up_says_where_it_lies(project: Project) -> None:
    """A file that no later run tries again says so, and how to find it."""
    project.config["max_attempts"] = 1
    project.put_days("23")
    project.put_bytes("2026/11/23/00/broken.gz", BROKEN, compress=False)
    run = project.run()
    table = shown(run, "report_unreadable_files")["unreadable"]
    assert table.records[0].data["what happens next"] == (
        "nothing: it is in the quarantine as a whole (export-pipeline quarantine list --day 2026-11-23)"
    )


def test_no_line_tells_of_steps_that_are_skipped(project: Project) -> None:
    """Where all is well no line tells of skipped steps: neither in a run over several days nor in an idle one."""
    project.put_days("21", "22", "23")
    busy, idle = project.run(), project.run()
    assert busy.messages("info")[-1].startswith("copy accepted 6 events of 2026-11-23 in 1 batch")
    assert [message for _, message in busy.log + idle.log if "kipping" in message or "implicit" in message] == []
    assert [line.partition(" since")[0] for line in idle.messages("info")] == ["found no new file"]
    day = project.run("backfill_job", partition="2026-11-02")
    assert day.messages("info")[-1] == "nothing of 2026-11-02 is owed to the chosen subscribers"


@pytest.mark.parametrize(
    ("database", "moment"),
    [
        ("sqlite", "deliver_files:before:1"),
        pytest.param("postgresql", "record_reading:before:2", marks=pytest.mark.thorough),
    ],
)
def test_a_re_execution_that_leaves_manifests_out_is_no_success(
    project: Project, database: str, moment: str, request: pytest.FixtureRequest
) -> None:
    """Of a run that was killed Dagster repeats only steps that had begun: the report names the manifests whose turn had
    not come, fails, and the next run delivers them.
    """
    if database == "postgresql":
        project.config["ledger"] = {"url": request.getfixturevalue("new_postgres")}
    project.config["manifest"] = {"max_files": 1}
    lines = project.put_days("21", "22", files=2)
    project.kill_job_at(moment)
    job = reexecution.reloadable(project.deployment_path)
    with DagsterInstance.from_config(str(project.home)) as instance:
        (killed,) = instance.get_runs()
        instance.report_run_failed(killed)
        options = ReexecutionOptions.from_failure(killed.run_id, instance)
        again = execute_job(job, instance=instance, reexecution_options=options)
        left = len(lines) - len(project.copied())
        assert left > 0
        assert not again.success
        (failure,) = [event for event in again.all_events if event.is_step_failure]
        told = failure.step_failure_data.user_failure_data
        assert failure.step_key == "report_unreadable_files"
        assert told is not None
        assert (told.description or "").startswith(f"{left // 3} manifest")
        assert "never read, neither by it nor by this re-execution" in (told.description or "")
        assert execute_job(job, instance=instance).success
        assert sorted(project.copied()) == sorted(lines)
        # What was left has been delivered meanwhile: nothing of it is this run's any more.
        options = ReexecutionOptions.from_failure(again.run_id, instance)
        assert execute_job(job, instance=instance, reexecution_options=options).success


def test_the_report_is_repeated_from_failure(project: Project) -> None:
    """Re-executed from failure, the report alone runs: while the file is unreadable it fails, and says so in a line of
    its own, since the log of the first run is another one; once the file was read it succeeds.
    """
    project.put_days("23")
    project.put_bytes("2026/11/23/00/broken.gz", BROKEN, compress=False)
    job = reexecution.reloadable(project.deployment_path)
    with DagsterInstance.from_config(str(project.home)) as instance:
        first = execute_job(job, instance=instance)
        assert not first.success

        def again() -> bool:
            options = ReexecutionOptions.from_failure(first.run_id, instance)
            result = execute_job(job, instance=instance, reexecution_options=options)
            assert {event.step_key for event in result.all_events if event.is_step_start} == {"report_unreadable_files"}
            logged = [entry for entry in instance.all_logs(result.run_id) if not entry.is_dagster_event]
            errors[:] = [entry.user_message for entry in logged if entry.level == logging.ERROR]
            return result.success

        errors: list[str] = []
        assert not again()
        (line,) = errors
        assert "2026/11/23/00/broken.gz" in line
        path = project.bucket / "2026/11/23/00/broken.gz"
        times = path.stat()
        path.write_bytes(b"\n" * len(BROKEN))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert execute_job(job, instance=instance).success
        assert again()
        assert errors == []
