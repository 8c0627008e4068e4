"""``export-pipeline dev``: what it does before Dagster starts. The tests of the UI have it running."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from export_pipeline.cli import dev
from export_pipeline.cli.app import app
from export_pipeline_tests.cli.conftest import Done
from export_pipeline_tests.servers.programs import free_port

ROOT = Path(__file__).parents[2]
FREE = str(free_port())


class Started(Exception):
    """Raised where Dagster would take the place of this process."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with nothing in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("DAGSTER_HOME", "EXPORT_DEPLOYMENT"):
        # Set first, so that what the command sets is taken back.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command that Dagster would be started with; empty as long as it was not."""
    command: list[str] = []

    def start(program: str, arguments: list[str]) -> None:
        command.extend(arguments)
        raise Started(program)

    monkeypatch.setattr(os, "execv", start)
    return command


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def configure(folder: Path, name: str = "mine") -> None:
    path = folder / "deployments" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"source: {{url: bucket-of-{name}}}\n")


def call(*arguments: str) -> Done:
    result = CliRunner().invoke(app, ["dev", *arguments])
    if isinstance(result.exception, Exception):
        assert "Started" in result.stderr, result.stderr
    return Done(result.exit_code, result.stdout, result.stderr)


def test_dagster_gets_the_folder_and_the_deployment(folder: Path, started: list[str]) -> None:
    """DAGSTER_HOME is the folder, the deployment is the chosen file, and missing settings are written."""
    configure(folder)
    done = call("--port", FREE, "--", "--log-level", "debug")
    assert os.environ["DAGSTER_HOME"] == str(folder)
    assert os.environ["EXPORT_DEPLOYMENT"] == "deployments/mine.yaml"
    for name in ("dagster.yaml", "workspace.yaml"):
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()
    assert (folder / ".dagster").stat().st_mode & 0o777 == 0o700
    start = started.index("dev")
    options = f"--workspace workspace.yaml --host 127.0.0.1 --port {FREE} --log-level debug"
    assert started[start + 1 :] == options.split()
    assert "wrote workspace.yaml and dagster.yaml" in done.err
    assert f"http://127.0.0.1:{FREE} for the deployment mine (deployments/mine.yaml)" in done.err


def test_settings_that_are_there_stay(
    folder: Path, started: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The user's own files are used unchanged, with either suffix, and so is DAGSTER_HOME."""
    configure(folder)
    (folder / "workspace.yml").write_text("load_from: []")
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    assert f"with the settings of {home}/dagster.yaml" in call("-p", FREE).err
    assert sorted(path.name for path in folder.iterdir()) == ["deployments", "workspace.yml"]
    assert started[started.index("--workspace") + 1] == "workspace.yml"
    assert os.environ["DAGSTER_HOME"] == str(home)


def test_nothing_is_started_where_nothing_is_configured(folder: Path, started: list[str]) -> None:
    """In a wrong folder, or with several deployments and none named, it ends with 2 and writes nothing."""
    done = call()
    assert done.code == 2
    assert f"nothing is configured in {folder}" in done.err
    assert list(folder.iterdir()) == []
    configure(folder, "web")
    configure(folder, "app")
    done = call()
    assert done.code == 2
    assert "has several deployments, and none is selected" in done.err
    assert started == []
    call("-d", "web", "-p", FREE)
    assert os.environ["EXPORT_DEPLOYMENT"] == "deployments/web.yaml"


def test_a_port_that_was_named_must_be_free(folder: Path, started: list[str], taken: int) -> None:
    """Dagster would start everything and end without an error code; here the error comes first."""
    configure(folder)
    done = call("--port", str(taken))
    assert done.code == 2
    assert f"port {taken} of 127.0.0.1 is in use by another program" in done.err
    assert started == []


def test_the_next_free_port_is_taken_and_told(
    folder: Path, started: list[str], taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the usual port is taken the UI gets another one, and the command says which."""
    configure(folder)
    monkeypatch.setattr(dev, "PORT", taken)
    done = call()
    port = int(started[started.index("--port") + 1])
    assert port > taken
    assert f"port {taken} is in use by another program: the UI uses port {port}" in done.err


def test_a_host_that_is_not_this_machine(folder: Path, started: list[str]) -> None:
    """An address that this machine does not have is an error; one that others reach is warned of."""
    configure(folder)
    done = call("--host", "192.0.2.1", "--port", FREE)
    assert done.code == 2
    assert f"--host 192.0.2.1, port {FREE}: " in done.err
    assert started == []
    assert "Dagster's UI has no login" in call("--host", "0.0.0.0", "--port", FREE).err


COMMANDS = [
    ["status"],
    ["why", "2026/11/23/a.gz"],
    ["check"],
    ["events", "2026-11-23"],
    ["run"],
    ["follow"],
    ["metrics"],
    ["replay", "2026-11-23"],
    ["quarantine", "list"],
    ["quarantine", "show", "2026-11-23"],
    ["quarantine", "retry", "--all"],
    ["quarantine", "dismiss", "--all", "--why", "a test"],
    ["quarantine", "export", "--all"],
    ["ledger", "fold"],
    ["ledger", "rebuild", "--from", "2026-11-20"],
    ["dev"],
]


def names(group: typer.Typer, *before: str) -> Iterator[list[str]]:
    """Every command of *group*, as it is typed."""
    for one in group.registered_commands:
        yield [*before, one.name or ""]
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            yield from names(inner.typer_instance, inner.name or "")


def test_every_command_is_tried() -> None:
    """The commands below are all those that need a deployment; only these two make one."""
    tried = {tuple(one[: 2 if one[0] in ("quarantine", "ledger") else 1]) for one in COMMANDS}
    assert {tuple(one) for one in names(app)} - tried == {("init",), ("demo",)}


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_says_that_nothing_is_configured(folder: Path, arguments: list[str]) -> None:
    """No command answers about the demo, or anything else, in a folder that has no deployment."""
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 2
    assert f"nothing is configured in {folder}" in result.stderr
    assert result.stdout == ""
    assert list(folder.iterdir()) == []
