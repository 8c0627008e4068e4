"""What Dagster loads, in a separate process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LOOKED_THROUGH = """
import gc
from export_pipeline.definitions import defs

print(any(one is defs for one in gc.get_objects()))
"""

BEFORE_ANYTHING_OF_OURS = """
import gc
try:
    import export_pipeline.definitions
except Exception:
    print(gc.get_freeze_count() > 10_000)
"""


def run(program: str, folder: Path, deployment: str) -> str:
    """What *program* prints, run in *folder* with that deployment."""
    environment = {"EXPORT_DEPLOYMENT": deployment, "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_definitions_are_not_looked_through_for_garbage(tmp_path: Path) -> None:
    """What was made by loading the definitions is left out of every later collection of garbage."""
    (tmp_path / "some.yaml").write_text("source: {url: bucket}")
    assert run(LOOKED_THROUGH, tmp_path, "some.yaml") == "False"


def test_dagster_is_not_looked_through_while_the_definitions_load(tmp_path: Path) -> None:
    """What importing Dagster made is left out of collections before the deployment is read."""
    assert run(BEFORE_ANYTHING_OF_OURS, tmp_path, "/no/such/deployment.yaml") == "True"


@pytest.mark.thorough
def test_dg_lists_the_definitions() -> None:
    """In a checkout `dg list defs` finds the jobs, by [tool.dg] of pyproject.toml, and begins with no warning.

    Each time `make check` has `dg check defs` load them.
    """
    environment = {**os.environ, "EXPORT_DEPLOYMENT": "local"}
    command = [str(Path(sys.executable).with_name("dg")), "list", "defs", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    jobs = {"export_job", "backfill_job", "check_job", "retry_quarantine", "dismiss_quarantine"}
    assert jobs <= {job["name"] for job in json.loads(done.stdout)["jobs"]}
    assert done.stderr == ""
