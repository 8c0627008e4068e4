"""When the sensor new_files starts a run, and what the schedule leaves to it."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from dagster import DagsterInstance, RunRequest, SkipReason, build_sensor_context

from export_pipeline.dagster_internals import InstigatorStatus, InstigatorType
from export_pipeline.deployment import load_deployment
from export_pipeline.errors import FileForbidden
from export_pipeline.ledger.database import utc_now
from export_pipeline.orchestration.build import definitions_of
from export_pipeline.orchestration.new_files import run_key
from export_pipeline.orchestration.schedule import reason_to_leave_it_to_sensor
from export_pipeline.source.file import SourceFile
from export_pipeline.source.local import LocalSource
from export_pipeline.steps.lookout import Seen, gets_on
from export_pipeline_tests.integration.project import Project

pytestmark = pytest.mark.usefixtures("one_event_log")

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}
DWH = {"type": "python", "function": "export_pipeline_tests.integration.receivers:dwh", "retry_for_seconds": 0}


def waits(project: Project) -> bool:
    with project.workspace() as place:
        return gets_on(place.ledger, place.source.url)


def test_a_backlog_is_what_a_run_could_get_on_with(project: Project, received: Path) -> None:
    """More files than a run takes are a backlog until the last run; an export that never ran has none."""
    project.config.update(subscribers={"crm": CRM}, max_files=2)
    assert not waits(project)
    project.put_days("23", files=3)
    project.run()
    assert waits(project)
    project.run()
    assert not waits(project)


def test_a_failing_subscriber_is_no_reason_to_hurry(project: Project, received: Path) -> None:
    """While every subscriber fails nothing is started at once, however much waits; one that is well is enough."""
    project.config.update(subscribers={"crm": CRM}, max_files=2)
    project.put_days("22", "23", files=4)
    (received / "crm.fails").touch()
    project.run()
    assert not waits(project)
    project.config["subscribers"] = {"crm": CRM, "dwh": {**DWH, "since": "beginning"}}
    project.run()
    assert waits(project)


def test_a_corrupt_file_is_no_reason_to_hurry(project: Project, received: Path) -> None:
    """Only the schedule retries what could not be read, in each of its ticks; other files start runs."""
    project.config.update(subscribers={"crm": CRM}, max_files=1)
    project.put_bytes("2026/11/22/00/broken.gz", b"\x1f\x8b\x08\x00broken", compress=False)
    project.run()
    assert not waits(project)
    project.run()
    assert not waits(project)
    project.put_days("23", files=2)
    project.run()
    assert waits(project)
    project.run()
    assert not waits(project)


@pytest.mark.parametrize("files", [1, 3])
def test_a_store_that_cannot_be_read_is_no_reason_to_hurry(
    project: Project, received: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    """While access is refused nothing is started at once, however much waits; once it is granted, a backlog is one."""

    def refuses(_source: LocalSource, file: SourceFile, _start: int, _stop: int) -> bytes:
        raise FileForbidden(file.key, "403 InvalidObjectState")

    project.config.update(subscribers={"crm": CRM}, manifest={"max_files": 3})
    project.put_days("20", "21", "22", files=files)
    with monkeypatch.context() as patch:
        patch.setattr(LocalSource, "read_range", refuses)
        for _ in range(3):
            assert not project.run().success
            assert not waits(project)
    project.run()
    assert not waits(project)
    assert project.imbalances() == []


def tick(project: Project, instance: DagsterInstance) -> RunRequest | SkipReason:
    """What the sensor answers, as the daemon asks it."""
    deployment = load_deployment(str(project.deployment_path))
    definitions = definitions_of(deployment)
    resources = {name: (definitions.resources or {})[name] for name in ("source", "ledger")}
    with build_sensor_context(instance=instance, resources=resources) as context:
        found = definitions.resolve_sensor_def("new_files").evaluate_tick(context)
    return found.run_requests[0] if found.run_requests else SkipReason(found.skip_message)


def test_the_sensor_starts_a_run_for_a_new_file(project: Project, received: Path) -> None:
    """It looks itself: a new file is a reason for a run, the same one for two ticks; a known file is none."""
    project.config["subscribers"] = {"crm": CRM}
    with DagsterInstance.from_config(str(project.home)) as instance:
        assert isinstance(tick(project, instance), SkipReason)
        project.put_days("22", files=1)
        first, second = tick(project, instance), tick(project, instance)
        assert isinstance(first, RunRequest)
        assert isinstance(second, RunRequest)
        assert first.run_key is not None
        assert first.run_key.rpartition(" ")[0].rpartition(" ")[2] == "2026/11/22/00/000.gz"
        project.run()
        answer = tick(project, instance)
        assert isinstance(answer, SkipReason)
        assert answer.skip_message == "no new files"


def test_two_ticks_that_see_the_same_ask_for_one_run() -> None:
    """The run key is that of the file, its content, the ledger and the five minutes: Dagster makes one run of two."""
    seen, now = Seen("2026/11/22/a", "e1"), datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
    key = run_key(seen, "m", now)
    assert key == run_key(seen, "m", now + timedelta(seconds=299))
    others = [
        run_key(Seen("2026/11/22/b", "e1"), "m", now),
        run_key(Seen("2026/11/22/a", "e2"), "m", now),
        run_key(seen, "n", now),
        run_key(seen, "m", now + timedelta(seconds=300)),
        run_key(Seen(messages=3), "m", now),
    ]
    assert len({key, *others}) == 6


def test_messages_that_come_later_start_another_run_at_once() -> None:
    """Messages in the queue are a reason for another run twenty seconds later, and for one run only until then."""
    now = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
    keys = [run_key(Seen(messages=n), "m", now + timedelta(seconds=later)) for n, later in ((3, 0), (4, 19), (4, 20))]
    assert keys[0] == keys[1] != keys[2]


def test_while_the_sensor_is_on_the_schedule_sweeps(project: Project, received: Path) -> None:
    """With the sensor on, a tick of the schedule starts a run only for what is owed, or once an hour; and says so."""
    project.config["subscribers"] = {"crm": CRM}
    project.put_days("22", files=1)

    def reason(instance: DagsterInstance, *, minutes: int = 0) -> str | None:
        deployment = load_deployment(str(project.deployment_path))
        with project.ledger() as ledger:
            now = utc_now() + timedelta(minutes=minutes)
            return reason_to_leave_it_to_sensor(deployment, instance, ledger, now=now)

    with DagsterInstance.from_config(str(project.home)) as instance:
        project.run()
        assert reason(instance) is None
        (state,) = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        instance.update_instigator_state(state.with_status(InstigatorStatus.RUNNING))
        assert "the sensor new_files is on" in (reason(instance) or "")
        assert "(sweep_minutes)" in (reason(instance) or "")
        assert reason(instance, minutes=61) is None
        (received / "crm.fails").touch()
        project.put_days("23", files=1)
        project.run()
        assert reason(instance) is None
