"""README and docs: each command shown works. Those of ``export-pipeline`` are run in cli/test_page.py."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from export_pipeline.sample_bucket import make_sample_bucket
from export_pipeline_tests.documents.blocks import ROOT, all_blocks, commands

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# `dagster dev` stays until it is stopped: the tests of daemon and UI start it.
STAYS = "dagster dev"
# copy_ledger.py is run in test_scripts.py.
ELSEWHERE = "copy_ledger.py"
# `git`, `cd` and `.` are those of README, which test_readme.py pastes into a shell.
LOOKED_AT = {"make", "pip", "export", "dagster", "python", ".ci/run", "export-pipeline", "git", "cd", "."}


def test_every_command_is_one_that_a_test_knows() -> None:
    """No line of shell begins with a program that no test here, or in cli/test_page.py, runs or checks."""
    shown = {line.split()[0] for block in all_blocks("sh") for line in block.commands}
    assert shown == LOOKED_AT


def test_every_installation_shown_is_possible() -> None:
    """`pip install` names this checkout, with extras that there are."""
    lines = commands("pip")
    assert lines
    for line in lines:
        found = re.fullmatch(r"pip install -e \.(?:\[([a-z,]+)\])?", " ".join(shlex.split(line)))
        assert found, line
        extras = set(filter(None, (found[1] or "").split(",")))
        assert extras <= PYPROJECT["project"]["optional-dependencies"].keys()


def test_every_make_command_is_understood() -> None:
    """make takes each of them, and the variables given are ones that the Makefile reads."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in commands("make"):
        subprocess.run([*shlex.split(line), "--dry-run"], cwd=ROOT, capture_output=True, check=True)
        for variable in re.findall(r"\b([A-Z_]+)=", line):
            assert f"$({variable})" in makefile


def test_every_variable_exported_is_one_that_is_read() -> None:
    """`export` sets nothing but what Dagster or this project reads, or a deployment shown names."""
    named = {name for block in all_blocks("yaml") for name in re.findall(r"\{env: (\w+)\}", block.text)}
    for line in commands("export"):
        for word in shlex.split(line)[1:]:
            assert word.partition("=")[0] in {"DAGSTER_HOME", "EXPORT_DEPLOYMENT", *named}


def test_the_script_of_ci_is_there() -> None:
    """.ci/run can be run as the page says."""
    assert commands(".ci/run") == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our settings and the local deployment, in which the export ran once."""
    made = tmp_path_factory.mktemp("shown")
    (made / "deployments").mkdir()
    for name in ("dagster.yaml", "workspace.yaml", "deployments/local.yaml"):
        shutil.copy(ROOT / name, made / name)
    until = datetime(2026, 11, 3, 18, tzinfo=timezone.utc)
    make_sample_bucket(made / ".demo" / "bucket", events=30, files=6, until=until)
    run("dagster job execute -m export_pipeline.definitions -j export_job", made)
    return made


def run(command: str, folder: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "EXPORT_DEPLOYMENT"}
    environ |= {"DAGSTER_HOME": str(folder), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.thorough
@pytest.mark.parametrize("command", [command for command in commands("dagster") if command != STAYS])
def test_every_command_of_dagsters_works(command: str, folder: Path) -> None:
    """Each ends well in a folder with our settings and the local deployment."""
    run(command, folder)


@pytest.mark.parametrize("command", [command for command in commands("python") if ELSEWHERE not in command])
def test_every_command_of_pythons_works(command: str, folder: Path) -> None:
    """Each ends well after a run of the export; the copy of the ledger that one makes is whole."""
    run(command, folder)
    assert (folder / "export-backup.db").stat().st_size > 0
    run("export-pipeline status --json | grep -q archive", folder)
