"""A real ``dagster dev``: daemon, webserver and code server, driven through its GraphQL API."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.servers.programs import free_port

WORKSPACE = """
load_from:
  - python_module:
      module_name: export_pipeline.definitions
      location_name: export_pipeline
"""
# To answer costs the webserver a good part of a second.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 1.6
SELECTOR = {"repositoryLocationName": "export_pipeline", "repositoryName": "__repository__"}


class DagsterDev:
    """A running ``dagster dev``.

    Attributes:
        answers: every answer of GraphQL, as text.
        process_id: of ``dagster dev`` itself, which leads its process group; None where its parts were started apart.
    """

    def __init__(self, url: str, log: Path, process_id: int | None = None) -> None:
        self.url = url
        self.log = log
        self.process_id = process_id
        self.answers: list[str] = []
        # One for all: making one reads the certificate authorities of the machine.
        self._client = httpx2.Client(timeout=60)

    def ask(self, query: str, **variables: Any) -> Any:
        """The ``data`` of what GraphQL answers; an answer with errors fails the test."""
        answer = self._client.post(f"{self.url}/graphql", json={"query": query, "variables": variables})
        self.answers.append(answer.text)
        found = answer.json()
        assert "errors" not in found, found
        return found["data"]

    def wait_for(self, what: Callable[[], Any], *, seconds: float = 90) -> Any:
        """What *what* gives, once it gives something; the longer that takes, the less often it is asked."""
        deadline = time.monotonic() + seconds
        pause = _FIRST_PAUSE_SECONDS
        while time.monotonic() < deadline:
            found = what()
            if found:
                return found
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        raise AssertionError(f"waited {seconds} s in vain; dagster dev printed:\n{self.log.read_text()[-4000:]}")

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def ticks(self, kind: str, name: str) -> list[dict[str, Any]]:
        """Ticks of a schedule or sensor, newest first: status, skipReason, runIds, error."""
        query = """query ($selector: InstigationSelector!) {
          instigationStateOrError(instigationSelector: $selector) { __typename
            ... on InstigationState { status ticks(limit: 50) { status skipReason runIds
              error { message causes { message } } } } } }"""
        found = self.ask(query, selector={**SELECTOR, "name": name})["instigationStateOrError"]
        return list(found.get("ticks", []))

    def start_sensor(self, name: str) -> None:
        """Switch a sensor on."""
        mutation = "mutation ($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename } }"
        assert self.ask(mutation, s={**SELECTOR, "sensorName": name})["startSensor"]["__typename"] == "Sensor"

    def cursor(self) -> str:
        """The cursor of new_files; empty as long as there is none."""
        query = """query ($s: SensorSelector!) { sensorOrError(sensorSelector: $s) { ... on Sensor {
          sensorState { typeSpecificData { ... on SensorData { lastCursor } } } } } }"""
        data = self.ask(query, s={**SELECTOR, "sensorName": "new_files"})
        state = data["sensorOrError"]["sensorState"]
        return (state["typeSpecificData"] or {}).get("lastCursor") or ""

    def runs(self) -> list[dict[str, Any]]:
        """All runs, newest first."""
        query = "{ runsOrError { ... on Runs { results { runId status jobName tags { key value } } } } }"
        return list(self.ask(query)["runsOrError"]["results"])


DAGSTER_DEV = (sys.executable, "-m", "dagster", "dev")
EXPORT_PIPELINE_DEV = (sys.executable, "-m", "export_pipeline.cli", "dev")


@contextmanager
def dagster_dev(
    project: Project, workspace: str = WORKSPACE, *, command: Sequence[str] = DAGSTER_DEV, **environment: str
) -> Iterator[DagsterDev]:
    """Start ``dagster dev``, by one *command* or the other, in the project's folder, and wait until it has loaded the
    definitions.
    """
    (project.root / "workspace.yaml").write_text(workspace)
    port = free_port()
    log = project.root / "dagster-dev.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=project.root,
            env=project.environment(**environment),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    dev = DagsterDev(f"http://127.0.0.1:{port}", log, process.pid)
    try:
        dev.wait_for(lambda: _is_loaded(dev), seconds=120)
        yield dev
    finally:
        dev.close()
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _is_loaded(dev: DagsterDev) -> bool:
    query = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"
    try:
        entries = dev.ask(query)["workspaceOrError"]["locationEntries"]
    except httpx2.TransportError:
        return False
    return bool(entries) and entries[0]["locationOrLoadError"]["__typename"] == "RepositoryLocation"
