"""Who may read what: staging, quarantine and ledger are their owner's alone; delivered files are as the umask says."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from export_pipeline.ledger.database import Ledger
from export_pipeline_tests.cli.conftest import CommandLine
from export_pipeline_tests.documents.blocks import ROOT
from export_pipeline_tests.integration.project import Project

OTHERS = 0o077


@pytest.fixture
def umask() -> Iterator[int]:
    """One that hides nothing."""
    before = os.umask(0)
    yield 0
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def reachable(path: Path, top: Path) -> bool:
    """Whether others may read *path*, given that they reach *top*."""
    ways = [parent for parent in path.parents if parent.is_relative_to(top) and parent != top]
    return all(mode(way) & 0o011 for way in ways) and bool(mode(path) & 0o044)


def test_a_run_leaves_nothing_of_its_own_for_others(project: Project, received: Path, umask: int) -> None:
    """While a subscriber is down, staged batches, quarantined bytes and the ledger are closed to others, and delivered
    files are not, even where they are the staged ones under a second name.
    """
    project.config["subscribers"]["down"] = {
        "type": "python",
        "function": "export_pipeline_tests.integration.receivers:crm",
        "retry_for_seconds": 0,
    }
    (received / "crm.fails").touch()
    project.put("2026/11/23/a.gz", [{"n": 1}, b"{broken"])
    assert not project.run().success
    root = project.root
    closed = [path for name in ("staging", "quarantine") for path in [root / name, *(root / name).rglob("*")]]
    closed += list(root.glob("ledger.db*"))
    assert {path.name for path in closed} >= {"staging", "quarantine", "ledger.db", "ledger.db.claims"}
    assert [path for path in closed if path.is_file() and path.parts[-3] == "staging"], "something is staged"
    assert [path for path in closed if reachable(path, root)] == []
    assert [path for path in closed if path.is_dir() and mode(path) != 0o700] == []
    (delivered,) = (root / "copy").rglob("*.ndjson")
    assert mode(delivered) == 0o666 & ~umask
    assert reachable(delivered, root)
    (staged,) = (path for path in closed if path.is_file() and path.parts[-3] == "staging")
    assert staged.samefile(delivered), "it was linked, not copied"


def test_a_ledger_is_its_owners(tmp_path: Path, umask: int) -> None:
    """The database, its log and its folder are made with 0600 and 0700; one that is there keeps its mode."""
    ledger = Ledger(str(tmp_path / "deep" / "folder" / "ledger.db"))
    with ledger.read():
        modes = {path.name: mode(path) for path in (tmp_path / "deep").rglob("*") if "lock" not in path.name}
    ledger.close()
    assert modes == {
        "folder": 0o700,
        "ledger.db": 0o600,
        "ledger.db-wal": 0o600,
        "ledger.db-shm": 0o600,
        "ledger.db.claims": 0o700,
    }
    path = tmp_path / "deep" / "folder" / "ledger.db"
    path.chmod(0o640)
    Ledger(str(path)).close()
    assert mode(path) == 0o640


def test_a_ledger_in_a_folder_that_others_may_enter(tmp_path: Path, umask: int) -> None:
    """If the folder existed before, it keeps its mode, and only the owner can read a ledger in it."""
    shared = tmp_path / "shared"
    shared.mkdir(0o755)
    ledger = Ledger(str(shared / "ledger.db"))
    with ledger.read():
        closed = {path.name: mode(path) for path in shared.iterdir()}
    ledger.close()
    assert mode(shared) == 0o755
    assert closed == {
        "ledger.db": 0o600,
        "ledger.db-wal": 0o600,
        "ledger.db-shm": 0o600,
        "ledger.db.claims": 0o700,
    }


def test_staging_in_a_folder_that_others_may_enter(project: Project, umask: int) -> None:
    """If the folder existed before, it keeps its mode, and only the owner can read the files in it."""
    (project.root / "staging").mkdir(mode=0o755)
    (project.root / "quarantine").mkdir(mode=0o755)
    project.put("2026/11/23/a.gz", [{"n": 1}, b"{broken"])
    assert project.run().success
    assert mode(project.root / "quarantine") == 0o755 & ~umask
    inside = list((project.root / "quarantine").rglob("*"))
    assert inside
    assert [path for path in inside if mode(path) & OTHERS] == []


def test_check_tells_what_others_may_read(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """`export-pipeline check` names a staging folder or a ledger that was made open, and the command to close it."""
    cli = CommandLine(project, monkeypatch)
    assert "chmod" not in cli("check").out
    project.root.chmod(0o755)
    (project.root / "staging").chmod(0o755)
    (project.root / "ledger.db").chmod(0o644)
    out = cli("check").out
    assert f"other users of this machine can read it: chmod 700 {project.root / 'staging'}" in out
    assert f"other users of this machine can read it: chmod 600 {project.root / 'ledger.db'}" in out
    # Who may not enter the folder above reaches neither.
    project.root.chmod(0o700)
    assert "chmod" not in cli("check").out


def test_make_closes_dagsters_folder(tmp_path: Path) -> None:
    """The folder in which Dagster keeps its logs is made with 0700 by `make dev` and `make demo`, before Dagster."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for target, program in (("dev", "export_pipeline.cli dev"), ("demo", "export_pipeline.demo")):
        steps = subprocess.run(
            ["make", "--dry-run", target, f"PYTHON={sys.executable}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        dagster = next(n for n, step in enumerate(steps) if program in step)
        assert steps.index("mkdir -m 700 .dagster") < dagster
    subprocess.run(["make", ".dagster"], cwd=tmp_path, capture_output=True, check=True)
    assert mode(tmp_path / ".dagster") == 0o700
