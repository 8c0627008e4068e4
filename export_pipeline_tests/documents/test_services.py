"""docs/deployment.md: the two services, started as their unit files say, do what the page says."""

import configparser
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from export_pipeline.sample_bucket import make_sample_bucket
from export_pipeline_tests.documents.blocks import ROOT, all_blocks, block_of_file
from export_pipeline_tests.integration.dagster_dev import DagsterDev, _is_loaded
from export_pipeline_tests.servers.programs import free_port

HOME = "/opt/export-pipeline"
ENVIRONMENT = "/etc/export-pipeline.env"
SYSTEMD = ROOT / "deployments" / "systemd"
UNITS = ["code", "daemon", "webserver"]


def unit(name: str) -> configparser.ConfigParser:
    """One of the shipped unit files."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(SYSTEMD / f"export-pipeline-{name}.service")
    return parser


def test_the_page_shows_the_file_of_variables() -> None:
    """The one INI block is the file of variables, which every unit reads; each unit has what a unit needs."""
    assert {block.file for block in all_blocks("ini")} == {ENVIRONMENT}
    assert {path.name for path in SYSTEMD.glob("*.service")} == {
        f"export-pipeline-{name}.service" for name in [*UNITS, "worker@"]
    }
    for name in [*UNITS, "worker@"]:
        service = unit(name)["Service"]
        assert (service["WorkingDirectory"], service["EnvironmentFile"]) == (HOME, ENVIRONMENT)
        assert (service["Restart"], service["ProtectSystem"], service["NoNewPrivileges"]) == ("always", "strict", "yes")
        assert unit(name)["Install"]["WantedBy"] == "multi-user.target"


@contextmanager
def started(command: list[str], folder: Path, environ: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield
    finally:
        # As systemd stops a service: every process of it.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.thorough
def test_the_services_run_the_export(tmp_path: Path) -> None:
    """With the page's variables the three serve the UI, keep schedule and sensors alive and run what is queued."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    code_port = free_port()
    workspace = (SYSTEMD / "workspace.yaml").read_text(encoding="utf-8")
    target = tmp_path / "deployments" / "systemd" / "workspace.yaml"
    target.parent.mkdir(parents=True)
    target.write_text(workspace.replace("4266", str(code_port)), encoding="utf-8")
    make_sample_bucket(tmp_path / ".demo" / "bucket", events=30, files=6)
    text = (ROOT / "deployments" / "local.yaml").read_text(encoding="utf-8")
    (tmp_path / "deployments" / "production.yaml").write_text(text, encoding="utf-8")
    lines = block_of_file(ENVIRONMENT).text.replace(HOME, str(tmp_path)).splitlines()
    given = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert given["EXPORT_DEPLOYMENT"] == "production"
    port = free_port()
    code, daemon, webserver = (
        shlex.split(
            unit(name)["Service"]["ExecStart"]
            .replace(f"{HOME}/.venv/bin", str(Path(sys.executable).parent))
            .replace("--port 3000", f"--port {port}")
            .replace("--port 4266", f"--port {code_port}")
        )
        for name in UNITS
    )
    environ = {**os.environ, **given}
    dagster = str(Path(sys.executable).with_name("dagster"))
    subprocess.run([dagster, "instance", "migrate"], cwd=tmp_path, env=environ, capture_output=True, check=True)
    log = tmp_path / "daemon.log"
    with (
        started(code, tmp_path, environ, tmp_path / "code.log"),
        started(daemon, tmp_path, environ, log),
        started(webserver, tmp_path, environ, tmp_path / "webserver.log"),
    ):
        ui = DagsterDev(f"http://127.0.0.1:{port}", log)
        ui.wait_for(lambda: _is_loaded(ui), seconds=120)
        launch = [dagster, "job", "launch", "-w", str(target), "-j", "export_job"]
        subprocess.run(launch, cwd=tmp_path, env=environ, capture_output=True, check=True)
        ui.wait_for(lambda: any(run["status"] == "SUCCESS" for run in ui.runs()), seconds=180)
        query = "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"
        statuses = ui.ask(query)["instance"]["daemonHealth"]["allDaemonStatuses"]
        assert {one["daemonType"] for one in statuses if one["required"] and one["healthy"]} >= {"SCHEDULER", "SENSOR"}
    delivered = (tmp_path / ".demo" / "delivered").rglob("*.ndjson")
    assert sum(path.read_bytes().count(b"\n") for path in delivered) == 30


def test_the_command_for_cron_is_one_of_ours() -> None:
    """The crontab starts `export-pipeline run`, which cli/test_page.py runs."""
    (block,) = (block for block in all_blocks("text", marked=True) if block.reason.startswith("a crontab"))
    assert block.text.endswith(".venv/bin/export-pipeline run\n")
