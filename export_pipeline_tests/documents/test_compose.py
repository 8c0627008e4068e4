"""deployments/docker/compose.yaml: what it says fits its specification, and its commands do the work together."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from export_pipeline_tests.documents.blocks import ROOT
from export_pipeline_tests.documents.test_services import started
from export_pipeline_tests.integration.dagster_dev import DagsterDev
from export_pipeline_tests.servers.postgres import new_database
from export_pipeline_tests.servers.programs import free_port, program
from export_pipeline_tests.servers.redis import redis_server

DOCKER = ROOT / "deployments" / "docker"
HOME = "/opt/export-pipeline/home"
OURS = ("migrate", "code", "daemon", "webserver", "worker")


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    return found


def test_it_is_a_compose_file() -> None:
    """A strict reader of the Compose Specification takes every key and value."""
    found = PyCompose.from_json(json.dumps(compose()))
    found.validate()
    assert {*found.service_names()} == {*OURS, "postgres", "redis"}
    with pytest.raises(ValueError, match="comand"):
        PyCompose.from_json(json.dumps({"services": {"code": {"image": "x", "comand": "y"}}}))


def test_it_has_what_the_services_need() -> None:
    """Volumes, networks' names, ports and dependencies belong together, and nothing is open to other machines."""
    services: Mapping[str, Any] = compose()["services"]
    named = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert named == set(compose()["volumes"])
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
    (target,) = yaml.safe_load((DOCKER / "workspace.yaml").read_text(encoding="utf-8"))["load_from"]
    assert (target["grpc_server"]["host"], target["grpc_server"]["port"]) == ("code", 4266)
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "webserver": ["127.0.0.1:3000:3000"]
    }
    assert services["worker"]["profiles"] == services["redis"]["profiles"] == ["celery"]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_may_do_little(name: str) -> None:
    """They cannot write but to /tmp and the volume, gain no rights, and tell whether they are well; no secret is in
    the file.
    """
    service = compose()["services"][name]
    assert (service["read_only"], service["tmpfs"], service["volumes"]) == (True, ["/tmp"], ["data:/data"])
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    assert service["image"] == "export-pipeline:1"
    assert "healthcheck" in service or name == "migrate"
    assert "${POSTGRES_PASSWORD:?}" in service["environment"]["DAGSTER_POSTGRES_URL"]


def test_secrets_stay_out_of_the_image_and_the_history() -> None:
    """The file with the secrets is ignored by git, and is not in what the image is made from."""
    git = program("git", "apt-get install git")
    ignored = subprocess.run([git, "check-ignore", "--no-index", "deployments/docker/.env"], cwd=ROOT, check=False)
    assert ignored.returncode == 0
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    # The last rule that fits is the one that counts.
    assert rules.index("**/.env") > rules.index("!deployments")


@pytest.fixture
def site(tmp_path: Path, postgres_url: str) -> Iterator["Site"]:
    with ExitStack() as stack:
        yield Site(
            tmp_path,
            LEDGER_URL=stack.enter_context(new_database(postgres_url)),
            DAGSTER_POSTGRES_URL=stack.enter_context(new_database(postgres_url)).replace("sql:", "sql+psycopg2:"),
            CELERY_BROKER=stack.enter_context(redis_server(tmp_path)),
        )


class Site:
    """The containers' folders and variables, and their commands as they are for this machine."""

    def __init__(self, root: Path, **variables: str) -> None:
        self.root, self.home, self.data = root, root / "home", root / "data"
        self.code_port, self.ui_port = free_port(), free_port()
        for folder in (self.home, self.data, root / "tmp", root / "source" / "2026" / "11" / "23"):
            folder.mkdir(parents=True)
        (root / "source" / "2026" / "11" / "23" / "a.json").write_text('{"n":1}\n' * 5)
        shutil.copy(DOCKER / "dagster.yaml", self.home)
        (self.home / "workspace.yaml").write_text(self._here((DOCKER / "workspace.yaml").read_text(encoding="utf-8")))
        config = yaml.safe_load(self._here((DOCKER / "export.yaml").read_text(encoding="utf-8")))
        config["source"] = {"url": str(self.data / "source")}
        config["start_from"] = "beginning"
        config["subscribers"] = {"copy": {"type": "files", "url": str(self.data / "copy")}}
        (root / "source").rename(self.data / "source")
        (root / "export.yaml").write_text(yaml.safe_dump(config))
        self.home.chmod(0o555)  # as on a file system that is read-only
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(self.home),
            "EXPORT_DEPLOYMENT": str(root / "export.yaml"),
            "TMPDIR": str(root / "tmp"),
            **variables,
        }
        self.services = compose()["services"]

    def _here(self, text: str) -> str:
        found = {
            "host: code": "host: 127.0.0.1",
            "4266": str(self.code_port),
            HOME: str(self.home),
            "/data": str(self.data),
            "0.0.0.0": "127.0.0.1",
            "3000": str(self.ui_port),
        }
        # All at once: what is put in is not looked at again.
        return re.sub("|".join(map(re.escape, found)), lambda match: found[match[0]], text)

    def _command(self, words: list[str]) -> list[str]:
        given = [self._here(word) for word in words]
        # Without the rights of root, which may write everywhere.
        limited = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"] if os.geteuid() == 0 else []
        beside = Path(sys.executable).with_name(given[0])
        return [*limited, str(beside) if beside.exists() else given[0], *given[1:]]

    def start(self, name: str) -> Any:
        return started(self._command(self.services[name]["command"]), self.data, self.environ, self.log(name))

    def log(self, name: str) -> Path:
        return self.root / f"{name}.log"

    def is_well(self, name: str) -> bool:
        kind, *words = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        command = self._command(words)
        return (
            subprocess.run(command, cwd=self.data, env=self.environ, capture_output=True, check=False).returncode == 0
        )

    def wait_until_well(self, name: str) -> None:
        deadline = time.monotonic() + 90
        while not self.is_well(name):
            assert time.monotonic() < deadline, self.log(name).read_text(errors="replace")[-3_000:]
            time.sleep(0.5)

    def run(self, *command: str) -> None:
        done = subprocess.run(
            self._command([*command]), cwd=self.data, env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.thorough
def test_the_commands_run_the_export(site: Site) -> None:
    """With the file's commands and Dagster's files beside it, over PostgreSQL and Redis, a worker does a run; each
    check of health tells whether its service is there; and nothing but the volume and /tmp is written to.
    """
    site.run("dagster", "instance", "migrate")
    assert not site.is_well("code")
    with site.start("code"):
        site.wait_until_well("code")
        with site.start("daemon"), site.start("webserver"), site.start("worker"):
            for name in ("daemon", "webserver", "worker"):
                site.wait_until_well(name)
            site.run("dagster", "job", "launch", "-w", f"{HOME}/workspace.yaml", "-j", "export_job")
            ui = DagsterDev(f"http://127.0.0.1:{site.ui_port}", site.log("daemon"))
            ui.wait_for(lambda: any(run["status"] == "SUCCESS" for run in ui.runs()), seconds=180)
    assert not site.is_well("webserver")
    delivered = (site.data / "copy").rglob("*.ndjson")
    assert sum(path.read_bytes().count(b"\n") for path in delivered) == 5
    assert sorted(path.name for path in site.home.iterdir()) == ["dagster.yaml", "workspace.yaml"]
