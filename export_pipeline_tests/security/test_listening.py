"""Dagster's UI has no login, so only this machine can reach it, unless the user configures otherwise."""

import os
import re
import sys
from pathlib import Path

import pytest
from dagster_webserver.cli import dagster_webserver

from export_pipeline_tests.documents.blocks import PAGES, ROOT
from export_pipeline_tests.integration.dagster_dev import dagster_dev
from export_pipeline_tests.integration.project import Project

LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""127.0.0.1, ::1 and the former in the form of the latter, as /proc/net writes them."""


def test_the_webserver_asks_for_loopback() -> None:
    """Neither the Makefile nor a page opens it to other machines, but in the container, whose ports are closed."""
    (host,) = (option for option in dagster_webserver.params if option.name == "host")
    assert host.default == "127.0.0.1"
    options = re.findall(r"export_pipeline\.cli dev(.*)", (ROOT / "Makefile").read_text())
    assert options == [" $(if $(PORT),--port $(PORT))"]
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
    with dagster_dev(project) as dev:
        assert dev.process_id is not None
        found = listening(dev.process_id)
    assert found, "the webserver listens somewhere"
    assert set(found) <= LOOPBACK
