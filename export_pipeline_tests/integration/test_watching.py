"""Alerts and checks in a real ``dagster dev``: what only a daemon, a killed process and the UI's own calls can show."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export_pipeline_tests.integration.dagster_dev import SELECTOR, DagsterDev, dagster_dev
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.servers.alerts import AlertReceiver
from export_pipeline_tests.servers.http import Reply

STUCK = {"type": "python", "function": "export_pipeline_tests.integration.receivers:stuck", "retry_for_seconds": 0}
LAUNCH = """mutation ($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
CHECKS = """{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks {
  name canExecuteIndividually jobNames executionForLatestMaterialization { status evaluation { success description } }
} } } } }"""


def launch(dev: DagsterDev, job: str, **selection: Any) -> str:
    parameters = {"selector": {**SELECTOR, "jobName": job, **selection}, "mode": "default"}
    found = dev.ask(LAUNCH, p=parameters)["launchRun"]
    assert found["__typename"] == "LaunchRunSuccess", found
    run_id: str = found["run"]["runId"]
    return run_id


def has_ended(dev: DagsterDev, run_id: str, status: str) -> Callable[[], bool]:
    return lambda: any(run["runId"] == run_id and run["status"] == status for run in dev.runs())


def told(receiver: AlertReceiver, text: str) -> Callable[[], bool]:
    return lambda: any(text in alert.title + alert.body for alert in receiver.alerts)


def failed_ticks(dev: DagsterDev, name: str) -> list[str]:
    """Why ticks of a sensor failed, newest first."""
    errors = [tick["error"] for tick in dev.ticks("sensor", name) if tick["status"] == "FAILURE"]
    return [error["causes"][0]["message"] for error in errors]


def check_of(dev: DagsterDev, asset: str, name: str) -> dict[str, Any]:
    nodes = dev.ask(CHECKS)["assetNodes"]
    (node,) = [node for node in nodes if node["assetKey"]["path"] == [asset]]
    (check,) = [one for one in node["assetChecksOrError"]["checks"] if one["name"] == name]
    return dict(check)


def test_what_goes_wrong_is_told_and_what_is_well_again(
    project: Project, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed run and a failed tick are reported, and so is their recovery; an address that fails makes ticks fail,
    and gets all alerts later. A check is run alone, as the button on its asset's page does.
    """
    project.config.update(
        frequency="weekly",
        subscribers={"crm": STUCK},
        alerts=[{"to": {"env": "CHAT"}}, {"to": {"env": "MAIL"}, "only_runs": True}],
    )
    project.put_days("22")
    with AlertReceiver() as chat, AlertReceiver() as mail:
        monkeypatch.setenv("CHAT", chat.address)
        monkeypatch.setenv("MAIL", mail.address)
        mail.standing = Reply(500, b"planted-token")
        with dagster_dev(project) as dev:
            dev.wait_for(lambda: dev.ticks("sensor", "alerts"))
            run_id = launch(dev, "export_job")
            dev.wait_for((received / "stuck.pid").exists)
            os.kill(int((received / "stuck.pid").read_text()), signal.SIGKILL)
            dev.wait_for(has_ended(dev, run_id, "FAILURE"))
            break_ledger(project)
            dev.start_sensor("new_files")
            dev.wait_for(lambda: failed_ticks(dev, "new_files"))
            dev.wait_for(told(chat, "new_files: tick failed: "))
            dev.wait_for(told(chat, f"run {run_id[:8]} of export_job failed"))
            assert told(chat, "its process was killed, or ended without an error message: Run execution process for")()
            broken = project.root / "ledger.db"
            reason = f"new_files: tick failed: ledger.url: found {broken}, which is not a SQLite database"
            assert told(chat, reason)()
            reasons = dev.wait_for(lambda: failed_ticks(dev, "alerts"))
            assert "MAIL: Failed to send JSON" in reasons[0]
            assert mail.alerts == []
            mend_ledger(project)
            mail.standing = None
            (received / "free").touch()
            assert launch(dev, "export_job")
            dev.wait_for(told(chat, "the process of export_job recovered"))
            dev.wait_for(told(chat, "new_files recovered"))
            dev.wait_for(told(mail, "new_files recovered"))
            assert {*mail.titles()} == {*chat.titles()}
            assert len(mail.titles()) == len(chat.titles())
            assert check_of(dev, "crm", "freshness")["canExecuteIndividually"] == "CAN_EXECUTE"
            freshness = {"assetKey": {"path": ["crm"]}, "name": "freshness"}
            checked = launch(dev, "__ASSET_JOB", assetSelection=[], assetCheckSelection=[freshness])
            dev.wait_for(has_ended(dev, checked, "SUCCESS"))
            evaluation = check_of(dev, "crm", "freshness")["executionForLatestMaterialization"]["evaluation"]
            assert evaluation == {"success": True, "description": "nothing is owed to crm"}
        assert not [answer for answer in dev.answers if "planted-token" in answer]
        for path in project.root.rglob("*"):
            assert not path.is_file() or b"planted-token" not in path.read_bytes(), path


def break_ledger(project: Project) -> None:
    """Replace the ledger by a file that is not a database."""
    (project.root / "kept").mkdir()
    for path in project.root.glob("ledger.db*"):
        if path.is_file():
            path.rename(project.root / "kept" / path.name)
    (project.root / "ledger.db").write_text("this is no database, however one looks at it\n" * 100)


def mend_ledger(project: Project) -> None:
    for path in project.root.glob("ledger.db*"):
        if path.is_file():
            path.unlink()
    for path in (project.root / "kept").iterdir():
        path.rename(project.root / path.name)
