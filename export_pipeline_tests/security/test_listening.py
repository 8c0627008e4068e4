"""Dagster's UI has no login, so nobody but this machine reaches it unless somebody says so."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dagster_webserver.cli import dagster_webserver

from export_pipeline_tests.documents.blocks import PAGES, ROOT
from export_pipeline_tests.integration.dagster_dev import WORKSPACE, DagsterDev, _is_loaded
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.servers.programs import free_port

LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""127.0.0.1, ::1 and the former in the form of the latter, as /proc/net writes them."""


def test_the_webserver_asks_for_loopback() -> None:
    """Neither the Makefile nor a page opens it to other machines, but in the container, whose ports are closed."""
    (host,) = (option for option in dagster_webserver.params if option.name == "host")
    assert host.default == "127.0.0.1"
    assert re.findall(r"\$\(BIN\)/dagster dev(.*)", (ROOT / "Makefile").read_text()) == [""]
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
            if "dagster dev" in line or "dagster-webserver" in line:
                hosts = re.findall(r"(?:--host|-h)[ =]([0-9.:a-z]+)", line)
                assert hosts in ([], ["127.0.0.1"]) or "container" in line or "image" in line, f"{page.name}: {line}"


def listening(process_id: int) -> list[str]:
    """The addresses at which a process and its children listen, as /proc/net writes them."""
    group = os.getpgid(process_id)
    sockets: set[str] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                sockets |= {os.readlink(link) for link in (folder / "fd").iterdir()}
        except OSError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                found.append(words[1].partition(":")[0])
    return found


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_dagster_dev_listens_on_loopback_only(project: Project) -> None:
    """As `make dev` starts it, webserver, daemon and code server listen at 127.0.0.1 or at no port at all."""
    (project.root / "workspace.yaml").write_text(WORKSPACE)
    port = free_port()
    log = project.root / "dagster-dev.log"
    command = [sys.executable, "-m", "dagster", "dev", "-p", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=project.root, env=project.environment(), stdout=out, stderr=out, start_new_session=True
        )
    try:
        dev = DagsterDev(f"http://127.0.0.1:{port}", log)
        dev.wait_for(lambda: _is_loaded(dev), seconds=120)
        found = listening(process.pid)
        assert found, "the webserver listens somewhere"
        assert set(found) <= LOOPBACK
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
