"""What is published: the source archive, the metadata, and the wheel in use in a folder without a checkout."""

import email
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from packaging.metadata import Metadata

from export_pipeline_tests.servers.programs import free_port

ROOT = Path(__file__).parents[1]
BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""
# What setuptools adds to a source archive.
GENERATED = re.compile(r"PKG-INFO|export_pipeline\.egg-info/.*")


def project_files() -> list[str]:
    """The files of the project, as git knows them, and those that are new."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def build(kind: str, folder: Path, into: Path) -> Path:
    """The archive that the build backend makes of *folder*, as `python -m build` would have it."""
    command = [sys.executable, "-c", BUILD, kind, str(into)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return into / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def source_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from a copy, so that nothing is left in the checkout."""
    copy = tmp_path_factory.mktemp("copy")
    for name in project_files():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    return build("build_sdist", copy, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(source_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from the source archive, as the one that is published."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(source_archive) as archive:
        archive.extractall(unpacked, filter="data")
    (folder,) = unpacked.iterdir()
    return build("build_wheel", folder, tmp_path_factory.mktemp("wheel"))


def metadata(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name)


def test_the_source_archive_is_the_whole_project(source_archive: Path) -> None:
    """Tests, documentation, deployments, locks: all files of the repository are in the archive, and nothing else."""
    with tarfile.open(source_archive) as archive:
        names = {one.name.partition("/")[2] for one in archive.getmembers() if one.isfile()}
    assert set(project_files()) - names == set()
    assert [name for name in names - set(project_files()) if not GENERATED.fullmatch(name)] == []


def test_the_wheel_is_the_package_only(wheel: Path) -> None:
    """The wheel has the package with its data and its licence, and neither tests nor benchmarks."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.partition("/")[0] for name in names} == {
        "export_pipeline",
        f"{wheel.name.rpartition('-py3')[0]}.dist-info",
    }
    for name in ("py.typed", "configuration/local.yaml", "configuration/dagster.yaml", "configuration/workspace.yaml"):
        assert f"export_pipeline/{name}" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_metadata_is_valid_and_complete(wheel: Path) -> None:
    """A package index takes it, and its page says what this is, by whom, under which licence, and where to look."""
    found = Metadata.from_email(metadata(wheel), validate=True)
    assert (found.name, found.license_expression, found.license_files) == ("export-pipeline", "Apache-2.0", ["LICENSE"])
    assert found.summary
    assert found.author == found.maintainer == "The export_pipeline project"
    assert set(found.project_urls or ()) >= {"Homepage", "Source", "Documentation", "Changelog", "Issues"}
    assert len(found.keywords or ()) >= 5
    classifiers = found.classifiers or []
    assert {"Typing :: Typed", "Programming Language :: Python :: 3.13"} <= set(classifiers)
    assert not [one for one in classifiers if one.startswith("License ::")]  # the expression says it
    assert found.description_content_type == "text/markdown"


def test_links_of_the_readme_lead_somewhere_from_a_package_index(wheel: Path) -> None:
    """Each link and picture that the README has beside itself becomes an address in the repository, at this version."""
    message = email.message_from_bytes(metadata(wheel))
    shown, written = message.get_payload(), (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", str(shown))
    assert targets
    assert [one for one in targets if not re.match(r"https?://|#", one)] == []
    start = f"https://github.com/export-pipeline/export_pipeline/blob/v{message['Version']}/"
    for target in targets:
        if target.startswith(start):
            assert (ROOT / target.removeprefix(start).partition("#")[0]).exists(), target
    assert len(targets) == len(re.findall(r"\]\(([^)\s]+)\)", written))


@pytest.fixture(
    scope="module", params=["the packages of the tests", pytest.param("the index", marks=pytest.mark.thorough)]
)
def environment(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and what it needs: from the index, or that of the tests."""
    made = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made)], check=True)
    # By PYTHONPATH pip would find the package in the checkout, and install nothing.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    install = [sys.executable, "-m", "pip", "--python", str(made / "bin" / "python"), "install", "--quiet"]
    if request.param == "the index":
        locked = ["--constraint", str(ROOT / "constraints.txt")]
        subprocess.run([*install, *locked, str(wheel)], env=environ, check=True)
        return made
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], env=environ, check=True)
    (packages,) = made.glob("lib/python*/site-packages")
    # A folder on the path, whose own .pth files count for nothing: the checkout is not found by it.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return made


class Outside:
    """An empty folder, an empty home, and the wheel's commands."""

    def __init__(self, folder: Path, environment: Path) -> None:
        self.folder = folder / "empty"
        self.folder.mkdir()
        self.command = str(environment / "bin" / "export-pipeline")
        home = folder / "home"
        home.mkdir()
        self.environ = {"HOME": str(home), "PATH": f"{environment / 'bin'}:/usr/bin:/bin", "LANG": "C.UTF-8"}

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.command, *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    @contextmanager
    def dev(self) -> Iterator[tuple["subprocess.Popen[bytes]", str, Path]]:
        """`export-pipeline dev`: its process, the address of its GraphQL, and the file with all that it printed."""
        port, log = free_port(), self.folder.parent / "dev.log"
        with log.open("wb") as out:
            # As a terminal starts it: in a process group of its own, with Ctrl-C as usual.
            process = subprocess.Popen(
                [self.command, "dev", "--port", str(port)],
                cwd=self.folder,
                env=self.environ,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process, f"http://127.0.0.1:{port}/graphql", log
        finally:
            if members(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ask(url: str, query: str) -> Any:
    """What GraphQL answers; None as long as nobody listens."""
    asked = urllib.request.Request(url, json.dumps({"query": query}).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)["data"]
    except (urllib.error.URLError, ConnectionError):
        return None


def members(group: int) -> list[str]:
    """The command lines of the processes of a group that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            _, _, rest = (path / "stat").read_text().rpartition(") ")
            state, _, of = rest.split()[:3]
            if int(of) == group and state != "Z":
                found.append((path / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def wait_for(what: Callable[[], Any], says: Callable[[], object]) -> Any:
    """What *what* gives, once it gives something."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError(says())


@pytest.fixture
def outside(tmp_path: Path, environment: Path) -> Outside:
    return Outside(tmp_path, environment)


def export_the_demo(outside: Outside) -> None:
    """What somebody does who has installed the wheel: ask, run the demo, ask again."""
    done = outside.run("status")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"nothing is configured in {outside.folder}" in done.stderr
    done = outside.run("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "wrote deployments/local.yaml, workspace.yaml, dagster.yaml" in done.stdout
    assert "Warning" not in (outside.folder / ".demo" / "export.log").read_text()
    status = json.loads(outside.run("status", "--json").stdout)
    assert (status["file"], status["is_well"]) == ("deployments/local.yaml", True)


def assert_nothing_else_was_written(outside: Outside) -> None:
    """The folder holds what the demo says that it wrote, and the user's home nothing."""
    found = {path.name for path in outside.folder.iterdir() if not path.name.startswith(".")}
    assert found - {"logs"} == {"dagster.yaml", "deployments", "workspace.yaml"}
    assert list(Path(outside.environ["HOME"]).iterdir()) == []


def test_the_wheel_in_an_empty_folder(outside: Outside) -> None:
    """Nothing is configured at first; after the demo `status` reports on it, and nothing else was written."""
    export_the_demo(outside)
    assert_nothing_else_was_written(outside)


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_the_ui_of_the_wheel(outside: Outside) -> None:
    """The run of the demo is in the UI of `export-pipeline dev`, which greets nobody with a warning and which Ctrl-C
    ends with all its processes.
    """
    export_the_demo(outside)
    with outside.dev() as (process, url, log):
        query = """{ runsOrError { ... on Runs { results { jobName status } } }
          workspaceOrError { ... on Workspace { locationEntries { name
            locationOrLoadError { __typename ... on RepositoryLocation { name } } } } } }"""

        def loaded() -> Any:
            assert process.poll() is None, log.read_text()
            found = ask(url, query)
            entries = found and found["workspaceOrError"]["locationEntries"]
            return found if entries and entries[0]["locationOrLoadError"] else None

        found = wait_for(loaded, log.read_text)
        (entry,) = found["workspaceOrError"]["locationEntries"]
        assert entry["locationOrLoadError"] == {"__typename": "RepositoryLocation", "name": "export_pipeline"}
        assert {"jobName": "export_job", "status": "SUCCESS"} in found["runsOrError"]["results"]
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(120) == 0
        wait_for(lambda: not members(process.pid), lambda: members(process.pid))
    printed = log.read_text()
    assert f"Dagster's UI: {url.removesuffix('/graphql')} for the deployment local" in printed
    assert "Warning" not in printed
    assert_nothing_else_was_written(outside)


def test_a_deployment_of_ones_own_outside_of_a_checkout(outside: Outside) -> None:
    """`init` writes the deployment and Dagster's settings; the other commands take it without being told."""
    (outside.folder / "bucket").mkdir()
    arguments = ("--source", "bucket", "-s", "copy=files", "--set", "copy.url=copies")
    done = outside.run("init", "mine", "--yes", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "next: export-pipeline check; export-pipeline dev"
    names = sorted(str(path.relative_to(outside.folder)) for path in outside.folder.rglob("*.yaml"))
    assert names == ["dagster.yaml", "deployments/mine.yaml", "workspace.yaml"]
    assert json.loads(outside.run("status", "--json").stdout)["file"] == "deployments/mine.yaml"
