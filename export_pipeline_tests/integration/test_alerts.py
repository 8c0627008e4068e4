"""Alerts of real runs, as the sensor reads them from Dagster's storage; the daemon is in test_watching.py."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance, build_sensor_context, job, op
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemotePartitionSetOrigin,
    RemoteRepositoryOrigin,
)

from export_pipeline.alerting.channel import AlertState, from_json
from export_pipeline.deployment import load_deployment
from export_pipeline.errors import ExportError
from export_pipeline.orchestration.alerts import (
    TickOutcome,
    addresses_of,
    alerts_sensor,
    heartbeats_of,
    least_level,
    tell,
)
from export_pipeline.orchestration.build import definitions_of
from export_pipeline.orchestration.happenings import Scope, present
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.servers.alerts import AlertReceiver
from export_pipeline_tests.servers.http import Reply, Request, Server

pytestmark = pytest.mark.usefixtures("one_event_log")

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}
NOW = 1_795_000_000.0


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[AlertReceiver]:
    with AlertReceiver() as server:
        monkeypatch.setenv("CHAT", server.address)
        yield server


@pytest.fixture
def watched(project: Project, received: Path, receiver: AlertReceiver) -> Project:
    project.config.update(
        subscribers={"crm": CRM}, alerts=[{"to": {"env": "CHAT"}}], ui_url="https://dagster.test", lookback_hours=0
    )
    return project


class Watch:
    """Ticks of the sensor, without a daemon."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.state: AlertState | None = None
        self.now = NOW

    def tick(self, *, minutes_later: float = 1) -> TickOutcome:
        self.now += minutes_later * 60
        export = load_deployment(str(self.project.deployment_path))
        addresses = addresses_of(export.alerts)
        with DagsterInstance.from_config(str(self.project.home)) as instance:
            scope = Scope(instance, export, None, least_level=least_level(addresses))
            if self.state is None:
                self.state = AlertState(present(scope, self.now))
                return TickOutcome()
            told = tell(scope, addresses, self.state, now=self.now, heartbeats=heartbeats_of(export.alerts))
            self.state = from_json(self.state.to_json())
            return told


@pytest.fixture
def watch(watched: Project) -> Watch:
    """The sensor, after its first tick."""
    watch = Watch(watched)
    watch.tick()
    return watch


def test_a_subscriber_that_fails_and_recovers(watch: Watch, received: Path, receiver: AlertReceiver) -> None:
    """The first failure is reported with its cause and a link, the second is not, and the recovery is."""
    watch.project.put_days("21", "22")
    (received / "crm.fails").touch()
    run = watch.project.run()
    watch.tick()
    (alert,) = receiver.alerts
    assert alert.title == f"[test] run {run.run_id[:8]} of export_job failed"
    assert alert.kind == "failure"
    cause, link = alert.body.splitlines()
    assert cause.startswith("deliver_to_crm: crm did not accept a batch: ")
    assert "503: down for maintenance" in cause
    assert link == f"https://dagster.test/runs/{run.run_id}"
    watch.project.run()
    watch.tick()
    assert len(receiver.alerts) == 1
    (received / "crm.fails").unlink()
    assert watch.project.run().success
    watch.tick()
    assert receiver.alerts[1].kind == "success"
    assert receiver.alerts[1].body.startswith("deliver_to_crm of export_job recovered; it failed 2 times since 2026-")
    watch.tick()
    assert len(receiver.alerts) == 2


def test_log_lines_of_a_level(watch: Watch, receiver: AlertReceiver) -> None:
    """Log lines at or above a level come in one message a run, and the same sentence not again for a while."""
    watch.project.config["alerts"] = [{"to": {"env": "CHAT"}, "level": "warning"}]
    watch.project.put("2026/11/22/00/a.gz", [{"n": 1}])
    watch.project.put("0nonsense.gz", [{"n": 1}])
    watch.project.run()
    watch.tick()
    (alert,) = receiver.alerts
    assert alert.title.endswith("of export_job: warning")
    assert alert.body.startswith("WARNING list_new_files: 1 key did not match source.layout and was ignored")
    watch.project.put("0nonsense too.gz", [{"n": 1}])
    watch.project.run()
    # A run that finds nothing new is no reason to warn anybody.
    watch.project.run()
    watch.tick()
    assert len(receiver.alerts) <= 2
    assert not any("found no new file" in one.body for one in receiver.alerts)


def test_files_that_cannot_be_read(watch: Watch, receiver: AlertReceiver) -> None:
    """A file that cannot be read is reported in one message, with the error line that names it."""
    watch.project.put_bytes("2026/11/22/00/broken.gz", b"\x1f\x8b broken", compress=False)
    watch.project.run()
    watch.tick()
    (alert,) = receiver.alerts
    assert "report_unreadable_files: 1 file could not be read" in alert.body
    assert "ERROR read_batches: 1 file could not be read" in alert.body
    assert "2026/11/22/00/broken.gz" in alert.body


def test_a_check_that_fails_and_passes_again(watch: Watch, received: Path, receiver: AlertReceiver) -> None:
    """A check that does not pass is reported according to its severity, and so is its recovery."""
    watch.project.config["max_lag_minutes"] = 1
    watch.project.put("2020/11/22/00/a.gz", [{"n": 1}])
    old = 1_605_000_000
    os.utime(watch.project.bucket / "2020/11/22/00/a.gz", (old, old))
    assert watch.project.run("check_job").success
    watch.tick()
    (alert,) = receiver.alerts
    assert alert.title.endswith("of check_job failed")
    assert alert.body.startswith("freshness of raw_events: 1 file not found by any run yet, from 2020/11/22/00/a.gz")
    assert watch.project.run().success
    watch.project.run("check_job")
    watch.tick()
    assert receiver.alerts[1].body.startswith("freshness of raw_events recovered; it failed once")


def test_a_subscriber_that_lags_is_reported_without_another_schedule(
    watch: Watch, received: Path, receiver: AlertReceiver
) -> None:
    """With max_lag_minutes a subscriber whose oldest owed file is older is reported once, and so is its recovery."""
    project = watch.project
    project.config["max_lag_minutes"] = 30
    (received / "crm.fails").touch()
    project.put("2026/11/22/00/a.gz", [{"n": 1}])
    os.utime(project.bucket / "2026/11/22/00/a.gz", (NOW, NOW))
    project.run()
    watch.tick()
    assert [title.partition(" of ")[2] for title in receiver.titles()] == ["export_job failed"]
    watch.tick(minutes_later=30)
    watch.tick()
    (_, alert) = receiver.alerts
    assert alert.title == "[test] delivery within 30 min failed"
    assert alert.body.splitlines()[0].startswith("freshness of crm: 1 file owed to crm; the oldest arrived 32 min ago")
    assert "(allowed: 30 min)" in alert.body
    # The check finds the same: that is no second alert.
    project.run("check_job")
    watch.tick()
    assert [one for one in receiver.alerts if "freshness of crm: " in one.body] == [alert]
    (received / "crm.fails").unlink()
    assert project.run().success
    watch.tick()
    assert any(one.body.startswith("freshness of crm recovered; it failed ") for one in receiver.alerts)


def test_a_lag_without_a_limit_is_not_reported(watch: Watch, received: Path, receiver: AlertReceiver) -> None:
    """Without max_lag_minutes, and in a deployment that is not enabled, however old a file is, no lag is reported."""
    project = watch.project
    (received / "crm.fails").touch()
    project.put("2026/11/22/00/a.gz", [{"n": 1}])
    os.utime(project.bucket / "2026/11/22/00/a.gz", (NOW, NOW))
    project.run()
    watch.tick(minutes_later=10_000)
    assert len(receiver.alerts) == 1
    project.config.update(max_lag_minutes=1, enabled=False)
    watch.tick()
    assert len(receiver.alerts) == 1


def test_a_broken_address_loses_nothing_and_stops_nobody(watch: Watch, received: Path, receiver: AlertReceiver) -> None:
    """While one address fails, the other is notified in time; the first gets the oldest alerts later."""
    with AlertReceiver() as other, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAIL", other.address)
        watch.project.config["alerts"].append({"to": {"env": "MAIL"}})
        receiver.standing = Reply(500, b"planted-token")
        watch.project.put_days("21")
        (received / "crm.fails").touch()
        watch.project.run()
        told = watch.tick()
        assert [sent.partition(":")[0] for sent in told.sent] == ["MAIL"]
        assert told.broken["CHAT"].endswith("error=500.")
        assert "planted" not in told.broken["CHAT"]
        (received / "crm.fails").unlink()
        watch.project.run()
        assert watch.tick().broken.keys() == {"CHAT"}
        receiver.standing = None
        assert watch.tick().broken == {}
        assert receiver.titles() == other.titles()
        assert len(receiver.alerts) == 2


def test_a_variable_that_is_gone_is_a_broken_address(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address whose variable vanished after the definitions were loaded is reported by the variable's name."""
    project = watch.project
    project.put_bytes("2026/11/22/00/broken.gz", b"\x1f\x8b broken", compress=False)
    project.run()
    export = load_deployment(str(project.deployment_path))
    monkeypatch.delenv("CHAT")
    with DagsterInstance.from_config(str(project.home)) as instance:
        assert watch.state is not None
        told = tell(Scope(instance, export, None, 40), addresses_of(export.alerts), watch.state, now=NOW)
    assert "environment variable CHAT is not set" in told.broken["CHAT"]


def test_no_secret_leaves_the_house(watch: Watch, receiver: AlertReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret in the error of a subscriber's own is in no message, and the address is in no state."""
    monkeypatch.setenv("PLANTED_SECRET", "json://pl4nted+s3cret")
    watch.project.config["subscribers"] = {
        "leak": {
            "type": "python",
            "function": "export_pipeline_tests.integration.receivers:leaking",
            "retry_for_seconds": 0,
        }
    }
    watch.project.config["alerts"].append({"to": {"env": "PLANTED_SECRET"}, "level": "critical"})
    watch.project.put_days("22")
    watch.project.run()
    watch.tick()
    (alert,) = receiver.alerts
    assert "login with [secret] failed" in alert.body
    assert "pl4nted" not in str(receiver.requests)
    assert watch.state is not None
    assert "pl4nted" not in watch.state.to_json()
    assert receiver.url.rpartition(":")[2] not in watch.state.to_json()


def backfill(identity: str, status: BulkActionStatus, *, job: str = "backfill_job") -> PartitionBackfill:
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("export_pipeline"), "__repository__")
    return PartitionBackfill(
        backfill_id=identity,
        status=status,
        from_failure=False,
        tags={},
        backfill_timestamp=time.time(),
        partition_set_origin=RemotePartitionSetOrigin(
            repository_origin=repository, partition_set_name=f"{job}_partition_set"
        ),
        partition_names=["2026-11-20", "2026-11-21", "2026-11-22"],
    )


def test_a_backfill_that_failed(watch: Watch, receiver: AlertReceiver) -> None:
    """A backfill is reported once it ends and runs of it failed; one that succeeded, or is another's, is not."""
    watch.now = time.time() - 60
    watch.state = None
    watch.tick(minutes_later=0)
    with DagsterInstance.from_config(str(watch.project.home)) as instance:
        instance.add_backfill(backfill("going", BulkActionStatus.REQUESTED))
        instance.add_backfill(backfill("well", BulkActionStatus.COMPLETED_SUCCESS))
        instance.add_backfill(backfill("other", BulkActionStatus.COMPLETED_FAILED, job="somebody_elses"))
        instance.add_backfill(backfill("badly", BulkActionStatus.COMPLETED_FAILED))
        watch.tick()
        (alert,) = receiver.alerts
        assert alert.title == "[test] backfill badly failed"
        assert alert.body.splitlines() == [
            "backfill badly of 3 days: some runs failed; what they had planned stays owed",
            "https://dagster.test/runs/b/badly",
        ]
        watch.tick()
        assert len(receiver.alerts) == 1
        going = instance.get_backfill("going")
        assert going is not None
        instance.update_backfill(going._replace(status=BulkActionStatus.FAILED))
        watch.tick()
        watch.tick()
    assert receiver.titles()[1:] == ["[test] backfill going failed"]


def test_days_of_a_backfill_do_not_recover_one_another(watch: Watch, received: Path, receiver: AlertReceiver) -> None:
    """The first failed day of a backfill is reported, the next is held back, and a day that succeeds ends nothing."""
    project = watch.project
    project.config["start_from"] = "now"
    project.put_days("20", "21", "22")
    for day, fails in (("20", True), ("21", True), ("22", False)):
        (received / "crm.fails").touch()
        if not fails:
            (received / "crm.fails").unlink()
        project.run("backfill_job", partition=f"2026-11-{day}", tags={"dagster/backfill": "abc"})
        watch.tick()
    (alert,) = receiver.alerts
    assert "of backfill_job for 2026-11-20 failed" in alert.title


def test_two_entries_of_one_address(watched: Project) -> None:
    """Two entries with the same variable are two channels with separate names."""
    watched.config["alerts"] = [{"to": {"env": "CHAT"}}, {"to": {"env": "CHAT"}, "level": "info"}]
    found = addresses_of(load_deployment(str(watched.deployment_path)).alerts)
    assert [address.channel.name for address in found] == ["CHAT", "CHAT (alerts[1])"]


def test_runs_of_others_are_none_of_its_business(watch: Watch, receiver: AlertReceiver) -> None:
    """Runs of other jobs in the same Dagster are not told."""

    @op
    def breaks() -> None:
        raise ExportError("not ours")

    @job
    def somebody_elses() -> None:
        breaks()

    with DagsterInstance.from_config(str(watch.project.home)) as instance:
        somebody_elses.execute_in_process(instance=instance, raise_on_error=False)
    assert watch.tick() == TickOutcome()
    assert receiver.alerts == []


def test_the_sensor_is_on_where_there_is_somebody_to_tell(watched: Project) -> None:
    """With alerts the sensor is on from the start and begins with the present; without, it is off and says so."""
    sensor = definitions_of(load_deployment(str(watched.deployment_path))).resolve_sensor_def("alerts")
    assert sensor.default_status.value == "RUNNING"
    with DagsterInstance.from_config(str(watched.home)) as instance:
        first = sensor.evaluate_tick(build_sensor_context(instance=instance))
        assert first.skip_message == "alerts start now; earlier events are not sent"
        second = sensor.evaluate_tick(build_sensor_context(instance=instance, cursor=first.cursor))
        assert second.skip_message == "nothing to send"
    watched.config["alerts"] = []
    sensor = alerts_sensor(load_deployment(str(watched.deployment_path)))
    assert sensor.default_status.value == "STOPPED"
    with DagsterInstance.from_config(str(watched.home)) as instance:
        tick = sensor.evaluate_tick(build_sensor_context(instance=instance))
        assert tick.skip_message == "no address is configured; add one under `alerts:` in test"


class Switch(Server):
    """A dead man's switch."""

    def answer(self, request: Request) -> Reply:
        return Reply(200, b"OK")


def test_a_heartbeat_is_called_after_runs_that_ended_well(
    watched: Project, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for those of a tick, not after a failed run; a call that fails is made again, and the tick names it."""
    with Switch() as switch:
        monkeypatch.setenv("HEARTBEAT", f"{switch.url}/ping/token-1234567")
        watched.config["alerts"] = [{"heartbeat": {"env": "HEARTBEAT"}}]
        watch = Watch(watched)
        watch.tick()
        watched.put_days("21")
        for _ in range(2):
            assert watched.run().success
        assert watch.tick() == TickOutcome(sent=["heartbeat HEARTBEAT"])
        assert [request.path for request in switch.requests] == ["/ping/token-1234567"]
        (received / "crm.fails").touch()
        watched.put_days("22")
        assert not watched.run().success
        assert watch.tick() == TickOutcome()
        (received / "crm.fails").unlink()
        assert watched.run().success
        switch.standing = Reply(503)
        broken = watch.tick().broken
        assert "answered 503" in broken["heartbeat HEARTBEAT"]
        assert "token-1234567" not in broken["heartbeat HEARTBEAT"]
        switch.standing = None
        assert watch.tick().sent == ["heartbeat HEARTBEAT"]
